"""Drivers of ``histories.py`` beside those of ``churn_drivers``: FAT by mtools, and what is free as ``fstrim`` gives it."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from churn_drivers import GRAIN, UTC, Btrfs, Linux, Ntfs, needs, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from churn_drivers import Driver

ROOM = (1_500_000, 2_500_000)
"""Bytes free at the start of a volume that is nearly full."""


class Fat:
    """FAT16 by mtools. A folder is changed, and mtools carry over what changed: they do not mount."""

    name = "fat"
    size = 24 << 20
    partition_type = 0x06
    folders: tuple[str, ...] = ("", "a", "b/c")
    room: tuple[int, ...] = ROOM
    features: frozenset[str] = frozenset()
    _cluster = 2048

    def __init__(self) -> None:
        self._shadow = tempfile.TemporaryDirectory()
        self._known: dict[str, tuple[int, bytes | None]] = {}
        """Path, inode in the shadow, and content, of what mtools carried over."""
        self._image = Path()
        self._clock = int(time.time()) - 30 * 86400
        """The guest's: some seconds pass from one step to the next, as FAT knows when a file was made to two of them."""
        self._made: dict[int, int] = {}
        """When a file was made, by its inode in the shadow: drivers keep that when they write it anew, mtools do not."""

    def missing(self) -> str | None:
        lost = [tool for tool in ("mkfs.fat", "mcopy") if shutil.which(tool, path="/usr/bin:/usr/sbin:/sbin") is None]
        return f"{', '.join(lost)} is not installed" if lost else None

    def make(self, image: Path) -> None:
        image.unlink(missing_ok=True)
        with image.open("wb") as fh:
            fh.truncate(self.size)
        run("mkfs.fat", "-F", 16, "-s", 4, "-n", "HISTORY", image)

    @contextmanager
    def mounted(self, image: Path) -> Iterator[Path]:
        self._image = image
        yield Path(self._shadow.name)
        self.carry_over()

    def space(self, root: Path) -> int:
        """Bytes that are free."""
        return len(self._free_clusters()) * self._cluster

    def carry_over(self) -> None:
        """Do to the image what was done to the folder since the last time."""
        root = Path(self._shadow.name)
        self._clock += 7
        now = {p.relative_to(root).as_posix(): (p.stat().st_ino, self._content(p)) for p in sorted(root.rglob("*"))}
        paths = {inode: path for path, (inode, _) in self._known.items()}
        for path, (inode, _) in now.items():
            old = paths.get(inode)
            if old is not None and path not in self._known and old not in now:
                self._run("mmove", f"::{old}", f"::{path}")
                self._known[path] = self._known.pop(old)
        for path in sorted(self._known.keys() - now.keys(), reverse=True):
            self._run("mrd" if self._known[path][1] is None else "mdel", f"::{path}")
        for path, (inode, content) in now.items():
            if path not in self._known and content is None:
                self._run("mmd", f"::{path}")
            elif content is not None and self._known.get(path) != (inode, content):
                if path not in self._known or self._known[path][0] != inode:
                    self._made[inode] = self._clock
                self._run("mcopy", "-o", str(root / path), f"::{path}", clock=self._made[inode])
        self._known = now

    @staticmethod
    def _content(path: Path) -> bytes | None:
        return None if path.is_dir() else path.read_bytes()

    def _run(self, tool: str, *words: str, clock: int = 0) -> None:
        command = [tool, "-i", str(self._image), *words]
        environment = {**UTC, "MTOOLS_SKIP_CHECK": "1", "SOURCE_DATE_EPOCH": str(clock or self._clock)}
        subprocess.run(command, check=True, capture_output=True, env=environment, stdin=subprocess.DEVNULL)

    def _free_clusters(self) -> list[int]:
        """Offsets of the clusters that the table has as free."""
        with self._image.open("rb") as fh:
            boot = fh.read(512)
            reserved, copies, entries, _, _, sectors = struct.unpack_from("<HBHHBH", boot, 14)
            fh.seek(reserved * 512)
            table = struct.unpack(f"<{sectors * 256}H", fh.read(sectors * 512))
        start = (reserved + copies * sectors) * 512 + entries * 32
        count = (self.size - start) // self._cluster
        return [start + number * self._cluster for number, entry in enumerate(table[2 : count + 2]) if not entry]

    def free(self, image: Path) -> set[int]:
        self._image = image
        free = {(place + at) // 512 for place in self._free_clusters() for at in range(0, self._cluster, 512)}
        return {g for g in range(self.size // GRAIN) if all(g * 8 + sector in free for sector in range(8))}

    def times(self, path: Path) -> bytes | None:
        return None

    def set_back(self, path: Path, before: os.stat_result, record: bytes | None) -> None:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def path_of(self, told: str) -> str:
        """The same in lower case, as all names here are: FAT keeps short names in capitals."""
        return told.lower()


class Trimming(Linux):
    """A driver of Linux whose free grains are those that ``fstrim`` gives back, on a copy of the image."""

    def free(self, image: Path) -> set[int]:
        copy = image.with_suffix(".trimmed")
        copy.write_bytes(image.read_bytes())  # without holes: what is one afterwards was given back
        with self.mounted(copy) as root:
            run("fstrim", root)
        free = _holes(copy)
        copy.unlink()
        return free


def _holes(path: Path) -> set[int]:
    """The grains of a file that are in its holes."""
    size = path.stat().st_size
    with path.open("rb") as fh:
        data = start = 0
        found: set[int] = set()
        while start < size:
            try:
                data = os.lseek(fh.fileno(), start, os.SEEK_DATA)
            except OSError:  # none behind it
                data = size
            found.update(range(-(-start // GRAIN), data // GRAIN))
            start = os.lseek(fh.fileno(), data, os.SEEK_HOLE) if data < size else size
    return found


class TrimmingBtrfs(Btrfs, Trimming):
    """btrfs with two subvolumes, which trims nothing of itself."""

    def __init__(self, compress: str = "") -> None:
        super().__init__(compress)
        self.options += ",nodiscard"


def ntfs(seed: int) -> Driver:
    return Ntfs(1024 if seed % 3 == 2 else 4096, 24 << 20)


def ext4(seed: int) -> Driver:
    return Trimming("ext4", 32 << 20, ("mkfs.ext4", "-q", "-b", (1024, 4096)[seed % 2], "-J", "size=4"))


def ext2(seed: int) -> Driver:
    return Trimming("ext4", 24 << 20, ("mkfs.ext4", "-q", "-b", 1024, "-O", "^has_journal,^extent,^64bit"))


def xfs(seed: int) -> Driver:
    return Trimming("xfs", 64 << 20, ("mkfs.xfs", "--unsupported", "-q", "-K"))


def btrfs(seed: int) -> Driver:
    return TrimmingBtrfs(("", "zstd")[seed % 2])


def fat(seed: int) -> Driver:
    return Fat()


MAKERS = {"NTFS": ntfs, "ext4": ext4, "ext2": ext2, "XFS": xfs, "btrfs": btrfs, "FAT16": fat}


def missing(driver: Driver) -> str | None:
    """What is not installed or allowed here."""
    return driver.missing() or (needs("fstrim") if isinstance(driver, Linux) else None)
