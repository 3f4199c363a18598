"""The deleted entries of a folder of FAT: all but the first letter of a short name, and of a long name all.

A driver that deletes a file writes 0xE5 over the first byte of its entry, and of those that hold its long name. Size, first
cluster and times stay. The long name gives the first letter back where it fits: each of its entries has a sum over the short name.

Reference: Microsoft, FAT: General Overview of On-Disk Format, 1.03, "Long Directory Entries".
"""

from __future__ import annotations

from datetime import timezone
from typing import TYPE_CHECKING, NamedTuple

from dissect.util.ts import dostimestamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

MAX_FOLDER = 2 << 20
"""Bytes of a folder: 65,536 entries."""
LOST = "_"
"""In the place of a first letter that is not known."""
_SIZE = 32
_DELETED, _END = 0xE5, 0
_LONG, _LABEL, _FOLDER = 0x0F, 0x08, 0x10
_MAX_PARTS = 20
_PART = 13
"""Characters in an entry of a long name."""


class OldEntry(NamedTuple):
    """A deleted entry of a file."""

    place: int
    """In its folder, in bytes."""
    name: str
    whole: bool
    """Whether all of the name is there, as far as anything shows."""
    cluster: int
    """The first of the file; 0 of an empty one."""
    size: int
    made: int
    """Date, time and hundredths, as they are stored; 0 where they are not."""
    born: datetime | None
    modified: datetime | None


def old_entries(data: bytes, encoding: str) -> Iterator[OldEntry]:
    """The deleted files that a folder still names.

    Args:
        data: The folder.
        encoding: Of its short names.
    """
    parts: list[bytes] = []
    for place in range(0, min(len(data), MAX_FOLDER) // _SIZE * _SIZE, _SIZE):
        entry = data[place : place + _SIZE]
        if entry[0] == _END:
            return
        if entry[0] != _DELETED:
            parts = []
        elif entry[11] & 0x3F == _LONG:
            parts = [*parts[-_MAX_PARTS + 1 :], entry]
        else:
            if not entry[11] & (_LABEL | _FOLDER):
                yield _old(place, entry, parts, encoding)
            parts = []


def _old(place: int, entry: bytes, parts: list[bytes], encoding: str) -> OldEntry:
    number = int.from_bytes(entry[20:22], "little") << 16 | int.from_bytes(entry[26:28], "little")
    made = int.from_bytes(entry[13:18], "little")  # hundredths, time, date
    long = _long_name(entry, parts)
    name = long if long is not None else _short_name(entry, encoding)
    cut = long is not None and len(long) == _PART * len(parts)  # full to its end: there may have been more
    times = _time(entry[16:18] + entry[14:16], entry[13]), _time(entry[24:26] + entry[22:24])
    return OldEntry(
        place, name, long is not None and not cut, number, int.from_bytes(entry[28:32], "little"), made, *times
    )


def _long_name(entry: bytes, parts: list[bytes]) -> str | None:
    """The long name before an entry, if it is its own: ``None`` where there is none, or nothing shows that it is."""
    if not parts or len({part[13] for part in parts}) != 1 or any(part[12] or part[26] or part[27] for part in parts):
        return None
    raw = b"".join(part[1:11] + part[14:26] + part[28:32] for part in reversed(parts))
    name = raw.decode("utf-16-le", "surrogatepass").partition("\0")[0]
    letters = {ord(letter) for letter in (*name.upper()[:1], LOST) if ord(letter) < 0x100}
    if not any(_sum(bytes([letter]) + entry[1:11]) == parts[0][13] for letter in letters):
        return None
    return name


def _sum(short: bytes) -> int:
    """What the entries of a long name have of the short one."""
    total = 0
    for byte in short:
        total = (((total & 1) << 7) + (total >> 1) + byte) & 0xFF
    return total


def _short_name(entry: bytes, encoding: str) -> str:
    base, end = (entry[at:to].decode(encoding, "replace").rstrip(" \0") for at, to in ((1, 8), (8, 11)))
    base, end = base.lower() if entry[12] & 0x08 else base, end.lower() if entry[12] & 0x10 else end
    return f"{LOST}{base}.{end}" if end else f"{LOST}{base}"


def _time(stored: bytes, hundredths: int = 0) -> datetime | None:
    """A local time of the guest, taken for UTC as dissect does; ``None`` where there is none, or none that can be."""
    date, time = int.from_bytes(stored[:2], "little"), int.from_bytes(stored[2:], "little")
    try:
        return dostimestamp(date << 16 | time, hundredths).replace(tzinfo=timezone.utc) if date else None
    except ValueError:
        return None
