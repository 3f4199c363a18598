"""Each content that a file had: real drivers write, and what they wrote is kept beside."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from typing import TYPE_CHECKING

import churn
import churn_drivers
import file_states
import make_vm
import pytest
import target_fixtures
from dissect.target import Target
from target_fixtures import tool

from dissect_sesparse import open_chain
from dissect_sesparse.history.file_versions import FileVersion, file_versions

if TYPE_CHECKING:
    from pathlib import Path

    from sesparse_builder import ChainBuilder

    from dissect_sesparse import Chain

example = target_fixtures.example_vm


def versions(chain: Chain, *paths: str, changed: bool = False) -> list[FileVersion]:
    """All versions, or those of some paths; nothing is warned of."""
    warnings: list[str] = []
    found = list(
        file_versions(chain, (lambda state, path: path.strip("/") in paths) if paths else None, warnings.append,
                      changed=changed)
    )  # fmt: skip
    assert warnings == []
    return found


def sha256(version: FileVersion) -> str | None:
    return version.recovered.digest and version.recovered.digest[2]


def names_of(version: FileVersion, driver: churn_drivers.Driver) -> set[str]:
    return {driver.path_of(name) for name in version.names}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", ["ntfs", "ext4", "xfs", "btrfs"])
def test_histories_of_real_drivers(tmp_path: Path, kind: str, seed: int) -> None:
    """Each content of each state is a version of its path, with that state; and no version is in a state that has it not."""
    driver = churn_drivers.of_seed(kind, seed)
    if why := driver.missing():
        pytest.skip(why)
    if (
        kind == "xfs"
    ):  # what reached the disk of a guest that is running may be far behind its log: there is no truth of that
        driver.features -= {"live"}
    path, truth, _ = churn.churn(driver, seed, tmp_path, 300, 4)
    states = truth.states[::-1]
    with open_chain(path) as chain:
        found = versions(chain)
    by_path: dict[str, list[FileVersion]] = defaultdict(list)
    for version in found:
        for name in names_of(version, driver):
            by_path[name].append(version)
    told = 0
    for depth, files in enumerate(states):
        for name, data in files.items():
            if data is None:
                continue
            mine = [v for v in by_path[name] if any(link.depth == depth for link in v.states)]
            lost = [v for v in mine if v.recovered.state == "none"]  # an empty file of a guest that was running
            digest = hashlib.sha256(data).hexdigest()
            stream = (
                ":" in name and not mine
            )  # one without a byte may not have reached the disk of a guest that was running
            assert digest in map(sha256, mine) or ((lost or stream) and not data), (name, depth)
            told += 1
    assert told > 5
    for version in found:
        names = names_of(version, driver)
        known = any(name in files for files in states for name in names)
        half_done = any(
            name.endswith(".tmp") for name in names
        )  # what an editor could not rename, of which there is no truth
        if version.recovered.state not in ("complete", "likely") or not known or half_done:
            continue
        for link in version.states:
            there = [states[link.depth][name] for name in names if name in states[link.depth]]
            assert None in there or sha256(version) in [hashlib.sha256(data or b"").hexdigest() for data in there]
        now = [states[0][name] for name in names if name in states[0]]
        assert None in now or version.current == (
            sha256(version) in [hashlib.sha256(data or b"").hexdigest() for data in now]
        )


@pytest.mark.parametrize("kind", ["ntfs", "ext4", "xfs"])
def test_contents_and_names(folder: Path, kind: str) -> None:
    """By the steps that made the states: what each wrote."""
    needs = {"ext4": "dissect.extfs", "xfs": "dissect.xfs"}.get(kind)
    if needs:
        pytest.importorskip(needs, reason=f"{needs} is not installed")
    with open_chain(file_states.build(kind, folder).write()) as chain:
        (keep,) = versions(chain, "keep.txt")
        assert [link.depth for link in keep.states] == [0, 1, 2]
        assert keep.current
        assert sha256(keep) == hashlib.sha256(file_states.content("keep.txt", keep.file.size)).hexdigest()
        new = "renamed.txt" if kind == "ntfs" else "docs/renamed.txt"
        by_old, by_new = (versions(chain, name) for name in ("rename.txt", new))
        assert [sha256(v) for v in by_old] == [sha256(v) for v in by_new], "a file is found by all of its names"
        assert set(by_old[0].names) == {"rename.txt", new}


def test_changed_alone(folder: Path) -> None:
    with open_chain(file_states.build("ntfs", folder).write()) as chain:
        found = versions(chain, changed=True)
        assert "keep.txt" not in {version.file.path for version in found}
        for path in {version.names[0] for version in found}:
            assert len({sha256(v) for v in found if v.names[0] == path}) > 1


def with_old_bytes(folder: Path, *, trimmed: bool) -> tuple[ChainBuilder, bytes, int]:
    """A link in which the clusters of keep.txt were written, trimmed or given up, and written again."""
    chain = file_states.build("ext4", folder)
    with open_chain(chain.write()) as opened:
        data = opened.read(0, opened.size)
    old = file_states.content("keep.txt", 20_000)
    first = data.index(old) // 4096
    extent = chain.add_delta()
    lost, new = (random.Random(seed).randbytes(4096) for seed in (1, 2))
    place = extent.allocate(first + 1, lost)
    if trimmed:
        extent.unmap(first + 1)
    else:
        extent.allocate(first + 1, new, extent._unused_place())
        extent._owners[place] = first + 1
    return chain, lost, (first + 1) * 4096 - data.index(old)


@pytest.mark.parametrize("trimmed", [True, False])
def test_bytes_that_no_state_has(folder: Path, *, trimmed: bool) -> None:
    """What a trimmed or unreferenced grain has of a file that had the cluster all the time: likely its own, and no more."""
    pytest.importorskip("dissect.extfs", reason="dissect.extfs is not installed")
    chain, lost, offset = with_old_bytes(folder, trimmed=trimmed)
    with open_chain(chain.write()) as opened:
        *states, older = versions(opened, "keep.txt")
        assert [version.file.naming.by for version in (*states, older)] == ["snapshot", "snapshot", "clusters"]
        assert (older.recovered.state, older.recovered.size, older.recovered.likely) == ("partial", 0, 4096)
        (piece,) = older.file.pieces()
        assert (piece.offset, piece.data, piece.proven) == (offset, lost, False)
        assert older.current is False
        assert older.states == ()
        assert older.file.link.depth == 0
        assert [version.current for version in states] == [False, True]


def test_two_old_grains_that_claim_one_place(folder: Path) -> None:
    """Neither is taken."""
    pytest.importorskip("dissect.extfs", reason="dissect.extfs is not installed")
    chain, _, _ = with_old_bytes(folder, trimmed=False)
    extent = chain.links[-1].extent
    (grain,) = extent._entries
    owner = extent._places[grain]
    extent.allocate(grain, random.Random(3).randbytes(4096), extent._unused_place())
    extent._owners[owner] = grain
    with open_chain(chain.write()) as opened:
        found = versions(opened, "keep.txt")
    assert [version.file.naming.by for version in found] == ["snapshot", "snapshot"]


def test_state_that_cannot_be_read(folder: Path) -> None:
    """What is not known is not said: whether the guest still has a content that only older states are known to have."""
    chain = file_states.build("ntfs", folder)
    wipe = chain.add_delta()
    for grain in range(chain.capacity_sectors // 8):
        wipe.unmap(grain, bare=True)
    with open_chain(chain.write()) as opened:
        (keep,) = versions(opened, "keep.txt")
        assert keep.current is False, "the disk was wiped: it is surely not there"
        assert [link.depth for link in keep.states] == [1, 2, 3]


def test_function(example: Path) -> None:
    target = Target.open(example)
    path = "/Users/admin/Documents/exfil.zip"
    (record,) = target.sesparse.versions(paths=[path])
    assert (str(record.path), record.current, record.state) == (path, False, "complete")
    assert (record.first, record.last, record.link) == ("web01-000001.vmdk",) * 3
    assert (record.first_snapshot, record.last_snapshot) == ("after patch", "after patch")
    assert list(record.states) == ["web01-000001.vmdk"]
    assert record.digest.sha256 == make_vm.DELETED[path.strip("/")]
    assert (record.came_after, record.came_before) != (None, None)
    assert record.went_after is not None
    assert record.went_before is None, "nothing tells when the running disk was stopped"
    assert [str(r.path) for r in target.sesparse.versions(paths=["/Users/*/Documents/exfil.*"])] == [path]
    assert [str(r.path) for r in target.sesparse.versions(paths=["/**/EXFIL.zip"])] == [path], "as NTFS does"
    assert list(target.sesparse.versions(paths=["/Users/exfil.zip"])) == []


@pytest.mark.slow
def test_command_line(example: Path) -> None:
    done = tool("target-query", example, "-f", "sesparse.versions", "--path", "/Users/admin/Documents/exfil.zip", "-s")
    assert "<virtualization/vmware/sesparse/version " in done.stdout
    done = tool("target-query", example, "-f", "sesparse.versions", "--changed", "-s")
    assert done.returncode == 0
    done = tool("target-query", example, "-f", "sesparse.versions", "--path", "/nothing", "-s")
    assert "no file of any state has a path" in done.stderr
