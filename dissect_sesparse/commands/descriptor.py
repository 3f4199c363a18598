"""``dissect-sesparse descriptor EXTENT...``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dissect_sesparse.chain.lost import descriptor_name, possible_parents
from dissect_sesparse.chain.parent import descriptor_at, descriptor_of
from dissect_sesparse.commands.output import complain
from dissect_sesparse.findings.unread import unread_beside
from dissect_sesparse.recovery.new_descriptor import new_descriptor, pieces_beside, read_piece
from dissect_sesparse.repair.rebuild import Capacity
from dissect_sesparse.source.errors import ExtentError, OptionError, ParentError, SESparseError
from dissect_sesparse.source.file import SECTOR
from dissect_sesparse.source.text import printable

if TYPE_CHECKING:
    import argparse

    from dissect_sesparse.recovery.new_descriptor import ExtentPiece

MAX_LISTED = 20
"""Candidates that are listed."""


def run(options: argparse.Namespace) -> int:
    """Print a descriptor for an extent, or several, that lost their own.

    Exit codes: 0 printed; 1 refused, or printed for another parent than the descriptor beside the extent wants.
    """
    try:
        extents = [Path(extent) for extent in options.extent]
        named = _named(Path(options.parent)) if options.parent is not None else None
        pieces = _pieces(extents if len(extents) > 1 else pieces_beside(extents[0]), named, options.capacity)
        if options.no_parent:
            parent, why = None, "no parent, as asked: what the extent does not have reads as zeros"
        else:
            parent, why = (named, "as asked") if named is not None else _found(pieces)
        if len(pieces) > len(extents):
            _check_whole(pieces, parent)
        made = new_descriptor(pieces, parent)
        doubt = _doubt(extents[0], parent)
    except SESparseError as e:
        _note(str(e))
        return 1
    notes = [f"parent {parent}: {why}" if parent is not None else why, *made.notes]
    if len(pieces) > 1:
        notes.append(f"{len(pieces)} extents, in this order: {', '.join(piece.path.name for piece in pieces)}")
    notes.append(f"save it as {descriptor_name(extents[0])} beside copies of, or links to, the extent and its parent")
    if doubt is not None:
        notes.append(doubt)
    for line in notes:
        _note(line)
    # As bytes: the encoding of a console or a pipe is not the descriptor's, and line ends stay as they are.
    sys.stdout.flush()
    first, _, rest = made.text.partition("\n")
    text = made.text if doubt is None else f"{first}\n# {printable(doubt)}\n{rest}"  # it is said wherever the text goes
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
    return 0 if doubt is None else 1


def _doubt(extent: Path, parent: Path | None) -> str | None:
    """What speaks against a parent: the extent's descriptor is there, and wants one with another content ID.

    Then the new one would hide it: its ``parentCID`` is that of the parent that the user names.
    """
    own = descriptor_of(extent)
    if own is None or parent is None:
        return None
    wanted = descriptor_at(own).parent_cid
    if descriptor_at(parent).has_cid(wanted):
        return None
    return f"parentCID is {wanted or 'not given'} in {own.name}: {parent.name} is changed since, or another disk"


def _pieces(extents: list[Path], parent: Path | None, sectors: int | None) -> list[ExtentPiece]:
    """The extents with their capacities; that of one whose header is destroyed by what else tells it.

    Raises:
        SESparseError: If an extent cannot be read, or nothing tells its capacity.
    """
    pieces = [read_piece(extent, rebuild=False) for extent in extents]
    known = sum(piece.capacity or 0 for piece in pieces)
    destroyed = [piece for piece in pieces if piece.capacity is None]
    if sectors is not None and len(destroyed) != 1:
        problem = f"{len(destroyed)} of the extents have a header that is destroyed"
        raise OptionError(problem, field="--capacity", value=sectors, expected="one whose capacity no header tells")
    capacities = [] if sectors is None else [Capacity(sectors, "--capacity")]
    if parent is not None and len(destroyed) == 1:
        rest = descriptor_at(parent).size - known
        capacities.append(Capacity(rest // SECTOR, f"the parent {parent.name}"))
    return [read_piece(piece.path, capacities) if piece.capacity is None else piece for piece in pieces]


def _check_whole(pieces: list[ExtentPiece], parent: Path | None) -> None:
    """Extents that were found by their numbers: only the size of the parent tells that none is missing at the end.

    Raises:
        ExtentError: If it does not.
    """
    size = sum(piece.capacity or 0 for piece in pieces)
    if parent is None or descriptor_at(parent).size != size:
        raise ExtentError(
            f"it and {len(pieces) - 1} beside it are numbered as extents of one disk, which nothing confirms",
            file=pieces[0].path,
            expected="a parent of as many bytes as they have together",
            advice="name them all, in their order on the disk",
        )


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


def _found(pieces: list[ExtentPiece]) -> tuple[Path, str]:
    """The only parent that the extents can have, by all that is known, and why.

    Raises:
        SESparseError: If they have a descriptor, there is no such parent or more than one, or what else may tell of one
            cannot be read.
    """
    extent, size = pieces[0].path, sum(piece.capacity or 0 for piece in pieces)
    if (own := descriptor_of(extent)) is not None:
        problem = f"its descriptor is there: {own.name} names it"
        raise ParentError(problem, file=extent, advice="open that; --parent prints another one")
    possible = possible_parents(extent, size)
    fitting = [parent for parent in possible if parent.fits]
    others = {*(piece.path for piece in pieces), extent.with_name(descriptor_name(extent))}
    unread = [each for each in unread_beside(extent) if each.source not in others and each.level != "info"]
    if len(fitting) == 1 and not unread:
        return fitting[0].path, f"the only one that {fitting[0].why}"
    for line in [str(parent) for parent in possible[:MAX_LISTED]] or ["there is no descriptor beside it"]:
        _note(line)
    if len(possible) > MAX_LISTED:
        _note(f"{len(possible) - MAX_LISTED} more descriptors")
    for each in unread[:MAX_LISTED]:
        _note(each.message)
    problem = (
        f"{len(fitting)} of {len(possible)} descriptors beside it fit as its parent's, and none is taken by chance"
    )
    if unread:
        problem += f"; {len(unread)} that may tell otherwise cannot be read"
    advice = "--parent names it, --no-parent says that there is none"
    raise ParentError(problem, file=extent, advice=advice)
