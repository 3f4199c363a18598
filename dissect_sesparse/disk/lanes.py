"""A whole grain table decoded at once, and whole tables laid over one another.

The trick, and the only one of the project: a window of the disk is an array of 64-bit *lanes*, one for 4 KiB (or for a
sector, see ``window``), and an array of lanes is one big integer. Python's big integers do ``&``, ``|``, ``+`` and shifts
on all 4096 lanes in a few microseconds, where a loop over the entries takes a millisecond. Nothing carries from one lane
into the next, because every field is checked to be narrow enough first.

A decoded lane::

     63     62   60 59     48 47                       0
    +------+-------+---------+--------------------------+
    |placed| state |  layer  |  place in the file, in   |
    |      |       |         |  sectors                 |
    +------+-------+---------+--------------------------+

``state`` is :class:`~dissect_sesparse.disk.entry.State`, ``layer`` says which extent of the window's list answers
(0 the newest), ``placed`` that the place means something. A lane of 0 is answered by nobody yet.

``entry`` has the same rules one entry at a time; the tests hold the two together on random tables.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from itertools import compress

from dissect_sesparse.disk.c_sesparse import GRAIN_SIZE, SECTOR
from dissect_sesparse.disk.entry import State

if sys.byteorder != "little":
    # memoryview.cast("Q") reads the machine's own byte order; the format is little-endian.
    raise ImportError("dissect_sesparse needs a little-endian machine")

LANES = 4096
"""Lanes of a window; as many as a grain table has entries."""
LAYER_BITS = 12
MAX_LAYERS = 1 << LAYER_BITS
PLACE_BITS = 48
PLACED = 0x80
"""In a kind, see :func:`split`: the place means something."""

_ONES = int.from_bytes(b"\x01\0\0\0\0\0\0\0" * LANES, "little")
_RAMP = int.from_bytes(b"".join(i.to_bytes(8, "little") for i in range(LANES)), "little")
_STATES = _ONES * (0xF << 60)
_UNKNOWN_STATES = _ONES * (0xC << 60)
_GRAIN_IN_BLOCK = _ONES * 0xFFF
_BLOCK = _ONES * 0xFFFFFFFFFFFF
_GRAIN_SECTORS_SHIFT = (GRAIN_SIZE // SECTOR).bit_length() - 1

_BIT_60 = _ONES << 60
_BELOW_60 = _ONES * ((1 << 60) - 1)
_BELOW_63 = _ONES * ((1 << 63) - 1)
_PLACES = _ONES * ((1 << PLACE_BITS) - 1)

_ONE = bytes([0]) + b"\x01" * 255
_TOP_BIT = bytes(128) + b"\x01" * 128
_TO_STATE = bytes(value >> 4 for value in range(256))
_STATE_SPANS = {state: re.compile(re.escape(bytes([state])) + b"+") for state in State}

INVALID_ENTRY = b"\xff" * 8
"""An entry that decodes to INVALID: stands for a table that cannot be had."""


def _first(lanes: int, count: int) -> int:
    """The first ``count`` lanes of a constant."""
    return lanes if count == LANES else lanes & ((1 << 64 * count) - 1)


def _full(flags: int) -> int:
    """Flags (bit 0 of a lane) widened to masks (all bits of a lane)."""
    return (flags << 64) - flags


def ramp(state: State, first_sector: int, step_sectors: int, count: int) -> bytes:
    """``count`` decoded lanes whose places follow one another: a piece of a flat file."""
    lane = (0x8 | state) << 60 | first_sector
    return (_first(_ONES, count) * lane + _first(_RAMP, count) * step_sectors).to_bytes(count * 8, "little")


def one(state: State, sector: int | None) -> bytes:
    """One decoded lane."""
    return ((state << 60) if sector is None else (0x8 | state) << 60 | sector).to_bytes(8, "little")


def constant(state: State, count: int) -> bytes:
    """``count`` decoded lanes of one state, without a place."""
    return (state << 60).to_bytes(8, "little") * count


def successive(entries: bytes, state: State) -> int | None:
    """The first place, in grains, if all entries have a state and name one place after the other; else ``None``.

    Entries that go on in another block are not seen as such: it is the quick test for the usual case.
    """
    count = len(entries) // 8
    values = unpack(entries)
    first = values[0]
    grain = first >> 48 & 0xFFF
    if first >> 60 != state or grain + count > LANES or values[count - 1] != first + (count - 1 << 48):
        return None
    if int.from_bytes(entries, "little") != _first(_ONES, count) * first + (_first(_RAMP, count) << 48):
        return None
    return grain | (first & 0xFFFFFFFFFFFF) << 12


def spans_of(state: State, entries: bytes) -> list[tuple[int, int]]:
    """The spans of entries that have a state: first, and one past the last."""
    states = entries[7::8].translate(_TO_STATE)
    return [match.span() for match in _STATE_SPANS[state].finditer(states)] if state in states else []


def blocks(entries: bytes) -> memoryview:
    """The block that each entry names."""
    count = len(entries) // 8
    return unpack((int.from_bytes(entries, "little") & _first(_BLOCK, count)).to_bytes(count * 8, "little"))


def decode_entries(entries: bytes, grains_sector: int, place_limit: int, *, keep_unmapped: bool = False) -> bytes:
    """Decode grain table entries, at most :data:`LANES` of them, to lanes of layer 0; see :func:`decode`."""
    count = len(entries) // 8
    x = int.from_bytes(entries, "little")
    return decode(x, count, grains_sector, place_limit, keep_unmapped=keep_unmapped).to_bytes(count * 8, "little")


def decode(x: int, count: int, grains_sector: int, place_limit: int, *, keep_unmapped: bool = False) -> int:
    """Decode grain table entries to lanes of layer 0.

    Args:
        x: Raw entries, as one integer.
        count: How many, at most :data:`LANES`.
        grains_sector: Where the grains region starts, in sectors.
        place_limit: The first place, in grains, that is not in the region or the file; an allocated entry from there
            on is INVALID. Less than 2**44.
        keep_unmapped: Whether an UNMAPPED lane keeps the place of its old bytes (where that is below the limit and the
            entry is not a bare one). The guest's view does not need it, and has fewer runs without.
    """
    if x & _STATES == _all_of(State.ALLOCATED << 60, count):
        return _decode_allocated(x, count, grains_sector, place_limit)
    # States as flags in bit 60 of a lane: of 0x1 and 0x3, of 0x2 and 0x3
    one, two = x & _BIT_60, x >> 1 & _BIT_60
    invalid = 0
    if unknown := x & _UNKNOWN_STATES:
        invalid = (unknown >> 2 | unknown >> 3) & _BIT_60
        one, two = one & ~invalid, two & ~invalid
    nothing = _first(_BIT_60, count) ^ (one | two | invalid)
    if garbage := x & (nothing - (nothing >> 60)):
        invalid |= _nonzero(garbage, count) << 60
    allocated = one & two
    placed = one if keep_unmapped else allocated
    mask = placed - (placed >> 60)  # the 60 bits below
    place = _place(x & mask)
    top = placed << 3
    # A place at or past the limit carries into the lane's top bit: 60 bits of place + (2**63 - limit).
    if past := (place + _all_of((1 << 63) - place_limit, count)) & top:
        top ^= past
        placed ^= past >> 3
        mask = placed - (placed >> 60)
        place &= mask
        invalid |= past >> 3 & allocated
        allocated &= ~invalid
    if keep_unmapped and (bare := (one ^ allocated) & placed & ~(_nonzero(place, count) << 60)):
        placed ^= bare
        top ^= bare << 3
        mask = placed - (placed >> 60)
    states = (one & ~invalid) | (two & ~invalid) << 1
    if invalid:
        states |= invalid * State.INVALID
    return states | top | (place << _GRAIN_SECTORS_SHIFT) + (mask & _all_of(grains_sector, count))


def _decode_allocated(x: int, count: int, grains_sector: int, place_limit: int) -> int:
    """The same where all entries are ALLOCATED."""
    place = _place(x & _first(_BELOW_60, count))
    lanes = (place << _GRAIN_SECTORS_SHIFT) + _all_of((0x8 | State.ALLOCATED) << 60 | grains_sector, count)
    if past := (place + _all_of((1 << 63) - place_limit, count)) >> 63 & _first(_ONES, count):
        place &= ~_full(past)
        good = _first(_ONES, count) & ~past
        lanes = (place << _GRAIN_SECTORS_SHIFT) + good * ((0x8 | State.ALLOCATED) << 60 | grains_sector)
        lanes |= past * (State.INVALID << 60)
    return lanes


def _place(entries: int) -> int:
    """The places, in grains, of entries without their states: {grain in block:12, block:48}."""
    return (entries >> 48 & _GRAIN_IN_BLOCK) | (entries & _BLOCK) << 12


@lru_cache(maxsize=32)
def _all_of(value: int, count: int) -> int:
    """A constant in each lane; 32 KiB each, those of the extents at hand are kept."""
    return _first(_ONES, count) * value


def _nonzero(lanes: int, count: int) -> int:
    """Flags of the lanes that are not zero (slow: only for what is rare)."""
    flags = bytearray(count * 8)
    flags[::8] = nonzero_lanes(lanes.to_bytes(count * 8, "little")).translate(_ONE)
    return int.from_bytes(flags, "little")


def spread(lanes: bytes, factor: int, step_sectors: int) -> bytes:
    """Cut each lane into ``factor`` lanes of ``step_sectors`` each: a large grain seen through smaller lanes."""
    source = memoryview(lanes).cast("Q")
    step = [step_sectors if lane >> 63 else 0 for lane in source]
    out = memoryview(bytearray(len(lanes) * factor)).cast("Q")
    for i, (lane, add) in enumerate(zip(source, step)):
        for k in range(factor):
            out[i * factor + k] = lane + k * add
    return out.tobytes()


def split(kind: int) -> tuple[State, int, bool]:
    """State, layer, and whether there is a place, of a kind: a lane's top byte, and the byte below it shifted by 8.

    In this order the kinds of the newest layer are small numbers, which Python does not make anew each time.
    """
    return State(kind >> 4 & 7), (kind & 0xF) << 8 | kind >> 8, kind & PLACED != 0


def first_of(lanes: bytes) -> tuple[int, int]:
    """Kind, and place in bytes of the file, of the first lane."""
    return lanes[7] | lanes[6] << 8, int.from_bytes(lanes[:6], "little") * SECTOR


def unpack(entries: bytes) -> memoryview:
    """Raw 64-bit entries as integers, without a copy."""
    return memoryview(entries).cast("Q")


def find_breaks(lanes: bytes, step_sectors: int) -> bytes:
    """One byte for each lane: not 0 where a run starts, that is, where a lane is not what the one before makes expect.

    The first byte is 0: that a run starts there goes without saying. Empty if there is no other.
    """
    count = len(lanes) // 8
    x = int.from_bytes(lanes, "little")
    expected = x + (x >> 64 - step_sectors.bit_length() & _all_of(step_sectors, count))  # the step is a power of two
    differ = (expected ^ x >> 64) & ((1 << 64 * (count - 1)) - 1)
    if not differ:
        return b""
    # The top bit is set where any bit is: any of the lower ones carries into it.
    below = _first(_BELOW_63, count)
    flags = (differ & below) + below | differ
    return (b"\0" + flags.to_bytes(count * 8, "little")[7::8].translate(_TOP_BIT))[:count]


def places(lanes: bytes) -> memoryview:
    """The places of lanes, in bytes of the file; of one without a place, anything."""
    x = int.from_bytes(lanes, "little") & _first(_PLACES, len(lanes) // 8)
    return unpack((x * SECTOR).to_bytes(len(lanes), "little"))


def kinds(lanes: bytes) -> memoryview:
    """The kinds of lanes, see :func:`split`."""
    both = bytearray(len(lanes) // 4)
    both[::2], both[1::2] = lanes[7::8], lanes[6::8]
    return memoryview(both).cast("H")


def find_runs(lanes: bytes, step_sectors: int) -> tuple[list[int], list[int], list[int]]:
    """Where runs start, and what is there.

    Returns:
        Three lists of one length: lane numbers, ascending from 0; kinds, see :func:`split`; places in bytes of the file.
    """
    breaks = find_breaks(lanes, step_sectors)
    if not breaks:
        return [0], [kinds(lanes[:8])[0]], [places(lanes[:8])[0]]
    flags = b"\x01" + breaks[1:]
    return (
        list(compress(range(len(flags)), flags)),
        list(compress(kinds(lanes), flags)),
        list(compress(places(lanes), flags)),
    )


def nonzero_lanes(lanes: bytes) -> bytes:
    """One byte for each lane, 0 where the lane is 0."""
    flags = 0
    for byte in range(8):
        flags |= int.from_bytes(lanes[byte::8], "little")
    return flags.to_bytes(len(lanes) // 8, "little")
