"""What lies beside a disk, would count, and could not be read.

A snapshot list, a configuration or a descriptor that cannot be read looks, to all who go by it, like one that is not there:
no snapshots, no times, no orphans, no other candidate for a parent. So each is told (``snapshot-list-unreadable``,
``unreadable``): *found nothing* and *could not look* are never the same. Unreadable is what the system or the evidence's
file system refuses, what is no regular file (never opened: a FIFO would block for ever), what a link leads out of the
evidence, what is larger than any such file, and what holds no text of its kind.

Not looked at, since nothing is concluded from them: change tracking files, ``.vmxf``, ``.nvram`` and all else beside a disk.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.chain.link import SESPARSE_MAGIC
from dissect_sesparse.chain.parent import descriptor_in
from dissect_sesparse.extent.c_vmdk import COWD_MAGIC, HOSTED_MAGIC
from dissect_sesparse.repair.rebuild import LOG_NAME
from dissect_sesparse.source.errors import FileError, Kind, SESparseError, short
from dissect_sesparse.source.file import MAX_DESCRIPTOR_SIZE
from dissect_sesparse.source.folder import MAX_ENTRIES, Folder, identity, name_parts
from dissect_sesparse.vm.descriptor import looks_like_descriptor
from dissect_sesparse.vm.snapshots import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.source.file import EvidenceFile
    from dissect_sesparse.vm.descriptor import DiskDescriptor

MAX_FILES = 1000
"""Files of a folder that are tried."""
MAX_LISTED = 100
"""Findings of a folder that are listed; beyond, one more says how many there are."""
_HEAD = 4096
_MAGICS = (SESPARSE_MAGIC, HOSTED_MAGIC, COWD_MAGIC)
_NO_DESCRIPTOR = re.compile(r"-(flat|sesparse|delta|ctk|rdmp?|digest|[sf]\d{3,6})\.vmdk$")
"""By their names, these hold a disk's bytes or blocks."""
_VALUE = re.compile(rb"^[ \t]*[\w.:]+[ \t]*=", re.MULTILINE)
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")


class Unread(NamedTuple):
    """A file or folder that could not be read. ``depth`` is that of the newest link in its folder."""

    code: str
    level: str
    message: str
    depth: int
    source: Path


def unread(chain: Chain) -> Iterator[Unread]:
    """All that could not be read in the folders of a disk's links, newest link's first."""
    seen: set[str] = set()
    own = {identity(link.path) for link in chain.links}
    named = {part for link in chain.links if link.descriptor is not None for part in _names_in(link.descriptor)}
    for link in chain.links:
        folder = link.folder
        if folder is None or identity(folder.path) in seen:
            continue
        seen.add(identity(folder.path))
        yield from _Looked(folder, link.depth, own, named, logs=chain.options.salvage).findings()


def unread_lists(folder: Folder) -> list[Unread]:
    """The snapshot lists of a folder that could not be read; and the folder, where it could not be listed."""
    look = _Looked(folder, 0, set(), set(), logs=False)
    entries, problem = list_folder(folder.path)
    lists = [path for path in entries if ".vmsd" in path.name.lower()][:MAX_FILES]
    return [*look.listing(problem), *look.files(lists)]


def unread_beside(path: Path) -> list[Unread]:
    """What could not be read in the folder of a file, that file aside."""
    return list(_Looked(Folder(path.parent), 0, {identity(path)}, {path.name}, logs=False).findings())


class _Looked:
    """A look at all that counts in a folder."""

    def __init__(self, folder: Folder, depth: int, own: set[str], named: set[str], *, logs: bool):
        self.folder = folder
        self.depth = depth
        self.own = own
        """The links of the disk, which were read already."""
        self.logs = logs
        """Whether the host's logs count: only for a header that is to be rebuilt."""
        self._named = set(named)
        """What the descriptors, of the disk and of the folder, name as extents."""

    def findings(self) -> Iterator[Unread]:
        entries, problem = list_folder(self.folder.path)
        yield from self.listing(problem)
        counts = [path for path in entries if self._counts(path)]
        count = 0
        for finding in self.files(counts[:MAX_FILES]):
            count += 1
            if count <= MAX_LISTED:
                yield finding
        if count > MAX_LISTED:
            message = f"{count - MAX_LISTED} more files in {self.folder.path} cannot be read, not listed"
            yield Unread("unreadable", "warning", message, self.depth, self.folder.path)
        if len(counts) > MAX_FILES:
            message = f"{len(counts) - MAX_FILES} more files in {self.folder.path} were not looked at"
            yield Unread("search-cut-off", "warning", message, self.depth, self.folder.path)

    def listing(self, problem: SESparseError | None) -> Iterator[Unread]:
        """What kept the folder from being listed."""
        if problem is not None:
            message = short(f"what lies beside the disk is not known: {problem}", 2000)
            yield Unread("unreadable", "warning", message, self.depth, self.folder.path)

    def _counts(self, path: Path) -> bool:
        name = path.name.lower()
        is_log = self.logs and name.startswith(LOG_NAME) and name.endswith(".log")
        return is_log or ".vmsd" in name or name.endswith((".vmx", ".vmdk"))

    def files(self, paths: list[Path]) -> Iterator[Unread]:
        """Those of some files that cannot be read."""
        doubtful = []
        for path in paths:
            name = path.name.lower()
            try:
                if ".vmsd" in name:
                    self._text(path)
                elif name.endswith(".vmdk"):
                    if identity(path) not in self.own and not self._disk(path):
                        doubtful.append(path)
                else:
                    self._text(path) if name.endswith(".vmx") else self._head(path)
            except SESparseError as e:
                yield self._of(path, e)
        for path in doubtful:  # when all names are known
            if path.name not in self._named:
                problem = "by its name a descriptor, and it is none: emptied, encrypted or overwritten?"
                yield self._of(path, FileError(problem, file=path, kind=Kind.INVALID))

    def _of(self, path: Path, error: SESparseError) -> Unread:
        name, problem = path.name.lower(), short(str(error), 2000)
        if name.endswith(".vmsd"):
            message = f"{problem}; which snapshots there are, and when they were taken, is not known from this list"
            return Unread("snapshot-list-unreadable", "warning", message, self.depth, path)
        if ".vmsd" in name:
            message = f"a copy of a snapshot list: {problem}"
            return Unread("snapshot-list-unreadable", "info", message, self.depth, path)
        message = f"it lies beside the disk, and it counts: {problem}"
        return Unread("unreadable", "warning", message, self.depth, path)

    # Each raises where a file cannot be read

    def _open(self, path: Path) -> EvidenceFile:
        if not self.folder.is_inside(path):
            raise FileError("a link that leads out of the evidence, not followed", file=path, kind=Kind.OUTSIDE)
        return self.folder.open(path)

    def _head(self, path: Path) -> bytes:
        file = self._open(path)
        try:
            return file.read_some(0, _HEAD)
        finally:
            file.close()

    def _text(self, path: Path) -> None:
        """A text of VMware's: lines of names and values. One that is empty says nothing, and is whole."""
        file = self._open(path)
        try:
            if file.size > MAX_SIZE:
                expected = f"at most {MAX_SIZE} bytes"
                raise FileError(f"{file.size} bytes", file=path, expected=expected, kind=Kind.TOO_LARGE)
            data = file.read(0, file.size)
        finally:
            file.close()
        if _NO_TEXT.search(data.rstrip(b"\x00") or data) or (data.strip() and not _VALUE.search(data)):
            problem = "it holds no text of its kind: encrypted or overwritten?"
            raise FileError(problem, file=path, expected='lines such as: name = "value"', kind=Kind.INVALID)

    def _disk(self, path: Path) -> bool:
        """Whether a ``.vmdk`` is what its name says: a descriptor that can be read, or bytes of a disk."""
        file = self._open(path)
        try:
            head = file.read_some(0, _HEAD)
            if looks_like_descriptor(head):
                self._named |= _names_in(descriptor_in(file))
                return True
            by_name = file.size <= MAX_DESCRIPTOR_SIZE and not _NO_DESCRIPTOR.search(path.name.lower())
            return head.startswith(_MAGICS) or not by_name
        finally:
            file.close()


def _names_in(descriptor: DiskDescriptor) -> set[str]:
    """The file names of the extents that a descriptor names."""
    return {part for line in descriptor.extents for part in name_parts(line.filename or "")[-1:]}


def list_folder(path: Path) -> tuple[list[Path], SESparseError | None]:
    """The entries of a folder, sorted, as far as they can be had; and why these are not all."""
    entries: list[Path] = []
    try:
        for entry in path.iterdir():
            if len(entries) == MAX_ENTRIES:
                problem = f"only {MAX_ENTRIES} entries of the folder are looked at"
                return sorted(entries), FileError(problem, file=path, kind=Kind.TOO_LARGE)
            entries.append(entry)
    except Exception as e:  # a folder inside evidence: whatever its file system trips over
        return sorted(entries), FileError(f"the folder cannot be listed: {e}", file=path, kind=Kind.FAILED)
    return sorted(entries), None
