"""The deleted files of a disk by name, from all states of the disk that its chain has.

Each state is opened as dissect would open it, see ``volumes``. A file system is the same in two states by its serial number
or UUID, and where it has none by its place.

- NTFS: see ``evidence.ntfs_files``.
- All others that dissect mounts: the inode of a deleted file is gone, so older states are asked for files that the running
  guest does not have. A file is the same by its inode and what tells that inode's uses apart, and where nothing does by inode
  or path: a file that was renamed is not deleted, and where a doubt remains a file is not told. Their bytes are those of the
  newest state that has them, in links that nothing can have written to since.

What was not looked at, or not to its end, is said behind the files by an error, so that nobody takes it for *none*.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from dissect_sesparse.files.btrfs_subvolumes import LiveSubvolumes, of_lost_subvolume
from dissect_sesparse.files.deleted import Budget, DeletedFile, Piece, read_pieces
from dissect_sesparse.files.deletion import deletion_between
from dissect_sesparse.files.mft import NtfsView
from dissect_sesparse.files.not_looked import Warnings
from dissect_sesparse.files.ntfs_files import ntfs_deleted_files
from dissect_sesparse.files.story import Deletion, Naming
from dissect_sesparse.files.trust import doubt_of, doubt_of_file, fault_of_file
from dissect_sesparse.files.volumes import Unopened, VolumeState, hidden, open_volumes
from dissect_sesparse.files.walk import FileWalk, Key, entry_at, time_of
from dissect_sesparse.time.time_window import TimeWindows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dissect.target.filesystem import FilesystemEntry

    from dissect_sesparse.chain.chain import Chain

MAX_FILES = 1_000_000
"""Deleted files of a file system."""
_UNIT = 512


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
    for states in _same(_states(chain, warnings, running)):
        if states[0].depth and (why := hidden(states[0], running)):
            warnings.missed(states[0].name, f"{states[0].name}: nothing tells which of its files are deleted: {why}")
            continue
        try:
            if states[0].fs.__type__ == "ntfs":
                views = [
                    NtfsView(s.depth, s.fs.ntfs, s.volume.size, s.place, doubt_of(s.fs, s.volume))  # type: ignore[attr-defined]
                    for s in states
                ]
                yield from ntfs_deleted_files(chain, views, states[0].name, budget, warnings)
            else:
                yield from _gone(chain, states, budget, warnings)
        except Exception as e:  # one broken file system never costs the others
            why = f"{states[0].name}: not all of its deleted files are told: {e or type(e).__name__}"
            warnings.missed(states[0].name, why)
    warnings.end()


# States


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
    if len(states) == 1 and running is not None:
        return
    known: set[int] = set()
    subvolumes = LiveSubvolumes()
    doubtful = listed = 0
    if running is not None and not _take_in(running, known, subvolumes, warnings):
        return
    windows = TimeWindows(chain)
    for newer, state in zip((None, *states), states):
        if state is running:
            continue
        deletion = deletion_between(chain, windows, state.depth, newer.depth if newer is not None else None)
        doubt = doubt_of(state.fs, state.volume)
        for path, entry, info in FileWalk(state, warnings, subvolumes.lacks_top):
            key = Key(entry, info)
            if key.key in known and key.key is not None:
                doubtful += not key.sure and not _has(running, path)
                continue
            if not key.sure and _has(running, path):
                continue
            if key.key is not None:
                known.add(key.key)
            if (lost := subvolumes.lacks(entry)) and subvolumes.keeps(entry, info):
                continue
            subvolumes.keep(entry, info)
            listed += 1
            if listed > MAX_FILES:
                warnings.missed(state.name, f"{state.name}: more than {MAX_FILES} deleted files, the rest is not told")
                return
            why = doubt or doubt_of_file(state.fs, entry)
            file = _file(chain, state, path, entry, info, why, deletion, budget, warnings)
            yield replace(file, naming=of_lost_subvolume(file.naming)) if lost else file
    if doubtful:
        why = f"{states[0].name}: {doubtful} files may be deleted or renamed, nothing tells which: they are not told"
        warnings.missed(states[0].name, why)


def _take_in(running: VolumeState, known: set[int], subvolumes: LiveSubvolumes, warnings: Warnings) -> bool:
    """Take in what the running guest has, and whether that is all of it: else nothing tells which files are deleted."""
    walk = FileWalk(running, warnings)
    for _, entry, info in walk:
        known.update(() if (key := Key(entry, info).key) is None else (key,))
        subvolumes.keep(entry, info)
    subvolumes.add(walk.subvolumes)
    if not walk.whole:
        why = f"{running.name}: as not all of its files can be read, nothing tells which are deleted"
        warnings.missed(running.name, why)
    return walk.whole


def _has(running: VolumeState | None, path: str) -> bool:
    """Whether the running guest has a file of that path."""
    try:
        return running is not None and entry_at(running.fs, path) is not None
    except Exception:  # it has not, or it cannot be told where it should be
        return False


def _file(
    chain: Chain,
    state: VolumeState,
    path: str,
    entry: FilesystemEntry,
    info: Any,
    doubt: str,
    deletion: Deletion,
    budget: Budget,
    warnings: Warnings,
) -> DeletedFile:
    size, has_it = info.st_size, f"its file system as of {chain.links[state.depth].name} has it"
    fault = fault_of_file(state.fs, entry) if size else ""

    def read(offset: int, length: int) -> bytes:
        fh = entry.open()  # anew: a stream that raised is where nobody knows
        fh.seek(offset)
        return fh.read(length)

    def pieces() -> Iterator[Piece]:
        if 0 <= size <= chain.size and not fault:
            read_back = read_pieces(read, 0, size, _UNIT, lambda error: None)
            yield from budget.of((Piece(offset, data, not doubt) for offset, data in read_back), path)

    if not 0 <= size <= chain.size:
        warnings(f"{path}: a file of {size} bytes on a disk of {chain.size}: it is not recovered")
    return DeletedFile(
        link=chain.links[state.depth],
        volume=state.name,
        path=path.strip("/").encode("utf-8", "backslashreplace").decode(),
        size=max(0, min(size, (1 << 63) - 1)),
        mtime=time_of(getattr(info, "st_mtime_ns", None)),
        btime=time_of(getattr(info, "st_birthtime_ns", None)),
        atime=time_of(getattr(info, "st_atime_ns", None)),
        inode=info.st_ino or None,
        filesystem=state.fs.__type__,
        naming=Naming("snapshot", "likely" if doubt else "proven", f"{has_it}; {doubt}" if doubt else has_it),
        deletion=deletion,
        proof=f"{has_it.removesuffix('it')}them",
        pieces=pieces,
        doubt=doubt,
        lost=fault,
        known=size > 0 or not doubt,
        place=state.place,
    )
