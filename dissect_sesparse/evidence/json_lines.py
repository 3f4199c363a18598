"""A file of JSON objects, one a line, that is verified and gone on with after a break."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dissect_sesparse.evidence.sparse_file import OutputFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CHUNK = 1 << 16
_CONTENT = ("digest", "entropy", "signature")
"""Keys that follow from the bytes, of which one digest proves all."""


class JsonLines:
    """The lines, in the order in which they are put.

    Args:
        path: The file.
    """

    def __init__(self, path: Path):
        self.file = OutputFile(path)
        self._position = 0
        self._ahead = b""
        self._old = self.file.resumed

    def put(self, fields: dict[str, Any], sha256: str | None, describe: Callable[[], dict[str, Any]]) -> None:
        """See to it that the next line is this one.

        Args:
            fields: What it says, but for what follows from the bytes; those keys are there for their place, with any value.
            sha256: Of the bytes, ``None`` where there are none.
            describe: What follows from the bytes; asked where the line is not there yet, and of a whole file.

        Raises:
            RecoverError: If it cannot be written, or the file is whole and has another line there.
        """
        line = self._next()
        if line is not None and _says(line, fields, sha256):
            if self.file.whole and json.loads(line) != fields | describe():
                raise self.file.differs(self._position, len(line))
            self._position += len(line)
            self._ahead = self._ahead[len(line) :]
            return
        if self.file.whole:
            raise self.file.differs(self._position, len(line or b""))
        if self._old:  # torn, or of no use: nothing behind it counts
            self.file.truncate(self._position)
            self._old, self._ahead = False, b""
        data = json.dumps(fields | describe()).encode() + b"\n"
        self.file.put(self._position, data)
        self._position += len(data)

    def _next(self) -> bytes | None:
        """The next line that is there, with its end; ``None`` where there is none."""
        while self._old and b"\n" not in self._ahead:
            more = self.file.read(self._position + len(self._ahead), _CHUNK)
            if not more:
                return self._ahead or None
            self._ahead += more
        return self._ahead[: self._ahead.index(b"\n") + 1] if self._old else None

    def finish(self) -> None:
        """Cut off what is behind the last line, and give the file its name."""
        self.file.truncate(self._position)
        self.file.finish()

    def close(self) -> None:
        """Close it as it is."""
        self.file.close()


def _says(line: bytes, fields: dict[str, Any], sha256: str | None) -> bool:
    """Whether a line that is there says the same, and of the same bytes."""
    try:
        old = json.loads(line)
    except ValueError:
        return False
    if not line.endswith(b"\n") or not isinstance(old, dict) or list(old) != list(fields):
        return False
    digest = old.get("digest")
    if (digest or {}).get("sha256") != sha256:
        return False
    return all(old[key] == value for key, value in fields.items() if key not in _CONTENT)
