"""The journal's records: all that can be checked of one is, and what cannot be true is said."""

from __future__ import annotations

import io
import random
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sesparse_builder import ExtentBuilder

from dissect_sesparse.extent.header import read_header
from dissect_sesparse.repair.journal import MAX_SLOTS, Journal, read_journal
from dissect_sesparse.source.errors import SESparseError
from dissect_sesparse.source.file import EvidenceFile

if TYPE_CHECKING:
    from pathlib import Path

SLOT = 25 * 512
JOURNAL = 2048 * 512


def parsed(image: bytes) -> Journal:
    file = EvidenceFile(io.BytesIO(image))
    return read_journal(file, read_header(file))


def test_real(real_path: Path) -> None:
    """Every field, of an extent that a host wrote."""
    file = EvidenceFile.open(real_path)
    journal = read_journal(file, read_header(file))
    file.close()
    assert (journal.generation, journal.next_sequence, journal.problem, journal.slots) == (1, 0x24, None, 81)
    assert [record.slot for record in journal.records] == list(range(32))
    assert [record.sequence for record in journal.records] == list(range(4, 0x24))
    assert {record.generation for record in journal.records} == {1}
    assert {record.problem for record in journal.records} == {None}
    assert {record.size for record in journal.records} == {6 * 512}
    assert {record.regions for record in journal.records} == {("free_bitmap", "backmap", "grain_tables")}
    assert [journal.records[0].timer, journal.records[31].timer] == [0x41BFC231, 0x41C0B0B1]
    assert [(t.sector, t.count) for t in journal.records[1].targets] == [
        (8192, 1), (10243, 1), (10242, 1), (6146, 1), (6147, 1),
    ]  # fmt: skip


def test_real_records_are_its_metadata(real_path: Path) -> None:
    """In the order of their numbers they give the file's tables, bitmap and backmap, to the byte."""
    data = real_path.read_bytes()
    sectors: dict[int, bytes] = {}
    for record in parsed(data).records:
        sectors.update(record.sectors)
    assert len(sectors) == 129
    assert [n for n, image in sectors.items() if data[n * 512 : n * 512 + 512] != image] == []


@pytest.fixture
def builder() -> ExtentBuilder:
    extent = ExtentBuilder(2 * 32768)
    extent.allocate(0, b"zero")
    extent.allocate(4096, b"next")
    extent.checkpoint()
    for grain in (1, 2, 3):
        extent.allocate(grain, b"x")
        extent.commit()
    return extent


def test_builder_and_reader_agree(builder: ExtentBuilder) -> None:
    journal = parsed(builder.to_bytes())
    assert [(r.slot, r.sequence, r.generation, r.problem) for r in journal.records] == [
        (0, 4, 1, None), (1, 5, 1, None), (2, 6, 1, None),
    ]  # fmt: skip
    assert journal.next_sequence == 7
    assert journal.records[0].regions == ("free_bitmap", "backmap", "grain_tables")
    assert journal.records[0].offset == JOURNAL
    table = journal.records[2].sectors[builder.tables_sector]
    assert struct.unpack_from("<5Q", table) == (3 << 60, *(3 << 60 | n << 48 for n in (2, 3, 4)), 0)


PATCHES = {
    "slot": (0x10, 7, "slot 0x7"),
    "length": (0x18, 5, "length is 0x5"),
    "length of nothing": (0x18, 0, "length is 0x0"),
    "length past the slot": (0x18, 26, "length is 0x1a"),
    "no target": (0x80, 0, "replaces nothing"),
    "target in the header": (0x80, 1, "sector 0x1 are not in"),
    "target in the journal": (0x80, 2048, "sector 0x800 are not in"),
    "target in the grains": (0x80, 1 << 40, "are not in"),
    "target that leaves its region": (0x88, 1 << 50, "its targets need"),
    "count 0": (0x88, 0, "its targets need"),
    "table entry": (4 * 512 - 512, 5 << 60, "no grain has the state 0x5"),
    "place past the region": (4 * 512 - 512, 3 << 60 | 2, "the grains' region ends at place"),
    "backmap word": (3 * 512 - 512, 2 << 60, "neither 0 nor"),
    "backmap of a table that is none": (3 * 512 - 512, 1 << 60 | 2, "neither 0 nor"),
}


@pytest.mark.parametrize("what", PATCHES)
def test_a_record_that_is_not_whole(builder: ExtentBuilder, what: str) -> None:
    offset, value, problem = PATCHES[what]
    builder.patch(JOURNAL + SLOT + offset, struct.pack("<Q", value))
    journal = parsed(builder.to_bytes())
    assert [record.problem is None for record in journal.records] == [True, False, True]
    assert problem in (journal.records[1].problem or "")


def test_directory_entries_are_checked_too() -> None:
    extent = ExtentBuilder(2 * 32768)
    for number, value in enumerate((0, 0x1000000000000001, 0x1000000000000002, 5)):
        extent.add_journal_record(4 + number, {4096: struct.pack("<Q", value).ljust(512, b"\0")})
    records = parsed(extent.to_bytes()).records
    assert [record.problem is None for record in records] == [True, True, False, False]
    assert "has 2 tables" in (records[2].problem or "")
    assert records[0].regions == ("grain_directory",)


def test_no_magic_no_record(builder: ExtentBuilder) -> None:
    builder.patch(JOURNAL + SLOT, b"\0")
    assert [record.slot for record in parsed(builder.to_bytes()).records] == [0, 2]


def test_headers(builder: ExtentBuilder) -> None:
    """The lower of two numbers counts, and without the journal's header there is no generation."""
    builder.set_header(0x408, 5)
    assert parsed(builder.to_bytes()).next_sequence == 5
    builder.set_header(0x408, 9)
    assert parsed(builder.to_bytes()).next_sequence == 7
    builder.set_header(0x410, 3)
    assert parsed(builder.to_bytes()).generation == 3
    builder.set_header(0x400, 0xBAD)
    journal = parsed(builder.to_bytes())
    assert journal.generation is None
    assert "0xbad" in (journal.problem or "")
    assert len(journal.records) == 3


def test_no_journal_at_all(builder: ExtentBuilder) -> None:
    for field in (0x68, 0x78):
        builder.set_header(field, 0)
    journal = parsed(builder.to_bytes())
    assert (journal.generation, journal.records, journal.slots) == (None, (), 0)


def test_a_journal_that_says_to_be_huge(builder: ExtentBuilder, tmp_path: Path) -> None:
    """A hole of a terabyte behind the file: only so many slots are looked at."""
    path = tmp_path / "x.vmdk"
    builder.write(path)
    behind = 1 << 24
    with path.open("r+b") as fh:
        fh.seek(0x70)
        fh.write(struct.pack("<2Q", behind, 1 << 31))
        fh.truncate((behind + (1 << 31)) * 512)
    file = EvidenceFile.open(path)
    journal = read_journal(file, read_header(file))
    file.close()
    assert (journal.slots, journal.records) == (MAX_SLOTS, ())


@given(st.binary(min_size=8, max_size=200), st.integers(0, 2**32))
def test_any_bytes_parse(data: bytes, seed: int) -> None:
    """Whatever is in the slots: records or none, and no error but ours."""
    image = bytearray(GOOD)
    rng = random.Random(seed)
    for at in range(0, len(data) - 8, 8):
        where = JOURNAL + rng.randrange(3) * SLOT + rng.randrange(40) * 8
        image[where : where + 8] = data[at : at + 8]
    try:
        journal = parsed(bytes(image))
    except SESparseError:
        return
    for record in journal.records:
        assert record.problem is not None or record.size == 512 * (1 + len(record.sectors))
        assert all(len(image) == 512 for image in record.sectors.values())


def _good() -> bytes:
    extent = ExtentBuilder(32768)
    extent.checkpoint()
    for grain in range(3):
        extent.allocate(grain)
        extent.commit()
    return extent.to_bytes()[: 12288 * 512]


GOOD = _good()
