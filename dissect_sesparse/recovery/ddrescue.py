"""Which ranges of an image were recovered, and the map file of GNU ddrescue that says so.

A map is lines of position, size and status without a gap: ``+`` recovered, ``?`` not tried, so not there, ``-`` tried and
not to be had. Its format is in ddrescue's manual, chapter *Mapfile structure*; ``ddrescuelog`` and other tools read it.
"""

from __future__ import annotations

from itertools import chain as chained
from typing import TYPE_CHECKING

from dissect_sesparse.recovery.sparse_file import OutputFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dissect_sesparse.recovery.writing import OutputFolder

_UNITS = 4096
"""Of a block; one big integer has a bit for each."""
_MAP_CHUNK = 1 << 16


class Coverage:
    """A set of ranges. Its memory is a bit for each unit of those blocks of 4096 units that have any.

    Args:
        unit: Bytes; all ranges start at a multiple of it, and end at one or at the disk's end.
    """

    def __init__(self, unit: int):
        self.unit = unit
        self._blocks: dict[int, int] = {}

    def add(self, offset: int, size: int) -> None:
        """Put a range in."""
        for block, first, end in self._parts(offset, size):
            self._blocks[block] = self._blocks.get(block, 0) | ((1 << end - first) - 1) << first

    def split(self, offset: int, size: int) -> Iterator[tuple[int, int, bool]]:
        """Cut a range where its being in the set changes: offset, size and whether it is in."""
        last: tuple[int, int, bool] | None = None
        for start, end, inside in self._pieces(offset, size):
            if last is not None and last[2] == inside:
                last = (last[0], end - last[0], inside)
                continue
            if last is not None:
                yield last
            last = (start, end - start, inside)
        if last is not None:
            yield last

    def _pieces(self, offset: int, size: int) -> Iterator[tuple[int, int, bool]]:
        """The same as first and last byte, cut at blocks too."""
        for block, first, end in self._parts(offset, size):
            bits = self._blocks.get(block, 0) >> first & (1 << end - first) - 1
            position = 0
            for start, count in _spans(bits):
                if start > position:
                    yield *self._bytes(block, first + position, first + start, offset, size), False
                yield *self._bytes(block, first + start, first + start + count, offset, size), True
                position = start + count
            if position < end - first:
                yield *self._bytes(block, first + position, end, offset, size), False

    def _bytes(self, block: int, first: int, end: int, offset: int, size: int) -> tuple[int, int]:
        base = block * _UNITS
        return max(offset, (base + first) * self.unit), min(offset + size, (base + end) * self.unit)

    def _parts(self, offset: int, size: int) -> Iterator[tuple[int, int, int]]:
        """The blocks of a range: number, first unit in it, one past the last."""
        unit, last = offset // self.unit, -(-(offset + size) // self.unit)
        while unit < last:
            block, first = divmod(unit, _UNITS)
            end = min(_UNITS, first + last - unit)
            yield block, first, end
            unit += end - first

    def ranges(self, size: int) -> Iterator[tuple[int, int]]:
        """The ranges in the set, as offset and size, sorted, as long as can be; ``size`` is that of the disk."""
        start = end = 0
        for block in sorted(self._blocks):
            for first, count in _spans(self._blocks[block]):
                low = (block * _UNITS + first) * self.unit
                high = min(low + count * self.unit, size)
                if low != end:
                    if end > start:
                        yield start, end - start
                    start = low
                end = high
        if end > start:
            yield start, end - start


def _spans(bits: int) -> Iterator[tuple[int, int]]:
    """The runs of set bits: first bit, and how many."""
    position = 0
    while bits:
        skip = (bits & -bits).bit_length() - 1
        bits >>= skip
        count = (~bits & bits + 1).bit_length() - 1
        bits >>= count
        yield position + skip, count
        position += skip + count


def map_lines(
    size: int, ranges: Iterable[tuple[int, int]], version: str, *, inside: str = "+", outside: str = "?"
) -> Iterator[str]:
    """The lines of a map file.

    Args:
        size: Bytes of the image.
        ranges: Offset and size of what has the status ``inside``, sorted, no two touching.
        version: Of this package.
        inside: That status.
        outside: That of all else.
    """
    missing = "? elsewhere" if outside == "?" else "- cannot be had"
    yield f"# Mapfile. Created by dissect-sesparse {version}\n"
    yield f"# + recovered bytes, {missing} (zeros in the image that mean nothing)\n"
    yield "# current_pos  current_status  current_pass\n"
    yield "0x00000000     +               1\n"
    yield "#      pos        size  status\n"
    position = 0
    for offset, length in ranges:
        if offset > position:
            yield f"0x{position:08X}  0x{offset - position:08X}  {outside}\n"
        yield f"0x{offset:08X}  0x{length:08X}  {inside}\n"
        position = offset + length
    if position < size:
        yield f"0x{position:08X}  0x{size - position:08X}  {outside}\n"


def put_map(folder: OutputFolder, name: str, lines: Iterable[str]) -> int:
    """Write the lines of a map file, or verify those that are there.

    Returns:
        Bytes that were not there before.

    Raises:
        RecoverError: If it cannot be written, or is whole and says something else.
    """
    file, position, chunk = OutputFile(folder, name), 0, b""
    try:
        for line in chained(lines, [""]):
            chunk += line.encode()
            if len(chunk) > _MAP_CHUNK or not line:
                file.put(position, chunk)
                position, chunk = position + len(chunk), b""
        file.truncate(position)
        file.finish()
    finally:
        file.close()
    return file.written
