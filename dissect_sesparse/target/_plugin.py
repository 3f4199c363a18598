"""The functions ``sesparse.*`` of target-query, and their records."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, cast

from dissect.target.exceptions import UnsupportedPluginError
from dissect.target.plugin import Plugin, arg, export

from dissect_sesparse.source.errors import SESparseError
from dissect_sesparse.target.asked import close_states, pairs_of_states, states_named
from dissect_sesparse.target.records import (
    ChangedFileRecord,
    ChangeRecord,
    EventRecord,
    FileRecord,
    FileVersionRecord,
    FindingRecord,
    JournalRecord,
    LinkRecord,
    RunRecord,
    UnmappedRecord,
    UnreferencedRecord,
)
from dissect_sesparse.trimmed.states import STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from flow.record import Record

    from dissect_sesparse.target.container import SESparseContainer
    from dissect_sesparse.target.rows import Names, Rows
    from dissect_sesparse.time.changes import DiskState


class SESparsePlugin(Plugin):
    """What the files of VMware ESXi snapshot disks (seSparse) tell beside the guest's bytes."""

    __namespace__ = "sesparse"

    def check_compatible(self) -> None:
        if not any(self._disks()):
            raise UnsupportedPluginError("No seSparse disks found on target")

    def _disks(self) -> Iterator[SESparseContainer]:
        for disk in self.target.disks:
            if getattr(disk, "__type__", None) == "sesparse":
                yield cast("SESparseContainer", disk)

    def _of_each(self, records: Callable[[SESparseContainer], Iterator[Record]]) -> Iterator[Record]:
        """The records of all disks; where the files of one cannot be read on, the log says so and the next one follows."""
        for disk in self._disks():
            try:
                yield from records(disk)
            except SESparseError as e:
                self.target.log.error("Not all is told about %s: %s", disk.chain.name, e)  # noqa: TRY400

    @cached_property
    def _names(self) -> Names:
        from dissect_sesparse.target.rows import Names  # this module is imported at every start, those only here

        return Names(self.target)

    @cached_property
    def _rows(self) -> Rows:
        from dissect_sesparse.target.rows import Rows

        return Rows(self.target, self._names)

    @export(record=LinkRecord)
    @arg("--hash-files", action="store_true", help="hash the files of each link (reads all of them)")
    @arg("--hash-holes", action="store_true", help="hash files that are mostly holes too: days for the largest")
    def chain(self, hash_files: bool = False, hash_holes: bool = False) -> Iterator[Record]:
        """Yield one record for each link of each disk's chain, newest first, base included."""
        wanted = hash_files or hash_holes
        yield from self._of_each(lambda disk: self._rows.links(disk.chain, hash_files=wanted, hash_holes=hash_holes))

    @export(record=RunRecord)
    def map(self) -> Iterator[Record]:
        """Yield one record for each run of each disk over its whole chain: what it is, and which file has it."""
        yield from self._of_each(lambda disk: self._rows.runs(disk.chain))

    @export(record=UnmappedRecord)
    @arg("--min-size", type=int, default=0, metavar="BYTES", help="leave out runs that are smaller")
    @arg("--state", type=states_named, default="", metavar="STATES", help=f"only runs in these: {','.join(STATES)}")
    @arg("--no-hash", action="store_true", help="do not hash and measure the old bytes")
    def unmapped(self, min_size: int = 0, state: str = "", no_hash: bool = False) -> Iterator[Record]:
        """Yield one record for each run that the guest trimmed, and what is left of its bytes, of all links.

        A run is contiguous on the disk and in the extent and at most 16 MiB. Its state tells whether the old bytes are
        ``present``, ``empty`` (all zero), ``reused`` by another grain, ``missing`` from the file, ``contested`` or
        ``ambiguous``.
        """
        wanted = set(filter(None, states_named(state).split(",")))
        yield from self._of_each(
            lambda disk: self._rows.unmapped(disk.chain, min_size, wanted or set(STATES), contents=not no_hash)
        )

    @export(record=UnreferencedRecord)
    @arg("--min-size", type=int, default=0, metavar="BYTES", help="leave out runs that are smaller")
    @arg("--no-hash", action="store_true", help="do not hash and measure the bytes")
    def unreferenced(self, min_size: int = 0, no_hash: bool = False) -> Iterator[Record]:
        """Yield one record for each run in an extent's file that no entry of its tables names.

        All-zero grains are counted in the log, not listed. ``offset`` is the address that the backmap names.
        """
        yield from self._of_each(lambda disk: self._rows.unreferenced(disk.chain, min_size, contents=not no_hash))

    @export(record=JournalRecord)
    def journal(self) -> Iterator[Record]:
        """Yield one record for each record of the extents' journals: the last changes of their metadata.

        Its state tells whether it was ``applied`` to a dirty extent, is ``history``, or is ``torn``: not whole.
        """
        yield from self._of_each(self._rows.journal)

    @export(record=FileRecord)
    def files(self) -> Iterator[Record]:
        """Yield one record for each file that the guest deleted, by name, with what can be recovered of it.

        On NTFS the deleted records of the MFT name files (``named_by`` is ``mft``), and on all file systems the older
        states of the disk (``snapshot``). A file is ``complete`` where every byte is proven its own, ``likely`` where
        nothing contradicts it and nothing proves all of it, else ``partial``, or ``none``; ``basis`` says why. ``digest`` is
        that of the recovered bytes alone, of a partial file those that are proven. ``link`` is the link in whose time the file was deleted, or the newest one that has it.
        """
        yield from self._of_each(self._rows.files)

    @export(record=FileVersionRecord)
    @arg(
        "--path",
        dest="paths",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="files, as the target has them; * ? [] ** are wildcards",
    )
    @arg("--changed", action="store_true", help="only files that had several contents; the default without --path")
    def versions(self, paths: Sequence[str] = (), changed: bool = False) -> Iterator[Record]:
        """Yield one record for each content that a file had, over all states of the disk.

        A file is followed under its other names by its inode or MFT record. A content is in the states from ``first`` to ``last``, or
        in those of ``states`` where it went and came back; ``current`` tells whether the running guest has it. Its state and basis are
        as those of ``files``. What is ``named_by`` ``clusters`` is in no state: trimmed or unreferenced grains have some of its bytes.
        """
        paths = [paths] if isinstance(paths, str) else list(paths)
        yield from self._of_each(lambda disk: self._rows.versions(disk, paths, changed=changed or not paths))

    @export(record=[ChangeRecord, ChangedFileRecord])
    @arg("--from", dest="from_", default="", metavar="STATE", help="a link or a snapshot; default: the oldest link")
    @arg("--to", default="", metavar="STATE", help="a link or a snapshot; default: the newest link")
    @arg("--compare", action="store_true", help="read both states, and tell whether the bytes are the same")
    @arg("--files", action="store_true", help="also tell which files are new, changed, renamed or gone")
    def changes(self, from_: str = "", to: str = "", compare: bool = False, files: bool = False) -> Iterator[Record]:
        """Yield one record for each range that differs between two states of a disk, as the links between them tell it.

        A state is named by a link's file name or by a snapshot's name. ``kind`` is ``written``, ``zeroed`` or
        ``unmapped``; ``reverted`` where only the other branch, or the state to start from, has something; ``cut``
        where the disk, or a link in between, ends before it; ``unreadable`` where the entry is corrupt. ``same`` is only known with ``--compare``: what was written may be what was there.

        With ``--files``, one record follows for each file that is ``new``, ``changed``, ``renamed`` or ``gone``; its
        ``changed`` counts the bytes of its clusters that lie in the ranges.
        """
        # Looked up here, before the first record is asked for: dissect's tools take an error of the call for the end.
        pairs = pairs_of_states(self.target, list(self._disks()), from_, to)
        return self._changes_of(pairs, compare=compare, files=files)

    def _changes_of(
        self, pairs: list[tuple[SESparseContainer, DiskState, DiskState]], *, compare: bool, files: bool
    ) -> Iterator[Record]:
        for disk, *states in pairs:
            try:
                yield from self._rows.changes(disk, *states, compare=compare, files=files)
            except SESparseError as e:
                self.target.log.error("Not all is known about %s: %s", disk.chain.name, e)  # noqa: TRY400
            finally:
                close_states(disk, states)

    @export(record=EventRecord)
    @arg("--no-files", action="store_true", help="leave out the guest's files, and open no file system")
    def timeline(self, no_files: bool = False) -> Iterator[Record]:
        """Yield what happened to the disks, in the order of the times, what has none last.

        Snapshots, links, trims, the guest's files, content IDs, journals, and lines of the host's log. No time is invented:
        what happened in a window is two records, of which ``timestamp_desc`` says ``not before`` and ``not after``.
        """
        from dissect_sesparse.target.event_rows import EventRows
        from dissect_sesparse.timeline.order import InOrder

        rows = EventRows(self.target, self._names)
        with InOrder() as order:
            rows.gather(self._disks(), order, self._not_all, files=not no_files)
            yield from map(rows.record, order)
            if order.left_out:
                self.target.log.error("%d events are left out: there are more than %d", order.left_out, order.count)

    def _not_all(self, disk: SESparseContainer, error: SESparseError) -> None:
        self.target.log.error("Not all is known about %s: %s", disk.chain.name, error)

    @export(record=FindingRecord)
    def findings(self) -> Iterator[Record]:
        """Yield what is odd about each disk, and what of it cannot be read."""
        from dissect_sesparse.findings.findings import Once

        once = Once()
        yield from self._of_each(lambda disk: self._rows.findings(disk, once))
