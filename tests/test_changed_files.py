"""Which files changed between two states: real file systems, changed by real drivers, by what their guest did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import file_states
import make_vm
import ntfs_state
import pytest
import target_fixtures
from dissect.ntfs.exceptions import Error as NtfsError
from dissect.ntfs.mft import MftRecord
from dissect.target import Target, container
from target_fixtures import NEWEST, small_chain, tool

from dissect_sesparse import open_chain
from dissect_sesparse.files import changed_files as module
from dissect_sesparse.files import file_table, walk
from dissect_sesparse.files.changed_files import ChangedFile, changed_files
from dissect_sesparse.files.changed_ranges import ChangedRanges
from dissect_sesparse.files.not_looked import NotAllLookedAtError, Warnings
from dissect_sesparse.files.volumes import open_volumes
from dissect_sesparse.time.changes import DiskState, changes

if TYPE_CHECKING:
    from pathlib import Path

    from dissect_sesparse import Chain

example = target_fixtures.example_vm

NEEDS = {"ext4": "dissect.extfs", "xfs": "dissect.xfs"}


def chain_of(kind: str, folder: Path) -> Chain:
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind], reason=f"{NEEDS[kind]} is not installed")
    return open_chain(file_states.build(kind, folder).write())


def told(chain: Chain, older: int, newer: int, warnings: list[str] | None = None) -> list[ChangedFile]:
    states = DiskState(chain, older), DiskState(chain, newer)
    ranges = ChangedRanges()
    for change in changes(*states):
        ranges.add(change)
    warned: list[str] = []
    found = []
    try:
        for file in changed_files(*states, ranges, warned.append):
            found.append(file)
    except NotAllLookedAtError:
        assert warned, "what was not looked at is also logged"
    if warnings is None:
        assert warned == []
    else:
        warnings += warned
    return found


def test_what_was_ever_written(tmp_path: Path) -> None:
    """Size, times and clusters are the same, and none was written: but less of it was ever, so the rest is zeros."""
    valid = (0x38, (4096).to_bytes(8, "little"))
    path = ntfs_state.patched(tmp_path, "keep.txt", valid, live=True)
    with open_chain(path) as chain:
        assert "keep.txt" in by_state(told(chain, 1, 0))["changed"]
    with open_chain(file_states.build("ntfs", tmp_path / "plain").write()) as chain:
        assert "keep.txt" not in by_state(told(chain, 1, 0))["changed"]


def by_state(found: list[ChangedFile]) -> dict[str, set[str]]:
    states: dict[str, set[str]] = {"new": set(), "changed": set(), "renamed": set(), "gone": set()}
    for file in found:
        assert file.path not in states[file.state]
        states[file.state].add(file.path)
    return states


def oracle(kind: str, older: int, newer: int) -> dict[str, set[str]]:
    """The same by the steps that made the states: what each of them says that the guest did."""
    files: dict[str, str] = {}
    seen = []
    for step in file_states.KINDS[kind].steps:
        for number, (what, path, *more) in enumerate(step.operations):
            if what == "write":
                files[path] = f"{step}{number}"
            elif what == "delete":
                del files[path]
            elif what == "rename":
                files[more[0]] = files.pop(path)
            elif what == "link":
                files[more[0]] = files[path]
            elif what == "patch":
                files[path] += "patched"
            elif what == "fill":
                files[path] = f"{step}{number}"
        if step.snapshot:
            seen.append(dict(files))
    seen.append(dict(files))
    before, after = seen[::-1][older], seen[::-1][newer]
    states: dict[str, set[str]] = {"new": set(), "changed": set(), "renamed": set(), "gone": set()}
    uses = {value: path for path, value in before.items()}
    moved = {path for path, value in after.items() if path not in before and value in uses and uses[value] not in after}
    states["renamed"] = moved
    # A file that got or lost a hard link is neither new nor gone.
    states["new"] = {path for path in set(after) - set(before) - moved if after[path] not in uses}
    states["gone"] = {path for path in set(before) - set(after) if before[path] not in after.values()}
    states["changed"] = {path for path in set(before) & set(after) if before[path] != after[path]}
    return states


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ntfs", "ext4", "xfs"])
@pytest.mark.parametrize(("older", "newer"), [(2, 1), (1, 0), (2, 0), (0, 2)])
def test_real_file_systems(folder: Path, kind: str, older: int, newer: int) -> None:
    with chain_of(kind, folder) as chain:
        assert by_state(told(chain, older, newer)) == oracle(kind, older, newer)


def test_records_without_content_are_known_whatever_dissect_says_of_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``$Secure`` has no unnamed stream; what dissect.ntfs raises then may get other words at any time."""
    find = MftRecord._get_stream_attributes

    def worded_otherwise(self: MftRecord, *args: Any) -> Any:
        try:
            return find(self, *args)
        except NtfsError as e:
            raise type(e)("nothing of that name") from None

    monkeypatch.setattr(MftRecord, "_get_stream_attributes", worded_otherwise)
    with chain_of("ntfs", folder) as chain:
        assert by_state(told(chain, 2, 0)) == oracle("ntfs", 2, 0)


def test_all_is_met(folder: Path) -> None:
    """The test above is worth something."""
    states = [oracle(kind, 2, newer) for kind in ("ntfs", "ext4") for newer in (0, 1)]
    assert all(any(state[name] for state in states) for name in ("new", "renamed", "gone"))


def test_what_is_told_of_a_file(folder: Path) -> None:
    with chain_of("ntfs", folder) as chain:
        found = {file.path: file for file in told(chain, 2, 1)}
        thief = found["thief.bin"]
        assert (thief.size, thief.filesystem, thief.link.name) == (50_000, "ntfs", "vm-000001.vmdk")
        assert thief.changed is not None
        assert thief.changed >= 50_000, "all of a new file was written, and the rest of its last cluster"
        assert thief.inode
        assert thief.mtime is not None
        renamed = found["renamed.txt"]
        assert (renamed.state, renamed.old_path, renamed.changed) == ("renamed", "rename.txt", 0)
        assert found["changed.bin"].state == "gone"
        assert found["changed.bin"].link.name == "vm.vmdk"


def test_bytes_that_were_not_changed_are_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(module, "_equal", lambda a, b, size: compared.append(a.name) or True)
    with chain_of("ext4", folder) as chain:
        told(chain, 2, 1)
    assert "keep.txt" not in compared


def test_rewritten_with_the_same_bytes(folder: Path) -> None:
    """Its range was written, the file was not changed."""
    pytest.importorskip("dissect.extfs", reason="dissect.extfs is not installed")
    chain = file_states.build("ext4", folder)
    with open_chain(chain.write()) as opened:
        data = opened.read(0, opened.size)
    at = data.index(file_states.content("keep.txt", 20_000)[:512])
    first = at // 4096
    same = chain.add_delta()
    for grain in range(first, first + 6):
        same.allocate(grain, data[grain * 4096 :][:4096])
    other = chain.add_delta()
    other.allocate(first, data[first * 4096 : at] + b"changed" + data[at + 7 :][: 4096 - at % 4096 - 7])
    with open_chain(chain.write()) as opened:
        assert told(opened, 2, 1) == []
        (file,) = told(opened, 1, 0)
    assert (file.path, file.state, file.changed) == ("keep.txt", "changed", 4096 - at % 4096)


def test_file_system_that_is_gone(folder: Path) -> None:
    """The disk was wiped: every file is gone; the other way round, every file is new."""
    chain = file_states.build("ntfs", folder)
    wipe = chain.add_delta()
    for grain in range(chain.capacity_sectors // 8):
        wipe.unmap(grain, bare=True)
    with open_chain(chain.write()) as opened:
        warnings: list[str] = []
        gone = by_state(told(opened, 1, 0, warnings))
        assert "keep.txt" in gone["gone"]
        assert not gone["new"] | gone["changed"] | gone["renamed"]
        assert by_state(told(opened, 0, 1, warnings))["new"] == gone["gone"]


def test_disk_without_file_systems(folder: Path) -> None:
    warnings: list[str] = []
    with open_chain(small_chain(folder).write()) as chain:
        assert told(chain, 1, 0, warnings) == []
    assert "vm-000001.vmdk: no file system that dissect can open in either state, no files are told" in warnings


def test_older_state_that_cannot_be_read(folder: Path) -> None:
    """Said, and nothing is called new for that."""
    path = file_states.build("ntfs", folder).write()
    (folder / "vm-flat.vmdk").write_bytes(b"")
    with open_chain(path, unreadable="zero") as chain:
        warnings: list[str] = []
        told(chain, 2, 1, warnings)
    assert warnings


def test_too_many_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_table, "MAX_FILES", 3)
    warnings: list[str] = []
    with chain_of("ext4", folder) as chain:
        found = told(chain, 2, 1, warnings)
    assert any("more than 3 files" in warning for warning in warnings)
    assert not [file for file in found if file.state == "gone"], "what was not looked at is not gone"


@pytest.mark.slow
def test_function(example: Path) -> None:
    target = Target.open(example)
    records = list(target.sesparse.changes(from_="before patch", to="after patch", files=True))
    files = {str(r.path): r for r in records if r._desc.name == "virtualization/vmware/sesparse/changed_file"}
    assert files["/Users/admin/Documents/exfil.zip"].state == "new"
    assert files["/Users/admin/Documents/exfil.zip"].link == "web01-000001.vmdk"
    assert not [path for path in files if path.endswith("plan.png")], "it is in both"
    late = {
        str(r.path): r.state for r in target.sesparse.changes(from_="after patch", files=True) if hasattr(r, "inode")
    }
    assert late["/Users/admin/Documents/exfil.zip"] == "gone"
    assert late["/Users/admin/Documents/customers.csv"] == "gone"
    assert not {str(r.path) for r in records if hasattr(r, "path") and r.path} & set(map(str, make_vm.LIVE))


def test_without_the_option_no_file_system_is_opened(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_opened", lambda *args: pytest.fail("asked for ranges only"))
    target = Target()
    target.disks.add(container.open(example.parent / NEWEST))
    target.apply()
    assert list(target.sesparse.changes())


@pytest.mark.slow
def test_command_line(example: Path) -> None:
    done = tool("target-query", example, "-f", "sesparse.changes", "--to", "after patch", "--files", "-s")
    lines = [line for line in done.stdout.splitlines() if "<virtualization/vmware/sesparse/changed_file " in line]
    assert any("exfil.zip" in line and "state='new'" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ntfs", "ext4", "xfs"])
def test_no_file_is_looked_up_by_its_path(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk met it: a folder of many files would be gone through again for each of them."""
    with chain_of(kind, folder) as chain:
        monkeypatch.setattr(walk, "entry_at", lambda fs, path: pytest.fail(f"{path} is looked up"))
        assert by_state(told(chain, 2, 0)) == oracle(kind, 2, 0)


@pytest.mark.parametrize("kind", ["ntfs", "ext4", "xfs"])
def test_what_a_number_leads_to(folder: Path, kind: str) -> None:
    """It is the very file: path, size and bytes."""
    with chain_of(kind, folder) as chain:
        (state, *_) = open_volumes(chain, 0).states
        met = 0
        for path, entry, info in walk.FileWalk(state, Warnings(lambda message: None, "vm")):
            again = walk.reopened(state.fs, path, walk.number_of(entry, info))
            assert again.lstat().st_ino == info.st_ino
            assert (again.path, again.lstat().st_size) == (entry.path, info.st_size)
            assert again.open().read(100_000) == entry.open().read(100_000)
            met += 1
        assert met > 2
