"""The records of NTFS's change journal, ``$Extend/$UsnJrnl:$J``, page by page.

The journal is one long sparse stream: Windows appends at its end and frees its start. A record never crosses a page of 4 KiB,
and its number (USN) is the offset in the stream at which it starts. So each page can be read by itself, and what has another
number is no record of this journal: old bytes of a cluster, or something that is made to be read as one.

dissect.ntfs has the journal too (``UsnJrnl``), and the structures here are held against it by the tests. It goes through the
whole of it, though, for each state anew, and ends at the first record that it does not know.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from dissect.util.stream import RunlistStream

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 4096
"""USN_PAGE_SIZE (winioctl.h)."""
DATA = 0x00000077
"""USN_REASON_DATA_OVERWRITE, _EXTEND, _TRUNCATION, and the same of named streams (winioctl.h)."""
MADE, DELETED, OLD_NAME, NEW_NAME = 0x00000100, 0x00000200, 0x00001000, 0x00002000
"""USN_REASON_FILE_CREATE, _FILE_DELETE, _RENAME_OLD_NAME, _RENAME_NEW_NAME (the same)."""
FOLDER = 0x10
"""FILE_ATTRIBUTE_DIRECTORY (winnt.h)."""
_V2 = struct.Struct("<IHHQQqqIIIIHH")
"""USN_RECORD_V2: length, version, file, folder, USN, time, reason, source, security, attributes, size and place of the name."""
_V3 = struct.Struct("<IHHQQQQqqIIIIHH")
"""USN_RECORD_V3: the same with numbers of 128 bits, of which NTFS uses 64."""


class JournalRecord(NamedTuple):
    """A record of the change journal."""

    usn: int
    reference: int
    """Of the file: number of its MFT record, and in the upper 16 bits its sequence number."""
    parent: int
    """The same of its folder."""
    at: int
    """When, by the guest's clock, in 100 nanoseconds since 1601."""
    reason: int
    """All that was done to the file since it was opened."""
    attributes: int
    name: str


def records_in(page: bytes, start: int) -> Iterator[JournalRecord]:
    """The records of a page, up to the first thing that is none.

    Args:
        page: The bytes of the page.
        start: Where in the stream it starts.
    """
    at = 0
    while at + _V2.size <= len(page):
        length, major = struct.unpack_from("<IH", page, at)
        if length < _V2.size or length % 8 or at + length > len(page):
            return
        record = _record(page[at : at + length], major)
        if record is not None and record.usn == start + at:
            yield record
        at += length


def _record(data: bytes, major: int) -> JournalRecord | None:
    if major == 2:
        form = _V2
        _, _, _, reference, parent, usn, at, reason, _, _, attributes, size, place = form.unpack_from(data)
    elif major == 3 and len(data) >= _V3.size:
        form = _V3
        _, _, _, reference, high, parent, above, usn, at, reason, _, _, attributes, size, place = form.unpack_from(data)
        if high or above:
            return None
    else:  # version 4 has no name, and comes beside one that has
        return None
    if not size or size % 2 or place < form.size or place + size > len(data):
        return None
    name = data[place : place + size].decode("utf-16-le", "surrogatepass")
    return JournalRecord(usn, reference, parent, at, reason, attributes, name)


def stored_ranges(stream: Any) -> Iterator[tuple[int, int]]:
    """The ranges of a stream that are not holes, by whole pages: start and end, in bytes, by ascending offset, none twice.

    Args:
        stream: The journal as dissect.ntfs opened it.
    """
    size = stream.size or 0
    if not isinstance(stream, RunlistStream):
        yield 0, size
        return
    offset = first = last = 0  # the range that is not given yet
    for place, count in stream.runlist:
        if count <= 0 or offset >= size:
            break
        end = offset + count * stream.block_size
        if place is not None:
            start = offset // PAGE * PAGE
            if start > last:
                yield first, last
                first = start
            last = min(-(-end // PAGE) * PAGE, size)
        offset = end
    yield first, last
