"""The command ``dissect-sesparse``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dissect_sesparse.commands.outcome import FAILED
from dissect_sesparse.commands.output import any_encoding, complain, give_up_output, logging_to_terminal, say
from dissect_sesparse.source.options import CHOICES
from dissect_sesparse.source.text import printable_lines
from dissect_sesparse.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Whatever happens is one line, and an exit code: see :mod:`~dissect_sesparse.commands.outcome`."""
    any_encoding()
    command = "?"
    try:
        options = _parser().parse_args(arguments)
        command = options.command
        with logging_to_terminal(options):
            code = options.run(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        complain(command, "interrupted")
    except BrokenPipeError:  # who read it has seen enough
        pass
    except Exception as e:
        from dissect_sesparse.commands.words import message_of

        complain(command, message_of(e))
    finally:
        give_up_output()
    return FAILED


class _Parser(argparse.ArgumentParser):
    """What it prints of its arguments is printable: a shell makes them of names in evidence."""

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(printable_lines(message), file)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="dissect-sesparse", description="VMware ESXi snapshot disks in Dissect")
    parser.add_argument("--version", action="version", version=f"dissect-sesparse {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    versions = _add(commands, status, "status", "versions, and whether and how dissect knows this package")
    versions.add_argument("--json", action="store_true", help="print it as JSON")
    _add(commands, plugin_path, "plugin-path", "print the file for target-query --plugin-path")
    help_ = "write what the guest trimmed into images for carvers, with a map and a manifest"
    recovery = _with_targets(_add(commands, recover, "recover", help_))
    recovery.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True,
        help="a new folder, or the one to go on in; several machines get a folder each in it",
    )  # fmt: skip
    recovery.add_argument(
        "--files", action="store_true", help="also the deleted files by name, under DIR/files (see sesparse.files)"
    )
    recovery.add_argument(
        "--all-versions", action="store_true",
        help="also --files, and each content that a changed file had, under DIR/versions (see sesparse.versions)",
    )  # fmt: skip
    _add_export(commands)
    help_ = "a table of what is odd about disks; exit 0: nothing, 3: warnings or errors, 1: not all could be looked at"
    _with_targets(_add(commands, check, "check", help_)).set_defaults(lists_findings=True)
    _add_descriptor(commands)
    _add_report(commands)
    _add_timeline(commands)
    _add_fleet(commands)
    return parser


def _add(
    commands: argparse._SubParsersAction, run: Callable[[argparse.Namespace], int], name: str, help_: str
) -> argparse.ArgumentParser:
    """A command, with the options that all have."""
    command = commands.add_parser(name, help=help_)
    command.add_argument("-q", "--quiet", action="store_true", help="no progress, and no line of a log")
    command.add_argument("-v", "--verbose", action="count", default=0, help="log more; -vv still more")
    command.set_defaults(run=run)
    return command


def _with_targets(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument(
        "targets",
        metavar="TARGET",
        nargs="+",
        help="a .vmx, a folder, tar or zip with some, a descriptor, an extent, or a sesparse:// URI of one",
    )
    return command


def _add_export(commands: argparse._SubParsersAction) -> None:
    help_ = "write disks as sparse images that every tool reads, as they run and as snapshots froze them"
    images = _with_targets(_add(commands, export, "export", help_))
    images.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True,
        help="a new folder, or the one to go on in; several machines get a folder each in it",
    )  # fmt: skip
    which = images.add_mutually_exclusive_group()
    which.add_argument("--state", metavar="NAME", help="as a snapshot, or a link, of this name froze the machine")
    which.add_argument("--all-states", action="store_true", help="as each snapshot froze it, and as it runs")
    images.add_argument(
        "--view", choices=CHOICES["view"], help="residual: with the old bytes of unmapped grains, where surely theirs"
    )
    help_ = "of the images (default: %(default)s); qcow2 of all states is a backing chain; vmdk, vhdx: by qemu-img"
    images.add_argument("--format", choices=("raw", "qcow2", "vmdk", "vhdx"), default="raw", help=help_)
    images.add_argument("--no-hash", action="store_true", help="do not hash the input files and the images")


def _add_descriptor(commands: argparse._SubParsersAction) -> None:
    lost = _add(commands, descriptor, "descriptor", "print a descriptor for an extent, or several, that lost their own")
    lost.add_argument(
        "extent",
        metavar="EXTENT",
        nargs="+",
        help="a seSparse extent, *-sesparse.vmdk; several in their order on the disk",
    )
    parent = lost.add_mutually_exclusive_group()
    parent.add_argument(
        "--parent", metavar="PATH", help="its parent's descriptor; without, the only one that fits is taken, if any"
    )
    parent.add_argument("--no-parent", action="store_true", help="it is a disk of its own, not a delta")
    lost.add_argument(
        "--capacity",
        metavar="SECTORS",
        type=int,
        help="of the one extent whose header is destroyed; taken only where the file confirms it",
    )


def _add_report(commands: argparse._SubParsersAction) -> None:
    help_ = "write one HTML page: the chain, the map, findings, what the guest trimmed, input hashes"
    page = _with_targets(_add(commands, report, "report", help_))
    page.add_argument(
        "-o", "--output", metavar="FILE", type=Path, required=True, help="the page, report.html for example"
    )
    page.add_argument("--no-hash", action="store_true", help="do not hash the input files and the trimmed runs")
    page.add_argument("--no-files", action="store_true", help="do not look for deleted files in its file systems")
    page.add_argument("--force", action="store_true", help="replace a file of that name")


def _add_timeline(commands: argparse._SubParsersAction) -> None:
    from dissect_sesparse.commands.times import time_named

    help_ = "what happened to disks, in the order of the times: for people, Timesketch, mactime, Plaso"
    events = _with_targets(_add(commands, timeline, "timeline", help_))
    events.add_argument(
        "--format", choices=("text", "jsonl", "csv", "bodyfile", "records"), default="text",
        help="jsonl and csv for Timesketch, bodyfile for mactime and Plaso, records for rdump (default: %(default)s)",
    )  # fmt: skip
    events.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="the file to write (default: standard output)"
    )
    events.add_argument("--force", action="store_true", help="replace a file of that name")
    events.add_argument("--no-files", action="store_true", help="leave out the guest's files, and open no file system")
    for name, what in (("--from", "from that time on"), ("--to", "up to that time")):
        help_ = f"only what may have happened {what}: ISO 8601, in UTC where it has no zone"
        events.add_argument(
            name, dest=name.strip("-").replace("from", "from_"), metavar="TIME", type=time_named, help=help_
        )


def _add_fleet(commands: argparse._SubParsersAction) -> None:
    from dissect_sesparse import fleet as run  # loads no library of the extra

    command = _add(commands, fleet, "fleet", "the records of many VMs, by many processes (extra: fleet)")
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


def status(options: argparse.Namespace) -> int:
    """Say which versions there are, and what of this package dissect uses."""
    from dissect_sesparse.commands.status import run

    return run(options)


def plugin_path(options: argparse.Namespace) -> int:
    """Print the path of the file that registers this package when dissect loads it as a plugin."""
    say(str(Path(__file__).parent / "target" / "plugin_path.py"))
    return 0


def recover(options: argparse.Namespace) -> int:
    """Recover what the guests of some disks trimmed."""
    from dissect_sesparse.commands.recover import run  # numpy and the like: no other command needs them

    return run(options)


def export(options: argparse.Namespace) -> int:
    """Write disks as images."""
    from dissect_sesparse.commands.export import run

    return run(options)


def check(options: argparse.Namespace) -> int:
    """Print what is odd about some disks."""
    from dissect_sesparse.commands.check import run

    return run(options)


def descriptor(options: argparse.Namespace) -> int:
    """Print a descriptor for an extent that has lost its own."""
    from dissect_sesparse.commands.descriptor import run

    return run(options)


def fleet(options: argparse.Namespace) -> int:
    """Run over a fleet."""
    from dissect_sesparse.fleet import run

    return run(options)


def report(options: argparse.Namespace) -> int:
    """Write a page about some disks."""
    from dissect_sesparse.commands.report import run

    return run(options)


def timeline(options: argparse.Namespace) -> int:
    """Write what happened to some disks."""
    from dissect_sesparse.commands.timeline import run

    return run(options)
