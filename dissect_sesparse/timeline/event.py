"""What happened, and when, as far as anything tells it: an event, and the moments that stand for it in a timeline.

No time in here is invented. An event has a time of its own (the snapshot list, a log or a file system says it), or a window:
after one moment and before another. In a timeline a window is two moments, *not before* and *not after*, or one where only
one end is known; an event of which neither is known is one moment without a time, behind all others. Each moment repeats both
ends of its window and what they rest on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.source.text import printable
from dissect_sesparse.time.time_window import TimeWindow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from dissect_sesparse.chain.link import Link

KINDS: dict[str, str] = {
    "snapshot-taken": "snapshot taken",
    "link-begun": "link begun",
    "cid": "content ID given",
    "cid-mismatch": "parent changed",
    "file-made": "file made",
    "file-changed": "file changed",
    "file-renamed": "file renamed",
    "file-deleted": "file deleted",
    "file-gone": "file gone",
    "trimmed": "trimmed by the guest",
    "journal": "journal written",
    "host-log": "logged by the host",
}
"""What may happen, and what a timeline calls its time. Moments of one time are in this order."""
MAX_MESSAGE = 2000
"""Characters of a message."""
NOT_BEFORE, NOT_AFTER, NO_TIME = "not before", "not after", "time not known"
DISAGREE = "the times of the snapshots contradict one another"
OUTSIDE = "that is outside of what the snapshots say, so one of the clocks was wrong or was set"


class TimelineEvent(NamedTuple):
    """Something that happened. Names and paths are those of the evidence, as they are."""

    kind: str
    """One of :data:`KINDS`."""
    link: Link
    """In whose time, or to which."""
    message: str
    basis: str
    """What says so, and when."""
    at: datetime | None = None
    """When, where something says that itself."""
    window: TimeWindow = TimeWindow()
    """Between which moments, by the snapshots or closer."""
    path: str | None = None
    """Of a file of the guest."""
    old_path: str | None = None
    size: int | None = None
    """Bytes that it is about."""
    inode: int | None = None
    source: str | None = None
    """The file of evidence that says it, and where in that."""
    source_offset: int | None = None


class Moment(NamedTuple):
    """A row of a timeline."""

    machine: str
    """What the user calls the machine."""
    hostname: str | None
    disk: str
    link: str
    depth: int
    ts: datetime | None
    """In UTC; ``None`` where nothing tells any."""
    timestamp_desc: str
    """What the time is, in words: ``file deleted, not before``."""
    kind: str
    message: str
    """For one line of a terminal."""
    path: str | None
    old_path: str | None
    size: int | None
    inode: int | None
    source: str | None
    source_offset: int | None
    after: datetime | None
    before: datetime | None
    basis: str


def moments(event: TimelineEvent, machine: str, hostname: str | None, disk: str) -> Iterator[Moment]:
    """The moments that stand for an event: one or two."""
    window, basis, at = _sound(event.window), event.basis, event.at
    if window != event.window:
        basis = f"{basis}; {DISAGREE}"
    if at is not None and not _overlap(window, at, at):
        basis = f"{basis}; {OUTSIDE}"
    name = KINDS[event.kind]
    if at is not None:
        times = [(at, name)]
    else:
        ends = ((window.after, NOT_BEFORE), (window.before, NOT_AFTER))
        times = [(end, f"{name}, {which}") for end, which in ends if end is not None]
    for ts, desc in times or [(None, f"{name}, {NO_TIME}")]:
        yield Moment(
            machine, hostname, disk, event.link.name, event.link.depth, ts, desc, event.kind, _one_line(event.message),
            event.path, event.old_path, event.size, event.inode, event.source, event.source_offset, window.after,
            window.before, _one_line(basis),
        )  # fmt: skip


def may_be_between(event: TimelineEvent, first: datetime | None, last: datetime | None) -> bool:
    """Whether an event may have happened from one time to another; ``None``: from the beginning, to the end.

    One in a window may where the window overlaps these times, one without any time always may: nothing is left out that may
    matter.
    """
    return _overlap(_sound(event.window) if event.at is None else TimeWindow(event.at, event.at), first, last)


def _sound(window: TimeWindow) -> TimeWindow:
    """A window, but for one whose ends contradict one another: that tells nothing."""
    is_turned = window.after is not None and window.before is not None and window.after > window.before
    return TimeWindow() if is_turned else window


def _overlap(window: TimeWindow, first: datetime | None, last: datetime | None) -> bool:
    too_early = first is not None and window.before is not None and window.before < first
    too_late = last is not None and window.after is not None and window.after > last
    return not (too_early or too_late)


def _one_line(text: str) -> str:
    text = printable(text)
    more = len(text) - MAX_MESSAGE
    return text if more <= 0 else f"{text[:MAX_MESSAGE]} and {more} characters more"
