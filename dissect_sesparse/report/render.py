"""The page of a report."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from dissect_sesparse.report.shown import address, clipped, count, moment, shown, size
from dissect_sesparse.trimmed.strip import LABELS

if TYPE_CHECKING:
    from dissect_sesparse.report.model import DiskReport, Report
    from dissect_sesparse.trimmed.strip import Cell, Strip

MAX_PAGE = 5_000_000
"""Bytes. Lists are cut until a page is below it."""
_ROWS = (2000, 1000, 500, 200, 50, 10)
"""Rows of each list: so many, or fewer where that makes the page too large."""

STATE_WORDS = {
    "allocated": "written since a snapshot",
    "base": "base disk",
    "unmapped": "trimmed by the guest",
    "zero": "zeros",
    "hole": "nothing here",
    "invalid": "unreadable",
}
"""What the labels of a strip are called, in the order of the legend."""


def render(report: Report) -> bytes:
    """The page, as UTF-8. Its lists are cut, and say so, until it has less than 5 MB."""
    page = b""
    for rows in _ROWS:
        page = _page(report, rows)
        if len(page) < MAX_PAGE:
            break
    return page


def _page(report: Report, rows: int) -> bytes:
    style, script = _resource("page.css"), _resource("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; "
        "form-action 'none'"
    )
    text = (
        _environment()
        .from_string(_resource("page.html"))
        .render(
            report=report,
            findings=report.findings.cut(rows),
            unmapped=report.unmapped.cut(rows),
            files=report.files.cut(rows),
            states=STATE_WORDS,
            policy=policy,
            # These three are ours, not the evidence's: the data is text in which no character ends the element it is in.
            style=Markup(style),  # noqa: S704
            script=Markup(script),  # noqa: S704
            data=Markup(_data(report)),  # noqa: S704
        )
    )
    return text.encode()


def _resource(name: str) -> str:
    return (files("dissect_sesparse.report") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As a Content-Security-Policy names a style or a script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"size": size, "count": count, "address": address, "moment": moment, "clipped": clipped}
    environment.globals |= {"percent": percent, "ranges": ranges}
    return environment


def _finalize(value: Any) -> Any:
    """Every value that the template puts out goes through here: text is made visible, ``None`` is nothing."""
    if value is None:
        return ""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def percent(part: int, whole: int) -> str:
    """A share; never 0 % of what there is, nor 100 % of what is not all."""
    if not whole or not part or part == whole:
        return "100 %" if part and part == whole else "0 %"
    share = 100 * part / whole
    return "< 0.1 %" if share < 0.1 else "> 99.9 %" if share > 99.9 else f"{share:.1f} %"


def ranges(strip: Strip, most: int = 100) -> list[tuple[int, Cell, dict[str, int]]]:
    """The cells of a strip for the table that stands for it: where each starts, and its bytes by label.

    Holes are left out; of more than ``most`` the longest stay, in the order of the disk.
    """
    start, found = 0, []
    for cell in strip.cells:
        sizes = {name: number for name, number in zip(LABELS, cell.sizes) if number}
        if set(sizes) != {"hole"}:
            found.append((start, cell, sizes))
        start += cell.length
    longest = sorted(found, key=lambda entry: entry[1].length, reverse=True)[:most]
    return sorted(longest, key=lambda entry: entry[0])


def _data(report: Report) -> str:
    """What the script draws: JSON that is safe within a script element."""
    text = json.dumps(
        {"labels": LABELS, "states": STATE_WORDS, "disks": [_disk(disk) for disk in report.disks]},
        separators=(",", ":"),
    )
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _disk(disk: DiskReport) -> dict[str, Any]:
    names = ["The disk", *(shown(link.name) for link in disk.links)]
    strips = [disk.strip, *(link.strip for link in disk.links)]
    return {
        "size": disk.size,
        "strips": [
            {"name": clipped(name, 80), "merged": strip.merged, "cells": [_cell(cell) for cell in strip.cells]}
            for name, strip in zip(names, strips)
        ],
    }


def _cell(cell: Cell) -> list[int]:
    """``[length, runs, label]``, or ``[length, runs, bytes of each label]``."""
    used = [number for number, bytes_ in enumerate(cell.sizes) if bytes_]
    return [cell.length, cell.runs, used[0]] if len(used) == 1 else [cell.length, cell.runs, *cell.sizes]
