"""What the commands share: a target opened for its disks, the files that it was found by, and what errors say."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dissect_sesparse.commands.words import ours
from dissect_sesparse.recovery.inputs import VM_FILES
from dissect_sesparse.recovery.recover import Source
from dissect_sesparse.recovery.writing import RecoverError
from dissect_sesparse.source.folder import Folder, identity, is_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect.target.loader import Loader
    from dissect.target.target import Target

    from dissect_sesparse.target.vm import SESparseVmLoader
    from dissect_sesparse.vm.vmx import VmDisk


def open_target(path: Path) -> Target:
    """Open what a path names for its disks alone. Volumes are of no use here, and looking for them reads disks.

    Raises:
        Exception: Whatever a loader of dissect trips over.
    """
    from dissect_sesparse.target.loaders import Found, loader_at

    return Found(str(path), path, loader_at(path), path).open()


def disks_of(target: Target, spec: str, at_least: int = 1) -> tuple[list[Source], list[dict[str, Any]]]:
    """The seSparse disks of a target, and its others: ``failed`` ones cannot be opened, ``skipped`` ones are no seSparse.

    Raises:
        RecoverError: If fewer than ``at_least`` can be read.
    """
    from dissect_sesparse.files.volumes import filesystem_findings

    sources, others = [], []
    for disk in target.disks:
        if getattr(disk, "__type__", None) == "sesparse":
            chain = disk.chain  # type: ignore[attr-defined]
            sources.append(Source(chain, tuple(disk.notes), volumes=partial(filesystem_findings, chain)))  # type: ignore[attr-defined]
        else:
            others.append({"disk": str(disk), "state": "skipped", "reason": "no seSparse extent in its chain"})
    others += [{"disk": name, "state": "failed", "reason": why} for name, why in _broken(target, sources)]
    if len(sources) < at_least:
        reasons = "; ".join(f"{other['disk']}: {other['reason']}" for other in others)
        raise RecoverError(f"no seSparse disk that can be read. {reasons}", file=spec)
    return sources, others


def loader_of(target: Target) -> Loader:
    """The loader that opened the disks, below that of a URI."""
    return getattr(target._loader, "loader", target._loader)


def files_of(loader: Loader) -> Iterator[Path]:
    """What was opened to find the disks, and the snapshot lists beside it."""
    for path in {loader.path, getattr(loader, "vmx", loader.path)}:
        if is_regular(path):
            yield path
            if path.name.lower().endswith(VM_FILES):  # what lies beside an archive is another case's
                yield from Folder(path.parent).files(".vmsd")


def _broken(target: Target, sources: list[Source]) -> Iterator[tuple[str, str]]:
    """The disks of a VM that its loader left out, and why: each that is not open is tried once more."""
    from dissect_sesparse.target.context import URI_OPTIONS
    from dissect_sesparse.target.vm import SESparseVmLoader

    loader = loader_of(target)
    if not isinstance(loader, SESparseVmLoader):
        return
    opened = {identity(source.chain.links[0].path) for source in sources}
    opened.update(identity(note.source) for source in sources for note in source.notes if isinstance(note.source, Path))
    token = URI_OPTIONS.set(getattr(target._loader, "options", {}))
    try:
        for disk in loader.vm.disks:
            if why := _problem(loader, disk, target, opened):
                yield f"{disk.node} {disk.filename}", why
    finally:
        URI_OPTIONS.reset(token)


def _problem(loader: SESparseVmLoader, disk: VmDisk, target: Target, opened: set[str]) -> str | None:
    """Why a disk cannot be opened; ``None`` for one that can."""
    from dissect_sesparse.target.vm import locate

    try:
        if identity(locate(loader.folder, disk.filename)) not in opened:
            loader._open(disk, target).close()
    except Exception as e:
        return str(ours(e) or e)
    return None


def with_files(source: Source) -> Source:
    """The same with what names its deleted files."""
    from dissect_sesparse.files.file_systems import deleted_files  # only this reads file systems

    return replace(source, files=lambda warn: deleted_files(source.chain, warn))


def with_versions(source: Source) -> Source:
    """The same with what lists each content that a file had, of the files that had several."""
    from dissect_sesparse.history.file_versions import file_versions  # as above

    return replace(source, versions=lambda warn: file_versions(source.chain, None, warn))
