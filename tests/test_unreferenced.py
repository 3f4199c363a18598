"""Grains that no entry names, held against the history of each place."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from history import Loose, random_history
from sesparse_builder import ChainBuilder, ExtentBuilder, grain_data

from dissect_sesparse import open_chain
from dissect_sesparse.trimmed.unmapped import unmapped
from dissect_sesparse.trimmed.unreferenced import SkippedGrains, UnreferencedRun, unreferenced

if TYPE_CHECKING:
    from pathlib import Path

SECTORS = 40960


def grains_of(run: UnreferencedRun) -> list[Loose]:
    data = run.read()
    assert len(data) == run.size
    return [
        Loose(
            run.link.depth,
            (run.place + start - run.extent.metadata.grains_offset) // 4096,
            None if run.offset is None else (run.offset + start) // 4096,
            data[start : start + 4096],
        )
        for start in range(0, run.size, 4096)
    ]


@pytest.mark.parametrize("seed", range(8))
def test_random_histories(tmp_path: Path, seed: int) -> None:
    """Nothing missing, nothing invented; and no place is both unmapped and unreferenced."""
    recorded = random_history(tmp_path / "vm", random.Random(1000 + seed), seed % 3 + 1)
    with open_chain(recorded.path) as chain:
        runs = list(unreferenced(chain))
        found = [grain for run in runs for grain in grains_of(run)]
        places = {
            (run.link.depth, (run.place + start - run.extent.metadata.grains_offset) // 4096)
            for run in unmapped(chain, contents=False)
            if run.place is not None
            for start in range(0, run.size, 4096)
        }
    assert found == recorded.loose
    assert not places & {grain[:2] for grain in found}
    assert {run.state for run in runs} <= {"backmap", "free"}
    assert all((run.state == "free") == (run.offset is None) for run in runs)


def test_bare_entry_with_its_place(folder: Path) -> None:
    """The bytes at place 0 are the bare entry's that the backmap names: unmapped, not unreferenced."""
    chain = ChainBuilder(folder, SECTORS)
    extent = chain.add_delta()
    extent.unmap(5, b"at place 0", place=0)
    extent.allocate(9, b"elsewhere")
    with open_chain(chain.write()) as opened:
        assert [(run.offset, run.state) for run in unmapped(opened)] == [(5 * 4096, "present")]
        assert list(unreferenced(opened)) == []


def test_bare_entries_without_backmap(folder: Path) -> None:
    """Where nothing tells whose place 0 was, its bytes are nobody's, and the entries have none."""
    chain = ChainBuilder(folder, SECTORS)
    extent = chain.add_delta()
    extent.unmap(0, b"at place 0", place=0)
    extent.unmap(1, b"at place 1", place=1)  # goes on as the bare entry does
    extent.set_backmap(0, 0)
    with open_chain(chain.write()) as opened:
        assert [run.state for run in unmapped(opened)] == ["ambiguous", "present"]
        assert [run.place for run in unreferenced(opened)] == [extent.grain_offset(0)]


def test_whole_table_of_unmapped_entries_from_place_0(folder: Path) -> None:
    """A table whose entries name all places in order, the first of which is bare."""
    chain = ChainBuilder(folder, SECTORS)
    extent = chain.add_delta()
    for grain in range(4096):
        extent.unmap(grain, b"x" if grain < 2 else None, place=grain)
    extent.set_backmap(0, 0)
    with open_chain(chain.write()) as opened:
        assert [(run.place, run.size) for run in unreferenced(opened)] == [(extent.grain_offset(0), 4096)]


def test_backmap_that_names_an_address_behind_the_disk(folder: Path) -> None:
    chain = ChainBuilder(folder, SECTORS - 1024)
    extent = chain.add_delta()
    extent.allocate(0, b"data")
    extent.allocate(4990, b"freed", place=8)
    extent.free(4990)
    for grain in (4991, 4992):  # the last one of the disk, and one behind it
        extent.allocate(4991, b"data")
        extent.set_backmap(8, 1 << 60 | (grain % 4096) << 48 | 1)
        with open_chain(chain.write()) as opened:
            (run,) = unreferenced(opened)
            assert run.offset == (4991 * 4096 if grain == 4991 else None)


def test_end_mark_and_zeros(folder: Path) -> None:
    """The 0xff at the end of the file is the host's. Zeros are counted."""
    chain = ChainBuilder(folder, SECTORS)
    extent = chain.add_delta()
    extent.allocate(0, b"data")
    extent.allocate(1, b"\xff" * 4096)
    extent.allocate(2, bytes(4096))
    extent.free(1)
    extent.free(2)
    counts = SkippedGrains()
    with open_chain(chain.write()) as opened:
        (run,) = unreferenced(opened, counts=counts)
    assert run.place == extent.grain_offset(1)
    assert counts == SkippedGrains(4096 - 2, 0)


def test_lone_extent(tmp_path: Path) -> None:
    """Without a descriptor."""
    extent = ExtentBuilder(SECTORS)
    extent.allocate(0, b"data")
    extent.allocate(77, grain_data("freed", 77))
    extent.free(77, keep_backmap=True)
    extent.write(tmp_path / "a-sesparse.vmdk")
    with open_chain(tmp_path / "a-sesparse.vmdk", unreadable="zero") as opened:
        (run,) = unreferenced(opened)
        assert (run.offset, run.state, run.read()) == (77 * 4096, "backmap", grain_data("freed", 77))
        assert run.content is not None
