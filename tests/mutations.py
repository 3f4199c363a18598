"""Seeded mutations of headers, tables and descriptors of whole chains: ``python tests/mutations.py [COUNT] [SEED]``.

Each outcome has to be one of

* ``right``: the bytes of the chain before the mutation;
* ``refused``: at the opening, or at a read, by an error of ours;
* ``labelled``: other bytes, and a finding that says something is wrong;
* ``as written``: other bytes without a finding, and the plain oracle reads the mutated files the same way: the mutation made
  another valid disk, which nothing can tell from a true one.

Anything else is ``WRONG``.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "examples")]

import oracle
from disks import Pieces, joined, random_chain, write_chain

from dissect_sesparse import Chain, SESparseError, open_chain
from dissect_sesparse.evidence.findings import findings

SECTORS = 9000
REGIONS = {"header": (0, 1024), "directory": (4096 * 512, 8), "table": (6144 * 512, 9000)}
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
    with path.open("r+b") as fh:
        for _ in range(rng.randint(1, 3)):
            fh.seek(start + rng.randrange(length // 8) * 8)
            value = rng.choice(VALUES) if rng.random() < 0.6 else rng.randrange(1 << 64)
            if kind == "table" and rng.random() < 0.5:
                place = rng.randrange(2000)
                value = rng.randrange(4) << 60 | (place & 0xFFF) << 48
            fh.write(value.to_bytes(8, "little"))
    return kind


def outcome(newest: Path, links: list[Pieces], original: bytes) -> str:
    """What became of a mutated chain."""
    try:
        with open_chain(newest) as chain:
            return _of_open(chain, links, original)
    except SESparseError as e:
        assert str(e), "an error without a word"
        return "refused"


def _of_open(chain: Chain, links: list[Pieces], original: bytes) -> str:
    try:
        data = chain.read(0, chain.size)
    except SESparseError as e:
        _hold_what_is_readable(chain, original, e, labelled=any(True for _ in findings(chain)))
        return "refused"
    if data == original:
        return "right"
    if any(True for _ in findings(chain)):
        return "labelled"
    try:
        return "as written" if data == joined(oracle.disk(links)) else "WRONG"
    except Exception:  # the oracle has no errors of its own for what it cannot read
        return "WRONG"


def _hold_what_is_readable(chain: Chain, original: bytes, error: SESparseError, *, labelled: bool) -> None:
    """A read that raises moves nothing: what else can be read is in its place."""
    assert labelled, f"an error that no finding tells: {error}"
    for offset in range(0, min(chain.size, len(original)), 65536):
        try:
            assert len(chain.read(offset, 512)) == 512
        except SESparseError:
            continue


def run(count: int, seed: int) -> Counter[tuple[str, str]]:
    """Mutate chains so many times; how often each kind had each outcome."""
    rng = random.Random(seed)
    outcomes: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name) / "store" / "vm"
        folder.mkdir(parents=True)
        links = random_chain(folder, random.Random(seed), 3, SECTORS)
        newest = write_chain(folder, links)
        with open_chain(newest) as chain:
            original = chain.read(0, chain.size)
        kept = {path: _heads(path) for path in folder.iterdir() if "flat" not in path.name}
        for number in range(count):
            kind = mutate(rng, folder)
            found = outcome(newest, links, original)
            outcomes[kind, found] += 1
            if found == "WRONG":
                print(f"WRONG: mutation {number} of seed {seed}, {kind}", file=sys.stderr)
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


def table(outcomes: Counter[tuple[str, str]]) -> str:
    """The counts as a table of Markdown."""
    columns = ["right", "refused", "labelled", "as written", "WRONG"]
    lines = [f"| mutated | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for kind in [*REGIONS, "descriptor"]:
        lines.append(f"| {kind} | {' | '.join(str(outcomes[kind, column]) for column in columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    counted = run(int(sys.argv[1]) if len(sys.argv) > 1 else 2000, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print(table(counted))
    sys.exit(any(found == "WRONG" for _, found in counted))
