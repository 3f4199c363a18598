"""Drivers of real file systems, as ``churn.py`` uses them. A new one is a class with the same few methods, in ``DRIVERS``.

Each works on the image of a partition, without a partition table. All need Linux and root.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

GRAIN = 4096
ROOM = (100_000, 300_000, 800_000)
LARGE_ROOM = (2_000_000, 4_000_000, 8_000_000)
"""Of those that make nothing any more on a volume that is nearly full, or delete nothing."""
UTC = {**os.environ, "TZ": "UTC"}


class Driver(Protocol):
    """A file system and the driver that changes it."""

    name: str
    size: int
    """Bytes of the partition, whole grains."""
    partition_type: int
    """Of an MBR."""
    folders: tuple[str, ...]
    """In which files are made."""
    room: tuple[int, ...]
    """Bytes that a volume has free at the start, one of these: what is written soon lies where something else was."""
    features: frozenset[str]
    """What it can: ``streams`` (a file's other streams, as NAME:STREAM), ``links`` (hard links), ``compress`` (a new folder
    whose files are compressed), ``ctime`` (set back the time at which a record was changed), ``record`` (the bytes of the
    partition may be taken while it is mounted), ``live`` (so may snapshots: they hold a journal that is not empty)."""

    def missing(self) -> str | None:
        """What is not installed or allowed here; ``None`` where it can run."""
        ...

    def make(self, image: Path) -> None:
        """Make the file system in a file of ``size`` bytes."""
        ...

    def mounted(self, image: Path) -> contextmanager[Path]:  # type: ignore[valid-type]
        """Mount it for as long as the context lasts."""
        ...

    def free(self, image: Path) -> set[int]:
        """The grains of the partition in which nothing is in use. Asked between mounts."""
        ...

    def set_back(self, path: Path, before: os.stat_result, record: bytes | None) -> None:
        """Give a file the times that it had, as far as the driver can."""
        ...

    def path_of(self, told: str) -> str:
        """The path that a file had before the driver hid it under another name until it is deleted."""
        ...

    def times(self, path: Path) -> bytes | None:
        """What :meth:`set_back` gets as ``record``."""
        ...


def run(*command: object) -> bytes:
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, env=UTC).stdout


def needs(*tools: str) -> str | None:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it needs Linux and root: drivers mount images"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lost = [tool for tool in tools if shutil.which(tool, path=path) is None]
    return f"not installed: {', '.join(lost)}" if lost else None


def spans_of_free(bitmap: bytes, count: int, size: int) -> set[int]:
    """The grains without a block in use.

    Args:
        bitmap: A bit for each block, set where it is in use, the lowest first.
        count: Blocks.
        size: Bytes of a block.
    """
    used = {block * size // GRAIN for block in range(count) if bitmap[block // 8] >> block % 8 & 1}
    used |= {((block + 1) * size - 1) // GRAIN for block in range(count) if bitmap[block // 8] >> block % 8 & 1}
    return set(range(count * size // GRAIN)) - used


class Ntfs:
    """ntfs-3g."""

    name = "ntfs"
    partition_type = 0x07
    folders: tuple[str, ...] = ("", "a", "b/c")
    room: tuple[int, ...] = ROOM
    features = frozenset({"streams", "links", "compress", "ctime", "record"})

    def __init__(self, cluster: int = 4096, size: int = 6 << 20):
        self.cluster = cluster
        self.size = size

    def missing(self) -> str | None:
        if not Path("/dev/fuse").exists():
            return "no /dev/fuse: ntfs-3g cannot mount"
        return needs("mkntfs", "ntfs-3g", "ntfscat")

    def make(self, image: Path) -> None:
        with image.open("wb") as fh:
            fh.truncate(self.size)
        run("mkntfs", "-F", "-Q", "-q", "-c", self.cluster, "-L", "T", image)

    @contextmanager
    def mounted(self, image: Path) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            options = "no_detach,compression,streams_interface=windows"
            driver = subprocess.Popen(
                ["ntfs-3g", "-o", options, str(image), folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                while not os.path.ismount(folder):
                    if driver.poll() is not None:
                        raise RuntimeError(f"ntfs-3g failed with exit code {driver.returncode}")
                    time.sleep(0.005)
                yield Path(folder)
            finally:
                if os.path.ismount(folder):
                    run("umount", folder)
                driver.wait()

    def free(self, image: Path) -> set[int]:
        bitmap = run("ntfscat", "-f", "-i", 6, image)
        return spans_of_free(bitmap, min(len(bitmap) * 8, (self.size - 512) // self.cluster), self.cluster)

    def times(self, path: Path) -> bytes | None:
        with suppress(OSError):
            return os.getxattr(path, "system.ntfs_times")
        return None

    def set_back(self, path: Path, before: os.stat_result, record: bytes | None) -> None:
        if record is not None:  # made, written, read, changed
            with suppress(OSError):
                os.setxattr(path, "system.ntfs_times", record)
                return
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def path_of(self, told: str) -> str:
        return re.sub(r"\.ntfs-3g-\d{10}", "", told)

    @staticmethod
    def compress(path: Path) -> None:
        """Make a folder one whose files are compressed."""
        path.mkdir()
        with suppress(OSError):
            os.setxattr(path, "system.ntfs_attrib_be", struct.pack(">I", 0x810))


class Linux:
    """A driver of the Linux kernel, on a loop device."""

    partition_type = 0x83
    folders: tuple[str, ...] = ("", "a", "b/c")
    room: tuple[int, ...] = ROOM
    features = frozenset({"links", "live"})
    options = ""
    """Of mount, each with a comma before it."""

    def __init__(self, name: str, size: int, make: tuple[object, ...], features: frozenset[str] | None = None):
        self.name = name
        self.size = size
        self._make = make
        if features is not None:
            self.features = features

    def missing(self) -> str | None:
        if not Path("/dev/loop-control").exists():
            return "no /dev/loop-control: images cannot be mounted"
        if self.name not in Path("/proc/filesystems").read_text().split():
            return f"this kernel has no {self.name}"
        return needs(str(self._make[0]), "mount", "dumpe2fs")

    def make(self, image: Path) -> None:
        image.unlink(missing_ok=True)
        with image.open("wb") as fh:
            fh.truncate(self.size)
        run(*self._make, image)

    @contextmanager
    def mounted(self, image: Path) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            run("mount", "-t", self.name, "-o", f"loop{self.options}", image, folder)
            try:
                yield Path(folder)
            finally:
                run("umount", folder)

    def free(self, image: Path) -> set[int]:
        """Of ext4 alone: on the others nothing is trimmed."""
        if self.name != "ext4":
            return set()
        told = run("dumpe2fs", image).decode()
        block = int(re.findall(r"^Block size: +(\d+)$", told, re.MULTILINE)[0])
        found = re.findall(r"^  Free blocks: (.*)$", told, re.MULTILINE)
        spans = [part.strip().partition("-") for line in found for part in line.split(",") if part.strip()]
        free = {number for low, _, high in spans for number in range(int(low), int(high or low) + 1)}
        per = GRAIN // block
        return {grain for grain in range(self.size // GRAIN) if all(grain * per + n in free for n in range(per))}

    def times(self, path: Path) -> bytes | None:
        return None

    def set_back(self, path: Path, before: os.stat_result, record: bytes | None) -> None:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def path_of(self, told: str) -> str:
        return told


def ext4() -> Linux:
    return Linux("ext4", 16 << 20, ("mkfs.ext4", "-q", "-b", 1024, "-J", "size=1"))


def ext2() -> Linux:
    """Without a journal, and with lists of blocks in place of extents."""
    return Linux("ext4", 16 << 20, ("mkfs.ext4", "-q", "-b", 1024, "-O", "^has_journal,^extent,^64bit"))


def xfs() -> Linux:
    made = Linux("xfs", 48 << 20, ("mkfs.xfs", "--unsupported", "-q", "-K"))
    made.room = LARGE_ROOM
    return made


class Btrfs(Linux):
    """With subvolumes, as distributions make them: each numbers its inodes by itself."""

    folders: tuple[str, ...] = ("", "@", "@home/c")
    room = LARGE_ROOM

    def __init__(self, compress: str = "") -> None:
        super().__init__("btrfs", 40 << 20, ("mkfs.btrfs", "-q", "--mixed", "-m", "single", "-d", "single"))
        self.options = f",compress-force={compress}" if compress else ""

    def missing(self) -> str | None:
        return super().missing() or needs("btrfs")

    def make(self, image: Path) -> None:
        super().make(image)
        with self.mounted(image) as root:
            for name in ("@", "@home"):
                run("btrfs", "subvolume", "create", root / name)


def of_seed(name: str, seed: int) -> Driver:
    """A driver, set up in one of several ways."""
    if name == "ntfs" and seed % 3 == 0:
        return Ntfs(1024)
    if name == "btrfs":
        return Btrfs(["zstd", "", "lzo", "zlib"][seed % 4])
    return DRIVERS[name]()


DRIVERS = {"ntfs": Ntfs, "ext4": ext4, "ext2": ext2, "xfs": xfs, "btrfs": Btrfs}
