"""What is known of the machine that a target is: its disks as they run, and the states that its snapshots froze."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.chain.walk import lineage
from dissect_sesparse.findings.unread import unread_lists
from dissect_sesparse.source.errors import FileError, SESparseError
from dissect_sesparse.source.folder import Folder, identity, is_regular
from dissect_sesparse.source.options import CHOICES, Options
from dissect_sesparse.target.vm import OPENED_VM, OpenedVm, locate
from dissect_sesparse.time.changes import DiskState
from dissect_sesparse.time.named_state import is_named, no_such_state, path_named
from dissect_sesparse.time.states import FrozenState, RunningDisk, frozen_states, list_of

if TYPE_CHECKING:
    from pathlib import Path

    from dissect.target.container import Container
    from dissect.target.target import Target

    from dissect_sesparse.target.container import SESparseContainer
    from dissect_sesparse.vm.snapshots import SnapshotDisk
    from dissect_sesparse.vm.vmx import VmDisk


def sesparse_disks(target: Target) -> list[SESparseContainer]:
    """The disks of a target that are ours."""
    # By its type: the class may not have been imported by the registry's name
    return [cast("SESparseContainer", disk) for disk in target.disks if getattr(disk, "__type__", None) == "sesparse"]


def inherited_options(target: Target) -> dict[str, Any]:
    """The options that a child takes over: all but ``parent``, see :func:`opening_of`."""
    options = sesparse_disks(target)[0].chain.options
    return {name: getattr(options, name) for name in CHOICES}


class Opening(NamedTuple):
    """How a state of a disk is opened, so that it finds what the disk found and no more."""

    within: Folder | None
    """From where evidence names it; ``None`` where its own folder is the bound, as it was for the disk."""
    parent: Path | None
    """The parent that the user named, where the link that lacks it is part of the state."""


def opening_of(target: Target, path: Path) -> Opening:
    """How the descriptor of a state is opened."""
    links = {identity(link.path): (disk.chain, link) for disk in sesparse_disks(target) for link in disk.chain.links}
    folder = _folder_of(target)
    if (own := links.get(identity(path))) is not None:
        chain, link = own
        within = None if link.folder == Folder(path.parent) else link.folder
    elif folder is None:
        return Opening(None, None)
    else:
        within = folder
        met = (links.get(identity(step.path)) for step in lineage(path, folder))
        if (own := next(filter(None, met), None)) is None:
            return Opening(within, None)
        chain, link = own
    lacks = chain.named_parent_of
    return Opening(within, chain.options.parent if lacks is not None and link.depth <= lacks else None)


def _folder_of(target: Target) -> Folder | None:
    """The folder of a target's VM, or of the first of its disks; nothing was read in it yet."""
    vm: OpenedVm | None = target.props.get(OPENED_VM)
    if vm is not None:
        return vm.folder.anew()
    return next((folder for disk in sesparse_disks(target) if (folder := disk.chain.links[0].folder)), None)


_STATES = "dissect_sesparse.states"
"""Where in ``target.props`` the states are kept, once they were looked for, and what the list says that is not so."""


def snapshot_states(target: Target) -> list[FrozenState]:
    """The states that the snapshots of a target froze, oldest first. What the list says that is not so goes to the log."""
    return _states_of(target)[0]


def state_problems(target: Target) -> list[str]:
    """What the snapshot list says that is not so, and which files of snapshots are in no state: a sentence for each."""
    return _states_of(target)[1]


def _states_of(target: Target) -> tuple[list[FrozenState], list[str]]:
    if _STATES not in target.props:
        target.props[_STATES] = _look_for_states(target)
    return target.props[_STATES]


def _look_for_states(target: Target) -> tuple[list[FrozenState], list[str]]:
    vm: OpenedVm | None = target.props.get(OPENED_VM)
    folder = _folder_of(target)
    if folder is None:
        return [], []
    if vm is not None:
        disks = [_running(disk, opened, folder) for disk, opened in vm.disks]
        stem = vm.stem
    else:  # a disk that was opened alone
        disks = [_of_ours("", disk.chain.name, disk) for disk in sesparse_disks(target)]
        stem = None

    def place(disk: SnapshotDisk) -> Path:
        path = locate(folder, disk.filename)
        if vm is None and not _is_related(path, disks, folder):
            raise FileError("it is another disk than the one that was opened")
        return path

    unread = [found.message for found in unread_lists(folder)]
    for message in unread:
        target.log.warning("%s", message)
    names = {path.name for disk in disks for path in disk.links}
    states, problems = frozen_states(disks, list_of(folder, stem, names), place, folder)
    for problem in problems:
        (target.log.warning if vm is not None else target.log.info)("%s", problem)
    return states, [*unread, *(problems if vm is not None else ())]


def _running(disk: VmDisk, opened: Container | None, folder: Folder) -> RunningDisk:
    if getattr(opened, "__type__", None) == "sesparse":
        return _of_ours(disk.node, disk.filename, cast("SESparseContainer", opened))
    try:
        path = locate(folder, disk.filename)
    except SESparseError:
        return RunningDisk(disk.node, disk.filename, ())
    steps = [step for step in lineage(path, folder) if step.path is not None and step.folder is not None]
    return RunningDisk(
        disk.node,
        disk.filename,
        tuple(step.path for step in steps if step.path is not None),
        tuple(step.folder for step in steps if step.folder is not None),
    )


def _of_ours(node: str, name: str, disk: SESparseContainer) -> RunningDisk:
    folders = tuple(folder for link in disk.chain.links if (folder := link.folder) is not None)
    return RunningDisk(node, name, _links(disk), folders)


def _links(disk: SESparseContainer) -> tuple[Path, ...]:
    return tuple(link.path for link in disk.chain.links if link.path is not None)


def _is_related(path: Path, disks: list[RunningDisk], folder: Folder) -> bool:
    """Whether a descriptor is based on a link of these disks."""
    known = {identity(link) for disk in disks for link in disk.links}
    return is_regular(path) and any(identity(step.path) in known for step in lineage(path, folder))


# States by name


def state_named(target: Target, disk: SESparseContainer, name: str) -> DiskState | None:
    """The state of a disk that a name means: a link's file name (with or without ``.vmdk``), or a snapshot's name.

    Returns:
        The state; of a branch, over a chain of its own, which the caller closes. ``None`` where the disk has none of that
        name.

    Raises:
        OptionError: If several snapshots with different links have the name.
        SESparseError: If the branch cannot be opened.
    """
    links = disk.chain.links
    for link in links:
        if is_named(link.name, name):
            return DiskState(disk.chain, link.depth)
    frozen = [
        (state.name, path) for state in snapshot_states(target) if (path := _path_in(target, state, disk)) is not None
    ]
    if (path := path_named(frozen, name)) is None:
        return None
    depth = next((link.depth for link in links if identity(link.path) == identity(path)), None)
    if depth is not None:
        return DiskState(disk.chain, depth)
    opening = opening_of(target, path)
    options = Options.collect({"parent": opening.parent}, inherited_options(target))
    return DiskState(open_chain(path, options, within=opening.within), 0)


def frozen_state_named(target: Target, name: str) -> FrozenState | None:
    """The state of a machine that a name means: a snapshot's, or the file name of a link of one of its disks.

    Returns:
        The state; ``None`` where the name is that of a running link: the machine as it is.

    Raises:
        OptionError: If there is no such state, or several.
    """
    states = snapshot_states(target)
    if (path := path_named([(state.name, state.disks[0].path) for state in states], name)) is not None:
        return next(state for state in states if identity(state.disks[0].path) == identity(path))
    of_links = (state for state in states if any(is_named(disk.path.name, name) for disk in state.disks))
    if (state := next(of_links, None)) is not None:
        return state
    if any(is_named(disk.chain.name, name) for disk in sesparse_disks(target)):
        return None
    raise no_such_state(name, names_of_states(target))


def names_of_states(target: Target) -> list[str]:
    """All names that mean a state of some disk: those of links, newest first, then those of snapshots, oldest first."""
    links = [link.name for disk in sesparse_disks(target) for link in disk.chain.links]
    return list(dict.fromkeys([*links, *(state.name for state in snapshot_states(target))]))


def _path_in(target: Target, state: FrozenState, disk: SESparseContainer) -> Path | None:
    """The descriptor that shows a disk in a state: a link of its chain, else of its node, else one that is based on it."""
    links = {identity(path) for path in _links(disk)}
    for frozen in state.disks:
        if identity(frozen.path) in links:
            return frozen.path
    vm: OpenedVm | None = target.props.get(OPENED_VM)
    node = next((one.node for one, opened in vm.disks if opened is disk), "") if vm is not None else ""
    folder = _folder_of(target)
    if folder is None:
        return None
    for frozen in state.disks:
        if (not node or frozen.node == node) and any(identity(s.path) in links for s in lineage(frozen.path, folder)):
            return frozen.path
    return None
