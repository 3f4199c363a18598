"""The records of the functions ``sesparse.*``. Names and fields are stable: pipelines rely on them."""

from __future__ import annotations

from dissect.target.helpers.record import TargetRecordDescriptor

_COMMON = [("string", "disk"), ("string", "link"), ("varint", "depth")]
"""Every record starts with the newest descriptor's name, the link's and how far below the newest it is."""

LinkRecord = TargetRecordDescriptor(
    "virtualization/vmware/sesparse/link",
    [
        *_COMMON,
        ("string", "type"),
        ("path", "source"),
        ("string[]", "extents"),
        ("string", "cid"),
        ("string", "parent_cid"),
        ("path", "parent"),
        ("filesize", "size"),
        ("filesize", "allocated"),
        ("filesize", "unmapped"),
        ("filesize", "zero"),
        ("string", "state"),
        ("string", "snapshot"),
        ("datetime", "ts"),
        ("digest", "digest"),
    ],
)

RunRecord = TargetRecordDescriptor(
    "virtualization/vmware/sesparse/run",
    [
        *_COMMON,
        ("varint", "offset"),
        ("filesize", "size"),
        ("string", "state"),
        ("path", "source"),
        ("varint", "source_offset"),
    ],
)

FindingRecord = TargetRecordDescriptor(
    "virtualization/vmware/sesparse/finding",
    [
        *_COMMON,
        ("string", "code"),
        ("string", "level"),
        ("string", "message"),
        ("path", "source"),
        ("varint", "source_offset"),
        ("varint", "offset"),
        ("filesize", "size"),
    ],
)

UnmappedRecord = TargetRecordDescriptor(
    "virtualization/vmware/sesparse/unmapped",
    [
        *_COMMON,
        ("varint", "offset"),
        ("filesize", "size"),
        ("path", "source"),
        ("varint", "source_offset"),
        ("string", "state"),
        ("string", "parent_state"),
        ("digest", "digest"),
        ("float", "entropy"),
        ("string", "signature"),
        ("datetime", "after"),
        ("datetime", "before"),
    ],
)

UnreferencedRecord = TargetRecordDescriptor(
    "virtualization/vmware/sesparse/unreferenced",
    [
        *_COMMON,
        ("path", "source"),
        ("varint", "source_offset"),
        ("filesize", "size"),
        ("varint", "offset"),
        ("string", "state"),
        ("digest", "digest"),
        ("float", "entropy"),
        ("string", "signature"),
    ],
)

JournalRecord = TargetRecordDescriptor(
    "virtualization/vmware/sesparse/journal",
    [
        *_COMMON,
        ("varint", "index"),
        ("varint", "sequence"),
        ("varint", "generation"),
        ("varint", "timer"),
        ("string", "state"),
        ("string[]", "regions"),
        ("filesize", "size"),
    ],
)

FileRecord = TargetRecordDescriptor(
    "virtualization/vmware/sesparse/file",
    [
        *_COMMON,
        ("path", "path"),
        ("filesize", "size"),
        ("filesize", "recovered"),
        ("digest", "digest"),
        ("datetime", "mtime"),
        ("datetime", "btime"),
        ("varint", "inode"),
        ("string", "filesystem"),
        ("string", "named_by"),
        ("string", "state"),
        ("string", "basis"),
        ("datetime", "after"),
        ("datetime", "before"),
        ("datetime", "deleted"),
        ("string", "deleted_basis"),
        ("path", "original_path"),
        ("string[]", "also_named_by"),
        ("string", "name_state"),
        ("string", "name_basis"),
    ],
)

ChangeRecord = TargetRecordDescriptor(
    "virtualization/vmware/sesparse/change",
    [
        *_COMMON,
        ("varint", "offset"),
        ("filesize", "size"),
        ("string", "kind"),
        ("boolean", "same"),
        ("path", "source"),
        ("varint", "source_offset"),
        ("datetime", "after"),
        ("datetime", "before"),
    ],
)

ChangedFileRecord = TargetRecordDescriptor(
    "virtualization/vmware/sesparse/changed_file",
    [
        *_COMMON,
        ("path", "path"),
        ("path", "old_path"),
        ("filesize", "size"),
        ("filesize", "changed"),
        ("string", "state"),
        ("datetime", "mtime"),
        ("varint", "inode"),
        ("string", "filesystem"),
        ("datetime", "after"),
        ("datetime", "before"),
        ("string", "basis"),
    ],
)

EventRecord = TargetRecordDescriptor(
    "virtualization/vmware/sesparse/event",
    [
        *_COMMON,
        ("datetime", "ts"),
        ("string", "timestamp_desc"),
        ("string", "kind"),
        ("string", "message"),
        ("path", "path"),
        ("path", "old_path"),
        ("filesize", "size"),
        ("varint", "inode"),
        ("path", "source"),
        ("varint", "source_offset"),
        ("datetime", "after"),
        ("datetime", "before"),
        ("string", "basis"),
    ],
)

FileVersionRecord = TargetRecordDescriptor(
    "virtualization/vmware/sesparse/version",
    [
        *_COMMON,
        ("path", "path"),
        ("path[]", "names"),
        ("string", "first"),
        ("string", "last"),
        ("string", "first_snapshot"),
        ("string", "last_snapshot"),
        ("string[]", "states"),
        ("boolean", "current"),
        ("filesize", "size"),
        ("filesize", "recovered"),
        ("digest", "digest"),
        ("datetime", "mtime"),
        ("datetime", "btime"),
        ("varint", "inode"),
        ("string", "filesystem"),
        ("string", "named_by"),
        ("string", "state"),
        ("string", "basis"),
        ("datetime", "came_after"),
        ("datetime", "came_before"),
        ("datetime", "went_after"),
        ("datetime", "went_before"),
    ],
)
