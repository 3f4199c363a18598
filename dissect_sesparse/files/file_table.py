"""The files of a file system in one state, as a table: of each only what tells whether it was changed, and how to open it again.

Nothing of dissect's objects is kept: there may be millions of files, in many states.
"""

from __future__ import annotations

from contextlib import suppress
from hashlib import blake2b
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

from dissect.ntfs.c_ntfs import ATTRIBUTE_TYPE_CODE
from dissect.ntfs.mft import MftRecord
from dissect.util.stream import RangeStream, RunlistStream

from dissect_sesparse.files.trust import fault_of_file
from dissect_sesparse.files.walk import FileWalk, Key, Number, number_of, reopened
from dissect_sesparse.ntfs.mft import is_system_file

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from dissect.target.filesystem import Filesystem, FilesystemEntry

    from dissect_sesparse.files.changed_ranges import ChangedRanges, FileRuns
    from dissect_sesparse.files.not_looked import Warnings
    from dissect_sesparse.files.volumes import VolumeState

MAX_FILES = 5_000_000
"""Files of a file system in one state: two GB of memory."""
MAX_INSIDE = 65536
"""Bytes of a file within its record or inode: as large as these may be."""
_CONTENT = b"="
_STEP = 1000
"""Files after which the progress is shown."""


class FileRow(NamedTuple):
    """What is kept of a file."""

    key: Hashable
    """What it is the same by in all states; ``None`` where nothing tells that."""
    number: Number
    """See ``walk.number_of``."""
    size: int
    """Bytes; what the file system says, whatever that is."""
    mtime: int | None
    """Nanoseconds since 1970."""
    btime: int | None
    lies: bytes | None
    """A digest of where on the disk it lies, and how much of it was ever written, or, behind :data:`_CONTENT`, of the content of one
    that lies in its record or inode; ``None`` where dissect does not tell."""
    changed: int | None
    """Bytes of its clusters that lie in the ranges that were asked for; ``None`` where that is not known."""

    @property
    def inode(self) -> int | None:
        return (self.number if isinstance(self.number, int) else self.number[1]) or None

    def is_untouched_since(self, older: FileRow) -> bool:
        """Whether it surely has the bytes of an older state, if the ranges are those that were changed since."""
        if self.lies is None or self.lies != older.lies or self.size != older.size:
            return False
        return self.lies[:1] == _CONTENT or self.changed == 0


class FileTable:
    """The files of a file system in one state, by their paths.

    Args:
        state: The file system.
        ranges: Of which it is counted how much of each file lies in them.
        warnings: Gets what cannot be looked at.
        progress: Gets, now and then, the number of files more.
    """

    def __init__(
        self,
        state: VolumeState,
        ranges: ChangedRanges,
        warnings: Warnings,
        progress: Callable[[int], None] | None = None,
    ):
        self.state = state
        self.rows: dict[str, FileRow] = {}
        walk = _Files(state, warnings)
        for path, entry, info in walk:
            if is_system_file(path, entry):
                continue
            if len(self.rows) >= MAX_FILES:
                warnings.missed(state.name, f"{state.name}: more than {MAX_FILES} files, the rest is not looked at")
                walk.whole = False
                break
            self.rows[path] = _row(state, path, entry, info, ranges)
            if progress is not None and len(self.rows) % _STEP == 0:
                progress(_STEP)
        if progress is not None:
            progress(len(self.rows) % _STEP)
        self.whole = walk.whole
        """Whether these are all."""
        forget(state.fs)

    def entry(self, path: str) -> FilesystemEntry:
        """A file of it.

        Raises:
            Exception: Whatever the file system raises.
        """
        return reopened(self.state.fs, path, self.rows[path].number)


def forget(fs: Filesystem) -> None:
    """Let go of what the reader of a file system keeps, so that what many states take does not add up."""
    with suppress(AttributeError):  # another file system, or a reader that keeps nothing
        fs.ntfs.mft.get.cache_clear()  # type: ignore[attr-defined]
    with suppress(AttributeError):
        fs.extfs.get_inode.cache_clear()  # type: ignore[attr-defined]


def _row(state: VolumeState, path: str, entry: FilesystemEntry, info: Any, ranges: ChangedRanges) -> FileRow:
    key = Key(entry, info)
    stream = path.rpartition("/")[2].partition(":")[2]  # of NTFS: it shares the record of its file
    runs, lies = where_it_lies(entry, state)
    return FileRow(
        (key.key, stream) if key.sure else None,
        number_of(entry, info),
        info.st_size,
        getattr(info, "st_mtime_ns", None),
        getattr(info, "st_birthtime_ns", None),
        lies,
        ranges.within(runs),
    )


def where_it_lies(entry: Any, state: VolumeState) -> tuple[FileRuns | None, bytes | None]:
    """The pieces of a file on the disk, as far as dissect tells them, and a digest of these, its holes and what was ever written.

    Whoever makes evidence cannot give two files that lie elsewhere the same digest.
    """
    if state.place is None:
        return None, None
    try:
        fh = entry.open()
        if type(fh) is not RunlistStream:
            return None, _inside(entry, fh)
        size, runlist, first = fh.block_size, fh.runlist, state.place + blocks_start(state.fs)
        runs = [(first + start * size, first + (start + count) * size) for start, count in runlist if start is not None]
        if fault_of_file(state.fs, entry):
            return runs, None
        what = repr((state.place, size, [tuple(run) for run in runlist], valid_length(entry)))
    except Exception:  # then it is not known
        return None, None
    return runs, blake2b(what.encode(), digest_size=16).digest()


def blocks_start(fs: Any) -> int:
    """Where in its volume the blocks start from which dissect counts those of a file, in bytes: on FAT behind its tables."""
    return fs.fatfs.first_data_sector * fs.fatfs.sector_size if fs.__type__ == "fat" else 0


def _inside(entry: Any, fh: Any) -> bytes | None:
    """A digest of a file that lies in its record or inode; ``None`` for others that have no clusters of their own."""
    if not isinstance(fh, (BytesIO, RangeStream)) or fh.size > MAX_INSIDE or valid_length(entry) is not None:  # type: ignore[union-attr]
        return None
    return _CONTENT + blake2b(fh.read(), digest_size=16).digest()


def valid_length(entry: Any) -> int | None:
    """Bytes of a file on NTFS that were ever written; ``None``: all. The rest is zeros, whatever dissect reads there."""
    record = getattr(entry, "entry", None)
    if not isinstance(record, MftRecord):
        return None
    stream = record.attributes.find(entry.ads or "", ATTRIBUTE_TYPE_CODE.DATA)[0].header
    return None if stream.resident else stream.header.Form.Nonresident.ValidDataLength


def printable_path(path: str) -> str:
    """A path without slashes around it, whatever bytes it has."""
    return path.strip("/").encode("utf-8", "backslashreplace").decode()


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
