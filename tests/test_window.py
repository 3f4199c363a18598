"""Pieces of the disk: how small a lane has to be, which extents have a part, what is remembered."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import oracle
import pytest
from disks import flat, random_chain, random_extent, sparse, write_chain
from sesparse_builder import ExtentBuilder

from dissect_sesparse import Run, State, open_chain
from dissect_sesparse.chain.window import Resolver, lane_size

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("sizes", "lane"),
    [
        ([(4096,), (4096,)], 4096),
        ([(4095,), (4095,)], 4096),  # only the disk's own end is within a grain
        ([(4096,), (2048, 2048)], 4096),
        ([(4096,), (2047, 2049)], 512),
        ([(4096,), (1,)], 512),  # a parent that ends within a grain
        ([(4096,), (8,)], 4096),
        ([(8,), (4095,)], 4096),  # it ends behind the disk
        ([(8,), (7, 4089)], 512),
    ],
)
def test_lane_size(folder: Path, sizes: list[tuple[int, ...]], lane: int) -> None:
    links = [
        [
            sparse(folder / f"l{depth}-{n}.vmdk", ExtentBuilder(sectors))
            if depth == 0
            else flat(folder / f"l{depth}-{n}.vmdk", sectors)
            for n, sectors in enumerate(link)
        ]
        for depth, link in enumerate(sizes)
    ]
    with open_chain(write_chain(folder, links)) as chain:
        assert lane_size(chain.links, chain.size) == lane


def resolver_of(folder: Path, links: list) -> tuple[Resolver, object]:
    chain = open_chain(write_chain(folder, links))
    return Resolver([link.extents for link in chain.links], chain.size, lane_size(chain.links, chain.size)), chain


def test_a_window_is_what_a_table_covers(folder: Path) -> None:
    links = random_chain(folder, random.Random(1), 2, 40000)
    resolver, chain = resolver_of(folder, links)
    for offset in (0, 1, (16 << 20) - 1):
        window = resolver.resolve(offset)
        assert (window.start, window.end) == (0, 16 << 20)
    window = resolver.resolve(16 << 20)
    assert (window.start, window.end) == (16 << 20, 40000 * 512)
    chain.close()


@pytest.mark.slow
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("sectors", [40000, 40001])
def test_runs_tile_the_window(folder: Path, keep: bool, sectors: int) -> None:
    links = [
        [sparse(folder / "l0.vmdk", random_extent(random.Random(2), "x", sectors))],
        [flat(folder / "f1.vmdk", 10_007), flat(folder / "f2.vmdk", sectors - 10_007)],
    ]
    resolver, chain = resolver_of(folder, links)
    expected = oracle.disk(links)
    offset = 0
    while offset < chain.size:
        window = resolver.resolve(offset, keep_unmapped=keep)
        position = window.start
        for run in window.runs():
            assert run.start == position
            sector = expected[run.start // 512]
            assert run.state == sector.state
            assert run.place == (sector.place if keep or sector.state != State.UNMAPPED else None)
            position = run.end
        assert position == window.end
        offset = window.end
    chain.close()


def test_parts_of_a_window(folder: Path) -> None:
    links = random_chain(folder, random.Random(3), 3, 32768)
    resolver, chain = resolver_of(folder, links)
    window = resolver.resolve(0)
    whole = list(window.runs())
    for start, end in (
        (0, 1),
        (5 * 4096, 9 * 4096),
        (100 * 4096 + 7, 101 * 4096),
        (4095 * 4096, 4096 * 4096),
        (0, 1 << 24),
    ):
        first, last = window.find(start, end)
        assert list(window.runs(first, last)) == [run for run in whole if run.start < end and run.end > start]
    chain.close()


def test_overlapping(folder: Path) -> None:
    links = [
        [oracle.Zero(10), flat(folder / "a.vmdk", 20), oracle.Zero(30)],
        [flat(folder / "b.vmdk", 60)],
    ]
    resolver, chain = resolver_of(folder, links)

    def names(start: int, end: int) -> list[tuple[int, str]]:
        return [(placed.depth, placed.extent.label) for placed in resolver.overlapping(start * 512, end * 512)]

    assert names(0, 1) == [(0, "ZERO"), (1, "b.vmdk")]
    assert names(9, 11) == [(0, "ZERO"), (0, "a.vmdk"), (1, "b.vmdk")]
    assert names(10, 30) == [(0, "a.vmdk"), (1, "b.vmdk")]
    assert names(30, 31) == [(0, "ZERO"), (1, "b.vmdk")]
    assert names(0, 60) == [(0, "ZERO"), (0, "a.vmdk"), (0, "ZERO"), (1, "b.vmdk")]
    assert names(60, 70) == []
    chain.close()


def test_a_hole_has_no_source(folder: Path) -> None:
    resolver, chain = resolver_of(folder, [[sparse(folder / "l0.vmdk", ExtentBuilder(2048))]])
    assert list(resolver.resolve(0).runs()) == [Run(0, 2048 * 512, State.UNALLOCATED, None, None)]
    chain.close()
