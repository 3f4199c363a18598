"""One summary for each link of a chain, base included."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dissect_sesparse.chain.hashing import Holes, chunks
from dissect_sesparse.extent.entry import State
from dissect_sesparse.source.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.chain.link import Link
    from dissect_sesparse.vm.snapshots import Snapshot

LINK_STATES = ("clean", "replayed", "dirty", "salvaged")
"""Of a link: that of its worst extent, by this order."""


@dataclass(frozen=True)
class LinkSummary:
    """A link, and how many bytes of the disk it has in each state."""

    link: Link
    allocated: int
    unmapped: int
    zero: int
    state: str
    """``clean``; ``dirty``: an extent was not closed; ``replayed``: then its journal was applied;
    ``salvaged``: something of it was rebuilt."""
    unknown: int = 0
    """Bytes whose state cannot be told: what the others lack then."""


def summaries(chain: Chain) -> Iterator[LinkSummary]:
    """One summary a link, newest first. Goes through all tables."""
    for link in chain.links:
        sizes = dict.fromkeys(State, 0)
        for placed in link.extents:
            for run in placed.extent.runs(0, placed.length):
                sizes[run.state] += run.length
        yield LinkSummary(
            link,
            sizes[State.ALLOCATED],
            sizes[State.UNMAPPED],
            sizes[State.ZERO],
            state_of(link),
            sizes[State.INVALID],
        )


def state_of(link: Link) -> str:
    """One of :data:`LINK_STATES`."""
    return max((extent.state for extent in link.sesparse_extents), key=LINK_STATES.index, default="clean")


def link_digest(link: Link, *, holes: bool = False) -> tuple[str, str, str]:
    """MD5, SHA-1 and SHA-256 of the files of a link's extents, one after the other.

    Args:
        link: The link.
        holes: Whether to hash files that are far larger than what they hold, see ``hashing``: that may take days.

    Raises:
        FileError: If a file has too many holes.
        UnreadableError: If a file cannot be read to its end.
    """
    hashes = [hashlib.new(name, usedforsecurity=False) for name in ("md5", "sha1", "sha256")]
    files = [Holes(placed.extent.file) for placed in link.extents if placed.extent.file is not None]
    for file in files:
        if not (file.are_few or holes):
            problem = f"not hashed: it holds {file.held} bytes, and {file.size} bytes are holes, which take hours"
            advice = "--hash-holes hashes them; recover and report hash its blocks"
            raise FileError(problem, file=file.file.label, advice=advice)
    for file in files:
        for data in chunks(file):
            for hash_ in hashes:
                hash_.update(data)
    return hashes[0].hexdigest(), hashes[1].hexdigest(), hashes[2].hexdigest()


def snapshot_of_link(link: Link, snapshots: Iterable[Snapshot]) -> Snapshot | None:
    """The snapshot whose state a link holds: the list names the link's descriptor."""
    if link.descriptor is None:
        return None
    return next((snapshot for snapshot in snapshots if link.name in snapshot.disks), None)
