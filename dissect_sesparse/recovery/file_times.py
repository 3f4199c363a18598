"""The times of a file that was written out: those that it had in the guest.

Only when it was changed and read last: when it was made no system lets one say in a way that all share, so that is in the
manifest alone. File systems have ranges of times, and some quietly take the nearest one they know. That would be a time
nobody ever had, so it is looked at what became of it.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_COARSEST = 2_000_000_000
"""Nanoseconds: FAT has even seconds."""


def set_times(path: Path, mtime: datetime | None, atime: datetime | None = None) -> bool:
    """Set the times of a file; where one is not known it stays.

    Args:
        path: The file.
        mtime: When it was changed last.
        atime: When it was read last.

    Returns:
        Whether it has them. If not, it has those that it had before.
    """
    if mtime is None and atime is None:
        return True
    before = path.stat()
    old = before.st_atime_ns, before.st_mtime_ns
    wanted = tuple(known if time is None else _nanoseconds(time) for time, known in zip((atime, mtime), old))
    try:
        os.utime(path, ns=(wanted[0], wanted[1]))
        now = path.stat()
        # Nothing reads the file between; a file system without times of reading keeps no atime, so that one is not held.
        if abs(now.st_mtime_ns - wanted[1]) < _COARSEST:
            return True
        os.utime(path, ns=old)
    except (OSError, OverflowError, ValueError):
        pass  # a time that this system cannot write down
    return False


def _nanoseconds(time: datetime) -> int:
    """Since 1970, as exact as the time is."""
    return (time - _EPOCH) // timedelta(microseconds=1) * 1000
