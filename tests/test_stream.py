"""The disk as a file object: what every consumer in dissect reads."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING

import oracle
import pytest
from disks import flat, grain_data, joined, random_chain, same, sparse, write_chain
from sesparse_builder import ExtentBuilder

from dissect_sesparse import Chain, UnreadableError, open_chain

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def disk(folder: Path) -> tuple[Chain, bytes]:
    """A disk whose size is no multiple of a grain, and its bytes."""
    links = random_chain(folder, random.Random(1), 3, 33005)
    with open_chain(write_chain(folder, links)) as chain:
        yield chain, joined(oracle.disk(links))


def test_is_a_file(disk: tuple[Chain, bytes]) -> None:
    chain, data = disk
    fh = chain.open()
    assert (fh.readable(), fh.seekable(), fh.writable(), fh.tell()) == (True, True, False, 0)
    assert fh.size == len(data)
    assert fh.seek(0, io.SEEK_END) == len(data)
    assert fh.read(10) == b""
    assert fh.seek(-3, io.SEEK_END) == len(data) - 3
    assert fh.read(10) == data[-3:]
    assert fh.seek(5) == 5
    assert fh.seek(7, io.SEEK_CUR) == 12
    assert fh.read(0) == b""
    assert fh.tell() == 12
    same(fh.read(), data[12:], 12)
    fh.seek(len(data) + 100)
    assert fh.read(5) == b""


@pytest.mark.slow
@pytest.mark.parametrize("step", [1000, 4096, 10_000, 1 << 20])
def test_front_to_back(disk: tuple[Chain, bytes], step: int) -> None:
    chain, data = disk
    fh = chain.open()
    limit = min(len(data), step * 3000)
    pieces = []
    while fh.tell() < limit:
        pieces.append(fh.read(min(step, limit - fh.tell())))
    same(b"".join(pieces), data[:limit])


@pytest.mark.slow
def test_anywhere(disk: tuple[Chain, bytes]) -> None:
    chain, data = disk
    fh = chain.open()
    rng = random.Random(2)
    for _ in range(500):
        offset, length = rng.randrange(len(data) + 10), rng.choice((1, 511, 512, 4096, 5000, 70_000))
        fh.seek(offset)
        assert fh.read(length) == data[offset : offset + length]
        assert fh.tell() == min(len(data), max(offset, offset + length)) or offset >= len(data)


@pytest.mark.slow
def test_readinto_and_peek(disk: tuple[Chain, bytes]) -> None:
    chain, data = disk
    fh = chain.open()
    buffer = bytearray(5000)
    fh.seek(len(data) - 700)
    assert fh.readinto(buffer) == 700
    assert bytes(buffer[:700]) == data[-700:]
    fh.seek(100)
    assert fh.peek(300) == data[100:400]
    assert fh.tell() == 100


def test_two_files_of_one_disk_have_a_position_each(disk: tuple[Chain, bytes]) -> None:
    chain, data = disk
    first, second = chain.open(), chain.open()
    first.seek(5000)
    assert second.read(100) == data[:100]
    assert first.read(100) == data[5000:5100]
    first.close()
    assert second.read(100) == data[100:200]


def test_buffered(disk: tuple[Chain, bytes]) -> None:
    chain, data = disk
    with io.BufferedReader(chain.open(), 3000) as fh:
        same(fh.read(), data)


# Damage


@pytest.fixture
def cut(folder: Path) -> tuple[Chain, bytes]:
    """A flat disk that ends three sectors into a block of 4 KiB, of 2048 sectors that its descriptor says."""
    piece = flat(folder / "base-flat.vmdk", 2048, file_sectors=1027)
    with open_chain(write_chain(folder, [[piece]])) as chain:
        yield chain, piece.path.read_bytes()


def test_all_in_front_of_the_damage_can_be_read(cut: tuple[Chain, bytes]) -> None:
    """Also the sectors that share a block with the first that is lost."""
    chain, data = cut
    for offset, length in ((0, 1027 * 512), (1024 * 512, 3 * 512), (1024 * 512 + 100, 1000), (1026 * 512, 512)):
        fh = chain.open()
        fh.seek(offset)
        assert fh.read(length) == data[offset : offset + length]


@pytest.mark.parametrize("start", [0, 100, 1024 * 512, 1024 * 512 + 100, 1026 * 512 + 1])
def test_a_read_that_fails_leaves_the_position(cut: tuple[Chain, bytes], start: int) -> None:
    """A consumer that goes on where it thinks it is must not get other bytes."""
    chain, data = cut
    fh = chain.open()
    fh.seek(start)
    for length in (1028 * 512, 1027 * 512 + 1):
        with pytest.raises(UnreadableError):
            fh.read(length)
        assert fh.tell() == start
    assert fh.read(10) == data[start : start + 10]


def test_reads_around_a_bad_grain(folder: Path) -> None:
    extent = ExtentBuilder(2048)
    for grain in range(8):
        extent.allocate(grain, grain_data("delta", grain))
    extent.set_entry(3, 9 << 60)
    with open_chain(write_chain(folder, [[sparse(folder / "l0.vmdk", extent)]])) as chain:
        fh = chain.open()
        data = b"".join(grain_data("delta", grain) for grain in range(8))
        for _ in range(2):
            assert fh.read(3 * 4096) == data[: 3 * 4096]
            with pytest.raises(UnreadableError) as caught:
                fh.read(1)
            assert caught.value.offset == 3 * 4096
            fh.seek(4 * 4096)
            assert fh.read(4 * 4096) == data[4 * 4096 :]
            fh.seek(3 * 4096 - 10)
            with pytest.raises(UnreadableError):
                fh.read(20)
            assert fh.read(10) == data[3 * 4096 - 10 : 3 * 4096]
            fh.seek(0)
