"""Data flows one way: a module imports only from rooms, and within ``disk`` only from modules, before its own."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import dissect_sesparse
import dissect_sesparse.disk

PACKAGE = Path(dissect_sesparse.__file__).parent
ROOMS = ["disk", "evidence", "page", "target"]
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "autoload" not in path.parts)


def imported(path: Path) -> set[str]:
    """The modules that a file imports when it runs: what only the type checker sees does not count."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return names


def room_of(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "dissect_sesparse" and parts[1] in ROOMS else None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_rooms(path: Path) -> None:
    names = imported(path)
    parts = path.relative_to(PACKAGE).parts
    room = parts[0] if parts[0] in ROOMS else None
    if room is not None:
        later = ROOMS[ROOMS.index(room) + 1 :]
        assert not [name for name in names if room_of(name) in later]
        assert not [name for name in names if name.startswith("dissect_sesparse.c")], "the command line comes last"
    if room != "target":
        allowed = "dissect.target" if room is None else "nothing"
        assert not [n for n in names if n.startswith("dissect.target") and not n.startswith(allowed)]
    assert not [name for name in names if name.startswith("dissect.hypervisor")], "its inner parts are being rewritten"


def test_order_within_disk() -> None:
    """Each module of ``disk`` imports only what its docstring lists before it (``errors`` and ``options`` come first)."""
    listed = re.findall(r"^    (\w+) {2,}", dissect_sesparse.disk.__doc__ or "", re.MULTILINE)
    order = ["errors", "options", *listed]
    modules = {path.stem for path in (PACKAGE / "disk").glob("*.py")} - {"__init__"}
    assert set(order) == modules, "the list tells of all modules and of no other"
    for name in order:
        before = order[: order.index(name)]
        own = [
            n.split(".")[2] for n in imported(PACKAGE / "disk" / f"{name}.py") if n.startswith("dissect_sesparse.disk.")
        ]
        assert set(own) <= {*before, name}, name


def test_the_top_is_what_a_script_needs() -> None:
    assert set(dissect_sesparse.__all__) == {
        "Chain", "Options", "Run", "SESparseError", "State", "UnreadableError", "open_chain",
    }  # fmt: skip
    assert all(hasattr(dissect_sesparse, name) for name in dissect_sesparse.__all__)


def test_dissect_stays_a_namespace() -> None:
    assert not (PACKAGE.parent / "dissect").exists()


def test_imports_are_seen() -> None:
    """If none were found, all of this would hold."""
    file, window = (imported(PACKAGE / "disk" / f"{name}.py") for name in ("file", "window"))
    assert "dissect_sesparse.disk.errors" in file
    assert "dissect_sesparse.disk.lane" in window
    assert "dissect_sesparse.disk.link" not in window, "that is for types only"
