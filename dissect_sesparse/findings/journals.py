"""The journals of a chain's extents: every record, what became of those of a dirty one, and what was rebuilt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.repair.journal import Record, read_journal
from dissect_sesparse.repair.repairs import repairs_of
from dissect_sesparse.source.errors import short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.chain.link import Link
    from dissect_sesparse.extent.sesparse import SESparseExtent
    from dissect_sesparse.repair.replay import Replay

BEST_EFFORT = "best effort: the records' checksum is not known, so none could be verified"


@dataclass(frozen=True)
class JournalEntry:
    """A record of an extent's journal."""

    link: Link
    extent: SESparseExtent
    record: Record
    state: str
    """``applied``, ``torn`` (not whole), or ``history``."""


def journal(chain: Chain) -> Iterator[JournalEntry]:
    """All records of all links, newest link first, each journal in the order of its slots.

    Raises:
        UnreadableError: If a journal cannot be read.
    """
    for link in chain.links:
        for extent in link.sesparse_extents:
            for record in read_journal(extent.file, extent.header).records:
                yield JournalEntry(link, extent, record, _state(extent, record))


def _state(extent: SESparseExtent, record: Record) -> str:
    if (replay := repairs_of(extent).replay) is not None:
        return replay.state_of(record)
    return "history" if record.problem is None else "torn"


class RepairNote(NamedTuple):
    """What is to be said about a repair in memory. ``source_offset`` is in bytes."""

    code: str
    level: str
    message: str
    source_offset: int


def salvage_notes(extent: SESparseExtent) -> Iterator[RepairNote]:
    """What ``salvage=1`` rebuilt of an extent, and from what. Goes through all of its tables then."""
    for message in extent.header.rebuilt:
        yield RepairNote("header-rebuilt", "warning", message, 0)
    repairs = repairs_of(extent)
    if repairs.restored:
        message = (
            f"{repairs.restored} sectors of metadata were lost, and the newest images in the journal's history stand in for "
            f"them ({BEST_EFFORT})"
        )
        yield RepairNote("tables-rebuilt", "warning", message, extent.header.regions["journal"].offset)
    if (salvage := repairs.salvage) is None:
        return
    salvage.check()
    for message in salvage.notes:
        yield RepairNote("tables-rebuilt", "warning", message, extent.header.regions["grain_directory"].offset)
    if salvage.damaged_tables:
        message = (
            f"{salvage.damaged_tables} damaged tables: {salvage.rebuilt_entries} entries were rebuilt from the backmap and the "
            f"free bitmap, {salvage.lost_entries} cannot be read. By an inference from one real extent; a rebuilt grain that "
            "the guest trimmed may show its old bytes"
        )
        yield RepairNote("tables-rebuilt", "warning", message, extent.header.regions["grain_tables"].offset)


def journal_notes(extent: SESparseExtent) -> Iterator[RepairNote]:
    """What became of the journal of a dirty extent; nothing for a clean one."""
    if not extent.dirty:
        return
    replay = repairs_of(extent).replay
    flag = extent.header.regions["volatile_header"].offset + 0x18
    dirty = f"replay_journal is {extent.header.replay_journal:#x}: the extent was not closed cleanly"
    if replay is None:
        yield RepairNote("journal-dirty", "warning", f"{dirty}, and changes in its journal are not shown", flag)
        return
    if replay.applied:
        first, last = replay.applied[0].sequence, replay.applied[-1].sequence
        message = (
            f"{dirty}; {len(replay.applied)} records of its journal, numbers {first:#x} to {last:#x}, were replayed in "
            f"memory and changed {replay.changed} sectors of metadata ({BEST_EFFORT})"
        )
        if replay.undone:
            message += (
                f"; {replay.undone} entries that it would make unallocated are allocated by the file's table, backmap and "
                "bitmap, and cannot be read: were the tables copied later than the journal? (journal=ignore shows them)"
            )
        yield RepairNote("journal-replayed", "warning", message, flag)
    else:
        message = f"{dirty}, and nothing of its journal is shown: {short(replay.problem or 'it has no record', 500)}"
        yield RepairNote("journal-dirty", "warning", message, flag)
    if replay.damaged:
        offset = replay.torn.offset if replay.torn is not None else extent.header.regions["journal"].offset
        yield RepairNote("journal-torn", "warning", _torn(replay), offset)


def _torn(replay: Replay) -> str:
    message = f"the replay of the journal ended: {short(replay.problem or '', 500)}"
    if replay.doubted:
        message += f"; {replay.doubted} entries that records behind it contradict cannot be read"
    if replay.distrusts_empty:
        message += "; nothing tells what a lost record changed, so entries that say nothing cannot be read"
    return (
        f"{message} (journal=ignore shows the tables as they lie)"
        if replay.doubted or replay.distrusts_empty
        else message
    )
