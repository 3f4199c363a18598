"""Which clusters of an NTFS volume are in use, as its ``$Bitmap`` tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dissect_sesparse.extent.engine import bits_of, spans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.ntfs.view import NtfsView

_BITMAP = 6
"""The MFT record of ``$Bitmap``."""
_STEP = 4096 * 8
"""Clusters that are looked up together."""


class Bitmap:
    """The bitmap of a volume in one state. Where it cannot be read, no cluster is known to be free or in use."""

    def __init__(self, view: NtfsView):
        self._view = view
        self._cluster = view.ntfs.cluster_size

    def free(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of a range of the volume, in bytes, that no file has."""
        yield from self._parts(start, end, used=False)

    def used(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of a range of the volume, in bytes, that some file has."""
        yield from self._parts(start, end, used=True)

    def _parts(self, start: int, end: int, *, used: bool) -> Iterator[tuple[int, int]]:
        first, last = start // self._cluster, -(-end // self._cluster)
        for block in range(first // _STEP * _STEP, last, _STEP):
            for low, count in self._spans(max(first, block), min(last, block + _STEP), used=used):
                yield max(start, low * self._cluster), min(end, (low + count) * self._cluster)

    def _spans(self, first: int, last: int, *, used: bool) -> Iterator[tuple[int, int]]:
        skip = first % 8
        try:
            fh = self._view.record(_BITMAP).open()
            fh.seek(first // 8)
            data = fh.read(-(-last // 8) - first // 8)
        except Exception:  # then nothing tells
            return
        bits = bits_of(data)[skip : skip + last - first]
        for low, length in spans(bits if used else ~bits):
            yield first + low, length
