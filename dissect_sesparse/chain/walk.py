"""The one way up a chain: from a link to its parent, to that one's parent, and so on.

The reader, detection, the states that snapshots froze and their children all go this way, so that each of them finds the
same parents and none of them opens what another may not: the bound on what evidence may name goes with the walk
(see :mod:`~dissect_sesparse.source.folder`). Only descriptors are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.chain.lost import candidates_of
from dissect_sesparse.chain.parent import (
    ParentSearch,
    descriptor_at,
    descriptor_of,
    find_parent,
    judge,
    missing_parent,
)
from dissect_sesparse.source.errors import LoopError, OptionError, SESparseError
from dissect_sesparse.source.folder import Folder, identity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dissect_sesparse.source.errors import ParentError
    from dissect_sesparse.vm.descriptor import DiskDescriptor

MAX_DEPTH = 255
"""Links of a chain. VMware's maximum is 32."""


class UnusedParentError(OptionError):
    """A parent is named for a disk of which no link lacks one."""


class Step(NamedTuple):
    """A link that was come to."""

    path: Path | None
    """Of its descriptor, or of the extent where there is none."""
    descriptor: DiskDescriptor | None
    folder: Folder | None
    """Where it is, with the bound on what it may name."""
    depth: int


class Walk:
    """The way up from a link. It stands on :attr:`step`; :meth:`up` goes on.

    Args:
        first: The link to start from.
        parent: The parent that the user names: of the one link whose own cannot be found, or that has no descriptor.
        size: Bytes of the disk of a first link that has no descriptor: for what is said of who may be its parent.
    """

    def __init__(self, first: Step, parent: Path | None = None, size: int = 0):
        self.step = first
        self.search: ParentSearch | None = None
        """How the parent of the link below :attr:`step` was looked for; at the end, that of :attr:`step` itself."""
        self.missing: ParentError | None = None
        """Set at the end of a chain whose last link has a parent that is not to be had: the error that says so."""
        self._parent = parent
        self._used_for: Path | None = None
        self._used = False
        self._size = size
        self._paths = [first.path]
        self._seen = {identity(first.path)}

    @classmethod
    def of(cls, path: Path, folder: Folder | None = None, parent: Path | None = None) -> Walk:
        """The way up from a descriptor.

        Args:
            path: The descriptor.
            folder: From where evidence names it; without, it is the user who names it, and it sets the bound.
            parent: See the class.

        Raises:
            SESparseError: If it cannot be read.
        """
        own = folder.of(path) if folder is not None else Folder(path.parent)
        descriptor = descriptor_at(path, folder)
        own.seen.descriptors.setdefault(path, descriptor)
        return cls(Step(path, descriptor, own, 0), parent)

    def up(self) -> Step | None:
        """Go to the parent; ``None`` where there is none, or where it is :attr:`missing`.

        Raises:
            LoopError: If the chain comes back to one of its links, or is deeper than any.
            UnusedParentError: If a parent was named and no link lacks one.
            SESparseError: If the parent that was named cannot be read.
        """
        below = self.step
        self.search = self._looked_for(below)
        if self.search is None:
            if self._parent is not None and not self._used:
                raise self._unused()
            return None
        if self.search.chosen is None:
            self.missing = missing_parent(self.search, below.path, self._used_for if self._used else None)
            return None
        path, descriptor = self.search.chosen.path, self.search.chosen.descriptor
        self._check(path, below)
        if self.search.chosen.how == "option":
            folder = Folder(path.parent)  # what the user names starts anew
            descriptor = descriptor if descriptor is not None else descriptor_at(path)
        else:
            assert below.folder is not None
            folder = below.folder.of(path)
        self.step = Step(path, descriptor, folder, below.depth + 1)
        self._paths.append(path)
        self._seen.add(identity(path))
        return self.step

    def _looked_for(self, step: Step) -> ParentSearch | None:
        """Look for the parent of a link; ``None`` if it is a base."""
        if step.descriptor is None:
            found = ParentSearch(None, None)
            if self._parent is None:
                found = ParentSearch(None, None, candidates_of(step.path, self._size, step.folder))
        elif not step.descriptor.has_parent or step.path is None or step.folder is None:
            return None
        else:
            found = find_parent(step.folder, step.path, step.descriptor, self._paths)
        return (
            found if found.cid_matches or self._parent is None or self._used else self._named(step, found, self._parent)
        )

    def _named(self, step: Step, found: ParentSearch, parent: Path) -> ParentSearch:
        """The parent that the user names in place of one that was not found.

        In place of one that only has the right name it is taken where its own CID is right: then that one is no parent.
        """
        named = _descriptor_meant(parent)
        chosen = judge("option", named, Folder(named.parent), step.path, step.descriptor)
        if found.chosen is not None and not chosen.matches:
            return found
        self._used, self._used_for = True, step.path
        return ParentSearch(step.descriptor, chosen, found.candidates, found.problems)

    def _check(self, path: Path, below: Step) -> None:
        """Refuse to go on for ever."""
        if identity(path) in self._seen:
            files = ", ".join(link.name for link in self._paths if link is not None)
            raise LoopError(f"a loop: the parent {path.name} is already in the chain {files}", file=below.path)
        if len(self._paths) == MAX_DEPTH:
            raise LoopError(f"more than {MAX_DEPTH} links", file=self._paths[0], expected="at most 32 on ESXi")

    def _unused(self) -> UnusedParentError:
        """No parent is put where one was found: a link of the chain would vanish."""
        names = " -> ".join(path.name for path in self._paths if path is not None)
        return UnusedParentError(
            "no link of the chain lacks a parent",
            file=self._paths[0],
            field="option parent",
            value=str(self._parent),
            expected=f"a chain in which one link's parent cannot be found; this one is whole: {names}",
            advice="leave parent= out; to read a link over another parent, write a descriptor that names it elsewhere",
        )


def _descriptor_meant(path: Path) -> Path:
    """The descriptor that the user means who names a parent: of an extent, the one that names it."""
    try:
        descriptor_at(path)
    except SESparseError:
        return descriptor_of(path) or path
    return path


def lineage(path: Path, folder: Folder) -> Iterator[Step]:
    """A descriptor and those that it is based on, newest first, as far as they are there.

    Args:
        path: The descriptor.
        folder: From where evidence names it.
    """
    try:
        walk = Walk.of(path, folder)
        step: Step | None = walk.step
        while step is not None:
            yield step
            step = walk.up()
    except SESparseError:  # whoever opens the disk is told
        return
