"""What the audits report: something odd, on what it rests, and no more than the first hundred of a kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CONFIRMED = "rests on a confirmed fact"
INFERRED = "rests on an inferred fact"
"""How the message of a finding says on what it rests: two independent sources, or one real extent and an inference."""

MAX_EACH = 100
"""Findings of one kind in one extent that are listed; beyond, one more says how many there are."""


class Odd(NamedTuple):
    """Something that does not fit. ``offset`` and ``size`` in bytes on the extent's disk, where they mean something."""

    code: str
    message: str
    source_offset: int | None
    offset: int | None
    size: int | None
    level: str = "warning"


class Tally:
    """Reports the first of each kind, and counts the rest, so that a million cost no more than their counting.

    Args:
        limit: How many of one kind are reported.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._reported: dict[str, int] = {}
        self._more: dict[str, tuple[int, int, Odd]] = {}

    def report(self, kind: str, sizes: Sequence[int], odd: Callable[[int], Odd]) -> Iterator[Odd]:
        """Some odd things of a kind.

        Args:
            kind: What they are, in words.
            sizes: Bytes of each.
            odd: Makes one of them, by its number; asked for those that are reported, and for one of the rest.
        """
        done = self._reported.get(kind, 0)
        first = min(len(sizes), self.limit - done)
        self._reported[kind] = done + first
        for number in range(first):
            yield odd(number)
        if first < len(sizes):
            count, size, sample = self._more.get(kind) or (0, 0, odd(first))
            self._more[kind] = count + len(sizes) - first, size + int(sum(sizes[first:])), sample

    def rest(self) -> Iterator[Odd]:
        """For each kind of which there are more, one that counts them."""
        for kind, (count, size, last) in self._more.items():
            message = f"{count} more ranges in this extent, not listed: {kind}"
            yield Odd(last.code, message, None, None, size, last.level)
