"""The files of a file system in one state, as a table: of each only what tells whether it was changed, and how to open it again.

Nothing of dissect's objects is kept: there may be millions of files, in many states.
"""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from dissect.ntfs.c_ntfs import ATTRIBUTE_TYPE_CODE
from dissect.ntfs.mft import MftRecord
from dissect.util.stream import RangeStream, RunlistStream

from dissect_sesparse.files.ext_file_table import ext_files_listed
from dissect_sesparse.files.file_row import MAX_INSIDE, FileRow, digest_of_content, digest_of_place
from dissect_sesparse.files.ntfs_file_table import ntfs_files_listed
from dissect_sesparse.files.trust import fault_of_file
from dissect_sesparse.files.walk import FileWalk, Key, number_of, reopened
from dissect_sesparse.ntfs.mft import is_system_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dissect.target.filesystem import Filesystem, FilesystemEntry

    from dissect_sesparse.files.changed_ranges import ChangedRanges, FileRuns
    from dissect_sesparse.files.file_row import Handle
    from dissect_sesparse.files.not_looked import Warnings
    from dissect_sesparse.files.volumes import VolumeState

MAX_FILES = 5_000_000
"""Files of a file system in one state: two GB of memory."""
_STEP = 1000
"""Files after which the progress is shown."""


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
        self.whole = True
        """Whether these are all."""
        self._warnings = warnings
        for path, row in self._listed(ranges):
            if len(self.rows) >= MAX_FILES:
                self._missed(f"more than {MAX_FILES} files, the rest is not looked at")
                break
            self.rows[path] = row
            if progress is not None and len(self.rows) % _STEP == 0:
                progress(_STEP)
        if progress is not None:
            progress(len(self.rows) % _STEP)
        forget(state.fs)

    def _listed(self, ranges: ChangedRanges) -> Iterator[tuple[str, FileRow]]:
        """All files: where the tables of a file system can be read as they are, that takes a twentieth of the time."""
        tables = {"ntfs": ntfs_files_listed, "ext": ext_files_listed}
        kind = tables.get(self.state.fs.__type__)
        for found in kind(self.state, ranges, self._missed) if kind is not None else self._walked(ranges):
            if isinstance(found[1], FileRow):
                yield found  # type: ignore[misc]
            elif (row := self._odd(*found, ranges)) is not None:  # type: ignore[misc]
                yield found[0], row

    def _walked(self, ranges: ChangedRanges) -> Iterator[tuple[str, FileRow]]:
        walk = _Files(self.state, self._warnings)
        for path, entry, info in walk:
            if not is_system_file(path, entry):
                yield path, _row(self.state, path, entry, info, ranges)
        self.whole &= walk.whole

    def _odd(self, path: str, handle: Handle, ranges: ChangedRanges) -> FileRow | None:
        """A file that only dissect can make something of; nothing where it has no content."""
        entry = None
        try:
            entry = reopened(self.state.fs, path, handle.number, "")
            info = entry.lstat()
            return (
                _row(self.state, path, entry, info, ranges)._replace(key=handle.key) if S_ISREG(info.st_mode) else None
            )
        except Exception as e:  # whatever the file system trips over
            if not _has_no_content(entry):
                self._missed(f"{path} as of link {self.state.depth} cannot be read: {e or type(e).__name__}")
            return None

    def _missed(self, why: str) -> None:
        self.whole = False
        self._warnings.missed(self.state.name, f"{self.state.name}: {why}")

    def entry(self, path: str) -> FilesystemEntry:
        """A file of it.

        Raises:
            Exception: Whatever the file system raises.
        """
        row = self.rows[path]
        return reopened(self.state.fs, path, row.number, row.stream)


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
    """The pieces of a file on the disk, as far as dissect tells them, and a digest of these, its holes and what was ever written."""
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
        lies = digest_of_place(state.place, size, [tuple(run) for run in runlist], valid_length(entry))
    except Exception:  # then it is not known
        return None, None
    return runs, lies


def blocks_start(fs: Any) -> int:
    """Where in its volume the blocks start from which dissect counts those of a file, in bytes: on FAT behind its tables."""
    return fs.fatfs.first_data_sector * fs.fatfs.sector_size if fs.__type__ == "fat" else 0


def _inside(entry: Any, fh: Any) -> bytes | None:
    """A digest of a file that lies in its record or inode; ``None`` for others that have no clusters of their own."""
    if not isinstance(fh, (BytesIO, RangeStream)) or fh.size > MAX_INSIDE or valid_length(entry) is not None:  # type: ignore[union-attr]
        return None
    return digest_of_content(fh.read())


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
