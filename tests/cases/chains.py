"""Chains that are as they should be (c), and disks whose size is not the simple one (s)."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from sesparse_builder import ExtentBuilder, grain_data

from cases.kit import DATA, MIB, SECTORS, case, partial, refused, right, swap
from cases.picture import Picture

if TYPE_CHECKING:
    from cases.kit import Box, Disk, Link

TIB = 2**31
"""Sectors in a TiB."""


def stack(box: Box, parent: Link, depth: int) -> Link:
    """So many deltas, each with a grain of its own, one that all write, and a zero that hides the one below."""
    for number in range(1, depth + 1):
        data, zero = (10 * number, 4096 + number, 5), (10 * number - 10,)
        parent = box.delta(parent, f"disk-{number:06d}", data=data, zero=zero)
    return parent


def two_flat(box: Box, first: str = "FLAT", second: str = "FLAT") -> Link:
    """A base of two flat extents."""
    box.plain("base-f001.vmdk", ("base", 0, 20480))
    box.plain("base-f002.vmdk", ("base", 20480, SECTORS))
    lines = [f'RW 20480 {first} "base-f001.vmdk" 0', f'RW 20480 {second} "base-f002.vmdk" 0']
    return box.link("base", lines, Picture(SECTORS, "base"), cid="ba5e0001", create_type="twoGbMaxExtentFlat")


@case
def c01(box: Box) -> Disk:
    """flat base alone"""
    return right(box.base(), ours=False)


@case
def c02(box: Box) -> Disk:
    """seSparse depth 1 over flat (data + 0x2 zero)"""
    return right(box.snapshot())


@case
def c03(box: Box) -> Disk:
    """seSparse chain depth 3"""
    return right(stack(box, box.base(), 3))


@case
def c04(box: Box) -> Disk:
    """seSparse chain depth 8"""
    return right(stack(box, box.base(), 8))


@case
def c08(box: Box) -> Disk:
    """seSparse over two FLAT extents"""
    return right(box.delta(two_flat(box)))


@case
def c09(box: Box) -> Disk:
    """base FLAT extent with start offset 2048 (junk before)"""
    box.plain("base-flat.vmdk", ("junk", 0, 2048), ("base", 0, SECTORS))
    line = f'RW {SECTORS} FLAT "base-flat.vmdk" 2048'
    return right(box.delta(box.link("base", [line], Picture(SECTORS, "base"), cid="ba5e0001", create_type="vmfs")))


@case
def c09b(box: Box) -> Disk:
    """two FLAT extents in one file, offsets 0 and 20000"""
    box.plain("base-flat.vmdk", ("base", 0, SECTORS))
    lines = ['RW 20000 FLAT "base-flat.vmdk" 0', f'RW {SECTORS - 20000} FLAT "base-flat.vmdk" 20000']
    return right(box.delta(box.link("base", lines, Picture(SECTORS, "base"), cid="ba5e0001", create_type="vmfs")))


@case
def c10(box: Box) -> Disk:
    """ZERO extent in the middle of the base (FLAT, ZERO, FLAT)"""
    box.plain("base-f001.vmdk", ("base", 0, 10001))
    box.plain("base-f003.vmdk", ("base", 15004, SECTORS))
    lines = ['RW 10001 FLAT "base-f001.vmdk" 0', "RW 5003 ZERO", f'RW {SECTORS - 15004} FLAT "base-f003.vmdk" 0']
    picture = Picture(SECTORS, "base").paint(10001, 5003, None)
    return right(box.delta(box.link("base", lines, picture, cid="ba5e0001", create_type="custom")))


@case
def c10b(box: Box) -> Disk:
    """ZERO extent last (FLAT, ZERO)"""
    return right(box.delta(zero_last(box)))


def zero_last(box: Box) -> Link:
    """A base whose last 10 MiB are a ZERO extent."""
    box.plain("base-f001.vmdk", ("base", 0, 20480))
    lines = ['RW 20480 FLAT "base-f001.vmdk" 0', f"RW {SECTORS - 20480} ZERO"]
    picture = Picture(SECTORS, "base").paint(20480, SECTORS, None)
    return box.link("base", lines, picture, cid="ba5e0001", create_type="custom")


def raw_device(box: Box, extent_type: str, *, there: bool = True) -> Link:
    """A base that is a raw device mapping."""
    if there:
        box.plain("base-rdm.vmdk", ("base", 0, SECTORS))
    line = f'RW {SECTORS} {extent_type} "base-rdm.vmdk"'
    return box.link("base", [line], Picture(SECTORS, "base"), cid="ba5e0001", create_type="vmfsRawDeviceMap")


@case
def c11(box: Box) -> Disk:
    """base is VMFSRDM (virtual RDM, file present as -rdm.vmdk)"""
    return right(box.delta(raw_device(box, "VMFSRDM")))


@case
def c11b(box: Box) -> Disk:
    """base is VMFSRDM, mapping file missing"""
    return refused(box.delta(raw_device(box, "VMFSRDM", there=False)), "raw device", "base-rdm.vmdk")


@case
def c12(box: Box) -> Disk:
    """base is VMFSRAW"""
    return refused(box.delta(raw_device(box, "VMFSRAW")), "raw device", "base.vmdk")


@case
def c14(box: Box) -> Disk:
    """RDONLY access mode on the base extent"""
    return right(box.delta(box.base(text=swap("RW ", "RDONLY "))))


@case
def c15(box: Box) -> Disk:
    """delta of two SESPARSE extents over two FLAT extents"""
    base = two_flat(box)
    picture = base.picture
    lines = []
    for number, first_grain, grains in ((1, 0, 3072), (2, 3072, 2048)):
        extent = ExtentBuilder(grains * 8)
        for grain in (0, 1, 700, grains - 1):
            extent.allocate(grain, grain_data("disk", first_grain + grain))
            picture = picture.paint((first_grain + grain) * 8, 8, "disk")
        extent.zero(9)
        picture = picture.paint((first_grain + 9) * 8, 8, None)
        extent.write(box.vm / f"disk-s00{number}-sesparse.vmdk")
        lines.append(f'RW {grains * 8} SESPARSE "disk-s00{number}-sesparse.vmdk"')
    return right(box.link("disk-000001", lines, picture, cid="de170001", parent=base))


@case
def c17(box: Box) -> Disk:
    """large grain indexes (4095, 4096, 5000, 0x12345): hi/lo split"""
    picture = Picture(300 * MIB).paint(0, MIB, "base")
    places = {20: 4095, 21: 4096, 22: 5000, 70000: 0x12345, 70001: 0}

    def place(extent: ExtentBuilder) -> None:
        for grain, at in places.items():
            extent.allocate(grain, grain_data("disk-000001", grain), at)

    link = box.delta(box.base(picture=picture), data=(), zero=(), edit=place)
    return right(link.painted(places, "disk-000001"))


@case(sparse=True)
def c18(box: Box) -> Disk:
    """3 TiB disk: data at 0, 2 TiB-1, 2 TiB, 2.5 TiB; parent is a 3 TiB sparse flat"""
    picture = Picture(3 * TIB).paint(0, 64, "base").paint(2 * TIB - 64, 128, "base").paint(3 * TIB - 64, 64, "base")
    return right(box.delta(box.base(picture=picture), data=(0, TIB // 4 - 1, TIB // 4, 5 * TIB // 16), zero=(1,)))


@case(sparse=True)
def c19(box: Box) -> Disk:
    """62 TiB disk, two seSparse layers, 2 grains each (32 MiB grain directory)"""
    return right(vast(box, 2), memory=64)


def vast(box: Box, depth: int) -> Link:
    """A disk of 62 TiB of so many seSparse links, each with two grains and with one that hides the link below's."""
    link = None
    for number in range(depth):
        data = (number, 62 * TIB // 8 - 1 - number, 31 * TIB // 8)
        link = box.delta(link, f"disk-{number:06d}", sectors=62 * TIB, data=data, zero=())
    assert link is not None
    return link


# Sizes


def grown(sectors: int = 28 * MIB, data: tuple[int, ...] = (*DATA, 5119, 5120, 7000)) -> dict:
    """A delta of 28 MiB, with grains on both sides of its parent's end at 20 MiB."""
    return {"sectors": sectors, "data": data}


@case
def s01(box: Box) -> Disk:
    """child 28 MiB over 20 MiB flat base (disk grown): unallocated past the parent's end"""
    return right(box.snapshot(**grown()), "capacity-mismatch")


@case
def s03(box: Box) -> Disk:
    """child grown, parent seSparse"""
    return right(box.delta(box.snapshot(), "disk-000002", **grown()), "capacity-mismatch")


def odd_size(box: Box, extra: int, data: tuple[int, ...] = DATA) -> Disk:
    """A chain whose disk has so many sectors more than 20 MiB."""
    return right(box.delta(box.base(sectors=SECTORS + extra), data=data))


@case
def s05(box: Box) -> Disk:
    """capacity 20 MiB + 1 sector (not a multiple of a grain), last partial grain unallocated"""
    return odd_size(box, 1)


@case
def s07(box: Box) -> Disk:
    """capacity 20 MiB + 1 sector, last partial grain allocated"""
    return odd_size(box, 1, (*DATA, 5120))


@case
def s05b(box: Box) -> Disk:
    """capacity 20 MiB + 8 sectors (grain-aligned, not 8 KiB aligned)"""
    return odd_size(box, 8)


@case
def s06(box: Box) -> Disk:
    """flat disk alone of 20 MiB + 1 sector"""
    return right(box.base(sectors=SECTORS + 1), ours=False)


@case
def s08(box: Box) -> Disk:
    """child smaller than the parent (16 MiB over 20 MiB)"""
    return right(box.snapshot(sectors=16 * MIB, data=DATA[:5], zero=(7,)), "capacity-mismatch")


@case
def s09(box: Box) -> Disk:
    """descriptor says 24 MiB, extent header 20 MiB"""
    return right(box.snapshot(told=24 * MIB), "capacity-mismatch")


@case
def s09b(box: Box) -> Disk:
    """descriptor says 16 MiB, extent header 20 MiB"""
    link = box.snapshot(told=16 * MIB)
    return right(replace(link, picture=link.picture.resized(16 * MIB)), "capacity-mismatch")


@case
def s10(box: Box) -> Disk:
    """flat base file cut to 10 MiB + 3 sectors (descriptor says 20 MiB)"""
    base = box.base()
    os.truncate(box.vm / "base-flat.vmdk", (10 * MIB + 3) * 512)
    return partial(box.delta(base.lost(10 * MIB + 3, SECTORS)), "truncated")


@case
def s10b(box: Box) -> Disk:
    """flat disk alone, file cut to half"""
    base = box.base()
    os.truncate(box.vm / "base-flat.vmdk", 10 * MIB * 512)
    return partial(base.lost(10 * MIB, SECTORS), "truncated", ours=False)


@case
def s11(box: Box) -> Disk:
    """flat base file longer than the descriptor says"""
    base = box.base()
    box.plain("base-flat.vmdk", ("base", 0, SECTORS), ("junk", 0, 5000))
    return right(box.delta(base))


@case
def s12(box: Box) -> Disk:
    """first flat extent file of two is short by 8 sectors"""
    base = two_flat(box)
    os.truncate(box.vm / "base-f001.vmdk", (20480 - 8) * 512)
    return partial(box.delta(base.lost(20480 - 8, 8)), "truncated")


@case
def s13(box: Box) -> Disk:
    """flat disk alone, extent size 0 in the descriptor"""
    return refused(box.base(text=swap(f"RW {SECTORS}", "RW 0")), "extent", ours=False)


@case
def s14(box: Box) -> Disk:
    """child grown, parent of two FLAT extents"""
    return right(box.delta(two_flat(box), **grown()), "capacity-mismatch")
