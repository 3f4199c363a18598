"""A disk in parts: together they tell what the whole tells."""

from __future__ import annotations

import random
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest
from history import random_history

from dissect_sesparse import open_chain
from dissect_sesparse.trimmed import unmapped as unmapped_module
from dissect_sesparse.trimmed import unreferenced as unreferenced_module
from dissect_sesparse.trimmed.parts import (
    MAX_PARTS,
    WHOLE,
    Part,
    Position,
    _parts,
    parts_of_unmapped,
    parts_of_unreferenced,
)
from dissect_sesparse.trimmed.unmapped import unmapped
from dissect_sesparse.trimmed.unreferenced import unreferenced

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("function", "cut", "counts_type"),
    [
        (unmapped, parts_of_unmapped, unmapped_module.Counts),
        (unreferenced, parts_of_unreferenced, unreferenced_module.SkippedGrains),
    ],
)
def test_together_they_are_the_whole(
    tmp_path: Path, seed: int, function: Callable, cut: Callable, counts_type: type
) -> None:
    """Runs and what is only counted, cut at every unit, at some, and at none."""
    recorded = random_history(tmp_path / "vm", random.Random(405 + seed), seed + 1)
    with open_chain(recorded.path) as chain:
        counts = counts_type()
        whole = list(function(chain, counts=counts))
        assert whole
        found_parts = set()
        for size in (1, 300_000, 40 << 20, 1 << 60):
            parts = cut(chain, size)
            found_parts.add(len(parts))
            each = [counts_type() for _ in parts]
            assert [run for part, own in zip(parts, each) for run in function(chain, counts=own, part=part)] == whole
            for field in fields(counts_type):
                assert sum(getattr(own, field.name) for own in each) == getattr(counts, field.name)
    assert min(found_parts) == 1
    assert max(found_parts) > seed + 1, "more than the links"


def test_a_part_is_not_the_whole(tmp_path: Path) -> None:
    """If parts were not looked at, each would give all."""
    recorded = random_history(tmp_path / "vm", random.Random(7), 3)
    with open_chain(recorded.path) as chain:
        whole = len(list(unmapped(chain, contents=False)))
        parts = [len(list(unmapped(chain, contents=False, part=part))) for part in parts_of_unmapped(chain, 1)]
    assert len(parts) > 3
    assert max(parts) < whole


@pytest.mark.parametrize("units", [0, 1, 5, MAX_PARTS - 1, MAX_PARTS, 2 * MAX_PARTS, 5 * MAX_PARTS + 3, 100_000])
def test_parts_are_few_and_leave_nothing_out(units: int) -> None:
    """However many units there are: no gap, no overlap, and no part far larger than the others."""
    parts = _parts(((Position(0, 0, unit + 1), 10) for unit in range(units)), 10)
    assert 1 <= len(parts) <= MAX_PARTS
    assert len(parts) > min(units, MAX_PARTS // 2)
    assert parts[0].start == WHOLE.start
    assert parts[-1].end is None
    assert all(first.end == second.start for first, second in zip(parts, parts[1:]))
    sizes = [part.end.unit - part.start.unit for part in parts[:-1]]
    assert not sizes or max(sizes) == min(sizes)


def test_units() -> None:
    part = Part(Position(1, 0, 5), Position(2, 1, 3))
    assert part.units(0, 0) is None
    assert part.units(1, 0) == (5, None)
    assert part.units(1, 1) == (0, None)
    assert part.units(2, 0) == (0, None)
    assert part.units(2, 1) == (0, 3)
    assert part.units(2, 2) is None
    assert part.units(3, 0) is None
    assert WHOLE.units(0, 0) == WHOLE.units(7, 3) == (0, None)


def test_corrupt_tables_are_cut_too(tmp_path: Path) -> None:
    """Where a table cannot be counted its size is guessed; nothing is lost by that."""
    from sesparse_builder import ChainBuilder
    from target_fixtures import UNKNOWN_STATE

    chain = ChainBuilder(tmp_path, 3 * 32768)
    extent = chain.add_delta()
    for grain in (0, 5000, 9000):
        extent.unmap(grain, b"old")
    extent.set_entry(4999, UNKNOWN_STATE)
    with open_chain(chain.write()) as opened:
        parts = parts_of_unmapped(opened, 1)
        assert len(parts) == 4
        runs = [run.offset // 4096 for part in parts for run in unmapped(opened, part=part)]
    assert runs == [0, 5000, 9000]
