"""Tables to try, and the plain twins of the table engine: one entry, one lane at a time."""

from __future__ import annotations

import random
import struct

from dissect_sesparse.extent import engine
from dissect_sesparse.extent.entry import BARE_UNMAPPED, State, decode_entry
from dissect_sesparse.extent.lane import split as split_kind

GRAINS_SECTOR = 12288


def pack(entries: list[int]) -> bytes:
    return struct.pack(f"<{len(entries)}Q", *entries)


def words(lanes: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(lanes) // 8}Q", lanes))


def decode_entries(entries: bytes, grains_sector: int, limit: int, *, keep_unmapped: bool = False) -> bytes:
    return engine.decode(engine.words(entries), grains_sector, limit, keep_unmapped=keep_unmapped).tobytes()


def constant(state: State, count: int) -> bytes:
    return engine.constant(state, count).tobytes()


def ramp(state: State, first: int, step: int, count: int) -> bytes:
    return engine.ramp(state, first, step, count).tobytes()


def spread(lanes: bytes, factor: int, step: int) -> bytes:
    return engine.spread(engine.words(lanes), factor, step).tobytes()


def split(lane: int) -> tuple[State, int, int | None]:
    """State, layer and place in bytes of a whole lane."""
    state, layer, placed = split_kind(lane >> 60 | (lane >> 48 & 0xFFF) << 4)
    return state, layer, (lane & (1 << 48) - 1) * 512 if placed else None


def runs_of(lanes: bytes, step_sectors: int) -> tuple[list[int], list[int]]:
    """What ``find_runs`` finds: lane numbers, and the lanes there put together again."""
    numbers, kinds, places = (array.tolist() for array in engine.find_runs(engine.words(lanes), step_sectors))
    return numbers, [(kind & 0xF) << 60 | kind >> 4 << 48 | place // 512 for kind, place in zip(kinds, places)]


# The twins


def plain_decode(entry: int, grains_sector: int, limit: int, *, keep_unmapped: bool) -> tuple[State, int | None]:
    """State and byte of the file, by ``entry`` and the rules in the docstring of ``decode_entries``."""
    try:
        state, grain = decode_entry(entry)
    except ValueError:
        return State.INVALID, None
    place = grains_sector * 512 + grain * 4096
    if state == State.ALLOCATED:
        return (State.ALLOCATED, place) if grain < limit else (State.INVALID, None)
    if state == State.UNMAPPED and keep_unmapped and grain < limit and entry != BARE_UNMAPPED:
        return State.UNMAPPED, place
    return state, None


def plain_runs(lanes: bytes, step_sectors: int) -> tuple[list[int], list[int]]:
    """A run goes on where the next lane has the same state and layer, and the place that follows."""
    values = words(lanes)
    starts = [0]
    for number in range(1, len(values)):
        state, layer, place = split(values[number - 1])
        follows = None if place is None else place + step_sectors * 512
        if split(values[number]) != (state, layer, follows):
            starts.append(number)
    return starts, [values[number] for number in starts]


# Tables to try

LIMITS = [0, 1, 5, 4095, 4096, 4097, 0x12345, (1 << 44) - 1]

NASTY = [
    0,
    1,
    0x0001000000000000,
    0x0FFFFFFFFFFFFFFF,  # 0x0 with all low bits
    0x00FF000000000000,  # 0x0 whose top byte is 0
    BARE_UNMAPPED,
    0x1001000000000000,
    0x1FFFFFFFFFFFFFFF,
    0x1000FFFFFFFFFFFF,
    0x2000000000000000,
    0x2FFFFFFFFFFFFFFF,
    0x3000000000000000,
    0x3FFF000000000000,
    0x3000000000000001,
    0x3FFFFFFFFFFFFFFF,
    0x3000800000000000,
    0x3000FFFFFFFFFFFF,
    *(nibble << 60 for nibble in range(4, 16)),
    *(nibble << 60 | 0x0FFFFFFFFFFFFFFF for nibble in range(4, 16)),
    # Just below, at and just past each limit, in both states that have a place
    *(
        nibble << 60 | (grain & 0xFFF) << 48 | grain >> 12
        for limit in LIMITS
        for grain in (limit - 1, limit, limit + 1)
        if grain >= 0
        for nibble in (1, 3)
    ),
]


def random_table(rng: random.Random, count: int, nasty: float = 0.1) -> list[int]:
    """Runs of all states, with places in order and not, and some entries that no host writes."""
    entries: list[int] = []
    while len(entries) < count:
        nibble, grain, jumps = rng.randrange(4), rng.randrange(1 << 14), rng.random() < 0.3
        for _ in range(rng.choice((1, 1, 2, 7, 50))):
            if rng.random() < nasty:
                entries.append(rng.choice(NASTY))
            else:
                entries.append(0 if nibble == 0 else nibble << 60 | (grain & 0xFFF) << 48 | grain >> 12)
            grain = rng.randrange(1 << 14) if jumps else grain + 1
    return entries[:count]


def check_decode(entries: list[int], grains_sector: int, limit: int) -> None:
    for keep in (False, True):
        lanes = words(decode_entries(pack(entries), grains_sector, limit, keep_unmapped=keep))
        assert len(lanes) == len(entries)
        for entry, lane in zip(entries, lanes):
            state, layer, place = split(lane)
            expected = plain_decode(entry, grains_sector, limit, keep_unmapped=keep)
            assert (state, place) == expected, f"entry {entry:#x}, limit {limit:#x}, keep_unmapped={keep}"
            assert layer == 0
            # Lanes are compared as numbers: where there is no place there must be no rest of one
            assert place is not None or lane & (1 << 60) - 1 == 0
