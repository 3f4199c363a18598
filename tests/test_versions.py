"""What differs between the versions of dissect, held on whichever is installed; and what a run without the sample says."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import make_vm
import pytest
import target_fixtures
from dissect.target import Target
from dissect.target.filesystem import VirtualFilesystem
from dissect.target.helpers.fsutil import TargetPath
from sesparse_builder import ExtentBuilder

from dissect_sesparse.files.versions import disks_below, volume_of
from dissect_sesparse.source.folder import same_file


@pytest.mark.parametrize("as_list", [True, False])
def test_files_are_told_under_their_volume(folder: Path, as_list: bool) -> None:
    """Whether a volume has its disk, or a list of disks, as after dissect.target 3.25."""
    target = Target.open(target_fixtures.two_disks(folder, ExtentBuilder(target_fixtures.EXAMPLE_SECTORS)))
    for volume in target.volumes:
        (disk,) = disks_below(volume)
        volume.disk = [disk] if as_list else disk
    mounts = {name: target_fixtures.disk_of(fs.volume) for name, fs in target.fs.mounts.items() if fs.volume}
    records = list(target.sesparse.files())
    assert len(records) == 2 * len(make_vm.DELETED)
    assert all(mounts[str(record.path).split("/")[1]] == record.disk for record in records)


def test_one_and_several_below() -> None:
    class Thing:
        disk = volume = None

    thing = Thing()
    assert disks_below(thing) == disks_below(object()) == []
    assert volume_of(thing) is None
    thing.disk = thing.volume = ["a", "b"]
    assert disks_below(thing) == ["a", "b"]
    assert volume_of(thing) == "a"
    thing.disk = thing.volume = "a"
    assert disks_below(thing) == ["a"]
    assert volume_of(thing) == "a"


class Uncomparable(TargetPath):
    """A path as of the pre-releases after 3.25: compared with one of the analyst's, it raises."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TargetPath):
            raise AttributeError("casefold_parts")  # noqa: TRY004
        return super().__eq__(other)

    __hash__ = TargetPath.__hash__


def test_paths_of_two_kinds_are_never_compared(tmp_path: Path) -> None:
    vfs = VirtualFilesystem()
    vfs.map_file_fh("disk.vmdk", None)
    inside = Uncomparable(vfs, "/disk.vmdk")
    assert not same_file(inside, Path("/disk.vmdk"))
    assert not same_file(Path("/disk.vmdk"), inside)
    assert same_file(inside, Uncomparable(vfs, "/disk.vmdk"))


@pytest.mark.slow
def test_vm_in_a_zip(example_vm: Path, tmp_path: Path) -> None:
    """The archive is a path of the analyst's, what it holds is not."""
    with zipfile.ZipFile(tmp_path / "vm.zip", "w") as archive:
        for path in example_vm.parent.iterdir():
            archive.write(path, f"web01/{path.name}")
    target = Target.open(tmp_path / "vm.zip")
    assert len(list(target.sesparse.chain())) == 3
    assert [child.name for _, child in target.list_children()] == ["before patch", "after patch"]


example_vm = target_fixtures.example_vm


@pytest.mark.slow
def test_without_the_sample_one_line(tmp_path: Path) -> None:
    """Not a skip for each test that needs it. Where all must run, they fail."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "real"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV", "SESPARSE"))}
    for required in ("", "1"):
        done = subprocess.run(
            [*command, str(Path(__file__).with_name("test_journal.py"))],
            env={**clean, "SESPARSE_SAMPLES": str(tmp_path), "SESPARSE_REQUIRE_ALL": required},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.count("LEFT OUT") == (not required), done.stdout + done.stderr
        assert "SKIPPED" not in done.stdout
        assert ("ERROR tests/test_journal.py::test_real" in done.stdout) == bool(required), done.stdout
