"""Runs the table of cases for three readers, and writes what came of it: ``python tests/validation.py --write docs/validation.md``.

The three are this package, dissect's own reader (the same code without ``register()``) and ``qemu-img`` (``convert``, and ``dd``
where that says otherwise). Each disk is read by each of them in a process of its own, with limits of time and memory. Takes
some minutes; without ``--write`` the rows go to standard output, and ids may be given to run only some.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).parent
sys.path += [str(HERE.parent / "examples"), str(HERE / "support")]

import running
from cases import CASES, Box, Disk, Machine
from cases.picture import SMALL
from running import MIB, SECONDS, Reading, compare, forked, logged, reader, resource, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cases import Case, Slot
    from cases.picture import Picture

READERS = ("this package", "dissect", "QEMU")
MEMORY = 256 * MIB
CEILING = 6144 * MIB
"""No process may take more, so that the machine stays usable."""

RIGHT = "right"
REFUSED = "refused"
IN_PART = "right, the rest refused"
ERROR = "error, could be read"
UNSAID = "right, no warning"
SERVED = "served, no warning"
WRONG = "wrong bytes"
MISSING = "a disk is missing"
OTHER = "not these disks"
LOST = "target lost"
KILLED = f"more than {SECONDS} s"
CRASHED = "crashed"
NOTHING = "-"
DOUBTFUL = {"cid-mismatch", "journal-dirty", "padding-nonzero", "place-shared", "table-shared", "backmap-mismatch"}
"""Findings without which bytes look more certain than they are."""
WORST_FIRST = (KILLED, CRASHED, LOST, WRONG, SERVED, OTHER, MISSING, UNSAID, ERROR, IN_PART, REFUSED, RIGHT, NOTHING)

MEANING = {
    RIGHT: "All bytes, and a warning where one is due.",
    REFUSED: "An error, where there is no right answer.",
    IN_PART: "Reads of what cannot be had raise; everything else is right and in place.",
    ERROR: "An error where the bytes are there.",
    UNSAID: "The bytes are right, but nothing is said of what makes them doubtful (such as a changed parent).",
    SERVED: "Bytes that may be right, from a file that says that it cannot be trusted, without a word.",
    WRONG: "Bytes that are not the disk's, or not as many, without an error. "
    "“(dd)”: `convert` ends with an error, a plain read does not.",
    MISSING: "A disk that can be read is left out of the target.",
    OTHER: "The target has disks that are not its own, or not in its order; or there are other targets.",
    LOST: "The target does not open at all, so that its good disk is lost too.",
    KILLED: f"Stopped after {SECONDS} s of processor time.",
    CRASHED: "The process was ended by a signal.",
}


@dataclass(frozen=True)
class Verdict:
    """What a reader made of a case."""

    word: str
    loses_target: bool = False
    """Whether a machine with this disk loses its other, good one."""
    peak: int = 0
    """Bytes of memory."""
    note: str = ""

    def __str__(self) -> str:
        more = []
        if self.loses_target and self.word != LOST:
            more.append(LOST)
        if self.peak > MEMORY:
            more.append(f"{self.peak / 2**30:.1f} GiB")
        return ", ".join([f"{self.word} ({self.note})" if self.note else self.word, *more])


def worst(words: Iterable[str]) -> str:
    return min(words, key=WORST_FIRST.index)


# Judging


def judge(disk: Disk, size: int, readings: list[Reading], warned: bool) -> str:
    """The word for a disk that was opened and read."""
    wrong = any(reading.wrong or reading.invented for reading in readings) or size != disk.picture.sectors * 512
    if disk.outcome == "refused":
        if not any(reading.worked for reading in readings):
            return REFUSED
        return WRONG if wrong else SERVED
    if wrong:
        return WRONG
    if any(reading.failed for reading in readings):
        return ERROR
    if not warned and any(set(group.split("|")) & DOUBTFUL for group in disk.findings):
        return UNSAID
    return RIGHT if disk.outcome == "right" else IN_PART


def read_all(read: Callable[[int, int], bytes], picture: Picture) -> list[Reading]:
    """Read a disk by all patterns."""
    return [compare(read, picture, step) for step in running.PATTERNS.values()]


# Dissect, with this package and without


def see_disk(disk: Disk, ours: bool) -> str:
    """What ``container.open`` makes of a disk; where it is not this package's to take, its ``open_chain``."""
    with logged() as log:
        try:
            opened = _open(disk, ours)
        except Exception:
            return REFUSED if disk.outcome == "refused" else ERROR
        size = opened.seek(0, io.SEEK_END) if ours and not disk.ours else opened.size
        warned = bool(log) or _has_findings(opened)
        return judge(disk, size, read_all(reader(opened), disk.picture), warned)


def _open(disk: Disk, ours: bool) -> Any:
    from dissect.target import container

    from dissect_sesparse import open_chain

    return open_chain(source_of(disk)).open() if ours and not disk.ours else container.open(source_of(disk))


def _has_findings(opened: Any) -> bool:
    """Whether ``sesparse.findings`` would warn of a disk of this package."""
    from dissect_sesparse.findings.findings import findings

    chain = getattr(opened, "chain", None)
    return chain is not None and any(finding.level != "info" for finding in findings(chain))


def see_machine(machine: Machine) -> str:
    """What ``Target.open`` makes of a machine."""
    from dissect.target import Target

    with logged() as log:
        try:
            targets = list(Target.open_all([machine.source])) if machine.together else [Target.open(machine.source)]
        except Exception:
            return LOST
    if len(targets) != 1:
        return OTHER
    disks = {getattr(disk.fh, "name", str(disk.fh)).rpartition("/")[2]: disk for disk in targets[0].disks}
    words = [_see_slot(slot, disks) for slot in machine.slots]
    wanted = [slot.name for slot in machine.slots if slot.name in disks]
    if list(disks) != wanted:
        words.append(OTHER)
    if machine.says and not any(word in line for word in machine.says for line in log):
        words.append(UNSAID)
    return worst(words)


def _see_slot(slot: Slot, disks: dict[str, Any]) -> str:
    if (disk := disks.get(slot.name)) is None:
        return MISSING if slot.needed else RIGHT
    if slot.picture is None:
        return WRONG if running.can_be_read(disk) else RIGHT
    if disk.size != slot.picture.sectors * 512:
        return WRONG
    readings = read_all(reader(disk), slot.picture)
    if any(reading.wrong or reading.invented for reading in readings):
        return WRONG
    return ERROR if any(reading.failed for reading in readings) else RIGHT


def in_dissect(wanted: list[Disk | Machine], box: Box, ours: bool) -> Verdict:
    """What dissect makes of a case, in processes of its own."""

    def see(built: Callable[[], None]) -> list[str]:
        _prepare(ours)
        built()
        return [see_machine(one) if isinstance(one, Machine) else see_disk(one, ours) for one in wanted]

    def survive(built: Callable[[], None]) -> bool:
        _prepare(ours)
        machines = [running.beside_good(one, box) for one in wanted if isinstance(one, Disk)]
        built()
        told = [told for machine in machines if machine is not None for told in running.check_survival(machine)]
        return any(running.WHOLE_TARGET_LOST in line for line in told)

    seen = forked(see)
    survived = forked(survive)
    loses = bool(survived.result) or survived.result is None
    if seen.result is None:
        return Verdict(KILLED if "more than" in (seen.problem or "") else CRASHED, loses, seen.peak)
    word = worst(seen.result)
    note = "" if not ours or all(getattr(one, "ours", True) for one in wanted) else "by `open_chain`"
    return Verdict(word, loses or word == LOST, seen.peak, note)


def _prepare(ours: bool) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (CEILING, resource.RLIM_INFINITY))
    if ours:
        from dissect_sesparse.target.registration import register

        register()


# QEMU


def in_qemu(wanted: list[Disk | Machine], folder: Path) -> Verdict:
    """What qemu-img makes of a case."""
    disks = [one for one in wanted if isinstance(one, Disk) and one.path is not None]
    verdicts = [_qemu_disk(disk, folder) for disk in disks]
    if not verdicts:
        return Verdict(NOTHING)
    return min(verdicts, key=lambda verdict: WORST_FIRST.index(verdict.word))


def _qemu_disk(disk: Disk, folder: Path) -> Verdict:
    if disk.picture.sectors > SMALL:
        return _qemu_windows(disk, folder)
    out = folder / "out.raw"
    word, peak = _qemu_read(disk, ["convert", "-O", "raw", str(disk.path), str(out)], out)
    if word == UNSAID and _qemu(["check", str(disk.path)])[1] == "error":
        return Verdict(RIGHT, peak=peak, note="`check` errs")
    if word is not None:
        return Verdict(word, peak=peak)
    word, more = _qemu_read(disk, ["dd", "-O", "raw", f"if={disk.path}", f"of={out}", "bs=1M"], out)
    if word in (WRONG, SERVED, KILLED, CRASHED):
        return Verdict(word, peak=max(peak, more), note="dd")
    return Verdict(ERROR if disk.outcome == "right" else REFUSED, peak=max(peak, more))


def _qemu_read(disk: Disk, arguments: list[str], out: Path) -> tuple[str | None, int]:
    """Make qemu-img write the whole disk, and judge it; ``None`` where it ends with an error."""
    status, said, peak = _qemu(arguments)
    if status is not None or said == "error":
        return status, peak
    with out.open("rb") as fh:
        part = compare(reader(fh), disk.picture, 2048)
        word = judge(disk, fh.seek(0, io.SEEK_END), [part], said == "warned")
    out.unlink()
    return word, peak


def _qemu_windows(disk: Disk, folder: Path) -> Verdict:
    """The same for a disk so large that only pieces of it are read."""
    out, words, peaks = folder / "out.raw", [], [0]
    for first, end in disk.picture.windows():
        # Its count is that of the whole input, what is skipped included
        status, said, peak = _qemu(
            ["dd", "-O", "raw", f"if={disk.path}", f"of={out}", "bs=512", f"skip={first}", f"count={end}"]
        )
        peaks.append(peak)
        if status is not None or said == "error":
            words.append(status or ERROR)
            continue
        data, reading = out.read_bytes(), Reading()
        running.compare_step(lambda *_, data=data: data, disk.picture, first, end, Exception, reading)
        words.append(WRONG if reading.problems else RIGHT)
        out.unlink()
    return Verdict(worst(words), peak=max(peaks))


def _qemu(arguments: list[str]) -> tuple[str | None, str, int]:
    """Run qemu-img within limits.

    Returns:
        A word if it was killed or crashed; else ``fine``, ``warned`` or ``error``; and the memory it had.
    """

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (CEILING, CEILING))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 2))

    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            ["qemu-img", *arguments], stdout=said, stderr=said, stdin=subprocess.DEVNULL, preexec_fn=limit
        )
        timer = threading.Timer(SECONDS * running.WAITING, os.kill, (process.pid, signal.SIGKILL))
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        said.seek(0)
        text = said.read().strip()
    peak = usage.ru_maxrss * 1024
    if os.WIFSIGNALED(status):
        too_slow = os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
        return (KILLED if too_slow else CRASHED), "error", peak
    return None, "error" if status else "warned" if text else "fine", peak


# All cases


def run(case: Case, folder: Path) -> list[Verdict]:
    """What the three readers make of a case."""
    root = folder / case.id
    root.mkdir()
    box = Box(root)
    built = case.build(box)
    wanted = built if isinstance(built, list) else [built]
    qemu = in_qemu(wanted, root)
    verdicts = [in_dissect(wanted, box, ours=True), in_dissect(wanted, box, ours=False), qemu]
    shutil.rmtree(root)
    return verdicts


def work(ids: list[str]) -> None:
    """Run cases and write a line of JSON for each."""
    from dissect.target import Target

    logging.lastResort = logging.NullHandler()  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        warm = Box(Path(folder) / "warm")
        Target.open(warm.vmx([warm.good().name]))  # imports what all need
        for id in ids:
            verdicts = [vars(verdict) for verdict in run(CASES[id], Path(folder))]
            sys.stdout.write(json.dumps([id, verdicts]) + "\n")
            sys.stdout.flush()


def run_all(ids: list[str], jobs: int) -> dict[str, list[Verdict]]:
    """Run cases in some processes, in which nothing of this package is registered."""
    found: dict[str, list[Verdict]] = {}

    def ask(ids: list[str]) -> None:
        environment = os.environ | {"DISSECT_SESPARSE_AUTOLOAD": "0"}
        command = [sys.executable, __file__, "--work", *ids]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                id, verdicts = json.loads(line)
                found[id] = [Verdict(**verdict) for verdict in verdicts]
                sys.stderr.write(f"\r{len(found)} cases ") if sys.stderr.isatty() else None
        if process.returncode:
            raise RuntimeError(f"a process that runs cases ended with {process.returncode}")

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(ask, [ids[number::jobs] for number in range(jobs)]))
    return {id: found[id] for id in ids}


# The document

HEAD = """# How three readers fare on the table of cases

Written by `python tests/validation.py --write docs/validation.md`; `tests/test_cases.py` holds this package against each row at
every run. The cases are built by `tests/cases` from literal numbers; a disk's sectors say whose they are and which, so that a byte
from elsewhere is noticed. None of these cases was made by ESXi; what the project rests on is said at the end.

| reader | version |
|---|---|
"""

NOTES = """
Each disk is read three ways (at once, by 1 MiB, by 8 KiB), of disks above 64 MiB what is near their data; by QEMU with `convert`, and
where that ends with an error with `dd`; a warning of `check` counts as one. Each in a process of its own. “target lost” behind a comma: a machine with this disk and a
good one cannot be opened. Memory is told above 256 MiB. “by `open_chain`”: the chain has no seSparse extent, so that this package
leaves it to dissect's own container, and only its Python API reads it.
"""


def totals(found: dict[str, list[Verdict]]) -> str:
    """The table of totals."""
    rows: list[tuple[str, Callable[[Verdict], bool]]] = [
        ("wrong bytes without an error", lambda verdict: verdict.word == WRONG),
        (
            "of these only by a plain read, `convert` errs",
            lambda verdict: verdict.word == WRONG and verdict.note == "dd",
        ),
        ("served, or right, without the warning due", lambda verdict: verdict.word in (SERVED, UNSAID)),
        ("error where all bytes are there", lambda verdict: verdict.word == ERROR),
        ("a whole target lost by one bad disk", lambda verdict: verdict.loses_target),
        (f"hang, or more than {SECONDS} s", lambda verdict: verdict.word == KILLED),
        ("crash", lambda verdict: verdict.word == CRASHED),
        ("more than 256 MiB of memory", lambda verdict: verdict.peak > MEMORY),
    ]
    lines = [f"| of {len(found)} cases | {' | '.join(READERS)} |", "|---|---|---|---|"]
    for what, counts in rows:
        numbers = [sum(map(counts, column)) for column in zip(*found.values())]
        cells = [str(number) for number in numbers]
        if "target" in what:
            cells[2] = NOTHING
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def row(case: Case, verdicts: list[Verdict]) -> str:
    what = case.what.replace("|", "\\|")
    return f"| {case.id} | {what} | {' | '.join(map(str, verdicts))} |"


EVIDENCE = """# What the checks rest on

This part alone is written by `python tests/validation.py --evidence docs/validation.md`.

| image | SHA-256 | origin | what it exercises | what it does not |
|---|---|---|---|---|
"""

IMAGES = (
    (
        "`esxi-512m-sesparse.vmdk.gz`",
        "d11dd610199dea88b3e1563842341e136bf3fdc8e85f0e593bf5c2274bdae8e3",
        "a real ESXi host, August 2021; public test data of dissect.hypervisor, not part of this repository",
        (
            "headers, region layout, directory, one full table, bitmap, backmap, 32 journal records, leaked host memory; its metadata "
            "zeroed and marked dirty, each record torn, first MiB gone, each two regions gone"
        ),
        (
            "unmapped or zero grains, more than one table, places that are not in the order of the disk, a dirty state, a journal that "
            "went round, its descriptor and parent"
        ),
    ),
    (
        "`esxi-512m-sesparse.vmdk`, unpacked",
        "d33e393354748c566d521f67a4d93e80c73c31ad78be61280f2b1087ae4b12c2",
        "the same",
        "the same",
        "the same",
    ),
)
EXAMPLES = "examples/images"
CLAIMS = """
Claims that rest on **one real file** (the extent above), marked so in `c_sesparse.py` and in the findings:

- the backmap's layout; whether its table number is the table's index or its place in the directory is not known at all
- the journal: its header, 25-sector slots, records; that the newest image of a sector is what a clean extent has there
- the file's size, `free_gt_number` blocks of 16 MiB and 4 KiB of 0xff
- host memory behind the journal's header

Claims that rest on **no real file**, only on inference: all of the replay of a dirty journal (the records' checksum is not
known), that a trimmed grain's bit in the free bitmap is cleared, that a table in use is never all zero. Confirmed by two
independent sources: both headers, directory, the states of entries, the free bitmap, the region layout by the capacity.

Seeded mutations, by `python tests/mutations.py 2000 1`: a chain of three links, of which the newest has lost power; each read with
the options as they are, and with `salvage=1`. What the words mean is said in `tests/mutations.py`. CI makes 200 others.

"""

CHURN = """
## Random churn by real drivers

A guest changes files at random on a volume that is nearly full, by the driver named; snapshots are taken of it unmounted, and but
for NTFS also mounted, after `syncfs`. Then the deleted files are judged by what was kept of each beside. A byte is *foreign* where
it is proven by `sesparse.files` (all bytes of a `complete` file) and is not that of the file, in the state that is named.

| file system | driver | operations | files judged | complete | likely (right) | foreign bytes | by `python tests/churn.py` |
|---|---|---|---|---|---|---|---|
| NTFS, clusters of 4 and 1 KiB | ntfs-3g | 9,000 | 2,175 | 2,045 | 21 (18) | 0 | `ntfs --seeds 400-414 --operations 600` |
| ext4 | Linux 6.18 | 1,715 | 205 | 106 | 89 (89) | 0 | `ext4 --seeds 1-7 --operations 250 --snapshots 6` |
| ext2 | Linux 6.18 (ext4) | 1,715 | 196 | 91 | 89 (89) | 0 | `ext2 --seeds 1-7 --operations 250 --snapshots 6` |
| XFS | Linux 6.18 | 1,715 | 166 | 0 | 137 (85) | 0 | `xfs --seeds 1-7 --operations 250 --snapshots 6` |
| btrfs, subvolumes; plain, zstd, LZO, zlib | Linux 6.18 | 1,715 | 213 | 213 | 0 | 0 | `btrfs --seeds 1-7 --operations 250 --snapshots 6` |

The rest are `partial`, or `none`: empty files of which that is not proven, and files with holes on ext2. XFS shows why nothing of it
is proven: of what looks whole, every third file is not what it was. Not run: FAT (no driver for it where this was measured; by mtools below),
and NTFS as Windows writes it. How often what is done depends on the times of writing back, so figures vary a little between runs.
"""


def evidence() -> str:
    """What the checks rest on: images, claims, mutations, random churn, histories."""
    import hashlib

    import history_tables
    import mutations

    rows = [f"| {' | '.join(image)} |" for image in IMAGES]
    for path in sorted((HERE.parent / EXAMPLES).glob("*.xz")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append(
            f"| `{EXAMPLES}/{path.name}` | {digest} | `examples/make_images.py`: the ntfs-3g driver wrote and deleted its files | "
            "the example VM: an NTFS volume over three links, trimmed files | anything that a host wrote |"
        )
    return (
        EVIDENCE
        + "\n".join(rows)
        + "\n"
        + CLAIMS
        + mutations.table(mutations.run(2000, 1))
        + "\n"
        + CHURN
        + history_tables.document()
    )


def document(found: dict[str, list[Verdict]]) -> str:
    versions = [
        f"| this package | {importlib.metadata.version('dissect-sesparse')} |",
        "| dissect | dissect.target {}, dissect.hypervisor {} |".format(
            *map(importlib.metadata.version, ("dissect.target", "dissect.hypervisor"))
        ),
        f"| QEMU | {qemu_version()} |",
    ]
    used = Counter(verdict.word for verdicts in found.values() for verdict in verdicts)
    words = [f"| {word} | {meaning} |" for word, meaning in MEANING.items() if used[word]]
    rows = [row(CASES[id], verdicts) for id, verdicts in found.items()]
    return "\n".join(
        [
            HEAD + "\n".join(versions),
            NOTES,
            totals(found),
            "| word | meaning |\n|---|---|",
            *words,
            "",
            f"| case | what | {' | '.join(READERS)} |\n|---|---|---|---|---|",
            *rows,
            "",
            evidence(),
        ]
    )


def qemu_version() -> str:
    done = subprocess.run(["qemu-img", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0].removeprefix("qemu-img version ")


def rows_of(text: str) -> dict[str, str]:
    """The ids and texts of a document's rows."""
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 5 and cells[0] in CASES:
            rows[cells[0]] = cells[1].replace("\\|", "|")
    return rows


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", nargs="*", help="cases to run, by default all")
    parser.add_argument("--write", type=Path, help="the file to write")
    parser.add_argument(
        "--evidence", type=Path, help="the file of which only the part without the cases is written anew"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes to use")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    ids = arguments.ids or list(CASES)
    if arguments.work:
        work(ids)
        return 0
    if arguments.evidence:
        cases = arguments.evidence.read_text(encoding="utf-8").partition(EVIDENCE.partition("\n")[0])[0]
        arguments.evidence.write_text(cases.rstrip("\n") + "\n\n" + evidence(), encoding="utf-8")
        return 0
    found = run_all(ids, arguments.jobs)
    if arguments.write:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text(document(found), encoding="utf-8")
    else:
        sys.stdout.write("\n".join(row(CASES[id], verdicts) for id, verdicts in found.items()) + "\n" + totals(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
