"""The states of a VM that its snapshots froze: which files show each disk as it was then.

Two sources, which may disagree. The chains prove: whatever lies below another link was frozen when that link was made, and
is older than it. The snapshot list (``.vmsd``) only tells: it gives names and times, it says which disks' files belong
together, it knows branches that no running disk is based on, and it can be wrong. So the list names states whose files are
there, and every depth of the running chains that it does not know becomes a state too, named by its link.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.chain.walk import lineage
from dissect_sesparse.source.errors import SESparseError, short
from dissect_sesparse.source.folder import Folder, identity, is_regular, name_parts
from dissect_sesparse.vm.snapshots import lists_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from dissect_sesparse.vm.snapshots import Snapshot, SnapshotDisk, SnapshotList

MAX_STATES = 512
"""States that are told of. A chain has at most 32 links on ESXi; branches come on top."""


@dataclass(frozen=True)
class RunningDisk:
    """A disk of the VM as it runs: its node (empty where only the disk was opened), and its links, newest first."""

    node: str
    name: str
    links: tuple[Path, ...]
    folders: tuple[Folder, ...] = ()
    """The folder of each, with the bound on what it may name."""


class FrozenDisk(NamedTuple):
    """A disk of a state: the node it was attached to (or empty), and the descriptor that shows it."""

    node: str
    path: Path


@dataclass(frozen=True)
class FrozenState:
    """A VM as a snapshot froze it."""

    name: str
    """The display name of the snapshot; of a state that no list names, the file name of its link."""
    snapshot: Snapshot | None
    """The entry of the list."""
    disks: tuple[FrozenDisk, ...]
    notes: tuple[str, ...] = ()
    """What is missing from it, or odd."""

    @property
    def created(self) -> datetime | None:
        return self.snapshot.created if self.snapshot is not None else None


def list_of(folder: Folder, stem: str | None, names: Iterable[str]) -> list[Snapshot]:
    """The entries of a VM's own snapshot list; a folder may hold lists of several VMs, and old copies.

    Args:
        folder: Of the VM.
        stem: The name of its ``.vmx`` without the suffix, which the list shares; ``None`` where no ``.vmx`` is known.
        names: The file names of the links of its disks: without a list of that name, any list counts that has one.
    """
    lists = lists_of(folder)
    known = set(names)

    def knows(found: SnapshotList) -> bool:
        return any(known.intersection(snapshot.disks) for snapshot in found.snapshots)

    for chosen in (
        [found for found in lists if not found.is_copy and stem is not None and found.machine == stem.lower()],
        [found for found in lists if not found.is_copy and knows(found)],
        [found for found in lists if found.is_copy and knows(found)][-1:],
    ):
        if entries := [snapshot for found in chosen for snapshot in _once(found.snapshots)]:
            return entries
    return []


def _once(snapshots: Iterable[Snapshot]) -> Iterator[Snapshot]:
    """Without the duplicates that crashes and consolidations leave: by uid, and by all that they say."""
    uids: set[str] = set()
    seen: set[tuple] = set()
    for snapshot in snapshots:
        says = (snapshot.name, snapshot.created, snapshot.files)
        if snapshot.uid not in uids and says not in seen:
            yield snapshot
        uids.add(snapshot.uid)
        seen.add(says)


def frozen_states(
    disks: Sequence[RunningDisk],
    snapshots: Sequence[Snapshot],
    locate: Callable[[SnapshotDisk], Path],
    folder: Folder,
) -> tuple[list[FrozenState], list[str]]:
    """The states of a VM, oldest first, and what the list says that is not so.

    Args:
        disks: The VM's disks as it runs.
        snapshots: The entries of its list.
        locate: Where the file of a disk is that is in no running chain; raises an error of ours where it cannot be.
        folder: Of the VM: it sets the bound on what those files may name.

    Returns:
        At most :data:`MAX_STATES` states, and a sentence for each entry that is none.
    """
    states: list[FrozenState] = []
    problems: list[str] = []
    for number, snapshot in enumerate(snapshots):
        if len(states) >= MAX_STATES:
            problems.append(f"{len(snapshots) - number} more entries of the snapshot list are not looked at")
            break
        state = _listed(snapshot, disks, locate)
        if state.disks:
            states.append(state)
        else:
            problems.append(f"snapshot {_title(snapshot)} of the list is no state: {'; '.join(state.notes[:10])}")
    states += _unlisted(disks, {identity(disk.path) for state in states for disk in state.disks}, problems)
    return _in_order(states, disks, folder), problems


def _title(snapshot: Snapshot) -> str:
    return f"{short(repr(snapshot.name))} (uid {short(snapshot.uid)})"


def _listed(snapshot: Snapshot, disks: Sequence[RunningDisk], locate: Callable[[SnapshotDisk], Path]) -> FrozenState:
    """The state that an entry of the list tells of, with the disks whose files are there."""
    found: dict[str, FrozenDisk] = {}
    notes: list[str] = []
    for disk in snapshot.files:
        try:
            path = _in_chains(disk, disks) or locate(disk)
        except SESparseError as e:
            notes.append(f"{short(disk.node)} {short(disk.filename)} is left out: {e.problem}")
            continue
        if not is_regular(path):
            notes.append(f"{short(disk.node)} {short(disk.filename)} is left out: the file is missing")
        else:
            node = disk.node or next((running.node for running in disks if path in running.links), "")
            found.setdefault(identity(path), FrozenDisk(node, path))
    nodes = {disk.node for disk in snapshot.files} | {disk.node for disk in found.values()}
    for disk in disks:
        if disk.node not in nodes and not any(identity(path) in found for path in disk.links):
            notes.append(f"{disk.node} {disk.name} is not in the snapshot's list, the disk is left out")
        elif disk.links and identity(disk.links[0]) in found:
            notes.append(f"{disk.node} {disk.name} is the running disk: it may have been written since")
    if not snapshot.files:
        notes.append("the list names no disk")
    paths = tuple(found.values())
    name = snapshot.name if snapshot.name.strip() else (paths[0].path.name if paths else "")
    return FrozenState(name, snapshot, paths, tuple(notes))


def _in_chains(disk: SnapshotDisk, disks: Sequence[RunningDisk]) -> Path | None:
    """The link of a running chain that a disk of a snapshot names: of the disk at its node, of any where that is not known.

    Disks on several datastores may have the same names.
    """
    name = name_parts(disk.filename)[-1]
    at_node = [running for running in disks if running.node == disk.node and running.links]
    return next((path for running in at_node or disks for path in running.links if path.name == name), None)


def _unlisted(disks: Sequence[RunningDisk], listed: set[str], problems: list[str]) -> Iterator[FrozenState]:
    """The depths of the running chains that no entry of the list names.

    Links of several disks belong together by their depth: a snapshot gives each disk of the VM a new link, and a disk that
    was added later has fewer of them.
    """
    for depth in range(1, max((len(disk.links) for disk in disks), default=0)):
        level = [(disk, disk.links[depth]) for disk in disks if len(disk.links) > depth]
        unknown = [(disk, path) for disk, path in level if identity(path) not in listed]
        if unknown and len(unknown) < len(level):
            problems += [f"{disk.node} {path.name} is in no snapshot of the list" for disk, path in unknown]
        elif unknown:
            notes = [
                f"{disk.node} {disk.name} has no link that old, the disk is left out"
                for disk in disks
                if len(disk.links) <= depth
            ]
            snapshot = _named_elsewhere(disks, unknown)
            name = snapshot.name if snapshot is not None and snapshot.name.strip() else unknown[0][1].name
            paths = tuple(FrozenDisk(disk.node, path) for disk, path in unknown)
            yield FrozenState(name, snapshot, paths, tuple(notes))


def _named_elsewhere(disks: Sequence[RunningDisk], links: Sequence[tuple[RunningDisk, Path]]) -> Snapshot | None:
    """The entry for a link in another folder: a linked clone is based on a snapshot of its template."""
    own = {identity(disk.links[0].parent) for disk in disks if disk.links}
    folders = {path: folder for disk in disks for path, folder in zip(disk.links, disk.folders)}
    for _, path in links:
        if identity(path.parent) not in own and path in folders:
            entries = [snapshot for found in lists_of(folders[path]) for snapshot in found.snapshots]
            if (snapshot := next((s for s in entries if path.name in s.disks), None)) is not None:
                return snapshot
    return None


def _in_order(states: list[FrozenState], disks: Sequence[RunningDisk], folder: Folder) -> list[FrozenState]:
    """Oldest first: what a state is based on comes before it, whatever the times say; else by the times."""
    lines = {identity(path): disk.links[depth:] for disk in disks for depth, path in enumerate(disk.links)}
    own = [{identity(disk.path) for disk in state.disks} for state in states]
    below = [
        {identity(path) for disk in state.disks for path in line_of(disk.path, folder, lines)} - ids
        for state, ids in zip(states, own)
    ]
    keys = []
    for number, state in enumerate(states):
        older = [states[other] for other, ids in enumerate(own) if other != number and ids & below[number]]
        times = [found.created.timestamp() for found in (state, *older) if found.created is not None]
        keys.append((max(times, default=0.0), len(older), number))
    return [states[number] for _, _, number in sorted(keys)]


def line_of(path: Path, folder: Folder, known: dict[str, tuple[Path, ...]] | None = None) -> tuple[Path, ...]:
    """A descriptor and those that it is based on, newest first, as far as they are there.

    Args:
        path: The descriptor.
        folder: From where evidence names it.
        known: What is known already, by the identity of the newest: a chain that is open knows best what it is made of.
            What is found out is added.
    """
    known = known if known is not None else {}
    found: list[Path] = []
    rest: tuple[Path, ...] = ()
    for step in lineage(path, folder) if identity(path) not in known else ():
        assert step.path is not None
        if found and (line := known.get(identity(step.path))) is not None:
            rest = line
            break
        found.append(step.path)
    line = (*found, *rest) if found else known.get(identity(path), (path,))
    known[identity(path)] = line
    return line
