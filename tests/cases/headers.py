"""Headers that cannot be trusted (h), and hostile or vast ones of all formats (k)."""

from __future__ import annotations

import struct
from functools import partial as bind
from typing import TYPE_CHECKING

from sesparse_builder import ExtentBuilder, grain_data

from cases.chains import vast
from cases.kit import GRAINS_AT, SECTORS, add, case, refused, right

if TYPE_CHECKING:
    from collections.abc import Callable

    from cases.kit import Box, Disk


def bad_word(offset: int, value: int, says: tuple[str, ...], memory: int, box: Box) -> Disk:
    """An extent with one word of its headers changed: the volatile header is at 0x200."""
    return refused(box.snapshot(header={offset: value}), "disk-000001-sesparse.vmdk", *says, memory=memory)


for id, what, offset, value, says in (
    ("h02", "volatile header magic bad", 0x200, 0xCAFEBABE, ("volatile_header.magic",)),
    ("h03", "flags = 1", 0x28, 1, ("flags",)),
    ("h03b", "flags = 0x10000 (hosted 'compressed' bit)", 0x28, 0x10000, ("flags",)),
    ("h04", "version 2.0", 0x08, 0x0000000200000000, ("version",)),
    ("h05", "version 3.0", 0x08, 0x0000000300000000, ("version",)),
    ("h06", "grain_size 16 in header, body laid out for 8", 0x18, 16, ("grain_size",)),
    ("h07", "grain_table_size 32 in header, body laid out for 64", 0x20, 32, ("grain_table_size",)),
    ("h10", "extents overlap: grain tables on top of the directory", 0x90, 4096, ("grain_tables", "grain_directory")),
    ("h10b", "extents overlap: grains on top of the grain tables", 0xC0, 6144, ("grains", "grain_tables")),
    ("h11", "capacity 2^63", 0x10, 1 << 63, ("capacity",)),
    ("h11b", "capacity 2^40 (512 TiB), directory for 20 MiB", 0x10, 1 << 40, ("grain_directory", "capacity")),
    ("h12", "capacity 0", 0x10, 0, ("capacity",)),
    ("h13", "grain_size 0", 0x18, 0, ("grain_size",)),
    ("h14", "grain_table_size 0", 0x20, 0, ("grain_table_size",)),
    ("h15", "grain_size 2^40", 0x18, 1 << 40, ("grain_size",)),
    ("h16", "grain directory offset beyond EOF", 0x80, 1 << 20, ("grain_directory_offset",)),
    ("h16b", "grain directory offset 2^60", 0x80, 1 << 60, ("grain_directory_offset",)),
    ("h17", "grain directory size 2^32 sectors (2 TiB)", 0x88, 1 << 32, ("grain_directory_size",)),
    ("h17b", "grain directory size 2^63", 0x88, 1 << 63, ("grain_directory_size",)),
    ("h17c", "grain directory size 2^24 sectors (8 GiB)", 0x88, 1 << 24, ("grain_directory_size",)),
    ("h21", "const magic 0x1cafebabe (upper half set)", 0x00, 0x1CAFEBABE, ("magic",)),
    ("h22", "grain directory size 0", 0x88, 0, ("grain_directory_size",)),
    ("h23", "grain tables offset 0 (header read as table)", 0x90, 0, ("grain_tables_offset",)),
    ("h24", "grains offset 2^55", 0xC0, 1 << 55, ("grains_offset",)),
    ("h25", "volatile header offset beyond EOF", 0x50, 1 << 20, ("volatile_header_offset",)),
):
    add(id, what, bind(bad_word, offset, value, says, 50))


@case
def h01(box: Box) -> Disk:
    """replay_journal = 1 (dirty)"""
    return right(box.snapshot(edit=ExtentBuilder.set_dirty), "journal-dirty|journal-replayed")


@case
def h08(box: Box) -> list[Disk]:
    """reserved1 nonzero"""
    base = box.base()
    as_newer_hosts = box.delta(base, "newer", header={0x30: 0x200})
    other = box.delta(base, "other", header={0x30: 1})
    return [right(as_newer_hosts), right(other, "padding-nonzero")]


@case
def h09(box: Box) -> Disk:
    """const header padding nonzero"""
    return right(box.snapshot(header={0x1F0: 1}), "padding-nonzero")


@case
def h09b(box: Box) -> Disk:
    """volatile header padding nonzero"""
    return right(box.snapshot(header={0x300: 1}), "padding-nonzero")


def other_sizes(grain_sectors: int, table_sectors: int, field: str, box: Box) -> Disk:
    """A disk with other sizes than ESXi's, but whole: a reader that takes them would read it right."""
    entries = table_sectors * 64
    numbers = {number: place for place, number in enumerate((0, 3, 100, SECTORS // grain_sectors - 1))}

    def lay_out(extent: ExtentBuilder) -> None:
        for slot in range(-(-SECTORS // (entries * grain_sectors))):
            extent.set_directory(slot, 0x10000000 << 32 | slot)
        for number, place in numbers.items():
            extent.patch(6144 * 512 + number * 8, struct.pack("<Q", 0x3 << 60 | place << 48))
            first = number * grain_sectors // 8
            data = b"".join(grain_data("disk", first + n) for n in range(grain_sectors // 8))
            extent.patch(GRAINS_AT + place * grain_sectors * 512, data)

    link = box.snapshot(data=(), zero=(), header={0x18: grain_sectors, 0x20: table_sectors}, edit=lay_out)
    for number in numbers:
        link = link.repainted(number * grain_sectors, grain_sectors, "disk")
    return refused(link, field)


what = "consistent image with grain_size 16 (never seen in the wild)"
add("h06b", what, bind(other_sizes, 16, 64, "grain_size"))
add("h07b", "consistent image with grain_table_size 32", bind(other_sizes, 8, 32, "grain_table_size"))


class Wide(ExtentBuilder):
    """An extent with larger regions than its capacity needs; all else follows them."""

    directory_sectors = 2048
    tables_sectors = 2048


def too_large(says: str, regions: dict[str, int], header: dict[int, int], box: Box) -> Disk:
    """An extent with a region that is far too large, which costs nothing in a file with holes."""
    kind: Callable[[int], ExtentBuilder] = type("Huge", (Wide,), regions)
    return refused(box.snapshot(kind=kind, header=header), "disk-000001-sesparse.vmdk", says, memory=50)


what = "grain directory of 256 MiB (sparse hole) for a 20 MiB disk"
add("h18", what, bind(too_large, "grain_directory_size", {"directory_sectors": 1 << 19}, {}), sparse=True)
what = "grain directory of 2 GiB (sparse hole) for a 20 MiB disk"
add("h18b", what, bind(too_large, "grain_directory_size", {"directory_sectors": 1 << 22}, {}), sparse=True)
what = "grain_table_size 2^19 sectors (256 MiB table, sparse hole)"
add("h19", what, bind(too_large, "grain_table_size", {"tables_sectors": 1 << 20}, {0x20: 1 << 19}), sparse=True)


@case(sparse=True)
def k05(box: Box) -> Disk:
    """chain of 4 layers on a 62 TiB disk (legitimate size)"""
    return right(vast(box, 4))
