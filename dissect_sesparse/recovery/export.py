"""Export disks, as they run and as snapshots froze them, as images that every tool reads.

In the folder, for each disk::

    STEM.raw, STEM.map             the disk as it runs, and what of it could not be had
    STEM@STATE.raw, STEM@STATE.map the same as a snapshot froze it
    STEM.qcow2 and the like        instead, where that was asked for
    manifest.jsonl                 a line for each input file, image, and disk that is left out
    export.json                    what was begun here, so that the same can go on

All of it follows from the evidence: a second run verifies what is there and writes what is not (see ``sparse_file``).
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from dissect_sesparse.recovery.export_image import DIGESTS, ImageExport, WantedImage
from dissect_sesparse.recovery.inputs import changed, folders_of, hashed, input_files
from dissect_sesparse.recovery.json_lines import JsonLines
from dissect_sesparse.recovery.qemu_img import CONVERTED, find_qemu_img
from dissect_sesparse.recovery.safe_name import safe_names, safe_stems
from dissect_sesparse.recovery.sparse_file import OutputFolder, RecoverError
from dissect_sesparse.recovery.state import EXPORT_FILE, RecoveryState, options_of, refuse_around, refuse_inside
from dissect_sesparse.recovery.writing import identities
from dissect_sesparse.source.errors import ParentError, SESparseError
from dissect_sesparse.source.text import logger_of
from dissect_sesparse.time.changes import between

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

log = logger_of(__name__)

MANIFEST = "manifest.jsonl"
FORMATS = ("raw", "qcow2", *CONVERTED)


class WantedDisk(NamedTuple):
    """A disk to export, and which of its states, oldest first."""

    name: str
    images: tuple[WantedImage, ...]


@dataclass(frozen=True)
class ExportOptions:
    """How disks are exported."""

    format: str = "raw"
    """One of :data:`FORMATS`."""
    view: str | None = None
    """``guest`` or ``residual``; by default the one that each disk was opened with."""
    hashes: bool = True
    """Whether to make digests of input files and images."""


@dataclass
class Export:
    """What an export did."""

    folder: Path
    lines: list[dict[str, Any]] = field(default_factory=list)
    """The images, as in the manifest."""
    failed: list[dict[str, Any]] = field(default_factory=list)
    """The images that could not be made, as in the manifest."""
    written: int = 0
    """Bytes that this run wrote; what was there already it verified."""


def export(
    disks: Sequence[WantedDisk],
    folder: Path,
    options: ExportOptions,
    *,
    files: Iterable[Path] = (),
    others: Sequence[Mapping[str, Any]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Export:
    """Write images of disks into a folder, or go on with that, or verify it.

    Args:
        disks: The disks.
        folder: Where to write; made when absent. Not inside a folder that holds evidence.
        options: How.
        files: More files that belong to the evidence, such as the ``.vmx``.
        others: Disks and states that are left out: ``disk`` and ``reason``.
        progress: Gets the number of bytes done and of all, again and again.

    Raises:
        RecoverError: If the folder cannot be used, holds something else, or is full.
        SESparseError: If a file of the evidence cannot be read, or changes meanwhile.
    """
    return _Run(disks, folder, options, files, others, progress).run()


class _Run:
    """One run."""

    def __init__(
        self,
        disks: Sequence[WantedDisk],
        folder: Path,
        options: ExportOptions,
        files: Iterable[Path],
        others: Sequence[Mapping[str, Any]],
        progress: Callable[[int, int], None] | None,
    ):
        chains = {id(image.state.chain): image.state.chain for disk in disks for image in disk.images}
        self.options = options
        self.others = [dict(other) for other in others]
        self.progress = progress
        self.done = self.total = 0
        self.inputs = input_files(chains.values(), files)
        self.out = OutputFolder(folder, identities(file.path for file, _ in self.inputs))
        self.images = list(self._planned(disks))
        self.result = Export(folder)

    def run(self) -> Export:
        if self.options.format in CONVERTED:
            find_qemu_img(self.options.format)
        evidence = folders_of(file for file, _ in self.inputs)
        refuse_inside(self.out.path, evidence)
        refuse_around(self.out.path, evidence)
        state = RecoveryState.open(self.out, [file for file, _ in self.inputs], self._begun(), self.others, EXPORT_FILE)
        self._measure()
        manifest = JsonLines(self.out, MANIFEST)
        try:
            self._inputs(state, manifest)
            for image in self.images:
                self._image(image, manifest)
            for other in self.others:
                manifest.put({"kind": "left-out", **other})
            if names := changed(self.inputs):
                raise RecoverError(f"changed while it was read: {', '.join(names)}", file=self.out.path)
            self._advance(self.total - self.done)
            manifest.finish()
        finally:
            manifest.close()
        self.result.written += manifest.file.written
        return self.result

    def _planned(self, disks: Sequence[WantedDisk]) -> Iterator[ImageExport]:
        """The images in the order in which they are written, each with the one below it."""
        for disk, stem in zip(disks, safe_stems(disk.name for disk in disks)):
            before: list[ImageExport] = []
            names = safe_names(_name_of(image) for image in disk.images)
            for image, name in zip(disk.images, names):
                chain = image.state.chain
                planned = ImageExport(
                    self.out,
                    disk.name,
                    image,
                    stem if image.running else f"{stem}@{name}",
                    self.options.format,
                    self.options.view or chain.options.view,
                    self.options.hashes,
                    self._advance,
                    nearest(image, before) if self.options.format == "qcow2" else None,
                )
                before.append(planned)
                yield planned

    def _begun(self) -> list[dict[str, Any]]:
        """What each image is made of and how; only the same goes on in the folder."""
        return [
            options_of(image.wanted.state.chain)
            | {"view": image.view, "file": image.name, "link": image.wanted.state.name, "hashes": image.hashes}
            for image in self.images
        ]

    def _measure(self) -> None:
        """How many bytes are to be gone through, and whether there is room for them."""
        for image in self.images:
            with _costs_no_other(image):
                self.total += image.measure()
        if self.options.hashes:
            self.total += sum(file.size for file, _ in self.inputs)
        needed = sum(image.held for image in self.images if image.base is None)
        if self.options.format in CONVERTED:  # each is there as a raw image too, until it is converted
            needed += max(image.held for image in self.images)
        free = shutil.disk_usage(self.out.path).free
        if needed > free and {path.name for path in self.out.path.iterdir()} == {EXPORT_FILE}:
            log.warning("%s: %d bytes are free, and the images may need %d", self.out.path, free, needed)

    def _advance(self, more: int) -> None:
        self.done = min(self.done + more, self.total)
        if self.progress is not None:
            self.progress(self.done, self.total)

    def _inputs(self, state: RecoveryState, manifest: JsonLines) -> None:
        """A line for each input file, with its digests: read by this run whatever an earlier one kept."""
        for number, (file, opened) in enumerate(self.inputs):
            if self.options.hashes:
                file = hashed(file, opened, self._advance, DIGESTS)
                state.keep(file)
                self.inputs[number] = (file, opened)
            manifest.put({"kind": "input", **file.as_json()})

    def _image(self, image: ImageExport, manifest: JsonLines) -> None:
        before, line = self.done, None
        if image.base is not None and image.base.failed is not None:
            image.base = None  # what it would be based on is not there, so it is complete
        if image.failed is None:
            with _costs_no_other(image):
                line = image.write()
        self.result.written += image.written
        self._advance(before + image.held - self.done)
        if line is None:
            line = {"kind": "left-out", "disk": image.disk, "file": image.name, "reason": image.failed}
            self.result.failed.append(line)
        else:
            self.result.lines.append(line)
        manifest.put(line)


@contextmanager
def _costs_no_other(image: ImageExport) -> Iterator[None]:
    """What the evidence has wrong for one image costs none of the others; that the output cannot be written ends all."""
    try:
        yield
    except RecoverError:
        raise
    except SESparseError as e:
        image.failed = str(e)


def _name_of(image: WantedImage) -> str:
    """What its file is named after: a state that no list names has the name of a link."""
    return (image.names[0] if image.names else image.state.name).removesuffix(".vmdk")


def nearest(image: WantedImage, others: Sequence[ImageExport]) -> ImageExport | None:
    """The image of another state that the fewest links lie between; one that it is based on before one of a branch."""
    found = []
    for number, other in enumerate(others):
        with suppress(ParentError):  # it is another disk that was at the same node
            ours, theirs = between(other.wanted.state, image.state)
            found.append((len(theirs), len(ours), number))
    return others[min(found)[2]] if found else None
