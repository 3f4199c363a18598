"""Which files evidence may name, and where they are.

Names in descriptors are hostile. On the analyst's own disk nothing is opened above the folders beside the VM's own, no
link leads out of there, no drive and no network name is ever asked. Inside an evidence file system (a ``TargetPath``) all
of that file system is evidence, and absolute names mean what they say.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from dissect_sesparse.disk.descriptor import MAX_DESCRIPTOR_SIZE
from dissect_sesparse.disk.errors import FileError, Kind, short
from dissect_sesparse.disk.file import is_local

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import PurePath

MAX_ENTRIES = 10_000
"""Directory entries looked at in a search; a folder of evidence has some dozen."""


def name_parts(name: str) -> tuple[str, ...]:
    """The parts of a file name as VMware writes it, with either slash; the first is ``/`` where it is absolute."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if parts and (parts[0].startswith("/") or (len(parts[0]) == 2 and parts[0][1] == ":")):
        return ("/", *parts[1:])
    return parts


class Folder:
    """The folder that holds a descriptor or an extent.

    Args:
        path: The folder.
        top: The highest folder in which anything may be opened; by default the one that holds ``path`` and its siblings.
    """

    def __init__(self, path: Path, top: Path | None = None):
        self.path = path
        self.local = is_local(path)
        self.real = self._real()
        # A VM folder right below the root has the whole machine for siblings.
        below_root = self.local and self.real.parent == self.real.parent.parent
        self.top = top or (self.real if below_root else self.real.parent)

    def _real(self) -> Path:
        """The folder's own place, also where it was named relatively or by a link."""
        try:
            return self.path.resolve() if self.local else self.path
        except (OSError, RuntimeError):
            return self.path.absolute()

    def named(self, name: str) -> Path | None:
        """The file that a name means as it stands, or ``None`` where it may not be opened."""
        parts = name_parts(name)
        if not parts or (self.local and (parts[0] == "/" or any(_is_odd(part) for part in parts))):
            return None
        path = self.path.joinpath(*parts)
        return path if self.is_inside(path) else None

    def is_inside(self, path: Path) -> bool:
        """Whether a path stays below :attr:`top`, also where a link leads elsewhere."""
        if not self.local:
            return True
        try:
            return path.resolve().is_relative_to(self.top)
        except (OSError, RuntimeError, ValueError):
            return False

    def candidates(self, name: str) -> Iterator[tuple[str, Path]]:
        """Where the file of a name may be: as it stands, by its last part here, by its last folder beside this one.

        Yields:
            How it was found (``hint``, ``name``, ``folder``), and the path.
        """
        parts = name_parts(name)
        if (path := self.named(name)) is not None:
            yield "hint", path
        if not parts or parts[-1] in ("/", ".."):
            return
        if (path := self.named(parts[-1])) is not None:
            yield "name", path
        if (
            len(parts) > 1
            and parts[-2] not in ("/", "..")
            and (path := self.named(f"../{parts[-2]}/{parts[-1]}")) is not None
        ):
            yield "folder", path

    def find(self, name: str) -> Path:
        """The regular file that an extent line names.

        Raises:
            FileError: If there is none that may be opened.
        """
        tried = [path for how, path in self.candidates(name) if how != "folder"]
        for path in tried:
            if is_regular(path):
                return path
        if self.named(name) is None and not tried:
            problem = "a file outside the evidence"
            raise FileError(
                problem,
                file=self.path,
                field="name",
                value=name,
                expected="a file in this folder",
                kind=Kind.OUTSIDE,
            )
        kind, problem = Kind.MISSING, "the file is missing"
        if any(exists(path) for path in tried):
            kind, problem = Kind.IRREGULAR, "not a regular file"
        expected = f"one of {_listed(tried)}"
        raise FileError(problem, file=self.path, field="name", value=name, expected=expected, kind=kind)

    def files(self, suffix: str = ".vmdk") -> list[Path]:
        """The files of this folder that have ``suffix`` in their name and are no larger than a descriptor, sorted."""
        entries = _entries(self.path, MAX_ENTRIES)
        return [path for path in entries if suffix in path.name.lower() and is_small(path) and self.is_inside(path)]

    def descriptors(self) -> Iterator[Path]:
        """The ``.vmdk`` files of this folder, then of its sibling folders, sorted, at most some thousand."""
        left = MAX_ENTRIES
        entries = _entries(self.path, left)
        left -= len(entries)
        yield from (path for path in entries if _is_vmdk(path) and self.is_inside(path))
        if not self.is_inside(self.real.parent):
            return
        for sibling in _entries(self.real.parent, left):
            left -= 1
            if left <= 0:
                return
            if is_folder(sibling) and sibling.name != self.real.name and self.is_inside(sibling):
                entries = _entries(sibling, left)
                left -= len(entries)
                yield from (path for path in entries if _is_vmdk(path) and self.is_inside(path))


def is_regular(path: Path) -> bool:
    """``path.is_file()`` that never raises (names may be too long, or hold anything)."""
    try:
        return path.is_file()
    except Exception:
        return False


def is_small(path: Path) -> bool:
    """Whether a path is a regular file no larger than a descriptor may be."""
    try:
        return path.is_file() and path.stat().st_size <= MAX_DESCRIPTOR_SIZE
    except Exception:
        return False


def is_folder(path: Path) -> bool:
    """``path.is_dir()`` that never raises."""
    try:
        return path.is_dir()
    except Exception:
        return False


def exists(path: Path) -> bool:
    """``path.exists()`` that never raises."""
    try:
        return path.exists()
    except Exception:
        return False


def identity(path: PurePath | None) -> str:
    """What two paths have in common if they are one file."""
    try:
        return str(path.resolve()) if isinstance(path, Path) else str(path)
    except Exception:
        return str(path)


def same_file(a: Path, b: Path) -> bool:
    """Whether two paths are one file."""
    if is_local(a) != is_local(b):
        return False  # and paths of two kinds are not to be compared: some versions of dissect raise
    try:
        return a == b or a.resolve() == b.resolve()
    except Exception:
        return False


def _entries(path: Path, limit: int) -> list[Path]:
    entries = []
    try:
        for entry in path.iterdir():
            entries.append(entry)
            if len(entries) >= limit:
                break
    except Exception:  # unreadable, or no folder: then there is nothing to find in it
        return entries
    return sorted(entries)


def _is_vmdk(path: Path) -> bool:
    return ".vmdk" in path.name.lower()


def _is_odd(part: str) -> bool:
    """A part that is more than a name on some system: a drive, a stream, a device, a control character."""
    return ":" in part or any(ord(char) < 32 for char in part)


def _listed(paths: list[Path]) -> str:
    return ", ".join(short(str(path), 500) for path in paths) or "a file in the descriptor's folder"
