"""Random churn on nearly full volumes, by real drivers: ``python tests/churn.py ntfs --seeds 1-20 --operations 400``.

A guest makes, grows, cuts, overwrites, renames, links, wipes and deletes files, sets times back, uses records and clusters
again; snapshots are taken, trims come and do not come, the host gives places away. The truth is kept beside: the content of
each path in each snapshot, and what each file held when it was deleted. Then the deleted files of the chain are told, and
judged:

- a *complete* file must have exactly the bytes that some file of that path had, in the state or at the deletion that the
  record claims: any other byte is foreign;
- the *proven* pieces of a partial or likely file must be bytes of one such content;
- a likely file is right where it is one of these contents.

Every 512 bytes of a content tell the file, its version and their number, so no two contents have a sector in common.
Ends with 1 if a byte was foreign.
"""

from __future__ import annotations

import argparse
import os
import random
import struct
import sys
import tempfile
import traceback
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "examples"), str(HERE.parent)]

from churn_drivers import DRIVERS, GRAIN, Driver
from sesparse_builder import ChainBuilder, ExtentBuilder

from dissect_sesparse.disk.chain import open_chain
from dissect_sesparse.evidence.deleted import Piece, measure
from dissect_sesparse.target.files import deleted_files

OFFSET = 1 << 20
"""Of the partition on the disk."""
ROOM = (100_000, 300_000, 800_000)
"""Bytes that a volume has free at the start, one of these: what is written soon lies where something else was."""


class Truth:
    """What there was."""

    def __init__(self) -> None:
        self.states: list[dict[str, bytes | None]] = []
        """Path and content of each file, at each snapshot, the oldest first; the last is the running guest."""
        self.deaths: dict[str, list[tuple[int, bytes | None]]] = defaultdict(list)
        """For each path the period in which a file of it was deleted, 0 is that of the base, and its content then."""

    def contents(self, path: str, named_by: str, depth: int) -> list[bytes | None]:
        """The contents that a record may have."""
        number = len(self.states) - 1 - depth
        if path.startswith("<folder"):  # all that is left of its path is its name
            name = path.partition("/")[2]
            same = [known for known in (*self.deaths, *self.states[number]) if known.rpartition("/")[2] == name]
            return [data for known in same for data in self.contents(known, named_by, depth)]
        if named_by == "snapshot":
            return [self.states[number][path]] if path in self.states[number] else []
        return [data for period, data in self.deaths[path] if period == number]


class Guest:
    """Changes files at random, and keeps the truth."""

    def __init__(self, driver: Driver, rng: random.Random, truth: Truth):
        self.driver = driver
        self.rng = rng
        self.truth = truth
        self.root = Path()
        self.files: dict[str, set[str]] = {}
        """Paths, and the names of their other streams."""
        self.period = 0
        self.operations: Counter[str] = Counter()
        self._serial = 0
        self._folders = ["", "a", "b/c"]

    # Content

    def content(self, size: int) -> bytes:
        """New bytes that nobody else has."""
        self._serial += 1
        kind = self.rng.random()
        count = -(-size // 512)
        heads = (f"file {self._serial:06d} sector {n:06d} ".encode() for n in range(count))
        pad = (lambda: self.rng.randbytes(512)) if kind < 0.5 else (lambda: bytes([self.rng.randrange(32, 127)]) * 512)
        return b"".join((head + pad())[:512] for head in heads)[:size]

    def size(self) -> int:
        return self.rng.choice(
            [0, self.rng.randrange(1, 200), self.rng.randrange(200, 900), *(self.rng.randrange(900, 60_000),) * 4]
            + [self.rng.randrange(60_000, 300_000)]
        )

    def read(self, path: str) -> bytes:
        """What a file holds, from the driver and not from a cache: to FUSE each name of a file is one of its own."""
        with (self.root / path).open("rb") as fh:
            os.posix_fadvise(fh.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return fh.read()

    def known(self, path: str) -> bytes | None:
        """The same; ``None`` where the driver cannot read what it wrote itself: then there is no truth."""
        try:
            return self.read(path)
        except OSError:
            self.operations["unreadable"] += 1
            return None

    # Life and death

    def _streams(self, path: str) -> list[str]:
        return [path, *(f"{path}:{name}" for name in sorted(self.files[path]))]

    def _kill(self, path: str, by: Path | None = None) -> None:
        """Delete a file, or put another in its place, and keep what it held; one of several names is no file."""
        single = (self.root / path).stat().st_nlink == 1
        held = {stream: self.known(stream) for stream in self._streams(path)} if single else {}
        if by is None:
            (self.root / path).unlink()
            del self.files[path]
        else:
            by.replace(self.root / path)
            self.files[path] = set()
        for stream, data in held.items():
            self.truth.deaths[stream].append((self.period, data))

    def snapshot(self) -> None:
        """Keep the content of all files."""
        self.truth.states.append({stream: self.known(stream) for path in self.files for stream in self._streams(path)})
        self.period += 1

    def _any(self) -> str | None:
        return self.rng.choice(sorted(self.files)) if self.files else None

    def _write(self, path: str, data: bytes, mode: str = "wb", at: int = 0) -> None:
        with suppress(OSError), (self.root / path).open(mode, buffering=0) as fh:  # the volume is full
            fh.seek(at)
            while data and (done := fh.write(data[:65536])):
                data = data[done:]

    # Operations

    def step(self) -> None:
        names = ["make"] * 5 + ["delete"] * 5 + ["overwrite"] * 3 + ["cut", "empty", "grow", "rename", "replace"]
        names += ["stretch", "index", "tiny", "tiny", "wipe"]
        names += ["link"] * ("links" in self.driver.features) + ["stream"] * ("streams" in self.driver.features)
        name = self.rng.choice(names)
        self.operations[name] += 1
        with suppress(OSError):
            getattr(self, f"do_{name}")()

    def do_make(self, size: int | None = None) -> None:
        folder = self.rng.choice(self._folders)
        if "compress" in self.driver.features and self.rng.random() < 0.15:
            folder = "packed"
            if not (self.root / folder).exists():
                self.driver.compress(self.root / folder)  # type: ignore[attr-defined]
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        path = f"{folder}/f{self.rng.randrange(60)}.bin".strip("/")
        if path in self.files:
            return self.do_overwrite()
        self._write(path, self.content(self.size() if size is None else size))
        if (self.root / path).exists():
            self.files[path] = set()
        return None

    def do_tiny(self) -> None:
        self.do_make(self.rng.randrange(0, 300))

    def do_delete(self) -> None:
        if (path := self._any()) is not None:
            self._kill(path)

    def do_overwrite(self) -> None:
        """In place, a part of it, and its times may be set back."""
        if (path := self._any()) is None:
            return
        before, record = (self.root / path).stat(), self.driver.times(self.root / path)
        at = self.rng.randrange(0, before.st_size + 1) // 512 * 512
        self._write(path, self.content(min(self.size(), before.st_size - at)), "r+b", at)
        if self.rng.random() < 0.5:
            self.driver.set_back(self.root / path, before, record if self.rng.random() < 0.5 else None)

    def do_wipe(self) -> None:
        """Overwrite all of it, set its times back, delete it."""
        if (path := self._any()) is None:
            return
        before, record = (self.root / path).stat(), self.driver.times(self.root / path)
        self._write(path, self.rng.choice([self.content(before.st_size), bytes(before.st_size)]), "r+b")
        self.driver.set_back(self.root / path, before, record)
        self._kill(path)

    def do_cut(self) -> None:
        if (path := self._any()) is not None:
            os.truncate(self.root / path, self.rng.randrange(0, (self.root / path).stat().st_size + 1))

    def do_empty(self) -> None:
        """Grow into what is free, and be cut to nothing."""
        if (path := self._any()) is not None:
            self._write(path, self.content(self.size()), "ab")
            os.truncate(self.root / path, 0)

    def do_grow(self) -> None:
        if (path := self._any()) is not None:
            self._write(path, self.content(self.size()), "ab")

    def do_stretch(self) -> None:
        """Make it longer and write nothing there: what was never written is zeros."""
        if (path := self._any()) is not None:
            os.truncate(self.root / path, (self.root / path).stat().st_size + self.rng.randrange(1, 40_000))

    def do_rename(self) -> None:
        if (path := self._any()) is not None:
            new = f"{self.rng.choice(self._folders[:2])}/r{self.rng.randrange(60)}.bin".strip("/")
            if new not in self.files and (self.root / new).parent.is_dir():
                (self.root / path).rename(self.root / new)
                self.files[new] = self.files.pop(path)

    def do_replace(self) -> None:
        """Write anew under another name and rename over it, as editors do."""
        if (path := self._any()) is not None:
            new = f"{path}.tmp"
            self._write(new, self.content(self.size()))
            self._kill(path, self.root / new)

    def do_link(self) -> None:
        path, new = self._any(), f"l{self.rng.randrange(60)}.bin"
        if path is not None and new not in self.files:
            (self.root / new).hardlink_to(self.root / path)
            self.files[new] = set(self.files[path])

    def do_stream(self) -> None:
        if (path := self._any()) is not None and (self.root / path).stat().st_nlink == 1:
            name = self.rng.choice(["one", "two"])
            self._write(f"{path}:{name}", self.content(self.size()), "wb")
            with suppress(OSError):
                self.read(f"{path}:{name}")
                self.files[path].add(name)

    def do_index(self) -> None:
        """A folder of many names, and its end: blocks of an index where data was, and records that are used again."""
        folder = self.root / f"index{self.rng.randrange(3)}"
        with suppress(OSError):
            folder.mkdir(exist_ok=True)
            for number in range(self.rng.randrange(5, 40)):
                (folder / f"{'name' * 20}{number}").touch()
        for path in sorted(folder.iterdir()):
            self.truth.deaths[f"{folder.name}/{path.name}"].append((self.period, b""))
            path.unlink()
        folder.rmdir()


class Host:
    """Keeps a chain of what the guest writes and trims."""

    def __init__(self, driver: Driver, rng: random.Random, folder: Path):
        self.driver = driver
        self.rng = rng
        size = OFFSET + driver.size
        self.chain = ChainBuilder(folder, size // 512, {})
        self.extent: ExtentBuilder | None = None
        self._before = bytes(driver.size)
        self._free: set[int] = set()
        self._given: list[int] = []
        self._trims = rng.choice([0.0, 0.5, 1.0, 1.0])
        """Share of the trims that come."""
        self._gives = rng.choice([0.0, 0.5])
        """Share of trimmed places that the host gives to others."""

    def record(self, image: Path, free: set[int] | None = None) -> None:
        """Take over what changed since the last time. ``free`` are the grains in which nothing is in use now."""
        data = image.read_bytes()
        first = OFFSET // GRAIN
        if self.extent is not None:
            for grain in range(len(data) // GRAIN):
                here = data[grain * GRAIN : (grain + 1) * GRAIN]
                if here != self._before[grain * GRAIN : (grain + 1) * GRAIN]:
                    self._write(first + grain, here)
            for grain in sorted((free or set()) - self._free) if free is not None else ():
                if self.rng.random() < self._trims:
                    place = self.extent.unmap(first + grain)
                    if place is not None and self.rng.random() < self._gives:
                        self._given.append(place)
        self._before = data
        if free is not None:
            self._free = free

    def _write(self, grain: int, data: bytes) -> None:
        assert self.extent is not None
        extent = self.extent
        mapped = extent._entries.get(grain, 0) >> 60 == 3
        place = self._given.pop(0) if self._given and not mapped else None
        if place is None and grain in extent._places and extent._owners.get(extent._places[grain]) != grain:
            place = extent._unused_place()  # what it had is another's now
        extent.allocate(grain, data, place)

    def snapshot(self) -> None:
        if self.extent is None:
            self.chain.base = {0: mbr(self.driver), OFFSET // 512: self._before}
        self.extent = self.chain.add_delta()
        self._given = []


def mbr(driver: Driver) -> bytes:
    """The first sector of the disk."""
    sector = bytearray(512)
    struct.pack_into("<I", sector, 0x1B8, 0x57454232)
    ends = b"\xfe\xff\xff"
    entry = (0, ends, driver.partition_type, ends, OFFSET // 512, driver.size // 512)
    struct.pack_into("<B3sB3sII", sector, 0x1BE, *entry)
    sector[0x1FE:] = b"\x55\xaa"
    return bytes(sector)


def churn(driver: Driver, seed: int, folder: Path, operations: int, snapshots: int) -> tuple[Path, Truth, Counter[str]]:
    """Run one history: the newest descriptor, the truth, and how often what was done."""
    rng, truth, image = random.Random(seed), Truth(), folder / "partition.img"
    driver.make(image)
    guest, host = Guest(driver, rng, truth), Host(driver, rng, folder / "vm")
    with driver.mounted(image) as guest.root:
        room = os.statvfs(guest.root)
        guest._write("fill", bytes(max(0, room.f_bavail * room.f_frsize - rng.choice(ROOM))))
    for period in range(snapshots + 1):
        steps = operations // (snapshots + 1)
        while steps > 0:
            some = min(steps, rng.randrange(5, 40))
            with driver.mounted(image) as guest.root:
                for _ in range(some):
                    guest.step()
                    if "record" in driver.features and rng.random() < 0.2:
                        host.record(image)
                steps -= some
                if steps <= 0:
                    guest.snapshot()
            host.record(image, driver.free(image))
        if period < snapshots:
            host.snapshot()
    return host.chain.write(), truth, guest.operations


def judge(path: Path, truth: Truth, driver: Driver, show: bool = False) -> Counter[str]:
    """Tell the deleted files of a chain, and compare them with the truth."""
    found: Counter[str] = Counter()
    with open_chain(path) as chain:
        for file in deleted_files(chain, lambda message: found.update(["warnings"]) or (show and print("  ", message))):
            pieces: list[Piece] = []
            told = measure(file, pieces.append)
            contents = truth.contents(driver.path_of(file.path), file.named_by, file.link.depth)
            if None in contents:
                found["not judged"] += 1
                continue
            found["files"] += 1
            found[told.state] += 1
            proven = [piece for piece in pieces if piece.proven]
            foreign = min(
                (wrong(proven, data, file.size) for data in contents), default=sum(len(p.data) for p in proven)
            )
            if told.state == "likely":
                found["likely, right"] += any(not wrong(pieces, data, file.size) for data in contents)
            elif told.state == "complete" and not contents:
                foreign = max(foreign, 1)
            if foreign:
                found[f"foreign bytes in {told.state}"] += foreign
                print(
                    f"FOREIGN {foreign} bytes: {file.path} {file.named_by} {file.link.depth} {told} of {len(contents)}"[
                        :600
                    ]
                )
    return found


def wrong(pieces: list[Piece], data: bytes, size: int) -> int:
    """Bytes that are not those of a content, or all where that is of another size."""
    if len(data) != size:
        return max(1, sum(len(piece.data) for piece in pieces))
    return sum(
        sum(a != b for a, b in zip(piece.data, data[piece.offset :]))
        for piece in pieces
        if piece.data != data[piece.offset : piece.offset + len(piece.data)]
    )


ROWS = ["operations", "files", "complete", "likely", "likely, right", "partial", "none", "not judged", "warnings"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("driver", choices=DRIVERS)
    parser.add_argument("--seeds", default="1-5", help="A-B")
    parser.add_argument("--operations", type=int, default=300, help="of each seed")
    parser.add_argument("--snapshots", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="a folder for the chains; default: removed again")
    parser.add_argument("-v", action="store_true", help="show warnings")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    total: Counter[str] = Counter()
    for seed in range(int(first), int(last or first) + 1):
        driver = DRIVERS[options.driver]() if seed % 3 or options.driver != "ntfs" else DRIVERS["ntfs"](1024)
        if why := driver.missing():
            print(why, file=sys.stderr)
            return 2
        with tempfile.TemporaryDirectory() as temporary:
            folder = options.keep / str(seed) if options.keep else Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            try:
                path, truth, did = churn(driver, seed, folder, options.operations, options.snapshots)
                found = judge(path, truth, driver, options.v)
            except Exception:
                print(f"seed {seed}:")
                traceback.print_exc()
                return 1
        found["operations"] = sum(did.values()) - did["unreadable"]
        total += found
        print(f"seed {seed}: {', '.join(f'{found[row]} {row}' for row in ROWS)}", flush=True)
    print(f"in all: {', '.join(f'{total[row]} {row}' for row in ROWS)}")
    foreign = {name: count for name, count in total.items() if name.startswith("foreign")}
    print(", ".join(f"{count} {name}" for name, count in foreign.items()) or "0 foreign bytes in what is proven")
    return 1 if foreign else 0


if __name__ == "__main__":
    sys.exit(main())
