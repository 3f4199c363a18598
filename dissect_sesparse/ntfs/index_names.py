"""Names that the blocks of an NTFS folder's index still have behind their last entry, or in a block that is not in use.

An entry that is removed is overwritten by those behind it, and what was at the end stays; a block whose upper half went to a
new one keeps its copy of that. Each entry has the reference of the folder that it is in, with the sequence number of that: an
entry is only believed where that is the folder whose block it is. So a cluster that was another folder's before names nothing.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from dissect.ntfs.util import apply_fixup

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENTRY = struct.Struct("<QHHHH")
"""INDEX_ENTRY: reference of the file, length, length of its key, flags (Linux, fs/ntfs3/ntfs.h, ``NTFS_DE``)."""
_NAME = struct.Struct("<QqqqqqqIIBB")
"""FILE_NAME: folder, made, written, changed, read, bytes allocated, bytes, attributes, more, characters, kind (the same)."""
_IN_FOLDER = 0x10000000
"""Attribute of a name: it is a folder's."""
_DOS = 2
"""Kind of a name: the short one beside the long one."""
_HEADER = 24
"""Where in a block the header of its entries starts: offset of the first, bytes used, bytes there are."""


class IndexName(NamedTuple):
    """A name of a file that an index has. Times in 100 nanoseconds since 1601, sizes in bytes."""

    reference: int
    """Of the file: number of its MFT record, and in the upper 16 bits its sequence number."""
    parent: int
    """The same of its folder."""
    name: str
    made: int
    written: int
    read: int
    size: int
    folder: bool


def names_in(data: bytes, parent: int, start: int = 0) -> Iterator[IndexName]:
    """All entries that some bytes have of a folder's index.

    Args:
        data: The bytes.
        parent: The reference of the folder.
        start: Where to begin.
    """
    wanted = parent.to_bytes(8, "little")
    at = data.find(wanted, start + _ENTRY.size)
    while at >= 0:
        if at % 8 == 0 and (name := _name(data, at)) is not None:
            yield name
        at = data.find(wanted, at + 1)


def _name(data: bytes, at: int) -> IndexName | None:
    """The entry whose key starts at an offset; ``None`` where it is none, or a short name."""
    if at + _NAME.size > len(data):
        return None
    reference, length, key, _, _ = _ENTRY.unpack_from(data, at - _ENTRY.size)
    parent, made, written, _, read, allocated, size, attributes, _, characters, kind = _NAME.unpack_from(data, at)
    end = at + _NAME.size + 2 * characters
    sound = (
        reference and characters and kind <= 3 and key == end - at and length >= _ENTRY.size + key and end <= len(data)
    )
    if not sound or kind == _DOS or min(allocated, size) < 0:
        return None
    name = data[at + _NAME.size : end].decode("utf-16-le", "surrogatepass")
    return IndexName(reference, parent, name, made, written, read, size, bool(attributes & _IN_FOLDER))


def unused_part(block: bytes, *, in_use: bool) -> tuple[bytes, int]:
    """A block of an index as it was written, and where what is not in use of it starts; nothing where it is none.

    Args:
        block: Its bytes as they lie on the disk.
        in_use: Whether the index has the block in use.
    """
    if block[:4] != b"INDX" or len(block) < 512:
        return b"", 0
    try:
        data = apply_fixup(block)
    except ValueError:  # its sectors are of several writes
        return b"", 0
    first, used = struct.unpack_from("<II", data, _HEADER)
    return data, min(_HEADER + (used if in_use else first), len(data))
