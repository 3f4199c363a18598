"""The command ``dissect-sesparse``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dissect_sesparse.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Exit codes: 0 done, 1 failed, 2 wrong usage; ``check``: 3 for findings."""
    parser = argparse.ArgumentParser(prog="dissect-sesparse", description="VMware ESXi snapshot disks in Dissect")
    parser.add_argument("--version", action="version", version=f"dissect-sesparse {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    telling = commands.add_parser("status", help="versions, and whether and how dissect knows this package")
    telling.add_argument("--json", action="store_true", help="print it as JSON")
    telling.set_defaults(run=status)
    commands.add_parser("plugin-path", help="print the file for target-query --plugin-path").set_defaults(
        run=plugin_path
    )
    recovery = commands.add_parser(
        "recover", help="write what the guest trimmed into images for carvers, with a map and a manifest"
    )
    recovery.add_argument(
        "target", metavar="TARGET", help="a .vmx, a descriptor, an extent, or a sesparse:// URI of one"
    )
    recovery.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True, help="a new folder, or the one to go on in"
    )
    recovery.add_argument(
        "--files", action="store_true", help="also the deleted files by name, under DIR/files (see sesparse.files)"
    )
    recovery.set_defaults(run=recover)
    checking = commands.add_parser(
        "check", help="a table of what is odd about a target's disks; exit 0: nothing, 3: something, 1: unreadable"
    )
    checking.add_argument(
        "target",
        metavar="TARGET",
        help="a .vmx, a folder, tar or zip with one, a descriptor, an extent, or a sesparse:// URI of one",
    )
    checking.set_defaults(run=check)
    lost = commands.add_parser("descriptor", help="print a descriptor for an extent that has lost its own")
    lost.add_argument("extent", metavar="EXTENT", help="a seSparse extent, *-sesparse.vmdk")
    parent = lost.add_mutually_exclusive_group()
    parent.add_argument(
        "--parent", metavar="PATH", help="its parent's descriptor; without, the only one that fits is taken, if any"
    )
    parent.add_argument("--no-parent", action="store_true", help="it is a disk of its own, not a delta")
    lost.set_defaults(run=descriptor)
    _add_report(commands)
    _add_fleet(commands)
    options = parser.parse_args(arguments)
    return options.run(options)


def _add_report(commands: argparse._SubParsersAction) -> None:
    page = commands.add_parser(
        "report", help="write one HTML page: the chain, the map, findings, what the guest trimmed, input hashes"
    )
    page.add_argument("target", metavar="TARGET", help="a .vmx, a descriptor, an extent, or a sesparse:// URI of one")
    page.add_argument(
        "-o", "--output", metavar="FILE", type=Path, required=True, help="the page, report.html for example"
    )
    page.add_argument("--no-hash", action="store_true", help="do not hash the input files and the trimmed runs")
    page.add_argument("--no-files", action="store_true", help="do not look for deleted files in its file systems")
    page.add_argument("--force", action="store_true", help="replace a file of that name")
    page.set_defaults(run=report)


def _add_fleet(commands: argparse._SubParsersAction) -> None:
    from dissect_sesparse.commands import fleet as run  # loads no library of the extra

    command = commands.add_parser("fleet", help="the records of many VMs, by many processes (extra: fleet)")
    command.add_argument(
        "patterns",
        metavar="PATTERN",
        nargs="+",
        help="a .vmx, a folder, tar or zip with one, a disk; or with * ? [] **",
    )
    command.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True, help="a new folder, or the one to go on in"
    )
    names = ",".join(run.FUNCTIONS)
    command.add_argument(
        "--functions",
        metavar="NAMES",
        type=run.functions,
        default=run.DEFAULT,
        help=f"of {names} (default: %(default)s)",
    )
    command.add_argument("--no-hash", action="store_true", help="do not hash and measure the trimmed bytes")
    command.add_argument(
        "--split-size", metavar="BYTES", type=run.positive, default=run.SPLIT,
        help="a disk with more to hash is done in parts (default: %(default)s)",
    )  # fmt: skip
    where = command.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", metavar="N", type=run.positive, help="processes on this machine (default: one for each core)"
    )
    where.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that runs already")
    command.add_argument("--dashboard", action="store_true", help="serve Dask's dashboard, and print where")
    command.set_defaults(run=fleet)


def status(options: argparse.Namespace) -> int:
    """Say which versions there are, and what of this package dissect uses."""
    from dissect_sesparse.commands.status import run

    return run(options)


def plugin_path(options: argparse.Namespace) -> int:
    """Print the path of the file that registers this package when dissect loads it as a plugin."""
    print(Path(__file__).parent / "target" / "plugin_path.py")
    return 0


def recover(options: argparse.Namespace) -> int:
    """Recover what the guests of a target's disks trimmed."""
    from dissect_sesparse.commands.recover import run  # numpy and the like: no other command needs them

    return run(options)


def check(options: argparse.Namespace) -> int:
    """Print what is odd about a target's disks."""
    from dissect_sesparse.commands.check import run

    return run(options)


def descriptor(options: argparse.Namespace) -> int:
    """Print a descriptor for an extent that has lost its own."""
    from dissect_sesparse.commands.descriptor import run

    return run(options)


def fleet(options: argparse.Namespace) -> int:
    """Run over a fleet."""
    from dissect_sesparse.commands.fleet import run

    return run(options)


def report(options: argparse.Namespace) -> int:
    """Write a page about a target's disks."""
    from dissect_sesparse.commands.report import run

    return run(options)
