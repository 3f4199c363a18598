"""Findings: what is odd but readable, and what cannot be read, as data with a stable code.

:func:`opening_findings` are those that opening the disk knows without looking further; the container logs each as a
warning. :func:`findings` also goes through all tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain as chained
from typing import TYPE_CHECKING

from dissect_sesparse.extent.base import FlatExtent
from dissect_sesparse.extent.entry import State
from dissect_sesparse.extent.sesparse import SESparseExtent
from dissect_sesparse.findings.audit import audit, wiped
from dissect_sesparse.findings.headers import check_headers
from dissect_sesparse.findings.journals import journal_notes, salvage_notes
from dissect_sesparse.findings.spare import check_spare
from dissect_sesparse.findings.surroundings import surroundings
from dissect_sesparse.findings.tally import CONFIRMED, INFERRED, MAX_EACH
from dissect_sesparse.findings.unread import unread
from dissect_sesparse.source.errors import Kind, UnreadableError, short

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import PurePath

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.chain.link import Link, Placed
    from dissect_sesparse.chain.parent import ParentSearch
    from dissect_sesparse.findings.tally import Odd

MAX_CANDIDATES = 10


@dataclass(frozen=True)
class Finding:
    """One finding. Offsets and sizes in bytes, ``None`` where they mean nothing."""

    code: str
    level: str
    """``info``, ``warning`` or ``error``."""
    message: str
    depth: int
    """Of the link it is about: 0 is the newest."""
    source: PurePath | str | None = None
    source_offset: int | None = None
    offset: int | None = None
    """On the virtual disk."""
    size: int | None = None
    of_folder: bool = False
    """Whether it is about a folder: disks that share it have it in common."""


def findings(chain: Chain) -> Iterator[Finding]:
    """All findings of a disk: those known at its opening, then what its folder, its tables and its reads show."""
    yield from opening_findings(chain)
    for beside in (*surroundings(chain), *unread(chain)):
        yield Finding(beside.code, beside.level, beside.message, beside.depth, beside.source, of_folder=True)
    for link in chain.links:
        for placed in link.extents:
            yield from _table_findings(placed)
    for error in chain.unreadable.first:
        yield Finding(
            "unreadable", "error", f"read as zeros: {error}", _depth_of(chain, error.file), error.file,
            error.source_offset, error.offset, error.size,
        )  # fmt: skip
    if (more := chain.unreadable.count - len(chain.unreadable.first)) > 0:
        yield Finding("unreadable", "error", f"{more} more ranges read as zeros", 0, size=chain.unreadable.size)


class Once:
    """Lets each finding about a folder through once, where several disks have it."""

    def __init__(self) -> None:
        self._given: set[tuple[str, str, str]] = set()

    def __call__(self, found: Iterable[Finding]) -> Iterator[Finding]:
        for finding in found:
            key = (finding.code, finding.message, str(finding.source))
            if finding.of_folder:
                if key in self._given:
                    continue
                self._given.add(key)
            yield finding


def _depth_of(chain: Chain, file: PurePath | str | None) -> int:
    """The link that a file is an extent of; the oldest where there is no file, so where a parent is missing."""
    for link in chain.links:
        for placed in link.extents:
            if file is not None and placed.extent.file is not None and placed.extent.file.label == file:
                return link.depth
    return chain.links[-1].depth


def opening_findings(chain: Chain) -> Iterator[Finding]:
    """What opening the disk knows."""
    for link in chain.links:
        yield from _parent_findings(link)
        yield from _capacity_findings(chain, link)
        for placed in link.extents:
            yield from _extent_findings(placed)
    if chain.missing_parent is not None:
        link = chain.links[-1]
        yield Finding("parent-missing", "error", str(chain.missing_parent), link.depth, link.path)


def _parent_findings(link: Link) -> Iterator[Finding]:
    search = link.parent
    if search is None or search.chosen is None:
        return
    chosen = search.chosen
    if not search.cid_matches:
        wanted = search.child.parent_cid if search.child is not None else "unknown"
        found = chosen.descriptor.cid if chosen.descriptor is not None else "unknown"
        message = (
            f"parentCID is {wanted or 'not given'}, the CID of {chosen.path.name} is {short(found) or 'not given'}: "
            f"the parent was changed after the snapshot, or is another disk; {_looked_at(search)}; {CONFIRMED}"
        )
        level = "error" if search.is_doubtful else "warning"
        yield Finding("cid-mismatch", level, message, link.depth, link.path)
    if search.problems:
        message = f"not all that may be the parent was looked at: {'; '.join(map(short, search.problems))}; {CONFIRMED}"
        yield Finding("search-cut-off", "info" if search.cid_matches else "warning", message, link.depth, link.path)
    if search.relocated and search.child is not None:
        message = (
            f"the parent was found at {chosen.path}, parentFileNameHint is {short(repr(search.child.parent_hint))}; "
            f"{_looked_at(search)}; {CONFIRMED}"
        )
        yield Finding("parent-relocated", "warning", message, link.depth, link.path)
    for clash in search.name_clashes:
        message = (
            f"{clash.path} has the parent's name too, {short(clash.why)}; the parent is {chosen.path}; {CONFIRMED}"
        )
        yield Finding("parent-name-clash", "warning", message, link.depth, clash.path)


def _looked_at(search: ParentSearch) -> str:
    """Every candidate for a parent, the first of many, and why it was or was not taken."""
    candidates = [short(str(candidate)) for candidate in search.candidates[:MAX_CANDIDATES]]
    more = f" and {len(search.candidates) - MAX_CANDIDATES} more" if len(search.candidates) > MAX_CANDIDATES else ""
    return f"looked at: {'; '.join(candidates) or 'nothing'}{more}"


def _capacity_findings(chain: Chain, link: Link) -> Iterator[Finding]:
    if link.descriptor is None:
        return
    start = 0
    for line, placed in zip(link.descriptor.extents, [p for p in link.extents if p.extent.kind != "MISSING"]):
        for extent in [placed.extent] if not isinstance(placed.extent, FlatExtent) else []:
            said = line.sectors * 512
            if said != extent.size:
                message = (
                    f"the descriptor says {said} bytes, the extent {extent.label} has {extent.size}: the smaller "
                    f"counts; {CONFIRMED}"
                )
                yield Finding(
                    "capacity-mismatch", "warning", message, link.depth, link.path, None, start, abs(said - extent.size)
                )
        start += line.sectors * 512
    if link.depth and link.size != chain.links[link.depth - 1].size:
        child = chain.links[link.depth - 1]
        message = (
            f"{link.size} bytes, its child {child.name} has {child.size}, expected as many: ESXi wants equal capacities "
            f"in a chain; {CONFIRMED}"
        )
        yield Finding("capacity-mismatch", "warning", message, link.depth, link.path, size=abs(link.size - child.size))


def _extent_findings(placed: Placed) -> Iterator[Finding]:
    extent = placed.extent
    if isinstance(extent, FlatExtent) and extent.missing and extent.file is not None:
        message = f"the file ends at byte {extent.file.size:#x}, {extent.missing} bytes of the extent are missing"
        offset = placed.end - extent.missing
        yield Finding(
            "truncated", "error", message, placed.depth, extent.file.label, extent.file.size, offset, extent.missing
        )
    if extent.file is not None and extent.declared is not None:
        message = f"the descriptor calls it {extent.declared}, the file is {extent.kind}: read as what it is"
        yield Finding("type-mismatch", "warning", message, placed.depth, extent.file.label)
    if extent.file is not None and getattr(extent, "unclean_shutdown", False):
        message = "it was not closed cleanly: its last changes may be missing"
        yield Finding("unclean-shutdown", "warning", message, placed.depth, extent.file.label)
    if extent.kind == "SESPARSE":
        yield from _header_findings(placed, extent)  # type: ignore[arg-type]


def _header_findings(placed: Placed, extent: SESparseExtent) -> Iterator[Finding]:
    label = extent.file.label
    for padding in extent.header.padding:
        basis = CONFIRMED if padding.confirmed else INFERRED
        message = f"{padding.field} holds {padding.value:#x}, expected {padding.expected}; {basis}"
        yield Finding("padding-nonzero", "warning", message, placed.depth, label, padding.source_offset)
    for note in (*salvage_notes(extent), *journal_notes(extent)):
        yield Finding(note.code, note.level, note.message, placed.depth, label, note.source_offset)
    if (odd := wiped(extent)) is not None:
        yield _finding(placed, extent, odd)
    for region in extent.header.regions.values():
        if region.name != "grains" and region.end > extent.file.size:
            message = f"the file ends at byte {extent.file.size:#x}, inside or before its {region.name}"
            yield Finding(
                "truncated",
                "error",
                message,
                placed.depth,
                label,
                extent.file.size,
                None,
                region.end - extent.file.size,
            )


def _table_findings(placed: Placed) -> Iterator[Finding]:
    """What is wrong with the entries of an extent, and what does not fit in it."""
    codes = set()
    for finding in _until_unreadable("its tables", placed, _bounded(_unreadable_entries(placed))):
        codes.add(finding.code)
        yield finding
    if isinstance(placed.extent, SESparseExtent):
        for finding in _until_unreadable("its metadata", placed, _odd(placed, placed.extent)):
            # Where grains are missing, the file's size adds nothing; nor does a second error where it cannot be read.
            if finding.code not in codes.intersection(("truncated", "unreadable")):
                yield finding


def _until_unreadable(what: str, placed: Placed, found: Iterator[Finding]) -> Iterator[Finding]:
    """Findings, and where the file cannot be read on, that."""
    try:
        yield from found
    except UnreadableError as e:
        message = f"{what} cannot be read, and nothing is known of the rest of them: {e}"
        yield Finding("unreadable", "error", message, placed.depth, e.file, e.source_offset, size=e.size)


def _unreadable_entries(placed: Placed) -> Iterator[Finding]:
    """Entries that are corrupt, and grains that the file does not have, as the tables tell them."""
    extent = placed.extent
    if not extent.sparse or extent.file is None:
        return
    for run in chained.from_iterable(extent.runs(start, length) for start, length in extent.unsound(placed.length)):
        if run.state == State.ALLOCATED and extent.compressed:
            continue  # its place is none in the file, see Extent.file_place
        offset = placed.start + run.start
        if run.state == State.INVALID:
            error = extent.explain(run.start)
            code = "entry-invalid" if error.kind is Kind.INVALID else "unreadable"
            code = "truncated" if error.kind is Kind.FILE_ENDS else code
            yield Finding(code, "error", str(error), placed.depth, error.file, error.source_offset, offset, run.length)
        elif run.state == State.ALLOCATED and run.place is not None and run.place + run.length > extent.file.size:
            missing = run.place + run.length - extent.file.size
            message = f"the file ends at byte {extent.file.size:#x}, in the middle of a grain"
            yield Finding(
                "truncated", "error", message, placed.depth, extent.file.label, extent.file.size,
                offset + run.length - missing, missing,
            )  # fmt: skip


def _odd(placed: Placed, extent: SESparseExtent) -> Iterator[Finding]:
    """What is odd about an extent, told from the whole disk."""
    for odd in chained(audit(extent), check_headers(extent), check_spare(extent)):
        yield _finding(placed, extent, odd)


def _finding(placed: Placed, extent: SESparseExtent, odd: Odd) -> Finding:
    offset = None if odd.offset is None else placed.start + odd.offset
    return Finding(
        odd.code, odd.level, odd.message, placed.depth, extent.file.label, odd.source_offset, offset, odd.size
    )


def _bounded(found: Iterator[Finding]) -> Iterator[Finding]:
    """The first of each code, and for the rest one that counts them."""
    counts: dict[str, int] = {}
    sizes: dict[str, int] = {}
    last: dict[str, Finding] = {}
    for finding in found:
        counts[finding.code] = counts.get(finding.code, 0) + 1
        if counts[finding.code] <= MAX_EACH:
            yield finding
        else:
            last[finding.code] = finding
            sizes[finding.code] = sizes.get(finding.code, 0) + (finding.size or 0)
    for code, finding in last.items():
        message = f"{counts[code] - MAX_EACH} more ranges with {code} in this extent, not listed"
        yield Finding(code, finding.level, message, finding.depth, finding.source, size=sizes[code])
