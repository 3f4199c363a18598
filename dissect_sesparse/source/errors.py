"""The one family of errors.

Whatever the evidence holds, the reader raises :class:`SESparseError` or nothing. None of them is an ``OSError`` or an
``EOFError``: code that reads disks takes those for the end of the disk and goes on in silence.

What code has to know of an error is its class and its :class:`Kind`. The message is for people: no finding's code, no level
and no branch may follow from its words, ours or another library's (a test goes through the package for it).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from dissect_sesparse.source.text import printable

if TYPE_CHECKING:
    from pathlib import PurePath


class Kind(Enum):
    """What is wrong, for code to go by."""

    OTHER = "other"
    """Nothing that code has to know more of."""
    MISSING = "missing"
    """There is no such file."""
    IRREGULAR = "irregular"
    """A folder, FIFO, socket or device where a file should be: none is ever opened."""
    OUTSIDE = "outside"
    """A file outside the evidence: never opened."""
    FAILED = "failed"
    """The system, or the code that reads a file system in evidence, could not open, list or read it."""
    TOO_LARGE = "too-large"
    """Larger than any such file is."""
    FILE_ENDS = "file-ends"
    """The file ends before the bytes."""
    INVALID = "invalid"
    """What is there says what cannot be."""
    LOST = "lost"
    """The bytes are not in the evidence any more, and nothing in it stands in for them."""


class SESparseError(Exception):
    """Base class: what is wrong, where, what was expected and what to try.

    Args:
        problem: What is wrong, in words.
        file: The file in which it is wrong.
        field: The field's name, as in the format's description.
        value: What the field holds.
        expected: What it should hold.
        advice: What the user can try.
        kind: What is wrong, for code to go by.
    """

    def __init__(
        self,
        problem: str = "",
        *,
        kind: Kind = Kind.OTHER,
        file: PurePath | str | None = None,
        field: str | None = None,
        value: object = None,
        expected: str | None = None,
        advice: str | None = None,
    ):
        self.problem = problem
        self.kind = kind
        self.file = file
        self.field = field
        self.value = value
        self.expected = expected
        self.advice = advice
        super().__init__(printable(self._message()))

    def _message(self) -> str:
        parts = []
        if self.field is not None:
            value = f"{self.value:#x}" if isinstance(self.value, int) and self.value > 9 else f"{self.value!r}"
            parts.append(f"{self.field} is {short(value)}")
        if self.problem:
            parts.append(short(self.problem, 2000))
        if self.expected:
            parts.append(f"expected {short(self.expected, 2000)}")
        message = ", ".join(parts)
        if self.file is not None:
            message = f"{self.file}: {message}"
        return f"{message} ({self.advice})" if self.advice else message


class OptionError(SESparseError):
    """An option has a value that does not exist."""


class FileError(SESparseError):
    """A file is missing, is no regular file, lies outside the evidence or cannot be opened."""


class DescriptorError(SESparseError):
    """A descriptor cannot be read, or says what cannot be."""


class ExtentError(SESparseError):
    """An extent's headers cannot be trusted, or its type is unknown or has no file."""


class ParentError(SESparseError):
    """The parent is missing or unknown."""


class LoopError(ParentError):
    """A chain comes back to one of its own links, or is deeper than any real one."""


class UnreadableError(SESparseError):
    """Bytes of the disk cannot be had. Raised by the read that meets them; all else stays readable.

    Args:
        offset: Where on the virtual disk, in bytes, or ``None`` if not known.
        size: How many bytes cannot be had from there on, at the most.
        source_offset: Where in ``file`` they should be, in bytes.

    ``chain`` is the disk whose read raised it.
    """

    chain: object = None

    def __init__(
        self,
        problem: str,
        *,
        offset: int | None = None,
        size: int | None = None,
        source_offset: int | None = None,
        **kwargs: object,
    ):
        self.offset = offset
        self.size = size
        self.source_offset = source_offset
        super().__init__(problem, **kwargs)  # type: ignore[arg-type]

    def _message(self) -> str:
        message = super()._message()
        if self.source_offset is not None:
            message = f"{message}, at byte {self.source_offset:#x} of the file"
        if self.offset is not None:
            message = f"{message}, needed for disk offset {self.offset:#x}"
        return message

    def at(self, chain: object, offset: int, size: int) -> UnreadableError:
        """The same, told from the whole disk: the place where a read met it."""
        error = UnreadableError(
            self.problem,
            offset=offset,
            size=size,
            source_offset=self.source_offset,
            file=self.file,
            field=self.field,
            value=self.value,
            expected=self.expected,
            advice=self.advice,
            kind=self.kind,
        )
        error.chain = chain
        return error


def short(text: str, limit: int = 120) -> str:
    """Evidence is hostile: a value of a megabyte does not belong into a message."""
    return text if len(text) <= limit else f"{text[:limit]}..."
