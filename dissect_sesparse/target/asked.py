"""What the arguments of the functions ``sesparse.*`` name, and what is said where there is no such thing."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import TYPE_CHECKING

from dissect.target.exceptions import FatalError

from dissect_sesparse.source.errors import OptionError, SESparseError
from dissect_sesparse.source.text import printable
from dissect_sesparse.trimmed.states import STATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dissect.target.target import Target

    from dissect_sesparse.target.container import SESparseContainer
    from dissect_sesparse.time.changes import DiskState


def states_named(text: str) -> str:
    """The states of unmapped runs that an argument names, with commas.

    Raises:
        ArgumentTypeError: If it names another one: then the usage is wrong, and says what there is.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := sorted(set(names).difference(STATES)):
        raise ArgumentTypeError(printable(f"no state {', '.join(unknown)}: there are {', '.join(STATES)}"))
    return ",".join(names)


class NoStateError(OptionError, FatalError):
    """No disk has the state that was asked for. Fatal to dissect's tools: they end with 1, not as if nothing differed."""


def pairs_of_states(
    target: Target, disks: Sequence[SESparseContainer], from_: str, to: str
) -> list[tuple[SESparseContainer, DiskState, DiskState]]:
    """The two states of each disk that has both, by default its oldest and its newest link.

    Raises:
        NoStateError: If no disk has them, or a name means several.
    """
    from dissect_sesparse.target.machine import names_of_states, state_named  # not at every start of a tool
    from dissect_sesparse.time.changes import DiskState

    pairs, failed = [], False
    for disk in disks:
        opened: list[DiskState] = []
        try:
            for name, depth in ((from_, len(disk.chain.links) - 1), (to, 0)):
                state = state_named(target, disk, name) if name else DiskState(disk.chain, depth)
                if state is None:
                    target.log.info("%s has no state %s", disk.chain.name, name)
                    break
                opened.append(state)
        except OptionError as e:
            close_states(disk, opened)
            raise NoStateError(e.problem, field=e.field, value=e.value, expected=e.expected) from e
        except SESparseError as e:
            failed = True
            target.log.error("Not all is known about %s: %s", disk.chain.name, e)  # noqa: TRY400
        if len(opened) == 2:
            pairs.append((disk, *opened))
        else:
            close_states(disk, opened)
    if not pairs and not failed:
        names = ", ".join(map(repr, names_of_states(target)))
        wanted = " and ".join(repr(name) for name in (from_, to) if name)
        raise NoStateError(f"no disk has the state {wanted}", expected=f"one of {names}")
    return pairs


def close_states(disk: SESparseContainer, states: Iterable[DiskState]) -> None:
    """Close what was opened for states of branches."""
    for state in states:
        if state.chain is not disk.chain:
            state.chain.close()
