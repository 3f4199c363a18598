"""The files of an ext file system in one state: through its folders, by code that keeps nothing of each but a row.

A walk by dissect takes twenty times as long. What only dissect can tell (where files without extents lie) is left to it.
"""

from __future__ import annotations

import stat
from functools import lru_cache
from typing import TYPE_CHECKING

from dissect_sesparse.extfs.inode import EXTENTS_FLAG, INLINE_FLAG, ext_inode, ext_runs, inline_content
from dissect_sesparse.extfs.state import ROOT, ExtState
from dissect_sesparse.files.file_row import FileRow, Handle, digest_of_content, digest_of_place
from dissect_sesparse.files.walk import MAX_DEPTH, MAX_ENTRIES, key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from dissect_sesparse.extfs.inode import ExtInode, ExtUse
    from dissect_sesparse.files.changed_ranges import ChangedRanges
    from dissect_sesparse.files.volumes import VolumeState

_STEP = 64 << 10
"""Bytes of a table of inodes that are read together: those of one folder mostly lie together."""


def ext_files_listed(
    state: VolumeState, ranges: ChangedRanges, missed: Callable[[str], None]
) -> Iterator[tuple[str, FileRow | Handle]]:
    """The files: those of which only dissect can tell more by their handles.

    Args:
        state: The file system.
        ranges: Of which it is counted how much of each file lies in them.
        missed: Gets what is not looked at, and why.

    Raises:
        Exception: Whatever cannot be read of all of it.
    """
    yield from _Walk(state, ranges, missed).files()


class _Walk:
    def __init__(self, state: VolumeState, ranges: ChangedRanges, missed: Callable[[str], None]):
        self._state = state
        self._ranges = ranges
        self._missed = missed
        self._ext = ExtState(state.fs.extfs, state.depth, state.name, state.place, state.volume.size)  # type: ignore[attr-defined]
        self._step = max(_STEP, self._ext.inode_size)
        self._part = lru_cache(64)(self._read_part)
        self._seen = {ROOT}

    def files(self) -> Iterator[tuple[str, FileRow | Handle]]:
        todo, met = [("", ROOT, 0)], 0
        while todo:
            path, number, depth = todo.pop()
            below: list[tuple[str, int]] = []
            try:
                for _, name in self._ext.names_in(self._inode(number)):
                    below.append((f"{path}/{name.name.decode(errors='surrogateescape')}", name.inode))
            except Exception as e:  # whatever cannot be read of it; what was read of it counts
                self._cannot(f"the folder {path or '/'}", e)
            met += len(below)
            if met > MAX_ENTRIES:
                self._missed(f"more than {MAX_ENTRIES} files, the rest is not looked at")
                return
            for child, inode in below:
                found = self._one(child, inode)
                if isinstance(found, int):
                    if found in self._seen or depth >= MAX_DEPTH:
                        self._missed(f"the folder {child} is met again, or lies too deep")
                    else:
                        self._seen.add(found)
                        todo.append((child, found, depth + 1))
                elif found is not None:
                    yield child, found

    def _one(self, path: str, number: int) -> FileRow | Handle | int | None:
        """A file; of a folder its number; of anything else nothing."""
        try:
            inode = self._inode(number)
            if stat.S_ISDIR(inode.mode):
                return number
            return self._row(number, inode) if stat.S_ISREG(inode.mode) else None
        except Exception as e:  # as above
            self._cannot(path, e)
            return None

    def _row(self, number: int, inode: ExtInode) -> FileRow | Handle:
        use, place = inode.use, self._state.place
        key = _key(use)
        runs, lies = None, None
        if inode.flags & INLINE_FLAG:
            lies = digest_of_content(inline_content(inode))
        elif not inode.flags & EXTENTS_FLAG:
            return Handle(number, key)
        elif place is not None:
            size = self._ext.block_size
            found = ext_runs(inode, self._ext.block, size)
            runs = [(place + r.place * size, place + (r.place + r.blocks) * size) for r in found if r.place is not None]
            lies = digest_of_place("ext", place, size, [tuple(run) for run in found], inode.size)
        return FileRow(key, number, inode.size, inode.mtime, use.born or None, lies, self._ranges.within(runs))

    def _inode(self, number: int) -> ExtInode:
        ext = self._ext
        group, index = divmod(number - 1, ext.inodes_per_group)
        if not 0 < number <= ext.inodes:
            raise ValueError(f"inode {number} of {ext.inodes}")
        start = ext.group(group).table * ext.block_size
        part, at = divmod(index * ext.inode_size, self._step)
        size = min(self._step, ext.inodes_per_group * ext.inode_size - part * self._step)
        return ext_inode(number, self._part(start + part * self._step, size)[at : at + ext.inode_size])

    def _read_part(self, offset: int, size: int) -> bytes:
        return self._ext.read(offset, size)

    def _cannot(self, what: str, error: Exception) -> None:
        self._missed(f"{what} as of link {self._state.depth} cannot be read: {error or type(error).__name__}")


def _key(use: ExtUse) -> Hashable:
    """What a file is the same by in all states, as ``walk`` has it; ``None`` where nothing tells that."""
    return (key_of(use.number, use.generation, use.born, None), "") if use.sure else None
