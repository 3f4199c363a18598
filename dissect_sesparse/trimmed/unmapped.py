"""What the guest trimmed: the unmapped grains of every link, and what is left of their bytes.

A trimmed grain reads as zeros for the guest. Its entry still names the place it had, and often its old bytes still lie
there. A run here is contiguous on the disk and in the extent, has one state and one parent state, and is at most 16 MiB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dissect_sesparse.chain.summary import snapshot_of_link
from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE
from dissect_sesparse.extent.claims import Claim, claimed_runs
from dissect_sesparse.extent.entry import State
from dissect_sesparse.extent.sesparse import SESparseExtent
from dissect_sesparse.source.errors import UnreadableError
from dissect_sesparse.time.views import view_at
from dissect_sesparse.trimmed.content import Content, describe
from dissect_sesparse.trimmed.parts import WHOLE
from dissect_sesparse.trimmed.states import STATES
from dissect_sesparse.vm.snapshots import snapshots_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.chain.link import Link, Placed
    from dissect_sesparse.extent.claims import ClaimedRun
    from dissect_sesparse.trimmed.parts import Part

MAX_RUN_GRAINS = 4096
"""Grains of a run at the most: 16 MiB."""
ZERO_GRAIN = bytes(GRAIN_SIZE)

__all__ = ["STATES", "Counts", "UnmappedRun", "times_of", "unmapped"]

_STATE_OF = {
    Claim.REUSED: "reused",
    Claim.MISSING: "missing",
    Claim.CONTESTED: "contested",
    Claim.UNKNOWN: "ambiguous",
}


@dataclass(frozen=True)
class UnmappedRun:
    """A run of unmapped grains. Offsets and sizes in bytes."""

    link: Link
    placed: Placed
    offset: int
    """On the virtual disk."""
    size: int
    place: int | None
    """Of the old bytes, in the extent's file; ``None`` where no entry tells."""
    state: str
    """One of :data:`STATES`."""
    parent_state: str | None
    """The same address in the links below: ``same``, ``different``, ``zero``, ``none``; ``None`` where it is not known."""
    after: datetime | None
    """It was unmapped after this: when the snapshot below was taken."""
    before: datetime | None
    """It was unmapped before this: when the snapshot above was taken."""
    content: Content | None
    """Of the old bytes, for ``present``, ``empty`` and ``contested`` runs."""

    @property
    def extent(self) -> SESparseExtent:
        return self.placed.extent  # type: ignore[return-value]

    def read(self) -> bytes:
        """The old bytes.

        Raises:
            UnreadableError: If the file does not have them.
        """
        if self.place is None or self.state not in ("present", "empty", "contested"):
            raise UnreadableError(
                f"a run that is {self.state} has no bytes of its own", offset=self.offset, size=self.size
            )
        return self.extent.file.read(self.place, self.size)


@dataclass
class Counts:
    """What was not listed."""

    never_mapped: int = 0
    """Bytes under bare entries that never had a place."""
    unreadable: int = 0
    """Bytes that are listed as ``missing`` because the file cannot be read there, not because it ends before them."""


def unmapped(
    chain: Chain, *, contents: bool = True, counts: Counts | None = None, part: Part = WHOLE
) -> Iterator[UnmappedRun]:
    """All unmapped runs of all links, newest link first, each link in the order of the disk.

    Bare entries that never had a place are left out.

    Args:
        chain: The disk.
        contents: Whether to hash and measure the old bytes.
        counts: Where to count what is left out.
        part: The tables to go through, see ``parts``.
    """
    counts = counts if counts is not None else Counts()
    for link in chain.links:
        after, before = times_of(chain, link)
        below = view_at(chain, link.depth + 1)
        for number, placed in enumerate(link.extents):
            tables = part.units(link.depth, number)
            if not isinstance(placed.extent, SESparseExtent) or tables is None:
                continue
            for run in claimed_runs(placed.extent.metadata, *tables):
                if run.claim is Claim.NEVER:
                    counts.never_mapped += _size(run, placed)
                for piece, state, parent_state, data in _parts(run, placed, below, counts):
                    content = describe(data) if contents and data is not None else None
                    yield _record(link, placed, piece, state, parent_state, after, before, content)


def _record(
    link: Link,
    placed: Placed,
    run: ClaimedRun,
    state: str,
    parent_state: str | None,
    after: datetime | None,
    before: datetime | None,
    content: Content | None,
) -> UnmappedRun:
    extent: SESparseExtent = placed.extent  # type: ignore[assignment]
    offset = placed.start + run.grain * GRAIN_SIZE
    place = None if run.place is None else extent.metadata.grains_offset + run.place * GRAIN_SIZE
    return UnmappedRun(link, placed, offset, _size(run, placed), place, state, parent_state, after, before, content)


def _size(run: ClaimedRun, placed: Placed) -> int:
    """Bytes of a run that are the disk's: an extent may be larger than its descriptor says."""
    return max(0, min(run.count * GRAIN_SIZE, placed.length - run.grain * GRAIN_SIZE))


def times_of(chain: Chain, link: Link) -> tuple[datetime | None, datetime | None]:
    """Between which times the guest wrote a link: from its parent's snapshot to its own; ``None`` where not known."""
    if (folder := link.folder) is None:
        return None, None
    snapshots = snapshots_of(folder)
    below = chain.links[link.depth + 1] if link.depth + 1 < len(chain.links) else None
    after = snapshot_of_link(below, snapshots) if below is not None else None
    before = snapshot_of_link(link, snapshots)
    return after.created if after is not None else None, before.created if before is not None else None


def _parts(
    run: ClaimedRun, placed: Placed, below: Chain | None, counts: Counts
) -> Iterator[tuple[ClaimedRun, str, str | None, bytes | None]]:
    """A claimed run, cut at 16 MiB and where state or parent state changes, with its bytes."""
    if run.claim is Claim.NEVER or not (size := _size(run, placed)):
        return
    run = run._replace(count=-(-size // GRAIN_SIZE))
    for start in range(0, run.count, MAX_RUN_GRAINS):
        count = min(MAX_RUN_GRAINS, run.count - start)
        part = run._replace(
            grain=run.grain + start, count=count, place=None if run.place is None else run.place + start
        )
        if run.claim in (Claim.ALONE, Claim.CONTESTED):
            yield from _by_content(part, placed, below, counts)
        else:
            yield part, _STATE_OF[run.claim], None, None


def _by_content(
    run: ClaimedRun, placed: Placed, below: Chain | None, counts: Counts
) -> Iterator[tuple[ClaimedRun, str, str | None, bytes | None]]:
    """A run whose bytes are in the file, cut where state or parent state changes."""
    extent: SESparseExtent = placed.extent  # type: ignore[assignment]
    place = run.place or 0
    try:
        data = extent.file.read(extent.metadata.grains_offset + place * GRAIN_SIZE, _size(run, placed))
    except UnreadableError:
        if run.count == 1:
            counts.unreadable += _size(run, placed)
            yield run, "missing", None, None
            return
        half = run.count // 2  # one bad sector does not cost the others
        yield from _by_content(run._replace(count=half), placed, below, counts)
        rest = run._replace(grain=run.grain + half, count=run.count - half, place=place + half)
        yield from _by_content(rest, placed, below, counts)
        return
    parents = _parent_states(data, below, placed.start + run.grain * GRAIN_SIZE)
    states = [_state(run, data[i * GRAIN_SIZE : (i + 1) * GRAIN_SIZE]) for i in range(run.count)]
    start = 0
    for number in range(1, run.count + 1):
        if number < run.count and (states[number], parents[number]) == (states[start], parents[start]):
            continue
        part = run._replace(grain=run.grain + start, count=number - start, place=place + start)
        yield part, states[start], parents[start], data[start * GRAIN_SIZE : number * GRAIN_SIZE]
        start = number


def _state(run: ClaimedRun, grain: bytes) -> str:
    if run.claim is Claim.CONTESTED:
        return "contested"
    return "empty" if grain == ZERO_GRAIN[: len(grain)] else "present"


def _parent_states(data: bytes, below: Chain | None, offset: int) -> list[str | None]:
    """For each grain of some old bytes, what the links below have at the same address.

    ``none`` where no link below has anything, ``zero`` where it reads as zeros, else whether it is the ``same``;
    ``None`` where it cannot be read. Behind the end of the links below there is nothing, and a grain that they have in part
    goes on with zeros: so the guest reads it.
    """
    starts = range(0, len(data), GRAIN_SIZE)
    if below is None:
        return ["none"] * len(starts)
    try:
        under = _grains_of(_padded(below.read(offset, len(data)), len(data)))
    except UnreadableError:  # then one by one
        under = [_read(below, offset + start, min(GRAIN_SIZE, len(data) - start)) for start in starts]
    told = _told(below, offset, len(data))
    states: list[str | None] = []
    for number, (grain, other) in enumerate(zip(_grains_of(data), under)):
        if other is None:
            states.append(None)
        elif other == ZERO_GRAIN[: len(other)]:
            states.append("zero" if told[number] else "none")
        else:
            states.append("same" if other == grain else "different")
    return states


def _grains_of(data: bytes) -> list[bytes]:
    return [data[start : start + GRAIN_SIZE] for start in range(0, len(data), GRAIN_SIZE)]


def _read(below: Chain, offset: int, size: int) -> bytes | None:
    try:
        return _padded(below.read(offset, size), size)
    except UnreadableError:
        return None


def _padded(data: bytes, size: int) -> bytes:
    """Bytes of links that may end before the disk does."""
    return data.ljust(size, b"\x00")


def _told(below: Chain, offset: int, size: int) -> list[bool]:
    """For each grain of a range, whether any link below says anything about it."""
    told = [False] * -(-size // GRAIN_SIZE)
    for placed in below.overlapping(offset, offset + size):
        low, high = max(offset, placed.start), min(offset + size, placed.end)
        for run in placed.extent.runs(low - placed.start, high - low):
            if run.state != State.UNALLOCATED:
                start = placed.start + run.start - offset
                first, end = start // GRAIN_SIZE, -(-(start + run.length) // GRAIN_SIZE)
                told[first:end] = [True] * (end - first)
    return told
