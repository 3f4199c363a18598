"""Descriptors as they are met: spellings, encodings, omissions, and hostile ones (q)."""

from __future__ import annotations

import re
from functools import partial as bind
from typing import TYPE_CHECKING

from cases.chains import two_flat
from cases.kit import SECTORS, add, case, refused, right, swap
from cases.parents import VOLUME

if TYPE_CHECKING:
    from collections.abc import Callable

    from cases.kit import Box, Disk, Link


def spelled(text: Callable[[str], str], box: Box) -> Disk:
    """A chain whose two descriptors are written another way, and mean the same."""
    return right(box.delta(box.base(text=text), text=text))


def uppercase(text: str) -> str:
    return re.sub(r"CID=(\w+)", lambda match: f"CID = {match[1].upper()}", text)


def pad(text: str) -> str:
    return text.ljust(10240, "\0")


def as_esxi(text: str) -> str:
    """What a newer ESXi writes more."""
    text = swap("# Extent", 'changeTrackPath="disk-ctk.vmdk"\n# Extent')(text)
    return f'{text}ddb.deletable = "true"\n\n\n'


for id, what, text in (
    ("q01", "descriptor with CRLF", lambda text: text.replace("\n", "\r\n")),
    ("q02", "descriptor with UTF-8 BOM", lambda text: f"\ufeff{text}"),
    ("q05", "descriptor padded with trailing NULs to 10 KiB", pad),
    ("q06", "extent name without quotes", lambda text: re.sub(r'^(RW .*)"(.*)"$', r"\1\2", text, flags=re.MULTILINE)),
    (
        "q08",
        "two spaces / tab between extent fields",
        lambda text: re.sub("^RW (\\d+) ", "RW  \\1\t", text, flags=re.MULTILINE),
    ),
    ("q09", "spaces around '=' and uppercase hex CIDs", uppercase),
    ("q19", "leading blank line before '# Disk DescriptorFile'", lambda text: f"\n{text}"),
    (
        "q24",
        "descriptor as ESXi writes it (isNativeSnapshot, changeTrackPath, ddb.deletable, trailing blank lines)",
        as_esxi,
    ),
    (
        "q25",
        "trailing comment / blanks after the extent line",
        lambda text: re.sub('vmdk"$', 'vmdk"  # x  ', text, flags=re.MULTILINE),
    ),
):
    add(id, what, bind(spelled, text))


@case
def q03(box: Box) -> Disk:
    """encoding="windows-1252", file name with umlaut in that encoding"""
    return right(box.delta(box.base(), "Bürö", tag="delta", encoding="windows-1252", coding="cp1252"))


@case
def q03b(box: Box) -> Disk:
    """encoding="windows-1252" descriptor, file copied with UTF-8 name; only the comment line has a non-ASCII byte"""
    comment = swap("# Extent", "# Größe\n# Extent")
    return right(box.snapshot(text=comment, encoding="windows-1252", coding="cp1252"))


@case
def q04(box: Box) -> Disk:
    """UTF-8 name (Bürö-日本)"""
    return right(box.delta(box.base("Bürö-日本"), "Bürö-日本-000001", tag="delta"))


@case
def q07(box: Box) -> Disk:
    """lowercase extent type (sesparse)"""
    return right(box.snapshot(extent_type="sesparse"))


@case
def q07b(box: Box) -> Disk:
    """base of two FLAT extents, the first in lowercase (flat)"""
    return right(box.delta(two_flat(box, "flat")))


@case
def q07c(box: Box) -> Disk:
    """two extents, unknown type for the first (VMFSNEW)"""
    return refused(box.delta(two_flat(box, "VMFSNEW")), "VMFSNEW", "base.vmdk")


@case
def q10(box: Box) -> Disk:
    """parentCID=FFFFFFFF (uppercase) in the base: no parent"""
    return right(box.delta(box.base(text=swap("parentCID=ffffffff", "parentCID=FFFFFFFF"))))


# Which parent? Where neither CID nor hint tells, the name that is there, with a finding


@case
def q11(box: Box) -> Disk:
    """parentCID line missing in a delta that has a hint"""
    return right(box.snapshot(text=lambda text: re.sub("parentCID=.*\n", "", text)), "cid-mismatch")


@case
def q11b(box: Box) -> Disk:
    """parentCID=ffffffff but parentFileNameHint present"""
    return right(box.snapshot(text=lambda text: re.sub("parentCID=.*", "parentCID=ffffffff", text)), "cid-mismatch")


@case
def q12(box: Box) -> Disk:
    """hint missing, parentCID set"""
    return right(box.snapshot(text=lambda text: re.sub("parentFileNameHint=.*\n", "", text)), "parent-relocated")


@case
def q13(box: Box) -> Disk:
    """extent in a subfolder (sub/x-sesparse.vmdk)"""
    box.folder("vm/sub")
    return right(box.snapshot(extent_name="sub/x-sesparse.vmdk"))


@case
def q14(box: Box) -> Disk:
    """extent with absolute ESXi path, file next to the descriptor"""
    return right(box.snapshot(text=swap('"disk-000001-sesparse', f'"{VOLUME}/vm/disk-000001-sesparse')))


@case
def q15(box: Box) -> Disk:
    """no extent lines at all"""
    return refused(box.snapshot(text=lambda text: re.sub("RW .*\n", "", text)), "disk-000001.vmdk", "extent")


@case
def q16(box: Box) -> Disk:
    """extent file missing"""
    link = box.snapshot()
    (box.vm / "disk-000001-sesparse.vmdk").unlink()
    return refused(link, "disk-000001-sesparse.vmdk", "disk-000001.vmdk")


def huge(rest: bytes, box: Box) -> Disk:
    """A descriptor of 100 MiB that begins as a good one does."""
    link = box.snapshot()
    with link.path.open("ab") as fh:
        for _ in range(100):
            fh.write(rest * ((1 << 20) // len(rest) + 1))
    return refused(link, "disk-000001.vmdk", memory=50)


add("q17", "100 MiB descriptor, one long line of spaces", bind(huge, b" "))
add("q17b", "100 MiB descriptor, 50 M newlines", bind(huge, b" \n"))
add("q17c", "100 MiB descriptor, 3 M extent lines on one file", bind(huge, b'RW 8 FLAT "base-flat.vmdk" 00000000\n'))


def deep(box: Box, depth: int) -> Link:
    """A chain of so many deltas, each with two grains."""
    link = box.base()
    for number in range(1, depth + 1):
        link = box.delta(link, f"disk-{number:06d}", data=(number, 4096 + number), zero=(number - 1,))
    return link


@case
def q18(box: Box) -> Disk:
    """chain of 400 deltas"""
    return refused(deep(box, 400), "links", "disk-000400.vmdk")


@case
def q18b(box: Box) -> Disk:
    """chain of 32 deltas (VMware's maximum)"""
    return right(deep(box, 32))


@case
def q19b(box: Box) -> list[Disk]:
    """head line '#Disk DescriptorFile' / lowercase '# disk'"""
    base = box.base()
    heads = ("#Disk DescriptorFile", "# disk descriptorfile")
    return [
        right(box.delta(base, f"disk-00000{number}", text=swap("# Disk DescriptorFile", head)))
        for number, head in enumerate(heads)
    ]


@case
def q20(box: Box) -> Disk:
    """createType wrong: vmfsSparse while the extent is SESPARSE"""
    return right(box.snapshot(create_type="vmfsSparse"))


@case
def q21(box: Box) -> Disk:
    """extent typed VMFSSPARSE but the file is seSparse"""
    return right(box.snapshot(extent_type="VMFSSPARSE"), "type-mismatch")


@case
def q22(box: Box) -> Disk:
    """extent typed VMFS (flat) but the file is seSparse"""
    return refused(box.snapshot(extent_type="VMFS"), "disk-000001-sesparse.vmdk", "SESPARSE")


@case
def q23(box: Box) -> Disk:
    """extent typed SESPARSE but the file is flat data"""
    link = box.snapshot()
    box.plain("disk-000001-sesparse.vmdk", ("junk", 0, SECTORS))
    return refused(link, "disk-000001-sesparse.vmdk", "magic")


@case
def q26(box: Box) -> Disk:
    """extent line before the header keys; keys in lower case (parentcid=, parentfilenamehint=)"""

    def turn(text: str) -> str:
        head, extent, rest = re.split("^(RW .*\n)", text, flags=re.MULTILINE)
        first, _, keys = head.partition("\n")
        keys = re.sub("^(\\w+)=", lambda match: f"{match[1].lower()}=", keys, flags=re.MULTILINE)
        return f"{first}\n{extent}{keys}{rest}"

    return right(box.snapshot(text=turn))


@case
def q27(box: Box) -> Disk:
    """parentFileNameHint given twice, last one wrong"""
    box.base("other", tag="other", cid="07e40001")
    again = swap("# Extent", 'parentFileNameHint="other.vmdk"\n# Extent')
    return right(box.snapshot(text=again))


@case
def q28(box: Box) -> Disk:
    """hint names another disk's descriptor (base vs other), CID tells"""
    box.base("other", tag="other", cid="07e40001")
    return right(box.snapshot(hint="other.vmdk"), "parent-relocated", "parent-name-clash")


@case
def q29(box: Box) -> list[Disk]:
    """negative / zero / huge extent size in the descriptor (RW 0, RW 99999999999999999999)"""
    base = box.base()
    sizes = ("0", f"-{SECTORS}", "99999999999999999999", str(2**60))
    return [
        refused(box.delta(base, f"disk-00000{number}", text=swap(f"RW {SECTORS}", f"RW {size}")), "extent", size)
        for number, size in enumerate(sizes)
    ]
