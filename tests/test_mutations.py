"""Hundreds of the mutations of ``mutations.py``; thousands are made by running it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import mutations
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_mutations(seed: int) -> None:
    outcomes = mutations.run(100, seed)
    wrong = {(kind, mode): count for (kind, mode, found), count in outcomes.items() if found == "WRONG"}
    assert not wrong, f"{wrong}: python tests/mutations.py 100 {seed} names them"
    assert {found for _, _, found in outcomes} >= {"right", "refused", "labelled"}, "they reach the usual outcomes"
    assert {(kind, mode) for kind, mode, _ in outcomes} == {
        (kind, mode) for kind in [*mutations.REGIONS, "descriptor"] for mode in mutations.MODES
    }


def test_the_document_names_the_real_extent(real_path: Path) -> None:
    """What claims rest on is told by its hash, and the table in it has no wrong byte."""
    text = (Path(__file__).parent.parent / "docs" / "validation.md").read_text(encoding="utf-8")
    assert hashlib.sha256(real_path.read_bytes()).hexdigest() in text
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    counted = [row for row in rows if row[0] in (*mutations.REGIONS, "descriptor") and len(row) == 7]
    assert len(counted) == len(mutations.MODES) * (len(mutations.REGIONS) + 1)
    assert {row[-1] for row in counted} == {"0"}
    assert sum(int(cell) for row in counted for cell in row[2:]) == 2000 * len(mutations.MODES)
