"""What the guest changed between two states: what was done to each grain, held against what the test did to it."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
import target_fixtures
from disks import flat, sparse, write_chain
from dissect.target import Target, container
from dissect.target.exceptions import FatalError
from sesparse_builder import ChainBuilder, ExtentBuilder, grain_data, vmsd, vmx
from target_fixtures import GRAINS, NEWEST, SECTORS, UNKNOWN_STATE, add_delta, small_chain, tool

from dissect_sesparse import Chain, open_chain
from dissect_sesparse.source.errors import ParentError, SESparseError
from dissect_sesparse.time.changes import KINDS, Change, DiskState, changes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

example = target_fixtures.example_vm

MOMENT = datetime(2024, 3, 11, 20, 0, tzinfo=timezone.utc)
Done = dict[int, str]
"""What the guest did to each grain in the time of a link, as the last thing."""


def random_delta(extent: ExtentBuilder, rng: random.Random, value: str) -> Done:
    """Do many things to a delta, and remember the last one for each grain."""
    done: Done = {}
    for _ in range(60):
        first, kind = rng.randrange(GRAINS - 8), rng.choice(["written", "written", "zeroed", "unmapped"])
        for grain in range(first, first + rng.randrange(1, 8)):
            if kind == "written":
                extent.allocate(grain, grain_data(rng.choice([value, "shared"]), grain))
            elif kind == "zeroed":
                extent.zero(grain)
            else:
                extent.unmap(grain)
            done[grain] = kind
    return done


def random_chain(folder: Path, rng: random.Random, deltas: int) -> tuple[Path, list[Done]]:
    """A chain, and what was done in each of its deltas, newest first."""
    chain = ChainBuilder(folder, SECTORS, {g * 8: grain_data("shared", g) for g in range(0, GRAINS, 3)})
    done = [random_delta(chain.add_delta(), rng, f"delta{number}") for number in range(deltas)]
    return chain.write(), done[::-1]


def by_grain(found: Iterator[Change]) -> dict[int, tuple[str, int]]:
    """Kind and depth of the link for each changed grain; no grain is told twice, and they are in order."""
    grains: dict[int, tuple[str, int]] = {}
    last = -1
    for change in found:
        assert change.size > 0
        assert change.offset % 4096 == 0
        assert change.offset > last
        last = change.offset + change.size - 1
        for offset in range(change.offset, change.offset + change.size, 4096):
            assert offset // 4096 not in grains
            grains[offset // 4096] = change.kind, change.link.depth
    return grains


def differences(before: bytes, after: bytes) -> set[int]:
    """The grains that differ."""
    return {
        start // 4096
        for start in range(0, len(before), 4096)
        if before[start : start + 4096] != after[start : start + 4096]
    }


def expected(done: list[Done], newer: int, older: int) -> dict[int, tuple[str, int]]:
    """What the links from ``newer`` to before ``older`` tell, the newest first."""
    told: dict[int, tuple[str, int]] = {}
    for depth in range(newer, older):
        for grain, kind in done[depth].items():
            told.setdefault(grain, (kind, depth))
    return told


@pytest.mark.parametrize("view", ["guest", "residual"])
@pytest.mark.parametrize("seed", range(3))
def test_random_chains(folder: Path, seed: int, view: str) -> None:
    """Between any two states, in both directions."""
    path, done = random_chain(folder, random.Random(seed), 3)
    with open_chain(path, view=view) as chain:
        for older in range(4):
            for newer in range(older + 1):
                found = by_grain(changes(DiskState(chain, older), DiskState(chain, newer)))
                assert found == expected(done, newer, older)
                undone = by_grain(changes(DiskState(chain, newer), DiskState(chain, older)))
                assert undone == {grain: ("reverted", depth) for grain, (_, depth) in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_all_that_differs_is_told(folder: Path, seed: int) -> None:
    """And with ``compare``, exactly what differs is said to differ."""
    path, _ = random_chain(folder, random.Random(seed), 3)
    with open_chain(path) as chain:
        for older, newer in ((3, 0), (2, 1), (0, 2)):
            states = DiskState(chain, older), DiskState(chain, newer)
            before, after = (state.as_guest().read(0, chain.size) for state in states)
            differing = differences(before, after)
            plain = by_grain(changes(*states))
            assert differing
            assert differing < set(plain), "some were written with what was there"
            compared = list(changes(*states, compare=True))
            assert by_grain(iter(compared)) == plain
            assert {g for g in by_grain(c for c in compared if c.same is False)} == differing
            assert {g for g in by_grain(c for c in compared if c.same)} == set(plain) - differing
            for one, next_ in zip(compared, compared[1:]):
                joined = one.run._replace(source=None).goes_on_as(next_.run._replace(source=None))
                assert not (joined and one.same == next_.same and one.link is next_.link and one.kind == next_.kind)


def test_places_are_those_of_the_bytes(folder: Path) -> None:
    path, _ = random_chain(folder, random.Random(7), 2)
    with open_chain(path) as chain:
        for compare in (False, True):
            for change in changes(DiskState(chain, 2), DiskState(chain, 0), compare=compare):
                if change.kind == "written":
                    file = change.run.source.extent.file
                    assert file.read(change.run.place, change.size) == chain.read(change.offset, change.size)


def branches(folder: Path, rng: random.Random) -> tuple[Path, Path, list[Done]]:
    """A base with one delta, and two branches above it: newest first, one of two links and one of one."""
    chain = ChainBuilder(folder, SECTORS, {g * 8: grain_data("shared", g) for g in range(0, GRAINS, 3)})
    done = [random_delta(chain.add_delta(), rng, f"delta{number}") for number in range(3)]
    path = chain.write()
    extent = ExtentBuilder(SECTORS)
    other = random_delta(extent, rng, "other")
    branch = add_delta(folder, "vm-000009", extent, folder / "vm-000001.vmdk", chain.links[1].cid, "00000009")
    return path, branch, [done[2], done[1], other]


@pytest.mark.parametrize("seed", range(3))
def test_branches(folder: Path, seed: int) -> None:
    """From the last link that both have: what the newer one's links tell, and what only the other one has is undone."""
    first, second, (top, middle, other) = branches(folder, random.Random(seed))
    with open_chain(first) as one, open_chain(second) as two:
        states = DiskState(one, 0), DiskState(two, 0)
        there = by_grain(changes(states[0], states[1]))
        of_first = expected([top, middle], 0, 2)
        undone = {grain: ("reverted", depth) for grain, (_, depth) in of_first.items()}
        assert there == undone | {grain: (kind, 0) for grain, kind in other.items()}
        back = by_grain(changes(states[1], states[0]))
        assert back == {grain: ("reverted", 0) for grain in other} | of_first
        before, after = (state.as_guest().read(0, one.size) for state in states)
        differing = differences(before, after)
        assert differing <= set(there)
        assert {g for g in by_grain(c for c in changes(*states, compare=True) if not c.same)} == differing


def test_all_kinds_are_met(folder: Path) -> None:
    """The tests above are worth something."""
    first, second, _ = branches(folder, random.Random(0))
    with open_chain(first) as one, open_chain(second) as two:
        kinds = {kind for kind, _ in by_grain(changes(DiskState(one, 0), DiskState(two, 0))).values()}
    assert kinds == set(KINDS) - {"unreadable", "cut"}


def sizes(folder: Path, *sectors: int) -> Path:
    """A chain of empty deltas over a full base, newest first, each of so many sectors."""
    links: list = [[sparse(folder / f"{n}-sesparse.vmdk", ExtentBuilder(size))] for n, size in enumerate(sectors[:-1])]
    return write_chain(folder, [*links, [flat(folder / "base-flat.vmdk", sectors[-1])]])


@pytest.mark.parametrize(
    ("sectors", "older", "newer", "told"),
    [
        # A shorter link in between hides what both ends have room for
        ((16, 8, 16), 2, 0, [(4096, 4096, "cut", 1, False)]),
        ((16, 9, 16), 2, 0, [(4608, 3584, "cut", 1, False)]),
        ((16, 8, 16), 0, 2, [(4096, 4096, "reverted", 1, False)]),
        # The disk itself became smaller, or larger
        ((8, 16), 1, 0, [(4096, 4096, "cut", 0, False)]),
        ((16, 8), 1, 0, []),
        ((16, 8, 16), 1, 0, []),
    ],
)
def test_shorter_links(folder: Path, sectors: tuple, older: int, newer: int, told: list) -> None:
    with open_chain(sizes(folder, *sectors)) as chain:
        found = list(changes(DiskState(chain, older), DiskState(chain, newer), compare=True))
        assert [(c.offset, c.size, c.kind, c.link.depth, c.same) for c in found] == told
        for change in found:
            assert change.run.source.extent.file.name == "base-flat.vmdk"
            assert change.run.place == change.offset


def test_same_state(folder: Path) -> None:
    with open_chain(small_chain(folder).write()) as chain:
        assert list(changes(DiskState(chain, 0), DiskState(chain, 0))) == []
        assert list(changes(DiskState(chain, 1), DiskState(chain, 1), compare=True)) == []


def test_different_disks(folder: Path) -> None:
    with open_chain(small_chain(folder, "a").write()) as a, open_chain(small_chain(folder, "b").write()) as b:
        with pytest.raises(ParentError, match="no link in common"):
            list(changes(DiskState(a, 0), DiskState(b, 0)))


def test_corrupt_entry(folder: Path) -> None:
    """It is not known what was done there, and whether the bytes are the same."""
    chain = small_chain(folder)
    chain.links[1].extent.set_entry(100, UNKNOWN_STATE)
    with open_chain(chain.write(), unreadable="zero") as opened:
        found = list(changes(DiskState(opened, 1), DiskState(opened, 0), compare=True))
    assert [(c.offset // 4096, c.kind, c.same) for c in found] == [(10, "written", False), (100, "unreadable", None)]


def test_disk_that_was_made_larger(folder: Path) -> None:
    """What the older state did not have reads as zeros there."""
    base = small_chain(folder, deltas=1)
    parent = base.write()
    extent = ExtentBuilder(2 * SECTORS)
    extent.allocate(GRAINS + 5, grain_data("new", 5))
    extent.allocate(GRAINS + 6, bytes(4096))
    extent.allocate(GRAINS - 1, grain_data("new", 1))
    path = add_delta(folder, "vm-000002", extent, parent, base.links[1].cid, "00000002")
    with open_chain(path) as chain:
        found = list(changes(DiskState(chain, 1), DiskState(chain, 0), compare=True))
    assert [(c.offset // 4096 - GRAINS, c.same) for c in found] == [(-1, False), (5, False), (6, True)]


def test_memory_goes_with_no_size(folder: Path) -> None:
    """A written range of 20 MiB is compared in pieces."""
    chain = ChainBuilder(folder, SECTORS)
    extent = chain.add_delta()
    for grain in range(GRAINS):
        extent.allocate(grain, b"x" * 4096)
    reads = []
    with open_chain(chain.write()) as opened:

        def read(self: Chain, offset: int, length: int, real=Chain.read) -> bytes:
            reads.append(length)
            return real(self, offset, length)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Chain, "read", read)
            (change,) = changes(DiskState(opened, 1), DiskState(opened, 0), compare=True)
    assert (change.size, change.same) == (GRAINS * 4096, False)
    assert max(reads) <= 4 * 1024 * 1024


# The function


def entry(uid: int, disks: list[str], name: str | None = None) -> dict:
    return {"uid": uid, "display_name": name or f"s{uid}", "created": MOMENT + timedelta(days=uid), "disks": disks}


def machine(folder: Path, running: list[str], snapshots: list[dict]) -> Target:
    (folder / "vm.vmx").write_bytes(vmx(running, "vm").encode())
    (folder / "vm.vmsd").write_bytes(vmsd(snapshots).encode())
    return Target.open(folder / "vm.vmx")


def told(target: Target, **options: object) -> list[tuple]:
    return [
        (record.disk, record.link, record.depth, record.offset // 4096, record.kind)
        for record in target.sesparse.changes(**options)
    ]


def linear(folder: Path) -> Target:
    path = small_chain(folder, deltas=3).write()
    return machine(folder, [path.name], [entry(n + 1, [f"vm-{n:06}.vmdk" if n else "vm.vmdk"]) for n in range(3)])


LINES = [
    ("vm-000003.vmdk", "vm-000001.vmdk", 2, 10, "written"),
    ("vm-000003.vmdk", "vm-000002.vmdk", 1, 20, "written"),
    ("vm-000003.vmdk", "vm-000003.vmdk", 0, 30, "written"),
]


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({}, LINES),
        ({"from_": "vm"}, LINES),
        ({"from_": "s1", "to": "vm-000003.vmdk"}, LINES),
        ({"from_": "s2"}, LINES[1:]),
        ({"to": "s2"}, LINES[:1]),
        ({"from_": "S2 ", "to": "vm-000002"}, LINES[1:2]),
        ({"from_": "s2", "to": "s2"}, []),
        ({"from_": "vm-000002", "to": "s1"}, [(*line[:4], "reverted") for line in LINES[:2]]),
    ],
)
def test_names_of_states(folder: Path, options: dict, lines: list) -> None:
    assert told(linear(folder), **options) == lines


def test_records(folder: Path) -> None:
    target = linear(folder)
    first, second, third = target.sesparse.changes()
    assert [(r.after, r.before) for r in (first, second, third)] == [
        (MOMENT + timedelta(days=1), MOMENT + timedelta(days=2)),
        (MOMENT + timedelta(days=2), MOMENT + timedelta(days=3)),
        (MOMENT + timedelta(days=3), None),
    ]
    assert str(first.source).endswith("vm-000001-sesparse.vmdk")
    with open(str(first.source), "rb") as fh:
        fh.seek(first.source_offset)
        assert fh.read(first.size) == grain_data("delta1", 10)
    assert first.same is None
    assert [record.same for record in target.sesparse.changes(compare=True)] == [False] * 3


@pytest.mark.slow
def test_unknown_state(folder: Path) -> None:
    target = linear(folder)
    with pytest.raises(
        FatalError, match=r"no disk has the state 'nonesuch', expected one of 'vm-000003.vmdk', "
    ) as caught:
        target.sesparse.changes(from_="nonesuch")
    assert "'vm.vmdk', 's1', 's2', 's3'" in str(caught.value)
    done = tool("target-query", folder / "vm.vmx", "-f", "sesparse.changes", "--from", "nonesuch", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no disk has the state" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_snapshots_of_one_name(folder: Path) -> None:
    path = small_chain(folder, deltas=2).write()
    target = machine(folder, [path.name], [entry(1, ["vm.vmdk"], "nightly"), entry(2, ["vm-000001.vmdk"], "nightly")])
    with pytest.raises(SESparseError, match="that snapshot's may be vm-000001.vmdk, vm.vmdk"):
        target.sesparse.changes(from_="nightly")
    assert len(told(target, from_="vm-000001")) == 1


def test_branch_by_the_name_of_its_snapshot(folder: Path) -> None:
    chain = small_chain(folder, deltas=2)
    chain.write()
    extent = ExtentBuilder(SECTORS)
    extent.allocate(30, grain_data("after revert", 30))
    add_delta(folder, "vm-000003", extent, folder / "vm.vmdk", chain.links[0].cid, "0000beef")
    target = machine(folder, ["vm-000003.vmdk"], [entry(1, ["vm.vmdk"]), entry(2, ["vm-000001.vmdk"], "left")])
    there = [
        ("vm-000003.vmdk", "vm-000001.vmdk", 0, 10, "reverted"),
        ("vm-000003.vmdk", "vm-000003.vmdk", 0, 30, "written"),
    ]
    assert told(target, from_="left") == there
    assert told(target, from_="vm-000001.vmdk") == there
    back = [(*line[:4], kind) for line, kind in zip(there, ("written", "reverted"))]
    assert told(target, from_="vm-000003", to="left") == back
    assert told(target, to="left") == back[:1]


def test_several_disks(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A snapshot's name means a state of each; a link's name that of one."""
    names = [small_chain(folder, name, deltas=2).write().name for name in "ab"]
    target = machine(folder, names, [entry(1, ["a.vmdk", "b.vmdk"]), entry(2, ["a-000001.vmdk", "b-000001.vmdk"])])
    assert [line[:2] for line in told(target, from_="s2")] == [(name, name) for name in names]
    assert [line[:2] for line in told(target, from_="a-000001")] == [(names[0], names[0])]
    assert "No disk" not in caplog.text


def test_broken_branch(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    chain = small_chain(folder, deltas=2)
    chain.write()
    add_delta(folder, "vm-000003", ExtentBuilder(SECTORS), folder / "vm.vmdk", chain.links[0].cid, "0000beef")
    (folder / "vm-000001-sesparse.vmdk").unlink()
    target = machine(folder, ["vm-000003.vmdk"], [entry(1, ["vm.vmdk"]), entry(2, ["vm-000001.vmdk"])])
    assert told(target, from_="s2") == []
    assert "vm-000001-sesparse.vmdk" in caplog.text


def test_disk_without_a_list(folder: Path) -> None:
    target = Target()
    target.disks.add(container.open(small_chain(folder, deltas=3).write()))
    target.apply()
    assert told(target) == LINES
    assert told(target, from_="vm-000001", to="vm-000002") == LINES[1:2]


@pytest.mark.slow
def test_example(example: Path) -> None:
    """By the command line: no option of ours is taken for one of target-query's."""
    done = tool(
        "target-query", example, "-f", "sesparse.changes", "--from", "before patch", "--to", "after patch", "-s"
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("<virtualization/vmware/sesparse/change ")]
    assert lines
    assert all("link='web01-000001.vmdk'" in line for line in lines)
    assert {kind for kind in KINDS for line in lines if f"kind='{kind}'" in line} == {"written", "unmapped"}
    with open_chain(example.parent / NEWEST) as chain:
        found = list(changes(DiskState(chain, 2), DiskState(chain, 1)))
    assert len(lines) == len(found)
