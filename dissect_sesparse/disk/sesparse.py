"""The seSparse extent: ESXi's format for snapshots (and for some linked clones).

A *grain directory* names *grain tables*; a table has 4096 entries and covers 16 MiB of the disk; an entry names a grain of
4 KiB or says why there is none (see ``entry``). Directory and tables are read where a read needs them, and never more of
them than the capacity needs: a disk of 62 TiB has a directory of 32 MiB and tables of 124 GiB.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from dissect_sesparse.disk.backmap import Backmap
from dissect_sesparse.disk.c_sesparse import GRAIN_SIZE, SECTOR, TABLE_COVERS, TABLE_ENTRIES, TABLE_SIZE
from dissect_sesparse.disk.census import count_states
from dissect_sesparse.disk.emptied import find_emptied
from dissect_sesparse.disk.entry import Run, State, decode_directory_entry, decode_entry, merged
from dissect_sesparse.disk.errors import ExtentError, Kind, UnreadableError
from dissect_sesparse.disk.extent import Extent
from dissect_sesparse.disk.header import MAX_FILE_SIZE, Header, read_header
from dissect_sesparse.disk.lanes import (
    INVALID_ENTRY,
    decode_entries,
    find_runs,
    first_of,
    split,
    spread,
    successive,
    unpack,
)
from dissect_sesparse.disk.metadata import LaidOver
from dissect_sesparse.disk.overlay import Decode, Layer
from dissect_sesparse.disk.rebuild import Capacity, rebuild_header
from dissect_sesparse.disk.replay import Replay, replay, restore
from dissect_sesparse.disk.residual import Residual
from dissect_sesparse.disk.salvage import Salvage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dissect_sesparse.disk.emptied import Emptied
    from dissect_sesparse.disk.file import EvidenceFile
    from dissect_sesparse.disk.metadata import Metadata

_INVALID = int.from_bytes(INVALID_ENTRY, "little")
_DIRECTORY_CHUNK = 8192
"""Directory entries looked at in one go (64 KiB, 128 GiB of the disk)."""


_LANE_STATES = bytes(value >> 4 & 7 for value in range(256))
"""The state in the top byte of a decoded lane."""
_DIRECTORY_CACHED = 512
"""Directory entries in a piece of the cache (4 KiB, 8 GiB of the disk)."""
_DIRECTORY_PIECES = 8
"""Pieces that are kept: 32 KiB."""


class SESparseExtent(Extent):
    """A seSparse extent.

    Args:
        file: The extent's file.
        residual: Show unmapped grains with their old bytes, where these are surely theirs.
        allow_truncated: Accept metadata regions that leave the file.
        journal: Of a dirty extent: ``replay`` or ``ignore`` it.
        salvage: Rebuild destroyed headers and tables.
        capacities: What may be the capacity, for a destroyed header.

    Raises:
        ExtentError: If the headers cannot be trusted.
    """

    kind = "SESPARSE"
    grain_size = GRAIN_SIZE

    def __init__(
        self,
        file: EvidenceFile,
        *,
        allow_truncated: bool = False,
        residual: bool = False,
        journal: str = "replay",
        salvage: bool = False,
        capacities: Iterable[Capacity] = (),
    ):
        self.file: EvidenceFile = file
        try:
            self.header: Header = read_header(file, allow_truncated=allow_truncated)
        except ExtentError as e:
            if not salvage:
                raise
            self.header = rebuild_header(file, capacities, e, allow_truncated=allow_truncated)
        self.metadata: Metadata = file
        """What directory, tables, free bitmap and backmap are read from: the file, or what a repair lays over it."""
        self.replay: Replay | None = None
        """What became of the journal; ``None`` for a clean extent, and where it is to be ignored."""
        if self.dirty and journal == "replay":
            self.replay, self.metadata = replay(file, self.header, infer=salvage)
        self.salvage: Salvage | None = None
        """What was rebuilt of directory and tables; ``None`` where that is not wanted."""
        self.restored = 0
        """Sectors of metadata that the journal's history stands in for."""
        if salvage:
            if not self.dirty and (lost := restore(file, self.header)):
                self.metadata, self.restored = LaidOver(file, lost), len(lost)
            self.metadata = self.salvage = Salvage(self.metadata, self.header)
        self.size = self.header.capacity
        self._directory = self.header.regions["grain_directory"]
        self._tables = self.header.regions["grain_tables"]
        self._grains = self.header.regions["grains"]
        self.backmap = Backmap(self)
        self._residual = Residual(self) if residual else None
        self._pieces: dict[int, memoryview] = {}
        self.emptied: Emptied | None = None
        """What tells that nothing of the extent can be read; never looked for where the tables are to be taken as they lie."""
        if not salvage and not (self.dirty and journal == "ignore"):
            self.emptied = find_emptied(self)

    @property
    def dirty(self) -> bool:
        """Whether the extent was not closed cleanly, so that its journal may hold changes that its tables lack."""
        return self.header.replay_journal != 0

    @property
    def state(self) -> str:
        """``clean``; ``dirty``, or ``replayed`` where its journal was; ``salvaged`` where anything was rebuilt."""
        if self.header.rebuilt or self.restored or (self.salvage is not None and self.salvage.changed):
            return "salvaged"
        if not self.dirty:
            return "clean"
        return "replayed" if self.replay is not None and self.replay.applied else "dirty"

    @cached_property
    def place_limit(self) -> int:
        """The first place, in grains, of which no byte is both in the grains region and in the file."""
        inside = min(self._grains.end, self.file.size, MAX_FILE_SIZE) - self._grains.offset
        return max(0, -(-inside // GRAIN_SIZE))

    @cached_property
    def whole_places(self) -> int:
        """The first place, in grains, that is not whole in the file, or not in the grains region.

        That region is as large as the disk, so its last place may reach beyond it: its bytes are read all the same.
        """
        return max(0, min(self.place_limit, (self.file.size - self._grains.offset) // GRAIN_SIZE))

    def has_last(self, place: int) -> bool:
        """Whether the file has, at a place that is not whole, all that the disk's last grain has: it may be shorter."""
        size = self.size % GRAIN_SIZE or GRAIN_SIZE
        return place < self.place_limit and self._grains.offset + place * GRAIN_SIZE + size <= self.file.size

    @property
    def last_grain(self) -> int:
        """The disk's last grain, which it may have in part."""
        return -(-self.size // GRAIN_SIZE) - 1

    @property
    def grains_offset(self) -> int:
        """Where in the file place 0 is, in bytes."""
        return self._grains.offset

    # Directory and tables

    def directory_offset(self, table: int) -> int:
        """Where in the file the directory's entry for a slice of 16 MiB is, in bytes."""
        return self._directory.offset + table * 8

    def table_offset(self, table: int) -> int | None:
        """Where in the file the grain table of the ``table``-th slice of 16 MiB is, in bytes; ``None`` without one.

        Raises:
            UnreadableError: If the directory's entry is corrupt or names a table outside the tables' region.
        """
        where = self.directory_offset(table)
        entry = self._directory_entry(table)
        try:
            index = decode_directory_entry(entry)
        except ValueError as e:
            raise self._broken(str(e), f"grain directory entry {table}", entry, where) from None
        if index is None:
            return None
        # The region is at least that large, checked at open; what follows is its rounding up, in which no table is.
        if index >= self.header.table_count:
            problem = f"a disk of this size has {self.header.table_count} tables"
            raise self._broken(problem, f"grain directory entry {table}", entry, where)
        return self._tables.offset + index * TABLE_SIZE

    def _directory_entry(self, table: int) -> int:
        """A directory entry, by way of a small cache: a read that looks for one grain asks for little else."""
        number, slot = divmod(table, _DIRECTORY_CACHED)
        if (piece := self._pieces.get(number)) is None:
            where = self.directory_offset(number * _DIRECTORY_CACHED)
            count = min(_DIRECTORY_CACHED, self.header.table_count - number * _DIRECTORY_CACHED)
            data = self.metadata.read_some(where, count * 8)
            piece = unpack(data[: len(data) // 8 * 8])
            if len(self._pieces) >= _DIRECTORY_PIECES:
                self._pieces = {}
            self._pieces[number] = piece
        if slot >= len(piece):  # the file ends before it
            return int.from_bytes(self.metadata.read(self.directory_offset(table), 8), "little")
        return piece[slot]

    def is_lost(self, start: int) -> bool:
        return start >= self.lost_from

    @property
    def lost_from(self) -> int:
        """The first offset whose directory entry is behind the file's end, in a copy that was cut off; else the size.

        0 where directory or tables were emptied.
        """
        if self.emptied is not None:
            return 0
        return min(max(0, self.file.size - self._directory.offset) // 8 * TABLE_COVERS, self.size)

    def tables(self, first: int = 0, end: int | None = None) -> Iterator[int]:
        """The numbers of the 16 MiB slices whose directory entry is not 0, valid or not; holes are skipped at once.

        Of those from :attr:`lost_from` on nothing is known, and they are as many as the header says: none is given.
        """
        known = -(-self.lost_from // TABLE_COVERS)
        end = known if end is None else min(end, known)
        count = 16  # look at few entries first: most often the next one is used
        while first < end:
            count = min(count * 4, _DIRECTORY_CHUNK, end - first)
            try:
                data = self.metadata.read_some(self.directory_offset(first), count * 8)
            except UnreadableError:  # told by the read that meets it
                data = b""
            data = data[: len(data) // 8 * 8]
            if data != bytes(len(data)):
                yield from (first + i for i, entry in enumerate(unpack(data)) if entry)
            yield from range(first + len(data) // 8, first + count)  # came back short: not known to be empty
            first += count

    def next_used(self, start: int, end: int | None = None) -> int:
        end = self.size if end is None else min(end, self.size)
        for table in self.tables(start // TABLE_COVERS, -(-end // TABLE_COVERS)):
            return min(max(start, table * TABLE_COVERS), self.size)
        return max(start, min(end, self.lost_from))

    def entries(self, first_grain: int, count: int) -> bytes | None:
        """Raw table entries of ``count`` grains, 8 bytes each; ``None`` if no table covers any of them.

        A directory entry or a table that cannot be had gives entries that decode to INVALID; :meth:`explain` tells why.
        """
        if self.emptied is not None:
            return INVALID_ENTRY * count
        pieces, found = [], False
        while count > 0:
            table, start = divmod(first_grain, TABLE_ENTRIES)
            n = min(count, TABLE_ENTRIES - start)
            try:
                offset = self.table_offset(table)
                piece = bytes(n * 8) if offset is None else self.metadata.read_some(offset + start * 8, n * 8)
                found = found or offset is not None
            except UnreadableError:
                piece, found = b"", True
            piece = piece[: len(piece) // 8 * 8]
            pieces.append(piece + INVALID_ENTRY * (n - len(piece) // 8))
            first_grain, count = first_grain + n, count - n
        return b"".join(pieces) if found else None

    def raw_tables(self, first: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """The first grain and the raw entries of each table that there is and that can be read; 32 KiB at a time.

        Args:
            first: The first slice of 16 MiB that is looked at.
            end: The one behind the last.
        """
        for table in self.tables(first, end):
            try:
                if (offset := self.table_offset(table)) is not None:
                    count = min(TABLE_ENTRIES, -(-self.size // GRAIN_SIZE) - table * TABLE_ENTRIES)
                    entries = self.metadata.read_some(offset, count * 8)
                    yield table * TABLE_ENTRIES, entries[: len(entries) // 8 * 8]
            except UnreadableError:  # told by the findings
                continue

    def counts(self) -> dict[State, int]:
        """How many grains the tables have in each state; those that no table covers are UNALLOCATED."""
        total = dict.fromkeys(State, 0)
        for _, entries in self.raw_tables():
            counts = count_states(entries, self.place_limit) or self._decoded_counts(entries)
            for state, count in counts.items():
                total[state] += count
        total[State.UNALLOCATED] += -(-self.size // GRAIN_SIZE) - sum(total.values())
        return total

    def _decoded_counts(self, entries: bytes) -> dict[State, int]:
        tops = self.decode(entries)[7::8].translate(_LANE_STATES)
        return {state: tops.count(state) for state in State}

    def table_index(self, offset: int) -> int:
        """The index of the table at a byte of the file."""
        return (offset - self._tables.offset) // TABLE_SIZE

    def locate(self, grain: int) -> tuple[State, int | None]:
        """State of one grain, and the byte of the file that its entry names: three small reads and no table.

        Raises:
            UnreadableError: If the entry, or the way to it, is corrupt, or an allocated grain lies outside.
        """
        if self.emptied is not None:
            raise UnreadableError(
                str(self.emptied),
                file=self.file.label,
                source_offset=self.header.regions[self.emptied.region].offset,
                kind=Kind.LOST,
                advice="salvage=1 rebuilds them from the backmap, unreadable=zero shows zeros there, and reports it",
            )
        table, slot = divmod(grain, TABLE_ENTRIES)
        if (offset := self.table_offset(table)) is None:
            return State.UNALLOCATED, None
        where = offset + slot * 8
        entry = int.from_bytes(self.metadata.read(where, 8), "little")
        try:
            state, place = decode_entry(entry)
        except ValueError as e:
            raise self._broken(str(e), f"grain table entry of grain {grain}", entry, where) from None
        if state in (State.UNALLOCATED, State.ZERO):
            return state, None
        if state == State.ALLOCATED and place >= self.place_limit:
            kind, problem = Kind.FILE_ENDS, f"the file ends at byte {self.file.size:#x}, before this grain"
            if place * GRAIN_SIZE >= self._grains.size:
                kind, problem = (
                    Kind.INVALID,
                    f"the grains' region ends at place {-(-self._grains.size // GRAIN_SIZE):#x}",
                )
            raise self._broken(problem, f"grain table entry of grain {grain}", entry, where, kind)
        return state, self._grains.offset + place * GRAIN_SIZE

    def find(self, offset: int) -> tuple[State, int | None]:
        if self._residual is not None:
            return self._find_residual(offset)
        state, place = self.locate(offset // GRAIN_SIZE)
        return state, place + offset % GRAIN_SIZE if place is not None else None

    def _find_residual(self, offset: int) -> tuple[State, int | None]:
        grain = offset // GRAIN_SIZE
        if (layer := self.layer(grain * GRAIN_SIZE, 1, GRAIN_SIZE)) is None:
            return State.UNALLOCATED, None
        kind, place = first_of(self.decode(layer.entries))
        state, _, placed = split(kind)
        if state == State.INVALID:
            raise self.explain(offset)
        return state, place + offset % GRAIN_SIZE if placed else None

    def _broken(self, problem: str, field: str, value: int, where: int, kind: Kind = Kind.INVALID) -> UnreadableError:
        advice = "unreadable=zero shows zeros there, and reports it"
        if self.metadata is not self.file and value == _INVALID:
            value = int.from_bytes(self.file.read_some(where, 8), "little")
            if self.replay is not None and self.replay.in_doubt:
                problem = (
                    "the extent is dirty, and records of its journal that could not be applied contradict this entry"
                )
                advice = f"journal=ignore shows the tables as they lie, {advice}"
            elif self.salvage is not None:
                problem = "it is destroyed, and neither the backmap nor the journal tells what it was"
                advice = f"without salvage=1 it is read as it lies, {advice}"
        return UnreadableError(
            problem, file=self.file.label, field=field, value=value, source_offset=where, advice=advice, kind=kind
        )

    def explain(self, offset: int) -> UnreadableError:
        try:
            self.locate(offset // GRAIN_SIZE)
        except UnreadableError as e:
            return e
        return super().explain(offset)

    # Runs

    def decode(self, entries: bytes, *, keep_unmapped: bool = False) -> bytes:
        """Decoded lanes of raw entries, see ``lanes``."""
        return decode_entries(entries, self._grains.offset // SECTOR, self.place_limit, keep_unmapped=keep_unmapped)

    def only_run(self, start: int, length: int) -> Run | None:
        if self.is_lost(start):
            return Run(start, length, State.INVALID, None)
        if start % GRAIN_SIZE:
            return None
        first, count = start // GRAIN_SIZE, -(-length // GRAIN_SIZE)
        if count > TABLE_ENTRIES or (entries := self.entries(first, count)) is None:
            return None
        if entries == INVALID_ENTRY * count:  # most often a directory entry that is corrupt
            return Run(start, length, State.INVALID, None)
        if (place := successive(entries, State.ALLOCATED)) is None or place + count > self.place_limit:
            return None
        return Run(start, length, State.ALLOCATED, self._grains.offset + place * GRAIN_SIZE)

    def layer(self, start: int, count: int, lane: int, *, keep_unmapped: bool = False) -> Layer | None:
        first, end = start // GRAIN_SIZE, -(-(start + count * lane) // GRAIN_SIZE)
        if (entries := self.entries(first, end - first)) is None:
            return None
        if self._residual is not None:
            entries = self._residual.show(first, entries)
        if lane == GRAIN_SIZE:
            return Layer(entries, Decode(self._grains.offset // SECTOR, self.place_limit, keep_unmapped))
        lanes = spread(self.decode(entries, keep_unmapped=keep_unmapped), GRAIN_SIZE // lane, lane // SECTOR)
        skip = (start - first * GRAIN_SIZE) // lane * 8
        return Layer(lanes[skip : skip + count * 8], None)

    def runs(self, start: int = 0, length: int | None = None) -> Iterator[Run]:
        return merged(self._table_runs(start, length))

    def _table_runs(self, start: int, length: int | None) -> Iterator[Run]:
        end = self.size if length is None else min(start + length, self.size)
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
            entries = self.entries(first, last - first) or bytes((last - first) * 8)
            if entries == INVALID_ENTRY * (last - first):
                yield Run(start, stop - start, State.INVALID, None)
                start = stop
                continue
            lanes, kinds, places = find_runs(self.decode(entries, keep_unmapped=True), GRAIN_SIZE // SECTOR)
            bounds = [max(start, (first + lane) * GRAIN_SIZE) for lane in lanes]
            for begin, until, kind, place in zip(bounds, [*bounds[1:], stop], kinds, places):
                state, _, placed = split(kind)
                yield Run(begin, until - begin, state, place + begin % GRAIN_SIZE if placed else None)
            start = stop
