"""What the old bytes of unmapped grains are beside what the links below have: many short runs looked at in one go.

Runs that lie close together on the disk are read together, as a disk may have millions of them. Where a read fails, each
run is read by itself, and halved until only what cannot be had is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE
from dissect_sesparse.extent.claims import Claim
from dissect_sesparse.extent.entry import State
from dissect_sesparse.source.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.chain.link import Placed
    from dissect_sesparse.extent.claims import ClaimedRun
    from dissect_sesparse.extent.sesparse import SESparseExtent

MAX_RUN_GRAINS = 4096
"""Grains of a run at the most: 16 MiB."""
ZERO_GRAIN = bytes(GRAIN_SIZE)
_NEAR, _GAP = 256, 8
"""Grains of the disk that are looked at in one go, and between two runs of them: 1 MiB and 32 KiB."""
_OWN = (Claim.ALONE, Claim.CONTESTED)
_STATE_OF = {
    Claim.REUSED: "reused",
    Claim.MISSING: "missing",
    Claim.CONTESTED: "contested",
    Claim.UNKNOWN: "ambiguous",
}


class OldPiece(NamedTuple):
    """Grains of a claimed run that have one state and one parent state."""

    run: ClaimedRun
    state: str
    parent_state: str | None
    data: bytes | None
    """The old bytes, where they are in the file and were asked for."""


@dataclass
class Counts:
    """What was not listed."""

    never_mapped: int = 0
    """Bytes under bare entries that never had a place."""
    unreadable: int = 0
    """Bytes that are listed as ``missing`` because the file cannot be read there, not because it ends before them."""


@dataclass
class OldBytes:
    """The old bytes of an extent's unmapped runs."""

    placed: Placed
    below: Chain | None
    """The links below; ``None`` where there are none."""
    keep: bool
    """Whether the pieces have their bytes."""
    counts: Counts
    """Where to count what has no piece, and what cannot be read."""

    def __post_init__(self) -> None:
        self.extent: SESparseExtent = self.placed.extent  # type: ignore[assignment]
        # where unreadable bytes are zeros and are counted, only what is asked for is read
        self.near = 0 if self.below is not None and self.below.options.unreadable == "zero" else _NEAR

    def size(self, run: ClaimedRun) -> int:
        """Bytes of a run that are the disk's: an extent may be larger than its descriptor says."""
        return max(0, min(run.count * GRAIN_SIZE, self.placed.length - run.grain * GRAIN_SIZE))

    def pieces(self, runs: Iterable[ClaimedRun]) -> Iterator[OldPiece]:
        """The runs in order, cut at 16 MiB and where state or parent state changes."""
        near: list[ClaimedRun] = []
        first = end = 0
        for run in self._cut(runs):
            if near and (run.grain > end + _GAP or run.grain + run.count > first + self.near):
                yield from self._looked_at(near)
                near = []
            if not near:
                first = run.grain
            near.append(run)
            end = run.grain + run.count
        if near:
            yield from self._looked_at(near)

    def _cut(self, runs: Iterable[ClaimedRun]) -> Iterator[ClaimedRun]:
        """Runs of at most 16 MiB, as far as they are the disk's."""
        whole = self.placed.length // GRAIN_SIZE
        for run in runs:
            if run.claim is Claim.NEVER:
                self.counts.never_mapped += self.size(run)
                continue
            if run.count <= MAX_RUN_GRAINS and run.grain + run.count <= whole:
                yield run
                continue
            count = -(-self.size(run) // GRAIN_SIZE)
            for start in range(0, count, MAX_RUN_GRAINS):
                place = None if run.place is None else run.place + start
                yield run._replace(grain=run.grain + start, count=min(MAX_RUN_GRAINS, count - start), place=place)

    def _looked_at(self, runs: list[ClaimedRun]) -> Iterator[OldPiece]:
        """The pieces of runs that lie close together."""
        own = [run for run in runs if run.claim in _OWN]
        try:
            data = self._together(own)
            under = self._under(own[0].grain, own[-1]) if own else None
        except UnreadableError:
            for run in runs:
                yield from self._alone(run)
            return
        position = 0
        for run in runs:
            if run.claim in _OWN:
                yield from self._pieces_of(run, data, position, under)
                position += run.count * GRAIN_SIZE
            else:
                yield OldPiece(run, _STATE_OF[run.claim], None, None)

    def _alone(self, run: ClaimedRun) -> Iterator[OldPiece]:
        """The pieces of a run, where not all of what is around it can be read."""
        if run.claim not in _OWN:
            yield OldPiece(run, _STATE_OF[run.claim], None, None)
            return
        try:
            data = self._together([run])
        except UnreadableError:
            if run.count == 1:
                self.counts.unreadable += self.size(run)
                yield OldPiece(run, "missing", None, None)
                return
            half = run.count // 2  # one bad sector does not cost the others
            yield from self._alone(run._replace(count=half))
            place = (run.place or 0) + half
            yield from self._alone(run._replace(grain=run.grain + half, count=run.count - half, place=place))
            return
        try:
            under = self._under(run.grain, run)
        except UnreadableError:
            under = self._under_by_grain(run)
        yield from self._pieces_of(run, data, 0, under)

    def _together(self, runs: list[ClaimedRun]) -> bytes:
        """The old bytes of some runs, one after the other; only those of the last may end within a grain."""
        if not runs:
            return b""
        offset, places = self.extent.metadata.grains_offset, [run.place or 0 for run in runs]
        low, count = min(places), sum(run.count for run in runs)
        span = max(place + run.count for place, run in zip(places, runs)) - low
        if len(runs) == 1 or span > 2 * count or (runs[-1].grain + runs[-1].count) * GRAIN_SIZE > self.placed.length:
            read = self.extent.file.read
            return b"".join([read(offset + place * GRAIN_SIZE, self.size(run)) for place, run in zip(places, runs)])
        data = self.extent.file.read(offset + low * GRAIN_SIZE, span * GRAIN_SIZE)
        ends = (place + run.count for place, run in zip(places, runs))
        if all(end == place for end, place in zip(ends, places[1:])):  # two that are contested may have one place
            return data
        starts = [(place - low) * GRAIN_SIZE for place in places]
        return b"".join([data[start : start + run.count * GRAIN_SIZE] for start, run in zip(starts, runs)])

    def _under(self, first: int, last: ClaimedRun) -> Under | None:
        """What the links below have from a grain up to the end of a run."""
        if self.below is None:
            return None
        start = self.placed.start + first * GRAIN_SIZE
        size = (last.grain - first) * GRAIN_SIZE + self.size(last)
        return Under(self.below, start, self.below.read(start, size).ljust(size, b"\x00"))

    def _under_by_grain(self, run: ClaimedRun) -> Under | None:
        """The same for one run, as far as it can be read."""
        if self.below is None:
            return None
        start, size = self.placed.start + run.grain * GRAIN_SIZE, self.size(run)
        pieces, lost = [], set()
        for at in range(0, size, GRAIN_SIZE):
            count = min(GRAIN_SIZE, size - at)
            try:
                pieces.append(self.below.read(start + at, count).ljust(count, b"\x00"))
            except UnreadableError:
                pieces.append(bytes(count))
                lost.add(at)
        return Under(self.below, start, b"".join(pieces), frozenset(lost))

    def _pieces_of(self, run: ClaimedRun, data: bytes, position: int, under: Under | None) -> Iterator[OldPiece]:
        """A run cut where state or parent state changes; its bytes are at ``position`` of ``data``."""
        at = 0 if under is None else self.placed.start + run.grain * GRAIN_SIZE - under.start
        found, first = ("", None), 0
        for number in range(run.count):
            start = position + number * GRAIN_SIZE
            grain = data[start : start + GRAIN_SIZE]
            state = (
                "contested"
                if run.claim is Claim.CONTESTED
                else "empty"
                if grain == ZERO_GRAIN[: len(grain)]
                else "present"
            )
            now = (state, "none" if under is None else under.state(at + number * GRAIN_SIZE, grain))
            if number and now != found:
                yield self._piece(run, first, number, *found, data, position)
                first = number
            found = now
        yield self._piece(run, first, run.count, *found, data, position)

    def _piece(
        self, run: ClaimedRun, first: int, end: int, state: str, parent_state: str | None, data: bytes, position: int
    ) -> OldPiece:
        kept = data[position + first * GRAIN_SIZE : position + end * GRAIN_SIZE] if self.keep else None
        if end - first < run.count:
            run = run._replace(grain=run.grain + first, count=end - first, place=(run.place or 0) + first)
        return OldPiece(run, state, parent_state, kept)


@dataclass
class Under:
    """What the links below have at some addresses: so the guest reads it without the link.

    Behind their end there is nothing, and a grain that they have in part goes on with zeros.
    """

    below: Chain
    start: int
    """Byte of the disk."""
    data: bytes
    lost: frozenset[int] = frozenset()
    """Grains that cannot be read, by their byte in ``data``."""

    def state(self, at: int, grain: bytes) -> str | None:
        """What there is beside the old bytes of a grain.

        ``none`` where no link below has anything, ``zero`` where it reads as zeros, else whether it is the ``same``; ``None``
        where it cannot be read.
        """
        if at in self.lost:
            return None
        if self.data.startswith(ZERO_GRAIN[: len(grain)], at):
            return "zero" if self._known[at // GRAIN_SIZE] else "none"
        return "same" if self.data.startswith(grain, at) else "different"

    @cached_property
    def _known(self) -> list[bool]:
        """For each grain, whether any link below says anything about it."""
        offset, size = self.start, len(self.data)
        known = [False] * -(-size // GRAIN_SIZE)
        for placed in self.below.overlapping(offset, offset + size):
            low, high = max(offset, placed.start), min(offset + size, placed.end)
            for run in placed.extent.runs(low - placed.start, high - low):
                if run.state != State.UNALLOCATED:
                    start = placed.start + run.start - offset
                    first, end = start // GRAIN_SIZE, -(-(start + run.length) // GRAIN_SIZE)
                    known[first:end] = [True] * (end - first)
        return known
