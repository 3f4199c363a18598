"""The one family of errors.

Whatever the evidence holds, the reader raises :class:`SESparseError` or nothing. None of them is an ``OSError`` or an
``EOFError``: code that reads disks takes those for the end of the disk and goes on in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import PurePath


class SESparseError(Exception):
    """Base class: what is wrong, where, what was expected and what to try.

    Args:
        problem: What is wrong, in words.
        file: The file in which it is wrong.
        field: The field's name, as in the format's description.
        value: What the field holds.
        expected: What it should hold.
        advice: What the user can try.
    """

    def __init__(
        self,
        problem: str = "",
        *,
        file: PurePath | str | None = None,
        field: str | None = None,
        value: object = None,
        expected: str | None = None,
        advice: str | None = None,
    ):
        self.problem = problem
        self.file = file
        self.field = field
        self.value = value
        self.expected = expected
        self.advice = advice
        super().__init__(self._message())

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
        )
        error.chain = chain
        return error


def short(text: str, limit: int = 120) -> str:
    """Evidence is hostile: a value of a megabyte does not belong into a message."""
    return text if len(text) <= limit else f"{text[:limit]}..."
