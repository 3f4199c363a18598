"""What was seen in one opening, so that no folder is listed and no descriptor read for each link of a chain again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

MAX_ENTRIES = 10_000
"""Directory entries looked at in a search; a folder of evidence has some dozen."""
MAX_SWEPT = 16 * 1024 * 1024
"""Bytes of descriptors that nobody names and that are read all the same. Ten thousand usual ones have half of it."""


class Seen:
    """Listings and descriptors by their paths. Kept no longer than what is opened or looked at."""

    budget = MAX_SWEPT

    def __init__(self) -> None:
        self._entries: dict[Path, tuple[list[Path], str | None]] = {}
        self.files: dict[tuple[Path, str], list[Path]] = {}
        self.descriptors: dict[Path, Any] = {}
        self.others: set[Path] = set()
        """Files that are no descriptors by their first bytes."""
        self.left = self.budget
        self.identities: dict[Path, str] = {}

    def entries(self, folder: Path) -> tuple[list[Path], str | None]:
        """The entries of a folder, sorted by name, and why these are not all; ``None`` where they are."""
        if folder not in self._entries:
            self._entries[folder] = _list(folder)
        return self._entries[folder]


def _list(folder: Path) -> tuple[list[Path], str | None]:
    entries: list[Path] = []
    problem = None
    try:
        for entry in folder.iterdir():
            if len(entries) == MAX_ENTRIES:
                problem = f"only {MAX_ENTRIES} entries of {folder} are looked at"
                break
            entries.append(entry)
    except (FileNotFoundError, NotADirectoryError):  # then there is nothing to find in it
        pass
    except Exception as e:  # a path inside evidence goes through file system code that raises anything
        problem = f"{folder} cannot be listed: {e}"
    return sorted(entries, key=lambda path: path.name), problem
