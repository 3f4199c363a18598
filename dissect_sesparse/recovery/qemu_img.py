"""Images of other formats, made of raw ones by ``qemu-img``, where that is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from dissect_sesparse.recovery.writing import RecoverError, sync_folder, system_errors

if TYPE_CHECKING:
    from pathlib import Path

    from dissect_sesparse.recovery.writing import OutputFolder

CONVERTED = ("vmdk", "vhdx")
"""What it makes: a ``monolithicSparse`` VMDK, a dynamic VHDX."""
_FOLDER = "converting"
"""Where it writes: a VMDK has its own name in itself, so that it must have that from the start."""


def find_qemu_img(kind: str) -> str:
    """The path of ``qemu-img``.

    Raises:
        RecoverError: If there is none.
    """
    found = shutil.which("qemu-img")
    if found is None:
        problem = f"qemu-img is not installed, which makes {kind} images"
        advice = "install it (Debian and Ubuntu: qemu-utils, Fedora: qemu-img), or export as raw or qcow2"
        raise RecoverError(problem, advice=advice)
    return found


def convert(folder: OutputFolder, raw: str, name: str, kind: str) -> int:
    """Make an image of a raw one in the same folder, or verify the one that is there.

    Args:
        folder: Where both are.
        raw: The name of the raw image, which is whole.
        name: Of the image.
        kind: Its format.

    Returns:
        Bytes that were written; none where it was there.

    Raises:
        RecoverError: If it cannot be made, or has not the bytes of the raw one.
    """
    tool, source, path = find_qemu_img(kind), folder.place(raw).absolute(), folder.place(name).absolute()
    with system_errors(path):
        there = folder.is_there(path)
    if there:
        _compare(tool, source, path, kind)
        return 0
    made = folder.place(_FOLDER, name).absolute()
    try:
        with system_errors(made):
            folder.remove(made)
            folder.create(made).close()
        _run(made, tool, "convert", "-f", "raw", "-O", kind, source, made)
        _compare(tool, source, made, kind)
        with system_errors(path):
            fh = folder.take_up(made, write=True)
            if fh is None or folder.is_there(path):
                raise RecoverError("made meanwhile by something else, or gone", file=path)
            with fh:
                os.fsync(fh.fileno())
            made.replace(path)
            sync_folder(path.parent)
            return path.stat().st_size
    finally:
        with suppress(OSError, RecoverError):
            folder.remove(made)
        with suppress(OSError):
            made.parent.rmdir()


def _compare(tool: str, raw: Path, path: Path, kind: str) -> None:
    """See to it that QEMU reads the same bytes from both."""
    _run(path, tool, "compare", "-q", "-f", "raw", "-F", kind, raw, path)


def _run(path: Path, *command: str | Path) -> None:
    with system_errors(path):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        problem = f"qemu-img {command[1]} ended with {done.returncode}: {said[-1] if said else 'the bytes differ'}"
        raise RecoverError(problem, file=path)
