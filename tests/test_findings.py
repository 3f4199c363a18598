"""Findings: each code, where it points, and that a disk full of them gives a bounded list."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import disks
import oracle
import pytest
import target_fixtures
from sesparse_builder import ChainBuilder, ExtentBuilder, descriptor, grain_data
from target_fixtures import FINDING_CASES, GRAINS, NEWEST, SECTORS, SIZE, UNKNOWN_STATE, small_chain

from dissect_sesparse import UnreadableError, open_chain
from dissect_sesparse.chain.reader import MAX_LISTED
from dissect_sesparse.extent.entry import State
from dissect_sesparse.findings.findings import MAX_EACH, Finding, findings, opening_findings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from dissect_sesparse.extent.entry import Run


example = target_fixtures.example_vm

EXTENT = "vm-000001-sesparse.vmdk"
CODES = {
    "cid-mismatch", "capacity-mismatch", "parent-relocated", "parent-name-clash", "parent-missing", "journal-dirty",
    "journal-replayed", "journal-torn", "truncated", "entry-invalid", "padding-nonzero", "backmap-mismatch",
    "bitmap-mismatch", "header-rebuilt", "tables-rebuilt", "host-memory", "orphan-link", "snapshot-list-mismatch",
    "unreadable",
}  # fmt: skip
"""The stable ones; more may come."""


def found(folder: Path, code: str) -> list[Finding]:
    build, options = FINDING_CASES[code]
    with open_chain(build(folder), **options) as chain:
        return list(findings(chain))


def short(found: list[Finding]) -> list[tuple[str, str, int, str]]:
    """Code, level, depth and file name."""
    return [(f.code, f.level, f.depth, getattr(f.source, "name", f.source)) for f in found]


def places(found: list[Finding]) -> list[tuple[int | None, int | None, int | None]]:
    return [(f.source_offset, f.offset, f.size) for f in found]


def test_none_on_a_good_disk(folder: Path) -> None:
    chain = small_chain(folder, deltas=3)
    for grain in (50, 51):
        chain.links[2].extent.unmap(grain, b"old")
    chain.links[3].extent.zero(60)
    with open_chain(chain.write()) as opened:
        opened.read(0, SIZE)
        assert list(findings(opened)) == []


def test_none_on_the_example(example: Path) -> None:
    with open_chain(example.parent / NEWEST) as chain:
        chain.read(0, chain.size)
        assert list(findings(chain)) == []


@pytest.mark.parametrize("code", FINDING_CASES)
def test_code(folder: Path, code: str) -> None:
    build, options = FINDING_CASES[code]
    with open_chain(build(folder), **options) as chain:
        if code == "unreadable":
            chain.read(0, SIZE)
        codes = {finding.code for finding in findings(chain)}
        assert code in codes
        assert codes <= CODES
        for finding in findings(chain):
            assert finding.level in ("info", "warning", "error")
            assert finding.message
            assert 0 <= finding.depth < len(chain.links)
        expected = {finding.code for finding in opening_findings(chain)}
        known_at_opening = {code} - {"entry-invalid", "unreadable", "truncated"}
        assert known_at_opening <= expected, "what is known at the opening is logged there"


def test_all_is_found_again(folder: Path) -> None:
    """Asking twice gives the same."""
    with open_chain(target_fixtures.entry_invalid(folder), unreadable="zero") as chain:
        chain.read(0, SIZE)
        assert list(findings(chain)) == list(findings(chain))


# Parents


def test_cid_mismatch(folder: Path) -> None:
    (finding,) = found(folder, "cid-mismatch")
    assert short([finding]) == [("cid-mismatch", "warning", 0, "vm-000001.vmdk")]
    assert "deadbeef" in finding.message
    assert ChainBuilder(folder, 8)._cid(0) in finding.message


def test_cid_mismatch_deeper(folder: Path) -> None:
    """It is a finding of the link whose parentCID is not met."""
    chain = small_chain(folder, deltas=3)
    path = chain.write()
    text = (folder / "vm-000001.vmdk").read_text().replace(f"\nCID={chain.links[1].cid}", "\nCID=deadbeef")
    (folder / "vm-000001.vmdk").write_bytes(text.encode())
    with open_chain(path) as opened:
        assert short(list(findings(opened))) == [("cid-mismatch", "warning", 1, "vm-000002.vmdk")]


def test_parent_relocated(folder: Path) -> None:
    (finding,) = found(folder, "parent-relocated")
    assert short([finding]) == [("parent-relocated", "warning", 0, "vm-000001.vmdk")]
    assert "/vmfs/volumes/5f0c1d7e/vm/vm.vmdk" in finding.message
    assert str(folder / "vm.vmdk") in finding.message


def test_parent_name_clash(folder: Path) -> None:
    """The parent is the one whose CID matches; the other file is named."""
    path = target_fixtures.parent_name_clash(folder)
    with open_chain(path) as chain:
        (finding,) = findings(chain)
        assert chain.links[1].path.parent.name == "template"
    assert short([finding]) == [("parent-name-clash", "warning", 0, "vm.vmdk")]
    assert finding.source == folder / "vm.vmdk"
    assert "01234567" in finding.message


def test_parent_missing(folder: Path) -> None:
    (finding,) = found(folder, "parent-missing")
    assert short([finding]) == [("parent-missing", "error", 0, "vm-000001.vmdk")]
    assert "vm.vmdk" in finding.message


def test_bare_extent(folder: Path) -> None:
    small_chain(folder).write()
    (folder / "vm-000001.vmdk").unlink()
    with open_chain(folder / EXTENT, unreadable="zero") as chain:
        (finding,) = findings(chain)
    assert short([finding]) == [("parent-missing", "error", 0, EXTENT)]


def test_parent_option_is_told(folder: Path) -> None:
    """A parent that the caller names is used although its CID does not match, and that is said."""
    path = target_fixtures.cid_mismatch(folder)
    (folder / "vm.vmdk").rename(folder / "moved.vmdk")
    with open_chain(path, parent=folder / "moved.vmdk") as chain:
        assert [finding.code for finding in findings(chain)] == ["cid-mismatch"]


# Sizes


def test_descriptor_larger_than_the_extent(folder: Path) -> None:
    """The disk is as large as the smaller of the two."""
    path = target_fixtures.capacity_mismatch(folder)
    with open_chain(path) as chain:
        assert chain.size == SIZE
        (finding,) = findings(chain)
    assert short([finding]) == [("capacity-mismatch", "warning", 0, "vm-000001.vmdk")]
    assert str(SIZE) in finding.message
    assert str(SIZE + 8192 * 512) in finding.message
    assert finding.size == 8192 * 512


def test_descriptor_smaller_than_the_extent(folder: Path) -> None:
    path = small_chain(folder).write()
    path.write_bytes(path.read_bytes().replace(f"RW {SECTORS} ".encode(), b"RW 32768 "))
    with open_chain(path) as chain:
        assert chain.size == 32768 * 512
        found = list(findings(chain))
    assert {finding.code for finding in found} == {"capacity-mismatch"}
    assert (0, "vm-000001.vmdk") in {(finding.depth, finding.source.name) for finding in found}


@pytest.mark.parametrize("sectors", [SECTORS - 2048, SECTORS + 2048])
def test_parent_of_another_size(folder: Path, sectors: int) -> None:
    """A disk that was grown after its snapshot, or copied together: reads right, and is told."""
    chain = small_chain(folder)
    path = chain.write()
    text = (folder / "vm.vmdk").read_text().replace(f"RW {SECTORS} ", f"RW {sectors} ")
    (folder / "vm.vmdk").write_bytes(text.encode())
    with (folder / "vm-flat.vmdk").open("r+b") as fh:
        fh.truncate(sectors * 512)
    with open_chain(path) as opened:
        assert opened.size == SIZE
        assert opened.read(0, 4096) == grain_data("base", 0)
        (finding,) = findings(opened)
    assert short([finding]) == [("capacity-mismatch", "warning", 1, "vm.vmdk")]
    assert finding.size == 2048 * 512


def test_first_of_two_extents_too_small(folder: Path) -> None:
    """The second stays in its place, what the first lacks is missing, and both are told."""
    for name, sectors in (("a", 8192), ("b", 16384)):
        extent = ExtentBuilder(sectors)
        extent.allocate(0, name.encode() * 4096)
        extent.write(folder / f"{name}-sesparse.vmdk")
    lines = ['RW 16384 SESPARSE "a-sesparse.vmdk"', 'RW 16384 SESPARSE "b-sesparse.vmdk"']
    (folder / "vm.vmdk").write_bytes(descriptor(lines, cid="00000001").encode())
    with open_chain(folder / "vm.vmdk") as chain:
        assert chain.size == 32768 * 512
        assert chain.read(16384 * 512, 4096) == b"b" * 4096
        with pytest.raises(UnreadableError):
            chain.read(8192 * 512, 1)
        (finding,) = (finding for finding in findings(chain) if finding.code == "capacity-mismatch")
    assert (finding.offset, finding.size) == (0, 8192 * 512)


# What is cut off


def test_truncated(folder: Path) -> None:
    """Half a grain, then two that are gone: two runs, and none is called corrupt."""
    with open_chain(target_fixtures.truncated(folder)) as chain:
        found = list(findings(chain))
        extent = chain.links[0].extents[0].extent
        end = extent.file.size
        grains = extent.metadata.grains_offset
        tables = extent.header.regions["grain_tables"].offset
    assert short(found) == [("truncated", "error", 0, EXTENT)] * 3
    assert places(found) == [
        (end, 100 * 4096 + 700, 4096 - 700),
        (tables + 200 * 8, 200 * 4096, 4096),
        (tables + 300 * 8, 300 * 4096, 4096),
    ]
    assert end == grains + 4096 + 700


def test_cut_in_the_tables(folder: Path) -> None:
    """Opens with ``unreadable=zero``: the missing regions are told, and the 16 MiB whose table is gone."""
    chain = small_chain(folder)
    extent = chain.links[-1].extent
    extent.allocate(4096, b"second table")
    path = chain.write()
    with (folder / EXTENT).open("r+b") as fh:
        fh.truncate(extent.entry_offset(4096))
    with open_chain(path, unreadable="zero") as opened:
        found = list(findings(opened))
    assert {(f.code, f.level, f.source.name) for f in found} == {("truncated", "error", EXTENT)}
    told = [re.search("grain_tables|free_bitmap|backmap", f.message) for f in found if f.offset is None]
    assert [match[0] for match in told] == ["grain_tables", "free_bitmap", "backmap"]
    (grain,) = (f for f in found if f.offset == 10 * 4096)
    assert grain.size == 4096
    (table,) = (f for f in found if f.offset == 4096 * 4096)
    assert table.size == SIZE - 4096 * 4096


def test_flat_extent_too_short(folder: Path) -> None:
    path = small_chain(folder).write()
    with (folder / "vm-flat.vmdk").open("r+b") as fh:
        fh.truncate(10 * 1024 * 1024 + 700)
    with open_chain(path) as chain:
        (finding,) = findings(chain)
    assert short([finding]) == [("truncated", "error", 1, "vm-flat.vmdk")]
    assert places([finding]) == [(10485760 + 700, 10485760 + 700, SIZE - 10485760 - 700)]


def test_flat_extent_that_starts_past_the_end(folder: Path) -> None:
    """Two extents in one file, which ends before the second begins."""
    links = [
        [disks.sparse(folder / "d-sesparse.vmdk", ExtentBuilder(2048))],
        [disks.flat(folder / "x-flat.vmdk", 1024), oracle.Flat(folder / "x-flat.vmdk", 1024, 4096)],
    ]
    with open_chain(disks.write_chain(folder, links)) as chain:
        (finding,) = findings(chain)
    assert places([finding]) == [(1024 * 512, 1024 * 512, 1024 * 512)]


# Corrupt entries


def test_entry_invalid(folder: Path) -> None:
    """Points to the first entry; entries beside each other are one."""
    (finding,) = found(folder, "entry-invalid")
    assert short([finding]) == [("entry-invalid", "error", 0, EXTENT)]
    assert places([finding]) == [(small_chain(folder).links[1].extent.tables_sector * 512 + 800, 100 * 4096, 8192)]
    assert "0x4000000000000000" in finding.message


def test_grain_outside_of_its_region(folder: Path) -> None:
    """Within a file that goes on: no cut, a wrong place."""
    chain = small_chain(folder)
    extent = chain.links[-1].extent
    extent.set_entry(100, 0x3 << 60 | (GRAINS & 0xFFF) << 48 | GRAINS >> 12)
    extent.patch(extent.grain_offset(GRAINS), bytes(8192))
    with open_chain(chain.write()) as opened:
        (finding,) = findings(opened)
    assert short([finding]) == [("entry-invalid", "error", 0, EXTENT)]


@pytest.mark.parametrize("value", [5, 0x2000000000000000, 0x1000000100000000, (1 << 64) - 1, 0x1000000000000020])
def test_directory_entry_invalid(folder: Path, value: int) -> None:
    """16 MiB cannot be had, one finding, at the directory's entry."""
    chain = small_chain(folder)
    chain.links[-1].extent.set_directory(0, value)
    with open_chain(chain.write()) as opened:
        (finding,) = findings(opened)
    assert short([finding]) == [("entry-invalid", "error", 0, EXTENT)]
    assert places([finding]) == [(4096 * 512, 0, 16 * 1024 * 1024)]


def test_entries_of_all_links(folder: Path) -> None:
    """Also where a newer link hides them: they tell about the file."""
    chain = small_chain(folder, deltas=2)
    chain.links[1].extent.set_entry(100, UNKNOWN_STATE)
    chain.links[2].extent.allocate(100, b"hides it")
    with open_chain(chain.write()) as opened:
        opened.read(0, SIZE)
        (finding,) = findings(opened)
    assert short([finding]) == [("entry-invalid", "error", 1, EXTENT)]


# Headers


def test_journal_dirty(folder: Path) -> None:
    (finding,) = found(folder, "journal-dirty")
    assert short([finding]) == [("journal-dirty", "warning", 0, EXTENT)]
    assert finding.source_offset == 0x218
    assert "replay_journal" in finding.message


def test_padding(folder: Path) -> None:
    found_ = found(folder, "padding-nonzero")
    assert short(found_) == [("padding-nonzero", "warning", 0, EXTENT)] * 2
    assert places(found_) == [(0x180, None, None), (0x3FF, None, None)]
    assert "0x7" in found_[0].message
    assert "const" in found_[0].message
    assert "0x8" in found_[1].message
    assert "volatile" in found_[1].message


def test_reserved1_of_newer_hosts_is_no_finding(folder: Path) -> None:
    chain = small_chain(folder)
    chain.links[-1].extent.reserved1 = 0x200
    with open_chain(chain.write()) as opened:
        assert list(findings(opened)) == []


@pytest.mark.parametrize(("field", "value", "basis"), [(1, 0x1000, "inferred"), (3, 0x200, "confirmed")])
def test_reserved_fields(folder: Path, field: int, value: int, basis: str) -> None:
    """They decide nothing, so the disk opens."""
    chain = small_chain(folder)
    chain.links[-1].extent.set_header(0x28 + 8 * field, value)
    with open_chain(chain.write()) as opened:
        (finding,) = findings(opened)
    assert short([finding]) == [("padding-nonzero", "warning", 0, EXTENT)]
    assert finding.source_offset == 0x28 + 8 * field
    assert f"reserved{field} holds {value:#x}, expected 0x0" in finding.message
    assert basis in finding.message


def test_padding_is_found_where_the_volatile_header_is_rebuilt(folder: Path) -> None:
    chain = small_chain(folder)
    extent = chain.links[-1].extent
    extent.set_header(0x40, 5)
    extent.set_header(0x200, 0)
    with open_chain(chain.write(), salvage="1") as opened:
        codes = [finding.code for finding in opening_findings(opened)]
    assert codes.count("header-rebuilt") >= 1
    assert codes.count("padding-nonzero") == 1


# What was read as zeros


def test_unreadable(folder: Path) -> None:
    """Only what a read has met, once, beside the entry that is to blame."""
    with open_chain(target_fixtures.entry_invalid(folder), unreadable="zero") as chain:
        assert [f.code for f in findings(chain)] == ["entry-invalid"]
        for _ in range(2):
            assert chain.read(99 * 4096, 4 * 4096) == bytes(4 * 4096)
        found = list(findings(chain))
    assert [f.code for f in found] == ["entry-invalid", "unreadable"]
    assert found[1].level == "error"
    assert found[1].source.name == EXTENT
    assert (found[1].offset, found[1].size) == (100 * 4096, 8192)


def test_unreadable_in_a_deeper_link(folder: Path) -> None:
    """It is a finding of the link that has the bytes."""
    path = small_chain(folder, deltas=2).write()
    with (folder / "vm-flat.vmdk").open("r+b") as fh:
        fh.truncate(0)
    with open_chain(path, unreadable="zero") as chain:
        chain.read(0, 4096)
        (finding,) = (f for f in findings(chain) if f.code == "unreadable")
    assert short([finding]) == [("unreadable", "error", 2, "vm-flat.vmdk")]


def test_unreadable_parent(folder: Path) -> None:
    with open_chain(target_fixtures.parent_missing(folder), unreadable="zero") as chain:
        chain.read(0, 4096)
        (finding,) = (f for f in findings(chain) if f.code == "unreadable")
    assert (finding.depth, finding.offset) == (0, 0)


# Bounded


def test_many_invalid_entries(folder: Path) -> None:
    """The first hundred, and one that counts the rest: nothing is left out without a word."""
    chain = small_chain(folder)
    grains = range(100, 100 + 2 * (MAX_EACH + 50), 2)
    for grain in grains:
        chain.links[-1].extent.set_entry(grain, UNKNOWN_STATE)
    with open_chain(chain.write()) as opened:
        found = list(findings(opened))
    assert {f.code for f in found} == {"entry-invalid"}
    assert [f.offset for f in found] == [*(grain * 4096 for grain in grains[:MAX_EACH]), None]
    assert "50 more" in found[-1].message
    assert found[-1].size == 50 * 4096


def test_many_unreadable_ranges(folder: Path) -> None:
    chain = small_chain(folder)
    grains = range(100, 100 + 2 * (MAX_LISTED + 50), 2)
    for grain in grains:
        chain.links[-1].extent.set_entry(grain, UNKNOWN_STATE)
    with open_chain(chain.write(), unreadable="zero") as opened:
        for _ in range(2):
            opened.read(0, SIZE)
        found = [f for f in findings(opened) if f.code == "unreadable"]
    assert [f.offset for f in found] == [*(grain * 4096 for grain in grains[:MAX_LISTED]), None]
    assert "50 more" in found[-1].message


def test_all_entries_invalid(folder: Path) -> None:
    """An encrypted table: one run, one finding."""
    chain = small_chain(folder)
    extent = chain.links[-1].extent
    extent.patch(extent.tables_sector * 512, b"\x77" * 32768)
    with open_chain(chain.write()) as opened:
        (finding,) = findings(opened)
    assert (finding.offset, finding.size) == (0, 16 * 1024 * 1024)


def test_messages_are_short(folder: Path) -> None:
    """A name of a megabyte in a descriptor does not become a message of a megabyte."""
    path = small_chain(folder).write()
    hint = "/" + "x" * 500_000 + "/vm.vmdk"
    path.write_bytes(path.read_bytes().replace(b'"vm.vmdk"', f'"{hint}"'.encode()))
    with open_chain(path) as chain:
        for finding in findings(chain):
            assert len(finding.message) < 4000


def test_tables_that_cannot_be_read(folder: Path) -> None:
    """A disk that is unplugged, an evidence file with a bad sector: said, and the next extent is looked at."""
    chain = small_chain(folder, deltas=2)
    chain.links[1].extent.set_entry(100, UNKNOWN_STATE)
    with open_chain(chain.write()) as opened:
        opened.links[0].extents[0].extent.file.close()
        first, second = findings(opened)
    assert short([first]) == [("unreadable", "error", 0, "vm-000002-sesparse.vmdk")]
    assert places([first]) == [(6144 * 512, 0, 16 << 20)], "the directory was read when the disk was opened"
    assert short([second]) == [("entry-invalid", "error", 1, EXTENT)]


@pytest.mark.parametrize("cut", [None, 40, 3])
def test_sound_tables_are_not_gone_through_entry_by_entry(tmp_path: Path, cut: int | None) -> None:
    """What is left to look at has all that cannot be had: the runs of the whole, less what is sound."""
    sectors = 12 * 32768 - 3
    extent, chance = ExtentBuilder(sectors), random.Random(1)
    for grain in range(0, sectors // 8, 977):
        extent.allocate(grain, grain_data("own", grain))
    for table in (2, 3, 7, 11):
        for _ in range(5):
            extent.set_entry(table * 4096 + chance.randrange(1000), chance.choice((0xF << 60, 0x3 << 60 | 0xFFFFFF)))
    extent.set_directory(5, 0x123)
    extent.write(path := tmp_path / "odd-sesparse.vmdk")
    if cut is not None:
        with path.open("r+b") as fh:
            fh.truncate(fh.seek(0, 2) - cut * 512)
    with open_chain(path, unreadable="zero") as chain:
        odd = chain.links[0].extents[0].extent

        def bad(run: Run) -> bool:
            place = run.place if run.state == State.ALLOCATED else None
            return run.state == State.INVALID or (place is not None and place + run.length > odd.file.size)

        def ends(runs: Iterable[Run]) -> list[tuple[State, int | None, int]]:
            return [(run.state, run.start if run.state == State.INVALID else None, run.end) for run in runs if bad(run)]

        ranges = list(odd.unsound(odd.size))
        assert ends(run for start, length in ranges for run in odd.runs(start, length)) == ends(odd.runs()) != []
        assert sum(length for _, length in ranges) < odd.size
