"""The command ``dissect-sesparse``."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest
from dissect.target import container
from target_fixtures import python, tool

from dissect_sesparse import cli
from dissect_sesparse.target import plugin_path, registration
from dissect_sesparse.version import __version__


def test_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith(f"dissect-sesparse {__version__} (")
    assert Path(lines[0].partition("(")[2].rstrip(")")) == Path(cli.__file__).parent
    assert lines[1] == f"python {sys.version.split()[0]}"
    assert [line.split()[0] for line in lines[2:5]] == ["dissect.target", "dissect.cstruct", "dissect.util"]
    assert all(line.split()[1][0].isdigit() for line in lines[2:5])
    assert "registered: yes" in lines


def test_status_without_the_container(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    others = [entry for entry in container.CONTAINERS if registration._name(entry) != "SESparseContainer"]
    monkeypatch.setattr(container, "CONTAINERS", others)
    assert cli.main(["status"]) == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("registered"))
    assert line == "registered: in part: 1 of 11 are missing, see above"


@pytest.mark.slow
def test_status_when_switched_off() -> None:
    done = python("-m", "dissect_sesparse", "status", DISSECT_SESPARSE_AUTOLOAD="0")
    assert "autoload: off: DISSECT_SESPARSE_AUTOLOAD=0" in done.stdout
    assert "registered: no: use --plugin-path, see dissect-sesparse plugin-path" in done.stdout.splitlines()


def test_status_without_autoload(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As after ``pip install --target``: no .pth file is processed there."""
    monkeypatch.delitem(sys.modules, "_dissect_sesparse_autoload", raising=False)
    cli.main(["status"])
    assert "autoload: not installed" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("sys.modules['dissect.target'] = None", "registered: no, dissect.target cannot be used: ModuleNotFoundError"),
        ("raising('dissect.target', AttributeError('of the test'))", "AttributeError: of the test"),
        ("raising('dissect.target', SystemExit(3))", "SystemExit: 3"),
        ("raising('dissect.target.container', ValueError('of the test'))", "ValueError: of the test"),
        ("sys.modules['numpy'] = None", "cannot be imported: ModuleNotFoundError: import of numpy"),
        ("sys.modules['dissect.cstruct'] = None", "dissect.cstruct"),
        ("sys.modules['dissect.util'] = None", "dissect.util"),
        ("raising('dissect_sesparse.target.registration', KeyError('of the test'))", "KeyError: 'of the test'"),
        ("raising('dissect_sesparse.chain.chain', RuntimeError('of the test'))", "registered: in part"),
    ],
)
def test_status_where_something_is_broken(broken: str, said: str) -> None:
    """It answers with the reason, and with 1; no traceback."""
    autoload = "1" if "registration" in broken or "numpy" in broken else "0"
    code = BROKEN + f"{broken}\nfrom dissect_sesparse.cli import main\nsys.exit(main(['status']))"
    done = python("-c", code, check=False, DISSECT_SESPARSE_AUTOLOAD=autoload)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("registered: ")
    assert "registered: yes" not in done.stdout or "numpy" in broken, "which the first disk needs, and not the start"
    assert said in done.stdout
    assert "Traceback" not in done.stderr


BROKEN = """
import sys
class Raising:
    def __init__(self, name, error):
        self.name, self.error = name, error
    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            raise self.error
def raising(name, error):
    sys.meta_path.insert(0, Raising(name, error))
"""


def test_status_where_the_metadata_are_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(metadata, "version", broken)
    monkeypatch.setattr(metadata, "requires", broken)
    assert cli.main(["status"]) == 0
    assert "dissect.util not known: KeyError" in capsys.readouterr().out


def test_status_with_a_package_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert cli.main(["status"]) == 0
    assert "dissect.util not installed" in capsys.readouterr().out


def test_status_in_part(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One name of dissect is gone: the rest is there, and the status says which."""
    from dissect.target.target import Target

    monkeypatch.delattr(Target, "apply")
    assert cli.main(["status"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "container SESparseContainer: yes" in lines
    (line,) = (line for line in lines if line.startswith("Target.apply"))
    assert line.startswith("Target.apply: no, targets have no /$sesparse$: AttributeError: ")
    assert lines[-1] == "registered: in part: 1 of 11 are missing, see above"
    assert cli.main(["status", "--json"]) == 1
    status = json.loads(capsys.readouterr().out)
    assert status["registered"].startswith("in part")
    assert [piece["name"] for piece in status["pieces"] if piece["problem"]] == ["Target.apply"]
    assert status["packages"]["dissect.target"][0].isdigit()


def test_status_names_what_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["status"])
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"numpy", "filetype", "jinja2", "tqdm"} <= set(names)
    assert names.count("dissect.target") == 1


def test_plugin_path(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, nothing else: it is used as "$(dissect-sesparse plugin-path)"."""
    assert cli.main(["plugin-path"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{Path(plugin_path.__file__)}\n"
    assert err == ""


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["status", "too", "many"], ["--no-such-option"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: dissect-sesparse" in err


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_help_and_version(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([option])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "dissect-sesparse" in out
    if option == "--version":
        assert out == f"dissect-sesparse {__version__}\n"
    else:
        assert "status" in out
        assert "plugin-path" in out


@pytest.mark.slow
def test_as_module_and_as_script() -> None:
    """In processes of their own: as they are started, the autoload is seen at work."""
    by_module = python("-m", "dissect_sesparse", "status")
    by_script = tool("dissect-sesparse", "status")
    assert by_module.stdout == by_script.stdout
    assert "registered: yes" in by_script.stdout.splitlines()
    assert any(line.startswith("autoload: on: ") for line in by_script.stdout.splitlines())
    assert by_script.stderr == ""
    assert python("-m", "dissect_sesparse", check=False).returncode == 2
