"""``dissect-sesparse recover TARGET -o DIR``."""

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
from dissect_sesparse.evidence.deleted import FILE_STATES
from dissect_sesparse.evidence.recover import recover

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from dissect_sesparse.evidence.recover import Recovery


def run(options: argparse.Namespace) -> int:
    """Recover, and say what was recovered. Exit codes: 0 all of it, 1 not all or nothing."""
    from dissect_sesparse.target.registration import register

    register()
    try:
        with progress_bar("recover") as progress:
            target = open_target(options.target)  # kept: when it goes, so do its disks
            sources, others = disks_of(target, options.target)
            if options.files:
                sources = list(map(with_files, sources))
            files = files_of(loader_of(target))
            recovery = recover(
                sources, options.output, files=files, others=others, target=options.target, progress=progress
            )
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where it was", file=sys.stderr)
        return 1
    except Exception as e:
        error = ours(e)
        if error is None and not is_told(e):
            raise
        print(f"dissect-sesparse recover: {error or e}", file=sys.stderr)
        return 1
    for line in _lines(recovery):
        print(line)
    return 0 if recovery.complete else 1


def _lines(recovery: Recovery) -> Iterator[str]:
    """What is said at the end, for each disk and of all."""
    for disk in recovery.report["disks"]:
        if disk["state"] in ("failed", "skipped"):
            yield f"{disk['disk']}: {disk['state']}: {disk['reason']}"
            continue
        told = [f"{count['bytes']} bytes {state}" for state, count in disk["unmapped"].items() if count["runs"]]
        yield f"{disk['disk']}: unmapped: {', '.join(told) or 'none, the guest trimmed nothing that had a place'}"
        told = [f"{count['bytes']} bytes {state}" for state, count in disk["unreferenced"].items() if count["runs"]]
        yield f"{disk['disk']}: unreferenced: {', '.join(told) or 'none'}"
        if unreadable := disk["unmapped_unreadable"] + 4096 * disk["unreferenced_unreadable_grains"]:
            yield f"{disk['disk']}: {unreadable} bytes of its files cannot be read, and are not recovered"
        if (files := disk.get("deleted_files")) is not None:
            told = [f"{files[state]['files']} {state}" for state in FILE_STATES[:-1] if files[state]["files"]]
            lost = f"; {files['none']['files']} of which nothing is left" if files["none"]["files"] else ""
            yield f"{disk['disk']}: deleted files: {', '.join(told) or 'none'}{lost}"
            yield from files["warnings"]
        if disk["reason"]:
            yield f"{disk['disk']}: INCOMPLETE: {disk['reason']}"
        if errors := sum(finding["level"] == "error" for finding in disk["findings"]):
            yield f"{disk['disk']}: {errors} errors in its files, see findings in report.json"
    done = "verified, all was there and is unchanged" if recovery.verified else f"{recovery.written} bytes written"
    yield f"{recovery.folder}: {done}"
