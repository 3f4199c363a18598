"""What an extent is, and the extents without tables: FLAT (and VMFS) and ZERO."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from dissect_sesparse.extent.entry import Run, State
from dissect_sesparse.source.errors import Kind, UnreadableError
from dissect_sesparse.source.file import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.extent.engine import Layer
    from dissect_sesparse.source.file import EvidenceFile


class Extent(ABC):
    """A piece of a link's disk, in one file or in none. Offsets are in bytes from the extent's own first byte."""

    kind: str
    """The type in a descriptor's extent line."""
    file: EvidenceFile | None
    size: int
    """Bytes of the virtual disk that the extent has."""
    grain_size: int = SECTOR
    """Bytes that always have one state; a multiple of a sector."""
    sparse: bool = True
    """Whether there are places about which the extent says nothing, so that its parent's bytes show."""
    compressed: bool = False
    """Whether a place is not where the bytes are in the file; :meth:`file_place` tells that."""
    declared: str | None = None
    """The type in the descriptor's extent line, where the file is of another one."""

    @abstractmethod
    def layer(self, start: int, count: int, lane: int, *, keep_unmapped: bool = False) -> Layer | None:
        """``count`` lanes of ``lane`` bytes each, from ``start`` on, or ``None`` if nothing is said about any of them."""

    def next_used(self, start: int, end: int | None = None) -> int:
        """The first offset, ``start`` or later, about which anything may be said; at most ``size``.

        With ``end``, nothing is looked at from there on: what is returned then may be any offset not before it.
        """
        return start

    def is_lost(self, start: int) -> bool:
        """Whether nothing can be had from ``start`` on, to the end, because the file ends before it is described."""
        return False

    def only_run(self, start: int, length: int) -> Run | None:
        """The range as a run, if that is quickly known."""
        return None

    def runs(self, start: int = 0, length: int | None = None) -> Iterator[Run]:
        """The runs of a range, without a gap; ``start`` of each counted from the extent's first byte.

        UNMAPPED runs have the place of their old bytes, where the extent tells it.
        """
        length = self.size - start if length is None else length
        if length > 0 and (run := self.only_run(start, length)) is not None:
            yield run

    def unsound(self, end: int) -> Iterator[tuple[int, int]]:
        """Offset and length of what has to be gone through for entries that cannot be, up to a byte of the extent."""
        yield 0, end

    def find(self, offset: int) -> tuple[State, int | None]:
        """State and place of one byte, as in a run, without a look at what is around it.

        Raises:
            UnreadableError: If it is INVALID.
        """
        for run in self.runs(offset, 1):
            if run.state == State.INVALID:
                break
            return run.state, run.place
        raise self.explain(offset)

    def explain(self, offset: int) -> UnreadableError:
        """Why the byte at ``offset``, which is INVALID, cannot be had."""
        return UnreadableError("cannot be had", file=self.file and self.file.label)

    def read(self, place: int, length: int) -> bytes:
        """Exactly ``length`` bytes at the place of a run.

        Raises:
            UnreadableError: If the file does not have them.
        """
        return self.file.read(place, length) if self.file is not None else bytes(length)

    def read_some(self, place: int, length: int) -> bytes:
        """Those of the bytes at the place of a run that can be had, up to the first that cannot."""
        return self.file.read_some(place, length) if self.file is not None else b""

    @property
    def fd(self) -> int | None:
        """A file descriptor, where the place of a run is a place in a file that ``pread`` can read."""
        return self.file.fd if self.file is not None else None

    def file_place(self, place: int) -> int:
        """Where in the file the place of a run is, for a report: the same, but for compressed grains.

        Raises:
            UnreadableError: If it cannot be told any more.
        """
        return place

    @property
    def label(self) -> str:
        """What messages call the extent."""
        return self.file.name if self.file is not None else self.kind

    def close(self) -> None:
        """Close the extent's file."""
        if self.file is not None:
            self.file.close()


class FlatExtent(Extent):
    """Bytes as they are: ``FLAT`` and ``VMFS``.

    Args:
        file: The extent's file.
        size: Bytes of the disk, as the descriptor says. The file may be longer (the rest is not the disk's) or shorter
            (the rest is unreadable).
        start_sector: Where in the file the extent begins.
    """

    sparse = False

    def __init__(self, file: EvidenceFile, size: int, start_sector: int = 0, kind: str = "FLAT"):
        self.file = file
        self.size = size
        self.start_sector = start_sector
        self.kind = kind

    def layer(self, start: int, count: int, lane: int, *, keep_unmapped: bool = False) -> Layer | None:
        from dissect_sesparse.extent.engine import Layer, ramp

        return Layer(ramp(State.ALLOCATED, self.start_sector + start // SECTOR, lane // SECTOR, count), None)

    def only_run(self, start: int, length: int) -> Run | None:
        return Run(start, length, State.ALLOCATED, self.start_sector * SECTOR + start)

    @property
    def missing(self) -> int:
        """Bytes at the end that the file does not have."""
        return max(0, min(self.size, self.start_sector * SECTOR + self.size - self.file.size)) if self.file else 0


class ZeroExtent(Extent):
    """``ZERO``: zeros, and no file."""

    kind = "ZERO"
    file = None
    sparse = False

    def __init__(self, size: int):
        self.size = size

    def layer(self, start: int, count: int, lane: int, *, keep_unmapped: bool = False) -> Layer | None:
        from dissect_sesparse.extent.engine import Layer, constant

        return Layer(constant(State.ZERO, count), None)

    def only_run(self, start: int, length: int) -> Run | None:
        return Run(start, length, State.ZERO, None)


class MissingExtent(Extent):
    """Bytes that are not in the evidence at all: a parent that is missing, the rest of an extent that is too small."""

    kind = "MISSING"
    file = None
    sparse = False

    def __init__(self, size: int, reason: str):
        self.size = size
        self.reason = reason

    def layer(self, start: int, count: int, lane: int, *, keep_unmapped: bool = False) -> Layer | None:
        from dissect_sesparse.extent.engine import Layer, constant

        return Layer(constant(State.INVALID, count), None)

    def only_run(self, start: int, length: int) -> Run | None:
        return Run(start, length, State.INVALID, None)

    def explain(self, offset: int) -> UnreadableError:
        return UnreadableError(self.reason, kind=Kind.LOST, advice="unreadable=zero shows zeros there, and reports it")
