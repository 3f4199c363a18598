"""An NTFS volume in one state of the disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dissect.ntfs.mft import MftRecord
    from dissect.ntfs.ntfs import NTFS


@dataclass(frozen=True)
class NtfsView:
    """An NTFS volume in one state of the disk."""

    depth: int
    """Of the link that was the newest then."""
    ntfs: NTFS
    size: int
    """Bytes of the volume."""
    place: int | None
    """Where on the disk the volume starts; ``None`` where it is not one piece of the disk."""
    doubt: str = ""
    """Why what it says may be out of date, see ``trust``; empty where it was closed."""

    def record(self, segment: int) -> MftRecord:
        """A record of its MFT.

        Raises:
            Exception: Whatever dissect.ntfs trips over.
        """
        return self.ntfs.mft.get(segment)  # type: ignore[union-attr]
