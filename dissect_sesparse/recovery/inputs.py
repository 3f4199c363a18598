"""The files that a recovery reads: which they are, and that they stay as they are."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from dissect_sesparse.chain.hashing import Holes, digests, sha256_of_blocks
from dissect_sesparse.source.errors import FileError, SESparseError
from dissect_sesparse.source.file import EvidenceFile, is_local
from dissect_sesparse.source.folder import identity, is_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dissect_sesparse.chain.chain import Chain

VM_FILES = (".vmx", ".vmtx", ".vmdk")
"""Ends of the names of files that lie in a VM's folder, which is evidence as a whole."""


@dataclass(frozen=True)
class InputFile:
    """A file of evidence as it was when it was looked at."""

    path: PurePath | str
    size: int
    mtime_ns: int | None
    """When it was last changed, in nanoseconds since 1970; ``None`` where that is not told."""
    sha256: str | None = None
    """Of the whole file; ``None`` where it was not hashed, or has too many holes, see ``hashing``."""
    sha256_blocks: str | None = None
    """Of the list of its blocks, where it has too many holes: no digest of the file."""
    md5: str | None = None
    sha1: str | None = None
    alone: bool = field(default=False, compare=False)
    """Whether it is evidence by itself, such as an archive: what lies beside it is none."""

    @property
    def key(self) -> tuple[str, int, int | None]:
        """What tells that it is the same file, unchanged, without reading it."""
        return name_of(self.path) or "", self.size, self.mtime_ns

    def as_json(self) -> dict[str, Any]:
        """For the report: with the time as text."""
        when = None if self.mtime_ns is None else datetime.fromtimestamp(self.mtime_ns / 1e9, timezone.utc).isoformat()
        fields = {**asdict(replace(self, path=self.key[0])), "mtime": when}  # a path inside evidence cannot be copied
        for name in ("alone", *(each for each in ("md5", "sha1") if fields[each] is None)):
            del fields[name]
        return fields


def name_of(path: PurePath | str | None) -> str | None:
    """How a file is called in what is written: by the one path it has, from wherever the command was run."""
    return identity(path) if isinstance(path, Path) else None if path is None else str(path)


def look_at(path: PurePath | str, file: EvidenceFile | None = None) -> InputFile:
    """A file's size and time.

    Raises:
        SESparseError: If it cannot be opened.
    """
    mtime = None
    if isinstance(path, Path):
        try:
            mtime = path.stat().st_mtime_ns
        except Exception:  # a path inside evidence: whatever its file system trips over
            mtime = None
    if file is not None and not is_local(path):  # type: ignore[arg-type]
        return InputFile(path, file.size, mtime)
    opened = EvidenceFile.open(path)  # type: ignore[arg-type]
    try:
        return InputFile(path, opened.size, mtime)
    finally:
        opened.close()


def input_files(chains: Iterable[Chain], others: Iterable[Path] = ()) -> list[tuple[InputFile, EvidenceFile | None]]:
    """All files of some disks, each once: other files first, then descriptors and extents. With what is open of them."""
    found: dict[str, tuple[InputFile, EvidenceFile | None]] = {}
    for path, file in _files(chains, others):
        name = name_of(path) or ""
        if name not in found:
            found[name] = (look_at(path, file), file)
    loose = {name_of(path) or "" for path, _ in _files(chains, ())}
    return [
        (replace(looked, alone=name not in loose and not _is_of_a_folder(looked.path)), file)
        for name, (looked, file) in found.items()
    ]


def _is_of_a_folder(path: PurePath | str) -> bool:
    """Whether a file is part of a VM's folder by its name; else what was opened holds all of the evidence in itself."""
    name = path.name.lower() if isinstance(path, PurePath) else ""
    return name.endswith(VM_FILES) or ".vmsd" in name


def _files(chains: Iterable[Chain], others: Iterable[Path]) -> Iterator[tuple[PurePath | str, EvidenceFile | None]]:
    for path in others:
        if is_regular(path):
            yield path, None
    for chain in chains:
        for link in chain.links:
            if link.path is not None and link.descriptor is not None:
                yield link.path, None
            for placed in link.extents:
                if (file := placed.extent.file) is not None:
                    yield file.label, file


def hashed(
    file: InputFile,
    opened: EvidenceFile | None,
    progress: Callable[[int], None],
    names: tuple[str, ...] = ("sha256",),
) -> InputFile:
    """The same with its SHA-256, or with that of its blocks where it is far larger than what it holds (see ``hashing``).

    Args:
        file: The file.
        opened: What is open of it; it is opened where nothing is.
        progress: Gets the number of bytes done, again and again.
        names: Of the digests, of ``sha256``, ``sha1`` and ``md5``.

    Raises:
        SESparseError: If it cannot be read to its end, or has another size than before.
    """
    source = opened if opened is not None else EvidenceFile.open(file.path)  # type: ignore[arg-type]
    try:
        if source.size != file.size:
            raise FileError(f"it has {source.size} bytes, and had {file.size} before", file=source.label)
        holes = Holes(source)
        if holes.are_few:
            return replace(file, **dict(zip(names, digests(holes, names, progress))))
        return replace(file, sha256_blocks=sha256_of_blocks(holes, progress))
    finally:
        if opened is None:
            source.close()


def changed(files: Iterable[tuple[InputFile, EvidenceFile | None]]) -> list[str]:
    """The files that are not any more what they were."""
    names = []
    for file, opened in files:
        try:
            same = look_at(file.path, opened).key == file.key
        except SESparseError:
            same = False
        if not same:
            names.append(file.key[0])
    return names


def folders_of(files: Iterable[InputFile]) -> list[Path]:
    """Where on the analyst's disk nothing may be written: the folders that hold evidence, and archives, each by itself."""
    local = [file for file in files if isinstance(file.path, Path) and is_local(file.path)]
    paths = [(Path(file.path).absolute(), file.alone) for file in local]
    return sorted({path if alone else path.parent for path, alone in paths})
