"""Events of the guest's files: those that were deleted, with what was logged of them, and what differs between two states.

A deletion is told once, by ``deleted``. A file that one state has and the next has not, and that is not among the deleted ones
(it is there again in a newer state; nothing tells whether it was renamed), is *gone*, and no more is concluded.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dissect_sesparse.files.changed_files import changed_files
from dissect_sesparse.files.changed_ranges import ChangedRanges
from dissect_sesparse.files.file_systems import deleted_files
from dissect_sesparse.source.errors import SESparseError
from dissect_sesparse.time.changes import DiskState, changes
from dissect_sesparse.time.time_window import TimeWindow, TimeWindows
from dissect_sesparse.timeline.event import TimelineEvent, may_be_between

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.files.changed_files import ChangedFile
    from dissect_sesparse.files.deleted import DeletedFile
    from dissect_sesparse.files.mounts import OnVolume

_KIND_OF = {"new": "file-made", "changed": "file-changed", "renamed": "file-renamed", "gone": "file-gone"}
_GUEST = "by the guest's clock"


class FileEvents:
    """The events of one disk's files. First :meth:`deleted`, then :meth:`changed`: what one gives the other leaves out.

    Args:
        chain: The disk.
        warn: Gets what is not told, and why.
        missed: Gets the errors that are raised behind the last file: what was not looked at.
        where: The path of a file in the target, by its volume and its path in that.
    """

    def __init__(
        self,
        chain: Chain,
        warn: Callable[[str], None],
        missed: Callable[[SESparseError], None],
        where: Callable[[OnVolume, str], str],
    ):
        self._chain = chain
        self._warn = warn
        self._missed = missed
        self._where = where
        self._windows = TimeWindows(chain)
        self._uses: set[int] = set()
        """What tells the uses of a file record apart, of those deleted files that may be met twice."""
        self._modified: set[int] = set()
        """Files, and the time of change that was given for them."""
        self._deaths: Counter[int] = Counter()
        """Files, and the link in whose time they were deleted."""

    def deleted(self) -> Iterator[TimelineEvent]:
        """Of each deleted file: what was logged of it, its own times, and its deletion."""
        try:
            for file in deleted_files(self._chain, self._warn):
                yield from self._of_deleted(file)
        except SESparseError as e:
            self._missed(e)

    def _of_deleted(self, file: DeletedFile) -> Iterator[TimelineEvent]:
        path = self._path(file, file.path)
        known = f"{file.naming.by}: {file.naming.basis}"

        def event(
            kind: str,
            message: str,
            basis: str,
            at: datetime | None = None,
            window: TimeWindow = TimeWindow(),  # noqa: B008  # it cannot be changed
            **more: str | None,
        ) -> TimelineEvent:
            fields = {"path": path, "size": file.size if file.known else None, "inode": file.inode, **more}
            return TimelineEvent(kind, file.link, message, basis, at, window, **fields)  # type: ignore[arg-type]

        use = hash((file.volume, file.inode, file.path, file.btime))
        again = file.btime is not None and use in self._uses  # the same file as another state has it
        self._uses.add(use)
        logged: set[tuple[str, datetime | None]] = set()
        for part in file.story if not again else ():
            logged.add((part.what, part.at))
            where = self._path(file, part.path)
            old = self._path(file, part.old_path) if part.old_path is not None else None
            message = f"{old} renamed to {where}" if old is not None else f"{where} {part.what}"
            yield event(f"file-{part.what}", message, part.basis, part.at, part.window, path=where, old_path=old)
        if file.btime is not None and not again and ("made", file.btime) not in logged:
            yield event("file-made", f"{path} made", f"its time of birth, {_GUEST}; {known}", file.btime)
        if file.mtime is not None and ("changed", file.mtime) not in logged and self._is_new(file):
            message = f"{path} last changed before it was deleted"
            yield event("file-changed", message, f"its time of change, {_GUEST}; {known}", file.mtime)
        self._deaths[self._death(file)] += 1
        if not again and not any(what == "deleted" for what, _ in logged):
            message = f"{path} deleted"
            if file.original_path is not None:
                message += f", was {file.original_path} before the recycle bin"
            deletion = file.deletion
            yield event("file-deleted", message, f"{deletion.basis}; {known}", deletion.logged, deletion.window)

    def _is_new(self, file: DeletedFile | ChangedFile) -> bool:
        """Whether the time of change of a file was not given yet."""
        key = hash((file.volume, file.inode, file.path.strip("/"), file.mtime))
        before = len(self._modified)
        self._modified.add(key)
        return len(self._modified) > before

    def _death(self, file: DeletedFile | ChangedFile) -> int:
        """A file, and the link in whose time it was deleted: of one that an older state names, the next newer one."""
        by_state = not hasattr(file, "naming") or file.naming.by == "snapshot"  # type: ignore[union-attr]
        return hash((file.volume, file.path.strip("/"), file.link.depth - by_state))

    def _path(self, file: DeletedFile | ChangedFile, path: str) -> str:
        return self._where(file, path.lstrip("/"))

    def changed(self) -> Iterator[TimelineEvent]:
        """What differs between each two neighbouring states, newest first."""
        for link in self._chain.links[:-1]:
            older, newer = DiskState(self._chain, link.depth + 1), DiskState(self._chain, link.depth)
            try:
                ranges = ChangedRanges()
                for change in changes(older, newer):
                    ranges.add(change)
                for file in changed_files(older, newer, ranges, self._warn):
                    yield from self._of_changed(file, older, newer)
            except SESparseError as e:
                self._missed(e)

    def _of_changed(self, file: ChangedFile, older: DiskState, newer: DiskState) -> Iterator[TimelineEvent]:
        if file.state == "gone" and self._deaths[self._death(file)] > 0:
            self._deaths[self._death(file)] -= 1
            return
        path = self._path(file, file.path)
        old = self._path(file, file.old_path) if file.old_path is not None else None
        window = self._windows.between(older.depth, newer.depth)
        what = {
            "new": f"{path} made: {newer.name} has it, {older.name} has not",
            "changed": f"{path} changed: {newer.name} has other bytes of it than {older.name}",
            "renamed": f"{old} renamed to {path}, its bytes are the same",
            "gone": f"{path} gone: {older.name} has it, {newer.name} has not, and nothing proves that it was deleted",
        }[file.state]
        basis = f"by the states of {older.name} and {newer.name}"
        link = newer.links[0]
        kind = _KIND_OF[file.state]
        yield TimelineEvent(kind, link, what, basis, None, window, path, old, file.size, file.inode)
        times = TimelineEvent(kind, link, "", "", None, window)
        if (
            file.state in ("new", "changed")
            and file.mtime is not None
            and may_be_between(times, file.mtime, file.mtime)
        ):
            basis = f"its time of change, {_GUEST}; {newer.name} has it, and {older.name} has not this content"
            if self._is_new(file):
                message = f"{path} last changed"
                yield TimelineEvent(
                    "file-changed", link, message, basis, file.mtime, window, path, old, file.size, file.inode
                )
