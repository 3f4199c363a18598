"""The records of one disk of a target, or of a part of it: for who goes through many disks by itself.

They are those of the functions ``sesparse.*``. Other than there, an error ends them and is raised.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from dissect_sesparse.evidence.findings import Once
from dissect_sesparse.evidence.parts import WHOLE
from dissect_sesparse.evidence.unmapped import STATES
from dissect_sesparse.target._plugin import SESparsePlugin
from dissect_sesparse.target.records import (
    FileRecord,
    FindingRecord,
    JournalRecord,
    LinkRecord,
    RunRecord,
    UnmappedRecord,
    UnreferencedRecord,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect.target.target import Target
    from flow.record import Record, RecordDescriptor

    from dissect_sesparse.evidence.parts import Part
    from dissect_sesparse.target.container import SESparseContainer

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
    plugin = SESparsePlugin(target)
    plugin.__dict__["_names"] = SimpleNamespace(hostname=names[0], domain=names[1], path=target.path)
    if function == "chain":
        return plugin._links(disk.chain, hash_files=False)
    if function == "unmapped":
        return plugin._unmapped(disk.chain, 0, set(STATES), contents=contents, part=part)
    if function == "unreferenced":
        return plugin._unreferenced(disk.chain, 0, contents=contents, part=part)
    if function == "map":
        return plugin._runs(disk.chain)
    if function == "journal":
        return plugin._journal(disk)
    if function == "files":
        look_at_volumes(target)
        return plugin._files(disk)
    return plugin._findings(disk, once or Once())
