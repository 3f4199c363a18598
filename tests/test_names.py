"""One name, one meaning: what the package calls its parts."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import dissect_sesparse

ROOT = Path(dissect_sesparse.__file__).parent
SHARED = {
    "run": "what each command has: cli.py calls it",
    "recover": "cli.py has a function a command, named after it",
    "report": "cli.py has a function a command, named after it",
}
"""Names that several modules may define, and why."""


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
