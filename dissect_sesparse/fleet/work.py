"""What workers do: look at a VM, tell what its disks give, put that together. Plain functions that any process can run.

A task may be run twice, and a process that runs one may die at any moment: a file gets its name when it is whole, and doing
a thing again gives the same again.
"""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any

from dissect_sesparse.commands.opening import disks_of, files_of, loader_of, open_target
from dissect_sesparse.commands.words import message_of
from dissect_sesparse.findings.findings import Once
from dissect_sesparse.fleet.data import Done, FleetError, Share, Survey
from dissect_sesparse.fleet.folder import FleetFolder, write_whole
from dissect_sesparse.recovery.inputs import changed, folders_of, input_files
from dissect_sesparse.recovery.state import refuse_inside
from dissect_sesparse.source.folder import is_regular
from dissect_sesparse.trimmed.parts import WHOLE, parts_of_unmapped, parts_of_unreferenced
from dissect_sesparse.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dissect.target.target import Target
    from flow.record import Record

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.fleet.data import Settings, Vm
    from dissect_sesparse.recovery.inputs import InputFile
    from dissect_sesparse.trimmed.parts import Part

MAX_WARNINGS = 50
"""Of a task."""
_CUT: Mapping[str, Callable[[Chain, int], list[Part]]] = {
    "unmapped": parts_of_unmapped,
    "unreferenced": parts_of_unreferenced,
}
"""The functions that read and hash bytes, and how a disk is cut for them."""


def survey(settings: Settings, vm: Vm, known: tuple[tuple[str, int, int | None], ...] | None) -> Survey:
    """Look at a VM: its files, its disks, and what is to be done.

    Args:
        settings: Of the run.
        vm: The VM.
        known: The files of an earlier run that finished it.

    Raises:
        Exception: If it cannot be opened.
    """
    with _opened(settings, vm) as target:
        sources, others = disks_of(target, vm.label, at_least=0)
        inputs = [file for file, _ in _inputs(target, vm)]
        refuse_inside(Path(settings.folder), folders_of(inputs))
        keys = tuple(file.key for file in inputs)
        if keys == known:
            return Survey(keys, unchanged=True)
        chains = [source.chain for source in sources]
        tasks = list(_tasks(settings, chains))
        return Survey(
            keys,
            names=_names(target) if chains else (None, None),
            disks=tuple(chain.name for chain in chains),
            errors=(
                *(_left_out_line(other) for other in others if other["state"] == "failed"),
                *_left_out(target, vm, others),
            ),
            skipped=tuple(_left_out_line(other) for other in others if other["state"] != "failed"),
            tasks=tuple(tasks),
        )


def _left_out(target: Target, vm: Vm, others: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Disks that dissect left out of the VM without a word: there are fewer than its .vmx has."""
    from dissect_sesparse.target.vm import read_vmx

    opened = len(target.disks.entries) + sum(other["state"] == "failed" for other in others)
    vmx = _path(vm)
    wanted = [disk for disk in read_vmx(vmx).disks if disk.present] if vmx.suffix.lower() in (".vmx", ".vmtx") else []
    if opened < len(wanted):
        names = ", ".join(f"{disk.node} {disk.filename}" for disk in wanted)
        yield f"{opened} of {len(wanted)} disks can be opened, the .vmx has {names}"
    if not opened and not wanted:
        yield "no disk is in it"


def _left_out_line(other: Mapping[str, Any]) -> str:
    return f"{other['disk']}: {other['reason']}"


def _tasks(settings: Settings, chains: Sequence[Chain]) -> Iterator[tuple[Share, ...]]:
    """One task for a disk; where there is much to hash, that in parts, each a task.

    The findings of several disks are one task: what is about all of them is told once.
    """
    several = len(chains) > 1 and "findings" in settings.functions
    for disk, chain in enumerate(chains):
        together: list[Share] = []
        for function in settings.functions:
            parts = _parts(settings, function, chain)
            if len(parts) > 1:
                yield from ((Share(function, disk, number, part),) for number, part in enumerate(parts))
            elif function != "findings" or not several:
                together.append(Share(function, disk))
        if together:
            yield tuple(together)
    if several:
        yield tuple(Share("findings", disk) for disk in range(len(chains)))


def _parts(settings: Settings, function: str, chain: Chain) -> list[Part]:
    size = sum(extent.metadata.place_limit for link in chain.links for extent in link.sesparse_extents) * 4096
    if function not in _CUT or not settings.contents or size <= settings.split:
        return []
    return _CUT[function](chain, settings.split)


def _names(target: Target) -> tuple[str | None, str | None]:
    """Hostname and domain of the guest: ``None`` where its operating system is not known, or its volumes have none."""
    from dissect_sesparse.target.disk_records import look_at_volumes

    try:
        look_at_volumes(target)
    except Exception:  # the file systems of the guest: whatever their readers trip over, the disks are told about
        return None, None
    return _name(target, "hostname"), _name(target, "domain")


def _name(target: Target, which: str) -> str | None:
    try:
        return getattr(target, which)
    except Exception:  # as above
        return None


@contextmanager
def _opened(settings: Settings, vm: Vm) -> Iterator[Target]:
    """A VM, open for its disks alone, with the options of the driver."""
    if settings.version != __version__:
        problem = f"this worker has version {__version__}"
        raise FleetError(problem, field="dissect-sesparse", value=settings.version, expected="one version everywhere")
    from dissect_sesparse.target.context import URI_OPTIONS
    from dissect_sesparse.target.registration import register

    register()
    _no_log_on_the_terminal()
    token = URI_OPTIONS.set(settings.options)
    try:
        target = open_target(_path(vm))  # kept: when it goes, so do its disks
        try:
            yield target
        finally:
            for disk in target.disks:
                disk.close()
    finally:
        URI_OPTIONS.reset(token)


def _no_log_on_the_terminal() -> None:
    """What dissect logs is of no use there, from many processes at once: it is in the findings and in the VM's row."""
    for name in ("dissect", "dissect_sesparse"):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())


def _path(vm: Vm) -> Path:
    from dissect_sesparse.target.vm import configurations

    path = Path(vm.path)
    if vm.inside is None:
        return path
    found = next((vmx for vmx in configurations(path) if str(vmx) == vm.inside), None)
    if found is None:
        raise FleetError(f"{vm.inside} is not in it any more", file=path)
    return found


def _inputs(target: Target, vm: Vm) -> list[tuple[InputFile, Any]]:
    from dissect_sesparse.target.machine import sesparse_disks

    chains = [disk.chain for disk in sesparse_disks(target)]
    files = list(files_of(loader_of(target)))
    return input_files(chains, [*files, *([Path(vm.path)] if is_regular(Path(vm.path)) else [])])


# Records


def extract(
    settings: Settings, vm: Vm, names: tuple[str | None, str | None], inputs: tuple, task: Sequence[Share]
) -> Done:
    """Write the records of some pieces of a VM, a file each.

    Args:
        settings: Of the run.
        vm: The VM.
        names: Hostname and domain of the guest.
        inputs: The files of the VM as they were when it was looked at.
        task: The pieces.

    Raises:
        Exception: If the VM cannot be opened, or is not what it was.
    """
    records: dict[str, int] = {}
    errors: dict[str, str] = {}
    heard = Heard()
    from dissect_sesparse.target.disk_records import records_of
    from dissect_sesparse.target.machine import sesparse_disks

    with _opened(settings, vm) as target:
        files = _inputs(target, vm)
        disks = sesparse_disks(target)
        if tuple(file.key for file, _ in files) != inputs:
            raise FleetError("its files changed since it was looked at", file=vm.label, advice="run it again")
        spool, once = FleetFolder.of(settings).spool(vm), Once()
        for piece in task:
            records_from = partial(
                records_of, target, disks[piece.disk], piece.function,
                names=names, part=piece.part or WHOLE, contents=settings.contents, once=once,
            )  # fmt: skip
            records[piece.file], error = _write(spool / piece.file, vm, records_from, heard)
            if error is not None:
                errors[piece.file] = error
        if names_of_changed := changed(files):
            problem = f"changed while it was read: {', '.join(names_of_changed)}"
            raise FleetError(problem, file=vm.label, advice="run it again")
    return Done(records, errors, tuple(heard.messages))


class Heard(logging.Handler):
    """Keeps the first warnings that a target's functions log in this thread; dissect's own about volumes are before that."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.thread = get_ident()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread and len(self.messages) < MAX_WARNINGS:
            self.messages.append(record.getMessage())

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to the logger of targets."""
        logger = logging.getLogger("dissect.target.target")
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)


def _write(path: Path, vm: Vm, records: Callable[[], Iterator[Record]], heard: Heard) -> tuple[int, str | None]:
    """Write records, one a line. How many there are, and what ended them early."""
    count, error = 0, None
    try:
        found = records()
    except Exception as e:  # as below
        found, error = iter(()), message_of(e)
    with heard.listening(), write_whole(path) as fh:
        while True:
            try:
                record = next(found, None)
            except Exception as e:  # what there is of it stays, and the VM's row says that it is not all
                error = message_of(e)
                break
            if record is None:
                break
            fh.write(json_line(vm.name, record).encode("ascii") + b"\n")
            count += 1
    return count, error


def json_line(vm: str, record: Record) -> str:
    """A record as ``target-query`` writes it in JSON, without what dissect adds for itself, and with its VM."""
    from flow.record.jsonpacker import JsonRecordPacker

    fields = {name: value for name, value in record._asdict().items() if not name.startswith("_")}
    line = json.dumps({"vm": vm} | fields, default=JsonRecordPacker(pack_descriptors=False).pack_obj)
    # A name that is no text leaves half a character: no other program reads that.
    return json.dumps(_text(json.loads(line))) if "\\ud" in line else line


def _text(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_text(item) for item in value]
    if isinstance(value, dict):
        return {name: _text(item) for name, item in value.items()}
    return value
