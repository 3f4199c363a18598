"""Deleted files by name: ext4 and XFS as Linux changed them, and the function ``sesparse.files`` on whole targets."""

from __future__ import annotations

import hashlib
import logging
import re
import struct
from typing import TYPE_CHECKING

import file_states
import make_vm
import pytest
import target_fixtures
from dissect.target import Target
from file_states import content
from sesparse_builder import ChainBuilder, ExtentBuilder, vmx
from target_fixtures import example_vm  # noqa: F401

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.extfs import inode as ext_inode
from dissect_sesparse.extfs import tables as ext_tables
from dissect_sesparse.files import file_systems as files
from dissect_sesparse.files import ntfs_files, walk
from dissect_sesparse.files.deleted import measure
from dissect_sesparse.files.file_systems import deleted_files
from dissect_sesparse.files.not_looked import MAX_WARNINGS, NotAllLookedAtError, Warnings
from dissect_sesparse.files.volumes import open_volumes

if TYPE_CHECKING:
    from pathlib import Path

    from dissect_sesparse.files.deleted import DeletedFile, Recovered

DELETED = {
    # path: depth of the newest link that has it, size
    "docs/report.bin": (2, 60_001),
    "deep/inner/leaf.bin": (1, 30_000),
    "middle.bin": (1, 45_000),
    "empty": (1, 0),
}
"""Not twice.bin, which has another name still, nor rename.txt."""
LOGGED = {"ext4": {"session.bin"}, "xfs": {"session.bin"}}
"""Made and deleted between two snapshots: the journals name it."""


CLOSED = {"ext4": "complete", "xfs": "likely"}
"""What a state that was closed makes of a file: nothing on an XFS shows that nobody had mounted it again."""


def told(path: Path, warnings: list[str] | None = None) -> dict[str, tuple[DeletedFile, Recovered]]:
    """The deleted files of a disk by their path; none is told twice."""
    found = {}
    warned: list[str] = []
    with open_chain(path) as chain:
        try:
            for file in deleted_files(chain, warned.append):
                assert file.path not in found
                found[file.path] = file, measure(file)
        except NotAllLookedAtError:
            assert warnings is not None
            assert warned, "what was not looked at is also logged"
    if warnings is None:
        assert warned == []
    else:
        warnings += warned
    return found


@pytest.fixture(scope="module", params=["ext4", "xfs"])
def kind(request: pytest.FixtureRequest) -> str:
    pytest.importorskip("dissect.extfs" if request.param == "ext4" else "dissect.xfs")
    return request.param


def test_deleted_since_a_snapshot(kind: str, folder: Path) -> None:
    found = told(file_states.build(kind, folder).write())
    assert set(found) == set(DELETED) | LOGGED[kind]
    for path, (depth, size) in DELETED.items():
        file, recovered = found[path]
        data = content(path.rpartition("/")[2], size)
        assert (file.link.depth, file.size, file.naming.by) == (depth, size, "snapshot")
        assert (recovered.size, recovered.state) == (size, CLOSED[kind] if size or kind != "xfs" else "none")
        if recovered.state == "none":  # that it was empty is not proven, and there is nothing to be likely
            continue
        assert recovered.digest is not None
        assert recovered.digest[2] == hashlib.sha256(data).hexdigest()
        assert file.filesystem == {"ext4": "ext", "xfs": "xfs"}[kind]
        assert file.inode
        assert file.mtime
        assert file.btime
        assert file.btime <= file.mtime


def test_state_that_was_not_closed(kind: str, folder: Path) -> None:
    """What only the journal has is not in what the file system says: then bytes are its own only likely, not proven."""
    path = file_states.build(kind, folder).write()
    flat = folder / "vm-flat.vmdk"
    data = bytearray(flat.read_bytes())
    if kind == "ext4":
        data[1024 + 0x60] |= 4  # s_feature_incompat: needs recovery
    else:
        start = file_states.KINDS[kind].offset
        log = (
            struct.unpack_from(">Q", data, start + 48)[0],
            data[start + 124],
            struct.unpack_from(">I", data, start + 84)[0],
        )
        group = log[0] >> log[1]
        at = start + 4096 * (group * log[2] + (log[0] & ((1 << log[1]) - 1)))
        size = 4096 * struct.unpack_from(">I", data, start + 96)[0]
        heads = [n for n in range(at, at + size, 512) if data[n : n + 4] == b"\xfe\xed\xba\xbe"]
        newest = max(heads, key=lambda n: data[n + 16 : n + 24])
        data[newest + 512 + 9] &= ~0x20  # no record of an unmount
    flat.write_bytes(data)
    file, recovered = told(path)["docs/report.bin"]
    assert (file.link.depth, recovered.state, recovered.size) == (2, "likely", 60_001)
    assert "is not replayed" in recovered.basis
    assert told(path)["middle.bin"][1].state == CLOSED[kind], "the state that was closed proves its own, but on XFS"


def test_logical_volume(folder: Path) -> None:
    """On LVM: the volume is not one piece of the disk, and has a name."""
    pytest.importorskip("dissect.extfs")
    found = told(file_states.build("ext4", folder, lvm=True).write())
    assert set(found) == set(DELETED) | LOGGED["ext4"]
    assert found.pop("session.bin")[1].state == "none", "where on the disk its blocks are is not known"
    assert all(recovered.state == "complete" for _, recovered in found.values())
    assert {(file.volume, file.place) for file, _ in found.values()} == {("vg0-data", None)}
    (folder / "vm.vmx").write_bytes(vmx(["vm-000002.vmdk"], "vm").encode())
    target = Target.open(folder / "vm.vmx")
    assert {str(record.path) for record in target.sesparse.files()} == {
        f"/{path}" for path in {*DELETED, *LOGGED["ext4"]}
    }


def test_deleted_mft_records_on_a_logical_volume(folder: Path) -> None:
    """Snapshots give their files; what only a deleted record names has no clusters that can be placed, and that is said."""
    warnings: list[str] = []
    found = told(file_states.build("ntfs", folder, lvm=True).write(), warnings)
    assert found["Docs/report.bin"][1].state == "complete"
    assert (found["session.bin"][1].size, found["session.bin"][1].state) == (0, "none")
    assert any("session.bin: its volume is not one piece" in warning for warning in warnings)


def test_bytes_that_cannot_be_read(kind: str, folder: Path) -> None:
    """A base that is cut off costs the bytes that were in it, and nothing else."""
    path = file_states.build(kind, folder).write()
    flat = folder / "vm-flat.vmdk"
    place = flat.read_bytes().index(b"report.bin 000010 ")
    with flat.open("r+b") as fh:
        fh.truncate(place)
    warnings: list[str] = []
    found = told(path, warnings)
    file, recovered = found.get("docs/report.bin", (None, None))
    if file is None:  # what lies behind it is needed to open the file system
        assert warnings
        return
    assert recovered is not None
    assert recovered.state == "partial"
    data = content("report.bin", 60_001)[: 10 * 512]
    assert recovered.digest is not None
    assert recovered.digest[2] == hashlib.sha256(data).hexdigest()


def test_file_system_that_is_gone(kind: str, folder: Path) -> None:
    """The guest wiped the head of its file system: all files of the snapshot are told, and that a volume is not opened."""
    chain = file_states.build(kind, folder)
    extent = chain.add_delta()
    first = file_states.KINDS[kind].offset // 4096
    for grain in range(first, first + 40):
        extent.unmap(grain)
    warnings: list[str] = []
    found = told(chain.write(), warnings)
    assert any("those of no kind of volume" in warning for warning in warnings)
    assert {"keep.txt", "again.bin", "docs/renamed.txt", "new.bin"} <= set(found)
    assert {found[path][0].link.depth for path in ("keep.txt", "again.bin")} == {1}
    for path in ("keep.txt", "again.bin"):
        digest = found[path][1].digest
        assert digest is not None
        assert digest[2] == hashlib.sha256(content(path, found[path][0].size)).hexdigest()
    assert found["docs/report.bin"][0].link.depth == 3, "and what was deleted before"


def test_where_not_all_live_files_are_known_none_is_called_deleted(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_states.build(kind, folder).write()
    monkeypatch.setattr(walk, "MAX_ENTRIES", 3)
    monkeypatch.setattr(ext_tables, "MAX_INODES", 3)
    warnings: list[str] = []
    assert told(path, warnings) == {}
    assert any("more than 3 " in warning for warning in warnings)
    assert any(re.search("nothing tells which (files )?are deleted", warning) for warning in warnings)


def test_folder_that_holds_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop ends, and as live files may lie where nobody went again, none is called deleted. Of ext the folders are not walked."""
    path = file_states.build("xfs", folder).write()
    key = {"key": 7, "sure": True, "made": None, "folds": False}
    monkeypatch.setattr(walk.Key, "__init__", lambda self, entry, info: vars(self).update(key))
    warnings: list[str] = []
    assert told(path, warnings) == {}
    assert any("is met again" in warning for warning in warnings)


def test_inodes_without_uses(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing tells an inode's uses apart, a file whose inode is in use is not told, and that is."""
    monkeypatch.setattr(walk, "_use", lambda entry, info: None)
    monkeypatch.setattr(ext_inode.ExtUse, "sure", False)
    warnings: list[str] = []
    found = told(file_states.build(kind, folder).write(), warnings)
    assert set(found) <= set(DELETED) | LOGGED[kind]
    missing = set(DELETED) - set(found)
    assert any("may be deleted or renamed" in warning for warning in warnings) or not missing


def test_serial_is_read(kind: str, folder: Path) -> None:
    with open_chain(file_states.build(kind, folder).write()) as chain:
        states = [state for depth in range(3) for state in open_volumes(chain, depth).states]
        assert len(states) == 3
        assert len({state.serial for state in states}) == 1
        assert states[0].serial[1] is not None
        assert len(files._same(iter(states))) == 1


def test_volume_without_a_file_system(folder: Path) -> None:
    chain = ChainBuilder(folder, 40960, {0: b"no file system" * 1000})
    chain.add_delta()
    warnings: list[str] = []
    assert told(chain.write(), warnings) == {}
    assert any("those of no kind of volume that is known" in warning for warning in warnings)


def test_warnings_are_bounded() -> None:
    got: list[str] = []
    warnings = Warnings(got.append, "vm.vmdk")
    for number in range(1000):
        warnings(f"number {number}")
    assert len(got) == MAX_WARNINGS + 1
    assert "the rest is not told" in got[-1]


# The function


@pytest.mark.parametrize("view", ["guest", "residual"])
def test_example(example_vm: Path, view: str) -> None:  # noqa: F811
    """Every deleted file of the example comes back by its name, and no live one is among them."""
    records = list(Target.open(f"sesparse://{example_vm}?view={view}").sesparse.files())
    told = {str(record.path): record for record in records}
    assert {path.lstrip("/"): r.digest.sha256 for path, r in told.items()} == make_vm.DELETED
    assert all(record.recovered == record.size for record in records)
    assert {path.lstrip("/"): r.state for path, r in told.items()} == {
        path: "likely" if path in make_vm.LIKELY else "complete" for path in make_vm.DELETED
    }
    assert not {record.digest.sha256 for record in records} & set(make_vm.LIVE.values())
    temporary = told["/Windows/Temp/kb5035849.tmp"]
    assert (temporary.named_by, temporary.link) == ("mft", "web01-000001.vmdk")
    assert temporary.mtime.isoformat().startswith("2024-03-11T20:15:00")
    assert temporary.btime <= temporary.mtime
    assert (temporary.filesystem, temporary.size) == ("ntfs", 64_000)


def test_three_snapshots(folder: Path) -> None:
    """Each state of the disk names files: the MFT record of customers.csv is another file's now, and that one is deleted."""
    path = make_vm.make_vm(folder / "web01", snapshots=3)
    records = {str(record.path).lstrip("/"): record for record in Target.open(path).sesparse.files()}
    deleted = make_vm.DELETED | make_vm.THIRD_DELETED
    assert {name: record.digest.sha256 for name, record in records.items()} == deleted
    assert not {record.digest.sha256 for record in records.values()} & {
        *make_vm.LIVE.values(),
        *make_vm.THIRD_LIVE.values(),
    }
    depths = {name: record.depth for name, record in records.items()}
    assert depths["Users/admin/Documents/payout.csv"] == 0
    assert depths["Users/admin/Documents/customers.csv"] == 1
    assert depths["Windows/Temp/kb5035849.tmp"] == 2
    inodes = [records[f"Users/admin/Documents/{name}.csv"].inode for name in ("payout", "customers")]
    assert inodes[0] == inodes[1]


def test_two_disks_and_one_that_is_broken(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Paths tell the volume; a file system that breaks costs no other its files."""
    vmx_path = target_fixtures.two_disks(folder, ExtentBuilder(target_fixtures.EXAMPLE_SECTORS))
    target = Target.open(vmx_path)
    records = list(target.sesparse.files())
    newest = target_fixtures.NEWEST
    assert {record.disk for record in records} == {newest, "a-bad.vmdk"}
    for disk in (newest, "a-bad.vmdk"):
        paths = {str(record.path) for record in records if record.disk == disk}
        assert len(paths) == len(make_vm.DELETED)
        mount = next(iter(paths)).split("/")[1]
        assert {path.removeprefix(f"/{mount}/") for path in paths} == set(make_vm.DELETED)
        assert target_fixtures.disk_of(target.fs.mounts[mount].volume) == disk

    real = ntfs_files.incarnations

    def broken(views: list, *more: object) -> object:
        if len(views) == len(make_vm.LINKS) + 1:  # the disk with one link more
            raise RecursionError("deep")
        return real(views, *more)

    monkeypatch.setattr(ntfs_files, "incarnations", broken)
    with caplog.at_level(logging.WARNING):
        left = list(target.sesparse.files())
    assert {record.disk for record in left} == {newest}
    assert any("deep" in message for message in target_fixtures.messages(caplog.records))


def test_volumes_have_paths_of_their_own(folder: Path) -> None:
    """Two disks with other file systems."""
    pytest.importorskip("dissect.extfs")
    for number, kind in enumerate(("ntfs", "ext4")):
        chain = file_states.build(kind, folder)
        other = ChainBuilder(folder, chain.capacity_sectors, chain.base, f"disk{number}")
        for link in chain.links[1:]:
            other.add_delta()
            other.links[-1].extent = link.extent
        other.write()
    (folder / "both.vmx").write_bytes(vmx(["disk0-000002.vmdk", "disk1-000002.vmdk"], "both").encode())
    target = Target.open(folder / "both.vmx")
    paths = {str(record.path) for record in target.sesparse.files()}
    assert {"/fs0/victim.bin", "/fs1/middle.bin"} <= paths
    assert all(path.startswith(("/fs0/", "/fs1/")) for path in paths)


def test_extent_alone(folder: Path) -> None:
    """Without its parents there is no file system that can be read, and that is said."""
    extent = ExtentBuilder(40960)
    extent.allocate(0, b"something")
    extent.write(folder / "alone-sesparse.vmdk")
    warnings: list[str] = []
    with open_chain(folder / "alone-sesparse.vmdk", unreadable="zero") as chain:
        with pytest.raises(NotAllLookedAtError, match="1 volume not looked at"):
            list(deleted_files(chain, warnings.append))
    assert warnings
