"""A descriptor for an extent that has lost its own, as text.

Of what ESXi wrote into the lost one only the size and the extent's name are known for sure. The parent is what the caller
says; the content ID is that by which newer links name the lost descriptor, or one made of the extent's headers.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.disk.c_sesparse import SECTOR
from dissect_sesparse.disk.descriptor import NO_PARENT, USE_LONG_CONTENT_ID
from dissect_sesparse.disk.errors import DescriptorError
from dissect_sesparse.disk.file import EvidenceFile, is_local
from dissect_sesparse.disk.header import read_header
from dissect_sesparse.disk.lost import lost_cid
from dissect_sesparse.disk.parent import descriptor_at

if TYPE_CHECKING:
    from dissect_sesparse.disk.header import Header

MAKER = "dissect-sesparse"


class NewDescriptor(NamedTuple):
    """The text, and what its reader should know."""

    text: str
    notes: tuple[str, ...]


def new_descriptor(extent: Path, parent: Path | None) -> NewDescriptor:
    """A descriptor for an extent.

    Args:
        extent: The extent.
        parent: Its parent's descriptor; ``None`` for a disk of its own.

    Raises:
        SESparseError: If the extent or the parent's descriptor cannot be read, or a name cannot be written.
    """
    header, head = _headers(extent)
    notes = []
    if (cid := lost_cid(extent)) is not None:
        notes.append(f"CID {cid} is the one by which newer links name the lost descriptor")
    else:
        cid = _made_cid(head)
        notes.append(f"CID {cid} is made of the extent's headers: the lost one is not known")
    lines = ["# Disk DescriptorFile", f"# Made by {MAKER}: the extent's own descriptor is lost"]
    lines += [f"# {note}" for note in notes]
    lines += ["version=1", 'encoding="UTF-8"', f"CID={cid}"]
    if parent is None:
        lines += [f"parentCID={NO_PARENT}", 'createType="seSparse"']
    else:
        descriptor = descriptor_at(parent)
        if descriptor.size != header.capacity:
            notes.append(f"{parent.name} has {descriptor.size} bytes, the extent {header.capacity}: not one disk?")
        parent_cid = _short(descriptor.cid)
        hint = _quoted(_hint(extent, parent), parent)
        lines += [f"parentCID={parent_cid}", 'createType="seSparse"', f"parentFileNameHint={hint}"]
    name = _quoted(extent.name, extent)
    lines += ["", "# Extent description", f"RW {header.capacity // SECTOR} SESPARSE {name}", ""]
    lines += ["# The Disk Data Base", "#DDB", "", 'ddb.grain = "8"']
    return NewDescriptor("\n".join(lines) + "\n", tuple(notes))


def _headers(extent: Path) -> tuple[Header, bytes]:
    file = EvidenceFile.open(extent)
    try:
        return read_header(file, allow_truncated=True), file.read_some(0, 2 * SECTOR)
    finally:
        file.close()


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
