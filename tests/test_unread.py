"""What lies beside a disk and cannot be read is a finding, never the same as nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sesparse_builder import vmx
from target_fixtures import small_chain

from dissect_sesparse import cli, open_chain
from dissect_sesparse.findings import unread as module
from dissect_sesparse.findings.findings import Once, findings
from dissect_sesparse.source.file import EvidenceFile

if TYPE_CHECKING:
    from collections.abc import Callable

LIST = b'.encoding = "UTF-8"\nsnapshot.lastUID = "1"\nsnapshot.numSnapshots = "0"\n'


def told(path: Path, **options: Any) -> list[tuple[str, str, str]]:
    """Code, level and file name of what is found."""
    with open_chain(path, **options) as chain:
        return [(f.code, f.level, getattr(f.source, "name", "")) for f in findings(chain)]


def a_folder(path: Path) -> None:
    path.mkdir()


def a_fifo(path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no FIFOs on this system")
    os.mkfifo(path)


def too_large(path: Path) -> None:
    path.write_bytes(LIST + b"#" * (1 << 20))


def encrypted(path: Path) -> None:
    path.write_bytes(bytes((n * 197 + n // 256) % 256 for n in range(3000)))


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(700))


def no_values(path: Path) -> None:
    path.write_bytes(b"ransom note: pay\n" * 4)


def link_to_nothing(path: Path) -> None:
    _link(path, "gone")


def link_out(path: Path) -> None:
    outside = path.parent.parent.parent / "analyst.vmsd"
    outside.write_bytes(LIST)
    _link(path, outside)


def _link(path: Path, to: object) -> None:
    try:
        path.symlink_to(str(to))
    except OSError as e:
        pytest.skip(f"no symbolic links here: {e}")


WAYS: list[Callable[[Path], None]] = [
    a_folder, a_fifo, too_large, encrypted, zeroed, no_values, link_to_nothing, link_out,
]  # fmt: skip


@pytest.fixture
def vm(tmp_path: Path) -> Path:
    """The newest descriptor of a disk in a folder with siblings of its own."""
    folder = tmp_path / "store" / "vm"
    folder.mkdir(parents=True)
    return small_chain(folder, deltas=2).write()


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_snapshot_list(vm: Path, way: Callable[[Path], None], capsys: pytest.CaptureFixture[str]) -> None:
    """By the command that an analyst runs, and in no time: a FIFO is never opened."""
    way(vm.parent / "vm.vmsd")
    assert cli.main(["check", str(vm)]) == 3
    out = capsys.readouterr().out
    (row,) = (line for line in out.splitlines() if "snapshot-list-unreadable" in line)
    assert row.split()[0] == "warning"
    assert "vm.vmsd" in row


@pytest.mark.parametrize("text", [b"", b"\r\n", LIST, LIST + bytes(100), b"\xef\xbb\xbf" + LIST, b'a = "\xe9"\n'])
def test_lists_that_say_nothing_are_whole(vm: Path, text: bytes) -> None:
    """ESXi leaves an empty list beside a VM without snapshots."""
    (vm.parent / "vm.vmsd").write_bytes(text)
    assert told(vm) == []


def test_copy_of_a_list(vm: Path) -> None:
    encrypted(vm.parent / "vm.vmsd.bak")
    assert told(vm) == [("snapshot-list-unreadable", "info", "vm.vmsd.bak")]


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, what: str) -> None:
    """A system that refuses to open, or to read, a file."""
    real_open, real_read = os.open, EvidenceFile._read_once

    def opening(path: str, *args: Any, **kwargs: Any) -> Any:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied")
        return real_open(path, *args, **kwargs)

    def reading(self: EvidenceFile, offset: int, length: int) -> bytes:
        if self.name == name:
            raise OSError(5, "Input/output error")
        return real_read(self, offset, length)

    if what == "open":
        monkeypatch.setattr(os, "open", opening)
    else:
        monkeypatch.setattr(EvidenceFile, "_read_once", reading)


@pytest.mark.parametrize("what", ["open", "read"])
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("vm.vmsd", "snapshot-list-unreadable"),
        ("other.vmx", "unreadable"),
        ("other.vmdk", "unreadable"),
        ("other-sesparse.vmdk", "unreadable"),
    ],
)
def test_refused_by_the_system(vm: Path, monkeypatch: pytest.MonkeyPatch, what: str, name: str, code: str) -> None:
    (vm.parent / name).write_bytes(LIST)
    refuse(monkeypatch, name, what)
    assert (code, "warning", name) in told(vm)


def test_folder_that_cannot_be_listed(vm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.iterdir

    def broken(self: Path) -> Any:
        yield from list(real(self))[:1]
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "iterdir", broken)
    assert ("unreadable", "warning", "vm") in told(vm)


@pytest.mark.parametrize("way", [a_folder, a_fifo, encrypted, zeroed])
@pytest.mark.parametrize("name", ["other.vmx", "vm-000009.vmdk"])
def test_configurations_and_descriptors(vm: Path, way: Callable[[Path], None], name: str) -> None:
    way(vm.parent / name)
    assert told(vm) == [("unreadable", "warning", name)]


def test_descriptor_with_a_line_that_makes_no_sense(vm: Path) -> None:
    text = vm.read_bytes().replace(b"version=1", b"vers\x00\xff\x01ion 1")
    (vm.parent / "vm-000009.vmdk").write_bytes(text)
    assert told(vm) == [("unreadable", "warning", "vm-000009.vmdk")]


def test_extents_are_no_descriptors(vm: Path) -> None:
    """Bytes of a disk may look like anything, by the names that descriptors give them or that ESXi gives them."""
    for name in ("a-flat.vmdk", "a-ctk.vmdk", "a-s001.vmdk"):
        encrypted(vm.parent / name)
    encrypted(vm.parent / "bytes.vmdk")
    descriptor = '# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\nRW 2 FLAT "bytes.vmdk" 0\n'
    (vm.parent / "z.vmdk").write_text(descriptor, encoding="utf-8")
    assert told(vm) == []


def test_what_nothing_is_concluded_from(vm: Path) -> None:
    for name in ("vm.vmxf", "vm.nvram", "vmware.log", "hostd.log"):
        a_folder(vm.parent / name)
    assert told(vm) == []


def test_logs_count_where_headers_are_rebuilt(vm: Path) -> None:
    a_folder(vm.parent / "hostd.log")
    assert told(vm, salvage="1") == [("unreadable", "warning", "hostd.log")]


def test_bare_extent(vm: Path) -> None:
    """One that no descriptor names any more has a folder too."""
    vm.unlink()
    encrypted(vm.parent / "vm.vmsd")
    found = told(vm.parent / f"{vm.stem}-sesparse.vmdk", unreadable="zero")
    assert ("snapshot-list-unreadable", "warning", "vm.vmsd") in found


def test_list_of_a_template(tmp_path: Path) -> None:
    """A linked clone's times are in the list beside its parent."""
    clone, template = tmp_path / "clone", tmp_path / "template"
    clone.mkdir()
    template.mkdir()
    path = small_chain(template).write()
    for name in (path.name, f"{path.stem}-sesparse.vmdk"):
        (template / name).rename(clone / name)
    path = clone / path.name
    path.write_text(path.read_text().replace('Hint="', 'Hint="../template/'), encoding="utf-8")
    encrypted(template / "vm.vmsd")
    with open_chain(path) as chain:
        (finding,) = findings(chain)
        assert (finding.code, finding.depth) == ("snapshot-list-unreadable", 1)


def test_many(vm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 20)
    monkeypatch.setattr(module, "MAX_LISTED", 5)
    for number in range(30):
        encrypted(vm.parent / f"a{number:02}.vmdk")
    found = told(vm)
    assert found[:5] == [("unreadable", "warning", f"a{number:02}.vmdk") for number in range(5)]
    assert found[5:] == [("unreadable", "warning", "vm"), ("search-cut-off", "warning", "vm")]


def test_disks_of_one_folder_have_it_in_common(vm: Path) -> None:
    a_folder(vm.parent / "vm.vmsd")
    once = Once()
    with open_chain(vm) as chain:
        counts = [len(list(once(findings(chain)))) for _ in range(2)]
    assert counts == [1, 0]


def test_the_log_of_a_target_says_so(vm: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where snapshots are listed, a list that cannot be read is not the same as none."""
    from dissect.target import Target

    from dissect_sesparse.target.machine import snapshot_states

    (vm.parent / "vm.vmx").write_text(vmx([vm.name], "vm"), encoding="utf-8")
    encrypted(vm.parent / "vm.vmsd")
    target = Target.open(vm.parent / "vm.vmx")
    snapshot_states(target)
    assert "vm.vmsd" in caplog.text
    assert "no text of its kind" in caplog.text
