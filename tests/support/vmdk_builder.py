"""Build hosted sparse and ESX sparse extents for tests.

Every offset and constant is a literal number here, and nothing is imported from ``dissect`` or ``dissect_sesparse``: a
builder that shared its constants with the reader would agree with it even where both are wrong.

References:
    - VMware, "Virtual Disk Format 5.0": headers, directory, tables, markers
    - libvmdk, "VMware Virtual Disk (VMDK) format specification": the footer's place, zlib, version 3
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class HostedBuilder:
    """A hosted sparse extent as Workstation lays it out.

    All tables are there from the start; grains follow in the order in which they were allocated::

        0        header
        1-20     descriptor, if any
        21       redundant directory and its tables
        ...      directory and its tables
        ...      grains, from the next multiple of a grain on

    Args:
        capacity: Sectors.
        grain: Sectors of a grain.
        entries: Entries of a table.
        descriptor: Text to put inside.
        version: Of the header.
        flags: 0x1 line ends are valid, 0x2 there is a redundant directory, 0x4 an entry of 1 is a grain of zeros.
    """

    def __init__(
        self,
        capacity: int,
        *,
        grain: int = 128,
        entries: int = 512,
        descriptor: str | None = None,
        version: int = 1,
        flags: int = 0x3,
    ) -> None:
        self.capacity = capacity
        self.grain = grain
        self.entries = entries
        self.descriptor = descriptor
        self.version = version
        self.flags = flags
        self.table: dict[int, int] = {}  # grain -> entry
        self.data: dict[int, bytes] = {}  # sector of the file -> bytes
        self.patches: list[tuple[int, bytes]] = []
        self.next_sector = self.first_grain_sector

    @property
    def tables(self) -> int:
        """How many tables the capacity needs."""
        return up(up(self.capacity, self.grain), self.entries)

    @property
    def table_sectors(self) -> int:
        return up(self.entries * 4, 512)

    @property
    def directory_sectors(self) -> int:
        return up(self.tables * 4, 512)

    @property
    def redundant_sector(self) -> int:
        return 21

    @property
    def directory_sector(self) -> int:
        return 21 + self.directory_sectors + self.tables * self.table_sectors

    @property
    def first_grain_sector(self) -> int:
        end = self.directory_sector + self.directory_sectors + self.tables * self.table_sectors
        return up(end, self.grain) * self.grain

    def directory_offset(self, table: int) -> int:
        """Byte in the file of a directory entry."""
        return self.directory_sector * 512 + table * 4

    def entry_offset(self, grain: int) -> int:
        """Byte in the file of a table entry."""
        table, slot = divmod(grain, self.entries)
        return (self.directory_sector + self.directory_sectors + table * self.table_sectors) * 512 + slot * 4

    def allocate(self, grain: int, data: bytes) -> int:
        """Write a grain; its sector in the file."""
        sector = self.next_sector
        self.next_sector += self.grain
        self.table[grain] = sector
        self.data[sector] = data.ljust(self.grain * 512, b"\x00")
        return sector

    def zero(self, grain: int) -> None:
        self.table[grain] = 1

    def set_entry(self, grain: int, value: int) -> None:
        self.table[grain] = value

    def patch(self, offset: int, data: bytes) -> None:
        """Put bytes anywhere, after everything else."""
        self.patches.append((offset, data))

    def header(self) -> bytes:
        return hosted_header(
            version=self.version,
            flags=self.flags,
            capacity=self.capacity,
            grain=self.grain,
            descriptor=(1, 20) if self.descriptor is not None else (0, 0),
            entries=self.entries,
            redundant=self.redundant_sector,
            directory=self.directory_sector,
            overhead=self.first_grain_sector,
        )

    def write(self, path: Path, truncate_to: int | None = None) -> None:
        """Write the file, sparsely."""
        with path.open("wb") as fh:
            put(fh, 0, self.header())
            if self.descriptor is not None:
                put(fh, 512, self.descriptor.encode().ljust(20 * 512, b"\x00"))
            for directory in (self.redundant_sector, self.directory_sector):
                first = directory + self.directory_sectors
                sectors = [first + number * self.table_sectors for number in range(self.tables)]
                put(fh, directory * 512, struct.pack(f"<{self.tables}I", *sectors))
                for grain, entry in self.table.items():
                    table, slot = divmod(grain, self.entries)
                    put(fh, sectors[table] * 512 + slot * 4, struct.pack("<I", entry))
            fh.truncate(self.next_sector * 512)
            for sector, data in self.data.items():
                put(fh, sector * 512, data)
            for offset, data in self.patches:
                put(fh, offset, data)
            if truncate_to is not None:
                fh.truncate(truncate_to)


class StreamBuilder:
    """A stream-optimized extent, written front to back, with its directory at the end and a footer::

        0        header, in which the directory's place is all ones
        1-20     descriptor, if any
        128      grains, each behind its marker; tables, directory and footer each behind a marker of a sector
        ...      the marker of the end, a sector of zeros

    Args:
        capacity: Sectors.
        grain: Sectors of a grain.
        descriptor: Text to put inside.
    """

    def __init__(
        self, capacity: int, *, grain: int = 128, descriptor: str | None = None, flags: int = 0x30001, level: int = 6
    ) -> None:
        self.capacity = capacity
        self.grain = grain
        self.descriptor = descriptor
        self.flags = flags
        self.level = level
        self.grains: dict[int, tuple[int, bytes]] = {}  # grain -> LBA in its marker, compressed bytes
        self.header_fields: dict[str, object] = {}
        self.footer_fields: dict[str, object] = {}
        self.places: dict[int, int] = {}
        """Byte in the file of each grain's marker, once it is written."""
        self.entry_offsets: dict[int, int] = {}

    def allocate(self, grain: int, data: bytes, *, lba: int | None = None, raw: bytes | None = None) -> None:
        """Compress a grain; ``raw`` are compressed bytes to take instead, ``lba`` what the marker says."""
        capacity_left = (self.capacity - grain * self.grain) * 512
        data = data.ljust(self.grain * 512, b"\x00")[:capacity_left]
        compressed = zlib.compress(data, self.level) if raw is None else raw
        self.grains[grain] = (grain * self.grain if lba is None else lba, compressed)

    def to_bytes(self) -> bytes:
        text = (self.descriptor or "").encode()
        common = {"version": 3, "flags": self.flags, "capacity": self.capacity, "grain": self.grain, "compression": 1}
        common |= {"descriptor": (1, 20) if text else (0, 0), "overhead": 128, "redundant": 0, "entries": 512}
        out = bytearray(hosted_header(**{**common, "directory": 0xFFFFFFFFFFFFFFFF, **self.header_fields}))
        out += text.ljust(20 * 512, b"\x00")
        out = out.ljust(128 * 512, b"\x00")

        entries: dict[int, int] = {}
        for grain, (lba, data) in self.grains.items():
            self.places[grain] = len(out)
            entries[grain] = len(out) // 512
            out += pad(struct.pack("<QI", lba, len(data)) + data)
        directory = []
        for table in range(up(up(self.capacity, self.grain), 512)):
            slots = [entries.get(table * 512 + slot, 0) for slot in range(512)]
            directory.append(0)
            if any(slots):
                out += marker(4, 1)
                directory[-1] = len(out) // 512
                self.entry_offsets |= {table * 512 + slot: len(out) + slot * 4 for slot in range(512)}
                out += struct.pack("<512I", *slots)
        out += marker(up(len(directory) * 4, 512), 2)
        where = len(out) // 512
        out += pad(struct.pack(f"<{len(directory)}I", *directory))
        out += marker(1, 3) + hosted_header(**{**common, "directory": where, **self.footer_fields}) + marker(0, 0)
        return bytes(out)

    def write(self, path: Path) -> None:
        path.write_bytes(self.to_bytes())


class CowdBuilder:
    """An ESX sparse extent: header in sectors 0 to 3, directory from sector 4 on, then tables and grains as they come.

    Args:
        capacity: Sectors.
        grain: Sectors of a grain.
    """

    def __init__(self, capacity: int, *, grain: int = 1) -> None:
        self.capacity = capacity
        self.grain = grain
        self.directory: dict[int, int] = {}
        self.table: dict[int, int] = {}
        self.data: dict[int, bytes] = {}
        self.patches: list[tuple[int, bytes]] = []
        self.directory_entries = up(up(capacity, grain), 4096)
        self.next_sector = 4 + up(self.directory_entries * 4, 512)

    def allocate(self, grain: int, data: bytes) -> int:
        """Write a grain, and its table before it if that is the first; the grain's sector in the file."""
        self._table(grain // 4096)
        sector = self.next_sector
        self.next_sector += self.grain
        self.table[grain] = sector
        self.data[sector] = data.ljust(self.grain * 512, b"\x00")
        return sector

    def set_entry(self, grain: int, value: int) -> None:
        self._table(grain // 4096)
        self.table[grain] = value

    def _table(self, table: int) -> None:
        if table not in self.directory:
            self.directory[table] = self.next_sector
            self.next_sector += 32

    def entry_offset(self, grain: int) -> int:
        """Byte in the file of a table entry."""
        return self.directory[grain // 4096] * 512 + grain % 4096 * 4

    def patch(self, offset: int, data: bytes) -> None:
        """Put bytes anywhere, after everything else."""
        self.patches.append((offset, data))

    def header(self) -> bytes:
        header = bytearray(2048)
        header[:4] = b"COWD"
        # version, flags, sectors, grain, directory, its entries, free sector
        fields = (1, 3, self.capacity, self.grain, 4, self.directory_entries, self.next_sector)
        struct.pack_into("<7I", header, 4, *fields)
        return bytes(header)

    def write(self, path: Path, truncate_to: int | None = None) -> None:
        with path.open("wb") as fh:
            fh.truncate(self.next_sector * 512)
            put(fh, 0, self.header())
            for table, sector in self.directory.items():
                put(fh, 4 * 512 + table * 4, struct.pack("<I", sector))
            for grain, entry in self.table.items():
                put(fh, self.entry_offset(grain), struct.pack("<I", entry))
            for sector, data in self.data.items():
                put(fh, sector * 512, data)
            for offset, data in self.patches:
                put(fh, offset, data)
            if truncate_to is not None:
                fh.truncate(truncate_to)


def hosted_header(
    *,
    version: int = 1,
    flags: int = 0x3,
    capacity: int = 40960,
    grain: int = 128,
    descriptor: tuple[int, int] = (0, 0),
    entries: int = 512,
    redundant: int = 0,
    directory: int = 0,
    overhead: int = 0,
    unclean: int = 0,
    line_ends: bytes = b"\n \r\n",
    compression: int = 0,
    magic: bytes = b"KDMV",
) -> bytes:
    """Sector 0 of a hosted sparse extent."""
    header = bytearray(512)
    header[0:4] = magic
    struct.pack_into("<II", header, 4, version, flags)
    struct.pack_into("<4Q", header, 12, capacity, grain, *descriptor)
    struct.pack_into("<I", header, 44, entries)
    struct.pack_into("<3Q", header, 48, redundant, directory, overhead)
    header[72] = unclean
    header[73:77] = line_ends
    struct.pack_into("<H", header, 77, compression)
    return bytes(header)


def marker(sectors: int, kind: int) -> bytes:
    """A metadata marker: 1 a table follows, 2 the directory, 3 the footer, 0 nothing."""
    return struct.pack("<QII", sectors, 0, kind).ljust(512, b"\x00")


def descriptor(
    lines: Sequence[str],
    *,
    cid: str,
    parent_cid: str = "ffffffff",
    parent_hint: str | None = None,
    create_type: str = "monolithicSparse",
) -> str:
    """The text of a descriptor as Workstation writes it; ``lines`` are the extents'."""
    hint = [] if parent_hint is None else [f'parentFileNameHint="{parent_hint}"']
    head = ["# Disk DescriptorFile", "version=1", f"CID={cid}", f"parentCID={parent_cid}"]
    tail = ["", "# The Disk Data Base", "#DDB", "", 'ddb.virtualHWVersion = "4"', 'ddb.adapterType = "ide"']
    text = [*head, f'createType="{create_type}"', *hint, "", "# Extent description", *lines, *tail]
    return "\n".join(text) + "\n"


def up(value: int, by: int) -> int:
    return -(-value // by)


def pad(data: bytes) -> bytes:
    """Up to whole sectors."""
    return data.ljust(up(len(data), 512) * 512, b"\x00")


def put(fh: object, offset: int, data: bytes) -> None:
    fh.seek(offset)
    fh.write(data)


def told(tag: str, first: int, sectors: int) -> bytes:
    """Sectors that each tell whose they are and which."""
    return b"".join((f"{tag} {number:08d} ".encode() * 52)[:512] for number in range(first, first + sectors))
