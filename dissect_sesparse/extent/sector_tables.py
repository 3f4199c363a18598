"""What hosted and ESX sparse extents share: a directory and tables whose entries are 32-bit sector numbers.

A directory entry is the sector where a grain table starts, 0 for none. A table entry is the sector where a grain starts,
0 for none; where the header says so, 1 for a grain of zeros. Nothing else is in an entry, so that one which is too large
or points into the metadata can only be told by holding it against the file and the header: that is INVALID here.

Source: VMware's technical note *Virtual Disk Format 5.0*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dissect_sesparse.extent.base import Extent
from dissect_sesparse.extent.doubt import ZEROS_ADVICE
from dissect_sesparse.extent.entry import Run, State, merged
from dissect_sesparse.extent.lane import LANES, lane_of
from dissect_sesparse.source.errors import ExtentError, Kind, UnreadableError
from dissect_sesparse.source.file import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.extent.engine import Layer, Words
    from dissect_sesparse.extent.header import Region
    from dissect_sesparse.source.file import EvidenceFile

MAX_GRAIN_SECTORS = 1 << 14
"""8 MiB. VMware's grains have one sector (ESX) or 128 (hosted); a compressed one is held in memory whole."""

_DIRECTORY_CHUNK = 64 * 1024
"""Bytes of the directory looked at in one go."""
_MAX_PLACE = 0xFFFFFFFF


@dataclass(frozen=True)
class TableLayout:
    """What the header of such an extent says, checked."""

    capacity: int
    """Bytes of the virtual disk."""
    grain_size: int
    """Bytes; a power of two and a multiple of a sector."""
    table_entries: int
    """Entries of a grain table."""
    directory: Region
    """As large as the capacity needs."""
    metadata: tuple[Region, ...]
    """What a table or a grain cannot lie on: headers, descriptor and directory."""
    zeroed: bool = False
    """Whether a table entry of 1 is a grain of zeros."""

    @property
    def grain_count(self) -> int:
        return -(-self.capacity // self.grain_size)

    @property
    def table_count(self) -> int:
        return -(-self.grain_count // self.table_entries)


def refusal(
    file: EvidenceFile, header: Any, name: str, expected: str, problem: str = "", *, prefix: str = ""
) -> ExtentError:
    """The error for a field of a header."""
    value = getattr(header, name)
    value = int(value) if isinstance(value, int) else bytes(value)
    return ExtentError(problem, file=file.label, field=prefix + name, value=value, expected=expected)


def is_power_of_two(number: int) -> bool:
    """Whether a number has one bit."""
    return number > 0 and number & (number - 1) == 0


class TableExtent(Extent):
    """An extent with a directory and tables of 32-bit sector numbers.

    Args:
        file: The extent's file.
        layout: What its header says.
    """

    def __init__(self, file: EvidenceFile, layout: TableLayout):
        self.file: EvidenceFile = file
        self.layout = layout
        self.size = layout.capacity
        self.grain_size = layout.grain_size
        # How much of the file a grain takes: of a compressed one that is not known before it is read.
        self._stored_sectors = 1 if self.compressed else layout.grain_size // SECTOR

    @property
    def place_limit(self) -> int:
        """The first sector of which no byte is in the file; all ones is never a place."""
        return min(-(-self.file.size // SECTOR), _MAX_PLACE)

    # Directory and tables

    def directory_offset(self, table: int) -> int:
        """Where in the file the directory's entry for a table is, in bytes."""
        return self.layout.directory.offset + table * 4

    def table_offset(self, table: int) -> int | None:
        """Where in the file a grain table is, in bytes; ``None`` without one.

        Raises:
            UnreadableError: If the directory's entry names a place that cannot hold one.
        """
        where = self.directory_offset(table)
        entry = int.from_bytes(self.file.read(where, 4), "little")
        if entry == 0:
            return None
        count = min(self.layout.table_entries, self.layout.grain_count - table * self.layout.table_entries)
        if wrong := self._why_not(entry, -(-count * 4 // SECTOR)):
            raise self._broken(*wrong, f"grain directory entry {table}", entry, where)
        return entry * SECTOR

    def _why_not(self, sector: int, sectors: int) -> tuple[Kind, str] | None:
        """Why nothing of a number of sectors can start at a sector; ``None`` if it can."""
        if sector >= self.place_limit:
            return Kind.FILE_ENDS, f"the file ends at byte {self.file.size:#x}"
        for first, end, name in self._taken():
            if sector < end and sector + sectors > first:
                return Kind.INVALID, f"the {name} is there, in sectors {first:#x} to {end:#x}"
        return None

    def _taken(self) -> Iterator[tuple[int, int, str]]:
        """First sector, end and name of what no grain can lie on."""
        for region in self.layout.metadata:
            yield min(region.offset // SECTOR, _MAX_PLACE), min(-(-region.end // SECTOR), _MAX_PLACE), region.name

    def next_used(self, start: int, end: int | None = None) -> int:
        covers = self.layout.table_entries * self.grain_size
        end = self.size if end is None else min(end, self.size)
        table, count = start // covers, min(self.layout.table_count, -(-end // covers))
        while table < count:
            wanted = min(_DIRECTORY_CHUNK, (count - table) * 4)
            data = self.file.read_some(self.directory_offset(table), wanted)
            empty = len(data) - len(data.lstrip(b"\x00"))
            # Where the directory itself is cut off, nothing is known to be empty.
            if empty < wanted:
                return min(max(start, (table + empty // 4) * covers), self.size)
            table += wanted // 4
        return max(start, end)

    def entries(self, first_grain: int, count: int) -> bytes | None:
        """Raw table entries of ``count`` grains, 4 bytes each; ``None`` if all of them are 0.

        What cannot be had gives entries that decode to INVALID; :meth:`explain` tells why.
        """
        pieces = []
        while count > 0:
            table, start = divmod(first_grain, self.layout.table_entries)
            n = min(count, self.layout.table_entries - start)
            try:
                offset = self.table_offset(table)
                piece = bytes(n * 4) if offset is None else self.file.read_some(offset + start * 4, n * 4)
            except UnreadableError:
                piece = b""
            pieces.append(piece[: len(piece) // 4 * 4].ljust(n * 4, b"\xff"))
            first_grain, count = first_grain + n, count - n
        entries = b"".join(pieces)
        return None if entries.count(0) == len(entries) else entries

    def locate(self, grain: int) -> tuple[State, int | None]:
        """State of one grain, and the byte of the file that its entry names: two small reads and no table.

        Raises:
            UnreadableError: If the entry, or the way to it, is corrupt.
        """
        table, slot = divmod(grain, self.layout.table_entries)
        if (offset := self.table_offset(table)) is None:
            return State.UNALLOCATED, None
        where = offset + slot * 4
        entry = int.from_bytes(self.file.read(where, 4), "little")
        if entry == 0:
            return State.UNALLOCATED, None
        if entry == 1 and self.layout.zeroed:
            return State.ZERO, None
        if wrong := self._why_not(entry, self._stored_sectors):
            raise self._broken(*wrong, f"grain table entry of grain {grain}", entry, where)
        return State.ALLOCATED, entry * SECTOR

    def find(self, offset: int) -> tuple[State, int | None]:
        state, place = self.locate(offset // self.grain_size)
        return state, place + offset % self.grain_size if place is not None else None

    def _broken(self, kind: Kind, problem: str, field: str, value: int, where: int) -> UnreadableError:
        return UnreadableError(
            problem, file=self.file.label, field=field, value=value, source_offset=where, advice=ZEROS_ADVICE, kind=kind
        )

    def explain(self, offset: int) -> UnreadableError:
        try:
            self.locate(offset // self.grain_size)
        except UnreadableError as e:
            return e
        return super().explain(offset)

    # Runs

    def lanes(self, first_grain: int, entries: bytes) -> Words:
        """The decoded lanes of raw entries, one a grain, see ``engine``."""
        import numpy as np

        from dissect_sesparse.extent.engine import WORD

        places = np.frombuffer(entries, "<u4").astype(WORD)
        zero = (places == 1) & self.layout.zeroed
        invalid = places >= self.place_limit
        for first, end, _ in self._taken():
            invalid |= (places >= max(1, first - self._stored_sectors + 1)) & (places < end)
        lanes = np.where(places != 0, self._allocated(first_grain, places), 0).astype(WORD)
        lanes[invalid] = lane_of(State.INVALID)
        lanes[zero] = lane_of(State.ZERO)
        return lanes

    def _allocated(self, first_grain: int, places: Words) -> Words:
        """The lanes of grains as if all were allocated: their entries are their places."""
        return places | lane_of(State.ALLOCATED, placed=True)

    def layer(self, start: int, count: int, lane: int, *, keep_unmapped: bool = False) -> Layer | None:
        from dissect_sesparse.extent.engine import Layer, spread

        first, end = start // self.grain_size, -(-(start + count * lane) // self.grain_size)
        if (entries := self.entries(first, end - first)) is None:
            return None
        lanes = self.lanes(first, entries)
        if lane != self.grain_size:
            lanes = spread(lanes, self.grain_size // lane, lane // SECTOR)
        skip = (start - first * self.grain_size) // lane
        return Layer(lanes[skip : skip + count], None)

    def runs(self, start: int = 0, length: int | None = None) -> Iterator[Run]:
        return merged(self._runs(start, self.size if length is None else min(start + length, self.size)))

    def _runs(self, start: int, end: int) -> Iterator[Run]:
        from dissect_sesparse.extent.engine import runs_of

        while start < end:
            if (used := self.next_used(start, end)) > start:
                yield Run(start, min(used, end) - start, State.UNALLOCATED, None)
                start = used
                continue
            first = start // self.grain_size
            stop = min(end, (first + LANES) * self.grain_size)
            count = -(-stop // self.grain_size) - first
            lanes = self.lanes(first, self.entries(first, count) or bytes(count * 4))
            yield from runs_of(lanes, start, stop, self.grain_size)
            start = stop
