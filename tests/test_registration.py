"""How dissect gets to know this package: by the autoload files, by ``--plugin-path``, by hand; once, and in any order."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
import textwrap
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import target_fixtures
from dissect.target import container, filesystem, loader, plugin
from dissect.target.target import DiskCollection, VolumeCollection
from target_fixtures import ROOT, python, tool

import dissect_sesparse
from dissect_sesparse.target import plugin_path, registration

example_vm = target_fixtures.example_vm
AUTOLOAD = ROOT / "dissect_sesparse" / "target" / "autoload"

REPORT = """
import json, sys
from dissect.target import container, loader, plugin
from dissect.target.target import DiskCollection, VolumeCollection
names = [vars(entry).get("_attr") or entry.__name__ for entry in container.CONTAINERS]
print(json.dumps({
    "first": names[0],
    "count": names.count("SESparseContainer"),
    "loaders": [vars(entry).get("_attr") for entry in loader.LOADERS].count("SESparseVmLoader"),
    "scheme": "sesparse" in loader.LOADERS_BY_SCHEME,
    "functions": sorted(name for name in plugin.PLUGINS.__functions__.__regular__ if name.startswith("sesparse.")),
    "isolated": all(hasattr(c.apply, "__dissect_sesparse__") for c in (DiskCollection, VolumeCollection)),
    "hooks": [type(finder).__module__ for finder in sys.meta_path if "sesparse" in type(finder).__module__],
}))
"""


def report(code: str, **environment: str) -> dict:
    """What a fresh Python says of dissect's registries after it has run some code."""
    done = python("-c", textwrap.dedent(code) + REPORT, **environment)
    assert done.stderr == ""
    return json.loads(done.stdout.splitlines()[-1])


def assert_registered_once(found: dict) -> None:
    assert found["first"] == "SESparseContainer"
    assert found["count"] == 1
    assert found["loaders"] == 1
    assert found["scheme"]
    assert {"sesparse.chain", "sesparse.findings", "sesparse.map"} <= set(found["functions"])
    assert len(found["functions"]) == len(set(found["functions"]))
    assert found["isolated"]


@pytest.fixture(scope="module", autouse=True)
def _needs_installed_package() -> None:
    if not has_autoload():
        pytest.skip("the package is not installed with its .pth file: pip install -e .")


def has_autoload() -> bool:
    return "_dissect_sesparse_autoload" in sys.modules


# In this process


def container_names() -> list[str]:
    return [registration._name(entry) for entry in container.CONTAINERS]


def test_registered_first() -> None:
    assert container_names()[0] == "SESparseContainer"
    assert container_names().count("SESparseContainer") == 1
    assert "VmdkContainer" in container_names()
    assert registration.is_registered()


def registries() -> list[object]:
    return [
        list(container.CONTAINERS),
        list(loader.LOADERS),
        dict(loader.LOADERS_BY_SCHEME),
        sorted(str(function) for function in plugin.functions()),
        DiskCollection.apply,
        VolumeCollection.apply,
        filesystem.open,
    ]


def test_again_changes_nothing() -> None:
    registration.register()  # a plugin that another test asked for may have come in since
    before = registries()
    registration.register()
    assert registries() == before


def test_plugin_path_file_executed_twice() -> None:
    """dissect may execute the file of ``--plugin-path`` more than once."""
    before = registries()
    for _ in range(2):
        runpy.run_path(plugin_path.__file__)
    assert registries() == before


def test_not_registered_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [entry for entry in container.CONTAINERS if registration._name(entry) != "SESparseContainer"]
    monkeypatch.setattr(container, "CONTAINERS", others)
    assert not registration.is_registered()


def test_registers_after_it_was_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [entry for entry in container.CONTAINERS if registration._name(entry) != "SESparseContainer"]
    monkeypatch.setattr(container, "CONTAINERS", list(others))
    registration.register()
    assert container_names() == ["SESparseContainer", *[registration._name(entry) for entry in others]]


def test_loaders_are_imported_when_needed() -> None:
    """Start-up does not pay for them, nor for the container and what it needs."""
    code = """
    import dissect.target, sys
    from dissect.target import container, loader
    print([name for name in ("container", "loader", "vm") if f"dissect_sesparse.target.{name}" in sys.modules])
    """
    assert python("-c", textwrap.dedent(code)).stdout.strip() == "[]"


@pytest.mark.slow
def test_no_disk_no_numpy() -> None:
    """A tool that opens no disk of ours loads nothing that takes long: no numpy, no reader."""
    code = """
    import sys, dissect.target.tools.query
    from dissect.target import container
    from dissect.target.plugin import plugins
    list(plugins())
    ours = sorted(name.split(".", 1)[1] for name in sys.modules if name.startswith("dissect_sesparse."))
    print("numpy" in sys.modules, [name for name in ours if name.startswith(("chain", "extent", "repair", "findings"))])
    """
    assert python("-c", textwrap.dedent(code)).stdout.strip() == "False []"


def test_single_cold_grains_need_no_numpy(example_vm: Path) -> None:
    """Opening a chain and reading one block of it asks for three small reads a link, and decodes no table."""
    code = """
    import sys
    from dissect_sesparse import open_chain
    with open_chain(sys.argv[1]) as chain:
        fh = chain.open()
        fh.seek(1 << 20)  # from the disk's start on, a read may be the first of many
        print(len(chain.links), len(fh.read(512)), "numpy" in sys.modules)
        list(chain.runs())
        print("numpy" in sys.modules)
    """
    newest = max(example_vm.parent.glob("*-00000?.vmdk"))
    links, size, *loaded = python("-c", textwrap.dedent(code), newest).stdout.split()
    assert int(links) > 1
    assert (size, loaded) == ("512", ["False", "True"])


def test_library_that_is_missing_is_told_at_start() -> None:
    """Before a disk is opened, without loading it."""
    done = python("-c", "import sys; sys.modules['numpy'] = None; import dissect.target")
    assert done.stderr.count("could not be registered") == 1
    assert "shows wrong bytes" in done.stderr
    assert "numpy" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("error", ["ImportError", "ValueError"])
def test_container_that_cannot_be_imported_is_told(example_vm: Path, error: str) -> None:
    """dissect takes its own container then, and shows wrong bytes: that is said when the first disk is asked for, once."""
    code = f"""
    import logging, sys
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "dissect_sesparse.chain.detect":
                raise {error}("of the test")
    sys.meta_path.insert(0, Broken())
    from dissect.target import Target
    logging.getLogger("dissect").setLevel(logging.CRITICAL)  # as -q does
    target = Target.open(sys.argv[1])
    print([disk.__type__ for disk in target.disks])
    """
    done = python("-c", textwrap.dedent(code), example_vm)
    assert "sesparse" not in done.stdout
    assert done.stderr.count("dissect-sesparse cannot be loaded") == 1
    assert "shows wrong bytes" in done.stderr
    assert "of the test" in done.stderr


# One name of dissect is gone

PIECES = (
    "container SESparseContainer", "loader SESparseVmLoader", "loader SESparseSnapshotLoader", "loader SESparseLoader", "scheme sesparse://",
    "functions sesparse.*", "snapshots as children", "filesystem.open", "DiskCollection.apply", "VolumeCollection.apply",
    "Target.apply",
)  # fmt: skip
GONE = {
    "del container.CONTAINERS": {"container SESparseContainer"},
    "del container.register": set(),
    "del loader.LOADERS": {"loader SESparseVmLoader", "loader SESparseSnapshotLoader", "loader SESparseLoader"},
    "del loader.LOADERS_BY_SCHEME": {"scheme sesparse://"},
    "del lazy.import_lazy": set(),
    "del filesystem.open": {"filesystem.open"},
    "del target.DiskCollection.apply": {"DiskCollection.apply"},
    "del target.DiskCollection": {"DiskCollection.apply"},
    "del target.VolumeCollection.apply": {"VolumeCollection.apply"},
    "del target.Target.apply": {"Target.apply"},
    "del plugin.arg": {"functions sesparse.*"},
    "del exceptions.FilesystemError": {"filesystem.open"},
    "sys.modules['dissect_sesparse.target.records'] = None": {"functions sesparse.*"},
    "sys.modules['dissect_sesparse.target._child'] = None": {"snapshots as children"},
    "sys.modules['dissect_sesparse.target.mounting'] = None": {"Target.apply"},
    "sys.modules['dissect_sesparse.target.isolation'] = None": {
        "filesystem.open", "DiskCollection.apply", "VolumeCollection.apply",
    },
    "sys.modules['dissect_sesparse.target.container'] = None": {"container SESparseContainer"},
}  # fmt: skip
LEFT = """
import json, logging, sys
from dissect.target import container, exceptions, filesystem, loader, plugin, target
from dissect.target.helpers import lazy
{gone}
from dissect_sesparse.target import registration
for _ in range(3):
    registration.register()
print(json.dumps({{state.name: state.problem for state in registration.states()}}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("gone", GONE)
def test_without_a_name_of_dissect(gone: str) -> None:
    """Each piece is registered on its own; what cannot be is one warning that names all of it, and in the list."""
    done = python("-c", LEFT.format(gone=gone), DISSECT_SESPARSE_AUTOLOAD="0")
    problems = json.loads(done.stdout)
    assert tuple(problems) == PIECES
    lost = {name for name, problem in problems.items() if problem}
    # What is imported when a target is opened may need the name too: it is in its registry, and the list says that it fails.
    late = {name for name in lost if name.startswith(("loader ", "scheme ")) and problems[name] != "not registered"}
    assert lost - late == GONE[gone] - late
    assert done.stderr.count("could not be registered in full") == bool(GONE[gone]), done.stderr
    assert all(name in done.stderr for name in GONE[gone])


@pytest.mark.slow
def test_a_name_that_is_gone_costs_only_itself(example_vm: Path) -> None:
    """With ``Target.apply`` gone from where it was, disks, functions and findings are there as ever."""
    code = f"""
    from dissect.target import loader
    del loader.LOADERS_BY_SCHEME
    from dissect_sesparse.target.registration import register
    register()
    loader.LOADERS_BY_SCHEME = {{}}
    from dissect.target import Target
    target = Target.open({str(example_vm)!r})
    print(target.disks[0].__type__, len(list(target.sesparse.chain())), target.fs.exists("/$sesparse$"))
    """
    done = python("-c", textwrap.dedent(code), DISSECT_SESPARSE_AUTOLOAD="0")
    assert done.stdout.split() == ["sesparse", "3", "True"]
    assert done.stderr.count("scheme sesparse:// (no options in a URI): AttributeError") == 1


MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in (ROOT / "dissect_sesparse").rglob("*.py")
    if "autoload" not in path.parts
    and re.search(r"^\s*(from|import) dissect\.target", path.read_text("utf-8"), re.MULTILINE)
)
"""Those that import dissect.target, in whose middle register() is then called."""


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_any_module_first(module: str) -> None:
    """Whichever module of this package a script imports first, all of it is registered, and nothing is warned of."""
    assert_registered_once(report(f"import {module.removesuffix('.__init__')}"))


def test_modules_are_found() -> None:
    assert {"dissect_sesparse.target.records", "dissect_sesparse.target.container"} < set(MODULES)


def test_all_functions_are_found() -> None:
    """By the look-up of target-query, through whichever registry."""
    found = [function.name for function in plugin.functions() if function.name.startswith("sesparse.")]
    assert sorted(found) == sorted(set(found))
    assert {"sesparse.chain", "sesparse.findings", "sesparse.map"} <= set(found)


def test_frozen_plugin_list(tmp_path: Path) -> None:
    """A frozen build of dissect has its own list of plugins and takes it at the first look-up: ours is added to it."""
    (tmp_path / "_pluginlist.py").write_text(
        "from dissect.target.plugin import PluginRegistry\nPLUGINS = PluginRegistry()\n"
    )
    code = f"""
    import dissect.target.plugins
    dissect.target.plugins.__path__.append({str(tmp_path)!r})
    from dissect_sesparse.target.registration import register
    register()
    """
    assert_registered_once(report(code, DISSECT_SESPARSE_AUTOLOAD="0"))


# Fresh Pythons, in any order of imports

ORDERS = [
    "import dissect.target",
    "from dissect.target import container",
    "from dissect.target.target import Target",
    "import dissect_sesparse",
    "import dissect_sesparse.target.container",
    "import dissect_sesparse.target._plugin",
    "import dissect_sesparse.target.isolation",
    "from dissect_sesparse.target.registration import register; register(); register()",
    "import dissect.target.containers.vmdk, dissect.target.plugin",
]


@pytest.mark.slow
@pytest.mark.parametrize("code", ORDERS)
def test_import_order(code: str) -> None:
    found = report(code)
    assert_registered_once(found)
    assert found["hooks"] == [], "the hook is gone once dissect.target is imported"


def test_import_order_without_autoload() -> None:
    """All of them in one process where only the last line registers."""
    code = "\n".join([*ORDERS[:-2], "from dissect_sesparse.target.registration import register; register()"])
    assert_registered_once(report(code, DISSECT_SESPARSE_AUTOLOAD="0"))


def test_switched_off() -> None:
    found = report("import dissect.target", DISSECT_SESPARSE_AUTOLOAD="0")
    assert found["first"] != "SESparseContainer"
    assert found["count"] == found["loaders"] == 0
    assert not found["scheme"]
    assert not found["isolated"]
    assert found["functions"] == []


@pytest.mark.parametrize("value", ["1", "", "yes"])
def test_only_zero_switches_off(value: str) -> None:
    code = "import sys; print(any('sesparse' in type(finder).__module__ for finder in sys.meta_path))"
    assert python("-c", code, DISSECT_SESPARSE_AUTOLOAD=value).stdout.strip() == "True"


def test_nothing_is_loaded_without_dissect() -> None:
    """Python itself, and all that is not dissect.target, start without a module of this package."""
    code = """
    import email, json, sys
    import dissect.util, dissect.cstruct
    print([name for name in sys.modules if name.startswith("dissect_sesparse")])
    print("_dissect_sesparse_autoload" in sys.modules)
    """
    assert python("-c", textwrap.dedent(code)).stdout.splitlines() == ["[]", "True"]


def test_the_autoload_module_imports_next_to_nothing() -> None:
    """It runs at every start of Python."""
    code = (
        "import sys, os; a = set(sys.modules); import _dissect_sesparse_autoload; print(sorted(set(sys.modules) - a))"
    )
    done = python("-S", "-c", f"import sys; sys.path.insert(0, {str(AUTOLOAD)!r}); {code}")
    assert done.stdout.strip() == "['_dissect_sesparse_autoload']"


def test_import_errors_of_dissect_are_its_own(tmp_path: Path) -> None:
    """Where dissect.target is not installed, or broken, the hook changes nothing about the error."""
    done = python("-S", "-c", f"import sys; sys.path.insert(0, {str(AUTOLOAD)!r})\n" + NO_DISSECT, check=False)
    assert done.stdout.splitlines() == ["ModuleNotFoundError dissect", "ModuleNotFoundError dissect", "None"]
    package = tmp_path / "dissect" / "target"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('broken')")
    done = python("-S", "-c", f"import sys; sys.path[:0] = [{str(AUTOLOAD)!r}, {str(tmp_path)!r}]\n" + BROKEN_DISSECT)
    assert done.stdout.splitlines() == ["RuntimeError broken", "RuntimeError broken"]


NO_DISSECT = """
import _dissect_sesparse_autoload, importlib.util
for _ in range(2):
    try:
        import dissect.target
    except ImportError as e:
        print(type(e).__name__, e.name)
sys.modules["dissect"] = type(sys)("dissect")
sys.modules["dissect"].__path__ = []
print(importlib.util.find_spec("dissect.target"))
"""
BROKEN_DISSECT = """
import _dissect_sesparse_autoload
for _ in range(2):
    try:
        import dissect.target
    except RuntimeError as e:
        print(type(e).__name__, e)
"""


@pytest.mark.parametrize("error", ["ImportError", "ValueError", "KeyError"])
def test_failing_register_is_one_warning(error: str) -> None:
    """dissect goes on without us, and the user is told once, with the reason."""
    code = f"""
    import sys
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "dissect_sesparse.target.registration":
                raise {error}("of the test")
    sys.meta_path.insert(0, Broken())
    import dissect.target, dissect.target.container
    from dissect.target.target import Target
    print(len(dissect.target.container.CONTAINERS) > 5)
    """
    done = python("-c", textwrap.dedent(code))
    assert done.stdout.strip() == "True"
    assert done.stderr.count("could not be registered") == 1
    assert "of the test" in done.stderr.splitlines()[-1]


def test_reimport_of_dissect() -> None:
    """Who throws dissect.target out of sys.modules and imports it anew still gets an error-free dissect."""
    code = """
    import sys, dissect.target.container
    for name in [name for name in sys.modules if name.startswith("dissect.target")]:
        del sys.modules[name]
    import dissect.target.container as container
    print(len(container.CONTAINERS) > 5)
    """
    assert python("-c", textwrap.dedent(code)).stdout.strip() == "True"


def test_hook_is_set_once() -> None:
    code = """
    import sys, _dissect_sesparse_autoload as autoload
    for _ in range(3):
        autoload.install()
    print(sum("sesparse" in type(finder).__module__ for finder in sys.meta_path))
    import dissect.target
    autoload.install()
    print(sum("sesparse" in type(finder).__module__ for finder in sys.meta_path))
    """
    assert python("-c", textwrap.dedent(code)).stdout.split() == ["1", "0"]


# What is installed


def test_status_and_plugin_path_of_the_command() -> None:
    """The installed script, and the file that it names."""
    done = tool("dissect-sesparse", "plugin-path")
    assert Path(done.stdout.strip()) == Path(plugin_path.__file__)
    assert Path(done.stdout.strip()).read_text().count("register()") == 1


def test_autoload_files_are_plain() -> None:
    """Security teams look at .pth files: one line, an import, named after the package."""
    assert (AUTOLOAD / "dissect_sesparse.pth").read_text() == "import _dissect_sesparse_autoload\n"
    assert (AUTOLOAD / "dissect_sesparse.start").read_text() == "_dissect_sesparse_autoload:install\n"
    assert sorted(path.name for path in AUTOLOAD.iterdir() if path.is_file()) == [
        "_dissect_sesparse_autoload.py",
        "dissect_sesparse.pth",
        "dissect_sesparse.start",
    ]


def test_installed_autoload_is_this_one() -> None:
    """An editable install copies it: a stale copy would be tested in place of this one."""
    installed = Path(sys.modules["_dissect_sesparse_autoload"].__file__)
    assert installed.read_text() == (AUTOLOAD / "_dissect_sesparse_autoload.py").read_text(), (
        f"{installed} is of an older version: pip install -e . again"
    )
    assert (installed.parent / "dissect_sesparse.pth").read_text() == (AUTOLOAD / "dissect_sesparse.pth").read_text()


@pytest.mark.slow
def test_wheel(tmp_path: Path) -> None:
    """The three files are at the root of the wheel, and the package does not hold them a second time."""
    if find_spec("hatchling") is None or find_spec("pip") is None:
        pytest.skip("hatchling or pip is not installed, a wheel cannot be built")
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-q", "-w", tmp_path, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("dissect_sesparse-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        roots = [name for name in names if "/" not in name]
        for name in roots:
            assert archive.read(name) == (AUTOLOAD / name).read_bytes()
    assert sorted(roots) == ["_dissect_sesparse_autoload.py", "dissect_sesparse.pth", "dissect_sesparse.start"]
    assert not any("autoload/" in name for name in names)
    assert "dissect_sesparse/target/plugin_path.py" in names
    assert "dissect_sesparse/py.typed" in names
    assert {f"dissect_sesparse/report/page.{kind}" for kind in ("html", "css", "js")} <= set(names)
    assert not any(name.startswith(("tests", "examples", "docs")) for name in names)
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "dissect_sesparse").rglob("*.py")}
    assert {name for name in names if name.endswith(".py") and "/" in name} == {
        name for name in sources if "/autoload/" not in name
    }


def test_package_needs_no_dissect_target() -> None:
    """The reader works for scripts without loading the framework."""
    code = "import dissect_sesparse, sys; print('dissect.target' in sys.modules, dissect_sesparse.__name__)"
    assert python("-c", code).stdout.split() == ["False", dissect_sesparse.__name__]
