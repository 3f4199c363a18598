"""What lies in the files of a chain that the guest does not see: one entry, one place and one sector at a time.

As ``oracle``, of which it is the other half, it shares nothing with the package: literal offsets, plain loops. What it says
follows from the words of the format's description and of the record reference, not from how either was written down in code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import oracle

if TYPE_CHECKING:
    import mmap
    from pathlib import Path

BARE = 0x1000000000000000


class Trimmed(NamedTuple):
    """An unmapped grain that has to be listed. Offsets and sizes in bytes."""

    depth: int
    offset: int
    """On the disk."""
    size: int
    path: Path
    place: int | None
    """In the file."""
    state: str
    parent_state: str | None
    data: bytes | None


class Loose(NamedTuple):
    """A place that no entry names, and that is not all zeros."""

    depth: int
    path: Path
    place: int
    size: int
    offset: int | None
    """On the disk, as the backmap tells."""
    data: bytes


@dataclass
class Tables:
    """All entries of an extent's file, and who names which place."""

    path: Path
    file: bytes | mmap.mmap
    entries: dict[int, int]
    allocated: set[int]
    unmapped: dict[int, int]
    """How many unmapped entries name a place."""
    grains: int
    end: int
    """Where places end to begin: the grains region's end, or the file's."""

    @property
    def first_owner(self) -> int | None:
        """The grain that the backmap's word of place 0 names."""
        where = oracle.u64(self.file, 0xB0) * 512
        word = oracle.u64(self.file, where)
        if word is None or word >> 60 != 1:
            return None
        return self.owner(word)

    def owner(self, word: int) -> int | None:
        """The grain of a word of the backmap, where each slice of the disk has the table of its own number."""
        if word >> 60 != 1:
            return None
        grain = (word & 0xFFFFFFFFFFFF) * 4096 + (word >> 48 & 0xFFF)
        return grain if grain * 4096 < oracle.u64(self.file, 0x10) * 512 else None


def tables_of(path: Path) -> Tables:
    """Read all entries of an extent."""
    file = oracle.contents(path)
    capacity, directory, tables = (oracle.u64(file, offset) for offset in (0x10, 0x80, 0x90))
    grains, length = oracle.u64(file, 0xC0) * 512, oracle.u64(file, 0xC8) * 512
    entries: dict[int, int] = {}
    allocated: set[int] = set()
    unmapped: dict[int, int] = {}
    for grain in range((capacity + 7) // 8):
        slot = oracle.u64(file, directory * 512 + grain // 4096 * 8)
        if not slot:
            continue
        entry = oracle.u64(file, tables * 512 + (slot & 0xFFFFFFFF) * 32768 + grain % 4096 * 8)
        if not entry:
            continue
        entries[grain] = entry
        if entry >> 60 == 3:
            allocated.add(place_of(entry))
        elif entry >> 60 == 1 and entry != BARE:
            unmapped[place_of(entry)] = unmapped.get(place_of(entry), 0) + 1
    return Tables(path, file, entries, allocated, unmapped, grains, min(grains + length, len(file)))


def place_of(entry: int) -> int:
    """The place that an entry names, in grains."""
    return (entry >> 48 & 0xFFF) | (entry & 0xFFFFFFFFFFFF) * 4096


def trimmed(links: list[list[oracle.Piece]], states: list[list[oracle.Sector]]) -> list[Trimmed]:
    """All unmapped grains of a chain, in the order in which they are listed; ``states`` as ``oracle`` has them."""
    found = []
    for depth, pieces in enumerate(links):
        below = states[depth + 1]
        first = 0
        for piece in pieces:
            if isinstance(piece, oracle.Sparse):
                tables = tables_of(piece.path)
                have = min(piece.sectors, oracle.u64(tables.file, 0x10)) * 512
                for grain, entry in sorted(tables.entries.items()):
                    if entry >> 60 == 1 and grain * 4096 < have:
                        size = min(4096, have - grain * 4096)
                        if (one := _grain(tables, grain, entry, size)) is not None:
                            place, state = one
                            offset = first * 512 + grain * 4096
                            found.append(_listed(depth, offset, size, tables, place, state, below))
            first += piece.sectors
    return found


def _grain(tables: Tables, grain: int, entry: int, size: int) -> tuple[int | None, str] | None:
    """Place in grains and state of an unmapped entry; ``None`` where it never had a place."""
    if entry == BARE:
        owner = tables.first_owner
        if 0 in tables.allocated or owner not in (None, grain):
            return None
        if owner is None:
            return None, "ambiguous"
        place = 0
    else:
        place = place_of(entry)
    where = tables.grains + place * 4096
    if place in tables.allocated:
        return place, "reused"
    capacity = oracle.u64(tables.file, 0x10) * 512
    if where >= tables.end or where + min(4096, capacity - grain * 4096) > len(tables.file):
        return place, "missing"
    if tables.unmapped.get(place, 0) > 1:
        return place, "contested"
    return place, "present" if any(tables.file[where : where + size]) else "empty"


def _listed(
    depth: int, offset: int, size: int, tables: Tables, place: int | None, state: str, below: list[oracle.Sector]
) -> Trimmed:
    where = None if place is None else tables.grains + place * 4096
    if state not in ("present", "empty", "contested"):
        return Trimmed(depth, offset, size, tables.path, where, state, None, None)
    data = bytes(tables.file[where : where + size])
    sectors = [oracle.under(below, number) for number in range(offset // 512, (offset + size) // 512)]
    return Trimmed(depth, offset, size, tables.path, where, state, _parent_state(data, sectors), data)


def _parent_state(data: bytes, sectors: list[oracle.Sector]) -> str | None:
    if any(sector.data is None for sector in sectors):
        return None
    other = b"".join(sector.data for sector in sectors)
    if not any(other):
        return "zero" if any(sector.state for sector in sectors) else "none"
    return "same" if other == data else "different"


def loose(links: list[list[oracle.Piece]]) -> list[Loose]:
    """All places of a chain's files that no entry names, in the order in which they are listed."""
    found = []
    for depth, pieces in enumerate(links):
        first = 0
        for piece in pieces:
            if isinstance(piece, oracle.Sparse):
                found += _loose(tables_of(piece.path), depth, first * 512)
            first += piece.sectors
    return found


def _loose(tables: Tables, depth: int, first: int) -> list[Loose]:
    found = []
    backmap = oracle.u64(tables.file, 0xB0) * 512
    owner = tables.first_owner
    first_is_bare = 0 not in tables.allocated and tables.entries.get(owner if owner is not None else -1) == BARE
    blocks = oracle.u64(tables.file, 0x208)
    for where in range(tables.grains, tables.end, 4096):
        data = bytes(tables.file[where : where + 4096])
        place = (where - tables.grains) // 4096
        if place in tables.allocated or place in tables.unmapped or (place == 0 and first_is_bare) or not any(data):
            continue
        if place == blocks * 4096 and where + len(data) == len(tables.file) and data == b"\xff" * len(data):
            continue  # the mark of the file's end
        named = tables.owner(oracle.u64(tables.file, backmap + place * 8) or 0)
        offset = None if named is None else first + named * 4096
        found.append(Loose(depth, tables.path, where, len(data), offset, data))
    return found


def never_mapped(links: list[list[oracle.Piece]]) -> int:
    """Bytes under bare entries that never had a place."""
    count = 0
    for pieces in links:
        for piece in pieces:
            if isinstance(piece, oracle.Sparse):
                tables = tables_of(piece.path)
                have = min(piece.sectors, oracle.u64(tables.file, 0x10)) * 512
                for grain, entry in tables.entries.items():
                    size = min(4096, have - grain * 4096)
                    if entry == BARE and size > 0 and _grain(tables, grain, entry, size) is None:
                        count += size
    return count


def residual(links: list[list[oracle.Piece]], found: list[Trimmed]) -> list[oracle.Sector]:
    """The disk with unmapped grains shown where their old bytes are there and surely theirs.

    Args:
        links: The chain.
        found: Its unmapped grains.
    """
    below: list[oracle.Sector] = []
    for depth, pieces in reversed(list(enumerate(links))):
        # The link over what is below it: each unmapped grain of its own is replaced
        mine = oracle.link(pieces, below)
        for old in found:
            if old.depth == depth and old.state in ("present", "empty"):
                for at in range(0, old.size, 512):
                    number = (old.offset + at) // 512
                    mine[number] = oracle.Sector(3, old.path, old.place + at, old.data[at : at + 512])
        below = mine
    return below


class Changed(NamedTuple):
    """What happened to a sector between two states."""

    kind: str
    depth: int
    """Of the link that says so; of the newest one that is too short."""


KINDS = {1: "unmapped", 2: "zeroed", 3: "written", 4: "unreadable"}


def changed(
    alone: list[list[oracle.Sector]], states: list[list[oracle.Sector]], older: int, newer: int
) -> dict[int, Changed]:
    """What happened to each sector from the state of one link to that of another, of one chain.

    Args:
        alone: Each link over nothing.
        states: As ``oracle`` has them.
        older: The state to start from.
        newer: The state to get to.
    """
    sizes = [len(sectors) for sectors in alone]
    common = states[max(older, newer)]
    between = range(min(older, newer), max(older, newer))
    found: dict[int, Changed] = {}
    for number in range(max(sizes[older], sizes[newer])):
        told = cut = None
        for depth in between:
            if number >= sizes[depth]:
                cut = depth
                break
            if alone[depth][number].state:
                told = depth
                break
        if told is not None:
            kind = KINDS[alone[told][number].state] if newer < older else "reverted"
            found[number] = Changed(kind, told)
        elif cut is not None and oracle.under(common, number).state:
            found[number] = Changed("cut" if newer < older else "reverted", cut)
    return found
