"""How far the file system of a state is believed: it says what its reader makes of it, and what its driver had written.

A snapshot that was taken of a running guest has what was on the disk at that moment. The newest changes may be in a journal
alone, which the readers of dissect do not replay, and a file may have been half overwritten. So bytes are proven only where
something shows that the file system was not in use, or that its driver never changes what it says in place:

- NTFS: Windows keeps a client of ``$LogFile`` in use for as long as the volume is mounted, and says there that it was closed;
  ``$Volume`` has a mark of its own. What MFT and bitmap say may be some seconds behind the log.
- ext: its superblock is marked for as long as it is mounted: the journal is to be replayed, or, without a journal, it is not
  valid (Linux, fs/ext4/super.c, ``ext4_setup_super``). Neither mark, and no error met: closed, or frozen to be quiescent.
- btrfs: a superblock names trees that were written before it, and what they name is not used again until the next one is
  written. So it is proven even of a running guest, but for what only the log tree has, for files that are overwritten in
  place (``nodatacow``), and for a file system of several devices, of which one may be behind.
- FAT: by the marks in its boot sector and in its table.
- XFS: nothing marks that it is mounted. A log that ends with an unmount shows that each file had its own blocks, not that
  nobody had mounted it again and overwritten some of them. So its files are *likely* at the best.
- A reader that gives wrong bytes is not believed at all.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dissect.ntfs.c_ntfs import ATTRIBUTE_TYPE_CODE

from dissect_sesparse.ntfs.mft_record import own

if TYPE_CHECKING:
    from dissect.target.filesystem import Filesystem

_LOG_FILE, _VOLUME = 2, 3
"""MFT records of ``$LogFile`` and ``$Volume``."""
_NTFS_DIRTY, _NTFS_CLEAN = 0x0001, 0x0002
"""VOLUME_IS_DIRTY in ``$Volume``; RESTART_VOLUME_IS_CLEAN in a restart page (Linux, fs/ntfs3/ntfs.h, fslog.c)."""
_RESTART_PAGES = 1 << 17
_EXT_RECOVER = 0x0004
"""EXT4_FEATURE_INCOMPAT_RECOVER: the journal is not empty (Linux, fs/ext4/ext4.h)."""
_EXT_EXTENTS, _EXT_INLINE_FILE = 0x80000, 0x10000000
"""EXT4_EXTENTS_FL, EXT4_INLINE_DATA_FL of an inode: else its blocks are a list (the same)."""
_EXT_VALID, _EXT_ERROR = 0x0001, 0x0002
"""EXT4_VALID_FS, EXT4_ERROR_FS: unmounted cleanly, errors were met (the same)."""
_EXT_META_BG = 0x0010
"""EXT4_FEATURE_INCOMPAT_META_BG: from ``s_first_meta_bg`` on, the descriptors of groups lie in the groups themselves."""
_BTRFS_NODATACOW = 0x0002
"""BTRFS_INODE_NODATACOW: the bytes of a file are overwritten in place (Linux, include/uapi/linux/btrfs_tree.h)."""
_LARGE_LOG = 64 << 20
"""A log of XFS or NTFS that is larger is not looked at, and counts as not empty."""
_LOG_HEADER = b"\xfe\xed\xba\xbe"
"""The first word of a log record's header (Linux, fs/xfs/libxfs/xfs_log_format.h)."""
_UNMOUNT = 0x20
_CLOSED_UNMARKED = (
    "its file system was closed, but XFS does not mark when it is in use again: bytes may have been overwritten"
)


def fault_of_reader(fs: Filesystem) -> str | None:
    """What is wrong with the reader of a file system; ``None`` where nothing is known to be. See ``docs/upstream.md``."""
    if fs.__type__ == "exfat":
        return "dissect reads the files of exFAT at wrong places (docs/upstream.md)"
    if fs.__type__ == "ext" and _has_spread_groups(fs.extfs):  # type: ignore[attr-defined]
        return "dissect looks for the descriptors of its groups in one place, and meta_bg spreads them over the volume"
    return None


def _has_spread_groups(extfs: Any) -> bool:
    """Whether some descriptors of groups do not lie behind the superblock."""
    behind = extfs.sb.s_first_meta_bg * (extfs.block_size // extfs._group_desc_size)
    return bool(extfs.sb.s_feature_incompat & _EXT_META_BG) and extfs.groups_count > behind


def fault_of_file(fs: Any, entry: Any) -> str:
    """Why the reader of a file system may give wrong bytes of a file; empty where nothing is known to be wrong.

    Args:
        fs: The file system as dissect opened it.
        entry: The file in it.
    """
    if fs.__type__ != "ext" or entry.entry.inode.i_flags & (_EXT_EXTENTS | _EXT_INLINE_FILE):
        return ""
    node, block = entry.entry, fs.extfs.block_size
    try:
        holes = (
            node.inode.i_blocks_lo * 512 < -(-node.size // block) * block
        )  # first: the list of these may be very long
        if not holes and all(start for start, _ in node.dataruns()):
            return ""
    except Exception as e:  # whatever the reader trips over
        return f"the list of its blocks cannot be read: {e or type(e).__name__}"
    return "dissect may read holes of a file that has no extents as other blocks (docs/upstream.md)"


def doubt_of(fs: Any, volume: Any) -> str:
    """Why what a file system says of its files may be out of date; empty where it is not.

    Args:
        fs: The file system as dissect opened it.
        volume: What it lies on, as bytes.
    """
    checks = {"ntfs": _ntfs, "ext": _ext, "xfs": _xfs, "btrfs": _btrfs, "fat": _fat}
    check = checks.get(fs.__type__)
    if check is None:
        return ""
    try:
        return check(fs, volume)
    except Exception as e:  # whatever cannot be read of it
        return f"whether its file system was closed cannot be read: {e or type(e).__name__}"


def was_behind(doubt: str) -> bool:
    """Whether a state may lack what its guest had done when it was frozen: a file that it has may have been deleted before.

    Args:
        doubt: What :func:`doubt_of` says of the state.
    """
    return doubt not in ("", _CLOSED_UNMARKED)


def is_unmarked(fs: Filesystem) -> bool:
    """Whether nothing shows that a file system is mounted, so that what its guest had not written yet may be missing."""
    return fs.__type__ in ("btrfs", "xfs")


def doubt_of_file(fs: Any, entry: Any) -> str:
    """Why one file may not be as its file system says, though that is believed; empty where nothing tells so.

    Args:
        fs: The file system as dissect opened it.
        entry: The file in it.
    """
    if fs.__type__ == "btrfs" and entry.entry.inode.flags & _BTRFS_NODATACOW:
        return "it is overwritten in place (nodatacow), and nothing tells whether its file system was in use"
    return ""


def _ntfs(fs: Any, _: Any) -> str:
    information = own(fs.ntfs.mft.get(_VOLUME), ATTRIBUTE_TYPE_CODE.VOLUME_INFORMATION)
    flags = information[0].header.data()[10:12] if information else b"\xff\xff"
    if flags[0] & _NTFS_DIRTY:
        return "its file system is marked as one that was not closed"
    log = fs.ntfs.mft.get(_LOG_FILE).open()
    head = log.read(_RESTART_PAGES)
    pages = [head[at:] for at in (0, int.from_bytes(head[16:20], "little")) if head[at : at + 4] == b"RSTR"]
    if not pages:
        return "" if _is_empty(head, log) else "its file system was in use: its $LogFile has no sound restart page"
    if any(map(_is_clean, pages[:1] if len(pages) == 1 else [max(pages, key=_last_number)])):
        return ""
    return "its file system was in use, and what its $LogFile has is not replayed"


def _is_empty(head: bytes, log: Any) -> bool:
    """Whether a log has only the bytes that formatting, and ntfs-3g, fill it with."""
    read = 0
    while head and read < _LARGE_LOG:
        if head.strip(b"\xff"):
            return False
        read += len(head)
        head = log.read(1 << 20)
    return not head


def _restart_area(page: bytes) -> bytes:
    """Last log sequence number, number of clients, the first free one, the first in use, flags (Linux, fs/ntfs3/fslog.c)."""
    start = int.from_bytes(page[24:26], "little")
    return page[start : start + 16]


def _last_number(page: bytes) -> int:
    return int.from_bytes(_restart_area(page)[:8], "little")


def _is_clean(page: bytes) -> bool:
    """Whether a restart page says that nobody uses the log, or that the volume was closed."""
    area = _restart_area(page)
    return len(area) == 16 and (area[12:14] == b"\xff\xff" or bool(area[14] & _NTFS_CLEAN))


def _ext(fs: Any, _: Any) -> str:
    sb = fs.extfs.sb
    if sb.s_feature_incompat & _EXT_RECOVER:
        return "its file system was in use, and what its journal has is not replayed"
    if sb.s_state & (_EXT_VALID | _EXT_ERROR) != _EXT_VALID:
        return "its file system was in use, or was not closed, or errors were met"
    return ""


def _btrfs(fs: Any, _: Any) -> str:
    sb = fs.btrfs.sb
    if sb.log_root:
        return "its file system was in use, and what its log has is not replayed"
    if sb.num_devices != 1:
        return f"its file system is on {sb.num_devices} devices, of which one may be behind the others"
    return ""


def _fat(fs: Any, _: Any) -> str:
    """By Linux's mark in the boot sector and by that of the standard, in the second entry of the table."""
    fat = fs.fatfs
    marks = fat.bpb_ext.BS_Reserved1 & 1
    entries = b""
    with suppress(AttributeError):
        fat.fat.fh.seek(0)
        entries = fat.fat.fh.read(8)
    bits = fat.fat.bits_per_entry
    clean = {16: entries[3:4] and entries[3] & 0x80, 32: entries[7:8] and entries[7] & 0x08}.get(bits, 1)
    if marks or not clean:
        return "its file system was in use, or was not closed: its table may be ahead of its folders, or behind"
    return ""


def _xfs(fs: Any, volume: Any) -> str:
    sb = fs.xfs.sb
    size = sb.sb_logblocks * sb.sb_blocksize
    if not sb.sb_logstart or not 0 < size <= _LARGE_LOG:
        return (
            "whether its file system was in use is not known: its log is on another disk, or too large to be looked at"
        )
    group, block = sb.sb_logstart >> sb.sb_agblklog, sb.sb_logstart & ((1 << sb.sb_agblklog) - 1)
    volume.seek((group * sb.sb_agblocks + block) * sb.sb_blocksize)
    if _ends_with_unmount(volume.read(size)):
        return _CLOSED_UNMARKED
    return "its file system was in use, and what its log has is not replayed"


def _ends_with_unmount(log: bytes) -> bool:
    """Whether the newest record of a log says that the file system was unmounted."""
    records = (at for at in range(0, len(log), 512) if log[at : at + 4] == _LOG_HEADER)
    newest = max(
        records, key=lambda at: log[at + 16 : at + 24], default=None
    )  # by its place in the log's history, big-endian
    if newest is None:
        return False
    operations = int.from_bytes(log[newest + 40 : newest + 44], "big")
    first = log[newest + 512 : newest + 524]  # its id, size, client, flags
    return operations == 1 and len(first) == 12 and bool(first[9] & _UNMOUNT)
