"""What the journals of all states of an ext file system say of its inodes and folders, transaction by transaction.

The journals of several states overlap: a transaction is the same by its number. Of a table of inodes every inode is kept each time it
differs; of a folder the names that a block has, where an inode that was a folder at the time says that the block is its own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.extfs.directory import inline_blocks, is_folder_block, live_names
from dissect_sesparse.extfs.inode import INLINE_FLAG, ExtError, ext_inode, ext_runs
from dissect_sesparse.extfs.journal import ExtJournal
from dissect_sesparse.extfs.state import MAX_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dissect_sesparse.extfs.inode import ExtInode, ExtUse
    from dissect_sesparse.extfs.journal import BlockCopy, Transaction
    from dissect_sesparse.extfs.state import ExtState

MAX_OWNED = 10_000_000
"""Blocks of folders, each counted as often as its folder was changed."""
MAX_COPIES = 1_000_000
"""Copies of inodes, or names, that are kept: each some 400 bytes."""
_CHUNK = 1 << 20
"""Bytes of a journal that are read at once."""
_HAS_JOURNAL = 0x0004
"""EXT3_FEATURE_COMPAT_HAS_JOURNAL."""


class InodeCopy(NamedTuple):
    """An inode as a transaction left it."""

    sequence: int
    committed: int
    """In nanoseconds since 1970, by the guest's clock."""
    depth: int
    """Of the state whose journal has it."""
    raw: bytes


class NameCopy(NamedTuple):
    """A name of an inode, as a transaction left it."""

    sequence: int
    committed: int
    depth: int
    folder: int
    name: bytes


class _Source(NamedTuple):
    """A transaction, in the journal of one state."""

    journal: ExtJournal
    depth: int
    transaction: Transaction

    def content(self, copy: BlockCopy) -> bytes | None:
        """A block; ``None`` where it cannot be had, or is not what was written."""
        with suppress(Exception):
            return self.journal.content(copy, self.transaction.sequence)
        return None


class ExtHistory:
    """What the journals say.

    Args:
        states: The file system in all states of the disk, newest first.
        folders: The folders of each state, by its depth: of the newest all, of the others those that a link wrote.
        is_live: Whether the newest state has a use of an inode: of inodes that only had such no names are kept.
        warn: Gets the state whose journal is not looked at, and why.
    """

    def __init__(
        self,
        states: Sequence[ExtState],
        folders: dict[int, Sequence[int]],
        is_live: Callable[[ExtUse], bool],
        warn: Callable[[ExtState, str], None],
    ):
        self.states = states
        self._folders_of = folders
        self._is_live = is_live
        self._owned = 0
        self.last: dict[int, int] = {}
        """The number of the last transaction that the journal of a state has, by the state's depth."""
        self.inodes: dict[int, list[InodeCopy]] = defaultdict(list)
        """The copies of each inode, by ascending number of transaction."""
        self.names: dict[int, list[NameCopy]] = defaultdict(list)
        """The names that an inode ever had, by ascending number of transaction."""
        self._blocks: dict[int, list[tuple[int, _Source, BlockCopy]]] = defaultdict(list)
        self._sources = self._all(warn)
        self.known = {source.transaction.sequence for source in self._sources}
        self._tables = _tables(states[0])
        try:
            self._read_inodes()
            self._read_folders()
            if self._owned > MAX_OWNED:
                raise ExtError(f"more than {MAX_OWNED} blocks of folders")
        except ExtError as e:
            warn(states[0], f"not all that its journals have is looked at: {e}")

    def _all(self, warn: Callable[[ExtState, str], None]) -> list[_Source]:
        """All transactions, by ascending number; of one that several journals have, the first."""
        found: dict[tuple[int, int], _Source] = {}
        uuid: bytes | None = None
        for state in self.states:
            try:
                journal = _journal_of(state)
                if journal is None:
                    continue
                if uuid not in (None, journal.uuid):
                    warn(state, "it had another journal then, whose transactions cannot be put in order with these")
                    continue
                uuid = journal.uuid
                for transaction in journal.transactions():
                    sequence = transaction.sequence
                    self.last[state.depth] = max(sequence, self.last.get(state.depth, 0))
                    first = transaction.copies[0].at if transaction.copies else 0
                    found.setdefault((sequence, first), _Source(journal, state.depth, transaction))
            except Exception as e:  # whatever cannot be read of it
                warn(state, f"its journal is not looked at: {e or type(e).__name__}")
        return [found[key] for key in sorted(found)]

    # Inodes

    def _read_inodes(self) -> None:
        count, size = 0, self.states[0].inode_size
        each = self.states[0].block_size // size
        for source in self._sources:
            transaction = source.transaction
            for copy in transaction.copies:
                self._blocks[copy.block].append((transaction.sequence, source, copy))
                first = self._first_inode(copy.block)
                data = source.content(copy) if first is not None else None
                for number in range(each if data is not None else 0):
                    raw = data[number * size : (number + 1) * size]  # type: ignore[index]
                    kept = self.inodes.get(first + number)  # type: ignore[operator]
                    if (kept is None and raw[:2] == b"\0\0") or (kept is not None and kept[-1].raw == raw):
                        continue
                    count += 1
                    if count > MAX_COPIES:
                        raise ExtError(f"more than {MAX_COPIES} copies of inodes")
                    self.inodes[first + number].append(  # type: ignore[operator]
                        InodeCopy(transaction.sequence, transaction.committed, source.depth, raw)
                    )

    def _first_inode(self, block: int) -> int | None:
        """The number of the first inode of a block of a table; ``None`` where it is no such block."""
        starts, groups, blocks = self._tables
        at = bisect_right(starts, block) - 1
        if at < 0 or block >= starts[at] + blocks:
            return None
        state = self.states[0]
        inside = (block - starts[at]) * (state.block_size // state.inode_size)
        return groups[at] * state.inodes_per_group + inside + 1

    def at(self, number: int, sequence: int) -> InodeCopy | None:
        """An inode as it was behind a transaction, if that is surely known: all transactions since its copy are there."""
        copies = self.inodes.get(number, [])
        at = bisect_right(copies, sequence, key=lambda copy: copy.sequence) - 1 if copies else -1
        if at < 0 or not all(n in self.known for n in range(copies[at].sequence, sequence + 1)):
            return None
        return copies[at]

    # Folders

    def _read_folders(self) -> None:
        owners, wanted, count = self._owners(), self._wanted(), 0
        for block, copies in self._blocks.items():
            folders = owners.get(block)
            for sequence, source, copy in copies if folders else ():
                data = source.content(copy)
                if data is None or not is_folder_block(data):
                    continue
                committed = source.transaction.committed
                folder = self._owner(folders, sequence, committed)  # type: ignore[arg-type]
                for name in live_names(data) if folder is not None else ():
                    if name.inode in wanted and name.name not in (b".", b".."):
                        count += 1
                        if count > MAX_COPIES:
                            raise ExtError(f"more than {MAX_COPIES} names")
                        where = NameCopy(sequence, committed, source.depth, folder, name.name)  # type: ignore[arg-type]
                        self.names[name.inode].append(where)
        for number, where in self._inline_folders():
            if number in wanted:
                self.names[number].append(where)
        for names in self.names.values():
            names.sort(key=lambda each: each.sequence)

    def _wanted(self) -> set[int]:
        """The inodes that had a use which the newest state has not."""
        found = set()
        for number, copies in self.inodes.items():
            uses = {ext_inode(number, copy.raw).use for copy in copies}
            if any(not self._is_live(use) for use in uses):
                found.add(number)
        return found

    def block_at(self, number: int, sequence: int, state: ExtState) -> bytes:
        """A block as it was behind a transaction, by the journals; where these have no copy, as a state has it."""
        for found, source, copy in reversed(self._blocks.get(number, [])):
            if found <= sequence and (data := source.content(copy)) is not None:
                return data
        return state.block(number)

    def _owners(self) -> dict[int, list[tuple[int, int, int]]]:
        """Which folders had a block: the transaction since which that is known, the folder, and when it was made."""
        had: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for number, copies in self.inodes.items():
            before = b""
            for copy in copies:
                inode = ext_inode(number, copy.raw)
                if inode.is_live and inode.is_folder and inode.block != before:
                    before = inode.block
                    self._add(had, inode, copy.sequence, self.states[0])
        for state in reversed(self.states):
            for number in self._folders_of.get(state.depth, ()):
                with suppress(Exception):  # then its blocks are not known
                    inode = state.inode(number)
                    if inode.is_live and inode.is_folder:
                        self._add(had, inode, self.last.get(state.depth, 0), state)
        for found in had.values():
            found.sort()
        return had

    def _add(self, had: dict[int, list[tuple[int, int, int]]], inode: ExtInode, sequence: int, state: ExtState) -> None:
        if inode.flags & INLINE_FLAG:
            return
        with suppress(Exception):  # whatever cannot be so: then its blocks are not known
            for run in ext_runs(inode, lambda number: self.block_at(number, sequence, state), state.block_size):
                for number in range(min(run.blocks, MAX_FOLDER // state.block_size) if run.place is not None else 0):
                    self._owned += 1
                    if self._owned > MAX_OWNED:
                        return
                    had[run.place + number].append((sequence, inode.use.number, inode.use.born))  # type: ignore[operator]

    def _owner(self, had: Sequence[tuple[int, int, int]], sequence: int, committed: int) -> int | None:
        """The folder that had a block behind a transaction, if that is surely known."""
        before = [each for each in had if each[0] <= sequence]
        if before:
            folder = before[-1][1]
            copies = [copy for copy in self.inodes.get(folder, ()) if copy.sequence <= sequence]
            inode = ext_inode(folder, copies[-1].raw) if copies else None
            return folder if inode is None or (inode.is_live and inode.is_folder) else None
        after = {(folder, born) for _, folder, born in had if born and born <= committed}
        return next(iter(after))[0] if len(after) == 1 else None

    def _inline_folders(self) -> Iterator[tuple[int, NameCopy]]:
        """The names that folders within their inodes have, by the inodes that they are of."""
        for folder, copies in self.inodes.items():
            for copy in copies:
                inode = ext_inode(folder, copy.raw)
                if inode.is_live and inode.is_folder and inode.flags & INLINE_FLAG:
                    for block in inline_blocks(inode):
                        for name in live_names(block):
                            where = NameCopy(copy.sequence, copy.committed, copy.depth, folder, name.name)
                            yield name.inode, where


def _tables(state: ExtState) -> tuple[list[int], list[int], int]:
    """Where the tables of inodes start, of which groups, and how many blocks each has."""
    found = sorted((state.group(number).table, number) for number in range(state.extfs.groups_count))
    blocks = -(-state.inodes_per_group * state.inode_size // state.block_size)
    return [start for start, _ in found], [group for _, group in found], blocks


def _journal_of(state: ExtState) -> ExtJournal | None:
    """The journal that a state has; ``None`` where it has none.

    Raises:
        ExtError: If it is not within the file system.
        Exception: Whatever cannot be read of it.
    """
    sb = state.extfs.sb
    if not sb.s_feature_compat & _HAS_JOURNAL:
        return None
    if not sb.s_journal_inum:
        raise ExtError("it is on another disk")
    stream = state.extfs.get_inode(sb.s_journal_inum).open()

    @lru_cache(8)
    def chunk(number: int) -> bytes:
        stream.seek(number * _CHUNK)
        return stream.read(_CHUNK)

    def read(offset: int, size: int) -> bytes:
        first, last = offset // _CHUNK, (offset + size - 1) // _CHUNK
        data = chunk(first) if first == last else b"".join(map(chunk, range(first, last + 1)))
        data = data[offset - first * _CHUNK :][:size]
        if len(data) < size:
            raise ExtError(f"it ends before {offset + size}")
        return data

    return ExtJournal(read, stream.size)
