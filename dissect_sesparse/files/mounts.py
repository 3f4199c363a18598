"""Where in a target's file system a file of one of its volumes is, as the guest has it mounted."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from dissect_sesparse.files.btrfs_subvolumes import path_of_subvolume
from dissect_sesparse.files.versions import disks_below, volume_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dissect.target.target import Target

_MAX_FSTAB = 1 << 16
"""Bytes that are read of a list of mounts."""
_ESCAPED = re.compile(r"\\([0-7]{3})")
"""A character in such a list, as ``\\040`` for a space (getmntent(3))."""


class OnVolume(Protocol):
    """A file that was found on a volume."""

    @property
    def volume(self) -> str:
        """What dissect calls the volume."""
        ...

    @property
    def place(self) -> int | None:
        """Where on the disk it starts; ``None`` where it is not one piece of the disk."""
        ...


def path_in_target(target: Target, disk: object, file: OnVolume, path: str) -> str:
    """The path of a file as the target has it.

    Of btrfs the guest mounts subvolumes: what is mounted decides, the path below it is that of the subvolume.

    Args:
        target: The target.
        disk: What the volume is on.
        file: The file.
        path: From the root of its file system, of btrfs from its topmost subvolume, without a slash at the start.

    Returns:
        The path. That of a volume, or a part of it, which the target has not, any more, starts with what dissect called it.
    """
    mounts = [*_mounts(target, disk, file)]
    others = {mount.strip("/") for mount in target.fs.mounts} | {mount for mount, _ in mounts}
    found = [
        (mount.startswith("$"), -len(inside), len(mount), f"{mount}/{rest}".lstrip("/"))
        for mount, inside in mounts
        if (rest := _below(path, inside)) is not None and not _is_hidden(others, mount, f"{mount}/{rest}")
    ]
    if found:
        return f"/{min(found)[-1]}"
    return f"/$volumes$/{file.volume}/{path}" if len(target.filesystems) > 1 else f"/{path}"


def paths_in_target(target: Target, disk: object, file: OnVolume, path: str) -> set[str]:
    """All paths of a file in the target: dissect mounts a volume of Windows as ``sysvol`` and as ``c:``.

    Args:
        target: The target.
        disk: What the volume is on.
        file: The file.
        path: As for :func:`path_in_target`.
    """
    below = ((mount, _below(path, inside)) for mount, inside in _mounts(target, disk, file))
    found = {f"/{mount}/{rest}".replace("//", "/") for mount, rest in below if rest is not None}
    return found | {path_in_target(target, disk, file, path)}


def _mounts(target: Target, disk: object, file: OnVolume) -> Iterator[tuple[str, str]]:
    """Where a volume is mounted, without slashes around it, and what of it."""
    btrfs = None
    for mount, fs in target.fs.mounts.items():
        volume: Any = volume_of(fs)
        if file.place is not None:
            same = getattr(volume, "offset", None) == file.place
        else:
            same = getattr(volume, "name", None) == file.volume
        if same and any(below is disk for below in disks_below(volume)):
            btrfs = getattr(fs, "btrfs", btrfs)
            with suppress(Exception):  # whatever dissect trips over: then it is not known what is mounted there
                yield mount.strip("/"), path_of_subvolume(fs.subvolume) if hasattr(fs, "subvolume") else ""
    if btrfs is not None:
        yield from _mounts_of_btrfs(target, btrfs)


def _mounts_of_btrfs(target: Target, btrfs: Any) -> Iterator[tuple[str, str]]:
    """Where the guest mounts subvolumes, by its own list. dissect does not find that on a btrfs (docs/upstream.md)."""
    with suppress(Exception):  # whatever dissect trips over: then it is not known
        root: Any = target.fs.mounts["/"]
        lines = root.get("/etc/fstab").open().read(_MAX_FSTAB).decode(errors="surrogateescape").splitlines()
        for device, mount, kind, options in (words[:4] for line in lines if len(words := line.split()) >= 4):
            if kind != "btrfs" or device.lower() != f"uuid={btrfs.uuid}" or not mount.startswith("/"):
                continue
            given = dict(option.partition("=")[::2] for option in options.split(","))
            mount = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), mount).strip("/")
            if "subvol" in given:
                yield mount, given["subvol"].strip("/")
            else:
                number = int(given.get("subvolid", btrfs.default_subvolume.objectid))
                yield mount, path_of_subvolume(btrfs.open_subvolume(number))


def _below(path: str, folder: str) -> str | None:
    """A path from a folder on; ``None`` where it is not in that folder."""
    return path if not folder else path[len(folder) + 1 :] if path.startswith(f"{folder}/") else None


def _is_hidden(mounts: Iterable[str], mount: str, path: str) -> bool:
    """Whether something else is mounted over a path below a mount."""
    path = path.strip("/")
    return any(len(other) > len(mount) and path.startswith(f"{other}/") for other in mounts)
