"""When a file was deleted, from the states of the disk that have it and have it no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dissect_sesparse.files.story import Deletion
from dissect_sesparse.files.trust import doubt_of, was_behind

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def newest_written(states: Sequence[VolumeState]) -> int | None:
    """The depth of the newest of some states that has all that its guest had done: what it has was deleted later.

    Args:
        states: The state that has a file, and those below it.
    """
    return next((state.depth for state in states if not was_behind(doubt_of(state.fs, state.volume))), None)
