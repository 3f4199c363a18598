"""Entries of grain tables (n) and of grain directories (d): all states, and values that no host writes."""

from __future__ import annotations

from functools import partial as bind
from typing import TYPE_CHECKING

from sesparse_builder import grain_data

from cases.kit import DATA, GRAINS_AT, SECTORS, TABLE_SECTORS, add, allocated, case, partial, right
from cases.picture import MAY

if TYPE_CHECKING:
    from sesparse_builder import ExtentBuilder

    from cases.kit import Box, Disk, Link

UNMAPPED = 0x1 << 60
ZERO = 0x2 << 60


@case
def n01(box: Box) -> Disk:
    """0x1 (unmapped, old index kept) over parent data"""
    link = box.snapshot(edit=lambda extent: extent.unmap(20, grain_data("old", 20)))
    return right(link.painted([20], None))


@case
def n02(box: Box) -> Disk:
    """0x1 without index over parent data"""
    return right(box.snapshot(unmapped=(20, 21)))


@case
def n03(box: Box) -> Disk:
    """0x1 in the middle layer of three (base data, mid 0x1, top none)"""
    return right(box.delta(box.snapshot(unmapped=(20, 21)), "disk-000002", data=(2, 3), zero=()))


@case
def n04(box: Box) -> Disk:
    """standalone seSparse disk (parentCID ffffffff): 0x0, 0x1, 0x2"""
    return right(box.delta(None, "disk", unmapped=(20, 21)))


@case
def n06(box: Box) -> Disk:
    """0x2 with nonzero low bits"""
    entries = {20: ZERO | 5, 21: ZERO | 3 << 48}
    return right(box.snapshot(entries=entries).painted(entries, None))


@case
def n07(box: Box) -> Disk:
    """0x0 with nonzero low bits (reserved: QEMU strict error)"""
    entries = {20: 5, 22: 1 << 48, 24: 1 << 59}
    return partial(box.snapshot(entries=entries).bad(*entries), "entry-invalid")


@case
def n08(box: Box) -> Disk:
    """unknown nibbles 0x4..0xf, one grain each"""
    entries = {20 + 2 * nibble: nibble << 60 for nibble in range(4, 16)}
    return partial(box.snapshot(entries=entries).bad(*entries), "entry-invalid")


@case
def n09(box: Box) -> Disk:
    """0x3 index far beyond EOF"""
    return partial(box.snapshot(entries={20: allocated(1 << 30)}).bad(20), "entry-invalid")


@case
def n09b(box: Box) -> Disk:
    """0x3 index beyond EOF in the middle of a run, then good grains"""
    # The file has room for the places up to 4096, the grains region for those up to 5119
    link = box.snapshot(data=range(20, 40), zero=(), entries={30: allocated(4700)})
    return partial(link.bad(30), "truncated|entry-invalid")


@case
def n10(box: Box) -> Disk:
    """0x3 index beyond the grains extent but inside the file"""

    def more_than_the_region(extent: ExtentBuilder) -> None:
        extent.patch(GRAINS_AT + 6000 * 4096, grain_data("junk", 20) * 2)

    link = box.snapshot(entries={20: allocated(6000)}, edit=more_than_the_region)
    return partial(link.bad(20), "entry-invalid")


@case
def n11(box: Box) -> Disk:
    """last allocated grain cut in half by EOF"""
    last = len(DATA) - 1
    link = box.snapshot(cut=GRAINS_AT + last * 4096 + 2048).painted(DATA[-1:], "disk-000001", MAY)
    return partial(link.lost(DATA[-1] * 8 + 4, 4), "truncated")


@case
def n12(box: Box) -> Disk:
    """two grains point to the same index"""
    link = box.snapshot(entries={20: allocated(0)})
    return right(shown_as(link, 20, 0), "place-shared")


def shown_as(link: Link, grain: int, other: int) -> Link:
    """The link where a grain reads as another one's bytes, or raises: which of the two has a claim is not known."""
    data = grain_data("disk-000001", other)
    for number in range(8):
        sector = data[number * 512 : number * 512 + 512]
        link = link.repainted(grain * 8 + number, 1, sector, MAY)
    return link


@case
def n13(box: Box) -> Disk:
    """grain index makes offset overflow (idx 2^60-1)"""
    return partial(box.snapshot(entries={20: 0x3FFFFFFFFFFFFFFF}).bad(20), "entry-invalid")


# Directory entries, of the first 16 MiB. An entry is 0x10000000 in the high half and the table's index in the low one.


def bad_directory(value: int, box: Box) -> Disk:
    return partial(box.snapshot(directory={0: value}).lost(0, TABLE_SECTORS), "entry-invalid")


for number, (words, value) in enumerate(
    {
        "top nibble 0x2": 0x2000000000000000,
        "no top nibble, value 5": 5,
        "top nibble 0x3": 0x3000000000000000,
        "0x1 with bit 32 set": 0x1000000100000000,
        "all ones": 0xFFFFFFFFFFFFFFFF,
    }.items()
):
    add(f"d0{number + 1}", f"grain directory entry bad: {words}", bind(bad_directory, value))

# The tables are at sector 6144, 32 of them; the bitmap is at 8192, the grains are at 12288
for id, words, index in (
    ("d06", "96: past the tables extent, lands on grain data inside the file", 96),
    ("d06c", "40: past the tables extent, lands on the (zero) free bitmap", 40),
    ("d06d", "31: inside the tables extent but never used (all zero table)", 31),
):
    add(id, f"grain table index {words}", bind(bad_directory, 0x10000000 << 32 | index))


@case
def d06b(box: Box) -> Disk:
    """grain table index 400: past EOF by a little (offset < 2^32 sectors)"""
    # Table 400 would be at sector 31744. All grains in use are in front of the cut
    link = box.snapshot(directory={0: 0x10000000 << 32 | 400}, cut=31700 * 512)
    return partial(link.lost(0, TABLE_SECTORS), "entry-invalid")


@case
def d07(box: Box) -> Disk:
    """grain table index beyond EOF"""
    return bad_directory(0x10000000 << 32 | 0x0FFFFFFF, box)


@case
def d08(box: Box) -> Disk:
    """both directory entries point to the same table"""
    link = box.snapshot(directory={1: 0x10000000 << 32 | 0})
    # What the parent has there may be served: the table that is shared says nothing about most of it
    link = link.painted(range(4096, SECTORS // 8), "base", MAY)
    for grain in DATA:
        if grain < SECTORS // 8 - 4096:
            link = shown_as(link, 4096 + grain, grain)
    return right(link.painted([4096 + 7], None, MAY), "place-shared", "table-shared")
