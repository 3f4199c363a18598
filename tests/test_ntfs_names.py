"""Names that only change journal, folders and recycle bin of an NTFS have: a volume that ntfs-3g changed, see ``make_names``."""

from __future__ import annotations

import random
import struct
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, NamedTuple

import file_states
import pytest
from dissect.ntfs.usnjrnl import UsnJrnl
from dissect.target import Target
from file_states import content
from hypothesis import given
from hypothesis import strategies as st
from make_names import BIN, BINNED, HOLE, LATE, PLANS, PROJECT, filetime, information
from sesparse_builder import GRAIN

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.files.changed_files import changed_files
from dissect_sesparse.files.changed_ranges import ChangedRanges
from dissect_sesparse.files.deleted import measure
from dissect_sesparse.files.deletion import deletion_at
from dissect_sesparse.files.file_systems import deleted_files
from dissect_sesparse.files.not_looked import NotAllLookedAtError
from dissect_sesparse.files.story import Deletion
from dissect_sesparse.files.volumes import open_volumes
from dissect_sesparse.ntfs import journals
from dissect_sesparse.ntfs.change_journal import PAGE, records_in, stored_ranges
from dissect_sesparse.ntfs.index_names import names_in, unused_part
from dissect_sesparse.ntfs.recycle_bin import content_place, information_key, recycled
from dissect_sesparse.time.changes import DiskState, changes
from dissect_sesparse.time.time_window import TimeWindow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dissect.ntfs import NTFS

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.files.deleted import DeletedFile, Recovered

TICK = timedelta(milliseconds=16)
"""By which a stamp may be behind the clock that it is from."""
NAMED_ALONE = {"Stage/harmless.dat", "Docs/logged.txt"}
WITH_BYTES = {
    "photo.jpg:Zone.Identifier": content("photo.jpg:Zone.Identifier", 100),
    "photo.jpg:large": content("photo.jpg:large", 9000),
    f"{BIN}/$RABC123.txt": content("plan.txt", 900),
    f"{BIN}/$IABC123.txt": information(2, 900, BINNED, PLANS),
    f"{BIN}/$RDIR001/leaf.txt": content("leaf.txt", 5000),
}


class Found(NamedTuple):
    file: DeletedFile
    recovered: Recovered
    data: bytes


def moment(text: str, seconds: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc) + timedelta(seconds=seconds)


def listed(chain: Chain, warn: Callable[[str], None] = pytest.fail) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for file in deleted_files(chain, warn):
        data = bytearray()
        recovered = measure(file, lambda piece, data=data: data.extend(piece.data))
        assert file.path not in found, "a file is listed once"
        found[file.path] = Found(file, recovered, bytes(data))
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The newest descriptor. Never changed."""
    return file_states.build("names", tmp_path_factory.mktemp("names")).write()


@pytest.fixture(scope="module")
def found(path: Path) -> dict[str, Found]:
    with open_chain(path) as chain:
        return listed(chain)


def late(found: dict[str, Found]) -> set[str]:
    return {path.removeprefix("many/") for path in found if path.startswith("many/")}


def test_all_and_nothing_that_is_live(found: dict[str, Found]) -> None:
    """Neither what was renamed, nor a hard link that was removed, nor what is in the recycle bin yet, nor a folder."""
    assert set(found) == {*NAMED_ALONE, *WITH_BYTES, *(f"many/{name}" for name in late(found))}
    assert late(found) <= set(LATE[:-1])
    assert len(late(found)) > 20


@pytest.mark.parametrize("name", WITH_BYTES)
def test_bytes_are_proven_as_ever(found: dict[str, Found], name: str) -> None:
    file, recovered, data = found[name]
    assert (recovered.state, data) == ("complete", WITH_BYTES[name])
    assert file.naming.state in ("proven", "likely")


def test_what_only_the_journal_names(found: dict[str, Found]) -> None:
    """Its MFT record is another file's, and the journal of the running guest begins behind it: an older state has it."""
    file, recovered, data = found["Stage/harmless.dat"]
    assert (recovered.state, recovered.digest, data) == ("none", None, b"")
    assert (file.naming.by, file.naming.state, file.naming.also) == ("usnjrnl", "likely", ())
    assert (file.link.depth, file.size, file.mtime, file.btime) == (1, 0, None, None)
    assert [(event.what, event.path, event.old_path, event.at) for event in file.story] == [
        ("made", "exfil.zip", None, moment("2024-02-01 10:00:00")),
        ("changed", "Stage/harmless.dat", None, moment("2024-02-01 10:00:02")),
        ("renamed", "Stage/harmless.dat", "exfil.zip", moment("2024-02-01 10:30:01")),
        ("deleted", "Stage/harmless.dat", None, moment("2024-02-01 11:00:00")),
    ]
    assert file.deletion.logged == moment("2024-02-01 11:00:00")
    assert file.deletion.window == TimeWindow(moment("2024-02-01 10:30:02"), file.deletion.logged + TICK)
    assert "the change journal has its deletion at 2024-02-01T11:00:00+00:00" in file.deletion.basis


def test_what_only_a_folder_names(found: dict[str, Found]) -> None:
    for name in late(found):
        file, recovered, _ = found[f"many/{name}"]
        assert (file.naming.by, recovered.state, file.size, file.story) == ("index", "none", 10, ())
        assert file.btime is not None
        assert 0 <= (file.btime - moment("2024-02-01 11:20:00")).total_seconds() < 60
        assert (file.link.depth, file.deletion.logged) == (1, None)
        assert "after the state of vm.vmdk and before the state of vm-000001.vmdk" in file.deletion.basis


def test_recycle_bin(found: dict[str, Found]) -> None:
    """The ``$I`` of one is deleted, that of the folder of the other is not."""
    file = found[f"{BIN}/$RABC123.txt"].file
    assert (file.original_path, file.naming.also) == (PLANS, ("usnjrnl", "index"))
    assert file.deletion.logged == moment("2024-03-01 10:00:00")
    assert "went to the recycle bin at 2024-02-01T13:00:00+00:00" in file.deletion.basis
    leaf = found[f"{BIN}/$RDIR001/leaf.txt"].file
    assert leaf.original_path == f"{PROJECT}\\leaf.txt"
    first = leaf.story[0]
    assert (first.what, first.old_path, first.at) == ("renamed", leaf.original_path, moment(BINNED))
    assert [file.original_path for file, *_ in found.values()].count(None) == len(found) - 2


@pytest.mark.slow
def test_records_have_it(path: Path) -> None:
    records = {str(record.path).rpartition("/")[2]: record for record in Target.open(path).sesparse.files()}
    record = records["harmless.dat"]
    assert (record.named_by, record.state, record.deleted) == ("usnjrnl", "none", moment("2024-02-01 11:00:00"))
    assert (record.after, record.before) == (moment("2024-02-01 10:30:02"), record.deleted + TICK)
    assert "plan.txt" in str(records["$RABC123.txt"].original_path)


def test_removed_hard_link_is_not_gone(path: Path) -> None:
    with open_chain(path) as chain:
        older, newer = DiskState(chain, 2), DiskState(chain, 1)
        ranges = ChangedRanges()
        for change in changes(older, newer):
            ranges.add(change)
        files = {file.path: file.state for file in changed_files(older, newer, ranges, pytest.fail)}
    assert "linked-b.bin" not in files
    assert files["renamed.txt"] == "new"
    assert not {name for name in files if name.startswith("$") and not name.startswith(BIN)}


# The journal


def ntfs_of(chain: Chain, depth: int) -> NTFS:
    (state,) = open_volumes(chain, depth).states
    return state.fs.ntfs  # type: ignore[attr-defined]


@pytest.mark.parametrize("depth", [0, 1])
def test_journal_is_what_dissect_has(path: Path, depth: int) -> None:
    with open_chain(path) as chain:
        stream = ntfs_of(chain, depth).usnjrnl.fh
        pages = [at for low, end in stored_ranges(stream) for at in range(low, end, PAGE)]
        found = []
        for at in pages:
            stream.seek(at)
            found += records_in(stream.read(PAGE), at)
        expected = list(UsnJrnl(stream).records())
    assert len(pages) == len(set(pages))
    assert min(pages) == (1 if depth else 2) * HOLE
    assert [(one.usn, one.name, one.reason, one.at, one.attributes) for one in found] == [
        (one.Usn, one.filename, int(one.Reason), one.TimeStamp, int(one.FileAttributes)) for one in expected
    ]
    references = [one.FileReferenceNumber for one in expected]
    assert [one.reference for one in found] == [
        each.SegmentNumberLowPart | each.SegmentNumberHighPart << 32 | each.SequenceNumber << 48 for each in references
    ]
    assert found


def test_no_record_is_read_twice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a chain with a snapshot more, in which nothing was written, and of one journal that ends within a page."""
    read = []
    monkeypatch.setattr(journals, "records_in", lambda page, start: read.append(start) or records_in(page, start))
    with open_chain(path) as chain:
        listed(chain)
        once = list(read)
    builder = file_states.build("names", path.parent.parent / "more")
    builder.add_delta()
    read.clear()
    with open_chain(builder.write()) as chain:
        names = set(listed(chain))
    assert names >= NAMED_ALONE
    assert read == once
    assert len(once) == len(set(once))


def test_third_version_and_what_is_no_record() -> None:
    name = "ä.txt".encode("utf-16-le")

    def record(usn: int, major: int = 2, **change: int) -> bytes:
        size = {2: 60, 3: 76}[major]
        length = change.get("length", -(-(size + len(name)) // 8) * 8)
        numbers = struct.pack("<QQ" if major == 2 else "<QQQQ", *((5, 6) if major == 2 else (5, 0, 6, 0)))
        tail = struct.pack(
            "<qqIIIIHH", usn, 1, 0x100, 0, 0, 0x20, change.get("size", len(name)), change.get("place", size)
        )
        return (struct.pack("<IHH", length, major, 0) + numbers + tail + name).ljust(
            -(-(size + len(name)) // 8) * 8, b"\0"
        )

    third = record(4096, 3)
    page = third + record(4096 + len(third)) + record(77) + bytes(8)
    found = list(records_in(page, 4096))
    assert [(one.reference, one.parent, one.name) for one in found] == [(5, 6, "ä.txt")] * 2, (
        "the last has another number"
    )
    for odd in (
        {"length": 0},
        {"length": 8},
        {"length": 61},
        {"length": 1 << 31},
        {"size": 65535},
        {"place": 2},
        {"size": 3},
    ):
        assert list(records_in(record(0, **odd), 0)) == []


NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("logged", "alive", "expected"),
    [
        (2, 1, (1, 2)),
        (2, None, (0, 2)),
        (2, 3, (0, 2)),  # its clock was turned back
        (5, 4, (0, 4)),  # not between the snapshots
        (-1, None, (0, 4)),
    ],
)
def test_window_is_narrowed_unless_clocks_contradict(logged: int, alive: int | None, expected: tuple[int, int]) -> None:
    hours = {number: NOON + timedelta(hours=number) for number in range(-1, 6)} | {None: None}
    deletion = deletion_at(
        Deletion(TimeWindow(hours[0], hours[4]), None, "x"), hours[logged], hours[alive], "the journal"
    )
    before = hours[expected[1]] + (TICK if expected[1] == logged else timedelta())
    assert deletion.window == TimeWindow(hours[expected[0]], before)
    assert deletion.logged == hours[logged]
    assert ("clock was another" in deletion.basis) == (expected == (0, 4))


# The recycle bin


@pytest.mark.parametrize("version", [1, 2])
def test_information(version: int) -> None:
    found = recycled(information(version, 5, BINNED, PLANS))
    assert found is not None
    assert (found.path, found.at) == (PLANS, moment(BINNED))
    assert recycled(information(version, 5, BINNED, PLANS)[:26]) is None
    assert recycled(information(3, 5, BINNED, PLANS)) is None
    assert filetime(BINNED) == 133512660000000000


def test_places_in_the_recycle_bin() -> None:
    place = content_place(f"{BIN}/$Rabc.txt/a/b.txt:stream")
    assert place is not None
    assert (place.inner, place.key) == ("/a/b.txt:stream", information_key(f"{BIN}/$IABC.txt"))
    assert content_place(f"{BIN}/$RABC.txt") == content_place(f"{BIN}/$RABC.txt")
    for other in (f"x/{BIN}/$RABC.txt", f"{BIN}/desktop.ini", f"{BIN}/$R", "$Recycle.Bin/$RABC.txt"):
        assert content_place(other) is None
        assert information_key(other.replace("$R", "$I")) is None or other.endswith("$R")


# Hostile


@given(
    st.binary(max_size=300) | st.binary(max_size=200).map(lambda data: b"INDX" + data.ljust(1020, b"\x01")),
    st.integers(0, 3),
)
def test_any_bytes_are_parsed(data: bytes, parent: int) -> None:
    list(records_in(data, 0))
    list(names_in(data, parent))
    recycled(data)
    for in_use in (True, False):
        unused, start = unused_part(data, in_use=in_use)
        assert start <= len(unused) or not unused


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_damaged_volumes_end_and_list_no_live_file(path: Path, tmp_path: Path, seed: int) -> None:
    """Some bytes of the running state's metadata are anything: whatever is listed yet is none of what is there."""
    numbers = random.Random(seed)
    builder = file_states.build("names", tmp_path)
    extent = builder.links[-1].extent
    with open_chain(path) as chain:
        for number in numbers.sample(range(256, chain.size // GRAIN), chain.size // GRAIN - 256):
            data = bytearray(chain.read(number * GRAIN, GRAIN))
            if data[:4] not in (b"INDX", b"FILE") and b"R\0A\0B\0C\0" not in data:
                continue
            for _ in range(numbers.choice((0, 1, 4))):
                data[numbers.randrange(64, GRAIN)] = numbers.randrange(256)
            extent.allocate(number, bytes(data))
    warnings: list[str] = []
    names = set()
    with open_chain(builder.write()) as chain:
        try:
            for file in deleted_files(chain, warnings.append):
                measure(file)
                names.add(file.path)
        except NotAllLookedAtError:
            assert warnings
    assert not names & {"keep.txt", "renamed.txt", "linked-a.bin", f"{BIN}/$RLIVE01.txt"}
