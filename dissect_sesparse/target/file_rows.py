"""The records of the functions ``sesparse.*`` that are about files: deleted, changed, and each file's versions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from dissect_sesparse.chain.summary import snapshot_of_link
from dissect_sesparse.files.changed_files import changed_files
from dissect_sesparse.files.deleted import measure
from dissect_sesparse.files.file_systems import deleted_files
from dissect_sesparse.files.mounts import path_in_target
from dissect_sesparse.history.file_versions import file_versions
from dissect_sesparse.target.progress import counting_files
from dissect_sesparse.target.records import ChangedFileRecord, FileRecord, FileVersionRecord
from dissect_sesparse.target.wanted_paths import WantedPaths
from dissect_sesparse.time.time_window import TimeWindows
from dissect_sesparse.vm.snapshots import snapshots_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from dissect.target.target import Target
    from flow.record import Record

    from dissect_sesparse.chain.link import Link
    from dissect_sesparse.files.changed_files import ChangedFile
    from dissect_sesparse.files.changed_ranges import ChangedRanges
    from dissect_sesparse.history.file_versions import FileVersion
    from dissect_sesparse.target.container import SESparseContainer
    from dissect_sesparse.time.changes import DiskState


class FileRows:
    """The records of one disk after the other.

    Args:
        target: The target.
        record: Gets a descriptor, the disk's chain, a link and the other fields; makes the record.
    """

    def __init__(self, target: Target, record: Callable[..., Record]):
        self._target = target
        self._record = record

    def deleted(self, disk: SESparseContainer) -> Iterator[Record]:
        """The deleted files."""
        for file in deleted_files(disk.chain, self._target.log.warning):
            recovered = measure(file)
            yield self._record(
                FileRecord,
                disk.chain,
                file.link,
                path=self._target.fs.path(path_in_target(self._target, disk, file, file.path)),
                size=file.size,
                recovered=recovered.size,
                digest=recovered.digest,
                mtime=file.mtime,
                btime=file.btime,
                inode=file.inode,
                filesystem=file.filesystem,
                named_by=file.naming.by,
                state=recovered.state,
                basis=recovered.basis,
                after=file.deletion.window.after,
                before=file.deletion.window.before,
                deleted=file.deletion.logged,
                deleted_basis=file.deletion.basis,
                original_path=self._target.fs.path(file.original_path) if file.original_path is not None else None,
                also_named_by=list(file.naming.also),
                name_state=file.naming.state,
                name_basis=file.naming.basis,
            )

    def changed(
        self, disk: SESparseContainer, older: DiskState, newer: DiskState, ranges: ChangedRanges
    ) -> Iterator[Record]:
        """The files that differ between two states."""
        after, before = (TimeWindows(state.chain).frozen_at(state.depth) for state in (older, newer))
        if after is not None and before is not None and after > before:  # back to an older state: nothing happened so
            after = before = None
        with counting_files("sesparse.changes", self._target.log) as progress:
            for found in changed_files(older, newer, ranges, self._target.log.warning, progress):
                yield self._changed(disk, found, (older, newer), (after, before))

    def _changed(
        self,
        disk: SESparseContainer,
        found: ChangedFile,
        states: tuple[DiskState, DiskState],
        window: tuple[datetime | None, datetime | None],
    ) -> Record:
        where = partial(path_in_target, self._target, disk, found)
        return self._record(
            ChangedFileRecord,
            disk.chain,
            found.link,
            path=self._target.fs.path(where(found.path)),
            old_path=self._target.fs.path(where(found.old_path)) if found.old_path is not None else None,
            size=found.size,
            changed=found.changed,
            state=found.state,
            mtime=found.mtime,
            inode=found.inode,
            filesystem=found.filesystem,
            after=window[0],
            before=window[1],
            basis=f"by the states of {states[0].name} and {states[1].name}",
        )

    def versions(self, disk: SESparseContainer, paths: Sequence[str], *, changed: bool) -> Iterator[Record]:
        """The contents that files had."""
        wanted = WantedPaths(self._target, disk, paths) if paths else None
        snapshots: dict[int, str | None] = {}
        with counting_files("sesparse.versions", self._target.log) as progress:
            found = file_versions(disk.chain, wanted, self._target.log.warning, changed=changed, progress=progress)
            for version in found:
                for link in (version.first, version.last):
                    if link.depth not in snapshots:
                        snapshots[link.depth] = _snapshot_of(link, disk)
                yield self._version(disk, version, snapshots)
        if wanted is not None and not wanted.met:
            self._target.log.warning("%s: no file of any state has a path that was asked for", disk.chain.name)

    def _version(self, disk: SESparseContainer, version: FileVersion, snapshots: dict[int, str | None]) -> Record:
        file, recovered = version.file, version.recovered

        def path(name: str) -> Any:
            return self._target.fs.path(path_in_target(self._target, disk, file, name))

        came, went = version.since
        return self._record(
            FileVersionRecord,
            disk.chain,
            version.last,
            path=path(file.path),
            names=[path(name) for name in version.names],
            first=version.first.name,
            last=version.last.name,
            first_snapshot=snapshots[version.first.depth],
            last_snapshot=snapshots[version.last.depth],
            states=[link.name for link in version.states],
            current=version.current,
            size=file.size,
            recovered=recovered.size,
            digest=recovered.digest,
            mtime=file.mtime,
            btime=file.btime,
            inode=file.inode,
            filesystem=file.filesystem,
            named_by=file.naming.by,
            state=recovered.state,
            basis=recovered.basis,
            came_after=came.after,
            came_before=came.before,
            went_after=went.after,
            went_before=went.before,
        )


def _snapshot_of(link: Link, disk: SESparseContainer) -> str | None:
    """The name of the snapshot that froze a link; the running link has none."""
    for folder in (link.folder, disk.chain.links[0].folder):  # the list is in the VM's folder, the link may not be
        snapshot = snapshot_of_link(link, snapshots_of(folder)) if folder is not None else None
        if snapshot is not None:
            return snapshot.name
    return None
