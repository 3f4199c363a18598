"""What items of the log of XFS say: inodes as they were, and the names in folders.

A small folder lies in its inode. A larger one has blocks, of which the log has the pieces of 128 bytes that were changed, see
``blocks``.

References: Linux, fs/xfs/libxfs/xfs_log_format.h (``xfs_inode_log_format``, ``xfs_log_dinode``, ``xfs_buf_log_format``) and
xfs_da_format.h (``xfs_dir2_sf_hdr``).
"""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.xfs.log import Item

INODE, BUFFER = 0x123B, 0x123C
"""XFS_LI_INODE, XFS_LI_BUF."""
_DATA_IN_INODE = 0x2
"""XFS_ILOG_DDATA: what the inode holds follows."""
_DIRECTORY_BLOCKS = {10, 11}
"""XFS_BLFT_DIR_BLOCK_BUF, XFS_BLFT_DIR_DATA_BUF: kinds of buffers, in the upper five bits of their flags."""
_CANCEL = 0x2
_PIECE = 128
"""Bytes that a bit of a buffer's map stands for (XFS_BLF_CHUNK)."""
_BIGTIME = 0x8
_CORE = struct.Struct("<HHBB10xI12xQQQQ28xI")
"""Magic, mode, version, format, links, times of access, modification and change, size, generation (offset 92)."""
_SIZES = {2: 96, 3: 176}
"""Bytes of an inode's core by its version."""


class InodeImage(NamedTuple):
    """An inode as a transaction left it. Times in nanoseconds since 1970."""

    lsn: int
    number: int
    generation: int
    mode: int
    """0: it is free, and its generation the next one."""
    links: int
    size: int
    accessed: int
    modified: int
    changed: int
    born: int
    """0 in version 2, which does not have it."""

    @property
    def lives(self) -> bool:
        """Whether a name, or a process, leads to it."""
        return self.mode != 0 and self.links > 0


class NameImage(NamedTuple):
    """A name that a folder had when a transaction was done."""

    folder: int
    """Its inode."""
    name: bytes
    number: int
    """The inode that it leads to."""


class BlockPieces(NamedTuple):
    """The pieces of a block of a folder that were changed. In bytes."""

    place: int
    """Of the block in its file system."""
    size: int
    pieces: tuple[tuple[int, bytes], ...]
    """Offset in the block, and bytes, of each."""


def inode_of(item: Item) -> InodeImage | None:
    """The inode that an item has; ``None`` where it is none, or not as expected."""
    if item.kind != INODE or len(item.regions) < 2 or len(item.regions[0]) < 24 or len(item.regions[1]) < _CORE.size:
        return None
    core = item.regions[1]
    magic, mode, version, _, links, accessed, modified, changed, size, generation = _CORE.unpack_from(core)
    if magic != 0x494E or len(core) < _SIZES.get(version, len(core) + 1):
        return None
    flags, born = (int.from_bytes(core[at : at + 8], "little") if version == 3 else 0 for at in (120, 144))
    accessed, modified, changed, born = (_time(value, flags) for value in (accessed, modified, changed, born))
    number = int.from_bytes(item.regions[0][16:24], "little")
    return InodeImage(item.lsn, number, generation, mode, links, size, accessed, modified, changed, born)


def _time(value: int, flags: int) -> int:
    """A time, in nanoseconds since 1970: 64 bits of them since 1901, or seconds and nanoseconds."""
    if flags & _BIGTIME:
        return value - (1 << 31) * 10**9
    seconds = value & 0xFFFFFFFF
    return (seconds - (seconds >> 31 << 32)) * 10**9 + (value >> 32)


def names_in_inode(item: Item, image: InodeImage, *, types: bool) -> Iterator[NameImage]:
    """The names of a folder that lies in its inode.

    Args:
        item: What has the inode.
        image: The inode.
        types: Whether an entry has the type of what it leads to.
    """
    if not stat.S_ISDIR(image.mode) or len(item.regions) < 3 or not item.regions[0][4] & _DATA_IN_INODE:
        return
    data = item.regions[2]
    wide = 8 if data[1:2] != b"\x00" else 4
    at = 2 + wide
    for _ in range(data[0] if data else 0):
        size = data[at] if at < len(data) else 0
        end = at + 3 + size + types + wide
        if not size or end > len(data):
            return
        name = data[at + 3 : at + 3 + size]
        yield NameImage(image.number, name, int.from_bytes(data[end - wide : end], "big"))
        at = end


def block_of(item: Item) -> BlockPieces | None:
    """The pieces of a folder's block that an item has; ``None`` where it is none."""
    head = item.regions[0]
    if item.kind != BUFFER or len(head) < 20:
        return None
    flags = int.from_bytes(head[4:6], "little")
    if flags >> 11 not in _DIRECTORY_BLOCKS or flags & _CANCEL:
        return None
    return BlockPieces(block_place(item), int.from_bytes(head[6:8], "little") * 512, tuple(_pieces(item)))


def block_place(item: Item) -> int:
    """Where in its file system the block of a buffer is, in bytes."""
    return int.from_bytes(item.regions[0][8:16], "little") * 512


def _pieces(item: Item) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each region of a buffer: one for each row of bits in its map."""
    head = item.regions[0]
    bits = int.from_bytes(head[20 : 20 + 4 * int.from_bytes(head[16:20], "little")], "little")
    at = 0
    for data in item.regions[1:]:
        while bits and not bits >> at & 1:
            at += 1
            if bits >> at == 0:
                return
        if bits >> at == 0:
            return
        yield at * _PIECE, data
        at += -(-len(data) // _PIECE)
