"""Deleted files of ext: what tables of inodes say against a full walk, and when a file was deleted, by Linux' own driver."""

from __future__ import annotations

import random
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import churn
import pytest
from churn_drivers import ext2, ext4, of_seed

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.extfs.inode import ext_inode
from dissect_sesparse.extfs.tables import ExtTable, written_between
from dissect_sesparse.files import file_systems
from dissect_sesparse.files.deleted import Budget, measure
from dissect_sesparse.files.ext_deletion import logged_deletion
from dissect_sesparse.files.ext_files import ext_deleted_files, ext_state
from dissect_sesparse.files.not_looked import Warnings
from dissect_sesparse.files.story import Deletion
from dissect_sesparse.files.volumes import open_volumes
from dissect_sesparse.time.time_window import TimeWindow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from churn_drivers import Driver

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.files.volumes import VolumeState


def history(folder: Path, driver: Driver, *steps: Callable[[Path], None]) -> Path:
    """A chain of a snapshot between each two steps."""
    if why := driver.missing():
        pytest.skip(why)
    image = folder / "partition.img"
    driver.make(image)
    host = churn.Host(driver, random.Random(1), folder / "vm")
    host._trims = host._gives = 0.0
    for number, step in enumerate(steps):
        if number:
            host.snapshot()
        with driver.mounted(image) as root:
            step(root)
        host.record(image, driver.free(image))
    return host.chain.write()


def states_of(chain: Chain) -> list[VolumeState]:
    return [state for depth in range(len(chain.links)) for state in open_volumes(chain, depth).states]


Found = "Callable[[Chain, list[VolumeState], Budget, Warnings], Iterator[DeletedFile]]"


def listed(chain: Chain, search: Found) -> list[tuple]:
    warnings = Warnings(pytest.fail, "disk")
    files = search(chain, states_of(chain), Budget(1 << 40, warnings), warnings)
    return [
        (file.link.depth, file.path, file.inode, file.size, file.mtime, file.btime, measure(file))
        for file in files
        if file.naming.by == "snapshot"
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed"), [("ext4", 1), ("ext4", 2), ("ext2", 1), ("ext2", 2)])
def test_as_a_full_walk(tmp_path: Path, name: str, seed: int) -> None:
    """What is read of the tables, and skipped where no link wrote, gives what a walk through all folders gives, in its order."""
    driver = of_seed(name, seed)
    if why := driver.missing():
        pytest.skip(why)
    driver.features -= {"live"}  # a walk believes names that no inode of the same moment has
    path, _, _ = churn.churn(driver, seed, tmp_path, 240, 4)
    with open_chain(path) as chain:
        walked = listed(chain, file_systems._gone)
        assert len(walked) > 10
        assert listed(chain, ext_deleted_files) == walked


def many(root: Path) -> None:
    for number in range(3000):
        folder = root / f"folder {number % 30}" / "inner"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file {number}").write_bytes(b"%d" % number)


@pytest.mark.slow
def test_what_no_link_wrote_is_not_read(tmp_path: Path) -> None:
    """The work goes with what was written: three files deleted of 3000, some inodes beside theirs, and a few folders."""

    def one(root: Path) -> None:
        for number in (7, 1500, 2999):
            (root / f"folder {number % 30}" / "inner" / f"file {number}").unlink()

    with open_chain(history(tmp_path, ext4(), many, one, lambda root: (root / "new").touch())) as chain:
        states = [ext_state(state) for state in states_of(chain)]
        table, counts, folders = ExtTable(states[0]), [], []
        for newer, state in zip(states, states[1:]):
            table = ExtTable(state, table, written_between(chain, newer, state))
            counts.append(sum(high - low for parts in table.read.values() for low, high in parts))
            folders.append(len(list(table.folders_read())))
        assert len(list(table.folders())) == 62  # all of them are known, with lost+found
        assert max(counts) < 150
        assert max(folders) < 30
        listed_paths = [each[1] for each in listed(chain, ext_deleted_files)]
        assert sorted(listed_paths) == sorted(f"folder {n % 30}/inner/file {n}" for n in (7, 1500, 2999))


def utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


@pytest.mark.slow
@pytest.mark.parametrize("driver", [ext4, ext2])
def test_when_it_was_deleted(tmp_path: Path, driver: Callable[[], Driver]) -> None:
    """By the inode that was freed, in a state after that; of one that is used again nothing says it."""
    moments: list[float] = []

    def before(root: Path) -> None:
        for name in "AB":
            (root / name).write_bytes(name.encode() * 5000)

    def after(root: Path) -> None:
        moments.append(time.time())
        for name in "AB":
            (root / name).unlink()
        moments.append(time.time())
        (root / "new").touch()  # gets the first of the free inodes, which is that of A

    with open_chain(history(tmp_path, driver(), before, after, lambda root: None)) as chain:
        warnings = Warnings(pytest.fail, "disk")
        found = {
            file.path: file.deletion
            for file in ext_deleted_files(chain, states_of(chain), Budget(1 << 40, warnings), warnings)
        }
    assert found["A"].logged is None
    assert found["A"].basis.startswith("by the snapshots: after the state of ")
    deletion = found["B"]
    assert deletion.logged is not None
    assert int(moments[0]) <= deletion.logged.timestamp() <= moments[1]
    assert "its inode was freed" in deletion.basis
    assert deletion.window.before is not None
    assert deletion.window.before == deletion.logged + timedelta(seconds=1, milliseconds=16)
    assert deletion.window.after is not None
    assert deletion.window.after.timestamp() <= moments[0]


def freed(dtime: int, links: int = 0) -> bytes:
    raw = bytearray(256)
    raw[:2] = (0o100644).to_bytes(2, "little")
    raw[20:24] = dtime.to_bytes(4, "little")
    raw[26:28] = links.to_bytes(2, "little")
    return bytes(raw)


@pytest.mark.parametrize(
    ("dtime", "links", "when"),
    [(1_700_000_000, 0, 1_700_000_000), (4096, 0, None), (4097, 0, 4097), (0, 0, None), (1_700_000_000, 1, None)],
)
def test_link_of_the_list_of_orphans(dtime: int, links: int, when: int | None) -> None:
    """What may be the number of an inode is no time, and what has a name was not freed."""
    assert ext_inode(12, freed(dtime, links)).freed_at(4096) == when


def test_clock_that_is_not_that_of_the_host() -> None:
    """A time outside of the window leaves it as it is, and that is said."""
    now = time.time()
    window = TimeWindow(*(utc(now + hours * 3600) for hours in (-1, 1)))
    deletion = logged_deletion(Deletion(window, None, "by the snapshots"), 0, int(now) + 7200, "vm.vmdk")
    assert deletion.window == window
    assert deletion.logged == utc(int(now) + 7200)
    assert "not between the snapshots" in deletion.basis
    inside = logged_deletion(Deletion(window, None, "by the snapshots"), int(now - 60) * 10**9, int(now), "vm.vmdk")
    assert inside.window == TimeWindow(utc(int(now - 60)), utc(int(now)) + timedelta(seconds=1, milliseconds=16))
