"""Where the files of the recycle bin of an NTFS volume were before, by the ``$I`` files of all states, live and deleted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dissect.ntfs.c_ntfs import FILE_RECORD_SEGMENT_IN_USE

from dissect_sesparse.files.story import Deletion, Event
from dissect_sesparse.ntfs.layout import layout_of
from dissect_sesparse.ntfs.mft_record import check_record, file_names, streams
from dissect_sesparse.ntfs.recycle_bin import MAX_SIZE, content_place, information_key, recycled
from dissect_sesparse.time.time_window import TimeWindow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dissect.ntfs.mft import MftRecord

    from dissect_sesparse.files.deleted import DeletedFile
    from dissect_sesparse.ntfs.mft_paths import Paths
    from dissect_sesparse.ntfs.recycle_bin import Recycled
    from dissect_sesparse.ntfs.view import NtfsView


class RecycleBin:
    """The recycle bin of a volume, in all states.

    Args:
        paths: Of the volume.
        information: What may be ``$I`` files: the numbers of their records, and the states.
        warn: Gets what cannot be read.
    """

    def __init__(self, paths: Paths, information: Iterable[tuple[int, NtfsView]], warn: Callable[[str], None]):
        self._known: dict[str, set[Recycled]] = {}
        for segment, view in information:
            try:
                record = view.record(segment)
                check_record(record)
                if not any(name.FileName[:2].upper() == "$I" for name in file_names(record)):
                    continue
                key = information_key(paths.of(record, view))
                if key is not None and (found := recycled(_data(record, view))) is not None:
                    self._known.setdefault(key, set()).add(found)
            except Exception as e:  # whatever dissect.ntfs trips over
                warn(f"what may be a $I file of the recycle bin, MFT record {segment}: {e or type(e).__name__}")

    def of(self, path: str) -> tuple[Recycled, str] | None:
        """What is known of a deleted file of the recycle bin, with its path before; ``None`` where nothing, or not one thing, is.

        Args:
            path: Where it is, from the root of the volume.
        """
        place = content_place(path)
        found = self._known.get(place.key, set()) if place is not None else set()
        if place is None or len(found) != 1:
            return None
        (one,) = found
        return one, one.path + place.inner.replace("/", "\\")


def with_original(file: DeletedFile, found: tuple[Recycled, str] | None) -> DeletedFile:
    """A deleted file with what its ``$I`` file says. Its user deleted it first: that is when it went to the recycle bin.

    Args:
        file: The file.
        found: What is known of it, and its path before.
    """
    if found is None:
        return file
    recycling, path = found
    event = Event("renamed", file.path, recycling.at, TimeWindow(), "its $I file in the recycle bin has it", path)
    deletion = file.deletion
    if (at := recycling.at) is not None:
        basis = f"{deletion.basis}; it went to the recycle bin at {at.isoformat()}, by the guest's clock, and left that later"
        deletion = Deletion(deletion.window.narrowed(at), deletion.logged or at, basis)
    logged = any(each.what == "renamed" and each.path == file.path for each in file.story)
    story = file.story if logged else (event, *file.story)
    return replace(file, original_path=path, deletion=deletion, story=story)


def _data(record: MftRecord, view: NtfsView) -> bytes:
    """The content of a file, where its record has it, or a state has the file."""
    pieces = streams(record).get("")
    if not pieces:
        return b""
    layout = layout_of(pieces, view)
    if layout.resident is not None:
        return layout.resident
    live = record.header.Flags & FILE_RECORD_SEGMENT_IN_USE  # type: ignore[union-attr]
    return record.open().read(MAX_SIZE) if live and layout.size <= MAX_SIZE else b""
