"""The recovery of one disk: its images and its lines in the manifest and the index."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain as chained
from typing import TYPE_CHECKING, Any

from dissect_sesparse.extent.c_sesparse import GRAIN_SIZE
from dissect_sesparse.findings.findings import findings
from dissect_sesparse.recovery.ddrescue import Coverage, map_lines, put_map
from dissect_sesparse.recovery.inputs import name_of
from dissect_sesparse.recovery.sparse_file import OutputFile, RecoverError
from dissect_sesparse.source.errors import SESparseError
from dissect_sesparse.source.file import SECTOR
from dissect_sesparse.trimmed.content import describe
from dissect_sesparse.trimmed.unmapped import STATES, unmapped
from dissect_sesparse.trimmed.unmapped import Counts as UnmappedCounts
from dissect_sesparse.trimmed.unreferenced import SkippedGrains, unreferenced
from dissect_sesparse.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.extent.sesparse import SESparseExtent
    from dissect_sesparse.findings.findings import Finding
    from dissect_sesparse.recovery.json_lines import JsonLines
    from dissect_sesparse.recovery.writing import OutputFolder
    from dissect_sesparse.trimmed.unmapped import UnmappedRun
    from dissect_sesparse.trimmed.unreferenced import UnreferencedRun

_IN_IMAGE = ("present", "empty")


@dataclass
class _Image:
    """An image, and what of it was recovered."""

    file: OutputFile
    recovered: Coverage


@dataclass
class DiskRecovery:
    """The recovery of one disk."""

    chain: Chain
    notes: Sequence[Finding]
    folder: OutputFolder
    stem: str
    manifest: JsonLines
    index: JsonLines
    progress: Callable[[int], None]
    written: int = 0
    images: dict[int | None, _Image] = field(default_factory=dict)
    """The disk's image, and by the depth of its link each that holds what had no room in it."""
    runs: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)

    def recover(self) -> dict[str, Any]:
        """Write its images and its lines; what the report says of it."""
        trimmed, loose = UnmappedCounts(), SkippedGrains()
        doubt = self.chain.parent_doubtful
        state, reason = ("done", None) if doubt is None else ("incomplete", doubt)
        bin_file = None
        try:
            self._image(None)
            bin_file = OutputFile(self.folder, f"{self.stem}.unreferenced.bin")
            try:
                for run in unmapped(self.chain, contents=False, counts=trimmed):
                    self._unmapped(run)
                self._all_unreferenced(bin_file, loose)
                found = [_finding(finding) for finding in chained(self.notes, findings(self.chain))]
            except RecoverError:
                raise
            except SESparseError as e:  # what there is of it stays, and the report says that it is not all
                state, reason, found = "incomplete", str(e), []
            files = self._finish(bin_file)
        finally:
            for file in [bin_file, *(image.file for image in self.images.values())]:
                if file is not None:
                    file.close()
        return {
            "disk": self.chain.name,
            "path": name_of(self.chain.links[0].path),
            "size": self.chain.size,
            "state": state,
            "reason": reason,
            "files": files,
            "unmapped": {name: self._count(name) for name in STATES},
            "unmapped_unreadable": trimmed.unreadable,
            "never_mapped": trimmed.never_mapped,
            "unreferenced": {name: self._count(name) for name in ("backmap", "free")},
            "unreferenced_zero_grains": loose.zero_grains,
            "unreferenced_unreadable_grains": loose.unreadable_grains,
            "findings": found,
        }

    def _count(self, state: str) -> dict[str, int]:
        return {"runs": self.runs[state], "bytes": self.sizes[state]}

    def _size(self, depth: int | None) -> int:
        """Bytes of the disk's image, or of a link's own: an older link may be larger."""
        return self.chain.size if depth is None else max(self.chain.size, self.chain.links[depth].size)

    def _image(self, depth: int | None) -> _Image:
        if depth not in self.images:
            name = f"{self.stem}.raw" if depth is None else f"{self.stem}.depth{depth}.raw"
            size = self._size(depth)
            file = OutputFile(self.folder, name, size=size)
            self.images[depth] = _Image(file, Coverage(unit_of(self.chain, size)))
        return self.images[depth]

    # Unmapped

    def _unmapped(self, run: UnmappedRun) -> None:
        self.runs[run.state] += 1
        self.sizes[run.state] += run.size
        if run.state not in _IN_IMAGE:
            self._line(run, 0, run.size, run.read() if run.state == "contested" else None, None)
        else:
            data, main = run.read(), self.images[None]
            inside = max(0, min(run.size, self.chain.size - run.offset))
            pieces = list(main.recovered.split(run.offset, inside)) if inside else []
            if inside < run.size:  # an older link may be larger than the disk
                pieces.append((run.offset + inside, run.size - inside, True))
            for offset, size, taken in pieces:
                self._piece(run, offset - run.offset, data[offset - run.offset :][:size], taken=taken)
        self.progress(run.size)

    def _piece(self, run: UnmappedRun, skip: int, data: bytes, *, taken: bool) -> None:
        """Put bytes into the disk's image; where a newer link has other ones there, into the link's own."""
        image, offset = self.images[None], run.offset + skip
        if taken and image.file.read(offset, len(data)) != data:
            image = self._image(run.link.depth)
        if not taken or image is not self.images[None]:
            image.file.put(offset, data)
            image.recovered.add(offset, len(data))
        self._line(run, skip, len(data), data, image.file.path.name)

    def _line(self, run: UnmappedRun, skip: int, size: int, data: bytes | None, file: str | None) -> None:
        fields = {
            "disk": self.chain.name,
            "link": run.link.name,
            "depth": run.link.depth,
            "offset": run.offset + skip,
            "size": size,
            "source": name_of(run.extent.file.label),
            "source_offset": None if run.place is None else run.place + skip,
            "state": run.state,
            "parent_state": run.parent_state,
            "digest": None,
            "entropy": None,
            "signature": None,
            "after": run.after and run.after.isoformat(),
            "before": run.before and run.before.isoformat(),
            "file": file,
            "file_offset": None if file is None else run.offset + skip,
        }
        _put(self.manifest, fields, data)

    # Unreferenced

    def _all_unreferenced(self, file: OutputFile, counts: SkippedGrains) -> None:
        position = reported = 0
        starts, before = {}, 0
        for link in self.chain.links:
            for extent in link.sesparse_extents:
                starts[extent], before = before, before + scanned(extent)
        for run in unreferenced(self.chain, contents=False, counts=counts):
            data = run.read()
            file.put(position, data)
            self._unreferenced(run, data, file.path.name, position)
            position += len(data)
            here = starts[run.extent] + run.place + run.size - run.extent.metadata.grains_offset
            self.progress(here - reported)
            reported = here
        self.progress(before - reported)
        file.truncate(position)

    def _unreferenced(self, run: UnreferencedRun, data: bytes, file: str, position: int) -> None:
        self.runs[run.state] += 1
        self.sizes[run.state] += run.size
        fields = {
            "disk": self.chain.name,
            "link": run.link.name,
            "depth": run.link.depth,
            "source": name_of(run.extent.file.label),
            "source_offset": run.place,
            "size": run.size,
            "offset": run.offset,
            "state": run.state,
            "digest": None,
            "entropy": None,
            "signature": None,
            "file": file,
            "file_offset": position,
        }
        _put(self.index, fields, data)

    # The end

    def _finish(self, bin_file: OutputFile) -> dict[str, Any]:
        """Give all files their names; the maps last, so that none is there without its image."""
        for depth, image in self.images.items():
            position = 0
            for offset, size in chained(image.recovered.ranges(self._size(depth)), [(self._size(depth), 0)]):
                image.file.expect_zeros(position, offset)
                position = offset + size
        for file in [bin_file, *(image.file for image in self.images.values())]:
            file.finish()
            self.written += file.written
        for depth, image in self.images.items():
            size, name = self._size(depth), image.file.path.with_suffix(".map").name
            lines = map_lines(size, image.recovered.ranges(size), __version__)
            self.written += put_map(self.folder, name, lines)
        older = [image.file.path.name for depth, image in self.images.items() if depth is not None]
        return {"image": f"{self.stem}.raw", "older": older, "unreferenced": bin_file.path.name}


def unit_of(chain: Chain, size: int) -> int:
    """Bytes of which all pieces of an image are multiples, but at its end: a grain, or a sector where any extent or the
    disk itself begins or ends within a grain.

    Args:
        chain: The disk.
        size: Bytes of the image: of the disk, or of an older link that is larger.
    """
    bounds = {chain.size, *(at for link in chain.links for placed in link.extents for at in (placed.start, placed.end))}
    return SECTOR if any(at % GRAIN_SIZE for at in bounds if at < size) else GRAIN_SIZE


def scanned(extent: SESparseExtent) -> int:
    """Bytes of an extent that are looked through for unreferenced grains."""
    return extent.metadata.place_limit * GRAIN_SIZE


def _put(lines: JsonLines, fields: dict[str, Any], data: bytes | None) -> None:
    lines.put(fields if data is None else fields | _content(data))


def _content(data: bytes) -> dict[str, Any]:
    content = describe(data)
    return {**content._asdict(), "digest": dict(zip(("md5", "sha1", "sha256"), content.digest))}


def _finding(finding: Finding) -> dict[str, Any]:
    return {**vars(finding), "source": name_of(finding.source)}
