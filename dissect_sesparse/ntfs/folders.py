"""Which files the old entries of folders name, of all folders of an NTFS volume, live and deleted, in all states.

See ``ntfs.index_names``. Blocks of an index that no link wrote since an older state are the same in that: they are read once.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from dissect.ntfs.c_ntfs import ATTRIBUTE_TYPE_CODE, FILE_NUMBER_ROOT, FILE_RECORD_SEGMENT_IN_USE

from dissect_sesparse.ntfs.index_names import names_in, unused_part
from dissect_sesparse.ntfs.layout import layout_of, volume_runs
from dissect_sesparse.ntfs.mft import FIRST_FILE, FolderRecord
from dissect_sesparse.ntfs.mft_record import check_record, own
from dissect_sesparse.ntfs.mft_uses import reference_of, references_of_freed, split_reference
from dissect_sesparse.time.views import view_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dissect.ntfs.attr import Attribute
    from dissect.ntfs.mft import MftRecord

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.ntfs.index_names import IndexName
    from dissect_sesparse.ntfs.layout import StreamLayout
    from dissect_sesparse.ntfs.mft_uses import MftUses
    from dissect_sesparse.ntfs.view import NtfsView

MAX_BYTES = 4 << 30
"""Bytes of indexes that are read in all states together."""
MAX_NAMES = 500_000
"""Files that are kept."""
_MAX_BITMAP = 1 << 20
_MAX_COMPARED = 64 << 20
"""Bytes of an index of which it is looked up which links have them: a larger one is read in each state."""
_NAME = "$I30"


class FoundName(NamedTuple):
    """An old entry of a folder."""

    entry: IndexName
    view: NtfsView
    """The newest state that has the entry."""


class FolderNames:
    """What old entries of folders name.

    Args:
        chain: The disk.
        views: The volume in all states of the disk that have it, newest first.
        uses: Whether files are live.
        warn: Gets what is not looked at, and why.
    """

    def __init__(self, chain: Chain, views: Sequence[NtfsView], uses: MftUses, warn: Callable[[str], None]):
        self._chain = chain
        self._views = views
        self._uses = uses
        self._warn = warn
        self._left = MAX_BYTES
        self._live: set[int] = set()
        self.found: dict[int, FoundName] = {}
        """By the reference of the file: none that is live, no folders, nothing of the file system itself."""

    def look(self, folders: Sequence[FolderRecord]) -> None:
        """Go through folders.

        Args:
            folders: Their records in all states, those of one segment together.
        """
        roots = (FolderRecord(FILE_NUMBER_ROOT, [view]) for view in self._views)
        for segment, records in groupby([*roots, *folders], key=lambda each: each.segment):
            seen: set[int] = set()
            for _, views in records:
                try:
                    self._folder(segment, views, seen)
                except Exception as e:  # whatever dissect.ntfs trips over
                    name = f"the folder of MFT record {segment}, {views[0].depth} deep"
                    self._warn(f"{name}: its old entries cannot be looked at: {e or type(e).__name__}")
                if self._left < 0 or len(self.found) >= MAX_NAMES:
                    self._warn(
                        f"more than {MAX_BYTES} bytes, or {MAX_NAMES} names, of folders: the rest is not looked at"
                    )
                    return

    def _folder(self, segment: int, views: Sequence[NtfsView], seen: set[int]) -> None:
        """One folder, in the states whose MFT has the same record of it."""
        view = views[0]
        record = view.record(segment)
        check_record(record)
        header = record.header
        live = bool(header.Flags & FILE_RECORD_SEGMENT_IN_USE)  # type: ignore[union-attr]
        number: int = header.SequenceNumber  # type: ignore[union-attr]
        parents = [reference_of(segment, number)] if live else references_of_freed(segment, number)
        start: int = header.BytesInUse if live else 0  # type: ignore[union-attr]
        self._take(record.data or b"", parents, start, view)
        pieces = _named(record, ATTRIBUTE_TYPE_CODE.INDEX_ALLOCATION)
        if not pieces:
            return
        layout, size = layout_of(pieces, view), _block_size(record, view)
        used = _bits(record) if live else b""
        for state in self._distinct(views, layout):
            for offset, block in self._blocks(layout, size, state):
                if hash(block) not in seen:
                    seen.add(hash(block))
                    data, first = unused_part(block, in_use=_is_set(used, offset // size))
                    self._take(data, parents, first, state)

    def _take(self, data: bytes, parents: list[int], start: int, view: NtfsView) -> None:
        for parent in parents:
            for entry in names_in(data, parent, start):
                reference = entry.reference
                segment, _ = split_reference(reference)
                if entry.folder or segment < FIRST_FILE or reference in self.found or reference in self._live:
                    continue
                if self._uses.use_in(self._views[0], reference, entry.name) in ("over", "unknown"):
                    self.found[reference] = FoundName(entry, view)
                else:
                    self._live.add(reference)

    # Where the blocks of an index are

    def _distinct(self, views: Sequence[NtfsView], layout: StreamLayout) -> Iterator[NtfsView]:
        """The states, newest first, whose clusters of a layout may differ from those of the one before."""
        before, same = None, -1
        for view in views:
            if before is not None and view.depth <= same and view.place == before:
                continue
            yield view
            before, same = view.place, self._same_until(view, layout)

    def _same_until(self, view: NtfsView, layout: StreamLayout) -> int:
        """The depth of the oldest state whose bytes are the same as those of a state, by what links have of them."""
        disk = view_at(self._chain, view.depth)
        if disk is None or view.place is None:
            return -1
        if sum(end - start for start, end in layout.clusters) > _MAX_COMPARED:
            return -1
        deepest = len(self._chain.links)
        for start, end in layout.clusters:
            for run in disk.runs(view.place + start, end - start):
                if run.source is not None:
                    deepest = min(deepest, run.source.depth)
        return deepest

    def _blocks(self, layout: StreamLayout, size: int, view: NtfsView) -> Iterator[tuple[int, bytes]]:
        for offset in range(0, min(layout.size, view.size), size):
            self._left -= size
            if self._left < 0:
                return
            try:
                parts = []
                for _, place, length in volume_runs(layout, offset, offset + size):
                    view.ntfs.fh.seek(place or 0)  # type: ignore[union-attr]
                    parts.append(view.ntfs.fh.read(length) if place is not None else bytes(length))  # type: ignore[union-attr]
            except Exception as e:  # whatever the disk trips over
                self._warn(f"a block of a folder's index as of {view.depth} deep cannot be read: {e}")
            else:
                yield offset, b"".join(parts)


def _named(record: MftRecord, kind: ATTRIBUTE_TYPE_CODE) -> list[Attribute]:
    """The attributes of a kind of the index of names, in their order."""
    found = [attribute for attribute in own(record, kind) if attribute.header.name == _NAME]
    return sorted(found, key=lambda piece: piece.header.lowest_vcn or 0)


def _block_size(record: MftRecord, view: NtfsView) -> int:
    roots = _named(record, ATTRIBUTE_TYPE_CODE.INDEX_ROOT)
    data = roots[0].header.data()[8:12] if roots and roots[0].header.resident else b""
    size = int.from_bytes(data, "little")
    if size not in {512 << power for power in range(8)}:
        size = min(max(512, view.ntfs._index_size), 65536)
    return size


def _bits(record: MftRecord) -> bytes:
    """Which blocks of an index are in use."""
    found = _named(record, ATTRIBUTE_TYPE_CODE.BITMAP)
    return found[0].header.open().read(_MAX_BITMAP) if found else b""


def _is_set(bits: bytes, number: int) -> bool:
    return number // 8 < len(bits) and bool(bits[number // 8] >> number % 8 & 1)
