"""VMs for the tests of fleets, what dissect tells about each, and what happens to workers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq
from dissect.target import Target
from distributed import WorkerPlugin
from flow.record.jsonpacker import JsonRecordPacker
from sesparse_builder import ChainBuilder, ExtentBuilder, grain_data, vmx
from target_fixtures import SECTORS, add_delta, small_chain

FUNCTIONS = ("chain", "findings", "journal", "map", "unmapped", "unreferenced")
BROKEN, HALF, FAR, TWO = 7, 11, 13, 17
"""The VM whose disk cannot be opened; the one of whose two disks one cannot; the one with a place that no number holds; the
one with two disks, and with a link that none of them reaches."""


def make_fleet(root: Path, count: int = 40) -> None:
    """Some VMs, each with other runs. Their files are sparse: the grains are few."""
    for number in range(count):
        make_one(root / f"vm{number:02}", number)


def make_one(folder: Path, number: int) -> Path:
    chain = small_chain(folder, folder.name, number % 3 + 1)
    extent = chain.links[-1].extent
    for grain in range(100, 104 + number):
        extent.unmap(grain, grain_data(f"old{number}", grain))
    extent.unmap(4090 + number, b"in the second table")
    extent.allocate(300, b"lost")
    extent.free(300, keep_backmap=True)
    if number == FAR:
        extent.set_entry(200, 0x1FFFFFFFFFFFFFFF)
    if number == BROKEN:
        extent.patch(0, b"overwritten")
    disks = [chain.write().name]
    if number == HALF:
        other = ChainBuilder(folder, SECTORS, name="other").add_delta()
        other.patch(0, b"overwritten")
        disks.append(
            add_delta(
                folder, "other-000001", other, folder / f"{folder.name}.vmdk", chain.links[0].cid, "0bad0bad"
            ).name
        )
    if number == TWO:
        disks.append(small_chain(folder, "second").write().name)
        add_delta(
            folder, "stray", ExtentBuilder(SECTORS), folder / f"{folder.name}.vmdk", chain.links[0].cid, "57a457a4"
        )
    path = folder / f"{folder.name}.vmx"
    path.write_bytes(vmx(disks, folder.name).encode())
    return path


def by_dissect(path: Path, name: str, functions: tuple[str, ...] = FUNCTIONS) -> dict[str, list[dict]]:
    """What ``target-query`` tells about a VM, by function, as JSON."""
    packer = JsonRecordPacker()
    sesparse = Target.open(path).sesparse
    told = {}
    for function in functions:
        rows = [json.loads(packer.pack(record)) for record in getattr(sesparse, function)()]
        told[function] = [
            {"vm": name} | {field: value for field, value in row.items() if not field.startswith("_")} for row in rows
        ]
    return told


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def records(folder: Path, name: str) -> dict[str, list[dict]]:
    """What a run told about a VM, by function."""
    return {path.parent.name: lines(path) for path in folder.glob(f"jsonl/*/{name}.jsonl")}


def states(folder: Path) -> dict[str, str]:
    return {row["vm"]: row["state"] for row in lines(folder / "vms.jsonl")}


def everything(folder: Path) -> dict[str, object]:
    """All that a run wrote, but for when: lines as they are, tables by their rows."""
    found: dict[str, object] = {}
    for path in sorted(folder.glob("jsonl/*/*")):
        found[path.relative_to(folder).as_posix()] = path.read_bytes()
    for path in sorted(folder.glob("parquet/*/*")):
        found[path.relative_to(folder).as_posix()] = pq.read_table(path).to_pylist()
    found["vms.jsonl"] = [{**row, "finished": None} for row in lines(folder / "vms.jsonl")]
    found["vms.parquet"] = [{**row, "finished": None} for row in pq.read_table(folder / "vms.parquet").to_pylist()]
    return found


def from_table(row: dict) -> dict:
    """A row of a table as its line of JSON has it."""
    plain = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
    large = plain.pop("too_large")
    return plain | (json.loads(large) if large else {})


def kill(pid: int) -> None:
    """End a process at once: it gets no chance to put anything in order."""
    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))


class Hold(WorkerPlugin):
    """Holds the worker that is the first to write records of a VM, in the middle of that, and tells its process."""

    name = "hold"

    def __init__(self, vm: str, signal_file: Path):
        self.vm = vm
        self.signal_file = str(signal_file)

    def setup(self, worker: object) -> None:
        from dissect_sesparse.fleet import work

        original, count = work.json_line, 0

        def line_of(vm: str, record: object) -> str:
            nonlocal count
            count += vm == self.vm
            if vm == self.vm and count == 3:
                with suppress(FileExistsError):
                    with open(self.signal_file + ".once", "x") as fh:  # the one that does it again is not held
                        fh.write(str(os.getpid()))
                    shutil.copy(self.signal_file + ".once", self.signal_file + ".new")
                    os.replace(self.signal_file + ".new", self.signal_file)
                    threading.Event().wait(100)  # until it is killed
            return original(vm, record)

        work.json_line = line_of


class Kill(WorkerPlugin):
    """Ends each worker that writes records of a VM, as the system does where memory runs out."""

    name = "kill"

    def __init__(self, vm: str):
        self.vm = vm

    def setup(self, worker: object) -> None:
        from dissect_sesparse.fleet import work

        original = work.json_line

        def line_of(vm: str, record: object) -> str:
            if vm == self.vm:
                kill(os.getpid())
            return original(vm, record)

        work.json_line = line_of
