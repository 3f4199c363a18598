"""Which bytes that were written in the time of a link count as there: zeros may be what the host reclaimed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.time.views import Period


def present_parts(period: Period, place: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Those bytes of a piece of the disk that are in grains that are not all zeros, with their place in the piece."""
    first = 0  # of what is kept
    position = 0
    while position < len(data):
        end = min(len(data), position + GRAIN_SIZE - (place + position) % GRAIN_SIZE)
        if not data[position:end].strip(b"\x00") and period.is_empty(place + position):
            if first < position:
                yield first, data[first:position]
            first = end
        position = end
    if first < len(data):
        yield first, data[first:]
