"""Which files evidence may name, and where they are: the law of containment, in one place.

Names in evidence are hostile: those of parents and extents in a descriptor, of disks in a ``.vmx`` or a snapshot list, and
whatever lies in a folder. On the analyst's own disk nothing is opened above the folders beside the VM's own, no link leads
out of there, no drive and no network name is ever asked. Inside an evidence file system (a ``TargetPath``) all of that file
system is evidence, and absolute names mean what they say.

:meth:`Folder.is_inside` decides, :meth:`Folder.open` opens, and :meth:`Folder.of` hands the same bound on to whatever was
found: a chain never widens what its links may name. Only what the user names starts anew.
"""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from dissect_sesparse.source.errors import FileError, Kind, short
from dissect_sesparse.source.file import MAX_DESCRIPTOR_SIZE, EvidenceFile, is_local
from dissect_sesparse.source.seen import MAX_ENTRIES, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import PurePath


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
        seen: What was read already, for who looks into the same folders again and again.
    """

    def __init__(self, path: Path, top: Path | None = None, seen: Seen | None = None):
        self.path = path
        self.local = is_local(path)
        self.real = self._real()
        # A VM folder right below the root has the whole machine for siblings.
        below_root = self.local and self.real.parent == self.real.parent.parent
        self.top = top or (self.real if below_root else self.real.parent)
        self.seen = seen if seen is not None else Seen()
        self._holds = self.local and self.real.is_relative_to(self.top)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and (self.path, self.top) == (other.path, other.top)

    def __hash__(self) -> int:
        return hash((self.path, self.top))

    def _real(self) -> Path:
        """The folder's own place, also where it was named relatively or by a link."""
        try:
            return self.path.resolve() if self.local else self.path
        except (OSError, RuntimeError):
            return self.path.absolute()

    def of(self, path: Path) -> Folder:
        """The folder of a file that was found from here: what it names has the same bound."""
        if is_local(path) != self.local:
            return Folder(path.parent)
        return Folder(path.parent, self.top, self.seen)

    def anew(self) -> Folder:
        """The same, with nothing read yet."""
        return Folder(self.path, self.top)

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
            if self._holds and path.parent == self.path and path.name not in ("", "..") and _is_no_link(path):
                return True
            return path.resolve().is_relative_to(self.top)
        except (OSError, RuntimeError, ValueError):
            return False

    def is_no_wider(self, path: Path) -> bool:
        """Whether what lies beside a file that was found here may name no more than what lies here."""
        if not self.local:
            return True
        try:
            return self.is_inside(path) and Folder(path.resolve().parent).top.is_relative_to(self.top)
        except (OSError, RuntimeError, ValueError):
            return False

    def open(self, path: Path) -> EvidenceFile:
        """Open a file that evidence names: nothing else does.

        Raises:
            FileError: If it lies outside, is missing, not regular or not readable, or was exchanged meanwhile.
        """
        if not self.is_inside(path):
            raise FileError("a file outside the evidence", file=path, expected=f"one in {self.top}", kind=Kind.OUTSIDE)
        file = EvidenceFile.open(path)
        # A link that was put there between the look and the opening led elsewhere.
        if not (self.is_inside(path) and file.is_still(path)):
            file.close()
            raise FileError("it was exchanged for another file while it was opened", file=path, kind=Kind.OUTSIDE)
        return file

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

    # Searching

    def identity(self, path: Path) -> str:
        """:func:`identity`, found out once."""
        if path not in self.seen.identities:
            self.seen.identities[path] = identity(path)
        return self.seen.identities[path]

    def files(self, suffix: str = ".vmdk") -> list[Path]:
        """The files of this folder that have ``suffix`` in their name and are no larger than a descriptor, sorted."""
        return self.files_and_problem(suffix)[0]

    def files_and_problem(self, suffix: str = ".vmdk") -> tuple[list[Path], str | None]:
        """The same, and why these are not all; ``None`` where they are."""
        key = (self.path, suffix)
        if key not in self.seen.files:
            named = [path for path in self.seen.entries(self.path)[0] if suffix in path.name.lower()]
            self.seen.files[key] = [path for path in named if is_small(path) and self.is_inside(path)]
        return self.seen.files[key], self.seen.entries(self.path)[1]

    def regular_files(self, prefix: str, suffix: str) -> list[Path]:
        """The files of this folder, of whatever size, whose names begin and end so (in lower case), sorted."""
        return [path for path in self.entries_named(prefix, suffix) if is_regular(path) and self.is_inside(path)]

    def entries_named(self, prefix: str, suffix: str) -> list[Path]:
        """What is in this folder, files or not, and has a name that begins and ends so (in lower case), sorted."""
        named = [path for path in self.seen.entries(self.path)[0] if path.name.lower().startswith(prefix)]
        return [path for path in named if path.name.lower().endswith(suffix)]

    def descriptors(self, problems: set[str] | None = None) -> Iterator[Path]:
        """The small ``.vmdk`` files of this folder, then of its sibling folders, sorted, of at most some thousand entries.

        Args:
            problems: Gets why these are not all, where they are not.
        """
        problems = problems if problems is not None else set()
        left = MAX_ENTRIES
        for folder in self._around(problems):
            entries, problem = self.seen.entries(folder.path)
            if problem is not None:
                problems.add(problem)
            kept = {path.name for path in entries[:left]}
            yield from (path for path in folder.files() if path.name in kept)
            left -= max(1, len(entries))
            if left < 0:
                problems.add(f"only {MAX_ENTRIES} entries of {self.path} and the folders beside it are looked at")
                return

    def _around(self, problems: set[str]) -> Iterator[Folder]:
        """This folder and its siblings."""
        yield self
        if not self.is_inside(self.real.parent):
            return
        siblings, problem = self.seen.entries(self.real.parent)
        if problem is not None:
            problems.add(problem)
        for sibling in siblings:
            if sibling.name != self.real.name and is_folder(sibling) and self.is_inside(sibling):
                yield Folder(sibling, self.top, self.seen)


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


def would_hang(path: Path) -> bool:
    """Whether a path is a FIFO or a socket: to open one may wait for ever."""
    try:
        mode = path.stat().st_mode
    except Exception:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def refuse_irregular(path: Path) -> None:
    """Refuse what is there and is neither a regular file nor a folder, before anything opens it: it may wait for ever.

    Raises:
        FileError: If it is a FIFO, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    except Exception:  # what is missing, or cannot be looked at, is for who opens it to say
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kind = next((name for name, test in _KINDS.items() if test(mode)), "no file")
        raise FileError(f"a {kind}, it is not opened", file=path, expected="a regular file or a folder")


_KINDS = {
    "FIFO": stat.S_ISFIFO,
    "socket": stat.S_ISSOCK,
    "block device": stat.S_ISBLK,
    "character device": stat.S_ISCHR,
}


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


def _is_no_link(path: Path) -> bool:
    """Whether something is there that is no link.

    Raises:
        ValueError: For a name that no system takes.
    """
    try:
        return not stat.S_ISLNK(path.lstat().st_mode)
    except OSError:
        return False


def _is_odd(part: str) -> bool:
    """A part that is more than a name on some system: a drive, a stream, a device, a control character."""
    return ":" in part or any(ord(char) < 32 for char in part)


def _listed(paths: list[Path]) -> str:
    return ", ".join(short(str(path), 500) for path in paths) or "a file in the descriptor's folder"
