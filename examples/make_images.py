"""Make the file system states that ``make_vm.py`` turns into a virtual machine.

The guest's disk is 64 MiB with one NTFS partition at 1 MiB. The real NTFS driver writes and deletes the guest's files,
one mount an event, at the event's time. After each step what changed on the disk is stored in ``images/``:

    images/01-work.xz     the grains (4 KiB) that differ from the step before, one after the other
    images/01-work.json   ``written``: runs of those grains as [first grain, count];
                          ``trimmed``: runs of grains that were in use in the step before and are free now

A step whose files are there is kept, so a step added at the end costs no rebuild of the others. To build all of them
anew, delete the folder.

Needs Linux, root, ntfs-3g (with mkntfs and ntfscat) and faketime. ``make_vm.py`` needs none of these.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import random
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

IMAGES = Path(__file__).parent / "images"

GRAIN = 4096
DISK_SIZE = 64 * 1024 * 1024
PARTITION_OFFSET = 1024 * 1024
PARTITION_SECTORS = (DISK_SIZE - PARTITION_OFFSET) // 512

# faketime reads times as local ones
UTC = {**os.environ, "TZ": "UTC"}


@dataclass(frozen=True)
class Event:
    """What the guest does at a time: write a file, or delete it where there is no content."""

    time: str
    path: str
    content: Callable[[], bytes] | None = None


def customers() -> bytes:
    """About 200 KiB of CSV; the last line holds the sum of the others."""
    rng = random.Random(1)
    first = ["Ada", "Bram", "Chiara", "Daan", "Elif", "Femke", "Goran", "Hanna", "Ines", "Joost", "Kofi", "Lotte"]
    last = ["Okafor", "Jansen", "Rossi", "Novak", "Yilmaz", "Visser", "Horvat", "Meyer", "Silva", "Mensah", "Dubois"]
    city = ["Delft", "Utrecht", "Gent", "Leuven", "Bremen", "Aarhus", "Porto", "Lyon"]
    lines = ["id,name,email,city,balance"]
    total = 0
    for number in range(1, 3301):
        names = rng.choice(first), rng.choice(last)
        balance = rng.randrange(100, 999_999)
        total += balance
        email = f"{names[0]}.{names[1]}{number}@example.com".lower()
        lines.append(f"{number:06d},{' '.join(names)},{email},{rng.choice(city)},{balance / 100:.2f}")
    lines.append(f"total,3300 customers,,,{total / 100:.2f}")
    return "\r\n".join(lines).encode() + b"\r\n"


def log(name: str, count: int) -> bytes:
    """A text log whose lines tell their own number."""
    rng = random.Random(name)
    verbs = ["GET /", "GET /login", "POST /login", "GET /orders", "POST /orders"]
    lines = [
        f"{name} line {number:05d} 10.0.0.{rng.randrange(2, 99)} {rng.choice(verbs)} {rng.choice([200, 200, 302, 404])}"
        for number in range(count)
    ]
    return "\r\n".join(lines).encode() + b"\r\n"


def keylog() -> bytes:
    """What a key logger wrote."""
    rng = random.Random(2)
    words = ["dir", "whoami", "net use", "ipconfig", "copy", "password", "Winter2024!", "exit"]
    lines = [f"[{number:04d}] web01\\admin cmd.exe <{rng.choice(words)}><ENTER>" for number in range(400)]
    return "\r\n".join(lines).encode() + b"\r\n"


def archive(files: dict[str, bytes]) -> bytes:
    """A zip whose files are stored, not compressed: their text can be searched in the raw disk."""
    buf = io.BytesIO()
    with zipfile.ZipFile(buf, "w", zipfile.ZIP_STORED) as fh:
        for name, data in files.items():
            fh.writestr(zipfile.ZipInfo(name, (2024, 3, 12, 23, 40, 0)), data)
    return buf.getvalue()


def exfil() -> bytes:
    """The archive that left the machine: the whole of customers.csv."""
    return archive({"customers.csv": customers(), "readme.txt": b"web01 customers, part 1 of 1\r\n"})


def staging() -> bytes:
    """The archive that was being put together."""
    return archive({"app.log": log("staged", 900), "keylog.txt": keylog()})


def patch_tmp() -> bytes:
    """A temporary file of the patch."""
    return b"".join(b"KB5035849 payload block %06d\r\n" % number for number in range(2000))


def notes() -> bytes:
    """Notes that stay."""
    return b"Patch night: reboot web01 after KB5035849, then check the orders page.\r\n" * 90


def payout() -> bytes:
    """Who was paid for what left the machine."""
    rng = random.Random(3)
    lines = ["date,to,account,amount"]
    for number in range(1, 901):
        account = f"NL{rng.randrange(10, 99)}BANK{rng.randrange(10**9, 10**10)}"
        lines.append(
            f"2024-03-{number % 18 + 1:02d},broker {number:04d},{account},{rng.randrange(100, 90_000) / 100:.2f}"
        )
    return "\r\n".join(lines).encode() + b"\r\n"


def reply() -> bytes:
    """A text that stays."""
    return b"Re: audit. All logs of web01 are attached, nothing else was on it.\r\n" * 70


def inventory() -> bytes:
    """A small SQLite database."""
    with sqlite3.connect(":memory:") as db:
        db.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, stock INTEGER)")
        db.executemany("INSERT INTO item (name, stock) VALUES (?, ?)", [(f"item-{n:04d}", n % 90) for n in range(600)])
        db.commit()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "inventory.db"
            db.execute("VACUUM INTO ?", (str(path),))
            return path.read_bytes()


def png() -> bytes:
    """A 200 x 200 picture in shades of grey."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\x00" + bytes((x * y // 40) & 0xFF for x in range(200)) for y in range(200))
    header = struct.pack(">IIBBBBB", 200, 200, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    """A 1024 x 768 picture of grey 8 x 8 squares: each block has a DC coefficient only, so no transform is needed."""

    def segment(marker: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data

    width, height = 1024, 768
    # DC codes: the categories 0-11 have 4 bits each, equal to their number. AC: the one code is end-of-block, bit 0
    tables = b"\x00" + bytes([0, 0, 0, 12] + [0] * 12) + bytes(range(12)) + b"\x10" + bytes([1] + [0] * 15) + b"\x00"
    bits: list[str] = []
    before = 0
    for number in range(width // 8 * height // 8):
        # Quantised by 8, a DC of n makes the block 128 + n grey
        value = (number % 128 + number // 128 * 3 + zlib.crc32(b"%d" % number) % 9) % 200 - 100
        difference, before = value - before, value
        size = abs(difference).bit_length()
        # A negative difference is written in ones' complement
        code = difference if difference > 0 else difference + (1 << size) - 1
        bits.append(f"{size:04b}" + (f"{code:0{size}b}" if size else "") + "0")
    stream = "".join(bits)
    stream += "1" * (-len(stream) % 8)
    scan = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\x00")

    return b"".join(
        [
            b"\xff\xd8",
            segment(0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"),
            segment(0xDB, b"\x00" + b"\x08" * 64),
            segment(0xC0, struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)),
            segment(0xC4, tables),
            segment(0xDA, b"\x01\x01\x00\x00\x3f\x00"),
            scan,
            b"\xff\xd9",
        ]
    )


STEPS: dict[str, list[Event]] = {
    # The base, until snapshot "before patch" of 2024-03-11 20:00
    "base": [
        Event("2024-02-05 09:00:00", "inetpub/logs/u_ex240205.log", lambda: log("u_ex240205", 700)),
        Event("2024-02-05 09:01:00", "Users/admin/Documents/welcome.txt", lambda: b"Data disk of web01.\r\n"),
        Event("2024-02-05 09:02:00", "Users/admin/Pictures/plan.png", png),
        Event("2024-02-06 10:30:00", "Apps/orders/inventory.db", inventory),
        Event("2024-02-06 10:31:00", "Windows/Temp/setup.log", lambda: log("setup", 150)),
    ],
    # Delta 1, until snapshot "after patch" of 2024-03-14 21:30
    "work": [
        Event("2024-03-11 20:15:00", "Windows/Temp/kb5035849.tmp", patch_tmp),
        Event("2024-03-12 09:20:00", "Users/admin/Documents/customers.csv", customers),
        Event("2024-03-12 09:25:00", "Users/admin/Documents/notes.txt", notes),
        Event("2024-03-12 16:05:00", "Users/admin/Pictures/rack.jpg", jpeg),
        Event("2024-03-12 23:41:00", "Users/admin/Documents/exfil.zip", exfil),
    ],
    "cleanup": [Event("2024-03-13 07:00:00", "Windows/Temp/kb5035849.tmp")],
    # Delta 2, still running where the VM is made with two snapshots
    "staging": [
        Event("2024-03-15 22:10:00", "Users/admin/AppData/keylog.txt", keylog),
        Event("2024-03-15 22:58:00", "Users/admin/AppData/staging.zip", staging),
    ],
    "wipe": [
        Event("2024-03-16 01:12:00", "Users/admin/AppData/staging.zip"),
        Event("2024-03-16 01:12:20", "Users/admin/AppData/keylog.txt"),
        Event("2024-03-16 01:13:00", "Users/admin/Documents/exfil.zip"),
        Event("2024-03-16 01:13:30", "Users/admin/Documents/customers.csv"),
    ],
    # Delta 3, only where the VM is made with three snapshots; the last one was taken on 2024-03-18 08:00
    "payout": [
        Event("2024-03-18 22:30:00", "Users/admin/Documents/payout.csv", payout),
        Event("2024-03-18 22:41:00", "Users/admin/Documents/reply.txt", reply),
    ],
    "shred": [Event("2024-03-19 00:05:00", "Users/admin/Documents/payout.csv")],
}


def mbr() -> bytes:
    """The first sector: a disk signature and one NTFS partition."""
    sector = bytearray(512)
    struct.pack_into("<I", sector, 0x1B8, 0x57454231)
    # Status, CHS of the start (unused), type, CHS of the end (unused), first sector, number of sectors
    entry = struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", 0x07, b"\xfe\xff\xff", 2048, PARTITION_SECTORS)
    sector[0x1BE : 0x1BE + 16] = entry
    sector[0x1FE:] = b"\x55\xaa"
    return bytes(sector)


def format_partition(image: Path) -> None:
    """Make an empty partition whose clusters are as large as a grain."""
    with image.open("wb") as fh:
        fh.truncate(PARTITION_SECTORS * 512)
    geometry = ["-p", "2048", "-H", "255", "-S", "63", "-s", "512", "-c", str(GRAIN)]
    command = ["mkntfs", "-F", "-Q", "-q", *geometry, "-L", "DATA", str(image)]
    command = ["faketime", "-f", "@2024-02-05 08:55:00", *command]
    subprocess.run(command, check=True, env=UTC, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def mounted(image: Path, moment: str) -> Generator[Path, None, None]:
    """Mount the partition with its clock set to ``moment``."""
    with tempfile.TemporaryDirectory() as folder:
        # In the foreground, so that its end tells when everything is on the disk
        command = ["faketime", "-f", f"@{moment}", "ntfs-3g", "-o", "no_detach", str(image), folder]
        driver = subprocess.Popen(command, env=UTC, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not os.path.ismount(folder):
            if driver.poll() is not None:
                raise RuntimeError(f"ntfs-3g failed with exit code {driver.returncode}")
            time.sleep(0.01)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)
            driver.wait()


def run_event(image: Path, event: Event) -> None:
    """Let the driver write or delete one file."""
    with mounted(image, event.time) as root:
        path = root / event.path
        if event.content is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(event.content())


def disk_of(image: Path) -> bytes:
    """The whole disk around a partition."""
    return mbr().ljust(PARTITION_OFFSET, b"\x00") + image.read_bytes()


def used_grains(image: Path) -> set[int]:
    """Grains of the disk that are in use, from the $Bitmap. A cluster is as large as a grain, and aligned to one."""
    bitmap = subprocess.run(["ntfscat", "-i", "6", str(image)], check=True, capture_output=True).stdout
    first = PARTITION_OFFSET // GRAIN
    return {first + cluster for cluster in range(PARTITION_SECTORS // 8) if bitmap[cluster // 8] >> cluster % 8 & 1}


def runs(grains: Iterable[int]) -> list[list[int]]:
    """Ascending grains as [first, count]."""
    found: list[list[int]] = []
    for grain in sorted(grains):
        if found and sum(found[-1]) == grain:
            found[-1][1] += 1
        else:
            found.append([grain, 1])
    return found


def store(stem: str, before: bytes, after: bytes, trimmed: set[int]) -> None:
    """Write what a step changed to ``images/``."""
    changed = [
        grain
        for grain in range(DISK_SIZE // GRAIN)
        if before[grain * GRAIN : (grain + 1) * GRAIN] != after[grain * GRAIN : (grain + 1) * GRAIN]
    ]
    data = b"".join(after[grain * GRAIN : (grain + 1) * GRAIN] for grain in changed)
    steps = {"written": runs(changed), "trimmed": runs(trimmed)}
    (IMAGES / f"{stem}.json").write_text(json.dumps(steps) + "\n")
    (IMAGES / f"{stem}.xz").write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def load(stem: str, disk: bytes) -> bytes:
    """Apply a stored step to the disk."""
    data = io.BytesIO(lzma.decompress((IMAGES / f"{stem}.xz").read_bytes()))
    after = bytearray(disk)
    for first, count in json.loads((IMAGES / f"{stem}.json").read_text())["written"]:
        after[first * GRAIN : (first + count) * GRAIN] = data.read(count * GRAIN)
    return bytes(after)


def main() -> int:
    """Build the steps that are not there yet."""
    if sys.platform != "linux" or os.geteuid() != 0:
        sys.stderr.write("Needs Linux and root: the NTFS driver mounts the image.\n")
        return 1
    IMAGES.mkdir(exist_ok=True)
    disk = bytes(DISK_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "partition.img"
        for number, (name, events) in enumerate(STEPS.items()):
            stem = f"{number:02d}-{name}"
            if (IMAGES / f"{stem}.json").exists():
                disk = load(stem, disk)
                image.write_bytes(disk[PARTITION_OFFSET:])
                continue
            if number == 0:
                format_partition(image)
            used = used_grains(image)
            for event in events:
                run_event(image, event)
            before, disk = disk, disk_of(image)
            store(stem, before, disk, used - used_grains(image))
            sys.stdout.write(f"{stem}: {(IMAGES / f'{stem}.xz').stat().st_size} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
