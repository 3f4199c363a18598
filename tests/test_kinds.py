"""A code, a level or a branch follows from an error's class and kind, never from the words of its message.

Words are for people: they get better, they are translated, and another library's change without a notice.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from target_fixtures import GRAINS, small_chain

import dissect_sesparse
from dissect_sesparse import open_chain
from dissect_sesparse.findings.findings import findings
from dissect_sesparse.source.errors import Kind, SESparseError, UnreadableError
from dissect_sesparse.source.file import EvidenceFile
from dissect_sesparse.source.folder import Folder

PACKAGE = Path(dissect_sesparse.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

WORDS = {"problem", "advice", "message", "args", "strerror", "reason", "why", "__cause__", "__context__"}
"""Attributes that hold words, or an error whose words are looked for."""
NAMES = {"message", "problem", "told", "why", "reason", "advice", "note"}
"""What a variable with words is called in this package."""
METHODS = {"startswith", "endswith", "find", "rfind", "index", "count", "partition", "split", "match"}
SEARCHES = {"match", "search", "fullmatch", "findall", "finditer"}
BY_VALUE = (ast.In, ast.NotIn, ast.Eq, ast.NotEq)


class Words(ast.NodeVisitor):
    """The lines on which something is decided by the words of a message."""

    def __init__(self) -> None:
        self.found: list[int] = []
        self._errors: set[str] = set()

    def has_words(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Attribute):
            return node.attr in WORDS or (node.attr in METHODS | {"lower"} and self.has_words(node.value))
        if isinstance(node, ast.Name):
            return node.id in NAMES
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("str", "repr"):
            return any(self.is_error(arg) for arg in node.args)
        if isinstance(node, ast.Call):
            return self.has_words(node.func)
        if isinstance(node, (ast.JoinedStr, ast.Subscript, ast.BoolOp, ast.FormattedValue)):
            return any(self.has_words(child) or self.is_error(child) for child in ast.iter_child_nodes(node))
        return False

    def is_error(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Attribute):
            return node.attr in WORDS
        return isinstance(node, ast.Name) and (node.id in self._errors or node.id in ("error", "exc", "err"))

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self._errors.add(node.name or "")
        self.generic_visit(node)

    def compares_words(self, a: ast.AST, b: ast.AST) -> bool:
        # What a variable is called proves little: only with a text beside it are its words looked at.
        if isinstance(a, ast.Name) or isinstance(b, ast.Name):
            texts = any(isinstance(side, ast.Constant) and isinstance(side.value, str) for side in (a, b))
            return any(self.has_words(side) and (texts or not isinstance(side, ast.Name)) for side in (a, b))
        return self.has_words(a) or self.has_words(b)

    def visit_Compare(self, node: ast.Compare) -> None:
        pairs = zip([node.left, *node.comparators], node.ops, node.comparators)
        if any(isinstance(op, BY_VALUE) and self.compares_words(a, b) for a, op, b in pairs):
            self.found.append(node.lineno)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute):
            # Split at blanks, and no further: that is how a message gets into one line.
            folded = node.func.attr == "split" and not node.args
            on_words = node.func.attr in METHODS and not folded and self.has_words(node.func.value)
            if on_words or (node.func.attr in SEARCHES and any(map(self.has_words, node.args))):
                self.found.append(node.lineno)
        self.generic_visit(node)


def decided_by_words(source: str) -> list[int]:
    visitor = Words()
    visitor.visit(ast.parse(source))
    return visitor.found


@pytest.mark.parametrize(
    "source",
    [
        "code = 'truncated' if 'file ends' in error.problem else code",
        "if 'No such stream' not in str(error.__cause__): pass",
        "try: pass\nexcept Exception as e:\n    if 'x' in str(e): pass",
        "try: pass\nexcept OSError as e:\n    x = e.args[0] == 'gone'",
        "x = candidate.why == MATCHES",
        "x = told.startswith('table')",
        "x = 'file' in message",
        "x = re.search('x', error.problem)",
        "x = f'{e.problem}' == 'y'",
        "x = error.problem.lower() == 'y'",
    ],
)
def test_the_scan_finds_them(source: str) -> None:
    assert decided_by_words(source)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_is_decided_by_words(path: Path) -> None:
    assert decided_by_words(path.read_text(encoding="utf-8")) == []


# What kinds are for: the same code, whatever the message says


@pytest.fixture
def worded_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """All messages of the family in other words, that were once looked for among them."""
    monkeypatch.setattr(SESparseError, "_message", lambda self: "the file ends, No such stream, its CID matches")


def kind_of(path: Path) -> Kind:
    with pytest.raises(SESparseError) as caught:
        EvidenceFile.open(path)
    return caught.value.kind


def test_files(folder: Path) -> None:
    (folder / "folder").mkdir()
    assert kind_of(folder / "folder") == Kind.IRREGULAR
    assert kind_of(folder / "none") == Kind.MISSING


def test_names(folder: Path) -> None:
    (folder / "folder").mkdir()
    for name, kind in (("folder", Kind.IRREGULAR), ("none", Kind.MISSING), ("/etc/../..", Kind.OUTSIDE)):
        with pytest.raises(SESparseError) as caught:
            Folder(folder).find(name)
        assert caught.value.kind == kind


def test_short_file(folder: Path) -> None:
    path = folder / "short"
    path.write_bytes(b"short")
    file = EvidenceFile.open(path)
    with pytest.raises(UnreadableError) as caught:
        file.read(0, 6)
    file.close()
    assert caught.value.kind == Kind.FILE_ENDS
    assert caught.value.at(None, 0, 1).kind == Kind.FILE_ENDS, "kept where it is seen from the disk"


@pytest.mark.usefixtures("worded_otherwise")
@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (0x4 << 60, "entry-invalid"),
        (0x3 << 60 | ((GRAINS - 1) & 0xFFF) << 48 | (GRAINS - 1) >> 12, "truncated"),
        (0x3 << 60 | 0xFFFFFF, "entry-invalid"),  # outside of the grains' region
    ],
)
def test_codes(folder: Path, entry: int, code: str) -> None:
    chain = small_chain(folder)
    chain.links[-1].extent.set_entry(100, entry)
    with open_chain(chain.write()) as opened:
        assert [finding.code for finding in findings(opened)] == [code]
