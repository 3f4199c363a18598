"""``dissect-sesparse export``: images, held against QEMU, against children, and against the oracle."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import disks
import oracle
import pytest
import target_fixtures
from disks import flat, random_chain, sparse, write_chain
from dissect.target import Target
from history import random_history
from sesparse_builder import ChainBuilder, ExtentBuilder, descriptor, grain_data, vmsd, write_flat
from target_fixtures import SECTORS, SIZE, example_vm, python, small_chain, snapshot_of  # noqa: F401
from test_children import entry, machine, reverted

from dissect_sesparse import cli, open_chain
from dissect_sesparse.recovery import export as exporting
from dissect_sesparse.recovery import sparse_file
from dissect_sesparse.recovery.export import ExportOptions, WantedDisk, export
from dissect_sesparse.recovery.export_image import DIGESTS, WantedImage
from dissect_sesparse.recovery.sparse_file import RecoverError
from dissect_sesparse.source.file import EvidenceFile
from dissect_sesparse.time.changes import DiskState
from dissect_sesparse.trimmed import ranges

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET = ExportOptions(hashes=False)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["export", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def exported(path: Path, out: Path, options: ExportOptions = QUIET, **more: Any) -> exporting.Export:
    with open_chain(path, unreadable="zero") as chain:
        return export([WantedDisk(chain.name, (WantedImage(DiskState(chain, 0)),))], out, options, **more)


def lines_of(out: Path, kind: str = "image") -> list[dict]:
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def ranges_of(path: Path) -> list[tuple[int, int, str]]:
    rows = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
    return [(int(position, 16), int(size, 16), status) for position, size, status in rows[1:]]


def by_qemu(qemu_img: str, path: Path, kind: str = "vmdk") -> bytes:
    raw = path.parent.parent / "qemu.raw"
    subprocess.run([qemu_img, "convert", "-f", kind, "-O", "raw", path, raw], check=True)
    return raw.read_bytes()


def room(path: Path) -> int:
    return path.stat().st_blocks * 512 if hasattr(os.stat_result, "st_blocks") else 0


# Raw images


@pytest.mark.slow
def test_as_qemu_converts(example_vm: Path, tmp_path: Path, qemu_img: str, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    """The same bytes, no more room than that takes, digests of all, and the evidence is as it was."""
    before, out = snapshot_of(example_vm.parent), tmp_path / "out"
    code, said, err = run(capsys, example_vm, "-o", out)
    assert code == 0, err
    assert snapshot_of(example_vm.parent) == before
    image, theirs = out / "web01-000002.raw", tmp_path / "theirs.raw"
    subprocess.run([qemu_img, "convert", "-O", "raw", example_vm.parent / target_fixtures.NEWEST, theirs], check=True)
    disks.same(image.read_bytes(), theirs.read_bytes())
    assert room(image) <= room(theirs) + 65536
    (line,) = lines_of(out)
    data = image.read_bytes()
    assert line["digest"] == line["content"] == {name: hashlib.new(name, data).hexdigest() for name in DIGESTS}
    assert line["digest"]["sha256"] in said
    inputs = lines_of(out, "input")
    assert {Path(file["path"]).name for file in inputs} >= {"web01.vmx", "web01.vmsd", "web01-flat.vmdk"}
    for file in inputs:
        data = Path(file["path"]).read_bytes()
        assert [file[name] for name in DIGESTS] == [hashlib.new(name, data).hexdigest() for name in DIGESTS]
    assert ranges_of(out / "web01-000002.map") == [(0, len(theirs.read_bytes()), "+")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_random_chains(folder: Path, tmp_path: Path, qemu_img: str, seed: int) -> None:
    """All states, several links, pieces of all lengths: as the oracle, and as QEMU where it reads them."""
    rng = random.Random(100 + seed)
    links = random_chain(folder, rng, 1 + seed, SECTORS - seed * 8)
    path = write_chain(folder, links)
    exported(path, tmp_path / "out")
    data = (tmp_path / "out" / "link0.raw").read_bytes()
    disks.same(data, disks.joined(oracle.disk(list(links))))
    disks.same(data, by_qemu(qemu_img, path))


def test_ends_within_a_grain(folder: Path, tmp_path: Path) -> None:
    links: list = [[sparse(folder / "a-sesparse.vmdk", ExtentBuilder(8003))], [flat(folder / "b-flat.vmdk", 8003)]]
    exported(write_chain(folder, links), tmp_path / "out")
    disks.same((tmp_path / "out" / "link0.raw").read_bytes(), disks.joined(oracle.disk(list(links))))


def test_residual_view(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the option, and by the URI, over which the option wins."""
    path = random_history(folder, random.Random(7), 2, cuts=False).path
    with open_chain(path, view="residual") as chain:
        old = chain.read(0, chain.size)
    with open_chain(path) as chain:
        now = chain.read(0, chain.size)
    assert old != now
    uri = f"sesparse://{path.as_posix()}?view=residual"
    for number, (target, more, wanted) in enumerate(
        ((path, (), now), (path, ("--view", "residual"), old), (uri, (), old), (uri, ("--view", "guest"), now))
    ):
        out = tmp_path / f"out{number}"
        assert run(capsys, target, "-o", out, "--no-hash", *more)[0] == 0
        disks.same((out / "vm-000002.raw").read_bytes(), wanted)
        assert lines_of(out)[0]["view"] == ("residual" if wanted is old else "guest")


@pytest.mark.slow
def test_holes_are_never_read(folder: Path, tmp_path: Path) -> None:
    """256 GiB with one grain, over a base that is a hole: it would take long to read or to hash that."""
    chain = ChainBuilder(folder, 1 << 29)
    chain.add_delta().allocate((1 << 26) - 1, grain_data("last", 3))
    chain.write()
    result = exported(folder / "vm-000001.vmdk", tmp_path / "out", ExportOptions())
    image = tmp_path / "out" / "vm-000001.raw"
    assert image.stat().st_size == 1 << 38
    with image.open("rb") as fh:
        fh.seek((1 << 38) - 4096)
        assert fh.read() == grain_data("last", 3)
    assert room(image) < 1 << 20
    (line,) = result.lines
    assert line["digest"] is line["content"] is None
    assert len(line["sha256_blocks"]) == 64
    assert exported(folder / "vm-000001.vmdk", tmp_path / "out", ExportOptions()).written == 0


def test_holes_of_the_evidence_are_asked_for_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some systems go through a whole file to say where its next hole is: not for each of many runs."""
    chain = ChainBuilder(folder, SECTORS, {0: b"base" * 4096})
    extent = chain.add_delta()
    for start in range(0, SECTORS // 8, 40):
        for grain in range(start, start + 20):
            extent.allocate(grain, grain_data("x", grain))
    calls = []
    for name in ("next_data", "next_hole"):
        known = getattr(EvidenceFile, name)
        monkeypatch.setattr(EvidenceFile, name, lambda file, at, known=known: calls.append(at) or known(file, at))
    path = chain.write()
    exported(path, tmp_path / "out")
    assert 0 < len(calls) < 30
    with open_chain(path) as disk:
        disks.same((tmp_path / "out" / "vm-000001.raw").read_bytes(), disk.read(0, disk.size))


def test_zeros_that_are_allocated_are_holes(folder: Path, tmp_path: Path) -> None:
    chain = ChainBuilder(folder, SECTORS)
    extent = chain.add_delta()
    for grain in range(1000):
        extent.allocate(grain, bytes(4096) if grain % 100 else grain_data("x", grain))
    exported(chain.write(), tmp_path / "out")
    assert room(tmp_path / "out" / "vm-000001.raw") <= 20 * 4096


def test_no_hash(example_vm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    assert run(capsys, example_vm, "-o", tmp_path / "out", "--no-hash")[0] == 0
    assert all(line["digest"] is None for line in lines_of(tmp_path / "out"))
    assert all(line["sha256"] is None for line in lines_of(tmp_path / "out", "input"))


# What cannot be had


def test_unreadable_ranges(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Zeros in the image, listed in the map, counted, and the command ends with 1; the rest is there."""
    chain = small_chain(folder)
    extent = chain.links[-1].extent
    for grain in (2, 3, 700):
        extent.set_entry(grain, target_fixtures.UNKNOWN_STATE)
    path, out = chain.write(), tmp_path / "out"
    code, said, err = run(capsys, path, "-o", out)
    assert code == 1, err
    assert "INCOMPLETE: 12288 bytes" in said
    lost = [(2 * 4096, 8192), (700 * 4096, 4096)]
    assert [(at, size) for at, size, status in ranges_of(out / "vm-000001.map") if status == "-"] == lost
    with open_chain(path, unreadable="zero") as disk:
        disks.same((out / "vm-000001.raw").read_bytes(), disk.read(0, disk.size))
    assert lines_of(out)[0]["unreadable"] == 12288
    assert run(capsys, path, "-o", out)[0] == 1, "verified is not complete"


def test_base_that_is_cut_off(folder: Path, tmp_path: Path) -> None:
    """What is behind the end of a file is no hole of it; the part that is there is there."""
    path = small_chain(folder).write()
    os.truncate(folder / "vm-flat.vmdk", 5 * 4096 + 512)
    line = exported(path, tmp_path / "out").lines[0]
    bad = [(at, size) for at, size, status in ranges_of(tmp_path / "out" / "vm-000001.map") if status == "-"]
    assert bad == [(5 * 4096 + 512, 4 * 4096 + 4096 - 512), (11 * 4096, SIZE - 11 * 4096)]
    assert line["unreadable"] == sum(size for _, size in bad)
    with open_chain(path, unreadable="zero") as disk:
        disks.same((tmp_path / "out" / "vm-000001.raw").read_bytes(), disk.read(0, disk.size))


def test_parent_that_is_missing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = small_chain(folder).write(), tmp_path / "out"
    (folder / "vm.vmdk").unlink()
    assert run(capsys, path, "-o", out)[0] == 1
    assert not out.exists()
    assert run(capsys, f"sesparse://{path}?unreadable=zero", "-o", out)[0] == 1
    assert [row for row in ranges_of(out / "vm-000001.map") if row[2] == "+"] == [(40960, 4096, "+")]


# States


def digests_of_children(path: Path) -> dict[str, list[str]]:
    found = {}
    target = Target.open(path)
    for listed in target.list_children():
        record = listed[1] if isinstance(listed, tuple) else listed
        child = target.open_child(record.path)
        found[json.loads(target.fs.path(record.path).read_text("utf-8"))["name"]] = [digest(d) for d in child.disks]
    return found


def digest(disk: Any) -> str:
    disk.seek(0)
    return hashlib.sha256(disk.read(disk.size)).hexdigest()


@pytest.mark.slow
def test_one_state(example_vm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    wanted = digests_of_children(example_vm)
    for name in wanted:
        out = tmp_path / name
        assert run(capsys, example_vm, "-o", out, "--state", name)[0] == 0
        (line,) = lines_of(out)
        assert (line["states"], line["running"]) == ([name], False)
        assert line["file"] == f"web01-000002@{name.replace(' ', '_')}.raw"
        image = (out / line["file"]).read_bytes()
        assert [hashlib.sha256(image).hexdigest()] == wanted[name] == [line["digest"]["sha256"]]
    code, _, err = run(capsys, example_vm, "-o", tmp_path / "none", "--state", "nosuch")
    assert code == 1
    assert "'before patch', 'after patch'" in err
    assert not (tmp_path / "none").exists()


def test_all_states(example_vm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    assert run(capsys, example_vm, "-o", tmp_path / "out", "--all-states")[0] == 0
    lines = lines_of(tmp_path / "out")
    wanted = digests_of_children(example_vm)
    found = {line["states"][0]: [line["digest"]["sha256"]] for line in lines if line["states"]}
    assert found == wanted
    assert [line["running"] for line in lines] == [False, False, True]
    assert lines[2]["digest"]["sha256"] == digest(Target.open(example_vm).disks[0])


@pytest.mark.slow
def test_state_by_uri(example_vm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    assert run(capsys, f"sesparse://{example_vm}?state=before patch", "-o", tmp_path / "out")[0] == 0
    (line,) = lines_of(tmp_path / "out")
    assert [line["digest"]["sha256"]] == digests_of_children(example_vm)["before patch"]


def test_all_disks_also_of_other_types(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A flat disk beside a seSparse one is a disk of the machine; of each state too."""
    small_chain(folder, "a", deltas=1).write()
    write_flat(folder / "b-flat.vmdk", SIZE, {8: b"flat"})
    text = descriptor([(SECTORS, "VMFS", "b-flat.vmdk")], cid="0000b000", create_type="vmfs")
    (folder / "b.vmdk").write_text(text)
    path = machine(folder, ["a-000001.vmdk", "b.vmdk"], [entry(1, ["a.vmdk", "b.vmdk"])])
    code, _, err = run(capsys, path, "-o", tmp_path / "out", "--all-states")
    assert code == 0, err
    lines = {line["file"]: line for line in lines_of(tmp_path / "out")}
    assert set(lines) == {"a-000001@s1.raw", "a-000001.raw", "b.raw"}
    assert (lines["b.raw"]["states"], lines["b.raw"]["running"]) == (["s1"], True)
    assert "it may have been written since" in lines["b.raw"]["notes"][0]
    assert (tmp_path / "out" / "b.raw").read_bytes() == (folder / "b-flat.vmdk").read_bytes()


def test_two_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in ("a", "b"):
        folder = tmp_path / "vms" / place
        folder.mkdir(parents=True)
        machine(folder, [small_chain(folder, deltas=2).write().name], [entry(1, ["vm.vmdk"], f"only {place}")])
    out = tmp_path / "out"
    assert run(capsys, tmp_path / "vms", "-o", out, "--no-hash", "--all-states")[0] == 0
    assert sorted(path.name for path in out.iterdir()) == ["a-vm", "b-vm"]
    assert (out / "b-vm" / "vm-000002@only_b.raw").exists()
    code, _, err = run(capsys, tmp_path / "vms", "-o", tmp_path / "one", "--no-hash", "--state", "only a")
    assert code == 1, "the other machine has no such state"
    assert "no such state" in err
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["a-vm"]


def test_hostile_names_of_states(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names that lead elsewhere, that a terminal obeys, that are alike to a file system, or that end as what is not whole."""
    names = ["../../etc/passwd", "\u202ex", "A", "a", "x.partial", "con", "-rf", "日本 #?", "n" * 300]
    chain = small_chain(folder, deltas=len(names))
    snapshots = [entry(1 + n, [link.descriptor_name], name) for n, (link, name) in enumerate(zip(chain.links, names))]
    path = machine(folder, [chain.write().name], text=vmsd(snapshots).encode())
    out = tmp_path / "out"
    code, said, err = run(capsys, path, "-o", out, "--all-states", "--no-hash")
    assert code == 0, err
    assert "\u202e" not in said + err
    lines = lines_of(out)
    assert len({line["file"].casefold() for line in lines}) == len(names) + 1
    for number, line in enumerate(lines):
        with open_chain(folder / chain.links[number].descriptor_name) as disk:
            disks.same((out / line["file"]).read_bytes(), disk.read(0, disk.size))
    assert {path.name for path in out.iterdir()} == {
        "manifest.jsonl", "export.json", *(line["file"] for line in lines), *(line["map"] for line in lines),
    }  # fmt: skip


def test_what_is_left_out_is_said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A snapshot whose file is gone, and one of which a disk is."""
    names = [small_chain(folder, name, deltas=2).write().name for name in ("a", "b")]
    snapshots = [entry(1, ["a.vmdk", "gone.vmdk"]), entry(2, ["lost.vmdk"])]
    path = machine(folder, names, snapshots)
    code, _, err = run(capsys, path, "-o", tmp_path / "out", "--all-states", "--no-hash")
    assert code == 1
    for name in ("gone.vmdk", "lost.vmdk"):
        assert name in err
        assert any(name in line["reason"] for line in lines_of(tmp_path / "out", "left-out"))


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_one_image_costs_no_other(
    folder: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A state of which more cannot be had than a map could list is left out; all else is there, and it ends with 1."""
    chain = small_chain(folder, "a", deltas=2)
    for grain in range(100, 140, 2):
        chain.links[1].extent.set_entry(grain, target_fixtures.UNKNOWN_STATE)
    for grain in range(100, 140):
        chain.links[2].extent.zero(grain)
    vm = machine(folder, [chain.write().name, small_chain(folder, "b").write().name])
    monkeypatch.setattr(ranges, "MAX_RANGES", 10)
    out = tmp_path / "out"
    code, _, err = run(capsys, vm, "-o", out, "--all-states", "--no-hash", "--format", kind)
    assert code == 1
    assert "too many for a map" in err
    assert [line["file"] for line in lines_of(out, "left-out")] == [f"a-000002@a-000001.{kind}"]
    names = {line["file"]: line["backing"] for line in lines_of(out)}
    assert set(names) == {f"{name}.{kind}" for name in ("a-000002@a", "a-000002", "b-000001@a-000001", "b-000001")}
    assert not list(out.glob("a-000002@a-000001.raw"))
    if kind == "qcow2":
        assert names["a-000002.qcow2"] is None, "complete, since what it would be based on is not there"


# QCOW2


def check_qcow2(qemu_img: str, out: Path, raws: Path) -> list[dict]:
    """QEMU finds nothing wrong with any image, and the same bytes in it as our raw image has."""
    lines = lines_of(out)
    for line in lines:
        image = out / line["file"]
        subprocess.run([qemu_img, "check", "-f", "qcow2", image], check=True, capture_output=True)
        raw = raws / image.with_suffix(".raw").name
        done = subprocess.run([qemu_img, "compare", "-f", "raw", "-F", "qcow2", raw, image], capture_output=True)
        assert done.returncode == 0, (image.name, done.stdout)
    return lines


def both(capsys: pytest.CaptureFixture[str], path: Path, out: Path, *more: str) -> None:
    assert run(capsys, path, "-o", out / "raw", *more)[0] == 0
    assert run(capsys, path, "-o", out / "qcow2", "--format", "qcow2", *more)[0] == 0


@pytest.mark.slow
def test_backing_chain(example_vm: Path, tmp_path: Path, qemu_img: str, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    """One file a snapshot, each newer one with no more than what its link changed."""
    both(capsys, example_vm, tmp_path, "--all-states")
    first, second, third = lines = check_qcow2(qemu_img, tmp_path / "qcow2", tmp_path / "raw")
    assert [line["backing"] for line in lines] == [None, first["file"], second["file"]]
    with open_chain(example_vm.parent / target_fixtures.NEWEST) as chain:
        wanted = {run.start // 65536 for link in chain.links[:1] for placed in link.extents
                  for run in placed.extent.runs() if run.state.name == "ALLOCATED"}  # fmt: skip
    assert (tmp_path / "qcow2" / third["file"]).stat().st_size <= (len(wanted) + 6) * 65536
    for line, raw in zip(lines, lines_of(tmp_path / "raw")):
        assert line["content"] == raw["digest"]
        data = (tmp_path / "qcow2" / line["file"]).read_bytes()
        assert line["digest"] == {name: hashlib.new(name, data).hexdigest() for name in DIGESTS}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_backing_chain_of_random_histories(
    folder: Path, tmp_path: Path, qemu_img: str, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Grains that were trimmed, zeroed and written again over others: unmapped over bytes reads as zeros."""
    path = random_history(folder, random.Random(50 + seed), 4, cuts=False).path
    vm = machine(folder, [path.name])
    both(capsys, vm, tmp_path, "--all-states", *(("--view", "residual") if seed == 3 else ()))
    assert len(check_qcow2(qemu_img, tmp_path / "qcow2", tmp_path / "raw")) == 5


def test_trimmed_over_bytes_of_the_base(
    folder: Path, tmp_path: Path, qemu_img: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where whole gigabytes are: an entry for each cluster, and no cluster."""
    chain = ChainBuilder(folder, SECTORS, {0: b"base" * (SIZE // 8)})
    extent = chain.add_delta()
    for grain in range(SECTORS // 16):
        extent.unmap(grain)
    vm = machine(folder, [chain.write().name])
    both(capsys, vm, tmp_path, "--all-states")
    older, newer = check_qcow2(qemu_img, tmp_path / "qcow2", tmp_path / "raw")
    assert (tmp_path / "qcow2" / older["file"]).stat().st_size > SIZE // 2
    assert (tmp_path / "qcow2" / newer["file"]).stat().st_size <= 6 * 65536


@pytest.mark.slow
def test_branches(folder: Path, tmp_path: Path, qemu_img: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The guest went back: two images lie above one."""
    snapshots = [entry(1, ["a.vmdk", "b.vmdk"]), entry(2, ["a-000001.vmdk", "b-000001.vmdk"])]
    vm = machine(folder, reverted(folder), snapshots)
    both(capsys, vm, tmp_path, "--all-states")
    lines = check_qcow2(qemu_img, tmp_path / "qcow2", tmp_path / "raw")
    assert len(lines) == 6
    assert [line["backing"] for line in lines if line["disk"].startswith("a")] == [
        None, "a-000003@s1.qcow2", "a-000003@s1.qcow2",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("sectors", [(SECTORS, SECTORS - 8, SECTORS), (SECTORS - 16, SECTORS, SECTORS - 128)])
def test_links_of_other_sizes(
    folder: Path, tmp_path: Path, qemu_img: str, sectors: tuple, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that was made larger, and a link that hides the end of its parent."""
    rng = random.Random(3)
    links: list = [
        [sparse(folder / f"l{n}-sesparse.vmdk", disks.random_extent(rng, f"l{n}", size))]
        for n, size in enumerate(sectors)
    ]
    links.append([flat(folder / "base-flat.vmdk", SECTORS - 8)])
    vm = machine(folder, [write_chain(folder, links).name])
    both(capsys, vm, tmp_path, "--all-states")
    assert len(check_qcow2(qemu_img, tmp_path / "qcow2", tmp_path / "raw")) == 4


def test_large_qcow2(folder: Path, tmp_path: Path, qemu_img: str) -> None:
    """Many L2 tables, grains at both ends of them."""
    chain = ChainBuilder(folder, 1 << 33)
    extent = chain.add_delta()
    grains = [number * 131072 + off for number in (0, 1, 7, 8191) for off in (0, 131071)]
    for grain in grains:
        extent.allocate(grain, grain_data("x", grain))
    exported(chain.write(), tmp_path / "out", ExportOptions("qcow2", hashes=False))
    image = tmp_path / "out" / "vm-000001.qcow2"
    subprocess.run([qemu_img, "check", image], check=True, capture_output=True)
    told = json.loads(subprocess.check_output([qemu_img, "map", "--output=json", image]))
    found = {at for run in told if run["data"] for at in range(run["start"], run["start"] + run["length"], 65536)}
    assert found == {grain * 4096 // 65536 * 65536 for grain in grains}


@pytest.mark.slow
@pytest.mark.parametrize("hashes", [False, True])
def test_unreadable_below(folder: Path, tmp_path: Path, hashes: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be had of the base is in the map of each image above it that does not have it anew."""
    chain = small_chain(folder, deltas=3)
    for grain in (2, 500):
        chain.links[1].extent.set_entry(grain, target_fixtures.UNKNOWN_STATE)
    chain.links[2].extent.allocate(500, grain_data("anew", 500))
    vm = machine(folder, [chain.write().name])
    more = () if hashes else ("--no-hash",)
    assert run(capsys, vm, "-o", tmp_path / "raw", "--all-states", *more)[0] == 1
    assert run(capsys, vm, "-o", tmp_path / "out", "--all-states", "--format", "qcow2", *more)[0] == 1
    for line in lines_of(tmp_path / "out"):
        assert ranges_of(tmp_path / "out" / line["map"]) == ranges_of(tmp_path / "raw" / line["map"])
    assert [line["unreadable"] for line in lines_of(tmp_path / "out")] == [0, 8192, 4096, 4096]
    assert [line["reason"] is None for line in lines_of(tmp_path / "out")] == [True, False, False, False]


# Going on


class Break(BaseException):
    """Ends a run anywhere, as a kill does: nothing catches it."""


def breaking(after: int) -> Callable[[int, int], None]:
    calls = 0

    def progress(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Break

    return progress


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != "export.json"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["raw", "qcow2"])  # the others hold a number that qemu-img makes up
def test_interrupted_anywhere(folder: Path, tmp_path: Path, kind: str) -> None:
    """Broken off again and again, each time later: in the end the same, and nothing is left of it."""
    path = random_history(folder, random.Random(11), 3, events=60, cuts=False).path
    options = ExportOptions(kind)
    exported(path, tmp_path / "whole", options)
    out, after = tmp_path / "out", 0
    for after in (0, 1, 3, *range(5, 10_000, 9)):
        try:
            exported(path, out, options, progress=breaking(after))
        except Break:
            assert not (out / "manifest.jsonl").exists()
            continue
        break
    assert after > 10
    assert contents(out) == contents(tmp_path / "whole")
    assert exported(path, out, options).written == 0


KILLED = """
import os, sys
from pathlib import Path
from dissect_sesparse.recovery import sparse_file
from dissect_sesparse import cli
put, room = sparse_file.OutputFile.put, int(sys.argv[3])
def counted(file, offset, data):
    global room
    put(file, offset, data)
    room -= len(data)
    if room < 0:
        os.kill(os.getpid(), 9)
sparse_file.OutputFile.put = counted
cli.main(["export", sys.argv[1], "-o", sys.argv[2], "--all-states"])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed(example_vm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    """The process is killed in the middle of an image; what is torn is made again, and its holes stay holes."""
    whole, out, code = tmp_path / "whole", tmp_path / "out", tmp_path / "killed.py"
    assert run(capsys, example_vm, "-o", whole, "--all-states")[0] == 0
    code.write_text(KILLED)
    for bytes_ in (100_000, 3_000_000):
        assert python(code, example_vm, out, bytes_, check=False).returncode == -9
    assert list(out.glob("*.raw.partial"))
    assert not (out / "manifest.jsonl").exists()
    (partial,) = out.glob("*.raw.partial")
    with partial.open("r+b") as fh:  # as after a loss of power: bytes that never reached the disk
        fh.write(bytes(1 << 20))
    assert run(capsys, example_vm, "-o", out, "--all-states")[0] == 0
    assert contents(out) == contents(whole)


@pytest.mark.slow
def test_second_run_verifies(example_vm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    """It changes nothing and says so; what was changed since is an error, also where a hole was."""
    out = tmp_path / "out"
    assert run(capsys, example_vm, "-o", out, "--all-states")[0] == 0
    before = snapshot_of(out)
    code, said, _ = run(capsys, example_vm, "-o", out, "--all-states")
    assert (code, "verified, all was there" in said) == (0, True)
    assert snapshot_of(out) == before
    image = out / "web01-000002.raw"
    for offset in (0, image.stat().st_size - 100):
        data = image.read_bytes()
        with image.open("r+b") as fh:
            fh.seek(offset)
            fh.write(b"planted")
        code, _, err = run(capsys, example_vm, "-o", out, "--all-states")
        assert code == 1
        assert "it was changed since" in err
        image.write_bytes(data)


@pytest.mark.slow
def test_another_export_in_the_folder(example_vm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    out = tmp_path / "out"
    assert run(capsys, example_vm, "-o", out)[0] == 0
    for more in (["--all-states"], ["--format", "qcow2"], ["--view", "residual"], ["--no-hash"]):
        code, _, err = run(capsys, example_vm, "-o", out, *more)
        assert code == 1
        assert "use another folder" in err
    assert cli.main(["recover", str(example_vm), "-o", str(out)]) == 1
    assert "not empty" in capsys.readouterr().err


def test_full_disk(example_vm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Nothing that is half-written has a name, the message is clear, and with more room it goes on."""
    path, out, left = example_vm.parent / target_fixtures.NEWEST, tmp_path / "out", 500_000
    exported(path, tmp_path / "whole")
    opened = sparse_file.OutputFile._file

    class Full:
        def __init__(self, fh: Any):
            self.fh = fh

        def __getattr__(self, name: str) -> Any:
            return getattr(self.fh, name)

        def write(self, data: bytes) -> int:
            nonlocal left
            left -= len(data)
            if left < 0:
                raise OSError(28, "No space left on device")
            return self.fh.write(data)

    with monkeypatch.context() as patch:
        patch.setattr(sparse_file.OutputFile, "_file", property(lambda file: Full(opened.fget(file))))  # type: ignore[attr-defined]
        with pytest.raises(RecoverError, match="no room left"):
            exported(path, out)
    assert {entry.name for entry in out.iterdir() if not entry.name.endswith(".partial")} == {"export.json"}
    exported(path, out)
    assert contents(out) == contents(tmp_path / "whole")


# Refused


@pytest.mark.parametrize("inside", [".", "sub", "../link", "../link/deep"])
def test_folder_of_the_evidence(folder: Path, inside: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_chain(folder).write()
    (folder.parent / "link").symlink_to(folder, target_is_directory=True)
    before = snapshot_of(folder)
    code, _, err = run(capsys, path, "-o", folder / inside)
    assert (code, "holds evidence" in err) == (1, True)
    assert snapshot_of(folder) == before


@pytest.mark.parametrize("how", ["symlink", "hard link"])
def test_what_leads_into_the_evidence(folder: Path, tmp_path: Path, how: str) -> None:
    """A name in the output that is another file's."""
    path, out = small_chain(folder).write(), tmp_path / "out"
    with pytest.raises(Break):
        exported(path, out, progress=breaking(0))
    image = out / "vm-000001.raw.partial"
    image.unlink(missing_ok=True)
    before = snapshot_of(folder)
    if how == "symlink":
        image.symlink_to(folder / "vm-flat.vmdk")
    else:
        os.link(folder / "vm-flat.vmdk", image)
    with pytest.raises(RecoverError, match="symbolic link|evidence"):
        exported(path, out)
    after = snapshot_of(folder)
    assert {name: entry[2] for name, entry in after.items()} == {name: entry[2] for name, entry in before.items()}


def test_evidence_that_changes(folder: Path, tmp_path: Path) -> None:
    path, out = small_chain(folder).write(), tmp_path / "out"

    def progress(done: int, total: int) -> None:
        os.utime(folder / "vm-flat.vmdk", (1, 1))

    with pytest.raises(RecoverError, match="changed while it was read"):
        exported(path, out, progress=progress)
    assert not (out / "manifest.jsonl").exists()


# Formats that qemu-img makes


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vmdk", "vhdx"])
def test_by_qemu_img(
    example_vm: Path,  # noqa: F811
    tmp_path: Path,
    kind: str,
    qemu_img: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The bytes of the raw image, which is gone; the same command again verifies it."""
    out, raw = tmp_path / "out", tmp_path / "raw"
    assert run(capsys, example_vm, "-o", raw)[0] == 0
    assert run(capsys, example_vm, "-o", out, "--format", kind)[0] == 0
    image = out / f"web01-000002.{kind}"
    assert {path.name for path in out.iterdir()} == {image.name, "web01-000002.map", "manifest.jsonl", "export.json"}
    disks.same(by_qemu(qemu_img, image, kind), (raw / "web01-000002.raw").read_bytes())
    (line,) = lines_of(out)
    assert line["digest"]["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert line["content"] == lines_of(raw)[0]["content"]
    before = snapshot_of(out)
    code, said, _ = run(capsys, example_vm, "-o", out, "--format", kind)
    assert (code, "verified, all was there" in said) == (0, True)
    assert {name: entry for name, entry in snapshot_of(out).items() if name != "."} == before
    if kind == "vmdk":
        assert b'"web01-000002.vmdk"' in image.read_bytes()[:65536]
        data = bytearray(image.read_bytes())
        data[-1000:-900] = b"?" * 100
        image.write_bytes(data)
        code, _, err = run(capsys, example_vm, "-o", out, "--format", kind)
        assert code == 1
        assert "qemu-img compare ended with 1" in err


def test_without_qemu_img(
    example_vm: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, err = run(capsys, example_vm, "-o", tmp_path / "out", "--format", "vhdx")
    assert code == 1
    assert "qemu-img is not installed" in err
    assert "qemu-utils" in err
    assert not (tmp_path / "out").exists()
