"""What a page shows, as values: links, runs, files, inputs, and all of it for some disks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dissect_sesparse.files.not_looked import counted
from dissect_sesparse.recovery.inputs import InputFile, name_of

if TYPE_CHECKING:
    from datetime import datetime

    from dissect_sesparse.files.deleted import DeletedFile, Recovered
    from dissect_sesparse.findings.findings import Finding
    from dissect_sesparse.trimmed.content import Content
    from dissect_sesparse.trimmed.strip import Strip
    from dissect_sesparse.trimmed.unmapped import UnmappedRun

LEVELS: tuple[str, ...] = ("error", "warning", "info")
"""Of findings, the gravest first."""

T = TypeVar("T")


@dataclass(frozen=True)
class Listed(Generic[T]):
    """A list that may be cut."""

    rows: tuple[T, ...]
    total: int
    """How many there are."""

    def cut(self, most: int) -> Listed[T]:
        """The same with fewer rows."""
        return Listed(self.rows[:most], self.total)


@dataclass(frozen=True)
class LinkReport:
    """One link of a chain. Times are those of the snapshot list; ``None`` where it does not tell."""

    name: str
    path: str | None
    depth: int
    """0 is the newest."""
    type: str | None
    extents: tuple[str, ...]
    """Their kinds and names."""
    cid: str | None
    parent_cid: str | None
    size: int
    """Bytes of its disk."""
    state: str
    """One of :data:`~dissect_sesparse.chain.summary.LINK_STATES`."""
    snapshot: str | None
    """Whose state it holds; ``None`` for the running one, and where the list names none."""
    after: datetime | None
    """The guest wrote to it from then on."""
    before: datetime | None
    """The guest wrote to it until then."""
    strip: Strip


@dataclass(frozen=True)
class FoundRow:
    """A finding, and whose it is."""

    disk: str
    link: str
    finding: Finding

    @property
    def source(self) -> str | None:
        return name_of(self.finding.source)


@dataclass(frozen=True)
class UnmappedRow:
    """An unmapped run, and whose it is."""

    disk: str
    number: int
    """Of the disk in the report."""
    run: UnmappedRun
    content: Content | None

    @property
    def source(self) -> str | None:
        return name_of(self.run.extent.file.label)


@dataclass(frozen=True)
class ReportedFile:
    """A deleted file, and what can be recovered of it."""

    disk: str
    file: DeletedFile
    recovered: Recovered


@dataclass(frozen=True)
class DiskReport:
    """One disk."""

    name: str
    size: int
    options: dict[str, Any]
    links: tuple[LinkReport, ...]
    """Newest first."""
    strip: Strip
    """What the guest sees."""
    unmapped: dict[str, tuple[int, int]]
    """Runs and bytes by state."""
    never_mapped: int
    """Bytes under entries that the guest trimmed and that never had a place: nothing is lost there."""
    levels: dict[str, int]
    """Findings by level."""
    files: dict[str, int] | None
    """Deleted files by how much of them there is (``evidence.deleted.STATES``); ``None``: not looked for."""
    file_warnings: tuple[str, ...]
    """Which deleted files are not told of, and why."""
    not_looked_at: tuple[str, ...]
    """Volumes that were not looked at for deleted files, or not to the end."""
    problems: tuple[str, ...]
    """What could not be told to its end, and why."""


@dataclass(frozen=True)
class InputReport:
    """A file that was read."""

    file: InputFile
    problem: str | None = None
    """Why it has no digest."""

    @property
    def path(self) -> str:
        return self.file.key[0]

    @property
    def mtime(self) -> str | None:
        return self.file.as_json()["mtime"]


@dataclass(frozen=True)
class Report:
    """All of it."""

    target: str
    started: datetime
    finished: datetime
    disks: tuple[DiskReport, ...]
    others: tuple[dict[str, Any], ...]
    """Disks that are not reported on: ``disk``, ``state`` (failed, skipped), ``reason``."""
    findings: Listed[FoundRow]
    """The gravest first."""
    unmapped: Listed[UnmappedRow]
    """The largest first."""
    files: Listed[ReportedFile]
    """Those first of which most can be recovered."""
    inputs: tuple[InputReport, ...]
    hashes: bool
    """Whether input files and unmapped runs were hashed."""
    versions: dict[str, str]

    @property
    def not_looked_at(self) -> str:
        """How many volumes were not looked at for deleted files, in words; nothing where that is none."""
        return counted(f"{number} {volume}" for number, disk in enumerate(self.disks) for volume in disk.not_looked_at)

    @property
    def complete(self) -> bool:
        """Whether every disk could be told of to its end."""
        failed = any(other["state"] == "failed" for other in self.others)
        return not failed and not any(disk.problems for disk in self.disks)
