"""The functions ``sesparse.*``: records as they are promised, on any target that has such a disk, and on no other."""

from __future__ import annotations

import hashlib
import io
import re
from datetime import timezone
from typing import TYPE_CHECKING

import disks
import make_vm
import oracle
import pytest
import target_fixtures
from dissect.target import Target, container, plugin
from dissect.target.container import RawContainer
from dissect.target.exceptions import UnsupportedPluginError
from dissect.target.filesystem import VirtualFilesystem
from sesparse_builder import ExtentBuilder, grain_data, vmsd
from target_fixtures import FINDING_CASES, NEWEST, SIZE, UNKNOWN_STATE, small_chain, two_disks

from dissect_sesparse import UnreadableError
from dissect_sesparse.target._plugin import SESparsePlugin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flow.record import Record, RecordDescriptor

    from dissect_sesparse import Run

example = target_fixtures.example_vm

COMMON = [("string", "disk"), ("string", "link"), ("varint", "depth")]
FIELDS = {
    "virtualization/vmware/sesparse/link": [
        *COMMON,
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
    "virtualization/vmware/sesparse/finding": [
        *COMMON,
        ("string", "code"),
        ("string", "level"),
        ("string", "message"),
        ("path", "source"),
        ("varint", "source_offset"),
        ("varint", "offset"),
        ("filesize", "size"),
    ],
    "virtualization/vmware/sesparse/run": [
        *COMMON,
        ("varint", "offset"),
        ("filesize", "size"),
        ("string", "state"),
        ("path", "source"),
        ("varint", "source_offset"),
    ],
    "virtualization/vmware/sesparse/change": [
        *COMMON,
        ("varint", "offset"),
        ("filesize", "size"),
        ("string", "kind"),
        ("boolean", "same"),
        ("path", "source"),
        ("varint", "source_offset"),
        ("datetime", "after"),
        ("datetime", "before"),
    ],
    "virtualization/vmware/sesparse/changed_file": [
        *COMMON,
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
    "virtualization/vmware/sesparse/unmapped": [
        *COMMON,
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
    "virtualization/vmware/sesparse/unreferenced": [
        *COMMON,
        ("path", "source"),
        ("varint", "source_offset"),
        ("filesize", "size"),
        ("varint", "offset"),
        ("string", "state"),
        ("digest", "digest"),
        ("float", "entropy"),
        ("string", "signature"),
    ],
    "virtualization/vmware/sesparse/journal": [
        *COMMON,
        ("varint", "index"),
        ("varint", "sequence"),
        ("varint", "generation"),
        ("varint", "timer"),
        ("string", "state"),
        ("string[]", "regions"),
        ("filesize", "size"),
    ],
    "virtualization/vmware/sesparse/file": [
        *COMMON,
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
}
"""What others rely on, in order."""
FUNCTIONS = {"chain": "link", "findings": "finding", "map": "run"}


def target_of(source: Path, **options: object) -> Target:
    """A target with one disk and no operating system."""
    target = Target()
    target.disks.add(container.open(source, **options))
    target.apply()
    return target


def descriptors() -> dict[str, RecordDescriptor]:
    """The records that the functions promise to dissect."""
    promised = [function.__record__ for _, function in exported()]
    return {one.name: one for record in promised for one in (record if isinstance(record, list) else [record])}


@pytest.fixture(scope="module")
def opened(example: Path) -> Target:
    return Target.open(example)


# Fields


@pytest.mark.parametrize("name", FIELDS)
def test_fields(name: str) -> None:
    """Names, types and order; dissect puts the target's names in front."""
    fields = [(field.typename, field.name) for field in descriptors()[name].fields.values()]
    assert fields == [("string", "hostname"), ("string", "domain"), *FIELDS[name]]


def test_records_are_the_promised_ones(folder: Path) -> None:
    target = target_of(target_fixtures.entry_invalid(folder))
    for function, name in FUNCTIONS.items():
        records = list(getattr(target.sesparse, function)())
        assert records
        assert {record._desc.name for record in records} == {f"virtualization/vmware/sesparse/{name}"}


def test_one_type_for_each_field_name() -> None:
    """dissect keeps one type for a field name; a search over all records relies on it."""
    types: dict[str, set[str]] = {}
    for name, descriptor in descriptors().items():
        assert name.startswith("virtualization/vmware/sesparse/")
        assert list(descriptor.fields)[2:5] == ["disk", "link", "depth"]
        for field in descriptor.fields.values():
            types.setdefault(field.name, set()).add(field.typename)
    assert {name: kinds for name, kinds in types.items() if len(kinds) > 1} == {}


# On the example


def test_chain(opened: Target, example: Path) -> None:
    records = list(opened.sesparse.chain())
    folder = example.parent
    assert [(r.disk, r.link, r.depth, r.type) for r in records] == [
        (NEWEST, NEWEST, 0, "seSparse"),
        (NEWEST, "web01-000001.vmdk", 1, "seSparse"),
        (NEWEST, "web01.vmdk", 2, "vmfs"),
    ]
    assert [r.cid for r in records] == list(reversed(make_vm.CIDS))
    assert [r.parent_cid for r in records] == [*reversed(make_vm.CIDS[:-1]), "ffffffff"]
    assert [r.extents for r in records] == [
        ["web01-000002-sesparse.vmdk"],
        ["web01-000001-sesparse.vmdk"],
        ["web01-flat.vmdk"],
    ]
    assert [str(r.source) for r in records] == [str(folder / r.link) for r in records]
    assert [r.parent and str(r.parent) for r in records] == [
        str(folder / "web01-000001.vmdk"),
        str(folder / "web01.vmdk"),
        None,
    ]
    assert {r.size for r in records} == {make_vm.CAPACITY_SECTORS * 512}
    assert [r.state for r in records] == ["clean"] * 3
    assert [(r.snapshot, r.ts) for r in records] == [
        (None, None),
        *[(name, created) for name, _, created in reversed(make_vm.SNAPSHOTS)],
    ]
    assert all(r.ts is None or r.ts.tzinfo == timezone.utc for r in records)
    assert all(r.digest.sha256 is None for r in records)
    assert [r.unmapped > 0 for r in records] == [True, True, False]


def test_hash_files(opened: Target, example: Path) -> None:
    for record in opened.sesparse.chain(hash_files=True):
        (name,) = record.extents
        data = (example.parent / name).read_bytes()
        assert record.digest.md5 == hashlib.md5(data).hexdigest()
        assert record.digest.sha1 == hashlib.sha1(data).hexdigest()
        assert record.digest.sha256 == hashlib.sha256(data).hexdigest()


def test_hash_of_an_unreadable_file(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No digest, the reason in the log, and the other links' records all the same."""
    target = target_of(small_chain(folder, deltas=2).write())
    target.disks[0].chain.links[1].extents[0].extent.file.size += 1
    records = list(target.sesparse.chain(hash_files=True))
    assert [r.digest.sha256 is not None for r in records] == [True, False, True]
    assert "vm-000001" in caplog.text


def test_map(opened: Target) -> None:
    """The records tile the disk, and its bytes can be found by them alone."""
    disk = opened.disks[0]
    records = list(opened.sesparse.map())
    position = 0
    for record in records:
        assert record.offset == position
        position += record.size
        disk.seek(record.offset)
        assert disk.read(record.size) == bytes_of(record)
    assert position == disk.size
    assert {r.state for r in records} == {"allocated", "base", "unmapped"}
    assert {(r.link, r.depth) for r in records} == {(NEWEST, 0), ("web01-000001.vmdk", 1), ("web01.vmdk", 2)}
    unmapped = [r for r in records if r.state == "unmapped"]
    assert any(r.source_offset is not None for r in unmapped)
    assert any(r.source_offset is None for r in unmapped), "bare entries"


def bytes_of(record: Record) -> bytes:
    if record.state not in ("allocated", "base"):
        return bytes(record.size)
    with open(str(record.source), "rb") as fh:
        fh.seek(record.source_offset)
        return fh.read(record.size)


def test_no_findings(opened: Target) -> None:
    assert list(opened.sesparse.findings()) == []


# Findings


@pytest.mark.slow
@pytest.mark.parametrize("code", FINDING_CASES)
def test_finding(folder: Path, code: str) -> None:
    build, options = FINDING_CASES[code]
    target = target_of(build(folder), **options)
    if code == "unreadable":
        target.disks[0].chain.read(0, SIZE)
    records = [record for record in target.sesparse.findings() if record.code == code]
    assert records
    for record in records:
        assert record.level in ("info", "warning", "error")
        assert record.message
        assert record.disk == target.disks[0].chain.name
        assert record.link == target.disks[0].chain.links[record.depth].name
        assert record.source is not None


def test_finding_points_to_the_byte(folder: Path) -> None:
    (record,) = target_of(target_fixtures.entry_invalid(folder)).sesparse.findings()
    assert (record.code, record.level, record.link, record.depth) == ("entry-invalid", "error", "vm-000001.vmdk", 0)
    assert (record.offset, record.size) == (100 * 4096, 8192)
    assert str(record.source) == str(folder / "vm-000001-sesparse.vmdk")
    with (folder / "vm-000001-sesparse.vmdk").open("rb") as fh:
        fh.seek(record.source_offset)
        assert fh.read(8) == UNKNOWN_STATE.to_bytes(8, "little")


def test_findings_are_bounded(folder: Path) -> None:
    chain = small_chain(folder, deltas=2)
    for delta in chain.links[1:]:
        for grain in range(100, 1100, 2):
            delta.extent.set_entry(grain, UNKNOWN_STATE)
    found = target_of(chain.write()).sesparse.findings()
    records = [r for r in found if r.code != "filesystem-unopened"]  # what it holds cannot be read
    assert [(r.depth, r.offset is None) for r in records] == [
        *[(0, False)] * 100,
        (0, True),
        *[(1, False)] * 100,
        (1, True),
    ]
    assert sum(r.size for r in records) == 2 * 500 * 4096


def test_where_one_disk_cannot_be_read(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The records of the others come all the same, and those of the disk itself say so, or the log does."""
    extent = ExtentBuilder(make_vm.CAPACITY_SECTORS)
    extent.allocate(8192)
    target = Target.open(two_disks(folder, extent))
    bad = next(disk for disk in target.disks if disk.chain.name == "a-bad.vmdk")
    bad.chain.links[0].extents[0].extent.file.close()
    caplog.clear()
    assert len([r for r in target.sesparse.chain() if r.disk == NEWEST]) == 3
    assert f"a-bad.vmdk: the sizes lack {16 << 20} bytes" in caplog.text
    assert sum(r.size for r in target.sesparse.map() if r.disk == NEWEST) == make_vm.CAPACITY_SECTORS * 512
    (run,) = (r for r in target.sesparse.map() if r.state == "invalid")
    assert (run.disk, run.offset, run.size) == ("a-bad.vmdk", 32 << 20, 16 << 20)
    (finding,) = target.sesparse.findings()
    assert (finding.disk, finding.code, finding.offset, finding.size) == (
        "a-bad.vmdk",
        "unreadable",
        32 << 20,
        16 << 20,
    )


def test_where_one_disk_cannot_be_told_about(
    example: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the middle of one disk's records: in the log, and the next disk follows."""
    target = Target()
    for _ in range(2):
        target.disks.add(container.open(example.parent / NEWEST))
    target.apply()
    runs = target.disks[0].chain.runs

    def failing() -> Iterator[Run]:
        yield next(iter(runs()))
        raise UnreadableError("of the test")

    monkeypatch.setattr(target.disks[0].chain, "runs", failing)
    records = list(target.sesparse.map())
    assert sum(r.size for r in records[1:]) == make_vm.CAPACITY_SECTORS * 512
    assert [r.offset for r in records[:2]] == [0, 0]
    assert f"{NEWEST}: of the test" in caplog.text


# States and sizes of built chains


def test_journal(folder: Path) -> None:
    chain = small_chain(folder)
    extent = chain.links[-1].extent
    extent.checkpoint()
    for grain in (30, 31):
        extent.allocate(grain, grain_data("lost", grain))
        extent.commit()
    extent.set_dirty()
    records = list(target_of(chain.write()).sesparse.journal())
    assert [(r.disk, r.link, r.depth) for r in records] == [("vm-000001.vmdk", "vm-000001.vmdk", 0)] * 2
    assert [(r.index, r.sequence, r.generation, r.state) for r in records] == [
        (0, 4, 1, "applied"),
        (1, 5, 1, "applied"),
    ]
    assert records[0].regions == ["free_bitmap", "backmap", "grain_tables"]
    assert records[0].size == 4 * 512
    assert records[0].timer < records[1].timer


def test_real_journal(real_path: Path, folder: Path) -> None:
    """A clean extent: all is history."""
    (folder / "real-sesparse.vmdk").write_bytes(real_path.read_bytes())
    records = list(target_of(folder / "real-sesparse.vmdk", unreadable="zero").sesparse.journal())
    assert [r.index for r in records] == list(range(32))
    assert {(r.state, r.generation, r.size) for r in records} == {("history", 1, 6 * 512)}


def test_dirty_and_zero(folder: Path) -> None:
    chain = small_chain(folder, deltas=2)
    chain.links[1].extent.set_dirty()
    chain.links[1].extent.zero(100)
    chain.links[2].extent.unmap(100)
    target = target_of(chain.write())
    assert [(r.state, r.allocated, r.unmapped, r.zero) for r in target.sesparse.chain()] == [
        ("clean", 4096, 4096, 0),
        ("dirty", 4096, 0, 4096),
        ("clean", SIZE, 0, 0),
    ]
    states = {r.offset: r.state for r in target.sesparse.map()}
    assert states[100 * 4096] == "unmapped"


def test_several_extents(folder: Path) -> None:
    links = [
        [disks.sparse(folder / f"{name}-sesparse.vmdk", ExtentBuilder(4096)) for name in "ab"],
        [disks.flat(folder / "x-flat.vmdk", 4096), oracle.Zero(4096)],
    ]
    target = target_of(disks.write_chain(folder, links))
    assert [r.extents for r in target.sesparse.chain()] == [
        ["a-sesparse.vmdk", "b-sesparse.vmdk"],
        ["x-flat.vmdk", "ZERO"],
    ]
    assert [(r.offset, r.size, r.state, r.link) for r in target.sesparse.map()] == [
        (0, 4096 * 512, "base", "link1.vmdk"),
        (4096 * 512, 4096 * 512, "zero", "link1.vmdk"),
    ]


def test_snapshot_with_a_name_to_escape(folder: Path) -> None:
    path = small_chain(folder).write()
    name, created = 'before "it"\n| ünïcode', make_vm.SNAPSHOTS[0][2]
    snapshot = {"uid": 1, "display_name": name, "created": created, "disks": ["vm.vmdk"]}
    (folder / "vm.vmsd").write_bytes(vmsd([snapshot]).encode())
    assert [(r.snapshot, r.ts) for r in target_of(path).sesparse.chain()] == [(None, None), (name, created)]


# Any target


def test_bare_extent(folder: Path) -> None:
    """No descriptor, no operating system, no file system: still all that can be told."""
    small_chain(folder).write()
    bare = folder.parent / "alone.bin"
    (folder / "vm-000001-sesparse.vmdk").rename(bare)
    target = target_of(bare, unreadable="zero")
    (record,) = target.sesparse.chain()
    assert (record.disk, record.link, record.depth, record.type, record.cid) == (
        "alone.bin",
        "alone.bin",
        0,
        None,
        None,
    )
    assert record.extents == ["alone.bin"]
    assert record.parent is None
    assert "parent-missing" in {r.code for r in target.sesparse.findings()}
    assert {r.state for r in target.sesparse.map()} == {"allocated", "invalid"}


def test_file_object(folder: Path) -> None:
    small_chain(folder).write()
    fh = io.BytesIO((folder / "vm-000001-sesparse.vmdk").read_bytes())
    target = target_of(fh, unreadable="zero")
    for function in FUNCTIONS:
        assert list(getattr(target.sesparse, function)())


def test_inside_evidence(example: Path) -> None:
    """Disks by TargetPath: the same records, with the paths of the evidence."""
    fs = VirtualFilesystem()
    fs.map_dir("vmfs/vm", str(example.parent))
    target = target_of(fs.path(f"/vmfs/vm/{NEWEST}"))
    records = list(target.sesparse.chain())
    assert [str(r.source) for r in records] == [f"/vmfs/vm/{r.link}" for r in records]
    assert records[1].snapshot == "after patch"
    assert [r.offset for r in target.sesparse.map()] == [r.offset for r in Target.open(example).sesparse.map()]


def test_two_disks(folder: Path) -> None:
    """One disk after the other, each with its own name."""
    extent = ExtentBuilder(make_vm.CAPACITY_SECTORS)
    extent.allocate(5, grain_data("bad", 5))
    target = Target.open(two_disks(folder, extent))
    records = [(r.disk, r.depth) for r in target.sesparse.chain()]
    assert records == [("a-bad.vmdk", depth) for depth in range(4)] + [(NEWEST, depth) for depth in range(3)]


def test_disks_of_others_are_passed_over(example: Path) -> None:
    target = Target()
    target.disks.add(RawContainer(io.BytesIO(bytes(1 << 20))))
    target.disks.add(container.open(example.parent / NEWEST))
    target.apply()
    assert {r.disk for r in target.sesparse.chain()} == {NEWEST}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_unsupported_without_a_sesparse_disk(folder: Path, function: str) -> None:
    small_chain(folder, deltas=0).write()
    for target in (Target(), target_of(folder / "vm.vmdk")):
        with pytest.raises(UnsupportedPluginError):
            getattr(target.sesparse, function)()
        with pytest.raises(UnsupportedPluginError, match="No seSparse disks"):
            target.add_plugin(SESparsePlugin)


# What dissect asks of a plugin


def exported() -> list[tuple[str, object]]:
    return [(name, getattr(SESparsePlugin, name)) for name in SESparsePlugin.__functions__ if name != "__call__"]


def test_exported_functions() -> None:
    assert {name for name, _ in exported()} >= set(FUNCTIONS)
    for name, function in exported():
        assert function.__exported__, name
        assert function.__record__ is not None, name


def test_docstrings_are_help_texts() -> None:
    """The first line says what is yielded; no markup that would break in a terminal or in Sphinx."""
    for name, function in [*exported(), ("the plugin", SESparsePlugin)]:
        text = function.__doc__
        assert text, name
        assert text.strip().splitlines()[0].endswith("."), name
        assert len(text.strip().splitlines()[0]) < 121, name
        assert text.count("``") % 2 == 0, name
        assert not re.search(r"(?<!`)`[^`]+`(?!`)", text), f"{name}: single backquotes are roles in RST"


def test_arguments_do_not_clash(monkeypatch: pytest.MonkeyPatch) -> None:
    """target-query has options of its own: an argument that is one of them never reaches the function."""
    taken = options_of_target_query(monkeypatch)
    assert {"-s", "-f", "--json", "--hash"} <= taken
    for name, function in exported():
        for names, settings in getattr(function, "__args__", []):
            assert settings.get("help"), f"{name} {names}"
            assert not set(names) & taken, f"{name} {names}"
            # argparse takes any unambiguous beginning of an option for the option
            longs = [option for option in names if option.startswith("--")]
            assert longs, f"{name} {names}"
            assert names[-1] in longs, "short form first"


def options_of_target_query(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    import argparse

    from dissect.target.tools import query

    taken: set[str] = set()

    class Stop(Exception):
        pass

    def parse(self: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        taken.update(self._option_string_actions)
        raise Stop

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.setattr("sys.argv", ["target-query"])
    with pytest.raises(Stop):
        query.main()
    return taken


def test_all_at_once(opened: Target) -> None:
    """``target-query -f sesparse`` runs all of them, and each is found by its name."""
    names = {record._desc.name.rpartition("/")[2] for record in opened.sesparse()}
    assert names >= {"link", "run"}
    for name in FUNCTIONS:
        (function,), unknown = plugin.find_functions(f"sesparse.{name}", opened)
        assert function.method_name == name
        assert not unknown


def test_names_of_the_target(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Host name and domain are in each record, and are looked up once: dissect takes 0.1 s to find that there are none."""
    target = Target.open(example)
    asked = []
    get_function = Target.get_function

    def noting(self: Target, name: str) -> object:
        asked.append(name)
        if name == "hostname":
            return object(), property(lambda plugin: "web01")
        return get_function(self, name)

    monkeypatch.setattr(Target, "get_function", noting)
    records = list(target.sesparse.map())
    assert len(records) > 10
    assert {(r.hostname, r.domain) for r in records} == {("web01", None)}
    assert {str(r._source) for r in records} == {str(example)}
    assert asked.count("hostname") == asked.count("domain") == 1
