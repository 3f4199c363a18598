"""A snapshot as a target: what ``--child`` opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dissect.target import container
from dissect.target.exceptions import LoaderError
from dissect.target.helpers.fsutil import TargetPath
from dissect.target.loader import Loader

from dissect_sesparse.findings.findings import Finding
from dissect_sesparse.source.folder import identity
from dissect_sesparse.target.container import SESparseContainer
from dissect_sesparse.target.context import CHILD_OF, URI_OPTIONS, WITHIN
from dissect_sesparse.target.machine import inherited_options, opening_of, sesparse_disks
from dissect_sesparse.target.tree import SnapshotFile
from dissect_sesparse.target.vm import reason_of

if TYPE_CHECKING:
    from pathlib import Path

    from dissect.target.target import Target

    from dissect_sesparse.time.states import FrozenDisk, FrozenState


def snapshot_at(path: Path) -> SnapshotFile | None:
    """The state that a path in the file system of a target is, if it is one."""
    if not isinstance(path, TargetPath):
        return None
    try:
        entry = path.get()
    except Exception:  # whatever the evidence is, it is none of ours
        return None
    layers = getattr(entry, "entries", [entry])
    return next((layer for layer in layers if isinstance(layer, SnapshotFile)), None)


class SESparseSnapshotLoader(Loader):
    """Load a VM as a snapshot froze it, from the entry for it in the file system of its parent."""

    def __init__(self, path: Path, **kwargs):
        super().__init__(path, **kwargs)
        snapshot = snapshot_at(path)
        if snapshot is None:
            raise LoaderError(f"no snapshot: {path}")
        self.state, self.parent = snapshot.state, snapshot.parent

    @staticmethod
    def detect(path: Path) -> bool:
        return snapshot_at(path) is not None

    def map(self, target: Target) -> None:
        map_state(target, self.parent, self.state)


def map_state(target: Target, parent: Target, state: FrozenState) -> None:
    """Give a target the disks of a state of another one.

    Args:
        target: Gets them.
        parent: The machine as it runs, which stays open.
        state: Of that.

    Raises:
        LoaderError: If no disk of it can be opened.
    """
    target.props[CHILD_OF] = parent
    for note in state.notes:
        target.log.warning("%s: %s", state.name, note)
    reasons = []
    with_options = URI_OPTIONS.set(inherited_options(parent))
    try:
        for disk in state.disks:
            try:
                target.disks.add(_opened(parent, disk))
            except Exception as e:
                reasons.append(f"{disk.node} {disk.path.name}: {reason_of(e)}")
                target.log.error("Disk left out: %s", reasons[-1])  # noqa: TRY400
                target.log.debug("", exc_info=e)
    finally:
        URI_OPTIONS.reset(with_options)
    if not len(target.disks.entries):
        raise LoaderError(f"No disk of snapshot {state.name} can be opened: {'; '.join(reasons)}")
    if disks := sesparse_disks(target):
        disks[0].notes += [
            Finding("snapshot-list-mismatch", "warning", f"{state.name}: {note}", 0, disks[0].chain.links[0].path)
            for note in state.notes
        ]


def _opened(parent: Target, disk: FrozenDisk) -> container.Container:
    """The container of a disk: ours for each link of a chain of ours, so that its base is read by the same rules."""
    links = {identity(link.path) for ours in sesparse_disks(parent) for link in ours.chain.links}
    opening = opening_of(parent, disk.path)
    within = WITHIN.set(opening.within)
    try:
        if identity(disk.path) in links:
            return SESparseContainer(disk.path, parent=opening.parent)
        named = {"parent": str(opening.parent)} if opening.parent is not None else {}
        with_parent = URI_OPTIONS.set({**URI_OPTIONS.get(), **named})
        try:
            return container.open(disk.path)
        finally:
            URI_OPTIONS.reset(with_parent)
    finally:
        WITHIN.reset(within)
