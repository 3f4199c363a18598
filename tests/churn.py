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
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.files.deleted import DeletedFile

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "support"), str(HERE.parent / "examples"), str(HERE.parent)]

from churn_drivers import DRIVERS, GRAIN, Driver, of_seed, run
from churn_guest import Guest, Truth
from sesparse_builder import ChainBuilder, ExtentBuilder

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.files.deleted import Piece, measure
from dissect_sesparse.files.file_systems import deleted_files
from dissect_sesparse.files.not_looked import NotAllLookedAtError

OFFSET = 1 << 20
"""Of the partition on the disk."""


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
        guest._write("fill", bytes(max(0, room.f_bavail * room.f_frsize - rng.choice(driver.room))))
    live = False
    """Whether the last snapshot was taken while it was mounted."""
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
                    if live := period < snapshots and "live" in driver.features and rng.random() < 0.5:
                        run("sync", "-f", guest.root)  # else it is an older moment, of which there is no truth here
                        host.record(image)
                        host.snapshot()
            if steps <= 0 or "record" in driver.features:
                host.record(image, driver.free(image))
        if period < snapshots and not live:
            host.snapshot()
    return host.chain.write(), truth, guest.operations


def told_of(chain: Chain, warn: Callable[[str], None]) -> Iterator[DeletedFile]:
    """The deleted files. What was not looked at was a warning."""
    with suppress(NotAllLookedAtError):
        yield from deleted_files(chain, warn)


def judge(path: Path, truth: Truth, driver: Driver, show: bool = False) -> Counter[str]:
    """Tell the deleted files of a chain, and compare them with the truth."""
    found: Counter[str] = Counter()
    with open_chain(path) as chain:
        for file in told_of(chain, lambda message: found.update(["warnings"]) or (show and print("  ", message))):
            pieces: list[Piece] = []
            told = measure(file, pieces.append)
            contents = truth.contents(driver.path_of(file.path), file.naming.by, file.link.depth)
            if None in contents:
                found["not judged"] += 1
                continue
            found["files"] += 1
            found[told.state] += 1
            proven = [piece for piece in pieces if piece.proven]
            foreign = min(
                (wrong(proven, data, file.size) for data in contents), default=sum(len(p.data) for p in proven)
            )
            if not proven and told.state != "complete":
                foreign = 0  # it claims nothing
            if told.state == "likely":
                found["likely, right"] += any(not wrong(pieces, data, file.size) for data in contents)
            elif told.state == "complete" and not contents:
                foreign = max(foreign, 1)
            if foreign:
                found[f"foreign bytes in {told.state}"] += foreign
                print(
                    f"FOREIGN {foreign} bytes: {file.path} {file.naming.by} {file.link.depth} {told} of {len(contents)}"[
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
        driver = of_seed(options.driver, seed)
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
