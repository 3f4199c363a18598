"""All files of a file system in one state, and what a file is the same by in two of them."""

from __future__ import annotations

import stat
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from dissect_sesparse.files.btrfs_subvolumes import entries, entry_named, subvolume_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dissect.target.filesystem import FilesystemEntry

    from dissect_sesparse.files.btrfs_subvolumes import Identity
    from dissect_sesparse.files.not_looked import Warnings
    from dissect_sesparse.files.volumes import VolumeState

MAX_ENTRIES = 10_000_000
"""Files and folders of a file system in one state."""
MAX_DEPTH = 255
"""Folders above a file."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Key:
    """What a file is the same by."""

    def __init__(self, entry: FilesystemEntry, info: Any):
        self.inode = info.st_ino or None
        use = _use(entry, info)
        self.sure = self.inode is not None and use is not None
        """Whether nothing else can have the same."""
        self.key = key_of(info.st_ino, *use) if use is not None and self.sure else self.inode
        """``None`` where nothing is: an empty file on FAT has no cluster, and so no inode."""
        self.made: int | None = None
        """Of a file on FAT when it was made: that it keeps, whatever is done to it."""
        self.folds = getattr(entry.fs, "__type__", "") == "fat"
        """Whether a name is the same in capitals."""
        if self.folds:
            self.made = hash(("made", getattr(info, "st_ctime_ns", 0)))


def key_of(inode: int, *use: object) -> int:
    """What a file is the same by: its inode and what tells the uses of that apart, see :func:`_use`."""
    return hash((inode, use))


def _use(entry: FilesystemEntry, info: Any) -> tuple[object, ...] | None:
    """What tells the uses of an inode apart: its generation and time of birth, where the file system has them; on NTFS the sequence
    number of its record, which neither a time that is set back nor a name that is used again changes.

    On btrfs also its subvolume: each numbers its inodes by itself, and a snapshot of one has the same as that.
    """
    header = getattr(getattr(entry, "entry", None), "header", None)
    if (sequence := getattr(header, "SequenceNumber", None)) is not None:
        return (sequence,)
    subvolume = subvolume_of(entry)
    inode = getattr(getattr(entry, "entry", None), "inode", None)
    names = ("i_generation", "di_gen") if subvolume is None else ("generation",)
    generation = next((getattr(inode, name) for name in names if hasattr(inode, name)), 0)
    born = getattr(info, "st_birthtime_ns", None) or 0
    if getattr(inode, "di_version", 3) < 3:  # of XFS: it has none, and dissect takes other bytes for it
        born = 0
    return (generation, born, subvolume) if generation or born else None


def time_of(nanoseconds: int | None) -> datetime | None:
    """A time of a file, from nanoseconds since 1970; ``None`` where there is none, or none that can be."""
    try:
        return _EPOCH + timedelta(microseconds=nanoseconds // 1000) if nanoseconds else None
    except OverflowError:
        return None


def entry_at(fs: Any, path: str) -> FilesystemEntry:
    """The file or folder of a path.

    Raises:
        Exception: Whatever the file system raises; KeyError on btrfs if there is none.
    """
    if fs.__type__ != "btrfs":
        return fs.get(path)
    entry = fs.get("/")
    for name in filter(None, path.split("/")):
        entry = entry_named(entry, name)
    return entry


Number = int | tuple[int, int]
"""Of a file: that of its inode or MFT record; on btrfs behind that of its subvolume."""


def number_of(entry: FilesystemEntry, info: Any) -> Number:
    """What :func:`reopened` takes."""
    subvolume = getattr(getattr(entry, "entry", None), "subvolume", None)
    return info.st_ino if subvolume is None else (subvolume.objectid, info.st_ino)


def reopened(fs: Any, path: str, number: Number, stream: str | None = None) -> FilesystemEntry:
    """A file that a walk met, without its path being looked up again where its number leads to it.

    Args:
        fs: The file system as dissect opened it.
        path: Of the file.
        number: See :func:`number_of`.
        stream: Of NTFS, where it is known: names that another system gave may have a colon.

    Raises:
        Exception: Whatever the file system raises.
    """
    kind = fs.__type__
    node: Any = None
    if kind == "ntfs":
        node = fs.ntfs.mft.get(number)
    elif kind == "ext":
        node = fs.extfs.get_inode(number)
    elif kind == "xfs":
        node = fs.xfs.get_inode(number)
    elif kind == "btrfs" and isinstance(number, tuple):
        node = fs.btrfs.open_subvolume(number[0]).inode(number[1])
    if node is None:
        return entry_at(fs, path)
    entry = type(fs.get("/"))(fs, path, node)
    if kind == "ntfs" and stream is not None:
        entry.path, entry.ads = path.removesuffix(f":{stream}") if stream else path, stream
    return entry


class FileWalk:
    """All regular files of a file system: path, entry and what stat tells. Loops and depth are bounded.

    Args:
        state: The file system.
        warnings: Gets what cannot be looked at.
        comes_last: Which folders are gone into behind all others, if any.
    """

    def __init__(
        self, state: VolumeState, warnings: Warnings, comes_last: Callable[[FilesystemEntry], bool] | None = None
    ):
        self._state = state
        self._warnings = warnings
        self._comes_last = comes_last or (lambda entry: False)
        self.subvolumes: set[Identity] = set()
        """Those of btrfs that were met so far."""
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
            elif stat.S_ISDIR(info.st_mode) and self._is_new(path, Key(entry, info).key or 0, path.count("/")):
                todo.insert(0 if self._comes_last(entry) else len(todo), (path, self._entries(path, entry)))
        self._missed(f"more than {MAX_ENTRIES} files, the rest is not looked at")

    def _entries(self, path: str, folder: FilesystemEntry | None) -> Iterator[Any]:
        try:
            folder = folder or self._state.fs.get("/")
            if (subvolume := subvolume_of(folder)) is None:
                return iter(folder.scandir())
            self.subvolumes.add(subvolume)
            return entries(folder)
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
        where = f"the folder {path or '/'} as of link {self._state.depth}"
        self._missed(f"{where} cannot be read: {error or type(error).__name__}")

    def _missed(self, why: str) -> None:
        self.whole = False
        self._warnings.missed(self._state.name, f"{self._state.name}: {why}")

    def _is_new(self, path: str, key: int, depth: int) -> bool:
        """Whether a folder is to be gone into."""
        if key in self._folders or depth > MAX_DEPTH:
            self._missed(f"the folder {path} is met again, or lies too deep")
            return False
        if key:
            self._folders.add(key)
        return True
