"""``state=``: the machine as a snapshot or a link froze it, for every tool of dissect."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest
from dissect.target import Target, container
from dissect.target.exceptions import ContainerError, TargetError
from target_fixtures import example_vm, tool  # noqa: F401

from dissect_sesparse import open_chain
from dissect_sesparse.source.errors import OptionError, SESparseError

NAMES = ["before patch", "what? #1 of 2", "vor dem Ändern", "a+b=c&d;e", "100%25", "?state=x", "日本 #"]


def digest(disk: container.Container) -> str:
    disk.seek(0)
    return hashlib.sha256(disk.read(disk.size)).hexdigest()


def digests(target: Target) -> list[str]:
    return [digest(disk) for disk in target.disks]


def children(vmx: Path) -> dict[str, list[str]]:
    """The bytes of each snapshot as its child has them."""
    target = Target.open(vmx)
    return {record.name or str(path): digests(target.open_child(path)) for path, record in _listed(target)}


def _listed(target: Target) -> list:
    return [(record.path, record) for _, record in target.list_children()]


@pytest.fixture
def vm(example_vm: Path, tmp_path: Path) -> Path:  # noqa: F811
    shutil.copytree(example_vm.parent, tmp_path / "vm")
    return tmp_path / "vm" / example_vm.name


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_snapshot_is_as_its_child(vm: Path, name: str) -> None:
    """Also one whose name has what means something in a URI: as it is where that is clear, and escaped."""
    listed = vm.with_suffix(".vmsd")
    listed.write_text(listed.read_text(encoding="utf-8").replace('"before patch"', f'"{name}"'), encoding="utf-8")
    expected = children(vm)
    assert name in expected
    assert expected[name] != digests(Target.open(vm))
    spellings = [quote(name, safe="")]
    if not set(name) & set("&%") and not name.endswith("#"):  # that one, Python drops before anybody sees it
        spellings.append(name)
    for spelling in spellings:
        target = Target.open(f"sesparse://{vm.as_posix()}?state={spelling}")
        assert digests(target) == expected[name], spelling
        assert not list(target.list_children())
        view = Target.open(f"sesparse://{vm.as_posix()}?view=residual&state={spelling}")
        assert view.disks[0].chain.options.view == "residual"


@pytest.mark.slow
def test_a_path_with_what_means_something_in_a_uri(vm: Path) -> None:
    odd = vm.parent.with_name("what? #1 & more")
    vm.parent.rename(odd)
    expected = children(odd / vm.name)["before patch"]
    for uri in (f"sesparse://{(odd / vm.name).as_posix()}?state=before patch",):
        assert digests(Target.open(uri)) == expected
        assert [digests(target) for target in Target.open_all(uri)] == [expected]
    assert digests(Target.open(f"sesparse://{(odd / vm.name).as_posix()}")) == digests(Target.open(odd / vm.name))


def test_by_the_name_of_a_link(vm: Path) -> None:
    links = [link.name for link in Target.open(vm).disks[0].chain.links]
    frozen = children(vm)
    found = [digests(Target.open(f"sesparse://{vm.as_posix()}?state={name}")) for name in links]
    assert found[0] == digests(Target.open(vm)), "the newest link is the machine as it runs"
    assert found[1:] == list(reversed(frozen.values()))
    assert found[1] == digests(Target.open(f"sesparse://{vm.as_posix()}?state={links[1].removesuffix('.vmdk')}"))


@pytest.mark.slow
def test_of_a_disk_alone(vm: Path) -> None:
    """As a keyword of the container, by a URI of the disk, by the names of links and of snapshots."""
    disk = max(vm.parent.glob("*-00000?.vmdk"))
    frozen = children(vm)
    for name, (expected,) in frozen.items():
        opened = container.open(disk, state=name)
        assert digest(opened) == expected
        opened.close()
        assert digests(Target.open(f"sesparse://{disk.as_posix()}?state={quote(name)}")) == [expected]
    links = [link.name for link in open_chain(disk).links]
    assert digest(container.open(disk, state=links[0])) == digest(container.open(disk))
    with pytest.raises(OptionError, match="as it is"):
        open_chain(disk, state=links[0])


@pytest.mark.slow
def test_unknown_names_list_what_there_is(vm: Path) -> None:
    disk = max(vm.parent.glob("*-00000?.vmdk"))
    with pytest.raises(ContainerError) as error:
        container.open(disk, state="nosuch")
    cause: BaseException | None = error.value
    while cause is not None and not isinstance(cause, SESparseError):
        cause = cause.__cause__
    assert isinstance(cause, OptionError)
    assert "'before patch', 'after patch'" in str(cause)
    with pytest.raises(TargetError) as failed:
        Target.open(f"sesparse://{vm.as_posix()}?state=nosuch")
    assert "'before patch', 'after patch'" in str(failed.value.__cause__)
    done = tool("target-query", f"sesparse://{vm}?state=nosuch", "-f", "sesparse.chain", check=False)
    assert "'before patch'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_tools_that_take_no_child(vm: Path) -> None:
    """The file of a snapshot by ``target-fs``, and its disk by ``target-dd``."""
    uri = f"sesparse://{vm}?state=before patch"
    expected = children(vm)["before patch"]
    done = tool("target-dd", "-w", str(vm.with_name("out.raw")), uri, check=False)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(vm.with_name("out.raw").read_bytes()).hexdigest() == expected[0]
    assert "orders" in tool("target-fs", uri, "ls", "*").stdout
    checked = tool("dissect-sesparse", "check", uri, check=False)
    assert checked.returncode in (0, 3), checked.stderr
