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

from dissect_sesparse.files.file_table import FileTable, printable_path, valid_length
from dissect_sesparse.files.not_looked import Warnings
from dissect_sesparse.files.trust import fault_of_file
from dissect_sesparse.files.volumes import hidden, open_volumes
from dissect_sesparse.files.walk import time_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from datetime import datetime

    from dissect_sesparse.chain.link import Link
    from dissect_sesparse.files.changed_ranges import ChangedRanges
    from dissect_sesparse.files.file_table import FileRow
    from dissect_sesparse.files.volumes import Opened, VolumeState
    from dissect_sesparse.time.changes import DiskState

_CHUNK = 1024 * 1024


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


def changed_files(
    older: DiskState,
    newer: DiskState,
    ranges: ChangedRanges,
    warn: Callable[[str], None],
    progress: Callable[[int], None] | None = None,
) -> Iterator[ChangedFile]:
    """The files that differ between two states of a disk, those of each file system together.

    Args:
        older: The state to start from.
        newer: The state to get to.
        ranges: What was changed between them.
        warn: Gets what is not told, and why.
        progress: Gets, now and then, how many files more were looked at.

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
        yield from _safely(_Pair(older, newer, then, now, ranges, warnings, progress))
    for then in left:
        if why := hidden(then, after.unopened):
            warnings.missed(then.name, f"{then.name}: nothing tells which of its files are gone: {why}")
        else:
            yield from _safely(_Pair(older, newer, then, None, ranges, warnings, progress))
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


@dataclass
class _Pair:
    """A file system in both states; ``None`` where it is in one of them only."""

    older: DiskState
    newer: DiskState
    then: VolumeState | None
    now: VolumeState | None
    ranges: ChangedRanges
    warnings: Warnings
    progress: Callable[[int], None] | None

    @property
    def name(self) -> str:
        return (self.now or self.then).name  # type: ignore[union-attr]

    def files(self) -> Iterator[ChangedFile]:
        """Join by name and identity first, then by identity (renamed), then by name (made anew); the rest is new or gone."""
        before, now = (
            FileTable(state, self.ranges, self.warnings, self.progress) if state is not None else None
            for state in (self.then, self.now)
        )
        if before is not None and not before.whole:
            self.warnings(f"{self.name}: not all files of the older state can be read: some may be told as new")
        left = dict(before.rows) if before is not None else {}  # of the older state, what is not met yet
        there = dict(now.rows) if now is not None else {}
        for old, path in _joined(left, there):
            assert before is not None
            assert now is not None
            yield from self._compared(before, now, old, path)
        known = _keys(before)
        for path, row in there.items():
            if now is not None and row.key not in known:  # else it is one more name of a file that was there
                yield self._changed_file(now, path, "new", path)
        if now is None or now.whole:
            known = _keys(now)
            for path, row in left.items():
                if before is not None and row.key not in known:
                    yield self._changed_file(before, path, "gone", path)
        else:
            self.warnings(f"{self.name}: not all files of the newer state can be read: nothing tells which are gone")

    def _compared(self, before: FileTable, now: FileTable, old: str, path: str) -> Iterator[ChangedFile]:
        """A file of both states, if it differs. It is only opened where its bytes may."""
        older, newer = before.rows[old], now.rows[path]
        same = older.size == newer.size
        if same and not newer.is_untouched_since(older):
            try:
                same = _are_equal(before, now, old, path)
            except Exception as e:  # whatever the file system trips over
                self.warnings(f"{self.name}: whether {path} was changed cannot be told: {e or type(e).__name__}")
                return
        if not same:
            yield self._changed_file(now, path, "changed", old)
        elif old != path:
            yield self._changed_file(now, path, "renamed", old)

    def _changed_file(self, table: FileTable, path: str, what: str, old: str) -> ChangedFile:
        state, row = table.state, table.rows[path]
        return ChangedFile(
            link=(self.older if state is self.then else self.newer).links[0],
            volume=state.name,
            place=state.place,
            path=printable_path(path),
            old_path=printable_path(old) if old != path else None,
            size=max(0, min(row.size, (1 << 63) - 1)),
            changed=row.changed,
            state=what,
            mtime=time_of(row.mtime),
            inode=row.inode,
            filesystem=state.fs.__type__,
        )


def _keys(table: FileTable | None) -> set[Hashable]:
    """What the files of a state are the same by."""
    return {row.key for row in table.rows.values() if row.key is not None} if table is not None else set()


def _joined(left: dict[str, FileRow], there: dict[str, FileRow]) -> Iterator[tuple[str, str]]:
    """The old and the new path of each file of both states, which are taken out of what is left of these."""
    for path in [path for path, row in there.items() if path in left and left[path].key == row.key]:
        del left[path], there[path]
        yield path, path
    of_key: dict[Hashable, list[str]] = {}
    for path, row in left.items():
        of_key.setdefault(row.key, []).append(path)
    for path in [path for path, row in there.items() if row.key is not None and of_key.get(row.key)]:
        old = of_key[there.pop(path).key].pop(0)
        del left[old]
        yield old, path
    for path in [path for path in there if path in left]:
        del left[path], there[path]
        yield path, path


def _are_equal(before: FileTable, now: FileTable, old: str, path: str) -> bool:
    """Whether a file of one size in both states has the same bytes.

    Raises:
        Exception: Whatever the file system raises.
        ValueError: If its reader may give wrong bytes of it.
    """
    older, newer = before.entry(old), now.entry(path)
    if fault := fault_of_file(before.state.fs, older) or fault_of_file(now.state.fs, newer):
        raise ValueError(fault)
    return _equal(older, newer, now.rows[path].size)


def _written(data: bytes, start: int, valid: int | None) -> bytes:
    """Some bytes of a file with zeros where nothing was ever written."""
    kept = len(data) if valid is None else max(0, min(len(data), valid - start))
    return data[:kept] + bytes(len(data) - kept)


def _equal(a: Any, b: Any, size: int) -> bool:
    one, other = a.open(), b.open()
    limits = valid_length(a), valid_length(b)
    for start in range(0, size, _CHUNK):
        data, others = (_written(fh.read(_CHUNK), start, valid) for fh, valid in zip((one, other), limits))
        if data != others:
            return False
        if not data:
            break
    return True
