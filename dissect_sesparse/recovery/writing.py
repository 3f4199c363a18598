"""The one way in which anything is written: below a folder, and never through what was planted there.

What lies in an output folder may be hostile: a symbolic link, a junction, or a second name (hard link) of a file of the
evidence would lead a write into the evidence. So whoever writes asks an :class:`OutputFolder` for its files. It makes a new
file exclusively, and takes one up only if it is a regular file with one name that is none of the evidence; no folder
below the output folder is a link.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from uuid import uuid4

from dissect_sesparse.source.errors import SESparseError
from dissect_sesparse.source.file import is_local
from dissect_sesparse.source.folder import refuse_irregular

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import PurePath

PARTIAL = ".partial"
"""The end of the name of what is not whole yet. No name made of a guest's ends so, see ``safe_name``."""
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_ADVICE = {
    **dict.fromkeys(_FULL, "make room and run the same command again: it goes on where it was"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a folder that you may write into"),
    errno.ENAMETOOLONG: "choose a folder with a shorter path",
    errno.EFBIG: "its file system takes no file of that size, choose a folder on another one",
}
_FLAGS = sum(getattr(os, name, 0) for name in ("O_BINARY", "O_NOINHERIT", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"))
"""None of them is on all systems. ``O_NONBLOCK``: a FIFO that takes a file's place meanwhile must not hang."""
_NAME_SURROGATE = 0x20000000
"""The bit in the tag of a reparse point on Windows that says that it stands for another file (``IsReparseTagNameSurrogate``)."""


class RecoverError(SESparseError):
    """The output cannot be written, or holds something that is not what the evidence gives."""


class TooLargeError(RecoverError):
    """The file system of the output takes no file of that size."""


@contextmanager
def system_errors(path: Path, doing: str = "written") -> Iterator[None]:
    """Turn errors of the system into ours.

    Raises:
        RecoverError: Instead of ``OSError``; ``__cause__`` has it.
    """
    try:
        yield
    except OSError as e:
        problem = "no room left on the disk" if is_full(e) else f"cannot be {doing}: {e.strerror or e}"
        kind = TooLargeError if e.errno == errno.EFBIG else RecoverError
        raise kind(problem, file=path, advice=_ADVICE.get(e.errno or 0)) from e


def is_full(error: BaseException | None) -> bool:
    """Whether the disk is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def identities(files: Iterable[PurePath | str]) -> frozenset[tuple[int, int]]:
    """What tells files of the analyst's own disk from all others, by whatever name."""
    found = set()
    for file in files:
        if isinstance(file, Path) and is_local(file):
            with suppress(OSError, ValueError):
                status = file.stat()
                if status.st_ino:
                    found.add((status.st_dev, status.st_ino))
    return frozenset(found)


@dataclass(frozen=True)
class OutputFolder:
    """A folder that is written into. It may be named by a link itself; below it nothing is."""

    path: Path
    evidence: frozenset[tuple[int, int]] = frozenset()
    """What is never written to, see :func:`identities`."""

    def place(self, *parts: str) -> Path:
        """The path of a file; the folders above it are made.

        Raises:
            RecoverError: If one cannot be made, or is a link.
        """
        folder = self.path
        for part in parts[:-1]:
            folder = folder / part
            self.make(folder)
        return folder / parts[-1]

    def make(self, folder: Path) -> None:
        """Make a folder below this one, unless it is there.

        Raises:
            RecoverError: If it cannot be made, or is no folder, or a link to one.
        """
        with system_errors(folder, "made"):
            with suppress(FileExistsError):
                folder.mkdir()
            status = folder.lstat()
        if leads_elsewhere(status):  # it could lead into the evidence
            raise RecoverError("a symbolic link, nothing is written through it", file=folder)
        if not stat.S_ISDIR(status.st_mode):
            raise RecoverError("not a folder", file=folder, advice="use another folder for the output")

    def has_folder(self, *parts: str) -> bool:
        """Whether there is a folder below this one.

        Raises:
            RecoverError: If it, or one above it, is a link, or cannot be looked at.
        """
        folder = self.path
        for part in parts:
            folder = folder / part
            with system_errors(folder, "looked at"):
                try:
                    status = folder.lstat()
                except (FileNotFoundError, NotADirectoryError):
                    return False
            if leads_elsewhere(status):
                raise RecoverError("a symbolic link, nothing is written through it", file=folder)
            if not stat.S_ISDIR(status.st_mode):
                return False
        return True

    def create(self, path: Path) -> BinaryIO:
        """A new file, for reading and writing, unbuffered.

        Raises:
            OSError: If it cannot be made, or anything has that name.
        """
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666), "r+b", buffering=0)

    def take_up(self, path: Path, *, write: bool) -> BinaryIO | None:
        """A file that is there, unbuffered; ``None`` where there is none.

        Raises:
            RecoverError: If it is a link, has several names, is no regular file, or belongs to the evidence.
            OSError: If it cannot be opened.
        """
        if not self.is_there(path):
            return None
        fd = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | _FLAGS)
        try:
            self._check(path, os.fstat(fd))  # what was opened, whatever became of the name meanwhile
            return os.fdopen(fd, "r+b" if write else "rb", buffering=0)
        except BaseException:
            os.close(fd)
            raise

    def is_there(self, path: Path) -> bool:
        """Whether there is a file of that name, and one that may be taken up.

        Raises:
            RecoverError: As :meth:`take_up`.
            OSError: If it cannot be looked at.
        """
        try:
            status = path.lstat()
        except FileNotFoundError:
            return False
        self._check(path, status)
        return True

    def _check(self, path: Path, status: os.stat_result) -> None:
        if leads_elsewhere(status):
            raise RecoverError("a symbolic link, nothing is written through it", file=path)
        if not stat.S_ISREG(status.st_mode):
            raise RecoverError("not a regular file", file=path, advice="use another folder for the output")
        if (status.st_dev, status.st_ino) in self.evidence:
            raise RecoverError("a file of the evidence, nothing is written to it", file=path)
        if status.st_nlink > 1:
            problem = f"a file with {status.st_nlink} names (hard links), nothing is written to it"
            raise RecoverError(problem, file=path, advice="use another folder for the output, or remove this name")

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there and may be taken up.

        Raises:
            RecoverError: As :meth:`take_up`.
            OSError: If it cannot be removed.
        """
        if self.is_there(path):
            path.unlink()

    @contextmanager
    def whole(self, *parts: str) -> Iterator[BinaryIO]:
        """Write a file that is there as a whole or not at all, in place of one that is there. Buffered.

        Raises:
            RecoverError: If it cannot be written, or what has its name must not be replaced.
        """
        path = self.place(*parts)
        partial = path.with_name(f"{path.name}.{uuid4().hex}{PARTIAL}")
        with system_errors(path):
            self.is_there(path)
            try:
                with os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666), "wb") as fh:
                    yield fh
                    fh.flush()
                    os.fsync(fh.fileno())
                self.is_there(path)
                partial.replace(path)
                sync_folder(path.parent)
            except BaseException:
                with suppress(OSError):
                    partial.unlink(missing_ok=True)
                raise


def refuse_there(output: Path, *, replace: bool) -> None:
    """Refuse before the work to write a file that would be refused after it.

    Args:
        output: The file.
        replace: Whether it may take the place of one that is there.

    Raises:
        RecoverError: If there is something of that name, or no folder to write into.
        FileError: If it is a FIFO, a socket or a device.
    """
    refuse_irregular(output)
    if output.is_dir():
        raise RecoverError("a folder", file=output, expected="the name of a file")
    if output.exists() and not replace:
        raise RecoverError("it is there already, and stays as it is", file=output, advice="--force replaces it")
    if not output.parent.is_dir():
        raise RecoverError("no such folder", file=output.parent)


def leads_elsewhere(status: os.stat_result) -> bool:
    """Whether a name is a symbolic link, or on Windows a junction or the like."""
    return stat.S_ISLNK(status.st_mode) or bool(getattr(status, "st_reparse_tag", 0) & _NAME_SURROGATE)


def sync_folder(folder: Path) -> None:
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
