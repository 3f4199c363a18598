"""What commands write for people: nothing that a terminal obeys, and plain columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def printable(text: str) -> str:
    """Text for one line of a terminal: names in evidence may hold line ends and what a terminal obeys."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


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
