"""The recycle bin of Windows: where a file was before it went there, and when.

Windows moves a deleted file to ``$Recycle.Bin/SID/$RXXXXXX.ext`` and writes ``$IXXXXXX.ext`` beside it: its version, the size
of the file, the time, and the path. Version 1 (Vista to 8.1) has 520 bytes of path, version 2 (Windows 10 on) says how many
characters. dissect.target reads the same in its ``recyclebin`` plugin, from live files.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.ntfs.filetime import filetime

if TYPE_CHECKING:
    from datetime import datetime

MAX_SIZE = 28 + 2 * 32768
"""Bytes of a ``$I`` file: the longest path that Windows has."""
INFORMATION_NAME = "$I".encode("utf-16-le")
"""How the name of a ``$I`` file begins, as NTFS keeps it."""
_HEAD = struct.Struct("<QqqI")
_FIRST_PATH = 520
_CONTENT = re.compile(r"(\$Recycle\.Bin/[^/]+)/\$R([^/:]+)([/:].+)?", re.IGNORECASE)
_INFORMATION = re.compile(r"(\$Recycle\.Bin/[^/]+)/\$I([^/]+)", re.IGNORECASE)


class Recycled(NamedTuple):
    """What a ``$I`` file says."""

    path: str
    """Where the file was, as Windows writes paths."""
    at: datetime | None
    """When it went to the recycle bin, by the guest's clock."""


class BinPlace(NamedTuple):
    """Which file, or folder, of the recycle bin something is about: :attr:`key` is the same of ``$R`` and its ``$I``."""

    key: str
    information: str
    """The path of the ``$I`` file."""
    inner: str
    """Where in a folder that was deleted as a whole, with a slash before it; or which stream, with a colon; or nothing."""


def content_place(path: str) -> BinPlace | None:
    """What a path from the root of a volume is in the recycle bin, if it is a ``$R``, or lies in one."""
    match = _CONTENT.fullmatch(path)
    if match is None:
        return None
    folder, name, inner = match.groups()
    return BinPlace(f"{folder}/{name}".lower(), f"{folder}/$I{name}", inner or "")


def information_key(path: str) -> str | None:
    """The key of a ``$I`` file; ``None`` where the path is none of one."""
    match = _INFORMATION.fullmatch(path)
    return "/".join(match.groups()).lower() if match is not None else None


def recycled(data: bytes) -> Recycled | None:
    """What a ``$I`` file says; ``None`` where it is none.

    Args:
        data: All of it.
    """
    if len(data) < _HEAD.size:
        return None
    version, _, at, characters = _HEAD.unpack_from(data)
    if version == 1:
        raw = data[_HEAD.size - 4 :][:_FIRST_PATH]
    elif version == 2 and 2 * characters <= len(data) - _HEAD.size:
        raw = data[_HEAD.size :][: 2 * characters]
    else:
        return None
    path = raw[: len(raw) // 2 * 2].decode("utf-16-le", "surrogatepass").partition("\0")[0]
    path = path.encode("utf-8", "backslashreplace").decode()
    return Recycled(path, filetime(at)) if path else None
