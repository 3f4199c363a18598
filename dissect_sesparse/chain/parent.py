"""Which descriptor is a link's parent, and why.

A candidate counts when its CID is the child's ``parentCID``. In order: the hint as it stands; the hint's file name in the
child's folder; the hint's last folder beside the child's; any other descriptor in the folder; any in the sibling folders.
A file that matches by name only is taken when none matches by CID, and that is a finding. Never the child itself. Where a
hint names an extent, the descriptor that names that extent is meant.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dissect_sesparse.extent.c_vmdk import HOSTED_MAGIC
from dissect_sesparse.extent.hosted import embedded_descriptor, is_hosted
from dissect_sesparse.source.errors import DescriptorError, LoopError, ParentError, SESparseError
from dissect_sesparse.source.file import MAX_DESCRIPTOR_SIZE, EvidenceFile
from dissect_sesparse.source.folder import Folder, identity, is_regular, name_parts, same_file
from dissect_sesparse.vm.descriptor import (
    NO_PARENT,
    DiskDescriptor,
    looks_like_descriptor,
    parse_descriptor,
    read_descriptor,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path, PurePath


HEAD = 4096
"""Bytes by which a file that nobody names is judged: by then a descriptor has its first line, or an extent line."""


@dataclass(frozen=True)
class Candidate:
    """A file that may be the parent, and why it was or was not taken."""

    path: Path
    how: str
    """``hint``, ``name``, ``folder``, ``search`` or ``option``; ``extent`` for the descriptor of an extent that one names."""
    descriptor: DiskDescriptor | None = None
    why: str = ""
    """Why it does not count, or that it does, in words."""
    matches: bool = False
    """Whether its CID is the one that the child names."""
    is_child: bool = False
    """Whether it is the child itself."""

    def __str__(self) -> str:
        return f"{self.path} ({self.why})"


@dataclass(frozen=True)
class ParentSearch:
    """What a child says of its parent, and what was found."""

    child: DiskDescriptor | None
    """``None`` for an extent that was opened alone."""
    chosen: Candidate | None
    candidates: tuple[Candidate, ...] = field(default=())
    problems: tuple[str, ...] = ()
    """Why the search among all descriptors did not look at all that are there."""

    @property
    def cid_matches(self) -> bool:
        return self.chosen is not None and self.chosen.matches

    @property
    def relocated(self) -> bool:
        """Whether the parent was found elsewhere than the hint says."""
        return self.chosen is not None and self.chosen.how not in ("hint", "option")

    @property
    def is_named(self) -> bool:
        """Whether it is the parent that the user named."""
        return self.chosen is not None and self.chosen.how == "option"

    @property
    def is_doubtful(self) -> bool:
        """Whether the user named a parent that has another CID than the child wants."""
        return self.is_named and self.child is not None and not self.cid_matches

    @property
    def name_clashes(self) -> list[Candidate]:
        """Other files with the parent's name."""
        if self.chosen is None or self.child is None or not self.child.parent_hint:
            return []
        name = name_parts(self.child.parent_hint)[-1]
        return [
            candidate
            for candidate in self.candidates
            if candidate is not self.chosen and candidate.path.name == name and candidate.descriptor is not None
            and not same_file(candidate.path, self.chosen.path)
        ]  # fmt: skip


def find_parent(
    folder: Folder, child_path: Path, child: DiskDescriptor, above: Collection[Path | None] = ()
) -> ParentSearch:
    """Find the parent of a link.

    Args:
        folder: The child's folder.
        child_path: The child's descriptor.
        child: What it says.
        above: The links of the chain so far. A hint to one of them is a loop, but a search by CID passes them over: links
            that were never written to all have one CID.

    Returns:
        The search, with ``chosen`` ``None`` where there is no parent to be had.
    """
    candidates: list[Candidate] = []
    problems: set[str] = set()
    for how, path in folder.candidates(child.parent_hint or ""):
        if not is_regular(path) or _is_among(path, candidates):
            continue
        candidate = judge(how, path, folder, child_path, child)
        candidates.append(candidate)
        named_by = descriptor_of(path, folder) if candidate.descriptor is None else None
        if named_by is not None and not _is_among(named_by, candidates):
            candidates.append(judge("extent", named_by, folder, child_path, child))
    readable = [candidate for candidate in candidates if candidate.descriptor is not None]
    chosen = next((candidate for candidate in readable if candidate.matches), None)
    if chosen is None and child.parent_cid not in ("", NO_PARENT):
        known = {identity(path) for path in (child_path, *above, *(candidate.path for candidate in candidates))}
        found = list(_search(folder, child, known, problems))
        candidates += found
        matching = [candidate for candidate in found if candidate.matches]
        # A link that was never written to has its parent's CID, and its parent's bytes: better the one that was written.
        written = (c for c in matching if c.descriptor and c.descriptor.cid != c.descriptor.parent_cid)
        chosen = next(iter((*written, *matching)), None)
    return ParentSearch(child, chosen or next(iter(readable), None), tuple(candidates), tuple(sorted(problems)))


def _is_among(path: Path, candidates: list[Candidate]) -> bool:
    return any(same_file(path, seen.path) for seen in candidates)


def _search(folder: Folder, child: DiskDescriptor, known: set[str], problems: set[str]) -> Iterator[Candidate]:
    """The other descriptors in the folder and those beside it, each with whether it has the CID."""
    for path, descriptor in sweep(folder, folder.descriptors(problems), problems):
        if folder.identity(path) not in known:
            known.add(folder.identity(path))
            yield _compared(Candidate(path, "search", descriptor), child)


def judge(how: str, path: Path, folder: Folder, child_path: Path | None, child: DiskDescriptor | None) -> Candidate:
    """Read a candidate and say whether it counts as the parent of ``child`` (``None`` for an extent alone)."""
    candidate = Candidate(path, how)
    if child_path is not None and same_file(path, child_path):
        return replace(candidate, why="it is the child itself", is_child=True)
    try:
        candidate = replace(candidate, descriptor=descriptor_at(path, folder))
    except SESparseError as e:
        return replace(candidate, why=str(e))
    return _compared(candidate, child)


def _compared(candidate: Candidate, child: DiskDescriptor | None) -> Candidate:
    descriptor = candidate.descriptor
    if child is None or descriptor is None:
        return replace(candidate, why="the child has no descriptor to compare with")
    if not descriptor.has_cid(child.parent_cid):
        why = f"its CID is {descriptor.cid or 'not given'}, not {child.parent_cid or 'given by the child'}"
        return replace(candidate, why=why)
    return replace(candidate, why="its CID matches", matches=True)


# Reading descriptors


def sweep(
    folder: Folder, paths: Iterable[Path], problems: set[str] | None = None
) -> Iterator[tuple[Path, DiskDescriptor]]:
    """The descriptors among some files that nobody names: of all others only the first bytes are read.

    Args:
        folder: Where they were found.
        paths: The files.
        problems: Gets why not all were read, where they were not.
    """
    seen = folder.seen
    for path in paths:
        known = seen.descriptors.get(path)
        if known is None and path not in seen.others:
            known = _read_swept(folder, path, problems)
        if isinstance(known, DiskDescriptor):
            yield path, known


def _read_swept(folder: Folder, path: Path, problems: set[str] | None) -> DiskDescriptor | SESparseError | None:
    """A descriptor, why it cannot be read, or ``None`` for a file that is none by its first bytes or one too many."""
    seen = folder.seen
    try:
        file = folder.open(path)
    except SESparseError as e:
        seen.descriptors[path] = e
        return e
    try:
        head = file.read_some(0, HEAD)
        if not (head.startswith(HOSTED_MAGIC) or looks_like_descriptor(head)):
            seen.others.add(path)
            return None
        seen.left -= min(file.size, MAX_DESCRIPTOR_SIZE)
        if seen.left < 0:
            if problems is not None:
                problems.add(f"only {seen.budget} bytes of descriptors beside {folder.path} are read")
            return None
        seen.descriptors[path] = descriptor_in(file)
    except SESparseError as e:
        seen.descriptors[path] = e
    finally:
        file.close()
    return seen.descriptors[path]


def descriptor_in(file: EvidenceFile) -> DiskDescriptor:
    """Read the descriptor that a file is, or that a hosted sparse extent has inside.

    Raises:
        SESparseError: If there is none.
    """
    if not is_hosted(file):
        return read_descriptor(file)
    if (text := embedded_descriptor(file)) is None:
        problem = "a hosted sparse extent without a descriptor inside"
        raise DescriptorError(problem, file=file.label, advice="a piece of a disk? open the descriptor that names it")
    return replace(parse_descriptor(text, file.label), embedded=True)


def descriptor_at(path: Path, folder: Folder | None = None) -> DiskDescriptor:
    """Read the descriptor in the file at a path, see :func:`descriptor_in`.

    Args:
        path: The file.
        folder: From where evidence names it; without, it is the user who names it.

    Raises:
        SESparseError: If there is none.
    """
    if folder is None:
        return _read(EvidenceFile.open(path))
    known = folder.seen.descriptors
    if path not in known:
        try:
            known[path] = _read(folder.open(path))
        except SESparseError as e:
            known[path] = e
    found = known[path]
    if isinstance(found, SESparseError):
        raise found.with_traceback(None)
    return found


def _read(file: EvidenceFile) -> DiskDescriptor:
    try:
        return descriptor_in(file)
    finally:
        file.close()


def descriptor_of(extent: Path, folder: Folder | None = None) -> Path | None:
    """The descriptor in the same folder that names an extent, if there is one.

    Args:
        extent: The extent.
        folder: From where evidence names it; without, it is the user who names it.
    """
    folder = folder.of(extent) if folder is not None else Folder(extent.parent)
    likely = extent.parent / extent.name.replace("-sesparse", "").replace("-flat", "")
    if likely != extent and is_regular(likely) and _names(likely, extent, folder):
        return likely
    for path, descriptor in sweep(folder, folder.files()):
        if path != extent and any(_is_named(extent, line.filename, folder) for line in descriptor.extents):
            return path
    return None


def _names(path: Path, extent: Path, folder: Folder) -> bool:
    try:
        lines = descriptor_at(path, folder).extents
    except SESparseError:
        return False
    return any(_is_named(extent, line.filename, folder) for line in lines)


def _is_named(extent: Path, name: str | None, folder: Folder) -> bool:
    """Whether a name in a descriptor means an extent: another folder may have a file of that name."""
    if name is None or name_parts(name)[-1:] != (extent.name,):
        return False
    try:
        return same_file(folder.find(name), extent)
    except SESparseError:
        return False


def missing_parent(search: ParentSearch, link: PurePath | None, used_for: PurePath | None = None) -> ParentError:
    """The error for a parent that is not to be had: what was looked for, where, and what was found instead.

    Args:
        search: The search.
        link: Whose parent it is.
        used_for: The link under which the parent is that the user named, where it was used already.
    """
    looked_at = "; ".join([*search.problems, *map(str, search.candidates[:20])]) or "nothing"
    advice = "parent= names the parent of this one link, whichever link is opened"
    if used_for is not None:
        advice = f"parent= is the parent of {used_for.name}, which had none either: one can be named, not two"
    advice = f"{advice}; unreadable=zero opens the disk without it"
    child = search.child
    if child is None:
        problem = f"no descriptor names this extent, so its parent is unknown; beside it: {looked_at}"
        advice = f"{advice}; dissect-sesparse descriptor prints a descriptor for it"
        return ParentError(problem, file=link, expected="its descriptor in the same folder", advice=advice)
    # A hint may name a file of the child's own name elsewhere, which is missing: only as it stands it is a loop.
    kind = LoopError if any(c.is_child and c.how == "hint" for c in search.candidates) else ParentError
    problem = "the parent is missing" if kind is ParentError else "a loop: the link names itself as its parent"
    return kind(
        f"{problem}: parentCID {child.parent_cid or 'not given'}, found: {looked_at}",
        file=link,
        field="parentFileNameHint",
        value=child.parent_hint,
        expected="a descriptor with that CID in this folder or one beside it",
        advice=advice,
    )
