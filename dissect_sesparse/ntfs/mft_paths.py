"""Full paths of files of an NTFS volume, also through folders that are deleted."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from dissect.ntfs.c_ntfs import FILE_NAME_DOS, FILE_NUMBER_ROOT, FILE_RECORD_SEGMENT_IN_USE
from dissect.ntfs.util import segment_reference

from dissect_sesparse.ntfs.mft_record import MftError, check_record, file_names
from dissect_sesparse.ntfs.mft_uses import reference_of, split_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dissect.ntfs.mft import MftRecord

    from dissect_sesparse.ntfs.view import NtfsView

MAX_DEPTH = 255
"""Folders above a file."""
_MAX_KNOWN = 100_000
"""Folders whose names are kept."""


class NameIn(NamedTuple):
    """A name, and the reference of the folder that has it."""

    name: str
    parent: int


class Paths:
    """Full paths, also through folders that are deleted.

    Args:
        views: The volume in all states of the disk that have it, newest first.
    """

    def __init__(self, views: Sequence[NtfsView]):
        self._views = views
        self.logged: Callable[[int], NameIn | None] = lambda reference: None
        """Gives what a log has of a folder that no state has, by its reference."""
        self._known: dict[tuple[int, int], NameIn | None] = {}

    def of(self, record: MftRecord, view: NtfsView) -> str:
        """The path of a file from its volume's root, with slashes.

        Args:
            record: Its record.
            view: The state that has the record. A folder that is gone there is looked for in older states.

        Raises:
            MftError: If it has no name.
        """
        name = _name(record)
        if name is None:
            raise MftError(f"MFT record {record.segment} has no name")
        return self.below(name, view)

    def below(self, name: NameIn | None, view: NtfsView) -> str:
        """The path of a file of some name, as above."""
        parts, seen = [], set()
        while name is not None:
            parts.append(name.name.replace("/", "_"))
            parent, _ = split_reference(name.parent)
            if parent == FILE_NUMBER_ROOT:
                break
            if parent in seen or len(seen) >= MAX_DEPTH:
                parts.append("<recursion>")
                break
            seen.add(parent)
            name = self._folder(name.parent, view)
            if name is None:
                parts.append(f"<folder {parent:#x} is gone>")
        return "/".join(reversed(parts)).encode("utf-8", "backslashreplace").decode()

    def _folder(self, reference: int, view: NtfsView) -> NameIn | None:
        """The name of a folder in the first state that has it, or has it deleted; else as a log has it."""
        key = view.depth, reference
        if key not in self._known:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            states = [view, *(other for other in self._views if other.depth > view.depth)]
            self._known[key] = _folder_name(states, *split_reference(reference)) or self.logged(reference)
        return self._known[key]


def _name(record: MftRecord) -> NameIn | None:
    """The first of a record's names that is no short one of DOS, if it has any."""
    all_names = file_names(record)
    name: Any = next((name for name in all_names if name.Flags != FILE_NAME_DOS), all_names[0] if all_names else None)
    if name is None:
        return None
    folder = name.ParentDirectory
    return NameIn(name.FileName, reference_of(segment_reference(folder), folder.SequenceNumber))


def _folder_name(states: Sequence[NtfsView], segment: int, sequence: int) -> NameIn | None:
    """The name of a folder in the first state that has it, or has it deleted.

    A free record counts on when its folder is deleted: one that has the very number was that of another folder, before.
    """
    for view in states:
        with suppress(Exception):  # then an older state may have it
            record = view.record(segment)
            check_record(record)
            header = record.header
            free = not header.Flags & FILE_RECORD_SEGMENT_IN_USE  # type: ignore[union-attr]
            number = header.SequenceNumber  # type: ignore[union-attr]
            if record.is_dir() and number == (sequence % 0xFFFF + 1 if free else sequence):
                return _name(record)
    return None
