"""How much faster two workers are than one: ``python benchmarks/fleet.py``, on a machine with two idle cores.

VMs whose trimmed bytes have to be hashed, through the command, rounds of one and of two workers in turn. What is compared is
the time from the first VM handed out to the last one done; starting processes and loading dissect (some seconds, the same for
a case of any size) is told beside it, by the time of the whole command. So is the processor time of the busiest worker: on
a machine that others use too it tells how evenly the work was shared, and what sharing it costs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from sesparse_builder import ChainBuilder, vmx

from dissect_sesparse import cli
from dissect_sesparse.fleet import driver

GOAL = 1.7
GRAIN = 4096


def make(folder: Path, vms: int, mib: int) -> None:
    """VMs with so many MiB of trimmed bytes each: one, and its copies; and one with next to nothing, to start with."""
    for name, size in (("case/vm00", mib), ("start", 1)):
        noise = random.Random(size).randbytes(size << 20)
        chain = ChainBuilder(folder / name, max(mib, 32) * 4096, name="disk")
        extent = chain.add_delta()
        for grain in range(size * 256):
            extent.unmap(grain, noise[grain * GRAIN : (grain + 1) * GRAIN])
        (folder / name / "vm.vmx").write_bytes(vmx([chain.write().name], "vm").encode())
    for number in range(1, vms):
        shutil.copytree(folder / "case" / "vm00", folder / "case" / f"vm{number:02}")


def measure(case: Path, out: Path, workers: int) -> tuple[float, float, float]:
    """Seconds of the work alone, of the processor for the busiest worker, and of the command."""
    seconds = []
    run = driver.Driver.run

    def timed(self, vms):
        self.client.run(start, str(case.parent / "start" / "vm.vmx"))
        before = self.client.run(time.process_time)
        begun = time.perf_counter()
        run(self, vms)
        seconds.append(time.perf_counter() - begun)
        after = self.client.run(time.process_time)
        seconds.append(max(after[worker] - before[worker] for worker in before))

    driver.Driver.run = timed
    begun = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            code = cli.main(
                ["fleet", f"{case}/*", "-o", str(out), "--functions", "unmapped", "--workers", str(workers)]
            )
    finally:
        driver.Driver.run = run
    if code:
        raise SystemExit(said.getvalue())
    return seconds[0], seconds[1], time.perf_counter() - begun


def start(path: str) -> None:
    """What takes a process seconds, once: load dissect with all of its plugins, and libraries that records need."""
    import pyarrow.parquet  # noqa: F401
    from dissect.target import Target

    target = Target.open(path)
    list(target.sesparse.unmapped())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vms", type=int, default=16)
    parser.add_argument("--mib", type=int, default=64, help="of trimmed bytes in each")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        case = Path(folder) / "case"
        make(Path(folder), options.vms, options.mib)
        taken: dict[int, list[tuple[float, float, float]]] = {1: [], 2: []}
        for number in range(options.rounds):
            for workers, times in taken.items():
                times.append(measure(case, Path(folder) / f"out-{number}-{workers}", workers))
    one, two = ([statistics.median(column) for column in zip(*taken[workers])] for workers in (1, 2))
    for name, (work, busiest, command) in (("1 worker ", one), ("2 workers", two)):
        print(f"{name}: {work:.2f} s of work, {busiest:.2f} CPU s of the busiest, {command:.2f} s the command")
    ratio = one[0] / two[0]
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    print(f"{options.vms} VMs of {options.mib} MiB: two workers are {ratio:.2f} times as fast as one, wanted {GOAL};")
    print(f"by CPU seconds of the busiest {one[1] / two[1]:.2f} times; load of the machine {load}")
    return 0 if ratio >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
