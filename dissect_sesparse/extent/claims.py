"""Whose the old bytes of unmapped grains are: which places unmapped entries name, and who else names them.

An UNMAPPED entry keeps the place it had. ESXi may have given the place to another grain since; then the bytes there are
that grain's. So all tables are gone through for entries that name the same places.

Memory is bounded: places are looked at a group of blocks at a time (a block is 4096 grains, 16 MiB), and one group costs
one pass over the tables.
"""

from __future__ import annotations

from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dissect_sesparse.extent.backmap import Backmap
from dissect_sesparse.extent.c_sesparse import TABLE_ENTRIES
from dissect_sesparse.extent.engine import blocks_of, has_state, places_of, slots_of
from dissect_sesparse.extent.entry import BARE_UNMAPPED, State, encode_entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from dissect_sesparse.extent.engine import Words
    from dissect_sesparse.extent.metadata import Metadata

MAX_BLOCKS = 8192
"""Blocks of a group: 128 GiB of places, some 32 MiB of memory."""
_PLACE_0 = encode_entry(State.ALLOCATED)
"""The entry of an allocated grain that has place 0."""
_ALLOCATED, _UNMAPPED, _AGAIN = 1, 2, 4
"""Flags of a place: an allocated entry names it, an unmapped one does, more than one does."""


class Claim(Enum):
    """Who names the place of an unmapped grain."""

    ALONE = "alone"
    """Only that grain."""
    REUSED = "reused"
    """An allocated grain too: the bytes are its."""
    CONTESTED = "contested"
    """Other unmapped grains too: nothing tells whose the bytes are."""
    MISSING = "missing"
    """The file ends before it."""
    UNKNOWN = "unknown"
    """The entry is a bare one, and nothing tells whether it ever had place 0."""
    NEVER = "never"
    """The entry is a bare one, and place 0 is another's: it never had a place."""


CLAIMS = tuple(Claim)
_ALONE = CLAIMS.index(Claim.ALONE)


class ClaimedRun(NamedTuple):
    """Unmapped grains that follow one another, whose places do too, and that have one claim. Counted in grains."""

    grain: int
    """On the extent's disk."""
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]  # tuple.count is of no use here
    place: int | None
    """``None`` where the entries are bare and none of them had place 0."""
    claim: Claim


def claimed_runs(metadata: Metadata, first: int = 0, end: int | None = None) -> Iterator[ClaimedRun]:
    """The unmapped runs of an extent, in the order of its disk; none crosses a table.

    Args:
        metadata: Of an extent. Who else names a place is looked for in all of its tables.
        first: The first table that is gone through.
        end: The one behind the last.
    """
    bare = BareRule(metadata)
    for tables, blocks in _groups(metadata, first, end):
        claims = Claims(metadata, blocks)
        for table in tables:
            for grain, entries in metadata.sound_tables(table, table + 1):
                yield from claims.runs(grain, entries, bare)


def _groups(metadata: Metadata, first: int, end: int | None) -> Iterator[tuple[list[int], Words]]:
    """Tables with unmapped entries, and the blocks that these name; of few enough blocks to be looked up together."""
    tables: list[int] = []
    named: list[Words] = []
    count = 0
    for grain, entries in metadata.sound_tables(first, end):
        is_unmapped = has_state(entries, State.UNMAPPED)
        if not is_unmapped.any():
            continue
        unmapped = entries[is_unmapped]
        blocks = np.unique(blocks_of(unmapped[unmapped != BARE_UNMAPPED]))
        if tables and count + len(blocks) > MAX_BLOCKS:
            yield tables, np.unique(np.concatenate(named))
            tables, named, count = [], [], 0
        tables.append(grain // TABLE_ENTRIES)
        named.append(blocks)
        count += len(blocks)
    if tables:
        yield tables, np.unique(np.concatenate(named))


class Claims:
    """The entries of an extent that name places in some blocks: a byte of flags for each place.

    Args:
        metadata: Of an extent; all of its tables are read.
        blocks: Which, ascending.
    """

    def __init__(self, metadata: Metadata, blocks: Words):
        self.metadata = metadata
        self._blocks = blocks
        self._flags = np.zeros(len(blocks) * TABLE_ENTRIES, np.uint8)
        if len(blocks):
            for _, entries in metadata.sound_tables():
                self._add(entries)

    def _add(self, entries: Words) -> None:
        for state in (State.ALLOCATED, State.UNMAPPED):
            chosen = entries[has_state(entries, state)]
            if state == State.UNMAPPED:
                chosen = chosen[chosen != BARE_UNMAPPED]
            if not len(chosen):
                continue
            at, known = self._numbers(chosen)
            at = at[known]
            if state == State.UNMAPPED:
                names, times = np.unique(at, return_counts=True)
                again = names[(times > 1) | (self._flags[names] & _UNMAPPED != 0)]
                self._flags[again] |= _AGAIN
                self._flags[names] |= _UNMAPPED
            else:
                self._flags[at] |= _ALLOCATED

    def _numbers(self, entries: Words) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """The numbers of the flags of the places that entries name, and which of them are in the blocks."""
        wanted = blocks_of(entries)
        row = np.searchsorted(self._blocks, wanted)
        row[row == len(self._blocks)] = 0
        known = self._blocks[row] == wanted
        return row * TABLE_ENTRIES + slots_of(entries).astype(np.intp), known

    def claims_of(self, grains: NDArray[np.intp], entries: Words) -> NDArray[np.uint8]:
        """Who names the places that the unmapped entries of some grains name, as numbers in :data:`CLAIMS`.

        For places of other blocks: ALONE.
        """
        if not len(self._blocks):
            return np.full(len(entries), _ALONE, np.uint8)
        at, known = self._numbers(entries)
        flags = np.where(known, self._flags[at], 0)
        claims = np.where(flags & _AGAIN, CLAIMS.index(Claim.CONTESTED), _ALONE)
        claims[~has_bytes(self.metadata, grains, places_of(entries))] = CLAIMS.index(Claim.MISSING)
        claims[flags & _ALLOCATED != 0] = CLAIMS.index(Claim.REUSED)
        return claims.astype(np.uint8)

    def runs(self, grain: int, entries: Words, bare: BareRule) -> Iterator[ClaimedRun]:
        """The unmapped runs of raw entries, of which the first is of ``grain``, cut where another claim begins."""
        slots = np.flatnonzero(has_state(entries, State.UNMAPPED))
        if not len(slots):
            return
        chosen = entries[slots]
        places = places_of(chosen).astype(np.int64)
        claims = self.claims_of(slots + grain, chosen)
        is_bare = chosen == BARE_UNMAPPED
        if is_bare.any():
            bare.claims_of(slots[is_bare] + grain, claims, places, is_bare)
        steps = np.where(places[:-1] < 0, 0, 1)
        cuts = (np.diff(slots) != 1) | (np.diff(places) != steps) | (np.diff(claims) != 0)
        starts = np.concatenate(([0], np.flatnonzero(cuts) + 1))
        counts = np.diff(np.append(starts, len(slots)))
        rows = (slots[starts] + grain, counts, places[starts], claims[starts])
        for at, count, place, claim in zip(*(row.tolist() for row in rows)):
            yield ClaimedRun(at, count, place if place >= 0 else None, CLAIMS[claim])


def has_bytes(metadata: Metadata, grains: NDArray[Any], places: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the file has all bytes of some grains at some places; the disk's last grain may be shorter than others."""
    there = places < metadata.whole_places
    for number in np.flatnonzero(~there & (grains == metadata.last_grain)).tolist():
        there[number] = metadata.has_last(int(places[number]))
    return there


class BareRule:
    """What a bare UNMAPPED entry means: at most one of an extent's can have had place 0.

    Args:
        metadata: Of an extent. Its tables are read when the first bare entry is met.
    """

    def __init__(self, metadata: Metadata):
        self.metadata = metadata

    @cached_property
    def owner(self) -> int | None:
        """The grain whose bare entry had place 0; ``None`` where the backmap names none, or an allocated entry has it."""
        owner = self._named
        return owner if owner is not None and self._is_bare(owner) and not self._reused else None

    @cached_property
    def claim(self) -> Claim:
        """The claim on all bare entries but the owner's."""
        return Claim.NEVER if self._named is not None or self._reused else Claim.UNKNOWN

    @cached_property
    def _named(self) -> int | None:
        return Backmap(self.metadata).owner(0)

    @cached_property
    def _reused(self) -> bool:
        return any(bool((entries == _PLACE_0).any()) for _, entries in self.metadata.sound_tables())

    def claims_of(
        self, grains: NDArray[np.intp], claims: NDArray[np.uint8], places: NDArray[np.int64], bare: NDArray[np.bool_]
    ) -> None:
        """Put the claims and places of bare entries where they belong; a place of -1 is none.

        Args:
            grains: Of the bare entries.
            claims: Of all unmapped entries, as numbers in :data:`CLAIMS`.
            places: Of all of them.
            bare: Which of them are bare.
        """
        claims[bare] = CLAIMS.index(self.claim)
        places[bare] = -1
        if (owner := self.owner) is not None and len(found := (grains == owner).nonzero()[0]):
            at = bare.nonzero()[0][found[0]]
            there = bool(has_bytes(self.metadata, grains[found], np.zeros(1, np.int64))[0])
            claims[at] = CLAIMS.index(Claim.ALONE if there else Claim.MISSING)
            places[at] = 0
            claims[bare & (places < 0)] = CLAIMS.index(Claim.NEVER)

    def _is_bare(self, grain: int) -> bool:
        entries = self.metadata.entries(grain, 1)
        return entries is not None and int(entries[0]) == BARE_UNMAPPED
