"""The view ``residual``: unmapped grains read as their old bytes, where these are surely theirs.

Surely: the entry names a place in the file, and no other entry names it (see ``claims``). All else is as the guest sees it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE
from dissect_sesparse.extent.claims import CLAIMS, BareRule, Claim, Claims, has_bytes
from dissect_sesparse.extent.engine import WORD, blocks_of, entries_of, places_of, runs_of, states_of
from dissect_sesparse.extent.entry import BARE_UNMAPPED, State
from dissect_sesparse.extent.sesparse import SESparseExtent

if TYPE_CHECKING:
    from dissect_sesparse.extent.engine import Words
    from dissect_sesparse.extent.metadata import Metadata

_GROUP = 4096
"""Blocks whose claims are looked up together: 64 GiB of places. Each group costs a pass over the tables, once."""
_GROUPS = 4
"""Groups that are kept, 16 MiB each."""


class ResidualExtent(SESparseExtent):
    """A seSparse extent with its unmapped grains shown as their old bytes, where these are surely theirs.

    Args:
        metadata: Its directory and tables.
    """

    def __init__(self, metadata: Metadata):
        super().__init__(metadata)
        self.bare = BareRule(metadata)
        """What its bare entries mean."""
        self._claims: dict[int, Claims] = {}

    def shown(self, first_grain: int, count: int) -> Words | None:
        """The entries, with the unmapped ones that have bytes of their own made ALLOCATED."""
        entries = super().shown(first_grain, count)
        if entries is None or not len(slots := np.flatnonzero(states_of(entries) == State.UNMAPPED)):
            return entries
        chosen = entries[slots]
        bare = chosen == BARE_UNMAPPED
        owner = self.bare.owner if bare.any() else None
        grains = slots + first_grain
        there = has_bytes(self.metadata, grains, places_of(chosen))
        own = (bare & there & (grains == owner)) if owner is not None else np.zeros(len(slots), bool)
        inside = ~bare & there
        groups = blocks_of(chosen) // _GROUP
        for group in np.unique(groups[inside]).tolist():
            here = inside & (groups == group)
            own[here] = self._group(group).claims_of(grains[here], chosen[here]) == CLAIMS.index(Claim.ALONE)
        shown = entries.copy()
        shown[slots[own]] = entries_of(State.ALLOCATED, places_of(chosen[own]))
        return shown

    def find(self, offset: int) -> tuple[State, int | None]:
        if (entries := self.shown(offset // GRAIN_SIZE, 1)) is None:
            return State.UNALLOCATED, None
        run = next(runs_of(self.lanes(entries), offset, offset + 1, GRAIN_SIZE))
        if run.state == State.INVALID:
            raise self.explain(offset)
        return run.state, run.place

    def _group(self, number: int) -> Claims:
        if (claims := self._claims.get(number)) is None:
            blocks = np.arange(number * _GROUP, (number + 1) * _GROUP, dtype=WORD)
            if len(self._claims) >= _GROUPS:
                self._claims = {}
            claims = self._claims[number] = Claims(self.metadata, blocks)
        return claims


def as_guest(extent: SESparseExtent) -> SESparseExtent:
    """The same extent as the guest sees it; it shares its file."""
    return SESparseExtent(extent.metadata) if isinstance(extent, ResidualExtent) else extent


def as_residual(extent: SESparseExtent) -> ResidualExtent:
    """The same extent with its unmapped grains shown; it shares its file."""
    return extent if isinstance(extent, ResidualExtent) else ResidualExtent(extent.metadata)
