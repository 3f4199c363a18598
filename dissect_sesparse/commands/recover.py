"""``dissect-sesparse recover TARGET -o DIR``."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dissect_sesparse.disk.errors import SESparseError
from dissect_sesparse.disk.folder import Folder, identity, is_regular
from dissect_sesparse.evidence.recover import Source, recover
from dissect_sesparse.evidence.sparse_file import RecoverError

try:
    from tqdm import tqdm
except ImportError:  # without it there is no bar, and nothing else is missing
    tqdm = None

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from dissect.target.loader import Loader
    from dissect.target.target import Target

    from dissect_sesparse.evidence.recover import Recovery
    from dissect_sesparse.evidence.vmx import VmDisk
    from dissect_sesparse.target.vm import SESparseVmLoader


def run(options: argparse.Namespace) -> int:
    """Recover, and say what was recovered. Exit codes: 0 all of it, 1 not all or nothing."""
    from dissect_sesparse.target.registration import register

    register()
    bar = tqdm(unit="B", unit_scale=True, unit_divisor=1024, disable=None, desc="recover") if tqdm is not None else None

    def progress(done: int, total: int) -> None:
        if bar is not None:
            bar.total = total
            bar.update(done - bar.n)

    try:
        target = _open(options.target)  # kept: when it goes, so do its disks
        sources, others = _disks(target, options.target)
        files = _files(_loader(target))
        recovery = recover(
            sources, options.output, files=files, others=others, target=options.target, progress=progress
        )
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where it was", file=sys.stderr)
        return 1
    except Exception as e:
        error = _ours(e)
        if error is None and not _is_told(e):
            raise
        print(f"dissect-sesparse recover: {error or e}", file=sys.stderr)
        return 1
    finally:
        if bar is not None:
            bar.close()
    for line in _lines(recovery):
        print(line)
    return 0 if recovery.complete else 1


def _is_told(error: Exception) -> bool:
    """Whether an error is one that dissect raises on purpose."""
    from dissect.target.exceptions import Error

    return isinstance(error, (Error, OSError))


def _ours(error: BaseException | None) -> SESparseError | None:
    while error is not None and not isinstance(error, SESparseError):
        error = error.__cause__
    return error


def _open(spec: str) -> Target:
    """Open a target for its disks alone."""
    from dissect.target.target import Target

    # Volumes are of no use here, and looking for them reads disks; dissect.target 3.23 cannot leave that out.
    without = {"apply": False} if "apply" in inspect.signature(Target.open).parameters else {}
    return Target.open(spec, **without)


def _disks(target: Target, spec: str) -> tuple[list[Source], list[dict[str, Any]]]:
    """The seSparse disks of a target, and those that are not recovered from.

    Raises:
        RecoverError: If it has none that can be read.
    """
    sources, others = [], []
    for disk in target.disks:
        if getattr(disk, "__type__", None) == "sesparse":
            sources.append(Source(disk.chain, tuple(disk.notes)))  # type: ignore[attr-defined]
        else:
            others.append({"disk": str(disk), "state": "skipped", "reason": "no seSparse extent in its chain"})
    others += [{"disk": name, "state": "failed", "reason": why} for name, why in _broken(target, sources)]
    if not sources:
        reasons = "; ".join(f"{other['disk']}: {other['reason']}" for other in others)
        raise RecoverError(f"no seSparse disk that can be read. {reasons}", file=spec)
    return sources, others


def _loader(target: Target) -> Loader:
    """The loader that opened the disks, below that of a URI."""
    return getattr(target._loader, "loader", target._loader)


def _files(loader: Loader) -> Iterator[Path]:
    """What was opened to find the disks, and the snapshot lists beside it."""
    for path in {loader.path, getattr(loader, "vmx", loader.path)}:
        if is_regular(path):
            yield path
            yield from Folder(path.parent).files(".vmsd")


def _broken(target: Target, sources: list[Source]) -> Iterator[tuple[str, str]]:
    """The disks of a VM that its loader left out, and why: each that is not open is tried once more."""
    from dissect_sesparse.target.context import URI_OPTIONS
    from dissect_sesparse.target.vm import SESparseVmLoader

    loader = _loader(target)
    if not isinstance(loader, SESparseVmLoader):
        return
    opened = {identity(source.chain.links[0].path) for source in sources}
    opened.update(identity(note.source) for source in sources for note in source.notes if isinstance(note.source, Path))
    token = URI_OPTIONS.set(getattr(target._loader, "options", {}))
    try:
        for disk in loader.vm.disks:
            if why := _problem(loader, disk, target, opened):
                yield f"{disk.node} {disk.filename}", why
    finally:
        URI_OPTIONS.reset(token)


def _problem(loader: SESparseVmLoader, disk: VmDisk, target: Target, opened: set[str]) -> str | None:
    """Why a disk cannot be opened; ``None`` for one that can."""
    from dissect_sesparse.target.vm import locate

    try:
        if identity(locate(loader.folder, disk.filename)) not in opened:
            loader._open(disk, target).close()
    except Exception as e:
        return str(_ours(e) or e)
    return None


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
        if disk["reason"]:
            yield f"{disk['disk']}: INCOMPLETE: {disk['reason']}"
        if errors := sum(finding["level"] == "error" for finding in disk["findings"]):
            yield f"{disk['disk']}: {errors} errors in its files, see findings in report.json"
    done = "verified, all was there and is unchanged" if recovery.verified else f"{recovery.written} bytes written"
    yield f"{recovery.folder}: {done}"
