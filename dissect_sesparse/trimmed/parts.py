"""Parts of a disk that are gone through one by one, or each by another process; together they tell what the whole does.

What reads and hashes bytes, :func:`~dissect_sesparse.trimmed.unmapped.unmapped` and
:func:`~dissect_sesparse.trimmed.unreferenced.unreferenced`, goes through a disk in units of 16 MiB: the grain tables of
each extent, or the blocks of its grains. No run crosses a unit, and who else names a place is looked for in all tables
whatever part is asked for. So a disk may be cut between any two units, and what its parts give, one after the other, is
what the whole gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE, TABLE_ENTRIES
from dissect_sesparse.extent.engine import count_states
from dissect_sesparse.extent.entry import State
from dissect_sesparse.extent.sesparse import SESparseExtent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.chain.chain import Chain

MAX_PARTS = 64
"""Parts of a disk at the most: each costs a pass over its tables."""
_BLOCK_SIZE = TABLE_ENTRIES * GRAIN_SIZE


class Position(NamedTuple):
    """Between two units of a disk: before this one. They are in the order in which the links are gone through."""

    depth: int
    """Of the link."""
    extent: int
    """Its number in the link."""
    unit: int
    """The number of the table, or of the block of grains, in the extent."""


class Part(NamedTuple):
    """The units from one position up to another; ``None`` is the end of the disk."""

    start: Position
    end: Position | None

    def units(self, depth: int, extent: int) -> tuple[int, int | None] | None:
        """The first unit of an extent and the one behind the last (``None``: all); ``None`` where it has none of them."""
        here = (depth, extent)
        if here < self.start[:2] or (self.end is not None and here > self.end[:2]):
            return None
        first = self.start.unit if here == self.start[:2] else 0
        return first, self.end.unit if self.end is not None and here == self.end[:2] else None


WHOLE = Part(Position(0, 0, 0), None)
"""All of a disk."""


def parts_of_unmapped(chain: Chain, size: int) -> list[Part]:
    """Cut a disk where each ``size`` bytes of unmapped grains end. Goes through all tables."""
    return _parts(_unmapped_sizes(chain), size)


def parts_of_unreferenced(chain: Chain, size: int) -> list[Part]:
    """Cut a disk where each ``size`` bytes of the grains in its files end."""
    return _parts(_block_sizes(chain), size)


def _parts(sizes: Iterator[tuple[Position, int]], size: int) -> list[Part]:
    """Parts of some ``size`` bytes each; larger ones where there would be too many.

    Args:
        sizes: For each unit, in order, the position behind it and how many bytes it has.
        size: Bytes.
    """
    cuts: list[Position] = []
    count = 0
    for position, more in sizes:
        count += more
        if count < size:
            continue
        cuts.append(position)
        count = 0
        if len(cuts) == 2 * MAX_PARTS:  # every second one is enough then
            cuts, size = cuts[1::2], size * 2
    if len(cuts) > MAX_PARTS - 1:
        cuts = cuts[1::2]
    return [Part(start, end) for start, end in zip([WHOLE.start, *cuts], [*cuts, None])]


def _unmapped_sizes(chain: Chain) -> Iterator[tuple[Position, int]]:
    for depth, number, extent in _extents(chain):
        for grain, entries in extent.metadata.sound_tables():
            count = count_states(entries, extent.metadata.place_limit)[State.UNMAPPED]
            yield Position(depth, number, grain // TABLE_ENTRIES + 1), count * GRAIN_SIZE


def _block_sizes(chain: Chain) -> Iterator[tuple[Position, int]]:
    for depth, number, extent in _extents(chain):
        for block in range(-(-extent.metadata.place_limit // TABLE_ENTRIES)):
            yield Position(depth, number, block + 1), _BLOCK_SIZE


def _extents(chain: Chain) -> Iterator[tuple[int, int, SESparseExtent]]:
    for link in chain.links:
        for number, placed in enumerate(link.extents):
            if isinstance(placed.extent, SESparseExtent):
                yield link.depth, number, placed.extent
