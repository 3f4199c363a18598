"""Which table is whose, by the backmap: the inverse of the tables, and directory entries given back (``salvage=1``).

Of a directory that is destroyed, an entry comes back only where it is certain which table is that slice's. Where that is not
certain, nothing there can be read.
"""

from __future__ import annotations

from array import array
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dissect_sesparse.extent.c_sesparse import TABLE_ENTRIES
from dissect_sesparse.extent.copies import Copies
from dissect_sesparse.extent.engine import places_of, slots_of, states_of, tables_of, valid_words, words
from dissect_sesparse.extent.entry import INVALID, BackmapWord, State, encode_directory_entry
from dissect_sesparse.extent.overlaid import LaidOver
from dissect_sesparse.source.errors import ExtentError, UnreadableError
from dissect_sesparse.source.file import SECTOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dissect_sesparse.extent.engine import Words
    from dissect_sesparse.extent.metadata import Metadata
    from dissect_sesparse.extent.overlaid import MetadataSource

MAX_PAIRS = 500_000
"""Tables times the blocks of the backmap that name them."""
_MAX_STRAYS = 4096
"""Tables that are looked at in the search for those that the directory has lost."""
_ASKED = 8
"""Entries of each of them."""
_MAXINVALID = 64
_MAX_VOTES = 64
_ROW = SECTOR // 8
NONE, TWO = -1, -2
"""For a place: the backmap names none, or two."""


class Inverse:
    """The backmap read as the inverse of the tables.

    Args:
        metadata: As it lies.

    Raises:
        ExtentError: If the backmap names more than can be kept in memory.
    """

    def __init__(self, metadata: Metadata):
        self.metadata = metadata
        self.copies = Copies(metadata)
        self.blocks = _blocks_of_tables(metadata)
        """By table number: the blocks of the backmap that have a word of it."""
        self.tables, self.invalid = _directory(metadata)
        """By the index of a table: which table, that is, which slice of the disk, it is. And the slices without a sound
        directory entry, the first of many."""
        self.by_table = self._reads_by_table()
        """Whether words have the number of the table, or the index; ``None`` where nothing shows which."""

    def number_of(self, index: int) -> int | None:
        """The number that words have for the table with an index; ``None`` where that is not clear."""
        table = self.tables.get(index)
        if table is None or table == index or self.by_table is False:
            return index
        return table if self.by_table else None

    def places_of(self, number: int) -> NDArray[np.int64]:
        """For each slot of a table: the place that the backmap says is its; :data:`NONE`, or :data:`TWO` for two."""
        found = np.full(TABLE_ENTRIES, NONE, np.int64)
        for block in self.blocks.get(number, ()):
            here = _words_of(self.metadata, block)
            at = np.flatnonzero(valid_words(here) & (tables_of(here) == number))
            slots = slots_of(here[at]).astype(np.intp)
            names, counts = np.unique(slots, return_counts=True)
            twice = names[(counts > 1) | (found[names] != NONE)]
            found[slots] = at + block * TABLE_ENTRIES
            found[twice] = TWO
        return found

    def _reads_by_table(self) -> bool | None:
        votes = {True: 0, False: 0}
        for index, table in self.tables.items():
            if index == table or sum(votes.values()) >= _MAX_VOTES:
                continue
            entries = self.metadata.table(index)
            slots = np.flatnonzero(states_of(entries) == State.ALLOCATED)[:1]
            for slot, place in zip(slots.tolist(), places_of(entries[slots]).tolist()):
                word = self.metadata.word(place)
                for by_table, number in ((True, table), (False, index)):
                    votes[by_table] += word == BackmapWord.of(number, slot)
        return None if bool(votes[True]) == bool(votes[False]) else bool(votes[True])

    def has_home(self, number: int) -> bool:
        """Whether the directory names a table that words have a number for."""
        if self.by_table is not False and self.metadata.raw_index_of(number) is not None:
            return True
        return self.by_table is not True and number in self.tables

    def has_grains(self, number: int) -> bool:
        """Whether a table that words have a number for may have any grain in use."""
        places = self.places_of(number)
        return bool((places == TWO).any() or (self.copies.in_use(places[places >= 0]) != 0).any())


class Directory(NamedTuple):
    """The directory with entries given back."""

    source: MetadataSource
    given_back: tuple[int, ...] = ()
    """The indexes of the tables."""
    notes: tuple[str, ...] = ()


def repair_directory(inverse: Inverse) -> Directory:
    """Give the tables that no directory entry names their entries back, where it is certain which these are."""
    source = inverse.metadata.source
    orphans = [n for n in sorted(inverse.blocks) if not inverse.has_home(n) and inverse.has_grains(n)]
    if not orphans:
        return Directory(source)
    found = _homes(inverse, orphans)
    sectors = _directory_sectors(inverse.metadata, found, all_in_doubt=len(found) < len(orphans))
    for table, index in found.items():
        inverse.tables.setdefault(index, table)
    note = (
        f"{len(found)} of {len(orphans)} tables that the backmap has grains of and the directory does not name were given "
        "back to it; where it says nothing beside them, or where a table's place is not certain, nothing can be read"
    )
    return Directory(LaidOver(source, sectors), tuple(found.values()), (note,))


def _homes(inverse: Inverse, orphans: list[int]) -> dict[int, int]:
    """The index of the table by the slice that it certainly is."""
    strays = _strays(inverse)
    count = inverse.metadata.header.table_count
    if inverse.by_table is None and any(number != index for number, index in strays.items()):
        inverse.by_table = True
    if inverse.by_table or count == 1:
        taken = {*inverse.tables, *strays.values()}
        free = (index for index in range(count) if index not in taken)
        # A table that is destroyed itself is rebuilt at any place that no other has.
        found = {number: strays[number] if number in strays else next(free, None) for number in orphans}
        return {number: index for number, index in found.items() if index is not None}
    if len(orphans) == len(inverse.invalid) == 1 and orphans[0] not in inverse.tables:
        return {inverse.invalid[0]: orphans[0]}
    return {}


def _strays(inverse: Inverse) -> dict[int, int]:
    """By its number in the backmap: the index of a table that is still there and that no directory entry names."""
    metadata, found = inverse.metadata, dict[int, int]()
    for index in range(min(metadata.header.table_count, _MAX_STRAYS)):
        if index in inverse.tables:
            continue
        entries = metadata.table(index)
        numbers = set()
        allocated = np.flatnonzero(states_of(entries) == State.ALLOCATED)
        for slot in islice(allocated.tolist(), _ASKED):
            word = metadata.word(int(places_of(entries[slot : slot + 1])[0]))
            sound = (
                word is not None and word.is_valid and word.table < metadata.header.table_count and word.slot == slot
            )
            numbers.add(word.table if sound and word is not None else -1)
        if len(numbers) == 1 and (number := numbers.pop()) >= 0:
            found.setdefault(number, index)
    return found


def _directory_sectors(metadata: Metadata, found: dict[int, int], *, all_in_doubt: bool) -> dict[int, bytes]:
    """The sectors of the directory with entries given back, and those that say nothing made INVALID."""
    rows = range(-(-metadata.header.table_count // _ROW)) if all_in_doubt else sorted({n // _ROW for n in found})
    sectors = {}
    for row in rows:
        where = metadata.directory_offset(row * _ROW)
        data = metadata.source.read_some(where, SECTOR)
        if len(data) < SECTOR:
            continue
        entries = words(data).copy()
        entries[entries == 0] = INVALID
        for table, index in found.items():
            if table // _ROW == row:
                entries[table % _ROW] = encode_directory_entry(index)
        sectors[where // SECTOR] = entries.tobytes()
    return sectors


def _words_of(metadata: Metadata, block: int) -> Words:
    """The backmap's words for the places of a block that are in the file."""
    first = block * TABLE_ENTRIES
    count = min(TABLE_ENTRIES, metadata.place_limit - first)
    try:
        return words(b"") if metadata.has_no_words(first, count) else metadata.words(first, count)
    except UnreadableError:
        return words(b"")


def _blocks_of_tables(metadata: Metadata) -> dict[int, array[int]]:
    found: dict[int, array[int]] = {}
    pairs = 0
    for block in range(-(-metadata.place_limit // TABLE_ENTRIES)):
        here = _words_of(metadata, block)
        for number in np.unique(tables_of(here[valid_words(here)])).tolist():
            if number < metadata.header.table_count:
                found.setdefault(number, array("I")).append(block)
                pairs += 1
        if pairs > MAX_PAIRS:
            raise _too_much(metadata, "places of the backmap")
    return found


def _directory(metadata: Metadata) -> tuple[dict[int, int], list[int]]:
    """By the index of a table: the slice whose it is. And the slices whose directory entry is corrupt, the first of many."""
    found: dict[int, int] = {}
    invalid: list[int] = []
    for table in metadata.tables():
        index = metadata.sound_index_of(table)
        if index is not None:
            found.setdefault(index, table)
        elif len(invalid) <= _MAXINVALID:
            invalid.append(table)
        if len(found) > MAX_PAIRS:
            raise _too_much(metadata, "tables")
    return found, invalid


def _too_much(metadata: Metadata, what: str) -> ExtentError:
    problem = f"salvage=1 would have to keep more than {MAX_PAIRS} {what} in memory"
    return ExtentError(problem, file=metadata.file.label, expected="a smaller extent, or one that is less fragmented")
