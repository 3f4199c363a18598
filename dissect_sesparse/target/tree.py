r"""What this package adds to the file system of a target: ``/$sesparse$``, beside dissect's own ``/$fs$``.

::

    /$sesparse$/snapshots/00-before_patch               each state that a snapshot froze: opened by --child, as text what
                                                        it is made of
    /$sesparse$/unmapped/vm-000002.vmdk/00000230e000-0.bin  each run that ``sesparse.unmapped`` calls present, its old bytes:
                                                        its disk, its offset on the disk, the depth of its link

The times of a snapshot are when it was taken. Those of a run are its link's, by the snapshots: changed not after the link was
frozen, so that is ``mtime`` (and ``ctime`` and ``atime``); born not before the link below was, so that is ``btime``. Of a link
that is not frozen, or of which no snapshot list has a time, the first three are 0, which dissect shows as 1970: a time that is
not known, and none is made up for it.

Only virtual entries are added, in a file system of their own: no disk and no volume, so nothing that looks for operating
systems meets it, and the guest's file systems stay as they are. Folders are filled when they are first looked into: opening
a target reads no tables. Whatever walks the whole tree (``walkfs``, ``yara``) looks into them, as into ``/$fs$``.
See :mod:`~dissect_sesparse.target.mounting` for how it gets there.
"""

from __future__ import annotations

import io
import json
from datetime import datetime, timedelta, timezone
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, BinaryIO

from dissect.target.filesystem import VirtualDirectory, VirtualFile, VirtualFilesystem

from dissect_sesparse.findings.findings import Finding
from dissect_sesparse.recovery.safe_name import safe_names
from dissect_sesparse.source.errors import SESparseError
from dissect_sesparse.target.context import CHILD_OF
from dissect_sesparse.target.machine import sesparse_disks, snapshot_states
from dissect_sesparse.trimmed.unmapped import unmapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dissect.target.filesystem import DirEntry, Filesystem, FilesystemEntry
    from dissect.target.helpers.fsutil import stat_result
    from dissect.target.target import Target

    from dissect_sesparse.target.container import SESparseContainer
    from dissect_sesparse.time.states import FrozenState
    from dissect_sesparse.trimmed.unmapped import UnmappedRun

ROOT = "/$sesparse$"
SNAPSHOTS = "snapshots"
"""The folder of the states that snapshots froze."""
UNMAPPED = "unmapped"
"""The folder of what was trimmed and is still there."""
MAX_FILES = 50_000
"""Runs of a disk that are files. Some 50 MB of memory."""
MAX_LOOKED_AT = 64 * 1024**3
"""Unmapped bytes of a disk that are read to tell which runs are present: some minutes."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def mount(target: Target) -> None:
    """Add the tree to a target that has a disk of ours, once."""
    if ROOT in target.fs.mounts or not sesparse_disks(target):
        return
    if target.fs.path(ROOT).exists():
        target.log.warning("The guest has a %s too: its entries appear among those of this package", ROOT)
    # Names in it differ by more than their case, so that it serves guests of either kind.
    tree = VirtualFilesystem(case_sensitive=False)
    if CHILD_OF not in target.props:
        tree.map_file_entry(SNAPSHOTS, LazyDirectory(tree, SNAPSHOTS, partial(_snapshots, target, tree)))
    disks = sesparse_disks(target)
    for disk, name in zip(disks, safe_names(disk.chain.name for disk in disks)):
        path = f"{UNMAPPED}/{name}"
        tree.map_file_entry(path, LazyDirectory(tree, path, partial(_present, target, disk, tree, path)))
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
        fields = {
            "name": state.name,
            "uid": state.snapshot.uid if state.snapshot is not None else None,
            "created": state.created.isoformat() if state.created is not None else None,
            "disks": [{"node": disk.node, "path": str(disk.path)} for disk in state.disks],
            "notes": state.notes,
        }
        return json.dumps(fields, indent=2, ensure_ascii=False).encode(errors="replace") + b"\n"

    def lstat(self) -> stat_result:
        result = _with_times(super().lstat(), self.state.created, self.state.created)
        result.st_size = len(self._text())
        return result


def _snapshots(target: Target, tree: VirtualFilesystem) -> Iterator[SnapshotFile]:
    states = snapshot_states(target)
    for number, (state, name) in enumerate(zip(states, safe_names(state.name for state in states))):
        yield SnapshotFile(tree, f"{SNAPSHOTS}/{number:02}-{name}", state, target)


class RunFile(VirtualFile):
    """The old bytes of an unmapped run; at most 16 MiB."""

    entry: UnmappedRun

    def open(self) -> BinaryIO:
        return io.BytesIO(self.entry.read())

    def lstat(self) -> stat_result:
        return _with_times(super().lstat(), self.entry.after, self.entry.before)


def _with_times(result: stat_result, born: datetime | None, changed: datetime | None) -> stat_result:
    """The same with times, as far as they are known."""
    times = (born, changed)
    birth, last = (0 if time is None else (time - _EPOCH) // timedelta(microseconds=1) * 1000 for time in times)
    names = ("st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size")
    fields = [getattr(result, name) for name in names]
    timed = type(result)([*fields, *[last // 10**9] * 3, *[last / 1e9] * 3, *[last] * 3])
    if birth:
        timed.st_birthtime, timed.st_birthtime_ns = birth / 1e9, birth
    return timed


def _present(target: Target, disk: SESparseContainer, tree: VirtualFilesystem, folder: str) -> Iterator[RunFile]:
    """The unmapped runs of a disk whose bytes are there. Where they are not all, log and findings say so."""
    target.log.info("%s: reading what the guest trimmed", disk.chain.name)
    count = looked_at = 0
    problem = None
    try:
        for run in unmapped(disk.chain, contents=False):
            looked_at += run.size if run.state in ("present", "empty", "contested") else 0
            if run.state == "present":
                if count == MAX_FILES or looked_at > MAX_LOOKED_AT:
                    problem = (
                        f"only the first {count} are files: sesparse.unmapped and dissect-sesparse recover have all"
                    )
                    break
                count += 1
                yield RunFile(tree, f"{folder}/{run.offset:012x}-{run.link.depth}.bin", run)
    except SESparseError as e:
        problem = f"the first {count} are files, then the tables cannot be read: {e}"
    if problem is not None:
        message = f"unmapped runs of {disk.chain.name} in {ROOT}/{folder}: {problem}"
        target.log.error("%s", message)
        disk.notes.append(Finding("files-left-out", "warning", message, 0, disk.chain.links[0].path))
