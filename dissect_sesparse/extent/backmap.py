"""The backmap: for each place in the grains region, whose it is.

Seen once (in one real extent): 0 for an unused place, else 0x1 in the top four bits, then the number of the entry in its
table, then the number of the table, as in a table entry. Whether that number is the table's index or its place in the
directory cannot be told from that extent, where both are the same. So each extent is asked: the reading under which the
backmap agrees with the tables counts; where neither or nothing tells, a place whose two readings differ has no owner.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE, TABLE_ENTRIES
from dissect_sesparse.extent.engine import slots_of, states_of, tables_of, valid_words
from dissect_sesparse.extent.entry import BackmapWord, State, decode_entry
from dissect_sesparse.source.errors import UnreadableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dissect_sesparse.extent.engine import Words
    from dissect_sesparse.extent.metadata import Metadata

_SAMPLES = 64
"""Tables that are asked which reading is right."""
_MAX_TABLES = 1 << 24
"""256 TiB; VMware's limit is 62."""


class Backmap:
    """The backmap of an extent.

    Args:
        metadata: Of the extent.
    """

    def __init__(self, metadata: Metadata):
        self.metadata = metadata
        self._grains = -(-metadata.header.capacity // GRAIN_SIZE)
        self._directory: NDArray[np.int32] | None = None

    def owner(self, place: int) -> int | None:
        """The grain of the disk whose a place is or was; ``None`` where the backmap does not say."""
        try:
            found = self.metadata.words(place, 1)
        except UnreadableError:
            return None
        owner = int(self.owners_of(found)[0]) if len(found) else -1
        return owner if owner >= 0 else None

    def owners_of(self, found: Words) -> NDArray[np.int64]:
        """The grains of the disk that some words name; -1 where one names none, or it is not clear which."""
        tables, known = tables_of(found).astype(np.int64), valid_words(found)
        if self.reading != "table":
            by_index = self._tables_with(tables)
            if self.reading == "unknown":
                known = known & (by_index == tables)
            tables = by_index
        known = known & (tables >= 0) & (tables < self.metadata.header.table_count)
        grains = np.where(known, tables * TABLE_ENTRIES + slots_of(found).astype(np.int64), -1)
        return np.where(grains < self._grains, grains, -1)

    @cached_property
    def reading(self) -> str:
        """What a word's table number is: the ``index``, or the ``table`` (its place in the directory), or ``unknown``.

        Words of allocated grains are compared with the tables that name them, where the two readings differ.
        """
        agrees = {"index": 0, "table": 0}
        asked = 0
        for table in self.metadata.tables():
            index = self.metadata.sound_index_of(table)
            if index is None or index == table:
                continue
            for reading, number in (("index", index), ("table", table)):
                agrees[reading] += self._agrees(table, number)
            if (asked := asked + 1) == _SAMPLES:
                break
        if not asked:
            return "table"  # the two are the same in all tables
        found = [reading for reading, count in agrees.items() if count]
        return found[0] if len(found) == 1 else "unknown"

    def number_of(self, table: int) -> int:
        """The number by which words name a table."""
        index = self.metadata.sound_index_of(table) if self.reading == "index" else None
        return table if index is None else index

    def _agrees(self, table: int, number: int) -> bool:
        """Whether the word of the first allocated grain of a table names that grain, under a reading."""
        entries = self.metadata.entries(table * TABLE_ENTRIES, TABLE_ENTRIES)
        if entries is None or not len(slots := np.flatnonzero(states_of(entries) == State.ALLOCATED)):
            return False
        slot = int(slots[0])
        found = self.metadata.words(decode_entry(int(entries[slot]))[1], 1)
        return len(found) == 1 and int(found[0]) == BackmapWord.of(number, slot)

    def _tables_with(self, indexes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The tables with some indexes; -1 for none. Four bytes a table are kept: 16 MiB for 62 TiB."""
        if self._directory is None:
            self._directory = np.full(min(self.metadata.header.table_count, _MAX_TABLES), -1, np.int32)
            for table in self.metadata.tables():
                index = self.metadata.sound_index_of(table)
                if index is not None and index < len(self._directory):
                    self._directory[index] = table
        inside = indexes < len(self._directory)
        return np.where(inside, self._directory[np.where(inside, indexes, 0)], -1).astype(np.int64)
