"""The hosted sparse extent: ``SPARSE`` of Workstation, Fusion and OVF, in one file or in pieces, plain or compressed.

A *stream-optimized* extent is compressed: a table entry names a *marker* of 12 bytes (where the grain belongs, how many
bytes follow), and behind it the grain as a zlib stream. Its directory may be at the end, where the *footer*, a second
header, says where.

Source: VMware's technical note *Virtual Disk Format 5.0*; that the stream is zlib's, and what version 3 is: libvmdk.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from dissect_sesparse.extent.c_vmdk import GD_AT_END, HOSTED_MAGIC, LINE_ENDS, c_vmdk
from dissect_sesparse.extent.doubt import ZEROS_ADVICE
from dissect_sesparse.extent.entry import State
from dissect_sesparse.extent.header import MAX_CAPACITY_SECTORS, Region, read_struct
from dissect_sesparse.extent.sector_tables import (
    MAX_GRAIN_SECTORS,
    TableExtent,
    TableLayout,
    is_power_of_two,
    refusal,
)
from dissect_sesparse.source.errors import ExtentError, Kind, UnreadableError
from dissect_sesparse.source.file import MAX_DESCRIPTOR_SIZE, SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from dissect_sesparse.extent.engine import Words
    from dissect_sesparse.source.file import EvidenceFile

MIN_GRAIN_SECTORS = 8
"""4 KiB. The note wants more than that, 128 is usual."""
MAX_TABLE_ENTRIES = 1 << 16
"""The note says 512 on all of VMware's disks."""
MAX_DIRECTORY_SIZE = 32 * 1024 * 1024
"""Bytes. 64 TiB with usual grains and tables need 8 MiB; the reader keeps none of it in memory."""
CACHE_SIZE = 4 * 1024 * 1024
"""Bytes of inflated grains that are kept, and always the last one."""

_COMPRESSED = c_vmdk.FLAG_COMPRESSED | c_vmdk.FLAG_MARKERS
_KNOWN_FLAGS = _COMPRESSED | c_vmdk.FLAG_NEW_LINE_TEST | c_vmdk.FLAG_REDUNDANT_TABLE | c_vmdk.FLAG_ZEROED_GRAIN
_MARKER_SIZE = len(c_vmdk.grain_marker)


@dataclass(frozen=True)
class HostedHeader:
    """What the header says, or the footer in its place, checked."""

    version: int
    layout: TableLayout
    compressed: bool
    """Whether grains are compressed, each behind a marker."""
    unclean_shutdown: int
    """Not 0: the extent was not closed cleanly."""


def is_hosted(file: EvidenceFile) -> bool:
    """Whether a file starts as a hosted sparse extent does."""
    return file.read_some(0, len(HOSTED_MAGIC)) == HOSTED_MAGIC


def embedded_descriptor(file: EvidenceFile) -> bytes | None:
    """The descriptor inside a hosted sparse extent; ``None`` if the file is none, or has none inside.

    Raises:
        ExtentError: If it has one of a size that no descriptor has.
        UnreadableError: If it cannot be read.
    """
    if not is_hosted(file):
        return None
    header = read_struct(file, 0, c_vmdk.sparse_header)
    if not header.descriptorOffset or not header.descriptorSize:
        return None
    if header.descriptorSize * SECTOR > MAX_DESCRIPTOR_SIZE:
        raise refusal(file, header, "descriptorSize", f"at most {MAX_DESCRIPTOR_SIZE // SECTOR:#x} sectors")
    data = file.read(header.descriptorOffset * SECTOR, header.descriptorSize * SECTOR)
    return data.partition(b"\x00")[0] or None


def read_hosted_header(file: EvidenceFile, *, allow_truncated: bool = False) -> HostedHeader:
    """Read and check the header, and the footer where there is one.

    Args:
        file: The extent.
        allow_truncated: Accept a directory that leaves the file.

    Raises:
        ExtentError: Naming the file, the field, its value and what was expected.
    """
    header = read_struct(file, 0, c_vmdk.sparse_header)
    _check(file, header)
    if header.gdOffset == GD_AT_END:
        header = _read_footer(file, header)
    metadata = [Region("header", 0, SECTOR)]
    if header.descriptorOffset and header.descriptorSize:
        metadata.append(Region("descriptor", header.descriptorOffset * SECTOR, header.descriptorSize * SECTOR))
    directory = _directory(file, header, metadata, allow_truncated=allow_truncated)
    layout = TableLayout(
        capacity=header.capacity * SECTOR,
        grain_size=header.grainSize * SECTOR,
        table_entries=header.numGTEsPerGT,
        directory=directory,
        metadata=(*metadata, directory),
        zeroed=bool(header.flags & c_vmdk.FLAG_ZEROED_GRAIN),
    )
    return HostedHeader(header.version, layout, bool(header.flags & _COMPRESSED), header.uncleanShutdown)


def _check(file: EvidenceFile, header: Any, prefix: str = "") -> None:
    """All fields but the directory's place."""
    refuse = partial(refusal, file, header, prefix=prefix)
    if header.magicNumber != HOSTED_MAGIC:
        raise refuse("magicNumber", f"{HOSTED_MAGIC!r}")
    if header.version not in (1, 2, 3):
        raise refuse("version", "1, 2 or 3")
    _check_flags(header, refuse)
    if not 0 < header.capacity <= MAX_CAPACITY_SECTORS:
        raise refuse("capacity", f"1 to {MAX_CAPACITY_SECTORS:#x} sectors")
    size = header.grainSize
    if not MIN_GRAIN_SECTORS <= size <= MAX_GRAIN_SECTORS or not is_power_of_two(size):
        raise refuse("grainSize", f"a power of two from {MIN_GRAIN_SECTORS} to {MAX_GRAIN_SECTORS:#x} sectors")
    if not is_power_of_two(header.numGTEsPerGT) or header.numGTEsPerGT > MAX_TABLE_ENTRIES:
        raise refuse("numGTEsPerGT", f"a power of two up to {MAX_TABLE_ENTRIES:#x}, usually 512")
    if header.descriptorOffset and header.descriptorSize * SECTOR > MAX_DESCRIPTOR_SIZE:
        raise refuse("descriptorSize", f"at most {MAX_DESCRIPTOR_SIZE // SECTOR:#x} sectors")


def _check_flags(header: Any, refuse: Callable[..., ExtentError]) -> None:
    """The flags, and the fields that they are about."""
    if header.flags & ~_KNOWN_FLAGS:
        raise refuse("flags", f"no bits but {_KNOWN_FLAGS:#x}")
    # Some writers set the flag and leave the characters out; no transfer makes zeros of them.
    if header.flags & c_vmdk.FLAG_NEW_LINE_TEST and header.lineEnds not in (LINE_ENDS, bytes(4)):
        raise refuse("lineEnds", f"{LINE_ENDS!r}", "the file was copied as if it were text")
    compressed = header.flags & _COMPRESSED
    if compressed not in (0, _COMPRESSED):
        raise refuse("flags", f"both bits of {_COMPRESSED:#x} or neither: compression and markers")
    algorithm = c_vmdk.COMPRESSION_DEFLATE if compressed else c_vmdk.COMPRESSION_NONE
    if header.compressAlgorithm != algorithm:
        raise refuse("compressAlgorithm", f"{algorithm} with flags {header.flags:#x}")


def _read_footer(file: EvidenceFile, header: Any) -> Any:
    """The footer: between its marker and the one of the stream's end, in the last three sectors."""
    advice = "a stream that was cut off? its directory was at the end"
    if file.size < 4 * SECTOR:
        raise ExtentError(f"the file has {file.size} bytes, no room for a footer", file=file.label, advice=advice)
    for where, kind in ((file.size - 3 * SECTOR, c_vmdk.MARKER_FOOTER), (file.size - SECTOR, c_vmdk.MARKER_EOS)):
        marker = read_struct(file, where, c_vmdk.metadata_marker)
        if marker.size or marker.type != kind:
            raise ExtentError(
                f"gdOffset says that a footer ends the file, at byte {where:#x} is no marker of it",
                file=file.label,
                field="marker type",
                value=int(marker.type),
                expected=f"{int(kind)}",
                advice=advice,
            )
    footer = read_struct(file, file.size - 2 * SECTOR, c_vmdk.sparse_header)
    refuse = partial(refusal, file, footer, prefix="footer.")
    _check(file, footer, "footer.")
    for name in ("capacity", "grainSize", "numGTEsPerGT", "flags"):
        if getattr(footer, name) != getattr(header, name):
            raise refuse(name, f"{int(getattr(header, name)):#x}", "the footer contradicts the header")
    if footer.gdOffset == GD_AT_END:
        raise refuse("gdOffset", "the directory's sector", "the footer does not tell")
    return footer


def _directory(file: EvidenceFile, header: Any, others: list[Region], *, allow_truncated: bool) -> Region:
    """The directory, as large as the capacity needs. It lies on none of ``others``."""
    grains = -(-header.capacity // header.grainSize)
    size = -(-grains // header.numGTEsPerGT) * 4
    if size > MAX_DIRECTORY_SIZE:
        problem = (
            f"with grainSize {header.grainSize} and numGTEsPerGT {header.numGTEsPerGT} the directory has {size} bytes"
        )
        raise refusal(file, header, "capacity", f"a directory of at most {MAX_DIRECTORY_SIZE} bytes", problem)
    region = Region("grain directory", header.gdOffset * SECTOR, size)
    for other in others:
        if region.offset < other.end and region.end > other.offset:
            raise refusal(file, header, "gdOffset", "a sector that nothing else takes", f"the {other.name} is there")
    if region.end > file.size and not (allow_truncated and region.end < 1 << 56):
        problem = f"the directory has {size} bytes, the file ends at byte {file.size:#x}"
        raise refusal(file, header, "gdOffset", "a directory inside the file", problem)
    return region


class HostedExtent(TableExtent):
    """A hosted sparse extent.

    Of a compressed extent the *places* are not those of the file: grains have any length there. They count the extent's
    own sectors as if one more lay behind each grain, so that no run joins two grains, and a place tells its grain without
    a look at any table. :meth:`file_place` gives the place in the file.

    Args:
        file: The extent's file.
        allow_truncated: Accept a directory that leaves the file.

    Raises:
        ExtentError: If the header cannot be trusted.
    """

    kind = "SPARSE"

    def __init__(self, file: EvidenceFile, *, allow_truncated: bool = False):
        self.header = read_hosted_header(file, allow_truncated=allow_truncated)
        self.compressed = self.header.compressed
        self.unclean_shutdown = self.header.unclean_shutdown != 0
        super().__init__(file, self.header.layout)
        self._stride = self.grain_size + SECTOR
        self._inflated: OrderedDict[int, bytes] = OrderedDict()
        self._lock = Lock()

    def _allocated(self, first_grain: int, places: Words) -> Words:
        from dissect_sesparse.extent.engine import ramp

        if not self.compressed:
            return super()._allocated(first_grain, places)
        stride = self._stride // SECTOR
        return ramp(State.ALLOCATED, first_grain * stride, stride, len(places))

    def find(self, offset: int) -> tuple[State, int | None]:
        state, place = super().find(offset)
        if not self.compressed or place is None:
            return state, place
        grain, within = divmod(offset, self.grain_size)
        return state, grain * self._stride + within

    @property
    def fd(self) -> int | None:
        return None if self.compressed else self.file.fd

    def file_place(self, place: int) -> int:
        """Where in the file the place of a run is: of a compressed grain, its marker."""
        if not self.compressed:
            return place
        _, marker = self.locate(place // self._stride)
        return 0 if marker is None else marker

    def read(self, place: int, length: int) -> bytes:
        if not self.compressed:
            return self.file.read(place, length)
        grain, within = divmod(place, self._stride)
        data = self._grain(grain)
        if within + length > len(data):
            _, marker = self.locate(grain)
            problem = f"grain {grain} inflates to {len(data)} bytes, {within + length} are needed"
            raise self._damaged(problem, marker or 0)
        return data[within : within + length]

    def read_some(self, place: int, length: int) -> bytes:
        if not self.compressed:
            return self.file.read_some(place, length)
        grain, within = divmod(place, self._stride)
        try:
            return self._grain(grain)[within : within + length]
        except UnreadableError:
            return b""

    # Compressed grains

    def _grain(self, grain: int) -> bytes:
        """The bytes of a compressed grain, from the cache or anew."""
        with self._lock:
            if (data := self._inflated.get(grain)) is not None:
                self._inflated.move_to_end(grain)
                return data
        data = self._inflate(grain)
        with self._lock:
            self._inflated[grain] = data
            while len(self._inflated) > max(1, CACHE_SIZE // self.grain_size):
                self._inflated.popitem(last=False)
        return data

    def _inflate(self, grain: int) -> bytes:
        _, offset = self.locate(grain)
        if offset is None:
            raise UnreadableError(f"grain {grain} has no bytes", file=self.file.label)
        marker = c_vmdk.grain_marker(self.file.read(offset, _MARKER_SIZE))
        lba = grain * self.grain_size // SECTOR
        if marker.lba != lba:
            raise self._damaged("the grain there is another one", offset, "marker lba", int(marker.lba), f"{lba:#x}")
        # Bytes that cannot be compressed get larger, by far less than this.
        if not 0 < marker.size <= 2 * self.grain_size:
            expected = f"1 to {2 * self.grain_size:#x} bytes"
            raise self._damaged("no compressed grain", offset, "marker size", int(marker.size), expected)
        stream = zlib.decompressobj()
        try:
            # One byte more than a grain, to see that there are too many; never the gigabytes a stream may hold.
            data = stream.decompress(self.file.read(offset + _MARKER_SIZE, marker.size), self.grain_size + 1)
        except zlib.error as e:
            raise self._damaged(f"grain {grain} does not inflate: {e}", offset) from None
        if len(data) > self.grain_size:
            raise self._damaged(f"grain {grain} inflates to more than {self.grain_size} bytes", offset)
        if not stream.eof:
            raise self._damaged(f"grain {grain} does not inflate: its stream has no end", offset)
        return data

    def _damaged(
        self, problem: str, offset: int, field: str | None = None, value: object = None, expected: str | None = None
    ) -> UnreadableError:
        return UnreadableError(
            problem,
            file=self.file.label,
            field=field,
            value=value,
            expected=expected,
            source_offset=offset,
            advice=ZEROS_ADVICE,
            kind=Kind.INVALID,
        )
