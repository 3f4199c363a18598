"""What differs between the versions of dissect that this package works with: 3.23 to the pre-releases after 3.25.

Nothing else in this package asks which version there is. ``.ci/run`` tries them; the table is in ``docs/reference.md``.
"""

from __future__ import annotations

from typing import Any


def listed(value: Any) -> list[Any]:
    """What is one thing in one version and a list of them in another, as a list: without any it is empty."""
    return [entry for entry in (value if isinstance(value, list) else [value]) if entry is not None]


def disks_below(volume: Any) -> list[Any]:
    """The disks, or volumes, below a volume or volume system: of a disk, none.

    ``disk`` is one of them, or for a logical volume a list; after 3.25 always a list.
    """
    return listed(getattr(volume, "disk", None))


def volume_of(fs: Any) -> Any:
    """The volume of a file system, the first where it has several (btrfs); ``None`` where it lies in no volume."""
    return next(iter(listed(fs.volume)), None)
