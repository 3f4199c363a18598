"""What lies beside a disk: deltas that no chain reaches, and a snapshot list that tells another story than the chains.

The ``.vmx`` says which disks run, the ``.vmsd`` which states were frozen; what neither reaches is left of a failed backup,
a crash, or somebody's hand. Where the disk is in no ``.vmx`` of its folder, nothing tells what runs: then a newer link is
not an orphan, and a branch is told as information.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.chain.link import is_sesparse
from dissect_sesparse.chain.parent import sweep
from dissect_sesparse.findings.tally import CONFIRMED
from dissect_sesparse.source.errors import SESparseError, short
from dissect_sesparse.source.folder import identity, is_regular, name_parts
from dissect_sesparse.time.states import line_of, list_of
from dissect_sesparse.vm.snapshots import MAX_SIZE, decode_text, lists_of
from dissect_sesparse.vm.vmx import parse_vmx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.source.folder import Folder
    from dissect_sesparse.vm.descriptor import DiskDescriptor
    from dissect_sesparse.vm.snapshots import Snapshot, SnapshotList

MAX_FILES = 1000
"""Descriptors and extents beside a disk that are looked at."""
MAX_LINES = 100
"""Links and disks whose ancestors are looked for."""


class NearbyFinding(NamedTuple):
    """Something odd beside a disk. ``depth`` is that of the link it is about."""

    code: str
    level: str
    message: str
    depth: int
    source: Path


class FoundVmx(NamedTuple):
    """A ``.vmx`` in the folder, and the links that its disks are made of."""

    path: Path
    links: frozenset[str]
    """By :func:`~dissect_sesparse.source.folder.identity`."""


def surroundings(chain: Chain) -> Iterator[NearbyFinding]:
    """What is odd in the folder of a disk's newest link. Only descriptors, lists and configurations are read."""
    if chain.links[0].path is not None and chain.links[0].descriptor is not None:
        beside = _Surroundings(chain, chain.links[0].folder)  # type: ignore[arg-type]
        yield from beside.orphan_deltas()
        yield from beside.orphan_extents()
        yield from beside.list_mismatches()


class _Surroundings:
    def __init__(self, chain: Chain, folder: Folder):
        self.chain = chain
        self.folder = folder
        self.links = {identity(link.path): link for link in chain.links}
        paths = tuple(link.path for link in chain.links if link.path is not None)
        self._lines = {identity(path): paths[depth:] for depth, path in enumerate(paths)}
        self.lists = [found for found in lists_of(folder) if not found.is_copy]
        self.machines = [self._machine(vmx) for vmx in self.folder.files(".vmx") if vmx.suffix.lower() == ".vmx"]
        newest = identity(chain.links[0].path)
        self.own = next((machine for machine in self.machines if newest in machine.links), None)
        self.descriptors = dict(self._descriptors())

    def _machine(self, path: Path) -> FoundVmx:
        try:
            file = self.folder.open(path)
            try:
                disks = parse_vmx(decode_text(file.read(0, min(file.size, MAX_SIZE)))).disks
            finally:
                file.close()
        except SESparseError:
            disks = ()
        found = [self._find(disk.filename) for disk in disks[:MAX_LINES]]
        return FoundVmx(path, frozenset(identity(link) for disk in found if disk for link in self._line(disk)))

    def _find(self, name: str) -> Path | None:
        return next((path for _, path in self.folder.candidates(name) if is_regular(path)), None)

    def _line(self, path: Path) -> tuple[Path, ...]:
        return line_of(path, self.folder, self._lines)

    def _descriptors(self) -> Iterator[tuple[Path, DiskDescriptor]]:
        yield from sweep(self.folder, self.folder.files()[:MAX_FILES])

    # Deltas and extents that nothing reaches

    def orphan_deltas(self) -> Iterator[NearbyFinding]:
        """Descriptors of deltas that neither this chain, nor a ``.vmx``, nor the snapshot list reaches."""
        reached = set(self.links).union(*(machine.links for machine in self.machines))
        names = [name for found in self.lists for snapshot in found.snapshots for name in snapshot.disks]
        for path in filter(None, map(self._find, dict.fromkeys(names[: MAX_LINES * 10]))):
            if identity(path) not in reached:
                reached.update(map(identity, self._line(path)))
        alone = [p for p, found in self.descriptors.items() if found.has_parent and identity(p) not in reached]
        for path in alone[:MAX_LINES]:
            yield from self._orphan(path)
        if len(alone) > MAX_LINES:
            message = f"{len(alone) - MAX_LINES} more deltas in {self.folder.path} are not in this chain; {CONFIRMED}"
            yield NearbyFinding("orphan-link", "info", message, 0, self.folder.path)

    def _orphan(self, path: Path) -> Iterator[NearbyFinding]:
        line = self._line(path)[1:]
        meets = next((self.links[identity(link)] for link in line if identity(link) in self.links), None)
        based = f"based on {short(line[0].name)}" if line else "whose parent is not found"
        if self.own is not None:
            message = (
                f"the delta {short(path.name)}, {based}, is in no chain: neither {self.own.path.name} nor the snapshot "
                f"list reaches it, expected every delta in one; {CONFIRMED}"
            )
            yield NearbyFinding("orphan-link", "warning", message, meets.depth if meets else 0, path)
        elif meets is not None and meets.depth:  # what is based on the newest link is newer, and no orphan
            message = (
                f"the delta {short(path.name)}, {based}, is not in this chain, which goes on from {meets.name} "
                f"otherwise; no .vmx in the folder tells which of them runs; {CONFIRMED}"
            )
            yield NearbyFinding("orphan-link", "info", message, meets.depth, path)

    def orphan_extents(self) -> Iterator[NearbyFinding]:
        """Extents that no descriptor in the folder names."""
        named = {
            name_parts(line.filename)[-1]
            for descriptor in self.descriptors.values()
            for line in descriptor.extents
            if line.filename and name_parts(line.filename)
        }
        for path in self.folder.regular_files("", ".vmdk")[:MAX_FILES]:
            if path.name not in named and path not in self.descriptors and _is_extent(path, self.folder):
                message = (
                    f"no descriptor in the folder names the seSparse extent {short(path.name)}: a leftover, or its "
                    f"descriptor is lost (dissect-sesparse descriptor prints one); {CONFIRMED}"
                )
                yield NearbyFinding("orphan-link", "warning", message, 0, path)

    # The snapshot list

    def list_mismatches(self) -> Iterator[NearbyFinding]:
        """Disks that the list names and that are not there; frozen links that it does not name."""
        stem = self.own.path.stem if self.own is not None else None
        names = [link.name for link in self.chain.links]
        entries = list_of(self.folder, stem, names)
        if stem is not None:
            lists = [found for found in self.lists if found.machine == stem.lower()]
        else:
            lists = [found for found in self.lists if any(set(names) & set(s.disks) for s in found.snapshots)]
        if not lists:
            return  # there is none, or it is another VM's
        found = lists[0]
        yield from self._missing(entries, found)
        yield from self._unnamed(entries, found, "warning" if stem is not None else "info")

    def _missing(self, entries: list[Snapshot], found: SnapshotList) -> Iterator[NearbyFinding]:
        names = {link.name for link in self.chain.links}
        for snapshot in entries[:MAX_LINES]:
            for disk in snapshot.files[:MAX_LINES]:
                if name_parts(disk.filename)[-1] in names or self._find(disk.filename) is not None:
                    continue
                message = (
                    f"snapshot {short(repr(snapshot.name))} (uid {short(snapshot.uid)}) has the disk "
                    f"{short(repr(disk.filename))}, which is not there, expected a descriptor in {self.folder.path}; "
                    f"{CONFIRMED}"
                )
                # A disk of another datastore may just not have been collected.
                level = "info" if name_parts(disk.filename)[0] == "/" else "warning"
                yield NearbyFinding("snapshot-list-mismatch", level, message, 0, found.path)

    def _unnamed(self, entries: list[Snapshot], found: SnapshotList, level: str) -> Iterator[NearbyFinding]:
        named = {name for snapshot in entries for name in snapshot.disks}
        for link in self.chain.links[1:]:
            # A linked clone's parent is in its template's folder and list.
            if link.path is None or identity(link.path.parent) != identity(self.folder.path) or link.name in named:
                continue
            child = self.chain.links[link.depth - 1].name
            message = (
                f"{link.name} is frozen below {child}, and no snapshot of {found.path.name} has it, expected one for "
                f"each link that another is based on; {CONFIRMED}"
            )
            yield NearbyFinding("snapshot-list-mismatch", level, message, link.depth, found.path)


def _is_extent(path: Path, folder: Folder) -> bool:
    try:
        file = folder.open(path)
        try:
            return is_sesparse(file)
        finally:
            file.close()
    except SESparseError:
        return False
