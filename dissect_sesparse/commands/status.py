"""``dissect-sesparse status``: versions, and what of this package dissect uses. It answers whatever else is broken."""

from __future__ import annotations

import json
import os
import re
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dissect_sesparse.commands.output import say
from dissect_sesparse.version import __version__

if TYPE_CHECKING:
    import argparse

_FIRST = ("dissect.target", "dissect.cstruct", "dissect.util")


def run(options: argparse.Namespace) -> int:
    """Print the status. 0: dissect uses all of this package, or it was switched off; 1: something is lacking."""
    registered, pieces, is_broken = _registered()
    autoload = _autoload()
    packages = {name: (_version(name), _import_problem(name)) for name in _packages()}
    versions = {name: f"{version}{problem}" for name, (version, problem) in packages.items()}
    if options.json:
        status = {
            "version": __version__, "folder": str(Path(__file__).parents[1]), "python": sys.version.split()[0],
            "packages": versions, "autoload": autoload, "registered": registered, "pieces": pieces,
        }  # fmt: skip
        for line in json.dumps(status, indent=2).splitlines():
            say(line)
    else:
        say(f"dissect-sesparse {__version__} ({Path(__file__).parents[1]})")
        say(f"python {sys.version.split()[0]}")
        for name, version in versions.items():
            say(f"{name} {version}")
        say(f"autoload: {autoload}")
        for piece in pieces:
            lacks = f"no, {piece['without']}: {piece['problem']}" if piece["problem"] else "yes"
            say(f"{piece['name']}: {lacks}")
        say(f"registered: {registered}")
    is_off = autoload.startswith("off") and not is_broken
    works = registered == "yes" or (is_off and pieces)
    return 0 if works and not any(problem for _, problem in packages.values()) else 1


def _registered() -> tuple[str, list[dict[str, Any]], bool]:
    """Whether dissect has this package; each piece of it: its name, what is lost without it, its problem; if any is broken."""
    try:
        import dissect.target  # noqa: F401

        from dissect_sesparse.target.registration import states

        found = states()
    except (Exception, SystemExit) as e:  # a broken installation raises anything
        return f"no, dissect.target cannot be used: {_one_line(e)}", [], True
    pieces = [{"name": state.name, "without": state.without, "problem": state.problem} for state in found]
    lost = [state for state in found if state.problem]
    is_broken = any(state.is_broken for state in lost)
    if not lost:
        return "yes", pieces, False
    if len(lost) < len(found) or is_broken:
        return f"in part: {len(lost)} of {len(found)} are missing, see above", pieces, is_broken
    return "no: use --plugin-path, see dissect-sesparse plugin-path", pieces, False


def _packages() -> list[str]:
    """The names of what this package needs, by its metadata where there are any."""
    try:
        needed = metadata.requires("dissect-sesparse") or []
    except Exception:  # whatever the folder of the metadata holds
        needed = []
    names = [re.split(r"[^\w.-]", line)[0] for line in needed if "extra ==" not in line]
    names = [re.sub("^dissect-", "dissect.", name) for name in names]  # as its makers write it
    return list(dict.fromkeys([*_FIRST, *names]))


def _version(package: str) -> str:
    try:
        return metadata.version(package) or "without a version"
    except metadata.PackageNotFoundError:
        return "not installed"
    except Exception as e:  # as above
        return f"not known: {type(e).__name__}"


def _import_problem(package: str) -> str:
    try:
        import_module(package.replace("-", "_"))
    except (Exception, SystemExit) as e:  # as above
        return f", cannot be imported: {_one_line(e)}"
    return ""


def _one_line(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _autoload() -> str:
    if os.environ.get("DISSECT_SESPARSE_AUTOLOAD") == "0":
        return "off: DISSECT_SESPARSE_AUTOLOAD=0"
    hook = sys.modules.get("_dissect_sesparse_autoload")
    if hook is None:
        return "not installed: no .pth file was processed"
    return f"on: {getattr(hook, '__file__', None) or 'from memory'}"
