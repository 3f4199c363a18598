"""Which descriptor is the parent: the rules, one by one and in their order."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest
import target_fixtures
from dissect.target.target import Target
from sesparse_builder import ExtentBuilder, descriptor, vmx, write_flat

from dissect_sesparse import cli, open_chain
from dissect_sesparse.chain.parent import ParentSearch, descriptor_at, find_parent
from dissect_sesparse.findings.findings import opening_findings
from dissect_sesparse.source.errors import (
    DescriptorError,
    FileError,
    LoopError,
    OptionError,
    ParentError,
    SESparseError,
)
from dissect_sesparse.source.folder import Folder
from dissect_sesparse.target.registration import register

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BASE = "0000ba5e"
OTHER = "00000bad"


def write(path: Path, cid: str, parent_cid: str = "ffffffff", hint: str | None = None, **kwargs: object) -> Path:
    """A descriptor (its extent, which no search looks at, is not there)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    extent = f"{path.stem}-flat.vmdk"
    text = descriptor([(2048, "FLAT", extent)], cid=cid, parent_cid=parent_cid, parent_hint=hint, **kwargs)
    path.write_bytes(text.encode())
    return path


def child(
    folder: Path, hint: str | None, parent_cid: str = BASE, cid: str = "00000c1d", name: str = "child.vmdk"
) -> Path:
    return write(folder / name, cid, parent_cid, hint)


def search(path: Path) -> ParentSearch:
    return find_parent(Folder(path.parent), path, descriptor_at(path))


def chosen(path: Path) -> tuple[Path, str]:
    found = search(path).chosen
    assert found is not None
    return found.path.resolve(), found.how


# The order


def test_the_hint_as_it_stands(folder: Path) -> None:
    base = write(folder / "base.vmdk", BASE)
    result = search(child(folder, "base.vmdk"))
    assert (result.chosen.path, result.chosen.how) == (base, "hint")
    assert result.cid_matches
    assert not result.relocated
    assert result.name_clashes == []


@pytest.mark.parametrize(
    "hint", ["../gold/base.vmdk", "..\\gold\\base.vmdk", "../gold/./base.vmdk", "../vm/../gold/base.vmdk"]
)
def test_a_hint_to_a_sibling(folder: Path, hint: str) -> None:
    base = write(folder.parent / "gold" / "base.vmdk", BASE)
    assert chosen(child(folder, hint)) == (base, "hint")


@pytest.mark.parametrize(
    "hint", ["/vmfs/volumes/5f1e-9/vm/base.vmdk", "C:\\VMs\\vm\\base.vmdk", "\\\\nas\\vm\\base.vmdk", "old/base.vmdk"]
)
def test_the_name_in_the_folder(folder: Path, hint: str) -> None:
    base = write(folder / "base.vmdk", BASE)
    path = child(folder, hint)
    assert chosen(path) == (base, "name")
    assert search(path).relocated


@pytest.mark.parametrize(
    "hint", ["/vmfs/volumes/5f1e-9/gold/base.vmdk", "C:\\VMs\\gold\\base.vmdk", "x/gold/base.vmdk"]
)
def test_the_last_folder_beside(folder: Path, hint: str) -> None:
    base = write(folder.parent / "gold" / "base.vmdk", BASE)
    path = child(folder, hint)
    assert chosen(path) == (base, "folder")
    assert search(path).relocated


def test_another_descriptor_in_the_folder(folder: Path) -> None:
    write(folder / "aaa.vmdk", OTHER)
    base = write(folder / "renamed.vmdk", BASE)
    write(folder.parent / "gold" / "aaa.vmdk", BASE)
    path = child(folder, "base.vmdk")
    assert chosen(path) == (base, "search")
    assert search(path).relocated


def test_another_descriptor_in_a_sibling(folder: Path) -> None:
    write(folder.parent / "a" / "x.vmdk", OTHER)
    base = write(folder.parent / "b" / "x.vmdk", BASE)
    path = child(folder, "base.vmdk")
    assert chosen(path) == (base, "search")


def test_without_a_hint_the_cid_finds_it(folder: Path) -> None:
    base = write(folder / "base.vmdk", BASE)
    assert chosen(child(folder, None)) == (base, "search")


def test_each_place_comes_before_the_next(folder: Path) -> None:
    """All places have a match; they are taken away one after the other."""
    hint = "sub/gold/base.vmdk"
    places = [
        ("hint", folder / "sub" / "gold" / "base.vmdk"),
        ("name", folder / "base.vmdk"),
        ("folder", folder.parent / "gold" / "base.vmdk"),
        ("search", folder / "other name.vmdk"),
        ("search", folder.parent / "a sibling" / "other name.vmdk"),
    ]
    path = child(folder, hint)
    for _, place in places:
        write(place, BASE)
    for how, place in places:
        assert chosen(path) == (place, how)
        place.unlink()
    assert search(path).chosen is None


def test_a_match_by_cid_comes_before_a_name(folder: Path) -> None:
    """In every place before it a file with the right name and the wrong content."""
    for place in (folder / "x/gold/base.vmdk", folder / "base.vmdk", folder.parent / "gold/base.vmdk"):
        write(place, OTHER)
    base = write(folder.parent / "far" / "renamed.vmdk", BASE)
    result = search(child(folder, "x/gold/base.vmdk"))
    assert (result.chosen.path, result.chosen.how) == (base, "search")
    assert result.cid_matches
    assert result.relocated


def test_linked_clone_with_another_base_beside_it(folder: Path) -> None:
    write(folder / "base.vmdk", OTHER)
    base = write(folder.parent / "vmA" / "base.vmdk", BASE)
    for hint in ("../vmA/base.vmdk", "/vmfs/volumes/ds/vmA/base.vmdk"):
        result = search(child(folder, hint))
        assert result.chosen.path.resolve() == base
        assert [clash.path.resolve() for clash in result.name_clashes] == [folder / "base.vmdk"]


def test_base_with_the_name_of_the_child(folder: Path) -> None:
    base = write(folder.parent / "vmA" / "disk.vmdk", BASE)
    path = child(folder, "../vmA/disk.vmdk", name="disk.vmdk")
    assert chosen(path) == (base, "hint")


# By name only


def test_a_name_counts_where_no_cid_matches(folder: Path) -> None:
    base = write(folder / "base.vmdk", OTHER)
    result = search(child(folder, "base.vmdk"))
    assert result.chosen.path == base
    assert not result.cid_matches
    assert OTHER in result.chosen.why
    assert BASE in result.chosen.why


def test_the_first_of_several_names_counts(folder: Path) -> None:
    write(folder / "base.vmdk", OTHER)
    wanted = write(folder.parent / "gold" / "base.vmdk", OTHER)
    assert chosen(child(folder, "../gold/base.vmdk")) == (wanted, "hint")


def test_a_search_hit_without_the_cid_is_no_parent(folder: Path) -> None:
    write(folder / "another.vmdk", OTHER)
    result = search(child(folder, "base.vmdk"))
    assert result.chosen is None
    assert not result.cid_matches


def test_cids_that_are_not_given_do_not_match(folder: Path) -> None:
    """Nothing is known of either: that is no proof that they belong together."""
    base = write(folder / "base.vmdk", BASE)
    path = child(folder, "base.vmdk")
    for file in (base, path):
        lines = [line for line in file.read_text().splitlines() if "CID=" not in line]
        file.write_text("\n".join(lines))
    result = search(path)
    assert result.chosen.path == base
    assert not result.cid_matches


def test_hint_without_a_parent_cid(folder: Path) -> None:
    """The hint says there is a parent, parentCID says there is none: never zeros in silence."""
    base = write(folder / "base.vmdk", BASE)
    result = search(child(folder, "base.vmdk", parent_cid="ffffffff"))
    assert result.chosen.path == base
    assert not result.cid_matches


# Never the child


def test_never_the_child_itself(folder: Path) -> None:
    """A child that was never written to has its parent's CID: it matches, and is not its parent."""
    path = child(folder, "child.vmdk", parent_cid=BASE, cid=BASE)
    assert search(path).chosen is None
    base = write(folder / "base.vmdk", BASE)
    assert chosen(path) == (base, "search")


def test_never_a_link_to_the_child(folder: Path, symlink: Callable) -> None:
    path = child(folder, "alias.vmdk", parent_cid=BASE, cid=BASE)
    symlink(folder / "alias.vmdk", path)
    assert search(path).chosen is None


def test_a_large_folder_is_searched_in_one_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No candidate is compared with all others: ten thousand of them would take minutes."""
    count = 300
    for number in range(count):
        write(folder / f"{number}.vmdk", OTHER)
    path = child(folder, "base.vmdk")
    resolved = 0
    real = type(path).resolve

    def counting(self: Path, strict: bool = False) -> Path:
        nonlocal resolved
        resolved += 1
        return real(self, strict)

    monkeypatch.setattr(type(path), "resolve", counting)
    assert search(path).chosen is None
    assert resolved <= 10 * count


def test_among_several_the_one_that_was_written(folder: Path) -> None:
    """``aaa`` was taken from ``base`` and never written to, so that its CID is the same; its bytes are those of base."""
    write(folder / "aaa.vmdk", BASE, BASE, "base.vmdk")
    base = write(folder / "renamed-base.vmdk", BASE)
    assert chosen(child(folder, "base.vmdk")) == (base, "search")


# What is looked at


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 4096, b"\xff" * 4096, b"# Disk DescriptorFile\n", b"\xbe\xba\xfe\xca" + bytes(1020)]
)
def test_what_is_no_descriptor_is_passed_over(folder: Path, content: bytes) -> None:
    (folder / "base.vmdk").write_bytes(content)
    path = child(folder, "base.vmdk")
    result = search(path)
    assert result.chosen is None
    assert "base.vmdk" in str(result.candidates[0])
    base = write(folder / "renamed.vmdk", BASE)
    assert chosen(path) == (base, "search")


def test_hint_to_the_flat_file_itself(folder: Path) -> None:
    write_flat(folder / "base-flat.vmdk", 4 << 20, {0: b"bytes"})
    base = write(folder / "base.vmdk", BASE)
    assert chosen(child(folder, "base-flat.vmdk")) == (base, "extent")
    assert search(folder / "child.vmdk").relocated


def test_hint_to_an_extent_of_the_parent(folder: Path) -> None:
    """Not to be opened as the parent: who its own parent is says its descriptor."""
    ExtentBuilder(2048).write(folder / "base-sesparse.vmdk")
    base = write(folder / "base.vmdk", BASE)
    base.write_text(base.read_text().replace("base-flat", "base-sesparse"))
    assert chosen(child(folder, "base-sesparse.vmdk")) == (base, "extent")
    base.unlink()
    assert search(folder / "child.vmdk").chosen is None


def test_large_files_are_not_opened(folder: Path) -> None:
    big = write(folder / "base.vmdk", BASE)
    with big.open("ab") as fh:
        fh.truncate((1 << 20) + 1)
    assert search(child(folder, "other.vmdk")).chosen is None
    assert search(child(folder, "base.vmdk")).chosen is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
@pytest.mark.parametrize("hint", ["fifo.vmdk", "/vmfs/volumes/ds/vm/fifo.vmdk", "gone.vmdk", "/dev/stdin", "/dev/zero"])
def test_a_fifo_blocks_nobody(folder: Path, hint: str) -> None:
    os.mkfifo(folder / "fifo.vmdk")
    base = write(folder / "base.vmdk", BASE)
    assert chosen(child(folder, hint)) == (base, "search")


@pytest.mark.parametrize("hint", ["nbd://127.0.0.1:1/x", "http://127.0.0.1:1/base.vmdk", "//127.0.0.1/c$/base.vmdk"])
def test_network_names_are_never_resolved(folder: Path, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket", lambda *a, **k: pytest.fail("a socket was made"))
    assert search(child(folder, hint)).chosen is None


# Confinement


@pytest.mark.parametrize("hint", ["../../secret.vmdk", "{root}/secret.vmdk", "../../secret/secret.vmdk"])
def test_nothing_above_the_siblings(folder: Path, hint: str) -> None:
    root = folder.parents[1]
    write(root / "secret.vmdk", BASE)
    write(root / "secret" / "secret.vmdk", BASE)
    result = search(child(folder, hint.replace("{root}", root.as_posix())))
    assert result.chosen is None
    assert result.candidates == ()


def test_not_through_a_link(folder: Path, symlink: Callable) -> None:
    root = folder.parents[1]
    write(root / "secret.vmdk", BASE)
    symlink(folder / "base.vmdk", root / "secret.vmdk")
    assert search(child(folder, "base.vmdk")).chosen is None
    assert search(child(folder, "else.vmdk")).chosen is None


def test_not_step_by_step_either(folder: Path) -> None:
    """A parent beside the folder must not widen what *its* parent, or its extents, may be."""
    root = folder.parents[1]
    write_flat(root / "secret.bin", 2048 * 512, {0: b"secret"})
    write_flat(root / "secret-flat.vmdk", 2048 * 512, {0: b"secret"})
    write(root / "secret.vmdk", "00005ec1")
    write_flat(folder / "child-flat.vmdk", 2048 * 512, {})
    path = child(folder, "../middle.vmdk")
    middle = write(folder.parent / "middle.vmdk", BASE)
    middle.write_text(middle.read_text().replace("middle-flat.vmdk", "../secret.bin"))
    with pytest.raises(FileError):
        open_chain(path)
    write_flat(folder.parent / "middle-flat.vmdk", 2048 * 512, {})
    write(folder.parent / "middle.vmdk", BASE, "00005ec1", "../secret.vmdk")
    with pytest.raises(ParentError):
        open_chain(path)
    write(folder.parent / "middle.vmdk", BASE, "00005ec1", "gone.vmdk")
    (root / "datastore2").mkdir()
    write(root / "datastore2" / "secret.vmdk", "00005ec1")
    with pytest.raises(ParentError):
        open_chain(path)


def test_not_through_a_link_beside_an_extent(folder: Path, symlink: Callable) -> None:
    """The descriptor of an extent that a hint names is looked for, and that search has the same bounds."""
    root = folder.parents[1]
    secret = write(root / "secret.vmdk", BASE)
    secret.write_text(secret.read_text().replace("secret-flat.vmdk", "x-flat.vmdk"))
    write_flat(folder.parent / "x-flat.vmdk", 2048 * 512, {})
    symlink(folder.parent / "x.vmdk", secret)
    assert search(child(folder, "../x-flat.vmdk")).chosen is None


def test_inside_evidence_absolute_hints_mean_what_they_say() -> None:
    filesystem = pytest.importorskip("dissect.target.filesystem")
    fs = filesystem.VirtualFilesystem()
    hint = "/vmfs/volumes/ds2/gold/base.vmdk"
    here = "/vmfs/volumes/ds1/vm"

    def put(name: str, cid: str, parent_cid: str = "ffffffff", hint: str | None = None) -> None:
        text = descriptor([(2048, "FLAT", "x")], cid=cid, parent_cid=parent_cid, parent_hint=hint)
        fs.map_file_fh(name, io.BytesIO(text.encode()))

    put(f"{here}/child.vmdk", "00000c1d", BASE, hint)
    put(f"{here}/base.vmdk", BASE)
    put(hint, BASE)
    path = fs.path(f"{here}/child.vmdk")
    result = search(path)
    assert (result.chosen.path.as_posix(), result.chosen.how) == (hint, "hint")
    assert not result.relocated


# What opening makes of it


def disks(folder: Path, *names: str) -> None:
    for name in names:
        write_flat(folder / f"{name}-flat.vmdk", 2048 * 512, {0: name.encode()})


def test_missing_parent_says_what_was_looked_for(folder: Path) -> None:
    disks(folder, "child")
    write(folder / "other.vmdk", OTHER)
    with pytest.raises(ParentError) as caught:
        open_chain(child(folder, "/vmfs/volumes/ds/vm/base.vmdk"))
    message = str(caught.value)
    for part in (
        "child.vmdk",
        BASE,
        "/vmfs/volumes/ds/vm/base.vmdk",
        "other.vmdk",
        OTHER,
        "unreadable=zero",
        "parent=",
    ):
        assert part in message
    assert not isinstance(caught.value, LoopError)


def test_a_thousand_candidates_do_not_fill_the_message(folder: Path) -> None:
    disks(folder, "child")
    for number in range(200):
        write(folder / f"{'long name ' * 15}{number}.vmdk", f"{number:08x}")
    with pytest.raises(ParentError) as caught:
        open_chain(child(folder, "x" * 100_000))
    assert len(str(caught.value)) < 20_000


def test_self_parent_is_a_loop(folder: Path) -> None:
    disks(folder, "child")
    path = child(folder, "child.vmdk", parent_cid="00000c1d")
    with pytest.raises(LoopError) as caught:
        open_chain(path)
    assert "loop" in str(caught.value)
    assert "child.vmdk" in str(caught.value)


def test_missing_base_with_the_name_of_the_child_is_no_loop(folder: Path) -> None:
    """vmB/disk.vmdk -> ../vmA/disk.vmdk, and vmA was not copied."""
    disks(folder, "disk")
    path = child(folder, "../vmA/disk.vmdk", name="disk.vmdk")
    with pytest.raises(ParentError) as caught:
        open_chain(path)
    assert not isinstance(caught.value, LoopError)
    assert "missing" in str(caught.value)


@pytest.mark.parametrize("length", [2, 3, 7])
def test_loop(folder: Path, length: int) -> None:
    names = [f"link{number}" for number in range(length)]
    disks(folder, *names)
    for number in range(length):
        after = (number + 1) % length
        write(folder / f"link{number}.vmdk", f"0000000{number}", f"0000000{after}", f"link{after}.vmdk")
    for start in range(length):
        with pytest.raises(LoopError) as caught:
            open_chain(folder / f"link{start}.vmdk")
        for name in names:
            assert f"{name}.vmdk" in str(caught.value)


def test_never_written_siblings_are_no_loop(folder: Path) -> None:
    """Two snapshots of a base that is gone, neither ever written to: all three CIDs are the same."""
    disks(folder, "one", "two")
    write(folder / "one.vmdk", BASE, BASE, "base.vmdk")
    write(folder / "two.vmdk", BASE, BASE, "base.vmdk")
    with pytest.raises(ParentError) as caught:
        open_chain(folder / "one.vmdk")
    assert not isinstance(caught.value, LoopError)
    with open_chain(folder / "one.vmdk", unreadable="zero") as chain:
        assert chain.missing_parent is not None


def test_option_parent_of_the_link_that_lacks_one(folder: Path) -> None:
    """In the middle of a chain: no link vanishes, and what the user names may be anywhere."""
    disks(folder, "child", "middle")
    mine = elsewhere(folder, "mine", BASE)
    write(folder / "middle.vmdk", "000001dd", BASE, "base.vmdk")
    with open_chain(child(folder, "middle.vmdk", "000001dd"), parent=mine) as chain:
        assert [link.name for link in chain.links] == ["child.vmdk", "middle.vmdk", "mine.vmdk"]
        assert chain.named_parent_of == 1
        assert chain.links[1].parent.chosen.how == "option"
        assert not chain.parent_doubtful
        assert list(opening_findings(chain)) == []


def test_option_parent_with_another_cid(folder: Path) -> None:
    disks(folder, "child")
    mine = elsewhere(folder, "mine", OTHER)
    with open_chain(child(folder, "base.vmdk"), parent=mine) as chain:
        assert [link.name for link in chain.links] == ["child.vmdk", "mine.vmdk"]
        assert chain.parent_doubtful
        assert [(f.code, f.level) for f in opening_findings(chain)] == [("cid-mismatch", "error")]


def test_option_parent_where_none_is_lacking(folder: Path) -> None:
    disks(folder, "child", "base")
    write(folder / "base.vmdk", BASE)
    for cid in (BASE, OTHER):
        with pytest.raises(OptionError, match="no link of the chain lacks a parent") as caught:
            open_chain(child(folder, "base.vmdk"), parent=elsewhere(folder, "mine", cid))
        assert "child.vmdk -> base.vmdk" in str(caught.value)
        assert "leave parent= out" in str(caught.value)


def test_option_parent_by_its_cid_in_place_of_a_name(folder: Path) -> None:
    """The file in the folder only has the right name: that it is the parent is worth less than a CID."""
    disks(folder, "child", "base")
    write(folder / "base.vmdk", "0badc1d0")
    path = child(folder, "base.vmdk")
    with open_chain(path, parent=elsewhere(folder, "mine", BASE)) as chain:
        assert [link.name for link in chain.links] == ["child.vmdk", "mine.vmdk"]
        assert not chain.parent_doubtful
    with pytest.raises(OptionError, match="no link of the chain lacks a parent"):
        open_chain(path, parent=elsewhere(folder, "mine", OTHER))


def test_option_parent_is_for_one_link(folder: Path) -> None:
    disks(folder, "child")
    mine = elsewhere(folder, "mine", BASE, "0000dead", "gone.vmdk")
    with pytest.raises(ParentError, match="one can be named, not two") as caught:
        open_chain(child(folder, "base.vmdk"), parent=mine)
    assert "parent= is the parent of child.vmdk" in str(caught.value)


def test_option_parent_by_its_extent(folder: Path) -> None:
    disks(folder, "child")
    mine = elsewhere(folder, "mine", BASE)
    with open_chain(child(folder, "base.vmdk"), parent=mine.with_name("mine-flat.vmdk")) as chain:
        assert [link.name for link in chain.links] == ["child.vmdk", "mine.vmdk"]


def elsewhere(folder: Path, name: str, cid: str, parent_cid: str = "ffffffff", hint: str | None = None) -> Path:
    """A disk in a folder of the analyst's."""
    place = folder.parents[1] / "analyst"
    place.mkdir(exist_ok=True)
    disks(place, name)
    return write(place / f"{name}.vmdk", cid, parent_cid, hint)


@pytest.mark.parametrize("content", [None, b"", b"\xff" * 100], ids=["gone", "empty", "noise"])
def test_option_parent_that_is_none(folder: Path, content: bytes | None) -> None:
    disks(folder, "child")
    mine = folder / "mine.vmdk"
    if content is not None:
        mine.write_bytes(content)
    with pytest.raises((FileError, DescriptorError)) as caught:
        open_chain(child(folder, "base.vmdk"), parent=mine)
    assert "mine.vmdk" in str(caught.value)


def test_option_parent_that_is_the_child(folder: Path) -> None:
    disks(folder, "child")
    path = child(folder, "base.vmdk")
    with pytest.raises(SESparseError, match="loop"):
        open_chain(path, parent=path)


# No command ends as if all was well


@pytest.mark.parametrize("command", ["check", "recover", "report"])
def test_commands_with_a_parent_of_another_cid(
    folder: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = target_fixtures.small_chain(folder).write()
    (folder / "vm.vmdk").unlink()
    (folder / "vm-flat.vmdk").unlink()
    mine = elsewhere(folder, "mine", OTHER)
    uri = f"sesparse://{path.as_posix()}?parent={mine.as_posix()}"
    out = {
        "check": [],
        "recover": ["-o", str(tmp_path / "out")],
        "report": ["-o", str(tmp_path / "x.html"), "--no-files"],
    }
    assert cli.main([command, uri, *out[command]]) == (3 if command == "check" else 1)
    assert "CID" in capsys.readouterr().out


def test_a_parent_for_one_of_two_disks(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A URI is of the whole VM: the disk that lacks no parent opens without; where none lacks one, it is refused."""
    first = target_fixtures.small_chain(folder, "a")
    target_fixtures.small_chain(folder, "b").write()
    first.write()
    (folder / "vm.vmx").write_text(vmx(["a-000001.vmdk", "b-000001.vmdk"], "vm"))
    place = tmp_path / "analyst"
    place.mkdir()
    for name in ("a.vmdk", "a-flat.vmdk"):
        (folder / name).rename(place / name)
    uri = f"sesparse://{(folder / 'vm.vmx').as_posix()}?parent={(place / 'a.vmdk').as_posix()}"
    assert cli.main(["check", uri]) == 0
    for name in ("a.vmdk", "a-flat.vmdk"):
        (place / name).rename(folder / name)
    capsys.readouterr()
    assert cli.main(["check", uri.replace("analyst/a.vmdk", f"{folder.relative_to(tmp_path).as_posix()}/b.vmdk")]) == 1
    assert "no link of the chain lacks a parent" in capsys.readouterr().err


def test_a_child_keeps_the_parent_that_was_named(folder: Path, tmp_path: Path) -> None:
    """Of a state above the link that lacks it, not of one below."""
    chain = target_fixtures.small_chain(folder, deltas=2)
    path = chain.write()
    with open_chain(path) as whole:
        expected = whole.read(0, 40960)
    place = tmp_path / "a" / "analyst"
    place.mkdir(parents=True)
    for name in ("vm.vmdk", "vm-flat.vmdk"):
        (folder / name).rename(place / name)
    register()
    target = Target.open(f"sesparse://{path.as_posix()}?parent={(place / 'vm.vmdk').as_posix()}")
    children = list(target.open_children())
    names = [
        [link.name for link in child.disks[0].chain.links] if hasattr(child.disks[0], "chain") else []
        for child in children
    ]
    assert ["vm-000001.vmdk", "vm.vmdk"] in names
    assert target.disks[0].chain.read(0, 40960) == expected


def test_descriptor_for_another_parent_than_its_own_wants(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The descriptor beside it is the evidence: a new one with a fitting CID would hide that it does not fit."""
    target_fixtures.small_chain(folder).write()
    mine = elsewhere(folder, "mine", OTHER)
    arguments = ["descriptor", str(folder / "vm-000001-sesparse.vmdk"), "--parent"]
    assert cli.main([*arguments, str(mine)]) == 1
    out, err = capsys.readouterr()
    assert "another disk" in err
    assert out.splitlines()[1].startswith("# parentCID is ")
    assert cli.main([*arguments, str(folder / "vm.vmdk")]) == 0
