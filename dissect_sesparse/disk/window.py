"""A piece of the disk, resolved over the whole chain: which bytes of which file are at which place.

A window has 4096 lanes (see ``lanes``). A lane is 4 KiB, so that a window is what one grain table covers; where a link of
the chain has smaller pieces (an extent that starts or ends within a grain) a lane is a sector.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from dissect_sesparse.disk.c_sesparse import GRAIN_SIZE, SECTOR
from dissect_sesparse.disk.entry import Run, State
from dissect_sesparse.disk.errors import SESparseError
from dissect_sesparse.disk.lanes import LANES, MAX_LAYERS, PLACED, find_breaks, find_runs, one, split
from dissect_sesparse.disk.overlay import Layer, Overlay

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dissect_sesparse.disk.link import Link, Placed


class Window:
    """A piece of the disk: what each lane is, and where runs start. A window of one run has one lane.

    Args:
        start: Byte on the disk.
        end: Byte on the disk.
        lane: Bytes of a lane.
        lanes: Decoded lanes, 8 bytes each.
        sources: The extents that are the lanes' layers.
    """

    __slots__ = ("breaks", "end", "lane", "lanes", "reads", "sources", "start", "used")

    def __init__(self, start: int, end: int, lane: int, lanes: bytes, sources: list[Placed]):
        self.start = start
        self.end = end
        self.lane = lane
        self.breaks = find_breaks(lanes, lane // SECTOR)
        self.lanes = lanes if self.breaks else lanes[:8]
        self.sources = sources
        self.reads: Any = None
        """For the reader: how to read each kind."""
        self.used = True
        """For the reader's cache."""

    @property
    def cost(self) -> int:
        """Bytes of memory it takes, about."""
        return 600 + len(self.lanes) + len(self.breaks)

    def source(self, kind: int) -> Placed | None:
        """The extent that answers for a kind; ``None`` for a hole of the whole chain."""
        state, layer, _ = split(kind)
        return None if state == State.UNALLOCATED else self.sources[layer]

    def runs(self, first: int = 0, last: int = LANES) -> Iterator[Run]:
        """Its runs, or what of them is in the lanes from ``first`` on and before ``last``."""
        if not self.breaks:
            first, last = 0, LANES
        numbers, kinds, places = find_runs(self.lanes[first * 8 : last * 8], self.lane // SECTOR)
        starts = [self.start + (first + number) * self.lane for number in numbers]
        end = min(self.end, self.start + last * self.lane)
        for start, until, kind, place in zip(starts, [*starts[1:], end], kinds, places):
            yield Run(start, until - start, split(kind)[0], place if kind & PLACED else None, self.source(kind))

    def around(self, first: int, last: int) -> tuple[int, int]:
        """The lanes from ``first`` on and before ``last``, and the rest of the runs at both ends."""
        if not self.breaks:
            return 0, LANES
        while first > 0 and not self.breaks[first]:
            first -= 1
        while last < len(self.breaks) and not self.breaks[last]:
            last += 1
        return first, last


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
        start = offset - offset % self.window_size
        end = min(start + self.window_size, self.size)
        count = -(-(end - start) // self.lane)
        overlay = Overlay(count)
        sources: list[Placed] = []
        for placed in self.overlapping(start, end):
            covers = placed.start <= start and placed.end >= end
            if covers and not sources and (run := placed.extent.only_run(start - placed.start, end - start)):
                place = run.place // SECTOR if run.place is not None else None
                return Window(start, end, self.lane, one(run.state, place), [placed])
            if (layer := self._layer(placed, start, end, count, keep_unmapped=keep_unmapped)) is None:
                continue
            if len(sources) == MAX_LAYERS:
                raise SESparseError(f"over {MAX_LAYERS} extents have a part in the {end - start} bytes at {start:#x}")
            sources.append(placed)
            overlay.add(layer)
            if not overlay.left:
                break
        if not sources:
            return Window(start, end, self.lane, one(State.UNALLOCATED, None), [])
        return Window(start, end, self.lane, overlay.lanes(), sources)

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
        return Layer(bytes(before * 8) + layer.entries + bytes((count - before - n) * 8), layer.decode)
