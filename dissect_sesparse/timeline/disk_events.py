"""Events that the files of a disk tell without a look into its file systems: snapshots, links, trims, journals, the host's log."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from dissect_sesparse.extent.entry import State
from dissect_sesparse.extent.residual import as_guest
from dissect_sesparse.extent.sesparse import SESparseExtent
from dissect_sesparse.findings.findings import opening_findings
from dissect_sesparse.findings.journals import journal
from dissect_sesparse.findings.spare import spare_texts
from dissect_sesparse.source.errors import short
from dissect_sesparse.time.states import list_of
from dissect_sesparse.time.time_window import TimeWindow, TimeWindows
from dissect_sesparse.timeline.event import TimelineEvent
from dissect_sesparse.vm.snapshots import lists_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.chain.link import Link
    from dissect_sesparse.findings.journals import JournalEntry
    from dissect_sesparse.vm.snapshots import Snapshot

MAX_TEXTS = 10_000
"""Lines of the host's log in one extent."""
_TIME = re.compile(
    r"(?<!\d)(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?(?:Z|([+-])(\d\d):?(\d\d))(?!\d)"
)
"""As ESXi logs it, with the zone: a time without one is none."""
_BY_LIST = "createTime in the snapshot list, by the host's clock"


def snapshot_events(chain: Chain, seen: set[Snapshot]) -> Iterator[TimelineEvent]:
    """Snapshots that were taken: those that froze a link, and all others of the VM's list.

    Args:
        chain: The disk.
        seen: Those of other disks of the machine: what froze no link of this one is not said again.
    """
    windows = TimeWindows(chain)
    for link in chain.links:
        if (snapshot := windows.snapshot_at(link.depth)) is not None:
            seen.add(snapshot)
            yield _taken(chain, link, snapshot, f"{link.name} holds the disk as it was then")
    newest = chain.links[0]
    for snapshot in (
        list_of(newest.folder, None, [link.name for link in chain.links]) if newest.folder is not None else ()
    ):
        if snapshot not in seen:
            seen.add(snapshot)
            held = short(", ".join(snapshot.disks)) or "no disk"
            yield _taken(chain, newest, snapshot, f"its list names {held}, which is no link of this chain")


def _taken(chain: Chain, link: Link, snapshot: Snapshot, what: str) -> TimelineEvent:
    folders = [folder for folder in (link.folder, chain.links[0].folder) if folder is not None]
    lists = (found for folder in folders for found in lists_of(folder) if snapshot in found.snapshots)
    path = next((found.path for found in lists), None)
    message = f"Snapshot {short(repr(snapshot.name))} taken: {what}"
    basis = _BY_LIST if snapshot.created is not None else "the snapshot list, which has no time of it"
    return TimelineEvent("snapshot-taken", link, message, basis, snapshot.created, source=_text(path))


def link_events(chain: Chain) -> Iterator[TimelineEvent]:
    """Links that were begun: not before the snapshot of the link below was taken.

    That is all that is known: after a revert a new link begins, on a snapshot that was taken long before.
    """
    windows = TimeWindows(chain)
    for link in chain.links:
        below = chain.links[link.depth + 1].name if link.depth + 1 < len(chain.links) else None
        message = f"{link.name} begun" + (f", on {below}" if below is not None else "")
        basis = "by the snapshots: a link begins when that below it was frozen, or later (a revert), and before its own"
        yield TimelineEvent("link-begun", link, message, basis, window=windows.of(link.depth), source=_text(link.path))


def cid_events(chain: Chain) -> Iterator[TimelineEvent]:
    """The content ID of each link, and what does not fit its child's."""
    windows = TimeWindows(chain)
    mismatched = {}
    for finding in opening_findings(chain):
        if finding.code == "cid-mismatch":
            mismatched[finding.depth + 1] = finding
            window = TimeWindow(windows.frozen_at(finding.depth + 1), None)
            basis = "by the content IDs; if it was changed, then after the snapshot was taken of it"
            link = chain.links[min(finding.depth + 1, len(chain.links) - 1)]
            message = f"{link.name} is not as its child expects it: {short(finding.message, 500)}"
            yield TimelineEvent("cid-mismatch", link, message, basis, window=window, source=_text(finding.source))
    for link in chain.links:
        if link.descriptor is None:
            continue
        cid, wanted = short(link.descriptor.cid) or "none", short(link.descriptor.parent_cid) or "none"
        parent = "" if wanted == "ffffffff" else f", expects {wanted} of its parent"
        child = (
            f", as {chain.links[link.depth - 1].name} expects" if link.depth and link.depth not in mismatched else ""
        )
        window = windows.of(link.depth)
        if link.depth in mismatched:
            window = TimeWindow(window.after, None)
        basis = "in its descriptor; a disk gets a new content ID when it is first written after it was opened"
        message = f"{link.name} has the content ID {cid}{child}{parent}"
        yield TimelineEvent("cid", link, message, basis, window=window, source=_text(link.path))


def trim_events(chain: Chain) -> Iterator[TimelineEvent]:
    """One event for each link in which the guest trimmed anything: how many ranges and bytes. Goes through all tables.

    Raises:
        UnreadableError: If a table cannot be read.
    """
    windows = TimeWindows(chain)
    for link in chain.links:
        ranges, size, end, source = 0, 0, -1, None
        for placed in link.extents:
            if not isinstance(placed.extent, SESparseExtent):
                continue
            for run in as_guest(placed.extent).runs(0, placed.length):
                if run.state == State.UNMAPPED:
                    ranges += placed.start + run.start != end
                    size, end = size + run.length, placed.start + run.start + run.length
                    source = source or placed.extent.file.label
        if ranges:
            message = f"The guest trimmed {size} bytes in {ranges} range{'s' if ranges != 1 else ''} of the disk, as {link.name} says"
            basis = (
                "by its grain tables: each of them was trimmed between the snapshots, at times of which nothing tells"
            )
            window = windows.of(link.depth)
            yield TimelineEvent("trimmed", link, message, basis, window=window, size=size, source=_text(source))


def journal_events(chain: Chain) -> Iterator[TimelineEvent]:
    """One event for each extent whose journal has records. Their timer has no known start: it is no time.

    Raises:
        UnreadableError: If a journal cannot be read.
    """
    entries: dict[int, list[JournalEntry]] = {}
    for entry in journal(chain):
        entries.setdefault(id(entry.extent), []).append(entry)
    windows = TimeWindows(chain)
    for found in entries.values():
        link, extent = found[0].link, found[0].extent
        states = {state: sum(entry.state == state for entry in found) for state in ("applied", "history", "torn")}
        counts = ", ".join(f"{count} {state}" for state, count in states.items() if count)
        message = f"{len(found)} records in the journal of {extent.label} ({counts})"
        if whole := [entry.record for entry in found if entry.record.problem is None]:
            numbers, timers = [record.sequence for record in whole], [record.timer for record in whole]
            generations = sorted({record.generation for record in whole})[:10]
            message += (
                f": transactions {min(numbers)} to {max(numbers)}, generation {', '.join(map(str, generations))}, "
                f"timer {min(timers)} to {max(timers)}"
            )
        basis = "by the snapshots; the timer counts microseconds from a start that is not known"
        yield TimelineEvent(
            "journal", link, message, basis, window=windows.of(link.depth), source=_text(extent.file.label),
            source_offset=extent.header.regions["journal"].offset,
        )  # fmt: skip


def host_events(chain: Chain, warn: Callable[[str], None]) -> Iterator[TimelineEvent]:
    """Lines of the host's log that leaked into metadata, each at its own time.

    Args:
        chain: The disk.
        warn: Gets what is not told: more lines than :data:`MAX_TEXTS`.

    Raises:
        UnreadableError: If an extent's file cannot be read.
    """
    for link in chain.links:
        for extent in link.sesparse_extents:
            for number, text in enumerate(spare_texts(extent)):
                if number >= MAX_TEXTS:
                    warn(
                        f"{extent.label}: more than {MAX_TEXTS} texts in its metadata, the rest is not in the timeline"
                    )
                    break
                at = time_in(text.text)
                why = (
                    "the time that it says itself, by the host's clock"
                    if at is not None
                    else "it says no time with a zone"
                )
                basis = f"{why}; text in {text.area}, likely of the host's memory"
                message = f"{text.short}{text.more}"
                yield TimelineEvent(
                    "host-log", link, message, basis, at, size=len(text.text), source=_text(extent.file.label),
                    source_offset=text.offset,
                )  # fmt: skip


def time_in(line: str) -> datetime | None:
    """The first time in a line of a log that names its zone; ``None`` where there is none, or none that can be."""
    for match in _TIME.finditer(line):
        *whole, fraction, sign, hours, minutes = match.groups()
        with suppress(ValueError, OverflowError):
            offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
            zone = timezone(-offset if sign == "-" else offset)
            microseconds = int((fraction or "0").ljust(6, "0")[:6])
            return datetime(*map(int, whole), microseconds, zone).astimezone(timezone.utc)  # type: ignore[arg-type]
    return None


def _text(path: object) -> str | None:
    """Paths of the machine that reads the evidence: as they are."""
    return None if path is None else str(path)
