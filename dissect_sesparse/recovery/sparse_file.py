"""An output file: sparse, written under another name until it is whole, and taken up again after a break.

It is ``NAME.partial`` until :meth:`OutputFile.finish`. What is put where the same bytes already are is not written again,
so whoever starts anew only puts everything once more: bytes that are there are verified, those that are not are written.
A file that has its name is never changed: other bytes in it are an error. How it is opened, see ``writing``.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from dissect_sesparse.recovery.file_times import set_times
from dissect_sesparse.recovery.writing import (
    PARTIAL,
    OutputFolder,
    RecoverError,
    TooLargeError,
    is_full,
    sync_folder,
    system_errors,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

__all__ = ["PARTIAL", "OutputFile", "OutputFolder", "RecoverError", "TooLargeError"]

_CHUNK = 1 << 20
_FSCTL_SET_SPARSE = 0x900C4


class OutputFile:
    """A file that is being written, or one that is whole and being verified.

    Args:
        folder: The output folder.
        parts: The name that it gets in the end, after the folders below ``folder`` that lead to it.
        size: Its size in bytes, where that is known beforehand.
        replaces: Whether it takes the place of one that has its name, once it is whole.

    Raises:
        RecoverError: If it cannot be opened, must not be, or is whole and has another size.
    """

    def __init__(self, folder: OutputFolder, *parts: str, size: int | None = None, replaces: bool = False):
        self.folder = folder
        self.path = folder.place(*parts)
        self.partial = self.path.with_name(self.path.name + PARTIAL)
        self.written = 0
        """Bytes that were not there before."""
        self._replaces = replaces
        self._fh: BinaryIO | None = None
        self.whole = False
        with self._errors():
            there = folder.is_there(self.path)
            if there and not replaces:
                self._fh = folder.take_up(self.path, write=False)
                self.whole = self._fh is not None
            if not self.whole:
                self._fh = folder.take_up(self.partial, write=True)
            self.resumed = self._fh is not None
            if self._fh is None:
                self._fh = folder.create(self.partial)
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
        with self._errors("read"):
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
        with self._errors():
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
        with self._errors():
            set_size(self._file, size)

    def finish(self, mtime: datetime | None = None, atime: datetime | None = None) -> bool:
        """Give it its name, once its bytes are on the disk.

        Args:
            mtime: When it is to say that it was changed last; by default now.
            atime: And when it was read last.

        Returns:
            Whether it has these times. One that was whole before stays as it is, and counts.
        """
        timed = True
        if not self.whole:
            with self._errors():
                os.fsync(self._file.fileno())
                self.close()
                timed = set_times(self.partial, mtime, atime)
                if not self._replaces and self.folder.is_there(self.path):
                    raise RecoverError("it is there already, made meanwhile by something else", file=self.path)
                self.partial.replace(self.path)
                sync_folder(self.path.parent)
        self.close()
        return timed

    def discard(self) -> None:
        """Remove it, unless it is whole."""
        self.close()
        if not self.whole:
            with suppress(OSError):
                self.folder.remove(self.partial)

    def close(self) -> None:
        """Close it as it is."""
        if self._fh is not None:
            self._fh.close()
            self._fh = None

    @contextmanager
    def _errors(self, doing: str = "written") -> Iterator[None]:
        """Turn errors of the system into ours. Where the disk is full, a file that is not whole makes room."""
        try:
            with system_errors(self.path, doing):
                yield
        except RecoverError as e:
            if self._fh is not None and isinstance(e, TooLargeError):
                self.discard()
            if self._fh is not None and is_full(e.__cause__):
                self.discard()
                problem = "no room left on the disk; this file was removed again, all others are kept"
                raise RecoverError(problem, file=self.path, advice=e.advice) from e.__cause__
            raise


def set_size(fh: BinaryIO, size: int) -> None:
    """Make an unbuffered file so long. On Windows ``truncate`` writes all the zeros, which then take room."""
    if sys.platform == "win32" and size > os.fstat(fh.fileno()).st_size:
        fh.seek(size - 1)
        fh.write(b"\x00")
    else:
        fh.truncate(size)


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
