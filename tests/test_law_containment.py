"""The law of containment: what a path in evidence may name is decided in one place, whoever comes upon it.

Each entrance is tried with each way out. What is opened or listed is not asked of the package: Python's audit hook tells.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dissect.target import container
from dissect.target.exceptions import Error
from dissect.target.filesystem import VirtualFilesystem
from dissect.target.target import Target
from sesparse_builder import ExtentBuilder, descriptor, vmsd, vmx, write_flat
from target_fixtures import SECTORS, small_chain

from dissect_sesparse import cli, open_chain
from dissect_sesparse.chain.detect import is_ours
from dissect_sesparse.findings.findings import findings
from dissect_sesparse.source.errors import FileError, SESparseError
from dissect_sesparse.source.file import EvidenceFile
from dissect_sesparse.source.folder import Folder
from dissect_sesparse.target.machine import snapshot_states
from dissect_sesparse.target.registration import register

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = "00005ec1"
MIDDLE = "000001dd"
_watching: list[list[str]] = []


def _hook(event: str, arguments: tuple) -> None:
    if _watching and event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], (str, os.PathLike)):
        _watching[-1].append(os.path.realpath(arguments[0]))


sys.addaudithook(_hook)


@contextmanager
def watched() -> Iterator[list[str]]:
    """All that is opened or listed meanwhile."""
    _watching.append([])
    try:
        yield _watching[-1]
    finally:
        _watching.pop()


@pytest.fixture
def root(tmp_path: Path, folder: Path, symlink: Callable) -> Path:
    """What lies outside: a disk that anybody would take for the parent, a log, a list of snapshots, a VM."""
    register()
    for outside in (tmp_path / "outside", tmp_path):
        outside.mkdir(exist_ok=True)
        write_flat(outside / "secret-flat.vmdk", SECTORS * 512, {0: b"secret"})
        ExtentBuilder(SECTORS).write(outside / "secret-sesparse.vmdk")
        text = descriptor([(SECTORS, "FLAT", "secret-flat.vmdk")], cid=SECRET)
        (outside / "secret.vmdk").write_text(text)
        (outside / "hostd.log").write_text(f"constMagic=0xcafebabe capacity={SECTORS}\n")
        (outside / "secret.vmsd").write_text(list_of("secret.vmdk"))
        (outside / "secret.vmx").write_text(vmx(["secret.vmdk"], "secret"))
    symlink(folder / "linked.vmdk", tmp_path / "outside" / "secret.vmdk")
    symlink(folder / "linked-flat.vmdk", tmp_path / "outside" / "secret-flat.vmdk")
    symlink(folder / "linked-sesparse.vmdk", tmp_path / "outside" / "secret-sesparse.vmdk")
    symlink(folder / "way", tmp_path / "outside")
    symlink(folder.parent / "beside", tmp_path / "outside")
    return tmp_path


WAYS = [
    "../../outside/{name}.vmdk",
    "../../{name}.vmdk",
    "..\\..\\outside\\{name}.vmdk",
    "{root}/outside/{name}.vmdk",
    "C:{root}/outside/{name}.vmdk",
    "//localhost/{root}/outside/{name}.vmdk",
    "\\\\?\\{root}\\outside\\{name}.vmdk",
    "file://{root}/outside/{name}.vmdk",
    "way/{name}.vmdk",
    "../beside/{name}.vmdk",
    "../vm/way/../{name}.vmdk",
    "linked{kind}.vmdk",
]


def list_of(*names: str) -> str:
    when = datetime(2024, 3, 11, tzinfo=timezone.utc)
    return vmsd(
        [{"uid": n, "display_name": f"s{n}", "created": when, "disks": [name]} for n, name in enumerate(names, 1)]
    )


def delta(
    folder: Path, name: str, hint: str, parent_cid: str = SECRET, cid: str = "00000c1d", **keywords: object
) -> Path:
    """A link that is whole but for its parent."""
    folder.mkdir(parents=True, exist_ok=True)
    ExtentBuilder(SECTORS).write(folder / f"{name}-sesparse.vmdk")
    lines = [(SECTORS, "SESPARSE", f"{name}-sesparse.vmdk")]
    text = descriptor(lines, cid=cid, parent_cid=parent_cid, parent_hint=hint, **keywords)
    (folder / f"{name}.vmdk").write_text(text)
    return folder / f"{name}.vmdk"


def look(path: Path, **options: object) -> None:
    """Open a disk, with and without its parent, and look at all that findings look at."""
    for unreadable in ("error", "zero"):
        with suppress(SESparseError), open_chain(path, unreadable=unreadable, **options) as chain:
            chain.read(0, 4096)
            list(findings(chain))


def look_at_vm(path: Path) -> None:
    """Open a VM, all its states, and each as a child."""
    for unreadable in ("error", "zero"):
        with suppress(Error, SESparseError):
            target = Target.open(f"sesparse://{path.as_posix()}?unreadable={unreadable}")
            snapshot_states(target)
            for _, child in target.list_children():
                with suppress(Error, SESparseError):
                    target.open_child(child.path)


# Entrances: each is given the VM's folder, and names something outside


def chain(folder: Path, name: str) -> None:
    look(delta(folder, "vm-000001", name))


def second_link(folder: Path, name: str) -> None:
    """Beside the folder, where its own siblings would be one level higher."""
    delta(folder.parent, "middle", name, cid=MIDDLE)
    delta(folder.parent, "middle2", f"../{name}", cid="000001de")
    look(delta(folder, "vm-000001", "../middle.vmdk", MIDDLE))
    look(delta(folder, "vm-000002", "../middle2.vmdk", "000001de"))


def detection(folder: Path, name: str) -> None:
    """Of disks that are not ours by themselves: what decides lies below them."""

    def plain(path: Path, cid: str, parent_cid: str, hint: str) -> Path:
        path.write_text(descriptor([(8, "FLAT", "none.vmdk")], cid=cid, parent_cid=parent_cid, parent_hint=hint))
        return path

    plain(folder.parent / "middle.vmdk", MIDDLE, SECRET, name)
    first, second = (
        plain(folder / "first.vmdk", "00000001", SECRET, name),
        plain(folder / "second.vmdk", "00000002", MIDDLE, "../middle.vmdk"),
    )
    for path in (first, second):
        with path.open("rb") as fh:
            is_ours(fh, path)


def states(folder: Path, name: str) -> None:
    """A snapshot whose chain is no running disk's, and whose second link lies beside the folder."""
    small_chain(folder).write()
    delta(folder.parent, "middle", f"../{name}", cid=MIDDLE)
    delta(folder, "branch", "../middle.vmdk", MIDDLE)
    (folder / "vm.vmx").write_text(vmx(["vm-000001.vmdk"], "vm"))
    (folder / "vm.vmsd").write_text(list_of("branch.vmdk", "../middle.vmdk", "vm.vmdk"))
    look_at_vm(folder / "vm.vmx")


def children(folder: Path, name: str) -> None:
    """The running chain's second link lies beside the folder: a child of it starts there."""
    delta(folder.parent, "middle", name, cid=MIDDLE)
    delta(folder, "vm-000001", "../middle.vmdk", MIDDLE)
    (folder / "vm.vmx").write_text(vmx(["vm-000001.vmdk"], "vm"))
    (folder / "vm.vmsd").write_text(list_of("../middle.vmdk"))
    look_at_vm(folder / "vm.vmx")
    with suppress(Error, SESparseError):
        target = Target.open(f"sesparse://{(folder / 'vm-000001.vmdk').as_posix()}?unreadable=zero")
        for _, child in target.list_children():
            with suppress(Error, SESparseError):
                target.open_child(child.path)


def snapshot_list(folder: Path, name: str) -> None:
    small_chain(folder).write()
    (folder / "vm.vmx").write_text(vmx(["vm-000001.vmdk"], "vm"))
    (folder / "vm.vmsd").write_text(list_of(name, "vm.vmdk"))
    look_at_vm(folder / "vm.vmx")
    look(folder / "vm-000001.vmdk")


def configuration(folder: Path, name: str) -> None:
    for disks in (["vm-000001.vmdk", name], ["../middle.vmdk"]):  # a VM without a disk of ours is dissect's
        small_chain(folder).write()
        delta(folder.parent, "middle", name, cid=MIDDLE)
        (folder / "vm.vmx").write_text(vmx(disks, "vm"))
        look_at_vm(folder / "vm.vmx")
        with suppress(Error, SESparseError, SystemExit):
            cli.main(["check", str(folder / "vm.vmx")])


def extent(folder: Path, name: str) -> None:
    for number, kind in enumerate(("FLAT", "VMFS", "SESPARSE", "SPARSE", "VMFSSPARSE", "VMFSRDM")):
        (folder / f"vm{number}.vmdk").write_text(descriptor([(SECTORS, kind, name)], cid="fffffffd"))
        look(folder / f"vm{number}.vmdk")
        with suppress(Error, SESparseError):
            delta(folder, "over", f"vm{number}.vmdk", "fffffffd")
            look(folder / "over.vmdk")


def changed_blocks(folder: Path, name: str) -> None:
    small_chain(folder).write()
    path = folder / "vm-000001.vmdk"
    path.write_text(path.read_text().replace("# Extent", f'changeTrackPath="{name}"\n# Extent', 1))
    look(path)


def named_parent(folder: Path, name: str) -> None:
    """The user vouches for the file that is named, not for what that one names."""
    named = delta(folder.parents[1] / "case" / "analyst", "named", name, cid=MIDDLE)
    for link in ("linked.vmdk", "linked-flat.vmdk", "linked-sesparse.vmdk"):
        (named.parent / link).symlink_to(folder.parents[1] / "outside" / link.replace("linked", "secret"))
    (named.parent / "way").symlink_to(folder.parents[1] / "outside")
    look(delta(folder, "vm-000001", "gone.vmdk", MIDDLE), parent=named)


ENTRANCES = {
    "chain": (chain, ""),
    "second-link": (second_link, ""),
    "detection": (detection, ""),
    "states": (states, ""),
    "children": (children, ""),
    "vmsd": (snapshot_list, ""),
    "vmx": (configuration, ""),
    "extent": (extent, "-flat"),
    "sesparse": (extent, "-sesparse"),
    "ctk": (changed_blocks, ""),
    "parent=": (named_parent, ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_no_way_out(root: Path, folder: Path, entrance: str, way: str) -> None:
    enter, kind = ENTRANCES[entrance]
    name = way.format(root=root.as_posix(), name=f"secret{kind}", kind=kind)
    with watched() as opened:
        enter(folder, name)
    assert str(folder) in {str(Path(path).parent) for path in opened}, "nothing was tried"
    assert outside(opened, root) == []


def outside(opened: list[str], root: Path) -> list[str]:
    """What of it is the test's, and neither the VM's nor the analyst's."""
    inside = (root / "datastore", root / "case")
    paths = [Path(path) for path in opened if Path(path).is_relative_to(root)]
    # The folder above is looked through for the sibling folders, and holds them
    return [str(path) for path in paths if not any(path.is_relative_to(place) for place in inside)]


def test_the_hook_sees_it(root: Path) -> None:
    """Else all of this would hold whatever the package did."""
    with watched() as opened, open_chain(root / "outside" / "secret.vmdk") as chain:
        assert chain.read(0, 6) == b"secret"
    assert len(outside(opened, root)) >= 2
    with watched() as opened:
        list(root.iterdir())
    assert outside(opened, root) == [str(root)]


# Folders that are looked through


def test_links_in_a_folder(root: Path, folder: Path, symlink: Callable) -> None:
    """Descriptors by their CID, snapshot lists, logs: of a link in the folder nothing is read."""
    for place in (folder, folder.parent / "other"):
        place.mkdir(exist_ok=True)
        for name in ("secret.vmdk", "hostd.log", "secret.vmsd", "secret.vmx", "secret-sesparse.vmdk"):
            symlink(place / name, root / "outside" / name)
    path = delta(folder, "vm-000001", "gone.vmdk")
    lost = ExtentBuilder(SECTORS)
    lost.patch(0, bytes(512))
    lost.write(folder / "lost-sesparse.vmdk")
    (folder / "vm.vmx").write_text(vmx(["vm-000001.vmdk", "gone-000002.vmdk"], "vm"))
    with watched() as opened:
        look(path)
        look(folder / "lost-sesparse.vmdk", salvage=True)
        look_at_vm(folder / "vm.vmx")
        look_at_vm(folder)
        cli.main(["descriptor", str(folder / "lost-sesparse.vmdk")])
        cli.main(["check", str(folder)])
    assert outside(opened, root) == []


def test_a_configuration_that_is_a_link(
    root: Path, folder: Path, symlink: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    """Found in a folder it is not opened, and that is said; named by the user it is."""
    symlink(folder / "vm.vmx", root / "outside" / "secret.vmx")
    with watched() as opened:
        look_at_vm(folder)
    assert outside(opened, root) == []
    assert "leads out of" in caplog.text
    with watched() as opened:
        look_at_vm(folder / "vm.vmx")
    assert str(root / "outside" / "secret.vmx") in opened


# Inside an evidence file system all of it is evidence, and the analyst's disk is not


@pytest.mark.parametrize("way", WAYS)
def test_nothing_of_the_analyst_from_inside_evidence(root: Path, way: str) -> None:
    name = way.format(root=root.as_posix(), name="secret", kind="")
    fs = VirtualFilesystem()
    for link in ("way", "beside"):
        fs.symlink(f"{root.as_posix()}/outside", f"/vmfs/volumes/ds/vm/{link}")
    fs.symlink(f"{root.as_posix()}/outside/secret.vmdk", "/vmfs/volumes/ds/vm/linked.vmdk")
    flat = name.replace("secret.vmdk", "secret-flat.vmdk").replace("linked.vmdk", "linked-flat.vmdk")
    for number, text in enumerate((
        descriptor([(8, "SESPARSE", "x-sesparse.vmdk")], cid=MIDDLE, parent_cid=SECRET, parent_hint=name),
        descriptor([(8, "FLAT", flat)], cid=MIDDLE),
        descriptor([(8, "SESPARSE", name)], cid=MIDDLE),
    )):  # fmt: skip
        fs.map_file_fh(f"/vmfs/volumes/ds/vm/vm{number}.vmdk", io.BytesIO(text.encode()))
    fs.map_file_fh("/vmfs/volumes/ds/vm/vm.vmx", io.BytesIO(vmx([name, "vm0.vmdk", "vm1.vmdk"], "vm").encode()))
    fs.map_file_fh("/vmfs/volumes/ds/vm/vm.vmsd", io.BytesIO(list_of(name).encode()))
    with watched() as opened:
        for number in range(3):
            look(fs.path(f"/vmfs/volumes/ds/vm/vm{number}.vmdk"))
        look_at_target_path(fs)
    assert [path for path in opened if Path(path).is_relative_to(root)] == []


def look_at_target_path(fs: VirtualFilesystem) -> None:
    with suppress(Error, SESparseError):
        Target.open(fs.path("/vmfs/volumes/ds/vm/vm.vmx"))
    with suppress(Error, SESparseError):
        container.open(fs.path("/vmfs/volumes/ds/vm/vm0.vmdk"))


def test_absolute_names_mean_what_they_say_inside_evidence() -> None:
    fs = VirtualFilesystem()
    base = descriptor([(8, "FLAT", "base-flat.vmdk")], cid=SECRET)
    fs.map_file_fh("/vmfs/volumes/far/a/b/base.vmdk", io.BytesIO(base.encode()))
    fs.map_file_fh("/vmfs/volumes/far/a/b/base-flat.vmdk", io.BytesIO(b"evidence".ljust(4096, b"\0")))
    hint = "/vmfs/volumes/far/a/b/base.vmdk"
    child = descriptor([(8, "ZERO", None)], cid=MIDDLE, parent_cid=SECRET, parent_hint=hint)
    fs.map_file_fh("/vmfs/volumes/ds/vm/child.vmdk", io.BytesIO(child.encode()))
    with open_chain(fs.path("/vmfs/volumes/ds/vm/child.vmdk")) as chain:
        assert [link.name for link in chain.links] == ["child.vmdk", "base.vmdk"]


# What is exchanged while it is looked at


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_in_place_of_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was a file when it was looked at: opening it must not wait for somebody to write."""
    os.mkfifo(folder / "fifo")
    monkeypatch.setattr(type(folder), "is_file", lambda self: True)
    with pytest.raises(FileError, match="not a regular file"):
        EvidenceFile.open(folder / "fifo")


def test_a_link_in_place_of_a_file(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It led nowhere when it was looked at."""
    real = Folder.is_inside
    answers = iter((True,))
    monkeypatch.setattr(Folder, "is_inside", lambda self, path: next(answers, None) or real(self, path))
    with pytest.raises(FileError, match="exchanged"):
        Folder(folder).open(folder / "linked.vmdk")


def test_a_file_in_place_of_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was opened is not what the path is any more."""
    (folder / "a").write_text("a")
    (folder / "b").write_text("b")
    real = EvidenceFile.open
    monkeypatch.setattr(EvidenceFile, "open", lambda path: real(path.with_name("b")))
    with pytest.raises(FileError, match="exchanged"):
        Folder(folder).open(folder / "a")


def test_loose_disks_that_are_links(root: Path, folder: Path, symlink: Callable, capsys: pytest.CaptureFixture) -> None:
    """A folder without a VM is looked through for disks: what leads out of it is left out, and that is said."""
    symlink(folder / "secret-sesparse.vmdk", root / "outside" / "secret-sesparse.vmdk")
    (folder / "deeper").mkdir()
    symlink(folder / "deeper" / "secret-sesparse.vmdk", root / "outside" / "secret-sesparse.vmdk")
    small_chain(folder).write()
    with watched() as opened:
        assert cli.main(["check", str(folder)]) == 1
    assert outside(opened, root) == []
    assert "leads out of the evidence" in capsys.readouterr().err
