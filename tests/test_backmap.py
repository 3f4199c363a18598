"""Whose a place is, by the backmap; and which of two readings of its words is right."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from sesparse_builder import ExtentBuilder

from dissect_sesparse import open_chain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dissect_sesparse.extent.backmap import Backmap

SECTORS = 3 * 32768
"""Three grain tables."""


@contextmanager
def backmap_of(folder: Path, extent: ExtentBuilder) -> Iterator[Backmap]:
    extent.write(folder / "a-sesparse.vmdk")
    with open_chain(folder / "a-sesparse.vmdk", unreadable="zero") as chain:
        yield chain.links[0].sesparse_extents[0].backmap


@pytest.mark.parametrize(("tables", "reading"), [("by-slot", "table"), ("in-order", "table"), ("reversed", "index")])
def test_readings(tmp_path: Path, tables: str, reading: str) -> None:
    """The builder writes a table's index; where index and place in the directory are the same, either is right."""
    extent = ExtentBuilder(SECTORS, tables=tables)
    grains = [5, 4096 + 7, 2 * 4096 + 9]
    places = [extent.allocate(grain, b"x") for grain in grains]
    with backmap_of(tmp_path, extent) as backmap:
        assert backmap.reading == reading
        assert [backmap.owner(place) for place in places] == grains
        assert backmap.owner(99) is None, "unused"


def test_words_that_name_the_place_in_the_directory(tmp_path: Path) -> None:
    """The other reading: an extent may be found that has it."""
    extent = ExtentBuilder(SECTORS, tables="reversed")
    grains = [5, 4096 + 7, 2 * 4096 + 9]
    places = [extent.allocate(grain, b"x") for grain in grains]
    for grain, place in zip(grains, places):
        extent.set_backmap(place, 1 << 60 | grain % 4096 << 48 | grain // 4096)
    with backmap_of(tmp_path, extent) as backmap:
        assert backmap.reading == "table"
        assert [backmap.owner(place) for place in places] == grains


def test_nothing_tells(tmp_path: Path) -> None:
    """Without an allocated grain no reading can be held against the tables: only what both say counts."""
    extent = ExtentBuilder(SECTORS, tables="reversed")
    grains = [5, 4096 + 7, 2 * 4096 + 9]
    places = [extent.allocate(grain, b"x") for grain in grains]
    for grain in grains:
        extent.unmap(grain)
    with backmap_of(tmp_path, extent) as backmap:
        assert backmap.reading == "unknown"
        assert [backmap.owner(place) for place in places] == [None, 4096 + 7, None], "the middle table has its index"


def test_readings_that_contradict(tmp_path: Path) -> None:
    """One table speaks for the index, one for the place: then neither is believed."""
    extent = ExtentBuilder(SECTORS, tables="reversed")
    places = [extent.allocate(grain, b"x") for grain in (5, 2 * 4096 + 9)]
    extent.set_backmap(places[1], 1 << 60 | 9 << 48 | 2)
    with backmap_of(tmp_path, extent) as backmap:
        assert backmap.reading == "unknown"
        assert backmap.owner(places[0]) is None


@pytest.mark.parametrize("word", [0, 0x2 << 60, 0x1 << 60 | 3, 0x1 << 60 | (1 << 48) - 1, (1 << 64) - 1])
def test_words_that_name_nothing(tmp_path: Path, word: int) -> None:
    """Also a table that the disk does not have."""
    extent = ExtentBuilder(SECTORS)
    extent.allocate(0, b"x")
    extent.set_backmap(0, word)
    with backmap_of(tmp_path, extent) as backmap:
        assert backmap.owner(0) is None


def test_address_behind_the_disk(tmp_path: Path) -> None:
    extent = ExtentBuilder(SECTORS - 16)
    extent.allocate(0, b"x")
    extent.set_backmap(0, 1 << 60 | 4093 << 48 | 2)
    extent.set_backmap(1, 1 << 60 | 4094 << 48 | 2)
    extent.set_bitmap(1, True)
    with backmap_of(tmp_path, extent) as backmap:
        assert backmap.owner(0) == 2 * 4096 + 4093
        assert backmap.owner(1) is None


def test_behind_its_end(tmp_path: Path) -> None:
    """No words there, no error."""
    extent = ExtentBuilder(SECTORS)
    extent.allocate(0, b"x")
    with backmap_of(tmp_path, extent) as backmap:
        words = backmap.metadata.header.regions["backmap"].size // 8
        assert len(backmap.metadata.words(words - 2, 10)) == 2
        assert len(backmap.metadata.words(words + 5, 10)) == 0
        assert backmap.owner(words) is None


def test_file_that_ends_in_it(tmp_path: Path) -> None:
    extent = ExtentBuilder(SECTORS)
    extent.allocate(0, b"x", place=0)
    extent.allocate(1, b"x", place=1)
    extent.write(tmp_path / "a-sesparse.vmdk", truncate_to=extent.backmap_offset(1) + 4)
    with open_chain(tmp_path / "a-sesparse.vmdk", unreadable="zero") as chain:
        backmap = chain.links[0].sesparse_extents[0].backmap
        assert (backmap.owner(0), backmap.owner(1)) == (0, None)
