"""Deleted files of NTFS volumes that ntfs-3g changed, and of volumes that no driver would write."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, NamedTuple

import file_states
import pytest
from file_states import content
from ntfs_state import CHANGED, COMPLETE, LIKELY, PARTIAL, patched, record_of
from sesparse_builder import GRAIN, ChainBuilder

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.files.deleted import measure
from dissect_sesparse.files.file_systems import deleted_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dissect_sesparse.files.deleted import DeletedFile, Recovered


class Told(NamedTuple):
    file: DeletedFile
    recovered: Recovered
    pieces: dict[int, bytes]


def told(path: Path, warn: Callable[[str], None] | None = None, **options: object) -> dict[str, Told]:
    """The deleted files of a disk by their path; of one that was changed since a snapshot what that has is ``PATH@``."""
    found: dict[str, Told] = {}

    def unexpected(message: str) -> None:
        pytest.fail(message)

    with open_chain(path, **options) as chain:
        for file in deleted_files(chain, warn or unexpected):
            pieces: dict[int, bytes] = {}
            recovered = measure(file, lambda piece, pieces=pieces: pieces.__setitem__(piece.offset, piece.data))
            name = f"{file.path}@" if file.naming.by == "snapshot" else file.path
            assert name not in found
            found[name] = Told(file, recovered, pieces)
    for name in [name for name in found if name.endswith("@") and name[:-1] not in found]:
        found[name[:-1]] = found.pop(name)
    return found


@pytest.fixture(scope="module")
def ntfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The newest descriptor. Never changed."""
    return file_states.build("ntfs", tmp_path_factory.mktemp("ntfs")).write()


@pytest.fixture(scope="module", params=["guest", "residual", "untrimmed"])
def found(ntfs: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    if request.param == "untrimmed":
        return told(file_states.build("ntfs", tmp_path_factory.mktemp("untrimmed"), trim=False).write())
    return told(ntfs, view=request.param)


def test_all_deleted_files_and_no_other(found: dict[str, Told]) -> None:
    """No live one, none that was renamed, no folder, nothing of the file system itself."""
    assert set(found) == {*COMPLETE, *LIKELY, *PARTIAL}


@pytest.mark.parametrize("path", [*COMPLETE, *LIKELY])
def test_complete_and_likely(found: dict[str, Told], path: str) -> None:
    named_by, depth, data = (COMPLETE | LIKELY)[path]
    file, recovered, _ = found[path]
    assert (file.naming.by, file.link.depth, file.size) == (named_by, depth, len(data))
    assert (recovered.size, recovered.state) == (len(data), "likely" if path in LIKELY else "complete")
    assert ("nothing tells by whom last" in recovered.basis) == (path in LIKELY)
    assert recovered.digest is not None
    assert recovered.digest[2] == hashlib.sha256(data).hexdigest()
    assert file.filesystem == "ntfs"
    assert file.mtime is not None
    assert file.mtime.year == 2024
    assert file.btime is not None
    assert file.btime <= file.mtime


@pytest.mark.slow
def test_reused_clusters_are_not_recovered(ntfs: Path, found: dict[str, Told]) -> None:
    """What is likely is the file's, and all that is left of it anywhere in the files of the VM; nothing of it is proven."""
    for path, (depth, size) in PARTIAL.items():
        file, recovered, pieces = found[path]
        assert (file.link.depth, file.size, recovered.state) == (depth, size, "partial")
        data = content(path, size)
        offsets = set()
        for offset, piece in pieces.items():
            assert piece == data[offset : offset + len(piece)]
            offsets |= set(range(offset // 512 * 512, offset + len(piece), 512))
        assert offsets == file_states.surviving(ntfs.parent, path, size)
        assert recovered.likely == sum(len(data[offset : offset + 512]) for offset in offsets)
        assert 0 < recovered.likely < size
        assert (recovered.size, recovered.digest) == (0, None)


def test_running_link_alone(ntfs: Path, tmp_path: Path) -> None:
    """A copy of the newest state with no snapshot: what its MFT names is told all the same."""
    with open_chain(ntfs) as chain:
        raw = chain.read(0, chain.size)
    builder = ChainBuilder(tmp_path / "vm", len(raw) // 512, {0: raw})
    builder.add_delta()
    found = told(builder.write())
    assert {"tiny.txt", "note.txt"} & set(found)
    assert "keep.txt" not in found
    for path, (file, recovered, pieces) in found.items():
        assert recovered.state != "complete" or sum(map(len, pieces.values())) < 1000, "only what is in a record"
        for offset, piece in pieces.items():
            # What was trimmed is zeros in the copy. They are not the file's, or nothing tells that they are.
            expected = bytes(CHANGED) if path == "changed.bin" else content(path.rpartition("/")[2], file.size)
            assert piece == expected[offset : offset + len(piece)]
    assert found["over.bin"].recovered.state == "partial"


# Hostile


RUNS, SIZES, LENGTH = 0x40, 0x28, 0x04


def sizes(size: int) -> tuple[int, bytes]:
    return SIZES, struct.pack("<qqq", size, size, size)


def grown(*more: tuple[int, bytes]) -> tuple[tuple[int, bytes], ...]:
    """The attribute made so long that the bytes behind it belong to it."""
    return (LENGTH, struct.pack("<I", 0x98)), (0x98, b"\xff\xff\xff\xff"), *more


HOSTILE = {
    "runs that come back to one cluster": grown(
        (RUNS, b"\x21\x01\x00\x10" + b"\x11\x01\x00" * 25 + b"\x00"), sizes(26 * 1024)
    ),
    "runs that overlap": grown((RUNS, b"\x31\xff\x00\x10\x00" + b"\x21\xff\x01\x00" * 15 + b"\x00"), sizes(6_000_000)),
    "a run without end": grown((RUNS, b"\x18" + b"\xff" * 7 + b"\x7f" + b"\x10\x00"), sizes(7_000_000)),
    "a hole without end": grown((RUNS, b"\x08" + b"\xff" * 7 + b"\x7f" + b"\x00"), sizes(7_000_000)),
    "a run before the volume": grown((RUNS, b"\x11\x10\x80\x00"), sizes(16 * 1024)),
    "runs without end": grown((RUNS, b"\x11\x01\x01" * 29)),
    "a size beyond all": grown(sizes((1 << 63) - 1)),
    "a negative size": grown(sizes(-5)),
    "no length": ((LENGTH, bytes(4)),),
    "all ones": grown((RUNS - 0x30, b"\xff" * 0x80)),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_records(case: str, tmp_path: Path) -> None:
    """Bounded, never another file's bytes, and the other files are told as ever."""
    warnings: list[str] = []
    path = patched(tmp_path, "over.bin", *HOSTILE[case])
    found = told(path, warnings.append)
    assert {"session.bin", "Docs/report.bin", "tiny.txt"} <= set(found)
    hostile = found.get("over.bin")
    if hostile is None:
        assert warnings
        return
    assert hostile.recovered.size <= open_chain(path).size
    assert hostile.recovered.state in ("partial", "none") or case in ("a hole without end", "runs that overlap")
    assert hostile.recovered.state != "complete" or not b"".join(hostile.pieces.values()).strip(b"\x00")
    told_sectors = b"".join(hostile.pieces.values())
    for live in (b"keep.txt ", b"thief.bin ", b"renamed.txt "):
        assert live not in told_sectors


def test_attribute_list_without_end(tmp_path: Path) -> None:
    """Not resident, a hole of 2^60 bytes: dissect.ntfs would go through all of it."""
    attribute = struct.pack("<IIBBHHH", 0x20, 0x98, 1, 0, 0x40, 0, 0) + struct.pack(
        "<QQHBxxxxxqqq", 0, 0, 0x40, 0, *(1 << 60,) * 3
    )
    warnings: list[str] = []
    path = patched(tmp_path, "over.bin", *grown((0, attribute), (RUNS, b"\x08" + b"\xff" * 6 + b"\x0f" + b"\x00")))
    found = told(path, warnings.append)
    assert "over.bin" not in found
    assert any("cannot be read" in warning for warning in warnings)
    assert {"session.bin", "Docs/report.bin", "tiny.txt"} <= set(found)


def test_two_records_for_the_same_clusters(tmp_path: Path) -> None:
    """Both say that they changed at the same time: nothing tells whose the bytes are."""
    builder = file_states.build("ntfs", tmp_path / "vm")
    path = builder.write()
    place, _, segment = record_of(path, "over.bin")
    with open_chain(path) as chain:
        record = chain.read(place, 1024)
        spare = chain.read(place + 1024, 1024)  # the next one is overwritten by a copy
        grain, skip = divmod(place + 1024, GRAIN)
        data = bytearray(chain.read(grain * GRAIN, GRAIN))
    assert spare[:4] == b"FILE"
    copy = bytearray(record)
    name = "over.bin".encode("utf-16-le")
    copy[copy.index(name) : copy.index(name) + len(name)] = "twin.bin".encode("utf-16-le")
    data[skip : skip + 1024] = copy
    builder.links[-1].extent.allocate(grain, bytes(data))
    found = told(builder.write(), lambda message: None)
    assert {"over.bin", "twin.bin"} <= set(found), segment
    for name in ("over.bin", "twin.bin"):
        assert (found[name].recovered.size, found[name].recovered.state) == (0, "none")


def in_use(path: Path, number: int, data: bytes, skip: int = 0) -> None:
    """Put bytes into the first cluster of one of the volume's own files, in the base: all states have it from there."""
    from dissect.ntfs import NTFS
    from dissect.util.stream import RangeStream

    with open_chain(path) as chain:
        ntfs = NTFS(RangeStream(chain.open(), 1 << 20, chain.size - (1 << 20)))
        (start, _), *_ = ntfs.mft.get(number).dataruns()
        place = (1 << 20) + start * ntfs.cluster_size + skip
    with path.with_name("vm-flat.vmdk").open("r+b") as fh:
        fh.seek(place)
        fh.write(data)


def restart_page(client: int, flags: int) -> bytes:
    """A restart page of ``$LogFile``: its first client in use (0xffff: none), and its flags."""
    page = b"RSTR" + struct.pack("<HHQII", 0x1E, 9, 0, 4096, 4096) + struct.pack("<HHH", 0x30, 1, 1)
    return page.ljust(0x30, b"\0") + struct.pack("<QHHHH", 5, 1, 0xFFFF, client, flags)


@pytest.mark.parametrize(
    ("client", "flags", "proven"), [(0, 0, False), (0xFFFF, 0, True), (0, 2, True), (None, None, False)]
)
def test_states_of_a_running_guest(tmp_path: Path, client: int | None, flags: int | None, proven: bool) -> None:
    """What the log has may not be in MFT and bitmap yet: then a state proves none of its clusters."""
    path = file_states.build("ntfs", tmp_path / "vm").write()
    in_use(path, 2, b"what no driver wrote" if client is None else restart_page(client, flags or 0))
    found = told(path)
    report = found["Docs/report.bin"]
    assert report.recovered.state == ("complete" if proven else "likely")
    assert ("$LogFile" in report.recovered.basis) == (not proven)
    assert report.recovered.digest is not None
    assert report.recovered.digest[2] == hashlib.sha256(COMPLETE["Docs/report.bin"][2]).hexdigest()
    assert found["tiny.txt"].recovered.state == "complete", "it is in its record"
    assert found["Deep/inner/leaf.bin"].recovered.state == ("complete" if proven else "likely"), "by the state below"
