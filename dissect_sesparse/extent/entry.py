"""Grain directory and grain table entries: the one place where they are decoded one by one.

A directory entry is 0 (no table) or ``0x10000000`` in its high half and the table's index in its low half. Index 0 is a
valid index.

A table entry, confirmed by QEMU's research; the split of the place into block and grain is an inference::

     63   60 59              48 47                                            0
    +-------+------------------+-----------------------------------------------+
    | state |  grain in block  |            block of 4096 grains               |
    +-------+------------------+-----------------------------------------------+

State 0 UNALLOCATED (the parent's bytes; the rest must be 0), 1 UNMAPPED (zeros for the guest; the rest still names the
grain it was mapped to), 2 ZERO (zeros), 3 ALLOCATED (the grain). All others are corrupt. An unmapped entry with an empty
rest is ambiguous: never mapped, or once mapped to grain 0.

``engine`` decodes whole tables by the same rules, at once; the tests hold the two together.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BARE_UNMAPPED = 1 << 60
"""An UNMAPPED entry that names no place, or place 0."""


INVALID = (1 << 64) - 1
"""An entry that decodes to INVALID: stands for one that cannot be had, or that is not to be believed."""
INVALID_ENTRY = INVALID.to_bytes(8, "little")


class State(IntEnum):
    """What a range of the disk is. The first four are the states of a table entry."""

    UNALLOCATED = 0
    """Nothing here: the parent's bytes; at the end of a chain a hole that reads as zeros."""
    UNMAPPED = 1
    """The guest trimmed it: zeros, also over a parent with data. Its old bytes may still be in the extent."""
    ZERO = 2
    """Zeros."""
    ALLOCATED = 3
    """Bytes of the extent."""
    INVALID = 4
    """Not a state of the format: the entry is corrupt, its bytes cannot be had."""


class Run(NamedTuple):
    """A range that is contiguous on the disk and in its extent, and has one state.

    ``start`` is counted from the disk's first byte (from the extent's, where a single extent is asked).
    """

    start: int
    """Byte on the disk."""
    length: int
    """Bytes."""
    state: State
    place: int | None
    """Byte in the extent's file: of the grain, for UNMAPPED of the grain it was mapped to; ``None`` without one."""
    source: Any = None
    """The :class:`~dissect_sesparse.chain.link.Placed` extent that says so; ``None`` for a hole of the whole chain."""

    @property
    def end(self) -> int:
        return self.start + self.length

    def goes_on_as(self, other: Run) -> bool:
        """Whether ``other`` follows on the disk and in the extent, with the same state."""
        return (
            self.end == other.start
            and self.state == other.state
            and self.source is other.source
            and other.place == (None if self.place is None else self.place + self.length)
        )


def merged(runs: Iterable[Run]) -> Iterator[Run]:
    """Join runs where one goes on as the next."""
    last: Run | None = None
    for run in runs:
        if last is not None and last.goes_on_as(run):
            last = last._replace(length=last.length + run.length)
            continue
        if last is not None:
            yield last
        last = run
    if last is not None:
        yield last


def unpack(data: bytes) -> tuple[int, ...]:
    """The 64-bit little-endian words of some bytes, for those who look at few of them one by one; a rest is left out."""
    count = len(data) // 8
    return struct.unpack_from(f"<{count}Q", data)


def decode_directory_entry(entry: int) -> int | None:
    """The index of the grain table that a directory entry names, or ``None`` for no table.

    Raises:
        ValueError: For any value that is neither.
    """
    if entry == 0:
        return None
    if entry >> 32 != 0x10000000:
        raise ValueError("no directory entry has this form: 0, or 0x10000000 in the high half")
    return entry & 0xFFFFFFFF


def encode_directory_entry(index: int | None) -> int:
    """The inverse of :func:`decode_directory_entry`."""
    return 0 if index is None else 0x10000000 << 32 | index


def decode_entry(entry: int) -> tuple[State, int]:
    """State and place, counted in grains from the grains region's start, of a table entry.

    The place of an UNALLOCATED or ZERO grain means nothing; that of an UNMAPPED one may mean nothing (see above).

    Raises:
        ValueError: For an unknown state, or an UNALLOCATED entry that is not 0.
    """
    state = entry >> 60
    if state > State.ALLOCATED:
        raise ValueError(f"no grain has the state {state:#x}")
    if state == State.UNALLOCATED and entry:
        raise ValueError("an unallocated grain has no place")
    return State(state), place_of(entry)


def is_allocated(entry: int) -> bool:
    """Whether a table entry has the state ALLOCATED, wherever it points."""
    return entry >> 60 == State.ALLOCATED


def place_of(entry: int) -> int:
    """The place, in grains, that a table entry names, whatever its state."""
    return (entry >> 48 & 0xFFF) | (entry & 0xFFFFFFFFFFFF) << 12


def encode_entry(state: State, place_grain: int = 0) -> int:
    """The inverse of :func:`decode_entry`."""
    return state << 60 | (place_grain & 0xFFF) << 48 | place_grain >> 12


class BackmapWord(int):
    """A word of the backmap: whose a place of the grains region is. 0 for a place that is nobody's.

    Seen in one real extent: 0x1 in the top four bits, then the number of the entry in its table, then that of the table
    (see ``backmap`` for what the latter counts).
    """

    @property
    def is_valid(self) -> bool:
        """Whether it names a grain."""
        return self >> 60 == 1

    @property
    def slot(self) -> int:
        """The number of the entry in its table."""
        return self >> 48 & 0xFFF

    @property
    def table(self) -> int:
        """The number of the table."""
        return self & 0xFFFFFFFFFFFF

    @classmethod
    def of(cls, table: int, slot: int) -> BackmapWord:
        """The word that names an entry."""
        return cls(1 << 60 | slot << 48 | table)
