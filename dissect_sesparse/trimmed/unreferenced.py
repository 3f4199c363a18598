"""Grains in an extent's file that no entry of its tables names: freed, moved by a shrink, or lost.

Whose they were, the backmap may still tell. All-zero ones are only counted: files have holes, and unused places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE, TABLE_ENTRIES
from dissect_sesparse.extent.claims import BareRule
from dissect_sesparse.extent.engine import places_of, spans, states_of
from dissect_sesparse.extent.entry import BARE_UNMAPPED, State
from dissect_sesparse.extent.sesparse import SESparseExtent
from dissect_sesparse.source.errors import UnreadableError
from dissect_sesparse.trimmed.content import Content, describe
from dissect_sesparse.trimmed.parts import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.chain.link import Link, Placed
    from dissect_sesparse.trimmed.parts import Part

GROUP_BLOCKS = 8192
"""Blocks of 16 MiB looked at in one pass over the tables: 128 GiB of the file, 32 MiB of memory."""
ZERO_GRAIN = bytes(GRAIN_SIZE)


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
class SkippedGrains:
    """What was not listed."""

    zero_grains: int = 0
    unreadable_grains: int = 0


def unreferenced(
    chain: Chain, *, contents: bool = True, counts: SkippedGrains | None = None, part: Part = WHOLE
) -> Iterator[UnreferencedRun]:
    """The unreferenced runs of all links, newest link first, each extent in the order of its file.

    Args:
        chain: The disk.
        contents: Whether to hash and measure the bytes.
        counts: Where to count what is not listed.
        part: The blocks of grains to go through, see ``parts``.
    """
    counts = counts if counts is not None else SkippedGrains()
    for link in chain.links:
        for number, placed in enumerate(link.extents):
            units = part.units(link.depth, number)
            if isinstance(placed.extent, SESparseExtent) and units is not None:
                for place, size, offset in _runs(placed.extent, counts, *units):
                    content = describe(placed.extent.file.read(place, size)) if contents else None
                    where = None if offset is None else placed.start + offset
                    state = "free" if where is None else "backmap"
                    yield UnreferencedRun(link, placed, place, size, where, state, content)


def _runs(
    extent: SESparseExtent, counts: SkippedGrains, first: int, end: int | None
) -> Iterator[tuple[int, int, int | None]]:
    """Place in the file, size and offset on the extent's disk of each run in some blocks."""
    last_block = -(-extent.metadata.place_limit // TABLE_ENTRIES)
    last_block = last_block if end is None else min(end, last_block)
    for group in range(first, last_block, GROUP_BLOCKS):
        end_block = min(group + GROUP_BLOCKS, last_block)
        free = ~named_places(extent, group, end_block)
        for block in range(group, end_block):
            start = (block - group) * TABLE_ENTRIES
            yield from _block_runs(extent, block, free[start : start + TABLE_ENTRIES], counts)


def named_places(extent: SESparseExtent, first: int, end: int) -> NDArray[np.bool_]:
    """For each place of the blocks from ``first`` to ``end``, whether any entry names it.

    A bare UNMAPPED entry names place 0 only if the backmap says that it had it.
    """
    named = np.zeros((end - first) * TABLE_ENTRIES, bool)
    for _, entries in extent.metadata.sound_tables():
        states = states_of(entries)
        naming = (states == State.ALLOCATED) | (states == State.UNMAPPED) & (entries != BARE_UNMAPPED)
        places = places_of(entries[naming])
        inside = (places >= first * TABLE_ENTRIES) & (places < end * TABLE_ENTRIES)
        named[(places[inside] - first * TABLE_ENTRIES).astype(np.intp)] = True
    if first == 0 and BareRule(extent.metadata).owner is not None:
        named[0] = True
    return named


def _block_runs(
    extent: SESparseExtent, block: int, free: NDArray[np.bool_], counts: SkippedGrains
) -> Iterator[tuple[int, int, int | None]]:
    """The runs of a block's places that are free and not zero."""
    first = block * TABLE_ENTRIES
    free = free[: max(0, min(TABLE_ENTRIES, extent.metadata.place_limit - first))]
    if len(free) and block == extent.header.free_gt_number and _is_trailer(extent, first):
        free[0] = False
    for start, count in spans(free):
        begin = extent.metadata.grains_offset + (first + start) * GRAIN_SIZE
        if extent.file.next_data(begin) >= begin + count * GRAIN_SIZE:
            counts.zero_grains += count  # a hole of the file
            continue
        try:
            data = extent.file.read(begin, min(count * GRAIN_SIZE, extent.file.size - begin))  # the last may be cut off
        except UnreadableError:
            counts.unreadable_grains += count
            continue
        words = extent.metadata.words(first + start, count)
        owners = np.full(count, -1, np.int64)
        owners[: len(words)] = extent.backmap.owners_of(words)
        yield from _joined(begin, data, owners.tolist(), counts)


def _is_trailer(extent: SESparseExtent, place: int) -> bool:
    """Whether a place is the end mark of the file: 4 KiB of 0xff behind the last block in use (seen once)."""
    begin = extent.metadata.grains_offset + place * GRAIN_SIZE
    return extent.file.read_some(begin, GRAIN_SIZE + 1) == b"\xff" * GRAIN_SIZE


def _joined(begin: int, data: bytes, owners: list[int], counts: SkippedGrains) -> Iterator[tuple[int, int, int | None]]:
    """Grains that are not zero, joined where place and address go on."""
    run: tuple[int, int, int | None] | None = None
    for number, owner in enumerate(owners):
        size = min(GRAIN_SIZE, len(data) - number * GRAIN_SIZE)
        if data.startswith(ZERO_GRAIN[:size], number * GRAIN_SIZE):
            counts.zero_grains += 1
            continue
        place, offset = begin + number * GRAIN_SIZE, None if owner < 0 else owner * GRAIN_SIZE
        if run is not None and place == run[0] + run[1] and offset == (None if run[2] is None else run[2] + run[1]):
            run = (run[0], run[1] + size, run[2])
            continue
        if run is not None:
            yield run
        run = (place, size, offset)
    if run is not None:
        yield run
