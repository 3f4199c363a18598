"""One file of evidence: opened read-only, every read checked for its length.

A short read that is not noticed moves every byte behind it. So there is one way to bytes, :meth:`EvidenceFile.read`, and
it returns exactly what was asked for or raises.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import PosixPath, WindowsPath
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO

from dissect_sesparse.source.errors import FileError, Kind, UnreadableError

if TYPE_CHECKING:
    from pathlib import Path, PurePath


SECTOR = 512
"""Bytes. Offsets and sizes in headers and descriptors count sectors."""
MAX_DESCRIPTOR_SIZE = 1024 * 1024
"""Bytes of a descriptor. ESXi's have less than a kilobyte, and all readers refuse large ones."""


def is_local(path: PurePath) -> bool:
    """Whether ``path`` lies on the analyst's own disk, not inside a file system that is itself evidence."""
    return isinstance(path, (PosixPath, WindowsPath))


class EvidenceFile:
    """One file of evidence.

    Files of the analyst's disk are read by ``pread`` where the system has it; everything else (paths inside evidence,
    file objects, Windows) by a seek and a read under a lock, so that threads can share it.

    Args:
        fh: A binary file object that can seek.
        path: Where it comes from, for messages and records.
        owned: Whether :meth:`close` closes ``fh``.

    Raises:
        FileError: If the size cannot be had.
    """

    def __init__(self, fh: BinaryIO, path: Path | None = None, *, owned: bool = False):
        self.fh = fh
        self.path = path
        self.name = path.name if path is not None else str(getattr(fh, "name", None) or "<file object>")
        self._owned = owned
        self._lock = Lock()
        self.fd = fh.fileno() if owned and isinstance(fh, io.FileIO) and hasattr(os, "pread") else None
        try:
            self.size = fh.seek(0, io.SEEK_END)
        except Exception as e:
            raise FileError(f"its size cannot be had: {e}", file=self.label, kind=Kind.FAILED) from e

    @classmethod
    def open(cls, path: Path) -> EvidenceFile:
        """Open a regular file. Anything else (a FIFO or a device may block for ever) is refused.

        Raises:
            FileError: If it is missing, not regular or not readable.
        """
        try:
            if not path.is_file():
                if not path.exists():
                    raise FileError("no such file", file=path, kind=Kind.MISSING)
                raise FileError("not a regular file", file=path, kind=Kind.IRREGULAR)
            fh = _open_regular(path) if is_local(path) else path.open("rb")
        except FileError:
            raise
        except Exception as e:  # a path inside evidence goes through file system code that raises anything
            raise FileError(f"cannot be opened: {e}", file=path, advice=_advice(e), kind=Kind.FAILED) from e
        return cls(fh, path, owned=True)

    def is_still(self, path: Path) -> bool:
        """Whether a path of the analyst's disk still is this very file; inside evidence nothing is ever exchanged."""
        if not isinstance(self.fh, io.FileIO):
            return True
        try:
            return os.path.samestat(os.fstat(self.fh.fileno()), os.stat(path))
        except (OSError, ValueError):
            return False

    @property
    def label(self) -> PurePath | str:
        """What messages call the file: its path where there is one."""
        return self.path if self.path is not None else self.name

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset`` on.

        Raises:
            UnreadableError: If the file is shorter, or cannot be read there.
        """
        data = self.read_some(offset, length)
        if len(data) != length:
            raise UnreadableError(
                f"the file ends at byte {self.size:#x}, {length} bytes are needed",
                file=self.label,
                source_offset=offset,
                size=length,
                kind=Kind.FILE_ENDS,
                advice="a cut-off copy? unreadable=zero shows zeros there, and reports it",
            )
        return data

    def read_some(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes: fewer only where the file ends.

        Raises:
            UnreadableError: If the file cannot be read there.
        """
        length = min(length, self.size - offset)
        if length <= 0:  # behind the end some systems do not even let one seek
            return b""
        try:
            data = self._read_once(offset, length)
            while 0 < len(data) < length:  # a system call may return less than is there
                more = self._read_once(offset + len(data), length - len(data))
                if not more:
                    break
                data += more
        except Exception as e:
            raise UnreadableError(
                f"cannot be read: {e}", file=self.label, source_offset=offset, size=length, kind=Kind.FAILED
            ) from e
        return data

    def _read_once(self, offset: int, length: int) -> bytes:
        return self.read_raw(length, offset) if self.fd is None else os.pread(self.fd, length, offset)

    def read_raw(self, length: int, offset: int) -> bytes:
        """One read of a file object, whatever comes of it: for who looks at that, and has the arguments of ``pread``."""
        with self._lock:
            self.fh.seek(offset)
            return self.fh.read(length)

    def next_data(self, offset: int) -> int:
        """Where, from ``offset`` on, the next bytes are that are no hole of a sparse file, as far as the system tells."""
        return self._seek(offset, "SEEK_DATA", offset)

    def next_hole(self, offset: int) -> int:
        """Where, from ``offset`` on, the next hole of a sparse file is, or the file's end, as far as the system tells."""
        return self._seek(offset, "SEEK_HOLE", self.size)

    def _seek(self, offset: int, whence: str, unknown: int) -> int:
        """Ask the system for data or holes; ``unknown`` where it does not tell (Windows, paths inside evidence)."""
        if self.fd is None or not hasattr(os, whence):
            return unknown
        try:
            with self._lock:
                return os.lseek(self.fd, offset, getattr(os, whence))
        except OSError as e:
            return self.size if e.errno == errno.ENXIO else unknown

    def close(self) -> None:
        """Close the file, unless it was handed in open."""
        if self._owned:
            self.fd = None
            self.fh.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.label}>"


def _open_regular(path: Path) -> io.FileIO:
    """Open without waiting: what was a file when it was looked at may have become a FIFO, which would block for ever."""
    without_waiting = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    fh = io.FileIO(str(path), opener=lambda name, flags: os.open(name, flags | without_waiting))
    if not stat.S_ISREG(os.fstat(fh.fileno()).st_mode):
        fh.close()
        raise FileError("not a regular file", file=path, kind=Kind.IRREGULAR)
    return fh


def _advice(error: Exception) -> str | None:
    if getattr(error, "errno", None) == errno.EMFILE:
        return "too many open files: raise the limit, for instance with ulimit -n 4096"
    return None
