"""The bytes of a disk for an image: in order, in blocks, and without a read of what is known to be zeros.

Known to be zeros is what the tables say so of, what no link has anything of, and what is a hole of the evidence's own files.
What cannot be had is zeros too, and noted.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from itertools import islice
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from dissect_sesparse.chain.hashing import data_of
from dissect_sesparse.chain.window import Window
from dissect_sesparse.extent.entry import State
from dissect_sesparse.extent.lane import split
from dissect_sesparse.source.errors import SESparseError, UnreadableError
from dissect_sesparse.trimmed.ranges import Ranges, TooManyRangesError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.extent.base import Extent
    from dissect_sesparse.extent.entry import Run
    from dissect_sesparse.source.file import EvidenceFile

BLOCK = 1 << 20
"""Bytes of a block, which starts at a multiple of it."""
ROW = 4096
"""Bytes of which zeros become a hole, where the disk has them as such."""
_NEAR = 64 << 10
"""Bytes between two ranges that are read in one go: the zeros between them cost no read of a file."""
_LONG = 64 << 10
"""Bytes of a run of which it pays to look for holes of its file."""
MAX_STRETCHES = 1_000_000
"""Of a file: 16 MB of memory."""
_STRETCHES: WeakKeyDictionary[EvidenceFile, tuple[array, array] | None] = WeakKeyDictionary()
""":func:`_holey` of files that are open."""


class DiskBytes:
    """What an image of a disk is made of.

    Args:
        chain: The disk, of which reads raise where bytes cannot be had.
    """

    def __init__(self, chain: Chain):
        self.chain = chain
        self.unreadable = Ranges()
        """What could not be had of all that was asked for."""
        self.reason: str | None = None
        """Why the first of it could not."""

    def ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Starts and ends of what may have other bytes than zeros, in order."""
        for stretch in self.chain.stretches(start, end):
            if isinstance(stretch, Window):
                yield from self._of_window(stretch)
            elif stretch.state == State.ALLOCATED:
                yield from _held(stretch)
            elif stretch.state == State.INVALID:
                self._lost(stretch)

    def blocks(self, start: int, end: int, unit: int) -> Iterator[tuple[int, bytes]]:
        """Offset and bytes of all that :meth:`ranges` gives, grown to multiples of ``unit`` bytes, at most a block each."""
        for first, last in _grown(self.ranges(start, end), start, end, unit):
            while first < last:
                until = min(last, first - first % BLOCK + BLOCK)
                yield first, self.read(first, until)
                first = until

    def read(self, start: int, end: int) -> bytes:
        """The bytes of a range; zeros where they cannot be had."""
        try:
            return self.chain.read(start, end - start)
        except UnreadableError:
            return b"".join(self._salvaged(start, end))

    def _salvaged(self, start: int, end: int) -> Iterator[bytes]:
        until = end
        while start < end:
            try:
                yield self.chain.read(start, until - start)
                start, until = until, end
            except UnreadableError as e:
                at, size = e.offset, e.size
                if at is None or not size or not start < at < until:  # it begins with what cannot be had, or who knows
                    last = min(until, start + size) if at == start and size else until
                    self.note(start, last, e)
                    yield bytes(last - start)
                    start, until = last, end
                else:
                    until = at  # what is before it, then it

    def _of_window(self, window: Window) -> Iterator[tuple[int, int]]:
        """The same for a window, by arrays: it may have thousands of runs."""
        kinds = np.asarray(window.kinds)
        states = {kind: split(kind)[0] for kind in np.unique(kinds).tolist()}
        there = [kind for kind, state in states.items() if state == State.ALLOCATED]
        for kind, state in states.items():
            if state == State.INVALID:
                for number in np.flatnonzero(kinds == kind).tolist():
                    self._lost(next(window.runs(number, number + 1)))
        if not there:
            return
        starts = np.asarray(window.starts, dtype=np.int64) + window.start
        ends = np.append(starts[1:], window.end)
        inside = np.isin(kinds, there)
        holey = [kind for kind in there if (of := window.source(kind)) is not None and _holey(of.extent) is not None]
        long = np.isin(kinds, holey) & (ends - starts >= _LONG)
        short = inside & ~long
        pairs = [np.stack((starts[short], ends[short]), 1)]
        for number in np.flatnonzero(long).tolist():
            held = list(_held(next(window.runs(number, number + 1))))
            pairs.append(np.array(held, dtype=np.int64).reshape(-1, 2))
        found = np.concatenate(pairs)
        found = found[np.argsort(found[:, 0], kind="stable")]
        apart = found[1:, 0] - found[:-1, 1] > _NEAR
        if len(found):
            yield from zip(found[np.append(True, apart), 0].tolist(), found[np.append(apart, True), 1].tolist())

    def _lost(self, run: Run) -> None:
        self.note(run.start, run.end, run.source.extent.explain(run.start - run.source.start))

    def note(self, start: int, end: int, error: SESparseError | None = None) -> None:
        """Note a range that cannot be had.

        Raises:
            SESparseError: If there are too many.
        """
        self.reason = self.reason or (None if error is None else str(error))
        try:
            self.unreadable.add(start, end)
        except TooManyRangesError as e:
            raise SESparseError(f"what cannot be had is in {e}: too many for a map", file=self.chain.name) from error


def _held(run: Run) -> Iterator[tuple[int, int]]:
    """A run that is there, but for the holes of its file, which nobody reads. What is behind the file's end is no hole."""
    stretches = _holey(run.source.extent) if run.length >= _LONG else None
    if stretches is None or run.place is None:
        yield run.start, run.end
        return
    starts, ends = stretches
    shift, at, end = run.start - run.place, run.place, run.place + run.length
    for number in range(bisect_right(ends, at), len(starts)):
        if starts[number] >= end:
            break
        yield max(starts[number], at) + shift, min(ends[number], end) + shift
    if end > (beyond := max(at, run.source.extent.file.size)):
        yield beyond + shift, run.end


def _holey(extent: Extent) -> tuple[array, array] | None:
    """Starts and ends of what an extent's file holds; ``None`` where that is all of it, or the system does not say.

    The system is asked once: some (such as tmpfs) go through all of a file for where its next hole is.
    """
    file = extent.file
    if file is None or file.fd is None or extent.compressed:
        return None
    if file not in _STRETCHES:
        found = list(islice(data_of(file), MAX_STRETCHES))
        if len(found) == MAX_STRETCHES:  # all behind them is read
            found[-1] = (found[-1][0], file.size)
        whole = found == [(0, file.size)] or not file.size
        _STRETCHES[file] = None if whole else (array("Q", [a for a, _ in found]), array("Q", [b for _, b in found]))
    return _STRETCHES[file]


def _grown(ranges: Iterable[tuple[int, int]], start: int, end: int, unit: int) -> Iterator[tuple[int, int]]:
    """Ranges grown to multiples of a unit, within two bounds, and joined where they then touch."""
    first = last = -1
    for low, high in ranges:
        low, high = max(start, low - low % unit), min(end, -(-high // unit) * unit)
        if low <= last:
            last = max(last, high)
            continue
        if first < last:
            yield first, last
        first, last = low, high
    if first < last:
        yield first, last


def parts(data: bytes) -> Iterator[tuple[int, int]]:
    """Starts and ends of what is left of some bytes without the rows of zeros."""
    rows, rest = divmod(len(data), ROW)
    there = np.frombuffer(data, np.uint64, rows * ROW // 8).reshape(rows, ROW // 8).any(axis=1)
    if rest:
        there = np.append(there, data[rows * ROW :].strip(b"\0") != b"")
    edges = np.flatnonzero(np.diff(there.astype(np.int8), prepend=0, append=0))
    for first, last in edges.reshape(-1, 2).tolist():
        yield first * ROW, min(last * ROW, len(data))
