"""The blocks of folders of XFS as they were at a moment of the log, which has only the pieces that were changed.

A free range of a block may hold anything, old entries that look sound among it: the driver does not wipe it, and takes blocks as
they lie. So a block is read from its start on, entry by entry and range by range, as far as its bytes are known: from pieces
of the log, over what the next older state of the disk had there.

References: Linux, fs/xfs/libxfs/xfs_da_format.h (``xfs_dir3_data_hdr``, ``xfs_dir2_data_entry``, ``xfs_dir2_data_unused``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.xfs.items import BlockPieces

MAX_BLOCKS = 16_384
"""Blocks of folders that are followed at one time."""
MAX_BLOCK = 65_536
"""Bytes of a block of a folder (XFS_MAX_BLOCKSIZE)."""
_PIECE = 128
_HEAD = 64
"""Bytes of the header (``xfs_dir3_data_hdr``): its place at 8, its owner at 40."""
_MAGICS = {b"XDB3", b"XDD3"}
_FREE = b"\xff\xff"


class BlockNames(NamedTuple):
    """What a block of a folder has."""

    owner: int
    """The inode of the folder."""
    names: list[tuple[bytes, int]]
    """Name and inode."""


class FolderBlocks:
    """Blocks of folders, as the log changes them."""

    def __init__(self) -> None:
        self._blocks: dict[int, tuple[bytearray, set[int]]] = {}
        """By place: bytes, and which pieces are known."""

    def changed(self, change: BlockPieces, older: Any, *, types: bool) -> BlockNames | None:
        """What a block has after a change; ``None`` where that is not known.

        Args:
            change: From the log.
            older: The volume in the next older state of the disk; ``None`` if there is none.
            types: Whether an entry has the type of what it leads to.
        """
        known = self._blocks.get(change.place)
        if known is None or len(known[0]) != change.size:
            if not _HEAD <= change.size <= MAX_BLOCK or len(self._blocks) >= MAX_BLOCKS:
                return None
            known = self._blocks[change.place] = _block_of(older, change.place, change.size)
        data, pieces = known
        for start, piece in change.pieces:
            end = min(start + len(piece), len(data))
            data[start:end] = piece[: max(0, end - start)]
            pieces.update(range(start // _PIECE, -(-end // _PIECE)))
        if 0 not in pieces or not _is_sound(data, change.place):
            return None
        names = list(_entries(bytes(data), pieces, types))
        return BlockNames(int.from_bytes(data[40:48], "big"), names)

    def forget(self, place: int) -> None:
        """A block is one of a folder no more."""
        self._blocks.pop(place, None)


def _block_of(older: Any, place: int, size: int) -> tuple[bytearray, set[int]]:
    """A block as the next older state has it, if it is one of a folder there."""
    try:
        older.seek(place)
        data = older.read(size)
    except Exception:  # there is none, or it cannot be read: only what the log has is known
        data = b""
    if len(data) < size or not _is_sound(data, place):
        return bytearray(size), set()
    return bytearray(data), set(range(-(-size // _PIECE)))


def _is_sound(data: bytes | bytearray, place: int) -> bool:
    return bytes(data[:4]) in _MAGICS and int.from_bytes(data[8:16], "big") * 512 == place


def _entries(data: bytes, known: set[int], types: bool) -> Iterator[tuple[bytes, int]]:
    """Name and inode of the entries in use, up to the first place that is not known. Each ends with its own place."""
    at, end = _HEAD, len(data)
    if data[:4] == b"XDB3" and (end - 1) // _PIECE in known:  # behind the entries an index of them, and its length
        end -= 8 + 8 * int.from_bytes(data[-8:-4], "big")
    while at + 16 <= end and at // _PIECE in known:
        if data[at : at + 2] == _FREE:
            size = int.from_bytes(data[at + 2 : at + 4], "big")
        else:
            length = data[at + 8]
            size = (9 + length + types + 2 + 7) // 8 * 8
            last = at + size
            sound = last <= end and int.from_bytes(data[last - 2 : last], "big") == at and length
            if not sound or any(piece not in known for piece in range(at // _PIECE, (last - 1) // _PIECE + 1)):
                return
            name = data[at + 9 : at + 9 + length]
            if name not in (b".", b".."):
                yield name, int.from_bytes(data[at : at + 8], "big")
        if size < 8 or size % 8:
            return
        at += size
