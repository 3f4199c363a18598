"""The guest of ``histories.py``: that of ``churn.py``, which also keeps the life of each file: its names, contents and end."""

from __future__ import annotations

import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from churn_guest import Guest, Truth

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from churn_drivers import Driver

Key = tuple[str, int, str]
"""Subvolume, inode and stream: what tells the files apart that there are at one time."""
SUBVOLUMES = ("@", "@home")
"""As the driver of btrfs makes them: each numbers its inodes by itself."""
BITMAP = 54
"""Bytes of the header of a bitmap, which carvers know."""


@dataclass(eq=False)
class Life:
    """A use of a file, or of one stream of it, from when it was made until it was deleted."""

    inode: int | None
    """``None`` where the guest did not look."""
    paths: list[str]
    """All that it ever had, the last one last; of a file with several names at once, in no order."""
    born: float
    contents: list[bytes] = field(default_factory=list)
    """All that it ever held, as far as a step of the guest ended with it."""
    states: dict[int, tuple[set[str], bytes]] = field(default_factory=dict)
    """Its names and its content at each snapshot, by the snapshot's number, the oldest is 0."""
    died: tuple[float, float] | None = None
    """The moments before and after the step that deleted it."""
    wanted: bytes = b""
    """What an investigator wants of it: its last content, or that before it was wiped."""
    kinds: set[str] = field(default_factory=set)
    doubt: bool = False
    """Whether the driver failed with it, so that there is no truth."""

    def hold(self, data: bytes | None) -> None:
        if data is None:
            self.doubt = True
        elif not self.contents or self.contents[-1] != data:
            self.contents.append(data)


class HistoryGuest(Guest):
    """Changes files at random, and keeps the lives of all."""

    def __init__(self, driver: Driver, rng: random.Random, truth: Truth):
        super().__init__(driver, rng, truth)
        self.lives: list[Life] = []
        self._living: dict[Key, Life] = {}
        self._at: dict[str, Life] = {}
        """By path, or path and stream."""
        self._picked: dict[str, bytes] = {}
        """The files that a step picked, and what they held."""
        self._tried: list[Life] = []

    # Content

    def content(self, size: int) -> bytes:
        """A third is a bitmap, of which a carver knows where it begins and ends; half of the others is text."""
        data = super().content(size)
        if size < 512 or self.rng.random() > 0.33:
            return data
        side = max(1, int(((size - BITMAP) / 3) ** 0.5) // 4 * 4)
        head = struct.pack("<2sIIIIiiHHIIiiII", b"BM", size, 0, 54, 40, side, side, 1, 24, 0, 0, 2835, 2835, 0, 0)
        return head + data[: 512 - BITMAP] + data[512:]

    # What happened

    def step(self) -> None:
        started = time.time()
        self._picked = {}
        names = ["make"] * 9 + ["delete"] * 4 + ["overwrite"] * 2 + ["rename"] * 2 + ["recreate"] * 2
        names += ["cut", "grow", "replace", "stretch", "empty", "tiny", "folder", "folder", "rmtree", "wipe"]
        names += ["index"] * (self.rng.random() < 0.2)
        names += ["link"] * ("links" in self.driver.features)
        names += ["stream", "unstream"] * ("streams" in self.driver.features)
        name = "delete" if self._tight() else self.rng.choice(names)
        self.operations[name] += 1
        with suppress(OSError):
            getattr(self, f"do_{name}")()
        self.settle(started)

    def _tight(self) -> bool:
        """Whether there may be no room for a step, where the driver cannot fail half-way."""
        return hasattr(self.driver, "space") and self.driver.space(self.root) < 800_000  # type: ignore[attr-defined]

    def settle(self, started: float) -> None:
        """Bring the lives up to date with what a step did that began then."""
        if hasattr(self.driver, "carry_over"):
            self.driver.carry_over()  # type: ignore[attr-defined]
        now = time.time()
        names = self._names()
        for key, life in list(self._living.items()):
            if key not in names:
                life.died = started, now
                life.wanted = life.wanted or (life.contents[-1] if life.contents else b"")
                del self._living[key]
        self._at = {}
        for key, paths in names.items():
            life = self._living.get(key)
            if life is None:
                life = self._living[key] = Life(key[1], [], started)
                self.lives.append(life)
                life.hold(self.known(paths[0]))
            self._renamed(life, paths)
            self._at.update(dict.fromkeys(paths, life))
        for path in self._picked:
            if path in self._at:
                self._at[path].hold(self.known(path))

    def _names(self) -> dict[Key, list[str]]:
        names: dict[Key, list[str]] = {}
        for path in sorted(self.files):
            try:
                info = (self.root / path).stat()
            except OSError:
                continue
            for stream in self._streams(path):
                key = path.partition("/")[0] if path.startswith(SUBVOLUMES) else "", info.st_ino, stream[len(path) :]
                names.setdefault(key, []).append(stream)
        return names

    @staticmethod
    def _renamed(life: Life, paths: list[str]) -> None:
        new = [path for path in paths if path not in life.paths]
        if life.paths and new:
            folders = {path.rpartition("/")[0] for path in life.paths}
            life.kinds.add("moved" if new[0].rpartition("/")[0] not in folders else "renamed")
        if len(paths) > 1:
            life.kinds.add("linked")
        life.paths = [path for path in life.paths if path not in paths] + paths

    def snapshot(self) -> None:
        super().snapshot()
        number = len(self.truth.states) - 1
        for life in self._living.values():
            paths = {path for path, here in self._at.items() if here is life}
            data = self.truth.states[-1].get(min(paths, default=""))
            if data is None:
                life.doubt = True
            else:
                life.states[number] = paths, data
                life.hold(data)

    # What the steps of churn leave out

    def _any(self) -> str | None:
        path = super()._any()
        for stream in self._streams(path) if path is not None else ():
            life = self._at.get(stream)
            self._picked[stream] = life.contents[-1] if life is not None and life.contents else b""
        return path

    def _write(self, path: str, data: bytes, mode: str = "wb", at: int = 0) -> None:
        super()._write(path, data, mode, at)
        if path in self._at:
            self._at[path].hold(self.known(path))
        elif not (self.root / path).exists():  # a driver without room for its name may have made a file all the same
            self.lives.append(Life(None, [path], time.time(), died=(0.0, time.time()), doubt=True))

    def _kill(self, path: str, by: Path | None = None) -> None:
        lives = [(stream, self._at[stream]) for stream in self._streams(path) if stream in self._at]
        single = (self.root / path).stat().st_nlink == 1
        try:
            super()._kill(path, by)
        except OSError:
            for _, life in lives:
                life.doubt = True
            raise
        for stream, life in lives if single else ():
            life.hold(self.truth.deaths[stream][-1][1])

    def do_wipe(self) -> None:
        super().do_wipe()
        for path, held in self._picked.items():
            life = self._at.get(path)
            if life is not None and path not in self.files and ":" not in path and held:
                life.kinds.add("wiped")
                life.wanted = held

    def do_recreate(self) -> None:
        """Delete a file, and make another one of the same name."""
        if (path := self._any()) is None:
            return
        started = time.time()
        self._kill(path)
        self.settle(started)
        self._write(path, self.content(self.size()))
        if (self.root / path).exists():
            self.files[path] = set()

    def _folder(self) -> str:
        """One of the folders that are made and removed whole."""
        return f"d{self.rng.randrange(4)}"

    def do_folder(self) -> None:
        """A folder with some files."""
        folder = self._folder()
        (self.root / folder).mkdir(exist_ok=True)
        for _ in range(self.rng.randrange(1, 5)):
            path = f"{folder}/g{self.rng.randrange(20)}.bin"
            if path not in self.files:
                self._write(path, self.content(self.size()))
                if (self.root / path).exists():
                    self.files[path] = set()

    def do_rmtree(self) -> None:
        """Remove such a folder with all that is in it."""
        folder = self._folder()
        for path in sorted(path for path in self.files if path.startswith(f"{folder}/")):
            life = self._at.get(path)
            self._kill(path)
            if life is not None:
                life.kinds.add("folder removed")
        if (self.root / folder).is_dir():
            (self.root / folder).rmdir()

    def do_unstream(self) -> None:
        """Remove one stream of a file that lives on."""
        path = self._any()
        if path is None:
            return
        for name in sorted(self.files[path])[:1]:
            (self.root / f"{path}:{name}").unlink()
            self.files[path].discard(name)
            if life := self._at.get(f"{path}:{name}"):
                life.kinds.add("stream removed")

    def do_index(self) -> None:
        """A folder of many names, and its end: of the names there is a truth, and of no bytes."""
        started, before = time.time(), {path: len(deaths) for path, deaths in self.truth.deaths.items()}
        try:
            super().do_index()
        finally:
            for path, deaths in self.truth.deaths.items():
                if path.startswith("index") and len(deaths) > before.get(path, 0):
                    life = Life(None, [path], started, [b""], died=(started, time.time()), kinds={"index"})
                    life.doubt = deaths[-1][1] is None
                    self.lives.append(life)
            if not self._tried:  # as in _write: without room some of these names may have been files for a moment
                names = [f"index{folder}/{'name' * 20}{number}" for folder in range(3) for number in range(40)]
                self._tried = [Life(None, [path], started, died=(0.0, started), doubt=True) for path in names]
                self.lives += self._tried


def end_of(lives: list[Life]) -> None:
    """Give each deleted file the kinds of case that follow from its whole life."""
    by_path: dict[str, list[Life]] = {}
    for life in lives:
        for path in life.paths:
            by_path.setdefault(path, []).append(life)
    for life in lives:
        if life.died is None:
            continue
        if any(other.born >= life.died[0] for other in by_path[life.paths[-1]] if other is not life):
            life.kinds.add("recreated")
        if ":" in life.paths[-1]:
            life.kinds.add("stream")
        if "index" in life.kinds:
            continue
        if not life.states:
            life.kinds.add("between")
        elif life.states[max(life.states)][1] != (life.contents[-1] if life.contents else b""):
            life.kinds.add("changed")
        if life.kinds <= {"stream"}:
            life.kinds.add("plain")
