"""The table of cases: hard, broken and hostile disks, each built from literal numbers, each with what is right.

A row is a :class:`~cases.kit.Case`: an id, what it is, and a function that writes its files and returns what is expected
as data. Ids only tell the rows apart; their letters are kinds:

    c  chains as they should be      t  files that were cut off       o  ways to open a disk
    n  grain table entries           r  encrypted and wiped files     x  machines of two disks
    d  grain directory entries       p  parents                       k  hostile and vast ones
    s  sizes                         q  descriptors                   f  hints that name no descriptor
    h  headers
"""

from __future__ import annotations

from cases import chains, cuts, descriptors, entries, headers, machines, older, parents  # noqa: F401
from cases.kit import CASES, Box, Case, Disk, Machine, Slot

ORDER = "cnsdhtrpqfoxk"


def _order(case: Case) -> tuple[int, str]:
    return ORDER.index(case.id[0]), case.id


CASES = dict(sorted(CASES.items(), key=lambda item: _order(item[1])))
"""All cases by their id."""

__all__ = ["CASES", "Box", "Case", "Disk", "Machine", "Slot"]
