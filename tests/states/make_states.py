"""Make the states of file systems that ``test_files.py`` turns into chains: ``python tests/states/make_states.py``.

Real drivers change real file systems: ntfs-3g, and Linux for ext4 and XFS. After each step what changed on the disk is stored::

    KIND.xz     the grains (4 KiB) that differ from the step before, one behind the other, of all steps
    KIND.json   for each step: ``written``, runs of those grains as [first grain, count]; ``trimmed``, runs of grains in
                which some block was in use before the step and none is now; ``snapshot``, whether one is taken after it

    lvm.xz      the first MiB of a disk whose one logical volume starts behind it

Every 512 bytes of a file's content say whose they are, so that a test can look for them in the extents.

Needs Linux, root, ntfs-3g (with mkntfs and ntfscat), faketime, e2fsprogs, xfsprogs and lvm2. The tests need none of these.
"""

from __future__ import annotations

import json
import lzma
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
GRAIN = 4096
UTC = {**os.environ, "TZ": "UTC"}


@dataclass(frozen=True)
class Step:
    """What the guest does between two looks at the disk."""

    time: str
    operations: tuple[tuple, ...]
    snapshot: bool = False


def content(name: str, size: int) -> bytes:
    """The bytes of a file: each sector tells the file's name and its own number."""
    sectors = [f"{name} {number:06d} ".encode().ljust(512, b".") for number in range(-(-size // 512))]
    return b"".join(sectors)[:size]


NTFS = (
    Step(
        "2024-01-01 10:00:00",
        (
            *(("write", f"spare{number}", 40) for number in range(4)),
            ("write", "keep.txt", 20_000),
            ("write", "Docs/report.bin", 60_001),
            ("write", "rename.txt", 9000),
            ("write", "note.txt", 200),
            ("compress", "packed"),
            ("write", "changed.bin", 80_000),
            ("write", "Deep/inner/leaf.bin", 30_000),
            ("write", "base-gone.bin", 40_000),
        ),
    ),
    Step("2024-01-01 11:00:00", (("delete", "base-gone.bin"),), snapshot=True),
    # Delta 1. What is written after the volume was filled up goes where something was deleted, and into a free MFT record
    Step("2024-02-01 10:00:00", (("write", "victim.bin", 120_000), ("rename", "rename.txt", "renamed.txt"))),
    Step("2024-02-01 11:00:00", (("patch", "changed.bin", 8192, "patch", 4096), ("write", "session.bin", 50_000))),
    Step("2024-02-01 11:30:00", (("fill", "fill.bin"),)),
    Step("2024-02-01 12:00:00", (("delete", "victim.bin"), ("delete", "spare0"), ("delete", "spare1"))),
    Step("2024-02-01 13:00:00", (("write", "thief.bin", 50_000),)),
    Step("2024-02-01 14:00:00", (("delete", "session.bin"), ("delete", "note.txt"), ("delete", "changed.bin"))),
    Step("2024-02-01 15:00:00", (("delete", "Deep/inner/leaf.bin"), ("rmdir", "Deep/inner"), ("rmdir", "Deep")), True),
    # Delta 2
    Step("2024-03-01 10:00:00", (("write", "spare4", 40), ("write", "early.bin", 90_000), ("write", "tiny.txt", 77))),
    Step("2024-03-01 10:15:00", (("write", "packed/log.bin", 300_000),)),
    Step("2024-03-01 10:30:00", (("fill", "fill2.bin"),)),
    Step("2024-03-01 11:00:00", (("delete", "early.bin"), ("delete", "spare4"))),
    Step("2024-03-01 12:00:00", (("write", "over.bin", 30_000),)),
    Step("2024-03-01 13:00:00", (("delete", "over.bin"), ("delete", "tiny.txt"), ("delete", "Docs/report.bin"))),
    Step("2024-03-01 14:00:00", (("delete", "packed/log.bin"),)),
)

UNIX = (
    Step(
        "",
        (
            ("write", "keep.txt", 20_000),
            ("write", "docs/report.bin", 60_001),
            ("write", "rename.txt", 9000),
            ("write", "twice.bin", 12_000),
            ("link", "twice.bin", "docs/again.bin"),
            ("write", "deep/inner/leaf.bin", 30_000),
            ("write", "empty", 0),
        ),
        snapshot=True,
    ),
    # Delta 1
    Step("", (("delete", "docs/report.bin"), ("rename", "rename.txt", "docs/renamed.txt"), ("delete", "twice.bin"))),
    Step("", (("write", "new.bin", 70_000), ("write", "middle.bin", 45_000), ("write", "session.bin", 20_000))),
    Step("", (("delete", "session.bin"),), snapshot=True),
    # Delta 2
    Step(
        "", (("delete", "deep/inner/leaf.bin"), ("rmdir", "deep/inner"), ("delete", "middle.bin"), ("delete", "empty"))
    ),
    Step("", (("write", "again.bin", 100_000),)),
)


@dataclass(frozen=True)
class Kind:
    """A file system on a disk, and how it is made, mounted and asked for its free blocks."""

    name: str
    size: int
    """Bytes of the disk."""
    offset: int
    """Of its partition; 0 without a partition table."""
    steps: tuple[Step, ...]


KINDS = {
    kind.name: kind
    for kind in (
        Kind("ntfs", 8 << 20, 1 << 20, NTFS),
        Kind("ext4", 16 << 20, 0, UNIX),
        Kind("xfs", 48 << 20, 1 << 20, UNIX),
    )
}


def mbr(kind: Kind) -> bytes:
    """The first sector of the disk."""
    sector = bytearray(512)
    struct.pack_into("<I", sector, 0x1B8, 0x57454232)
    code = 0x07 if kind.name == "ntfs" else 0x83
    entry = (0, b"\xfe\xff\xff", code, b"\xfe\xff\xff", kind.offset // 512, (kind.size - kind.offset) // 512)
    struct.pack_into("<B3sB3sII", sector, 0x1BE, *entry)
    sector[0x1FE:] = b"\x55\xaa"
    return bytes(sector)


def quiet(*command: object, **keywords: object) -> bytes:
    done = subprocess.run([str(word) for word in command], check=True, capture_output=True, env=UTC, **keywords)
    return done.stdout


def format_partition(kind: Kind, image: Path) -> None:
    with image.open("wb") as fh:
        fh.truncate(kind.size - kind.offset)
    if kind.name == "ntfs":
        quiet("faketime", "-f", "@2024-01-01 09:00:00", "mkntfs", "-F", "-Q", "-q", "-c", 1024, "-L", "T", image)
    elif kind.name == "ext4":
        quiet("mkfs.ext4", "-q", "-b", 1024, "-I", 256, "-J", "size=1", "-E", "lazy_itable_init=0,nodiscard", image)
    else:
        quiet("mkfs.xfs", "--unsupported", "-q", "-K", image)


@contextmanager
def mounted(kind: Kind, image: Path, moment: str):
    with tempfile.TemporaryDirectory() as folder:
        if kind.name == "ntfs":
            command = ["faketime", "-f", f"@{moment}", "ntfs-3g", "-o", "no_detach,compression", str(image), folder]
            driver = subprocess.Popen(command, env=UTC, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while not os.path.ismount(folder):
                if driver.poll() is not None:
                    raise RuntimeError(f"ntfs-3g failed with exit code {driver.returncode}")
                time.sleep(0.01)
        else:
            quiet("mount", "-o", "loop,nodiscard" if kind.name == "ext4" else "loop", image, folder)
            driver = None
        try:
            yield Path(folder)
        finally:
            quiet("umount", folder)
            if driver is not None:
                driver.wait()


def do(root: Path, operation: str, *arguments: object) -> None:
    path = root / str(arguments[0])
    if operation == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(path.name, int(str(arguments[1]))))
    elif operation == "delete":
        path.unlink()
    elif operation == "rmdir":
        path.rmdir()
    elif operation == "rename":
        path.rename(root / str(arguments[1]))
    elif operation == "fill":
        with path.open("wb", buffering=0) as fh, suppress(OSError):
            while fh.write(bytes(1024)):
                pass
    elif operation == "compress":  # what is written into the folder from now on
        path.mkdir()
        os.setxattr(path, "system.ntfs_attrib_be", struct.pack(">I", 0x810))
    elif operation == "link":
        (root / str(arguments[1])).hardlink_to(path)
    elif operation == "patch":
        with path.open("r+b") as fh:
            fh.seek(int(str(arguments[1])))
            fh.write(content(str(arguments[2]), int(str(arguments[3]))))
    else:
        raise ValueError(operation)


def free_blocks(kind: Kind, image: Path) -> set[int]:
    """Free KiB of the partition."""
    if kind.name == "ntfs":
        bitmap = quiet("ntfscat", "-i", 6, image)
        return {n for n in range((kind.size - kind.offset) // 1024) if not bitmap[n // 8] >> n % 8 & 1}
    if kind.name == "ext4":
        told = quiet("dumpe2fs", image).decode()
        found = re.findall(r"^  Free blocks: (.*)$", told, re.MULTILINE)
        ranges = [part.strip().partition("-") for line in found for part in line.split(",") if part.strip()]
        return {n for low, _, high in ranges for n in range(int(low), int(high or low) + 1)}
    told = quiet("xfs_db", "-r", "-c", "sb 0", "-c", "p agblocks", "-c", "p blocksize", image).decode()
    per_group, block = (int(n) for n in re.findall(r"= (\d+)", told))
    rows = re.findall(
        r"^\s*(\d+)\s+(\d+)\s+(\d+)\s*$", quiet("xfs_db", "-r", "-c", "freesp -d", image).decode(), re.MULTILINE
    )
    step = block // 1024
    return {
        kib
        for group, first, count in (map(int, row) for row in rows)
        for kib in range((group * per_group + first) * step, (group * per_group + first + count) * step)
    }


def free_grains(kind: Kind, image: Path) -> set[int]:
    """Grains of the disk in which no block is in use, as far as they are the partition's."""
    free, first = free_blocks(kind, image), kind.offset // GRAIN
    per = GRAIN // 1024
    return {
        first + g for g in range((kind.size - kind.offset) // GRAIN) if all(g * per + n in free for n in range(per))
    }


def grain(disk: bytes, number: int) -> bytes:
    return disk[number * GRAIN : (number + 1) * GRAIN]


def runs(grains) -> list[list[int]]:
    found: list[list[int]] = []
    for grain in sorted(grains):
        if found and sum(found[-1]) == grain:
            found[-1][1] += 1
        else:
            found.append([grain, 1])
    return found


def make(kind: Kind) -> None:
    disk, data, told = bytes(kind.size), b"", []
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "partition.img"
        format_partition(kind, image)
        free = free_grains(kind, image)
        for step in kind.steps:
            with mounted(kind, image, step.time) as root:
                for operation in step.operations:
                    do(root, *operation)
            head = mbr(kind).ljust(kind.offset, b"\x00") if kind.offset else b""
            before, disk = disk, head + image.read_bytes()
            changed = [g for g in range(kind.size // GRAIN) if grain(before, g) != grain(disk, g)]
            data += b"".join(grain(disk, g) for g in changed)
            was, free = free, free_grains(kind, image)
            told.append({"written": runs(changed), "trimmed": runs(free - was), "snapshot": step.snapshot})
    (FOLDER / f"{kind.name}.json").write_text(json.dumps(told, indent=1) + "\n")
    (FOLDER / f"{kind.name}.xz").write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
    print(kind.name, (FOLDER / f"{kind.name}.xz").stat().st_size, "bytes")


LVM = "devices{use_devicesfile=0} activation{udev_sync=0 udev_rules=0} global{activation=0}"
LOGICAL_VOLUME = """
logical_volumes { data {
    id = "abcdef-0123-4567-89ab-cdef-0123-456789"
    status = ["READ", "WRITE", "VISIBLE"]
    segment_count = 1
    segment1 { start_extent = 0 extent_count = 16 type = "striped" stripe_count = 1 stripes = [ "pv0", 0 ] }
} }
"""


def make_lvm() -> None:
    """The first MiB of a disk of 24 MiB with a logical volume of 16 MiB behind it. Needs lvm2, but no device mapper."""
    with tempfile.TemporaryDirectory() as folder:
        disk, text = Path(folder) / "disk", Path(folder) / "vg.txt"
        disk.write_bytes(bytes(24 << 20))
        device = quiet("losetup", "-f", "--show", disk).decode().strip()
        try:
            quiet("pvcreate", "-y", "--dataalignment", "1m", "--config", LVM, device)
            quiet("vgcreate", "-s", "1m", "--config", LVM, "vg0", device)
            quiet("vgcfgbackup", "--config", LVM, "-f", text, "vg0")
            told = text.read_text()
            end = told.rindex("}")
            text.write_text(told[:end] + LOGICAL_VOLUME + told[end:])
            quiet("vgcfgrestore", "--config", LVM, "-f", text, "vg0")
        finally:
            quiet("losetup", "-d", device)
        (FOLDER / "lvm.xz").write_bytes(lzma.compress(disk.read_bytes()[: 1 << 20], preset=9))


def main() -> int:
    if sys.platform != "linux" or os.geteuid() != 0:
        print("Needs Linux and root: drivers mount the images.", file=sys.stderr)
        return 1
    for name in sys.argv[1:] or (*KINDS, "lvm"):
        make_lvm() if name == "lvm" else make(KINDS[name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
