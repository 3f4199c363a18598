"""Grains in an extent's file that no entry of its tables names: freed, moved by a shrink, or lost.

Whose they were, the backmap may still tell. All-zero ones are only counted: files have holes, and unused places.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

from dissect_sesparse.disk.c_sesparse import GRAIN_SIZE, TABLE_ENTRIES
from dissect_sesparse.disk.claims import BareRule
from dissect_sesparse.disk.entry import BARE_UNMAPPED, State
from dissect_sesparse.disk.errors import UnreadableError
from dissect_sesparse.disk.lanes import blocks, successive, unpack
from dissect_sesparse.disk.sesparse import SESparseExtent
from dissect_sesparse.evidence.content import Content, describe
from dissect_sesparse.evidence.parts import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.disk.chain import Chain
    from dissect_sesparse.disk.link import Link, Placed
    from dissect_sesparse.evidence.parts import Part

GROUP_BLOCKS = 65536
"""Blocks of 16 MiB looked at in one pass over the tables: 1 TiB of the file, 32 MiB of memory."""
_BLOCK = (1 << 48) - 1
ZERO_GRAIN = bytes(GRAIN_SIZE)
_ALL = (1 << TABLE_ENTRIES) - 1


@dataclass(frozen=True)
class UnreferencedRun:
    """Grains that no entry names. Offsets and sizes in bytes."""

    link: Link
    placed: Placed
    place: int
    """In the extent's file."""
    size: int
    offset: int | None
    """On the virtual disk, by the backmap; ``None`` where it does not tell."""
    state: str
    """``backmap`` where the backmap names an address, else ``free``."""
    content: Content | None

    @property
    def extent(self) -> SESparseExtent:
        return self.placed.extent  # type: ignore[return-value]

    def read(self) -> bytes:
        """The bytes.

        Raises:
            UnreadableError: If the file cannot be read there.
        """
        return self.placed.extent.read(self.place, self.size)


@dataclass
class Counts:
    """What was not listed."""

    zero_grains: int = 0
    unreadable_grains: int = 0


def unreferenced(
    chain: Chain, *, contents: bool = True, counts: Counts | None = None, part: Part = WHOLE
) -> Iterator[UnreferencedRun]:
    """The unreferenced runs of all links, newest link first, each extent in the order of its file.

    Args:
        chain: The disk.
        contents: Whether to hash and measure the bytes.
        counts: Where to count what is not listed.
        part: The blocks of grains to go through, see ``parts``.
    """
    counts = counts if counts is not None else Counts()
    for link in chain.links:
        for number, placed in enumerate(link.extents):
            units = part.units(link.depth, number)
            if isinstance(placed.extent, SESparseExtent) and units is not None:
                for place, size, offset in _runs(placed.extent, counts, *units):
                    content = describe(placed.extent.file.read(place, size)) if contents else None
                    where = None if offset is None else placed.start + offset
                    state = "free" if where is None else "backmap"
                    yield UnreferencedRun(link, placed, place, size, where, state, content)


def _runs(extent: SESparseExtent, counts: Counts, first: int, end: int | None) -> Iterator[tuple[int, int, int | None]]:
    """Place in the file, size and offset on the extent's disk of each run in some blocks."""
    last_block = -(-extent.place_limit // TABLE_ENTRIES)
    last_block = last_block if end is None else min(end, last_block)
    for group in range(first, last_block, GROUP_BLOCKS):
        named = named_places(extent, group, min(group + GROUP_BLOCKS, last_block))
        for block in range(group, min(group + GROUP_BLOCKS, last_block)):
            yield from _block_runs(extent, block, ~named.get(block, 0) & _ALL, counts)


def named_places(extent: SESparseExtent, first: int, end: int) -> dict[int, int]:
    """For each block from ``first`` to ``end`` that any entry names, a bit for each place that is named.

    A bare UNMAPPED entry names place 0 only if the backmap says that it had it.
    """
    named: dict[int, int] = {}
    if first == 0 and BareRule(extent).owner is not None:
        named[0] = 1
    for _, entries in extent.raw_tables():
        for state in (State.ALLOCATED, State.UNMAPPED):
            if (place := successive(entries, state)) is not None and (place or state == State.ALLOCATED):
                block, grain = divmod(place, TABLE_ENTRIES)
                if first <= block < end:
                    named[block] = named.get(block, 0) | ((1 << len(entries) // 8) - 1) << grain
                break
        else:
            _add_each(named, entries, first, end)
    return named


def _add_each(named: dict[int, int], entries: bytes, first: int, end: int) -> None:
    wanted = [first <= block < end for block in blocks(entries)]
    for entry in compress(unpack(entries), wanted):
        if entry >> 60 in (State.ALLOCATED, State.UNMAPPED) and entry != BARE_UNMAPPED:
            block = entry & _BLOCK
            named[block] = named.get(block, 0) | 1 << (entry >> 48 & 0xFFF)


def _block_runs(extent: SESparseExtent, block: int, free: int, counts: Counts) -> Iterator[tuple[int, int, int | None]]:
    """The runs of a block's places that are free and not zero."""
    first = block * TABLE_ENTRIES
    free &= (1 << max(0, min(TABLE_ENTRIES, extent.place_limit - first))) - 1
    if block == extent.header.free_gt_number and _is_trailer(extent, first):
        free &= ~1
    for start, count in spans_of_bits(free):
        begin = extent.grains_offset + (first + start) * GRAIN_SIZE
        if extent.file.next_data(begin) >= begin + count * GRAIN_SIZE:
            counts.zero_grains += count  # a hole of the file
            continue
        try:
            data = extent.file.read(begin, min(count * GRAIN_SIZE, extent.file.size - begin))  # the last may be cut off
        except UnreadableError:
            counts.unreadable_grains += count
            continue
        words = extent.backmap.words(first + start, count)
        owners = [extent.backmap.owner_of(words[i]) if i < len(words) else None for i in range(count)]
        yield from _joined(begin, data, owners, counts)


def _is_trailer(extent: SESparseExtent, place: int) -> bool:
    """Whether a place is the end mark of the file: 4 KiB of 0xff behind the last block in use (seen once), or its start."""
    begin = extent.grains_offset + place * GRAIN_SIZE
    mark = extent.file.read_some(begin, GRAIN_SIZE + 1)
    return len(mark) <= GRAIN_SIZE and not mark.strip(b"\xff")


def _joined(begin: int, data: bytes, owners: list[int | None], counts: Counts) -> Iterator[tuple[int, int, int | None]]:
    """Grains that are not zero, joined where place and address go on."""
    run: tuple[int, int, int | None] | None = None
    for number, owner in enumerate(owners):
        size = min(GRAIN_SIZE, len(data) - number * GRAIN_SIZE)
        if data.startswith(ZERO_GRAIN[:size], number * GRAIN_SIZE):
            counts.zero_grains += 1
            continue
        place, offset = begin + number * GRAIN_SIZE, None if owner is None else owner * GRAIN_SIZE
        if run is not None and place == run[0] + run[1] and offset == (None if run[2] is None else run[2] + run[1]):
            run = (run[0], run[1] + size, run[2])
            continue
        if run is not None:
            yield run
        run = (place, size, offset)
    if run is not None:
        yield run


def spans_of_bits(bits: int) -> Iterator[tuple[int, int]]:
    """The runs of set bits: first bit, and how many."""
    position = 0
    while bits:
        skip = (bits & -bits).bit_length() - 1
        bits >>= skip
        count = (~bits & bits + 1).bit_length() - 1
        bits >>= count
        yield position + skip, count
        position += skip + count
