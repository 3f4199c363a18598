"""Chains of the file system states in ``states/``: a flat base, and a delta for each snapshot that was taken."""

from __future__ import annotations

import json
import lzma
import sys
from functools import cache
from pathlib import Path

from sesparse_builder import GRAIN, ChainBuilder

STATES = Path(__file__).parents[1] / "states"
sys.path.insert(0, str(STATES))

from make_states import KINDS, content

__all__ = ["KINDS", "build", "content", "surviving"]


@cache
def _steps(kind: str) -> list[tuple[dict[int, bytes], list[int], bool]]:
    """What each step wrote and trimmed, and whether a snapshot was taken after it."""
    data = lzma.decompress((STATES / f"{kind}.xz").read_bytes())
    steps, position = [], 0
    for step in json.loads((STATES / f"{kind}.json").read_text()):
        numbers = [first + n for first, count in step["written"] for n in range(count)]
        written = {g: data[position + i * GRAIN :][:GRAIN] for i, g in enumerate(numbers)}
        position += len(numbers) * GRAIN
        steps.append((written, [first + n for first, count in step["trimmed"] for n in range(count)], step["snapshot"]))
    return steps


def build(kind: str, folder: Path, *, trim: bool = True, lvm: bool = False) -> ChainBuilder:
    """The chain of a kind of file system, not written yet.

    Args:
        kind: The name of the states: of ``KINDS``, or ``names`` (``make_names``).
        folder: Where the chain is written.
        trim: Whether the guest trims what it deletes.
        lvm: Whether all of it is on a logical volume of 16 MiB.
    """
    base: dict[int, bytes] = {}
    size, shift = KINDS["ntfs" if kind == "names" else kind].size, 0
    if lvm:
        head = lzma.decompress((STATES / "lvm.xz").read_bytes())
        size, shift = 24 << 20, len(head) // GRAIN
        base |= {grain - shift: head[grain * GRAIN :][:GRAIN] for grain in range(shift)}
    chain = ChainBuilder(folder, size // 512, {})
    extent = None
    for written, trimmed, snapshot in _steps(kind):
        if extent is None:
            base |= written
        else:
            for grain, data in written.items():
                extent.allocate(grain + shift, data)
            for grain in trimmed if trim else ():
                extent.unmap(grain + shift)
        if snapshot:
            extent = chain.add_delta()
    chain.base.update({(grain + shift) * 8: data for grain, data in base.items()})
    return chain


def surviving(folder: Path, name: str, size: int) -> set[int]:
    """The offsets of a file's sectors that are anywhere in the files of a chain: nothing else can be recovered of it."""
    raw = b"\n".join(path.read_bytes() for path in sorted(folder.glob("*.vmdk")))
    data = content(name, size)
    return {at for at in range(0, size, 512) if data[at : at + 512] in raw}
