"""The deleted files of ext that only the journals name: what they were called, when they were there, and what is left of them.

A file counts as deleted only if the running guest has no inode in use with its number, generation and time of birth, and no newer
transaction of a journal that may still be replayed has one. Its name is *likely* where a committed transaction has it in a folder and the
journal shows that its inode was this file's then, without a transaction missing between; else it is *ambiguous*.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from dissect_sesparse.extfs.inode import INLINE_FLAG, NOT_PLAIN_FLAGS
from dissect_sesparse.files.deleted import DeletedFile
from dissect_sesparse.files.deletion import deletion_between
from dissect_sesparse.files.ext_content import DOUBT, BlocksInUse, LaterOwners, LoggedContent, claims_of, runs_at
from dissect_sesparse.files.ext_deletion import freed_inode, guest_time, logged_deletion
from dissect_sesparse.files.ext_story import LoggedPaths, naming_of_logged, story_of
from dissect_sesparse.files.trust import was_behind
from dissect_sesparse.time.time_window import CLOCK_TICK
from dissect_sesparse.time.views import Period

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.extfs.history import ExtHistory
    from dissect_sesparse.extfs.inode import ExtRun
    from dissect_sesparse.extfs.state import ExtState
    from dissect_sesparse.extfs.uses import JournalUse
    from dissect_sesparse.files.deleted import Budget
    from dissect_sesparse.files.ext_content import BlockClaim
    from dissect_sesparse.files.not_looked import Warnings
    from dissect_sesparse.files.story import Deletion
    from dissect_sesparse.time.time_window import TimeWindows


class LoggedFiles:
    """The files that only the journals have.

    Args:
        chain: The disk.
        history: What the journals say.
        doubts: Why what a state says may be behind its journal, by its depth; empty where it was closed.
        windows: Of the disk.
        budget: How many bytes are read at the most.
        warnings: Gets what is odd.
    """

    def __init__(
        self,
        chain: Chain,
        history: ExtHistory,
        doubts: dict[int, str],
        windows: TimeWindows,
        budget: Budget,
        warnings: Warnings,
    ):
        self._chain = chain
        self._history = history
        self._states = {state.depth: state for state in history.states}
        self._doubts = doubts
        self._windows = windows
        self._budget = budget
        self._warnings = warnings
        self.paths = LoggedPaths(history, warnings)

    def files(self, uses: Sequence[JournalUse]) -> Iterator[DeletedFile]:
        """The files of some uses of inodes, none of which any state has."""
        ended: dict[int, list[JournalUse]] = defaultdict(list)
        for use in uses:
            depth = self._gone_by(use)
            if depth is not None:
                ended[depth].append(use)
        claims = claims_of(self._history, self._history.states[0]) if ended else []
        for depth, together in sorted(ended.items()):
            yield from self._of_period(depth, together, claims)

    def _gone_by(self, use: JournalUse) -> int | None:
        """The depth of the oldest state that surely has a file no more; ``None`` where it may be there yet."""
        sequence = use.ended.sequence if use.ended is not None else use.last.sequence
        for depth, last in sorted(self._history.last.items(), reverse=True):
            if last >= sequence and (use.ended is not None or not self._doubts[depth]):
                return depth
        newest = self._history.states[0].depth
        return newest if not self._doubts[newest] else None

    def _of_period(self, depth: int, uses: list[JournalUse], claims: Sequence[BlockClaim]) -> Iterator[DeletedFile]:
        state = self._states[depth]
        period = Period(self._chain, depth) if state.place is not None else None
        in_use = BlocksInUse(state, self._history, closed=not self._doubts[depth])
        owners = LaterOwners(claims, self._history.last.get(depth, 1 << 62))
        for use in sorted(uses, key=lambda each: (-each.last.sequence, each.use)):
            runs: tuple[ExtRun, ...] = ()
            lost = _lost(use) or (
                "" if period or use.inode.flags & INLINE_FLAG else "its volume is not one piece of the disk"
            )
            try:
                if not lost:
                    runs = owners.without(
                        use.last.sequence, runs_at(self._history, use.inode, use.last.sequence, state)
                    )
            except Exception as e:  # whatever cannot be so
                lost = f"where its blocks were cannot be read: {e or type(e).__name__}"
            if not lost and not use.inode.flags & INLINE_FLAG and all(run.place is None for run in runs):
                lost = "as the journal has its inode, none of its blocks was written, or others have them"
            content = LoggedContent(use.inode, runs, period, in_use, state.place or 0, state.block_size)
            yield self._file(use, state, content, lost)

    def _file(self, use: JournalUse, state: ExtState, content: LoggedContent, lost: str) -> DeletedFile:
        inode, link = use.inode, self._chain.links[state.depth]
        size = min(inode.size, (1 << 63) - 1)
        path = self.paths.of(use, state)
        if size > self._chain.size:
            lost = lost or f"its inode says {size} bytes, on a disk of {self._chain.size}"
        committed = guest_time(use.last.committed)
        when = f" of {committed.isoformat()}" if committed is not None else ""
        deletion = self.deletion(use, state)
        return DeletedFile(
            link=link,
            volume=state.volume,
            path=path,
            size=size,
            mtime=guest_time(inode.mtime),
            btime=guest_time(inode.use.born),
            atime=guest_time(inode.atime),
            inode=inode.use.number,
            filesystem="ext",
            naming=naming_of_logged(use, self._chain),
            deletion=deletion,
            proof=f"the journal has them in its inode, as transaction {use.last.sequence}{when} left it",
            pieces=lambda: self._budget.of(content.pieces(), path) if not lost else iter(()),
            doubt=DOUBT,
            known=size > 0 and not lost,
            lost=lost,
            place=state.place,
            story=story_of(use, self.paths, state, deletion),
        )

    def deletion(self, use: JournalUse, state: ExtState) -> Deletion:
        """When a file was deleted, by the states, its freed inode and the transactions.

        Args:
            use: The file.
            state: The oldest one that surely has it no more.
        """
        history = self._history
        before = [d for d, last in history.last.items() if last <= use.last.sequence and d > state.depth]
        before = before or [d for d in self._states if d > state.depth]
        older = next((d for d in sorted(before) if not was_behind(self._doubts[d])), None)
        deletion = deletion_between(self._chain, self._windows, older, state.depth)
        return by_journal(self._chain, history, deletion, use)


def by_journal(chain: Chain, history: ExtHistory, deletion: Deletion, use: JournalUse) -> Deletion:
    """A deletion, narrowed by what the journal has of the inode."""
    alive, newer = use.inode.ctime, history.states[::-1]
    if use.freed is not None and (seconds := use.dead_at(history.states[0].inodes)) is not None:
        where = f"transaction {use.freed.sequence} of the journal of {chain.links[use.freed.depth].name}"
        return logged_deletion(deletion, alive, seconds, where)
    since = [state for state in newer if history.last.get(state.depth, 0) >= use.last.sequence]
    freed = freed_inode(use.inode, since)
    if freed is not None:
        return logged_deletion(deletion, alive, freed[1], chain.links[freed[0].depth].name)
    if use.ended is None or not use.ended.committed:
        return deletion
    since, until = guest_time(alive), guest_time(use.ended.committed)
    which = f"transaction {use.ended.sequence} of the guest's journal, which has it no more, was committed at {until}"
    basis = f"{deletion.basis}; by the guest's clock it was changed last at {since}, and {which}"
    until = until + CLOCK_TICK if until is not None else None
    return deletion._replace(window=deletion.window.narrowed(since, until), basis=basis)


def _lost(use: JournalUse) -> str:
    if not use.inode.size:
        return "as the journal has its inode, it has no bytes yet: what was written may never have reached the disk"
    if use.inode.flags & NOT_PLAIN_FLAGS:
        return "its content is encrypted, compressed or sealed"
    return ""
