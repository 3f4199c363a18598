"""One element of a chain: a descriptor with its extents, or an extent alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.chain.open_extent import open_extent
from dissect_sesparse.chain.parent import descriptor_at
from dissect_sesparse.extent.base import Extent, FlatExtent, MissingExtent, ZeroExtent
from dissect_sesparse.extent.c_sesparse import c_sesparse
from dissect_sesparse.extent.c_vmdk import COWD_MAGIC, HOSTED_MAGIC
from dissect_sesparse.extent.cowd import CowdExtent
from dissect_sesparse.extent.hosted import HostedExtent
from dissect_sesparse.extent.sesparse import SESparseExtent
from dissect_sesparse.repair.rebuild import Capacity, logged_capacities
from dissect_sesparse.source.errors import ExtentError, SESparseError
from dissect_sesparse.source.file import SECTOR, EvidenceFile
from dissect_sesparse.source.folder import Folder
from dissect_sesparse.vm.descriptor import looks_like_descriptor

if TYPE_CHECKING:
    from pathlib import Path, PurePath

    from dissect_sesparse.chain.parent import ParentSearch
    from dissect_sesparse.chain.walk import Step
    from dissect_sesparse.source.options import Options
    from dissect_sesparse.vm.descriptor import DiskDescriptor, ExtentDescriptor

SESPARSE_MAGIC = c_sesparse.SESPARSE_CONST_MAGIC.to_bytes(8, "little")
"""The first eight bytes of a seSparse extent."""
EXTENT_SUFFIX = "-sesparse.vmdk"
"""How ESXi ends the name of an extent."""
MAGICS = {"SESPARSE": SESPARSE_MAGIC, "SPARSE": HOSTED_MAGIC, "VMFSSPARSE": COWD_MAGIC}
"""The first bytes of each sparse type of extent."""


class Placed(NamedTuple):
    """An extent at its place on the disk. ``start`` and ``length`` in bytes."""

    start: int
    length: int
    extent: Extent
    depth: int
    """Of its link: 0 is the newest."""

    @property
    def end(self) -> int:
        return self.start + self.length


@dataclass(frozen=True)
class Link:
    """One element of a chain.

    ``descriptor`` is ``None`` for an extent that was opened alone, ``parent`` for a base.
    """

    path: Path | None
    """Of the descriptor, or of the extent where there is none."""
    depth: int
    """0 is the newest."""
    descriptor: DiskDescriptor | None
    extents: tuple[Placed, ...]
    parent: ParentSearch | None = None
    top: Path | None = None
    """The highest folder in which what it names may be, see :class:`~dissect_sesparse.source.folder.Folder`."""

    @property
    def folder(self) -> Folder | None:
        """The folder it is in, with the bound on what it may name."""
        return Folder(self.path.parent, self.top) if self.path is not None else None

    @property
    def name(self) -> str:
        """The file name of the descriptor, or of the extent where there is none."""
        if self.path is not None:
            return self.path.name
        file = self.extents[0].extent.file
        return file.name if file is not None else ""

    @property
    def size(self) -> int:
        """Bytes of the link's disk."""
        return self.extents[-1].end

    @property
    def sesparse_extents(self) -> list[SESparseExtent]:
        return [placed.extent for placed in self.extents if isinstance(placed.extent, SESparseExtent)]

    def close(self) -> None:
        for placed in self.extents:
            placed.extent.close()


def is_sesparse(file: EvidenceFile) -> bool:
    """Whether a file starts as a seSparse extent does."""
    return file.read_some(0, 8) == SESPARSE_MAGIC


def was_sesparse(path: PurePath | None, head: bytes) -> bool:
    """Whether a file is by its name a seSparse extent, and starts as one no more: encrypted, overwritten."""
    known = (SESPARSE_MAGIC, HOSTED_MAGIC, COWD_MAGIC)
    is_named = path is not None and path.name.lower().endswith(EXTENT_SUFFIX)
    return is_named and not head.startswith(known) and not looks_like_descriptor(head)


def magic_kind(file: EvidenceFile) -> str | None:
    """The sparse type of extent that a file starts as, if any."""
    head = file.read_some(0, len(SESPARSE_MAGIC))
    return next((kind for kind, magic in MAGICS.items() if head.startswith(magic)), None)


def link_of_descriptor(step: Step, options: Options) -> Link:
    """Open the extents of a descriptor, or of the one inside a hosted sparse extent.

    Args:
        step: The descriptor, where it is and what it may name.
        options: What to do where the evidence leaves a choice.

    Raises:
        SESparseError: If one of the extents cannot be opened.
    """
    path, descriptor, folder, depth = step
    assert path is not None
    assert descriptor is not None
    assert folder is not None
    # An embedded descriptor's first extent is the file it is in, whatever it was called when that was written.
    own = path if descriptor.embedded else None
    placed: list[Placed] = []
    start = 0
    try:
        for number, line in enumerate(descriptor.extents):
            extent = _open_extent(line, descriptor, folder, options, own if number == 0 else None)
            length = line.sectors * SECTOR
            last = number == len(descriptor.extents) - 1
            have = min(length, extent.size)
            placed.append(Placed(start, have, extent, depth))
            if have < length and not last:
                rest = MissingExtent(
                    length - have, f"{extent.label} has {have} of the {length} bytes that {path.name} says"
                )
                placed.append(Placed(start + have, rest.size, rest, depth))
            start += length
    except BaseException:
        for opened in placed:
            opened.extent.close()
        raise
    return Link(path, depth, descriptor, tuple(placed), top=folder.top)


def link_of_extent(file: EvidenceFile, options: Options, folder: Folder | None) -> Link:
    """A seSparse extent alone, without a descriptor."""
    extent = _open_sesparse(file, options, _of_parent(options), folder)
    top = folder.top if folder is not None else None
    return Link(file.path, 0, None, (Placed(0, extent.size, extent, 0),), top=top)


def _open_sesparse(
    file: EvidenceFile, options: Options, capacities: list[Capacity], folder: Folder | None
) -> SESparseExtent:
    if options.salvage:
        # Beside the extent, which may lie elsewhere than its descriptor
        beside = folder.of(file.path) if folder is not None and file.path is not None else None
        capacities += logged_capacities(beside)
    return open_extent(file, options, capacities)


def _of_parent(options: Options) -> list[Capacity]:
    """The capacity of the parent that the user names: ESXi wants equal ones in a chain."""
    try:
        if options.salvage and options.parent is not None:
            return [Capacity(descriptor_at(options.parent).size // SECTOR, f"the parent {options.parent.name}")]
    except SESparseError:  # told when the parent is opened
        pass
    return []


def _open_extent(
    line: ExtentDescriptor, descriptor: DiskDescriptor, folder: Folder, options: Options, own: Path | None
) -> Extent:
    """Open what an extent line names: ``own`` where that is known already.

    Raises:
        SESparseError: Naming the descriptor's line and the file.
    """
    if own is not None and line.type not in MAGICS:
        raise _refused(line, descriptor, "the descriptor lies inside an extent", f"one of {', '.join(MAGICS)}")
    if line.type == "ZERO":
        return ZeroExtent(line.sectors * SECTOR)
    if line.type not in OPENERS:
        problem = WITHOUT_FILE.get(line.type, "this type of extent is not known")
        raise _refused(line, descriptor, problem, f"one of {', '.join([*OPENERS, 'ZERO'])}")
    file = _open_file(line, descriptor, folder, own)
    try:
        return OPENERS[line.type](file, line, options, folder)
    except BaseException:
        file.close()
        raise


def _refused(
    line: ExtentDescriptor, descriptor: DiskDescriptor, problem: str, expected: str | None = None
) -> ExtentError:
    return ExtentError(problem, file=descriptor.path, field="extent", value=line.raw, expected=expected)


def _open_file(line: ExtentDescriptor, descriptor: DiskDescriptor, folder: Folder, own: Path | None) -> EvidenceFile:
    if own is None and line.filename is None:
        raise _refused(line, descriptor, "an extent of this type needs a file name")
    try:
        # The file that its own descriptor was read from is open to whoever was let to read that
        return EvidenceFile.open(own) if own is not None else folder.open(folder.find(line.filename or ""))
    except SESparseError as e:
        if line.type == RDM:
            raise _refused(line, descriptor, f"{RDM_PROBLEM}; {line.filename!r} cannot be opened: {e}") from e
        problem = f"the extent {line.filename!r} cannot be opened: {e}"
        raise type(e)(problem, file=descriptor.path, field="extent", value=line.raw, kind=e.kind) from e


def _open_sparse(file: EvidenceFile, line: ExtentDescriptor, options: Options, folder: Folder) -> Extent:
    """The type in the line is what someone wrote, the magic is what the file is."""
    kind = magic_kind(file) or line.type
    truncated = options.unreadable == "zero"
    if kind == "SESPARSE":
        extent = _open_sesparse(file, options, [Capacity(line.sectors, "the descriptor's extent line")], folder)
    else:
        extent = SPARSE_EXTENTS[kind](file, allow_truncated=truncated)
    if kind != line.type:
        extent.declared = line.type
    return extent


def _open_flat(file: EvidenceFile, line: ExtentDescriptor, options: Options, folder: Folder) -> Extent:
    if (kind := magic_kind(file)) is not None:
        raise ExtentError(
            f"the file is {NAMES[kind]}, its descriptor calls it {line.type}",
            file=file.label,
            expected=f"the type {kind}, or a file of plain bytes",
        )
    return FlatExtent(file, line.sectors * SECTOR, line.start_sector, line.type)


def _open_rdm(file: EvidenceFile, line: ExtentDescriptor, options: Options, folder: Folder) -> Extent:
    """On a host the mapping file shows the device's bytes; a copy of it has them only if it is as large as the device."""
    needed = (line.start_sector + line.sectors) * SECTOR
    if file.size < needed:
        raise ExtentError(
            f"{RDM_PROBLEM}; the mapping file has {file.size} bytes", file=file.label, expected=f"{needed} bytes"
        )
    return _open_flat(file, line, options, folder)


SPARSE_EXTENTS = {"SESPARSE": SESparseExtent, "SPARSE": HostedExtent, "VMFSSPARSE": CowdExtent}
NAMES = {"SESPARSE": "a seSparse extent", "SPARSE": "a hosted sparse extent", "VMFSSPARSE": "an ESX sparse extent"}

RDM = "VMFSRDM"
RDM_PROBLEM = "a raw device mapping, whose bytes are on the device"

OPENERS = {
    **dict.fromkeys(SPARSE_EXTENTS, _open_sparse),
    **dict.fromkeys(("FLAT", "VMFS"), _open_flat),
    RDM: _open_rdm,
}
"""How each type of extent is opened. ``RW``, ``RDONLY`` and ``NOACCESS`` say what the guest might do, not where its bytes
are: all are read alike."""

WITHOUT_FILE = {
    "VMFSRAW": "a raw device mapping: the bytes are on the device, not in a file",
    "VSANSPARSE": "the bytes are objects of a vSAN, not in a file",
}
