"""The disk at other times: as the links below a newer one show it, and what the guest wrote in the time of one link.

All of it is as the guest sees it, whatever view the chain was opened with, and what cannot be read raises: it is not known,
not zeros. Views share the files of the chain; they are not closed.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

from dissect_sesparse.chain.chain import Chain
from dissect_sesparse.chain.link import Link, Placed
from dissect_sesparse.extent.base import MissingExtent
from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE
from dissect_sesparse.extent.claims import Claim
from dissect_sesparse.extent.entry import State
from dissect_sesparse.extent.residual import as_guest, as_residual
from dissect_sesparse.extent.sesparse import SESparseExtent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dissect_sesparse.extent.entry import Run


def view_at(chain: Chain, depth: int, view: str = "guest") -> Chain | None:
    """The disk as the guest saw it when link ``depth`` was the newest; ``None`` below the last link.

    Args:
        chain: The disk.
        depth: Of the link.
        view: ``residual`` for that with the old bytes of unmapped grains.
    """
    how = as_residual if view == "residual" else as_guest
    links = [_shown(link, how) for link in chain.links[depth:]]
    if not links and chain.missing_parent is not None:
        lost = MissingExtent(chain.size, str(chain.missing_parent))
        links = [Link(None, depth, None, (Placed(0, lost.size, lost, depth),))]
    options = replace(chain.options, unreadable="error", view=view)
    return Chain(links, options, chain.missing_parent) if links else None


def _shown(link: Link, how: Callable[[SESparseExtent], SESparseExtent]) -> Link:
    shown = (
        placed._replace(extent=how(placed.extent)) if isinstance(placed.extent, SESparseExtent) else placed
        for placed in link.extents
    )
    return replace(link, extents=tuple(shown))


class Origin(Enum):
    """Where the bytes of a range were when the guest used them in the time of a link."""

    OWN = "own"
    """Written in that time: the link has them, or had them and they are still surely there."""
    BELOW = "below"
    """Not written in that time: they are as the links below have them, also if the guest trimmed them since."""
    BARE = "bare"
    """The same, trimmed since, and its entry names no place. A grain that was written all the same looks alike if its place
    was 0 and ESXi gave that to another since; so this alone proves nothing."""
    LOST = "lost"
    """Not to be had, or not surely theirs."""


class Period:
    """What the guest wrote in the time of one link, from the snapshot below it to the one above.

    A grain that was trimmed in that time counts with its old bytes, where they are surely its own (see ``claims``).

    Args:
        chain: The disk.
        depth: Of the link.
    """

    def __init__(self, chain: Chain, depth: int):
        link = _shown(chain.links[depth], as_residual)
        self._own = Chain([link], replace(chain.options, unreadable="error"))
        self.below = view_at(chain, depth + 1)

    def parts(self, offset: int, size: int) -> Iterator[tuple[int, int, Origin]]:
        """Cut a range of the disk by origin: offset, size and origin of each part."""
        end = min(offset + size, self._own.size)
        for run in self._own.runs(offset, end - offset) if offset < end else ():
            yield run.start, run.length, self._origin(run)
        if end < offset + size:
            start = max(offset, end)
            yield start, offset + size - start, Origin.LOST

    def _origin(self, run: Run) -> Origin:
        if run.state in (State.ALLOCATED, State.ZERO):
            return Origin.OWN
        if run.state == State.UNALLOCATED:
            return Origin.BELOW if self.below is not None else Origin.OWN  # nothing below: zeros from the start
        if run.state == State.UNMAPPED and run.place is None and self._never(run):
            return Origin.BARE if self.below is not None else Origin.LOST
        return Origin.LOST

    @staticmethod
    def _never(run: Run) -> bool:
        """Whether a bare unmapped run surely never had bytes of its own in this link."""
        extent = run.source.extent if run.source is not None else None
        return isinstance(extent, SESparseExtent) and as_residual(extent).bare.claim is Claim.NEVER

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of a part that is ``OWN``.

        Raises:
            UnreadableError: If they cannot be had.
        """
        return self._own.read(offset, size)

    def is_empty(self, offset: int) -> bool:
        """Whether the grain of a byte of a part that is ``OWN`` is all zeros.

        Then nothing tells whether the guest wrote zeros there: the host may have reclaimed the place since, or a copy may
        have left it out.

        Raises:
            UnreadableError: If it cannot be had.
        """
        return not self._own.read(offset // GRAIN_SIZE * GRAIN_SIZE, GRAIN_SIZE).strip(b"\x00")
