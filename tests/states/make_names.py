"""Make the state ``names`` of NTFS: names that only journal, folders and recycle bin have: ``python tests/states/make_names.py``.

As in ``make_states``, ntfs-3g changes a real NTFS. It keeps no change journal, so this writes one as Windows would, into a real
stream ``$J`` that ntfs-3g lays out: a hole, and then a record for what each step did, with the references that the files have.
The file of that stream gets an entry in the folder ``$Extend``, which ntfs-3g lets nobody write to. The recycle bin is made of
files that Windows would write.

Needs Linux, root, ntfs-3g and faketime. The tests need none of these.
"""

from __future__ import annotations

import json
import lzma
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from dissect.ntfs import NTFS
from make_states import (
    FOLDER,
    GRAIN,
    UTC,
    Kind,
    content,
    format_partition,
    free_grains,
    grain,
    mbr,
    os,
    quiet,
    runs,
)

KIND = Kind("ntfs", 8 << 20, 1 << 20, ())
BIN = "$Recycle.Bin/S-1-5-21-1-2-3-1001"
HOLE = 8 << 20
"""Bytes of the journal that are not there any more."""
CARRIER = "carrier"
"""The file that is ``$Extend/$UsnJrnl``: the name that its record has stays."""
REASON = {"made": 0x100, "extended": 0x2, "deleted": 0x200, "old": 0x1000, "new": 0x2000, "close": 0x80000000}
PLANS = "C:\\Users\\eve\\Docs\\plan.txt"
PROJECT = "C:\\Users\\eve\\Docs\\project"
LATE = [f"late-{number:02d}-{'n' * 30}.txt" for number in range(40)]


@dataclass(frozen=True)
class Step:
    time: str
    operations: tuple[tuple, ...]
    logged: bool = True
    snapshot: bool = False


def information(version: int, size: int, moment: str, path: str) -> bytes:
    """A ``$I`` file."""
    head = struct.pack("<QqQ", version, size, filetime(moment))
    raw = path.encode("utf-16-le")
    if version == 1:
        return head + raw.ljust(520, b"\0")
    return head + struct.pack("<I", len(path) + 1) + raw + b"\0\0"


def filetime(moment: str) -> int:
    then = datetime.fromisoformat(moment).replace(tzinfo=timezone.utc)
    return int(then.timestamp()) * 10_000_000 + 116_444_736_000_000_000


BINNED = "2024-02-01 13:00:00"
STEPS = (
    Step(
        "2024-01-01 10:00:00",
        (
            ("write", "keep.txt", 3000),
            ("write", "Docs/plan.txt", 900),
            ("write", "Docs/project/leaf.txt", 5000),
            ("write", "Docs/old.txt", 100),
            ("write", "linked-a.bin", 5000),
            ("link", "linked-a.bin", "linked-b.bin"),
            ("write", "photo.jpg", 4000),
            ("write", "photo.jpg:Zone.Identifier", 100),
            ("write", "photo.jpg:large", 9000),
            ("write", "photo.jpg:kept", 50),
            *(("write", f"many/file-{number:02d}-{'m' * 30}.txt", 10) for number in range(30)),
        ),
        logged=False,
        snapshot=True,
    ),
    # Delta 1
    Step("2024-02-01 10:00:00", (("write", "exfil.zip", 700), ("mkdir", "Stage"))),
    Step("2024-02-01 10:30:00", (("rename", "exfil.zip", "Stage/harmless.dat"), ("write", "Docs/logged.txt", 77))),
    Step("2024-02-01 11:00:00", (("delete", "Stage/harmless.dat"), ("rmdir", "Stage"), ("delete", "Docs/logged.txt"))),
    Step("2024-02-01 11:10:00", tuple(("write", f"used-again-{number}.txt", 10) for number in range(3)), logged=False),
    Step("2024-02-01 11:20:00", tuple(("write", f"many/{name}", 10) for name in LATE), logged=False),
    Step(
        "2024-02-01 11:30:00",
        (*(("delete", f"many/{name}") for name in LATE[:-1]), ("rename", f"many/{LATE[-1]}", "renamed.txt")),
        logged=False,
    ),
    Step("2024-02-01 11:40:00", tuple(("write", f"fill/{number}", 10) for number in range(50)), logged=False),
    Step(
        "2024-02-01 12:00:00",
        (("unstream", "photo.jpg:Zone.Identifier"), ("unstream", "photo.jpg:large"), ("delete", "linked-b.bin")),
    ),
    Step(
        BINNED,
        (
            ("mkdir", BIN),
            ("rename", "Docs/plan.txt", f"{BIN}/$RABC123.txt"),
            ("bytes", f"{BIN}/$IABC123.txt", information(2, 900, BINNED, PLANS)),
            ("rename", "Docs/project", f"{BIN}/$RDIR001"),
            ("bytes", f"{BIN}/$IDIR001", information(2, 5000, BINNED, PROJECT)),
            ("rename", "Docs/old.txt", f"{BIN}/$RLIVE01.txt"),
            ("bytes", f"{BIN}/$ILIVE01.txt", information(1, 100, BINNED, "C:\\Users\\eve\\Docs\\old.txt")),
        ),
        snapshot=True,
    ),
    # Delta 2
    Step("2024-03-01 09:00:00", (("journal", 2 * HOLE),), logged=False),
    Step("2024-03-01 10:00:00", (("delete", f"{BIN}/$RABC123.txt"), ("delete", f"{BIN}/$IABC123.txt"))),
    Step("2024-03-01 10:30:00", (("delete", f"{BIN}/$RDIR001/leaf.txt"), ("rmdir", f"{BIN}/$RDIR001"))),
    Step("2024-03-01 11:00:00", (("write", "last.txt", 5), ("write", "last2.txt", 5)), logged=False),
)


@contextmanager
def mounted(image: Path, moment: str):
    with tempfile.TemporaryDirectory() as folder:
        options = "no_detach,streams_interface=windows"
        command = ["faketime", "-f", f"@{moment}", "ntfs-3g", "-o", options, str(image), folder]
        driver = subprocess.Popen(command, env=UTC, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not os.path.ismount(folder):
            if driver.poll() is not None:
                raise RuntimeError(f"ntfs-3g failed with exit code {driver.returncode}")
            time.sleep(0.01)
        try:
            yield Path(folder)
        finally:
            quiet("umount", folder)
            driver.wait()


class Guest:
    """What is done to the volume, and what Windows would log of it."""

    def __init__(self, image: Path):
        self.image = image
        self.end = HOLE
        self.files: dict[str, int] = {"": 5}
        """Segment by path; a file that is gone keeps it."""
        self.references: dict[str, int] = {}

    def step(self, step: Step) -> None:
        records: list[tuple[str, str, int]] = []
        with mounted(self.image, step.time) as root:
            for what, path, *more in step.operations:
                records += self.do(root, what, path, *more)
        self.learn()
        if step.logged:
            self.log(step.time, records)

    def do(self, root: Path, what: str, path: str, *more) -> list[tuple[str, str, int]]:
        """Do it, and return what is logged: path, name of the reference, reason."""
        place, made = root / str(path), REASON["made"]
        if what in ("write", "bytes"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(more[0] if what == "bytes" else content(place.name, more[0]))
            if ":" in path:
                return []
            for parent in (*Path(path).parents, Path(path)):
                self.files[str(parent).removeprefix(".")] = (root / parent).stat().st_ino
            data = made | REASON["extended"]
            return [(path, path, reason) for reason in (made, data, data | REASON["close"])]
        if what == "mkdir":
            place.mkdir(parents=True)
            self.files[path] = place.stat().st_ino
            return [(path, path, made), (path, path, made | REASON["close"])]
        if what in ("delete", "rmdir"):
            place.unlink() if what == "delete" else place.rmdir()
            return [(path, path, REASON["deleted"] | REASON["close"])] if path != "linked-b.bin" else []
        if what == "rename":
            new = str(more[0])
            place.rename(root / new)
            for old in [old for old in self.files if old == path or old.startswith(f"{path}/")]:
                self.files[new + old[len(path) :]] = self.files[old]
                if old in self.references:
                    self.references[new + old[len(path) :]] = self.references[old]
            reasons = (("old", 0), ("new", 0), ("new", REASON["close"]))
            return [(path if name == "old" else new, new, REASON[name] | more) for name, more in reasons]
        if what == "link":
            (root / str(more[0])).hardlink_to(place)
        elif what == "unstream":
            place.unlink()
        elif what == "journal":
            (root / f"{CARRIER}:$J").unlink()
            self.end = path
        return []

    def learn(self) -> None:
        """The sequence numbers of the files that there are."""
        with self.image.open("rb") as fh:
            mft = NTFS(fh).mft
            for path, segment in self.files.items():
                if path not in self.references and mft.get(segment).header.Flags & 1:
                    self.references[path] = segment | mft.get(segment).header.SequenceNumber << 48

    def log(self, moment: str, records: list[tuple[str, str, int]]) -> None:
        data = bytearray()
        for number, (path, file, reason) in enumerate(records):
            folder, _, name = path.rpartition("/")
            raw = name.encode("utf-16-le")
            length = -(-(60 + len(raw)) // 8) * 8
            room = 4096 - (self.end + len(data)) % 4096
            data += bytes(room if room < length else 0)
            usn, at = self.end + len(data), filetime(moment) + number * 10_000_000
            attributes = 0x10 if file in FOLDERS else 0x20
            head = (
                length,
                2,
                0,
                self.references[file],
                self.references[folder],
                usn,
                at,
                reason,
                0,
                0,
                attributes,
                len(raw),
                60,
            )
            data += (struct.pack("<IHHQQQQIIIIHH", *head) + raw).ljust(length, b"\0")
        with (
            mounted(self.image, moment) as root,
            (root / f"{CARRIER}:$J").open("r+b" if self.end % HOLE else "wb") as fh,
        ):
            fh.seek(self.end)
            fh.write(data)
        self.end += len(data)


FOLDERS = {"Stage", BIN, "Docs/project", f"{BIN}/$RDIR001"}


def make_journal(image: Path) -> None:
    """The file whose streams are the journal's, with an entry in ``$Extend``."""
    with mounted(image, "2024-01-01 09:30:00") as root:
        (root / CARRIER).write_bytes(b"")
        (root / f"{CARRIER}:$Max").write_bytes(
            struct.pack("<QQQQ", 32 << 20, 8 << 20, filetime("2024-01-01 09:30:00"), 0)
        )
    with image.open("r+b") as fh:
        ntfs = NTFS(fh)
        segment = ntfs.mft.get(CARRIER).segment
        sequence = ntfs.mft.get(segment).header.SequenceNumber
        extend = ntfs.mft.get(11)
        root = extend.attributes.INDEX_ROOT.header
        name = "$UsnJrnl"
        key = struct.pack(
            "<QqqqqqqIIBB", 11 | 11 << 48, *[filetime("2024-01-01 09:30:00")] * 4, 0, 0, 0x26, 0, len(name), 3
        )
        key += name.encode("utf-16-le")
        length = -(-(16 + len(key)) // 8) * 8
        entry = (struct.pack("<QHHHH", segment | sequence << 48, length, len(key), 0, 0) + key).ljust(length, b"\0")
        data = bytearray(extend.data)
        start = root.offset + root.header.Form.Resident.ValueOffset
        used = int.from_bytes(data[start + 20 : start + 24], "little")
        end = start + 16 + used - 16  # before the entry that ends it: the last one by name
        data[end:end] = entry
        del data[1024:]
        for at, more in (
            (start + 20, length),
            (start + 24, length),
            (root.offset + 4, length),
            (root.offset + 16, length),
            (24, length),
        ):
            value = int.from_bytes(data[at : at + 4], "little") + more
            data[at : at + 4] = value.to_bytes(4, "little")
        fixups = int.from_bytes(data[4:6], "little")
        for number in (1, 2):
            data[fixups + 2 * number : fixups + 2 * number + 2] = data[number * 512 - 2 : number * 512]
            data[number * 512 - 2 : number * 512] = data[fixups : fixups + 2]
        fh.seek(ntfs.boot_sector.MftStartLcn * ntfs.cluster_size + 11 * 1024)
        fh.write(data)


def main() -> None:
    disk, stored, steps = bytes(KIND.size), b"", []
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "partition.img"
        format_partition(KIND, image)
        make_journal(image)
        guest, free = Guest(image), free_grains(KIND, image)
        for step in STEPS:
            guest.step(step)
            before, disk = disk, mbr(KIND).ljust(KIND.offset, b"\0") + image.read_bytes()
            changed = [g for g in range(KIND.size // GRAIN) if grain(before, g) != grain(disk, g)]
            stored += b"".join(grain(disk, g) for g in changed)
            was, free = free, free_grains(KIND, image)
            steps.append({"written": runs(changed), "trimmed": runs(free - was), "snapshot": step.snapshot})
    (FOLDER / "names.json").write_text(json.dumps(steps, indent=1) + "\n")
    (FOLDER / "names.xz").write_bytes(lzma.compress(stored, preset=9 | lzma.PRESET_EXTREME))
    print((FOLDER / "names.xz").stat().st_size, "bytes")


if __name__ == "__main__":
    sys.exit(main())
