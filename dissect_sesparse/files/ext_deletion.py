"""When a file of ext was deleted, as its freed inode has it.

The driver writes the time at which it frees an inode into ``i_dtime`` (Linux, fs/ext4/inode.c, ``ext4_evict_inode``), and until then the
number of the next inode of its list of orphans (fs/ext4/orphan.c): a number that some inode has is no time. The generation of the
inode tells whose it is. A file that is open when its last name goes is freed when it is closed.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from dissect_sesparse.time.time_window import CLOCK_TICK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.extfs.inode import ExtInode
    from dissect_sesparse.extfs.state import ExtState
    from dissect_sesparse.files.story import Deletion

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def guest_time(nanoseconds: int) -> datetime | None:
    """A time that an inode has; ``None`` where it has none."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000) if nanoseconds else None


def freed_inode(live: ExtInode, newer: Sequence[ExtState]) -> tuple[ExtState, int] | None:
    """The state that has the inode of a file freed, and when that was, in seconds since 1970.

    Args:
        live: The inode as the newest state has it that has the file.
        newer: The states after that one, the oldest first.
    """
    for state in newer:
        inode = None
        with suppress(Exception):  # whatever cannot be read of it: a newer state may have it
            inode = state.inode(live.use.number)
        if inode is None:
            continue
        if not live.use.sure or inode.use != live.use:
            return None
        if (seconds := inode.freed_at(state.inodes)) is not None:
            return state, seconds
    return None


def logged_deletion(deletion: Deletion, alive: int, seconds: int, where: str) -> Deletion:
    """What is known of a deletion, narrowed by when the inode was freed.

    The window is the host's, and the time the guest's: where they contradict each other, the window stays as it is.

    Args:
        deletion: By the snapshots.
        alive: When the file was surely there yet, in nanoseconds since 1970, by the guest's clock.
        seconds: When its inode was freed, in seconds since 1970, by the same.
        where: What says so.
    """
    logged = _EPOCH + timedelta(seconds=seconds)
    basis = f"{deletion.basis}; by the guest's clock its inode was freed at {logged.isoformat()}, as {where} has it"
    after, before = deletion.window
    until = logged + timedelta(seconds=1) + CLOCK_TICK  # it has no parts of a second
    if (after is not None and until < after) or (before is not None and logged > before):
        return deletion._replace(
            logged=logged, basis=f"{basis}, which is not between the snapshots: its clock was another"
        )
    since = guest_time(alive)
    window = deletion.window.narrowed(since if since is not None and since <= until else None, until)
    return deletion._replace(
        window=window, logged=logged, basis=f"{basis}, and changed last at {since}" if since else basis
    )


def deletion_of(chain: Chain, deletion: Deletion, live: ExtInode, newer: Sequence[ExtState]) -> Deletion:
    """What is known of the deletion of a file that a state has.

    Args:
        chain: The disk.
        deletion: By the snapshots.
        live: Its inode there.
        newer: The states after that one, the oldest first.
    """
    freed = freed_inode(live, newer)
    if freed is None:
        return deletion
    return logged_deletion(deletion, live.ctime, freed[1], chain.links[freed[0].depth].name)
