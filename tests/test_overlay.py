"""Tables laid over one another, held against a plain loop over the lanes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_tables import (
    GRAINS_SECTOR,
    LIMITS,
    NASTY,
    decode_entries,
    pack,
    plain_runs,
    ramp,
    random_table,
    runs_of,
    split,
    words,
)

from dissect_sesparse.extent.engine import Decode, Layer, Overlay
from dissect_sesparse.extent.engine import words as to_words
from dissect_sesparse.extent.entry import State
from dissect_sesparse.extent.lane import LANES, MAX_LAYERS


def overlay(layers: list[Layer | None], count: int) -> bytes:
    laid = Overlay(count)
    for layer in layers:
        laid.add(layer or Layer(to_words(bytes(count * 8)), None))
    return laid.lanes().tobytes()


def decoded_by(decode: Decode, table: list[int]) -> bytes:
    return decode_entries(pack(table), decode.grains_sector, decode.place_limit, keep_unmapped=decode.keep_unmapped)


def plain_overlay(layers: list[bytes | None], count: int) -> list[tuple[State, int, int | None]]:
    """For each lane the first layer that says anything about it."""
    result = []
    for lane in range(count):
        answer = (State.UNALLOCATED, 0, None)
        for number, lanes in enumerate(layers):
            if lanes is None:
                continue
            state, _, place = split(words(lanes[lane * 8 : lane * 8 + 8])[0])
            if state != State.UNALLOCATED:
                answer = (state, number, place)
                break
        result.append(answer)
    return result


def check_overlay(tables: list[list[int] | None], count: int, limit: int = 1 << 14, *, decoded: bool = False) -> bytes:
    """Overlay with layers decoded late (raw entries) or beforehand."""

    decode = Decode(GRAINS_SECTOR, limit, keep_unmapped=True)

    lanes = [None if table is None else decoded_by(decode, table) for table in tables]
    if decoded:
        layers = [None if layer is None else Layer(to_words(layer), None) for layer in lanes]
    else:
        layers = [None if table is None else Layer(to_words(pack(table)), decode) for table in tables]
    result = overlay(layers, count)
    told = [split(lane) for lane in words(result)]
    # Of lanes that nobody answers the layer means nothing
    told = [(State.UNALLOCATED, 0, None) if state == State.UNALLOCATED else (state, *rest) for state, *rest in told]
    assert told == plain_overlay(lanes, count)
    return result


def thinned(rng: random.Random, table: list[int], spans: int) -> list[int]:
    """A table of which only some spans are left."""
    kept = [0] * len(table)
    for _ in range(spans):
        first = rng.randrange(len(table))
        end = min(len(table), first + rng.choice((1, 2, 30)))
        kept[first:end] = table[first:end]
    return kept


@pytest.mark.slow
@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("spans", [0, 1, 10, 60, 64, 65, 300])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_overlay_few_and_many_spans(spans: int, depth: int, decoded: bool) -> None:
    """Below and above the number of spans from which on the layer is taken in one pass."""
    rng = random.Random(f"{spans} {depth} {decoded}")
    tables = [thinned(rng, random_table(rng, LANES, 0.05), spans) for _ in range(depth)]
    check_overlay([*tables, None, random_table(rng, LANES, 0)], LANES, decoded=decoded)


@pytest.mark.parametrize("every", [1, 2, 3, 63, 64, 65])
def test_overlay_spans_at_a_regular_distance(every: int) -> None:
    top = [0x3000000000000000 | i >> 12 | (i & 0xFFF) << 48 if i % every == 0 else 0 for i in range(LANES)]
    check_overlay([top, [0x2000000000000000] * LANES], LANES)


@pytest.mark.slow
@pytest.mark.parametrize(
    "corrupt",
    [0x1, 0x00FF000000000000, 0x0000000100000000, 0x0100000000000000, 0x0FFFFFFFFFFFFFFF, 0x7000000000000000],
)
@pytest.mark.parametrize("at", [0, 1, 2047, 4094, 4095])
def test_overlay_sees_a_lone_corrupt_entry(corrupt: int, at: int) -> None:
    """Also one whose top byte is 0 and which therefore looks like an empty one from above."""
    top = [0] * LANES
    top[at] = corrupt
    base = [0x2000000000000000] * LANES
    for tables in ([top, base], [[0x3001000000000000] + [0] * (LANES - 1), top, base]):
        result = words(check_overlay(tables, LANES))
        hidden = len(tables) == 3 and at == 0
        assert split(result[at])[0] == (State.ALLOCATED if hidden else State.INVALID)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [255, 256, 257, 511, 600])
def test_overlay_with_more_layers_than_a_byte_counts(depth: int) -> None:
    """Each layer has one lane to itself and covers none of the others."""
    tables: list[list[int] | None] = []
    for number in range(depth):
        table = [0] * 700
        table[number] = 0x3000000000000000 | (number & 0xFFF) << 48
        tables.append(table)
    result = words(check_overlay(tables, 700))
    assert [split(lane)[1] for lane in result[:depth]] == list(range(depth))


def test_overlay_with_all_layers_there_can_be() -> None:
    layers = [Layer(to_words(bytes(8 * (number % 16)) + ramp(State.ALLOCATED, 7, 1, 1) + bytes(8 * (15 - number % 16))), None)
              for number in range(MAX_LAYERS)]  # fmt: skip
    layers[:-16] = [None] * (MAX_LAYERS - 16)
    result = words(overlay(layers, 16))
    assert [split(lane) for lane in result] == [(State.ALLOCATED, MAX_LAYERS - 16 + i, 7 * 512) for i in range(16)]


def test_overlay_of_nothing() -> None:
    assert overlay([], 5) == bytes(40)
    assert overlay([None, None], 5) == bytes(40)


@given(st.data())
def test_overlay_any_tables(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 40))
    entries = st.one_of(st.just(0), st.sampled_from(NASTY))
    table = st.lists(entries, min_size=count, max_size=count)
    tables = data.draw(st.lists(st.one_of(st.none(), table), min_size=1, max_size=5))
    check_overlay(tables, count, data.draw(st.sampled_from(LIMITS)), decoded=data.draw(st.booleans()))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_overlay_of_extents_that_decode_differently(seed: int) -> None:
    """Other places, other limits, dense and thin tables, decoded and raw, in one chain."""
    rng = random.Random(seed)
    tables, layers = [], []
    for _ in range(rng.randrange(2, 9)):
        table = random_table(rng, LANES, rng.choice((0, 0.02)))
        if rng.random() < 0.6:
            table = thinned(rng, table, rng.choice((1, 20, 90, 1000)))
        decode = Decode(rng.choice((4096, 12288)), rng.choice((10, 1 << 14, 1 << 20)), keep_unmapped=True)
        tables.append(decoded_by(decode, table))
        layers.append(Layer(to_words(tables[-1]), None) if rng.random() < 0.3 else Layer(to_words(pack(table)), decode))
    told = [split(lane) for lane in words(overlay(layers, LANES))]
    told = [(State.UNALLOCATED, 0, None) if state == State.UNALLOCATED else (state, *rest) for state, *rest in told]
    assert told == plain_overlay(tables, LANES)


@pytest.mark.parametrize("left", [1, 2, 255, 256, 257, 300])
@pytest.mark.parametrize("corrupt", [False, True])
def test_overlay_where_few_lanes_are_left(left: int, corrupt: bool) -> None:
    rng = random.Random(left)
    wanted = set(rng.sample(range(LANES), left))
    full = [0 if lane in wanted else 0x2000000000000000 for lane in range(LANES)]
    second = [lane % 2 and 0x3000000000000000 | (lane & 0xFFF) << 48 for lane in range(LANES)]
    if corrupt:
        second[min(wanted)] = 0x00FF000000000000
    check_overlay([full, second, [0x3001000000000000] * LANES], LANES)


def test_no_more_layers_than_a_lane_can_name() -> None:
    laid = Overlay(1)
    for _ in range(MAX_LAYERS):
        laid.add(Layer(to_words(bytes(8)), None))
    with pytest.raises(ValueError, match=str(MAX_LAYERS)):
        laid.add(Layer(to_words(bytes(8)), None))


@pytest.mark.parametrize("seed", range(8))
def test_find_runs_in_overlaid_tables(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.choice((LANES, LANES, 1, 2, 100))
    tables = [random_table(rng, count, 0.05) for _ in range(3)]
    lanes = check_overlay(tables, count)
    assert runs_of(lanes, 8) == plain_runs(lanes, 8)
