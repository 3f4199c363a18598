"""Recover what the guest of a disk trimmed, with the Python API: ``python recover_unmapped.py vm-000002.vmdk OUT``."""

import sys
from pathlib import Path

from dissect_sesparse import open_chain
from dissect_sesparse.recovery.recover import recover
from dissect_sesparse.trimmed.unmapped import unmapped


def main(disk: str, folder: str) -> None:
    """List the runs that still have their bytes, then write all of them into images."""
    with open_chain(disk) as chain:
        for run in unmapped(chain):
            if run.content is not None:
                what = run.content.signature or f"entropy {run.content.entropy:.1f}"
                print(f"{run.link.name} {run.offset:#x} {run.size} bytes {run.state}: {what}, {run.read()[:16]!r}")
        recovery = recover([chain], Path(folder))
    for done in recovery.report["disks"]:
        recovered = done["unmapped"]["present"]["bytes"]
        print(f"{done['disk']}: {recovered} bytes recovered into {recovery.folder / done['files']['image']}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"Usage: {sys.argv[0]} DISK FOLDER")
    main(sys.argv[1], sys.argv[2])
