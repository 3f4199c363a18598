"""The deleted files of an NTFS volume, and which of their bytes are surely their own.

Where an older state of the disk still has the file as it was when it was deleted, that state has its bytes: they lie in links
that nothing can have written to since. Otherwise the record that names it tells where its clusters were, and what was written
there in the time in which it was deleted is its own (see ``views``), unless

- a file of the state that names it has the cluster (``$Bitmap``), or
- a file that was deleted in the same time and changed later had the cluster. Where both changed at the same time, neither
  gets it. The times are those that the files tell; nothing else tells which was last; or
- its grain is all zeros: then the host may have reclaimed it, and nothing tells that the file had zeros there.
"""

from __future__ import annotations

import io
from datetime import datetime, timedelta, timezone
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from dissect.ntfs.c_ntfs import ATTRIBUTE_FLAG_COMPRESSION_MASK
from dissect.ntfs.stream import CompressedRunlistStream

from dissect_sesparse.disk.c_sesparse import GRAIN_SIZE
from dissect_sesparse.evidence.deleted import CHUNK, DeletedFile, read_pieces
from dissect_sesparse.evidence.mft import Paths, check, incarnations, streams
from dissect_sesparse.evidence.ranges import Ranges, TooManyRangesError
from dissect_sesparse.evidence.unreferenced import spans_of_bits
from dissect_sesparse.evidence.views import Origin, Period

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from dissect.ntfs.attr import Attribute
    from dissect.ntfs.mft import MftRecord

    from dissect_sesparse.disk.chain import Chain
    from dissect_sesparse.evidence.deleted import Budget
    from dissect_sesparse.evidence.mft import Incarnation, NtfsView

_BITMAP = 6
"""The MFT record of ``$Bitmap``."""
_UNIT = 4096
_BITMAP_STEP = 4096 * 8
"""Clusters that are looked up together."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Layout(NamedTuple):
    """Where the bytes of a data stream are. Sizes in bytes."""

    size: int
    valid: int
    """Bytes from the start that were ever written; the others are zeros, whatever is in their clusters."""
    runs: tuple[tuple[int, int | None, int], ...]
    """Offset in the file, offset in the volume (``None``: a hole, zeros) and size."""
    resident: bytes | None
    """All of it, where it is in the MFT record itself."""
    unit: int
    """Bytes that are compressed together, 0 where it is not compressed."""

    @property
    def clusters(self) -> Iterator[tuple[int, int]]:
        """The ranges of the volume."""
        return ((place, place + size) for _, place, size in self.runs if place is not None)


def layout_of(pieces: Sequence[Attribute], view: NtfsView) -> Layout:
    """The layout of a data stream. Runs that leave the volume are left out.

    Raises:
        Exception: Whatever dissect.ntfs trips over.
    """
    header = pieces[0].header
    if header.resident:
        data = header.data()
        return Layout(header.size, header.size, (), data, 0)
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
    form = header.header.Form.Nonresident
    return Layout(form.FileSize, min(form.ValidDataLength, form.FileSize), tuple(runs), None, unit)


def deleted_files(
    chain: Chain, views: Sequence[NtfsView], volume: str, budget: Budget, warn: Callable[[str], None]
) -> Iterator[DeletedFile]:
    """The deleted files of an NTFS volume, those that changed last first.

    Args:
        chain: The disk.
        views: The volume in all states of the disk that have it, newest first.
        volume: What dissect calls it.
        budget: How many bytes are read at the most.
        warn: Gets what is not told, and why.
    """
    yield from _Volume(chain, views, volume, budget, warn).files()


class _Volume:
    def __init__(
        self, chain: Chain, views: Sequence[NtfsView], volume: str, budget: Budget, warn: Callable[[str], None]
    ):
        self.chain = chain
        self.views = views
        self.volume = volume
        self.budget = budget
        self.warn = warn
        self.paths = Paths(views)
        self._periods: dict[int, tuple[Period, Ranges]] = {}
        self._bitmaps: dict[int, _Bitmap] = {}

    def files(self) -> Iterator[DeletedFile]:
        found = sorted(incarnations(self.views, self.warn), key=lambda each: (-each.changed, each.segment))
        try:
            for _, together in groupby(found, key=lambda each: each.changed):
                yield from self._together(list(together))
        except TooManyRangesError as e:
            self.warn(f"the clusters of its deleted files overlap: {e}, the rest is not told")

    def _together(self, group: list[Incarnation]) -> Iterator[DeletedFile]:
        """The files that changed last at the same time: no cluster that two of them had is given to either."""
        had: dict[int, Ranges] = {}
        contested: dict[int, Ranges] = {}
        for file in self._each(group, silent=True):  # gone through twice, not kept: there may be very many
            if file.period is not None:
                seen = had.setdefault(file.period, Ranges())
                for start, end in file.layout.clusters:
                    for low, high, taken in seen.split(start, end):
                        if taken:
                            contested.setdefault(file.period, Ranges()).add(low, high)
                    seen.add(start, end)
        for file in self._each(group):
            if file.period is not None:
                self._grant(file, contested.get(file.period, Ranges()))
            if (told := self._told(file)) is not None:
                yield told
        for depth, ranges in had.items():
            for start, end in ranges:
                self.period(depth)[1].add(start, end)

    def _each(self, group: list[Incarnation], *, silent: bool = False) -> Iterator[_File]:
        """The data streams of some files."""
        for one in group:
            try:
                yield from self._of(one)
            except TooManyRangesError:
                raise
            except Exception as e:  # whatever dissect.ntfs trips over
                if not silent:
                    self.warn(f"the deleted MFT record {one.segment}: {e or type(e).__name__}")

    def _told(self, file: _File) -> DeletedFile | None:
        try:
            return file.told(self)
        except TooManyRangesError:
            raise
        except Exception as e:  # as above
            self.warn(f"{file.path}: {e or type(e).__name__}")
            return None

    def _of(self, one: Incarnation) -> list[_File]:
        """The data streams of a file."""
        view = one.deleted_in or one.live_in
        assert view is not None
        record = one.record
        check(record)
        path = self.paths.of(record, view)
        older = None if one.live_in is None or one.deleted_in is None else one.live_in.record(one.segment)
        files = []
        for name, pieces in streams(record).items():
            file = _File(one, record, f"{path}:{name}" if name else path, name, layout_of(pieces, view))
            if older is not None and name in (kept := streams(older)):
                assert one.live_in is not None
                file.older = layout_of(kept[name], one.live_in)
            file.same = _written_at(older) == _written_at(record) if older is not None else False
            if one.deleted_in is not None and not file.is_in_snapshot and file.layout.resident is None:
                if one.deleted_in.place is None:
                    self.warn(f"{path}: its volume is not one piece of the disk, only older states tell of its bytes")
                else:
                    file.period = one.deleted_in.depth
            files.append(file)
        return files

    def _grant(self, file: _File, contested: Ranges) -> None:
        """Give a file those of its clusters that no other had later or at the same time."""
        later = self.period(file.period or 0)[1]
        for start, end in file.layout.clusters:
            for low, high, taken in later.split(start, end):
                for first, last, twice in () if taken else contested.split(low, high):
                    if not twice:
                        file.granted.add(first, last)

    def period(self, depth: int) -> tuple[Period, Ranges]:
        """What the guest wrote in the time of a link, and which ranges of the volume files have got of it."""
        if depth not in self._periods:
            self._periods[depth] = Period(self.chain, depth), Ranges()
        return self._periods[depth]

    def bitmap(self, view: NtfsView) -> _Bitmap:
        if view.depth not in self._bitmaps:
            self._bitmaps[view.depth] = _Bitmap(view)
        return self._bitmaps[view.depth]


class _File:
    """A data stream of a deleted file."""

    def __init__(self, one: Incarnation, record: MftRecord, path: str, stream: str, layout: Layout):
        self.one = one
        self.record = record
        self.path = path
        self.stream = stream
        self.layout = layout
        self.older: Layout | None = None
        """Of the newest state that has the file, where it is named by a deleted record."""
        self.same = False
        """Whether it was not written to since that state."""
        self.period: int | None = None
        """The depth of the link in whose time it was written last and deleted, where its bytes are looked for there."""
        self.granted = Ranges()
        """The ranges of the volume that were its own last."""

    @property
    def is_in_snapshot(self) -> bool:
        """Whether an older state has it as it was when it was deleted."""
        return self.older is not None and self.same and self.older.size == self.layout.size

    def told(self, volume: _Volume) -> DeletedFile | None:
        one = self.one
        if one.deleted_in is None:
            return self._make(volume, one.live_in, self.record, "snapshot", self._from_snapshot)
        if self.layout.resident is None and self.is_in_snapshot:
            return self._make(volume, one.deleted_in, self.record, "mft", self._from_snapshot)
        if self.layout.resident is not None:
            return self._make(volume, one.deleted_in, self.record, "mft", self._resident)
        pieces = _nothing if self.period is None else lambda: self._from_period(volume)
        last = self._make(volume, one.deleted_in, self.record, "mft", pieces)
        if self.older is None or last is None or sum(len(data) for _, data in last.pieces()) == self.layout.size:
            return last
        # It was written to between the snapshot and its deletion, and that is not all there. The snapshot's is.
        assert one.live_in is not None
        record = one.live_in.record(one.segment)
        return self._make(volume, one.live_in, record, "snapshot", self._from_snapshot, self.older)

    def _make(
        self,
        volume: _Volume,
        view: NtfsView | None,
        record: MftRecord,
        named_by: str,
        pieces: Callable[[], Iterator[tuple[int, bytes]]],
        layout: Layout | None = None,
    ) -> DeletedFile | None:
        assert view is not None
        size = (layout or self.layout).size
        if size < 0:
            volume.warn(f"{self.path}: a file of {size} bytes is not told")
            return None
        if size > volume.chain.size:
            volume.warn(f"{self.path}: a file of {size} bytes on a disk of {volume.chain.size}: it is not recovered")
            pieces = _nothing
        standard: Any = record.attributes.STANDARD_INFORMATION
        return DeletedFile(
            link=volume.chain.links[view.depth],
            volume=volume.volume,
            path=self.path,
            size=size,
            mtime=_time(standard, "last_modification_time_ns"),
            btime=_time(standard, "creation_time_ns"),
            atime=_time(standard, "last_access_time_ns"),
            inode=self.one.segment,
            filesystem="ntfs",
            named_by=named_by,
            pieces=lambda: volume.budget.of(pieces(), self.path),
            place=view.place,
        )

    def _resident(self) -> Iterator[tuple[int, bytes]]:
        """Content that is in the MFT record itself."""
        data = self.layout.resident or b""
        yield from [(0, data)] if data else ()

    def _from_snapshot(self) -> Iterator[tuple[int, bytes]]:
        """The bytes that the newest state has which has the file."""
        view = self.one.live_in
        assert view is not None
        record = view.record(self.one.segment)
        layout = layout_of(streams(record)[self.stream], view)

        def read(offset: int, size: int) -> bytes:
            fh = record.open(self.stream)  # anew: a stream that raised is where nobody knows
            fh.seek(offset)
            return fh.read(size)

        valid = layout.size if layout.resident is not None else layout.valid
        yield from read_pieces(read, 0, max(0, valid), max(_UNIT, layout.unit), _leave_out)
        yield from _zeros(max(0, valid), layout.size)

    def _from_period(self, volume: _Volume) -> Iterator[tuple[int, bytes]]:
        """The bytes that were written in the time in which the file was deleted, or before while it had them."""
        layout = self.layout
        valid = max(0, layout.valid)
        if not layout.unit:
            for offset, place, size in layout.runs:
                if (size := min(size, valid - offset)) <= 0:
                    break
                yield from (
                    _zeros(offset, offset + size) if place is None else self._cluster(volume, offset, place, size)
                )
        else:
            yield from read_pieces(self._compressed(volume), 0, valid, layout.unit, _leave_out)
        yield from _zeros(valid, layout.size)

    def _compressed(self, volume: _Volume) -> Callable[[int, int], bytes]:
        view = self.one.deleted_in
        assert view is not None
        cluster = view.ntfs.cluster_size
        runs = [(None if place is None else place // cluster, size // cluster) for _, place, size in self.layout.runs]
        unit = (self.layout.unit // cluster).bit_length() - 1

        def read(offset: int, size: int) -> bytes:
            fh = CompressedRunlistStream(_OwnBytes(self, volume), runs, self.layout.size, cluster, unit)  # type: ignore[arg-type]
            fh.seek(offset)
            return fh.read(size)

        return read

    def _cluster(self, volume: _Volume, offset: int, place: int, size: int) -> Iterator[tuple[int, bytes]]:
        """Its own bytes of a range of the volume; ``offset`` is where they are in the file."""
        view = self.one.deleted_in
        assert view is not None
        assert view.place is not None
        period = volume.period(view.depth)[0]
        for start, count, origin in period.parts(view.place + place, size):
            for at in range(start, start + count, CHUNK):
                here, length = at - view.place, min(CHUNK, start + count - at)
                source = period.below if origin is Origin.BELOW else period
                if source is None or origin is Origin.LOST:
                    continue
                if origin is Origin.BELOW:
                    own = self._written_before(here, length, offset + here - place)
                else:
                    own = self._written_last(volume, here, length)
                for low, high in own:
                    for where, data in read_pieces(source.read, view.place + low, view.place + high, 512, _leave_out):
                        for skip, part in [(0, data)] if origin is Origin.BELOW else _present(period, where, data):
                            yield offset + where + skip - view.place - place, part

    def _written_last(self, volume: _Volume, place: int, size: int) -> Iterator[tuple[int, int]]:
        """The parts of a range of the volume that nobody had after it."""
        view = self.one.deleted_in
        assert view is not None
        for low, high, own in self.granted.split(place, place + size):
            if own:
                yield from volume.bitmap(view).free(low, high)

    def _written_before(self, place: int, size: int, offset: int) -> Iterator[tuple[int, int]]:
        """The parts of a range of the volume that it had in the state below too, at the same place of the file."""
        one = self.one
        if self.older is None or one.live_in is None or one.deleted_in is None:
            return
        if one.live_in.depth != one.deleted_in.depth + 1:
            return
        for start, older, length in self.older.runs:
            if older is None or older - start != place - offset:
                continue
            low, high = max(place, older), min(place + size, older + min(length, max(0, self.older.valid - start)))
            if low < high:
                yield low, high


class _OwnBytes:
    """A volume as one file had it: a read of anything that is not surely the file's raises."""

    def __init__(self, file: _File, volume: _Volume):
        self._file = file
        self._volume = volume
        self._position = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset
        return offset

    def read(self, size: int) -> bytes:
        data = bytearray()
        start = self._position
        for offset, place, length in self._file.layout.runs:
            if place is None or not place <= start < place + length:
                continue
            first = offset + start - place
            for at, piece in self._file._cluster(self._volume, first, start, min(size, place + length - start)):
                if at != first + len(data):
                    break
                data += piece
            break
        if len(data) < size:
            raise OSError(f"{size - len(data)} of {size} bytes are not its own any more")
        self._position += size
        return bytes(data)


class _Bitmap:
    """Which clusters of a volume are in use, as ``$Bitmap`` tells."""

    def __init__(self, view: NtfsView):
        self._view = view
        self._cluster = view.ntfs.cluster_size

    def free(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of a range of the volume that no file has; none where the bitmap cannot be read."""
        first, last = start // self._cluster, -(-end // self._cluster)
        step = _BITMAP_STEP
        for block in range(first // step * step, last, step):
            for low, count in self._spans(max(first, block), min(last, block + step)):
                yield max(start, low * self._cluster), min(end, (low + count) * self._cluster)

    def _spans(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        skip = first % 8
        try:
            fh = self._view.record(_BITMAP).open()
            fh.seek(first // 8)
            data = fh.read(-(-last // 8) - first // 8)
        except Exception:  # then nothing tells that they are free
            return
        bits = int.from_bytes(data, "little") >> skip
        count = min(last - first, max(0, len(data) * 8 - skip))
        for low, length in spans_of_bits(~bits & (1 << count) - 1):
            yield first + low, length


def _leave_out(error: Exception) -> None:
    """What cannot be read counts as not recovered."""


def _present(period: Period, place: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Those bytes of a piece of the disk that are in grains that are not all zeros, with their place in the piece."""
    first = 0  # of what is kept
    position = 0
    while position < len(data):
        end = min(len(data), position + GRAIN_SIZE - (place + position) % GRAIN_SIZE)
        if not data[position:end].strip(b"\x00") and period.is_empty(place + position):
            if first < position:
                yield first, data[first:position]
            first = end
        position = end
    if first < len(data):
        yield first, data[first:]


def _zeros(start: int, end: int) -> Iterator[tuple[int, bytes]]:
    for offset in range(start, end, CHUNK):
        yield offset, bytes(min(CHUNK, end - offset))


def _nothing() -> Iterator[tuple[int, bytes]]:
    yield from ()


def _written_at(record: MftRecord | None) -> int | None:
    try:
        standard: Any = record.attributes.STANDARD_INFORMATION  # type: ignore[union-attr]
        return standard.last_modification_time_ns
    except Exception:
        return None


def _time(standard: Any, name: str) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=getattr(standard, name) // 1000)
    except Exception:  # no time that there ever was
        return None
