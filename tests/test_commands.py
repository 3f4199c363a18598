"""What all commands share: every machine of every target, exit codes, and nothing that a terminal obeys."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import socket
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import target_fixtures
from sesparse_builder import vmx
from target_fixtures import small_chain, tool

from dissect_sesparse import cli
from dissect_sesparse.commands import check as check_command
from dissect_sesparse.commands import runner
from dissect_sesparse.commands.outcome import Outcome
from dissect_sesparse.recovery.safe_name import distinct_names

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTILE = "\x1b]0;evil\x07\x9b2J\u202egnp\u2066\u200e\u061c"
"""An escape sequence, a C1 control, marks that turn the direction."""
NAME = "\x9b2J\u202egnp\u2066\u200e\u061c"
"""The same for a file that evidence names: with characters below 32 it is refused."""
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]")


def machine(folder: Path, name: str = "vm", make: Callable | None = None) -> Path:
    """A VM with one disk."""
    folder.mkdir(parents=True, exist_ok=True)
    path = small_chain(folder, name).write() if make is None else make(folder)
    (folder / f"{name}.vmx").write_bytes(vmx([path.name], name).encode())
    return folder / f"{name}.vmx"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as e:
        code = int(str(e.code))
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert not OBEYED.search(out + err)
    return code, out, err


# All machines


def test_check_takes_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two VMs in one folder, one in a folder in a folder, one in a tar: none is left out."""
    machine(tmp_path / "two", "one")
    machine(tmp_path / "two", "other")
    machine(tmp_path / "deep" / "a", "third")
    machine(tmp_path / "packed", "fourth")
    with tarfile.open(tmp_path / "vm.tar", "w") as tar:
        tar.add(tmp_path / "packed", "packed")
    code, out, err = run(capsys, "check", tmp_path / "two", tmp_path / "deep", tmp_path / "vm.tar")
    assert code == 0, err
    for name in ("one", "other", "third", "fourth"):
        assert out.count(f"{name}-000001.vmdk: 2 links") == 1


def test_the_worst_of_all_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine(tmp_path / "a")
    odd = machine(tmp_path / "b", make=target_fixtures.entry_invalid)
    assert run(capsys, "check", tmp_path / "a", odd)[0] == 3
    code, out, err = run(capsys, "check", odd, tmp_path / "missing", tmp_path / "a")
    assert code == 1
    assert "missing: no such file or folder" in err
    assert out.count(": 2 links") == 2, "one that is missing costs no other"


def test_information_does_not_count(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chain = small_chain(folder)
    chain.links[-1].extent.patch(0x800, b"\x01")
    code, out, _ = run(capsys, "check", chain.write())
    assert (code, "1 info" in out) == (0, True)


def test_a_machine_that_cannot_be_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside one that can: said, and no command ends with 0."""
    machine(tmp_path / "vms", "good")
    machine(tmp_path / "vms", "bad")
    (tmp_path / "vms" / "bad-000001-sesparse.vmdk").unlink()
    for command in (["check"], ["recover", "-o", tmp_path / "out"], ["report", "-o", tmp_path / "page.html"]):
        code, out, err = run(capsys, *command, tmp_path / "vms")
        assert code == 1, command
        assert "bad-000001-sesparse.vmdk" in out + err
        assert "good-000001.vmdk: " in out
    assert "bad.vmx" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_recover_of_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each in a folder of its own; those of one name are told apart by their folders."""
    for place, name in (("a", "web01"), ("b", "web01"), ("b", "db")):
        machine(tmp_path / "vms" / place, name)
    out_folder = tmp_path / "out"
    code, _, err = run(capsys, "recover", tmp_path / "vms", "-o", out_folder)
    assert code == 0, err
    assert sorted(path.name for path in out_folder.iterdir()) == ["a-web01", "b-web01", "db"]
    target = json.loads((out_folder / "b-web01" / "report.json").read_text())["target"]
    assert target == str(tmp_path / "vms" / "b" / "web01.vmx")
    code, out, _ = run(capsys, "recover", tmp_path / "vms", "-o", out_folder)
    assert (code, out.count("verified, all was there")) == (0, 3)


def test_recover_of_one_is_as_ever(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine(tmp_path / "vms" / "a", "web01")
    out = tmp_path / "out"
    assert run(capsys, "recover", tmp_path / "vms", "-o", out)[0] == 0
    assert (out / "report.json").is_file()
    machine(tmp_path / "vms" / "b", "web01")
    code, _, err = run(capsys, "recover", tmp_path / "vms", "-o", out)
    assert code == 1
    assert "one machine was recovered into it" in err
    assert not (out / "a-web01").exists()


def test_report_of_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One page, on which each disk has its machine's name."""
    for place in ("a", "b"):
        machine(tmp_path / "vms" / place, "web01", target_fixtures.entry_invalid)
    code, out, err = run(capsys, "report", tmp_path / "vms", "-o", tmp_path / "page.html")
    assert code == 0, err
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for name in ("a-web01: vm-000001.vmdk", "b-web01: vm-000001.vmdk"):
        assert name in page
        assert f"{name}: 2 links" in out
    assert str(tmp_path / "vms" / "b" / "web01.vmx") in page, "an input file"


def test_what_is_about_a_folder_is_said_of_each_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two archives have the same paths inside: a finding of one does not stand for that of the other."""
    machine(tmp_path / "vm")
    target_fixtures.add_delta(tmp_path / "vm", "left", None, tmp_path / "vm" / "vm.vmdk", "00000000", "12345678")
    targets = []
    for name in ("a", "b"):
        targets.append(tmp_path / f"{name}.tar")
        with tarfile.open(targets[-1], "w") as tar:
            tar.add(tmp_path / "vm", ".")
    _, out, _ = run(capsys, "check", *targets)
    assert out.count("orphan-link") == 2


def test_machines_without_our_disks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a folder: said, no failure. Named, or nothing else there: a failure."""
    (tmp_path / "vms").mkdir(parents=True)
    small_chain(tmp_path / "vms", "flat", deltas=0).write()
    (tmp_path / "vms" / "flat.vmx").write_bytes(vmx(["flat.vmdk"], "flat").encode())
    code, _, err = run(capsys, "check", tmp_path / "vms")
    assert (code, "no seSparse disk" in err) == (1, True)
    machine(tmp_path / "vms" / "ours")
    code, out, _ = run(capsys, "check", tmp_path / "vms")
    assert code == 0
    assert "flat.vmx: skipped: no seSparse disk" in out
    assert run(capsys, "check", tmp_path / "vms" / "flat.vmx")[0] == 1


def test_loose_disks_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest of each chain, once, whether by its descriptor or its extent."""
    small_chain(tmp_path, "one", deltas=2).write()
    small_chain(tmp_path, "two").write()
    code, out, _ = run(capsys, "check", tmp_path)
    assert code == 0
    assert re.findall(r"^(\S+): \d links", out, re.MULTILINE) == ["one-000002.vmdk", "two-000001.vmdk"]


def test_names_told_apart() -> None:
    assert distinct_names(["/x/a/vm.vmx", "/x/b/vm.vmx", "/x/b/db.vmx"]) == ["a-vm", "b-vm", "db"]
    assert distinct_names(["/x/a/vm.vmx", "/y/a/vm.vmx"]) == ["x-a-vm", "y-a-vm"]
    assert distinct_names(["/1/x/a/vm.vmx", "/2/x/a/vm.vmx"]) == ["x-a-vm", "x-a-vm~02"]
    assert distinct_names(["vm.vmx", "VM.vmx", "../.."]) == ["vm", "VM~02", "disk"]
    assert distinct_names(["/b/vm.vmx"], ["vm"]) == ["b-vm"]


# Exit codes


def test_outcome() -> None:
    outcome = Outcome()
    assert (outcome.complete, outcome.code) == (True, 0)
    outcome.odd = True
    assert outcome.code == 3
    outcome.not_all("a volume was not opened")
    assert (outcome.complete, outcome.code) == (False, 1)


def test_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """dissect's own loaders raise StopIteration."""
    (tmp_path / "empty").mkdir()
    for command in (["check"], ["recover", "-o", tmp_path / "o"], ["report", "-o", tmp_path / "p.html"]):
        code, _, err = run(capsys, *command, tmp_path / "empty")
        assert (code, "an empty folder" in err) == (1, True)
        code, _, err = run(capsys, *command, f"sesparse://{tmp_path / 'empty'}?unreadable=zero")
        assert code == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("\x1b[2J"), RecursionError(), MemoryError()])
@pytest.mark.parametrize("command", ["check", "recover", "report"])
def test_whatever_happens(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    error: BaseException,
) -> None:
    """One line, and 1."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(runner, "disks_of", fail)
    more = [] if command == "check" else ["-o", tmp_path / "out"]
    code, out, err = run(capsys, command, machine(tmp_path / "vm"), *more)
    assert (code, out, err.count("\n")) == (1, "", 1)


def test_interrupted_anywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    for command in ("status", "plugin_path", "descriptor", "fleet"):
        monkeypatch.setattr(cli, command, interrupt)
    for arguments in (["status"], ["plugin-path"], ["descriptor", "x"], ["fleet", "x", "-o", "y"]):
        assert run(capsys, *arguments)[::2] == (1, f"dissect-sesparse {arguments[0]}: interrupted\n")


# What goes out


@pytest.mark.slow
def test_names_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Folders, VMs, snapshots' extents and options of hostile names, in results, errors, usage and log."""
    if os.name != "posix":
        pytest.skip("the file system takes no such names")
    folder = tmp_path / HOSTILE
    machine(folder, "good")
    machine(folder, NAME)
    more = ([], ["-o", tmp_path / f"out{HOSTILE}"], ["-o", tmp_path / f"page{HOSTILE}.html"])
    for command, options in zip(("check", "recover", "report"), more):
        code, out, _ = run(capsys, command, folder, *options, "-vv")
        assert code == 0, out
        assert "\\u202e" in out
        assert run(capsys, command, folder / f"none{HOSTILE}", *options)[0] == 1
        assert run(capsys, command, folder, *options, f"--{HOSTILE}")[0] == 2
    assert run(capsys, "descriptor", folder / f"none{HOSTILE}")[0] == 1
    assert run(capsys, "fleet", folder / f"none{HOSTILE}", "-o", tmp_path / f"fleet{HOSTILE}")[0] == 1


@pytest.mark.slow
def test_log_of_dissects_tools(tmp_path: Path) -> None:
    """A warning with a name of the evidence; and with -q none."""
    if os.name != "posix":
        pytest.skip("the file system takes no such names")
    path = small_chain(tmp_path, NAME).write()
    path.write_bytes(re.sub(rb"parentCID=\w+", b"parentCID=12345678", path.read_bytes()))
    loud = tool("target-query", path, "-f", "sesparse.chain", check=False)
    assert "cid-mismatch" in loud.stderr
    assert not OBEYED.search(re.sub("\x1b\\[[0-9;]*m", "", loud.stderr)), "colours are of dissect's log"
    quiet = tool("target-query", "-q", path, "-f", "sesparse.chain", check=False)
    assert "mismatch" not in quiet.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LANG": "C", "PYTHONIOENCODING": "ascii:strict"}]
)
def test_names_that_the_output_cannot_encode(tmp_path: Path, environment: dict[str, str]) -> None:
    path = machine(tmp_path / "日本é")
    for command, more in (
        ("check", []),
        ("recover", ["-o", tmp_path / "öut"]),
        ("report", ["-o", tmp_path / "pagé.html"]),
    ):
        done = tool("dissect-sesparse", command, path, tmp_path / "日本é", *more, check=False, **environment)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_one_place_where_output_goes_out() -> None:
    """Where a name of the evidence could be written raw: no other module prints, or has a logger of its own making."""
    package = Path(cli.__file__).parent
    assert (package / "commands" / "output.py").is_file()
    for path in package.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        prints = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"]
        assert not prints or path.name == "output.py", path
        assert "logging.getLogger(__name__)" not in map(ast.unparse, (n for n in nodes if isinstance(n, ast.Call))), (
            path
        )


@pytest.mark.slow
def test_quiet_and_verbose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = machine(tmp_path / "vm", make=target_fixtures.padding_nonzero)
    for command, more in (("recover", ["-o", tmp_path / "o"]), ("report", ["-o", tmp_path / "p.html", "--force"])):
        assert "padding-nonzero" in run(capsys, command, path, *more)[2]
        assert run(capsys, command, path, *more, "-q")[2] == ""
    assert "padding-nonzero" not in run(capsys, "check", path)[2], "it is in the table"
    assert "padding-nonzero" in run(capsys, "check", path, "-v")[2]


@pytest.mark.slow
@pytest.mark.parametrize("lines", [0, 1])
def test_who_reads_it_goes(tmp_path: Path, lines: int) -> None:
    """As ``| head``: no traceback, and what is written is written."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    path = machine(tmp_path / "vm", make=target_fixtures.padding_nonzero)
    command = Path(tool_path("dissect-sesparse"))
    for name, more in (("check", ""), ("recover", f"-o {tmp_path / 'o'}"), ("report", f"-o {tmp_path / 'p.html'}")):
        script = f"'{command}' {name} -q '{path}' '{path.parent}' {more} | head -n {lines}; echo ${{PIPESTATUS[0]}} >&2"
        done = target_fixtures.run("bash", "-c", script)
        assert done.stderr.strip() in ("0", "1", "3"), done.stderr
    assert (tmp_path / "p.html").is_file()
    assert (tmp_path / "o").is_dir()


def tool_path(name: str) -> str:
    import sys

    return str(Path(sys.executable).parent / name)


# What would wait for ever


@pytest.fixture(params=["fifo", "socket", "link", "device"])
def odd_file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no FIFOs on this system")
    path = tmp_path / "odd.vmdk"
    if request.param == "device":
        path.symlink_to("/dev/zero")
    elif request.param == "socket":
        monkeypatch.chdir(tmp_path)  # their paths are short
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("odd.vmdk")
    else:
        os.mkfifo(path if request.param == "fifo" else tmp_path / "fifo")
        if request.param == "link":
            path.symlink_to(tmp_path / "fifo")
    return path


@pytest.mark.slow
def test_fifo_as_target(odd_file: Path, tmp_path: Path) -> None:
    """In processes of their own, which end: the time-out of :func:`tool` fails the test."""
    extent = tmp_path / "lost-sesparse.vmdk"
    small_chain(tmp_path / "vm").write()
    shutil.copy(tmp_path / "vm" / "vm-000001-sesparse.vmdk", extent)
    vm = machine(tmp_path / "vms")
    for arguments in (
        ["check", odd_file],
        ["check", f"sesparse://{odd_file}?unreadable=zero"],
        ["recover", odd_file, "-o", tmp_path / "o"],
        ["recover", vm, "-o", odd_file],
        ["report", odd_file, "-o", tmp_path / "p.html"],
        ["report", vm, "-o", odd_file],
        ["report", vm, "-o", odd_file, "--force"],
        ["descriptor", odd_file],
        ["descriptor", extent, "--parent", odd_file],
        ["check", f"sesparse://{vm.parent / 'vm-000001.vmdk'}?parent={odd_file}"],
    ):
        done = tool("dissect-sesparse", *arguments, check=False)
        assert done.returncode == 1, (arguments, done.stdout)
        assert "Traceback" not in done.stderr
    assert odd_file.exists()
    assert not odd_file.is_file()


@pytest.mark.slow
def test_fifo_as_target_of_dissects_tools(odd_file: Path, tmp_path: Path) -> None:
    """Refused by the loader that is asked first. A device is dissect's to open: it does not wait."""
    if odd_file.is_char_device():
        pytest.skip("a device, which dissect opens")
    for target in (odd_file, f"sesparse://{odd_file}?unreadable=zero"):
        done = tool("target-query", target, "-f", "sesparse.chain", check=False)
        assert "it is not opened" in done.stderr


def test_fifo_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside folders of VMs: passed over, and said."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no FIFOs on this system")
    machine(tmp_path / "vms" / "a")
    os.mkfifo(tmp_path / "vms" / "x.vmdk")
    code, out, err = run(capsys, "check", tmp_path / "vms")
    assert (code, "x.vmdk" in err, "2 links" in out) == (0, True, True)


# Options


@pytest.mark.slow
def test_option_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = machine(tmp_path / "vm")
    for query in ("view=residual&view=guest", "view=guest&view=guest", "parent=a&unreadable=zero&parent=b"):
        code, _, err = run(capsys, "check", f"sesparse://{path}?{query}")
        assert (code, "given twice" in err) == (1, True)
        done = tool("target-query", f"sesparse://{path}?{query}", "-f", "sesparse.chain", check=False)
        assert "given twice" in done.stderr
        assert "sesparse/link" not in done.stdout


def test_no_findings_only_where_it_was_looked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dissect_sesparse.source.errors import SESparseError

    def fail(_: object) -> None:
        raise SESparseError("gone")

    monkeypatch.setattr(check_command, "findings", fail)
    code, out, _ = run(capsys, "check", machine(tmp_path / "vm"))
    assert (code, "no findings" in out, "not all was looked at" in out) == (1, False, True)


@pytest.mark.slow
def test_states_that_there_are_not(tmp_path: Path) -> None:
    """Of target-query: wrong usage, and what there is."""
    path = machine(tmp_path / "vm")
    done = tool("target-query", path, "-f", "sesparse.unmapped", "--state", "presnt", check=False)
    assert done.returncode == 2
    assert "no state presnt: there are present, empty, reused" in done.stderr
    assert "Traceback" not in done.stderr
