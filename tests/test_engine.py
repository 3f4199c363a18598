"""Whole tables at once against their plain twins: one entry, one lane at a time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_tables import (
    GRAINS_SECTOR,
    LIMITS,
    NASTY,
    check_decode,
    constant,
    decode_entries,
    pack,
    plain_runs,
    ramp,
    random_table,
    runs_of,
    split,
    spread,
    words,
)

from dissect_sesparse.extent.entry import BARE_UNMAPPED, INVALID_ENTRY, State
from dissect_sesparse.extent.lane import LANES

# Decoding


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("grains_sector", [1, GRAINS_SECTOR, (1 << 45) + 1])
def test_decode_nasty_entries(limit: int, grains_sector: int) -> None:
    check_decode(NASTY, grains_sector, limit)
    check_decode(NASTY[::-1], grains_sector, limit)


@pytest.mark.parametrize("entry", NASTY)
def test_decode_one_entry_among_good_neighbours(entry: int) -> None:
    """What is wrong with an entry must not reach the lanes beside it."""
    check_decode([0x3005000000000000, entry, 0x3006000000000000, entry, 0, entry, BARE_UNMAPPED], GRAINS_SECTOR, 4096)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("nasty", [0, 0.02, 0.5])
def test_decode_whole_tables(seed: int, nasty: float) -> None:
    rng = random.Random(f"{seed} {nasty}")
    check_decode(random_table(rng, LANES, nasty), GRAINS_SECTOR, rng.choice([*LIMITS, 1 << 13]))


@given(st.lists(st.one_of(st.sampled_from(NASTY), st.integers(0, (1 << 64) - 1)), min_size=1, max_size=40), st.data())
def test_decode_any_entries(entries: list[int], data: st.DataObject) -> None:
    limit = data.draw(st.one_of(st.sampled_from(LIMITS), st.integers(0, (1 << 44) - 1)))
    check_decode(entries, data.draw(st.integers(1, 1 << 46)), limit)


def test_invalid_entry_is_invalid() -> None:
    assert split(words(decode_entries(INVALID_ENTRY, GRAINS_SECTOR, 1 << 40))[0]) == (State.INVALID, 0, None)


@pytest.mark.parametrize("count", [1, 2, 63, LANES - 1, LANES])
def test_ramp_and_constant(count: int) -> None:
    places = [split(lane) for lane in words(ramp(State.ALLOCATED, 1000, 8, count))]
    assert places == [(State.ALLOCATED, 0, (1000 + 8 * i) * 512) for i in range(count)]
    assert [split(lane) for lane in words(constant(State.ZERO, count))] == [(State.ZERO, 0, None)] * count


def test_ramp_at_the_end_of_what_a_lane_holds() -> None:
    first = (1 << 48) - 2 * LANES
    lanes = words(ramp(State.ALLOCATED, first, 1, LANES))
    assert split(lanes[-1]) == (State.ALLOCATED, 0, (first + LANES - 1) * 512)


def test_spread_cuts_grains_into_sectors() -> None:
    entries = [0x3005000000000000, 0, 0x2000000000000000, 0x1007000000000000, 0x5000000000000000]
    lanes = spread(decode_entries(pack(entries), 100, 10, keep_unmapped=True), 8, 1)
    told = [split(lane) for lane in words(lanes)]
    grain_5, grain_7 = (100 + 5 * 8) * 512, (100 + 7 * 8) * 512
    assert told[:8] == [(State.ALLOCATED, 0, grain_5 + 512 * i) for i in range(8)]
    assert told[8:24] == [(State.UNALLOCATED, 0, None)] * 8 + [(State.ZERO, 0, None)] * 8
    assert told[24:32] == [(State.UNMAPPED, 0, grain_7 + 512 * i) for i in range(8)]
    assert told[32:] == [(State.INVALID, 0, None)] * 8


# Runs


@pytest.mark.parametrize("step", [1, 8])
@pytest.mark.parametrize("count", [1, 2, LANES])
def test_find_runs_in_one(step: int, count: int) -> None:
    lanes = ramp(State.ALLOCATED, 77, step, count)
    assert runs_of(lanes, step) == ([0], words(lanes)[:1])
    lanes = constant(State.ZERO, count)
    assert runs_of(lanes, step) == ([0], words(lanes)[:1])


@given(st.lists(st.sampled_from(NASTY), min_size=1, max_size=40), st.sampled_from(LIMITS))
def test_find_runs_anywhere(entries: list[int], limit: int) -> None:
    lanes = decode_entries(pack(entries), GRAINS_SECTOR, limit, keep_unmapped=True)
    assert runs_of(lanes, 8) == plain_runs(lanes, 8)


def test_find_runs_at_the_edges_of_a_table() -> None:
    entries = [0] * LANES
    entries[0] = entries[-1] = 0x3000000000000000
    lanes = decode_entries(pack(entries), GRAINS_SECTOR, 10)
    assert runs_of(lanes, 8)[0] == [0, 1, LANES - 1]
