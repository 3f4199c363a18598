"""Every command in ``docs/`` runs, and prints what the page says it prints.

* A fenced block of ``sh`` is run by ``bash -euo pipefail``, the blocks of a page in their order, in one folder, with the
  example VM made before as ``vm/``, and the project as ``dissect-sesparse/``.
* A block of ``text`` right behind it is what it prints: each line is among its lines, in that order; ``...`` stands for
  anything.
* Blocks of ``powershell`` are run by bash as well, with ``/`` for ``\\``; what only Windows has is left out by name.
* Our and dissect's commands in all other blocks (what needs a server or an ESXi host) are read by their real parsers.
"""

from __future__ import annotations

import ast
import gzip
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING, NamedTuple

import dissect.target.plugin  # noqa: F401  # before ours, which it registers when it is imported
import forked_tools
import pytest
from target_fixtures import example_vm  # noqa: F401

from dissect_sesparse import cli
from dissect_sesparse.source.options import CHOICES, PREFIX
from dissect_sesparse.target import records
from dissect_sesparse.target._plugin import SESparsePlugin

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
REFERENCE = DOCS / "reference.md"
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
OURS = re.compile(r"(?:dissect-sesparse|target-\w+|rdump)\b")
WINDOWS_ONLY = re.compile(r"(py|Get-\w+|\$env:\w+|\.venv[/\\]Scripts[/\\](pip|Activate\.ps1))\b")


class Block(NamedTuple):
    """A fenced block."""

    kind: str
    text: str
    shown: str
    """What the page says that it prints."""


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page; the output that is shown belongs to its command."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    end = 0
    for match in BLOCK.finditer(text):
        is_output = match[2] == "text" and found and found[-1].kind == "sh" and not text[end : match.start()].strip()
        if is_output:
            found[-1] = found[-1]._replace(shown=match[3])
        else:
            found.append(Block(match[2], match[3], ""))
        end = match.end()
    return found


def with_kind(*kinds: str) -> list[Path]:
    """The pages with a block of some kinds."""
    return [page for page in PAGES if any(block.kind in kinds for block in blocks(page))]


def name(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


# What stands in for a Splunk and an Elasticsearch


class SplunkTcp(StreamRequestHandler):
    got: list[bytes] = []

    def handle(self) -> None:
        self.got.extend(self.rfile)


class Elastic(BaseHTTPRequestHandler):
    """As much of Elasticsearch as its client wants to see."""

    got: list[bytes] = []

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        lines = [line for line in body.splitlines() if line]
        answer = b'{"version": {"number": "8.15.0"}, "tagline": "You Know, for Search"}'
        if "_bulk" in self.path:
            self.got.extend(lines[1::2])
            items = ",".join('{"index": {"status": 201, "_id": "1"}}' for _ in lines[1::2])
            answer = f'{{"errors": false, "items": [{items}]}}'.encode()
        self.send_response(200)
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_HEAD = _answer

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, int]]:
    """Listeners on this machine: the address that a page names, and the port that stands in for it."""
    started = {
        "localhost:1337": ThreadingTCPServer(("127.0.0.1", 0), SplunkTcp),
        "localhost:9200": ThreadingHTTPServer(("127.0.0.1", 0), Elastic),
    }
    for server in started.values():
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {address: server.server_address[1] for address, server in started.items()}
    for server in started.values():
        server.shutdown()
        server.server_close()


# The commands


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for PATH with dissect's commands and ours, see ``forked_tools``."""
    if not hasattr(os, "fork"):
        pytest.skip("the commands of docs/ are for a POSIX shell; docs/how-to/windows-offline.md says what to change")
    folder = tmp_path_factory.mktemp("tools")
    address = folder / "socket"
    forked_tools.write_commands(folder / "bin", address)
    server = subprocess.Popen(
        [sys.executable, forked_tools.__file__, str(address)], env=_environment(), stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    yield folder / "bin"
    server.kill()
    server.wait()
    server.stdout.close()


def _environment() -> dict[str, str]:
    # Not PYTHONUNBUFFERED: rdump takes its first four bytes for all of a stream that comes in small writes.
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COV", "PYTEST", "DISSECT", "PYTHON"))}
    return {**kept, "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8", "LC_ALL": "C.UTF-8"}


def run(script: str, folder: Path, commands: Path, servers: dict[str, int]) -> str:
    """What a script prints, as if its folder were the root of all."""
    for address, port in servers.items():
        script = script.replace(address, f"127.0.0.1:{port}")
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=_environment() | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    out, err = (text.decode("utf-8", "replace").replace(f"{folder}/", "") for text in (done.stdout, done.stderr))
    assert done.returncode == 0, f"{script}\nended with {done.returncode}\n{out[-4000:]}\n{err[-4000:]}"
    assert "Traceback" not in err, f"{script}\n{err[-4000:]}"
    return out


def check_shown(block: Block, printed: str) -> None:
    """Each line that is shown is printed, in that order."""
    left = iter(printed.splitlines())
    for line in block.shown.splitlines():
        pattern = re.compile(".*".join(map(re.escape, line.split("..."))))
        if line.strip() != "...":
            assert any(pattern.fullmatch(each) for each in left), f"{line!r} is not printed by\n{block.text}\n{printed}"


def made_vm(example_vm: Path, tmp_path: Path) -> Path:  # noqa: F811
    folder = tmp_path / "case"
    shutil.copytree(example_vm.parent, folder / "vm")
    (folder / "dissect-sesparse").symlink_to(ROOT)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", with_kind("sh"), ids=name)
def test_commands(page: Path, example_vm: Path, tmp_path: Path, commands: Path, servers: dict[str, int]) -> None:  # noqa: F811
    """They run, print what is shown, and leave the evidence as it was."""
    folder = made_vm(example_vm, tmp_path)
    for block in blocks(page):
        if block.kind == "sh":
            check_shown(block, run(block.text, folder, commands, servers))
    for path in example_vm.parent.iterdir():
        assert (folder / "vm" / path.name).read_bytes() == path.read_bytes()
    assert len(list((folder / "vm").iterdir())) == len(list(example_vm.parent.iterdir()))


@pytest.mark.slow
@pytest.mark.parametrize("page", with_kind("powershell"), ids=name)
def test_windows_commands(
    page: Path,
    example_vm: Path,  # noqa: F811
    tmp_path: Path,
    commands: Path,
    servers: dict[str, int],
) -> None:
    """With slashes they are a POSIX shell's as well."""
    folder = made_vm(example_vm, tmp_path)
    ran = 0
    for block in blocks(page):
        for line in block.text.splitlines() if block.kind == "powershell" else ():
            if line.strip() and not WINDOWS_ONLY.match(line):
                run(line.replace("\\", "/"), folder, commands, servers)
                ran += 1
    assert ran


def other_commands() -> Iterator[tuple[Path, str]]:
    """Our and dissect's commands in blocks that are not run, and in the lines of prose that are indented as code."""
    for page in PAGES:
        for block in blocks(page):
            if block.kind not in ("sh", "powershell", "python"):
                yield from ((page, line.strip()) for line in block.text.splitlines() if OURS.match(line.strip()))


@pytest.mark.slow
@pytest.mark.parametrize(("page", "line"), list(other_commands()), ids=str)
def test_commands_that_cannot_run_here(page: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their options exist."""
    for command in subcommands():
        monkeypatch.setattr(cli, command.replace("-", "_"), lambda options: 0)
    for part in line.split(" | "):
        tool, *arguments = shlex.split(part, comments=True)
        if tool == "dissect-sesparse":
            assert cli.main(arguments) == 0
            continue
        known = _help_of(tool)
        if "-f" in arguments:
            known += _help_of(tool, "-f", arguments[arguments.index("-f") + 1])
        options = [word.partition("=")[0] for word in arguments if word.startswith("-")]
        assert [option for option in options if not re.search(rf"(?<![\w-]){option}\b", known)] == []


def _help_of(*command: str) -> str:
    path = Path(sys.executable).parent / command[0]
    return subprocess.run([path, *command[1:], "-h"], capture_output=True, text=True, check=True).stdout


def test_the_stand_ins_got_the_records(servers: dict[str, int]) -> None:
    """Runs behind the pages: what was sent to Splunk and Elasticsearch arrived."""
    if not (DOCS / "how-to" / "send-records.md").exists() or not SplunkTcp.got:
        pytest.skip("the page that sends was not run before")
    assert any(b"web01-000001.vmdk" in line for line in SplunkTcp.got)
    assert any(b"web01-000001.vmdk" in line for line in Elastic.got)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links(page: Path) -> None:
    """What a page links to is there, the heading as well."""
    for target in re.findall(r"\]\((?!http)([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        assert to.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", to.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings], target


# The reference holds all that there is, and nothing else


def section(heading: str) -> str:
    """The part of the reference under a heading, to the next of the same or a higher level."""
    text = REFERENCE.read_text(encoding="utf-8")
    found = re.search(rf"^(#+) {re.escape(heading)}$(.*?)(?=^#{{1,2}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no heading {heading!r}"
    if len(found[1]) > 2:
        return re.split(r"^#{3} ", found[2], flags=re.MULTILINE)[0]
    return found[2]


def rows(text: str) -> list[list[str]]:
    """The rows of a section's tables, their cells without the marks of code."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]


def codes_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("descriptor", [r for n, r in sorted(vars(records).items()) if n.endswith("Record")], ids=str)
def test_records_of_the_reference(descriptor) -> None:
    """Each record with all its fields, their types and order."""
    short = descriptor.name.rpartition("/")[2]
    common = [("disk", "string"), ("link", "string"), ("depth", "varint")]
    documented = [(codes_in(row[0])[0], row[1]) for row in rows(section(f"Record `{short}`")) if codes_in(row[0])]
    fields = [(name, kind) for kind, name in descriptor.get_field_tuples()]
    assert fields[2:5] == common, "behind hostname and domain"
    assert documented == fields[5:]


def test_functions_of_the_reference() -> None:
    """Each function with all its options."""
    documented = {codes_in(row[0])[0]: codes_in(row[1]) for row in rows(section("Functions")) if codes_in(row[0])}
    there = {}
    for function in set(SESparsePlugin.__exports__) - {"__call__"}:
        arguments = getattr(getattr(SESparsePlugin, function), "__args__", [])
        there[f"sesparse.{function}"] = sorted(names[-1] for names, _ in arguments)
    assert {function: sorted(options) for function, options in documented.items()} == there


def test_options_of_the_reference() -> None:
    documented = {codes_in(row[0])[0]: row for row in rows(section("Options of a disk")) if codes_in(row[0])}
    assert set(documented) == {*CHOICES, "parent", "state"}
    for option, (default, *_) in CHOICES.items():
        _, variable, values, *_ = documented[option]
        assert codes_in(variable) == [PREFIX + option.upper()]
        assert re.search(r"\*\*`(\w+)`\*\*", values)[1] == str(int(default) if isinstance(default, bool) else default)
        words = [str(int(v) if isinstance(v, bool) else v) for v in CHOICES[option]]
        assert codes_in(values) == words


def subcommands() -> list[str]:
    """The commands of ``dissect-sesparse``."""
    return re.findall(r"^ {4}([a-z][\w-]*)(?: |$)", _help(), re.MULTILINE)


def _help(*arguments: str) -> str:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        cli.main([*arguments, "-h"])
    return out.getvalue()


def test_commands_of_the_reference() -> None:
    """Each command of ``dissect-sesparse`` with all its options, and no other."""
    headings = dict(re.findall(r"^### (`dissect-sesparse ([\w-]+)\b.*)$", REFERENCE.read_text("utf-8"), re.MULTILINE))
    assert sorted(headings.values()) == sorted(subcommands())
    for heading, command in headings.items():
        documented = {option for row in rows(section(heading)) for option in re.findall(r"--[a-z][\w-]*", row[0])}
        there = set(re.findall(r"--[a-z][\w-]*", _help(command))) - {"--help", "--quiet", "--verbose"}
        assert documented == there, command
        assert "Exit code" in section(heading)


LEVELS = ("info", "warning", "error")


def finding_codes() -> dict[str, set[str]]:
    """The code of each finding in the package, and the levels that it is told with, as far as they are written there."""
    classes, trees = {}, []
    for path in (ROOT / "dissect_sesparse").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        trees.append(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
                if fields and getattr(fields[0].target, "id", "") == "code":
                    classes[node.name] = {getattr(f.target, "id", ""): f.value for f in fields}
    found: dict[str, set[str]] = {}
    for tree in trees:
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                _codes_of(function, classes, found)
    return found


def _codes_of(function: ast.FunctionDef, classes: dict[str, dict], found: dict[str, set[str]]) -> None:
    assigned: dict[str, set[str]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            assigned.setdefault(node.targets[0].id, set()).update(_texts(node.value))
    for node in ast.walk(function):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes):
            continue
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        if not given:
            continue
        codes = _texts(given[0]) or assigned.get(getattr(given[0], "id", ""), set())
        levels = set()
        for value in given[1:]:
            levels |= (_texts(value) | assigned.get(getattr(value, "id", ""), set())) & set(LEVELS)
        default = classes[node.func.id].get("level")
        if not levels and default is not None:
            levels = _texts(default)
        for code in codes:
            found.setdefault(code, set()).update(levels)


def _texts(node: ast.AST) -> set[str]:
    """The texts that an expression may be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.IfExp):
        return _texts(node.body) | _texts(node.orelse)
    return set()


@pytest.mark.slow
def test_finding_codes_of_the_reference() -> None:
    """All codes, none missing, none invented, and their levels."""
    there = finding_codes()
    assert {"cid-mismatch", "entry-invalid", "truncated", "host-memory", "orphan-link"} <= set(there)
    documented = {codes_in(row[0])[0]: row for row in rows(section("Findings")) if codes_in(row[0])}
    assert set(documented) == set(there)
    for code, levels in there.items():
        told = {level.strip() for level in documented[code][1].split(",")}
        assert levels <= told <= set(LEVELS), code


def test_tested_versions() -> None:
    """The table has each run of ``.ci/run``, the bounds of ``pyproject.toml``, and the version that is tested right now."""
    table = REFERENCE.read_text(encoding="utf-8").partition("## Tested versions")[2]
    rows = {
        cells[0]: cells[1:] for cells in (re.findall(r"[^|]+", line) for line in table.splitlines()) if len(cells) > 2
    }
    rows = {name.strip(): [cell.strip() for cell in cells] for name, cells in rows.items()}
    runs = re.findall(r"^check_with (\w+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(runs) == 3
    assert {*runs, "main"} == set(rows) - {"run", "---"}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-python = ">={rows["oldest"][0]}"' in project
    assert f"dissect.target>={rows['oldest'][1].rpartition('.')[0]},<4" in project
    installed = [row[1] for row in rows.values() if version("dissect.target").startswith(row[1])]
    assert installed or "dev" in version("dissect.target"), "a version that the table does not have"
