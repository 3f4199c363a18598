"""Destroyed headers: rebuilt where the capacity is known and the file bears it out, refused where not."""

from __future__ import annotations

import io
import random
import struct
from typing import TYPE_CHECKING

import pytest
from sesparse_builder import ExtentBuilder, descriptor, grain_data
from target_fixtures import SECTORS, SIZE, small_chain

from dissect_sesparse import SESparseError, open_chain
from dissect_sesparse.chain.open_extent import open_extent
from dissect_sesparse.chain.summary import summaries
from dissect_sesparse.extent.header import read_header
from dissect_sesparse.extent.sesparse import SESparseExtent
from dissect_sesparse.findings.findings import findings
from dissect_sesparse.repair.rebuild import Capacity, layout, logged_capacities
from dissect_sesparse.repair.repairs import repairs_of
from dissect_sesparse.source.errors import ExtentError
from dissect_sesparse.source.file import EvidenceFile
from dissect_sesparse.source.folder import Folder
from dissect_sesparse.source.options import Options

if TYPE_CHECKING:
    from pathlib import Path

    from sesparse_builder import ChainBuilder

NOISE = random.Random(1).randbytes(1 << 20)
LOG = """2021-08-27T12:16:13.215Z info hostd[2099453] [Originator@6876 sub=DiskLib] SESPARSE: opened
    constMagic     = 0xcafebabe
    version        = 2.1
    capacity       = {}
    grainSize      = 8
"""


def rebuilt(image: bytes | bytearray, *capacities: Capacity) -> SESparseExtent:
    return open_extent(EvidenceFile(io.BytesIO(bytes(image))), Options(salvage=True), capacities)


def told(sectors: int) -> Capacity:
    return Capacity(sectors, "the test")


@pytest.mark.parametrize("sectors", [8, 32768, 32769, 40960, 1 << 20, 83886080, 1 << 32, 62 << 31])
def test_layout(sectors: int) -> None:
    """The same as the builder's, which has it from literal numbers."""
    builder, regions = ExtentBuilder(sectors), layout(sectors)
    places = {name: (region.offset // 512, region.size // 512) for name, region in regions.items()}
    assert places == {
        "volatile_header": (1, 1),
        "journal_header": (2, 2),
        "journal": (2048, 2048),
        "grain_directory": (4096, builder.directory_sectors),
        "grain_tables": (builder.tables_sector, builder.tables_sectors),
        "free_bitmap": (builder.bitmap_sector, builder.bitmap_sectors),
        "backmap": (builder.backmap_sector, builder.tables_sectors),
        "grains": (builder.grains_sector, sectors),
    }


def test_real_layout(real_path: Path) -> None:
    file = EvidenceFile.open(real_path)
    assert read_header(file).regions == layout(0x100000)
    file.close()


@pytest.mark.parametrize("size", [8, 512, 1024, 2048, 1 << 20])
@pytest.mark.parametrize("fill", ["random", "zero"])
def test_real(real_path: Path, size: int, fill: str) -> None:
    """Up to the first MiB is gone: all 16 MiB are there."""
    image = bytearray(real_path.read_bytes())
    image[:size] = NOISE[:size] if fill == "random" else bytes(size)
    extent = rebuilt(image, told(0x100000))
    assert (extent.state, extent.dirty, extent.header.regions) == ("salvaged", False, layout(0x100000))
    assert extent.header.free_gt_number == 1
    (run, _) = extent.runs()
    assert (run.start, run.length) == (0, 16 << 20)
    assert extent.read(run.place, run.length) == b"a" * (16 << 20)
    assert "32 records" in extent.header.rebuilt[0]
    assert len(extent.header.rebuilt) == (2 if size > 512 else 1), "and that nothing tells any more whether it is clean"


def test_real_dirty_without_headers(real_path: Path) -> None:
    """The flag is lost with the first MiB, but the tables are not as the journal has them."""
    image = bytearray(real_path.read_bytes())
    image[: 1 << 20] = NOISE
    for sector, count in ((6144, 64), (8192, 1), (10240, 64)):
        image[sector * 512 : (sector + count) * 512] = bytes(count * 512)
    extent = rebuilt(image, told(0x100000))
    assert (extent.state, extent.dirty) == ("salvaged", True)
    assert repairs_of(extent).replay is not None
    assert len(repairs_of(extent).replay.applied) == 32
    assert "counts as dirty" in extent.header.rebuilt[1]
    place = extent.locate(4095)[1]
    assert place is not None
    assert extent.read(place, 4096) == b"a" * 4096


@pytest.mark.parametrize("sectors", [0x100000 + (1 << 20), 0x300000, 1 << 30, 8, 0, 1 << 60])
def test_real_with_a_wrong_capacity(real_path: Path, sectors: int) -> None:
    """One that puts the regions elsewhere, or has no room for what is there."""
    image = bytearray(real_path.read_bytes())
    image[: 1 << 20] = NOISE
    with pytest.raises(ExtentError) as caught:
        rebuilt(image, told(sectors))
    assert "salvage=1 could not rebuild the header" in str(caught.value)
    assert "the test says" in str(caught.value)
    assert "hostd.log" in str(caught.value)


FIELDS = [0x00, 0x08, 0x18, 0x20, 0x28, 0x50, 0x70, 0x80, 0x88, 0x90, 0xA0, 0xB0, 0xC0]


@pytest.mark.parametrize("field", FIELDS)
def test_one_field(field: int) -> None:
    """Then the header itself still has the capacity."""
    builder = ExtentBuilder(40960)
    builder.allocate(3, grain_data("x", 3))
    builder.set_header(field, 0x123456789)
    with pytest.raises(ExtentError):
        open_extent(EvidenceFile(io.BytesIO(builder.to_bytes())))
    extent = rebuilt(builder.to_bytes())
    assert extent.size == SECTORS * 512
    assert extent.read(extent.locate(3)[1] or 0, 4096) == grain_data("x", 3)


def test_volatile_header_alone() -> None:
    builder = ExtentBuilder(40960)
    builder.allocate(5000, grain_data("x", 5000), place=4100)
    builder.set_header(0x200, 0)
    extent = rebuilt(builder.to_bytes())
    assert (extent.header.free_gt_number, extent.dirty) == (2, False)
    assert "volatile_header.magic" in extent.header.rebuilt[0]


def test_a_good_header_is_left_alone(real_path: Path) -> None:
    extent = rebuilt(real_path.read_bytes(), told(8))
    assert (extent.header.rebuilt, extent.state) == ((), "clean")


def test_an_empty_extent() -> None:
    """Nothing was ever written: the two other headers and the size of the file have to do."""
    image = bytearray(ExtentBuilder(40960).to_bytes())
    image[:512] = bytes(512)
    assert [run.length for run in rebuilt(image, told(40960)).runs()] == [SIZE]
    image[512:1024] = bytes(512)
    with pytest.raises(ExtentError, match="nothing in the file confirms it"):
        rebuilt(image, told(40960))


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_never_an_extent(seed: int) -> None:
    rng = random.Random(seed)
    image = rng.randbytes(1 << 20) * 24
    with pytest.raises(SESparseError, match="salvage=1"):
        rebuilt(image, told(rng.choice((8, 32768, 40960, 1 << 20))))


# Who tells the capacity


def encrypted(folder: Path, deltas: int = 1) -> tuple[Path, ChainBuilder, bytes]:
    """A chain whose newest extent has lost its first MiB, and the bytes of the disk before."""
    chain = small_chain(folder, deltas=deltas)
    path = chain.write()
    with open_chain(path) as opened:
        before = opened.read(0, SIZE)
    extent = folder / chain.links[-1].extent_name
    with extent.open("r+b") as fh:
        fh.write(NOISE)
    return path, chain, before


def test_by_the_descriptor(folder: Path) -> None:
    path, _, before = encrypted(folder, 2)
    with pytest.raises(ExtentError, match="salvage=1"):
        open_chain(path)
    with open_chain(path, salvage=1) as chain:
        assert chain.read(0, SIZE) == before
        found = [f for f in findings(chain) if f.code == "header-rebuilt"]
        assert [(f.level, f.depth, f.source_offset) for f in found] == [("warning", 0, 0)] * 2
        assert f"{SECTORS:#x} sectors" in found[0].message
        assert [summary.state for summary in summaries(chain)] == ["salvaged", "clean", "clean"]


def test_the_extent_itself_opens_as_its_descriptor(folder: Path) -> None:
    path, chain, before = encrypted(folder)
    extent = folder / chain.links[-1].extent_name
    with open_chain(extent, salvage=1) as opened:
        assert opened.name == path.name
        assert opened.read(0, SIZE) == before
    with pytest.raises(ExtentError, match="magic"):
        open_chain(extent)


def test_by_the_parent(folder: Path) -> None:
    path, chain, before = encrypted(folder)
    path.unlink()
    extent = folder / chain.links[-1].extent_name
    with open_chain(extent, salvage=1, parent=folder / "vm.vmdk") as opened:
        assert opened.read(0, SIZE) == before
        assert any("the parent vm.vmdk says" in f.message for f in findings(opened))


def test_by_the_log(folder: Path) -> None:
    """Lines of many extents: the one that fits counts."""
    path, _, before = encrypted(folder)
    path.write_bytes(path.read_bytes().replace(f"RW {SECTORS} ".encode(), b"RW 999999999 "))
    with pytest.raises(ExtentError, match="salvage=1 could not"):
        open_chain(path, salvage=1)
    (folder / "hostd.log").write_text("junk\n" + LOG.format(1 << 30) + LOG.format(SECTORS) + LOG.format(SECTORS))
    with open_chain(path, salvage=1) as opened:
        assert opened.read(0, SIZE) == before
        assert any("hostd.log says" in f.message for f in findings(opened))


def test_log_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not one that says nothing."""
    path, _, _ = encrypted(folder)
    path.write_bytes(path.read_bytes().replace(f"RW {SECTORS} ".encode(), b"RW 999999999 "))
    (folder / "hostd.log").mkdir()
    with pytest.raises(ExtentError, match=r"hostd.log is not known to say anything: .*not a regular file"):
        open_chain(path, salvage=1)
    (folder / "hostd.log").rmdir()
    (folder / "hostd.log").write_text("x" * 100)
    monkeypatch.setattr("dissect_sesparse.repair.rebuild._MAX_LOG", 50)
    with pytest.raises(ExtentError, match=r"hostd.log is not known .* only its first 50 bytes"):
        open_chain(path, salvage=1)


def test_two_that_fit_are_none(folder: Path) -> None:
    path, _, _ = encrypted(folder)
    path.write_bytes(path.read_bytes().replace(f"RW {SECTORS} ".encode(), b"RW 999999999 "))
    (folder / "hostd.log").write_text(LOG.format(SECTORS) + LOG.format(SECTORS + 8))
    with pytest.raises(ExtentError, match="not only one"):
        open_chain(path, salvage=1)


def test_logs(folder: Path) -> None:
    (folder / "hostd.log").write_bytes(
        b"\xff" + LOG.format(8).encode() + b"capacity = 9\nconstMagic = 0xdead capacity = 7"
    )
    (folder / "hostd.0.log").write_bytes(LOG.replace("\n", "\r\n").format(16).encode())
    (folder / "other.log").write_bytes(LOG.format(24).encode())
    assert [(c.sectors, c.source, c.of_this) for c in logged_capacities(Folder(folder))] == [
        (16, "hostd.0.log", False), (8, "hostd.log", False),
    ]  # fmt: skip
    assert list(logged_capacities(None)) == list(logged_capacities(Folder(folder / "missing"))) == []


def test_a_file_object_has_no_folder() -> None:
    builder = ExtentBuilder(40960)
    builder.set_header(0, 0)
    extent = rebuilt(struct.pack("<Q", 0) + builder.to_bytes()[8:])
    assert extent.size == SIZE


def test_the_parent_of_two_extents_is_not_taken(folder: Path) -> None:
    """Of a disk with two extents neither is as large as the disk: each has its own line."""
    halves = [ExtentBuilder(40960), ExtentBuilder(32768)]
    lines = []
    for number, half in enumerate(halves):
        half.allocate(0, grain_data(f"half{number}", 0))
        half.write(folder / f"half{number}-sesparse.vmdk")
        lines.append((half.capacity_sectors, "SESPARSE", f"half{number}-sesparse.vmdk"))
        with (folder / f"half{number}-sesparse.vmdk").open("r+b") as fh:
            fh.write(NOISE)
    (folder / "vm.vmdk").write_text(descriptor(lines, cid="12345678", parent_cid="ffffffff"))
    with open_chain(folder / "vm.vmdk", salvage=1) as chain:
        assert chain.read(0, 4096) == grain_data("half0", 0)
        assert chain.read(SIZE, 4096) == grain_data("half1", 0)
