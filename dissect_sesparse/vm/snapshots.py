"""The snapshot list of a VM: the ``.vmsd`` beside its disks.

It can be missing, hold duplicates and be wrong; it names snapshots, it proves nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.source.errors import SESparseError
from dissect_sesparse.source.folder import Folder, name_parts

if TYPE_CHECKING:
    from pathlib import Path


MAX_SIZE = 1024 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LINE = re.compile(r'^[ \t]*(snapshot(\d{1,6})\.[\w.:]+)[ \t]*=[ \t]*"?([^"\r\n]*)"?', re.IGNORECASE | re.MULTILINE)
_DISK = re.compile(r"disk(\d{1,6})\.filename")


class SnapshotDisk(NamedTuple):
    """A disk of a snapshot: where it was attached (``scsi0:0``, or empty), and its descriptor's name as it is written."""

    node: str
    filename: str


@dataclass(frozen=True)
class Snapshot:
    """One entry of the list. ``disks`` are the descriptors whose bytes are the snapshot's, without folders."""

    uid: str
    parent: str
    name: str
    created: datetime | None
    disks: tuple[str, ...]
    files: tuple[SnapshotDisk, ...] = ()
    """The same disks as the list writes them, with their nodes."""


@dataclass(frozen=True)
class SnapshotList:
    """A ``.vmsd``, and its entries in their order. ``path`` may be that of a copy (``vm.vmsd.bak``)."""

    path: Path
    snapshots: tuple[Snapshot, ...]

    @property
    def machine(self) -> str:
        """The name of the VM's files, in lower case."""
        return self.path.name.lower().partition(".vmsd")[0]

    @property
    def is_copy(self) -> bool:
        return not self.path.name.lower().endswith(".vmsd")


def lists_of(folder: Folder | Path) -> list[SnapshotList]:
    """The snapshot lists in a folder, by their names. What cannot be read, or is larger than 1 MiB, is none.

    Args:
        folder: The folder, with the bound on what links in it may lead to; a path where it is the user who names it.
    """
    lists = []
    folder = folder if isinstance(folder, Folder) else Folder(folder)
    for path in folder.files(".vmsd"):
        try:
            file = folder.open(path)
            try:
                text = decode_text(file.read(0, min(file.size, MAX_SIZE)))
            finally:
                file.close()
        except SESparseError:
            continue
        lists.append(SnapshotList(path, tuple(parse_vmsd(text))))
    return lists


def snapshots_of(folder: Folder | Path) -> list[Snapshot]:
    """The snapshots that the lists in a folder name, oldest first; none where there is no list."""
    found: dict[tuple[str, str], Snapshot] = {}  # by VM: a folder may hold several, and copies of their lists
    for entries in lists_of(folder):
        for snapshot in entries.snapshots:
            found.setdefault((entries.machine, snapshot.uid), snapshot)
    return sorted(found.values(), key=lambda snapshot: snapshot.created or _EPOCH)


def parse_vmsd(text: str) -> list[Snapshot]:
    """The entries of a list, in its order."""
    entries: dict[int, dict[str, str]] = {}
    for name, number, value in _LINE.findall(text):
        entries.setdefault(int(number), {}).setdefault(name.lower().partition(".")[2], unescape(value.strip()))
    return [_snapshot(entry) for entry in entries.values() if entry.get("uid")]


def _snapshot(entry: dict[str, str]) -> Snapshot:
    numbers = sorted((match[1] for key in entry if (match := _DISK.fullmatch(key))), key=int)
    files = [SnapshotDisk(entry.get(f"disk{n}.node", ""), entry.get(f"disk{n}.filename", "")) for n in numbers]
    files = [disk for disk in files if name_parts(disk.filename)]
    return Snapshot(
        uid=entry["uid"],
        parent=entry.get("parent", ""),
        name=entry.get("displayname", ""),
        created=_created(entry.get("createtimehigh"), entry.get("createtimelow")),
        disks=tuple(name_parts(disk.filename)[-1] for disk in files),
        files=tuple(files),
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


def decode_text(data: bytes) -> str:
    """Text as VMware writes it: in the encoding it names, else UTF-8, else byte for byte."""
    named = re.search(rb"""^[ \t]*\.?encoding[ \t]*=[ \t]*"?([\w.\-]+)""", data, re.IGNORECASE | re.MULTILINE)
    for encoding in ("utf-8-sig", named[1].decode("ascii") if named else "utf-8"):
        try:
            return data.decode(encoding)
        except (LookupError, ValueError):
            continue
    return data.decode("latin-1")
