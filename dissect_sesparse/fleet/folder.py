"""The folder that a run over a fleet writes, and goes on in::

    fleet.json                   what was begun here: version, functions, options
    jsonl/FUNCTION/VM.jsonl      the records of a VM, one JSON object a line
    parquet/FUNCTION/VM.parquet  the same, for tables: a folder is one data set
    vms.jsonl, vms.parquet       one row a VM: where it is, what was done, and what went wrong
    state/VM.json                that row, and what it was made from, so that a second run can skip it
    .parts/                      what is not whole yet; gone at the end
    fleet.lock                   keeps a second run out; empty, and stays

Each file is written under another name and gets its own when it is whole; ``state/VM.json`` is the last of a VM.
"""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dissect_sesparse.fleet.data import FleetError, Vm
from dissect_sesparse.fleet.lock import LOCK_FILE
from dissect_sesparse.recovery.own_json import read_json
from dissect_sesparse.recovery.safe_name import distinct_names
from dissect_sesparse.recovery.writing import OutputFolder, RecoverError, system_errors
from dissect_sesparse.source.errors import SESparseError
from dissect_sesparse.source.text import logger_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from dissect_sesparse.fleet.data import Settings
    from dissect_sesparse.recovery.own_json import Shape

FORMATS = {"jsonl": ".jsonl", "parquet": ".parquet"}
_BEGUN = ("version", "functions", "contents", "options")
_BEGUN_FILE = "fleet.json"
_FINISHED = ("done", "skipped")
_TEXT = (str, type(None))
_STATE: Shape = {
    "row": {
        "vm": str, "path": str, "inside": _TEXT, "hostname": _TEXT, "domain": _TEXT, "state": str, "errors": [str],
        "warnings": [str], "skipped": [str], "disks": int, "finished": str,
    },
    "inputs": [list],
    "outputs": {...: int},
}  # fmt: skip
_INPUTS = ((str, int, int), (str, int, type(None)))
_COUNTS = range(1 << 63)
log = logger_of(__name__)


class FleetFolder:
    """The output folder.

    Args:
        path: Where it is.
        run: Names this run.
    """

    def __init__(self, path: Path, run: str):
        self.path = path
        self.out = OutputFolder(path)
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
        with system_errors(self.path, "used"):
            self.path.mkdir(parents=True, exist_ok=True)
            found = next((entry for entry in self.path.iterdir() if entry.name != LOCK_FILE), None)
        begun = read_json(self.out, _BEGUN_FILE, dict.fromkeys(_BEGUN, (str, bool, list, dict)))
        if begun is not None:
            self._compare(begun, wanted)
        elif found is not None:
            problem = f"the folder holds {found.name}, and no run over a fleet was begun in it"
            raise FleetError(problem, file=self.path, expected="a new or empty folder")
        else:
            begun = wanted | {"begun": datetime.now(timezone.utc).isoformat()}
            with self.out.whole(_BEGUN_FILE) as fh:
                fh.write(json.dumps(begun, indent=2).encode())
        if self.out.has_folder(".parts"):
            shutil.rmtree(self.parts.parent, ignore_errors=True)  # of a run that was broken off
        self.out.place(".parts", self.parts.name, "")

    def _compare(self, begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        for name in _BEGUN:
            if begun[name] != wanted[name]:
                there, here = json.dumps(begun[name]), json.dumps(wanted[name])
                problem = f"begun with {name} {there}, now it would be {here}"
                raise FleetError(problem, file=self.path / _BEGUN_FILE, advice="use another folder")

    def end(self) -> None:
        """Remove what is only of use in a run."""
        shutil.rmtree(self.parts.parent, ignore_errors=True)

    # Files

    def spool(self, vm: Vm) -> Path:
        """The folder for what of a VM is not whole yet; made when absent."""
        return self.out.place(".parts", self.parts.name, vm.name, "x").parent

    def output(self, kind: str, function: str, vm: Vm) -> Path:
        """A file of records: ``kind`` is one of :data:`FORMATS`."""
        return self.path / kind / function / f"{vm.name}{FORMATS[kind]}"

    def outputs(self, vm: Vm) -> list[Path]:
        """The files of records that a VM has.

        Raises:
            RecoverError: If one of them, or of their folders, is a link or the like.
        """
        found = []
        for kind, suffix in FORMATS.items():
            folders = sorted((self.path / kind).iterdir()) if self.out.has_folder(kind) else []
            paths = [folder / f"{vm.name}{suffix}" for folder in folders if self.out.has_folder(kind, folder.name)]
            found += [path for path in paths if self.out.is_there(path)]
        return found

    def publish(self, temporary: Path, *parts: str) -> None:
        """Give a file that is whole its name, in place of one that may be there.

        Raises:
            RecoverError: If its folder, or what is there, is a link or the like.
        """
        path = self.out.place(*parts)
        with system_errors(path):
            self.out.is_there(path)
            temporary.replace(path)

    # State

    def _state(self, vm: Vm) -> Path:
        return self.path / "state" / f"{vm.name}.json"

    def states(self) -> dict[str, dict[str, Any]]:
        """What is known of each VM, by its name. A state that cannot be read counts as none: its VM is done anew."""
        found = {}
        for path in sorted((self.path / "state").glob("*.json")) if self.out.has_folder("state") else ():
            try:
                found[path.stem] = read_state(self.out, path.stem)
            except SESparseError as e:
                log.warning("%s; its VM is done anew", e)
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
        if self.out.has_folder("state"):
            self.out.remove(self._state(vm))
        for path in self.outputs(vm):
            path.unlink()

    def keep(self, vm: Vm, row: Mapping[str, Any], inputs: Iterable[Iterable[Any]]) -> dict[str, Any]:
        """Keep the row of a VM; it is done with that."""
        sizes = {path.relative_to(self.path).as_posix(): path.stat().st_size for path in self.outputs(vm)}
        row = {**row, "finished": datetime.now(timezone.utc).isoformat()}
        with self.out.whole("state", self._state(vm).name) as fh:
            fh.write(json.dumps({"row": row, "inputs": list(inputs), "outputs": sizes}, indent=1).encode())
        shutil.rmtree(self.parts / vm.name, ignore_errors=True)
        return row


def name_vms(found: Iterable[tuple[str, str | None]], states: Mapping[str, Mapping[str, Any]]) -> list[Vm]:
    """Give VMs names for their files: the ones that they had in earlier runs, else new ones, each another.

    Those of one name are told apart by their folders.
    """
    known = {(state["row"]["path"], state["row"]["inside"]): name for name, state in states.items()}
    found = list(found)
    new = [vm for vm in found if vm not in known]
    places = [(path if inside is None else f"{path}/{inside}").replace("\\", "/") for path, inside in new]
    names = known | dict(zip(new, distinct_names(places, states)))
    return [Vm(names[vm], *vm) for vm in found]


def read_state(out: OutputFolder, name: str) -> dict[str, Any]:
    """What is known of the VM of a name.

    Raises:
        RecoverError: If it cannot be read, or is not what a run writes: names of files follow from it, and a table.
    """
    path = out.path / "state" / f"{name}.json"
    content = read_json(out, f"state/{name}.json", _STATE)
    if content is None:
        raise RecoverError("it is gone", file=path)
    row = content["row"]
    try:
        datetime.fromisoformat(row["finished"])
        counts = [value for key, value in row.items() if key.endswith("_records")]
        good = row["vm"] == name and all(type(count) is int and count in _COUNTS for count in [*counts, row["disks"]])
        good &= all(len(each) == 3 and tuple(map(type, each)) in _INPUTS for each in content["inputs"])
        good &= all(len(parts := Path(key).parts) == 3 and ".." not in parts for key in content["outputs"])
    except ValueError:
        good = False
    if not good:
        raise RecoverError("not what a run over a fleet writes", file=path)
    return content


def write_whole(path: Path) -> AbstractContextManager[BinaryIO]:
    """Write a file that is there as a whole or not at all."""
    return OutputFolder(path.parent).whole(path.name)
