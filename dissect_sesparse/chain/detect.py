"""What is ours: decided by content, never by a name alone."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, BinaryIO

from dissect_sesparse.chain.link import SESPARSE_MAGIC, is_sesparse, was_sesparse
from dissect_sesparse.chain.parent import descriptor_at, descriptor_of, sweep
from dissect_sesparse.chain.walk import Walk
from dissect_sesparse.extent.c_vmdk import COWD_MAGIC, HOSTED_MAGIC
from dissect_sesparse.source.errors import SESparseError
from dissect_sesparse.source.folder import Folder, is_regular, name_parts
from dissect_sesparse.vm.descriptor import looks_like_descriptor

if TYPE_CHECKING:
    from pathlib import Path

    from dissect_sesparse.chain.walk import Step

_HEAD = 4096
_OTHER_DISKS = (HOSTED_MAGIC, COWD_MAGIC)


def is_ours(fh: BinaryIO, source: object, within: Folder | None = None, parent: Path | None = None) -> bool:
    """Whether a disk is read by this package: it has a seSparse extent at any depth of its chain.

    Args:
        fh: The open file, at its start.
        source: What is to be opened: its path, or the file object itself, or a list that starts with one.
        within: From where evidence names it; without, it is the user who names it.
        parent: The parent that the user names, of the link that lacks one.
    """
    return _is_ours(fh.read(_HEAD), source, within, parent)


def is_ours_at(path: Path, within: Folder) -> bool:
    """The same for a file that evidence names.

    Raises:
        SESparseError: If it cannot be opened.
    """
    file = within.open(path)
    try:
        return _is_ours(file.read_some(0, _HEAD), path, within, None)
    finally:
        file.close()


def _is_ours(head: bytes, source: object, within: Folder | None, parent: Path | None) -> bool:
    if head.startswith(SESPARSE_MAGIC):
        return True
    path = source[0] if isinstance(source, list) and source else source
    if isinstance(path, PurePath):
        if looks_like_descriptor(head) or head.startswith(HOSTED_MAGIC):  # which may have a descriptor inside
            return chain_is_ours(path, within, parent) or (_says_sesparse(head) and _is_broken(path))  # type: ignore[arg-type]
        # Claimed, so that opening it says what is wrong, or rebuilds it.
        return was_sesparse(path, head) or is_lost_descriptor(path, head, within)  # type: ignore[arg-type]
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


def chain_is_ours(path: Path, within: Folder | None = None, parent: Path | None = None) -> bool:
    """Whether a descriptor, or one of those below it, has a seSparse extent. Only descriptors are read."""
    try:
        walk = Walk.of(path, within, parent)
        step: Step | None = walk.step
        while step is not None:
            if _has_sesparse(step):
                return True
            step = walk.up()
    except SESparseError:
        return False
    return False


def newer_links(path: Path, folder: Folder | None = None) -> list[Path]:
    """The descriptors of seSparse links beside a disk whose parent it is: then it is not the newest state.

    Args:
        path: A descriptor, or an extent that one names.
        folder: Its folder, where that was looked into already.
    """
    folder = folder if folder is not None else Folder(path.parent)
    base = descriptor_of(path, folder) or path
    try:
        cid = descriptor_at(base).cid
    except SESparseError:
        return []
    newer = []
    for other, descriptor in sweep(folder, folder.files()):
        hint = name_parts(descriptor.parent_hint or "")
        if other != base and cid and descriptor.parent_cid == cid and hint[-1:] == (base.name,):
            newer.append(other)
    return newer


def _has_sesparse(step: Step) -> bool:
    """Whether an extent is called SESPARSE, or is one whatever it is called."""
    if step.descriptor is None or step.folder is None:
        return False
    extents = step.descriptor.extents
    if any(extent.type == "SESPARSE" for extent in extents):
        return True
    return any(_starts_as_sesparse(step.folder, extent.filename) for extent in extents if extent.filename)


def _starts_as_sesparse(folder: Folder, name: str) -> bool:
    try:
        file = folder.open(folder.find(name))
    except SESparseError:
        return False
    try:
        return is_sesparse(file)
    except SESparseError:
        return False
    finally:
        file.close()


def is_lost_descriptor(path: Path, head: bytes, within: Folder | None = None) -> bool:
    """Whether a file was the descriptor of a seSparse extent and is none any more: emptied, encrypted, overwritten.

    Claimed, so that opening it says so; else it would be taken for a raw disk.
    """
    if path.suffix.lower() != ".vmdk" or head.startswith(_OTHER_DISKS):
        return False
    extent = path.with_name(f"{path.stem}-sesparse.vmdk")
    folder = within.of(path) if within is not None else Folder(path.parent)
    return is_regular(extent) and _starts_as_sesparse(folder, extent.name)
