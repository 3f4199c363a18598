"""ext4 with inline data, made by Linux: what lies within inodes is read right, and deleted files of it are whole."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import churn
import pytest
from churn_drivers import Linux
from dissect.target.filesystems.extfs import ExtFilesystem

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.extfs.inline import read_inline_data
from dissect_sesparse.extfs.inode import ExtError, ext_inode, inline_content
from dissect_sesparse.files.changed_files import changed_files
from dissect_sesparse.files.changed_ranges import ChangedRanges
from dissect_sesparse.files.deleted import measure
from dissect_sesparse.files.file_systems import deleted_files
from dissect_sesparse.time.changes import DiskState, changes

if TYPE_CHECKING:
    from pathlib import Path

SIZES = (0, 1, 59, 60, 61, 100, 140, 300, 3000, 9000)
FOLDERS = (0, 1, 2, 4, 7, 30)
"""How many files: of 4 the entries no longer fit into ``i_block``, of 30 they have a block."""


def inline_driver(inode: int) -> Linux:
    return Linux("ext4", 16 << 20, ("mkfs.ext4", "-q", "-b", 1024, "-O", "inline_data", "-I", inode))


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def before(root: Path) -> None:
    for size in SIZES:
        (root / f"size-{size}").write_bytes(random.Random(size).randbytes(size))
    for count in FOLDERS:
        (root / f"folder-{count}" / "inner").mkdir(parents=True)
        for number in range(count):
            (root / f"folder-{count}" / f"name {number}").write_bytes(f"{count} {number}".encode())
    (root / "folder-2" / "link").symlink_to("x" * 50)
    (root / "folder-2" / "long").symlink_to("y" * 100)


@pytest.mark.slow
@pytest.mark.parametrize("inode", [256, 512])
def test_inline_data(tmp_path: Path, inode: int) -> None:
    driver = inline_driver(inode)
    if why := driver.missing():
        pytest.skip(why)
    image = tmp_path / "partition.img"
    driver.make(image)
    host = churn.Host(driver, random.Random(1), tmp_path / "vm")
    host._trims = 0.0
    with driver.mounted(image) as root:
        before(root)
        then = tree(root)
    host.record(image, driver.free(image))
    with image.open("rb") as fh:
        fs = ExtFilesystem(fh)
        assert "name 3" not in [entry.name for entry in fs.get("folder-4").scandir()], "the trap is set"
        read_inline_data(fs)
        assert {path: fs.get(path).open().read() for path in then} == then
        assert {entry.name for entry in fs.get("folder-7").scandir()} == {"inner", *(f"name {n}" for n in range(7))}
        assert fs.get("folder-2/long").readlink() == "y" * 100
    host.snapshot()
    with driver.mounted(image) as root:
        for path in list(then)[::2]:
            (root / path).unlink()
        (root / "folder-2" / "name 0").rename(root / "folder-4" / "inner" / "moved")
        now = tree(root)
    host.record(image, driver.free(image))
    with open_chain(host.chain.write()) as chain:
        found = {}
        for file in deleted_files(chain, pytest.fail):
            data = bytearray(file.size)
            state = measure(
                file, lambda p, data=data: data.__setitem__(slice(p.offset, p.offset + len(p.data)), p.data)
            )
            found[file.path] = bytes(data), state.state
        gone = {path for path in then if path not in now} - {"folder-2/name 0"}
        assert found == {path: (then[path], "complete") for path in gone}
        states, ranges = (DiskState(chain, 1), DiskState(chain, 0)), ChangedRanges()
        for change in changes(*states):
            ranges.add(change)
        told = {file.path: file.state for file in changed_files(*states, ranges, pytest.fail)}
        moved = {"folder-4/inner/moved": "renamed"} if "folder-2/name 0" in then else {}
        assert {path: what for path, what in told.items() if what != "gone"} == moved


def test_inline_data_that_is_not_all_there() -> None:
    """An inode that says more than it has gives no short file."""
    raw = bytearray(256)
    raw[:2] = (0o100644).to_bytes(2, "little")
    raw[4:8] = (61).to_bytes(4, "little")
    with pytest.raises(ExtError, match="61 bytes of inline data, of which it has 60"):
        inline_content(ext_inode(12, bytes(raw)))
