"""A file that the guest deleted: what names it, which of its bytes are there, and which of these are proven its own.

That nobody else claims a byte proves nothing: who wrote it last may be gone too. So each piece of a file is one of

- *proven*: there is positive evidence. A state of the disk has the file, and its file system says that these bytes are its
  own; or they are in the file's own record; or they are where such a state has them, and the link shows that nobody wrote
  there until the file was deleted.
- *likely*: they lie where the file was, and nothing that is known contradicts that they are its own.
- left out: they cannot be had, or are another file's, or something contradicts them.

From the pieces follows the state of the file:

- ``complete``: all of it is there and proven.
- ``likely``: all of it is there, and some is only likely. What is recovered is all of it.
- ``partial``: something is missing. What is recovered is what is proven, and nothing else; the basis says how much more is
  likely.
- ``none``: there is nothing of it, or nothing tells how long it was.

A file that was changed since the last state that has it may be two files here: as it was when it was deleted, which is then
likely at the best, and as that state has it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.files.story import NOTHING_LOGGED, Deletion, Event, Naming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from dissect_sesparse.chain.link import Link

CHUNK = 1 << 20
"""Bytes of a piece at the most."""
FILE_STATES: tuple[str, ...] = ("complete", "likely", "partial", "none")
"""How much of a file there is."""


class Piece(NamedTuple):
    """Some bytes of a file."""

    offset: int
    """In the file, in bytes."""
    data: bytes
    proven: bool
    """Whether there is positive evidence that they are its own; else they are likely its own."""


@dataclass(frozen=True)
class DeletedFile:
    """A deleted file. Sizes in bytes."""

    link: Link
    """Whose time or state names it: for a source that a state keeps of it, such as ``mft``, the link in whose time it was deleted, for ``snapshot`` the newest link
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
    naming: Naming
    """What names it, and how sure that is."""
    proof: str
    """What proves those of its bytes that are proven."""
    pieces: Callable[[], Iterator[Piece]] = field(repr=False)
    """Makes an iterator over what there is of it, by ascending offset, no two overlapping."""
    doubt: str = ""
    """Why the others are only likely."""
    known: bool = True
    """Whether its size is known. Of a file of no bytes nothing else would tell that it was empty."""
    lost: str = ""
    """Why there is nothing of it, where its record tells."""
    place: int | None = None
    """Where on the disk its volume starts; ``None`` where it is not one piece of the disk."""
    atime: datetime | None = None
    deletion: Deletion = NOTHING_LOGGED
    """When it was deleted."""
    original_path: str | None = None
    """Where it was before it went to the recycle bin, as that tells it."""
    story: tuple[Event, ...] = ()
    """What the guest logged of it, oldest first."""


class Recovered(NamedTuple):
    """What was recovered of a file."""

    size: int
    """Bytes. Of a file that is partial those that are proven."""
    digest: tuple[str, str, str] | None
    """MD5, SHA-1 and SHA-256 of those bytes, one behind the other; ``None`` where a file of some size has none."""
    state: str
    """One of :data:`FILE_STATES`."""
    basis: str
    """Why these bytes are its own."""
    likely: int
    """Bytes that are only likely its own."""


class _Hashes:
    """The three digests of some bytes, and how many these are."""

    def __init__(self) -> None:
        self.size = 0
        self._hashes = [hashlib.md5(usedforsecurity=False), hashlib.sha1(usedforsecurity=False), hashlib.sha256()]

    def update(self, data: bytes) -> None:
        self.size += len(data)
        for each in self._hashes:
            each.update(data)

    def copy(self) -> _Hashes:
        new = _Hashes()
        new.size, new._hashes = self.size, [each.copy() for each in self._hashes]
        return new

    @property
    def digest(self) -> tuple[str, str, str]:
        md5, sha1, sha256 = (each.hexdigest() for each in self._hashes)
        return md5, sha1, sha256


def measure(file: DeletedFile, put: Callable[[Piece], None] | None = None) -> Recovered:
    """Count and hash what can be recovered of a file.

    Args:
        file: The file.
        put: Gets each piece.
    """
    whole = proven = _Hashes()  # the same until something is only likely
    for piece in file.pieces():
        if piece.proven:
            if proven is not whole:
                proven.update(piece.data)
        elif proven is whole:
            proven = whole.copy()
        whole.update(piece.data)
        if put is not None:
            put(piece)
    state = _state(file, whole.size, proven.size)
    counted = whole if state in ("complete", "likely") else proven
    digest = counted.digest if counted.size or state == "complete" else None
    likely = whole.size - proven.size
    return Recovered(counted.size, digest, state, _basis(file, state, proven.size, likely), likely)


def _state(file: DeletedFile, size: int, proven: int) -> str:
    if not file.known or (file.size and not size):
        return "none"
    if size < file.size:
        return "partial"
    return "complete" if proven == size else "likely"


def _basis(file: DeletedFile, state: str, proven: int, likely: int) -> str:
    if state == "complete":
        return file.proof
    if state == "none":
        return "only its name is known" + (f": {file.lost}" if file.lost else "")
    parts = [f"{proven} bytes are proven: {file.proof}"] if proven else []
    if likely:
        parts.append(f"{likely} bytes are only likely: {file.doubt}")
    if state == "partial":
        parts.append(f"{file.size - proven - likely} bytes are not there, or are not its own any more")
    return "; ".join(parts)


class Budget:
    """How many bytes are read at the most, so that a file system that says one thing a million times ends.

    Args:
        left: Bytes.
        warn: Gets a message, once, when there are none left.
    """

    def __init__(self, left: int, warn: Callable[[str], None]):
        self.left = left
        self._warn = warn

    def of(self, pieces: Iterator[Piece], path: str) -> Iterator[Piece]:
        """The pieces of a file, until there are no bytes left, or the file system trips over them: that is said."""
        try:
            for piece in pieces:
                if self.left < len(piece.data):
                    if self.left >= 0:
                        self._warn(
                            "its deleted files claim more bytes than its disk ever had, the rest is not recovered"
                        )
                    self.left = -1
                    return
                self.left -= len(piece.data)
                yield piece
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
