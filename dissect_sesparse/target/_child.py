"""The snapshots of a VM as its child targets: what ``--list-children`` lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dissect.target.exceptions import UnsupportedPluginError
from dissect.target.helpers.record import ChildTargetRecord
from dissect.target.plugin import ChildTargetPlugin

from dissect_sesparse.target.context import CHILD_OF

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flow.record import Record

NAMED = "name" in ChildTargetRecord.fields
"""Whether a child's record has a name: not before dissect.target 3.24, where the path tells it."""


class SESparseChildTargetPlugin(ChildTargetPlugin):
    """The snapshots of a VM, oldest first, each with all its disks as they were when it was taken."""

    __type__ = "sesparse"

    def check_compatible(self) -> None:
        if not any(getattr(disk, "__type__", None) == "sesparse" for disk in self.target.disks):
            raise UnsupportedPluginError("No seSparse disks found on target")
        if CHILD_OF in self.target.props:
            raise UnsupportedPluginError("This is a snapshot: its parent lists them all")

    def list_children(self) -> Iterator[Record]:
        # Not at the top: this module is imported at every start, those only with a disk of ours
        from dissect_sesparse.target.child import snapshot_at
        from dissect_sesparse.target.tree import ROOT, SNAPSHOTS, mount

        mount(self.target)  # where the target was opened with apply=False
        folder = self.target.fs.path(f"{ROOT}/{SNAPSHOTS}")
        for path in sorted(folder.iterdir(), key=lambda path: _number(path.name)):
            if (found := snapshot_at(path)) is not None:
                name = {"name": found.state.name} if NAMED else {}
                yield ChildTargetRecord(type=self.__type__, path=path, **name, _target=self.target)


def _number(name: str) -> int:
    number = name.partition("-")[0]
    return int(number) if number.isdecimal() else -1  # a guest may have files of its own there
