"""An extent's tables held against one another, against its free bitmap and against its backmap.

Two entries that name one place, or two directory entries that name one table, cannot both be right: the bytes are shown as
the tables lie, and that is said. The other two regions are further copies of what the tables say:

* the *free bitmap* (confirmed): bit X, least significant first, is 1 where place X is allocated. Unmapping should clear it
  (told by VMware's people, not seen), so a place that only unmapped entries name may have either.
* the *backmap* (read from one real extent): the word of place X names the grain that has it, 0 for none.

A copy that is all zero was not kept, and holds nothing against the tables; where the other copy, or the journal header,
shows that a host kept its metadata, that is told once.

Bounded in time and memory: whole runs of entries are compared at once, places are looked at a group of blocks at a time
(a block is 4096 grains, 16 MiB), each group costs a pass over the tables, and of one kind the first are told, the rest
counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dissect_sesparse.disk.c_sesparse import GRAIN_SIZE, SECTOR, TABLE_ENTRIES
from dissect_sesparse.disk.emptied import kept
from dissect_sesparse.disk.entry import State, decode_entry
from dissect_sesparse.disk.errors import UnreadableError
from dissect_sesparse.disk.lanes import find_runs, split, successive, unpack
from dissect_sesparse.evidence.unreferenced import spans_of_bits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dissect_sesparse.disk.sesparse import SESparseExtent

CONFIRMED = "rests on a confirmed fact"
INFERRED = "rests on an inferred fact"
"""How the message of a finding says on what it rests: two independent sources, or one real extent and an inference."""

MAX_EACH = 100
"""Findings of one kind in one extent that are listed; beyond, one more says how many there are."""

_GROUP = 32768
"""Blocks looked at in one pass over the tables: 512 GiB of places, at most some 60 MiB of memory."""
_CACHED = 512
"""Pieces of a region that are kept, of 32 KiB each: 16 MiB."""
_BITMAP_PIECE = 64
"""Blocks whose bits are read at once: 32 KiB of the bitmap."""
_ALL = (1 << TABLE_ENTRIES) - 1
_DIGITS = b"0" + b"1" * 255


class Odd(NamedTuple):
    """Something that does not fit. ``offset`` and ``size`` in bytes on the extent's disk, where they mean something."""

    code: str
    message: str
    source_offset: int | None
    offset: int | None
    size: int | None
    level: str = "warning"


def wiped(extent: SESparseExtent) -> Odd | None:
    """What tells that directory or tables were emptied; the extent cannot be read then, see ``emptied``."""
    if (found := extent.emptied) is None:
        return None
    basis = CONFIRMED if found.kept.bitmap else INFERRED
    code = "bitmap-mismatch" if found.kept.bitmap else "backmap-mismatch"
    offset = extent.header.regions[found.region].offset
    return Odd(code, f"{found}: salvage=1 rebuilds it from the backmap; {basis}", offset, 0, extent.size, "error")


def audit(extent: SESparseExtent, limit: int = MAX_EACH) -> Iterator[Odd]:
    """What does not fit in an extent's tables, free bitmap and backmap.

    Args:
        extent: The extent.
        limit: How many of one kind are told; the rest is counted.

    Raises:
        UnreadableError: If the file cannot be read.
    """
    tally = Tally(limit)
    tables = _Tables(extent, tally)
    for odd in _shared_tables(extent, tally):
        tables.broken = True  # the table that should be named there is not, and what it names is not known
        yield odd
    yield from tables.audit()
    yield from tally.rest()


class Tally:
    """Tells the first of each kind, and counts the rest, so that a million cost no more than their counting.

    Args:
        limit: How many of one kind are told.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._told: dict[str, int] = {}
        self._more: dict[str, list] = {}

    def tell(self, kind: str, size: int, odd: Callable[[], Odd]) -> Iterator[Odd]:
        """Something odd of a kind. ``odd`` is asked for it only if it is among the first."""
        told = self._told.get(kind, 0)
        if told < self.limit:
            self._told[kind] = told + 1
            yield odd()
            return
        if kind not in self._more:
            self._more[kind] = [0, 0, odd()]
        more = self._more[kind]
        more[0] += 1
        more[1] += size

    def rest(self) -> Iterator[Odd]:
        """For each kind of which there are more, one that counts them."""
        for kind, (count, size, last) in self._more.items():
            yield Odd(
                last.code, f"{count} more ranges in this extent, not listed: {kind}", None, None, size, last.level
            )


def _shared_tables(extent: SESparseExtent, tally: Tally) -> Iterator[Odd]:
    """Directory entries that name a table which an earlier one names too."""
    seen = bytearray(-(-extent.header.table_count // 8))
    size = TABLE_ENTRIES * GRAIN_SIZE
    for table in extent.tables():
        try:
            offset = extent.table_offset(table)
        except UnreadableError:
            continue
        if offset is None:
            continue
        byte, bit = divmod(extent.table_index(offset), 8)
        if seen[byte] >> bit & 1:
            message = (
                f"grain directory entry {table} names table {byte * 8 + bit}, as an earlier entry does, "
                f"expected a table of its own; {CONFIRMED}"
            )
            odd = Odd("table-shared", message, extent.directory_offset(table), table * size, size)
            yield from tally.tell("directory entries that name another's table", size, lambda odd=odd: odd)
        seen[byte] |= 1 << bit


class _Piece(NamedTuple):
    """Grains of one state that follow one another, and whose places do too, within one block."""

    state: State
    grain: int
    place: int
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]  # tuple.count is of no use here
    word: int
    """What the backmap should have for the first of them."""

    @property
    def bits(self) -> int:
        return ((1 << self.count) - 1) << self.place % TABLE_ENTRIES

    def part(self, start: int, count: int) -> _Piece:
        return _Piece(self.state, self.grain + start, self.place + start, count, self.word + (start << 48))


class _Tables:
    """The tables of an extent against its bitmap and its backmap.

    Args:
        extent: The extent.
        tally: Where to tell.
    """

    def __init__(self, extent: SESparseExtent, tally: Tally):
        self.extent = extent
        self.tally = tally
        self.kept = kept(extent)
        self.place_limit = extent.place_limit
        self.bitmap = extent.header.regions["free_bitmap"]
        self.broken = extent.lost_from < extent.size
        """Whether some entries cannot be had, so that nothing is known of the places that they name."""
        self.bare = False
        """Whether an unmapped entry names no place, or place 0, and so may be why its bit is set."""
        self._words: dict[int, memoryview] = {}
        self._bits: dict[int, tuple[int, int]] = {}
        self._pieces_of_bitmap: dict[int, bytes] = {}
        self._entries: dict[int, memoryview] = {}

    def audit(self) -> Iterator[Odd]:
        last = -(-self.place_limit // TABLE_ENTRIES)
        used = False
        for first in range(0, last, _GROUP):
            group = _Group(range(first, min(first + _GROUP, last)))
            for piece in self._pieces():
                used = used or piece.state == State.ALLOCATED
                if piece.place // TABLE_ENTRIES in group.blocks:
                    yield from self._add(group, piece)
            yield from self._places(group)
        if used:
            yield from self._not_kept()

    def _not_kept(self) -> Iterator[Odd]:
        """A region that is all zero although another shows that a host kept its metadata."""
        regions = self.extent.header.regions
        if not self.kept.bitmap and (self.kept.backmap or self.kept.journal_header):
            message = f"the free bitmap is all zeros, expected a 1 for each allocated place; {CONFIRMED}"
            yield Odd("bitmap-mismatch", message, regions["free_bitmap"].offset, None, None)
        if not self.kept.backmap and (self.kept.bitmap or self.kept.journal_header):
            message = f"the backmap is all zeros, expected the grain of each allocated place; {INFERRED}"
            yield Odd("backmap-mismatch", message, regions["backmap"].offset, None, None)

    # What the entries name

    def _pieces(self) -> Iterator[_Piece]:
        """What the tables name, in the order of the disk."""
        extent = self.extent
        total = -(-extent.size // GRAIN_SIZE)
        for table in extent.tables():
            first = table * TABLE_ENTRIES
            entries = extent.entries(first, min(TABLE_ENTRIES, total - first))
            if entries is None:
                continue
            word = 1 << 60 | self._number(table)
            place = successive(entries, State.ALLOCATED)
            if place is not None and place + len(entries) // 8 <= self.place_limit:
                yield _Piece(State.ALLOCATED, first, place, len(entries) // 8, word)
                continue
            yield from self._runs(first, entries, word)

    def _runs(self, first: int, entries: bytes, word: int) -> Iterator[_Piece]:
        """The same of a table that is no single run."""
        starts, kinds, places = find_runs(self.extent.decode(entries, keep_unmapped=True), GRAIN_SIZE // SECTOR)
        for start, end, kind, byte in zip(starts, [*starts[1:], len(entries) // 8], kinds, places):
            state, _, placed = split(kind)
            if not placed:
                self.broken = self.broken or state == State.INVALID
                self.bare = self.bare or state == State.UNMAPPED
                continue
            place = (byte - self.extent.grains_offset) // GRAIN_SIZE
            while start < end:
                count = min(end - start, TABLE_ENTRIES - place % TABLE_ENTRIES)
                yield _Piece(state, first + start, place, count, word + (start << 48))
                start, place = start + count, place + count

    def _number(self, table: int) -> int:
        """The number by which the backmap names a table."""
        if self.extent.backmap.reading != "index":
            return table
        try:
            offset = self.extent.table_offset(table)
        except UnreadableError:
            return table
        return table if offset is None else self.extent.table_index(offset)

    def _add(self, group: _Group, piece: _Piece) -> Iterator[Odd]:
        """A piece's place in the group, and what is odd about it by itself."""
        block, bits = piece.place // TABLE_ENTRIES, piece.bits
        if self.kept.backmap:
            agreed, zero = self._agreeing(piece)
            group.agreed[block] = group.agreed.get(block, 0) | agreed
            if zero and piece.state == State.ALLOCATED:
                yield from self._each(piece, zero, "words of the backmap that are 0", self._no_word)
        if piece.state == State.UNMAPPED:
            group.unmapped[block] = group.unmapped.get(block, 0) | bits
            return
        here = group.allocated.get(block, 0)
        if here & bits:
            yield from self._each(piece, here & bits, "entries that name another's place", self._shared)
        group.allocated[block] = here | bits
        if self.kept.bitmap:
            told, known = self._bitmap_bits(block)
            if clear := bits & known & ~told:
                yield from self._each(piece, clear, "bits that are 0 for allocated places", self._clear)

    def _each(self, piece: _Piece, bits: int, kind: str, odd: Callable[[_Piece], Odd]) -> Iterator[Odd]:
        """Tell what is odd about each part of a piece, as some bits of its block say."""
        for start, count in spans_of_bits(bits >> piece.place % TABLE_ENTRIES):
            part = piece.part(start, count)
            yield from self.tally.tell(kind, count * GRAIN_SIZE, lambda part=part: odd(part))

    def _shared(self, piece: _Piece) -> Odd:
        message = (
            f"{_entries(piece)} {_names(piece)} {_span('place', piece.place, piece.count)}, as an earlier entry does, "
            f"expected a place of its own; {CONFIRMED}"
        )
        where = self.extent.grains_offset + piece.place * GRAIN_SIZE
        return Odd("place-shared", message, where, piece.grain * GRAIN_SIZE, piece.count * GRAIN_SIZE)

    def _clear(self, piece: _Piece) -> Odd:
        message = (
            f"the free bitmap has 0 for {_span('place', piece.place, piece.count)}, expected 1: {_entries(piece)} "
            f"{_names(piece)} it as allocated; {CONFIRMED}"
        )
        where = self.bitmap.offset + piece.place // 8
        return Odd("bitmap-mismatch", message, where, piece.grain * GRAIN_SIZE, piece.count * GRAIN_SIZE)

    def _no_word(self, piece: _Piece) -> Odd:
        message = (
            f"the backmap has 0 for {_span('place', piece.place, piece.count)}, expected {piece.word:#x}: "
            f"{_entries(piece)} {_names(piece)} it as allocated; {INFERRED}"
        )
        where = self.extent.backmap.region.offset + piece.place * 8
        return Odd("backmap-mismatch", message, where, piece.grain * GRAIN_SIZE, piece.count * GRAIN_SIZE)

    def _agreeing(self, piece: _Piece) -> tuple[int, int]:
        """The places of a piece whose words name its grains, and those whose words are 0, as bits of the block."""
        block, start = divmod(piece.place, TABLE_ENTRIES)
        words = self._backmap_words(block)
        if piece.count == 1 and start < len(words):  # the usual case where all else is slow
            return (1 << start if words[start] == piece.word else 0), (0 if words[start] else 1 << start)
        words = words[start : start + piece.count]
        if len(words) == piece.count and _is_ramp(words, piece.word):
            return piece.bits, 0
        raw, wanted = words.tobytes(), piece.word
        if not raw.strip(b"\0"):
            return 0, ((1 << len(words)) - 1) << start
        agreed = zero = 0
        for number, word in enumerate(words):
            if word == wanted + (number << 48):
                agreed |= 1 << number
            elif not word:
                zero |= 1 << number
        return agreed << start, zero << start

    # What bitmap and backmap name

    def _places(self, group: _Group) -> Iterator[Odd]:
        """What the two copies say of the places that no entry names so."""
        for first in range(group.blocks.start, group.blocks.stop, _BITMAP_PIECE):
            blocks = range(first, min(first + _BITMAP_PIECE, group.blocks.stop))
            if self.kept.bitmap and self._piece_of_bitmap(first).strip(b"\0"):
                for block in blocks:
                    yield from self._stray_bits(group, block)
            if self.kept.backmap and not self._is_hole(blocks):
                for block in blocks:
                    yield from self._stray_words(group, block)

    def _is_hole(self, blocks: range) -> bool:
        """Whether the words of some blocks are a hole of the file."""
        if self.extent.metadata is not self.extent.file:
            return False
        begin = self.extent.backmap.region.offset + blocks.start * TABLE_ENTRIES * 8
        return self.extent.file.next_data(begin) >= begin + len(blocks) * TABLE_ENTRIES * 8

    def _stray_bits(self, group: _Group, block: int) -> Iterator[Odd]:
        """Bits of places that no entry names."""
        told, known = self._bitmap_bits(block)
        stray = told & known & ~group.allocated.get(block, 0) & ~group.unmapped.get(block, 0)
        if block == 0 and self.bare:
            stray &= ~1
        if stray and self.broken:
            stray = sum(1 << n for n in _bit_numbers(stray) if self._is_known(block * TABLE_ENTRIES + n))
        for start, count in spans_of_bits(stray):
            place = block * TABLE_ENTRIES + start
            yield from self.tally.tell(
                "bits that are 1 for places that no entry names",
                count * GRAIN_SIZE,
                lambda place=place, count=count: self._stray_bit(place, count),
            )

    def _stray_bit(self, place: int, count: int) -> Odd:
        message = (
            f"the free bitmap has 1 for {_span('place', place, count)}, expected 0: no entry names it; {CONFIRMED}"
        )
        return Odd("bitmap-mismatch", message, self.bitmap.offset + place // 8, None, count * GRAIN_SIZE)

    def _is_known(self, place: int) -> bool:
        """Whether the entry is known that should name a place, where some entries are not."""
        words = self._backmap_words(place // TABLE_ENTRIES)
        slot = place % TABLE_ENTRIES
        owner = self.extent.backmap.owner_of(words[slot]) if slot < len(words) else None
        return owner is not None and self._entry_of(owner) is not None

    def _stray_words(self, group: _Group, block: int) -> Iterator[Odd]:
        """Words that no entry agrees with."""
        words = self._backmap_words(block)
        stray = _nonzero_bits(words) & ~group.agreed.get(block, 0)
        for number in _bit_numbers(stray):
            word, place = words[number], block * TABLE_ENTRIES + number
            if (found := self._misfit(word, place)) is None:
                continue
            yield from self.tally.tell(
                "words of the backmap that name grains which do not name them",
                GRAIN_SIZE,
                lambda word=word, place=place, found=found: self._stray_word(word, place, found),
            )

    def _misfit(self, word: int, place: int) -> tuple[int | None, State, int | None] | None:
        """The grain that a word names, and that grain's state and place; ``None`` where they fit or nothing can be told."""
        if word >> 60 != 1:
            return None, State.INVALID, None
        owner = self.extent.backmap.owner_of(word)
        if owner is None:
            return None  # which of its two readings is meant cannot be told
        found = self._entry_of(owner)
        if found is None:
            return None  # told by the entry's own finding
        state, named = found
        return None if named == place else (owner, state, named)

    def _stray_word(self, word: int, place: int, found: tuple[int | None, State, int | None]) -> Odd:
        owner, state, named = found
        where = self.extent.backmap.region.offset + place * 8
        if owner is None:
            message = (
                f"the backmap's word of place {place} is {word:#x}, expected 0 or 0x1 in its top four bits; {INFERRED}"
            )
            return Odd("backmap-mismatch", message, where, None, GRAIN_SIZE)
        told = f"{state.name.lower()}, place {named}" if named is not None else state.name.lower()
        message = (
            f"by the backmap's word {word:#x} place {place} is grain {owner}'s, whose entry is {told}, "
            f"expected one that names the place; {INFERRED}"
        )
        return Odd("backmap-mismatch", message, where, owner * GRAIN_SIZE, GRAIN_SIZE)

    # Pieces of the regions, the last ones kept

    def _entry_of(self, grain: int) -> tuple[State, int | None] | None:
        """State and place of one grain; ``None`` where its entry is corrupt or cannot be had."""
        table, slot = divmod(grain, TABLE_ENTRIES)
        if (entries := self._entries.get(table)) is None:
            count = min(TABLE_ENTRIES, -(-self.extent.size // GRAIN_SIZE) - table * TABLE_ENTRIES)
            raw = self.extent.entries(table * TABLE_ENTRIES, count) or bytes(count * 8)
            entries = _keep(self._entries, table, unpack(raw))
        try:
            state, place = decode_entry(entries[slot])
        except ValueError:
            return None
        if state in (State.UNALLOCATED, State.ZERO):
            return state, None
        return None if state == State.ALLOCATED and place >= self.place_limit else (state, place)

    def _backmap_words(self, block: int) -> memoryview:
        if (words := self._words.get(block)) is None:
            first = block * TABLE_ENTRIES
            count = min(TABLE_ENTRIES, self.extent.whole_places - first)
            words = _keep(self._words, block, self.extent.backmap.words(first, count))
        return words

    def _piece_of_bitmap(self, block: int) -> bytes:
        number = block // _BITMAP_PIECE
        if (piece := self._pieces_of_bitmap.get(number)) is None:
            start = number * _BITMAP_PIECE * TABLE_ENTRIES // 8
            size = min(_BITMAP_PIECE * TABLE_ENTRIES // 8, self.bitmap.size - start)
            piece = self.extent.metadata.read_some(self.bitmap.offset + start, size) if size > 0 else b""
            _keep(self._pieces_of_bitmap, number, piece)
        return piece

    def _bitmap_bits(self, block: int) -> tuple[int, int]:
        """The bits of a block, and those of them that are in the file, as are their places."""
        if (bits := self._bits.get(block)) is None:
            start = block % _BITMAP_PIECE * TABLE_ENTRIES // 8
            data = self._piece_of_bitmap(block)[start : start + TABLE_ENTRIES // 8]
            count = max(0, min(len(data) * 8, self.place_limit - block * TABLE_ENTRIES))
            bits = _keep(self._bits, block, (int.from_bytes(data, "little"), (1 << count) - 1))
        return bits


class _Group:
    """What the entries say of the places of some blocks: for each block, a bit a place.

    Args:
        blocks: Which they are.
    """

    def __init__(self, blocks: range):
        self.blocks = blocks
        self.allocated: dict[int, int] = {}
        self.unmapped: dict[int, int] = {}
        self.agreed: dict[int, int] = {}
        """The places whose backmap words name the grain that names them."""


def _keep(cache: dict[int, Any], key: int, value: Any) -> Any:
    """Put something into a cache, which is emptied when it is full."""
    if len(cache) >= _CACHED:
        cache.clear()
    cache[key] = value
    return value


def _is_ramp(words: memoryview, first: int) -> bool:
    """Whether words name one grain after the other, in one table, from the one that ``first`` names on."""
    if words[0] != first:
        return False
    return len(words) == 1 or successive(words.tobytes(), State.UNMAPPED) is not None


def _nonzero_bits(words: memoryview) -> int:
    """A bit for each word that is not 0."""
    if not len(words):
        return 0
    raw, flags = words.tobytes(), 0
    for byte in range(8):
        flags |= int.from_bytes(raw[byte::8], "little")
    if not flags:
        return 0
    return int(flags.to_bytes(len(words), "big").translate(_DIGITS), 2)


def _bit_numbers(bits: int) -> Iterator[int]:
    for start, count in spans_of_bits(bits):
        yield from range(start, start + count)


def _span(word: str, first: int, count: int) -> str:
    return f"{word} {first}" if count == 1 else f"{word}s {first} to {first + count - 1}"


def _entries(piece: _Piece) -> str:
    return f"the entr{'y' if piece.count == 1 else 'ies'} of {_span('grain', piece.grain, piece.count)}"


def _names(piece: _Piece) -> str:
    return "names" if piece.count == 1 else "name"
