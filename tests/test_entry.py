"""Directory and table entries, one at a time, against literal values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissect_sesparse.extent.entry import (
    BARE_UNMAPPED,
    Run,
    State,
    decode_directory_entry,
    decode_entry,
    encode_directory_entry,
    encode_entry,
    merged,
)

PLACES = st.integers(0, (1 << 60) - 1)


@pytest.mark.parametrize(
    ("entry", "state", "place"),
    [
        (0x0000000000000000, State.UNALLOCATED, 0),
        (0x1000000000000000, State.UNMAPPED, 0),
        (0x1001000000000000, State.UNMAPPED, 1),
        (0x1000000000000001, State.UNMAPPED, 4096),
        (0x2000000000000000, State.ZERO, 0),
        (0x2ABC000000000000, State.ZERO, 0xABC),
        (0x3000000000000000, State.ALLOCATED, 0),
        # The low 12 bits of the place are in bits 48-59, the others in bits 0-47
        (0x3FFF000000000000, State.ALLOCATED, 4095),
        (0x3000000000000001, State.ALLOCATED, 4096),
        (0x3388000000000001, State.ALLOCATED, 5000),
        (0x3345000000000012, State.ALLOCATED, 0x12345),
        (0x3FFFFFFFFFFFFFFF, State.ALLOCATED, (1 << 60) - 1),
    ],
)
def test_entry(entry: int, state: State, place: int) -> None:
    assert decode_entry(entry) == (state, place)
    assert encode_entry(state, place) == entry


@pytest.mark.parametrize("nibble", range(4, 16))
@pytest.mark.parametrize("rest", [0, 1, 0x0FFFFFFFFFFFFFFF])
def test_unknown_states_are_corrupt(nibble: int, rest: int) -> None:
    with pytest.raises(ValueError, match=f"{nibble:#x}"):
        decode_entry(nibble << 60 | rest)


@pytest.mark.parametrize("bit", range(60))
def test_unallocated_with_any_other_bit_is_corrupt(bit: int) -> None:
    with pytest.raises(ValueError, match="unallocated"):
        decode_entry(1 << bit)


def test_bare_unmapped_entry() -> None:
    assert BARE_UNMAPPED == 0x1000000000000000
    assert decode_entry(BARE_UNMAPPED) == (State.UNMAPPED, 0)


@given(st.sampled_from([State.UNMAPPED, State.ZERO, State.ALLOCATED]), PLACES)
def test_decode_undoes_encode(state: State, place: int) -> None:
    assert decode_entry(encode_entry(state, place)) == (state, place)


@given(st.integers(0, (1 << 64) - 1))
def test_encode_undoes_decode(entry: int) -> None:
    try:
        state, place = decode_entry(entry)
    except ValueError:
        assert entry >> 60 > 3 or 0 < entry < 1 << 60
    else:
        assert encode_entry(state, place) == entry


@pytest.mark.parametrize(
    ("entry", "index"),
    [
        (0x0000000000000000, None),
        (0x1000000000000000, 0),  # as the first entry of a real extent has it
        (0x1000000000000001, 1),
        (0x10000000FFFFFFFF, 0xFFFFFFFF),
    ],
)
def test_directory_entry(entry: int, index: int | None) -> None:
    assert decode_directory_entry(entry) == index
    assert encode_directory_entry(index) == entry


@pytest.mark.parametrize(
    "entry",
    [
        0x0000000000000001,
        0x0000000000000005,
        0x00000000FFFFFFFF,
        0x1000000100000000,  # one bit too many in the high half
        0x1100000000000000,
        0x2000000000000000,
        0x3000000000000000,
        0x9000000000000000,
        0xFFFFFFFFFFFFFFFF,
    ],
)
def test_other_directory_entries_are_corrupt(entry: int) -> None:
    with pytest.raises(ValueError, match="directory entry"):
        decode_directory_entry(entry)


# Runs

SOURCE = object()


def test_merged_joins_what_goes_on() -> None:
    runs = [
        Run(0, 4096, State.ALLOCATED, 8192, SOURCE),
        Run(4096, 4096, State.ALLOCATED, 12288, SOURCE),
        Run(8192, 512, State.ZERO, None, SOURCE),
        Run(8704, 512, State.ZERO, None, SOURCE),
    ]
    assert list(merged(runs)) == [
        Run(0, 8192, State.ALLOCATED, 8192, SOURCE),
        Run(8192, 1024, State.ZERO, None, SOURCE),
    ]


@pytest.mark.parametrize(
    "second",
    [
        Run(4608, 4096, State.ALLOCATED, 12288, SOURCE),  # not the next on the disk
        Run(4096, 4096, State.ALLOCATED, 16384, SOURCE),  # not the next in the file
        Run(4096, 4096, State.ALLOCATED, 8192, SOURCE),  # the same grain once more
        Run(4096, 4096, State.ALLOCATED, None, SOURCE),
        Run(4096, 4096, State.UNMAPPED, 12288, SOURCE),  # another state
        Run(4096, 4096, State.ALLOCATED, 12288, object()),  # another extent, at the same byte of its file
    ],
)
def test_merged_keeps_apart_what_does_not(second: Run) -> None:
    first = Run(0, 4096, State.ALLOCATED, 8192, SOURCE)
    assert list(merged([first, second])) == [first, second]


def test_merged_nothing() -> None:
    assert list(merged([])) == []
