"""Deleted files of btrfs as distributions lay it out, by Linux's own driver: subvolumes that are mounted one by one, others
below them, and snapshots of all that."""

from __future__ import annotations

import hashlib
import random
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import churn
import pytest
from churn_drivers import Btrfs, run
from dissect.target import Target
from dissect.target.filesystems.btrfs import BtrfsFilesystem
from sesparse_builder import vmx

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.files import btrfs_subvolumes
from dissect_sesparse.files.deleted import measure
from dissect_sesparse.files.file_systems import deleted_files
from dissect_sesparse.files.walk import entry_at

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 60_000


def content(name: str) -> bytes:
    return b"".join(f"{name} {number:06d} ".encode().ljust(512, b".") for number in range(-(-SIZE // 512)))[:SIZE]


class Guest:
    """A guest with btrfs, as its administrator changes it."""

    def __init__(self, folder: Path):
        self.driver = Btrfs()
        if why := self.driver.missing():
            pytest.skip(why)
        self.image, self.folder = folder / "partition.img", folder
        self.driver.make(self.image)
        self.host = churn.Host(self.driver, random.Random(1), folder / "vm")
        self.host._trims = self.host._gives = 0.0

    @contextmanager
    def mounted(self, *subvolumes: str) -> Iterator[list[Path]]:
        """Mount subvolumes one by one; an empty name is what holds them all."""
        loop = run("losetup", "-f", "--show", self.image).decode().strip()
        mounts: list[Path] = []
        try:
            for name in subvolumes:
                folder = Path(tempfile.mkdtemp(dir=self.folder))
                run("mount", "-t", "btrfs", "-o", f"subvol={name}" if name else "subvolid=5", loop, folder)
                mounts.append(folder)
            yield mounts
        finally:
            for folder in mounts:
                run("umount", folder)
            run("losetup", "-d", loop)

    def snapshot(self) -> None:
        """The host takes one."""
        self.host.record(self.image)
        self.host.snapshot()

    def end(self) -> Path:
        """The newest descriptor."""
        self.host.record(self.image)
        return self.host.chain.write()


def listed(path: Path) -> dict[str, tuple[str, str | None, str]]:
    """State, SHA-256 and what names it of each deleted file; nothing may be left out."""
    found = {}
    with open_chain(path) as chain:
        for file in deleted_files(chain, pytest.fail):
            assert file.path not in found
            assert file.naming.by == "snapshot"
            recovered = measure(file)
            found[file.path] = recovered.state, recovered.digest and recovered.digest[2], file.naming.basis
    return found


def made(root: Path, home: Path) -> None:
    (root / "etc").mkdir()
    for path in (root / "etc/gone.conf", root / "etc/keep.conf", home / "user/a.bin", home / "user/keep.bin"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content(path.name))
    run("btrfs", "subvolume", "create", home / "user/nested")
    (home / "user/nested/n.bin").write_bytes(content("n.bin"))
    (home / "user/nested/keep.bin").write_bytes(content("keep.bin"))


def take_snapshots(top: Path, *names: str) -> None:
    """The guest's own, of its subvolume @home: without the subvolume below that one."""
    if not (top / "@snapshots").exists():
        run("btrfs", "subvolume", "create", top / "@snapshots")
    for name in names:
        run("btrfs", "subvolume", "snapshot", top / "@home", top / "@snapshots" / name)
        assert list((top / "@snapshots" / name / "user/nested").iterdir()) == [], "Linux shows an empty folder there"


@pytest.mark.slow
@pytest.mark.parametrize("default", [False, True])
def test_subvolumes_that_are_mounted_one_by_one(tmp_path: Path, default: bool) -> None:
    """Three files, each in a subvolume of its own, one of which lies in another and is named in snapshots of that."""
    guest = Guest(tmp_path)
    with guest.mounted("@", "@home") as (root, home):
        made(root, home)
        if default:
            run("btrfs", "subvolume", "set-default", root)
    with guest.mounted("") as (top,):
        take_snapshots(top, "one")
    guest.snapshot()
    with guest.mounted("@", "@home") as (root, home):
        for path in (root / "etc/gone.conf", home / "user/a.bin", home / "user/nested/n.bin"):
            path.unlink()
    found = listed(guest.end())
    assert set(found) == {"@/etc/gone.conf", "@home/user/a.bin", "@home/user/nested/n.bin"}
    for path, (state, digest, _) in found.items():
        assert (state, digest) == ("complete", hashlib.sha256(content(path.rpartition("/")[2])).hexdigest())


def test_nested_subvolume_that_is_gone_while_a_snapshot_names_it(tmp_path: Path) -> None:
    """dissect lists nothing behind such an entry; what lies there is live."""
    guest = Guest(tmp_path)
    with guest.mounted("@", "@home") as (root, home):
        made(root, home)
        (home / "user/z.bin").write_bytes(content("z.bin"))
    with guest.mounted("") as (top,):
        take_snapshots(top, "one")
    guest.snapshot()
    with guest.mounted("") as (top,):
        run("btrfs", "subvolume", "delete", "-c", top / "@home/user/nested")
        run("btrfs", "subvolume", "sync", top)
    found = listed(guest.end())
    assert set(found) == {"@home/user/nested/n.bin", "@home/user/nested/keep.bin"}
    assert all("subvolume that has it there was deleted" in basis for _, _, basis in found.values())


def test_snapshot_of_the_guest_that_is_deleted(tmp_path: Path) -> None:
    """What only it had is deleted, once; what another subvolume has unchanged is not."""
    guest = Guest(tmp_path)
    with guest.mounted("@", "@home") as (root, home):
        made(root, home)
        (home / "user/old.bin").write_bytes(content("old.bin"))
        (home / "user/changed.bin").write_bytes(content("before"))
    with guest.mounted("") as (top,):
        take_snapshots(top, "one", "two", "stays")
        (top / "@home/user/old.bin").unlink()
        (top / "@snapshots/stays/user/old.bin").unlink()
        for name in ("@home", "@snapshots/stays"):
            (top / name / "user/changed.bin").write_bytes(content("after"))
    guest.snapshot()
    with guest.mounted("") as (top,):
        (top / "@home/user/a.bin").unlink()
        for name in ("one", "two"):
            run("btrfs", "subvolume", "delete", "-c", top / "@snapshots" / name)
    found = listed(guest.end())
    assert set(found) == {"@home/user/a.bin", "@snapshots/one/user/old.bin", "@snapshots/one/user/changed.bin"}
    assert found["@snapshots/one/user/changed.bin"][:2] == ("complete", hashlib.sha256(content("before")).hexdigest())


def test_subvolume_whose_number_is_used_again(tmp_path: Path) -> None:
    """Another snapshot of the same files has number, inodes and generations of the one that was deleted."""
    guest = Guest(tmp_path)
    with guest.mounted("@home") as (home,):
        (home / "a.bin").write_bytes(content("a.bin"))
    numbers = []
    for name in ("one", "two"):
        with guest.mounted("") as (top,):
            take = ("btrfs", "subvolume", "snapshot", top / "@home", top / name)
            run(*take)
            numbers.append(run("btrfs", "inspect-internal", "rootid", top / name))
            if name == "one":
                (top / "@home/a.bin").write_bytes(content("later"))
        if name == "one":
            guest.snapshot()
            with guest.mounted("") as (top,):
                run("btrfs", "subvolume", "delete", "-c", top / "one")
                run("btrfs", "subvolume", "sync", top)
    assert numbers[0] == numbers[1], "the trap is set"
    assert set(listed(guest.end())) == {"one/a.bin"}


@pytest.mark.slow
def test_paths_are_those_of_the_guest(tmp_path: Path) -> None:
    """The target mounts what the guest's fstab says; what it does not mount is named from the top."""
    guest = Guest(tmp_path)
    with guest.mounted("@", "@home") as (root, home):
        made(root, home)
        for name in ("var", "opt", "home", "usr/lib", "boot"):
            (root / name).mkdir(parents=True)
        (root / "etc/os-release").write_text("ID=fedora\nNAME=Fedora\n")
        (root / "etc/hostname").write_text("guest\n")
        uuid = run("blkid", "-p", "-s", "UUID", "-o", "value", guest.image).decode().strip()
        mounts = (("/", "@"), ("/home", "@home"))
        lines = [f"UUID={uuid} {mount} btrfs subvol={name},compress=zstd:1 0 0\n" for mount, name in mounts]
        (root / "etc/fstab").write_text("".join(lines))
    with guest.mounted("") as (top,):
        (top / "outside.bin").write_bytes(content("outside.bin"))
    guest.snapshot()
    with guest.mounted("") as (top,):
        for name in ("@/etc/gone.conf", "@home/user/a.bin", "@home/user/nested/n.bin", "outside.bin"):
            (top / name).unlink()
    path = guest.end()
    (path.parent / "vm.vmx").write_bytes(vmx([path.name], "vm").encode())
    target = Target.open(path.parent / "vm.vmx")
    assert target.os == "linux"
    paths = {str(record.path) for record in target.sesparse.files()}
    assert {"/etc/gone.conf", "/home/user/a.bin", "/home/user/nested/n.bin"} <= paths
    (outside,) = paths - {"/etc/gone.conf", "/home/user/a.bin", "/home/user/nested/n.bin"}
    assert outside.endswith("/outside.bin")
    assert outside.startswith(("/$fs$/", "/$volumes$/")), "not where the guest shows something else"


def test_entries_of_subvolumes(tmp_path: Path) -> None:
    """A path below an entry that a snapshot has in the place of a subvolume leads nowhere; a loop of subvolumes ends."""
    guest = Guest(tmp_path)
    with guest.mounted("@", "@home") as (root, home):
        made(root, home)
    with guest.mounted("") as (top,):
        take_snapshots(top, "one")
    with guest.image.open("rb") as fh:
        fs = BtrfsFilesystem(fh).open_subvolume(subvolid=5)
        assert entry_at(fs, "/@home/user/nested/n.bin").open().read() == content("n.bin")
        assert fs.get("@snapshots/one/user/nested/n.bin").open().read() == content("n.bin"), "what dissect shows there"
        with pytest.raises(KeyError):
            entry_at(fs, "/@snapshots/one/user/nested/n.bin")
        nested = entry_at(fs, "/@home/user/nested").entry.subvolume
        assert btrfs_subvolumes.path_of_subvolume(nested) == "@home/user/nested"
        assert btrfs_subvolumes.path_of_subvolume(fs.subvolume) == ""


def test_subvolume_in_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root tree that says so: the path of a subvolume is not climbed for ever."""
    guest = Guest(tmp_path)
    with guest.image.open("rb") as fh:
        fs = BtrfsFilesystem(fh)
        subvolume = fs.open_subvolume(subvol="@").subvolume
        real = fs.btrfs._root_tree.find

        def looped(number: int, kind: int) -> tuple:
            item, data = real(number, kind)
            if kind == btrfs_subvolumes.c_btrfs.BTRFS_ROOT_BACKREF_KEY:
                item.key.offset = number
            return item, data

        monkeypatch.setattr(fs.btrfs._root_tree, "find", looped)
        with pytest.raises(ValueError, match="more than 255 folders deep"):
            btrfs_subvolumes.path_of_subvolume(subvolume)
