"""The folder that a run over a fleet writes, and goes on in::

    fleet.json                   what was begun here: version, functions, options
    jsonl/FUNCTION/VM.jsonl      the records of a VM, one JSON object a line
    parquet/FUNCTION/VM.parquet  the same, for tables: a folder is one data set
    vms.jsonl, vms.parquet       one row a VM: where it is, what was done, and what went wrong
    state/VM.json                that row, and what it was made from, so that a second run can skip it
    .parts/                      what is not whole yet; gone at the end

Each file is written under another name and gets its own when it is whole; ``state/VM.json`` is the last of a VM.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import uuid4

from dissect_sesparse.commands.fleet.data import FleetError, Vm
from dissect_sesparse.evidence.safe_name import safe_stems

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dissect_sesparse.commands.fleet.data import Settings

FORMATS = {"jsonl": ".jsonl", "parquet": ".parquet"}
_BEGUN = ("version", "functions", "contents", "options")
_FINISHED = ("done", "skipped")


class FleetFolder:
    """The output folder.

    Args:
        path: Where it is.
        run: Names this run.
    """

    def __init__(self, path: Path, run: str):
        self.path = path
        self.parts = path / ".parts" / run

    @classmethod
    def of(cls, settings: Settings) -> FleetFolder:
        """The folder of a run, as a worker sees it.

        Raises:
            FleetError: If this is not the folder that the driver has.
        """
        folder = cls(Path(settings.folder), settings.run)
        if not folder.parts.is_dir():
            problem = "this worker does not see the folder of the run"
            raise FleetError(problem, file=folder.path, expected="one path that all workers share")
        return folder

    def begin(self, settings: Settings) -> None:
        """Begin in a new or empty folder, or go on in one where the same was begun.

        Raises:
            FleetError: If it holds anything else, or cannot be written.
        """
        wanted = json.loads(json.dumps({name: getattr(settings, name) for name in _BEGUN}))
        path = self.path / "fleet.json"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self._compare(path, wanted)
            elif found := next(iter(self.path.iterdir()), None):
                problem = f"the folder holds {found.name}, and no run over a fleet was begun in it"
                raise FleetError(problem, file=self.path, expected="a new or empty folder")
            else:
                begun = wanted | {"begun": datetime.now(timezone.utc).isoformat()}
                self._put(path, json.dumps(begun, indent=2).encode())
            shutil.rmtree(self.parts.parent, ignore_errors=True)  # of a run that was broken off
            self.parts.mkdir(parents=True)
        except OSError as e:
            raise FleetError(f"cannot be used: {e}", file=self.path) from e

    def _compare(self, path: Path, wanted: Mapping[str, Any]) -> None:
        try:
            begun = json.loads(path.read_bytes())
        except ValueError as e:
            raise FleetError(f"cannot be read: {e}", file=path, advice="use another folder") from e
        for name in _BEGUN:
            if begun.get(name) != wanted[name]:
                told, here = json.dumps(begun.get(name)), json.dumps(wanted[name])
                problem = f"begun with {name} {told}, now it would be {here}"
                raise FleetError(problem, file=path, advice="use another folder")

    def end(self) -> None:
        """Remove what is only of use in a run."""
        shutil.rmtree(self.parts.parent, ignore_errors=True)

    # Files

    def spool(self, vm: Vm) -> Path:
        """The folder for what of a VM is not whole yet; made when absent."""
        path = self.parts / vm.name
        path.mkdir(exist_ok=True)
        return path

    def output(self, kind: str, function: str, vm: Vm) -> Path:
        """A file of records: ``kind`` is one of :data:`FORMATS`."""
        return self.path / kind / function / f"{vm.name}{FORMATS[kind]}"

    def outputs(self, vm: Vm) -> list[Path]:
        """The files of records that a VM has."""
        return [path for kind, suffix in FORMATS.items() for path in self.path.glob(f"{kind}/*/{vm.name}{suffix}")]

    def _put(self, path: Path, data: bytes) -> None:
        with whole(path, path.parent) as fh:
            fh.write(data)

    # State

    def _state(self, vm: Vm) -> Path:
        return self.path / "state" / f"{vm.name}.json"

    def states(self) -> dict[str, dict[str, Any]]:
        """What is known of each VM, by its name. A state that cannot be read counts as none: its VM is done anew."""
        found = {}
        for path in sorted((self.path / "state").glob("*.json")):
            try:
                content = json.loads(path.read_bytes())
                found[content["row"]["vm"]] = content
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return found

    def finished(self, state: Mapping[str, Any] | None) -> tuple[tuple[str, int, int | None], ...] | None:
        """The files that a finished VM was made from; ``None`` for one that is not, or whose records are gone."""
        if state is None or state["row"]["state"] not in _FINISHED:
            return None
        for name, size in state["outputs"].items():
            path = self.path / name
            if not path.is_file() or path.stat().st_size != size:
                return None
        return tuple((path, size, mtime) for path, size, mtime in state["inputs"])

    def forget(self, vm: Vm) -> None:
        """Remove what an earlier run said of a VM."""
        self._state(vm).unlink(missing_ok=True)
        for path in self.outputs(vm):
            path.unlink()

    def keep(self, vm: Vm, row: Mapping[str, Any], inputs: Iterable[Iterable[Any]]) -> dict[str, Any]:
        """Keep the row of a VM; it is done with that."""
        sizes = {path.relative_to(self.path).as_posix(): path.stat().st_size for path in self.outputs(vm)}
        row = {**row, "finished": datetime.now(timezone.utc).isoformat()}
        path = self._state(vm)
        path.parent.mkdir(exist_ok=True)
        self._put(path, json.dumps({"row": row, "inputs": list(inputs), "outputs": sizes}, indent=1).encode())
        shutil.rmtree(self.parts / vm.name, ignore_errors=True)
        return row


def name_vms(found: Iterable[tuple[str, str | None]], states: Mapping[str, Mapping[str, Any]]) -> list[Vm]:
    """Give VMs names for their files: the ones that they had in earlier runs, else new ones, each another."""
    known = {(state["row"]["path"], state["row"]["inside"]): name for name, state in states.items()}
    taken = {name.casefold() for name in states}
    vms = []
    for path, inside in found:
        name = known.get((path, inside))
        if name is None:
            stem = name = safe_stems([Path((inside or path).replace("\\", "/")).stem])[0]
            number = 1
            while name.casefold() in taken:
                number += 1
                name = f"{stem}~{number}"
            taken.add(name.casefold())
        vms.append(Vm(name, path, inside))
    return vms


@contextmanager
def whole(path: Path, spool: Path) -> Iterator[BinaryIO]:
    """Write a file that is there as a whole or not at all: it is in ``spool`` (on the same disk) until then."""
    partial = spool / f"{path.name}.{uuid4().hex}.partial"
    try:
        with partial.open("xb") as fh:
            yield fh
            fh.flush()
            os.fsync(fh.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
