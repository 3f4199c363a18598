"""Files and folders of ext4 that lie within their inodes (``inline_data``), read right where dissect opened the file system.

The first 60 bytes are in the inode's ``i_block``, the rest in its attribute ``system.data`` (Linux, fs/ext4/inline.c). dissect.extfs
gives the first 60 alone, with the size of all, and reads the entries of such a folder from a wrong place (``docs/upstream.md``).
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO

from dissect.extfs.c_ext import FILETYPES
from dissect.extfs.extfs import INode

from dissect_sesparse.extfs.directory import inline_blocks, live_names
from dissect_sesparse.extfs.inode import INLINE_FLAG, ext_inode, inline_content

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.extfs.inode import ExtInode

INLINE_DATA = 0x8000
"""EXT4_FEATURE_INCOMPAT_INLINE_DATA. No distribution makes it by default."""


class _Inode(INode):
    """An inode that may have its content in itself."""

    @property
    def is_inline(self) -> bool:
        return bool(self.inode.i_flags & INLINE_FLAG)

    def whole(self) -> ExtInode:
        """Of its bytes, as many as an inode has here: dissect takes 256 for all."""
        extfs = self.extfs
        group, index = divmod(self.inum - 1, extfs.sb.s_inodes_per_group)
        table = extfs._read_group_desc(group)
        block = getattr(table, "bg_inode_table_hi", 0) << 32 | table.bg_inode_table_lo
        extfs.fh.seek(block * extfs.block_size + index * extfs.sb.s_inode_size)
        return ext_inode(self.inum, extfs.fh.read(extfs.sb.s_inode_size))

    def open(self) -> BinaryIO:
        if not self.is_inline:
            return super().open()
        stream: Any = io.BytesIO(inline_content(self.whole()))
        stream.size = self.size  # as dissect's own streams have it
        return stream

    def iterdir(self) -> Iterator[INode]:
        inode = self.whole() if self.is_inline else None
        if inode is None or not inode.is_folder:
            yield from super().iterdir()
            return
        for block in inline_blocks(inode):
            for entry in live_names(block):
                if entry.inode <= self.extfs.sb.s_inodes_count:
                    name = entry.name.decode(errors="surrogateescape")
                    yield self.extfs.get_inode(entry.inode, name, FILETYPES.get(entry.kind))


def read_inline_data(fs: Any) -> None:
    """Make a file system of ext that was opened for us read what lies in inodes. Others are left as they are."""
    extfs = fs.extfs
    if not extfs.sb.s_feature_incompat & INLINE_DATA:
        return
    checked = extfs.get_inode

    @lru_cache(1024)
    def get_inode(inum: int, filename: str | None = None, filetype: int | None = None) -> INode:
        checked(inum)  # raises where there is no such inode
        return _Inode(extfs, inum, filename, filetype)

    extfs.get_inode = get_inode
    extfs.root = get_inode(extfs.root.inum, "/")
