"""Files that only the journal of ext names, by Linux' own driver: made and deleted between two snapshots."""

from __future__ import annotations

import random
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import churn
import pytest
from churn_drivers import Linux, ext4, run
from test_ext_files import history, states_of

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.extfs.inode import ExtError, ext_inode, ext_runs
from dissect_sesparse.extfs.journal import ExtJournal
from dissect_sesparse.files.deleted import measure
from dissect_sesparse.files.file_systems import deleted_files
from dissect_sesparse.files.not_looked import NotAllLookedAtError

if TYPE_CHECKING:
    from pathlib import Path

    from churn_drivers import Driver

    from dissect_sesparse.files.deleted import DeletedFile, Recovered


def content(name: str, size: int) -> bytes:
    return b"".join(f"{name} {number:06d} ".encode().ljust(64, b".") for number in range(-(-size // 64)))[:size]


def found_in(path: Path) -> dict[str, tuple[DeletedFile, Recovered, bytes]]:
    found = {}
    with open_chain(path) as chain:
        for file in deleted_files(chain, pytest.fail):
            data = bytearray(min(file.size, 1 << 24))
            recovered = measure(
                file, lambda p, data=data: data.__setitem__(slice(p.offset, p.offset + len(p.data)), p.data)
            )
            assert file.path not in found, "one is listed once"
            found[file.path] = file, recovered, bytes(data)
    return found


def before(root: Path) -> None:
    for name in ("old", "kept", "renamed"):
        (root / name).write_bytes(content(name, 9000))
    (root / "folder").mkdir()


MADE = {"four": 40_000, "folder/inner/three": 30_000, "gone/two": 2000, "new name": 5000, "large": 3_000_000}


def after(root: Path) -> None:
    """Four files with names and one that was renamed are made and deleted, as programs do: written out between."""
    (root / "folder" / "inner").mkdir()
    (root / "gone").mkdir()
    for name, size in MADE.items():
        made = {"new name": "first name"}.get(name, name)
        (root / made).write_bytes(content(name, size))
        run("sync", "-f", root)
        time.sleep(0.01)
    (root / "first name").rename(root / "new name")
    (root / "renamed").rename(root / "folder" / "renamed")
    (root / "kept too").hardlink_to(root / "kept")
    run("sync", "-f", root)
    for name in MADE:
        (root / name).unlink()
    (root / "kept").unlink()
    (root / "gone").rmdir()
    (root / "empty").touch()
    run("sync", "-f", root)
    (root / "empty").unlink()
    (root / "old").unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [(), ("-O", "^metadata_csum"), ("-O", "^64bit,^metadata_csum"), ("-O", "^extent,^64bit"), ("-b", 4096)]
)
def test_made_and_deleted_between_snapshots(tmp_path: Path, options: tuple[object, ...]) -> None:
    driver = Linux("ext4", 48 << 20, ("mkfs.ext4", "-q", "-b", 1024, *options))
    begun = time.time()
    found = found_in(history(tmp_path, driver, before, after, lambda root: (root / "later").touch()))
    ended = time.time()
    assert set(found) == {*MADE, "old", "empty"}, "no live file: not what was renamed, or lost one of two names"
    for name, size in MADE.items():
        file, recovered, data = found[name]
        assert (file.naming.by, file.naming.state, file.size) == ("journal", "likely", size)
        assert (recovered.state, data) == ("likely", content(name, size))
        assert "nothing tells by whom last" in recovered.basis
        assert file.link.depth == 1
        assert file.btime is not None
        assert file.deletion.logged is not None or name == "four", "its inode may have gone to another file"
        after_that, before_that = file.deletion.window
        assert after_that is not None
        assert before_that is not None
        assert begun - 1 <= file.btime.timestamp() <= after_that.timestamp() <= before_that.timestamp() <= ended + 1
        if file.deletion.logged is not None:
            assert after_that.timestamp() - 1 <= file.deletion.logged.timestamp() <= before_that.timestamp()
        assert [event.what for event in file.story] == ["made", *["renamed"] * (name == "new name"), "deleted"]
    renamed = found["new name"][0].story[1]
    assert (renamed.old_path, renamed.path) == ("first name", "new name")
    file, recovered, _ = found["old"]
    assert (file.naming.by, recovered.state) == ("snapshot", "complete")
    file, recovered, _ = found["empty"]
    assert (file.naming.by, recovered.state) == ("journal", "none")
    assert "may never have reached the disk" in recovered.basis


@pytest.mark.slow
def test_what_lies_in_the_inode(tmp_path: Path) -> None:
    """The journal's copy of an inode has the content itself: that is proven."""

    def tiny(root: Path) -> None:
        (root / "inside").write_bytes(b"in the inode, and more of it behind: " * 3)
        run("sync", "-f", root)
        (root / "inside").unlink()

    driver = Linux("ext4", 16 << 20, ("mkfs.ext4", "-q", "-b", 1024, "-O", "inline_data"))
    file, recovered, data = found_in(history(tmp_path, driver, before, tiny))["inside"]
    assert (file.naming.by, recovered.state) == ("journal", "complete")
    assert data == b"in the inode, and more of it behind: " * 3
    assert "the journal has them in its inode" in recovered.basis


@pytest.mark.slow
def test_live_file_that_only_the_journal_has(tmp_path: Path) -> None:
    """The running guest's journal is not replayed: what it has is not deleted, whatever the tables say yet."""
    driver = ext4()
    if why := driver.missing():
        pytest.skip(why)
    image = tmp_path / "partition.img"
    driver.make(image)
    host = churn.Host(driver, random.Random(1), tmp_path / "vm")
    with driver.mounted(image) as root:
        before(root)
    host.record(image)
    host.snapshot()
    with driver.mounted(image) as root:
        (root / "live").write_bytes(content("live", 20_000))
        (root / "old").unlink()
        run("sync", "-f", root)
        host.record(image)
    assert set(found_in(host.chain.write())) <= {"old"}


def journal_of(driver: Driver, folder: Path) -> tuple[ExtJournal, list]:
    with open_chain(history(folder, driver, before, after)) as chain:
        stream = states_of(chain)[0].fs.extfs.get_inode(8).open()

        def read(offset: int, size: int) -> bytes:
            stream.seek(offset)
            return stream.read(size)

        data = bytearray(read(0, stream.size))
        journal = ExtJournal(lambda offset, size: bytes(data[offset : offset + size]), len(data))
        found = list(journal.transactions())
        assert found
        at = found[-1].copies[0]
        assert journal.content(at, found[-1].sequence) is not None
        data[at.at * journal.block_size + 100] ^= 1
        assert journal.content(at, found[-1].sequence) is None, "its checksum does not fit"
        data[(found[-1].copies[-1].at + 1) * journal.block_size] ^= 1
        assert found[-1].sequence not in [each.sequence for each in journal.transactions()], "its commit is gone"
        return journal, found


@pytest.mark.slow
def test_journal_that_was_changed(tmp_path: Path) -> None:
    journal_of(ext4(), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_metadata_that_was_changed(tmp_path: Path, seed: int) -> None:
    """Bytes at random in tables, folders and the journal: an error of ours behind what is found, or none."""
    driver, rng = ext4(), random.Random(seed)
    if why := driver.missing():
        pytest.skip(why)
    image = tmp_path / "partition.img"
    driver.make(image)
    host = churn.Host(driver, random.Random(1), tmp_path / "vm")
    for step in (before, after):
        with driver.mounted(image) as root:
            step(root)
        if step is before:
            host.record(image)
            host.snapshot()
    data = bytearray(image.read_bytes())
    used = [at for at in range(0, len(data), 1024) if at != 1024 and data[at : at + 1024].strip(b"\0")]
    for at in rng.sample(used, len(used) // 2):
        data[at + rng.randrange(1024)] ^= 1 << rng.randrange(8)
        data[at + rng.randrange(64)] = rng.choice([0, 1, 0x7F, 0xFF])
    image.write_bytes(data)
    host.record(image)
    warnings: list[str] = []
    with open_chain(host.chain.write()) as chain, suppress(NotAllLookedAtError):
        for file in deleted_files(chain, warnings.append):
            assert measure(file).size <= file.size
            assert file.path not in ("kept too", "folder/renamed") or file.naming.by != "journal"


def test_extents_that_name_themselves() -> None:
    """A tree of extents whose nodes all are one ends, at the level that it says or at how many may be looked at."""
    node = struct.pack("<HHHHI", 0xF30A, 84, 84, 4, 0) + struct.pack("<IIHH", 0, 7, 0, 0) * 84
    raw = bytearray(256)
    struct.pack_into("<HxxI24xI", raw, 0, 0o100644, 1 << 30, 0x80000)
    raw[40:52] = struct.pack("<HHHHI", 0xF30A, 4, 4, 5, 0)
    raw[52:100] = struct.pack("<IIHH", 0, 7, 0, 0) * 4
    levels = iter(range(1 << 30))

    def block(number: int) -> bytes:
        return node[:6] + struct.pack("<H", 4) + node[8:] if next(levels) % 2 == 0 else node

    with pytest.raises(ExtError):
        ext_runs(ext_inode(12, bytes(raw)), block, 1024)
    leaf = struct.pack("<HHHHI", 0xF30A, 0, 84, 0, 0).ljust(1024, b"\0")
    tree = {
        n: struct.pack("<HHHHI", 0xF30A, 84, 84, n, 0) + struct.pack("<IIHH", 0, n - 1, 0, 0) * 84 for n in range(1, 5)
    }
    raw[52:100] = struct.pack("<IIHH", 0, 4, 0, 0) * 4
    with pytest.raises(ExtError, match="blocks that say where the others are"):
        ext_runs(ext_inode(12, bytes(raw)), {0: leaf, **tree}.__getitem__, 1024)
