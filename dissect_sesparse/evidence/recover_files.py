"""The recovery of one disk's deleted files, under their paths: ``files/DISK/VOLUME/PATH``.

A file that is partial has zeros where it is not recovered; its line in the manifest tells the ranges that are. One of which
nothing is left has a line and no file. Names of the evidence are made safe, see ``safe_name``; the line has the real one.
A file gets the times that it had in the guest, where the system can write these down; the line has them always.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dissect_sesparse.evidence.content import signature
from dissect_sesparse.evidence.deleted import measure
from dissect_sesparse.evidence.safe_name import SafePaths
from dissect_sesparse.evidence.sparse_file import OutputFile
from dissect_sesparse.evidence.writing import TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from dissect_sesparse.disk.chain import Chain
    from dissect_sesparse.evidence.deleted import DeletedFile, Recovered
    from dissect_sesparse.evidence.json_lines import JsonLines
    from dissect_sesparse.evidence.writing import OutputFolder

log = logging.getLogger(__name__)
NAME = "files"
"""The folder for what is a file's own."""
LIKELY = "likely"
"""The folder for what only may be a file's own: never among the proven ones."""
FOLDERS = {"likely": LIKELY}
"""By the state of a file; all others are in :data:`NAME`."""
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
        for file in files(self._warnings.append):
            self._one(file)
        return {
            **{
                state: {"files": self._counts[state], "bytes": self._bytes[state]}
                for state in ("complete", "partial", "nothing")
            },
            "warnings": self._warnings,
        }

    def _one(self, file: DeletedFile, state: str = "") -> None:
        """Write one.

        Args:
            file: The file.
            state: What is known of its state before its bytes are read; it decides the folder, see :data:`FOLDERS`.
        """
        top = FOLDERS.get(state, NAME)
        parts = (top, *self._paths[top].of(self.stem, file.volume, *file.path.split("/")))
        output = _Output(self.folder, parts, file.size)
        written = True
        try:
            recovered = measure(file, output.put)
            if recovered.size or not file.size:
                self._finish(file, output)
        except TooLargeError as e:  # one hostile size never costs all other files
            self.unwritten.append(str(e))
            recovered, written = measure(file), False
        finally:
            output.close()
        state = recovered.state if recovered.size or not file.size else "nothing"
        self._counts[state] += 1
        self._bytes[state] += recovered.size
        self._line(file, recovered, output, output.name if written and state != "nothing" else None)

    def _finish(self, file: DeletedFile, output: _Output) -> None:
        if not output.finish(file.mtime, file.atime):
            log.warning("%s: its time in the guest cannot be set here: %s", output.name, file.mtime)
        self.written += output.written

    def _line(self, file: DeletedFile, recovered: Recovered, output: _Output, name: str | None) -> None:
        fields = {
            "disk": self.chain.name,
            "link": file.link.name,
            "depth": file.link.depth,
            "volume": file.volume,
            "path": file.path,
            "size": file.size,
            "recovered": recovered.size,
            "state": recovered.state,
            "digest": None,
            "signature": None,
            "mtime": file.mtime and file.mtime.isoformat(),
            "btime": file.btime and file.btime.isoformat(),
            "atime": file.atime and file.atime.isoformat(),
            "inode": file.inode,
            "filesystem": file.filesystem,
            "named_by": file.named_by,
            "file": name,
            "ranges": [list(each) for each in output.ranges] if recovered.state == "partial" else None,
            "more_ranges": max(0, output.range_count - MAX_RANGES),
        }
        digest = None if recovered.digest is None else dict(zip(("md5", "sha1", "sha256"), recovered.digest))
        content = {"digest": digest, "signature": signature(output.head) if output.head else None}
        self.manifest.put(fields | content)


class _Output:
    """A recovered file. It is made when the first of its bytes is there."""

    def __init__(self, folder: OutputFolder, parts: tuple[str, ...], size: int):
        self._folder = folder
        self._parts = parts
        self.name = "/".join(parts)
        self._size = size
        self._file: OutputFile | None = None
        self._position = 0
        """Up to where all that was not put is zeros."""
        self.head = b""
        """Its first bytes, where these are there."""
        self.ranges: list[tuple[int, int]] = []
        self.range_count = 0

    @property
    def written(self) -> int:
        return self._file.written if self._file is not None else 0

    def _open(self) -> OutputFile:
        if self._file is None:
            self._file = OutputFile(self._folder, *self._parts, size=self._size)
        return self._file

    def put(self, offset: int, data: bytes) -> None:
        """Put bytes in. Zeros are there already."""
        file = self._open()
        if not offset:
            self.head = data[:8192]
        if self.ranges and sum(self.ranges[-1]) == offset and self.range_count == len(self.ranges):
            self.ranges[-1] = self.ranges[-1][0], self.ranges[-1][1] + len(data)
        else:
            self.range_count += 1
            if len(self.ranges) < MAX_RANGES:
                self.ranges.append((offset, len(data)))
        if data.strip(b"\x00"):
            file.expect_zeros(self._position, offset)
            file.put(offset, data)
            self._position = offset + len(data)

    def finish(self, mtime: datetime | None, atime: datetime | None) -> bool:
        """Give the file its name and its times; whether it has these."""
        file = self._open()
        file.expect_zeros(self._position, self._size)
        return file.finish(mtime, atime)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
