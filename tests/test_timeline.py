"""``dissect-sesparse timeline`` and ``sesparse.timeline``: what happened, in order, and no time that nothing tells."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import make_vm
import pytest
import target_fixtures
from dissect.target import Target
from flow.record import RecordReader
from sesparse_builder import vmsd
from target_fixtures import NEWEST, cid_mismatch, small_chain, tool

from dissect_sesparse import cli, open_chain
from dissect_sesparse.files.story import Deletion, Event
from dissect_sesparse.time.time_window import TimeWindow
from dissect_sesparse.timeline import disk_events, file_events, order
from dissect_sesparse.timeline.disk_events import time_in
from dissect_sesparse.timeline.event import KINDS, Moment, TimelineEvent, may_be_between, moments
from dissect_sesparse.timeline.formats import COLUMNS, FORMATS, Written
from dissect_sesparse.timeline.order import InOrder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flow.record import Record

example = target_fixtures.example_vm

UTC = timezone.utc
TAKEN = [taken for _, _, taken in make_vm.SNAPSHOTS]
BEFORE_PATCH, AFTER_PATCH = TAKEN
LOG_LINE = b"2024-03-14T21:30:00.5Z info hostd[1] [opID=esxui-1 user=CORP\\eve] Begin =HYPERLINK"


@pytest.fixture(scope="module")
def records(example: Path) -> list[Record]:
    return list(Target.open(example).sesparse.timeline())


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["timeline", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def write_list(path: Path, *snapshots: tuple[str, datetime, str]) -> None:
    """A snapshot list: name, time and disk of each."""
    entries = [
        {"uid": number, "display_name": name, "created": taken, "disks": [disk]}
        for number, (name, taken, disk) in enumerate(snapshots, 1)
    ]
    path.write_text(vmsd(entries), encoding="utf-8")


def of(records: list[Record], kind: str, path: str | None = None) -> list[Record]:
    return [r for r in records if r.kind == kind and (path is None or str(r.path) == path)]


# What is in it


def test_in_order(records: list[Record]) -> None:
    times = [record.ts for record in records if record.ts is not None]
    assert times == sorted(times)
    assert [record.ts is None for record in records] == sorted(record.ts is None for record in records)
    assert {record.kind for record in records} <= set(KINDS)


def test_snapshots_and_links(records: list[Record]) -> None:
    assert [(r.ts, r.link, r.timestamp_desc) for r in of(records, "snapshot-taken")] == [
        (BEFORE_PATCH, "web01.vmdk", "snapshot taken"),
        (AFTER_PATCH, "web01-000001.vmdk", "snapshot taken"),
    ]
    assert all(str(r.source).endswith("web01.vmsd") for r in of(records, "snapshot-taken"))
    assert sorted((r.link, r.ts, r.timestamp_desc) for r in of(records, "link-begun")) == [
        ("web01-000001.vmdk", BEFORE_PATCH, "link begun, not before"),
        ("web01-000001.vmdk", AFTER_PATCH, "link begun, not after"),
        ("web01-000002.vmdk", AFTER_PATCH, "link begun, not before"),
        ("web01.vmdk", BEFORE_PATCH, "link begun, not after"),
    ]


def test_trims_are_one_event_a_link(example: Path, records: list[Record]) -> None:
    """As many bytes as ``sesparse.chain`` says that it trimmed."""
    unmapped = {link.link: link.unmapped for link in Target.open(example).sesparse.chain() if link.unmapped}
    found = of(records, "trimmed")
    assert {record.link: record.size for record in found} == unmapped
    assert len(found) == 3, "one link has both ends, the running one has none but its beginning"
    assert all(
        record.message.startswith(f"The guest trimmed {int(unmapped[record.link])} bytes in ") for record in found
    )


def test_files(records: list[Record]) -> None:
    """Each deletion once, in the window of its link; what was made and changed; nothing that is gone beside it."""
    for path in make_vm.DELETED:
        window = (BEFORE_PATCH, AFTER_PATCH) if path.startswith("Windows/Temp") else (AFTER_PATCH, None)
        found = of(records, "file-deleted", f"/{path}")
        assert [record.ts for record in found] == [time for time in window if time is not None]
        assert {(record.after, record.before) for record in found} == {window}
        assert [record.ts for record in of(records, "file-made", f"/{path}") if record.after is None], "born"
    assert of(records, "file-gone") == []
    made = of(records, "file-made", "/Users/admin/Documents/notes.txt")
    assert [(r.ts, r.timestamp_desc) for r in made] == [
        (BEFORE_PATCH, "file made, not before"),
        (AFTER_PATCH, "file made, not after"),
    ]
    (changed,) = of(records, "file-changed", "/Users/admin/Documents/notes.txt")
    assert changed.timestamp_desc == "file changed"
    assert BEFORE_PATCH < changed.ts < AFTER_PATCH
    assert "by the guest's clock" in changed.basis


def test_no_time_is_invented(example: Path, records: list[Record]) -> None:
    """Each time is one that the snapshot list or a file of the guest has; what says *not* is an end of the window beside it."""
    target = Target.open(example)
    known = {*TAKEN}
    for file in target.sesparse.files():
        known |= {file.mtime, file.btime}
    for file in target.sesparse.changes(files=True):
        known.add(getattr(file, "mtime", None))
    for record in records:
        assert record.ts in known
        if ", not before" in record.timestamp_desc:
            assert record.ts == record.after
        if ", not after" in record.timestamp_desc:
            assert record.ts == record.before
        if "by the snapshots" in record.basis:
            assert ", not " in record.timestamp_desc


def test_without_files(example: Path) -> None:
    found = list(Target.open(example).sesparse.timeline(no_files=True))
    assert {record.kind for record in found} == {"snapshot-taken", "link-begun", "cid", "trimmed"}


def test_content_ids(folder: Path) -> None:
    """The parent was changed after the snapshot: not before it was taken, and nothing says until when."""
    path = cid_mismatch(folder)
    taken = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    write_list(folder / "vm.vmsd", ("snap", taken, "vm.vmdk"))
    found = list(Target.open(path).sesparse.timeline(no_files=True))
    (mismatch,) = of(found, "cid-mismatch")
    assert (mismatch.link, mismatch.ts, mismatch.timestamp_desc) == ("vm.vmdk", taken, "parent changed, not before")
    assert "deadbeef" in mismatch.message
    (base,) = (record for record in of(found, "cid") if record.link == "vm.vmdk")
    assert (base.ts, base.timestamp_desc) == (None, "content ID given, time not known")
    assert "as vm-000001.vmdk expects" not in base.message


def test_journal_has_no_time_of_its_own(folder: Path) -> None:
    """Its timer counts from nowhere: the numbers are said, the times are those of the snapshots, here none."""
    found = list(Target.open(target_fixtures.journal_replayed(folder)).sesparse.timeline(no_files=True))
    (journal,) = of(found, "journal")
    assert (journal.ts, journal.after, journal.before) == (None, None, None)
    assert "applied" in journal.message
    assert "transactions " in journal.message


def test_lines_of_the_host(folder: Path) -> None:
    """Each at the time that it says itself; one without a zone has none, and is last."""
    chain = small_chain(folder)
    chain.links[-1].extent.patch(0x600, LOG_LINE + b"\n2024-03-14T09:00:00 no zone, user=root\0")
    found = list(Target.open(chain.write()).sesparse.timeline(no_files=True))
    first, second = of(found, "host-log")
    assert first.ts == datetime(2024, 3, 14, 21, 30, 0, 500_000, tzinfo=UTC)
    assert first.message == LOG_LINE.decode()
    assert (first.source_offset, first.size) == (0x600, len(LOG_LINE))
    assert second.ts is None
    assert found[-1].ts is None


def test_real_line_of_a_host(real_path: Path) -> None:
    target = Target.open(f"sesparse://{real_path}?unreadable=zero")
    (line,) = of(list(target.sesparse.timeline(no_files=True)), "host-log")
    assert line.ts == datetime(2021, 8, 27, 12, 16, 13, 215_000, tzinfo=UTC)
    assert line.source_offset == 0x660
    assert "user=root" in line.message


def test_many_lines_of_the_host(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_events, "MAX_TEXTS", 3)
    chain = small_chain(folder)
    chain.links[-1].extent.patch(0x100000 + 90 * 512, b"\n".join(LOG_LINE for _ in range(5)))
    warned: list[str] = []
    with open_chain(chain.write()) as opened:
        assert len(list(disk_events.host_events(opened, warned.append))) == 3
    assert "more than 3 texts" in warned[0]


@pytest.mark.parametrize(
    ("line", "time"),
    [
        ("2021-08-27T12:16:13.215Z info", datetime(2021, 8, 27, 12, 16, 13, 215_000, tzinfo=UTC)),
        ("<166>Aug 27 2021-08-27T14:16:13+02:00 x", datetime(2021, 8, 27, 12, 16, 13, tzinfo=UTC)),
        ("2021-02-30T00:00:00Z 2021-08-27T12:16:13,123456789Z", datetime(2021, 8, 27, 12, 16, 13, 123_456, tzinfo=UTC)),
        ("2021-08-27T12:16:13 no zone", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("2021-08-27T12:16:13+99:99", None),
        ("12021-08-27T12:16:13Z", None),
        ("Aug 27 12:16:13", None),
    ],
)
def test_times_in_lines(line: str, time: datetime | None) -> None:
    assert time_in(line) == time


def test_snapshot_of_another_branch(example: Path, tmp_path: Path) -> None:
    """It froze no link of the chain: it was taken all the same, once, whatever number of disks there are."""
    folder = tmp_path / "vm"
    shutil.copytree(example.parent, folder)
    other = datetime(2024, 3, 12, tzinfo=UTC)
    frozen = [("a", BEFORE_PATCH, "web01.vmdk"), ("b", AFTER_PATCH, "web01-000001.vmdk")]
    write_list(folder / "web01.vmsd", *frozen, ("left", other, "web01-000009.vmdk"))
    found = of(list(Target.open(folder / "web01.vmx").sesparse.timeline(no_files=True)), "snapshot-taken")
    assert [record.ts for record in found] == [BEFORE_PATCH, other, AFTER_PATCH]
    assert "'left'" in found[1].message
    assert "no link of this chain" in found[1].message


def test_snapshots_that_contradict_one_another(example: Path, tmp_path: Path) -> None:
    """The newer one says that it is older: its links' windows tell nothing, and that is said."""
    folder = tmp_path / "vm"
    shutil.copytree(example.parent, folder)
    write_list(folder / "web01.vmsd", ("a", AFTER_PATCH, "web01.vmdk"), ("b", BEFORE_PATCH, "web01-000001.vmdk"))
    found = list(Target.open(folder / "web01.vmx").sesparse.timeline())
    between = [record for record in found if record.link == "web01-000001.vmdk" and record.kind == "file-deleted"]
    assert between
    assert {record.ts for record in between} == {None}
    assert all("contradict" in record.basis for record in between)


# What the guest logged


def test_story_of_a_file(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was logged of it is told at its time, once, also where the deletion is part of it."""
    at = [AFTER_PATCH + timedelta(hours=hours) for hours in range(3)]
    window = TimeWindow(AFTER_PATCH, None)
    story = (
        Event("made", "tmp/a.txt", at[0], window, "USN 1"),
        Event("renamed", "Users/b.txt", at[1], window, "USN 2", "tmp/a.txt"),
        Event("deleted", "Users/b.txt", at[2], window, "USN 3"),
        Event("changed", "Users/b.txt", None, TimeWindow(), "USN 4"),
    )

    real = file_events.deleted_files

    def logged(chain: Any, warn: Any) -> Iterator[Any]:
        file = next(file for file in real(chain, warn) if file.path.endswith("keylog.txt"))
        deletion = Deletion(window, at[2], "USN 3")
        yield _replaced(file, path="Users/b.txt", btime=at[0], mtime=None, story=story, deletion=deletion)
        yield _replaced(file, path="old.txt", btime=None, mtime=None, deletion=Deletion(window, BEFORE_PATCH, "USN 9"))

    monkeypatch.setattr(file_events, "deleted_files", logged)
    found = [record for record in Target.open(example).sesparse.timeline() if "USN" in record.basis]
    assert [(r.kind, r.ts, str(r.path)) for r in found] == [
        ("file-deleted", BEFORE_PATCH, "/old.txt"),
        ("file-made", at[0], "/tmp/a.txt"),
        ("file-renamed", at[1], "/Users/b.txt"),
        ("file-deleted", at[2], "/Users/b.txt"),
        ("file-changed", None, "/Users/b.txt"),
    ]
    assert str(found[2].old_path) == "/tmp/a.txt"
    assert "one of the clocks was wrong" in found[0].basis, (
        "the guest's clock says that it was before the snapshot below"
    )


def _replaced(file: Any, **fields: object) -> Any:
    from dataclasses import replace

    return replace(file, **fields)


def test_a_name_that_is_gone(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing proves that a file was deleted, it is gone, and nothing more is concluded."""
    monkeypatch.setattr(file_events, "deleted_files", lambda chain, warn: iter(()))
    found = list(Target.open(example).sesparse.timeline())
    assert of(found, "file-deleted") == []
    assert {str(record.path) for record in of(found, "file-gone")} == {
        "/Users/admin/Documents/customers.csv",
        "/Users/admin/Documents/exfil.zip",
    }


# The order


def moment(ts: datetime | None, kind: str = "cid", message: str = "x", **fields: Any) -> Moment:
    values = dict.fromkeys(Moment._fields) | {
        "machine": "m.vmx", "disk": "d.vmdk", "link": "l.vmdk", "depth": 0, "ts": ts, "kind": kind, "message": message,
        "timestamp_desc": KINDS[kind], "basis": "b",
    }  # fmt: skip
    return Moment(**(values | fields))


@pytest.mark.slow
def test_order_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """By time, kind and then as they were put; what has no time last: whatever the size of a batch, and of files at once."""
    chance = random.Random(1)
    put = [
        moment(
            chance.choice([None, BEFORE_PATCH + timedelta(microseconds=chance.randrange(5))]),
            chance.choice(list(KINDS)),
            str(number),
            after=chance.choice([None, AFTER_PATCH]),
        )
        for number in range(500)
    ]
    kinds = list(KINDS)
    expected = sorted(put, key=lambda m: (m.ts is None, m.ts or BEFORE_PATCH, kinds.index(m.kind)))
    monkeypatch.setattr(order, "BATCH", 7)
    monkeypatch.setattr(order, "MAX_RUNS", 3)
    with InOrder() as ordered:
        ordered.put(put)
        assert len(ordered._runs) <= 3
        assert list(ordered) == expected
        assert list(ordered) == expected, "also a second time"
    monkeypatch.setattr(order, "BATCH_SIZE", 5000)
    with InOrder() as ordered:
        ordered.put(moment(None, message="x" * 4000) for _ in range(10))
        assert len(ordered._batch) < 2, "long texts do not wait for a whole batch"


def test_order_is_bounded() -> None:
    with InOrder(limit=3) as ordered:
        ordered.put(moment(None) for _ in range(10))
        assert (len(list(ordered)), ordered.left_out) == (3, 7)


@pytest.mark.parametrize(
    ("at", "window", "inside"),
    [
        (BEFORE_PATCH, TimeWindow(), False),
        (AFTER_PATCH, TimeWindow(), True),
        (None, TimeWindow(BEFORE_PATCH, AFTER_PATCH), True),
        (None, TimeWindow(None, BEFORE_PATCH), False),
        (None, TimeWindow(BEFORE_PATCH, None), True),
        (None, TimeWindow(AFTER_PATCH + timedelta(days=9), None), False),
        (None, TimeWindow(), True),
        (None, TimeWindow(AFTER_PATCH, BEFORE_PATCH), True),
    ],
)
def test_what_may_have_happened_then(at: datetime | None, window: TimeWindow, inside: bool) -> None:
    event = TimelineEvent("cid", None, "", "", at, window)  # type: ignore[arg-type]  # its link is of no matter
    assert may_be_between(event, AFTER_PATCH - timedelta(hours=1), AFTER_PATCH + timedelta(days=1)) is inside


def test_messages_are_one_short_line(example: Path) -> None:
    with open_chain(example.parent / NEWEST) as chain:
        event = TimelineEvent("cid", chain.links[0], "a\n\x1b[2J" + "b" * 9000, "\u202ec")
        (found,) = moments(event, "m", None, "d")
    assert found.message.isprintable()
    assert len(found.message) < 2100
    assert "characters more" in found.message
    assert found.basis == "\\u202ec"


# The formats

HOSTILE = "a|b%41%7cc\n\x1b]0;x\x07 \u202e=1+1"


def test_mactime_reads_it(tmp_path: Path, example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each moment is a line at its second; names come out as they are, but for what a terminal obeys."""
    if shutil.which("mactime") is None:
        pytest.skip("mactime is not installed")
    body = tmp_path / "body"
    assert command(capsys, example, "--format", "bodyfile", "-o", body)[0] == 0
    records = list(Target.open(example).sesparse.timeline())
    rows = mactime(body)
    dated = [row for row in rows if not row[0].startswith("0000")]
    assert len(dated) == len(records)
    assert sorted(row[0] for row in dated) == sorted(r.ts.strftime("%Y-%m-%dT%H:%M:%SZ") for r in records)
    deleted = [row for row in dated if row[7] == "/Users/admin/AppData/keylog.txt (file deleted, not before)"]
    assert [(row[0], row[1], row[2]) for row in deleted] == [("2024-03-14T21:30:00Z", "17694", "..c.")]
    lines = FORMATS["bodyfile"]([moment(AFTER_PATCH, "file-made", path=f"/{HOSTILE}", inode=5)], Written())
    body.write_text("\n".join(lines), encoding="utf-8")
    (row,) = (row for row in mactime(body) if not row[0].startswith("0000"))
    assert row[7] == r"/a|b%41%7cc\n\x1b]0;x\x07 \u202e=1+1 (file made)"
    assert row[6] == "5"


def mactime(body: Path) -> list[list[str]]:
    done = subprocess.run(["mactime", "-b", body, "-d", "-y", "-z", "UTC"], capture_output=True, check=True)
    return list(csv.reader(io.StringIO(done.stdout.decode())))[1:]


def test_body_lines_have_all_fields() -> None:
    """As Plaso wants them: eleven, numbers where it reads numbers; what has no time of its own there is counted."""
    counts = Written()
    old = datetime(1969, 1, 1, tzinfo=UTC)
    given = [moment(AFTER_PATCH, kind, path=path, size=-1) for kind in KINDS for path in (None, "/x")]
    lines = list(FORMATS["bodyfile"]([*given, moment(None), moment(old)], counts, machines=True))
    assert (counts.written, counts.undated) == (len(given), 2)
    for line, each in zip(lines, given):
        fields = line.split("|")
        assert len(fields) == 11
        assert (fields[0], fields[4:7]) == ("0", ["0", "0", "0"])
        assert fields[1].startswith("m.vmx: ")
        assert sorted(map(int, fields[7:])) == [0, 0, 0, int(AFTER_PATCH.timestamp())]
        assert fields[1].endswith(f"({each.timestamp_desc})")
        assert int(fields[2]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_timesketch_takes_it(kind: str, example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What its importer asks of each line, and all times written alike, as it drops what differs from the first."""
    code, out, _ = command(capsys, example, "--format", kind)
    assert code == 0
    lines = list(csv.DictReader(io.StringIO(out))) if kind == "csv" else list(map(json.loads, out.splitlines()))
    assert len(lines) == len(list(Target.open(example).sesparse.timeline()))
    for line in lines:
        assert line["message"]
        assert line["timestamp_desc"]
        assert datetime.strptime(line["datetime"], "%Y-%m-%dT%H:%M:%S.%f%z").utcoffset() == timedelta(0)
        assert not set(line) & {"_id", "_type", "_index", "_source", "tag", "timestamp"}, "which have a meaning there"
        assert set(line) <= set(COLUMNS)
    whole = [line for line in lines if not line["datetime"].endswith(".000000+00:00")]
    assert whole, "and some have a fraction"


def test_csv_has_no_formula() -> None:
    """In no cell, whatever the evidence is called; nor a line end or what a terminal obeys."""
    starts = ("=1+1", "+1", "-1", "@x", "\uff1dx", " =1", "\t=1", "\r=1")
    given = [moment(AFTER_PATCH, message=text, path=text, disk=text, old_path=HOSTILE, machine=text) for text in starts]
    text = "\n".join(FORMATS["csv"](given, Written()))
    rows = list(csv.reader(io.StringIO(text)))
    assert len(rows) == len(starts) + 1
    for row in rows:
        assert len(row) == len(COLUMNS)
        assert not [cell for cell in row if cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d"))]
        assert all(cell.isprintable() for cell in row)


def test_json_lines_keep_names_as_they_are() -> None:
    (line,) = FORMATS["jsonl"]([moment(AFTER_PATCH, path=f"/{HOSTILE}\udc80")], Written())
    assert line.isascii()
    assert json.loads(line)["path"] == f"/{HOSTILE}\\udc80", "half a character is none"


def test_text_has_a_window_in_one_line(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = command(capsys, example)
    assert (code, err) == (0, "")
    (line,) = (line for line in out.splitlines() if "kb5035849.tmp deleted" in line)
    assert line.startswith("2024-03-11T20:00:00.512318Z .. 2024-03-14T21:30:00.090114Z  file deleted  ")
    assert out.splitlines()[0].startswith("2024-03-11T20:00:00.512318Z    ")


@pytest.mark.slow
def test_records(example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same as those of the function."""
    path = tmp_path / "events.records"
    code, out, _ = command(capsys, example, "--format", "records", "-o", path)
    assert (code, out) == (0, f"{path}: {len(list(Target.open(example).sesparse.timeline()))} events\n")
    with RecordReader(str(path)) as reader:
        written = [_without_context(record) for record in reader]
    assert written == [_without_context(record) for record in Target.open(example).sesparse.timeline()]
    done = tool("dissect-sesparse", "timeline", "--no-files", "--format", "records", "-o", tmp_path / "more", example)
    assert done.stdout.endswith("events\n")


def _without_context(record: Record) -> dict[str, str]:
    return {name: str(value) for name, value in record._asdict().items() if name[0] != "_"}


# The command


@pytest.mark.slow
def test_what_has_no_time_is_counted(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_chain(folder).write()
    for kind in ("jsonl", "csv", "bodyfile"):
        code, out, err = command(capsys, path, "--format", kind)
        assert code == 0
        assert len(out.splitlines()) == (kind == "csv")
        assert "4 events are not in it" in err
    code, out, err = command(capsys, path)
    assert [line.split()[0] for line in out.splitlines()] == ["-"] * 4
    assert (code, err) == (0, "")


@pytest.mark.slow
def test_several_machines(example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One timeline; what is no line of it is said elsewhere; one that cannot be opened counts."""
    for name in ("a", "b"):
        shutil.copytree(example.parent, tmp_path / name)
    shutil.copytree(example.parent, tmp_path / "c")
    with (tmp_path / "c" / "web01-000002-sesparse.vmdk").open("r+b") as fh:
        fh.write(b"\xff" * 512)
    code, out, err = command(capsys, tmp_path / "a", tmp_path / "b", "--format", "jsonl", "--no-files")
    assert code == 0
    lines = list(map(json.loads, out.splitlines()))
    assert {line["machine"] for line in lines} == {str(tmp_path / name / "web01.vmx") for name in ("a", "b")}
    assert [line["datetime"] for line in lines] == sorted(line["datetime"] for line in lines)
    code, out, err = command(capsys, tmp_path / "a", tmp_path / "c", "--no-files")
    assert code == 1
    assert str(tmp_path / "c") in err
    assert "snapshot taken" in out
    assert all("web01.vmx: web01" in line for line in out.splitlines())


def test_not_all_was_looked_at(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A volume of no known kind: what else is known is there, and the command ends with 1."""
    chain = small_chain(folder)
    chain.links[-1].extent.allocate(15, b"\x5a" * 4096)
    path = chain.write()
    code, out, err = command(capsys, path)
    assert code == 1
    assert "not looked at" in err
    assert "link begun" in out
    assert command(capsys, path, "--no-files")[0] == 0, "which was not asked for"


def test_output_file(example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is replaced unasked, nothing is written beside the evidence."""
    path = tmp_path / "t.csv"
    path.write_text("mine", encoding="utf-8")
    code, _, err = command(capsys, example, "-o", path, "--format", "csv")
    assert (code, path.read_text(encoding="utf-8")) == (1, "mine")
    assert "--force" in err
    assert command(capsys, example, "-o", path, "--format", "csv", "--force", "--no-files")[0] == 0
    assert path.read_bytes().startswith(b"message,datetime,timestamp_desc,")
    assert b"\r" not in path.read_bytes()
    inside = example.parent / "t.csv"
    other = tmp_path / "other"
    shutil.copytree(example.parent, other)
    for targets in ((example,), (other, example)):
        code, _, err = command(capsys, *targets, "-o", inside, "--no-files")
        assert code == 1
        assert "holds evidence" in err
        assert not inside.exists()
    assert command(capsys, example, "-o", tmp_path / "no" / "t.csv")[0] == 1
    assert list(tmp_path.glob("*.partial")) == []


def test_from_and_to(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, example, "--from", "2024-03-15T00:00:00Z", "--to", "2024-03-16")
    assert code == 0
    assert "keylog.txt made" in out
    assert "exfil.zip deleted" in out, "its window overlaps that time"
    assert "exfil.zip made" not in out
    assert "kb5035849.tmp" not in out
    with pytest.raises(SystemExit) as ended:
        cli.main(["timeline", str(example), "--from", "yesterday\x1b[2J"])
    assert ended.value.code == 2
    assert "is no time" in capsys.readouterr().err


def test_interrupted(example: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(disk_events, "journal", stop)
    code, out, err = command(capsys, example)
    assert (code, out) == (1, "")
    assert "interrupted" in err
