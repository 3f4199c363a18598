"""The runs of a whole disk as few cells: what a picture can show of it, whatever its size.

A cell is one run as long as there is room. Where there is none, neighbours that together are short become one cell with
the bytes of each state in it. So long runs, and with them the holes that most of a large disk consists of, stay exact, no
byte is lost from the sums, and memory is bounded by the number of cells, not by the disk or its runs.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from dataclasses import dataclass
from operator import add
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from dissect_sesparse.chain.map import label
from dissect_sesparse.chain.window import Resolver, Window
from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE
from dissect_sesparse.extent.entry import Run
from dissect_sesparse.extent.lane import split
from dissect_sesparse.extent.residual import as_guest
from dissect_sesparse.extent.sesparse import SESparseExtent
from dissect_sesparse.source.errors import SESparseError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.chain.link import Link, Placed

LABELS: tuple[str, ...] = ("hole", "zero", "base", "allocated", "unmapped", "invalid")
"""As in the map of the whole disk; in that of a link, ``hole`` is what it says nothing about, so that its parent shows."""
_FIRST_MERGE = 8192
"""Bytes: two grains."""
_CODES = {name: number for number, name in enumerate(LABELS)}
_BLOCK = 1024
"""Runs that are taken together where they come one by one."""
T = TypeVar("T")


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
    problems: list[str] = []
    return _strip(_blocks(((_CODES[name], length, 1) for name, length in _until_error(runs, problems))), most, problems)


def chain_strip(chain: Chain, most: int) -> Strip:
    """The disk as the guest sees it."""
    problems: list[str] = []
    return _strip(_blocks_of(_until_error(chain.stretches(0, chain.size), problems)), most, problems)


def link_strip(link: Link, most: int) -> Strip:
    """What one link says, whatever is above or below it."""
    problems: list[str] = []
    blocks = (block for placed in link.extents for block in _blocks_of(_until_error(_stretches(placed), problems)))
    return _strip(blocks, most, problems)


def _stretches(placed: Placed) -> Iterator[Run | Window]:
    """What an extent is, as its tables have it, whatever view is shown."""
    if not isinstance(placed.extent, SESparseExtent):
        return (run._replace(source=placed) for run in placed.extent.runs(0, placed.length))
    alone = placed._replace(start=0, extent=as_guest(placed.extent))
    return Resolver([(alone,)], alone.length, GRAIN_SIZE).stretches(0, alone.length)


def _until_error(runs: Iterable[T], problems: list[str]) -> Iterator[T]:
    """What can be had of them up to the one that cannot; nothing behind an earlier problem."""
    try:
        if not problems:
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
                kept[-1] = _both(last, cell)
            else:
                kept.append(cell)
        if len(kept) <= most:
            return kept, merged
        cells, merged = kept, merged * 2


class Block(NamedTuple):
    """Runs that follow one another, as arrays of one length."""

    codes: NDArray[np.intp]
    """Numbers in :data:`LABELS`."""
    lengths: NDArray[np.int64]
    """Bytes."""
    counts: NDArray[np.int64]
    """Of how many runs each is; 0 where it goes on as the one before."""

    def joined(self) -> Block:
        """Neighbours with the same label as one."""
        starts = np.concatenate(([0], np.flatnonzero(np.diff(self.codes)) + 1))
        return Block(self.codes[starts], np.add.reduceat(self.lengths, starts), np.add.reduceat(self.counts, starts))

    def by_label(self) -> NDArray[np.int64]:
        """A row for each, with its bytes in the column of its label."""
        rows = np.zeros((len(self.codes), len(LABELS)), np.int64)
        rows[np.arange(len(self.codes)), self.codes] = self.lengths
        return rows

    def part(self, start: int, end: int | None = None) -> Block:
        return Block(*(array[start:end] for array in self))


def _blocks(rows: Iterable[tuple[int, int, int]]) -> Iterator[Block]:
    """Rows of code, length and count as blocks."""
    rows = iter(rows)
    while some := list(itertools.islice(rows, _BLOCK)):
        yield _block(some)


def _block(rows: list[tuple[int, int, int]]) -> Block:
    return Block(*np.array(rows, np.int64).T)


def _blocks_of(stretches: Iterable[Run | Window]) -> Iterator[Block]:
    """The runs of a disk as blocks."""
    rows: list[tuple[int, int, int]] = []
    last: Run | None = None
    for stretch in stretches:
        if isinstance(stretch, Window):
            if rows:
                yield _block(rows)
                rows = []
            block = _block_of(stretch)
            block.counts[0] = last is None or not last.goes_on_as(next(stretch.runs(0, 1)))
            yield block
            last = next(stretch.runs(len(stretch) - 1))
            continue
        rows.append((_CODES[label(stretch)], stretch.length, last is None or not last.goes_on_as(stretch)))
        last = stretch
        if len(rows) == _BLOCK:
            yield _block(rows)
            rows = []
    if rows:
        yield _block(rows)


def _block_of(window: Window) -> Block:
    lengths = np.diff(np.array(window.starts, np.int64), append=window.end - window.start)
    kinds, which = np.unique(np.array(window.kinds), return_inverse=True)
    names = [label(Run(0, 0, split(kind)[0], None, window.source(kind))) for kind in kinds.tolist()]
    return Block(np.array([_CODES[name] for name in names])[which], lengths, np.ones(len(lengths), np.int64))


def _strip(blocks: Iterable[Block], most: int, problems: list[str]) -> Strip:
    cells = _Cells(most)
    for block in blocks:
        cells.add(block)
    return cells.strip(problems)


class _Cells:
    """The cells of a strip while it is made.

    What comes is kept as it is until there is too much of it, and joined then, so that all is as if each run had been
    put in by itself.
    """

    def __init__(self, most: int):
        self.most = most
        self.cells: list[Cell] = []
        self.merged = 0
        self.held: Block | None = None
        """What may go on with the label that comes next."""
        self.waiting: list[Block] = []
        self.count = 0
        """Cells, and stretches of a label that wait to be some."""
        self.sizes = np.zeros(len(LABELS), np.int64)
        self.runs = np.zeros(len(LABELS), np.int64)

    def add(self, block: Block) -> None:
        """Put some more runs in; at least one."""
        if self.held is not None:
            block = Block(*(np.concatenate(pair) for pair in zip(self.held, block)))
        block = block.joined()
        self.held = block.part(-1)
        self._put(block.part(0, -1))

    def _put(self, block: Block) -> None:
        self.sizes += block.by_label().sum(0)
        np.add.at(self.runs, block.codes, block.counts)
        while len(block.codes):
            some = block.part(0, 2 * self.most + 1 - self.count)
            block = block.part(len(some.codes))
            self.waiting.append(some)
            self.count += len(some.codes)
            if self.count > 2 * self.most:  # not at each one too many: that would cost the square of their number
                self._make_room()

    def _make_room(self) -> None:
        self._join()
        if len(self.cells) > self.most:
            self.cells, self.merged = _fewer(self.cells, self.merged, self.most)
        self.count = len(self.cells)

    def _join(self) -> None:
        """Make cells of what waits: neighbours that together are short become one, with the last cell too."""
        if not self.waiting:
            return
        block = Block(*map(np.concatenate, zip(*self.waiting)))
        self.waiting = []
        ends = np.cumsum(block.lengths).tolist()
        at = bisect_right(ends, self.merged - self.cells[-1].length) if self.cells else 0
        starts, head = [0] if at else [], at > 0
        while at < len(ends):
            starts.append(at)
            at = bisect_right(ends, (ends[at - 1] if at else 0) + self.merged, at + 1)
        sizes = np.add.reduceat(block.by_label(), starts, axis=0).tolist()
        counts = np.add.reduceat(block.counts, starts).tolist()
        made = [Cell(sum(some), count, tuple(some)) for some, count in zip(sizes, counts)]
        if head:
            made[0] = _both(self.cells.pop(), made[0])
        self.cells += made

    def strip(self, problems: list[str]) -> Strip:
        """All of it."""
        if self.held is not None:
            self._put(self.held)
        if self.count > self.most:
            self._make_room()
        else:
            merged, self.merged = self.merged, 0  # there is room for what waits as it is
            self._join()
            self.merged = merged
        runs, sizes = (dict(zip(LABELS, array.tolist())) for array in (self.runs, self.sizes))
        return Strip(tuple(self.cells), self.merged, runs, sizes, problems[0] if problems else None)


def _both(one: Cell, other: Cell) -> Cell:
    return Cell(one.length + other.length, one.runs + other.runs, tuple(map(add, one.sizes, other.sizes)))
