"""Make a small but real virtual machine: ``python examples/make_vm.py [--snapshots 3] DIR``.

The folder is that of an ESXi 6.7 server with a data disk on a flat base and two seSparse deltas. What happened to it:

    2024-02-05  base          the NTFS volume is made; logs, a database, a picture
    2024-03-11  snapshot 1    "before patch"; from here on the guest writes to delta 1
    2024-03-11  delta 1       a temporary file, customers.csv, notes.txt, rack.jpg and exfil.zip are written
    2024-03-13                and the temporary file is deleted
    2024-03-14  snapshot 2    "after patch"; from here on the guest writes to delta 2
    2024-03-15  delta 2       keylog.txt and staging.zip are written
    2024-03-16                and deleted again, and so are exfil.zip and customers.csv

With ``--snapshots 3`` it went on:

    2024-03-18  snapshot 3    "before audit"; from here on the guest writes to delta 3
    2024-03-18  delta 3       payout.csv and reply.txt are written
    2024-03-19                and payout.csv is deleted again

The guest trims what it deletes. So the bytes of the files written and deleted in one delta are in its unmapped grains,
and those of the files written in delta 1 and deleted in delta 2 are in delta 1, under bare unmapped entries of delta 2.

The output is the same byte for byte on every run. Needs the standard library only; ``make_images.py`` made the states
of the file system.
"""

from __future__ import annotations

import argparse
import json
import lzma
import sys
from datetime import datetime, timezone
from pathlib import Path

from sesparse_builder import GRAIN, ExtentBuilder, descriptor, vmsd, vmx, write_flat

IMAGES = Path(__file__).parent / "images"

CAPACITY_SECTORS = 131072
NAME = "web01"

# The steps of images/ that each link holds, the base first. A snapshot was taken after each link but the last
LINKS = (
    ("00-base",),
    ("01-work", "02-cleanup"),
    ("03-staging", "04-wipe"),
)
CIDS = ("5e1d2c01", "7ab03f12", "c4418e23")
SNAPSHOTS = (
    ("before patch", "State before KB5035849", datetime(2024, 3, 11, 20, 0, 0, 512_318, tzinfo=timezone.utc)),
    ("after patch", "KB5035849 installed", datetime(2024, 3, 14, 21, 30, 0, 90_114, tzinfo=timezone.utc)),
)

# With three snapshots: what comes on top
THIRD_LINK = ("05-payout", "06-shred")
THIRD_CID = "91d07b6a"
THIRD_SNAPSHOT = ("before audit", "", datetime(2024, 3, 18, 8, 0, 0, 731_400, tzinfo=timezone.utc))

# SHA-256 of the deleted files by path in the volume. Each is recoverable whole:
DELETED = {
    # written in delta 1, deleted in delta 2: bare unmapped entries in delta 2, allocated grains in delta 1
    "Users/admin/Documents/customers.csv": "f97658d65efa63614f58b9140a09a29aacdf08a2ce0a6ad032b5ca7ec39ea9de",
    "Users/admin/Documents/exfil.zip": "b0add2abd9cad121545748f6a79f9740b71a6533e88dc2adab669408b5610346",
    # written and deleted in delta 2: unmapped grains of delta 2
    "Users/admin/AppData/keylog.txt": "6d4813953874e3cdd5c8f257b123c606ff26cb6f874f35e5caa4d4370f99b0ee",
    "Users/admin/AppData/staging.zip": "8460a8088431aae692771d2e9d1aaaedd36021055c6d5f79486930170cb85398",
    # written and deleted in delta 1: unmapped grains of delta 1. Its MFT record was reused in delta 2, so that only the
    # MFT of snapshot 2 still names it
    "Windows/Temp/kb5035849.tmp": "9fffd0e6648fae16a5fe4344ae9b2fb454a9bd8943da76c922b806d252273b39",
}

# Of these, the ones that no snapshot ever had: their bytes lie where they were, and nothing proves whose they are
LIKELY = {"Users/admin/AppData/keylog.txt", "Users/admin/AppData/staging.zip", "Windows/Temp/kb5035849.tmp"}

# With three snapshots: written and deleted in delta 3. Its MFT record is the one that customers.csv had, so that only the
# MFT of snapshot 3 still names that one as deleted
THIRD_DELETED = {
    "Users/admin/Documents/payout.csv": "5a5297b4f800f8464b628319447abf38c023245b4636879875d7a90df0ae5a92",
}

# SHA-256 of files that the running machine has
LIVE = {
    "Users/admin/Documents/welcome.txt": "950aa4fe7cc205f25a50354c1a4c8a2021df681e786c03027cb214cb54c30621",
    "Users/admin/Documents/notes.txt": "d8a64e64035bbc0e18234525679867d2cc3b5cbd01b82b4e8dfdb28924163e29",
    "Users/admin/Pictures/rack.jpg": "d2615cd6a54411d486e9448eab8172b75ac4f0b73d1241d2c577c12dbcbeefb1",
    "Users/admin/Pictures/plan.png": "beb729869c54f04b8d2c0245835a1d086057e5f3269d1849eb7fc53c46ab30a0",
}

THIRD_LIVE = {
    "Users/admin/Documents/reply.txt": "0b0b1cfd206d40e0870c5735001910aaf0897fb42177f36a7da1da461718bed8",
}

# What vmware.log says of snapshot 2
LOG = (
    "2024-03-14T21:30:02.731Z| vmx| I125: SNAPSHOT: SnapshotDiskTreeAddFromSnapshot: Adding disk from /vmfs/volumes/"
    "5f0c1d7e-9a3b2c44-1e55-0025b5a0010f/web01/web01-Snapshot2.vmsn\n"
    '2024-03-14T21:30:03.118Z| vmx| I125: DISKLIB-VMFS  : "/vmfs/volumes/5f0c1d7e-9a3b2c44-1e55-0025b5a0010f/web01/'
    'web01-000002-sesparse.vmdk" : open successful (10) size = 23072768, hd = 1269114. Type 19\n'
    "2024-03-14T21:30:03.120Z| vmx| I125: DISKLIB-LINK  : Opened '/vmfs/volumes/5f0c1d7e-9a3b2c44-1e55-0025b5a0010f/"
    "web01/web01-000002.vmdk' (0xa): seSparse, 131072 sectors / 64 MB.\n"
)


def make_vm(folder: Path, snapshots: int = 2) -> Path:
    """Make the virtual machine.

    Args:
        folder: Where to write; made when absent.
        snapshots: How many it has, 2 or 3.

    Returns:
        The path of the .vmx.

    Raises:
        FileExistsError: If the folder is not empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")

    third = snapshots > len(SNAPSHOTS)
    links = (*LINKS, THIRD_LINK) if third else LINKS
    for number, steps in enumerate(links):
        if number == 0:
            write_flat(folder / f"{NAME}-flat.vmdk", CAPACITY_SECTORS * 512, _base(steps))
        else:
            _delta(steps).write(folder / f"{_stem(number)}-sesparse.vmdk")
        _write_text(folder / f"{_stem(number)}.vmdk", _descriptor(number))

    newest = f"{_stem(len(links) - 1)}.vmdk"
    _write_text(folder / f"{NAME}.vmx", vmx([newest], NAME))
    _write_text(folder / f"{NAME}.vmsd", vmsd(_snapshots(third=third)))
    _write_text(folder / "vmware.log", LOG)
    return folder / f"{NAME}.vmx"


def _stem(number: int) -> str:
    """The name of link ``number`` without its suffix."""
    return f"{NAME}-{number:06d}" if number else NAME


def _descriptor(number: int) -> str:
    if number == 0:
        extent = (CAPACITY_SECTORS, "VMFS", f"{NAME}-flat.vmdk")
        return descriptor([extent], cid=CIDS[0], create_type="vmfs")
    extent = (CAPACITY_SECTORS, "SESPARSE", f"{_stem(number)}-sesparse.vmdk")
    parent = number - 1
    cids = (*CIDS, THIRD_CID)
    return descriptor([extent], cid=cids[number], parent_cid=cids[parent], parent_hint=f"{_stem(parent)}.vmdk")


def _snapshots(*, third: bool) -> list[dict[str, object]]:
    return [
        {
            "uid": number + 1,
            "parent": number,  # 0: none
            "filename": f"{NAME}-Snapshot{number + 1}.vmsn",
            "display_name": name,
            "description": description,
            "created": created,
            "disks": [f"{_stem(number)}.vmdk"],
        }
        for number, (name, description, created) in enumerate((*SNAPSHOTS, THIRD_SNAPSHOT) if third else SNAPSHOTS)
    ]


def _base(steps: tuple[str, ...]) -> dict[int, bytes]:
    """The grains of a flat base, by sector."""
    grains: dict[int, bytes] = {}
    for step in steps:
        written, _ = _load(step)
        grains |= written
    return {grain * 8: data for grain, data in grains.items()}


def _delta(steps: tuple[str, ...]) -> ExtentBuilder:
    """A delta: in each step the guest writes grains, then trims."""
    extent = ExtentBuilder(CAPACITY_SECTORS)
    for step in steps:
        written, trimmed = _load(step)
        for grain, data in written.items():
            extent.allocate(grain, data)
        for grain in trimmed:
            # Keeps place and bytes of a grain that this delta has; one that it never had becomes a bare entry
            extent.unmap(grain)
    return extent


def _load(step: str) -> tuple[dict[int, bytes], list[int]]:
    """The grains that a step wrote, and the numbers of those that it trimmed."""
    runs = json.loads((IMAGES / f"{step}.json").read_text())
    data = lzma.decompress((IMAGES / f"{step}.xz").read_bytes())
    numbers = {kind: [first + n for first, count in runs[kind] for n in range(count)] for kind in runs}
    written = {grain: data[index * GRAIN : (index + 1) * GRAIN] for index, grain in enumerate(numbers["written"])}
    return written, numbers["trimmed"]


def _write_text(path: Path, text: str) -> None:
    # As bytes, for the same line ends on every system
    path.write_bytes(text.encode())


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="make_vm.py", description="Make a small but real virtual machine.")
    parser.add_argument("folder", metavar="DIR", type=Path, help="where to write: a new or empty folder")
    parser.add_argument("--snapshots", type=int, choices=(2, 3), default=2, help="how many it has (default: 2)")
    options = parser.parse_args()
    try:
        path = make_vm(options.folder, options.snapshots)
    except OSError as e:
        sys.stderr.write(f"{e}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
