"""Files that were cut off (t), or are ransomware's work (r)."""

from __future__ import annotations

import random
import struct
from functools import partial as bind
from typing import TYPE_CHECKING

from cases.kit import DATA, GRAINS_AT, SECTORS, add, case, partial, refused
from cases.picture import MAY, NEVER, Picture, Piece

if TYPE_CHECKING:
    from sesparse_builder import ExtentBuilder

    from cases.kit import Box, Disk

EXTENT = "disk-000001-sesparse.vmdk"
DIRECTORY_AT, TABLES_AT, BITMAP_AT = 4096 * 512, 6144 * 512, 8192 * 512


def noise(size: int) -> bytes:
    """Random bytes, the same ones each time."""
    return random.Random(size).randbytes(size)


# The third element: how many of the delta's grains are still there, where it opens at all
CUTS = (
    ("0", 0, None),
    ("100 bytes", 100, None),
    ("512", 512, None),
    ("1024", 1024, None),
    ("start of directory", DIRECTORY_AT, None),
    ("middle of directory", DIRECTORY_AT + 1024 * 512, None),
    ("start of tables", TABLES_AT, None),
    ("middle of table 0", TABLES_AT + 16384, None),
    ("between table 0 and 1", TABLES_AT + 32768, None),
    ("after the tables", BITMAP_AT, None),
    ("start of grains", GRAINS_AT, 0),
    ("grain 4", GRAINS_AT + 4 * 4096, 4),
    ("grain 4 + 5 sectors + 100 bytes", GRAINS_AT + 4 * 4096 + 5 * 512 + 100, 4),
)


def cut_off(size: int, left: int | None, box: Box) -> Disk:
    """A delta whose file ends early. Cut in front of its grains it is refused, as nothing then tells what it had."""
    link = box.snapshot(cut=size)
    if left is None:
        return refused(link, EXTENT)
    link = link.bad(*DATA[left:])
    if whole := (size - GRAINS_AT) % 4096 // 512:
        link = link.repainted(DATA[left] * 8, whole, "disk-000001", MAY)
    return partial(link, "truncated")


for number, (where, size, left) in enumerate(CUTS):
    add(f"t{number:02}", f"seSparse file cut at {where}", bind(cut_off, size, left))


@case
def r01(box: Box) -> Disk:
    """seSparse file is random garbage"""
    link = box.snapshot()
    (box.vm / EXTENT).write_bytes(noise(1 << 20) * 8)
    return refused(link, EXTENT, "magic")


@case
def r02(box: Box) -> Disk:
    """first 1 MiB random (header-only encryption); tables and grains intact"""
    return refused(box.snapshot(edit=lambda extent: extent.patch(0, noise(1 << 20))), EXTENT, "magic", "salvage")


@case
def r03(box: Box) -> Disk:
    """first 4 KiB random"""
    return refused(box.snapshot(edit=lambda extent: extent.patch(0, noise(4096))), EXTENT, "magic", "salvage")


@case
def r04(box: Box) -> Disk:
    """header intact, directory random (intermittent encryption)"""
    link = box.snapshot(edit=lambda extent: extent.patch(DIRECTORY_AT, noise(1 << 20)))
    return partial(link.lost(0, SECTORS), "entry-invalid")


@case
def r05(box: Box) -> Disk:
    """header and directory intact, tables random"""
    tables = noise(2 * 32768)
    link = box.snapshot(edit=lambda extent: extent.patch(TABLES_AT, tables))
    pieces = []
    for grain, entry in enumerate(struct.unpack(f"<{SECTORS // 8}Q", tables[: SECTORS // 8 * 8])):
        # By chance some entries say unmapped or zero, and nothing in them tells otherwise
        reading = MAY if entry >> 60 in (1, 2) else NEVER
        pieces.append(Piece(grain * 8, grain * 8 + 8, None, reading))
    return partial(type(link)(link.path, link.cid, Picture.of(SECTORS, pieces)), "entry-invalid")


@case
def r05b(box: Box) -> Disk:
    """header and directory intact, tables zeroed (lost)"""

    def wipe(extent: ExtentBuilder) -> None:
        extent.patch(TABLES_AT, bytes(2 * 32768))

    return partial(box.snapshot(edit=wipe).lost(0, SECTORS), "backmap-mismatch|bitmap-mismatch", "unreadable")


@case
def r06(box: Box) -> Disk:
    """base descriptor is random bytes (encrypted), flat intact"""
    link = box.snapshot()
    (box.vm / "base.vmdk").write_bytes(noise(500))
    return refused(link, "base.vmdk", "disk-000001.vmdk")


@case
def r07(box: Box) -> Disk:
    """snapshot descriptor is random bytes (encrypted), extents intact"""
    link = box.snapshot()
    link.path.write_bytes(noise(500))
    return refused(link, "disk-000001.vmdk")


@case
def r08(box: Box) -> Disk:
    """snapshot descriptor is zero bytes"""
    link = box.snapshot()
    link.path.write_bytes(b"")
    return refused(link, "disk-000001.vmdk", "empty")
