"""The ESX sparse extent (COWD): against QEMU, broken, hostile."""

from __future__ import annotations

import random
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from disks import raises_at
from hypothesis import given
from hypothesis import strategies as st
from vmdk_builder import CowdBuilder, descriptor, told

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.extent.cowd import CowdExtent
from dissect_sesparse.extent.entry import State
from dissect_sesparse.source.errors import ExtentError, SESparseError, UnreadableError
from dissect_sesparse.source.file import EvidenceFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CAPACITY = 40960
GRAINS = (0, 1, 2, 7, 4095, 4096, 9000, 9001, 40959)


def build(folder: Path, *, grain: int = 1, capacity: int = CAPACITY, shuffled: bool = False) -> CowdBuilder:
    """A disk of its own (no parent) of 20 MiB, ``disk.vmdk`` and ``disk-delta.vmdk``; the builder can write it again."""
    extent = CowdBuilder(capacity, grain=grain)
    grains = [number for number in GRAINS if number * grain < capacity] + [(capacity - 1) // grain]
    if shuffled:
        random.Random(5).shuffle(grains)
    for number in grains:
        extent.allocate(number, told("cowd", number * grain, grain))
    extent.write(folder / "disk-delta.vmdk")
    lines = [f'RW {capacity} VMFSSPARSE "disk-delta.vmdk"']
    (folder / "disk.vmdk").write_text(descriptor(lines, cid="c1d00000", create_type="vmfsSparse"))
    return extent


def disk(extent: CowdBuilder) -> bytes:
    """What the guest sees of what was put in."""
    out = bytearray((extent.capacity + extent.grain) * 512)
    for number, sector in extent.table.items():
        if sector in extent.data:
            out[number * extent.grain * 512 : (number + 1) * extent.grain * 512] = extent.data[sector]
    return bytes(out[: extent.capacity * 512])


def opened(folder: Path, **keywords: Any) -> CowdExtent:
    return CowdExtent(EvidenceFile.open(folder / "disk-delta.vmdk"), **keywords)


# Right data


@pytest.mark.slow
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("grain", [1, 2, 8, 128])
@pytest.mark.parametrize("capacity", [CAPACITY, 41_003])
def test_as_qemu_reads_it(folder: Path, qemu_img: str, grain: int, capacity: int, shuffled: bool) -> None:
    extent = build(folder, grain=grain, capacity=capacity, shuffled=shuffled)
    raw = folder / "converted.raw"
    subprocess.run([qemu_img, "convert", "-f", "vmdk", "-O", "raw", folder / "disk.vmdk", raw], check=True)
    with open_chain(folder / "disk.vmdk") as chain:
        expected = disk(extent)
        assert chain.read(0, chain.size) == raw.read_bytes() == expected
        rng = random.Random(capacity)
        for _ in range(50):
            offset, length = rng.randrange(chain.size), rng.choice([1, 511, 4096, 3 << 20])
            assert chain.read(offset, length) == expected[offset : offset + length]


@pytest.mark.parametrize("grain", [1, 8])
def test_places_are_where_the_bytes_are(folder: Path, grain: int) -> None:
    extent = build(folder, grain=grain)
    data = (folder / "disk-delta.vmdk").read_bytes()
    with open_chain(folder / "disk.vmdk") as chain:
        runs = list(chain.runs())
        own = chain.links[0].extents[0].extent
        assert [run[:4] for run in runs] == [run[:4] for run in own.runs()]
        allocated = [run for run in runs if run.state == State.ALLOCATED]
        assert sum(run.length for run in allocated) == len(extent.table) * grain * 512
        for run in allocated:
            assert data[run.place : run.place + run.length] == chain.read(run.start, run.length)
    # 0, 1 and 2 follow one another on the disk and in the file
    assert allocated[0].length == 3 * grain * 512


def test_holes_are_skipped(folder: Path) -> None:
    extent = CowdBuilder((1 << 32) - 1)
    extent.allocate(3_000_000_000, told("far", 0, 1))
    extent.write(folder / "disk-delta.vmdk")
    reader = opened(folder)
    assert [run.start // 512 for run in reader.runs() if run.state == State.ALLOCATED] == [3_000_000_000]
    assert reader.next_used(0) == 3_000_000_000 // 4096 * 4096 * 512
    assert reader.next_used(3_000_000_001 * 512) == 3_000_000_001 * 512
    assert 1_000_000_000 * 512 <= reader.next_used(0, 1_000_000_000 * 512) <= 3_000_000_000 * 512
    assert reader.next_used(3_100_000_000 * 512) == reader.size


def test_unclean_shutdown_is_told(folder: Path) -> None:
    extent = build(folder)
    assert not opened(folder).unclean_shutdown
    extent.patch(0x670, b"\x01")
    extent.write(folder / "disk-delta.vmdk")
    assert opened(folder).unclean_shutdown


# Headers that cannot be trusted


REFUSED = {
    "magic": (0, 0x4B4E5544, "magicNumber is b'DUNK'"),
    "version 0": (4, 0, "version is 0"),
    "version 2": (4, 2, "version is 2"),
    "flags": (8, 0x10003, "flags is 0x10003"),
    "capacity 0": (12, 0, "numSectors is 0"),
    "capacity of another disk": (
        12,
        0xFFFFFFFF,
        "numGDEntries is 0xa, the capacity of 0xffffffff sectors needs 0x100000",
    ),
    "grain 0": (16, 0, "grainSize is 0"),
    "grain 3": (16, 3, "grainSize is 3"),
    "grain 2**31": (16, 1 << 31, "grainSize is 0x80000000"),
    "directory 0": (20, 0, "gdOffset is 0"),
    "directory in the header": (20, 3, "gdOffset is 3"),
    "directory past the end": (20, 0xFFFFFFFF, "gdOffset is 0xffffffff, the directory has 40 bytes, the file ends"),
    "no directory": (24, 0, "numGDEntries is 0"),
    "directory too small": (24, 9, "numGDEntries is 9, the capacity of 0xa000 sectors needs 0xa"),
    "k02": (24, 1 << 27, "numGDEntries is 0x8000000"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_headers(folder: Path, case: str) -> None:
    offset, value, message = REFUSED[case]
    extent = build(folder)
    extent.patch(offset, struct.pack("<I", value))
    extent.write(folder / "disk-delta.vmdk")
    with pytest.raises(ExtentError, match=message) as caught:
        opened(folder)
    assert "disk-delta.vmdk" in str(caught.value)
    with pytest.raises(SESparseError):
        open_chain(folder / "disk.vmdk")


def test_a_directory_with_room_to_spare_is_accepted(folder: Path) -> None:
    extent = build(folder)
    extent.patch(24, struct.pack("<I", 128))
    extent.write(folder / "disk-delta.vmdk")
    assert len(list(opened(folder).runs())) > 3


@pytest.mark.slow
def test_k02_huge_directory_in_a_hole(folder: Path, limited: Callable[..., str]) -> None:
    extent = build(folder)
    extent.patch(24, struct.pack("<I", 1 << 27))
    extent.write(folder / "disk-delta.vmdk", truncate_to=1 << 30)
    code = """
import tracemalloc
tracemalloc.start()
with within(500_000):
    try:
        dissect_sesparse.open_chain(Path(sys.argv[1]))
    except dissect_sesparse.SESparseError as e:
        no_memory_error(e)
        print(e)
assert tracemalloc.get_traced_memory()[1] < 50 << 20, tracemalloc.get_traced_memory()
"""
    assert "numGDEntries is 0x8000000" in limited(code, folder / "disk.vmdk")


# Entries that cannot be trusted


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (1, "the header is there"),  # no grain of zeros here, unlike in a hosted extent
        (3, "the header is there"),
        (4, "the grain directory is there"),
        (0x00FFFFFF, "the file ends at byte"),
        (0xFFFFFFFF, "the file ends at byte"),
    ],
)
@pytest.mark.parametrize("grain", [1, 8])
def test_entries_that_lead_nowhere(folder: Path, grain: int, value: int, problem: str) -> None:
    extent = build(folder, grain=grain)
    expected = disk(extent)
    extent.set_entry(1, value)
    extent.write(folder / "disk-delta.vmdk")
    size = grain * 512
    with open_chain(folder / "disk.vmdk") as chain:
        assert chain.read(0, size) == expected[:size]
        assert chain.read(2 * size, chain.size) == expected[2 * size :]
        with pytest.raises(UnreadableError, match=f"grain table entry of grain 1 is .*{problem}") as caught:
            chain.read(0, chain.size)
        assert (caught.value.offset, caught.value.source_offset) == (size, extent.entry_offset(1))
        assert [run.start for run in chain.runs() if run.state == State.INVALID] == [size]


@pytest.mark.parametrize("value", [1, 4, 0xFFFFFF, 0xFFFFFFFF])
def test_directory_entries_that_lead_nowhere(folder: Path, value: int) -> None:
    extent = build(folder)
    extent.patch(2048 + 4, struct.pack("<I", value))
    extent.write(folder / "disk-delta.vmdk")
    expected = disk(extent)
    with open_chain(folder / "disk.vmdk") as chain:
        assert chain.read(0, 4096 * 512) == expected[: 4096 * 512]
        assert chain.read(8192 * 512, chain.size) == expected[8192 * 512 :]
        for sector in (4096, 5000, 8191):
            with pytest.raises(UnreadableError, match="grain directory entry 1 is"):
                chain.read(sector * 512, 1)


def test_a_file_cut_anywhere_gives_what_it_has(folder: Path) -> None:
    extent = build(folder)
    expected = disk(extent)
    cuts = [0, 3, 100, 2047, 2048, 2050, 2048 + 40, extent.entry_offset(0), extent.entry_offset(2) + 1]
    cuts += [extent.entry_offset(4096) + 4, extent.next_sector * 512 - 100]
    for cut in cuts:
        extent.write(folder / "disk-delta.vmdk", truncate_to=cut)
        try:
            chain = open_chain(folder / "disk.vmdk")
        except SESparseError:
            assert cut < 2048 + 40
            continue
        with chain:
            assert cut >= 2048 + 40
            for number in (*GRAINS, 3, 5000, 20_000):
                if not raises_at(chain, number * 512, 512):
                    assert chain.read(number * 512, 512) == expected[number * 512 : (number + 1) * 512], (cut, number)
            # A grain that was written raises where its bytes, or the entry that names it, are not there
            for number, sector in extent.table.items():
                gone = (sector + 1) * 512 > cut or extent.entry_offset(number) + 4 > cut
                assert raises_at(chain, number * 512, 512) == gone


def test_a_cut_directory_is_accepted_where_truncation_is(folder: Path) -> None:
    extent = build(folder)
    extent.write(folder / "disk-delta.vmdk", truncate_to=2050)
    with open_chain(folder / "disk.vmdk", unreadable="zero") as chain:
        assert chain.read(0, chain.size) == bytes(chain.size)
        assert chain.unreadable.size == chain.size
        assert {run.state for run in chain.runs()} == {State.INVALID}


# Whatever the bytes


WORDS = st.one_of(st.integers(0, (1 << 32) - 1), st.sampled_from([0, 1, 2, 3, 4, 8, 4096, 1 << 27, 1 << 31]))


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 600), WORDS), min_size=1, max_size=5))
def test_any_header_and_table_is_an_extent_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-cowd"
    folder.mkdir(exist_ok=True)
    extent = build(folder)
    for word, value in changes:
        extent.patch(word * 4 if word < 10 else 2048 + (word - 10) * 4, struct.pack("<I", value))
    extent.write(folder / "disk-delta.vmdk")
    try:
        chain = open_chain(folder / "disk.vmdk")
    except SESparseError:
        return
    with chain:
        assert sum(run.length for run in chain.runs()) == chain.size
        for offset in (0, 512 * 4095, chain.size - 10):
            if not raises_at(chain, max(0, offset), 5000):
                assert len(chain.read(max(0, offset), 5000)) == min(5000, chain.size - max(0, offset))


@given(st.lists(WORDS, min_size=1, max_size=60), st.integers(0, 9000))
def test_a_table_decoded_at_once_is_as_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, entries: list[int], first: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "cowd-entries"
    folder.mkdir(exist_ok=True)
    extent = CowdBuilder(CAPACITY)
    for number, entry in enumerate(entries):
        extent.set_entry(first + number, entry % 200 if number % 2 else entry)
    extent.write(folder / "disk-delta.vmdk")
    reader = opened(folder)
    at_once = {}
    for run in reader.runs(first * 512, len(entries) * 512):
        for offset in range(run.start, run.end, 512):
            at_once[offset] = (run.state, None if run.place is None else run.place + offset - run.start)
    for number in range(first, first + len(entries)):
        try:
            one = reader.find(number * 512)
        except UnreadableError:
            one = (State.INVALID, None)
        assert at_once[number * 512] == one
    reader.close()


@pytest.mark.parametrize("grain", [1, 8])
def test_every_entry_at_a_bound_is_decoded_as_one_by_one(folder: Path, grain: int) -> None:
    """Around the end of header and directory, and of the file: a grain may start at the one, none at the other."""
    extent = CowdBuilder(CAPACITY, grain=grain)
    extent.allocate(0, b"x")
    end = extent.next_sector
    entries = [*range(20), *range(end - 10, end + 10)]
    for number, entry in enumerate(entries):
        extent.set_entry(1 + number, entry)
    extent.write(folder / "disk-delta.vmdk")
    reader = opened(folder)
    told_invalid = set()
    for run in reader.runs():
        if run.state == State.INVALID:
            told_invalid |= {number // (grain * 512) for number in range(run.start, run.end, grain * 512)}
    first = 4 + 1  # header, and one sector of directory
    wrong = [entry for entry in entries if entry and (entry < first or entry >= end)]
    assert [entries[number - 1] for number in sorted(told_invalid)] == wrong
    for number, entry in enumerate(entries):
        if entry in wrong:
            with pytest.raises(UnreadableError):
                reader.find((1 + number) * grain * 512)
        elif entry:
            assert reader.find((1 + number) * grain * 512) == (State.ALLOCATED, entry * 512)
