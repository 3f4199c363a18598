"""The house: which room may import from which, and how large a room, a module and a function may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import dissect_sesparse

PACKAGE = Path(dissect_sesparse.__file__).parent
ROOMS = [
    "source", "vm", "extent", "repair", "chain", "time", "trimmed", "extfs", "xfs", "ntfs", "findings", "files", "timeline",
    "history",
    "recovery", "report", "target", "commands", "fleet",
]  # fmt: skip
"""In their order: each imports only from itself and from those before it."""
KNOW_DISSECT = {"files", "history", "target", "commands", "fleet"}
"""The rooms that may import ``dissect.target``."""
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "autoload" not in path.parts)
MAX_MODULE_LINES = 350
MAX_FUNCTION_LINES = 45
MAX_ROOM_SHARE = 0.2


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> set[str]:
    """The modules that a file imports, also those that only the type checker sees."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def room_of(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "dissect_sesparse" and parts[1] in ROOMS else None


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_rooms(path: Path) -> None:
    names = imported(path)
    room = path.relative_to(PACKAGE).parts[0]
    if room in ROOMS:
        later = ROOMS[ROOMS.index(room) + 1 :]
        assert not [name for name in names if room_of(name) in later]
        if room not in KNOW_DISSECT:
            assert not [name for name in names if name.startswith("dissect.target")]
    assert not [name for name in names if name.startswith("dissect.hypervisor")], "its inner parts are being rewritten"


def test_every_module_is_in_a_room() -> None:
    outside = {name_of(path) for path in MODULES if path.relative_to(PACKAGE).parts[0] not in ROOMS}
    assert outside == {"__init__.py", "__main__.py", "cli.py", "version.py"} & outside


def test_no_circle_of_imports() -> None:
    """Also none that only the type checker sees, within a room."""
    modules = {f"dissect_sesparse.{name_of(path)[:-3].replace('/', '.')}": path for path in MODULES}
    graph = {
        name: {found for found in (of(imp, modules) for imp in imported(path)) if found and found != name}
        for name, path in modules.items()
        if not name.endswith("__init__")
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above[above.index(name) :], name])
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def of(name: str, modules: dict[str, Path]) -> str | None:
    """The module of ours that an imported name is, or is in."""
    return name if name in modules else name.rpartition(".")[0] if name.rpartition(".")[0] in modules else None


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_and_no_function_outgrows_its_screen(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= MAX_MODULE_LINES
    for node in ast.walk(parsed(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION_LINES, node.name


def test_no_room_is_a_heap() -> None:
    lines = {room: 0 for room in ROOMS}
    for path in MODULES:
        if (room := path.relative_to(PACKAGE).parts[0]) in ROOMS:
            lines[room] += path.read_text(encoding="utf-8").count("\n")
    assert all(lines.values())
    assert max(lines.values()) <= MAX_ROOM_SHARE * sum(lines.values()), lines


def test_the_top_is_what_a_script_needs() -> None:
    assert set(dissect_sesparse.__all__) == {
        "Chain", "Options", "Run", "SESparseError", "State", "UnreadableError", "open_chain",
    }  # fmt: skip
    assert all(hasattr(dissect_sesparse, name) for name in dissect_sesparse.__all__)


def test_dissect_stays_a_namespace() -> None:
    assert not (PACKAGE.parent / "dissect").exists()


def test_imports_are_seen() -> None:
    """If none were found, all of this would hold."""
    names = imported(PACKAGE / "chain" / "window.py")
    assert "dissect_sesparse.extent.lane.split" in names
    assert "dissect_sesparse.chain.link.Placed" in names, "which is for types only"
