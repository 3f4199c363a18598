"""Which descriptor is a link's parent, and why.

A candidate counts when its CID is the child's ``parentCID``. In order: the hint as it stands; the hint's file name in the
child's folder; the hint's last folder beside the child's; any other descriptor in the folder; any in the sibling folders.
A file that matches by name only is taken when none matches by CID, and that is a finding. Never the child itself. Where a
hint names an extent, the descriptor that names that extent is meant.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dissect_sesparse.disk.descriptor import NO_PARENT, DiskDescriptor, parse_descriptor, read_descriptor
from dissect_sesparse.disk.errors import DescriptorError, LoopError, ParentError, SESparseError
from dissect_sesparse.disk.file import EvidenceFile
from dissect_sesparse.disk.folder import Folder, identity, is_regular, is_small, name_parts, same_file
from dissect_sesparse.disk.hosted import embedded_descriptor, is_hosted

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path, PurePath


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

    @property
    def cid_matches(self) -> bool:
        return self.chosen is not None and self.chosen.matches

    @property
    def relocated(self) -> bool:
        """Whether the parent was found elsewhere than the hint says."""
        return self.chosen is not None and self.chosen.how not in ("hint", "option")

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
    for how, path in folder.candidates(child.parent_hint or ""):
        if not is_regular(path) or _is_among(path, candidates):
            continue
        candidate = judge(how, path, child_path, child)
        candidates.append(candidate)
        named_by = descriptor_of(path) if candidate.descriptor is None else None
        if named_by is not None and folder.is_inside(named_by) and not _is_among(named_by, candidates):
            candidates.append(judge("extent", named_by, child_path, child))
    readable = [candidate for candidate in candidates if candidate.descriptor is not None]
    chosen = next((candidate for candidate in readable if candidate.matches), None)
    if chosen is None and child.parent_cid not in ("", NO_PARENT):
        chosen = _search(folder, child_path, child, candidates, above)
    return ParentSearch(child, chosen or next(iter(readable), None), tuple(candidates))


def _is_among(path: Path, candidates: list[Candidate]) -> bool:
    return any(same_file(path, seen.path) for seen in candidates)


def _search(
    folder: Folder,
    child_path: Path,
    child: DiskDescriptor,
    candidates: list[Candidate],
    above: Collection[PurePath | None],
) -> Candidate | None:
    """Look for the CID among all other descriptors, and add what was looked at to ``candidates``."""
    matching = []
    known = {identity(path) for path in (*above, *(candidate.path for candidate in candidates))}
    for path in folder.descriptors():
        if not is_small(path) or identity(path) in known:
            continue
        known.add(identity(path))
        candidate = judge("search", path, child_path, child)
        if candidate.descriptor is not None:
            candidates.append(candidate)
            if candidate.matches:
                matching.append(candidate)
    # A link that was never written to has its parent's CID, and its parent's bytes: better the one that was written.
    return next((c for c in matching if c.descriptor and c.descriptor.cid != c.descriptor.parent_cid), None) or next(
        iter(matching), None
    )


def judge(how: str, path: Path, child_path: Path | None, child: DiskDescriptor | None) -> Candidate:
    """Read a candidate and say whether it counts as the parent of ``child`` (``None`` for an extent alone)."""
    candidate = Candidate(path, how)
    if child_path is not None and same_file(path, child_path):
        return replace(candidate, why="it is the child itself", is_child=True)
    try:
        descriptor = descriptor_at(path)
    except SESparseError as e:
        return replace(candidate, why=str(e))
    if child is None:
        return replace(candidate, descriptor=descriptor, why="the child has no descriptor to compare with")
    if not descriptor.has_cid(child.parent_cid):
        why = f"its CID is {descriptor.cid or 'not given'}, not {child.parent_cid or 'given by the child'}"
        return replace(candidate, descriptor=descriptor, why=why)
    return replace(candidate, descriptor=descriptor, why="its CID matches", matches=True)


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
    return parse_descriptor(text, file.label)


def descriptor_at(path: Path) -> DiskDescriptor:
    """Read the descriptor in the file at a path, see :func:`descriptor_in`.

    Raises:
        SESparseError: If there is none.
    """
    file = EvidenceFile.open(path)
    try:
        return descriptor_in(file)
    finally:
        file.close()


def descriptor_of(extent: Path) -> Path | None:
    """The descriptor in the same folder that names an extent, if there is one."""
    folder = Folder(extent.parent)
    likely = extent.parent / extent.name.replace("-sesparse", "").replace("-flat", "")
    for path in (likely, *folder.files()):
        if path == extent or not is_regular(path) or not folder.is_inside(path):
            continue
        try:
            descriptor = descriptor_at(path)
        except SESparseError:
            continue
        if any(_is_named(extent, line.filename, folder) for line in descriptor.extents):
            return path
    return None


def _is_named(extent: Path, name: str | None, folder: Folder) -> bool:
    """Whether a name in a descriptor means an extent: another folder may have a file of that name."""
    if name is None or name_parts(name)[-1:] != (extent.name,):
        return False
    try:
        return same_file(folder.find(name), extent)
    except SESparseError:
        return False


def missing_parent(search: ParentSearch, link: PurePath | None) -> ParentError:
    """The error for a parent that is not to be had: what was looked for, where, and what was found instead."""
    looked_at = "; ".join(str(candidate) for candidate in search.candidates[:20]) or "nothing"
    advice = "parent= names it; unreadable=zero opens the disk without it"
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
