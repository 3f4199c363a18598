"""What bytes are: digests, entropy, file type."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

_HEAD = 8192
_CHUNK = 1 << 16


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
    return Content(digest(data), entropy(data), signature(data))


def digest(data: bytes) -> tuple[str, str, str]:
    """MD5, SHA-1 and SHA-256, as hexadecimal digits. They name bytes here, they protect nothing."""
    md5, sha1 = hashlib.md5(data, usedforsecurity=False), hashlib.sha1(data, usedforsecurity=False)
    return md5.hexdigest(), sha1.hexdigest(), hashlib.sha256(data).hexdigest()


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
    values = np.frombuffer(data, dtype=np.uint8)
    counts = np.zeros(256, dtype=np.int64)
    for start in range(0, len(values), _CHUNK):  # bincount makes eight bytes of each
        counts += np.bincount(values[start : start + _CHUNK], minlength=256)
    return counts.tolist()


def signature(data: bytes) -> str | None:
    """The type of a file that starts with these bytes, by the ``filetype`` library; ``None`` if it knows none."""
    if (filetype := library("filetype")) is None:
        return None
    try:
        kind = filetype.guess(data[:_HEAD])
    except Exception:  # bytes of evidence, seen by a library: whatever it trips over, it is no known type
        return None
    return f"{kind.extension} ({kind.mime})" if kind is not None else None
