"""``dissect-sesparse fleet PATTERN... -o DIR``: the records of many VMs, by many processes.

::

    data     what goes between the processes
    plan     which VMs the patterns name
    folder   what is written, and how a second run goes on
    work     what workers do with a VM
    collect  what they told of it, put together
    driver   which of that is done when
    cluster  on which processes
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dissect_sesparse.commands.fleet.data import FleetError, Settings
from dissect_sesparse.disk.errors import SESparseError
from dissect_sesparse.disk.options import Options
from dissect_sesparse.version import __version__

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from dissect_sesparse.commands.fleet.data import Vm

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
        print("interrupted: the same command goes on with the VMs that are not done", file=sys.stderr)
    except (SESparseError, OSError) as e:
        print(f"dissect-sesparse fleet: {e}", file=sys.stderr)
    return 1


def _run(options: argparse.Namespace) -> int:
    need(options.dashboard)
    from dissect_sesparse.commands.fleet.collect import write_vms
    from dissect_sesparse.commands.fleet.driver import Driver, progress_bar
    from dissect_sesparse.commands.fleet.folder import FleetFolder, name_vms
    from dissect_sesparse.commands.fleet.plan import find
    from dissect_sesparse.evidence.recover_state import refuse_inside

    found = find(options.patterns)
    settings = settings_of(options)
    folder = FleetFolder(Path(settings.folder), settings.run)
    refuse_inside(folder.path, [Path(path).parent for path, _ in found])
    folder.begin(settings)
    vms = name_vms(found, folder.states())
    told: list[tuple[Mapping[str, Any], bool]] = []
    with ExitStack() as stack:
        client = stack.enter_context(_client(options))
        if options.dashboard:
            print(f"dashboard: {client.dashboard_link}", file=sys.stderr)
        tell = stack.enter_context(progress_bar(len(vms)))

        def keep(row: Mapping[str, Any], before: bool) -> None:
            told.append((row, before))
            tell(row, before)

        Driver(client, settings, folder, keep).run(vms)
    write_vms(folder, settings.functions)
    folder.end()
    for line in _lines(vms, told, folder.path):
        print(line)
    return 0 if all(row["state"] in ("done", "skipped") for row, _ in told) else 1


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
        ValueError: If it names another one, or none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or set(names).difference(FUNCTIONS):
        raise ValueError(text)
    return names


def positive(text: str) -> int:
    """A number from 1 on.

    Raises:
        ValueError: If it is none.
    """
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def _client(options: argparse.Namespace) -> Any:
    from dissect_sesparse.commands.fleet.cluster import local_client, remote_client

    if options.scheduler is not None:
        return remote_client(options.scheduler)
    return local_client(options.workers, dashboard=options.dashboard)


def _lines(vms: Sequence[Vm], told: Sequence[tuple[Mapping[str, Any], bool]], folder: Path) -> Iterator[str]:
    """What is said at the end: of each VM that is not done why, and of all how many."""
    for row, _ in sorted(told, key=lambda pair: pair[0]["path"]):
        for error in row["errors"]:
            yield f"{row['vm']}: {row['state']}: {error}"
        for warning in row["warnings"]:
            yield f"{row['vm']}: warning: {warning}"
    states = Counter("unchanged" if before else row["state"] for row, before in told)
    names = {"skipped": "without a seSparse disk", "unchanged": "done before"}
    counts = ", ".join(f"{count} {names.get(state, state)}" for state, count in sorted(states.items()))
    yield f"{folder}: {len(vms)} VMs: {counts}"
