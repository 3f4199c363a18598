"""Whose an extent may be where its descriptor is lost: which descriptors beside it may be its parent's, and why.

The extent itself names nobody. What tells is around it: ESXi wants one capacity in a chain, names the links of a disk alike,
bases one link on a state unless the VM was reverted, and lists in the ``.vmsd`` what it froze. Each of that can be wrong:
no parent is ever taken by it when a disk is opened.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dissect_sesparse.chain.parent import Candidate, sweep
from dissect_sesparse.source.errors import SESparseError
from dissect_sesparse.source.folder import Folder, name_parts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import PurePath

    from dissect_sesparse.vm.descriptor import DiskDescriptor

_NUMBER = re.compile(r"-\d{6}$")
_LISTED = re.compile(rb'\.disk\d+\.filename[ \t]*=[ \t]*"?([^"\r\n]*)', re.IGNORECASE)
_EXTENT_SUFFIX = "-sesparse"
_PIECE = re.compile(r"-s\d{3,6}$")


@dataclass(frozen=True)
class Clue:
    """What one fact says of a candidate: whether it fits (``None`` where it tells nothing), in words."""

    name: str
    """``capacity``, ``CID``, ``snapshot list`` or ``name``."""
    fits: bool | None
    says: str


@dataclass(frozen=True)
class PossibleParent:
    """A descriptor that may be the parent's of an extent whose own descriptor is lost."""

    path: Path
    descriptor: DiskDescriptor
    clues: tuple[Clue, ...]

    @property
    def fits(self) -> bool:
        """Whether nothing speaks against it, and all that is known for it."""
        return all(clue.fits or (clue.fits is None and clue.name == "snapshot list") for clue in self.clues)

    @property
    def why(self) -> str:
        against = [clue for clue in self.clues if clue.fits is False]
        word = "fits" if self.fits else "does not fit" if against else "may fit"
        return f"{word}: {'; '.join(f'{clue.name}: {clue.says}' for clue in (against or self.clues))}"

    def __str__(self) -> str:
        return f"{self.path.name} {self.why}"


def descriptor_name(extent: PurePath) -> str:
    """How ESXi would have called the descriptor of an extent, also of one of several, which are numbered."""
    return f"{_PIECE.sub('', extent.stem.removesuffix(_EXTENT_SUFFIX))}.vmdk"


def possible_parents(extent: Path, size: int, folder: Folder | None = None) -> list[PossibleParent]:
    """The descriptors in an extent's folder, those that fit first, with what speaks for and against each.

    Args:
        extent: An extent that no descriptor names.
        size: Bytes of its disk.
        folder: That folder, where it is known.
    """
    folder = folder if folder is not None else Folder(extent.parent)
    descriptors = dict(_descriptors(folder, extent))
    children = _children(descriptors)
    newer = _descendants(descriptor_name(extent), children)
    frozen = _listed(folder)
    found = [
        PossibleParent(
            path,
            descriptor,
            (
                _capacity(descriptor, size),
                _cid(path, extent, newer, children.get(path.name, [])),
                _snapshot_list(path, frozen),
                _name(path, extent),
            ),
        )
        for path, descriptor in descriptors.items()
    ]
    return sorted(found, key=lambda possible: not possible.fits)


def candidates_of(extent: PurePath | None, size: int, folder: Folder | None) -> tuple[Candidate, ...]:
    """The same for a refusal."""
    if not isinstance(extent, Path):
        return ()
    return tuple(Candidate(p.path, "search", p.descriptor, p.why) for p in possible_parents(extent, size, folder))


def lost_cid(extent: Path) -> str | None:
    """The CID of the lost descriptor, by the links that are based on it; ``None`` where none tells, or they disagree."""
    own = descriptor_name(extent)
    cids = {d.parent_cid for _, d in _descriptors(Folder(extent.parent), extent) if _parent_name(d) == own}
    return cids.pop() if len(cids) == 1 else None


def _descriptors(folder: Folder, extent: Path) -> Iterator[tuple[Path, DiskDescriptor]]:
    return ((path, descriptor) for path, descriptor in sweep(folder, folder.files()) if path != extent)


def _parent_name(descriptor: DiskDescriptor) -> str:
    """The file name of the parent that a link names; empty where it names none."""
    return (name_parts(descriptor.parent_hint or "") or ("",))[-1]


def _children(descriptors: dict[Path, DiskDescriptor]) -> dict[str, list[str]]:
    """By the name of a file: the links that name it as their parent."""
    children: dict[str, list[str]] = {}
    for path, descriptor in descriptors.items():
        if name := _parent_name(descriptor):
            children.setdefault(name, []).append(path.name)
    return children


def _descendants(name: str, children: dict[str, list[str]]) -> set[str]:
    """The names of the links that are based on one, by whatever many steps."""
    found: set[str] = set()
    new = children.get(name, [])
    while new := [child for child in new if child not in found]:
        found.update(new)
        new = [grandchild for child in new for grandchild in children.get(child, [])]
    return found


def _capacity(descriptor: DiskDescriptor, size: int) -> Clue:
    if descriptor.size == size:
        return Clue("capacity", True, "the same")
    return Clue("capacity", False, f"{descriptor.size} bytes, the extent's is {size}")


def _cid(path: Path, extent: Path, newer: set[str], children: list[str]) -> Clue:
    if path.name in newer:
        return Clue("CID", False, f"it is itself based on {descriptor_name(extent)}, the lost descriptor")
    if children:
        return Clue("CID", False, f"{children[0]} is based on it already")
    return Clue("CID", True, "no other link is based on it")


def _snapshot_list(path: Path, frozen: set[str]) -> Clue:
    if not frozen:
        return Clue("snapshot list", None, "there is none")
    if path.name in frozen:
        return Clue("snapshot list", True, "a snapshot has it")
    return Clue("snapshot list", False, "no snapshot has it")


def _name(path: Path, extent: Path) -> Clue:
    own = _NUMBER.sub("", descriptor_name(extent).removesuffix(".vmdk"))
    if _NUMBER.sub("", path.stem) == own:
        return Clue("name", True, f"of the same disk, {own!r}")
    return Clue("name", None, f"of another disk than {own!r}")


def _listed(folder: Folder) -> set[str]:
    """The file names of the disks that the snapshot lists in a folder have. More of a list is not needed here."""
    names: set[str] = set()
    for path in folder.files(".vmsd"):
        try:
            file = folder.open(path)
            try:
                data = file.read(0, file.size)
            finally:
                file.close()
        except SESparseError:
            continue
        for name in _LISTED.findall(data):
            names.update(name_parts(name.decode("utf-8", "replace"))[-1:])
    return names
