"""Histories made by real drivers, with the truth beside: what is found of the deleted files, how much of it is right, and what
other tools find: ``python tests/histories.py NTFS ext4 --operations 500 --write tests/histories.json``.

A guest makes, grows, overwrites, renames, moves, wipes, cuts, links and deletes files, makes others of the same names, and
removes folders and streams, by ntfs-3g, by Linux, or by mtools; snapshots are taken, also of mounted volumes; what is deleted
is trimmed or not, by grains of 4 KiB or by aligned MiB, as ``fstrim`` or the driver's own bitmap gives it; volumes are nearly
full, or empty. The life of each file is kept: names, contents, and the moments between which it was deleted. Then

- *named*: by a path that it had in that state, or was deleted under;
- *whole*: a report gave exactly the content that it had last, or had before it was wiped;
- *of what is there*: bytes of these contents that lie anywhere in the files of the machine, and were given right;
- what must hold: no file that lives is reported; no byte of a ``complete`` file, and no proven byte, is another's; each file
  was deleted within its window; no name is made up.

Ends with 1 if one of these was broken. The seeds are those of the plans that are printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "support"), str(HERE.parent / "examples"), str(HERE.parent)]

from history_drivers import MAKERS, missing
from history_host import TRIMS, Plan, make
from history_score import KINDS, Truths, score
from history_tables import OURS
from history_tools import TOOLS, all_tools, where
from history_versions import score_versions

if TYPE_CHECKING:
    from collections.abc import Iterator

SNAPSHOTS = (4, 8, 16)


def plans(kind: str, seeds: range, operations: int) -> Iterator[Plan]:
    """One history a seed: all ways of trimming, on full and on empty volumes, with few and with many snapshots."""
    for seed in seeds:
        yield Plan(kind, seed, operations, SNAPSHOTS[seed // 2 % 3], TRIMS[seed % 3], seed % 2 == 1)


class Totals:
    """Counts of some histories, by what they are counted for."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
        """By file system, by what finds, and by kind of case, kind of trim or of room; empty for all."""
        self.breaches: list[str] = []

    def add(self, plan: Plan, tools: bool) -> Counter[str]:
        """Make a history and count what is found of it."""
        with tempfile.TemporaryDirectory(prefix="history") as folder:
            history = make(plan, Path(folder))
            truths = Truths(history)
            found, breaches = score(truths)
            versions, wrong = score_versions(truths)
            found, breaches = found + versions, breaches + wrong
            found["operations"] = sum(history.operations.values())
            self.breaches += [f"{plan}: {breach}" for breach in breaches]
            self.counts[plan.kind, OURS, ""] += found + truths.recall()
            for kind in KINDS:
                self.counts[plan.kind, OURS, kind] += truths.recall(kind)
            room = "full" if plan.full else "empty"
            for kind in (f"trim {plan.trim}", f"volume {room}"):
                self.counts[plan.kind, OURS, kind] += truths.recall()
            for tool, count in all_tools(history).items() if tools else ():
                self.counts[plan.kind, tool, ""] += count
        return found + truths.recall()

    def as_json(self) -> list[dict[str, Any]]:
        rows = ((kind, by, case, count) for (kind, by, case), count in self.counts.items() if count)
        return [{"filesystem": kind, "by": by, "case": case, "counts": dict(count)} for kind, by, case, count in rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(MAKERS)}; default: all")
    parser.add_argument("--seeds", default="0-5", help="A-B; default: %(default)s")
    parser.add_argument("--operations", type=int, default=500, help="of each seed")
    parser.add_argument("--no-tools", action="store_true", help="leave the other tools out")
    parser.add_argument(
        "--write", type=Path, help="keep the counts there, for tests/validation.py; those of other kinds stay"
    )
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    seeds, totals = range(int(first), int(last or first) + 1), Totals()
    kinds = options.kinds or list(MAKERS)
    lost = [f"{tool} (of {package})" for tool, package in TOOLS.items() if where(tool) is None]
    for why in [*filter(None, (missing(MAKERS[kind](0)) for kind in kinds)), *(lost if not options.no_tools else ())]:
        print(f"not installed: {why}", file=sys.stderr)
        return 2
    for kind in kinds:
        for plan in plans(kind, seeds, options.operations):
            _run(plan, totals, tools=not options.no_tools)
        if options.write:
            _write(options.write, totals, f"--seeds {options.seeds} --operations {options.operations}")
    return 1 if totals.breaches else 0


def _run(plan: Plan, totals: Totals, *, tools: bool) -> None:
    """Make a history, and print what came of it."""
    before = len(totals.breaches)
    found = totals.add(plan, tools)
    print(f"{plan}: {', '.join(f'{value} {name}' for name, value in sorted(found.items()))}")
    for breach in totals.breaches[before:]:
        print(f"  {breach[len(str(plan)) + 2 :][:700]}")
    sys.stdout.flush()


def _write(path: Path, totals: Totals, how: str) -> None:
    """Keep the counts; what is there of other file systems stays."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    made = totals.as_json()
    rows = [row for row in rows if row["filesystem"] not in {row["filesystem"] for row in made}] + made
    lines = ",\n".join(json.dumps(row, sort_keys=True) for row in rows)
    path.write_text(f'{{"command": {json.dumps(how)}, "rows": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
