"""Whether an extent's directory or its tables were emptied.

Without them the extent looks as if nothing had been written to it, and every read of the disk would look sound and show an
older state. Free bitmap and backmap tell: where one of them has places in use, and no entry is left, nothing of the extent
can be read (``salvage=1`` rebuilds it). That a host clears neither as long as a grain is in use is confirmed for the bitmap,
and seen in one real extent for the backmap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.disk.c_sesparse import GRAIN_SIZE, TABLE_ENTRIES
from dissect_sesparse.disk.errors import UnreadableError

if TYPE_CHECKING:
    from dissect_sesparse.disk.header import Region
    from dissect_sesparse.disk.sesparse import SESparseExtent

_CHUNK = 1 << 20
_FIRST = 64
"""Tables that are looked at when a disk is opened: 1 GiB of it."""


class Kept(NamedTuple):
    """Which of the regions that repeat what the tables and the volatile header say are not all zero."""

    bitmap: bool
    backmap: bool
    journal_header: bool


def kept(extent: SESparseExtent) -> Kept:
    """Which copies an extent has. Reads no further than the first byte that is not zero."""
    regions = extent.header.regions
    places = extent.place_limit
    return Kept(
        _has_data(extent, regions["free_bitmap"], -(-places // 8)),
        _has_data(extent, regions["backmap"], places * 8),
        _has_data(extent, regions["journal_header"], 32),
    )


def _has_data(extent: SESparseExtent, region: Region, size: int) -> bool:
    """Whether any of a region's first bytes is not zero."""
    position, end = region.offset, region.offset + min(size, region.size)
    while position < end:
        if extent.metadata is extent.file:  # holes of a sparse file are passed over
            position = max(position, extent.file.next_data(position))
        data = extent.metadata.read_some(position, max(0, min(_CHUNK, end - position)))
        if not data:
            return False
        if data.count(0) < len(data):
            return True
        position += len(data)
    return False


class Emptied(NamedTuple):
    """What was emptied, and what tells it."""

    region: str
    """``grain_directory`` or ``grain_tables``."""
    kept: Kept

    def __str__(self) -> str:
        copies = ["the free bitmap"] * self.kept.bitmap + ["the backmap"] * self.kept.backmap
        return f"all entries of the {self.region} are 0, although {' and '.join(copies)} have places in use"


def find_emptied(extent: SESparseExtent) -> Emptied | None:
    """What was emptied, if anything. Quick enough for every opening: :data:`_FIRST` tables at most."""
    looked_at = 0
    grains = -(-extent.size // GRAIN_SIZE)
    for table in extent.tables():
        first = table * TABLE_ENTRIES
        entries = extent.entries(first, min(TABLE_ENTRIES, grains - first))
        looked_at += 1
        if looked_at > _FIRST or (entries is not None and entries.count(0) < len(entries)):
            return None
    try:
        found = kept(extent)
    except UnreadableError:  # told by what goes through the tables
        return None
    if extent.lost_from < extent.size or not (found.bitmap or found.backmap):
        return None
    return Emptied("grain_tables" if looked_at else "grain_directory", found)
