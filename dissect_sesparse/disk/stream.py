"""The disk as a file object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dissect.util.stream import AlignedStream

from dissect_sesparse.disk.c_sesparse import SECTOR

if TYPE_CHECKING:
    from dissect_sesparse.disk.chain import Chain


class ChainStream(AlignedStream):
    """A chain as a file object with a position of its own. Open one for each consumer; they share the chain's tables."""

    def __init__(self, chain: Chain):
        self.chain = chain
        # A larger block would let one sector that cannot be had take its neighbours along. Disks are whole sectors.
        super().__init__(chain.size, align=SECTOR)

    def read(self, n: int = -1) -> bytes:
        """Up to ``n`` bytes. Where a read raises, the position stays: whoever goes on is where they think they are."""
        before = self._pos
        try:
            return super().read(n)
        except BaseException:
            self.seek(before)
            raise

    def _read(self, offset: int, length: int) -> bytes:
        return self.chain.read(offset, length)
