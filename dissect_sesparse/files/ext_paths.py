"""The paths of some files of an ext file system in one state, without a walk through all of its folders.

A folder that lost a name since was written, and so was its inode. So the names of files that a newer state lacks are in folders whose
inodes were read anew (see ``extfs.tables``). Where they are not all there, all folders are looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.extfs.state import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dissect_sesparse.extfs.state import ExtState
    from dissect_sesparse.extfs.tables import ExtTable
    from dissect_sesparse.files.not_looked import Warnings

MAX_FOLDERS_ABOVE = 255


class ExtPath(NamedTuple):
    """A path, with where the entry of each of its parts is: the order in which a walk through the folders meets them."""

    places: tuple[float, ...]
    path: str
    """From the root, with slashes."""


class ExtFolders:
    """The paths of folders of a state.

    Args:
        state: The state.
        warnings: Gets the folders that cannot be read.
    """

    def __init__(self, state: ExtState, warnings: Warnings):
        self._state = state
        self._warnings = warnings
        self._folders: dict[int, ExtPath] = {ROOT: ExtPath((), "")}

    def of_folder(self, folder: int) -> ExtPath:
        """The path of a folder; of one that no folder has it is said that it is gone."""
        below: list[tuple[int, int, bytes]] = []
        while folder not in self._folders:
            entry = self._entry(folder) if len(below) < MAX_FOLDERS_ABOVE else None
            if entry is None or any(folder == known for known, _, _ in below):
                self._folders[folder] = ExtPath((float("inf"), folder), f"/<folder {folder:#x} is gone>")
                break
            parent, at, name = entry
            below.append((folder, at, name))
            folder = parent
        for number, at, name in reversed(below):
            if number not in self._folders:
                self._folders[number] = self.path_in(folder, at, name)
            folder = number
        return self._folders[folder]

    def _entry(self, folder: int) -> tuple[int, int, bytes] | None:
        """Which folder has a folder, where its entry is there, and its name."""
        try:
            parent = self._state.parent_of(self._state.inode(folder))
            found = self._state.folder_names(parent).get(folder) if parent is not None else None
        except Exception as e:  # whatever cannot be read, or cannot be so
            self.failed(folder, e)
            return None
        return (parent, *found) if parent is not None and found is not None else None

    def path_in(self, folder: int, at: int, name: bytes) -> ExtPath:
        """The path of an entry of a folder."""
        above = self.of_folder(folder)
        return ExtPath((*above.places, at), f"{above.path}/{name.decode(errors='surrogateescape')}")

    def failed(self, folder: int, error: Exception) -> None:
        """Say that a folder cannot be read."""
        what = f"the folder {folder:#x} as of link {self._state.depth} cannot be read"
        name = self._state.volume
        self._warnings.missed(name, f"{name}: {what}: {error or type(error).__name__}")


class ExtPaths:
    """Paths of a state.

    Args:
        table: Its inodes.
        warnings: Gets the folders that cannot be read.
    """

    def __init__(self, table: ExtTable, warnings: Warnings):
        self._table = table
        self._state = table.state
        self._folders = ExtFolders(table.state, warnings)

    def of(self, wanted: Mapping[int, int]) -> dict[int, ExtPath]:
        """The first path of each of some inodes, by their numbers, as far as any leads to them.

        Args:
            wanted: How many names each has.
        """
        found: dict[int, list[tuple[int, int, bytes]]] = {number: [] for number in wanted}
        if not wanted:
            return {}
        first = set(self._table.folders_read())
        self._look(first, found)
        if any(len(found[number]) < links for number, links in wanted.items()):
            self._look((folder for folder in self._table.folders() if folder not in first), found)
        return {
            number: min(self._folders.path_in(folder, at, name) for folder, at, name in names)
            for number, names in found.items()
            if names
        }

    def _look(self, folders: Iterable[int], found: dict[int, list[tuple[int, int, bytes]]]) -> None:
        for folder in folders:
            try:
                for at, name in self._state.names_in(self._state.inode(folder)):
                    if name.inode in found:
                        found[name.inode].append((folder, at, name.name))
            except Exception as e:  # whatever cannot be read, or cannot be so
                self._folders.failed(folder, e)
