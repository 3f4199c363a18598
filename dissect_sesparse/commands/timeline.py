"""``dissect-sesparse timeline TARGET...``."""

from __future__ import annotations

import io
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from dissect_sesparse.commands.output import complain, say
from dissect_sesparse.commands.runner import OpenMachine, Work
from dissect_sesparse.commands.runner import run as run_work
from dissect_sesparse.commands.words import message_of
from dissect_sesparse.recovery.inputs import folders_of, input_files
from dissect_sesparse.recovery.state import refuse_inside
from dissect_sesparse.recovery.writing import OutputFolder, refuse_there
from dissect_sesparse.timeline.formats import FORMATS, Written
from dissect_sesparse.timeline.order import InOrder

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from dissect_sesparse.source.errors import SESparseError
    from dissect_sesparse.target.container import SESparseContainer
    from dissect_sesparse.target.event_rows import EventRows

RECORDS = "records"
"""The format that is no lines: a stream of records, as target-query writes it."""


def run(options: argparse.Namespace) -> int:
    """Write the timeline. Exit codes: 0 it has all, 1 not all could be looked at, or nothing was written."""
    with InOrder() as order:
        return run_work(TimelineWork(options, order=order))


@dataclass
class TimelineWork(Work):
    """One timeline of all machines, written when all were gone through. What is no part of it goes to standard error."""

    name = "timeline"
    interrupted = "interrupted: the timeline was not written to its end"
    writes = False
    headings = False
    order: InOrder = field(default_factory=InOrder)
    rows: dict[str, EventRows] = field(default_factory=dict)
    """Of each machine, where records are wanted."""
    evidence: list[Path] = field(default_factory=list)
    """The folders that hold it: nothing is written there."""

    def say(self, line: str) -> None:
        complain(self.name, line)

    def begin(self) -> None:
        if self.options.output is not None:
            refuse_there(self.options.output, replace=self.options.force)

    def machine(self, machine: OpenMachine) -> Iterator[str]:
        from dissect_sesparse.target.event_rows import EventRows
        from dissect_sesparse.target.machine import sesparse_disks
        from dissect_sesparse.target.rows import Names

        if self.options.output is not None:
            inputs = input_files([source.chain for source in machine.sources], machine.files)
            self.evidence += folders_of(file for file, _ in inputs)
            refuse_inside(self.options.output, self.evidence)
        self._look_at_volumes(machine)
        rows = EventRows(machine.target, Names(machine.target), machine.label)
        missed = partial(self._not_all, machine.label)
        between = (self.options.from_, self.options.to)
        disks = sesparse_disks(machine.target)
        rows.gather(disks, self.order, missed, files=not self.options.no_files, between=between)
        if self.options.format == RECORDS:
            self.rows[machine.label] = rows
        for other in machine.others:
            yield f"{other['disk']}: {other['state']}: {other['reason']}"

    def _look_at_volumes(self, machine: OpenMachine) -> None:
        """Let dissect mount the file systems, which tells where the files of a volume are."""
        from dissect_sesparse.target.disk_records import look_at_volumes

        if not self.options.no_files:
            try:
                look_at_volumes(machine.target)
            except Exception as e:  # whatever an operating system's plugin trips over
                why = "paths are those within their volumes, dissect cannot mount these"
                complain(self.name, f"{machine.label}: {why}: {message_of(e)}")

    def _not_all(self, label: str, disk: SESparseContainer, error: SESparseError) -> None:
        reason = f"{label}: {disk.chain.name}: not all was looked at: {error}"
        self.outcome.not_all(reason)
        complain(self.name, reason)

    def end(self) -> Iterator[str]:
        counts, path = Written(), self.options.output
        if path is not None:
            refuse_inside(path, self.evidence)  # also of a machine that was left out because of that
        if path is None and self.options.format == "text":
            for line in self._lines(counts):
                say(line)
        else:
            with _opened(path) as output:
                (self._write_records if self.options.format == RECORDS else self._write_lines)(counts, output)
        if path is not None:
            say(f"{path}: {counts.written} events")
        if counts.undated:
            yield (
                f"{counts.undated} events are not in it, as the format needs a time and nothing says when they were: "
                "the formats text and records list them"
            )
        if self.order.left_out:
            reason = f"{self.order.left_out} events are not in it: there are more than {self.order.count}"
            self.outcome.not_all(reason)
            yield reason

    def _lines(self, counts: Written) -> Iterator[str]:
        return FORMATS[self.options.format](self.order, counts, machines=self.several)

    def _write_lines(self, counts: Written, output: BinaryIO) -> None:
        """As bytes: the encoding and the line ends of a console are not those of a file for other tools."""
        output.writelines(line.encode("utf-8", "backslashreplace") + b"\n" for line in self._lines(counts))

    def _write_records(self, counts: Written, output: BinaryIO) -> None:
        from flow.record import RecordOutput

        writer = RecordOutput(output)  # readable lines on a terminal
        try:
            for moment in self.order:
                writer.write(self.rows[moment.machine].record(moment))
                counts.written += 1
            writer.flush()  # without any record too it is a stream of records
        finally:
            writer.fp = None  # it would close what is not its own


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    """The file to write, whole or not at all; or standard output.

    That is buffered here whatever Python's options say: rdump takes the first write to a pipe for the head of all.
    """
    if path is not None:
        with OutputFolder(path.parent).whole(path.name) as output:
            yield output
        return
    sys.stdout.flush()
    output = io.BufferedWriter(sys.stdout.buffer, 1 << 16)  # type: ignore[arg-type]  # of a raw one it asks no more than to write
    try:
        yield output
        output.flush()
    finally:
        with suppress(OSError, ValueError):
            output.detach()
