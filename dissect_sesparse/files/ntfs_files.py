"""The deleted files of an NTFS volume, and what proves that bytes are their own.

*As a state has it.* A file that an older state of the disk has, and the running guest has not, is told with the bytes that
it had then. They are proven if the file system of that state was closed, and says that they are its own, by its MFT record and
by ``$Bitmap``, which has them in use. Else they are only likely: what is on the disk of a running guest may be behind what its
log has, and clusters may be another file's by then (see ``trust``).

*As it was when it was deleted.* A deleted record tells where the clusters of its file were. Its bytes are

- proven, if they are in the record itself (a record has the name and the data of one use, and dissect.ntfs refuses one whose
  sectors are of several writes), or are zeros because the record says so (holes, what was never written);
- proven, if the state at the beginning of that time was closed, has them at the same place of the same file, and the link shows that the
  grain was not written until the end of that time. No time of a file takes part in this: whoever changed the file, or got its
  clusters, would have written. Where the grain was trimmed and its entry names no place, this holds only together with a
  record that did not change at all (see ``views``): size, clusters, times (also when the record itself was changed), USN;
- only likely, if they were written in that time, are free at its end, and no other deleted file that is known had their
  cluster later. Who wrote there last is not known: the record of the last owner may be used again, it may have been cut
  short, or made an index, and all times can be set;
- else not its own. All zeros are left out where the host may have reclaimed the grain.

A file whose last bytes are not all proven is told as the newest state has it; and, if some of what it was when it was
deleted was written since that state, as that too. Then there are two records of it, by ``snapshot`` and by ``mft``.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.files.deleted import DeletedFile
from dissect_sesparse.files.deletion import deletion_between
from dissect_sesparse.files.ntfs_bin import RecycleBin, with_original
from dissect_sesparse.files.ntfs_content import PeriodSource, StateSource, content
from dissect_sesparse.files.ntfs_known import KnownNames
from dissect_sesparse.files.ntfs_names import also_naming, naming_of, states_around
from dissect_sesparse.files.ntfs_streams import Stream, stream_names, streams_in
from dissect_sesparse.ntfs.bitmap import Bitmap
from dissect_sesparse.ntfs.filetime import filetime
from dissect_sesparse.ntfs.mft import Noticed, incarnations
from dissect_sesparse.ntfs.mft_paths import Paths
from dissect_sesparse.ntfs.mft_record import file_names, is_unchanged, standard
from dissect_sesparse.time.time_window import TimeWindows
from dissect_sesparse.time.views import Period
from dissect_sesparse.trimmed.ranges import Ranges, TooManyRangesError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from typing import Any

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.files.deleted import Budget, Piece
    from dissect_sesparse.ntfs.layout import StreamLayout
    from dissect_sesparse.ntfs.mft import Incarnation
    from dissect_sesparse.ntfs.view import NtfsView

_DOUBT = "they lie in its clusters, which were written in the time in which it was deleted; nothing tells by whom last"
NOT_IN_USE = "the file system of that state has them as its own, but its bitmap does not have them in use"


class Last(NamedTuple):
    """A data stream as it was when it was deleted."""

    stream: Stream
    older: Stream | None
    """The same as the newest state has it that has the file."""
    granted: Ranges
    """The ranges of the volume that no other file that is known had later."""


def ntfs_deleted_files(
    chain: Chain,
    views: Sequence[NtfsView],
    volume: str,
    budget: Budget,
    warn: Callable[[str], None],
    missed: Callable[[str], None],
) -> Iterator[DeletedFile]:
    """The deleted files of an NTFS volume, those that changed last first.

    Args:
        chain: The disk.
        views: The volume in all states of the disk that have it, newest first.
        volume: What dissect calls it.
        budget: How many bytes are read at the most.
        warn: Gets what is not told, and why.
        missed: Gets what was not looked at, and why.
    """
    yield from _Volume(chain, views, volume, budget, warn).files(missed)


class _Volume:
    def __init__(
        self, chain: Chain, views: Sequence[NtfsView], volume: str, budget: Budget, warn: Callable[[str], None]
    ):
        self.chain = chain
        self.views = views
        self.volume = volume
        self.budget = budget
        self.warn = warn
        self.windows = TimeWindows(chain)
        self.paths = Paths(views)
        self.known = KnownNames(chain, views, volume, self.windows, self.paths)
        self._periods: dict[int, tuple[Period, Ranges]] = {}
        self._bitmaps: dict[int, Bitmap] = {}

    def files(self, missed: Callable[[str], None]) -> Iterator[DeletedFile]:
        noticed = Noticed()
        found = sorted(incarnations(self.views, noticed, self.warn), key=lambda each: (-each.changed, each.segment))
        self.known.look(noticed, missed)
        recycle_bin = RecycleBin(self.paths, noticed.information, missed)
        for file in self._named(found):
            yield with_original(file, recycle_bin.of(file.path))

    def _named(self, found: list[Incarnation]) -> Iterator[DeletedFile]:
        """Those that records of the MFT name, and then what only something else names."""
        try:
            for _, together in groupby(found, key=lambda each: each.changed):
                yield from self._together(list(together))
        except TooManyRangesError as e:
            self.warn(f"the clusters of its deleted files overlap: {e}, the rest is not told")
            return
        yield from self.known.alone()

    # Who had which clusters

    def _together(self, group: list[Incarnation]) -> Iterator[DeletedFile]:
        """The files that changed last at the same time: no cluster that two of them had is given to either."""
        had: dict[int, Ranges] = {}
        contested: dict[int, Ranges] = {}
        for one in group:  # gone through twice, not kept: there may be very many
            for view, layout in self._layouts(one):
                seen = had.setdefault(view.depth, Ranges())
                for start, end in layout.clusters:
                    for low, high, taken in seen.split(start, end):
                        if taken:
                            contested.setdefault(view.depth, Ranges()).add(low, high)
                    seen.add(start, end)
        for one in group:
            yield from self._of(one, contested)
        for depth, ranges in had.items():
            for start, end in ranges:
                self.period(depth)[1].add(start, end)

    def _layouts(self, one: Incarnation) -> Iterator[tuple[NtfsView, StreamLayout]]:
        """Where a file lay when it was deleted, as far as its clusters are looked at."""
        view = one.deleted_in
        if view is None or view.place is None:
            return
        for stream in self._streams(one, view, silent=True).values():
            if stream.layout is not None:
                yield view, stream.layout

    def _granted(self, stream: Stream, contested: dict[int, Ranges]) -> Ranges:
        """Those clusters of a file that no other had later or at the same time."""
        granted, depth = Ranges(), stream.view.depth
        if stream.layout is None or stream.view.place is None:
            return granted
        later, twice = self.period(depth)[1], contested.get(depth, Ranges())
        for start, end in stream.layout.clusters:
            for low, high, taken in later.split(start, end):
                for first, last, both in () if taken else twice.split(low, high):
                    if not both:
                        granted.add(first, last)
        return granted

    # What is told

    def _of(self, one: Incarnation, contested: dict[int, Ranges]) -> Iterator[DeletedFile]:
        """A file, or both that it is, stream by stream."""
        if one.running is not None:
            yield from self._removed(one, one.running)
            return
        last = {} if one.deleted_in is None else self._streams(one, one.deleted_in)
        older = {} if one.live_in is None else self._streams(one, one.live_in)
        for kept in older.values() if not last else ():
            yield from self._safely(kept.path, lambda kept=kept: self._as_state(one, kept))
        for name, stream in last.items():
            granted = self._granted(stream, contested)
            file = Last(stream, older.get(name), granted)
            yield from self._safely(stream.path, lambda file=file: self._versions(one, file))

    def _removed(self, one: Incarnation, running: NtfsView) -> Iterator[DeletedFile]:
        """The data streams with a name that a live file had, and neither the next newer state nor the running one has."""
        assert one.live_in is not None
        newer = self.views[self.views.index(one.live_in) - 1]
        try:
            kept = stream_names(newer, one.segment) | stream_names(running, one.segment)
        except Exception as e:  # whatever dissect.ntfs trips over
            self.warn(f"which streams of MFT record {one.segment} were removed is not known: {e or type(e).__name__}")
            return
        for name, stream in self._streams(one, one.live_in).items():
            if name and name not in kept:
                yield from self._safely(stream.path, lambda stream=stream: self._as_state(one, stream))

    def _streams(self, one: Incarnation, view: NtfsView, *, silent: bool = False) -> dict[str, Stream]:
        """The data streams of a file as a state tells them."""
        try:
            return streams_in(view, one.segment, self.paths)
        except TooManyRangesError:
            raise
        except Exception as e:  # whatever dissect.ntfs trips over
            if not silent:
                self.warn(f"the deleted MFT record {one.segment}: {e or type(e).__name__}")
            return {}

    def _safely(self, path: str, make: Callable[[], list[DeletedFile]]) -> list[DeletedFile]:
        try:
            return make()
        except TooManyRangesError:
            raise
        except Exception as e:  # as above
            self.warn(f"{path}: {e or type(e).__name__}")
            return []

    def _versions(self, one: Incarnation, file: Last) -> list[DeletedFile]:
        """A file as it was when it was deleted, where that is proven or all there is; else as a state has it, or both."""
        stream, older = file.stream, file.older
        layout = stream.layout
        if layout is None:
            return self._as_state(one, older) if older is not None else self._made(one, stream, "mft", _nothing)
        if layout.resident is not None:
            return self._made(one, stream, "mft", lambda: content(layout, _NOTHING), "they are in its MFT record")
        if stream.view.place is None:
            if older is not None:
                return self._as_state(one, older)
            self.warn(f"{stream.path}: its volume is not one piece of the disk, only older states tell of its bytes")
            return self._made(one, stream, "mft", _nothing)
        source = self._source(file)
        proof = "its MFT record says so"
        if older is not None:
            below, link = (self.chain.links[state.view.depth].name for state in (older, stream))
            proof = f"its file system as of {below} has them, and {link} shows that nobody wrote there since"
        doubt = f"{_DOUBT}; and {older.view.doubt}" if older is not None and older.view.doubt else _DOUBT
        last = self._made(one, stream, "mft", lambda: content(layout, source), proof, doubt)
        if older is None or source.proves(layout):
            return last
        return [*self._as_state(one, older), *(last if source.adds(layout) else ())]

    def _source(self, file: Last) -> PeriodSource:
        view, older = file.stream.view, file.older
        # Only the state at the beginning of that time tells what was below, and only of a volume that did not move.
        known = older is not None and (older.view.depth, older.view.place) == (view.depth + 1, view.place)
        same = older is not None and older.layout == file.stream.layout
        unchanged = same and older is not None and is_unchanged(older.record, file.stream.record)
        return PeriodSource(
            self.period(view.depth)[0],
            view,
            self.bitmap(view),
            file.granted,
            older.layout if known and older is not None else None,
            unchanged=unchanged,
            believed=older is not None and not older.view.doubt,
        )

    def _as_state(self, one: Incarnation, stream: Stream) -> list[DeletedFile]:
        layout = stream.layout
        if layout is None:
            return self._made(one, stream, "snapshot", _nothing)
        source = StateSource(stream.view, self.bitmap(stream.view))
        name = self.chain.links[stream.view.depth].name
        proof = f"its file system as of {name} has them"
        doubt = stream.view.doubt or NOT_IN_USE
        return self._made(one, stream, "snapshot", lambda: content(layout, source), proof, doubt)

    def _made(
        self,
        one: Incarnation,
        stream: Stream,
        named_by: str,
        pieces: Callable[[], Iterator[Piece]],
        proof: str = "its MFT record says so",
        doubt: str = _DOUBT,
    ) -> list[DeletedFile]:
        """The file, if it can be told."""
        size = stream.layout.size if stream.layout is not None else 0
        if size < 0:
            self.warn(f"{stream.path}: a file of {size} bytes is not told")
            return []
        if size > self.chain.size:
            self.warn(f"{stream.path}: a file of {size} bytes on a disk of {self.chain.size}: it is not recovered")
            pieces = _nothing
        times = standard(stream.record)
        link = self.chain.links[stream.view.depth]
        deletion = deletion_between(self.chain, self.windows, *states_around(one, self.views))
        beside = self.known.beside(one, {name.FileName for name in file_names(stream.record)})
        naming = naming_of(named_by, stream.view, link.name)
        note = " (encrypted: as the file system keeps it)" if stream.layout and stream.layout.encrypted else ""
        return [
            DeletedFile(
                link=link,
                volume=self.volume,
                path=stream.path,
                size=size,
                mtime=_time(times, "LastModificationTime"),
                btime=_time(times, "CreationTime"),
                atime=_time(times, "LastAccessTime"),
                inode=one.segment,
                filesystem="ntfs",
                naming=naming._replace(also=also_naming(named_by, one, beside.also)),
                deletion=self.known.deletion(deletion, beside.logged),
                story=self.known.story(beside.logged),
                proof=proof + note,
                doubt=doubt + note,
                known=stream.layout is not None,
                lost=stream.lost if stream.layout is None else "",
                pieces=lambda: self.budget.of(pieces(), stream.path),
                place=stream.view.place,
            )
        ]

    def period(self, depth: int) -> tuple[Period, Ranges]:
        """What the guest wrote in the time of a link, and which ranges of the volume files have got of it."""
        if depth not in self._periods:
            self._periods[depth] = Period(self.chain, depth), Ranges()
        return self._periods[depth]

    def bitmap(self, view: NtfsView) -> Bitmap:
        if view.depth not in self._bitmaps:
            self._bitmaps[view.depth] = Bitmap(view)
        return self._bitmaps[view.depth]


class _Nothing:
    """Of a file whose clusters are not to be had."""

    def pieces(self, offset: int, place: int, size: int) -> Iterator[Piece]:
        return iter(())


_NOTHING = _Nothing()


def _nothing() -> Iterator[Piece]:
    yield from ()


def _time(times: Any, name: str) -> datetime | None:
    try:
        return filetime(getattr(times.attr, name))
    except Exception:  # no time that there ever was
        return None
