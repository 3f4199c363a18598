"""When a file was deleted, from the states of the disk that have it and have it no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dissect_sesparse.files.story import Deletion
from dissect_sesparse.files.trust import doubt_of, is_unmarked, was_behind
from dissect_sesparse.time.time_window import CLOCK_TICK

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.files.volumes import VolumeState
    from dissect_sesparse.time.time_window import TimeWindows


def deletion_between(chain: Chain, windows: TimeWindows, older: int | None, newer: int | None) -> Deletion:
    """When a file was deleted that a state has, or could have had, and a newer one has not.

    Args:
        chain: The disk.
        windows: Its windows.
        older: The depth of the newest state that has the file, or of the newest one before it was made and deleted;
            ``None`` where there is none.
        newer: The depth of the oldest state that is known not to have it any more; ``None`` where there is none.
    """
    window = windows.between(older, newer)
    ends = [
        f"{'after' if depth is older else 'before'} the state of {chain.links[depth].name}"
        + (f", which was frozen at {time.isoformat()}" if time is not None else "")
        for depth, time in ((older, window.after), (newer, window.before))
        if depth is not None
    ]
    return Deletion(window, None, "by the snapshots: " + " and ".join(ends) if ends else "nothing tells when")


def deletion_after_state(
    chain: Chain, windows: TimeWindows, states: Sequence[VolumeState], number: int, partial: Collection[int]
) -> Deletion:
    """When a file was deleted that a state has, and no newer one.

    Args:
        chain: The disk.
        windows: Its windows.
        states: The file system in all states of the disk that have it, newest first.
        number: Which of them has the file.
        partial: The depths of those that were not looked at to their end: that they lack the file shows nothing.
    """
    before = next((state.depth for state in states[:number][::-1] if state.depth not in partial), None)
    return deletion_since(chain, windows, states[number:], before)


def deletion_since(chain: Chain, windows: TimeWindows, states: Sequence[VolumeState], newer: int | None) -> Deletion:
    """When a file was deleted that a state has, or that nothing there says to be deleted.

    Args:
        chain: The disk.
        windows: Its windows.
        states: That state and those below it.
        newer: The depth of the oldest state that is known not to have it any more; ``None`` where there is none.
    """
    after = newest_written(states)
    found = deletion_between(chain, windows, after, newer)
    if after is None or not is_unmarked(states[0].fs):
        return found
    note = "its file system does not mark that it is in use: what was deleted shortly before may not have been written by then"
    return found._replace(basis=f"{found.basis}; {note}")


def newest_written(states: Sequence[VolumeState]) -> int | None:
    """The depth of the newest of some states that has all that its guest had done: what it has was deleted later."""
    return next((state.depth for state in states if not was_behind(doubt_of(state.fs, state.volume))), None)


def deletion_at(deletion: Deletion, logged: datetime, alive: datetime | None, where: str) -> Deletion:
    """What is known of a deletion, narrowed by when the guest logged it.

    The window is the host's, and the time the guest's: where they contradict each other, the window stays as it is.

    Args:
        deletion: By the snapshots.
        logged: When the file was deleted, by the guest's clock.
        alive: When it was surely there yet, by the same.
        where: What says so.
    """
    after, before = deletion.window
    basis = f"{deletion.basis}; {where} has its deletion at {logged.isoformat()}"
    if (after is not None and logged < after) or (before is not None and logged > before):
        basis += ", which is not between the snapshots: the guest's clock was another"
        return deletion._replace(logged=logged, basis=basis)
    since = alive if alive is not None and alive <= logged else None
    if since is not None:
        basis += f", and what it has before that at {since.isoformat()}"
    return deletion._replace(window=deletion.window.narrowed(since, logged + CLOCK_TICK), logged=logged, basis=basis)
