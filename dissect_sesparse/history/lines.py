"""Each file of a file system followed through all states of the disk: under which names, and where it can have been changed.

The states are gone through newest first, each file table once. A file is the same in two states by its file reference (inode and
what tells the inode's uses apart); where nothing tells these, by its path; and where a path is another file since (an editor that
writes a new file and renames it), that one takes the place of the old one, unless the old one is still there under another name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from dissect_sesparse.files.file_table import FileRow, FileTable

MAX_NAMES = 100
"""Names of one file that are kept."""


class SeenIn(NamedTuple):
    """A file in a state."""

    depth: int
    path: str
    row: FileRow


class Epoch:
    """States next to one another between which surely nobody wrote to a file."""

    __slots__ = ("depths", "newest")

    def __init__(self, newest: SeenIn):
        self.newest = newest
        self.depths = 1 << newest.depth
        """A bit for the depth of each of its states."""


class FileLine:
    """A file through all states."""

    __slots__ = ("epochs", "last", "names", "written")

    def __init__(self, seen: SeenIn):
        self.epochs = [Epoch(seen)]
        """Newest first."""
        self.last = seen
        """As the oldest state has it that was gone through."""
        self.names: dict[str, None] | None = None
        """All its paths, newest first, where it had several."""
        self.written: list[tuple[SeenIn, SeenIn]] = []
        """Each state and the one before it, between which somebody wrote to its clusters."""

    @property
    def paths(self) -> Iterable[str]:
        """All its paths, newest first."""
        return self.names or (self.epochs[0].newest.path,)

    def is_named(self, path: str) -> None:
        """Take note of a path."""
        if self.names is None:
            if path == self.epochs[0].newest.path:
                return
            self.names = {self.epochs[0].newest.path: None}
        if len(self.names) < MAX_NAMES:
            self.names.setdefault(path)

    def goes_on(self, seen: SeenIn, *, next_to: bool) -> None:
        """Take in what an older state has.

        Args:
            seen: What that has.
            next_to: Whether it is the state before the one that was taken in last.
        """
        self.is_named(seen.path)
        newer, self.last = self.last, seen
        same = newer.row.key == seen.row.key
        if next_to and same and newer.row.is_untouched_since(seen.row):
            self.epochs[-1].depths |= 1 << seen.depth
            return
        self.epochs.append(Epoch(seen))
        if next_to and same and newer.row.changed:
            self.written.append((newer, seen))


class Lines:
    """The files of a file system through its states."""

    def __init__(self) -> None:
        self.all: list[FileLine] = []
        self._of_key: dict[Hashable, FileLine] = {}
        self._at_path: dict[str, FileLine] = {}
        """Of the state that was taken in last."""
        self._depth = -1
        """Of that state."""

    def add(self, table: FileTable) -> None:
        """Take in the next older state."""
        depth, taken = table.state.depth, set()
        here: dict[str, FileLine] = {}
        rest: list[SeenIn] = []
        for path, row in table.rows.items():
            seen = SeenIn(depth, path, row)
            line = self._of_key.get(row.key) if row.key is not None else None
            if line is None:
                rest.append(seen)
            else:
                self._go_on(line, seen)
                here[path] = line
                taken.add(id(line))
        for seen in rest:
            line = self._of_key.get(seen.row.key) if seen.row.key is not None else None  # another name of one of these
            if line is None and (line := self._at_path.get(seen.path)) is not None and id(line) in taken:
                line = None
            if line is None:
                line = FileLine(seen)
                self.all.append(line)
            else:
                self._go_on(line, seen)
            taken.add(id(line))
            here[seen.path] = line
            if seen.row.key is not None:
                self._of_key[seen.row.key] = line
        self._at_path, self._depth = here, depth

    def _go_on(self, line: FileLine, seen: SeenIn) -> None:
        if line.last.depth == seen.depth:  # a hard link
            line.is_named(seen.path)
        else:
            line.goes_on(seen, next_to=line.last.depth == self._depth)
