"""Times that arguments name. Loads nothing: a parser of arguments asks for it at every start."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import datetime, timezone

from dissect_sesparse.source.text import printable


def time_named(text: str) -> datetime:
    """A time that an argument names: ISO 8601, in UTC where it names no zone.

    Raises:
        ArgumentTypeError: If it is none: then the usage is wrong.
    """
    try:
        time = datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith(("Z", "z")) else text)
        return time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time.astimezone(timezone.utc)
    except (ValueError, OverflowError) as e:
        expected = "2024-03-14, 2024-03-14T21:30:00 or 2024-03-14T21:30:00+01:00"
        raise ArgumentTypeError(printable(f"{text!r} is no time, expected such as {expected}")) from e
