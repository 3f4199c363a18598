"""Sectors laid over a file: every read has them in their place, and single entries are those that the format's text says."""

from __future__ import annotations

import io
import random
import struct

import pytest
from sesparse_builder import ExtentBuilder

from dissect_sesparse.extent.backmap_words import named_by, names_entry
from dissect_sesparse.extent.entry import BackmapWord
from dissect_sesparse.extent.header import Region, read_header
from dissect_sesparse.extent.metadata import Metadata
from dissect_sesparse.extent.overlaid import LaidOver
from dissect_sesparse.source.errors import UnreadableError
from dissect_sesparse.source.file import EvidenceFile

DATA = random.Random(1).randbytes(20 * 512 + 100)


def test_every_range_is_patched() -> None:
    sectors = {n: bytes([n]) * 512 for n in (0, 3, 4, 19)}
    expected = bytearray(DATA)
    for number, image in sectors.items():
        expected[number * 512 : number * 512 + 512] = image
    file = EvidenceFile(io.BytesIO(DATA), None)
    laid = LaidOver(file, sectors)
    assert (laid.size, laid.label) == (len(DATA), file.label)
    rng = random.Random(2)
    for _ in range(500):
        start = rng.randrange(len(DATA))
        length = rng.choice((1, 8, 511, 512, 513, 5000))
        assert laid.read_some(start, length) == expected[start : start + length]
        if start + length <= len(DATA):
            assert laid.read(start, length) == expected[start : start + length]
        else:
            with pytest.raises(UnreadableError):
                laid.read(start, length)


def test_one_over_another() -> None:
    below = LaidOver(EvidenceFile(io.BytesIO(DATA)), {1: b"a" * 512, 2: b"a" * 512})
    laid = LaidOver(below, {2: b"b" * 512})
    assert laid.read(0, 2048) == DATA[:512] + b"a" * 512 + b"b" * 512 + DATA[1536:2048]


def test_what_lies_behind_the_end_stays_there() -> None:
    laid = LaidOver(EvidenceFile(io.BytesIO(DATA[:700])), {1: b"a" * 512, 5: b"a" * 512})
    assert laid.read_some(0, 10000) == DATA[:512] + b"a" * 188
    assert laid.read_some(5 * 512, 512) == b""


def test_entries_of_nothing_that_are_not_believed() -> None:
    words = struct.pack("<4Q", 0, 5, 0, 7) * 16
    laid = LaidOver(EvidenceFile(io.BytesIO(words * 3)), {}, Region("grain_tables", 512, 512))
    assert laid.read(0, 512) == words
    assert laid.read(1024, 512) == words
    assert laid.read(512, 32) == struct.pack("<4Q", (1 << 64) - 1, 5, (1 << 64) - 1, 7)
    assert laid.read(520, 8) == struct.pack("<Q", 5)


def view_of(builder: ExtentBuilder) -> Metadata:
    file = EvidenceFile(io.BytesIO(builder.to_bytes()))
    return Metadata(file, read_header(file))


def test_single_entries() -> None:
    """Two tables that lie the other way round: a word may name a table by its index or by its slice."""
    builder = ExtentBuilder(2 * 32768, tables="reversed")
    builder.allocate(7, place=5000)
    builder.allocate(4096 + 9, place=70)
    view = view_of(builder)
    assert [view.raw_index_of(n) for n in (0, 1, 2)] == [1, 0, None]
    assert view.raw_entry(1, 7) == 3 << 60 | (5000 - 4096) << 48 | 1
    assert view.raw_entry(0, 9) == 3 << 60 | 70 << 48
    assert view.raw_entry(0, 7) == 0
    assert view.raw_entry(0, 1 << 60) is None
    assert view.word(5000) == 1 << 60 | 7 << 48 | 1
    assert (view.word(71), view.word(1 << 40)) == (0, None)
    assert [view.bit(n) for n in (69, 70, 71, 5000)] == [False, True, False, True]
    assert names_entry(view, view.word(5000), 1, 7)
    assert names_entry(view, BackmapWord.of(0, 7), 1, 7), "slice 0 is described by table 1"
    assert not names_entry(view, view.word(5000), 0, 8)
    assert not names_entry(view, BackmapWord(0), 0, 0)
    assert not names_entry(view, BackmapWord(2 << 60 | 7 << 48 | 1), 1, 7)
    assert sorted(named_by(view, view.word(5000))) == [0, view.raw_entry(1, 7)]
