"""An ext file system in one state of the disk: where its groups, inodes, folders and bitmaps are."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from dissect_sesparse.extfs.directory import inline_blocks, inline_parent, live_names
from dissect_sesparse.extfs.inode import INLINE_FLAG, ExtError, ext_inode, ext_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.extfs.directory import ExtName
    from dissect_sesparse.extfs.inode import ExtInode

ROOT = 2
"""The inode of the root."""
MAX_FOLDER = 1 << 30
"""Bytes of a folder."""
_PASSES = 16
"""How often all folders of a state are read at the most: for their names, their blocks, and what was removed from them."""
_CHECKSUMMED = 0x0010 | 0x0400
"""EXT4_FEATURE_RO_COMPAT_GDT_CSUM, _METADATA_CSUM: only then the groups say how much of their tables was ever used."""
_INODES_UNUSED, _BLOCKS_UNUSED = 0x1, 0x2
"""EXT4_BG_INODE_UNINIT, EXT4_BG_BLOCK_UNINIT."""
_KINDS = 0x0002
"""EXT4_FEATURE_INCOMPAT_FILETYPE."""


class ExtGroup(NamedTuple):
    """A group of blocks and inodes."""

    table: int
    """The first block of its table of inodes."""
    used: int
    """How many of its inodes were ever used."""
    bitmap: int | None
    """The block that says which of its blocks are in use; ``None`` where none is, but for those of the file system itself."""


class ExtState:
    """The file system as a state has it. What cannot be read raises, whatever the chain or dissect raise.

    Args:
        extfs: As dissect.extfs opened it.
        depth: Of the link that was the newest then.
        volume: What dissect calls its volume.
        place: Where on the disk its volume starts; ``None`` where it is not one piece of the disk.
        size: Of the volume, in bytes.
    """

    def __init__(self, extfs: Any, depth: int, volume: str, place: int | None, size: int):
        self.extfs = extfs
        self.depth = depth
        self.volume = volume
        self.place = place
        self.size = size
        sb = self.extfs.sb
        self.block_size = self.extfs.block_size
        self.inode_size = sb.s_inode_size if sb.s_rev_level else 128
        self.inodes_per_group = sb.s_inodes_per_group
        self.inodes = sb.s_inodes_count
        self.has_kinds = bool(sb.s_feature_incompat & _KINDS)
        if self.inode_size < 128 or self.inode_size > self.block_size or self.inode_size & (self.inode_size - 1):
            raise ExtError(f"inodes of {self.inode_size} bytes")
        self._folder_blocks = _PASSES * (1 + min(self.extfs.block_count, size // self.block_size))
        """How many blocks of folders may be read yet: folders may all claim the same ones."""
        self.group = lru_cache(65536)(self._group)
        self.folder_names = lru_cache(64)(self._folder_names)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the volume.

        Raises:
            ExtError: If it ends before.
        """
        self.extfs.fh.seek(offset)
        data = self.extfs.fh.read(size)
        if len(data) < size:
            raise ExtError(f"the volume ends before {offset + size}")
        return data

    def block(self, number: int) -> bytes:
        """A block by its number."""
        return self.read(number * self.block_size, self.block_size)

    def _group(self, number: int) -> ExtGroup:
        found = self.extfs._read_group_desc(number)
        flags, unused = 0, 0
        if self.extfs.sb.s_feature_ro_compat & _CHECKSUMMED:
            raw = self.read(self.extfs.groups_offset + number * self.extfs._group_desc_size, 32)
            flags = int.from_bytes(raw[18:20], "little")
            unused = int.from_bytes(raw[28:30], "little") | getattr(found, "bg_itable_unused_hi", 0) << 16
        used = 0 if flags & _INODES_UNUSED else max(0, self.inodes_per_group - unused)
        high = getattr(found, "bg_inode_table_hi", 0), getattr(found, "bg_block_bitmap_hi", 0)
        bitmap = None if flags & _BLOCKS_UNUSED else high[1] << 32 | found.bg_block_bitmap_lo
        return ExtGroup(high[0] << 32 | found.bg_inode_table_lo, used, bitmap)

    def inode(self, number: int) -> ExtInode:
        """An inode of the tables."""
        if not 0 < number <= self.inodes:
            raise ExtError(f"inode {number} of {self.inodes}")
        group, index = divmod(number - 1, self.inodes_per_group)
        offset = self.group(group).table * self.block_size + index * self.inode_size
        return ext_inode(number, self.read(offset, self.inode_size))

    # Folders

    def folder_blocks(self, inode: ExtInode) -> Iterator[tuple[int, int | None, bytes]]:
        """The blocks of entries of a folder: place in it, number (``None``: within the inode), content."""
        if inode.flags & INLINE_FLAG:
            first, second = inline_blocks(inode)
            yield 0, None, first
            yield len(first), None, second
            return
        end = min(inode.size, MAX_FOLDER)
        for run in ext_runs(inode, self.block, self.block_size):
            for number in range(run.blocks if run.place is not None else 0):
                at = (run.offset + number) * self.block_size
                if at >= end:
                    return
                self._folder_blocks -= 1
                if self._folder_blocks < 0:
                    raise ExtError("its folders claim more blocks than it has")
                yield at, run.place + number, self.block(run.place + number)  # type: ignore[operator]

    def names_in(self, inode: ExtInode) -> Iterator[tuple[int, ExtName]]:
        """The names of a folder with the places of their entries, without ``.`` and ``..``."""
        for at, _, block in self.folder_blocks(inode):
            for name in live_names(block):
                if name.name not in (b".", b".."):
                    yield at + name.offset, name

    def parent_of(self, inode: ExtInode) -> int | None:
        """The number of the folder above one."""
        if inode.flags & INLINE_FLAG:
            return inline_parent(inode)
        _, _, block = next(self.folder_blocks(inode), (0, None, b""))
        return next((name.inode for name in live_names(block) if name.name == b".."), None)

    def _folder_names(self, number: int) -> dict[int, tuple[int, bytes]]:
        """What a folder has of others: by their inodes the place of the entry, and the name."""
        found: dict[int, tuple[int, bytes]] = {}
        for at, name in self.names_in(self.inode(number)):
            if name.kind in (0, 2):
                found.setdefault(name.inode, (at, name.name))
        return found
