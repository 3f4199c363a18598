"""Dissect's own tools, started as a user starts them, on the example VM; and the evidence afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from typing import TYPE_CHECKING

import make_vm
import pytest
import target_fixtures
from target_fixtures import NEWEST, NOTES, snapshot_of, tool

from dissect_sesparse import open_chain
from dissect_sesparse.target import plugin_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.versions
PLUGIN_PATH = ["--plugin-path", plugin_path.__file__]


@pytest.fixture
def evidence(tmp_path: Path) -> Iterator[Path]:
    """The .vmx of the example in a folder that cannot be written to, and that must not have changed afterwards."""
    folder = tmp_path / "evidence"
    vmx = make_vm.make_vm(folder)
    for path in (*folder.iterdir(), folder):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    before = snapshot_of(folder)
    yield vmx
    after = snapshot_of(folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
    assert after == before


def records_of(output: str) -> list[dict]:
    """The records of ``target-query -j``, by whatever name they have."""
    records = [json.loads(line) for line in output.splitlines()]
    return [record for record in records if record.get("_type") == "record"]


def warnings_of(errors: str) -> list[str]:
    """Log lines that are more than dissect's word that it found no operating system."""
    return [line for line in errors.splitlines() if line.strip() and "Failed to find OS plugin" not in line]


@pytest.mark.slow
def test_query(evidence: Path) -> None:
    """All functions in one run, by autoload."""
    done = tool("target-query", "-q", "-f", "sesparse.chain,sesparse.map,sesparse.findings", "-j", evidence)
    records = records_of(done.stdout)
    chain = [record for record in records if "parent_cid" in record]
    runs = [record for record in records if "source_offset" in record and "code" not in record]
    assert [(record["link"], record["snapshot"]) for record in chain] == [
        (NEWEST, None),
        ("web01-000001.vmdk", "after patch"),
        ("web01.vmdk", "before patch"),
    ]
    assert sum(record["size"] for record in runs) == make_vm.CAPACITY_SECTORS * 512
    assert len(records) == len(chain) + len(runs), "no findings"
    assert warnings_of(done.stderr) == []


@pytest.mark.slow
def test_query_by_plugin_path(evidence: Path) -> None:
    """The same where ``.pth`` files are not processed."""
    arguments = ["-q", "-f", "sesparse.chain", "--hash-files", "-j", evidence]
    done = tool("target-query", *arguments, *PLUGIN_PATH, DISSECT_SESPARSE_AUTOLOAD="0")
    records = records_of(done.stdout)
    assert [record["link"] for record in records] == [NEWEST, "web01-000001.vmdk", "web01.vmdk"]
    flat = (evidence.parent / "web01-flat.vmdk").read_bytes()
    assert records[2]["digest"]["sha256"] == hashlib.sha256(flat).hexdigest()


@pytest.mark.slow
def test_query_without_us(evidence: Path) -> None:
    """With the autoload off the functions do not exist: it is this package that the other tests see at work."""
    arguments = ["-q", "-f", "sesparse.chain", "-j", evidence]
    done = tool("target-query", *arguments, DISSECT_SESPARSE_AUTOLOAD="0", check=False)
    assert records_of(done.stdout) == []
    assert "sesparse.chain" in done.stderr + done.stdout


@pytest.mark.slow
def test_info(evidence: Path) -> None:
    done = tool("target-info", evidence)
    assert "<Disk type='sesparse' size=67108864>" in done.stdout
    assert "fs='ntfs'" in done.stdout
    assert warnings_of(done.stderr) == []


@pytest.mark.slow
def test_fs_by_plugin_path(evidence: Path) -> None:
    """A file that is partly in the base and partly in the deltas."""
    done = tool("target-fs", *PLUGIN_PATH, "--", evidence, "cat", NOTES, DISSECT_SESPARSE_AUTOLOAD="0")
    assert hashlib.sha256(done.stdout.encode()).hexdigest() == make_vm.LIVE[NOTES]


@pytest.mark.slow
def test_fs_copies_all_live_files(evidence: Path, tmp_path: Path) -> None:
    """Each file that the running machine has, byte for byte."""
    out = tmp_path / "out"
    out.mkdir()
    tool("target-fs", evidence, "cp", "/Users", "-o", out)
    found = {hashlib.sha256(path.read_bytes()).hexdigest() for path in out.rglob("*") if path.is_file()}
    assert set(make_vm.LIVE.values()) <= found
    assert not set(make_vm.DELETED.values()) & found, "what the guest deleted is not there"


@pytest.mark.slow
def test_dd(evidence: Path, tmp_path: Path) -> None:
    """The whole disk, as the guest sees it; by ``--plugin-path``, which takes all positionals that follow it."""
    raw = tmp_path / "disk.raw"
    tool("target-dd", "-w", raw, evidence, *PLUGIN_PATH, DISSECT_SESPARSE_AUTOLOAD="0")
    assert raw.stat().st_size == make_vm.CAPACITY_SECTORS * 512
    with open_chain(evidence.parent / NEWEST) as chain:
        assert raw.read_bytes() == chain.read(0, chain.size)


@pytest.mark.slow
def test_options_by_uri(tmp_path: Path) -> None:
    """A broken disk: refused by default, with the reason; opened where the user says so, with the finding."""
    path = target_fixtures.parent_missing(tmp_path / "vm")
    refused = tool("target-query", "-q", "-f", "sesparse.findings", "-j", path, check=False)
    assert records_of(refused.stdout) == []
    assert refused.returncode != 0
    done = tool("target-query", "-q", "-f", "sesparse.findings", "-j", f"sesparse://{path.as_posix()}?unreadable=zero")
    assert "parent-missing" in {record["code"] for record in records_of(done.stdout)}


@pytest.mark.slow
def test_real_extent(real_path: Path) -> None:
    """An extent that an ESXi host wrote, without its descriptor: what it has reads, what its parent had is told.

    The option comes from the environment.
    """
    done = tool(
        "target-query",
        "-q",
        "-f",
        "sesparse.map,sesparse.findings",
        "-j",
        real_path,
        DISSECT_SESPARSE_UNREADABLE="zero",
    )
    records = records_of(done.stdout)
    runs = [record for record in records if "code" not in record]
    assert [(run["offset"], run["size"], run["state"]) for run in runs] == [
        (0, 16 << 20, "allocated"),
        (16 << 20, 496 << 20, "invalid"),
    ]
    assert runs[0]["source_offset"] == 12288 * 512
    codes = {record["code"] for record in records if "code" in record}
    assert "parent-missing" in codes
    assert codes <= {"parent-missing", "unreadable", "host-memory", "filesystem-unopened"}


def test_folder_is_really_read_only(evidence: Path) -> None:
    """So that the tests above mean what they say; root may write all the same."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        pytest.skip("root may write to a folder without the permission")
    if os.name == "nt":
        pytest.skip("Windows lets a folder without the permission be written to")
    with pytest.raises(PermissionError):
        shutil.copyfile(evidence, evidence.parent / "copy")
