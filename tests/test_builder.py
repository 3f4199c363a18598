"""The builder of test images against what it must not be its own judge of: QEMU, a real extent, literal numbers."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import make_vm
import pytest
from dissect.ntfs import NTFS
from sesparse_builder import (
    ChainBuilder,
    ExtentBuilder,
    descriptor,
    grain_data,
    vmsd,
    vmx,
    write_flat,
)

needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def qemu_raw(path: Path) -> bytes:
    out = path.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", path, out], check=True)
    return out.read_bytes()


def words(data: bytes, offset: int, count: int = 1) -> tuple[int, ...]:
    return struct.unpack_from(f"<{count}Q", data, offset)


@pytest.fixture(scope="module")
def real_extent(real_path: Path) -> bytes:
    return real_path.read_bytes()


# Against the real extent


def test_same_bytes_as_esxi(real_extent: bytes) -> None:
    """The same disk gives the same file, journal included, but for what cannot be known."""
    extent = ExtentBuilder(0x100000)
    for grain in range(4096):
        extent.allocate(grain, b"a" * 4096)
    for slot in range(32):
        add_real_record(extent, real_extent, slot)
    ours = extent.to_bytes()

    assert len(ours) == len(real_extent)
    differ = {n // 512 for n in range(0, len(ours), 512) if ours[n : n + 512] != real_extent[n : n + 512]}
    # Sector 3 holds leaked memory of the host
    slot_headers = {2048 + slot * 25 for slot in range(32)}
    assert differ == slot_headers | {3}
    # and the 64-bit value at 0x20 of a slot header is a checksum that nobody knows how to make
    for sector in slot_headers:
        a, b = (bytearray(data[sector * 512 : sector * 512 + 512]) for data in (ours, real_extent))
        a[0x20:0x28] = b[0x20:0x28] = bytes(8)
        assert a == b


def add_real_record(extent: ExtentBuilder, real: bytes, slot: int) -> None:
    offset = (2048 + slot * 25) * 512
    sequence, _, timer = words(real, offset + 0x28, 3)
    pairs = words(real, offset + 0x80, 48)
    sectors = {}
    payload = offset + 512
    for target, count in zip(pairs[::2], pairs[1::2], strict=True):
        if count:
            sectors[target] = real[payload : payload + count * 512]
            payload += count * 512
    extent.add_journal_record(sequence, sectors, timer=timer)


# Against QEMU


@pytest.mark.slow
@needs_qemu
@pytest.mark.parametrize(
    ("capacity", "tables"),
    [
        # Whole tables; a table and a bit; no whole grain at the end
        (5 * 32768, "in-order"),
        (2 * 32768 + 2048, "reversed"),
        (100_003, "by-slot"),
    ],
)
def test_qemu_reads_every_state(tmp_path: Path, capacity: int, tables: str) -> None:
    base = b"".join(grain_data("base", grain) for grain in range(64))
    chain = ChainBuilder(tmp_path, capacity, {0: base})
    last = (capacity - 1) // 8
    expected = {grain: base[grain * 4096 : grain * 4096 + 4096] for grain in range(64)}

    one = chain.add_delta(tables=tables)
    for grain in (last, 1, 2, 4100, 5000, 9000):
        one.allocate(grain, grain_data("one", grain))
        expected[grain] = grain_data("one", grain)
    one.unmap(2)
    one.unmap(5, b"old")
    one.unmap(6)
    one.zero(7)
    one.allocate(8, b"freed")
    one.free(8)
    two = chain.add_delta(tables=tables)
    two.unmap(1)
    two.allocate(9, b"two")
    expected |= dict.fromkeys([1, 2, 5, 6, 7], bytes(4096)) | {9: b"two".ljust(4096, b"\x00")}

    disk = bytearray(capacity * 512 + 4096)
    for grain, data in expected.items():
        disk[grain * 4096 : grain * 4096 + 4096] = data
    assert qemu_raw(chain.write()) == disk[: capacity * 512]


@needs_qemu
def test_qemu_finds_grains_where_we_put_them(tmp_path: Path) -> None:
    chain = ChainBuilder(tmp_path, 2 * 32768)
    delta = chain.add_delta()
    places = {
        10: delta.allocate(10, b"a"),
        4200: delta.allocate(4200, b"b", place=5000),
        4202: delta.allocate(4202, b"c"),
    }
    delta.unmap(20, b"d")
    output = subprocess.check_output(["qemu-img", "map", "--output=json", chain.write()])

    found = {run["start"] // 4096: run["offset"] for run in json.loads(output) if run["depth"] == 0 and run["data"]}
    assert found == {grain: delta.grain_offset(place) for grain, place in places.items()}


@needs_qemu
def test_qemu_sees_a_dirty_extent(tmp_path: Path) -> None:
    chain = ChainBuilder(tmp_path, 32768)
    chain.add_delta().set_dirty()
    result = subprocess.run(["qemu-img", "info", chain.write()], capture_output=True, text=True, check=False)
    assert "Replaying journal not supported" in result.stderr


# Against literal numbers


@pytest.mark.parametrize(
    ("capacity", "directory", "tables", "bitmap", "metadata"),
    [
        # in MiB; from the mail of QEMU's patch and from the real extent
        (0x100000, 1, 1, 1, 6),
        (40 * 2**21, 1, 80, 2, 165),
        (62 * 2**31, 31, 124 * 1024, 1984, 2 + 31 + 2 * 124 * 1024 + 1984),
    ],
)
def test_layout_follows_from_capacity(capacity: int, directory: int, tables: int, bitmap: int, metadata: int) -> None:
    extent = ExtentBuilder(capacity)
    assert extent.journal_sector == 2048
    assert extent.directory_sector == 4096
    assert extent.tables_sector - extent.directory_sector == directory * 2048
    assert extent.bitmap_sector - extent.tables_sector == tables * 2048
    assert extent.backmap_sector - extent.bitmap_sector == bitmap * 2048
    assert extent.grains_sector - extent.backmap_sector == tables * 2048
    assert extent.grains_sector == metadata * 2048


@pytest.mark.skipif(os.name == "nt", reason="the file would not be sparse")
def test_62_tib_with_two_grains(tmp_path: Path) -> None:
    capacity = 62 * 2**31
    extent = ExtentBuilder(capacity, tables="by-slot")
    last = capacity // 8 - 1
    extent.allocate(0, grain_data("big", 0))
    extent.allocate(last, grain_data("big", last))
    path = tmp_path / "big-sesparse.vmdk"
    extent.write(path)

    assert path.stat().st_size == extent.grains_sector * 512 + 16 * 2**20 + 4096
    assert path.stat().st_blocks * 512 < 2**20
    with path.open("rb") as fh:
        fh.seek(extent.tables_sector * 512 + last * 8)
        assert fh.read(8) == struct.pack("<Q", 0x3001000000000000)


def test_entries_say_state_and_place() -> None:
    extent = ExtentBuilder(3 * 32768)
    extent.allocate(0, place=0x2345)
    extent.unmap(1, b"old", place=0x2346)
    assert extent.unmap(2) is None
    extent.zero(3)
    extent.unmap(3)
    extent.allocate(4, b"x")
    extent.unmap(4, bare=True)
    extent.allocate(5, b"x")
    extent.free(5)
    data = extent.to_bytes()

    assert words(data, extent.tables_sector * 512, 6) == (
        0x3345000000000002,
        0x1346000000000002,
        0x1000000000000000,
        0x2000000000000000,
        0x1000000000000000,
        0,
    )
    assert data[extent.grain_offset(0x2346) :][:4] == b"old\x00"
    # The last block in use is number 2, so there are 3; then 4 KiB of ones
    assert words(data, 512, 2) == (0xCAFECAFE, 3)
    assert len(data) == extent.grains_sector * 512 + 3 * 2**24 + 4096
    assert set(data[-4096:]) == {0xFF}


def test_unmapping_keeps_place_bytes_and_backmap() -> None:
    extent = ExtentBuilder(2 * 32768)
    for grain in (7, 4100):
        extent.allocate(grain, grain_data("old", grain))
    assert extent.unmap(4100) == 1
    data = extent.to_bytes()

    assert words(data, extent.entry_offset(4100)) == (0x1001000000000000,)
    assert words(data, extent.bitmap_sector * 512) == (0b01,)
    # Entry 7 of table 0, entry 4 of table 1
    assert words(data, extent.backmap_sector * 512, 3) == (0x1007000000000000, 0x1004000000000001, 0)
    assert data[extent.grain_offset(1) :][:4096] == grain_data("old", 4100)

    kept = ExtentBuilder(32768, unmap_clears_bitmap=False)
    kept.unmap(7, b"old")
    assert words(kept.to_bytes(), kept.bitmap_sector * 512) == (0b1,)


def test_a_reused_place_belongs_to_its_new_grain() -> None:
    extent = ExtentBuilder(32768)
    extent.unmap(1, b"old", place=3)
    extent.allocate(2, b"new", place=3)
    extent.free(1)
    data = extent.to_bytes()

    assert words(data, extent.entry_offset(2)) == (0x3003000000000000,)
    assert words(data, extent.backmap_offset(3)) == (0x1002000000000000,)
    assert words(data, extent.bitmap_sector * 512) == (0b1000,)
    assert data[extent.grain_offset(3) :][:4] == b"new\x00"


@pytest.mark.parametrize("keep", [False, True])
def test_freed_grains_keep_their_bytes(keep: bool) -> None:
    extent = ExtentBuilder(32768)
    extent.allocate(9, b"left")
    assert extent.free(9, keep_backmap=keep) == 0
    assert extent.allocate(10, b"next") == 1
    data = extent.to_bytes()

    assert data[extent.grain_offset(0) :][:4] == b"left"
    assert words(data, extent.backmap_offset(0)) == (0x1009000000000000 if keep else 0,)
    assert words(data, extent.bitmap_sector * 512) == (0b10,)


@pytest.mark.parametrize(
    ("tables", "directory"),
    [
        ("in-order", (0x1000000000000000, 0, 0x1000000000000001)),
        ("reversed", (0x1000000000000001, 0, 0x1000000000000000)),
        ("by-slot", (0x1000000000000000, 0, 0x1000000000000002)),
    ],
)
def test_table_order(tables: str, directory: tuple[int, ...]) -> None:
    extent = ExtentBuilder(3 * 32768, tables=tables)
    extent.allocate(2 * 4096 + 1, b"x")
    extent.allocate(0, b"y")
    data = extent.to_bytes()

    assert words(data, 4096 * 512, 3) == directory
    index = directory[2] & 0xFFFFFFFF
    assert words(data, (extent.tables_sector + index * 64) * 512 + 8) == (0x3000000000000000,)
    assert words(data, extent.backmap_sector * 512) == (0x1001000000000000 | index,)


def test_damage_is_applied_last(tmp_path: Path) -> None:
    extent = ExtentBuilder(32768)
    extent.allocate(0, b"x")
    extent.set_entry(1, 0x7000000000000000)
    extent.set_directory(0, 0x1000000000000005)
    extent.set_header(0x00, 0xDEAD)
    extent.set_header(0x218, 1)
    extent.set_bitmap(0, used=False)
    extent.set_backmap(0, 0x99)
    extent.patch(extent.file_size, b"tail")
    data = extent.to_bytes()

    assert words(data, 0) == (0xDEAD,)
    assert words(data, 0x218) == (1,)
    assert words(data, 4096 * 512) == (0x1000000000000005,)
    assert words(data, extent.tables_sector * 512, 2) == (0x3000000000000000, 0x7000000000000000)
    assert words(data, extent.bitmap_sector * 512) == (0,)
    assert words(data, extent.backmap_sector * 512) == (0x99,)
    assert data.endswith(b"\xfftail")

    path = tmp_path / "x-sesparse.vmdk"
    extent.write(path)
    assert path.read_bytes() == data
    extent.write(path, truncate_to=1_000_000)
    assert path.read_bytes() == data[:1_000_000]


def test_journal_record_and_dirty() -> None:
    extent = ExtentBuilder(32768)
    extent.allocate(0, b"x")
    assert extent.add_journal_record(9, {6144: b"t" * 512, 8192: b"b" * 1024}) == 0
    assert extent.add_journal_record(10, extent.metadata_sectors()) == 1
    extent.set_dirty()
    data = extent.to_bytes()

    slot = 2048 * 512
    assert words(data, slot, 4) == (0xC0FFEE, 1, 0, 4)
    assert words(data, slot + 0x28, 2) == (9, 2**64 - 1)
    assert words(data, slot + 0x80, 5) == (6144, 1, 8192, 2, 0)
    assert data[slot + 512 : slot + 2048] == b"t" * 512 + b"b" * 1024
    # Directory, table, bitmap and backmap have one sector in use each
    assert words(data, slot + 25 * 512, 4) == (0xC0FFEE, 1, 1, 5)
    assert words(data, slot + 25 * 512 + 0x80, 9) == (4096, 1, 6144, 1, 8192, 1, 10240, 1, 0)
    # Volatile header: next number, replay; journal header: magic, next number, generation
    assert words(data, 0x210, 2) == (11, 1)
    assert words(data, 0x400, 3) == (0xDEAFC0DE, 11, 1)


# Texts


def test_grain_data_tells_its_sector() -> None:
    data = grain_data("one", 3)
    assert len(data) == 4096
    assert [data[n * 512 : n * 512 + 24] for n in (0, 7)] == [
        b"one disk-sector 0000024\n",
        b"one disk-sector 0000031\n",
    ]


def test_write_flat(tmp_path: Path) -> None:
    write_flat(tmp_path / "flat", 4096, {1: b"x", 3: b"y" * 512})
    assert (tmp_path / "flat").read_bytes() == bytes(512) + b"x" + bytes(1023) + b"y" * 512 + bytes(2048)


def test_descriptor_lines() -> None:
    text = descriptor(
        [(10, "SESPARSE", "a.vmdk"), (20, "FLAT", "b.vmdk")],
        cid="0000000a",
        parent_cid="0000000b",
        parent_hint="p.vmdk",
        extra=['changeTrackPath="c.vmdk"', 'ddb.nativeParentHint = "p.vmdk"'],
    )
    lines = text.splitlines()
    assert lines[:9] == [
        "# Disk DescriptorFile",
        "version=1",
        'encoding="UTF-8"',
        "CID=0000000a",
        "parentCID=0000000b",
        'isNativeSnapshot="no"',
        'createType="seSparse"',
        'parentFileNameHint="p.vmdk"',
        'changeTrackPath="c.vmdk"',
    ]
    assert 'RW 10 SESPARSE "a.vmdk"' in lines
    assert 'RW 20 FLAT "b.vmdk" 0' in lines
    assert 'ddb.grain = "8"' in lines
    assert lines[-1] == 'ddb.nativeParentHint = "p.vmdk"'


def test_vmx_and_vmsd() -> None:
    assert 'scsi0:1.fileName = "b.vmdk"\n' in vmx(["a.vmdk", "b.vmdk"], "vm")

    created = datetime(2024, 3, 14, 21, 30, 0, 90_114, tzinfo=timezone.utc)
    snapshot = {"uid": 1, "parent": 0, "display_name": 'a "b" | c', "created": created, "disks": ["a.vmdk"]}
    text = vmsd([snapshot])
    lines = dict(line.split(" = ") for line in text.splitlines())
    assert lines["snapshot.current"] == '"1"'
    assert lines["snapshot0.displayName"] == '"a |22b|22 |7C c"'
    assert lines["snapshot0.disk0.fileName"] == '"a.vmdk"'
    assert "snapshot0.parent" not in lines
    high, low = (int(lines[f"snapshot0.createTime{half}"].strip('"')) for half in ("High", "Low"))
    assert low < 0
    assert (high << 32 | low & 0xFFFFFFFF) == 1_710_451_800_090_114


# The example


@pytest.fixture(scope="module")
def vm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vm.make_vm(tmp_path_factory.mktemp("vm")).parent


def test_make_vm_is_deterministic(vm: Path, tmp_path: Path) -> None:
    again = make_vm.make_vm(tmp_path / "again").parent
    names = sorted(path.name for path in vm.glob("*") if path.suffix in (".vmdk", ".vmx", ".vmsd", ".log"))
    assert len(names) == 9
    assert [hashlib.sha256((again / name).read_bytes()).digest() for name in names] == [
        hashlib.sha256((vm / name).read_bytes()).digest() for name in names
    ]


def test_make_vm_refuses_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="is not empty"):
        make_vm.make_vm(tmp_path)


def states() -> list[bytes]:
    """The guest's disk after each step, without its trims."""
    disk = bytearray(64 * 2**20)
    found = []
    for steps in make_vm.LINKS:
        for step in steps:
            written, _ = make_vm._load(step)
            for grain, data in written.items():
                disk[grain * 4096 : grain * 4096 + 4096] = data
            found.append(bytes(disk))
    return found


def entries(extent: bytes) -> dict[int, int]:
    """Table entries by grain, of an extent of 64 MiB: directory at sector 4096, tables at 6144."""
    found = {}
    for slot, pointer in enumerate(words(extent, 4096 * 512, 4)):
        if pointer:
            table = words(extent, (6144 + (pointer & 0xFFFFFFFF) * 64) * 512, 4096)
            found |= {slot * 4096 + n: entry for n, entry in enumerate(table) if entry}
    return found


def digests(disk: bytes, in_use: bool) -> dict[str, str]:
    """SHA-256 of the files in the MFT by path, of those in use or of the deleted."""
    ntfs = NTFS(io.BytesIO(disk[2**20 :]))
    return {
        record.full_path().replace("\\", "/"): hashlib.sha256(record.open().read()).hexdigest()
        for record in ntfs.mft.segments(start=64)
        if record.filename and not record.is_dir() and bool(record.header.Flags & 1) is in_use
    }


@pytest.mark.slow
def test_deleted_files_are_where_the_example_says(vm: Path) -> None:
    _, work, cleanup, staging, wipe = states()
    wrote_one, wrote_two = digests(work, in_use=True), digests(staging, in_use=True)
    gone_one, gone_two = digests(cleanup, in_use=False), digests(wipe, in_use=False)
    assert {**gone_one, **gone_two} == make_vm.DELETED
    assert {path: {**wrote_one, **wrote_two}[path] for path in make_vm.DELETED} == make_vm.DELETED
    live = digests(wipe, in_use=True)
    assert {path: live[path] for path in make_vm.LIVE} == make_vm.LIVE

    one, two = (entries((vm / f"web01-00000{n}-sesparse.vmdk").read_bytes()) for n in (1, 2))
    # kb5035849.tmp: 16 grains; keylog.txt 5, staging.zip 14; customers.csv 51, exfil.zip 51, bare over allocated ones
    assert sum(entry >> 60 == 1 for entry in one.values()) == 16
    assert sum(entry >> 60 == 1 and entry != 1 << 60 for entry in two.values()) == 19
    bare = [grain for grain, entry in two.items() if entry == 1 << 60]
    assert len(bare) == 102
    assert {one[grain] >> 60 for grain in bare} == {3}


def test_unmapped_grains_hold_the_deleted_bytes(vm: Path) -> None:
    last = states()[-1]
    extent = (vm / "web01-000002-sesparse.vmdk").read_bytes()
    # Without trims the last state still has all bytes: what an unmapped entry points to must be the same
    for grain, entry in entries(extent).items():
        if entry != 1 << 60:
            place = entry >> 48 & 0xFFF
            offset = (12288 + place * 8) * 512
            assert extent[offset : offset + 4096] == last[grain * 4096 : grain * 4096 + 4096]


@needs_qemu
def test_guest_sees_zeros_where_it_trimmed(vm: Path) -> None:
    now = qemu_raw(vm / "web01-000002.vmdk")
    live = digests(now, in_use=True)
    assert {path: live[path] for path in make_vm.LIVE} == make_vm.LIVE
    gone = digests(now, in_use=False)
    assert gone
    assert not gone.items() & make_vm.DELETED.items()

    before = digests(qemu_raw(vm / "web01-000001.vmdk"), in_use=True)
    for name in ("customers.csv", "exfil.zip"):
        path = f"Users/admin/Documents/{name}"
        assert before[path] == make_vm.DELETED[path]
