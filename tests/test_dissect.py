"""dissect's own reader of the same images, pinned where it is wrong.

Each test holds both readers against the bytes that were put in. One that fails because dissect is right now is good news:
then update the table of what other readers do, and this package's reason to be in front.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from dissect.target import container
from dissect.target.containers.vmdk import VmdkContainer
from sesparse_builder import ChainBuilder, ExtentBuilder, grain_data
from target_fixtures import GRAINS, SECTORS, SIZE, add_delta, messages, small_chain

from dissect_sesparse import UnreadableError
from dissect_sesparse.target.container import SESparseContainer

if TYPE_CHECKING:
    from pathlib import Path

FIXED = "fixed upstream? update the table of peers"


def theirs(path: Path, offset: int = 0, length: int = SIZE) -> bytes:
    disk = VmdkContainer(path)
    disk.seek(offset)
    return disk.read(length)


def assert_theirs_fails(path: Path, offset: int, length: int) -> None:
    try:
        theirs(path, offset, length)
    except (AssertionError, IndexError):
        return
    pytest.fail(FIXED)


def ours(path: Path, offset: int = 0, length: int = SIZE) -> bytes:
    disk = container.open(path)
    assert isinstance(disk, SESparseContainer)
    disk.seek(offset)
    return disk.read(length)


def expected(grains: dict[int, bytes], count: int = GRAINS) -> bytes:
    return b"".join(grains.get(grain, bytes(4096)) for grain in range(count))


BASE = {grain: grain_data("base", grain) for grain in range(10)} | {15: b"SWAPSPACE2".rjust(4096, b"\0")}


@pytest.mark.slow
def test_right_on_a_plain_chain(folder: Path) -> None:
    """Where nothing is odd, both agree with what was put in: the images are not to blame for the rest."""
    path = small_chain(folder, deltas=2).write()
    right = expected(BASE | {10: grain_data("delta1", 10), 20: grain_data("delta2", 20)})
    assert ours(path) == right
    assert theirs(path) == right


@pytest.mark.slow
@pytest.mark.parametrize("bare", [True, False])
def test_unmapped_grain_over_parent_data(folder: Path, bare: bool) -> None:
    """The guest trimmed grain 5; dissect shows the bytes that were there before."""
    chain = small_chain(folder)
    extent = chain.links[-1].extent
    extent.unmap(5, None if bare else grain_data("old", 5))
    path = chain.write()
    assert ours(path, 5 * 4096, 4096) == bytes(4096)
    assert theirs(path, 5 * 4096, 4096) == BASE[5], FIXED


def test_deleted_file_comes_back(folder: Path) -> None:
    """The same through two links: unmapped below, nothing above."""
    chain = small_chain(folder, deltas=2)
    chain.links[1].extent.unmap(5)
    path = chain.write()
    assert ours(path, 5 * 4096, 4096) == bytes(4096)
    assert theirs(path, 5 * 4096, 4096) == BASE[5], FIXED


@pytest.mark.slow
def test_grain_past_the_end_shifts_what_follows(folder: Path) -> None:
    """One grain that the file does not have: dissect leaves it out, and every byte behind it moves."""
    chain = ChainBuilder(folder, SECTORS, {grain * 8: grain_data("base", grain) for grain in range(GRAINS)})
    extent = chain.add_delta()
    extent.set_entry(3, 0x3 << 60 | 0xABC << 48 | 1)
    path = chain.write()
    with pytest.raises(UnreadableError, match="vm-000001-sesparse"):
        ours(path)
    assert ours(path, 4 * 4096, 4096) == grain_data("base", 4), "all else can be read, in its place"
    data = theirs(path)
    assert len(data) == SIZE - 4096, FIXED
    assert data[3 * 4096 : 4 * 4096] == grain_data("base", 4), FIXED


@pytest.mark.slow
@pytest.mark.parametrize("sectors", [SECTORS + 1, SECTORS + 8])
def test_capacity_that_is_no_multiple_of_8_kib(folder: Path, sectors: int) -> None:
    """The last block of a legitimate disk: dissect raises."""
    last = sectors // 8 * 8 - (8 if sectors % 8 == 0 else 0)
    chain = ChainBuilder(folder, sectors, {last: b"last"})
    chain.add_delta()
    path = chain.write()
    end = sectors * 512
    assert ours(path, last * 512, end - last * 512) == b"last".ljust(end - last * 512, b"\0")
    assert_theirs_fails(path, last * 512, end - last * 512)


def test_wrong_parent_by_its_name(folder: Path) -> None:
    """A linked clone with a disk of the parent's name in its own folder: dissect shows the other disk's bytes."""
    template = folder.parent / "template"
    parent = ChainBuilder(template, SECTORS, {0: grain_data("template", 0)}, "base")
    parent.write()
    other = ChainBuilder(folder, SECTORS, {0: grain_data("other", 0)}, "base")
    other.write()
    text = (folder / "base.vmdk").read_text().replace(f"\nCID={other.links[0].cid}", "\nCID=01234567")
    (folder / "base.vmdk").write_bytes(text.encode())
    path = add_delta(folder, "clone", ExtentBuilder(SECTORS), folder / "base.vmdk", parent.links[0].cid, "c10c10c1")
    path.write_bytes(path.read_bytes().replace(b'"base.vmdk"', b'"../template/base.vmdk"'))
    assert ours(path, 0, 4096) == grain_data("template", 0)
    assert theirs(path, 0, 4096) == grain_data("other", 0), FIXED


def test_cid_mismatch_in_silence(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The base was changed after the snapshot: both read it, only one says so."""
    path = small_chain(folder).write()
    base = folder / "vm.vmdk"
    base.write_bytes(base.read_bytes().replace(b"\nCID=", b"\nCID=1"))
    theirs(path)
    assert messages(caplog.records) == [], FIXED
    ours(path)
    assert any("cid-mismatch" in message for message in messages(caplog.records))


def test_dirty_journal_in_silence(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The host lost power, and the tables may be older than the guest's last writes: only one says so."""
    chain = small_chain(folder)
    chain.links[-1].extent.set_dirty()
    path = chain.write()
    theirs(path)
    assert messages(caplog.records) == [], FIXED
    ours(path)
    assert any("journal-" in message for message in messages(caplog.records))


def test_corrupt_directory_shows_the_parent(folder: Path) -> None:
    """A directory entry that is nonsense: dissect takes it for none, and shows 16 MiB of an older state."""
    chain = small_chain(folder)
    chain.links[-1].extent.set_directory(0, (1 << 64) - 1)
    path = chain.write()
    with pytest.raises(UnreadableError, match="directory"):
        ours(path, 10 * 4096, 4096)
    assert theirs(path, 10 * 4096, 4096) == bytes(4096), FIXED


def test_bare_extent_reads_as_zeros(folder: Path) -> None:
    """Its parent's bytes are holes for dissect; here the descriptor beside it is used."""
    small_chain(folder).write()
    path = folder / "vm-000001-sesparse.vmdk"
    assert ours(path, 0, 4096) == BASE[0]
    assert theirs(path, 0, 4096) == bytes(4096), FIXED


@pytest.mark.slow
@pytest.mark.parametrize(("offset", "value"), [(0x28, 1), (0x08, 0x300000000), (0x200, 0xBAD)])
def test_header_is_not_checked(folder: Path, offset: int, value: int) -> None:
    """Flags, version and the second header's magic: dissect reads on."""
    chain = small_chain(folder)
    chain.links[-1].extent.set_header(offset, value)
    path = chain.write()
    with pytest.raises(Exception, match="open container"):
        ours(path)
    assert len(theirs(path)) == SIZE, FIXED


def test_child_that_was_grown(folder: Path) -> None:
    """A hole past the end of a smaller parent is zeros; dissect raises."""
    chain = small_chain(folder, deltas=0)
    base = chain.write()
    extent = ExtentBuilder(SECTORS + 8192)
    extent.allocate(0, grain_data("grown", 0))
    path = add_delta(folder, "vm-000001", extent, base, chain.links[0].cid, "c10c10c1")
    assert ours(path, SIZE, 4096) == bytes(4096)
    assert ours(path, 0, 4096) == grain_data("grown", 0)
    assert_theirs_fails(path, SIZE, 4096)
