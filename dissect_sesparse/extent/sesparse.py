"""The seSparse extent: ESXi's format for snapshots (and for some linked clones).

A *grain directory* names *grain tables*; a table has 4096 entries and covers 16 MiB of the disk; an entry names a grain of
4 KiB or says why there is none (see ``entry``). Directory and tables are read where a read needs them, and never more of
them than the capacity needs: a disk of 62 TiB has a directory of 32 MiB and tables of 124 GiB.

The extent is given its metadata (see ``metadata``): whether that is the file's own or was repaired makes no difference here.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from dissect_sesparse.extent.base import Extent
from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE, TABLE_COVERS, TABLE_ENTRIES
from dissect_sesparse.extent.entry import Run, State, decode_entry, merged
from dissect_sesparse.source.errors import Kind, UnreadableError
from dissect_sesparse.source.file import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.extent.backmap import Backmap
    from dissect_sesparse.extent.engine import Layer, Words
    from dissect_sesparse.extent.metadata import Metadata
    from dissect_sesparse.source.file import EvidenceFile


class SESparseExtent(Extent):
    """A seSparse extent as the guest sees it.

    Args:
        metadata: Its directory and tables.
    """

    kind = "SESPARSE"
    grain_size = GRAIN_SIZE

    def __init__(self, metadata: Metadata):
        self.metadata = metadata
        self.file: EvidenceFile = metadata.file
        self.header = metadata.header
        self.size = self.header.capacity

    @cached_property
    def backmap(self) -> Backmap:
        """Whose the places of its grains region are."""
        from dissect_sesparse.extent.backmap import Backmap  # numpy

        return Backmap(self.metadata)

    @property
    def dirty(self) -> bool:
        """Whether the extent was not closed cleanly, so that its journal may hold changes that its tables lack."""
        return self.header.replay_journal != 0

    @property
    def state(self) -> str:
        """``clean`` or ``dirty``; where anything was repaired, what that made of it."""
        if self.metadata.repair is not None:
            return self.metadata.repair.state
        return "dirty" if self.dirty else "clean"

    # One grain

    def locate(self, grain: int) -> tuple[State, int | None]:
        """State of one grain, and the byte of the file that its entry names: three small reads and no table.

        Raises:
            UnreadableError: If the entry, or the way to it, is corrupt, or an allocated grain lies outside.
        """
        if (error := self.metadata.why_nothing()) is not None:
            raise error
        if (found := self.metadata.entry(grain)) is None:
            return State.UNALLOCATED, None
        entry, where = found
        try:
            state, place = decode_entry(entry)
        except ValueError as e:
            raise self.metadata.broken(str(e), f"grain table entry of grain {grain}", entry, where) from None
        if state in (State.UNALLOCATED, State.ZERO):
            return state, None
        if state == State.ALLOCATED and place >= self.metadata.place_limit:
            raise self._outside(grain, place, entry, where)
        return state, self.metadata.grains_offset + place * GRAIN_SIZE

    def _outside(self, grain: int, place: int, entry: int, where: int) -> UnreadableError:
        """The error for an allocated grain outside the grains region or the file."""
        kind, problem = Kind.FILE_ENDS, f"the file ends at byte {self.file.size:#x}, before this grain"
        if place * GRAIN_SIZE >= self.header.regions["grains"].size:
            kind, problem = Kind.INVALID, f"the grains' region ends at place {self.header.place_count:#x}"
        return self.metadata.broken(problem, f"grain table entry of grain {grain}", entry, where, kind)

    def find(self, offset: int) -> tuple[State, int | None]:
        state, place = self.locate(offset // GRAIN_SIZE)
        return state, place + offset % GRAIN_SIZE if place is not None else None

    def explain(self, offset: int) -> UnreadableError:
        try:
            self.locate(offset // GRAIN_SIZE)
        except UnreadableError as e:
            return e
        return super().explain(offset)

    # Many grains

    def is_lost(self, start: int) -> bool:
        return start >= self.metadata.lost_from

    def next_used(self, start: int, end: int | None = None) -> int:
        end = self.size if end is None else min(end, self.size)
        for table in self.metadata.tables(start // TABLE_COVERS, -(-end // TABLE_COVERS)):
            return min(max(start, table * TABLE_COVERS), self.size)
        return max(start, min(end, self.metadata.lost_from))

    def shown(self, first_grain: int, count: int) -> Words | None:
        """The raw entries of some grains as a reader of the disk is shown them; ``None`` where no table covers any."""
        return self.metadata.entries(first_grain, count)

    def lanes(self, entries: Words, *, keep_unmapped: bool = False) -> Words:
        """The decoded lanes of raw entries, see ``engine``."""
        from dissect_sesparse.extent.engine import decode

        first_sector = self.metadata.grains_offset // SECTOR
        return decode(entries, first_sector, self.metadata.place_limit, keep_unmapped=keep_unmapped)

    def only_run(self, start: int, length: int) -> Run | None:
        if self.is_lost(start):
            return Run(start, length, State.INVALID, None)
        first, count = start // GRAIN_SIZE, -(-length // GRAIN_SIZE)
        if start % GRAIN_SIZE or count > TABLE_ENTRIES:
            return None
        if (entries := self.metadata.entries(first, count)) is None:
            return None
        return self._only_run(start, length, entries)

    def _only_run(self, start: int, length: int, entries: Words) -> Run | None:
        from dissect_sesparse.extent.engine import all_invalid, successive

        if all_invalid(entries):  # most often a directory entry that is corrupt
            return Run(start, length, State.INVALID, None)
        place = successive(entries, State.ALLOCATED)
        if place is None or place + len(entries) > self.metadata.place_limit:
            return None
        return Run(start, length, State.ALLOCATED, self.metadata.grains_offset + place * GRAIN_SIZE)

    def layer(self, start: int, count: int, lane: int, *, keep_unmapped: bool = False) -> Layer | None:
        from dissect_sesparse.extent.engine import Decode, Layer, spread

        first, end = start // GRAIN_SIZE, -(-(start + count * lane) // GRAIN_SIZE)
        if (entries := self.shown(first, end - first)) is None:
            return None
        if lane == GRAIN_SIZE:
            way = Decode(self.metadata.grains_offset // SECTOR, self.metadata.place_limit, keep_unmapped)
            return Layer(entries, way)
        lanes = spread(self.lanes(entries, keep_unmapped=keep_unmapped), GRAIN_SIZE // lane, lane // SECTOR)
        skip = (start - first * GRAIN_SIZE) // lane
        return Layer(lanes[skip : skip + count], None)

    def unsound(self, end: int) -> Iterator[tuple[int, int]]:
        """Tables that have a corrupt entry, or name a grain that is not whole in the file; those that touch are one range."""
        first = last = 0
        for start, stop in self._unsound_tables(end):
            if start > last:
                if first < last:
                    yield first, last - first
                first = start
            last = stop
        if first < last:
            yield first, last - first

    def _unsound_tables(self, end: int) -> Iterator[tuple[int, int]]:
        from dissect_sesparse.extent.engine import count_states

        grains = -(-end // GRAIN_SIZE)
        for table in self.metadata.tables(0, -(-end // TABLE_COVERS)):
            first = table * TABLE_ENTRIES
            entries = self.metadata.entries(first, min(TABLE_ENTRIES, grains - first))
            if entries is not None and count_states(entries, self.metadata.whole_places)[State.INVALID]:
                yield table * TABLE_COVERS, min((table + 1) * TABLE_COVERS, end)
        if (lost := self.metadata.lost_from) < end:
            yield lost, end

    def runs(self, start: int = 0, length: int | None = None) -> Iterator[Run]:
        """The runs of a range as the tables have them, whatever view is shown."""
        return merged(self._runs(start, self.size if length is None else min(start + length, self.size)))

    def _runs(self, start: int, end: int) -> Iterator[Run]:
        from dissect_sesparse.extent.engine import runs_of

        while start < end:
            if (used := self.next_used(start, end)) > start:
                yield Run(start, min(used, end) - start, State.UNALLOCATED, None)
                start = used
                continue
            if self.is_lost(start):
                yield Run(start, end - start, State.INVALID, None)
                return
            stop = min(end, (start // TABLE_COVERS + 1) * TABLE_COVERS)
            first, last = start // GRAIN_SIZE, -(-stop // GRAIN_SIZE)
            if (entries := self.metadata.entries(first, last - first)) is None:
                yield Run(start, stop - start, State.UNALLOCATED, None)
            else:
                yield from runs_of(self.lanes(entries, keep_unmapped=True), start, stop, GRAIN_SIZE)
            start = stop
