"""The disk as of each link, and what was written in the time of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sesparse_builder import ChainBuilder, grain_data

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.source.errors import UnreadableError
from dissect_sesparse.time.views import Origin, Period, view_at

if TYPE_CHECKING:
    from pathlib import Path

    from dissect_sesparse.chain.chain import Chain

GRAIN = 4096
SIZE = 40960 * 512


@pytest.fixture(params=["guest", "residual"])
def chain(folder: Path, request: pytest.FixtureRequest) -> Chain:
    builder = ChainBuilder(folder, SIZE // 512, {grain * 8: grain_data("base", grain) for grain in range(10)})
    first = builder.add_delta()
    for grain in (2, 3, 4):
        first.allocate(grain, grain_data("one", grain))
    first.unmap(3)
    second = builder.add_delta()
    second.allocate(0, grain_data("two", 0))
    second.unmap(0)
    second.allocate(5, grain_data("two", 5))
    second.zero(6)
    second.unmap(4)  # bare: it was written in the delta below
    second.set_entry(7, 0x1001000000000000)  # unmapped; its place was given to grain 5
    return open_chain(builder.write(), view=request.param)


def test_views(chain: Chain) -> None:
    one, base = view_at(chain, 1), view_at(chain, 2)
    assert one is not None
    assert base is not None
    assert base.read(0, 10 * GRAIN) == b"".join(grain_data("base", grain) for grain in range(10))
    assert one.read(3 * GRAIN, 2 * GRAIN) == bytes(GRAIN) + grain_data("one", 4), (
        "as the guest saw it, whatever the view"
    )
    assert view_at(chain, 3) is None


def test_origins(chain: Chain) -> None:
    period = Period(chain, 0)
    parts = [(offset // GRAIN, size // GRAIN, origin) for offset, size, origin in period.parts(0, 8 * GRAIN)]
    origins = [origin for _, count, origin in parts for _ in range(count)]
    own, below, lost = Origin.OWN, Origin.BELOW, Origin.LOST
    assert origins == [own, below, below, below, Origin.BARE, own, own, lost]
    assert period.read(0, GRAIN) == grain_data("two", 0), "trimmed, and still there"
    assert not period.is_empty(17)
    assert period.is_empty(6 * GRAIN)
    assert period.read(6 * GRAIN, GRAIN) == bytes(GRAIN)
    assert period.below is not None
    assert period.below.read(4 * GRAIN, GRAIN) == grain_data("one", 4)
    assert list(period.parts(SIZE - GRAIN, 3 * GRAIN))[-1] == (SIZE, 2 * GRAIN, lost)


def test_time_of_an_older_link(chain: Chain) -> None:
    period = Period(chain, 1)
    assert [origin for _, _, origin in period.parts(3 * GRAIN, GRAIN)] == [Origin.OWN]
    assert period.read(3 * GRAIN, GRAIN) == grain_data("one", 3)


def test_base_has_nothing_below(chain: Chain) -> None:
    period = Period(chain, 2)
    assert period.below is None
    assert list(period.parts(0, 4 * GRAIN)) == [(0, 4 * GRAIN, Origin.OWN)]


def test_missing_parent_is_not_zeros(folder: Path) -> None:
    builder = ChainBuilder(folder, SIZE // 512, {})
    builder.add_delta().allocate(1, grain_data("one", 1))
    path = builder.write()
    (folder / "vm.vmdk").unlink()
    chain = open_chain(path, unreadable="zero")
    period = Period(chain, 0)
    assert [origin for _, _, origin in period.parts(0, 2 * GRAIN)] == [Origin.BELOW, Origin.OWN]
    assert period.below is not None
    with pytest.raises(UnreadableError):
        period.below.read(0, GRAIN)


def test_ambiguous_is_lost(folder: Path) -> None:
    """A bare entry, and nothing tells whether it ever had place 0."""
    builder = ChainBuilder(folder, SIZE // 512, {8: grain_data("base", 1)})
    extent = builder.add_delta()
    extent.unmap(1)
    path = builder.write()
    with path.with_name("vm-000001-sesparse.vmdk").open("r+b") as fh:
        fh.seek(0, 2)
        fh.truncate(max(fh.tell(), extent.grain_offset(1)))
    origins = {origin for _, _, origin in Period(open_chain(path), 0).parts(GRAIN, GRAIN)}
    assert origins == {Origin.LOST}
