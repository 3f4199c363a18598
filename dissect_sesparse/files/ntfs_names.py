"""What names a file of an NTFS volume, and between which states it was deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dissect_sesparse.files.story import Naming
from dissect_sesparse.files.trust import was_behind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dissect_sesparse.ntfs.mft import Incarnation
    from dissect_sesparse.ntfs.view import NtfsView


def naming_of(by: str, view: NtfsView, link: str) -> Naming:
    """How sure the name of a file is that its MFT record has.

    Args:
        by: ``snapshot`` where the state has the file, ``mft`` where it has its record freed.
        view: The state.
        link: The name of its link.
    """
    if by != "snapshot":
        return Naming(by, "likely", f"its MFT record, freed as of {link}, has it; its folders may be others since")
    has_it = f"the file system as of {link} has it"
    return Naming(by, "likely", f"{has_it}; {view.doubt}") if view.doubt else Naming(by, "proven", has_it)


def also_naming(by: str, one: Incarnation, beside: tuple[str, ...]) -> tuple[str, ...]:
    """What names a file beside what names it best.

    Args:
        by: As above.
        one: The file.
        beside: What names it beside its MFT record.
    """
    records = (("snapshot", one.live_in), ("mft", one.deleted_in))
    return (*(other for other, view in records if view is not None and other != by), *beside)


def states_around(one: Incarnation, views: Sequence[NtfsView]) -> tuple[int | None, int | None]:
    """The depths of the newest state before a file was deleted, and of the oldest after that; ``None``: there is none.

    A state whose file system was in use may have a file that was deleted before it was frozen, which was not written yet: the
    deletion is then only known to be later than the state below it.
    """
    depths = [view.depth for view in views]  # ascending: newest first
    if one.live_in is not None:
        has: int | None = one.live_in.depth
    else:  # made and deleted since the state below the one that has its record freed
        assert one.deleted_in is not None
        has = next((depth for depth in depths if depth > one.deleted_in.depth), None)
    newer = max((depth for depth in depths if has is None or depth < has), default=None)
    return newest_written_until(views, has), one.deleted_in.depth if one.deleted_in is not None else newer


def newest_written_until(views: Sequence[NtfsView], depth: int | None) -> int | None:
    """The depth of the newest state, not newer than one, that has all that its guest had done; ``None``: there is none."""
    reaches = (view for view in views if depth is not None and view.depth >= depth)
    return next((view.depth for view in reaches if not was_behind(view.doubt)), None)
