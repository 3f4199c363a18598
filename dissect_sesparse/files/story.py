"""What is known of a file beside its bytes: what names it and how sure that is, when it was deleted, what happened to it.

How sure a *name* is and whose the *bytes* are, are two questions, with two answers: a name that an index block kept may be
beyond doubt, and nothing left of the file; bytes may be proven those of an MFT record whose folder is a guess. The words of
both follow one rule: a conclusion needs positive evidence.

- ``proven``: a state of the disk whose file system was closed says so.
- ``likely``: something of the file system says so, and nothing contradicts it; but it was in use, or that something was
  freed since.
- ``ambiguous``: there are several answers, or what says so may be of another file.
- ``unknown``: nothing says it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.time.time_window import TimeWindow

if TYPE_CHECKING:
    from datetime import datetime

NAME_STATES: tuple[str, ...] = ("proven", "likely", "ambiguous", "unknown")
"""How sure a name is."""
SOURCES: tuple[str, ...] = ("snapshot", "mft", "usnjrnl", "index", "journal", "directory")
"""What may name a file, best first: a state that has it; its own deleted MFT record; the change journal of NTFS; a deleted
entry of an NTFS index; an old copy in a journal of ext or XFS; a deleted entry of a directory."""
EVENTS: tuple[str, ...] = ("made", "changed", "renamed", "deleted")
"""What may happen to a file."""


class Naming(NamedTuple):
    """What names a file. Nothing here says whose bytes are."""

    by: str
    """One of :data:`SOURCES`: the best."""
    state: str
    """One of :data:`NAME_STATES`."""
    basis: str
    """Why, in words."""
    also: tuple[str, ...] = ()
    """Which other sources name the same file."""


class Deletion(NamedTuple):
    """When a file was deleted, as far as anything tells it."""

    window: TimeWindow = TimeWindow()
    """From the snapshots, or closer where the guest logged it. No end is invented."""
    logged: datetime | None = None
    """By the guest's own log, and its clock; ``None`` where it logged nothing."""
    basis: str = ""
    """What the window and the time rest on."""


NOTHING_LOGGED = Deletion()


class Event(NamedTuple):
    """Something that happened to a file: at a moment that the guest logged, or within a window."""

    what: str
    """One of :data:`EVENTS`."""
    path: str
    """From the root of its file system, afterwards."""
    at: datetime | None
    """By the guest's clock; ``None`` where only the window is known."""
    window: TimeWindow
    basis: str
    """What says so."""
    old_path: str | None = None
    """Before it was renamed."""
