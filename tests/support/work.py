"""Counts work instead of time: the same on any machine, whatever else it does.

Counted are calls of functions, those of Python and those of C. A loop that calls nothing, or one call that never ends, is not
seen: for these there are limits that end a test that hangs, so large that no load of a machine reaches them.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class TooMuch(BaseException):
    """No ``Exception``, so that nothing takes it for an error of the evidence."""


@contextmanager
def at_most(calls: int) -> Iterator[None]:
    """Raise if what is inside, in this thread, makes more calls than so many."""
    left = calls

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal left
        if event in ("call", "c_call"):
            left -= 1
            if left < 0:
                sys.setprofile(None)
                raise TooMuch(f"more than {calls} calls")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(before)
