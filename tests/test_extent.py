"""Extents without tables: FLAT, VMFS, ZERO, and what is missing."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from disks import pattern

from dissect_sesparse.extent.base import Extent, FlatExtent, MissingExtent, ZeroExtent
from dissect_sesparse.extent.engine import find_runs
from dissect_sesparse.extent.entry import Run, State
from dissect_sesparse.extent.lane import split
from dissect_sesparse.source.errors import UnreadableError
from dissect_sesparse.source.file import EvidenceFile

if TYPE_CHECKING:
    from dissect_sesparse.extent.engine import Layer


def flat(file_sectors: int, sectors: int, start_sector: int = 0) -> FlatExtent:
    return FlatExtent(EvidenceFile(io.BytesIO(pattern("flat", file_sectors))), sectors * 512, start_sector)


def one_run(layer: Layer, lane: int) -> tuple[State, int | None]:
    """State and place of lanes that are all one run."""
    numbers, kinds, places = (array.tolist() for array in find_runs(layer.lanes(), lane // 512))
    assert numbers == [0]
    state, number, placed = split(kinds[0])
    assert number == 0
    return state, places[0] if placed else None


@pytest.mark.parametrize("start_sector", [0, 1, 2048])
def test_flat(start_sector: int) -> None:
    extent = flat(3000, 900, start_sector)
    assert list(extent.runs()) == [Run(0, 900 * 512, State.ALLOCATED, start_sector * 512)]
    assert list(extent.runs(1024, 512)) == [Run(1024, 512, State.ALLOCATED, start_sector * 512 + 1024)]
    assert extent.find(5000) == (State.ALLOCATED, start_sector * 512 + 5000)
    for lane in (512, 4096):
        assert one_run(extent.layer(8192, 20, lane), lane) == (State.ALLOCATED, start_sector * 512 + 8192)
    assert extent.missing == 0
    assert extent.next_used(700) == 700
    data = pattern("flat", 3000)
    assert extent.read(start_sector * 512, 1000) == data[start_sector * 512 :][:1000]


@pytest.mark.parametrize(
    ("file_sectors", "sectors", "start", "missing"),
    [
        (100, 100, 0, 0),
        (100, 90, 10, 0),
        (100, 91, 10, 1),
        (100, 101, 0, 1),
        (0, 50, 0, 50),
        (10, 50, 20, 50),
        (200, 10, 0, 0),
    ],
)
def test_flat_file_of_another_size(file_sectors: int, sectors: int, start: int, missing: int) -> None:
    extent = flat(file_sectors, sectors, start)
    assert extent.missing == missing * 512
    assert extent.size == sectors * 512, "the descriptor says how large it is"
    if missing:
        with pytest.raises(UnreadableError):
            extent.read(start * 512, sectors * 512)
        have = max(0, sectors - missing) * 512
        assert extent.read_some(start * 512, sectors * 512) == pattern("flat", file_sectors)[start * 512 :][:have]


def test_flat_file_that_ends_within_a_sector() -> None:
    extent = FlatExtent(EvidenceFile(io.BytesIO(b"x" * 1000)), 1024)
    assert extent.missing == 24
    assert extent.read(0, 512) == b"x" * 512
    with pytest.raises(UnreadableError):
        extent.read(512, 512)


def test_zero() -> None:
    extent = ZeroExtent(10 * 512)
    assert list(extent.runs()) == [Run(0, 5120, State.ZERO, None)]
    assert extent.find(511) == (State.ZERO, None)
    for lane in (512, 4096):
        assert one_run(extent.layer(0, 2, lane), lane) == (State.ZERO, None)
    assert extent.label == "ZERO"


def test_missing() -> None:
    extent = MissingExtent(10 * 512, "it was never copied")
    assert list(extent.runs()) == [Run(0, 5120, State.INVALID, None)]
    assert one_run(extent.layer(0, 2, 4096), 4096) == (State.INVALID, None)
    with pytest.raises(UnreadableError, match="never copied"):
        extent.find(0)
    assert "never copied" in str(extent.explain(700))
    assert extent.read_some(0, 100) == b""


@pytest.mark.parametrize(
    "extent", [flat(10, 10), ZeroExtent(5120), MissingExtent(5120, "x")], ids=["FLAT", "ZERO", "MISSING"]
)
def test_they_say_something_about_every_byte(extent: Extent) -> None:
    assert not extent.sparse
    assert list(extent.runs(0, 0)) == []
    extent.close()
