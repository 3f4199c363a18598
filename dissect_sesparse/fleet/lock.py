"""One run at a time in a folder: a lock of the system's on a file, which it gives back whatever ends the run."""

from __future__ import annotations

import errno
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from dissect_sesparse.fleet.data import FleetError
from dissect_sesparse.recovery.writing import OutputFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_FILE = "fleet.lock"
"""Nothing is ever written into it, and it stays: who removed it could remove that of another run."""
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made when absent.

    Raises:
        FleetError: If another run is in it, or it cannot be locked: two runs at once would mix their files.
        RecoverError: If the file is a link of either kind, or no file.
    """
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        OutputFolder(folder).is_there(path)
        fh = path.open("ab")
    except OSError as e:
        raise FleetError(f"cannot be used: {e}", file=folder) from e
    with fh:
        try:
            _lock(fh)
        except OSError as e:
            if e.errno in _TAKEN:
                raise FleetError("another run is in this folder", file=folder, advice="wait until it has ended") from e
            problem = f"its disk has no locks, so that two runs could mix their files: {e.strerror or e}"
            raise FleetError(problem, file=folder, advice="use a folder on another disk") from e
        yield  # closing the file gives the lock back


if sys.platform == "win32":
    import msvcrt

    def _lock(fh: BinaryIO) -> None:
        fh.seek(0)
        msvcrt.locking(fh.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(fh: BinaryIO) -> None:
        fcntl.flock(fh.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
