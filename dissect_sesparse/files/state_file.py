"""A deleted file as an older state has it, on a file system in which its inode tells nothing any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dissect_sesparse.files.deleted import DeletedFile, Piece, read_pieces
from dissect_sesparse.files.story import Naming
from dissect_sesparse.files.trust import fault_of_file
from dissect_sesparse.files.walk import entry_at, time_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect.target.filesystem import FilesystemEntry

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.files.deleted import Budget
    from dissect_sesparse.files.not_looked import Warnings
    from dissect_sesparse.files.story import Deletion
    from dissect_sesparse.files.volumes import VolumeState

MAX_FILES = 1_000_000
"""Deleted files of a file system."""
_UNIT = 512


def has_path(running: VolumeState | None, path: str) -> bool:
    """Whether the running guest has a file of that path."""
    try:
        return running is not None and entry_at(running.fs, path) is not None
    except Exception:  # it has not, or it cannot be known where it should be
        return False


def file_of_state(
    chain: Chain,
    state: VolumeState,
    found: tuple[str, FilesystemEntry, Any],
    doubt: str,
    deletion: Deletion,
    budget: Budget,
    warnings: Warnings,
) -> DeletedFile:
    """The file, with the bytes that the state has of it.

    Args:
        chain: The disk.
        state: The state.
        found: The path of the file, the file, and what ``lstat`` says of it.
        doubt: Why its file system is not believed; empty where it is.
        deletion: When it was deleted.
        budget: How many bytes are read at the most.
        warnings: Gets what is odd.
    """
    path, entry, info = found
    size, has_it = info.st_size, f"its file system as of {chain.links[state.depth].name} has it"
    fault = fault_of_file(state.fs, entry) if size else ""
    if not 0 <= size <= chain.size:
        warnings(f"{path}: a file of {size} bytes on a disk of {chain.size}: it is not recovered")
    there = 0 <= size <= chain.size and not fault
    return DeletedFile(
        link=chain.links[state.depth],
        volume=state.name,
        path=path.strip("/").encode("utf-8", "backslashreplace").decode(),
        size=max(0, min(size, (1 << 63) - 1)),
        mtime=time_of(getattr(info, "st_mtime_ns", None)),
        btime=time_of(getattr(info, "st_birthtime_ns", None)),
        atime=time_of(getattr(info, "st_atime_ns", None)),
        inode=info.st_ino or None,
        filesystem=state.fs.__type__,
        naming=Naming("snapshot", "likely" if doubt else "proven", f"{has_it}; {doubt}" if doubt else has_it),
        deletion=deletion,
        proof=f"{has_it.removesuffix('it')}them",
        pieces=lambda: budget.of(_pieces(entry, size, proven=not doubt), path) if there else iter(()),
        doubt=doubt,
        lost=fault,
        known=size > 0 or not doubt,
        place=state.place,
    )


def _pieces(entry: FilesystemEntry, size: int, *, proven: bool) -> Iterator[Piece]:
    def read(offset: int, length: int) -> bytes:
        fh = entry.open()  # anew: a stream that raised is where nobody knows
        fh.seek(offset)
        return fh.read(length)

    for offset, data in read_pieces(read, 0, size, _UNIT, lambda error: None):
        yield Piece(offset, data, proven)
