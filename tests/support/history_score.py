"""What is reported of a history, held against its truth: by ``sesparse.files``, or by any tool that names files or gives bytes."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from churn import told_of

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.files.deleted import measure

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from history_guest import Life
    from history_host import History

    from dissect_sesparse.files.deleted import DeletedFile, Piece, Recovered

TOKEN = re.compile(rb"file (\d{6}) sector (\d{6}) ")
"""With which each 512 bytes of a content begin; no two contents have one in common."""
CLOCK = timedelta(seconds=2)
"""How coarse the clocks of file systems are: FAT counts in steps of two seconds."""
KINDS = (
    "plain", "between", "changed", "wiped", "renamed", "moved", "recreated", "folder removed", "linked", "stream", "stream removed",
    "index",
)  # fmt: skip


def tokens_of(data: bytes) -> list[tuple[bytes, int, int]]:
    """The parts of a content, each with what nothing else begins with, its start and end."""
    starts = [(match.group(), match.start()) for match in TOKEN.finditer(data)]
    ends = [start for _, start in starts[1:]] + [len(data)]
    return [(name, start if number else 0, end) for number, ((name, start), end) in enumerate(zip(starts, ends))]


def evidence(folder: Path) -> set[bytes]:
    """All parts of contents that the files of a machine have anywhere, whoever names them."""
    return {name.group() for path in folder.glob("*.vmdk") for name in TOKEN.finditer(path.read_bytes())}


@dataclass
class Found:
    """What was found of one deleted file."""

    life: Life
    named: bool = False
    right_name: bool = False
    whole: bool = False
    right: bytearray = field(default_factory=bytearray)
    """One for each of its bytes that was given right."""

    def give(self, pieces: Iterable[tuple[int, bytes]], size: int) -> int:
        """Take some bytes of it; how many are wrong is returned."""
        wanted, wrong, right = self.life.wanted, 0, 0
        self.right = self.right or bytearray(len(wanted))
        for offset, data in pieces:
            here = wanted[offset : offset + len(data)]
            if here == data:
                self.right[offset : offset + len(data)] = b"\1" * len(data)
                right += len(data)
                continue
            for at in range(0, len(data), 512):
                mine, theirs = data[at : at + 512], here[at : at + 512]
                if mine == theirs:
                    self.right[offset + at : offset + at + len(mine)] = b"\1" * len(mine)
                    right += len(mine)
                else:
                    wrong += sum(a != b for a, b in zip(mine, theirs)) + max(0, len(mine) - len(theirs))
        self.whole |= size == right == len(wanted) and not wrong
        return wrong


class Truths:
    """The deleted files of a history, and what was found of each."""

    def __init__(self, history: History):
        self.history = history
        self.dead = [life for life in history.lives if life.died is not None and not life.doubt]
        self.found = {life: Found(life) for life in self.dead}
        self.there = evidence(history.path.parent)
        kept = {name for life in history.lives for _, data in life.states.values() for name, _, _ in tokens_of(data)}
        self.there |= kept  # where the file system compresses, no bytes of a content are found as they are
        self._by_path: dict[str, list[Life]] = defaultdict(list)
        self._by_name: dict[str, list[Life]] = defaultdict(list)
        for life in history.lives:
            for path in life.paths:
                self._by_path[path].append(life)
                self._by_name[path.rpartition("/")[2]].append(life)

    def of_path(self, path: str) -> list[Life]:
        """The lives that had a path, or where the folder is not known any more, a name."""
        if path.startswith(("<", "$OrphanFiles")):
            return self._by_name[path.rpartition("/")[2]]
        folder, _, name = path.rpartition("/")
        if name.startswith("_"):  # what FAT deletes of a name is its first letter
            return [life for first in "fglr" for life in self._by_path[f"{folder}/{first}{name[1:]}".strip("/")]]
        return self._by_path[path]

    def recoverable(self, life: Life) -> list[tuple[int, int]]:
        """Start and end of the parts of a file that are somewhere in the evidence."""
        return [(start, end) for name, start, end in tokens_of(life.wanted) if name in self.there]

    # Totals

    def recall(self, kind: str = "") -> Counter[str]:
        """Counts over the deleted files of a kind, or over all."""
        count: Counter[str] = Counter()
        for life in self.dead:
            if kind not in life.kinds if kind else "index" in life.kinds:
                continue
            found, parts = self.found[life], self.recoverable(life)
            count["dead"] += 1
            count["named"] += found.named
            count["right name"] += found.right_name
            if not life.wanted.strip(b"\0"):
                continue
            count["with bytes"] += 1
            count["could be whole"] += found.whole or sum(end - start for start, end in parts) == len(life.wanted)
            count["whole"] += found.whole
            count["recoverable"] += sum(end - start for start, end in parts)
            count["recovered"] += sum(sum(found.right[start:end]) for start, end in parts)
        return count


# This package


def score(truths: Truths) -> tuple[Counter[str], list[str]]:
    """Hold all deleted files of a chain against the truth.

    Returns:
        Counts, and a line for each breach of what must hold.
    """
    count: Counter[str] = Counter()
    breaches: list[str] = []
    with open_chain(truths.history.path) as chain:
        for file in told_of(chain, lambda message: count.update(["warnings"])):
            pieces: list[Piece] = []
            told = measure(file, pieces.append)
            problems = _Judge(truths, file, told, pieces, count).judge()
            breaches += [
                f"{problem}: {file.path} by {file.naming.by} of {file.link.name}, inode {file.inode}, {told.state}, "
                f"{told.size} of {file.size} bytes, {file.deletion.window}" for problem in problems
            ]  # fmt: skip
    return count, breaches


_COUNTED = {
    "LIVE": "live", "INVENTED": "invented", "WINDOW": "windows wrong", "NAME": "names wrong", "FOREIGN": "with foreign bytes",
}  # fmt: skip
"""A breach, and what counts it."""


class _Judge:
    """Holds one file that is reported against the truth."""

    def __init__(self, truths: Truths, file: DeletedFile, told: Recovered, pieces: list[Piece], count: Counter[str]):
        self.truths, self.file, self.told, self.pieces, self.count = truths, file, told, pieces, count
        self.number = truths.history.states - 1 - file.link.depth
        self.path = truths.history.driver.path_of(file.path)

    def judge(self) -> list[str]:
        self.count[f"by {self.file.naming.by}"] += 1
        all_of = self._candidates()
        lives = [life for life in all_of if not life.doubt]
        problems = self._held_against(lives) if lives else ["INVENTED"] * (not all_of)
        if all_of and len(lives) < len(all_of) and (problems or not lives):
            self.count["not judged"] += 1  # it may be of a file with which the driver failed
            return []
        self.count["files"] += 1
        self.count[self.told.state] += 1
        for breach in problems:
            self.count[_COUNTED[breach.partition(" ")[0]]] += 1
        return problems

    def _held_against(self, lives: list[Life]) -> list[str]:
        dead = [life for life in lives if life.died is not None]
        if not dead:
            return [f"LIVE (its paths: {lives[0].paths})"]
        life = min(dead, key=lambda life: (not self._in_window(life), self._wrong(life, proven=False), -life.born))
        problems = self._name(life) + self._bytes(life)
        if not self._in_window(life):
            died = [datetime.fromtimestamp(at, timezone.utc).time().isoformat() for at in life.died or ()]
            problems.append(f"WINDOW (died {' to '.join(died)}; {self.file.deletion.basis})")
        return problems

    def _candidates(self) -> list[Life]:
        named = self.truths.of_path(self.path)
        inode = self.file.inode if self.truths.history.driver.name != "fat" else None
        if inode is None:
            return named
        same = [life for life in named if life.inode in (inode, None)]
        return same or [
            life for life in self.truths.history.lives
            if life.inode == inode and (":" in self.path) == (":" in life.paths[-1])
        ]  # fmt: skip

    def _in_window(self, life: Life) -> bool:
        assert life.died is not None
        window, logged = self.file.deletion.window, self.file.deletion.logged
        first, last = (datetime.fromtimestamp(moment, timezone.utc) for moment in life.died)
        right = (window.after is None or window.after <= last) and (window.before is None or window.before >= first)
        return right and (logged is None or first - CLOCK <= logged <= last + CLOCK)

    def _name(self, life: Life) -> list[str]:
        found = self.truths.found[life]
        names, by_state = life.paths, life.states.get(self.number)
        if self.file.naming.state == "proven" and by_state is not None:
            names = [*by_state[0]]
        tail = {path.rpartition("/")[2] for path in names}
        folder, _, name = self.path.rpartition("/")
        right = self.path in names or (self.path.startswith("<") and name in tail)
        if self.file.naming.state == "ambiguous" and name.startswith("_"):  # FAT: its first letter is gone
            right |= (folder, name[1:]) in {(path.rpartition("/")[0], path.rpartition("/")[2][1:]) for path in names}
        found.named |= right
        found.right_name |= self.path == life.paths[-1] or (len(names) > 1 and self.path in names)
        return [] if right else [f"NAME (its paths: {names})"]

    def _contents(self, life: Life) -> list[bytes]:
        if self.file.naming.by == "snapshot":
            if self.number in life.states:
                return [life.states[self.number][1]]
            # Deleted before that snapshot, of which its file system did not know yet: nothing of it may be proven
            return [] if self.told.state == "complete" else life.contents
        return life.contents[-1:] if self.file.naming.by == "mft" else life.contents

    def _wrong(self, life: Life, *, proven: bool) -> int:
        """Bytes that are not those of what the file held, at the best."""
        pieces = [piece for piece in self.pieces if piece.proven or not proven]
        if not pieces and not (self.told.state == "complete" and not self.file.size):
            return 0
        all_of = sum(len(piece.data) for piece in pieces)
        return min((_differ(pieces, data, self.file.size) for data in self._contents(life)), default=max(1, all_of))

    def _bytes(self, life: Life) -> list[str]:
        problems, given = [], [(piece.offset, piece.data) for piece in self.pieces]
        self.truths.found[life].give(given, self.file.size)
        if self.told.state == "complete" and not self.file.size and life.wanted == b"":
            self.truths.found[life].whole = True
        if foreign := self._wrong(life, proven=True):
            problems.append(f"FOREIGN {foreign} bytes")
        if self.told.state == "likely":
            wrong = self._wrong(life, proven=False)
            self.count["likely bytes"] += sum(len(data) for _, data in given)
            self.count["likely wrong bytes"] += wrong
            self.count["likely wrong"] += bool(wrong)
        return problems


def _differ(pieces: list[Piece], data: bytes, size: int) -> int:
    if len(data) != size:
        return max(1, sum(len(piece.data) for piece in pieces))
    return sum(
        sum(a != b for a, b in zip(piece.data, data[piece.offset :]))
        for piece in pieces
        if piece.data != data[piece.offset : piece.offset + len(piece.data)]
    )
