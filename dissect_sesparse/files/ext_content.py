"""The bytes of a file of ext that only the journal has: what lies in its blocks as of the time in which it was deleted.

Who wrote there last is never known: blocks that were taken, written and freed within one transaction leave no trace in the journal. So
these bytes are *likely* at the best: they were written in that time, its blocks are free at the end of it, and no file or folder whose
inode the journal has got them later. What lies in the inode itself is proven by the journal's copy of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.extent.engine import bits_of, spans
from dissect_sesparse.extfs.inode import INLINE_FLAG, NOT_PLAIN_FLAGS, ExtRun, ext_inode, ext_runs, inline_content
from dissect_sesparse.files.deleted import CHUNK, Piece, read_pieces
from dissect_sesparse.files.period_bytes import present_parts
from dissect_sesparse.time.views import Origin
from dissect_sesparse.trimmed.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dissect_sesparse.extfs.history import ExtHistory
    from dissect_sesparse.extfs.inode import ExtInode
    from dissect_sesparse.extfs.state import ExtState
    from dissect_sesparse.time.views import Period

DOUBT = "they lie in its blocks, which were written in the time in which it was deleted; nothing tells by whom last"
_SECTOR = 512


class BlockClaim(NamedTuple):
    """That an inode had some blocks."""

    sequence: int
    number: int
    runs: tuple[ExtRun, ...]


def runs_at(history: ExtHistory, inode: ExtInode, sequence: int, state: ExtState) -> tuple[ExtRun, ...]:
    """Where the content of an inode was behind a transaction, with its holes.

    Raises:
        Exception: Where that cannot be known.
    """
    if inode.flags & INLINE_FLAG:
        return ()
    runs = ext_runs(inode, lambda block: history.block_at(block, sequence, state), state.block_size)
    found, end = [], 0
    for run in runs:
        found += [ExtRun(end, None, run.offset - end)] if run.offset > end else []
        found.append(run)
        end = run.offset + run.blocks
    last = -(-inode.size // state.block_size)
    return (*found, ExtRun(end, None, last - end)) if last > end else tuple(found)


def claims_of(history: ExtHistory, state: ExtState) -> list[BlockClaim]:
    """Which inode had which blocks, by descending transaction: each once, as its copies say it first."""
    found: list[BlockClaim] = []
    for number, copies in history.inodes.items():
        before: bytes | None = None
        for copy in copies:
            inode = ext_inode(number, copy.raw)
            if not inode.is_live or not (inode.is_file or inode.is_folder):
                before = None
                continue
            if inode.block != before:
                before = inode.block
                try:
                    found.append(BlockClaim(copy.sequence, number, runs_at(history, inode, copy.sequence, state)))
                except Exception:  # noqa: S112 - its blocks are not known: what they are is only likely anyhow
                    continue
    return sorted(found, key=lambda claim: -claim.sequence)


class LaterOwners:
    """Which blocks went to others after a transaction, asked by descending transaction."""

    def __init__(self, claims: Sequence[BlockClaim], until: int):
        self._claims = [claim for claim in claims if claim.sequence <= until]
        self._taken = Ranges()
        self._at = 0

    def without(self, sequence: int, runs: Sequence[ExtRun]) -> tuple[ExtRun, ...]:
        """Those parts of some runs that no inode got after a transaction.

        Raises:
            TooManyRangesError: If there are too many.
        """
        while self._at < len(self._claims) and self._claims[self._at].sequence > sequence:
            for _, place, count in self._claims[self._at].runs:
                if place is not None:
                    self._taken.add(place, place + count)
            self._at += 1
        kept = []
        for run in runs:
            if run.place is None:
                kept.append(run)
                continue
            for low, high, taken in self._taken.split(run.place, run.place + run.blocks):
                if not taken:
                    kept.append(ExtRun(run.offset + low - run.place, low, high - low))
        return tuple(kept)


class BlocksInUse:
    """Which blocks a state has in use, as its bitmaps say; those of the journal where it was not closed."""

    def __init__(self, state: ExtState, history: ExtHistory, *, closed: bool):
        self._state = state
        self._history = history
        self._closed = closed

    def free(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of a range of blocks that nobody has."""
        sb = self._state.extfs.sb
        each, first = sb.s_blocks_per_group, sb.s_first_data_block
        while start < end:
            group, inside = divmod(start - first, each)
            until = min(end, first + (group + 1) * each)
            bitmap = self._state.group(group).bitmap
            if bitmap is None:
                yield start, until
            else:
                bits = bits_of(self._block(bitmap))[inside : inside + until - start]
                for low, count in spans(~bits):
                    yield start + low, start + low + count
            start = until

    def _block(self, number: int) -> bytes:
        if self._closed:
            return self._state.block(number)
        return self._history.block_at(number, self._history.last.get(self._state.depth, 0), self._state)


class LoggedContent(NamedTuple):
    """What there is of a file whose inode the journal has."""

    inode: ExtInode
    runs: tuple[ExtRun, ...]
    """Without what went to others later."""
    period: Period | None
    """The time in which it was deleted; ``None`` where the volume is not one piece of the disk."""
    in_use: BlocksInUse
    place: int
    block_size: int

    def pieces(self) -> Iterator[Piece]:
        """By ascending offset."""
        if self.inode.flags & INLINE_FLAG:
            yield Piece(0, inline_content(self.inode), True)
            return
        if self.inode.flags & NOT_PLAIN_FLAGS:
            return
        size, end = self.inode.size, 0
        for offset, place, count in self.runs:
            start, end = offset * self.block_size, min(size, (offset + count) * self.block_size)
            if place is None:
                for at in range(start, end, CHUNK):
                    yield Piece(at, bytes(min(CHUNK, end - at)), False)
            elif self.period is not None:
                for low, high in self.in_use.free(place, place + count):
                    yield from self._written(start + (low - place) * self.block_size, low, high, end)

    def _written(self, offset: int, low: int, high: int, end: int) -> Iterator[Piece]:
        """What was written in that time to some blocks, up to the end of the file."""
        period, start = self.period, self.place + low * self.block_size
        assert period is not None
        size = min((high - low) * self.block_size, end - offset)
        for place, count, origin in period.parts(start, size) if size > 0 else ():
            if origin is not Origin.OWN:
                continue
            for at, data in read_pieces(period.read, place, place + count, _SECTOR, lambda error: None):
                for skip, part in present_parts(period, at, data):
                    yield Piece(offset + at + skip - start, part, False)
