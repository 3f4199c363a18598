"""Recover what the guests of some disks trimmed: images for carvers, an index for examiners.

In the folder, for each disk::

    STEM.raw, STEM.map            the old bytes at their addresses, and which those are
    STEM.depthN.raw, .map         those of link N where a newer link has other bytes for the address
    STEM.unreferenced.bin         grains that no entry names, one behind the other
    files/STEM/VOLUME/PATH        deleted files by name, where these are asked for (see ``recover_files``)
    manifest.jsonl                each unmapped run: source, digest, state, and where its bytes are now
    unreferenced.jsonl            the same for the runs of the ``.bin``
    report.json                   input files, options, versions, counts
    recover.json                  what was begun here, so that the same can go on

All of it follows from the evidence: a second run makes everything once more, verifies what is there and writes what is
not (see ``sparse_file``). Only what is surely the disk's goes into an image: runs that are ``present``, and ``empty`` ones,
which are zeros. The rest is in the manifest alone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from dissect_sesparse.evidence.inputs import changed, folders_of, hashed, input_files
from dissect_sesparse.evidence.json_lines import JsonLines
from dissect_sesparse.evidence.links import summaries
from dissect_sesparse.evidence.recover_disk import DiskRecovery, scanned
from dissect_sesparse.evidence.recover_files import FilesRecovery
from dissect_sesparse.evidence.recover_state import State, options_of, refuse_inside, versions
from dissect_sesparse.evidence.safe_name import safe_stems
from dissect_sesparse.evidence.sparse_file import OutputFile, RecoverError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from dissect_sesparse.disk.chain import Chain
    from dissect_sesparse.evidence.deleted import DeletedFile
    from dissect_sesparse.evidence.findings import Finding

_PROVEN = ("options", "inputs", "outputs", "disks")
"""What a report must say again when all is verified."""


@dataclass(frozen=True)
class Recovery:
    """What a recovery did."""

    folder: Path
    report: dict[str, Any]
    """As in ``report.json``."""
    written: int
    """Bytes that this run wrote; what was there already it verified."""
    verified: bool
    """Whether all was there and whole before."""

    @property
    def complete(self) -> bool:
        """Whether every disk was recovered to its end."""
        return all(disk["state"] in ("done", "skipped") for disk in self.report["disks"])


@dataclass(frozen=True)
class Source:
    """A disk to recover from."""

    chain: Chain
    notes: tuple[Finding, ...] = ()
    """What its opening told beside what its files tell."""
    files: Callable[[Callable[[str], None]], Iterable[DeletedFile]] | None = None
    """Gets what takes warnings, gives the disk's deleted files; without, none are recovered by name."""


def recover(
    disks: Sequence[Chain | Source],
    folder: Path,
    *,
    files: Iterable[Path] = (),
    others: Sequence[Mapping[str, Any]] = (),
    target: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Recovery:
    """Recover all unmapped and unreferenced grains of some disks into a folder, or go on with that, or verify it.

    Args:
        disks: The disks.
        folder: Where to write; made when absent. Not inside a folder that holds evidence.
        files: More files that belong to the evidence, such as the ``.vmx``.
        others: Disks that are not recovered from, as the report has them: ``disk``, ``state`` (failed, skipped), ``reason``.
        target: What the user called all of it: for the report.
        progress: Gets the number of bytes done and of all, again and again.

    Raises:
        RecoverError: If the folder cannot be used, holds something else, or is full.
        SESparseError: If a file of the evidence cannot be read, or changes meanwhile.
    """
    sources = [disk if isinstance(disk, Source) else Source(disk) for disk in disks]
    return _Run(sources, folder, files, others, target, progress).run()


class _Run:
    """One run. Its methods follow one another as in :meth:`run`."""

    def __init__(
        self,
        sources: Sequence[Source],
        folder: Path,
        files: Iterable[Path],
        others: Sequence[Mapping[str, Any]],
        target: str,
        progress: Callable[[int, int], None] | None,
    ):
        self.sources = sources
        self.chains = [source.chain for source in sources]
        self.folder = folder
        self.others = [dict(other) for other in others]
        self.target = target
        self.progress = progress
        self.done = self.total = self.written = 0
        self.inputs = input_files(self.chains, files)

    def run(self) -> Recovery:
        refuse_inside(self.folder, folders_of(file for file, _ in self.inputs))
        options = self._options()
        state = State.open(self.folder, [file for file, _ in self.inputs], options, self.others)
        told = _load(self.folder / "report.json")
        self._measure()
        self._hash(state, anew=told is not None)
        report = self._recover(state)
        if names := changed(self.inputs):
            raise RecoverError(f"changed while it was read: {', '.join(names)}", file=self.folder)
        if told is None:
            self._write(self.folder / "report.json", json.dumps(report, indent=2) + "\n")
        elif differing := [name for name in _PROVEN if told.get(name) != json.loads(json.dumps(report[name]))]:
            raise RecoverError(f"{', '.join(differing)}: not what the evidence gives", file=self.folder / "report.json")
        self._tell(self.total - self.done)
        return Recovery(self.folder, report, self.written, told is not None and not self.written)

    def _options(self) -> list[dict[str, Any]]:
        """What each disk was opened with, and whether its files are wanted."""
        return [
            options_of(source.chain) | ({"files": True} if source.files is not None else {}) for source in self.sources
        ]

    def _measure(self) -> None:
        """How many bytes are to be gone through."""
        self.total = sum(file.size for file, _ in self.inputs)
        for chain in self.chains:
            self.total += sum(summary.unmapped for summary in summaries(chain))
            self.total += sum(scanned(extent) for link in chain.links for extent in link.sesparse_extents)

    def _tell(self, more: int) -> None:
        self.done = min(self.done + more, self.total)
        if self.progress is not None:
            self.progress(self.done, self.total)

    def _hash(self, state: State, *, anew: bool) -> None:
        """The digests of all input files; those of an earlier run that was broken off count, as size and time are same."""
        for number, (file, opened) in enumerate(self.inputs):
            known = state.digest(file)
            if known is not None and not anew:
                self._tell(file.size)
            else:
                file = hashed(file, opened, self._tell)
                if known not in (None, file.sha256):
                    raise RecoverError(
                        "it is not the file that was recovered from: its SHA-256 differs", file=file.path
                    )
                state.keep(file)
            self.inputs[number] = (state.with_digest(file), opened)

    def _recover(self, state: State) -> dict[str, Any]:
        disks = []
        manifest, index = JsonLines(self.folder / "manifest.jsonl"), JsonLines(self.folder / "unreferenced.jsonl")
        try:
            for source, stem in zip(self.sources, safe_stems(chain.name for chain in self.chains)):
                disk = DiskRecovery(source.chain, source.notes, self.folder, stem, manifest, index, self._tell)
                disks.append(disk.recover())
                self.written += disk.written
                if source.files is not None:
                    files = FilesRecovery(source.chain, self.folder, stem, manifest)
                    disks[-1]["deleted_files"] = files.recover(source.files)
                    self.written += files.written
            for lines in (manifest, index):
                lines.finish()
                self.written += lines.file.written
        finally:
            manifest.close()
            index.close()
        return {
            "target": self.target,
            "started": state.started,
            "finished": datetime.now(timezone.utc).isoformat(),
            "versions": versions(),
            "options": self._options(),
            "inputs": [file.as_json() for file, _ in self.inputs],
            "outputs": {name: _sha256(self.folder / name) for name in ("manifest.jsonl", "unreferenced.jsonl")},
            "disks": [*disks, *self.others],
        }

    def _write(self, path: Path, text: str) -> None:
        file = OutputFile(path)
        try:
            file.put(0, text.encode())
            file.truncate(len(text.encode()))
            file.finish()
        finally:
            file.close()
        self.written += file.written


def _load(path: Path) -> dict[str, Any] | None:
    """An earlier report, if there is one.

    Raises:
        RecoverError: If it cannot be read.
    """
    try:
        return json.loads(path.read_bytes()) if path.exists() else None
    except (OSError, ValueError) as e:
        raise RecoverError(f"cannot be read: {e}", file=path, advice="use another folder") from e


def _sha256(path: Path) -> str:
    with path.open("rb") as fh:
        sha256 = hashlib.sha256()
        while data := fh.read(1 << 20):
            sha256.update(data)
    return sha256.hexdigest()
