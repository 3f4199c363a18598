"""Measure ours beside dissect's own reader, QEMU and the limit, in one run, alternating; medians of five rounds.

``python benchmarks/run.py [--write docs/performance.md] [--only WORD] [--folder /dev/shm/bench]``

Seconds are CPU seconds of the process (of the child, for QEMU). The limit is what the system calls alone cost: the same
bytes in the same pieces, resolved beforehand, by ``pread`` and one join.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import io
import os
import platform
import random
import resource
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import files
import images
import many
from dissect.hypervisor import vmdk
from images import MIB

from dissect_sesparse import State, open_chain
from dissect_sesparse.extent.metadata import Metadata
from dissect_sesparse.version import __version__

GIB = 1 << 30
TIB = 1 << 40


@dataclass
class Row:
    """One line of the table: seconds of each contestant, median of the rounds, and what is asked of ours."""

    work: str
    goal: str
    seconds: dict[str, float] = field(default_factory=dict)
    note: str = ""

    def times(self, other: str) -> float | None:
        mine = self.seconds.get("ours")
        return self.seconds[other] / mine if mine and other in self.seconds else None


def cpu(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start


def alternate(contestants: dict[str, Callable[[], Callable[[], object]]], rounds: int) -> dict[str, float]:
    """Each contestant once a round: what it makes fresh is not measured, what that does is."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, make in contestants.items():
            taken[name].append(cpu(make()))
    return {name: statistics.median(values) for name, values in taken.items()}


def reads(fh: object, offsets: list[int], length: int) -> Callable[[], None]:
    def work() -> None:
        for offset in offsets:
            fh.seek(offset)
            fh.read(length)

    return work


def limit(path: Path, offsets: list[int], length: int) -> Callable[[], Callable[[], None]]:
    """The pieces of each read, resolved beforehand."""
    chain = open_chain(path)
    plan = []
    for offset in offsets:
        pieces = []
        for run in chain.runs(offset, length):
            fd = run.source.extent.fd if run.source is not None and run.state == State.ALLOCATED else None
            pieces.append((fd, run.length, run.place or 0))
        plan.append(pieces)

    def work() -> None:
        for pieces in plan:
            if len(pieces) == 1 and pieces[0][0] is not None:
                os.pread(pieces[0][0], pieces[0][1], pieces[0][2])
            else:
                b"".join([os.pread(fd, n, at) if fd is not None else bytes(n) for fd, n, at in pieces])

    work.keeps_open = chain  # type: ignore[attr-defined]
    return lambda: work


def qemu(path: Path, count: int, length: int) -> Callable[[], Callable[[], None]] | None:
    """Sequential reads by ``qemu-img bench``; CPU seconds of the child are taken from the system's account."""
    if shutil.which("qemu-img") is None:
        return None

    def work() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = ["qemu-img", "bench", "-f", "vmdk", "-c", str(count), "-d", "64", "-s", str(length), str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return work  # type: ignore[return-value]


class Bench:
    """Runs the rows."""

    def __init__(self, folder: Path, rounds: int, only: str):
        self.folder = folder
        self.rounds = rounds
        self.only = only
        self.rows: list[Row] = []

    def compare(
        self,
        work: str,
        goal: str,
        path: Callable[[], Path],
        offsets: list[int],
        length: int,
        *,
        with_limit: bool = False,
        with_qemu: bool = False,
        fewer: int = 1,
        opener: Callable[[Path], object] | None = None,
        dissect_opener: Callable[[Path], object] | None = None,
    ) -> None:
        """Ours against the others; dissect reads one of ``fewer`` of the offsets, and its time counts so many times."""
        if self.only not in work:
            return
        disk = path()
        opener = opener or (lambda p: open_chain(p).open())
        dissect_opener = dissect_opener or vmdk.VMDK
        contestants = {
            "ours": lambda: reads(opener(disk), offsets, length),
            "dissect": lambda: reads(dissect_opener(disk), offsets[::fewer], length),
        }
        if with_limit:
            contestants["limit"] = limit(disk, offsets, length)
        row = Row(work, goal, alternate(contestants, self.rounds))
        row.seconds["dissect"] *= len(offsets) / len(offsets[::fewer])
        if with_qemu and (measure := qemu(disk, len(offsets), length)) is not None:
            row.seconds["qemu"] = statistics.median(measure() for _ in range(self.rounds))
        row.note = f"{row.seconds['ours'] / len(offsets) * 1e6:.1f} us a read"
        self.add(row)

    def row(self, work: str, goal: str, seconds: dict[str, float], note: str) -> None:
        """A row that was measured elsewhere."""
        self.add(Row(work, goal, seconds, note))

    def add(self, row: Row) -> None:
        self.rows.append(row)
        print(line(row), flush=True)

    def disk(self, name: str, size: int, deltas: Callable[[], list], **options: object) -> Callable[[], Path]:
        return lambda: images.chain(self.folder / name, size, deltas(), **options)


def line(row: Row) -> str:
    def ratio(other: str) -> str:
        times = row.times(other)
        if times is None:
            return ""
        return f"{times:.2f}" if other == "limit" else f"{times:.1f}"

    mine = f"{row.seconds['ours'] * 1000:.1f}" if "ours" in row.seconds else ""
    return (
        f"| {row.work} | {mine} | {ratio('dissect')} | {ratio('limit')} | {ratio('qemu')} | {row.goal} | {row.note} |"
    )


def sequential(bench: Bench) -> None:
    size = 512 * MIB
    offsets = list(range(0, size, MIB))
    bench.compare(
        "in order, 1 MiB reads",
        "15 x dissect, 0.85 of the limit, 30 x QEMU",
        bench.disk("order", 4 * GIB, lambda: [images.in_order]),
        offsets,
        MIB,
        with_limit=True,
        with_qemu=True,
    )
    bench.compare("scattered grains, 1 MiB reads", "5 x dissect, 0.9 of the limit, 12 x QEMU",
                  bench.disk("scattered", GIB, lambda: [images.scattered(GIB)]), offsets, MIB,
                  with_limit=True, with_qemu=True)  # fmt: skip
    offsets = list(range(0, 64 * MIB, MIB))
    for depth, goal in ((1, "5.5"), (4, "10"), (16, "13"), (32, "13")):
        bench.compare(f"runs of one grain, mixed states, chain of {depth}", f"{goal} x dissect",
                      bench.disk(f"mixed{depth}", 64 * MIB, lambda depth=depth: [images.mixed(1, i) for i in range(depth)]),
                      offsets, MIB, with_limit=True)  # fmt: skip
    for depth, goal in ((1, "6"), (32, "18")):
        bench.compare(f"runs of 16 grains, mixed states, chain of {depth}", f"{goal} x dissect",
                      bench.disk(f"runs{depth}", 64 * MIB, lambda depth=depth: [images.mixed(16, i) for i in range(depth)]),
                      offsets, MIB, with_limit=True)  # fmt: skip
    thin = {}
    for depth, goal in ((1, ""), (32, "75 x dissect, 0.65 of the limit, 1.7 times the time of a chain of 1")):
        bench.compare(f"thin deltas, chain of {depth}", goal,
                      bench.disk(f"thin{depth}", 256 * MIB, lambda depth=depth: [images.thin(i) for i in range(depth)]),
                      list(range(0, 256 * MIB, MIB)), MIB, with_limit=True)  # fmt: skip
        if bench.rows and bench.rows[-1].work.startswith("thin"):
            thin[depth] = bench.rows[-1].seconds["ours"]
    if len(thin) == 2:
        bench.rows[-1].note += f"; {thin[32] / thin[1]:.2f} times a chain of 1"


def scattered_reads(bench: Bench) -> None:
    chance = random.Random(3)
    for name, goal, folder, size, deltas, count, fewer in (
        ("4 GiB delta", "150", "order", 4 * GIB, lambda: [images.in_order], 4000, 20),
        ("small delta", "10", "mixed1", 64 * MIB, lambda: [images.mixed(1, 0)], 4000, 4),
        ("chain of 32", "40", "mixed32", 64 * MIB, lambda: [images.mixed(1, i) for i in range(32)], 4000, 8),
        ("thin chain of 32", "250", "thin32", 256 * MIB, lambda: [images.thin(i) for i in range(32)], 4000, 20),
        ("2 TiB", "250", "large", 2 * TIB, lambda: [images.only(set(range(0, 131072, 64)))], 4000, 40),
    ):  # fmt: skip
        offsets = [chance.randrange(size // 4096) * 4096 for _ in range(count)]
        if folder == "large":  # in the 2,048 slices of 16 MiB that have a table: others read holes, which is no work
            offsets = [offset % (16 * MIB) + offset // (1 << 30) * (1 << 30) for offset in offsets]
        disk = bench.disk(folder, size, deltas, fill=folder != "large")
        bench.compare(f"random 4 KiB, {name}", f"{goal} x dissect", disk, offsets, 4096, fewer=fewer)  # fmt: skip
    disk = bench.disk("order", 4 * GIB, lambda: [images.in_order])
    for length in (512, 4096):
        bench.compare(f"sequential reads of {length} bytes", "3 x dissect", disk,
                      list(range(0, 20000 * length, length)), length)  # fmt: skip
    if bench.only in "warm random 4 KiB":
        fh = open_chain(disk()).open()
        offsets = [chance.randrange(64 * MIB // 4096) * 4096 for _ in range(20000)]
        reads(fh, offsets, 4096)()
        taken = statistics.median(cpu(reads(fh, offsets, 4096)) for _ in range(bench.rounds))
        row = Row("warm random 4 KiB", "6 us a read", {"ours": taken}, f"{taken / len(offsets) * 1e6:.1f} us a read")
        bench.add(row)


def opening(bench: Bench) -> None:
    size = 62 * TIB
    for depth in (1, 4):
        if bench.only not in f"open 62 TiB, {depth} links":
            continue
        disk = images.chain(bench.folder / f"huge{depth}", size, [images.only({0, 4000000})] * depth, fill=False)
        taken = {
            "ours": statistics.median(cpu(lambda: open_chain(disk).open().read(4096)) for _ in range(bench.rounds))
        }
        taken["dissect"] = cpu(lambda: vmdk.VMDK(disk).read(4096))
        bench.add(Row(f"open 62 TiB, {depth} links", "2 ms", taken, f"{taken['ours'] * 1000:.2f} ms"))


class Plain(io.RawIOBase):
    """A file without a descriptor of the system, as a file inside another file system is."""

    def __init__(self, path: Path):
        self.fh = path.open("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.fh.seek(offset, whence)

    def tell(self) -> int:
        return self.fh.tell()

    def readinto(self, buffer: object) -> int:
        return self.fh.readinto(buffer)  # type: ignore[arg-type]


def without_descriptor(bench: Bench) -> None:
    """Through a TargetPath: the chain's folder mapped into one of dissect's file systems."""
    from dissect.target.filesystem import VirtualFilesystem

    def inside(path: Path) -> object:
        fs = VirtualFilesystem()
        for file in path.parent.iterdir():
            fs.map_file_fh(file.name, Plain(file))
        return fs.path(f"/{path.name}")

    for depth, goal in ((1, "6"), (16, "8")):
        bench.compare(f"without a file descriptor, chain of {depth}", f"{goal} x dissect",
                      bench.disk(f"mixed{depth}", 64 * MIB, lambda depth=depth: [images.mixed(1, i) for i in range(depth)]),
                      list(range(0, 64 * MIB, MIB)), MIB,
                      opener=lambda p: open_chain(inside(p)).open(), dissect_opener=lambda p: vmdk.VMDK(inside(p)))  # fmt: skip


def two_threads(bench: Bench) -> None:
    if bench.only not in "two threads, 1 MiB reads":
        return
    disk = bench.disk("order", 4 * GIB, lambda: [images.in_order])()

    def wall(threads: int) -> float:
        chain = open_chain(disk)
        work = [reads(chain.open(), list(range(part * GIB, part * GIB + GIB, MIB)), MIB) for part in range(2)]
        start = time.perf_counter()
        if threads == 1:
            for one in work:
                one()
        else:
            running = [threading.Thread(target=one) for one in work]
            for thread in running:
                thread.start()
            for thread in running:
                thread.join()
        return time.perf_counter() - start

    one, two = (statistics.median(wall(n) for _ in range(bench.rounds)) for n in (1, 2))
    bench.add(Row("two threads, 1 MiB reads", "1.5 x one thread", {"ours": two}, f"{one / two:.2f} times one thread"))


def classifying(bench: Bench) -> None:
    """All table entries of a disk, strict checks included, as the audit does; and the unmapped runs."""
    from dissect_sesparse.extent.claims import claimed_runs
    from dissect_sesparse.extent.engine import count_states

    for name, folder, deltas in (
        ("in order", "order", lambda: [images.in_order]),
        ("mixed", "classify1", lambda: [images.mixed(1, 0)]),
        ("runs of 16", "classify16", lambda: [images.mixed(16, 0)]),
    ):
        if bench.only not in f"classify entries, {name}":
            continue
        size = 4 * GIB if folder == "order" else GIB
        metadata = (
            open_chain(bench.disk(folder, size, deltas, fill=folder == "order")()).links[0].extents[0].extent.metadata
        )

        def classify(metadata: Metadata = metadata) -> None:
            for _, entries in metadata.sound_tables():
                count_states(entries, metadata.place_limit)

        taken = statistics.median(cpu(classify) for _ in range(bench.rounds))
        found = statistics.median(cpu(lambda: sum(1 for _ in claimed_runs(metadata))) for _ in range(bench.rounds))
        rate, rate2 = (size / 4096 / seconds / 1e6 for seconds in (taken, found))
        note = f"{rate:.0f} million a second; finding unmapped runs {rate2:.0f}"
        bench.add(Row(f"classify entries, {name}", "150 million a second", {"ours": taken}, note))


def reporting(bench: Bench) -> None:
    """All unmapped runs of a disk of 62 TiB with 1 GiB of data, hashed and measured, and its peak memory."""
    if bench.only not in "report of 62 TiB":
        return

    def entries(table: int) -> list[int] | None:
        if table % 62000:
            return None
        values = images.in_order(table // 62000)
        return [value & (1 << 60) - 1 | 1 << 60 for value in values[:2048]] + values[2048:]

    disk = images.chain(bench.folder / "report", 62 * TIB, [entries])
    code = """
import sys, time
from dissect_sesparse import open_chain
from dissect_sesparse.trimmed.unmapped import unmapped
chain = open_chain(sys.argv[1]); start, clock = time.process_time(), time.perf_counter()
size = sum(run.size for run in unmapped(chain))
seconds, clock = time.process_time() - start, time.perf_counter() - clock
print(seconds, clock, size, int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024)
"""
    done = subprocess.run([os.sys.executable, "-c", code, str(disk)], check=True, capture_output=True, text=True)
    seconds, clock, size, peak = map(float, done.stdout.split())
    note = f"{size / clock / 1e6:.0f} MB/s by the clock with three digests and entropy, {peak:.0f} MiB at the peak"
    bench.add(Row("report of 62 TiB with 1 GiB", "seconds, 300 MiB", {"ours": seconds}, note))


def memory(bench: Bench) -> None:
    """Peak memory above the imports, of a child that reads a disk at random and in order."""
    code = """
import random, sys
import dissect.target.target, dissect_sesparse, dissect_sesparse.extent.engine
from dissect_sesparse import open_chain
def now(name): return int(open("/proc/self/status").read().split(name + ":")[1].split()[0]) / 1024
open("/proc/self/clear_refs", "w").write("5")  # forget the peak of the imports
before = now("VmRSS")
chain = open_chain(sys.argv[1]); fh = chain.open()
for n in range(20000):
    fh.seek(random.randrange(chain.size // 4096) * 4096); fh.read(4096)
fh.seek(0)
for n in range(256): fh.read(1 << 20)
print(now("VmHWM") - before)
"""
    if not Path("/proc/self/clear_refs").exists():
        print("memory: skipped, there is no /proc")
        return
    for name, folder, size, deltas in (
        ("scattered grains", "scattered", GIB, lambda: [images.scattered(GIB)]),
        ("chain of 32", "mixed32", 64 * MIB, lambda: [images.mixed(1, i) for i in range(32)]),
        ("62 TiB, 4 links", "huge4", 62 * TIB, lambda: [images.only({0, 4000000})] * 4),
    ):
        if bench.only not in f"memory, {name}":
            continue
        disk = bench.disk(folder, size, deltas, fill=folder != "huge4")()
        command = [shutil.which("python3") and os.sys.executable, "-c", code, str(disk)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        bench.add(Row(f"memory, {name}", "20 MiB above imports", {}, f"{float(done.stdout):.1f} MiB"))


def walking(bench: Bench) -> None:
    """A whole ``target-query -f walkfs`` of a VM, by whichever reader is in front; CPU seconds and peak memory."""
    if bench.only not in "walkfs of 1,000 files":
        return
    if shutil.which("mke2fs") is None or importlib.util.find_spec("dissect.extfs") is None:
        print("walkfs: skipped, mke2fs or dissect.extfs is not installed")
        return
    vmx = images.file_system(bench.folder / "files", 1_000)
    code = """
import sys, time
from dissect.target.tools.query import main
sys.argv = ["target-query", "-q", "-f", "walkfs", "-s", sys.argv[1]]
try: main()
finally:
    peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
    print(time.process_time(), peak, file=sys.stderr)
"""
    seconds: dict[str, list[float]] = {"ours": [], "dissect": []}
    peak: dict[str, float] = {}
    records: set[int] = set()
    for _ in range(max(1, bench.rounds // 2)):
        for name, autoload in (("ours", "1"), ("dissect", "0")):
            done = subprocess.run([os.sys.executable, "-c", code, vmx], capture_output=True, text=True, check=True,
                                  env={**os.environ, "DISSECT_SESPARSE_AUTOLOAD": autoload})  # fmt: skip
            records.add(sum("$sesparse$" not in line for line in done.stdout.splitlines()))
            taken, most = map(float, done.stderr.split()[-2:])
            seconds[name].append(taken)
            peak[name] = max(peak.get(name, 0), most)
    taken = {name: statistics.median(values) for name, values in seconds.items()}
    note = f"{min(records)} records, peak {peak['ours']:.0f} MiB, dissect {peak['dissect']:.0f} MiB"
    if len(records) > 1:
        note += ": THEY DIFFER"
    bench.add(Row("walkfs of 1,000 files", "never slower, nor more memory", taken, note))


PARTS = (
    sequential, scattered_reads, opening, without_descriptor, two_threads, classifying, reporting, *many.PARTS, memory,
    walking, *files.PARTS,
)  # fmt: skip

HEAD = """# Performance

Written by `python benchmarks/run.py --write docs/performance.md`. Images on a memory file system, readers opened afresh each
round, contestants in turn, medians of {rounds} rounds, CPU milliseconds of the process. The columns of the others say how many
times our time they take; for the *limit* (the same pieces resolved beforehand, by `pread` and one join) that is at most 1.

{where}

| work | ours, ms | dissect | limit | QEMU | goal | |
|---|---|---|---|---|---|---|
"""

TAIL = """
## What the time goes to

- *Scattered, and the limit of thin chains*: what is left is Python's work for each piece: a list of lengths, one of places, one
  call each. The limit has them ready.
- *Random 4 KiB*: a look-up is three system calls (directory, table, grain) for each link that is asked, where nothing near was
  asked for yet; a window of a long chain is resolved after few of them. Where the chain is small and warm, the stream and the
  window's dictionary take most of it. Goals of small chains are of a prototype on another machine, where dissect took longer for
  the same.
- *Open with four links*: most of it is resolving paths, so that no link of a hostile chain leads out of the evidence.
- *Without a file descriptor, chain of 1*: cutting small pieces out of bounded reads, in Python. Reads of 128 KiB or more would
  cost ten times their copy, as each is new memory of the system.
- *A million runs*: they are read and compared together, but each is an object at the end.
- *Digests*: MD5 is made by a thread of its own; it takes as long as the two others and the entropy.
- *Start*: what is left is the descriptors of the records and the wrappers. numpy and the reader are loaded at the first disk;
  where they cannot be, that is said, above what `-q` silences, instead of dissect taking its own container without a word.
- *Files of many states*: a row of Python for each file of each state. `files` reads what differs between the states alone; what
  `changes --files` and `versions` must look at besides is where each file lies, as its clusters may be written in place. Before each
  snapshot a hundred files are written, made, renamed or deleted, however many there are, by ntfs-3g or Linux. Contents are read
  where they may differ.
- *walkfs*: nearly all of it is the file system's own code.

How much faster a fleet is hashed by two workers than by one: `python benchmarks/fleet.py`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm/dissect-sesparse-bench"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="rows with this word")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--keep", action="store_true", help="keep the images for the next run")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.folder, options.rounds, options.only)
    try:
        for part in PARTS:
            part(bench)
    finally:
        if not options.keep:
            shutil.rmtree(options.folder, ignore_errors=True)
    if options.write:
        where = f"dissect-sesparse {__version__}, Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}."
        rows = "\n".join(map(line, bench.rows))
        before = options.write.read_text(encoding="utf-8") if options.write.exists() else ""
        others = "".join(before.partition("\n## Export\n")[1:])  # which exporting.py writes
        text = HEAD.format(rounds=options.rounds, where=where) + rows + "\n" + TAIL + others
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
