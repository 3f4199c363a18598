"""Whole disks: chains of all shapes against the oracle, and what damage does to them."""

from __future__ import annotations

import io
import os
import random
import threading
from typing import TYPE_CHECKING

import oracle
import pytest
from disks import (
    check,
    cid,
    flat,
    grain_data,
    joined,
    pattern,
    raises_at,
    random_chain,
    random_extent,
    same,
    shuffled_places,
    sparse,
    stretches,
    write_chain,
)
from sesparse_builder import ExtentBuilder, descriptor, write_flat

from dissect_sesparse import Chain, Run, SESparseError, State, UnreadableError, open_chain
from dissect_sesparse.source.errors import (
    DescriptorError,
    ExtentError,
    FileError,
    LoopError,
    OptionError,
    ParentError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLE = 16 * 1024 * 1024


def opened(folder: Path, links: list, **options: object) -> Chain:
    return open_chain(write_chain(folder, links), **options)


# Depth


@pytest.mark.parametrize("depth", range(1, 9))
@pytest.mark.parametrize("base", [True, False])
def test_depth(folder: Path, depth: int, base: bool) -> None:
    links = random_chain(folder, random.Random(depth), depth, 4096 + 8 * depth, base=base)
    with opened(folder, links) as chain:
        assert len(chain.links) == len(links)
        assert [link.depth for link in chain.links] == list(range(len(links)))
        check(chain, links)


def test_flat_base_alone(folder: Path) -> None:
    links = [[flat(folder / "base-flat.vmdk", 4096)]]
    with opened(folder, links) as chain:
        check(chain, links)


@pytest.mark.slow
@pytest.mark.parametrize("deltas", [254, 255])
def test_depth_of_255(folder: Path, deltas: int) -> None:
    """Each link has one grain of its own; 255 links are read, one more is refused."""
    links = []
    for number in range(deltas):
        extent = ExtentBuilder(2048)
        extent.allocate(number, grain_data(f"delta{number}", number))
        extent.unmap(255)
        links.append([sparse(folder / f"link{number}-sesparse.vmdk", extent)])
    links.append([flat(folder / "base-flat.vmdk", 2048)])
    if deltas == 255:
        with pytest.raises(LoopError, match="255"):
            opened(folder, links)
        return
    with opened(folder, links) as chain:
        assert len(chain.links) == 255
        check(chain, links)


def test_states_in_every_layer_over_data(folder: Path) -> None:
    """All combinations of what three links say about a grain, over a base full of data."""
    builders = [ExtentBuilder(4096) for _ in range(3)]
    for grain in range(4**3):
        for number, builder in enumerate(builders):
            state = grain // 4**number % 4
            if state == 1:
                builder.unmap(grain, data=grain_data(f"old{number}", grain))
            elif state == 2:
                builder.zero(grain)
            elif state == 3:
                builder.allocate(grain, grain_data(f"delta{number}", grain))
    links = [[sparse(folder / f"l{n}.vmdk", builder)] for n, builder in enumerate(builders)]
    links.append([flat(folder / "base-flat.vmdk", 4096)])
    with opened(folder, links) as chain:
        check(chain, links)
        assert chain.read(0, 4096) == pattern("base-flat", 8), "nobody has it: the base"
        assert chain.read(4096, 4096) == bytes(4096), "unmapped in the newest: zeros, not the base"
        assert chain.read(2 * 4096, 4096) == bytes(4096)
        assert chain.read(3 * 4096, 4096) == grain_data("delta0", 3)
        assert chain.read(4 * 4096, 4096) == bytes(4096), "unmapped in the middle: zeros, not the base"


# Sizes


@pytest.mark.slow
@pytest.mark.parametrize("sectors", [1, 7, 8, 9, 15, 16, 17, 24, 4095, 4097, 32767, 32768, 32769, 32776, 40961])
def test_sizes_that_are_no_multiple_of_anything(folder: Path, sectors: int) -> None:
    links = random_chain(folder, random.Random(sectors), 2, sectors)
    with opened(folder, links) as chain:
        assert chain.size == sectors * 512
        check(chain, links)
        assert chain.read(chain.size - 1, 100) == chain.read(0, chain.size)[-1:]
        assert chain.read(chain.size, 100) == b""
        assert chain.read(chain.size + 5000, 100) == b""


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes",
    [
        [36864, 33000],  # the disk was grown: zeros behind the parent's end
        [36864, 33001],
        [32768, 36864],  # the child is the smaller one
        [32769, 36864],
        [4096, 2048, 4096],  # the middle has an end of its own: what the base has behind it is not the child's
        [4096, 2051, 4096],
        [8192, 8000, 8001, 8192],
        [2048, 4096, 1024, 4096],
        [4096, 1, 4096],
    ],
)
@pytest.mark.parametrize("hole", [0.3, 1.0])
def test_links_of_different_sizes(folder: Path, sizes: list[int], hole: float) -> None:
    rng = random.Random(f"{sizes}")
    links: list = [
        [sparse(folder / f"l{n}.vmdk", random_extent(rng, f"delta{n}", sectors, hole=hole))]
        for n, sectors in enumerate(sizes[:-1])
    ]
    links.append([flat(folder / "base-flat.vmdk", sizes[-1])])
    with opened(folder, links) as chain:
        check(chain, links)


def test_missing_parent_of_a_link_with_an_end_of_its_own(folder: Path) -> None:
    """Behind the middle's end there are zeros, whatever was below it."""
    links: list = [
        [sparse(folder / "l0.vmdk", ExtentBuilder(4096))],
        [sparse(folder / "l1.vmdk", ExtentBuilder(2048))],
        [flat(folder / "base-flat.vmdk", 4096)],
    ]
    path = write_chain(folder, links)
    (folder / "link2.vmdk").unlink()
    with open_chain(path, unreadable="zero") as chain:
        assert [(run.length, run.state) for run in chain.runs()] == [
            (2048 * 512, State.INVALID),
            (2048 * 512, State.UNALLOCATED),
        ]


@pytest.mark.slow
@pytest.mark.parametrize(("told", "has", "size"), [(49152, 40960, 40960), (32768, 40960, 32768), (40961, 40960, 40960)])
def test_descriptor_and_header_disagree(folder: Path, told: int, has: int, size: int) -> None:
    """The disk is as large as the smaller."""
    piece = sparse(folder / "l0.vmdk", random_extent(random.Random(1), "delta", has), told)
    links = [[piece], [flat(folder / "base-flat.vmdk", 49152)]]
    with opened(folder, links) as chain:
        assert chain.size == size * 512
        links[0] = [piece._replace(sectors=size)]
        check(chain, links)


def test_extent_that_is_too_small_is_not_the_last(folder: Path) -> None:
    """What it lacks cannot be had, and all behind it stays in place."""
    small = sparse(folder / "l0a.vmdk", random_extent(random.Random(2), "a", 2048), 3001)
    second = sparse(folder / "l0b.vmdk", random_extent(random.Random(3), "b", 2048))
    links = [[small, second], [flat(folder / "base-flat.vmdk", 5049)]]
    with opened(folder, links) as chain:
        assert chain.size == 5049 * 512
        assert raises_at(chain, 2048 * 512, 512)
        assert raises_at(chain, 3000 * 512, 512)
        expected = oracle.disk([[small._replace(sectors=2048), oracle.Zero(953), second], links[1]])
        for first, end in ((0, 2048), (3001, 5049)):
            data = b"".join(sector.data for sector in expected[first:end])
            assert chain.read(first * 512, (end - first) * 512) == data


# Several extents, odd places


def test_several_extents_in_every_link(folder: Path) -> None:
    rng = random.Random(4)
    links: list = [
        [
            sparse(folder / f"l0{n}.vmdk", random_extent(rng, f"top{n}", sectors))
            for n, sectors in enumerate((8192, 40960))
        ],
        [
            sparse(folder / f"l1{n}.vmdk", random_extent(rng, f"mid{n}", sectors))
            for n, sectors in enumerate((40960, 8192))
        ],
        [flat(folder / "base-f001.vmdk", 16384), flat(folder / "base-f002.vmdk", 32768)],
    ]
    with opened(folder, links) as chain:
        check(chain, links)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes",
    [
        [(4096,), (1, 4095)],
        [(4096,), (4095, 1)],
        [(1, 4095), (4096,)],
        [(7, 9, 4080), (4096,)],
        [(2043, 2053), (5, 4091)],
        [(2043, 2053), (4096,), (4088, 8)],
        [(1,) * 40 + (4056,), (4096,)],
        [(32769, 3), (32770, 2)],
    ],
)
def test_extents_that_start_within_a_grain(folder: Path, sizes: list[tuple[int, ...]]) -> None:
    """Then a lane is a sector."""
    rng = random.Random(f"{sizes}")
    links: list = []
    for depth, link in enumerate(sizes):
        last = depth == len(sizes) - 1
        links.append(
            [
                flat(folder / f"base{n}.vmdk", sectors, start_sector=n % 3)
                if last
                else sparse(folder / f"l{depth}-{n}.vmdk", random_extent(rng, f"d{depth}-{n}", sectors))
                for n, sectors in enumerate(link)
            ]
        )
    links.append([flat(folder / "lowest-flat.vmdk", sum(sizes[0]))])
    links[-2] = [piece for piece in links[-2]]
    with opened(folder, links) as chain:
        check(chain, links)


@pytest.mark.parametrize("start", [1, 3, 8, 2048])
def test_flat_with_a_start_sector(folder: Path, start: int) -> None:
    links: list = [
        [sparse(folder / "l0.vmdk", random_extent(random.Random(start), "delta", 4096))],
        [flat(folder / "base-flat.vmdk", 4096, start_sector=start)],
    ]
    with opened(folder, links) as chain:
        check(chain, links)


def test_two_extents_in_one_file(folder: Path) -> None:
    whole = flat(folder / "base-flat.vmdk", 8192)
    base = [whole._replace(sectors=3000, start_sector=5000), whole._replace(sectors=2000, start_sector=0)]
    links: list = [[sparse(folder / "l0.vmdk", random_extent(random.Random(5), "delta", 5000))], base]
    with opened(folder, links) as chain:
        check(chain, links)


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("sectors", [2048, 2051])
def test_zero_extent(folder: Path, where: int, sectors: int) -> None:
    base: list = [flat(folder / "base-f001.vmdk", 1024), flat(folder / "base-f002.vmdk", 1024)]
    base.insert(where, oracle.Zero(sectors))
    total = 2048 + sectors
    links = [[sparse(folder / "l0.vmdk", random_extent(random.Random(where), "delta", total))], base]
    with opened(folder, links) as chain:
        assert chain.size == total * 512
        check(chain, links)


def test_zero_extent_in_a_child_hides_its_parent(folder: Path) -> None:
    links: list = [
        [sparse(folder / "l0.vmdk", ExtentBuilder(1024)), oracle.Zero(1027)],
        [flat(folder / "base-flat.vmdk", 2051)],
    ]
    with opened(folder, links) as chain:
        check(chain, links)


@pytest.mark.parametrize("kind", ["VMFS", "vmfs", "FLAT", "Flat"])
@pytest.mark.parametrize("access", ["RW", "RDONLY", "rdonly"])
def test_types_and_access_of_a_base(folder: Path, kind: str, access: str) -> None:
    links = [[sparse(folder / "l0.vmdk", ExtentBuilder(2048))], [flat(folder / "base-flat.vmdk", 2048)]]
    path = write_chain(folder, links)
    base = folder / "link1.vmdk"
    base.write_text(base.read_text().replace("RW 2048 FLAT", f"{access} 2048 {kind}"))
    with open_chain(path) as chain:
        check(chain, links)


def test_extent_in_a_sub_folder_and_by_an_absolute_name(folder: Path) -> None:
    (folder / "sub").mkdir()
    links = [
        [sparse(folder / "sub" / "l0.vmdk", random_extent(random.Random(6), "delta", 2048))],
        [flat(folder / "base-flat.vmdk", 2048)],
    ]
    path = write_chain(folder, links)
    base = folder / "link1.vmdk"
    base.write_text(base.read_text().replace("base-flat.vmdk", "/vmfs/volumes/5f/vm/base-flat.vmdk"))
    with open_chain(path) as chain:
        check(chain, links)


def test_large_places(folder: Path) -> None:
    """Places in which both halves of the entry's number count."""
    builder = ExtentBuilder(1 << 26)  # 32 GiB
    for grain, place in enumerate((4095, 4096, 4097, 5000, 0x12345, 0x7FFFFF)):
        builder.allocate(grain, grain_data("delta", grain), place)
    builder.write(folder / "l0.vmdk")
    (folder / "l0-d.vmdk").write_text(descriptor([(1 << 26, "SESPARSE", "l0.vmdk")], cid="00000001"))
    with open_chain(folder / "l0-d.vmdk") as chain:
        for grain in range(6):
            assert chain.read(grain * 4096, 4096) == grain_data("delta", grain)
        assert chain.read(0, 6 * 4096) == b"".join(grain_data("delta", grain) for grain in range(6))


@pytest.mark.parametrize("sectors", [6 << 30, 124 << 30], ids=["3 TiB", "62 TiB"])
def test_large_disks(folder: Path, sectors: int) -> None:
    """Their holes take no time: runs and reads ask only what is there."""
    grains = [0, sectors // 16 - 1, sectors // 16, sectors // 11, sectors // 8 - 1]
    try:
        for number in range(2):
            builder = ExtentBuilder(sectors)
            for grain in grains[number::2]:
                builder.allocate(grain, grain_data(f"delta{number}", grain))
            builder.write(folder / f"l{number}.vmdk")
    except OSError as e:
        pytest.skip(f"no files of that size here: {e}")
    pieces = [[oracle.Sparse(folder / f"l{number}.vmdk", sectors)] for number in range(2)]
    with opened(folder, pieces) as chain:
        for number, grain in enumerate(grains):
            before = max(0, grain * 4096 - 4096)
            data = chain.read(before, 3 * 4096)
            assert data[grain * 4096 - before :][:4096] == grain_data(f"delta{number % 2}", grain)
        used = [(run.start // 4096, run.length // 4096) for run in chain.runs() if run.state == State.ALLOCATED]
        assert [first for first, _ in used] == sorted(grains)
        assert sum(run.length for run in chain.runs()) == chain.size == sectors * 512


def test_real_extent_over_a_base(folder: Path, real_path: Path) -> None:
    """The disk that it was, as far as is known: ``a`` over a base."""
    sectors = 1 << 20
    (folder / "real-sesparse.vmdk").write_bytes(real_path.read_bytes())
    write_flat(
        folder / "base-flat.vmdk", sectors * 512, {0: b"base" * 128, 32767: b"base" * 256, sectors - 1: b"end!" * 128}
    )
    links: list = [
        [oracle.Sparse(folder / "real-sesparse.vmdk", sectors)],
        [oracle.Flat(folder / "base-flat.vmdk", sectors)],
    ]
    with opened(folder, links) as chain:
        assert chain.read(0, TABLE) == b"a" * TABLE
        assert chain.read(TABLE, 1024) == b"base" * 128 + bytes(512)
        assert chain.read(chain.size - 512, 512) == b"end!" * 128
        assert [(run.start, run.length, run.state, run.place) for run in chain.runs()] == [
            (0, TABLE, State.ALLOCATED, 12288 * 512),
            (TABLE, sectors * 512 - TABLE, State.ALLOCATED, TABLE),
        ]


SECTORS = 32768 + 2043
"""A whole table, and a part of one that ends within a grain."""


# Damage: what cannot be had raises, all else is there and in place


@pytest.fixture
def three(folder: Path) -> tuple[list, list[ExtentBuilder]]:
    """Two deltas of 17 MiB over a base, and their builders to damage."""
    builders = [random_extent(random.Random(n), f"delta{n}", SECTORS, hole=0.5) for n in range(2)]
    links: list = [[oracle.Sparse(folder / f"l{n}.vmdk", SECTORS)] for n in range(2)]
    links.append([flat(folder / "base-flat.vmdk", SECTORS)])
    return links, builders


def damaged(folder: Path, three: tuple[list, list[ExtentBuilder]], **options: object) -> Chain:
    links, builders = three
    for number, builder in enumerate(builders):
        builder.write(folder / f"l{number}.vmdk")
    return opened(folder, links, **options)


@pytest.mark.slow
@pytest.mark.parametrize("link", [0, 1])
@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("value", [0x2000000000000000, 5, 0x1000000000000020])
def test_bad_directory_entry(folder: Path, three: tuple, link: int, slot: int, value: int) -> None:
    three[1][link].set_directory(slot, value)
    with damaged(folder, three) as chain:
        expected = check(chain, three[0])
        bad = [number for number, sector in enumerate(expected) if sector.data is None]
        first, end = (0, 32768) if slot == 0 else (32768, SECTORS)
        assert bad
        assert first <= min(bad) <= max(bad) < end
        if link == 0:
            assert len(bad) == end - first, "never the parent's bytes where it is not known whether they are to be seen"


@pytest.mark.parametrize("link", [0, 1])
def test_bad_table_entries(folder: Path, three: tuple, link: int) -> None:
    values = [*(nibble << 60 | 7 << 48 for nibble in range(4, 16)), 1, 1 << 52, 0x3FFFFFFFFFFFFFFF, 3 << 60 | 1 << 20]
    for number, value in enumerate(values):
        three[1][link].set_entry(4090 + number * 3, value)
    with damaged(folder, three) as chain:
        expected = check(chain, three[0])
        bad = {number // 8 for number, sector in enumerate(expected) if sector.data is None}
        assert bad <= {4090 + n * 3 for n in range(len(values))}
        assert link or len(bad) == len(values)


@pytest.mark.slow
@pytest.mark.parametrize("bytes_left", [0, 1, 512, 512 * 3 + 7, 4095])
@pytest.mark.parametrize("link", [0, 1])
def test_extent_cut_in_its_grains(folder: Path, three: tuple, link: int, bytes_left: int) -> None:
    with damaged(folder, three):
        pass
    builder = three[1][link]
    with (folder / f"l{link}.vmdk").open("r+b") as fh:
        fh.truncate(builder.grain_offset(1000) + bytes_left)
    with open_chain(folder / "link0.vmdk") as chain:
        expected = check(chain, three[0])
        assert any(sector.data is None for sector in expected)


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0, 1, 20000, 20003, 24577])
def test_flat_file_cut(folder: Path, kept: int) -> None:
    piece = flat(folder / "base-flat.vmdk", 24577, file_sectors=kept)
    links: list = [[sparse(folder / "l0.vmdk", random_extent(random.Random(7), "delta", 24577))], [piece]]
    with opened(folder, links) as chain:
        expected = check(chain, links)
        assert any(sector.data is None for sector in expected) == (kept < 24577)


def test_flat_file_cut_within_a_sector(folder: Path) -> None:
    piece = flat(folder / "base-flat.vmdk", 2048)
    with piece.path.open("r+b") as fh:
        fh.truncate(1000 * 512 + 100)
    with opened(folder, [[piece]]) as chain:
        check(chain, [[piece]])
        assert chain.read(1000 * 512, 100) == pattern("base-flat", 1001)[-512:-412]


def test_error_says_where_the_first_missing_byte_is(folder: Path) -> None:
    piece = flat(folder / "base-flat.vmdk", 2000, start_sector=48, file_sectors=1000)
    with opened(folder, [[piece]]) as chain:
        for offset, length in ((0, 2000 * 512), (900 * 512, 100 * 512), (952 * 512, 512)):
            with pytest.raises(UnreadableError) as caught:
                chain.read(offset, length)
            assert caught.value.offset == 952 * 512
            assert caught.value.source_offset == 1000 * 512
            assert caught.value.size == offset + length - 952 * 512
            for part in ("base-flat.vmdk", f"{952 * 512:#x}", f"{1000 * 512:#x}"):
                assert part in str(caught.value)


def test_first_of_two_flat_files_is_short(folder: Path) -> None:
    base = [flat(folder / "f1.vmdk", 2048, file_sectors=2040), flat(folder / "f2.vmdk", 2048)]
    links: list = [[sparse(folder / "l0.vmdk", random_extent(random.Random(8), "delta", 4096))], base]
    with opened(folder, links) as chain:
        check(chain, links)


def test_flat_file_longer_than_told(folder: Path) -> None:
    base = flat(folder / "base-flat.vmdk", 2000, file_sectors=4096)
    with opened(folder, [[base]]) as chain:
        check(chain, [[base]])


CUTS = [0, 8, 100, 512, 1000, 1024, 2048 * 512, 4096 * 512 - 1, 4096 * 512, 4096 * 512 + 8, 6144 * 512,
        6144 * 512 + 16384, 6144 * 512 + 32768, 6144 * 512 + 40000, 8192 * 512, 10240 * 512 + 5, 12288 * 512 - 1,
        12288 * 512]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("unreadable", ["error", "zero"])
def test_extent_cut_anywhere(folder: Path, cut: int, unreadable: str) -> None:
    """Refused at open, or in error only where bytes are missing."""
    extent = random_extent(random.Random(9), "delta", 40960)
    extent.write(folder / "l0.vmdk", truncate_to=cut)
    links: list = [[oracle.Sparse(folder / "l0.vmdk", 40960)], [flat(folder / "base-flat.vmdk", 40960)]]
    if cut < 1024 or (unreadable == "error" and cut < 12288 * 512):
        with pytest.raises(ExtentError) as caught:
            opened(folder, links, unreadable=unreadable)
        assert "l0.vmdk" in str(caught.value)
        return
    with opened(folder, links, unreadable=unreadable) as chain:
        if unreadable == "error":
            check(chain, links)
        else:
            check_zeros(chain, oracle.disk(links))


@pytest.mark.slow
@pytest.mark.parametrize("where", [(0, 4096), (0, 1 << 20), (4096 * 512, 16), (6144 * 512, 65536), (0, 8)])
def test_random_bytes_over_metadata(folder: Path, where: tuple[int, int]) -> None:
    """As ransomware leaves it. Whatever is returned was there."""
    extent = random_extent(random.Random(10), "delta", 40960)
    extent.patch(where[0], random.Random(11).randbytes(where[1]))
    links: list = [[sparse(folder / "l0.vmdk", extent)], [flat(folder / "base-flat.vmdk", 40960)]]
    if where[0] == 0:
        with pytest.raises(ExtentError, match=r"l0.vmdk: magic is"):
            opened(folder, links)
        return
    with opened(folder, links) as chain:
        check(chain, links)


# unreadable=zero


def check_zeros(chain: Chain, expected: list[oracle.Sector]) -> None:
    """Zeros where nothing can be had, all else as ever, and the list says where exactly."""
    data = joined(expected)
    same(chain.read(0, chain.size), data)
    rng = random.Random(1)
    for _ in range(200):
        offset = rng.randrange(chain.size)
        length = rng.choice((1, 512, 4096, 5000, 100_000))
        assert chain.read(offset, length) == data[offset : offset + length], f"{length} bytes at {offset:#x}"
    missing = {number for number, sector in enumerate(expected) if sector.data is None}
    told = set()
    for error in chain.unreadable.first:
        assert error.size > 0
        told |= set(range(error.offset // 512, -(-(error.offset + error.size) // 512)))
    assert told <= missing, "bytes that were there are called unreadable"
    if chain.unreadable.count == len(chain.unreadable.first):
        assert told == missing


@pytest.mark.slow
@pytest.mark.parametrize("link", [0, 1])
def test_zero_for_all_kinds_of_damage(folder: Path, three: tuple, link: int) -> None:
    builder = three[1][link]
    builder.set_directory(1, 5)
    for grain in (10, 11, 13, 4095):
        builder.set_entry(grain, 7 << 60)
    builder.set_entry(12, 3 << 60 | 0xFFFF)
    three[0][2][0] = flat(folder / "base-flat.vmdk", SECTORS, file_sectors=20_001)
    with damaged(folder, three, unreadable="zero") as chain:
        check_zeros(chain, oracle.disk(three[0]))


def test_zero_from_the_middle_of_a_bad_grain(folder: Path) -> None:
    """The bytes in front of it were not asked for; nothing else may stand in for those that were."""
    extent = ExtentBuilder(2048)
    for grain in range(4):
        extent.allocate(grain, grain_data("delta", grain))
    for grain in (1, 2):
        extent.set_entry(grain, 5 << 60)
    links: list = [[sparse(folder / "l0.vmdk", extent)]]
    for offset in (4096, 4097, 4608, 5000, 8191, 8192, 9000, 12287):
        with opened(folder, links, unreadable="zero") as chain:
            assert chain.read(offset, 12288 - offset) == bytes(12288 - offset)
            assert chain.read(offset, 12289 - offset) == bytes(12288 - offset) + grain_data("delta", 3)[:1]


def test_zero_counts_each_byte_once(folder: Path) -> None:
    extent = ExtentBuilder(2048)
    extent.allocate(5)
    extent.set_entry(5, 5 << 60)
    with opened(folder, [[sparse(folder / "l0.vmdk", extent)]], unreadable="zero") as chain:
        for offset, length in (
            (0, 1 << 20),
            (5 * 4096, 4096),
            (5 * 4096 + 512, 512),
            (0, 1 << 20),
            (5 * 4096 + 100, 5),
        ):
            assert chain.read(offset, length) == bytes(length)
        assert chain.unreadable.size == 4096
        assert [(e.offset, e.size) for e in chain.unreadable.first] == [(5 * 4096, 4096)]


def test_zero_with_a_missing_parent(folder: Path) -> None:
    links = random_chain(folder, random.Random(12), 2, 4096)
    path = write_chain(folder, links)
    (folder / "link2.vmdk").unlink()
    with pytest.raises(ParentError, match="unreadable=zero"):
        open_chain(path)
    with open_chain(path, unreadable="zero") as chain:
        assert isinstance(chain.missing_parent, ParentError)
        base = [oracle.Sector(4, None, None, None)] * 4096
        known = oracle.sparse_sectors(links[1][0], base, 0)
        check_zeros(chain, oracle.sparse_sectors(links[0][0], known, 0))


class Failing(io.BytesIO):
    """A file of which a part cannot be read: a bad sector, a gap in an image."""

    bad: tuple[int, int] = (0, 0)

    def read(self, n: int | None = -1) -> bytes:
        first = self.tell()
        if first < self.bad[1] and first + (n or 0) > self.bad[0]:
            raise OSError(5, "Input/output error")
        return super().read(n)


@pytest.mark.parametrize("unreadable", ["error", "zero"])
def test_bad_sector_under_the_evidence(unreadable: str) -> None:
    """It costs what it must, no more."""
    extent = ExtentBuilder(2048)
    for grain in range(64):
        extent.allocate(grain, grain_data("delta", grain))
    fh = Failing(extent.to_bytes())
    start = extent.grain_offset(20)
    fh.bad = (start + 1024, start + 1536)
    chain = (
        open_chain(fh, unreadable="zero") if unreadable == "zero" else open_chain(fh, parent=None, unreadable="zero")
    )
    chain.options = chain.options
    data = b"".join(grain_data("delta", grain) for grain in range(64))
    lost = 20 * 4096
    assert chain.read(0, lost) == data[:lost]
    assert chain.read(lost + 4096, 100_000) == data[lost + 4096 :][:100_000]
    got = chain.read(0, len(data))
    assert len(got) == len(data)
    assert got[:lost] == data[:lost], "whole grains in front of it were lost"
    assert got[lost + 4096 :] == data[lost + 4096 :], "whole grains behind it were lost"
    assert got[lost + 1024 : lost + 1536] == bytes(512)
    assert chain.unreadable.count >= 1


@pytest.mark.parametrize("where", ["directory", "table"])
def test_bad_sector_under_the_metadata(where: str) -> None:
    extent = ExtentBuilder(3 * 32768)
    for grain in (0, 4096, 8192):
        extent.allocate(grain, grain_data("delta", grain))
    fh = Failing(extent.to_bytes())
    offset = 4096 * 512 if where == "directory" else extent.entry_offset(4096)
    fh.bad = (offset, offset + 512)
    chain = open_chain(fh, unreadable="zero")
    assert chain.read(4096 * 4096, 4096) == bytes(4096)
    assert chain.unreadable.count == 1
    assert sum(run.length for run in chain.runs()) == chain.size
    if where == "table":
        assert chain.read(0, 4096) == grain_data("delta", 0)
        assert chain.read(8192 * 4096, 4096) == grain_data("delta", 8192)


# What cannot be opened


def test_missing_extent(folder: Path) -> None:
    links = random_chain(folder, random.Random(13), 2, 2048)
    path = write_chain(folder, links)
    for name in ("link1-sesparse.vmdk", "base-flat.vmdk"):
        (folder / name).rename(folder / "away")
        with pytest.raises(FileError, match=name) as caught:
            open_chain(path)
        assert "missing" in str(caught.value)
        (folder / "away").rename(folder / name)


@pytest.mark.parametrize("kind", ["VMFSRAW", "VSANSPARSE", "NEWTYPE", "VMFSNEW"])
@pytest.mark.parametrize("unreadable", ["error", "zero"])
def test_extent_types_that_cannot_be_read(folder: Path, kind: str, unreadable: str) -> None:
    links = [[sparse(folder / "l0.vmdk", ExtentBuilder(2048))], [flat(folder / "base-flat.vmdk", 2048)]]
    path = write_chain(folder, links)
    base = folder / "link1.vmdk"
    base.write_text(base.read_text().replace("2048 FLAT", f"2048 {kind}"))
    with pytest.raises(ExtentError, match=kind) as caught:
        open_chain(path, unreadable=unreadable)
    assert "link1.vmdk" in str(caught.value)


def test_flat_type_for_a_sesparse_file(folder: Path) -> None:
    sparse(folder / "l0.vmdk", ExtentBuilder(2048))
    (folder / "d.vmdk").write_text(descriptor([(2048, "VMFS", "l0.vmdk")], cid="00000001"))
    with pytest.raises(ExtentError, match="seSparse"):
        open_chain(folder / "d.vmdk")


def test_sesparse_type_for_a_flat_file(folder: Path) -> None:
    flat(folder / "l0.vmdk", 2048)
    (folder / "d.vmdk").write_text(descriptor([(2048, "SESPARSE", "l0.vmdk")], cid="00000001"))
    with pytest.raises(ExtentError, match="magic"):
        open_chain(folder / "d.vmdk")


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 512, b"\xff" * 5000, b"KDMV", b"# Disk DescriptorFile\n", b"x" * (2 << 20)]
)
def test_newest_descriptor_is_none(folder: Path, content: bytes) -> None:
    (folder / "d.vmdk").write_bytes(content)
    for options in ({}, {"unreadable": "zero"}):
        with pytest.raises(SESparseError) as caught:
            open_chain(folder / "d.vmdk", **options)
        assert "d.vmdk" in str(caught.value)


def test_middle_descriptor_is_none(folder: Path) -> None:
    links = random_chain(folder, random.Random(14), 2, 2048)
    path = write_chain(folder, links)
    (folder / "link1.vmdk").write_bytes(random.Random(1).randbytes(500))
    with pytest.raises(ParentError, match="link1.vmdk"):
        open_chain(path)


def test_missing_newest(folder: Path) -> None:
    for source in (folder / "d.vmdk", str(folder / "d.vmdk"), [folder / "d.vmdk"], folder, []):
        with pytest.raises(FileError):
            open_chain(source)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
@pytest.mark.parametrize("what", ["newest", "extent", "parent"])
def test_fifo(folder: Path, what: str) -> None:
    links = random_chain(folder, random.Random(15), 1, 2048)
    path = write_chain(folder, links)
    victim = {"newest": path, "extent": folder / "link0-sesparse.vmdk", "parent": folder / "link1.vmdk"}[what]
    victim.unlink()
    os.mkfifo(victim)
    with pytest.raises(SESparseError):
        open_chain(path)


@pytest.mark.parametrize("name", ["../../secret.bin", "{root}/secret.bin"])
def test_extent_outside_the_evidence(folder: Path, name: str) -> None:
    root = folder.parents[1]
    write_flat(root / "secret.bin", 2048 * 512, {0: b"secret"})
    name = name.replace("{root}", root.as_posix())
    (folder / "d.vmdk").write_text(descriptor([f'RW 2048 FLAT "{name}" 0'], cid="00000001"))
    with pytest.raises(FileError):
        open_chain(folder / "d.vmdk")


def test_start_sector_past_all_files(folder: Path) -> None:
    """Never another extent's bytes."""
    flat(folder / "a.vmdk", 2048)
    sparse(folder / "l0.vmdk", random_extent(random.Random(16), "delta", 4096))
    for start in (1 << 40, (1 << 46) - 1, 1 << 46):
        lines = ['RW 2048 FLAT "a.vmdk" 0', f'RW 2048 FLAT "a.vmdk" {start}']
        (folder / "base.vmdk").write_text(descriptor(lines, cid="0000000b", create_type="vmfs"))
        (folder / "d.vmdk").write_text(
            descriptor([(4096, "SESPARSE", "l0.vmdk")], cid="00000001", parent_cid="0000000b", parent_hint="base.vmdk")
        )
        with open_chain(folder / "d.vmdk") as chain:
            expected = oracle.disk([[oracle.Sparse(folder / "l0.vmdk", 4096)], [oracle.Flat(folder / "a.vmdk", 2048)]])
            for number in range(2048, 4096):
                if expected[number].state == 0:
                    assert raises_at(chain, number * 512, 512)
                else:
                    assert chain.read(number * 512, 512) == expected[number].data


def test_many_extents(folder: Path) -> None:
    """Four thousand in one link, over a delta: more than a window has room for in two links, not in one."""
    lines = ["RW 1 ZERO"] * 4096
    (folder / "base.vmdk").write_text(descriptor(lines, cid="0000000b", create_type="custom"))
    extent = random_extent(random.Random(17), "delta", 4096)
    sparse(folder / "l0.vmdk", extent)
    (folder / "d.vmdk").write_text(
        descriptor([(4096, "SESPARSE", "l0.vmdk")], cid="00000001", parent_cid="0000000b", parent_hint="base.vmdk")
    )
    expected = oracle.disk([[oracle.Sparse(folder / "l0.vmdk", 4096)], [oracle.Zero(4096)]])
    try:
        with open_chain(folder / "d.vmdk") as chain:
            assert chain.read(0, chain.size) == b"".join(sector.data for sector in expected)
    except SESparseError:
        pass  # refused is right too, wrong bytes are not


@pytest.mark.parametrize(
    "options",
    [{"view": "x"}, {"unreadable": "maybe"}, {"journal": ""}, {"salvage": "2"}, {"nonsense": 1}, {"view": "GUEST"}],
)
def test_options_that_do_not_exist(folder: Path, options: dict) -> None:
    path = write_chain(folder, [[flat(folder / "base-flat.vmdk", 8)]])
    with pytest.raises(OptionError, match=next(iter(options))):
        open_chain(path, **options)


def test_option_from_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_chain(folder, [[flat(folder / "base-flat.vmdk", 8, file_sectors=4)]])
    monkeypatch.setenv("DISSECT_SESPARSE_UNREADABLE", "zero")
    with open_chain(path) as chain:
        assert chain.read(2048, 2048) == bytes(2048)
    with open_chain(path, unreadable="error") as chain, pytest.raises(UnreadableError):
        chain.read(2048, 2048)


def test_no_file_stays_open_after_a_refusal(folder: Path) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not tell the open files of a process")
    links = random_chain(folder, random.Random(18), 3, 2048)
    path = write_chain(folder, links)
    (folder / "base-flat.vmdk").unlink()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(SESparseError):
            open_chain(path)
    assert len(os.listdir("/proc/self/fd")) <= before


# How it is opened


def test_extent_opens_as_its_descriptor(folder: Path) -> None:
    links = random_chain(folder, random.Random(19), 2, 4096)
    write_chain(folder, links)
    for source in (
        folder / "link0-sesparse.vmdk",
        str(folder / "link0-sesparse.vmdk"),
        [folder / "link0-sesparse.vmdk"],
    ):
        with open_chain(source) as chain:
            assert chain.name == "link0.vmdk"
            check(chain, links)
    with (folder / "link0-sesparse.vmdk").open("rb") as fh, open_chain(fh) as chain:
        assert chain.name == "link0.vmdk"
        check(chain, links)


def test_extent_whose_descriptor_has_another_name(folder: Path) -> None:
    links = random_chain(folder, random.Random(20), 1, 4096)
    write_chain(folder, links)
    (folder / "link0.vmdk").rename(folder / "another name.vmdk")
    with open_chain(folder / "link0-sesparse.vmdk") as chain:
        assert chain.name == "another name.vmdk"
        check(chain, links)


def test_extent_and_a_descriptor_that_means_another_file(folder: Path) -> None:
    """It names a file of the same name in another folder: that would be another disk."""
    other = folder.parent / "other"
    other.mkdir()
    mine = sparse(folder / "x-sesparse.vmdk", random_extent(random.Random(21), "mine", 2048))
    sparse(other / "x-sesparse.vmdk", random_extent(random.Random(22), "other", 2048))
    (folder / "x.vmdk").write_text(descriptor([(2048, "SESPARSE", "../other/x-sesparse.vmdk")], cid="00000001"))
    with pytest.raises(ParentError):
        open_chain(mine.path)
    base = write_chain(folder, [[flat(folder / "base-flat.vmdk", 2048)]])
    with open_chain(mine.path, parent=base) as chain:
        check(chain, [[mine], [oracle.Flat(folder / "base-flat.vmdk", 2048)]])


@pytest.mark.parametrize("name", ["-sesparse", "-flat", "-sesparse-flat", "-sesparse.vmdk", ".vmdk", "x"])
def test_extents_with_odd_names(folder: Path, name: str) -> None:
    sparse(folder / name, ExtentBuilder(2048))
    with pytest.raises(ParentError):
        open_chain(folder / name)


def test_extent_alone(folder: Path) -> None:
    """Its parent is unknown: holes are not zeros. What is in it can still be read."""
    extent = random_extent(random.Random(23), "delta", 4096)
    piece = sparse(folder / "x-sesparse.vmdk", extent)
    with pytest.raises(ParentError) as caught:
        open_chain(piece.path)
    for part in ("x-sesparse.vmdk", "parent=", "unreadable=zero"):
        assert part in str(caught.value)
    missing = [oracle.Sector(4, None, None, None)] * 4096
    for source in (piece.path, io.BytesIO(extent.to_bytes())):
        with open_chain(source, unreadable="zero") as chain:
            check_zeros(chain, oracle.sparse_sectors(piece, missing, 0))
    base = write_chain(folder, [[flat(folder / "base-flat.vmdk", 4096)]])
    for source in (piece.path, io.BytesIO(extent.to_bytes())):
        with open_chain(source, parent=base) as chain:
            data = b"".join(
                sector.data for sector in oracle.disk([[piece], [oracle.Flat(folder / "base-flat.vmdk", 4096)]])
            )
            assert chain.read(0, chain.size) == data


def test_file_objects(folder: Path) -> None:
    links = random_chain(folder, random.Random(24), 1, 2048)
    path = write_chain(folder, links)
    with path.open("rb") as fh, open_chain(fh) as chain:
        check(chain, links)
    with path.open("rb", buffering=0) as fh, open_chain([fh]) as chain:
        check(chain, links)
    for data in (path.read_bytes(), b"", b"whatever", bytes(10000)):
        with pytest.raises(FileError, match="path"):
            open_chain(io.BytesIO(data))


def test_a_name_of_a_file_object_proves_nothing(folder: Path) -> None:
    """``name`` may be anything; only the file that is open counts."""
    links = random_chain(folder, random.Random(25), 1, 2048)
    path = write_chain(folder, links)

    class Named(io.BytesIO):
        name = str(path)

    with pytest.raises(FileError):
        open_chain(Named(path.read_bytes()))


def test_relative_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = random_chain(folder, random.Random(26), 2, 2048)
    write_chain(folder, links)
    monkeypatch.chdir(folder)
    links = [[piece._replace(path=piece.path.relative_to(folder)) for piece in link] for link in links]
    with open_chain("link0.vmdk") as chain:
        assert chain.read(0, chain.size) == joined(oracle.disk(links))
    monkeypatch.chdir(folder.parent)
    with open_chain("vm/link0.vmdk") as chain:
        assert len(chain.links) == 3


def test_inside_an_evidence_file_system(folder: Path) -> None:
    filesystem = pytest.importorskip("dissect.target.filesystem")
    links = random_chain(folder, random.Random(27), 2, 4096)
    write_chain(folder, links)
    fs = filesystem.VirtualFilesystem()
    for file in folder.iterdir():
        fs.map_file(f"/vmfs/volumes/ds/vm/{file.name}", str(file))
    with open_chain(fs.path("/vmfs/volumes/ds/vm/link0.vmdk")) as chain:
        assert chain.read(0, chain.size) == joined(oracle.disk(links))
        assert sum(run.length for run in chain.runs()) == chain.size


# Reads


@pytest.mark.slow
def test_any_split_of_a_read(folder: Path) -> None:
    links = random_chain(folder, random.Random(28), 3, 40961)
    with opened(folder, links) as chain:
        data = joined(oracle.disk(links))
        for step in (512, 4096, 5000, 65536, 1 << 20, TABLE - 1, TABLE + 1):
            pieces = [chain.read(offset, step) for offset in range(0, min(chain.size, step * 400), step)]
            assert b"".join(pieces) == data[: step * 400]


@pytest.mark.slow
def test_reads_in_any_order(folder: Path) -> None:
    """Single blocks looked up by themselves, windows, and both mixed: the same bytes."""
    links = random_chain(folder, random.Random(29), 4, 2 * 32768 + 3)
    data = joined(oracle.disk(links))
    rng = random.Random(30)
    for _ in range(5):
        with open_chain(folder / "link0.vmdk") if (folder / "link0.vmdk").exists() else opened(folder, links) as chain:
            for _ in range(400):
                offset = rng.randrange(chain.size)
                length = rng.choice((1, 100, 512, 4096, 8192, 100_000))
                if rng.random() < 0.5:
                    offset -= offset % 4096
                assert chain.read(offset, length) == data[offset : offset + length]


@pytest.mark.slow
def test_a_small_cache_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dissect_sesparse.chain.reader.CACHE_SIZE", 1)
    links = random_chain(folder, random.Random(31), 2, 3 * 32768)
    with opened(folder, links) as chain:
        data = joined(oracle.disk(links))
        rng = random.Random(32)
        for _ in range(60):
            offset = rng.randrange(chain.size)
            assert chain.read(offset, 9000) == data[offset : offset + 9000]


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (0, -1), (100, -5), (1 << 40, 5), (4096, 0)])
def test_reads_of_nothing(folder: Path, offset: int, length: int) -> None:
    links = random_chain(folder, random.Random(33), 1, 2048)
    with opened(folder, links) as chain:
        assert chain.read(offset, length) == b""


def test_threads_share_a_disk(folder: Path) -> None:
    links = random_chain(folder, random.Random(34), 3, 2 * 32768)
    data = joined(oracle.disk(links))
    wrong: list[object] = []
    with opened(folder, links) as chain:

        def work(seed: int) -> None:
            rng = random.Random(seed)
            try:
                for _ in range(150):
                    offset = rng.randrange(chain.size)
                    length = rng.choice((512, 4096, 70_000))
                    if chain.read(offset, length) != data[offset : offset + length]:
                        wrong.append(offset)
            except Exception as e:
                wrong.append(e)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_after_closing_nothing_is_read(folder: Path) -> None:
    """Least of all another file that has meanwhile been given the number of a closed one."""
    links = random_chain(folder, random.Random(35), 1, 2048)
    chain = opened(folder, links)
    assert len(chain.read(0, chain.size)) == chain.size
    chain.close()
    (folder / "other.bin").write_bytes(b"other" * (8 << 20))
    others = [(folder / "other.bin").open("rb") for _ in range(5)]
    try:
        with pytest.raises(SESparseError):
            chain.read(0, chain.size)
        with pytest.raises(SESparseError):
            chain.read(8 * 4096, 4096)
    finally:
        for other in others:
            other.close()


# Runs


def test_runs_of_a_range(folder: Path) -> None:
    links = random_chain(folder, random.Random(36), 3, 2 * 32768 + 7)
    with opened(folder, links) as chain:
        whole = list(chain.runs())
        rng = random.Random(37)
        for _ in range(40):
            start = rng.randrange(chain.size // 512) * 512
            length = rng.choice((512, 4096, 100 * 4096, TABLE, 5 * TABLE))
            end = min(chain.size, start + length)
            expected = []
            for run in whole:
                first, last = max(run.start, start), min(run.end, end)
                if first < last:
                    place = None if run.place is None else run.place + first - run.start
                    expected.append(Run(first, last - first, run.state, place, run.source))
            assert list(chain.runs(start, length)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_runs_where_few_tables_are(folder: Path, seed: int) -> None:
    """Ranges without a table in any link are told without a look at one; the result is the same."""
    rng = random.Random(seed)
    sectors = 3 * 32768 + 13
    links: list = []
    for number in range(3):
        extent = ExtentBuilder(sectors)
        for slot in rng.sample(range(4), rng.choice((1, 2))):
            for grain in range(slot * 4096, min(slot * 4096 + rng.choice((1, 50)), -(-sectors // 8))):
                rng.choice((extent.allocate, extent.unmap, extent.zero))(grain)
        links.append([sparse(folder / f"l{number}.vmdk", extent)])
    if seed % 2:
        links.append(
            [flat(folder / "f1.vmdk", 20_003), oracle.Zero(32_768), flat(folder / "f2.vmdk", sectors - 52_771)]
        )
    with opened(folder, links) as chain:
        check(chain, links)


def test_runs_of_a_link_in_order_below_odd_extents(folder: Path) -> None:
    """A link that is one run by itself, below one that ends within a grain."""
    whole = ExtentBuilder(4096)
    for grain in range(512):
        whole.allocate(grain, grain_data("whole", grain))
    links: list = [
        [
            oracle.Zero(3),
            sparse(folder / "l0.vmdk", ExtentBuilder(2000)),
            oracle.Zero(5),
            sparse(folder / "l0b.vmdk", ExtentBuilder(2088)),
        ],
        [sparse(folder / "l1.vmdk", whole)],
        [flat(folder / "base-flat.vmdk", 4096)],
    ]
    with opened(folder, links) as chain:
        check(chain, links)
        for start in (0, 512, 1536, 2003 * 512, 2008 * 512):
            assert sum(run.length for run in chain.runs(start)) == chain.size - start


def test_runs_of_a_cut_directory(folder: Path) -> None:
    """What is not described is known to be lost, at once, also below a link that is whole."""
    sectors = 2000 * 32768
    builder = ExtentBuilder(sectors)
    builder.allocate(5, grain_data("x", 5))
    path = folder / "l1.vmdk"
    builder.write(path)
    moved = 1 << 30
    with path.open("r+b") as fh:
        fh.seek(4096 * 512)
        directory = fh.read(800)
        fh.seek(0x80)
        fh.write(moved.to_bytes(8, "little"))
        fh.seek(moved * 512)
        fh.write(directory)
    top = ExtentBuilder(sectors)
    top.allocate(4096 * 1500, grain_data("top", 4096 * 1500))
    links = [[sparse(folder / "l0.vmdk", top)], [oracle.Sparse(path, sectors)]]
    with opened(folder, links, unreadable="zero") as chain:
        found = [(run.start, run.length, run.state) for run in chain.runs()]
        at = 1500 * TABLE
        assert found == [
            (0, 5 * 4096, State.UNALLOCATED),
            (5 * 4096, 4096, State.ALLOCATED),
            (6 * 4096, 100 * TABLE - 6 * 4096, State.UNALLOCATED),
            (100 * TABLE, at - 100 * TABLE, State.INVALID),
            (at, 4096, State.ALLOCATED),
            (at + 4096, chain.size - at - 4096, State.INVALID),
        ]
        assert chain.read(at, 4096) == grain_data("top", 4096 * 1500)
        assert chain.read(100 * TABLE, 4096) == bytes(4096)
        assert chain.unreadable.count == 1


def test_stretches_and_places_are_what_they_should_be() -> None:
    """The helpers of these tests."""
    sector = oracle.HOLE
    bad = oracle.Sector(4, None, None, None)
    assert stretches([sector, sector, bad, sector]) == [(0, 2, True), (2, 3, False), (3, 4, True)]
    assert sorted(shuffled_places(random.Random(1), 100, 7)) == list(range(100))
    assert cid(31) == "c1d0001f"


def test_descriptor_errors_are_of_the_family() -> None:
    for kind in (DescriptorError, ExtentError, FileError, LoopError, OptionError, ParentError, UnreadableError):
        assert issubclass(kind, SESparseError)


def test_symlinked_disk_is_one_of_its_own_folder(folder: Path, tmp_path: Path, symlink: Callable) -> None:
    """Opened by a link in another folder, a descriptor's extents are not there: an error, nothing made up."""
    links = random_chain(folder, random.Random(38), 1, 2048)
    path = write_chain(folder, links)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    symlink(elsewhere / "d.vmdk", path)
    try:
        with open_chain(elsewhere / "d.vmdk") as chain:
            check(chain, links)
    except SESparseError:
        pass
