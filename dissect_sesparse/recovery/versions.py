"""The recovery of each content that files of one disk had: ``versions/DISK/VOLUME/PATH/~N.ext``, 1 the oldest.

The path of a file is a folder here, with a file for each content. These start with ``~``, as no name does that is made of a guest's,
so that a folder of the guest which has, or had, the same path cannot get in the way. ``~N~likely.ext`` has bytes that are only likely
its own. A content of which nothing is left has a line and no file.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dissect_sesparse.files.deleted import measure
from dissect_sesparse.recovery.files import FilesRecovery, RecoveredFile
from dissect_sesparse.recovery.safe_name import safe_part
from dissect_sesparse.recovery.writing import TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dissect_sesparse.history.file_versions import FileVersion

VERSIONS_FOLDER = "versions"
_MAX_SUFFIX = 20


@dataclass
class VersionsRecovery(FilesRecovery):
    """The recovery of the contents that files of one disk had."""

    _numbers: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Of the last one, by the path."""

    def recover_versions(self, versions: Callable[[Callable[[str], None]], Iterable[FileVersion]]) -> dict[str, Any]:
        """Write them and their lines; what the report says of it.

        Args:
            versions: Gets what takes warnings, gives the contents, those of a file oldest first.
        """

        def write() -> None:
            for version in versions(self._warnings.append):
                self._version(version)

        return self._summary(write)

    def _version(self, version: FileVersion) -> None:
        file, recovered = version.file, version.recovered
        path = (self.stem, file.volume, *(version.names[0] if version.names else file.path).split("/"))
        self._numbers[path] += 1
        suffix = safe_part(path[-1]).rpartition(".")[2] if "." in safe_part(path[-1]) else ""
        name = f"~{self._numbers[path]}{'~likely' if recovered.likely else ''}"
        name += f".{suffix}" if suffix and len(suffix) <= _MAX_SUFFIX else ""
        parts = (VERSIONS_FOLDER, *self._paths[VERSIONS_FOLDER].inside(path, name))
        output = RecoveredFile(self.folder, parts, file.size, only_proven=False)
        written = recovered.state != "none" and bool(
            recovered.size or recovered.likely or recovered.state == "complete"
        )
        try:
            if written and measure(file, output.put) != recovered:
                raise TooLargeError("its bytes are others than they were when they were counted", file=output.name)
            if written:
                self._finish(file, output)
        except TooLargeError as e:  # one hostile size never costs all other files
            self.unwritten.append(str(e))
            written = False
            output.discard()
        finally:
            output.close()
        self._count(recovered)
        self._line(
            file, recovered, output, output.name if written else None, self._of_version(version, self._numbers[path])
        )

    def _of_version(self, version: FileVersion, number: int) -> dict[str, Any]:
        came, went = version.since
        times = {
            "came_after": came.after,
            "came_before": came.before,
            "went_after": went.after,
            "went_before": went.before,
        }
        return {
            "version": number,
            "names": list(version.names),
            "first": version.first.name,
            "last": version.last.name,
            "states": [link.name for link in version.states],
            "current": version.current,
            **{name: time and time.isoformat() for name, time in times.items()},
        }
