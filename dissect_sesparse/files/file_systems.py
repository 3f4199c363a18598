"""The deleted files of a disk by name, from all states of the disk that its chain has.

Each state is opened as dissect would open it, see ``volumes``. A file system is the same in two states by its serial number
or UUID, and where it has none by its place.

- NTFS: see ``ntfs_files``.
- ext: see ``files.ext_files``.
- All others that dissect mounts: the inode of a deleted file is gone, so older states are asked for files that the running
  guest does not have. A file is the same by its inode and what tells that inode's uses apart, and where nothing does by inode
  or path: a file that was renamed is not deleted, and where a doubt remains a file is not told. Their bytes are those of the
  newest state that has them, in links that nothing can have written to since.

What was not looked at, or not to its end, is said behind the files by an error, so that nobody takes it for *none*.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dissect_sesparse.files.btrfs_subvolumes import LiveSubvolumes
from dissect_sesparse.files.deleted import Budget, DeletedFile
from dissect_sesparse.files.deletion import deletion_after_state
from dissect_sesparse.files.ext_files import ext_deleted_files
from dissect_sesparse.files.fat_files import FatGuest
from dissect_sesparse.files.guest_log import GuestLog
from dissect_sesparse.files.known import KnownFiles
from dissect_sesparse.files.not_looked import Warnings
from dissect_sesparse.files.ntfs_files import ntfs_deleted_files
from dissect_sesparse.files.state_file import MAX_FILES, file_of_state
from dissect_sesparse.files.trust import doubt_of, doubt_of_file
from dissect_sesparse.files.volumes import Unopened, VolumeState, hidden, open_volumes
from dissect_sesparse.files.walk import FileWalk, Key
from dissect_sesparse.files.xfs_files import XfsGuest
from dissect_sesparse.ntfs.view import NtfsView
from dissect_sesparse.time.time_window import TimeWindows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dissect_sesparse.chain.chain import Chain


_GUESTS = {"xfs": XfsGuest, "fat": FatGuest}
"""File systems that keep more of deleted files, and who reads it."""


def deleted_files(chain: Chain, warn: Callable[[str], None]) -> Iterator[DeletedFile]:
    """The deleted files of a disk.

    Args:
        chain: The disk.
        warn: Gets what is not told, and why.

    Raises:
        NotAllLookedAtError: Behind the last file, if there are volumes, or states of them, that were not looked at.
    """
    warnings = Warnings(warn, chain.name)
    budget = Budget(4 * len(chain.links) * chain.size, warnings)
    running: list[Unopened] = []
    for states in states_of_volumes(chain, warnings, running):
        if states[0].depth and (why := hidden(states[0], running)):
            warnings.missed(states[0].name, f"{states[0].name}: nothing tells which of its files are deleted: {why}")
            continue
        try:
            if states[0].fs.__type__ == "ntfs":
                views = [
                    NtfsView(s.depth, s.fs.ntfs, s.volume.size, s.place, doubt_of(s.fs, s.volume))  # type: ignore[attr-defined]
                    for s in states
                ]
                missed = partial(warnings.missed, states[0].name)
                yield from ntfs_deleted_files(chain, views, states[0].name, budget, warnings, missed)
            elif states[0].fs.__type__ == "ext":
                yield from ext_deleted_files(chain, states, budget, warnings)
            else:
                yield from _gone(chain, states, budget, warnings)
        except Exception as e:  # one broken file system never costs the others
            why = f"{states[0].name}: not all of its deleted files are told: {e or type(e).__name__}"
            warnings.missed(states[0].name, why)
    warnings.end()


# States


def states_of_volumes(chain: Chain, warnings: Warnings, running: list[Unopened]) -> list[list[VolumeState]]:
    """The states of each file system of a disk, newest first.

    Args:
        chain: The disk.
        warnings: Gets what is not opened.
        running: Gets what is not opened of the running state.
    """
    return _same(_states(chain, warnings, running))


def _states(chain: Chain, warnings: Warnings, running: list[Unopened]) -> Iterator[VolumeState]:
    """The file systems of all states of a disk, newest first. What is not opened is missed.

    Args:
        chain: The disk.
        warnings: Gets what is missed.
        running: Gets what is not opened of the running state.
    """
    for depth in range(len(chain.links)):
        opened = open_volumes(chain, depth)
        running += opened.unopened if depth == 0 else ()
        yield from opened.states
        for unopened in opened.unopened:
            (warnings if unopened.level == "info" else partial(warnings.missed, unopened.where))(unopened.message)


def _same(states: Iterator[VolumeState]) -> list[list[VolumeState]]:
    """Group the states of each file system, newest first."""
    groups: list[list[VolumeState]] = []
    for state in states:
        same = [
            group for group in groups
            if group[0].serial == state.serial and group[-1].depth != state.depth
        ]  # fmt: skip
        here = [group for group in same if (group[0].place, group[0].name) == (state.place, state.name)]
        if here:
            here[0].append(state)
        elif same and state.serial[1] is not None:  # it was moved
            same[0].append(state)
        else:
            groups.append([state])
    return groups


# File systems in which the inode of a deleted file is gone


def _gone(chain: Chain, states: Sequence[VolumeState], budget: Budget, warnings: Warnings) -> Iterator[DeletedFile]:
    """The files of older states that the running guest does not have."""
    running = states[0] if states[0].depth == 0 else None
    windows = TimeWindows(chain)
    guest = _GUESTS.get(states[0].fs.__type__)
    if len(states) == 1 and running is not None and guest is None:
        return
    log = guest(chain, windows, states, warnings) if guest is not None else GuestLog()
    known = KnownFiles()
    subvolumes = LiveSubvolumes()
    doubtful = count = 0
    if running is not None and not _take_in(running, known, subvolumes, warnings):
        return
    partial: set[int] = set()
    for number, state in enumerate(states):
        if state is running:
            continue
        doubt = doubt_of(state.fs, state.volume)
        deletion = deletion_after_state(chain, windows, states, number, partial)
        walk = FileWalk(state, warnings, subvolumes.lacks_top)
        for path, entry, info in walk:
            key = Key(entry, info)
            seen = known.judge(key, path)
            known.add(key, path)
            if seen != "new":
                doubtful += seen == "doubtful"
                continue
            if subvolumes.keeps(entry, info) or log.keeps(entry):
                continue
            subvolumes.keep(entry, info)
            count += 1
            if count > MAX_FILES:
                warnings.missed(state.name, f"{state.name}: more than {MAX_FILES} deleted files, the rest is not told")
                return
            why = doubt or doubt_of_file(state.fs, entry)
            file = file_of_state(chain, state, (path, entry, info), why, deletion, budget, warnings)
            yield log.completed(subvolumes.named(file, entry), entry, state.depth)
        partial.update([] if walk.whole else [state.depth])
    yield from log.others()
    if doubtful:
        why = f"{states[0].name}: {doubtful} files may be deleted or renamed, nothing tells which: they are not told"
        warnings.missed(states[0].name, why)


def _take_in(running: VolumeState, known: KnownFiles, subvolumes: LiveSubvolumes, warnings: Warnings) -> bool:
    """Take in what the running guest has, and whether that is all of it: else nothing tells which files are deleted."""
    walk = FileWalk(running, warnings)
    for path, entry, info in walk:
        known.add(Key(entry, info), path, living=True)
        subvolumes.keep(entry, info)
    subvolumes.add(walk.subvolumes)
    if not walk.whole:
        why = f"{running.name}: as not all of its files can be read, nothing tells which are deleted"
        warnings.missed(running.name, why)
    return walk.whole
