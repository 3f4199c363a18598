"""A destroyed header rebuilt from the capacity (``salvage=1``), where the rest of the file confirms it.

ESXi lays the regions out by the capacity alone (see :func:`layout`; read from one real extent, and QEMU's authors found the
same for three sizes). So whoever knows the capacity (a descriptor, the parent, the host's log) knows where everything is. That
is an inference, and evidence in the file has to bear it out, or the extent is refused: records of the journal whose targets
are where they should be, table entries and backmap words that name one another, or backmap words whose bits are set.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dissect_sesparse.extent.backmap_words import names_entry
from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE, REGION_STEP_SECTORS, TABLE_COVERS, TABLE_SIZE, c_sesparse
from dissect_sesparse.extent.entry import is_allocated, place_of
from dissect_sesparse.extent.header import (
    MAX_CAPACITY_SECTORS,
    Header,
    Padding,
    Region,
    check_places,
    header_of,
    needed_sectors,
    read_const,
    read_struct,
)
from dissect_sesparse.extent.metadata import Metadata
from dissect_sesparse.repair.journal import read_journal
from dissect_sesparse.source.errors import ExtentError, SESparseError, UnreadableError, short
from dissect_sesparse.source.file import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dissect_sesparse.source.file import EvidenceFile
    from dissect_sesparse.source.folder import Folder

UNKNOWN_NUMBER = (1 << 64) - 1
"""The next transaction number, where no header tells it: all records count."""
LOG_NAME = "hostd"
_MAX_LOGS = 16
_MAX_LOG = 64 * 1024 * 1024
_LOGGED = re.compile(
    rb"constMagic\s*=\s*0x0*cafebabe\b.{0,400}?\bcapacity\s*=\s*(\d{1,15})\b", re.DOTALL | re.IGNORECASE
)
_MAX_LOGGED = 64
_SAMPLES = 64
"""Tables, and entries of each, that are asked."""
_MOST = 0.9
"""Of what is asked, how much has to fit."""


@dataclass(frozen=True)
class Capacity:
    """How large an extent's disk may be, and who says so."""

    sectors: int
    source: str
    of_this: bool = True
    """Whether it is said of this very extent; else it is one of many, and counts only where no other fits."""
    problem: str = ""
    """Why the source could not be asked, where it could not."""


@dataclass(frozen=True)
class _Verdict:
    for_it: tuple[str, ...]
    against_it: tuple[str, ...]

    @property
    def confirmed(self) -> bool:
        return bool(self.for_it) and not self.against_it


def logged_capacities(folder: Folder | None) -> Iterator[Capacity]:
    """The capacities of seSparse extents in ``hostd*.log`` files that lie beside an extent, each once.

    ESXi logs the fields of the const header when it makes a snapshot (``constMagic``, ``capacity`` ...; by QEMU's research).
    """
    seen: set[int] = set()
    if folder is None:
        return
    for path in folder.entries_named(LOG_NAME, ".log")[:_MAX_LOGS]:
        try:
            file = folder.open(path)
            try:
                data, size = file.read_some(0, _MAX_LOG), file.size
            finally:
                file.close()
        except SESparseError as e:
            yield Capacity(0, path.name, of_this=False, problem=str(e))
            continue
        for found in _LOGGED.finditer(data):
            sectors = int(found[1])
            if sectors not in seen and len(seen) < _MAX_LOGGED:
                seen.add(sectors)
                yield Capacity(sectors, path.name, of_this=False)
        if size > _MAX_LOG:
            yield Capacity(0, path.name, of_this=False, problem=f"only its first {_MAX_LOG} bytes are looked at")


def layout(capacity_sectors: int) -> dict[str, Region]:
    """Where ESXi puts the regions of a disk of a capacity."""
    needed = needed_sectors(capacity_sectors)
    regions = {
        "volatile_header": Region("volatile_header", SECTOR, SECTOR),
        "journal_header": Region("journal_header", 2 * SECTOR, 2 * SECTOR),
        "journal": Region("journal", REGION_STEP_SECTORS * SECTOR, REGION_STEP_SECTORS * SECTOR),
    }
    sector = 2 * REGION_STEP_SECTORS
    # The backmap is as large as the tables, also where a capacity that is no multiple of 16 MiB needs less of it.
    sizes = [(name, needed[name]) for name in ("grain_directory", "grain_tables", "free_bitmap")]
    for name, size in [*sizes, ("backmap", needed["grain_tables"])]:
        sectors = -(-size // REGION_STEP_SECTORS) * REGION_STEP_SECTORS
        regions[name] = Region(name, sector * SECTOR, sectors * SECTOR)
        sector += sectors
    regions["grains"] = Region("grains", sector * SECTOR, capacity_sectors * SECTOR)
    return regions


def rebuild_header(
    file: EvidenceFile, capacities: Iterable[Capacity], error: ExtentError, *, allow_truncated: bool = False
) -> Header:
    """The headers of an extent of which at least one is destroyed.

    Args:
        file: The extent.
        capacities: What may be its capacity, most likely first.
        error: Why its headers as they lie are refused.
        allow_truncated: Accept regions that leave the file.

    Raises:
        ExtentError: Where nothing fits: it says what was tried.
    """
    try:
        capacity, regions, padding = read_const(file, allow_truncated=allow_truncated)
    except ExtentError:
        pass
    else:  # then it is the volatile header
        what = f"the volatile header ({error.field})"
        return _completed(file, capacity // SECTOR, regions, what, "the const header", padding=padding)
    tried: list[str] = []
    confirmed: dict[int, tuple[Capacity, dict[str, Region], _Verdict]] = {}
    for candidate in sorted((*capacities, *_left_over(file)), key=lambda candidate: not candidate.of_this):
        found = _judge(file, candidate, allow_truncated=allow_truncated)
        if isinstance(found, str):
            tried.append(f"{candidate.source} {found}")
            continue
        confirmed.setdefault(candidate.sectors, (candidate, *found))
        if candidate.of_this:
            break
    if len(confirmed) == 1:
        candidate, regions, verdict = next(iter(confirmed.values()))
        reason = f"the capacity of {candidate.sectors:#x} sectors that {candidate.source} says"
        return _completed(file, candidate.sectors, regions, "the const header", reason, *verdict.for_it)
    tried += [f"{c.source} says {c.sectors:#x} sectors, and so does not only one" for c, _, _ in confirmed.values()]
    known = short("; ".join(tried), 1500) or "nothing tells its capacity"
    raise ExtentError(
        f"{error.problem}; salvage=1 could not rebuild the header: {known}".removeprefix("; "),
        file=file.label,
        field=error.field,
        value=error.value,
        expected=error.expected,
        advice="a descriptor that names the extent, parent=, or the host's hostd.log beside it tell its capacity",
    )


def _judge(
    file: EvidenceFile, candidate: Capacity, *, allow_truncated: bool
) -> tuple[dict[str, Region], _Verdict] | str:
    """The layout of a capacity and what confirms it; or why it is not this extent's."""
    if candidate.problem:
        return f"is not known to say anything: {candidate.problem}"
    says = f"says {candidate.sectors:#x} sectors"
    if not 0 < candidate.sectors <= MAX_CAPACITY_SECTORS:
        return f"{says}, no disk is that large"
    regions = layout(candidate.sectors)
    try:
        check_places(file, regions, allow_truncated=allow_truncated)
        verdict = _confirm(file, candidate.sectors, regions)
    except (ExtentError, UnreadableError) as e:
        return f"{says}, but {e.problem}"
    if not verdict.confirmed:
        return f"{says}, but {'; '.join(verdict.against_it) or 'nothing in the file confirms it'}"
    return regions, verdict


def _left_over(file: EvidenceFile) -> Iterator[Capacity]:
    """What the header itself says, where the most of it is left."""
    try:
        sectors = int.from_bytes(file.read_some(0x10, 8), "little")
    except UnreadableError:
        return
    if 0 < sectors <= MAX_CAPACITY_SECTORS:
        yield Capacity(sectors, "what is left of the header")


def _completed(
    file: EvidenceFile,
    sectors: int,
    regions: dict[str, Region],
    what: str,
    *sources: str,
    padding: tuple[Padding, ...] = (),
) -> Header:
    """The header, with the volatile one from the file or from what else tells its fields."""
    notes = [f"{what} was rebuilt from {', '.join(sources)}"]
    volatile: Any = read_struct(file, regions["volatile_header"].offset, c_sesparse.volatile_header)
    if volatile.magic == c_sesparse.SESPARSE_VOLATILE_MAGIC:
        return header_of(sectors, regions, volatile, padding, tuple(notes))
    blocks = max(0, file.size - regions["grains"].offset) // TABLE_COVERS
    fields = {"free_gt_number": blocks, "next_txn_seq_number": UNKNOWN_NUMBER, "replay_journal": 0}
    volatile = c_sesparse.volatile_header(**fields)
    header = header_of(sectors, regions, volatile, padding, tuple(notes))
    if behind := _is_behind(file, header):
        volatile.replay_journal = 1
        notes.append(f"whether it was closed cleanly is lost with the volatile header: {behind}, so it counts as dirty")
    else:
        notes.append(
            "whether it was closed cleanly is lost with the volatile header: its journal changes nothing, so it counts as clean"
        )
    return header_of(sectors, regions, volatile, padding, tuple(notes))


def _is_behind(file: EvidenceFile, header: Header) -> str:
    """How far the metadata is from the newest images in the journal; empty where it has them all."""
    journal = read_journal(file, header, infer=True)
    newest: dict[int, bytes] = {}
    for record in sorted(journal.records, key=lambda record: (record.generation, record.sequence)):
        if record.problem is None:
            newest.update(record.sectors)
    behind = sum(file.read_some(number * SECTOR, SECTOR) != image for number, image in newest.items())
    return f"{behind} sectors of metadata are not as its journal has them" if behind else ""


# Does it fit


def _confirm(file: EvidenceFile, sectors: int, regions: dict[str, Region]) -> _Verdict:
    """What in the file speaks for and against a layout."""
    header = header_of(sectors, regions, c_sesparse.volatile_header(b"\0" * SECTOR))
    view = Metadata(file, header)
    for_it, against_it = [], []
    # Only entries are so many, and so sure of their place, that those which do not fit speak against the layout.
    for what, decides, (fit, misfit) in (
        ("fields of the const header", False, _fields_left(file, sectors, regions)),
        ("records of its journal", False, _records(file, header)),
        ("table entries and their backmap words", True, _entries(view, header)),
        ("backmap words and their bits in the free bitmap", False, _words(file, view, header)),
    ):
        if fit and fit >= _MOST * (fit + misfit):
            for_it.append(f"{fit} {what} that fit")
        elif misfit > fit and decides:
            against_it.append(f"{misfit} of {fit + misfit} {what} do not fit")
    if not for_it and (reason := _headers_and_size(file, regions)):
        for_it.append(reason)
    return _Verdict(tuple(for_it), tuple(against_it))


def _fields_left(file: EvidenceFile, sectors: int, regions: dict[str, Region]) -> tuple[int, int]:
    """The 64-bit fields of the const header that are, and that are not, as they should be; few that are count as none."""
    const: Any = read_struct(file, 0, c_sesparse.const_header)
    expected = {"magic": c_sesparse.SESPARSE_CONST_MAGIC, "version": c_sesparse.SESPARSE_VERSION}
    expected |= {"capacity": sectors, "grain_size": GRAIN_SIZE // SECTOR, "grain_table_size": TABLE_SIZE // SECTOR}
    for region in regions.values():
        expected |= {f"{region.name}_offset": region.offset // SECTOR, f"{region.name}_size": region.size // SECTOR}
    fit = sum(getattr(const, name) == value for name, value in expected.items())
    return (fit, 0) if fit >= len(expected) - 3 else (0, 0)


def _records(file: EvidenceFile, header: Header) -> tuple[int, int]:
    """Records that are whole, with all targets in their regions, and those that are not."""
    records = read_journal(file, header).records
    whole = sum(record.problem is None for record in records)
    return whole, len(records) - whole


def _entries(view: Metadata, header: Header) -> tuple[int, int]:
    """Allocated entries whose backmap words name them, and those whose words name others."""
    fit = misfit = asked = 0
    for number in range(min(header.table_count, 65536)):
        index = view.raw_index_of(number)
        if index is None or index >= header.table_count or asked == _SAMPLES:
            continue
        asked += 1
        found = 0
        for slot in range(TABLE_SIZE // 8):
            entry = view.raw_entry(index, slot)
            if entry is None or not is_allocated(entry):
                continue
            place = place_of(entry)
            word = view.word(place)
            if place >= header.place_count or (word and not names_entry(view, word, index, slot)):
                misfit += 1
            elif word:
                fit += 1
            if (found := found + 1) == _SAMPLES:
                break
    return fit, misfit


def _words(file: EvidenceFile, view: Metadata, header: Header) -> tuple[int, int]:
    """Backmap words that name a table of the disk and whose bits are set, and those that do not or are not."""
    fit = misfit = 0
    region = header.regions["backmap"]
    places = max(0, min(file.size - header.regions["grains"].offset, region.size // 8 * GRAIN_SIZE)) // GRAIN_SIZE
    for place in range(min(places, _SAMPLES * _SAMPLES)):
        if not (word := view.word(place)):
            continue
        good = word.is_valid and word.table < header.table_count and view.bit(place)
        fit, misfit = fit + bool(good), misfit + (not good)
    return (fit, misfit) if fit >= 8 else (0, 0)


def _headers_and_size(file: EvidenceFile, regions: dict[str, Region]) -> str:
    """For an extent in which nothing was ever allocated: both other headers and the size of the file, to the byte."""
    volatile: Any = read_struct(file, SECTOR, c_sesparse.volatile_header)
    journal: Any = read_struct(file, 2 * SECTOR, c_sesparse.journal_header)
    blocks, rest = divmod(file.size - GRAIN_SIZE - regions["grains"].offset, TABLE_COVERS)
    if (
        volatile.magic == c_sesparse.SESPARSE_VOLATILE_MAGIC
        and journal.magic == c_sesparse.SESPARSE_JOURNAL_MAGIC
        and journal.next_txn_seq_number == volatile.next_txn_seq_number
        and rest == 0
        and blocks in (volatile.free_gt_number, max(1, volatile.free_gt_number))
    ):
        return "the volatile header, the journal's header, and the size of the file that they tell"
    return ""
