"""The runs of the whole disk: what each range is, and which link answers for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dissect_sesparse.extent.entry import State

if TYPE_CHECKING:
    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.chain.link import Link
    from dissect_sesparse.extent.entry import Run


def label(run: Run) -> str:
    """The name of a run's state in the map.

    ``allocated``, ``zero``, ``unmapped``: what the table entry of a link says; ``base``: bytes of an extent without
    tables, so the base disk's; ``hole``: no link has anything there, it reads as zeros; ``invalid``: cannot be had.
    """
    if run.state == State.UNALLOCATED:
        return "hole"
    if run.state == State.ALLOCATED and not run.source.extent.sparse:
        return "base"
    return run.state.name.lower()


def link_of(chain: Chain, run: Run) -> Link:
    """The link that answers for a run; for a hole, and where the parent is missing, the oldest one."""
    depth = run.source.depth if run.source is not None else len(chain.links)
    return chain.links[min(depth, len(chain.links) - 1)]
