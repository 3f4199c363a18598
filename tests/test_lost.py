"""An extent that has lost its descriptor: refused with who may be its parent and why, and given a new descriptor."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import make_vm
import pytest
from sesparse_builder import ChainBuilder, ExtentBuilder, descriptor, grain_data, vmsd
from target_fixtures import SECTORS, SIZE, add_delta, small_chain, snapshot_of, tool

from dissect_sesparse import cli, open_chain
from dissect_sesparse.chain.lost import descriptor_name, lost_cid, possible_parents
from dissect_sesparse.findings.findings import findings
from dissect_sesparse.source.errors import ParentError

if TYPE_CHECKING:
    from collections.abc import Callable

EXTENT = "vm-000002-sesparse.vmdk"


@pytest.fixture
def lost(folder: Path) -> Path:
    """The extent of the newest of two deltas, whose descriptor is gone."""
    small_chain(folder, deltas=2).write()
    (folder / "vm-000002.vmdk").unlink()
    return folder / EXTENT


def whole(folder: Path) -> bytes:
    """The bytes of that disk."""
    other = folder.parent / "whole"
    with open_chain(small_chain(other, deltas=2).write()) as chain:
        return chain.read(0, chain.size)


def run(*arguments: object) -> int:
    return cli.main(["descriptor", *map(str, arguments)])


def clues(extent: Path, size: int = SIZE) -> dict[str, dict[str, bool | None]]:
    return {p.path.name: {clue.name: clue.fits for clue in p.clues} for p in possible_parents(extent, size)}


def write_list(folder: Path, *names: str) -> None:
    when = datetime(2024, 3, 11, tzinfo=timezone.utc)
    text = vmsd([{"uid": n, "display_name": "s", "created": when, "disks": [name]} for n, name in enumerate(names, 1)])
    (folder / "vm.vmsd").write_text(text, encoding="utf-8")


# Opening


def test_refused_with_the_candidates(lost: Path) -> None:
    with pytest.raises(ParentError) as caught:
        open_chain(lost)
    message = str(caught.value)
    assert "vm-000001.vmdk (fits: capacity: the same; CID: no other link is based on it" in message
    assert "vm.vmdk (does not fit: CID: vm-000001.vmdk is based on it already)" in message
    assert "parent=" in message
    assert "dissect-sesparse descriptor" in message


def test_opens_with_its_parent(lost: Path) -> None:
    with open_chain(lost, parent=lost.with_name("vm-000001.vmdk")) as chain:
        assert chain.read(0, SIZE) == whole(lost.parent)


def test_opens_with_a_descriptor_of_any_name(lost: Path) -> None:
    """One that names it is its own, whatever it is called."""
    text = (lost.parent / "vm-000001.vmdk").read_text().replace("vm-000001-sesparse", "vm-000002-sesparse")
    (lost.parent / "found.vmdk").write_text(text.replace('"vm.vmdk"', '"vm-000001.vmdk"'))
    with open_chain(lost) as chain:
        assert [link.name for link in chain.links][:1] == ["found.vmdk"]


def test_labelled_without_a_parent(lost: Path) -> None:
    with open_chain(lost, unreadable="zero") as chain:
        (missing,) = (finding for finding in findings(chain) if finding.code == "parent-missing")
    assert "vm-000001.vmdk (fits" in missing.message


def test_many_candidates_give_a_short_message(lost: Path) -> None:
    text = (lost.parent / "vm.vmdk").read_text()
    for number in range(300):
        (lost.parent / f"{'x' * 90}{number}.vmdk").write_text(text)
    with pytest.raises(ParentError) as caught:
        open_chain(lost)
    assert len(str(caught.value)) < 4000


# Clues


def test_clues(lost: Path) -> None:
    assert clues(lost) == {
        "vm-000001.vmdk": {"capacity": True, "CID": True, "snapshot list": None, "name": True},
        "vm.vmdk": {"capacity": True, "CID": False, "snapshot list": None, "name": True},
    }


def test_capacity(lost: Path) -> None:
    assert {name: clue["capacity"] for name, clue in clues(lost, SIZE + 512).items()} == dict.fromkeys(
        ("vm-000001.vmdk", "vm.vmdk"), False
    )


def test_snapshot_list(lost: Path) -> None:
    write_list(lost.parent, "vm.vmdk")
    assert [clue["snapshot list"] for clue in clues(lost).values()] == [False, True]
    assert not any(possible.fits for possible in possible_parents(lost, SIZE))
    write_list(lost.parent, "vm.vmdk", "vm-000001.vmdk")
    assert [p.path.name for p in possible_parents(lost, SIZE) if p.fits] == ["vm-000001.vmdk"]


def test_name(lost: Path) -> None:
    """Another disk of the VM, of the same size."""
    small_chain(lost.parent, "vm_1", deltas=0).write()
    assert clues(lost)["vm_1.vmdk"] == {"capacity": True, "CID": True, "snapshot list": None, "name": None}
    assert [p.path.name for p in possible_parents(lost, SIZE) if p.fits] == ["vm-000001.vmdk"]


def test_middle_link(folder: Path) -> None:
    """What is based on the lost one cannot be its parent, and tells its CID."""
    chain = small_chain(folder, deltas=3)
    chain.write()
    (folder / "vm-000001.vmdk").unlink()
    extent = folder / "vm-000001-sesparse.vmdk"
    assert {name: clue["CID"] for name, clue in clues(extent).items()} == {
        "vm.vmdk": True, "vm-000002.vmdk": False, "vm-000003.vmdk": False,
    }  # fmt: skip
    assert lost_cid(extent) == chain.links[1].cid


def test_loop_of_descriptors(lost: Path) -> None:
    """Links that are based on one another do not hang the search."""
    for name, parent in (("a", "b"), ("b", "a"), ("c", "vm-000002")):
        add_delta(lost.parent, name, None, Path(f"{parent}.vmdk"), "00000001", "00000001")
    assert clues(lost)["c.vmdk"]["CID"] is False


@pytest.mark.parametrize(
    ("extent", "name"),
    [("vm-000002-sesparse.vmdk", "vm-000002.vmdk"), ("disk.vmdk.001", "disk.vmdk.vmdk"), ("x", "x.vmdk")],
)
def test_descriptor_name(extent: str, name: str) -> None:
    assert descriptor_name(Path(extent)) == name


# The command


def rebuilt(lost: Path, text: str, *others: str) -> Path:
    """The text saved in a folder of its own, beside copies of the extent and its parents."""
    folder = lost.parent.parent / "rebuilt"
    folder.mkdir()
    for name in (lost.name, *others):
        shutil.copy(lost.parent / name, folder / name)
    (folder / descriptor_name(lost)).write_bytes(text.encode())
    return folder / descriptor_name(lost)


PARENTS = ("vm-000001.vmdk", "vm-000001-sesparse.vmdk", "vm.vmdk", "vm-flat.vmdk")


def test_only_parent_that_fits(lost: Path, qemu_img: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """Printed, said why, opened by QEMU and by this package as the disk that it was."""
    before = snapshot_of(lost.parent)
    assert run(lost) == 0
    out, err = capsysbinary.readouterr()
    assert snapshot_of(lost.parent) == before, "nothing is written beside the evidence"
    assert b"the only one that fits: capacity: the same" in err
    path = rebuilt(lost, out.decode(), *PARENTS)
    expected = whole(lost.parent)
    with open_chain(path) as chain:
        assert [link.name for link in chain.links] == ["vm-000002.vmdk", "vm-000001.vmdk", "vm.vmdk"]
        assert chain.read(0, SIZE) == expected
        assert list(findings(chain)) == []
    info = subprocess.run([qemu_img, "info", "-f", "vmdk", path], capture_output=True, text=True, check=True).stdout
    assert "vm-000001.vmdk" in info
    raw = path.with_suffix(".raw")
    subprocess.run([qemu_img, "convert", "-f", "vmdk", "-O", "raw", path, raw], capture_output=True, check=True)
    assert raw.read_bytes() == expected


def test_without_a_parent(tmp_path: Path, qemu_img: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    extent = ExtentBuilder(SECTORS)
    extent.allocate(7, b"alone")
    extent.write(tmp_path / "a-sesparse.vmdk")
    assert run(tmp_path / "a-sesparse.vmdk", "--no-parent") == 0
    (tmp_path / "a.vmdk").write_bytes(capsysbinary.readouterr().out)
    raw = tmp_path / "a.raw"
    subprocess.run([qemu_img, "convert", "-f", "vmdk", "-O", "raw", tmp_path / "a.vmdk", raw], check=True)
    with open_chain(tmp_path / "a.vmdk") as chain:
        assert chain.read(0, SIZE) == raw.read_bytes()
        assert chain.read(7 * 4096, 5) == b"alone"


def test_named_parent(lost: Path, qemu_img: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """In another folder: the way there is in the hint. An extent that is named stands for its descriptor."""
    other = lost.parent.parent / "elsewhere"
    other.mkdir()
    for name in PARENTS:
        shutil.move(lost.parent / name, other / name)
    assert run(lost, "--parent", other / "vm-000001-sesparse.vmdk") == 0
    path = rebuilt(lost, capsysbinary.readouterr().out.decode())
    assert 'parentFileNameHint="../elsewhere/vm-000001.vmdk"' in path.read_text()
    raw = path.with_suffix(".raw")
    subprocess.run([qemu_img, "convert", "-f", "vmdk", "-O", "raw", path, raw], capture_output=True, check=True)
    assert raw.read_bytes() == whole(lost.parent)
    with open_chain(path) as chain:
        assert chain.read(0, SIZE) == raw.read_bytes()


def test_cid_of_a_middle_link(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The chain above it holds again, without a finding."""
    chain = small_chain(folder, deltas=3)
    newest = chain.write()
    with open_chain(newest) as opened:
        expected = opened.read(0, SIZE)
    (folder / "vm-000001.vmdk").unlink()
    assert run(folder / "vm-000001-sesparse.vmdk") == 0
    out, err = capsys.readouterr()
    assert f"\nCID={chain.links[1].cid}\n" in out
    assert "newer links name" in err
    (folder / "vm-000001.vmdk").write_text(out)
    with open_chain(newest) as opened:
        assert opened.read(0, SIZE) == expected
        assert list(findings(opened)) == []


def test_made_cid(lost: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same each time, and said to be made."""
    texts = []
    for _ in range(2):
        assert run(lost) == 0
        out, err = capsys.readouterr()
        texts.append(out)
        assert "is made of the extent's headers" in err
    assert texts[0] == texts[1]
    assert re.search(r"^# CID \w{8} is made", texts[0], re.MULTILINE)


def test_two_that_fit(lost: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is chosen by chance: a branch is as likely."""
    base = small_chain(lost.parent, deltas=0).links[0]
    add_delta(lost.parent, "vm-000005", ExtentBuilder(SECTORS), lost.parent / "vm.vmdk", base.cid, "00000005")
    assert run(lost) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "vm-000001.vmdk fits: " in err
    assert "vm-000005.vmdk fits: " in err
    assert "vm.vmdk does not fit: CID: vm-000001.vmdk is based on it already" in err
    assert "2 of 3 descriptors" in err
    assert "--parent" in err


def test_none_that_fits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ExtentBuilder(SECTORS).write(folder / "a-sesparse.vmdk")
    assert run(folder / "a-sesparse.vmdk") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "there is no descriptor beside it" in err
    assert "--no-parent" in err


def test_descriptor_is_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_chain(folder).write()
    assert run(folder / "vm-000001-sesparse.vmdk") == 1
    assert "vm-000001.vmdk names it" in capsys.readouterr().err


def test_parent_of_another_size(lost: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As asked, but said."""
    (lost.parent / "big.vmdk").write_text(descriptor([(2 * SECTORS, "VMFS", "big-flat.vmdk")], cid="00000001"))
    assert run(lost, "--parent", lost.parent / "big.vmdk") == 0
    assert "not one disk?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["missing.vmdk", "vm.vmdk", "vm-flat.vmdk"])
def test_not_an_extent(lost: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert run(lost.parent / name) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert name in err


def test_hostile_names(lost: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names with what a terminal obeys are shown, not obeyed; an extent whose name no descriptor can have is refused."""
    odd = lost.parent / "x\x1b[2J.vmdk"
    try:
        odd.write_text((lost.parent / "vm.vmdk").read_text())
        lost.rename(lost.parent / 'a"b-sesparse.vmdk')
    except OSError as e:
        pytest.skip(f"no such names here: {e}")
    assert run(lost.parent / 'a"b-sesparse.vmdk') == 1
    assert "\x1b" not in capsys.readouterr().err
    assert run(lost.parent / 'a"b-sesparse.vmdk', "--no-parent") == 1
    assert "cannot have this name" in capsys.readouterr().err


# What beside it cannot be read


@pytest.mark.parametrize("name", ["vm.vmsd", "vm-000007.vmdk", "vm.vmx"])
def test_nothing_is_taken_where_not_all_could_be_read(
    lost: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """What cannot be read may say that the parent is another one: a list, a branch."""
    (lost.parent / name).write_bytes(bytes(range(256)) * 4)
    assert run(lost) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert name in err
    assert "1 that may tell otherwise cannot be read" in err
    assert run(lost, "--parent", lost.parent / "vm-000001.vmdk") == 0


def test_its_own_descriptor_may_be_what_cannot_be_read(lost: Path) -> None:
    """Encrypted in its place: that is why it is lost."""
    (lost.parent / "vm-000002.vmdk").write_bytes(bytes(range(256)) * 4)
    assert run(lost) == 0


# Several extents


def pieces(folder: Path, *sizes: int, name: str = "vm-000001-s{:03}.vmdk") -> list[Path]:
    """A delta of several extents over a flat base, without its descriptor. Each grain says whose it is."""
    ChainBuilder(folder, sum(sizes), {0: grain_data("base", 0)}, "vm").write()
    paths = []
    for number, sectors in enumerate(sizes, 1):
        extent = ExtentBuilder(sectors)
        for grain in range(0, sectors // 8, 50):
            extent.allocate(grain, b"piece %d grain %d" % (number, grain))
        paths.append(folder / name.format(number))
        extent.write(paths[-1])
    return paths


def expect_pieces(path: Path, sizes: tuple[int, ...], **options: Any) -> None:
    with open_chain(path, **options) as chain:
        start = 0
        for number, sectors in enumerate(sizes, 1):
            for grain in range(0, sectors // 8, 50):
                text = b"piece %d grain %d" % (number, grain)
                assert chain.read(start + grain * 4096, len(text)) == text
            start += sectors * 512
        assert chain.size == start
        assert [f.code for f in findings(chain) if f.code != "header-rebuilt"] == []


SIZES = (32768 + 2048, 2048, 4096)


@pytest.mark.parametrize("name", ["vm-000001-s{:03}.vmdk", "vm-000001-s{:03}-sesparse.vmdk"])
@pytest.mark.parametrize("given", [0, 2])
def test_numbered_extents(
    folder: Path, qemu_img: str, capsysbinary: pytest.CaptureFixture[bytes], name: str, given: int
) -> None:
    """One stands for all: their numbers say the order, the parent's size that none is missing."""
    paths = pieces(folder, *SIZES, name=name)
    assert run(paths[given]) == 0
    out, err = capsysbinary.readouterr()
    assert b"save it as vm-000001.vmdk" in err
    path = folder / "vm-000001.vmdk"
    path.write_bytes(out)
    expect_pieces(path, SIZES)
    raw = folder / "x.raw"
    subprocess.run([qemu_img, "convert", "-f", "vmdk", "-O", "raw", path, raw], capture_output=True, check=True)
    with open_chain(path) as chain:
        assert chain.read(0, chain.size) == raw.read_bytes()


def test_extents_in_the_order_that_is_given(folder: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """Names that say nothing: the user does."""
    paths = pieces(folder, *SIZES, name="{}-lost-sesparse.vmdk")
    assert run(*paths, "--parent", folder / "vm.vmdk") == 0
    (folder / "new.vmdk").write_bytes(capsysbinary.readouterr().out)
    expect_pieces(folder / "new.vmdk", SIZES)


@pytest.mark.parametrize(
    ("gone", "says"), [(0, "number 1 is not there"), (1, "number 2 is not there"), (2, "0 of 1 descriptors")]
)
def test_numbered_extent_that_is_missing(
    folder: Path, capsys: pytest.CaptureFixture[str], gone: int, says: str
) -> None:
    paths = pieces(folder, *SIZES)
    paths.pop(gone).unlink()
    assert run(paths[0]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err


@pytest.mark.parametrize("how", [("--no-parent",), ("--parent",)])
def test_numbers_alone_do_not_tell_that_all_are_there(
    folder: Path, capsys: pytest.CaptureFixture[str], how: tuple[str, ...]
) -> None:
    paths = pieces(folder, *SIZES)
    paths.pop().unlink()
    assert run(paths[0], *how, *([folder / "vm.vmdk"] if how == ("--parent",) else [])) == 1
    assert "name them all" in capsys.readouterr().err
    assert run(*paths, *how, *([folder / "vm.vmdk"] if how == ("--parent",) else [])) == 0, "as asked"


def test_extent_named_twice(lost: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lost, lost.parent / "." / lost.name, "--no-parent") == 1
    assert "named twice" in capsys.readouterr().err


# A header that is destroyed


def destroy(path: Path) -> None:
    with path.open("r+b") as fh:
        fh.write(b"\xee" * 512)


def test_destroyed_header(lost: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the parent's size, by --capacity; each confirmed by the file, which opens with salvage=1."""
    expected = whole(lost.parent)
    destroy(lost)
    assert run(lost) == 1
    err = capsys.readouterr().err
    assert "salvage=1 could not rebuild the header" in err
    for how in (("--capacity", SECTORS), ("--parent", lost.parent / "vm-000001.vmdk")):
        assert run(lost, *how) == 0
        out, err = capsys.readouterr()
        assert "is destroyed (salvage=1 opens it)" in err
        (lost.parent / "vm-000002.vmdk").write_text(out, encoding="utf-8")
        with open_chain(lost.parent / "vm-000002.vmdk", salvage="1") as chain:
            assert chain.read(0, SIZE) == expected
        (lost.parent / "vm-000002.vmdk").unlink()


def test_capacity_that_the_file_does_not_confirm(lost: Path, capsys: pytest.CaptureFixture[str]) -> None:
    destroy(lost)
    assert run(lost, "--capacity", SECTORS * 900, "--no-parent") == 1
    assert "--capacity says" in capsys.readouterr().err


def test_capacity_where_the_header_tells_it(lost: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lost, "--capacity", SECTORS) == 1
    assert "0 of the extents have a header that is destroyed" in capsys.readouterr().err


def test_destroyed_header_of_one_of_several(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = pieces(folder, *SIZES)
    destroy(paths[0])
    assert run(paths[1], "--parent", folder / "vm.vmdk") == 0
    (folder / "vm-000001.vmdk").write_text(capsys.readouterr().out, encoding="utf-8")
    expect_pieces(folder / "vm-000001.vmdk", SIZES, salvage="1")


@pytest.mark.parametrize("arguments", [[], ["a", "--parent", "b", "--no-parent"]])
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2


def test_example_in_a_process_of_its_own(tmp_path: Path, symlink: Callable) -> None:
    """As it is run: the text alone on standard output, in UTF-8 with plain line ends."""
    folder = make_vm.make_vm(tmp_path / "web01").parent
    (folder / "web01-000002.vmdk").unlink()
    done = tool("dissect-sesparse", "descriptor", folder / "web01-000002-sesparse.vmdk")
    assert done.stdout.startswith("# Disk DescriptorFile\n")
    assert "\r" not in done.stdout
    assert "web01-000001.vmdk: the only one that fits" in done.stderr
    assert "snapshot list: a snapshot has it" in done.stderr
    out = tmp_path / "out"
    out.mkdir()
    for path in folder.iterdir():
        symlink(out / path.name, path)
    (out / "web01-000002.vmdk").write_text(done.stdout, encoding="utf-8")
    original = make_vm.make_vm(tmp_path / "original").with_name("web01-000002.vmdk")
    with open_chain(out / "web01-000002.vmdk") as chain, open_chain(original) as other:
        assert chain.read(0, chain.size) == other.read(0, other.size)
