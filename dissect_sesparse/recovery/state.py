"""What a recovery, or an export, began with: its input files and options, kept in the folder so that only the same goes on there.

What goes on in the folder of an earlier run: the same again, and the same with ``--files``, or with that and
``--all-versions``, which adds them. All else
(other options, disks or files of the evidence, another version, ``--files`` left out again) needs another folder.
"""

from __future__ import annotations

import json
import platform
import re
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from dissect_sesparse.recovery.own_json import JSON_ADVICE, read_json
from dissect_sesparse.recovery.sparse_file import PARTIAL, RecoverError
from dissect_sesparse.recovery.writing import system_errors
from dissect_sesparse.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.recovery.inputs import InputFile
    from dissect_sesparse.recovery.own_json import Shape
    from dissect_sesparse.recovery.writing import OutputFolder

STATE_FILE = "recover.json"
_SHAPE: Shape = {
    "version": str,
    "options": [{...: (str, bool, int, type(None))}],
    "others": [{...: (str, int, type(None))}],
    "started": str,
    "adding": bool,
    "inputs": [{"path": str, "size": int, "mtime_ns": (int, type(None)), "sha256": (str, type(None))}],
}
EXPORT_FILE = "export.json"
_OWN_PARTIAL = re.compile(rf"(.*)\.[0-9a-f]{{32}}{re.escape(PARTIAL)}")
_SHA256 = re.compile("[0-9a-f]{64}")


class RecoveryState:
    """What was begun in a folder.

    Args:
        out: The folder.
        content: What its file says.
        name: Of the file.
    """

    def __init__(self, out: OutputFolder, content: dict[str, Any], name: str = STATE_FILE):
        self._out = out
        self.path = out.path / name
        self._content = content
        self._wanted_options = content["options"]
        self._inputs: dict[str, dict[str, Any]] = {file["path"]: file for file in content["inputs"]}

    @classmethod
    def open(
        cls,
        out: OutputFolder,
        inputs: Sequence[InputFile],
        options: list[dict[str, Any]],
        others: list[dict[str, Any]],
        name: str = STATE_FILE,
    ) -> RecoveryState:
        """Begin in a new or empty folder, or go on with the same in one where it was begun.

        Args:
            out: The folder.
            inputs: The files of the evidence.
            options: What each disk was opened with, and what is wanted of it.
            others: The disks that are left out.
            name: Of the file that says what was begun: of a recovery, or of an export.

        Raises:
            RecoverError: If the folder holds anything else, or the same was begun from other files or otherwise.
        """
        wanted = {
            "version": __version__,
            "options": options,
            "others": others,
            "started": datetime.now(timezone.utc).isoformat(),
            "adding": False,
            "inputs": [dict(zip(("path", "size", "mtime_ns"), file.key), sha256=None) for file in inputs],
        }
        found = _names(out, name)
        if name not in found:
            if found:
                what = "no recovery" if name == STATE_FILE else "no export"
                problem = f"the folder is not empty, and {what} was begun in it"
                raise RecoverError(problem, file=out.path, expected="a new or empty folder")
            state = cls(out, wanted, name)
            state._save()
            return state
        state = cls(out, _load(out, name), name)
        state._compare(wanted)
        return state

    @property
    def started(self) -> str:
        """When it was begun."""
        return self._content["started"]

    @property
    def adding(self) -> bool:
        """Whether deleted files are being added to what an earlier run recovered without: its manifest and its report stay
        until there are new ones.
        """
        return self._content["adding"]

    def begin_adding(self) -> None:
        """Keep that files are added; asked where :meth:`adds`."""
        self._content["options"], self._content["adding"] = self._wanted_options, True
        self._save()

    def end_adding(self) -> None:
        """Keep that what is there has the files."""
        self._content["adding"] = False
        self._save()

    @property
    def adds(self) -> bool:
        """Whether this was begun without deleted files, and now has them."""
        return self._content["options"] != self._wanted_options

    def _compare(self, wanted: dict[str, Any]) -> None:
        """Refuse where something else was begun here."""
        self._wanted_options = wanted["options"]
        begun = self._content["options"]
        fewer = (without_files(wanted["options"]), without_files(wanted["options"], "versions"))
        if begun != wanted["options"] and begun in fewer:
            begun = wanted["options"]
        elif begun != wanted["options"] and wanted["options"] in (
            without_files(begun),
            without_files(begun, "versions"),
        ):
            lacks = "--files" if wanted["options"] == without_files(wanted["options"]) else "--all-versions"
            raise RecoverError(f"begun with {lacks}", file=self.path, advice="give it again, or use another folder")
        for name, found in (
            ("version", self._content["version"]),
            ("options", begun),
            ("others", self._content["others"]),
        ):
            if found != wanted[name]:
                problem = f"begun with {name} {json.dumps(found)}, now it would be {json.dumps(wanted[name])}"
                raise RecoverError(problem, file=self.path, advice="use another folder")
        for file in wanted["inputs"]:
            known = self._inputs.pop(file["path"], None)
            if known is None or (known["size"], known["mtime_ns"]) != (file["size"], file["mtime_ns"]):
                what = "was no input file" if known is None else "had another size or time"
                problem = f"{file['path']} {what} when this was begun"
                raise RecoverError(problem, file=self.path, advice="use another folder")
            file["sha256"] = known["sha256"]
        if self._inputs:
            problem = f"{next(iter(self._inputs))} was an input file when this was begun, and is none now"
            raise RecoverError(problem, file=self.path, advice="use another folder")
        self._content["inputs"] = wanted["inputs"]
        self._inputs = {file["path"]: file for file in wanted["inputs"]}

    def keep(self, file: InputFile) -> None:
        """Keep the SHA-256 of an input file, as this run read it.

        Raises:
            RecoverError: If an earlier run read something else. Nothing rests on what it kept: only what is read counts.
        """
        known = self._inputs[file.key[0]]["sha256"]
        if known not in (None, file.sha256):
            problem = f"it is not the file that was recovered from: its SHA-256 differs from the one in {self.path}"
            raise RecoverError(problem, file=file.path, advice="use another folder")
        if known is None:
            self._inputs[file.key[0]]["sha256"] = file.sha256
            self._save()

    def _save(self) -> None:
        """Write it anew; the old one stays until the new one is whole."""
        with self._out.whole(self.path.name) as fh:
            fh.write(json.dumps(self._content, indent=2).encode())


def without_files(options: Sequence[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    """The options of a recovery but for whether deleted files and all versions are wanted, or those of some names."""
    left_out = names or ("files", "versions")
    return [{name: value for name, value in each.items() if name not in left_out} for each in options]


def _names(out: OutputFolder, own: str) -> set[str]:
    """What is in the folder, which is made where it is not; but for what a run left that was broken off while it wrote.

    Raises:
        RecoverError: If it cannot be used, or there is anything in it that must not be written to.
    """
    with system_errors(out.path, "used"):
        out.path.mkdir(parents=True, exist_ok=True)
        names = {entry.name for entry in out.path.iterdir()}
        for name in sorted(names):
            if (match := _OWN_PARTIAL.fullmatch(name)) is not None and match[1] == own:
                out.remove(out.path / name)
                names.remove(name)
            elif name.endswith(PARTIAL):  # before hours of work, not after
                out.is_there(out.path / name)
    return names


def _load(out: OutputFolder, name: str) -> dict[str, Any]:
    content = read_json(out, name, _SHAPE)
    path = out.path / name
    try:
        datetime.fromisoformat(content["started"])
    except ValueError as e:
        raise RecoverError(
            "not a time", file=path, field="started", value=content["started"], advice=JSON_ADVICE
        ) from e
    for file in content["inputs"]:
        if file["sha256"] is not None and not _SHA256.fullmatch(file["sha256"]):
            raise RecoverError("no digest", file=path, field="sha256", value=file["sha256"], advice=JSON_ADVICE)
    if len({file["path"] for file in content["inputs"]}) != len(content["inputs"]):
        raise RecoverError("an input file is there twice", file=path, advice=JSON_ADVICE)
    return content


def refuse_inside(folder: Path, evidence: Sequence[Path]) -> None:
    """Refuse to write into a folder that holds evidence, or below one, or in place of an archive.

    Links and other names of a folder or file are seen through.

    Raises:
        RecoverError: If it is one of them.
    """
    place = _place(folder)
    for above in (place, *place.parents):
        for held in evidence:
            if _same(above, held):
                problem = f"it is {'' if held.is_file() else 'in '}{held}, which holds evidence"
                raise RecoverError(problem, file=folder, expected="a folder elsewhere")


def refuse_around(folder: Path, evidence: Sequence[Path]) -> None:
    """Refuse to fill a folder that has evidence somewhere below it.

    Raises:
        RecoverError: If it has.
    """
    for held in evidence:
        place = _place(held)
        if any(_same(above, folder) for above in place.parents):
            problem = f"{held}, which holds evidence, lies in it"
            raise RecoverError(problem, file=folder, expected="a folder elsewhere")


def _place(folder: Path) -> Path:
    try:
        return folder.resolve()
    except (OSError, RuntimeError) as e:  # RuntimeError: links in a circle, up to Python 3.12
        raise RecoverError(f"cannot be used: {e}", file=folder) from e


def _same(a: Path, b: Path) -> bool:
    with system_errors(a, "looked at"):
        return a == _place(b) or (a.exists() and b.exists() and a.samefile(b))


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
