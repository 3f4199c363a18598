"""The snapshot list of a VM: read in whatever encoding and state it is, and never believed more than it says."""

from __future__ import annotations

import struct
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import make_vm
import pytest
import target_fixtures
from hypothesis import given
from hypothesis import strategies as st
from sesparse_builder import vmsd
from target_fixtures import NEWEST, small_chain
from work import at_most

from dissect_sesparse import open_chain
from dissect_sesparse.chain.summary import snapshot_of_link
from dissect_sesparse.vm.snapshots import (
    MAX_SIZE,
    Snapshot,
    decode_text,
    parse_vmsd,
    snapshots_of,
)

if TYPE_CHECKING:
    from pathlib import Path

example = target_fixtures.example_vm

UTC = timezone.utc
MOMENT = datetime(2024, 3, 11, 20, 0, 0, 512_318, tzinfo=UTC)


def entry(uid: int, created: datetime = MOMENT, disks: tuple[str, ...] = ("vm.vmdk",), **more: object) -> dict:
    return {"uid": uid, "display_name": f"snapshot {uid}", "created": created, "disks": disks, **more}


def test_example(example: Path) -> None:
    found = snapshots_of(example.parent)
    assert [(s.name, s.created) for s in found] == [(name, created) for name, _, created in make_vm.SNAPSHOTS]
    assert [s.uid for s in found] == ["1", "2"]
    assert [s.parent for s in found] == ["", "1"]
    assert [s.disks for s in found] == [("web01.vmdk",), ("web01-000001.vmdk",)]


def test_link_of_the_example(example: Path) -> None:
    """The running delta is no snapshot's; what lies below it is what the snapshots froze."""
    with open_chain(example.parent / NEWEST) as chain:
        found = [snapshot_of_link(link, snapshots_of(example.parent)) for link in chain.links]
    assert [snapshot.name if snapshot else None for snapshot in found] == [None, "after patch", "before patch"]


def test_bare_extent_has_no_snapshot(folder: Path) -> None:
    small_chain(folder).write()
    (folder / "vm-000001.vmdk").unlink()
    with open_chain(folder / "vm-000001-sesparse.vmdk", unreadable="zero") as chain:
        assert snapshot_of_link(chain.links[0], [Snapshot("1", "", "x", None, ("vm-000001-sesparse.vmdk",))]) is None


def test_no_list(folder: Path) -> None:
    assert snapshots_of(folder) == []
    assert snapshots_of(folder / "missing") == []


# Times


@given(st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1)))  # noqa: DTZ001
def test_signed_halves(moment: datetime) -> None:
    """Microseconds since 1970 in two halves, each written with the sign of 32 bits."""
    moment = moment.replace(tzinfo=UTC)
    (snapshot,) = parse_vmsd(vmsd([entry(1, moment)]))
    assert snapshot.created == moment


@given(st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1)))  # noqa: DTZ001
def test_unsigned_halves(moment: datetime) -> None:
    microseconds = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)  # noqa: DTZ001
    high, low = struct.unpack(">II", struct.pack(">Q", microseconds))
    text = f'snapshot0.uid = "1"\nsnapshot0.createTimeHigh = "{high}"\nsnapshot0.createTimeLow = "{low}"\n'
    assert parse_vmsd(text)[0].created == moment.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("high", "low"),
    [
        (None, "1"),
        ("398183", None),
        ("", ""),
        ("0", "0"),
        ("x", "1"),
        ("398183", "0x10"),
        ("1.5", "1"),
        ("-1", "-1"),
        ("99999999999999999999", "0"),
        ("398183", "4294967296"),
        ("9" * 5000, "1"),
    ],
)
def test_no_time_is_invented(high: str | None, low: str | None) -> None:
    text = 'snapshot0.uid = "1"\n'
    text += f'snapshot0.createTimeHigh = "{high}"\n' if high is not None else ""
    text += f'snapshot0.createTimeLow = "{low}"\n' if low is not None else ""
    assert parse_vmsd(text)[0].created is None


def test_oldest_first(folder: Path) -> None:
    """By their times: the order in the list, and that of uids, is the order of its keeping."""
    created = [MOMENT + timedelta(days=days) for days in (3, 1, 2)]
    snapshots = [entry(uid, moment) for uid, moment in zip((1, 2, 3), created)]
    (folder / "vm.vmsd").write_text(vmsd(snapshots))
    assert [s.uid for s in snapshots_of(folder)] == ["2", "3", "1"]


# What the list says


def test_names(folder: Path) -> None:
    """A quote, a bar or a line end in a name is written as a bar and two digits."""
    name = 'say "hi" | ä 日本\n#1'
    (folder / "vm.vmsd").write_bytes(vmsd([entry(1) | {"display_name": name}]).encode())
    assert snapshots_of(folder)[0].name == name


@pytest.mark.parametrize(
    "disk",
    ["vm.vmdk", "/vmfs/volumes/5f0c/vm/vm.vmdk", "..\\vm\\vm.vmdk", "C:\\VMs\\vm.vmdk", "sub/vm.vmdk"],
)
def test_disks_without_folders(folder: Path, disk: str) -> None:
    chain = small_chain(folder)
    (folder / "vm.vmsd").write_text(vmsd([entry(1, disks=("other.vmdk", disk))]))
    (snapshot,) = snapshots_of(folder)
    assert snapshot.disks == ("other.vmdk", "vm.vmdk")
    with open_chain(chain.write()) as opened:
        assert snapshot_of_link(opened.links[1], [snapshot]) == snapshot
        assert snapshot_of_link(opened.links[0], [snapshot]) is None


def test_duplicates(folder: Path) -> None:
    """The same uid twice, as consolidations leave it: once. The same key twice: the first."""
    text = vmsd([entry(1), entry(1, disks=("later.vmdk",)), entry(2)])
    text += 'snapshot0.displayName = "again"\nsnapshot00.displayName = "and again"\n'
    (folder / "vm.vmsd").write_text(text)
    assert [(s.uid, s.name, s.disks) for s in snapshots_of(folder)] == [
        ("1", "snapshot 1", ("vm.vmdk",)),
        ("2", "snapshot 2", ("vm.vmdk",)),
    ]


def test_two_machines_in_one_folder(folder: Path) -> None:
    """Both count their snapshots from 1. A copy of a list adds nothing."""
    for name in ("a", "b"):
        (folder / f"{name}.vmsd").write_text(vmsd([entry(1, disks=(f"{name}.vmdk",))]))
    (folder / "a.vmsd.bak").write_text(vmsd([entry(1, disks=("stale.vmdk",))]))
    assert [s.disks for s in snapshots_of(folder)] == [("a.vmdk",), ("b.vmdk",)]


def test_wrong_entries() -> None:
    text = """
snapshot.lastUID = "9"
snapshot.numSnapshots = "77"
snapshot0.displayName = "no uid"
snapshot1.uid = "5"
snapshot1.disk0.fileName = ""
snapshot1.disk1.fileName = "/"
snapshot1.disk2.fileName = ".."
snapshot1.diskX.fileName = "x.vmdk"
snapshot1.mru0.uid = "1"
snapshotX.uid = "6"
snapshot99999999.uid = "7"
  SNAPSHOT2.UID = 8
snapshot2.DisplayName="bare
"""
    found = parse_vmsd(text)
    assert [(s.uid, s.name) for s in found] == [("5", ""), ("8", "bare")]
    assert "x.vmdk" not in found[0].disks


def test_line_ends() -> None:
    text = vmsd([entry(1), entry(2)])
    assert parse_vmsd(text.replace("\n", "\r\n")) == parse_vmsd(text)


def test_not_a_list(folder: Path) -> None:
    (folder / "vm.vmsd").mkdir()
    (folder / "b.vmsd").write_bytes(bytes(range(256)) * 10)
    (folder / "c.vmsd").write_bytes(b"")
    assert snapshots_of(folder) == []


# Encodings


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-8", "UTF-8"),
        ("utf-8", None),
        ("utf-8-sig", "UTF-8"),
        ("utf-8", "windows-1252"),  # copied by a tool that converts, and leaves the line
        ("windows-1252", "windows-1252"),
        ("gbk", "GBK"),
        ("shift_jis", "Shift_JIS"),
        ("latin-1", None),
        ("latin-1", "no-such-encoding"),
        ("latin-1", "hex"),
    ],
)
def test_encoding(folder: Path, encoding: str, told: str | None) -> None:
    name = {"gbk": "补丁之前", "shift_jis": "パッチ前"}.get(encoding, "vor Prüfung")
    text = vmsd([entry(1) | {"display_name": name}])
    text = text.replace('.encoding = "UTF-8"\n', f'.encoding = "{told}"\n' if told else "")
    (folder / "vm.vmsd").write_bytes(text.encode(encoding))
    (snapshot,) = snapshots_of(folder)
    assert snapshot.name == name
    assert snapshot.created == MOMENT


def test_byte_order_mark(folder: Path) -> None:
    """It is no part of the first line."""
    (folder / "vm.vmsd").write_bytes('snapshot0.uid = "1"\n'.encode("utf-8-sig"))
    assert [snapshot.uid for snapshot in snapshots_of(folder)] == ["1"]


def test_decode_text_never_fails() -> None:
    for data in (b"", b"\xff\xfe", b"\x00" * 10, b'.encoding = "undefined"\n\xff', b'.encoding = "idna"\n\xff'):
        assert isinstance(decode_text(data), str)


# Hostile


@given(st.text(alphabet='snapshot0123.uid="diskFlename \n\t|2-', max_size=300))
def test_any_text(text: str) -> None:
    for snapshot in parse_vmsd(text):
        assert snapshot.uid


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    parse_vmsd(decode_text(data))


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        " " * MAX_SIZE,
        "\n" * MAX_SIZE,
        "snapshot0." + "a" * MAX_SIZE,
        "snapshot0.uid" + " " * MAX_SIZE,
        'snapshot0.uid="' * (MAX_SIZE // 15),
        "snapshot1" * (MAX_SIZE // 9),
        "snapshot0.x.=\n" * (MAX_SIZE // 14),
        "".join(f"snapshot{i}.uid={i}\n" for i in range(50_000)),
        "".join(f"snapshot0.disk{i}.filename=/a/b\n" for i in range(35_000)) + "snapshot0.uid=1",
        '.encoding = "punycode"\n' + "\xff-" + "z9" * (MAX_SIZE // 2),
        "snapshot0.uid=" + "|" * MAX_SIZE,
    ],
    ids=range(11),
)
def test_bounded_time(text: str) -> None:
    with at_most(15_000_000):
        parse_vmsd(decode_text(text.encode("latin-1")))


def test_too_large_list_is_not_read(folder: Path) -> None:
    with (folder / "vm.vmsd").open("wb") as fh:
        fh.write(vmsd([entry(1)]).encode())
        fh.truncate(MAX_SIZE + 1)
    assert snapshots_of(folder) == []
