"""The records of the functions ``sesparse.*``, disk by disk: what each has in which field.

The plugin asks for those of all disks of a target, the fleet for those of one disk, or of a part of it.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import TYPE_CHECKING, Any

from dissect.target.exceptions import PluginError

from dissect_sesparse.chain.map import label, link_of
from dissect_sesparse.chain.summary import link_digest, snapshot_of_link, summaries
from dissect_sesparse.findings.findings import Once
from dissect_sesparse.findings.findings import findings as findings_of
from dissect_sesparse.findings.journals import journal as journal_records
from dissect_sesparse.source.errors import SESparseError
from dissect_sesparse.target.records import (
    ChangeRecord,
    FindingRecord,
    JournalRecord,
    LinkRecord,
    RunRecord,
    UnmappedRecord,
    UnreferencedRecord,
)
from dissect_sesparse.time.changes import changes as changed_ranges
from dissect_sesparse.time.time_window import TimeWindows
from dissect_sesparse.trimmed.parts import WHOLE
from dissect_sesparse.trimmed.unmapped import unmapped as unmapped_runs
from dissect_sesparse.trimmed.unreferenced import SkippedGrains
from dissect_sesparse.trimmed.unreferenced import unreferenced as unreferenced_runs
from dissect_sesparse.vm.snapshots import snapshots_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import PurePath

    from dissect.target.target import Target
    from flow.record import Record

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.chain.link import Link
    from dissect_sesparse.extent.entry import Run
    from dissect_sesparse.target.container import SESparseContainer
    from dissect_sesparse.time.changes import DiskState
    from dissect_sesparse.trimmed.content import Content
    from dissect_sesparse.trimmed.parts import Part


class Names:
    """The target as a record asks for it, its names looked up once.

    Where a target has no operating system, dissect looks for its domain anew for each record, which takes 0.1 s; a
    fragmented disk has a hundred thousand runs.

    Args:
        target: The target.
        hostname: Where it is known already, as is ``domain``.
    """

    def __init__(self, target: Target, *known: str | None):
        self._target = target
        self.hostname, self.domain = known or (self._look_up("hostname"), self._look_up("domain"))

    def _look_up(self, name: str) -> str | None:
        try:
            return getattr(self._target, name)
        except PluginError:
            return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


class Rows:
    """The records of one disk after the other. A disk whose files cannot be read on raises.

    Args:
        target: The target.
        names: Its names.
    """

    def __init__(self, target: Target, names: Names):
        self._target = target
        self._names = names

    def _record(self, descriptor: Any, chain: Chain, link: Link, **fields: object) -> Record:
        return descriptor(disk=chain.name, link=link.name, depth=link.depth, **fields, _target=self._names)

    def links(self, chain: Chain, *, hash_files: bool, hash_holes: bool = False) -> Iterator[Record]:
        listed = cache(snapshots_of)  # the links of a chain mostly share a folder
        for summary in summaries(chain):
            link, descriptor = summary.link, summary.link.descriptor
            if summary.unknown:
                message = "%s: the sizes lack %d bytes whose state cannot be told, see sesparse.findings"
                self._target.log.warning(message, link.name, summary.unknown)
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

    def runs(self, chain: Chain) -> Iterator[Record]:
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

    def unmapped(
        self, chain: Chain, min_size: int, states: set[str], *, contents: bool, part: Part = WHOLE
    ) -> Iterator[Record]:
        for run in unmapped_runs(chain, contents=contents, part=part):
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

    def unreferenced(self, chain: Chain, min_size: int, *, contents: bool, part: Part = WHOLE) -> Iterator[Record]:
        counts = SkippedGrains()
        for run in unreferenced_runs(chain, contents=contents, counts=counts, part=part):
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
        self._target.log.info("%s: %d unreferenced grains are zero, not listed", chain.name, counts.zero_grains)

    def journal(self, disk: SESparseContainer) -> Iterator[Record]:
        for found in journal_records(disk.chain):
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

    def changes(
        self, disk: SESparseContainer, older: DiskState, newer: DiskState, *, compare: bool, files: bool
    ) -> Iterator[Record]:
        from dissect_sesparse.files.changed_ranges import ChangedRanges

        ranges = ChangedRanges()

        windows, reverted = TimeWindows(newer.chain), TimeWindows(older.chain)
        for change in changed_ranges(older, newer, compare=compare):
            file = change.run.source.extent.file
            if files:
                ranges.add(change)
            after, before = (reverted if change.kind == "reverted" else windows).of(change.link.depth)
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
        if files:
            from dissect_sesparse.target.file_rows import FileRows  # only this reads file systems itself

            yield from FileRows(self._target, self._record).changed(disk, older, newer, ranges)

    def files(self, disk: SESparseContainer) -> Iterator[Record]:
        from dissect_sesparse.target.file_rows import FileRows  # as above

        yield from FileRows(self._target, self._record).deleted(disk)

    def versions(self, disk: SESparseContainer, paths: Sequence[str], *, changed: bool) -> Iterator[Record]:
        from dissect_sesparse.target.file_rows import FileRows  # as above

        yield from FileRows(self._target, self._record).versions(disk, paths, changed=changed)

    def findings(self, disk: SESparseContainer, once: Once) -> Iterator[Record]:
        from dissect_sesparse.files.volumes import filesystem_findings

        chain = disk.chain
        for finding in once(itertools.chain(disk.notes, findings_of(chain), filesystem_findings(chain))):
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
            return link_digest(link, holes=holes)
        except SESparseError as e:
            self._target.log.error("Cannot hash the files of %s: %s", link.name, e)  # noqa: TRY400
            return None


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
