"""What bytes are: digests, entropy, file type."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from concurrent.futures import Future

_HEAD = 8192
_CHUNK = 1 << 16
_MUCH = 1 << 20
"""From so many bytes on it pays to count pairs of bytes, and to have another thread make one of the digests."""


class Content(NamedTuple):
    """What some bytes are."""

    digest: tuple[str, str, str]
    """MD5, SHA-1 and SHA-256."""
    entropy: float
    """Bits a byte: 0 where all bytes are the same, 8 where all values are equally many."""
    signature: str | None
    """The type of a file that starts like this: ``zip (application/zip)``."""


def describe(data: bytes) -> Content:
    """Digests, entropy and file type of some bytes."""
    if (md5 := _elsewhere(data)) is None:
        return Content(digest(data), entropy(data), signature(data))
    # hashes of much data let other threads run: MD5 takes as long as all else that is done here
    sha1, sha256 = _sha1(data), _sha256(data)
    return Content((md5.result(), sha1, sha256), entropy(data), signature(data))


def _elsewhere(data: bytes) -> Future[str] | None:
    """The MD5 of much data, made by another thread; ``None`` for little, and where there is no other thread."""
    if len(data) < _MUCH:
        return None
    try:
        return _thread().submit(_md5, data)
    except RuntimeError:  # the system gives none, or Python ends
        return None


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "digests")


def digest(data: bytes) -> tuple[str, str, str]:
    """MD5, SHA-1 and SHA-256, as hexadecimal digits. They name bytes here, they protect nothing."""
    return _md5(data), _sha1(data), _sha256(data)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entropy(data: bytes) -> float:
    """Shannon's entropy of the byte values, in bits a byte."""
    if not data:
        return 0.0
    counts = [count for count in histogram(data) if count]
    return max(0.0, math.log2(len(data)) - sum(count * math.log2(count) for count in counts) / len(data))


@cache
def library(name: str) -> Any:
    """A library that is loaded when it is first needed (numpy takes as long as all of dissect), or ``None``."""
    try:
        return import_module(name)
    except ImportError:
        return None


def histogram(data: bytes) -> list[int]:
    """How often each byte value occurs."""
    if (np := library("numpy")) is None:  # slower, and right all the same
        counter = Counter(data)
        return [counter[value] for value in range(256)]
    if len(data) < _MUCH:
        return _counts(np, np.frombuffer(data, np.uint8), 256).tolist()
    pairs = _counts(np, np.frombuffer(data, np.uint16, len(data) // 2), 1 << 16).reshape(256, 256)
    counts = pairs.sum(0) + pairs.sum(1)  # whichever byte of a pair comes first
    for value in data[len(data) // 2 * 2 :]:
        counts[value] += 1
    return counts.tolist()


def _counts(np: Any, values: Any, size: int) -> Any:
    counts = np.zeros(size, np.int64)
    step = max(_CHUNK, 8 * size)
    for start in range(0, len(values), step):  # bincount makes eight bytes of each
        counts += np.bincount(values[start : start + step], minlength=size)
    return counts


def signature(data: bytes) -> str | None:
    """The type of a file that starts with these bytes, by the ``filetype`` library; ``None`` if it knows none."""
    if (filetype := library("filetype")) is None:
        return None
    try:
        kind = filetype.guess(data[:_HEAD])
    except Exception:  # bytes of evidence, seen by a library: whatever it trips over, it is no known type
        return None
    return f"{kind.extension} ({kind.mime})" if kind is not None else None
