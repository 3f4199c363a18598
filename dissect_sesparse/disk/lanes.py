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
from itertools import compress
from typing import NamedTuple

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

_PLACES = _ONES * ((1 << PLACE_BITS) - 1)

_ZEROS = bytes(LANES * 8)
_NONZERO = bytes([0]) + b"\xff" * 255
_ONE = bytes([0]) + b"\x01" * 255
_TO_STATE = bytes(value >> 4 for value in range(256))
_STATE_SPANS = {state: re.compile(re.escape(bytes([state])) + b"+") for state in State}
_SPAN = re.compile(rb"\xff+")
_MAX_SPANS = 64
"""Beyond this many separate spans, one pass over all lanes is cheaper than one per span."""

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
    """Decode grain table entries to lanes of layer 0.

    Args:
        entries: Raw entries, 8 bytes each, at most :data:`LANES` of them.
        grains_sector: Where the grains region starts, in sectors.
        place_limit: The first place, in grains, that is not in the region or the file; an allocated entry from there
            on is INVALID. Less than 2**44.
        keep_unmapped: Whether an UNMAPPED lane keeps the place of its old bytes (where that is below the limit and the
            entry is not a bare one). The guest's view does not need it, and has fewer runs without.
    """
    count = len(entries) // 8
    x = int.from_bytes(entries, "little")
    ones = _first(_ONES, count)
    if x & _STATES == ones * (State.ALLOCATED << 60):
        return _decode_allocated(x, ones, count, grains_sector, place_limit)
    low, high = x >> 60 & ones, x >> 61 & ones
    invalid = 0
    if unknown := x & _UNKNOWN_STATES:
        invalid = (unknown >> 62 | unknown >> 63) & ones
        low, high = low & ~invalid, high & ~invalid
    nothing = ones & ~(low | high | invalid)
    if garbage := x & _full(nothing):
        invalid |= _nonzero(garbage, count)
    allocated = low & high
    placed = low if keep_unmapped else allocated
    x_placed = x & _full(placed)
    place = (x_placed >> 48 & _GRAIN_IN_BLOCK) | (x_placed & _BLOCK) << 12
    # A place at or past the limit carries into the lane's top bit: 60 bits of place + (2**63 - limit).
    if past := (place + placed * ((1 << 63) - place_limit)) >> 63 & placed:
        placed &= ~past
        place &= _full(placed)
        invalid |= past & allocated
    if keep_unmapped and (bare := low & ~high & placed & ~_nonzero(place, count)):
        placed &= ~bare
    states = x & _STATES
    if invalid:
        states = (states & ~_full(invalid)) | invalid * (State.INVALID << 60)
    lanes = states | placed << 63 | (place << _GRAIN_SECTORS_SHIFT) + placed * grains_sector
    return lanes.to_bytes(count * 8, "little")


def _decode_allocated(x: int, ones: int, count: int, grains_sector: int, place_limit: int) -> bytes:
    """The same where all entries are ALLOCATED."""
    place = (x >> 48 & _GRAIN_IN_BLOCK) | (x & _BLOCK) << 12
    lanes = (place << _GRAIN_SECTORS_SHIFT) + ones * ((0x8 | State.ALLOCATED) << 60 | grains_sector)
    if past := (place + ones * ((1 << 63) - place_limit)) >> 63 & ones:
        place &= ~_full(past)
        lanes = (place << _GRAIN_SECTORS_SHIFT) + (ones & ~past) * ((0x8 | State.ALLOCATED) << 60 | grains_sector)
        lanes |= past * (State.INVALID << 60)
    return lanes.to_bytes(count * 8, "little")


def _nonzero(lanes: int, count: int) -> int:
    """Flags of the lanes that are not zero (slow: only for what is rare)."""
    flags = bytearray(count * 8)
    flags[::8] = _nonzero_lanes(lanes.to_bytes(count * 8, "little")).translate(_ONE)
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


class Layer(NamedTuple):
    """What one extent says about a window: raw ``entries`` and how they are decoded, newest layer first."""

    entries: bytes
    """8 bytes a lane; a lane that says nothing is 0."""
    decode: object
    """A function from a slice of ``entries`` to decoded lanes, or ``None`` if they are decoded already."""


def overlay(layers: list[Layer | None], count: int) -> bytes:
    """Lay the layers over one another: for each lane, the first layer that says anything about it.

    Args:
        layers: Newest first; ``None`` for a layer that says nothing at all. At most :data:`MAX_LAYERS`.
        count: Lanes of the window.
    """
    result = bytearray(count * 8)
    wanted = int.from_bytes(b"\xff" * count, "little")  # one byte a lane
    for number, layer in enumerate(layers):
        if layer is None:
            continue
        for first, end in _spans(layer, wanted, count):
            lanes = _decoded(layer, number, first, end)
            told = int.from_bytes(bytes(first) + lanes[7::8].translate(_NONZERO), "little")
            answered = told & wanted
            span = int.from_bytes(bytes(first) + b"\xff" * (end - first), "little")
            if wanted & span == span:  # nobody has answered in there yet
                result[first * 8 : end * 8] = lanes
            else:
                _merge(result, lanes, first, answered, count)
            wanted &= ~answered
        if not wanted:
            break
    return bytes(result)


def _decoded(layer: Layer, number: int, first: int, end: int) -> bytes:
    lanes = layer.entries[first * 8 : end * 8]
    if layer.decode is not None:
        lanes = layer.decode(lanes)  # type: ignore[operator]
    if number:
        lanes = bytearray(lanes)
        top = lanes[7::8]
        lanes[6::8] = top.translate(bytes([0]) + bytes([number & 0xFF]) * 255)
        if number > 0xFF:
            lanes[7::8] = top.translate(bytes([0, *(value | number >> 8 for value in range(1, 256))]))
    return bytes(lanes)


def _spans(layer: Layer, wanted: int, count: int) -> list[tuple[int, int]]:
    """The spans of lanes that are wanted and that the layer may say something about; one span if they are many."""
    top = layer.entries[7::8].translate(_NONZERO)
    todo = (int.from_bytes(top, "little") & wanted).to_bytes(count, "little")
    spans = [match.span() for match in _SPAN.finditer(todo)]
    if len(spans) > _MAX_SPANS or not _only_within(layer.entries, [match.span() for match in _SPAN.finditer(top)]):
        return [(0, count)]
    return spans


def _only_within(entries: bytes, spans: list[tuple[int, int]]) -> bool:
    """Whether all entries outside the spans are zero. One whose top byte alone is zero is corrupt and must be seen."""
    if len(spans) > _MAX_SPANS:
        return False
    position = 0
    for first, end in spans:
        if entries[position : first * 8] != _ZEROS[: first * 8 - position]:
            return False
        position = end * 8
    return entries[position:] == _ZEROS[: len(entries) - position]


def _merge(result: bytearray, lanes: bytes, first: int, answered: int, count: int) -> None:
    """Put the answered lanes, and no others, into the result."""
    flags = answered.to_bytes(count, "little")
    mask = bytearray(count * 8)
    for byte in range(8):
        mask[byte::8] = flags
    old = int.from_bytes(result, "little")
    new = int.from_bytes(bytes(first * 8) + lanes, "little") & int.from_bytes(mask, "little")
    result[:] = (old | new).to_bytes(count * 8, "little")


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
    expected = x + (x >> 63 & _first(_ONES, count)) * step_sectors
    breaks = (expected ^ x >> 64) & ((1 << 64 * (count - 1)) - 1)
    return (b"\0" + _nonzero_lanes(breaks.to_bytes(count * 8, "little")))[:count] if breaks else b""


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


def _nonzero_lanes(lanes: bytes) -> bytes:
    """One byte for each lane, 0 where the lane is 0."""
    flags = 0
    for byte in range(8):
        flags |= int.from_bytes(lanes[byte::8], "little")
    return flags.to_bytes(len(lanes) // 8, "little")
