"""Disks to measure on: chains of deltas with a given pattern of entries, made in bulk and cached in a folder."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from sesparse_builder import ExtentBuilder, descriptor, write_flat

GRAIN = 4096
TABLE = 4096
MIB = 1 << 20
NOISE = random.Random(1).randbytes(MIB)


def chain(folder: Path, size: int, deltas: list, *, fill: bool = True) -> Path:
    """A chain over a flat base; each of ``deltas`` is a function from a table's number to its entries, or ``None``."""
    newest = folder / f"vm-{len(deltas):06d}.vmdk"
    if newest.exists():
        return newest
    folder.mkdir(parents=True)
    _write_base(folder, size, fill=fill and size <= 1 << 32)
    for number, entries in enumerate(deltas, 1):
        name = f"vm-{number:06d}"
        _write_delta(folder / f"{name}-sesparse.vmdk", size, entries, fill=fill)
        parent = "vm.vmdk" if number == 1 else f"vm-{number - 1:06d}.vmdk"
        text = descriptor(
            [(size // 512, "SESPARSE", f"{name}-sesparse.vmdk")],
            cid=f"{number:08x}",
            parent_cid=f"{number - 1:08x}" if number > 1 else "0000ba5e",
            parent_hint=parent,
        )
        (folder / f"{name}.vmdk").write_text(text, encoding="utf-8")
    return newest


def _write_base(folder: Path, size: int, *, fill: bool) -> None:
    write_flat(folder / "vm-flat.vmdk", size, {})
    if fill:
        with (folder / "vm-flat.vmdk").open("r+b") as fh:
            for _ in range(min(size, 1 << 28) // MIB):
                fh.write(NOISE)
    text = descriptor([(size // 512, "VMFS", "vm-flat.vmdk")], cid="0000ba5e", create_type="vmfs")
    (folder / "vm.vmdk").write_text(text, encoding="utf-8")


def _write_delta(path: Path, size: int, entries: object, *, fill: bool) -> None:
    builder = ExtentBuilder(size // 512)
    highest, index = 0, 0
    for table in range(-(-size // (TABLE * GRAIN))):
        values = entries(table)  # type: ignore[operator]
        if values is None:
            continue
        builder.set_directory(table, 0x10000000 << 32 | index)
        builder.patch(builder.tables_sector * 512 + index * TABLE * 8, struct.pack(f"<{len(values)}Q", *values))
        places = [(v >> 48 & 0xFFF) | (v & 0xFFFFFFFFFFFF) << 12 for v in values if v >> 60 == 3]
        highest = max([highest, *places])
        index += 1
    builder.write(path)
    with path.open("r+b") as fh:
        start = builder.grains_sector * 512
        fh.truncate(max(start + (highest + 1) * GRAIN, start + MIB))
        if fill:
            fh.seek(start)
            for _ in range(-(-(highest + 1) * GRAIN // MIB)):
                fh.write(NOISE)


def allocated(place: int) -> int:
    return 0x3 << 60 | (place & 0xFFF) << 48 | place >> 12


def in_order(table: int) -> list[int]:
    return [allocated(table * TABLE + slot) for slot in range(TABLE)]


def scattered(size: int) -> object:
    places = list(range(size // GRAIN))
    random.Random(2).shuffle(places)
    return lambda table: [allocated(place) for place in places[table * TABLE : (table + 1) * TABLE]]


def mixed(run: int, seed: int) -> object:
    """Runs of ``run`` grains, each in one of the four states."""
    chance = random.Random(seed)

    def entries(table: int) -> list[int]:
        values = []
        for first in range(0, TABLE, run):
            state = chance.randrange(4)
            base = table * TABLE + first
            values += [
                (0, 1 << 60, 2 << 60, None)[state] or (allocated(base + i) if state == 3 else 0) for i in range(run)
            ]
        return values

    return entries


def thin(seed: int) -> object:
    """A little in each table: 16 runs of 8 grains."""
    chance = random.Random(seed)

    def entries(table: int) -> list[int]:
        values = [0] * TABLE
        for number in range(16):
            first = chance.randrange(TABLE - 8)
            values[first : first + 8] = [allocated(table * 128 + number * 8 + i) for i in range(8)]
        return values

    return entries


def only(tables: set[int]) -> object:
    """In-order entries in some tables of a very large disk."""
    order = {table: number for number, table in enumerate(sorted(tables))}
    return lambda table: in_order(order[table]) if table in order else None


def file_system(folder: Path, files: int) -> Path:
    """A VM whose disk has an ext4 file system with so many files, made by mke2fs; returns its ``.vmx``.

    Three quarters of the used grains are in the base, the others in a delta over it.
    """
    vmx = folder / "vm.vmx"
    if vmx.exists():
        return vmx
    tree, raw = folder / "tree", folder / "raw"
    chance = random.Random(5)
    for number in range(0, files, 10):
        place = tree / f"{number // 1000}" / f"{number // 10}"
        place.mkdir(parents=True)
        for other in range(number, min(number + 10, files)):
            (place / f"file-{other}.txt").write_bytes(f"{other}\n".encode() * chance.randrange(1, 200))
    size = 1 << 30
    with raw.open("wb") as fh:
        fh.truncate(size)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-N", str(files * 2), "-d", tree, raw], check=True)
    shutil.rmtree(tree)
    content = raw.read_bytes()
    raw.unlink()
    delta, base = ExtentBuilder(size // 512), bytearray(content)
    for grain in range(size // GRAIN):
        data = content[grain * GRAIN : (grain + 1) * GRAIN]
        if any(data) and chance.randrange(4) == 0:
            delta.allocate(grain, data)
            base[grain * GRAIN : (grain + 1) * GRAIN] = bytes(GRAIN)
    (folder / "vm-flat.vmdk").write_bytes(base)
    delta.write(folder / "vm-000001-sesparse.vmdk")
    (folder / "vm.vmdk").write_text(
        descriptor([(size // 512, "VMFS", "vm-flat.vmdk")], cid="0000ba5e", create_type="vmfs")
    )
    text = descriptor([(size // 512, "SESPARSE", "vm-000001-sesparse.vmdk")], cid="00000001", parent_cid="0000ba5e",
                      parent_hint="vm.vmdk")  # fmt: skip
    (folder / "vm-000001.vmdk").write_text(text, encoding="utf-8")
    vmx.write_text(
        'scsi0:0.present = "TRUE"\nscsi0:0.fileName = "vm-000001.vmdk"\ndisplayName = "vm"\n', encoding="utf-8"
    )
    return vmx


def free_space(folder: Path) -> int:
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize
