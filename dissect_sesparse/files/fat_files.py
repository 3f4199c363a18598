"""The deleted files of FAT that no state has, by the deleted entries of the folders of all states.

What renames or moves a file deletes its entry too. So an entry counts only if no file that the running guest has starts at its
cluster, or was made at its time, and if no state has that file: else it is that one, or may be it. Of empty files nothing
tells that; they are not listed. Clusters behind the first one, and who wrote there since, are not known: there are no bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dissect_sesparse.files.deleted import DeletedFile
from dissect_sesparse.files.deletion import deletion_since
from dissect_sesparse.files.fat_entries import MAX_FOLDER, OldEntry, old_entries
from dissect_sesparse.files.guest_log import GuestLog
from dissect_sesparse.files.story import Naming

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.files.not_looked import Warnings
    from dissect_sesparse.files.volumes import VolumeState
    from dissect_sesparse.time.time_window import TimeWindows

MAX_FOLDERS = 1_000_000
"""Folders of a file system in one state."""
MAX_OLD = 500_000
"""Deleted entries of a file system in all states."""
MAX_DEPTH = 255
"""Folders above a file."""

Mark = tuple[str, int]
"""What a file is the same by: its first cluster, or when it was made."""


class _Old(NamedTuple):
    number: int
    """Of the oldest state that has the entry: the newest state has 0."""
    path: str
    entry: OldEntry


class FatGuest(GuestLog):
    """What the folders of FAT still name.

    Args:
        chain: The disk.
        windows: Its windows.
        states: The file system in all states of the disk, newest first.
        warnings: Gets what is not looked at.
    """

    def __init__(self, chain: Chain, windows: TimeWindows, states: Sequence[VolumeState], warnings: Warnings):
        self._chain = chain
        self._windows = windows
        self._states = states
        self._warnings = warnings
        self._had: set[Mark] = set()
        """Of all files and folders that any state has."""

    def others(self) -> Iterator[DeletedFile]:
        found: dict[tuple[int, int], list[_Old]] = {}
        count = 0
        for number in range(len(self._states) - 1, -1, -1):  # from the oldest: there it was deleted first
            for path, entry in self._entries_of(self._states[number]):
                count += 1
                if count > MAX_OLD:
                    break
                group = found.setdefault((entry.cluster, entry.made or entry.size), [])
                if not any((old.path, old.entry.place) == (path, entry.place) for old in group):
                    group.append(_Old(number, path, entry))
        if count > MAX_OLD:
            name = self._states[0].name
            self._warnings.missed(name, f"{name}: more than {MAX_OLD} deleted entries, the rest is not looked at")
        for (cluster, _), group in found.items():
            made = ("made", group[0].entry.made)
            if cluster and ("cluster", cluster) not in self._had and (not made[1] or made not in self._had):
                yield self._file(group)

    def _entries_of(self, state: VolumeState) -> Iterator[tuple[str, OldEntry]]:
        """The deleted entries of the folders of a state: path of the folder, and entry. All others are taken in."""
        fat: Any = state.fs.fatfs  # type: ignore[attr-defined]
        todo: list[tuple[str, Any]] = [("", fat.root)]
        seen: set[int] = set()
        while todo and len(seen) <= MAX_FOLDERS:
            path, folder = todo.pop()
            try:
                for entry in folder.iterdir():
                    self._take_in(entry)
                    inside = entry.is_directory() and entry.name not in (".", "..") and entry.cluster not in seen
                    if inside and path.count("/") < MAX_DEPTH:
                        seen.add(entry.cluster)
                        todo.append((f"{path}/{entry.name}", entry))
                data = folder.open().read(MAX_FOLDER)
                yield from ((path, old) for old in old_entries(data, fat.encoding))
            except Exception as e:  # whatever dissect.fat trips over
                why = f"the old entries of the folder {path or '/'} as of link {state.depth} cannot be read: {e}"
                self._warnings.missed(state.name, f"{state.name}: {why}")

    def _take_in(self, entry: Any) -> None:
        raw = entry.dirent
        made = raw.DIR_CrtDate << 24 | raw.DIR_CrtTime << 8 | raw.DIR_CrtTimeTenth
        self._had |= {("cluster", entry.cluster), ("made", made)}

    def _file(self, group: list[_Old]) -> DeletedFile:
        """A file, by all entries that it had: where it was renamed, these are several."""
        newest = min(old.number for old in group)
        ends = [old for old in group if old.number == newest]
        number, path, entry = ends[-1]
        state = self._states[number]
        link = self._chain.links[state.depth]
        deletion = deletion_since(self._chain, self._windows, self._states[number + 1 :], state.depth)
        paths = sorted({f"{old.path}/{old.entry.name}".strip("/") for old in group if old is not ends[-1]})
        basis = f"a deleted entry of its folder as of {link.name}"
        if not entry.whole:
            basis += "; not all of its name is there: of a short name the first letter is lost"
        if paths:
            basis += f"; others name the same file, which was renamed or moved: {', '.join(paths[:10])}"
        return DeletedFile(
            link=link,
            volume=state.name,
            path=f"{path}/{entry.name}".strip("/").encode("utf-8", "backslashreplace").decode(),
            size=entry.size,
            mtime=entry.modified,
            btime=entry.born,
            inode=entry.cluster,
            filesystem="fat",
            naming=Naming("directory", "likely" if entry.whole and not paths else "ambiguous", basis),
            deletion=deletion,
            proof="",
            pieces=lambda: iter(()),
            lost="no state has the file, and nothing tells which clusters it had behind its first, or who wrote there since",
            known=False,
            place=state.place,
        )
