"""The names in a block of a folder of ext: those that are there, and those that were removed and not overwritten.

The entries of a block follow one another, each with its length (Linux, fs/ext4/ext4.h, ``ext4_dir_entry_2``). To remove one, the one
before it is made longer; Linux since 5.13 wipes it as well, older ones and e2fsprogs do not.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.extfs.inode import INDEX_FLAG, inline_parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.extfs.inode import ExtInode

_HEAD = struct.Struct("<IHBB")
_INLINE_PARENT = 4
"""Bytes of the number of the parent in front of the entries in ``i_block``."""
FOLDER_KIND, FILE_KIND = 2, 1
"""EXT4_FT_DIR, EXT4_FT_REG_FILE; 0 where the file system keeps no kinds."""


class ExtName(NamedTuple):
    """An entry of a folder."""

    offset: int
    """In its block, in bytes."""
    inode: int
    name: bytes
    kind: int
    removed: bool = False


def _length(word: int, block_size: int) -> int:
    """The length of an entry: of blocks of 64 KiB its two lowest bits are more of it."""
    if block_size < 65536:
        return word
    return 65536 if word in (0, 0xFFFF) else (word & 65532) | (word & 3) << 16


def entries_of_block(block: bytes) -> Iterator[tuple[int, int, ExtName]]:
    """Each entry with where its name ends and where the next one starts; ends where the block stops being one of a folder."""
    at = 0
    while at + 8 <= len(block):
        inode, word, length, kind = _HEAD.unpack_from(block, at)
        size = _length(word, len(block))
        if size < 8 or size % 4 or at + size > len(block) or 8 + length > size:
            return
        end = at + ((8 + length + 3) & ~3) if inode else at
        yield end, at + size, ExtName(at, inode, block[at + 8 : at + 8 + length], kind if kind < 8 else 0)
        at += size


def is_folder_block(block: bytes) -> bool:
    """Whether the entries of a block end where the block does, and there are names."""
    entries = list(entries_of_block(block))
    return bool(entries) and entries[-1][1] == len(block) and any(name.inode and name.name for _, _, name in entries)


def live_names(block: bytes) -> Iterator[ExtName]:
    """The entries that are there, ``.`` and ``..`` among them."""
    return (name for _, _, name in entries_of_block(block) if name.inode and name.name)


def removed_names(block: bytes, inodes: int, *, kinds: bool, indexed: bool) -> Iterator[ExtName]:
    """Entries behind those that are there: names of files that were removed, or moved within the folder.

    Args:
        block: Of a folder.
        inodes: How many inodes the file system has.
        kinds: Whether its entries have a kind.
        indexed: Whether the folder has an index: what lies behind its ``..``, or in a block without entries, is that.
    """
    for end, until, name in entries_of_block(block):
        if indexed and (name.name == b".." or (not name.inode and until - name.offset == len(block))):
            continue
        at = end
        while at + 12 <= until:
            found = _removed(block, at, until, inodes, kinds)
            if found is None:
                at += 4
            else:
                yield found
                at += (8 + len(found.name) + 3) & ~3


def _removed(block: bytes, at: int, until: int, inodes: int, kinds: bool) -> ExtName | None:
    inode, word, length, kind = _HEAD.unpack_from(block, at)
    size = _length(word, len(block))
    if not (0 < inode <= inodes and 8 + length <= size and not size % 4 and at + size <= len(block) and length):
        return None
    name = block[at + 8 : at + 8 + length]
    if at + 8 + length > until or b"\x00" in name or b"/" in name or name in (b".", b".."):
        return None
    if kinds and not 1 <= kind <= 7:
        return None
    return ExtName(at, inode, name, kind, removed=True)


def inline_blocks(inode: ExtInode) -> tuple[bytes, bytes]:
    """The two blocks of entries that a folder within its inode has; its parent's number is in front of the first."""
    first, second = inline_parts(inode)
    return first[_INLINE_PARENT:], second


def inline_parent(inode: ExtInode) -> int:
    """The number of the folder above one that lies in its inode."""
    return int.from_bytes(inode.block[:_INLINE_PARENT], "little")


def is_indexed(inode: ExtInode) -> bool:
    """Whether a folder has an index by the hashes of its names."""
    return bool(inode.flags & INDEX_FLAG)
