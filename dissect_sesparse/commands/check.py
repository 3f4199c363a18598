"""``dissect-sesparse check TARGET...``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain as chained
from typing import TYPE_CHECKING

from dissect_sesparse.commands.runner import OpenMachine, Work
from dissect_sesparse.commands.runner import run as run_work
from dissect_sesparse.findings.findings import Once, findings
from dissect_sesparse.source.errors import SESparseError
from dissect_sesparse.source.text import columns, printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from dissect_sesparse.findings.findings import Finding
    from dissect_sesparse.recovery.recover import Source

LEVELS = ("error", "warning", "info")
ODD = ("error", "warning")
"""Levels that count for the exit code: information is no fault of the evidence."""
_HEADS = ("LEVEL", "CODE", "LINK", "IN FILE", "ON DISK", "SIZE", "WHAT")
_NUMBERS = frozenset((3, 4, 5))


def run(options: argparse.Namespace) -> int:
    """Print the findings of all disks of some targets.

    Exit codes: 0 no warning and no error, 3 some of these, 1 where not all could be looked at.
    """
    return run_work(Check(options))


@dataclass
class Check(Work):
    """A table of findings for each disk."""

    name = "check"
    writes = False

    def machine(self, machine: OpenMachine) -> Iterator[str]:
        once = Once()  # what is about the whole machine
        for source in machine.sources:
            yield from self._disk(machine, source, once)
        for other in machine.others:
            yield f"{other['disk']}: {other['state']}: {other['reason']}"

    def _disk(self, machine: OpenMachine, source: Source, once: Once) -> Iterator[str]:
        found: list[Finding] = []
        error = None
        try:
            found += once(chained(source.notes, findings(source.chain), source.volumes()))
        except SESparseError as e:
            error = e
        name = printable(source.chain.name)
        counts = Counter(finding.level for finding in found)
        summary = ", ".join(f"{counts[level]} {level}" for level in LEVELS if counts[level]) or "no findings"
        if error is not None and not found:
            summary = "not all was looked at"
        yield f"{name}: {len(source.chain.links)} links, {source.chain.size} bytes: {summary}"
        for line in columns([_HEADS, *_rows(source, found)], _NUMBERS) if found else ():
            yield f"  {line}"
        if error is not None:
            yield f"{name}: not all was looked at: {error}"
            self.outcome.not_all(f"{machine.label}: {name}: {error}")
        self.outcome.odd = self.outcome.odd or any(counts[level] for level in ODD)


def _rows(source: Source, found: list[Finding]) -> Iterator[tuple[str, ...]]:
    """A row a finding, the worst first; of one level in the order in which they were found."""
    links = source.chain.links
    for finding in sorted(found, key=lambda finding: LEVELS.index(finding.level)):
        link = links[min(finding.depth, len(links) - 1)].name
        numbers = [f"{n:#x}" if n is not None else "-" for n in (finding.source_offset, finding.offset)]
        size = str(finding.size) if finding.size is not None else "-"
        yield finding.level, finding.code, printable(link), *numbers, size, printable(finding.message)
