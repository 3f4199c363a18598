"""File names made from names that evidence gives: whatever these are, safe and unique on any system."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])", re.IGNORECASE)
"""Devices on Windows, with any suffix and in any folder."""
_MAX_BYTES = 80


def safe_stems(names: Iterable[str]) -> list[str]:
    """For each name of a disk a stem for file names, without a dot, so that ``STEM.raw`` and the like never collide."""
    return _unique(_safe(re.sub(r"\.vmdk$", "", name, flags=re.IGNORECASE), "-_") for name in names)


def safe_part(name: str) -> str:
    """A name that any system takes for a file or folder, dots kept inside; other names may become the same."""
    return _safe(name, "-_.").rstrip(".") or "_"


def safe_names(names: Iterable[str]) -> list[str]:
    """For each name one that any system takes for a file, dots kept inside, and no two alike but for their case."""
    return _unique(safe_part(name) for name in names)


def _unique(names: Iterable[str]) -> list[str]:
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        candidate = name
        number = 1
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{name}~{number}"
        taken.add(candidate.casefold())
        found.append(candidate)
    return found


def _safe(name: str, kept: str) -> str:
    name = unicodedata.normalize("NFC", name)
    name = "".join(char if char.isalnum() or char in kept else "_" for char in name)
    name = name.encode(errors="replace")[:_MAX_BYTES].decode(errors="ignore").lstrip("-.") or "disk"
    return f"_{name}" if _RESERVED.fullmatch(name.partition(".")[0]) else name
