"""``dissect-sesparse export TARGET... -o DIR``."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dissect_sesparse.commands.output import complain
from dissect_sesparse.commands.runner import OpenMachine, Work
from dissect_sesparse.commands.runner import run as run_work
from dissect_sesparse.recovery.export import Export, ExportOptions, WantedDisk, export
from dissect_sesparse.recovery.export_image import WantedImage
from dissect_sesparse.recovery.state import EXPORT_FILE
from dissect_sesparse.recovery.writing import RecoverError
from dissect_sesparse.source.folder import refuse_irregular
from dissect_sesparse.target.disk_states import MachineStates

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def run(options: argparse.Namespace) -> int:
    """Export, and say what was written. Exit codes: 0 all of it, 1 not all or nothing."""
    return run_work(ExportWork(options))


@dataclass
class ExportWork(Work):
    """The disks of each machine are written into the folder; those of several, each into a folder of its own in it."""

    name = "export"
    interrupted = "interrupted: the same command goes on where it was"

    def begin(self) -> None:
        refuse_irregular(self.options.output)
        if self.several and self.options.output.joinpath(EXPORT_FILE).exists():
            problem = "one machine was exported into it, and now there are several"
            raise RecoverError(problem, file=self.options.output, advice="use another folder")

    def machine(self, machine: OpenMachine) -> Iterator[str]:
        folder = self.options.output / machine.name if self.several else self.options.output
        options = self.options
        with closing(MachineStates(machine.target)) as states:
            if options.all_states:
                states.in_all_states()
            elif options.state is not None:
                states.as_frozen(options.state)
            else:
                states.as_it_runs()
            for left in states.left_out:
                self._not_all(machine.label, f"{left['disk']}: {left['reason']}" if left["disk"] else left["reason"])
            disks = [
                WantedDisk(disk.name, tuple(WantedImage(*state) for state in disk.states)) for disk in states.disks
            ]
            if not disks:
                raise RecoverError("no disk that can be exported", file=machine.label)
            failed = [other for other in machine.others if other["state"] == "failed"]
            others = [{"disk": other["disk"], "reason": other["reason"]} for other in [*failed, *states.left_out]]
            wanted = ExportOptions(options.format, options.view, not options.no_hash)
            done = export(disks, folder, wanted, files=machine.files, others=others, progress=self.progress)
        for line in done.lines:
            if line["unreadable"] or line["doubt"]:
                self.outcome.not_all(f"{machine.label}: {line['file']} is not all of the disk, or in doubt")
        for line in done.failed:
            self._not_all(machine.label, f"{line['file']}: {line['reason']}")
        yield from _lines(done)

    def _not_all(self, label: str, reason: str) -> None:
        self.outcome.not_all(f"{label}: {reason}")
        complain(self.name, f"{label}: left out: {reason}")


def _lines(done: Export) -> Iterator[str]:
    """What is said at the end, of each image and of all."""
    for line in done.lines:
        yield f"{line['file']}: {line['disk']}{_state(line)}, {line['size']} bytes{_digest(line)}"
        if line["unreadable"]:
            yield f"{line['file']}: INCOMPLETE: {line['unreadable']} bytes cannot be had, see {line['map']}: {line['reason']}"
        if line["doubt"]:
            yield f"{line['file']}: IN DOUBT: {line['doubt']}"
        for note in line["notes"]:
            yield f"{line['file']}: note: {note}"
    yield f"{done.folder}: {f'{done.written} bytes written' if done.written else 'verified, all was there and is unchanged'}"


def _state(line: dict[str, Any]) -> str:
    states = " and ".join(map(repr, line["states"]))
    running = "as it runs" if line["running"] else ""
    return f" {' and '.join(filter(None, [running, f'as of {states}' if states else '']))}"


def _digest(line: dict[str, Any]) -> str:
    if line["digest"] is not None:
        return f", sha256 {line['digest']['sha256']}"
    return f", sha256 of its blocks {line['sha256_blocks']}" if line["sha256_blocks"] is not None else ""
