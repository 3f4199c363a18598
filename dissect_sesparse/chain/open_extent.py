"""A seSparse extent opened: its header checked or rebuilt, its metadata as the options want it, and the view of them.

The one place that decides what an extent is made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dissect_sesparse.extent.header import read_header
from dissect_sesparse.extent.sesparse import SESparseExtent
from dissect_sesparse.repair.rebuild import rebuild_header
from dissect_sesparse.repair.repairs import repaired
from dissect_sesparse.source.errors import ExtentError
from dissect_sesparse.source.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dissect_sesparse.extent.header import Header
    from dissect_sesparse.repair.rebuild import Capacity
    from dissect_sesparse.source.file import EvidenceFile


def open_extent(
    file: EvidenceFile, options: Options | None = None, capacities: Iterable[Capacity] = ()
) -> SESparseExtent:
    """Open a seSparse extent.

    Args:
        file: The extent's file.
        options: What to do where the evidence leaves a choice.
        capacities: What may be the capacity, for a destroyed header.

    Raises:
        ExtentError: If the headers cannot be trusted.
        UnreadableError: If the file cannot be read where a repair needs it.
    """
    options = options or Options()
    header = _header(file, options, capacities)
    metadata = repaired(file, header, journal=options.journal, salvage=options.salvage)
    if options.view == "residual":
        from dissect_sesparse.extent.residual import ResidualExtent

        return ResidualExtent(metadata)
    return SESparseExtent(metadata)


def _header(file: EvidenceFile, options: Options, capacities: Iterable[Capacity]) -> Header:
    allow_truncated = options.unreadable == "zero"
    try:
        return read_header(file, allow_truncated=allow_truncated)
    except ExtentError as e:
        if not options.salvage:
            raise
        return rebuild_header(file, capacities, e, allow_truncated=allow_truncated)
