"""The seSparse extent: runs, tables, entries and single grains agree with each other and with the oracle."""

from __future__ import annotations

import hashlib
import io
import random
from typing import TYPE_CHECKING

import oracle
import pytest
from disks import grain_data, random_extent
from sesparse_builder import ExtentBuilder

from dissect_sesparse.chain.open_extent import open_extent
from dissect_sesparse.extent.engine import find_runs
from dissect_sesparse.extent.entry import Run, State
from dissect_sesparse.extent.lane import split
from dissect_sesparse.extent.sesparse import SESparseExtent
from dissect_sesparse.source.errors import ExtentError, UnreadableError
from dissect_sesparse.source.file import EvidenceFile
from dissect_sesparse.source.options import Options

if TYPE_CHECKING:
    from pathlib import Path

    from dissect_sesparse.extent.engine import Words

TABLE = 16 * 1024 * 1024


def opened(
    builder: ExtentBuilder, path: Path, *, cut: int | None = None, allow_truncated: bool = False
) -> SESparseExtent:
    builder.write(path, truncate_to=cut)
    return open_extent(EvidenceFile.open(path), Options(unreadable="zero" if allow_truncated else "error"))


def grain_states(path: Path, count: int) -> list[tuple[int, int | None]]:
    """What the oracle says of each grain."""
    return oracle.grain_states(oracle.contents(path), count)


def check(extent: SESparseExtent) -> list[tuple[int, int | None]]:
    """Hold all ways to ask against the oracle."""
    count = -(-extent.size // 4096)
    expected = grain_states(extent.file.path, count)
    told = {}
    position = 0
    for run in extent.runs():
        assert run.start == position
        position = run.end
        for grain in range(run.start // 4096, -(-run.end // 4096)):
            told[grain] = (run.state, None if run.place is None else run.place + grain * 4096 - run.start)
    assert position == extent.size
    wrong = [(grain, told[grain], expected[grain]) for grain in range(count) if told[grain] != expected[grain]]
    assert not wrong[:5]
    for grain in {*range(min(count, 20)), *range(0, count, 97), *range(4090, min(count, 4100)), count - 1}:
        check_grain(extent, grain, *expected[grain])
    return expected


def check_grain(extent: SESparseExtent, grain: int, state: int, place: int | None) -> None:
    """One grain, by its two small reads."""
    if state == 4:
        with pytest.raises(UnreadableError) as caught:
            extent.locate(grain)
        assert caught.value.source_offset is not None
        assert str(extent.file.path) in str(caught.value)
        assert extent.explain(grain * 4096).problem == caught.value.problem
        return
    found = extent.locate(grain)
    assert found[0] == state
    if state in (0, 2, 3) or place is not None:  # of an unmapped grain it may also tell a place that means nothing
        assert found[1] == place
    if state != 1:
        assert extent.find(grain * 4096) == (State(state), place)


@pytest.mark.parametrize("sectors", [8, 9, 2048, 32768, 32769, 40960, 70001])
@pytest.mark.parametrize("states", ["a", "auzb"])
def test_all_ways_agree(tmp_path: Path, sectors: int, states: str) -> None:
    rng = random.Random(f"{sectors} {states}")
    extent = opened(random_extent(rng, "x", sectors, states=states), tmp_path / "x.vmdk")
    check(extent)
    extent.close()


@pytest.mark.parametrize("order", ["in-order", "reversed", "by-slot"])
def test_tables_in_any_order(tmp_path: Path, order: str) -> None:
    builder = ExtentBuilder(5 * 32768, tables=order)
    for slot in (0, 2, 3):
        builder.allocate(slot * 4096 + slot, grain_data("x", slot))
    extent = opened(builder, tmp_path / "x.vmdk")
    assert list(extent.metadata.tables()) == [0, 2, 3]
    assert list(extent.metadata.tables(1)) == [2, 3]
    assert list(extent.metadata.tables(1, 3)) == [2]
    for slot in (0, 2, 3):
        assert (
            extent.metadata.entry_offset(extent.metadata.index_of(slot))
            == builder.tables_sector * 512 + builder.table_index(slot) * 32768
        )
        state, place = extent.locate(slot * 4096 + slot)
        assert state == State.ALLOCATED
        assert extent.read(place, 4096) == grain_data("x", slot)
    assert extent.metadata.index_of(1) is None
    assert extent.metadata.entries(4096, 4096) is None
    assert extent.next_used(0) == 0
    assert extent.next_used(TABLE + 1) == 2 * TABLE
    assert extent.next_used(4 * TABLE) == 5 * TABLE == extent.size
    assert extent.next_used(TABLE + 1, 2 * TABLE) >= 2 * TABLE
    assert extent.next_used(TABLE + 1, 3 * TABLE) == 2 * TABLE
    assert extent.next_used(TABLE + 1, TABLE + 2) >= TABLE + 2
    check(extent)
    extent.close()


def test_entries_over_the_edge_of_a_table(tmp_path: Path) -> None:
    builder = ExtentBuilder(3 * 32768)
    builder.allocate(4095)
    builder.allocate(8192)
    extent = opened(builder, tmp_path / "x.vmdk")
    entries = extent.metadata.entries(4094, 4100)
    values = entries.tolist()
    assert len(values) == 4100
    assert [(i + 4094, value) for i, value in enumerate(values) if value] == [
        (4095, 0x3000000000000000),
        (8192, 0x3001000000000000),
    ]
    extent.close()


def test_runs_of_a_range(tmp_path: Path) -> None:
    """A range is the same runs, cut at its ends."""
    extent = opened(random_extent(random.Random(7), "x", 3 * 32768, hole=0.2), tmp_path / "x.vmdk")
    whole = list(extent.runs())
    rng = random.Random(8)
    for _ in range(60):
        start = rng.randrange(extent.size // 512) * 512
        end = min(extent.size, start + rng.choice((512, 4096, 10 * 4096, TABLE, 40 << 20)))
        expected = []
        for run in whole:
            first, last = max(run.start, start), min(run.end, end)
            if first < last:
                place = None if run.place is None else run.place + first - run.start
                expected.append(Run(first, last - first, run.state, place))
        assert list(extent.runs(start, end - start)) == expected
    extent.close()


@pytest.mark.slow
def test_layers_in_grains_and_in_sectors_agree(tmp_path: Path) -> None:
    extent = opened(random_extent(random.Random(9), "x", 40960, hole=0.2), tmp_path / "x.vmdk")
    for keep in (False, True):
        for start in (0, TABLE - 4096, TABLE - 512, 3 * 512, 4096 + 7 * 512):
            grains = extent.layer(start // 4096 * 4096, 300, 4096, keep_unmapped=keep)
            sectors = extent.layer(start, 2000, 512, keep_unmapped=keep)
            lanes = extent.lanes(grains.entries, keep_unmapped=keep)
            fine = sectors.entries
            for number in range(2000):
                offset = start + number * 512
                coarse = one(lanes, (offset - start // 4096 * 4096) // 4096)
                place = None if coarse[1] is None else coarse[1] + offset % 4096
                assert one(fine, number) == (coarse[0], place)
    extent.close()


def one(lanes: Words, number: int) -> tuple[State, int | None]:
    _, kinds, places = find_runs(lanes[number : number + 1], 1)
    state, _, placed = split(kinds[0])
    return state, places[0] if placed else None


# Corrupt


BAD_DIRECTORY = [0x2000000000000000, 5, 0x3000000000000000, 0x1000000100000000, 0xFFFFFFFFFFFFFFFF]


@pytest.mark.slow
@pytest.mark.parametrize(
    "value", [*BAD_DIRECTORY, 0x1000000000000003, 0x100000000000001F, 0x1000000000000020, 0x10000000FFFFFFFF]
)
def test_bad_directory_entry(tmp_path: Path, value: int) -> None:
    """Its 16 MiB cannot be had. The last values name tables that the disk has no use for, or past their region of 32."""
    builder = random_extent(random.Random(value), "x", 2 * 32768 + 100)
    builder.set_directory(1, value)
    extent = opened(builder, tmp_path / "x.vmdk")
    expected = check(extent)
    assert {state for state, _ in expected[4096:8192]} == {4}
    assert 4 not in {state for state, _ in expected[:4096] + expected[8192:]}
    with pytest.raises(UnreadableError) as caught:
        extent.metadata.index_of(1)
    message = str(caught.value)
    assert f"grain directory entry 1 is {value:#x}" in message or f"grain directory entry 1 is {value}, " in message
    assert caught.value.source_offset == 4096 * 512 + 8
    extent.close()


def test_table_that_was_never_used_is_empty(tmp_path: Path) -> None:
    builder = ExtentBuilder(3 * 32768)
    builder.allocate(0)
    builder.set_directory(1, 0x1000000000000002)  # the last of the three that the disk has
    extent = opened(builder, tmp_path / "x.vmdk")
    assert extent.locate(4096) == (State.UNALLOCATED, None)
    check(extent)
    extent.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "value", [1, 0x00FF000000000000, 0x0FFFFFFFFFFFFFFF, *(nibble << 60 for nibble in range(4, 16)), 0xF00000000000FFFF]
)
@pytest.mark.parametrize("grain", [0, 5, 4095, 4096, 5119])
def test_bad_table_entry(tmp_path: Path, value: int, grain: int) -> None:
    builder = random_extent(random.Random(grain), "x", 40960)
    builder.set_entry(grain, value)
    extent = opened(builder, tmp_path / "x.vmdk")
    with pytest.raises(UnreadableError) as caught:
        extent.locate(grain)
    assert f"grain table entry of grain {grain} is" in str(caught.value)
    assert caught.value.source_offset == builder.entry_offset(grain)
    runs = [run for run in extent.runs() if run.state == State.INVALID]
    assert [(run.start, run.length, run.place) for run in runs] == [(grain * 4096, 4096, None)]
    extent.close()


@pytest.mark.parametrize("beyond", ["the region", "the file", "everything"])
def test_places_past_the_end(tmp_path: Path, beyond: str) -> None:
    builder = ExtentBuilder(40960)  # 5120 grains in the region, 4097 in the file (with the trailer)
    for grain in range(10):
        builder.allocate(grain, grain_data("x", grain))
    cut = None
    if beyond == "the region":
        cut = builder.file_size + 64 * 1024 * 1024
        limit = 5120
    else:
        limit = 4097
    entry = {"the region": 5120, "the file": 4097, "everything": (1 << 60) - 1}[beyond]
    builder.set_entry(3, 3 << 60 | (entry & 0xFFF) << 48 | entry >> 12)
    builder.set_entry(5, 3 << 60 | (limit - 1 & 0xFFF) << 48 | limit - 1 >> 12)
    builder.set_entry(7, 1 << 60 | (entry & 0xFFF) << 48 | entry >> 12)
    extent = opened(builder, tmp_path / "x.vmdk", cut=cut)
    assert extent.metadata.place_limit == limit
    expected = check(extent)
    assert expected[3] == (4, None)
    assert expected[5] == (3, builder.grain_offset(limit - 1))
    assert expected[7] == (1, None)
    with pytest.raises(UnreadableError, match=r"grain table entry of grain 3 is 0x3.* ends? at "):
        extent.locate(3)
    extent.close()


@pytest.mark.parametrize("bytes_left", [1, 511, 512, 4095])
def test_last_grain_cut(tmp_path: Path, bytes_left: int) -> None:
    """A grain of which a part is there is a grain; reading the rest raises."""
    builder = ExtentBuilder(2048)
    for grain in range(4):
        builder.allocate(grain, grain_data("x", grain))
    extent = opened(builder, tmp_path / "x.vmdk", cut=builder.grain_offset(3) + bytes_left)
    assert [run.length for run in extent.runs(0, 4 * 4096)] == [4 * 4096]
    place = extent.locate(3)[1]
    assert extent.read(place, bytes_left) == grain_data("x", 3)[:bytes_left]
    assert extent.read_some(place, 4096) == grain_data("x", 3)[:bytes_left]
    with pytest.raises(UnreadableError):
        extent.read(place, bytes_left + 1)
    check(extent)
    extent.close()


# Cut in the metadata, where that is allowed


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 16, 17, 24])
def test_directory_cut(tmp_path: Path, kept: int) -> None:
    """What there still is of it counts."""
    builder = ExtentBuilder(3 * 32768)
    for slot in range(3):
        builder.allocate(slot * 4096)
    extent = opened(builder, tmp_path / "x.vmdk", cut=4096 * 512 + kept, allow_truncated=True)
    # Tables are behind the directory, so none can be read
    assert list(extent.metadata.tables()) == list(range(kept // 8))
    assert extent.next_used(0) == 0
    expected = check(extent)
    assert {state for state, _ in expected} == {4}
    extent.close()


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 16, 23, 24, 8 * 600])
def test_directory_cut_behind_its_tables(tmp_path: Path, kept: int) -> None:
    """The slices whose entries are still there are as good as ever, those behind are lost, not empty."""
    count = 3 if kept < 100 else 700  # one piece of what is kept of a directory, or two
    builder = ExtentBuilder(count * 32768)
    for slot in (0, 2, count - 1):
        builder.allocate(slot * 4096, grain_data("x", slot))
    path = tmp_path / "x.vmdk"
    builder.write(path)
    moved = 1 << 25  # behind the grains region
    with path.open("r+b") as fh:
        fh.seek(4096 * 512)
        directory = fh.read(count * 8)
        fh.seek(0x80)
        fh.write(moved.to_bytes(8, "little"))
        fh.seek(moved * 512)
        fh.write(directory[:kept])
    with pytest.raises(ExtentError):
        open_extent(EvidenceFile.open(path))
    extent = open_extent(EvidenceFile.open(path), Options(unreadable="zero"))
    assert list(extent.metadata.tables()) == [slot for slot in sorted({0, 2, count - 1}) if slot < kept // 8]
    lost = min(kept // 8 * TABLE, extent.size)
    assert [run.start for run in extent.runs() if run.state == State.INVALID] == ([lost] if lost < extent.size else [])
    for slot in range(0, count, 1 if count < 10 else 37):
        if slot < kept // 8:
            assert extent.locate(slot * 4096)[0] == (
                State.ALLOCATED if slot in (0, 2, count - 1) else State.UNALLOCATED
            )
        else:
            with pytest.raises(UnreadableError):
                extent.locate(slot * 4096)
            assert extent.next_used(slot * TABLE) == slot * TABLE
    extent.close()


@pytest.mark.slow
@pytest.mark.parametrize("kept_entries", [0, 1, 100, 4095, 4096, 4097, 5000])
@pytest.mark.parametrize("odd", [0, 3])
def test_tables_cut(tmp_path: Path, kept_entries: int, odd: int) -> None:
    """Entries in front of the cut are as good as ever, all behind it are lost."""
    builder = random_extent(random.Random(5), "x", 2 * 32768, hole=0.1)
    # The grains in front of the tables, so that they are still there; the metadata behind is of no use to a read
    moved = 1 << 15
    for field, sector in ((0x90, moved), (0xA0, moved + 2048), (0xB0, moved + 4096), (0xC0, moved + 8192)):
        builder.set_header(field, sector)
    path = tmp_path / "x.vmdk"
    builder.write(path)
    with path.open("r+b") as fh:
        fh.seek(builder.tables_sector * 512)
        tables = fh.read(2 * 32768)
        fh.seek(moved * 512)
        fh.write(tables)
        fh.truncate(moved * 512 + kept_entries * 8 + odd)
    extent = open_extent(EvidenceFile.open(path), Options(unreadable="zero"))
    expected = check(extent)
    index = [builder.table_index(slot) for slot in range(2)]
    lost = {grain for grain in range(8192) if index[grain // 4096] * 4096 + grain % 4096 >= kept_entries}
    assert all(expected[grain][0] == 4 for grain in lost)
    assert any(state in (1, 2) for state, _ in expected) or kept_entries <= 1
    extent.close()


def test_cut_is_refused_without_leave(tmp_path: Path) -> None:
    builder = ExtentBuilder(2048)
    with pytest.raises(ExtentError, match="unreadable=zero"):
        opened(builder, tmp_path / "x.vmdk", cut=6144 * 512 + 100)


def test_tables_of_a_huge_cut_disk_are_not_counted_one_by_one(tmp_path: Path) -> None:
    """A capacity of 128 TiB has 8 million tables; a file of 3 MiB that says so must not take minutes."""
    builder = ExtentBuilder(2048)
    capacity = 1 << 38
    tables = capacity // 32768
    sizes = {
        0x88: tables * 8 // 512,
        0x98: tables * 64,
        0xA8: capacity // 8 // 4096,
        0xB8: capacity // 8 // 64,
        0xC8: capacity,
    }
    builder.set_header(0x10, capacity)
    sector = 4096
    for field, size in sizes.items():
        builder.set_header(field, size)
        builder.set_header(field - 8, sector)
        sector += size
    extent = opened(builder, tmp_path / "x.vmdk", cut=3 << 20, allow_truncated=True)
    assert extent.size == capacity * 512
    pieces = 0
    end = 0
    for run in extent.runs():
        assert run.start == end
        end = run.end
        pieces += 1
        assert pieces < 1000
    assert end == extent.size
    assert extent.next_used(1 << 46) == 1 << 46
    extent.close()


# Files that are larger than any


class Huge(io.RawIOBase):
    """A file of exbibytes, all holes but its beginning, as a sparse file inside evidence may be."""

    def __init__(self, head: bytes, size: int):
        self.head, self.size, self.position = head, size, 0

    def seek(self, pos: int, whence: int = 0) -> int:
        self.position = pos if whence == io.SEEK_SET else self.size + pos
        return self.position

    def read(self, n: int = -1) -> bytes:
        n = max(0, min(n, self.size - self.position))
        data = self.head[self.position : self.position + n]
        return data + bytes(n - len(data))


@pytest.mark.parametrize("place", [1 << 44, 1 << 45, (1 << 48) - 1, 1 << 48, (1 << 50) + 5])
def test_places_past_what_a_lane_holds(place: int) -> None:
    """Never another place's bytes: the grain, or an error."""
    builder = ExtentBuilder(2048)
    builder.allocate(0)
    builder.set_entry(1, 3 << 60 | (place & 0xFFF) << 48 | place >> 12)
    builder.set_header(0xC8, 1 << 54)
    head = builder.to_bytes()[: builder.grains_sector * 512]
    try:
        extent = open_extent(EvidenceFile(Huge(head, 1 << 62)))
    except ExtentError:
        return
    told = [(run.state, run.place) for run in extent.runs(4096, 4096)]
    assert told in ([(State.INVALID, None)], [(State.ALLOCATED, builder.grain_offset(place))])
    try:
        assert extent.locate(1) == (State.ALLOCATED, builder.grain_offset(place))
    except UnreadableError:
        assert told == [(State.INVALID, None)]


# The real one


def test_real_extent(real_path: Path) -> None:
    """512 MiB of which the first 16 MiB are ``a``, written in order, nothing unmapped."""
    extent = open_extent(EvidenceFile.open(real_path))
    grains = 12288 * 512
    assert list(extent.runs()) == [
        Run(0, TABLE, State.ALLOCATED, grains),
        Run(TABLE, 512 * 1024 * 1024 - TABLE, State.UNALLOCATED, None),
    ]
    assert list(extent.metadata.tables()) == [0]
    assert extent.metadata.place_limit == 4097
    assert extent.metadata.grains_offset == grains
    assert not extent.dirty
    assert extent.read(grains, TABLE) == b"a" * TABLE
    for grain in (0, 1, 4095):
        assert extent.locate(grain) == (State.ALLOCATED, grains + grain * 4096)
    assert extent.locate(4096) == (State.UNALLOCATED, None)
    assert grain_states(real_path, 4096) == [(3, grains + grain * 4096) for grain in range(4096)]
    extent.close()


def test_real_extent_is_the_one_that_is_meant(real_path: Path) -> None:
    digest = hashlib.sha256()
    with real_path.open("rb") as fh:
        while data := fh.read(1 << 20):
            digest.update(data)
    assert real_path.stat().st_size == 23_072_768
    assert digest.hexdigest() == "d33e393354748c566d521f67a4d93e80c73c31ad78be61280f2b1087ae4b12c2"
