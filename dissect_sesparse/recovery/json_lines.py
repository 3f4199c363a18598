"""A file of JSON objects, one a line, that is verified and gone on with after a break.

A line that is there is never parsed, only compared: each follows from the evidence to the last byte.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dissect_sesparse.recovery.sparse_file import OutputFile

if TYPE_CHECKING:
    from dissect_sesparse.recovery.writing import OutputFolder


class JsonLines:
    """The lines, in the order in which they are put.

    Args:
        folder: The output folder.
        name: Of the file.
        replaces: Whether it takes the place of one that has its name, once it is whole.
    """

    def __init__(self, folder: OutputFolder, name: str, *, replaces: bool = False):
        self.file = OutputFile(folder, name, replaces=replaces)
        self._position = 0

    def put(self, fields: dict[str, Any]) -> None:
        """See to it that the next line is this one.

        Raises:
            RecoverError: If it cannot be written, or the file is whole and has another line there.
        """
        line = json.dumps(fields).encode() + b"\n"
        self.file.put(self._position, line)
        self._position += len(line)

    def finish(self) -> None:
        """Cut off what is behind the last line, and give the file its name."""
        self.file.truncate(self._position)
        self.file.finish()

    def close(self) -> None:
        """Close it as it is."""
        self.file.close()
