"""One broken disk never costs a VM its other disks, wherever the break is met, and the log says why."""

from __future__ import annotations

import hashlib
import logging
import struct
from typing import TYPE_CHECKING

import make_vm
import pytest
import target_fixtures
from dissect.target import Target, container, volume
from dissect.target.container import Container, RawContainer
from dissect.target.target import DiskCollection, VolumeCollection
from dissect.target.volume import LogicalVolumeSystem, Volume
from dissect.util.stream import RangeStream
from sesparse_builder import ChainBuilder, ExtentBuilder, grain_data
from target_fixtures import EXAMPLE_SECTORS, NEWEST, NOTES, UNKNOWN_STATE, add_delta, notes_of, small_chain, two_disks

from dissect_sesparse import UnreadableError, open_chain
from dissect_sesparse.target.container import SESparseContainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

example = target_fixtures.example_vm

MIB = 1024 * 1024
NTFS_OFFSET = MIB
"""Of the example's only partition."""
NOTES_SHA256 = make_vm.LIVE[NOTES]


def assert_other_disk_is_whole(target: Target) -> None:
    notes = notes_of(target)
    assert notes is not None, "the other disk has lost its file system"
    assert hashlib.sha256(notes).hexdigest() == NOTES_SHA256


def errors(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)


def with_causes(caplog: pytest.LogCaptureFixture) -> str:
    """The errors in the log, with the tracebacks that dissect logs with some."""
    formatter = logging.Formatter()
    return "\n".join(formatter.format(record) for record in caplog.records if record.levelno >= logging.ERROR)


def bad_entries(*grains: int) -> ExtentBuilder:
    extent = ExtentBuilder(EXAMPLE_SECTORS)
    for grain in grains:
        extent.set_entry(grain, UNKNOWN_STATE)
    return extent


# Breaks that a read meets


def bad_directory() -> ExtentBuilder:
    extent = ExtentBuilder(EXAMPLE_SECTORS)
    extent.set_directory(0, 5)
    return extent


def grains_past_the_end() -> ExtentBuilder:
    """All grains of the partition's first 8 MiB are there by the table, and past the end of the file."""
    extent = ExtentBuilder(EXAMPLE_SECTORS)
    for grain in range(256, 256 + 2048):
        extent.set_entry(grain, 0x3 << 60 | (grain & 0xFFF) << 48 | 1)
    return extent


BROKEN_READS: dict[str, tuple[Callable[[], ExtentBuilder], int | None]] = {
    # what, and a byte offset of the disk that can still be read
    "first grain of the disk": (lambda: bad_entries(0), 4096),
    "first grain of the partition": (lambda: bad_entries(256), 257 * 4096),
    "fifth grain of the partition": (lambda: bad_entries(256, 261), 257 * 4096),
    "directory entry": (bad_directory, 16 * MIB),
    "grains past the end": (grains_past_the_end, 0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a-bad", "zz-bad"])
@pytest.mark.parametrize("case", BROKEN_READS)
def test_broken_read(folder: Path, case: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    make, readable = BROKEN_READS[case]
    target = Target.open(two_disks(folder, make(), name))
    assert_other_disk_is_whole(target)

    disk = next(disk for disk in target.disks if disk.chain.name == f"{name}.vmdk")
    good = next(disk for disk in target.disks if disk.chain.name == NEWEST)
    assert f"{name}-sesparse.vmdk" in errors(caplog), "the log names the file"
    assert "cannot be read" in errors(caplog) or "without a file system" in errors(caplog)
    disk.seek(readable)
    good.seek(readable)
    assert disk.read(4096) == good.read(4096)
    with pytest.raises(UnreadableError):
        disk.chain.read(0, 32 * MIB)


@pytest.fixture(scope="module")
def grains_of_detection(tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """The grains of a good disk that are read while a target is opened."""
    vmx = two_disks(tmp_path_factory.mktemp("datastore") / "vm", ExtentBuilder(EXAMPLE_SECTORS))
    grains: set[int] = set()
    with pytest.MonkeyPatch.context() as patch:
        from dissect_sesparse.chain.chain import Chain

        read = Chain.read

        def noting(self: Chain, offset: int, length: int) -> bytes:
            if self.name == "a-bad.vmdk":
                grains.update(range(offset // 4096, -(-(offset + length) // 4096)))
            return read(self, offset, length)

        patch.setattr(Chain, "read", noting)
        Target.open(vmx)
    return sorted(grains)


@pytest.mark.slow
def test_any_read_of_detection(folder: Path, grains_of_detection: list[int], caplog: pytest.LogCaptureFixture) -> None:
    """Each grain that is looked at on the way to a file system, one after the other made bad."""
    last = EXAMPLE_SECTORS // 8 - 1
    assert {0, 256, last} <= set(grains_of_detection), "the start, the partition, the end (where DDF and MD look)"
    vmx = two_disks(folder, ExtentBuilder(EXAMPLE_SECTORS))
    for grain in grains_of_detection:
        caplog.clear()
        bad_entries(grain).write(folder / "a-bad-sesparse.vmdk")
        target = Target.open(vmx)
        assert_other_disk_is_whole(target)
        assert len(target.disks) == 2
        assert notes_of(target, "a-bad.vmdk") is not None or "a-bad-sesparse.vmdk" in errors(caplog), f"grain {grain}"
        codes = [(record.disk, record.code) for record in target.sesparse.findings()]
        unopened = ("a-bad.vmdk", "filesystem-unopened")  # where the grain is needed for that
        assert [code for code in codes if code != unopened] == [("a-bad.vmdk", "entry-invalid")], f"grain {grain}"


@pytest.mark.parametrize("grain", [0, 256, EXAMPLE_SECTORS // 8 - 1])
def test_disks_added_by_hand(folder: Path, grain: int) -> None:
    """What scripts do: no loader."""
    two_disks(folder, bad_entries(grain))
    target = Target()
    target.disks.add(container.open(folder / "a-bad.vmdk"))
    target.disks.add(container.open(folder / NEWEST))
    target.apply()
    assert_other_disk_is_whole(target)
    assert [disk.chain.name for disk in target.disks] == ["a-bad.vmdk", NEWEST], "in the order they were added"


# Breaks that the opening meets


def cut(vm: Path, size: int) -> None:
    with (vm / "a-bad-sesparse.vmdk").open("r+b") as fh:
        fh.truncate(size)


def zero_descriptor(vm: Path) -> None:
    (vm / "a-bad.vmdk").write_bytes(b"")


def random_descriptor(vm: Path) -> None:
    (vm / "a-bad.vmdk").write_bytes(hashlib.sha256(b"encrypted").digest() * 16)


def bad_header(vm: Path) -> None:
    with (vm / "a-bad-sesparse.vmdk").open("r+b") as fh:
        fh.seek(0x20)
        fh.write(struct.pack("<Q", 63))


def own_parent(vm: Path) -> None:
    text = (vm / "a-bad.vmdk").read_text()
    text = text.replace(f"parentCID={make_vm.CIDS[-1]}", "parentCID=0bad0bad").replace(NEWEST, "a-bad.vmdk")
    (vm / "a-bad.vmdk").write_bytes(text.encode())


def no_parent(vm: Path) -> None:
    text = (vm / "a-bad.vmdk").read_text()
    text = text.replace(f"parentCID={make_vm.CIDS[-1]}", "parentCID=99999999").replace(NEWEST, "gone.vmdk")
    (vm / "a-bad.vmdk").write_bytes(text.encode())


BROKEN_OPENINGS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    # what is done to the files, and what the log has to say
    "cut in the directory": (lambda vm: cut(vm, 4096 * 512 + 8), ["a-bad-sesparse.vmdk", "grain_directory"]),
    "cut in the tables": (lambda vm: cut(vm, 6144 * 512 + 1000), ["a-bad-sesparse.vmdk", "grain_tables"]),
    "cut in the header": (lambda vm: cut(vm, 100), ["a-bad-sesparse.vmdk"]),
    "empty extent": (lambda vm: cut(vm, 0), ["a-bad-sesparse.vmdk"]),
    "extent missing": (lambda vm: (vm / "a-bad-sesparse.vmdk").unlink(), ["a-bad-sesparse.vmdk", "missing"]),
    "header": (bad_header, ["a-bad-sesparse.vmdk", "grain_table_size is 0x3f"]),
    "empty descriptor": (zero_descriptor, ["a-bad.vmdk", "descriptor"]),
    "encrypted descriptor": (random_descriptor, ["a-bad.vmdk", "descriptor"]),
    "loop": (own_parent, ["a-bad.vmdk", "loop"]),
    "parent missing": (no_parent, ["a-bad.vmdk", "gone.vmdk", "99999999"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BROKEN_OPENINGS)
def test_broken_opening(folder: Path, case: str, caplog: pytest.LogCaptureFixture) -> None:
    damage, told = BROKEN_OPENINGS[case]
    vmx = two_disks(folder, bad_entries())
    damage(folder)
    target = Target.open(vmx)
    assert_other_disk_is_whole(target)
    assert [disk.chain.name for disk in target.disks] == [NEWEST]
    for word in told:
        assert word in with_causes(caplog)


def test_cut_grains(folder: Path) -> None:
    """Cut among its grains: the disk opens, what is left of it reads, the rest raises."""
    extent = ExtentBuilder(EXAMPLE_SECTORS)
    for grain in range(256, 300):
        extent.allocate(grain, grain_data("bad", grain))
    vmx = two_disks(folder, extent)
    cut(folder, extent.grain_offset(10) + 700)
    target = Target.open(vmx)
    assert_other_disk_is_whole(target)
    disk = next(disk for disk in target.disks if disk.chain.name == "a-bad.vmdk")
    assert disk.chain.read(265 * 4096, 4096) == grain_data("bad", 265)
    with pytest.raises(UnreadableError, match=r"a-bad-sesparse\.vmdk"):
        disk.chain.read(266 * 4096, 4096)
    with pytest.raises(UnreadableError):
        disk.chain.read(267 * 4096, 4096)


def test_all_disks_broken(folder: Path) -> None:
    """With nothing left there is no target, and the error is dissect's own."""
    vmx = two_disks(folder, bad_entries())
    bad_header(folder)
    (folder / "web01-000002-sesparse.vmdk").unlink()
    with pytest.raises(Exception) as caught:
        Target.open(vmx)
    assert type(caught.value).__module__ == "dissect.target.exceptions"


# Volumes of one disk


def mbr(*partitions: tuple[int, int]) -> bytes:
    """A partition table: first sector and number of sectors of each partition."""
    entries = b"".join(
        struct.pack("<4sB3sII", b"\0\2\0\0", 0x07, b"\0\0\0", first, count) for first, count in partitions
    )
    return bytes(446) + entries.ljust(64, b"\0") + b"\x55\xaa"


def ntfs_of(vmx: Path) -> bytes:
    with open_chain(vmx.parent / NEWEST) as chain:
        return chain.read(NTFS_OFFSET, chain.size - NTFS_OFFSET)


def test_other_partition_of_the_same_disk(folder: Path, example: Path, caplog: pytest.LogCaptureFixture) -> None:
    ntfs = ntfs_of(example)
    base = {0: mbr((2048, 30720), (32768, len(ntfs) // 512)), 2048: b"no file system" * 10, 32768: ntfs}
    chain = ChainBuilder(folder, 32768 + len(ntfs) // 512, base)
    chain.add_delta().set_entry(300, UNKNOWN_STATE)
    target = Target.open(chain.write())
    assert [fs.__type__ for fs in target.filesystems] == ["ntfs"]
    assert hashlib.sha256(target.filesystems[0].path(NOTES).read_bytes()).hexdigest() == NOTES_SHA256
    assert len(target.volumes) == 2, "the broken one is there to be looked at"
    assert "vm-000001-sesparse.vmdk" in errors(caplog)


class TwoVolumes(LogicalVolumeSystem):
    """A logical volume manager: a volume at 1 MiB and one at 16 MiB of each of its physical volumes."""

    __type__ = "two"
    reads_at: int | None = None

    @staticmethod
    def _detect(fh: object) -> bool:
        return True

    @staticmethod
    def _detect_volume(fh: object) -> bool:
        return fh.read(4) == b"TWO!"

    @classmethod
    def open_all(cls, volumes: list) -> Iterator[TwoVolumes]:
        if volumes:
            yield cls(volumes)

    def _volumes(self) -> Iterator[Volume]:
        for physical in self.fh:
            if self.reads_at is not None:
                physical.seek(self.reads_at)
                physical.read(512)
            for start, end in ((MIB, 16 * MIB), (16 * MIB, physical.size)):
                fh = RangeStream(physical, start, end - start)
                yield Volume(fh, 1, None, end - start, None, f"lv{start}", disk=self.disk, vs=self)


def logical_disk(folder: Path, ntfs: bytes) -> Path:
    chain = ChainBuilder(folder, 32768 + len(ntfs) // 512, {0: b"TWO!", 2048: b"swap" * 10, 32768: ntfs})
    chain.add_delta().set_entry(300, UNKNOWN_STATE)
    return chain.write()


def test_other_logical_volume(
    folder: Path, example: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad grain in a swap volume does not cost the root volume beside it."""
    monkeypatch.setattr(volume, "LOGICAL_VOLUME_MANAGERS", [TwoVolumes])
    target = Target.open(logical_disk(folder, ntfs_of(example)))
    assert [fs.__type__ for fs in target.filesystems] == ["ntfs"]
    assert hashlib.sha256(target.filesystems[0].path(NOTES).read_bytes()).hexdigest() == NOTES_SHA256
    assert "vm-000001-sesparse.vmdk" in errors(caplog)


def test_logical_volume_manager_that_cannot_be_read(
    folder: Path, example: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a volume group fails on a disk: that disk alone is left out."""
    monkeypatch.setattr(volume, "LOGICAL_VOLUME_MANAGERS", [TwoVolumes])
    monkeypatch.setattr(TwoVolumes, "reads_at", 300 * 4096)
    target = Target()
    target.disks.add(container.open(logical_disk(folder, b"")))
    target.disks.add(container.open(example.parent / NEWEST))
    target.apply()
    assert_other_disk_is_whole(target)
    assert len(target.disks) == 2
    assert "vm-000001-sesparse.vmdk" in errors(caplog)


class Strict(TwoVolumes):
    """A volume manager whose look at a disk fails as a whole, in place of being taken for a no."""

    @classmethod
    def detect_volume(cls, fh: object) -> bool:
        fh.seek(300 * 4096)
        fh.read(512)
        return False


def test_detection_that_fails(
    folder: Path, example: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk has no volumes then, and is in its place among the disks."""
    monkeypatch.setattr(volume, "LOGICAL_VOLUME_MANAGERS", [Strict])
    target = Target()
    target.disks.add(container.open(example.parent / NEWEST))
    target.disks.add(container.open(logical_disk(folder, b"")))
    target.apply()
    assert_other_disk_is_whole(target)
    assert [disk.chain.name for disk in target.disks] == [NEWEST, "vm-000001.vmdk"]
    assert {target_fixtures.disk_of(vol) for vol in target.volumes} == {NEWEST}
    assert "vm-000001-sesparse.vmdk" in errors(caplog)


def test_volume_on_a_volume(folder: Path, example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader may add volumes that lie on volumes: the disk is below them all the same."""
    monkeypatch.setattr(volume, "LOGICAL_VOLUME_MANAGERS", [TwoVolumes])
    monkeypatch.setattr(TwoVolumes, "reads_at", 300 * 4096)
    disk = container.open(logical_disk(folder, b""))
    physical = Volume(disk, 1, 0, disk.size, None, None, disk=disk)
    target = Target()
    target.disks.add(container.open(example.parent / NEWEST))
    target.volumes.add(Volume(physical, 1, None, disk.size, None, None, disk=[physical]))
    target.apply()
    assert_other_disk_is_whole(target)
    assert len(target.volumes) == 1


def test_disk_inside_a_broken_disk(folder: Path, example: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A disk of another kind whose bytes lie on a broken disk of ours, as those of a VM on an evidence host do."""
    two_disks(folder, bad_entries(0))
    target = Target()
    target.disks.add(RawContainer(open_chain(folder / "a-bad.vmdk").open()))
    target.disks.add(container.open(example.parent / NEWEST))
    target.apply()
    assert_other_disk_is_whole(target)
    assert "a-bad-sesparse.vmdk" in errors(caplog)


# Errors that are not ours


class Failing(Container):
    """A disk that cannot be read from some offset on, for a reason that is none of ours."""

    __type__ = "failing"

    def __init__(self, limit: int, size: int = 20 * MIB):
        self.limit = limit
        self.position = 0
        super().__init__(None, size)

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = offset + (0, self.position, self.size)[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def read(self, length: int = -1) -> bytes:
        length = max(0, min(length if length >= 0 else self.size, self.size - self.position))
        if self.position <= self.limit < self.position + length:
            raise KeyError("of somebody else")
        self.position += length
        return b"\x11" * length


def test_errors_of_others_propagate(example: Path) -> None:
    """As without this package: a bug elsewhere is not hidden."""
    for disks in ([Failing(7 * MIB)], [Failing(7 * MIB), container.open(example.parent / NEWEST)]):
        target = Target()
        for disk in disks:
            target.disks.add(disk)
        with pytest.raises(KeyError, match="of somebody else"):
            target.apply()

        target = Target()
        target.disks.add(Failing(7 * MIB))
        DiskCollection.apply.__wrapped__(target.disks)
        with pytest.raises(KeyError, match="of somebody else"):
            VolumeCollection.apply.__wrapped__(target.volumes)


def test_disks_of_others_load_as_before(example: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = Target()
    target.disks.add(Failing(1 << 60))
    target.disks.add(container.open(example.parent / NEWEST))
    target.apply()
    assert_other_disk_is_whole(target)
    assert len(target.volumes) == 2
    assert errors(caplog) == ""
    assert "Can't identify filesystem" in caplog.text


def test_same_as_without_on_a_good_target(example: Path) -> None:
    """Nothing changes where nothing is broken."""
    opened = Target.open(example)
    plain = Target()
    plain.disks.add(container.open(example.parent / NEWEST))
    DiskCollection.apply.__wrapped__(plain.disks)
    VolumeCollection.apply.__wrapped__(plain.volumes)
    for target in (opened, plain):
        assert [(v.offset, v.size, v.fs.__type__) for v in target.volumes] == [(MIB, 63 * MIB, "ntfs")]
        assert len(target.filesystems) == 1


def test_open_of_a_file_system_raises_outside_of_a_target(folder: Path) -> None:
    """``filesystem.open`` by hand fails as it always did."""
    from dissect.target import filesystem
    from dissect.target.exceptions import FilesystemError

    chain = small_chain(folder)
    chain.links[-1].extent.set_entry(0, UNKNOWN_STATE)
    with pytest.raises(FilesystemError):
        filesystem.open(container.open(chain.write()))


def test_bad_disk_with_its_parent_shared(folder: Path) -> None:
    """Two disks over one base, as linked clones in a folder are: the good one is not taken for the bad one."""
    make_vm.make_vm(folder)
    extents = {"a-bad": bad_entries(0), "b-good": ExtentBuilder(EXAMPLE_SECTORS)}
    target = Target()
    for number, (name, extent) in enumerate(extents.items()):
        path = add_delta(folder, name, extent, folder / NEWEST, make_vm.CIDS[-1], f"0000000{number}")
        target.disks.add(container.open(path))
    target.apply()
    assert all(isinstance(disk, SESparseContainer) for disk in target.disks)
    assert hashlib.sha256(notes_of(target, "b-good.vmdk")).hexdigest() == NOTES_SHA256


def test_bad_base_of_two_disks(folder: Path) -> None:
    """The same, where the break is in what they share: both have it, and a third disk is left whole."""
    make_vm.make_vm(folder)
    other = folder.parent / "other"
    make_vm.make_vm(other)
    bad_entries(256).write(folder / "web01-000002-sesparse.vmdk")
    target = Target()
    for number in range(2):
        path = add_delta(
            folder,
            f"clone{number}",
            ExtentBuilder(EXAMPLE_SECTORS),
            folder / NEWEST,
            make_vm.CIDS[-1],
            f"0000000{number}",
        )
        target.disks.add(container.open(path))
    target.disks.add(container.open(other / NEWEST))
    target.apply()
    assert len(target.disks) == 3
    assert_other_disk_is_whole(target)
    assert notes_of(target, "clone0.vmdk") is None
    assert notes_of(target, "clone1.vmdk") is None
