"""How much faster two workers are than one: ``python benchmarks/fleet.py``, on a machine with two idle cores.

VMs whose trimmed bytes have to be hashed, through the command, rounds of one and of two workers in turn. What is compared is
the time from the first VM handed out to the last one done; starting processes and loading dissect (some seconds, the same for
a case of any size) is told beside it, by the time of the whole command.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from sesparse_builder import ChainBuilder, vmx

from dissect_sesparse import cli
from dissect_sesparse.commands.fleet import cluster, driver

GOAL = 1.7
GRAIN = 4096


def make(folder: Path, vms: int, mib: int) -> None:
    """VMs with so many MiB of trimmed bytes each, of which no two grains are the same."""
    import random

    for number in range(vms):
        noise = random.Random(number).randbytes(mib << 20)
        chain = ChainBuilder(folder / f"vm{number:02}", mib * 4096, name="disk")
        extent = chain.add_delta()
        for grain in range(mib * 256):
            extent.unmap(grain, noise[grain * GRAIN : (grain + 1) * GRAIN])
        (folder / f"vm{number:02}" / "vm.vmx").write_bytes(vmx([chain.write().name], "vm").encode())


def measure(case: Path, out: Path, workers: int) -> tuple[float, float]:
    """Seconds of the work alone, and of the command."""
    seconds = []
    run = driver.Driver.run

    def timed(self, vms):
        # Loading dissect takes seconds, once a process
        self.client.run(load)
        start = time.perf_counter()
        run(self, vms)
        seconds.append(time.perf_counter() - start)

    driver.Driver.run = timed
    start = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            code = cli.main(
                ["fleet", f"{case}/*", "-o", str(out), "--functions", "unmapped", "--workers", str(workers)]
            )
    finally:
        driver.Driver.run = run
    if code:
        raise SystemExit(said.getvalue())
    return seconds[0], time.perf_counter() - start


def load() -> None:
    """What a worker loads for its first VM."""
    import numpy  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    from dissect.target import plugin

    from dissect_sesparse.commands.fleet import collect, work  # noqa: F401
    from dissect_sesparse.target import disk_records  # noqa: F401

    plugin.plugins()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vms", type=int, default=16)
    parser.add_argument("--mib", type=int, default=64, help="of trimmed bytes in each")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        case = Path(folder) / "case"
        make(case, options.vms, options.mib)
        taken: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
        for number in range(options.rounds):
            for workers, times in taken.items():
                times.append(measure(case, Path(folder) / f"out-{number}-{workers}", workers))
    alone, command = ([statistics.median(column) for column in zip(*taken[workers])] for workers in (1, 2))
    for workers, (work, all_of_it) in ((1, alone), (2, command)):
        print(f"{workers} worker{'s' if workers > 1 else ''}: {work:.2f} s of work, {all_of_it:.2f} s the command")
    ratio = alone[0] / command[0]
    print(f"{options.vms} VMs of {options.mib} MiB: two workers are {ratio:.2f} times as fast as one, wanted {GOAL}")
    return 0 if ratio >= GOAL else 1


if __name__ == "__main__":
    assert cluster  # what the command starts is what is measured
    sys.exit(main())
