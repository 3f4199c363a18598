"""Runs cases of the table: reads what they built, holds it against what is expected, within limits of time and memory.

Every case runs in a process of its own that is forked from one which has imported everything, so that it costs little, and
one that hangs, is killed or needs too much memory fails alone. ``python tests/support/running.py`` is that process: it reads a
request a line and writes an answer a line, both JSON. Where there is no fork, cases run in the process that asks.
"""

from __future__ import annotations

import gc
import io
import json
import logging
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cases import CASES, Box, Disk, Machine
from cases.kit import SECTORS
from cases.picture import MUST, NEVER, Picture, Piece, content

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

try:
    import resource
except ImportError:
    resource = None

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CAN_FORK = resource is not None and hasattr(os, "fork")

SECONDS = 10
"""Of processor time that a case may take to be read, its building not counted."""
WAITING = 60
"""So many times as long it may take by the clock: the machine may be busy. Beyond that it hangs."""
BUILD_SECONDS = 900
MIB = 1 << 20
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024

PATTERNS = {"one read": None, "1 MiB": 2048, "8 KiB": 16}
"""How a disk is read: sectors at a time."""
LOGGED = {
    "cid-mismatch",
    "journal-dirty",
    "journal-replayed",
    "capacity-mismatch",
    "parent-relocated",
    "parent-name-clash",
    "padding-nonzero",
}
"""Findings that opening the disk logs as a warning."""
WHOLE_TARGET_LOST = "the whole target is lost"
HOST_FILES = ("/etc/hostname", "/etc/passwd")


# Reading, and comparing


@dataclass
class Reading:
    """What was not as the picture says, each told once or a few times."""

    wrong: list[str] = field(default_factory=list)
    """Bytes that are not the disk's, or too few of them, without an error."""
    invented: list[str] = field(default_factory=list)
    """Bytes where none can be had, without an error."""
    failed: list[str] = field(default_factory=list)
    """Errors where all bytes can be had."""
    worked: int = 0
    """Reads that raised nothing."""

    @property
    def problems(self) -> list[str]:
        return [*self.wrong[:3], *self.invented[:3], *self.failed[:3]]


def compare(
    read: Callable[[int, int], bytes], picture: Picture, step: int | None, errors: type[Exception] | tuple = Exception
) -> Reading:
    """Read a disk in steps of so many sectors, and compare it.

    Args:
        read: A function of offset and length in bytes.
        picture: What is right.
        step: Sectors at a time, ``None`` for all at once.
        errors: What may be raised where bytes cannot be had.
    """
    reading = Reading()
    for first, end in picture.windows():
        for start in range(first, end, step or end - first):
            compare_step(read, picture, start, min(start + (step or end), end), errors, reading)
    return reading


def compare_step(read: Callable, picture: Picture, first: int, end: int, errors: Any, reading: Reading) -> None:
    """Read a range of sectors, and note in ``reading`` what is not as the picture says."""
    pieces = picture.within(first, end)
    try:
        data = read(first * 512, (end - first) * 512)
    except errors as e:
        if all(piece.reading == MUST for piece in pieces):
            reading.failed.append(f"sectors {first} to {end} can be had, reading them raised {_told(e)}")
        return
    reading.worked += 1
    if len(data) != (end - first) * 512:
        reading.wrong.append(f"sectors {first} to {end}: {len(data)} bytes")
        return
    for piece in pieces:
        have = data[(piece.first - first) * 512 : (piece.end - first) * 512]
        if piece.reading == NEVER:
            reading.invented.append(f"sectors {piece.first} to {piece.end} cannot be had, but were read: {have[:40]!r}")
        elif have != content(piece.tag, piece.first, piece.end):
            reading.wrong.append(_first_difference(have, piece))


def _first_difference(have: bytes, piece: Piece) -> str:
    for sector in range(piece.first, piece.end):
        at = (sector - piece.first) * 512
        want = content(piece.tag, sector, sector + 1)
        if have[at : at + 512] != want:
            return f"sector {sector} is {have[at : at + 40]!r}, not {want[:40]!r}"
    raise AssertionError(piece)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"


def reader(fh: Any) -> Callable[[int, int], bytes]:
    """Reads of a file object, as a function of offset and length."""

    def read(offset: int, length: int) -> bytes:
        fh.seek(offset)
        return fh.read(length)

    return read


def check_borders(read: Callable[[int, int], bytes], picture: Picture, errors: type[Exception]) -> list[str]:
    """Read sector by sector around each range that cannot be had: it ends exactly where it should."""
    reading = Reading()
    bounds = {bound for piece in picture.pieces if piece.reading == NEVER for bound in (piece.first, piece.end)}
    for bound in sorted(bounds)[:40]:
        for sector in range(max(0, bound - 9), min(picture.sectors, bound + 9)):
            compare_step(read, picture, sector, sector + 1, errors, reading)
    return reading.problems


# Our reader


def check(wanted: Disk | Machine) -> list[str]:
    """What is not as expected, with our reader."""
    if isinstance(wanted, Machine):
        return check_machine(wanted)
    return [f"open_chain: {told}" for told in check_chain(wanted)] + [
        f"container.open: {told}" for told in check_container(wanted)
    ]


def source_of(disk: Disk) -> Any:
    """What is handed to an opening function."""
    return io.BytesIO(disk.source) if isinstance(disk.source, bytes) else disk.source


def check_chain(disk: Disk) -> list[str]:
    from dissect_sesparse import open_chain
    from dissect_sesparse.source.errors import SESparseError

    try:
        chain = open_chain(source_of(disk))
    except SESparseError as e:
        return check_refusal(disk, e)
    with chain:
        if disk.outcome == "refused":
            return ["it was opened, it should be refused"]
        picture = disk.picture
        problems = check_bytes(reader(chain.open()), chain.size, picture, SESparseError)
        problems += check_borders(lambda offset, length: chain.read(offset, length), picture, SESparseError)
        return problems + check_findings(disk, chain)


def check_refusal(disk: Disk, error: Exception) -> list[str]:
    if disk.outcome != "refused":
        return [f"it was refused: {_told(error)}"]
    message = str(error)
    return [f"the message has no {word!r}: {message}" for word in disk.says if word not in message]


def check_bytes(
    read: Callable, size: int, picture: Picture, errors: type[Exception], patterns: dict[str, int | None] = PATTERNS
) -> list[str]:
    """Compare by some patterns."""
    if size != picture.sectors * 512:
        return [f"{size} bytes, not {picture.sectors * 512}"]
    problems = []
    for name, step in patterns.items():
        problems += [f"{name}: {problem}" for problem in compare(read, picture, step, errors).problems]
    return problems


def check_findings(disk: Disk, chain: Any) -> list[str]:
    """All that are expected; of a disk that is right, no others, as a false alarm is an error too."""
    from dissect_sesparse.findings.findings import findings

    found = {finding.code for finding in findings(chain) if finding.level != "info"}
    problems = [f"no finding {group}" for group in disk.findings if not found & set(group.split("|"))]
    allowed = {code for group in disk.findings for code in group.split("|")}
    if disk.outcome == "right" and (more := found - allowed):
        problems.append(f"findings that should not be: {', '.join(sorted(more))}")
    return problems


def check_container(disk: Disk) -> list[str]:
    from dissect.target import container
    from dissect.target.exceptions import ContainerError

    from dissect_sesparse.source.errors import SESparseError

    with logged() as log:
        try:
            opened = container.open(source_of(disk))
        except ContainerError as e:
            if not isinstance(e.__cause__, SESparseError):
                return [f"{_told(e)}, caused by {e.__cause__!r}"] if disk.ours else []
            return check_refusal(disk, e.__cause__)
    if not disk.ours:
        return ["our container took it"] if opened.__type__ == "sesparse" else []
    if opened.__type__ != "sesparse":
        return [f"dissect's own {type(opened).__name__} took it"]
    if disk.outcome == "refused":
        return ["it was opened, it should be refused"]
    problems = check_bytes(reader(opened), opened.size, disk.picture, SESparseError)
    opened.close()
    for group in disk.findings:
        codes = set(group.split("|"))
        if codes <= LOGGED and not any(code in line for code in codes for line in log):
            problems.append(f"no warning of {group} in the log")
    return problems


def check_machine(machine: Machine) -> list[str]:
    from dissect.target import Target

    with logged() as log:
        try:
            targets = list(Target.open_all([machine.source])) if machine.together else [Target.open(machine.source)]
        except Exception as e:
            return [f"{WHOLE_TARGET_LOST}: {_told(e)}, caused by {e.__cause__!r}"]
    if len(targets) != 1:
        return [f"{len(targets)} targets: {', '.join(str(target.path) for target in targets)}"]
    problems = check_slots(machine, targets[0])
    return problems + [f"the log has no {word!r}" for word in machine.says if not any(word in line for line in log)]


def check_slots(machine: Machine, target: Any, patterns: dict[str, int | None] = PATTERNS) -> list[str]:
    """The target's disks: which there are, in which order, and what they read as."""
    disks = {getattr(disk.fh, "name", str(disk.fh)).rpartition("/")[2]: disk for disk in target.disks}
    names = [slot.name for slot in machine.slots if slot.needed or slot.name in disks]
    if list(disks) != names:
        return [f"the disks are {', '.join(disks) or 'none'}; they should be {', '.join(names)}"]
    problems = []
    for slot in machine.slots:
        if (disk := disks.get(slot.name)) is None:
            continue
        if slot.picture is None:
            problems += [f"{slot.name} was read from end to end"] if can_be_read(disk) else []
            continue
        problems += [
            f"{slot.name}: {told}" for told in check_bytes(reader(disk), disk.size, slot.picture, Exception, patterns)
        ]
        partitioned = isinstance(slot.picture.pieces[0].tag, bytes)
        if partitioned and not any(lies_on(volume, disk) for volume in target.volumes):
            problems.append(f"{slot.name}: its volume is not in the target")
    return problems


def lies_on(volume: Any, disk: Any) -> bool:
    """Whether a volume lies on a disk: after dissect.target 3.25 a volume has a list of them."""
    return any(below is disk for below in (volume.disk if isinstance(volume.disk, list) else [volume.disk]))


def can_be_read(disk: Any) -> bool:
    """Whether a disk reads from end to end."""
    try:
        disk.seek(0)
        return len(disk.read(disk.size)) == disk.size
    except Exception:
        return False


def beside_good(disk: Disk, box: Box) -> Machine | None:
    """Write a machine that has the case's disk and a good one; ``None`` where the disk has no path."""
    if disk.path is None:
        return None
    good = box.good()
    name = os.path.relpath(disk.path, box.vm).replace(os.sep, "/")
    return Machine(box.vmx([name, good.name]), (good,))


def check_survival(machine: Machine) -> list[str]:
    """Whether the case's disk, however broken, leaves its good neighbour, and that one's volume, in the target."""
    from dissect.target import Target

    try:
        target = Target.open(machine.source)
    except Exception as e:
        return [f"{WHOLE_TARGET_LOST}: {_told(e)}, caused by {e.__cause__!r}"]
    good = machine.slots[0].name
    target.disks.entries = [entry for entry in target.disks if getattr(entry.fh, "name", "") == good]
    return check_slots(machine, target, {"1 MiB": 2048})


@contextmanager
def logged() -> Iterator[list[str]]:
    """The lines that are logged meanwhile, warnings and worse, with the errors they tell."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    formatter = logging.Formatter()

    def emit(record: logging.LogRecord) -> None:
        lines.append(f"{record.getMessage()}\n{formatter.formatException(record.exc_info) if record.exc_info else ''}")

    handler.emit = emit  # type: ignore[method-assign]
    of_targets = logging.getLogger("dissect.target.target")  # dissect silences it where nobody listens
    level = of_targets.level
    of_targets.setLevel(logging.NOTSET)
    logging.getLogger().addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger().removeHandler(handler)
        of_targets.setLevel(level)


# What is opened on the analyst's disk

_watched: list[tuple[Path, list[str]]] = []


def _audit(event: str, arguments: tuple) -> None:
    if event != "open" or not _watched or not isinstance(arguments[0], (str, bytes, os.PathLike)):
        return
    root, problems = _watched[-1]
    path = os.path.realpath(os.fsdecode(arguments[0]))
    flags = arguments[2] if isinstance(arguments[2], int) else 0
    if path in HOST_FILES or path.startswith(f"{os.path.realpath(root)}{os.sep}analyst{os.sep}"):
        problems.append(f"it opened {path}, which is no evidence")
    elif flags & (os.O_WRONLY | os.O_RDWR) and path.startswith(os.path.realpath(root)):
        problems.append(f"it opened {path} for writing")


@contextmanager
def watched(root: Path) -> Iterator[list[str]]:
    """Note each file that is opened meanwhile and is no evidence, or is opened for writing."""
    if not getattr(sys, "_sesparse_audited", False):
        sys.addaudithook(_audit)
        sys._sesparse_audited = True
    problems: list[str] = []
    _watched.append((root, problems))
    try:
        yield problems
    finally:
        _watched.pop()


# Limits


def run_case(id: str, folder: str, built: Callable[[], None] = lambda: None) -> list[str]:
    """Build a case and check it, in this process.

    Args:
        id: Of the case.
        folder: An empty folder.
        built: Called when it is built.

    Returns:
        What is not as expected.
    """
    from dissect_sesparse.target.registration import register

    register()
    box = Box(Path(folder))
    wanted = CASES[id].build(box)
    built()
    problems = []
    for one in wanted if isinstance(wanted, list) else [wanted]:
        limit_memory(getattr(one, "memory", 256))
        with watched(box.root) as opened:
            problems += check(one)
        problems += sorted(set(opened))
        limit_memory(256)
        if isinstance(one, Disk) and (machine := beside_good(one, box)) is not None:
            with watched(box.root) as opened:
                problems += [f"in a machine with a good disk: {told}" for told in check_survival(machine)]
            problems += sorted(set(opened))
    return problems


def limit_memory(mib: int) -> None:
    """Let this process have so much more address space than it has; only where it is a process of its own."""
    if not CAN_FORK or not _is_child:
        return
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return  # not Linux
    resource.setrlimit(resource.RLIMIT_AS, (used + mib * MIB, resource.getrlimit(resource.RLIMIT_AS)[1]))


_is_child = False


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    result: Any
    """What its function returned; ``None`` if it did not return."""
    problem: str | None
    """Why it did not."""
    seconds: float
    """That it took after its building."""
    peak: int
    """Most bytes of memory that it had, beyond those at its beginning."""


def forked(function: Callable[[Callable[[], None]], Any], seconds: float = SECONDS, waiting: float = WAITING) -> Ended:
    """Run a function in a process of its own, forked from this one.

    Args:
        function: Gets a function to call when it has built what it needs; its result must be JSON.
        seconds: Of processor time that it may take from then on.
        waiting: So many times as long it may take by the clock.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _run_forked(function, seconds, writing)
    os.close(writing)
    started, answer, deadline, problem = time.monotonic(), b"", time.monotonic() + BUILD_SECONDS, None
    while True:
        ready, _, _ = select.select([reading], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            problem = f"it takes more than {seconds * waiting:g} s" if answer else "it cannot be built in time"
            os.kill(child, signal.SIGKILL)
            break
        more = os.read(reading, 65536)
        if not more:
            break
        if not answer:
            started, deadline = time.monotonic(), time.monotonic() + seconds * waiting
        answer += more
    taken = time.monotonic() - started
    os.close(reading)
    _, status, usage = os.wait4(child, 0)
    lines = answer.decode().splitlines()
    if problem is None and (status or len(lines) < 2):
        too_slow = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
        problem = f"it takes more than {seconds:g} s" if too_slow else f"the process ended with status {status}"
    result = json.loads(lines[1]) if problem is None else None
    before = int(lines[0]) if lines else 0
    return Ended(result, problem, taken, max(0, usage.ru_maxrss * _MAXRSS_UNIT - before))


def _run_forked(function: Callable, seconds: float, writing: int) -> None:
    """The child's side. Never returns."""
    global _is_child
    _is_child = True

    def built() -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        until = math.ceil(used.ru_utime + used.ru_stime + seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (until, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        os.write(writing, f"{used.ru_maxrss * _MAXRSS_UNIT}\n".encode())

    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        result = function(built)
        os.write(writing, f"{json.dumps(result)}\n".encode())
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


# The process that all are forked from, and the one that asks


def warm() -> None:
    """Import and make all that cases share: each then has it for nothing."""
    from dissect.target import Target

    for tag in ("base", "good"):
        content(tag, 0, SECTORS)
    with tempfile.TemporaryDirectory() as folder:
        box = Box(Path(folder))
        target = Target.open(box.vmx([box.snapshot().path.name, box.good().name]))
        for disk in target.disks:
            disk.close()


def serve() -> None:
    """Answer requests until there are no more."""
    logging.lastResort = logging.NullHandler()  # type: ignore[assignment]  # what is logged is looked at, not shown
    warm()
    gc.freeze()  # so that a collection in a forked process does not touch, and so copy, all of this one's memory
    for line in sys.stdin:
        id, folder = json.loads(line)
        ended = forked(partial(_case_in_child, id, folder))
        problems = [ended.problem] if ended.problem else ended.result
        sys.stdout.write(json.dumps({"problems": problems, "seconds": ended.seconds, "peak": ended.peak}) + "\n")
        sys.stdout.flush()


def _case_in_child(id: str, folder: str, built: Callable[[], None]) -> list[str]:
    try:
        return run_case(id, folder, built)
    except Exception as e:
        return [f"it raised {_told(e)}\n{traceback.format_exc()[-2000:]}"]


class Server:
    """Asks a process of its own to run cases."""

    def __init__(self) -> None:
        self._process = None
        if CAN_FORK:
            self._process = subprocess.Popen(
                [sys.executable, str(HERE / "running.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "examples"), str(ROOT / "tests")))},
                text=True,
            )

    def run(self, id: str, folder: Path) -> list[str]:
        """What is not as expected of a case."""
        if self._process is None:
            started = time.monotonic()
            problems = run_case(id, str(folder))
            return problems if time.monotonic() - started < BUILD_SECONDS else [*problems, "it takes too long"]
        self._process.stdin.write(json.dumps([id, str(folder)]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that runs the cases is gone"
        return json.loads(answer)["problems"]

    def close(self) -> None:
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait(timeout=60)


if __name__ == "__main__":
    serve()
