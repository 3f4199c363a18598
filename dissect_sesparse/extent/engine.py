"""The table engine: whole grain tables decoded, laid over one another and cut into runs, as numpy arrays.

What a lane is: see ``lane``.

Words of the format and lanes are little-endian by type (``<u8``), so that the machine's own byte order does not matter.
``entry`` has the rules one entry at a time; the tests hold the two together on random tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE
from dissect_sesparse.extent.entry import INVALID, Run, State
from dissect_sesparse.extent.lane import LANES, MAX_LAYERS, PLACE_BITS, split
from dissect_sesparse.source.file import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Words = NDArray[Any]
    """Raw table entries, backmap words or lanes: one 64-bit number each."""

WORD = np.dtype("<u8")
_PLACED = 1 << 63
_PLACES = (1 << PLACE_BITS) - 1
_SECTORS = GRAIN_SIZE // SECTOR
_ALLOCATED = _PLACED | State.ALLOCATED << 60
BLOCK = (1 << 48) - 1
"""The bits of an entry that say in which block of 4096 grains its place is."""
_FEW = LANES // 8
"""So few lanes that nobody answered yet are asked for by their numbers; of more, the layer's own ones are found first."""
_RAMP = np.arange(LANES, dtype=WORD)


def words(data: bytes | bytearray | memoryview) -> Words:
    """The 64-bit words of some bytes, without a copy; a rest of less than a word is left out."""
    return np.frombuffer(data, WORD, len(data) // 8)


# Entries of the format


def places_of(entries: Words) -> Words:
    """The places, in grains, that table entries name; of backmap words 4096 times the table plus the slot."""
    return entries >> 48 & 0xFFF | (entries & BLOCK) << 12


def blocks_of(entries: Words) -> Words:
    """The blocks of 4096 places that table entries name."""
    return entries & BLOCK


def entries_of(state: State, places: NDArray[Any]) -> Words:
    """The table entries of a state that name some places, in grains."""
    places = places.astype(WORD)
    return (places & 0xFFF) << 48 | places >> 12 | state << 60


def states_of(entries: Words) -> NDArray[np.uint8]:
    """The states of table entries as the format has them, 0 to 15."""
    return _top_bytes(entries) >> np.uint8(4)


def _top_bytes(entries: Words) -> NDArray[np.uint8]:
    if entries.flags.c_contiguous:
        return entries.view(np.uint8)[7::8]
    return (entries >> 56).astype(np.uint8)


def has_state(entries: Words, state: State) -> NDArray[np.bool_]:
    """Which entries have a state: quicker than all their states, where only one is asked for."""
    return entries - (state << 60) < 1 << 60  # a smaller one becomes a very large number


# Words of the backmap, see ``entry.BackmapWord``


def valid_words(found: Words) -> NDArray[np.bool_]:
    """Which words name a grain."""
    return found >> 60 == 1


def slots_of(found: Words) -> Words:
    """The slots that words (or the grains in a block that table entries) name."""
    return found >> 48 & 0xFFF


def tables_of(found: Words) -> Words:
    """The table numbers that words name."""
    return found & BLOCK


def words_of(table: int, slots: NDArray[Any]) -> Words:
    """The words that name some entries of a table."""
    return slots.astype(WORD) << 48 | (1 << 60 | table)


# Both


def successive(entries: Words, state: State) -> int | None:
    """The first place, in grains, if all entries have a state and name one place after the other; else ``None``."""
    first, last = int(entries[0]), int(entries[-1])
    place = (first >> 48 & 0xFFF) | (first & BLOCK) << 12
    end = place + len(entries) - 1
    if first >> 60 != state or last != state << 60 | (end & 0xFFF) << 48 | end >> 12:
        return None
    if place >> 12 == end >> 12:  # within one block the entries themselves are a ramp
        expected = _RAMP[: len(entries)] * (1 << 48) + first
        return place if np.array_equal(entries, expected) else None
    same = (states_of(entries) == state).all() and np.array_equal(places_of(entries), _RAMP[: len(entries)] + place)
    return place if same else None


def all_invalid(entries: Words) -> bool:
    """Whether all entries are those that stand for what cannot be had."""
    return int(entries[0]) == INVALID and bool((entries == INVALID).all())


def count_states(entries: Words, place_limit: int) -> dict[State, int]:
    """How many entries are in each state.

    Args:
        entries: Raw table entries.
        place_limit: The first place, in grains, that is not in the grains region or the file.
    """
    found = np.bincount(_top_bytes(entries), minlength=256).reshape(16, 16).sum(1).tolist()
    counts = {state: found[state] for state in (State.ALLOCATED, State.UNMAPPED, State.ZERO)}
    counts[State.UNALLOCATED] = len(entries) - int(np.count_nonzero(entries))
    counts[State.INVALID] = len(entries) - sum(counts.values())
    if counts[State.ALLOCATED] and int(np.bitwise_or.reduce(entries)) & BLOCK >= place_limit >> 12:  # perhaps
        outside = int(np.count_nonzero(has_state(entries, State.ALLOCATED) & (places_of(entries) >= place_limit)))
        counts[State.ALLOCATED] -= outside
        counts[State.INVALID] += outside
    return counts


def spans(chosen: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The runs of chosen elements: number of the first, and how many."""
    edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), (edges[1::2] - edges[::2]).tolist()))


def changed_bits(old: bytes, new: bytes) -> list[int]:
    """Which bits differ between two pieces of a bitmap, of one size."""
    return np.flatnonzero(bits_of(old) != bits_of(new)).tolist()


def bits_of(data: bytes) -> NDArray[np.bool_]:
    """The bits of some bytes, the least significant first, as in the free bitmap."""
    return np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little").astype(bool)


# Lanes


def decode(
    entries: Words, grains_sector: int | Words, place_limit: int | Words, *, keep_unmapped: bool = False
) -> Words:
    """Decode grain table entries to lanes of layer 0.

    Args:
        entries: Raw entries.
        grains_sector: Where the grains region starts, in sectors; one for all, or one an entry.
        place_limit: The first place, in grains, that is not in the region or the file; an allocated entry from there
            on is INVALID. Less than 2**44; one for all, or one an entry.
        keep_unmapped: Whether an UNMAPPED lane keeps the place of its old bytes (where that is below the limit and the
            entry is not a bare one). The guest's view does not need it, and has fewer runs without.
    """
    state = entries >> 60
    place = places_of(entries)
    inside = place < place_limit
    placed = allocated = state == State.ALLOCATED
    if allocated.all() and inside.all():
        return place * _SECTORS + grains_sector + _ALLOCATED
    if keep_unmapped:
        placed = allocated | (state == State.UNMAPPED) & (place != 0)
    lanes = state << 60
    lanes |= np.where(placed & inside, place * _SECTORS + grains_sector + _PLACED, 0)
    invalid = (state > State.ALLOCATED) | (state == 0) & (entries != 0) | allocated & ~inside
    if invalid.any():
        lanes[invalid] = State.INVALID << 60
    return lanes


def constant(state: State, count: int) -> Words:
    """``count`` lanes of one state, without a place."""
    return np.full(count, state << 60, WORD)


def ramp(state: State, first_sector: int, step_sectors: int, count: int) -> Words:
    """``count`` lanes whose places follow one another: a piece of a flat file."""
    return np.arange(count, dtype=WORD) * step_sectors + ((_PLACED | state << 60) + first_sector)


def spread(lanes: Words, factor: int, step_sectors: int) -> Words:
    """Cut each lane into ``factor`` lanes of ``step_sectors`` each: a large grain seen through smaller lanes."""
    steps = np.arange(factor, dtype=WORD) * step_sectors
    return (lanes[:, None] + (lanes >> 63)[:, None] * steps).ravel()


class Decode(NamedTuple):
    """How the raw entries of a layer become lanes, see :func:`decode`."""

    grains_sector: int
    place_limit: int
    keep_unmapped: bool = False


class Layer(NamedTuple):
    """What one extent says about a window."""

    entries: Words
    """A word a lane; a lane that says nothing is 0."""
    decode: Decode | None
    """How the entries are decoded, or ``None`` if they are lanes already."""

    def lanes(self) -> Words:
        """The decoded lanes."""
        return (
            self.entries
            if self.decode is None
            else decode(self.entries, *self.decode[:2], keep_unmapped=self.decode[2])
        )

    def within(self, first: int, count: int) -> Layer:
        """The same as a part of a window of ``count`` lanes, from lane ``first`` on."""
        entries = np.zeros(count, WORD)
        entries[first : first + len(self.entries)] = self.entries
        return self._replace(entries=entries)


class Overlay:
    """The tables of a chain's links laid over one another: for each lane, the first layer that says anything about it.

    Layers are added newest first. The numbers of the lanes that nobody answered are kept, and each layer answers only
    those; what they say is decoded once, when all are there.

    Args:
        count: Lanes of the window.
    """

    def __init__(self, count: int):
        self.count = count
        self.left = count
        """Lanes that nobody has answered."""
        self._words = np.zeros(count, WORD)
        self._layer = np.zeros(count, np.uint16)
        self._free = np.ones(count, bool)
        self._decodes: list[Decode | None] = []

    def add(self, layer: Layer) -> None:
        """Lay one below those that are there; at most :data:`MAX_LAYERS`."""
        number = len(self._decodes)
        if number == MAX_LAYERS:
            raise ValueError(f"more than {MAX_LAYERS} layers")
        self._decodes.append(layer.decode)
        if not self.left:
            return
        entries = layer.entries
        if self.left == self.count:
            taken = np.flatnonzero(entries)
            if len(taken) == self.count:
                self._words, self.left = entries, 0
                self._layer.fill(number)
                return
        elif self.left <= _FEW:
            wanted = np.flatnonzero(self._free)
            taken = wanted[entries[wanted] != 0]
        else:
            taken = np.flatnonzero(entries)
            taken = taken[self._free[taken]]
        self._words[taken] = entries[taken]
        self._layer[taken] = number
        self._free[taken] = False
        self.left -= len(taken)

    def lanes(self) -> Words:
        """The decoded lanes; of those that nobody answers the layer means nothing."""
        ways = set(self._decodes)
        lanes = Layer(self._words, ways.pop()).lanes() if len(ways) == 1 else self._decoded_by_layer()
        return lanes | self._layer.astype(WORD) << PLACE_BITS

    def _decoded_by_layer(self) -> Words:
        """The lanes where layers have other places and limits: both are looked up for each lane, and decoded at once."""
        raw = [way or Decode(0, 0) for way in self._decodes] or [Decode(0, 0)]
        sectors = np.array([way.grains_sector for way in raw], WORD)[self._layer]
        limits = np.array([way.place_limit for way in raw], WORD)[self._layer]
        lanes = decode(self._words, sectors, limits, keep_unmapped=any(way.keep_unmapped for way in raw))
        if None in self._decodes:
            ready = np.array([way is None for way in self._decodes])[self._layer]
            lanes = np.where(ready, self._words, lanes)
        return lanes


# Runs


def run_starts(lanes: Words, step_sectors: int) -> NDArray[np.intp]:
    """The numbers of the lanes, from 1 on, that are not what the lane before makes expect: a run starts there."""
    before = lanes[:-1]
    return np.flatnonzero(lanes[1:] != before + (before >> 63) * step_sectors) + 1


class Runs(NamedTuple):
    """Where runs start in an array of lanes, and what is there: three arrays of one length."""

    firsts: NDArray[np.intp]
    """Lane numbers, ascending from 0."""
    kinds: NDArray[np.uint16]
    """See :func:`~dissect_sesparse.extent.lane.split`."""
    places: NDArray[np.int64]
    """Bytes of the file; where the kind has no place, 0."""


def find_runs(lanes: Words, step_sectors: int) -> Runs:
    """The runs of some lanes; at least one lane.

    Args:
        lanes: Decoded lanes.
        step_sectors: Sectors of a lane.
    """
    firsts = np.concatenate(([0], run_starts(lanes, step_sectors)))
    found = lanes[firsts]
    kinds = (found >> 60 | found >> 44 & 0xFFF0).astype(np.uint16)
    return Runs(firsts, kinds, (found & _PLACES).astype(np.int64) * SECTOR)


def runs_of(lanes: Words, start: int, end: int, lane_size: int) -> Iterator[Run]:
    """The runs of the lanes of one extent, without a source.

    Args:
        lanes: Decoded lanes, at least one.
        start: Byte at which the runs begin, in the first lane or at its start.
        end: Byte at which they end, in the last lane or at its end.
        lane_size: Bytes of a lane, a power of two.
    """
    firsts, kinds, places = (array.tolist() for array in find_runs(lanes, lane_size // SECTOR))
    base = start - start % lane_size
    bounds = [max(start, base + first * lane_size) for first in firsts]
    for begin, until, kind, place in zip(bounds, [*bounds[1:], end], kinds, places):
        state, _, placed = split(kind)
        yield Run(begin, until - begin, state, place + begin % lane_size if placed else None)
