"""Records on their way into other tools: ``rdump`` writes them to CSV, JSON lines and SQLite without a change."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from typing import TYPE_CHECKING

import pytest
from target_fixtures import NEWEST, example_vm, tool  # noqa: F401

if TYPE_CHECKING:
    from pathlib import Path

FUNCTIONS = "sesparse.unmapped,sesparse.unreferenced,sesparse.chain,sesparse.findings"
UNMAPPED = "virtualization/vmware/sesparse/unmapped"
FIELDS = [
    "disk", "link", "depth", "offset", "size", "source", "source_offset", "state", "parent_state", "digest", "entropy",
    "signature", "after", "before",
]  # fmt: skip


@pytest.fixture(scope="module")
def records(example_vm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The records of the example VM in a file, as ``target-query`` writes them to one."""
    path = tmp_path_factory.mktemp("records") / "vm.records"
    text = tool("target-query", "-q", "-f", FUNCTIONS, "-j", example_vm).stdout
    (path.parent / "vm.jsonl").write_text(text, encoding="utf-8")
    tool("rdump", path.parent / "vm.jsonl", "-w", path)
    return path


def check(rows: list[dict], sizes: tuple[str, str] = ("77824", "65536")) -> None:
    """The two runs that the example's guest trimmed, whatever types a format has."""
    runs = [(row["disk"], row["link"], int(row["depth"]), int(row["offset"]), str(row["size"])) for row in rows]
    assert runs == [
        (NEWEST, NEWEST, 0, 36757504, sizes[0]),
        (NEWEST, "web01-000001.vmdk", 1, 36253696, sizes[1]),
    ]
    for row in rows:
        assert (row["state"], row["parent_state"]) == ("present", "zero")
        assert 0 < float(row["entropy"]) < 8
        assert "b2d67fe892e3b6ad" in str(row["digest"]) or "1d0a314ce7f3d6a1" in str(row["digest"])
        assert str(row["after"]).startswith("2024-03-1")
        assert str(row["source"]).endswith("-sesparse.vmdk")


@pytest.mark.slow
def test_csv(records: Path) -> None:
    text = tool("rdump", records, "-s", "r.parent_state", "-m", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0])[2 : 2 + len(FIELDS)] == FIELDS, "behind hostname and domain"
    check(rows, ("76.0 KB", "64.0 KB"))  # so rdump writes sizes as text


def test_json_lines(records: Path, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    tool("rdump", records, "-w", f"jsonfile://{path}?descriptors=false")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    check([row for row in rows if "parent_state" in row])
    assert sum("parent_cid" in row for row in rows) == 3, "the links of the chain"


def test_sqlite(records: Path, tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    tool("rdump", records, "-w", f"sqlite://{path}")
    with sqlite3.connect(path) as database:
        database.row_factory = sqlite3.Row
        check([dict(row) for row in database.execute(f'select * from "{UNMAPPED}" order by depth')])
        sizes = 'select sum(size) from "virtualization/vmware/sesparse/link"'
        assert database.execute(sizes).fetchone()[0] == 3 * 67108864
    database.close()
