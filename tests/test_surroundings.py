"""What lies beside a disk: deltas that no chain reaches, and a snapshot list that says otherwise than the chains."""

from __future__ import annotations

import shutil
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import make_vm
import pytest
import target_fixtures
from dissect.target import Target
from sesparse_builder import ExtentBuilder, vmsd, vmx
from target_fixtures import SECTORS, add_delta, small_chain

from dissect_sesparse import open_chain
from dissect_sesparse.findings.findings import Finding, findings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

example = target_fixtures.example_vm

WHEN = datetime(2024, 3, 11, tzinfo=timezone.utc)


def found(path: Path, **options: object) -> list[Finding]:
    with open_chain(path, **options) as chain:
        return list(findings(chain))


def told(found: list[Finding]) -> list[tuple[str, str, int, str]]:
    return [(f.code, f.level, f.depth, f.source.name) for f in found]


def write_list(folder: Path, *states: Sequence[str], name: str = "vm.vmsd") -> None:
    """A snapshot list: the disks of each snapshot."""
    snapshots = [
        {"uid": number, "display_name": f"s{number}", "created": WHEN, "disks": list(disks)}
        for number, disks in enumerate(states, 1)
    ]
    (folder / name).write_text(vmsd(snapshots), encoding="utf-8")


def machine(folder: Path, *disks: str, deltas: int = 2) -> Path:
    """A VM with ``vm.vmdk`` and its deltas, a list that fits, and a ``.vmx``; returns the newest descriptor."""
    chain = small_chain(folder, deltas=deltas)
    path = chain.write()
    write_list(folder, *[[link.descriptor_name] for link in chain.links[:-1]])
    (folder / "vm.vmx").write_text(vmx(disks or [path.name], "vm"), encoding="utf-8")
    return path


def branch(folder: Path, name: str = "vm-000009", parent: str = "vm.vmdk") -> Path:
    """A delta beside the chain."""
    cid = next(line[4:] for line in (folder / parent).read_text().splitlines() if line.startswith("CID="))
    return add_delta(folder, name, ExtentBuilder(SECTORS), folder / parent, cid, "b5a2c4e1")


# No false alarms


def test_none_on_the_example(example: Path) -> None:
    """Its running disk, and each of its snapshots opened by itself."""
    for name in ("web01-000002.vmdk", "web01-000001.vmdk"):
        assert found(example.parent / name) == []


def test_none_on_a_machine_with_two_disks(folder: Path) -> None:
    """Each disk has deltas of its own, in one folder; one has a branch that a snapshot knows."""
    machine(folder)
    other = small_chain(folder, "vm_1", deltas=2)
    other.write()
    branch(folder, "vm-000007", "vm-000001.vmdk")
    write_list(folder, ["vm.vmdk", "vm_1.vmdk"], ["vm-000001.vmdk", "vm_1-000001.vmdk"], ["vm-000007.vmdk"])
    (folder / "vm.vmx").write_text(vmx(["vm-000002.vmdk", "vm_1-000002.vmdk"], "vm"), encoding="utf-8")
    assert list(Target.open(folder / "vm.vmx").sesparse.findings()) == []
    for name in ("vm-000002.vmdk", "vm_1-000002.vmdk", "vm-000001.vmdk", "vm-000007.vmdk"):
        assert found(folder / name) == []


def test_none_without_vmx_and_list(folder: Path) -> None:
    """A link that others are based on, opened by itself: they are newer. Another disk's deltas are none of its."""
    small_chain(folder, deltas=3).write()
    small_chain(folder, "other", deltas=2).write()
    for name in ("vm-000001.vmdk", "vm-000002.vmdk", "vm-000003.vmdk"):
        assert found(folder / name) == []


def test_none_on_a_linked_clone(folder: Path) -> None:
    """Its parent is in its template's folder, and in the template's list."""
    template = folder.parent / "template"
    base = small_chain(template, deltas=1)
    base.write()
    write_list(template, ["vm.vmdk"])
    path = add_delta(
        folder, "clone", ExtentBuilder(SECTORS), template / "vm-000001.vmdk", base.links[1].cid, "c10c10c1"
    )
    path.write_bytes(path.read_bytes().replace(b'"vm-000001.vmdk"', b'"../template/vm-000001.vmdk"'))
    (folder / "clone.vmx").write_text(vmx(["clone.vmdk"], "clone"), encoding="utf-8")
    write_list(folder, name="clone.vmsd")
    assert found(path) == []


def test_none_by_the_list_of_another_machine(folder: Path) -> None:
    machine(folder)
    (folder / "vm.vmsd").unlink()
    write_list(folder, ["elsewhere.vmdk"], name="other.vmsd")
    assert found(folder / "vm-000002.vmdk") == []


# Orphans


def test_delta_that_nothing_reaches(folder: Path) -> None:
    path = machine(folder)
    branch(folder)
    (orphan,) = found(path)
    assert told([orphan]) == [("orphan-link", "warning", 2, "vm-000009.vmdk")]
    assert "based on vm.vmdk" in orphan.message
    assert "vm.vmx" in orphan.message


def test_delta_over_the_running_disk(folder: Path) -> None:
    """What a failed backup leaves: the VM runs on the link below."""
    path = machine(folder)
    branch(folder, parent="vm-000002.vmdk")
    assert told(found(path)) == [("orphan-link", "warning", 0, "vm-000009.vmdk")]


def test_branch_without_a_vmx(folder: Path) -> None:
    """Nothing tells which of two branches runs: no more than information, on both."""
    path = small_chain(folder, deltas=2).write()
    other = branch(folder)
    assert told(found(path)) == [("orphan-link", "info", 2, "vm-000009.vmdk")]
    assert told(found(other)) == [
        ("orphan-link", "info", 1, "vm-000001.vmdk"),
        ("orphan-link", "info", 1, "vm-000002.vmdk"),
    ]


def test_extent_that_no_descriptor_names(folder: Path) -> None:
    path = machine(folder)
    shutil.copy(folder / "vm-000001-sesparse.vmdk", folder / "vm-000005-sesparse.vmdk")
    (folder / "vm-000006-sesparse.vmdk").write_bytes(b"no extent")
    (orphan,) = found(path)
    assert told([orphan]) == [("orphan-link", "warning", 0, "vm-000005-sesparse.vmdk")]


def test_newest_descriptor_is_lost(folder: Path) -> None:
    """The VM opens in its older state, and the extent of the newest one is told."""
    machine(folder)
    (folder / "vm-000002.vmdk").unlink()
    codes = [(r.code, r.source.name) for r in Target.open(folder / "vm.vmx").sesparse.findings()]
    assert ("orphan-link", "vm-000002-sesparse.vmdk") in codes
    assert codes[0][0] == "older-state"


def test_once_for_a_machine(folder: Path) -> None:
    """Both disks of a VM have the same folder."""
    machine(folder)
    small_chain(folder, "vm_1", deltas=0).write()
    branch(folder, "vm_1-000001", "vm_1.vmdk")
    branch(folder)
    (folder / "vm.vmx").write_text(vmx(["vm-000002.vmdk", "vm_1-000001.vmdk"], "vm"), encoding="utf-8")
    write_list(folder, ["vm.vmdk", "vm_1.vmdk"], ["vm-000001.vmdk", "vm_1.vmdk"])
    records = list(Target.open(folder / "vm.vmx").sesparse.findings())
    assert [(r.code, r.source.name) for r in records] == [("orphan-link", "vm-000009.vmdk")]


def test_many(folder: Path) -> None:
    """A folder full of deltas gives a bounded list."""
    path = machine(folder)
    text = branch(folder).read_text()
    for number in range(150):
        (folder / f"x{number}.vmdk").write_text(text)
    orphans = [f for f in found(path) if f.code == "orphan-link"]
    assert len(orphans) == 101
    assert orphans[-1].message.startswith("51 more deltas")


# The snapshot list


def test_list_names_what_is_not_there(folder: Path) -> None:
    path = machine(folder)
    write_list(folder, ["vm.vmdk"], ["vm-000001.vmdk"], ["vm-000004.vmdk", "/vmfs/volumes/ds2/vm/data.vmdk"])
    assert told(found(path)) == [
        ("snapshot-list-mismatch", "warning", 0, "vm.vmsd"),
        ("snapshot-list-mismatch", "info", 0, "vm.vmsd"),
    ]
    assert "'s3' (uid 3) has the disk 'vm-000004.vmdk', which is not there" in found(path)[0].message


@pytest.mark.parametrize("states", [[], [["vm.vmdk"]]])
def test_links_that_the_list_does_not_name(folder: Path, states: list[list[str]]) -> None:
    """After a crash: the VM runs on deltas of which its list knows nothing, or not all."""
    path = machine(folder)
    write_list(folder, *states)
    expected = ["vm-000001.vmdk", "vm.vmdk"][: 2 - len(states)]
    mismatches = found(path)
    assert [(f.code, f.level) for f in mismatches] == [("snapshot-list-mismatch", "warning")] * len(expected)
    assert [f.message.partition(" ")[0] for f in mismatches] == expected


def test_hostile_names(folder: Path) -> None:
    """Messages stay short."""
    path = machine(folder)
    write_list(folder, ["vm.vmdk"], ["vm-000001.vmdk"], ["x" * 100_000, "../../../../etc/passwd", ".."])
    assert all(len(f.message) < 2000 for f in found(path))


def test_example_without_its_second_snapshot(tmp_path: Path) -> None:
    """The list of the example VM, cut: the link is told."""
    path = make_vm.make_vm(tmp_path / "web01")
    text = path.with_suffix(".vmsd").read_text().replace("web01-000001.vmdk", "web01-000007.vmdk")
    path.with_suffix(".vmsd").write_text(text)
    records = [(r.code, r.level, r.link) for r in Target.open(path).sesparse.findings()]
    assert records == [
        ("snapshot-list-mismatch", "warning", "web01-000002.vmdk"),
        ("snapshot-list-mismatch", "warning", "web01-000001.vmdk"),
    ]
