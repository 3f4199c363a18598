"""Const and volatile header of a seSparse extent: read, and checked before anything else trusts them.

A number in a header is a lie until it has been held against the file's size. Nothing here allocates or loops in
proportion to one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE, REGION_STEP_SECTORS, TABLE_COVERS, TABLE_SIZE, c_sesparse
from dissect_sesparse.source.errors import ExtentError
from dissect_sesparse.source.file import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.source.file import EvidenceFile

MAX_CAPACITY_SECTORS = 1 << 38
"""128 TiB. VMware's limit is 62 TiB; the directory of a much larger disk, though all a hole, takes minutes to go through."""

MAX_FILE_SIZE = 1 << 56
"""64 PiB. Places beyond do not fit where the reader keeps them (see ``lanes``) and are not in the file for it."""

REGIONS = (
    "volatile_header",
    "journal_header",
    "journal",
    "grain_directory",
    "grain_tables",
    "free_bitmap",
    "backmap",
    "grains",
)
"""The regions that the const header places, in the order of its fields."""

SALVAGE_ADVICE = "salvage=1 rebuilds a destroyed header where the rest of the file allows it"


@dataclass(frozen=True)
class Region:
    """A region of the extent's file. ``offset`` and ``size`` in bytes."""

    name: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


RESERVED = {"reserved1": (0, 0x200), "reserved2": (0,), "reserved3": (0,), "reserved4": (0,)}
"""What the reserved fields hold. They decide nothing, so any other value is odd and no more.

0 in the one real extent and in QEMU's research. ``reserved1`` is 0x200 on newer hosts, as one migration tool met it in the
field (OpenNebula one-swap, ``sesparse.c``, 2026); perhaps the size of a logical sector. That is one source.
"""


@dataclass(frozen=True)
class Padding:
    """What a reserved field or padding holds, and should not: of padding the first byte that is not zero."""

    field: str
    source_offset: int
    """Bytes, in the file."""
    value: int
    expected: str = "only zeros"
    confirmed: bool = True
    """Whether two sources say what is expected."""


@dataclass(frozen=True)
class Header:
    """What the two headers say, checked."""

    capacity: int
    """Bytes of the virtual disk."""
    regions: dict[str, Region]
    """By the names of :data:`REGIONS`."""
    free_gt_number: int
    next_txn_seq_number: int
    replay_journal: int
    """Not 0: the extent was not closed cleanly."""
    padding: tuple[Padding, ...] = field(default=())
    """What is odd in reserved fields and behind the headers' fields."""
    rebuilt: tuple[str, ...] = field(default=())
    """What of it was rebuilt from what, in words; empty where both headers are the file's own."""

    @property
    def table_count(self) -> int:
        """How many grain tables the capacity needs; more directory entries are never looked at."""
        return -(-self.capacity // TABLE_COVERS)

    @property
    def place_count(self) -> int:
        """How many grains the grains region has room for."""
        return -(-self.regions["grains"].size // GRAIN_SIZE)


def read_header(file: EvidenceFile, *, allow_truncated: bool = False) -> Header:
    """Read and check both headers.

    Args:
        file: The extent.
        allow_truncated: Accept regions that leave the file (the bytes behind its end are then unreadable).

    Raises:
        ExtentError: Naming the file, the field, its value and what was expected.
    """
    capacity, regions, padding = read_const(file, allow_truncated=allow_truncated)
    volatile = read_struct(file, regions["volatile_header"].offset, c_sesparse.volatile_header)
    _expect(file, volatile, "magic", c_sesparse.SESPARSE_VOLATILE_MAGIC, "volatile_header.")
    return header_of(capacity // SECTOR, regions, volatile, padding)


def read_const(
    file: EvidenceFile, *, allow_truncated: bool = False
) -> tuple[int, dict[str, Region], tuple[Padding, ...]]:
    """Read and check the const header: capacity in bytes, regions, and what is odd.

    Raises:
        ExtentError: As :func:`read_header`.
    """
    const = read_struct(file, 0, c_sesparse.const_header)
    _check_const(file, const)
    regions = {
        name: Region(name, getattr(const, f"{name}_offset") * SECTOR, getattr(const, f"{name}_size") * SECTOR)
        for name in REGIONS
    }
    _check_sizes(file, const, regions)
    check_places(file, regions, allow_truncated=allow_truncated)
    return const.capacity * SECTOR, regions, (*_reserved(const), *_padding("const_header", 0xD0, const))


def header_of(
    capacity_sectors: int,
    regions: dict[str, Region],
    volatile: Any,
    padding: tuple[Padding, ...] = (),
    rebuilt: tuple[str, ...] = (),
) -> Header:
    """Put together what the const header and a volatile one say."""
    return Header(
        capacity=capacity_sectors * SECTOR,
        regions=regions,
        free_gt_number=volatile.free_gt_number,
        next_txn_seq_number=volatile.next_txn_seq_number,
        replay_journal=volatile.replay_journal,
        padding=padding + tuple(_padding("volatile_header", regions["volatile_header"].offset + 0x20, volatile)),
        rebuilt=rebuilt,
    )


def read_struct(file: EvidenceFile, offset: int, struct: Any) -> Any:
    """A structure at an offset in bytes.

    Raises:
        ExtentError: If the file ends before its end.
    """
    data = file.read_some(offset, len(struct))
    if len(data) < len(struct):
        raise ExtentError(
            f"the file has {file.size} bytes, its {struct.__name__} needs {len(struct)} at byte {offset:#x}",
            file=file.label,
            advice="not an extent, or a copy that was cut off",
        )
    return struct(data)


def _expect(file: EvidenceFile, header: Any, name: str, expected: int, prefix: str = "") -> None:
    if (value := getattr(header, name)) != expected:
        raise ExtentError(
            file=file.label, field=prefix + name, value=int(value), expected=f"{expected:#x}", advice=SALVAGE_ADVICE
        )


def _check_const(file: EvidenceFile, const: Any) -> None:
    """The fields that decide where bytes lie or what they mean, and have one valid value; and the capacity."""
    _expect(file, const, "magic", c_sesparse.SESPARSE_CONST_MAGIC)
    _expect(file, const, "version", c_sesparse.SESPARSE_VERSION)
    _expect(file, const, "grain_size", GRAIN_SIZE // SECTOR)
    _expect(file, const, "grain_table_size", TABLE_SIZE // SECTOR)
    _expect(file, const, "flags", 0)
    if not 0 < const.capacity <= MAX_CAPACITY_SECTORS:
        raise ExtentError(
            f"no disk of that size has a grain_directory of {const.grain_directory_size} sectors",
            file=file.label,
            field="capacity",
            value=const.capacity,
            expected=f"1 to {MAX_CAPACITY_SECTORS:#x} sectors",
            advice=SALVAGE_ADVICE,
        )


def needed_sectors(capacity_sectors: int) -> dict[str, int]:
    """How large each region must be for the capacity.

    The formulas are those of the first version of QEMU's patch, and hold for the real extent.
    """
    tables = -(-capacity_sectors // (TABLE_COVERS // SECTOR))
    grains = -(-capacity_sectors // (GRAIN_SIZE // SECTOR))
    return {
        "volatile_header": 1,
        "grain_directory": -(-tables * 8 // SECTOR),
        "grain_tables": tables * (TABLE_SIZE // SECTOR),
        "free_bitmap": -(-grains // (8 * SECTOR)),
        "backmap": -(-grains * 8 // SECTOR),
        "grains": capacity_sectors,
    }


def _check_sizes(file: EvidenceFile, const: Any, regions: dict[str, Region]) -> None:
    for name, needed in needed_sectors(const.capacity).items():
        if (size := regions[name].size // SECTOR) < needed:
            raise ExtentError(
                f"too small for the capacity of {const.capacity:#x} sectors",
                file=file.label,
                field=f"{name}_size",
                value=size,
                expected=f"at least {needed:#x} sectors",
                advice=SALVAGE_ADVICE,
            )
    # Only what the capacity needs is ever read, but a directory far larger than that belongs to another disk.
    needed = needed_sectors(const.capacity)["grain_directory"]
    if (size := regions["grain_directory"].size // SECTOR) > needed + REGION_STEP_SECTORS:
        raise ExtentError(
            f"far larger than the capacity of {const.capacity:#x} sectors needs",
            file=file.label,
            field="grain_directory_size",
            value=size,
            expected=f"at most {needed + REGION_STEP_SECTORS:#x} sectors",
            advice=SALVAGE_ADVICE,
        )


def check_places(file: EvidenceFile, regions: dict[str, Region], *, allow_truncated: bool) -> None:
    """Regions lie inside the file and do not overlap. The grains only have to start there: the last are not written."""
    for region in regions.values():
        end = region.offset if region.name == "grains" else region.end
        if end > file.size and not (
            allow_truncated and region.name != "volatile_header" and region.end < MAX_FILE_SIZE
        ):
            raise ExtentError(
                f"the region's end, byte {end:#x}, is past the end of the file, byte {file.size:#x}",
                file=file.label,
                field=f"{region.name}_offset",
                value=region.offset // SECTOR,
                expected="a region inside the file",
                advice="a cut-off copy? unreadable=zero opens what is left of it",
            )
    # An empty region lies nowhere; between two others it would hide that these overlap.
    used = [Region("const_header", 0, SECTOR), *(region for region in regions.values() if region.size)]
    placed = sorted(used, key=lambda region: region.offset)
    for first, second in zip(placed, placed[1:]):
        if first.end > second.offset:
            raise ExtentError(
                f"it overlaps {first.name}, which takes sectors {first.offset // SECTOR:#x} to {first.end // SECTOR:#x}",
                file=file.label,
                field=f"{second.name}_offset",
                value=second.offset // SECTOR,
                expected="regions that do not overlap",
                advice=SALVAGE_ADVICE,
            )


def _reserved(const: Any) -> Iterator[Padding]:
    """The reserved fields that hold what none was seen to hold."""
    for number, (name, seen) in enumerate(RESERVED.items()):
        if (value := int(getattr(const, name))) not in seen:
            expected = " or ".join(f"{each:#x}" for each in seen)
            yield Padding(f"const_header.{name}", 0x30 + 8 * number, value, expected, len(seen) == 1)


def _padding(name: str, offset: int, header: Any) -> Iterator[Padding]:
    """The first byte of a header's padding that is not zero."""
    rest = header.padding.lstrip(b"\x00")
    if rest:
        yield Padding(f"{name}.padding", offset + len(header.padding) - len(rest), rest[0])
