"""``dissect-sesparse check``: the findings as a table, and exit codes that a script can use."""

from __future__ import annotations

import re
import tarfile
from typing import TYPE_CHECKING

import pytest
import target_fixtures
from sesparse_builder import ExtentBuilder, vmx
from target_fixtures import FINDING_CASES, NEWEST, small_chain, tool, two_disks

from dissect_sesparse import cli, open_chain
from dissect_sesparse.files.volumes import filesystem_findings
from dissect_sesparse.findings.findings import findings
from dissect_sesparse.source.text import columns, printable

if TYPE_CHECKING:
    from pathlib import Path

example = target_fixtures.example_vm


def check(target: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli.main(["check", str(target)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["web01.vmx", NEWEST, "web01-000002-sesparse.vmdk", "."])
def test_clean(example: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """By its configuration, its descriptor, its extent and its folder."""
    code, out, err = check(example.parent / name, capsys)
    assert (code, out) == (0, "web01-000002.vmdk: 3 links, 67108864 bytes: no findings\n")
    assert "Traceback" not in err


def test_tar(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = target_fixtures.entry_invalid(folder)
    (folder / "vm.vmx").write_text(vmx([path.name], "vm"), encoding="utf-8")
    with tarfile.open(tmp_path / "vm.tar", "w") as tar:
        for entry in sorted(folder.iterdir()):
            tar.add(entry, entry.name)
    code, out, _ = check(tmp_path / "vm.tar", capsys)
    assert code == 3
    assert "entry-invalid" in out


@pytest.mark.slow
@pytest.mark.parametrize("code", sorted(set(FINDING_CASES) - {"unreadable", "parent-missing"}))
def test_each_finding(folder: Path, capsys: pytest.CaptureFixture[str], code: str) -> None:
    """A row for each, with its numbers and its words."""
    path = FINDING_CASES[code][0](folder)
    exit_code, out, _ = check(path, capsys)
    assert exit_code == 3
    with open_chain(path) as chain:
        expected = [*findings(chain), *filesystem_findings(chain)]
    head, *rows = out.splitlines()[1:]
    assert head.split() == ["LEVEL", "CODE", "LINK", "IN", "FILE", "ON", "DISK", "SIZE", "WHAT"]
    assert len(rows) == len(expected)
    for finding in expected:
        (row,) = (row for row in rows if row.endswith(finding.message))
        level, code_, _, in_file, on_disk, size = row.split()[:6]
        assert (level, code_) == (finding.level, finding.code)
        assert in_file == ("-" if finding.source_offset is None else hex(finding.source_offset))
        assert on_disk == ("-" if finding.offset is None else hex(finding.offset))
        assert size == ("-" if finding.size is None else str(finding.size))


def test_the_worst_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chain = small_chain(folder)
    extent = chain.links[-1].extent
    extent.patch(0x800, b"\x01")  # info
    extent.patch(0x180, b"\x07")  # warning
    extent.set_entry(100, 0x4 << 60)  # error
    code, out, _ = check(chain.write(), capsys)
    assert code == 3
    assert [row.split()[0] for row in out.splitlines()[2:]] == ["error", "warning", "info"]
    assert out.splitlines()[0].endswith("1 error, 1 warning, 1 info")


def test_information_is_listed(real_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line of a host's log is no damage: it is in the table."""
    code, out, _ = check(f"sesparse://{real_path}?unreadable=zero", capsys)
    assert code == 3, "the parent is missing: an error"
    assert re.search(r"info +host-memory .*user=root", out)


def test_unreadable_target(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bare extent, whose parent is not known: refused, with the reason."""
    small_chain(folder).write()
    (folder / "vm-000001.vmdk").unlink()
    code, out, err = check(folder / "vm-000001-sesparse.vmdk", capsys)
    assert (code, out) == (1, "")
    assert "no descriptor names this extent" in err
    assert "vm.vmdk (fits" in err


@pytest.mark.parametrize("name", ["missing.vmx", "folder", "text.txt"])
def test_no_target(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (folder / "folder").mkdir()
    (folder / "text.txt").write_text("no disk at all")
    code, out, err = check(folder / name, capsys)
    assert (code, out) == (1, "")
    assert "dissect-sesparse check: " in err
    assert "Traceback" not in err


def test_one_disk_of_two_is_broken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The other one is checked all the same."""
    extent = ExtentBuilder(target_fixtures.EXAMPLE_SECTORS)
    extent.set_header(0, 0xBAD)
    code, out, _ = check(two_disks(folder, extent), capsys)
    assert code == 1
    assert "web01-000002.vmdk: 3 links, 67108864 bytes: no findings" in out
    assert re.search(r"^scsi0:0 a-bad.vmdk: failed: .*magic", out, re.MULTILINE)


def test_disk_that_is_not_ours(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A flat disk of the VM is passed over, and said."""
    path = small_chain(folder).write()
    small_chain(folder, "data", deltas=0).write()
    (folder / "vm.vmx").write_text(vmx([path.name, "data.vmdk"], "vm"), encoding="utf-8")
    code, out, _ = check(folder / "vm.vmx", capsys)
    assert code == 0
    assert "skipped: no seSparse extent" in out


def test_hostile_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a terminal obeys is shown."""
    path = small_chain(folder).write()
    hint = "\x1b]0;evil\x07\x1b[2J/vm.vmdk"
    path.write_bytes(path.read_bytes().replace(b'"vm.vmdk"', f'"{hint}"'.encode()))
    code, out, err = check(path, capsys)
    assert code == 3
    assert "\x1b" not in out + err
    assert "\\x1b" in out


@pytest.mark.parametrize("arguments", [[], ["--nosuch", "a"]])
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["check", *arguments])
    assert caught.value.code == 2


@pytest.mark.slow
def test_in_a_process_of_its_own(folder: Path) -> None:
    """As a script runs it."""
    path = target_fixtures.padding_nonzero(folder)
    done = tool("dissect-sesparse", "check", path, check=False)
    assert done.returncode == 3
    assert done.stdout.count("padding-nonzero") == 2
    assert "padding-nonzero" not in done.stderr, "once is enough"


def test_printable() -> None:
    assert printable("plain é 日本") == "plain é 日本"
    assert printable("a\nb\x1b\u202e\udc80") == "a\\nb\\x1b\\u202e\\udc80"


def test_columns() -> None:
    rows = [("a", "1", "last"), ("long", "22", ""), ("", "3", "x  y")]
    assert list(columns(rows, frozenset((1,)))) == ["a      1  last", "long  22", "       3  x  y"]
