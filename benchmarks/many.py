"""Rows of the table that are about very many things at once, about digests, and about what a tool pays that opens no disk.

Each is measured in a child of its own, so that its memory is its own too.
"""

from __future__ import annotations

import os
import statistics
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import images

if TYPE_CHECKING:
    from pathlib import Path

    from run import Bench

GIB = 1 << 30
TABLES = 512
"""Of half a million grains in use and half a million more: a disk of 8 GiB."""

CHILD = """
import sys, time
from dissect_sesparse import open_chain
{imports}
chain = open_chain(sys.argv[1], unreadable="zero")
start = time.process_time()
count = {work}
seconds = time.process_time() - start
print(seconds, count, int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024)
"""


def child(code: str, *arguments: object, autoload: str = "1") -> list[float]:
    """The numbers that some code prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "DISSECT_SESPARSE_AUTOLOAD": autoload}
    return [
        float(word) for word in subprocess.run(command, check=True, capture_output=True, env=environment).stdout.split()
    ]


def million(bench: Bench) -> None:
    """Runs of one grain, every second one unmapped; and a backmap in which each word names another grain."""
    for work, goal, disk, imports, code in (
        (
            "unmapped, a million runs, no hash", "8 s, 200 MiB", unmapped_disk,
            "from dissect_sesparse.trimmed.unmapped import unmapped",
            "sum(1 for _ in unmapped(chain, contents=False))",
        ),
        (
            "report of a million unmapped runs", "10 s", unmapped_disk,
            "from dissect_sesparse.recovery.recover import Source\nfrom dissect_sesparse.report.content import report",
            "report([Source(chain)], hashes=False).unmapped.total",
        ),
        (
            "findings of a million backmap mismatches", "2 s", mismatched_disk,
            "from dissect_sesparse.findings.findings import findings", "sum(1 for _ in findings(chain))",
        ),
    ):  # fmt: skip
        if bench.only not in work:
            continue
        path = disk(bench.folder)
        taken = [child(CHILD.format(imports=imports, work=code), path) for _ in range(min(3, bench.rounds))]
        count, peak = int(taken[0][1]), max(one[2] for one in taken)
        bench.row(work, goal, {"ours": statistics.median(one[0] for one in taken)}, f"{count}; peak {peak:.0f} MiB")


def unmapped_disk(folder: Path) -> Path:
    """Every second grain is unmapped, and its place has bytes or is a hole."""

    def entries(table: int) -> list[int]:
        places = range(table * images.TABLE, (table + 1) * images.TABLE)
        return [0 if place % 2 else 1 << 60 | (place & 0xFFF) << 48 | place >> 12 for place in places]

    size = TABLES * images.TABLE * images.GRAIN
    newest = folder / "million" / "vm-000001.vmdk"
    if not newest.exists():
        images.chain(folder / "million", size, [entries], fill=False)
        start = images.ExtentBuilder(size // 512).grains_sector * 512
        with (folder / "million" / "vm-000001-sesparse.vmdk").open("r+b") as fh:
            fh.truncate(start + size)
            fh.seek(start)
            for _ in range(64):
                fh.write(images.NOISE)
    return newest


def mismatched_disk(folder: Path) -> Path:
    """An extent whose tables are in order, and whose backmap names another grain for each place."""
    tables = TABLES // 2
    path = folder / "mismatched-sesparse.vmdk"
    if path.exists():
        return path
    extent = images.ExtentBuilder(tables * images.TABLE * images.GRAIN // 512)
    extent.write(path)
    entries = [entry for table in range(tables) for entry in images.in_order(table)]
    words = [1 << 60 | entry & (1 << 60) - 1 ^ 1 << 55 for entry in entries]
    with path.open("r+b") as fh:
        directory = [0x10000000 << 32 | table for table in range(tables)]
        for sector, values in (
            (extent.directory_sector, directory), (extent.tables_sector, entries), (extent.backmap_sector, words),
        ):  # fmt: skip
            fh.seek(sector * 512)
            fh.write(struct.pack(f"<{len(values)}Q", *values))
        fh.seek(extent.bitmap_sector * 512)
        fh.write(b"\xff" * (len(entries) // 8))
        fh.truncate(extent.grains_sector * 512 + len(entries) * images.GRAIN)
    return path


DIGESTS = """
import os, statistics, time
from dissect_sesparse.trimmed import content
data = [os.urandom(16 << 20) for _ in range(4)]
def rate(what):
    start, cpu = time.perf_counter(), time.process_time()
    for one in data:
        what(one)
    return 64 * 1.048576 / (time.perf_counter() - start), time.process_time() - cpu
def alone(one):
    content.digest(one), content.entropy(one), content.signature(one)
rate(content.describe), rate(alone)
found = [(rate(content.describe), rate(alone)) for _ in range(5)]
print(*(statistics.median(values) for values in zip(*[(both[0], both[1], one[0]) for both, one in found])))
"""


def digests(bench: Bench) -> None:
    """Three digests, entropy and type of runs of 16 MiB: by the clock, as two cores are at it."""
    if bench.only not in "digests of recovered bytes":
        return
    both, cpu, one = child(DIGESTS)
    note = f"{both:.0f} MB/s by the clock, {both / one:.2f} times one thread"
    bench.row("digests of recovered bytes", "400 MB/s on two cores", {"ours": cpu}, note)


def starting(bench: Bench) -> None:
    """What a dissect tool pays for this package before it opens a disk: its imports with and without."""
    work = "start of a dissect tool that opens no disk of ours"
    if bench.only not in work:
        return
    code = "import time, dissect.target.tools.query; print(time.process_time())"
    taken: dict[str, list[float]] = {"ours": [], "dissect": []}
    for _ in range(2 * bench.rounds + 1):
        for name, autoload in (("ours", "1"), ("dissect", "0")):
            taken[name].append(child(code, autoload=autoload)[0])
    seconds = {name: statistics.median(values[1:]) for name, values in taken.items()}
    bench.row(work, "0.03 s more", seconds, f"{seconds['ours'] - seconds['dissect']:+.3f} s")


PARTS = (million, digests, starting)
