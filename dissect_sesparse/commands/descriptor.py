"""``dissect-sesparse descriptor EXTENT``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dissect_sesparse.commands.output import complain
from dissect_sesparse.disk.errors import ParentError, SESparseError
from dissect_sesparse.disk.file import EvidenceFile
from dissect_sesparse.disk.header import read_header
from dissect_sesparse.disk.lost import descriptor_name, possible_parents
from dissect_sesparse.disk.parent import descriptor_at, descriptor_of
from dissect_sesparse.evidence.new_descriptor import new_descriptor

if TYPE_CHECKING:
    import argparse

MAX_LISTED = 20
"""Candidates that are listed."""


def run(options: argparse.Namespace) -> int:
    """Print a descriptor for an extent that has lost its own. Exit codes: 0 printed, 1 refused."""
    extent = Path(options.extent)
    try:
        if options.no_parent:
            parent, why = None, "no parent, as asked: what the extent does not have reads as zeros"
        elif options.parent is not None:
            parent, why = _named(Path(options.parent)), "as asked"
        else:
            parent, why = _found(extent)
        made = new_descriptor(extent, parent)
    except SESparseError as e:
        _note(str(e))
        return 1
    told = [f"parent {parent}: {why}" if parent is not None else why, *made.notes]
    told.append(f"save it as {descriptor_name(extent)} beside copies of, or links to, the extent and its parent")
    for line in told:
        _note(line)
    # As bytes: the encoding of a console or a pipe is not the descriptor's, and line ends stay as they are.
    sys.stdout.flush()
    sys.stdout.buffer.write(made.text.encode())
    sys.stdout.buffer.flush()
    return 0


def _note(line: str) -> None:
    """Say something that is no part of the descriptor."""
    complain("descriptor", line)


def _named(path: Path) -> Path:
    """The descriptor that the user means: of an extent the one that names it."""
    try:
        descriptor_at(path)
    except SESparseError:
        if (descriptor := descriptor_of(path)) is not None:
            return descriptor
        raise
    return path


def _found(extent: Path) -> tuple[Path, str]:
    """The only parent that the extent can have, by all that is known, and why.

    Raises:
        SESparseError: If the extent cannot be read or has a descriptor, or there is no such parent or more than one.
    """
    file = EvidenceFile.open(extent)
    try:
        size = read_header(file, allow_truncated=True).capacity
    finally:
        file.close()
    if (own := descriptor_of(extent)) is not None:
        problem = f"its descriptor is there: {own.name} names it"
        raise ParentError(problem, file=extent, advice="open that; --parent prints another one")
    possible = possible_parents(extent, size)
    fitting = [parent for parent in possible if parent.fits]
    if len(fitting) == 1:
        return fitting[0].path, f"the only one that {fitting[0].why}"
    for line in [str(parent) for parent in possible[:MAX_LISTED]] or ["there is no descriptor beside it"]:
        _note(line)
    if len(possible) > MAX_LISTED:
        _note(f"{len(possible) - MAX_LISTED} more descriptors")
    problem = (
        f"{len(fitting)} of {len(possible)} descriptors beside it fit as its parent's, and none is taken by chance"
    )
    advice = "--parent names it, --no-parent says that there is none"
    raise ParentError(problem, file=extent, advice=advice)
