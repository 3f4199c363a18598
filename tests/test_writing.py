"""What is written out, and what never is: planted names, nonsense of earlier runs, digests that nobody read, times."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import file_states
import make_vm
import pytest
from history import random_history
from target_fixtures import NEWEST, example_vm, small_chain, snapshot_of  # noqa: F401

from dissect_sesparse import open_chain
from dissect_sesparse.cli import main
from dissect_sesparse.files.deleted import DeletedFile, Piece
from dissect_sesparse.files.story import Naming
from dissect_sesparse.recovery.file_times import set_times
from dissect_sesparse.recovery.recover import Source, recover
from dissect_sesparse.recovery.sparse_file import OutputFile
from dissect_sesparse.recovery.writing import OutputFolder, RecoverError, identities

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def run(path: Path, out: Path, *options: str) -> int:
    return main(["recover", str(path), "-o", str(out), *options])


def lines_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


# Names of our own


MFT = Naming("mft", "likely", "its record")


def deleted_file(path: Path, name: str, data: bytes, **more: object) -> DeletedFile:
    fields = {"volume": "v", "mtime": None, "btime": None, "inode": 1, "filesystem": "ntfs", "naming": MFT} | more
    pieces = [Piece(0, data, True)]
    return DeletedFile(link=path, path=name, size=len(data), proof="", pieces=lambda: iter(pieces), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "names", [["!y.partial", "_y"], ["_y", "!y.partial"], ["_y.partial/in", "_y"], ["_y", "_Y.PARTIAL/in"]]
)
def test_no_name_of_a_guest_is_taken_for_one_of_ours(folder: Path, tmp_path: Path, names: list[str]) -> None:
    """Each file is there with its bytes, at once and when all is verified."""
    with open_chain(small_chain(folder).write()) as chain:
        source = Source(chain, files=lambda warn: [deleted_file(chain.links[0], name, name.encode()) for name in names])  # type: ignore[arg-type]
        for _ in range(2):
            done = recover([source], tmp_path / "out")
            assert done.complete
            found = {
                line["path"]: (tmp_path / "out" / line["file"]).read_bytes() for line in lines_of(tmp_path / "out")
            }
            assert found == {name: name.encode() for name in names}
    assert done.verified
    assert done.report["disks"][0]["deleted_files"]["complete"]["files"] == 2


# Planted


NAMES = [
    "report.json", "manifest.jsonl", "unreferenced.jsonl", "web01-000002.raw", "web01-000002.map",
    "web01-000002.unreferenced.bin",
]  # fmt: skip


def planted(out: Path, name: str, link: Callable[[Path, Path], object], victim: Path, partial: str) -> None:
    """The recovery is as if it had been broken off before it had that file, and something else lies in its place."""
    (out / "report.json").unlink()
    (out / name).unlink(missing_ok=True)
    link(victim, out / f"{name}{partial}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name", "partial"),
    [
        *[("hard", name, ".partial") for name in [*NAMES, "file"]],
        *[("hard", name, "") for name in ("manifest.jsonl", "web01-000002.raw", "file")],
        *[("symbolic", name, ".partial") for name in ("report.json", "web01-000002.map", "file")],
        *[("fifo", "manifest.jsonl", partial) for partial in ("", ".partial")],
        ("fifo", "recover.json", ""),
    ],
)
def test_nothing_is_written_through_what_was_planted(
    example_vm: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    name: str,
    partial: str,
) -> None:
    out, victim = tmp_path / "out", example_vm.parent / "web01-000001-sesparse.vmdk"
    assert run(example_vm, out, "--files") == 0
    if name == "file":
        name = next(line["file"] for line in lines_of(out) if "path" in line)
    kinds = {
        "hard": os.link,
        "symbolic": lambda target, link: os.symlink(target, link),
        "fifo": lambda target, link: (
            os.mkfifo(link) if hasattr(os, "mkfifo") else pytest.skip("no FIFO on this system")
        ),
    }
    planted(out, name, kinds[kind], victim, partial)
    before = snapshot_of(example_vm.parent)
    assert run(example_vm, out, "--files") == 1
    assert {"hard": "nothing is written to it", "symbolic": "symbolic link", "fifo": "not a regular file"}[
        kind
    ] in capsys.readouterr().err
    assert snapshot_of(example_vm.parent) == before


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_no_folder_in_the_output_is_a_link(
    example_vm: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    symlink: Callable[[Path, Path], None],
    depth: int,
) -> None:
    out = tmp_path / "out"
    assert run(example_vm, out) == 0
    name = Path("files", "web01-000002", "part_00100000").parts[:depth]
    out.joinpath(*name[:-1]).mkdir(parents=True, exist_ok=True)
    symlink(out.joinpath(*name), example_vm.parent)
    before = snapshot_of(example_vm.parent)
    assert run(example_vm, out, "--files") == 1
    assert "symbolic link" in capsys.readouterr().err
    assert snapshot_of(example_vm.parent) == before


def test_a_file_of_the_evidence_by_whatever_way(tmp_path: Path) -> None:
    """Where the file system says nothing of links (FUSE, some shares): the file itself is known."""
    evidence = tmp_path / "evidence.vmdk"
    evidence.write_bytes(b"evidence")
    out = OutputFolder(tmp_path, identities([evidence]))
    with pytest.raises(RecoverError, match="a file of the evidence"):
        out.take_up(evidence, write=True)
    with pytest.raises(RecoverError, match="a file of the evidence"), out.whole("evidence.vmdk"):
        pytest.fail("it is refused before anything is written")
    assert evidence.read_bytes() == b"evidence"


def test_a_file_of_two_names(tmp_path: Path) -> None:
    """It may be the evidence, though nothing says so."""
    (tmp_path / "a").write_bytes(b"a")
    os.link(tmp_path / "a", tmp_path / "b")
    for write in (False, True):
        with pytest.raises(RecoverError, match="2 names"):
            OutputFolder(tmp_path).take_up(tmp_path / "b", write=write)


def test_what_is_there_already_is_not_replaced(tmp_path: Path) -> None:
    """Something else made the file while this one was written."""
    file = OutputFile(OutputFolder(tmp_path), "a")
    file.put(0, b"mine")
    (tmp_path / "a").write_bytes(b"of someone else")
    with pytest.raises(RecoverError, match="there already"):
        file.finish()
    assert (tmp_path / "a").read_bytes() == b"of someone else"


@pytest.mark.slow
def test_a_page_never_costs_a_file_beside_it(example_vm: Path, tmp_path: Path) -> None:  # noqa: F811
    """Its name until it is whole is one that nobody has."""
    (tmp_path / "report.html.partial").write_bytes(b"mine")
    assert main(["report", str(example_vm), "-o", str(tmp_path / "report.html"), "--no-hash", "--no-files"]) == 0
    assert (tmp_path / "report.html.partial").read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} >= {"report.html", "report.html.partial"}


@pytest.mark.parametrize("where", ["above", "at"])
def test_evidence_within_the_output(folder: Path, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that once was an output, and has evidence in it now."""
    path = small_chain(folder).write()
    out = folder.parent if where == "above" else folder
    (out / "recover.json").write_text("{}")
    before = snapshot_of(folder)
    assert run(path, out) == 1
    assert "holds evidence" in capsys.readouterr().err
    assert snapshot_of(folder) == before


@pytest.mark.parametrize("where", ["file", "below"])
def test_a_folder_that_cannot_be(folder: Path, tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"")
    out = tmp_path / "file" if where == "file" else tmp_path / "file" / "below"
    assert run(small_chain(folder).write(), out) == 1
    assert "cannot be used" in capsys.readouterr().err


# Full disks, and sizes that no file can have


def test_full_disk_for_what_is_begun(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = small_chain(folder).write()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with open_chain(path) as chain, pytest.raises(RecoverError, match="make room"):
            recover([chain], tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    with open_chain(path) as chain:
        assert recover([chain], tmp_path / "out").complete


def test_a_file_larger_than_any_can_be(folder: Path, tmp_path: Path) -> None:
    """It costs no other file; that it is not there is said, and not all is done."""
    with open_chain(small_chain(folder).write()) as chain:
        hostile = deleted_file(chain.links[0], "hostile", b"data", mtime=None)  # type: ignore[arg-type]
        object.__setattr__(hostile, "size", (1 << 63) - 4096)
        good = deleted_file(chain.links[0], "good", b"data")  # type: ignore[arg-type]
        try:
            with (tmp_path / "probe").open("wb") as fh:
                fh.truncate(hostile.size)
            pytest.skip("this file system takes files of any size")
        except OSError:
            pass
        for _ in range(2):
            done = recover([Source(chain, files=lambda warn: [hostile, good])], tmp_path / "out")
            assert not done.complete
            assert "takes no file of that size" in done.report["disks"][0]["reason"]
    lines = {line["path"]: line for line in lines_of(tmp_path / "out") if "path" in line}
    assert lines["hostile"]["file"] is None
    assert (tmp_path / "out" / lines["good"]["file"]).read_bytes() == b"data"
    assert not list((tmp_path / "out").rglob("*.partial"))


# Nonsense of an earlier run


NONSENSE = {
    "list": b"[]", "number": b"7", "null": b"null", "text": b'"x"', "brackets": b"[" * 100_000, "open": b'{"a": ' * 100_000,
    "deep": b"[" * 500 + b"]" * 500, "nan": b'{"inputs": NaN}', "digits": b'{"a": ' + b"9" * 100_000 + b"}", "empty": b"",
    "binary": bytes(range(256)), "twice": b'{"a": 1, "a": 2}', "object": b"{}", "torn": b'{"version": "1',
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recover.json", "report.json"])
@pytest.mark.parametrize("kind", [*NONSENSE, "huge"])
def test_nonsense(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str) -> None:
    path, out = small_chain(folder).write(), tmp_path / "out"
    assert run(path, out) == 0
    capsys.readouterr()
    if kind == "huge":
        with (out / name).open("r+b") as fh:
            fh.truncate(1 << 36)
    else:
        (out / name).write_bytes(NONSENSE[kind])
    assert run(path, out) == 1
    error = capsys.readouterr().err
    assert name in error
    assert "use another folder" in error
    assert "Traceback" not in error


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recover.json", "report.json"])
def test_wrong_types_within(folder: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each value in turn becomes one of another type."""
    path, out = small_chain(folder).write(), tmp_path / "out"
    assert run(path, out) == 0
    told = json.loads((out / name).read_text())
    keys = [(key,) for key in told]
    keys += [(key, 0) for key in told if isinstance(told[key], list) and told[key]]
    keys += [(key, 0, inner) for key, index in [k for k in keys if len(k) == 2] for inner in told[key][index]]  # type: ignore[misc]
    for where in keys:
        for value in (None, [None], {"x": {}}):
            changed = json.loads(json.dumps(told))
            holder = changed
            for step in where[:-1]:
                holder = holder[step]
            if type(holder[where[-1]]) is type(value) or where[-1] == "target":
                continue
            holder[where[-1]] = value
            (out / name).write_text(json.dumps(changed))
            code = run(path, out)
            error = capsys.readouterr().err
            assert (code, "dissect-sesparse recover: " in error) in ((1, True), (0, False)), (where, value)
            assert code == 1 or where[-1] == "sha256", (where, value)
            shutil.copy(out / name, tmp_path / "last")


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"[" * 100_000, b"7\n", b'{"digest": 7}\n', bytes(1000), b"\xff" * 5000])
@pytest.mark.parametrize("whole", [False, True])
def test_nonsense_in_a_manifest(folder: Path, tmp_path: Path, content: bytes, *, whole: bool) -> None:
    """Of a run that was broken off, it is made again; a finished one was changed."""
    path, out = random_history(folder, random.Random(3), 1, events=30).path, tmp_path / "out"
    assert run(path, out) == 0
    good = (out / "manifest.jsonl").read_bytes()
    assert good
    if whole:
        (out / "manifest.jsonl").write_bytes(content)
        assert run(path, out) == 1
        assert (out / "manifest.jsonl").read_bytes() == content
        return
    (out / "report.json").unlink()
    (out / "manifest.jsonl").unlink()
    (out / "manifest.jsonl.partial").write_bytes(content)
    assert run(path, out) == 0
    assert (out / "manifest.jsonl").read_bytes() == good


def test_a_line_of_a_broken_run_is_verified_whole(folder: Path, tmp_path: Path) -> None:
    """Also what follows from the bytes: an MD5 that somebody wrote there does not stay."""
    path, out = random_history(folder, random.Random(3), 1, events=30).path, tmp_path / "out"
    assert run(path, out) == 0
    good = (out / "manifest.jsonl").read_bytes()
    md5 = next(line["digest"]["md5"] for line in lines_of(out) if line["digest"])
    (out / "report.json").unlink()
    (out / "manifest.jsonl").unlink()
    (out / "manifest.jsonl.partial").write_bytes(good.replace(md5.encode(), b"0" * 32))
    assert run(path, out) == 0
    assert (out / "manifest.jsonl").read_bytes() == good


# What the report vouches for


class Break(BaseException):
    """Ends a run as a kill does."""


def broken_off(path: Path, out: Path) -> None:
    """A run that hashed all its input and then ended."""
    with open_chain(path) as chain:
        size = sum(file.stat().st_size for file in path.parent.iterdir())

        def progress(done: int, total: int) -> None:
            if done > size:
                raise Break

        with pytest.raises(Break):
            recover([chain], out, progress=progress)
    assert all(file["sha256"] for file in json.loads((out / "recover.json").read_text())["inputs"])


@pytest.mark.parametrize("what", ["evidence", "digest"])
def test_a_report_has_only_digests_that_its_run_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """An extent that was changed after it was hashed, with its time set back; a digest that somebody wrote."""
    path, out = small_chain(folder).write(), tmp_path / "out"
    broken_off(path, out)
    if what == "evidence":
        extent = folder / "vm-000001-sesparse.vmdk"
        status = extent.stat()
        with extent.open("r+b") as fh:
            fh.seek(-100, os.SEEK_END)
            fh.write(b"changed")
        os.utime(extent, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        told = json.loads((out / "recover.json").read_text())
        told["inputs"][0]["sha256"] = hashlib.sha256(b"nobody read that").hexdigest()
        (out / "recover.json").write_text(json.dumps(told))
    assert run(path, out) == 1
    assert "SHA-256 differs" in capsys.readouterr().err
    assert not (out / "report.json").exists()


def test_after_a_break_all_is_read_again(folder: Path, tmp_path: Path) -> None:
    path, out = small_chain(folder).write(), tmp_path / "out"
    broken_off(path, out)
    assert run(path, out) == 0
    for file in json.loads((out / "report.json").read_text())["inputs"]:
        assert file["sha256"] == hashlib.sha256(Path(file["path"]).read_bytes()).hexdigest()


# Files added


def outputs(out: Path) -> dict[str, bytes]:
    left_out = ("recover.json", "report.json")
    return {
        p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name not in left_out
    }


@pytest.mark.slow
def test_files_are_added(example_vm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    """Into the folder of a recovery without: in the end it is as if they had been wanted at once."""
    out, at_once = tmp_path / "out", tmp_path / "at_once"
    assert run(example_vm, out) == 0
    started = json.loads((out / "report.json").read_text())["started"]
    assert run(example_vm, out, "--files") == 0
    assert "deleted files: 2 complete, 3 likely\n" in capsys.readouterr().out
    assert len(make_vm.DELETED) == 5
    assert run(example_vm, at_once, "--files") == 0
    assert outputs(out) == outputs(at_once)
    report, wanted = (json.loads((each / "report.json").read_text()) for each in (out, at_once))
    for name in ("options", "inputs", "outputs", "disks"):
        assert report[name] == wanted[name]
    assert report["started"] == started
    capsys.readouterr()
    before = snapshot_of(out)
    assert run(example_vm, out, "--files") == 0
    assert "verified, all was there" in capsys.readouterr().out
    assert snapshot_of(out) == before
    assert run(example_vm, out) == 1, "and not taken away again"
    assert "begun with --files (give it again, or use another folder)" in capsys.readouterr().err
    assert snapshot_of(out) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["manifest.jsonl", "report.json", "web01-000002.raw"])
def test_nothing_changed_is_added_to(
    example_vm: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    """What an earlier run finished and somebody changed is not replaced in silence."""
    out = tmp_path / "out"
    assert run(example_vm, out) == 0
    data = bytearray((out / name).read_bytes())
    at = data.index(b'"sha256": "') + 12 if name != "web01-000002.raw" else lines_of(out)[0]["file_offset"]
    data[at] = ord("0") if data[at] != ord("0") else ord("1")
    (out / name).write_bytes(data)
    assert run(example_vm, out, "--files") == 1
    assert name in capsys.readouterr().err
    assert (out / name).read_bytes() == data


@pytest.mark.slow
def test_adding_is_broken_off_anywhere(
    example_vm: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before each file gets its name, and after: the next run goes on, and the earlier report stays until there is a new one."""
    at_once = tmp_path / "at_once"
    assert run(example_vm, at_once, "--files") == 0
    real, out = Path.replace, tmp_path / "out"
    assert run(example_vm, out) == 0
    for number in range(100):
        left = number

        def breaks(self: Path, target: Path) -> Path:
            nonlocal left
            left -= 1
            if left == 0:
                raise Break
            done = real(self, target)
            if left == 1:
                raise Break
            return done

        with monkeypatch.context() as patch:
            if number:
                patch.setattr(Path, "replace", breaks)
            try:
                run(example_vm, out, "--files")
            except Break:
                assert (out / "report.json").exists()
                assert (out / "manifest.jsonl").exists()
                continue
        if number and left > 1:
            break
        shutil.rmtree(out)
        assert run(example_vm, out) == 0
    assert number > 4
    assert run(example_vm, out, "--files") == 0
    assert outputs(out) == outputs(at_once)


# Times


def test_files_have_their_own_times(tmp_path: Path) -> None:
    path = file_states.build("ntfs", tmp_path / "vm").write()
    out = tmp_path / "out"
    assert run(path, out, "--files") == 0
    timed = [line for line in lines_of(out) if "path" in line and line["file"] and line["mtime"]]
    assert len(timed) > 3
    for line in timed:
        status = (out / line["file"]).stat()
        assert status.st_mtime_ns == (datetime.fromisoformat(line["mtime"]) - EPOCH) // timedelta(microseconds=1) * 1000
        assert datetime.fromisoformat(line["atime"])


OUT_OF_RANGE = [datetime(1, 1, 1, tzinfo=timezone.utc), datetime(9999, 12, 31, 23, 59, tzinfo=timezone.utc)]


@pytest.mark.parametrize(
    "time", [*OUT_OF_RANGE, datetime(1601, 1, 1, tzinfo=timezone.utc), EPOCH, EPOCH - timedelta(days=300)]
)
def test_times_that_cannot_be(folder: Path, tmp_path: Path, time: datetime) -> None:
    """A file has its own time or that of its writing, never one in between; the manifest has its own always."""
    now = datetime.now(timezone.utc).timestamp()
    with open_chain(small_chain(folder).write()) as chain:
        file = deleted_file(chain.links[0], "file", b"data", mtime=time, atime=time)  # type: ignore[arg-type]
        assert recover([Source(chain, files=lambda warn: [file])], tmp_path / "out").complete
    (line,) = lines_of(tmp_path / "out")
    assert datetime.fromisoformat(line["mtime"]) == time
    written = (tmp_path / "out" / line["file"]).stat().st_mtime_ns
    wanted = (time - EPOCH) // timedelta(microseconds=1) * 1000
    assert written == wanted or abs(written / 1e9 - now) < 3600


def test_a_time_that_is_cut_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ext4 does with 1601: it takes 1901, and says nothing."""
    path = tmp_path / "file"
    path.write_bytes(b"")
    before, real = path.stat().st_mtime_ns, os.utime

    def cuts(name: Path, ns: tuple[int, int]) -> None:
        real(name, ns=(max(ns[0], -(1 << 31) * 10**9), max(ns[1], -(1 << 31) * 10**9)))

    monkeypatch.setattr(os, "utime", cuts)
    assert not set_times(path, datetime(1601, 1, 2, tzinfo=timezone.utc))
    assert path.stat().st_mtime_ns == before
    assert set_times(path, EPOCH)
    assert path.stat().st_mtime_ns == 0
