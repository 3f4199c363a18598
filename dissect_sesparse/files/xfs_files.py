"""The deleted files of XFS, by what its logs and freed inodes say beside its older states.

- When a file that a state has was deleted: by its freed inode, or by the log.
- Files that were made and deleted between two states, of which the log has the inode and a name. Nothing shows whose the
  blocks are that they had, so there are no bytes of them.
- Files that only seem to be gone, as folder and inode were not written yet when the state was taken, and the log has them.
"""

from __future__ import annotations

import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dissect_sesparse.files.deleted import DeletedFile
from dissect_sesparse.files.deletion import deletion_since
from dissect_sesparse.files.guest_log import GuestLog
from dissect_sesparse.files.story import Event, Naming
from dissect_sesparse.files.walk import time_of
from dissect_sesparse.time.time_window import CLOCK_TICK
from dissect_sesparse.xfs.history import Use, XfsHistory
from dissect_sesparse.xfs.paths import XfsPaths

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.files.not_looked import Warnings
    from dissect_sesparse.files.story import Deletion
    from dissect_sesparse.files.volumes import VolumeState
    from dissect_sesparse.time.time_window import TimeWindow, TimeWindows
    from dissect_sesparse.xfs.history import Life, Moment, NamedUse
    from dissect_sesparse.xfs.items import InodeImage

_LAST_CHANGE = (
    "then its inode was changed for the last time, by the guest's clock: it was deleted, or, still open, written to"
)
_CONTRADICTS = "that is not within the snapshots' times: one of the clocks is wrong, and the window is theirs"
_NO_TIMES = "the log of XFS has an order, and no times"


class XfsGuest(GuestLog):
    """What XFS kept of deleted files.

    Args:
        chain: The disk.
        windows: Its windows.
        states: The file system in all states of the disk, newest first.
        warnings: Gets what is not looked at.
    """

    def __init__(self, chain: Chain, windows: TimeWindows, states: Sequence[VolumeState], warnings: Warnings):
        self._chain = chain
        self._windows = windows
        self._state = states[0]
        self._warnings = warnings
        self._history = XfsHistory(states, lambda why: warnings.missed(states[0].name, why))
        self._paths = XfsPaths(self._history)
        self._of_states: set[Use] = set()
        """Files that a state has, and the running guest has not, as far as its folders say."""
        self._from = {state.depth: states[number:] for number, state in enumerate(states)}
        """By depth a state and those below it."""

    def keeps(self, entry: Any) -> bool:
        self._of_states.add(use := _use_of(entry))
        return self._history.is_live(use)

    def completed(self, file: DeletedFile, entry: Any, depth: int) -> DeletedFile:
        use = _use_of(entry)
        life = self._history.lives.get(use)
        if life is not None and life.end is not None:
            deletion = self._by_log(life, life.end)
            named = bool(self._history.names(use))
            also = (*file.naming.also, "journal") if named else file.naming.also
            return replace(file, deletion=deletion, naming=file.naming._replace(also=also))
        if (freed := self._history.freed(use, depth)) is not None:
            inode, newer = freed
            deletion = self._between(depth, newer)
            basis = f"{deletion.basis}; by its freed inode: {_LAST_CHANGE}"
            return replace(file, deletion=_logged(deletion._replace(basis=basis), inode))
        return file

    def others(self) -> Iterator[DeletedFile]:
        nameless = 0
        for use, life in self._history.lives.items():
            if life.end is None or not stat.S_ISREG(life.image.mode) or use in self._of_states:
                continue
            if names := self._history.names(use):
                yield self._file(use, life, life.end, names)
            else:
                nameless += 1
        if nameless:
            self._warnings(f"{self._state.name}: its log has {nameless} more deleted files without a name")

    def _by_log(self, life: Life, end: InodeImage) -> Deletion:
        assert life.ended is not None
        deletion = self._between(*self._history.depth_of(life.ended))
        basis = f"{deletion.basis}; by the log: {_LAST_CHANGE}; {_NO_TIMES}"
        return _logged(deletion._replace(basis=basis), end)

    def _file(self, use: Use, life: Life, end: InodeImage, names: list[NamedUse]) -> DeletedFile:
        deletion = self._by_log(life, end)
        assert life.ended is not None
        _, newer = self._history.depth_of(life.ended)
        link, image = self._chain.links[newer], life.image
        last = max(names, key=lambda name: (name.last, name.first))
        paths = [self._path(name) for name in names if name.last == last.last and name is not last]
        has_it = f"its log as of {link.name} has its inode, and this as the last of its names"
        if paths:
            has_it += (
                f"; it had other names too, and nothing tells which it lost last: {_printable(', '.join(paths[:10]))}"
            )
        return DeletedFile(
            link=link,
            volume=self._state.name,
            path=_printable(self._path(last)),
            size=max(0, min(image.size, (1 << 63) - 1)),
            mtime=time_of(image.modified),
            btime=time_of(image.born),
            atime=time_of(image.accessed),
            inode=use.number,
            filesystem="xfs",
            naming=Naming("journal", "ambiguous" if paths else "likely", has_it),
            deletion=deletion,
            proof="",
            pieces=lambda: iter(()),
            lost="no state has the file, and nothing shows that the blocks that it had are as it left them",
            known=False,
            place=self._state.place,
            story=tuple(self._story(life, names, last, deletion)),
        )

    def _path(self, named: NamedUse) -> str:
        return f"{self._paths.of(named.folder, named.last)}/{named.name.decode(errors='surrogateescape')}".lstrip("/")

    def _story(self, life: Life, names: list[NamedUse], last: NamedUse, deletion: Deletion) -> Iterator[Event]:
        """What happened to a file that no state has, oldest first."""
        paths = [_printable(self._path(name)) for name in names]
        if born := time_of(life.image.born):
            window = self._window(life.begun)
            yield Event("made", paths[0], born, window, "its inode says when it was made, by the guest's clock")
        for before, name, old, new in zip(names, names[1:], paths, paths[1:]):
            if before.last < name.first:
                yield Event("renamed", new, None, self._window(name.first), f"by the log; {_NO_TIMES}", old)
        yield Event("deleted", paths[names.index(last)], deletion.logged, deletion.window, deletion.basis)

    def _window(self, moment: Moment) -> TimeWindow:
        return self._between(*self._history.depth_of(moment)).window

    def _between(self, older: int | None, newer: int) -> Deletion:
        """By the states at these depths. What a guest that was in use had not written down yet may be older than its state."""
        return deletion_since(self._chain, self._windows, self._from[older] if older is not None else (), newer)


def _use_of(entry: Any) -> Use:
    return Use(entry.entry.inum, entry.entry.inode.di_gen)


def _logged(deletion: Deletion, inode: InodeImage) -> Deletion:
    """A deletion with the time that an inode has of its last change: before that it was deleted."""
    logged = time_of(inode.changed)
    if logged is None:
        return deletion
    after, before = deletion.window
    if (after and logged < after) or (before and logged > before):
        return deletion._replace(logged=logged, basis=f"{deletion.basis}; {_CONTRADICTS}")
    return deletion._replace(logged=logged, window=deletion.window.narrowed(before=logged + CLOCK_TICK))


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()
