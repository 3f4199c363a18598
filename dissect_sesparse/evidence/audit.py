"""An extent's tables held against one another and against its backmap.

Two entries that name one place, or two directory entries that name one table, cannot both be right: the bytes are shown as
the tables lie, and that is said. The backmap is a second copy of the tables; where it is kept (an all-zero one is not) and
names an address whose entry does not name it back, one of the two is wrong.
"""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.disk.c_sesparse import GRAIN_SIZE, TABLE_ENTRIES
from dissect_sesparse.disk.entry import State
from dissect_sesparse.disk.errors import UnreadableError
from dissect_sesparse.disk.lanes import blocks, successive, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.disk.sesparse import SESparseExtent

_GROUP = 65536
"""Blocks of 16 MiB looked at in one pass over the tables."""
_BLOCK = (1 << 48) - 1


class Odd(NamedTuple):
    """Something that does not fit. ``offset`` and ``size`` in bytes on the extent's disk, where they mean something."""

    code: str
    message: str
    source_offset: int
    offset: int | None
    size: int


def audit(extent: SESparseExtent) -> Iterator[Odd]:
    """What does not fit in an extent's tables and backmap."""
    yield from _shared_tables(extent)
    yield from _shared_places(extent)
    yield from _backmap(extent)


def _shared_tables(extent: SESparseExtent) -> Iterator[Odd]:
    """Directory entries that name a table which an earlier one names too."""
    seen = bytearray(-(-extent.header.table_count // 8))
    for table in extent.tables():
        try:
            offset = extent.table_offset(table)
        except UnreadableError:
            continue
        if offset is None:
            continue
        byte, bit = divmod(extent.table_index(offset), 8)
        if seen[byte] >> bit & 1:
            message = f"grain directory entry {table} names table {byte * 8 + bit}, as an earlier entry does"
            size = TABLE_ENTRIES * GRAIN_SIZE
            yield Odd("table-shared", message, extent.directory_offset(table), table * size, size)
        seen[byte] |= 1 << bit


def _shared_places(extent: SESparseExtent) -> Iterator[Odd]:
    """Allocated entries that name a place which an earlier one names too."""
    last = -(-extent.place_limit // TABLE_ENTRIES)
    for first in range(0, last, _GROUP):
        seen: dict[int, int] = {}
        for grain, entries in extent.raw_tables():
            yield from _repeated(extent, seen, grain, entries, range(first, min(first + _GROUP, last)))


def _repeated(extent: SESparseExtent, seen: dict[int, int], grain: int, entries: bytes, group: range) -> Iterator[Odd]:
    if (place := successive(entries, State.ALLOCATED)) is not None:
        block, start = divmod(place, TABLE_ENTRIES)
        bits = ((1 << len(entries) // 8) - 1) << start
        if block not in group:
            return
        if not seen.get(block, 0) & bits:
            seen[block] = seen.get(block, 0) | bits
            return
    wanted = [block in group for block in blocks(entries)]
    for number, entry in zip(compress(range(grain, grain + len(wanted)), wanted), compress(unpack(entries), wanted)):
        if entry >> 60 != State.ALLOCATED:
            continue
        block, bit = entry & _BLOCK, 1 << (entry >> 48 & 0xFFF)
        here = seen.get(block, 0)
        if here & bit:
            place = block * TABLE_ENTRIES + (entry >> 48 & 0xFFF)
            message = f"the entry of grain {number} names place {place}, as an earlier entry does"
            where = extent.grains_offset + place * GRAIN_SIZE
            yield Odd("place-shared", message, where, number * GRAIN_SIZE, GRAIN_SIZE)
        seen[block] = here | bit


def _backmap(extent: SESparseExtent) -> Iterator[Odd]:
    """Places whose address, by the backmap, has an entry that does not name them."""
    for place in range(0, extent.whole_places, TABLE_ENTRIES):
        try:
            words = extent.backmap.words(place, min(TABLE_ENTRIES, extent.whole_places - place))
        except UnreadableError:
            return
        raw = bytes(words)
        if raw == bytes(len(raw)) or _fits(extent, raw, place):
            continue
        for number, word in enumerate(words, place):
            if word and (message := _misfit(extent, word, number)) is not None:
                where = extent.backmap.region.offset + number * 8
                owner = extent.backmap.owner_of(word)
                yield Odd("backmap-mismatch", message, where, owner and owner * GRAIN_SIZE, GRAIN_SIZE)


def _fits(extent: SESparseExtent, words: bytes, place: int) -> bool:
    """The quick test: the words name addresses one after the other, and these addresses name the places back."""
    if successive(words, State.UNMAPPED) is None or (owner := extent.backmap.owner(place)) is None:
        return False
    entries = extent.entries(owner, len(words) // 8)
    return entries is not None and successive(entries, State.ALLOCATED) == place


def _misfit(extent: SESparseExtent, word: int, place: int) -> str | None:
    owner = extent.backmap.owner_of(word)
    if word >> 60 != 1:
        return f"the backmap's entry of place {place} is {word:#x}, expected 0 or 0x1 in its top four bits"
    if owner is None:
        return None  # which of its two readings is meant cannot be told
    try:
        state, where = extent.locate(owner)
    except UnreadableError:
        return None  # told by the entry's own finding
    named = None if where is None else (where - extent.grains_offset) // GRAIN_SIZE
    if named == place:
        return None
    found = f"{state.name.lower()}, place {named}" if named is not None else state.name.lower()
    return f"by the backmap place {place} is grain {owner}'s, whose entry is {found}"
