"""A VM with a seSparse disk: its ``.vmx``, or a folder, tar or zip that holds one.

dissect's own loader takes all other VMs. This one reads the ``.vmx`` in whatever encoding it has, finds disks that the
evidence was moved away from, keeps their order, and leaves a broken disk out alone, with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dissect.target import container
from dissect.target.exceptions import LoaderError
from dissect.target.filesystems.tar import TarFilesystem
from dissect.target.filesystems.zip import ZipFilesystem
from dissect.target.loader import Loader

from dissect_sesparse.chain.chain import MAX_DEPTH
from dissect_sesparse.chain.detect import is_ours_at
from dissect_sesparse.chain.walk import UnusedParentError
from dissect_sesparse.findings.findings import Finding
from dissect_sesparse.source.errors import FileError, Kind, SESparseError
from dissect_sesparse.source.file import EvidenceFile
from dissect_sesparse.source.folder import Folder, exists, is_folder, is_regular, refuse_irregular, would_hang
from dissect_sesparse.source.text import logger_of
from dissect_sesparse.target.container import SESparseContainer
from dissect_sesparse.target.context import URI_OPTIONS, WITHIN
from dissect_sesparse.time.stand_in import stand_in
from dissect_sesparse.vm.snapshots import MAX_SIZE, decode_text
from dissect_sesparse.vm.vmx import VirtualMachine, VmDisk, parse_vmx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from urllib.parse import ParseResult

    from dissect.target.target import Target

log = logger_of(__name__)

_CONFIGURATIONS = (".vmx", ".vmtx")
_ARCHIVES = {".tar": TarFilesystem, ".zip": ZipFilesystem}
_VM_FILES = (
    ".vmdk", ".vmx", ".vmtx", ".vmxf", ".vmsd", ".vmsn", ".vmss", ".vmem", ".vswp", ".nvram", ".log", ".lck", ".hlog",
    ".scoreboard", ".ctk", ".gz", ".txt", ".json", ".md",
)  # fmt: skip
"""What belongs to a VM's folder, or is no target."""


OPENED_VM = "dissect_sesparse.vm"
"""Where in ``target.props`` the :class:`OpenedVm` is."""


@dataclass(frozen=True)
class OpenedVm:
    """A VM that was loaded: its folder, the name of its ``.vmx`` without suffix, and its disks, ``None`` if left out."""

    folder: Folder
    stem: str
    disks: tuple[tuple[VmDisk, container.Container | None], ...]


class SESparseVmLoader(Loader):
    """Load a VMware VM that has a seSparse disk, from its ``.vmx``, or from a folder, tar or zip that holds it."""

    def __init__(self, path: Path, **kwargs):
        refuse_irregular(path)
        self.vmx = path if _is_configuration(path) else next(iter(configurations(path)), None)
        if self.vmx is None:
            raise LoaderError(f"no .vmx in {path}")
        super().__init__(path, **kwargs)
        self.folder = Folder(self.vmx.resolve().parent if self.vmx is path else self.vmx.parent)
        self.stem = self.vmx.stem
        self._unused: UnusedParentError | None = None
        self.vm = read_vmx(self.vmx)

    @staticmethod
    def detect(path: Path) -> bool:
        if would_hang(path):  # asked first, so it can be refused before one of dissect's loaders opens it
            return True
        try:
            return any(_has_our_disk(vmx) for vmx in configurations(path))
        except Exception as e:  # whatever is wrong with it, dissect's own loaders are to say so
            log.debug("%s is not looked at as a VM: %s", path, e)
            return False

    @staticmethod
    def find_all(path: Path, parsed_path: ParseResult | None = None) -> Iterator[str | Path]:
        if _is_configuration(path) or would_hang(path):
            yield path
            return
        yield from configurations(path)

    def map(self, target: Target) -> None:
        self._warn_of_others(target)
        reasons = []
        opened: list[tuple[VmDisk, container.Container | None]] = []
        for disk in self.vm.disks:
            if not disk.present:
                target.log.info("Disk is not present in the VM: %s %s", disk.node, disk.filename)
                continue
            try:
                found = self._open(disk, target)
                target.disks.add(found)
                opened.append((disk, found))
            except Exception as e:
                opened.append((disk, None))
                reason = f"{disk.node} {disk.filename}: {reason_of(e)}"
                reasons.append(reason)
                target.log.error("Disk left out: %s", reason)  # noqa: TRY400
                target.log.debug("", exc_info=e)
        if reasons and not len(target.disks.entries):
            raise LoaderError(f"No disk of {self.vmx} can be opened: {'; '.join(reasons)}")
        self._refuse_unused(opened)
        target.props[OPENED_VM] = OpenedVm(self.folder.anew(), self.stem, tuple(opened))

    def _open(self, disk: VmDisk, target: Target) -> container.Container:
        """The container of a disk; where its descriptor is gone, of the newest state that is left."""
        path = locate(self.folder, disk.filename)
        if is_regular(path):
            return self._contained(path)
        if exists(path):
            raise FileError("not a regular file", file=path, kind=Kind.IRREGULAR)
        older = stand_in(path, self.folder)
        message = (
            f"the newest descriptor {path.name} is missing: this is the older state of {older.name}, without what the "
            "guest wrote since"
        )
        target.log.warning("%s: %s", disk.node, message)
        opened = self._contained(older, ours=True)
        opened.notes.append(Finding("older-state", "error", message, 0, path))
        return opened

    def _contained(self, path: Path, *, ours: bool = False) -> Any:
        """Open a disk that the VM names: it may name no more than the VM.

        A parent that the user names is that of one of the disks, the others are opened without.
        """
        within = WITHIN.set(self.folder)
        options = URI_OPTIONS.get()
        try:
            return SESparseContainer(path) if ours else container.open(path)
        except Exception as e:
            if (unused := _unused_parent(e)) is None:
                raise
            self._unused = unused
            without = URI_OPTIONS.set({name: value for name, value in options.items() if name != "parent"})
            try:
                return SESparseContainer(path) if ours else container.open(path)
            finally:
                URI_OPTIONS.reset(without)
        finally:
            WITHIN.reset(within)

    def _refuse_unused(self, opened: list[tuple[VmDisk, container.Container | None]]) -> None:
        """Refuse a parent that is that of no disk."""
        chains = [getattr(disk, "chain", None) for _, disk in opened]
        if self._unused is not None and all(chain is None or chain.named_parent_of is None for chain in chains):
            raise LoaderError(str(self._unused)) from self._unused

    def _warn_of_others(self, target: Target) -> None:
        """A folder is taken for its VM: what else lies in it is not looked at, and that is said."""
        if not is_folder(self.path):
            return
        others = [
            e.name for e in sorted(self.path.iterdir()) if is_regular(e) and not e.name.lower().endswith(_VM_FILES)
        ]
        if others:
            target.log.warning("Not part of the VM, open by itself: %s", ", ".join(others[:20]))


def configurations(path: Path) -> list[Path]:
    """The ``.vmx`` files that a path is or holds, sorted."""
    if _is_configuration(path):
        return [path]
    if is_folder(path):
        return [entry for entry in sorted(path.iterdir()) if _is_configuration(entry) and _is_no_way_out(entry, path)]
    if (archive := _ARCHIVES.get(path.suffix.lower())) is not None and is_regular(path):
        root = archive(path.open("rb")).path("/")
        return sorted(entry for entry in root.rglob("*.vm*x") if _is_configuration(entry))
    return []


def _is_no_way_out(vmx: Path, folder: Path) -> bool:
    """Whether a ``.vmx`` that lies in a folder may be opened: a link in it may lead no further than its disks may."""
    if Folder(folder).is_no_wider(vmx):
        return True
    log.warning("%s is a link that leads out of %s, it is not opened: name the file itself", vmx, folder.parent)
    return False


def _is_configuration(path: Path) -> bool:
    return path.suffix.lower() in _CONFIGURATIONS and is_regular(path)


def read_vmx(path: Path) -> VirtualMachine:
    """The VM of a ``.vmx``.

    Raises:
        FileError: If it cannot be read, or is no configuration.
    """
    file = EvidenceFile.open(path)
    try:
        return parse_vmx(decode_text(file.read(0, min(file.size, MAX_SIZE))))
    finally:
        file.close()


def locate(folder: Folder, filename: str) -> Path:
    """Where the descriptor that a ``.vmx`` names is: the first candidate that exists, else the likely one."""
    candidates = [path for _, path in folder.candidates(filename)]
    if not candidates:
        raise FileError(f"the disk {filename!r} lies outside the evidence", file=folder.path, kind=Kind.OUTSIDE)
    return next((path for path in candidates if exists(path)), candidates[-1 if len(candidates) < 2 else 1])


def _has_our_disk(vmx: Path) -> bool:
    """Whether a disk of a VM is read by this package, or was before its descriptor was lost."""
    try:
        folder = Folder(vmx.resolve().parent)
        # Also by a disk that is not present: dissect's own loader would open it.
        return any(_is_our_disk(locate(folder, disk.filename), folder) for disk in read_vmx(vmx).disks[:MAX_DEPTH])
    except SESparseError:
        return False


def _is_our_disk(path: Path, folder: Folder) -> bool:
    if not is_regular(path):
        beside = path.with_name(f"{path.stem}-sesparse.vmdk")
        return not exists(path) and (is_regular(beside) or _stands_in(path, folder))
    return is_ours_at(path, folder)


def _stands_in(path: Path, folder: Folder) -> bool:
    try:
        return is_ours_at(stand_in(path, folder), folder)
    except SESparseError:
        return False


def _unused_parent(error: BaseException | None) -> UnusedParentError | None:
    """Whether a disk was refused because a parent was named that it does not lack; dissect wraps errors in others."""
    while error is not None and not isinstance(error, UnusedParentError):
        error = error.__cause__
    return error


def reason_of(error: BaseException) -> str:
    """The innermost message: dissect wraps errors in others that only say that something failed."""
    while (cause := error.__cause__) is not None and not isinstance(error, SESparseError):
        error = cause
    return str(error) or type(error).__name__
