"""Build seSparse extents, and the chains and virtual machines around them, for tests and the example.

Every offset and constant is a literal number here, and nothing is imported from ``dissect`` or ``dissect_sesparse``: a
builder that shared its constants with the reader would agree with it even where both are wrong.

Files are written sparsely: only what was put in takes time, memory and, where the file system can do it, room.

References:
    - QEMU, ``block/vmdk.c`` (commit 98eb9733f4): headers, directory, tables
    - An extent written by ESXi in 2021: region layout, backmap, journal, file size
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

SECTOR = 512
GRAIN = 4096

# A grain table has 4096 entries of 8 bytes (64 sectors) and so covers 16 MiB, 32768 sectors
TABLE_ENTRIES = 4096
TABLE_BYTES = 32768
BLOCK_BYTES = 16 * 1024 * 1024

# A journal slot is a header sector and up to 24 payload sectors; 81 of them fit in the journal's 2048 sectors
SLOT_SECTORS = 25
SLOTS = 81


class ExtentBuilder:
    """One seSparse extent, as ESXi lays it out.

    A grain number is always the *virtual* one (its place on the disk); ``place`` is the *physical* one (its place in
    the grains region). All metadata follows from what is done to the grains: directory, tables, free bitmap, backmap,
    volatile header and file size agree, until a ``set_...`` or :meth:`patch` breaks them on purpose::

        0       const header, volatile header (1), journal header (2-3)
        2048    journal
        4096    grain directory, then grain tables, free bitmap, backmap: each rounded up to 2048 sectors
        ...     grains, in blocks of 16 MiB; after the last block 4 KiB of 0xff

    Args:
        capacity_sectors: Size of the virtual disk in sectors.
        tables: Which table a directory slot gets. Only slots that have entries get one: ``in-order`` gives the lowest
            of them table 0, ``reversed`` the highest, ``by-slot`` gives slot n table n.
        unmap_clears_bitmap: Whether unmapping marks the physical grain as free, as is said of ESXi.
        reserved1: The first reserved field: 0, and 0x200 on newer hosts (one source).
    """

    def __init__(
        self,
        capacity_sectors: int,
        *,
        tables: Literal["in-order", "reversed", "by-slot"] = "in-order",
        unmap_clears_bitmap: bool = True,
        reserved1: int = 0,
    ) -> None:
        self.capacity_sectors = capacity_sectors
        self.tables = tables
        self.unmap_clears_bitmap = unmap_clears_bitmap
        self.reserved1 = reserved1

        self._entries: dict[int, int] = {}  # grain -> table entry
        self._places: dict[int, int] = {}  # grain -> place its entry names
        self._data: dict[int, bytes] = {}  # place -> bytes
        self._used: set[int] = set()  # places with a bit in the free bitmap
        self._owners: dict[int, int] = {}  # place -> grain its backmap word names
        self._taken: set[int] = set()  # places that were ever given to a grain
        self._next_place = 0

        self._directory: dict[int, int] = {}
        self._patches: list[tuple[int, bytes]] = []
        self._journal: dict[int, bytes] = {}  # slot -> record
        self._next_sequence = 4  # the first record of the extent known from ESXi has number 4
        self._dirty = False
        self._written: dict[int, int] | None = None  # metadata that the file has, where the journal is ahead of it
        self._logged: dict[int, bytes] = {}  # metadata sectors as the last transaction left them

    # Regions, in sectors. All but the headers start at, and take, a multiple of 2048 sectors.

    @property
    def table_count(self) -> int:
        """Number of tables, and of directory slots, that the capacity needs."""
        return _ceil_div(self.capacity_sectors, 32768)

    @property
    def journal_sector(self) -> int:
        """First sector of the journal."""
        return 2048

    @property
    def directory_sector(self) -> int:
        """First sector of the grain directory."""
        return 4096

    @property
    def directory_sectors(self) -> int:
        """Size of the grain directory."""
        return _round_up(_ceil_div(self.table_count * 8, 512))

    @property
    def tables_sector(self) -> int:
        """First sector of the grain tables."""
        return 4096 + self.directory_sectors

    @property
    def tables_sectors(self) -> int:
        """Size of the grain tables, and of the backmap."""
        return _round_up(self.table_count * 64)

    @property
    def bitmap_sector(self) -> int:
        """First sector of the free bitmap."""
        return self.tables_sector + self.tables_sectors

    @property
    def bitmap_sectors(self) -> int:
        """Size of the free bitmap."""
        return _round_up(_ceil_div(_ceil_div(_ceil_div(self.capacity_sectors, 8), 8), 512))

    @property
    def backmap_sector(self) -> int:
        """First sector of the backmap."""
        return self.bitmap_sector + self.bitmap_sectors

    @property
    def grains_sector(self) -> int:
        """First sector of the grains."""
        # The backmap is as large as the tables
        return self.backmap_sector + self.tables_sectors

    @property
    def free_gt_number(self) -> int:
        """Number of 16 MiB blocks of grain space that the file has: those with grains in use, at least one."""
        return max(self._taken, default=0) // 4096 + 1

    @property
    def file_size(self) -> int:
        """Size in bytes of the file, as ESXi would leave it (patches beyond it make it larger)."""
        return self.grains_sector * 512 + self.free_gt_number * BLOCK_BYTES + 4096

    # Where things are, in bytes: for tests that damage them

    def table_index(self, slot: int) -> int:
        """Index of the grain table that directory slot ``slot`` has now. A later new slot may change it."""
        return self._table_indexes()[slot]

    def entry_offset(self, grain: int) -> int:
        """Offset in bytes in the file of the table entry of ``grain``."""
        return self.tables_sector * 512 + self.table_index(grain // 4096) * TABLE_BYTES + grain % 4096 * 8

    def backmap_offset(self, place: int) -> int:
        """Offset in bytes in the file of the backmap word of a physical grain."""
        return self.backmap_sector * 512 + place * 8

    def grain_offset(self, place: int) -> int:
        """Offset in bytes in the file of a physical grain."""
        return self.grains_sector * 512 + place * 4096

    def slot_offset(self, slot: int) -> int:
        """Offset in bytes in the file of a journal slot."""
        return (2048 + slot * 25) * 512

    # What the guest and the host do to grains

    def allocate(self, grain: int, data: bytes | None = None, place: int | None = None) -> int:
        """Write a grain.

        Args:
            grain: Virtual grain number.
            data: Its bytes, padded with zeros to 4096. ``None`` writes none: the place stays as it is, a hole at first.
            place: Physical grain. By default the one that the grain has, else the next one never used.

        Returns:
            The place.
        """
        old = self._places.get(grain)
        if place is None:
            place = old if old is not None else self._unused_place()
        if old is not None and old != place:
            self._release(old, grain)

        if data is not None:
            self._data[place] = data.ljust(4096, b"\x00")
        self._entries[grain] = _entry(0x3, place)
        self._places[grain] = place
        self._taken.add(place)
        self._owners[place] = grain
        self._used.add(place)
        return place

    def unmap(self, grain: int, data: bytes | None = None, place: int | None = None, bare: bool = False) -> int | None:
        """Unmap a grain as a guest's trim does: the entry's state changes, the place and its bytes stay.

        A grain that has no place yet is first written when ``data`` or ``place`` is given. Without them it becomes a
        bare 0x1000000000000000, and a zero grain stays a zero grain.

        Args:
            grain: Virtual grain number.
            data: Bytes to put there first.
            place: Physical grain to put it in first.
            bare: Write 0x1000000000000000 whatever the entry was: the state of a grain that was never mapped.

        Returns:
            The place that the entry names, or ``None`` where it names none.
        """
        if not bare and (data is not None or place is not None):
            self.allocate(grain, data, place)

        mapped = self._places.get(grain)
        if bare or mapped is None:
            if bare or self._entries.get(grain) != 0x2000000000000000:
                self._forget(grain)
                self._entries[grain] = 0x1000000000000000
            return None

        self._entries[grain] = _entry(0x1, mapped)
        if self.unmap_clears_bitmap and self._owners.get(mapped) == grain:
            self._used.discard(mapped)
        return mapped

    def zero(self, grain: int) -> None:
        """Make a grain a zero grain. The place that it had is free again; its bytes stay in the file."""
        self._forget(grain)
        self._entries[grain] = 0x2000000000000000

    def free(self, grain: int, keep_backmap: bool = False) -> int | None:
        """Forget a grain's entry but leave its bytes in the file, which no entry then names.

        Args:
            grain: Virtual grain number.
            keep_backmap: Leave the backmap word, which then still tells where the bytes came from.

        Returns:
            The place where the bytes are.
        """
        place = self._forget(grain, keep_backmap)
        self._entries[grain] = 0
        return place

    # Damage, and states that no host would write

    def set_entry(self, grain: int, value: int) -> None:
        """Set a table entry to any value. Bitmap and backmap stay as they are."""
        self._entries[grain] = value

    def set_directory(self, index: int, value: int) -> None:
        """Set a directory entry to any value. The table that it named stays in the file."""
        self._directory[index] = value

    def set_bitmap(self, place: int, used: bool) -> None:
        """Set a physical grain's bit in the free bitmap."""
        (self._used.add if used else self._used.discard)(place)

    def set_backmap(self, place: int, value: int) -> None:
        """Set a backmap word to any value."""
        self.patch(self.backmap_offset(place), struct.pack("<Q", value))

    def set_header(self, offset: int, value: int) -> None:
        """Set the 64-bit word at ``offset`` bytes in the file: const header, volatile header from 0x200, and so on."""
        self.patch(offset, struct.pack("<Q", value))

    def patch(self, offset: int, data: bytes) -> None:
        """Put bytes anywhere in the file, after everything else and in the order of the calls."""
        self._patches.append((offset, bytes(data)))

    # Journal

    def add_journal_record(
        self,
        sequence: int,
        sectors: Mapping[int, bytes],
        *,
        slot: int | None = None,
        generation: int = 1,
        timer: int | None = None,
    ) -> int:
        """Write a journal record: the new images of metadata sectors.

        Args:
            sequence: Transaction sequence number. The header's next number becomes one more than the highest.
            sectors: New image by target sector, in the order they are recorded. An image may be several sectors long.
            slot: Slot to write it in, by default the one after the last.
            generation: Generation; the journal header says 1.
            timer: Timer in microseconds.

        Returns:
            The slot.
        """
        if slot is None:
            slot = (max(self._journal, default=-1) + 1) % SLOTS
        payload = b"".join(sectors.values())
        record = bytearray(512)
        # 0x28 (after the checksum, whose algorithm is unknown, hence any 64 bits): number, all ones, timer
        checksum = hashlib.sha256(b"%d" % sequence + payload).digest()[:8]
        struct.pack_into("<4Q", record, 0, 0xC0FFEE, generation, slot, 1 + len(payload) // 512)
        record[0x20:0x28] = checksum
        timer = 0x41BFC231 + sequence * 1971 if timer is None else timer
        struct.pack_into("<3Q", record, 0x28, sequence, 0xFFFFFFFFFFFFFFFF, timer)
        for number, (target, image) in enumerate(sectors.items()):
            struct.pack_into("<2Q", record, 0x80 + 16 * number, target, len(image) // 512)
        self._journal[slot] = bytes(record) + payload
        self._next_sequence = max(self._next_sequence, sequence + 1)
        return slot

    def checkpoint(self) -> None:
        """Keep the file's metadata as it is now. What happens to grains from here on is only told by :meth:`commit`."""
        self._written = self._metadata_words()
        self._logged = self.metadata_sectors()

    def commit(self, *, slot: int | None = None) -> dict[int, bytes]:
        """Write all that changed since the last checkpoint or commit as one transaction into the journal.

        Returns:
            The new image of each sector that changed, as it is recorded: bitmap and backmap first, tables then.
            Where nothing changed, nothing is written.
        """
        now = self.metadata_sectors()
        changed = [n for n in {**self._logged, **now} if self._logged.get(n) != now.get(n)]
        if not changed:
            return {}
        if len(changed) >= SLOT_SECTORS:
            raise ValueError(f"{len(changed)} sectors changed, a record has room for {SLOT_SECTORS - 1}")
        changed.sort(key=lambda n: (n < self.bitmap_sector, n))
        images = {n: now.get(n, bytes(512)) for n in changed}
        self.add_journal_record(self._next_sequence, images, slot=slot)
        self._logged = now
        return images

    def set_dirty(self, next_sequence: int | None = None) -> None:
        """Leave the extent as a host that lost power: its journal has to be replayed.

        Args:
            next_sequence: Next transaction number in both headers, by default one more than the highest recorded.
        """
        self._dirty = True
        if next_sequence is not None:
            self._next_sequence = next_sequence

    def metadata_sectors(self) -> dict[int, bytes]:
        """What a journal can redo: the sectors of directory, tables, bitmap and backmap that are not all zeros."""
        return {offset // 512: data for offset, data in _sectors(self._metadata_words())}

    # Writing

    def write(self, path: Path, truncate_to: int | None = None) -> None:
        """Write the extent as a sparse file.

        Args:
            path: File to write.
            truncate_to: Size in bytes to cut it to in the end.
        """
        with path.open("wb") as fh:
            fh.truncate(self.file_size)
            for offset, data in self._pieces():
                fh.seek(offset)
                fh.write(data)
            if truncate_to is not None:
                fh.truncate(truncate_to)

    def to_bytes(self) -> bytes:
        """The extent as bytes, at least 22 MiB of them. For small capacities."""
        buf = bytearray(self.file_size)
        for offset, data in self._pieces():
            if offset + len(data) > len(buf):
                buf.extend(bytes(offset + len(data) - len(buf)))
            buf[offset : offset + len(data)] = data
        return bytes(buf)

    def _pieces(self) -> Iterator[tuple[int, bytes]]:
        """All that has to be written, as offsets and bytes; what comes later overwrites what came before."""
        yield 0, self._const_header()
        # 0x200: magic, number of 16 MiB blocks, next transaction, replay journal. 0x400: magic, next, generation
        yield 512, struct.pack("<4Q", 0xCAFECAFE, self.free_gt_number, self._next_sequence, self._dirty)
        yield 1024, struct.pack("<3Q", 0xDEAFC0DE, self._next_sequence, 1)
        for slot, record in self._journal.items():
            yield self.slot_offset(slot), record
        yield from _sectors(self._metadata_words() if self._written is None else self._written)
        for place, data in sorted(self._data.items()):
            yield self.grain_offset(place), data
        yield self.file_size - 4096, b"\xff" * 4096
        yield from self._patches

    def _const_header(self) -> bytes:
        fields = {
            0x00: 0xCAFEBABE,  # magic
            0x08: 0x0000000200000001,  # version 2.1
            0x10: self.capacity_sectors,
            0x18: 8,  # grain size
            0x20: 64,  # grain table size
            0x28: 0,  # flags
            0x30: self.reserved1,
            0x50: 1,  # volatile header: offset, size
            0x58: 1,
            0x60: 2,  # journal header
            0x68: 2,
            0x70: 2048,  # journal
            0x78: 2048,
            0x80: 4096,  # grain directory
            0x88: self.directory_sectors,
            0x90: self.tables_sector,
            0x98: self.tables_sectors,
            0xA0: self.bitmap_sector,
            0xA8: self.bitmap_sectors,
            0xB0: self.backmap_sector,
            0xB8: self.tables_sectors,
            0xC0: self.grains_sector,
            0xC8: self.capacity_sectors,
        }
        header = bytearray(512)
        for offset, value in fields.items():
            struct.pack_into("<Q", header, offset, value)
        return bytes(header)

    def _metadata_words(self) -> dict[int, int]:
        """Directory, tables, bitmap and backmap as 64-bit words by their offset in bytes in the file."""
        tables = self._table_indexes()
        directory = {slot: 0x1000000000000000 | index for slot, index in tables.items()} | self._directory
        words = {4096 * 512 + slot * 8: value for slot, value in directory.items()}

        base = self.tables_sector * 512
        for grain, entry in self._entries.items():
            words[base + tables[grain // 4096] * 32768 + grain % 4096 * 8] = entry

        for place in self._used:
            # Bit n of the bitmap, least significant first, is bit n % 64 of little-endian word n // 64
            offset = self.bitmap_sector * 512 + place // 64 * 8
            words[offset] = words.get(offset, 0) | 1 << place % 64

        for place, grain in self._owners.items():
            words[self.backmap_offset(place)] = 0x1 << 60 | grain % 4096 << 48 | tables[grain // 4096]
        return words

    def _table_indexes(self) -> dict[int, int]:
        """The table of each directory slot that has entries."""
        slots = sorted({grain // 4096 for grain in self._entries}, reverse=self.tables == "reversed")
        return {slot: slot if self.tables == "by-slot" else index for index, slot in enumerate(slots)}

    def _unused_place(self) -> int:
        """The next place that no grain ever had."""
        while self._next_place in self._taken:
            self._next_place += 1
        return self._next_place

    def _forget(self, grain: int, keep_backmap: bool = False) -> int | None:
        """Take a grain's place from it. The bytes stay."""
        place = self._places.pop(grain, None)
        if place is not None:
            self._release(place, grain, keep_backmap)
        return place

    def _release(self, place: int, grain: int, keep_backmap: bool = False) -> None:
        """Mark a place as free, unless another grain has taken it meanwhile."""
        if self._owners.get(place) != grain:
            return
        self._used.discard(place)
        if not keep_backmap:
            del self._owners[place]


def _ceil_div(value: int, by: int) -> int:
    return -(-value // by)


def _round_up(sectors: int) -> int:
    """Regions are rounded up to 2048 sectors, 1 MiB."""
    return _ceil_div(sectors, 2048) * 2048


def _entry(nibble: int, place: int) -> int:
    """Table entry: the state in the top 4 bits, then the grain in its block (12 bits) and the block (48 bits)."""
    return nibble << 60 | (place & 0xFFF) << 48 | place >> 12


def _sectors(words: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
    """Gather 64-bit words by offset into whole sectors by offset."""
    sectors: dict[int, bytearray] = {}
    for offset, value in words.items():
        sector = sectors.setdefault(offset // 512 * 512, bytearray(512))
        struct.pack_into("<Q", sector, offset % 512, value)
    for offset in sorted(sectors):
        yield offset, bytes(sectors[offset])


def grain_data(tag: str, grain: int) -> bytes:
    """4096 bytes that tell whose they are: each sector repeats ``<tag> disk-sector 0000123``, its place on the disk."""
    sectors = []
    for sector in range(grain * 8, grain * 8 + 8):
        line = f"{tag} disk-sector {sector:07d}\n".encode()
        sectors.append((line * (512 // len(line) + 1))[:512])
    return b"".join(sectors)


def write_flat(path: Path, size_bytes: int, sectors: Mapping[int, bytes]) -> None:
    """Write a flat extent as a sparse file: ``sectors`` gives bytes (of any length) by the sector they start at."""
    with path.open("wb") as fh:
        fh.truncate(size_bytes)
        for sector, data in sorted(sectors.items()):
            fh.seek(sector * 512)
            fh.write(data)


def descriptor(
    extents: Sequence[tuple[int, str, str]] | Sequence[str],
    *,
    cid: str,
    parent_cid: str = "ffffffff",
    parent_hint: str | None = None,
    create_type: str = "seSparse",
    encoding: str = "UTF-8",
    version: int = 1,
    long_content_id: str | None = None,
    extra: Sequence[str] = (),
) -> str:
    """The text of a descriptor as ESXi 6.7 writes it. The caller encodes it.

    Args:
        extents: Size in sectors, type and file name of each extent, or whole extent lines.
        cid: Content id, 8 hexadecimal digits.
        parent_cid: The parent's content id; ``ffffffff`` for a base.
        parent_hint: ``parentFileNameHint``, left out for a base.
        create_type: ``seSparse``, ``vmfs``, ...
        encoding: The name to give for the text's encoding.
        version: Version of the descriptor.
        long_content_id: ``ddb.longContentID``, by default one that ends in ``cid``.
        extra: More lines. Those that start with ``ddb.`` go to the disk data base, others above the extents.
    """
    long_content_id = long_content_id or hashlib.sha256(cid.encode()).hexdigest()[:24] + cid
    lines = ["# Disk DescriptorFile", f"version={version}", f'encoding="{encoding}"', f"CID={cid}"]
    lines += [f"parentCID={parent_cid}", 'isNativeSnapshot="no"', f'createType="{create_type}"']
    if parent_hint is not None:
        lines.append(f'parentFileNameHint="{parent_hint}"')
    lines += [line for line in extra if not line.startswith("ddb.")]

    lines.append("# Extent description")
    sectors = 0
    for extent in extents:
        if isinstance(extent, str):
            lines.append(extent)
        else:
            sectors += extent[0]
            # Only flat extents in files carry an offset; ESXi leaves it out for VMFS
            offset = " 0" if extent[1] == "FLAT" else ""
            lines.append(f'RW {extent[0]} {extent[1]} "{extent[2]}"{offset}')

    lines += ["", "# The Disk Data Base ", "#DDB", ""]
    ddb = {"longContentID": long_content_id}
    if create_type == "seSparse":
        ddb["grain"] = "8"
    if parent_cid == "ffffffff":
        # ESXi writes these for the base only
        ddb |= {
            "adapterType": "lsilogic",
            "geometry.cylinders": str(sectors // (255 * 63)),
            "geometry.heads": "255",
            "geometry.sectors": "63",
            "thinProvisioned": "1",
            "toolsVersion": "10338",
            "uuid": _ddb_uuid(long_content_id),
            "virtualHWVersion": "14",
        }
    lines += [f'ddb.{key} = "{ddb[key]}"' for key in sorted(ddb)]
    lines += [line for line in extra if line.startswith("ddb.")]
    return "\n".join(lines) + "\n"


def _ddb_uuid(long_content_id: str) -> str:
    """A disk's UUID as VMware writes it; 60 00 C2 9x is its vendor's number."""
    pairs = [long_content_id[i : i + 2] for i in range(0, 24, 2)]
    return " ".join(["60", "00", "C2", "95", *pairs[:4]]) + "-" + " ".join(pairs[4:12])


@dataclass
class Link:
    """One element of a chain that is being built."""

    descriptor_name: str
    extent_name: str
    cid: str
    extent: ExtentBuilder | None  # None: the flat base


@dataclass
class ChainBuilder:
    """A folder with a flat base and any number of seSparse deltas, each the parent of the next.

    The files are ``vm.vmdk`` and ``vm-flat.vmdk``, ``vm-000001.vmdk`` and ``vm-000001-sesparse.vmdk``, and so on.

    Args:
        folder: Where to write; made when absent.
        capacity_sectors: Size of the disk.
        base: Bytes of the base, by the sector they start at.
        name: Name of the disk.
    """

    folder: Path
    capacity_sectors: int
    base: dict[int, bytes] = field(default_factory=dict)
    name: str = "vm"
    links: list[Link] = field(init=False)

    def __post_init__(self) -> None:
        self.links = [Link(f"{self.name}.vmdk", f"{self.name}-flat.vmdk", self._cid(0), None)]

    def add_delta(self, cid: str | None = None, **kwargs: Any) -> ExtentBuilder:
        """Add a delta on top, as taking a snapshot does.

        Args:
            cid: Its content id, by default one made from its name. ESXi gives a delta that of its parent until it is
                written to.
            **kwargs: Passed to :class:`ExtentBuilder`.
        """
        stem = f"{self.name}-{len(self.links):06d}"
        extent = ExtentBuilder(self.capacity_sectors, **kwargs)
        self.links.append(Link(f"{stem}.vmdk", f"{stem}-sesparse.vmdk", cid or self._cid(len(self.links)), extent))
        return extent

    def descriptor_text(self, number: int) -> str:
        """The descriptor of link ``number``, 0 for the base."""
        link = self.links[number]
        if link.extent is None:
            return descriptor([(self.capacity_sectors, "VMFS", link.extent_name)], cid=link.cid, create_type="vmfs")
        parent = self.links[number - 1]
        return descriptor(
            [(self.capacity_sectors, "SESPARSE", link.extent_name)],
            cid=link.cid,
            parent_cid=parent.cid,
            parent_hint=parent.descriptor_name,
        )

    def write(self) -> Path:
        """Write all files.

        Returns:
            The path of the newest link's descriptor.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for number, link in enumerate(self.links):
            if link.extent is None:
                write_flat(self.folder / link.extent_name, self.capacity_sectors * 512, self.base)
            else:
                link.extent.write(self.folder / link.extent_name)
            # Bytes, for the same line ends on every system
            (self.folder / link.descriptor_name).write_bytes(self.descriptor_text(number).encode())
        return self.folder / self.links[-1].descriptor_name

    def _cid(self, number: int) -> str:
        return f"{zlib.crc32(f'{self.name}/{number}'.encode()):08x}"


def vmx(disks: Sequence[str], display_name: str) -> str:
    """The text of a .vmx with these disks on its first SCSI controller, as ESXi 6.7 writes it."""
    settings = {
        ".encoding": "UTF-8",
        "config.version": "8",
        "virtualHW.version": "14",
        "displayName": _escape(display_name),
        "guestOS": "windows9srv-64",
        "memSize": "4096",
        "numvcpus": "2",
        "nvram": f"{display_name}.nvram",
        "scsi0.present": "TRUE",
        "scsi0.virtualDev": "lsisas1068",
    }
    for number, name in enumerate(disks):
        # Unit 7 of a bus is the controller itself
        node = f"scsi0:{number if number < 7 else number + 1}"
        settings |= {f"{node}.deviceType": "scsi-hardDisk", f"{node}.fileName": name, f"{node}.present": "TRUE"}
    settings["uuid.bios"] = "56 4d 8e 3b 6c 11 5a 0f-9d 2e 41 7a b0 c3 55 e8"
    return "".join(f'{key} = "{value}"\n' for key, value in settings.items())


def vmsd(snapshots: Sequence[Mapping[str, Any]], current: int | None = None) -> str:
    """The text of a .vmsd, the list of a virtual machine's snapshots, as ESXi writes it.

    Args:
        snapshots: One mapping a snapshot: ``uid``, ``display_name``, ``created`` (an aware datetime), ``disks`` (file
            names of the descriptors that the snapshot froze), and optionally ``parent`` (uid), ``description`` and
            ``filename``.
        current: The uid of the snapshot that the running disk is based on, by default that of the last one.
    """
    lines = ['.encoding = "UTF-8"']
    if snapshots:
        last = max(snapshot["uid"] for snapshot in snapshots)
        lines += [f'snapshot.lastUID = "{last}"', f'snapshot.current = "{current or snapshots[-1]["uid"]}"']
    for number, snapshot in enumerate(snapshots):
        lines += [f'snapshot{number}.{key} = "{value}"' for key, value in _snapshot_fields(snapshot)]
    lines.append(f'snapshot.numSnapshots = "{len(snapshots)}"')
    return "\n".join(lines) + "\n"


def _snapshot_fields(snapshot: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    high, low = _time_halves(snapshot["created"])
    yield "uid", snapshot["uid"]
    yield "filename", snapshot.get("filename", f"vm-Snapshot{snapshot['uid']}.vmsn")
    if snapshot.get("parent"):
        yield "parent", snapshot["parent"]
    yield "displayName", _escape(snapshot["display_name"])
    yield "description", _escape(snapshot.get("description", ""))
    yield "createTimeHigh", high
    yield "createTimeLow", low
    yield "numDisks", len(snapshot["disks"])
    for number, name in enumerate(snapshot["disks"]):
        yield f"disk{number}.fileName", name
        yield f"disk{number}.node", f"scsi0:{number if number < 7 else number + 1}"


def _time_halves(moment: datetime) -> tuple[int, int]:
    """Microseconds since 1970 as two signed 32-bit halves."""
    microseconds = (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)
    low, high = struct.unpack("<ii", struct.pack("<q", microseconds))
    return high, low


def _escape(text: str) -> str:
    """VMware writes characters that would break a setting as ``|`` and two hexadecimal digits."""
    return "".join(f"|{ord(char):02X}" if char in '|"#\r\n' else char for char in text)
