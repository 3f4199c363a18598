"""Files whose clusters others had, by the real driver: named cases, and a short run of ``churn.py``."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import churn
import pytest
from churn_drivers import Btrfs, Linux, Ntfs, ext2, of_seed, run
from dissect.target.filesystems.btrfs import BtrfsFilesystem

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.files.deleted import measure
from dissect_sesparse.files.file_systems import deleted_files
from dissect_sesparse.files.walk import entry_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from churn_drivers import Driver

    from dissect_sesparse.files.deleted import DeletedFile, Recovered

SIZE = 60_000


def content(name: str) -> bytes:
    return b"".join(f"{name} {number:06d} ".encode().ljust(512, b".") for number in range(-(-SIZE // 512)))[:SIZE]


class Case:
    """A guest on a full volume with one delta over a base, and what is told of its files."""

    def __init__(
        self,
        folder: Path,
        before: Callable[[Path], None],
        after: Callable[[Path], None],
        driver: Driver | None = None,
        live: bool = False,
    ):
        driver = driver or Ntfs()
        if why := driver.missing():
            pytest.skip(why)
        image = folder / "partition.img"
        driver.make(image)
        host = churn.Host(driver, random.Random(1), folder / "vm")
        host._trims = host._gives = 0.0
        with driver.mounted(image) as root:
            before(root)
            if live:
                run("sync", "-f", root)
                host.record(image)
        if not live:
            host.record(image, driver.free(image))
        host.snapshot()
        with driver.mounted(image) as root:
            after(root)
        host.record(image, driver.free(image))
        self.told: dict[tuple[str, str], tuple[DeletedFile, Recovered, bytes]] = {}
        with open_chain(host.chain.write()) as chain:
            for file in deleted_files(chain, pytest.fail):
                data = bytearray(file.size)
                told = measure(
                    file, lambda p, data=data: data.__setitem__(slice(p.offset, p.offset + len(p.data)), p.data)
                )
                self.told[file.path, file.naming.by] = file, told, bytes(data)


def fill(root: Path) -> None:
    """Take all that is free."""
    with (root / "fill").open("ab", buffering=0) as fh:
        try:
            while fh.write(bytes(4096)):
                pass
        except OSError:
            pass


def made(root: Path) -> None:
    """A file B of no bytes, whose record comes before that of A, some more, and a folder; A, and no more room."""
    for number in range(60):
        (root / f"empty{number}").touch()
    (root / "folder").mkdir()
    (root / "B").touch()
    (root / "A").write_bytes(content("A"))
    fill(root)


def record_reused(root: Path) -> None:
    """(a) A's clusters go to B, B is deleted, and its record goes to a small file: nothing names B any more."""
    (root / "A").unlink()
    (root / "B").write_bytes(content("B"))
    assert (root / "B").stat().st_size == SIZE, "B has all that A had"
    record = (root / "B").stat().st_ino
    (root / "B").unlink()
    for number in range(200):  # which free record is taken is the driver's to choose; B's comes before A's
        (root / f"small{number}").write_bytes(b"resident")
        if (root / f"small{number}").stat().st_ino == record:
            return
    pytest.fail("the driver did not use the record again")


def cut_to_nothing(root: Path) -> None:
    """(b) A's clusters go to B, which lives, and is then cut to nothing."""
    (root / "A").unlink()
    (root / "B").write_bytes(content("B"))
    assert (root / "B").stat().st_size == SIZE
    os.truncate(root / "B", 0)


def index_blocks(root: Path) -> None:
    """(c) A's clusters go to the index of a folder, which is deleted."""
    (root / "A").unlink()
    for number in range(40):
        (root / f"empty{number}").rename(root / "folder" / f"{'n' * 200}{number}")
    for path in sorted((root / "folder").iterdir()):
        path.unlink()
    (root / "folder").rmdir()


@pytest.mark.slow
@pytest.mark.parametrize("since", ["base", "delta"])
@pytest.mark.parametrize("steals", [record_reused, cut_to_nothing, index_blocks])
def test_clusters_that_others_had(tmp_path: Path, steals: Callable[[Path], None], since: str) -> None:
    """A's record is left, and its clusters are free; nothing names who wrote there. That is no proof."""
    if since == "base":
        case = Case(tmp_path, made, steals)
    else:
        case = Case(
            tmp_path, lambda root: (root / "keep").write_bytes(b"keep"), lambda root: (made(root), steals(root))
        )
    for (path, _), (_, told, data) in case.told.items():
        assert path != "A" or told.state != "complete" or data == content("A")
    if since == "base":  # the snapshot has A
        file, told, data = case.told["A", "snapshot"]
        assert (file.link.depth, told.state, data) == (1, "complete", content("A"))
    else:
        _, told, data = case.told["A", "mft"]
        assert told.state in ("likely", "partial")
        assert told.likely
        assert data != content("A"), "the trap is set"


def test_times_set_back(tmp_path: Path) -> None:
    """(d) Overwritten since the snapshot, with all times set back, and deleted: the snapshot's bytes are the snapshot's."""

    def after(root: Path) -> None:
        before, record = (root / "A").stat(), driver.times(root / "A")
        with (root / "A").open("r+b") as fh:
            fh.write(content("new"))
        driver.set_back(root / "A", before, None)
        assert (root / "A").stat().st_mtime_ns == before.st_mtime_ns
        if everything:
            driver.set_back(root / "A", before, record)
        (root / "A").unlink()

    driver = Ntfs()
    for everything in (False, True):
        folder = tmp_path / str(everything)
        folder.mkdir()
        case = Case(folder, made, after)
        file, told, data = case.told["A", "snapshot"]
        assert (file.link.depth, told.state, data) == (1, "complete", content("A"))
        if ("A", "mft") in case.told:
            _, told, data = case.told["A", "mft"]
            assert (told.state, data) == ("likely", content("new"))


def test_untouched_since_the_snapshot(tmp_path: Path) -> None:
    """What proves: nobody wrote there. Renamed and with other times, it is the snapshot's content all the same."""

    def after(root: Path) -> None:
        (root / "A").rename(root / "moved")
        os.utime(root / "moved", (1, 1))
        (root / "moved").unlink()

    case = Case(tmp_path, made, after)
    file, told, data = case.told["moved", "mft"]
    assert (file.link.depth, told.state, data) == (0, "complete", content("A"))
    assert "nobody wrote there since" in told.basis


def folder_with_record(root: Path, record: int) -> Path:
    """Make folders until one has a certain MFT record; the others stay, and keep theirs."""
    for number in range(200):
        folder = root / f"{record}-{len(list(root.iterdir()))}-{number}"
        folder.mkdir()
        if folder.stat().st_ino == record:
            return folder
    pytest.fail("the driver did not use the record again")


def test_a_folder_whose_record_another_had(tmp_path: Path) -> None:
    """The base has the record of a deleted folder with the number that the next folder of that record got."""
    records = []

    def before(root: Path) -> None:
        (root / "first").mkdir()
        records.append((root / "first").stat().st_ino)
        (root / "first").rmdir()

    def after(root: Path) -> None:
        second = folder_with_record(root, records[0])
        (second / "file").write_bytes(b"of the second folder")
        (second / "file").unlink()
        second.rmdir()
        folder_with_record(root, records[0]).rmdir()

    case = Case(tmp_path, before, after)
    (path,) = (path for path, _ in case.told if path.endswith("/file"))
    assert path == f"<folder {records[0]:#x} is gone>/file"


@pytest.mark.slow
def test_names_in_a_record_that_another_file_got(tmp_path: Path) -> None:
    """A history in which a file's names were in a second record, and that went to another file: its names are not ours."""
    driver = Ntfs()
    if why := driver.missing():
        pytest.skip(why)
    path, truth, _ = churn.churn(driver, 311, tmp_path, 500, 3)
    found = churn.judge(path, truth, driver)
    assert found["complete"] > 100
    assert not {kind: count for kind, count in found.items() if kind.startswith("foreign")}


def write_a(root: Path) -> None:
    (root / "A").write_bytes(content("A"))


def delete_a(root: Path) -> None:
    (root / "A").unlink()


@pytest.mark.parametrize("live", [False, True])
def test_ext_without_a_journal(tmp_path: Path, live: bool) -> None:
    """There is no journal that could have to be replayed: that it is not marked as valid shows that it is in use."""
    _, recovered, data = Case(tmp_path, write_a, delete_a, ext2(), live).told["A", "snapshot"]
    assert (recovered.state, data) == ("likely" if live else "complete", content("A"))
    assert not live or "its file system was in use" in recovered.basis


def test_holes_of_a_file_without_extents(tmp_path: Path) -> None:
    """dissect has the first block of the volume there, and takes it for a list of blocks."""

    def before(root: Path) -> None:
        write_a(root)
        for name, size in (("tail", SIZE + 4096), ("double", 6 << 20)):
            (root / name).write_bytes(content(name))
            os.truncate(root / name, size)

    def after(root: Path) -> None:
        for name in ("A", "tail", "double"):
            (root / name).unlink()

    driver = Linux("ext4", 16 << 20, ("mkfs.ext4", "-q", "-b", 4096, "-O", "^has_journal,^extent,^64bit"))
    case = Case(tmp_path, before, after, driver)
    assert case.told["A", "snapshot"][1].state == "complete"
    for name in ("tail", "double"):
        _, recovered, _ = case.told[name, "snapshot"]
        assert recovered.state == "none"
        assert "holes of a file that has no extents" in recovered.basis


def test_btrfs_that_was_in_use(tmp_path: Path) -> None:
    """What a superblock names is never overwritten, but for files that are."""

    def before(root: Path) -> None:
        write_a(root)
        (root / "B").touch()
        run("chattr", "+C", root / "B")
        (root / "B").write_bytes(content("B"))

    def after(root: Path) -> None:
        for name in "AB":
            (root / name).unlink()

    case = Case(tmp_path, before, after, Btrfs(), live=True)
    assert [case.told[name, "snapshot"][1].state for name in "AB"] == ["complete", "likely"]
    assert "overwritten in place" in case.told["B", "snapshot"][1].basis


def test_btrfs_names_of_one_hash(tmp_path: Path) -> None:
    """dissect gives the first of two files whose names have the same hash; the names are from a search."""
    driver = Btrfs()
    if why := driver.missing():
        pytest.skip(why)
    image = tmp_path / "image"
    driver.make(image)
    with driver.mounted(image) as root:
        for name in ("799b8396", "fb5d3199"):
            (root / "@" / name).write_text(name)
    with image.open("rb") as fh:
        fs = BtrfsFilesystem(fh)
        assert fs.get("@/fb5d3199").open().read() == b"799b8396", "the trap is set"
        for name in ("799b8396", "fb5d3199"):
            assert entry_at(fs.open_subvolume(subvolid=5), f"/@/{name}").open().read() == name.encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seed"), [("ntfs", 1), ("ntfs", 3), ("ext4", 1), ("ext2", 1), ("xfs", 1), ("btrfs", 1), ("btrfs", 4)]
)
def test_random_churn(tmp_path: Path, name: str, seed: int) -> None:
    """No foreign byte in what is proven. ``python tests/churn.py`` does the same, longer."""
    driver = of_seed(name, seed)
    if why := driver.missing():
        pytest.skip(why)
    path, truth, did = churn.churn(driver, seed, tmp_path, 200, 2)
    found = churn.judge(path, truth, driver)
    assert sum(did.values()) >= 198
    # Snapshots of a mounted volume prove nothing; and only NTFS names what no snapshot has.
    assert found["complete"] + found["likely"] > (10 if name == "ntfs" else 3)
    assert not {kind: count for kind, count in found.items() if kind.startswith("foreign")}
