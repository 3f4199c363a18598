"""Tables, free bitmap, backmap, headers and unused bytes held against one another: nothing false, nothing missed."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import disks
import pytest
from sesparse_builder import ChainBuilder, ExtentBuilder, grain_data

from dissect_sesparse import UnreadableError, open_chain
from dissect_sesparse.findings.findings import Finding, findings, opening_findings
from dissect_sesparse.findings.tally import CONFIRMED, INFERRED, MAX_EACH, Odd, Tally

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECTORS = 40960
NAME = "vm-000001-sesparse.vmdk"
BLOCK = 16 * 1024 * 1024


def written(folder: Path, extent: ExtentBuilder) -> Path:
    """A chain of a base and one extent."""
    chain = ChainBuilder(folder, extent.capacity_sectors)
    chain.add_delta()
    chain.links[-1].extent = extent
    return chain.write()


def found(path: Path, **options: str) -> list[Finding]:
    with open_chain(path, **options) as chain:
        return [finding for finding in findings(chain) if finding.code != "parent-missing"]


def audited(folder: Path, extent: ExtentBuilder) -> list[Finding]:
    return found(written(folder, extent))


def told(found: list[Finding]) -> list[tuple]:
    return [(f.code, f.level, f.source_offset, f.offset, f.size) for f in found]


def healthy(tables: str = "in-order") -> ExtentBuilder:
    """Grains 5 to 9 at places 0 to 4, grain 4100, of the second table, at place 5; grain 20 trimmed at place 6."""
    extent = ExtentBuilder(SECTORS, tables=tables)
    for grain in (5, 6, 7, 8, 9, 4100):
        extent.allocate(grain, grain_data("delta", grain))
    extent.unmap(20, b"old")
    return extent


# No false alarms


@pytest.mark.parametrize("seed", range(12))
def test_none_on_random_extents(folder: Path, seed: int) -> None:
    """All states, three orders of tables, places in any order, bits of trimmed places kept or cleared."""
    rng = random.Random(seed)
    extent = disks.random_extent(rng, "x", rng.choice((8192, 32768, SECTORS, SECTORS + 1, 70000)))
    extent.unmap_clears_bitmap = bool(seed % 2)
    assert audited(folder, extent) == []


@pytest.mark.parametrize("tables", ["in-order", "reversed", "by-slot"])
@pytest.mark.parametrize("clears", [True, False])
def test_none_on_trimmed_places(folder: Path, tables: str, clears: bool) -> None:
    """Whether trimming clears the bit has not been seen: neither is an error. Nor is the bit of a place used again."""
    extent = ExtentBuilder(SECTORS, tables=tables, unmap_clears_bitmap=clears)
    extent.unmap(4099, b"at place 0", place=0)
    for grain in range(100, 140):
        extent.unmap(grain, b"old")
    extent.allocate(4097, b"new", place=7)  # whose trimmed grain still names it
    extent.zero(100)
    assert audited(folder, extent) == []


def test_none_on_what_no_host_wrote(folder: Path) -> None:
    """Without a bitmap, a backmap and a journal header there is nothing to hold against the tables."""
    extent = healthy()
    start, end = extent.bitmap_sector * 512, extent.grains_sector * 512
    extent.patch(start, bytes(end - start))
    extent.patch(1024, bytes(1024))
    extent.set_header(0x208, 99)
    assert audited(folder, extent) == []


def test_real_extent(real_path: Path) -> None:
    """What an ESXi host wrote has nothing odd but a line of its log, at byte 0x660."""
    (text,) = found(real_path, unreadable="zero")
    assert told([text]) == [("host-memory", "info", 0x660, None, 159)]
    assert "2021-08-27T12:16:13.215Z" in text.message
    assert "opID=esxui-8a96-b8b0 user=root" in text.message
    assert text.message.endswith(INFERRED)


# The real extent, changed: its layout is not this project's


def change(real_path: Path, folder: Path, *changes: tuple[int, bytes]) -> list[Finding]:
    """The findings of a changed copy, but for the text."""
    path = folder / "real-sesparse.vmdk"
    data = bytearray(real_path.read_bytes())
    for offset, new in changes:
        data[offset : offset + len(new)] = new
    path.write_bytes(data)
    return [finding for finding in found(path, unreadable="zero") if finding.code != "host-memory"]


def test_real_extent_with_one_bit_cleared(real_path: Path, folder: Path) -> None:
    (finding,) = change(real_path, folder, (0x400000 + 3, b"\xfb"))
    assert told([finding]) == [("bitmap-mismatch", "warning", 0x400003, 26 * 4096, 4096)]
    assert "has 0 for place 26, expected 1: the entry of grain 26 names it" in finding.message
    assert finding.message.endswith(CONFIRMED)


def test_real_extent_with_its_bitmap_zeroed(real_path: Path, folder: Path) -> None:
    (finding,) = change(real_path, folder, (0x400000, bytes(512)))
    assert told([finding]) == [("bitmap-mismatch", "warning", 0x400000, None, None)]


def test_real_extent_with_its_backmap_zeroed(real_path: Path, folder: Path) -> None:
    (finding,) = change(real_path, folder, (0x500000, bytes(32768)))
    assert told([finding]) == [("backmap-mismatch", "warning", 0x500000, None, None)]


def test_real_extent_with_half_its_backmap_zeroed(real_path: Path, folder: Path) -> None:
    (finding,) = change(real_path, folder, (0x500000, bytes(16384)))
    assert told([finding]) == [("backmap-mismatch", "warning", 0x500000, 0, 2048 * 4096)]


def test_real_extent_with_two_words_exchanged(real_path: Path, folder: Path) -> None:
    first, second = (struct.pack("<Q", 1 << 60 | grain << 48) for grain in (7, 9))
    changed = change(real_path, folder, (0x500000 + 9 * 8, first), (0x500000 + 7 * 8, second))
    assert told(changed) == [
        ("backmap-mismatch", "warning", 0x500000 + 7 * 8, 9 * 4096, 4096),
        ("backmap-mismatch", "warning", 0x500000 + 9 * 8, 7 * 4096, 4096),
    ]


def test_real_extent_with_a_grain_forgotten(real_path: Path, folder: Path) -> None:
    """Its entry is 0: bitmap and backmap still know it."""
    changed = change(real_path, folder, (0x300000 + 11 * 8, bytes(8)))
    assert told(changed) == [
        ("bitmap-mismatch", "warning", 0x400001, None, 4096),
        ("backmap-mismatch", "warning", 0x500000 + 11 * 8, 11 * 4096, 4096),
    ]


def test_real_extent_cut_off(real_path: Path, folder: Path) -> None:
    """Without the 4 KiB of 0xff no grain is missing; the size tells."""
    path = folder / "real-sesparse.vmdk"
    path.write_bytes(real_path.read_bytes()[:-4096])
    (finding,) = (f for f in found(path, unreadable="zero") if f.code != "host-memory")
    assert told([finding]) == [("truncated", "info", 0x1600000, None, 4096)]


@pytest.mark.parametrize(("region", "what"), [(0x200000, "grain_directory"), (0x300000, "grain_tables")])
def test_real_extent_wiped(real_path: Path, folder: Path, region: int, what: str) -> None:
    """An older state would be shown, and no read would fail: so it is said before anything is read."""
    path = folder / "real-sesparse.vmdk"
    data = bytearray(real_path.read_bytes())
    data[region : region + (1 << 20)] = bytes(1 << 20)
    path.write_bytes(data)
    with open_chain(path, unreadable="zero") as chain:
        (finding,) = (f for f in opening_findings(chain) if f.code != "parent-missing")
    assert told([finding]) == [("bitmap-mismatch", "error", region, 0, 512 << 20)]
    assert f"all entries of the {what} are 0" in finding.message
    assert "salvage=1" in finding.message
    parent = folder / "base.vmdk"
    parent.write_text(
        "# Disk DescriptorFile\nversion=1\nCID=0000ba5e\nparentCID=ffffffff\nRW 1048576 ZERO\n", encoding="utf-8"
    )
    with open_chain(path, parent=parent) as chain:
        for offset in (0, 5 << 20, 400 << 20):
            with pytest.raises(UnreadableError, match=f"all entries of the {what} are 0.*salvage=1"):
                chain.read(offset, 512)


@pytest.mark.parametrize("trimmed", [False, True])
def test_not_wiped(folder: Path, trimmed: bool) -> None:
    """A delta that was just made, and one in which all is trimmed."""
    extent = ExtentBuilder(SECTORS)
    if trimmed:
        for grain in range(20):
            extent.unmap(grain, b"old")
    assert audited(folder, extent) == []


# Each mismatch


def test_place_named_twice(folder: Path) -> None:
    """Grains 5 to 7 and 30 to 32 have places 0 to 2. The first are told by the backmap too: it names the others."""
    extent = healthy()
    for number in range(3):
        extent.set_entry(30 + number, 0x3 << 60 | number << 48)
    (finding,) = audited(folder, extent)
    assert told([finding]) == [("place-shared", "warning", extent.grain_offset(0), 30 * 4096, 3 * 4096)]
    assert "the entries of grains 30 to 32 name places 0 to 2" in finding.message


def test_table_named_twice(folder: Path) -> None:
    extent = healthy()
    extent.set_directory(1, 0x10000000_00000000)
    table, *others = audited(folder, extent)
    assert told([table]) == [("table-shared", "warning", 4096 * 512 + 8, BLOCK, BLOCK)]
    assert "grain directory entry 1 names table 0, as an earlier entry does" in table.message
    assert {finding.code for finding in others} == {"place-shared"}, "what the lost table named is not known"


@pytest.mark.parametrize("tables", ["in-order", "reversed"])
def test_bits(folder: Path, tables: str) -> None:
    extent = healthy(tables)
    extent.set_bitmap(2, False)
    extent.set_bitmap(5, False)
    extent.set_bitmap(1000, True)
    extent.set_bitmap(1001, True)
    start = extent.bitmap_sector * 512
    assert sorted(told(audited(folder, extent)), key=repr) == sorted(
        [
            ("bitmap-mismatch", "warning", start, 7 * 4096, 4096),
            ("bitmap-mismatch", "warning", start, 4100 * 4096, 4096),
            ("bitmap-mismatch", "warning", start + 125, None, 2 * 4096),
        ],
        key=repr,
    )


@pytest.mark.parametrize("tables", ["in-order", "reversed"])
def test_words(folder: Path, tables: str) -> None:
    """A word is 0, another names a grain that is elsewhere, another has no form."""
    extent = healthy(tables)
    extent.set_backmap(1, 0)
    extent.set_backmap(3, 1 << 60 | 9 << 48 | extent.table_index(0))
    extent.set_backmap(2000, 0x77)
    zero, elsewhere, odd = audited(folder, extent)
    assert told([zero, elsewhere, odd]) == [
        ("backmap-mismatch", "warning", extent.backmap_offset(1), 6 * 4096, 4096),
        ("backmap-mismatch", "warning", extent.backmap_offset(3), 9 * 4096, 4096),
        ("backmap-mismatch", "warning", extent.backmap_offset(2000), None, 4096),
    ]
    assert f"expected {1 << 60 | 6 << 48 | extent.table_index(0):#x}" in zero.message
    assert "allocated, place 4, expected one that names the place" in elsewhere.message
    assert "0x77" in odd.message
    assert all(finding.message.endswith(INFERRED) for finding in (zero, elsewhere, odd))


def test_freed_grain_whose_word_is_left(folder: Path) -> None:
    extent = healthy()
    extent.free(7, keep_backmap=True)
    (finding,) = audited(folder, extent)
    assert told([finding]) == [("backmap-mismatch", "warning", extent.backmap_offset(2), 7 * 4096, 4096)]
    assert "unallocated" in finding.message


@pytest.mark.parametrize("damage", ["table", "directory"])
def test_entries_that_cannot_be_had_blame_no_copy(folder: Path, damage: str) -> None:
    """What an unreadable table may name is not held against the bitmap and the backmap."""
    extent = healthy()
    if damage == "table":
        extent.patch(extent.tables_sector * 512, b"\x77" * 32768)
    else:
        extent.set_directory(0, 0x77)
    assert {finding.code for finding in audited(folder, extent)} == {"entry-invalid"}


def test_bit_of_a_known_grain_beside_damage(folder: Path) -> None:
    """But where the backmap tells whose a place is, and that entry is sound, it is told."""
    extent = healthy()
    extent.set_entry(100, 0x5 << 60)
    extent.set_bitmap(6, True)  # trimmed: may be 1
    extent.set_entry(5, 0)
    invalid, bit, word = audited(folder, extent)
    assert invalid.code == "entry-invalid"
    assert told([bit, word]) == [
        ("bitmap-mismatch", "warning", extent.bitmap_sector * 512, None, 4096),
        ("backmap-mismatch", "warning", extent.backmap_offset(0), 5 * 4096, 4096),
    ]


def test_second_extent_of_a_disk(folder: Path) -> None:
    """Offsets are the disk's, not the extent's."""
    from sesparse_builder import descriptor

    lines = []
    for name in ("a", "b"):
        extent = ExtentBuilder(16384)
        extent.allocate(3, b"data")
        if name == "b":
            extent.set_bitmap(0, False)
            extent.set_bitmap(9, True)  # an all-zero one is not held against the tables place by place
        extent.write(folder / f"{name}-sesparse.vmdk")
        lines.append(f'RW 16384 SESPARSE "{name}-sesparse.vmdk"')
    (folder / "vm.vmdk").write_bytes(descriptor(lines, cid="00000001").encode())
    first, second = found(folder / "vm.vmdk")
    assert (first.offset, first.source) == (16384 * 512 + 3 * 4096, folder / "b-sesparse.vmdk")
    assert second.offset is None


# Headers and sizes


@pytest.mark.parametrize(
    ("offset", "value", "code", "level", "says"),
    [
        (0x400, 0xBAD, "journal-header-mismatch", "warning", "journal_header.magic is 0xbad, expected 0xdeafc0de"),
        (0x408, 0x99, "journal-header-mismatch", "warning", "next transaction is 0x99, expected 0x4"),
        (0x418, 0x7, "padding-nonzero", "info", "0x7 at its byte 0x18, expected 0"),
        (0x208, 0x3, "size-mismatch", "info", "free_gt_number is 0x3, expected at most the 0x2 blocks"),
        (0x208, 0x2, "truncated", "warning", "free_gt_number is 0x2, so that"),
    ],
)
def test_headers(folder: Path, offset: int, value: int, code: str, level: str, says: str) -> None:
    extent = healthy()
    extent.set_header(offset, value)
    (finding,) = audited(folder, extent)
    assert (finding.code, finding.level) == (code, level)
    assert says in finding.message
    assert finding.message.endswith(INFERRED)
    if code != "truncated":
        assert finding.source_offset == offset


def test_journal_header_zeroed(folder: Path) -> None:
    extent = healthy()
    extent.patch(1024, bytes(1024))
    (finding,) = audited(folder, extent)
    assert told([finding]) == [("journal-header-mismatch", "warning", 1024, None, 1024)]


def test_journal_header_of_a_dirty_extent(folder: Path) -> None:
    """Between two writes of a host that lost power the numbers may differ."""
    extent = healthy()
    extent.set_dirty()
    extent.set_header(0x408, 5)
    levels = {finding.level for finding in audited(folder, extent) if finding.code == "journal-header-mismatch"}
    assert levels == {"info"}


def test_end_mark(folder: Path) -> None:
    extent = healthy()
    extent.patch(extent.file_size - 100, b"\0")
    (finding,) = audited(folder, extent)
    assert told([finding]) == [("end-mark-mismatch", "info", extent.file_size - 4096, None, 4096)]


# Unused bytes, and text in them


AREAS: dict[str, Callable[[ExtentBuilder], int]] = {
    "gap before the journal": lambda extent: 0x800,
    "rest of the grain directory": lambda extent: 4096 * 512 + 2 * 8,
    "rest of the grain tables": lambda extent: extent.tables_sector * 512 + 2 * 32768,
    "rest of the free bitmap": lambda extent: extent.bitmap_sector * 512 + 2 * 512,
    "rest of the backmap": lambda extent: extent.backmap_sector * 512 + 2 * 32768 + 800,
}


@pytest.mark.parametrize("area", AREAS)
def test_unused_bytes(folder: Path, area: str) -> None:
    extent = healthy()
    offset = AREAS[area](extent)
    extent.patch(offset, b"\x05\0\x06")
    (finding,) = audited(folder, extent)
    assert told([finding]) == [("padding-nonzero", "info", offset, None, None)]
    assert f"2 bytes of the {area} are not zero, the first is 0x5" in finding.message


LINE = b"2024-03-14T21:30:00Z info hostd[1] [opID=esxui-1 user=CORP\\eve] x"


@pytest.mark.parametrize("offset", [0xE0, 0x240, 0x420, 0x600, 0x900, 0x100000 + 90 * 512])
def test_text(folder: Path, offset: int) -> None:
    """In each place where a host's memory may leak to."""
    extent = healthy()
    extent.patch(offset, b"\0" + LINE + b"\0")
    (finding,) = (f for f in audited(folder, extent) if f.code == "host-memory")
    assert told([finding]) == [("host-memory", "info", offset + 1, None, len(LINE))]
    assert "user=CORP" in finding.message


def test_text_is_bounded_and_harmless(folder: Path) -> None:
    """A megabyte of text gives a short message; what a terminal would obey is cut out."""
    extent = healthy()
    extent.patch(0x900, b"ab cd ef gh ij " * 30000)
    extent.patch(0x440, b"\x1b]0;owned by evil\x07\x1b[2J rest of the line\n")
    texts = [finding.message for finding in audited(folder, extent) if finding.code == "host-memory"]
    assert len(texts) == 3
    assert all(len(message) < 700 and message.isprintable() for message in texts)
    assert any("449600 characters more" in message for message in texts)


def test_what_is_no_text(folder: Path) -> None:
    """Bits and entries are printable by chance."""
    extent = healthy()
    for slot in range(40):
        bitmap = bytes(random.Random(slot).choice(b"\x55\x77\x33") for _ in range(1)) * 512
        extent.add_journal_record(4 + slot, {extent.bitmap_sector: bitmap})
    extent.patch(0x600, b"short text")
    assert audited(folder, extent) == []


# Bounded


def test_tally() -> None:
    tally = Tally(2)
    odds = [Odd("code", str(number), number, None, 10) for number in range(5)]
    listed = [o for odd in odds[:1] for o in tally.report("kind", [10], lambda _, odd=odd: odd)]
    listed += tally.report("kind", [10] * 4, lambda number: odds[1:][number])
    assert listed == odds[:2]
    assert list(tally.rest()) == [
        Odd("code", "3 more ranges in this extent, not listed: kind", None, None, 30),
    ]


MILLION = """
tables = int(sys.argv[3])
extent = sesparse_builder.ExtentBuilder(tables * 32768)
extent.set_directory(0, 0x10000000_00000000)
extent._taken.add(tables * 4096 - 1)
path = Path(sys.argv[1]) / "million-sesparse.vmdk"
extent.write(path)
entries = [what << 60 | grain << 48 | block for block in range(tables) for grain in range(4096) for what in (3,)]
words = [1 << 60 | entry & ~(0xF << 60) for entry in entries]
bits = b"\\xff" * (tables * 512)
what = sys.argv[2]
if what == "bits":
    bits = b"\\x55" * (tables * 512)
if what == "words":
    words = [word ^ (1 << 55) for word in words]
if what == "entries":
    entries = [0 if number % 2 else entry for number, entry in enumerate(entries)]
with path.open("r+b") as fh:
    for sector, data in ((4096, [1 << 60 | table for table in range(tables)]), (extent.tables_sector, entries),
                         (extent.backmap_sector, words)):
        fh.seek(sector * 512)
        fh.write(struct.pack(f"<{len(data)}Q", *data))
    fh.seek(extent.bitmap_sector * 512)
    fh.write(bits)
del entries, words
from dissect_sesparse.findings.findings import findings
with within(50_000_000), dissect_sesparse.open_chain(path, unreadable="zero") as chain:
    found = [finding for finding in findings(chain) if finding.code != "parent-missing"]
for finding in found:
    if " more ranges" in finding.message:
        print(finding.code, finding.message.split()[0])
print(len(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "tables", "expected"),
    [
        ("bits", 256, ["bitmap-mismatch 524188", "101"]),
        ("words", 256, ["backmap-mismatch 1048476", "101"]),
        ("entries", 64, ["bitmap-mismatch 130972", "backmap-mismatch 130972", "202"]),
    ],
)
def test_a_million(tmp_path: Path, limited: Callable[..., str], what: str, tables: int, expected: list[str]) -> None:
    """Half a million bits, a million words: the first hundred and a count, in seconds and in little memory."""
    assert MAX_EACH == 100
    assert limited(MILLION, tmp_path, what, tables).splitlines() == expected
