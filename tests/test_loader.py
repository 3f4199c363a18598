"""``sesparse://``: options for the disks of any target, on the path of any loader."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import make_vm
import pytest
import target_fixtures
from dissect.target import Target, loader
from dissect.target.exceptions import TargetError
from dissect.target.helpers.loaderutil import parse_path_uri
from sesparse_builder import ExtentBuilder, vmx
from target_fixtures import NEWEST, entry_invalid, notes_of, parent_missing, small_chain, two_disks

from dissect_sesparse.target.context import URI_OPTIONS
from dissect_sesparse.target.loader import SESparseLoader
from dissect_sesparse.target.vm import SESparseVmLoader

if TYPE_CHECKING:
    from dissect_sesparse.source.options import Options

example = target_fixtures.example_vm

BAD = 100 * 4096


def options_of(target: Target) -> list[Options]:
    return [disk.chain.options for disk in target.disks]


def vm_of(folder: Path) -> Path:
    """A .vmx with one disk that has a corrupt entry."""
    path = entry_invalid(folder)
    (folder / "vm.vmx").write_bytes(vmx([path.name], "vm").encode())
    return folder / "vm.vmx"


def test_registered_by_scheme() -> None:
    found = loader.find_loader_by_scheme("sesparse")
    assert found.detect(Path("x")) is False, "asked for by its scheme, never found by itself"


def test_option(folder: Path) -> None:
    target = Target.open(f"sesparse://{vm_of(folder).as_posix()}?unreadable=zero")
    assert [options.unreadable for options in options_of(target)] == ["zero"]
    assert target.disks[0].chain.read(BAD, 8192) == bytes(8192)
    assert {record.code for record in target.sesparse.findings()} == {"entry-invalid", "unreadable"}
    assert dict(URI_OPTIONS.get()) == {}, "options do not stay behind"


def test_several_options(folder: Path) -> None:
    target = Target.open(f"sesparse://{vm_of(folder).as_posix()}?unreadable=zero&journal=ignore")
    assert [(options.unreadable, options.journal) for options in options_of(target)] == [("zero", "ignore")]


def test_without_options(example: Path) -> None:
    target = Target.open(f"sesparse://{example.as_posix()}")
    assert [options.unreadable for options in options_of(target)] == ["error"]
    assert notes_of(target) is not None


def test_relative_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vm_of(folder)
    monkeypatch.chdir(folder)
    assert options_of(Target.open("sesparse://vm.vmx?unreadable=zero"))[0].unreadable == "zero"
    monkeypatch.chdir(folder.parent)
    assert options_of(Target.open("sesparse://vm/vm.vmx?unreadable=zero"))[0].unreadable == "zero"


@pytest.mark.parametrize("kind", ["descriptor", "extent"])
def test_disk_alone(folder: Path, kind: str) -> None:
    path = entry_invalid(folder)
    if kind == "extent":
        path = folder / "vm-000001-sesparse.vmdk"
    target = Target.open(f"sesparse://{path.as_posix()}?unreadable=zero")
    assert [(disk.__type__, disk.chain.options.unreadable) for disk in target.disks] == [("sesparse", "zero")]


def test_all_disks_of_a_vm(folder: Path) -> None:
    target = Target.open(
        f"sesparse://{two_disks(folder, ExtentBuilder(make_vm.CAPACITY_SECTORS)).as_posix()}?unreadable=zero"
    )
    assert [options.unreadable for options in options_of(target)] == ["zero", "zero"]


def test_parent_option(folder: Path) -> None:
    path = parent_missing(folder)
    other = folder.parent.parent / "far" / "away"
    small_chain(other, deltas=0).write()
    with pytest.raises(TargetError):
        Target.open(f"sesparse://{path.as_posix()}")
    target = Target.open(f"sesparse://{path.as_posix()}?parent={(other / 'vm.vmdk').as_posix()}")
    assert [link.path for link in target.disks[0].chain.links][1] == other / "vm.vmdk"


def test_keyword_wins_over_uri_and_environment_loses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = vm_of(folder)
    monkeypatch.setenv("DISSECT_SESPARSE_UNREADABLE", "zero")
    assert options_of(Target.open(f"sesparse://{path.as_posix()}"))[0].unreadable == "zero"
    assert options_of(Target.open(f"sesparse://{path.as_posix()}?unreadable=error"))[0].unreadable == "error"


@pytest.mark.parametrize(
    "query", ["unreadable=zeros", "unreadble=zero", "unreadable=", "view=x", "salvage=yes", "unreadable=ZERO"]
)
def test_wrong_option(folder: Path, query: str) -> None:
    """Told before anything is opened; never taken for the default."""
    path = vm_of(folder)
    with pytest.raises(TargetError, match="option"):
        Target.open(f"sesparse://{path.as_posix()}?{query}")
    assert dict(URI_OPTIONS.get()) == {}


def test_wrong_option_where_no_disk_would_ask_for_it(folder: Path) -> None:
    (folder / "disk.raw").write_bytes(bytes(4096))
    assert Target.open(f"sesparse://{(folder / 'disk.raw').as_posix()}?unreadable=zero").disks[0].__type__ == "raw"
    with pytest.raises(TargetError, match="option"):
        Target.open(f"sesparse://{(folder / 'disk.raw').as_posix()}?unreadable=zeros")


def test_wrong_option_in_open_all(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As the tools open targets: the reason is in the log."""
    path = vm_of(folder)
    with pytest.raises(TargetError):
        list(Target.open_all([f"sesparse://{path.as_posix()}?unreadable=zeros"]))
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert any("unreadable" in text and "zeros" in text for text in told)


def test_options_do_not_stay_after_a_failure(folder: Path) -> None:
    path = vm_of(folder)
    (folder / "vm-000001-sesparse.vmdk").unlink()
    with pytest.raises(TargetError):
        Target.open(f"sesparse://{path.as_posix()}?unreadable=zero")
    assert dict(URI_OPTIONS.get()) == {}


def test_missing_path(folder: Path) -> None:
    with pytest.raises(TargetError):
        Target.open(f"sesparse://{(folder / 'missing.vmx').as_posix()}?unreadable=zero")


def test_one_wrong_uri_among_others(folder: Path, example: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder that no loader takes, a file that is missing: said, and the other targets are opened."""
    (folder / "notes.txt").write_text("no disk")
    wrong = [f"sesparse://{path.as_posix()}?unreadable=zero" for path in (folder, folder / "missing.vmx")]
    targets = list(Target.open_all([*wrong, f"sesparse://{example.as_posix()}"]))
    assert [target.disks[0].chain.name for target in targets] == [NEWEST]
    assert "no loader opens this" in caplog.text
    assert "missing.vmx" in caplog.text


def test_open_all(folder: Path) -> None:
    """What target-query does."""
    targets = list(Target.open_all([f"sesparse://{vm_of(folder).as_posix()}?unreadable=zero"]))
    assert [options.unreadable for target in targets for options in options_of(target)] == ["zero"]


def test_folder_with_several_vms(folder: Path) -> None:
    """Each target of the folder gets the options: ``find_all`` yields what the loader that takes the folder yields."""
    vm_of(folder)
    (folder / "second.vmx").write_bytes(vmx(["vm-000001.vmdk"], "second").encode())
    uri = f"sesparse://{folder.as_posix()}?unreadable=zero"
    found = list(SESparseLoader.find_all(*parse_path_uri(uri)))
    assert [Path(path).name for path in found] == ["second.vmx", "vm.vmx"]
    targets = list(Target.open_all([uri]))
    assert [options.unreadable for target in targets for options in options_of(target)] == ["zero", "zero"]


def test_same_bytes(example: Path) -> None:
    plain, by_uri = Target.open(example), Target.open(f"sesparse://{example.as_posix()}?unreadable=zero")
    assert notes_of(plain, NEWEST) == notes_of(by_uri, NEWEST)
    assert plain.disks[0].chain.read(0, 1 << 20) == by_uri.disks[0].chain.read(0, 1 << 20)


def test_two_uris_at_once(folder: Path) -> None:
    """Loaders made before either is used keep their own options."""
    path = vm_of(folder)
    loaders = []
    for value in ("zero", "error"):
        found, parsed = parse_path_uri(f"sesparse://{path.as_posix()}?unreadable={value}")
        loaders.append(SESparseLoader(found, parsed_path=parsed))
    for made, value in zip(loaders, ("zero", "error")):
        target = Target()
        made.map(target)
        assert [options.unreadable for options in options_of(target)] == [value]


@pytest.mark.parametrize("name", ["broken.tar", "broken.zip", "broken.vmx", "broken.vmdk", "broken.ova"])
@pytest.mark.parametrize("data", [b"", b"\xff" * 3000])
def test_looking_for_a_loader_never_fails(folder: Path, name: str, data: bytes) -> None:
    """A broken archive or configuration is for dissect's own loaders to refuse: others are opened in the same run."""
    (folder / name).write_bytes(data)
    assert SESparseVmLoader.detect(folder / name) is False
    assert SESparseVmLoader.detect(folder) is False
    assert SESparseVmLoader.detect(folder / "missing" / name) is False
