"""What is ours: decided by content, never by a name alone."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, BinaryIO

from dissect_sesparse.disk.c_vmdk import COWD_MAGIC, HOSTED_MAGIC
from dissect_sesparse.disk.descriptor import DiskDescriptor, looks_like_descriptor
from dissect_sesparse.disk.errors import SESparseError
from dissect_sesparse.disk.file import EvidenceFile
from dissect_sesparse.disk.folder import Folder, is_regular, name_parts
from dissect_sesparse.disk.link import SESPARSE_MAGIC, is_sesparse, was_sesparse
from dissect_sesparse.disk.parent import descriptor_at, descriptor_of, find_parent

if TYPE_CHECKING:
    from pathlib import Path

_HEAD = 4096
_OTHER_DISKS = (HOSTED_MAGIC, COWD_MAGIC)
_MAX_DEPTH = 255


def is_ours(fh: BinaryIO, source: object) -> bool:
    """Whether a disk is read by this package: it has a seSparse extent at any depth of its chain.

    Args:
        fh: The open file, at its start.
        source: What is to be opened: its path, or the file object itself, or a list that starts with one.
    """
    head = fh.read(_HEAD)
    if head.startswith(SESPARSE_MAGIC):
        return True
    path = source[0] if isinstance(source, list) and source else source
    if isinstance(path, PurePath):
        if looks_like_descriptor(head) or head.startswith(HOSTED_MAGIC):  # which may have a descriptor inside
            return chain_is_ours(path) or (_says_sesparse(head) and _is_broken(path))  # type: ignore[arg-type]
        # Claimed, so that opening it says what is wrong, or rebuilds it.
        return was_sesparse(path, head) or is_lost_descriptor(path, head)  # type: ignore[arg-type]
    # A descriptor without a folder: claimed where it says SESPARSE, so that the error says what is missing.
    return _says_sesparse(head)


def _says_sesparse(head: bytes) -> bool:
    """Whether this is a descriptor in which a seSparse extent, or a ``createType`` of that name, is written."""
    return looks_like_descriptor(head) and b"SESPARSE" in head.upper().replace(b"VMFSSPARSE", b"")


def _is_broken(path: Path) -> bool:
    """Whether a descriptor cannot be read. Claimed, so that opening it says so."""
    try:
        descriptor_at(path)
    except SESparseError:
        return True
    return False


def chain_is_ours(path: Path) -> bool:
    """Whether a descriptor, or one of those below it, has a seSparse extent. Only descriptors are read."""
    seen: set[Path] = set()
    top = None
    while path not in seen and len(seen) < _MAX_DEPTH:
        seen.add(path)
        try:
            descriptor = descriptor_at(path)
        except SESparseError:
            return False
        folder = Folder(path.parent, top)
        if _has_sesparse(descriptor, folder):
            return True
        if not descriptor.has_parent or (chosen := find_parent(folder, path, descriptor, seen).chosen) is None:
            return False
        top = folder.top
        path = chosen.path
    return False


def newer_links(path: Path) -> list[Path]:
    """The descriptors of seSparse links beside a disk whose parent it is: then it is not the newest state.

    Args:
        path: A descriptor, or an extent that one names.
    """
    base = descriptor_of(path) or path
    try:
        cid = descriptor_at(base).cid
    except SESparseError:
        return []
    folder = Folder(base.parent)
    newer = []
    for other in folder.files():
        try:
            descriptor = descriptor_at(other) if other != base else None
        except SESparseError:
            continue
        hint = name_parts(descriptor.parent_hint or "") if descriptor is not None else ()
        if descriptor is not None and cid and descriptor.parent_cid == cid and hint[-1:] == (base.name,):
            newer.append(other)
    return newer


def _has_sesparse(descriptor: DiskDescriptor, folder: Folder) -> bool:
    """Whether an extent is called SESPARSE, or is one whatever it is called."""
    if any(extent.type == "SESPARSE" for extent in descriptor.extents):
        return True
    return any(_starts_as_sesparse(folder, extent.filename) for extent in descriptor.extents if extent.filename)


def _starts_as_sesparse(folder: Folder, name: str) -> bool:
    try:
        file = EvidenceFile.open(folder.find(name))
    except SESparseError:
        return False
    try:
        return is_sesparse(file)
    except SESparseError:
        return False
    finally:
        file.close()


def is_lost_descriptor(path: Path, head: bytes) -> bool:
    """Whether a file was the descriptor of a seSparse extent and is none any more: emptied, encrypted, overwritten.

    Claimed, so that opening it says so; else it would be taken for a raw disk.
    """
    if path.suffix.lower() != ".vmdk" or head.startswith(_OTHER_DISKS):
        return False
    extent = path.with_name(f"{path.stem}-sesparse.vmdk")
    return is_regular(extent) and _starts_as_sesparse(Folder(path.parent), extent.name)
