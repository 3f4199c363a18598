"""Text of the evidence made harmless for the eye, numbers and times for people.

Names in evidence are hostile. What they would do as HTML, the template engine's escaping prevents. What they would do to a
reader's eye is prevented here: a character that is not seen, or that turns the order of others round, is written as its
number.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode categories: control, format (the bidi ones among them), surrogate, private use, line and paragraph separator."""
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


def shown(text: str) -> str:
    """The text with each character that cannot be seen as ``⟨U+202E⟩``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in _UNSEEN else c for c in text)


def clipped(text: str, most: int) -> str:
    """The text as :func:`shown`, with its middle left out where it is longer than ``most`` characters."""
    text = shown(text)
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


def size(number: int | None) -> str:
    """Bytes for people: ``76 KiB``, ``1.5 GiB``. Exact up to four digits, then rounded."""
    if number is None:
        return ""
    if abs(number) < 1024:
        return f"{number} bytes" if number != 1 else "1 byte"
    value = float(number)
    for unit in _UNITS:
        value /= 1024
        if abs(value) < 1023.95 or unit == _UNITS[-1]:
            return f"{value:.1f}".removesuffix(".0") + f" {unit}"
    raise AssertionError("unreachable")


def count(number: int) -> str:
    """A number with its thousands apart."""
    return f"{number:,}"


def address(number: int | None) -> str:
    """A byte's number, as tools want it."""
    return "" if number is None else f"{number:#x}"


def moment(time: datetime | None) -> str:
    """A time in UTC, to the second."""
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"
