"""An extent's tables held against one another, against its free bitmap and against its backmap.

Two entries that name one place, or two directory entries that name one table, cannot both be right: the bytes are shown as
the tables lie, and that is reported. The other two regions are further copies of what the tables say:

* the *free bitmap* (confirmed): bit X, least significant first, is 1 where place X is allocated. Unmapping should clear it
  (so VMware's people say, not seen), so a place that only unmapped entries name may have either.
* the *backmap* (read from one real extent): the word of place X names the grain that has it, 0 for none.

A copy that is all zero was not kept, and holds nothing against the tables; where the other copy, or the journal header,
shows that a host kept its metadata, that is reported once.

Bounded in time and memory: a table is compared as a whole, places are looked at a group of blocks at a time (a block is 4096
grains, 16 MiB), each group costs a pass over the tables, and of one kind the first are reported, the rest counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE, TABLE_ENTRIES
from dissect_sesparse.extent.copies import Copies
from dissect_sesparse.extent.engine import places_of, spans, states_of, valid_words, words_of
from dissect_sesparse.extent.entry import BARE_UNMAPPED, State
from dissect_sesparse.findings.pieces import GrainSpan, Named, Owned, span
from dissect_sesparse.findings.tally import CONFIRMED, INFERRED, MAX_EACH, Odd, Tally
from dissect_sesparse.repair.emptied import kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from dissect_sesparse.extent.engine import Words
    from dissect_sesparse.extent.sesparse import SESparseExtent

_GROUP = 8192
"""Blocks looked at in one pass over the tables: 128 GiB of places, at most some 32 MiB of memory."""
_ONES = (1 << 64) - 1
_SOME = 64
"""Blocks whose copies are looked at in one go for places that no entry names."""
_ALLOCATED, _UNMAPPED, _AGREED = 1, 2, 4
"""Flags of a place: an allocated entry names it, an unmapped one does, its backmap word names the grain that names it."""


def wiped(extent: SESparseExtent) -> Odd | None:
    """What shows that directory or tables were emptied; the extent cannot be read then, see ``emptied``."""
    if (found := extent.metadata.emptied) is None:
        return None
    basis = CONFIRMED if found.bitmap else INFERRED
    code = "bitmap-mismatch" if found.bitmap else "backmap-mismatch"
    offset = extent.header.regions[found.region].offset
    return Odd(code, f"{found}: salvage=1 rebuilds it from the backmap; {basis}", offset, 0, extent.size, "error")


def audit(extent: SESparseExtent, limit: int = MAX_EACH) -> Iterator[Odd]:
    """What does not fit in an extent's tables, free bitmap and backmap.

    Args:
        extent: The extent.
        limit: How many of one kind are reported; the rest is counted.

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


def _shared_tables(extent: SESparseExtent, tally: Tally) -> Iterator[Odd]:
    """Directory entries that name a table which an earlier one names too."""
    seen = bytearray(-(-extent.header.table_count // 8))
    size = TABLE_ENTRIES * GRAIN_SIZE
    for table in extent.metadata.tables():
        if (index := extent.metadata.sound_index_of(table)) is None:
            continue
        byte, bit = divmod(index, 8)
        if seen[byte] >> bit & 1:
            message = (
                f"grain directory entry {table} names table {index}, as an earlier entry does, "
                f"expected a table of its own; {CONFIRMED}"
            )
            odd = Odd("table-shared", message, extent.metadata.directory_offset(table), table * size, size)
            yield from tally.report("directory entries that name another's table", [size], lambda _, odd=odd: odd)
        seen[byte] |= 1 << bit


class _Tables:
    """The tables of an extent against its bitmap and its backmap.

    Args:
        extent: The extent.
        tally: Where to report.
    """

    def __init__(self, extent: SESparseExtent, tally: Tally):
        self.extent = extent
        self.metadata = extent.metadata
        self.tally = tally
        self.kept = kept(extent.metadata)
        self.place_limit = extent.metadata.place_limit
        self.copies = Copies(extent.metadata)
        self.broken = extent.metadata.lost_from < extent.size
        """Whether some entries cannot be had, so that nothing is known of the places that they name."""
        self.bare = False
        """Whether an unmapped entry names no place, or place 0, and so may be why its bit is set."""
        self.used = False

    def audit(self) -> Iterator[Odd]:
        last = -(-self.place_limit // TABLE_ENTRIES)
        for first in range(0, last, _GROUP):
            blocks = range(first, min(first + _GROUP, last))
            flags = np.zeros(len(blocks) * TABLE_ENTRIES, np.uint8)
            for named in self._named(blocks):
                yield from self._compare(named, flags, blocks.start * TABLE_ENTRIES)
            yield from self._places(blocks, flags)
        if self.used:
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

    def _named(self, blocks: range) -> Iterator[Named]:
        """What each table names of some blocks, in the order of the disk."""
        total = -(-self.extent.size // GRAIN_SIZE)
        for table in self.metadata.tables():
            first = table * TABLE_ENTRIES
            entries = self.metadata.entries(first, min(TABLE_ENTRIES, total - first))
            if entries is not None:
                named = self._named_by(table, entries)
                inside = named.places // TABLE_ENTRIES
                chosen = (inside >= blocks.start) & (inside < blocks.stop)
                yield named if chosen.all() else named.chosen(chosen)

    def _named_by(self, table: int, entries: Words) -> Named:
        """What a table's entries name; notes whether some are corrupt, and whether some are bare."""
        states, places = states_of(entries), places_of(entries)
        inside = places < self.place_limit
        allocated, unmapped, bare = states == State.ALLOCATED, states == State.UNMAPPED, entries == BARE_UNMAPPED
        corrupt = (states > State.ALLOCATED) | (states == 0) & (entries != 0) | allocated & ~inside
        self.broken = self.broken or bool(corrupt.any())
        self.bare = self.bare or bool((unmapped & (bare | ~inside)).any())
        self.used = self.used or bool((allocated & inside).any())
        slots = np.flatnonzero((allocated | unmapped & ~bare) & inside)
        words = words_of(self.extent.backmap.number_of(table), slots)
        return Named(table * TABLE_ENTRIES, slots, places[slots].astype(np.int64), allocated[slots], words)

    def _compare(self, named: Named, flags: NDArray[np.uint8], first: int) -> Iterator[Odd]:
        """What is odd about what a table names; and note it.

        Args:
            named: What it names of the group.
            flags: Of the group's places.
            first: The group's first place.
        """
        if not len(named.slots):
            return
        at = named.places - first
        if self.kept.backmap:
            words = self.copies.words_at(named.places, _ONES)
            flags[at[words == named.words]] |= _AGREED
            # words behind the file's end are all ones: neither right nor empty
            yield from self._each(
                named, named.allocated & (words == 0), "words of the backmap that are 0", self._no_word
            )
        flags[at[~named.allocated]] |= _UNMAPPED
        mine = named.chosen(named.allocated)
        at = mine.places - first
        again = flags[at] & _ALLOCATED != 0
        if len(at) > 1 and (np.diff(at) <= 0).any():
            earliest = np.zeros(len(at), bool)
            earliest[np.unique(at, return_index=True)[1]] = True
            again |= ~earliest
        yield from self._each(mine, again, "entries that name another's place", self._shared)
        flags[at] |= _ALLOCATED
        if self.kept.bitmap:
            clear = self.copies.bits_at(mine.places) == 0
            yield from self._each(mine, clear, "bits that are 0 for allocated places", self._clear)

    def _each(
        self, named: Named, which: NDArray[np.bool_], kind: str, odd: Callable[[GrainSpan], Odd]
    ) -> Iterator[Odd]:
        """Report what is odd about some of the entries, joined where grain and place go on."""
        if not which.any():
            return
        chosen = named.chosen(which)
        runs = chosen.runs()

        def piece(number: int) -> Odd:
            start, count = runs[number]
            grain, place = named.first + int(chosen.slots[start]), int(chosen.places[start])
            return odd(GrainSpan(grain, place, count, int(chosen.words[start])))

        yield from self.tally.report(kind, [count * GRAIN_SIZE for _, count in runs], piece)

    def _shared(self, piece: GrainSpan) -> Odd:
        message = (
            f"{piece.entries} {piece.names} {span('place', piece.place, piece.count)}, as an earlier entry does, "
            f"expected a place of its own; {CONFIRMED}"
        )
        where = self.metadata.grains_offset + piece.place * GRAIN_SIZE
        return Odd("place-shared", message, where, *piece.where)

    def _clear(self, piece: GrainSpan) -> Odd:
        message = (
            f"the free bitmap has 0 for {span('place', piece.place, piece.count)}, expected 1: {piece.entries} "
            f"{piece.names} it as allocated; {CONFIRMED}"
        )
        return Odd("bitmap-mismatch", message, self.metadata.bit_offset(piece.place), *piece.where)

    def _no_word(self, piece: GrainSpan) -> Odd:
        message = (
            f"the backmap has 0 for {span('place', piece.place, piece.count)}, expected {piece.word:#x}: "
            f"{piece.entries} {piece.names} it as allocated; {INFERRED}"
        )
        return Odd("backmap-mismatch", message, self.metadata.word_offset(piece.place), *piece.where)

    # What bitmap and backmap name

    def _places(self, blocks: range, flags: NDArray[np.uint8]) -> Iterator[Odd]:
        """What the two copies say of the places that no entry names so."""
        for first in range(blocks.start, blocks.stop, _SOME):
            start, end = first * TABLE_ENTRIES, min(first + _SOME, blocks.stop) * TABLE_ENTRIES
            here = flags[start - blocks.start * TABLE_ENTRIES : end - blocks.start * TABLE_ENTRIES]
            if self.kept.bitmap:
                yield from self._stray_bits(start, here)
            if self.kept.backmap and not self.metadata.has_no_words(start, end - start):
                yield from self._stray_words(start, here)

    def _stray_bits(self, first: int, flags: NDArray[np.uint8]) -> Iterator[Odd]:
        """Bits of places that no entry names."""
        bits = self.metadata.bits(first, len(flags))
        stray = bits & (flags[: len(bits)] & (_ALLOCATED | _UNMAPPED) == 0)
        if first == 0 and self.bare and len(stray):
            stray[0] = False
        if self.broken and stray.any():
            stray &= self._is_known(first, stray)
        for block in range(0, len(stray), TABLE_ENTRIES):
            runs = spans(stray[block : block + TABLE_ENTRIES])
            yield from self.tally.report(
                "bits that are 1 for places that no entry names",
                [count * GRAIN_SIZE for _, count in runs],
                lambda n, runs=runs, block=block: self._stray_bit(first + block + runs[n][0], runs[n][1]),
            )

    def _stray_bit(self, place: int, count: int) -> Odd:
        message = f"the free bitmap has 1 for {span('place', place, count)}, expected 0: no entry names it; {CONFIRMED}"
        return Odd("bitmap-mismatch", message, self.metadata.bit_offset(place), None, count * GRAIN_SIZE)

    def _is_known(self, first: int, stray: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether the entries are known that should name places, where some entries are not."""
        known = np.zeros(len(stray), bool)
        words = self._words(first, len(stray))
        known[: len(words)] = self._owned(words).known
        return known

    def _words(self, first: int, count: int) -> Words:
        """The backmap's words for some places, as far as these are whole."""
        return self.metadata.words(first, min(count, self.metadata.whole_places - first))

    def _stray_words(self, first: int, flags: NDArray[np.uint8]) -> Iterator[Odd]:
        """Words that no entry agrees with."""
        words = self._words(first, len(flags))
        numbers = np.flatnonzero((words != 0) & (flags[: len(words)] & _AGREED == 0))
        if not len(numbers):
            return
        words, places = words[numbers], numbers + first
        owned = self._owned(words)
        misfit = ~valid_words(words) | owned.known & (owned.places != places)
        found = np.flatnonzero(misfit)
        yield from self.tally.report(
            "words of the backmap that name grains which do not name them",
            [GRAIN_SIZE] * len(found),
            lambda n: self._stray_word(int(words[found[n]]), int(places[found[n]]), *owned.at(int(found[n]))),
        )

    def _owned(self, words: Words) -> Owned:
        """The grains that some words name, and their entries."""
        grains = self.extent.backmap.owners_of(words)
        entries = np.zeros(len(words), words.dtype)
        named = np.flatnonzero(grains >= 0)
        entries[named] = self.copies.entries_of(grains[named])
        states, places = states_of(entries), places_of(entries).astype(np.int64)
        corrupt = (states > State.ALLOCATED) | (states == State.UNALLOCATED) & (entries != 0)
        corrupt |= (states == State.ALLOCATED) & (places >= self.place_limit)
        places[(states == State.UNALLOCATED) | (states == State.ZERO)] = -1
        return Owned(grains, states, places, (grains >= 0) & ~corrupt)

    def _stray_word(self, word: int, place: int, owner: int | None, state: State, named: int | None) -> Odd:
        where = self.metadata.word_offset(place)
        if owner is None:
            message = (
                f"the backmap's word of place {place} is {word:#x}, expected 0 or 0x1 in its top four bits; {INFERRED}"
            )
            return Odd("backmap-mismatch", message, where, None, GRAIN_SIZE)
        entry = f"{state.name.lower()}, place {named}" if named is not None else state.name.lower()
        message = (
            f"by the backmap's word {word:#x} place {place} is grain {owner}'s, whose entry is {entry}, "
            f"expected one that names the place; {INFERRED}"
        )
        return Odd("backmap-mismatch", message, where, owner * GRAIN_SIZE, GRAIN_SIZE)
