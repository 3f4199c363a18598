"""The on-disk structures of VMware's older sparse extents: hosted sparse (``KDMV``) and ESX sparse (``COWD``).

Names and meanings follow VMware's technical note *Virtual Disk Format 5.0*; where it is silent, the documentation of
libvmdk (*VMware Virtual Disk (VMDK) format specification*, Joachim Metz) is named. All integers are little-endian; all
that is called a sector, an offset or a size counts sectors of 512 bytes, except where it says bytes.

References:
    - https://www.vmware.com/support/developer/vddk/vmdk_50_technote.pdf
    - https://github.com/libyal/libvmdk/tree/main/documentation
"""

from __future__ import annotations

from dissect.cstruct import cstruct

vmdk_def = """
#define FLAG_NEW_LINE_TEST      0x00000001  /* the four line-end characters are valid */
#define FLAG_REDUNDANT_TABLE    0x00000002  /* rgdOffset names a second directory with tables of its own */
#define FLAG_ZEROED_GRAIN       0x00000004  /* a table entry of 1 is a grain of zeros */
#define FLAG_COMPRESSED         0x00010000  /* grains are compressed */
#define FLAG_MARKERS            0x00020000  /* markers stand before grains and metadata */

#define COMPRESSION_NONE        0
#define COMPRESSION_DEFLATE     1

#define MARKER_EOS              0           /* end of stream */
#define MARKER_GT               1           /* a grain table follows */
#define MARKER_GD               2           /* the grain directory follows */
#define MARKER_FOOTER           3           /* the footer follows */

/* Sector 0 of a hosted sparse extent, and, where gdOffset is all ones, its footer: the last sector but one.
 * Source: Virtual Disk Format 5.0, "Hosted Sparse Extents". Version 3: libvmdk. */
struct sparse_header {
    char    magicNumber[4];             /* 0x000 "KDMV" */
    uint32  version;                    /* 0x004 1; 2 allows zeroed grains; 3 allows changed block tracking */
    uint32  flags;                      /* 0x008 */
    uint64  capacity;                   /* 0x00c sectors of the virtual disk that the extent has */
    uint64  grainSize;                  /* 0x014 sectors, a power of two, usually 128 */
    uint64  descriptorOffset;           /* 0x01c 0 if no descriptor is inside */
    uint64  descriptorSize;             /* 0x024 */
    uint32  numGTEsPerGT;               /* 0x02c entries of a grain table, 512 on all of VMware's disks */
    uint64  rgdOffset;                  /* 0x030 redundant grain directory */
    uint64  gdOffset;                   /* 0x038 grain directory; all ones: see the footer */
    uint64  overHead;                   /* 0x040 sectors that the metadata takes */
    uint8   uncleanShutdown;            /* 0x048 not 0: not closed cleanly */
    char    lineEnds[4];                /* 0x049 "\\n \\r\\n": tells a copy that was made in text mode */
    uint16  compressAlgorithm;          /* 0x04d */
    char    pad[433];                   /* 0x04f */
};                                      /* 0x200 */

/* Before each grain of a stream-optimized extent; the compressed bytes follow at once.
 * Source: Virtual Disk Format 5.0, "Stream-Optimized Compressed". */
struct grain_marker {
    uint64  lba;                        /* 0x000 sector of the virtual disk where the grain belongs */
    uint32  size;                       /* 0x008 bytes of compressed data */
};                                      /* 0x00c */

/* Before tables, directory and footer of a stream-optimized extent, and at its end. Takes a sector. Same source. */
struct metadata_marker {
    uint64  val;                        /* 0x000 sectors of metadata that follow */
    uint32  size;                       /* 0x008 0, which tells it from a grain's marker */
    uint32  type;                       /* 0x00c MARKER_EOS ... MARKER_FOOTER */
    char    pad[496];                   /* 0x010 */
};                                      /* 0x200 */

/* Sectors 0 to 3 of an ESX sparse extent (vmfsSparse, vmfsThin).
 * Source: Virtual Disk Format 5.0, "ESXi Host Sparse Extents"; version and usual values: libvmdk. */
struct cowd_header {
    char    magicNumber[4];             /* 0x000 "COWD" */
    uint32  version;                    /* 0x004 1 */
    uint32  flags;                      /* 0x008 3 */
    uint32  numSectors;                 /* 0x00c sectors of the virtual disk that the extent has */
    uint32  grainSize;                  /* 0x010 sectors, usually 1 */
    uint32  gdOffset;                   /* 0x014 grain directory, usually 4 */
    uint32  numGDEntries;               /* 0x018 entries of the grain directory */
    uint32  freeSector;                 /* 0x01c the next sector of the file that is free */
    char    parentFileName[1024];       /* 0x020 of a child; of a root: cylinders, heads, sectors, then zeros */
    uint32  parentGeneration;           /* 0x420 */
    uint32  generation;                 /* 0x424 */
    char    name[60];                   /* 0x428 */
    char    description[512];           /* 0x464 */
    uint32  savedGeneration;            /* 0x664 */
    char    reserved[8];                /* 0x668 */
    uint32  uncleanShutdown;            /* 0x670 not 0: not closed cleanly */
    char    padding[396];               /* 0x674 */
};                                      /* 0x800 */
"""

c_vmdk = cstruct().load(vmdk_def)

HOSTED_MAGIC = b"KDMV"
"""The first bytes of a hosted sparse extent."""
COWD_MAGIC = b"COWD"
"""The first bytes of an ESX sparse extent."""
GD_AT_END = 0xFFFFFFFFFFFFFFFF
"""As ``gdOffset``: the directory was written last, the footer says where (Virtual Disk Format 5.0)."""
LINE_ENDS = b"\n \r\n"
"""What ``lineEnds`` holds in a file that no transfer has changed (Virtual Disk Format 5.0)."""
COWD_TABLE_ENTRIES = 4096
"""Entries of a grain table of an ESX sparse extent (Virtual Disk Format 5.0)."""
