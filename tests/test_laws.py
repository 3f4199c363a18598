"""The laws of docs/architecture.md that are not tested by a file of their own (containment: test_law_containment, codes from
kinds: test_kinds)."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import dissect_sesparse
from dissect_sesparse.extent.base import Extent
from dissect_sesparse.extent.residual import ResidualExtent
from dissect_sesparse.extent.sesparse import SESparseExtent

PACKAGE = Path(dissect_sesparse.__file__).parent
MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py") if "autoload" not in path.parts}
TYPED = {"extent/entry.py", "extent/engine.py", "extent/lane.py"}
"""Where the bits of an entry, of a backmap word and of a lane are known."""
MASKS = {0xFFF, (1 << 48) - 1, (1 << 60) - 1}
SHIFTS = {48, 60}


def numbers(node: ast.AST) -> set[int]:
    """The number that an expression of constants is, if it is one."""
    try:
        value = (
            ast.literal_eval(ast.unparse(node))
            if isinstance(node, ast.Constant)
            else eval(
                compile(ast.Expression(node), "", "eval"),
                {"__builtins__": {}},  # type: ignore[arg-type]
            )
        )
    except Exception:
        return set()
    return {value} if type(value) is int else set()


def masked(path: Path) -> list[int]:
    """The lines that take bits of an entry or a word."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.BinOp) or numbers(node):
            continue
        if isinstance(node.op, (ast.LShift, ast.RShift)) and numbers(node.right) & SHIFTS:
            found.append(node.lineno)
        if isinstance(node.op, ast.BitAnd) and (numbers(node.right) | numbers(node.left)) & MASKS:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("name", sorted(set(MODULES) - TYPED))
def test_law_2_no_one_masks_bits_outside_the_typed_values(name: str) -> None:
    assert masked(MODULES[name]) == []


def test_law_2_bits_are_seen() -> None:
    """If no masks were found anywhere, the law would hold for nothing."""
    assert masked(MODULES["extent/entry.py"])
    assert masked(MODULES["extent/engine.py"])


def test_law_2_tables_are_read_through_the_accessor() -> None:
    """Who asks for the offset of a table, a bit or a word in the file: the accessor, what repairs or checks raw sectors."""
    asking = {name for name, path in MODULES.items() if '["grain_tables"]' in path.read_text(encoding="utf-8")}
    assert asking <= {
        "extent/metadata.py",
        "extent/header.py",
        "repair/rebuild.py",  # the layout that a capacity has
        "repair/replay.py",  # sectors of a journal's records
        "repair/salvage.py",  # which reads lie on a table
        "findings/journals.py",  # where a finding is
        "findings/spare.py",  # what lies behind the tables
    }


def test_law_3_the_extent_knows_no_repair() -> None:
    assert list(inspect.signature(SESparseExtent.__init__).parameters) == ["self", "metadata"]
    for path in (PACKAGE / "extent").glob("*.py"):
        assert "dissect_sesparse.repair" not in path.read_text(encoding="utf-8"), path.name


def test_law_3_a_view_overrides_what_is_shown() -> None:
    """Not a copy of an object with a private field set."""
    assert {name for name in vars(ResidualExtent) if not name.startswith("_")} == {"shown", "find"}
    assert issubclass(ResidualExtent, SESparseExtent)
    assert issubclass(SESparseExtent, Extent)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_law_6_no_mmap_and_one_opener_of_what_is_written(name: str) -> None:
    """Files are opened for writing in one module only; evidence by ``source/file.py``, for reading."""
    text = MODULES[name].read_text(encoding="utf-8")
    assert "import mmap" not in text
    modes = {
        node.args[-1].value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, (ast.Name, ast.Attribute))
        and (node.func.id if isinstance(node.func, ast.Name) else node.func.attr) == "open"
        and node.args
        and isinstance(node.args[-1], ast.Constant)
        and isinstance(node.args[-1].value, str)
    }
    if name not in {"recovery/writing.py", "fleet/lock.py"}:
        assert not {mode for mode in modes if set(mode) & set("wax+") and len(mode) < 4}, modes
