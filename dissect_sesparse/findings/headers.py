"""What an extent's headers say held against one another and against the file's size.

All of it is read from one real extent: the journal header repeats the volatile header's next transaction number, and the
file is as long as its blocks of 16 MiB and 4 KiB of 0xff. A journal header that is all zero was not kept, and where no
region is kept (see ``audit``) the file is nothing that a host wrote: then there is nothing to hold against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dissect_sesparse.extent.c_sesparse import TABLE_COVERS
from dissect_sesparse.extent.entry import unpack
from dissect_sesparse.findings.tally import INFERRED, Odd
from dissect_sesparse.repair.emptied import kept

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.extent.sesparse import SESparseExtent

JOURNAL_MAGIC = 0xDEAFC0DE
END_MARK_SIZE = 4096
_FIELDS = 32
"""Bytes of the journal header that are known."""


def check_headers(extent: SESparseExtent) -> Iterator[Odd]:
    """What does not fit in an extent's headers, beyond what its opening refuses.

    Raises:
        UnreadableError: If the file cannot be read.
    """
    region = extent.header.regions["journal_header"]
    if region.size < _FIELDS or region.offset + _FIELDS > extent.file.size:
        return  # an empty region is nowhere, one that is cut off is told by the opening
    fields = unpack(extent.file.read(region.offset, _FIELDS))
    if not any(fields):
        if kept(extent.metadata).bitmap or kept(extent.metadata).backmap:
            message = f"the journal header is all zeros, expected its magic {JOURNAL_MAGIC:#x}; {INFERRED}"
            yield Odd("journal-header-mismatch", message, region.offset, None, region.size)
        return
    yield from _journal_header(extent, fields)
    if fields[0] == JOURNAL_MAGIC:
        yield from _file_size(extent)


def _journal_header(extent: SESparseExtent, fields: tuple[int, ...]) -> Iterator[Odd]:
    offset = extent.header.regions["journal_header"].offset
    magic, following, _, last = fields
    if magic != JOURNAL_MAGIC:
        message = f"journal_header.magic is {magic:#x}, expected {JOURNAL_MAGIC:#x}; {INFERRED}"
        yield Odd("journal-header-mismatch", message, offset, None, 8)
        return
    if following != extent.header.next_txn_seq_number:
        message = (
            f"the journal header's next transaction is {following:#x}, expected {extent.header.next_txn_seq_number:#x} "
            f"as in the volatile header; {INFERRED}"
        )
        # Between two transactions of a host that lost power, the one may well be written and the other not.
        level = "info" if extent.dirty else "warning"
        yield Odd("journal-header-mismatch", message, offset + 8, None, 8, level)
    if last:
        message = f"the journal header holds {last:#x} at its byte 0x18, expected 0; {INFERRED}"
        yield Odd("padding-nonzero", message, offset + 0x18, None, 8, "info")


def _file_size(extent: SESparseExtent) -> Iterator[Odd]:
    """The file's size against the number of blocks that the volatile header says are in use."""
    field = extent.header.regions["volatile_header"].offset + 8
    blocks, size = extent.header.free_gt_number, extent.file.size
    if blocks > extent.header.table_count:
        message = (
            f"free_gt_number is {blocks:#x}, expected at most the {extent.header.table_count:#x} blocks of 16 MiB that "
            f"a disk of this capacity has; {INFERRED}"
        )
        yield Odd("size-mismatch", message, field, None, None, "info")
        return
    end = extent.metadata.grains_offset + blocks * TABLE_COVERS
    expectation = f"free_gt_number is {blocks:#x}, so that {end + END_MARK_SIZE:#x} bytes are expected"
    # The last block of a disk that is no multiple of 16 MiB may be shorter: not seen.
    if size < extent.metadata.grains_offset:
        return  # told by the opening
    if size < min(end, extent.metadata.grains_offset + extent.header.regions["grains"].size):
        message = f"the file ends at byte {size:#x}, {expectation}: cut off? What its tables name is reported by itself; {INFERRED}"
        yield Odd("truncated", message, size, None, end + END_MARK_SIZE - size)
    elif size < end + END_MARK_SIZE:
        message = f"the file ends at byte {size:#x}, {expectation}; {INFERRED}"
        yield Odd("truncated", message, size, None, end + END_MARK_SIZE - size, "info")
    elif size == end + END_MARK_SIZE and extent.file.read(end, END_MARK_SIZE) != b"\xff" * END_MARK_SIZE:
        message = f"the last {END_MARK_SIZE} bytes of the file are not all 0xff, as expected; {INFERRED}"
        yield Odd("end-mark-mismatch", message, end, None, END_MARK_SIZE, "info")
