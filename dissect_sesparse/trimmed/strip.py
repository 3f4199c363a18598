"""The runs of a whole disk as few cells: what a picture can show of it, whatever its size.

A cell is one run as long as there is room. Where there is none, neighbours that together are short become one cell with
the bytes of each state in it. So long runs, and with them the holes that most of a large disk consists of, stay exact, no
byte is lost from the sums, and memory is bounded by the number of cells, not by the disk or its runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import add, itemgetter
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.chain.map import label
from dissect_sesparse.source.errors import SESparseError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.chain.link import Link

LABELS: tuple[str, ...] = ("hole", "zero", "base", "allocated", "unmapped", "invalid")
"""As in the map of the whole disk; in that of a link, ``hole`` is what it says nothing about, so that its parent shows."""
_FIRST_MERGE = 8192
"""Bytes: two grains."""
_AROUND = {name: ((0,) * place, (0,) * (len(LABELS) - 1 - place)) for place, name in enumerate(LABELS)}
"""The zeros before and after the bytes of one label."""


class Cell(NamedTuple):
    """A piece of the disk. The first one starts at 0, each other one where the one before it ends."""

    length: int
    """Bytes."""
    runs: int
    sizes: tuple[int, ...]
    """Bytes of each of :data:`LABELS`."""


@dataclass(frozen=True)
class Strip:
    """The states of a disk, or of one link, along its addresses."""

    cells: tuple[Cell, ...]
    merged: int
    """Neighbours that together have no more than so many bytes may be one cell; 0 where each stretch of a state has its own."""
    runs: dict[str, int]
    """How many there are of each of :data:`LABELS`."""
    sizes: dict[str, int]
    """Their bytes."""
    problem: str | None = None
    """Why it ends before its disk does."""

    @property
    def size(self) -> int:
        """Bytes that it tells of."""
        return sum(self.sizes.values())


def strip(runs: Iterable[tuple[str, int]], most: int) -> Strip:
    """The strip of some runs.

    Args:
        runs: Label and length of each, in order, without a gap. Where asking for the next one fails, the strip ends.
        most: Cells at the most.
    """
    cells: list[Cell] = []
    merged = 0
    counts, sizes = dict.fromkeys(LABELS, 0), dict.fromkeys(LABELS, 0)
    problems: list[str] = []
    for name, group in groupby(_until_error(runs, problems), key=itemgetter(0)):
        count = length = 0
        for _, more in group:  # one after the other: there may be very many
            count += 1
            length += more
        counts[name] += count
        sizes[name] += length
        before, after = _AROUND[name]
        cells.append(Cell(length, count, (*before, length, *after)))
        if len(cells) > 2 * most:  # not at each one too many: that would cost the square of their number
            cells, merged = _fewer(cells, merged, most)
    if len(cells) > most:
        cells, merged = _fewer(cells, merged, most)
    return Strip(tuple(cells), merged, counts, sizes, problems[0] if problems else None)


def _until_error(runs: Iterable[tuple[str, int]], problems: list[str]) -> Iterator[tuple[str, int]]:
    """The runs up to the one that cannot be had."""
    try:
        yield from runs
    except SESparseError as e:
        problems.append(str(e))


def _fewer(cells: list[Cell], merged: int, most: int) -> tuple[list[Cell], int]:
    """Join neighbours that together are short: at first as short as before, then twice that, until there is room again."""
    merged = merged or _FIRST_MERGE
    while True:
        kept = [cells[0]]
        for cell in cells[1:]:
            last = kept[-1]
            if last.length + cell.length <= merged:
                sizes = tuple(map(add, last.sizes, cell.sizes))
                kept[-1] = Cell(last.length + cell.length, last.runs + cell.runs, sizes)
            else:
                kept.append(cell)
        if len(kept) <= most:
            return kept, merged
        cells, merged = kept, merged * 2


def chain_strip(chain: Chain, most: int) -> Strip:
    """The disk as the guest sees it."""
    return strip(((label(run), run.length) for run in chain.runs()), most)


def link_strip(link: Link, most: int) -> Strip:
    """What one link says, whatever is above or below it."""
    return strip(_link_runs(link), most)


def _link_runs(link: Link) -> Iterator[tuple[str, int]]:
    for placed in link.extents:
        for run in placed.extent.runs(0, placed.length):
            yield label(run._replace(source=placed)), run.length
