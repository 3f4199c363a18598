"""The view ``residual``: unmapped grains read as their old bytes, where these are surely theirs.

Surely: the entry names a place in the file, and no other entry names it (see ``claims``). All else is as the guest sees it.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from dissect_sesparse.disk.c_sesparse import TABLE_ENTRIES
from dissect_sesparse.disk.claims import BareRule, Claim, Claims, UnmappedRun, split_places
from dissect_sesparse.disk.entry import State
from dissect_sesparse.disk.lanes import spans_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.disk.claims import ClaimedRun
    from dissect_sesparse.disk.sesparse import SESparseExtent

_GROUP = 4096
"""Blocks whose claims are looked up together: 64 GiB of places. Each group costs a pass over the tables, once."""
_GROUPS = 8
"""Groups that are kept."""
_ALLOCATED = bytes(0x30 | value & 0xF for value in range(256))
"""The top byte of an entry, with the state ALLOCATED."""


def as_guest(extent: SESparseExtent) -> SESparseExtent:
    """The same extent as the guest sees it; it shares its file."""
    if extent._residual is None:
        return extent
    shown = copy(extent)
    shown._residual = None
    return shown


def as_residual(extent: SESparseExtent) -> SESparseExtent:
    """The same extent with its unmapped grains shown; it shares its file."""
    if extent._residual is not None:
        return extent
    shown = copy(extent)
    shown._residual = Residual(shown)
    return shown


class Residual:
    """The unmapped grains of an extent that still have bytes of their own.

    Args:
        extent: The extent.
    """

    def __init__(self, extent: SESparseExtent):
        self.extent = extent
        self._bare = BareRule(extent)
        self._claims: dict[int, Claims] = {}

    def show(self, first: int, entries: bytes) -> bytes:
        """Raw entries from grain ``first`` on, with the unmapped ones that have bytes of their own made ALLOCATED."""
        shown = bytearray(entries)
        for start, end in spans_of(State.UNMAPPED, entries):
            for run in split_places(first + start, entries[start * 8 : end * 8]):
                for part in self._parts(run):
                    if part.claim is Claim.ALONE:
                        at, until = part.grain - first, part.grain - first + part.count
                        shown[at * 8 + 7 : until * 8 : 8] = shown[at * 8 + 7 : until * 8 : 8].translate(_ALLOCATED)
        return bytes(shown)

    @property
    def bare_claim(self) -> Claim:
        """The claim on bare entries that are not shown: NEVER, or UNKNOWN."""
        return self._bare.claim

    def _parts(self, run: UnmappedRun) -> Iterator[ClaimedRun]:
        if run.place is None:
            yield from self._bare.split(run)
            return
        grain, left, place = run.grain, run.count, run.place
        while left > 0:
            group = place // (TABLE_ENTRIES * _GROUP)
            count = min(left, (group + 1) * TABLE_ENTRIES * _GROUP - place)
            yield from self._group(group).split(UnmappedRun(grain, count, place))
            grain, left, place = grain + count, left - count, place + count

    def _group(self, number: int) -> Claims:
        if (claims := self._claims.get(number)) is None:
            claims = Claims(self.extent, range(number * _GROUP, (number + 1) * _GROUP))
            if len(self._claims) >= _GROUPS:
                self._claims = {}
            self._claims[number] = claims
        return claims
