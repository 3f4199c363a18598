"""Histories made by real drivers: a small part of what ``histories.py`` does for ``docs/validation.md``, held to its laws."""

from __future__ import annotations

import json
import random
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import history_tables
import pytest
from churn import told_of
from churn_drivers import run
from history_drivers import MAKERS, missing
from history_host import History, HistoryHost, Plan, make
from history_score import Truths, score
from history_tools import TOOLS, all_tools, where
from history_versions import data_of, score_versions

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.files.volumes import open_volumes
from dissect_sesparse.history.file_versions import file_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from history_guest import Life

    from dissect_sesparse.files.deleted import DeletedFile


def made(kind: str, folder: Path, seed: int, trim: str, *, full: bool) -> History:
    if why := missing(MAKERS[kind](seed)):
        pytest.skip(why)
    return make(Plan(kind, seed, 150, 3, trim, full), folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "trim", "full"),
    [
        ("NTFS", "grain", True), ("ext4", "MiB", False), ("ext2", "grain", True), ("XFS", "none", False), ("btrfs", "MiB", False),
        ("FAT16", "grain", False),
    ],
)  # fmt: skip
def test_what_is_reported_of_a_history_is_so(tmp_path: Path, kind: str, trim: str, full: bool) -> None:
    """No living file, no foreign byte that is proven, no window that the deletion is not in, no name that was not."""
    history = made(kind, tmp_path, 7, trim, full=full)
    truths = Truths(history)
    found, breaches = score(truths)
    versions, wrong = score_versions(truths)
    assert breaches + wrong == []
    assert versions["versions found"] >= versions["versions"] * 0.5
    assert found["files"] > 3
    recall = truths.recall()
    assert recall["named"] >= len({id(life) for life in truths.dead if _is_in_a_state(life)}) * (
        0 if kind == "FAT16" else 0.9
    )
    assert recall["recovered"] <= recall["recoverable"]


class Kept:
    """A volume of which snapshots are taken by hand."""

    def __init__(self, kind: str, folder: Path):
        self.driver = MAKERS[kind](1)
        if why := missing(self.driver):
            pytest.skip(why)
        self.image = folder / "partition.img"
        self.driver.make(self.image)
        self.host = HistoryHost(self.driver, random.Random(1), folder / "vm", "none")

    @contextmanager
    def mounted(self, *, snapshot: bool = True) -> Iterator[Path]:
        with self.driver.mounted(self.image) as root:
            yield root
        self.host.record(self.image)
        if snapshot:
            self.host.snapshot()

    def files(self, warn: Callable[[str], None] = pytest.fail) -> list[DeletedFile]:
        with open_chain(self.host.write()) as chain:
            return list(told_of(chain, warn))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["XFS", "ext4"])
def test_a_deletion_that_was_not_written_is_not_later_than_the_snapshot(tmp_path: Path, kind: str) -> None:
    """XFS has it in its log alone when the snapshot is taken, ext4 nowhere: the window is from the state before."""
    vm = Kept(kind, tmp_path)
    with vm.mounted() as root:
        (root / "A").write_bytes(bytes(20_000))
    with vm.mounted(snapshot=False) as root:
        (root / "A").unlink()
        deleted = datetime.now(timezone.utc)
        if kind == "XFS":
            run("sync", "-f", root)
        vm.host.record(vm.image)
        vm.host.snapshot()
        running = vm.host.snapshots[-1]["created"]
    (file,) = vm.files(lambda message: None)
    assert file.link.name == "vm-000001.vmdk", "the trap is set: the state of the running guest has it"
    assert file.deletion.window.after is not None
    assert file.deletion.window.after < deleted < running
    assert "after the state of vm.vmdk" in file.deletion.basis


@pytest.mark.slow
def test_what_does_not_mark_its_use_says_so_where_it_dates_a_deletion(tmp_path: Path) -> None:
    """btrfs writes what was done some seconds later, and nothing in a state shows that it was mounted."""
    vm = Kept("btrfs", tmp_path)
    with vm.mounted() as root:
        (root / "A").write_bytes(bytes(20_000))
    with vm.mounted(snapshot=False) as root:
        (root / "A").unlink()
    (file,) = vm.files()
    assert file.deletion.window == (vm.host.snapshots[0]["created"], None)
    assert "does not mark that it is in use" in file.deletion.basis


def test_files_on_fat_of_which_nothing_is_sure(tmp_path: Path) -> None:
    """An empty file has no cluster to be known by. One that was renamed lives; one that was deleted is listed once."""
    vm, said = Kept("FAT16", tmp_path), []
    with vm.mounted() as root:
        (root / "moved").touch()
        vm.driver.carry_over()  # type: ignore[attr-defined]
        (root / "empty").touch()
        vm.driver.carry_over()  # type: ignore[attr-defined]
        (root / "rewritten").write_bytes(b"first")
        (root / "folder").mkdir()
    with vm.mounted() as root:
        (root / "other").touch()
    with vm.mounted(snapshot=False) as root:
        (root / "moved").rename(root / "folder" / "there")
        (root / "rewritten").rename(root / "folder" / "again")
        vm.driver.carry_over()  # type: ignore[attr-defined]
        (root / "folder" / "again").write_bytes(bytes(9000))
        (root / "empty").unlink()
    files = vm.files(said.append)
    assert [file.path.lower() for file in files] == ["empty"]
    assert files[0].deletion.window == (vm.host.snapshots[-1]["created"], None)
    assert any("2 files may be deleted or renamed" in message for message in said)


def test_a_file_on_fat_that_is_rewritten_where_it_lies_has_two_contents(tmp_path: Path) -> None:
    """Its clusters are counted from behind the tables: that the link wrote to them is seen there."""
    vm = Kept("FAT16", tmp_path)
    with vm.mounted() as root:
        (root / "notes").write_bytes(b"before" * 100)
    with vm.mounted(snapshot=False) as root:
        (root / "notes").write_bytes(b"after!" * 100)
    with open_chain(vm.host.write()) as chain:
        inodes = {open_volumes(chain, depth).states[0].fs.get("NOTES").lstat().st_ino for depth in (0, 1)}
        assert len(inodes) == 1, "the trap is set: it lies where it lay"
        found = list(file_versions(chain, None, pytest.fail))
        assert [(data_of(version)[:6], [link.depth for link in version.states]) for version in found] == [
            (b"before", [1]), (b"after!", [0]),
        ]  # fmt: skip


def _is_in_a_state(life: Life) -> bool:
    return bool(life.states) and "index" not in life.kinds


@pytest.mark.slow
def test_other_tools_are_held_against_the_same_truth(tmp_path: Path) -> None:
    for tool, package in TOOLS.items():
        if where(tool) is None:
            pytest.skip(f"{tool} is not installed (Debian's {package})")
    history = made("NTFS", tmp_path, 1, "none", full=False)
    found = all_tools(history)
    assert {name.partition(" (")[0] for name in found} == {"fls -d -r, tsk_recover", "ntfsundelete", "photorec"}
    for name, count in found.items():
        assert count["files"], name
        assert count["whole"], name


def test_the_recorded_histories_broke_no_law() -> None:
    """What ``docs/validation.md`` shows: recorded by ``histories.py --write``."""
    rows = json.loads(history_tables.RECORDED.read_text(encoding="utf-8"))["rows"]
    ours = [row for row in rows if row["by"] == history_tables.OURS and not row["case"]]
    assert {row["filesystem"] for row in ours} == set(MAKERS)
    for row in ours:
        broken = {name: row["counts"][name] for name in history_tables.BREACHES if row["counts"].get(name)}
        assert not broken, row["filesystem"]
        assert row["counts"]["operations"] > 1000


def test_the_document_has_what_was_recorded() -> None:
    text = (Path(__file__).parents[1] / "docs" / "validation.md").read_text(encoding="utf-8")
    assert history_tables.document().strip() in text, "python tests/validation.py --evidence docs/validation.md"
