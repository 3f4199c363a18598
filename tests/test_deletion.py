"""When a file was deleted, by the snapshots that have it and have it no more."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import make_vm
import pytest
from dissect.target import Target
from hypothesis import given
from hypothesis import strategies as st

from dissect_sesparse.files.deletion import deletion_after_state
from dissect_sesparse.time.time_window import TimeWindow, TimeWindows

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
MOMENTS = st.none() | st.integers(0, 5).map(lambda hours: NOON + timedelta(hours=hours))


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Target:
    return Target.open(make_vm.make_vm(tmp_path_factory.mktemp("deletion") / "vm"))


@pytest.mark.slow
def test_files_have_the_window_of_the_snapshots(example: Target) -> None:
    """In the time of a link: after the snapshot below it, before its own; the running link has no end."""
    links = {record.depth: record.ts for record in example.sesparse.chain()}
    files = list(example.sesparse.files())
    assert files
    for record in files:
        assert record.deleted is None  # the example's guest has no log
        deleted_in = record.depth if record.named_by != "snapshot" else record.depth - 1
        assert (record.after, record.before) == (links.get(deleted_in + 1), links[deleted_in]), record.path
        assert "by the snapshots" in record.deleted_basis
        assert record.name_state in ("proven", "likely")
        assert record.name_basis
    assert any(record.after for record in files)


@given(MOMENTS, MOMENTS, MOMENTS, MOMENTS)
def test_a_window_only_gets_narrower_and_never_turns_round(
    a: datetime | None, b: datetime | None, c: datetime | None, d: datetime | None
) -> None:
    if a is not None and b is not None and a > b:
        a, b = b, a
    window = TimeWindow(a, b).narrowed(c, d)
    assert window.after is None or window.before is None or window.after <= window.before
    assert a is None or (window.after is not None and window.after >= a)
    assert b is None or (window.before is not None and window.before <= b)


def test_a_state_that_was_not_looked_at_to_its_end_does_not_show_that_a_file_was_gone(example: Target) -> None:
    chain = example.disks[0].chain
    windows = TimeWindows(chain)
    states = [SimpleNamespace(depth=depth, fs=SimpleNamespace(__type__="any"), volume=None) for depth in range(3)]
    whole = deletion_after_state(chain, windows, states, 2, set())
    partial = deletion_after_state(chain, windows, states, 2, {1})
    assert whole.window == (windows.frozen_at(2), windows.frozen_at(1))
    assert partial.window == (windows.frozen_at(2), windows.frozen_at(0))
    assert chain.links[0].name in partial.basis
    assert deletion_after_state(chain, windows, states, 2, {0, 1}).window == (windows.frozen_at(2), None)
