"""The host of ``histories.py``: that of ``churn.py``, which also lists its snapshots with their times, and trims in one of several ways."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import churn
from churn_drivers import GRAIN, run
from churn_guest import Truth
from history_drivers import MAKERS
from history_guest import HistoryGuest, end_of
from sesparse_builder import vmsd

if TYPE_CHECKING:
    from churn_drivers import Driver
    from history_guest import Life

TRIMS = ("none", "grain", "MiB")
MIB_GRAINS = (1 << 20) // GRAIN


@dataclass(frozen=True)
class Plan:
    """What history to make."""

    kind: str
    """One of ``MAKERS``."""
    seed: int
    operations: int
    snapshots: int
    trim: str
    """One of :data:`TRIMS`: nothing, each grain that is free, or each whole and aligned MiB that is."""
    full: bool
    """Whether the volume is nearly full from the start."""

    def __str__(self) -> str:
        room = "full" if self.full else "empty"
        return f"{self.kind} seed {self.seed}: {self.operations} operations, {self.snapshots} snapshots, trim {self.trim}, {room}"


class HistoryHost(churn.Host):
    """Keeps a chain of what the guest writes and trims, and the times of its snapshots."""

    def __init__(self, driver: Driver, rng: random.Random, folder: Path, trim: str):
        super().__init__(driver, rng, folder)
        self._trims = 0.0 if trim == "none" else 1.0
        self._whole = MIB_GRAINS if trim == "MiB" else 1
        self.snapshots: list[dict[str, object]] = []

    def record(self, image: Path, free: set[int] | None = None) -> None:
        """The same, with trims of whole pieces; what the guest trimmed is zeros to it from now on."""
        if free is not None:
            whole = (range(at, at + self._whole) for at in range(0, self.driver.size // GRAIN, self._whole))
            free = {grain for piece in whole if free.issuperset(piece) for grain in piece}
        trimmed = sorted((free or set()) - self._free) if self._trims and self.extent is not None else []
        super().record(image, free)
        with image.open("r+b") as fh:
            for grain in trimmed:
                fh.seek(grain * GRAIN)
                fh.write(bytes(GRAIN))
        if trimmed:
            self._before = image.read_bytes()

    def snapshot(self) -> None:
        frozen, number = self.chain.links[-1].descriptor_name, len(self.snapshots) + 1
        super().snapshot()
        now = datetime.fromtimestamp(time.time(), timezone.utc)
        self.snapshots.append({"uid": number, "display_name": f"s{number}", "created": now, "disks": [frozen]})

    def write(self) -> Path:
        path = self.chain.write()
        path.with_name("vm.vmsd").write_bytes(vmsd(self.snapshots).encode())
        return path


@dataclass(frozen=True)
class History:
    """What was made, and the truth of it."""

    plan: Plan
    driver: Driver
    path: Path
    """The newest descriptor."""
    lives: list[Life]
    states: int
    """Of the disk, the running guest is the last."""
    operations: Counter[str]


def make(plan: Plan, folder: Path) -> History:
    """Run one history."""
    driver, rng, image = MAKERS[plan.kind](plan.seed), random.Random(plan.seed), folder / "partition.img"
    driver.make(image)
    guest = HistoryGuest(driver, rng, Truth())
    host = HistoryHost(driver, rng, folder / "vm", plan.trim)
    with driver.mounted(image) as guest.root:
        for name in driver.folders:
            (guest.root / name).mkdir(parents=True, exist_ok=True)
        if plan.full:
            guest._write("fill", bytes(max(0, _space(driver, guest.root) - rng.choice(driver.room))))
    for period in range(plan.snapshots + 1):
        _period(plan, guest, host, image, last=period == plan.snapshots)
    end_of(guest.lives)
    return History(plan, driver, host.write(), guest.lives, plan.snapshots + 1, guest.operations)


def _space(driver: Driver, root: Path) -> int:
    if hasattr(driver, "space"):
        return driver.space(root)  # type: ignore[attr-defined]
    room = os.statvfs(root)
    return room.f_bavail * room.f_frsize


def _period(plan: Plan, guest: HistoryGuest, host: HistoryHost, image: Path, *, last: bool) -> None:
    """What happens until the next snapshot, by one mount after the other, with trims between them."""
    steps, live = plan.operations // (plan.snapshots + 1), False
    while steps > 0:
        some = min(steps, guest.rng.randrange(10, 60))
        steps -= some
        with guest.driver.mounted(image) as guest.root:
            for _ in range(some):
                guest.step()
            if steps <= 0:
                guest.snapshot()
                if live := not last and "live" in guest.driver.features and guest.rng.random() < 0.3:
                    run("sync", "-f", guest.root)
                    host.record(image)
                    host.snapshot()
        host.record(image, guest.driver.free(image))
    if not last and not live:
        host.snapshot()
