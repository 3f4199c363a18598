"""The bytes of a file as a state has it, live or not, and whether they are proven: by the same rules as those of deleted files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dissect.util.stream import RunlistStream

from dissect_sesparse.files.deleted import DeletedFile
from dissect_sesparse.files.file_table import blocks_start, printable_path
from dissect_sesparse.files.ntfs_content import StateSource, content
from dissect_sesparse.files.ntfs_files import NOT_IN_USE
from dissect_sesparse.files.ntfs_names import naming_of
from dissect_sesparse.files.state_file import file_of_state
from dissect_sesparse.files.story import NOTHING_LOGGED
from dissect_sesparse.files.trust import doubt_of, doubt_of_file
from dissect_sesparse.files.walk import reopened, time_of
from dissect_sesparse.history.older_bytes import FilePart
from dissect_sesparse.ntfs.bitmap import Bitmap
from dissect_sesparse.ntfs.layout import layout_of
from dissect_sesparse.ntfs.mft_record import check_record, is_elsewhere, streams
from dissect_sesparse.ntfs.view import NtfsView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.files.deleted import Budget, Piece
    from dissect_sesparse.files.not_looked import Warnings
    from dissect_sesparse.files.volumes import VolumeState
    from dissect_sesparse.history.lines import SeenIn
    from dissect_sesparse.ntfs.layout import StreamLayout


class StateFiles:
    """The files of a file system in one state, by what a table keeps of them.

    Args:
        chain: The disk.
        state: The file system.
        budget: How many bytes are read at the most.
        warnings: Gets what is not recovered, and why.
    """

    def __init__(self, chain: Chain, state: VolumeState, budget: Budget, warnings: Warnings):
        self._chain = chain
        self._state = state
        self._budget = budget
        self._warnings = warnings
        self._doubt: str | None = None
        self._ntfs: tuple[NtfsView, Bitmap] | None = None

    @property
    def doubt(self) -> str:
        """Why what it says may be out of date, see ``trust``; empty where it was closed."""
        if self._doubt is None:
            self._doubt = doubt_of(self._state.fs, self._state.volume)
        return self._doubt

    def file(self, seen: SeenIn) -> DeletedFile:
        """A file as this state has it.

        Raises:
            Exception: Whatever the file system raises.
        """
        entry = reopened(self._state.fs, seen.path, seen.row.number, seen.row.stream)
        if self._state.fs.__type__ == "ntfs":
            return self._of_ntfs(seen, entry)
        why = self.doubt or doubt_of_file(self._state.fs, entry)
        info = entry.lstat()
        found = (seen.path, entry, info)
        return file_of_state(self._chain, self._state, found, why, NOTHING_LOGGED, self._budget, self._warnings)

    def parts_as_in(self, seen: SeenIn, other: StateFiles, there: SeenIn) -> list[FilePart]:
        """The parts of a file that lie at the same place of the disk in another state, by ascending offset.

        Raises:
            Exception: Whatever the file system raises.
        """
        mine, its = self._parts(seen), other._parts(there)
        found, number = [], 0
        for part in mine:
            while number < len(its) and its[number].offset + its[number].size <= part.offset:
                number += 1
            for each in its[number:]:
                if each.offset >= part.offset + part.size:
                    break
                low, high = max(part.offset, each.offset), min(part.offset + part.size, each.offset + each.size)
                if part.place - part.offset == each.place - each.offset and low < high:
                    found.append(FilePart(low, part.place + low - part.offset, high - low))
        return found

    def _parts(self, seen: SeenIn) -> list[FilePart]:
        """Where on the disk a file lies, as far as it was written; nothing where that is not known, or it is compressed."""
        entry, start = reopened(self._state.fs, seen.path, seen.row.number, seen.row.stream), self._state.place
        if start is None:
            return []
        if self._state.fs.__type__ != "ntfs":
            return _runs_of(entry, start + blocks_start(self._state.fs), seen.row.size)
        layout, _ = self._layout(entry)
        if layout is None or layout.unit:
            return []
        end = min(layout.size, layout.valid)
        return [
            FilePart(offset, start + place, min(size, end - offset))
            for offset, place, size in layout.runs
            if place is not None and offset < end
        ]

    def _view(self) -> tuple[NtfsView, Bitmap]:
        if self._ntfs is None:
            state = self._state
            view = NtfsView(state.depth, state.fs.ntfs, state.volume.size, state.place, self.doubt)  # type: ignore[attr-defined]
            self._ntfs = view, Bitmap(view)
        return self._ntfs

    def _layout(self, entry: Any) -> tuple[StreamLayout | None, str]:
        record = entry.entry
        check_record(record)
        if not entry.ads and is_elsewhere(record):
            return None, "its content is not in its main stream: Windows compressed it, or keeps it elsewhere"
        pieces = streams(record).get(entry.ads or "")
        return (layout_of(pieces, self._view()[0]), "") if pieces else (None, "its record names no data")

    def _of_ntfs(self, seen: SeenIn, entry: Any) -> DeletedFile:
        view, bitmap = self._view()
        layout, lost = self._layout(entry)
        link, row = self._chain.links[view.depth], seen.row
        note = " (encrypted: as the file system keeps it)" if layout is not None and layout.encrypted else ""
        size = layout.size if layout is not None else 0

        def pieces() -> Iterator[Piece]:
            if layout is not None and 0 <= size <= self._chain.size:
                yield from self._budget.of(content(layout, StateSource(view, bitmap)), seen.path)

        if size > self._chain.size:
            self._warnings(f"{seen.path}: a file of {size} bytes on a disk of {self._chain.size}: it is not recovered")
        return DeletedFile(
            link=link,
            volume=self._state.name,
            path=printable_path(seen.path),
            size=max(0, size),
            mtime=time_of(row.mtime),
            btime=time_of(row.btime),
            inode=row.inode,
            filesystem="ntfs",
            naming=naming_of("snapshot", view, link.name),
            proof=f"its file system as of {link.name} has them{note}",
            doubt=(view.doubt or NOT_IN_USE) + note,
            known=layout is not None,
            lost=lost,
            pieces=pieces,
            place=self._state.place,
        )


def _runs_of(entry: Any, start: int, end: int) -> list[FilePart]:
    """Where a file lies, by the stream that dissect makes of it."""
    fh, found, offset = entry.open(), [], 0
    for first, count in fh.runlist if type(fh) is RunlistStream else ():
        size = count * fh.block_size
        if first is not None and offset < end:
            found.append(FilePart(offset, start + first * fh.block_size, min(size, end - offset)))
        offset += size
    return found
