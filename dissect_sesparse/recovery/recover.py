"""Recover what the guests of some disks trimmed: images for carvers, an index for examiners.

In the folder, for each disk::

    STEM.raw, STEM.map            the old bytes at their addresses, and which those are
    STEM.depthN.raw, .map         those of link N where a newer link has other bytes for the address
    STEM.unreferenced.bin         grains that no entry names, one behind the other
    files/STEM/VOLUME/PATH        deleted files by name, where these are asked for (see ``files``)
    versions/STEM/VOLUME/PATH/    each content that a file had, where these are asked for (see ``versions``)
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

from dissect_sesparse.chain.summary import summaries
from dissect_sesparse.recovery.disk import DiskRecovery, scanned
from dissect_sesparse.recovery.files import FilesRecovery
from dissect_sesparse.recovery.inputs import changed, folders_of, hashed, input_files
from dissect_sesparse.recovery.json_lines import JsonLines
from dissect_sesparse.recovery.own_json import read_json
from dissect_sesparse.recovery.safe_name import safe_stems
from dissect_sesparse.recovery.sparse_file import OutputFile, OutputFolder, RecoverError
from dissect_sesparse.recovery.state import (
    RecoveryState,
    options_of,
    refuse_around,
    refuse_inside,
    versions,
    without_files,
)
from dissect_sesparse.recovery.versions import VersionsRecovery
from dissect_sesparse.recovery.writing import identities, system_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.files.deleted import DeletedFile
    from dissect_sesparse.findings.findings import Finding
    from dissect_sesparse.history.file_versions import FileVersion
    from dissect_sesparse.recovery.own_json import Shape

_PROVEN = ("options", "inputs", "outputs", "disks")
"""What a report must say again when all is verified."""
_OF_FILES = ("deleted_files", "file_versions", "state", "reason")
"""What of a disk may differ once its deleted files are there."""
_LINES = ("manifest.jsonl", "unreferenced.jsonl")
_SHAPE: Shape = {
    "target": str, "started": str, "finished": str, "versions": {...: str}, "options": [dict], "inputs": [dict],
    "outputs": {...: (str, type(None))}, "disks": [dict],
}  # fmt: skip
_REASONS = 10
"""Files that could not be written, of which the report says why."""


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
        """Whether every disk was recovered to its end, and every volume looked at where deleted files are wanted."""
        return all(
            disk["state"] in ("done", "skipped")
            and not any(disk.get(name, {}).get("not_looked_at") for name in ("deleted_files", "file_versions"))
            for disk in self.report["disks"]
        )


@dataclass(frozen=True)
class Source:
    """A disk to recover from."""

    chain: Chain
    notes: tuple[Finding, ...] = ()
    """What its opening told beside what its files tell."""
    files: Callable[[Callable[[str], None]], Iterable[DeletedFile]] | None = None
    """Gets what takes warnings, gives the disk's deleted files; without, none are recovered by name."""
    versions: Callable[[Callable[[str], None]], Iterable[FileVersion]] | None = None
    """Gets what takes warnings, gives each content that files of the disk had; without, none are written."""
    volumes: Callable[[], Iterable[Finding]] = tuple
    """Gives a finding for each volume that is not opened; looking for them reads the disk."""
    machine: str = ""
    """The name of its machine, where there are several and its own would not say which."""

    @property
    def name(self) -> str:
        """What the disk is called."""
        return f"{self.machine}: {self.chain.name}" if self.machine else self.chain.name


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
        self.others = [dict(other) for other in others]
        self.target = target
        self.progress = progress
        self.done = self.total = self.written = 0
        self.inputs = input_files(self.chains, files)
        self.out = OutputFolder(folder, identities(file.path for file, _ in self.inputs))

    def run(self) -> Recovery:
        evidence = folders_of(file for file, _ in self.inputs)
        refuse_inside(self.out.path, evidence)
        refuse_around(self.out.path, evidence)
        state = RecoveryState.open(self.out, [file for file, _ in self.inputs], self._options(), self.others)
        earlier = read_json(self.out, "report.json", _SHAPE)
        if state.adds:
            self._check_outputs(earlier)
            state.begin_adding()
        self._measure()
        self._hash(state)
        report = self._recover(state)
        if names := changed(self.inputs):
            raise RecoverError(f"changed while it was read: {', '.join(names)}", file=self.out.path)
        if earlier is not None and (differing := _differing(earlier, report, adding=state.adding)):
            file = self.out.path / "report.json"
            raise RecoverError(f"{', '.join(differing)}: not what the evidence gives", file=file)
        if earlier is None or state.adding:
            self._write("report.json", json.dumps(report, indent=2) + "\n", replaces=state.adding)
        if state.adding:
            state.end_adding()
        self._advance(self.total - self.done)
        return Recovery(self.out.path, report, self.written, earlier is not None and not self.written)

    def _check_outputs(self, earlier: dict[str, Any] | None) -> None:
        """Before files are added to what an earlier run finished: whether its manifest, which will be replaced, is as it was.

        Raises:
            RecoverError: If not.
        """
        for name, sha256 in (earlier or {"outputs": {}})["outputs"].items():
            if name in _LINES and sha256 != self._sha256(name):
                problem = "it is not what the report of the earlier run says: it was changed since"
                raise RecoverError(
                    problem, file=self.out.path / name, advice="recover into another folder, and compare"
                )

    def _options(self) -> list[dict[str, Any]]:
        """What each disk was opened with, and whether its files are wanted."""
        return [
            options_of(source.chain)
            | ({"files": True} if source.files is not None else {})
            | ({"versions": True} if source.versions is not None else {})
            for source in self.sources
        ]

    def _measure(self) -> None:
        """How many bytes are to be gone through."""
        self.total = sum(file.size for file, _ in self.inputs)
        for chain in self.chains:
            self.total += sum(summary.unmapped for summary in summaries(chain))
            self.total += sum(scanned(extent) for link in chain.links for extent in link.sesparse_extents)

    def _advance(self, more: int) -> None:
        self.done = min(self.done + more, self.total)
        if self.progress is not None:
            self.progress(self.done, self.total)

    def _hash(self, state: RecoveryState) -> None:
        """The digests of all input files, read by this run whatever an earlier one kept: the report vouches for them."""
        for number, (file, opened) in enumerate(self.inputs):
            file = hashed(file, opened, self._advance)
            state.keep(file)
            self.inputs[number] = (file, opened)

    def _recover(self, state: RecoveryState) -> dict[str, Any]:
        disks = []
        manifest, index = (JsonLines(self.out, name, replaces=state.adding) for name in _LINES)
        try:
            for source, stem in zip(self.sources, safe_stems(chain.name for chain in self.chains)):
                disk = DiskRecovery(source.chain, source.notes, self.out, stem, manifest, index, self._advance)
                disks.append(disk.recover())
                self.written += disk.written
                self._files(source, stem, manifest, disks[-1])
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
            "outputs": {name: self._sha256(name) for name in _LINES},
            "disks": [*disks, *self.others],
        }

    def _files(self, source: Source, stem: str, manifest: JsonLines, disk: dict[str, Any]) -> None:
        """Write the files of a disk that are wanted, and what the report says of them."""
        parts: list[FilesRecovery] = []
        if source.files is not None:
            parts.append(FilesRecovery(source.chain, self.out, stem, manifest))
            disk["deleted_files"] = parts[-1].recover(source.files)
        if source.versions is not None:
            parts.append(versions := VersionsRecovery(source.chain, self.out, stem, manifest))
            disk["file_versions"] = versions.recover_versions(source.versions)
        for part in parts:
            self.written += part.written
            if part.unwritten and disk["state"] == "done":
                disk |= {"state": "incomplete", "reason": "; ".join(part.unwritten[:_REASONS])}

    def _write(self, name: str, text: str, *, replaces: bool) -> None:
        file = OutputFile(self.out, name, replaces=replaces)
        try:
            file.put(0, text.encode())
            file.truncate(len(text.encode()))
            file.finish()
        finally:
            file.close()
        self.written += file.written

    def _sha256(self, name: str) -> str | None:
        """Of an output as it is; ``None`` where it is not there."""
        sha256 = hashlib.sha256()
        path = self.out.path / name
        with system_errors(path, "read"):
            fh = self.out.take_up(path, write=False)
            if fh is None:
                return None
            with fh:
                while data := fh.read(1 << 20):
                    sha256.update(data)
        return sha256.hexdigest()


def _differing(earlier: dict[str, Any], report: dict[str, Any], *, adding: bool) -> list[str]:
    """Which parts of an earlier report are not what the evidence gives; but for deleted files, where these are added."""
    report = json.loads(json.dumps(report))
    if adding:
        earlier, report = _without_files(earlier), _without_files(report)
    differing = [name for name in _PROVEN if earlier[name] != report[name]]
    return differing or sorted(set(earlier) ^ set(report))


def _without_files(report: dict[str, Any]) -> dict[str, Any]:
    """A report but for what deleted files change in it."""
    disks = [{name: disk[name] for name in disk if name not in _OF_FILES} for disk in report["disks"]]
    return {**report, "options": without_files(report["options"]), "outputs": None, "disks": disks}
