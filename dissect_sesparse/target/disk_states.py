"""The disks of a machine, all of them and of whatever kind, as they run and as its snapshots froze them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.source.folder import identity
from dissect_sesparse.source.options import CHOICES, Options
from dissect_sesparse.target.machine import (
    frozen_state_named,
    inherited_options,
    opening_of,
    sesparse_disks,
    snapshot_states,
    state_problems,
)
from dissect_sesparse.target.vm import OPENED_VM, OpenedVm, locate, reason_of
from dissect_sesparse.time.changes import DiskState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect.target.target import Target

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.time.states import FrozenDisk, FrozenState


class StateOfDisk(NamedTuple):
    """A disk of a machine in a state."""

    state: DiskState
    names: tuple[str, ...]
    """Of the snapshots that froze it."""
    running: bool
    notes: tuple[str, ...]
    """What is odd about these snapshots."""


@dataclass
class DiskStates:
    """The states of one disk, oldest first."""

    name: str
    node: str
    states: list[StateOfDisk] = field(default_factory=list)


class MachineStates:
    """The disks of a machine, and those of their states that are wanted.

    Args:
        target: The machine, whose disks are open.
    """

    def __init__(self, target: Target):
        self.target = target
        self.disks: list[DiskStates] = []
        self.left_out: list[dict[str, str]] = []
        """Disks and states that cannot be had: ``disk`` and ``reason``."""
        self._opened: list[Chain] = []
        """By this, and to be closed by it; the chains of the machine's own disks are the target's."""
        self._chains: list[Chain] = [disk.chain for disk in sesparse_disks(target)]
        self._running = [DiskStates(name, node, [_running(chain)]) for name, node, chain in self._found()]

    def close(self) -> None:
        """Close what was opened beside the disks of the target."""
        for chain in self._opened:
            chain.close()

    # What is wanted

    def as_it_runs(self) -> None:
        """All disks as they run."""
        self.disks = self._running

    def as_frozen(self, name: str) -> None:
        """All disks as they were in the state of a name.

        Raises:
            OptionError: If there is no such state, or several.
        """
        state = frozen_state_named(self.target, name)
        if state is None:
            self.as_it_runs()
        else:
            self._add([state])

    def in_all_states(self) -> None:
        """All disks as all snapshots froze them, and as they run."""
        self._add(snapshot_states(self.target))
        for problem in state_problems(self.target):
            self.left_out.append({"disk": "", "reason": problem})
        for disk in self._running:
            own = self._disk(disk.name, disk.node)
            (running,) = disk.states
            same = [state for state in own.states if _link(state.state) == _link(running.state)]
            for state in same:  # a snapshot that names the running disk has its bytes
                own.states.remove(state)
                running = running._replace(names=running.names + state.names, notes=running.notes + state.notes)
            own.states.append(running)

    # How it is found

    def _found(self) -> Iterator[tuple[str, str, Chain]]:
        """Name, node and chain of each disk as it runs; also of those that are no seSparse ones."""
        vm: OpenedVm | None = self.target.props.get(OPENED_VM)
        if vm is None:
            for disk in self.target.disks:
                if getattr(disk, "__type__", None) == "sesparse":
                    yield disk.chain.name, "", disk.chain  # type: ignore[attr-defined]
                else:
                    self.left_out.append({"disk": str(disk), "reason": "no disk of VMware that this package reads"})
            return
        for disk, opened in vm.disks:
            if opened is None:
                continue  # the command has said so
            if getattr(opened, "__type__", None) == "sesparse":
                yield opened.chain.name, disk.node, opened.chain  # type: ignore[attr-defined]
                continue
            try:
                chain = open_chain(locate(vm.folder, disk.filename), self._options(), within=vm.folder)
            except Exception as e:
                self.left_out.append({"disk": disk.filename, "reason": reason_of(e)})
                continue
            self._keep(chain)
            yield chain.name, disk.node, chain

    def _options(self) -> Options:
        known = inherited_options(self.target) if sesparse_disks(self.target) else {}
        return Options.collect({name: value for name, value in known.items() if name in CHOICES})

    def _keep(self, chain: Chain) -> None:
        self._opened.append(chain)
        self._chains.append(chain)

    def _add(self, states: list[FrozenState]) -> None:
        """Put states in, of which the newest are opened first: their chains have the older ones in them."""
        found: dict[tuple[str, str], dict[str, StateOfDisk]] = {}
        for state in reversed(states):
            missing = len(state.snapshot.files) - len(state.disks) if state.snapshot is not None else 0
            if missing > 0:
                self.left_out.append({"disk": "", "reason": f"{state.name}: {'; '.join(state.notes)}"})
            for disk in state.disks:
                try:
                    shown = self._state(disk)
                except Exception as e:
                    self.left_out.append({"disk": disk.path.name, "reason": f"{state.name}: {reason_of(e)}"})
                    continue
                of_disk = found.setdefault(self._named(disk, shown), {})
                notes = tuple(f"{state.name}: {note}" for note in state.notes)
                known = of_disk.pop(_link(shown), StateOfDisk(shown, (), False, ()))
                of_disk[_link(shown)] = known._replace(names=(state.name, *known.names), notes=(*notes, *known.notes))
        for (name, node), of_disk in found.items():
            self._disk(name, node).states += reversed(of_disk.values())

    def _state(self, disk: FrozenDisk) -> DiskState:
        wanted = identity(disk.path)
        for chain in self._chains:
            for link in chain.links:
                if link.path is not None and identity(link.path) == wanted:
                    return DiskState(chain, link.depth)
        opening = opening_of(self.target, disk.path)
        options: dict[str, Any] = {"parent": opening.parent}
        known = self._options()
        chain = open_chain(
            disk.path,
            Options.collect(options, {name: getattr(known, name) for name in CHOICES}),
            within=opening.within,
        )
        self._keep(chain)
        return DiskState(chain, 0)

    def _named(self, disk: FrozenDisk, shown: DiskState) -> tuple[str, str]:
        """The name and the node of the running disk that a state is of: by its node, else by a link that both have."""
        own = {identity(link.path) for link in shown.links if link.path is not None}
        at_node = [running for running in self._running if running.node and running.node == disk.node]
        by_link = (running for running in self._running if own & _links(running.states[0].state.chain))
        running = next(by_link, at_node[0] if at_node else None)
        return (running.name, running.node) if running is not None else (shown.name, disk.node)

    def _disk(self, name: str, node: str) -> DiskStates:
        """The disk of that name at that node, which is put in where it is not."""
        known = next((disk for disk in self.disks if (disk.name, disk.node) == (name, node)), None)
        if known is None:
            known = DiskStates(name, node)
            self.disks.append(known)
        return known


def _running(chain: Chain) -> StateOfDisk:
    return StateOfDisk(DiskState(chain, 0), (), True, ())


def _links(chain: Chain) -> set[str]:
    return {identity(link.path) for link in chain.links if link.path is not None}


def _link(state: DiskState) -> str:
    """What tells that two states of a disk are one."""
    path = state.links[0].path
    return identity(path) if path is not None else state.name
