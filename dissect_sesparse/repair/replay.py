"""The journal of a dirty extent applied to its metadata, in memory.

No dirty extent of a real host is at hand, so all of this is inferred from the records of a clean one, and best effort:

1. Candidates are the records of the journal header's generation, numbered below its next number, in the order of their
   numbers. They are applied while the numbers follow one another and each record is whole (see ``journal``). A gap or a
   torn record ends it: what was written after a lost change may rest on it.
2. A torn record can pass every test. So tables, backmap and free bitmap are held against one another on all that the
   replay touched, before and after. Where they agree less, records are dropped from the end until they agree as well as
   before; that may be all of them.
3. What the records that were not applied would have changed is in doubt: neither the table nor the record is known to be
   right. Such an entry cannot be read, unless it is an allocated one that the backmap and the bitmap confirm. Where it
   cannot even be told what a lost record would have changed, no entry that says *nothing here* is believed. The option
   ``journal=ignore`` shows the tables as they lie.
4. A grain that the file has allocated, by its table, backmap and bitmap, and that the replay would make unallocated is in
   doubt too: no host is known to do that, but where a running VM was copied its tables may be newer than its journal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.extent.backmap_words import named_by, names_entry
from dissect_sesparse.extent.c_sesparse import TABLE_SIZE
from dissect_sesparse.extent.doubt import Doubt
from dissect_sesparse.extent.entry import INVALID_ENTRY, State, encode_entry, is_allocated, place_of, unpack
from dissect_sesparse.extent.metadata import Metadata
from dissect_sesparse.extent.overlaid import LaidOver
from dissect_sesparse.repair.journal import Record, read_journal
from dissect_sesparse.repair.plan import Plan, newest_images, plan_of, sector_of
from dissect_sesparse.source.errors import UnreadableError
from dissect_sesparse.source.file import SECTOR

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from dissect_sesparse.extent.header import Header
    from dissect_sesparse.extent.overlaid import MetadataSource
    from dissect_sesparse.source.file import EvidenceFile

MAX_CHECKS = 1_000_000
"""Entries and words held against one another in the search for what may be applied: some seconds."""
_MAX_BITS = 65536
"""Changed bits of the bitmap that are looked at."""


@dataclass(frozen=True)
class Replay:
    """What became of a dirty extent's journal."""

    applied: tuple[Record, ...] = ()
    """In the order of their numbers."""
    torn: Record | None = None
    """The record that ended the replay, where there is one in its place."""
    problem: str | None = None
    """What ended it before the header's next number, or why nothing was applied."""
    damaged: bool = False
    """Whether the problem is damage: a torn record, a gap, or records that do not fit the rest of the metadata."""
    changed: int = 0
    """Sectors that the replay gives another content than the file's."""
    doubted: int = 0
    """Entries that are not shown because a record that was not applied contradicts them."""
    undone: int = 0
    """Entries that are not shown because the replay would make them unallocated, against all that the file says."""
    distrusts_empty: bool = False
    """Whether entries of 0 are not shown, because a lost record may have set any of them."""

    @property
    def doubt(self) -> Doubt | None:
        """Why there are entries that are not shown; ``None`` where all are."""
        if not (self.doubted or self.undone or self.distrusts_empty):
            return None
        return Doubt(
            "the extent is dirty, and records of its journal that could not be applied contradict this entry",
            "journal=ignore shows the tables as they lie",
        )

    def state_of(self, record: Record) -> str:
        """``applied``, ``torn``, or ``history``: not applied, and nothing wrong with it."""
        if any(record.slot == other.slot for other in self.applied):
            return "applied"
        return "torn" if record.problem is not None or record == self.torn else "history"


def replay(file: EvidenceFile, header: Header, *, infer: bool = False) -> tuple[Replay, MetadataSource]:
    """Apply the journal of a dirty extent.

    Args:
        file: The extent.
        header: Its headers.
        infer: See :func:`~dissect_sesparse.repair.journal.read_journal`.

    Returns:
        What became of it, and what metadata is to be read from.
    """
    try:
        journal = read_journal(file, header, infer=infer)
    except UnreadableError as e:
        return Replay(problem=f"the journal cannot be read: {e}", damaged=True, distrusts_empty=True), LaidOver(
            file, {}, header.regions["grain_tables"]
        )
    plan = plan_of(journal)
    if not plan.records and not plan.rest and not plan.loses_unknown:
        return Replay(torn=plan.torn, problem=plan.problem, damaged=plan.damaged), file
    _drop_what_does_not_fit(file, header, plan)
    sectors = newest_images(plan.records)
    shown = LaidOver(file, sectors)
    changed = sum(sector_of(file, number) != image for number, image in sectors.items())
    doubts = _Doubts(file, shown, header)
    for number, image in _contested(plan).items():
        doubts.look_at(number, image)
    undone = sum(doubts.undone(number) for number in _sectors_in(header, "grain_tables", sectors))
    tables = header.regions["grain_tables"] if plan.loses_unknown else None
    result = Replay(
        tuple(plan.records), plan.torn, plan.problem, plan.damaged, changed, doubts.count, undone, plan.loses_unknown
    )
    return result, LaidOver(file, {**sectors, **doubts.sectors}, tables)


def restore(file: EvidenceFile, header: Header) -> dict[int, bytes]:
    """The sectors of a clean extent's metadata that its journal's history has, and that the file has lost (``salvage=1``).

    All changes go through the journal, so that the newest image of a sector is what a clean extent has there (so it is in the
    one real extent at hand). It stands in where it makes tables, backmap and bitmap agree more, or where what it
    replaces is all zero and they agree no less.
    """
    try:
        plan = plan_of(read_journal(file, header, infer=True))
        if plan.loses_unknown or not plan.records:
            return {}
        newest = newest_images(plan.records)
        lost = {number: image for number, image in newest.items() if sector_of(file, number) != image}
        if not lost:
            return {}
        touched = _Touched(file, header, plan.records)
        before, after = touched.disagreements({}), touched.disagreements(lost)
    except UnreadableError:
        return {}
    blank = not any(any(sector_of(file, number)) for number in lost)
    return lost if after < before or (blank and after == before) else {}


# Do they fit


def _drop_what_does_not_fit(file: EvidenceFile, header: Header, plan: Plan) -> None:
    """The second rule."""
    if not plan.records:
        return
    touched = _Touched(file, header, plan.records)
    before = touched.disagreements({})
    checks, number = touched.cost, len(plan.records)
    while number and touched.disagreements(newest_images(plan.records[:number])) > before:
        checks += touched.cost
        number = number - 1 if checks < MAX_CHECKS else 0
    if number == len(plan.records):
        return
    left_out = plan.records[number:]
    plan.records, plan.rest = plan.records[:number], [*left_out, *plan.rest]
    plan.torn, plan.damaged = left_out[0], True
    dropped = f"with record {left_out[0].sequence:#x} tables, backmap and free bitmap agree less than without it"
    plan.problem = f"{dropped}; {plan.problem}" if plan.problem else dropped


class _Kept(NamedTuple):
    """Which second copies of the tables the extent keeps at all."""

    backmap: bool
    bitmap: bool


class _Touched:
    """The entries, words and bits that some records touch.

    Args:
        file: The extent.
        header: Its headers.
        records: All that may be applied.
    """

    def __init__(self, file: EvidenceFile, header: Header, records: list[Record]):
        self.file, self.header = file, header
        sectors = newest_images(records)
        self.entries = [
            divmod(number, TABLE_SIZE // 8) for number in _words_in(header, "grain_tables", sectors)
        ]  # table index, slot
        self.places = set(_words_in(header, "backmap", sectors)) | set(self._changed_bits(sectors))
        views = [Metadata(file, header), Metadata(file, header, LaidOver(file, sectors))]
        for view in views:
            self.places.update(place for _, _, place in self._allocated(view))
        self.places = {place for place in self.places if place < header.place_count}
        self.cost = len(self.entries) + len(self.places)
        self.kept = _Kept(
            any(view.word(place) for view in views for place in self.places),
            any(view.bit(place) for view in views for place in self.places),
        )

    def _changed_bits(self, sectors: Mapping[int, bytes]) -> Iterator[int]:
        """Places whose bit some record changes, the first of many."""
        from dissect_sesparse.extent.engine import changed_bits  # numpy, only where a journal is replayed

        first = self.header.regions["free_bitmap"].offset // SECTOR
        left = _MAX_BITS
        for number in _sectors_in(self.header, "free_bitmap", sectors):
            changed = changed_bits(sector_of(self.file, number).ljust(SECTOR, b"\0"), sectors[number])[:left]
            yield from ((number - first) * SECTOR * 8 + bit for bit in changed)
            left -= len(changed)

    def _allocated(self, view: Metadata) -> Iterator[tuple[int, int, int]]:
        """Index, slot and place of the allocated entries."""
        for index, slot in self.entries:
            entry = view.raw_entry(index, slot)
            if entry is not None and is_allocated(entry):
                yield index, slot, place_of(entry)

    def disagreements(self, sectors: Mapping[int, bytes]) -> int:
        """How often tables, backmap and bitmap contradict one another, with some sectors replaced."""
        view = Metadata(self.file, self.header, LaidOver(self.file, sectors) if sectors else None)
        count = 0
        for index, slot, place in self._allocated(view):
            if self.kept.backmap and not names_entry(view, view.word(place), index, slot):
                count += 1
            if self.kept.bitmap and not view.bit(place):
                count += 1
        return count + sum(self._is_odd(view, place) for place in self.places)

    def _is_odd(self, view: Metadata, place: int) -> bool:
        """Whether a place is said to be someone's who does not say so, or in use and nobody's."""
        word = view.word(place)
        if word:
            named = {encode_entry(State.ALLOCATED, place), encode_entry(State.UNMAPPED, place)}
            return not named.intersection(named_by(view, word))
        return bool(self.kept.backmap and self.kept.bitmap and view.bit(place))


def _sectors_in(header: Header, name: str, sectors: Collection[int]) -> list[int]:
    region = header.regions[name]
    return sorted(n for n in sectors if region.offset <= n * SECTOR < region.end)


def _words_in(header: Header, name: str, sectors: Collection[int]) -> Iterator[int]:
    """The numbers, in their region, of the 64-bit words of some sectors."""
    start = header.regions[name].offset
    for number in _sectors_in(header, name, sectors):
        first = (number * SECTOR - start) // 8
        yield from range(first, first + SECTOR // 8)


# What is in doubt


def _contested(plan: Plan) -> dict[int, bytes | None]:
    """What the records that were not applied would make of sectors; ``None`` where they are torn."""
    sectors: dict[int, bytes | None] = {}
    for record in plan.rest:
        for number, image in record.sectors.items():
            sectors[number] = None if record.problem is not None or record is plan.torn else image
    return sectors


class _Doubts:
    """Sectors in which entries are made INVALID because two sources contradict each other.

    Args:
        file: The extent as it lies.
        shown: The same after the replay.
        header: Where the regions are.
    """

    def __init__(self, file: EvidenceFile, shown: MetadataSource, header: Header):
        self.file = file
        self.shown = shown
        self.header = header
        self.before, self.after = Metadata(file, header), Metadata(file, header, shown)
        self.sectors: dict[int, bytes] = {}
        self.count = 0

    def look_at(self, number: int, image: bytes | None) -> None:
        """Compare a sector with what a record that was not applied has for it; ``None`` for one that is torn."""
        here = sector_of(self.shown, number)
        if len(here) < SECTOR or here == image:
            return
        other = unpack(image) if image is not None else None
        for name in ("grain_tables", "grain_directory"):
            region = self.header.regions[name]
            if region.offset <= number * SECTOR < region.end:
                first = (number * SECTOR - region.offset) // 8
                differ = [at for at, word in enumerate(unpack(here)) if other is None or other[at] != word]
                if name == "grain_tables":
                    wrong = [at for at in differ if not self._confirmed(self.after, first + at)]
                else:  # a torn record most likely adds to the directory
                    wrong = [at for at in differ if other is not None or self.after.raw_index_of(first + at) is None]
                self._hide(number, here, wrong)
                self.count += len(wrong)

    def undone(self, number: int) -> int:
        """How many entries of a sector of tables the replay would make unallocated, against all that the file says."""
        here = self.sectors.get(number) or sector_of(self.shown, number)
        first = (number * SECTOR - self.header.regions["grain_tables"].offset) // 8
        wrong = [at for at, word in enumerate(unpack(here)) if not word and self._confirmed(self.before, first + at)]
        self._hide(number, here, wrong)
        return len(wrong)

    def _hide(self, number: int, here: bytes, wrong: list[int]) -> None:
        if wrong:
            hidden = bytearray(here)
            for at in wrong:
                hidden[at * 8 : at * 8 + 8] = INVALID_ENTRY
            self.sectors[number] = bytes(hidden)

    def _confirmed(self, view: Metadata, number: int) -> bool:
        """Whether an entry is an allocated one, and backmap and bitmap say so too."""
        index, slot = divmod(number, TABLE_SIZE // 8)
        entry = view.raw_entry(index, slot)
        if entry is None or not is_allocated(entry):
            return False
        place = place_of(entry)
        return names_entry(view, view.word(place), index, slot) and bool(view.bit(place))
