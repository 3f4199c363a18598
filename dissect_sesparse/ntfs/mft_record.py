"""What one record of an NTFS volume's MFT tells: its data streams, its times, and whether it can be gone through at all.

dissect.ntfs reads records, and refuses one whose sectors are not of the same write (the update sequence).
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from dissect.ntfs.attr import AttributeHeader
from dissect.ntfs.c_ntfs import ATTRIBUTE_TYPE_CODE
from dissect.ntfs.util import segment_reference

if TYPE_CHECKING:
    from dissect.ntfs.attr import Attribute
    from dissect.ntfs.mft import MftRecord

_ATTRIBUTE_LIST, _DATA = 0x20, 0x80
"""Kinds of attributes (Linux, fs/ntfs3/ntfs.h, ``ATTR_TYPE``)."""
MAX_ATTRIBUTE_LIST = 256 * 1024
"""Bytes: the limit of NTFS itself."""
_ELSEWHERE = {0x80000017, 0x80000013, 0x80000006, 0x80000007, 0x80000008, 0xC0000004}
"""Tags of reparse points of files whose content is not in their main stream: WOF, DEDUP, HSM2, SIS, WIM, HSM (ntifs.h)."""
_CLOUD = 0x9000001A
"""The same, of a file that is in a cloud; the second nibble counts up to F."""


class MftError(Exception):
    """A record says what no record of NTFS can say."""


class Times(NamedTuple):
    """What of a record changes with the file: times in 100 nanoseconds since 1601, and a number of the change journal."""

    made: int
    written: int
    changed: int
    """When anything of the record changed, a time that was set included."""
    usn: int


def check_record(record: MftRecord) -> None:
    """Refuse a record whose attributes cannot be gone through in bounded time and memory.

    Raises:
        MftError: If that is so.
    """
    fh, offset = io.BytesIO(record.data or b""), record.header.FirstAttributeOffset  # type: ignore[union-attr]
    while True:
        try:
            header = AttributeHeader(fh, offset, record)
        except EOFError:
            return
        if header.type == ATTRIBUTE_TYPE_CODE.END:
            return
        if header.record_length == 0:
            raise MftError("an attribute of no length")
        if header.type == ATTRIBUTE_TYPE_CODE.ATTRIBUTE_LIST and not 0 <= header.size <= MAX_ATTRIBUTE_LIST:
            raise MftError(f"an attribute list of {header.size} bytes, expected at most {MAX_ATTRIBUTE_LIST}")
        offset += header.record_length


def own(record: MftRecord, kind: ATTRIBUTE_TYPE_CODE) -> list[Attribute]:
    """The attributes of a kind that a file has, in its own record and in others that hold more of it.

    dissect.ntfs gives all attributes of each record that the attribute list names. A record that went to another file since
    has that one's: its data, its times and its name.
    """
    return [
        attribute
        for attribute in record.attributes[kind]
        if (owner := attribute.record) is None or owner.segment == record.segment or _is_more_of(owner, record)
    ]


def streams(record: MftRecord) -> dict[str, list[Attribute]]:
    """The data streams of a record by name, the pieces of each in the order of the file; "" is the file's own."""
    found: dict[str, list[Attribute]] = {}
    for attribute in own(record, ATTRIBUTE_TYPE_CODE.DATA):
        found.setdefault(attribute.header.name, []).append(attribute)
    return {name: sorted(pieces, key=lambda piece: piece.header.lowest_vcn or 0) for name, pieces in found.items()}


def has_named_stream(raw: bytes) -> bool:
    """Whether a record as it lies on the disk may have a data stream with a name, by its attributes' headers alone."""
    at = int.from_bytes(raw[20:22], "little")
    while at + 16 <= len(raw):
        kind, length, _, characters = struct.unpack_from("<IIBB", raw, at)
        if kind == _ATTRIBUTE_LIST or (kind == _DATA and characters):
            return True
        if kind > _DATA or length < 16:  # they are in the order of their kinds; 0xFFFFFFFF ends them
            return False
        at += length
    return False


def _is_more_of(other: MftRecord, record: MftRecord) -> bool:
    """Whether a record belongs to the same file: its number may have counted on when that was deleted, the reference not."""
    base, header = other.header.BaseFileRecordSegment, record.header  # type: ignore[union-attr]
    number: int = header.SequenceNumber  # type: ignore[union-attr]
    return segment_reference(base) == record.segment and (
        base.SequenceNumber == number or base.SequenceNumber % 0xFFFF + 1 == number
    )


def is_elsewhere(record: MftRecord) -> bool:
    """Whether the content of a file is not in its main stream: compressed by Windows itself, deduplicated, in a cloud."""
    for attribute in own(record, ATTRIBUTE_TYPE_CODE.REPARSE_POINT):
        tag = int.from_bytes(attribute.header.data()[:4], "little")
        if tag in _ELSEWHERE or tag & 0xFFFF0FFF == _CLOUD:
            return True
    return False


def file_names(record: MftRecord) -> list[Any]:
    """The names of a file: structures with ``FileName``, ``Flags`` and ``ParentDirectory``."""
    return [attribute.attribute.attr for attribute in own(record, ATTRIBUTE_TYPE_CODE.FILE_NAME)]  # type: ignore[union-attr]


def standard(record: MftRecord) -> Any:
    """The times of a file; ``None`` where nothing tells them."""
    return next(iter(own(record, ATTRIBUTE_TYPE_CODE.STANDARD_INFORMATION)), None)


def standard_times(record: MftRecord) -> Times | None:
    """What tells whether a file was changed; ``None`` where nothing does."""
    try:
        times = standard(record).attr
        return Times(times.CreationTime, times.LastModificationTime, times.LastChangeTime, times.Usn)
    except Exception:  # whatever dissect.ntfs trips over
        return None


def is_unchanged(older: MftRecord, newer: MftRecord) -> bool:
    """Whether two records of a file have the same times and the same place in the change journal."""
    times = standard_times(older)
    return times is not None and times == standard_times(newer)


def creation_time(record: MftRecord) -> int | None:
    """When the file was made, in 100 nanoseconds since 1601; ``None`` where nothing says."""
    times = standard_times(record)
    return times.made if times is not None else None


def changed_at(record: MftRecord) -> int:
    """The newest of a file's times, in nanoseconds since 1970; 0 where it has none.

    A file that got the clusters of a deleted one was made after that one's last change, if no time was set.
    """
    try:
        times = standard(record)
        return max(times.creation_time_ns, times.last_modification_time_ns, times.last_change_time_ns)
    except Exception:
        return 0
