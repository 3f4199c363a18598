"""The files of ext that the journals have and no state: made and deleted between two snapshots, or before the journal was written on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.extfs.inode import ext_inode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dissect_sesparse.extfs.history import ExtHistory, InodeCopy, NameCopy
    from dissect_sesparse.extfs.inode import ExtInode, ExtUse


class LoggedName(NamedTuple):
    """A name that a file had."""

    copy: NameCopy
    sure: bool
    """Whether the journal shows that its inode was this file's then."""


class JournalUse(NamedTuple):
    """A file, from the first copy of its inode to the last one that has a name."""

    use: ExtUse
    first: InodeCopy
    last: InodeCopy
    inode: ExtInode
    """As of the last copy."""
    freed: InodeCopy | None
    """The next copy, if that has it freed."""
    ended: InodeCopy | None
    """The next copy, whatever it says: by then the file was deleted."""
    names: tuple[LoggedName, ...]
    """The oldest first: each that is another than the one before."""

    def dead_at(self, inodes: int) -> int | None:
        """When the inode was freed, in seconds since 1970, as its next copy has it. ``inodes``: how many there are."""
        return ext_inode(self.use.number, self.freed.raw).freed_at(inodes) if self.freed is not None else None


def logged_uses(history: ExtHistory) -> Iterator[JournalUse]:
    """All regular files that the journals have, those of which nothing tells their uses apart left out."""
    for number, copies in history.inodes.items():
        live: list[tuple[InodeCopy, ExtInode]] = []
        for copy in copies:
            inode = ext_inode(number, copy.raw)
            if live and (inode.use != live[-1][1].use or not inode.is_live):
                yield _use(history, live, copy, inode)
                live = []
            if inode.is_live and inode.is_file and inode.use.sure:
                live.append((copy, inode))
        if live:
            yield _use(history, live, None, None)


def _use(
    history: ExtHistory, live: Sequence[tuple[InodeCopy, ExtInode]], after: InodeCopy | None, dead: ExtInode | None
) -> JournalUse:
    (first, _), (last, inode) = live[0], live[-1]
    freed = after if dead is not None and dead.use == inode.use else None
    return JournalUse(inode.use, first, last, inode, freed, after, tuple(_names(history, inode.use, first, after)))


def _names(history: ExtHistory, use: ExtUse, first: InodeCopy, ended: InodeCopy | None) -> list[LoggedName]:
    """The names that led to the inode of a file while it was this file's."""
    found: list[LoggedName] = []
    for copy in history.names.get(use.number, ()):
        if copy.sequence < first.sequence or (ended is not None and copy.sequence >= ended.sequence):
            continue
        if found and (found[-1].copy.folder, found[-1].copy.name) == (copy.folder, copy.name):
            continue
        then = history.at(use.number, copy.sequence)
        found.append(LoggedName(copy, then is not None and ext_inode(use.number, then.raw).use == use))
    return found
