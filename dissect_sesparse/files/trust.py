"""How far the file system of a state is believed: it says what its reader makes of it, and what its driver had written.

- A snapshot that was taken of a running guest has what was on the disk at that moment. Where the driver keeps a journal, the
  newest changes may be in that alone, and the readers of dissect do not replay one: what the file system says may be older
  than the bytes, so that a file may be said to lie where another one's bytes are by now. Then bytes are *likely*.
- A reader that gives wrong bytes is not believed at all.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dissect.target.filesystem import Filesystem

_EXT_RECOVER = 0x0004
"""EXT4_FEATURE_INCOMPAT_RECOVER: the journal is not empty (Linux, fs/ext4/ext4.h)."""
_EXT_INLINE_DATA = 0x8000
"""EXT4_FEATURE_INCOMPAT_INLINE_DATA: small files and folders lie in their inodes. No distribution makes it by default."""
_LARGE_LOG = 64 << 20
"""A log of XFS that is larger is not looked at, and counts as not empty."""
_LOG_HEADER = b"\xfe\xed\xba\xbe"
"""The first word of a log record's header (Linux, fs/xfs/libxfs/xfs_log_format.h)."""
_UNMOUNT = 0x20


def fault_of_reader(fs: Filesystem) -> str | None:
    """What is wrong with the reader of a file system; ``None`` where nothing is known to be. See ``docs/upstream.md``."""
    if fs.__type__ == "exfat":
        return "dissect reads the files of exFAT at wrong places (docs/upstream.md)"
    if fs.__type__ == "ext" and fs.extfs.sb.s_feature_incompat & _EXT_INLINE_DATA:  # type: ignore[attr-defined]
        return "dissect does not read all entries of the small folders of ext4 with inline data"
    return None


def doubt_of(fs: Any, volume: Any) -> str:
    """Why what a file system says of its files may be out of date; empty where it is not.

    Args:
        fs: The file system as dissect opened it.
        volume: What it lies on, as bytes.
    """
    checks = {"ext": _ext, "xfs": _xfs, "btrfs": _btrfs, "fat": _fat}
    check = checks.get(fs.__type__)
    if check is None:
        return ""
    try:
        return check(fs, volume)
    except Exception as e:  # whatever cannot be read of it
        return f"whether its file system was closed cannot be read: {e or type(e).__name__}"


def _ext(fs: Any, _: Any) -> str:
    if fs.extfs.sb.s_feature_incompat & _EXT_RECOVER:
        return "its file system was in use, and what its journal has is not replayed"
    return ""


def _btrfs(fs: Any, _: Any) -> str:
    """Trees are never changed in place; only what was synced since the last commit is in a tree of its own."""
    if fs.btrfs.sb.log_root:
        return "its file system was in use, and what its log has is not replayed"
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
        return "its log is on another disk, or too large to be looked at"
    group, block = sb.sb_logstart >> sb.sb_agblklog, sb.sb_logstart & ((1 << sb.sb_agblklog) - 1)
    volume.seek((group * sb.sb_agblocks + block) * sb.sb_blocksize)
    if _ends_with_unmount(volume.read(size)):
        return ""
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
