"""An inode of ext2, ext3 or ext4, from its bytes alone: of a state's inode table, or of a copy of that in the journal.

Places and values as in Linux, fs/ext4/ext4.h, xattr.h and ext4_extents.h. What dissect.extfs has of an inode always comes from the
table of the state that it opened; here it may come from anywhere.
"""

from __future__ import annotations

import stat
import struct
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXTENTS_FLAG, INLINE_FLAG, INDEX_FLAG = 0x80000, 0x10000000, 0x1000
"""EXT4_EXTENTS_FL, EXT4_INLINE_DATA_FL, EXT4_INDEX_FL."""
NOT_PLAIN_FLAGS = 0x00000004 | 0x00000800 | 0x00100000
"""EXT4_COMPR_FL, EXT4_ENCRYPT_FL, EXT4_VERITY_FL: the bytes in its blocks are not (only) those of the file."""
MAX_DEPTH_OF_EXTENTS = 5
"""Levels of an extent tree (EXT4_MAX_EXTENT_DEPTH)."""
MAX_RUNS = 1_000_000
"""Pieces of a file."""
MAX_NODES = 200_000
"""Blocks that say where the others of a file are: each may name the same one again and again."""
_FIELDS = struct.Struct("<HHIIIIIHHIII60sIIIIHH")
_EXTRA = struct.Struct("<HHIIIII")
_UNWRITTEN = 0x8000
_XATTR_MAGIC = b"\x00\x00\x02\xea"
_XATTR_SYSTEM = 7
_DIRECT = 12


class ExtError(ValueError):
    """What an inode, a block of a folder or a journal says cannot be."""


class ExtUse(NamedTuple):
    """One use of an inode: the next file that gets it has another generation, which the driver draws at random."""

    number: int
    generation: int
    born: int
    """Nanoseconds since 1970; 0 where the inode has no room for it."""

    @property
    def sure(self) -> bool:
        """Whether nothing else can have the same."""
        return bool(self.generation or self.born)


class ExtInode(NamedTuple):
    """What an inode says. Times in nanoseconds since 1970, by the guest's clock."""

    use: ExtUse
    mode: int
    links: int
    size: int
    flags: int
    dtime: int
    """Seconds since 1970 when it was freed, or a link of the list of orphans: the number of an inode."""
    atime: int
    mtime: int
    ctime: int
    block: bytes
    """``i_block``: extents, a list of blocks, or content."""
    attributes: bytes
    """Behind its fields: extended attributes."""

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_live(self) -> bool:
        """Whether a name leads to it."""
        return self.links > 0 and self.mode != 0

    def freed_at(self, inodes: int) -> int | None:
        """When it was freed, in seconds since 1970; ``None`` where it is not, or only its list of orphans is known.

        Args:
            inodes: How many inodes its file system has: what is not greater may be the next one in the list of orphans
                (e2fsck, pass1.c, asks the same).
        """
        return self.dtime if not self.links and self.dtime > inodes else None


def ext_inode(number: int, raw: bytes) -> ExtInode:
    """An inode from its bytes, at least 128.

    Raises:
        struct.error: If these are fewer.
    """
    (mode, _, low, atime, ctime, mtime, dtime, _, links, _, flags, _, block, generation, _, high, *_) = (
        _FIELDS.unpack_from(raw)
    )
    born, extra, attributes = 0, (0, 0, 0), b""
    if len(raw) > 128:
        (room,) = struct.unpack_from("<H", raw, 128)
        room = room if room <= len(raw) - 128 else 0
        fields = _EXTRA.unpack_from(raw[128 : 128 + room].ljust(_EXTRA.size, b"\x00"))
        extra = fields[4], fields[2], fields[3]
        born = _nanoseconds(fields[5], fields[6]) if room >= 24 else 0
        attributes = raw[128 + room :]
    times = map(_nanoseconds, (atime, ctime, mtime), extra)
    accessed, changed, modified = times
    use = ExtUse(number, generation, born)
    return ExtInode(
        use, mode, links, high << 32 | low, flags, dtime, accessed, modified, changed, block, attributes
    )  # fmt: skip


def _nanoseconds(seconds: int, extra: int) -> int:
    """A time of two parts: 32 bits with a sign, and two bits more of the epoch below 30 of nanoseconds."""
    signed = seconds - (1 << 32) if seconds & 0x80000000 else seconds
    return (signed + ((extra & 3) << 32)) * 1_000_000_000 + (extra >> 2)


# Content in the inode itself


def inline_parts(inode: ExtInode) -> tuple[bytes, bytes]:
    """What of a file or folder is in ``i_block``, and what in the attribute ``system.data`` behind it."""
    first = inode.block[: inode.size]
    return first, _system_data(inode.attributes) if inode.size > len(inode.block) or inode.is_folder else b""


def inline_content(inode: ExtInode) -> bytes:
    """All bytes of a file that lies in its inode.

    Raises:
        ExtError: If these are fewer than its size.
    """
    data = b"".join(inline_parts(inode))[: inode.size]
    if len(data) < inode.size:
        raise ExtError(f"inode {inode.use.number}: {inode.size} bytes of inline data, of which it has {len(data)}")
    return data


def _system_data(attributes: bytes) -> bytes:
    """The value of ``system.data``; none where there is no such attribute in the inode."""
    if attributes[:4] != _XATTR_MAGIC:
        return b""
    entries, at = attributes[4:], 0
    while at + 16 <= len(entries) and entries[at : at + 4].strip(b"\x00"):
        length, index, offset, elsewhere, size = struct.unpack_from("<BBHII", entries, at)
        if index == _XATTR_SYSTEM and entries[at + 16 : at + 16 + length] == b"data" and not elsewhere:
            return entries[offset : offset + size]
        at += (16 + length + 3) & ~3
    return b""


# Where its content is


class ExtRun(NamedTuple):
    """Blocks of a file that lie together; ``place`` is ``None`` where they are zeros: a hole, or not written yet."""

    offset: int
    """In the file. All in blocks."""
    place: int | None
    blocks: int


def ext_runs(inode: ExtInode, read: Callable[[int], bytes], block_size: int) -> list[ExtRun]:
    """Where the content of an inode is, without holes that nothing names, by ascending offset.

    Args:
        inode: Which; not one with inline data.
        read: Gives a block by its number; raises where it cannot be had.
        block_size: In bytes.

    Raises:
        ExtError: If it cannot be so.
        Exception: What ``read`` raises.
    """
    nodes = 0

    def node(number: int) -> bytes:
        nonlocal nodes
        nodes += 1
        if nodes > MAX_NODES:
            raise ExtError(f"inode {inode.use.number}: more than {MAX_NODES} blocks that say where the others are")
        return read(number)

    if inode.flags & EXTENTS_FLAG:
        found = list(islice(_extents(inode.block, node, None), MAX_RUNS + 1))
    else:
        found = list(islice(_listed_runs(inode, node, block_size), MAX_RUNS + 1))
    if len(found) > MAX_RUNS:
        raise ExtError(f"inode {inode.use.number}: more than {MAX_RUNS} pieces")
    end = 0
    for run in found:
        if run.offset < end:
            raise ExtError(f"inode {inode.use.number}: pieces that overlap at block {run.offset}")
        end = run.offset + run.blocks
    return found


def _extents(node: bytes, read: Callable[[int], bytes], depth: int | None) -> Iterator[ExtRun]:
    magic, entries, _, level = struct.unpack_from("<HHHH", node)
    if magic != 0xF30A or level > MAX_DEPTH_OF_EXTENTS or (depth is not None and level != depth):
        raise ExtError("no node of an extent tree where one should be")
    if 12 + entries * 12 > len(node):
        raise ExtError(f"a node of an extent tree with {entries} entries")
    for at in range(12, 12 + entries * 12, 12):
        if level:
            _, low, high = struct.unpack_from("<IIH", node, at)
            yield from _extents(read(high << 32 | low), read, level - 1)
        else:
            offset, count, high, low = struct.unpack_from("<IHHI", node, at)
            place = high << 32 | low
            yield ExtRun(offset, place, count) if count <= _UNWRITTEN else ExtRun(offset, None, count - _UNWRITTEN)


def _listed_runs(inode: ExtInode, read: Callable[[int], bytes], block_size: int) -> Iterator[ExtRun]:
    """The pieces of a list of blocks, those that follow one another together."""
    run: ExtRun | None = None
    for offset, place in _listed_blocks(inode, read, block_size):
        if run is not None and run.place is not None:
            if (run.offset + run.blocks, run.place + run.blocks) == (offset, place):
                run = run._replace(blocks=run.blocks + 1)
                continue
            yield run
        run = ExtRun(offset, place, 1)
    if run is not None:
        yield run


def _listed_blocks(inode: ExtInode, read: Callable[[int], bytes], block_size: int) -> Iterator[tuple[int, int]]:
    """Offset and place of each block that is not a hole."""
    end, each = -(-inode.size // block_size), block_size // 4
    words = struct.unpack("<15I", inode.block)
    yield from ((offset, place) for offset, place in enumerate(words[:_DIRECT]) if place and offset < end)
    offset = _DIRECT
    for level, place in enumerate(words[_DIRECT:]):
        if offset >= end:
            return
        if place:
            yield from _indirect(place, level, offset, end, read, each)
        offset += each ** (level + 1)


def _indirect(
    block: int, level: int, offset: int, end: int, read: Callable[[int], bytes], each: int
) -> Iterator[tuple[int, int]]:
    step = each**level
    for place in struct.unpack_from(f"<{each}I", read(block)):
        if offset >= end:
            return
        if place and level:
            yield from _indirect(place, level - 1, offset, end, read, each)
        elif place:
            yield offset, place
        offset += step
