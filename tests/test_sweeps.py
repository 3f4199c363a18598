"""Folders with thousands of files beside a VM: each is opened once in an opening, and only its head is read.

Counted, not timed.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from dissect.target.target import Target
from sesparse_builder import descriptor, vmx
from target_fixtures import small_chain

from dissect_sesparse import cli, open_chain
from dissect_sesparse.chain.detect import newer_links
from dissect_sesparse.chain.parent import HEAD
from dissect_sesparse.findings.findings import opening_findings
from dissect_sesparse.source.errors import ParentError
from dissect_sesparse.source.file import EvidenceFile
from dissect_sesparse.source.folder import Folder
from dissect_sesparse.source.seen import MAX_ENTRIES, Seen
from dissect_sesparse.target.registration import register

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 300


class Counted:
    """What is opened and read of the other files in a folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.opened: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        open_, read = EvidenceFile.open, EvidenceFile._read_once

        def opening(path: Path) -> EvidenceFile:
            self.opened[path.name] += 1
            return open_(path)

        def reading(file: EvidenceFile, offset: int, length: int) -> bytes:
            self.bytes[file.name] += length
            return read(file, offset, length)

        monkeypatch.setattr(EvidenceFile, "open", opening)
        monkeypatch.setattr(EvidenceFile, "_read_once", reading)

    def others(self) -> Counter[str]:
        return Counter({name: count for name, count in self.opened.items() if name.startswith("other")})


@pytest.fixture
def moved(folder: Path) -> Path:
    """A chain of six whose links were all renamed, so that each parent is looked for among all descriptors."""
    newest = small_chain(folder, deltas=5).write()
    for number in range(6):
        path = folder / (f"vm-{number:06}.vmdk" if number else "vm.vmdk")
        text = path.read_text().replace('parentFileNameHint="vm', 'parentFileNameHint="was')
        path.write_text(text)
    return newest


def crowd(folder: Path, count: int = COUNT, size: int = 64 * 1024) -> None:
    """Small files that are no descriptors, and some that are another disk's."""
    for number in range(count):
        (folder / f"other{number:05}.vmdk").write_bytes(bytes([number % 250 + 1]) * size if number % 10 else b"")
    text = descriptor([(8, "FLAT", "none.vmdk")], cid="0000dead", parent_cid="0000beef", parent_hint="gone.vmdk")
    for number in range(count // 10):
        (folder / f"other-disk{number:05}.vmdk").write_text(text)


def test_each_is_opened_once_for_all_links(moved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd(moved.parent)
    counted = Counted(monkeypatch)
    with open_chain(moved) as chain:
        assert len(chain.links) == 6
        assert all(link.parent.chosen.how == "search" for link in chain.links[:-1])
    assert len(counted.others()) == COUNT + COUNT // 10
    assert max(counted.others().values()) == 1
    assert max(size for name, size in counted.bytes.items() if name.startswith("other")) <= 2 * HEAD


@pytest.mark.slow
def test_a_few_times_for_a_whole_vm(moved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Detection, opening and what findings look at: each for itself, whatever the number of links and disks."""
    register()
    crowd(moved.parent)
    (moved.parent / "vm.vmx").write_text(vmx([moved.name, "vm-000003.vmdk"], "vm"))
    counted = Counted(monkeypatch)
    Target.open(moved.parent / "vm.vmx")
    assert max(counted.others().values()) <= 4
    counted = Counted(monkeypatch)
    assert cli.main(["check", str(moved.parent / "vm.vmx")]) == 3
    assert max(counted.others().values()) <= 12


def test_a_bare_extent(moved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd(moved.parent)
    moved.unlink()
    counted = Counted(monkeypatch)
    with pytest.raises(ParentError):
        open_chain(moved.with_name("vm-000005-sesparse.vmdk"))
    assert max(counted.others().values()) == 1


def test_newer_links(moved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd(moved.parent)
    counted = Counted(monkeypatch)
    newer_links(moved.with_name("vm.vmdk"))
    assert max(counted.others().values()) == 1


# A bound that cuts a search off is told


@pytest.mark.slow
def test_more_entries_than_are_looked_at(moved: Path) -> None:
    """The parent may be among those that were not: the refusal says so, and where one was found, a finding."""
    for number in range(MAX_ENTRIES + 2000):
        (moved.parent / f"a{number:05}.vmdk").touch()
    try:
        chain = open_chain(moved)
    except ParentError as e:
        assert f"only {MAX_ENTRIES} entries" in str(e)
        return
    with chain:
        codes = {finding.code: finding for finding in opening_findings(chain)}
    assert f"only {MAX_ENTRIES} entries" in codes["search-cut-off"].message


def test_more_descriptors_than_are_read(moved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those before the disk's own take all that is read; those behind are left out."""
    monkeypatch.setattr(Seen, "budget", 8000)
    text = descriptor([(8, "FLAT", "none.vmdk")], cid="0000dead", parent_cid="ffffffff")
    for number in range(20):
        (moved.parent / f"zz{number}.vmdk").write_text(text)
    with open_chain(moved) as chain:
        told = {
            finding.level: finding.message for finding in opening_findings(chain) if finding.code == "search-cut-off"
        }
    assert list(told) == ["info"]
    assert "only 8000 bytes of descriptors" in told["info"]
    for number in range(20):
        (moved.parent / f"aa{number}.vmdk").write_text(text)
    with pytest.raises(ParentError, match="only 8000 bytes of descriptors"):
        open_chain(moved)


def test_a_folder_that_cannot_be_listed(moved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = type(moved).iterdir

    def iterdir(self: Path) -> object:
        if self.name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(self)

    (moved.parents[1] / "locked").mkdir()
    monkeypatch.setattr(type(moved), "iterdir", iterdir)
    with open_chain(moved) as chain:
        told = [finding for finding in opening_findings(chain) if finding.code == "search-cut-off"]
    assert told
    assert {finding.level for finding in told} == {"info"}, "each parent was found by its CID"
    assert "locked cannot be listed" in told[0].message


def test_a_whole_search_is_told_of_by_nobody(moved: Path) -> None:
    crowd(moved.parent)
    with open_chain(moved) as chain:
        assert [finding for finding in opening_findings(chain) if finding.code == "search-cut-off"] == []


def test_of_folders_of_one_opening(folder: Path) -> None:
    """The bound and what was seen are handed on together."""
    first = Folder(folder)
    other = first.of(folder.parent / "other" / "x.vmdk")
    assert other.top == first.top
    assert other.seen is first.seen
    assert first.anew().seen is not first.seen
