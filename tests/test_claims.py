"""Who names the places of unmapped grains, and the bounds on memory."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from history import random_history
from sesparse_builder import ChainBuilder, ExtentBuilder

from dissect_sesparse import State, open_chain
from dissect_sesparse.extent import claims
from dissect_sesparse.extent.claims import BareRule, Claim, ClaimedRun, claimed_runs

if TYPE_CHECKING:
    from pathlib import Path

SECTORS = 40960


def built(folder: Path) -> tuple[ChainBuilder, ExtentBuilder]:
    chain = ChainBuilder(folder, SECTORS)
    return chain, chain.add_delta()


def claimed(chain: ChainBuilder) -> list[ClaimedRun]:
    with open_chain(chain.write()) as opened:
        return list(claimed_runs(opened.links[0].sesparse_extents[0].metadata))


def test_each_claim(folder: Path) -> None:
    chain, extent = built(folder)
    extent.allocate(0, b"")
    for grain in range(10, 16):
        extent.unmap(grain, b"old", place=grain)
    extent.allocate(4100, b"new", place=12)  # in the other table
    extent.unmap(20, b"old", place=14)
    extent.unmap(30, b"old", place=5000)  # behind the file's end, once it is cut
    extent.unmap(31)
    path = chain.write()
    extent.write(folder / chain.links[1].extent_name, truncate_to=extent.grain_offset(4999) + 4095)
    with open_chain(path) as opened:
        runs = list(claimed_runs(opened.links[0].sesparse_extents[0].metadata))
    assert runs == [
        (10, 2, 10, Claim.ALONE),
        (12, 1, 12, Claim.REUSED),
        (13, 1, 13, Claim.ALONE),
        (14, 1, 14, Claim.CONTESTED),
        (15, 1, 15, Claim.ALONE),
        (20, 1, 14, Claim.CONTESTED),
        (30, 1, 5000, Claim.MISSING),
        (31, 1, None, Claim.NEVER),
    ]


@pytest.mark.parametrize(
    ("grain0", "word", "expected"),
    [
        ("allocated", None, [(1, 3, None, Claim.NEVER)]),
        ("bare", None, [(1, 1, None, Claim.NEVER), (2, 1, 0, Claim.ALONE), (3, 1, None, Claim.NEVER)]),
        ("bare", 0, [(1, 3, None, Claim.UNKNOWN)]),
        ("bare", 0x5 << 60, [(1, 3, None, Claim.UNKNOWN)]),
        ("bare", 1 << 60 | 3 << 48, [(1, 2, None, Claim.NEVER), (3, 1, 0, Claim.ALONE)]),
        ("bare", 1 << 60 | 9 << 48, [(1, 3, None, Claim.NEVER)]),  # 9 is no bare entry
        ("bare", 1 << 60 | 77, [(1, 3, None, Claim.UNKNOWN)]),  # there is no table 77
    ],
)
def test_bare_entries(folder: Path, grain0: str, word: int | None, expected: list[tuple]) -> None:
    """At most one had place 0, and only the backmap tells which."""
    chain, extent = built(folder)
    if grain0 == "allocated":
        extent.allocate(50, b"x", place=0)
    extent.unmap(1)
    extent.unmap(2, *([b"old", 0] if grain0 == "bare" else []))
    extent.unmap(3)
    extent.allocate(60, b"x", place=9)
    if word is not None:
        extent.set_backmap(0, word)
    assert claimed(chain) == expected


def test_bare_entry_in_a_file_without_grains(folder: Path) -> None:
    chain, extent = built(folder)
    extent.unmap(2, b"old", place=0)
    path = chain.write()
    extent.write(folder / chain.links[1].extent_name, truncate_to=extent.grain_offset(0))
    with open_chain(path) as opened:
        rule = BareRule(opened.links[0].sesparse_extents[0].metadata)
        assert (rule.owner, rule.claim) == (2, Claim.NEVER)
        assert list(claimed_runs(rule.metadata)) == [(2, 1, 0, Claim.MISSING)]


def test_groups_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by looking at some blocks at a time; the result is the same."""
    recorded = random_history(tmp_path / "vm", random.Random(7), 1)
    with open_chain(recorded.path) as chain:
        (extent,) = chain.links[0].sesparse_extents
        whole = list(claimed_runs(extent.metadata))
        monkeypatch.setattr(claims, "MAX_BLOCKS", 1)
        assert list(claimed_runs(extent.metadata)) == whole
        assert (
            sum(run.count for run in whole)
            == sum(run.length for run in extent.runs() if run.state == State.UNMAPPED) // 4096
        )


def test_run_over_two_blocks(folder: Path) -> None:
    """Places that follow one another over the end of a block of 4096 are one run."""
    chain, extent = built(folder)
    extent.allocate(0, b"")
    for number in range(6):
        extent.unmap(100 + number, b"old", place=4093 + number)
    assert claimed(chain) == [(100, 6, 4093, Claim.ALONE)]
