"""Which files the MFT of an NTFS volume names that the running guest does not have any more.

When NTFS deletes a file it marks its record in the MFT as free, and leaves name, size, times and data runs in it until the
record is used again; TRIM does not change that. The MFTs of all states of the disk are gone through side by side, a record at
a time, newest first: so each file is found once, however many states have it, and it shows in which link's time it was
deleted, and which is the newest state that still has it. dissect.ntfs reads the records; nothing is parsed here.

A deleted record has the sequence number that the file had, or the next one: Windows and ntfs-3g count when they free a record.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from dissect.ntfs.c_ntfs import (
    FILE_FILE_NAME_INDEX_PRESENT,
    FILE_RECORD_SEGMENT_IN_USE,
    c_ntfs,
)
from dissect.ntfs.mft import MftRecord
from dissect.ntfs.util import segment_reference

from dissect_sesparse.ntfs.mft_record import changed_at, check_record, creation_time, file_names, has_named_stream
from dissect_sesparse.ntfs.mft_uses import reference_of, references_of_freed
from dissect_sesparse.ntfs.recycle_bin import INFORMATION_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dissect_sesparse.ntfs.view import NtfsView

MAX_RECORDS = 1 << 24
"""Of an MFT: 16 million files."""
MAX_FILES = 500_000
"""Deleted files of a volume."""
FIRST_FILE = 24
"""The records before it are the file system's own."""
_BATCH = 512
"""Records that are read together."""
_HEADER = c_ntfs._FILE_RECORD_SEGMENT_HEADER
_FLAGS: int = _HEADER.fields["Flags"].offset  # type: ignore[assignment]


def is_system_file(path: str, entry: Any) -> bool:
    """Whether a file is what NTFS keeps for itself, as ``$MFT``, ``$Bitmap``, ``$Extend/$UsnJrnl:$J``; none of another kind is.

    Args:
        path: From the root of its file system, with a slash before it.
        entry: The file, as dissect.target has it.
    """
    record = getattr(entry, "entry", None)
    return isinstance(record, MftRecord) and (
        (record.segment is not None and record.segment < FIRST_FILE) or path.lower().startswith("/$extend/")
    )


class Incarnation(NamedTuple):
    """One file that had an MFT record, and is deleted."""

    segment: int
    deleted_in: NtfsView | None
    """The oldest state in which its record is deleted."""
    live_in: NtfsView | None
    """The newest state that still has the file."""
    changed: int
    """The newest of its times, in nanoseconds since 1970."""
    sequence: int
    """Of its record: that of the file where a state still has it, else that of the freed record."""
    running: NtfsView | None = None
    """The running state, where that has the file: then only data streams are deleted that :attr:`live_in` has."""

    @property
    def references(self) -> list[int]:
        """The references that the file can have had: a record counts on when it is freed, or does not."""
        if self.live_in is not None:
            return [reference_of(self.segment, self.sequence)]
        return references_of_freed(self.segment, self.sequence)


class FolderRecord(NamedTuple):
    """A folder's record, live or deleted."""

    segment: int
    views: list[NtfsView]
    """The states that have the very same record, newest first."""


class Noticed:
    """What the records of an MFT are noticed for on the way, live and deleted, in all states."""

    def __init__(self) -> None:
        self.folders: list[FolderRecord] = []
        """Those of one segment together."""
        self.information: list[tuple[int, NtfsView]] = []
        """Segments of what may be ``$I`` files of the recycle bin, and the newest state with that record."""
        self.left_out = 0
        """How many more there are."""

    def look_at(self, segment: int, raw: bytes, views: Sequence[NtfsView]) -> FolderRecord | None:
        """Take a record if it is of a kind.

        Args:
            segment: Its number.
            raw: The record as it lies on the disk.
            views: The states that have it, newest first, as far as they are known yet.
        """
        folder = bool(raw[_FLAGS] & FILE_FILE_NAME_INDEX_PRESENT)
        if raw[:4] != b"FILE" or not (folder or INFORMATION_NAME in raw):
            return None
        if len(self.folders) + len(self.information) >= MAX_FILES:
            self.left_out += 1
        elif folder:
            self.folders.append(FolderRecord(segment, list(views)))
            return self.folders[-1]
        else:
            self.information.append((segment, views[0]))
        return None


def incarnations(views: Sequence[NtfsView], noticed: Noticed, warn: Callable[[str], None]) -> Iterator[Incarnation]:
    """All deleted files of a volume, in the order of the MFT, and live ones whose record had other data streams before.

    Args:
        views: The volume in all states of the disk that have it, newest first.
        noticed: Gets folders, and what may be the recycle bin's.
        warn: Gets what is not told, and why.
    """
    size = views[0].ntfs._record_size
    if any(view.ntfs._record_size != size for view in views) or not 256 <= size <= 65536:
        warn(
            f"MFT records of {size} bytes, expected 256 to 65536 and the same in all states: no deleted files are told"
        )
        return
    running = views[0].depth == 0
    if any(_mft_size(view) // size > MAX_RECORDS for view in views):
        warn(f"more than {MAX_RECORDS} MFT records: the rest is not looked at")
    found = broken = 0
    for segment, states in _segments(views, size, warn):
        newest = states[0][1]
        if running and newest[_FLAGS] & FILE_RECORD_SEGMENT_IN_USE and all(raw == newest for _, raw in states):
            noticed.look_at(segment, newest, views)
            continue  # live, and as it ever was: nearly all of them
        one = _Segment(segment, noticed, running=running)
        one.go_through(states)
        broken += one.broken
        for incarnation in one.found:
            found += 1
            if found > MAX_FILES:
                warn(f"more than {MAX_FILES} deleted files: the rest is not told")
                return
            yield incarnation
    if broken:
        warn(f"{broken} deleted MFT records cannot be read")


def _segments(
    views: Sequence[NtfsView], size: int, warn: Callable[[str], None]
) -> Iterator[tuple[int, list[tuple[NtfsView, bytes]]]]:
    """The records of all files' segments, as the states have each."""
    count = max(min(_mft_size(view) // size, MAX_RECORDS) for view in views)
    for start in range(0, count, _BATCH):
        batches = [_read(view, start * size, _BATCH * size, warn) for view in views]
        if all(batch == batches[0] for batch in batches) and not batches[0].strip(b"\x00"):
            continue
        for segment in range(max(start, FIRST_FILE), min(start + _BATCH, count)):
            first = (segment - start) * size
            yield segment, [(view, batch[first : first + size]) for view, batch in zip(views, batches)]


def _mft_size(view: NtfsView) -> int:
    """Bytes of the MFT, at most those of its volume."""
    return max(0, min(view.ntfs.mft.fh.size, view.size))  # type: ignore[union-attr]


def _read(view: NtfsView, offset: int, size: int, warn: Callable[[str], None]) -> bytes:
    """A piece of the MFT. What of it cannot be read is zeros, which are no record, and that is said."""
    fh, data = view.ntfs.mft.fh, bytearray(size)  # type: ignore[union-attr]
    step = view.ntfs._record_size
    try:
        fh.seek(offset)
        return fh.read(size).ljust(size, b"\x00")
    except Exception as e:
        warn(f"MFT records {offset // step} to {(offset + size) // step} of the state {view.depth} deep: {e}")
    for start in range(0, size, step):
        with suppress(Exception):  # told above
            fh.seek(offset + start)
            record = fh.read(step)
            data[start : start + len(record)] = record
    return bytes(data)


class _Segment:
    """One place in the MFT, gone through from the newest state to the oldest."""

    def __init__(self, segment: int, noticed: Noticed, *, running: bool):
        self.segment = segment
        self.noticed = noticed
        self.running = running
        self.broken = 0
        self.found: list[Incarnation] = []
        self._alive: tuple[int, NtfsView] | None = None
        """The sequence number of the file that the running guest has there, and the running state."""
        self._last: tuple[int, MftRecord] | None = None
        """Sequence number and record of what was found last, as long as older states may have it too."""

    def go_through(self, states: Sequence[tuple[NtfsView, bytes]]) -> None:
        before, found, folder = b"", False, None
        for view, raw in states:
            if raw == before:  # an older state has the same: it was deleted before that already, or is live there too
                if found and self.found[-1].live_in is None:
                    self.found[-1] = self.found[-1]._replace(deleted_in=view)
                if folder is not None:
                    folder.views.append(view)
                continue
            before, found = raw, self._look_at(view, raw)
            folder = self.noticed.look_at(self.segment, raw, [view])
            if not found:
                self._last = None

    def _look_at(self, view: NtfsView, raw: bytes) -> bool:
        """Whether a record is of the file that was found last, now or before."""
        if raw[:4] != b"FILE":
            return False
        try:
            header = _HEADER(raw)
            if segment_reference(header.BaseFileRecordSegment) or header.Flags & FILE_FILE_NAME_INDEX_PRESENT:
                return False  # more of another record, or a folder
            if header.Flags & FILE_RECORD_SEGMENT_IN_USE:
                return self._live(view, header.SequenceNumber, raw)
            return self._deleted(view, header.SequenceNumber, raw)
        except Exception:  # a record that dissect.ntfs cannot read names nothing
            self.broken += 1
            return False

    def _live(self, view: NtfsView, sequence: int, raw: bytes) -> bool:
        if self._alive is not None and sequence == self._alive[0]:
            if has_named_stream(raw):
                running = self._alive[1]
                self.found.append(Incarnation(self.segment, None, view, 0, sequence, running=running))
            return False
        if self.running and view.depth == 0:
            self._alive = sequence, view
            return False
        record = self._parsed(view, raw)
        if self._last is not None and self._is_last(sequence, record):
            if self.found[-1].live_in is None:
                self.found[-1] = self.found[-1]._replace(live_in=view, sequence=sequence)
            return True
        self._last = sequence, record
        self.found.append(Incarnation(self.segment, None, view, changed_at(record), sequence))
        return True

    def _deleted(self, view: NtfsView, sequence: int, raw: bytes) -> bool:
        record = self._parsed(view, raw)
        if self._last is not None and self.found[-1].live_in is None and sequence == self._last[0]:
            self.found[-1] = self.found[-1]._replace(deleted_in=view)
            return True
        if not file_names(record):
            return False
        self._last = sequence, record
        self.found.append(Incarnation(self.segment, view, None, changed_at(record), sequence))
        return True

    def _is_last(self, sequence: int, record: MftRecord) -> bool:
        """Whether a live record is the file that was found last in a newer state."""
        assert self._last is not None
        last, newer = self._last
        if self.found[-1].deleted_in is None or last == sequence:
            return last == sequence
        if last != sequence % 0xFFFF + 1:
            return False
        times = [creation_time(each) for each in (newer, record)]
        return times[0] == times[1] or bool(_names(newer) & _names(record))

    def _parsed(self, view: NtfsView, raw: bytes) -> MftRecord:
        record = MftRecord.from_bytes(raw, view.ntfs)
        record.segment = self.segment
        check_record(record)
        return record


def _names(record: MftRecord) -> set[str]:
    return {name.FileName for name in file_names(record)}
