"""Snapshots as child targets: one for each, oldest first, with all its disks as they were, however wrong the list is."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import make_vm
import pytest
import target_fixtures
from dissect.target import Target, container
from dissect.target.exceptions import TargetError
from dissect.target.filesystem import VirtualFilesystem
from dissect.target.helpers.record import ChildTargetRecord
from sesparse_builder import ExtentBuilder, descriptor, grain_data, vmsd, vmx, write_flat
from target_fixtures import NEWEST, SECTORS, UNKNOWN_STATE, add_delta, small_chain, tool
from work import at_most

from dissect_sesparse import open_chain
from dissect_sesparse.time.states import MAX_STATES

if TYPE_CHECKING:
    from collections.abc import Sequence

example = target_fixtures.example_vm

MOMENT = datetime(2024, 3, 11, 20, 0, tzinfo=timezone.utc)
HAS_NAMES = "name" in ChildTargetRecord.fields
"""dissect.target 3.23 has no names in its records of children: their paths tell."""


def entry(uid: int, disks: Sequence[str], name: str | None = None, days: float | None = None, **more: object) -> dict:
    """An entry of a snapshot list; taken ``days`` after the first one, by default in the order of the uids."""
    created = MOMENT + timedelta(days=uid if days is None else days)
    return {"uid": uid, "display_name": f"s{uid}" if name is None else name, "created": created, "disks": disks, **more}


def machine(
    folder: Path, running: Sequence[str], snapshots: Sequence[dict] | None = None, text: bytes | None = None
) -> Path:
    (folder / "vm.vmx").write_bytes(vmx(running, "vm").encode())
    if snapshots is not None or text is not None:
        (folder / "vm.vmsd").write_bytes(vmsd(snapshots or []).encode() if text is None else text)
    return folder / "vm.vmx"


def one_disk(folder: Path, snapshots: Sequence[dict] | None = None, text: bytes | None = None, deltas: int = 2) -> Path:
    """A VM with one disk: by default a base, a delta, and the delta that runs."""
    return machine(folder, [small_chain(folder, deltas=deltas).write().name], snapshots, text)


def two_disks(folder: Path, snapshots: Sequence[dict] | None = None, text: bytes | None = None) -> Path:
    names = [small_chain(folder, name, deltas=2).write().name for name in ("a", "b")]
    return machine(folder, names, snapshots, text)


BOTH = [entry(1, ["a.vmdk", "b.vmdk"]), entry(2, ["a-000001.vmdk", "b-000001.vmdk"])]


def records(target: Target) -> list:
    """The records of the children; 3.25 gives each with its number."""
    return [found[1] if isinstance(found, tuple) else found for found in target.list_children()]


def files(child: Target) -> list[str]:
    """Which descriptor each disk of a child is."""
    return [disk.chain.name for disk in child.disks]


def children(path: Path | str | Target) -> list[tuple[str, list[str]]]:
    """The name of each child, and its disks."""
    target = path if isinstance(path, Target) else Target.open(path)
    return [(name_of(record, target), files(target.open_child(record.path))) for record in records(target)]


def name_of(record: object, target: Target) -> str:
    if HAS_NAMES:
        return record.name
    return json.loads(target.fs.path(record.path).read_text("utf-8"))["name"]


def content(target: Target, number: int = 0) -> bytes:
    disk = target.disks[number]
    disk.seek(0)
    return disk.read(SECTORS * 512)


@pytest.mark.slow
def test_example(example: Path) -> None:
    target = Target.open(example)
    found = records(target)
    assert [record.type for record in found] == ["sesparse", "sesparse"]
    assert [str(record.path) for record in found] == [
        "/$sesparse$/snapshots/00-before_patch",
        "/$sesparse$/snapshots/01-after_patch",
    ]
    assert children(target) == [("before patch", ["web01.vmdk"]), ("after patch", ["web01-000001.vmdk"])]
    live = [{path.name for path in child.filesystems[0].path("/").rglob("*")} for child in target.open_children()]
    assert "kb5035849.tmp" not in live[0] | live[1]
    assert "exfil.zip" not in live[0]
    assert "exfil.zip" in live[1], "deleted after the snapshot was taken"
    assert "exfil.zip" not in {path.name for path in target.filesystems[0].path("/").rglob("*")}


@pytest.mark.slow
def test_bytes_are_those_of_the_link(example: Path) -> None:
    target = Target.open(example)
    for child, name in zip(target.open_children(), ["web01.vmdk", "web01-000001.vmdk"]):
        with open_chain(example.parent / name) as chain:
            disk = child.disks[0]
            disk.seek(0)
            assert disk.read(chain.size) == chain.read(0, chain.size)
            assert disk.size == chain.size


@pytest.mark.parametrize("key", ["0", "/$sesparse$/snapshots/00-before_patch", "/$SESPARSE$/Snapshots/00-BEFORE_patch"])
def test_ways_to_name_a_child(example: Path, key: str) -> None:
    target = Target.open(example)
    target.fs.case_sensitive = "SESPARSE" not in key  # as on a Windows guest
    assert files(target.open_child(key)) == ["web01.vmdk"]


@pytest.mark.slow
def test_snapshot_has_no_children(example: Path) -> None:
    """Or listing them recursively would never end."""
    target = Target.open(example)
    for child in target.open_children(recursive=True):
        assert records(child) == []
    assert len(list(target.open_children(recursive=True))) == 2


def test_opened_without_looking(example: Path) -> None:
    if not HAS_NAMES:
        pytest.skip("this dissect.target has no apply=False")
    target = Target.open(example, apply=False)
    assert [name for name, _ in children(target)] == ["before patch", "after patch"]


# All disks, and branches


@pytest.mark.slow
def test_two_disks(folder: Path) -> None:
    path = two_disks(folder, BOTH)
    assert children(path) == [("s1", ["a.vmdk", "b.vmdk"]), ("s2", ["a-000001.vmdk", "b-000001.vmdk"])]
    older, newer = Target.open(path).open_children()
    for number, name in enumerate("ab"):
        with open_chain(folder / f"{name}.vmdk") as base, open_chain(folder / f"{name}-000001.vmdk") as delta:
            assert content(older, number) == base.read(0, base.size)
            assert content(newer, number) == delta.read(0, delta.size)
    assert content(older)[10 * 4096 :][:4096] == bytes(4096)
    assert content(newer)[10 * 4096 :][:4096] == grain_data("delta1", 10)
    assert content(newer)[20 * 4096 :][:4096] == bytes(4096), "written after it"


def reverted(folder: Path) -> list[str]:
    """Two disks, whose guest went back to the first of two snapshots: the second is on no running disk's chain."""
    for name in ("a", "b"):
        chain = small_chain(folder, name, deltas=2)
        chain.write()
        extent = ExtentBuilder(SECTORS)
        extent.allocate(30, grain_data("after revert", 30))
        add_delta(folder, f"{name}-000003", extent, folder / f"{name}.vmdk", chain.links[0].cid, "0000beef")
        for gone in folder.glob(f"{name}-000002*"):
            gone.unlink()  # the host discards what ran until the revert
    return ["a-000003.vmdk", "b-000003.vmdk"]


def test_branch_after_a_revert(folder: Path) -> None:
    path = machine(folder, reverted(folder), BOTH)
    target = Target.open(path)
    assert children(target) == [("s1", ["a.vmdk", "b.vmdk"]), ("s2", ["a-000001.vmdk", "b-000001.vmdk"])]
    branch = target.open_child("1")
    assert content(branch, 1)[10 * 4096 :][:4096] == grain_data("delta1", 10)
    assert content(branch, 1)[30 * 4096 :][:4096] == bytes(4096)
    assert content(target, 1)[30 * 4096 :][:4096] == grain_data("after revert", 30)


def test_branches_are_in_the_order_of_their_times(folder: Path) -> None:
    """And a later snapshot of the running branch comes after an older one of the other."""
    names = reverted(folder)
    chains = {}
    for name in "ab":
        extent = ExtentBuilder(SECTORS)
        chains[name] = add_delta(
            folder, f"{name}-000004", extent, folder / f"{name}-000003.vmdk", "0000beef", "0000cafe"
        )
    snapshots = [entry(3, names), *reversed(BOTH)]
    path = machine(folder, [path.name for path in chains.values()], snapshots)
    assert [name for name, _ in children(path)] == ["s1", "s2", "s3"]


def test_disk_added_later(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It was not there when the first snapshot was taken, and that is said."""
    small_chain(folder, "a", deltas=2).write()
    small_chain(folder, "b", deltas=1).write()
    running = ["a-000002.vmdk", "b-000001.vmdk"]
    snapshots = [entry(1, ["a.vmdk"]), entry(2, ["a-000001.vmdk", "b.vmdk"])]
    path = machine(folder, running, snapshots)
    assert children(path) == [("s1", ["a.vmdk"]), ("s2", ["a-000001.vmdk", "b.vmdk"])]
    assert "scsi0:1 b-000001.vmdk is not in the snapshot's list, the disk is left out" in caplog.text
    child = Target.open(path).open_child("0")
    told = [finding for finding in child.sesparse.findings() if finding.code == "snapshot-list-mismatch"]
    assert len(told) == 1
    assert "b-000001.vmdk is not in the snapshot's list" in told[0].message
    path = machine(folder, running)
    (folder / "vm.vmsd").unlink()
    assert children(path) == [("a.vmdk", ["a.vmdk"]), ("a-000001.vmdk", ["a-000001.vmdk", "b.vmdk"])]
    assert "scsi0:1 b-000001.vmdk has no link that old, the disk is left out" in caplog.text


def test_disk_of_another_type(folder: Path) -> None:
    """ESXi mixes the types of a VM's disks, not those of a chain: the smaller ones are none of this package's."""
    small_chain(folder, "a", deltas=1).write()
    write_flat(folder / "b-flat.vmdk", SECTORS * 512, {8: b"flat"})
    text = descriptor([(SECTORS, "VMFS", "b-flat.vmdk")], cid="0000b000", create_type="vmfs")
    (folder / "b.vmdk").write_text(text)
    path = machine(folder, ["a-000001.vmdk", "b.vmdk"], [entry(1, ["a.vmdk", "b.vmdk"])])
    (child,) = Target.open(path).open_children()
    assert [disk.__type__ for disk in child.disks] == ["sesparse", "vmdk"]
    assert content(child, 1)[4096:4100] == b"flat"


def test_disks_of_one_name(folder: Path) -> None:
    """On two datastores: the node tells which is meant."""
    other = folder.parent / "data"
    for place in (folder, other):
        small_chain(place, deltas=1).write()
    (other / "vm-flat.vmdk").write_bytes(b"other".ljust(SECTORS * 512, b"\0"))
    listed = ["vm.vmdk", "/vmfs/volumes/5f0c1d7e/data/vm.vmdk"]
    running = ["vm-000001.vmdk", "../data/vm-000001.vmdk"]
    path = machine(folder, running, [entry(1, listed)])
    (child,) = Target.open(path).open_children()
    assert content(child, 0)[:5] != b"other"
    assert content(child, 1)[:5] == b"other"


def test_linked_clone(folder: Path) -> None:
    """What it is based on has its name in the list of its template, and not in its own."""
    template = folder.parent / "template"
    chain = small_chain(template, "t", deltas=1)
    chain.write()
    (template / "t.vmsd").write_text(vmsd([entry(1, ["t.vmdk"], "golden image")]))
    parent = template / "t.vmdk"
    newest = add_delta(folder, "vm", ExtentBuilder(SECTORS), parent, chain.links[0].cid, "0000c10e")
    newest.write_text(newest.read_text().replace('"t.vmdk"', '"/vmfs/volumes/x/template/t.vmdk"'))
    assert children(machine(folder, ["vm.vmdk"])) == [("golden image", ["t.vmdk"])]


# How the VM is loaded, and its options


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "tar", "zip", "uri"])
def test_ways_to_load(folder: Path, kind: str) -> None:
    path: Path | str = two_disks(folder, BOTH)
    if kind == "folder":
        path = folder
    elif kind == "uri":
        path = f"sesparse://{path.as_posix()}"
    elif kind == "tar":
        path = folder.parent / "vm.tar"
        with tarfile.open(path, "w") as archive:
            archive.add(folder, "vm")
    else:
        path = folder.parent / "vm.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, f"vm/{file.name}")
    assert children(path) == [("s1", ["a.vmdk", "b.vmdk"]), ("s2", ["a-000001.vmdk", "b-000001.vmdk"])]


def test_vm_of_a_host(folder: Path) -> None:
    """On a file system that is evidence itself; its snapshots are children of a child."""
    two_disks(folder, BOTH)
    host = VirtualFilesystem()
    host.map_dir("/vmfs/volumes/5f0c1d7e/vm", folder)
    parent = Target()
    parent.filesystems.add(host)
    parent.fs.mount("/", host)
    vm = parent.open_child("/vmfs/volumes/5f0c1d7e/vm/vm.vmx")
    assert children(vm) == [("s1", ["a.vmdk", "b.vmdk"]), ("s2", ["a-000001.vmdk", "b-000001.vmdk"])]
    with open_chain(folder / "b-000001.vmdk") as chain:
        assert content(vm.open_child("1"), 1) == chain.read(0, chain.size)


def test_newest_descriptor_is_gone(folder: Path) -> None:
    """The VM is shown as of its last snapshot, which is a child as well."""
    path = one_disk(folder, [entry(1, ["vm.vmdk"]), entry(2, ["vm-000001.vmdk"])])
    (folder / "vm-000002.vmdk").unlink()
    target = Target.open(path)
    assert files(target) == ["vm-000001.vmdk"]
    assert children(target) == [("s1", ["vm.vmdk"]), ("s2", ["vm-000001.vmdk"])]


def test_options_are_inherited(folder: Path, example: Path) -> None:
    chain = small_chain(folder, deltas=2)
    chain.links[1].extent.set_entry(100, UNKNOWN_STATE)
    path = machine(folder, [chain.write().name])
    target = Target.open(f"sesparse://{path.as_posix()}?unreadable=zero&view=residual&journal=ignore")
    for child in target.open_children():
        options = child.disks[0].chain.options
        assert (options.unreadable, options.view, options.journal) == ("zero", "residual", "ignore")
    assert target.open_child("1").disks[0].chain.read(100 * 4096, 4096) == bytes(4096)
    plain = Target.open(path).open_child("1").disks[0].chain.options
    assert (plain.unreadable, plain.view) == ("error", "guest")


def test_parent_is_not_inherited(folder: Path) -> None:
    """It is the parent of the running disk's newest link."""
    path = small_chain(folder, deltas=2).write()
    path.unlink()  # the extent alone
    extent = folder / "vm-000002-sesparse.vmdk"
    target = Target.open(f"sesparse://{extent.as_posix()}?parent={(folder / 'vm-000001.vmdk').as_posix()}")
    assert children(target) == [("vm.vmdk", ["vm.vmdk"]), ("vm-000001.vmdk", ["vm-000001.vmdk"])]
    assert [child.disks[0].chain.options.parent for child in target.open_children()] == [None, None]


def test_disk_alone(folder: Path) -> None:
    """A descriptor that is opened without its VM has the snapshots of its disk."""
    two_disks(folder, [*BOTH, entry(3, ["b.vmdk"], "of b")])
    assert children(folder / "a-000002.vmdk") == [("s1", ["a.vmdk"]), ("s2", ["a-000001.vmdk"])]
    with (folder / "a-000002.vmdk").open("rb") as fh:
        target = Target()
        target.disks.add(container.open(fh))
        target.apply()
        assert [name for name, _ in children(target)] == ["s1", "s2"]


def test_no_disk_of_ours(folder: Path) -> None:
    (folder / "disk.raw").write_bytes(bytes(1 << 20))
    target = Target.open(folder / "disk.raw")
    assert records(target) == []
    assert "/$sesparse$" not in target.fs.mounts


def test_file_object_without_a_folder(folder: Path) -> None:
    small_chain(folder).write()
    data = (folder / "vm-000001-sesparse.vmdk").read_bytes()
    target = Target()
    target.disks.add(container.open(io.BytesIO(data), unreadable="zero"))
    target.apply()
    assert records(target) == []


# What the list says


@pytest.mark.parametrize(
    ("encoding", "name"), [("gbk", "补丁之前"), ("shift_jis", "パッチ前"), ("utf-8", "vor Prüfung")]
)
def test_encoding(folder: Path, encoding: str, name: str) -> None:
    text = vmsd([entry(1, ["vm.vmdk"], name), entry(2, ["vm-000001.vmdk"])]).replace("UTF-8", encoding.upper())
    path = one_disk(folder, text=text.encode(encoding))
    target = Target.open(path)
    assert children(target) == [(name, ["vm.vmdk"]), ("s2", ["vm-000001.vmdk"])]
    assert str(records(target)[0].path) == f"/$sesparse$/snapshots/00-{name.replace(' ', '_')}"


def test_without_a_list(folder: Path) -> None:
    path = two_disks(folder)
    assert children(path) == [("a.vmdk", ["a.vmdk", "b.vmdk"]), ("a-000001.vmdk", ["a-000001.vmdk", "b-000001.vmdk"])]


def test_one_link_has_no_children(folder: Path) -> None:
    extent = ExtentBuilder(SECTORS)
    extent.write(folder / "vm-sesparse.vmdk")
    text = descriptor([(SECTORS, "SESPARSE", "vm-sesparse.vmdk")], cid="00000001")
    (folder / "vm.vmdk").write_text(text)
    assert children(machine(folder, ["vm.vmdk"])) == []


@pytest.mark.parametrize("name", ["", "   "])
def test_without_a_name(folder: Path, name: str) -> None:
    path = one_disk(folder, [entry(1, ["vm.vmdk"], name), entry(2, ["vm-000001.vmdk"])])
    assert children(path) == [("vm.vmdk", ["vm.vmdk"]), ("s2", ["vm-000001.vmdk"])]


@pytest.mark.parametrize("missing", [1, 2])
def test_snapshot_that_the_list_lacks(folder: Path, missing: int) -> None:
    """After a crash: the chain proves that it was taken. Its place is known, its time and its name are not."""
    snapshots = [entry(uid, [name]) for uid, name in ((1, "vm.vmdk"), (2, "vm-000001.vmdk")) if uid != missing]
    expected = [("s1", ["vm.vmdk"]), ("s2", ["vm-000001.vmdk"])]
    expected[missing - 1] = (expected[missing - 1][1][0], expected[missing - 1][1])
    assert children(one_disk(folder, snapshots)) == expected


def test_snapshot_whose_files_are_gone(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is no state that can be shown; the state that is there is named by its link."""
    path = one_disk(folder, [entry(1, ["gone.vmdk"]), entry(2, ["vm-000001.vmdk"]), entry(3, [])])
    assert children(path) == [("vm.vmdk", ["vm.vmdk"]), ("s2", ["vm-000001.vmdk"])]
    assert "snapshot 's1' (uid 1) of the list is no state: scsi0:0 gone.vmdk is left out" in caplog.text
    assert "snapshot 's3' (uid 3) of the list is no state: " in caplog.text
    assert "the list names no disk" in caplog.text


def test_one_file_of_a_snapshot_is_gone(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = two_disks(folder, [entry(1, ["a.vmdk", "gone.vmdk"]), BOTH[1]])
    target = Target.open(path)
    assert children(target) == [("s1", ["a.vmdk"]), ("s2", ["a-000001.vmdk", "b-000001.vmdk"])]
    assert "s1: scsi0:1 gone.vmdk is left out: the file is missing" in caplog.text
    assert "scsi0:1 b.vmdk is in no snapshot of the list" in caplog.text
    told = [finding.message for finding in target.open_child("0").sesparse.findings() if "s1: " in finding.message]
    assert told == ["s1: scsi0:1 gone.vmdk is left out: the file is missing"]


def test_snapshot_of_the_running_disk(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = one_disk(folder, [entry(1, ["vm.vmdk"]), entry(2, ["vm-000001.vmdk"]), entry(3, ["vm-000002.vmdk"])])
    assert [name for name, _ in children(path)] == ["s1", "s2", "s3"]
    assert "s3: scsi0:0 vm-000002.vmdk is the running disk: it may have been written since" in caplog.text


def test_duplicates(folder: Path) -> None:
    """By their uid, and entries that say the same; not two names for one state."""
    twice = entry(2, ["vm-000001.vmdk"])
    snapshots = [entry(1, ["vm.vmdk"]), twice, twice, {**twice, "uid": 7}, entry(1, ["vm-000001.vmdk"], "again")]
    path = one_disk(folder, [*snapshots, entry(9, ["vm-000001.vmdk"], "other")])
    assert [name for name, _ in children(path)] == ["s1", "s2", "other"]


def test_order_is_proven_by_the_chain(folder: Path) -> None:
    """A clock that was wrong puts no state before the one that it is based on."""
    snapshots = [
        entry(2, ["vm-000001.vmdk"], days=-400),
        entry(1, ["vm.vmdk"]),
        entry(3, ["vm-000002.vmdk"], days=-900),
    ]
    path = one_disk(folder, snapshots, deltas=3)
    assert [name for name, _ in children(path)] == ["s1", "s2", "s3"]


def test_without_times(folder: Path) -> None:
    text = vmsd([entry(2, ["vm-000001.vmdk"]), entry(1, ["vm.vmdk"])])
    text = "".join(line for line in text.splitlines(keepends=True) if "createTime" not in line)
    path = one_disk(folder, text=text.encode())
    assert [name for name, _ in children(path)] == ["s1", "s2"]


def test_lists_of_others(folder: Path) -> None:
    """Another VM in the folder, and an old copy of the own list."""
    small_chain(folder, "other", deltas=1).write()
    (folder / "other.vmsd").write_text(vmsd([entry(1, ["other.vmdk"], "not this one's")]))
    (folder / "vm.vmsd.bak").write_text(
        vmsd([entry(1, ["vm.vmdk"], "old name"), entry(5, ["vm-000001.vmdk"], "stale")])
    )
    path = one_disk(folder, [entry(1, ["vm.vmdk"])])
    assert [name for name, _ in children(path)] == ["s1", "vm-000001.vmdk"]
    (folder / "vm.vmsd").rename(folder / "renamed.vmsd")
    assert [name for name, _ in children(path)] == ["s1", "vm-000001.vmdk"]
    (folder / "renamed.vmsd").unlink()
    assert [name for name, _ in children(path)] == ["old name", "stale"]


# Broken and hostile


def test_broken_disk(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It costs a child none of its other disks, and a VM that runs without it none of its snapshots."""
    path = two_disks(folder, BOTH)
    (folder / "b-000002-sesparse.vmdk").unlink()
    (folder / "b-flat.vmdk").unlink()
    target = Target.open(path)
    assert files(target) == ["a-000002.vmdk"]
    assert children(target) == [("s1", ["a.vmdk"]), ("s2", ["a-000001.vmdk"])]
    assert "Disk left out: scsi0:1 b.vmdk" in caplog.text


def test_child_that_cannot_be_opened(folder: Path) -> None:
    path = one_disk(folder, [entry(1, ["vm.vmdk"]), entry(2, ["vm-000001.vmdk"])])
    target = Target.open(path)
    assert len(records(target)) == 2
    (folder / "vm-000001-sesparse.vmdk").unlink()
    with pytest.raises(TargetError) as caught:
        target.open_child("1")
    assert "vm-000001-sesparse.vmdk" in str(caught.value.__cause__)
    assert [files(child) for child in target.open_children()] == [["vm.vmdk"]], "the others are"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a/b\\c:d*e?", "a_b_c_d_e_"),
        ("tab\tbell\x07esc\x1b[31m", "tab_bell_esc__31m"),
        ("x" * 5000, "x" * 80),
        ("CON", "_CON"),
        ("..", "disk"),
    ],
)
def test_hostile_names(folder: Path, name: str, safe: str) -> None:
    """They stay as they are where they are data, and are harmless where they are names of files."""
    path = one_disk(folder, [entry(1, ["vm.vmdk"], name), entry(2, ["vm-000001.vmdk"], name)])
    target = Target.open(path)
    assert [found for found, _ in children(target)] == [name, name]
    names = [child.name for child in target.fs.path("/$sesparse$/snapshots").iterdir()]
    assert names[0] == f"00-{safe}"
    assert len(set(names)) == 2
    assert all(files(target.open_child(str(record.path))) for record in records(target))


@pytest.mark.parametrize("disk", ["/etc/passwd", "../../../secret.vmdk", "C:\\x.vmdk", "\\\\host\\share\\x.vmdk", "."])
def test_names_outside_the_evidence(folder: Path, disk: str) -> None:
    (folder.parents[1] / "secret.vmdk").write_text(descriptor([(8, "ZERO", "")], cid="0000dead"))
    path = one_disk(folder, [entry(1, [disk]), entry(2, ["vm-000001.vmdk"])])
    assert children(path) == [("vm.vmdk", ["vm.vmdk"]), ("s2", ["vm-000001.vmdk"])]


def test_loops(folder: Path) -> None:
    """Snapshots that are their own parents, and links of a branch that are."""
    for name, parent in (("x", "y"), ("y", "x")):
        text = descriptor([(SECTORS, "ZERO", "")], cid=f"0000000{ord(name) % 10}", parent_cid=f"0000000{ord(parent) % 10}",
                          parent_hint=f"{parent}.vmdk")  # fmt: skip
        (folder / f"{name}.vmdk").write_text(text)
    snapshots = [
        entry(1, ["vm.vmdk"], parent=2),
        entry(2, ["vm-000001.vmdk"], parent=1),
        entry(3, ["x.vmdk"], parent=3),
        entry(4, ["y.vmdk"], parent=3),
    ]
    target = Target.open(one_disk(folder, snapshots))
    assert [name_of(record, target) for record in records(target)] == ["s1", "s2", "s3", "s4"]
    with pytest.raises(TargetError):
        target.open_child("2")


@pytest.mark.slow
def test_a_million_snapshots(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A list of a megabyte is read, as many states are told of as a VM may have, and the rest is counted."""
    lines = [
        f'snapshot{n}.uid="{n}"\nsnapshot{n}.disk0.filename="vm.vmdk"\nsnapshot{n}.displayname="{n}"\n'
        for n in range(10_000)
    ]
    path = one_disk(folder, text="".join(lines).encode())
    with at_most(20_000_000):  # nothing of it before it is asked for
        target = Target.open(path)
    with at_most(20_000_000):
        found = records(target)
    assert len(found) == MAX_STATES + 1, "and the link that is not among them"
    assert files(target.open_child("500")) == ["vm.vmdk"]
    assert f"{10_000 - MAX_STATES} more entries of the snapshot list are not looked at" in caplog.text


def test_list_that_is_too_large(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is not read, that is said, and the chain gives the states."""
    path = one_disk(folder, text=vmsd([entry(1, ["vm.vmdk"])]).encode().ljust(2 << 20))
    assert children(path) == [("vm.vmdk", ["vm.vmdk"]), ("vm-000001.vmdk", ["vm-000001.vmdk"])]
    assert "vm.vmsd: " in caplog.text
    assert "bytes, expected at most 1048576 bytes" in caplog.text


def test_opening_reads_no_list(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dissect_sesparse.target.tree.snapshot_states", lambda target: pytest.fail("asked for nothing"))
    target = Target.open(example)
    assert [path.name for path in target.fs.path("/").glob("*sesparse*")] == ["$sesparse$"]
    assert target.fs.path("/$sesparse$/snapshots").is_dir()


def test_guest_with_such_a_folder(example: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its files are no snapshots, and take nothing from those."""
    guest = VirtualFilesystem()
    for name in ("00-before_patch", "../snapshots/99-fake", "zz"):
        guest.map_file_fh(f"/$sesparse$/snapshots/{name}", io.BytesIO(b"{}"))
    target = Target()
    target.disks.add(container.open(example.parent / NEWEST))
    target.filesystems.add(guest)
    target.fs.mount("/", guest)
    target.apply()
    assert "The guest has a /$sesparse$ too" in caplog.text
    assert children(target) == [("before patch", ["web01.vmdk"]), ("after patch", ["web01-000001.vmdk"])]


def test_text_of_a_snapshot(example: Path) -> None:
    target = Target.open(example)
    path = target.fs.path("/$sesparse$/snapshots/01-after_patch")
    data = path.read_bytes()
    assert path.stat().st_size == len(data)
    told = json.loads(data)
    assert told["name"] == "after patch"
    assert told["created"] == make_vm.SNAPSHOTS[1][2].isoformat()
    assert [(disk["node"], Path(disk["path"]).name) for disk in told["disks"]] == [("scsi0:0", "web01-000001.vmdk")]


def test_failing_tree_costs_no_target(
    example: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(target: Target) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr("dissect_sesparse.target.tree.mount", fail)
    assert Target.open(example).filesystems[0].path("/").exists()
    assert "out of order" in caplog.text


# The tools


@pytest.mark.versions
@pytest.mark.slow
def test_target_query(example: Path) -> None:
    if HAS_NAMES:
        listed = tool("target-query", example, "--list-children").stdout
        assert "[0]: type='sesparse' name='before patch' path='/$sesparse$/snapshots/00-before_patch'" in listed
        assert "[1]: type='sesparse' name='after patch'" in listed
    one = tool("target-query", example, "--child", "1", "-f", "sesparse.chain", "-s").stdout
    assert one.count("disk='web01-000001.vmdk'") == 2
    every = tool("target-query", example, "--children", "-f", "sesparse.chain", "-s").stdout
    assert [every.count(f"disk='web01{part}.vmdk'") for part in ("-000002", "-000001", "")] == [3, 2, 1]


@pytest.mark.slow
def test_target_shell(example: Path) -> None:
    if not HAS_NAMES:
        pytest.skip("target-shell of this dissect.target opens no child")
    shell = Path(sys.executable).parent / ("target-shell.exe" if os.name == "nt" else "target-shell")
    if not shell.exists():
        pytest.skip("target-shell is not installed beside this Python")
    done = subprocess.run(
        [shell, "-q", example, "--child", "1"],
        input="ls /Users/admin/Documents\n",
        env={**os.environ, "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=True,
    )
    assert "exfil.zip" in done.stdout, "deleted after the snapshot was taken"
