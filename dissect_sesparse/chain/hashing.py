r"""Digests of files that may be sparse: they cost what a file holds, not what it could hold.

A hole reads as zeros, and a digest of the file has to go through them: hours for the 62 TiB that a thin disk may have. So a
file's own digests are made where its holes are few (:data:`MAX_HOLES`, or :data:`MAX_SHARE` times what it holds); holes are
not read then, but hashed. A file with more of them has none. Instead, for a SHA-256, it gets that of a *list of its blocks*,
which is never called the file's digest: a line ``OFFSET SHA256`` for each MiB of the file, in order, offset in bytes and
decimal, that is not all zeros; the last one, if it is shorter than a MiB, always has a line. The holes' places do not matter,
so that any copy of the file has the same. With ordinary tools::

    split -b 1M --filter=sha256sum FILE | awk '$1 != "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58"
        {printf "%.0f %s\n", (NR - 1) * 1048576, $1}' | sha256sum

where the long number is the SHA-256 of a MiB of zeros.
"""

from __future__ import annotations

import hashlib
from itertools import chain as chained
from typing import TYPE_CHECKING

from dissect_sesparse.chain.side_thread import SideThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dissect_sesparse.source.file import EvidenceFile

HASH_BLOCK = 1 << 20
MAX_HOLES = 32 << 30
"""Bytes of holes that are hashed whatever else the file holds: a minute or less."""
MAX_SHARE = 4
"""So many times the bytes that the file holds its holes may have."""
_ZEROS = bytes(HASH_BLOCK)


class Holes:
    """Where a file has data, as far as the system tells; where it does not, all of it counts as data.

    Args:
        file: The file.
    """

    def __init__(self, file: EvidenceFile):
        self.file = file
        self.held = sum(end - start for start, end in self.data())
        """Bytes that are in no hole."""

    def data(self) -> Iterator[tuple[int, int]]:
        """Start and end of each stretch of data, in order.

        Raises:
            UnreadableError: Behind the last one, if the file has become shorter: that is no hole.
        """
        yield from data_of(self.file)
        self.file.read(max(0, self.file.size - 1), min(1, self.file.size))

    @property
    def size(self) -> int:
        """Bytes of all holes."""
        return self.file.size - self.held

    @property
    def are_few(self) -> bool:
        """Whether a digest of the whole file costs about what the file holds."""
        return few_holes(self.file.size, self.held)


def data_of(file: EvidenceFile) -> Iterator[tuple[int, int]]:
    """Start and end of each stretch of a file that is no hole, in order, as far as the system tells."""
    start = file.next_data(0)
    while start < file.size:
        end = min(max(file.next_hole(start), start + 1), file.size)
        yield start, end
        start = max(file.next_data(end), end)


def few_holes(size: int, held: int) -> bool:
    """Whether a digest of so many bytes costs about what is held of them: the rest are holes."""
    return size - held <= max(MAX_HOLES, MAX_SHARE * held)


class Digests:
    """Several digests of bytes that come one behind the other, each made by a thread of its own.

    Args:
        names: Of the algorithms.
    """

    def __init__(self, names: Sequence[str]):
        self._hashes = [hashlib.new(name, usedforsecurity=False) for name in names]
        self._threads = [SideThread() for _ in names]

    def update(self, data: bytes) -> None:
        """Go on with these bytes, which must not change any more."""
        for one, thread in zip(self._hashes, self._threads):
            thread.do(one.update, data)

    def zeros(self, size: int) -> None:
        """Go on with so many zeros."""
        while size > 0 and self._hashes:
            self.update(_ZEROS if size >= HASH_BLOCK else _ZEROS[:size])
            size -= HASH_BLOCK

    def hexdigests(self) -> tuple[str, ...]:
        """The digests of all that there was."""
        for thread in self._threads:
            thread.wait()
        return tuple(one.hexdigest() for one in self._hashes)

    def close(self) -> None:
        """End the threads."""
        for thread in self._threads:
            thread.close()


def digests(holes: Holes, names: tuple[str, ...], progress: Callable[[int], None] = lambda _: None) -> tuple[str, ...]:
    """Digests of a whole file, its holes included, which are not read.

    Args:
        holes: The file's.
        names: Of the algorithms.
        progress: Gets the number of bytes done, again and again.

    Raises:
        UnreadableError: If it cannot be read to its end.
    """
    made = Digests(names)
    try:
        for data in chunks(holes):
            made.update(data)
            progress(len(data))
        return made.hexdigests()
    finally:
        made.close()


def chunks(holes: Holes) -> Iterator[bytes]:
    """The bytes of a file, at most a MiB at a time; those of holes are zeros that nobody read.

    Raises:
        UnreadableError: If it cannot be read to its end.
    """
    position = 0
    for start, end in chained(holes.data(), [(holes.file.size, holes.file.size)]):
        while position < start:
            size = min(HASH_BLOCK, start - position)
            yield _ZEROS[:size]
            position += size
        while position < end:
            size = min(HASH_BLOCK, end - position)
            yield holes.file.read(position, size)
            position += size


def sha256_of_blocks(holes: Holes, progress: Callable[[int], None] = lambda _: None) -> str:
    """The SHA-256 of the list of a file's blocks, see above.

    Args:
        holes: The file's.
        progress: Gets the number of bytes done, again and again.

    Raises:
        UnreadableError: If it cannot be read to its end.
    """
    file, sha256, position = holes.file, hashlib.sha256(), 0
    for number in _blocks(holes):
        start = number * HASH_BLOCK
        data = file.read(start, min(HASH_BLOCK, file.size - start))
        if data != _ZEROS:
            sha256.update(f"{start} {hashlib.sha256(data).hexdigest()}\n".encode())
        progress(start + len(data) - position)
        position = start + len(data)
    progress(file.size - position)
    return sha256.hexdigest()


def _blocks(holes: Holes) -> Iterator[int]:
    """The numbers of the blocks that have any data, and of the last one if it is shorter; each once, in order."""
    last = -1
    for start, end in holes.data():
        first = max(start // HASH_BLOCK, last + 1)
        yield from range(first, -(-end // HASH_BLOCK))
        last = max(last, -(-end // HASH_BLOCK) - 1)
    if holes.file.size % HASH_BLOCK and last < holes.file.size // HASH_BLOCK:
        yield holes.file.size // HASH_BLOCK
