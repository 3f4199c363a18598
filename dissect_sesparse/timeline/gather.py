"""All events of a disk, from all that its chain holds, in no order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dissect_sesparse.source.errors import SESparseError
from dissect_sesparse.timeline.disk_events import (
    cid_events,
    host_events,
    journal_events,
    link_events,
    snapshot_events,
    trim_events,
)
from dissect_sesparse.timeline.file_events import FileEvents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.files.mounts import OnVolume
    from dissect_sesparse.timeline.event import TimelineEvent
    from dissect_sesparse.vm.snapshots import Snapshot


def timeline_events(
    chain: Chain,
    seen: set[Snapshot],
    warn: Callable[[str], None],
    missed: Callable[[SESparseError], None],
    where: Callable[[OnVolume, str], str] | None,
) -> Iterator[TimelineEvent]:
    """What happened to a disk, as far as it is known. What cannot be read of one kind never costs the others.

    Args:
        chain: The disk.
        seen: The snapshots that were told of already, by other disks of the machine; more are added.
        warn: Gets what is not told, and why.
        missed: Gets each error behind which something was not looked at.
        where: The path of a file in the target, by its volume and its path in that; ``None``: the guest's files are not asked
            for, and no file system is opened.
    """
    for found in (
        snapshot_events(chain, seen),
        link_events(chain),
        cid_events(chain),
        trim_events(chain),
        journal_events(chain),
        host_events(chain, warn),
    ):
        try:
            yield from found
        except SESparseError as e:
            missed(e)
    if where is not None:
        files = FileEvents(chain, warn, missed, where)
        yield from files.deleted()
        yield from files.changed()
