"""The deleted files of ext2, ext3 and ext4, from all states of the disk that have the file system.

*As a state has them.* The inode of a deleted file tells nothing of its content, so older states are asked for files that the running
guest does not have. A file is the same by its inode and the inode's generation and time of birth: the table of inodes says whether the
running guest has it, under whatever name. Where nothing tells the uses of an inode apart, a file counts as deleted only if the running
guest has neither its inode nor its path.

*As the journals have them*: see ``ext_logged``; *as removed names have them*: see ``ext_removed``. A file is listed once, by the best of
these.

Each table is read once: of the older states only what a link between two states wrote (``extfs.tables``); folders are looked at where
they lost names (``ext_paths``). The freed inode says when that was (``ext_deletion``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from dissect_sesparse.extfs.history import ExtHistory
from dissect_sesparse.extfs.inode import ext_inode
from dissect_sesparse.extfs.state import ExtState
from dissect_sesparse.extfs.tables import ExtTable, written_between
from dissect_sesparse.extfs.uses import logged_uses
from dissect_sesparse.files.deletion import deletion_after_state
from dissect_sesparse.files.ext_deletion import deletion_of
from dissect_sesparse.files.ext_logged import LoggedFiles, by_journal
from dissect_sesparse.files.ext_paths import ExtPaths
from dissect_sesparse.files.ext_removed import RemovedNames
from dissect_sesparse.files.ext_story import story_of
from dissect_sesparse.files.state_file import MAX_FILES, file_of_state, has_path
from dissect_sesparse.files.trust import doubt_of, doubt_of_file
from dissect_sesparse.time.time_window import TimeWindows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.extfs.inode import ExtUse
    from dissect_sesparse.extfs.uses import JournalUse
    from dissect_sesparse.files.deleted import Budget, DeletedFile
    from dissect_sesparse.files.ext_paths import ExtPath
    from dissect_sesparse.files.ext_story import LoggedPaths
    from dissect_sesparse.files.not_looked import Warnings
    from dissect_sesparse.files.volumes import VolumeState


def ext_deleted_files(
    chain: Chain, states: Sequence[VolumeState], budget: Budget, warnings: Warnings
) -> Iterator[DeletedFile]:
    """The deleted files of a file system, those of the newest states first.

    Args:
        chain: The disk.
        states: The file system in all states of the disk that have it, newest first.
        budget: How many bytes are read at the most.
        warnings: Gets what is not listed, and why.
    """
    try:
        volume = _Volume(chain, states, budget, warnings)
    except Exception as e:  # whatever cannot be read of it
        name = states[0].name
        why = f"as not all inodes of link {states[0].depth} can be read, nothing tells which files are deleted"
        warnings.missed(name, f"{name}: {why}: {e or type(e).__name__}")
        return
    yield from volume.files()


def ext_state(state: VolumeState) -> ExtState:
    """A file system that dissect opened, as its tables and blocks have it."""
    return ExtState(state.fs.extfs, state.depth, state.name, state.place, state.volume.size)  # type: ignore[attr-defined]


class _Gone(NamedTuple):
    """What a state has that the running guest has not, and no newer state."""

    number: int
    """Of the state, from the newest one."""
    files: list[tuple[ExtPath, ExtUse]]


class _Volume:
    def __init__(self, chain: Chain, states: Sequence[VolumeState], budget: Budget, warnings: Warnings):
        self.chain = chain
        self.volumes = states
        self.states = [ext_state(state) for state in states]
        self.budget = budget
        self.warnings = warnings
        self.windows = TimeWindows(chain)
        self.running = states[0] if states[0].depth == 0 else None
        self.newest = ExtTable(self.states[0])
        self.doubts = {state.depth: doubt_of(state.fs, state.volume) for state in states}
        self._known: set[ExtUse] = set()
        """Those that a state has and the running guest has not."""
        self._partial: set[int] = set()
        """The depths of the states that were not looked at."""
        self._doubtful = 0

    def files(self) -> Iterator[DeletedFile]:
        table: ExtTable | None = self.newest
        gone, folders = [], {}
        for number, state in enumerate(self.states):
            if number:
                table = self._table(state, table, self.states[number - 1])
            if table is not None:
                folders[state.depth] = list(table.folders_read())
                gone += [self._gone(table, number)] if number or self.running is None else []
        self.history = ExtHistory(
            self.states,
            folders,
            self.newest.has,
            lambda state, why: self._missed(state, f"as of link {state.depth}, {why}"),
        )
        logged = {use.use: use for use in logged_uses(self.history) if not self._is_live(use.use)}
        made = LoggedFiles(self.chain, self.history, self.doubts, self.windows, self.budget, self.warnings)
        for each in gone:
            yield from self._of_state(each, logged, made.paths)
        yield from made.files([use for use in logged.values() if use.use not in self._known])
        removed = RemovedNames(self.chain, self.states, folders, self.windows, self.warnings)
        listed = {use.number for use in (*self._known, *logged)}
        yield from removed.files(lambda number: number in listed or self._is_used(number))
        if self._doubtful:
            why = f"{self._doubtful} files may be deleted or renamed, nothing tells which: they are not told"
            self._missed(self.states[0], why)

    def _table(self, state: ExtState, newer: ExtTable | None, newer_state: ExtState) -> ExtTable | None:
        try:
            ranges = written_between(self.chain, newer_state, state) if newer is not None else None
            return ExtTable(state, newer, ranges)
        except Exception as e:  # whatever cannot be read of it
            self._missed(state, f"its files as of link {state.depth} are not looked at: {e or type(e).__name__}")
            self._partial.add(state.depth)
            self.doubts[state.depth] = "not all of it can be read"
            return None

    def _missed(self, state: ExtState, why: str) -> None:
        self.warnings.missed(state.volume, f"{state.volume}: {why}")

    def _gone(self, table: ExtTable, number: int) -> _Gone:
        found: dict[int, ExtUse] = {}
        names: dict[int, int] = {}
        for use, links in table.files_read():
            if use not in self._known and not (self.running is not None and use.sure and self.newest.has(use)):
                found[use.number], names[use.number] = use, links
        paths = ExtPaths(table, self.warnings).of(names)
        files = []
        for inode, path in sorted(paths.items(), key=lambda each: each[1]):
            if found[inode].sure or not self._has_like(found[inode], path.path):
                files.append((path, found[inode]))
        room = max(0, MAX_FILES - len(self._known))
        if len(files) > room:
            self._missed(self.states[number], f"more than {MAX_FILES} deleted files, the rest is not told")
        self._known.update(use for use in found.values() if use.sure or use.number in paths)
        return _Gone(number, files[:room])

    def _of_state(self, gone: _Gone, logged: dict[ExtUse, JournalUse], paths: LoggedPaths) -> Iterator[DeletedFile]:
        """The files of a state, with what the journals say of them."""
        older = self.states[gone.number]
        deletion = deletion_after_state(self.chain, self.windows, self.volumes, gone.number, self._partial)
        for path, use in gone.files:
            if self._is_live(use):
                continue
            when = deletion_of(self.chain, deletion, older.inode(use.number), self.states[: gone.number][::-1])
            entry, info = _entry(self.volumes[gone.number].fs, path, use.number)
            why = self.doubts[older.depth] or doubt_of_file(self.volumes[gone.number].fs, entry)
            found = logged.get(use)
            if found is not None and when.logged is None:
                when = by_journal(self.chain, self.history, when, found)
            file = file_of_state(
                self.chain, self.volumes[gone.number], (path.path, entry, info), why, when, self.budget, self.warnings
            )  # fmt: skip
            if found is not None and found.names:
                naming = file.naming._replace(also=("journal",))
                file = replace(file, naming=naming, story=story_of(found, paths, older, when))
            yield file

    def _is_live(self, use: ExtUse) -> bool:
        """Whether the running guest has a file, or will have it when its journal is replayed."""
        newest = self.states[0].depth
        if use.sure and self.running is not None and self.newest.has(use):
            return True
        if not self.doubts[newest] or self.running is None:
            return False
        last = self.history.last.get(newest, -1)
        copies = [copy for copy in self.history.inodes.get(use.number, ()) if copy.sequence <= last]
        inode = ext_inode(use.number, copies[-1].raw) if copies else None
        return inode is not None and inode.use == use and inode.is_live

    def _is_used(self, number: int) -> bool:
        """Whether an inode is in use in the newest state, by its table or the last that the journals have of it."""
        copies = self.history.inodes.get(number)
        return self.newest.is_used(number) or (copies is not None and ext_inode(number, copies[-1].raw).is_live)

    def _has_like(self, use: ExtUse, path: str) -> bool:
        """Whether the running guest has a file of that path, or one that may be this: nothing tells the uses of its inode apart."""
        if has_path(self.running, path):
            return True
        if self.running is not None and self.newest.has_number(use.number):
            self._doubtful += 1
            return True
        return False


def _entry(fs: Any, path: ExtPath, inode: int) -> tuple[Any, Any]:
    """A file as dissect has it, and what ``lstat`` says of it."""
    name = path.path.rpartition("/")[2]
    entry = type(fs.get("/"))(fs, path.path, fs.extfs.get_inode(inode, name))
    return entry, entry.lstat()
