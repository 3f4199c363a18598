"""Deleted entries of FAT, as mtools leave them: this kernel may have no driver for it."""

from __future__ import annotations

import random
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import churn
import pytest
from formatted import tool

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.files.deleted import measure
from dissect_sesparse.files.fat_entries import old_entries
from dissect_sesparse.files.file_systems import deleted_files
from dissect_sesparse.files.not_looked import NotAllLookedAtError

if TYPE_CHECKING:
    from pathlib import Path

    from dissect_sesparse.files.deleted import DeletedFile

SIZES = {12: 2 << 20, 16: 16 << 20, 32: 40 << 20}


class Guest:
    """A guest with FAT."""

    def __init__(self, folder: Path, bits: int = 16):
        self.folder, self.image = folder, folder / "partition.img"
        with self.image.open("wb") as fh:
            fh.truncate(SIZES[bits])
        subprocess.run([tool("mkfs.fat"), "-F", str(bits), str(self.image)], check=True, capture_output=True)
        driver: Any = SimpleNamespace(size=SIZES[bits], partition_type=0x0C)
        self.host = churn.Host(driver, random.Random(1), folder / "vm")
        self.host._trims = self.host._gives = 0.0
        self.clock = 0

    def run(self, name: str, *arguments: str) -> None:
        command = [tool(name), "-i", str(self.image), *arguments]
        self.clock += 60
        environment = {"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": str(1_700_000_000 + self.clock), "TZ": "UTC"}
        subprocess.run(command, check=True, capture_output=True, env=environment, stdin=subprocess.DEVNULL)

    def write(self, path: str, size: int = 9000) -> None:
        source = self.folder / "source"
        source.write_bytes((path.encode() + b" ").ljust(512, b".") * (size // 512 + 1))
        self.run("mcopy", str(source), f"::{path}")

    def snapshot(self) -> None:
        self.host.record(self.image)
        self.host.snapshot()

    def end(self) -> dict[str, DeletedFile]:
        self.host.record(self.image)
        found: dict[str, DeletedFile] = {}
        with open_chain(self.host.chain.write()) as chain:
            for file in deleted_files(chain, pytest.fail):
                assert file.path not in found
                if file.naming.by == "directory":
                    assert measure(file)[:3] == (0, None, "none")
                found[file.path] = file
        return found


@pytest.mark.parametrize("bits", SIZES)
def test_made_and_deleted_between_two_snapshots(tmp_path: Path, bits: int) -> None:
    """A long name comes back; of a short one the first letter is lost. What a state has is named by that, once."""
    guest = Guest(tmp_path, bits)
    guest.run("mmd", "::FOLDER")
    guest.write("old file of a snapshot.txt")
    guest.write("FOLDER/KEEP.TXT")
    guest.snapshot()
    guest.write("FOLDER/a long name of a file.txt")
    guest.write("FOLDER/SHORT.TXT")
    guest.write("live file.txt")
    for name in ("FOLDER/a long name of a file.txt", "FOLDER/SHORT.TXT", "old file of a snapshot.txt"):
        guest.run("mdel", f"::{name}")
    guest.snapshot()
    found = guest.end()
    assert set(found) == {"FOLDER/a long name of a file.txt", "FOLDER/_HORT.TXT", "old file of a snapshot.txt"}
    assert found["old file of a snapshot.txt"].naming.by == "snapshot"
    for path, state in (("FOLDER/a long name of a file.txt", "likely"), ("FOLDER/_HORT.TXT", "ambiguous")):
        file = found[path]
        assert (file.naming.by, file.naming.state, file.size, file.link.depth) == ("directory", state, 9216, 1)
        assert "after the state of vm.vmdk" in file.deletion.basis
        assert "before the state of vm-000001.vmdk" in file.deletion.basis
        assert file.deletion.logged is None
        assert file.inode


def test_renamed_and_moved_files_are_live(tmp_path: Path) -> None:
    """Their old entries are deleted ones; so are those of folders, and those of empty files tell nothing."""
    guest = Guest(tmp_path)
    for name in ("FOLDER", "OTHER"):
        guest.run("mmd", f"::{name}")
    guest.snapshot()
    for name in ("one of some length", "two of some length", "three of some length"):
        guest.write(f"FOLDER/{name}")
    guest.run("mren", "::FOLDER/one of some length", "::FOLDER/another name")
    guest.run("mmove", "::FOLDER/two of some length", "::OTHER")
    guest.run("mmd", "::FOLDER/a folder that goes")
    guest.run("mrd", "::FOLDER/a folder that goes")
    assert guest.end() == {}


def test_moved_and_deleted_is_one_file(tmp_path: Path) -> None:
    guest = Guest(tmp_path)
    for name in ("FOLDER", "OTHER"):
        guest.run("mmd", f"::{name}")
    guest.snapshot()
    guest.write("FOLDER/name of a file")
    guest.run("mmove", "::FOLDER/name of a file", "::OTHER")
    guest.run("mdel", "::OTHER/name of a file")
    ((path, file),) = guest.end().items()
    (other,) = {"FOLDER/name of a file", "OTHER/name of a file"} - {path}
    assert file.naming.state == "ambiguous"
    assert other in file.naming.basis


def long(name: str, check: int) -> bytes:
    """The deleted entries of a long name."""
    raw = (name + "\0").encode("utf-16-le").ljust(-(-len(name) // 13) * 26, b"\xff")[: -(-len(name) // 13) * 26]
    parts = [raw[at : at + 26] for at in range(0, len(raw), 26)]
    return b"".join(
        b"\xe5" + part[:10] + bytes([0x0F, 0, check]) + part[10:22] + bytes(2) + part[22:] for part in reversed(parts)
    )


def check_of(short: bytes) -> int:
    total = 0
    for byte in short:
        total = ((total << 7 | total >> 1) + byte) & 0xFF
    return total


def test_long_name_of_another_entry() -> None:
    """It counts only where its sum fits the short name; a name that fills its entries may go on."""
    short = b"\xe5" + b"HISIS~1TXT".ljust(10) + bytes(21)
    assert len(short) == 32
    check = check_of(b"THISIS~1TXT")
    names = [
        (long("this is a name.txt", check) + short, "this is a name.txt", True),
        (long("this is a name.txt", check ^ 1) + short, "_HISIS~1.TXT", False),
        (long("that is a name.txt", check) + short, "that is a name.txt", True),
        (long("name", check) + short, "_HISIS~1.TXT", False),
        (long("this 13 chars", check) + short, "this 13 chars", False),
        (long("this is a name.txt", check)[:32] + long("other", 1) + short, "_HISIS~1.TXT", False),
        (long("this is a name.txt", check) + b"X" * 32 + short, "_HISIS~1.TXT", False),
        (short, "_HISIS~1.TXT", False),
    ]
    for data, name, whole in names:
        ((entry),) = old_entries(data, "cp437")
        assert (entry.name, entry.whole) == (name, whole), name
    assert list(old_entries(bytes(32) + short, "cp437")) == [], "behind the end"
    assert list(old_entries(short[:11] + b"\x10" + short[12:], "cp437")) == [], "a folder"
    assert list(old_entries(short[:31], "cp437")) == []


@pytest.mark.parametrize("seed", range(3))
def test_any_bytes_of_a_folder(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        data = bytearray(rng.randbytes(32 * 20))
        for at in range(0, len(data), 32):
            data[at] = rng.choice([0xE5, 0xE5, 0xE5, 0x41])
            data[at + 11] = rng.choice([0x0F, 0x20, 0x20, data[at + 11]])
        for entry in old_entries(bytes(data), "cp437"):
            assert entry.name


def test_folder_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dissect_sesparse.files import fat_files

    guest = Guest(tmp_path)
    guest.write("keep.txt")
    guest.snapshot()
    guest.write("last.txt")
    guest.host.record(guest.image)

    def broken(data: bytes, encoding: str) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(fat_files, "old_entries", broken)
    warned: list[str] = []
    with open_chain(guest.host.chain.write()) as chain:
        with pytest.raises(NotAllLookedAtError):
            list(deleted_files(chain, warned.append))
    assert any("old entries of the folder /" in message for message in warned)
