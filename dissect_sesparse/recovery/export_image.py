"""One image of a disk in one of its states: its file, its map, and its line in the manifest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from dissect_sesparse.chain.hashing import Digests, few_holes
from dissect_sesparse.chain.side_thread import SideThread
from dissect_sesparse.recovery.ddrescue import map_lines, put_map
from dissect_sesparse.recovery.export_read import BLOCK, ROW, DiskBytes, parts
from dissect_sesparse.recovery.inputs import hashed, look_at, name_of
from dissect_sesparse.recovery.qcow2 import CLUSTER, Qcow2File
from dissect_sesparse.recovery.qemu_img import CONVERTED, convert
from dissect_sesparse.recovery.sparse_file import OutputFile
from dissect_sesparse.recovery.writing import system_errors
from dissect_sesparse.time.changes import DiskState, changes
from dissect_sesparse.time.views import view_at
from dissect_sesparse.trimmed.ranges import Ranges
from dissect_sesparse.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.recovery.inputs import InputFile
    from dissect_sesparse.recovery.writing import OutputFolder

DIGESTS = ("md5", "sha1", "sha256")


class WantedImage(NamedTuple):
    """A disk in a state that is to be written."""

    state: DiskState
    names: tuple[str, ...] = ()
    """Of the snapshots that froze it."""
    running: bool = True
    """Whether it is the disk as it runs."""
    notes: tuple[str, ...] = ()
    """What is odd about the state."""


@dataclass
class ImageExport:
    """The export of one image.

    Args:
        folder: Where to.
        disk: What the disk is called.
        wanted: What is to be written.
        stem: The name of the image without its suffix.
        kind: Its format: ``raw``, ``qcow2``, or one that ``qemu-img`` makes.
        view: ``guest`` or ``residual``.
        hashes: Whether to make digests.
        progress: Gets the number of bytes done.
        base: The image below it, which is written already.
    """

    folder: OutputFolder
    disk: str
    wanted: WantedImage
    stem: str
    kind: str
    view: str
    hashes: bool
    progress: Callable[[int], None]
    base: ImageExport | None = None
    written: int = 0
    held: int = 0
    """Bytes of all ranges that may have other bytes than zeros, once :meth:`measure` was called."""
    reason: str | None = None
    """Why the first of what cannot be had cannot."""
    unreadable: Ranges = field(default_factory=Ranges)
    failed: str | None = None
    """Why there is none."""

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.stem}.{self.kind}"

    def chain(self) -> Chain:
        """The disk in its state, of which reads raise where bytes cannot be had."""
        chain = view_at(*self.wanted.state, self.view)
        assert chain is not None  # only below the last link there is none
        return chain

    def measure(self) -> int:
        """Bytes of all ranges that may have other bytes than zeros: no more will be written."""
        chain = self.chain()
        self.held = sum(end - start for start, end in DiskBytes(chain).ranges(0, chain.size))
        return self.held

    def write(self) -> dict[str, Any]:
        """Write it, or go on with that, or verify it; its line in the manifest.

        Raises:
            RecoverError: If it cannot be written, or is whole and not what the evidence gives.
            SESparseError: If the evidence has more that cannot be had than could be listed.
        """
        source, raw = DiskBytes(self.chain()), f"{self.stem}.raw"
        name = raw if self.kind in CONVERTED else self.name
        file = OutputFile(self.folder, name, size=source.chain.size if name == raw else None)
        try:
            content = self._raw(source, file) if name == raw else self._qcow2(source, file)
            file.finish()
        finally:
            file.close()
        if self.kind in CONVERTED:
            self.written += convert(self.folder, raw, self.name, self.kind)
            with system_errors(file.path, "removed"):
                self.folder.remove(file.path)
        else:
            self.written += file.written
        ranges = ((start, end - start) for start, end in self.unreadable)
        lines = map_lines(source.chain.size, ranges, __version__, inside="-", outside="+")
        self.written += put_map(self.folder, f"{self.stem}.map", lines)
        return self._line(source.chain, content)

    # Formats

    def _raw(self, source: DiskBytes, file: OutputFile) -> tuple[str, ...] | None:
        position = 0

        def put(offset: int, data: bytes) -> None:
            nonlocal position
            for start, end in parts(data):
                file.expect_zeros(position, offset + start)
                file.put(offset + start, data[start:end] if end - start < len(data) else data)
                position = offset + end

        content = self._stream(source, ROW, put)
        file.expect_zeros(position, source.chain.size)
        return content

    def _qcow2(self, source: DiskBytes, file: OutputFile) -> tuple[str, ...] | None:
        size = source.chain.size
        if self.base is None:
            image = Qcow2File(file, size)
            content = self._stream(source, CLUSTER, image.data)
            image.finish()
            return content
        image = Qcow2File(file, size, self.base.name)
        below = _Outside(self.base.unreadable, source)
        for start, end in self._changed(self.base.wanted.state, size):
            below.until(start)
            below.skip(end)
            _put_changed(image, source, start, end)
        below.until(size)
        image.finish()
        self._take(source)
        self.reason = self.reason or (self.base.reason if any(self.unreadable) else None)
        return self._stream(DiskBytes(source.chain), ROW, None) if self.hashes else None

    def _changed(self, older: DiskState, size: int) -> Iterator[tuple[int, int]]:
        """Start and end of whole clusters in which something may be other than in an older state; at the end of the disk's."""
        first = last = 0
        for change in changes(older, self.wanted.state):
            start, end = change.offset - change.offset % CLUSTER, change.offset + change.size
            start, end = min(start, size), min(-(-end // CLUSTER) * CLUSTER, size)
            if start > last:
                if first < last:
                    yield first, last
                first = start
            last = max(last, end)
        if first < last:
            yield first, last

    def _stream(self, source: DiskBytes, unit: int, put: Callable[[int, bytes], None] | None) -> tuple[str, ...] | None:
        """Go through a disk, reading, writing and hashing at once; gives the digests of all of its bytes, if these are made."""
        size, position = source.chain.size, 0
        digests = Digests(DIGESTS if self.hashes and few_holes(size, self.held) else ())
        writer = SideThread()
        try:
            for offset, data in source.blocks(0, size, unit):
                digests.zeros(offset - position)
                digests.update(data)
                if put is not None:
                    writer.do(put, offset, data)
                position = offset + len(data)
                self.progress(len(data))
            digests.zeros(size - position)
            writer.wait()
            self._take(source)
            return digests.hexdigests() or None
        finally:
            writer.close()
            digests.close()

    def _take(self, source: DiskBytes) -> None:
        self.unreadable, self.reason = source.unreadable, self.reason or source.reason

    # The line

    def _line(self, chain: Chain, content: tuple[str, ...] | None) -> dict[str, Any]:
        digests = None if content is None else dict(zip(DIGESTS, content))
        file = self._hashed() if self.hashes and (self.kind != "raw" or digests is None) else None
        return {
            "kind": "image",
            "file": self.name,
            "format": self.kind,
            "backing": self.base.name if self.base is not None else None,
            "disk": self.disk,
            "states": list(self.wanted.names),
            "running": self.wanted.running,
            "links": [name_of(link.path) or link.name for link in chain.links],
            "view": self.view,
            "size": chain.size,
            "digest": digests if file is None else file_digests(file),
            "sha256_blocks": file.sha256_blocks if file is not None else None,
            "content": digests,
            "map": f"{self.stem}.map",
            "unreadable": sum(end - start for start, end in self.unreadable),
            "reason": self.reason,
            "doubt": chain.parent_doubtful,
            "notes": list(self.wanted.notes),
            "version": __version__,
        }

    def _hashed(self) -> InputFile:
        return hashed(look_at(self.folder.path / self.name), None, lambda _: None, DIGESTS)


def file_digests(file: InputFile) -> dict[str, str | None] | None:
    """The digests of a file, ``None`` where it has too many holes for them."""
    return {name: getattr(file, name) for name in DIGESTS} if file.sha256 is not None else None


class _Outside:
    """What could not be had of the image below, where an image has nothing of its own: it cannot be had of that one either.

    Args:
        lost: What could not be had below.
        source: Gets it.
    """

    def __init__(self, lost: Ranges, source: DiskBytes):
        self._lost = list(lost)[::-1]
        self._source = source

    def until(self, end: int) -> None:
        """Take what is before an offset."""
        while self._lost and self._lost[-1][0] < end:
            first, last = self._lost.pop()
            self._source.note(first, min(last, end))
            if last > end:
                self._lost.append((end, last))

    def skip(self, end: int) -> None:
        """Leave out what is before an offset."""
        while self._lost and self._lost[-1][0] < end:
            _, last = self._lost.pop()
            if last > end:
                self._lost.append((end, last))


def _put_changed(image: Qcow2File, source: DiskBytes, start: int, end: int) -> None:
    """Put the clusters of a range that something below may have otherwise."""
    if end - start <= BLOCK:
        image.data(start, source.read(start, end))
        return
    position = start
    for offset, data in source.blocks(start, end, CLUSTER):
        image.zeros(position, offset)
        image.data(offset, data)
        position = offset + len(data)
    image.zeros(position, end)
