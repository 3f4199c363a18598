"""The chain: its links, newest first, as one disk."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO, cast

from dissect_sesparse.disk.descriptor import MAX_DESCRIPTOR_SIZE, looks_like_descriptor
from dissect_sesparse.disk.entry import merged
from dissect_sesparse.disk.errors import FileError, LoopError, ParentError
from dissect_sesparse.disk.extent import MissingExtent
from dissect_sesparse.disk.file import EvidenceFile
from dissect_sesparse.disk.folder import Folder, identity
from dissect_sesparse.disk.link import Link, Placed, is_sesparse, link_of_descriptor, link_of_extent, was_sesparse
from dissect_sesparse.disk.lost import candidates_of
from dissect_sesparse.disk.options import Options
from dissect_sesparse.disk.parent import (
    ParentSearch,
    descriptor_of,
    find_parent,
    judge,
    missing_parent,
)
from dissect_sesparse.disk.reader import Reader, Unreadable
from dissect_sesparse.disk.window import Resolver, lane_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.disk.entry import Run

MAX_DEPTH = 255
"""Links of a chain. VMware's maximum is 32."""


class Chain:
    """A disk and its snapshots.

    Threads may read it at the same time. For a file object, see :meth:`open`.

    Args:
        links: Newest first; at least one.
        options: What to do where the evidence leaves a choice.
        missing: Where the last link's parent is missing and ``unreadable=zero``: the error that would have been raised.
    """

    def __init__(self, links: list[Link], options: Options, missing: ParentError | None = None):
        self.links = tuple(links)
        self.options = options
        self.missing_parent = missing
        self.size = links[0].size
        layers = [link.extents for link in links]
        if missing is not None:
            layers.append((Placed(0, self.size, MissingExtent(self.size, str(missing)), len(links)),))
        layers = list(_cut_to_shape(layers))
        self._resolver = Resolver(layers, self.size, lane_size(links, self.size))
        self._reader = Reader(self._resolver, self, zero_unreadable=options.unreadable == "zero")

    @property
    def name(self) -> str:
        """The file name of the newest descriptor, or of the extent that was opened alone."""
        return self.links[0].name

    def open(self) -> BinaryIO:
        """The disk as a file object of its own; open one for each consumer."""
        from dissect_sesparse.disk.stream import ChainStream

        return ChainStream(self)  # type: ignore[return-value]

    def close(self) -> None:
        """Close all files."""
        self._reader.close()
        for link in self.links:
            link.close()

    def __enter__(self) -> Chain:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    # Reading

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a range, cut at the disk's end.

        Raises:
            UnreadableError: If any of them cannot be had (with ``unreadable=zero`` they are zeros).
        """
        end = min(offset + length, self.size)
        return self._reader.read(offset, end) if end > offset >= 0 else b""

    @property
    def unreadable(self) -> Unreadable:
        """What was read as zeros so far because it cannot be had."""
        return self._reader.unreadable

    # Runs

    def runs(self, start: int = 0, length: int | None = None) -> Iterator[Run]:
        """The runs of a range of the disk over the whole chain, without gap or overlap.

        UNALLOCATED runs are holes that no link fills. UNMAPPED ones have the place of their old bytes, if any.
        """
        return merged(self._runs(start, self.size if length is None else min(start + length, self.size)))

    def overlapping(self, start: int, end: int) -> Iterator[Placed]:
        """The extents that have a byte in a range, of the newest link first; each ends where any newer link does."""
        return self._resolver.overlapping(start, end)

    def _runs(self, start: int, end: int) -> Iterator[Run]:
        found: dict[int, int] = {}
        while start < end:
            if (quiet := self._quiet_until(start, end, found)) > start:
                yield from self._resolver.quiet_runs(start, quiet)
                start = quiet
                continue
            window = self._resolver.resolve(start, keep_unmapped=True)
            for run in window.runs():
                first, last = max(run.start, start), min(run.end, end)
                if first < last:
                    place = None if run.place is None else run.place + first - run.start
                    yield run._replace(start=first, length=last - first, place=place)
            start = min(window.end, end)

    def _quiet_until(self, start: int, end: int, found: dict[int, int]) -> int:
        """The end of the range from ``start`` on in which no table has to be asked.

        ``found`` keeps, by extent, the next offset of which it may say anything: to look for it anew at each start would
        read the directory of a large link again and again.
        """
        for layer in self._resolver.layers:
            for placed in layer:
                if placed.end > start and placed.start < end and placed.extent.sparse:
                    first = max(0, start - placed.start)
                    used = found.get(id(placed), -1)
                    if used < start:
                        used = found[id(placed)] = placed.start + placed.extent.next_used(first, end - placed.start)
                    if used < placed.end and not placed.extent.is_lost(first):
                        end = min(end, max(start, used))
        return end


def _cut_to_shape(layers: list[tuple[Placed, ...]]) -> Iterator[tuple[Placed, ...]]:
    """Cut the extents of each link off where a link above it ends: behind that its child has zeros, whatever is below."""
    end = layers[0][-1].end
    for layer in layers:
        end = min(end, layer[-1].end)
        kept = [placed for placed in layer if placed.start < end]
        yield tuple(p if p.end <= end else p._replace(length=end - p.start) for p in kept)


def open_chain(source: Path | str | BinaryIO | list, options: Options | None = None, **keywords: object) -> Chain:
    """Open a disk: the newest descriptor of a chain, or a seSparse extent.

    Args:
        source: A path (also inside an evidence file system), a file object, or a list of which the first is taken. An
            extent whose descriptor lies beside it opens as that descriptor.
        options: Options; without, they are taken from ``keywords`` and the environment.
        keywords: Options by name, see :class:`~dissect_sesparse.disk.options.Options`.

    Raises:
        SESparseError: If it cannot be opened. Nothing else is raised, whatever the evidence holds.
    """
    options = options or Options.collect(keywords)
    file, path = open_source(source)
    try:
        if not is_sesparse(file) and not was_sesparse(path, file.read_some(0, MAX_DESCRIPTOR_SIZE)):
            return _open_descriptor(path, file, options)
        if path is not None and (descriptor := descriptor_of(path)) is not None:
            file.close()
            return _grow(link_of_descriptor(descriptor, 0, options), options)
        return _grow(link_of_extent(file, options), options)
    except BaseException:
        file.close()
        raise


def open_source(source: Path | str | BinaryIO | list) -> tuple[EvidenceFile, Path | None]:
    """The file of what :func:`open_chain` takes, and its path where there is one."""
    if isinstance(source, list):
        if not source:
            raise FileError("an empty list, expected a path or a file object")
        source = source[0]
    if isinstance(source, str):
        source = Path(source)
    if isinstance(source, PurePath):
        return EvidenceFile.open(cast("Path", source)), cast("Path", source)
    path = _path_of(cast("BinaryIO", source))
    return (EvidenceFile.open(path), path) if path is not None else (EvidenceFile(cast("BinaryIO", source)), None)


def _path_of(fh: BinaryIO) -> Path | None:
    """The path of a file of the analyst's disk that was handed in open. A name alone proves nothing."""
    name = getattr(fh, "name", None)
    if not isinstance(fh, (io.FileIO, io.BufferedReader)) or not isinstance(name, str):
        return None
    try:
        return Path(name) if os.path.samestat(os.fstat(fh.fileno()), os.stat(name)) else None
    except (OSError, ValueError):
        return None


def _open_descriptor(path: Path | None, file: EvidenceFile, options: Options) -> Chain:
    if path is None:
        what = "a descriptor" if looks_like_descriptor(file.read_some(0, MAX_DESCRIPTOR_SIZE)) else "no seSparse extent"
        raise FileError(f"{what} in a file object without a folder", file=file.label, expected="its path")
    file.close()
    return _grow(link_of_descriptor(path, 0, options), options)


def _grow(newest: Link, options: Options) -> Chain:
    """Open the links below the newest one, each found by what its child says."""
    links, missing, top = [newest], None, None
    seen = {identity(newest.path)}
    try:
        while (search := _search(links, options, top)) is not None:
            links[-1] = replace(links[-1], parent=search)
            if search.chosen is None:
                missing = missing_parent(search, links[-1].path)
                if options.unreadable != "zero":
                    raise missing
                break
            path = search.chosen.path
            if identity(path) in seen:
                files = ", ".join(link.name for link in links)
                raise LoopError(f"a loop: the parent {path.name} is already in the chain {files}", file=links[-1].path)
            if len(links) == MAX_DEPTH:
                raise LoopError(f"more than {MAX_DEPTH} links", file=newest.path, expected="at most 32 on ESXi")
            seen.add(identity(path))
            # What the newest link may name bounds all that follow; a parent that the user names starts anew.
            top = None if search.chosen.how == "option" else _top(links[-1], top)
            links.append(link_of_descriptor(path, len(links), options, top=top))
        return Chain(links, options, missing)
    except BaseException:
        for link in links:
            link.close()
        raise


def _top(link: Link, top: Path | None) -> Path | None:
    """The highest folder in which a link's parent may be."""
    return top if link.path is None else Folder(link.path.parent, top).top


def _search(links: list[Link], options: Options, top: Path | None) -> ParentSearch | None:
    """Look for the last link's parent; ``None`` if it has none."""
    link = links[-1]
    if link.depth == 0 and options.parent is not None:
        return ParentSearch(link.descriptor, judge("option", options.parent, link.path, link.descriptor))
    if link.descriptor is None:
        return ParentSearch(None, None, candidates_of(link.path, link.size))
    if not link.descriptor.has_parent or link.path is None:
        return None
    return find_parent(Folder(link.path.parent, top), link.path, link.descriptor, [above.path for above in links])
