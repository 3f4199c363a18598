"""What the log and the freed inodes of XFS say of deleted files, by Linux's own driver."""

from __future__ import annotations

import io
import os
import random
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import churn
import pytest
from churn_drivers import of_seed, run, xfs
from dissect.target.filesystems.xfs import XfsFilesystem

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.files.deleted import measure
from dissect_sesparse.files.file_systems import deleted_files
from dissect_sesparse.files.volumes import open_volumes
from dissect_sesparse.xfs import history as history_module
from dissect_sesparse.xfs.blocks import FolderBlocks
from dissect_sesparse.xfs.history import Use, XfsHistory
from dissect_sesparse.xfs.items import BlockPieces
from dissect_sesparse.xfs.log import Log, LogReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dissect_sesparse.files.deleted import DeletedFile

SIZE = 30_000


def content(name: str) -> bytes:
    return b"".join(f"{name} {number:06d} ".encode().ljust(512, b".") for number in range(-(-SIZE // 512)))[:SIZE]


def history(folder: Path, *periods: Callable[[Path], None], live: bool = False) -> Path:
    """A guest does one after the other, with a snapshot in between; the newest descriptor.

    Args:
        folder: Where to write.
        *periods: Get the root of the file system.
        live: Whether the last one ends while it is still mounted.
    """
    driver = xfs()
    if why := driver.missing():
        pytest.skip(why)
    image = folder / "partition.img"
    driver.make(image)
    host = churn.Host(driver, random.Random(1), folder / "vm")
    host._trims = host._gives = 0.0
    for number, period in enumerate(periods):
        last = number == len(periods) - 1
        with driver.mounted(image) as root:
            period(root)
            if last and live:
                host.record(image)
        if not (last and live):
            host.record(image)
        if not last:
            host.snapshot()
    return host.chain.write()


def listed(path: Path) -> dict[str, DeletedFile]:
    found: dict[str, DeletedFile] = {}

    def warn(message: str) -> None:
        assert "more deleted files without a name" in message

    with open_chain(path) as chain:
        for file in deleted_files(chain, warn):
            assert file.path not in found
            if file.naming.by == "journal":
                recovered = measure(file)
                assert (recovered.state, recovered.size, recovered.digest) == ("none", 0, None)
            found[file.path] = file
    return found


def sync(root: Path) -> None:
    """Write the log: what happened until now is one of its transactions."""
    run("sync", "-f", root)


def made(root: Path) -> None:
    for name in ("small", "large"):
        (root / name).mkdir()
    for number in range(120):  # its names take a block of their own
        (root / "large" / f"of some length {number:04d}").touch()
    for name in ("keep", "old", "small/old"):
        (root / name).write_bytes(content(name))


def between(root: Path) -> None:
    """Files that come and go between two snapshots: in a small folder, in a large one, in one that goes too, renamed."""
    (root / "new").mkdir()
    for name in ("small/one", "large/two", "new/three", "four"):
        (root / name).write_bytes(content(name))
    sync(root)
    (root / "four").rename(root / "small/renamed")
    sync(root)
    for name in ("small/one", "large/two", "new/three", "small/renamed", "old"):
        (root / name).unlink()
    (root / "new").rmdir()
    (root / "live").write_bytes(content("live"))


def nothing(root: Path) -> None:
    (root / "last").touch()


def test_made_and_deleted_between_two_snapshots(tmp_path: Path) -> None:
    """The log names them, with time and story; and says when a file was deleted that a snapshot has."""
    started = datetime.now(timezone.utc)
    found = listed(history(tmp_path, made, between, nothing))
    ended = datetime.now(timezone.utc)
    assert {path for path, file in found.items() if file.naming.by == "journal"} == {
        "small/one", "large/two", "new/three", "small/renamed",
    }  # fmt: skip
    assert set(found) - {"old"} == {path for path, file in found.items() if file.naming.by == "journal"}
    assert (found["old"].naming.by, found["old"].naming.also) == ("snapshot", ("journal",))
    for path, file in found.items():
        assert file.size == SIZE
        assert file.deletion.logged is not None
        assert started <= file.deletion.logged <= ended, path
        assert file.deletion.window.before == file.deletion.logged + timedelta(milliseconds=16)
        assert "guest's clock" in file.deletion.basis
        assert "no times" in file.deletion.basis
        if path != "old":
            assert (file.link.depth, file.naming.state, file.known) == (1, "likely", False)
            assert file.btime is not None
            assert started <= file.btime <= file.deletion.logged
    events = [(event.what, event.old_path, event.path) for event in found["small/renamed"].story]
    assert events == [("made", None, "four"), ("renamed", "four", "small/renamed"), ("deleted", None, "small/renamed")]


def test_inode_that_is_free_keeps_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the log does not reach back any more."""
    path = history(tmp_path, made, between, nothing)
    expected = listed(path)["old"].deletion.logged
    monkeypatch.setattr(LogReader, "items", lambda self, log: iter(()))
    file = listed(path)["old"]
    assert (file.deletion.logged, file.naming.also) == (expected, ())
    assert "by its freed inode" in file.deletion.basis


def test_open_file_that_has_no_name(tmp_path: Path) -> None:
    """It is deleted, and its inode is not free yet: the state was taken while a process had it."""
    driver = xfs()
    if why := driver.missing():
        pytest.skip(why)
    image = tmp_path / "partition.img"
    driver.make(image)
    host = churn.Host(driver, random.Random(1), tmp_path / "vm")
    host._trims = host._gives = 0.0
    with driver.mounted(image) as root:
        made(root)
    host.record(image)
    host.snapshot()
    with driver.mounted(image) as root, (root / "old").open("rb"):
        number = (root / "old").stat().st_ino
        (root / "old").unlink()
        sync(root)
        host.record(image)
    path = host.chain.write()
    with open_chain(path) as chain:
        states = [state for depth in range(2) for state in open_volumes(chain, depth).states]
        known = XfsHistory(states, pytest.fail)
        (use,) = (use for use, life in known.lives.items() if use.number == number)
        end = known.lives[use].end
        assert end is not None
        assert (end.links, end.mode & 0o170000) == (0, 0o100000)
        assert not known.is_live(use)


def test_live_files_that_only_the_log_has(tmp_path: Path) -> None:
    """The state was taken before inode and folder were written: what its log has is live."""
    numbers = {}

    def period(root: Path) -> None:
        with (root / "new").open("wb") as fh:
            fh.write(content("new"))
            os.fsync(fh.fileno())
        numbers["new"] = (root / "new").stat().st_ino

    path = history(tmp_path, made, period, live=True)
    with open_chain(path) as chain:
        states = [state for depth in range(2) for state in open_volumes(chain, depth).states]
        fs: Any = states[0].fs
        assert "new" not in {entry.name for entry in fs.get("/").scandir()}, "the trap is set"
        known = XfsHistory(states, pytest.fail)
        (use,) = (use for use, life in known.lives.items() if use.number == numbers["new"] and life.end is None)
        assert known.is_live(use)
        assert not known.is_live(Use(use.number, use.generation + 5))
    assert listed(path) == {}


def entry(number: int, name: bytes, at: int) -> bytes:
    """An entry of a block of a folder: inode, name, type, its own place."""
    body = number.to_bytes(8, "big") + bytes([len(name)]) + name + b"\x01"
    return body.ljust((len(body) + 2 + 7) // 8 * 8 - 2, b"\0") + at.to_bytes(2, "big")


def block(place: int) -> bytes:
    """A block of folder 99: four entries, behind the second a free range that still holds two sound ones."""
    data, places = bytearray(b"XDD3".ljust(8, b"\0") + (place // 512).to_bytes(8, "big")), {}
    data = data.ljust(40, b"\0") + (99).to_bytes(8, "big").ljust(24, b"\0")
    for number, name in enumerate((b"first", b"second", b"free", b"old one", b"third", b"fourth" * 20)):
        places[name] = len(data)
        data += entry(131 + number, name, len(data))
    free = places[b"free"]
    data[free : free + 4] = b"\xff\xff" + (places[b"third"] - free).to_bytes(2, "big")
    rest = len(data)
    data = data.ljust(4096, b"\0")
    data[rest : rest + 4] = b"\xff\xff" + (4096 - rest).to_bytes(2, "big")
    return bytes(data)


def test_old_entries_in_a_free_range_are_none() -> None:
    """The driver does not wipe it, and an old entry in it still ends with its own place."""
    place = 8192
    data = block(place)
    found = FolderBlocks().changed(BlockPieces(place, 4096, ((0, data),)), None, types=True)
    assert found is not None
    assert found == (99, [(b"first", 131), (b"second", 132), (b"third", 135), (b"fourth" * 20, 136)])


def test_what_is_not_known_of_a_block_names_nothing() -> None:
    """Pieces of the log alone: it is read up to the first byte that is not there. With an older state all of it is."""
    place = 8192
    data = block(place)
    head = ((0, data[:128]), (384, data[384:512]))
    found = FolderBlocks().changed(BlockPieces(place, 4096, head), None, types=True)
    assert found == (99, [(b"first", 131), (b"second", 132)])
    assert FolderBlocks().changed(BlockPieces(place, 4096, head[1:]), None, types=True) is None
    assert FolderBlocks().changed(BlockPieces(place + 512, 4096, head), None, types=True) is None, "of another place"
    older = io.BytesIO(bytes(place) + data)
    blocks = FolderBlocks()
    renamed = data[:128].replace(b"second", b"SECOND")
    for piece, name in ((data[:128], b"second"), (renamed, b"SECOND")):
        found = blocks.changed(BlockPieces(place, 4096, ((0, piece),)), older, types=True)
        assert found is not None
        assert found.names == [(b"first", 131), (name, 132), (b"third", 135), (b"fourth" * 20, 136)]
    for size in (0, 1 << 20):
        assert FolderBlocks().changed(BlockPieces(place, size, ((0, data),)), older, types=True) is None


@pytest.mark.slow
def test_log_that_was_written_over(tmp_path: Path) -> None:
    """Many turns around the log: what is left of it is read, and each name is one that was deleted."""
    gone = []

    def period(root: Path) -> None:
        for turn in range(400):
            for number in range(20):
                (root / f"small/{turn}-{number}").write_bytes(b"x" * 5000)
            sync(root)
            for number in range(20):
                (root / f"small/{turn}-{number}").unlink()
                gone.append(f"small/{turn}-{number}")
            for _ in range(3):
                os.utime(root / "keep", (turn, time.time()))
                os.truncate(root / "keep", SIZE + turn)
                sync(root)

    found = listed(history(tmp_path, made, period, nothing))
    named = {path for path, file in found.items() if file.naming.by == "journal"}
    assert named
    assert named <= set(gone)
    assert len(named) < len(gone), "it was written over"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_random_churn_of_names(tmp_path: Path, seed: int) -> None:
    """Each file that the log alone names was deleted in that time, under that path or another one that it had."""
    driver = of_seed("xfs", seed + 1)
    if why := driver.missing():
        pytest.skip(why)
    path, truth, _ = churn.churn(driver, seed + 1, tmp_path, 200, 2)
    counts: Counter[str] = Counter()
    with open_chain(path) as chain:
        for file in churn.told_of(chain, lambda message: None):
            counts[file.naming.by] += 1
            period = len(truth.states) - 1 - file.link.depth
            if file.naming.by == "journal" and file.naming.state == "likely":
                assert period in {number for number, _ in truth.deaths[file.path]}, file.path
    assert counts["journal"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_damaged_log(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a log says: it ends, in bounded time and memory, and raises nothing."""
    path = history(tmp_path, made, between)
    monkeypatch.setattr(history_module, "MAX_USES", 1000)
    rng = random.Random(seed)
    with open_chain(path) as chain:
        state = open_volumes(chain, 0).states[0]
        fs: Any = state.fs
        assert isinstance(fs, XfsFilesystem)
        sb = fs.xfs.sb
        start = ((sb.sb_logstart >> sb.sb_agblklog) * sb.sb_agblocks) * sb.sb_blocksize
        start += (sb.sb_logstart & ((1 << sb.sb_agblklog) - 1)) * sb.sb_blocksize
        state.volume.seek(start)
        sound = state.volume.read(1 << 20)

    class Damaged:
        def __init__(self) -> None:
            self.data, self.at = bytearray(sound), 0
            for _ in range(300):
                self.data[rng.randrange(len(sound))] = rng.choice([0, 1, 2, 0xFF, rng.randrange(256)])

        def seek(self, at: int) -> None:
            self.at = at

        def read(self, size: int) -> bytes:
            return bytes(self.data[self.at : self.at + size])

    for _ in range(10):
        blocks = FolderBlocks()
        for item in LogReader().items(Log(Damaged(), 0, len(sound))):
            image = history_module.inode_of(item)
            if image is not None:
                list(history_module.names_in_inode(item, image, types=True))
            if (pieces := history_module.block_of(item)) is not None:
                blocks.changed(pieces, None, types=True)
