"""Strips: no byte lost, few cells, whatever the number of runs."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sesparse_builder import grain_data
from target_fixtures import GRAINS, SIZE, small_chain

from dissect_sesparse import SESparseError, open_chain
from dissect_sesparse.chain.map import label
from dissect_sesparse.chain.summary import summaries
from dissect_sesparse.trimmed.strip import LABELS, Strip, chain_strip, link_strip, strip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUNS = st.lists(st.tuples(st.sampled_from(LABELS), st.integers(1, 40).map(lambda grains: grains * 4096)), max_size=300)


def states_at(runs: list[tuple[str, int]]) -> list[str]:
    """The state of each grain, one by one."""
    return [name for name, length in runs for _ in range(length // 4096)]


@given(runs=RUNS, most=st.integers(1, 40))
def test_no_byte_is_lost(runs: list[tuple[str, int]], most: int) -> None:
    """Each cell has the bytes that are in its range; cells of several states are only where there is no room."""
    made, grains = strip(runs, most), states_at(runs)
    assert len(made.cells) <= most
    assert made.sizes == {name: 4096 * grains.count(name) for name in LABELS}
    assert made.runs == {name: sum(name == other for other, _ in runs) for name in LABELS}
    assert sum(cell.runs for cell in made.cells) == len(runs)
    start = 0
    for cell in made.cells:
        inside = Counter(grains[start // 4096 : (start + cell.length) // 4096])
        assert dict(zip(LABELS, cell.sizes)) == {name: 4096 * inside[name] for name in LABELS}
        assert len(inside) == 1 or cell.length <= made.merged
        start += cell.length
    assert start == made.size == 4096 * len(grains)


@given(runs=RUNS)
def test_with_room_it_is_exact(runs: list[tuple[str, int]]) -> None:
    made = strip(runs, 300)
    assert made.merged == 0
    assert all(sum(map(bool, cell.sizes)) == 1 for cell in made.cells)


@pytest.mark.slow
def test_what_is_long_stays_exact() -> None:
    """Many runs between two holes of 30 TiB: the holes keep their ends, and memory does not grow with the runs."""

    def runs(count: int) -> Iterator[tuple[str, int]]:
        yield "hole", 30 << 40
        for number in range(count):
            yield ("allocated", "unmapped", "zero")[number % 3], 4096 * (1 + number % 7)
        yield "hole", 30 << 40

    peaks = []
    for count in (8_000, 80_000):
        tracemalloc.start()
        made = strip(runs(count), 1000)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert made.runs["hole"] == 2
        assert sum(made.runs.values()) == count + 2
        assert [made.cells[place].sizes[LABELS.index("hole")] for place in (0, -1)] == [30 << 40] * 2
        assert [made.cells[place].length for place in (0, -1)] == [30 << 40] * 2
    assert peaks[1] < 1.5 * peaks[0] < 2 << 20


def test_of_a_chain(folder: Path) -> None:
    chain = small_chain(folder, deltas=2)
    chain.links[1].extent.unmap(11, grain_data("old", 11))
    chain.links[2].extent.zero(12)
    chain.links[2].extent.set_entry(13, 0x4 << 60)
    with open_chain(chain.write()) as opened:
        whole = chain_strip(opened, 1000)
        assert whole.sizes == sizes(label(run) for run in opened.runs() for _ in range(run.length // 4096))
        assert whole.sizes["invalid"] == whole.sizes["unmapped"] == 4096
        assert whole.size == SIZE
        for link, summary in zip(opened.links, summaries(opened)):
            made = link_strip(link, 1000)
            assert (made.sizes["allocated"] + made.sizes["base"], made.sizes["unmapped"], made.sizes["zero"]) == (
                summary.allocated, summary.unmapped, summary.zero,
            )  # fmt: skip
            assert made.size == SIZE
        newest = link_strip(opened.links[0], 1000)
    assert [(cell.length // 4096, LABELS[[*map(bool, cell.sizes)].index(True)]) for cell in newest.cells] == [
        (12, "hole"), (1, "zero"), (1, "invalid"), (6, "hole"), (1, "allocated"), (GRAINS - 21, "hole"),
    ]  # fmt: skip


def sizes(names: Iterator[str]) -> dict[str, int]:
    counted = Counter(names)
    return {name: 4096 * counted[name] for name in LABELS}


def test_an_error_ends_it_and_is_told() -> None:
    def runs() -> Iterator[tuple[str, int]]:
        yield "base", 4096
        raise SESparseError("a bad sector")

    assert strip(runs(), 10) == Strip(
        strip([("base", 4096)], 10).cells, 0, strip([("base", 4096)], 10).runs, sizes(iter(["base"])), "a bad sector"
    )


def test_other_errors_are_not_hidden() -> None:
    def runs() -> Iterator[tuple[str, int]]:
        yield "base", 4096
        raise KeyError("a fault of ours")

    with pytest.raises(KeyError):
        strip(runs(), 10)


def test_random_order_of_sizes() -> None:
    """Also where long and short runs come in any order, few cells are left."""
    rng = random.Random(7)
    runs = [(rng.choice(LABELS), 4096 << rng.randrange(30)) for _ in range(20_000)]
    made = strip(runs, 500)
    assert len(made.cells) <= 500
    assert made.size == sum(length for _, length in runs)
