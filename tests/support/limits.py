"""Limits on work and memory, for code that runs in a process of its own (see ``limited`` in ``conftest``). Linux only."""

from __future__ import annotations

import resource
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from work import TooMuch, at_most

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY = 256 * 1024 * 1024
HANGS = 300
"""Seconds of processor time after which something is said to hang: a hundred times what any of it takes."""

# Before the tests are imported: their own settings are made of it then
settings.register_profile(
    "limited", derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile("limited")


def limit_memory() -> None:
    """Let this process have 256 MiB more than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))


@contextmanager
def within(calls: int) -> Iterator[None]:
    """Raise if what is inside makes more calls than so many, or never ends, see ``work``."""

    def stop(*_: object) -> None:
        raise TooMuch(f"more than {HANGS} s of processor time: it hangs")

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, HANGS)
    try:
        with at_most(calls):
            yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def no_memory_error(error: BaseException | None) -> None:
    """The reader makes whatever a read raises its own error; running out of memory is a bug all the same."""
    while error is not None:
        assert not isinstance(error, MemoryError), "out of memory"
        error = error.__cause__ or error.__context__
