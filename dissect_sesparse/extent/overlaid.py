"""Where metadata is read from: a file's own bytes, or with sectors laid over them that a repair has other bytes for.

The file is never written to. A laid-over file reads like an :class:`~dissect_sesparse.source.file.EvidenceFile`, so that who
asks for an entry need not know which of the two it has; a sound extent has the file itself, and pays nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dissect_sesparse.extent.entry import INVALID, INVALID_ENTRY
from dissect_sesparse.source.file import SECTOR

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import PurePath

    from dissect_sesparse.extent.header import Region


class MetadataSource(Protocol):
    """What metadata can be read from."""

    size: int

    @property
    def label(self) -> PurePath | str: ...

    def read(self, offset: int, length: int) -> bytes: ...

    def read_some(self, offset: int, length: int) -> bytes: ...


class LaidOver:
    """A source with some sectors replaced.

    Args:
        below: What is read where nothing is laid over it.
        sectors: New content by sector number.
        distrusted: A region in which an entry of 0 is not believed: it reads as one that is INVALID.
    """

    def __init__(self, below: MetadataSource, sectors: Mapping[int, bytes], distrusted: Region | None = None):
        self.below = below
        self.sectors = sectors
        self.distrusted = distrusted
        self.size = below.size
        self.label = below.label

    def read(self, offset: int, length: int) -> bytes:
        """As :meth:`EvidenceFile.read`."""
        return self._laid_over(offset, self.below.read(offset, length))

    def read_some(self, offset: int, length: int) -> bytes:
        """As :meth:`EvidenceFile.read_some`."""
        return self._laid_over(offset, self.below.read_some(offset, length))

    def _laid_over(self, offset: int, data: bytes) -> bytes:
        end = offset + len(data)
        found = [n for n in range(offset // SECTOR, -(-end // SECTOR)) if n in self.sectors]
        if found:
            patched = bytearray(data)
            for number in found:
                first, last = max(offset, number * SECTOR), min(end, (number + 1) * SECTOR)
                patched[first - offset : last - offset] = self.sectors[number][
                    first - number * SECTOR : last - number * SECTOR
                ]
            data = bytes(patched)
        region = self.distrusted
        if region is not None and region.offset <= offset and end <= region.end and not len(data) % 8:
            data = _without_empty(data)  # entries are asked for whole
        return data


def _without_empty(data: bytes) -> bytes:
    """Entries of 0 made INVALID."""
    if len(data) == 8:  # that of one grain, which is looked up without numpy
        return data if any(data) else INVALID_ENTRY
    from dissect_sesparse.extent.engine import words

    entries = words(data).copy()
    entries[entries == 0] = INVALID
    return entries.tobytes()
