"""The README's commands run as they stand, in a copy of the project, with nothing set up before."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from readme_commands import README, commands

ROOT = README.parent


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's files, and no environment."""
    folder = tmp_path_factory.mktemp("readme") / "clone"
    ignore = shutil.ignore_patterns(".git", ".venv*", ".coverage*", "__pycache__", ".*_cache", ".hypothesis", "build")
    shutil.copytree(ROOT, folder, ignore=ignore)
    return folder


def run(command: str, folder: Path, **environment: str) -> str:
    if os.name == "nt":
        pytest.skip("the README's commands are for a POSIX shell; it says what to change on Windows")
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST", "DISSECT"))}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=keep | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if done.returncode and re.search("No matching distribution|connection", done.stderr) and "CI" not in os.environ:
        pytest.skip("no package registry can be reached, so the README's commands cannot install")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
def test_example_command(clone: Path) -> None:
    """The first command prints records of the example VM."""
    printed = run(commands()["example"], clone)
    assert printed.count("<virtualization/vmware/sesparse/link ") == 3
    assert "web01-000002.vmdk" in printed


@pytest.mark.slow
def test_tests_command(clone: Path) -> None:
    """The second command installs and runs the tests: here only a few of them, or it would run itself for ever."""
    if os.environ.get("SESPARSE_README_TESTS"):
        pytest.skip("this command has just been run, with all tests, by .ci/run")
    printed = run(commands()["tests"], clone, PYTEST_ADDOPTS="-k decode --ignore=tests/test_readme.py")
    assert re.search(r"\d+ passed", printed), printed


def test_python_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The README's lines of Python run on the example VM."""
    import make_vm

    make_vm.make_vm(tmp_path / "vm")
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)\n```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    assert len(code[1].splitlines()) <= 12
    exec(code[1], {})
    assert "UNMAPPED" in capsys.readouterr().out


def test_records_shown_are_what_is_printed(tmp_path: Path) -> None:
    """The records that the README shows are among those of the example, but for the path of the folder."""
    import make_vm
    from dissect.target import Target

    sesparse = Target.open(make_vm.make_vm(tmp_path / "vm")).sesparse
    records = [*sesparse.chain(), *sesparse.unmapped()]
    printed = [str(record).replace(f"{tmp_path}{os.sep}", "") for record in records]
    shown = [record for record in shown_records() if "sesparse/file " not in record]
    assert len(shown) == 2
    for record in shown:
        assert record.replace("vm/web", f"vm{os.sep}web") in printed


def shown_records() -> list[str]:
    """The records that the README shows."""
    return re.findall(r"```text\n(<virtualization/.*?>)\n```", README.read_text("utf-8"), re.DOTALL)


@pytest.mark.slow
def test_story(tmp_path: Path) -> None:
    """One VM, three snapshots, a file deleted and trimmed, found by name and brought back, in five commands."""
    import make_vm

    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    if os.name == "posix":
        (tmp_path / ".venv").symlink_to(sys.prefix)  # what the first command sets up
    command = commands()["story"]
    assert len(command.splitlines()) == 5
    printed = run(command, tmp_path)
    for name, _, _ in (*make_vm.SNAPSHOTS, make_vm.THIRD_SNAPSHOT):
        assert f"name='{name}'" in printed
    deleted = make_vm.DELETED | make_vm.THIRD_DELETED
    assert printed.count("<virtualization/vmware/sesparse/file ") == len(deleted)
    (shown,) = (record for record in shown_records() if "sesparse/file " in record)
    assert shown in printed
    files = {path for top in ("files", "likely") for path in (tmp_path / "found" / top).rglob("*") if path.is_file()}
    digests = {hashlib.sha256(path.read_bytes()).hexdigest(): path.as_posix() for path in files}
    assert set(digests) == set(deleted.values())
    assert all(digests[digest].endswith(path) for path, digest in deleted.items())
    back = (tmp_path / command.split()[-1]).read_text().splitlines()
    assert printed.splitlines()[-3:] == back[:3]
    assert printed.splitlines()[-3] == "date,to,account,amount"


def test_timeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The lines that the README shows are lines of the command, in that order; ``...`` stands for anything."""
    import make_vm

    from dissect_sesparse import cli

    shown = re.search(r"<!-- output: timeline -->\n```text\n(.*?)\n```", README.read_text("utf-8"), re.DOTALL)
    assert shown is not None
    assert cli.main(["timeline", str(make_vm.make_vm(tmp_path / "story", 3))]) == 0
    printed = iter(capsys.readouterr().out.splitlines())
    for line in shown[1].splitlines():
        pattern = re.compile(".*".join(map(re.escape, line.split("..."))))
        assert any(pattern.fullmatch(each) for each in printed), line


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)", README.read_text(encoding="utf-8")))
def test_links(link: str) -> None:
    assert (ROOT / link).exists()


def test_options_are_documented() -> None:
    from dissect_sesparse.source.options import CHOICES

    text = README.read_text(encoding="utf-8")
    for name in (*CHOICES, "parent"):
        assert f"| `{name}` |" in text
