"""What a report tells of some disks: few enough things for one page, whatever the size of the disks.

Nothing is left out in silence. A list that is cut says of how many it is part, a map that is coarse says how coarse, and
what could not be read to its end says why.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dissect_sesparse.disk.errors import SESparseError
from dissect_sesparse.evidence.content import Content, describe
from dissect_sesparse.evidence.deleted import FILE_STATES, DeletedFile, Recovered, measure
from dissect_sesparse.evidence.findings import Finding, Once, findings
from dissect_sesparse.evidence.inputs import InputFile, changed, folders_of, hashed, input_files, name_of
from dissect_sesparse.evidence.links import state_of
from dissect_sesparse.evidence.not_looked import NotAllLookedAtError, counted
from dissect_sesparse.evidence.recover_state import options_of, versions
from dissect_sesparse.evidence.snapshots import snapshot_of_link, snapshots_of
from dissect_sesparse.evidence.strip import Strip, chain_strip, link_strip
from dissect_sesparse.evidence.unmapped import STATES, Counts, UnmappedRun, times_of, unmapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from dissect_sesparse.disk.chain import Chain
    from dissect_sesparse.disk.file import EvidenceFile
    from dissect_sesparse.disk.link import Link
    from dissect_sesparse.evidence.recover import Source

MAX_ROWS = 2000
"""Of each list, over all disks."""
MAX_CELLS = 40_000
"""Of all strips together."""
_STRIP_CELLS = (64, 4000)
"""Of one strip: at the least, at the most."""
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
    """One of :data:`~dissect_sesparse.evidence.links.STATES`."""
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
class FileRow:
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
    files: Listed[FileRow]
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


def report(
    sources: Sequence[Source],
    *,
    files: Iterable[Path] = (),
    others: Sequence[Mapping[str, Any]] = (),
    target: str = "",
    hashes: bool = True,
    check: Callable[[list[Path]], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Look at some disks.

    Args:
        sources: The disks.
        files: More files that belong to the evidence, such as the ``.vmx``.
        others: Disks that are not reported on.
        target: What the user called all of it.
        hashes: Whether to hash the input files, and the unmapped runs that are listed. Else no file is read as a whole.
        check: Gets the folders that hold evidence before anything is read, and may refuse.
        progress: Gets the number of bytes done and of all, again and again.

    Raises:
        SESparseError: If a file of the evidence is gone, or changes meanwhile.
    """
    inputs = input_files([source.chain for source in sources], files)
    if check is not None:
        check(folders_of(file for file, _ in inputs))
    return _Gathering(sources, inputs, hashes, progress).report(target, others)


@dataclass
class _Gathering:
    """The work on one report. Its methods follow one another as in :meth:`report`."""

    sources: Sequence[Source]
    inputs: list[tuple[InputFile, EvidenceFile | None]]
    hashes: bool
    progress: Callable[[int, int], None] | None
    done: int = 0
    total: int = 0
    largest: list[tuple[int, int, UnmappedRow]] = field(default_factory=list)
    """A heap: size, the negative of its number, the run."""
    seen: int = 0
    """Unmapped runs."""
    files: list[tuple[int, int, FileRow]] = field(default_factory=list)
    """A heap: recovered bytes, the negative of its number, the file."""
    files_total: int = 0
    found: dict[str, list[FoundRow]] = field(default_factory=lambda: {level: [] for level in LEVELS})
    found_total: int = 0
    once: dict[str, Once] = field(default_factory=lambda: defaultdict(Once))
    """By machine: what is about all of its disks is listed once."""

    def report(self, target: str, others: Sequence[Mapping[str, Any]]) -> Report:
        started = datetime.now(timezone.utc)
        strips = sum(len(source.chain.links) + 1 for source in self.sources)
        least, most = _STRIP_CELLS
        cells = max(least, min(most, MAX_CELLS // max(1, strips)))
        maps = [self._maps(source.chain, cells) for source in self.sources]
        self.total = sum(strip.sizes["unmapped"] for _, links, _ in maps for strip in links)
        self.total += sum(file.size for file, _ in self.inputs) if self.hashes else 0
        disks = [self._disk(number, source, *maps[number]) for number, source in enumerate(self.sources)]
        inputs = tuple(self._input(file, opened) for file, opened in self.inputs)
        if names := changed(self.inputs):
            raise SESparseError(f"changed while it was read: {', '.join(names)}", advice="work on a copy")
        rows = [row for level in LEVELS for row in self.found[level]][:MAX_ROWS]
        return Report(
            target,
            started,
            datetime.now(timezone.utc),
            tuple(disks),
            tuple(dict(other) for other in others),
            Listed(tuple(rows), self.found_total),
            Listed(tuple(self._described()), self.seen),
            Listed(tuple(row for _, _, row in _largest_first(self.files)), self.files_total),
            inputs,
            self.hashes,
            versions(),
        )

    def _tell(self, more: int) -> None:
        self.done = min(self.done + more, self.total)
        if self.progress is not None:
            self.progress(self.done, self.total)

    def _maps(self, chain: Chain, cells: int) -> tuple[Strip, list[Strip], list[str]]:
        """The strip of a disk and those of its links, and what is wrong with them."""
        whole, links = chain_strip(chain, cells), [link_strip(link, cells) for link in chain.links]
        problems = [f"The map of the disk ends at {whole.size:#x}: {whole.problem}"] if whole.problem else []
        for link, strip in zip(chain.links, links):
            if strip.problem:
                problems.append(f"The map of {link.name} ends at {strip.size:#x}: {strip.problem}")
        return whole, links, problems

    def _disk(self, number: int, source: Source, whole: Strip, strips: list[Strip], problems: list[str]) -> DiskReport:
        chain = source.chain
        states: dict[str, tuple[int, int]] = dict.fromkeys(STATES, (0, 0))
        counts = Counts()
        try:
            for run in unmapped(chain, contents=False, counts=counts):
                runs, size = states[run.state]
                states[run.state] = (runs + 1, size + run.size)
                self._keep(UnmappedRow(source.name, number, run, None))
                self._tell(run.size)
        except SESparseError as e:
            problems.append(f"The list of what the guest trimmed is not complete: {e}")
        if counts.unreadable:
            problems.append(f"{counts.unreadable} bytes that the guest trimmed cannot be read; they count as missing")
        if chain.parent_doubtful is not None:
            problems.append(f"Nothing vouches for what lies below: {chain.parent_doubtful}")
        levels = dict.fromkeys(LEVELS, 0)
        try:
            for finding in self._findings(source):
                levels[finding.level] += 1
        except SESparseError as e:
            problems.append(f"The list of findings is not complete: {e}")
        warnings: list[str] = []
        missed: list[str] = []
        files = None if source.files is None else self._files(source, warnings, problems, missed)
        return DiskReport(
            source.name,
            chain.size,
            options_of(chain),
            tuple(link_report(chain, link, strip) for link, strip in zip(chain.links, strips)),
            whole,
            states,
            counts.never_mapped,
            levels,
            files,
            tuple(warnings),
            tuple(missed),
            tuple(problems),
        )

    def _keep(self, row: UnmappedRow) -> None:
        """Keep the largest runs; of equal ones the first."""
        self.seen += 1
        _keep_largest(self.largest, (row.run.size, -self.seen, row))

    def _files(self, source: Source, warnings: list[str], problems: list[str], missed: list[str]) -> dict[str, int]:
        """Count the deleted files of a disk; keep those first of which there is most."""
        counts = dict.fromkeys(FILE_STATES, 0)
        try:
            for file in source.files(warnings.append) if source.files is not None else ():
                recovered = measure(file)
                counts[recovered.state] += 1
                self.files_total += 1
                row = FileRow(source.name, replace(file, pieces=_no_pieces), recovered)
                _keep_largest(self.files, (recovered.size, -self.files_total, row))
        except NotAllLookedAtError as e:
            missed += sorted({place.where for place in e.places})
            problems.append(f"The list of deleted files is not complete: {e}")
        except SESparseError as e:
            problems.append(f"The list of deleted files is not complete: {e}")
        return counts

    def _findings(self, source: Source) -> Iterator[Finding]:
        chain = source.chain
        for finding in self.once[source.machine](itertools.chain(source.notes, findings(chain), source.volumes())):
            self.found_total += 1
            rows = self.found[finding.level]
            if len(rows) < MAX_ROWS:
                link = chain.links[min(finding.depth, len(chain.links) - 1)]
                rows.append(FoundRow(source.name, link.name, finding))
            yield finding

    def _described(self) -> Iterator[UnmappedRow]:
        """The rows that are listed, largest first, with what their bytes are."""
        for _, _, row in _largest_first(self.largest):
            content = None
            if self.hashes and row.run.place is not None and row.run.state in ("present", "empty", "contested"):
                try:
                    content = describe(row.run.read())
                except SESparseError:  # it was read before: then the findings tell of the file
                    content = None
            yield UnmappedRow(row.disk, row.number, row.run, content)

    def _input(self, file: InputFile, opened: EvidenceFile | None) -> InputReport:
        if not self.hashes:
            return InputReport(file, "not asked for")
        try:
            return InputReport(hashed(file, opened, self._tell))
        except SESparseError as e:
            return InputReport(file, str(e))


def _keep_largest(heap: list[tuple[int, int, T]], entry: tuple[int, int, T]) -> None:
    if len(heap) < MAX_ROWS:
        heapq.heappush(heap, entry)
    else:
        heapq.heappushpop(heap, entry)


def _largest_first(heap: list[tuple[int, int, T]]) -> list[tuple[int, int, T]]:
    return sorted(heap, key=lambda entry: entry[:2], reverse=True)


def _no_pieces() -> Iterator[tuple[int, bytes]]:
    """A row holds on to no file system."""
    return iter(())


def link_report(chain: Chain, link: Link, strip: Strip) -> LinkReport:
    """What is told of a link."""
    descriptor = link.descriptor
    snapshot = snapshot_of_link(link, snapshots_of(link.folder)) if link.folder is not None else None
    after, before = times_of(chain, link)
    return LinkReport(
        link.name,
        name_of(link.path),
        link.depth,
        descriptor.create_type if descriptor is not None else None,
        tuple(f"{placed.extent.kind} {placed.extent.label}" for placed in link.extents),
        descriptor.cid if descriptor is not None else None,
        descriptor.parent_cid if descriptor is not None else None,
        link.size,
        state_of(link),
        snapshot.name if snapshot is not None else None,
        after,
        before,
        strip,
    )
