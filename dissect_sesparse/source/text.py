"""Text for terminals and logs: nothing that a terminal obeys, and plain columns. No other module knows which characters."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def printable(text: str) -> str:
    r"""Text for one line of a terminal.

    Names in evidence may hold line ends, escape sequences, C1 controls, marks that turn the direction of what follows, and
    bytes that are no text: all that is not seen as itself is written as ``\x1b`` or ``\u202e``.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def printable_lines(text: str) -> str:
    """The same for a text of several lines: a program's own, such as the usage."""
    return "\n".join(map(printable, text.split("\n")))


def columns(rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> Iterator[str]:
    """Rows as lines, each column as wide as its widest text; the last one as it is.

    Args:
        rows: At least one, all of one length, with printable texts.
        right: The numbers of columns that are aligned to the right.
    """
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [text.rjust(w) if n in right else text.ljust(w) for n, (text, w) in enumerate(zip(row, widths))]
        yield "  ".join([*cells, row[-1]]).rstrip()


def logger_of(name: str) -> logging.Logger:
    """The logger of a module: below ``dissect``, so that ``-q`` and ``-v`` of dissect's tools are obeyed, and printable.

    Args:
        name: The module's ``__name__``.
    """
    return make_printable(logging.getLogger(f"dissect.sesparse.{name.rpartition('.')[2]}"))


def make_printable(logger: logging.Logger) -> logging.Logger:
    """See to it that what is logged by a logger is printable, once."""
    if _printable_record not in logger.filters:
        logger.addFilter(_printable_record)
    return logger


def _printable_record(record: logging.LogRecord) -> bool:
    """A filter that leaves nothing out. Python's handlers make the text of a record after it."""
    try:
        record.msg, record.args = printable_lines(record.getMessage()), ()
    except Exception:  # a message that does not fit its arguments: logging says so by itself
        return True
    return True
