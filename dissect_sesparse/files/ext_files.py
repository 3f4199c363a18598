"""The deleted files of ext2, ext3 and ext4, from all states of the disk that have the file system.

*As a state has them.* The inode of a deleted file tells nothing of its content, so older states are asked for files that the running
guest does not have. A file is the same by its inode and the inode's generation and time of birth: the table of inodes says whether the
running guest has it, under whatever name. Where nothing tells the uses of an inode apart, a file counts as deleted only if the running
guest has neither its inode nor its path.

Each table is read once: of the older states only what a link between two states wrote (``ext_tables``); folders are looked at where
they lost names (``ext_paths``). The freed inode says when that was (``ext_deletion``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dissect_sesparse.files.deletion import deletion_after_state
from dissect_sesparse.files.ext_deletion import deletion_of
from dissect_sesparse.files.ext_paths import ExtPaths
from dissect_sesparse.files.ext_state import ExtState
from dissect_sesparse.files.ext_tables import ExtTable, written_between
from dissect_sesparse.files.state_file import MAX_FILES, file_of_state, has_path
from dissect_sesparse.files.trust import doubt_of, doubt_of_file
from dissect_sesparse.time.time_window import TimeWindows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.files.deleted import Budget, DeletedFile
    from dissect_sesparse.files.ext_inode import ExtUse
    from dissect_sesparse.files.ext_paths import ExtPath
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


class _Volume:
    def __init__(self, chain: Chain, states: Sequence[VolumeState], budget: Budget, warnings: Warnings):
        self.chain = chain
        self.states = [ExtState(state) for state in states]
        self.budget = budget
        self.warnings = warnings
        self.windows = TimeWindows(chain)
        self.running = states[0] if states[0].depth == 0 else None
        self.newest = ExtTable(self.states[0])
        self._known: set[ExtUse] = set()
        """Those that were listed."""
        self._partial: set[int] = set()
        """The depths of the states that were not looked at."""
        self._doubtful = 0

    def files(self) -> Iterator[DeletedFile]:
        table: ExtTable | None = self.newest
        for number, state in enumerate(self.states):
            if number:
                table = self._table(state, table, self.states[number - 1])
            if table is not None and state.state is not self.running:
                yield from self._of_state(table, number)
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
            return None

    def _missed(self, state: ExtState, why: str) -> None:
        self.warnings.missed(state.state.name, f"{state.state.name}: {why}")

    def _of_state(self, table: ExtTable, number: int) -> Iterator[DeletedFile]:
        """The files of a state that the running guest does not have, and no newer state."""
        gone: dict[int, ExtUse] = {}
        names: dict[int, int] = {}
        for use, links in table.files_read():
            if use not in self._known and not self._is_live(use):
                gone[use.number], names[use.number] = use, links
        paths = ExtPaths(table, self.warnings).of(names)
        older = self.states[number]
        states = [each.state for each in self.states]
        deletion = deletion_after_state(self.chain, self.windows, states, number, self._partial)
        doubt = doubt_of(older.state.fs, older.state.volume)
        for inode, path in sorted(paths.items(), key=lambda each: each[1]):
            use = gone[inode]
            if not use.sure and self._has_like(use, path.path):
                continue
            if len(self._known) >= MAX_FILES:
                self._missed(older, f"more than {MAX_FILES} deleted files, the rest is not told")
                return
            self._known.add(use)
            when = deletion_of(self.chain, deletion, older.inode(inode), self.states[:number][::-1])
            entry, info = _entry(older.state.fs, path, inode)
            why = doubt or doubt_of_file(older.state.fs, entry)
            yield file_of_state(
                self.chain, older.state, (path.path, entry, info), why, when, self.budget, self.warnings
            )  # fmt: skip

    def _is_live(self, use: ExtUse) -> bool:
        return self.running is not None and use.sure and self.newest.has(use)

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
