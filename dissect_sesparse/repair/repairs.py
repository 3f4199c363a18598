"""The metadata of an extent with everything that was repaired: the journal of a dirty one, what ``salvage=1`` rebuilds.

The extent itself knows of none of this: it is given the metadata (see ``open_extent``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dissect_sesparse.extent.doubt import Doubt
from dissect_sesparse.extent.metadata import Metadata
from dissect_sesparse.extent.overlaid import LaidOver
from dissect_sesparse.repair.emptied import find_emptied
from dissect_sesparse.repair.replay import replay, restore

if TYPE_CHECKING:
    from dissect_sesparse.extent.header import Header
    from dissect_sesparse.extent.overlaid import MetadataSource
    from dissect_sesparse.extent.sesparse import SESparseExtent
    from dissect_sesparse.repair.replay import Replay
    from dissect_sesparse.repair.salvage import Salvage
    from dissect_sesparse.source.file import EvidenceFile

_DESTROYED = Doubt(
    "it is destroyed, and neither the backmap nor the journal tells what it was",
    "without salvage=1 it is read as it lies",
)


@dataclass(frozen=True)
class Repairs:
    """What was repaired of an extent, in memory."""

    header: Header
    replay: Replay | None = None
    """What became of the journal; ``None`` for a clean extent, and where it is to be ignored."""
    restored: int = 0
    """Sectors of metadata that the journal's history stands in for."""
    salvage: Salvage | None = None
    """What was rebuilt of directory and tables; ``None`` where that is not wanted."""

    @property
    def state(self) -> str:
        """``clean``; ``dirty``, or ``replayed`` where its journal was; ``salvaged`` where anything was rebuilt."""
        if self.header.rebuilt or self.restored or (self.salvage is not None and self.salvage.changed):
            return "salvaged"
        if not self.header.replay_journal:
            return "clean"
        return "replayed" if self.replay is not None and self.replay.applied else "dirty"

    @property
    def doubt(self) -> Doubt | None:
        """Why an entry that is given as INVALID cannot be had."""
        if self.replay is not None and self.replay.doubt is not None:
            return self.replay.doubt
        return _DESTROYED if self.salvage is not None else None


def repaired(file: EvidenceFile, header: Header, *, journal: str, salvage: bool) -> Metadata:
    """The metadata of an extent.

    Args:
        file: The extent's file.
        header: Where the regions are.
        journal: Of a dirty extent: ``replay`` or ``ignore`` it.
        salvage: Rebuild destroyed directory and tables.

    Raises:
        ExtentError: If there is more to rebuild than memory can hold.
        UnreadableError: If the file cannot be read where a repair needs it.
    """
    source: MetadataSource = file
    played, restored, rebuilt = None, 0, None
    if header.replay_journal and journal == "replay":
        played, source = replay(file, header, infer=salvage)
    elif salvage and not header.replay_journal and (lost := restore(file, header)):
        source, restored = LaidOver(file, lost), len(lost)
    if salvage:
        from dissect_sesparse.repair.salvage import Salvage  # numpy, where something is rebuilt

        source = rebuilt = Salvage(file, header, source)
    repair = Repairs(header, played, restored, rebuilt) if played is not None or salvage else None
    metadata = Metadata(file, header, source, repair)
    if salvage or (header.replay_journal and journal == "ignore"):
        return metadata
    emptied = find_emptied(metadata)
    return metadata if emptied is None else Metadata(file, header, source, repair, emptied)


def repairs_of(extent: SESparseExtent) -> Repairs:
    """What was repaired of an extent; nothing, where nothing was."""
    repair = extent.metadata.repair
    return repair if isinstance(repair, Repairs) else Repairs(extent.header)
