"""The tables of ``docs/validation.md`` over what ``histories.py`` recorded."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

RECORDED = Path(__file__).parents[1] / "histories.json"
OURS = "`sesparse.files`"
BREACHES = ("live", "invented", "windows wrong", "names wrong", "with foreign bytes", "versions complete wrong")
"""Counts that must be none."""
DRIVERS = {
    "NTFS": "ntfs-3g", "ext4": "Linux", "ext2": "Linux (ext4)", "XFS": "Linux", "btrfs": "Linux", "FAT16": "mtools",
}  # fmt: skip
CASES = {
    "plain": "deleted as the last snapshot has it",
    "between": "made and deleted between two snapshots",
    "changed": "changed after the last snapshot that has it",
    "wiped": "overwritten, times set back, deleted: what it held before",
    "renamed": "renamed before",
    "moved": "moved to another folder before",
    "recreated": "another file of its name was made later",
    "folder removed": "deleted with its folder",
    "linked": "had several names",
    "stream": "a stream of a file (NTFS)",
    "stream removed": "a stream of a file that lives on (NTFS)",
    "index": "empty, one of many names of a folder that was removed",
    "trim none": "all, nothing trimmed",
    "trim grain": "all, trimmed by grains of 4 KiB",
    "trim MiB": "all, trimmed by aligned MiB",
    "volume full": "all, on volumes that are nearly full",
    "volume empty": "all, on volumes that are nearly empty",
}
TEXT = """
## Histories by real drivers, and what other tools find of them

`tests/histories.py` makes histories by the drivers named: files are made, grown, overwritten, renamed, moved, wiped, cut, linked
and deleted, others are made of the same names, folders and streams are removed; over 4, 8 and 16 snapshots (on Linux also of mounted
volumes, after `syncfs`), on volumes that are nearly full and nearly empty; what is deleted is trimmed not at all, by grains of 4 KiB,
or by aligned MiB, as `fstrim` or the driver's bitmap gives it. Of each file its names, its contents and the time of its end are kept.

- *named*: by the path that it had in the state that is named, or when it was deleted.
- *whole*: one report has exactly its last content, or what it held before it was wiped; of those of which all is anywhere in
  the files of the machine, whoever names it.
- *bytes*: bytes of these contents that are anywhere there, and were given as they were at their place in the file.
- *contents*: of all contents that files which had several had in the states of the disk, those that `sesparse.versions` lists whole.
- *breaches*: files that live, names that never were, deletions outside their window, files with a byte that is proven and not
  theirs, and versions that are complete and not what the file held in the states that are said to have it. There must be none: `tests/test_histories.py` holds that at every run of CI, on some of these histories.
"""
LIMITS = """
What this does not show: no Windows wrote any of it; ntfs-3g has no change journal, closes the volume at each snapshot and writes
more of a record when it deletes than Windows does; mtools do not mount, and their clock is set so that each file has a time of
its own; snapshots of mounted volumes come after `syncfs`, those of ESXi may not. Some kinds are few. A third of all contents
are bitmaps, half of the others text, the rest no type that a carver knows. The other tools get the newest state as a raw image,
and once more with the old bytes of trimmed grains in it (*residual*, `view=residual`); they have no older states, which is what
most is named by here. `ntfsundelete` gives no folders: a name alone counts. Of `photorec`, zeros behind a file do not count;
it looks at what is free on NTFS and ext, else at the whole volume. On FAT the first letter of a deleted short name is gone: it
may be any for `fls`.
A file of another tool is *wrong* where it is no content that a file of that name ever had, or, carved, that any file had.
"""


def document() -> str:
    """The part on histories."""
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    counts = {(row["filesystem"], row["by"], row["case"]): Counter(row["counts"]) for row in recorded["rows"]}
    made = f"Recorded by `python tests/histories.py {recorded['command']} --write tests/histories.json`.\n"
    return "\n".join([TEXT, made, _ours(counts), _cases(counts), _tools(counts), LIMITS.lstrip("\n")])


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}%" if whole else "-"


def _recall(count: Counter[str]) -> list[str]:
    return [
        _share(count["named"], count["dead"]),
        _share(count["whole"], count["could be whole"]),
        _share(count["recovered"], count["recoverable"]),
    ]


def _kinds(counts: dict[tuple[str, str, str], Counter[str]]) -> list[str]:
    return [kind for kind in DRIVERS if (kind, OURS, "") in counts]


def _ours(counts: dict[tuple[str, str, str], Counter[str]]) -> str:
    head = ["file system", "driver", "operations", "deleted files", "named", "whole", "bytes"]
    head += ["complete, likely, partial, none", "likely, with a wrong byte", "by what", "contents", "breaches"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for kind in _kinds(counts):
        count = counts[kind, OURS, ""]
        states = ", ".join(f"{count[state]:,}" for state in ("complete", "likely", "partial", "none"))
        breaches = sum(count[name] for name in BREACHES)
        by = sorted((name for name in count if name.startswith("by ")), key=lambda name: -count[name])
        cells = [kind, DRIVERS[kind], f"{count['operations']:,}", f"{count['dead']:,}", *_recall(count), states]
        cells += [str(count["likely wrong"]), ", ".join(f"{name[3:]} {count[name]}" for name in by)]
        cells += [f"{count['versions found']} of {count['versions']}", str(breaches)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cases(counts: dict[tuple[str, str, str], Counter[str]]) -> str:
    kinds = _kinds(counts)
    lines = [
        "By kind of case: how many, named, whole, bytes. A file may be of several kinds.\n",
        f"| case | {' | '.join(kinds)} |",
        f"|---|{'---|' * len(kinds)}",
    ]
    for case, words in CASES.items():
        cells = []
        for kind in kinds:
            count = counts.get((kind, OURS, case), Counter())
            cells.append(f"{count['dead']}: {', '.join(_recall(count))}" if count["dead"] else "-")
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _tools(counts: dict[tuple[str, str, str], Counter[str]]) -> str:
    lines = [
        "Beside other tools, by the same truth (Debian 12: sleuthkit 4.11.1, ntfs-3g 2022.10.3, testdisk 7.1). Figures are files:\n",
        "| file system | tool (view) | named | whole | bytes | files with wrong bytes | files that live |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in _kinds(counts):
        for (here, tool, case), count in counts.items():
            if here != kind or case:
                continue
            wrong, live = count["wrong files"], count["live"] + count["live files"]
            if tool == OURS:
                wrong = count["likely wrong"] + count["with foreign bytes"]
            named = "gives no names" if tool.startswith("photorec") else f"{count['named']} of {count['dead']}"
            share = _share(count["recovered"], count["recoverable"])
            lines.append(f"| {kind} | {tool} | {named} | {count['whole']} | {share} | {wrong} | {live} |")
    return "\n".join(lines) + "\n"
