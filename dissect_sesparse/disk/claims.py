"""Whose the old bytes of unmapped grains are: which places unmapped entries name, and who else names them.

An UNMAPPED entry keeps the place it had. ESXi may have given the place to another grain since; then the bytes there are
that grain's. So all tables are gone through for entries that name the same places.

Memory is bounded: places are looked at a group of blocks at a time (a block is 4096 grains, 16 MiB), and one group costs
one pass over the tables.
"""

from __future__ import annotations

from enum import Enum
from functools import cached_property
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.disk.c_sesparse import TABLE_ENTRIES
from dissect_sesparse.disk.entry import BARE_UNMAPPED, State, decode_entry
from dissect_sesparse.disk.lanes import blocks, spans_of, successive, unpack

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from dissect_sesparse.disk.sesparse import SESparseExtent

MAX_BLOCKS = 16384
"""Blocks of a group: 256 GiB of places, some 30 MiB of memory."""
MAX_RUNS = 262144
"""Runs of a group."""
_BLOCK = (1 << 48) - 1
_BARE = BARE_UNMAPPED.to_bytes(8, "little")


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


class UnmappedRun(NamedTuple):
    """Unmapped grains that follow one another, and whose places do too. Counted in grains."""

    grain: int
    """On the extent's disk."""
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]  # tuple.count is of no use here
    place: int | None
    """``None`` where the entries are bare."""


class ClaimedRun(NamedTuple):
    """An unmapped run with one claim on all of its places."""

    grain: int
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
    place: int | None
    claim: Claim


def unmapped_runs(extent: SESparseExtent, first: int = 0, end: int | None = None) -> Iterator[UnmappedRun]:
    """The runs of UNMAPPED entries, as the tables tell them, in the order of the disk; none crosses a table.

    Args:
        extent: The extent.
        first: The first table that is looked at.
        end: The one behind the last.
    """
    for grain, entries in extent.raw_tables(first, end):
        for start, until in spans_of(State.UNMAPPED, entries):
            yield from split_places(grain + start, entries[start * 8 : until * 8])


def split_places(grain: int, entries: bytes) -> Iterator[UnmappedRun]:
    """The runs of raw UNMAPPED entries, of which the first is of ``grain``."""
    count = len(entries) // 8
    if entries == _BARE * count:
        yield UnmappedRun(grain, count, None)
        return
    if (place := successive(entries, State.UNMAPPED)) is not None and place:
        yield UnmappedRun(grain, count, place)
        return
    run: UnmappedRun | None = None
    for number, entry in enumerate(unpack(entries), grain):
        here = decode_entry(entry)[1] or None
        if run is not None and here == (None if run.place is None else run.place + run.count):
            run = run._replace(count=run.count + 1)
            continue
        if run is not None:
            yield run
        run = UnmappedRun(number, 1, here)
    if run is not None:
        yield run


def claimed_runs(extent: SESparseExtent, first: int = 0, end: int | None = None) -> Iterator[ClaimedRun]:
    """The unmapped runs of an extent, cut where another claim begins; those of some tables, by the entries of all."""
    bare = BareRule(extent)
    for group in _groups(unmapped_runs(extent, first, end)):
        claims = Claims(extent, {block for run in group for block in _blocks_of(run)})
        for run in group:
            yield from bare.split(run) if run.place is None else claims.split(run)


def _groups(runs: Iterable[UnmappedRun]) -> Iterator[list[UnmappedRun]]:
    group: list[UnmappedRun] = []
    named: set[int] = set()
    for run in runs:
        group.append(run)
        named.update(_blocks_of(run))
        if len(named) >= MAX_BLOCKS or len(group) >= MAX_RUNS:
            yield group
            group, named = [], set()
    if group:
        yield group


def _blocks_of(run: UnmappedRun) -> range:
    if run.place is None:
        return range(0)
    return range(run.place // TABLE_ENTRIES, (run.place + run.count - 1) // TABLE_ENTRIES + 1)


class Claims:
    """The entries of an extent that name places in some blocks: a bit for each place.

    Args:
        extent: The extent; all of its tables are read.
        wanted: The blocks.
    """

    def __init__(self, extent: SESparseExtent, wanted: Collection[int]):
        self.extent = extent
        self.whole_places = extent.whole_places
        self.allocated = dict.fromkeys(wanted, 0)
        self.unmapped = dict.fromkeys(wanted, 0)
        self.again = dict.fromkeys(wanted, 0)
        """Named by more than one unmapped entry."""
        if wanted:
            for _, entries in extent.raw_tables():
                self._add(entries)

    def _add(self, entries: bytes) -> None:
        if (place := successive(entries, State.ALLOCATED)) is not None:
            block, grain = divmod(place, TABLE_ENTRIES)
            if block in self.allocated:
                self.allocated[block] |= ((1 << len(entries) // 8) - 1) << grain
            return
        named = [block in self.allocated for block in blocks(entries)]
        for entry in compress(unpack(entries), named):
            block, bit, state = entry & _BLOCK, 1 << (entry >> 48 & 0xFFF), entry >> 60
            if state == State.ALLOCATED:
                self.allocated[block] |= bit
            elif state == State.UNMAPPED:
                if entry == BARE_UNMAPPED:
                    continue
                self.again[block] |= self.unmapped[block] & bit
                self.unmapped[block] |= bit

    def claim(self, place: int, of: int = -1) -> Claim:
        """Who names a place that the unmapped entry of a grain names."""
        block, grain = divmod(place, TABLE_ENTRIES)
        if self.allocated[block] >> grain & 1:
            return Claim.REUSED
        if place >= self.whole_places and not (of == self.extent.last_grain and self.extent.has_last(place)):
            return Claim.MISSING
        return Claim.CONTESTED if self.again[block] >> grain & 1 else Claim.ALONE

    def split(self, run: UnmappedRun) -> Iterator[ClaimedRun]:
        """A run, cut where another claim begins."""
        start, claim = 0, self.claim(run.place or 0, run.grain)
        for number in range(1, run.count + 1):
            here = self.claim((run.place or 0) + number, run.grain + number) if number < run.count else None
            if here is not claim:
                yield ClaimedRun(run.grain + start, number - start, (run.place or 0) + start, claim)
                if here is not None:
                    start, claim = number, here


class BareRule:
    """What a bare UNMAPPED entry means: at most one of an extent's can have had place 0.

    Args:
        extent: The extent. Its tables are read when the first bare entry is met.
    """

    def __init__(self, extent: SESparseExtent):
        self.extent = extent

    @cached_property
    def owner(self) -> int | None:
        """The grain whose bare entry had place 0; ``None`` where the backmap tells none, or an allocated entry has it."""
        owner = self._told
        return owner if owner is not None and self._is_bare(owner) and not self._reused else None

    @cached_property
    def claim(self) -> Claim:
        """The claim on all bare entries but the owner's."""
        return Claim.NEVER if self._told is not None or self._reused else Claim.UNKNOWN

    @cached_property
    def _told(self) -> int | None:
        return self.extent.backmap.owner(0)

    @cached_property
    def _reused(self) -> bool:
        return Claims(self.extent, {0}).claim(0) is Claim.REUSED

    def split(self, run: UnmappedRun) -> Iterator[ClaimedRun]:
        """A run of bare entries, cut where another claim begins."""
        claim, owner = self.claim, self.owner
        if owner is None or not run.grain <= owner < run.grain + run.count:
            yield ClaimedRun(run.grain, run.count, None, claim)
            return
        if run.grain < owner:
            yield ClaimedRun(run.grain, owner - run.grain, None, Claim.NEVER)
        there = self.extent.whole_places > 0 or (owner == self.extent.last_grain and self.extent.has_last(0))
        yield ClaimedRun(owner, 1, 0, Claim.ALONE if there else Claim.MISSING)
        if (after := run.grain + run.count - owner - 1) > 0:
            yield ClaimedRun(owner + 1, after, None, Claim.NEVER)

    def _is_bare(self, grain: int) -> bool:
        entries = self.extent.entries(grain, 1)
        return entries == _BARE
