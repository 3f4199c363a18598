"""Names of files of ext that were removed from their folders and not overwritten there: nothing but the name is known of these.

Linux before 5.13 and e2fsprogs only make the entry before a removed one longer. Such an entry has the number of an inode, and nothing tells
which use of that it meant. So it is never taken for a file that is there: where the running guest has the inode in use, or a file of
that inode is listed already, it may be the former name of that, or one of several. The rest is *ambiguous*, and has no bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.extfs.directory import FILE_KIND, is_indexed, removed_names
from dissect_sesparse.files.deleted import DeletedFile
from dissect_sesparse.files.deletion import deletion_between
from dissect_sesparse.files.ext_deletion import guest_time
from dissect_sesparse.files.ext_paths import ExtFolders
from dissect_sesparse.files.story import Naming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.extfs.state import ExtState
    from dissect_sesparse.files.not_looked import Warnings
    from dissect_sesparse.files.story import Deletion
    from dissect_sesparse.time.time_window import TimeWindows

MAX_REMOVED = 1_000_000
"""Removed names of a file system."""


class _Found(NamedTuple):
    state: ExtState
    """The oldest one that has it removed."""
    folder: int
    name: bytes
    inode: int


class RemovedNames:
    """The removed names of a file system.

    Args:
        chain: The disk.
        states: The file system in all states, newest first.
        folders: The folders of each state to look at, by its depth.
        windows: Of the disk.
        warnings: Gets the folders that cannot be read.
    """

    def __init__(
        self,
        chain: Chain,
        states: Sequence[ExtState],
        folders: Mapping[int, Sequence[int]],
        windows: TimeWindows,
        warnings: Warnings,
    ):
        self._chain = chain
        self._states = states
        self._folders = folders
        self._windows = windows
        self._warnings = warnings
        self._paths = {state.depth: ExtFolders(state, warnings) for state in states}

    def files(self, is_taken: Callable[[int], bool]) -> Iterator[DeletedFile]:
        """The files that only a removed name is left of.

        Args:
            is_taken: Whether an inode is in use, or that of a file that is listed.
        """
        found: dict[tuple[int, bytes, int], _Found] = {}
        for state in self._states:
            for each in self._of_state(state):
                if not is_taken(each.inode):
                    found[each.folder, each.name, each.inode] = each
            if len(found) > MAX_REMOVED:
                self._warnings.missed(
                    state.volume, f"{state.volume}: more than {MAX_REMOVED} removed names, not listed"
                )
                return
        for each in found.values():
            yield self._file(each)

    def _of_state(self, state: ExtState) -> Iterator[_Found]:
        for number in self._folders.get(state.depth, ()):
            try:
                inode = state.inode(number)
                for _, _, block in state.folder_blocks(inode):
                    for name in removed_names(block, state.inodes, kinds=state.has_kinds, indexed=is_indexed(inode)):
                        if name.kind in (0, FILE_KIND):
                            yield _Found(state, number, name.name, name.inode)
            except Exception as e:  # whatever cannot be read, or cannot be so
                self._paths[state.depth].failed(number, e)

    def _file(self, found: _Found) -> DeletedFile:
        state, link = found.state, self._chain.links[found.state.depth]
        path = self._paths[state.depth].path_in(found.folder, 0, found.name).path
        basis = (
            f"a removed entry of its folder, as of {link.name}, has it; which file its inode was then, nothing tells"
        )
        return DeletedFile(
            link=link,
            volume=state.volume,
            path=path.strip("/").encode("utf-8", "backslashreplace").decode(),
            size=0,
            mtime=None,
            btime=None,
            inode=found.inode,
            filesystem="ext",
            naming=Naming("directory", "ambiguous", basis),
            deletion=self._deletion(found),
            proof="",
            pieces=lambda: iter(()),
            known=False,
            lost="a removed entry of a folder names it",
            place=state.place,
        )

    def _deletion(self, found: _Found) -> Deletion:
        """By the snapshots; when the inode was freed may be of a later file, and is only said."""
        deletion = deletion_between(self._chain, self._windows, None, found.state.depth)
        try:
            seconds = found.state.inode(found.inode).freed_at(found.state.inodes)
        except Exception:  # then nothing is known of it
            seconds = None
        if seconds is None:
            return deletion
        when = guest_time(seconds * 1_000_000_000)
        return deletion._replace(
            basis=f"{deletion.basis}; its inode was freed last at {when}, by the guest's clock, perhaps by another file"
        )
