"""A dirty extent's journal: what is applied is right, and where something of it is lost no wrong byte is shown."""

from __future__ import annotations

import io
import random
import struct
from typing import TYPE_CHECKING

import pytest
from sesparse_builder import ExtentBuilder, grain_data

from dissect_sesparse import UnreadableError
from dissect_sesparse.chain.open_extent import open_extent
from dissect_sesparse.extent.entry import State
from dissect_sesparse.extent.sesparse import SESparseExtent
from dissect_sesparse.findings.journals import journal_notes
from dissect_sesparse.repair.repairs import repairs_of
from dissect_sesparse.source.file import EvidenceFile
from dissect_sesparse.source.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SLOT = 25 * 512
JOURNAL = 2048 * 512
LOST = "lost"


def opened(image: bytes | bytearray, journal: str = "replay") -> SESparseExtent:
    return open_extent(EvidenceFile(io.BytesIO(bytes(image))), Options(journal=journal))


def codes(extent: SESparseExtent) -> list[str]:
    return [note.code for note in journal_notes(extent)]


def grains(extent: SESparseExtent, numbers: range) -> list[bytes | str]:
    """The bytes of grains as the guest sees them over zeros, ``LOST`` for those that cannot be read."""
    found: list[bytes | str] = []
    for number in numbers:
        try:
            state, place = extent.find(number * 4096)
            found.append(extent.read(place, 4096) if state == State.ALLOCATED and place is not None else bytes(4096))
        except UnreadableError:
            found.append(LOST)
    return found


# The real extent, with what its journal covers zeroed and marked dirty


@pytest.fixture(scope="module")
def lost_power(real_path: Path) -> bytes:
    """As if nothing but the journal had reached the disk."""
    image = bytearray(real_path.read_bytes())
    for sector, count in ((6144, 64), (8192, 1), (10240, 64)):
        image[sector * 512 : (sector + count) * 512] = bytes(count * 512)
    image[0x218] = 1
    return bytes(image)


def test_real(lost_power: bytes, real_path: Path) -> None:
    """Its 16 MiB come back."""
    extent = opened(lost_power)
    assert (extent.state, extent.dirty, codes(extent)) == ("replayed", True, ["journal-replayed"])
    assert repairs_of(extent).replay is not None
    assert (
        len(repairs_of(extent).replay.applied),
        repairs_of(extent).replay.changed,
        repairs_of(extent).replay.doubt,
    ) == (32, 129, None)
    assert grains(extent, range(4096)) == [b"a" * 4096] * 4096
    assert [(run.state, run.length) for run in extent.runs()] == [
        (State.ALLOCATED, 16 << 20), (State.UNALLOCATED, 496 << 20),
    ]  # fmt: skip
    clean = real_path.read_bytes()
    for sector, count in ((6144, 64), (8192, 8), (10240, 64)):
        assert extent.metadata.source.read(sector * 512, count * 512) == clean[sector * 512 : (sector + count) * 512]


def test_real_ignored(lost_power: bytes) -> None:
    extent = opened(lost_power, "ignore")
    assert (extent.state, codes(extent)) == ("dirty", ["journal-dirty"])
    assert set(grains(extent, range(0, 4096, 16))) == {bytes(4096)}


def test_real_clean_is_not_replayed(real_path: Path) -> None:
    extent = opened(real_path.read_bytes())
    assert (extent.state, repairs_of(extent).replay, codes(extent)) == ("clean", None, [])
    assert extent.metadata.source is extent.file, "and pays nothing"


def blank(image: bytearray, at: int) -> None:
    image[at : at + SLOT] = bytes(SLOT)


def no_magic(image: bytearray, at: int) -> None:
    image[at] ^= 1


def stale_last_image(image: bytearray, at: int) -> None:
    """The last sector was not written: what was there before the journal came to it."""
    image[at + 5 * 512 : at + 6 * 512] = bytes(512)


def stale_images(image: bytearray, at: int) -> None:
    image[at + 3 * 512 : at + 6 * 512] = bytes(3 * 512)


def random_images(image: bytearray, at: int) -> None:
    image[at + 512 : at + 6 * 512] = random.Random(at).randbytes(5 * 512)


def random_slot(image: bytearray, at: int) -> None:
    image[at : at + SLOT] = random.Random(at).randbytes(SLOT)


def no_targets(image: bytearray, at: int) -> None:
    image[at + 0x80 : at + 0x200] = bytes(0x180)


def other_length(image: bytearray, at: int) -> None:
    image[at + 0x18] = 7


def other_number(image: bytearray, at: int) -> None:
    image[at + 0x28] ^= 0x80


def other_generation(image: bytearray, at: int) -> None:
    image[at + 0x08] = 2


def other_slot(image: bytearray, at: int) -> None:
    image[at + 0x10] ^= 0x40


TEARS = [
    blank, no_magic, stale_last_image, stale_images, random_images, random_slot, no_targets, other_length, other_number,
    other_generation, other_slot,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "tear"),
    [(number, tear) for number in range(32) for tear in (TEARS if number in (0, 13, 31) else TEARS[number % 11 :: 11])],
)
def test_real_torn_at_each_record(lost_power: bytes, tear: Callable, number: int) -> None:
    """What the records before it tell is right; what it and those behind it told cannot be read, and that is said."""
    image = bytearray(lost_power)
    tear(image, JOURNAL + number * SLOT)
    extent = opened(image)
    assert "journal-torn" in codes(extent)
    assert ("journal-replayed" if number else "journal-dirty") in codes(extent)
    found = grains(extent, range(0, 4096, 64))
    right = number * 2  # a record has 128 grains
    assert found[:right] == [b"a" * 4096] * right
    assert set(found[right:]) == {LOST}


def test_real_message(lost_power: bytes) -> None:
    image = bytearray(lost_power)
    random_images(image, JOURNAL + 9 * SLOT)
    extent = opened(image)
    replayed, torn = journal_notes(extent)
    assert "replay_journal is 0x1" in replayed.message
    assert "9 records" in replayed.message
    assert "numbers 0x4 to 0xc" in replayed.message
    assert "best effort" in replayed.message
    assert (replayed.source_offset, torn.source_offset) == (0x218, JOURNAL + 9 * SLOT)
    assert "record 0xd in slot 9 is torn" in torn.message
    assert "2944 entries" in torn.message
    with pytest.raises(UnreadableError, match=r"grain 2000 is 0, the extent is dirty.*journal=ignore"):
        extent.locate(2000)


@pytest.mark.parametrize("sector", [2, 1024])
def test_real_without_a_journal_header(lost_power: bytes, sector: int) -> None:
    """Then no record is known to be of the last session; what they contradict is not shown."""
    image = bytearray(lost_power)
    image[1024:2048] = random.Random(sector).randbytes(1024) if sector == 2 else bytes(1024)
    extent = opened(image)
    assert codes(extent) == ["journal-dirty", "journal-torn"]
    assert set(grains(extent, range(0, 4096, 32))) == {LOST}


# Made transactions


def work(extent: ExtentBuilder) -> ExtentBuilder:
    """Grains 0 to 7 are on the disk; then the guest writes, trims and zeroes, a transaction each."""
    for grain in range(8):
        extent.allocate(grain, grain_data("old", grain))
    extent.checkpoint()
    extent.allocate(8, grain_data("new", 8))
    extent.commit()
    extent.unmap(1)
    extent.commit()
    extent.zero(2)
    extent.commit()
    extent.allocate(9, grain_data("new", 9))
    extent.allocate(4000, grain_data("new", 4000))
    extent.commit()
    extent.unmap(9)
    extent.commit()
    extent.set_dirty()
    return extent


def content(number: int) -> bytes:
    """What the guest sees in the end."""
    if number in (1, 2, 9):
        return bytes(4096)
    if number in (8, 4000):
        return grain_data("new", number)
    return grain_data("old", number) if number < 8 else bytes(4096)


NUMBERS = range(4001)
FINAL = [content(number) for number in NUMBERS]


@pytest.mark.parametrize("order", ["in-order", "reversed", "by-slot"])
def test_all_kinds_of_changes(order: str) -> None:
    builder = ExtentBuilder(3 * 32768, tables=order)
    builder.allocate(2 * 4096, grain_data("far", 8192))
    builder.allocate(4096, grain_data("far", 4096))
    extent = opened(work(builder).to_bytes())
    assert (extent.state, codes(extent)) == ("replayed", ["journal-replayed"])
    assert repairs_of(extent).replay is not None
    assert len(repairs_of(extent).replay.applied) == 5
    assert grains(extent, NUMBERS) == FINAL
    assert grains(extent, range(4096, 4097)) == [grain_data("far", 4096)]
    assert [extent.locate(n)[0] for n in (1, 2, 8, 9)] == [1, 2, 3, 1]
    assert extent.backmap.owner(builder._places[8]) == 8, "the backmap too is that after the replay"


def test_without_the_second_copies() -> None:
    """An extent whose backmap and bitmap are not kept: then there is nothing to compare, and nothing is dropped."""
    builder = ExtentBuilder(32768)
    for grain in range(8):
        builder.allocate(grain, grain_data("old", grain))
    entries = {6144: struct.pack("<9Q", *(3 << 60 | n << 48 for n in range(9))).ljust(512, b"\0")}
    builder.allocate(8, grain_data("new", 8))
    builder.add_journal_record(4, entries)
    builder.set_dirty()
    for sector in (6144, 8192, 10240):
        builder.patch(sector * 512, bytes(512))
    extent = opened(builder.to_bytes())
    assert codes(extent) == ["journal-replayed"]
    assert grains(extent, range(10)) == [grain_data("old", n) for n in range(8)] + [grain_data("new", 8), bytes(4096)]


def test_a_journal_that_went_round() -> None:
    """More transactions than slots: the oldest are overwritten, the replay starts at what is left of them."""
    builder = ExtentBuilder(32768)
    builder.allocate(0)
    builder.checkpoint()
    for grain in range(1, 100):
        builder.allocate(grain, grain_data("x", grain))
        builder.commit(slot=(grain - 1) % 81)
        if grain == 30:
            builder.checkpoint()
    builder.set_dirty()
    extent = opened(builder.to_bytes())
    assert codes(extent) == ["journal-replayed"]
    assert grains(extent, range(1, 101)) == [grain_data("x", n) for n in range(1, 100)] + [bytes(4096)]
    assert repairs_of(extent).replay is not None
    assert [record.sequence for record in repairs_of(extent).replay.applied] == list(range(99 + 4 - 81, 99 + 4))

    # The newest was not written before power went: its slot has an older one, so nothing is in doubt but its number
    builder.set_dirty(next_sequence=99 + 4 + 1)
    extent = opened(builder.to_bytes())
    assert codes(extent) == ["journal-replayed", "journal-torn"]
    assert grains(extent, range(1, 101)) == [grain_data("x", n) for n in range(1, 100)] + [bytes(4096)]


def test_older_generations_are_history() -> None:
    """They would undo what came later."""
    builder = ExtentBuilder(32768)
    builder.allocate(0, grain_data("x", 0))
    builder.checkpoint()
    old = {6144: bytes(512), 8192: bytes(512), 10240: bytes(512)}
    builder.add_journal_record(4, old, generation=0)
    builder.add_journal_record(5, old, generation=0)
    builder.allocate(1, grain_data("x", 1))
    builder.commit()
    builder.set_dirty()
    extent = opened(builder.to_bytes())
    assert repairs_of(extent).replay is not None
    assert [record.sequence for record in repairs_of(extent).replay.applied] == [6]
    assert codes(extent) == ["journal-replayed"]
    assert grains(extent, range(3)) == [grain_data("x", 0), grain_data("x", 1), bytes(4096)]


def test_nothing_to_replay() -> None:
    builder = ExtentBuilder(32768)
    builder.allocate(0, grain_data("x", 0))
    builder.set_dirty()
    extent = opened(builder.to_bytes())
    assert (extent.state, codes(extent)) == ("dirty", ["journal-dirty"])
    assert grains(extent, range(2)) == [grain_data("x", 0), bytes(4096)]
    assert extent.metadata.source is extent.file


def test_numbers_from_the_headers_next_on_are_not_applied() -> None:
    """Nothing is known of them, so what they contradict is not shown."""
    builder = ExtentBuilder(32768)
    builder.allocate(0, grain_data("x", 0))
    builder.checkpoint()
    for grain in (1, 2, 3):
        builder.allocate(grain, grain_data("x", grain))
        builder.commit()
    builder.set_dirty(next_sequence=5)
    extent = opened(builder.to_bytes())
    assert codes(extent) == ["journal-replayed", "journal-torn"]
    assert grains(extent, range(5)) == [grain_data("x", 0), grain_data("x", 1), LOST, LOST, bytes(4096)]


def copied_while_it_ran(builder: ExtentBuilder) -> None:
    """The journal was copied before the tables, which have changed since."""
    for grain in range(8):
        builder.allocate(grain, grain_data("old", grain))
    builder.checkpoint()
    builder.allocate(8, grain_data("old", 8))
    builder.commit()
    for grain in range(9, 30):
        builder.allocate(grain, grain_data("new", grain))
    builder.checkpoint()
    builder.set_dirty()


def test_tables_that_are_newer_than_the_journal() -> None:
    """What they have allocated, and backmap and bitmap too, is never shown as nothing."""
    builder = ExtentBuilder(32768)
    copied_while_it_ran(builder)
    image = builder.to_bytes()
    extent = opened(image)
    (note,) = journal_notes(extent)
    assert note.code == "journal-replayed"
    assert "21 entries" in note.message
    old = [grain_data("old", number) for number in range(9)]
    assert grains(extent, range(31)) == [*old, *[LOST] * 21, bytes(4096)]
    new = [grain_data("new", number) for number in range(9, 30)]
    assert grains(opened(image, "ignore"), range(31)) == [*old, *new, bytes(4096)]


def test_a_replay_that_fits_less_is_dropped() -> None:
    """The table's image is an older one than the tables and the bitmap know, in another sector than the backmap's."""
    builder = ExtentBuilder(32768)
    for grain in range(8):
        builder.allocate(grain, grain_data("old", grain), place=grain * 64)
    builder.checkpoint()
    builder.allocate(8, grain_data("old", 8), place=8 * 64)
    images = builder.commit()
    builder.checkpoint()
    stale = bytearray(images[builder.tables_sector])
    stale[0:8], stale[8:16] = stale[8:16], stale[0:8]  # whole, decodes, and names the places of others
    builder.patch(JOURNAL + 3 * 512, bytes(stale))
    builder.set_dirty()
    image = builder.to_bytes()
    extent = opened(image)
    dirty, torn = journal_notes(extent)
    assert (extent.state, dirty.code, torn.code) == ("dirty", "journal-dirty", "journal-torn")
    assert "agree less" in torn.message
    assert grains(extent, range(9)) == [grain_data("old", number) for number in range(9)], (
        "backmap and bitmap confirm them"
    )
    assert set(grains(extent, range(9, 64))) == {LOST}, "nothing confirms that there is nothing"
    assert set(grains(extent, range(64, 128))) == {bytes(4096)}, "the record is about other entries"


def test_the_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "x-sesparse.vmdk"
    work(ExtentBuilder(32768)).write(path)
    before = path.read_bytes()
    path.chmod(0o444)
    extent = open_extent(EvidenceFile.open(path))
    assert grains(extent, NUMBERS) == FINAL
    extent.close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("seed", range(15))
def test_any_history(seed: int) -> None:
    """Random transactions, some of which reached the tables before power went, as the guest had left it."""
    rng = random.Random(seed)
    builder = ExtentBuilder(3 * 32768, tables="by-slot", unmap_clears_bitmap=rng.random() < 0.5)
    for table in range(3):
        builder.allocate(table * 4096, grain_data("first", table * 4096))
    builder.checkpoint()
    for _ in range(rng.randint(1, 81)):
        for _ in range(rng.randint(1, 4)):
            grain = rng.randrange(3) * 4096 + rng.randrange(80)
            rng.choice((builder.allocate, builder.allocate, builder.unmap, builder.zero))(grain)
            if builder._entries[grain] >> 60 == 3:
                builder._data[builder._places[grain]] = grain_data(f"n{rng.randrange(99)}", grain)
        builder.commit()
        if rng.random() < 0.1:
            builder.checkpoint()
    builder.set_dirty()
    extent = opened(builder.to_bytes())
    assert codes(extent) == ["journal-replayed"]
    for table in range(3):
        for grain in range(table * 4096, table * 4096 + 81):
            entry = builder._entries.get(grain, 0)
            state, place = extent.locate(grain)
            assert state == entry >> 60
            if state == State.ALLOCATED:
                assert place == builder.grain_offset(builder._places[grain])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25))
def test_any_damage_to_the_journal(seed: int) -> None:
    """Whatever becomes of its bytes: a grain is as the guest left it, as it was at some time before, or cannot be read."""
    rng = random.Random(seed)
    image = bytearray(GOOD)
    for _ in range(rng.randint(1, 4)):
        at = JOURNAL + rng.randrange(6) * SLOT + rng.randrange(80) * 8
        value = rng.choice((0, 1, 1 << 60, 3 << 60, (1 << 64) - 1, rng.randrange(1 << 64)))
        image[at : at + 8] = struct.pack("<Q", value)
    extent = opened(image)
    assert codes(extent)
    found = grains(extent, NUMBERS)
    wrong = [
        number for number, data in enumerate(found)
        if data not in (FINAL[number], LOST, bytes(4096), *([grain_data("old", number)] if number < 8 else []))
    ]  # fmt: skip
    assert [number for number in wrong if number != 9] == []
    if found != FINAL:
        assert "journal-torn" in codes(extent) or "journal-replayed" in codes(extent)


GOOD = work(ExtentBuilder(32768)).to_bytes()


@pytest.mark.slow
def test_bounded(limited: Callable[..., str], tmp_path: Path) -> None:
    """A disk of 62 TiB, with a journal full of records that change the most of it, in seconds and little memory."""
    limited(
        """
        builder = sesparse_builder.ExtentBuilder(62 << 31)
        builder.allocate(0, b"x")
        rng = random.Random(1)
        tables, bitmap, backmap = builder.tables_sector, builder.bitmap_sector, builder.backmap_sector
        for number in range(81):
            spread = [rng.randrange(1 << 24) for _ in range(8)]
            images = {tables + n: b"".join(struct.pack("<Q", 3 << 60 | rng.randrange(4096) << 48 | rng.randrange(1 << 20)) for _ in range(64)) for n in spread}
            images |= {bitmap + n: rng.randbytes(512) for n in spread}
            images |= {backmap + n: b"".join(struct.pack("<Q", 1 << 60 | rng.randrange(4096) << 48 | rng.randrange(1 << 20)) for _ in range(64)) for n in spread}
            builder.add_journal_record(4 + number, images)
        builder.set_dirty()
        path = Path(sys.argv[1]) / "x-sesparse.vmdk"
        builder.write(path)
        with within(5_000_000):
            from dissect_sesparse.source.file import EvidenceFile
            from dissect_sesparse.chain.open_extent import open_extent
            open_extent(EvidenceFile.open(path)).locate(0)
        """.replace("\n        ", "\n"),
        tmp_path,
    )
