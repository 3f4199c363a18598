"""The tables of files that are read without dissect's walk, held against that walk."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import churn
import churn_drivers
import file_states
import ntfs_state
import pytest
from dissect.ntfs.c_ntfs import ATTRIBUTE_TYPE_CODE
from dissect.target.exceptions import FileNotFoundError

from dissect_sesparse import open_chain
from dissect_sesparse.files.changed_ranges import ChangedRanges
from dissect_sesparse.files.file_table import FileTable, where_it_lies
from dissect_sesparse.files.not_looked import Warnings
from dissect_sesparse.files.volumes import open_volumes
from dissect_sesparse.files.walk import FileWalk, Key
from dissect_sesparse.ntfs.mft import is_system_file

if TYPE_CHECKING:
    from pathlib import Path

    from dissect_sesparse import Chain
    from dissect_sesparse.files.volumes import VolumeState


def table_of(state: VolumeState) -> tuple[FileTable, list[str]]:
    warnings: list[str] = []
    ranges = ChangedRanges()
    ranges.add(type("Change", (), {"offset": 3 << 20, "size": 1 << 20})())
    return FileTable(state, ranges, Warnings(warnings.append, "vm")), warnings


def walked(state: VolumeState) -> dict[str, tuple[Any, ...]]:
    """What dissect says of each file."""
    found = {}
    for path, entry, info in FileWalk(state, Warnings(lambda message: None, "vm")):
        if is_system_file(path, entry) or (state.fs.__type__ == "ntfs" and not is_found(state, path)):
            continue
        runs, _ = where_it_lies(entry, state)
        found[path] = Key(entry, info).key, info.st_ino, info.st_size, info.st_mtime_ns, info.st_birthtime_ns, runs
    return found


def is_found(state: VolumeState, path: str) -> bool:
    """Whether a file of NTFS is found by its path: dissect also lists what blocks of an index have that are free."""
    try:
        return state.fs.get(path) is not None
    except FileNotFoundError:
        return False


def check(chain: Chain) -> int:
    """How many files the tables of all states have, which are those of the walks."""
    count = 0
    for depth in range(len(chain.links)):
        for state in open_volumes(chain, depth).states:
            table, warnings = table_of(state)
            assert warnings == []
            assert table.whole
            files = {path: row for path, row in table.rows.items() if not row.stream}
            expected = walked(state)
            assert set(files) == set(expected)
            for path, row in files.items():
                key, inode, size, mtime, btime, runs = expected[path]
                assert row.key == (key, "")
                assert (row.inode, row.size, row.mtime, row.btime) == (inode, size, mtime, btime)
                if runs is not None:
                    inside = [max(0, min(end, 4 << 20) - max(start, 3 << 20)) for start, end in runs]
                    assert row.changed == sum(inside), path
            for path, row in table.rows.items():
                assert table.entry(path).open().size == row.size
                if row.stream:
                    record = table.entry(path).entry  # type: ignore[attr-defined]
                    assert record.attributes.find(row.stream, ATTRIBUTE_TYPE_CODE.DATA)
            count += len(files)
    return count


@pytest.mark.parametrize("kind", ["ntfs", "ext4"])
def test_the_walk_says_the_same(folder: Path, kind: str) -> None:
    if kind == "ext4":
        pytest.importorskip("dissect.extfs", reason="dissect.extfs is not installed")
    with open_chain(file_states.build(kind, folder).write()) as chain:
        assert check(chain) > 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 3, 5])
@pytest.mark.parametrize("kind", ["ntfs", "ext4", "ext2"])
def test_the_walk_says_the_same_of_histories(tmp_path: Path, kind: str, seed: int) -> None:
    """Fragmented, compressed, linked, with streams and attribute lists, on volumes that are nearly full."""
    driver = churn_drivers.of_seed(kind, seed)
    if why := driver.missing():
        pytest.skip(why)
    path, _, _ = churn.churn(driver, seed, tmp_path, 400, 2)
    with open_chain(path) as chain:
        assert check(chain) > 20


def test_record_of_several_writes(folder: Path) -> None:
    """Its sectors are not of one write: said, and the others are listed."""
    builder = file_states.build("ntfs", folder)
    path = builder.write()
    place, _, _ = ntfs_state.record_of(path, "keep.txt", live=True)
    extent = builder.links[-1].extent
    grain, skip = divmod(place, 4096)
    with open_chain(path) as chain:
        data = bytearray(chain.read(grain * 4096, 4096))
    data[skip + 510] ^= 0xFF
    extent.allocate(grain, bytes(data))
    with open_chain(builder.write()) as chain:
        (state,) = open_volumes(chain, 0).states
        table, warnings = table_of(state)
    assert not table.whole
    assert any("1 MFT records as of link 0 cannot be read" in warning for warning in warnings)
    assert "/keep.txt" not in table.rows
    assert len(table.rows) > 3


@pytest.mark.parametrize("kind", ["ntfs", "ext4"])
def test_damaged_tables_raise_nothing_odd(folder: Path, kind: str) -> None:
    """Random bytes over parts of the metadata: files are listed or missed, and nothing hangs."""
    if kind == "ext4":
        pytest.importorskip("dissect.extfs", reason="dissect.extfs is not installed")
    rng = random.Random(kind)
    builder = file_states.build(kind, folder)
    extent = builder.links[-1].extent
    with open_chain(builder.write()) as chain:
        whole = chain.read(0, chain.size)
    marks = [at for at in range(0, len(whole), 4096) if whole[at : at + 4] == b"FILE"] or list(
        range(8192, 1 << 20, 4096)
    )
    for grain in {at // 4096 for at in marks}:
        data = bytearray(whole[grain * 4096 : grain * 4096 + 4096])
        for _ in range(rng.randrange(4)):
            data[rng.randrange(4096)] = rng.randrange(256)
        extent.allocate(grain, bytes(data))
    with open_chain(builder.write()) as chain:
        for state in open_volumes(chain, 0).states:
            table, _ = table_of(state)
            for path in table.rows:
                assert path.startswith("/")
