"""Counting by planes agrees with decoding one entry at a time."""

from __future__ import annotations

import random
import struct
from collections import Counter

import pytest

from dissect_sesparse.disk.census import count_states
from dissect_sesparse.disk.entry import State, decode_entry, encode_entry


def plain(entries: list[int], limit: int) -> Counter[State] | None:
    """State by state, or ``None`` if any entry is invalid."""
    counts: Counter[State] = Counter()
    for entry in entries:
        try:
            state, place = decode_entry(entry)
        except ValueError:
            return None
        if state == State.ALLOCATED and place >= limit:
            return None
        counts[state] += 1
    return counts


def check(entries: list[int], limit: int, *, must_settle: bool = False) -> None:
    counted = count_states(struct.pack(f"<{len(entries)}Q", *entries), limit)
    told = plain(entries, limit)
    if counted is None:
        assert not must_settle, "an ordinary table has to be settled by its planes"
    else:
        assert told is not None, "an invalid entry was not seen"
        assert Counter(counted) == told  # Counter equality takes absent as 0


@pytest.mark.parametrize("seed", range(40))
def test_random_tables(seed: int) -> None:
    chance = random.Random(seed)
    limit = chance.choice([1, 4095, 4096, 4097, 1 << 20, 255 << 12, 256 << 12, 257 << 12, 1 << 36])
    for count in (1, 7, 4096):
        states = chance.choices(list(State)[:4], weights=[chance.random() for _ in range(4)], k=count)
        places = [chance.randrange(limit) if state in (1, 3) else 0 for state in states]
        entries = list(map(encode_entry, states, places))
        check(entries, limit)
        below = [place if place >> 12 < (limit >> 12) - 1 else 0 for place in places]
        check(list(map(encode_entry, states, below)), 1 << 30, must_settle=max(below) >> 12 < 1 << 16)
        entries[chance.randrange(count)] = chance.choice(
            [1, 1 << 48, 1 << 59, 4 << 60, 15 << 60, encode_entry(State.ALLOCATED, limit), (1 << 60) - 1]
        )
        check(entries, limit)


def test_all_of_one_state() -> None:
    for state in list(State)[:4]:
        check([encode_entry(state, 0)] * 4096, 1 << 24, must_settle=True)
