"""What other tools find of a history: ``fls`` and ``tsk_recover``, ``ntfsundelete``, ``photorec``, on the newest state as a raw image."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from churn import OFFSET
from churn_drivers import UTC
from history_score import TOKEN, Truths, tokens_of

from dissect_sesparse.chain.chain import open_chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from history_guest import Life
    from history_host import History

TOOLS = {"fls": "sleuthkit", "tsk_recover": "sleuthkit", "ntfsundelete": "ntfs-3g", "photorec": "testdisk"}
"""Each with the Debian package that has it."""
VIEWS = ("guest", "residual")
SECONDS = 300
_FLS = re.compile(r"^[-\w]/(?P<type>[-\w]) \* (?P<inode>[\d-]+)(?:\(realloc\))?:\t(?P<path>.*)$")
_UNDELETE = re.compile(r"^(?P<inode>\d+) +[FRND.!*]+ +\d+% +\S+(?: \S+)? +(?P<size>\d+) +(?P<name>.*)$")

_AGAIN = re.compile(r"(?<=bin)[.]\d+$")
"""What ntfsundelete puts behind a name that it has already used."""


def where(tool: str) -> str | None:
    """The program of a tool; ``None`` where it is not installed."""
    return shutil.which(tool, path="/usr/bin:/usr/sbin:/sbin:/bin")


def image_of(history: History, view: str, folder: Path) -> Path:
    """The partition in the newest state, as a raw image."""
    path = folder / f"{view}.img"
    with open_chain(history.path, view=view) as chain, path.open("wb") as out:
        disk = chain.open()
        disk.seek(OFFSET)
        while data := disk.read(1 << 20):
            out.write(data)
    return path


def _run(*command: object, folder: Path | None = None) -> str:
    """Run a tool, whatever it ends with, and give what it says."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, capture_output=True, env=UTC, timeout=SECONDS, stdin=subprocess.DEVNULL, cwd=folder, check=False
    )
    return done.stdout.decode("utf-8", "replace")


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Path and content of all that a tool wrote."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "report.xml":
            yield path.relative_to(folder).as_posix(), path.read_bytes()


class _Tally:
    """What one tool found in one image."""

    def __init__(self, history: History):
        self.truths = Truths(history)
        self.count: Counter[str] = Counter()
        self._whose = {name: life for life in history.lives for data in life.contents for name, _, _ in tokens_of(data)}

    def name(self, path: str) -> None:
        """A file that it names as deleted."""
        lives = [life for life in self.truths.of_path(self.truths.history.driver.path_of(path)) if not life.doubt]
        dead = [life for life in lives if life.died is not None]
        self.count["names"] += 1
        self.count["live"] += bool(lives) and not dead
        if dead:
            self.truths.found[max(dead, key=lambda life: life.died or (0.0, 0.0))].named = True

    def file(self, path: str | None, data: bytes) -> None:
        """A file whose bytes it gives, by its path where it has one."""
        if not data:
            return
        self.count["files"] += 1
        if path is not None:
            lives = self.truths.of_path(self.truths.history.driver.path_of(path))
        else:
            lives = [self._whose[name.group()] for name in TOKEN.finditer(data) if name.group() in self._whose][:1]
        lives = [life for life in lives if not life.doubt]
        dead = [life for life in lives if life.died is not None]
        if not dead:
            self.count["live files"] += bool(lives)
            self.count["wrong files"] += not lives
            return
        life = min(dead, key=lambda life: _wrong(life, data))
        self.count["wrong files"] += bool(_wrong(life, data, slack=path is None))
        self.count["right files"] += not _wrong(life, data, slack=path is None)
        if path is None and data.rstrip(b"\0") == life.wanted.rstrip(b"\0"):
            data = life.wanted  # carvers take whole clusters
        self.truths.found[life].give([(0, data)], len(data))

    def result(self) -> Counter[str]:
        return self.count + self.truths.recall()


def _wrong(life: Life, data: bytes, *, slack: bool = False) -> int:
    """Bytes that are not those of any content that a file had."""
    return min(
        (
            0 if slack and held.rstrip(b"\0") == data.rstrip(b"\0")
            else sum(a != b for a, b in zip(held, data)) + abs(len(held) - len(data))
            for held in life.contents if held
        ),
        default=len(data),
    )  # fmt: skip


def sleuthkit(history: History, image: Path) -> Counter[str]:
    """By ``fls -d -r`` and ``tsk_recover``; nothing where they do not know the file system."""
    tally, known = _Tally(history), False
    for line in _run("fls", "-r", "-d", "-p", image).splitlines():
        if (match := _FLS.match(line)) and match["type"] != "d":
            tally.name(match["path"].removesuffix(" (deleted)"))
    with tempfile.TemporaryDirectory() as out:
        known = "Recovered" in _run("tsk_recover", image, out)
        for path, data in _files(Path(out)):
            tally.file(path, data)
    return tally.result() if known else Counter()


def ntfsundelete(history: History, image: Path) -> Counter[str]:
    """By name alone: it gives no folders."""
    tally = _Tally(history)
    for line in _run("ntfsundelete", "-f", "-s", "-p", "0", image).splitlines():
        if (match := _UNDELETE.match(line)) and match["name"] != "<none>":
            tally.name(f"<folder>/{match['name']}")
    with tempfile.TemporaryDirectory() as out:
        _run("ntfsundelete", "-f", "-u", "-m", "*", "-d", out, image)
        for path, data in _files(Path(out)):
            tally.file(f"<folder>/{_AGAIN.sub('', path)}", data)
    return tally.result()


def photorec(history: History, image: Path) -> Counter[str]:
    """By content alone; of free space where it knows the file system, else of all. Of FAT16 its free space has nothing to it."""
    tally = _Tally(history)
    space = ",freespace" if history.plan.kind in ("NTFS", "ext4", "ext2") else ""
    with tempfile.TemporaryDirectory() as out:
        words = f"partition_none,fileopt,everything,enable{space},search"
        _run("photorec", "/d", f"{out}/found", "/cmd", image, words, folder=Path(out))
        for _, data in _files(Path(out)):
            tally.file(None, data)
    return tally.result()


def all_tools(history: History) -> dict[str, Counter[str]]:
    """What each tool finds in each view of the newest state."""
    tools = {"fls -d -r, tsk_recover": sleuthkit, "ntfsundelete": ntfsundelete, "photorec": photorec}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for view in VIEWS:
            image = image_of(history, view, Path(folder))
            for name, tool in tools.items():
                if name != "ntfsundelete" or history.plan.kind == "NTFS":
                    found[f"{name} ({view})"] = tool(history, image)
    return found
