"""The deleted files of a disk by name, from all states of the disk that its chain has.

Each state is opened as dissect would open it: volumes, LVM, file systems. A file system is the same in two states by its
serial number or UUID, and where it has none by its place.

- NTFS: see ``evidence.ntfs_files``.
- All others that dissect mounts: the inode of a deleted file is gone, so older states are asked for files that the running
  guest does not have. A file is the same by its inode and what tells that inode's uses apart, and where nothing does by inode
  or path: a file that was renamed is not deleted, and where a doubt remains a file is not told. Their bytes are those of the
  newest state that has them, in links that nothing can have written to since.
"""

from __future__ import annotations

import logging
import stat
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from dissect.target import volume as volumes
from dissect.target.containers.raw import RawContainer
from dissect.target.target import Target
from dissect.util.stream import RangeStream

from dissect_sesparse.evidence.deleted import Budget, DeletedFile, Piece, read_pieces
from dissect_sesparse.evidence.mft import NtfsView
from dissect_sesparse.evidence.ntfs_files import deleted_files as ntfs_deleted_files
from dissect_sesparse.evidence.views import view_at
from dissect_sesparse.target.versions import disks_of, volume_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dissect.target.filesystem import Filesystem, FilesystemEntry
    from dissect.target.volume import Volume

    from dissect_sesparse.disk.chain import Chain

MAX_ENTRIES = 10_000_000
"""Files and folders of a file system in one state."""
MAX_FILES = 1_000_000
"""Deleted files of a file system."""
MAX_DEPTH = 255
"""Folders above a file."""
MAX_WARNINGS = 50
_UNIT = 512
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_QUIET = logging.getLogger(f"{__name__}.states")
"""Where dissect tells what it does not recognize: it told the same of the running state when the target was opened."""
_QUIET.setLevel(logging.CRITICAL)


class Warnings:
    """Messages for the log, the first of them: evidence that is made for it has any number.

    Args:
        warn: Gets each.
        of: What they are about.
    """

    def __init__(self, warn: Callable[[str], None], of: str):
        self._warn = warn
        self._of = of
        self.count = 0

    def __call__(self, message: str) -> None:
        self.count += 1
        if self.count <= MAX_WARNINGS:
            self._warn(f"{self._of}: {message}")
        elif self.count == MAX_WARNINGS + 1:
            self._warn(f"{self._of}: more than {MAX_WARNINGS} warnings, the rest is not told")


@dataclass(frozen=True)
class State:
    """A file system in one state of the disk."""

    depth: int
    """Of the link that was the newest then."""
    fs: Filesystem
    volume: Any
    place: int | None
    """Where on the disk its volume starts; ``None`` where it is not one piece of the disk."""

    @property
    def name(self) -> str:
        """What dissect calls its volume."""
        return _name(self.volume)

    @property
    def serial(self) -> tuple[str, str | None]:
        """The kind of file system, and its serial number or UUID where it has one."""
        return self.fs.__type__, _serial(self.fs)


def deleted_files(chain: Chain, warn: Callable[[str], None]) -> Iterator[DeletedFile]:
    """The deleted files of a disk.

    Args:
        chain: The disk.
        warn: Gets what is not told, and why.
    """
    tell = Warnings(warn, chain.name)
    budget = Budget(4 * len(chain.links) * chain.size, tell)
    for states in _same(_states(chain, tell)):
        try:
            if states[0].fs.__type__ == "ntfs":
                views = [NtfsView(s.depth, s.fs.ntfs, s.volume.size, s.place) for s in states]  # type: ignore[attr-defined]
                yield from ntfs_deleted_files(chain, views, states[0].name, budget, tell)
            else:
                yield from _gone(chain, states, budget, tell)
        except Exception as e:  # one broken file system never costs the others
            tell(f"{states[0].name}: not all of its deleted files are told: {e or type(e).__name__}")
            _QUIET.debug("", exc_info=e)


def mount_point(target: Target, disk: object, file: DeletedFile) -> str:
    """Where in a target's file system the volume of a deleted file is, without a slash at the end.

    A volume that the target has not, any more, is named as dissect called it.
    """
    for mount, fs in sorted(target.fs.mounts.items(), key=lambda each: (each[0].startswith("$"), len(each[0]))):
        volume = volume_of(fs)
        name = getattr(volume, "name", None)
        place = getattr(volume, "offset", None)
        if any(below is disk for below in disks_of(volume)) and (
            place == file.place if file.place is not None else name == file.volume
        ):
            return f"/{mount.strip('/')}".rstrip("/")
    return f"/$volumes$/{file.volume}" if len(target.filesystems) > 1 else ""


# States


def _states(chain: Chain, tell: Callable[[str], None]) -> Iterator[State]:
    """The file systems of all states of a disk, newest first."""
    for depth in range(len(chain.links)):
        try:
            yield from file_systems(chain, depth, tell)
        except Exception as e:  # whatever dissect trips over
            tell(f"the disk as of {chain.links[depth].name} cannot be opened: {e or type(e).__name__}")


def file_systems(chain: Chain, depth: int, tell: Callable[[str], None]) -> Iterator[State]:
    """The file systems of a disk as of one link, as dissect opens them."""
    view = view_at(chain, depth)
    assert view is not None
    disk = RawContainer(view.open())
    target = Target()
    target.log = _QUIET  # type: ignore[assignment]
    target.disks.add(disk)
    target.disks.apply()
    target.volumes.apply()
    for fs in target.filesystems:
        volume = volume_of(fs)
        yield State(depth, fs, volume, _place(volume, disk))
    if depth == 0:
        for opened in target.volumes:
            if opened.fs is None and not _is_explained(opened):
                tell(f"{_name(opened)}: no file system that dissect can open, no deleted files are told of it")


def _is_explained(volume: Any) -> bool:
    """Whether a volume without a file system has none by right: it starts empty, holds others, or was decrypted."""
    volume.seek(0)
    if not volume.read(1 << 20).strip(b"\x00"):
        return True
    return volumes.is_lvm_volume(volume) or any(True for _ in volumes.open_encrypted(volume))


def _name(volume: Any) -> str:
    return getattr(volume, "name", None) or f"part_{getattr(volume, 'offset', 0) or 0:08x}"


def _place(volume: Volume, disk: RawContainer) -> int | None:
    """Where on the disk a volume starts; ``None`` where it is not one piece of it, or that cannot be told."""
    if volume.fh is disk:
        return 0
    vs = volume.vs
    if vs is not None and vs.__type__ == "disk" and vs.fh is disk and isinstance(volume.fh, RangeStream):
        return volume.offset
    return None


def _serial(fs: Any) -> str | None:
    """What tells a file system from others of its kind, where dissect knows it."""
    for get in (lambda: fs.ntfs.serial, lambda: fs.extfs.uuid, lambda: fs.xfs.sb.sb_uuid, lambda: fs.btrfs.uuid):
        with suppress(Exception):  # another kind, or it cannot be read
            return str(get())
    return None


def _same(states: Iterator[State]) -> list[list[State]]:
    """Group the states of each file system, newest first."""
    groups: list[list[State]] = []
    for state in states:
        same = [
            group for group in groups
            if group[0].serial == state.serial and group[-1].depth != state.depth
        ]  # fmt: skip
        here = [group for group in same if (group[0].place, group[0].name) == (state.place, state.name)]
        if here:
            here[0].append(state)
        elif same and state.serial[1] is not None:  # it was moved
            same[0].append(state)
        else:
            groups.append([state])
    return groups


# File systems in which the inode of a deleted file is gone


class Key:
    """What a file is the same by."""

    def __init__(self, entry: FilesystemEntry, info: Any):
        self.inode = info.st_ino or None
        use = _use(entry, info)
        self.sure = self.inode is not None and use is not None
        """Whether nothing else can have the same."""
        self.key = hash((self.inode, use)) if self.sure else self.inode


def _use(entry: FilesystemEntry, info: Any) -> tuple[int, int] | None:
    """What tells the uses of an inode apart: its generation and time of birth, where the file system has them."""
    inode = getattr(getattr(entry, "entry", None), "inode", None)
    generation = next((getattr(inode, name) for name in ("i_generation", "di_gen") if hasattr(inode, name)), 0)
    born = getattr(info, "st_birthtime_ns", None) or 0
    return (generation, born) if generation or born else None


def _gone(chain: Chain, states: Sequence[State], budget: Budget, tell: Callable[[str], None]) -> Iterator[DeletedFile]:
    """The files of older states that the running guest does not have."""
    running = states[0] if states[0].depth == 0 else None
    if len(states) == 1 and running is not None:
        return
    known: set[int] = set()
    doubtful = told = 0
    if running is not None:
        walk = Walk(running, tell)
        known.update(key for _, entry, info in walk if (key := Key(entry, info).key) is not None)
        if not walk.whole:
            tell(f"{running.name}: as not all of its files can be read, nothing tells which are deleted")
            return
    for state in states[1 if running is not None else 0 :]:
        for path, entry, info in Walk(state, tell):
            key = Key(entry, info)
            if key.key in known and key.key is not None:
                doubtful += not key.sure and not _has(running, path)
                continue
            if not key.sure and _has(running, path):
                continue
            if key.key is not None:
                known.add(key.key)
            told += 1
            if told > MAX_FILES:
                tell(f"{state.name}: more than {MAX_FILES} deleted files, the rest is not told")
                return
            yield _file(chain, state, path, entry, info, budget, tell)
    if doubtful:
        tell(f"{states[0].name}: {doubtful} files may be deleted or renamed, nothing tells which: they are not told")


def _has(running: State | None, path: str) -> bool:
    """Whether the running guest has a file of that path."""
    try:
        return running is not None and running.fs.get(path) is not None
    except Exception:  # it has not, or it cannot be told where it should be
        return False


def _file(
    chain: Chain,
    state: State,
    path: str,
    entry: FilesystemEntry,
    info: Any,
    budget: Budget,
    tell: Callable[[str], None],
) -> DeletedFile:
    size = info.st_size

    def read(offset: int, length: int) -> bytes:
        fh = entry.open()  # anew: a stream that raised is where nobody knows
        fh.seek(offset)
        return fh.read(length)

    def pieces() -> Iterator[Piece]:
        if 0 <= size <= chain.size:
            told = read_pieces(read, 0, size, _UNIT, lambda error: None)
            yield from budget.of((Piece(offset, data, True) for offset, data in told), path)

    if not 0 <= size <= chain.size:
        tell(f"{path}: a file of {size} bytes on a disk of {chain.size}: it is not recovered")
    return DeletedFile(
        link=chain.links[state.depth],
        volume=state.name,
        path=path.strip("/").encode("utf-8", "backslashreplace").decode(),
        size=max(0, min(size, (1 << 63) - 1)),
        mtime=time_of(getattr(info, "st_mtime_ns", None)),
        btime=time_of(getattr(info, "st_birthtime_ns", None)),
        atime=time_of(getattr(info, "st_atime_ns", None)),
        inode=info.st_ino or None,
        filesystem=state.fs.__type__,
        named_by="snapshot",
        proof=f"its file system as of {chain.links[state.depth].name} has them",
        pieces=pieces,
        place=state.place,
    )


def time_of(nanoseconds: int | None) -> datetime | None:
    """A time of a file, from nanoseconds since 1970; ``None`` where there is none, or none that can be."""
    try:
        return _EPOCH + timedelta(microseconds=nanoseconds // 1000) if nanoseconds else None
    except OverflowError:
        return None


class Walk:
    """All regular files of a file system: path, entry and what stat tells. Loops and depth are bounded.

    Args:
        state: The file system.
        tell: Gets what cannot be looked at.
    """

    def __init__(self, state: State, tell: Callable[[str], None]):
        self._state = state
        self._tell = tell
        self._folders: set[int] = set()
        self.whole = True
        """Whether all was looked at so far."""

    def __iter__(self) -> Iterator[tuple[str, FilesystemEntry, Any]]:
        todo = [("", self._entries("", None))]
        for _ in range(MAX_ENTRIES):
            while todo and (item := self._next(*todo[-1])) is None:
                todo.pop()
            if not todo:
                return
            entry = None
            try:
                path = f"{todo[-1][0]}/{item.name}"  # type: ignore[union-attr]
                # dissect.target up to 3.23 has the entry itself in a folder, later ones what leads to it.
                entry = item if hasattr(item, "open") else item.get()  # type: ignore[union-attr]
                info = entry.lstat()
            except Exception as e:  # whatever the file system trips over
                self._failed(todo[-1][0], e, entry)
                continue
            if stat.S_ISREG(info.st_mode):
                yield path, entry, info
            elif stat.S_ISDIR(info.st_mode) and self._is_new(path, Key(entry, info).key or 0, len(todo)):
                todo.append((path, self._entries(path, entry)))
        self.whole = False
        self._tell(f"{self._state.name}: more than {MAX_ENTRIES} files, the rest is not looked at")

    def _entries(self, path: str, folder: FilesystemEntry | None) -> Iterator[Any]:
        try:
            return iter((folder or self._state.fs.get("/")).scandir())
        except Exception as e:  # as above
            self._failed(path, e)
            return iter(())

    def _next(self, path: str, entries: Iterator[Any]) -> Any:
        try:
            return next(entries, None)
        except Exception as e:  # as above: what comes behind it is not to be had
            self._failed(path, e)
            return None

    def _failed(self, path: str, error: Exception, entry: FilesystemEntry | None = None) -> None:
        self.whole = False
        where = f"{self._state.name}: the folder {path or '/'} as of link {self._state.depth}"
        self._tell(f"{where} cannot be read: {error or type(error).__name__}")

    def _is_new(self, path: str, key: int, depth: int) -> bool:
        """Whether a folder is to be gone into."""
        if key in self._folders or depth > MAX_DEPTH:
            self.whole = False
            self._tell(f"{self._state.name}: the folder {path} is met again, or lies too deep")
            return False
        if key:
            self._folders.add(key)
        return True
