"""What an error says to the user. Loads nothing: it also has to be said where a library is missing."""

from __future__ import annotations

from pathlib import Path

from dissect_sesparse.source.errors import SESparseError


def is_foreseen(error: BaseException) -> bool:
    """Whether an error is one that dissect raises on purpose."""
    from dissect.target.exceptions import Error

    return isinstance(error, (Error, OSError))


def ours(error: BaseException | None) -> SESparseError | None:
    """The error of this package within one of dissect, which wraps it."""
    while error is not None and not isinstance(error, SESparseError):
        error = error.__cause__
    return error


def message_of(error: BaseException) -> str:
    """What an error says to the user: the one of this package, or the innermost, where dissect's only say that it failed.

    One that nobody foresaw says what it is, and where it happened.
    """
    if (own := ours(error)) is not None:
        return str(own)
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error) or type(error).__name__
    if is_foreseen(error) or isinstance(error, ModuleNotFoundError):
        return text
    return f"unexpected {type(error).__name__}: {text}{_place_of(error)}"


def _place_of(error: BaseException) -> str:
    """The line of code that an error comes from: enough to report it by."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is None:
        return ""
    code = frame.tb_frame.f_code
    return f" (in {Path(code.co_filename).name}, line {frame.tb_lineno})"
