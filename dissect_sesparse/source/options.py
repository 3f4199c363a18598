"""The options of a disk: what to do where the evidence leaves a choice."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dissect_sesparse.source.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "DISSECT_SESPARSE_"


@dataclass(frozen=True)
class Options:
    """What to do where the evidence leaves a choice.

    Args:
        view: ``guest``: the disk as the guest sees it; ``residual``: with the old bytes of unmapped grains.
        unreadable: ``error``: bytes that cannot be had raise; ``zero``: they read as zeros and are findings.
        journal: ``replay`` a dirty extent's journal in memory, or ``ignore`` it.
        salvage: Rebuild a destroyed header or destroyed tables.
        state: The disk as a link or a snapshot of this name froze it; only a keyword, and in a URI.
        parent: The parent of the one link of the chain whose own parent cannot be found, or that has no descriptor.
    """

    view: str = "guest"
    unreadable: str = "error"
    journal: str = "replay"
    salvage: bool = False
    parent: Path | None = None
    state: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise OptionError(field=f"option {name}", value=value, expected=" or ".join(map(str, allowed)))

    @classmethod
    def collect(cls, *sources: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Options:
        """Take each option from the first of ``sources`` that has it, then from the environment, then its default.

        Args:
            sources: Names and values, such as keywords and the query of a URI. ``None`` counts as absent.
            environ: Where the variables ``DISSECT_SESPARSE_<NAME>`` are looked up (not ``PARENT`` and ``STATE``: these are a disk's own).

        Raises:
            OptionError: For a name or a value that does not exist.
        """
        if unknown := [name for source in sources for name in source if name not in OPTION_NAMES]:
            raise OptionError(field="option", value=unknown[0], expected=f"one of {', '.join(OPTION_NAMES)}")
        variables = {name: environ.get(PREFIX + name.upper()) or None for name in CHOICES}
        values = {}
        for name in OPTION_NAMES:
            found = (source[name] for source in (*sources, variables) if source.get(name) is not None)
            if (value := next(found, None)) is not None:
                values[name] = _convert(name, value)
        return cls(**values)


OPTION_NAMES: tuple[str, ...] = tuple(field.name for field in fields(Options))
"""As keywords, and in a URI."""
CHOICES: dict[str, tuple[object, ...]] = {
    "view": ("guest", "residual"),
    "unreadable": ("error", "zero"),
    "journal": ("replay", "ignore"),
    "salvage": (False, True),
}


def _convert(name: str, value: Any) -> Any:
    if name == "salvage":
        return {"0": False, "1": True}.get(str(value), value) if not isinstance(value, bool) else value
    if name == "parent" and isinstance(value, str):
        return Path(value)
    return value
