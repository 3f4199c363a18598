"""The disk as a file object."""

from __future__ import annotations

import io
from typing import Protocol

from dissect.util.stream import AlignedStream

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE
from dissect_sesparse.source.errors import UnreadableError


class Disk(Protocol):
    """What a stream reads: a chain."""

    size: int

    def read(self, offset: int, length: int) -> bytes: ...


class ChainStream(AlignedStream):
    """A chain as a file object with a position of its own. Open one for each consumer; they share the chain's tables.

    Small reads are served from a block around them, as file systems read many sectors in a row. Where that block cannot be
    had whole, exactly what was asked for is read: a bad sector costs none of its neighbours. Where a read raises, the
    position stays, so that whoever goes on is where they think they are.
    """

    def __init__(self, chain: Disk):
        self.chain = chain
        self._block: tuple[int, bytes] = (0, b"")
        super().__init__(chain.size, align=GRAIN_SIZE)

    def seek(self, pos: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or pos < 0:
            pos = self._seek(pos, whence)
        self._pos = pos
        return pos

    def _set_pos(self, pos: int) -> None:
        self._pos = pos

    def read(self, n: int | None = -1) -> bytes:
        """Up to ``n`` bytes, or all up to the end.

        Raises:
            UnreadableError: If any of them cannot be had.
        """
        pos = self._pos
        left = self.size - pos  # type: ignore[operator]  # it is known
        if n is None or n < 0 or n > left:
            if n is not None and n < -1:
                raise ValueError(f"invalid number of bytes to read: {n}")
            n = max(0, left)
        start, block = self._block
        if 0 <= pos - start <= len(block) - n:
            data = block[pos - start : pos - start + n]
        elif n >= GRAIN_SIZE:
            data = self.chain.read(pos, n)
        else:
            data = self._read_small(pos, n)
        self._pos = pos + n
        return data

    def _read_small(self, pos: int, n: int) -> bytes:
        start = pos - pos % GRAIN_SIZE
        size = -(-(pos + n) // GRAIN_SIZE) * GRAIN_SIZE - start
        try:
            block = self.chain.read(start, size)
        except UnreadableError:
            return self.chain.read(pos, n)
        self._block = (start, block)
        return block[pos - start : pos - start + n]

    def _read(self, offset: int, length: int) -> bytes:
        return self.chain.read(offset, length)
