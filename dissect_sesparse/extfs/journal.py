"""The journal of an ext file system (jbd2) as a history: committed transactions, whether they were replayed or not.

A journal is a ring of blocks. A transaction is a descriptor block with a tag for each block of the file system that follows in a copy, any
number of these, and a commit block with its time (Linux, include/linux/jbd2.h, fs/jbd2/commit.c). Nothing is wiped when a transaction was
written where it belongs: its copies stay until the ring comes round. A transaction counts here only if all of it is there, from a
descriptor to its commit, one block behind the other; a copy only if its checksum fits, where the journal has any.

dissect.extfs reads the tags of a journal that is neither of 64 bits nor with checksums of version 3 at wrong places (``docs/upstream.md``),
and does not ask whether what follows a descriptor is its own.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from dissect.util.hash import crc32c

from dissect_sesparse.extfs.inode import ExtError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_JOURNAL = 4 << 30
"""Bytes of a journal: mke2fs makes 1 GiB at the most."""
_MAGIC = 0xC03B3998
_DESCRIPTOR, _COMMIT, _REVOKE = 1, 2, 5
_BITS_64, _CHECKSUM_2, _CHECKSUM_3, _FAST_COMMIT = 0x02, 0x08, 0x10, 0x20
"""JBD2_FEATURE_INCOMPAT_64BIT, _CSUM_V2, _CSUM_V3, _FAST_COMMIT."""
_ESCAPED, _SAME_UUID, _LAST = 1, 2, 8
_FAST_BLOCKS = 256
_STEP = 4 << 20


class BlockCopy(NamedTuple):
    """A copy of a block of the file system."""

    block: int
    at: int
    """In which block of the journal."""
    escaped: bool
    checksum: int | None


class Transaction(NamedTuple):
    """What was changed together, and is committed."""

    sequence: int
    committed: int
    """By the guest's clock, in nanoseconds since 1970."""
    copies: tuple[BlockCopy, ...]


class ExtJournal:
    """The journal of one state.

    Args:
        read: Reads it.
        size: Of it, in bytes.

    Raises:
        ExtError: If it is none.
        Exception: What ``read`` raises.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int):
        self._read = read
        head = read(0, 1024)
        magic, kind, _, self.block_size, length, self.first = struct.unpack_from(">6I", head)
        if magic != _MAGIC or kind not in (3, 4) or self.block_size < 1024 or self.block_size & (self.block_size - 1):
            raise ExtError("its journal has no superblock")
        self._features = struct.unpack_from(">I", head, 40)[0] if kind == 4 else 0
        self.uuid = head[48:64]
        self._fast = struct.unpack_from(">I", head, 84)[0] or _FAST_BLOCKS if self._features & _FAST_COMMIT else 0
        self.end = min(length, size // self.block_size) - self._fast
        if not 0 < self.first < self.end or self.end * self.block_size > MAX_JOURNAL:
            raise ExtError(f"its journal is said to be {length} blocks, from {self.first}")
        self._seed = crc32c.crc32c(self.uuid) ^ 0xFFFFFFFF

    def content(self, copy: BlockCopy, sequence: int) -> bytes | None:
        """A block as the transaction has it; ``None`` where its checksum does not fit."""
        data = self._read(copy.at * self.block_size, self.block_size)
        if copy.checksum is not None:
            found = self._checksum(struct.pack(">I", sequence) + data)
            if copy.checksum != (found if self._features & _CHECKSUM_3 else found & 0xFFFF):
                return None
        return struct.pack(">I", _MAGIC) + data[4:] if copy.escaped else data

    def _checksum(self, data: bytes) -> int:
        """CRC-32C as Linux has it: it starts from the seed, and is not turned round at the end."""
        return crc32c.crc32c(data, self._seed ^ 0xFFFFFFFF) ^ 0xFFFFFFFF

    def transactions(self) -> Iterator[Transaction]:
        """All that are whole, in the order of the journal; one that goes round its end may come in two parts."""
        heads = self._heads()
        done: set[int] = set()
        for at in sorted(heads):
            if heads[at][0] == _DESCRIPTOR and at not in done:
                found, passed = self._transaction(at, heads)
                if found is not None:
                    done |= passed
                    yield found

    def _heads(self) -> dict[int, tuple[int, int]]:
        """The blocks that are no copies: kind and number of their transaction."""
        heads: dict[int, tuple[int, int]] = {}
        words = self.block_size // 4
        for start in range(self.first, self.end, _STEP // self.block_size):
            count = min(self.end - start, _STEP // self.block_size)
            data = self._read(start * self.block_size, count * self.block_size)
            array = np.frombuffer(data, ">u4", len(data) // self.block_size * words).reshape(-1, words)
            for number in np.flatnonzero(array[:, 0] == _MAGIC).tolist():
                heads[start + number] = int(array[number, 1]), int(array[number, 2])
        return heads

    def _transaction(self, at: int, heads: dict[int, tuple[int, int]]) -> tuple[Transaction | None, set[int]]:
        sequence, passed, copies = heads[at][1], set(), []
        while at not in passed:
            kind, number = heads.get(at, (0, 0))
            if number != sequence or kind not in (_DESCRIPTOR, _COMMIT, _REVOKE):
                break
            passed.add(at)
            if kind == _COMMIT:
                head = self._read(at * self.block_size, 64)
                seconds, parts = struct.unpack_from(">QI", head, 48)
                committed = seconds * 1_000_000_000 + parts % 1_000_000_000
                return Transaction(sequence, committed if seconds < 1 << 33 else 0, tuple(copies)), passed
            if kind == _DESCRIPTOR:
                for block, flags, checksum in self._tags(self._read(at * self.block_size, self.block_size)):
                    at = self._next(at)
                    copies.append(BlockCopy(block, at, bool(flags & _ESCAPED), checksum))
            at = self._next(at)
        return None, passed

    def _next(self, at: int) -> int:
        return at + 1 if at + 1 < self.end else self.first

    def _tags(self, block: bytes) -> Iterator[tuple[int, int, int | None]]:
        """Which blocks follow a descriptor: block, flags, checksum."""
        at, end = 12, len(block) - (4 if self._features & (_CHECKSUM_2 | _CHECKSUM_3) else 0)
        size = 8 + 4 * bool(self._features & _BITS_64) + 2 * bool(self._features & _CHECKSUM_2)
        if self._features & _CHECKSUM_3:
            size = 16
        while at + size <= end:
            checksum: int | None = None
            if self._features & _CHECKSUM_3:
                low, flags, high, checksum = struct.unpack_from(">4I", block, at)
            else:
                low, short, flags = struct.unpack_from(">IHH", block, at)
                high = struct.unpack_from(">I", block, at + 8)[0] if self._features & _BITS_64 else 0
                checksum = short if self._features & _CHECKSUM_2 else None
            yield (high if self._features & _BITS_64 else 0) << 32 | low, flags, checksum
            if flags & _LAST:
                return
            at += size + (0 if flags & _SAME_UUID else 16)
