"""The map of a disk: what each range is, who answers for it, and that its places are where the bytes are."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import disks
import pytest
import target_fixtures
from sesparse_builder import ExtentBuilder, grain_data
from target_fixtures import GRAINS, NEWEST, SECTORS, SIZE, UNKNOWN_STATE, small_chain

from dissect_sesparse import UnreadableError, open_chain
from dissect_sesparse.chain.map import label, link_of

if TYPE_CHECKING:
    from pathlib import Path

    from dissect_sesparse import Chain

example = target_fixtures.example_vm


def rows(chain: Chain) -> list[tuple[int, int, str, str, int | None]]:
    """First grain, number of grains, state, link and place of each run."""
    return [
        (run.start // 4096, run.length // 4096, label(run), link_of(chain, run).name, run.place) for run in chain.runs()
    ]


def test_all_states(folder: Path) -> None:
    chain = small_chain(folder, deltas=2)
    lower, upper = chain.links[1].extent, chain.links[2].extent
    lower.unmap(11, grain_data("old", 11))
    lower.zero(12)
    upper.unmap(13)  # bare: it has no place
    upper.set_entry(14, UNKNOWN_STATE)
    with open_chain(chain.write()) as opened:
        base_place = 0
        assert rows(opened) == [
            (0, 10, "base", "vm.vmdk", base_place),
            (10, 1, "allocated", "vm-000001.vmdk", lower.grain_offset(0)),
            (11, 1, "unmapped", "vm-000001.vmdk", lower.grain_offset(1)),
            (12, 1, "zero", "vm-000001.vmdk", None),
            (13, 1, "unmapped", "vm-000002.vmdk", None),
            (14, 1, "invalid", "vm-000002.vmdk", None),
            (15, 5, "base", "vm.vmdk", 15 * 4096),
            (20, 1, "allocated", "vm-000002.vmdk", upper.grain_offset(0)),
            (21, GRAINS - 21, "base", "vm.vmdk", 21 * 4096),
        ]


def test_hole(folder: Path) -> None:
    """Where no link has anything: the oldest is the one that has nothing there."""
    chain = small_chain(folder, deltas=2)
    path = chain.write()
    base = ExtentBuilder(SECTORS)
    base.allocate(0, grain_data("base", 0))
    base.write(folder / "vm-flat.vmdk")
    text = (folder / "vm.vmdk").read_text().replace(" VMFS ", " SESPARSE ")
    (folder / "vm.vmdk").write_bytes(text.encode())
    with open_chain(path) as opened:
        assert rows(opened) == [
            (0, 1, "allocated", "vm.vmdk", base.grain_offset(0)),
            (1, 9, "hole", "vm.vmdk", None),
            (10, 1, "allocated", "vm-000001.vmdk", chain.links[1].extent.grain_offset(0)),
            (11, 9, "hole", "vm.vmdk", None),
            (20, 1, "allocated", "vm-000002.vmdk", chain.links[2].extent.grain_offset(0)),
            (21, GRAINS - 21, "hole", "vm.vmdk", None),
        ]


def test_missing_parent(folder: Path) -> None:
    """What the parent would have is not called a hole: it cannot be had."""
    chain = small_chain(folder)
    path = chain.write()
    (folder / "vm.vmdk").unlink()
    with open_chain(path, unreadable="zero") as opened:
        assert rows(opened) == [
            (0, 10, "invalid", "vm-000001.vmdk", None),
            (10, 1, "allocated", "vm-000001.vmdk", chain.links[1].extent.grain_offset(0)),
            (11, GRAINS - 11, "invalid", "vm-000001.vmdk", None),
        ]


@pytest.mark.parametrize("seed", range(6))
def test_map_tells_where_the_bytes_are(folder: Path, seed: int) -> None:
    """Random chains: the map tiles the disk, and the disk can be put together from it alone."""
    rng = random.Random(seed)
    sectors = rng.choice([SECTORS, 8192, 8192 + 3, 32768 + 8])
    path = disks.write_chain(folder, disks.random_chain(folder, rng, 1 + seed % 4, sectors, base=seed % 3 != 0))
    with open_chain(path) as chain:
        assert_map_is_the_disk(chain)


def test_example(example: Path) -> None:
    with open_chain(example.parent / NEWEST) as chain:
        assert_map_is_the_disk(chain)
        assert {"base", "allocated", "unmapped"} == {label(run) for run in chain.runs()}


def assert_map_is_the_disk(chain: Chain) -> None:
    position = 0
    for run in chain.runs():
        assert run.start == position
        assert run.length > 0
        position = run.end
        assert link_of(chain, run) in chain.links
        state = label(run)
        if state == "invalid":  # the random extents have some grains past the end of their region
            with pytest.raises(UnreadableError):
                chain.read(run.start, run.length)
        elif state in ("allocated", "base"):
            with run.source.extent.file.path.open("rb") as fh:
                fh.seek(run.place)
                assert chain.read(run.start, run.length) == fh.read(run.length)
        else:
            assert state in ("zero", "unmapped", "hole")
            assert chain.read(run.start, run.length) == bytes(run.length)
    assert position == chain.size


def test_part_of_the_map(folder: Path) -> None:
    """Any range of the map is the map cut to that range."""
    chain = small_chain(folder, deltas=2)
    with open_chain(chain.write()) as opened:
        for start, length in [(0, SIZE), (10 * 4096, 4096), (9 * 4096, 3 * 4096), (512, 1024), (SIZE - 512, 512)]:
            position = start
            for run in opened.runs(start, length):
                assert run.start == position
                position = run.end
                (whole,) = (r for r in opened.runs() if r.start <= run.start < r.end)
                assert label(whole) == label(run)
                if run.place is not None:
                    assert run.place - run.start == whole.place - whole.start
            assert position == start + length
