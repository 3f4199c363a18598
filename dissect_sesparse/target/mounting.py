"""How ``/$sesparse$`` gets into the file system of a target.

dissect has no hook for this. It calls ``Target.apply`` once for each target that it opens, by whatever loader, when the disks
are known. That call is wrapped (see :mod:`~dissect_sesparse.target.hooks`): the tree is mounted after it, when disks, volumes
and file systems are mounted and the operating system is found, so that none of this can be disturbed. A target that is opened
with ``apply=False`` gets the tree when its children are listed.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from dissect.target.target import Target


def mounting(apply: Callable) -> Callable:
    """Wrap ``Target.apply`` so that the tree is there after it. No target is lost for the tree's sake."""

    @wraps(apply)
    def wrapper(self: Target, *args: object, **kwargs: object) -> Any:
        result = apply(self, *args, **kwargs)
        try:
            if any(getattr(disk, "__type__", None) == "sesparse" for disk in self.disks):
                from dissect_sesparse.target.tree import mount

                mount(self)
        except Exception as e:
            self.log.error("Snapshots and recovered bytes are not in the file system: %s", e)  # noqa: TRY400
            self.log.debug("", exc_info=e)
        return result

    return wrapper
