"""The NTFS of ``states/ntfs.json``: what its deleted files are, and the same with a hostile MFT record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import file_states
from file_states import content

from dissect_sesparse import open_chain

if TYPE_CHECKING:
    from pathlib import Path

    from sesparse_builder import ExtentBuilder

GRAIN = 4096
CHANGED = bytearray(content("changed.bin", 80_000))
CHANGED[8192 : 8192 + 4096] = content("patch", 4096)

COMPLETE = {
    # path: what names it, depth of the link that tells it, content
    "spare0": ("snapshot", 2, content("spare0", 40)),  # its MFT record was used again
    "spare1": ("mft", 1, content("spare1", 40)),
    "note.txt": ("mft", 1, content("note.txt", 200)),
    "changed.bin@": ("snapshot", 2, content("changed.bin", 80_000)),  # as it was before it was changed
    "Deep/inner/leaf.bin": ("mft", 1, content("leaf.bin", 30_000)),  # its folders are deleted too
    "Docs/report.bin": ("snapshot", 1, content("report.bin", 60_001)),  # it shares a grain with what was written since
    "tiny.txt": ("mft", 0, content("tiny.txt", 77)),
}
LIKELY = {
    # written in the time in which they were deleted
    "base-gone.bin": ("mft", 2, content("base-gone.bin", 40_000)),
    "session.bin": ("mft", 1, content("session.bin", 50_000)),
    "changed.bin": ("mft", 1, bytes(CHANGED)),  # partly from the base, partly from delta 1
    "over.bin": ("mft", 0, content("over.bin", 30_000)),
    "packed/log.bin": ("mft", 0, content("log.bin", 300_000)),  # compressed
}
PARTIAL = {"victim.bin": (1, 120_000), "early.bin": (0, 90_000)}
"""Depth and size of files of whose clusters thief.bin, which is live, and over.bin, deleted later, got some."""


def record_of(path: Path, name: str, *, live: bool = False) -> tuple[int, int, int]:
    """Where on the disk the MFT record of a (deleted) file in the root is, and where its data attribute is in that."""
    from dissect.ntfs import NTFS
    from dissect.util.stream import RangeStream

    with open_chain(path) as chain:
        ntfs = NTFS(RangeStream(chain.open(), 1 << 20, chain.size - (1 << 20)))
        segment = next(r.segment for r in ntfs.mft.segments() if r.filename == name and r.header.Flags & 1 == live)
        record = ntfs.mft.get(segment)
        (start, _), *_ = ntfs.mft.get(0).dataruns()
        return (1 << 20) + start * ntfs.cluster_size + segment * 1024, record.attributes.DATA.header.offset, segment


def patched(folder: Path, name: str, *patches: tuple[int, bytes], live: bool = False) -> Path:
    """The chain with bytes of the data attribute of a (deleted) record changed, in the newest link."""
    builder = file_states.build("ntfs", folder / "vm")
    path = builder.write()
    place, attribute, _ = record_of(path, name, live=live)
    extent: ExtentBuilder = builder.links[-1].extent
    grain, skip = divmod(place, GRAIN)
    with open_chain(path) as chain:
        data = bytearray(chain.read(grain * GRAIN, GRAIN))
    for offset, new in patches:
        assert attribute + offset + len(new) < 510, "behind it are bytes that the update sequence protects"
        data[skip + attribute + offset : skip + attribute + offset + len(new)] = new
    extent.allocate(grain, bytes(data))
    return builder.write()
