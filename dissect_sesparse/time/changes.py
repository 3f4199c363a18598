"""What the guest changed on a disk between two of its states.

A link holds all that the guest did from the snapshot below it to the one above it, so nothing has to be compared: what lies
between two states of one chain is what the links between them say, the newest first. States of two branches have a last
common link; what the newer one's branch says was changed, and what only the other branch says was *reverted*: there the newer
state has what both are based on. (From a newer state back to an older one of its own chain, all of it is.)

A link that ends before its parent hides what lies behind its end, also from larger links above it: that was *cut* off.

Ranges that were written are told as the tables tell them: the guest may have written what was there before. Whether it has
is found out by reading both states, where that is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.chain.chain import Chain
from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE
from dissect_sesparse.extent.entry import Run, State
from dissect_sesparse.extent.residual import as_guest
from dissect_sesparse.extent.sesparse import SESparseExtent
from dissect_sesparse.source.errors import ParentError, UnreadableError
from dissect_sesparse.source.folder import identity
from dissect_sesparse.time.views import view_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dissect_sesparse.chain.link import Link, Placed

KINDS = ("written", "zeroed", "unmapped", "reverted", "cut", "unreadable")
"""What may have happened to a range. ``cut``: a link of the newer state ends before it, so that nothing is left of what the
older state has there. ``unreadable``: a table entry that nothing can be told from."""
_KIND_OF = {
    State.ALLOCATED: "written",
    State.ZERO: "zeroed",
    State.UNMAPPED: "unmapped",
    State.INVALID: "unreadable",
}
_CHUNK = 4 * 1024 * 1024
"""Bytes that are compared at once."""


class DiskState(NamedTuple):
    """A state of a disk: the one that a link of a chain holds, with all links below it."""

    chain: Chain
    depth: int

    @property
    def links(self) -> tuple[Link, ...]:
        return self.chain.links[self.depth :]

    @property
    def name(self) -> str:
        return self.chain.links[self.depth].name

    def as_guest(self) -> Chain:
        """The disk as the guest saw it then, whatever view the chain has. What cannot be read is not known, not zeros."""
        view = view_at(self.chain, self.depth)
        assert view is not None  # only below the last link there is none
        return view


@dataclass(frozen=True)
class Change:
    """A range that differs: contiguous on the disk and in the extent. Offsets and sizes in bytes."""

    link: Link
    """Which tells it: of the newer state's chain, for a reverted range of the other's; the link that is too short for it."""
    offset: int
    size: int
    kind: str
    """One of :data:`KINDS`."""
    run: Run
    """As the link has it; where a link is too short, what the other state has there."""
    same: bool | None = None
    """Whether both states have the same bytes there; ``None`` where that is not known."""


def changes(older: DiskState, newer: DiskState, *, compare: bool = False) -> Iterator[Change]:
    """What was changed from one state of a disk to another, in the order of the disk.

    Args:
        older: The state to start from.
        newer: The state to get to. Where it is the older one, or one of another branch, what was done is undone.
        compare: Whether to read both, and cut the ranges where they begin or end to have the same bytes.

    Raises:
        ParentError: If the two have no link in common: they are states of different disks.
        UnreadableError: If a table cannot be read.
    """
    ours, theirs = between(older, newer)
    found = _found(ours, theirs, newer, older)
    yield from _compared(found, older.as_guest(), newer.as_guest()) if compare else found


def between(older: DiskState, newer: DiskState) -> tuple[tuple[Link, ...], tuple[Link, ...]]:
    """The links of each state above their last common one: those of the newer state, then those of the older one.

    Raises:
        ParentError: If they have none in common.
    """
    theirs = {identity(link.path): number for number, link in enumerate(older.links) if link.path is not None}
    for number, link in enumerate(newer.links):
        if link.path is not None and identity(link.path) in theirs:
            return newer.links[:number], older.links[: theirs[identity(link.path)]]
    if older.chain is newer.chain:  # opened from a file object: the links have no paths, and are the same objects
        return newer.links[: max(0, older.depth - newer.depth)], older.links[: max(0, newer.depth - older.depth)]
    names = f"{older.name} and {newer.name}"
    raise ParentError(f"{names} have no link in common: they are states of different disks", file=newer.links[0].path)


def _found(ours: Sequence[Link], theirs: Sequence[Link], newer: DiskState, older: DiskState) -> Iterator[Change]:
    """What the links of each branch tell, and what each lacks of the common ones because a link is too short for it."""
    mine, other = _Branch(ours, newer), _Branch(theirs, older)
    common = view_at(newer.chain, newer.depth + len(ours))
    for run in mine.runs(max(newer.links[0].size, older.links[0].size)):
        if run.state != State.UNALLOCATED:
            yield Change(mine.by_depth[run.source.depth], run.start, run.length, _KIND_OF[run.state], run)
            continue
        for part in other.runs(run.end, run.start):
            cut, other_cut = mine.is_cut(part.start), other.is_cut(part.start)
            if part.state != State.UNALLOCATED:
                kind, link = ("cut", cut) if cut is not None else ("reverted", other.by_depth[part.source.depth])
                yield Change(link, part.start, part.length, kind, part)
            elif (cut is None) != (other_cut is None) and common is not None:
                link, kind = (cut, "cut") if cut is not None else (other_cut, "reverted")
                for hidden in common.runs(part.start, part.length):
                    if hidden.state != State.UNALLOCATED:
                        yield Change(link, hidden.start, hidden.length, kind, hidden)  # type: ignore[arg-type]


class _Branch:
    """The links of a state above the last one that it has in common with another state."""

    def __init__(self, links: Sequence[Link], state: DiskState):
        self.by_depth = {link.depth: link for link in links}
        self._chain = _shown(links, state.chain) if links else None
        self._shortest = min(links, key=lambda link: link.size, default=None)

    def is_cut(self, offset: int) -> Link | None:
        """The link that ends before an offset, if any: what the common links have there is hidden."""
        return self._shortest if self._shortest is not None and offset >= self._shortest.size else None

    def runs(self, end: int, start: int = 0) -> Iterator[Run]:
        """What the links tell of a range, without a gap; UNALLOCATED where they tell nothing, cut where one of them ends."""
        chain, shortest = self._chain, self._shortest
        size = chain.size if chain is not None else 0
        for run in chain.runs(start, min(end, size) - start) if chain is not None and start < size else ():
            bounds = [run.start, run.end]
            if shortest is not None and run.state == State.UNALLOCATED and run.start < shortest.size < run.end:
                bounds.insert(1, shortest.size)
            for first, last in zip(bounds, bounds[1:]):
                yield run._replace(start=first, length=last - first) if len(bounds) > 2 else run
        if (first := max(start, size)) < end:
            yield Run(first, end - first, State.UNALLOCATED, None)


def _shown(links: Sequence[Link], chain: Chain) -> Chain:
    """Some links of a chain as if they were all of it: their runs are what they tell."""
    shown = [replace(link, extents=tuple(map(_as_guest, link.extents))) for link in links]
    return Chain(shown, replace(chain.options, unreadable="error"))


def _as_guest(placed: Placed) -> Placed:
    return placed._replace(extent=as_guest(placed.extent)) if isinstance(placed.extent, SESparseExtent) else placed


def _compared(found: Iterator[Change], older: Chain, newer: Chain) -> Iterator[Change]:
    """Cut the changes where the bytes of both states begin or end to be the same."""
    for change in found:
        start = change.offset
        same: bool | None = None
        end = start
        for offset, size, equal in _parts(change, older, newer):
            if end > start and equal != same:
                yield _part(change, start, end, same)
                start = end
            same, end = equal, offset + size
        yield _part(change, start, end, same)


def _parts(change: Change, older: Chain, newer: Chain) -> Iterator[tuple[int, int, bool | None]]:
    """Each grain of a change, and whether it has the same bytes in both states."""
    end = change.offset + change.size
    offset = change.offset
    while offset < end:
        until = min(end, offset - offset % _CHUNK + _CHUNK)
        before, after = (_read(state, offset, until - offset) for state in (older, newer))
        if before is not None and before == after:
            yield offset, until - offset, True
        else:
            yield from _grains(offset, until, older, newer, before, after)
        offset = until


def _grains(
    offset: int, end: int, older: Chain, newer: Chain, before: bytes | None, after: bytes | None
) -> Iterator[tuple[int, int, bool | None]]:
    start = offset
    while start < end:
        until = min(end, start - start % GRAIN_SIZE + GRAIN_SIZE)
        a = before[start - offset : until - offset] if before is not None else _read(older, start, until - start)
        b = after[start - offset : until - offset] if after is not None else _read(newer, start, until - start)
        yield start, until - start, None if a is None or b is None else a == b
        start = until


def _read(state: Chain, offset: int, size: int) -> bytes | None:
    """Bytes of a state; zeros where it was smaller, ``None`` where they cannot be had."""
    try:
        return state.read(offset, size).ljust(size, b"\0")
    except UnreadableError:
        return None


def _part(change: Change, start: int, end: int, same: bool | None) -> Change:
    if (start, end) == (change.offset, change.offset + change.size):
        return replace(change, same=same)
    run = change.run
    place = None if run.place is None else run.place + start - run.start
    return replace(
        change,
        offset=start,
        size=end - start,
        run=run._replace(start=start, length=end - start, place=place),
        same=same,
    )
