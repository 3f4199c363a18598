"""What became of a command: the one place that knows its exit code."""

from __future__ import annotations

from dataclasses import dataclass, field

DONE, FAILED, USAGE, ODD = 0, 1, 2, 3
"""Exit codes: all done and nothing left out; failed, or not all could be looked at; wrong usage; ``check``: something odd."""


@dataclass
class Outcome:
    """What a command did of what it was asked to. Any part of it may add why that is not all."""

    reasons: list[str] = field(default_factory=list)
    """Why not all was looked at or done, in words for the user."""
    odd: bool = False
    """Whether warnings or errors were found, where the command is asked for them."""

    def not_all(self, reason: str) -> None:
        """Something that was asked for could not be looked at or done, or what was read is in doubt: exit code 1.

        Args:
            reason: What, and why: for the user. Who calls this also sees to it that it is said.
        """
        self.reasons.append(reason)

    @property
    def complete(self) -> bool:
        """Whether all was looked at and done."""
        return not self.reasons

    @property
    def code(self) -> int:
        """The exit code."""
        return FAILED if not self.complete else ODD if self.odd else DONE
