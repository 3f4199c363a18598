"""Which records of a journal may be applied, and what ends them: the first rule of ``replay``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dissect_sesparse.source.errors import UnreadableError
from dissect_sesparse.source.file import SECTOR

if TYPE_CHECKING:
    from dissect_sesparse.extent.overlaid import MetadataSource
    from dissect_sesparse.repair.journal import Journal, Record


@dataclass
class Plan:
    """The records that may be applied, and what ends them."""

    records: list[Record]
    rest: list[Record]
    """Those of the same generation that are not applied."""
    torn: Record | None = None
    problem: str | None = None
    damaged: bool = False
    loses_unknown: bool = False
    """Whether there was a record of which nothing tells what it changed."""


def plan_of(journal: Journal) -> Plan:
    """The first rule."""
    if journal.generation is None:
        lost = any(not record.targets for record in journal.records)
        return Plan([], list(journal.records), problem=journal.problem, damaged=True, loses_unknown=lost)
    ours = [record for record in journal.records if record.generation == journal.generation]
    ours.sort(key=lambda record: (record.sequence, record.slot))
    candidates = [record for record in ours if record.sequence < journal.next_sequence]
    if not candidates:
        problem = (
            f"the journal has no record of generation {journal.generation} below number {journal.next_sequence:#x}"
        )
        return Plan([], ours, problem=problem, damaged=bool(ours))
    plan = Plan([], [])
    wanted = candidates[0].sequence
    for record in candidates:
        if record.sequence != wanted:
            plan.problem = _gap(journal, wanted)
        elif record.problem is not None:
            plan.torn = record
            plan.problem = f"record {wanted:#x} in slot {record.slot} is torn: {record.problem}"
        if plan.problem is not None:
            break
        plan.records.append(record)
        wanted += 1
    plan.rest = ours[len(plan.records) :]
    if plan.problem is None and wanted < journal.next_sequence:
        plan.problem = _gap(journal, wanted)
    elif plan.problem is None and plan.rest:
        plan.problem = f"{len(plan.rest)} records have the header's next number, {wanted:#x}, or a higher one"
    if plan.problem is None and _lost_before(journal, candidates[0]):
        plan.problem = f"slot {candidates[0].slot - 1}, before the oldest record's, has none"
    plan.damaged = plan.problem is not None
    plan.loses_unknown = _loses_unknown(journal, plan, wanted)
    return plan


def _gap(journal: Journal, wanted: int) -> str:
    return f"record {wanted:#x} is not there, expected all below number {journal.next_sequence:#x}"


def _loses_unknown(journal: Journal, plan: Plan, wanted: int) -> bool:
    """Whether there was a transaction, of number ``wanted`` or a higher one, of which nothing tells what it changed."""
    if any(not record.targets for record in plan.rest):
        return True
    if _lost_before(journal, (plan.records or plan.rest)[0]):
        return True
    rest = {record.sequence: record for record in plan.rest if wanted <= record.sequence < journal.next_sequence}
    top = max(rest, default=wanted - 1)
    if len(rest) < top - wanted + 1:
        return True
    # Where the slot behind the newest record still has an older one, no record with a higher number was written.
    newest = rest[top] if rest else plan.records[-1]
    return top + 1 < journal.next_sequence and not _is_older(journal, newest)


def _lost_before(journal: Journal, first: Record) -> bool:
    """Whether a record was in the slot before the oldest one's, and is not whole or not there any more."""
    before = (r for r in journal.records if r.slot == first.slot - 1)
    return first.slot > 0 and not any(r.problem is None and r.generation <= first.generation for r in before)


def _is_older(journal: Journal, newest: Record) -> bool:
    """Whether the slot behind a record has a whole one that is older."""
    slot, number = (newest.slot + 1) % max(1, journal.slots), (newest.generation, newest.sequence)
    older = (r for r in journal.records if r.problem is None and (r.generation, r.sequence) < number)
    return any(record.slot == slot for record in older)


def newest_images(records: list[Record]) -> dict[int, bytes]:
    """The last content that some records give each sector."""
    sectors: dict[int, bytes] = {}
    for record in records:
        sectors.update(record.sectors)
    return sectors


def sector_of(source: MetadataSource, number: int) -> bytes:
    """A sector; empty where it cannot be had."""
    try:
        return source.read_some(number * SECTOR, SECTOR)
    except UnreadableError:
        return b""
