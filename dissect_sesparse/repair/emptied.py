"""Whether an extent's directory or its tables were emptied.

Without them the extent looks as if nothing had been written to it, and every read of the disk would look sound and show an
older state. Free bitmap and backmap tell: where one of them has places in use, and no entry is left, nothing of the extent
can be read (``salvage=1`` rebuilds it). That a host clears neither as long as a grain is in use is confirmed for the bitmap,
and seen in one real extent for the backmap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE, TABLE_ENTRIES
from dissect_sesparse.extent.doubt import Emptied
from dissect_sesparse.source.errors import UnreadableError

if TYPE_CHECKING:
    from dissect_sesparse.extent.header import Region
    from dissect_sesparse.extent.metadata import Metadata

_CHUNK = 1 << 20
_FIRST = 64
"""Tables that are looked at when a disk is opened: 1 GiB of it."""


class Kept(NamedTuple):
    """Which of the regions that repeat what the tables and the volatile header say are not all zero."""

    bitmap: bool
    backmap: bool
    journal_header: bool


def kept(metadata: Metadata) -> Kept:
    """Which copies an extent has. Reads no further than the first byte that is not zero."""
    regions = metadata.header.regions
    places = metadata.place_limit
    return Kept(
        _has_data(metadata, regions["free_bitmap"], -(-places // 8)),
        _has_data(metadata, regions["backmap"], places * 8),
        _has_data(metadata, regions["journal_header"], 32),
    )


def _has_data(metadata: Metadata, region: Region, size: int) -> bool:
    """Whether any of a region's first bytes is not zero."""
    position, end = region.offset, region.offset + min(size, region.size)
    while position < end:
        if metadata.source is metadata.file:  # holes of a sparse file are passed over
            position = max(position, metadata.file.next_data(position))
        data = metadata.source.read_some(position, max(0, min(_CHUNK, end - position)))
        if not data:
            return False
        if data.count(0) < len(data):
            return True
        position += len(data)
    return False


def find_emptied(metadata: Metadata) -> Emptied | None:
    """What was emptied, if anything. Quick enough for every opening: :data:`_FIRST` tables at most."""
    looked_at = 0
    grains = -(-metadata.header.capacity // GRAIN_SIZE)
    for table in metadata.tables():
        first = table * TABLE_ENTRIES
        entries = metadata.raw_entries(first, min(TABLE_ENTRIES, grains - first))
        looked_at += 1
        if looked_at > _FIRST or (entries is not None and entries.count(0) < len(entries)):
            return None
    try:
        found = kept(metadata)
    except UnreadableError:  # told by what goes through the tables
        return None
    if metadata.lost_from < metadata.header.capacity or not (found.bitmap or found.backmap):
        return None
    return Emptied("grain_tables" if looked_at else "grain_directory", found.bitmap, found.backmap)
