"""Reads of the disk over the whole chain.

A read asks for the window it falls into, and reads that window's runs: one run by one system call and no copy, many by one
call each and one join. A single block in a window that nothing else has asked for is looked up by itself, without resolving
all that is around it. Whatever comes back short or fails is read again piece by piece, to raise where it belongs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from operator import sub
from threading import Lock
from typing import TYPE_CHECKING

from dissect_sesparse.chain.window import Window
from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE
from dissect_sesparse.extent.entry import State
from dissect_sesparse.extent.lane import split
from dissect_sesparse.source.errors import SESparseError, UnreadableError
from dissect_sesparse.source.file import SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dissect_sesparse.chain.link import Placed
    from dissect_sesparse.chain.window import Resolver
    from dissect_sesparse.extent.base import Extent
    from dissect_sesparse.extent.entry import Run

CACHE_SIZE = 4 * 1024 * 1024
"""Bytes of resolved windows that are kept, about."""
MAX_LISTED = 100
"""Unreadable ranges that are listed; beyond, they are counted."""
MAX_REMEMBERED = 100_000
"""Unreadable ranges that are not counted again when they are read again."""
_TOUCHES, _FEWEST_TOUCHES = 16, 2
"""So many single blocks of a window are looked up one by one, then it is resolved; of a chain the first divided by its
links: a look-up may ask each of them, and resolving asks all of them at once."""
_MAX_TOUCHED = 4096
_SPAN_SIZE = 48 * 1024
"""Without ``pread``, pieces that lie together in so many bytes of a file are read in one go ..."""
_GAP_SIZE = 8 * 1024
"""... where no more bytes than this lie unused between two of them."""


@dataclass
class Unreadable:
    """What was read as zeros because it cannot be had (``unreadable=zero``): the first of them, and how many."""

    first: list[UnreadableError] = field(default_factory=list)
    count: int = 0
    size: int = 0
    _offsets: set[int | None] = field(default_factory=set)

    def add(self, error: UnreadableError) -> None:
        """Note one, unless it is already."""
        if error.offset in self._offsets:
            return
        if len(self._offsets) < MAX_REMEMBERED:
            self._offsets.add(error.offset)
        self.count += 1
        self.size += error.size or 0
        if len(self.first) < MAX_LISTED:
            self.first.append(error)


class Reader:
    """Reads a disk; several threads may do so at the same time.

    Args:
        resolver: Of the chain.
        chain: What errors say they are about.
        zero_unreadable: Whether bytes that cannot be had are zeros; else they raise.
    """

    def __init__(self, resolver: Resolver, chain: object, *, zero_unreadable: bool):
        self.resolver = resolver
        self.chain = chain
        self.zero_unreadable = zero_unreadable
        self.unreadable = Unreadable()
        self._windows: dict[int, Window] = {}
        self._touched: dict[int, int] = {}
        self._touches = max(_FEWEST_TOUCHES, _TOUCHES // max(1, len(resolver.layers)))
        self._cost = 0
        self._next = 0
        self._last = Window(0, 0, (0,), (0,), (0,), [])
        self._lock = Lock()

    def read(self, offset: int, end: int) -> bytes:
        """The bytes from ``offset`` to ``end``, which is not past the disk's end.

        Raises:
            UnreadableError: If any of them cannot be had.
        """
        window = self._last
        if not window.start <= offset < window.end:
            found = self._windows.get(offset // self.resolver.window_size)
            if found is None and (data := self._read_block(offset, end)) is not None:
                return data
            window = self._last = found or self._resolve(offset)
            window.used = True
        self._next = end
        if end <= window.end:
            return self._read_window(window, offset, end)
        pieces = [self._read_window(window, offset, window.end)]
        offset = window.end
        while offset < end:
            window = self._last = self._windows.get(offset // self.resolver.window_size) or self._resolve(offset)
            window.used = True
            until = min(end, window.end)
            pieces.append(self._read_window(window, offset, until))
            offset = until
        return b"".join(pieces)

    def close(self) -> None:
        """Forget what is known: it holds numbers of open files, which may soon be those of others."""
        with self._lock:
            self._windows = {}
            self._cost = 0
            self._last = Window(0, 0, (0,), (0,), (0,), [])

    # Windows

    def _resolve(self, offset: int) -> Window:
        """Resolve a window and keep it; the longest unused ones make room."""
        window = self.resolver.resolve(offset)
        window.reads = _Reads(window)
        with self._lock:
            number = offset // self.resolver.window_size
            if number not in self._windows:
                self._windows[number] = window
                self._cost += window.cost
            while self._cost > CACHE_SIZE and len(self._windows) > 1:
                oldest = next(iter(self._windows))
                old = self._windows.pop(oldest)
                if old.used:  # a second chance
                    old.used = False
                    self._windows[oldest] = old
                else:
                    self._cost -= old.cost
        return window

    def _read_block(self, offset: int, end: int) -> bytes | None:
        """A block that nothing around was asked for lately, looked up by itself, or ``None`` to resolve its window."""
        if offset == self._next or end - offset > GRAIN_SIZE - offset % GRAIN_SIZE or self.resolver.lane != GRAIN_SIZE:
            return None
        number = offset // self.resolver.window_size
        if len(self._touched) >= _MAX_TOUCHED:
            self._touched = {}
        touches = self._touched[number] = self._touched.get(number, 0) + 1
        if touches > self._touches:
            self._touched[number] = 0
            return None
        try:
            for placed in self.resolver.overlapping(offset, offset + 1):
                state, place = placed.extent.find(offset - placed.start)
                if state == State.ALLOCATED:
                    self._next = end
                    data = placed.extent.read(place, min(end, placed.end) - offset)  # type: ignore[arg-type]
                    return data if len(data) == end - offset else None
                if state != State.UNALLOCATED:
                    break
        except SESparseError:
            return None
        self._next = end
        return bytes(end - offset)

    # Pieces

    def _read_window(self, window: Window, offset: int, end: int) -> bytes:
        first, last = window.find(offset, end) if len(window) > 1 else (0, 1)
        try:
            if last - first == 1:
                into = offset - window.start - window.starts[first]
                data = window.reads[window.kinds[first]](end - offset, window.places[first] + into)
            else:
                data = _read_runs(window, offset, end, first, last)
        except Exception:  # what went wrong is found out, and raised, below
            data = b""
        return data if len(data) == end - offset else self._read_slowly(window, offset, end, first, last)

    def _read_slowly(self, window: Window, offset: int, end: int, first: int, last: int) -> bytes:
        """The same piece by piece, where one of them cannot be had: raise for it, or zeros in its place."""
        pieces: list[bytes] = []
        for run in window.runs(first, last):
            start, until = max(run.start, offset), min(run.end, end)
            if run.state in (State.ALLOCATED, State.INVALID):
                pieces += self._salvaged(run, start, until)
            else:
                pieces.append(bytes(until - start))
        return b"".join(pieces)

    def _salvaged(self, run: Run, start: int, until: int) -> Iterator[bytes]:
        """A range of a run: all of it that can be had, in its place."""
        extent = run.source.extent
        if run.state == State.INVALID:
            at = run.start if self.zero_unreadable else start
            yield self._missing(extent.explain(at - run.source.start), start, until, run.start, run.end)
            return
        place = (run.place or 0) + start - run.start
        try:
            yield extent.read(place, until - start)
            return
        except UnreadableError as e:
            error = e
        if extent.compressed:
            yield from self._by_unit(run, start, until, extent.grain_size)
            return
        try:
            have = extent.read_some(place, until - start)
        except UnreadableError:
            yield from self._by_unit(run, start, until, SECTOR)
            return
        at = start + len(have)  # the file ends here, or before
        error.source_offset = place + len(have)
        yield have
        yield self._missing(error, at, until, min(at, run.start + max(0, extent.file.size - (run.place or 0))), run.end)

    def _by_unit(self, run: Run, start: int, until: int, unit: int) -> Iterator[bytes]:
        """A range of a run of which something in the middle cannot be had."""
        while start < until:
            into = (start - run.source.start) % unit
            size = min(unit - into, until - start)
            place = (run.place or 0) + start - run.start
            try:
                yield run.source.extent.read(place, size)
            except UnreadableError as e:
                have = _what_there_is(run.source.extent, place, size)
                yield have
                first = start + len(have) if have else max(run.start, start - into)
                yield self._missing(e, start + len(have), start + size, first, start - into + unit)
            start += size

    def _missing(self, error: UnreadableError, start: int, until: int, first: int, end: int) -> bytes:
        """Raise for a range that cannot be had, or note all of which it is a part and give zeros."""
        if not self.zero_unreadable:
            raise error.at(self.chain, start, until - start) from error
        self.unreadable.add(error.at(self.chain, first, end - first))
        return bytes(until - start)


def _what_there_is(extent: Extent, place: int, length: int) -> bytes:
    """The first of some bytes, up to where they cannot be had."""
    try:
        return extent.read_some(place, length)
    except UnreadableError:
        return b""


class _Reads(dict):
    """How to read the runs of a window by their kinds: functions of length and place, made when first asked for."""

    def __init__(self, window: Window):
        self.window = window
        extents = [placed.extent for placed in window.sources]
        self.spanned = any(e.file is not None and e.fd is None and not e.compressed for e in extents)
        """Whether a system call for each piece is not to be had."""

    def is_spanned(self, kind: int) -> bool:
        """Whether runs of a kind are bytes of a file that has no descriptor of the system."""
        source = self.window.source(kind) if split(kind)[0] == State.ALLOCATED else None
        return source is not None and source.extent.fd is None and not source.extent.compressed

    def __missing__(self, kind: int) -> Callable[[int, int], bytes]:
        read = self[kind] = _read_of(split(kind)[0], self.window.source(kind))
        return read


def _read_of(state: State, source: Placed | None) -> Callable[[int, int], bytes]:
    """How to read a run: a function of length and place. What it cannot read comes back short."""
    if state == State.INVALID:
        return _nothing
    if state != State.ALLOCATED or source is None:
        return _zeros
    if (fd := source.extent.fd) is not None:
        return partial(os.pread, fd)
    file, read = source.extent.file, source.extent.read_some
    if file is not None and not source.extent.compressed:
        return file.read_raw
    return lambda length, place: read(place, length)


def _nothing(length: int, place: int) -> bytes:
    return b""


def _zeros(length: int, place: int) -> bytes:
    return bytes(length)


def _read_runs(window: Window, offset: int, end: int, first: int, last: int) -> bytes:
    """The bytes of a range of a window, of the runs from number ``first`` on and before ``last``: two or more."""
    into = offset - window.start
    starts = list(window.starts[first:last])
    sizes = list(map(sub, [*starts[1:], end - window.start], starts))
    where = list(window.places[first:last])
    skip = into - starts[0]
    sizes[0] -= skip
    where[0] += skip
    if window.reads.spanned:
        return b"".join(_read_spans(window.reads, list(window.kinds[first:last]), sizes, where))
    if window.uniform:
        return b"".join(map(window.reads[window.kinds[0]], sizes, where))
    reads = map(window.reads.__getitem__, window.kinds[first:last])
    return b"".join([read(size, place) for read, size, place in zip(reads, sizes, where)])


def _read_spans(reads: _Reads, what: list[int], sizes: list[int], where: list[int]) -> list[bytes]:
    """Pieces of files without a descriptor of the system, where a read costs more than the bytes between two pieces.

    Pieces of one extent that lie close together are cut out of one bounded read.
    """
    pieces = [b""] * len(what)
    by_kind: dict[int, list[int]] = {}
    for number, kind in enumerate(what):
        if kind in by_kind:
            by_kind[kind].append(number)
        else:
            by_kind[kind] = [number]
    for kind, numbers in by_kind.items():
        read = reads[kind]
        if not reads.is_spanned(kind):
            for number in numbers:
                pieces[number] = read(sizes[number], where[number])
            continue
        for start, end, span in _spans(sorted([(where[number], sizes[number], number) for number in numbers])):
            data = read(end - start, start)
            for place, size, number in span:
                pieces[number] = data[place - start : place - start + size]
    return pieces


def _spans(wanted: list[tuple[int, int, int]]) -> Iterator[tuple[int, int, list[tuple[int, int, int]]]]:
    """Groups of pieces, sorted by place, that are worth one read: small ones, close together, and never too many bytes."""
    start = end = wanted[0][0]
    span = []
    for piece in wanted:
        place, size, _ = piece
        if not end <= place <= end + _GAP_SIZE or place + size > start + _SPAN_SIZE:
            if span:
                yield start, end, span
            start, span = place, []
        end = place + size
        span.append(piece)
    yield start, end, span
