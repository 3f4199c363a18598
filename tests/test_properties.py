"""What holds for any disk, and for any bytes that are none."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import tempfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import oracle
import pytest
from disks import check_runs, flat, joined, random_extent, same, shuffled_places, sparse, stretches, write_chain
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sesparse_builder import ExtentBuilder, descriptor

from dissect_sesparse import Chain, SESparseError, State, UnreadableError, open_chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZES = st.one_of(st.integers(1, 3000), st.sampled_from([1, 7, 8, 9, 32760, 32767, 32768, 32769, 34000]))


@contextlib.contextmanager
def chain_of(spec: list, seed: int, **options: object) -> Iterator[tuple[Chain, list[oracle.Sector]]]:
    """A chain of links that each are lists of (kind, sectors), and what the oracle says of it."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "datastore" / "vm"
        folder.mkdir(parents=True)
        links = []
        for depth, link in enumerate(spec):
            links.append(
                [piece(folder / f"{depth}-{n}.vmdk", rng, kind, sectors) for n, (kind, sectors) in enumerate(link)]
            )
        with open_chain(write_chain(folder, links), **options) as chain:
            yield chain, oracle.disk(links)


def piece(path: Path, rng: random.Random, kind: str, sectors: int) -> oracle.Flat | oracle.Zero | oracle.Sparse:
    if kind == "zero":
        return oracle.Zero(sectors)
    if kind == "flat":
        return flat(path, sectors, start_sector=rng.choice((0, 0, 1, 63, 2048)))
    if kind == "cut":
        return flat(path, sectors, file_sectors=rng.randrange(sectors + 1))
    extent = random_extent(rng, path.stem, sectors, hole=rng.random(), longest=rng.choice((2, 40, 3000)))
    if kind == "bad":
        for _ in range(rng.randrange(1, 5)):
            extent.set_entry(
                rng.randrange(-(-sectors // 8)), rng.choice((1, 7 << 60, (1 << 64) - 1, 3 << 60 | 0xFFFFF))
            )
    return sparse(path, extent)


def specs(kinds: tuple[str, ...], depth: int) -> st.SearchStrategy[list]:
    """Chains of up to ``depth`` links: mostly one extent each and of one size, now and then not."""
    one = st.tuples(st.sampled_from(kinds), SIZES)
    odd = st.lists(st.lists(one, min_size=1, max_size=3), min_size=1, max_size=min(depth, 4))
    even = st.builds(
        lambda links, sectors: [[(kind, sectors if len(links) < 4 else sectors % 3000 + 1)] for kind in links],
        st.lists(st.sampled_from(kinds), min_size=1, max_size=depth),
        SIZES,
    )
    return st.one_of(even, odd)


DAMAGED = specs(("sparse", "sparse", "bad", "cut", "flat", "zero"), 4)
WHOLE = specs(("sparse", "sparse", "sparse", "flat", "zero"), 8)
SEEDS = st.integers(0, 1 << 32)


@pytest.mark.slow
@settings(max_examples=30)
@given(WHOLE, SEEDS)
def test_chains_read_as_the_oracle_says(spec: list, seed: int) -> None:
    with chain_of(spec, seed) as (chain, expected):
        assert chain.size == len(expected) * 512
        same(chain.read(0, chain.size), joined(expected))
        check_runs(chain, expected)


@pytest.mark.slow
@settings(max_examples=25)
@given(DAMAGED, SEEDS)
def test_damage_is_never_read_as_anything(spec: list, seed: int) -> None:
    with chain_of(spec, seed) as (chain, expected):
        check_runs(chain, expected)
        for first, end, readable in stretches(expected):
            if readable:
                same(chain.read(first * 512, (end - first) * 512), joined(expected[first:end]), first * 512)
                continue
            for number in {first, (first + end) // 2, end - 1}:
                with pytest.raises(UnreadableError):
                    chain.read(number * 512, 512)


@settings(max_examples=25)
@given(DAMAGED, SEEDS)
def test_zeros_stand_for_what_cannot_be_had(spec: list, seed: int) -> None:
    with chain_of(spec, seed, unreadable="zero") as (chain, expected):
        same(chain.read(0, chain.size), joined(expected))
        missing = {number for number, sector in enumerate(expected) if sector.data is None}
        told = [n for e in chain.unreadable.first for n in range(e.offset // 512, -(-(e.offset + e.size) // 512))]
        assert set(told) <= missing
        assert len(told) == len(set(told))
        assert chain.unreadable.size == len(missing) * 512


@pytest.mark.slow
@settings(max_examples=20)
@given(WHOLE, SEEDS, st.data())
def test_any_split_of_a_read_gives_the_same_bytes(spec: list, seed: int, data: st.DataObject) -> None:
    with chain_of(spec, seed) as (chain, expected):
        whole = joined(expected)
        fh = chain.open()
        for _ in range(data.draw(st.integers(1, 4))):
            cuts = data.draw(st.lists(st.integers(0, chain.size), max_size=8).map(sorted))
            pieces = [chain.read(a, b - a) for a, b in zip([0, *cuts], [*cuts, chain.size])]
            same(b"".join(pieces), whole)
            fh.seek(0)
            pieces = [fh.read(b - a) for a, b in zip([0, *cuts], [*cuts, chain.size])]
            same(b"".join(pieces), whole)


@pytest.mark.slow
@settings(max_examples=25)
@given(DAMAGED, SEEDS, st.data())
def test_runs_of_a_range_tile_it(spec: list, seed: int, data: st.DataObject) -> None:
    with chain_of(spec, seed) as (chain, expected):
        sectors = len(expected)
        first, end = sorted((data.draw(st.integers(0, sectors)), data.draw(st.integers(0, sectors))))
        position = first * 512
        for run in chain.runs(first * 512, (end - first) * 512):
            assert run.start == position
            assert run.length > 0
            sector = expected[run.start // 512]
            assert (run.state, run.place) == (sector.state, sector.place)
            position = run.end
        assert position == end * 512


@pytest.mark.slow
@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.integers(0, 255))
def test_the_newest_state_that_is_not_unallocated_counts(states: list[int], grain: int) -> None:
    """The rule of a chain in one grain: 0x0 looks further down, all others end the search."""
    with tempfile.TemporaryDirectory() as name:
        links: list = []
        for depth, state in enumerate(states):
            extent = ExtentBuilder(2048)
            {0: lambda grain: None, 1: extent.unmap, 2: extent.zero, 3: extent.allocate}[state](grain)
            links.append([sparse(Path(name) / f"{depth}.vmdk", extent)])
        with open_chain(write_chain(Path(name), links)) as chain:
            (run,) = chain.runs(grain * 4096, 4096)
            first = next(((depth, state) for depth, state in enumerate(states) if state), None)
            assert (run.state, run.source and run.source.depth) == ((first[1], first[0]) if first else (0, None))


@given(st.integers(1, 300), SEEDS)
def test_shuffled_places_are_all_places(count: int, seed: int) -> None:
    """Of the tests' own helper: else grains would share a place without a word."""
    assert sorted(shuffled_places(random.Random(seed), count, 7)) == list(range(count))


# Any bytes. These run in a process with limits: whatever the bytes are, a disk or an error of the one family, by a
# bounded number of calls and in 256 MiB.

NUMBERS = st.one_of(
    st.integers(0, 70),
    st.sampled_from([2048, 4096, 6144, 8192, 10240, 12288, 12287, 40960, 32768, 0xCAFEBABE]),
    st.integers(0, 63).map(lambda bit: 1 << bit),
    st.integers(0, 63).map(lambda bit: (1 << bit) - 1),
    st.integers(0, (1 << 64) - 1),
)
FILE_SIZES = st.sampled_from([0, 100, 512, 1024, 1 << 20, 3 << 20, 8 << 20, 1 << 30, 1 << 36, 1 << 41])


LARGEST = [
    (0x10, 1 << 38),
    *((0x80, 4096), (0x88, 1 << 17)),
    *((0x90, 1 << 18), (0x98, 1 << 29)),
    *((0xA0, 1 << 30), (0xA8, 1 << 23)),
    *((0xB0, 1 << 31), (0xB8, 1 << 29)),
    *((0xC0, 1 << 32), (0xC8, 1 << 38)),
]
"""Fields of the const header: capacity, then offset and size of the regions."""


def use(source: object, **options: object) -> None:
    """Open a disk and look at it in all ways; only errors of the one family may come."""
    from limits import no_memory_error, within

    with within(1_000_000), contextlib.ExitStack() as stack:
        try:
            chain = stack.enter_context(open_chain(source, **options))
        except SESparseError as e:
            no_memory_error(e)
            assert len(str(e)) < 20_000
            return
        try:
            last = None
            for run in islice(chain.runs(), 2000):
                assert run.start == (last.end if last else 0)
                last = run
        except SESparseError as e:
            no_memory_error(e)
        rng = random.Random(1)
        for offset in (
            0,
            4096,
            chain.size // 2,
            max(0, chain.size - 5000),
            *(rng.randrange(chain.size) for _ in range(20)),
        ):
            try:
                length = rng.choice((1, 4096, 1 << 20))
                assert len(chain.read(offset, length)) == min(length, chain.size - offset)
            except SESparseError as e:
                no_memory_error(e)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from(range(0, 0xD0, 8)), NUMBERS), min_size=1, max_size=5), FILE_SIZES, st.booleans()
)
# The largest disk there can be, with a directory that is a hole: there, and cut off
@example(LARGEST, 1 << 35, True)
@example(LARGEST, 1 << 35, False)
@example(LARGEST, 3 << 20, True)
# The same as an absurd one
@example([(0x10, 1 << 46), *LARGEST[1:]], 1 << 35, True)
@example([(0x88, 1 << 22), (0x80, 1 << 20)], 1 << 36, False)
def any_header(fields: list[tuple[int, int]], size: int, zero: bool) -> None:
    """A good header with some fields that are not, in a file of any size."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x-sesparse.vmdk"
        extent = ExtentBuilder(40960)
        extent.allocate(5)
        for offset, value in fields:
            extent.set_header(offset, value)
        extent.write(path, truncate_to=size)
        use(path, unreadable="zero" if zero else "error")


@settings(max_examples=100)
@given(st.binary(max_size=1024), st.booleans(), st.sampled_from(["zero", "error"]))
def any_first_bytes(data: bytes, magic: bool, unreadable: str) -> None:
    """Anything at all, with and without the magic."""
    head = struct.pack("<Q", 0xCAFEBABE) if magic else b""
    use(io.BytesIO(head + data), unreadable=unreadable)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.vmdk"
        path.write_bytes(head + data)
        use(path, unreadable=unreadable)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 70_000), st.one_of(NUMBERS, st.just(3 << 60), st.just(1 << 60))), max_size=40),
    st.lists(st.tuples(st.integers(0, 12), NUMBERS), max_size=4),
    st.integers(0, 1 << 32),
    st.sampled_from(["zero", "error"]),
)
def any_table(entries: list[tuple[int, int]], slots: list[tuple[int, int]], seed: int, unreadable: str) -> None:
    """Entries of any kind, and a piece of the directory or of a table that is random."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x-sesparse.vmdk"
        extent = random_extent(rng, "x", 4000)
        for grain, value in entries:
            extent.set_entry(grain % 500, value)
        for slot, value in slots:
            extent.set_directory(slot, value)
        if rng.random() < 0.5:
            extent.patch(rng.choice((4096, 6144)) * 512 + rng.randrange(600), rng.randbytes(rng.choice((1, 8, 4000))))
        piece = sparse(path, extent)
        base = flat(Path(name) / "base-flat.vmdk", 4000)
        descriptor = write_chain(Path(name), [[piece], [base]])
        use(descriptor, unreadable=unreadable)
        expected = oracle.disk([[piece], [base]])
        with open_chain(descriptor, unreadable="zero") as chain:
            if not any(
                path.read_bytes()[4096 * 512 : 4096 * 512 + 8]
            ):  # emptied, by what bitmap and backmap still have
                assert chain.read(0, chain.size) == bytes(chain.size)
                assert chain.unreadable.size == chain.size
                return
            same(chain.read(0, chain.size), joined(expected))
            assert {run.state for run in chain.runs()} <= set(State)


WORDS = st.sampled_from(
    [
        "RW ",
        "RDONLY ",
        "NOACCESS ",
        "8 ",
        "2048 ",
        "0 ",
        "70368744177664 ",
        "SESPARSE ",
        "FLAT ",
        "VMFS ",
        "ZERO ",
        "ZERO\n",
    ]
    + [
        "VMFSSPARSE ",
        "SPARSE ",
        "VMFSRDM ",
        '"x-flat.vmdk" ',
        '"x-sesparse.vmdk" ',
        '"x.vmdk"',
        '"../x"',
        '"/dev/zero" 0',
    ]
    + [
        "CID=",
        "parentCID=",
        "00000001\n",
        "ffffffff\n",
        "fffffffe\n",
        'parentFileNameHint="',
        'x.vmdk"\n',
        'y.vmdk"\n',
        "\n",
    ]
    + [
        "# Disk DescriptorFile\n",
        'createType="seSparse"\n',
        "ddb.x = ",
        "encoding=",
        "utf-16\n",
        "\x00",
        "é",
        "=",
        "#",
        '"',
    ]
    + ['RW 2048 SESPARSE "x-sesparse.vmdk"\n', 'RW 2048 FLAT "x-flat.vmdk" 0\n', "RW 70368744177664 ZERO\n"]
)


@settings(max_examples=120)
@given(st.one_of(st.lists(WORDS, max_size=25).map("".join), st.text(max_size=300)), st.sampled_from(["zero", "error"]))
def any_descriptor(text: str, unreadable: str) -> None:
    """Words of descriptors in any order, and any text."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "vm"
        folder.mkdir()
        ExtentBuilder(2048).write(folder / "x-sesparse.vmdk")
        (folder / "x-flat.vmdk").write_bytes(b"flat" * (1 << 18))
        (folder / "y.vmdk").write_text(descriptor([(2048, "FLAT", "x-flat.vmdk")], cid="00000001"))
        for head in ("", "# Disk DescriptorFile\nCID=2\n"):
            (folder / "x.vmdk").write_bytes((head + text).encode("utf-8", "surrogatepass"))
            use(folder / "x.vmdk", unreadable=unreadable)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["any_header", "any_first_bytes", "any_table", "any_descriptor"])
def test_any_bytes(limited: Callable[..., str], what: str) -> None:
    code = f"import limits, test_properties as t; limits.limit_memory(); t.{what}(); print('held')"
    assert "held" in limited(code)
