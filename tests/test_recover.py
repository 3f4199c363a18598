"""``dissect-sesparse recover``: images, maps, manifest and report, held against the history of each grain."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import make_vm
import pytest
import target_fixtures
from disks import sparse, write_chain
from history import ZEROS, Recorded, random_history
from sesparse_builder import ChainBuilder, ExtentBuilder, grain_data, vmx
from target_fixtures import NEWEST, example_vm, python, snapshot_of  # noqa: F401

from dissect_sesparse import cli, open_chain
from dissect_sesparse.recovery import sparse_file
from dissect_sesparse.recovery.ddrescue import Coverage, map_lines
from dissect_sesparse.recovery.recover import Recovery, recover
from dissect_sesparse.recovery.safe_name import safe_stems
from dissect_sesparse.recovery.sparse_file import RecoverError
from dissect_sesparse.trimmed.unmapped import STATES

if TYPE_CHECKING:
    from collections.abc import Callable

SECTORS = 40960
ROOT = Path(__file__).parents[1]


def tool_path(name: str) -> str:
    """The path of a tool that checks the output."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("SESPARSE_REQUIRE_ALL"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return found


def recovered(path: Path, out: Path, progress: Callable[[int, int], None] | None = None) -> Recovery:
    with open_chain(path) as chain:
        return recover([chain], out, progress=progress)


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def bytes_at(out: Path, line: dict) -> bytes:
    with (out / line["file"]).open("rb") as fh:
        fh.seek(line["file_offset"])
        return fh.read(line["size"])


def ranges_of(path: Path) -> list[tuple[int, int, str]]:
    """A map file's blocks."""
    rows = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
    return [(int(position, 16), int(size, 16), status) for position, size, status in rows[1:]]


def contents(out: Path, *leave_out: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name not in leave_out}


# What is recovered


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_random_histories(tmp_path: Path, seed: int) -> None:
    """Each old grain is in one image, at its address; the newest one of an address in the disk's own."""
    recorded = random_history(tmp_path / "vm", random.Random(3000 + seed), seed + 1, events=150)
    before = snapshot_of(tmp_path / "vm")
    recovery = recovered(recorded.path, tmp_path / "out")
    assert snapshot_of(tmp_path / "vm") == before
    out = tmp_path / "out"
    check_manifest(recorded, out)
    check_maps(out)
    check_unreferenced(recorded, out)
    check_report(recorded, recovery, out)


def check_manifest(recorded: Recorded, out: Path) -> None:
    wanted = {(old.depth, old.grain): old for old in recorded.old}
    images: dict[str, dict[int, int]] = {}
    for line in lines_of(out / "manifest.jsonl"):
        data = bytes_at(out, line) if line["file"] else None
        if data is not None:
            assert hashlib.sha256(data).hexdigest() == line["digest"]["sha256"]
            assert line["file_offset"] == line["offset"]
        for start in range(0, line["size"], 4096):
            grain = (line["offset"] + start) // 4096
            old = wanted.pop((line["depth"], grain))
            assert line["state"] == old.state
            assert (line["file"] is not None) == (old.state in ("present", "empty"))
            if data is not None:
                assert data[start : start + 4096] == old.data
                assert line["source_offset"] + start == recorded.links[old.depth].builder.grain_offset(old.place)
                images.setdefault(line["file"], {}).setdefault(grain, old.depth)
    assert not wanted, "nothing is missing"
    newest: dict[int, int] = {}
    for old in recorded.old:
        if old.state in ("present", "empty"):
            newest.setdefault(old.grain, old.depth)
    assert images.get(f"vm-{len(recorded.links):06d}.raw", {}) == newest


def check_maps(out: Path) -> None:
    """The ranges of a map are those of the manifest's lines for its image, and all else is zeros."""
    for image in out.glob("*.raw"):
        written = set()
        for line in lines_of(out / "manifest.jsonl"):
            if line["file"] == image.name:
                written.update(range(line["offset"] // 4096, (line["offset"] + line["size"]) // 4096))
        data, position, told, last = image.read_bytes(), 0, set(), None
        for offset, size, status in ranges_of(image.with_suffix(".map")):
            assert offset == position
            assert status != last, "as long as can be"
            position, last = offset + size, status
            if status == "+":
                told.update(range(offset // 4096, position // 4096))
            else:
                assert not data[offset:position].strip(b"\x00")
        assert position == len(data) == SECTORS * 512
        assert told == written


def check_unreferenced(recorded: Recorded, out: Path) -> None:
    found, position = [], 0
    for line in lines_of(out / "unreferenced.jsonl"):
        data = bytes_at(out, line)
        assert line["file_offset"] == position, "one behind the other"
        assert hashlib.sha256(data).hexdigest() == line["digest"]["sha256"]
        position += line["size"]
        for start in range(0, line["size"], 4096):
            first = recorded.links[line["depth"]].builder.grain_offset(0)
            grain = None if line["offset"] is None else (line["offset"] + start) // 4096
            found.append((line["depth"], (line["source_offset"] + start - first) // 4096, grain, data[start:][:4096]))
    assert found == recorded.loose
    (bin_file,) = out.glob("*.bin")
    assert bin_file.stat().st_size == position


def check_report(recorded: Recorded, recovery: Recovery, out: Path) -> None:
    report = json.loads((out / "report.json").read_text())
    assert report == json.loads(json.dumps(recovery.report))
    (disk,) = report["disks"]
    for state in STATES:
        count = sum(old.state == state for old in recorded.old)
        assert disk["unmapped"][state]["bytes"] == count * 4096
    assert disk["never_mapped"] == 4096 * sum(link.never_mapped() for link in recorded.links)
    folder = recorded.path.parent
    assert {Path(file["path"]).name for file in report["inputs"]} == {path.name for path in folder.iterdir()}
    for file in report["inputs"]:
        path = Path(file["path"])
        assert (file["size"], file["mtime_ns"]) == (path.stat().st_size, path.stat().st_mtime_ns)
        assert file["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert report["options"][0]["view"] == "guest"
    assert {"python", "dissect-sesparse", "dissect.target"} <= set(report["versions"])


def test_older_bytes(folder: Path, tmp_path: Path) -> None:
    """Where a newer link has other bytes for an address, the older ones have an image of their own; equal ones share."""
    chain = ChainBuilder(folder, SECTORS)
    for number, tag in enumerate(("a", "b", "c")):
        extent = chain.add_delta()
        extent.allocate(4000)
        for grain in range(10, 20):
            if grain != 13:
                extent.unmap(grain, grain_data("same" if grain < 13 else tag, grain))
        extent.unmap(30 + number, grain_data(tag, 30 + number))
    recovered(chain.write(), tmp_path / "out")
    lines = lines_of(tmp_path / "out" / "manifest.jsonl")
    told = [(line["depth"], line["offset"] // 4096, line["size"] // 4096, line["file"]) for line in lines]
    name = "vm-000003"
    assert told == [
        (0, 10, 3, f"{name}.raw"), (0, 14, 6, f"{name}.raw"), (0, 32, 1, f"{name}.raw"),
        (1, 10, 3, f"{name}.raw"), (1, 14, 6, f"{name}.depth1.raw"), (1, 31, 1, f"{name}.raw"),
        (2, 10, 3, f"{name}.raw"), (2, 14, 6, f"{name}.depth2.raw"), (2, 30, 1, f"{name}.raw"),
    ]  # fmt: skip
    check_maps(tmp_path / "out")


def test_nothing_was_trimmed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Zero is a result: all files are there, and it is said."""
    chain = target_fixtures.small_chain(folder)
    out = tmp_path / "out"
    assert cli.main(["recover", str(chain.write()), "-o", str(out)]) == 0
    assert "none, the guest trimmed nothing that had a place" in capsys.readouterr().out
    assert ranges_of(out / "vm-000001.map") == [(0, SECTORS * 512, "?")]
    assert (out / "manifest.jsonl").read_bytes() == (out / "unreferenced.jsonl").read_bytes() == b""
    (disk,) = json.loads((out / "report.json").read_text())["disks"]
    assert disk["unmapped"] == {state: {"runs": 0, "bytes": 0} for state in STATES}


def test_image_is_sparse(folder: Path, tmp_path: Path) -> None:
    """64 GiB with one old grain takes the room of that."""
    chain = ChainBuilder(folder, 1 << 27)
    extent = chain.add_delta()
    extent.allocate(0)
    extent.unmap((1 << 24) - 1, grain_data("old", 7))
    recovered(chain_without_base(chain), tmp_path / "out")
    (image,) = (tmp_path / "out").glob("*.raw")
    assert image.stat().st_size == 1 << 36
    if hasattr(os.stat_result, "st_blocks"):
        assert image.stat().st_blocks * 512 < 1 << 20
    assert ranges_of(image.with_suffix(".map"))[-1] == ((1 << 36) - 4096, 4096, "+")


def chain_without_base(chain: ChainBuilder) -> Path:
    """The delta as a disk of its own: the base need not be hashed."""
    chain.folder.mkdir(exist_ok=True)
    link = chain.links[1]
    assert link.extent is not None
    link.extent.write(chain.folder / link.extent_name)
    text = chain.descriptor_text(1).replace(f"parentCID={chain.links[0].cid}", "parentCID=ffffffff")
    text = text.replace('parentFileNameHint="vm.vmdk"\n', "")
    (chain.folder / link.descriptor_name).write_bytes(text.encode())
    return chain.folder / link.descriptor_name


# Tools of others


def test_ddrescuelog_accepts_the_map(tmp_path: Path, example_vm: Path) -> None:  # noqa: F811
    log = tool_path("ddrescuelog")
    recovered(example_vm.parent / NEWEST, tmp_path / "out")
    path = tmp_path / "out" / "web01-000002.map"
    told = subprocess.run([log, "-t", str(path)], capture_output=True, text=True, check=True).stdout
    assert "143360 B,  in      2 area(s)" in told
    blocks = subprocess.run([log, "-b", "4096", "-l+", str(path)], capture_output=True, text=True, check=True).stdout
    wanted = [
        (line["offset"] + start) // 4096
        for line in lines_of(tmp_path / "out" / "manifest.jsonl")
        for start in range(0, line["size"], 4096)
    ]
    assert sorted(wanted) == [int(block) for block in blocks.split()]


def test_foremost_carves_a_deleted_archive(tmp_path: Path, example_vm: Path) -> None:  # noqa: F811
    """A ZIP that the guest wrote and deleted comes out of the image as it was."""
    foremost = tool_path("foremost")
    recovered(example_vm.parent / NEWEST, tmp_path / "out")
    image, carved = tmp_path / "out" / "web01-000002.raw", tmp_path / "carved"
    subprocess.run([foremost, "-t", "zip", "-i", str(image), "-o", str(carved)], capture_output=True, check=True)
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in carved.rglob("*.zip")}
    assert make_vm.DELETED["Users/admin/AppData/staging.zip"] in digests


# Going on


def test_second_run_verifies(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """It changes nothing, and says so; from another folder, by another name, too."""
    path, out = random_history(folder, random.Random(5), cuts=False, depth=2).path, tmp_path / "out"
    assert cli.main(["recover", str(path), "-o", str(out)]) == 0
    before = snapshot_of(out)
    assert cli.main(["recover", os.path.relpath(path), "-o", str(out)]) == 0
    assert snapshot_of(out) == before
    assert "verified, all was there" in capsys.readouterr().out


class Break(BaseException):
    """Ends a run anywhere, as a kill does: nothing catches it."""


def test_map_of_an_older_link_that_is_larger(folder: Path, tmp_path: Path) -> None:
    """The disk ends within a grain: the rest of that grain is the older link's, and no more."""
    older = ExtentBuilder(16)
    older.unmap(1, b"old".ljust(4096, b"."))
    links: list = [[sparse(folder / "a-sesparse.vmdk", ExtentBuilder(15))], [sparse(folder / "b-sesparse.vmdk", older)]]
    recovered(write_chain(folder, links), tmp_path / "out")
    assert ranges_of(tmp_path / "out" / "link0.map") == [(0, 4096, "?"), (4096, 3584, "+")]
    assert ranges_of(tmp_path / "out" / "link0.depth1.map") == [(0, 7680, "?"), (7680, 512, "+")]


def breaking(after: int) -> Callable[[int, int], None]:
    calls = 0

    def progress(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Break

    return progress


@pytest.mark.slow
def test_interrupted_anywhere(folder: Path, tmp_path: Path) -> None:
    """Broken off again and again, at each step a bit later: in the end the same."""
    path = random_history(folder, random.Random(11), 3, events=60, cuts=False).path
    recovered(path, tmp_path / "whole")
    out, after = tmp_path / "out", 0
    for after in range(0, 10_000, 11):
        try:
            recovery = recovered(path, out, breaking(after))
        except Break:
            assert not (out / "report.json").exists()
            continue
        break
    assert after > 50, "it was broken off that often, and later each time"
    assert recovery.complete
    left_out = ("report.json", "recover.json")
    assert contents(out, *left_out) == contents(tmp_path / "whole", *left_out)
    assert not list(out.glob("*.partial"))


KILLED = """
import os, sys
from pathlib import Path
from dissect_sesparse import open_chain
from dissect_sesparse.recovery.recover import recover
lines = Path(sys.argv[2], "manifest.jsonl.partial")
def progress(done, total):
    if lines.exists() and lines.stat().st_size > int(sys.argv[3]):
        os.kill(os.getpid(), 9)
with open_chain(sys.argv[1]) as chain:
    recover([chain], Path(sys.argv[2]), progress=progress)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed(folder: Path, tmp_path: Path) -> None:
    """The process is killed in the middle of the grains; what is torn at the end is made again."""
    path, out = random_history(folder, random.Random(12), cuts=False, depth=2, events=100).path, tmp_path / "out"
    recovered(path, tmp_path / "whole")
    code = tmp_path / "killed.py"
    code.write_text(KILLED)
    done = python(code, path, out, 5000, check=False)
    assert done.returncode == -9, done.stderr
    partial = out / "manifest.jsonl.partial"
    with partial.open("r+b") as fh:  # as after a loss of power: a torn line, and bytes that never reached the disk
        fh.truncate(partial.stat().st_size - 7)
    (image,) = out.glob("vm-000002.raw.partial")
    with image.open("r+b") as fh:
        fh.write(bytes(image.stat().st_size))
    recovery = recovered(path, out)
    assert recovery.complete
    assert not recovery.verified
    left_out = ("report.json", "recover.json")
    assert contents(out, *left_out) == contents(tmp_path / "whole", *left_out)
    assert json.loads((out / "report.json").read_text())["disks"] == recovery.report["disks"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["vm-000002.raw", "vm-000002.map", "manifest.jsonl", "unreferenced.jsonl", "report.json", "vm-000002.unreferenced.bin"]
)  # fmt: skip
def test_changed_output_is_told(folder: Path, tmp_path: Path, name: str) -> None:
    """A finished file is never repaired in silence."""
    path, out = random_history(folder, random.Random(13), cuts=False, depth=2).path, tmp_path / "out"
    recovered(path, out)
    data = bytearray((out / name).read_bytes())
    position = next(
        line["file_offset"] for line in [*lines_of(out / "manifest.jsonl"), {"file": name, "file_offset": len(data) // 2}]
        if line["file"] == name
    )  # fmt: skip
    data[position : position + 1] = bytes([data[position] ^ 1])
    (out / name).write_bytes(data)
    with pytest.raises(RecoverError, match=name.replace(".", r"\.")):
        recovered(path, out)
    assert (out / name).read_bytes() == data


def test_more_than_was_recovered_is_told(folder: Path, tmp_path: Path) -> None:
    """Bytes where the map says that there are none would be carved as if the guest had had them."""
    path, out = random_history(folder, random.Random(17), 1, events=20).path, tmp_path / "out"
    recovered(path, out)
    image = out / "vm-000001.raw"
    offset = next(offset for offset, _, status in ranges_of(image.with_suffix(".map")) if status == "?")
    with image.open("r+b") as fh:
        fh.seek(offset + 100)
        fh.write(b"planted")
    with pytest.raises(RecoverError, match=r"vm-000001\.raw"):
        recovered(path, out)


# Refused


@pytest.mark.parametrize("inside", [".", "sub", "sub/../x", "../link", "../link/deep"])
def test_folder_of_the_evidence(folder: Path, inside: str, capsys: pytest.CaptureFixture) -> None:
    path = target_fixtures.small_chain(folder).write()
    (folder.parent / "link").symlink_to(folder, target_is_directory=True)
    before = snapshot_of(folder)
    assert cli.main(["recover", str(path), "-o", str(folder / inside)]) == 1
    assert "holds evidence" in capsys.readouterr().err
    assert snapshot_of(folder) == before


def test_parent_of_the_evidence_is_fine(folder: Path) -> None:
    recovered(target_fixtures.small_chain(folder).write(), folder.parent / "out")


def test_other_files_in_the_folder(folder: Path, tmp_path: Path) -> None:
    """Nothing is written among what is not its own."""
    path = target_fixtures.small_chain(folder).write()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(RecoverError, match="not empty"):
        recovered(path, tmp_path / "out")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_other_evidence_or_options(folder: Path, tmp_path: Path) -> None:
    path, out = target_fixtures.small_chain(folder).write(), tmp_path / "out"
    recovered(path, out)
    with open_chain(path, unreadable="zero") as chain, pytest.raises(RecoverError, match="begun with options"):
        recover([chain], out)
    with open_chain(path) as chain, pytest.raises(RecoverError, match="was no input file"):
        recover([chain], out, files=[Path(__file__)])
    extent = folder / "vm-000001-sesparse.vmdk"
    stat = extent.stat()
    os.utime(extent, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))
    with pytest.raises(RecoverError, match="another size or time"):
        recovered(path, out)
    with extent.open("r+b") as fh:  # other bytes, the same size and time
        fh.seek(-1, os.SEEK_END)
        fh.write(b"\x00")
    os.utime(extent, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(RecoverError, match="SHA-256 differs"):
        recovered(path, out)


def test_evidence_that_changes_meanwhile(folder: Path, tmp_path: Path) -> None:
    path = target_fixtures.small_chain(folder).write()

    def progress(done: int, total: int) -> None:
        os.utime(path, ns=(1, done + 1))

    with pytest.raises(RecoverError, match="changed while it was read"):
        recovered(path, tmp_path / "out", progress)
    assert not (tmp_path / "out" / "report.json").exists()


def test_symbolic_link_in_the_folder(folder: Path, tmp_path: Path) -> None:
    """A link among the output could lead into the evidence."""
    path, out = random_history(folder, random.Random(14), cuts=False, depth=1, events=20).path, tmp_path / "out"
    with pytest.raises(Break):
        recovered(path, out, breaking(3))
    victim = tmp_path / "victim"
    victim.write_bytes(b"evidence")
    (out / "vm-000001.raw.partial").unlink(missing_ok=True)
    (out / "vm-000001.raw.partial").symlink_to(victim)
    with pytest.raises(RecoverError, match="symbolic link"):
        recovered(path, out)
    assert victim.read_bytes() == b"evidence"


def test_full_disk(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is half-written has a name, the message is clear, and with more room it goes on."""
    path, out = random_history(folder, random.Random(15), cuts=False, depth=2, events=60).path, tmp_path / "out"
    recovered(path, tmp_path / "whole")
    room = 40_000

    class Full:
        def __init__(self, fh: object):
            self.fh = fh

        def __getattr__(self, name: str) -> object:
            return getattr(self.fh, name)

        def write(self, data: bytes) -> int:
            nonlocal room
            room -= len(data)
            if room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.fh.write(data)

    opened = sparse_file.OutputFile._file
    with monkeypatch.context() as patch:
        patch.setattr(sparse_file.OutputFile, "_file", property(lambda file: Full(opened.fget(file))))
        with pytest.raises(RecoverError, match="no room left"):
            recovered(path, out)
    names = {entry.name for entry in out.iterdir()}
    assert not {name for name in names if not name.endswith(".partial")} - {"recover.json"}
    recovered(path, out)
    left_out = ("report.json", "recover.json")
    assert contents(out, *left_out) == contents(tmp_path / "whole", *left_out)


# Targets


def test_machine_with_several_disks(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Two disks of one name, a third that is broken: the two are recovered, the third is told, and that it is not all."""
    make_vm.make_vm(folder)
    other = folder / "b"
    chain = target_fixtures.small_chain(other, "web01", deltas=2)
    chain.links[2].extent.unmap(9, b"old")
    chain.write()
    both = folder / "both.vmx"
    both.write_bytes(vmx([NEWEST, f"b/{NEWEST}", "gone.vmdk"], "both").encode())
    out = tmp_path / "out"
    assert cli.main(["recover", str(both), "-o", str(out)]) == 1
    report = json.loads((out / "report.json").read_text())
    assert [disk["state"] for disk in report["disks"]] == ["done", "done", "failed"]
    assert "gone.vmdk" in report["disks"][2]["disk"]
    assert report["disks"][2]["reason"]
    assert [disk["files"]["image"] for disk in report["disks"][:2]] == ["web01-000002.raw", "web01-000002~2.raw"]
    assert "gone.vmdk: failed" in capsys.readouterr().out
    assert {"both.vmx", "web01.vmsd"} <= {Path(file["path"]).name for file in report["inputs"]}
    files = {line["file"] for line in lines_of(out / "manifest.jsonl")}
    assert files == {"web01-000002.raw", "web01-000002~2.raw"}


def test_uri_with_options(folder: Path, tmp_path: Path) -> None:
    path = target_fixtures.parent_missing(folder)
    assert cli.main(["recover", str(path), "-o", str(tmp_path / "refused")]) == 1
    assert not (tmp_path / "refused").exists()
    out = tmp_path / "out"
    assert cli.main(["recover", f"sesparse://{path.as_posix()}?unreadable=zero", "-o", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["options"][0]["unreadable"] == "zero"
    assert "parent-missing" in {finding["code"] for finding in report["disks"][0]["findings"]}


def test_lone_extent(folder: Path, tmp_path: Path) -> None:
    chain = ChainBuilder(folder, SECTORS)
    extent = chain.add_delta()
    extent.allocate(0)
    extent.unmap(5, grain_data("old", 5))
    extent.write(folder / "alone-sesparse.vmdk")
    out = tmp_path / "out"
    spec = f"sesparse://{(folder / 'alone-sesparse.vmdk').as_posix()}?unreadable=zero"
    assert cli.main(["recover", spec, "-o", str(out)]) == 0
    (line,) = lines_of(out / "manifest.jsonl")
    assert (line["file"], line["parent_state"]) == ("alone-sesparse.raw", None)
    assert bytes_at(out, line) == grain_data("old", 5)


@pytest.mark.parametrize("kind", ["nothing", "raw"])
def test_no_such_disk(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "in" / "disk.raw"
    path.parent.mkdir()
    if kind == "raw":
        path.write_bytes(bytes(4096))
    assert cli.main(["recover", str(path), "-o", str(tmp_path / "out")]) == 1
    assert "dissect-sesparse recover:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_wrong_usage() -> None:
    with pytest.raises(SystemExit) as error:
        cli.main(["recover", "vm.vmx"])
    assert error.value.code == 2


@pytest.mark.slow
def test_no_bar_but_on_a_terminal(example_vm: Path, tmp_path: Path) -> None:  # noqa: F811
    """In a pipe, standard error has nothing but warnings."""
    done = python("-m", "dissect_sesparse", "recover", example_vm, "-o", tmp_path / "out")
    assert done.stderr == ""
    assert "143360 bytes present" in done.stdout


def test_progress_ends_at_the_end(folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    recovered(random_history(folder, random.Random(16), 2).path, tmp_path / "out", lambda *now: told.append(now))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] == told[0][1]


def test_example(example_vm: Path, tmp_path: Path) -> None:  # noqa: F811
    """The script for users: short, and it works."""
    script = ROOT / "examples" / "recover_unmapped.py"
    assert len(script.read_text().splitlines()) < 40
    done = python(script, example_vm.parent / NEWEST, tmp_path / "out")
    assert "143360 bytes recovered" in done.stdout
    assert (tmp_path / "out" / "report.json").exists()


# Parts


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["web01-000002.vmdk", "web01-000002.vmdk"], ["web01-000002", "web01-000002~2"]),
        (["a.vmdk", "A.VMDK", "a~2.vmdk"], ["a", "A~02", "a_2"]),
        (["../../etc/passwd", "..\\x", "c:nul"], ["______etc_passwd", "___x", "c_nul"]),
        (["CON.vmdk", "lpt1", "com¹"], ["_CON", "_lpt1", "_com¹"]),
        (["", ".vmdk", "-rf"], ["disk", "disk~02", "rf"]),
        (["a.depth1.vmdk", "manifest.vmdk"], ["a_depth1", "manifest"]),
        (["客户.vmdk", "e\u0301", "\u00e9"], ["客户", "é", "é~02"]),
        (["a\x00b\nc\udcff"], ["a_b_c_"]),
    ],
)
def test_safe_names(names: list[str], stems: list[str]) -> None:
    assert safe_stems(names) == stems


def test_safe_names_are_short() -> None:
    (stem,) = safe_stems(["客" * 500])
    assert 0 < len(stem.encode()) <= 80


@pytest.mark.parametrize("unit", [512, 4096])
def test_coverage(unit: int) -> None:
    """A set of ranges, against a set of numbers."""
    rng, size = random.Random(unit), 9000 * unit - 100
    coverage, plain = Coverage(unit), set()
    for _ in range(60):
        first = rng.randrange(8990)
        count = rng.choice((1, 2, 7, rng.randrange(1, 5000)))
        offset, length = first * unit, min((first + count) * unit, size) - first * unit
        pieces = list(coverage.split(offset, length))
        position = offset
        for start, have, inside in pieces:
            assert start == position
            position += have
            assert {number in plain for number in range(start // unit, -(-position // unit))} == {inside}
        assert position == offset + length
        assert all(a[2] != b[2] for a, b in zip(pieces, pieces[1:]))
        if rng.random() < 0.5:
            coverage.add(offset, length)
            plain.update(range(first, -(-(offset + length) // unit)))
    ranges = list(coverage.ranges(size))
    told = [number for start, have in ranges for number in range(start // unit, -(-(start + have) // unit))]
    assert told == sorted(plain)
    assert all(a[0] + a[1] < b[0] for a, b in zip(ranges, ranges[1:]))


def test_map_of_everything_and_nothing() -> None:
    rows = [list(map_lines(100, recovered, "1"))[5:] for recovered in ([], [(0, 100)], [(10, 20)])]
    assert [len(lines) for lines in rows] == [1, 1, 3]
    assert rows[2][-1] == "0x0000001E  0x00000046  ?\n"


def test_zeros_are_no_writes(folder: Path, tmp_path: Path) -> None:
    """An empty grain is recovered, and its image has the zeros that it had."""
    chain = ChainBuilder(folder, SECTORS)
    extent = chain.add_delta()
    extent.allocate(0)
    extent.unmap(5, ZEROS)
    recovered(chain.write(), tmp_path / "out")
    (line,) = lines_of(tmp_path / "out" / "manifest.jsonl")
    assert (line["state"], line["digest"]["sha256"]) == ("empty", hashlib.sha256(ZEROS).hexdigest())
    assert bytes_at(tmp_path / "out", line) == ZEROS
    assert (5 * 4096, 4096, "+") in ranges_of(tmp_path / "out" / "vm-000001.map")
