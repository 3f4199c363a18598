"""What the tests of the outer rooms share: small chains, the example VM, and how to run a tool in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import make_vm
import pytest
from sesparse_builder import ChainBuilder, ExtentBuilder, descriptor, grain_data, vmx

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dissect.target.target import Target

SECTORS = 40960
"""Of the small disks: 20 MiB, two grain tables."""
SIZE = SECTORS * 512
GRAINS = SECTORS // 8
UNKNOWN_STATE = 0x4 << 60
"""A table entry that is corrupt."""
ROOT = Path(__file__).parents[2]


def small_chain(folder: Path, name: str = "vm", deltas: int = 1) -> ChainBuilder:
    """A chain with data everywhere it matters: grains 0 to 9 in the base, and grain ``10 * n`` in delta n.

    Grain 15 says that the disk is swap space (of 64 KiB pages): a volume that holds no files, and that nobody has to open.
    """
    base = {grain * 8: grain_data("base", grain) for grain in range(10)} | {15 * 8: b"SWAPSPACE2".rjust(4096, b"\x00")}
    chain = ChainBuilder(folder, SECTORS, base, name)
    for number in range(1, deltas + 1):
        chain.add_delta().allocate(10 * number, grain_data(f"delta{number}", 10 * number))
    return chain


def add_delta(folder: Path, name: str, extent: ExtentBuilder | None, parent: Path, parent_cid: str, cid: str) -> Path:
    """Write a delta over any parent; without an extent, only its descriptor."""
    sectors = extent.capacity_sectors if extent is not None else SECTORS
    if extent is not None:
        extent.write(folder / f"{name}-sesparse.vmdk")
    text = descriptor(
        [(sectors, "SESPARSE", f"{name}-sesparse.vmdk")], cid=cid, parent_cid=parent_cid, parent_hint=parent.name
    )
    (folder / f"{name}.vmdk").write_bytes(text.encode())
    return folder / f"{name}.vmdk"


@pytest.fixture(scope="session")
def example_vm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .vmx of the example VM. Shared by all tests: never changed."""
    return make_vm.make_vm(tmp_path_factory.mktemp("example") / "web01")


EXAMPLE_SECTORS = make_vm.CAPACITY_SECTORS
NEWEST = "web01-000002.vmdk"
NOTES = "Users/admin/Documents/notes.txt"


def two_disks(folder: Path, extent: ExtentBuilder, first: str = "a-bad", **changes: str) -> Path:
    """The example VM with one more disk, a delta over the running one.

    Args:
        folder: Where to write.
        extent: Of the additional disk.
        first: Its name: disks may be opened in the order of their names.
        **changes: Of the additional disk's descriptor: text to replace, and with what.

    Returns:
        The .vmx.
    """
    make_vm.make_vm(folder)
    path = add_delta(folder, first, extent, folder / NEWEST, make_vm.CIDS[-1], "0bad0bad")
    text = path.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_bytes(text.encode())
    both = folder / "both.vmx"
    both.write_bytes(vmx([path.name, NEWEST], "both").encode())
    (folder / "web01.vmx").unlink()
    return both


def notes_of(target: Target, disk_name: str = NEWEST) -> bytes | None:
    """The bytes of notes.txt on the NTFS volume of a disk; ``None`` if the target has no such volume."""
    for fs in target.filesystems:
        if disk_of(fs.volume) == disk_name:
            return fs.path(NOTES).read_bytes()
    return None


def disk_of(volume: Any) -> str | None:
    """The name of the disk of ours that a volume lies on: after dissect.target 3.25 a volume has a list of disks."""
    (disk,) = volume.disk if isinstance(volume.disk, list) else [volume.disk]
    return disk.chain.name if hasattr(disk, "chain") else None


def python(*arguments: object, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run this Python with arguments, from the folder of the interpreter, so that no package is found by accident."""
    return run(sys.executable, *arguments, check=check, **environment)


def tool(name: str, *arguments: object, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of dissect's tools, or ours, from the scripts beside this Python."""
    folder = Path(sys.executable).parent
    found = next((path for path in (folder / name, folder / f"{name}.exe") if path.exists()), None)
    if found is None:
        pytest.skip(f"{name} is not installed beside {sys.executable}")
    return run(found, *arguments, check=check, **environment)


def run(*command: object, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command and return what it wrote, read as UTF-8, without colours."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DISSECT_", "PYTHONPATH"))}
    done = subprocess.run(
        [str(argument) for argument in command],
        env={**clean, "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8", **environment},
        cwd=Path(sys.executable).parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    # Decoded here: subprocess would change line ends, also those of a file that a tool writes to its output.
    out, err = (stream.decode("utf-8", "surrogateescape") for stream in (done.stdout, done.stderr))
    if check and done.returncode:
        pytest.fail(f"{command} ended with {done.returncode}\n{out[-4000:]}\n{err[-4000:]}")
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def snapshot_of(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """What a folder holds: size, time of change and digest of each file, folders included."""
    return {path.relative_to(folder).as_posix(): _fingerprint(path) for path in sorted(folder.rglob("*"))}


def _fingerprint(path: Path) -> tuple[int, int, bytes]:
    import hashlib

    stat = path.stat()
    if path.is_dir():
        return 0, stat.st_mtime_ns, b""
    return stat.st_size, stat.st_mtime_ns, hashlib.sha256(path.read_bytes()).digest()


def messages(records: Sequence | Iterator) -> list[str]:
    """The messages of log records that are at least warnings."""
    return [record.getMessage() for record in records if record.levelno >= 30]


# One disk for each finding: used to test the findings, and the records made of them


def cid_mismatch(folder: Path) -> Path:
    """The base was booted after the snapshot was taken: its CID is a new one."""
    chain = small_chain(folder)
    path = chain.write()
    base = folder / "vm.vmdk"
    base.write_bytes(base.read_bytes().replace(b"CID=" + chain.links[0].cid.encode(), b"CID=deadbeef"))
    return path


def capacity_mismatch(folder: Path) -> Path:
    """The descriptor says 24 MiB, the extent has 20."""
    path = small_chain(folder).write()
    path.write_bytes(path.read_bytes().replace(f"RW {SECTORS} ".encode(), f"RW {SECTORS + 8192} ".encode()))
    return path


def parent_relocated(folder: Path) -> Path:
    """An absolute hint of the host, as ESXi writes it for linked clones; the parent lies beside the child."""
    path = small_chain(folder).write()
    path.write_bytes(path.read_bytes().replace(b'"vm.vmdk"', b'"/vmfs/volumes/5f0c1d7e/vm/vm.vmdk"'))
    return path


def parent_name_clash(folder: Path) -> Path:
    """A linked clone: its parent lies in the template's folder, and its own folder has a disk of that name."""
    template = folder.parent / "template"
    chain = small_chain(template)
    newest = chain.write()
    for name in (newest.name, chain.links[-1].extent_name):
        (template / name).rename(folder / name)
    small_chain(folder, deltas=0).write()
    other = folder / "vm.vmdk"
    other.write_bytes(other.read_bytes().replace(b"CID=" + chain.links[0].cid.encode(), b"CID=01234567"))
    path = folder / newest.name
    path.write_bytes(path.read_bytes().replace(b'"vm.vmdk"', b'"../template/vm.vmdk"'))
    return path


def parent_missing(folder: Path) -> Path:
    """To be opened with ``unreadable=zero``."""
    path = small_chain(folder).write()
    (folder / "vm.vmdk").unlink()
    return path


def journal_dirty(folder: Path) -> Path:
    """The host lost power."""
    chain = small_chain(folder)
    chain.links[-1].extent.set_dirty()
    return chain.write()


def journal_replayed(folder: Path) -> Path:
    """The host lost power, and two transactions are only in the journal."""
    return _with_transactions(folder).write()


def journal_torn(folder: Path) -> Path:
    """The same, and the second of them was not written to its end."""
    chain = _with_transactions(folder)
    extent = chain.links[-1].extent
    extent.patch(extent.slot_offset(1) + 3 * 512, b"\xee" * 512)
    return chain.write()


def _with_transactions(folder: Path) -> ChainBuilder:
    chain = small_chain(folder)
    extent = chain.links[-1].extent
    extent.checkpoint()
    for grain in (30, 31):
        extent.allocate(grain, grain_data("lost", grain))
        extent.commit()
    extent.set_dirty()
    return chain


def truncated(folder: Path) -> Path:
    """A copy that was cut off in the middle of a grain; two more grains behind it are gone."""
    chain = small_chain(folder)
    extent = chain.links[-1].extent
    for grain in (100, 200, 300):
        extent.allocate(grain, grain_data("delta1", grain))
    path = chain.write()
    with (folder / chain.links[-1].extent_name).open("r+b") as fh:
        fh.truncate(extent.grain_offset(1) + 700)
    return path


def entry_invalid(folder: Path) -> Path:
    """Two corrupt table entries beside each other."""
    chain = small_chain(folder)
    for grain in (100, 101):
        chain.links[-1].extent.set_entry(grain, UNKNOWN_STATE)
    return chain.write()


def padding_nonzero(folder: Path) -> Path:
    """A byte behind the const header's fields, and one behind those of the volatile header."""
    chain = small_chain(folder)
    chain.links[-1].extent.patch(0x180, b"\x07")
    chain.links[-1].extent.patch(0x3FF, b"\x08")
    return chain.write()


FINDING_CASES = {
    "cid-mismatch": (cid_mismatch, {}),
    "capacity-mismatch": (capacity_mismatch, {}),
    "parent-relocated": (parent_relocated, {}),
    "parent-name-clash": (parent_name_clash, {}),
    "parent-missing": (parent_missing, {"unreadable": "zero"}),
    "journal-dirty": (journal_dirty, {}),
    "journal-replayed": (journal_replayed, {}),
    "journal-torn": (journal_torn, {}),
    "truncated": (truncated, {}),
    "entry-invalid": (entry_invalid, {}),
    "padding-nonzero": (padding_nonzero, {}),
    "unreadable": (entry_invalid, {"unreadable": "zero"}),
}
"""What to build, and how to open it, by the code of the finding; ``unreadable`` is one only after a read."""
