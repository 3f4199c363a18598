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


class Hosted(NamedTuple):
    """A piece of a link: a hosted sparse extent, of which ``sectors`` belong to the disk."""

    path: Path
    sectors: int


class Cowd(NamedTuple):
    """A piece of a link: an ESX sparse extent, of which ``sectors`` belong to the disk."""

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


Piece = Flat | Zero | Sparse | Hosted | Cowd

ZEROS = b"\x00" * 512
HOLE = Sector(0, None, None, ZEROS)


def disk(links: list[list[Piece]]) -> list[Sector]:
    """The sectors of a chain; ``links`` newest first, each a list of the pieces it is made of."""
    return states(links)[0]


def states(links: list[list[Piece]]) -> list[list[Sector]]:
    """The sectors of a chain as each of its links shows it, and of nothing, which is below the last one."""
    found: list[list[Sector]] = [[]]
    for pieces in reversed(links):
        found.insert(0, link(pieces, found[0]))
    return found


def link(pieces: list[Piece], below: list[Sector]) -> list[Sector]:
    """The sectors of one link over those of the links below it."""
    mine: list[Sector] = []
    for number, piece in enumerate(pieces):
        first = len(mine)
        if isinstance(piece, Flat):
            mine += flat_sectors(piece)
        elif isinstance(piece, Zero):
            mine += [Sector(2, None, None, ZEROS)] * piece.sectors
        elif isinstance(piece, Sparse):
            mine += sparse_sectors(piece, below, first)
        else:
            mine += older_sectors(piece, below, first)
        # An extent may have less than its line says: then there is nothing, or the disk ends
        if number < len(pieces) - 1:
            mine += [Sector(4, None, None, None)] * (first + piece.sectors - len(mine))
    return mine


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
    count = min(piece.sectors, u64(file, 0x10) or 0)
    for state, place in grain_states(file, (count + 7) // 8):
        for within in range(0, 4096, 512):
            if state == 0:
                sectors.append(under(below, first + len(sectors)))
            elif state == 3:
                data = file[place + within : place + within + 512]
                sectors.append(Sector(3, piece.path, place + within, data if len(data) == 512 else None))
            elif state == 4:
                sectors.append(Sector(4, piece.path, None, None))
            else:
                sectors.append(Sector(state, piece.path, None if place is None else place + within, ZEROS))
            if len(sectors) == count:
                break  # the disk may end within its last grain
    return sectors


def under(below: list[Sector], number: int) -> Sector:
    """What the links below have: a hole where they have nothing, or end."""
    return below[number] if number < len(below) else HOLE


def older_sectors(piece: Hosted | Cowd, below: list[Sector], first: int) -> list[Sector]:
    """The sectors of an extent of an older format, whole ones without compression."""
    file = contents(piece.path)
    if file[:4] == b"COWD":  # capacity, sectors of a grain, directory; 4096 entries a table
        capacity, grain, directory = (u32(file, offset) for offset in (0x0C, 0x10, 0x14))
        entries, zeroed = 4096, False
    else:
        capacity, grain, entries, directory = u64(file, 0x0C), u64(file, 0x14), u32(file, 0x2C), u64(file, 0x38)
        zeroed = u32(file, 0x08) & 4 != 0
    sectors: list[Sector] = []
    for number in range(min(piece.sectors, capacity)):
        table = u32(file, directory * 512 + number // grain // entries * 4)
        entry = u32(file, table * 512 + number // grain % entries * 4) if table else 0
        if entry == 0:
            sectors.append(under(below, first + number))
        elif entry == 1 and zeroed:
            sectors.append(Sector(2, piece.path, None, ZEROS))
        else:
            place = (entry + number % grain) * 512
            sectors.append(Sector(3, piece.path, place, file[place : place + 512]))
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


def u32(file: bytes | mmap.mmap, offset: int) -> int:
    """A little-endian 32-bit number."""
    return int.from_bytes(file[offset : offset + 4], "little")


def u64(file: bytes, offset: int) -> int | None:
    """A little-endian 64-bit number, ``None`` where the file has none."""
    data = file[offset : offset + 8]
    return int.from_bytes(data, "little") if len(data) == 8 else None
