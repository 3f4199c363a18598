"""The journals of a chain as records and as findings, and the state of its links."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sesparse_builder import grain_data
from target_fixtures import SIZE, small_chain

from dissect_sesparse import open_chain
from dissect_sesparse.chain.summary import summaries
from dissect_sesparse.findings.findings import findings, opening_findings
from dissect_sesparse.findings.journals import journal

if TYPE_CHECKING:
    from pathlib import Path

    from sesparse_builder import ChainBuilder


def chain_with_journals(folder: Path) -> ChainBuilder:
    """Two deltas: the older one was closed, the newer one lost power after two transactions."""
    chain = small_chain(folder, deltas=2)
    for link in chain.links[1:]:
        link.extent.checkpoint()
    chain.links[1].extent.allocate(11, grain_data("closed", 11))
    chain.links[1].extent.commit()
    chain.links[1].extent.checkpoint()
    for grain in (30, 31):
        chain.links[2].extent.allocate(grain, grain_data("lost", grain))
        chain.links[2].extent.commit()
    chain.links[2].extent.set_dirty()
    return chain


def test_all_records_of_all_links(folder: Path) -> None:
    with open_chain(chain_with_journals(folder).write()) as chain:
        found = list(journal(chain))
        assert [(r.link.depth, r.record.slot, r.record.sequence, r.state) for r in found] == [
            (0, 0, 4, "applied"), (0, 1, 5, "applied"), (1, 0, 4, "history"),
        ]  # fmt: skip
        assert all(r.extent in r.link.sesparse_extents for r in found)
        assert [summary.state for summary in summaries(chain)] == ["replayed", "clean", "clean"]
        assert [f.code for f in findings(chain)] == ["journal-replayed"]
        assert chain.read(30 * 4096, 8192) == grain_data("lost", 30) + grain_data("lost", 31)
        assert chain.read(0, SIZE).count(b"closed disk-sector") > 0


def test_ignored(folder: Path) -> None:
    with open_chain(chain_with_journals(folder).write(), journal="ignore") as chain:
        assert [r.state for r in journal(chain)] == ["history"] * 3
        assert [summary.state for summary in summaries(chain)] == ["dirty", "clean", "clean"]
        assert [f.code for f in opening_findings(chain)] == ["journal-dirty"]
        assert chain.read(30 * 4096, 8192) == bytes(8192)


def test_torn(folder: Path) -> None:
    chain = chain_with_journals(folder)
    extent = chain.links[2].extent
    extent.patch(extent.slot_offset(1) + 0x18, b"\x19")
    with open_chain(chain.write(), unreadable="zero") as opened:
        assert [r.state for r in journal(opened)] == ["applied", "torn", "history"]
        found = list(opening_findings(opened))
        assert [(f.code, f.level, f.depth, f.source_offset) for f in found] == [
            ("journal-replayed", "warning", 0, 0x218),
            ("journal-torn", "warning", 0, extent.slot_offset(1)),
        ]
        opened.read(0, SIZE)
        assert {f.code for f in findings(opened)} == {"journal-replayed", "journal-torn", "entry-invalid", "unreadable"}


def test_a_record_that_is_not_whole_in_a_clean_extent(folder: Path) -> None:
    chain = chain_with_journals(folder)
    chain.links[1].extent.patch(chain.links[1].extent.slot_offset(0) + 0x10, b"\x09")
    with open_chain(chain.write()) as opened:
        assert [r.state for r in journal(opened)] == ["applied", "applied", "torn"]
        assert [f.code for f in findings(opened)] == ["journal-replayed"], "nothing rests on it"
