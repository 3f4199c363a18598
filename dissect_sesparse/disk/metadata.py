"""Metadata as it is read: a file's own bytes, or with sectors laid over them that a repair has other bytes for.

The file is never written to. A laid-over file reads like an :class:`~dissect_sesparse.disk.file.EvidenceFile`, so that who
asks for an entry need not know which of the two it has; a sound extent has the file itself, and pays nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dissect_sesparse.disk.c_sesparse import SECTOR, TABLE_SIZE
from dissect_sesparse.disk.entry import decode_directory_entry
from dissect_sesparse.disk.errors import UnreadableError
from dissect_sesparse.disk.lanes import INVALID_ENTRY, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import PurePath

    from dissect_sesparse.disk.header import Header, Region

_CACHED = 4096
"""Sectors that a view keeps: 2 MiB."""


class Metadata(Protocol):
    """What metadata can be read from."""

    size: int

    @property
    def label(self) -> PurePath | str: ...

    def read(self, offset: int, length: int) -> bytes: ...

    def read_some(self, offset: int, length: int) -> bytes: ...


class LaidOver:
    """A file with some sectors replaced.

    Args:
        below: What is read where nothing is laid over it.
        sectors: New content by sector number.
        distrusted: A region in which an entry of 0 is not believed: it reads as one that is INVALID.
    """

    def __init__(self, below: Metadata, sectors: Mapping[int, bytes], distrusted: Region | None = None):
        self.below = below
        self.sectors = sectors
        self.distrusted = distrusted
        self.size = below.size
        self.label = below.label

    def read(self, offset: int, length: int) -> bytes:
        """As :meth:`EvidenceFile.read`."""
        return self._laid_over(offset, self.below.read(offset, length))

    def read_some(self, offset: int, length: int) -> bytes:
        """As :meth:`EvidenceFile.read_some`."""
        return self._laid_over(offset, self.below.read_some(offset, length))

    def _laid_over(self, offset: int, data: bytes) -> bytes:
        end = offset + len(data)
        found = [n for n in range(offset // SECTOR, -(-end // SECTOR)) if n in self.sectors]
        if found:
            patched = bytearray(data)
            for number in found:
                first, last = max(offset, number * SECTOR), min(end, (number + 1) * SECTOR)
                patched[first - offset : last - offset] = self.sectors[number][
                    first - number * SECTOR : last - number * SECTOR
                ]
            data = bytes(patched)
        region = self.distrusted
        if region is not None and region.offset <= offset and end <= region.end and not len(data) % 8:
            data = b"".join(
                INVALID_ENTRY if not entry else entry.to_bytes(8, "little") for entry in unpack(data)
            )  # entries are asked for whole
        return data


class View:
    """Single entries of directory, tables, free bitmap and backmap, to hold them against one another.

    Tables are named by their index here, not by which slice of the disk they describe. What cannot be read is ``None``.

    Args:
        source: What to read.
        header: Where the regions are.
    """

    def __init__(self, source: Metadata, header: Header):
        self.source = source
        self.header = header
        self._sectors: dict[int, memoryview] = {}

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
            if len(self._sectors) >= _CACHED:
                self._sectors = {}
            words = self._sectors[sector] = unpack(data[: len(data) // 8 * 8])
        return words[within // 8] if within // 8 < len(words) else None

    def entry(self, index: int, slot: int) -> int | None:
        """An entry of the table with an index."""
        return self._word("grain_tables", index * (TABLE_SIZE // 8) + slot)

    def word(self, place: int) -> int | None:
        """The backmap's word for a place."""
        return self._word("backmap", place)

    def bit(self, place: int) -> bool | None:
        """Whether the free bitmap says that a place is in use."""
        word = self._word("free_bitmap", place // 64)
        return None if word is None else bool(word >> place % 64 & 1)

    def table_of(self, number: int) -> int | None:
        """The index of the table of a slice of the disk; ``None`` where there is none."""
        word = self._word("grain_directory", number)
        try:
            return None if word is None else decode_directory_entry(word)
        except ValueError:
            return None

    def names(self, word: int | None, index: int, slot: int) -> bool:
        """Whether a backmap word is that of an entry: its table number is the table's index, or its slice (see ``backmap``)."""
        if not word or word >> 60 != 1 or word >> 48 & 0xFFF != slot:
            return False
        number = word & (1 << 48) - 1
        return number == index or self.table_of(number) == index

    def named_by(self, word: int) -> list[int]:
        """The entries that a backmap word may be about: one, or two where its reading is not clear."""
        number, slot = word & (1 << 48) - 1, word >> 48 & 0xFFF
        indexes = {number, self.table_of(number)}
        found = [self.entry(index, slot) for index in indexes if index is not None and index < self.header.table_count]
        return [entry for entry in found if entry is not None]
