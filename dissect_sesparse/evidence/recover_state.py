"""What a recovery began with: its input files and options, kept in the folder so that only the same goes on there."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from dissect_sesparse.evidence.sparse_file import PARTIAL, OutputFile, RecoverError
from dissect_sesparse.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dissect_sesparse.disk.chain import Chain
    from dissect_sesparse.evidence.inputs import InputFile

NAME = "recover.json"


class State:
    """What was begun in a folder.

    Args:
        path: The file that says so.
        content: What it says.
    """

    def __init__(self, path: Path, content: dict[str, Any]):
        self.path = path
        self._content = content
        self._inputs: dict[str, dict[str, Any]] = {file["path"]: file for file in content["inputs"]}

    @classmethod
    def open(
        cls, folder: Path, inputs: Sequence[InputFile], options: list[dict[str, Any]], others: list[dict[str, Any]]
    ) -> State:
        """Begin in a new or empty folder, or go on with the same in one where it was begun.

        Raises:
            RecoverError: If the folder holds anything else, or the same was begun from other files or otherwise.
        """
        wanted = {
            "version": __version__,
            "options": options,
            "others": others,
            "started": datetime.now(timezone.utc).isoformat(),
            "inputs": [dict(zip(("path", "size", "mtime_ns"), file.key), sha256=None) for file in inputs],
        }
        path = folder / NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found = [entry.name for entry in folder.iterdir() if entry.name != NAME + PARTIAL]
        except OSError as e:
            raise RecoverError(f"cannot be used: {e.strerror or e}", file=folder) from e
        if NAME not in found:
            if found:
                problem = "the folder is not empty, and no recovery was begun in it"
                raise RecoverError(problem, file=folder, expected="a new or empty folder")
            state = cls(path, wanted)
            state._save()
            return state
        state = cls(path, _load(path))
        state._compare(wanted)
        return state

    @property
    def started(self) -> str:
        """When it was begun."""
        return self._content["started"]

    def _compare(self, wanted: dict[str, Any]) -> None:
        """Refuse where something else was begun here."""
        for name in ("version", "options", "others"):
            if self._content.get(name) != wanted[name]:
                told, here = (json.dumps(content.get(name)) for content in (self._content, wanted))
                problem = f"begun with {name} {told}, now it would be {here}"
                raise RecoverError(problem, file=self.path, advice="use another folder")
        for file in wanted["inputs"]:
            begun = self._inputs.pop(file["path"], None)
            if begun is None or (begun["size"], begun["mtime_ns"]) != (file["size"], file["mtime_ns"]):
                what = "was no input file" if begun is None else "had another size or time"
                problem = f"{file['path']} {what} when this was begun"
                raise RecoverError(problem, file=self.path, advice="use another folder")
            file["sha256"] = begun["sha256"]
        if self._inputs:
            problem = f"{next(iter(self._inputs))} was an input file when this was begun, and is none now"
            raise RecoverError(problem, file=self.path, advice="use another folder")
        self._content["inputs"] = wanted["inputs"]
        self._inputs = {file["path"]: file for file in wanted["inputs"]}

    def digest(self, file: InputFile) -> str | None:
        """The SHA-256 of an input file, where it was made before."""
        return self._inputs[file.key[0]]["sha256"]

    def keep(self, file: InputFile) -> None:
        """Keep the SHA-256 of an input file."""
        if self._inputs[file.key[0]]["sha256"] != file.sha256:
            self._inputs[file.key[0]]["sha256"] = file.sha256
            self._save()

    def with_digest(self, file: InputFile) -> InputFile:
        """An input file with what is kept of it."""
        return replace(file, sha256=self.digest(file))

    def _save(self) -> None:
        """Write it anew; the old one stays until the new one is whole."""
        data = json.dumps(self._content, indent=2).encode()
        new = OutputFile(self.path, replaces=True)
        try:
            new.put(0, data)
            new.finish()
        finally:
            new.close()


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict) and isinstance(content.get("inputs"), list) and "started" in content:
            return content
    except (OSError, ValueError) as e:
        raise RecoverError(f"cannot be read: {e}", file=path, advice="use another folder") from e
    raise RecoverError("it says nothing of a recovery", file=path, advice="use another folder")


def refuse_inside(folder: Path, evidence: Sequence[Path]) -> None:
    """Refuse to write into a folder that holds evidence, or below one. Links and other names of a folder are seen through.

    Raises:
        RecoverError: If it is one of them.
    """
    place = folder.resolve()
    for above in (place, *place.parents):
        for held in evidence:
            if above == held.resolve() or (above.exists() and held.exists() and above.samefile(held)):
                problem = f"it is in {held}, which holds evidence"
                raise RecoverError(problem, file=folder, expected="a folder elsewhere")


def options_of(chain: Chain) -> dict[str, Any]:
    """The options that a disk was opened with."""
    return {name: value if isinstance(value, (str, bool, type(None))) else str(value)
            for name, value in asdict(chain.options).items()}  # fmt: skip


def versions() -> dict[str, str]:
    """What ran."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "dissect-sesparse": __version__}
    for package in ("dissect.target", "dissect.cstruct", "dissect.util", "filetype", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
