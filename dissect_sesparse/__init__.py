"""Read VMware ESXi snapshot disks (seSparse) right, and say what could not be read.

The rooms, each importing only from those before it (docs/architecture.md tells more)::

    source/     errors, options, one file of evidence, the folder and what a path in evidence may name
    vm/         texts of a VM: descriptor, .vmsd, .vmx
    extent/     on-disk structures, the table engine, the accessor of metadata, the extents
    repair/     what is read where the file's own metadata is not to be trusted
    chain/      the walk up a chain, links, windows, the disk as a file object
    time/       the states that snapshots froze, and what changed between them
    trimmed/    what the guest trimmed, and what is left of it
    findings/   what is odd
    files/      deleted and changed files of a file system in several states
    recovery/   what is written out
    report/     the page
    target/     what dissect sees
    commands/, fleet/   the command line

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
    from dissect_sesparse.chain.chain import Chain, open_chain
    from dissect_sesparse.extent.entry import Run, State
    from dissect_sesparse.source.errors import SESparseError, UnreadableError
    from dissect_sesparse.source.options import Options

__all__ = ["Chain", "Options", "Run", "SESparseError", "State", "UnreadableError", "open_chain"]

_PLACES = {
    "Chain": "chain.chain", "open_chain": "chain.chain", "Run": "extent.entry", "State": "extent.entry",
    "SESparseError": "source.errors", "UnreadableError": "source.errors", "Options": "source.options",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what a script asks for when it asks: a dissect tool that opens no disk of ours does not pay for it.

    ``dissect-sesparse status`` also has to answer where a library that the reader needs is missing.
    """
    if (module := _PLACES.get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
