"""File names made from names that evidence gives: whatever these are, safe and unique on any system.

What they are made of, so that names of our own beside them can be such as none of theirs becomes: letters and digits, ``-``,
``_`` and, within, dots. ``~`` is only ever before the number of one that would be the same as another. None ends with
``.partial``, in whatever case.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

from dissect_sesparse.recovery.writing import PARTIAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9])", re.IGNORECASE)
"""Devices on Windows, with any suffix and in any folder; also with superscript digits, which are these to :func:`name_key`."""
_MAX_BYTES = 80
_MAX_FOLDERS = 2
"""In a name: more of them make it longer than systems like."""
_MAX_PATH = 180
"""UTF-16 units of a path below the volume's folder: Windows takes 260 in all, unless told otherwise."""
_LONG = "too~long"
"""The folder, in that of a volume, for what has a longer path."""
_IGNORED = "\u115f\u1160\u3164\uffa0"
"""Letters that show nothing, and that some file systems leave out when they compare names."""


def name_key(name: str) -> str:
    """What names have in common that any file system takes for the same, whatever it knows of case and of forms of Unicode."""
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).upper().casefold())


def safe_stems(names: Iterable[str]) -> list[str]:
    """For each name of a disk a stem for file names, without a dot, so that ``STEM.raw`` and the like never collide."""
    return _unique(_safe(re.sub(r"\.vmdk$", "", name, flags=re.IGNORECASE), "-_") for name in names)


def safe_part(name: str) -> str:
    """A name that any system takes for a file or folder, dots kept inside; other names may become the same."""
    name = _safe(name, "-_.").rstrip(".") or "_"
    return f"{name}_" if name_key(name).endswith(PARTIAL) else name


def safe_names(names: Iterable[str]) -> list[str]:
    """For each name one that any system takes for a file, dots kept inside, and no two alike for any file system."""
    return _unique(safe_part(name) for name in names)


def numbered(name: str, number: int) -> str:
    """Another name for the second and each further file that would have the same."""
    if number < 2:
        return name
    # Windows gives files with longer names a short one like ABCDEF~2: never one with a zero there.
    return f"{name}~0{number}" if len(name) <= 6 and "." not in name else f"{name}~{number}"


def distinct_names(paths: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """For each path a stem for file names: its last part without suffix, with as many folders before it as it needs.

    Args:
        paths: With ``/`` between their parts.
        taken: Stems that are in use already.
    """
    parts = [[part for part in path.split("/") if part.strip(". ")] or ["disk"] for path in paths]
    stems = [_stem_of(names, 0) for names in parts]
    used = {name_key(name) for name in taken}
    found = list(stems)
    for depth in range(1, _MAX_FOLDERS + 1):
        counts = Counter(name_key(name) for name in found)
        clash = [number for number, name in enumerate(found) if counts[name_key(name)] > 1 or name_key(name) in used]
        for number in clash:
            found[number] = _stem_of(parts[number], depth)
    return _unique(found, used)


def _stem_of(parts: list[str], folders: int) -> str:
    *above, last = parts
    before = [safe_part(part) for part in above[len(above) - min(folders, len(above)) :]]
    return "-".join([*before, _safe(last.rpartition(".")[0] or last, "-_")])


def _unique(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    found: list[str] = []
    taken = set(taken)
    for name in names:
        number = 1
        while name_key(numbered(name, number)) in taken:
            number += 1
        found.append(numbered(name, number))
        taken.add(name_key(found[-1]))
    return found


def _safe(name: str, kept: str) -> str:
    name = unicodedata.normalize("NFC", name)
    name = "".join(char if (char.isalnum() or char in kept) and char not in _IGNORED else "_" for char in name)
    name = name.encode(errors="replace")[:_MAX_BYTES].decode(errors="ignore").lstrip("-.") or "disk"
    return f"_{name}" if _RESERVED.fullmatch(name_key(name).partition(".")[0]) else name


class SafePaths:
    """A path for each path of the evidence: safe on any system, and no two alike on any file system.

    Files that have one path get one each. What lies in one folder stays together, and no two folders become one.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}
        self._folders: dict[tuple[str, str], str] = {}
        """By the safe path above it and its own name in the evidence."""

    def of(self, *parts: str) -> tuple[str, ...]:
        """The parts of a path that no other file has: of a disk, a volume, and the path in it."""
        safe = [safe_part(part) for part in parts]
        folders = list(zip(parts[:-1], safe))
        if sum(len(part.encode("utf-16-le")) // 2 + 1 for part in safe[2:]) > _MAX_PATH:
            digest = hashlib.sha256("/".join(parts[2:]).encode("utf-8", "backslashreplace")).hexdigest()[:16]
            folders = [*folders[:2], ("/", _LONG), (digest, digest)]  # no name in a path is "/"
        path: list[str] = []
        for name, part in folders:
            above = "/".join(path)
            if (above, name) not in self._folders:
                self._folders[above, name] = self._free(above, part)
            path.append(self._folders[above, name])
        return (*path, self._free("/".join(path), safe[-1]))

    def inside(self, parts: Sequence[str], name: str) -> tuple[str, ...]:
        """The parts of a path of our own file in a folder that stands for a file of the evidence.

        Args:
            parts: As for :meth:`of`. The same ones lead to the same folder.
            name: Of our own file, which no other in it has. Where it starts with ``~`` no name of the evidence becomes the same.
        """
        *folder, _ = self.of(*parts, name)
        return (*folder, name)

    def _free(self, folder: str, part: str) -> str:
        """A name in a folder that nothing has yet."""
        key = name_key(f"{folder}/{part}")
        number = self._next.get(key, 1)
        while (path := name_key(f"{folder}/{numbered(part, number)}")) in self._taken:
            number += 1
        self._next[key] = number + 1
        self._taken.add(path)
        return numbered(part, number)
