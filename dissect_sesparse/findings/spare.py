"""The bytes of an extent's metadata that no structure uses: the rest of headers, gaps between regions, the rest of regions.

In the one real extent they are zero, but for the journal header's, which hold memory of the host's management daemon: a
line of its log with time, user and operation id. Such text is evidence of who worked on the host, and is told as such
(``host-memory``). What is printable by chance is kept out by how long it has to be and how many different characters it has.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.extent.c_sesparse import TABLE_ENTRIES, TABLE_SIZE
from dissect_sesparse.findings.tally import INFERRED, Odd
from dissect_sesparse.source.file import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.extent.header import Region
    from dissect_sesparse.extent.sesparse import SESparseExtent

MAX_AREA = 4 << 20
"""Bytes looked at of each area. Regions are rounded up by less than 1 MiB; a header may say anything."""
MAX_TEXT = 400
"""Characters of a text that its message repeats."""
_SHORT = re.compile(rb"[\x20-\x7e]{12,}")
_LONG = re.compile(rb"[\x20-\x7e]{20,}")
_DIFFERENT = 6
"""Characters that a text has at least: entries that repeat are none."""
_HEADER_FIELDS = {"const_header": 0xD0, "volatile_header": 0x20, "journal_header": 0x20}


class Area(NamedTuple):
    """Bytes that nothing uses. ``start`` and ``end`` in bytes of the file."""

    name: str
    start: int
    end: int
    zero: bool
    """Whether they should be zero, and are not told as padding elsewhere."""
    text: re.Pattern[bytes]
    """What counts as text in them."""


class SpareText(NamedTuple):
    """A line of text where none should be."""

    area: str
    """What the area is called."""
    offset: int
    """Of its first byte in the file."""
    text: str

    @property
    def short(self) -> str:
        """What a message repeats of it."""
        return self.text[:MAX_TEXT]

    @property
    def more(self) -> str:
        """How much that leaves out, in words; nothing where it is all."""
        return f" and {len(self.text) - MAX_TEXT} characters more" if len(self.text) > MAX_TEXT else ""


def check_spare(extent: SESparseExtent) -> Iterator[Odd]:
    """Bytes that should be zero and are not, and text that leaked from the host's memory.

    Raises:
        UnreadableError: If the file cannot be read.
    """
    for area in spare_areas(extent):
        data = extent.file.read_some(area.start, min(area.end - area.start, MAX_AREA))
        if data.count(0) == len(data):
            continue
        if area.zero:
            yield _nonzero(area, data)
        for text in _texts(area, data):
            yield _text(text)


def spare_texts(extent: SESparseExtent) -> Iterator[SpareText]:
    """All text in bytes that nothing uses, each line by itself.

    Raises:
        UnreadableError: If the file cannot be read.
    """
    for area in spare_areas(extent):
        yield from _texts(area, extent.file.read_some(area.start, min(area.end - area.start, MAX_AREA)))


def _texts(area: Area, data: bytes) -> Iterator[SpareText]:
    for match in area.text.finditer(data):
        if len(set(match[0])) >= _DIFFERENT:
            yield SpareText(
                area.name, area.start + match.start(), match[0].decode("ascii")
            )  # the pattern lets no more in


def _nonzero(area: Area, data: bytes) -> Odd:
    first = len(data) - len(data.lstrip(b"\0"))
    message = (
        f"{len(data) - data.count(0)} bytes of {area.name} are not zero, the first is {data[first]:#x}, "
        f"expected only zeros; {INFERRED}"
    )
    return Odd("padding-nonzero", message, area.start + first, None, None, "info")


def _text(text: SpareText) -> Odd:
    message = (
        f"{text.area} holds text, likely of the host's memory: {text.short!r}{text.more}, expected none; {INFERRED}"
    )
    return Odd("host-memory", message, text.offset, None, len(text.text), "info")


def spare_areas(extent: SESparseExtent) -> Iterator[Area]:
    """The areas, in no order."""
    regions = extent.header.regions
    for name, used in _HEADER_FIELDS.items():
        start, size = (0, SECTOR) if name == "const_header" else (regions[name].offset, regions[name].size)
        # The padding of the first two is checked at the opening; in the journal header's rest anything is normal.
        first = SECTOR if name == "volatile_header" else size
        yield Area(f"the rest of the {_plain(name)}", start + used, start + first, False, _SHORT)
        yield Area(f"the rest of the {_plain(name)}", start + first, start + size, True, _SHORT)
    yield Area("the journal", regions["journal"].offset, regions["journal"].end, False, _LONG)
    tables = extent.header.table_count
    # Of the last block's bits and words behind the capacity nothing is known.
    used = {
        "grain_directory": tables * 8,
        "grain_tables": tables * TABLE_SIZE,
        "free_bitmap": tables * TABLE_ENTRIES // 8,
        "backmap": tables * TABLE_ENTRIES * 8,
    }
    for name, size in used.items():
        region = regions[name]
        yield Area(f"the rest of the {_plain(name)}", region.offset + size, region.end, True, _LONG)
    yield from _gaps(list(regions.values()))


def _gaps(regions: list[Region]) -> Iterator[Area]:
    """What lies between the regions."""
    end = SECTOR
    for region in sorted((region for region in regions if region.size), key=lambda region: region.offset):
        if region.offset > end:
            yield Area(f"the gap before the {_plain(region.name)}", end, region.offset, True, _LONG)
        end = max(end, region.end)


def _plain(name: str) -> str:
    return name.replace("_", " ")
