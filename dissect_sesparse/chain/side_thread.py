"""Work that goes on beside its caller: one thread that does one thing after the other."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

_WAITING = 4
"""Things that may wait to be done: more of them would only take memory."""


class SideThread:
    """Does what it is given in that order, in a thread of its own; where the system gives none, at once."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "side")
        self._pending: deque[Future] = deque()

    def do(self, function: Callable, *arguments: object) -> None:
        """Do something; waits while too much is left to do.

        Raises:
            Exception: What anything that was given before raised.
        """
        while len(self._pending) >= _WAITING:
            self._pending.popleft().result()
        try:
            self._pending.append(self._pool.submit(function, *arguments))
        except RuntimeError:  # the system gives no thread
            self.wait()
            function(*arguments)

    def wait(self) -> None:
        """Wait until all is done.

        Raises:
            Exception: What anything raised.
        """
        while self._pending:
            self._pending.popleft().result()

    def close(self) -> None:
        """End it; what was not begun is not done."""
        self._pool.shutdown(wait=True, cancel_futures=True)
