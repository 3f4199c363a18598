"""``dissect-sesparse recover TARGET... -o DIR``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dissect_sesparse.commands.opening import with_files, with_versions
from dissect_sesparse.commands.runner import OpenMachine, Work
from dissect_sesparse.commands.runner import run as run_work
from dissect_sesparse.files.deleted import FILE_STATES
from dissect_sesparse.files.not_looked import counted
from dissect_sesparse.recovery.recover import recover
from dissect_sesparse.recovery.state import STATE_FILE
from dissect_sesparse.recovery.writing import RecoverError
from dissect_sesparse.source.folder import refuse_irregular

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from dissect_sesparse.recovery.recover import Recovery


def run(options: argparse.Namespace) -> int:
    """Recover, and say what was recovered. Exit codes: 0 all of it, 1 not all or nothing."""
    return run_work(Recover(options))


@dataclass
class Recover(Work):
    """Each machine is recovered into the folder; of several, each into a folder of its own in it."""

    name = "recover"
    interrupted = "interrupted: the same command goes on where it was"

    def begin(self) -> None:
        refuse_irregular(self.options.output)
        if self.several and self.options.output.joinpath(STATE_FILE).exists():
            problem = "one machine was recovered into it, and now there are several"
            raise RecoverError(problem, file=self.options.output, advice="use another folder")

    def machine(self, machine: OpenMachine) -> Iterator[str]:
        folder = self.options.output / machine.name if self.several else self.options.output
        sources = machine.sources
        if self.options.files or self.options.all_versions:
            sources = list(map(with_files, sources))
        if self.options.all_versions:
            sources = list(map(with_versions, sources))
        recovery = recover(
            sources,
            folder,
            files=machine.files,
            others=machine.others,
            target=machine.label if self.several else self.target,
            progress=self.progress,
        )
        if not recovery.complete:
            self.outcome.not_all(f"{machine.label}: not all was recovered")
        yield from _lines(recovery)


def _lines(recovery: Recovery) -> Iterator[str]:
    """What is said at the end, for each disk and of all."""
    for disk in recovery.report["disks"]:
        if disk["state"] in ("failed", "skipped"):
            yield f"{disk['disk']}: {disk['state']}: {disk['reason']}"
            continue
        found = [f"{count['bytes']} bytes {state}" for state, count in disk["unmapped"].items() if count["runs"]]
        yield f"{disk['disk']}: unmapped: {', '.join(found) or 'none, the guest trimmed nothing that had a place'}"
        found = [f"{count['bytes']} bytes {state}" for state, count in disk["unreferenced"].items() if count["runs"]]
        yield f"{disk['disk']}: unreferenced: {', '.join(found) or 'none'}"
        if unreadable := disk["unmapped_unreadable"] + 4096 * disk["unreferenced_unreadable_grains"]:
            yield f"{disk['disk']}: {unreadable} bytes of its files cannot be read, and are not recovered"
        yield from _of_files(disk, "deleted_files", "deleted files")
        yield from _of_files(disk, "file_versions", "contents of changed files")
        if disk["reason"]:
            yield f"{disk['disk']}: INCOMPLETE: {disk['reason']}"
        if errors := sum(finding["level"] == "error" for finding in disk["findings"]):
            yield f"{disk['disk']}: {errors} errors in its files, see findings in report.json"
    done = "verified, all was there and is unchanged" if recovery.verified else f"{recovery.written} bytes written"
    yield f"{recovery.folder}: {done}"


def _of_files(disk: dict[str, Any], name: str, what: str) -> Iterator[str]:
    """What is said of deleted files, or of versions, where these were asked for."""
    if (files := disk.get(name)) is None:
        return
    found = [f"{files[state]['files']} {state}" for state in FILE_STATES[:-1] if files[state]["files"]]
    lost = f"; {files['none']['files']} of which nothing is left" if files["none"]["files"] else ""
    missed = counted(volume["volume"] for volume in files["not_looked_at"])
    none = f"none found; {missed}" if missed else "none"
    yield f"{disk['disk']}: {what}: {', '.join(found) or none}{lost}{f'; {missed}' if found and missed else ''}"
    yield from files["warnings"]
