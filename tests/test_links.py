"""One summary for each link of a chain."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import make_vm
import pytest
import target_fixtures
from sesparse_builder import ChainBuilder, ExtentBuilder, descriptor, grain_data
from target_fixtures import NEWEST, SECTORS, SIZE, UNKNOWN_STATE, small_chain

from dissect_sesparse import UnreadableError, open_chain
from dissect_sesparse.chain.summary import link_digest, summaries

if TYPE_CHECKING:
    from pathlib import Path

example = target_fixtures.example_vm


def test_sizes(folder: Path) -> None:
    chain = ChainBuilder(folder, SECTORS)
    first = chain.add_delta()
    for grain in (0, 1, 4095, 4096):
        first.allocate(grain, grain_data("first", grain))
    first.unmap(1)
    first.unmap(2)
    for grain in (3, 4, 5):
        first.zero(grain)
    chain.add_delta()
    with open_chain(chain.write()) as opened:
        found = list(summaries(opened))
    assert [(s.link.name, s.allocated, s.unmapped, s.zero, s.state) for s in found] == [
        ("vm-000002.vmdk", 0, 0, 0, "clean"),
        ("vm-000001.vmdk", 3 * 4096, 2 * 4096, 3 * 4096, "clean"),
        ("vm.vmdk", SIZE, 0, 0, "clean"),
    ]
    assert [summary.link.depth for summary in found] == [0, 1, 2]


def test_corrupt_entries_are_none_of_them(folder: Path) -> None:
    chain = small_chain(folder)
    for grain in range(100, 110):
        chain.links[-1].extent.set_entry(grain, UNKNOWN_STATE)
    with open_chain(chain.write()) as opened:
        summary = next(summaries(opened))
    assert (summary.allocated, summary.unmapped, summary.zero, summary.unknown) == (4096, 0, 0, 40960)


def test_partial_last_grain(folder: Path) -> None:
    """Bytes of the disk are counted, not of the file."""
    chain = ChainBuilder(folder, SECTORS + 1)
    chain.add_delta().allocate(SECTORS // 8, b"last")
    with open_chain(chain.write()) as opened:
        assert [s.allocated for s in summaries(opened)] == [512, (SECTORS + 1) * 512]


def test_dirty(folder: Path) -> None:
    chain = small_chain(folder, deltas=3)
    chain.links[2].extent.set_dirty()
    with open_chain(chain.write()) as opened:
        assert [s.state for s in summaries(opened)] == ["clean", "dirty", "clean", "clean"]


def test_example(example: Path) -> None:
    """What make_vm.py wrote and trimmed, counted from its own lists."""
    written, trimmed = [], []
    for steps in make_vm.LINKS[1:]:
        grains: dict[int, bool] = {}
        for step in steps:
            new, old = make_vm._load(step)
            grains |= dict.fromkeys(new, True) | dict.fromkeys(old, False)
        written.append(sum(grains.values()) * 4096)
        trimmed.append(sum(not live for live in grains.values()) * 4096)
    with open_chain(example.parent / NEWEST) as chain:
        found = list(summaries(chain))
    assert [s.allocated for s in found] == [written[1], written[0], make_vm.CAPACITY_SECTORS * 512]
    assert [s.unmapped for s in found] == [trimmed[1], trimmed[0], 0]


def test_digest(folder: Path) -> None:
    with open_chain(small_chain(folder).write()) as opened:
        for link, name in zip(opened.links, ["vm-000001-sesparse.vmdk", "vm-flat.vmdk"]):
            data = (folder / name).read_bytes()
            hashes = [hashlib.new(kind, data).hexdigest() for kind in ("md5", "sha1", "sha256")]
            assert link_digest(link) == tuple(hashes)


def test_digest_of_several_extents(folder: Path) -> None:
    """All files of a link in the order of the descriptor; what has no file adds nothing."""
    for name in ("a", "b"):
        ExtentBuilder(8192).write(folder / f"{name}-sesparse.vmdk")
    lines = ['RW 8192 SESPARSE "a-sesparse.vmdk"', "RW 8192 ZERO", 'RW 8192 SESPARSE "b-sesparse.vmdk"']
    (folder / "vm.vmdk").write_bytes(descriptor(lines, cid="00000001").encode())
    with open_chain(folder / "vm.vmdk") as opened:
        (summary,) = summaries(opened)
        assert summary.zero == 8192 * 512
        data = b"".join((folder / f"{name}-sesparse.vmdk").read_bytes() for name in ("a", "b"))
        assert link_digest(opened.links[0])[2] == hashlib.sha256(data).hexdigest()


def test_digest_of_a_file_that_shrinks(folder: Path) -> None:
    """Never the digest of a part without a word."""
    with open_chain(small_chain(folder).write()) as opened:
        with (folder / "vm-000001-sesparse.vmdk").open("r+b") as fh:
            fh.truncate(5 * 1024 * 1024)
        with pytest.raises(UnreadableError, match="vm-000001-sesparse"):
            link_digest(opened.links[0])
