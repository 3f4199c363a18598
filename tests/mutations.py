"""Seeded mutations of the metadata and the descriptors of whole chains: ``python tests/mutations.py [COUNT] [SEED]``.

The newest link of the chain lost power with some transactions that only its journal has. Each mutation is read twice: with the
options as they are (``journal=replay``), and with ``salvage=1``.

Each outcome has to be one of

* ``right``: the bytes of the chain before the mutation;
* ``refused``: at the opening, or at a read, by an error of ours;
* ``labelled``: other bytes, and a finding that the chain did not have before the mutation;
* ``as written``: other bytes without one, and the plain oracle reads the mutated files the same way (where the journal does not
  have the grain): the mutation made another valid disk, which nothing can tell from a true one.

Anything else is ``WRONG``.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).parent),
    str(Path(__file__).parent / "support"),
    str(Path(__file__).parent.parent / "examples"),
]

import oracle
from disks import Pieces, grain_data, joined, random_chain, random_extent, write_chain

from dissect_sesparse import Chain, SESparseError, open_chain
from dissect_sesparse.findings.findings import findings

SECTORS = 9000
TRANSACTIONS = 12
REGIONS = {
    "header": (0, 1024),
    "journal header": (1024, 32),
    "journal": (2048 * 512, TRANSACTIONS * 25 * 512),
    "directory": (4096 * 512, 8),
    "table": (6144 * 512, 9000),
    "bitmap": (8192 * 512, 144),
    "backmap": (10240 * 512, 9000),
}
MODES: dict[str, dict[str, str]] = {"": {}, "salvage=1": {"salvage": "1"}}
VALUES = [0, 1, 8, 64, 4096, 1 << 31, 1 << 32, 0x10000000 << 32, 1 << 60, 2 << 60, 3 << 60, 5 << 60, (1 << 64) - 1]


def mutate(rng: random.Random, folder: Path) -> str:
    """Change one file of a chain; returns the kind of what was changed."""
    kind = rng.choice([*REGIONS, "descriptor"])
    if kind == "descriptor":
        path = rng.choice(sorted(path for path in folder.glob("*.vmdk") if path.stat().st_size < 4096))
        text = bytearray(path.read_bytes())
        for _ in range(rng.randint(1, 3)):
            text[rng.randrange(len(text))] = rng.choice(b'#"=\n 0fF/.\x00\xffA')
        path.write_bytes(text)
        return kind
    path = rng.choice(sorted(folder.glob("*-sesparse.vmdk")))
    start, length = REGIONS[kind]
    if kind == "journal":
        path = folder / "link0-sesparse.vmdk"
    with path.open("r+b") as fh:
        if rng.random() < 0.1:  # a torn or wiped piece
            fh.seek(start + rng.randrange(length) // 512 * 512)
            fh.write(rng.choice((bytes(512), rng.randbytes(512)))[: length - (fh.tell() - start)])
            return kind
        for _ in range(rng.randint(1, 3)):
            where = rng.randrange(length // 8) * 8
            if kind == "journal":  # where records have something: their header, their targets, their images
                where = (
                    rng.randrange(TRANSACTIONS) * 25 * 512 + rng.choice((rng.randrange(24), rng.randrange(5 * 64))) * 8
                )
            fh.seek(start + where)
            value = rng.choice(VALUES) if rng.random() < 0.6 else rng.randrange(1 << 64)
            if kind == "table" and rng.random() < 0.5:
                place = rng.randrange(2000)
                value = rng.randrange(4) << 60 | (place & 0xFFF) << 48
            fh.write(value.to_bytes(8, "little"))
    return kind


class Before:
    """What a chain is before any mutation, with some options."""

    def __init__(self, newest: Path, options: dict[str, str]):
        self.options = options
        with open_chain(newest, **options) as chain:
            self.data = chain.read(0, chain.size)
            self.codes = Counter(finding.code for finding in findings(chain))

    def labels(self, chain: Chain) -> bool:
        """Whether there are findings that there were not."""
        return bool(Counter(finding.code for finding in findings(chain)) - self.codes)


def outcome(newest: Path, links: list[Pieces], before: Before) -> str:
    """What became of a mutated chain."""
    try:
        with open_chain(newest, **before.options) as chain:
            return _of_open(chain, links, before)
    except SESparseError as e:
        assert str(e), "an error without a word"
        return "refused"


def _of_open(chain: Chain, links: list[Pieces], before: Before) -> str:
    try:
        data = chain.read(0, chain.size)
    except SESparseError as e:
        _hold_what_is_readable(chain, before.data, e, labelled=before.labels(chain))
        return "refused"
    if data == before.data:
        return "right"
    if before.labels(chain):
        return "labelled"
    try:
        written = joined(oracle.disk(links[: len(chain.links)]))  # a descriptor may have lost all it said of a parent
    except Exception:  # the oracle has no errors of its own for what it cannot read
        return "WRONG"
    same = len(data) == len(written) == len(before.data) and all(
        data[at : at + 4096] in (written[at : at + 4096], before.data[at : at + 4096])
        for at in range(0, len(data), 4096)
    )
    return "as written" if same else "WRONG"


def lose_power(path: Path, rng: random.Random) -> None:
    """Write an extent whose last transactions are only in its journal."""
    extent = random_extent(rng, "dirty", SECTORS, hole=0.6)
    extent.checkpoint()
    free = [grain for grain in range(SECTORS // 8) if not extent._entries.get(grain)]
    for grain in rng.sample(free, TRANSACTIONS):
        extent.allocate(grain, grain_data("lost", grain))
        extent.commit()
    extent.set_dirty()
    extent.write(path)


def _hold_what_is_readable(chain: Chain, original: bytes, error: SESparseError, *, labelled: bool) -> None:
    """A read that raises moves nothing: what else can be read is in its place."""
    assert labelled, f"an error that no finding tells: {error}"
    for offset in range(0, min(chain.size, len(original)), 65536):
        try:
            assert len(chain.read(offset, 512)) == 512
        except SESparseError:
            continue


def run(count: int, seed: int) -> Counter[tuple[str, str, str]]:
    """Mutate chains so many times; how often each kind had each outcome, in each mode."""
    rng = random.Random(seed)
    outcomes: Counter[tuple[str, str, str]] = Counter()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name) / "store" / "vm"
        folder.mkdir(parents=True)
        links = random_chain(folder, random.Random(seed), 3, SECTORS)
        newest = write_chain(folder, links)
        lose_power(folder / "link0-sesparse.vmdk", random.Random(seed))
        before = {mode: Before(newest, options) for mode, options in MODES.items()}
        kept = {path: _heads(path) for path in folder.iterdir() if "flat" not in path.name}
        for number in range(count):
            kind = mutate(rng, folder)
            for mode in MODES:
                found = outcome(newest, links, before[mode])
                outcomes[kind, mode, found] += 1
                if found == "WRONG":
                    print(f"WRONG: mutation {number} of seed {seed}, {kind}, {mode}", file=sys.stderr)
            for path, content in kept.items():
                _restore(path, content)
    return outcomes


def _heads(path: Path) -> dict[int, bytes]:
    """What a mutation may change of a file."""
    data = path.read_bytes()
    if len(data) < 4096:
        return {0: data}
    return {start: data[start : start + length] for start, length in REGIONS.values()}


def _restore(path: Path, content: dict[int, bytes]) -> None:
    with path.open("r+b") as fh:
        for start, data in content.items():
            fh.seek(start)
            fh.write(data)
        if list(content) == [0] and len(content[0]) < 4096 and 0 in content:
            fh.truncate(len(content[0]))


def table(outcomes: Counter[tuple[str, str, str]]) -> str:
    """The counts as a table of Markdown."""
    columns = ["right", "refused", "labelled", "as written", "WRONG"]
    lines = [f"| mutated | options | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for kind in [*REGIONS, "descriptor"]:
        for mode in MODES:
            counts = " | ".join(str(outcomes[kind, mode, column]) for column in columns)
            lines.append(f"| {kind} | {mode or '-'} | {counts} |")
    return "\n".join(lines)


if __name__ == "__main__":
    counted = run(int(sys.argv[1]) if len(sys.argv) > 1 else 2000, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print(table(counted))
    sys.exit(any(found == "WRONG" for _, _, found in counted))
