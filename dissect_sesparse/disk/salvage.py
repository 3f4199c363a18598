"""Destroyed directory and tables rebuilt from the backmap (``salvage=1``), each table when it is read.

The backmap has the inverse of the tables (see ``backmap``; seen in one real extent), the free bitmap says which places are in
use. An entry that contradicts both is replaced by what they say. What they cannot tell is never made up: which grains of a
destroyed table were trimmed, zero or never written is in the table alone, so all of it that the backmap does not name cannot
be read. That a grain whose bit is still set is allocated, and not trimmed, is an inference: hosts are said to clear it.

A table is damaged where entries do not decode, name places that the backmap says are others', or are empty where backmap and
bitmap have a grain; or where it is all zero though the directory names it. Two such entries damage their whole sector.

Memory: for each table the blocks of the backmap that name it, at most :data:`MAX_PAIRS` of these; some rebuilt tables.
"""

from __future__ import annotations

from array import array
from itertools import islice
from typing import TYPE_CHECKING

from dissect_sesparse.disk.c_sesparse import GRAIN_SIZE, SECTOR, TABLE_ENTRIES, TABLE_SIZE
from dissect_sesparse.disk.entry import (
    State,
    decode_directory_entry,
    decode_entry,
    encode_directory_entry,
    encode_entry,
)
from dissect_sesparse.disk.errors import ExtentError, UnreadableError
from dissect_sesparse.disk.lanes import INVALID_ENTRY, blocks, successive, unpack
from dissect_sesparse.disk.metadata import LaidOver, Metadata, View

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.disk.header import Header

MAX_PAIRS = 500_000
"""Tables times the blocks of the backmap that name them."""
_KEPT = 64
_MAX_STRAYS = 4096
"""Tables that are looked at in the search for those that the directory has lost."""
_ASKED = 8
"""Entries of each of them."""
_ROW = SECTOR // 8
_INVALID = int.from_bytes(INVALID_ENTRY, "little")
_SLICE = (1 << 48) - 1


class Salvage:
    """Metadata with what is destroyed of directory and tables replaced. Reads like a file.

    Args:
        below: The metadata as it lies, or with the journal laid over it.
        header: Where the regions are.

    Raises:
        ExtentError: If the backmap names more than can be kept in memory.
    """

    def __init__(self, below: Metadata, header: Header):
        self.header = header
        self.size, self.label = below.size, below.label
        self.rebuilt_entries = self.lost_entries = self.damaged_tables = 0
        self.notes: list[str] = []
        """What was done to the directory."""
        self._tables = header.regions["grain_tables"]
        self._seen: set[int] = set()
        self._kept: dict[int, bytes] = {}
        self._good = bytearray(header.table_count // 8 + 1)
        """A bit for each table that is left as it lies."""
        self._bitmap: dict[int, bool] = {}
        self._given_back: set[int] = set()
        inside = min(header.regions["grains"].end, below.size) - header.regions["grains"].offset
        self._places = max(0, -(-inside // GRAIN_SIZE))
        self._blocks = _blocks_of_tables(below, header, self._places)
        self._slices = _slices_of_tables(below, header)
        self._below = below
        self._view = View(below, header)
        self._by_slice = self._reads_by_slice()
        self._repair_directory()

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
        for index in sorted(self._slices):
            if index not in self._seen:
                try:
                    self._table(index)
                except UnreadableError:  # told by the read that meets it
                    continue

    @property
    def changed(self) -> bool:
        """Whether anything was rebuilt so far."""
        return bool(self.notes or self.damaged_tables)

    # The backmap

    def _numbers(self, index: int) -> int | None:
        """The number that the backmap's words have for a table; ``None`` where that cannot be told."""
        place = self._slices.get(index)
        if place is None or place == index or self._by_slice is False:
            return index
        return place if self._by_slice else None

    def _named(self, number: int) -> dict[int, int | None]:
        """Whose places the backmap says are a table's, by the entry; ``None`` where it says so of two."""
        found: dict[int, int | None] = {}
        for block in self._blocks.get(number, ()):
            words = _backmap_words(self._below, self.header, block, self._places)
            for at, word in enumerate(words):
                if word >> 60 == 1 and word & _SLICE == number:
                    slot = word >> 48 & 0xFFF
                    found[slot] = None if slot in found else block * TABLE_ENTRIES + at
        return found

    def _in_use(self, place: int) -> bool | None:
        """What the free bitmap says of a place; ``None`` where the sector it is in says nothing of any."""
        if self._view.bit(place):
            return True
        sector = place // (SECTOR * 8)
        if sector not in self._bitmap:
            data = self._below.read_some(self.header.regions["free_bitmap"].offset + sector * SECTOR, SECTOR)
            self._bitmap[sector] = any(data)
        return False if self._bitmap[sector] else None

    def _reads_by_slice(self) -> bool | None:
        """Whether the backmap's words have the number of the slice, or of the table; ``None`` where nothing tells."""
        votes = {True: 0, False: 0}
        for index, place in self._slices.items():
            if index == place or sum(votes.values()) >= _KEPT:
                continue
            for slot in range(TABLE_ENTRIES):
                entry = self._view.entry(index, slot) or 0
                if entry >> 60 == State.ALLOCATED:
                    word = self._view.word(decode_entry(entry)[1]) or 0
                    for by_slice, number in ((True, place), (False, index)):
                        votes[by_slice] += word == 1 << 60 | slot << 48 | number
                    break
        if bool(votes[True]) == bool(votes[False]):
            return None
        return bool(votes[True])

    # Tables

    def _rebuilt(self, index: int) -> bytes | None:
        if index not in self._slices or (number := self._numbers(index)) is None:
            return None
        data = self._below.read_some(self._tables.offset + index * TABLE_SIZE, TABLE_SIZE)
        if len(data) < TABLE_SIZE or self._is_good(data, number):
            return None
        named = self._named(number)
        entries = list(unpack(data))
        bad = {slot for slot, entry in enumerate(entries) if not self._is_right(entry, slot, index, named)}
        empty = not any(entries)
        if not bad and not empty:
            return None
        rows = [sum(slot in bad for slot in range(row, row + _ROW)) for row in range(0, TABLE_ENTRIES, _ROW)]
        damaged = empty or any(count > 1 for count in rows)
        if index in self._given_back:  # what lies there may be another table
            rows = [TABLE_ENTRIES] * len(rows)
        blank = [damaged and not any(entries[row : row + _ROW]) for row in range(0, TABLE_ENTRIES, _ROW)]
        rebuilt = lost = 0
        for slot, entry in enumerate(entries):
            in_doubt = rows[slot // _ROW] > 1 or blank[slot // _ROW]
            if slot not in bad and not (in_doubt and not self._is_confirmed(entry, slot, index)):
                continue
            place = named.get(slot)
            if place is not None and self._in_use(place):
                entries[slot] = encode_entry(State.ALLOCATED, place)
                rebuilt += 1
            else:
                entries[slot] = _INVALID
                lost += 1
        if index not in self._seen:
            self._seen.add(index)
            self.damaged_tables += 1
            self.rebuilt_entries += rebuilt
            self.lost_entries += lost
        return array("Q", entries).tobytes()

    def _is_good(self, data: bytes, number: int) -> bool:
        """The quick test for the usual table: all allocated, one place after the other, and the backmap says the same."""
        place = successive(data, State.ALLOCATED)
        if place is None or place % TABLE_ENTRIES or place + TABLE_ENTRIES > self._places:
            return False
        words = _backmap_words(self._below, self.header, place // TABLE_ENTRIES, self._places)
        return (
            len(words) == TABLE_ENTRIES
            and words[0] == 1 << 60 | number
            and successive(bytes(words), State.UNMAPPED) == number << 12
        )

    def _is_right(self, entry: int, slot: int, index: int, named: dict[int, int | None]) -> bool:
        """Whether nothing contradicts an entry."""
        try:
            state, place = decode_entry(entry)
        except ValueError:
            return False
        if state == State.ALLOCATED:
            if place >= self._places:
                return False
            word = self._view.word(place) or 0
            if self._view.names(word, index, slot):
                return True
            if self._is_sound(word):
                return False
        if slot not in named:
            return True
        mine = named[slot]
        if mine is None or (state == State.UNMAPPED and place == mine):
            return mine is not None
        return self._in_use(mine) is False

    def _is_sound(self, word: int) -> bool:
        """Whether a backmap word can be one; what is not holds nothing against a table."""
        return word >> 60 == 1 and word & _SLICE < self.header.table_count

    def _is_confirmed(self, entry: int, slot: int, index: int) -> bool:
        if entry >> 60 != State.ALLOCATED:
            return False
        place = decode_entry(entry)[1]
        return place < self._places and self._view.names(self._view.word(place), index, slot)

    # Directory

    def _repair_directory(self) -> None:
        """Give the tables that no directory entry names their entries back, where it is certain which these are."""
        invalid = _invalid_directory_entries(self._below, self.header)
        orphans = [n for n in sorted(self._blocks) if not self._has_home(n) and self._has_grains(n)]
        if not orphans:
            return
        found = self._homes(orphans, invalid)
        sectors = self._directory_sectors(found, all_in_doubt=len(found) < len(orphans))
        self._below = LaidOver(self._below, sectors)
        for number, index in found.items():
            self._slices.setdefault(index, number)
        self._given_back = set(found.values())
        self._view = View(self._below, self.header)
        self.notes.append(
            f"{len(found)} of {len(orphans)} tables that the backmap has grains of and the directory does not name were given "
            "back to it; where it says nothing beside them, or where a table's place is not certain, nothing can be read"
        )

    def _has_home(self, number: int) -> bool:
        if self._by_slice is not False and self._view.table_of(number) is not None:
            return True
        return self._by_slice is not True and number in self._slices

    def _has_grains(self, number: int) -> bool:
        places = self._named(number).values()
        return any(place is None or self._in_use(place) is not False for place in places)

    def _homes(self, orphans: list[int], invalid: list[int]) -> dict[int, int]:
        """The index of the table by the slice that it certainly describes."""
        strays = self._strays()
        if self._by_slice is None and any(number != index for number, index in strays.items()):
            self._by_slice = True
        if self._by_slice or self.header.table_count == 1:
            taken = {*self._slices, *strays.values()}
            free = (index for index in range(self.header.table_count) if index not in taken)
            # A table that is destroyed itself is rebuilt at any place that no other has.
            found = {number: strays[number] if number in strays else next(free, None) for number in orphans}
            return {number: index for number, index in found.items() if index is not None}
        if len(orphans) == len(invalid) == 1 and orphans[0] not in self._slices:
            return {invalid[0]: orphans[0]}
        return {}

    def _strays(self) -> dict[int, int]:
        """By its number in the backmap: the index of a table that is still there and that no directory entry names."""
        found: dict[int, int] = {}
        for index in range(min(self.header.table_count, _MAX_STRAYS)):
            if index in self._slices:
                continue
            data = self._below.read_some(self._tables.offset + index * TABLE_SIZE, TABLE_SIZE)
            numbers = set()
            entries = enumerate(unpack(data[: len(data) // 8 * 8])) if any(data) else ()
            allocated = ((slot, entry) for slot, entry in entries if entry >> 60 == State.ALLOCATED)
            for slot, entry in islice(allocated, _ASKED):
                word = self._view.word(decode_entry(entry)[1]) or 0
                numbers.add(word & _SLICE if self._is_sound(word) and word >> 48 & 0xFFF == slot else -1)
            if len(numbers) == 1 and (number := numbers.pop()) >= 0:
                found.setdefault(number, index)
        return found

    def _directory_sectors(self, found: dict[int, int], *, all_in_doubt: bool) -> dict[int, bytes]:
        region = self.header.regions["grain_directory"]
        first = region.offset // SECTOR
        rows = (
            range(-(-self.header.table_count // _ROW)) if all_in_doubt else sorted({number // _ROW for number in found})
        )
        sectors = {}
        for row in rows:
            data = self._below.read_some(region.offset + row * SECTOR, SECTOR)
            if len(data) < SECTOR:
                continue
            entries = [entry or _INVALID for entry in unpack(data)]
            for number, index in found.items():
                if number // _ROW == row:
                    entries[number % _ROW] = encode_directory_entry(index)
            sectors[first + row] = array("Q", entries).tobytes()
        return sectors


def _backmap_words(source: Metadata, header: Header, block: int, places: int) -> memoryview:
    """The backmap's words for the places of a block that are in the file."""
    region = header.regions["backmap"]
    count = max(0, min(TABLE_ENTRIES, places - block * TABLE_ENTRIES, region.size // 8 - block * TABLE_ENTRIES))
    try:
        data = source.read_some(region.offset + block * TABLE_SIZE, count * 8)
    except UnreadableError:
        data = b""
    return unpack(data[: len(data) // 8 * 8])


def _blocks_of_tables(source: Metadata, header: Header, places: int) -> dict[int, array[int]]:
    """By table number: the blocks of the backmap that have a word of it."""
    found: dict[int, array[int]] = {}
    pairs = 0
    for block in range(-(-places // TABLE_ENTRIES)):
        words = _backmap_words(source, header, block, places)
        if not any(words):
            continue
        valid = (word & _SLICE for word in words if word >> 60 == 1)
        for number in sorted(set(valid)) if any(blocks(bytes(words))) else [0]:
            if number < header.table_count:
                found.setdefault(number, array("I")).append(block)
                pairs += 1
        if pairs > MAX_PAIRS:
            raise _too_much(source, "places of the backmap")
    return found


def _too_much(source: Metadata, what: str) -> ExtentError:
    problem = f"salvage=1 would have to keep more than {MAX_PAIRS} {what} in memory"
    return ExtentError(problem, file=source.label, expected="a smaller extent, or one that is less fragmented")


def _directory(source: Metadata, header: Header) -> Iterator[tuple[int, int]]:
    """The directory's entries that are not 0."""
    region = header.regions["grain_directory"]
    for first in range(0, header.table_count, TABLE_ENTRIES):
        count = min(TABLE_ENTRIES, header.table_count - first)
        data = source.read_some(region.offset + first * 8, count * 8)
        if any(data):
            yield from ((first + at, e) for at, e in enumerate(unpack(data[: len(data) // 8 * 8])) if e)


def _slices_of_tables(source: Metadata, header: Header) -> dict[int, int]:
    """By the index of a table: which slice of the disk it describes."""
    found: dict[int, int] = {}
    for number, entry in _directory(source, header):
        try:
            index = decode_directory_entry(entry)
        except ValueError:
            continue
        if index is not None and index < header.table_count:
            found.setdefault(index, number)
        if len(found) > MAX_PAIRS:
            raise _too_much(source, "tables")
    return found


def _invalid_directory_entries(source: Metadata, header: Header) -> list[int]:
    """Slices whose directory entry does not decode, the first of many."""
    found: list[int] = []
    for number, entry in _directory(source, header):
        try:
            index = decode_directory_entry(entry)
        except ValueError:
            index = None
        if index is None or index >= header.table_count:
            found.append(number)
            if len(found) > _KEPT:
                break
    return found
