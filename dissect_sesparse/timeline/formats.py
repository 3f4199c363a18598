r"""A timeline in the formats of other tools, line by line.

- ``text``: for people, a window in one line.
- ``jsonl`` and ``csv`` for Timesketch, which wants ``message``, ``datetime`` and ``timestamp_desc`` in each line, and all times
  written alike: it drops what looks different from the first one.
- ``bodyfile`` for mactime and Plaso: ``MD5|name|inode|mode|UID|GID|size|atime|mtime|ctime|crtime``, in whole seconds since
  1970, 0 for what is not known.

What has no time is left out of the last three, and counted.
"""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from dissect_sesparse.source.text import printable
from dissect_sesparse.timeline.event import KINDS, NOT_AFTER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dissect_sesparse.timeline.event import Moment

COLUMNS: tuple[str, ...] = (
    "message", "datetime", "timestamp_desc", "kind", "machine", "hostname", "disk", "link", "depth", "path", "old_path",
    "size", "inode", "source", "source_offset", "after", "before", "basis",
)  # fmt: skip
"""Of a line for Timesketch. None of them has a meaning of its own there, but for the first three."""
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
"""What a cell begins with that a spreadsheet takes for a formula; also as full-width characters."""
_MADE = ("file-made", "snapshot-taken", "link-begun")
_META = ("file-renamed", "file-deleted", "file-gone")
_HEX = re.compile(r"%(?=[0-9A-Fa-f]{2})")


class Written:
    """How many moments were written, and how many left out because the format needs a time and there is none."""

    def __init__(self) -> None:
        self.written = 0
        self.undated = 0


def text_lines(moments: Iterable[Moment], counts: Written, *, machines: bool = False) -> Iterator[str]:
    """A line an event, for people: when, or between when and when; what that is, whose, and what happened.

    Args:
        moments: In their order.
        counts: Where they are counted.
        machines: Whether each line names its machine.
    """
    for moment in moments:
        if moment.after is not None and moment.timestamp_desc.endswith(NOT_AFTER):
            continue  # it is in the line of the other end
        counts.written += 1
        whose = f"{printable(moment.machine)}: {printable(moment.link)}" if machines else printable(moment.link)
        yield f"{_when(moment):<58}  {KINDS[moment.kind]:<20}  {whose}  {moment.message}"


def _when(moment: Moment) -> str:
    """A time, or both ends of a window, of which one may not be known."""
    if moment.timestamp_desc == KINDS[moment.kind] and moment.ts is not None:
        return _utc(moment.ts)
    after, before = (_utc(time) if time is not None else "" for time in (moment.after, moment.before))
    return f"{after:<27} .. {before}".rstrip() if after or before else "-"


def _utc(time: datetime) -> str:
    return _iso(time).replace("+00:00", "Z")


def json_lines(moments: Iterable[Moment], counts: Written, *, machines: bool = False) -> Iterator[str]:
    """A JSON object a line, the machine always in it; what is empty is not."""
    for moment in _dated(moments, counts):
        fields = {name: value for name, value in _fields(moment) if value is not None}
        yield json.dumps(fields)


def csv_lines(moments: Iterable[Moment], counts: Written, *, machines: bool = False) -> Iterator[str]:
    """Comma separated, with a header. No cell is a formula, whatever the evidence is called."""
    yield ",".join(COLUMNS)
    for moment in _dated(moments, counts):
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow([_cell(value) for _, value in _fields(moment)])
        yield line.getvalue()


def body_lines(moments: Iterable[Moment], counts: Written, *, machines: bool = False) -> Iterator[str]:
    """A line each for mactime: the time is that of being made, changed, or (renamed, deleted) of a change of metadata."""
    for moment in _dated(moments, counts, since=datetime.fromtimestamp(1, timezone.utc)):
        seconds = int(moment.ts.timestamp())  # type: ignore[union-attr]  # it is dated
        column = 3 if moment.kind in _MADE else 2 if moment.kind in _META else 1
        times = [seconds if number == column else 0 for number in range(4)]
        mode = "r/----------" if moment.path is not None else "-/----------"
        size, inode = max(0, moment.size or 0), max(0, moment.inode or 0)
        yield "|".join(map(str, ("0", _body_name(moment, machines=machines), inode, mode, 0, 0, size, *times)))


FORMATS: dict[str, Callable[..., Iterator[str]]] = {
    "text": text_lines,
    "jsonl": json_lines,
    "csv": csv_lines,
    "bodyfile": body_lines,
}
"""The formats that are lines, and what makes them. All take the same arguments as :func:`text_lines`."""


def _dated(moments: Iterable[Moment], counts: Written, since: datetime | None = None) -> Iterator[Moment]:
    for moment in moments:
        if moment.ts is None or (since is not None and moment.ts < since):
            counts.undated += 1
        else:
            counts.written += 1
            yield moment


def _fields(moment: Moment) -> Iterator[tuple[str, Any]]:
    for name in COLUMNS:
        value = getattr(moment, "ts" if name == "datetime" else name)
        if isinstance(value, datetime):
            value = _iso(value)
        elif isinstance(value, str) and not value.isascii():
            value = value.encode("utf-8", "backslashreplace").decode()  # half a character is none for a database
        yield name, value


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _iso(time: datetime) -> str:
    """With microseconds, also where these are none."""
    return time.astimezone(timezone.utc).isoformat(timespec="microseconds")


def _body_name(moment: Moment, *, machines: bool) -> str:
    """The name of a line: a file's path, else what happened; and what the time is.

    mactime splits at every bar and reads ``%`` with two hexadecimal digits as that byte: so a bar is written as ``%7C``, and
    ``%`` as ``%25`` where digits follow.
    """
    name = moment.message if moment.path is None else moment.path
    if moment.old_path is not None:
        name = f"{moment.old_path} -> {name}"
    if machines:
        name = f"{moment.machine}: {name}"
    return _HEX.sub("%25", printable(f"{name} ({moment.timestamp_desc})")).replace("|", "%7C")
