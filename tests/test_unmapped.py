"""The unmapped runs of a chain, held against the history of each grain."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import history
import make_vm
import pytest
from disks import flat, sparse, write_chain
from history import Old, random_history
from sesparse_builder import ChainBuilder, ExtentBuilder, descriptor, grain_data
from target_fixtures import add_delta, example_vm  # noqa: F401

from dissect_sesparse import open_chain
from dissect_sesparse.extent.entry import State
from dissect_sesparse.source.errors import UnreadableError
from dissect_sesparse.trimmed.content import describe
from dissect_sesparse.trimmed.unmapped import STATES, Counts, UnmappedRun, unmapped

if TYPE_CHECKING:
    from pathlib import Path

    from dissect_sesparse.chain.chain import Chain

SECTORS = 40960


def grains_of(run: UnmappedRun) -> list[Old]:
    """A run as the oracle tells it, grain by grain."""
    data = run.read() if run.state in ("present", "empty", "contested") else None
    found = []
    for start in range(0, run.size, 4096):
        place = None if run.place is None else (run.place + start - run.extent.metadata.grains_offset) // 4096
        grain = (run.offset + start) // 4096
        found.append(Old(run.link.depth, grain, place, run.state, data and data[start : start + 4096]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("depth", range(1, 9))
@pytest.mark.parametrize("seed", range(2))
def test_random_histories(tmp_path: Path, depth: int, seed: int) -> None:
    """Nothing missing, nothing invented, no grain twice, right bytes, right place."""
    recorded = random_history(tmp_path / "vm", random.Random(seed * 100 + depth), depth)
    with open_chain(recorded.path) as chain:
        counts = Counts()
        runs = list(unmapped(chain, counts=counts))
        found = [grain for run in runs for grain in grains_of(run)]
    assert sorted(found, key=lambda old: old[:2]) == sorted(recorded.old, key=lambda old: old[:2])
    assert [grain[:2] for grain in found] == sorted(grain[:2] for grain in found), "in the order of the disk"
    assert counts.never_mapped == 4096 * sum(link.never_mapped() for link in recorded.links)
    for first, second in zip(runs, runs[1:]):
        joined = (first.link, first.offset + first.size, first.state, first.parent_state) == (
            second.link, second.offset, second.state, second.parent_state,
        )  # fmt: skip
        follows = first.place is None if second.place is None else second.place == (first.place or 0) + first.size
        # Runs end at a table's end
        assert not (joined and follows) or second.offset % (16 * 1024 * 1024) == 0


def test_histories_have_all_states(tmp_path: Path) -> None:
    """The histories above are worth something: what they make has every state."""
    found = Counter()
    for seed in range(6):
        recorded = random_history(tmp_path / str(seed), random.Random(seed), 2)
        found.update(old.state for old in recorded.old)
        found["bare with its place"] += sum(old.place == 0 for old in recorded.old)
        found["never"] += sum(link.never_mapped() for link in recorded.links)
    assert set(found) >= {*STATES, "bare with its place", "never"}
    assert all(found[state] for state in found), found


def parent_states(chain: Chain) -> dict[int, str | None]:
    return {
        (run.offset + start) // 4096: run.parent_state
        for run in unmapped(chain)
        if run.link.depth == 0
        for start in range(0, run.size, 4096)
    }


@pytest.mark.parametrize("view", ["guest", "residual"])
def test_parent_state(folder: Path, view: str) -> None:
    """What the links below have: as the guest saw it, in any view."""
    base = {grain * 8: grain_data("base", grain) for grain in (1, 2, 5, 7)}
    chain = ChainBuilder(folder, SECTORS, base)
    middle = chain.add_delta()
    middle.allocate(0)
    middle.allocate(3, grain_data("middle", 3))
    middle.unmap(5, grain_data("middle", 5))  # zeros now, for the guest
    newest = chain.add_delta()
    newest.allocate(100)
    for grain in (1, 2, 3, 4, 5):
        newest.unmap(grain, base[8] if grain == 1 else grain_data("newest", grain))
    with open_chain(chain.write(), view=view) as opened:
        assert parent_states(opened) == {1: "same", 2: "different", 3: "different", 4: "zero", 5: "zero"}


def test_parent_state_where_nothing_is_below(folder: Path) -> None:
    """A lone extent knows nothing of its parent; one over an empty delta has nothing below."""
    chain = ChainBuilder(folder, SECTORS)
    extent = chain.add_delta()
    extent.allocate(0)
    extent.unmap(1, grain_data("newest", 1))
    path = chain.write()
    path.write_text(path.read_text().replace("vm.vmdk", "gone.vmdk").replace("parentCID=", "parentCID=1"))
    with open_chain(path, unreadable="zero") as opened:
        assert parent_states(opened) == {1: None}, "what is missing is not zeros"


def test_reading_has_rules(folder: Path) -> None:
    """A run without bytes of its own raises; it never gives another grain's."""
    chain = ChainBuilder(folder, SECTORS)
    extent = chain.add_delta()
    extent.allocate(0)
    extent.unmap(1, b"old", place=7)
    extent.allocate(2, b"new", place=7)
    with open_chain(chain.write()) as opened:
        (run,) = unmapped(opened)
        assert (run.state, run.content) == ("reused", None)
        with pytest.raises(UnreadableError, match="reused"):
            run.read()


def test_descriptor_smaller_than_extent(folder: Path) -> None:
    """A run that goes on behind the disk's end is cut there."""
    chain = ChainBuilder(folder, SECTORS)
    extent = chain.add_delta()
    extent.allocate(0)
    for grain in range(10, 20):
        extent.unmap(grain, grain_data("old", grain))
    path = chain.write()
    path.write_text(path.read_text().replace(f"RW {SECTORS} ", "RW 123 "))
    with open_chain(path) as opened:
        (run,) = unmapped(opened)
        assert (run.offset, run.size) == (10 * 4096, 123 * 512 - 10 * 4096)
        assert run.read() == b"".join(grain_data("old", grain) for grain in range(10, 20))[: run.size]


def test_one_bad_sector(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file cannot be read at one grain, its neighbours are still there."""
    chain = ChainBuilder(folder, SECTORS)
    extent = chain.add_delta()
    extent.allocate(0)
    for grain in range(1, 9):
        extent.unmap(grain, grain_data("old", grain))
    bad = extent.grain_offset(5)
    with open_chain(chain.write()) as opened:
        file = opened.links[0].sesparse_extents[0].file
        read = file.read_some

        def read_some(offset: int, length: int) -> bytes:
            if offset <= bad < offset + length:
                raise UnreadableError("a bad sector")
            return read(offset, length)

        monkeypatch.setattr(file, "read_some", read_some)
        counts = Counts()
        states = {grain.grain: grain.state for run in unmapped(opened, counts=counts) for grain in grains_of(run)}
    assert counts.unreadable == 4096
    assert states == {grain: "missing" if grain == 5 else "present" for grain in range(1, 9)}


@pytest.mark.parametrize("places", [[0, 2, 3, 3], [5, 5, 7, 8], [1, 2, 4, 4, 6], [3, 2, 1, 1]])
def test_several_of_one_place_among_neighbours(folder: Path, places: list[int]) -> None:
    """Runs that are read together, of which two have the same place: each has the bytes of its own."""
    chain = ChainBuilder(folder, SECTORS)
    extent = chain.add_delta()
    for grain, place in enumerate(places):
        extent.unmap(grain, grain_data("old", place), place=place)
    with open_chain(chain.write()) as opened:
        found = {
            (run.offset + at) // 4096: (run.content.digest, describe(run.read()).digest)
            for run in unmapped(opened)
            for at in range(0, run.size, 4096)
            if run.content is not None
        }
    assert sorted(found) == list(range(len(places)))
    assert all(given == read for given, read in found.values())


def test_example(example_vm: Path) -> None:  # noqa: F811
    """The times are those of the snapshots around a link, and no others."""
    snapshots = [moment for _, _, moment in make_vm.SNAPSHOTS]
    with open_chain(example_vm.parent / "web01-000002.vmdk") as chain:
        runs = list(unmapped(chain))
    assert {(run.link.depth, run.after, run.before) for run in runs} == {
        (0, snapshots[1], None),
        (1, snapshots[0], snapshots[1]),
    }
    assert all(run.content is not None and len(run.content.digest) == 3 for run in runs)


@pytest.mark.parametrize("what", ["unmapped", "runs"])
def test_a_large_base_is_gone_through_once(folder: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Not for each run of the link above it: the directory of a disk of 62 TiB has 32 MiB."""
    sectors, runs = 62 << 31, 60
    base, delta = ExtentBuilder(sectors), ExtentBuilder(sectors)
    base.allocate(0, grain_data("base", 0))
    for number in range(runs):
        delta.unmap(number * 20_000_000, grain_data("old", number))
    base.write(folder / "base-sesparse.vmdk")
    text = descriptor([(sectors, "SESPARSE", "base-sesparse.vmdk")], cid="12345678")
    (folder / "base.vmdk").write_bytes(text.encode())
    path = add_delta(folder, "delta", delta, folder / "base.vmdk", "12345678", "12345679")
    with open_chain(path) as chain:
        (extent,) = chain.links[1].sesparse_extents
        read, asked = extent.file.read_some, []
        monkeypatch.setattr(extent.file, "read_some", lambda start, size: asked.append(size) or read(start, size))
        states = [run.state for run in unmapped(chain)] if what == "unmapped" else [run.state for run in chain.runs()]
    assert states.count("present" if what == "unmapped" else State.UNMAPPED) == runs
    assert sum(asked) < 3 * 32 << 20


def test_oracle_is_independent() -> None:
    """It takes nothing from the package."""
    assert not any(name.startswith("dissect") for name in vars(history))


@pytest.mark.parametrize(
    ("sectors", "expected"),
    [(8, ["none"]), (9, ["different"]), (15, ["different"]), (16, ["different"]), (17, ["different"])],
)
def test_parent_that_is_shorter(folder: Path, sectors: int, expected: list[str]) -> None:
    """Than the disk, by a grain and by less: what it has not got reads as zeros."""
    extent = ExtentBuilder(16)
    extent.unmap(1, b"old".ljust(4096, b"."))
    links = [[sparse(folder / "vm-sesparse.vmdk", extent)], [flat(folder / "base-flat.vmdk", sectors)]]
    with open_chain(write_chain(folder, links)) as chain:
        runs = list(unmapped(chain))
    assert [(run.offset, run.size, run.state) for run in runs] == [(4096, 4096, "present")]
    assert [run.parent_state for run in runs] == expected


def test_what_a_shorter_link_hides_is_not_the_parents(folder: Path) -> None:
    """A base of two grains, a link of one, a link of two: under the second grain there is nothing."""
    extent = ExtentBuilder(16)
    extent.unmap(1, grain_data("base-flat", 1))
    links = [
        [sparse(folder / "a-sesparse.vmdk", extent)],
        [sparse(folder / "b-sesparse.vmdk", ExtentBuilder(8))],
        [flat(folder / "base-flat.vmdk", 16)],
    ]
    with open_chain(write_chain(folder, links)) as chain:
        assert [run.parent_state for run in unmapped(chain)] == ["none"]


@pytest.mark.parametrize("place", [0, 2])
def test_last_grain_that_is_shorter(folder: Path, place: int) -> None:
    """The grains region ends where the disk does, within its last place: that has all that the disk's last grain has."""
    extent = ExtentBuilder(17)
    extent.unmap(2, grain_data("old", 2), place)
    with open_chain(write_chain(folder, [[sparse(folder / "vm-sesparse.vmdk", extent)]])) as chain:
        (run,) = unmapped(chain)
        assert (run.offset, run.size, run.state) == (8192, 512, "present")
        assert run.read() == grain_data("old", 2)[:512]


def test_many_short_runs_are_read_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk may have millions of them. Two reads of what is below and of the old bytes for a whole row of them."""
    chain = ChainBuilder(folder, SECTORS)
    extent, asked = chain.add_delta(), []
    for grain in range(0, 256, 2):
        extent.unmap(grain, grain_data("old", grain), place=300 - grain)
        extent.allocate(grain + 1, grain_data("new", grain), place=301 - grain)
    with open_chain(chain.write()) as opened:
        below = opened.links[1].extents[0].extent.file
        for file in (below, opened.links[0].extents[0].extent.file):
            monkeypatch.setattr(
                file, "read", lambda start, size, read=file.read: asked.append(size) or read(start, size)
            )
        runs = list(unmapped(opened))
        assert len(asked) < 10
        assert [run.offset // 4096 for run in runs] == list(range(0, 256, 2))
        assert {run.state for run in runs} == {"present"}
        assert all(run.read() == grain_data("old", run.offset // 4096) for run in runs)
        assert all(run.content == describe(run.read()) for run in runs)
