"""What a disk must read as: the answer to a case, known from how its image was made.

Every sector of a test's disk says whose it is and which, in text: ``base disk-sector 0000123``. So the answer is a list of
pieces, each with the tag that its sectors carry, and a byte from elsewhere tells where it came from.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from sesparse_builder import grain_data

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 2048
"""Sectors of a chunk of pattern, 1 MiB."""
SMALL = 131072
"""Sectors (64 MiB) up to which a disk is read as a whole; of larger ones only what is near the pieces."""
NEAR = 256
"""Sectors on both sides of a piece's bounds that are read of a large disk."""

MUST, MAY, NEVER = "must", "may", "never"
"""Whether the bytes have to be read, may be read or raise, or cannot be had, so that the read has to raise."""


class Piece(NamedTuple):
    """A range of sectors with one answer."""

    first: int
    end: int
    tag: str | bytes | None
    """What the sectors carry; bytes for the one content of each of them; ``None`` for zeros."""
    reading: str = MUST


class Picture:
    """The sectors of a disk. All zeros, until something is painted over them."""

    def __init__(self, sectors: int, tag: str | None = None):
        self.sectors = sectors
        self.pieces = [Piece(0, sectors, tag)] if sectors else []

    @classmethod
    def of(cls, sectors: int, pieces: list[Piece]) -> Picture:
        """A picture of pieces that are in order and without a gap."""
        picture = cls(sectors)
        picture.pieces = pieces
        return picture

    def paint(self, first: int, count: int, tag: str | bytes | None, reading: str = MUST) -> Picture:
        """This picture with a range painted over; what lies outside of the disk is cut off."""
        new = Piece(first, min(first + count, self.sectors), tag, reading)
        if new.first >= new.end:
            return self
        return self.of(self.sectors, sorted([*self._outside(new.first, new.end), new], key=lambda piece: piece.first))

    def _outside(self, first: int, end: int) -> Iterator[Piece]:
        for piece in self.pieces:
            if piece.first < first:
                yield piece._replace(end=min(piece.end, first))
            if piece.end > end:
                yield piece._replace(first=max(piece.first, end))

    def resized(self, sectors: int) -> Picture:
        """This picture cut, or followed by zeros."""
        more = [Piece(self.sectors, sectors, None)] if sectors > self.sectors else []
        return self.of(sectors, [*self.within(0, sectors), *more])

    @property
    def partial(self) -> bool:
        """Whether a part of the disk cannot be had."""
        return any(piece.reading == NEVER for piece in self.pieces)

    def within(self, first: int, end: int) -> list[Piece]:
        """The pieces of a range."""
        pieces = []
        for number in range(bisect_right(self.pieces, first, key=lambda piece: piece.end), len(self.pieces)):
            piece = self.pieces[number]
            if piece.first >= end:
                break
            pieces.append(piece._replace(first=max(piece.first, first), end=min(piece.end, end)))
        return pieces

    def windows(self) -> list[tuple[int, int]]:
        """The ranges of sectors that are read: all, or of a large disk what is near the bounds of its pieces."""
        if self.sectors <= SMALL:
            return [(0, self.sectors)]
        bounds = sorted({0, self.sectors, *(piece.first for piece in self.pieces)})
        windows: list[tuple[int, int]] = []
        for bound in bounds:
            first, end = max(0, bound - NEAR), min(self.sectors, bound + NEAR)
            if windows and first <= windows[-1][1]:
                first = windows.pop()[0]
            windows.append((first, end))
        return windows


def content(tag: str | bytes | None, first: int, end: int) -> bytes:
    """The bytes of a range of sectors that carry a tag."""
    if tag is None:
        return bytes((end - first) * 512)
    if isinstance(tag, bytes):
        return tag * (end - first)
    parts = []
    while first < end:
        number, start = divmod(first, CHUNK)
        stop = min(CHUNK, start + end - first)
        parts.append(_chunk(tag, number)[start * 512 : stop * 512])
        first += stop - start
    return parts[0] if len(parts) == 1 else b"".join(parts)


@lru_cache(maxsize=64)
def _chunk(tag: str, number: int) -> bytes:
    return b"".join(grain_data(tag, grain) for grain in range(number * CHUNK // 8, (number + 1) * CHUNK // 8))
