"""What is kept of a file of a state: what tells whether it was changed, and how to open it again. Nothing of dissect's objects."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

    from dissect_sesparse.files.walk import Number

MAX_INSIDE = 65536
"""Bytes of a file within its record or inode: as large as these may be."""
_CONTENT = b"="


def digest_of_place(*what: object) -> bytes:
    """A digest of where a file lies: whoever makes evidence cannot give two files that lie elsewhere the same."""
    return blake2b(repr(what).encode(), digest_size=16).digest()


def digest_of_content(data: bytes) -> bytes:
    """A digest of all bytes of a file that lies in its record or inode, not to be mistaken for one of a place."""
    return _CONTENT + blake2b(data, digest_size=16).digest()


class Handle(NamedTuple):
    """A file of which only its number and what it is the same by are known."""

    number: int
    key: Hashable


class FileRow(NamedTuple):
    """What is kept of a file."""

    key: Hashable
    """What it is the same by in all states; ``None`` where nothing tells that."""
    number: Number
    """See ``walk.number_of``."""
    size: int
    """Bytes; what the file system says, whatever that is."""
    mtime: int | None
    """Nanoseconds since 1970."""
    btime: int | None
    lies: bytes | None
    """A digest of where on the disk it lies, and how much of it was ever written, or, behind :data:`_CONTENT`, of the content of one
    that lies in its record or inode; ``None`` where dissect does not tell."""
    changed: int | None
    """Bytes of its clusters that lie in the ranges that were asked for; ``None`` where that is not known."""

    @property
    def stream(self) -> str | None:
        """The name of its stream on NTFS, empty for the file's own; ``None`` where that is not known, or there are none."""
        return self.key[1] if isinstance(self.key, tuple) else None

    @property
    def inode(self) -> int | None:
        return (self.number if isinstance(self.number, int) else self.number[1]) or None

    def is_untouched_since(self, older: FileRow) -> bool:
        """Whether it surely has the bytes of an older state, if the ranges are those that were changed since."""
        if self.lies is None or self.lies != older.lies or self.size != older.size:
            return False
        return self.lies[:1] == _CONTENT or self.changed == 0
