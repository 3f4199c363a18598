"""The text of a ``.vmdk``: who the link is, who its parent is, and which extents it has.

Follows VMware's technical note *Virtual Disk Format 5.0* and the spellings met in the field; whatever is not understood
in a line that matters is an error, never skipped: a dropped extent would move all that follow.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from dissect_sesparse.source.errors import DescriptorError, Kind
from dissect_sesparse.source.file import MAX_DESCRIPTOR_SIZE, SECTOR

if TYPE_CHECKING:
    from pathlib import PurePath

    from dissect_sesparse.source.file import EvidenceFile

MAX_EXTENTS = 4096
MAX_SECTORS = 1 << 46
NO_PARENT = "ffffffff"
USE_LONG_CONTENT_ID = "fffffffe"

ACCESS = ("RW", "RDONLY", "NOACCESS")
_EXTENT_START = re.compile(rf"^[ \t]*({'|'.join(ACCESS)})[ \t]+\S", re.IGNORECASE | re.MULTILINE)
_EXTENT_LIKE = re.compile(rf"(?:{'|'.join(ACCESS)})(?!\S)(?!\s*=)|[^\s=]+\s+[0-9]+\s+[^\s=]", re.IGNORECASE)
"""A line that has to be an extent: it starts with an access, or with a word, a number and a word."""
_EXTENT = re.compile(
    rf"""
    (?P<access>{"|".join(ACCESS)}) \s+ (?P<sectors>[0-9]+) \s+ (?P<type>\w+)
    (?:
        \s+ (?: "(?P<quoted>[^"]*)" | (?P<bare>[^\s"\#][^\s"]*) )
        (?: \s+ (?P<start>[0-9]+) (?: \s+ partitionUUID \s .* )? )?
    )?
    (?: \s* \#.* )?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_TWO_BYTES = ("gb", "big5", "shift_jis", "sjis", "euc-", "euc_", "cp932", "cp936", "cp949", "cp950")
_ENCODING = re.compile(rb"""^[ \t]*encoding[ \t]*=[ \t]*"?([\w.\-]+)""", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class ExtentDescriptor:
    """One extent line: ``RW 1048576 SESPARSE "vm-000001-sesparse.vmdk"``."""

    raw: str
    access: str
    sectors: int
    type: str
    """In upper case."""
    filename: str | None = None
    start_sector: int = 0


@dataclass(frozen=True)
class DiskDescriptor:
    """A descriptor. ``attributes`` and ``ddb`` have lower-case names; a name given twice keeps its first value."""

    path: PurePath | str | None
    attributes: dict[str, str]
    ddb: dict[str, str]
    extents: tuple[ExtentDescriptor, ...]
    repeated: tuple[str, ...] = field(default=())
    """Names that were given again with another value."""
    embedded: bool = False
    """Whether it lies inside its own first extent."""

    @property
    def create_type(self) -> str:
        return self.attributes.get("createtype", "")

    @cached_property
    def cid(self) -> str:
        """The content ID: eight lower-case hexadecimal digits, or the long content ID where the short one says so."""
        return self._content_id("cid")

    @cached_property
    def parent_cid(self) -> str:
        """The parent's content ID when this link was taken; ``ffffffff`` for a base."""
        return self._content_id("parentcid")

    @property
    def parent_hint(self) -> str | None:
        """Where the parent was when this link was taken, as it is written."""
        return self.attributes.get("parentfilenamehint") or None

    @property
    def has_parent(self) -> bool:
        """Whether there is a parent, by its CID or, where the two disagree, by its hint."""
        return self.parent_cid not in ("", NO_PARENT) or self.parent_hint is not None

    @property
    def size(self) -> int:
        """Bytes of the disk: the sum of the extents."""
        return sum(extent.sectors for extent in self.extents) * SECTOR

    def has_cid(self, parent_cid: str) -> bool:
        """Whether a child's ``parentCID`` means this disk: its CID, or the end of its long one, of which it is a part.

        That the short one is the long one's end is seen in all descriptors at hand, and an inference for ``fffffffe``.
        """
        if not parent_cid:
            return False
        is_long = self._written_id("cid") == USE_LONG_CONTENT_ID
        return self.cid == parent_cid or (is_long and self.cid.endswith(parent_cid))

    def _content_id(self, name: str) -> str:
        value = self._written_id(name)
        if value == USE_LONG_CONTENT_ID and name == "cid":
            return self.ddb.get("ddb.longcontentid", value).lower()
        return value.zfill(8) if value else ""

    def _written_id(self, name: str) -> str:
        return self.attributes.get(name, "").lower().removeprefix("0x")


def looks_like_descriptor(head: bytes) -> bool:
    """Whether the first bytes of a file are a descriptor's: its first line, or an extent line of its form."""
    text = _decode(head, None)
    first = text.lstrip().partition("\n")[0].lower().replace(" ", "")
    return first.startswith("#diskdescriptorfile") or _EXTENT_START.search(text) is not None


def read_descriptor(file: EvidenceFile) -> DiskDescriptor:
    """Read a descriptor file.

    Raises:
        DescriptorError: If it is too large, no text, or has a line that makes no sense.
        UnreadableError: If the file cannot be read.
    """
    if file.size > MAX_DESCRIPTOR_SIZE:
        raise DescriptorError(
            f"{file.size} bytes are no descriptor",
            file=file.label,
            expected=f"at most {MAX_DESCRIPTOR_SIZE} bytes",
            kind=Kind.TOO_LARGE,
        )
    return parse_descriptor(file.read(0, file.size), file.label)


def parse_descriptor(data: bytes, path: PurePath | str | None = None) -> DiskDescriptor:
    """Parse the bytes of a descriptor.

    Raises:
        DescriptorError: If they are none.
    """
    if not looks_like_descriptor(data):
        head = data[:16]
        raise DescriptorError(
            f"not a descriptor, its first bytes are {head.hex(' ') or 'none: the file is empty'}",
            file=path,
            expected="the line '# Disk DescriptorFile' and extent lines",
            advice="encrypted or overwritten? its extents may be intact: open the -sesparse.vmdk itself with parent=",
        )
    attributes: dict[str, str] = {}
    ddb: dict[str, str] = {}
    extents: list[ExtentDescriptor] = []
    repeated = []
    for line in map(str.strip, re.split(r"\r\n|\r|\n", _decode(data, path))):
        if not line or line.startswith("#"):
            continue
        if _EXTENT_LIKE.match(line):
            extents.append(_parse_extent(line, path))
            continue
        name, equals, value = line.partition("=")
        if not equals:  # skipped, it might be an extent with a damaged start
            raise DescriptorError(file=path, field="line", value=line, expected="an extent, a comment or name = value")
        name, value = name.strip().lower(), _unquote(value)
        where = ddb if name.startswith("ddb.") else attributes
        if where.setdefault(name, value) != value:
            repeated.append(name)
    _check(attributes, extents, path)
    return DiskDescriptor(path, attributes, ddb, tuple(extents), tuple(repeated))


def _check(attributes: dict[str, str], extents: list[ExtentDescriptor], path: PurePath | str | None) -> None:
    if not extents:
        raise DescriptorError("it has no extent", file=path, expected='a line such as: RW 2048 SESPARSE "name.vmdk"')
    if len(extents) > MAX_EXTENTS:
        raise DescriptorError(f"{len(extents)} extents", file=path, expected=f"at most {MAX_EXTENTS}")
    if sum(extent.sectors for extent in extents) > MAX_SECTORS:
        raise DescriptorError("the extents are larger than any disk", file=path, expected=f"{MAX_SECTORS:#x} sectors")
    for name in ("cid", "parentcid"):
        value = attributes.get(name, "0").lower().removeprefix("0x")
        if not re.fullmatch(r"[0-9a-f]{1,32}", value):
            raise DescriptorError(file=path, field=name, value=attributes[name], expected="a hexadecimal number")


def _parse_extent(line: str, path: PurePath | str | None) -> ExtentDescriptor:
    match = _EXTENT.fullmatch(line)
    if match is None or len(match["sectors"]) > 18 or len(match["start"] or "") > 18:
        raise DescriptorError(
            file=path, field="extent", value=line, expected='access, sectors, type, "file" and start sector'
        )
    sectors, start = int(match["sectors"]), int(match["start"] or 0)
    if not 0 < sectors <= MAX_SECTORS or start > MAX_SECTORS:
        raise DescriptorError(file=path, field="extent", value=line, expected=f"1 to {MAX_SECTORS:#x} sectors")
    name = match["quoted"] if match["quoted"] is not None else match["bare"]
    return ExtentDescriptor(line, match["access"].upper(), sectors, match["type"].upper(), name or None, start)


def _unquote(value: str) -> str:
    value = value.strip()
    if value.startswith('"'):
        return value[1:].partition('"')[0]
    return value


def _decode(data: bytes, path: PurePath | str | None) -> str:
    """The text, in UTF-8 or in the encoding it names, else byte for byte. Names are all that depends on it.

    UTF-8 comes first: tools rewrite a descriptor and leave the line as it was. But not where letters take two bytes, which
    may well be UTF-8 for something else.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace").rstrip("\x00")
    data = data.removeprefix(codecs.BOM_UTF8).rstrip(b"\x00")
    named = match[1].decode("ascii") if (match := _ENCODING.search(data[:MAX_DESCRIPTOR_SIZE])) else "utf-8"
    for encoding in (named, "utf-8") if named.lower().startswith(_TWO_BYTES) else ("utf-8", named):
        try:
            return data.decode(encoding)
        except (LookupError, ValueError):
            continue
    return data.decode("latin-1")
