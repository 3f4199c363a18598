"""Each content that a file had, over all states of a disk: since when, until when, and whether the running guest still has it.

The file tables of all states are joined (see ``lines``); what nobody can have written to is one content without being read. The rest
is hashed, so that a content which came back is one: it says in which states it was. Whose the bytes are is said as for deleted files
(see ``content``). Contents that no state has at all are named where old grains have some of their bytes (see ``older_bytes``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.files.changed_ranges import ChangedRanges
from dissect_sesparse.files.deleted import FILE_STATES, Budget, DeletedFile, Recovered, measure
from dissect_sesparse.files.file_systems import states_of_volumes
from dissect_sesparse.files.file_table import FileTable, printable_path
from dissect_sesparse.files.not_looked import Warnings
from dissect_sesparse.files.story import Naming
from dissect_sesparse.files.volumes import hidden
from dissect_sesparse.history.content import StateFiles
from dissect_sesparse.history.lines import Lines
from dissect_sesparse.history.older_bytes import OldGrains
from dissect_sesparse.time.changes import DiskState, changes
from dissect_sesparse.time.time_window import TimeWindow, TimeWindows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.chain.link import Link
    from dissect_sesparse.files.volumes import Unopened, VolumeState
    from dissect_sesparse.history.lines import Epoch, FileLine, SeenIn
    from dissect_sesparse.history.older_bytes import FilePart

_OLDER = (
    "its clusters are the same before and after the time in which they were written; nothing tells by whom, or when"
)


class Since(NamedTuple):
    """When a content came and went."""

    came: TimeWindow
    went: TimeWindow
    """Empty where the running guest has it, or nothing tells whether it has."""


@dataclass(frozen=True)
class FileVersion:
    """A content of a file."""

    file: DeletedFile
    """The file with its bytes, as the newest of the states has it that say most of these."""
    recovered: Recovered
    """What there is of it."""
    names: tuple[str, ...]
    """All paths of the file over all states, newest first, from the root of its file system."""
    states: tuple[Link, ...]
    """The links of the states that have it, newest first; none where it lies only in old grains of :attr:`file`'s link."""
    current: bool | None
    """Whether the running guest has it; ``None`` where nothing tells."""
    since: Since

    @property
    def last(self) -> Link:
        """The newest link that has it."""
        return self.states[0] if self.states else self.file.link

    @property
    def first(self) -> Link:
        """The oldest link that has it."""
        return self.states[-1] if self.states else self.file.link


def file_versions(
    chain: Chain,
    wanted: Callable[[VolumeState, str], bool] | None,
    warn: Callable[[str], None],
    *,
    changed: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Iterator[FileVersion]:
    """The contents of files over all states of a disk; those of one file follow one another, oldest first.

    Args:
        chain: The disk.
        wanted: Gets a file system and a path from its root, says whether that file is wanted; ``None``: all are. A file is followed
            under its other names, too.
        warn: Gets what is not known, and why.
        changed: Whether only files are wanted that had several contents.
        progress: Gets, now and then, how many files more were looked at.

    Raises:
        NotAllLookedAtError: Behind the last one, if there are volumes, or states of them, that were not looked at.
    """
    warnings = Warnings(warn, chain.name)
    budget = Budget(4 * len(chain.links) * chain.size, warnings)
    unopened: list[Unopened] = []
    grains: list[OldGrains] = []
    for states in states_of_volumes(chain, warnings, unopened):
        volume = _Volume(chain, states, budget, warnings, grains)
        if states[0].depth and not hidden(states[0], unopened):
            volume.whole.add(0)  # the running guest has it no more
        try:
            volume.read(progress)
            yield from volume.versions(wanted, changed=changed)
        except Exception as e:  # one broken file system never costs the others
            name = states[0].name
            warnings.missed(name, f"{name}: not all versions of its files are known: {e or type(e).__name__}")
    warnings.end()


class _Volume:
    """A file system in all states that have it, newest first."""

    def __init__(
        self,
        chain: Chain,
        states: Sequence[VolumeState],
        budget: Budget,
        warnings: Warnings,
        grains: list[OldGrains],
    ):
        self.chain = chain
        self.states = states
        self.warnings = warnings
        self.windows = TimeWindows(chain)
        self.lines = Lines()
        self.files = {state.depth: StateFiles(chain, state, budget, warnings) for state in states}
        self.whole: set[int] = set()
        """The depths of the states whose files are all known."""
        self._grains = grains

    def read(self, progress: Callable[[int], None] | None) -> None:
        """Go through the file table of each state, once."""
        for number, state in enumerate(self.states):
            ranges = ChangedRanges()
            if number + 1 < len(self.states):
                older = DiskState(self.chain, self.states[number + 1].depth)
                for change in changes(older, DiskState(self.chain, state.depth)):
                    ranges.add(change)
            table = FileTable(state, ranges, self.warnings, progress)
            if table.whole:
                self.whole.add(state.depth)
            self.lines.add(table)

    def versions(self, wanted: Callable[[VolumeState, str], bool] | None, *, changed: bool) -> Iterator[FileVersion]:
        for line in self.lines.all:
            if changed and len(line.epochs) == 1:
                continue
            if wanted is None or any(wanted(self.states[0], path) for path in line.paths):
                found = self._of(line)
                if not changed or _differ(found):
                    yield from found

    def _of(self, line: FileLine) -> list[FileVersion]:
        """The contents of a file, oldest first."""
        contents: list[_Content] = []
        for epoch in reversed(line.epochs):
            one = self._measured(epoch)
            same = next((other for other in contents if one is not None and other.is_same(one)), None)
            if same is not None and one is not None:
                same.add(one)
            elif one is not None:
                contents.append(one)
        names = tuple(map(printable_path, line.paths))
        found = [self._version(content, names) for content in contents]
        digests = {version.recovered.digest for version in found} - {None}
        return [*found, *(older for older in self._older(line, names) if older.recovered.digest not in digests)]

    def _measured(self, epoch: Epoch) -> _Content | None:
        seen = epoch.newest
        try:
            depths = (state.depth for state in self.states if epoch.depths >> state.depth & 1)
            closed = next((depth for depth in depths if not self.files[depth].doubt), seen.depth)
            seen = seen._replace(depth=closed)  # it has the same bytes there, and says it best
            file = self.files[seen.depth].file(seen)
            return _Content(file, measure(file), epoch.depths)
        except Exception as e:  # whatever the file system trips over
            why = f"{self.states[0].name}: {seen.path} as of link {seen.depth} cannot be read: {e or type(e).__name__}"
            self.warnings.missed(self.states[0].name, why)
            return None

    def _version(self, content: _Content, names: tuple[str, ...]) -> FileVersion:
        depths = [depth for depth in range(len(self.chain.links)) if content.depths >> depth & 1]
        looked = sorted(self.whole | set(depths))
        current: bool | None = depths[0] == 0
        if not current and 0 not in self.whole:
            current = None
        older = next((depth for depth in looked if depth > depths[-1]), None)
        newer = max((depth for depth in looked if depth < depths[0]), default=None)
        came = self.windows.between(older, depths[-1])
        went = TimeWindow() if current else self.windows.between(depths[0], newer)
        links = tuple(self.chain.links[depth] for depth in depths)
        return FileVersion(content.file, content.recovered, names, links, current, Since(came, went))

    # What no state has

    def _older(self, line: FileLine, names: tuple[str, ...]) -> Iterator[FileVersion]:
        for newer, older in line.written:
            try:
                parts = self.files[newer.depth].parts_as_in(newer, self.files[older.depth], older)
                if not parts:
                    continue
                if not self._grains:  # looked for once, where there is anything to find
                    self._grains.append(OldGrains(self.chain))
                if (version := self._of_grains(newer, parts, names)) is not None:
                    yield version
            except Exception as e:  # as above
                self.warnings(f"{newer.path}: its old grains cannot be looked at: {e or type(e).__name__}")
        if self._grains and not self._grains[0].whole:
            self.warnings.missed(self.states[0].name, "too many old grains, not all are looked at")

    def _of_grains(self, newer: SeenIn, parts: list[FilePart], names: tuple[str, ...]) -> FileVersion | None:
        link = self.chain.links[newer.depth]
        grains = self._grains[0]
        file = replace(
            self.files[newer.depth].file(newer),
            naming=Naming(
                "clusters", "likely", f"its file system as of {link.name} has it, in the clusters of these grains"
            ),
            proof="",
            doubt=_OLDER,
            known=True,
            pieces=lambda: grains.pieces(newer.depth, parts),
        )
        recovered = measure(file)
        if not recovered.likely:
            return None
        window = self.windows.of(newer.depth)
        return FileVersion(file, recovered, names, (), False, Since(window, window))


def _differ(versions: Sequence[FileVersion]) -> bool:
    """Whether a file surely had several contents. Two of which nothing is to be had may be one."""
    known = [version for version in versions if version.recovered.state != "none"]
    return len(known) > 1 or len({version.file.size for version in versions if version.file.known}) > 1


@dataclass
class _Content:
    """A content, from one epoch or several."""

    file: DeletedFile
    recovered: Recovered
    depths: int

    def is_same(self, other: _Content) -> bool:
        """Whether two have the same bytes, all of them."""
        mine, its = self.recovered, other.recovered
        whole = ("complete", "likely")
        return (
            mine.state in whole
            and its.state in whole
            and (mine.size, mine.digest, self.file.size) == (its.size, its.digest, other.file.size)
        )

    def add(self, newer: _Content) -> None:
        """Take in a newer epoch of the same bytes; what says most of them stands for both."""
        self.depths |= newer.depths
        if FILE_STATES.index(newer.recovered.state) <= FILE_STATES.index(self.recovered.state):
            self.file, self.recovered = newer.file, newer.recovered
