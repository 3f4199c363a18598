"""Volumes that are not opened: what they are, and that nobody takes *not looked at* for *none*."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import file_states
import formatted
import pytest
import target_fixtures
from dissect.target import Target
from formatted import FORMATS, MIB, disk_of
from sesparse_builder import ChainBuilder, ExtentBuilder, vmx

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.cli import main
from dissect_sesparse.files import volumes
from dissect_sesparse.files.volume_kinds import emptiness, volume_kind
from dissect_sesparse.files.volumes import filesystem_findings

if TYPE_CHECKING:
    from pathlib import Path

    from dissect_sesparse.findings.findings import Finding

BLKID = {
    "NTFS": "ntfs", "exFAT": "exfat", "FAT12": "vfat", "FAT16": "vfat", "FAT32": "vfat", "ext": "ext4", "XFS": "xfs",
    "btrfs": "btrfs", "F2FS": "f2fs", "swap space": "swap", "LUKS1": "crypto_LUKS", "LUKS2": "crypto_LUKS",
}  # fmt: skip


def kind(volume: bytes) -> str | None:
    found = volume_kind(lambda offset, size: volume[offset : offset + size], len(volume))
    return found.name if found is not None else None


def found_in(path: Path) -> list[Finding]:
    with open_chain(path) as chain:
        return list(filesystem_findings(chain))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_kind_is_that_of_the_tool_that_made_it(name: str, tmp_path: Path) -> None:
    volume = formatted.formatted(name, tmp_path)
    assert kind(volume) == name.rstrip("0123456789") if name.startswith("FAT") else kind(volume) == name
    (tmp_path / "image").write_bytes(volume)
    told = subprocess.run(
        [formatted.tool("blkid"), "-p", "-o", "value", "-s", "TYPE", str(tmp_path / "image")],
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == BLKID[name], "libblkid says the same"


@pytest.mark.parametrize(
    ("name", "offset", "value"),
    [
        ("ReFS", 3, b"ReFS\0\0\0\0"),
        ("BitLocker", 3, b"-FVE-FS-"),
        ("BitLocker", 424, bytes.fromhex("3bd66749292ed84a8399f6a339e3d001")),
        ("a physical volume of LVM", 536, b"LVM2 001"),
        ("a member of a Linux software RAID (md)", 4096, bytes.fromhex("fc4e2ba9")),
        ("a member of a Linux software RAID (md)", 4 * MIB - 65536, bytes.fromhex("fc4e2ba9")),
        ("a member of a Linux software RAID (md)", 4 * MIB - 8192, bytes.fromhex("fc4e2ba9")),
        ("bcache", 4120, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")),
        ("APFS", 32, b"NXSB"),
        ("HFS+", 1024, b"H+\0\4"),
        ("ZFS", 131072, bytes.fromhex("0cb1ba0000000000")),
        ("ZFS", 135168, bytes.fromhex("0000000000bab10c")),
        ("ReiserFS", 65588, b"ReIsEr2Fs"),
        ("SquashFS", 0, b"hsqs"),
        ("VMFS", 1048576, bytes.fromhex("0dd001c0")),
        ("ISO 9660", 32769, b"CD001"),
        ("UFS", 66908, bytes.fromhex("19015419")),
        ("a dynamic disk of Windows (LDM)", 3072, b"PRIVHEAD"),
        (None, 0, b"none of these"),
    ],
)
def test_kind_by_its_magic(name: str | None, offset: int, value: bytes) -> None:
    volume = bytearray(4 * MIB)
    volume[offset : offset + len(value)] = value
    assert kind(bytes(volume)) == name


@pytest.mark.slow
def test_every_kind_that_dissect_opens_is_found_here(tmp_path: Path) -> None:
    """With what the distribution depends on, nothing is missing, and no finding is made up."""
    for name in ("NTFS", "FAT12", "FAT16", "FAT32", "ext", "XFS", "btrfs"):
        volume = formatted.formatted(name, tmp_path)
        (tmp_path / name).mkdir()
        assert found_in(disk_of(tmp_path / name, volume).write()) == [], name


@pytest.mark.slow
@pytest.mark.parametrize(("name", "what"), [("LUKS1", "encrypted (LUKS1)"), ("LUKS2", "encrypted (LUKS2)")])
def test_encrypted(name: str, what: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (finding,) = found_in(disk_of(folder, formatted.formatted(name, tmp_path)).write())
    assert (finding.code, finding.level, finding.offset) == ("filesystem-unopened", "warning", 0)
    assert what in finding.message
    assert "its key is needed" in finding.message
    assert "the same as of 1 older links" in finding.message
    assert capfd.readouterr() == ("", ""), "what dissect logs while that is found out is no news"


def test_no_reader_in_dissect(folder: Path, tmp_path: Path) -> None:
    (finding,) = found_in(disk_of(folder, formatted.formatted("F2FS", tmp_path)).write())
    assert "it is F2FS, which dissect has no reader for" in finding.message


def test_reader_that_is_wrong(folder: Path, tmp_path: Path) -> None:
    """dissect opens exFAT and reads every file at the wrong place: it is not believed, and that is said."""
    path = disk_of(folder, formatted.formatted("exFAT", tmp_path)).write()
    (finding,) = found_in(path)
    assert "is not looked at: dissect reads the files of exFAT at wrong places" in finding.message
    (folder / "vm.vmx").write_bytes(vmx([path.name], "vm").encode())
    assert main(["recover", "--files", "-o", str(tmp_path / "out"), str(folder / "vm.vmx")]) == 1


def test_swap_and_nothing_are_explained(folder: Path, tmp_path: Path) -> None:
    """Positive evidence: a kind that holds no files, or zeros all over."""
    assert found_in(disk_of(folder, formatted.formatted("swap space", tmp_path)).write()) == []
    assert found_in(ChainBuilder(folder, 8192, {}, "empty").write()) == []
    assert found_in(disk_of(folder, bytes(40 * MIB) + b"something", 41 * MIB, "late").write())[0].level == "warning"


def test_too_large_to_be_read_as_a_whole(folder: Path) -> None:
    """What was looked at is said, and that it is not all."""
    (finding,) = found_in(ChainBuilder(folder, 200 * MIB // 512, {}).write())
    assert finding.level == "info"
    assert finding.message.endswith("it is zero in the 20971520 bytes that were looked at")
    late = emptiness(
        lambda offset, size: bytes(size - 1) + b"x" if offset + size == 200 * MIB else bytes(size), 200 * MIB
    )
    assert not late.zero, "its end is among them"


def test_partition_table_that_claims_billions(folder: Path) -> None:
    head = bytearray(1024)
    head[446:462] = (
        bytes((0, 0, 2, 0, 0xEE, 0xFF, 0xFF, 0xFF)) + (1).to_bytes(4, "little") + (8191).to_bytes(4, "little")
    )
    head[510:512] = b"\x55\xaa"
    head[512:520] = b"EFI PART"
    head[512 + 72 : 512 + 92] = (
        (2).to_bytes(8, "little") + (0xFFFFFFFF).to_bytes(4, "little") + (128).to_bytes(4, "little")
    )
    (finding,) = found_in(disk_of(folder, bytes(head), 4 * MIB).write())
    assert (
        "the disk cannot be opened, none of its file systems was looked at: size of the partition table"
        in finding.message
    )


def test_logical_volumes_that_cannot_be_opened(folder: Path) -> None:
    """Here the only one is of a type that dissect leaves out: the physical volume is named, not passed over."""
    path = file_states.build("ext4", folder, lvm=True).write()
    flat = folder / "vm-flat.vmdk"
    data = flat.read_bytes()
    assert data.count(b'type = "striped"') == 1
    flat.write_bytes(data.replace(b'type = "striped"', b'type = "error"  '))
    (finding,) = found_in(path)
    assert "it is a physical volume of LVM, of which no volume can be opened" in finding.message


def test_logical_volume_of_another_type_beside_one_that_is_opened() -> None:
    kinds = {"root": "linear", "data": "raid6", "pool": "thin-pool"}
    lvs = {name: SimpleNamespace(type=kind, status=["READ", "VISIBLE"]) for name, kind in kinds.items()}
    lvs["data_rmeta_0"] = SimpleNamespace(type="linear", status=["READ"])
    system = SimpleNamespace(lvm=SimpleNamespace(volume_group=SimpleNamespace(logical_volumes=lvs)))
    (left_out,) = volumes._skipped([SimpleNamespace(vs=system, raw=lvs["root"]), SimpleNamespace(vs=None, raw=None)])
    assert left_out.message == "the logical volume data was not opened: dissect does not open the type raid6"


# From a user's entrances


@pytest.fixture
def unknown(folder: Path) -> Path:
    """A VM with a volume of no known kind, in all its states."""
    chain = ChainBuilder(folder, 4 * MIB // 512, {number * 8: b"no file system" * 100 for number in range(20)})
    chain.add_delta().allocate(100, b"something")
    path = chain.write()
    (folder / "vm.vmx").write_bytes(vmx([path.name], "vm").encode())
    return folder / "vm.vmx"


def test_check(unknown: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(unknown)]) == 3
    out = capsys.readouterr().out
    assert "filesystem-unopened" in out
    assert "no kind of volume that is known here" in out


def test_recover(unknown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recover", "--files", "-o", str(tmp_path / "out"), str(unknown)]) == 1
    out = capsys.readouterr().out
    assert "deleted files: none found; 1 volume not looked at" in out
    assert "deleted files: none\n" not in out
    assert main(["recover", "-o", str(tmp_path / "without"), str(unknown)]) == 0, "it promises no files"


def test_report(unknown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "-o", str(tmp_path / "report.html"), str(unknown)]) == 1
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<b>1 volume not looked at, or not to the end</b>" in page
    assert "None is named where it was looked: <b>1 volume" in page
    assert "filesystem-unopened" in page


def test_functions(unknown: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = Target.open(unknown)
    assert list(target.sesparse.files()) == []
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert any("Not all is told about vm-000001.vmdk" in each and "1 volume not looked at" in each for each in errors)
    (finding,) = (record for record in target.sesparse.findings() if record.code == "filesystem-unopened")
    assert (finding.offset, finding.size, finding.depth) == (0, 4 * MIB, 0)


@pytest.mark.slow
def test_fleet(unknown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("dask", reason="dask is not installed")
    code = main(["fleet", "--functions", "files", "--workers", "1", "-o", str(tmp_path / "out"), str(unknown.parent)])
    assert code == 1
    assert "1 volume not looked at" in "".join(capsys.readouterr())


def test_older_state_alone(folder: Path) -> None:
    """The running guest has its file system, an older state has none that is known: said for that state."""
    volume = b"not formatted yet" * 1000
    chain = ChainBuilder(folder, 4 * MIB // 512, {0: volume[:4096], 8: volume[4096:8192]})
    extent = chain.add_delta()
    for grain in range(4 * MIB // 4096):
        extent.zero(grain)
    (finding,) = found_in(chain.write())
    assert finding.depth == 1


@pytest.mark.slow
def test_reader_that_is_not_installed(folder: Path, tmp_path: Path) -> None:
    path = disk_of(folder, formatted.formatted("ext", tmp_path)).write()
    script = "import sys; sys.modules['dissect.extfs'] = None; from dissect_sesparse.cli import main; sys.exit(main())"
    for command, code in (("check",), 3), (("recover", "--files", "-o", str(tmp_path / "out")), 1):
        done = subprocess.run(
            [sys.executable, "-c", script, *command, str(path)],
            capture_output=True, text=True, encoding="utf-8", env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert (
            "it is ext, and dissect.extfs, which opens that, is not installed (pip install dissect.extfs)"
            in done.stdout
        )


def test_reader_that_fails(folder: Path, tmp_path: Path) -> None:
    volume = bytearray(formatted.formatted("ext", tmp_path))
    volume[1024 + 24 : 1024 + 28] = b"\xff\xff\xff\x7f"  # its log of the block size
    (finding,) = found_in(disk_of(folder, bytes(volume)).write())
    assert "it is ext, and dissect.extfs cannot open it: " in finding.message


def test_running_guest_that_cannot_be_opened_deletes_nothing(folder: Path, tmp_path: Path) -> None:
    """A volume that was encrypted since holds who knows what: its files of the snapshot are not called deleted."""
    chain = file_states.build("ext4", folder)
    luks = formatted.formatted("LUKS2", tmp_path)
    extent: ExtentBuilder = chain.add_delta()
    for grain in range(16 * MIB // 4096):
        data = luks[grain * 4096 : grain * 4096 + 4096]
        if data.strip(b"\0"):
            extent.allocate(grain, data)
        else:
            extent.zero(grain)
    path = chain.write()
    (folder / "vm.vmx").write_bytes(vmx([path.name], "vm").encode())
    assert list(Target.open(folder / "vm.vmx").sesparse.files()) == []


def test_example_is_looked_at_wholly(folder: Path) -> None:
    import make_vm

    target = Target.open(make_vm.make_vm(folder / "web01"))
    assert not [record for record in target.sesparse.findings() if record.code == "filesystem-unopened"]
    assert target_fixtures.NEWEST
