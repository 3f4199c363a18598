"""The data streams of a file of NTFS, as one state has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dissect.ntfs.c_ntfs import ATTRIBUTE_TYPE_CODE

from dissect_sesparse.ntfs.layout import StreamLayout, layout_of
from dissect_sesparse.ntfs.mft_record import MftError, check_record, is_elsewhere, streams

if TYPE_CHECKING:
    from dissect.ntfs.mft import MftRecord

    from dissect_sesparse.ntfs.mft_paths import Paths
    from dissect_sesparse.ntfs.view import NtfsView


class Stream(NamedTuple):
    """A data stream of a file, as one state tells it."""

    view: NtfsView
    record: MftRecord
    path: str
    layout: StreamLayout | None
    """``None`` where nothing tells where its bytes are."""
    lost: str
    """Why not."""


def streams_in(view: NtfsView, segment: int, paths: Paths) -> dict[str, Stream]:
    """The data streams of a file by name; "" is the file's own.

    Args:
        view: The state.
        segment: The number of the file's MFT record.
        paths: Of the volume.

    Raises:
        Exception: Whatever dissect.ntfs trips over.
    """
    record = view.record(segment)
    check_record(record)
    path = paths.of(record, view)
    found = {}
    for name, pieces in (streams(record) or {"": []}).items():
        layout, lost = None, "its record names no data"
        try:
            if pieces and not name and is_elsewhere(record):
                lost = "its content is not in its main stream: Windows compressed it, or keeps it elsewhere"
            elif pieces:
                layout = layout_of(pieces, view)
        except MftError as e:
            lost = str(e)
        found[name] = Stream(view, record, f"{path}:{name}" if name else path, layout, lost)
    return found


def stream_names(view: NtfsView, segment: int) -> set[str]:
    """The names of a file's data streams: also of those whose own record cannot be read, by the list of its attributes.

    Raises:
        Exception: Whatever dissect.ntfs trips over.
    """
    record = view.record(segment)
    check_record(record)
    listed = {
        entry.AttributeName
        for attribute in record.attributes[ATTRIBUTE_TYPE_CODE.ATTRIBUTE_LIST]
        for entry in attribute.attribute.entries  # type: ignore[union-attr]
        if entry.AttributeTypeCode == ATTRIBUTE_TYPE_CODE.DATA
    }
    return listed | set(streams(record))
