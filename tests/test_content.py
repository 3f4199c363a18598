"""Digests, entropy and file type of some bytes."""

from __future__ import annotations

import hashlib
import math
import random
import zipfile
from io import BytesIO

import pytest

from dissect_sesparse.trimmed import content
from dissect_sesparse.trimmed.content import describe, digest, entropy, histogram, signature


def test_digest() -> None:
    data = random.Random(1).randbytes(10_000)
    assert digest(data) == tuple(hashlib.new(name, data).hexdigest() for name in ("md5", "sha1", "sha256"))
    assert describe(data).digest == digest(data)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (3 << 20) + 1])
@pytest.mark.parametrize("threads", [True, False])
def test_much_data(monkeypatch: pytest.MonkeyPatch, size: int, threads: bool) -> None:
    """Whether or not another thread can be had, and whether or not it is worth one: the same."""

    def none() -> None:
        raise RuntimeError("can't start new thread")

    if not threads:
        monkeypatch.setattr(content, "_thread", none)
    data = random.Random(size).randbytes(size // 2) + b"text" * (size // 8)
    data += bytes(size - len(data))
    assert describe(data) == content.Content(digest(data), entropy(data), signature(data))
    assert histogram(data) == [data.count(bytes([value])) for value in range(256)]


def test_little_data_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "_thread", lambda: pytest.fail("a thread for 64 KiB"))
    assert describe(bytes(1 << 16)).entropy == 0


@pytest.mark.parametrize(
    ("data", "bits"),
    [
        (b"", 0.0),
        (b"\x00" * 4096, 0.0),
        (b"ab" * 512, 1.0),
        (bytes(range(256)) * 16, 8.0),
        (b"aab", 0.9182958340544896),
    ],
)
def test_entropy(data: bytes, bits: float) -> None:
    assert entropy(data) == pytest.approx(bits)


def test_entropy_by_its_definition() -> None:
    rng = random.Random(2)
    data = bytes(rng.choice(b"etaoin shrdlu") for _ in range(5000))
    shares = [data.count(value) / len(data) for value in set(data)]
    assert entropy(data) == pytest.approx(-sum(share * math.log2(share) for share in shares))


def test_without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slower, and the same; also over the pieces that numpy counts in."""
    data = random.Random(3).randbytes(200_000)
    fast = histogram(data)
    monkeypatch.setattr(content, "library", lambda name: None)
    assert histogram(data) == fast
    assert sum(fast) == len(data)


def test_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", "text")
    assert signature(packed.getvalue()) == "zip (application/zip)"
    assert signature(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(500)) == "jpg (image/jpeg)"
    assert signature(b"just some text, no type") is None
    assert signature(b"") is None
    monkeypatch.setattr(content, "library", lambda name: None)
    assert signature(packed.getvalue()) is None


def test_signature_survives_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of evidence go through a library: what it trips over is no error of ours."""

    class Broken:
        @staticmethod
        def guess(data: bytes) -> None:
            raise IndexError("index out of range")

    monkeypatch.setattr(content, "library", lambda name: Broken)
    assert signature(b"\xff\xd8\xff") is None
