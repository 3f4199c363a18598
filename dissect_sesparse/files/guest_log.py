"""What a file system itself kept of deleted files, beside its older states: for those that keep nothing, or where it is not read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dissect_sesparse.files.deleted import DeletedFile


class GuestLog:
    """What is asked of it; here the answers of a file system that keeps nothing."""

    def keeps(self, entry: Any) -> bool:
        """Whether the running guest has a file of an older state all the same.

        Args:
            entry: The file, as dissect has it.
        """
        return False

    def completed(self, file: DeletedFile, entry: Any, depth: int) -> DeletedFile:
        """A deleted file that a state has, with what else is known of it.

        Args:
            file: The file.
            entry: As dissect has it.
            depth: Of the newest state that has it.
        """
        return file

    def others(self) -> Iterator[DeletedFile]:
        """The deleted files that no state has. Asked for when all of those were gone through."""
        return iter(())
