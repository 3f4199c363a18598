"""Destroyed directory and tables: what backmap, bitmap and journal tell is right, and nothing else is shown."""

from __future__ import annotations

import io
import random
import struct
from typing import TYPE_CHECKING

import pytest
from sesparse_builder import ExtentBuilder, grain_data
from target_fixtures import SIZE, small_chain

from dissect_sesparse import SESparseError, UnreadableError, open_chain
from dissect_sesparse.chain.open_extent import open_extent
from dissect_sesparse.chain.summary import summaries
from dissect_sesparse.extent.entry import State
from dissect_sesparse.extent.sesparse import SESparseExtent
from dissect_sesparse.findings.findings import findings
from dissect_sesparse.findings.journals import salvage_notes
from dissect_sesparse.repair.repairs import repairs_of
from dissect_sesparse.source.file import EvidenceFile
from dissect_sesparse.source.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOST = "lost"
REAL = {"journal": 2048, "grain_directory": 4096, "grain_tables": 6144, "free_bitmap": 8192, "backmap": 10240}


def opened(image: bytes | bytearray) -> SESparseExtent:
    return open_extent(EvidenceFile(io.BytesIO(bytes(image))), Options(salvage=True))


def seen(extent: SESparseExtent, numbers: range) -> list[str | tuple[State, bytes | None]]:
    """State and bytes of grains, ``LOST`` for those that cannot be read."""
    found: list[str | tuple[State, bytes | None]] = []
    for number in numbers:
        try:
            state, place = extent.find(number * 4096)
            data = extent.read(place, 4096) if state == State.ALLOCATED and place is not None else None
            found.append((state, data))
        except UnreadableError:
            found.append(LOST)
    return found


def codes(extent: SESparseExtent) -> set[str]:
    return {note.code for note in salvage_notes(extent)}


# The real extent


@pytest.mark.slow
@pytest.mark.parametrize("fill", ["zero", "random"])
@pytest.mark.parametrize("second", [None, *REAL])
@pytest.mark.parametrize("first", REAL)
def test_real_regions(real_path: Path, first: str, second: str | None, fill: str) -> None:
    """Each region, and each two of them, gone: all 16 MiB, or errors, and a word on what was rebuilt; never wrong bytes."""
    image = bytearray(real_path.read_bytes())
    for name in {first, second} - {None}:
        start = REAL[name] * 512
        image[start : start + (1 << 20)] = bytes(1 << 20) if fill == "zero" else random.Random(name).randbytes(1 << 20)
    extent = opened(image)
    found = set(seen(extent, range(0, 4096, 64)))
    right = {(State.ALLOCATED, b"a" * 4096)}
    assert found in (right, {LOST})
    if {first, second} & {"grain_directory", "grain_tables"}:
        assert codes(extent) == {"tables-rebuilt"}
        assert extent.state == "salvaged"
    if "grain_directory" not in (first, second) and {first, second} != {"journal", "grain_tables"}:
        assert found == right
    if first == second == "journal" or (second is None and first == "journal"):
        assert (extent.state, codes(extent)) == ("clean", set())


def test_real_good(real_path: Path) -> None:
    extent = opened(real_path.read_bytes())
    assert [(run.state, run.length) for run in extent.runs()] == [(3, 16 << 20), (0, 496 << 20)]
    assert (extent.state, codes(extent)) == ("clean", set())


# Made extents without a journal


def work(tables: str = "by-slot", clears: bool = True) -> ExtentBuilder:
    """Three tables with grains in all states, in no order."""
    builder = ExtentBuilder(12 * 32768, tables=tables, unmap_clears_bitmap=clears)
    rng = random.Random(5)
    grains = [table * 4096 + rng.randrange(600) for table in (1, 4, 9) for _ in range(300)]
    rng.shuffle(grains)
    for grain in grains:
        builder.allocate(grain, grain_data("x", grain))
    for grain in grains[::7]:
        builder.unmap(grain)
    for grain in grains[1::7]:
        builder.zero(grain)
    return builder


def entries_of(builder: ExtentBuilder, table: int) -> range:
    return range(table * 4096, table * 4096 + 640)


def check_against(builder: ExtentBuilder, extent: SESparseExtent, numbers: range) -> int:
    """No grain is other than it was; how many cannot be read."""
    lost = 0
    for number, found in zip(numbers, seen(extent, numbers)):
        state = builder._entries.get(number, 0) >> 60
        if found == LOST:
            lost += 1
        else:
            assert found[0] == state, number
            assert state != 3 or found[1] == grain_data("x", number)
    return lost


@pytest.mark.parametrize("tables", ["by-slot", "in-order", "reversed"])
def test_nothing_is_done_to_a_good_extent(tables: str) -> None:
    builder = work(tables)
    extent = opened(builder.to_bytes())
    for table in (1, 4, 9):
        assert check_against(builder, extent, entries_of(builder, table)) == 0
    assert (extent.state, codes(extent)) == ("clean", set())


@pytest.mark.parametrize("tables", ["by-slot", "in-order", "reversed"])
@pytest.mark.parametrize("fill", ["zero", "random"])
def test_a_table_is_gone(tables: str, fill: str) -> None:
    """All that was allocated comes back; what was trimmed, zero or never written cannot be told apart, and raises."""
    builder = work(tables)
    image = bytearray(builder.to_bytes())
    start = builder.tables_sector * 512 + builder.table_index(4) * 32768
    image[start : start + 32768] = bytes(32768) if fill == "zero" else random.Random(3).randbytes(32768)
    extent = opened(image)
    numbers = entries_of(builder, 4)
    allocated = sum(builder._entries.get(n, 0) >> 60 == 3 for n in numbers)
    assert check_against(builder, extent, numbers) == len(numbers) - allocated
    for table in (1, 9):
        assert check_against(builder, extent, entries_of(builder, table)) == 0
    assert codes(extent) == {"tables-rebuilt"}
    assert repairs_of(extent).salvage is not None
    assert (repairs_of(extent).salvage.damaged_tables, repairs_of(extent).salvage.rebuilt_entries) == (1, allocated)
    with pytest.raises(UnreadableError, match="destroyed, and neither the backmap nor the journal"):
        extent.locate(4 * 4096 + 4000)


@pytest.mark.parametrize("tables", ["by-slot", "in-order", "reversed"])
@pytest.mark.parametrize("fill", [0, 0x77])
def test_the_directory_is_gone(tables: str, fill: int) -> None:
    """Where the backmap's numbers may be the tables' own, nothing tells whose they are: nothing of them is shown."""
    builder = work(tables)
    builder.patch(builder.directory_sector * 512, bytes([fill]) * 512)
    extent = opened(builder.to_bytes())
    assert [check_against(builder, extent, entries_of(builder, table)) for table in (1, 4, 9)] == [640] * 3
    assert codes(extent) == {"tables-rebuilt"}
    assert seen(extent, range(3)) == [LOST] * 3, "a slice that was never written, or one that is lost"


@pytest.mark.parametrize("tables", ["in-order", "reversed"])
@pytest.mark.parametrize("also", [None, 4])
def test_the_directory_is_gone_and_the_backmap_has_slices(tables: str, also: int | None) -> None:
    """Tables that lie elsewhere than their numbers say tell that these are slices; one may be gone too."""
    builder = work(tables)
    for place, grain in builder._owners.items():
        builder.set_backmap(place, 1 << 60 | grain % 4096 << 48 | grain // 4096)
    image = bytearray(builder.to_bytes())
    image[builder.directory_sector * 512 : builder.directory_sector * 512 + 512] = bytes(512)
    if also is not None:
        start = builder.tables_sector * 512 + builder.table_index(also) * 32768
        image[start : start + 32768] = bytes(32768)
    extent = opened(image)
    for table in (1, 4, 9):
        numbers = entries_of(builder, table)
        lost = check_against(builder, extent, numbers)
        allocated = sum(builder._entries.get(n, 0) >> 60 == 3 for n in numbers)
        assert lost == (len(numbers) - allocated if table == also else 0)
    assert codes(extent) == {"tables-rebuilt"}


def test_the_directory_of_a_small_disk() -> None:
    """One table: there is one place for it."""
    builder = ExtentBuilder(32768)
    for grain in range(0, 100, 2):
        builder.allocate(grain, grain_data("x", grain))
    builder.set_directory(0, 0)
    extent = opened(builder.to_bytes())
    assert check_against(builder, extent, range(200)) == 0


@pytest.mark.parametrize("tables", ["by-slot", "in-order", "reversed"])
def test_one_directory_entry_is_gone(tables: str) -> None:
    builder = work(tables)
    builder.set_directory(4, 0x123456789)
    extent = opened(builder.to_bytes())
    assert check_against(builder, extent, entries_of(builder, 4)) in (0, 640)
    for table in (1, 9):
        assert check_against(builder, extent, entries_of(builder, table)) == 0


@pytest.mark.parametrize("value", [0, 5 << 60, 2 << 60, 3 << 60 | 0xFFF << 48, (1 << 64) - 1, 3 << 60 | 1 << 48])
def test_one_entry(value: int) -> None:
    """Its neighbours stay as they are, and its own grain comes back."""
    builder = work()
    grain = next(n for n in entries_of(builder, 4) if builder._entries.get(n, 0) >> 60 == 3)
    right = builder._entries[grain]
    image = bytearray(builder.to_bytes())
    offset = builder.entry_offset(grain)
    image[offset : offset + 8] = struct.pack("<Q", value)
    assert value != right
    extent = opened(image)
    assert check_against(builder, extent, entries_of(builder, 4)) == 0
    assert codes(extent) == {"tables-rebuilt"}


def test_without_a_bitmap() -> None:
    """Then a place that the backmap names may be a trimmed grain's: nothing is made up."""
    builder = work()
    image = bytearray(builder.to_bytes())
    for start, length in (
        (builder.tables_sector * 512 + builder.table_index(4) * 32768, 32768),
        (builder.bitmap_sector * 512, 1 << 20),
    ):
        image[start : start + length] = bytes(length)
    extent = opened(image)
    assert set(seen(extent, entries_of(builder, 4))) == {LOST}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_any_damage(seed: int) -> None:
    """Words anywhere in directory, tables, bitmap and backmap: a grain is what it was, or raises, or something is said."""
    rng = random.Random(seed)
    builder = work(rng.choice(("by-slot", "in-order", "reversed")), clears=rng.random() < 0.7)
    image = bytearray(builder.to_bytes())
    regions = [builder.directory_sector * 512, builder.tables_sector * 512, builder.bitmap_sector * 512]
    for _ in range(rng.randint(1, 5)):
        start = rng.choice([*regions, builder.backmap_sector * 512]) + rng.randrange(12 * 4096) // 8 * 8
        length = rng.choice((8, 8, 64, 512, 4096))
        image[start : start + length] = rng.choice((bytes(length), rng.randbytes(length)))
    try:
        extent = opened(image)
    except SESparseError:
        return
    wrong = 0
    for table in (1, 4, 9):
        numbers = entries_of(builder, table)
        for number, found in zip(numbers, seen(extent, numbers)):
            state = builder._entries.get(number, 0) >> 60
            wrong += found != LOST and (found[0] != state or (state == 3 and found[1] != grain_data("x", number)))
    assert wrong == 0 or codes(extent) == {"tables-rebuilt"} or _as_written(image, builder, wrong)


def _as_written(image: bytearray, builder: ExtentBuilder, wrong: int) -> bool:
    """Whether the plain reading of the damaged file is as wrong: then what says it was destroyed with it."""
    plain = open_extent(EvidenceFile(io.BytesIO(bytes(image))))
    count = 0
    for table in (1, 4, 9):
        numbers = entries_of(builder, table)
        for number, found in zip(numbers, seen(plain, numbers)):
            state = builder._entries.get(number, 0) >> 60
            count += found != LOST and (found[0] != state or (state == 3 and found[1] != grain_data("x", number)))
    return count >= wrong


# A chain


def test_findings_and_state(folder: Path) -> None:
    chain = small_chain(folder, deltas=2)
    for grain in range(100, 140):
        chain.links[2].extent.allocate(grain, grain_data("delta2", grain))
    extent = chain.links[2].extent
    extent.patch(extent.tables_sector * 512, bytes(32768))
    path = chain.write()
    with open_chain(path, salvage=1, unreadable="zero") as disk:
        data = disk.read(0, SIZE)
        assert data[100 * 4096 : 140 * 4096] == b"".join(grain_data("delta2", grain) for grain in range(100, 140))
        found = [f for f in findings(disk) if f.code == "tables-rebuilt"]
        assert [(f.level, f.depth, f.source_offset) for f in found] == [("warning", 0, extent.tables_sector * 512)]
        assert "41 entries" in found[0].message
        assert [summary.state for summary in summaries(disk)] == ["salvaged", "clean", "clean"]


@pytest.mark.slow
def test_bounded(limited: Callable[..., str], tmp_path: Path) -> None:
    """A disk of 62 TiB whose directory, a hole, is said to be gone by one word of the backmap."""
    limited(
        """
        builder = sesparse_builder.ExtentBuilder(62 << 31)
        builder.allocate(5 << 20, b"x")
        builder.set_directory((5 << 20) // 4096, 0)
        path = Path(sys.argv[1]) / "x-sesparse.vmdk"
        builder.write(path)
        with within(5_000_000):
            from dissect_sesparse.source.file import EvidenceFile
            from dissect_sesparse.chain.open_extent import open_extent
            from dissect_sesparse.source.options import Options
            extent = open_extent(EvidenceFile.open(path), Options(salvage=True))
            try:
                extent.locate(0)
            except dissect_sesparse.SESparseError as e:
                no_memory_error(e)
        """.replace("\n        ", "\n"),
        tmp_path,
    )
