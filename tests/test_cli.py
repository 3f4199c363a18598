"""The command ``dissect-sesparse``."""

from __future__ import annotations

import sys
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


def test_status_when_not_registered(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it says what to do."""
    others = [entry for entry in container.CONTAINERS if registration._name(entry) != "SESparseContainer"]
    monkeypatch.setattr(container, "CONTAINERS", others)
    cli.main(["status"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("registered"))
    assert line.startswith("registered: no")
    assert "plugin-path" in line


def test_status_when_switched_off() -> None:
    done = python("-m", "dissect_sesparse", "status", DISSECT_SESPARSE_AUTOLOAD="0")
    assert "autoload: off: DISSECT_SESPARSE_AUTOLOAD=0" in done.stdout
    assert "registered: no" in done.stdout


def test_status_without_autoload(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As after ``pip install --target``: no .pth file is processed there."""
    monkeypatch.delitem(sys.modules, "_dissect_sesparse_autoload", raising=False)
    cli.main(["status"])
    assert "autoload: not installed" in capsys.readouterr().out


def test_status_without_dissect(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> bool:
        raise ImportError("no dissect.target here")

    monkeypatch.setattr(registration, "is_registered", broken)
    assert cli.main(["status"]) == 1
    assert "no dissect.target here" in capsys.readouterr().out


def test_status_with_a_package_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(cli, "version", version)
    assert cli.main(["status"]) == 0
    assert "dissect.util not installed" in capsys.readouterr().out


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


def test_as_module_and_as_script() -> None:
    """In processes of their own: as they are started, the autoload is seen at work."""
    by_module = python("-m", "dissect_sesparse", "status")
    by_script = tool("dissect-sesparse", "status")
    assert by_module.stdout == by_script.stdout
    assert "registered: yes" in by_script.stdout.splitlines()
    assert any(line.startswith("autoload: on: ") for line in by_script.stdout.splitlines())
    assert by_script.stderr == ""
    assert python("-m", "dissect_sesparse", check=False).returncode == 2
