"""The state of a disk that a name means: a link's file name (with or without ``.vmdk``), or the name of a snapshot."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dissect_sesparse.chain.chain import open_chain
from dissect_sesparse.chain.walk import lineage
from dissect_sesparse.source.errors import FileError, OptionError, short
from dissect_sesparse.source.folder import exists, identity, is_regular
from dissect_sesparse.time.states import RunningDisk, frozen_states, list_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.source.folder import Folder
    from dissect_sesparse.vm.snapshots import SnapshotDisk

MAX_NAMES = 40
"""Names that an error lists."""


def is_named(file_name: str, name: str) -> bool:
    """Whether a link is meant by a name."""
    return name in (file_name, file_name.removesuffix(".vmdk"))


def path_named(frozen: Sequence[tuple[str, Path]], name: str) -> Path | None:
    """The descriptor that a name means: that of the snapshot of the very name, else of a name alike, else a file's name.

    Args:
        frozen: The name of each state, and the descriptor that shows the disk in it.
        name: What is looked for.

    Raises:
        OptionError: If several descriptors are meant.
    """
    rules = (
        lambda state, _: state == name,
        lambda state, _: state.strip().casefold() == name.strip().casefold(),
        lambda _, path: is_named(path.name, name),
    )
    matches = ({identity(path): path for state, path in frozen if rule(state, path)} for rule in rules)
    found = next(filter(None, matches), {})
    if len(found) > 1:
        names = ", ".join(sorted(path.name for path in found.values()))
        raise OptionError(field="state", value=name, expected=f"the name of one link: that snapshot's may be {names}")
    return next(iter(found.values()), None)


def no_such_state(name: str, known: Iterable[str]) -> OptionError:
    """The error for a name that means no state; it lists those that do."""
    names = list(dict.fromkeys(known))
    listed = ", ".join(short(repr(each)) for each in names[:MAX_NAMES])
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return OptionError("no such state", field="state", value=name, expected=f"one of {listed}{more}")


def chain_at(chain: Chain, name: str) -> Chain:
    """The disk as a link or a snapshot froze it, opened anew with the options of a chain, which is closed.

    Args:
        chain: The disk, opened alone: the snapshot list beside it counts.
        name: Of the state; that of the newest link is the disk as it is.

    Raises:
        OptionError: If there is no such state, or several.
        SESparseError: If it cannot be opened.
    """
    link = next((link for link in chain.links if is_named(link.name, name)), None)
    if link is not None and not link.depth:
        return chain
    try:
        if link is None:
            path, folder = _of_snapshot(chain, name)
            link = next((own for own in chain.links if identity(own.path) == identity(path)), None)
        else:
            path, folder = link.path, link.folder
        if path is None:
            raise FileError("its older states cannot be opened: it was opened as a file object, not by its path")
        lacks = chain.named_parent_of
        kept = link is not None and lacks is not None and link.depth <= lacks
        return open_chain(path, replace(chain.options, parent=chain.options.parent if kept else None), within=folder)
    finally:
        chain.close()


def _of_snapshot(chain: Chain, name: str) -> tuple[Path, Folder | None]:
    """The descriptor of a snapshot's state, and the folder that it is named from."""
    folder, links = chain.links[0].folder, tuple(link.path for link in chain.links if link.path is not None)
    known = [link.name for link in chain.links]
    if folder is None:
        raise no_such_state(name, known)
    own = {identity(path) for path in links}

    def locate(disk: SnapshotDisk) -> Path:
        found = next((path for _, path in folder.candidates(disk.filename) if exists(path)), None)
        if found is None or not is_regular(found):
            raise FileError("the file is missing", file=disk.filename)
        if not any(identity(step.path) in own for step in lineage(found, folder)):
            raise FileError("it is another disk than the one that was opened", file=disk.filename)
        return found

    folders = tuple(link.folder for link in chain.links if link.folder is not None)
    states, _ = frozen_states(
        [RunningDisk("", chain.name, links, folders)], list_of(folder, None, known), locate, folder
    )
    frozen = [(state.name, state.disks[0].path) for state in states if state.disks]
    path = path_named(frozen, name)
    if path is None:
        raise no_such_state(name, [*known, *(state for state, _ in frozen)])
    link = next((link for link in chain.links if identity(link.path) == identity(path)), None)
    return path, (link.folder if link is not None else folder)
