"""Disks for the tests: what the builder writes, put together as chains and described for the oracle."""

from __future__ import annotations

import random
import zlib
from typing import TYPE_CHECKING

import oracle
from sesparse_builder import ExtentBuilder, descriptor, write_flat

from dissect_sesparse.source.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dissect_sesparse.chain.chain import Chain

Pieces = list["oracle.Piece"]


def pattern(tag: str, sectors: int, first: int = 0) -> bytes:
    """Sectors that each tell whose they are and which."""
    start, fill = tag.encode() + b" %d ", tag.encode()[-1:]
    return b"".join([(start % number).ljust(512, fill) for number in range(first, first + sectors)])


def grain_data(tag: str, grain: int) -> bytes:
    """The bytes of a grain, as :func:`pattern` has them."""
    return pattern(tag, 8, grain * 8)


def flat(path: Path, sectors: int, *, start_sector: int = 0, file_sectors: int | None = None) -> oracle.Flat:
    """Write a flat file in which every sector differs, junk before ``start_sector`` included."""
    total = start_sector + sectors if file_sectors is None else file_sectors
    write_flat(path, total * 512, {0: pattern(path.stem, total)} if total else {})
    return oracle.Flat(path, sectors, start_sector)


def sparse(path: Path, extent: ExtentBuilder, sectors: int | None = None) -> oracle.Sparse:
    """Write a seSparse extent."""
    extent.write(path)
    return oracle.Sparse(path, extent.capacity_sectors if sectors is None else sectors)


def random_extent(
    rng: random.Random, tag: str, sectors: int, *, hole: float = 0.4, states: str = "auzb", longest: int = 40
) -> ExtentBuilder:
    """An extent with runs of all states: ``a`` allocated, ``u`` unmapped, ``b`` unmapped without a place, ``z`` zero."""
    extent = ExtentBuilder(sectors, tables=rng.choice(("in-order", "reversed", "by-slot")))
    grains = -(-sectors // 8)
    places = iter(shuffled_places(rng, grains, longest))
    grain = 0
    while grain < grains:
        end = min(grains, grain + rng.randint(1, longest))
        state = "hole" if rng.random() < hole else rng.choice(states)
        for number in range(grain, end):
            if state in ("a", "u"):
                extent.allocate(number, grain_data(tag, number), next(places))
            if state in ("u", "b"):
                extent.unmap(number)
            if state == "z":
                extent.zero(number)
        grain = end
    return extent


def shuffled_places(rng: random.Random, count: int, longest: int) -> list[int]:
    """Physical grains, each once, in pieces that are in order."""
    pieces, first = [], 0
    while first < count:
        end = min(count, first + rng.randint(1, longest))
        pieces.append(range(first, end))
        first = end
    rng.shuffle(pieces)
    return [place for piece in pieces for place in piece]


def random_chain(folder: Path, rng: random.Random, depth: int, sectors: int, *, base: bool = True) -> list[Pieces]:
    """Random extents over a flat base that is full of data (or over nothing), newest first."""
    links: list[Pieces] = []
    for number in range(depth):
        extent = random_extent(rng, f"delta{number}", sectors, hole=0.3 + 0.6 * rng.random())
        links.append([sparse(folder / f"link{number}-sesparse.vmdk", extent)])
    if base:
        links.append([flat(folder / "base-flat.vmdk", sectors)])
    return links


def write_chain(folder: Path, links: Sequence[Pieces], name: str = "link") -> Path:
    """Write the descriptors of a chain, ``link0.vmdk`` for the newest, and return that one's path."""
    for number, pieces in enumerate(links):
        last = number == len(links) - 1
        text = descriptor(
            [extent_line(folder, piece) for piece in pieces],
            cid=cid(number, name),
            parent_cid="ffffffff" if last else cid(number + 1, name),
            parent_hint=None if last else f"{name}{number + 1}.vmdk",
            create_type="seSparse" if any(isinstance(piece, oracle.Sparse) for piece in pieces) else "vmfs",
        )
        (folder / f"{name}{number}.vmdk").write_bytes(text.encode())
    return folder / f"{name}0.vmdk"


def extent_line(folder: Path, piece: oracle.Piece) -> str:
    if isinstance(piece, oracle.Zero):
        return f"RW {piece.sectors} ZERO"
    name = piece.path.relative_to(folder).as_posix()
    for kind, word in ((oracle.Sparse, "SESPARSE"), (oracle.Hosted, "SPARSE"), (oracle.Cowd, "VMFSSPARSE")):
        if isinstance(piece, kind):
            return f'RW {piece.sectors} {word} "{name}"'
    return f'RW {piece.sectors} FLAT "{name}" {getattr(piece, "start_sector", 0)}'


def cid(number: int, name: str = "link") -> str:
    return f"c1d{number:05x}" if name == "link" else f"{zlib.crc32(f'{name}{number}'.encode()):08x}"


# Comparing


def check(chain: Chain, links: Sequence[Pieces]) -> list[oracle.Sector]:
    """Hold a chain against the oracle: all that can be had is there and in place, all else raises."""
    expected = oracle.disk(list(links))
    assert chain.size == len(expected) * 512
    for first, end, readable in stretches(expected):
        if readable:
            data = joined(expected[first:end])
            same(chain.read(first * 512, (end - first) * 512), data, first * 512)
        else:
            for number in {first, end - 1, *range(first, end, 41)}:
                assert raises_at(chain, number * 512, 512), f"sector {number} was read"
    check_runs(chain, expected)
    return expected


def joined(sectors: list[oracle.Sector]) -> bytes:
    """The bytes of sectors, zeros for those that no answer exists for."""
    return b"".join([bytes(512) if sector.data is None else sector.data for sector in sectors])


def same(data: bytes, expected: bytes, offset: int = 0) -> None:
    """Compare bytes of a disk, and name the first sector that differs (pytest would compare megabytes for minutes)."""
    if data == expected:
        return
    assert len(data) == len(expected), "a read of another length"
    for at in range(0, len(data), 512):
        found, wanted = data[at : at + 512], expected[at : at + 512]
        assert found == wanted, f"at byte {offset + at:#x} of the disk"


def stretches(expected: list[oracle.Sector]) -> list[tuple[int, int, bool]]:
    """First sector, end and whether they can be had, of the longest ranges with one answer to that."""
    bounds = [0]
    for number in range(1, len(expected)):
        if (expected[number].data is None) != (expected[number - 1].data is None):
            bounds.append(number)
    return [(a, b, expected[a].data is not None) for a, b in zip(bounds, [*bounds[1:], len(expected)])]


def raises_at(chain: Chain, offset: int, length: int) -> bool:
    """Whether a read raises, and says where on the disk."""
    try:
        chain.read(offset, length)
    except UnreadableError as e:
        assert e.offset is not None
        assert offset <= e.offset < offset + length, f"a read of {offset:#x} met an error at {e.offset:#x}"
        return True
    return False


def check_runs(chain: Chain, expected: list[oracle.Sector]) -> None:
    """Hold the runs against the oracle, sector by sector, and see that they tile the disk and are as long as can be."""
    position, last = 0, None
    for run in chain.runs():
        assert run.start == position, "a gap or an overlap"
        assert run.length > 0
        assert last is None or not last.goes_on_as(run), f"{last} and {run} are one"
        file = run.source.extent.file if run.source is not None else None
        path, place = file.path if file is not None else None, run.place
        for sector in expected[run.start // 512 : -(-run.end // 512)]:
            assert (run.state, path, place) == sector[:3], f"in {run}"
            place = None if place is None else place + 512
        position, last = run.end, run
    assert position == chain.size
