"""A second opinion: the same chains by qemu-img, byte for byte and run for run.

Only what QEMU reads right is compared; where it is silent on damage (grains past the end of a file, ZERO extents) it has no
say here.
"""

from __future__ import annotations

import json
import random
import subprocess
from typing import TYPE_CHECKING

import pytest
from disks import flat, grain_data, random_chain, random_extent, same, sparse, write_chain
from oracle import Sparse
from sesparse_builder import ExtentBuilder

from dissect_sesparse import Chain, State, UnreadableError, open_chain
from dissect_sesparse.findings.findings import opening_findings

if TYPE_CHECKING:
    from pathlib import Path


def convert(qemu_img: str, path: Path) -> bytes:
    """The bytes of the disk, by QEMU."""
    raw = path.with_name("qemu.raw")
    subprocess.run([qemu_img, "convert", "-f", "vmdk", "-O", "raw", path, raw], check=True, capture_output=True)
    return raw.read_bytes()


def block_map(qemu_img: str, path: Path) -> list[dict]:
    """Which link has which range, by QEMU."""
    command = [qemu_img, "map", "-f", "vmdk", "--output=json", path]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def compare(qemu_img: str, path: Path) -> None:
    with open_chain(path) as chain:
        same(chain.read(0, chain.size), convert(qemu_img, path))
        compare_runs(qemu_img, path, chain)


def compare_runs(qemu_img: str, path: Path, chain: Chain) -> None:
    runs = list(chain.runs())
    entries = block_map(qemu_img, path)
    assert sum(entry["length"] for entry in entries) == chain.size
    number = 0
    for entry in entries:
        position, end = entry["start"], entry["start"] + entry["length"]
        while position < end:
            while runs[number].end <= position:
                number += 1
            compare_range(entry, runs[number], position)
            position = min(end, runs[number].end)


def compare_range(entry: dict, run: object, position: int) -> None:
    """What both say of the range that starts at ``position``."""
    what = f"at {position:#x}: {entry} {run}"
    assert entry["data"] == (run.state == State.ALLOCATED), what
    assert entry["zero"] == (run.state != State.ALLOCATED), what
    if run.state == State.ALLOCATED:
        assert entry["depth"] == run.source.depth, what
        assert entry["offset"] + position - entry["start"] == run.place + position - run.start, what
    elif run.state != State.UNALLOCATED:
        assert entry["depth"] == run.source.depth, what


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("base", [True, False])
def test_chains(folder: Path, qemu_img: str, depth: int, base: bool) -> None:
    """All states over parents with data, places in order and not."""
    links = random_chain(folder, random.Random(f"{depth} {base}"), depth, 8192 + 8 * depth, base=base)
    compare(qemu_img, write_chain(folder, links))


@pytest.mark.parametrize("states", ["a", "u", "z", "b"])
def test_each_state_over_data(folder: Path, qemu_img: str, states: str) -> None:
    """0x3, 0x1 with and without a place, 0x2, each beside 0x0, over a parent full of data."""
    links = [
        [sparse(folder / f"l{n}.vmdk", random_extent(random.Random(f"{states}{n}"), f"d{n}", 4096, states=s))]
        for n, s in enumerate((states, "a"))
    ]
    links.append([flat(folder / "base-flat.vmdk", 4096)])
    compare(qemu_img, write_chain(folder, links))


def test_headers_of_newer_hosts(folder: Path, qemu_img: str) -> None:
    """QEMU refuses ``reserved1`` = 0x200: it reads a copy in which that field is 0, and both must be one disk."""
    links = random_chain(folder, random.Random(0x200), 3, 9000)
    path = write_chain(folder, links)
    expected = convert(qemu_img, path)
    for extent in folder.glob("*-sesparse.vmdk"):
        with extent.open("r+b") as fh:
            fh.seek(0x30)
            fh.write((0x200).to_bytes(8, "little"))
    with pytest.raises(subprocess.CalledProcessError):
        convert(qemu_img, path)
    with open_chain(path) as chain:
        same(chain.read(0, chain.size), expected)
        assert list(opening_findings(chain)) == []


@pytest.mark.slow
@pytest.mark.parametrize("sectors", [8, 2048, 32768, 32776, 40960, 70008])
def test_sizes(folder: Path, qemu_img: str, sectors: int) -> None:
    compare(qemu_img, write_chain(folder, random_chain(folder, random.Random(sectors), 2, sectors)))


@pytest.mark.parametrize("sizes", [(36864, 32776), (36864, 32768, 33792), (4096, 2048, 4096), (32768, 36864)])
def test_links_of_different_sizes(folder: Path, qemu_img: str, sizes: tuple[int, ...]) -> None:
    """A child that is larger than its parent, and a link in the middle with an end of its own."""
    links = [
        [sparse(folder / f"l{n}.vmdk", random_extent(random.Random(f"{sizes}{n}"), f"d{n}", sectors))]
        for n, sectors in enumerate(sizes[:-1])
    ]
    links.append([flat(folder / "base-flat.vmdk", sizes[-1])])
    path = write_chain(folder, links)
    with open_chain(path) as chain:
        same(chain.read(0, chain.size), convert(qemu_img, path))


@pytest.mark.parametrize("start", [0, 3, 2048])
def test_several_extents(folder: Path, qemu_img: str, start: int) -> None:
    rng = random.Random(start)
    links = [
        [
            sparse(folder / f"a{n}.vmdk", random_extent(rng, f"a{n}", sectors))
            for n, sectors in enumerate((2048, 34816))
        ],
        [
            sparse(folder / f"b{n}.vmdk", random_extent(rng, f"b{n}", sectors))
            for n, sectors in enumerate((34816, 2048))
        ],
        [flat(folder / "f1.vmdk", 10_240, start_sector=start), flat(folder / "f2.vmdk", 26_624, start_sector=start)],
    ]
    compare(qemu_img, write_chain(folder, links))


def test_large_places(folder: Path, qemu_img: str) -> None:
    """Both halves of the number of a place."""
    extent = ExtentBuilder(1 << 22)  # 2 GiB
    for grain, place in enumerate((4095, 4096, 4097, 5000, 0x12345, 0x3FFFF)):
        extent.allocate(grain, grain_data("delta", grain), place)
    path = write_chain(folder, [[sparse(folder / "l0.vmdk", extent)]])
    with open_chain(path) as chain:
        entries = [entry for entry in block_map(qemu_img, path) if entry["data"]]
        runs = [run for run in chain.runs() if run.state == State.ALLOCATED]
        assert [(e["start"], e["offset"]) for e in entries] == [(run.start, run.place) for run in runs]


@pytest.mark.parametrize(
    "value", [1, 1 << 52, 0x4000000000000000, 0x7000000000000000, 0x8000000000000001, 0xF000000000000000]
)
def test_both_refuse_a_bad_table_entry(folder: Path, qemu_img: str, value: int) -> None:
    extent = random_extent(random.Random(value), "delta", 4096)
    extent.set_entry(100, value)
    path = write_chain(folder, [[sparse(folder / "l0.vmdk", extent)], [flat(folder / "base-flat.vmdk", 4096)]])
    with pytest.raises(subprocess.CalledProcessError):
        convert(qemu_img, path)
    with open_chain(path) as chain, pytest.raises(UnreadableError):
        chain.read(0, chain.size)


@pytest.mark.parametrize("value", [5, 0x2000000000000000, 0x1000000100000000, (1 << 64) - 1])
def test_both_refuse_a_bad_directory_entry(folder: Path, qemu_img: str, value: int) -> None:
    extent = random_extent(random.Random(value), "delta", 4096)
    extent.set_directory(0, value)
    path = write_chain(folder, [[sparse(folder / "l0.vmdk", extent)], [flat(folder / "base-flat.vmdk", 4096)]])
    with pytest.raises(subprocess.CalledProcessError):
        convert(qemu_img, path)
    with open_chain(path) as chain, pytest.raises(UnreadableError):
        chain.read(0, chain.size)


def test_real_extent(folder: Path, qemu_img: str, real_path: Path) -> None:
    (folder / "real-sesparse.vmdk").write_bytes(real_path.read_bytes())
    path = write_chain(folder, [[Sparse(folder / "real-sesparse.vmdk", 1 << 20)]])
    with open_chain(path) as chain:
        compare_runs(qemu_img, path, chain)
