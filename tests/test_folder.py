"""Which files evidence may name. Everything here is about what must *not* be opened, and still find what is there."""

from __future__ import annotations

import io
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

from dissect_sesparse.source.errors import FileError
from dissect_sesparse.source.folder import MAX_ENTRIES, Folder, is_regular, is_small, name_parts, same_file

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The folder of a virtual machine, with a sibling, and things outside that nobody may open."""
    for name in (
        "secret.vmdk",  # above the siblings
        "outside/secret.vmdk",
        "datastore/vm/disk.vmdk",
        "datastore/vm/sub/disk.vmdk",
        "datastore/vm/sub/only-in-sub.vmdk",
        "datastore/other/disk.vmdk",
        "datastore/other/base.vmdk",
        "datastore/beside.vmdk",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "datastore" / "vm"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.vmdk", ("a.vmdk",)),
        ("sub/a.vmdk", ("sub", "a.vmdk")),
        ("sub\\a.vmdk", ("sub", "a.vmdk")),
        ("..\\vmA\\a.vmdk", ("..", "vmA", "a.vmdk")),
        ("./a.vmdk", ("a.vmdk",)),
        ("/vmfs/volumes/x/a.vmdk", ("/", "vmfs", "volumes", "x", "a.vmdk")),
        ("C:\\VMs\\a.vmdk", ("/", "VMs", "a.vmdk")),
        ("c:/VMs/a.vmdk", ("/", "VMs", "a.vmdk")),
        ("\\\\server\\share\\a.vmdk", ("/", "server", "share", "a.vmdk")),
        ("//server/share/a.vmdk", ("/", "server", "share", "a.vmdk")),
        ("", ()),
        (".", ()),
    ],
)
def test_name_parts(name: str, parts: tuple[str, ...]) -> None:
    assert name_parts(name) == parts


# What may be opened


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("disk.vmdk", "vm/disk.vmdk"),
        ("./disk.vmdk", "vm/disk.vmdk"),
        ("sub/disk.vmdk", "vm/sub/disk.vmdk"),
        ("sub\\disk.vmdk", "vm/sub/disk.vmdk"),
        ("../other/base.vmdk", "other/base.vmdk"),
        ("..\\other\\base.vmdk", "other/base.vmdk"),
        ("../vm/disk.vmdk", "vm/disk.vmdk"),
        # Absolute names are of another machine: only the file's name counts here
        ("/vmfs/volumes/5f1e/vm/disk.vmdk", "vm/disk.vmdk"),
        ("C:\\VMs\\vm\\disk.vmdk", "vm/disk.vmdk"),
        ("\\\\server\\share\\disk.vmdk", "vm/disk.vmdk"),
        ("../../../../../../../nowhere/disk.vmdk", "vm/disk.vmdk"),
    ],
)
def test_find(tree: Path, name: str, found: str) -> None:
    assert Folder(tree).find(name).resolve() == (tree.parent / found).resolve()


@pytest.mark.parametrize(
    "name",
    [
        "../../secret.vmdk",
        "../../outside/secret.vmdk",
        "..\\..\\secret.vmdk",
        "sub/../../../secret.vmdk",
        "../other/../../secret.vmdk",
        "./.././../secret.vmdk",
        "{root}/secret.vmdk",
        "/{root}/secret.vmdk",
        "///{root}/secret.vmdk",
        "\\{root}\\secret.vmdk",
        "C:{root}/secret.vmdk",
        "file://{root}/secret.vmdk",
        "\\\\?\\{root}\\secret.vmdk",
        "\\\\localhost\\c$\\secret.vmdk",
        "//localhost/share/secret.vmdk",
        "nbd://127.0.0.1:1/secret.vmdk",
        "C:secret.vmdk",
        "secret.vmdk:stream",
        "..",
        "../..",
        "/",
        "",
        ".",
        "\x00",
        "secret.vmdk\x00",
        "../../secret.vmdk\n",
        "a" * 5000,
        "a/" * 5000,
        "../" * 5000 + "etc/passwd",
        "\ud800.vmdk",
    ],
)
def test_not_found_and_nothing_outside_is_opened(tree: Path, name: str) -> None:
    root = tree.parents[1].as_posix()
    folder = Folder(tree)
    name = name.replace("{root}", root)
    for _, path in folder.candidates(name):
        assert path.resolve().is_relative_to(tree.parent)
    with pytest.raises(FileError) as caught:
        folder.find(name)
    assert len(str(caught.value)) < 3000 + 20 * len(root), "a hostile name belongs into no message as a whole"


def test_the_folder_above_is_the_last_one(tree: Path) -> None:
    """A file beside the virtual machine's folder is still in reach, as its siblings are."""
    assert Folder(tree).find("../beside.vmdk").resolve() == tree.parent / "beside.vmdk"


def test_folder_right_below_the_root() -> None:
    """There the siblings would be the whole machine."""
    root = Path(Path.cwd().anchor)
    folder = Folder(root / "no-such-vm")
    assert folder.top == root / "no-such-vm"
    assert folder.named("../etc/passwd") is None
    assert folder.named("../etc/../etc/passwd") is None
    assert folder.named("a.vmdk") == root / "no-such-vm" / "a.vmdk"


def test_relative_folder(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An analyst stands in the folder and names no other."""
    monkeypatch.chdir(tree)
    folder = Folder(Path())
    assert folder.find("../other/base.vmdk").resolve() == tree.parent / "other" / "base.vmdk"
    with pytest.raises(FileError):
        folder.find("../../secret.vmdk")
    found = [path.resolve() for path in folder.descriptors()]
    assert found == [tree / "disk.vmdk", tree.parent / "other" / "base.vmdk", tree.parent / "other" / "disk.vmdk"]


# Links that lead out


@pytest.mark.parametrize("target", ["secret.vmdk", "outside/secret.vmdk"])
def test_link_to_a_file_outside(tree: Path, symlink: Callable, target: str) -> None:
    symlink(tree / "link.vmdk", tree.parents[1] / target)
    folder = Folder(tree)
    with pytest.raises(FileError):
        folder.find("link.vmdk")
    assert tree / "link.vmdk" not in list(folder.descriptors())
    assert tree / "link.vmdk" not in folder.files()


def test_link_to_a_folder_outside(tree: Path, symlink: Callable) -> None:
    symlink(tree / "way", tree.parents[1] / "outside")
    symlink(tree.parent / "sibling", tree.parents[1] / "outside")
    folder = Folder(tree)
    for name in ("way/secret.vmdk", "../sibling/secret.vmdk", "way/../secret.vmdk", "/x/sibling/secret.vmdk"):
        with pytest.raises(FileError):
            folder.find(name)
        assert not list(path for _, path in folder.candidates(name) if is_regular(path))
    assert not [path for path in folder.descriptors() if path.name == "secret.vmdk"]


def test_link_in_a_sibling_to_a_file_outside(tree: Path, symlink: Callable) -> None:
    symlink(tree.parent / "other" / "link.vmdk", tree.parents[1] / "secret.vmdk")
    assert not [path for path in Folder(tree).descriptors() if path.name == "link.vmdk"]


def test_link_that_stays_inside(tree: Path, symlink: Callable) -> None:
    symlink(tree / "link.vmdk", tree.parent / "other" / "base.vmdk")
    assert Folder(tree).find("link.vmdk") == tree / "link.vmdk"
    assert tree / "link.vmdk" in list(Folder(tree).descriptors())


def test_link_in_a_circle(tree: Path, symlink: Callable) -> None:
    symlink(tree / "a.vmdk", tree / "b.vmdk")
    symlink(tree / "b.vmdk", tree / "a.vmdk")
    with pytest.raises(FileError):
        Folder(tree).find("a.vmdk")
    assert [path.name for path in Folder(tree).descriptors() if is_regular(path)] == [
        "disk.vmdk",
        "base.vmdk",
        "disk.vmdk",
    ]


def test_linked_folder_of_a_virtual_machine(tree: Path, tmp_path: Path, symlink: Callable) -> None:
    """The analyst's own link to the evidence: what counts is where it leads."""
    symlink(tmp_path / "case", tree)
    folder = Folder(tmp_path / "case")
    assert folder.find("disk.vmdk").resolve() == tree / "disk.vmdk"
    assert folder.find("../other/base.vmdk").resolve() == tree.parent / "other" / "base.vmdk"
    with pytest.raises(FileError):
        folder.find("../secret.vmdk")
    assert tree.parent / "other" / "base.vmdk" in [path.resolve() for path in folder.descriptors()]


# Files that are none


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_fifo(tree: Path) -> None:
    os.mkfifo(tree / "fifo.vmdk")
    with pytest.raises(FileError, match="not a regular file"):
        Folder(tree).find("fifo.vmdk")
    assert not is_regular(tree / "fifo.vmdk")
    assert not is_small(tree / "fifo.vmdk")
    assert tree / "fifo.vmdk" not in Folder(tree).files()


def test_folder_with_a_disk_name(tree: Path) -> None:
    (tree / "folder.vmdk").mkdir()
    with pytest.raises(FileError, match="not a regular file"):
        Folder(tree).find("folder.vmdk")
    assert tree / "folder.vmdk" not in Folder(tree).files()


def test_missing_file_says_where_it_was_looked_for(tree: Path) -> None:
    with pytest.raises(FileError) as caught:
        Folder(tree).find("/vmfs/volumes/ds/vm/gone.vmdk")
    message = str(caught.value)
    assert "missing" in message
    assert "/vmfs/volumes/ds/vm/gone.vmdk" in message
    assert str(tree / "gone.vmdk") in message


# Searching


def test_candidates_in_order(tree: Path) -> None:
    found = [(how, path.resolve()) for how, path in Folder(tree).candidates("../other/disk.vmdk")]
    assert found == [
        ("hint", tree.parent / "other" / "disk.vmdk"),
        ("name", tree / "disk.vmdk"),
        ("folder", tree.parent / "other" / "disk.vmdk"),
    ]
    found = [(how, path.resolve()) for how, path in Folder(tree).candidates("/vmfs/volumes/ds/other/disk.vmdk")]
    assert found == [("name", tree / "disk.vmdk"), ("folder", tree.parent / "other" / "disk.vmdk")]


def test_descriptors_own_folder_first_then_siblings(tree: Path) -> None:
    (tree / "z.VMDK").touch()
    (tree / "notes.txt").touch()
    (tree.parent / "a sibling").mkdir()
    (tree.parent / "a sibling" / "m.vmdk").touch()
    names = [path.relative_to(tree.parent).as_posix() for path in Folder(tree).descriptors()]
    assert names == ["vm/disk.vmdk", "vm/z.VMDK", "a sibling/m.vmdk", "other/base.vmdk", "other/disk.vmdk"]


def test_search_is_bounded(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with millions of entries: they are not all looked at."""
    looked_at = 0
    real = Path.iterdir

    def endless(self: Path) -> object:
        nonlocal looked_at
        yield from real(self)
        for number in range(10**9):
            looked_at += 1
            yield self / f"{number}.vmdk"

    monkeypatch.setattr(Path, "iterdir", endless)
    found = sum(1 for _ in Folder(tree).descriptors())
    assert found <= MAX_ENTRIES + 10
    assert looked_at <= 3 * MAX_ENTRIES
    assert MAX_ENTRIES == 10_000


def test_same_file(tree: Path) -> None:
    assert same_file(tree / "disk.vmdk", tree / "sub" / ".." / "disk.vmdk")
    assert not same_file(tree / "disk.vmdk", tree.parent / "other" / "disk.vmdk")


@pytest.mark.parametrize("name", ["a" * 5000, "\x00", "\ud800", "a/" * 5000])
def test_names_no_system_takes(tree: Path, name: str) -> None:
    assert not is_regular(tree / name)
    assert not is_small(tree / name)


# Inside an evidence file system


def test_inside_evidence_all_of_it_is_evidence() -> None:
    filesystem = pytest.importorskip("dissect.target.filesystem")
    fs = filesystem.VirtualFilesystem()
    for name in ("/vmfs/volumes/ds1/vm/disk.vmdk", "/vmfs/volumes/ds2/gold/base.vmdk", "/top.vmdk"):
        fs.map_file_fh(name, io.BytesIO(name.encode()))
    folder = Folder(fs.path("/vmfs/volumes/ds1/vm"))
    assert not folder.local
    for name in ("/vmfs/volumes/ds2/gold/base.vmdk", "../../ds2/gold/base.vmdk", "/top.vmdk"):
        path = folder.find(name)
        assert PurePosixPath(path.resolve().as_posix()).name == PurePosixPath(name).name
        assert path.open("rb").read().endswith(path.name.encode())
    with pytest.raises(FileError):
        folder.find("/etc/passwd")  # of the analyst's machine
