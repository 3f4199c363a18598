"""A piece of the disk, resolved over the whole chain: which bytes of which file are at which place.

A window has 4096 lanes (see ``engine``). A lane is 4 KiB, so that a window is what one grain table covers; where a link of
the chain has smaller pieces (an extent that starts or ends within a grain) a lane is a sector.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE
from dissect_sesparse.extent.entry import Run, State
from dissect_sesparse.extent.lane import LANES, MAX_LAYERS, lane_kind, split
from dissect_sesparse.source.errors import SESparseError
from dissect_sesparse.source.file import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dissect_sesparse.chain.link import Link, Placed
    from dissect_sesparse.extent.engine import Layer


class Window:
    """A piece of the disk: where its runs start, and what they are.

    Args:
        start: Byte on the disk.
        end: Byte on the disk.
        starts: Where each run starts, in bytes from the window's start; ascending from 0.
        kinds: What each run is, see :func:`~dissect_sesparse.extent.engine.split`.
        places: Where each run's bytes are in its file; where its kind has no place, anything.
        sources: The extents that are the layers of the kinds.
        uniform: Whether all runs are of one kind.
    """

    __slots__ = ("end", "kinds", "places", "reads", "sources", "start", "starts", "uniform", "used")

    def __init__(
        self,
        start: int,
        end: int,
        starts: Sequence[int],
        kinds: Sequence[int],
        places: Sequence[int],
        sources: list[Placed],
        *,
        uniform: bool = True,
    ):
        self.start = start
        self.end = end
        self.starts = starts
        self.kinds = kinds
        self.places = places
        self.sources = sources
        self.uniform = uniform
        self.reads: Any = None
        """For the reader: how to read each kind."""
        self.used = True
        """For the reader's cache."""

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def cost(self) -> int:
        """Bytes of memory it takes, about: 14 a run."""
        return 800 + 14 * len(self.starts)

    def source(self, kind: int) -> Placed | None:
        """The extent that answers for a kind; ``None`` for a hole of the whole chain."""
        state, layer, _ = split(kind)
        return None if state == State.UNALLOCATED else self.sources[layer]

    def find(self, offset: int, end: int) -> tuple[int, int]:
        """The number of the run that has the byte at ``offset``, and one past that of the byte before ``end``."""
        first = bisect_right(self.starts, offset - self.start) - 1
        return first, bisect_left(self.starts, end - self.start, first + 1)

    def cut(self, start: int, end: int) -> Window:
        """The part of it that is in a range, which has a byte of it."""
        if start <= self.start and self.end <= end:
            return self
        start, end = max(start, self.start), min(end, self.end)
        first, last = self.find(start, end)
        skip = start - self.start
        starts = [max(0, run - skip) for run in self.starts[first:last]]
        places = [self.places[first] + skip - self.starts[first], *self.places[first + 1 : last]]
        return Window(start, end, starts, self.kinds[first:last], places, self.sources, uniform=self.uniform)

    def runs(self, first: int = 0, last: int | None = None) -> Iterator[Run]:
        """Its runs, or those from number ``first`` on and before ``last``."""
        last = len(self.starts) if last is None else last
        for number in range(first, last):
            begin = self.start + self.starts[number]
            until = self.start + self.starts[number + 1] if number + 1 < len(self.starts) else self.end
            kind = self.kinds[number]
            state, _, placed = split(kind)
            yield Run(begin, until - begin, state, self.places[number] if placed else None, self.source(kind))


def whole_window(start: int, end: int, run: Run, sources: list[Placed]) -> Window:
    """A window that is one run of the newest of its sources."""
    placed = run.place is not None
    return Window(start, end, (0,), (lane_kind(run.state, placed=placed),), (run.place or 0,), sources)


def lane_size(links: Sequence[Link], size: int) -> int:
    """Bytes of a lane: 4 KiB, or a sector where a link has smaller pieces."""
    for link in links:
        for placed in link.extents:
            odd_end = placed.end % GRAIN_SIZE and placed.end < size
            if placed.start % GRAIN_SIZE or odd_end or (placed.extent.grain_size % GRAIN_SIZE and placed.extent.sparse):
                return SECTOR
    return GRAIN_SIZE


class Resolver:
    """Resolves windows over a chain.

    Args:
        layers: The extents of each link, newest link first, each sorted by their place on the disk.
        size: Bytes of the disk.
        lane: Bytes of a lane.
    """

    def __init__(self, layers: Sequence[Sequence[Placed]], size: int, lane: int):
        self.layers = layers
        self.size = size
        self.lane = lane
        self.window_size = LANES * lane
        self._ends = [[placed.end for placed in layer] for layer in layers]

    def overlapping(self, start: int, end: int) -> Iterator[Placed]:
        """The extents, of the newest link first, that have a byte in the range."""
        for layer, ends in zip(self.layers, self._ends):
            for number in range(bisect_right(ends, start), len(layer)):
                if layer[number].start >= end:
                    break
                yield layer[number]

    def resolve(self, offset: int, *, keep_unmapped: bool = False) -> Window:
        """The window that holds the byte at ``offset``.

        Args:
            keep_unmapped: Whether UNMAPPED runs have the place of their old bytes, and so are cut where it jumps.
        """
        from dissect_sesparse.extent import engine  # numpy, when the first tables are decoded

        start = offset - offset % self.window_size
        end = min(start + self.window_size, self.size)
        count = -(-(end - start) // self.lane)
        overlay: engine.Overlay | None = None
        sources: list[Placed] = []
        for placed in self.overlapping(start, end):
            covers = placed.start <= start and placed.end >= end
            if covers and not sources and (run := placed.extent.only_run(start - placed.start, end - start)):
                return whole_window(start, end, run, [placed])
            if (layer := self._layer(placed, start, end, count, keep_unmapped=keep_unmapped)) is None:
                continue
            if len(sources) == MAX_LAYERS:
                raise SESparseError(f"over {MAX_LAYERS} extents have a part in the {end - start} bytes at {start:#x}")
            sources.append(placed)
            overlay = overlay or engine.Overlay(count)
            overlay.add(layer)
            if not overlay.left:
                break
        if overlay is None:
            return whole_window(start, end, Run(start, end - start, State.UNALLOCATED, None), [])
        firsts, kinds, places = engine.find_runs(overlay.lanes(), self.lane // SECTOR)
        starts = (firsts * self.lane).astype("u4")
        uniform = bool((kinds == kinds[0]).all())
        return Window(start, end, starts.data, kinds.data, places.data, sources, uniform=uniform)

    def stretches(self, start: int, end: int) -> Iterator[Run | Window]:
        """What a range is: runs where no table has to be asked, else windows, with the places of old bytes.

        Without gap or overlap; one may go on as the next.
        """
        found: dict[int, int] = {}
        while start < end:
            if (quiet := self._quiet_until(start, end, found)) > start:
                yield from self.quiet_runs(start, quiet)
                start = quiet
                continue
            window = self.resolve(start, keep_unmapped=True)
            yield window.cut(start, end)
            start = min(window.end, end)

    def _quiet_until(self, start: int, end: int, found: dict[int, int]) -> int:
        """The end of the range from ``start`` on in which no table has to be asked.

        ``found`` keeps, by extent, the next offset of which it may say anything: to look for it anew at each start would
        read the directory of a large link again and again.
        """
        for layer in self.layers:
            for placed in layer:
                if placed.end > start and placed.start < end and placed.extent.sparse:
                    first = max(0, start - placed.start)
                    used = found.get(id(placed), -1)
                    if used < start:
                        used = found[id(placed)] = placed.start + placed.extent.next_used(first, end - placed.start)
                    if used < placed.end and not placed.extent.is_lost(first):
                        end = min(end, max(start, used))
        return end

    def quiet_runs(self, start: int, end: int) -> list[Run]:
        """The runs of a range in which no table has to be asked: which of the other extents is the first to have it."""
        pending, found = [(start, end)], []
        for placed in self.overlapping(start, end):
            if placed.extent.sparse and not placed.extent.is_lost(max(0, start - placed.start)):
                continue
            rest = []
            for first, last in pending:
                low, high = max(first, placed.start), min(last, placed.end)
                run = placed.extent.only_run(low - placed.start, high - low) if low < high else None
                if run is None:
                    rest.append((first, last))
                    continue
                found.append(run._replace(start=low, source=placed))
                rest += [(a, b) for a, b in ((first, low), (high, last)) if a < b]
            pending = rest
        found += [Run(a, b - a, State.UNALLOCATED, None) for a, b in pending]
        return sorted(found, key=lambda run: run.start)

    def _layer(self, placed: Placed, start: int, end: int, count: int, *, keep_unmapped: bool) -> Layer | None:
        """What an extent says, as lanes of the whole window."""
        first = max(placed.start, start)
        before = (first - start) // self.lane
        n = -(-(min(placed.end, end) - first) // self.lane)
        layer = placed.extent.layer(first - placed.start, n, self.lane, keep_unmapped=keep_unmapped)
        if layer is None or n == count:
            return layer
        return layer.within(before, count)
