"""Names that e2fsprogs removed from folders of ext: it leaves them, as Linux before 5.13 does."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import churn
import pytest
from churn_drivers import ext4, needs, run
from test_ext_journal import found_in

from dissect_sesparse.extfs.directory import is_folder_block, live_names, removed_names

if TYPE_CHECKING:
    from pathlib import Path


def names(*known: tuple[int, str, int]) -> bytes:
    """A block of entries: inode, name and length of each."""
    block = b""
    for inode, name, length in known:
        head = inode.to_bytes(4, "little") + length.to_bytes(2, "little") + bytes((len(name), 1)) + name.encode()
        block += head.ljust(length, b"\0")
    return block


def test_entries_behind_others() -> None:
    """What lies in an entry behind its name, if it can be an entry: with an inode, a kind, and a name that can be one."""
    whole = names((12, "first", 16), (13, "removed", 16), (14, "again", 16), (15, "last", 976))
    block = whole[:4] + (48).to_bytes(2, "little") + whole[6:]
    assert is_folder_block(block)
    assert [name.name for name in live_names(block)] == [b"first", b"last"]
    found = list(removed_names(block, 100, kinds=True, indexed=False))
    assert [(name.inode, name.name, name.removed) for name in found] == [(13, b"removed", True), (14, b"again", True)]
    assert [name.inode for name in removed_names(block, 13, kinds=True, indexed=False)] == [13], "14 is no inode there"
    for at, value in ((16 + 7, 9), (16 + 4, 7), (16 + 8, ord("/"))):
        broken = bytearray(block)
        broken[at] = value
        assert [name.inode for name in removed_names(bytes(broken), 100, kinds=True, indexed=False)] == [14]


@pytest.mark.slow
def test_removed_names(tmp_path: Path) -> None:
    """A file of which nothing is left but its name is listed, without bytes; no live file, and none that is listed already."""
    driver = ext4()
    if why := driver.missing() or needs("debugfs"):
        pytest.skip(why)
    image, source = tmp_path / "partition.img", tmp_path / "source"
    source.write_bytes(b"some bytes" * 100)
    driver.make(image)
    host = churn.Host(driver, random.Random(1), tmp_path / "vm")
    host._trims = 0.0
    with driver.mounted(image) as root:
        (root / "folder").mkdir()
        for name in ("kept", "gone", "two names", "last"):
            (root / "folder" / name).write_bytes(name.encode() * 1000)
    host.record(image)
    host.snapshot()
    commands = (
        f"write {source} folder/short-lived", f"write {source} folder/new", 'ln "folder/two names" folder/linked',
        "rm folder/short-lived", "rm folder/gone", 'unlink "folder/two names"',
    )  # fmt: skip
    for command in commands:
        if command.startswith("write"):
            command = f"cd folder\n{command.replace('folder/', '')}"
        (tmp_path / "commands").write_text(f"{command}\n", encoding="utf-8")
        run("debugfs", "-w", "-f", tmp_path / "commands", image)
    host.record(image)
    found = found_in(host.chain.write())
    assert found["folder/gone"][0].naming.by == "snapshot"
    others = {path: file for path, (file, _, _) in found.items() if path != "folder/gone"}
    assert set(others) <= {"folder/short-lived"}, "no live file: neither one that lost a name, nor one that is there"
    assert found["folder/short-lived"][1].state == "none"
    file = others["folder/short-lived"]
    assert (file.naming.by, file.naming.state) == ("directory", "ambiguous")
    assert "nothing tells" in file.naming.basis
