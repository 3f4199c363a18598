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

from dissect_sesparse.disk.chain import Chain, open_chain
from dissect_sesparse.disk.entry import Run, State
from dissect_sesparse.disk.errors import SESparseError, UnreadableError
from dissect_sesparse.disk.options import Options

__all__ = ["Chain", "Options", "Run", "SESparseError", "State", "UnreadableError", "open_chain"]
