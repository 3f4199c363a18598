"""The names of dissect that are wrapped, because it has no registry for what this package adds there.

Each is public and the same in dissect.target 3.23 to 3.25 and the pre-releases after it. A wrapper calls what it wraps, with
all of its arguments, and hands on what that returns; whoever wraps it too, before or after, is called as well.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_MARK = "__dissect_sesparse__"
"""Of a wrapper of ours. What wraps it by ``functools.wraps`` has it too."""


@dataclass(frozen=True)
class Hook:
    """A name of dissect that is wrapped, once."""

    owner: str
    """The module, and behind a colon the class, that has it."""
    attribute: str
    module: str
    """Of this package: where the wrapper is."""
    wrapper: str
    without: str
    """What does not work without it."""

    @property
    def name(self) -> str:
        """How dissect's users call it."""
        _, _, last = self.owner.replace(":", ".").rpartition(".")
        return f"{last}.{self.attribute}"

    def install(self) -> None:
        """Wrap it. Calling it again changes nothing.

        Raises:
            ImportError: If dissect has no such module.
            AttributeError: If it has no such class or name any more.
        """
        if not self.is_in():
            wrap: Callable[[Any], Any] = getattr(importlib.import_module(self.module), self.wrapper)
            wrapped = wrap(getattr(self._holder(), self.attribute))
            setattr(wrapped, _MARK, True)
            setattr(self._holder(), self.attribute, wrapped)

    def is_in(self) -> bool:
        """Whether it is wrapped; raises as :meth:`install` does."""
        return hasattr(getattr(self._holder(), self.attribute), _MARK)

    def _holder(self) -> Any:
        module, _, name = self.owner.partition(":")
        holder = importlib.import_module(module)
        return getattr(holder, name) if name else holder


_ISOLATION = "dissect_sesparse.target.isolation"
_BROKEN = "one unreadable disk costs a target all of its disks"

HOOKS = (
    Hook("dissect.target.filesystem", "open", _ISOLATION, "skipping", "one unreadable volume costs a disk its others"),
    Hook("dissect.target.target:DiskCollection", "apply", _ISOLATION, "isolating", _BROKEN),
    Hook("dissect.target.target:VolumeCollection", "apply", _ISOLATION, "isolating", _BROKEN),
    Hook(
        "dissect.target.target:Target", "apply", "dissect_sesparse.target.mounting", "mounting",
        "targets have no /$sesparse$",
    ),
)  # fmt: skip
