"""Read VMware ESXi snapshot disks (seSparse) right, and say what could not be read.

Three rooms, each building on the ones before it::

    disk/      bytes -> what the guest sees: entries, runs, extents, descriptors, chains
    evidence/  what else the files tell: the chain, the map, findings
    target/    what dissect.target sees: container, loader, plugin, registration

A script needs :func:`open_chain`::

    with open_chain("vm-000002.vmdk") as chain:
        for run in chain.runs():
            print(run)
        chain.open().read(512)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dissect_sesparse.disk.chain import Chain, open_chain
    from dissect_sesparse.disk.entry import Run, State
    from dissect_sesparse.disk.errors import SESparseError, UnreadableError
    from dissect_sesparse.disk.options import Options

__all__ = ["Chain", "Options", "Run", "SESparseError", "State", "UnreadableError", "open_chain"]

_PLACES = {
    "Chain": "chain", "open_chain": "chain", "Run": "entry", "State": "entry", "SESparseError": "errors",
    "UnreadableError": "errors", "Options": "options",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what a script asks for when it asks: a dissect tool that opens no disk of ours does not pay for it.

    ``dissect-sesparse status`` also has to answer where a library that the reader needs is missing.
    """
    if (module := _PLACES.get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.disk.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
