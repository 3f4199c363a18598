"""The ranges of a disk that were changed between two states, and how much of a file lies in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dissect_sesparse.trimmed.ranges import Ranges, TooManyRangesError

if TYPE_CHECKING:
    from dissect_sesparse.time.changes import Change

FileRuns = list[tuple[int, int]]
"""Start and end of each piece of a file on the disk, in the order of the file."""


class ChangedRanges:
    """The ranges of a disk that were changed; :attr:`whole` is false where they were too many to be kept."""

    def __init__(self) -> None:
        self._ranges = Ranges()
        self.whole = True

    def add(self, change: Change) -> None:
        try:
            self._ranges.add(change.offset, change.offset + change.size)
        except TooManyRangesError:
            self.whole = False

    def within(self, runs: FileRuns | None) -> int | None:
        """Bytes of some runs that were changed; ``None`` where that is not known."""
        if runs is None or not self.whole:
            return None
        try:
            return sum(end - start for run in runs for start, end, inside in self._ranges.split(*run) if inside)
        except TooManyRangesError:
            self.whole = False
            return None
