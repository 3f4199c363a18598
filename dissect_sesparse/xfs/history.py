"""What the logs of XFS in all states of a disk say of its files: made, renamed, deleted, and what of it still lives.

The logs are read from the oldest state to the newest, each from where the one before ended. A file is the same by its inode
and generation: a freed inode has the next generation, and who gets it then one at random (Linux, fs/xfs, ``xfs_ifree`` and
``xfs_iget_cache_miss``). The log has no times. The inode has: its last change is that by which it was deleted, or a
later one of a file that was still open. An inode that is free keeps it until it is used again.

A log that turned round between two states has lost what lies between them: what is not said here may have been all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from dissect_sesparse.xfs.blocks import FolderBlocks
from dissect_sesparse.xfs.items import BUFFER, InodeImage, NameImage, block_of, block_place, inode_of, names_in_inode
from dissect_sesparse.xfs.log import Log, LogReader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


MAX_USES = 2_000_000
"""Files and folders, and names of them, that the logs of a file system say anything of."""
_MAX_NAMES = 100
"""Names of an inode."""
_MAX_LOG = 2 << 30
"""Bytes of a log (XFS_MAX_LOG_BYTES)."""

Moment = tuple[int, int]
"""Number of a state, the oldest is 0, and log sequence number in its log."""


class XfsState(Protocol):
    """The file system in one state of the disk."""

    @property
    def depth(self) -> int:
        """Of the link that was the newest then."""
        ...

    @property
    def name(self) -> str:
        """What dissect calls its volume."""
        ...

    @property
    def fs(self) -> Any:
        """As dissect opened it."""
        ...

    @property
    def volume(self) -> Any:
        """What it lies on, as bytes."""
        ...


class Use(NamedTuple):
    """A file or folder that had an inode."""

    number: int
    generation: int


@dataclass
class Life:
    """What the log says of a use of an inode."""

    begun: Moment
    """The first that it says."""
    image: InodeImage
    """The last one in which it was alive; where there is none, that of its end."""
    ended: Moment | None = None
    """When nothing led to it any more; ``None`` where it was alive at last."""
    end: InodeImage | None = None
    """Its inode then, or freed."""


class NamedUse(NamedTuple):
    """A name that led to an inode, from one moment to another at least."""

    folder: int
    name: bytes
    first: Moment
    last: Moment


@dataclass
class XfsHistory:
    """What the logs of all states of a file system say.

    Args:
        states: Newest first.
        warn: Gets what is not looked at, and why.
    """

    states: Sequence[XfsState]
    warn: Callable[[str], None]
    lives: dict[Use, Life] = field(default_factory=dict, init=False)
    _latest: dict[int, tuple[int, InodeImage]] = field(default_factory=dict, init=False)
    """By number of inode: the last that any log says, and the number of the first state whose log does."""
    _names: dict[int, list[NamedUse]] = field(default_factory=dict, init=False)
    _uses_of: dict[int, list[Use]] = field(default_factory=dict, init=False)
    _blocks: FolderBlocks = field(default_factory=FolderBlocks, init=False)
    _log: LogReader = field(default_factory=LogReader, init=False)

    def __post_init__(self) -> None:
        for number, state in enumerate(reversed(self.states)):
            try:
                self._read(number, state)
            except Exception as e:  # whatever a disk or a reader trips over
                self.warn(f"{state.name}: not all of its log as of link {state.depth} is looked at: {e}")

    def depth_of(self, moment: Moment) -> tuple[int | None, int]:
        """Depths of the state before a moment and of that behind it; ``None`` where there is none before."""
        ordered = self.states[::-1]
        return ordered[moment[0] - 1].depth if moment[0] else None, ordered[moment[0]].depth

    def names(self, use: Use) -> list[NamedUse]:
        """The names of a file or folder, the oldest first."""
        life = self.lives.get(use)
        if life is None:
            return []
        names = [name for name in self._names.get(use.number, ()) if name.last >= life.begun]
        return [name for name in names if life.ended is None or name.first < life.ended]

    def use_at(self, number: int, moment: Moment) -> Use | None:
        """Whose an inode was at a moment, as far as the log says."""
        found = [
            (life.begun, use)
            for use in self._uses_of.get(number, ())
            if (life := self.lives[use]).begun <= moment and (life.ended is None or moment < life.ended)
        ]
        return max(found)[1] if found else None

    def is_live(self, use: Use) -> bool:
        """Whether the running guest has a file, by its inode or by what its log has that is not in the inode yet."""
        running = self.states[0]
        if running.depth:
            return False
        stored = stored_inode(running.fs, use.number)
        number, logged = self._latest.get(use.number, (0, stored))
        if stored is None or not stored.lsn:  # nothing says up to where it was written: what this log has is later
            stored = logged if stored is None or number == len(self.states) - 1 else stored
        elif logged is not None and logged.lsn > stored.lsn:
            stored = logged
        return stored is not None and stored.generation == use.generation and stored.lives

    def freed(self, use: Use, depth: int) -> tuple[InodeImage, int] | None:
        """The inode of a file of a state, as the next newer state that has it free keeps it, and the depth of that one."""
        for state in reversed(self.states):
            if state.depth < depth:
                inode = stored_inode(state.fs, use.number)
                if inode is None or (inode.generation != use.generation and inode.lives):
                    return None
                if inode.mode == 0 and inode.generation == (use.generation + 1) & 0xFFFFFFFF:
                    return inode, state.depth
        return None

    # Reading

    def _read(self, number: int, state: XfsState) -> None:
        fs: Any = state.fs
        sb = fs.xfs.sb
        size = sb.sb_logblocks * sb.sb_blocksize
        if not sb.sb_logstart or not 0 < size <= min(_MAX_LOG, state.volume.size):
            raise ValueError("it is on another disk, or its size cannot be")
        group, block = sb.sb_logstart >> sb.sb_agblklog, sb.sb_logstart & ((1 << sb.sb_agblklog) - 1)
        log = Log(state.volume, (group * sb.sb_agblocks + block) * sb.sb_blocksize, size)
        older, types = self.states[-number].volume if number else None, bool(fs.xfs._has_ftype)
        for item in self._log.items(log):
            moment = number, item.lsn
            if (image := inode_of(item)) is not None:
                self._take_inode(image, moment)
                for name in names_in_inode(item, image, types=types):
                    self._take_name(name, moment)
            elif (block := block_of(item)) is not None:
                found = self._blocks.changed(block, older, types=types)
                for name, leads_to in found.names if found is not None else ():
                    self._take_name(NameImage(found.owner, name, leads_to), moment)  # type: ignore[union-attr]
            elif item.kind == BUFFER:
                self._blocks.forget(block_place(item))

    def _take_inode(self, image: InodeImage, moment: Moment) -> None:
        self._latest[image.number] = moment[0], image
        ends = not image.lives
        generation = image.generation if image.mode else (image.generation - 1) & 0xFFFFFFFF
        use = Use(image.number, generation)
        life = self.lives.get(use)
        if life is None:
            if len(self.lives) >= MAX_USES:
                return
            life = self.lives[use] = Life(moment, image)
            self._uses_of.setdefault(image.number, []).append(use)
        if not ends:
            life.image, life.ended, life.end = image, None, None
        elif life.ended is None:
            life.ended, life.end = moment, image

    def _take_name(self, found: NameImage, moment: Moment) -> None:
        names = self._names.setdefault(found.number, [])
        same = [at for at, named in enumerate(names) if (named.folder, named.name) == (found.folder, found.name)]
        if same and names[same[-1]].last <= moment:
            names[same[-1]] = names[same[-1]]._replace(last=moment)
        elif len(names) < _MAX_NAMES and len(self._names) < MAX_USES:
            names.append(NamedUse(found.folder, found.name, moment, moment))


def stored_inode(fs: Any, number: int) -> InodeImage | None:
    """An inode as a state of the file system has it, with the LSN up to which it has what the log says.

    Returns:
        The inode; ``None`` where there is none, or it cannot be read.
    """
    try:
        node = fs.xfs.get_inode(number)
        inode = node.inode
        new = inode.di_version >= 3
        if new and inode.di_ino != number:
            return None
        times = node.atime_ns, node.mtime_ns, node.ctime_ns, node.crtime_ns if new else 0
        lsn = inode.di_lsn if new else 0
        return InodeImage(lsn, number, inode.di_gen, inode.di_mode, inode.di_nlink, inode.di_size, *times)
    except Exception:  # whatever dissect.xfs trips over: what is there is no inode
        return None
