"""The tables of inodes of an ext file system in several states: which files a state has, without a walk through its folders.

From the newest state to the oldest, each takes over what the newer one has, but for the blocks of the tables that some link between
the two wrote: what no link wrote cannot have changed. So the work goes with what was written, not with how many files there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dissect_sesparse.extfs.inode import ExtError, ExtUse
from dissect_sesparse.time.changes import DiskState, changes
from dissect_sesparse.trimmed.ranges import Ranges, TooManyRangesError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.extfs.state import ExtState

MAX_INODES = 20_000_000
"""Inodes of a file system that were ever used: some 300 MB of memory."""
_STEP = 4 << 20
"""Bytes of a table that are read at once."""
_ROW = np.dtype([("mode", "<u2"), ("links", "<u2"), ("generation", "<u4"), ("born", "<i4"), ("born_extra", "<u4")])
_FILE, _FOLDER, _KIND = 0o100000, 0o040000, 0o170000


class ExtTable:
    """The inodes of a state that a name leads to: kind, generation and time of birth of each.

    Args:
        state: The state.
        newer: The table of the next newer one.
        ranges: What was written between them, on the volume; ``None`` where that is not known.

    Raises:
        ExtError: If there are too many inodes.
        Exception: Whatever cannot be read.
    """

    def __init__(self, state: ExtState, newer: ExtTable | None = None, ranges: Ranges | None = None):
        self.state = state
        self._rows: dict[int, NDArray[Any]] = {}
        self.read: dict[int, list[tuple[int, int]]] = {}
        """What was read: for each group the first inode of it, and one past the last, from 0."""
        total = 0
        for number in range(state.extfs.groups_count):
            group = state.group(number)
            total += group.used
            if total > MAX_INODES:
                raise ExtError(f"more than {MAX_INODES} inodes")
            if group.used:
                same = newer is not None and newer.state.group(number).table == group.table
                self._fill(number, group.used, newer._rows.get(number) if newer and same else None, ranges)

    def _fill(self, number: int, used: int, newer: NDArray[Any] | None, ranges: Ranges | None) -> None:
        start, size = self.state.group(number).table * self.state.block_size, self.state.inode_size
        if newer is None or ranges is None:
            parts, rows = [(0, used)], np.zeros(used, _ROW)
        else:
            block = self.state.block_size
            parts, rows = [], newer
            for low, high, written in ranges.split(start, start + used * size):
                if written:
                    first, last = (low - start) // block * block, -((start - high) // block) * block
                    parts.append((first // size, min(used, last // size)))
            if len(rows) != used or parts:
                rows = np.zeros(used, _ROW)
                rows[: len(newer)] = newer[:used]
            if used > len(newer):
                parts.append((len(newer), used))
        for first, last in parts:
            for low in range(first, last, _STEP // size):
                high = min(last, low + _STEP // size)
                rows[low:high] = _rows_of(self.state.read(start + low * size, (high - low) * size), size)
        self._rows[number] = rows
        if parts:
            self.read[number] = parts

    def has(self, use: ExtUse) -> bool:
        """Whether a name leads to this very use of an inode."""
        row = self._row(use.number)
        return row is not None and bool(row["mode"]) and _use(use.number, row) == use

    def has_number(self, number: int) -> bool:
        """Whether an inode is in use by a file of which nothing tells it from others."""
        row = self._row(number)
        return row is not None and int(row["mode"]) & _KIND == _FILE and not _use(number, row).sure

    def is_used(self, number: int) -> bool:
        """Whether a name leads to an inode."""
        row = self._row(number)
        return row is not None and bool(row["mode"])

    def _row(self, number: int) -> Any:
        group, index = divmod(number - 1, self.state.inodes_per_group)
        rows = self._rows.get(group)
        return rows[index] if rows is not None and index < len(rows) else None

    def files_read(self) -> Iterator[tuple[ExtUse, int]]:
        """The files in what was read, all that the newer state may lack: each with how many names lead to it."""
        for first, rows in self._parts(self.read):
            for index in np.flatnonzero(rows["mode"] & _KIND == _FILE).tolist():
                yield _use(first + index, rows[index]), int(rows[index]["links"])

    def folders_read(self) -> Iterator[int]:
        """The numbers of the folders in what was read."""
        yield from self._folders(self.read)

    def folders(self) -> Iterator[int]:
        """The numbers of all folders."""
        yield from self._folders({number: [(0, len(rows))] for number, rows in self._rows.items()})

    def _folders(self, parts: dict[int, list[tuple[int, int]]]) -> Iterator[int]:
        for first, rows in self._parts(parts):
            yield from (first + index for index in np.flatnonzero(rows["mode"] & _KIND == _FOLDER).tolist())

    def _parts(self, parts: dict[int, list[tuple[int, int]]]) -> Iterator[tuple[int, NDArray[Any]]]:
        for number, ranges in sorted(parts.items()):
            for low, high in ranges:
                yield number * self.state.inodes_per_group + low + 1, self._rows[number][low:high]


def _rows_of(data: bytes, size: int) -> NDArray[Any]:
    """What is kept of some inodes; of one that no name leads to, zeros."""
    fields = {"mode": "<u2", "links": "<u2", "generation": "<u4"}
    offsets = [0, 26, 100]
    if size > 128:
        fields |= {"room": "<u2", "born": "<i4", "born_extra": "<u4"}
        offsets += [128, 144, 148]
    raw = np.frombuffer(
        data, np.dtype({"names": list(fields), "formats": list(fields.values()), "offsets": offsets, "itemsize": size})
    )
    live = raw["links"] != 0
    rows = np.zeros(len(raw), _ROW)
    rows["mode"], rows["links"] = np.where(live, raw["mode"], 0), raw["links"]
    rows["generation"] = raw["generation"]
    if size > 128:
        born = (raw["room"] >= 24) & (raw["room"] <= size - 128)
        rows["born"] = np.where(born, raw["born"], 0)
        rows["born_extra"] = np.where(born, raw["born_extra"], 0)
    return rows


def _use(number: int, row: Any) -> ExtUse:
    extra = int(row["born_extra"])
    born = (int(row["born"]) + ((extra & 3) << 32)) * 1_000_000_000 + (extra >> 2)
    return ExtUse(number, int(row["generation"]), born)


def written_between(chain: Chain, newer: ExtState, older: ExtState) -> Ranges | None:
    """What the links between two states changed, as ranges of the volume; ``None`` where that is not known."""
    place = newer.place
    if place is None or place != older.place:
        return None
    ranges, end = Ranges(), place + newer.size
    try:
        for change in changes(DiskState(chain, older.depth), DiskState(chain, newer.depth)):
            low, high = max(change.offset, place), min(change.offset + change.size, end)
            if low < high:
                ranges.add(low - place, high - place)
    except TooManyRangesError:
        return None
    return ranges
