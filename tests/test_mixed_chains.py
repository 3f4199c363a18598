"""Chains of seSparse, hosted sparse, ESX sparse, flat and mapped extents; hints and types that are not what they say."""

from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

import pytest
from disks import cid
from hypothesis import given, settings
from hypothesis import strategies as st
from sesparse_builder import ChainBuilder, ExtentBuilder, grain_data
from vmdk_builder import CowdBuilder, HostedBuilder, StreamBuilder, descriptor, told

from dissect_sesparse.chain.chain import Chain, open_chain
from dissect_sesparse.chain.detect import is_ours
from dissect_sesparse.extent.entry import State
from dissect_sesparse.findings.findings import opening_findings
from dissect_sesparse.source.errors import ExtentError, LoopError, ParentError, SESparseError

if TYPE_CHECKING:
    from pathlib import Path

CAPACITY = 3 * 4096
"""Sectors: three tables of an ESX extent, 1536 grains of a seSparse one, 96 of a hosted one."""

Sectors = list["bytes | None"]
"""What a link has: a sector's bytes, or ``None`` where its parent's show."""


def laid_over(links: list[Sectors], sectors: int) -> bytes:
    """The oracle: for each sector the newest link that has it; zeros where none has."""
    out = []
    for number in range(sectors):
        found = (link[number] for link in links if number < len(link) and link[number] is not None)
        out.append(next(found, bytes(512)))
    return b"".join(out)


# One link of each kind. Each writes an extent and returns what it holds


def random_grains(rng: random.Random, count: int) -> list[int]:
    """Runs and single grains, in the order in which they are written."""
    grains: list[int] = []
    for _ in range(rng.randint(1, 6)):
        first = rng.randrange(count)
        grains += range(first, min(count, first + rng.choice([1, 1, 2, 9])))
    grains = list(dict.fromkeys(grains))
    if rng.random() < 0.5:
        rng.shuffle(grains)
    return grains


def fill(held: Sectors, grain: int, size: int, data: bytes | None) -> None:
    for k in range(size):
        if grain * size + k < len(held):
            held[grain * size + k] = bytes(512) if data is None else data[k * 512 : k * 512 + 512]


def sesparse(path: Path, tag: str, sectors: int, rng: random.Random) -> tuple[str, Sectors]:
    extent, held = ExtentBuilder(sectors), [None] * sectors
    for grain in random_grains(rng, -(-sectors // 8)):
        data, state = told(tag, grain * 8, 8), rng.choice("aaauzb")
        if state in "au":
            extent.allocate(grain, data)
        if state in "ub":
            extent.unmap(grain)
        if state == "z":
            extent.zero(grain)
        fill(held, grain, 8, data if state == "a" else None)
    extent.write(path)
    return "SESPARSE", held


def hosted(path: Path, tag: str, sectors: int, rng: random.Random) -> tuple[str, Sectors]:
    size = rng.choice([8, 16, 128])
    extent, held = HostedBuilder(sectors, grain=size, flags=0x7, version=2), [None] * sectors
    for grain in random_grains(rng, -(-sectors // size)):
        data = told(tag, grain * size, size) if rng.random() < 0.8 else None
        if data is None:
            extent.zero(grain)
        else:
            extent.allocate(grain, data)
        fill(held, grain, size, data)
    extent.write(path)
    return "SPARSE", held


def stream(path: Path, tag: str, sectors: int, rng: random.Random) -> tuple[str, Sectors]:
    extent, held = StreamBuilder(sectors, level=1), [None] * sectors
    for grain in random_grains(rng, -(-sectors // 128)):
        data = told(tag, grain * 128, 128)
        extent.allocate(grain, data)
        fill(held, grain, 128, data)
    extent.write(path)
    return "SPARSE", held


def cowd(path: Path, tag: str, sectors: int, rng: random.Random) -> tuple[str, Sectors]:
    size = rng.choice([1, 1, 1, 8])
    extent, held = CowdBuilder(sectors, grain=size), [None] * sectors
    for grain in random_grains(rng, -(-sectors // size)):
        data = told(tag, grain * size, size)
        extent.allocate(grain, data)
        fill(held, grain, size, data)
    extent.write(path)
    return "VMFSSPARSE", held


def flat(path: Path, tag: str, sectors: int, rng: random.Random) -> tuple[str, Sectors]:
    data = told(tag, 0, sectors)
    path.write_bytes(data)
    return rng.choice(["FLAT", "VMFS", "VMFSRDM"]), [data[k : k + 512] for k in range(0, len(data), 512)]


KINDS = {"sesparse": sesparse, "hosted": hosted, "stream": stream, "cowd": cowd, "flat": flat}


def write(folder: Path, kinds: list[list[str]], rng: random.Random) -> tuple[Path, list[Sectors]]:
    """A chain, newest first; each link is a list of pieces, cut where ``rng`` says."""
    links = []
    for number, pieces in enumerate(kinds):
        cuts = sorted(rng.sample(range(1, CAPACITY), len(pieces) - 1)) if len(pieces) > 1 else []
        if rng.random() < 0.5:
            cuts = [max(1, cut // 8) * 8 for cut in cuts]
        held: Sectors = []
        lines = []
        for piece, (kind, first, end) in enumerate(zip(pieces, [0, *cuts], [*cuts, CAPACITY], strict=True)):
            if end <= first:
                continue
            name = f"link{number}-{piece}.bin"
            told_type, sectors = KINDS[kind](folder / name, f"{number}.{piece}", end - first, rng)
            access = rng.choice(["RW", "RDONLY", "NOACCESS"])
            start = " 0" if told_type == "FLAT" else ""
            lines.append(f'{access} {end - first} {told_type} "{name}"{start}')
            held += sectors
        links.append(held)
        last = number == len(kinds) - 1
        text = descriptor(
            lines,
            cid=cid(number),
            parent_cid="ffffffff" if last else cid(number + 1),
            parent_hint=None if last else f"link{number + 1}.vmdk",
            create_type="custom",
        )
        (folder / f"link{number}.vmdk").write_text(text)
    return folder / "link0.vmdk", links


def check(chain: Chain, links: list[Sectors], rng: random.Random) -> None:
    """All of the disk in one read, pieces at odd places, and the runs."""
    expected = laid_over(links, chain.size // 512)
    assert chain.read(0, chain.size) == expected
    for _ in range(20):
        offset, length = rng.randrange(chain.size), rng.choice([1, 100, 512, 4096, 70_000])
        assert chain.read(offset, length) == expected[offset : offset + length]
    position = 0
    for run in chain.runs():
        assert run.start == position
        position = run.end
        if run.state == State.ALLOCATED:
            assert run.source.extent.read(run.place, run.length) == expected[run.start : run.end]
        else:
            assert run.state != State.INVALID
            assert not any(expected[run.start : run.end])
    assert position == chain.size


@pytest.mark.slow
@settings(max_examples=30)
@given(
    st.lists(st.sampled_from(["sesparse", "hosted", "stream", "cowd", "flat"]), min_size=1, max_size=5),
    st.integers(0, 10**9),
)
def test_any_mix_of_links(tmp_path_factory: pytest.TempPathFactory, kinds: list[str], seed: int) -> None:
    folder, rng = tmp_path_factory.mktemp("mix", numbered=True), random.Random(seed)
    path, links = write(folder, [[kind] for kind in kinds], rng)
    with open_chain(path) as chain:
        check(chain, links, rng)


@pytest.mark.slow
@settings(max_examples=30)
@given(
    st.lists(st.lists(st.sampled_from(["hosted", "stream", "cowd", "flat"]), min_size=1, max_size=3), max_size=3),
    st.integers(0, 10**9),
)
def test_any_mix_of_pieces(tmp_path_factory: pytest.TempPathFactory, kinds: list[list[str]], seed: int) -> None:
    folder, rng = tmp_path_factory.mktemp("pieces", numbered=True), random.Random(seed)
    path, links = write(folder, [["sesparse"], *kinds], rng)
    with open_chain(path) as chain:
        check(chain, links, rng)


# The chains of the list of cases


def delta(folder: Path, parent: str, parent_cid: str, *, sectors: int = CAPACITY, kind: str = "SESPARSE") -> Path:
    """A seSparse delta with grains 1 and 5, over a parent."""
    extent = ExtentBuilder(sectors)
    for grain in (1, 5):
        extent.allocate(grain, grain_data("delta", grain))
    extent.write(folder / "delta-sesparse.vmdk")
    lines = [f'RW {sectors} {kind} "delta-sesparse.vmdk"']
    text = descriptor(lines, cid="de17a000", parent_cid=parent_cid, parent_hint=parent, create_type="seSparse")
    (folder / "delta.vmdk").write_text(text)
    return folder / "delta.vmdk"


def over(data: bytes, sectors: int = CAPACITY) -> bytes:
    """What the guest sees of that delta over a parent's bytes."""
    out = bytearray(data.ljust(sectors * 512, b"\x00")[: sectors * 512])
    for grain in (1, 5):
        out[grain * 4096 : grain * 4096 + 4096] = grain_data("delta", grain)
    return bytes(out)


def read_all(path: Path) -> bytes:
    with open_chain(path) as chain:
        return chain.read(0, chain.size)


def codes(path: Path) -> list[str]:
    with open_chain(path) as chain:
        return sorted(finding.code for finding in opening_findings(chain))


def base(folder: Path, line: str, parent_cid: str = "ffffffff") -> None:
    (folder / "base.vmdk").write_text(descriptor([line], cid="ba5e0000", parent_cid=parent_cid))


def monolithic(folder: Path, name: str = "base", *, sectors: int = CAPACITY, **keywords: str) -> HostedBuilder:
    text = descriptor([f'RW {sectors} SPARSE "{name}.vmdk"'], **{"cid": "ba5e0000", **keywords})
    extent = HostedBuilder(sectors, descriptor=text)
    for grain in (0, 5, 17):
        extent.allocate(grain, told(name, grain * 128, 128))
    extent.write(folder / f"{name}.vmdk")
    return extent


def monolithic_bytes(name: str = "base", below: bytes = b"") -> bytes:
    out = bytearray(below or bytes(CAPACITY * 512))
    for grain in (0, 5, 17):
        out[grain * 65536 : grain * 65536 + 65536] = told(name, grain * 128, 128)
    return bytes(out)


@pytest.mark.parametrize("sectors", [CAPACITY, CAPACITY + 2048, CAPACITY + 13])
def test_c06_s02_sesparse_over_monolithic_sparse(folder: Path, sectors: int) -> None:
    monolithic(folder)
    path = delta(folder, "base.vmdk", "ba5e0000", sectors=sectors)
    assert read_all(path) == over(monolithic_bytes(), sectors)
    assert codes(path) == (["capacity-mismatch"] if sectors != CAPACITY else [])


@pytest.mark.parametrize("sectors", [CAPACITY, CAPACITY + 2048, CAPACITY + 13, CAPACITY - 100])
def test_c05_s04_sesparse_over_cowd_over_flat(folder: Path, sectors: int) -> None:
    (folder / "base-flat.vmdk").write_bytes(told("flat", 0, CAPACITY))
    base(folder, f'RW {CAPACITY} VMFS "base-flat.vmdk"')
    extent = CowdBuilder(CAPACITY)
    for sector in (3, 8, 40, 41, 9000):
        extent.allocate(sector, told("cowd", sector, 1))
    extent.write(folder / "mid-delta.vmdk")
    lines = [f'RW {CAPACITY} VMFSSPARSE "mid-delta.vmdk"']
    text = descriptor(lines, cid="c0bd0000", parent_cid="ba5e0000", parent_hint="base.vmdk", create_type="vmfsSparse")
    (folder / "mid.vmdk").write_text(text)
    path = delta(folder, "mid.vmdk", "c0bd0000", sectors=sectors)
    expected = bytearray(told("flat", 0, CAPACITY))
    for sector in (3, 8, 40, 41, 9000):
        expected[sector * 512 : sector * 512 + 512] = told("cowd", sector, 1)
    assert read_all(path) == over(bytes(expected), sectors)


def test_c07_monolithic_over_monolithic(folder: Path, qemu_img: str) -> None:
    monolithic(folder)
    monolithic(folder, "child", cid="c41d0000", parent_cid="ba5e0000", parent_hint="base.vmdk")
    raw = folder / "converted.raw"
    subprocess.run([qemu_img, "convert", "-f", "vmdk", "-O", "raw", folder / "child.vmdk", raw], check=True)
    assert read_all(folder / "child.vmdk") == raw.read_bytes() == monolithic_bytes("child", monolithic_bytes())
    with (folder / "child.vmdk").open("rb") as fh:
        assert not is_ours(fh, folder / "child.vmdk")  # dissect's own reads such chains


def test_qemus_own_chain(folder: Path, qemu_img: str) -> None:
    base_path, child = folder / "base.vmdk", folder / "child.vmdk"
    subprocess.run([qemu_img, "create", "-f", "vmdk", base_path, "20M"], check=True)
    subprocess.run(["qemu-io", "-f", "vmdk", "-c", "write -P 1 0 1M", base_path], check=True)
    create = [qemu_img, "create", "-f", "vmdk", "-F", "vmdk", "-b", base_path.name, child]
    subprocess.run(create, check=True, cwd=folder)
    subprocess.run(["qemu-io", "-f", "vmdk", "-c", "write -P 2 100k 8k", child], check=True)
    raw = folder / "converted.raw"
    subprocess.run([qemu_img, "convert", "-f", "vmdk", "-O", "raw", child, raw], check=True)
    with open_chain(child) as chain:
        assert [link.name for link in chain.links] == ["child.vmdk", "base.vmdk"]
        assert chain.read(0, chain.size) == raw.read_bytes()


def test_detection_finds_sesparse_below_a_monolithic_delta(folder: Path) -> None:
    chain = ChainBuilder(folder, CAPACITY, {0: told("flat", 0, CAPACITY)}, name="vm")
    chain.add_delta().allocate(3, grain_data("vm", 3))
    chain.write()
    keywords = {"cid": "c41d0000", "parent_cid": chain.links[1].cid, "parent_hint": "vm-000001.vmdk"}
    extent = monolithic(folder, "child", **keywords)
    with (folder / "child.vmdk").open("rb") as fh:
        assert is_ours(fh, folder / "child.vmdk")
    # Wherever in the file the descriptor is
    text = extent.descriptor.encode().ljust(20 * 512, b"\x00")
    extent.patch(28, extent.next_sector.to_bytes(8, "little"))
    extent.patch(512, bytes(len(text)))
    extent.patch(extent.next_sector * 512, text)
    extent.write(folder / "child.vmdk")
    with (folder / "child.vmdk").open("rb") as fh:
        assert is_ours(fh, folder / "child.vmdk")
    below = bytearray(told("flat", 0, CAPACITY))
    below[3 * 4096 : 4 * 4096] = grain_data("vm", 3)
    assert read_all(folder / "child.vmdk") == monolithic_bytes("child", bytes(below))
    # Without its folder nothing says what is below
    with (folder / "child.vmdk").open("rb") as fh:
        assert not is_ours(fh, fh)


def test_a_loop_through_a_monolithic_delta_is_one(folder: Path) -> None:
    monolithic(folder, "a", cid="aaaaaaaa", parent_cid="bbbbbbbb", parent_hint="b.vmdk")
    monolithic(folder, "b", cid="bbbbbbbb", parent_cid="aaaaaaaa", parent_hint="a.vmdk")
    with pytest.raises(LoopError):
        open_chain(folder / "a.vmdk")
    with (folder / "a.vmdk").open("rb") as fh:
        assert not is_ours(fh, folder / "a.vmdk")


# Raw device mappings, and access that is not RW


def test_c11_a_mapping_with_its_bytes(folder: Path) -> None:
    (folder / "base-rdm.vmdk").write_bytes(told("device", 0, CAPACITY + 5))
    base(folder, f'RW {CAPACITY} VMFSRDM "base-rdm.vmdk"')
    assert read_all(delta(folder, "base.vmdk", "ba5e0000")) == over(told("device", 0, CAPACITY))


@pytest.mark.parametrize("size", [None, 0, 512, CAPACITY * 512 - 1])
@pytest.mark.parametrize("unreadable", ["error", "zero"])
def test_c11b_a_mapping_without_its_bytes(folder: Path, size: int | None, unreadable: str) -> None:
    if size is not None:
        (folder / "base-rdm.vmdk").write_bytes(bytes(size))
    base(folder, f'RW {CAPACITY} VMFSRDM "base-rdm.vmdk"')
    with pytest.raises(ExtentError, match=r"base-rdm\.vmdk.*") as caught:
        open_chain(delta(folder, "base.vmdk", "ba5e0000"), unreadable=unreadable)
    assert "a raw device mapping, whose bytes are on the device" in str(caught.value)


def test_c12_a_raw_device(folder: Path) -> None:
    (folder / "base-raw.vmdk").write_bytes(told("device", 0, CAPACITY))
    base(folder, f'RW {CAPACITY} VMFSRAW "base-raw.vmdk"')
    with pytest.raises(ExtentError, match=r"VMFSRAW.*a raw device mapping"):
        open_chain(delta(folder, "base.vmdk", "ba5e0000"))


@pytest.mark.parametrize("access", ["RDONLY", "NOACCESS"])
@pytest.mark.parametrize("kind", ["VMFS", "SPARSE", "VMFSSPARSE"])
def test_c14_access_changes_nothing(folder: Path, access: str, kind: str) -> None:
    data = told("base", 0, 128)
    if kind == "VMFS":
        (folder / "base-x.vmdk").write_bytes(data.ljust(CAPACITY * 512, b"\x00"))
    elif kind == "SPARSE":
        extent = HostedBuilder(CAPACITY)
        extent.allocate(0, data)
        extent.write(folder / "base-x.vmdk")
    else:
        cow = CowdBuilder(CAPACITY, grain=128)
        cow.allocate(0, data)
        cow.write(folder / "base-x.vmdk")
    base(folder, f'{access} {CAPACITY} {kind} "base-x.vmdk"')
    assert read_all(delta(folder, "base.vmdk", "ba5e0000")) == over(data)


# Types that are not what the file is


@pytest.mark.parametrize("kind", ["VMFSSPARSE", "SPARSE"])
def test_q21_the_magic_decides_between_sparse_types(folder: Path, kind: str) -> None:
    (folder / "base-flat.vmdk").write_bytes(told("flat", 0, CAPACITY))
    base(folder, f'RW {CAPACITY} VMFS "base-flat.vmdk"')
    path = delta(folder, "base.vmdk", "ba5e0000", kind=kind)
    assert read_all(path) == over(told("flat", 0, CAPACITY))
    with open_chain(path) as chain:
        (placed,) = chain.links[0].extents
        assert (placed.extent.kind, placed.extent.declared) == ("SESPARSE", kind)
        assert [placed.extent.declared for placed in chain.links[1].extents] == [None]
    with path.open("rb") as fh:
        assert is_ours(fh, path)


@pytest.mark.parametrize("kind", ["VMFS", "FLAT", "VMFSRDM"])
def test_q22_no_sparse_file_is_read_as_plain_bytes(folder: Path, kind: str) -> None:
    HostedBuilder(CAPACITY).write(folder / "hosted.bin")
    CowdBuilder(CAPACITY).write(folder / "cowd.bin")
    ExtentBuilder(CAPACITY).write(folder / "sesparse.bin")
    for name, what in (("hosted", "a hosted sparse"), ("cowd", "an ESX sparse"), ("sesparse", "a seSparse")):
        base(folder, f'RW 2 {kind} "{name}.bin"')
        with pytest.raises(ExtentError, match=f"the file is {what} extent, its descriptor calls it {kind}"):
            open_chain(delta(folder, "base.vmdk", "ba5e0000"))


@pytest.mark.parametrize(
    ("kind", "field"), [("SESPARSE", "magic"), ("SPARSE", "magicNumber"), ("VMFSSPARSE", "magicNumber")]
)
def test_q23_plain_bytes_are_no_sparse_extent(folder: Path, kind: str, field: str) -> None:
    (folder / "base.bin").write_bytes(told("flat", 0, CAPACITY))
    base(folder, f'RW {CAPACITY} {kind} "base.bin"')
    with pytest.raises(ExtentError, match=rf"base\.bin: {field} is"):
        open_chain(delta(folder, "base.vmdk", "ba5e0000"))


# Hints that name an extent


def test_f10_a_hint_that_names_the_parents_flat(folder: Path) -> None:
    (folder / "base-flat.vmdk").write_bytes(told("flat", 0, CAPACITY))
    base(folder, f'RW {CAPACITY} VMFS "base-flat.vmdk"')
    path = delta(folder, "base-flat.vmdk", "ba5e0000")
    assert read_all(path) == over(told("flat", 0, CAPACITY))
    assert codes(path) == ["parent-relocated"]
    with open_chain(path) as chain:
        assert (chain.links[0].parent.chosen.how, chain.links[0].parent.cid_matches) == ("extent", True)
    # Another CID: the same parent, and that is told too
    path = delta(folder, "base-flat.vmdk", "0badc1d0")
    assert read_all(path) == over(told("flat", 0, CAPACITY))
    assert codes(path) == ["cid-mismatch", "parent-relocated"]


def test_f10_a_flat_that_no_descriptor_names(folder: Path) -> None:
    (folder / "base-flat.vmdk").write_bytes(told("flat", 0, CAPACITY))
    with pytest.raises(ParentError, match=r"the parent is missing.*base-flat\.vmdk"):
        open_chain(delta(folder, "base-flat.vmdk", "ba5e0000"))


@pytest.mark.parametrize("name", ["mid-sesparse.vmdk", "/vmfs/volumes/5f/vm/mid-sesparse.vmdk"])
def test_f11_a_hint_that_names_the_parents_bare_extent(folder: Path, name: str) -> None:
    """The parent has a parent itself: its holes are not zeros."""
    (folder / "base-flat.vmdk").write_bytes(told("flat", 0, CAPACITY))
    base(folder, f'RW {CAPACITY} VMFS "base-flat.vmdk"')
    extent = ExtentBuilder(CAPACITY)
    extent.allocate(9, grain_data("mid", 9))
    extent.write(folder / "mid-sesparse.vmdk")
    lines = [f'RW {CAPACITY} SESPARSE "mid-sesparse.vmdk"']
    text = descriptor(lines, cid="d1d00000", parent_cid="ba5e0000", parent_hint="base.vmdk", create_type="seSparse")
    (folder / "mid.vmdk").write_text(text)
    path = delta(folder, name, "d1d00000")
    expected = bytearray(told("flat", 0, CAPACITY))
    expected[9 * 4096 : 10 * 4096] = grain_data("mid", 9)
    assert read_all(path) == over(bytes(expected))
    assert codes(path) == ["parent-relocated"]
    with open_chain(path) as chain:
        assert [link.name for link in chain.links] == ["delta.vmdk", "mid.vmdk", "base.vmdk"]
    (folder / "mid.vmdk").unlink()
    with pytest.raises(ParentError, match="mid-sesparse"):
        open_chain(path)


def test_a_hint_that_names_a_piece_of_the_parent(folder: Path) -> None:
    half = CAPACITY // 2
    lines = [f'RW {half} SPARSE "base-s00{number}.vmdk"' for number in (1, 2)]
    for number in (1, 2):
        extent = HostedBuilder(half)
        extent.allocate(3, told(f"{number}", 384, 128))
        extent.write(folder / f"base-s00{number}.vmdk")
    (folder / "base.vmdk").write_text(descriptor(lines, cid="ba5e0000", create_type="twoGbMaxExtentSparse"))
    expected = (bytes(3 * 65536) + told("1", 384, 128)).ljust(half * 512, b"\x00")
    expected += bytes(3 * 65536) + told("2", 384, 128)
    path = delta(folder, "base-s002.vmdk", "ba5e0000")
    assert read_all(path) == over(expected)
    assert codes(path) == ["parent-relocated"]


def test_a_hint_that_names_the_childs_own_extent_is_no_parent(folder: Path) -> None:
    with pytest.raises(ParentError):
        open_chain(delta(folder, "delta-sesparse.vmdk", "ba5e0000"))


def test_a_broken_parent_costs_the_disk_and_nothing_else(folder: Path) -> None:
    monolithic(folder).write(folder / "base.vmdk", truncate_to=600)
    with pytest.raises(SESparseError):
        open_chain(delta(folder, "base.vmdk", "ba5e0000"))
