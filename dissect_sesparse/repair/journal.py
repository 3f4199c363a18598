"""The journal of a seSparse extent: a redo log of whole metadata sectors.

Layout (seen once, in the one real extent at hand): slots of 25 sectors; a slot starts with a header sector that lists up to 24
pairs of target sector and count, the full new image of each target sector follows. Records stay after use, so even a clean
extent's journal is a history of its last changes. It never holds grains.

A record is *whole* where everything that can be checked holds: slot number, length, targets inside directory, tables,
bitmap or backmap, images of which every entry decodes. The 64-bit value at 0x20 is probably a checksum, but which is not
known: it is neither trusted nor held against a record.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dissect_sesparse.extent.c_sesparse import SLOT_SECTORS, c_sesparse
from dissect_sesparse.extent.entry import BackmapWord, State, decode_directory_entry, decode_entry, unpack
from dissect_sesparse.source.file import SECTOR

if TYPE_CHECKING:
    from dissect_sesparse.extent.header import Header
    from dissect_sesparse.source.file import EvidenceFile

TARGET_REGIONS = ("grain_directory", "grain_tables", "free_bitmap", "backmap")
"""The regions whose sectors a record may replace."""
MAX_SLOTS = 1296
"""Slots that are looked at: 16 MiB, sixteen times the only size ever seen."""


@dataclass(frozen=True)
class Target:
    """Sectors that a record replaces. ``sector`` is counted from the file's start."""

    sector: int
    count: int
    region: str


@dataclass(frozen=True)
class Record:
    """What is in a slot of the journal."""

    slot: int
    """By its place."""
    offset: int
    """In the file, in bytes."""
    generation: int
    sequence: int
    timer: int
    """Microseconds, by its steps; since when is not known."""
    size: int | None
    """Bytes, its header included; ``None`` where its length cannot be true."""
    targets: tuple[Target, ...]
    """Empty where any of them cannot be true."""
    images: tuple[bytes, ...]
    """The new content of each target."""
    problem: str | None
    """Why it is not whole; ``None`` where it is."""

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions that it changes, each once, in its order."""
        return tuple(dict.fromkeys(target.region for target in self.targets))

    @cached_property
    def sectors(self) -> dict[int, bytes]:
        """The new content of each sector."""
        return {
            target.sector + number: image[number * SECTOR : (number + 1) * SECTOR]
            for target, image in zip(self.targets, self.images)
            for number in range(target.count)
        }


@dataclass(frozen=True)
class Journal:
    """What the journal's header and its slots say."""

    generation: int | None
    """``None`` where the journal's header cannot be trusted."""
    next_sequence: int
    """The number that the next transaction would have had, by the headers: the lower one where they disagree."""
    problem: str | None
    """What is wrong with the journal's header."""
    slots: int
    """How many there are."""
    records: tuple[Record, ...]
    """All slots with a record's magic, in the order of their places."""


def read_journal(file: EvidenceFile, header: Header, *, infer: bool = False) -> Journal:
    """Read all slots. Memory is bounded by :data:`MAX_SLOTS`, whatever the header says.

    Args:
        file: The extent.
        header: Its headers.
        infer: Where the journal's header is destroyed, take generation and next number from the newest whole record.

    Raises:
        UnreadableError: If the file cannot be read there.
    """
    region = header.regions["journal"]
    there = max(0, min(region.size, file.size - region.offset))
    slots = min(there // (SLOT_SECTORS * SECTOR), MAX_SLOTS)
    found = (_read_slot(file, header, region.offset, slot) for slot in range(slots))
    records = tuple(record for record in found if record is not None)
    generation, following, problem = _read_journal_header(file, header)
    whole = [(record.generation, record.sequence) for record in records if record.problem is None]
    if infer and generation is None and whole:
        generation, last = max(whole)
        following = min(last + 1, header.next_txn_seq_number)
    return Journal(generation, following, problem, slots, records)


def _read_journal_header(file: EvidenceFile, header: Header) -> tuple[int | None, int, str | None]:
    """Generation, next transaction number, and what is wrong."""
    region = header.regions["journal_header"]
    data = file.read_some(region.offset, len(c_sesparse.journal_header)) if region.size >= SECTOR else b""
    if len(data) < len(c_sesparse.journal_header):
        return None, header.next_txn_seq_number, "the journal has no header"
    journal: Any = c_sesparse.journal_header(data)
    if journal.magic != c_sesparse.SESPARSE_JOURNAL_MAGIC:
        expected = c_sesparse.SESPARSE_JOURNAL_MAGIC
        problem = f"the magic of the journal's header is {journal.magic:#x}, expected {expected:#x}"
        return None, header.next_txn_seq_number, problem
    return journal.generation, min(journal.next_txn_seq_number, header.next_txn_seq_number), None


def _read_slot(file: EvidenceFile, header: Header, start: int, slot: int) -> Record | None:
    """The record in a slot; ``None`` without the magic."""
    offset = start + slot * SLOT_SECTORS * SECTOR
    if file.read_some(offset, 8) != c_sesparse.SESPARSE_RECORD_MAGIC.to_bytes(8, "little"):
        return None
    data = file.read(offset, SLOT_SECTORS * SECTOR)
    raw: Any = c_sesparse.journal_record(data[:SECTOR])
    pairs = []
    for pair in raw.targets:
        if pair.sector == 0:
            break
        pairs.append((pair.sector, pair.count))
    problem, targets = _targets(header, pairs, raw.length)
    images, position = [], SECTOR
    for target in targets:
        images.append(data[position : position + target.count * SECTOR])
        position += target.count * SECTOR
    if raw.slot != slot:
        problem = f"it says that it is in slot {raw.slot:#x}"
    if problem is None:
        found = (_undecodable(header, target, image) for target, image in zip(targets, images))
        problem = next((problem for problem in found if problem is not None), None)
    size = raw.length * SECTOR if 0 < raw.length <= SLOT_SECTORS else None
    numbers = raw.generation, raw.sequence, raw.timer
    return Record(slot, offset, *numbers, size, tuple(targets), tuple(images), problem)


def _targets(header: Header, pairs: list[tuple[int, int]], length: int) -> tuple[str | None, list[Target]]:
    """What a record replaces, or why that cannot be true."""
    if not pairs:
        return "it replaces nothing", []
    total = 1 + sum(count for _, count in pairs)
    if length != total or total > SLOT_SECTORS:
        return f"its length is {length:#x} sectors, its targets need {total:#x} and a slot has {SLOT_SECTORS}", []
    targets = []
    for sector, count in pairs:
        region = _region_of(header, sector, count)
        if region is None or not count:
            return f"{count:#x} sectors at sector {sector:#x} are not in {', '.join(TARGET_REGIONS)}", []
        targets.append(Target(sector, count, region))
    return None, targets


def _region_of(header: Header, sector: int, count: int) -> str | None:
    for name in TARGET_REGIONS:
        region = header.regions[name]
        if region.offset <= sector * SECTOR and (sector + count) * SECTOR <= region.end:
            return name
    return None


def _undecodable(header: Header, target: Target, image: bytes) -> str | None:
    """What in an image is no entry of its region; the bitmap takes anything."""
    if target.region == "free_bitmap":
        return None
    check = {"grain_directory": _check_directory_entry, "grain_tables": _check_entry, "backmap": _check_word}
    for number, word in enumerate(unpack(image)):
        try:
            check[target.region](header, word)
        except ValueError as e:
            where = target.sector * SECTOR + number * 8
            return f"the word {word:#x} for byte {where:#x}, in {target.region}, makes no sense: {e}"
    return None


def _check_directory_entry(header: Header, word: int) -> None:
    index = decode_directory_entry(word)
    if index is not None and index >= header.table_count:
        raise ValueError(f"a disk of this size has {header.table_count} tables")


def _check_entry(header: Header, word: int) -> None:
    state, place = decode_entry(word)
    if state == State.ALLOCATED and place >= header.place_count:
        raise ValueError(f"the grains' region ends at place {header.place_count:#x}")


def _check_word(header: Header, word: int) -> None:
    named = BackmapWord(word)
    if word and (not named.is_valid or named.table >= header.table_count):
        raise ValueError("neither 0 nor 0x1 in the top four bits and a table of the disk")
