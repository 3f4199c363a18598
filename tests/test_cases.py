"""Every case of the table with our reader, each in a process of its own and within limits: see ``running``."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest
import running
import validation
from cases import CASES
from cases.picture import NEVER, Picture, content
from running import ROOT, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cases import Case


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A folder that is gone afterwards: all cases together take gigabytes."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_case(case: Case, server: Server, room: Path) -> None:
    """A disk reads as it should by three patterns, or is refused as it should, and costs a machine no other disk.

    A machine has the disks that it should have.
    """
    if case.sparse and sys.platform == "win32":
        pytest.skip("its files take terabytes where files have no holes")
    problems = server.run(case.id, room)
    assert not problems, "\n".join([f"{case.id}: {case.what}", *problems])


def test_document_has_all_cases() -> None:
    """What ``validation.py`` wrote is of this table."""
    text = (ROOT / "docs" / "validation.md").read_text(encoding="utf-8")
    assert validation.rows_of(text) == {case.id: case.what for case in CASES.values()}


# What runs the cases notices what it should


PICTURE = Picture(64, "base").paint(8, 8, None).paint(16, 8, None, NEVER)


def disk() -> bytearray:
    return bytearray(content("base", 0, 8) + bytes(8 * 512) + bytes(8 * 512) + content("base", 24, 64))


def read_of(data: bytearray) -> Callable[[int, int], bytes]:
    def read(offset: int, length: int) -> bytes:
        if offset < 24 * 512 and offset + length > 16 * 512:
            raise ValueError
        return bytes(data[offset : offset + length])

    return read


@pytest.mark.parametrize("step", [8, 5, None])
def test_right_bytes_are_right(step: int | None) -> None:
    assert running.compare(read_of(disk()), PICTURE, step).problems == []


@pytest.mark.parametrize("place", [0, 12 * 512 + 100, 64 * 512 - 1])
def test_one_wrong_byte_is_noticed(place: int) -> None:
    data = disk()
    data[place] ^= 1
    reading = running.compare(read_of(data), PICTURE, 8)
    assert len(reading.wrong) == 1
    assert f"sector {place // 512} " in reading.wrong[0]


def test_shifted_short_and_invented_bytes_are_noticed() -> None:
    data = disk()
    assert running.compare(read_of(data[:512] + data), PICTURE, 8).wrong
    assert running.compare(read_of(data[:-1]), PICTURE, 8).wrong
    assert running.compare(lambda offset, length: bytes(data[offset : offset + length]), PICTURE, 8).invented


def test_error_in_place_of_good_bytes_is_noticed() -> None:
    def read(offset: int, length: int) -> bytes:
        raise ValueError

    assert len(running.compare(read, PICTURE, 8).failed) == 7


@pytest.mark.slow
@pytest.mark.skipif(not running.CAN_FORK, reason="no processes to be forked here")
def test_limits() -> None:
    """A case that takes too long, by the processor or by the clock, needs too much memory or is killed fails alone."""

    def endless(built: Callable[[], None]) -> None:
        built()
        while True:
            pass

    def greedy(built: Callable[[], None]) -> int:
        running.limit_memory(50)
        built()
        return len(bytes(1 << 30))

    def killed(built: Callable[[], None]) -> None:
        built()
        os.kill(os.getpid(), signal.SIGKILL)

    # By the processor, however long a busy machine takes to give it a second
    assert running.forked(endless, seconds=1, waiting=1000).problem == "it takes more than 1 s"
    assert (
        running.forked(lambda built: built() or time.sleep(60), seconds=0.1, waiting=6).problem
        == "it takes more than 0.6 s"
    )
    assert "ended with status" in running.forked(killed).problem
    assert running.forked(lambda built: built() or [1]).result == [1]
    if sys.platform == "linux":
        assert "ended with status" in running.forked(greedy).problem


def test_files_that_are_no_evidence_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "analyst").mkdir()
    (tmp_path / "analyst" / "secret").touch()
    (tmp_path / "evidence").touch()
    with running.watched(tmp_path) as opened:
        (tmp_path / "evidence").read_bytes()
    assert opened == []
    with running.watched(tmp_path) as opened:
        (tmp_path / "analyst" / "secret").read_bytes()
        (tmp_path / "evidence").touch()
        (tmp_path / "evidence").write_bytes(b"")
    assert "is no evidence" in opened[0]
    assert "for writing" in opened[-1]
