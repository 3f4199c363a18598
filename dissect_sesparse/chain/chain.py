"""The chain: its links, newest first, as one disk."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO, cast

from dissect_sesparse.chain.link import Link, Placed, is_sesparse, link_of_descriptor, link_of_extent, was_sesparse
from dissect_sesparse.chain.parent import descriptor_of
from dissect_sesparse.chain.reader import Reader, Unreadable
from dissect_sesparse.chain.walk import MAX_DEPTH, Step, Walk
from dissect_sesparse.chain.window import Resolver, Window, lane_size
from dissect_sesparse.extent.base import MissingExtent
from dissect_sesparse.extent.entry import merged
from dissect_sesparse.source.errors import FileError, OptionError
from dissect_sesparse.source.file import MAX_DESCRIPTOR_SIZE, EvidenceFile
from dissect_sesparse.source.folder import Folder
from dissect_sesparse.source.options import Options
from dissect_sesparse.vm.descriptor import looks_like_descriptor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.extent.entry import Run
    from dissect_sesparse.source.errors import ParentError

__all__ = ["MAX_DEPTH", "Chain", "open_chain", "open_source"]


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

    @property
    def named_parent_of(self) -> int | None:
        """The depth of the link whose parent the user named; ``None`` where that of every link was found."""
        named = (link.depth for link in self.links if link.parent is not None and link.parent.is_named)
        return next(named, None)

    @property
    def parent_doubtful(self) -> str | None:
        """What is wrong, where the user named a parent with another CID than its child wants.

        Then nothing vouches for what lies below that link, and no command may end as if all was well.
        """
        doubtful = (link for link in self.links if link.parent is not None and link.parent.is_doubtful)
        return next(
            (f"the parent of {link.name} that parent= names has another CID than it wants" for link in doubtful), None
        )

    def open(self) -> BinaryIO:
        """The disk as a file object of its own; open one for each consumer."""
        from dissect_sesparse.chain.stream import ChainStream

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

    def stretches(self, start: int, end: int) -> Iterator[Run | Window]:
        """The same, not joined where one goes on as the next: by windows, which have millions of runs at once."""
        return self._resolver.stretches(start, end)

    def _runs(self, start: int, end: int) -> Iterator[Run]:
        for stretch in self._resolver.stretches(start, end):
            if isinstance(stretch, Window):
                yield from stretch.runs()
            else:
                yield stretch


def _cut_to_shape(layers: list[tuple[Placed, ...]]) -> Iterator[tuple[Placed, ...]]:
    """Cut the extents of each link off where a link above it ends: behind that its child has zeros, whatever is below."""
    end = layers[0][-1].end
    for layer in layers:
        end = min(end, layer[-1].end)
        kept = [placed for placed in layer if placed.start < end]
        yield tuple(p if p.end <= end else p._replace(length=end - p.start) for p in kept)


def open_chain(
    source: Path | str | BinaryIO | list,
    options: Options | None = None,
    *,
    within: Folder | None = None,
    **keywords: object,
) -> Chain:
    """Open a disk: the newest descriptor of a chain, or a seSparse extent.

    Args:
        source: A path (also inside an evidence file system), a file object, or a list of which the first is taken. An
            extent whose descriptor lies beside it opens as that descriptor.
        options: Options; without, they are taken from ``keywords`` and the environment.
        within: From where evidence names the source: it sets the bound on what its chain may name. Without, it is the
            user who names it, and the bound is that of its own folder.
        keywords: Options by name, see :class:`~dissect_sesparse.source.options.Options`.

    Raises:
        SESparseError: If it cannot be opened. Nothing else is raised, whatever the evidence holds.
    """
    options = options or Options.collect(keywords)
    if options.state is not None:
        raise OptionError(
            "a chain is opened as it is",
            field="option state",
            value=options.state,
            expected="none",
            advice="open the descriptor of that state, or the container",
        )
    file, path = open_source(source)
    try:
        if not is_sesparse(file) and not was_sesparse(path, file.read_some(0, MAX_DESCRIPTOR_SIZE)):
            if path is None:
                raise _without_folder(file)
            file.close()
            return _grow(Walk.of(path, within, options.parent), options)
        folder = None if path is None else within.of(path) if within is not None else Folder(path.parent)
        if path is not None and (descriptor := descriptor_of(path, folder)) is not None:
            file.close()
            return _grow(Walk.of(descriptor, folder, options.parent), options)
        link = link_of_extent(file, options, folder)  # no descriptor names it
        return _grow(Walk(Step(path, None, folder, 0), options.parent, link.size), options, link)
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


def _without_folder(file: EvidenceFile) -> FileError:
    what = "a descriptor" if looks_like_descriptor(file.read_some(0, MAX_DESCRIPTOR_SIZE)) else "no seSparse extent"
    return FileError(f"{what} in a file object without a folder", file=file.label, expected="its path")


def _grow(walk: Walk, options: Options, newest: Link | None = None) -> Chain:
    """Open the links that a walk comes to, each before the next is looked for.

    Args:
        walk: At the newest link.
        options: What to do where the evidence leaves a choice.
        newest: The newest link, where it is open already.
    """
    links: list[Link] = []
    try:
        links.append(newest or link_of_descriptor(walk.step, options))
        while (step := walk.up()) is not None:
            links[-1] = replace(links[-1], parent=walk.search)
            links.append(link_of_descriptor(step, options))
        links[-1] = replace(links[-1], parent=walk.search)
        if walk.missing is not None and options.unreadable != "zero":
            raise walk.missing
        return Chain(links, options, walk.missing)
    except BaseException:
        for link in links:
            link.close()
        raise
