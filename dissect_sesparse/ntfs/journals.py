"""What the change journals of all states of an NTFS volume have of each use of an MFT record.

Windows appends to the journal, and frees its start: an older state still has what the running guest has not any more, and the
rest is the same. So the states are gone through from the oldest one, each from where the one before it ended, and no record is
read twice; a journal that was deleted and made anew is another one by its number (``$Max``), or is shorter than it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from dissect_sesparse.ntfs import change_journal
from dissect_sesparse.ntfs.change_journal import PAGE, records_in, stored_ranges
from dissect_sesparse.ntfs.mft import FIRST_FILE
from dissect_sesparse.ntfs.mft_uses import split_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dissect_sesparse.ntfs.change_journal import JournalRecord
    from dissect_sesparse.ntfs.view import NtfsView

MAX_BYTES = 1 << 30
"""Bytes of journals that are gone through in all states together. Windows keeps 32 MiB of one."""
MAX_USES = 500_000
"""Uses of MFT records that are kept."""
MAX_RENAMES = 16
"""Of one file."""
_CHUNK = 1 << 20


class LoggedMoment(NamedTuple):
    """When something was logged."""

    at: int
    """By the guest's clock, in 100 nanoseconds since 1601."""
    depth: int
    """Of the oldest state whose journal has it."""
    usn: int
    """Its place in the journal."""


class Renaming(NamedTuple):
    """A file got another name, or went to another folder. A name comes with the reference of its folder."""

    when: LoggedMoment
    old: tuple[str, int]
    new: tuple[str, int]


@dataclass(slots=True)
class UsnUse:
    """What the change journals have of a file or folder."""

    name: str
    """The last one."""
    parent: int
    """The reference of its folder."""
    folder: bool
    seen: LoggedMoment
    """The last record of it before it was deleted."""
    made: LoggedMoment | None = None
    changed: LoggedMoment | None = None
    """The last record that has a change of its data: they were changed then, or since it was opened."""
    deleted: LoggedMoment | None = None
    renamed: tuple[Renaming, ...] = ()
    _old: tuple[str, int] | None = None
    """Its name before a renaming whose second half is not met yet."""

    def add(self, record: JournalRecord, depth: int) -> None:
        now, name, reason = LoggedMoment(record.at, depth, record.usn), (record.name, record.parent), record.reason
        if self.deleted is not None:
            return
        if reason & change_journal.MADE and self.made is None:
            self.made = now
        if reason & change_journal.DATA:
            self.changed = now
        if reason & change_journal.OLD_NAME:
            self._old = name
        elif reason & change_journal.NEW_NAME and self._old is not None and len(self.renamed) < MAX_RENAMES:
            self.renamed += (Renaming(now, self._old, name),)
            self._old = None
        if not reason & change_journal.OLD_NAME:
            self.name, self.parent = name
        if reason & change_journal.DELETED:
            self.deleted = now
        else:
            self.seen = now


class ChangeJournals:
    """The change journals of all states.

    Args:
        views: The volume in all states of the disk that have it, newest first.
        warn: Gets what is not looked at, and why.
    """

    def __init__(self, views: Sequence[NtfsView], warn: Callable[[str], None]):
        self._warn = warn
        self._left = MAX_BYTES
        self._number: bytes | None = None
        self._next = 0
        """Where in the stream the journal of the state before ended."""
        self.uses: dict[int, UsnUse] = {}
        """By the reference of the file."""
        self.partial: set[int] = set()
        """The depths of states whose journal was not read to its end."""
        for view in reversed(views):
            try:
                self._read(view)
            except Exception as e:  # whatever dissect.ntfs trips over
                self._miss(view.depth, f"the change journal of the state {view.depth} deep: {e or type(e).__name__}")

    def _read(self, view: NtfsView) -> None:
        journal = view.ntfs.usnjrnl
        if journal is None:
            return
        stream: Any = journal.fh
        number = _number(view)
        if stream.size < self._next or (number is not None and self._number not in (None, number)):
            self._next = 0
        self._number = number or self._number
        if self._next >= stream.size:  # as the state before left it
            return
        for start, page in self._pages(stream, view.depth):
            for record in records_in(page, start):
                if record.usn >= self._next and not self._add(record, view.depth):
                    return
        self._next = stream.size

    def _pages(self, stream: Any, depth: int) -> Iterator[tuple[int, bytes]]:
        """The pages of a journal that were not read in an older state."""
        for low, end in stored_ranges(stream):
            for start in range(max(low, self._next) // PAGE * PAGE, end, _CHUNK):
                size = min(_CHUNK, end - start)
                self._left -= size
                if self._left < 0:
                    self._miss(depth, f"more than {MAX_BYTES} bytes of change journals: the rest is not looked at")
                    return
                data = self._bytes(stream, start, size, depth)
                for at in range(0, len(data), PAGE):
                    yield start + at, data[at : at + PAGE]

    def _bytes(self, stream: Any, start: int, size: int, depth: int) -> bytes:
        """A range of a journal. A page that cannot be read is zeros, which are no record, and that is said."""
        try:
            stream.seek(start)
            return stream.read(size)
        except Exception as e:  # whatever the disk trips over
            if size <= PAGE:
                self._miss(depth, f"a page of the change journal of the state {depth} deep cannot be read: {e}")
                return bytes(size)
        pages = (range(at, min(at + PAGE, start + size)) for at in range(start, start + size, PAGE))
        return b"".join(self._bytes(stream, page.start, len(page), depth) for page in pages)

    def _miss(self, depth: int, why: str) -> None:
        self.partial.add(depth)
        self._warn(why)

    def _add(self, record: JournalRecord, depth: int) -> bool:
        """Whether there is room for more."""
        if split_reference(record.reference)[0] < FIRST_FILE:
            return True
        use = self.uses.get(record.reference)
        if use is None:
            if len(self.uses) >= MAX_USES:
                self._miss(depth, f"change journals of more than {MAX_USES} files: the rest is not looked at")
                return False
            folder = bool(record.attributes & change_journal.FOLDER)
            use = UsnUse(record.name, record.parent, folder, LoggedMoment(record.at, depth, record.usn))
            self.uses[record.reference] = use
        use.add(record, depth)
        return True


def _number(view: NtfsView) -> bytes | None:
    """What tells journals of one volume apart: ``UsnJournalID`` in ``$Max`` (ntifs.h, CREATE_USN_JOURNAL_DATA and behind)."""
    try:
        data = view.ntfs.mft.get("$Extend/$UsnJrnl").open("$Max").read(32)  # type: ignore[union-attr]
    except Exception:  # then its length alone tells it
        return None
    return data[16:24] if len(data) >= 24 else None
