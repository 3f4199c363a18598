"""The log of XFS: what its driver wrote down before it changed the file system, as long as no newer record took its place.

A record is a header, in whose ``h_cycle_data`` stand the first words of the blocks that follow: in the blocks themselves the
number of the turn around the log stands there. That number is what shows that a block is the record's and not an older one's.
The record holds operations, each a piece of a transaction: regions, which make up items. A transaction that is not committed
never happened. Since 2010 a transaction of the log is all that was changed since the last one (a checkpoint of the delayed log):
what was changed several times is in it once, as it was at last.

Numbers of the log itself are big-endian, those of items are of the machine that wrote them: little-endian here.

References: Linux, fs/xfs/libxfs/xfs_log_format.h, fs/xfs/xfs_log_recover.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 512
"""Bytes of a block of the log (BBSIZE)."""
_MAGIC = 0xFEEDBABE
_CHUNK = 1 << 20
_CYCLES = 64
"""First words in a header: those of 32 KiB."""
_MAX_RECORD = 256 << 10
"""Bytes of a record's data (XLOG_MAX_RECORD_BSIZE)."""
_MAX_OPEN = 1024
"""Transactions that are begun and not committed at one time. The driver has few."""
_HEADER = struct.Struct(">IIII QQ IIi")
"""Magic, cycle, version, length, LSN, LSN of the tail, checksum, block of the record before it, operations."""
_OPERATION = struct.Struct(">II BB H")
"""Transaction, length, client, flags."""
_TRANSACTION = 0x69
"""The client that writes transactions."""
_START, _COMMIT, _WAS_CONTINUED = 0x01, 0x02, 0x08
_TRANSACTION_MAGIC = 0x5452414E


class Item(NamedTuple):
    """Something that a transaction changed, as its regions have it: the first tells what it is."""

    lsn: int
    """Of the record in which the transaction was committed: higher is later."""
    regions: list[bytes]

    @property
    def kind(self) -> int:
        """``XFS_LI_INODE``, ``XFS_LI_BUF`` and others."""
        return int.from_bytes(self.regions[0][:2], "little")


class _Record(NamedTuple):
    lsn: int
    before: int
    """The block of the log in which the record before it starts."""
    data: bytes
    """The first words of its blocks put back."""


class Log:
    """The bytes of a log.

    Args:
        volume: What it lies on.
        start: Where, in bytes.
        size: Its size in bytes: whole blocks.
    """

    def __init__(self, volume: Any, start: int, size: int):
        self.size = size // BLOCK * BLOCK
        self._volume = volume
        self._start = start

    def read(self, offset: int, size: int) -> bytes:
        """Some bytes; behind the end it goes on at the start."""
        data = b""
        while size:
            offset %= self.size
            part = min(size, self.size - offset)
            self._volume.seek(self._start + offset)
            data += self._volume.read(part)
            offset, size = offset + part, size - part
        return data


class LogReader:
    """Reads the log of one file system in several states, each from where the one before ended."""

    def __init__(self) -> None:
        self._begun: dict[int, list[bytearray]] = {}
        """The regions of transactions that are not committed yet; the first is its own header."""
        self._done = 0
        """The LSN up to which all was read."""

    def items(self, log: Log) -> Iterator[Item]:
        """What was changed in the transactions that a log has and no log before it had, oldest first.

        Args:
            log: That of the next newer state.
        """
        headers = sorted(_headers(log))
        if headers and headers[-1][0] < self._done:  # a repair made it anew
            self._begun, self._done = {}, 0
        whole = True
        for lsn, at in headers:
            if lsn <= self._done:
                continue
            record = _record(log, lsn, at)
            if record is None or record.before != self._done & 0xFFFFFFFF:
                self._begun.clear()  # what comes in between is not there
            if record is None:  # torn: a newer state may have all of it
                whole = False
                continue
            yield from self._of_record(record)
            self._done = lsn if whole else self._done

    def _of_record(self, record: _Record) -> Iterator[Item]:
        for number, flags, data in _operations(record.data):
            if flags & _START:
                if len(self._begun) >= _MAX_OPEN:
                    self._begun.clear()
                self._begun[number] = []
            regions = self._begun.get(number)
            if regions is None:  # it begins in what is not there any more
                continue
            if flags & _WAS_CONTINUED and regions:
                regions[-1] += data
            elif data:
                regions.append(bytearray(data))
            if flags & _COMMIT:
                del self._begun[number]
                yield from _items(record.lsn, regions)


def _headers(log: Log) -> Iterator[tuple[int, int]]:
    """LSN and place of each record whose header says where it is."""
    magic = _MAGIC.to_bytes(4, "big")
    for start in range(0, log.size, _CHUNK):
        chunk = log.read(start, min(_CHUNK, log.size - start))
        at = chunk.find(magic)
        while at >= 0:
            if at % BLOCK == 0:
                _, cycle, version, length, lsn, *_ = _HEADER.unpack_from(chunk, at)
                if lsn == cycle << 32 | (start + at) // BLOCK and version in (1, 2) and 0 < length <= _MAX_RECORD:
                    yield lsn, start + at
            at = chunk.find(magic, at + 1)


def _record(log: Log, lsn: int, at: int) -> _Record | None:
    """A record; ``None`` if not all of its blocks are its own."""
    header, cycle = log.read(at, BLOCK), lsn >> 32
    _, _, version, length, _, _, _, before, _ = _HEADER.unpack_from(header)
    size = int.from_bytes(header[320:324], "big") if version == 2 else 0
    headers = max(1, -(-min(size, _MAX_RECORD) // (_CYCLES * BLOCK)))
    words = header[44 : 44 + 4 * _CYCLES]
    for number in range(1, headers):
        words += log.read(at + number * BLOCK, BLOCK)[4 : 4 + 4 * _CYCLES]
    blocks = -(-length // BLOCK)
    data, first = bytearray(log.read(at + headers * BLOCK, blocks * BLOCK)), at // BLOCK + headers
    for number in range(blocks):
        own = number * BLOCK
        turn = cycle + (first + number >= log.size // BLOCK)  # behind the end it goes on at the start, in the next turn
        if int.from_bytes(data[own : own + 4], "big") != turn or 4 * number >= len(words):
            return None
        data[own : own + 4] = words[4 * number : 4 * number + 4]
    return _Record(lsn, before, bytes(data[:length]))


def _operations(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Transaction, flags and bytes of each operation of a record."""
    at = 0
    while at + _OPERATION.size <= len(data):
        number, length, client, flags, _ = _OPERATION.unpack_from(data, at)
        at += _OPERATION.size
        if length > len(data) - at:
            return
        if client == _TRANSACTION:
            yield number, flags, data[at : at + length]
        at += length


def _items(lsn: int, regions: list[bytearray]) -> Iterator[Item]:
    """The items of a committed transaction. The first region of each says how many it has."""
    if not regions or int.from_bytes(regions[0][:4], "little") != _TRANSACTION_MAGIC:
        return
    at = 1
    while at < len(regions):
        count = int.from_bytes(regions[at][2:4], "little")
        if not 0 < count <= len(regions) - at:
            return
        yield Item(lsn, [bytes(region) for region in regions[at : at + count]])
        at += count
