"""Random chains of odd but legal geometry, and what each function and file of the package says of them.

Links shorter and longer than their parents by a byte of the file, a sector, a grain and much; capacities off the grain;
several extents; the same extent twice, and in two disks; extents larger and smaller than their lines say; empty links and
such in which all is unmapped; hosted sparse, COWD, flat and zero pieces; no base; files that end early; 255 links.

Everything is held against ``oracle`` and ``trimmed_oracle``, which share no code with the package.

    python tests/random_chains.py --seeds 3000          seeds 0 to 2999
    python tests/random_chains.py --seeds 1 --first 17  one of them again
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[:0] = [
    str(Path(__file__).parent),
    str(Path(__file__).parent / "support"),
    str(Path(__file__).parents[1] / "examples"),
]

import oracle
import trimmed_oracle
from disks import check_runs, joined, same, write_chain
from sesparse_builder import ExtentBuilder, write_flat
from vmdk_builder import CowdBuilder, HostedBuilder, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dissect_sesparse.chain.chain import Chain

Links = list[list["oracle.Piece"]]
OFF = (*(0,) * 20, *(1, -1, 7, 8, -8, 9, -9, 16, 100, -100) * 3, 4096)
"""Sectors by which a link is larger than its parent."""
PLACED = ("present", "empty", "contested")


# Making one


@dataclass
class Maker:
    """Makes the pieces of a chain in a folder. Sizes in sectors."""

    folder: Path
    rng: random.Random
    made: list[oracle.Piece]
    """Of which some are used again."""
    count: int = 0

    def links(self) -> Links:
        """A chain, newest link first."""
        rng = self.rng
        depth = rng.choice((1, 2, 2, 2, 3, 3, 3, 4, 5, 8))
        # Off the grain, about one grain, about a table, in between
        size = rng.choice((1, 7, 8, 9, 15, 16, 17, 64, 100, rng.randint(1, 300), rng.randint(1, 300)))
        if rng.random() < 0.06:
            size = rng.randint(300, 3000)
        if rng.random() < 0.04:
            size, depth = 32768 + rng.choice((-9, -8, -1, 0, 1, 8, 9)), rng.choice((2, 3))
        links: Links = []
        for number in range(depth):
            size = max(1, size + rng.choice(OFF))
            kinds = ("sparse",) if number == 0 else ("sparse",) * 5 + ("hosted", "cowd", "flat", "zero")
            if number == depth - 1 and depth > 1:
                kinds = ("flat", "flat", "zero", "sparse", "hosted", "cowd")
            links.append(self.link(size, kinds))
        return links

    def link(self, size: int, kinds: tuple[str, ...]) -> list[oracle.Piece]:
        """A link of so many sectors, of one piece or of several."""
        rng = self.rng
        cuts = sorted({rng.randrange(1, size) for _ in range(rng.choice((0, 0, 0, 1, 2)))}) if size > 1 else []
        if rng.random() < 0.5:
            cuts = sorted({cut // 8 * 8 for cut in cuts} - {0})
        pieces: list[oracle.Piece] = []
        for start, end in zip([0, *cuts], [*cuts, size]):
            again = [piece for piece in self.made if not isinstance(piece, oracle.Zero)]
            if again and rng.random() < 0.06:
                pieces.append(rng.choice(again)._replace(sectors=end - start))
            else:
                pieces.append(getattr(self, rng.choice(kinds))(end - start))
        self.made += pieces
        return pieces

    def _path(self, suffix: str) -> Path:
        self.count += 1
        return self.folder / f"e{self.count}-{suffix}.vmdk"

    def flat(self, sectors: int) -> oracle.Flat:
        path, rng = self._path("flat"), self.rng
        start = rng.choice((0, 0, 0, 1, 63))
        size = (start + sectors) * 512 - rng.choice((0,) * 12 + (1, 512, 4096, 5000))
        full = told(path.stem, 0, start + sectors) if rng.random() < 0.7 else bytes((start + sectors) * 512)
        write_flat(path, max(0, size), {0: full[: max(0, size)]} if size > 0 else {})
        return oracle.Flat(path, sectors, start)

    def zero(self, sectors: int) -> oracle.Zero:
        return oracle.Zero(sectors)

    def hosted(self, sectors: int) -> oracle.Hosted:
        path, rng = self._path("hosted"), self.rng
        builder = HostedBuilder(self._capacity(sectors), grain=rng.choice((8, 16, 128)), flags=rng.choice((3, 7)))
        self._fill(builder, path.stem, zeroed=builder.flags & 4 != 0)
        builder.write(path)
        return oracle.Hosted(path, sectors)

    def cowd(self, sectors: int) -> oracle.Cowd:
        path = self._path("cowd")
        builder = CowdBuilder(self._capacity(sectors), grain=self.rng.choice((1, 1, 8)))
        self._fill(builder, path.stem, zeroed=False)
        builder.write(path)
        return oracle.Cowd(path, sectors)

    def _fill(self, builder: HostedBuilder | CowdBuilder, tag: str, *, zeroed: bool) -> None:
        for grain in range(-(-builder.capacity // builder.grain)):
            kind = self.rng.random()
            if kind < 0.5:
                builder.allocate(grain, told(tag, grain * builder.grain, builder.grain))
            elif kind < 0.6 and zeroed:
                builder.set_entry(grain, 1)

    def _capacity(self, sectors: int) -> int:
        """What the extent itself says: mostly what its line says."""
        return max(1, sectors + self.rng.choice((0,) * 14 + (1, 8, 50, -1, -8)))

    def sparse(self, sectors: int) -> oracle.Sparse:
        path, rng = self._path("sesparse"), self.rng
        capacity = self._capacity(sectors)
        # Where slices of the disk have tables of other numbers, words of the backmap are read by a guess
        extent = ExtentBuilder(capacity, tables="by-slot", unmap_clears_bitmap=rng.random() < 0.8)
        grains = -(-capacity // 8)
        how = rng.choice(("events",) * 6 + ("empty", "unmapped", "bare"))
        if how == "unmapped":
            for grain in range(grains):
                extent.unmap(grain, told(path.stem, grain * 8, 8), grain)
        elif how == "bare":
            for grain in range(grains):
                extent.unmap(grain, bare=True)
        elif how == "events":
            self._events(extent, path.stem, grains)
        extent.write(path)
        if rng.random() < 0.08:
            cut = extent.grain_offset(rng.randrange(grains + 1)) + rng.choice((0, 0, 1, 512, 4095))
            extent.write(path, truncate_to=cut)
        return oracle.Sparse(path, sectors)

    def _events(self, extent: ExtentBuilder, tag: str, grains: int) -> None:
        """Random things happen to the grains at both ends and to some in between."""
        rng = self.rng
        pool = [0, 1, grains - 1, grains - 2, *(rng.randrange(grains) for _ in range(12))]
        pool = [grain for grain in pool if 0 <= grain < grains]
        if grains > 4096:
            pool += [4095, 4096]
        places = rng.sample(range(grains), min(grains, 60))
        for number in range(rng.randint(1, 40)):
            grain, kind = rng.choice(pool), rng.random()
            which = rng.random()  # zeros, what other links may have there too, or what nobody else has
            data = bytes(4096) if which < 0.1 else told("same" if which < 0.35 else f"{tag}.{number}", grain * 8, 8)
            if kind < 0.4:
                extent.allocate(grain, data, rng.choice(places))
            elif kind < 0.75:
                extent.unmap(grain, data, rng.choice(places))
            elif kind < 0.85:
                extent.unmap(grain)
            elif kind < 0.9:
                extent.zero(grain)
            elif kind < 0.95:
                extent.free(grain, keep_backmap=rng.random() < 0.5)
            else:
                extent.unmap(grain, bare=True)
        # Tables without any entry, beside a backmap with some, were destroyed: such an extent is refused
        extent.unmap(rng.choice(pool))
        if rng.random() < 0.2:
            extent.set_backmap(0, 0)


def make(folder: Path, seed: int) -> list[tuple[Path, Links]]:
    """One disk, or two that share files: descriptors and what they are made of."""
    rng = random.Random(seed)
    maker = Maker(folder, rng, [])
    if seed % 500 == 499:
        links: Links = [[maker.sparse(16)] for _ in range(254)]
        links.append([maker.flat(rng.choice((8, 16, 24)))])
        return [(write_chain(folder, links), links)]
    links = maker.links()
    disks = [(write_chain(folder, links), links)]
    if rng.random() < 0.15:
        other = maker.links()
        other[rng.randrange(len(other))] = rng.choice(links)
        disks.append((write_chain(folder, other, "second"), other))
    return disks


# Holding it against the oracle


class Expected:
    """What the oracle says of a chain."""

    def __init__(self, path: Path, links: Links):
        self.path = path
        self.links = links

    @cached_property
    def states(self) -> list[list[oracle.Sector]]:
        """The disk as each link shows it."""
        return oracle.states(self.links)

    @cached_property
    def alone(self) -> list[list[oracle.Sector]]:
        """Each link over nothing."""
        return [oracle.link(pieces, []) for pieces in self.links]

    @property
    def sectors(self) -> list[oracle.Sector]:
        return self.states[0]

    @cached_property
    def trimmed(self) -> list[trimmed_oracle.Trimmed]:
        return trimmed_oracle.trimmed(self.links, self.states)

    @cached_property
    def loose(self) -> list[trimmed_oracle.Loose]:
        return trimmed_oracle.loose(self.links)

    def sizes(self) -> Counter[str]:
        """Trimmed bytes by state."""
        sizes: Counter[str] = Counter()
        for old in self.trimmed:
            sizes[old.state] += old.size
        return sizes


def check_unmapped(chain: Chain, expected: Expected) -> None:
    """Each unmapped grain once, in order, with its bytes, state and digest; and what was never mapped."""
    from dissect_sesparse.trimmed.unmapped import Counts, unmapped

    counts, found = Counts(), []
    for run in unmapped(chain, counts=counts):
        data = run.read() if run.state in PLACED else None
        assert (run.content is None) == (data is None)
        if data is not None:
            assert run.content.digest[2] == hashlib.sha256(data).hexdigest()
        for at in range(0, run.size, 4096):
            place = None if run.place is None else run.place + at
            piece = None if data is None else data[at : at + 4096]
            size = min(4096, run.size - at)
            path = run.extent.file.path
            found.append((run.link.depth, run.offset + at, size, path, place, run.state, run.parent_state, piece))
    equal(found, [tuple(old) for old in expected.trimmed])
    assert counts.never_mapped == trimmed_oracle.never_mapped(expected.links)


def check_unreferenced(chain: Chain, expected: Expected) -> None:
    """Each place that nothing names once, in order."""
    from dissect_sesparse.trimmed.unreferenced import unreferenced

    found = []
    for run in unreferenced(chain):
        data = run.read()
        assert run.content.digest[2] == hashlib.sha256(data).hexdigest()
        assert run.state == ("free" if run.offset is None else "backmap")
        for at in range(0, run.size, 4096):
            offset = None if run.offset is None else run.offset + at
            piece = data[at : at + 4096]
            found.append((run.link.depth, run.extent.file.path, run.place + at, len(piece), offset, piece))
    equal(found, [tuple(one) for one in expected.loose])


def check_views(chain: Chain, expected: Expected) -> None:
    """The disk as each of its links shows it."""
    from dissect_sesparse.time.views import view_at

    for depth in depths(chain):
        view = view_at(chain, depth)
        check_bytes(view, expected.states[depth])


def check_bytes(chain: Chain, sectors: list[oracle.Sector]) -> None:
    """All bytes that can be had; of what cannot, that it raises."""
    from dissect_sesparse import UnreadableError

    assert chain.size == len(sectors) * 512
    for number, group in grouped(sectors, lambda sector: sector.data is None):
        if group[0].data is not None:
            same(chain.read(number * 512, len(group) * 512), joined(group), number * 512)
            continue
        for at in {number, number + len(group) - 1}:
            try:
                chain.read(at * 512, 512)
            except UnreadableError:
                continue
            raise AssertionError(f"sector {at} was read")


def check_residual(expected: Expected) -> None:
    from dissect_sesparse import open_chain

    with open_chain(expected.path, view="residual") as chain:
        check_bytes(chain, trimmed_oracle.residual(expected.links, expected.trimmed))


def check_changes(chain: Chain, expected: Expected, rng: random.Random) -> None:
    """What the links tell, and, compared, exactly what differs, for some pairs of states."""
    from dissect_sesparse.time.changes import DiskState, changes

    for _ in range(3):
        older, newer = rng.randrange(len(chain.links)), rng.randrange(len(chain.links))
        wanted = trimmed_oracle.changed(expected.alone, expected.states, older, newer)
        states = [expected.states[depth] for depth in (older, newer)]
        size = max(map(len, states))
        before, after = ([oracle.under(state, number).data for number in range(size)] for state in states)
        for compare in (False, True):
            found: dict[int, str] = {}
            for change in changes(DiskState(chain, older), DiskState(chain, newer), compare=compare):
                numbers = range(change.offset // 512, (change.offset + change.size) // 512)
                assert len(numbers) * 512 == change.size
                for number in numbers:
                    assert number not in found, "told twice"
                    assert number in wanted, f"sector {number} was not changed"
                    assert change.kind == wanted[number].kind, f"sector {number}"
                    found[number] = change.kind
                if compare:
                    check_same(change.same, [before[n] for n in numbers], [after[n] for n in numbers], numbers[0])
            assert set(found) == set(wanted)
        differing = {n for n, (a, b) in enumerate(zip(before, after)) if a is not None and b is not None and a != b}
        assert differing <= set(wanted), "all that differs is told"


def check_same(told: bool | None, before: list, after: list, first: int) -> None:
    """Whether what is said of a range holds for each grain of it."""
    start = 0
    while start < len(before):
        end = min(len(before), start + 8 - (first + start) % 8)
        a, b = before[start:end], after[start:end]
        equal_ = None if None in a or None in b else a == b
        assert told == equal_, f"sector {first + start}: {told}"
        start = end


def check_links(chain: Chain, expected: Expected) -> None:
    """The bytes of each state in each link."""
    from dissect_sesparse.chain.summary import summaries

    for summary, alone in zip(summaries(chain), expected.alone):
        states = Counter(sector.state for sector in alone)
        found = (summary.unmapped, summary.zero, summary.allocated, summary.unknown)
        assert found == tuple(states[state] * 512 for state in (1, 2, 3, 4))
        assert summary.link.size == sum(states.values()) * 512


def check_recovery(chains: list[Chain], disks: list[Expected], folder: Path) -> None:
    """Images, maps, manifest and counts of all disks at once."""
    from dissect_sesparse.recovery.recover import recover

    done = recover(chains, folder)
    assert done.complete
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    index = [json.loads(line) for line in (folder / "unreferenced.jsonl").read_text().splitlines()]
    for number, (chain, disk) in enumerate(zip(chains, disks)):
        mine = [line for line in lines if line["disk"] == chain.name]
        check_manifest(mine, disk)
        check_images(chain, mine, disk, folder)
        check_bin([line for line in index if line["disk"] == chain.name], disk, folder)
        report = done.report["disks"][number]
        assert {name: told["bytes"] for name, told in report["unmapped"].items() if told["bytes"]} == disk.sizes()


def check_manifest(lines: list[dict], disk: Expected) -> None:
    found = {}
    for line in lines:
        for at in range(0, line["size"], 512):
            key = line["depth"], line["offset"] + at
            assert key not in found, "told twice"
            place = None if line["source_offset"] is None else line["source_offset"] + at
            found[key] = (line["state"], place, line["parent_state"], Path(line["source"]).name)
    wanted = {
        (old.depth, old.offset + at): (
            old.state, None if old.place is None else old.place + at, old.parent_state, old.path.name
        )
        for old in disk.trimmed
        for at in range(0, old.size, 512)
    }  # fmt: skip
    equal(sorted(found.items()), sorted(wanted.items()))


def check_images(chain: Chain, lines: list[dict], disk: Expected, folder: Path) -> None:
    """The newest bytes at each address, older ones in images of their own; the map says which; all else is zeros."""
    data = {(old.depth, old.offset + at): old.data[at : at + 512] for old in disk.trimmed
            if old.state in ("present", "empty") for at in range(0, old.size, 512)}  # fmt: skip
    stem = Path(chain.name).stem
    images = {f"{stem}.raw": len(disk.sectors) * 512}
    for depth, alone in enumerate(disk.alone):
        images[f"{stem}.depth{depth}.raw"] = max(len(disk.sectors), len(alone)) * 512
    covered: dict[str, set[int]] = {}
    for line in lines:
        assert (line["file"] is not None) == (line["state"] in ("present", "empty"))
        if line["file"] is None:
            continue
        assert line["file"] in (f"{stem}.raw", f"{stem}.depth{line['depth']}.raw")
        assert line["file_offset"] == line["offset"]
        image = (folder / line["file"]).read_bytes()[line["offset"] :][: line["size"]]
        for at in range(0, line["size"], 512):
            assert image[at : at + 512] == data[line["depth"], line["offset"] + at]
            covered.setdefault(line["file"], set()).add((line["offset"] + at) // 512)
        assert hashlib.sha256(image).hexdigest() == line["digest"]["sha256"]
    for (_, offset), wanted in sorted(data.items(), reverse=True):  # so that the newest comes last
        if offset < len(disk.sectors) * 512:
            data[-1, offset] = wanted
    main = (folder / f"{stem}.raw").read_bytes()
    for (depth, offset), wanted in data.items():
        assert depth >= 0 or main[offset : offset + 512] == wanted, "the image has not the newest bytes"
    for name, size in images.items():
        if (folder / name).exists():
            check_map(folder / name, size, covered.get(name, set()))
        else:
            assert name not in covered


def check_map(path: Path, size: int, covered: set[int]) -> None:
    image, recovered, position = path.read_bytes(), set(), 0
    assert len(image) == size
    for line in path.with_suffix(".map").read_text().splitlines():
        if line.startswith("#"):
            continue
        words = line.split()
        if len(words) == 3 and words[1] in "+?":  # where ddrescue was
            continue
        start, length, status = int(words[0], 16), int(words[1], 16), words[2]
        assert start == position
        position += length
        if status == "+":
            recovered.update(range(start // 512, position // 512))
        else:
            assert not any(image[start:position]), "zeros where nothing was recovered"
    assert position == size
    assert recovered == covered, "the map says what the manifest says"


def check_bin(lines: list[dict], disk: Expected, folder: Path) -> None:
    found, position = [], 0
    for line in lines:
        with (folder / line["file"]).open("rb") as fh:
            fh.seek(line["file_offset"])
            data = fh.read(line["size"])
        assert line["file_offset"] == position
        position += line["size"]
        for at in range(0, line["size"], 4096):
            offset = None if line["offset"] is None else line["offset"] + at
            piece = data[at : at + 4096]
            found.append((line["depth"], line["source_offset"] + at, len(piece), offset, piece))
    equal(found, [(one.depth, one.place, one.size, one.offset, one.data) for one in disk.loose])
    assert (folder / f"{disk.path.stem}.unreferenced.bin").stat().st_size == position


def check_target(disks: list[Expected]) -> None:
    """The records of ``target-query``, and the files of the mounted tree."""
    from dissect.target import Target, container

    # What has no seSparse extent is left to dissect
    disks = [disk for disk in disks if any(isinstance(p, oracle.Sparse) for pieces in disk.links for p in pieces)]
    if not disks:
        return
    target = Target()
    for disk in disks:
        target.disks.add(container.open(disk.path))
    target.apply()
    try:
        trimmed = list(target.sesparse.unmapped())
        loose = list(target.sesparse.unreferenced())
        runs = list(target.sesparse.map())
        list(target.sesparse.findings())
        list(target.sesparse.changes())
        for disk, links in zip(disks, by_disk(target.sesparse.chain(), disks)):
            assert len(links) == len(disk.links)
        for disk, records in zip(disks, by_disk(trimmed, disks)):
            check_records(records, disk)
            check_tree(target, disk)
        for disk, records in zip(disks, by_disk(loose, disks)):
            assert sum(int(record.size) for record in records) == sum(one.size for one in disk.loose)
        for disk, records in zip(disks, by_disk(runs, disks)):
            check_map_records(records, disk)
    finally:
        for disk in target.disks:
            disk.close()


def by_disk(records: Iterable, disks: list[Expected]) -> list[list]:
    records = list(records)
    assert {record.disk for record in records} <= {disk.path.name for disk in disks}
    return [[record for record in records if record.disk == disk.path.name] for disk in disks]


def check_records(records: list, disk: Expected) -> None:
    wanted = {(old.depth, old.offset): old for old in disk.trimmed}
    for record in records:
        data = b""
        for at in range(0, int(record.size), 4096):
            old = wanted.pop((record.depth, record.offset + at))
            assert record.state == old.state
            assert record.parent_state == old.parent_state
            assert record.source_offset == (None if old.place is None else old.place - at)
            data += old.data or b""
        digest = record.digest.sha256 if record.digest is not None else None
        assert digest == (hashlib.sha256(data).hexdigest() if record.state in PLACED else None)
        # Where something is not known, the state says why
        assert record.source_offset is not None or record.state == "ambiguous"
    assert not wanted


def check_tree(target: object, disk: Expected) -> None:
    """A file for each present run, and nothing else."""
    found = {}
    for path in target.fs.path(f"/$sesparse$/unmapped/{disk.path.name}").iterdir():
        offset, _, depth = path.stem.partition("-")
        data = path.read_bytes()
        assert len(data) == path.stat().st_size
        for at in range(0, len(data), 512):
            key = int(depth), int(offset, 16) + at
            assert key not in found
            found[key] = data[at : at + 512]
    wanted = {(old.depth, old.offset + at): old.data[at : at + 512]
              for old in disk.trimmed if old.state == "present" for at in range(0, old.size, 512)}  # fmt: skip
    assert found == wanted


STATE_NAMES = {0: ("hole",), 1: ("unmapped",), 2: ("zero",), 3: ("allocated", "base"), 4: ("invalid",)}


def check_map_records(records: list, disk: Expected) -> None:
    position = 0
    for record in records:
        assert record.offset == position
        place = record.source_offset
        for number in range(position // 512, (position + int(record.size)) // 512):
            sector = disk.sectors[number]
            assert record.state in STATE_NAMES[sector.state]
            assert place == sector.place, f"sector {number}"
            place = None if place is None else place + 512
        position += int(record.size)
    assert position == len(disk.sectors) * 512


def check_report(chains: list[Chain], disks: list[Expected]) -> None:
    """The sums of the page."""
    from dissect_sesparse.recovery.recover import Source
    from dissect_sesparse.report.content import report

    made = report([Source(chain) for chain in chains])
    assert made.complete
    for shown, disk in zip(made.disks, disks):
        assert {state: size for state, (_, size) in shown.unmapped.items() if size} == disk.sizes()
        assert shown.never_mapped == trimmed_oracle.never_mapped(disk.links)
        assert shown.strip.size == len(disk.sectors) * 512
        for link, alone in zip(shown.links, disk.alone):
            assert link.strip.size == len(alone) * 512


# Helpers


def depths(chain: Chain) -> Iterable[int]:
    """All of a chain's depths; of a long one some."""
    count = len(chain.links)
    return range(count) if count < 10 else (0, 1, count // 2, count - 2, count - 1)


def grouped(items: list, key: Callable) -> Iterable[tuple[int, list]]:
    """Neighbours with the same key, and the number of the first."""
    start = 0
    for number in range(1, len(items) + 1):
        if number == len(items) or key(items[number]) != key(items[start]):
            yield start, items[start:number]
            start = number


def equal(found: list, wanted: list) -> None:
    """Compare two lists, and name the first item that differs."""
    for number, (one, other) in enumerate(zip(found, wanted)):
        assert one == other, f"number {number}: found {_short(one)}, expected {_short(other)}"
    assert len(found) == len(wanted), (
        f"{len(found)} found, {len(wanted)} expected; first too many: {_short((found + wanted)[min(len(found), len(wanted))])}"
    )


def _short(item: object) -> str:
    return ", ".join(repr(part)[:70] for part in item) if isinstance(item, tuple) else repr(item)[:200]


def run(seed: int, *, full: bool | None = None) -> int:
    """Make the disks of a seed and hold all against the oracle. Gives the number of chains.

    Args:
        seed: Of the random numbers.
        full: Whether to open them as a target too, and make the report; by default one seed in ten.
    """
    from dissect_sesparse import open_chain

    root = Path(tempfile.mkdtemp(prefix="chains-"))
    folder = root / "datastore" / "vm"
    folder.mkdir(parents=True)
    chains: list[Chain] = []
    try:
        disks = [Expected(path, links) for path, links in make(folder, seed)]
        rng = random.Random(seed)
        for disk in disks:
            chain = open_chain(disk.path)
            chains.append(chain)
            check_bytes(chain, disk.sectors)
            check_runs(chain, disk.sectors)
            check_unmapped(chain, disk)
            check_unreferenced(chain, disk)
            check_views(chain, disk)
            check_residual(disk)
            check_changes(chain, disk, rng)
            check_links(chain, disk)
        check_recovery(chains, disks, root / "out")
        if full or (full is None and seed % 10 == 0):
            check_target(disks)
            check_report(chains, disks)
        return len(disks)
    finally:
        for chain in chains:
            chain.close()
        shutil.rmtree(root)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failure")
    parser.add_argument("--quick", action="store_true", help="no targets and reports")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # all of these disks are odd, and it is said of each
    chains, failed = 0, []
    for seed in range(options.first, options.first + options.seeds):
        try:
            chains += run(seed, full=False if options.quick else True if options.seeds == 1 else None)
            if (seed - options.first) % 100 == 99:
                print(f"{chains} chains, up to seed {seed}, {len(failed)} failed", flush=True)
        except Exception:
            traceback.print_exc()
            print(f"seed {seed} fails: python tests/random_chains.py --seeds 1 --first {seed}", flush=True)
            failed.append(seed)
            if not options.keep_going:
                break
    print(f"{chains} chains of {options.seeds} seeds from {options.first} on, {len(failed)} failed {failed[:20]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
