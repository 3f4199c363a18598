"""What cases are made with: a folder, links that are built in it, and how to say what is expected of them."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from functools import partial as bind
from typing import TYPE_CHECKING, Any, NamedTuple

from sesparse_builder import ExtentBuilder, descriptor, grain_data, vmx, write_flat

from cases.picture import MUST, NEVER, Picture, content

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

SECTORS = 40960
"""Of the disks: 20 MiB, one full grain table and a quarter of one."""
TABLE_SECTORS = 32768
"""That one grain table covers."""
GRAINS = SECTORS // 8
MIB = 2048
"""Sectors in a MiB."""
GRAINS_AT = 12288 * 512
"""Where the grains begin in the file of a disk of this size, in bytes."""

DATA = (0, 1, 5, 100, 2600, 4095, 4096, 5000)
"""Grains that a delta has unless its case says otherwise; they get the places 0, 1, 2 ... in this order."""
ZERO = (7, 4100)
"""Grains that are zero in it."""
NO_PARENT = "ffffffff"

# What is expected


@dataclass(frozen=True)
class Disk:
    """What is expected of one disk, opened by ``open_chain`` and by dissect's ``container.open``."""

    source: Path | list[Path] | bytes
    """What is opened; bytes stand for a file object without a path."""
    outcome: str
    """``right``, ``partial`` or ``refused``."""
    picture: Picture | None
    """What it reads as; of a refused one what the whole disk would be, if that is known."""
    says: tuple[str, ...] = ()
    """Words that the message of a refusal has."""
    findings: tuple[str, ...] = ()
    """Codes that must be found; ``a|b`` for one of several."""
    ours: bool = True
    """Whether our container takes it. Chains without a seSparse extent are left to dissect's own."""
    memory: int = 256
    """MiB that may be taken."""

    @property
    def path(self) -> Path | None:
        """The path that is opened, if it is one."""
        if isinstance(self.source, bytes):
            return None
        return self.source[0] if isinstance(self.source, list) else self.source


class Slot(NamedTuple):
    """A disk of a machine."""

    name: str
    """Of the file that the target's disk was opened from."""
    picture: Picture | None
    """What it reads as; ``None`` for one that cannot be read from end to end."""
    needed: bool = True
    """Whether it has to be there. What is not needed may be there, and is then as the picture says."""


@dataclass(frozen=True)
class Machine:
    """What is expected of a target."""

    source: Path
    slots: tuple[Slot, ...]
    """In the order of their controller."""
    says: tuple[str, ...] = ()
    """Words that the log has."""
    together: bool = False
    """Whether it is opened by ``Target.open_all``, which must give one target."""


def right(link: Link, *findings: str, **changes: Any) -> Disk:
    """All bytes, and these findings and no others that are warnings or errors."""
    assert not link.picture.partial
    return Disk(link.path, "right", link.picture, findings=findings, **changes)


def partial(link: Link, *findings: str, **changes: Any) -> Disk:
    """All bytes but those that cannot be had."""
    assert link.picture.partial
    return Disk(link.path, "partial", link.picture, findings=findings, **changes)


def refused(link: Link, *says: str, **changes: Any) -> Disk:
    """An error of the family when it is opened, with these words in its message."""
    return Disk(link.path, "refused", link.picture, says=says, **changes)


# The table

Builder = "Callable[[Box], Disk | Machine | list[Disk]]"


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    id: str
    what: str
    build: Builder
    sparse: bool = False
    """Whether its files are so large that only a file system with holes can take them."""


CASES: dict[str, Case] = {}


def add(id: str, what: str, build: Builder, *, sparse: bool = False) -> None:
    """Add a case."""
    assert id not in CASES, id
    CASES[id] = Case(id, what, build, sparse)


def case(build: Builder | None = None, *, sparse: bool = False) -> Any:
    """Add the function below as a case: its name is the id, its docstring the row's text."""
    if build is None:
        return bind(case, sparse=sparse)
    add(build.__name__, build.__doc__, build, sparse=sparse)
    return build


# Building


@dataclass(frozen=True)
class Link:
    """A link that has been written."""

    path: Path
    cid: str
    picture: Picture

    def painted(self, grains: Iterable[int], tag: str | None, reading: str = MUST) -> Link:
        """The same where these grains read otherwise."""
        link = self
        for first, end in _runs(sorted(grains)):
            link = link.repainted(first * 8, (end - first) * 8, tag, reading)
        return link

    def repainted(self, first: int, count: int, tag: str | bytes | None, reading: str = MUST) -> Link:
        """The same where a range of sectors reads otherwise."""
        return replace(self, picture=self.picture.paint(first, count, tag, reading))

    def bad(self, *grains: int) -> Link:
        """The same where these grains cannot be had."""
        return self.painted(grains, None, NEVER)

    def lost(self, first: int, count: int) -> Link:
        """The same where this range of sectors cannot be had."""
        return self.repainted(first, count, None, NEVER)


class Box:
    """The folder of a case: a datastore with the VM's folder in it, and beside it a place that is no evidence."""

    def __init__(self, root: Path):
        self.root = root
        self.store = root / "store"
        self.vm = self.folder("vm")

    def folder(self, name: str) -> Path:
        """A folder of the datastore."""
        path = self.store / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def outside(self) -> Path:
        """A folder that is not in the datastore: on the analyst's own disk."""
        path = self.root / "analyst"
        path.mkdir(exist_ok=True)
        return path

    def link(
        self,
        name: str,
        extents: Sequence[str],
        picture: Picture,
        *,
        cid: str,
        parent: Link | None = None,
        hint: str | None = None,
        folder: Path | None = None,
        text: Callable[[str], str] | None = None,
        coding: str = "utf-8",
        **keywords: Any,
    ) -> Link:
        """Write a descriptor.

        Args:
            name: Of the file, without its suffix.
            extents: Whole extent lines.
            picture: What the disk reads as.
            cid: Its content id.
            parent: Its parent; none for a base.
            hint: ``parentFileNameHint``, by default the parent's file name.
            folder: Where, by default the VM's folder.
            text: Changes the text that a healthy link would have.
            coding: How the text is written.
            **keywords: For the builder's ``descriptor``.
        """
        path = (folder or self.vm) / f"{name}.vmdk"
        parent_cid = parent.cid if parent is not None else NO_PARENT
        hint = hint or (parent.path.name if parent is not None else None)
        content = descriptor(
            list(extents),
            **{"cid": cid, "parent_cid": parent_cid, "parent_hint": hint, "create_type": "seSparse"} | keywords,
        )
        path.write_bytes((text(content) if text else content).encode(coding))
        return Link(path, cid, picture)

    def plain(self, name: str, *segments: tuple[str, int, int], folder: Path | None = None) -> str:
        """Write a file of plain bytes, and return its name.

        Args:
            name: Of the file.
            *segments: What lies in it one after another: whose sectors, the first of them, and their end.
            folder: Where, by default the VM's folder.
        """
        sectors, position = {}, 0
        for tag, first, end in segments:
            sectors[position] = content(tag, first, end)
            position += end - first
        write_flat((folder or self.vm) / name, position * 512, sectors)
        return name

    def base(
        self,
        name: str = "base",
        *,
        tag: str = "base",
        sectors: int = SECTORS,
        folder: Path | None = None,
        cid: str = "ba5e0001",
        picture: Picture | None = None,
        **keywords: Any,
    ) -> Link:
        """A flat base in which every sector says so."""
        picture = picture or Picture(sectors, tag)
        sectors = picture.sectors
        data = {piece.first: content(piece.tag, piece.first, piece.end) for piece in picture.pieces if piece.tag}
        write_flat((folder or self.vm) / f"{name}-flat.vmdk", sectors * 512, data)
        line = f'RW {sectors} VMFS "{name}-flat.vmdk"'
        return self.link(name, [line], picture, cid=cid, folder=folder, **{"create_type": "vmfs"} | keywords)

    def delta(
        self,
        parent: Link | None,
        name: str = "disk-000001",
        *,
        tag: str | None = None,
        cid: str | None = None,
        sectors: int | None = None,
        data: Sequence[int] = DATA,
        zero: Sequence[int] = ZERO,
        unmapped: Sequence[int] = (),
        entries: Mapping[int, int] | None = None,
        directory: Mapping[int, int] | None = None,
        header: Mapping[int, int] | None = None,
        edit: Callable[[ExtentBuilder], object] | None = None,
        kind: Callable[[int], ExtentBuilder] = ExtentBuilder,
        cut: int | None = None,
        folder: Path | None = None,
        extent_type: str = "SESPARSE",
        extent_name: str | None = None,
        told: int | None = None,
        **keywords: Any,
    ) -> Link:
        """A seSparse delta, with its extent.

        Args:
            parent: Its parent; none for a disk of its own.
            name: Of the descriptor, without its suffix.
            tag: What its grains say, by default its name.
            cid: Its content id, by default one of its own.
            sectors: Its size, by default its parent's.
            data: Grains that it has, in the order of their places.
            zero: Grains that are zero.
            unmapped: Grains without a place that the guest trimmed.
            entries: Values of table entries, by grain. What they read as is the case's to say.
            directory: Values of directory entries.
            header: Words of the file by their offset.
            edit: Anything else that is done to the extent.
            kind: The extent's builder.
            cut: Bytes to cut the extent's file to.
            folder: Where, by default the VM's folder.
            extent_type: In the extent line.
            extent_name: In the extent line and of the file; may have folders.
            told: Sectors in the extent line, by default its size.
            **keywords: For :meth:`link`.
        """
        tag = tag or name
        sectors = sectors or (parent.picture.sectors if parent is not None else SECTORS)
        picture = (parent.picture if parent is not None else Picture(0)).resized(sectors)
        extent = kind(sectors)
        for grain in data:
            extent.allocate(grain, grain_data(tag, grain))
            picture = picture.paint(grain * 8, 8, tag)
        for grain in (*zero, *unmapped):
            (extent.zero if grain in zero else extent.unmap)(grain)
            picture = picture.paint(grain * 8, 8, None)
        break_extent(extent, entries or {}, directory or {}, header or {}, edit)

        extent_name = extent_name or f"{name}-sesparse.vmdk"
        extent.write((folder or self.vm) / extent_name, cut)
        line = f'RW {told or sectors} {extent_type} "{extent_name}"'
        cid = cid or f"{zlib.crc32(name.encode()):08x}"
        return self.link(name, [line], picture, cid=cid, parent=parent, folder=folder, **keywords)

    def snapshot(self, **keywords: Any) -> Link:
        """A delta over a flat base: the least that a chain is."""
        return self.delta(self.base(), **keywords)

    def good(self) -> Slot:
        """Another disk, which nothing is wrong with. It has a partition table, so that a target shows a volume of it."""
        picture = Picture(SECTORS).paint(0, MIB, "good").paint(SECTORS - MIB, MIB, "good")
        picture = picture.paint(0, 1, partition_table(2048, SECTORS - 2048))
        link = self.base("good", picture=picture, cid="900d0001")
        return Slot(link.path.name, picture)

    def vmx(self, disks: Sequence[str], text: Callable[[str], str] | None = None, coding: str = "utf-8") -> Path:
        """Write the machine's configuration."""
        path = self.vm / "machine.vmx"
        content = vmx(disks, "machine")
        path.write_bytes((text(content) if text else content).encode(coding))
        return path


def break_extent(
    extent: ExtentBuilder,
    entries: Mapping[int, int],
    directory: Mapping[int, int],
    header: Mapping[int, int],
    edit: Callable[[ExtentBuilder], object] | None,
) -> None:
    """Damage an extent, see :meth:`Box.delta`."""
    for grain, value in entries.items():
        extent.set_entry(grain, value)
    for slot, value in directory.items():
        extent.set_directory(slot, value)
    for offset, value in header.items():
        extent.set_header(offset, value)
    if edit is not None:
        edit(extent)


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """First and end of the ranges of consecutive numbers."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        first = runs.pop()[0] if runs and runs[-1][1] == number else number
        runs.append((first, number + 1))
    return runs


def swap(old: str, new: str) -> Callable[[str], str]:
    """A change of a text that must be in it."""

    def change(text: str) -> str:
        assert old in text, old
        return text.replace(old, new)

    return change


def partition_table(first: int, sectors: int) -> bytes:
    """A master boot record with one partition."""
    entry = struct.pack("<B3sB3sII", 0, bytes(3), 0x83, bytes(3), first, sectors)
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


def allocated(place: int) -> int:
    """The table entry of an allocated grain: 0x3, grain in its block (12 bits), block (48 bits)."""
    return 0x3 << 60 | (place & 0xFFF) << 48 | place >> 12
