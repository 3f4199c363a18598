"""What the audit of an extent's tables compares: entries that name places, and words that name grains."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE, TABLE_ENTRIES
from dissect_sesparse.extent.entry import State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dissect_sesparse.extent.engine import Words


class Named(NamedTuple):
    """Entries of one table that name places of a group, in the order of the table."""

    first: int
    """The first grain of the table."""
    slots: NDArray[np.intp]
    places: NDArray[np.int64]
    allocated: NDArray[np.bool_]
    """Of each entry: whether it is an allocated one, else it is an unmapped one."""
    words: Words
    """What the backmap should have for each."""

    def chosen(self, which: NDArray[np.bool_]) -> Named:
        """Those of them that are chosen."""
        return Named(self.first, self.slots[which], self.places[which], self.allocated[which], self.words[which])

    def runs(self) -> list[tuple[int, int]]:
        """Those that follow one another in grain and place, within one block: number of the first, and how many."""
        if not len(self.slots):
            return []
        cut = (np.diff(self.slots) != 1) | (np.diff(self.places) != 1) | (self.places[1:] % TABLE_ENTRIES == 0)
        cut |= np.diff(self.allocated)
        starts = np.concatenate(([0], np.flatnonzero(cut) + 1))
        counts = np.diff(np.append(starts, len(self.slots)))
        return list(zip(starts.tolist(), counts.tolist()))


class Owned(NamedTuple):
    """For each of some backmap words: the grain that it names, and what that grain's entry is."""

    grains: NDArray[np.int64]
    """-1 where a word names none."""
    states: NDArray[np.uint8]
    places: NDArray[np.int64]
    """The place that the entry names; -1 for none."""
    known: NDArray[np.bool_]
    """Whether the word names a grain whose entry can be had and is sound."""

    def at(self, number: int) -> tuple[int | None, State, int | None]:
        """Grain, state and place of one of them."""
        grain, place = int(self.grains[number]), int(self.places[number])
        if grain < 0:
            return None, State.INVALID, None
        return grain, State(int(self.states[number])), place if place >= 0 else None


class GrainSpan(NamedTuple):
    """Grains that follow one another, and whose places do too, for a message."""

    grain: int
    place: int
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]  # tuple.count is of no use here
    word: int

    @property
    def entries(self) -> str:
        return f"the entr{'y' if self.count == 1 else 'ies'} of {span('grain', self.grain, self.count)}"

    @property
    def names(self) -> str:
        return "names" if self.count == 1 else "name"

    @property
    def where(self) -> tuple[int, int]:
        """Bytes on the extent's disk: offset and size."""
        return self.grain * GRAIN_SIZE, self.count * GRAIN_SIZE


def span(word: str, first: int, count: int) -> str:
    """Numbers that follow one another, in words."""
    return f"{word} {first}" if count == 1 else f"{word}s {first} to {first + count - 1}"
