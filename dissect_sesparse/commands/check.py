"""``dissect-sesparse check TARGET``."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from itertools import chain as chained
from typing import TYPE_CHECKING

from dissect_sesparse.commands.opening import disks_of, is_told, open_target, ours
from dissect_sesparse.commands.text import columns, printable
from dissect_sesparse.disk.errors import SESparseError
from dissect_sesparse.evidence.findings import Once, findings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from dissect_sesparse.evidence.findings import Finding
    from dissect_sesparse.evidence.recover import Source

CLEAN, UNREADABLE, FOUND = 0, 1, 3
"""Exit codes; 2 is wrong usage."""
LEVELS = ("error", "warning", "info")
_HEADS = ("LEVEL", "CODE", "LINK", "IN FILE", "ON DISK", "SIZE", "WHAT")
_NUMBERS = frozenset((3, 4, 5))


def run(options: argparse.Namespace) -> int:
    """Print the findings of all disks of a target.

    Exit codes: 0 no finding, 3 findings of whatever level, 1 where the target or one of its disks cannot be read.
    """
    from dissect_sesparse.target.registration import register

    register()
    logging.getLogger("dissect_sesparse").addHandler(logging.NullHandler())  # the table says the same
    try:
        target = open_target(options.target)  # kept: when it goes, so do its disks
        sources, others = disks_of(target, options.target)
    except Exception as e:  # loaders of dissect raise anything: an empty folder is a StopIteration
        error = ours(e) or e
        told = str(error) if error is not e or is_told(e) else f"{type(e).__name__}: {e}"
        print(f"dissect-sesparse check: {printable(f'{options.target}: {told}')}", file=sys.stderr)
        return UNREADABLE
    once = Once()
    codes = [_check(source, once) for source in sources]
    for other in others:
        print(printable(f"{other['disk']}: {other['state']}: {other['reason']}"))
        codes += [UNREADABLE] if other["state"] == "failed" else []
    return UNREADABLE if UNREADABLE in codes else max(codes)


def _check(source: Source, once: Once) -> int:
    """The table of a disk."""
    found: list[Finding] = []
    error = None
    try:
        found += once(chained(source.notes, findings(source.chain)))
    except SESparseError as e:
        error = e
    name = printable(source.chain.name)
    counts = Counter(finding.level for finding in found)
    told = ", ".join(f"{counts[level]} {level}" for level in LEVELS if counts[level]) or "no findings"
    print(f"{name}: {len(source.chain.links)} links, {source.chain.size} bytes: {told}")
    if found:
        for line in columns([_HEADS, *_rows(source, found)], _NUMBERS):
            print(f"  {line}")
    if error is not None:
        print(printable(f"{name}: not all is told: {error}"))
    return UNREADABLE if error is not None else FOUND if found else CLEAN


def _rows(source: Source, found: list[Finding]) -> Iterator[tuple[str, ...]]:
    """A row a finding, the worst first; of one level in the order in which they were found."""
    links = source.chain.links
    for finding in sorted(found, key=lambda finding: LEVELS.index(finding.level)):
        link = links[min(finding.depth, len(links) - 1)].name
        numbers = [f"{n:#x}" if n is not None else "-" for n in (finding.source_offset, finding.offset)]
        size = str(finding.size) if finding.size is not None else "-"
        yield finding.level, finding.code, printable(link), *numbers, size, printable(finding.message)
