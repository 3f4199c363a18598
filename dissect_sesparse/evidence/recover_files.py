"""The recovery of one disk's deleted files, under their paths: ``files/DISK/VOLUME/PATH``.

A file that is partial has zeros where it is not recovered; its line in the manifest tells the ranges that are. One of which
nothing is left has a line and no file. Names of the evidence are made safe, see ``safe_name``; the line has the real one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dissect_sesparse.evidence.content import signature
from dissect_sesparse.evidence.deleted import measure
from dissect_sesparse.evidence.safe_name import safe_part
from dissect_sesparse.evidence.sparse_file import OutputFile, RecoverError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from dissect_sesparse.disk.chain import Chain
    from dissect_sesparse.evidence.deleted import DeletedFile, Recovered
    from dissect_sesparse.evidence.json_lines import JsonLines

NAME = "files"
"""The folder."""
MAX_RANGES = 100_000
"""Ranges of one file that the manifest lists."""
_MAX_PATH = 180
"""Characters of a path below the volume's folder: Windows takes 260 in all, unless told otherwise."""


class SafePaths:
    """A path for each path of the evidence: safe on any system, and no two alike, whatever their case."""

    def __init__(self) -> None:
        self._is_folder: dict[str, bool] = {}
        self._next: dict[str, int] = {}

    def of(self, *parts: str) -> tuple[str, ...]:
        """The parts of a path that no other file has; folders are shared."""
        safe = [safe_part(part) for part in parts]
        if sum(map(len, safe[2:])) + len(safe) > _MAX_PATH:
            name = hashlib.sha256("/".join(parts[2:]).encode("utf-8", "backslashreplace")).hexdigest()[:16]
            safe = [*safe[:2], "too-long", name, safe[-1]]
        path: list[str] = []
        for number, part in enumerate(safe, 1):
            path.append(self._free("/".join(path), part, is_folder=number < len(safe)))
        return tuple(path)

    def _free(self, folder: str, part: str, *, is_folder: bool) -> str:
        key = f"{folder}/{part}".casefold()
        number, name = 1 if is_folder else self._next.get(key, 1), part
        if number > 1:
            name = f"{part}~{number}"
        while (found := self._is_folder.get(f"{folder}/{name}".casefold())) is not None and not (found and is_folder):
            number += 1
            name = f"{part}~{number}"
        if not is_folder:
            self._next[key] = number
        self._is_folder[f"{folder}/{name}".casefold()] = is_folder
        return name


@dataclass
class FilesRecovery:
    """The recovery of one disk's deleted files."""

    chain: Chain
    folder: Path
    stem: str
    """Of the disk, as its images are called."""
    manifest: JsonLines
    written: int = 0
    _counts: Counter[str] = field(default_factory=Counter)
    _bytes: Counter[str] = field(default_factory=Counter)
    _paths: SafePaths = field(default_factory=SafePaths)
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

    def _one(self, file: DeletedFile) -> None:
        parts = self._paths.of(self.stem, file.volume, *file.path.split("/"))
        output = _Output(self.folder.joinpath(NAME), parts, file.size)
        try:
            recovered = measure(file, output.put)
            if recovered.size or not file.size:
                output.finish()
                self.written += output.written
        finally:
            output.close()
        state = recovered.state if recovered.size or not file.size else "nothing"
        self._counts[state] += 1
        self._bytes[state] += recovered.size
        self._line(file, recovered, output, "/".join((NAME, *parts)) if state != "nothing" else None)

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
            "inode": file.inode,
            "filesystem": file.filesystem,
            "named_by": file.named_by,
            "file": name,
            "ranges": [list(each) for each in output.ranges] if recovered.state == "partial" else None,
            "more_ranges": max(0, output.range_count - MAX_RANGES),
        }
        digest = None if recovered.digest is None else dict(zip(("md5", "sha1", "sha256"), recovered.digest))
        content = {"digest": digest, "signature": signature(output.head) if output.head else None}
        self.manifest.put(fields, None if digest is None else digest["sha256"], lambda: content)


class _Output:
    """A recovered file. It is made when the first of its bytes is there."""

    def __init__(self, folder: Path, parts: tuple[str, ...], size: int):
        self._folder = folder
        self._parts = parts
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
            folder = self._folder
            for part in ("", *self._parts[:-1]):
                folder = folder / part
                if folder.is_symlink():  # it could lead into the evidence
                    raise RecoverError("a symbolic link, nothing is written through it", file=folder)
                try:
                    folder.mkdir(exist_ok=True)
                except OSError as e:
                    raise RecoverError(f"cannot be made: {e.strerror or e}", file=folder) from e
            self._file = OutputFile(folder / self._parts[-1], self._size)
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

    def finish(self) -> None:
        """Give the file its name."""
        file = self._open()
        file.expect_zeros(self._position, self._size)
        file.finish()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
