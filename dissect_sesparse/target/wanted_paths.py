"""Which files the paths mean that a user names: as the target has them, literally or with wildcards."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.files.file_table import printable_path
from dissect_sesparse.files.mounts import paths_in_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dissect.target.target import Target

    from dissect_sesparse.files.volumes import VolumeState

_SPECIAL = re.compile(r"\*\*/?|\*|\?|\[!?\]?[^\]/]*\]")


class _Volume(NamedTuple):
    """A volume by its name, as ``mounts`` wants it."""

    volume: str
    place: int | None


class WantedPaths:
    """Paths of files, each with the mount point of its volume.

    ``*`` and ``?`` mean any characters of one name, ``[...]`` one of some, ``**`` any number of folders. Whether case counts is as on
    the file system.

    Args:
        target: The target.
        disk: The disk that the files are on.
        paths: The paths.
    """

    def __init__(self, target: Target, disk: object, paths: Sequence[str]):
        self._target = target
        self._disk = disk
        paths = [self._normal(path) for path in paths]
        self._rules = {
            sensitive: [
                (re.compile(rule, flags), re.compile(last, flags))
                for path in paths
                for rule, last in ((re.escape(path), re.escape(_last(path))), (_pattern(path), _pattern(_last(path))))
            ]
            for sensitive, flags in ((True, re.DOTALL), (False, re.DOTALL | re.IGNORECASE))
        }
        """By whether case counts: what a path matches, and what the name at its end does."""
        self.met = False
        """Whether any file was met so far."""

    def _normal(self, path: str) -> str:
        if self._target.fs.alt_separator:
            path = path.replace(self._target.fs.alt_separator, "/")
        return f"/{path.strip('/')}"

    def __call__(self, state: VolumeState, path: str) -> bool:
        """Whether a file is one of them, by its file system and its path from the root of that."""
        path = printable_path(path)
        name = path.rpartition("/")[2]
        rules = [rule for rule, last in self._rules[state.fs.case_sensitive] if last.fullmatch(name)]
        if not rules:  # nearly always: looking for mount points takes longer
            return False
        paths = paths_in_target(self._target, self._disk, _Volume(state.name, state.place), path)
        found = any(rule.fullmatch(each) for rule in rules for each in paths)
        self.met |= found
        return found


def _last(path: str) -> str:
    """The name at the end of a path."""
    return path.rpartition("/")[2]


def _pattern(path: str) -> str:
    """The regular expression of a path with wildcards."""
    found, end = "", 0
    for special in _SPECIAL.finditer(path):
        found += re.escape(path[end : special.start()])
        end = special.end()
        word = special[0]
        if word.startswith("**"):
            found += "(?:[^/]+/)*" if word.endswith("/") else ".*"
        elif word.startswith("["):
            inner = word[1:-1].replace("\\", "\\\\")
            inner = (
                f"^{inner[1:]}"
                if inner.startswith("!")
                else inner.replace("^", "\\^", 1)
                if inner[:1] == "^"
                else inner
            )
            found += f"(?![/])[{inner}]"
        else:
            found += "[^/]*" if word == "*" else "[^/]"
    return found + re.escape(path[end:])
