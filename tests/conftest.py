"""What all tests share: settings of hypothesis, the real extent, qemu-img, limits on work and memory."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The same examples on every run and machine, and none fails for being slow on a busy one.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
settings.load_profile("ci")

ROOT = Path(__file__).parents[1]
MISSING = re.compile(r"is not installed|is not there")
"""In the reason of a skip: a tool or a sample is missing."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """Where everything must be there (in CI), a test that is skipped for want of a tool or a sample has failed."""
    report = yield
    if report.skipped and os.environ.get("SESPARSE_REQUIRE_ALL") and MISSING.search(str(report.longrepr)):
        report.outcome = "failed"
    return report


def packed_sample() -> Path:
    """Where the extent of a real ESXi host is, if it is there: it is not part of this repository."""
    folder = Path(os.environ.get("SESPARSE_SAMPLES") or ROOT.parent / "shared" / "samples")
    return folder / "esxi-512m-sesparse.vmdk.gz"


NO_SAMPLE = "the extent of a real ESXi host is not there, set SESPARSE_SAMPLES to its folder"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without the sample its tests are left out, and one line says so; in CI they stay, and fail."""
    if packed_sample().exists() or os.environ.get("SESPARSE_REQUIRE_ALL"):
        return
    without = [item for item in items if "real_path" in getattr(item, "fixturenames", ())]
    if without:
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if item not in set(without)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not packed_sample().exists() and not os.environ.get("SESPARSE_REQUIRE_ALL"):
        terminalreporter.write_line(f"LEFT OUT: all tests that need the sample: {NO_SAMPLE}")


@pytest.fixture(scope="session")
def real_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked seSparse extent that a real ESXi host wrote."""
    packed = packed_sample()
    if not packed.exists():
        pytest.skip(NO_SAMPLE)
    path = tmp_path_factory.mktemp("real") / "esxi-512m-sesparse.vmdk"
    with gzip.open(packed) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
    return path


@pytest.fixture(scope="session")
def qemu_img() -> str:
    """The path of qemu-img."""
    found = shutil.which("qemu-img")
    if found is None:
        pytest.skip("qemu-img is not installed")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a virtual machine, with a folder of its own around it so that siblings are the test's."""
    path = tmp_path / "datastore" / "vm"
    path.mkdir(parents=True)
    return path


@pytest.fixture(autouse=True)
def no_options_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of whoever runs the tests change nothing."""
    for name in [name for name in os.environ if name.startswith("DISSECT_SESPARSE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def symlink() -> Callable[[Path, Path], None]:
    """Make a symbolic link, or skip where that is not allowed (Windows without the right to)."""

    def make(link: Path, target: Path) -> None:
        try:
            link.symlink_to(target, target_is_directory=target.is_dir())
        except (OSError, NotImplementedError) as e:
            pytest.skip(f"no symbolic links here: {e}")

    return make


@pytest.fixture
def limited() -> Callable[..., str]:
    """Run Python code in a process of its own that has 256 MiB of memory more than it starts with.

    After ten minutes it hangs, on any machine.

    See ``limits`` for what the code can use.
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("the memory of a process can only be limited on Linux")

    def run(code: str, *arguments: object) -> str:
        paths = os.pathsep.join(str(ROOT / name) for name in (".", "tests", "tests/support", "examples"))
        done = subprocess.run(
            [sys.executable, "-c", (PRELUDE if "import limits" not in code else "") + code, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    return run


PRELUDE = """
import contextlib, io, random, re, struct, sys
from pathlib import Path
import dissect_sesparse, disks, limits, oracle, sesparse_builder
from limits import no_memory_error, within
limits.limit_memory()
"""
