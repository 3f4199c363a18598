"""The scripts of docs/upstream.md: each shows a fault of dissect that is still there, with dissect alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "docs" / "upstream.md").read_text(encoding="utf-8")
SHARED = re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)\n```", TEXT, re.DOTALL)
SCRIPTS = dict(
    re.findall(r"^### ([^\n]+)\n(?:(?!^##).)*?<!-- script -->\n```python\n(.*?)\n```", TEXT, re.DOTALL | re.MULTILINE)
)


def run(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    for name, content in (*SHARED, ("script.py", script)):
        (folder / name).write_text(content + "\n", encoding="utf-8")
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("DISSECT", "PYTHON", "COV"))}
    return subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env=keep | {"DISSECT_SESPARSE_AUTOLOAD": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )


def test_all_are_found() -> None:
    assert len(SCRIPTS) == TEXT.count("<!-- script -->") == TEXT.count("\n### ")
    assert len(SCRIPTS) >= 15
    assert [name for name, _ in SHARED] == ["esx.py", "btrfs_image.py"]
    texts = [*SCRIPTS.values(), *(text for _, text in SHARED)]
    assert "dissect_sesparse" not in "".join(texts), "they need dissect alone"


@pytest.mark.slow
@pytest.mark.parametrize("title", SCRIPTS)
def test_fault_is_still_there(tmp_path: Path, title: str) -> None:
    """One that fails because dissect is right now is good news: then take it out, and update the table of peers."""
    done = run(tmp_path, SCRIPTS[title])
    assert done.returncode == 0, f"fixed upstream? {done.stdout}{done.stderr}"
    wrong, right = done.stdout.splitlines()
    assert wrong.startswith("wrong: ")
    assert right.startswith("right: ")
    assert wrong[7:] != right[7:]
    assert not re.search("ImportError|ModuleNotFoundError|TypeError|NameError", wrong), "an error of the script itself"


def test_a_fix_is_noticed(tmp_path: Path) -> None:
    """What is right ends a script with an error."""
    done = run(tmp_path, 'from esx import show\nshow("zeros", "zeros")')
    assert done.returncode == 1
    assert "dissect is right now" in done.stderr


@pytest.mark.slow
def test_plain_chain_is_right(tmp_path: Path) -> None:
    """The shared file is not to blame: where nothing is odd, dissect reads it right, its links and its holes."""
    script = """
from esx import ALLOCATED, base, delta, grain, name_of, read
base()
delta(entries={3: ALLOCATED, 4100: ALLOCATED | 1 << 48}, grains={0: grain("delta", 3), 1: grain("delta", 4100)})
print([name_of(read("delta.vmdk", number * 4096, 4096)) for number in (2, 3, 4, 4099, 4100)])
"""
    done = run(tmp_path, script)
    assert done.stdout == "['base 2', 'delta 3', 'base 4', 'base 4099', 'delta 4100']\n", done.stderr
