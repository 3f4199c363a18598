"""A descriptor for extents that have lost their own, as text.

Of what ESXi wrote into the lost one only the sizes and the names of the extents are known for sure. Their order is that of
their numbers, or what the caller says, as is the parent; the content ID is that by which newer links name the lost
descriptor, or one made of the extents' headers.
"""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.chain.lost import lost_cid
from dissect_sesparse.chain.parent import descriptor_at
from dissect_sesparse.extent.header import read_header
from dissect_sesparse.findings.unread import list_folder
from dissect_sesparse.repair.rebuild import logged_capacities, rebuild_header
from dissect_sesparse.source.errors import DescriptorError, ExtentError
from dissect_sesparse.source.file import SECTOR, EvidenceFile, is_local
from dissect_sesparse.source.folder import Folder, same_file
from dissect_sesparse.vm.descriptor import NO_PARENT, USE_LONG_CONTENT_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dissect_sesparse.repair.rebuild import Capacity

MAKER = "dissect-sesparse"
_PIECE = re.compile(r"(?P<stem>.*-s)(?P<number>\d{3,6})(?P<end>(-sesparse)?\.vmdk)", re.IGNORECASE)
"""How VMware numbers the extents of a disk that has several, from 1."""


class ExtentPiece(NamedTuple):
    """An extent of the disk."""

    path: Path
    capacity: int | None
    """Bytes of the disk; ``None`` where its header does not tell."""
    head: bytes
    note: str = ""
    """What its capacity rests on, where it is not its header."""


class NewDescriptor(NamedTuple):
    """The text, and what its reader should know."""

    text: str
    notes: tuple[str, ...]


def pieces_beside(extent: Path) -> list[Path]:
    """The extents of one disk by their numbers, where an extent has one in its name; else the extent alone.

    Whether the last of them is the disk's last, no name tells.

    Raises:
        SESparseError: If one before another is missing, or the folder cannot be listed.
    """
    if (own := _PIECE.fullmatch(extent.name)) is None:
        return [extent]
    entries, problem = list_folder(extent.parent)
    if problem is not None:
        raise problem
    found = {int(own["number"]): extent}
    for path in entries:
        match = _PIECE.fullmatch(path.name)
        if match is not None and (match["stem"], match["end"]) == (own["stem"], own["end"]):
            found.setdefault(int(match["number"]), path)
    missing = next(number for number in range(1, len(found) + 2) if number not in found)
    if missing <= len(found):
        problem = f"{len(found)} extents beside it are numbered, and number {missing} is not there"
        raise ExtentError(problem, file=extent, advice="without it nothing tells where the others lie on the disk")
    return [found[number] for number in sorted(found)]


def read_piece(extent: Path, capacities: Sequence[Capacity] = (), *, rebuild: bool = True) -> ExtentPiece:
    """An extent's capacity: by its header, or where that is destroyed by what else tells it, if the file confirms it.

    Args:
        extent: The extent.
        capacities: What may be its capacity, besides what logs of the host beside it say.
        rebuild: Whether to rebuild a destroyed header now; else its capacity is left open.

    Raises:
        SESparseError: If it is no extent, or nothing that the file confirms tells its capacity.
    """
    file = EvidenceFile.open(extent)
    try:
        head = file.read_some(0, 2 * SECTOR)
        try:
            return ExtentPiece(extent, read_header(file, allow_truncated=True).capacity, head)
        except ExtentError as e:
            if not rebuild:
                return ExtentPiece(extent, None, head)
            header = rebuild_header(
                file, [*capacities, *logged_capacities(Folder(extent.parent))], e, allow_truncated=True
            )
        note = f"the header of {extent.name} is destroyed (salvage=1 opens it): {'; '.join(header.rebuilt)}"
        return ExtentPiece(extent, header.capacity, head, note)
    finally:
        file.close()


def new_descriptor(pieces: Sequence[ExtentPiece], parent: Path | None) -> NewDescriptor:
    """A descriptor for some extents.

    Args:
        pieces: The extents, in their order on the disk, each with its capacity.
        parent: Their parent's descriptor; ``None`` for a disk of its own.

    Raises:
        SESparseError: If an extent is named twice, the parent's descriptor cannot be read, or a name cannot be written.
    """
    _check_folder(pieces)
    extent = pieces[0].path
    size = sum(piece.capacity or 0 for piece in pieces)
    notes = [piece.note for piece in pieces if piece.note]
    if (cid := lost_cid(extent)) is not None:
        notes.append(f"CID {cid} is the one by which newer links name the lost descriptor")
    else:
        cid = _made_cid(b"".join(piece.head for piece in pieces))
        notes.append(f"CID {cid} is made of the extent's headers: the lost one is not known")
    lines = ["# Disk DescriptorFile", f"# Made by {MAKER}: the extent's own descriptor is lost"]
    lines += [f"# {note if note.isprintable() else ascii(note)}" for note in notes]
    lines += ["version=1", 'encoding="UTF-8"', f"CID={cid}"]
    if parent is None:
        lines += [f"parentCID={NO_PARENT}", 'createType="seSparse"']
    else:
        descriptor = descriptor_at(parent)
        if descriptor.size != size:
            which = "extent" if len(pieces) == 1 else f"{len(pieces)} extents"
            have = "has" if len(pieces) == 1 else "have"
            notes.append(f"{parent.name} has {descriptor.size} bytes, the {which} {have} {size}: not one disk?")
        parent_cid = _short(descriptor.cid)
        hint = _quoted(_hint(extent, parent), parent)
        lines += [f"parentCID={parent_cid}", 'createType="seSparse"', f"parentFileNameHint={hint}"]
    lines += ["", "# Extent description"]
    for piece in pieces:
        lines.append(f"RW {(piece.capacity or 0) // SECTOR} SESPARSE {_quoted(piece.path.name, piece.path)}")
    lines.append("")
    lines += ["# The Disk Data Base", "#DDB", "", 'ddb.grain = "8"']
    return NewDescriptor("\n".join(lines) + "\n", tuple(notes))


def _check_folder(pieces: Sequence[ExtentPiece]) -> None:
    """A descriptor names extents by their file names alone, and each once."""
    for number, piece in enumerate(pieces):
        if any(same_file(piece.path, other.path) for other in pieces[:number]):
            raise DescriptorError("an extent is named twice", file=piece.path, expected="each once, in their order")
        if not same_file(piece.path.parent, pieces[0].path.parent):
            expected = f"the folder of {pieces[0].path.name}"
            raise DescriptorError("an extent in another folder", file=piece.path, expected=expected)


def _made_cid(head: bytes) -> str:
    """A content ID that is always the same for an extent as it is, and means nothing else."""
    cid = f"{zlib.crc32(head):08x}"
    return "fffffffd" if cid in (NO_PARENT, USE_LONG_CONTENT_ID) else cid


def _short(cid: str) -> str:
    """The eight digits that a child has of its parent's content ID."""
    return cid[-8:].rjust(8, "0") if cid else NO_PARENT


def _hint(extent: Path, parent: Path) -> str:
    """Where the parent is, seen from the extent's folder."""
    if parent.parent == extent.parent:
        return parent.name
    if not (is_local(extent) and is_local(parent)):
        return str(parent)
    try:
        return Path(os.path.relpath(parent.resolve(), extent.resolve().parent)).as_posix()
    except ValueError:  # on Windows two drives have no way from one to the other
        return parent.name


def _quoted(name: str, path: Path) -> str:
    if '"' in name or not name.isprintable():
        problem = "a descriptor cannot have this name"
        raise DescriptorError(problem, file=path, field="name", value=name, expected="no quotes and no line ends")
    return f'"{name}"'
