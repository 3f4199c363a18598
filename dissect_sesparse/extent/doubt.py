"""Why an entry cannot be had although the file has something there: what repairs and checks say, and the accessor passes on."""

from __future__ import annotations

from typing import NamedTuple, Protocol

ZEROS_ADVICE = "unreadable=zero shows zeros there, and reports it"


class Doubt(NamedTuple):
    """Why an entry that the source gives as INVALID cannot be had, although the file has something there."""

    problem: str
    advice: str


class Repair(Protocol):
    """What stands between the file and the source, where anything does."""

    @property
    def state(self) -> str: ...

    @property
    def doubt(self) -> Doubt | None: ...


class Emptied(NamedTuple):
    """That all entries of a region are 0 although copies of them have places in use: then nothing can be read."""

    region: str
    """``grain_directory`` or ``grain_tables``."""
    bitmap: bool
    """Whether the free bitmap shows it."""
    backmap: bool

    def __str__(self) -> str:
        copies = ["the free bitmap"] * self.bitmap + ["the backmap"] * self.backmap
        return f"all entries of the {self.region} are 0, although {' and '.join(copies)} have places in use"
