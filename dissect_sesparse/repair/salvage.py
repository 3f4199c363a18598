"""Destroyed directory and tables rebuilt from the backmap (``salvage=1``), each table when it is read.

The backmap has the inverse of the tables (see ``backmap``; seen in one real extent), the free bitmap says which places are in
use. An entry that contradicts both is replaced by what they say. What they do not say is never made up: which grains of a
destroyed table were trimmed, zero or never written is in the table alone, so all of it that the backmap does not name cannot
be read. That a grain whose bit is still set is allocated, and not trimmed, is an inference: hosts are said to clear it.

A table is damaged where entries do not decode, name places that the backmap says are others', or are empty where backmap and
bitmap have a grain; or where it is all zero though the directory names it. Two such entries damage their whole sector.

Memory: for each table the blocks of the backmap that name it (see ``lost_tables``); some rebuilt tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dissect_sesparse.extent.c_sesparse import TABLE_ENTRIES, TABLE_SIZE
from dissect_sesparse.extent.copies import Copies
from dissect_sesparse.extent.engine import (
    WORD,
    entries_of,
    places_of,
    slots_of,
    states_of,
    successive,
    tables_of,
    valid_words,
)
from dissect_sesparse.extent.entry import INVALID, BackmapWord, State
from dissect_sesparse.extent.metadata import Metadata
from dissect_sesparse.repair.lost_tables import TWO, Inverse, repair_directory
from dissect_sesparse.source.errors import UnreadableError
from dissect_sesparse.source.file import SECTOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dissect_sesparse.extent.engine import Words
    from dissect_sesparse.extent.header import Header
    from dissect_sesparse.extent.overlaid import MetadataSource
    from dissect_sesparse.source.file import EvidenceFile

_KEPT = 64
"""Rebuilt tables that are kept: 2 MiB."""
_ROW = SECTOR // 8
"""Entries of a sector."""
_SLOTS = np.arange(TABLE_ENTRIES, dtype=WORD)


class Salvage:
    """A source with what is destroyed of directory and tables replaced.

    Args:
        file: The extent's file.
        header: Where the regions are.
        below: What is read as it lies: the file, or with the journal laid over it.

    Raises:
        ExtentError: If the backmap names more than can be kept in memory.
    """

    def __init__(self, file: EvidenceFile, header: Header, below: MetadataSource):
        self.header = header
        self.size, self.label = below.size, below.label
        self.rebuilt_entries = self.lost_entries = self.damaged_tables = 0
        self._seen: set[int] = set()
        self._kept: dict[int, bytes] = {}
        self._good = bytearray(header.table_count // 8 + 1)
        """A bit for each table that is left as it lies."""
        inverse = Inverse(Metadata(file, header, below))
        lost = repair_directory(inverse)
        self.notes = lost.notes
        """What was done to the directory."""
        self._given_back = frozenset(lost.given_back)
        self._inverse = inverse
        self._below = lost.source
        self._metadata = Metadata(file, header, lost.source)
        self._copies = Copies(self._metadata)
        self._tables = header.regions["grain_tables"]

    # Reading

    def read(self, offset: int, length: int) -> bytes:
        """As :meth:`EvidenceFile.read`."""
        return self._patched(offset, self._below.read(offset, length))

    def read_some(self, offset: int, length: int) -> bytes:
        """As :meth:`EvidenceFile.read_some`."""
        return self._patched(offset, self._below.read_some(offset, length))

    def _patched(self, offset: int, data: bytes) -> bytes:
        start = self._tables.offset
        end = min(offset + len(data), self._tables.end)
        if offset >= end or end <= start:
            return data
        for index in range(max(0, offset - start) // TABLE_SIZE, -(-(end - start) // TABLE_SIZE)):
            if (table := self._table(index)) is not None:
                at = start + index * TABLE_SIZE
                first, last = max(offset, at), min(end, at + len(table))
                data = data[: first - offset] + table[first - at : last - at] + data[max(first, last) - offset :]
        return data

    def _table(self, index: int) -> bytes | None:
        """A table with what is destroyed of it replaced; ``None`` for one that is left as it lies."""
        byte, bit = divmod(index, 8)
        if index >= self.header.table_count or self._good[byte] >> bit & 1:
            return None
        if (table := self._kept.get(index)) is None:
            if (table := self._rebuilt(index)) is None:
                self._good[byte] |= 1 << bit
                return None
            if len(self._kept) >= _KEPT:
                self._kept = {}
            self._kept[index] = table
        return table

    def check(self) -> None:
        """Look at all tables, so that what was rebuilt is known."""
        for index in sorted(self._inverse.tables):
            if index not in self._seen:
                try:
                    self._table(index)
                except UnreadableError:  # reported by the read that meets it
                    continue

    @property
    def changed(self) -> bool:
        """Whether anything was rebuilt so far."""
        return bool(self.notes or self.damaged_tables)

    # Tables

    def _rebuilt(self, index: int) -> bytes | None:
        if index not in self._inverse.tables or (number := self._inverse.number_of(index)) is None:
            return None
        entries = self._metadata.table(index)
        if len(entries) < TABLE_ENTRIES or self._is_good(entries, number):
            return None
        named = self._inverse.places_of(number)
        words = self._words_of(entries)
        confirmed = self._are_confirmed(entries, words, index)
        bad = ~self._are_right(entries, words, named, confirmed)
        if not bad.any() and entries.any():
            return None
        replaced = bad | self._in_doubt(entries, bad, index) & ~confirmed
        known = replaced & (named >= 0) & (self._copies.in_use(named) == 1)
        table = entries.copy()
        table[replaced] = INVALID
        table[known] = entries_of(State.ALLOCATED, named[known])
        if index not in self._seen:
            self._seen.add(index)
            self.damaged_tables += 1
            self.rebuilt_entries += int(known.sum())
            self.lost_entries += int(replaced.sum() - known.sum())
        return table.tobytes()

    def _in_doubt(self, entries: Words, bad: NDArray[np.bool_], index: int) -> NDArray[np.bool_]:
        """The entries of the sectors in which more than one is bad, and of those that are blank where others are damaged."""
        counts = bad.reshape(-1, _ROW).sum(axis=1)
        damaged = not entries.any() or bool((counts > 1).any())
        doubtful = (counts > 1) | (damaged & ~entries.reshape(-1, _ROW).any(axis=1))
        if index in self._given_back:  # what lies there may be another table
            doubtful[:] = True
        return np.repeat(doubtful, _ROW)

    def _is_good(self, entries: Words, number: int) -> bool:
        """The quick test for the usual table: all allocated, one place after the other, and the backmap says the same."""
        place = successive(entries, State.ALLOCATED)
        if place is None or place % TABLE_ENTRIES or place + TABLE_ENTRIES > self._metadata.place_limit:
            return False
        words = self._metadata.words(place, TABLE_ENTRIES)
        return (
            len(words) == TABLE_ENTRIES
            and int(words[0]) == BackmapWord.of(number, 0)
            and successive(words, State.UNMAPPED) == number * TABLE_ENTRIES
        )

    def _words_of(self, entries: Words) -> Words:
        """The backmap's words for the places of allocated entries; 0 for others."""
        words = np.zeros(len(entries), WORD)
        places = places_of(entries)
        asked = np.flatnonzero((states_of(entries) == State.ALLOCATED) & (places < self._metadata.place_limit))
        words[asked] = self._copies.words_at(places[asked])
        return words

    def _are_confirmed(self, entries: Words, words: Words, index: int) -> NDArray[np.bool_]:
        """Which entries are allocated ones that the backmap's words name: by the table's index, or by its slice."""
        valid = valid_words(words) & (slots_of(words) == _SLOTS)
        numbers = tables_of(words)
        ours = [n for n in np.unique(numbers[valid]).tolist() if index in (n, self._metadata.raw_index_of(n))]
        return valid & np.isin(numbers, np.array(ours, WORD))

    def _are_right(
        self, entries: Words, words: Words, named: NDArray[np.int64], confirmed: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Which entries nothing contradicts.

        Args:
            entries: Of the table.
            words: Of their places.
            named: The places that the backmap says are theirs.
            confirmed: Which of them the words name.
        """
        states, places = states_of(entries), places_of(entries)
        allocated = states == State.ALLOCATED
        corrupt = (states > State.ALLOCATED) | (states == State.UNALLOCATED) & (entries != 0)
        corrupt |= allocated & (places >= self._metadata.place_limit)
        # a word that cannot be one holds nothing against a table
        sound = valid_words(words) & (tables_of(words) < self.header.table_count)
        as_named = (states == State.UNMAPPED) & (places.astype(np.int64) == named) | (self._copies.in_use(named) == 0)
        contradicted = (named == TWO) | (named >= 0) & ~as_named
        return ~corrupt & (confirmed | ~(allocated & sound) & ~contradicted)
