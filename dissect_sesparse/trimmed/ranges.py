"""A set of ranges, as sorted starts and ends."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RANGES = 1_000_000
"""Ranges that do not touch one another: some 100 MB of memory."""
MAX_WORK = 50_000_000
"""Ranges that are gone through in all: some ten seconds."""


class TooManyRangesError(Exception):
    """What was put in has more ranges, or overlaps more often, than evidence that is not made for it."""


class Ranges:
    """Ranges of numbers. Its memory goes with how many do not touch one another, not with how long they are."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._work = 0

    def add(self, start: int, end: int) -> None:
        """Put a range in.

        Raises:
            TooManyRangesError: If there are too many.
        """
        if start >= end:
            return
        first, last = self._touched(start, end)
        self._spend(last - first + 1)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        elif len(self._starts) >= MAX_RANGES:
            raise TooManyRangesError(f"more than {MAX_RANGES} ranges")
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def split(self, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """Cut a range where its being in the set changes: start, end and whether it is in.

        Raises:
            TooManyRangesError: If too much was asked in all.
        """
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        self._spend(max(0, last - first) + 1)
        for low, high in list(zip(self._starts[first:last], self._ends[first:last])):
            low, high = max(low, start), min(high, end)
            if start < low:
                yield start, low, False
            if low < high:
                yield low, high, True
                start = high
        if start < end:
            yield start, end, False

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._ends)))

    def _touched(self, start: int, end: int) -> tuple[int, int]:
        """Which ranges overlap or touch one."""
        return bisect_left(self._ends, start), bisect_right(self._starts, end)

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > MAX_WORK:
            raise TooManyRangesError(f"more than {MAX_WORK} overlaps")
