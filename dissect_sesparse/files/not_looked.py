"""What was not looked at. *Found nothing* and *did not look* are never the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.source.errors import SESparseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_WARNINGS = 50
MAX_PLACES = 1000


class NotLooked(NamedTuple):
    """A volume that was not looked at, or not to its end, in some state of the disk."""

    where: str
    """What dissect calls the volume; of a state that cannot be opened, the name of its link."""
    why: str


class NotAllLookedAtError(SESparseError):
    """Raised behind all that was found: there are volumes that were not looked at.

    Args:
        places: Which, and why.
        file: Of which disk.
    """

    def __init__(self, places: tuple[NotLooked, ...], file: str):
        self.places = places
        missed = counted(place.where for place in places)
        super().__init__(f"{missed}: {'; '.join(place.why for place in places[:10])}", file=file)


def counted(volumes: Iterable[str]) -> str:
    """How many volumes were not looked at, in words; nothing where that is none."""
    count = len(set(volumes))
    return f"{count} volume{'s' if count != 1 else ''} not looked at, or not to the end" if count else ""


class Warnings:
    """Messages for the log, the first of them: evidence that is made for it has any number.

    Args:
        warn: Gets each.
        of: What they are about.
    """

    def __init__(self, warn: Callable[[str], None], of: str):
        self._warn = warn
        self.of = of
        self.count = 0
        self._missed: dict[NotLooked, None] = {}

    def __call__(self, message: str) -> None:
        self.count += 1
        if self.count <= MAX_WARNINGS:
            self._warn(f"{self.of}: {message}")
        elif self.count == MAX_WARNINGS + 1:
            self._warn(f"{self.of}: more than {MAX_WARNINGS} warnings, the rest is not told")

    def missed(self, where: str, why: str) -> None:
        """A warning that is about a volume, or a state of the disk, that was not looked at, or not to its end."""
        place = NotLooked(where, why)
        if place not in self._missed:
            self(why)
            if len(self._missed) < MAX_PLACES:
                self._missed[place] = None

    def end(self) -> None:
        """Say at the end that it is not all.

        Raises:
            NotAllLookedAtError: If anything was missed.
        """
        if self._missed:
            raise NotAllLookedAtError(tuple(self._missed), self.of)
