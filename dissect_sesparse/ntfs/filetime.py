"""Times of Windows."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

_START = datetime(1601, 1, 1, tzinfo=timezone.utc)


def filetime(value: int) -> datetime | None:
    """A time of Windows in UTC; ``None`` where there is none, or none that can be.

    Args:
        value: 100 nanoseconds since 1601 (FILETIME, minwinbase.h).
    """
    try:
        return _START + timedelta(microseconds=value // 10) if value > 0 else None
    except OverflowError:
        return None
