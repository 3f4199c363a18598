"""The backmap: for each place in the grains region, whose it is.

Seen once (in one real extent): 0 for an unused place, else 0x1 in the top four bits, then the number of the entry in its
table, then the number of the table, as in a table entry. Whether that number is the table's index or its place in the
directory cannot be told from that extent, where both are the same. So each extent is asked: the reading under which the
backmap agrees with the tables counts; where neither or nothing tells, a place whose two readings differ has no owner.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from dissect_sesparse.disk.c_sesparse import GRAIN_SIZE, TABLE_ENTRIES
from dissect_sesparse.disk.entry import State, decode_entry
from dissect_sesparse.disk.errors import UnreadableError
from dissect_sesparse.disk.lanes import unpack

if TYPE_CHECKING:
    from dissect_sesparse.disk.sesparse import SESparseExtent

_SAMPLES = 64
"""Tables that are asked which reading is right."""


_MAX_TABLES = 1 << 24
"""256 TiB; VMware's limit is 62."""


class Backmap:
    """The backmap of an extent."""

    def __init__(self, extent: SESparseExtent):
        self.extent = extent
        self.region = extent.header.regions["backmap"]
        self._directory: array[int] | None = None
        self._reading: str | None = None

    def words(self, place: int, count: int) -> memoryview:
        """The raw words of some places; fewer where the region or the file ends."""
        count = max(0, min(count, self.region.size // 8 - place))
        data = self.extent.metadata.read_some(self.region.offset + place * 8, count * 8)
        return unpack(data[: len(data) // 8 * 8])

    def owner(self, place: int) -> int | None:
        """The grain of the disk whose a place is or was; ``None`` where the backmap does not tell."""
        try:
            words = self.words(place, 1)
        except UnreadableError:
            return None
        return self.owner_of(words[0]) if len(words) else None

    def owner_of(self, word: int) -> int | None:
        """The grain of the disk that a word names; ``None`` where it names none."""
        if word >> 60 != 1:
            return None
        number, slot = word & (1 << 48) - 1, word >> 48 & 0xFFF
        table = number if number < self.extent.header.table_count else None
        if self.reading != "place":
            by_index = self._table_with(number)
            table = by_index if self.reading == "index" or table == by_index else None
        if table is None or (table * TABLE_ENTRIES + slot) * GRAIN_SIZE >= self.extent.size:
            return None
        return table * TABLE_ENTRIES + slot

    @property
    def reading(self) -> str:
        """What a word's table number is: ``index``, ``place`` (in the directory), or ``unknown``."""
        if self._reading is None:
            self._reading = self._ask()
        return self._reading

    def _ask(self) -> str:
        """Compare the words of allocated grains with the tables that name them, where the two readings differ."""
        agrees = {"index": 0, "place": 0}
        asked = 0
        differ = False
        for table in self.extent.tables():
            index = self._index_of(table)
            if index is None or index == table:
                continue
            differ = True
            for reading, number in (("index", index), ("place", table)):
                agrees[reading] += self._agrees(table, number)
            if (asked := asked + 1) == _SAMPLES:
                break
        if not differ:
            return "place"  # the two are the same in all tables
        found = [reading for reading, count in agrees.items() if count]
        return found[0] if len(found) == 1 else "unknown"

    def _agrees(self, table: int, number: int) -> bool:
        """Whether the word of the first allocated grain of a table names that grain, under a reading."""
        entries = self.extent.entries(table * TABLE_ENTRIES, TABLE_ENTRIES) or b""
        for slot, entry in enumerate(unpack(entries)):
            if entry >> 60 == State.ALLOCATED:
                words = self.words(decode_entry(entry)[1], 1)
                return len(words) == 1 and words[0] == 1 << 60 | slot << 48 | number
        return False

    def _index_of(self, table: int) -> int | None:
        try:
            offset = self.extent.table_offset(table)
        except UnreadableError:
            return None
        return None if offset is None else self.extent.table_index(offset)

    def _table_with(self, index: int) -> int | None:
        """The place in the directory of the table with an index. Four bytes a table are kept: 16 MiB for 62 TiB."""
        if self._directory is None:
            count = self.extent.header.table_count
            self._directory = array("i", [-1]) * min(count, _MAX_TABLES)
            for table in self.extent.tables():
                if (number := self._index_of(table)) is not None and number < len(self._directory):
                    self._directory[number] = table
        table = self._directory[index] if index < len(self._directory) else -1
        return table if table >= 0 else None
