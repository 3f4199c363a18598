"""A set of ranges, compared with a set of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissect_sesparse.trimmed import ranges
from dissect_sesparse.trimmed.ranges import Ranges, TooManyRangesError

PAIR = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted)


@given(st.lists(PAIR, max_size=20), PAIR)
def test_like_a_set_of_numbers(added: list[list[int]], asked: list[int]) -> None:
    some, numbers = Ranges(), set()
    for start, end in added:
        some.add(start, end)
        numbers |= set(range(start, end))
    assert [n for start, end in some for n in range(start, end)] == sorted(numbers)
    parts = list(some.split(*asked))
    assert [n for start, end, _ in parts for n in range(start, end)] == list(range(*asked)), "no gap, no overlap"
    assert all((n in numbers) == inside for start, end, inside in parts for n in range(start, end))
    assert all(a[2] != b[2] for a, b in zip(parts, parts[1:])), "as long as can be"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "MAX_RANGES", 100)
    some = Ranges()
    for start in range(0, 200, 2):
        some.add(start, start + 1)
    with pytest.raises(TooManyRangesError, match="more than 100 ranges"):
        some.add(500, 501)
    some.add(0, 1 << 62)
    assert list(some) == [(0, 1 << 62)]


def test_time_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "MAX_WORK", 1000)
    some = Ranges()
    for start in range(0, 100, 2):
        some.add(start, start + 1)
    for _ in range(18):
        assert len(list(some.split(0, 100))) == 100
    with pytest.raises(TooManyRangesError, match="overlaps"):
        list(some.split(0, 100))
