"""The ESX sparse extent: ``VMFSSPARSE``, the copy-on-write disk of ESXi's older snapshots (and of ``vmfsThin``).

Its grains have one sector, as a rule; its tables have 4096 entries and are written where they are first needed, so that
tables and grains lie between one another.

Source: VMware's technical note *Virtual Disk Format 5.0*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dissect_sesparse.extent.c_vmdk import COWD_MAGIC, COWD_TABLE_ENTRIES, c_vmdk
from dissect_sesparse.extent.header import Region, read_struct
from dissect_sesparse.extent.sector_tables import (
    MAX_GRAIN_SECTORS,
    TableExtent,
    TableLayout,
    is_power_of_two,
    refusal,
)
from dissect_sesparse.source.file import SECTOR

if TYPE_CHECKING:
    from dissect_sesparse.source.file import EvidenceFile

HEADER_SIZE = len(c_vmdk.cowd_header)
MAX_SPARE_ENTRIES = 1 << 18
"""How many more directory entries (1 MiB) than the capacity needs are accepted; more belong to another disk."""


def read_cowd_layout(file: EvidenceFile, *, allow_truncated: bool = False) -> tuple[TableLayout, Any]:
    """Read and check the header.

    Args:
        file: The extent.
        allow_truncated: Accept a directory that leaves the file.

    Returns:
        What it says, and the structure itself.

    Raises:
        ExtentError: Naming the file, the field, its value and what was expected.
    """
    header = read_struct(file, 0, c_vmdk.cowd_header)
    _check(file, header)
    grains = -(-header.numSectors // header.grainSize)
    tables = -(-grains // COWD_TABLE_ENTRIES)
    if not tables <= header.numGDEntries <= tables + MAX_SPARE_ENTRIES:
        problem = f"the capacity of {header.numSectors:#x} sectors needs {tables:#x} grain directory entries"
        expected = f"{tables:#x} to {tables + MAX_SPARE_ENTRIES:#x}"
        raise refusal(file, header, "numGDEntries", expected, problem)
    directory = Region("grain directory", header.gdOffset * SECTOR, tables * 4)
    if directory.end > file.size and not allow_truncated:
        problem = f"the directory has {directory.size} bytes, the file ends at byte {file.size:#x}"
        raise refusal(file, header, "gdOffset", "a directory inside the file", problem)
    layout = TableLayout(
        capacity=header.numSectors * SECTOR,
        grain_size=header.grainSize * SECTOR,
        table_entries=COWD_TABLE_ENTRIES,
        directory=directory,
        metadata=(Region("header", 0, HEADER_SIZE), directory),
    )
    return layout, header


def _check(file: EvidenceFile, header: Any) -> None:
    if header.magicNumber != COWD_MAGIC:
        raise refusal(file, header, "magicNumber", f"{COWD_MAGIC!r}")
    if header.version != 1:
        raise refusal(file, header, "version", "1")
    # 3 on all of VMware's; what the two bits mean is not known, others were never seen.
    if header.flags & ~3:
        raise refusal(file, header, "flags", "no bits but 3")
    if header.numSectors == 0:
        raise refusal(file, header, "numSectors", "at least 1 sector")
    if not is_power_of_two(header.grainSize) or header.grainSize > MAX_GRAIN_SECTORS:
        raise refusal(file, header, "grainSize", f"a power of two up to {MAX_GRAIN_SECTORS:#x} sectors, usually 1")
    if header.gdOffset * SECTOR < HEADER_SIZE:
        raise refusal(file, header, "gdOffset", f"a sector behind the header, {HEADER_SIZE // SECTOR} or later")


class CowdExtent(TableExtent):
    """An ESX sparse extent.

    Args:
        file: The extent's file.
        allow_truncated: Accept a directory that leaves the file.

    Raises:
        ExtentError: If the header cannot be trusted.
    """

    kind = "VMFSSPARSE"

    def __init__(self, file: EvidenceFile, *, allow_truncated: bool = False):
        layout, header = read_cowd_layout(file, allow_truncated=allow_truncated)
        self.unclean_shutdown = header.uncleanShutdown != 0
        super().__init__(file, layout)
