"""SESparseContainer: what it takes, what it leaves to dissect, how options reach it, and its file object."""

from __future__ import annotations

import io
import random
import shutil
import struct
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import target_fixtures
from dissect.target import container
from dissect.target.exceptions import ContainerError
from dissect.target.filesystem import VirtualFilesystem
from dissect.target.filesystems.tar import TarFilesystem
from sesparse_builder import ExtentBuilder, descriptor, grain_data, write_flat
from target_fixtures import NEWEST, SECTORS, SIZE, UNKNOWN_STATE, add_delta, messages, small_chain

from dissect_sesparse import SESparseError, UnreadableError
from dissect_sesparse.source.errors import (
    DescriptorError,
    ExtentError,
    FileError,
    LoopError,
    OptionError,
    ParentError,
)
from dissect_sesparse.source.file import EvidenceFile
from dissect_sesparse.target.container import SESparseContainer
from dissect_sesparse.target.context import URI_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

example = target_fixtures.example_vm


def refusal(source: object, **options: object) -> SESparseError:
    """The error of ours with which dissect refuses to open something."""
    with pytest.raises(ContainerError) as caught:
        container.open(source, **options)
    error = caught.value.__cause__
    assert isinstance(error, SESparseError), f"not refused by us: {error!r}"
    return error


def content(disk: container.Container) -> bytes:
    disk.seek(0)
    return disk.read(disk.size)


# What is ours


def test_descriptor(folder: Path) -> None:
    path = small_chain(folder).write()
    disk = container.open(path)
    assert isinstance(disk, SESparseContainer)
    assert disk.__type__ == "sesparse"
    assert disk.size == SIZE
    assert content(disk)[:4096] == grain_data("base", 0)
    assert content(disk)[10 * 4096 : 11 * 4096] == grain_data("delta1", 10)


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("as_string", [False, True])
def test_string_and_list(folder: Path, as_list: bool, as_string: bool) -> None:
    path = small_chain(folder).write()
    source = str(path) if as_string else path
    disk = container.open([source, source] if as_list else source)
    assert content(disk)[10 * 4096 :][:4096] == grain_data("delta1", 10)


def test_extent_with_its_descriptor(folder: Path) -> None:
    """A bare extent opens as the descriptor beside it: with its parent's bytes."""
    small_chain(folder).write()
    disk = container.open(folder / "vm-000001-sesparse.vmdk")
    assert disk.__type__ == "sesparse"
    assert disk.chain.name == "vm-000001.vmdk"
    assert content(disk)[:4096] == grain_data("base", 0)


@pytest.mark.parametrize(
    "name", ["vm-000001-sesparse.bin", "evidence", "vm-000001-sesparse.vmdk.001", "x.vhd", "x.E01"]
)
def test_extent_by_content_not_by_name(folder: Path, name: str) -> None:
    """Whatever it is called, it never becomes a raw disk; alone, its parent is unknown, and that is said."""
    small_chain(folder).write()
    other = folder.parent / "alone" / name
    other.parent.mkdir()
    shutil.copyfile(folder / "vm-000001-sesparse.vmdk", other)
    error = refusal(other)
    assert isinstance(error, ParentError)
    assert name in str(error)
    disk = container.open(other, unreadable="zero")
    assert disk.__type__ == "sesparse"
    assert content(disk)[10 * 4096 :][:4096] == grain_data("delta1", 10)


@pytest.mark.parametrize("open_file", [lambda path: io.BytesIO(path.read_bytes()), lambda path: path.open("rb")])
def test_extent_as_file_object(folder: Path, open_file: Callable) -> None:
    small_chain(folder).write()
    path = shutil.move(folder / "vm-000001-sesparse.vmdk", folder.parent / "alone.bin")
    with open_file(Path(path)) as fh:
        fh.seek(1234)
        assert isinstance(refusal(fh), ParentError)
        assert fh.tell() == 1234, "dissect puts the position back"
        disk = container.open(fh, unreadable="zero")
        assert content(disk)[10 * 4096 :][:4096] == grain_data("delta1", 10)
        assert content(disk)[:4096] == bytes(4096)
        assert disk.chain.missing_parent is not None


def test_open_file_of_a_descriptor(folder: Path) -> None:
    """A file object with a real path has a folder, so its chain can be found."""
    path = small_chain(folder).write()
    with path.open("rb") as fh:
        disk = container.open(fh)
        assert content(disk)[:4096] == grain_data("base", 0)


def test_descriptor_without_a_folder(folder: Path) -> None:
    """Refused with a reason; never a raw disk made of a descriptor's text."""
    path = small_chain(folder).write()
    error = refusal(io.BytesIO(path.read_bytes()))
    assert isinstance(error, FileError)
    assert "path" in str(error)


def test_name_of_a_file_object_proves_nothing(folder: Path) -> None:
    """A file object that merely says it is the descriptor is not followed to the analyst's disk."""
    path = small_chain(folder).write()
    fh = io.BytesIO(path.read_bytes())
    fh.name = str(path)
    assert isinstance(refusal(fh), FileError)


@pytest.mark.parametrize("base_type", ["FLAT", "VMFS"])
def test_sesparse_deeper_in_the_chain(folder: Path, base_type: str) -> None:
    """Two descriptors without a seSparse extent over one that has it: dissect's reader would not see it."""
    chain = small_chain(folder)
    middle = chain.write()
    middle_cid = chain.links[-1].cid
    for number, (parent, parent_cid) in enumerate([(middle.name, middle_cid), ("flat0.vmdk", "f1a70000")]):
        write_flat(folder / f"flat{number}-flat.vmdk", SIZE, {number * 8: grain_data(f"flat{number}", number)})
        extent = f'RW {SECTORS} {base_type} "flat{number}-flat.vmdk"' + (" 0" if base_type == "FLAT" else "")
        text = descriptor(
            [extent], cid=f"f1a7000{number}", parent_cid=parent_cid, parent_hint=parent, create_type="vmfs"
        )
        (folder / f"flat{number}.vmdk").write_bytes(text.encode())
    disk = container.open(folder / "flat1.vmdk")
    assert disk.__type__ == "sesparse"
    assert [link.name for link in disk.chain.links] == ["flat1.vmdk", "flat0.vmdk", "vm-000001.vmdk", "vm.vmdk"]
    assert content(disk)[4096:8192] == grain_data("flat1", 1)
    assert content(disk)[:4096] == bytes(4096), "a flat extent has an answer for every byte"


@pytest.mark.parametrize("extent_type", ["VMFSSPARSE", "SPARSE"])
def test_extent_that_is_called_another_sparse_type(folder: Path, extent_type: str) -> None:
    """The magic decides what it is, and its bytes are right."""
    path = small_chain(folder).write()
    path.write_bytes(path.read_bytes().replace(b"SESPARSE", extent_type.encode()))
    data = content(container.open(path))
    assert data[:4096] == grain_data("base", 0)
    assert data[10 * 4096 :][:4096] == grain_data("delta1", 10)


@pytest.mark.parametrize("extent_type", ["VMFS", "FLAT", "VMFSRDM"])
def test_extent_that_is_called_flat(folder: Path, extent_type: str) -> None:
    """Refused: its own bytes must never be shown as those of a raw disk."""
    path = small_chain(folder).write()
    path.write_bytes(path.read_bytes().replace(b"SESPARSE", extent_type.encode()))
    error = refusal(path)
    assert isinstance(error, ExtentError)
    assert extent_type in str(error)


# What is not ours


def vmdk_header(magic: bytes) -> bytes:
    return magic + struct.pack("<IIQQ", 1, 3, SECTORS, 128) + bytes(2048)


NOT_OURS = {
    "raw": ("disk.bin", bytes(4096) + b"raw" * 4096, "raw"),
    "raw called vmdk": ("vm-flat.vmdk", b"\x33\xc0\x8e\xd0" + bytes(8192), "vmdk"),
    "cow": ("delta.vmdk", vmdk_header(b"COWD"), "vmdk"),
    "hosted sparse": ("disk.vmdk", vmdk_header(b"KDMV"), "vmdk"),
    "evidence file": ("disk.E01", b"EVF\x09\x0d\x0a\xff\x00\x01" + bytes(4096), "ewf"),
    "empty": ("disk.bin", b"", "raw"),
    "text": ("notes.txt", b"RW this is no extent line\n# Disk\n", "raw"),
    "almost the magic": ("disk.bin", struct.pack("<Q", 0xCAFEBABE00000000) + bytes(4096), "raw"),
}


@pytest.mark.parametrize("case", NOT_OURS)
def test_not_ours(folder: Path, case: str) -> None:
    """Left to dissect, whatever it then makes of it."""
    name, data, kind = NOT_OURS[case]
    path = folder / name
    path.write_bytes(data)
    assert not SESparseContainer.detect(path)
    assert not SESparseContainer.detect(io.BytesIO(data))
    assert not SESparseContainer.detect([path])
    takes_it = next((other for other in container.CONTAINERS if other.detect(path)), container.RawContainer)
    assert takes_it.__type__ == kind


def test_plain_flat_descriptor(folder: Path) -> None:
    small_chain(folder, deltas=0).write()
    disk = container.open(folder / "vm.vmdk")
    assert disk.__type__ == "vmdk"
    assert content(disk)[:4096] == grain_data("base", 0)


def test_flat_base_below_a_snapshot(folder: Path) -> None:
    """The base itself is a plain disk: dissect's own container takes it, also where snapshots lie beside it."""
    small_chain(folder).write()
    assert container.open(folder / "vm.vmdk").__type__ == "vmdk"


def test_missing_file(folder: Path) -> None:
    with pytest.raises(ContainerError):
        container.open(folder / "no-such.bin")


# Descriptors that were lost


@pytest.mark.parametrize("data", [b"", bytes(333), random.Random(1).randbytes(333), b"EVF\x09" + b"\xff" * 400])
def test_lost_descriptor(folder: Path, data: bytes) -> None:
    """Emptied, wiped or encrypted: refused, with its name; never a raw disk."""
    path = small_chain(folder).write()
    path.write_bytes(data)
    error = refusal(path)
    assert isinstance(error, DescriptorError)
    assert path.name in str(error)


@pytest.mark.parametrize("data", [b"", random.Random(2).randbytes(514)])
def test_lost_descriptor_of_the_base(folder: Path, data: bytes) -> None:
    path = small_chain(folder).write()
    (folder / "vm.vmdk").write_bytes(data)
    error = refusal(path)
    assert isinstance(error, SESparseError)
    assert "vm.vmdk" in str(error)


def test_lost_extent(folder: Path) -> None:
    path = small_chain(folder).write()
    (folder / "vm-000001-sesparse.vmdk").write_bytes(random.Random(3).randbytes(4096))
    error = refusal(path)
    assert isinstance(error, ExtentError)
    assert "vm-000001-sesparse.vmdk" in str(error)
    assert "magic" in str(error)


def test_missing_extent(folder: Path) -> None:
    path = small_chain(folder).write()
    (folder / "vm-000001-sesparse.vmdk").unlink()
    error = refusal(path)
    assert isinstance(error, FileError)
    assert "vm-000001-sesparse.vmdk" in str(error)


def test_loop(folder: Path) -> None:
    chain = small_chain(folder, deltas=2)
    path = chain.write()
    first = folder / "vm-000001.vmdk"
    text = first.read_text().replace('"vm.vmdk"', f'"{path.name}"').replace(chain.links[0].cid, chain.links[2].cid)
    first.write_bytes(text.encode())
    error = refusal(path)
    assert isinstance(error, LoopError)
    assert "loop" in str(error)


def test_missing_parent(folder: Path) -> None:
    path = small_chain(folder).write()
    (folder / "vm.vmdk").unlink()
    error = refusal(path)
    assert isinstance(error, ParentError)
    assert "vm-000001.vmdk" in str(error)
    assert "vm.vmdk" in str(error)


# Options


def bad_grain_chain(folder: Path) -> Path:
    chain = small_chain(folder)
    chain.links[-1].extent.set_entry(20, UNKNOWN_STATE)
    return chain.write()


def is_zero_option(disk: container.Container) -> bool:
    """Whether a disk of :func:`bad_grain_chain` was opened with ``unreadable=zero``."""
    disk.seek(20 * 4096)
    try:
        return disk.read(4096) == bytes(4096)
    except UnreadableError:
        return False


def test_default(folder: Path) -> None:
    disk = container.open(bad_grain_chain(folder))
    assert not is_zero_option(disk)
    with pytest.raises(UnreadableError, match=r"vm-000001-sesparse\.vmdk"):
        content(disk)
    disk.seek(10 * 4096)
    assert disk.read(4096) == grain_data("delta1", 10), "all else stays readable"


def test_keyword(folder: Path) -> None:
    assert is_zero_option(container.open(bad_grain_chain(folder), unreadable="zero"))


def test_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bad_grain_chain(folder)
    monkeypatch.setenv("DISSECT_SESPARSE_UNREADABLE", "zero")
    assert is_zero_option(container.open(path))
    monkeypatch.setenv("DISSECT_SESPARSE_UNREADABLE", "")
    assert not is_zero_option(container.open(path)), "an empty variable is none"


def test_keyword_wins_over_uri_over_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bad_grain_chain(folder)
    monkeypatch.setenv("DISSECT_SESPARSE_UNREADABLE", "zero")
    token = URI_OPTIONS.set({"unreadable": "error"})
    try:
        assert not is_zero_option(container.open(path)), "the URI wins over the environment"
        assert is_zero_option(container.open(path, unreadable="zero")), "the keyword wins over the URI"
        assert not is_zero_option(container.open(path, unreadable=None)), "None is no option"
    finally:
        URI_OPTIONS.reset(token)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"unreadable": "zeros"}, "unreadable"),
        ({"view": "host"}, "view"),
        ({"journal": "yes"}, "journal"),
        ({"salvage": "2"}, "salvage"),
        ({"unreadble": "zero"}, "unreadble"),
    ],
)
def test_wrong_option(folder: Path, options: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused: an option with a typing error must not be taken for its default."""
    path = small_chain(folder).write()
    error = refusal(path, **options)
    assert isinstance(error, OptionError)
    assert told in str(error)
    ((name, value),) = options.items()
    if name != "unreadble":
        monkeypatch.setenv(f"DISSECT_SESPARSE_{name.upper()}", value)
        assert isinstance(refusal(path), OptionError)


def test_parent_option(folder: Path) -> None:
    """The parent that the caller names, where the descriptor is wrong: used, and its CID told."""
    chain = small_chain(folder)
    path = chain.write()
    (folder / "vm.vmdk").rename(folder / "moved.vmdk")
    path.write_bytes(path.read_bytes().replace(chain.links[0].cid.encode(), b"12345678"))
    assert isinstance(refusal(path), ParentError)
    for parent in (folder / "moved.vmdk", str(folder / "moved.vmdk")):
        disk = container.open(path, parent=parent)
        assert content(disk)[:4096] == grain_data("base", 0)


# What is logged


def test_each_opening_finding_is_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    chain = small_chain(folder)
    chain.links[-1].cid = "aaaaaaaa"
    chain.links[-1].extent.patch(0x1F0, b"\x01")
    chain.links[-1].extent.patch(0x3F0, b"\x01")
    path = chain.write()
    path.write_bytes(path.read_bytes().replace(chain.links[0].cid.encode(), b"12345678"))
    disk = container.open(path)
    told = messages(caplog.records)
    assert [text.split(": ")[:2] for text in told] == [
        [path.name, "cid-mismatch"],
        [path.name, "padding-nonzero"],
        [path.name, "padding-nonzero"],
    ]
    assert "12345678" in told[0]
    assert chain.links[0].cid in told[0]
    assert content(disk)[:4096] == grain_data("base", 0), "labelled, not refused"


def test_nothing_is_logged_for_a_good_chain(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    container.open(small_chain(folder, deltas=3).write())
    assert messages(caplog.records) == []


# The file object


@pytest.fixture
def disk(folder: Path) -> SESparseContainer:
    return container.open(small_chain(folder, deltas=2).write())


def test_seek_and_tell(disk: SESparseContainer) -> None:
    assert disk.tell() == 0
    assert disk.seek(100) == 100
    assert disk.seek(5, io.SEEK_CUR) == 105
    assert disk.seek(-1, io.SEEK_END) == SIZE - 1
    assert disk.tell() == SIZE - 1
    assert disk.seekable()


def test_read(disk: SESparseContainer) -> None:
    everything = content(disk)
    assert len(everything) == SIZE
    assert everything[20 * 4096 :][:4096] == grain_data("delta2", 20)
    disk.seek(10 * 4096 + 100)
    assert disk.read(200) == grain_data("delta1", 10)[100:300]
    assert disk.tell() == 10 * 4096 + 300
    disk.seek(0)
    assert disk.read() == everything
    assert disk.read() == b""
    assert disk.read(10) == b""
    disk.seek(SIZE - 3)
    assert disk.read(100) == everything[-3:]
    assert disk.read(0) == b""


def test_readinto(disk: SESparseContainer) -> None:
    buffer = bytearray(b"\xff" * 100)
    disk.seek(SIZE - 40)
    assert disk.readinto(buffer) == 40
    assert buffer == bytes(40) + b"\xff" * 60
    disk.seek(4096 * 5)
    assert disk.readinto(buffer) == 100
    assert buffer == grain_data("base", 5)[:100]


def test_two_streams_of_one_disk(disk: SESparseContainer) -> None:
    """Positions are each stream's own."""
    other = disk.chain.open()
    disk.seek(10 * 4096)
    assert other.read(10) == grain_data("base", 0)[:10]
    assert disk.read(10) == grain_data("delta1", 10)[:10]
    assert other.tell() == 10


def test_close_closes_all_files(disk: SESparseContainer) -> None:
    files = [placed.extent.file.fh for link in disk.chain.links for placed in link.extents]
    assert len(files) == 3
    assert not any(fh.closed for fh in files)
    disk.close()
    assert all(fh.closed for fh in files)


def test_close_of_a_disk_that_could_not_be_opened() -> None:
    """From 3.13 on Python says so when the end of an object fails, for each broken disk."""
    SESparseContainer.__new__(SESparseContainer).close()


def test_close_leaves_the_callers_file_open(folder: Path) -> None:
    small_chain(folder).write()
    fh = io.BytesIO((folder / "vm-000001-sesparse.vmdk").read_bytes())
    container.open(fh, unreadable="zero").close()
    assert not fh.closed


def test_a_refused_disk_leaves_no_file_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_chain(folder, deltas=3).write()
    (folder / "vm-flat.vmdk").unlink()
    opened = []
    open_ = EvidenceFile.open

    def noting(path: Path) -> EvidenceFile:
        opened.append(open_(path))
        return opened[-1]

    monkeypatch.setattr(EvidenceFile, "open", noting)
    refusal(path)
    assert len(opened) > 3
    assert [file.name for file in opened if not file.fh.closed] == []


# Inside an evidence file system


def virtual(folder: Path) -> VirtualFilesystem:
    fs = VirtualFilesystem()
    fs.map_dir("vmfs/volumes/datastore1/vm", str(folder))
    return fs


def tar(folder: Path) -> TarFilesystem:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder, "vmfs/volumes/datastore1/vm")
    return TarFilesystem(packed)


@pytest.mark.slow
@pytest.mark.parametrize("make", [virtual, tar])
@pytest.mark.parametrize("hint", ["vm.vmdk", "/vmfs/volumes/datastore1/vm/vm.vmdk", "../vm/vm.vmdk", "..\\vm\\vm.vmdk"])
def test_target_path(folder: Path, make: Callable, hint: str) -> None:
    path = small_chain(folder, deltas=2).write()
    first = folder / "vm-000001.vmdk"
    first.write_bytes(first.read_bytes().replace(b'"vm.vmdk"', f'"{hint}"'.encode()))
    expected = content(container.open(path))
    root = make(folder).path("/vmfs/volumes/datastore1/vm")
    disk = container.open(root.joinpath(path.name))
    assert disk.__type__ == "sesparse"
    assert [link.name for link in disk.chain.links] == ["vm-000002.vmdk", "vm-000001.vmdk", "vm.vmdk"]
    assert content(disk) == expected
    bare = container.open(root.joinpath("vm-000002-sesparse.vmdk"))
    assert bare.chain.name == "vm-000002.vmdk"
    assert container.open(root.joinpath("vm.vmdk")).__type__ == "vmdk"


def test_absolute_hint_means_the_evidence(folder: Path) -> None:
    """In an evidence file system an absolute hint is followed to another folder; on the analyst's disk it is not."""
    chain = small_chain(folder)
    path = chain.write()
    elsewhere = folder.parent.parent / "elsewhere" / "deep"
    elsewhere.mkdir(parents=True)
    for name in ("vm.vmdk", "vm-flat.vmdk"):
        shutil.move(folder / name, elsewhere / name)
    path.write_bytes(path.read_bytes().replace(b'"vm.vmdk"', b'"' + (elsewhere / "vm.vmdk").as_posix().encode() + b'"'))
    assert isinstance(refusal(path), ParentError)
    fs = virtual(folder)
    fs.map_dir(elsewhere.as_posix(), str(elsewhere))
    disk = container.open(fs.path("/vmfs/volumes/datastore1/vm").joinpath(path.name))
    assert content(disk)[:4096] == grain_data("base", 0)


@pytest.mark.parametrize("make", [virtual, tar])
def test_errors_inside_evidence(folder: Path, make: Callable) -> None:
    path = small_chain(folder).write()
    (folder / "vm-flat.vmdk").unlink()
    error = refusal(make(folder).path("/vmfs/volumes/datastore1/vm").joinpath(path.name))
    assert "vm-flat.vmdk" in str(error)


def test_example(example: Path) -> None:
    """The same bytes by path and by TargetPath."""
    by_path = container.open(example.parent / NEWEST)
    by_target_path = container.open(virtual(example.parent).path(f"/vmfs/volumes/datastore1/vm/{NEWEST}"))
    assert content(by_path) == content(by_target_path)


def test_never_written_child(folder: Path) -> None:
    """A delta that has its parent's CID, as ESXi makes it, is no loop and no mismatch."""
    chain = small_chain(folder, deltas=1)
    path = chain.write()
    cid = chain.links[-1].cid
    newest = add_delta(folder, "vm-000002", ExtentBuilder(SECTORS), path, cid, cid)
    disk = container.open(newest)
    assert content(disk)[10 * 4096 :][:4096] == grain_data("delta1", 10)
    assert len(disk.chain.links) == 3
