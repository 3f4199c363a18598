"""One name, one meaning: what the package calls its parts."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import dissect_sesparse

ROOT = Path(dissect_sesparse.__file__).parent
SHARED = {
    "run": "what each command has: cli.py calls it",
    "recover": "cli.py has a function a command, named after it",
    "report": "cli.py has a function a command, named after it",
    "export": "cli.py has a function a command, named after it",
}
"""Names that several modules may define, and why."""

FILE_OBJECTS = {"target/container.py": {"tell"}}
"""What has the method ``tell`` because Python's file objects do."""


def modules() -> dict[str, ast.Module]:
    paths = sorted(ROOT.rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def twice(parsed: dict[str, ast.Module]) -> dict[str, list[str]]:
    """The public classes and functions that more than one module defines."""
    found: dict[str, list[str]] = defaultdict(list)
    for module, tree in parsed.items():
        for node in tree.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
                found[node.name].append(module)
    return {name: places for name, places in found.items() if len(places) > 1}


def test_no_public_name_is_defined_by_two_modules() -> None:
    found = twice(modules())
    assert {name: places for name, places in found.items() if name not in SHARED} == {}
    assert set(SHARED) <= set(found), "an exception that nothing needs"


def test_the_search_finds_a_name_that_two_modules_define() -> None:
    one, other = ast.parse("class Piece: ...\ndef _own(): ..."), ast.parse("def Piece(): ...\ndef _own(): ...")
    assert twice({"a.py": one, "b.py": other}) == {"Piece": ["a.py", "b.py"]}


def names_in(tree: ast.Module) -> set[str]:
    """Every name that a module gives or uses."""
    found = {getattr(node, kind, None) for node in ast.walk(tree) for kind in ("id", "arg", "attr", "name")}
    return {name for name in found if isinstance(name, str)}


def test_no_name_says_tell_where_report_warn_or_known_is_meant() -> None:
    vague = re.compile(r"(^|_)(tells?|told)(_|$)", re.IGNORECASE)
    found = {module: {name for name in names_in(tree) if vague.search(name)} for module, tree in modules().items()}
    assert {module: names for module, names in found.items() if names} == FILE_OBJECTS
