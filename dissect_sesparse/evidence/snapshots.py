"""The snapshot list of a VM: the ``.vmsd`` beside its disks.

It can be missing, hold duplicates and be wrong; it names snapshots, it proves nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from dissect_sesparse.disk.errors import SESparseError
from dissect_sesparse.disk.file import EvidenceFile
from dissect_sesparse.disk.folder import Folder, name_parts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from dissect_sesparse.disk.link import Link

MAX_SIZE = 1024 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LINE = re.compile(r'^[ \t]*(snapshot(\d{1,6})\.[\w.:]+)[ \t]*=[ \t]*"?([^"\r\n]*)"?', re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Snapshot:
    """One entry of the list. ``disks`` are the descriptors whose bytes are the snapshot's, without folders."""

    uid: str
    parent: str
    name: str
    created: datetime | None
    disks: tuple[str, ...]


def snapshots_of(folder: Path) -> list[Snapshot]:
    """The snapshots that the lists in a folder name, oldest first; none where there is no list."""
    found: dict[tuple[str, str], Snapshot] = {}  # by VM: a folder may hold several, and copies of their lists
    for path in Folder(folder).files(".vmsd"):
        try:
            file = EvidenceFile.open(path)
            try:
                text = decode_text(file.read(0, min(file.size, MAX_SIZE)))
            finally:
                file.close()
        except SESparseError:
            continue
        for snapshot in parse_vmsd(text):
            found.setdefault((path.name.lower().partition(".vmsd")[0], snapshot.uid), snapshot)
    return sorted(found.values(), key=lambda snapshot: snapshot.created or _EPOCH)


def parse_vmsd(text: str) -> list[Snapshot]:
    """The entries of a list, in its order."""
    entries: dict[int, dict[str, str]] = {}
    for name, number, value in _LINE.findall(text):
        entries.setdefault(int(number), {}).setdefault(name.lower().partition(".")[2], unescape(value.strip()))
    return [_snapshot(entry) for entry in entries.values() if entry.get("uid")]


def _snapshot(entry: dict[str, str]) -> Snapshot:
    disks = [value for key, value in sorted(entry.items()) if re.fullmatch(r"disk\d+\.filename", key) and value]
    return Snapshot(
        uid=entry["uid"],
        parent=entry.get("parent", ""),
        name=entry.get("displayname", ""),
        created=_created(entry.get("createtimehigh"), entry.get("createtimelow")),
        disks=tuple(name_parts(disk)[-1] for disk in disks if name_parts(disk)),
    )


def _created(high: str | None, low: str | None) -> datetime | None:
    """Microseconds since 1970 in two halves, each written as a signed 32-bit number. Never invented."""
    try:
        halves = [int(half or "") for half in (high, low)]
        microseconds = (halves[0] & 0xFFFFFFFF) << 32 | halves[1] & 0xFFFFFFFF
        whole = all(-(1 << 31) <= half < 1 << 32 for half in halves)
        return _EPOCH + timedelta(microseconds=microseconds) if microseconds and whole else None
    except (ValueError, OverflowError):
        return None


def unescape(value: str) -> str:
    """VMware writes a quote or a bar within a value as ``|22`` and the like: a bar and two hexadecimal digits."""
    return re.sub(r"\|([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), value)


def snapshot_of_link(link: Link, snapshots: Iterable[Snapshot]) -> Snapshot | None:
    """The snapshot whose state a link holds: the list names the link's descriptor."""
    if link.descriptor is None:
        return None
    return next((snapshot for snapshot in snapshots if link.name in snapshot.disks), None)


def decode_text(data: bytes) -> str:
    """Text as VMware writes it: in the encoding it names, else UTF-8, else byte for byte."""
    named = re.search(rb"""^[ \t]*\.?encoding[ \t]*=[ \t]*"?([\w.\-]+)""", data, re.IGNORECASE | re.MULTILINE)
    for encoding in ("utf-8-sig", named[1].decode("ascii") if named else "utf-8"):
        try:
            return data.decode(encoding)
        except (LookupError, ValueError):
            continue
    return data.decode("latin-1")
