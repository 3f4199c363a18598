"""The recovery of one disk's deleted files, under their paths: ``files/DISK/VOLUME/PATH``, or ``likely/DISK/VOLUME/PATH``.

In ``files`` are only bytes that are proven the file's own; a file any byte of which is only likely its own is in ``likely``.
A file that is partial has zeros where it is not recovered. Its line in the manifest tells the ranges that are proven, and
those that are likely. One of which nothing is left has a line and no file. Names of the evidence are made safe, see
``safe_name``; the line has the real one. A file gets the times that it had in the guest, where the system can write these
down; the line has them always.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dissect_sesparse.files.deleted import FILE_STATES, measure
from dissect_sesparse.files.not_looked import NotAllLookedAtError
from dissect_sesparse.recovery.safe_name import SafePaths
from dissect_sesparse.recovery.sparse_file import OutputFile
from dissect_sesparse.recovery.writing import TooLargeError
from dissect_sesparse.source.text import logger_of
from dissect_sesparse.trimmed.content import signature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.files.deleted import DeletedFile, Piece, Recovered
    from dissect_sesparse.files.not_looked import NotLooked
    from dissect_sesparse.recovery.json_lines import JsonLines
    from dissect_sesparse.recovery.writing import OutputFolder

log = logger_of(__name__)
FILES_FOLDER = "files"
"""The folder of files in which all bytes are proven their own."""
LIKELY = "likely"
"""The folder of files in which some bytes are only likely their own."""
MAX_RANGES = 100_000
"""Ranges of one file that the manifest lists."""


@dataclass
class FilesRecovery:
    """The recovery of one disk's deleted files."""

    chain: Chain
    folder: OutputFolder
    stem: str
    """Of the disk, as its images are called."""
    manifest: JsonLines
    written: int = 0
    unwritten: list[str] = field(default_factory=list)
    """Why files that are there could not be written."""
    _counts: Counter[str] = field(default_factory=Counter)
    _bytes: Counter[str] = field(default_factory=Counter)
    _paths: dict[str, SafePaths] = field(default_factory=lambda: defaultdict(SafePaths))
    """By the folder."""
    _warnings: list[str] = field(default_factory=list)

    def recover(self, files: Callable[[Callable[[str], None]], Iterable[DeletedFile]]) -> dict[str, Any]:
        """Write the files and their lines; what the report says of it.

        Args:
            files: Gets what takes warnings, gives the deleted files.
        """
        return self._summary(lambda: self._all(files(self._warnings.append)))

    def _all(self, files: Iterable[DeletedFile]) -> None:
        for file in files:
            self._one(file)

    def _summary(self, write: Callable[[], None]) -> dict[str, Any]:
        """Write all, and what the report says of it."""
        missed: tuple[NotLooked, ...] = ()
        try:
            write()
        except NotAllLookedAtError as e:
            missed = e.places
        return {
            **{state: {"files": self._counts[state], "bytes": self._bytes[state]} for state in FILE_STATES},
            "not_looked_at": [{"volume": place.where, "reason": place.why} for place in missed],
            "warnings": self._warnings,
        }

    def _one(self, file: DeletedFile) -> None:
        try:
            self._into(FILES_FOLDER, file)
        except _NotProvenError:
            self._into(LIKELY, file)

    def _into(self, top: str, file: DeletedFile) -> None:
        """Write one into one of the two folders.

        Raises:
            _NotProvenError: If that is the one for what is proven, and some of it is only likely.
        """
        parts = (top, *self._paths[top].of(self.stem, file.volume, *file.path.split("/")))
        output = RecoveredFile(self.folder, parts, file.size, only_proven=top == FILES_FOLDER)
        written = True
        try:
            recovered = measure(file, output.put)
            if recovered.state != "none":
                self._finish(file, output)
        except TooLargeError as e:  # one hostile size never costs all other files
            self.unwritten.append(str(e))
            recovered, written = measure(file), False
        except _NotProvenError:
            output.discard()
            raise
        finally:
            output.close()
        self._count(recovered)
        self._line(file, recovered, output, output.name if written and recovered.state != "none" else None)

    def _count(self, recovered: Recovered) -> None:
        self._counts[recovered.state] += 1
        self._bytes[recovered.state] += recovered.size

    def _finish(self, file: DeletedFile, output: RecoveredFile) -> None:
        if not output.finish(file.mtime, file.atime):
            log.warning("%s: its time in the guest cannot be set here: %s", output.name, file.mtime)
        self.written += output.written

    def _line(
        self,
        file: DeletedFile,
        recovered: Recovered,
        output: RecoveredFile,
        name: str | None,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        fields = {
            "disk": self.chain.name,
            "link": file.link.name,
            "depth": file.link.depth,
            "volume": file.volume,
            "path": file.path,
            "size": file.size,
            "recovered": recovered.size,
            "state": recovered.state,
            "basis": recovered.basis,
            "digest": None,
            "signature": None,
            "inode": file.inode,
            "filesystem": file.filesystem,
            "named_by": file.naming.by,
            "also_named_by": list(file.naming.also),
            "name_state": file.naming.state,
            "name_basis": file.naming.basis,
            **_times(file),
            "original_path": file.original_path,
            "file": name,
            "ranges": output.proven.listed if recovered.state in ("likely", "partial") else None,
            "likely_ranges": output.likely.listed if recovered.likely else None,
            "more_ranges": output.proven.more + output.likely.more,
        }
        digest = None if recovered.digest is None else dict(zip(("md5", "sha1", "sha256"), recovered.digest))
        content = {"digest": digest, "signature": signature(output.head) if output.head else None}
        self.manifest.put({**fields, **content, **more})


def _times(file: DeletedFile) -> dict[str, str | None]:
    """The times of a file as a line has them."""
    window = file.deletion.window
    times = {
        "mtime": file.mtime,
        "btime": file.btime,
        "atime": file.atime,
        "after": window.after,
        "before": window.before,
        "deleted": file.deletion.logged,
    }
    return {name: time and time.isoformat() for name, time in times.items()} | {"deleted_basis": file.deletion.basis}


class _NotProvenError(Exception):
    """Some bytes are only likely the file's, and were not written."""


class _Listed:
    """The first of some ranges of a file, and how many there are."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []
        self._count = 0

    @property
    def listed(self) -> list[list[int]]:
        return [list(each) for each in self._ranges]

    @property
    def more(self) -> int:
        """How many are left out."""
        return max(0, self._count - MAX_RANGES)

    def add(self, offset: int, size: int) -> None:
        if self._ranges and sum(self._ranges[-1]) == offset and self._count == len(self._ranges):
            self._ranges[-1] = self._ranges[-1][0], self._ranges[-1][1] + size
        else:
            self._count += 1
            if len(self._ranges) < MAX_RANGES:
                self._ranges.append((offset, size))


class RecoveredFile:
    """A recovered file. It is made when the first of its bytes is there.

    Args:
        folder: All that is written.
        parts: Its path in that.
        size: Bytes of it.
        only_proven: Whether only bytes that are proven get into it.
    """

    def __init__(self, folder: OutputFolder, parts: tuple[str, ...], size: int, *, only_proven: bool):
        self._only_proven = only_proven
        self._folder = folder
        self._parts = parts
        self.name = "/".join(parts)
        self._size = size
        self._file: OutputFile | None = None
        self._position = 0
        """Up to where all that was not put is zeros."""
        self.head = b""
        """Its first bytes, where these are there."""
        self.proven = _Listed()
        self.likely = _Listed()

    @property
    def written(self) -> int:
        return self._file.written if self._file is not None else 0

    def _open(self) -> OutputFile:
        if self._file is None:
            self._file = OutputFile(self._folder, *self._parts, size=self._size)
        return self._file

    def put(self, piece: Piece) -> None:
        """Put bytes in. Zeros are there already."""
        if self._only_proven and not piece.proven:
            raise _NotProvenError
        offset, data, _ = piece
        file = self._open()
        if not offset:
            self.head = data[:8192]
        (self.proven if piece.proven else self.likely).add(offset, len(data))
        if data.strip(b"\x00"):
            file.expect_zeros(self._position, offset)
            file.put(offset, data)
            self._position = offset + len(data)

    def finish(self, mtime: datetime | None, atime: datetime | None) -> bool:
        """Give the file its name and its times; whether it has these."""
        file = self._open()
        file.expect_zeros(self._position, self._size)
        return file.finish(mtime, atime)

    def discard(self) -> None:
        """Remove what was begun."""
        if self._file is not None:
            self._file.discard()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
