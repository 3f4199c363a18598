"""What an extent's free bitmap and backmap say of places in any order, and the entries of grains in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE, TABLE_ENTRIES
from dissect_sesparse.extent.engine import WORD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from dissect_sesparse.extent.engine import Words
    from dissect_sesparse.extent.metadata import Metadata

_CACHED = 512
"""Blocks that are kept, of at most 32 KiB each: 16 MiB."""
_MANY = 64
"""From so many places of a block on all of its words are read."""
UNKNOWN = -1


class Copies:
    """Looks places and grains up, a block of 4096 at a time; the last blocks are kept.

    Args:
        metadata: Of the extent.
    """

    def __init__(self, metadata: Metadata):
        self.metadata = metadata
        self._words: dict[int, Words] = {}
        self._bits: dict[int, NDArray[np.bool_]] = {}
        self._tables: dict[int, Words] = {}

    def words_at(self, places: NDArray[Any], missing: int = 0) -> Words:
        """The backmap's words for some places; ``missing`` where there are none."""
        found = np.full(len(places), missing, WORD)
        for which, block, slots in _by_block(places):
            words, first = self._near(block, slots)
            inside = slots - first < len(words)
            found[which[inside]] = words[slots[inside] - first]
        return found

    def bits_at(self, places: NDArray[Any]) -> NDArray[np.int8]:
        """The free bitmap's bits for some places; :data:`UNKNOWN` where there are none."""
        found = np.full(len(places), UNKNOWN, np.int8)
        for which, block, slots in _by_block(places):
            bits = _kept(self._bits, block, self.metadata.bits)
            inside = slots < len(bits)
            found[which[inside]] = bits[slots[inside]]
        return found

    def in_use(self, places: NDArray[Any]) -> NDArray[np.int8]:
        """The same, with :data:`UNKNOWN` also where the sector of the bitmap that a bit of 0 is in says nothing of any."""
        found = self.bits_at(places)
        for which, block, _ in _by_block(places):  # a sector has the bits of a block
            if not _kept(self._bits, block, self.metadata.bits).any():
                found[which] = UNKNOWN
        return found

    def entries_of(self, grains: NDArray[Any]) -> Words:
        """The raw entries of some grains of the disk; 0 where there is no table."""
        found = np.zeros(len(grains), WORD)
        for which, table, slots in _by_block(grains):
            found[which] = _kept(self._tables, table, self._table)[slots]
        return found

    def _table(self, first: int, count: int) -> Words:
        count = min(count, -(-self.metadata.header.capacity // GRAIN_SIZE) - first)
        entries = self.metadata.entries(first, count)
        return np.zeros(count, WORD) if entries is None else entries

    def _near(self, block: int, slots: NDArray[np.int64]) -> tuple[Words, int]:
        """The words of some slots of a block, and the number of the first slot that was read."""
        if block in self._words or len(slots) >= _MANY:
            return _kept(self._words, block, self.metadata.words), 0
        first = int(slots.min())
        return self.metadata.words(block * TABLE_ENTRIES + first, int(slots.max()) - first + 1), first


def _kept(cache: dict[int, Any], block: int, read: Callable[[int, int], Any]) -> Any:
    """A whole block, from a cache that is emptied when it is full."""
    if (piece := cache.get(block)) is None:
        if len(cache) >= _CACHED:
            cache.clear()
        piece = cache[block] = read(block * TABLE_ENTRIES, TABLE_ENTRIES)
    return piece


def _by_block(numbers: NDArray[Any]) -> Iterator[tuple[NDArray[np.intp], int, NDArray[np.int64]]]:
    """For each block of 4096: which of the numbers are in it, the block, and the numbers within it."""
    if not len(numbers):
        return
    numbers = numbers.astype(np.int64)
    blocks = numbers // TABLE_ENTRIES
    if (blocks == blocks[0]).all():
        yield np.arange(len(numbers)), int(blocks[0]), numbers % TABLE_ENTRIES
        return
    order = np.argsort(blocks, kind="stable")
    cuts = np.flatnonzero(np.diff(blocks[order])) + 1
    for which in np.split(order, cuts):
        yield which, int(blocks[which[0]]), numbers[which] % TABLE_ENTRIES
