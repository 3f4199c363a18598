"""The paths of folders of XFS at a moment of its history: by the states, and where none has a folder by the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dissect_sesparse.xfs.history import stored_inode

if TYPE_CHECKING:
    from dissect_sesparse.xfs.history import Moment, XfsHistory, XfsState

MAX_DEPTH = 255
"""Folders above a file."""


class XfsPaths:
    """The paths of folders.

    Args:
        history: What is known of them.
    """

    def __init__(self, history: XfsHistory):
        self._history = history
        self._children: dict[tuple[int, int], dict[int, str]] = {}

    def of(self, number: int, moment: Moment, depth: int = 0) -> str:
        """The path of a folder, without slashes around it. Of what is not known its inode stands there.

        Args:
            number: Its inode.
            moment: When.
            depth: How many folders it is above that which is asked for.
        """
        use = self._history.use_at(number, moment)
        ordered = self._history.states[::-1]
        for state in (ordered[moment[0]], *ordered[max(0, moment[0] - 1) : moment[0]]):
            inode = stored_inode(state.fs, number)
            if inode is not None and inode.lives and (use is None or inode.generation == use.generation):
                path = self._in_state(state, number)
                if path is not None:
                    return path
        names = self._history.names(use) if use is not None else []
        names = [name for name in names if name.first <= moment]
        if not names or depth > MAX_DEPTH:
            return f"<folder {number:#x} is gone>"
        last = max(names, key=lambda name: (name.last, name.first))
        name = last.name.decode(errors="surrogateescape")
        return f"{self.of(last.folder, moment, depth + 1)}/{name}".lstrip("/")

    def _in_state(self, state: XfsState, number: int) -> str | None:
        """The path of a folder in a state; ``None`` where that has none."""
        xfs, names = state.fs.xfs, []
        try:
            while number != xfs.sb.sb_rootino:
                above = next(node.inum for node in xfs.get_inode(number).iterdir() if node.filename == "..")
                names.append(self._of(state, xfs, above)[number])
                number = above
                if len(names) > MAX_DEPTH:
                    return None
        except Exception:  # whatever dissect.xfs trips over, or it is not there
            return None
        return "/".join(reversed(names))

    def _of(self, state: XfsState, xfs: Any, number: int) -> dict[int, str]:
        """The names in a folder by inode."""
        key = state.depth, number
        if key not in self._children:
            nodes = xfs.get_inode(number).iterdir()
            self._children[key] = {node.inum: node.filename for node in nodes if node.filename not in (".", "..")}
        return self._children[key]
