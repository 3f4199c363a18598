"""Hundreds of the mutations of ``mutations.py``; thousands are made by running it."""

from __future__ import annotations

import mutations
import pytest


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_mutations(seed: int) -> None:
    outcomes = mutations.run(100, seed)
    wrong = {kind: count for (kind, found), count in outcomes.items() if found == "WRONG"}
    assert not wrong, f"{wrong}: python tests/mutations.py 100 {seed} names them"
    assert {found for _, found in outcomes} >= {"right", "refused"}, "the mutations reach the usual outcomes"
