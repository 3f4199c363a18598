"""Older bytes of a file that no state has: in grains that were trimmed or given up in the time between two states.

A link keeps of each grain the last bytes alone, for the guest; but where a grain was trimmed and written again, or moved, its older
bytes may still lie in the extent, and the backmap or the unmapped entry says of which address they are. They are a file's own only
where it had that cluster, at the same place of it, in the state before the link's time and in the state after it: then nobody but
that file is known to have written there in between. Who wrote them, nothing proves: so they are *likely* at the most. Where several
grains claim one address with different bytes, none of them counts.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE
from dissect_sesparse.files.deleted import Piece
from dissect_sesparse.time.views import view_at
from dissect_sesparse.trimmed.unmapped import unmapped
from dissect_sesparse.trimmed.unreferenced import unreferenced

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.extent.sesparse import SESparseExtent

MAX_GRAINS = 2_000_000
"""Grains of a disk that are kept: some 400 MB of memory."""


class _Kept(NamedTuple):
    """Where the old bytes of a grain are."""

    extent: SESparseExtent
    place: int
    """In the extent's file, in bytes."""


class FilePart(NamedTuple):
    """A part of a file that lies together. All in bytes."""

    offset: int
    """In the file."""
    place: int
    """On the disk."""
    size: int


class OldGrains:
    """The grains of a disk that were trimmed, or that no entry names, by link and address.

    Args:
        chain: The disk.
    """

    def __init__(self, chain: Chain):
        self._chain = chain
        self._kept: dict[int, dict[int, list[_Kept]]] = {}
        self._starts: dict[int, list[int]] = {}
        self._count = 0
        self.whole = True
        """Whether all of them were kept."""
        for run in unmapped(chain, contents=False):
            if run.state == "present" and run.place is not None:
                self._keep(run.link.depth, run.offset, run.size, run.extent, run.place)
        for old in unreferenced(chain, contents=False):
            if old.offset is not None:
                self._keep(old.link.depth, old.offset, old.size, old.extent, old.place)
        self._starts = {depth: sorted(grains) for depth, grains in self._kept.items()}

    def _keep(self, depth: int, offset: int, size: int, extent: SESparseExtent, place: int) -> None:
        for skip in range(0, size, GRAIN_SIZE):
            if self._count >= MAX_GRAINS:
                self.whole = False
                return
            self._count += 1
            self._kept.setdefault(depth, {}).setdefault(offset + skip, []).append(_Kept(extent, place + skip))

    def pieces(self, depth: int, parts: Iterable[FilePart]) -> Iterator[Piece]:
        """The older bytes of a file from the time of a link, by ascending offset, none of them proven.

        Args:
            depth: Of the link: the state after that time.
            parts: Where the file lay both before and after it.
        """
        starts = self._starts.get(depth, [])
        views = [view for view in (view_at(self._chain, depth), view_at(self._chain, depth + 1)) if view is not None]
        for part in sorted(parts):
            at = max(0, bisect_right(starts, part.place) - 1)
            while at < len(starts) and starts[at] < part.place + part.size:
                start, end = max(starts[at], part.place), min(starts[at] + GRAIN_SIZE, part.place + part.size)
                if start < end:
                    known = [view.read(start, end - start) for view in views]
                    data = self._only(depth, starts[at], start, end)
                    if data is not None and data.strip(b"\x00") and data not in known:
                        yield Piece(part.offset + start - part.place, data, False)
                at += 1

    def _only(self, depth: int, grain: int, start: int, end: int) -> bytes | None:
        """The bytes that all who claim an address agree on."""
        found = {kept.extent.file.read(kept.place + start - grain, end - start) for kept in self._kept[depth][grain]}
        return found.pop() if len(found) == 1 else None
