"""Volumes as the tools of Linux make them, and disks that have such a volume: nothing here shares code with the package."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from sesparse_builder import ChainBuilder

MIB = 1 << 20
FORMATS = {
    # name: size in MiB, the tool, its arguments before the image; None: the kind has no mkfs here, see test_volumes.py
    "NTFS": (8, "mkntfs", "-F", "-q", "-Q"),
    "exFAT": (8, "mkfs.exfat"),
    "FAT12": (1, "mkfs.fat", "-F", "12"),
    "FAT16": (32, "mkfs.fat", "-F", "16"),
    "FAT32": (64, "mkfs.fat", "-F", "32"),
    "ext": (8, "mkfs.ext4", "-q"),
    "XFS": (48, "mkfs.xfs", "--unsupported", "-q"),
    "btrfs": (128, "mkfs.btrfs", "-q"),
    "F2FS": (64, "mkfs.f2fs", "-q"),
    "swap space": (2, "mkswap"),
    "LUKS1": (4, "cryptsetup", "luksFormat", "-q", "--type", "luks1", "--iter-time", "1"),
    "LUKS2": (
        32, "cryptsetup", "luksFormat", "-q", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000",
    ),
}  # fmt: skip
_SBIN = os.pathsep.join((os.environ.get("PATH", ""), "/sbin", "/usr/sbin"))


def tool(name: str) -> str:
    """A tool of the machine; the test is skipped, with its name, where it is not there."""
    found = shutil.which(name, path=_SBIN)
    if found is None:
        if os.environ.get("SESPARSE_REQUIRE_ALL"):
            pytest.fail(f"{name} is not installed, and all must run here")
        pytest.skip(f"{name} is not installed")
    return found


def formatted(kind: str, folder: Path) -> bytes:
    """A volume of a kind."""
    size, name, *arguments = FORMATS[kind]
    image = folder / "volume.img"
    with image.open("wb") as fh:
        fh.truncate(size * MIB)
    key = b"a secret" if name == "cryptsetup" else None
    more = ("-",) if key else ()
    subprocess.run([tool(name), *arguments, str(image), *more], check=True, capture_output=True, input=key)
    data = image.read_bytes()
    image.unlink()
    return data


def disk_of(folder: Path, volume: bytes, size: int | None = None, name: str = "vm") -> ChainBuilder:
    """A disk that is one volume, and a delta in which nothing was written."""
    base = {
        at // 512: volume[at : at + 4096] for at in range(0, len(volume), 4096) if volume[at : at + 4096].strip(b"\0")
    }
    chain = ChainBuilder(folder, (size or len(volume)) // 512, base, name)
    chain.add_delta()
    return chain
