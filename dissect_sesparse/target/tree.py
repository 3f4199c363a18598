r"""What this package adds to the file system of a target: ``/$sesparse$``, beside dissect's own ``/$fs$``.

::

    /$sesparse$/snapshots/00-before_patch   each state that a snapshot froze; opened by --child, lists its files as text

Only virtual entries are added, in a file system of their own: no disk and no volume, so nothing that looks for operating
systems meets it, and the guest's file systems stay as they are. Folders are filled when they are first looked into.
See :mod:`~dissect_sesparse.target.mounting` for how it gets there.
"""

from __future__ import annotations

import io
import json
from threading import RLock
from typing import TYPE_CHECKING, BinaryIO

from dissect.target.filesystem import VirtualDirectory, VirtualFile, VirtualFilesystem

from dissect_sesparse.evidence.safe_name import safe_names
from dissect_sesparse.target.context import CHILD_OF
from dissect_sesparse.target.machine import sesparse_disks, states_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dissect.target.filesystem import DirEntry, Filesystem, FilesystemEntry
    from dissect.target.helpers.fsutil import stat_result
    from dissect.target.target import Target

    from dissect_sesparse.evidence.states import FrozenState

ROOT = "/$sesparse$"
SNAPSHOTS = "snapshots"
"""The folder of the states that snapshots froze."""


def mount(target: Target) -> None:
    """Add the tree to a target that has a disk of ours, once."""
    if ROOT in target.fs.mounts or not sesparse_disks(target):
        return
    if target.fs.path(ROOT).exists():
        target.log.warning("The guest has a %s too: its entries appear among those of this package", ROOT)
    # Names in it differ by more than their case, so that it serves guests of either kind.
    tree = VirtualFilesystem(case_sensitive=False)
    if CHILD_OF not in target.props:
        tree.map_file_entry(SNAPSHOTS, LazyDirectory(tree, SNAPSHOTS, lambda: _snapshots(target, tree)))
    target.fs.mount(ROOT, tree)


class LazyDirectory(VirtualDirectory):
    """A folder that is filled when it is first looked into.

    Args:
        fs: The file system it is in.
        path: Its path in there.
        fill: Yields its entries. What it raises is for whoever looks into the folder; it is asked again the next time.
    """

    def __init__(self, fs: VirtualFilesystem, path: str, fill: Callable[[], Iterator[FilesystemEntry]]):
        super().__init__(fs, path)
        self.up = fs.root
        self._fill: Callable[[], Iterator[FilesystemEntry]] | None = fill
        self._lock = RLock()

    def filled(self) -> dict[str, FilesystemEntry]:
        """Its entries, by name."""
        with self._lock:
            if self._fill is not None:
                entries = list(self._fill())
                self._fill = None
                for entry in entries:
                    self.add(entry.name, entry)
        return self.entries

    def __getitem__(self, item: str) -> FilesystemEntry:
        self.filled()
        return super().__getitem__(item)

    def __contains__(self, item: str) -> bool:
        self.filled()
        return super().__contains__(item)

    def scandir(self) -> Iterator[DirEntry]:
        self.filled()
        yield from super().scandir()


class SnapshotFile(VirtualFile):
    """A state that a snapshot froze. Its text tells what it is; the loader of children opens it."""

    def __init__(self, fs: Filesystem, path: str, state: FrozenState, parent: Target):
        super().__init__(fs, path, None)
        self.state = state
        self.parent = parent

    def open(self) -> BinaryIO:
        return io.BytesIO(self._text())

    def _text(self) -> bytes:
        state = self.state
        told = {
            "name": state.name,
            "uid": state.snapshot.uid if state.snapshot is not None else None,
            "created": state.created.isoformat() if state.created is not None else None,
            "disks": [{"node": disk.node, "path": str(disk.path)} for disk in state.disks],
            "notes": state.notes,
        }
        return json.dumps(told, indent=2, ensure_ascii=False).encode(errors="replace") + b"\n"

    def lstat(self) -> stat_result:
        result = super().lstat()
        result.st_size = len(self._text())
        return result


def _snapshots(target: Target, tree: VirtualFilesystem) -> Iterator[SnapshotFile]:
    states = states_of(target)
    for number, (state, name) in enumerate(zip(states, safe_names(state.name for state in states))):
        yield SnapshotFile(tree, f"{SNAPSHOTS}/{number:02}-{name}", state, target)
