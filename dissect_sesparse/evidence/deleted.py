"""A file that the guest deleted: what names it, and those of its bytes that are surely its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from dissect_sesparse.disk.link import Link

CHUNK = 1 << 20
"""Bytes of a piece at the most."""


@dataclass(frozen=True)
class DeletedFile:
    """A deleted file. Sizes in bytes."""

    link: Link
    """Whose time or state names it: for ``mft`` the link in whose time it was deleted, for ``snapshot`` the newest link
    that has it."""
    volume: str
    """What dissect calls its volume."""
    path: str
    """From the root of its file system, with slashes."""
    size: int
    mtime: datetime | None
    btime: datetime | None
    inode: int | None
    """Of an NTFS file the number of its MFT record."""
    filesystem: str
    named_by: str
    """``mft``: a deleted record of the MFT; ``snapshot``: an older state of the disk, in which it is not deleted."""
    pieces: Callable[[], Iterator[tuple[int, bytes]]] = field(repr=False)
    """Makes an iterator over offset in the file and bytes, ascending, of all that is surely its own; what it leaves out is
    not there any more, or is another file's."""
    place: int | None = None
    """Where on the disk its volume starts; ``None`` where it is not one piece of the disk."""
    atime: datetime | None = None


class Recovered(NamedTuple):
    """What was recovered of a file."""

    size: int
    """Bytes."""
    digest: tuple[str, str, str] | None
    """MD5, SHA-1 and SHA-256 of those bytes, one behind the other; ``None`` where a file of some size has none."""
    state: str
    """``complete`` or ``partial``."""


def measure(file: DeletedFile, put: Callable[[int, bytes], None] | None = None) -> Recovered:
    """Count and hash what can be recovered of a file.

    Args:
        file: The file.
        put: Gets each offset in the file and its bytes.
    """
    hashes = [hashlib.md5(usedforsecurity=False), hashlib.sha1(usedforsecurity=False), hashlib.sha256()]
    size = 0
    for offset, data in file.pieces():
        size += len(data)
        for each in hashes:
            each.update(data)
        if put is not None:
            put(offset, data)
    md5, sha1, sha256 = (each.hexdigest() for each in hashes)
    digest = (md5, sha1, sha256) if size or not file.size else None
    return Recovered(size, digest, "complete" if size == file.size else "partial")


class Budget:
    """How many bytes are read at the most, so that a file system that says one thing a million times ends.

    Args:
        left: Bytes.
        warn: Gets a message, once, when there are none left.
    """

    def __init__(self, left: int, warn: Callable[[str], None]):
        self.left = left
        self._warn = warn

    def of(self, pieces: Iterator[tuple[int, bytes]], path: str) -> Iterator[tuple[int, bytes]]:
        """The pieces of a file, until there are no bytes left, or the file system trips over them: that is said."""
        try:
            for offset, data in pieces:
                if self.left < len(data):
                    if self.left >= 0:
                        self._warn(
                            "its deleted files claim more bytes than its disk ever had, the rest is not recovered"
                        )
                    self.left = -1
                    return
                self.left -= len(data)
                yield offset, data
        except Exception as e:  # what there is of it counts
            self._warn(f"{path}: not all of it is looked at: {e or type(e).__name__}")


def read_pieces(
    read: Callable[[int, int], bytes], start: int, end: int, unit: int, on_error: Callable[[Exception], None]
) -> Iterator[tuple[int, bytes]]:
    """Read a range of a file, and leave out what cannot be read.

    Args:
        read: Gets offset and size; raises where anything of that cannot be had.
        start: First byte.
        end: One past the last.
        unit: Bytes that are had together or not at all.
        on_error: Gets what was raised for a unit that is left out.
    """
    while start < end:
        size = min(CHUNK, end - start)
        try:
            data = read(start, size)
        except Exception as e:  # whatever a file system trips over
            if size <= unit:
                on_error(e)
            else:
                step = max(unit, size // 16 // unit * unit)
                for offset in range(start, start + size, step):
                    yield from read_pieces(read, offset, min(offset + step, start + size), unit, on_error)
        else:
            if data:
                yield start, data
            if len(data) < size:  # the file ends before it should
                return
        start += size
