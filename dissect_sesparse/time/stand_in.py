"""Which older state of a disk can stand in where the newest descriptor, the one in the ``.vmx``, is gone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dissect_sesparse.chain.parent import sweep
from dissect_sesparse.source.errors import FileError
from dissect_sesparse.vm.snapshots import snapshots_of

if TYPE_CHECKING:
    from pathlib import Path

    from dissect_sesparse.source.folder import Folder
    from dissect_sesparse.vm.descriptor import DiskDescriptor

_DELTA = re.compile(r"-\d{6}$")


def base_name(stem: str) -> str:
    """The name that all links of a disk share: without ``-000002``."""
    return _DELTA.sub("", stem)


def stand_in(missing: Path, within: Folder) -> Path:
    """The descriptor with the newest state of a disk that is still there.

    Args:
        missing: The descriptor that is gone.
        within: From where evidence names it.

    It is what the last entry of the snapshot list names, else the one link of the disk that is no link's parent. Numbers in
    names give no order.

    Raises:
        FileError: If there is none, or nothing tells which.
    """
    folder = within.of(missing)
    links = _links(missing, folder)
    for snapshot in reversed(snapshots_of(folder)):
        for path in links:
            if path.name in snapshot.disks:
                return path
    parents = {descriptor.parent_cid for descriptor in links.values()}
    newest = [path for path, descriptor in links.items() if descriptor.cid not in parents]
    if len(newest) == 1:
        return newest[0]
    if not newest:
        raise FileError("the descriptor is missing, and so is any other link of the disk", file=missing)
    names = ", ".join(path.name for path in newest)
    raise FileError(f"the descriptor is missing, and nothing tells which of {names} it was based on", file=missing)


def _links(missing: Path, folder: Folder) -> dict[Path, DiskDescriptor]:
    """The descriptors beside a missing one that are links of the same disk, by their names."""
    alike = [
        path
        for path in folder.files()
        if base_name(path.stem) == base_name(missing.stem) and path.suffix.lower() == missing.suffix.lower()
    ]
    return dict(sweep(folder, alike))
