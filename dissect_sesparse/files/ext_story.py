"""What the journals of ext say of a file beside its bytes: its path, how sure that is, and what happened to it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from dissect_sesparse.extfs.inode import ext_inode
from dissect_sesparse.extfs.state import ROOT
from dissect_sesparse.files.ext_deletion import guest_time
from dissect_sesparse.files.ext_paths import MAX_FOLDERS_ABOVE, ExtFolders
from dissect_sesparse.files.story import Event, Naming
from dissect_sesparse.time.time_window import TimeWindow

if TYPE_CHECKING:
    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.extfs.history import ExtHistory, NameCopy
    from dissect_sesparse.extfs.inode import ExtUse
    from dissect_sesparse.extfs.state import ExtState
    from dissect_sesparse.extfs.uses import JournalUse
    from dissect_sesparse.files.not_looked import Warnings
    from dissect_sesparse.files.story import Deletion


class LoggedPaths:
    """Paths of files that the journals name.

    Args:
        history: What the journals say.
        warnings: Gets the folders that cannot be read.
    """

    def __init__(self, history: ExtHistory, warnings: Warnings):
        self._history = history
        self._folders = {state.depth: ExtFolders(state, warnings) for state in history.states}

    def of(self, use: JournalUse, state: ExtState) -> str:
        """The last path of a file, without a slash at the start.

        Args:
            use: The file.
            state: The oldest one that has it no more.
        """
        if not use.names:
            return f"<inode {use.use.number}>"
        return self.of_name(use.names[-1].copy, state)

    def of_name(self, copy: NameCopy, state: ExtState) -> str:
        """The path of a name."""
        name = copy.name.decode("utf-8", "backslashreplace").replace("/", "_")
        above = self._folder(copy.folder, copy.sequence, state, 0)
        return f"{above}/{name}".strip("/").encode("utf-8", "backslashreplace").decode()

    def _folder(self, number: int, sequence: int, state: ExtState, depth: int) -> str:
        """The path of a folder as of a transaction: by the state next to that, by the others, by the journals."""
        if number == ROOT:
            return ""
        then = self._history.at(number, sequence)
        use = ext_inode(number, then.raw).use if then is not None else None
        nearest = sorted(self._history.states, key=lambda each: abs(each.depth - state.depth))
        for each in nearest:
            with suppress(Exception):  # then another state may have it
                inode = each.inode(number)
                if inode.is_live and inode.is_folder and use in (None, inode.use):
                    return self._folders[each.depth].of_folder(number).path
        names = [copy for copy in self._history.names.get(number, ()) if copy.sequence <= sequence]
        if use is None or not names or depth >= MAX_FOLDERS_ABOVE or not self._had(number, names[-1], use):
            return f"<folder {number:#x} is gone>"
        copy = names[-1]
        above = self._folder(copy.folder, copy.sequence, state, depth + 1)
        return f"{above}/{copy.name.decode('utf-8', 'backslashreplace').replace('/', '_')}"

    def _had(self, number: int, copy: NameCopy, use: ExtUse) -> bool:
        """Whether an inode was in some use when it had a name."""
        then = self._history.at(number, copy.sequence)
        return then is not None and ext_inode(number, then.raw).use == use


def naming_of_logged(use: JournalUse, chain: Chain) -> Naming:
    """How sure the name of a file is that only the journals have."""
    link = chain.links[use.last.depth].name
    if not use.names:
        return Naming("journal", "unknown", f"the journal of {link} has its inode, and no folder that names it")
    name = use.names[-1]
    which = f"transaction {name.copy.sequence} of the journal of {chain.links[name.copy.depth].name} has it in a folder"
    if name.sure:
        return Naming("journal", "likely", f"{which}, and its inode as this file's; a later name may not be known")
    return Naming(
        "journal", "ambiguous", f"{which}; its inode may have been another file's then: transactions are missing"
    )


def story_of(use: JournalUse, paths: LoggedPaths, state: ExtState, deletion: Deletion) -> tuple[Event, ...]:
    """What the journals say happened to a file: one with several names at a time has no renames."""
    named = [name.copy for name in use.names if name.sure]
    known = [paths.of_name(copy, state) for copy in named] or [paths.of(use, state)]
    events = []
    if use.use.born:
        born = "its inode's time of birth, by the guest's clock"
        events.append(Event("made", known[0], guest_time(use.use.born), TimeWindow(), born))
    for copy, old, path in zip(named[1:], known, known[1:]) if use.inode.links == 1 else ():
        which = f"transaction {copy.sequence} of the guest's journal, committed then, has the new name"
        events.append(Event("renamed", path, None, TimeWindow(None, guest_time(copy.committed)), which, old))
    return (*events, Event("deleted", known[-1], deletion.logged, deletion.window, deletion.basis))
