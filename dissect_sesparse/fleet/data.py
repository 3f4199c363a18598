"""What goes between the processes of a fleet: small, plain, frozen. Records never do, they are written where they arise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dissect_sesparse.source.errors import SESparseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dissect_sesparse.trimmed.parts import Part


class FleetError(SESparseError):
    """A run over a fleet cannot be begun or gone on with."""


@dataclass(frozen=True)
class Settings:
    """What holds for all VMs of a run."""

    folder: str
    """Of the output: absolute, and the same folder for every worker."""
    run: str
    """Names this run, so that a worker can tell that it sees the same folder."""
    functions: tuple[str, ...]
    contents: bool
    """Whether trimmed bytes are hashed and measured."""
    options: Mapping[str, Any]
    """Of the disks, as the driver has them: the environment of a worker may differ."""
    split: int
    """Bytes to hash beyond which a disk is cut into parts."""
    version: str


@dataclass(frozen=True)
class Vm:
    """A VM, or a disk without one."""

    name: str
    """Of its files in the output."""
    path: str
    inside: str | None = None
    """The ``.vmx`` within a tar or zip."""

    @property
    def label(self) -> str:
        return self.path if self.inside is None else f"{self.path}: {self.inside}"


@dataclass(frozen=True)
class Share:
    """One function of one disk, or a part of that."""

    function: str
    disk: int
    """The number of the seSparse disk in the VM."""
    number: int = 0
    part: Part | None = None

    @property
    def file(self) -> str:
        """The name of the file that holds its lines until all of the VM are there."""
        return f"{self.function}-{self.disk:04}-{self.number:04}.jsonl"


@dataclass(frozen=True)
class Survey:
    """What a first look at a VM told."""

    inputs: tuple[tuple[str, int, int | None], ...] = ()
    """Its files: path, size, and when they were last changed."""
    unchanged: bool = False
    """Whether these are the ones of an earlier run: nothing else was looked at."""
    names: tuple[str | None, str | None] = (None, None)
    """Hostname and domain of the guest, where dissect knows its operating system."""
    disks: tuple[str, ...] = ()
    """The seSparse disks."""
    errors: tuple[str, ...] = ()
    """Disks that cannot be opened, and why."""
    skipped: tuple[str, ...] = ()
    """Disks without a seSparse extent."""
    tasks: tuple[tuple[Share, ...], ...] = ()
    """What is to be done."""


@dataclass(frozen=True)
class Done:
    """What a task did: for each piece how many records it gave, and why it gave no more."""

    records: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    """What was only logged: some of it may matter to who reads the records."""
