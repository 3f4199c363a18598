"""The bytes of a data stream of NTFS: from a state that has the file, or from the time of the link in which it was deleted.

What is proven and what is only likely is said in ``ntfs_files``.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Protocol

from dissect.util.compression import lznt1

from dissect_sesparse.files.deleted import CHUNK, Piece, read_pieces
from dissect_sesparse.files.period_bytes import present_parts
from dissect_sesparse.ntfs.layout import volume_runs
from dissect_sesparse.time.views import Origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.ntfs.bitmap import Bitmap
    from dissect_sesparse.ntfs.layout import StreamLayout
    from dissect_sesparse.ntfs.view import NtfsView
    from dissect_sesparse.time.views import Period
    from dissect_sesparse.trimmed.ranges import Ranges

_SECTOR = 512


class PieceSource(Protocol):
    """Where the bytes of a file's clusters come from."""

    def pieces(self, offset: int, place: int, size: int) -> Iterator[Piece]:
        """What there is of a range of the volume.

        Args:
            offset: Where in the file it is.
            place: Where in the volume it starts.
            size: Bytes.
        """
        ...


def content(layout: StreamLayout, source: PieceSource) -> Iterator[Piece]:
    """What there is of a data stream. Resident data, holes and what was never written are proven by the record itself."""
    if layout.resident is not None:
        yield from [Piece(0, layout.resident, True)] if layout.resident else ()
        return
    valid = max(0, layout.valid)
    yield from (_compressed if layout.unit else _plain)(layout, valid, source)
    yield from _zeros(valid, layout.size)


def _plain(layout: StreamLayout, valid: int, source: PieceSource) -> Iterator[Piece]:
    for offset, place, size in volume_runs(layout, 0, valid):
        yield from _zeros(offset, offset + size) if place is None else source.pieces(offset, place, size)


def _compressed(layout: StreamLayout, valid: int, source: PieceSource) -> Iterator[Piece]:
    for start in range(0, valid, layout.unit):
        size = min(layout.unit, valid - start)
        runs = list(volume_runs(layout, start, start + layout.unit))
        if sum(length for _, _, length in runs) < size:
            continue  # a run is missing
        first_hole = next((number for number, run in enumerate(runs) if run[1] is None), len(runs))
        if not first_hole:
            yield Piece(start, bytes(size), True)
            continue
        unit = _unit(runs[:first_hole], source)
        if unit is None:
            continue
        data, proven = unit
        if first_hole < len(runs):  # a hole behind the data says that these are compressed
            data = _decompressed(data, layout.unit)
        if len(data) >= size:
            yield Piece(start, data[:size], proven)


def _decompressed(data: bytes, unit: int) -> bytes:
    """What some bytes were before they were compressed; none where they are not what was written."""
    try:
        return lznt1.decompress(io.BytesIO(data + bytes(64))).ljust(unit, b"\x00")  # its end may be left out, if zeros
    except Exception:  # whatever it trips over
        return b""


def _unit(runs: list[tuple[int, int | None, int]], source: PieceSource) -> tuple[bytes, bool] | None:
    """All bytes of some runs, and whether they are proven; ``None`` where some are not there."""
    data, proven = bytearray(), True
    for offset, place, size in runs:
        end = len(data) + size
        for piece in source.pieces(offset, place or 0, size):
            data += piece.data
            proven &= piece.proven
        if len(data) != end:
            return None
    return bytes(data), proven


def _zeros(start: int, end: int) -> Iterator[Piece]:
    for offset in range(start, end, CHUNK):
        yield Piece(offset, bytes(min(CHUNK, end - offset)), True)


class StateSource:
    """The clusters of a file that a state has: proven where the file system was closed and its bitmap has them in use."""

    def __init__(self, view: NtfsView, bitmap: Bitmap):
        self._view = view
        self._bitmap = bitmap

    def pieces(self, offset: int, place: int, size: int) -> Iterator[Piece]:
        position = place
        for low, high in self._bitmap.used(place, place + size):
            yield from self._read(offset + position - place, position, low, proven=False)
            yield from self._read(offset + low - place, low, high, proven=not self._view.doubt)
            position = high
        yield from self._read(offset + position - place, position, place + size, proven=False)

    def _read(self, offset: int, start: int, end: int, *, proven: bool) -> Iterator[Piece]:
        for at, data in read_pieces(self._at, start, end, _SECTOR, _leave_out):
            yield Piece(offset + at - start, data, proven)

    def _at(self, offset: int, size: int) -> bytes:
        fh = self._view.ntfs.fh
        fh.seek(offset)  # type: ignore[union-attr]
        return fh.read(size)  # type: ignore[union-attr]


class PeriodSource:
    """The clusters of a file in the time in which it was deleted.

    Args:
        period: That time.
        view: The state at its end.
        bitmap: Of that state.
        granted: The ranges of the volume that no other file that is known had later.
        older: Where the file was in the state at its beginning, ``None`` where that has it not, or lies elsewhere.
        unchanged: Whether its record says that it was not changed since that state.
        believed: Whether the file system of that state was closed.
    """

    def __init__(
        self,
        period: Period,
        view: NtfsView,
        bitmap: Bitmap,
        granted: Ranges,
        older: StreamLayout | None,
        *,
        unchanged: bool,
        believed: bool,
    ):
        self._period = period
        self._bitmap = bitmap
        self._granted = granted
        self._older = older
        self._unchanged = unchanged
        self._believed = believed
        assert view.place is not None
        self._start = view.place

    def pieces(self, offset: int, place: int, size: int) -> Iterator[Piece]:
        for start, count, origin in self._period.parts(self._start + place, size):
            for at in range(start, start + count, CHUNK):
                here, length = at - self._start, min(CHUNK, start + count - at)
                if origin is Origin.OWN:
                    yield from self._written(offset + here - place, here, length)
                elif origin is not Origin.LOST:
                    proven = self._believed and (origin is Origin.BELOW or self._unchanged)
                    yield from self._from_below(offset + here - place, here, length, proven=proven)

    def proves(self, layout: StreamLayout) -> bool:
        """Whether each byte of the file is proven, as long as it can be read."""
        known = 0
        for offset, place, size in volume_runs(layout, 0, layout.valid):
            known += size
            if place is not None and not self._is_proven(offset, place, size):
                return False
        return known >= layout.valid

    def adds(self, layout: StreamLayout) -> bool:
        """Whether it has bytes that may be the file's and that no state has."""
        return not self._unchanged and any(
            next(self._written(offset + start - self._start - place, start - self._start, count), None) is not None
            for offset, place, size in volume_runs(layout, 0, layout.valid)
            if place is not None
            for start, count, origin in self._period.parts(self._start + place, size)
            if origin is Origin.OWN
        )

    def _is_proven(self, offset: int, place: int, size: int) -> bool:
        for start, count, origin in self._period.parts(self._start + place, size):
            here = start - self._start
            own = sum(high - low for low, high in self._had(offset + here - place, here, count))
            if (
                not self._believed
                or own < count
                or not (origin is Origin.BELOW or (origin is Origin.BARE and self._unchanged))
            ):
                return False
        return True

    def _written(self, offset: int, place: int, size: int) -> Iterator[Piece]:
        """What was written there in that time, and is free at its end. Who wrote it last is not known."""
        for granted, until, own in list(self._granted.split(place, place + size)):
            for low, high in self._bitmap.free(granted, until) if own else ():
                where = self._start + low
                for at, data in read_pieces(self._period.read, where, where + high - low, _SECTOR, _leave_out):
                    for skip, part in present_parts(self._period, at, data):
                        yield Piece(offset + at + skip - self._start - place, part, False)

    def _from_below(self, offset: int, place: int, size: int, *, proven: bool) -> Iterator[Piece]:
        """What nobody wrote to in that time, where the file had it at its beginning already."""
        below = self._period.below
        for low, high in self._had(offset, place, size) if below is not None else ():
            where = self._start + low
            for at, data in read_pieces(below.read, where, where + high - low, _SECTOR, _leave_out):  # type: ignore[union-attr]
                yield Piece(offset + at - self._start - place, data, proven)

    def _had(self, offset: int, place: int, size: int) -> Iterator[tuple[int, int]]:
        """The parts of a range of the volume that the file had at the same place of it in the state below."""
        older = self._older
        if older is None:
            return
        for start, there, length in volume_runs(older, offset, min(offset + size, older.valid)):
            if there is not None and there - start == place - offset:
                yield there, there + length


def _leave_out(error: Exception) -> None:
    """What cannot be read counts as not recovered."""
