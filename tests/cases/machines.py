"""What is opened (o), and virtual machines of which one disk is broken, or said in an unusual way (x)."""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cases.chains import grown, zero_last
from cases.kit import Disk, Machine, Slot, case, refused, right, swap
from cases.parents import VOLUME, own_parent

if TYPE_CHECKING:
    from cases.kit import Box, Link

EXTENT = "disk-000001-sesparse.vmdk"


def slot(link: Link, *, needed: bool = True) -> Slot:
    return Slot(link.path.name, link.picture, needed)


def broken(link: Link) -> Slot:
    """A disk that cannot be read from end to end: it may be there or not."""
    return Slot(link.path.name, None, needed=False)


@case
def o01(box: Box) -> Disk:
    """bare -sesparse.vmdk as path (parent data under it)"""
    return replace(right(box.snapshot()), source=box.vm / EXTENT)


@case
def o02(box: Box) -> list[Disk]:
    """bare seSparse file with another extension (.bin / no .vmdk)"""
    link = box.snapshot()
    alone = box.folder("alone")
    paths = [shutil.copy(box.vm / EXTENT, alone / name) for name in ("disk.bin", "disk")]
    sources = [*paths, paths[0].read_bytes()]
    return [replace(refused(link, "parent"), source=source) for source in sources]


@case
def o04(box: Box) -> Disk:
    """descriptor as BytesIO"""
    link = box.snapshot()
    return replace(refused(link, "path"), source=link.path.read_bytes())


@case
def o05(box: Box) -> Disk:
    """list [delta.vmdk, base.vmdk] descriptors handed to VMDK()"""
    link = box.snapshot()
    return replace(right(link), source=[link.path, box.vm / "base.vmdk"])


OVF = """<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
    xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
  <References><File ovf:href="disk-000001.vmdk" ovf:id="file1"/></References>
  <DiskSection><Disk ovf:diskId="vmdisk1" ovf:fileRef="file1"/></DiskSection>
  <VirtualSystem><VirtualHardwareSection><Item>
    <rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource><rasd:ResourceType>17</rasd:ResourceType>
  </Item></VirtualHardwareSection></VirtualSystem>
</Envelope>
"""


@case
def o06(box: Box) -> Machine:
    """chain inside an OVA (tar): .ovf names the delta descriptor"""
    link = box.snapshot()
    (box.vm / "vm.ovf").write_text(OVF)
    with tarfile.open(box.store / "vm.ova", "w") as tar:
        for path in sorted(box.vm.iterdir(), reverse=True):
            tar.add(path, path.name)
    return Machine(box.store / "vm.ova", (slot(link),))


@case
def o08(box: Box) -> Machine:
    """the VM folder itself as target (open_all): vmx, descriptors, extents"""
    link, good = box.snapshot(), box.good()
    box.vmx([link.path.name, good.name])
    return Machine(box.vm, (slot(link), good), together=True)


@case
def o09(box: Box) -> Machine:
    """base descriptor opened while snapshots of it exist"""
    base = box.base()
    link = box.delta(base)
    return Machine(base.path, (slot(base),), says=(link.path.name,))


@case
def o12(box: Box) -> Machine:
    """-flat.vmdk opened directly"""
    base = box.base()
    link = box.delta(base)
    return Machine(box.vm / "base-flat.vmdk", (Slot("base-flat.vmdk", base.picture),), says=(link.path.name,))


# A machine of two disks. The second is good


def pair(box: Box, first: Slot, *says: str, name: str | None = None, **keywords: Any) -> Machine:
    """A machine whose first disk is the case's."""
    good = box.good()
    return Machine(box.vmx([name or first.name, good.name], **keywords), (first, good), says)


@case
def x00(box: Box) -> Machine:
    """vmx with two good disks"""
    return pair(box, slot(box.snapshot()))


@case
def x01(box: Box) -> Machine:
    """vmx: delta of disk 1 zero bytes, disk 2 good"""
    link = box.snapshot(cut=0)
    return pair(box, broken(link), "disk-000001.vmdk", EXTENT)


@case
def x02(box: Box) -> Machine:
    """vmx: snapshot descriptor missing (extent there), base there"""
    base = box.base("disk")
    link = box.delta(base)
    link.path.unlink()
    return pair(box, slot(base, needed=False), "disk-000001.vmdk", "missing", name="disk-000001.vmdk")


@case
def x02b(box: Box) -> Machine:
    """vmx: snapshot descriptor and base descriptor missing"""
    base = box.base("disk")
    link = box.delta(base)
    link.path.unlink()
    base.path.unlink()
    return pair(box, broken(link), "disk-000001.vmdk", "missing")


@case
def x03(box: Box) -> Machine:
    """vmx: absolute /vmfs path of disk 1; file sits next to the vmx"""
    link = box.snapshot()
    return pair(box, slot(link), name=f"{VOLUME}/vm/{link.path.name}")


@case
def x03b(box: Box) -> Machine:
    """vmx: absolute path that exists on this machine"""
    link = box.snapshot()
    return pair(box, slot(link), name=str(link.path))


@case
def x05(box: Box) -> Machine:
    """vmx: extent of disk 1 missing, descriptor there"""
    link = box.snapshot()
    (box.vm / EXTENT).unlink()
    return pair(box, broken(link), "disk-000001.vmdk", EXTENT)


@case
def x09(box: Box) -> Machine:
    """vmx: disk 1 opens but its first grain has an unknown type (read raises)"""
    link = box.snapshot(entries={0: 0x4 << 60}).bad(0)
    return pair(box, slot(link, needed=False), EXTENT)


@case
def x10(box: Box) -> Machine:
    """vmx: disk 1's file cut in the middle of its grain tables (read raises)"""
    link = box.snapshot(cut=6144 * 512 + 16384)
    return pair(box, broken(link), "disk-000001.vmdk", EXTENT)


@case
def x11(box: Box) -> Machine:
    """vmx: disk 1 is its own parent, disk 2 good"""
    return pair(box, broken(own_parent(box)), "disk-000001.vmdk", "loop")


@case
def x12(box: Box) -> Machine:
    """vmx with a windows-1252 byte in the annotation"""
    link = box.snapshot()
    note = swap('memSize = "4096"', 'memSize = "4096"\nannotation = "Größe"')
    return pair(box, slot(link), text=note, coding="cp1252")


@case
def x13(box: Box) -> Machine:
    """vmx: disk 1 present = FALSE"""
    link, good = box.snapshot(), box.good()
    path = box.vmx([link.path.name, good.name], swap('scsi0:0.present = "TRUE"', 'scsi0:0.present = "FALSE"'))
    return Machine(path, (good,))


@case
def x14(box: Box) -> Machine:
    """vmx: disks at scsi0:2 and scsi0:10 (order)"""
    second, tenth = box.snapshot(name="z"), box.base("a", tag="a", cid="aaaa0001")
    path = box.vmx(
        [tenth.path.name, second.path.name],
        lambda text: text.replace("scsi0:0.", "scsi0:10.").replace("scsi0:1.", "scsi0:2."),
    )
    return Machine(path, (slot(second), slot(tenth)))


@case
def x15(box: Box) -> Machine:
    """vmx: disk 1 grown past its base (legitimate), disk 2 good"""
    return pair(box, slot(box.snapshot(**grown())))


@case
def x16(box: Box) -> Machine:
    """vmx: disk 1's base has a ZERO extent at the end, disk 2 good"""
    return pair(box, slot(box.delta(zero_last(box))))


@case
def x17(box: Box) -> Machine:
    """vmx: independent_nonpersistent .REDO log file named as disk (base.vmdk.REDO_abc)"""
    link = box.snapshot(extent_name="base-sesparse.vmdk.REDO_abc")
    path = link.path.rename(box.vm / "base.vmdk.REDO_abc")
    mode = swap('scsi0:0.present = "TRUE"', 'scsi0:0.mode = "independent-nonpersistent"\nscsi0:0.present = "TRUE"')
    return pair(box, Slot(path.name, link.picture), text=mode)
