"""What is known of the machine that a target is: its disks as they run, and the states that its snapshots froze."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from dissect_sesparse.disk.errors import FileError, SESparseError
from dissect_sesparse.disk.folder import Folder, identity, is_regular
from dissect_sesparse.disk.options import CHOICES
from dissect_sesparse.evidence.states import FrozenState, RunningDisk, frozen_states, lineage, list_of
from dissect_sesparse.target.vm import OPENED_VM, OpenedVm, locate

if TYPE_CHECKING:
    from pathlib import Path

    from dissect.target.container import Container
    from dissect.target.target import Target

    from dissect_sesparse.evidence.snapshots import SnapshotDisk
    from dissect_sesparse.evidence.vmx import VmDisk
    from dissect_sesparse.target.container import SESparseContainer


def sesparse_disks(target: Target) -> list[SESparseContainer]:
    """The disks of a target that are ours."""
    # By its type: the class may not have been imported by the registry's name
    return [cast("SESparseContainer", disk) for disk in target.disks if getattr(disk, "__type__", None) == "sesparse"]


def inherited_options(target: Target) -> dict[str, Any]:
    """The options that a child takes over: all but ``parent``, which belongs to the newest link alone."""
    options = sesparse_disks(target)[0].chain.options
    return {name: getattr(options, name) for name in CHOICES}


def states_of(target: Target) -> list[FrozenState]:
    """The states that the snapshots of a target froze, oldest first. What the list says that is not so goes to the log."""
    vm: OpenedVm | None = target.props.get(OPENED_VM)
    if vm is not None:
        disks = [_running(disk, opened, vm.folder) for disk, opened in vm.disks]
        folder, stem = vm.folder, vm.stem
    else:  # a disk that was opened alone
        disks = [RunningDisk("", disk.chain.name, _links(disk)) for disk in sesparse_disks(target)]
        folders = [links[0].parent for links in (disk.links for disk in disks) if links]
        if not folders:
            return []
        folder, stem = Folder(folders[0]), None

    def place(disk: SnapshotDisk) -> Path:
        path = locate(folder, disk.filename)
        if vm is None and not _is_related(path, disks):
            raise FileError("it is another disk than the one that was opened")
        return path

    names = {path.name for disk in disks for path in disk.links}
    states, problems = frozen_states(disks, list_of(folder.path, stem, names), place)
    for problem in problems:
        (target.log.warning if vm is not None else target.log.info)("%s", problem)
    return states


def _running(disk: VmDisk, opened: Container | None, folder: Folder) -> RunningDisk:
    if getattr(opened, "__type__", None) == "sesparse":
        return RunningDisk(disk.node, disk.filename, _links(cast("SESparseContainer", opened)))
    try:
        path = locate(folder, disk.filename)
    except SESparseError:
        return RunningDisk(disk.node, disk.filename, ())
    return RunningDisk(disk.node, disk.filename, tuple(lineage(path)) if is_regular(path) else ())


def _links(disk: SESparseContainer) -> tuple[Path, ...]:
    return tuple(link.path for link in disk.chain.links if link.path is not None)


def _is_related(path: Path, disks: list[RunningDisk]) -> bool:
    """Whether a descriptor is based on a link of these disks."""
    known = {identity(link) for disk in disks for link in disk.links}
    return is_regular(path) and any(identity(link) in known for link in lineage(path))
