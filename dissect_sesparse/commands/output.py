"""Where what the commands say goes out, and the only place: every line is made printable here, whatever it says.

Names in evidence are hostile, and any line may hold one. Nothing here trips over the encoding of a terminal or a pipe.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dissect_sesparse.source.text import printable

try:
    from tqdm import tqdm
except ImportError:  # without it there is no bar, and nothing else is missing
    tqdm = None

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

_LEVELS = {0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}


def say(line: str) -> None:
    """Write a line of a result to standard output."""
    print(printable(line))


def complain(command: str, line: str) -> None:
    """Write a line that is no result to standard error."""
    with contextlib.suppress(OSError):  # nobody reads it: what the command does goes on
        print(f"dissect-sesparse {command}: {printable(line)}", file=sys.stderr, flush=True)


def any_encoding() -> None:
    """What the encoding of an output lacks is escaped: no name ends a command after its work."""
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            with contextlib.suppress(OSError):  # it flushes, and cannot where it was made of another file's number
                reconfigure(errors="backslashreplace")


def give_up_output() -> None:
    """Let nothing more go out, where who read it has gone: Python would complain about that at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                devnull = os.open(os.devnull, os.O_WRONLY)
                os.dup2(devnull, stream.fileno())
                os.close(devnull)


class _Handler(logging.StreamHandler):
    """Log lines on standard error, printable, and of every record one line."""

    def __init__(self, level: int, hidden: set[str]) -> None:
        super().__init__(sys.stderr)
        self.setLevel(level)
        self.setFormatter(_Formatter())
        self.addFilter(lambda record: record.name.startswith("dissect") and record.name not in hidden)

    def handleError(self, record: logging.LogRecord) -> None:  # its name in Python
        """A log that nobody reads ends nothing, and prints no traceback."""


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        text = record.getMessage() + (f": {type(error).__name__}: {error}" if error is not None else "")
        return f"{record.levelname.lower()}: {printable(text)}"


@contextmanager
def logging_to_terminal(options: argparse.Namespace) -> Iterator[None]:
    """Write what dissect and this package log to standard error: from warnings on, more with ``-v``, nothing with ``-q``.

    What dissect logs of a target, such as a disk that is left out, the commands say themselves: that needs ``-v``.
    """
    level = logging.CRITICAL + 1 if options.quiet else _LEVELS[min(options.verbose, 2)]
    hidden = set()
    if not options.verbose:
        hidden.add("dissect.target.target")
        if getattr(options, "lists_findings", False):  # what opening a disk finds is in the table; once is enough
            hidden.add("dissect.sesparse.container")
    handler = _Handler(level, hidden)
    logger = logging.getLogger("dissect")
    before = logger.level
    logging.root.addHandler(handler)  # dissect logs nothing of targets where the root has none
    try:
        logger.setLevel(min(level, logging.WARNING))  # who else listens, as the fleet does, hears warnings all the same
        yield
    finally:
        logging.root.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def progress_bar(name: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere: a function that takes the bytes done and those of all."""
    bar = None
    if tqdm is not None and not quiet:
        bar = tqdm(unit="B", unit_scale=True, unit_divisor=1024, disable=None, desc=printable(name))

    def progress(done: int, total: int) -> None:
        if bar is not None:
            bar.total = total
            bar.update(done - bar.n)

    try:
        yield progress
    finally:
        if bar is not None:
            bar.close()
