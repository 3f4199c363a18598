"""``export`` beside ``qemu-img convert``: ``python benchmarks/exporting.py [--write docs/performance.md] [--only WORD]``.

Images on a memory file system, contestants in turn, medians of the rounds, seconds by the clock and of the processor. What of
ours is measured is the export, not the loading of Python; of the others the whole command. With digests QEMU's row is that of
``qemu-img convert`` and then ``md5sum``, ``sha1sum`` and ``sha256sum`` of the image, and ``sha256sum`` of the evidence, at once:
what an examiner runs. Each row says whether the bytes were the same, and how much room either image takes.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import images
from images import MIB

GIB, TIB = 1 << 30, 1 << 40
OURS = """
import resource, sys, time
from pathlib import Path
import numpy
from dissect_sesparse import open_chain
from dissect_sesparse.recovery.export import ExportOptions, WantedDisk, export
from dissect_sesparse.recovery.export_image import WantedImage
from dissect_sesparse.time.changes import DiskState
before = resource.getrusage(resource.RUSAGE_SELF)
start = time.perf_counter()
with open_chain(sys.argv[1]) as chain:
    options = ExportOptions(sys.argv[3], hashes=sys.argv[4] == "1")
    export([WantedDisk("disk", (WantedImage(DiskState(chain, 0)),))], Path(sys.argv[2]), options)
clock = time.perf_counter() - start
after = resource.getrusage(resource.RUSAGE_SELF)
print(clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
"""
DISKS: dict[str, tuple[int, Callable[[], list]]] = {
    "in order, 256 MiB": (256 * MIB, lambda: [images.in_order]),
    "scattered grains, 128 MiB": (128 * MIB, lambda: [images.scattered(128 * MIB)]),
    "runs of 16 grains, mixed states, chain of 4, 128 MiB": (
        128 * MIB,
        lambda: [images.mixed(16, n) for n in range(4)],
    ),
    "thin deltas, chain of 16, 256 MiB": (256 * MIB, lambda: [images.thin(n) for n in range(16)]),
    "mostly holes, 2 TiB with 64 MiB": (2 * TIB, lambda: [images.only(set(range(0, 131072, 32768)))]),
}


def ours(disk: Path, out: Path, kind: str, hashes: str) -> tuple[float, float]:
    command = [sys.executable, "-c", OURS, disk, out, kind, hashes]
    clock, cpu = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(clock), float(cpu)


def qemu(disk: Path, out: Path, kind: str, hashes: str) -> tuple[float, float]:
    out.mkdir()
    image, files = out / f"disk.{kind}", sorted(disk.parent.glob("*.vmdk"))
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(["qemu-img", "convert", "-f", "vmdk", "-O", kind, disk, image], check=True)
    if hashes == "1":
        sums = [[name, image] for name in ("md5sum", "sha1sum", "sha256sum")] + [["sha256sum", *files]]
        for done in [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in sums]:
            done.wait()
    clock = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(disk: Path, work: Path, kind: str, hashes: str, rounds: int) -> str:
    """A row of the table."""
    taken: dict[str, list[tuple[float, float]]] = {"ours": [], "qemu": []}
    for number in range(rounds):
        for name, contestant in (("ours", ours), ("qemu", qemu)):
            shutil.rmtree(work / name, ignore_errors=True)
            taken[name].append(contestant(disk, work / name, kind, hashes))
        if not number:
            told = compared(work, kind)
    clock, cpu = (
        {name: statistics.median(each[column] for each in rows) for name, rows in taken.items()} for column in (0, 1)
    )
    return (
        f"{clock['ours']:.2f} | {clock['qemu']:.2f} | {cpu['ours']:.2f} | {cpu['qemu']:.2f} | "
        f"{clock['qemu'] / clock['ours']:.2f} | {told}"
    )


def compared(work: Path, kind: str) -> str:
    (mine,) = (work / "ours").glob(f"*.{kind}")
    theirs = work / "qemu" / f"disk.{kind}"
    same = subprocess.run(
        ["qemu-img", "compare", "-q", "-f", kind, "-F", kind, mine, theirs], stdout=subprocess.DEVNULL
    )
    rooms = [path.stat().st_blocks * 512 >> 20 for path in (mine, theirs)]
    return f"{'same bytes' if not same.returncode else 'THEY DIFFER'}, {rooms[0]} and {rooms[1]} MiB"


HEAD = """## Export

Written by `python benchmarks/exporting.py --write docs/performance.md`: `export` beside `qemu-img convert`. Images on a memory
file system, in turn, medians of {rounds} rounds, seconds by the clock and of the processor, without the loading of Python. With
digests, QEMU's is `qemu-img convert`, then at once `md5sum`, `sha1sum` and `sha256sum` of the image and `sha256sum` of the
evidence; ours makes all three of both. {where}

| disk | format | digests | ours, s | QEMU, s | ours, CPU s | QEMU, CPU s | QEMU's time by ours | |
|---|---|---|---|---|---|---|---|---|
"""


def rows_of(options: argparse.Namespace) -> Iterator[str]:
    for number, (name, (size, deltas)) in enumerate(DISKS.items()):
        if options.only not in name:
            continue
        disk = images.chain(options.folder / f"disk{number}", size, deltas())
        for kind, hashes in (("raw", "0"), ("raw", "1"), ("qcow2", "0")):
            if hashes == "1" and size > 64 * GIB:
                continue  # the sums of a terabyte of holes take hours, and ours makes none
            row = measure(disk, options.folder, kind, hashes, options.rounds)
            yield f"| {name} | {kind} | {'yes' if hashes == '1' else 'no'} | {row} |"
        shutil.rmtree(options.folder / f"disk{number}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm/dissect-sesparse-bench-export"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="disks with this word")
    parser.add_argument("--write", type=Path, help="a page whose part about the export is replaced")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    where = f"{os.cpu_count()} cores, which others used too where the load is above 1: {load:.1f} at the start."
    head, found = HEAD.format(rounds=options.rounds, where=where), []
    print(head, end="")
    try:
        for row in rows_of(options):
            print(row, flush=True)
            found.append(row)
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
    if options.write:
        kept = options.write.read_text(encoding="utf-8").partition("\n## Export\n")[0].rstrip("\n")
        options.write.write_text(kept + "\n\n" + head + "\n".join(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
