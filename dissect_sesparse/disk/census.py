"""How many entries of a table are in each state, counted by planes of bytes.

The entries of a table are 8 bytes each, so ``table[7::8]`` is all their top bytes: a plane. Counting, comparing and deleting
byte values in a plane run at C speed, where decoding the table (see ``lanes``) takes three times as long. What the planes
cannot settle is decoded.
"""

from __future__ import annotations

from dissect_sesparse.disk.entry import State

_TO_STATE = bytes(value >> 4 for value in range(256))
_UNALLOCATED = b"\xff" + bytes(255)
_ZEROS = bytes(4096)
_PLACE_PLANES = (0, 1, 2, 3, 4, 5, 6)


def count_states(entries: bytes, place_limit: int) -> dict[State, int] | None:
    """How many entries have each state, or ``None`` where some may be INVALID, so that they have to be decoded.

    Args:
        entries: Raw entries, at most 4096.
        place_limit: The first place, in grains, that is not in the grains region or the file.
    """
    count = len(entries) // 8
    top = entries[7::8]
    states = top.translate(_TO_STATE)
    counts = {State.ALLOCATED: states.count(3)}
    if counts[State.ALLOCATED] < count:
        counts |= {State.UNALLOCATED: states.count(0), State.UNMAPPED: states.count(1), State.ZERO: states.count(2)}
    if sum(counts.values()) != count:
        return None  # some other state
    if counts.get(State.UNALLOCATED) == count:
        return counts if entries == bytes(len(entries)) else None
    used = {plane: content for plane in _PLACE_PLANES if (content := entries[plane::8]) != _ZEROS[:count]}
    if counts.get(State.UNALLOCATED) and not _rest_is_zero(top, states, used):
        return None
    return counts if _blocks_below(used, place_limit >> 12, count) else None


def _rest_is_zero(top: bytes, states: bytes, used: dict[int, bytes]) -> bool:
    """Whether all UNALLOCATED entries are 0 as a whole."""
    if top.count(0) != states.count(0):
        return False
    rest = 0
    for content in used.values():
        rest |= int.from_bytes(content, "little")
    return not rest & int.from_bytes(states.translate(_UNALLOCATED), "little")


def _blocks_below(used: dict[int, bytes], block_limit: int, count: int) -> bool:
    """Whether the blocks that the entries name are surely below the limit: by the highest byte that the limit has."""
    highest = max(0, (block_limit.bit_length() - 1) // 8)
    if highest > 5 or any(plane in used for plane in range(highest + 1, 6)):
        return False
    below = bytes(range(min(256, block_limit >> 8 * highest)))
    return not used.get(highest, _ZEROS[:count]).translate(None, below)
