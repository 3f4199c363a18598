"""The tables of a chain's links laid over one another: for each lane, the first layer that says anything about it.

Layers are added newest first. What they say stays raw until all are there; then it is decoded once for all layers that
decode alike. A layer is taken in one of three ways, whichever is quickest for it, with the same result: a few spans are
copied, many are taken by one mask over all lanes (see ``lanes``), and where only few lanes are still wanted these are
looked up one by one. The tests hold all three against a plain loop.
"""

from __future__ import annotations

from typing import NamedTuple

from dissect_sesparse.disk.lanes import LANES, MAX_LAYERS, decode, nonzero_lanes

_MAX_SPANS = 64
"""Beyond this many spans to copy ..."""
_MAX_PIECES = 128
"""... or this many parts of them that are still wanted, one mask over all lanes is quicker."""
_FEW = 256
"""So few lanes are looked up one by one."""
_FULL = bytes([0]) + b"\xff" * 255
_EMPTY = bytes(8)
_ZEROS = bytes(LANES * 8)


class Decode(NamedTuple):
    """How raw table entries become lanes, see :func:`~dissect_sesparse.disk.lanes.decode`."""

    grains_sector: int
    place_limit: int
    keep_unmapped: bool = False

    def __call__(self, entries: int, count: int) -> int:
        return decode(entries, count, self.grains_sector, self.place_limit, keep_unmapped=self.keep_unmapped)


class Layer(NamedTuple):
    """What one extent says about a window."""

    entries: bytes
    """8 bytes a lane; a lane that says nothing is 0."""
    decode: Decode | None
    """How the entries are decoded, or ``None`` if they are lanes already."""


class Overlay:
    """Collects layers.

    Args:
        count: Lanes of the window.
    """

    def __init__(self, count: int):
        self.count = count
        self.left = count
        """Lanes that nobody has answered."""
        self._layers = 0
        self._wanted = (1 << 8 * count) - 1  # one byte a lane: 0xff, or 0 where it is answered
        self._mask: int | None = (1 << 64 * count) - 1  # the same in eight bytes a lane, if it is known
        self._who = 0
        self._who_high = 0
        self._groups: dict[Decode | None, _Group] = {}

    def add(self, layer: Layer) -> None:
        """Lay one below those that are there; at most :data:`~dissect_sesparse.disk.lanes.MAX_LAYERS`."""
        if self._layers == MAX_LAYERS:
            raise ValueError(f"more than {MAX_LAYERS} layers")
        if self.left:
            group = self._groups.get(layer.decode)
            if group is None:
                group = self._groups[layer.decode] = _Group(self.count)
            answered = self._take(layer.entries, group)
            self._wanted ^= answered
            self.left -= answered.bit_count() // 8
            if self._layers:
                self._who |= answered & int.from_bytes(bytes([self._layers & 0xFF]) * self.count, "little")
            if self._layers > 0xFF:
                self._who_high |= answered & int.from_bytes(bytes([self._layers >> 8]) * self.count, "little")
        self._layers += 1

    def lanes(self) -> bytes:
        """The decoded lanes; each says which layer answers, 0 the first."""
        result = 0
        for decoding, group in self._groups.items():
            entries = group.entries()
            result |= entries if decoding is None else decoding(entries, self.count)
        lanes = bytearray(result.to_bytes(self.count * 8, "little"))
        if self._who:
            lanes[6::8] = self._who.to_bytes(self.count, "little")
        if self._who_high:
            top = int.from_bytes(lanes[7::8], "little") | self._who_high
            lanes[7::8] = top.to_bytes(self.count, "little")
        return bytes(lanes)

    # The three ways. Each gives the lanes that are answered now, one byte each.

    def _take(self, entries: bytes, group: _Group) -> int:
        if self.left <= _FEW:
            return self._look_up(entries, group)
        told = entries[7::8].translate(_FULL)
        spans = _spans(told, _MAX_SPANS)
        # An entry whose top byte alone is 0 is corrupt, and must be seen.
        if len(spans) > _MAX_SPANS or not _only_within(entries, spans):
            return self._take_all(entries, told, group)
        flags = int.from_bytes(told, "little")
        answered = flags & self._wanted
        if answered != flags:
            spans = _spans(answered.to_bytes(self.count, "little"), _MAX_PIECES)
            if len(spans) > _MAX_PIECES:
                return self._take_all(entries, told, group)
        self._mask = None
        group.copy(entries, spans)
        return answered

    def _look_up(self, entries: bytes, group: _Group) -> int:
        answered = bytearray(self.count)
        for first, end in _spans(self._wanted.to_bytes(self.count, "little"), _FEW):
            if entries[first * 8 : end * 8] == _ZEROS[: (end - first) * 8]:
                continue
            for lane in range(first, end):
                if entries[lane * 8 : lane * 8 + 8] != _EMPTY:
                    group.copy(entries, [(lane, lane + 1)])
                    answered[lane] = 0xFF
        return int.from_bytes(answered, "little")

    def _take_all(self, entries: bytes, told: bytes, group: _Group) -> int:
        if self._mask is None:
            self._mask = _widened(self._wanted.to_bytes(self.count, "little"))
        wanted = int.from_bytes(entries, "little") & self._mask
        mask = _widened(told)
        if wanted & mask != wanted:  # corrupt ones, whose top byte is 0
            told = nonzero_lanes(entries).translate(_FULL)
            mask = _widened(told)
        group.masked |= wanted
        self._mask ^= self._mask & mask
        return self._wanted & int.from_bytes(told, "little")


class _Group:
    """The raw entries of all layers that decode alike; they have no lane in common."""

    def __init__(self, count: int):
        self.count = count
        self.copied: bytearray | None = None
        self.masked = 0

    def copy(self, entries: bytes, spans: list[tuple[int, int]]) -> None:
        if self.copied is None:
            self.copied = bytearray(self.count * 8)
        for first, end in spans:
            self.copied[first * 8 : end * 8] = entries[first * 8 : end * 8]

    def entries(self) -> int:
        return self.masked | int.from_bytes(self.copied or b"", "little")


def _widened(flags: bytes) -> int:
    """One byte a lane widened to eight."""
    if 0 not in flags:
        return (1 << 64 * len(flags)) - 1
    mask = bytearray(len(flags) * 8)
    for byte in range(8):
        mask[byte::8] = flags
    return int.from_bytes(mask, "little")


def _spans(flags: bytes, limit: int) -> list[tuple[int, int]]:
    """The spans of 0xff in flags of 0 and 0xff; with ``limit`` and one more it gives up."""
    spans, end, find = [], 0, flags.find
    while (start := find(0xFF, end)) >= 0 and len(spans) <= limit:
        end = find(0, start)
        if end < 0:
            end = len(flags)
        spans.append((start, end))
    return spans


def _only_within(entries: bytes, spans: list[tuple[int, int]]) -> bool:
    """Whether all entries outside the spans are zero."""
    position = 0
    for first, end in spans:
        if entries[position : first * 8] != _ZEROS[: first * 8 - position]:
            return False
        position = end * 8
    return entries[position:] == _ZEROS[: len(entries) - position]
