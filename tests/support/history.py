"""Random histories of seSparse chains, with a plain record of what happened to each grain.

Each operation is done twice: to an ``ExtentBuilder``, which makes the file, and here, in dictionaries that know for each
place what bytes lie there and for each grain what its entry is. From these, and from the words of the format's
description, follows what a recovery has to find. Nothing of the package is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from sesparse_builder import ChainBuilder, ExtentBuilder, grain_data

if TYPE_CHECKING:
    import random
    from pathlib import Path

GRAINS = 5120
"""20 MiB: two grain tables, the second in part."""
SECTORS = GRAINS * 8
ZEROS = bytes(4096)
BARE = -1
"""The place of an unmapped entry that reads 0x1000000000000000."""


class Old(NamedTuple):
    """An unmapped grain that has to be reported."""

    depth: int
    grain: int
    place: int | None
    """In grains; ``None`` where nothing tells."""
    state: str
    data: bytes | None


class Loose(NamedTuple):
    """A grain in the file that no entry names, and that has to be reported."""

    depth: int
    place: int
    grain: int | None
    """Whose it is, as the backmap tells."""
    data: bytes


@dataclass
class History:
    """One extent: what is done to it, and what is known of it."""

    builder: ExtentBuilder
    rng: random.Random
    tag: str
    entries: dict[int, tuple[str, int]] = field(default_factory=dict)
    """By grain: ``a``, ``u`` or ``z``, and the place."""
    bytes_at: dict[int, bytes] = field(default_factory=dict)
    owner: dict[int, int] = field(default_factory=dict)
    """The backmap: by place."""
    cut: int | None = None
    """The file ends before this place."""
    writes: int = 0

    def write(self, grain: int, place: int, data: bytes | None = None) -> None:
        """The guest writes a grain, and the host gives it a place."""
        self.writes += 1
        data = grain_data(f"{self.tag}.{self.writes}", grain) if data is None else data
        self.builder.allocate(grain, data, place)
        had = self._place_of(grain)
        if had is not None and had != place and self.owner.get(had) == grain:
            del self.owner[had]
        self.entries[grain] = ("a", place)
        self.bytes_at[place] = data
        self.owner[place] = grain

    def trim(self, grain: int) -> None:
        """The guest trims a grain."""
        self.builder.unmap(grain)
        state, place = self.entries.get(grain, ("", BARE))
        if state != "z":
            # Place 0 leaves an entry that names nothing
            self.entries[grain] = ("u", BARE if place == 0 else place)

    def zero(self, grain: int) -> None:
        self.builder.zero(grain)
        self._forget(grain)
        self.entries[grain] = ("z", BARE)

    def free(self, grain: int, keep: bool) -> None:
        """The host drops an entry; the bytes stay, and so may the backmap's word."""
        self.builder.free(grain, keep_backmap=keep)
        self._forget(grain, keep)
        self.entries.pop(grain, None)

    def _place_of(self, grain: int) -> int | None:
        state, place = self.entries.get(grain, ("", BARE))
        if state == "u" and place == BARE:
            return 0 if self.owner.get(0) == grain else None
        return place if state in ("a", "u") else None

    def _forget(self, grain: int, keep: bool = False) -> None:
        place = self._place_of(grain)
        if place is not None and not keep and self.owner.get(place) == grain:
            del self.owner[place]

    def lose_backmap(self, place: int) -> None:
        """A word of the backmap is gone."""
        self.builder.set_backmap(place, 0)
        self.owner.pop(place, None)

    # What has to be found

    def old(self, depth: int) -> list[Old]:
        found = []
        for grain, (state, place) in sorted(self.entries.items()):
            if state == "u":
                told = self._bare(grain) if place == BARE else (place, self._state(place))
                if told is not None:
                    place, state = told
                    data = self._data(place) if state in ("present", "empty", "contested") else None
                    found.append(Old(depth, grain, place, state, data))
        return found

    def never_mapped(self) -> int:
        """Bare entries that never had a place."""
        bare = [grain for grain, entry in self.entries.items() if entry == ("u", BARE)]
        return sum(self._bare(grain) is None for grain in bare)

    def _state(self, place: int) -> str:
        names = [state for state, named in self.entries.values() if named == place]
        if "a" in names:
            return "reused"
        if self.cut is not None and place >= self.cut:
            return "missing"
        if names.count("u") > 1:
            return "contested"
        return "empty" if self._data(place) == ZEROS else "present"

    def _bare(self, grain: int) -> tuple[int | None, str] | None:
        """``None``: it never had a place."""
        if ("a", 0) in self.entries.values():
            return None
        if 0 not in self.owner:
            return None, "ambiguous"
        if self.owner[0] != grain:
            return None
        return 0, self._state(0)

    def _data(self, place: int) -> bytes:
        return self.bytes_at.get(place, ZEROS)

    def loose(self, depth: int) -> list[Loose]:
        named = {place for _, place in self.entries.values()}
        if self.entries.get(self.owner.get(0, -1)) == ("u", BARE):
            named.add(0)
        return [
            Loose(depth, place, self.owner.get(place), data)
            for place, data in sorted(self.bytes_at.items())
            if place not in named and data != ZEROS and (self.cut is None or place < self.cut)
        ]

    # What happens

    def happen(self, count: int) -> None:
        """So many random things."""
        pool = self._pool(160)
        # Some places in order, so that runs are longer than a grain; often place 0 among them
        places = [*range(self.rng.randrange(2), 40), *self.rng.sample(range(40, GRAINS), 400)]
        if count and self.rng.random() < 0.4:  # a bare entry that had place 0
            self.write(pool[1], places.pop(0))
            self.trim(pool.pop(1))
        for _ in range(count):
            grain, kind = self.rng.choice(pool), self.rng.random()
            if kind < 0.40:
                data = ZEROS if self.rng.random() < 0.1 else None
                self.write(grain, places.pop(0) if places and self.rng.random() < 0.9 else self._used_place(), data)
            elif kind < 0.80:
                self.trim(grain)
            elif kind < 0.85:
                self.zero(grain)
            elif kind < 0.93:
                self.free(grain, keep=self.rng.random() < 0.5)
            else:
                self._stretch(grain)
        if self.rng.random() < 0.3:
            self.lose_backmap(0)

    def _pool(self, count: int) -> list[int]:
        """Grains that things happen to: scattered, and some neighbours, at both ends of the disk too."""
        first = self.rng.randrange(GRAINS - 40)
        return [GRAINS - 1, 0, *range(first, first + 40), *self.rng.sample(range(GRAINS), count)]

    def _used_place(self) -> int:
        """A place that had bytes before: another grain's, or nobody's any more."""
        return self.rng.choice(sorted(self.bytes_at)) if self.bytes_at else 0

    def _stretch(self, grain: int) -> None:
        """A file is written and deleted: grains and places in order."""
        first = self.rng.randrange(GRAINS - 20)
        for number in range(min(12, GRAINS - grain)):
            self.write(grain + number, first + number)
        for number in range(min(12, GRAINS - grain)):
            self.trim(grain + number)

    def end_at(self, place: int) -> None:
        """Cut the file off, as a copy that broke off. The guest had trimmed what was lost: else nothing reads."""
        for grain in [grain for grain, (state, named) in self.entries.items() if state == "a" and named >= place]:
            self.trim(grain)
        self.cut = place


@dataclass
class Recorded:
    """A chain and what has to be found in it. Depth 0 is the newest."""

    path: Path
    links: list[History]
    builder: ChainBuilder

    @property
    def old(self) -> list[Old]:
        return [old for depth, link in enumerate(self.links) for old in link.old(depth)]

    @property
    def loose(self) -> list[Loose]:
        return [loose for depth, link in enumerate(self.links) for loose in link.loose(depth)]


def random_history(folder: Path, rng: random.Random, depth: int, events: int = 220, *, cuts: bool = True) -> Recorded:
    """A flat base and so many deltas, to each of which random things happened."""
    base = {grain * 8: grain_data("base", grain) for grain in rng.sample(range(GRAINS), 60)}
    chain = ChainBuilder(folder, SECTORS, base)
    links = []
    for number in range(depth):
        builder = chain.add_delta(
            tables=rng.choice(("in-order", "reversed", "by-slot")), unmap_clears_bitmap=rng.random() < 0.8
        )
        link = History(builder, rng, f"delta{number}")
        link.happen(rng.randint(0, events) if number else events)
        if cuts and rng.random() < 0.3:
            link.end_at(rng.choice((0, 1, 30, 2000, 4000)))
        links.append(link)
    path = chain.write()
    for number, link in enumerate(links):
        if link.cut is not None:
            extent = folder / chain.links[number + 1].extent_name
            link.builder.write(extent, truncate_to=link.builder.grain_offset(link.cut) + rng.choice((0, 0, 512, 4095)))
    return Recorded(path, links[::-1], chain)
