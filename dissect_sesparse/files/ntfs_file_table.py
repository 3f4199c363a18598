"""The files of an NTFS volume in one state, by its MFT: each record read once, in its order, and the folders put together after that.

A walk through the folders by dissect takes twenty times as long. Records are parsed here as far as a table needs it; one that has an
attribute list, or anything else that is not plain, is left to dissect. Places and values as in Linux, fs/ntfs3/ntfs.h.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from dissect.ntfs.util import segment_reference

from dissect_sesparse.files.file_row import FileRow, Handle, digest_of_content, digest_of_place
from dissect_sesparse.files.walk import MAX_DEPTH, key_of
from dissect_sesparse.ntfs.mft import FIRST_FILE, MAX_RECORDS
from dissect_sesparse.ntfs.mft_record import check_record, file_names
from dissect_sesparse.ntfs.mft_uses import reference_of, split_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from dissect_sesparse.files.changed_ranges import ChangedRanges, FileRuns
    from dissect_sesparse.files.volumes import VolumeState

_ROOT, _EXTEND = 5, 11
_IN_USE, _FOLDER = 0x0001, 0x0002
_STANDARD, _LIST, _NAME, _DATA, _REPARSE = 0x10, 0x20, 0x30, 0x80, 0xC0
_END = 0xFFFFFFFF
_DOS = 2
_LINKS = (0xA000000C, 0xA0000003)
"""IO_REPARSE_TAG_SYMLINK, _MOUNT_POINT: no regular files."""
_EPOCH = 116_444_736_000_000_000
_BATCH = 512
_HEAD = struct.Struct("<4sHHQHHHHIIQ")
_ATTRIBUTE = struct.Struct("<IIBBHHH")
_NOT_RESIDENT = struct.Struct("<QQHBxxxxxQQQ")
_SECTOR = 512


class OddRecordError(Exception):
    """A record that is left to dissect."""


class MftStream(NamedTuple):
    """A data stream."""

    name: str
    size: int
    lies: bytes
    runs: FileRuns | None
    """``None`` where it lies in the record."""


class MftEntry(NamedTuple):
    """What is kept of a record."""

    sequence: int
    names: tuple[tuple[int, str], ...]
    """The reference of the folder, and the name in it; none of them only for DOS."""
    mtime: int | None
    btime: int | None
    streams: tuple[MftStream, ...] | None
    """``None`` where only dissect can tell them."""


def ntfs_files_listed(
    state: VolumeState, ranges: ChangedRanges, missed: Callable[[str], None]
) -> Iterator[tuple[str, FileRow | Handle]]:
    """The files of a volume that have a path: those of which only dissect can tell more by their handles.

    Args:
        state: The volume.
        ranges: Of which it is counted how much of each file lies in them.
        missed: Gets what is not looked at, and why.

    Raises:
        Exception: Whatever cannot be read of all of it.
    """
    scan = _Scan(state, missed)
    scan.read()
    for segment, entry in scan.files.items():
        key = key_of(segment, entry.sequence)
        for path in scan.paths(entry):
            if entry.streams is None:
                yield path, Handle(segment, (key, ""))
            for stream in entry.streams or ():
                yield (
                    f"{path}:{stream.name}" if stream.name else path,
                    FileRow(
                        (key, stream.name), segment, stream.size, entry.mtime, entry.btime, stream.lies,
                        ranges.within(stream.runs),
                    ),
                )  # fmt: skip


class _Scan:
    """All records of an MFT."""

    def __init__(self, state: VolumeState, missed: Callable[[str], None]):
        self._state = state
        self._missed = missed
        self._ntfs: Any = state.fs.ntfs  # type: ignore[attr-defined]
        self._size: int = self._ntfs._record_size
        self._cluster: int = self._ntfs.cluster_size
        self.files: dict[int, MftEntry] = {}
        self._folders: dict[int, MftEntry] = {}
        self._of_folder: dict[int, str | None] = {_ROOT: ""}

    def read(self) -> None:
        fh, size = self._ntfs.mft.fh, self._size
        count = max(0, min(fh.size, self._state.volume.size)) // size
        if not 256 <= size <= 65536:
            raise ValueError(f"MFT records of {size} bytes")
        if count > MAX_RECORDS:
            self._missed(f"more than {MAX_RECORDS} MFT records, the rest is not looked at")
        broken = 0
        for start in range(0, min(count, MAX_RECORDS), _BATCH):
            data = self._batch(fh, start, min(_BATCH, count - start))
            for at in range(0, len(data), size):
                if data[at : at + 4] == b"FILE":
                    broken += not self._take(start + at // size, data[at : at + size])
                elif data[at : at + 4] == b"BAAD":
                    broken += 1
        if broken:
            self._missed(f"{broken} MFT records as of link {self._state.depth} cannot be read")

    def _batch(self, fh: Any, start: int, count: int) -> bytes:
        """Some records; of what cannot be read zeros, and that is said."""
        size = self._size
        try:
            fh.seek(start * size)
            return fh.read(count * size)
        except Exception as e:  # whatever the disk trips over
            self._missed(f"MFT records from {start} as of link {self._state.depth}: {e or type(e).__name__}")
        data = bytearray(count * size)
        for number in range(count):
            with suppress(Exception):  # said above
                fh.seek((start + number) * size)
                data[number * size : (number + 1) * size] = fh.read(size).ljust(size, b"\x00")
        return bytes(data)

    def _take(self, segment: int, raw: bytes) -> bool:
        """Whether a record could be read, or is none of a file."""
        _, array, words, _, sequence, _, first, flags, _, _, base = _HEAD.unpack_from(raw)
        if (
            not flags & _IN_USE
            or split_reference(base)[0]
            or (segment < FIRST_FILE and segment not in (_ROOT, _EXTEND))
        ):
            return True
        record = _fixed(raw, array, words)
        if record is None:
            return False
        try:
            entry = self._parsed(sequence, record, first, folder=bool(flags & _FOLDER))
        except (OddRecordError, struct.error, UnicodeDecodeError, IndexError):
            return self._take_odd(segment, sequence)
        if entry is not None:
            (self._folders if flags & _FOLDER else self.files)[segment] = entry
        return True

    def _parsed(self, sequence: int, record: bytes, first: int, *, folder: bool) -> MftEntry | None:
        """What a plain record says; ``None`` for one that is no regular file."""
        names: list[tuple[int, str]] = []
        streams: list[MftStream] = []
        times: tuple[int | None, int | None] = None, None
        at = first
        while True:
            kind = int.from_bytes(record[at : at + 4], "little")
            if kind == _END or at + 4 > len(record):
                break
            _, length, outside, name_length, name_at, flags, _ = _ATTRIBUTE.unpack_from(record, at)
            if length < 16 or at + length > len(record) or kind == _LIST:
                raise OddRecordError
            if kind == _STANDARD:
                value = _resident(record, at, length)
                times = _nanoseconds(value, 8), _nanoseconds(value, 0)
            elif kind == _NAME:
                value = _resident(record, at, length)
                if value[65] != _DOS:
                    names.append((int.from_bytes(value[:8], "little"), _text(value[66 : 66 + value[64] * 2])))
            elif kind == _REPARSE and int.from_bytes(_resident(record, at, length)[:4], "little") in _LINKS:
                return None
            elif kind == _DATA and not folder:
                name = _text(record[at + name_at : at + name_at + name_length * 2]) if name_length else ""
                streams.append(
                    self._stream(record, at, length, name, flags) if outside else _inside(record, at, length, name)
                )
            at += length
        return MftEntry(sequence, tuple(names), *times, tuple(streams))

    def _stream(self, record: bytes, at: int, length: int, name: str, flags: int) -> MftStream:
        """A data stream outside of its record, which has all of its runs."""
        low, _, pairs, unit, _, size, valid = _NOT_RESIDENT.unpack_from(record, at + 16)
        runs = _runs(record, at + pairs, at + length)
        if low or sum(count for _, count in runs) * self._cluster < size or self._state.place is None:
            raise OddRecordError
        found: FileRuns = []
        for start, count in runs:
            if start is not None:
                end = (start + count) * self._cluster
                if start < 0 or end > self._state.volume.size:
                    raise OddRecordError
                found.append((self._state.place + start * self._cluster, self._state.place + end))
        lies = digest_of_place("ntfs", self._state.place, self._cluster, runs, size, valid, unit, flags)
        return MftStream(name, size, lies, found)

    def _take_odd(self, segment: int, sequence: int) -> bool:
        """A record of which dissect says names and whether it is a folder."""
        try:
            record = self._ntfs.mft.get(segment)
            check_record(record)
            found = tuple(
                (
                    reference_of(segment_reference(name.ParentDirectory), name.ParentDirectory.SequenceNumber),
                    name.FileName,
                )
                for name in file_names(record)
                if name.Flags != _DOS
            )
            entry = MftEntry(sequence, found, None, None, None)
            (self._folders if record.is_dir() else self.files)[segment] = entry
        except Exception:  # whatever dissect.ntfs trips over
            return False
        return True

    # Paths

    def paths(self, entry: MftEntry) -> Iterator[str]:
        """The paths of a file: of names in folders that are there."""
        for parent, name in entry.names:
            folder = self._folder(parent)
            if folder is not None and not (folder.lower() + "/").startswith("/$extend/"):
                yield f"{folder}/{name}"

    def _folder(self, reference: int) -> str | None:
        """The path of a folder; ``None`` where no folder of that reference has one."""
        todo: list[int] = []
        while True:
            segment, sequence = split_reference(reference)
            entry = self._folders.get(segment)
            if entry is None or entry.sequence != sequence:
                found = None
                break
            if segment in self._of_folder:
                found = self._of_folder[segment]
                break
            if len(todo) >= MAX_DEPTH or segment in todo or not entry.names:
                found = None
                if entry.names:
                    self._missed(f"the folder of MFT record {segment} is met again, or lies too deep")
                break
            todo.append(segment)
            reference = entry.names[0][0]
        for segment in reversed(todo):
            found = None if found is None else f"{found}/{self._folders[segment].names[0][1]}"
            self._of_folder[segment] = found
        return found


def _fixed(raw: bytes, array: int, words: int) -> bytes | None:
    """A record as it was before its sectors were marked; ``None`` where these are not of one write (the update sequence)."""
    if array + words * 2 > len(raw) or (words - 1) * _SECTOR != len(raw):
        return None
    mark, data = raw[array : array + 2], bytearray(raw)
    for number in range(1, words):
        end = number * _SECTOR
        if raw[end - 2 : end] != mark:
            return None
        data[end - 2 : end] = raw[array + number * 2 : array + number * 2 + 2]
    return bytes(data)


def _resident(record: bytes, at: int, length: int) -> bytes:
    """The value of an attribute within its record."""
    if record[at + 8]:
        raise OddRecordError
    size, start = struct.unpack_from("<IH", record, at + 16)
    if start + size > length:
        raise OddRecordError
    return record[at + start : at + start + size]


def _inside(record: bytes, at: int, length: int, name: str) -> MftStream:
    value = _resident(record, at, length)
    return MftStream(name, len(value), digest_of_content(value), None)


def _text(data: bytes) -> str:
    return data.decode("utf-16-le", "surrogatepass")


def _nanoseconds(value: bytes, at: int) -> int:
    """Since 1970, from 100 nanoseconds since 1601."""
    return (int.from_bytes(value[at : at + 8], "little") - _EPOCH) * 100


def _runs(record: bytes, at: int, end: int) -> list[tuple[int | None, int]]:
    """First cluster (``None``: a hole) and number of clusters of each run."""
    found: list[tuple[int | None, int]] = []
    cluster = 0
    while at < end and (head := record[at]):
        size, offset = head & 0xF, head >> 4
        count = int.from_bytes(record[at + 1 : at + 1 + size], "little", signed=True)
        if at + 1 + size + offset > end or count <= 0:
            raise OddRecordError
        if offset:
            cluster += int.from_bytes(record[at + 1 + size : at + 1 + size + offset], "little", signed=True)
        found.append((cluster if offset else None, count))
        at += 1 + size + offset
    return found
