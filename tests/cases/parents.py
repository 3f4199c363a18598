"""Parents that are missing, elsewhere, wrong or hostile (p), and hints that name no descriptor (f)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cases.kit import SECTORS, Link, case, refused, right, swap
from cases.picture import Picture

if TYPE_CHECKING:
    from cases.kit import Box, Disk

VOLUME = "/vmfs/volumes/5f0c1d7e-9a3b2c44-1e55-0025b5a0010f"


@case
def p01(box: Box) -> Disk:
    """parent missing"""
    base = box.base()
    link = box.delta(base)
    base.path.unlink()
    (box.vm / "base-flat.vmdk").unlink()
    return refused(link, "disk-000001.vmdk", "base.vmdk", base.cid)


@case
def p02(box: Box) -> Disk:
    """parent CID mismatch (base booted after the snapshot)"""
    box.base()
    old = box.base(tag="later")
    link = box.delta(old)
    box.base(tag="later", cid="ba5e0002")
    return right(link, "cid-mismatch")


@case
def p03(box: Box) -> Disk:
    """hint absolute /vmfs/volumes/<uuid>/vm/base.vmdk; parent next to the child"""
    return right(box.snapshot(hint=f"{VOLUME}/vm/base.vmdk"), "parent-relocated")


def linked_clone(box: Box, hint: str, **keywords: str) -> Link:
    """A delta in the VM's folder whose base is in the folder ``vmA`` beside it."""
    return box.delta(box.base(folder=box.folder("vmA")), hint=hint, **keywords)


@case
def p04(box: Box) -> Disk:
    """linked clone: hint /vmfs/volumes/<uuid>/vmA/base.vmdk, both folders side by side"""
    return right(linked_clone(box, f"{VOLUME}/vmA/base.vmdk"), "parent-relocated")


@case
def p04b(box: Box) -> Disk:
    """linked clone: hint ../vmA/base.vmdk"""
    return right(linked_clone(box, "../vmA/base.vmdk"))


@case
def p05(box: Box) -> Disk:
    """hint with backslashes C:\\VMs\\vm\\base.vmdk, parent next to the child"""
    return right(box.snapshot(hint="C:\\VMs\\vm\\base.vmdk"), "parent-relocated")


@case
def p05b(box: Box) -> Disk:
    """hint with relative backslashes ..\\vmA\\base.vmdk"""
    return right(linked_clone(box, "..\\vmA\\base.vmdk"))


# Names that lead out of the evidence, to files that are there: they would fit if they were opened

HOST_FILE = "../../../../../../../../../../etc/hostname"


@case
def p06(box: Box) -> list[Disk]:
    """hint is a traversal to a file outside the evidence (../../../../etc/hostname)"""
    base = box.base(folder=box.outside())
    links = [
        box.delta(base, "disk-000001", hint="../../analyst/base.vmdk"),
        box.delta(base, "disk-000002", hint=HOST_FILE),
    ]
    return [refused(link, link.path.name, "parent") for link in links]


@case
def p06b(box: Box) -> list[Disk]:
    """hint is an absolute host path /etc/passwd"""
    base = box.base(folder=box.outside())
    links = [box.delta(base, "disk-000001", hint=str(base.path)), box.delta(base, "disk-000002", hint="/etc/passwd")]
    return [refused(link, link.path.name, "parent") for link in links]


def hostile_extent(box: Box, name: str, number: int) -> Disk:
    """A chain whose base says that its bytes are in some file."""
    line = f'RW {SECTORS} FLAT "{name}" 0'
    base = box.link(f"base{number}", [line], Picture(SECTORS, "base"), cid=f"ba5e000{number}", create_type="vmfs")
    return refused(box.delta(base, f"disk-00000{number}"), name)


@case
def p06c(box: Box) -> list[Disk]:
    """extent name is a traversal (../../../etc/passwd) as FLAT"""
    box.plain("secret.bin", ("base", 0, SECTORS), folder=box.outside())
    names = ["../../analyst/secret.bin", HOST_FILE.replace("hostname", "passwd")]
    return [hostile_extent(box, name, number) for number, name in enumerate(names)]


@case
def p06d(box: Box) -> list[Disk]:
    """extent name is absolute /etc/passwd as FLAT"""
    box.plain("secret.bin", ("base", 0, SECTORS), folder=box.outside())
    names = [str(box.outside() / "secret.bin"), "/etc/passwd"]
    return [hostile_extent(box, name, number) for number, name in enumerate(names)]


@case
def p07(box: Box) -> Disk:
    """loop in chain a -> b -> a"""
    other = Link(box.vm / "b.vmdk", "c1d0000b", Picture(SECTORS))
    a = box.delta(other, "a", cid="c1d0000a")
    box.delta(a, "b", cid="c1d0000b")
    return refused(a, "loop", "a.vmdk", "b.vmdk", memory=50)


@case
def p08(box: Box) -> Disk:
    """self parent"""
    return refused(own_parent(box), "loop", "disk-000001.vmdk", memory=50)


def own_parent(box: Box) -> Link:
    """A delta that names itself as its parent."""
    return box.delta(Link(box.vm / "disk-000001.vmdk", "c1d00001", Picture(SECTORS)), cid="c1d00001")


@case
def p09(box: Box) -> Disk:
    """linked clone whose base has the child's own file name (vmB/disk.vmdk -> ../vmA/disk.vmdk)"""
    base = box.base("disk", folder=box.folder("vmA"))
    return right(box.delta(base, "disk", tag="delta", hint="../vmA/disk.vmdk"))


@case
def p10(box: Box) -> Disk:
    """hint ../vmA/base.vmdk but another base.vmdk (other disk, other CID) sits next to the child"""
    box.base(tag="other", cid="07e40001")
    return right(linked_clone(box, "../vmA/base.vmdk"), "parent-name-clash")


@case
def p10b(box: Box) -> Disk:
    """absolute hint /vmfs/volumes/<uuid>/vmA/base.vmdk, another base.vmdk next to the child"""
    box.base(tag="other", cid="07e40001")
    return right(linked_clone(box, f"{VOLUME}/vmA/base.vmdk"), "parent-name-clash", "parent-relocated")


# Hints that name an extent: its descriptor lies beside it, and the CID tells that it is the one


@case
def f10(box: Box) -> Disk:
    """parent hint points at the raw base-flat.vmdk, not its descriptor"""
    return right(box.snapshot(text=swap('"base.vmdk"', '"base-flat.vmdk"')), "parent-relocated")


@case
def f11(box: Box) -> Disk:
    """parent hint points at the parent's bare -sesparse.vmdk (which has its own parent)"""
    link = box.delta(box.snapshot(), "disk-000002", data=(2, 3), zero=(), hint="disk-000001-sesparse.vmdk")
    return right(link, "parent-relocated")
