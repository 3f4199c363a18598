"""Every check at the opening of an extent, by literal offsets in the header."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from sesparse_builder import ExtentBuilder

from dissect_sesparse.extent.header import REGIONS, Header, Padding, Region, read_header
from dissect_sesparse.source.errors import ExtentError
from dissect_sesparse.source.file import EvidenceFile

if TYPE_CHECKING:
    from pathlib import Path

# A disk of 20 MiB: two tables. Offsets of the fields, and the regions' sectors, as they are in its header.
CAPACITY = 40960
FIELDS = {
    "volatile_header": 0x50,
    "journal_header": 0x60,
    "journal": 0x70,
    "grain_directory": 0x80,
    "grain_tables": 0x90,
    "free_bitmap": 0xA0,
    "backmap": 0xB0,
    "grains": 0xC0,
}
LAYOUT = {
    "volatile_header": (1, 1),
    "journal_header": (2, 2),
    "journal": (2048, 2048),
    "grain_directory": (4096, 2048),
    "grain_tables": (6144, 2048),
    "free_bitmap": (8192, 2048),
    "backmap": (10240, 2048),
    "grains": (12288, 40960),
}


@pytest.fixture
def extent() -> ExtentBuilder:
    return ExtentBuilder(CAPACITY)


def header_of(extent: ExtentBuilder, path: Path, *, allow_truncated: bool = False, cut: int | None = None) -> Header:
    extent.write(path, truncate_to=cut)
    file = EvidenceFile.open(path)
    try:
        return read_header(file, allow_truncated=allow_truncated)
    finally:
        file.close()


def refusal(extent: ExtentBuilder, path: Path, **kwargs: object) -> str:
    with pytest.raises(ExtentError) as caught:
        header_of(extent, path, **kwargs)
    assert str(path) in str(caught.value), "the message must name the file"
    return str(caught.value)


def shown(value: int) -> str:
    """A number as messages write it."""
    return f"{value:#x}" if value > 9 else str(value)


def test_good_header(extent: ExtentBuilder, tmp_path: Path) -> None:
    header = header_of(extent, tmp_path / "a.vmdk")
    assert header.capacity == 20 * 1024 * 1024
    assert header.table_count == 2
    assert header.regions == {n: Region(n, at * 512, size * 512) for n, (at, size) in LAYOUT.items()}
    assert tuple(header.regions) == REGIONS
    assert (header.free_gt_number, header.next_txn_seq_number, header.replay_journal) == (1, 4, 0)
    assert header.padding == ()


def test_real_header(real_path: Path) -> None:
    file = EvidenceFile.open(real_path)
    header = read_header(file)
    file.close()
    assert header.capacity == 512 * 1024 * 1024
    assert header.table_count == 32
    assert (header.free_gt_number, header.next_txn_seq_number, header.replay_journal) == (1, 0x24, 0)
    assert header.regions["grains"] == Region("grains", 12288 * 512, 1048576 * 512)
    assert header.padding == ()


# Fields that have one valid value


@pytest.mark.parametrize(
    ("offset", "value", "field", "expected"),
    [
        (0x00, 0, "magic", "0xcafebabe"),
        (0x00, 0xCAFEBABF, "magic", "0xcafebabe"),
        (0x00, 0x1CAFEBABE, "magic", "0xcafebabe"),
        (0x00, 0x80000000CAFEBABE, "magic", "0xcafebabe"),
        (0x00, 0xCAFEBABE00000000, "magic", "0xcafebabe"),
        (0x08, 0, "version", "0x200000001"),
        (0x08, 0x0000000200000000, "version", "0x200000001"),
        (0x08, 0x0000000300000000, "version", "0x200000001"),
        (0x08, 0x0000000100000002, "version", "0x200000001"),
        (0x18, 0, "grain_size", "0x8"),
        (0x18, 1, "grain_size", "0x8"),
        (0x18, 16, "grain_size", "0x8"),
        (0x18, 1 << 40, "grain_size", "0x8"),
        (0x18, 1 << 32 | 8, "grain_size", "0x8"),
        (0x20, 0, "grain_table_size", "0x40"),
        (0x20, 32, "grain_table_size", "0x40"),
        (0x20, 1 << 19, "grain_table_size", "0x40"),
        (0x28, 1, "flags", "0x0"),
        (0x28, 0x10000, "flags", "0x0"),
        (0x28, 1 << 63, "flags", "0x0"),
        (0x200, 0, "volatile_header.magic", "0xcafecafe"),
        (0x200, 0xCAFEBABE, "volatile_header.magic", "0xcafecafe"),
        (0x200, 0x1CAFECAFE, "volatile_header.magic", "0xcafecafe"),
    ],
)
@pytest.mark.parametrize("allow_truncated", [False, True])
def test_one_valid_value(
    extent: ExtentBuilder, tmp_path: Path, offset: int, value: int, field: str, expected: str, allow_truncated: bool
) -> None:
    extent.set_header(offset, value)
    message = refusal(extent, tmp_path / "delta-sesparse.vmdk", allow_truncated=allow_truncated)
    assert f"{field} is {shown(value)}, expected {expected}" in message
    assert "salvage=1" in message


@pytest.mark.parametrize("value", [0, (1 << 38) + 1, 1 << 46, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("allow_truncated", [False, True])
def test_impossible_capacity(extent: ExtentBuilder, tmp_path: Path, value: int, allow_truncated: bool) -> None:
    extent.set_header(0x10, value)
    message = refusal(extent, tmp_path / "a.vmdk", allow_truncated=allow_truncated)
    assert f"capacity is {shown(value)}, " in message
    assert "expected 1 to" in message


@pytest.mark.parametrize("sectors", [1, 7, 8, 9, 32767, 32768, 32769, 40961, 1 << 20])
def test_capacities_that_are_no_multiple_of_anything(tmp_path: Path, sectors: int) -> None:
    header = header_of(ExtentBuilder(sectors), tmp_path / "a.vmdk")
    assert header.capacity == sectors * 512
    assert header.table_count == -(-sectors // 32768)


# Sizes of regions


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("volatile_header", 1),
        ("grain_directory", 1),
        ("grain_tables", 128),
        ("free_bitmap", 2),  # 5120 grains are 640 bytes of bits
        ("backmap", 80),
        ("grains", 40960),
    ],
)
def test_region_too_small(extent: ExtentBuilder, tmp_path: Path, name: str, needed: int) -> None:
    extent.set_header(FIELDS[name] + 8, needed - 1)
    message = refusal(extent, tmp_path / "a.vmdk")
    assert f"{name}_size is" in message
    assert f"expected at least {needed:#x} sectors" in message
    assert "too small for the capacity of 0xa000 sectors" in message


@pytest.mark.parametrize("name", ["grain_directory", "grain_tables", "free_bitmap", "backmap"])
def test_region_just_large_enough(extent: ExtentBuilder, tmp_path: Path, name: str) -> None:
    needed = {"grain_directory": 1, "grain_tables": 128, "free_bitmap": 2, "backmap": 80}[name]
    extent.set_header(FIELDS[name] + 8, needed)
    assert header_of(extent, tmp_path / "a.vmdk").regions[name].size == needed * 512


def test_capacity_larger_than_the_regions(extent: ExtentBuilder, tmp_path: Path) -> None:
    extent.set_header(0x10, 1 << 37)
    assert "grain_directory_size" in refusal(extent, tmp_path / "a.vmdk")
    # By one table: the directory's rounding hides it, the tables' region would too, the grains tell
    extent.set_header(0x10, CAPACITY + 1)
    assert "grains_size is 0xa000" in refusal(extent, tmp_path / "a.vmdk")


@pytest.mark.parametrize("size", [2048 + 2, 1 << 19, 1 << 22, 1 << 24, 1 << 32, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("allow_truncated", [False, True])
def test_directory_of_another_disk(extent: ExtentBuilder, tmp_path: Path, size: int, allow_truncated: bool) -> None:
    """Also where the file is (sparsely) large enough to have it."""
    extent.set_header(0x88, size)
    extent.set_header(0x80, 60000)
    path = tmp_path / "a.vmdk"
    message = refusal(extent, path, cut=min(60000 + size, 1 << 23) * 512, allow_truncated=allow_truncated)
    assert f"grain_directory_size is {size:#x}" in message
    assert "expected at most 0x801 sectors" in message


# Places of regions


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("sector", [1 << 30, 1 << 55, 1 << 60, 1 << 63, (1 << 64) - 1])
def test_region_outside_the_file(extent: ExtentBuilder, tmp_path: Path, name: str, sector: int) -> None:
    extent.set_header(FIELDS[name], sector)
    message = refusal(extent, tmp_path / "a.vmdk")
    assert f"{name}_offset is {sector:#x}" in message
    assert "past the end of the file" in message
    assert "expected a region inside the file" in message


@pytest.mark.parametrize("name", [name for name in REGIONS if name != "grains"])
def test_file_ends_in_a_region(extent: ExtentBuilder, tmp_path: Path, name: str) -> None:
    start, size = LAYOUT[name]
    if name == "volatile_header":
        message = refusal(extent, tmp_path / "a.vmdk", cut=(start + size) * 512 - 1)
        assert "volatile_header" in message
        assert "0x3ff" in message
        return
    path = tmp_path / "a.vmdk"
    assert f"{name}_offset is {shown(start)}, " in refusal(extent, path, cut=(start + size) * 512 - 1)
    if name == "backmap":  # the last one that has to be there as a whole
        assert header_of(extent, path, cut=(start + size) * 512)
    else:
        assert f"{name}_offset is" not in refusal(extent, path, cut=(start + size) * 512)


@pytest.mark.parametrize("size", [0, 1, 8, 100, 511])
def test_file_ends_in_the_const_header(extent: ExtentBuilder, tmp_path: Path, size: int) -> None:
    for allow in (False, True):
        message = refusal(extent, tmp_path / "a.vmdk", cut=size, allow_truncated=allow)
        assert f"{size} bytes" in message
        assert "const_header" in message


@pytest.mark.parametrize("size", [512, 1000, 1023])
def test_file_ends_in_the_volatile_header(extent: ExtentBuilder, tmp_path: Path, size: int) -> None:
    for allow in (False, True):
        assert "volatile_header" in refusal(extent, tmp_path / "a.vmdk", cut=size, allow_truncated=allow)


def test_grains_only_have_to_start_in_the_file(extent: ExtentBuilder, tmp_path: Path) -> None:
    extent.set_header(FIELDS["grains"], 14336)  # a gap behind the backmap, so that only the grains are cut off
    path = tmp_path / "a.vmdk"
    assert header_of(extent, path, cut=14336 * 512).regions["grains"].size == CAPACITY * 512
    assert "grains_offset is 0x3800" in refusal(extent, path, cut=14336 * 512 - 1)


@pytest.mark.parametrize("name", [name for name in REGIONS if name != "volatile_header"])
def test_truncated_file_where_that_is_allowed(extent: ExtentBuilder, tmp_path: Path, name: str) -> None:
    header = header_of(extent, tmp_path / "a.vmdk", cut=max(1024, LAYOUT[name][0] * 512), allow_truncated=True)
    assert header.capacity == CAPACITY * 512


@pytest.mark.parametrize("name", [name for name in REGIONS if name != "volatile_header"])
@pytest.mark.parametrize("sector", [1 << 48, 1 << 55, 1 << 63, (1 << 64) - 1])
def test_absurd_places_are_no_truncation(extent: ExtentBuilder, tmp_path: Path, name: str, sector: int) -> None:
    extent.set_header(FIELDS[name], sector)
    message = refusal(extent, tmp_path / "a.vmdk", allow_truncated=True)
    assert f"{name}_offset is {sector:#x}" in message


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("other", [*REGIONS, "const_header"])
@pytest.mark.parametrize("allow_truncated", [False, True])
def test_overlap(extent: ExtentBuilder, tmp_path: Path, name: str, other: str, allow_truncated: bool) -> None:
    """A region moved onto the first or the last sector of another one."""
    if name == other:
        return
    start, size = LAYOUT.get(other, (0, 1))
    path = tmp_path / "a.vmdk"
    # Long enough for everything to be inside the file: what is tested is the overlap alone
    for sector in {start, start + size - 1}:
        extent.set_header(FIELDS[name], sector)
        message = refusal(extent, path, cut=(12288 + 2 * CAPACITY) * 512, allow_truncated=allow_truncated)
        assert "overlap" in message
        assert f"{name}_offset is" in message or f"{other}_offset is" in message
        assert "expected regions that do not overlap" in message


def test_overlap_behind_an_empty_region(extent: ExtentBuilder, tmp_path: Path) -> None:
    """An empty region between two others (by its place) must not hide that these overlap."""
    extent.set_header(FIELDS["journal"], 4100)
    extent.set_header(FIELDS["journal"] + 8, 0)
    extent.set_header(FIELDS["grain_tables"], 4200)  # the directory has sectors 4096 to 6144
    message = refusal(extent, tmp_path / "a.vmdk")
    assert "grain_tables_offset is 0x1068, it overlaps grain_directory" in message


def test_an_empty_region_overlaps_nothing(extent: ExtentBuilder, tmp_path: Path) -> None:
    extent.set_header(FIELDS["journal"], 4100)
    extent.set_header(FIELDS["journal"] + 8, 0)
    assert header_of(extent, tmp_path / "a.vmdk").regions["journal"].size == 0


def test_regions_in_another_order(tmp_path: Path) -> None:
    """QEMU does not ask for ESXi's order, nor does the reader."""
    extent = ExtentBuilder(CAPACITY)
    extent.allocate(0, b"x")
    path = tmp_path / "a.vmdk"
    extent.set_header(FIELDS["free_bitmap"], 10240)
    extent.set_header(FIELDS["backmap"], 8192)
    header = header_of(extent, path)
    assert header.regions["backmap"].offset < header.regions["free_bitmap"].offset


# Reserved fields and padding


@pytest.mark.parametrize("value", [0, 0x200])
def test_reserved1_as_hosts_write_it(tmp_path: Path, value: int) -> None:
    path = tmp_path / "a.vmdk"
    assert header_of(ExtentBuilder(CAPACITY, reserved1=value), path).padding == ()
    assert path.read_bytes()[0x30:0x38] == struct.pack("<Q", value)


@pytest.mark.parametrize("value", [1, 0x201, 0x1000, 0x200 << 32, (1 << 64) - 1])
@pytest.mark.parametrize("offset", [0x30, 0x38, 0x40, 0x48])
def test_other_reserved_values_are_recorded(extent: ExtentBuilder, tmp_path: Path, offset: int, value: int) -> None:
    extent.set_header(offset, value)
    field = f"const_header.reserved{(offset - 0x30) // 8 + 1}"
    expected = "0x0 or 0x200" if offset == 0x30 else "0x0"
    assert header_of(extent, tmp_path / "a.vmdk").padding == (Padding(field, offset, value, expected, offset != 0x30),)


@pytest.mark.parametrize("offset", [0x38, 0x40, 0x48])
def test_only_reserved1_may_be_0x200(extent: ExtentBuilder, tmp_path: Path, offset: int) -> None:
    extent.set_header(offset, 0x200)
    assert [padding.source_offset for padding in header_of(extent, tmp_path / "a.vmdk").padding] == [offset]


@pytest.mark.parametrize("offset", [0xD0, 0xD1, 0x100, 0x1FF])
def test_const_padding_is_recorded(extent: ExtentBuilder, tmp_path: Path, offset: int) -> None:
    extent.patch(offset, b"\x42")
    assert header_of(extent, tmp_path / "a.vmdk").padding == (Padding("const_header.padding", offset, 0x42),)


@pytest.mark.parametrize("offset", [0x220, 0x221, 0x300, 0x3FF])
def test_volatile_padding_is_recorded(extent: ExtentBuilder, tmp_path: Path, offset: int) -> None:
    extent.patch(offset, b"\x99")
    assert header_of(extent, tmp_path / "a.vmdk").padding == (Padding("volatile_header.padding", offset, 0x99),)


def test_padding_of_both_is_recorded_at_its_first_byte(extent: ExtentBuilder, tmp_path: Path) -> None:
    extent.patch(0xD0, b"\x00\x00\x07" + b"\x08" * 0x12D)
    extent.patch(0x220, b"\xff" * 0x1E0)
    assert header_of(extent, tmp_path / "a.vmdk").padding == (
        Padding("const_header.padding", 0xD2, 7),
        Padding("volatile_header.padding", 0x220, 0xFF),
    )


def test_leaked_memory_behind_the_journal_header_is_not_padding(extent: ExtentBuilder, tmp_path: Path) -> None:
    """ESXi leaves host memory there (seen in a real extent)."""
    extent.patch(1024 + 0x240, b"2021-08-27T12:16:13.215Z info hostd")
    assert header_of(extent, tmp_path / "a.vmdk").padding == ()


def test_dirty_extent_opens(extent: ExtentBuilder, tmp_path: Path) -> None:
    extent.set_dirty(next_sequence=17)
    header = header_of(extent, tmp_path / "a.vmdk")
    assert (header.replay_journal, header.next_txn_seq_number) == (1, 17)


def test_volatile_header_elsewhere(extent: ExtentBuilder, tmp_path: Path) -> None:
    """Its place is the const header's to say."""
    extent.set_header(FIELDS["volatile_header"], 100)
    extent.patch(100 * 512, struct.pack("<4Q", 0xCAFECAFE, 7, 8, 9))
    header = header_of(extent, tmp_path / "a.vmdk")
    assert (header.free_gt_number, header.next_txn_seq_number, header.replay_journal) == (7, 8, 9)
