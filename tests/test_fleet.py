"""Many VMs by many processes: the same records as dissect tells about each, whatever happens to a worker."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("distributed", reason="the extra fleet is not installed")
pytest.importorskip("pyarrow", reason="the extra fleet is not installed")

import make_vm
import psutil
import pyarrow.parquet as pq
from fleets import (
    BROKEN,
    FAR,
    FUNCTIONS,
    HALF,
    TWO,
    Hold,
    Kill,
    by_dissect,
    everything,
    from_table,
    kill,
    lines,
    make_fleet,
    make_one,
    records,
    states,
)
from sesparse_builder import vmx
from target_fixtures import small_chain, snapshot_of

from dissect_sesparse import cli, fleet
from dissect_sesparse.commands.words import message_of
from dissect_sesparse.fleet import cluster, collect, driver, plan, work
from dissect_sesparse.fleet.data import FleetError, Vm
from dissect_sesparse.fleet.folder import FleetFolder, name_vms, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALL = ",".join(FUNCTIONS)
NAMES = [f"vm{number:02}" for number in range(40)]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 40 VMs. Shared: never changed."""
    root = tmp_path_factory.mktemp("fleet") / "case"
    make_fleet(root)
    return root


@pytest.fixture(scope="module")
def threads() -> Iterator[str]:
    """The address of a cluster whose workers are threads of this process: quick, and seen by coverage."""
    with cluster.local_client(2, processes=False) as client:
        yield client.scheduler.address


@pytest.fixture
def run(threads: str) -> Callable[..., int]:
    """Run the command on those."""
    return lambda *arguments: cli.main(["fleet", *map(str, arguments), "--scheduler", threads])


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Three VMs that a test may change."""
    make_fleet(tmp_path / "small", 3)
    return tmp_path / "small"


@pytest.fixture(scope="module")
def whole_run(case: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All functions of all 40, by one worker process."""
    out = tmp_path_factory.mktemp("one") / "out"
    assert cli.main(["fleet", f"{case}/**/*.vmx", "-o", str(out), "--functions", ALL, "--workers", "1"]) == 1
    return out


# Records


@pytest.mark.slow
def test_records_are_those_of_dissect(case: Path, whole_run: Path) -> None:
    for name in (*NAMES[::5], NAMES[HALF], NAMES[FAR], NAMES[TWO]):
        assert records(whole_run, name) == by_dissect(case / name / f"{name}.vmx", name)
    told = records(whole_run, NAMES[20])
    assert len(told["chain"]) == 4
    assert len(told["unmapped"]) == 2
    two = records(whole_run, NAMES[TWO])
    assert {row["disk"] for row in two["chain"]} == {"vm17-000003.vmdk", "second-000001.vmdk"}
    assert [row["code"] for row in two["findings"]].count("orphan-link") == 1, "once, not once a disk"
    assert told["unreferenced"]


@pytest.mark.slow
def test_tables_are_the_lines(whole_run: Path) -> None:
    paths = sorted(whole_run.glob("jsonl/*/*.jsonl"))
    assert len(paths) == 39 * len(FUNCTIONS)
    for path in paths:
        table = pq.read_table(whole_run / "parquet" / path.parent.name / f"{path.stem}.parquet")
        assert [from_table(row) for row in table.to_pylist()] == lines(path)
        assert table.schema.names[:6] == ["vm", "hostname", "domain", "disk", "link", "depth"]
    assert pq.read_table(whole_run / "parquet" / "unmapped").num_rows == 2 * 39 + 1, "a folder is one data set"


@pytest.mark.slow
def test_a_number_that_is_too_large(whole_run: Path) -> None:
    """Parquet has no integer for it: it is not lost, and no other one is in its place."""
    (row,) = (row for row in records(whole_run, NAMES[FAR])["unmapped"] if row["source_offset"] >= 1 << 63)
    table = pq.read_table(whole_run / "parquet" / "unmapped" / f"{NAMES[FAR]}.parquet").to_pylist()
    (same,) = (cells for cells in table if cells["too_large"] is not None)
    assert same["source_offset"] is None
    assert json.loads(same["too_large"]) == {"source_offset": row["source_offset"]}


@pytest.mark.slow
def test_a_broken_vm_is_a_row(whole_run: Path) -> None:
    rows = {row["vm"]: row for row in lines(whole_run / "vms.jsonl")}
    assert sorted(rows) == NAMES
    assert rows == {row["vm"]: json.loads(json.dumps(row, default=lambda time: time.isoformat()))
                    for row in pq.read_table(whole_run / "vms.parquet").to_pylist()}  # fmt: skip
    failed = rows.pop(NAMES[BROKEN])
    assert failed["state"] == "failed"
    assert "vm07-000002-sesparse.vmdk" in failed["errors"][0]
    assert "magic" in failed["errors"][0]
    half = rows.pop(NAMES[HALF])
    assert half["state"] == "incomplete"
    assert half["disks"] == 1
    assert len(half["errors"]) == 1
    assert "other-000001-sesparse.vmdk" in half["errors"][0]
    assert {(row["state"], *row["errors"]) for row in rows.values()} == {("done",)}
    assert rows["vm20"]["unmapped_records"] == len(records(whole_run, "vm20")["unmapped"])
    assert not (whole_run / ".parts").exists()


@pytest.mark.slow
def test_killed_worker(case: Path, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two worker processes, one killed while it writes: what one process gives, and by no other means than Dask's."""
    told = tmp_path / "pid"
    monkeypatch.setattr(driver.Driver, "_hand_out", once_only(driver.Driver._hand_out))
    with cluster.local_client(2) as client:
        client.register_plugin(Hold("vm20", told))
        before = set(client.run(os.getpid).values())
        assert len(before) == 2
        assert os.getpid() not in before
        killer = threading.Thread(target=kill_when_told, args=(told,))
        killer.start()
        arguments = ["fleet", f"{case}/**/*.vmx", "-o", str(tmp_path / "out"), "--functions", ALL]
        assert cli.main([*arguments, "--scheduler", client.scheduler.address]) == 1
        killer.join()
        client.wait_for_workers(2, timeout=60)
        after = set(client.run(os.getpid).values())
    assert int(told.read_text()) in before
    assert len(before & after) == 1, "one lived on"
    assert everything(tmp_path / "out") == everything(whole_run)
    assert states(tmp_path / "out")["vm20"] == "done"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "fleet.json", "fleet.lock", "jsonl", "parquet", "state", "vms.jsonl", "vms.parquet",
    ]  # fmt: skip


def kill_when_told(told: Path) -> None:
    tick = threading.Event()
    while not told.exists():
        tick.wait(0.02)
    kill(int(told.read_text()))


def once_only(hand_out: Callable) -> Callable:
    def wrapper(self: driver.Driver, task: driver._Task) -> object:
        assert not task.alone
        return hand_out(self, task)

    return wrapper


@pytest.mark.slow
def test_a_vm_that_kills_its_workers(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It alone has failed, also where others waited on the same worker; and no worker writes to the terminal."""
    base = small / "vm00" / "vm00.vmdk"
    base.write_bytes(re.sub(rb"CID=\w{8}", b"CID=deadbeef", base.read_bytes(), count=1))
    monkeypatch.setattr(cluster, "ALLOWED_FAILURES", 0)
    with cluster.local_client(1) as client:
        client.register_plugin(Kill("vm01"))
        arguments = ["fleet", str(small / "*"), "-o", str(tmp_path / "out"), "--scheduler", client.scheduler.address]
        assert cli.main(arguments) == 1
    assert "cid-mismatch" not in capfd.readouterr().err
    assert states(tmp_path / "out") == {"vm00": "done", "vm01": "incomplete", "vm02": "done"}
    assert "cid-mismatch" in {row["code"] for row in records(tmp_path / "out", "vm00")["findings"]}
    row = lines(tmp_path / "out" / "vms.jsonl")[1]
    assert "worker process that was at it died" in row["errors"][0]
    for name in ("vm00", "vm02"):
        told = by_dissect(small / name / f"{name}.vmx", name)
        assert records(tmp_path / "out", name) == {f: told[f] for f in ("chain", "findings", "unmapped")}


@pytest.mark.slow
def test_split_disks(
    case: Path, whole_run: Path, tmp_path: Path, run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut wherever they can be, they give the same."""
    tasks: list[work.Share] = []
    original = work._tasks

    def counted(settings: object, chains: object) -> Iterator:
        for task in original(settings, chains):
            tasks.extend(task)
            yield task

    monkeypatch.setattr(work, "_tasks", counted)
    run(case / "**" / "vm1*.vmx", "-o", tmp_path / "out", "--functions", ALL, "--split-size", 1)
    found, expected = everything(tmp_path / "out"), everything(whole_run)
    assert len([name for name in found if "/vm1" in name]) == 10 * 2 * len(FUNCTIONS)
    assert {name: found[name] for name in found if "/" in name} == {
        name: expected[name] for name in expected if "/vm1" in name
    }
    parts = {function: sum(p.function == function and p.number > 0 for p in tasks) for function in FUNCTIONS}
    assert parts["unmapped"] >= 10
    assert parts["unreferenced"] >= 10
    assert parts["chain"] == parts["map"] == parts["findings"] == 0


@pytest.mark.slow
def test_what_cannot_be_read_on(small: Path, tmp_path: Path, run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was told until then stays, split or not, and the row says that it is not all."""
    from dissect_sesparse.source.errors import UnreadableError
    from dissect_sesparse.target import disk_records

    original = disk_records.records_of

    def records_of(*arguments: object, **keywords: object) -> Iterator:
        for record in original(*arguments, **keywords):
            yield record
            if arguments[2] == "unmapped" and record.offset == 100 * 4096:
                raise UnreadableError("a bad sector", file="disk")

    monkeypatch.setattr(disk_records, "records_of", records_of)
    for name, size in (("whole", 1 << 30), ("parts", 1)):
        assert run(small / "vm02", "-o", tmp_path / name, "--split-size", size) == 1
        (row,) = lines(tmp_path / name / "vms.jsonl")
        assert row["state"] == "incomplete"
        assert row["errors"] == ["vm02-000003.vmdk: not all of unmapped is told: disk: a bad sector"]
        assert len(records(tmp_path / name, "vm02")["unmapped"]) == row["unmapped_records"] == 1
    assert everything(tmp_path / "whole") == everything(tmp_path / "parts")


def test_example_vm(tmp_path: Path, run: Callable) -> None:
    """Times are times, and links of one VM that is named twice are told once."""
    path = make_vm.make_vm(tmp_path / "web01")
    functions = ("chain", "files", "findings", "unmapped")
    assert run(path, tmp_path / "web*", "-o", tmp_path / "out", "--functions", ",".join(functions)) == 0
    assert records(tmp_path / "out", "web01") == by_dissect(path, "web01", functions)
    assert len(records(tmp_path / "out", "web01")["files"]) >= len(make_vm.DELETED)
    row = pq.read_table(tmp_path / "out" / "parquet" / "chain" / "web01.parquet").to_pylist()[1]
    assert row["snapshot"] == "after patch"
    assert row["ts"] == make_vm.SNAPSHOTS[1][2]


def test_one_function_that_fails(small: Path, tmp_path: Path, run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """dissect trips over the guest's volumes: the other functions tell all the same."""
    from dissect_sesparse.target import disk_records

    def broken(target: object) -> None:
        raise RuntimeError("a hostile volume")

    monkeypatch.setattr(disk_records, "look_at_volumes", broken)
    assert run(small / "vm00", "-o", tmp_path / "out", "--functions", "files,chain") == 1
    (row,) = lines(tmp_path / "out" / "vms.jsonl")
    (error,) = row["errors"]
    assert error.startswith(
        "vm00-000001.vmdk: not all of files is told: unexpected RuntimeError: a hostile volume (in "
    )
    assert (row["state"], row["files_records"], row["chain_records"]) == ("incomplete", 0, 2)


def test_what_is_only_logged(small: Path, tmp_path: Path, run: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    """It is no record, and yet says that some of them are not whole: it is in the VM's row."""
    path = small / "vm00" / "vm00-000001-sesparse.vmdk"
    with path.open("r+b") as fh:
        fh.seek(4096 * 512)
        fh.write(b"\xff" * 8)  # a directory entry
    assert run(small / "vm00", "-o", tmp_path / "out", "--functions", "chain") == 0
    (row,) = lines(tmp_path / "out" / "vms.jsonl")
    assert len(row["warnings"]) == 1
    assert "the sizes lack 16777216 bytes whose state cannot be told" in row["warnings"][0]
    assert f"vm00: warning: {row['warnings'][0]}\n" in capsys.readouterr().out


def test_without_hashes(small: Path, tmp_path: Path, run: Callable) -> None:
    assert run(small / "vm00", "-o", tmp_path / "out", "--no-hash", "--functions", "unmapped") == 0
    row = records(tmp_path / "out", "vm00")["unmapped"][0]
    assert row["digest"] == {"md5": None, "sha1": None, "sha256": None}
    assert row["entropy"] is None


def test_options_of_the_driver_hold(
    small: Path, tmp_path: Path, run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent is gone: an error, or with the option a finding."""
    (small / "vm00" / "vm00.vmdk").unlink()
    assert run(small / "vm00", "-o", tmp_path / "error") == 1
    monkeypatch.setenv("DISSECT_SESPARSE_UNREADABLE", "zero")
    assert run(small / "vm00", "-o", tmp_path / "zero") == 0
    codes = [row["code"] for row in records(tmp_path / "zero", "vm00")["findings"]]
    assert codes == ["parent-missing", "backmap-mismatch", "filesystem-unopened"]


# A second run


@pytest.mark.slow
def test_second_run(small: Path, tmp_path: Path, run: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is done twice, and nothing old is kept of what changed."""
    out = tmp_path / "out"
    (small / "vm01" / "vm01-000002-sesparse.vmdk").rename(tmp_path / "away")
    evidence = snapshot_of(small)
    assert run(small / "*", "-o", out) == 1
    assert snapshot_of(small) == evidence
    assert states(out) == {"vm00": "done", "vm01": "failed", "vm02": "done"}
    times = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*")}
    assert times

    (tmp_path / "away").rename(small / "vm01" / "vm01-000002-sesparse.vmdk")
    make_one(small / "vm02", 5)
    assert run(small / "*", "-o", out) == 0
    assert "3 VMs: 2 done, 1 done before" in capsys.readouterr().out
    for name in ("vm00", "vm01", "vm02"):
        assert records(out, name)["unmapped"] == by_dissect(small / name / f"{name}.vmx", name)["unmapped"]
    assert {path.name for path, time in times.items() if path.stat().st_mtime_ns == time} == {
        "vm00.jsonl",
        "vm00.parquet",
    }

    (out / "parquet" / "chain" / "vm00.parquet").unlink()
    (out / "state" / "vm01.json").write_text("{", "ascii")
    assert run(small / "*", "-o", out) == 0
    assert "3 VMs: 2 done, 1 done before" in capsys.readouterr().out
    assert (out / "parquet" / "chain" / "vm00.parquet").exists()

    (small / "vm00" / "vm00.vmdk").unlink()
    assert run(small / "vm00", "-o", out) == 1
    assert states(out) == {"vm00": "failed", "vm01": "done", "vm02": "done"}, "the others keep their rows"
    assert not records(out, "vm00"), "of evidence that is not there any more"


def test_another_run_in_the_folder(
    small: Path, tmp_path: Path, run: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(small / "vm00", "-o", out) == 0
    before = snapshot_of(out)
    for changes in (["--functions", "map"], ["--no-hash"]):
        assert run(small / "vm00", "-o", out, *changes) == 1
        assert "use another folder" in capsys.readouterr().err
    (out / "fleet.json").write_text("[", "ascii")
    assert run(small / "vm00", "-o", out) == 1
    assert "fleet.json: cannot be read" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    assert run(small / "vm00", "-o", tmp_path / "other") == 1
    assert "holds notes.txt" in capsys.readouterr().err
    assert snapshot_of(out / "jsonl") == {
        name[6:]: value for name, value in before.items() if name.startswith("jsonl/")
    }


@pytest.mark.parametrize("where", ["vm00", "vm00/deeper"])
def test_nothing_is_written_into_the_evidence(
    small: Path, where: str, run: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot_of(small)
    assert run(small / "vm00", "-o", small / where / "out") == 1
    assert "holds evidence" in capsys.readouterr().err
    assert snapshot_of(small) == before


def test_nothing_is_written_beside_a_parent(folder: Path, run: Callable) -> None:
    """The folder of a parent is evidence too, which only the look at the VM tells."""
    chain = small_chain(folder)
    path = chain.write()
    (folder.parent / "base").mkdir()
    for name in ("vm.vmdk", "vm-flat.vmdk"):
        (folder / name).rename(folder.parent / "base" / name)
    (folder / "vm.vmx").write_bytes(vmx([path.name], "vm").encode())
    out = folder.parent / "base" / "out"
    assert run(folder / "vm.vmx", "-o", out) == 1
    (row,) = lines(out / "vms.jsonl")
    assert row["state"] == "failed"
    assert "holds evidence" in row["errors"][0]


def test_files_are_whole_or_not_there(
    small: Path, tmp_path: Path, run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full while a table is written: no file of the VM has its name, and the run goes on."""
    write_table = collect.write_table

    def full(path: Path, schema: object, rows: Iterator) -> None:
        if path.parent.name == "vm01" and path.name == "findings.parquet":
            with write_whole(path) as fh:
                fh.write(b"PAR1")
                raise OSError(28, "No space left on device")
        write_table(path, schema, rows)

    monkeypatch.setattr(collect, "write_table", full)
    out = tmp_path / "out"
    assert run(small / "*", "-o", out) == 1
    assert states(out) == {"vm00": "done", "vm01": "failed", "vm02": "done"}
    assert "no room left" in lines(out / "vms.jsonl")[1]["errors"][0]
    assert not records(out, "vm01")
    assert not list(out.rglob("*partial*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [".parts", "jsonl", "jsonl/chain", "state"])
def test_no_folder_of_the_output_is_a_link(
    small: Path, tmp_path: Path, run: Callable, symlink: Callable[[Path, Path], None], name: str
) -> None:
    """It could lead into the evidence: nothing is written, and nothing removed there."""
    out = tmp_path / "out"
    assert run(small / "vm00", "-o", out) == 0
    shutil.rmtree(out / name, ignore_errors=True)
    other = tmp_path / "other"
    (other / "chain").mkdir(parents=True)
    for path in (other / "vm00.jsonl", other / "vm00.json", other / "chain" / "vm00.jsonl"):
        path.write_bytes(b"evidence")
    symlink(out / name, other)
    before = snapshot_of(other)
    assert run(small / "vm00", "-o", out) == 1
    assert snapshot_of(other) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fleet.json", "state/vm00.json"])
def test_a_second_name_of_the_evidence(small: Path, tmp_path: Path, run: Callable, name: str) -> None:
    out, evidence = tmp_path / "out", tmp_path / "evidence"
    assert run(small / "vm00", "-o", out) == 0
    evidence.write_bytes((out / name).read_bytes())
    (out / name).unlink()
    os.link(evidence, out / name)
    before = snapshot_of(tmp_path)["evidence"]
    assert run(small / "vm00", "-o", out) == 1
    assert snapshot_of(tmp_path)["evidence"] == before


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"[]", b"7", b"[" * 100_000, b'{"version": NaN}', b"\xff", b"{}"])
def test_nonsense_of_an_earlier_run(
    small: Path, tmp_path: Path, run: Callable, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    out = tmp_path / "out"
    assert run(small / "vm00", "-o", out) == 0
    good = (out / "fleet.json").read_bytes()
    (out / "fleet.json").write_bytes(content)
    assert run(small / "vm00", "-o", out) == 1
    assert "fleet.json: cannot be read" in capsys.readouterr().err
    (out / "fleet.json").write_bytes(good)
    (out / "state" / "vm00.json").write_bytes(content)
    assert run(small / "vm00", "-o", out) == 0, "it is done anew"
    assert states(out) == {"vm00": "done"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vm", "../../vm00"),
        ("errors", [7]),
        ("disks", 1 << 70),
        ("chain_records", "x"),
        ("finished", "never"),
        ("path", None),
    ],
)
def test_a_state_of_wrong_values(small: Path, tmp_path: Path, run: Callable, key: str, value: object) -> None:
    """None of them becomes the name of a file, or a row of the table."""
    out = tmp_path / "out"
    assert run(small / "vm00", "-o", out) == 0
    path = out / "state" / "vm00.json"
    content = json.loads(path.read_text())
    content["row"][key] = value
    path.write_text(json.dumps(content))
    assert run(small / "vm00", "-o", out) == 0
    assert states(out) == {"vm00": "done"}
    assert {entry.name for entry in tmp_path.iterdir()} == {"small", "out"}


def test_evidence_that_changes_meanwhile(
    small: Path, tmp_path: Path, run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small / "vm00" / "vm00-000001.vmdk"
    before, after = work._names, work._write

    def names(target: object) -> tuple[None, None]:
        os.utime(path, (1, 1))
        return before(target)

    def write(*arguments: object) -> object:
        os.utime(path, (2, 2))
        return after(*arguments)

    monkeypatch.setattr(work, "_names", names)
    assert run(small / "vm00", "-o", tmp_path / "before") == 1
    assert "its files changed since" in lines(tmp_path / "before" / "vms.jsonl")[0]["errors"][0]
    monkeypatch.setattr(work, "_names", before)
    monkeypatch.setattr(work, "_write", write)
    assert run(small / "vm00", "-o", tmp_path / "meanwhile") == 1
    row = lines(tmp_path / "meanwhile" / "vms.jsonl")[0]
    assert row["state"] == "incomplete"
    assert "changed while it was read" in row["errors"][0]
    assert records(tmp_path / "meanwhile", "vm00") == {"chain": [], "findings": [], "unmapped": []}


# Workers


@pytest.mark.slow
def test_loopback_only(tmp_path: Path) -> None:
    """No port of the local cluster is open to the network, nor its dashboard's; that is served where asked."""
    before = listening()
    with cluster.local_client(1, dashboard=True) as client:
        with urllib.request.urlopen(client.dashboard_link, timeout=20) as page:
            assert b"Dask" in page.read()
        after = listening()
    new = after - before
    assert len(new) >= 3
    assert {address for address, _ in new} == {"127.0.0.1"}


def listening() -> set[tuple[str, int]]:
    """Where this process and those it started listen."""
    own = psutil.Process()
    found = [
        connection for process in (own, *own.children(recursive=True)) for connection in process.net_connections("tcp")
    ]
    return {tuple(connection.laddr) for connection in found if connection.status == psutil.CONN_LISTEN}


def test_no_dashboard_unless_asked(
    threads: str, small: Path, tmp_path: Path, run: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(small / "vm00", "-o", tmp_path / "a") == 0
    out, err = capsys.readouterr()
    assert err == "", "no terminal, no bar"
    assert out == f"{tmp_path / 'a'}: 1 VMs: 1 done\n"
    assert run(small / "vm00", "-o", tmp_path / "b", "--dashboard") == 0
    assert capsys.readouterr().err.startswith("dissect-sesparse fleet: dashboard: http://")


def test_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with driver.fleet_progress(2) as tell:
        tell({"vm": "web01"}, False)
        tell({"vm": "web02"}, True)
    assert "2/2" in capsys.readouterr().err
    monkeypatch.setattr(driver, "tqdm", None)
    with driver.fleet_progress(2) as tell:
        tell({"vm": "web01"}, False)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_no_scheduler(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_WAIT", 1)
    arguments = ["fleet", str(small / "vm00"), "-o", str(tmp_path / "out"), "--scheduler"]
    assert cli.main([*arguments, "tcp://127.0.0.1:9"]) == 1
    assert "no scheduler answers" in capsys.readouterr().err
    with cluster.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as empty:
        assert cli.main([*arguments, empty.scheduler_address]) == 1
    assert "it has no workers" in capsys.readouterr().err


def test_another_version_on_a_worker(
    small: Path, tmp_path: Path, run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "__version__", "0.0.1")
    assert run(small / "vm00", "-o", tmp_path / "out") == 1
    assert "this worker has version 0.0.1" in lines(tmp_path / "out" / "vms.jsonl")[0]["errors"][0]


def test_another_folder_on_a_worker(
    small: Path, tmp_path: Path, run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that is another place on that machine: nothing is written there."""
    original = work.FleetFolder.of

    def of(settings: object) -> FleetFolder:
        return original(SimpleNamespace(folder=str(tmp_path), run="another"))

    monkeypatch.setattr(work.FleetFolder, "of", of)
    assert run(small / "vm00", "-o", tmp_path / "out") == 1
    assert "does not see the folder" in lines(tmp_path / "out" / "vms.jsonl")[0]["errors"][0]


@pytest.mark.slow
def test_interrupted(
    small: Path, tmp_path: Path, run: Callable, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The VMs that are done stay so."""
    told = []

    def interrupt(self: driver.Driver, future: object) -> object:
        yield from original(self, future)
        if list((tmp_path / "out" / "state").glob("*")) and not told:
            told.append(True)
            raise KeyboardInterrupt

    original = driver.Driver._next
    monkeypatch.setattr(driver.Driver, "_next", interrupt)
    assert run(small / "*", "-o", tmp_path / "out") == 1
    assert "goes on" in capsys.readouterr().err
    assert run(small / "*", "-o", tmp_path / "out") == 0
    assert "done before" in capsys.readouterr().out
    assert set(states(tmp_path / "out").values()) == {"done"}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups on this system")
def test_interrupted_at_the_keyboard(case: Path, tmp_path: Path) -> None:
    """Ctrl-C goes to the workers too: one line, from the command alone."""
    command = Path(sys.executable).parent / "dissect-sesparse"
    arguments = ["fleet", f"{case}/*/*.vmx", "-o", str(tmp_path / "out"), "--functions", ALL, "--workers", "2"]
    with subprocess.Popen(
        [str(command), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as run:
        while not list((tmp_path / "out" / "state").glob("*.json")):
            assert run.poll() is None, run.stderr.read()
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGINT)
        out, err = run.communicate(timeout=100)
    assert (run.returncode, out) == (1, b"")
    assert err.decode().splitlines() == [
        "dissect-sesparse fleet: interrupted: the same command goes on with the VMs that are not done"
    ]


# Which VMs


def find(*patterns: object) -> list[str]:
    return [Path(path).name if inside is None else inside for path, inside in plan.find_vms(map(str, patterns))]


def test_patterns(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vms = [f"{name}.vmx" for name in NAMES]
    assert find(case / "**" / "*.vmx") == vms
    assert find(case / "*") == find(case / "**") == [*vms[:TWO], "stray.vmdk", *vms[TWO:]], "a disk that no VM has, too"
    assert find(case / "vm0[12]", case / "vm01" / "vm01.vmx") == ["vm01.vmx", "vm02.vmx"]
    assert find(case / "vm3?" / "*.vmdk") == [f"vm{n}-{n % 3 + 1:06}.vmdk" for n in range(30, 40)]
    monkeypatch.chdir(case / "vm05")
    assert find("*.vmx") == find(".") == find("../vm05") == ["vm05.vmx"]


def test_disks_without_a_vm(case: Path, tmp_path: Path) -> None:
    """The newest of each chain, once, by its descriptor; older ones only where they are named."""
    folder = tmp_path / "loose"
    chain = small_chain(folder, "a", 3)
    newest = chain.write()
    assert find(folder) == find(folder / "*") == find(folder / "*-sesparse.vmdk") == [newest.name]
    assert find(folder / "a-000001.vmdk") == ["a-000001.vmdk"]
    assert find(folder / "*2.vmdk") == ["a-000002.vmdk"], "nothing newer was asked for"
    assert find(folder / "a-000001*", folder / "a-000002.vmdk") == ["a-000002.vmdk"]
    (folder / "alone.vmx").write_bytes(vmx(["a-000002.vmdk"], "alone").encode())
    assert find(folder) == ["a-000003.vmdk", "alone.vmx"], "no VM has the newest one"
    (folder / "a-000003-sesparse.vmdk").rename(tmp_path / "orphan-sesparse.vmdk")
    assert find(tmp_path / "*.vmdk") == ["orphan-sesparse.vmdk"]


@pytest.mark.slow
def test_archives(small: Path, tmp_path: Path, run: Callable) -> None:
    """Each VM of a tar is one, and told about as it is outside."""
    import tarfile

    archive = tmp_path / "case.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(small / "vm00", "vm00")
        tar.add(small / "vm01", "vm01")
    (tmp_path / "broken.zip").write_bytes(b"no zip")
    assert [Path(name).name for name in find(archive)] == ["vm00.vmx", "vm01.vmx"]
    out = tmp_path / "out" / "out"
    out.parent.mkdir()
    moved = tmp_path / "archives"
    moved.mkdir()
    archive.rename(moved / "case.tar")
    (tmp_path / "broken.zip").rename(moved / "broken.zip")
    assert run(moved / "*", "-o", out) == 1
    assert states(out) == {"broken": "failed", "vm00": "done", "vm01": "done"}
    for name in ("vm00", "vm01"):
        inside = records(out, name)["unmapped"]
        outside = by_dissect(small / name / f"{name}.vmx", name)["unmapped"]
        assert [{**row, "source": None} for row in inside] == [{**row, "source": None} for row in outside]
        assert inside


def test_vms_that_cannot_be_taken_for_whole(
    small: Path, tmp_path: Path, run: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that dissect leaves out, a VM without disks, one without seSparse, a file that is none."""
    (small / "vm00" / "vm00-000001.vmdk").write_bytes(b"# Disk DescriptorFile\nnonsense")
    (small / "vm01" / "vm01.vmx").write_bytes(vmx([], "vm01").encode())
    (small / "vm02" / "vm02.vmx").write_bytes(vmx(["vm02.vmdk"], "vm02").encode())
    (small / "no.bin").write_bytes(b"nothing")
    assert run(small / "*" / "*.vmx", small / "no.bin", "-o", tmp_path / "out") == 1
    rows = {row["vm"]: row for row in lines(tmp_path / "out" / "vms.jsonl")}
    assert {name: row["state"] for name, row in rows.items()} == {
        "no": "skipped", "vm00": "failed", "vm01": "failed", "vm02": "skipped",
    }  # fmt: skip
    assert "0 of 1 disks can be opened, the .vmx has scsi0:0 vm00-000001.vmdk" in rows["vm00"]["errors"][0]
    assert rows["vm01"]["errors"]
    assert "no seSparse extent in its chain" in rows["vm02"]["skipped"][0]
    assert "4 VMs: 2 failed, 2 without a seSparse disk" in capsys.readouterr().out


def test_names_stay(tmp_path: Path) -> None:
    """VMs of one name get different files, and keep them whatever is asked for later; hostile names are safe."""
    found = [("/a/web.vmx", None), ("/b/WEB.vmx", None), ("/c/x.tar", "/vm/web.vmx"), ("/d/con.vmx", None)]
    names = [vm.name for vm in name_vms(found, {})]
    assert names == ["a-web", "b-WEB", "vm-web", "_con"], "told apart by their folders"
    states = {vm.name: {"row": {"path": vm.path, "inside": vm.inside}} for vm in name_vms(found, {})}
    assert name_vms([found[2], ("/e/web.vmx", None)], states) == [Vm("vm-web", *found[2]), Vm("web", "/e/web.vmx")]
    again = [*found, ("/x/a/web.vmx", None)]
    assert [vm.name for vm in name_vms(again, states)] == [*states, "web"]


def test_vms_that_are_gone(small: Path, tmp_path: Path, run: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    """Their rows say so; those that this run did not name say that."""
    out = tmp_path / "out"
    assert run(small / "*" / "*.vmx", "-o", out, "--functions", "chain") == 0
    shutil.rmtree(small / "vm01")
    capsys.readouterr()
    assert run(small / "vm00" / "*.vmx", "-o", out, "--functions", "chain") == 0
    told = capsys.readouterr().out
    assert "vm01: gone: " in told
    assert "vm02" not in told
    rows = {row["vm"]: row for row in lines(out / "vms.jsonl")}
    assert {name: (row["state"], row["in_last_run"]) for name, row in rows.items()} == {
        "vm00": ("done", True), "vm01": ("gone", False), "vm02": ("done", False),
    }  # fmt: skip
    assert "not there any more" in rows["vm01"]["errors"][-1]
    assert [row["state"] for row in pq.read_table(out / "vms.parquet").to_pylist()] == ["done", "gone", "done"]


HOLD = """
import pathlib, sys
from dissect_sesparse.fleet.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_runs_in_one_folder(small: Path, tmp_path: Path, run: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    """The second is refused and touches nothing; a run that was killed leaves no lock behind."""
    out = tmp_path / "out"
    assert run(small / "*" / "*.vmx", "-o", out, "--functions", "chain") == 0
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        (out / ".parts" / "theirs").mkdir(parents=True)
        capsys.readouterr()
        assert run(small / "*" / "*.vmx", "-o", out, "--functions", "chain") == 1
        assert "another run is in this folder" in capsys.readouterr().err
        assert (out / ".parts" / "theirs").is_dir()
        other.kill()
        other.wait()
    assert run(small / "*" / "*.vmx", "-o", out, "--functions", "chain") == 0


@pytest.mark.skipif(not hasattr(os, "link"), reason="no hard links on this system")
def test_a_lock_that_was_planted(small: Path, tmp_path: Path, run: Callable) -> None:
    out = tmp_path / "out"
    for plant in (os.link, os.symlink):
        out.mkdir()
        plant(small / "vm00" / "vm00.vmx", out / "fleet.lock")
        before = (small / "vm00" / "vm00.vmx").stat()
        assert run(small / "vm01" / "*.vmx", "-o", out) == 1
        after = (small / "vm00" / "vm00.vmx").stat()
        assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        shutil.rmtree(out)


def test_names_of_the_guest() -> None:
    """Hostname and domain where dissect tells them, and none where it trips."""
    none = SimpleNamespace(entries=[])
    guest = SimpleNamespace(volumes=none, apply=lambda: None, hostname="web01", domain="example")
    assert work._names(guest) == ("web01", "example")

    class Broken:
        volumes = none

        def apply(self) -> None:
            return None

        def __getattr__(self, name: str) -> None:
            raise RuntimeError("a hostile file system")

    assert work._names(Broken()) == (None, None)
    assert work._names(SimpleNamespace(volumes=none, apply=lambda: 1 // 0, hostname="web01")) == (None, None)


def test_text_that_is_none() -> None:
    """A file name of Linux need not be text: what is written can be read by any program."""
    from dissect_sesparse.target.records import FindingRecord

    row = json.loads(work.json_line("vm", FindingRecord(message="caf\udce9 \U0001f600", source="/x/\udcff")))
    assert row["message"] == "caf\\udce9 \U0001f600"
    assert row["source"] == "/x/\\udcff"
    assert work._text(["\udce9", {"a": "\udce9"}, 1]) == ["\\udce9", {"a": "\\udce9"}, 1]


def test_errors_that_are_told() -> None:
    inner = ValueError("inner")
    outer = RuntimeError("outer")
    outer.__cause__ = inner
    assert message_of(outer) == "unexpected ValueError: inner"
    assert message_of(OSError("gone")) == "gone"
    assert message_of(MemoryError()) == "unexpected MemoryError: MemoryError"


# The command


@pytest.mark.parametrize(
    "arguments",
    [["x"], ["-o", "y"], ["x", "-o", "y", "--functions", "chain,nothing"], ["x", "-o", "y", "--functions", ","],
     ["x", "-o", "y", "--workers", "0"], ["x", "-o", "y", "--workers", "2", "--scheduler", "tcp://a:1"],
     ["x", "-o", "y", "--split-size", "0"]],
)  # fmt: skip
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["fleet", *arguments])
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("*.none", "nothing matches"), ("missing.vmx", "nothing matches"), ("*.txt", "1 files match, none of them a .vmx"),
     ("sesparse://vm.vmx", "DISSECT_SESPARSE_UNREADABLE")],
)  # fmt: skip
def test_patterns_that_name_nothing(
    pattern: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["fleet", pattern, "-o", "out"]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["distributed", "pyarrow", "bokeh"])
def test_without_the_extra(missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what to install."""
    monkeypatch.setattr(fleet, "find_spec", lambda name: None if name == missing else object())
    assert cli.main(["fleet", "*.vmx", "-o", "out", "--dashboard"]) == 1
    assert f'{missing} not installed (pip install "dissect-sesparse[fleet]")' in capsys.readouterr().err
    if missing == "bokeh":
        fleet.need()  # only the dashboard needs it
    else:
        with pytest.raises(FleetError):
            fleet.need()
