"""A second reader of seSparse chains, for tests: slow, plain, and sharing nothing with the package.

Every offset and mask is a literal number from QEMU's ``block/vmdk.c``, everything is a loop over single sectors, and a
chain is evaluated as it is defined: the base first, then each child laid over its parent. Whole disks are kept in
memory as lists of sectors, so disks have to be small.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class Flat(NamedTuple):
    """A piece of a link: plain bytes of a file."""

    path: Path
    sectors: int
    start_sector: int = 0


class Zero(NamedTuple):
    """A piece of a link: zeros."""

    sectors: int


class Sparse(NamedTuple):
    """A piece of a link: a seSparse extent, of which ``sectors`` belong to the disk."""

    path: Path
    sectors: int


class Sector(NamedTuple):
    """One sector of a disk."""

    state: int
    """0 nobody has it, 1 unmapped, 2 zero, 3 allocated, 4 corrupt or missing: no answer exists."""
    path: Path | None
    """The file that says so."""
    place: int | None
    """Byte in that file."""
    data: bytes | None
    """``None`` where no answer exists."""


ZEROS = b"\x00" * 512
HOLE = Sector(0, None, None, ZEROS)


def disk(links: list[list[Flat | Zero | Sparse]]) -> list[Sector]:
    """The sectors of a chain; ``links`` newest first, each a list of the pieces it is made of."""
    below: list[Sector] = []
    for pieces in reversed(links):
        mine: list[Sector] = []
        for piece in pieces:
            if isinstance(piece, Flat):
                mine += flat_sectors(piece)
            elif isinstance(piece, Zero):
                mine += [Sector(2, None, None, ZEROS)] * piece.sectors
            else:
                mine += sparse_sectors(piece, below, len(mine))
        below = mine
    return below


def flat_sectors(piece: Flat) -> list[Sector]:
    file = contents(piece.path)
    sectors = []
    for offset in range(piece.start_sector * 512, (piece.start_sector + piece.sectors) * 512, 512):
        data = file[offset : offset + 512]
        # Whether a sector has its bytes is one thing, that a flat file has a place for it another
        sectors.append(Sector(3, piece.path, offset, data if len(data) == 512 else None))
    return sectors


def sparse_sectors(piece: Sparse, below: list[Sector], first: int) -> list[Sector]:
    """The sectors of an extent that starts at sector ``first`` of the disk, whose parent has ``below``."""
    file = contents(piece.path)
    sectors: list[Sector] = []
    for state, place in grain_states(file, (piece.sectors + 7) // 8):
        for within in range(0, 4096, 512):
            if state == 0:
                number = first + len(sectors)
                sectors.append(below[number] if number < len(below) else HOLE)
            elif state == 3:
                data = file[place + within : place + within + 512]
                sectors.append(Sector(3, piece.path, place + within, data if len(data) == 512 else None))
            elif state == 4:
                sectors.append(Sector(4, piece.path, None, None))
            else:
                sectors.append(Sector(state, piece.path, None if place is None else place + within, ZEROS))
            if len(sectors) == piece.sectors:
                break  # the disk may end within its last grain
    return sectors


def grain_states(file: bytes, count: int) -> list[tuple[int, int | None]]:
    """State of each grain, and the byte in the file that its entry names (if that is in the grains region and the file)."""
    capacity = u64(file, 0x10) * 512
    directory, tables, grains = u64(file, 0x80) * 512, u64(file, 0x90) * 512, u64(file, 0xC0) * 512
    tables_end = tables + u64(file, 0x98) * 512
    grains_end = min(grains + u64(file, 0xC8) * 512, len(file))
    states: list[tuple[int, int | None]] = []
    for grain in range(count):
        slot = u64(file, directory + grain // 4096 * 8)
        if slot == 0:
            states.append((0, None))
            continue
        if slot is None or slot & 0xFFFFFFFF00000000 != 0x1000000000000000:
            states.append((4, None))
            continue
        # A table for each 16 MiB of the disk, and no more
        index = slot & 0xFFFFFFFF
        table = tables + index * 32768
        if table + 32768 > tables_end or index * 16777216 >= capacity:
            states.append((4, None))
            continue
        states.append(entry_state(u64(file, table + grain % 4096 * 8), grains, grains_end))
    return states


def entry_state(entry: int | None, grains: int, grains_end: int) -> tuple[int, int | None]:
    """State and place that a table entry tells."""
    if entry is None:
        return 4, None
    if entry == 0:
        return 0, None
    state = entry & 0xF000000000000000
    place = grains + 4096 * (((entry & 0x0FFF000000000000) >> 48) | ((entry & 0x0000FFFFFFFFFFFF) << 12))
    if state == 0x1000000000000000:
        return 1, place if entry != 0x1000000000000000 and place < grains_end else None
    if state == 0x2000000000000000:
        return 2, None
    if state == 0x3000000000000000 and place < grains_end:
        return 3, place
    return 4, None


def contents(path: Path) -> bytes | mmap.mmap:
    """A file's bytes. Mapped, since those of sparse files are many."""
    with path.open("rb") as fh:
        return mmap.mmap(fh.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""


def u64(file: bytes, offset: int) -> int | None:
    """A little-endian 64-bit number, ``None`` where the file has none."""
    data = file[offset : offset + 8]
    return int.from_bytes(data, "little") if len(data) == 8 else None
