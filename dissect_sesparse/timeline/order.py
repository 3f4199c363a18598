"""A million moments in the order of their times, in little memory: sorted by batches on the disk, and merged."""

from __future__ import annotations

import heapq
import json
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from dissect_sesparse.timeline.event import KINDS, Moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_MOMENTS = 10_000_000
"""Moments of a timeline; what is more is counted, and said."""
BATCH = 20_000
"""Moments in memory at once."""
BATCH_SIZE = 32 << 20
"""Characters of these: paths of evidence may be long."""
MAX_RUNS = 64
"""Temporary files at once."""
_RANKS = {kind: number for number, kind in enumerate(KINDS)}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_TIMES = [Moment._fields.index(name) for name in ("ts", "after", "before")]

Row = list[Any]
"""Key and fields of a moment, as JSON has them: undated, microseconds, rank and number first."""


class InOrder:
    """Takes moments in any order and gives them by their times, those without one last.

    Moments of one time are in the order of their kinds, of one kind in that in which they were put.

    Args:
        limit: How many there are at the most.
    """

    def __init__(self, limit: int = MAX_MOMENTS):
        self.left_out = 0
        """How many were too many."""
        self.count = 0
        self._limit = limit
        self._batch: list[Row] = []
        self._size = 0
        self._opened = ExitStack()
        self._runs: list[IO[str]] = []

    def __enter__(self) -> InOrder:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def put(self, moments: Iterable[Moment]) -> None:
        """Take some.

        Raises:
            OSError: If the system's folder for temporary files is full.
        """
        for moment in moments:
            if self.count >= self._limit:
                self.left_out += 1
                continue
            row = _row(moment, self.count)
            self.count += 1
            self._batch.append(row)
            self._size += 1000 + sum(len(value) for value in row if isinstance(value, str))
            if len(self._batch) >= BATCH or self._size >= BATCH_SIZE:
                self._spill()

    def _spill(self) -> None:
        if len(self._runs) >= MAX_RUNS:
            merged = self._written(heapq.merge(*map(_read, self._runs), key=_key))
            for run in self._runs:
                run.close()
            self._runs = [merged]
        self._batch.sort(key=_key)
        self._runs.append(self._written(self._batch))
        self._batch, self._size = [], 0

    def _written(self, rows: Iterable[Row]) -> IO[str]:
        run = TemporaryFile("w+", encoding="ascii", newline="\n")  # noqa: SIM115  # it is read until the end
        self._opened.callback(run.close)
        for row in rows:
            run.write(json.dumps(row) + "\n")
        run.flush()
        return run

    def __iter__(self) -> Iterator[Moment]:
        self._batch.sort(key=_key)
        for row in heapq.merge(*map(_read, self._runs), self._batch, key=_key):
            yield _moment(row)


def _read(run: IO[str]) -> Iterator[Row]:
    run.seek(0)
    return map(json.loads, run)


def _key(row: Row) -> Row:
    return row[:4]


def _row(moment: Moment, number: int) -> Row:
    fields: Row = list(moment)
    for index in _TIMES:
        fields[index] = _microseconds(fields[index])
    ts = _microseconds(moment.ts)
    return [ts is None, ts or 0, _RANKS[moment.kind], number, *fields]


def _moment(row: Row) -> Moment:
    fields = row[4:]
    for index in _TIMES:
        fields[index] = None if fields[index] is None else _EPOCH + timedelta(microseconds=fields[index])
    return Moment(*fields)


def _microseconds(time: datetime | None) -> int | None:
    return None if time is None else (time - _EPOCH) // timedelta(microseconds=1)
