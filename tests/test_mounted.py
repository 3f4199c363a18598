"""What the guest trimmed, as files in the file system of the target: each present run, and nothing else."""

from __future__ import annotations

import hashlib
import io
import os
import random
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import make_vm
import pytest
import target_fixtures
from dissect.target import Target, container
from dissect.target.filesystem import VirtualFilesystem
from dissect.target.plugin import OSPlugin
from history import random_history
from sesparse_builder import ChainBuilder, ExtentBuilder, descriptor, grain_data, vmx
from target_fixtures import NEWEST, SECTORS, small_chain, tool
from work import at_most

from dissect_sesparse.source.errors import UnreadableError
from dissect_sesparse.target import tree
from dissect_sesparse.trimmed.unmapped import UnmappedRun, unmapped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dissect_sesparse.chain.chain import Chain

example = target_fixtures.example_vm

FOLDER = "/$sesparse$/unmapped"
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def opened(path: Path, **options: str) -> Target:
    """A target with one disk and no more, opened fast."""
    target = Target()
    target.disks.add(container.open(path, **options))
    target.apply()
    return target


def found(target: Target) -> dict[tuple[str, int, int], str]:
    """The digest of each file, by its disk, offset and depth as its name tells them."""
    files = {}
    for path in target.fs.path(FOLDER).rglob("*"):
        if path.is_file():
            offset, _, depth = path.stem.partition("-")
            data = path.read_bytes()
            assert len(data) == path.stat().st_size
            files[path.parent.name, int(offset, 16), int(depth)] = hashlib.sha256(data).hexdigest()
    return files


def test_times(example: Path) -> None:
    """Those of the link: frozen, as changed, and begun, as born; of the running link nothing says when it was changed: 0."""
    target = Target.open(example)
    records = list(target.sesparse.unmapped(no_hash=True))
    windows = {(run.offset, run.depth): (run.after, run.before) for run in records if run.state == "present"}
    frozen = 0
    for path in (target.fs.path(FOLDER) / NEWEST).iterdir():
        offset, _, depth = path.stem.partition("-")
        after, before = windows[int(offset, 16), int(depth)]
        status = path.stat()
        nanoseconds = None if before is None else (before - EPOCH) // timedelta(microseconds=1) * 1000
        frozen += before is not None
        for name in ("mtime", "ctime", "atime"):
            assert getattr(status, f"st_{name}_ns") == (nanoseconds or 0)
            assert getattr(status, f"st_{name}") == pytest.approx((nanoseconds or 0) / 1e9)
        assert status.st_birthtime == pytest.approx(after.timestamp())
        assert status.st_size == path.lstat().st_size > 0
    assert 0 < frozen < len(windows)
    snapshots = sorted(target.fs.path("/$sesparse$/snapshots").iterdir())
    times = [EPOCH + timedelta(microseconds=path.stat().st_mtime_ns // 1000) for path in snapshots]
    assert times == [taken for _, _, taken in make_vm.SNAPSHOTS]


def recorded(target: Target) -> dict[tuple[str, int, int], str]:
    """The same, as ``sesparse.unmapped`` tells it."""
    runs = [run for run in target.sesparse.unmapped() if run.state == "present"]
    return {(run.disk, run.offset, run.depth): run.digest.sha256 for run in runs}


def test_example(example: Path) -> None:
    target = Target.open(example)
    assert found(target) == recorded(target)
    assert len(found(target)) > 1
    assert {depth for _, _, depth in found(target)} == {0, 1}
    assert {disk for disk, _, _ in found(target)} == {NEWEST}


@pytest.mark.parametrize("seed", [0, 1, 3, 4])
def test_random_histories(tmp_path: Path, seed: int) -> None:
    """Each grain that the oracle knows to be present is in a file, at its place, and no other grain."""
    history = random_history(tmp_path / "vm", random.Random(seed), 3)
    target = opened(history.path)
    grains = {}
    for path in target.fs.path(FOLDER).rglob("*.bin"):
        offset, _, depth = path.stem.partition("-")
        data = path.read_bytes()
        for start in range(0, len(data), 4096):
            key = int(depth), (int(offset, 16) + start) // 4096
            assert key not in grains
            grains[key] = data[start : start + 4096]
    expected = {old[:2]: old.data for old in history.old if old.state == "present"}
    assert expected
    assert {key: data[: len(expected.get(key) or b"")] for key, data in grains.items()} == expected
    assert found(target) == recorded(target)


def test_only_what_is_present(folder: Path) -> None:
    """Grains that were zeros, that another one has now, or that the file lacks, are no files."""
    chain = ChainBuilder(folder, SECTORS)
    extent = chain.add_delta()
    extent.allocate(0)
    extent.unmap(1, grain_data("old", 1))
    extent.unmap(2, bytes(4096))
    extent.unmap(3, b"reused", place=20)
    extent.allocate(4, b"new", place=20)
    for grain in (5, 6):
        extent.unmap(grain, b"contested", place=21)
    target = opened(chain.write())
    assert {run.state for run in target.sesparse.unmapped()} == {"present", "empty", "reused", "contested"}
    assert [path.name for path in target.fs.path(FOLDER).rglob("*.bin")] == ["000000001000-0.bin"]
    assert target.fs.path(f"{FOLDER}/vm-000001.vmdk/000000001000-0.bin").read_bytes() == grain_data("old", 1)


def test_one_address_in_two_links(folder: Path) -> None:
    chain = ChainBuilder(folder, SECTORS)
    for number in (1, 2):
        extent = chain.add_delta()
        extent.allocate(0)
        extent.unmap(9, grain_data(f"delta{number}", 9))
    target = opened(chain.write())
    names = {path.name: path.read_bytes() for path in target.fs.path(f"{FOLDER}/vm-000002.vmdk").iterdir()}
    assert names == {
        "000000009000-0.bin": grain_data("delta2", 9),
        "000000009000-1.bin": grain_data("delta1", 9),
    }


def test_nothing_trimmed(folder: Path) -> None:
    target = opened(small_chain(folder).write())
    assert [str(path) for path in target.fs.path(FOLDER).rglob("*")] == [f"{FOLDER}/vm-000001.vmdk"]


def disk_with_a_trim(folder: Path, name: str, byte: bytes = b"x") -> Path:
    chain = ChainBuilder(folder, SECTORS, name=name)
    extent = chain.add_delta()
    extent.allocate(0)
    extent.unmap(1, byte * 4096)
    return chain.write()


def test_two_disks_of_one_name(folder: Path) -> None:
    target = Target()
    for place, byte in ((folder, b"a"), (folder.parent / "data", b"b")):
        target.disks.add(container.open(disk_with_a_trim(place, "vm", byte)))
    target.apply()
    files = {str(path)[len(FOLDER) :]: path.read_bytes()[:1] for path in target.fs.path(FOLDER).rglob("*.bin")}
    assert files == {
        "/vm-000001.vmdk/000000001000-0.bin": b"a",
        "/vm-000001.vmdk~2/000000001000-0.bin": b"b",
    }


@pytest.mark.parametrize("name", ["back\\slash", "tab\tand\x1b[31m", "über äß", "a.b.c", "sp ace"])
def test_names_of_disks(folder: Path, name: str) -> None:
    if os.name == "nt" and not name.replace("\\", "\t").isprintable():
        pytest.skip("Windows has no such names of files")
    target = opened(disk_with_a_trim(folder, "vm").rename(folder / f"{name}.vmdk"))
    (shown,) = target.fs.path(FOLDER).iterdir()
    assert shown.name == "".join(c if c.isalnum() or c in "-_." else "_" for c in name) + ".vmdk"
    assert [path.name for path in shown.iterdir()] == ["000000001000-0.bin"]


def test_windows_guest(folder: Path) -> None:
    """Case does not count there, and a backslash parts a path."""
    target = opened(disk_with_a_trim(folder, "vm"))
    target.fs.case_sensitive = False
    # The names that dissect.target has for it up to 3.25, and after.
    target.fs.alt_separator = target.fs.altsep = "\\"
    assert target.fs.path("\\$SESparse$\\UNMAPPED\\VM-000001.vmdk\\000000001000-0.BIN").read_bytes() == b"x" * 4096


def test_child_has_its_own(example: Path) -> None:
    """What was trimmed until a snapshot was taken."""
    child = Target.open(example).open_child("1")
    assert found(child) == recorded(child)
    assert {(disk, depth) for disk, _, depth in found(child)} == {("web01-000001.vmdk", 0)}
    assert [path.name for path in child.fs.path("/$sesparse$").iterdir()] == ["unmapped"]
    base = Target.open(example).open_child("0")
    assert found(base) == {}


def test_residual_view_changes_nothing(example: Path) -> None:
    assert found(Target.open(f"sesparse://{example.as_posix()}?view=residual")) == found(Target.open(example))


# Opening a target costs nothing, and looking has bounds


def test_nothing_is_read_before_it_is_looked_at(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "unmapped", lambda *args, **kwargs: pytest.fail("asked for nothing"))
    target = Target.open(example)
    assert [path.name for path in target.fs.path(FOLDER).iterdir()] == [NEWEST]
    assert target.fs.path(f"{FOLDER}/{NEWEST}").is_dir()


def test_62_tib(tmp_path: Path) -> None:
    """Opened at once; the folder of what was trimmed, as fast as its tables are few."""
    sectors = 62 * 2**31
    extent = ExtentBuilder(sectors)
    extent.allocate(0)
    extent.unmap(sectors // 8 - 7, b"far out".ljust(4096, b"!"))
    extent.write(tmp_path / "vm-sesparse.vmdk")
    (tmp_path / "vm.vmdk").write_text(descriptor([(sectors, "SESPARSE", "vm-sesparse.vmdk")], cid="00000001"))
    (tmp_path / "vm.vmx").write_text(vmx(["vm.vmdk"], "vm"))
    with at_most(10_000_000):
        target = Target.open(tmp_path / "vm.vmx")
    with at_most(10_000_000):
        (path,) = target.fs.path(FOLDER).rglob("*.bin")
    assert path.name == f"{sectors * 512 - 7 * 4096:012x}-0.bin"
    assert path.read_bytes().startswith(b"far out!")


def many(folder: Path, count: int = 20) -> Path:
    chain = ChainBuilder(folder, SECTORS)
    extent = chain.add_delta()
    extent.allocate(0)
    for number in range(count):
        extent.unmap(1 + 2 * number, grain_data("old", number))
    return chain.write()


@pytest.mark.parametrize(("bound", "value", "listed"), [("MAX_FILES", 7, 7), ("MAX_LOOKED_AT", 5 * 4096, 5)])
def test_bounds(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, bound: str, value: int, listed: int
) -> None:
    monkeypatch.setattr(tree, bound, value)
    target = opened(many(folder))
    assert len(found(target)) == listed
    message = f"only the first {listed} are files"
    assert message in caplog.text
    told = [finding for finding in target.sesparse.findings() if finding.code == "files-left-out"]
    assert [message in finding.message for finding in told] == [True]
    assert len(list(target.sesparse.unmapped())) == 20, "the function has all of them"


def test_within_bounds_nothing_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_FILES", 20)
    target = opened(many(folder))
    assert len(found(target)) == 20
    assert list(target.sesparse.findings()) == []


def test_tables_that_cannot_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was found is there, the other disk has its files, and what is missing is said."""
    target = Target()
    for name in ("bad", "good"):
        target.disks.add(container.open(disk_with_a_trim(folder, name)))
    target.apply()

    def failing(chain: Chain, **kwargs: bool) -> Iterator[UnmappedRun]:
        yield from unmapped(chain, **kwargs)
        if chain.name.startswith("bad"):
            raise UnreadableError("a bad sector")

    monkeypatch.setattr(tree, "unmapped", failing)
    assert {disk for disk, _, _ in found(target)} == {"bad-000001.vmdk", "good-000001.vmdk"}
    message = "unmapped runs of bad-000001.vmdk in /$sesparse$/unmapped/bad-000001.vmdk: the first 1 are files, then"
    assert message in caplog.text
    assert [finding.disk for finding in target.sesparse.findings()] == ["bad-000001.vmdk"]


# What dissect makes of it


def test_nothing_else_is_changed(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same disks, volumes, file systems, operating system and records, but for paths below the folder."""
    target = Target.open(example)
    monkeypatch.setattr(tree, "mount", lambda target: None)
    plain = Target.open(example)
    assert "/$sesparse$" not in plain.fs.mounts
    for name in ("disks", "volumes", "filesystems"):
        assert len(getattr(target, name)) == len(getattr(plain, name)) == 1
    assert target.os == plain.os
    assert set(target.fs.mounts) - set(plain.fs.mounts) == {"/$sesparse$"}
    walked, before = ([entry.path for entry in t.fs.recurse("/")] for t in (target, plain))
    assert [path for path in walked if not path.startswith("/$sesparse$")] == before
    assert len([path for path in walked if path.endswith(".bin")]) == len(recorded(target))


def test_operating_system_of_a_guest(folder: Path) -> None:
    """It is found, and its file system is mounted as ever."""
    guest = VirtualFilesystem()
    for path in ("/etc/os-release", "/var/log/x", "/opt/x", "/bin/sh"):
        guest.map_file_fh(path, io.BytesIO(b'NAME="x"\nID=x\n'))
    target = Target()
    target.disks.add(container.open(disk_with_a_trim(folder, "vm")))
    target.filesystems.add(guest)
    target.apply()
    assert target.os == "linux"
    assert isinstance(target._os, OSPlugin)
    assert target.fs.path("/etc/os-release").read_text().startswith("NAME")
    assert len(found(target)) == 1


def test_yara(example: Path, tmp_path: Path) -> None:
    """A rule finds in a trimmed file what no live file has."""
    pytest.importorskip("yara", reason="yara-python is not installed")
    (tmp_path / "rule.yar").write_text("rule zip { strings: $a = { 50 4B 03 04 } condition: $a }")
    target = Target.open(example)
    matches = {str(match.path): match.digest.sha256 for match in target.yara([str(tmp_path / "rule.yar")])}
    in_tree = {path: digest for path, digest in matches.items() if path.startswith(FOLDER)}
    assert in_tree
    assert set(in_tree.values()) <= set(found(target).values())


@pytest.mark.slow
def test_tools(example: Path, tmp_path: Path) -> None:
    target = Target.open(example)
    offset, depth = min((offset, depth) for _, offset, depth in found(target))
    digest = found(target)[NEWEST, offset, depth]
    name = f"{offset:012x}-{depth}.bin"
    tool("target-fs", example, "cp", f"{FOLDER}/{NEWEST}/{name}", "-o", tmp_path)
    assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    hashed = tool("target-query", example, "-f", "walkfs", "--walkfs-path", FOLDER, "--hash", "-s").stdout
    assert digest in hashed
