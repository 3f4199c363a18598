"""An output file: sparse, written under another name until it is whole, and taken up again after a break.

It is ``NAME.partial`` until :meth:`OutputFile.finish`. What is put where the same bytes already are is not written again,
so whoever starts anew only puts everything once more: bytes that are there are verified, those that are not are written.
A file that has its name is never changed: other bytes in it are an error.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from dissect_sesparse.disk.errors import SESparseError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARTIAL = ".partial"
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_CHUNK = 1 << 20
_FSCTL_SET_SPARSE = 0x900C4


class RecoverError(SESparseError):
    """The output cannot be written, or holds something that is not what the evidence gives."""


class OutputFile:
    """A file that is being written, or one that is whole and being verified.

    Args:
        path: The name it gets in the end.
        size: Its size in bytes, where that is known beforehand.
        replaces: Whether it takes the place of one that is there.

    Raises:
        RecoverError: If it cannot be opened, or is whole and has another size.
    """

    def __init__(self, path: Path, size: int | None = None, *, replaces: bool = False):
        self.path = path
        self.partial = path.with_name(path.name + PARTIAL)
        self.written = 0
        """Bytes that were not there before."""
        for name in (path, self.partial):
            if name.is_symlink():  # it could lead into the evidence
                raise RecoverError("a symbolic link, nothing is written through it", file=name)
        if replaces:
            self.partial.unlink(missing_ok=True)
        self.whole = path.exists() and not replaces
        self.resumed = self.whole or self.partial.exists()
        self._fh: BinaryIO | None = None
        with self._telling():
            if self.whole:
                self._fh = path.open("rb", buffering=0)
            else:
                self._fh = self.partial.open("r+b" if self.resumed else "x+b", buffering=0)
                mark_sparse(self._fh)
        if size is not None:
            self.truncate(size)

    @property
    def size(self) -> int:
        """Bytes of the file as it is."""
        return os.fstat(self._file.fileno()).st_size

    @property
    def _file(self) -> BinaryIO:
        if self._fh is None:
            raise RecoverError("closed already", file=self.path)
        return self._fh

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes, fewer where the file ends."""
        with self._telling():
            self._file.seek(offset)
            data = b""
            while len(data) < length and (more := self._file.read(length - len(data))):
                data += more
            return data

    def put(self, offset: int, data: bytes) -> None:
        """See to it that ``data`` is at ``offset``.

        Raises:
            RecoverError: If it cannot be written, or the file is whole and has something else there.
        """
        if self.resumed and self.read(offset, len(data)) == data:
            return
        if self.whole:
            raise self.differs(offset, len(data))
        with self._telling():
            self._file.seek(offset)
            rest = memoryview(data)
            while rest:  # a system call may write less
                rest = rest[self._file.write(rest) or 0 :]
        self.written += len(data)

    def differs(self, offset: int, size: int) -> RecoverError:
        """The error for a whole file that has not what the evidence gives."""
        return RecoverError(
            f"it does not hold what the evidence gives, in the {size} bytes at {offset:#x}: it was changed since",
            file=self.path,
            advice="recover into another folder, and compare",
        )

    def expect_zeros(self, start: int, end: int) -> None:
        """Where the file was there before: see to it that nothing else lies between two offsets.

        Raises:
            RecoverError: If anything does: a carver would take it for recovered.
        """
        while self.resumed and (start := self._next_data(start)) < end:
            data = self.read(start, min(_CHUNK, end - start))
            if data.strip(b"\x00"):
                raise self.differs(start, len(data))
            start += len(data) or end

    def _next_data(self, offset: int) -> int:
        """The next byte that is in no hole, as far as the system tells."""
        if not hasattr(os, "SEEK_DATA"):
            return offset
        try:
            return os.lseek(self._file.fileno(), offset, os.SEEK_DATA)
        except OSError as e:
            return self.size if e.errno == errno.ENXIO else offset

    def truncate(self, size: int) -> None:
        """Make it so long.

        Raises:
            RecoverError: If that cannot be, or it is whole and has another size.
        """
        if self.size == size:
            return
        if self.whole:
            raise self.differs(min(size, self.size), abs(size - self.size))
        with self._telling():
            self._file.truncate(size)

    def finish(self) -> None:
        """Give it its name, once its bytes are on the disk."""
        if not self.whole:
            with self._telling():
                os.fsync(self._file.fileno())
                self.close()
                self.partial.replace(self.path)
                _sync_folder(self.path.parent)
        self.close()

    def discard(self) -> None:
        """Remove it, unless it is whole."""
        self.close()
        if not self.whole:
            self.partial.unlink(missing_ok=True)

    def close(self) -> None:
        """Close it as it is."""
        if self._fh is not None:
            self._fh.close()
            self._fh = None

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn errors of the system into ours. Where the disk is full, a file that is not whole makes room."""
        try:
            yield
        except OSError as e:
            problem = f"cannot be written: {e.strerror or e}"
            if e.errno in _FULL:
                self.discard()
                problem = "no room left on the disk; this file was removed again, all others are kept"
            advice = "make room and run the same command again: it goes on where it was" if e.errno in _FULL else None
            raise RecoverError(problem, file=self.path, advice=advice) from e


def mark_sparse(fh: BinaryIO) -> None:
    """Tell Windows that a new file is sparse: there zeros take room unless that is said. Elsewhere they take none."""
    if sys.platform != "win32":
        return
    import ctypes
    import msvcrt
    from ctypes import wintypes

    control = ctypes.WinDLL("kernel32", use_last_error=True).DeviceIoControl
    control.argtypes = [
        wintypes.HANDLE, wintypes.DWORD, wintypes.LPVOID, wintypes.DWORD, wintypes.LPVOID, wintypes.DWORD,
        ctypes.POINTER(wintypes.DWORD), wintypes.LPVOID,
    ]  # fmt: skip
    control.restype = wintypes.BOOL
    # Where it fails (FAT, some network shares) the file is right all the same, only larger.
    control(
        msvcrt.get_osfhandle(fh.fileno()), _FSCTL_SET_SPARSE, None, 0, None, 0, ctypes.byref(wintypes.DWORD()), None
    )


def _sync_folder(folder: Path) -> None:
    """Put a new name on the disk, where the system lets one open a folder for that."""
    if os.name != "posix":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:  # some network file systems know no such thing
        pass
    finally:
        os.close(fd)
