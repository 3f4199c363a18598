"""Rows of the table that are about very many files: what each state of a disk has, what changed, and each file's versions.

The disks are written by real drivers (ntfs-3g, Linux), which needs Linux and root; elsewhere the rows are left out, and said to
be.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from images import GRAIN
from many import child
from sesparse_builder import ChainBuilder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from run import Bench

KINDS = {"ntfs": ("mkntfs", "-F", "-Q", "-q"), "ext4": ("mkfs.ext4", "-q", "-N")}
IN_FOLDER = 100
TOUCHED = 100
"""Files that the guest changes, makes, deletes or renames before each snapshot, however many there are."""


def missing(kind: str) -> str | None:
    """Why no disk can be written by the driver of a file system; ``None`` where one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it needs Linux and root: drivers mount images"
    tools = [KINDS[kind][0], "mount", *(["ntfs-3g"] if kind == "ntfs" else [])]
    lost = [tool for tool in tools if shutil.which(tool) is None]
    return f"not installed: {', '.join(lost)}" if lost else None


@contextlib.contextmanager
def mounted(kind: str, image: Path) -> Iterator[Path]:
    """An image by its driver, unmounted behind."""
    with tempfile.TemporaryDirectory() as folder:
        driver = None
        if kind == "ntfs":
            driver = subprocess.Popen(
                ["ntfs-3g", "-o", "no_detach", str(image), folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            while not os.path.ismount(folder):
                if driver.poll() is not None:
                    raise RuntimeError(f"ntfs-3g ended with {driver.returncode}")
                time.sleep(0.01)
        else:
            subprocess.run(["mount", "-o", "loop", str(image), folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True, stdout=subprocess.DEVNULL)
            if driver is not None:
                driver.wait()


def path_of(number: int) -> str:
    return f"folder-{number // (IN_FOLDER * 100)}/folder-{number // IN_FOLDER}/file-{number}.txt"


def content_of(number: int, version: int) -> bytes:
    return f"file {number} version {version}\n".encode() * (20 + number % 200)


def change(root: Path, files: int, version: int) -> None:
    """What the guest does before a snapshot: of each hundred files fifty are written, twenty made, deleted ten, renamed ten."""
    step = max(1, files // TOUCHED)
    for turn, number in enumerate(range(version % step, files, step)):
        path = root / path_of(number)
        if turn % 10 < 5 or not path.exists():
            path.write_bytes(content_of(number, version))
        elif turn % 10 < 7:
            path.with_name(f"made-{version}-{number}.txt").write_bytes(content_of(number, version))
        elif turn % 10 < 8:
            path.unlink()
        else:
            path.rename(path.with_name(f"renamed-{version}-{number}.txt"))


def history(folder: Path, kind: str, files: int, snapshots: int) -> Path:
    """A disk with so many files and so many snapshots; returns the newest descriptor."""
    newest = folder / f"vm-{snapshots:06d}.vmdk"
    if newest.exists():
        return newest
    folder.mkdir(parents=True)
    image = folder / "image"
    size = max(64 << 20, files * 12_000 // (1 << 20) * (1 << 20))
    with image.open("wb") as fh:
        fh.truncate(size)
    command = [*KINDS[kind], *([str(files * 2)] if kind == "ext4" else []), str(image)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with mounted(kind, image) as root:
        for number in range(files):
            path = root / path_of(number)
            if number % IN_FOLDER == 0:
                path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content_of(number, 0))
    chain = ChainBuilder(folder, size // 512, {})
    grains = np.fromfile(image, np.uint64).reshape(-1, GRAIN // 8)
    chain.base = {int(grain) * 8: grains[grain].tobytes() for grain in np.flatnonzero(grains.any(axis=1))}
    for version in range(1, snapshots + 1):
        with mounted(kind, image) as root:
            change(root, files, version)
        changed = np.fromfile(image, np.uint64).reshape(-1, GRAIN // 8)
        extent = chain.add_delta()
        for grain in np.flatnonzero((changed != grains).any(axis=1)):
            extent.allocate(int(grain), changed[grain].tobytes())
        grains = changed
    image.unlink()
    return chain.write()


CHILD = """
import sys, time
from dissect_sesparse import open_chain
from dissect_sesparse.files.changed_files import changed_files
from dissect_sesparse.files.changed_ranges import ChangedRanges
from dissect_sesparse.files.deleted import measure
from dissect_sesparse.files.file_systems import deleted_files
from dissect_sesparse.history.file_versions import file_versions
from dissect_sesparse.time.changes import DiskState, changes

def files(chain):
    return sum(measure(file).size >= 0 for file in deleted_files(chain, print))

def changed(chain):
    states = DiskState(chain, len(chain.links) - 1), DiskState(chain, 0)
    ranges = ChangedRanges()
    for change in changes(*states):
        ranges.add(change)
    return sum(1 for _ in changed_files(*states, ranges, print))

def versions(chain):
    return sum(1 for _ in file_versions(chain, None, print))

chain = open_chain(sys.argv[2])
start = time.process_time()
count = {"files": files, "changes --files": changed, "versions --changed": versions}[sys.argv[1]](chain)
print(time.process_time() - start, count, int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024)
"""

SIZES = ((20_000, 2), (40_000, 2), (20_000, 4))
"""Files, and links above the base: as many again of either."""


def of_states(bench: Bench) -> None:
    """Files of all states: how long each function takes, and how that grows with files and snapshots."""
    for kind in KINDS:
        name = f"of {kind}"
        if bench.only not in f"files, changes --files, versions --changed {name}":
            continue
        if why := missing(kind):
            print(f"{name}: left out: {why}")
            continue
        for what, goal in (
            ("files", ""),
            ("changes --files", "2 x files, linear in files"),
            ("versions --changed", "linear in files and snapshots"),
        ):
            _growth(bench, kind, what, goal)
        files, snapshots = LARGE
        path = history(bench.folder / f"{kind}-{files}-{snapshots}", kind, files, snapshots)
        for what in ("changes --files", "versions --changed"):
            seconds, count, peak = child(CHILD, what, path)
            work = f"{what} {name}, {files:,} files, {snapshots} snapshots"
            bench.row(work, "500 MiB", {"ours": seconds}, f"{count:.0f} records; peak {peak:.0f} MiB")
        shutil.rmtree(path.parent)


LARGE = (100_000, 16)


def _growth(bench: Bench, kind: str, what: str, goal: str) -> None:
    """A row for some files and snapshots, with how many times as long twice as many of either take."""
    taken = []
    for files, snapshots in SIZES:
        path = history(bench.folder / f"{kind}-{files}-{snapshots}", kind, files, snapshots)
        rounds = [child(CHILD, what, path) for _ in range(min(3, bench.rounds))]
        taken.append((statistics.median(one[0] for one in rounds), rounds[0][1], max(one[2] for one in rounds)))
    seconds, count, peak = taken[0]
    files, snapshots = SIZES[0]
    note = f"{count:.0f} records; peak {peak:.0f} MiB; twice the files: {taken[1][0] / seconds:.2f} times, "
    note += f"twice the snapshots: {taken[2][0] / seconds:.2f} times"
    bench.row(f"{what} of {kind}, {files:,} files, {snapshots} snapshots", goal, {"ours": seconds}, note)


PARTS = (of_states,)
