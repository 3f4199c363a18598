"""Chains that go on in VMware's older formats: hosted sparse, stream-optimized, ESX sparse (c, s, k)."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import vmdk_builder
from vmdk_builder import CowdBuilder, HostedBuilder, StreamBuilder

from cases.chains import grown
from cases.kit import SECTORS, Link, case, partial, refused, right
from cases.picture import Picture, content

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cases.kit import Box, Disk

GRAIN = 128
"""Sectors of a hosted grain."""


def embedded(
    name: str, cid: str, parent: Link | None = None, sectors: int = SECTORS, create_type: str | None = None
) -> str:
    """The descriptor that is inside of a hosted extent."""
    return vmdk_builder.descriptor(
        [f'RW {sectors} SPARSE "{name}.vmdk"'],
        cid=cid,
        parent_cid=parent.cid if parent is not None else "ffffffff",
        parent_hint=parent.path.name if parent is not None else None,
        create_type=create_type or "monolithicSparse",
    )


def fill(extent: HostedBuilder | StreamBuilder, grains: Sequence[int], tag: str, first_sector: int = 0) -> None:
    """Write hosted grains, out of order; they say where on the whole disk they are."""
    for grain in reversed(grains):
        first = first_sector + grain * GRAIN
        extent.allocate(grain, content(tag, first, first + GRAIN))


def monolithic(
    box: Box, name: str = "base", parent: Link | None = None, grains: Sequence[int] = (0, 1, 2, 7, 100, 256, 319)
) -> Link:
    """A hosted sparse disk in one file."""
    cid = f"{zlib.crc32(name.encode()):08x}"
    extent = HostedBuilder(SECTORS, descriptor=embedded(name, cid, parent))
    fill(extent, grains, name)
    path = box.vm / f"{name}.vmdk"
    extent.write(path)
    picture = parent.picture if parent is not None else Picture(SECTORS)
    for grain in grains:
        picture = picture.paint(grain * GRAIN, GRAIN, name)
    return Link(path, cid, picture)


def cowd(box: Box, parent: Link, sectors: Sequence[int] = (8, 9, 11, 4096, 32768, 40000, SECTORS - 1)) -> Link:
    """An ESX sparse delta; its grains are sectors."""
    extent = CowdBuilder(SECTORS)
    picture = parent.picture
    for sector in reversed(sectors):
        extent.allocate(sector, content("cowd", sector, sector + 1))
        picture = picture.paint(sector, 1, "cowd")
    extent.write(box.vm / "cowd-delta.vmdk")
    line = f'RW {SECTORS} VMFSSPARSE "cowd-delta.vmdk"'
    return box.link("cowd", [line], picture, cid="c0bd0001", parent=parent, create_type="vmfsSparse")


@case
def c05(box: Box) -> Disk:
    """seSparse over vmfsSparse (COWD) over flat"""
    return right(box.delta(cowd(box, box.base())))


@case
def c06(box: Box) -> Disk:
    """seSparse over monolithicSparse"""
    return right(box.delta(monolithic(box)))


@case
def c07(box: Box) -> Disk:
    """monolithicSparse child (embedded descriptor) over monolithicSparse"""
    return right(monolithic(box, "child", monolithic(box), (1, 3, 319)), ours=False)


@case
def c13(box: Box) -> Disk:
    """base twoGbMaxExtentSparse: two hosted extents"""
    picture = Picture(SECTORS)
    lines = []
    for number, first in ((1, 0), (2, 20480)):
        extent = HostedBuilder(20480)
        fill(extent, (0, 3, 159), "base", first)
        for grain in (0, 3, 159):
            picture = picture.paint(first + grain * GRAIN, GRAIN, "base")
        extent.write(box.vm / f"base-s00{number}.vmdk")
        lines.append(f'RW 20480 SPARSE "base-s00{number}.vmdk"')
    return right(box.delta(box.link("base", lines, picture, cid="ba5e0001", create_type="twoGbMaxExtentSparse")))


@case
def s02(box: Box) -> Disk:
    """child grown, parent monolithicSparse"""
    return right(box.delta(monolithic(box), **grown()), "capacity-mismatch")


@case
def s04(box: Box) -> Disk:
    """child grown, parent COWD"""
    return right(box.delta(cowd(box, box.base()), **grown()), "capacity-mismatch")


# Hostile ones. What they claim to need is a hole in their file


@case(sparse=True)
def k01(box: Box) -> Disk:
    """hostile monolithicSparse base: capacity 2^27 sectors, grain 1, 1 entry per table -> 512 MiB directory, in a sparse file"""
    base = Link(box.vm / "base.vmdk", "ba5e0001", Picture(SECTORS))
    header = vmdk_builder.hosted_header(
        capacity=1 << 27, grain=1, entries=1, descriptor=(1, 20), directory=64, overhead=128
    )
    text = embedded("base", base.cid, sectors=1 << 27)
    with base.path.open("wb") as fh:
        fh.write(header + text.encode())
        fh.truncate(1 << 30)
    return refused(box.delta(base), "base.vmdk", memory=50)


@case(sparse=True)
def k02(box: Box) -> Disk:
    """hostile COWD delta: num_grain_directory_entries 2^27 for a 20 MiB disk, in a sparse file"""
    link = cowd(box, box.base())
    with (box.vm / "cowd-delta.vmdk").open("r+b") as fh:
        fh.seek(0x18)
        fh.write(struct.pack("<I", 1 << 27))
        fh.truncate(1 << 30)
    return refused(box.delta(link), "cowd-delta.vmdk", memory=50)


def bomb(mib: int) -> bytes:
    """A zlib stream of so many MiB of zeros, put together from copies of one block."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    adler = (mib << 20) % 65521 << 16 | 1
    return b"\x78\x01" + block * mib + b"\x03\x00" + struct.pack(">I", adler)


@case
def k03(box: Box) -> Disk:
    """streamOptimized base with a zlib bomb grain (1.5 MiB -> 1.5 GiB)"""
    grains = (1, 2, 319)
    extent = StreamBuilder(SECTORS, descriptor=embedded("base", "ba5e0001", create_type="streamOptimized"))
    fill(extent, grains, "base")
    extent.allocate(0, b"", raw=bomb(1536))
    extent.write(box.vm / "base.vmdk")
    base = Link(box.vm / "base.vmdk", "ba5e0001", Picture(SECTORS)).lost(0, GRAIN)
    for grain in grains:
        base = base.repainted(grain * GRAIN, GRAIN, "base")
    return partial(box.delta(base), memory=50)


@case
def k04(box: Box) -> Disk:
    """hosted base with 0 entries per table"""
    base = monolithic(box)
    with base.path.open("r+b") as fh:
        fh.seek(44)
        fh.write(bytes(4))
    return refused(box.delta(base), "base.vmdk", "GTEs", memory=50)
