"""The guest of ``churn.py``: changes files at random by a real driver, and keeps what each of them held."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from churn_drivers import Driver


class Truth:
    """What there was."""

    def __init__(self) -> None:
        self.states: list[dict[str, bytes | None]] = []
        """Path and content of each file, at each snapshot, the oldest first; the last is the running guest."""
        self.deaths: dict[str, list[tuple[int, bytes | None]]] = defaultdict(list)
        """For each path the period in which a file of it was deleted, 0 is that of the base, and its content then."""

    def doubt(self, path: str) -> None:
        """The driver failed while it deleted a file: when it is gone, and what it holds until then, nobody knows."""
        self.deaths[path] += [(period, None) for period in range(100)]

    def contents(self, path: str, named_by: str, depth: int) -> list[bytes | None]:
        """The contents that a record may have."""
        number = len(self.states) - 1 - depth
        if path.startswith("<folder"):  # all that is left of its path is its name
            name = path.partition("/")[2]
            same = [known for known in (*self.deaths, *self.states[number]) if known.rpartition("/")[2] == name]
            return [data for known in same for data in self.contents(known, named_by, depth)]
        if named_by == "snapshot":
            return [self.states[number][path]] if path in self.states[number] else []
        return [data for period, data in self.deaths[path] if period == number]


class Guest:
    """Changes files at random, and keeps the truth."""

    def __init__(self, driver: Driver, rng: random.Random, truth: Truth):
        self.driver = driver
        self.rng = rng
        self.truth = truth
        self.root = Path()
        self.files: dict[str, set[str]] = {}
        """Paths, and the names of their other streams."""
        self.period = 0
        self.operations: Counter[str] = Counter()
        self._serial = 0
        self._folders = driver.folders

    # Content

    def content(self, size: int) -> bytes:
        """New bytes that nobody else has."""
        self._serial += 1
        kind = self.rng.random()
        count = -(-size // 512)
        heads = (f"file {self._serial:06d} sector {n:06d} ".encode() for n in range(count))
        pad = (lambda: self.rng.randbytes(512)) if kind < 0.5 else (lambda: bytes([self.rng.randrange(32, 127)]) * 512)
        return b"".join((head + pad())[:512] for head in heads)[:size]

    def size(self) -> int:
        return self.rng.choice(
            [0, self.rng.randrange(1, 200), self.rng.randrange(200, 900), *(self.rng.randrange(900, 60_000),) * 4]
            + [self.rng.randrange(60_000, 300_000)]
        )

    def read(self, path: str) -> bytes:
        """What a file holds, from the driver and not from a cache: to FUSE each name of a file is one of its own."""
        with (self.root / path).open("rb") as fh:
            os.posix_fadvise(fh.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return fh.read()

    def known(self, path: str) -> bytes | None:
        """The same; ``None`` where the driver cannot read what it wrote itself: then there is no truth."""
        try:
            return self.read(path)
        except OSError:
            self.operations["unreadable"] += 1
            return None

    # Life and death

    def _streams(self, path: str) -> list[str]:
        return [path, *(f"{path}:{name}" for name in sorted(self.files[path]))]

    def _kill(self, path: str, by: Path | None = None) -> None:
        """Delete a file, or put another in its place, and keep what it held; one of several names is no file."""
        single = (self.root / path).stat().st_nlink == 1
        held = {stream: self.known(stream) for stream in self._streams(path)} if single else {}
        try:
            if by is None:
                (self.root / path).unlink()
                del self.files[path]
            else:
                by.replace(self.root / path)
                self.files[path] = set()
        except OSError:
            for stream in held:
                self.truth.doubt(stream)
            raise
        for stream, data in held.items():
            self.truth.deaths[stream].append((self.period, data))

    def snapshot(self) -> None:
        """Keep the content of all files."""
        self.truth.states.append({stream: self.known(stream) for path in self.files for stream in self._streams(path)})
        self.period += 1

    def _any(self) -> str | None:
        return self.rng.choice(sorted(self.files)) if self.files else None

    def _write(self, path: str, data: bytes, mode: str = "wb", at: int = 0) -> None:
        with suppress(OSError), (self.root / path).open(mode, buffering=0) as fh:  # the volume is full
            fh.seek(at)
            left = memoryview(data)
            while left and (done := fh.write(left[:65536])):
                left = left[done:]

    # Operations

    def step(self) -> None:
        names = ["make"] * 5 + ["delete"] * 5 + ["overwrite"] * 3 + ["cut", "empty", "grow", "rename", "replace"]
        names += ["stretch", "index", "tiny", "tiny", "wipe"]
        names += ["link"] * ("links" in self.driver.features) + ["stream"] * ("streams" in self.driver.features)
        name = self.rng.choice(names)
        self.operations[name] += 1
        with suppress(OSError):
            getattr(self, f"do_{name}")()

    def do_make(self, size: int | None = None) -> None:
        folder = self.rng.choice(self._folders)
        if "compress" in self.driver.features and self.rng.random() < 0.15:
            folder = "packed"
            if not (self.root / folder).exists():
                self.driver.compress(self.root / folder)  # type: ignore[attr-defined]
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        path = f"{folder}/f{self.rng.randrange(60)}.bin".strip("/")
        if path in self.files:
            return self.do_overwrite()
        self._write(path, self.content(self.size() if size is None else size))
        if (self.root / path).exists():
            self.files[path] = set()
        return None

    def do_tiny(self) -> None:
        self.do_make(self.rng.randrange(0, 300))

    def do_delete(self) -> None:
        if (path := self._any()) is not None:
            self._kill(path)

    def do_overwrite(self) -> None:
        """In place, a part of it, and its times may be set back."""
        if (path := self._any()) is None:
            return
        before, record = (self.root / path).stat(), self.driver.times(self.root / path)
        at = self.rng.randrange(0, before.st_size + 1) // 512 * 512
        self._write(path, self.content(min(self.size(), before.st_size - at)), "r+b", at)
        if self.rng.random() < 0.5:
            self.driver.set_back(self.root / path, before, record if self.rng.random() < 0.5 else None)

    def do_wipe(self) -> None:
        """Overwrite all of it, set its times back, delete it."""
        if (path := self._any()) is None:
            return
        before, record = (self.root / path).stat(), self.driver.times(self.root / path)
        self._write(path, self.rng.choice([self.content(before.st_size), bytes(before.st_size)]), "r+b")
        self.driver.set_back(self.root / path, before, record)
        self._kill(path)

    def do_cut(self) -> None:
        if (path := self._any()) is not None:
            os.truncate(self.root / path, self.rng.randrange(0, (self.root / path).stat().st_size + 1))

    def do_empty(self) -> None:
        """Grow into what is free, and be cut to nothing."""
        if (path := self._any()) is not None:
            self._write(path, self.content(self.size()), "ab")
            os.truncate(self.root / path, 0)

    def do_grow(self) -> None:
        if (path := self._any()) is not None:
            self._write(path, self.content(self.size()), "ab")

    def do_stretch(self) -> None:
        """Make it longer and write nothing there: what was never written is zeros."""
        if (path := self._any()) is not None:
            os.truncate(self.root / path, (self.root / path).stat().st_size + self.rng.randrange(1, 40_000))

    def do_rename(self) -> None:
        if (path := self._any()) is not None:
            new = f"{self.rng.choice(self._folders[:2])}/r{self.rng.randrange(60)}.bin".strip("/")
            if new not in self.files and (self.root / new).parent.is_dir():
                (self.root / path).rename(self.root / new)
                self.files[new] = self.files.pop(path)

    def do_replace(self) -> None:
        """Write anew under another name and rename over it, as editors do."""
        if (path := self._any()) is not None:
            new = f"{path}.tmp"
            self._write(new, self.content(self.size()))
            self._kill(path, self.root / new)

    def do_link(self) -> None:
        path, new = self._any(), f"l{self.rng.randrange(60)}.bin"
        if path is not None and new not in self.files:
            (self.root / new).hardlink_to(self.root / path)
            self.files[new] = set(self.files[path])

    def do_stream(self) -> None:
        if (path := self._any()) is not None and (self.root / path).stat().st_nlink == 1:
            name = self.rng.choice(["one", "two"])
            self._write(f"{path}:{name}", self.content(self.size()), "wb")
            with suppress(OSError):
                self.read(f"{path}:{name}")
                self.files[path].add(name)

    def do_index(self) -> None:
        """A folder of many names, and its end: blocks of an index where data was, and records that are used again."""
        folder = self.root / f"index{self.rng.randrange(3)}"
        with suppress(OSError):
            folder.mkdir(exist_ok=True)
            for number in range(self.rng.randrange(5, 40)):
                (folder / f"{'name' * 20}{number}").touch()
        for path in sorted(folder.iterdir()):
            name = f"{folder.name}/{path.name}"
            try:
                path.unlink()
            except OSError:
                self.truth.doubt(name)
                raise
            self.truth.deaths[name].append((self.period, b""))
        folder.rmdir()
