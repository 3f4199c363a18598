"""Which files newer states have, so that what an older one has is not taken for deleted, and not listed twice.

Where a file system tells the uses of an inode apart, a file is the same by that. Else, as on FAT, nothing is sure: a file is
the same where its path is, and its first cluster or the time at which it was made; one whose path is gone, while its cluster
or that time are there under another, may be renamed, or be another file: that is a doubt.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dissect_sesparse.files.walk import Key


class KnownFiles:
    """The files of newer states."""

    def __init__(self) -> None:
        self._marks: set[int] = set()
        """What files are the same by."""
        self._living: set[str] = set()
        """Paths that the running guest has, of files of which nothing is sure."""
        self._marks_of: defaultdict[str, set[int]] = defaultdict(set)
        """What the others are the same by, by their paths."""

    def add(self, key: Key, path: str, *, living: bool = False) -> None:
        """Take in a file.

        Args:
            key: What it is the same by.
            path: From the root of its file system.
            living: Whether the running guest has it.
        """
        marks = _marks(key)
        self._marks |= marks
        if key.sure:
            return
        if living:
            self._living.add(_folded(key, path))
        else:
            self._marks_of[_folded(key, path)] |= marks

    def judge(self, key: Key, path: str) -> Literal["new", "same", "doubtful"]:
        """What a file of an older state is: none of those that are known, one of these, or perhaps one."""
        marks, path = _marks(key), _folded(key, path)
        if key.sure:
            return "same" if marks & self._marks else "new"
        if path in self._living or (path in self._marks_of and (not marks or marks & self._marks_of[path])):
            return "same"
        return "doubtful" if marks & self._marks else "new"


def _marks(key: Key) -> set[int]:
    return {mark for mark in (key.key, key.made) if mark is not None}


def _folded(key: Key, path: str) -> str:
    return path.casefold() if key.folds else path
