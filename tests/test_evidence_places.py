"""Where evidence lies, and so nothing is written: the folders of loose files, and an archive by itself."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from sesparse_builder import vmx
from target_fixtures import small_chain, snapshot_of

from dissect_sesparse import cli


@pytest.fixture
def desk(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that an analyst works in: two archives of a VM, and the snapshot list of another case."""
    small_chain(folder).write()
    (folder / "vm.vmx").write_text(vmx(["vm-000001.vmdk"], "vm"))
    place = tmp_path / "desk"
    place.mkdir()
    shutil.make_archive(str(place / "vm"), "zip", folder.parent, folder.name)
    with tarfile.open(place / "vm.tar", "w") as tar:
        tar.add(folder, folder.name)
    (place / "another.vmsd").write_text('snapshot.lastUID = "1"\n')
    monkeypatch.chdir(place)
    return place


@pytest.mark.slow
@pytest.mark.parametrize("archive", ["vm.zip", "vm.tar"])
def test_an_archive_does_not_make_its_folder_evidence(desk: Path, archive: str) -> None:
    assert cli.main(["recover", archive, "-o", "out"]) == 0
    assert cli.main(["report", archive, "-o", "report.html", "--no-files"]) == 0
    names = [Path(file["path"]).name for file in json.loads((desk / "out" / "report.json").read_text())["inputs"]]
    assert archive in names
    assert "vm-000001-sesparse.vmdk" in names
    assert "another.vmsd" not in names, "it is of another case"


@pytest.mark.slow
@pytest.mark.parametrize("archive", ["vm.zip", "vm.tar"])
def test_an_archive_is_never_written_over(desk: Path, archive: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot_of(desk)
    (desk.parent / "link").symlink_to(desk / archive)
    for output in (archive, f"../{desk.name}/{archive}", "../link"):
        assert cli.main(["report", archive, "-o", output, "--no-files", "--force"]) == 1
        assert "evidence" in capsys.readouterr().err
    assert cli.main(["recover", archive, "-o", archive]) == 1
    assert snapshot_of(desk) == before


def test_loose_files_make_their_folder_evidence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the analyst stands in it, and whatever is opened of it."""
    small_chain(folder).write()
    (folder / "vm.vmx").write_text(vmx(["vm-000001.vmdk"], "vm"))
    monkeypatch.chdir(folder)
    before = snapshot_of(folder)
    for name in ("vm.vmx", ".", "vm-000001.vmdk", "vm-000001-sesparse.vmdk"):
        assert cli.main(["recover", name, "-o", "out"]) == 1
        assert cli.main(["report", name, "-o", "report.html", "--no-files"]) == 1
    assert snapshot_of(folder) == before
