"""A count of files on a terminal, for functions of dissect's tools that go through very many. Elsewhere there is none."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

try:
    from tqdm import tqdm
except ImportError:  # without it there is no bar, and nothing else is missing
    tqdm = None

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def counting_files(name: str, log: logging.Logger | logging.LoggerAdapter) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, where that is a terminal: a function that takes the number of files more.

    Args:
        name: What the bar is about.
        log: That of the target: where it hears no warnings the tool is to be quiet.
    """
    bar = None
    if tqdm is not None and log.isEnabledFor(logging.WARNING):
        bar = tqdm(unit=" files", disable=None, desc=name, leave=False)

    def count(files: int) -> None:
        if bar is not None:
            bar.update(files)

    try:
        yield count
    finally:
        if bar is not None:
            bar.close()
