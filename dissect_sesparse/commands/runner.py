"""How ``check``, ``recover``, ``report`` and ``timeline`` go through their targets: each machine of each, and none left out in silence."""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dissect_sesparse.commands.opening import disks_of, files_of, loader_of
from dissect_sesparse.commands.outcome import FAILED, Outcome
from dissect_sesparse.commands.output import complain, progress_bar, say
from dissect_sesparse.commands.words import message_of
from dissect_sesparse.recovery.safe_name import distinct_names
from dissect_sesparse.source.errors import FileError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from dissect.target.target import Target

    from dissect_sesparse.recovery.recover import Source
    from dissect_sesparse.target.loaders import Found


@dataclass
class OpenMachine:
    """A machine whose disks are open. When its target goes, so do they."""

    label: str
    """What the user calls it: its path."""
    name: str
    """For names of files: that of its ``.vmx`` or disk, and where others have the same, its folder before it."""
    target: Target
    sources: list[Source]
    """Its seSparse disks."""
    others: list[dict[str, Any]]
    """The rest: ``disk``, ``state`` (``failed``, ``skipped``), ``reason``."""
    files: list[Path]
    """What was opened to find the disks."""


@dataclass
class Work:
    """What a command does with machines: it overrides what it needs."""

    options: argparse.Namespace
    outcome: Outcome = field(default_factory=Outcome)
    several: bool = False
    """Whether there is more than one machine or target, those that cannot be opened included."""
    progress: Callable[[int, int], None] = field(default=lambda done, total: None)

    name: ClassVar[str]
    interrupted: ClassVar[str] = "interrupted"
    """What is said then."""
    writes: ClassVar[bool] = True
    """Whether it goes on where nobody reads its output any more."""
    together: ClassVar[bool] = False
    """Whether all machines stay open until the end."""
    headings: ClassVar[bool] = True
    """Whether what is said of each of several machines stands under its name."""

    @property
    def target(self) -> str:
        """What the user called all of it."""
        return ", ".join(map(str, self.options.targets))

    def begin(self) -> None:
        """Refuse before anything is opened what would be refused later.

        Raises:
            SESparseError: To refuse it.
        """

    def machine(self, machine: OpenMachine) -> Iterable[str]:
        """Do it with one machine; gives the lines that are said."""
        raise NotImplementedError

    def say(self, line: str) -> None:
        """Say a line of the result."""
        say(line)

    def left_out(self, label: str, reason: str) -> None:
        """Take note of a machine or target that could not be looked at; it is said already, and counts."""

    def end(self) -> Iterable[str]:
        """What is left to do when all machines were gone through."""
        return ()


def run(work: Work) -> int:
    """Go through all machines of all targets. The exit code is that of :class:`Outcome`."""
    from dissect_sesparse.target.registration import register

    register()
    try:
        with progress_bar(work.name, quiet=work.options.quiet) as work.progress, ExitStack() as opened:
            _run(work, opened)
    except KeyboardInterrupt:
        complain(work.name, work.interrupted)
        return FAILED
    except BrokenPipeError:
        raise
    except Exception as e:
        complain(work.name, message_of(e))
        return FAILED
    return work.outcome.code


def _run(work: Work, opened: ExitStack) -> None:
    found = _find(work)
    work.several = len(found) > 1 or len(work.options.targets) > 1
    if found:
        work.begin()
    looked = 0
    for one, name in zip(found, distinct_names(_place(one) for one in found)):
        if work.several and work.headings and not work.together:
            _say(work, [f"{one.label}:"])
        try:
            machine = _open(one, name, work)
            if machine is None:
                continue
            looked += 1
            if work.together:
                opened.callback(_close, machine)
            try:
                _say(work, work.machine(machine))
            finally:
                if not work.together:
                    _close(machine)
        except BrokenPipeError:
            raise
        except Exception as e:
            _left_out(work, one.label, e)
    if found and not looked and work.outcome.complete:
        _left_out(work, work.target, FileError("no seSparse disk in it"))
    if looked:
        _say(work, work.end())


def _find(work: Work) -> list[Found]:
    """All machines, each once."""
    from dissect_sesparse.target.loaders import machines_named

    found: dict[tuple[str, str], Found] = {}
    for spec in work.options.targets:
        try:
            machines = machines_named(spec)
            if not machines:
                raise FileError("no machine in it", file=spec)
        except Exception as e:
            _left_out(work, str(spec), e)
            continue
        for machine in machines:
            key = machine.label, machine.parsed.geturl() if machine.parsed is not None else ""
            found.setdefault(key, machine)
    return list(found.values())


def _open(found: Found, name: str, work: Work) -> OpenMachine | None:
    """Open a machine; of one that was found in a folder and has no disk of ours, only say that."""
    target = found.open()
    sources, others = disks_of(target, found.label, at_least=0 if not found.named else 1)
    if not sources and not any(other["state"] == "failed" for other in others):
        _say(work, [f"{found.label}: skipped: no seSparse disk"])
        return None
    for other in others:
        if other["state"] == "failed":
            work.outcome.not_all(f"{found.label}: {other['disk']}: {other['reason']}")
    files = [*files_of(loader_of(target)), *([found.archive] if found.archive is not None else [])]
    return OpenMachine(found.label, name, target, sources, others, files)


def _place(found: Found) -> str:
    """What a machine is named after: its whole path, within an archive that of the archive too."""
    label = found.label if found.parsed is None else str(found.path)
    return label.replace("\\", "/").replace(": ", "/")


def _close(machine: OpenMachine) -> None:
    for disk in machine.target.disks:
        with contextlib.suppress(Exception):
            disk.close()


def _left_out(work: Work, label: str, error: Exception) -> None:
    words = message_of(error)
    line = words if words.startswith(label) else f"{label}: {words}"
    work.outcome.not_all(line)
    work.left_out(label, words)
    complain(work.name, line)


def _say(work: Work, lines: Iterable[str] | Sequence[str]) -> None:
    """Say lines; what a command writes does not depend on whether anybody reads them."""
    gone = False
    for line in lines:
        try:
            if not gone:
                work.say(line)
        except BrokenPipeError:
            if not work.writes:
                raise
            gone = True
