"""``dissect-sesparse fleet PATTERN... -o DIR``: the records of many VMs, by many processes.

::

    data     what goes between the processes
    plan     which VMs the patterns name
    folder   what is written, and how a second run goes on
    lock     one run at a time in a folder
    work     what workers do with a VM
    collect  what they told of it, put together
    driver   which of that is done when
    cluster  on which processes
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dissect_sesparse.commands.outcome import DONE, FAILED
from dissect_sesparse.commands.output import complain, say
from dissect_sesparse.commands.words import message_of
from dissect_sesparse.fleet.data import FleetError, Settings
from dissect_sesparse.fleet.interrupt import remembered
from dissect_sesparse.source.errors import SESparseError
from dissect_sesparse.source.folder import refuse_irregular
from dissect_sesparse.source.options import Options
from dissect_sesparse.version import __version__

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from dissect_sesparse.fleet.data import Vm
    from dissect_sesparse.fleet.folder import FleetFolder

FUNCTIONS = ("chain", "unmapped", "unreferenced", "map", "journal", "files", "findings")
"""In the order in which they are done."""
DEFAULT = "chain,unmapped,findings"
SPLIT = 1 << 30
"""Bytes to hash beyond which a disk is cut: some seconds of work."""


def run(options: argparse.Namespace) -> int:
    """Run over a fleet. Exit codes: 0 all VMs done, 1 not all, or nothing."""
    try:
        return _run(options)
    except KeyboardInterrupt:
        complain("fleet", "interrupted: the same command goes on with the VMs that are not done")
    except (SESparseError, OSError) as e:
        complain("fleet", message_of(e))
    return FAILED


def _run(options: argparse.Namespace) -> int:
    need(options.dashboard)
    from dissect_sesparse.fleet.folder import FleetFolder
    from dissect_sesparse.fleet.lock import locked
    from dissect_sesparse.fleet.plan import find_vms
    from dissect_sesparse.recovery.state import refuse_inside

    refuse_irregular(options.output)
    found = find_vms(options.patterns)
    settings = settings_of(options)
    folder = FleetFolder(Path(settings.folder), settings.run)
    refuse_inside(folder.path, [Path(path).parent if inside is None else Path(path) for path, inside in found])
    with locked(folder.path):
        return _run_in(folder, settings, found, options)


def _run_in(
    folder: FleetFolder, settings: Settings, found: list[tuple[str, str | None]], options: argparse.Namespace
) -> int:
    from dissect_sesparse.fleet.collect import GONE, write_vms
    from dissect_sesparse.fleet.driver import Driver, fleet_progress
    from dissect_sesparse.fleet.folder import name_vms

    folder.begin(settings)
    vms = name_vms(found, folder.states())
    finished: list[tuple[Mapping[str, Any], bool]] = []
    with ExitStack() as stack:
        check_interrupt = stack.enter_context(remembered())
        client = stack.enter_context(_client(options))
        if options.dashboard:
            complain("fleet", f"dashboard: {client.dashboard_link}")
        progress = stack.enter_context(fleet_progress(len(vms), quiet=options.quiet))

        def keep(row: Mapping[str, Any], before: bool) -> None:
            finished.append((row, before))
            progress(row, before)
            check_interrupt()

        Driver(client, settings, folder, keep).run(vms)
    rows = write_vms(folder, settings.functions, found)
    folder.end()
    for line in _lines(vms, finished, [row for row in rows if row["state"] == GONE], folder.path):
        with suppress(BrokenPipeError):
            say(line)
    return DONE if all(row["state"] in ("done", "skipped") for row, _ in finished) else FAILED


def need(dashboard: bool = False) -> None:
    """See to it that the libraries of the extra are there.

    Raises:
        FleetError: If one is not.
    """
    names = ["dask", "distributed", "pyarrow", *(["bokeh"] if dashboard else [])]
    if missing := [name for name in names if find_spec(name) is None]:
        raise FleetError(f"{', '.join(missing)} not installed", advice='pip install "dissect-sesparse[fleet]"')


def settings_of(options: argparse.Namespace) -> Settings:
    """What holds for all VMs."""
    disks = {name: value for name, value in asdict(Options.collect({})).items() if value is not None}
    wanted = options.functions
    return Settings(
        folder=str(options.output.absolute()),
        run=uuid4().hex,
        functions=tuple(function for function in FUNCTIONS if function in wanted),
        contents=not options.no_hash,
        options=disks,
        split=options.split_size,
        version=__version__,
    )


def functions(text: str) -> Sequence[str]:
    """The functions that an argument names.

    Raises:
        ArgumentTypeError: If it names another one, or none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(names).difference(FUNCTIONS))
    if unknown or not names:
        problem = f"no {', '.join(map(repr, unknown))}" if names else "none named"
        raise ArgumentTypeError(f"{problem}: there are {', '.join(FUNCTIONS)}")
    return names


def positive(text: str) -> int:
    """A number from 1 on.

    Raises:
        ArgumentTypeError: If it is none.
    """
    if not text.isascii() or not text.isdecimal() or int(text[:30]) < 1:
        raise ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text[:30])


def _client(options: argparse.Namespace) -> Any:
    from dissect_sesparse.fleet.cluster import local_client, remote_client

    if options.scheduler is not None:
        return remote_client(options.scheduler)
    return local_client(options.workers, dashboard=options.dashboard)


def _lines(
    vms: Sequence[Vm],
    finished: Sequence[tuple[Mapping[str, Any], bool]],
    gone: Sequence[Mapping[str, Any]],
    folder: Path,
) -> Iterator[str]:
    """What is said at the end: of each VM that is not done why, and of all how many."""
    for row, _ in sorted(finished, key=lambda pair: pair[0]["path"]):
        for error in row["errors"]:
            yield f"{row['vm']}: {row['state']}: {error}"
        for warning in row["warnings"]:
            yield f"{row['vm']}: warning: {warning}"
    for row in gone:
        yield f"{row['vm']}: gone: {row['path']}: not there any more, its records are those of an earlier run"
    states = Counter("unchanged" if before else row["state"] for row, before in finished)
    names = {"skipped": "without a seSparse disk", "unchanged": "done before"}
    counts = ", ".join(f"{count} {names.get(state, state)}" for state, count in sorted(states.items()))
    yield f"{folder}: {len(vms)} VMs: {counts}"
