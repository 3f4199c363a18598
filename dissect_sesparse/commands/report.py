"""``dissect-sesparse report TARGET -o FILE``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dissect_sesparse.commands.opening import (
    disks_of,
    files_of,
    is_told,
    loader_of,
    open_target,
    ours,
    progress_bar,
    with_files,
)
from dissect_sesparse.evidence.recover_state import refuse_inside
from dissect_sesparse.evidence.report import report
from dissect_sesparse.evidence.writing import OutputFolder, RecoverError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from dissect_sesparse.evidence.report import Report


def run(options: argparse.Namespace) -> int:
    """Write the page, and say what is in it. Exit codes: 0 it tells all, 1 not all or nothing was written."""
    from dissect_sesparse.target.registration import register

    register()
    try:
        _check(options.output, replace=options.force)
        from dissect_sesparse.page.render import render  # here: without jinja2 nothing is read in vain

        with progress_bar("report") as progress:
            target = open_target(options.target)  # kept: when it goes, so do its disks
            sources, others = disks_of(target, options.target)
            made = report(
                sources if options.no_files else list(map(with_files, sources)),
                files=files_of(loader_of(target)),
                others=others,
                target=options.target,
                hashes=not options.no_hash,
                check=lambda folders: refuse_inside(options.output.parent, folders),
                progress=progress,
            )
        _write(options.output, render(made))
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 1
    except Exception as e:
        error = ours(e)
        if error is None and not is_told(e) and not isinstance(e, ModuleNotFoundError):
            raise
        print(f"dissect-sesparse report: {error or e}", file=sys.stderr)
        return 1
    for line in _lines(made):
        print(line)
    print(f"{options.output}: {options.output.stat().st_size} bytes written")
    return 0 if made.complete else 1


def _check(output: Path, *, replace: bool) -> None:
    """Refuse before the work what would be refused after it.

    Raises:
        RecoverError: If there is something of that name, or no folder to write into.
    """
    if output.is_dir():
        raise RecoverError("a folder", file=output, expected="the name of a file")
    if output.exists() and not replace:
        raise RecoverError("it is there already, and stays as it is", file=output, advice="--force replaces it")
    if not output.parent.is_dir():
        raise RecoverError("no such folder", file=output.parent)


def _write(output: Path, page: bytes) -> None:
    """Write the page whole or not at all: under another name, until all of it is on the disk."""
    with OutputFolder(output.parent).whole(output.name) as fh:
        fh.write(page)


def _lines(made: Report) -> Iterator[str]:
    """What is said at the end, for each disk."""
    for disk in made.disks:
        trimmed = sum(size for _, size in disk.unmapped.values())
        yield (
            f"{disk.name}: {len(disk.links)} links, {trimmed} bytes trimmed by the guest, "
            f"{disk.levels['error']} errors, {disk.levels['warning']} warnings"
        )
        for problem in disk.problems:
            yield f"{disk.name}: INCOMPLETE: {problem}"
    for other in made.others:
        yield f"{other['disk']}: {other['state']}: {other['reason']}"
