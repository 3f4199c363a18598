"""The on-disk structures of seSparse.

VMware publishes no description. Names follow the log that ESXi writes at a snapshot's creation (``hostd.log``:
``constMagic``, ``grainSize``, ``FreeBitmap`` ...). How sure each fact is:

* **confirmed**: by QEMU's black-box research (commit 98eb9733f4) *and* an extent written by a real ESXi host;
* **seen once**: read from that one real extent alone.

All integers are little-endian and 64 bits wide. Offsets and sizes are in sectors of 512 bytes.
"""

from __future__ import annotations

from dissect.cstruct import cstruct

sesparse_def = """
#define SESPARSE_CONST_MAGIC       0x00000000cafebabe
#define SESPARSE_VOLATILE_MAGIC    0x00000000cafecafe
#define SESPARSE_JOURNAL_MAGIC     0x00000000deafc0de
#define SESPARSE_RECORD_MAGIC      0x0000000000c0ffee
#define SESPARSE_VERSION           0x0000000200000001   /* 2.1 */

/* Sector 0. Confirmed. */
struct const_header {
    uint64  magic;                      /* 0x000 */
    uint64  version;                    /* 0x008 major in the high half, minor in the low half */
    uint64  capacity;                   /* 0x010 sectors of the virtual disk */
    uint64  grain_size;                 /* 0x018 sectors, always 8 */
    uint64  grain_table_size;           /* 0x020 sectors, always 64: 4096 entries */
    uint64  flags;                      /* 0x028 always 0 */
    uint64  reserved1;                  /* 0x030 0; 0x200 on newer hosts (one source, see header.RESERVED) */
    uint64  reserved2;                  /* 0x038 0 */
    uint64  reserved3;                  /* 0x040 0 */
    uint64  reserved4;                  /* 0x048 0 */
    uint64  volatile_header_offset;     /* 0x050 */
    uint64  volatile_header_size;       /* 0x058 */
    uint64  journal_header_offset;      /* 0x060 */
    uint64  journal_header_size;        /* 0x068 */
    uint64  journal_offset;             /* 0x070 */
    uint64  journal_size;               /* 0x078 */
    uint64  grain_directory_offset;     /* 0x080 */
    uint64  grain_directory_size;       /* 0x088 */
    uint64  grain_tables_offset;        /* 0x090 */
    uint64  grain_tables_size;          /* 0x098 */
    uint64  free_bitmap_offset;         /* 0x0a0 */
    uint64  free_bitmap_size;           /* 0x0a8 */
    uint64  backmap_offset;             /* 0x0b0 */
    uint64  backmap_size;               /* 0x0b8 */
    uint64  grains_offset;              /* 0x0c0 */
    uint64  grains_size;                /* 0x0c8 */
    char    padding[304];               /* 0x0d0 zero */
};                                      /* 0x200 */

/* Where volatile_header_offset points, sector 1. Confirmed. */
struct volatile_header {
    uint64  magic;                      /* 0x000 */
    uint64  free_gt_number;             /* 0x008 first unused block of 16 MiB in the grains region (seen once) */
    uint64  next_txn_seq_number;        /* 0x010 */
    uint64  replay_journal;             /* 0x018 not 0: not shut down cleanly, the journal is to be replayed */
    char    padding[480];               /* 0x020 zero */
};                                      /* 0x200 */

/* Where journal_header_offset points, sector 2 of two. Seen once. */
struct journal_header {
    uint64  magic;                      /* 0x000 */
    uint64  next_txn_seq_number;        /* 0x008 as in the volatile header */
    uint64  generation;                 /* 0x010 */
    uint64  reserved;                   /* 0x018 0 */
    char    rest[480];                  /* 0x020 no padding: from 0x240 on the host's memory shows */
};                                      /* 0x200 */

struct journal_target {
    uint64  sector;                     /* 0x000 in the file; 0 ends the list */
    uint64  count;                      /* 0x008 sectors */
};                                      /* 0x010 */

/* First sector of each slot of the journal. Behind it the full new image of each target's sectors. Seen once. */
struct journal_record {
    uint64  magic;                      /* 0x000 */
    uint64  generation;                 /* 0x008 as in the journal header */
    uint64  slot;                       /* 0x010 its place in the journal */
    uint64  length;                     /* 0x018 sectors, this one included */
    uint64  checksum;                   /* 0x020 not identified: no common CRC, sum or hash; never relied on */
    uint64  sequence;                   /* 0x028 transaction number */
    uint64  ones;                       /* 0x030 0xffffffffffffffff */
    uint64  timer;                      /* 0x038 microseconds, by its steps */
    char    unknown[64];                /* 0x040 */
    journal_target targets[24];         /* 0x080 */
};                                      /* 0x200 */
"""

c_sesparse = cstruct().load(sesparse_def)

"""Bytes in a sector."""
GRAIN_SIZE = 4096
"""Bytes in a grain; the only size ever seen (confirmed)."""
TABLE_ENTRIES = 4096
"""Entries of a grain table (confirmed)."""
TABLE_SIZE = TABLE_ENTRIES * 8
"""Bytes of a grain table."""
TABLE_COVERS = TABLE_ENTRIES * GRAIN_SIZE
"""Bytes of the virtual disk that one grain table describes: 16 MiB."""
REGION_STEP_SECTORS = 2048
"""Regions start at, and are rounded up to, multiples of this many sectors (1 MiB)."""
SLOT_SECTORS = 25
"""Sectors of a journal slot: a record's header and up to 24 images (seen once; 81 slots are in the usual 1 MiB)."""
