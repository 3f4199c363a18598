"""What else names a file of an NTFS volume, when it was deleted, and what happened to it: change journals and old folder entries.

A file is joined by its reference, the number of its MFT record together with the sequence number of that. A freed record may
have counted on or not: there one of its names must be the same too. What no record names any more is named here alone, if it is
surely deleted: the running state has used its record again since, or the journal has its deletion and the file is not live.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dissect_sesparse.files.deleted import DeletedFile
from dissect_sesparse.files.deletion import deletion_at, deletion_between
from dissect_sesparse.files.ntfs_names import newest_written_until
from dissect_sesparse.files.story import Deletion, Event, Naming
from dissect_sesparse.files.trust import was_behind
from dissect_sesparse.ntfs.filetime import filetime
from dissect_sesparse.ntfs.folders import FolderNames
from dissect_sesparse.ntfs.journals import ChangeJournals
from dissect_sesparse.ntfs.mft_paths import NameIn
from dissect_sesparse.ntfs.mft_uses import MftUses, split_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dissect_sesparse.chain.chain import Chain
    from dissect_sesparse.ntfs.folders import FoundName
    from dissect_sesparse.ntfs.journals import LoggedMoment, UsnUse
    from dissect_sesparse.ntfs.mft import Incarnation, Noticed
    from dissect_sesparse.ntfs.mft_paths import Paths
    from dissect_sesparse.ntfs.view import NtfsView
    from dissect_sesparse.time.time_window import TimeWindows

JOURNAL = "the change journal"
_LOST = "its MFT record is used again, and no state has it"


class KnownBeside(NamedTuple):
    """What is known of a file beside its MFT record."""

    also: tuple[str, ...] = ()
    logged: UsnUse | None = None


class KnownNames:
    """What change journals and old entries of folders name.

    Args:
        chain: The disk.
        views: The volume in all states of the disk that have it, newest first.
        volume: What dissect calls it.
        windows: Of the disk.
        paths: Of the volume.
    """

    def __init__(self, chain: Chain, views: Sequence[NtfsView], volume: str, windows: TimeWindows, paths: Paths):
        self._chain = chain
        self._views = {view.depth: view for view in views}
        self._newest = views[0]
        self._volume = volume
        self._windows = windows
        self._paths = paths
        self._uses = MftUses(views)
        self._logged: dict[int, UsnUse] = {}
        self._whole: list[int] = []
        """The depths of the states whose journals have all that was logged by then."""
        self._folders: dict[int, FoundName] = {}
        self._joined: set[int] = set()

    def look(self, noticed: Noticed, missed: Callable[[str], None]) -> None:
        """Go through journals and folders.

        Args:
            noticed: The folders.
            missed: Gets what is not looked at, and why.
        """
        views = list(self._views.values())
        journals = ChangeJournals(views, missed)
        self._logged = journals.uses
        self._whole = [
            view.depth for view in views if view.depth not in journals.partial and not was_behind(view.doubt)
        ]
        self._paths.logged = self._logged_folder
        folders = FolderNames(self._chain, views, self._uses, missed)
        folders.look(noticed.folders)
        self._folders = folders.found
        if noticed.left_out:
            missed(f"{noticed.left_out} folders, or files of the recycle bin, are not looked at: there are too many")

    def _logged_folder(self, reference: int) -> NameIn | None:
        """What the change journals have of a folder."""
        logged = self._logged.get(reference)
        return NameIn(logged.name, logged.parent) if logged is not None and logged.folder else None

    # Files that a record of the MFT names

    def beside(self, one: Incarnation, names: set[str]) -> KnownBeside:
        """What else is known of a file. It is not listed by itself then.

        Args:
            one: The file.
            names: Those that its record has.
        """
        if one.running is not None:  # the file is live
            return KnownBeside()
        for reference in one.references:
            logged, found = self._logged.get(reference), self._folders.get(reference)
            theirs = set(_names(logged)) if logged is not None else set()
            if found is not None:
                theirs.add(found.entry.name)
            if theirs and (one.live_in is not None or theirs & names):
                self._joined.add(reference)
                also = [by for by, it in (("usnjrnl", logged), ("index", found)) if it is not None]
                return KnownBeside(tuple(also), logged)
        if one.live_in is not None:
            self._joined.update(one.references)
        return KnownBeside()

    def deletion(self, deletion: Deletion, logged: UsnUse | None) -> Deletion:
        """When a file was deleted, narrowed by what the guest logged."""
        if logged is None or logged.deleted is None or (at := filetime(logged.deleted.at)) is None:
            return deletion
        return deletion_at(deletion, at, filetime(logged.seen.at), JOURNAL)

    def story(self, logged: UsnUse | None) -> tuple[Event, ...]:
        """What the guest logged of a file, oldest first."""
        if logged is None:
            return ()
        first = logged.renamed[0].old if logged.renamed else (logged.name, logged.parent)
        last = NameIn(logged.name, logged.parent)
        found = [
            (moment, self._event(what, moment, name))
            for what, moment, name in (
                ("made", logged.made, NameIn(*first)),
                ("changed", logged.changed, last),
                ("deleted", logged.deleted, last),
            )
            if moment is not None
        ]
        for when, old, new in logged.renamed:
            before = self._paths.below(NameIn(*old), self._views[when.depth])
            found.append((when, self._event("renamed", when, NameIn(*new))._replace(old_path=before)))
        moments = sorted(found, key=lambda each: (-each[0].depth, each[0].usn))
        return tuple(event for _, event in moments)

    def _event(self, what: str, moment: LoggedMoment, name: NameIn) -> Event:
        older = next((depth for depth in self._whole if depth > moment.depth), None)
        window = self._windows.between(older, moment.depth)
        path = self._paths.below(name, self._views[moment.depth])
        basis = f"{JOURNAL} as of {self._chain.links[moment.depth].name} has it"
        return Event(what, path, filetime(moment.at), window, basis)

    # Files that nothing else names

    def alone(self) -> Iterator[DeletedFile]:
        """The deleted files that no record of the MFT names, in any state."""
        for reference, logged in self._logged.items():
            if reference not in self._joined and not logged.folder and self._is_over(reference, logged.name, logged):
                yield self._of_journal(reference, logged)
        for reference, found in self._folders.items():
            known = reference in self._joined or reference in self._logged
            if not known and self._is_over(reference, found.entry.name, None):
                yield self._of_folder(reference, found)

    def _is_over(self, reference: int, name: str, logged: UsnUse | None) -> bool:
        use = self._uses.use_in(self._newest, reference, name)
        return use == "over" or (use != "live" and logged is not None and logged.deleted is not None)

    def _of_journal(self, reference: int, logged: UsnUse) -> DeletedFile:
        last = logged.deleted or logged.seen
        view = self._views[last.depth]
        older, newer = self._around(reference, logged.name)
        if logged.deleted is not None and (newer is None or newer < last.depth):
            newer = last.depth  # the journal is ahead of the MFT
            older = older if older is not None and older > newer else None
        deletion = self.deletion(deletion_between(self._chain, self._windows, older, newer), logged)
        link = self._chain.links[view.depth].name
        basis = f"{JOURNAL} as of {link} has it, and no record of the MFT any more; its folders may be others since"
        found = self._folders.get(reference)
        also = ("index",) if found is not None else ()
        path = self._paths.below(NameIn(logged.name, logged.parent), view)
        naming = Naming("usnjrnl", "likely", basis, also)
        return self._file(reference, newer, path, naming, deletion, found, self.story(logged))

    def _around(self, reference: int, name: str) -> tuple[int | None, int | None]:
        """The depths of the states between which a file was deleted, as ``ntfs_names.states_around`` has it of others."""
        has, newer = self._uses.around(reference, name)
        return newest_written_until(list(self._views.values()), has), newer

    def _of_folder(self, reference: int, found: FoundName) -> DeletedFile:
        older, newer = self._around(reference, found.entry.name)
        deletion = deletion_between(self._chain, self._windows, older, newer)
        path = self._paths.below(NameIn(found.entry.name, found.entry.parent), found.view)
        link = self._chain.links[found.view.depth].name
        basis = f"an old entry of its folder as of {link} has it, and its record of the MFT was used again"
        return self._file(reference, newer, path, Naming("index", "likely", basis), deletion, found, ())

    def _file(
        self,
        reference: int,
        depth: int | None,
        path: str,
        naming: Naming,
        deletion: Deletion,
        found: FoundName | None,
        story: tuple[Event, ...],
    ) -> DeletedFile:
        """A file of which only its name is known, and what an entry of a folder says of it."""
        entry = found.entry if found is not None else None
        view = self._views[depth if depth is not None else self._newest.depth]
        made, written, read = (entry.made, entry.written, entry.read) if entry is not None else (0, 0, 0)
        return DeletedFile(
            link=self._chain.links[view.depth],
            volume=self._volume,
            path=path,
            size=entry.size if entry is not None else 0,
            mtime=filetime(written),
            btime=filetime(made),
            atime=filetime(read),
            inode=split_reference(reference)[0],
            filesystem="ntfs",
            naming=naming,
            deletion=deletion,
            proof="",
            pieces=lambda: iter(()),
            known=False,
            lost=_LOST,
            place=view.place,
            story=story,
        )


def _names(logged: UsnUse) -> Iterator[str]:
    """All names that a file had."""
    yield logged.name
    for renaming in logged.renamed:
        yield renaming.old[0]
