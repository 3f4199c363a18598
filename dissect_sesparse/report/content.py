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
from typing import TYPE_CHECKING, Any

from dissect_sesparse.chain.summary import snapshot_of_link, state_of
from dissect_sesparse.files.deleted import FILE_STATES, measure
from dissect_sesparse.files.not_looked import NotAllLookedAtError
from dissect_sesparse.findings.findings import Finding, Once, findings
from dissect_sesparse.recovery.inputs import InputFile, changed, folders_of, hashed, input_files, name_of
from dissect_sesparse.recovery.state import options_of, versions
from dissect_sesparse.report.model import (
    LEVELS,
    DiskReport,
    FoundRow,
    InputReport,
    LinkReport,
    Listed,
    Report,
    ReportedFile,
    T,
    UnmappedRow,
)
from dissect_sesparse.source.errors import SESparseError
from dissect_sesparse.time.time_window import TimeWindows
from dissect_sesparse.trimmed.content import describe
from dissect_sesparse.trimmed.strip import Strip, chain_strip, link_strip
from dissect_sesparse.trimmed.unmapped import STATES, Counts, unmapped
from dissect_sesparse.vm.snapshots import snapshots_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.chain.link import Link
    from dissect_sesparse.recovery.recover import Source
    from dissect_sesparse.source.file import EvidenceFile
    from dissect_sesparse.trimmed.unmapped import UnmappedRun

MAX_ROWS = 2000
"""Of each list, over all disks."""
MAX_CELLS = 40_000
"""Of all strips together."""
_STRIP_CELLS = (64, 4000)
"""Of one strip: at the least, at the most."""


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
    files: list[tuple[int, int, ReportedFile]] = field(default_factory=list)
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

    def _advance(self, more: int) -> None:
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
        chain, name = source.chain, source.name
        states: dict[str, tuple[int, int]] = dict.fromkeys(STATES, (0, 0))
        counts = Counts()
        try:
            for run in unmapped(chain, contents=False, counts=counts):
                runs, size = states[run.state]
                states[run.state] = (runs + 1, size + run.size)
                self._keep(name, number, run)
                self._advance(run.size)
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

    def _keep(self, disk: str, number: int, run: UnmappedRun) -> None:
        """Keep the largest runs; of equal ones the first."""
        self.seen += 1
        if len(self.largest) < MAX_ROWS or run.size > self.largest[0][0]:
            _keep_largest(self.largest, (run.size, -self.seen, UnmappedRow(disk, number, run, None)))

    def _files(self, source: Source, warnings: list[str], problems: list[str], missed: list[str]) -> dict[str, int]:
        """Count the deleted files of a disk; keep those first of which there is most."""
        counts = dict.fromkeys(FILE_STATES, 0)
        try:
            for file in source.files(warnings.append) if source.files is not None else ():
                recovered = measure(file)
                counts[recovered.state] += 1
                self.files_total += 1
                row = ReportedFile(source.name, replace(file, pieces=_no_pieces), recovered)
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
            return InputReport(hashed(file, opened, self._advance))
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
    after, before = TimeWindows(chain).of(link.depth)
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
