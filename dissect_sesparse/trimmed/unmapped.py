"""What the guest trimmed: the unmapped grains of every link, and what is left of their bytes.

A trimmed grain reads as zeros for the guest. Its entry still names the place it had, and often its old bytes still lie
there. A run here is contiguous on the disk and in the extent, has one state and one parent state, and is at most 16 MiB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE
from dissect_sesparse.extent.claims import claimed_runs
from dissect_sesparse.extent.sesparse import SESparseExtent
from dissect_sesparse.source.errors import UnreadableError
from dissect_sesparse.time.time_window import TimeWindows
from dissect_sesparse.time.views import view_at
from dissect_sesparse.trimmed.content import Content, describe
from dissect_sesparse.trimmed.old_bytes import Counts, OldBytes
from dissect_sesparse.trimmed.parts import WHOLE
from dissect_sesparse.trimmed.states import STATES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.chain.link import Link, Placed
    from dissect_sesparse.trimmed.parts import Part

__all__ = ["STATES", "Counts", "UnmappedRun", "unmapped"]


class UnmappedRun(NamedTuple):
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
    windows = TimeWindows(chain)
    for link in chain.links:
        after, before = windows.of(link.depth)
        below = view_at(chain, link.depth + 1)
        for number, placed in enumerate(link.extents):
            tables = part.units(link.depth, number)
            if not isinstance(placed.extent, SESparseExtent) or tables is None:
                continue
            metadata = placed.extent.metadata
            old = OldBytes(placed, below, contents, counts)
            for run, state, parent_state, data in old.pieces(claimed_runs(metadata, *tables)):
                content = describe(data) if data is not None else None
                place = None if run.place is None else metadata.grains_offset + run.place * GRAIN_SIZE
                offset = placed.start + run.grain * GRAIN_SIZE
                size = old.size(run)
                yield UnmappedRun(link, placed, offset, size, place, state, parent_state, after, before, content)
