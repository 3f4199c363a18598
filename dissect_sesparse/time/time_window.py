"""Between which two moments something happened, as the snapshots of a disk tell it. No time in here is invented."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.chain.summary import snapshot_of_link
from dissect_sesparse.vm.snapshots import snapshots_of

if TYPE_CHECKING:
    from datetime import datetime

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.vm.snapshots import Snapshot


CLOCK_TICK = timedelta(milliseconds=16)
"""How far a guest's stamp may be behind its own clock: Windows and Linux stamp with the time of the last tick, 1/64 s and up to 1/100 s
apart. What was stamped happened within that behind the stamp."""


class TimeWindow(NamedTuple):
    """After one moment and before another, in UTC; ``None`` for an end that nothing tells."""

    after: datetime | None = None
    before: datetime | None = None

    def narrowed(self, after: datetime | None = None, before: datetime | None = None) -> TimeWindow:
        """What this window and another one have in common; an end that would turn the window round is not taken."""
        latest = max(filter(None, (self.after, after)), default=None)
        earliest = min(filter(None, (self.before, before)), default=None)
        if latest is not None and earliest is not None and latest > earliest:
            return self
        return TimeWindow(latest, earliest)


class TimeWindows:
    """The windows of a disk.

    Args:
        chain: The disk.
    """

    def __init__(self, chain: Chain):
        self._chain = chain
        self._snapshots: dict[int, Snapshot | None] = {}

    def snapshot_at(self, depth: int) -> Snapshot | None:
        """The snapshot that froze a link; ``None`` for the running link, and where no list of snapshots names it."""
        if depth not in self._snapshots:
            self._snapshots[depth] = self._listed(depth)
        return self._snapshots[depth]

    def frozen_at(self, depth: int) -> datetime | None:
        """When a snapshot froze a link; ``None`` where nothing names one, or its list has no time."""
        snapshot = self.snapshot_at(depth)
        return snapshot.created if snapshot is not None else None

    def _listed(self, depth: int) -> Snapshot | None:
        link = self._chain.links[depth]
        for folder in (link.folder, self._chain.links[0].folder):  # the list is in the VM's folder, the link may not be
            snapshot = snapshot_of_link(link, snapshots_of(folder)) if folder is not None else None
            if snapshot is not None:
                return snapshot
        return None

    def of(self, depth: int) -> TimeWindow:
        """In which time the guest wrote a link: from the snapshot of the link below it to its own."""
        return self.between(depth + 1 if depth + 1 < len(self._chain.links) else None, depth)

    def between(self, older: int | None, newer: int | None) -> TimeWindow:
        """Between the moments that two states were frozen at, by the depths of their links; ``None``: no such state."""
        after = self.frozen_at(older) if older is not None else None
        return TimeWindow(after, self.frozen_at(newer) if newer is not None else None)
