"""The one way to an extent's metadata: directory, tables, free bitmap and backmap.

Who asks for an entry, a bit or a word does not know whether the file's own bytes, the replayed journal or a rebuilt table
answers (see ``source``), nor where in the file they lie.

*table*: number of a slice of 16 MiB of the disk; *index*: of a grain table in the file; *slot*: of an entry in its table;
*place*: of a grain in the grains region.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE, TABLE_COVERS, TABLE_ENTRIES, TABLE_SIZE
from dissect_sesparse.extent.doubt import ZEROS_ADVICE
from dissect_sesparse.extent.entry import INVALID, INVALID_ENTRY, BackmapWord, decode_directory_entry, unpack
from dissect_sesparse.extent.header import MAX_FILE_SIZE
from dissect_sesparse.source.errors import Kind, UnreadableError
from dissect_sesparse.source.file import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from dissect_sesparse.extent.doubt import Emptied, Repair
    from dissect_sesparse.extent.engine import Words
    from dissect_sesparse.extent.header import Header
    from dissect_sesparse.extent.overlaid import MetadataSource
    from dissect_sesparse.source.file import EvidenceFile

_DIRECTORY_CHUNK = 8192
"""Directory entries looked at in one go (64 KiB, 128 GiB of the disk)."""
_DIRECTORY_CACHED, _DIRECTORY_PIECES = 512, 8
"""Directory entries in a piece of the cache (4 KiB, 8 GiB of the disk), and how many pieces are kept."""
_SECTORS_CACHED = 4096
"""Sectors that are kept for single entries, words and bits: 2 MiB."""


def _numbers(data: bytes) -> Words:
    from dissect_sesparse.extent.engine import words  # numpy

    return words(data)


class Metadata:
    """The metadata of an extent.

    Args:
        file: The extent's file.
        header: Where the regions are.
        source: What is read in the file's stead, where something was repaired.
        repair: What was.
        emptied: What shows that directory or tables were emptied.
    """

    def __init__(
        self,
        file: EvidenceFile,
        header: Header,
        source: MetadataSource | None = None,
        repair: Repair | None = None,
        emptied: Emptied | None = None,
    ):
        self.file = file
        self.header = header
        self.source: MetadataSource = source if source is not None else file
        self.repair = repair
        self.emptied = emptied
        regions = header.regions
        self._directory, self._tables = regions["grain_directory"], regions["grain_tables"]
        self._bitmap, self._backmap = regions["free_bitmap"], regions["backmap"]
        self.grains_offset = regions["grains"].offset
        """Where in the file place 0 is, in bytes."""
        self._pieces: dict[int, bytes] = {}
        self._sectors: dict[int, tuple[int, ...]] = {}

    @cached_property
    def place_limit(self) -> int:
        """The first place of which no byte is both in the grains region and in the file."""
        inside = min(self.header.regions["grains"].end, self.file.size, MAX_FILE_SIZE) - self.grains_offset
        return max(0, -(-inside // GRAIN_SIZE))

    @cached_property
    def whole_places(self) -> int:
        """The first place that is not whole in the file, or not in the grains region.

        That region is as large as the disk, so its last place may reach beyond it: its bytes are read all the same.
        """
        return max(0, min(self.place_limit, (self.file.size - self.grains_offset) // GRAIN_SIZE))

    @property
    def last_grain(self) -> int:
        """The disk's last grain, which it may have in part."""
        return -(-self.header.capacity // GRAIN_SIZE) - 1

    def has_last(self, place: int) -> bool:
        """Whether the file has, at a place that is not whole, all that the disk's last grain has: it may be shorter."""
        size = self.header.capacity % GRAIN_SIZE or GRAIN_SIZE
        return place < self.place_limit and self.grains_offset + place * GRAIN_SIZE + size <= self.file.size

    # Offsets in the file

    def directory_offset(self, table: int) -> int:
        """Of the directory's entry for a table."""
        return self._directory.offset + table * 8

    def entry_offset(self, index: int, slot: int = 0) -> int:
        """Of an entry of the table with an index."""
        return self._tables.offset + index * TABLE_SIZE + slot * 8

    def bit_offset(self, place: int) -> int:
        """Of the byte with the free bitmap's bit for a place."""
        return self._bitmap.offset + place // 8

    def word_offset(self, place: int) -> int:
        """Of the backmap's word for a place."""
        return self._backmap.offset + place * 8

    # Directory

    def index_of(self, table: int) -> int | None:
        """The index of a table; ``None`` where the directory names none.

        Raises:
            UnreadableError: If the directory's entry is corrupt or names a table outside the tables' region.
        """
        entry = self._directory_entry(table)
        try:
            index = decode_directory_entry(entry)
        except ValueError as e:
            raise self.broken(str(e), f"grain directory entry {table}", entry, self.directory_offset(table)) from None
        # The region is at least that large, checked at open; what follows is its rounding up, in which no table is.
        if index is not None and index >= self.header.table_count:
            problem = f"a disk of this size has {self.header.table_count} tables"
            raise self.broken(problem, f"grain directory entry {table}", entry, self.directory_offset(table))
        return index

    def _directory_entry(self, table: int) -> int:
        """A directory entry, by way of a small cache: a read that looks for one grain asks for little else."""
        number, slot = divmod(table, _DIRECTORY_CACHED)
        if (piece := self._pieces.get(number)) is None:
            where = self.directory_offset(number * _DIRECTORY_CACHED)
            count = min(_DIRECTORY_CACHED, self.header.table_count - number * _DIRECTORY_CACHED)
            piece = self.source.read_some(where, count * 8)
            if len(self._pieces) >= _DIRECTORY_PIECES:
                self._pieces = {}
            self._pieces[number] = piece
        if slot * 8 + 8 > len(piece):  # the file ends before it
            return int.from_bytes(self.source.read(self.directory_offset(table), 8), "little")
        return int.from_bytes(piece[slot * 8 : slot * 8 + 8], "little")

    def sound_index_of(self, table: int) -> int | None:
        """The same, with ``None`` also where the entry is corrupt or cannot be had."""
        try:
            return self.index_of(table)
        except UnreadableError:
            return None

    @property
    def lost_from(self) -> int:
        """The first byte of the disk whose directory entry is behind the file's end, in a copy that was cut off.

        The capacity where there is none; 0 where directory or tables were emptied.
        """
        if self.emptied is not None:
            return 0
        return min(max(0, self.file.size - self._directory.offset) // 8 * TABLE_COVERS, self.header.capacity)

    def tables(self, first: int = 0, end: int | None = None) -> Iterator[int]:
        """The tables whose directory entry is not 0, valid or not; holes are skipped at once.

        Of those from :attr:`lost_from` on nothing is known, and they are as many as the header says: none is given.
        """
        known = -(-self.lost_from // TABLE_COVERS)
        end = known if end is None else min(end, known)
        count = 16  # look at few entries first: most often the next one is used
        while first < end:
            count = min(count * 4, _DIRECTORY_CHUNK, end - first)
            try:
                data = self.source.read_some(self.directory_offset(first), count * 8)
            except UnreadableError:  # reported by the read that meets it
                data = b""
            data = data[: len(data) // 8 * 8]
            if data != bytes(len(data)):
                yield from (first + i for i, entry in enumerate(unpack(data)) if entry)
            yield from range(first + len(data) // 8, first + count)  # came back short: not known to be empty
            first += count

    # Tables

    def entry(self, grain: int) -> tuple[int, int] | None:
        """The raw entry of a grain of the disk, and where in the file it is; ``None`` where it has no table.

        Raises:
            UnreadableError: If the way to it is corrupt, or the file ends before it.
        """
        table, slot = divmod(grain, TABLE_ENTRIES)
        if (index := self.index_of(table)) is None:
            return None
        where = self.entry_offset(index, slot)
        return int.from_bytes(self.source.read(where, 8), "little"), where

    def entries(self, first_grain: int, count: int) -> Words | None:
        """Raw entries of ``count`` grains of the disk; ``None`` if no table covers any of them.

        A directory entry or a table that cannot be had gives entries that decode to INVALID.
        """
        return _numbers(data) if (data := self.raw_entries(first_grain, count)) else None

    def raw_entries(self, first_grain: int, count: int) -> bytes | None:
        """The same, as the bytes of the entries."""
        if self.emptied is not None:
            return INVALID_ENTRY * count
        pieces, end = [], first_grain + count
        while first_grain < end:
            table, start = divmod(first_grain, TABLE_ENTRIES)
            n = min(end - first_grain, TABLE_ENTRIES - start)
            pieces.append((self._table_part(table, start, n), n))
            first_grain += n
        return b"".join(piece or bytes(n * 8) for piece, n in pieces) if any(piece for piece, _ in pieces) else None

    def _table_part(self, table: int, start: int, count: int) -> bytes | None:
        """``count`` raw entries of a table from ``start`` on; ``None`` without one, INVALID where they cannot be had."""
        try:
            if (index := self.index_of(table)) is None:
                return None
            piece = self.source.read_some(self.entry_offset(index, start), count * 8)
        except UnreadableError:
            piece = b""
        if len(piece) == count * 8:
            return piece
        return piece[: len(piece) // 8 * 8] + INVALID_ENTRY * (count - len(piece) // 8)

    def sound_tables(self, first: int = 0, end: int | None = None) -> Iterator[tuple[int, Words]]:
        """The first grain and the raw entries of each table that there is and that can be read; 32 KiB at a time.

        Args:
            first: The first table that is looked at.
            end: The one behind the last.
        """
        grains = -(-self.header.capacity // GRAIN_SIZE)
        for table in self.tables(first, end):
            try:
                if (index := self.index_of(table)) is not None:
                    count = min(TABLE_ENTRIES, grains - table * TABLE_ENTRIES)
                    yield table * TABLE_ENTRIES, _numbers(self.source.read_some(self.entry_offset(index), count * 8))
            except UnreadableError:  # reported by the findings
                continue

    def table(self, index: int) -> Words:
        """The raw entries of the table with an index, whoever names it; fewer where the file ends."""
        return _numbers(self.source.read_some(self.entry_offset(index), TABLE_SIZE))

    # Free bitmap and backmap: many places

    def bits(self, first: int, count: int) -> NDArray[np.bool_]:
        """The free bitmap's bits for some places, of which the first is a multiple of 8.

        Fewer where the region or the file ends, or no grain can be any more.
        """
        from dissect_sesparse.extent.engine import bits_of

        data = self.source.read_some(
            self.bit_offset(first), max(0, min(-(-count // 8), self._bitmap.size - first // 8))
        )
        return bits_of(data)[: max(0, min(count, self.place_limit - first))]

    def words(self, first: int, count: int) -> Words:
        """The backmap's words for some places; fewer where the region or the file ends."""
        count = max(0, min(count, self._backmap.size // 8 - first))
        return _numbers(self.source.read_some(self.word_offset(first), count * 8))

    def has_no_words(self, first: int, count: int) -> bool:
        """Whether the words of some places are a hole of the file, so that nothing has to be read to see that they are 0."""
        if self.source is not self.file:
            return False
        return self.file.next_data(self.word_offset(first)) >= self.word_offset(first + count)

    # Single entries, words and bits, to hold them against one another; what cannot be read is None

    def _word(self, region: str, number: int) -> int | None:
        place = self.header.regions[region]
        offset = place.offset + number * 8
        if number < 0 or offset + 8 > place.end:
            return None
        sector, within = divmod(offset, SECTOR)
        if (words := self._sectors.get(sector)) is None:
            try:
                data = self.source.read_some(sector * SECTOR, SECTOR)
            except UnreadableError:
                data = b""
            if len(self._sectors) >= _SECTORS_CACHED:
                self._sectors = {}
            words = self._sectors[sector] = unpack(data)
        return words[within // 8] if within // 8 < len(words) else None

    def raw_entry(self, index: int, slot: int) -> int | None:
        """An entry of the table with an index."""
        return self._word("grain_tables", index * TABLE_ENTRIES + slot)

    def word(self, place: int) -> BackmapWord | None:
        """The backmap's word for a place."""
        return None if (word := self._word("backmap", place)) is None else BackmapWord(word)

    def bit(self, place: int) -> bool | None:
        """Whether the free bitmap says that a place is in use."""
        word = self._word("free_bitmap", place // 64)
        return None if word is None else bool(word >> place % 64 & 1)

    def raw_index_of(self, table: int) -> int | None:
        """The index of a table by the directory's entry alone; ``None`` where there is none."""
        word = self._word("grain_directory", table)
        try:
            return None if word is None else decode_directory_entry(word)
        except ValueError:
            return None

    def broken(self, problem: str, field: str, value: int, where: int, kind: Kind = Kind.INVALID) -> UnreadableError:
        """The error for an entry that cannot be.

        Args:
            problem: What is wrong with it.
            field: Its name.
            value: The raw entry.
            where: Its byte in the file.
            kind: Of the error.
        """
        advice = ZEROS_ADVICE
        if self.source is not self.file and value == INVALID:
            value = int.from_bytes(self.file.read_some(where, 8), "little")
            if self.repair is not None and (doubt := self.repair.doubt) is not None:
                problem, advice = doubt.problem, f"{doubt.advice}, {advice}"
        return UnreadableError(
            problem, file=self.file.label, field=field, value=value, source_offset=where, advice=advice, kind=kind
        )

    def why_nothing(self) -> UnreadableError | None:
        """Why no entry can be had at all, where directory or tables were emptied."""
        if self.emptied is None:
            return None
        return UnreadableError(
            str(self.emptied),
            file=self.file.label,
            source_offset=self.header.regions[self.emptied.region].offset,
            kind=Kind.LOST,
            advice=f"salvage=1 rebuilds them from the backmap, {ZEROS_ADVICE}",
        )
