"""Counting, hashing and reading what is left of a file."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from dissect_sesparse.files.deleted import CHUNK, Budget, DeletedFile, Piece, measure, read_pieces
from dissect_sesparse.files.story import Naming

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = bytes(range(256)) * 20000


def file_of(size: int, *pieces: tuple[int, bytes], likely: tuple[int, ...] = (), **more: object) -> DeletedFile:
    """A file; ``likely`` are the offsets of the pieces that are not proven."""
    fields = {"volume": "v", "path": "a/b", "mtime": None, "btime": None, "inode": 7, "filesystem": "ntfs", **more}
    fields |= {"naming": Naming("mft", "likely", "seen"), "proof": "seen", "doubt": "not seen"}
    made = [Piece(offset, data, offset not in likely) for offset, data in pieces]
    return DeletedFile(link=None, size=size, pieces=lambda: iter(made), **fields)  # type: ignore[arg-type]


def test_complete_and_partial() -> None:
    whole = measure(file_of(10, (0, b"12345"), (5, b"67890")))
    assert (whole.size, whole.state) == (10, "complete")
    assert whole.digest == tuple(hashlib.new(name, b"1234567890").hexdigest() for name in ("md5", "sha1", "sha256"))
    part = measure(file_of(10, (5, b"67890")))
    assert (part.size, part.state) == (5, "partial")
    assert part.digest is not None
    assert part.digest[2] == hashlib.sha256(b"67890").hexdigest(), "of the recovered bytes alone"


def test_nothing_left_and_nothing_ever() -> None:
    assert measure(file_of(10)) == (0, None, "none", "only its name is known", 0), "no digest of no bytes"
    empty = measure(file_of(0))
    assert (empty.size, empty.state) == (0, "complete")
    assert empty.digest is not None
    assert empty.digest[0] == "d41d8cd98f00b204e9800998ecf8427e"


def test_pieces_are_handed_on() -> None:
    got = []
    measure(file_of(10, (2, b"x"), (9, b"y"), likely=(9,)), got.append)
    assert got == [(2, b"x", True), (9, b"y", False)]


def test_likely() -> None:
    """All of it is there, and nothing proves the second half."""
    told = measure(file_of(10, (0, b"12345"), (5, b"67890"), likely=(5,)))
    assert (told.size, told.state, told.likely) == (10, "likely", 5)
    assert told.digest is not None
    assert told.digest[2] == hashlib.sha256(b"1234567890").hexdigest()
    assert told.basis == "5 bytes are proven: seen; 5 bytes are only likely: not seen"


def test_likely_bytes_of_a_partial_file_do_not_count() -> None:
    told = measure(file_of(10, (0, b"123"), (3, b"45"), (7, b"8"), likely=(3,)))
    assert (told.size, told.state, told.likely) == (4, "partial", 2)
    assert told.digest is not None
    assert told.digest[2] == hashlib.sha256(b"1238").hexdigest()
    assert told.basis.endswith("4 bytes are not there, or are not its own any more")
    nothing = measure(file_of(10, (0, b"123"), likely=(0,)))
    assert (nothing.size, nothing.digest, nothing.state, nothing.likely) == (0, None, "partial", 3)


def test_a_file_of_which_not_even_the_size_is_known() -> None:
    told = measure(file_of(0, known=False, lost="its record is gone"))
    assert (told.state, told.digest, told.basis) == ("none", None, "only its name is known: its record is gone")


def test_what_cannot_be_read_is_left_out_alone() -> None:
    bad, errors = {5 * 512, CHUNK + 77 * 512}, []

    def read(offset: int, size: int) -> bytes:
        if any(offset <= at < offset + size for at in bad):
            raise OSError("bad sector")
        return DATA[offset : offset + size]

    left, seen = 0, set()
    for offset, data in read_pieces(read, 100 * 512 - 512 * 100, len(DATA), 512, errors.append):
        assert data == DATA[offset : offset + len(data)]
        assert offset >= left
        left = offset + len(data)
        seen |= set(range(offset // 512, -(-left // 512)))
    assert set(range(len(DATA) // 512)) - seen == {at // 512 for at in bad}
    assert len(errors) == 2


def test_a_file_that_ends_early() -> None:
    got = list(read_pieces(lambda offset, size: DATA[offset : min(offset + size, 3000)], 0, 10000, 512, pytest.fail))
    assert b"".join(data for _, data in got) == DATA[:3000]


def test_budget() -> None:
    told: list[str] = []

    def pieces() -> Iterator[Piece]:
        for offset in range(0, 1000, 10):
            yield Piece(offset, bytes(10), True)

    budget = Budget(55, told.append)
    assert len(list(budget.of(pieces(), "a/b"))) == 5
    assert not list(budget.of(pieces(), "a/b"))
    assert len(told) == 1
    assert "more bytes than its disk" in told[0]


def test_a_file_system_that_trips() -> None:
    told: list[str] = []

    def pieces() -> Iterator[Piece]:
        yield Piece(0, b"first", True)
        raise RecursionError("deep")

    assert list(Budget(100, told.append).of(pieces(), "a/b")) == [(0, b"first", True)]
    assert told == ["a/b: not all of it is looked at: deep"]
