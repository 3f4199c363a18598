"""A QCOW2 image, written in one go: complete, or what is other than in the image below it.

References: ``docs/interop/qcow2.rst`` of QEMU. Of version 3, since only that says that a cluster is zeros above an image that
has something else there. All clusters are in use once, nothing is compressed::

    header, backing format and name | L1 table | clusters and L2 tables, as they come | refcount blocks | refcount table

What is written follows from the disk alone, so that the same image has the same bytes.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import TYPE_CHECKING

from dissect_sesparse.source.errors import SESparseError

if TYPE_CHECKING:
    from dissect_sesparse.recovery.sparse_file import OutputFile

CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
"""Bytes of a cluster: QEMU's default. With it an L2 table has the clusters of 512 MiB."""
_ENTRIES = CLUSTER // 8
_REFCOUNTS = CLUSTER // 2
"""Of 16 bits, in a cluster."""
_COPIED = 1 << 63
"""In an entry: the cluster is in use once."""
_ZERO = 1
"""In an entry of an L2 table: the cluster is zeros, whatever is below."""
_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_BACKING_FORMAT = 0xE2792ACA
MAX_SIZE = (32 << 20) // 8 * _ENTRIES * CLUSTER
"""Bytes of a disk: QEMU takes L1 tables of 32 MiB."""


class Qcow2File:
    """A QCOW2 image that is being written.

    Args:
        file: Where; its size is set in the end.
        size: Bytes of the disk.
        backing: The name of the image below it, in the same folder and of the same format.

    Raises:
        SESparseError: If such an image cannot have the size.
    """

    def __init__(self, file: OutputFile, size: int, backing: str | None = None):
        if size > MAX_SIZE:
            raise SESparseError(f"a QCOW2 image has at most {MAX_SIZE} bytes, the disk has {size}", file=file.path)
        self.file = file
        self.size = size
        self.backing = backing.encode() if backing is not None else b""
        self._l1 = array("Q", bytes(8 * -(-size // (_ENTRIES * CLUSTER))))
        self._l1_clusters = max(1, -(-len(self._l1) // _ENTRIES))
        self._next = 1 + self._l1_clusters
        self._number = 0
        self._l2: array | None = None

    def data(self, offset: int, data: bytes) -> None:
        """Put whole clusters, in the order of the disk; of the last one no more than the disk has.

        Clusters of zeros take no room; above another image it is noted that they are zeros.
        """
        for start in range(0, len(data), CLUSTER):
            cluster = data[start : start + CLUSTER]
            number = (offset + start) // CLUSTER
            if not cluster.strip(b"\0") if len(cluster) < CLUSTER else cluster == _ZEROS:
                self._zero(number, number + 1)
                continue
            table = self._table(number)  # which may write the one before it, where this cluster would be
            table[number % _ENTRIES] = self._next * CLUSTER | _COPIED
            self._put(cluster.ljust(CLUSTER, b"\0"))

    def zeros(self, start: int, end: int) -> None:
        """Note that whole clusters are zeros, in the order of the disk."""
        self._zero(start // CLUSTER, -(-end // CLUSTER))

    def finish(self) -> None:
        """Write what belongs to all of it."""
        self._end_table()
        self._put_at(1, _big_endian(self._l1), self._l1_clusters)
        table, clusters = self._refcounts()
        header = _HEADER.pack(
            b"QFI\xfb", 3, self._backing_at() if self.backing else 0, len(self.backing), CLUSTER_BITS, self.size, 0,
            len(self._l1), CLUSTER, table, clusters, 0, 0, 0, 0, 0, 4, _HEADER.size,
        )  # fmt: skip
        self._put_at(0, header + self._extensions() + self.backing, 1)
        self.file.truncate(self._next * CLUSTER)

    def _zero(self, first: int, last: int) -> None:
        while self.backing and first < last:
            until = min(last, (first // _ENTRIES + 1) * _ENTRIES)
            begin = first % _ENTRIES
            self._table(first)[begin : begin + until - first] = array("Q", [_ZERO]) * (until - first)
            first = until

    def _table(self, cluster: int) -> array:
        """The L2 table of a cluster. The one before it is written, once there is another."""
        if self._l2 is None or cluster // _ENTRIES != self._number:
            self._end_table()
            self._number, self._l2 = cluster // _ENTRIES, array("Q", bytes(CLUSTER))
        return self._l2

    def _end_table(self) -> None:
        if self._l2 is not None:
            self._l1[self._number] = self._next * CLUSTER | _COPIED
            self._put(_big_endian(self._l2))
            self._l2 = None

    def _put(self, cluster: bytes) -> None:
        self.file.put(self._next * CLUSTER, cluster)
        self._next += 1

    def _put_at(self, first: int, data: bytes, clusters: int) -> None:
        self.file.put(first * CLUSTER, data.ljust(clusters * CLUSTER, b"\0"))

    def _refcounts(self) -> tuple[int, int]:
        """Write the refcounts: 1 for each cluster, their own too. Where their table is, and its clusters."""
        used = self._next
        blocks = tables = 0
        while blocks * _REFCOUNTS < used + blocks + tables or tables * _ENTRIES < blocks:
            blocks = -(-(used + blocks + tables) // _REFCOUNTS)
            tables = -(-blocks // _ENTRIES)
        total, table = used + blocks + tables, array("Q")
        for number in range(blocks):
            table.append(self._next * CLUSTER)
            count = min(_REFCOUNTS, total - number * _REFCOUNTS)
            self._put((b"\0\1" * count).ljust(CLUSTER, b"\0"))
        place = self._next
        self._put_at(place, _big_endian(table), tables)
        self._next += tables
        return place * CLUSTER, tables

    def _extensions(self) -> bytes:
        named = struct.pack(">II8s", _BACKING_FORMAT, 5, b"qcow2") if self.backing else b""
        return named + bytes(8)

    def _backing_at(self) -> int:
        return _HEADER.size + len(self._extensions())


_ZEROS = bytes(CLUSTER)


def _big_endian(words: array) -> bytes:
    if sys.byteorder == "little":
        words = words[:]
        words.byteswap()
    return words.tobytes()
