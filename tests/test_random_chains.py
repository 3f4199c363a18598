"""Some hundred random chains of odd but legal geometry; thousands are for ``python tests/random_chains.py``."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import TYPE_CHECKING

import oracle
import pyarrow.parquet as pq
import pytest
import random_chains
import trimmed_oracle
from disks import flat, sparse, write_chain
from sesparse_builder import ExtentBuilder

from dissect_sesparse import cli

if TYPE_CHECKING:
    from pathlib import Path

AT_ONCE = 10


@pytest.mark.parametrize(
    "first", [0, *(pytest.param(first, marks=pytest.mark.slow) for first in range(AT_ONCE, 200, AT_ONCE))]
)
def test_functions_and_recovery(first: int) -> None:
    """The guest's view, all functions and what is written, against the oracle."""
    for seed in range(first, first + AT_ONCE):
        try:
            random_chains.run(seed, full=False)
        except Exception as e:
            raise AssertionError(f"python tests/random_chains.py --seeds 1 --first {seed}") from e


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1006))
def test_records_tree_and_report(seed: int) -> None:
    """The same by way of a target: records, the mounted tree, the sums of the report."""
    random_chains.run(seed, full=True)


@pytest.mark.slow
def test_all_shapes_are_met(tmp_path: Path) -> None:
    """The chains above are worth something."""
    met: Counter[str] = Counter()
    for seed in range(240):
        folder = tmp_path / str(seed)
        folder.mkdir()
        disks = random_chains.make(folder, seed)
        met["two disks"] += len(disks) > 1
        for _, links in disks:
            states = oracle.states(links)
            sizes = [len(oracle.link(pieces, [])) for pieces in links]
            met["shorter parent"] += any(a > b for a, b in zip(sizes, sizes[1:]))
            met["longer parent"] += any(a < b for a, b in zip(sizes, sizes[1:]))
            met["off the grain"] += sizes[0] % 8 != 0
            met["several extents"] += any(len(pieces) > 1 for pieces in links)
            met["no base"] += isinstance(links[-1][0], oracle.Sparse)
            met["unreadable"] += any(sector.data is None for sector in states[0])
            paths = [piece.path for pieces in links for piece in pieces if not isinstance(piece, oracle.Zero)]
            met["an extent twice"] += len(set(paths)) < len(paths)
            for pieces in links:
                met.update(type(piece).__name__ for piece in pieces)
            found = trimmed_oracle.trimmed(links, states)
            met.update(old.state for old in found)
            met.update(f"parent {old.parent_state}" for old in found)
            met["loose"] += bool(trimmed_oracle.loose(links))
            alone = [oracle.link(pieces, []) for pieces in links]
            told = trimmed_oracle.changed(alone, states, random.Random(seed).randrange(len(links)), 0)
            met.update(change.kind for change in told.values())
    wanted = {
        *("two disks", "shorter parent", "longer parent", "off the grain", "several extents", "no base", "loose"),
        *("an extent twice", "unreadable", "Flat", "Zero", "Sparse", "Hosted", "Cowd", "cut", "written", "unmapped"),
        *("present", "empty", "reused", "missing", "contested", "ambiguous"),
        *("parent same", "parent different", "parent zero", "parent none", "parent None"),
    }
    assert {name for name in wanted if not met[name]} == set()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["recover", "report", "check", "fleet"])
def test_commands_on_a_parent_that_is_shorter(folder: Path, tmp_path: Path, command: str) -> None:
    """A disk of two grains, the second trimmed, over a base of one: each command tells all of it."""
    extent = ExtentBuilder(16)
    extent.unmap(1, b"old".ljust(4096, b"."))
    links = [[sparse(folder / "vm-sesparse.vmdk", extent)], [flat(folder / "base-flat.vmdk", 8)]]
    path, out = write_chain(folder, links), tmp_path / "out"
    if command == "check":
        assert cli.main(["check", str(path)]) == 3, "the sizes differ, which is a warning"
        return
    more = {"fleet": ["--workers", "1", "--functions", "chain,unmapped"], "report": ["--no-files"]}.get(command, [])
    assert cli.main([command, str(path), "-o", str(out), *more]) == 0
    if command == "recover":
        assert (out / "link0.raw").read_bytes() == bytes(4096) + b"old".ljust(4096, b".")
        assert json.loads((out / "manifest.jsonl").read_text())["parent_state"] == "none"
    elif command == "fleet":
        (row,) = pq.ParquetFile(out / "parquet" / "unmapped" / "link0.parquet").read().to_pylist()
        assert (row["offset"], row["size"], row["parent_state"]) == (4096, 4096, "none")
    else:
        assert 'title="4,096 bytes"' in out.read_text("utf-8")
