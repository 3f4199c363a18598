"""Where the bytes of a data stream of NTFS are, as the record of its file says."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from dissect.ntfs.c_ntfs import ATTRIBUTE_FLAG_COMPRESSION_MASK

from dissect_sesparse.ntfs.mft_record import MftError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dissect.ntfs.attr import Attribute, AttributeHeader

    from dissect_sesparse.ntfs.view import NtfsView

MAX_UNIT = 1 << 20
"""Bytes that are compressed together: 16 clusters, and these are of 4 KiB at the most where NTFS compresses."""
_ENCRYPTED = 0x4000
"""Flag of an attribute (ntifs.h): its clusters hold what EFS made of the content."""


class StreamLayout(NamedTuple):
    """Where the bytes of a data stream are. Sizes in bytes."""

    size: int
    valid: int
    """Bytes from the start that were ever written; the others are zeros, whatever is in their clusters."""
    runs: tuple[tuple[int, int | None, int], ...]
    """Offset in the file, offset in the volume (``None``: a hole, zeros) and size, by ascending offset."""
    resident: bytes | None
    """All of it, where it is in the MFT record itself."""
    unit: int
    """Bytes that are compressed together, 0 where it is not compressed."""
    encrypted: bool = False

    @property
    def clusters(self) -> Iterator[tuple[int, int]]:
        """The ranges of the volume."""
        return ((place, place + size) for _, place, size in self.runs if place is not None)


def layout_of(pieces: Sequence[Attribute], view: NtfsView) -> StreamLayout:
    """The layout of a data stream. Runs that leave the volume are left out, and all behind a piece that is missing.

    Raises:
        MftError: If the first piece of it is missing, which alone tells its size, or it leaves its record.
        Exception: Whatever dissect.ntfs trips over.
    """
    header = pieces[0].header
    if header.resident:
        data = _resident(header)
        return StreamLayout(header.size, header.size, (), data, 0)
    if header.lowest_vcn:
        raise MftError("the piece that tells the size of its data is gone")
    runs, offset, cluster = [], 0, view.ntfs.cluster_size
    for piece in pieces:
        if piece.header.resident or (piece.header.lowest_vcn or 0) * cluster != offset:
            break  # a piece is missing: what follows it is not known
        for start, count in piece.header.dataruns():
            if count <= 0:
                break
            if start is None or (start >= 0 and (start + count) * cluster <= view.size):
                runs.append((offset, None if start is None else start * cluster, count * cluster))
            offset += count * cluster
    compressed = header.flags & ATTRIBUTE_FLAG_COMPRESSION_MASK
    unit = cluster << ((header.compression_unit or 0) & 0xF) if compressed else 0
    if unit > MAX_UNIT:
        raise MftError(f"{unit} bytes compressed together, expected at most {MAX_UNIT}")
    form = header.header.Form.Nonresident
    valid = min(form.ValidDataLength, form.FileSize)
    return StreamLayout(form.FileSize, valid, tuple(runs), None, unit, bool(header.flags & _ENCRYPTED))


def _resident(header: AttributeHeader) -> bytes:
    """The content of a resident attribute. What lies behind its end is another attribute's, or of an older use."""
    form = header.header.Form.Resident
    if form.ValueOffset + form.ValueLength > header.record_length:
        raise MftError(
            f"resident data of {form.ValueLength} bytes at {form.ValueOffset}, in an attribute of {header.record_length}"
        )
    data = header.data()
    if len(data) != form.ValueLength:
        raise MftError(f"resident data of {form.ValueLength} bytes, of which the record has {len(data)}")
    return data


def volume_runs(layout: StreamLayout, start: int, end: int) -> Iterator[tuple[int, int | None, int]]:
    """The parts of a range of the file whose place is known: offset in the file, in the volume, and size."""
    first = max(0, bisect_left(layout.runs, (start,)) - 1)
    for number in range(first, len(layout.runs)):
        offset, place, size = layout.runs[number]
        if offset >= end:
            return
        low, high = max(start, offset), min(end, offset + size)
        if low < high:
            yield low, None if place is None else place + low - offset, high - low
