"""The hosted sparse extent: plain, in pieces, stream-optimized; against QEMU, broken, hostile."""

from __future__ import annotations

import random
import struct
import subprocess
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from disks import raises_at
from hypothesis import given
from hypothesis import strategies as st
from vmdk_builder import HostedBuilder, StreamBuilder, descriptor, hosted_header, told

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.chain.parent import descriptor_at
from dissect_sesparse.extent.engine import find_runs
from dissect_sesparse.extent.entry import State
from dissect_sesparse.extent.hosted import HostedExtent, embedded_descriptor
from dissect_sesparse.extent.lane import split
from dissect_sesparse.source.errors import DescriptorError, ExtentError, SESparseError, UnreadableError
from dissect_sesparse.source.file import EvidenceFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CAPACITY = 40960


def text(name: str = "disk.vmdk", capacity: int = CAPACITY) -> str:
    return descriptor([f'RW {capacity} SPARSE "{name}"'], cid="c1d00000")


def plain(path: Path, **keywords: Any) -> HostedBuilder:
    """A disk of 20 MiB with a few grains, out of order in the file, written to ``path``."""
    extent = HostedBuilder(CAPACITY, descriptor=text(path.name), **keywords)
    for grain in (3, 2, 4, 5, 319):
        extent.allocate(grain, told("plain", grain * extent.grain, extent.grain))
    extent.write(path)
    return extent


def streamed(**keywords: Any) -> StreamBuilder:
    extent = StreamBuilder(CAPACITY, descriptor=text(), **keywords)
    for grain in (0, 2, 3, 319):
        extent.allocate(grain, told("stream", grain * extent.grain, extent.grain))
    return extent


def disk(grains: dict[int, bytes], capacity: int = CAPACITY, grain: int = 128) -> bytes:
    out = bytearray(-(-capacity // grain) * grain * 512)
    for number, data in grains.items():
        out[number * grain * 512 : number * grain * 512 + len(data)] = data
    return bytes(out[: capacity * 512])


def convert(path: Path, qemu_img: str) -> bytes:
    raw = path.with_name("converted.raw")
    subprocess.run([qemu_img, "convert", "-f", "vmdk", "-O", "raw", path, raw], check=True)
    return raw.read_bytes()


def opened(path: Path, **keywords: Any) -> HostedExtent:
    return HostedExtent(EvidenceFile.open(path), **keywords)


def read_all(path: Path) -> bytes:
    with open_chain(path) as chain:
        return chain.read(0, chain.size)


# Against QEMU


@pytest.mark.parametrize(
    ("subformat", "size"),
    [
        ("monolithicSparse", 20 << 20),
        ("monolithicSparse", (70 << 20) + 512 * 13),
        ("streamOptimized", (40 << 20) + 512 * 7),
        # Two pieces, the second small
        ("twoGbMaxExtentSparse", (2 << 30) + (3 << 20)),
    ],
)
def test_reads_what_qemu_wrote(tmp_path: Path, qemu_img: str, subformat: str, size: int) -> None:
    rng = random.Random(f"{subformat} {size}")
    raw, path = tmp_path / "source.raw", tmp_path / "disk.vmdk"
    with raw.open("wb") as fh:
        fh.truncate(size)
        for _ in range(30):
            offset = rng.randrange(size)
            fh.seek(offset)
            fh.write(rng.randbytes(min(rng.randrange(200_000), size - offset)))
        fh.seek(max(0, size - 70_000))
        fh.write(rng.randbytes(min(70_000, size)))
    subprocess.run([qemu_img, "convert", "-O", "vmdk", "-o", f"subformat={subformat}", raw, path], check=True)
    with open_chain(path) as chain, raw.open("rb") as fh:
        assert chain.size == size
        for run in chain.runs():
            if run.length > 16 << 20:
                assert run.state == State.UNALLOCATED
                continue
            fh.seek(run.start)
            assert chain.read(run.start, run.length) == fh.read(run.length), f"{run}"
        for _ in range(100):
            offset = rng.randrange(size)
            fh.seek(offset)
            length = rng.choice([1, 511, 4096, 100_000])
            assert chain.read(offset, length) == fh.read(length), offset


def test_reads_what_qemu_overwrote_and_zeroed(tmp_path: Path, qemu_img: str) -> None:
    path = tmp_path / "disk.vmdk"
    subprocess.run([qemu_img, "create", "-f", "vmdk", "-o", "zeroed_grain=on", path, "20M"], check=True)
    commands = ["write -P 1 64k 256k", "write -P 2 100k 10k", "write -z 128k 64k", "write -P 3 19M 1M"]
    subprocess.run(["qemu-io", "-f", "vmdk", *[x for c in commands for x in ("-c", c)], path], check=True)
    with open_chain(path) as chain:
        assert chain.read(0, chain.size) == convert(path, qemu_img)
        zero = [run for run in chain.runs() if run.state == State.ZERO]
    assert [(run.start, run.length, run.place) for run in zero] == [(0x20000, 0x10000, None)]


@pytest.mark.slow
@pytest.mark.parametrize("grain", [8, 128, 1024])
@pytest.mark.parametrize("capacity", [CAPACITY, CAPACITY + 13, 100_003])
def test_qemu_reads_what_we_built(tmp_path: Path, qemu_img: str, grain: int, capacity: int) -> None:
    path = tmp_path / "disk.vmdk"
    extent = HostedBuilder(capacity, grain=grain, descriptor=text("disk.vmdk", capacity), version=2, flags=0x7)
    last = (capacity - 1) // grain
    grains = {number: told("ours", number * grain, grain) for number in (last, 0, 7, 8)}
    for number, data in grains.items():
        extent.allocate(number, data)
    extent.zero(9)
    extent.write(path)
    assert read_all(path) == convert(path, qemu_img) == disk(grains, capacity, grain)


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [CAPACITY, CAPACITY + 13, 512 * 128 * 3])
def test_qemu_reads_what_we_streamed(tmp_path: Path, qemu_img: str, capacity: int) -> None:
    path = tmp_path / "disk.vmdk"
    extent = StreamBuilder(capacity, descriptor=text("disk.vmdk", capacity))
    grains = {number: told("ours", number * 128, 128) for number in (0, 1, 5, (capacity - 1) // 128)}
    for number, data in grains.items():
        extent.allocate(number, data)
    extent.write(path)
    assert read_all(path) == convert(path, qemu_img) == disk(grains, capacity)


# Places and runs


def test_places_are_where_the_bytes_are(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    extent = plain(path)
    data = path.read_bytes()
    with open_chain(path) as chain:
        runs = [run for run in chain.runs() if run.state == State.ALLOCATED]
        # 4 and 5 follow one another in the file as on the disk
        assert [(run.start // 65536, run.length // 65536) for run in runs] == [(2, 1), (3, 1), (4, 2), (319, 1)]
        for run in runs:
            assert data[run.place : run.place + run.length] == chain.read(run.start, run.length)
            assert run.source.extent.file_place(run.place) == run.place
    assert extent.entry_offset(3) < runs[0].place


def test_a_run_of_a_compressed_extent_is_a_grain(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    extent = streamed()
    extent.write(path)
    with open_chain(path) as chain:
        runs = [run for run in chain.runs() if run.state == State.ALLOCATED]
        assert [run.start // 65536 for run in runs] == [0, 2, 3, 319]
        assert [run.source.extent.file_place(run.place) for run in runs] == [extent.places[n] for n in (0, 2, 3, 319)]
        assert [run.source.extent.file_place(run.place + 5000) for run in runs[:1]] == [extent.places[0]]
        own = chain.links[0].extents[0].extent
        assert own.compressed
        assert [(run.start, run.length, run.place) for run in own.runs()] == [
            (run.start, run.length, run.place) for run in chain.runs()
        ]


@pytest.mark.slow
@pytest.mark.parametrize("lane", [512, 4096])
@pytest.mark.parametrize("build", [plain, lambda path: streamed().write(path)])
def test_layers_agree_with_runs_whatever_the_lanes(tmp_path: Path, build: Callable, lane: int) -> None:
    path = tmp_path / "disk.vmdk"
    build(path)
    extent = opened(path)
    rng = random.Random(lane)
    states = {}
    for run in extent.runs():
        for offset in range(run.start, run.end, lane):
            states[offset] = (run.state, None if run.place is None else run.place + offset - run.start)
    for _ in range(20):
        start = rng.randrange(0, extent.size, lane)
        count = rng.randint(1, min(4096, (extent.size - start) // lane))
        layer = extent.layer(start, count, lane)
        found = {}
        if layer is not None:
            numbers, kinds, places = (array.tolist() for array in find_runs(layer.entries, lane // 512))
            for first, end, kind, place in zip(numbers, [*numbers[1:], count], kinds, places):
                state, _, placed = split(kind)
                for number in range(first, end):
                    found[start + number * lane] = (state, place + (number - first) * lane if placed else None)
        for offset in range(start, start + count * lane, lane):
            assert found.get(offset, (State.UNALLOCATED, None)) == states[offset] == extent.find(offset)


@pytest.mark.parametrize("build", [plain, lambda path: streamed().write(path)])
def test_runs_of_a_piece_are_those_of_the_whole_cut(tmp_path: Path, build: Callable) -> None:
    path = tmp_path / "disk.vmdk"
    build(path)
    extent = opened(path)
    whole = list(extent.runs())
    for start, end in (
        (0, 1),
        (65536 + 512, 4 * 65536 - 512),
        (3 * 65536 + 1024, 3 * 65536 + 1536),
        (319 * 65536 + 7, 10**9),
    ):
        cut = []
        for run in whole:
            first, last = max(start, run.start), min(end, run.end)
            if first < last:
                place = None if run.place is None else run.place + first - run.start
                cut.append(run._replace(start=first, length=last - first, place=place))
        assert list(extent.runs(start, end - start)) == cut


def test_threads_may_share_a_compressed_extent(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    extent = StreamBuilder(CAPACITY, descriptor=text())
    for grain in range(320):
        extent.allocate(grain, told("stream", grain * 128, 128))
    extent.write(path)
    expected = told("stream", 0, CAPACITY)
    with open_chain(path) as chain, ThreadPoolExecutor(8) as pool:
        rng = random.Random(1)
        spans = [(rng.randrange(CAPACITY * 512 - 9000), rng.randrange(1, 9000)) for _ in range(500)]
        for (offset, length), data in zip(spans, pool.map(lambda span: chain.read(*span), spans), strict=True):
            assert data == expected[offset : offset + length]


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    extent = StreamBuilder(CAPACITY, descriptor=text())
    for grain in range(320):
        extent.allocate(grain, told("stream", grain * 128, 128))
    extent.write(path)
    with open_chain(path) as chain:
        assert chain.read(0, chain.size) == told("stream", 0, CAPACITY)
        own = chain.links[0].extents[0].extent
        assert sum(map(len, own._inflated.values())) <= 4 << 20


# The descriptor inside


def test_the_descriptor_inside_names_the_file_itself_whatever_it_is_called(tmp_path: Path) -> None:
    extent = HostedBuilder(CAPACITY, descriptor=text("generated-stream.vmdk"))
    extent.allocate(1, told("renamed", 128, 128))
    extent.write(tmp_path / "renamed.vmdk")
    # Whoever now has the old name is somebody else
    plain(tmp_path / "generated-stream.vmdk")
    assert read_all(tmp_path / "renamed.vmdk") == disk({1: told("renamed", 128, 128)})
    with open_chain(tmp_path / "renamed.vmdk") as chain:
        assert [link.name for link in chain.links] == ["renamed.vmdk"]


def test_more_extents_may_follow_the_one_with_the_descriptor(tmp_path: Path) -> None:
    """Virtual Disk Format 1.1: an embedded descriptor can be used only where a link's first extent is sparse."""
    lines = ['RW 40960 SPARSE "disk.vmdk"', 'RW 128 FLAT "rest-flat.vmdk" 0', "RW 8 ZERO"]
    extent = HostedBuilder(CAPACITY, descriptor=descriptor(lines, cid="c1d00000"))
    extent.allocate(1, told("first", 128, 128))
    extent.write(tmp_path / "disk.vmdk")
    (tmp_path / "rest-flat.vmdk").write_bytes(told("rest", 0, 128))
    expected = disk({1: told("first", 128, 128)}) + told("rest", 0, 128) + bytes(4096)
    assert read_all(tmp_path / "disk.vmdk") == expected


@pytest.mark.parametrize("line", ['RW 40960 FLAT "disk.vmdk" 0', "RW 40960 ZERO", 'RW 40960 VMFSRDM "disk.vmdk"'])
def test_a_descriptor_inside_an_extent_starts_with_a_sparse_one(tmp_path: Path, line: str) -> None:
    HostedBuilder(CAPACITY, descriptor=descriptor([line], cid="c1d00000")).write(tmp_path / "disk.vmdk")
    with pytest.raises(ExtentError, match="inside an extent"):
        open_chain(tmp_path / "disk.vmdk")


def test_a_piece_has_no_descriptor(tmp_path: Path) -> None:
    HostedBuilder(CAPACITY).write(tmp_path / "disk-s001.vmdk")
    HostedBuilder(CAPACITY, descriptor="").write(tmp_path / "disk-s002.vmdk")
    for name in ("disk-s001.vmdk", "disk-s002.vmdk"):
        assert embedded_descriptor(EvidenceFile.open(tmp_path / name)) is None
        with pytest.raises(DescriptorError, match="without a descriptor inside"):
            descriptor_at(tmp_path / name)


def test_the_descriptor_inside_is_small(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    extent = plain(path)
    extent.patch(36, struct.pack("<Q", 0x801))
    extent.write(path)
    with path.open("r+b") as fh:
        fh.truncate(4 << 30)
    for use in (descriptor_at, opened, open_chain):
        with pytest.raises(ExtentError, match=r"descriptorSize is 0x801, expected at most 0x800"):
            use(path)


def test_no_hosted_extent_has_no_descriptor_inside(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"KDM")
    assert embedded_descriptor(EvidenceFile.open(tmp_path / "x")) is None
    (tmp_path / "x").write_bytes(b"KDMV")
    with pytest.raises(ExtentError, match="has 4 bytes"):
        embedded_descriptor(EvidenceFile.open(tmp_path / "x"))


def test_what_follows_the_descriptors_end_is_not_read(tmp_path: Path) -> None:
    old = "\0" + 'RW 1 FLAT "left-over" 0\n'
    HostedBuilder(CAPACITY, descriptor=text() + old).write(tmp_path / "disk.vmdk")
    assert len(descriptor_at(tmp_path / "disk.vmdk").extents) == 1


# Headers that cannot be trusted


REFUSED = {
    "magic": (0, b"VMDK", "magicNumber is b'VMDK'"),
    "version 0": (4, struct.pack("<I", 0), "version is 0"),
    "version 4": (4, struct.pack("<I", 4), "version is 4"),
    "unknown flag": (8, struct.pack("<I", 0x103), "flags is 0x103"),
    "compressed without markers": (8, struct.pack("<I", 0x10003), "flags is 0x10003"),
    "markers without compression": (8, struct.pack("<I", 0x20003), "flags is 0x20003"),
    "capacity 0": (12, struct.pack("<Q", 0), "capacity is 0"),
    "capacity 2**63": (12, struct.pack("<Q", 1 << 63), "capacity is 0x8000000000000000"),
    "capacity of another disk": (12, struct.pack("<Q", 1 << 40), "capacity is 0x10000000000"),
    "grain 0": (20, struct.pack("<Q", 0), "grainSize is 0"),
    "grain 1": (20, struct.pack("<Q", 1), "grainSize is 1"),
    "grain 24": (20, struct.pack("<Q", 24), "grainSize is 0x18"),
    "grain 2**15": (20, struct.pack("<Q", 1 << 15), "grainSize is 0x8000"),
    "grain 2**63": (20, struct.pack("<Q", 1 << 63), "grainSize is 0x8000000000000000"),
    "k04": (44, struct.pack("<I", 0), "numGTEsPerGT is 0"),
    "500 entries": (44, struct.pack("<I", 500), "numGTEsPerGT is 0x1f4"),
    "2**17 entries": (44, struct.pack("<I", 1 << 17), "numGTEsPerGT is 0x20000"),
    "directory 0": (56, struct.pack("<Q", 0), "gdOffset is 0, the header is there"),
    "directory on the descriptor": (56, struct.pack("<Q", 20), "gdOffset is 0x14, the descriptor is there"),
    "directory past the end": (56, struct.pack("<Q", 1 << 30), "gdOffset is 0x40000000, the directory has 4 bytes"),
    "directory 2**60": (56, struct.pack("<Q", 1 << 60), "gdOffset is 0x1000000000000000"),
    "text mode": (73, b"\r\n \r", "lineEnds is .*copied as if it were text"),
    "deflate without the flag": (77, struct.pack("<H", 1), "compressAlgorithm is 1"),
    "unknown compression": (77, struct.pack("<H", 2), "compressAlgorithm is 2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_headers(tmp_path: Path, case: str) -> None:
    offset, data, message = REFUSED[case]
    path = tmp_path / "disk.vmdk"
    extent = plain(path)
    extent.patch(offset, data)
    extent.write(path)
    with pytest.raises(ExtentError, match=message) as caught:
        opened(path)
    assert "disk.vmdk" in str(caught.value)
    with pytest.raises(SESparseError):
        open_chain(path)


def test_accepts_a_directory_past_the_end_where_truncation_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    extent = plain(path)
    extent.write(path, truncate_to=extent.directory_sector * 512)
    with pytest.raises(ExtentError, match="gdOffset"):
        open_chain(path)
    with open_chain(path, unreadable="zero") as chain:
        assert chain.read(0, chain.size) == bytes(chain.size)
        assert chain.unreadable.count > 0


def test_zero_line_ends_and_no_flag_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    for flags, ends in ((0x3, bytes(4)), (0x2, b"abcd")):
        extent = plain(path)
        extent.patch(8, struct.pack("<I", flags))
        extent.patch(73, ends)
        extent.write(path)
        assert opened(path).size == CAPACITY * 512


def test_unclean_shutdown_is_told(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    extent = plain(path)
    assert not opened(path).unclean_shutdown
    extent.patch(72, b"\x01")
    extent.write(path)
    assert opened(path).unclean_shutdown


@pytest.mark.slow
def test_k01_huge_directory_in_a_hole(tmp_path: Path, limited: Callable[..., str]) -> None:
    """512 MiB of directory for 2**27 sectors: by the tables' size alone, and by that of the grains."""
    path = tmp_path / "disk.vmdk"
    for grain, entries, field in ((1, 1, "grainSize is 1"), (8, 1, "capacity is 0x40000000"), (8, 1, "directory has")):
        header = hosted_header(capacity=1 << (27 if grain == 1 else 30), grain=grain, entries=entries, directory=1)
        path.write_bytes(header)
        with path.open("r+b") as fh:
            fh.truncate(8 << 30)
        with pytest.raises(ExtentError, match=field):
            opened(path)
    limited(REFUSES, path)


REFUSES = """
import tracemalloc
tracemalloc.start()
with within(500_000):
    try:
        chain = dissect_sesparse.open_chain(Path(sys.argv[1]))
    except dissect_sesparse.SESparseError as e:
        no_memory_error(e)
    else:
        for offset in range(0, chain.size, 1 << 20):
            try:
                chain.read(offset, 4096)
            except dissect_sesparse.SESparseError as e:
                no_memory_error(e)
assert tracemalloc.get_traced_memory()[1] < 50 << 20, tracemalloc.get_traced_memory()
"""


def test_a_big_disk_is_opened_and_walked_in_no_memory(tmp_path: Path) -> None:
    """8 TiB with usual grains and tables: 1 MiB of directory, all of it a hole but for one table."""
    path = tmp_path / "disk.vmdk"
    capacity = 8 << 31
    extent = HostedBuilder(capacity, descriptor=text("disk.vmdk", capacity))
    path.write_bytes(extent.header() + text("disk.vmdk", capacity).encode())
    number = 100_000 * 512 + 5
    with path.open("r+b") as fh:
        fh.truncate((extent.directory_sector + extent.directory_sectors + 4 + 128) * 512)
        fh.seek(extent.directory_offset(100_000))
        fh.write(struct.pack("<I", extent.directory_sector + extent.directory_sectors))
        fh.seek((extent.directory_sector + extent.directory_sectors) * 512 + 5 * 4)
        fh.write(struct.pack("<I", extent.directory_sector + extent.directory_sectors + 4))
        fh.seek((extent.directory_sector + extent.directory_sectors + 4) * 512)
        fh.write(told("far", number * 128, 128))
    with open_chain(path) as chain:
        assert [run.start for run in chain.runs() if run.state == State.ALLOCATED] == [number * 65536]
        assert chain.read(number * 65536 - 10, 30) == bytes(10) + told("far", number * 128, 1)[:20]


# Entries that cannot be trusted


def broken_entry(path: Path, value: int, **keywords: Any) -> UnreadableError:
    """Grain 2 gets an entry; all others read right, it raises."""
    extent = plain(path, **keywords)
    extent.set_entry(2, value)
    extent.write(path)
    grains = {grain: told("plain", grain * 128, 128) for grain in (3, 4, 5, 319)}
    expected = disk(grains)
    with open_chain(path) as chain:
        assert chain.read(0, 2 * 65536) == expected[: 2 * 65536]
        assert chain.read(3 * 65536, chain.size) == expected[3 * 65536 :]
        with pytest.raises(UnreadableError) as caught:
            chain.read(0, chain.size)
        assert caught.value.offset == 2 * 65536
        assert [(run.start, run.length) for run in chain.runs() if run.state == State.INVALID] == [(131072, 65536)]
    with open_chain(path, unreadable="zero") as chain:
        assert chain.read(0, chain.size) == expected
        assert chain.unreadable.size == 65536
    return caught.value


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (1, "the descriptor is there"),  # no flag says that 1 is zeros
        (20, "the descriptor is there"),
        (0x10000000, "the file ends at byte"),
        (0xFFFFFFFF, "the file ends at byte"),
    ],
)
def test_entries_that_lead_nowhere(tmp_path: Path, value: int, problem: str) -> None:
    error = broken_entry(tmp_path / "disk.vmdk", value)
    assert problem in str(error)
    assert "grain table entry of grain 2" in str(error)


def test_an_entry_onto_the_directory(tmp_path: Path) -> None:
    extent = HostedBuilder(CAPACITY)
    # A grain from the last sector before the directory on would take it in
    error = broken_entry(tmp_path / "disk.vmdk", extent.directory_sector - 1)
    assert "the grain directory is there" in str(error)


def test_an_entry_of_one_is_zeros_where_the_flag_says_so(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    extent = plain(path, flags=0x7, version=2)
    extent.zero(2)
    extent.write(path)
    with open_chain(path) as chain:
        assert State.ZERO in {run.state for run in chain.runs()}
        assert chain.read(131072, 65536) == bytes(65536)


@pytest.mark.parametrize(
    ("value", "problem"), [(1, "the descriptor is there"), (0xFFFFFFFF, "the file ends"), (0x7FFFFFFF, "the file ends")]
)
def test_directory_entries_that_lead_nowhere(tmp_path: Path, value: int, problem: str) -> None:
    path = tmp_path / "disk.vmdk"
    capacity = 2 * 512 * 128
    extent = HostedBuilder(capacity, descriptor=text("disk.vmdk", capacity))
    extent.allocate(0, told("lost", 0, 128))
    extent.allocate(512, told("kept", 65536, 128))
    extent.patch(extent.directory_offset(0), struct.pack("<I", value))
    extent.write(path)
    with open_chain(path) as chain:
        assert chain.read(32 << 20, 65536) == told("kept", 65536, 128)
        for offset in (0, 65536, (32 << 20) - 1):
            with pytest.raises(UnreadableError, match=rf"grain directory entry 0 is .*{problem}"):
                chain.read(offset, 1)


def test_a_file_cut_anywhere_gives_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    extent = plain(path)
    whole = {grain: told("plain", grain * 128, 128) for grain in extent.table}
    expected = disk(whole)
    size = extent.next_sector * 512
    cuts = [0, 3, 100, 511, 512, 1000, extent.redundant_sector * 512, extent.directory_sector * 512 + 3]
    cuts += [extent.entry_offset(0), extent.entry_offset(4), extent.entry_offset(4) + 2, extent.entry_offset(300)]
    cuts += [sector * 512 + more for sector in extent.data for more in (0, 1, 511, 512, 40_000)]
    for cut in [*cuts, size - 1, size]:
        extent.write(path, truncate_to=cut)
        readable = 0
        try:
            chain = open_chain(path)
        except SESparseError:
            assert cut <= extent.directory_sector * 512 + 4
            continue
        with chain:
            for offset in [*range(0, 6 * 65536, 4096), *range(318 * 65536, chain.size, 4096)]:
                if raises_at(chain, offset, 4096):
                    continue
                assert chain.read(offset, 4096) == expected[offset : offset + 4096], (cut, offset)
                readable += 1
            if cut == size:
                assert readable == 8 * 16


# Compressed


@pytest.mark.slow
def test_k03_a_bomb(tmp_path: Path, limited: Callable[..., str]) -> None:
    """Grains that inflate to gigabytes: one whose marker tells its true size, one that hides it."""
    path = tmp_path / "disk.vmdk"
    packer = zlib.compressobj(9)
    blocks = [packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)]
    bomb = blocks[0] + blocks[1] * 1535 + packer.flush()
    extent = streamed()
    extent.allocate(1, b"", raw=bomb)
    extent.allocate(5, b"", raw=bomb[:100_000])
    extent.allocate(6, b"", raw=zlib.compress(bytes(65537), 9))
    extent.write(path)
    with open_chain(path) as chain:
        with pytest.raises(UnreadableError, match=r"marker size is 0x.*, no compressed grain"):
            chain.read(65536, 10)
        for grain in (5, 6):
            with pytest.raises(UnreadableError, match=f"grain {grain} inflates to more than 65536 bytes"):
                chain.read(grain * 65536, 10)
        assert chain.read(131072, 65536) == told("stream", 256, 128)
    limited(REFUSES, path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keywords", "problem"),
    [
        ({"lba": 4 * 128 + 1}, "marker lba is 0x201, the grain there is another one, expected 0x200"),
        ({"lba": 0}, "marker lba is 0"),
        ({"raw": b""}, "marker size is 0"),
        ({"raw": b"not zlib at all"}, "grain 4 does not inflate"),
        ({"raw": zlib.compress(bytes(65536))[:-3]}, "its stream has no end"),
        ({"raw": zlib.compress(bytes(65536))[:-1] + b"\x55"}, "grain 4 does not inflate"),
        ({"raw": zlib.compress(bytes(65535))}, "inflates to 65535 bytes, 65536 are needed"),
    ],
)
def test_compressed_grains_that_are_broken(tmp_path: Path, keywords: dict, problem: str) -> None:
    path = tmp_path / "disk.vmdk"
    extent = streamed()
    extent.allocate(4, b"", **keywords)
    extent.write(path)
    expected = {grain: told("stream", grain * 128, 128) for grain in (0, 2, 3, 319)}
    with open_chain(path) as chain:
        assert chain.read(0, 4 * 65536) == disk(expected)[: 4 * 65536]
        with pytest.raises(UnreadableError, match=problem) as caught:
            chain.read(0, chain.size)
        assert caught.value.source_offset == extent.places[4]
        assert 4 * 65536 <= caught.value.offset < 5 * 65536, "the first byte that cannot be had"
    with open_chain(path, unreadable="zero") as chain:
        assert chain.read(0, chain.size) == disk(expected)


def test_what_a_short_grain_has_is_read(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    extent = streamed()
    data = told("short", 512, 128)[:40_000]
    extent.allocate(4, b"", raw=zlib.compress(data))
    extent.write(path)
    with open_chain(path) as chain:
        assert chain.read(4 * 65536, 40_000) == data
        assert chain.read(4 * 65536 + 39_000, 1000) == data[39_000:]
        with pytest.raises(UnreadableError, match="inflates to 40000 bytes"):
            chain.read(4 * 65536 + 39_000, 1001)
    with open_chain(path, unreadable="zero") as chain:
        assert chain.read(4 * 65536, 65536) == data + bytes(65536 - 40_000)


def test_bytes_that_do_not_compress_are_read(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    data = random.Random(3).randbytes(65536)
    for level in (0, 9):
        extent = StreamBuilder(CAPACITY, descriptor=text(), level=level)
        extent.allocate(7, data)
        extent.write(path)
        assert read_all(path) == disk({7: data})


FOOTERS = {
    "capacity": ({"capacity": CAPACITY + 128}, "footer.capacity is 0xa080, the footer contradicts the header"),
    "grain": ({"grain": 64}, "footer.grainSize is 0x40"),
    "entries": ({"entries": 256}, "footer.numGTEsPerGT is 0x100"),
    "at end again": ({"directory": 0xFFFFFFFFFFFFFFFF}, "footer.gdOffset is"),
    "magic": ({"magic": b"KDMX"}, "footer.magicNumber is b'KDMX'"),
    "version": ({"version": 9}, "footer.version is 9"),
    "outside": ({"directory": 1 << 40}, "gdOffset is 0x10000000000"),
}


@pytest.mark.parametrize("case", FOOTERS)
def test_refuses_footers(tmp_path: Path, case: str) -> None:
    fields, message = FOOTERS[case]
    path = tmp_path / "disk.vmdk"
    extent = streamed()
    extent.footer_fields = fields
    extent.write(path)
    with pytest.raises(ExtentError, match=message):
        opened(path)


def test_a_stream_cut_off_is_refused(tmp_path: Path) -> None:
    """Its directory was at its end. Nothing of it is read as zeros."""
    path = tmp_path / "disk.vmdk"
    data = streamed().to_bytes()
    for cut in [*range(0, len(data), 509), len(data) - 512, len(data) - 1, len(data) - 1024, len(data) - 1536]:
        path.write_bytes(data[:cut])
        with pytest.raises(SESparseError):
            open_chain(path)
    path.write_bytes(data + bytes(512))
    with pytest.raises(ExtentError, match="marker type"):
        open_chain(path)


# In pieces


def test_c13_two_pieces(tmp_path: Path) -> None:
    lines = ['RW 40960 SPARSE "disk-s001.vmdk"', 'RW 12345 SPARSE "disk-s002.vmdk"']
    one, two = HostedBuilder(40960), HostedBuilder(12416)
    one.allocate(319, told("one", 319 * 128, 128))
    two.allocate(0, told("two", 40960, 128))
    two.allocate(96, told("two", 40960 + 96 * 128, 128))
    one.write(tmp_path / "disk-s001.vmdk")
    two.write(tmp_path / "disk-s002.vmdk")
    (tmp_path / "disk.vmdk").write_text(descriptor(lines, cid="c1d00000", create_type="twoGbMaxExtentSparse"))
    expected = bytes(319 * 65536) + told("one", 319 * 128, 128) + told("two", 40960, 128) + bytes(95 * 65536)
    expected += told("two", 40960 + 96 * 128, 12345 - 96 * 128)
    assert read_all(tmp_path / "disk.vmdk") == expected


def test_pieces_at_odd_places(tmp_path: Path) -> None:
    """The first piece ends within a grain, so that a lane is a sector and grains do not start where lanes of 4 KiB do."""
    lines = ['RW 1003 SPARSE "disk-s001.vmdk"', 'RW 2048 SPARSE "disk-s002.vmdk"']
    for number, sectors, first in ((1, 1024, 0), (2, 2048, 1003)):
        extent = HostedBuilder(sectors)
        for grain in range(sectors // 128):
            if grain % 3:
                extent.allocate(grain, told(f"{number}", first + grain * 128, 128))
        extent.write(tmp_path / f"disk-s00{number}.vmdk")
    (tmp_path / "disk.vmdk").write_text(descriptor(lines, cid="c1d00000"))
    expected = b""
    for number, sectors, first in ((1, 1003, 0), (2, 2048, 1003)):
        for sector in range(sectors):
            expected += told(f"{number}", first + sector, 1) if sector // 128 % 3 else bytes(512)
    assert read_all(tmp_path / "disk.vmdk") == expected


def test_a_piece_that_is_too_small_is_no_shift(tmp_path: Path) -> None:
    lines = ['RW 2048 SPARSE "disk-s001.vmdk"', 'RW 128 SPARSE "disk-s002.vmdk"']
    HostedBuilder(1024).write(tmp_path / "disk-s001.vmdk")
    two = HostedBuilder(128)
    two.allocate(0, told("two", 2048, 128))
    two.write(tmp_path / "disk-s002.vmdk")
    (tmp_path / "disk.vmdk").write_text(descriptor(lines, cid="c1d00000"))
    with open_chain(tmp_path / "disk.vmdk") as chain:
        assert chain.read(2048 * 512, 65536) == told("two", 2048, 128)
        assert chain.read(0, 1024 * 512) == bytes(1024 * 512)
        with pytest.raises(UnreadableError, match="has 524288 of the 1048576 bytes"):
            chain.read(1024 * 512, 1)


# Whatever the bytes


HEADER_OFFSETS = [0, 4, 8, 12, 20, 28, 36, 44, 48, 56, 64, 72, 73, 77]
VALUES = st.one_of(st.integers(0, (1 << 64) - 1), st.sampled_from([0, 1, 2, 3, 7, 8, 127, 128, 512, 1 << 32, 1 << 63]))


def anything_but_wrong(path: Path) -> None:
    """It opens or does not, and whatever is read comes whole or raises the one error."""
    try:
        chain = open_chain(path)
    except SESparseError:
        return
    with chain:
        for number, run in enumerate(chain.runs()):
            assert run.length > 0
            if number == 50:
                break
        for offset in (0, 65536, 131072 + 5, chain.size // 2, chain.size - 10):
            if 0 <= offset < chain.size:
                try:
                    assert len(chain.read(offset, 10_000)) == min(10_000, chain.size - offset)
                except SESparseError:
                    pass


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from(HEADER_OFFSETS), VALUES), min_size=1, max_size=4), st.booleans())
def test_any_header_is_an_extent_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], stream: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-header.vmdk"
    if stream:
        extent = streamed()
        data = bytearray(extent.to_bytes())
    else:
        plain(path)
        data = bytearray(path.read_bytes())
    for offset, value in changes:
        struct.pack_into("<Q", data, offset, value)
    path.write_bytes(data)
    anything_but_wrong(path)


@given(st.binary(max_size=600))
def test_any_bytes_are_an_extent_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any-bytes.vmdk"
    path.write_bytes(b"KDMV" + data)
    anything_but_wrong(path)
    try:
        assert embedded_descriptor(EvidenceFile.open(path)) is not None or len(data) >= 508
    except SESparseError:
        pass


ENTRIES = st.one_of(st.integers(0, 3), st.integers(0, 4000), st.integers(0, (1 << 32) - 1))


@given(st.lists(ENTRIES, min_size=1, max_size=40), st.integers(0, 279), st.sampled_from([0x3, 0x7]))
def test_a_table_decoded_at_once_is_as_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, entries: list[int], first: int, flags: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "entries.vmdk"
    extent = HostedBuilder(CAPACITY, grain=8 * 16, descriptor=text(), flags=flags, version=2)
    extent.allocate(0, b"x")
    for number, entry in enumerate(entries):
        extent.set_entry(first + number, entry)
    extent.write(path)
    reader = opened(path)
    at_once = {}
    for run in reader.runs():
        for offset in range(run.start, run.end, 65536):
            at_once[offset] = (run.state, None if run.place is None else run.place + offset - run.start)
    for number in range(first, first + len(entries)):
        try:
            one = reader.find(number * 65536)
        except UnreadableError as e:
            one = (State.INVALID, None)
            assert reader.explain(number * 65536).problem == e.problem
        assert at_once[number * 65536] == one
    reader.close()
