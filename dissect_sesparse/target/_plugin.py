"""The functions ``sesparse.*`` of target-query, and their records."""

from __future__ import annotations

import itertools
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, cast

from dissect.target.exceptions import PluginError, UnsupportedPluginError
from dissect.target.plugin import Plugin, arg, export

from dissect_sesparse.disk.errors import SESparseError
from dissect_sesparse.evidence.changes import changes
from dissect_sesparse.evidence.deleted import measure
from dissect_sesparse.evidence.findings import Once, findings
from dissect_sesparse.evidence.journals import journal
from dissect_sesparse.evidence.links import digest, summaries
from dissect_sesparse.evidence.map import label, link_of
from dissect_sesparse.evidence.parts import WHOLE
from dissect_sesparse.evidence.snapshots import snapshot_of_link, snapshots_of
from dissect_sesparse.evidence.unmapped import STATES, times_of, unmapped
from dissect_sesparse.evidence.unreferenced import Counts, unreferenced
from dissect_sesparse.target.asked import close_states, pairs_of_states, states_named
from dissect_sesparse.target.records import (
    ChangedFileRecord,
    ChangeRecord,
    FileRecord,
    FindingRecord,
    JournalRecord,
    LinkRecord,
    RunRecord,
    UnmappedRecord,
    UnreferencedRecord,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import PurePath

    from dissect.target.target import Target
    from flow.record import Record

    from dissect_sesparse.disk.chain import Chain
    from dissect_sesparse.disk.entry import Run
    from dissect_sesparse.disk.link import Link
    from dissect_sesparse.evidence.changes import DiskState
    from dissect_sesparse.evidence.content import Content
    from dissect_sesparse.evidence.parts import Part
    from dissect_sesparse.target.container import SESparseContainer


class SESparsePlugin(Plugin):
    """What the files of VMware ESXi snapshot disks (seSparse) tell beside the guest's bytes."""

    __namespace__ = "sesparse"

    def check_compatible(self) -> None:
        if not any(self._disks()):
            raise UnsupportedPluginError("No seSparse disks found on target")

    def _disks(self) -> Iterator[SESparseContainer]:
        for disk in self.target.disks:
            if getattr(disk, "__type__", None) == "sesparse":
                yield cast("SESparseContainer", disk)

    def _of_each(self, records: Callable[[SESparseContainer], Iterator[Record]]) -> Iterator[Record]:
        """The records of all disks; where the files of one cannot be read on, the log says so and the next one follows."""
        for disk in self._disks():
            try:
                yield from records(disk)
            except SESparseError as e:
                self.target.log.error("Not all is told about %s: %s", disk.chain.name, e)  # noqa: TRY400

    def _record(self, descriptor: Any, chain: Chain, link: Link, **fields: object) -> Record:
        return descriptor(disk=chain.name, link=link.name, depth=link.depth, **fields, _target=self._names)

    @cached_property
    def _names(self) -> _Names:
        return _Names(self.target)

    @export(record=LinkRecord)
    @arg("--hash-files", action="store_true", help="hash the files of each link (reads all of them)")
    @arg("--hash-holes", action="store_true", help="hash files that are mostly holes too: days for the largest")
    def chain(self, hash_files: bool = False, hash_holes: bool = False) -> Iterator[Record]:
        """Yield one record for each link of each disk's chain, newest first, base included."""
        wanted = hash_files or hash_holes
        yield from self._of_each(lambda disk: self._links(disk.chain, hash_files=wanted, hash_holes=hash_holes))

    def _links(self, chain: Chain, *, hash_files: bool, hash_holes: bool = False) -> Iterator[Record]:
        listed = cache(snapshots_of)  # the links of a chain mostly share a folder
        for summary in summaries(chain):
            link, descriptor = summary.link, summary.link.descriptor
            if summary.unknown:
                message = "%s: the sizes lack %d bytes whose state cannot be told, see sesparse.findings"
                self.target.log.warning(message, link.name, summary.unknown)
            snapshot = snapshot_of_link(link, listed(link.folder)) if link.folder is not None else None
            parent = link.parent.chosen if link.parent is not None else None
            yield self._record(
                LinkRecord,
                chain,
                link,
                type=descriptor.create_type if descriptor is not None else None,
                source=self._path(link.path),
                extents=[placed.extent.label for placed in link.extents],
                cid=descriptor.cid if descriptor is not None else None,
                parent_cid=descriptor.parent_cid if descriptor is not None else None,
                parent=self._path(parent.path if parent is not None else None),
                size=link.size,
                allocated=summary.allocated,
                unmapped=summary.unmapped,
                zero=summary.zero,
                state=summary.state,
                snapshot=snapshot.name if snapshot is not None else None,
                ts=snapshot.created if snapshot is not None else None,
                digest=self._digest(link, holes=hash_holes) if hash_files else None,
            )

    @export(record=RunRecord)
    def map(self) -> Iterator[Record]:
        """Yield one record for each run of each disk over its whole chain: what it is, and which file has it."""
        yield from self._of_each(lambda disk: self._runs(disk.chain))

    def _runs(self, chain: Chain) -> Iterator[Record]:
        for run in chain.runs():
            file = run.source.extent.file if run.source is not None else None
            yield self._record(
                RunRecord,
                chain,
                link_of(chain, run),
                offset=run.start,
                size=run.length,
                state=label(run),
                source=self._path(file.label if file is not None else None),
                source_offset=_place_in_file(run),
            )

    @export(record=UnmappedRecord)
    @arg("--min-size", type=int, default=0, metavar="BYTES", help="leave out runs that are smaller")
    @arg("--state", type=states_named, default="", metavar="STATES", help=f"only runs in these: {','.join(STATES)}")
    @arg("--no-hash", action="store_true", help="do not hash and measure the old bytes")
    def unmapped(self, min_size: int = 0, state: str = "", no_hash: bool = False) -> Iterator[Record]:
        """Yield one record for each run that the guest trimmed, and what is left of its bytes, of all links.

        A run is contiguous on the disk and in the extent and at most 16 MiB. Its state tells whether the old bytes are
        ``present``, ``empty`` (all zero), ``reused`` by another grain, ``missing`` from the file, ``contested`` or
        ``ambiguous``.
        """
        wanted = set(filter(None, states_named(state).split(",")))
        yield from self._of_each(
            lambda disk: self._unmapped(disk.chain, min_size, wanted or set(STATES), contents=not no_hash)
        )

    def _unmapped(
        self, chain: Chain, min_size: int, states: set[str], *, contents: bool, part: Part = WHOLE
    ) -> Iterator[Record]:
        for run in unmapped(chain, contents=contents, part=part):
            if run.size < min_size or run.state not in states:
                continue
            yield self._record(
                UnmappedRecord,
                chain,
                run.link,
                offset=run.offset,
                size=run.size,
                source=self._path(run.extent.file.label),
                source_offset=run.place,
                state=run.state,
                parent_state=run.parent_state,
                after=run.after,
                before=run.before,
                **_content(run.content),
            )

    @export(record=UnreferencedRecord)
    @arg("--min-size", type=int, default=0, metavar="BYTES", help="leave out runs that are smaller")
    @arg("--no-hash", action="store_true", help="do not hash and measure the bytes")
    def unreferenced(self, min_size: int = 0, no_hash: bool = False) -> Iterator[Record]:
        """Yield one record for each run in an extent's file that no entry of its tables names.

        All-zero grains are counted in the log, not listed. ``offset`` is the address that the backmap names.
        """
        yield from self._of_each(lambda disk: self._unreferenced(disk.chain, min_size, contents=not no_hash))

    def _unreferenced(self, chain: Chain, min_size: int, *, contents: bool, part: Part = WHOLE) -> Iterator[Record]:
        counts = Counts()
        for run in unreferenced(chain, contents=contents, counts=counts, part=part):
            if run.size < min_size:
                continue
            yield self._record(
                UnreferencedRecord,
                chain,
                run.link,
                source=self._path(run.extent.file.label),
                source_offset=run.place,
                size=run.size,
                offset=run.offset,
                state=run.state,
                **_content(run.content),
            )
        self.target.log.info("%s: %d unreferenced grains are zero, not listed", chain.name, counts.zero_grains)

    @export(record=JournalRecord)
    def journal(self) -> Iterator[Record]:
        """Yield one record for each record of the extents' journals: the last changes of their metadata.

        Its state tells whether it was ``applied`` to a dirty extent, is ``history``, or is ``torn``: not whole.
        """
        yield from self._of_each(self._journal)

    def _journal(self, disk: SESparseContainer) -> Iterator[Record]:
        for found in journal(disk.chain):
            record = found.record
            yield self._record(
                JournalRecord,
                disk.chain,
                found.link,
                index=record.slot,
                sequence=record.sequence,
                generation=record.generation,
                timer=record.timer,
                state=found.state,
                regions=list(record.regions),
                size=record.size,
            )

    @export(record=FileRecord)
    def files(self) -> Iterator[Record]:
        """Yield one record for each file that the guest deleted, by name, with what can be recovered of it.

        On NTFS the deleted records of the MFT name files (``named_by`` is ``mft``), and on all file systems the older
        states of the disk (``snapshot``). A file is ``complete`` where every byte is proven its own, ``likely`` where
        nothing contradicts it and nothing proves all of it, else ``partial``, or ``none``; ``basis`` says why. ``digest`` is
        that of the recovered bytes alone, of a partial file those that are proven. ``link`` is the link in whose time the file was deleted, or the newest one that has it.
        """
        yield from self._of_each(self._files)

    def _files(self, disk: SESparseContainer) -> Iterator[Record]:
        from dissect_sesparse.target.files import deleted_files, mount_point  # only this reads file systems itself

        for file in deleted_files(disk.chain, self.target.log.warning):
            recovered = measure(file)
            yield self._record(
                FileRecord,
                disk.chain,
                file.link,
                path=self.target.fs.path(f"{mount_point(self.target, disk, file)}/{file.path}"),
                size=file.size,
                recovered=recovered.size,
                digest=recovered.digest,
                mtime=file.mtime,
                btime=file.btime,
                inode=file.inode,
                filesystem=file.filesystem,
                named_by=file.named_by,
                state=recovered.state,
                basis=recovered.basis,
            )

    @export(record=[ChangeRecord, ChangedFileRecord])
    @arg("--from", dest="from_", default="", metavar="STATE", help="a link or a snapshot; default: the oldest link")
    @arg("--to", default="", metavar="STATE", help="a link or a snapshot; default: the newest link")
    @arg("--compare", action="store_true", help="read both states, and tell whether the bytes are the same")
    @arg("--files", action="store_true", help="also tell which files are new, changed, renamed or gone")
    def changes(self, from_: str = "", to: str = "", compare: bool = False, files: bool = False) -> Iterator[Record]:
        """Yield one record for each range that differs between two states of a disk, as the links between them tell it.

        A state is named by a link's file name or by a snapshot's name. ``kind`` is ``written``, ``zeroed`` or
        ``unmapped``; ``reverted`` where only the other branch, or the state to start from, has something; ``cut``
        where the disk, or a link in between, ends before it; ``unreadable`` where the entry is corrupt. ``same`` is only known with ``--compare``: what was written may be what was there.

        With ``--files``, one record follows for each file that is ``new``, ``changed``, ``renamed`` or ``gone``; its
        ``changed`` counts the bytes of its clusters that lie in the ranges.
        """
        # Looked up here, before the first record is asked for: dissect's tools take an error of the call for the end.
        pairs = pairs_of_states(self.target, list(self._disks()), from_, to)
        return self._changes_of(pairs, compare=compare, files=files)

    def _changes_of(
        self, pairs: list[tuple[SESparseContainer, DiskState, DiskState]], *, compare: bool, files: bool
    ) -> Iterator[Record]:
        for disk, *states in pairs:
            try:
                yield from self._changes(disk, *states, compare=compare, files=files)
            except SESparseError as e:
                self.target.log.error("Not all is known about %s: %s", disk.chain.name, e)  # noqa: TRY400
            finally:
                close_states(disk, states)

    def _changes(
        self, disk: SESparseContainer, older: DiskState, newer: DiskState, *, compare: bool, files: bool
    ) -> Iterator[Record]:
        from dissect_sesparse.target.changed_files import ChangedRanges, changed_files
        from dissect_sesparse.target.files import mount_point

        ranges = ChangedRanges()

        @cache
        def times(depth: int, of: str) -> tuple:
            told = older.chain if of == "reverted" else newer.chain
            return times_of(told, told.links[depth])

        for change in changes(older, newer, compare=compare):
            file = change.run.source.extent.file
            if files:
                ranges.add(change)
            after, before = times(change.link.depth, change.kind)
            yield self._record(
                ChangeRecord,
                disk.chain,
                change.link,
                offset=change.offset,
                size=change.size,
                kind=change.kind,
                same=change.same,
                source=self._path(file.label if file is not None else None),
                source_offset=_place_in_file(change.run),
                after=after,
                before=before,
            )
        for found in changed_files(older, newer, ranges, self.target.log.warning) if files else ():
            mount = mount_point(self.target, disk, found)  # type: ignore[arg-type]  # it has a volume and a place
            yield self._record(
                ChangedFileRecord,
                disk.chain,
                found.link,
                path=self.target.fs.path(f"{mount}/{found.path}"),
                old_path=self.target.fs.path(f"{mount}/{found.old_path}") if found.old_path is not None else None,
                size=found.size,
                changed=found.changed,
                state=found.state,
                mtime=found.mtime,
                inode=found.inode,
                filesystem=found.filesystem,
            )

    @export(record=FindingRecord)
    def findings(self) -> Iterator[Record]:
        """Yield what is odd about each disk, and what of it cannot be read."""
        once = Once()
        yield from self._of_each(lambda disk: self._findings(disk, once))

    def _findings(self, disk: SESparseContainer, once: Once) -> Iterator[Record]:
        from dissect_sesparse.target.volumes import filesystem_findings

        chain = disk.chain
        for finding in once(itertools.chain(disk.notes, findings(chain), filesystem_findings(chain))):
            yield self._record(
                FindingRecord,
                chain,
                chain.links[min(finding.depth, len(chain.links) - 1)],
                code=finding.code,
                level=finding.level,
                message=finding.message,
                source=self._path(finding.source),
                source_offset=finding.source_offset,
                offset=finding.offset,
                size=finding.size,
            )

    def _path(self, path: PurePath | str | None) -> str | None:
        """Paths of the machine that reads the evidence, not of the target: as they are."""
        return None if path is None else str(path)

    def _digest(self, link: Link, *, holes: bool) -> tuple[str, str, str] | None:
        try:
            return digest(link, holes=holes)
        except SESparseError as e:
            self.target.log.error("Cannot hash the files of %s: %s", link.name, e)  # noqa: TRY400
            return None


class _Names:
    """The target as a record asks for it, its names looked up once.

    Where a target has no operating system, dissect looks for its domain anew for each record, which takes 0.1 s; a
    fragmented disk has a hundred thousand runs.
    """

    def __init__(self, target: Target):
        self._target = target
        self.hostname = self._look_up("hostname")
        self.domain = self._look_up("domain")

    def _look_up(self, name: str) -> str | None:
        try:
            return getattr(self._target, name)
        except PluginError:
            return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


def _place_in_file(run: Run) -> int | None:
    """Where in its file the bytes of a run are, if anything tells that."""
    if run.place is None or run.source is None:
        return None
    try:
        return run.source.extent.file_place(run.place)
    except SESparseError:
        return None


def _content(content: Content | None) -> dict[str, object]:
    """The fields that tell what some bytes are."""
    if content is None:
        return {"digest": None, "entropy": None, "signature": None}
    return content._asdict()
