"""``dissect-sesparse report TARGET... -o FILE``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dissect_sesparse.commands.opening import with_files
from dissect_sesparse.commands.runner import OpenMachine, Work
from dissect_sesparse.commands.runner import run as run_work
from dissect_sesparse.recovery.state import refuse_inside
from dissect_sesparse.recovery.writing import OutputFolder, refuse_there
from dissect_sesparse.report.content import report

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from dissect_sesparse.recovery.recover import Source
    from dissect_sesparse.report.model import Report


def run(options: argparse.Namespace) -> int:
    """Write the page, and say what is in it. Exit codes: 0 it shows all, 1 not all or nothing was written."""
    return run_work(PageWork(options))


@dataclass
class PageWork(Work):
    """One page, of one machine or of several; then the name of the machine stands before that of each disk."""

    name = "report"
    interrupted = "interrupted: nothing was written"
    together = True
    sources: list[Source] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    others: list[dict[str, Any]] = field(default_factory=list)

    def begin(self) -> None:
        refuse_there(self.options.output, replace=self.options.force)
        from dissect_sesparse.report import render as _  # noqa: F401  # without jinja2 nothing is read in vain

    def machine(self, machine: OpenMachine) -> Iterator[str]:
        """Take its disks: the page is made when all are there."""
        before = f"{machine.name}: " if self.several else ""
        for source in machine.sources:
            named = replace(source, machine=machine.name) if self.several else source
            self.sources.append(named if self.options.no_files else with_files(named))
        self.others += [{**other, "disk": f"{before}{other['disk']}"} for other in machine.others]
        self.files += machine.files
        return iter(())

    def left_out(self, label: str, reason: str) -> None:
        self.others.append({"disk": label, "state": "failed", "reason": reason})

    def end(self) -> Iterator[str]:
        from dissect_sesparse.report.render import render

        output = self.options.output
        made = report(
            self.sources,
            files=self.files,
            others=self.others,
            target=self.target,
            hashes=not self.options.no_hash,
            check=lambda folders: refuse_inside(output, folders),
            progress=self.progress,
        )
        if not made.complete:
            self.outcome.not_all("not all could be looked at, see the page")
        _write(output, render(made))
        yield from _lines(made)
        with suppress(OSError):
            yield f"{output}: {output.stat().st_size} bytes written"


def _write(output: Path, page: bytes) -> None:
    """Write the page whole or not at all: under another name, until all of it is on the disk."""
    with OutputFolder(output.parent).whole(output.name) as fh:
        fh.write(page)


def _lines(made: Report) -> Iterator[str]:
    """What is said at the end, for each disk."""
    for disk in made.disks:
        trimmed = sum(size for _, size in disk.unmapped.values())
        yield (
            f"{disk.name}: {len(disk.links)} links, {trimmed} bytes trimmed by the guest, "
            f"{disk.levels['error']} errors, {disk.levels['warning']} warnings"
        )
        for problem in disk.problems:
            yield f"{disk.name}: INCOMPLETE: {problem}"
    for other in made.others:
        yield f"{other['disk']}: {other['state']}: {other['reason']}"
