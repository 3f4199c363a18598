"""The events of a target's disks: gathered from all of them, in the order of their times, as records."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dissect_sesparse.files.mounts import path_in_target
from dissect_sesparse.files.not_looked import NotAllLookedAtError
from dissect_sesparse.target.records import EventRecord
from dissect_sesparse.timeline.event import may_be_between, moments
from dissect_sesparse.timeline.gather import timeline_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from dissect.target.target import Target
    from flow.record import Record

    from dissect_sesparse.source.errors import SESparseError
    from dissect_sesparse.target.container import SESparseContainer
    from dissect_sesparse.target.rows import Names
    from dissect_sesparse.timeline.event import Moment
    from dissect_sesparse.timeline.order import InOrder
    from dissect_sesparse.vm.snapshots import Snapshot


class EventRows:
    """The timeline of one target.

    Args:
        target: The target.
        names: Its names.
        label: What the user calls it.
    """

    def __init__(self, target: Target, names: Names, label: str = ""):
        self._target = target
        self._names = names
        self._label = label

    def gather(
        self,
        disks: Iterable[SESparseContainer],
        order: InOrder,
        missed: Callable[[SESparseContainer, SESparseError], None],
        *,
        files: bool,
        between: tuple[datetime | None, datetime | None] = (None, None),
    ) -> None:
        """Put the moments of all disks in order.

        Args:
            disks: The target's disks of ours.
            order: Gets the moments.
            missed: Gets what was not looked at of a disk, each once.
            files: Whether to open file systems and look for the guest's files.
            between: Only what may have happened from the first time to the second.
        """
        seen: set[Snapshot] = set()
        for disk in disks:
            given: set[object] = set()

            def once(error: SESparseError, disk: SESparseContainer = disk, given: set[object] = given) -> None:
                what = error.places if isinstance(error, NotAllLookedAtError) else error
                if what not in given:
                    given.add(what)
                    missed(disk, error)

            where = partial(path_in_target, self._target, disk) if files else None
            for event in timeline_events(disk.chain, seen, self._target.log.warning, once, where):
                if may_be_between(event, *between):
                    order.put(moments(event, self._label, self._names.hostname, disk.chain.name))

    def record(self, moment: Moment) -> Record:
        """A moment as a record. Its path is one of the target."""

        def path(text: str | None) -> object:
            return None if text is None else self._target.fs.path(text)

        fields = {name: getattr(moment, name) for name in _AS_THEY_ARE}
        return EventRecord(**fields, path=path(moment.path), old_path=path(moment.old_path), _target=self._names)


_AS_THEY_ARE = (
    "disk", "link", "depth", "ts", "timestamp_desc", "kind", "message", "size", "inode", "source", "source_offset", "after",
    "before", "basis",
)  # fmt: skip
