"""Ctrl-C that is never lost: Python drops a KeyboardInterrupt that is raised in a callback or a finalizer of a library."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def remembered() -> Iterator[Callable[[], None]]:
    """Remember that Ctrl-C was pressed.

    Yields:
        What raises KeyboardInterrupt if it was, to be called wherever the work can stop.
    """
    pressed = False

    def press(*_: Any) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    if current_thread() is not main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield check  # somebody else's
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
