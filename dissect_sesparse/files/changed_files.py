"""Which files are new, changed or gone between two states of a disk.

Both states are opened as dissect would open them, and their files are joined by inode and what tells the inode's uses apart,
else by path: a file that was renamed is neither new nor gone, nor is one that got or lost a hard link. What the file system
keeps for itself as files (``$MFT``, ``$Bitmap``, ``$LogFile``, the change journal of NTFS) is no file of anybody: it is left
out. A file of both states is *changed* where its size or its bytes differ; what else is known of it (times, owner) does not count. Its bytes are only read where they can differ: where it lies
in a range that was changed, or elsewhere than before, or where dissect does not tell where it lies (small files inside a
record, compressed files, volumes over several disks).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from dissect.ntfs.c_ntfs import ATTRIBUTE_TYPE_CODE
from dissect.ntfs.mft import MftRecord
from dissect.util.stream import RunlistStream

from dissect_sesparse.files.mft import is_system_file
from dissect_sesparse.files.not_looked import Warnings
from dissect_sesparse.files.trust import fault_of_file
from dissect_sesparse.files.volumes import hidden, open_volumes
from dissect_sesparse.files.walk import FileWalk, Key, entry_at, time_of
from dissect_sesparse.trimmed.ranges import Ranges, TooManyRangesError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from dissect_sesparse.chain.link import Link
    from dissect_sesparse.files.volumes import Opened, VolumeState
    from dissect_sesparse.time.changes import Change, DiskState

MAX_FILES = 5_000_000
"""Files of a file system that are compared: a GB of memory."""
_CHUNK = 1024 * 1024

FileRuns = list[tuple[int, int]]
"""Start and end of each piece of a file on the disk, in the order of the file."""


@dataclass(frozen=True)
class ChangedFile:
    """A file that differs between two states. Sizes in bytes."""

    link: Link
    """Of the state that it is told from: the newer one, for a file that is gone the older one."""
    volume: str
    place: int | None
    """Where on the disk its volume starts; ``None`` where it is not one piece of the disk."""
    path: str
    """Within the volume."""
    old_path: str | None
    """Where it was before, if it was renamed."""
    size: int
    changed: int | None
    """Bytes of its clusters that lie in changed ranges; ``None`` where dissect does not tell where it lies."""
    state: str
    """``new``, ``changed``, ``renamed`` (with the same bytes) or ``gone``."""
    mtime: datetime | None
    inode: int | None
    filesystem: str


class ChangedRanges:
    """The ranges of a disk that were changed; :attr:`whole` is false where they were too many to be kept."""

    def __init__(self) -> None:
        self._ranges = Ranges()
        self.whole = True

    def add(self, change: Change) -> None:
        try:
            self._ranges.add(change.offset, change.offset + change.size)
        except TooManyRangesError:
            self.whole = False

    def within(self, runs: FileRuns | None) -> int | None:
        """Bytes of some runs that were changed; ``None`` where that is not known."""
        if runs is None or not self.whole:
            return None
        try:
            return sum(end - start for run in runs for start, end, inside in self._ranges.split(*run) if inside)
        except TooManyRangesError:
            self.whole = False
            return None


def changed_files(
    older: DiskState, newer: DiskState, ranges: ChangedRanges, warn: Callable[[str], None]
) -> Iterator[ChangedFile]:
    """The files that differ between two states of a disk, those of each file system together.

    Args:
        older: The state to start from.
        newer: The state to get to.
        ranges: What was changed between them.
        warn: Gets what is not told, and why.

    Raises:
        NotAllLookedAtError: Behind the last file, if there are volumes that were not looked at.
    """
    warnings = Warnings(warn, newer.chain.name)
    before, after = (_opened(state, warnings) for state in (older, newer))
    if not before.states and not after.states:
        warnings("no file system that dissect can open in either state, no files are told")
    left = list(before.states)
    for now in after.states:
        then = next((state for state in left if _is_same(state, now)), None)
        if then is not None:
            left.remove(then)
        elif why := hidden(now, before.unopened):
            warnings.missed(now.name, f"{now.name}: nothing tells which of its files are new: {why}")
            continue
        yield from _safely(_Pair(older, newer, then, now, ranges, warnings))
    for then in left:
        if why := hidden(then, after.unopened):
            warnings.missed(then.name, f"{then.name}: nothing tells which of its files are gone: {why}")
        else:
            yield from _safely(_Pair(older, newer, then, None, ranges, warnings))
    warnings.end()


def _opened(state: DiskState, warnings: Warnings) -> Opened:
    opened = open_volumes(state.chain, state.depth)
    for unopened in opened.unopened:
        why = f"{unopened.message}: its files are not told"
        (warnings if unopened.level == "info" else partial(warnings.missed, unopened.where))(why)
    return opened


def _is_same(a: VolumeState, b: VolumeState) -> bool:
    """Whether two file systems are one at different times."""
    return a.serial == b.serial and (a.serial[1] is not None or (a.place, a.name) == (b.place, b.name))


def _safely(pair: _Pair) -> Iterator[ChangedFile]:
    try:
        yield from pair.files()
    except Exception as e:  # one broken file system never costs the others
        pair.warnings.missed(pair.name, f"{pair.name}: not all of its changed files are told: {e or type(e).__name__}")


class _Files(FileWalk):
    """All regular files. Records of NTFS that have no unnamed stream (``$Secure``) are none, and not missing."""

    def _failed(self, path: str, error: Exception, entry: Any = None) -> None:
        if not _has_no_content(entry):
            super()._failed(path, error, entry)


def _has_no_content(entry: Any) -> bool:
    """Whether an entry is a record of NTFS that was read, is no folder and has no unnamed stream of data."""
    record = getattr(entry, "entry", None)
    if not isinstance(record, MftRecord):
        return False
    try:
        return not record.is_dir() and not record.attributes.find("", ATTRIBUTE_TYPE_CODE.DATA)
    except Exception:  # a record that dissect.ntfs cannot read is one that failed
        return False


@dataclass
class _Pair:
    """A file system in both states; ``None`` where it is in one of them only."""

    older: DiskState
    newer: DiskState
    then: VolumeState | None
    now: VolumeState | None
    ranges: ChangedRanges
    warnings: Warnings

    @property
    def name(self) -> str:
        return (self.now or self.then).name  # type: ignore[union-attr]

    def files(self) -> Iterator[ChangedFile]:
        """Join by name and identity first, then by identity (renamed), then by name (made anew); the rest is new or gone."""
        left, whole = self._listed(self.then)  # of the older state, what is not met yet
        if not whole:
            self.warnings(f"{self.name}: not all files of the older state can be read: some may be told as new")
        there, all_there = self._listed(self.now)
        before, after = ({key for key in paths.values() if key is not None} for paths in (left, there))
        for path in [path for path, key in there.items() if path in left and left[path] == key]:
            del left[path], there[path]
            yield from self._compared(path, path)
        of_key: dict[Any, list[str]] = {}
        for path, key in left.items():
            of_key.setdefault(key, []).append(path)
        for path in [path for path, key in there.items() if key is not None and of_key.get(key)]:
            old = of_key[there.pop(path)].pop(0)
            del left[old]
            yield from self._compared(old, path)
        for path in [path for path in there if path in left]:
            del left[path], there[path]
            yield from self._compared(path, path)
        for path, key in there.items():
            if key not in before:  # else it is one more name of a file that was there
                yield from self._alone(self.now, path, "new")
        if all_there:
            for path, key in left.items():
                if key not in after:
                    yield from self._alone(self.then, path, "gone")
        else:
            self.warnings(f"{self.name}: not all files of the newer state can be read: nothing tells which are gone")

    def _listed(self, state: VolumeState | None) -> tuple[dict[str, Any], bool]:
        """The path of each file, with what it is the same by where anything tells that; and whether these are all."""
        if state is None:
            return {}, True
        walk = _Files(state, self.warnings)
        found: dict[str, Any] = {}
        for path, entry, info in walk:
            if is_system_file(path, entry):
                continue
            if len(found) >= MAX_FILES:
                self.warnings.missed(self.name, f"{self.name}: more than {MAX_FILES} files, the rest is not looked at")
                return found, False
            key = Key(entry, info)
            stream = path.rpartition("/")[2].partition(":")[2]  # of NTFS: it shares the record of its file
            found[path] = (key.key, stream) if key.sure else None
        return found, walk.whole

    def _compared(self, old: str, path: str) -> Iterator[ChangedFile]:
        """A file of both states, if it differs."""
        assert self.then is not None
        assert self.now is not None
        try:
            older, newer = entry_at(self.then.fs, old), entry_at(self.now.fs, path)
            info, size = newer.lstat(), older.lstat().st_size
            if fault := fault_of_file(self.then.fs, older) or fault_of_file(self.now.fs, newer):
                raise ValueError(fault)
            runs = _runs(newer, self.now)
            changed = self.ranges.within(runs)
            untouched = runs is not None and changed == 0 and runs == _runs(older, self.then) and _alike(older, newer)
            same = size == info.st_size and (untouched or _equal(older, newer, size))
        except Exception as e:  # whatever the file system trips over
            self.warnings(f"{self.name}: whether {path} was changed cannot be told: {e or type(e).__name__}")
            return
        if not same:
            yield self._changed_file(self.now, path, info, "changed", changed, old)
        elif old != path:
            yield self._changed_file(self.now, path, info, "renamed", changed, old)

    def _alone(self, state: VolumeState | None, path: str, what: str) -> Iterator[ChangedFile]:
        assert state is not None
        try:
            entry = entry_at(state.fs, path)
            yield self._changed_file(state, path, entry.lstat(), what, self.ranges.within(_runs(entry, state)), path)
        except Exception as e:  # as above
            self.warnings(f"{self.name}: {path} is {what}, and cannot be looked at: {e or type(e).__name__}")

    def _changed_file(
        self, state: VolumeState, path: str, info: Any, what: str, changed: int | None, old: str
    ) -> ChangedFile:
        return ChangedFile(
            link=(self.older if state is self.then else self.newer).links[0],
            volume=state.name,
            place=state.place,
            path=_printable(path),
            old_path=_printable(old) if old != path else None,
            size=max(0, min(info.st_size, (1 << 63) - 1)),
            changed=changed,
            state=what,
            mtime=time_of(getattr(info, "st_mtime_ns", None)),
            inode=info.st_ino or None,
            filesystem=state.fs.__type__,
        )


def _printable(path: str) -> str:
    return path.strip("/").encode("utf-8", "backslashreplace").decode()


def _runs(entry: Any, state: VolumeState | None) -> FileRuns | None:
    """Where on the disk a file lies, as far as dissect tells it."""
    if state is None or state.place is None:
        return None
    try:
        fh = entry.open()
    except Exception:  # then it is not known
        return None
    if type(fh) is not RunlistStream:
        return None
    size = fh.block_size
    return [
        (state.place + start * size, state.place + (start + count) * size)
        for start, count in fh.runlist
        if start is not None
    ]


def _written(data: bytes, start: int, valid: int | None) -> bytes:
    """Some bytes of a file with zeros where nothing was ever written."""
    kept = len(data) if valid is None else max(0, min(len(data), valid - start))
    return data[:kept] + bytes(len(data) - kept)


def _alike(a: Any, b: Any) -> bool:
    """Whether two files have their holes at the same places, and the same part of them was ever written."""
    return a.open().runlist == b.open().runlist and _valid(a) == _valid(b)


def _valid(entry: Any) -> int | None:
    """Bytes of a file on NTFS that were ever written; ``None``: all. The rest is zeros, whatever dissect reads there."""
    record = getattr(entry, "entry", None)
    if not isinstance(record, MftRecord):
        return None
    stream = record.attributes.find(entry.ads or "", ATTRIBUTE_TYPE_CODE.DATA)[0].header
    return None if stream.resident else stream.header.Form.Nonresident.ValidDataLength


def _equal(a: Any, b: Any, size: int) -> bool:
    one, other = a.open(), b.open()
    limits = _valid(a), _valid(b)
    for start in range(0, size, _CHUNK):
        data, others = (_written(fh.read(_CHUNK), start, valid) for fh, valid in zip((one, other), limits))
        if data != others:
            return False
        if not data:
            break
    return True
