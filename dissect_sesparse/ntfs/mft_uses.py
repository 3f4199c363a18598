"""Whether a use of an MFT record is over: the same record is used again and again, and counts its uses.

A file is known by the number of its record and the sequence number of that: together they are its *reference*, which names of
indexes and of the change journal have too. Whoever frees a record counts on (Windows, ntfs-3g), so a free record has the
number of its last use, or that of its next one.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from dissect.ntfs.c_ntfs import FILE_RECORD_SEGMENT_IN_USE

from dissect_sesparse.ntfs.mft_record import check_record, file_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    from dissect_sesparse.ntfs.view import NtfsView

    Use = Literal["live", "over", "before", "unknown"]

_SEGMENT_BITS = 48
_HEADER = struct.Struct("<16xH4xH")
"""SequenceNumber and Flags of FILE_RECORD_SEGMENT_HEADER (Linux, fs/ntfs3/ntfs.h, ``MFT_REC``)."""


def split_reference(reference: int) -> tuple[int, int]:
    """The number of the MFT record and the sequence number of a reference."""
    return reference & ((1 << _SEGMENT_BITS) - 1), reference >> _SEGMENT_BITS


def reference_of(segment: int, sequence: int) -> int:
    """The reference of a use of an MFT record."""
    return segment | sequence << _SEGMENT_BITS


def references_of_freed(segment: int, sequence: int) -> list[int]:
    """The references that a file can have had whose record is free: whoever freed it counted on, or did not."""
    return [reference_of(segment, sequence - 1 or 0xFFFF), reference_of(segment, sequence)]


class MftUses:
    """The uses of MFT records in all states.

    Args:
        views: The volume in all states of the disk that have it, newest first.
    """

    def __init__(self, views: Sequence[NtfsView]):
        self._views = views

    def use_in(self, view: NtfsView, reference: int, name: str) -> Use:
        """What a state says of the use of a record that a reference means: unknown where it can be either.

        Args:
            view: The state.
            reference: Of the file.
            name: Of the file: a free record that has another one is that of an older use.
        """
        segment, sequence = split_reference(reference)
        size = view.ntfs._record_size
        try:
            fh: Any = view.ntfs.mft.fh  # type: ignore[union-attr]
            if (segment + 1) * size > fh.size:
                return "before"
            fh.seek(segment * size)
            data = fh.read(_HEADER.size)
        except Exception:  # whatever the disk or dissect trips over
            return "unknown"
        if data[:4] != b"FILE":
            return "unknown"
        now, flags = _HEADER.unpack(data)
        if now != sequence:
            return "over" if (now - sequence) % 0x10000 < 0x8000 else "before"
        if flags & FILE_RECORD_SEGMENT_IN_USE:
            return "live"
        return "unknown" if name in _names(view, segment) else "before"

    def around(self, reference: int, name: str) -> tuple[int | None, int | None]:
        """The depths of the newest state that has a file or is from before it, and of the oldest that has it no more.

        ``None``: there is no such state, or nothing says which it is.
        """
        newer = None
        for view in self._views:
            use = self.use_in(view, reference, name)
            if use == "over":
                newer = view.depth
            else:
                return (None if use == "unknown" else view.depth), newer
        return None, newer


def _names(view: NtfsView, segment: int) -> set[str]:
    """The names that a record has."""
    with suppress(Exception):  # whatever dissect.ntfs trips over: then it has none
        record = view.record(segment)
        check_record(record)
        return {name.FileName for name in file_names(record)}
    return set()
