"""What the first bytes of a volume say it is: for volumes whose file system nobody opened.

Places and values are those by which Linux knows them (util-linux, libblkid/src/superblocks; kernel, include/uapi/linux/magic.h
and fs/*), and for what Linux does not know those of the reader in dissect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = Callable[[int, int], bytes]
    """Gets offset and size in bytes; may give less at the end of the volume."""


class VolumeKind(NamedTuple):
    """A kind of volume."""

    name: str
    holds: str
    """``files``, ``volumes``, ``secret`` (any of these, encrypted), or ``nothing`` that could be a file."""
    package: str | None = None
    """The distribution whose reader opens it; ``None`` where dissect has none."""


class Magic(NamedTuple):
    """Bytes at a place of the volume."""

    offset: int
    value: bytes
    kind: VolumeKind


_BITLOCKER = VolumeKind("BitLocker", "secret", "dissect.fve")
_LVM = VolumeKind("a physical volume of LVM", "volumes", "dissect.volume")
_MD = VolumeKind("a member of a Linux software RAID (md)", "volumes", "dissect.volume")
_HFS = VolumeKind("HFS+", "files")
_JFFS = VolumeKind("JFFS2", "files", "dissect.jffs")
_REISER = VolumeKind("ReiserFS", "files")
_SWAP = VolumeKind("swap space", "nothing")
_UFS = VolumeKind("UFS", "files", "dissect.ffs")
_VMFS = VolumeKind("VMFS", "files", "dissect.vmfs")
_ISO = VolumeKind("ISO 9660", "files")
_UDF = VolumeKind("UDF", "files")
_FAT = VolumeKind("FAT", "files", "dissect.fat")
_SQUASH = VolumeKind("SquashFS", "files", "dissect.squashfs")
_BITLOCKER_TO_GO = bytes.fromhex("3bd66749292ed84a8399f6a339e3d001")

MAGIC = (
    Magic(0x0003, b"NTFS    ", VolumeKind("NTFS", "files", "dissect.ntfs")),
    Magic(0x0003, b"EXFAT   ", VolumeKind("exFAT", "files", "dissect.fat")),
    Magic(0x0003, b"ReFS\x00\x00\x00\x00", VolumeKind("ReFS", "files")),
    Magic(0x0003, b"-FVE-FS-", _BITLOCKER),
    Magic(0x01A8, _BITLOCKER_TO_GO, _BITLOCKER),
    Magic(0x0000, b"LUKS\xba\xbe\x00\x01", VolumeKind("LUKS1", "secret", "dissect.fve")),
    Magic(0x0000, b"LUKS\xba\xbe\x00\x02", VolumeKind("LUKS2", "secret", "dissect.fve")),
    Magic(0x0218, b"LVM2 001", _LVM),  # in its label, which is in one of the first four sectors
    Magic(0x0018, b"LVM2 001", _LVM),
    Magic(0x0418, b"LVM2 001", _LVM),
    Magic(0x0618, b"LVM2 001", _LVM),
    Magic(0x1000, b"\xfc\x4e\x2b\xa9", _MD),  # version 1.2
    Magic(0x0000, b"\xfc\x4e\x2b\xa9", _MD),  # 1.1
    Magic(0x1018, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81"), VolumeKind("bcache", "volumes")),
    Magic(0x1018, bytes.fromhex("c68573f666ce90a9d96a60cf803df7ef"), VolumeKind("bcachefs", "files")),
    Magic(0x0000, b"XFSB", VolumeKind("XFS", "files", "dissect.xfs")),
    Magic(0x10040, b"_BHRfS_M", VolumeKind("btrfs", "files", "dissect.btrfs")),
    Magic(0x0438, b"\x53\xef", VolumeKind("ext", "files", "dissect.extfs")),
    Magic(0x0400, b"\x10\x20\xf5\xf2", VolumeKind("F2FS", "files")),
    Magic(0x0400, b"H+\x00\x04", _HFS),
    Magic(0x0400, b"HX\x00\x05", _HFS),
    Magic(0x0400, b"\xe2\xe1\xf5\xe0", VolumeKind("EROFS", "files")),
    Magic(0x0406, b"\x34\x34", VolumeKind("NILFS2", "files")),
    Magic(0x0020, b"NXSB", VolumeKind("APFS", "files", "dissect.apfs")),
    Magic(0x10034, b"ReIsErFs", _REISER),
    Magic(0x10034, b"ReIsEr2Fs", _REISER),
    Magic(0x10034, b"ReIsEr3Fs", _REISER),
    Magic(0x10000, b"ReIsEr4", _REISER),
    Magic(0x8000, b"JFS1", VolumeKind("JFS", "files")),
    Magic(0x10000, b"\x01\x16\x19\x70", VolumeKind("GFS2", "files")),
    Magic(0x0000, b"hsqs", _SQUASH),
    Magic(0x0000, b"\x45\x3d\xcd\x28", VolumeKind("cramfs", "files", "dissect.cramfs")),
    Magic(0x0000, b"\x85\x19\x03\x20", _JFFS),
    Magic(0x0000, b"\x85\x19\x01\xe0", _JFFS),
    Magic(0x0000, b"\x85\x19\x02\xe0", _JFFS),
    Magic(0x100000, b"\x0d\xd0\x01\xc0", _VMFS),  # the volume, dissect.vmfs c_lvm
    *(
        Magic(0x200000, bytes((low, 0xF1, 0xAB, 0x2F)), _VMFS) for low in (0x5E, 0x5F, 0x60, 0x61)
    ),  # file system, also VMFS-L, 6
    Magic(0x8001, b"CD001", _ISO),
    Magic(0x8001, b"BEA01", _UDF),
    Magic(0x8001, b"NSR0", _UDF),
    Magic(0x255C, b"\x54\x19\x01\x00", _UFS),  # UFS1, behind 8 KiB
    Magic(0x1055C, b"\x19\x01\x54\x19", _UFS),  # UFS2, behind 64 KiB
    Magic(0x0C00, b"PRIVHEAD", VolumeKind("a dynamic disk of Windows (LDM)", "volumes")),
    Magic(0x0020, b"ORCLDISK", VolumeKind("Oracle ASM", "files")),
    Magic(0x0000, b"dmvdo001", VolumeKind("VDO", "volumes")),
    Magic(0x0000, b"bluestore block device", VolumeKind("Ceph BlueStore", "files")),
    *(
        Magic(page - 10, value, _SWAP)
        for page in (4096, 8192, 16384, 65536)
        for value in (b"SWAPSPACE2", b"SWAP-SPACE")
    ),
    Magic(0x0036, b"FAT12   ", _FAT),
    Magic(0x0036, b"FAT16   ", _FAT),
    Magic(0x0052, b"FAT32   ", _FAT),
)
"""The first that fits counts."""
_ZFS = VolumeKind("ZFS", "files")
_UBERBLOCKS = (128 << 10, 128 << 10)
"""Offset and size of the ring of ZFS's uberblocks in the first label; each starts with 0x00BAB10C, in either byte order."""

WITHOUT_FILES = {
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "reserved by Windows (MSR)",
    "21686148-6449-6e6f-744e-656564454649": "the code of a boot loader (BIOS boot)",
    "9e1a2d38-c612-4316-aa26-8b49521e5a8b": "the code of a boot loader (PReP)",
    "9d275380-40ad-11db-bf97-000c2911d1b8": "for core dumps of ESXi (vmkcore)",
}
"""Types of GPT partitions that hold no file system by their purpose (UEFI; VMware KB 2004299)."""


def volume_kind(read: Read, size: int) -> VolumeKind | None:
    """What a volume is, by its bytes; ``None`` where none of the kinds fits.

    Args:
        read: Reads the volume.
        size: Of the volume, in bytes: some kinds are named at its end.

    Raises:
        Exception: What ``read`` raises.
    """
    for offset, value, kind in MAGIC:
        if read(offset, len(value)) == value:
            return kind
    ring = read(*_UBERBLOCKS)
    starts = {ring[at : at + 8] for at in range(0, len(ring), 1024)}
    if starts & {b"\x0c\xb1\xba\x00\x00\x00\x00\x00", b"\x00\x00\x00\x00\x00\xba\xb1\x0c"}:
        return _ZFS
    # Versions 1.0 and 0.90 of md: 8 KiB before the end, and the last whole 64 KiB.
    if any(read(at, 4) == b"\xfc\x4e\x2b\xa9" for at in ((size - 8192) & ~4095, (size & ~0xFFFF) - 0x10000) if at > 0):
        return _MD
    return None


class Emptiness(NamedTuple):
    """Whether a volume holds nothing but zeros."""

    zero: bool
    looked: int
    """Bytes that were looked at; all of them are zero where ``zero`` says so."""


_WHOLE = 64 << 20
_STEP = 1 << 20
_SAMPLES = 64
_SAMPLE = 64 << 10


def emptiness(read: Read, size: int) -> Emptiness:
    """Look for anything in a volume: in all of it up to 64 MiB, else in its first and last 8 MiB and 64 places between.

    Raises:
        Exception: What ``read`` raises.
    """
    looked = 0
    for offset, length in _places(size):
        data = read(offset, length)
        if data.strip(b"\x00"):
            return Emptiness(False, looked)
        looked += len(data)
    return Emptiness(True, looked)


def _places(size: int) -> Iterator[tuple[int, int]]:
    if size <= _WHOLE:
        yield from ((at, min(_STEP, size - at)) for at in range(0, size, _STEP))
        return
    edge = 8 * _STEP
    yield from ((at, _STEP) for at in range(0, edge, _STEP))
    yield from ((at // 512 * 512, _STEP) for at in range(size - edge, size, _STEP))
    between = (size - 2 * edge) // _SAMPLES
    yield from (((edge + number * between) // 512 * 512, _SAMPLE) for number in range(_SAMPLES))
