"""A seSparse disk as dissect's container."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dissect.target.container import Container

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.chain.detect import is_ours, newer_links
from dissect_sesparse.findings.findings import Finding, opening_findings
from dissect_sesparse.source.options import Options
from dissect_sesparse.source.text import logger_of
from dissect_sesparse.target.context import URI_OPTIONS, WITHIN
from dissect_sesparse.time.named_state import chain_at

if TYPE_CHECKING:
    from dissect.target.volume import VolumeSystem

log = logger_of(__name__)


class SESparseContainer(Container):
    """VMware ESXi snapshot disks: chains with a seSparse extent, and such extents alone.

    Args:
        fh: The newest descriptor, an extent, a file object of either, or a list that starts with one.
        options: See :class:`~dissect_sesparse.source.options.Options`; they win over those of a ``sesparse://`` URI, and
            these over the environment.

    Raises:
        SESparseError: If the disk cannot be opened.
    """

    __type__ = "sesparse"

    def __init__(self, fh: BinaryIO | Path | list, vs: VolumeSystem | None = None, **options: object):
        wanted = Options.collect(options, URI_OPTIONS.get())
        self.chain = open_chain(fh, replace(wanted, state=None), within=WITHIN.get())
        if wanted.state is not None:
            self.chain = chain_at(self.chain, wanted.state)
        self.stream = self.chain.open()
        self.notes: list[Finding] = []
        """Findings of who opened the disk, beside those of its files."""
        for finding in opening_findings(self.chain):
            log.warning("%s: %s: %s", self.chain.name, finding.code, finding.message)
        super().__init__(fh, self.chain.size, vs)  # type: ignore[arg-type]

    @staticmethod
    def _detect_fh(fh: BinaryIO, original: list | BinaryIO | Path) -> bool:
        parent = URI_OPTIONS.get().get("parent")
        if is_ours(fh, original, WITHIN.get(), Path(parent) if parent else None):
            return True
        _warn_if_older(original)
        return False

    @staticmethod
    def detect_path(path: Path, original: list | Path) -> bool:
        return False  # a name proves nothing

    def read(self, length: int = -1) -> bytes:
        return self.stream.read(length)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()

    def close(self) -> None:
        if "stream" in vars(self):  # Python also closes a disk that could not be opened
            self.stream.close()
            self.chain.close()


def _warn_if_older(original: object) -> None:
    """Say where a disk that is left to dissect's own containers has snapshots: it is not the newest state of the VM."""
    path = original[0] if isinstance(original, list) and original else original
    if not isinstance(path, Path) or path.suffix.lower() != ".vmdk":
        return
    within = WITHIN.get()
    if newer := newer_links(path, within.of(path) if within is not None else None):
        names = ", ".join(link.name for link in newer[:10])
        log.warning("%s: an older state, the guest went on in %s", path.name, names)
