"""The records of one disk of a target, or of a part of it: for who goes through many disks by itself.

They are those of the functions ``sesparse.*``. Other than there, an error ends them and is raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dissect_sesparse.findings.findings import Once
from dissect_sesparse.target.records import (
    FileRecord,
    FindingRecord,
    JournalRecord,
    LinkRecord,
    RunRecord,
    UnmappedRecord,
    UnreferencedRecord,
)
from dissect_sesparse.target.rows import Names, Rows
from dissect_sesparse.trimmed.parts import WHOLE
from dissect_sesparse.trimmed.unmapped import STATES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect.target.target import Target
    from flow.record import Record, RecordDescriptor

    from dissect_sesparse.target.container import SESparseContainer
    from dissect_sesparse.trimmed.parts import Part

DESCRIPTORS: dict[str, RecordDescriptor] = {
    "chain": LinkRecord,
    "unmapped": UnmappedRecord,
    "unreferenced": UnreferencedRecord,
    "map": RunRecord,
    "journal": JournalRecord,
    "files": FileRecord,
    "findings": FindingRecord,
}
"""The functions, and what each yields."""


def look_at_volumes(target: Target) -> None:
    """Find volumes, file systems and operating system, where the target was opened for its disks alone."""
    if not target.volumes.entries:  # a disk without a volume system is one
        target.apply()


def records_of(
    target: Target,
    disk: SESparseContainer,
    function: str,
    *,
    names: tuple[str | None, str | None] = (None, None),
    part: Part = WHOLE,
    contents: bool = True,
    once: Once | None = None,
) -> Iterator[Record]:
    """What a function tells about one disk.

    Args:
        target: The target.
        disk: One of its disks.
        function: One of :data:`DESCRIPTORS`.
        names: Hostname and domain of the target. They are looked up once, by who asks for many disks.
        part: Of the disk, for ``unmapped`` and ``unreferenced``.
        contents: Whether these two hash and measure the bytes.
        once: One for all disks of the target, for ``findings``: what is about all of them is told once.

    Raises:
        SESparseError: Where the files of the disk cannot be read on.
    """
    rows = Rows(target, Names(target, *names))
    if function == "chain":
        return rows.links(disk.chain, hash_files=False)
    if function == "unmapped":
        return rows.unmapped(disk.chain, 0, set(STATES), contents=contents, part=part)
    if function == "unreferenced":
        return rows.unreferenced(disk.chain, 0, contents=contents, part=part)
    if function == "map":
        return rows.runs(disk.chain)
    if function == "journal":
        return rows.journal(disk)
    if function == "files":
        look_at_volumes(target)
        return rows.files(disk)
    return rows.findings(disk, once or Once())
