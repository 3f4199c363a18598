"""Which VMs some patterns name.

A pattern is a path, or one with ``*``, ``?``, ``[...]`` and ``**`` (any folders; links to folders are not followed). It is
expanded here, as Windows' shell does not. It may match ``.vmx`` files, folders, tar and zip files that hold them, and
disks: of these the newest of each chain counts, and only where no VM among the matches has it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from dissect_sesparse.fleet.data import FleetError
from dissect_sesparse.source.errors import SESparseError
from dissect_sesparse.source.folder import Folder, exists, identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MAGIC = re.compile(r"[*?\[]")


def find_vms(patterns: Iterable[str]) -> list[tuple[str, str | None]]:
    """The VMs and disks that patterns name, each once, in the order of their paths: path, and ``.vmx`` in an archive.

    Raises:
        FleetError: If a pattern names nothing, or nothing that could be a VM or a disk.
    """
    from dissect_sesparse.target.loaders import loose_disks, newest_of

    vms: dict[tuple[str, str | None], None] = {}
    disks: dict[str, Path] = {}
    named: set[str] = set()
    for pattern in patterns:
        matches, literal = _matches(pattern)
        found = 0
        for path in matches:
            for vm in _vms_of(path):
                vms[vm] = None
                found += 1
            for disk in loose_disks(path):
                disks[identity(disk)] = disk
                found += 1
            if literal and not found:  # whatever the user names: what is wrong with it is told in its row
                disks[identity(path)] = path
            if literal:
                named.add(identity(path))
                found += 1
        if not found:
            what = f"{len(matches)} files match, none of them a .vmx, a .vmdk, or a tar or zip with a .vmx"
            raise FleetError(what if matches else "nothing matches", field="PATTERN", value=pattern)
    loose = [(name, None) for name in newest_of(disks, named, _disks_of_vms(vms))]
    return sorted([*vms, *loose], key=lambda vm: (vm[0], vm[1] or ""))


def _matches(pattern: str) -> tuple[list[Path], bool]:
    """The paths that a pattern matches, and whether it is the name of one as it stands."""
    path = Path(pattern).expanduser()
    if "://" in pattern:
        expected = "a path; options of the disks are taken from the environment, as DISSECT_SESPARSE_UNREADABLE"
        raise FleetError(field="PATTERN", value=pattern, expected=expected)
    if exists(path):
        return [path], True
    first = next((number for number, part in enumerate(path.parts) if _MAGIC.search(part)), None)
    if first is None:
        return [], False
    top = Path(*path.parts[:first])
    try:
        return sorted(top.glob(str(Path(*path.parts[first:])))), False
    except (OSError, ValueError) as e:
        raise FleetError(str(e), field="PATTERN", value=pattern) from e


def _vms_of(path: Path) -> Iterator[tuple[str, str | None]]:
    """The VMs that a path is or holds."""
    from dissect_sesparse.target.vm import configurations

    try:
        found = configurations(path)
    except Exception:  # an archive that cannot be read: by its name it was to be one
        yield identity(path), None
        return
    for vmx in found:
        # One in an archive has no path of the analyst's disk
        yield (identity(vmx), None) if isinstance(vmx, type(path)) else (identity(path), str(vmx))


def _disks_of_vms(vms: Iterable[tuple[str, str | None]]) -> set[str]:
    """The newest descriptors of VMs, by what their .vmx says."""
    from dissect_sesparse.target.vm import locate, read_vmx

    found: set[str] = set()
    for path, inside in vms:
        if inside is not None:
            continue
        try:
            folder = Folder(Path(path).parent)
            found.update(identity(locate(folder, disk.filename)) for disk in read_vmx(Path(path)).disks)
        except SESparseError:  # then none of the disks beside it is the VM's, and each is told about by itself
            continue
    return found
