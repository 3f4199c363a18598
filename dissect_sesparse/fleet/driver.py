"""The driver: hands the VMs to Dask's workers, and takes what comes back, whatever comes back.

Each VM is looked at (``survey``), then its disks are told about (``extract``, one task or some a disk), then that is put
together (``collect``). A worker that dies costs nothing: Dask runs its tasks again elsewhere. A task that takes its workers
with it, for instance for want of memory, would be the end of others that wait on the same worker: so tasks that Dask gives
up for that reason are run once more at the end, each alone. Only one that fails then has failed, and its VM's row says so.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from distributed import as_completed

from dissect_sesparse.commands.words import message_of
from dissect_sesparse.fleet.collect import collect, row_of
from dissect_sesparse.fleet.work import extract, survey

try:
    from tqdm import tqdm
except ImportError:  # without it there is no bar, and nothing else is missing
    tqdm = None

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from distributed import Client, Future

    from dissect_sesparse.fleet.data import Done, Settings, Survey, Vm
    from dissect_sesparse.fleet.folder import FleetFolder

DIED = "each worker process that was at it died, which may be for want of memory"
_PRIORITY = {"survey": 0, "extract": 10, "collect": 20}
"""A VM that was begun is finished before another one is: less lies about."""


class _Progress:
    """Where a VM is."""

    def __init__(self, vm: Vm):
        self.vm = vm
        self.survey: Survey | None = None
        self.results: dict[int, Done | str] = {}
        """What each task did, by its number; of one that failed, why."""


class _Task(NamedTuple):
    """Something that was handed to a worker."""

    kind: str
    progress: _Progress
    number: int
    function: Callable
    arguments: tuple
    alone: bool = False
    """Whether it is run once more, because each worker that was at it died."""

    def key(self, run: str) -> str:
        """Its name in the cluster, which others may use too."""
        return f"{self.kind}-{run}-{self.progress.vm.name}-{self.number}{'-alone' if self.alone else ''}"


class Driver:
    """A run.

    Args:
        client: Of the cluster.
        settings: Of the run.
        folder: Where it writes.
        report: Gets the row of each VM that is finished, and whether it was so before.
    """

    def __init__(
        self,
        client: Client,
        settings: Settings,
        folder: FleetFolder,
        report: Callable[[Mapping[str, Any], bool], None] = lambda row, before: None,
    ):
        self.client = client
        self.settings = settings
        self.folder = folder
        self.report = report
        self._waiting: dict[str, _Task] = {}
        self._suspects: list[_Task] = []

    def run(self, vms: Sequence[Vm]) -> None:
        """Go through some VMs; at the end each has its row."""
        self._states = self.folder.states()
        pending = as_completed(raise_errors=False)
        try:
            for vm in vms:
                known = self.folder.finished(self._states.get(vm.name))
                pending.add(self._submit("survey", _Progress(vm), 0, survey, self.settings, vm, known))
            while True:
                for future in pending:
                    for following in self._next(future):
                        pending.add(following)
                if not self._suspects:
                    break
                pending.add(self._hand_out(self._suspects.pop(0)._replace(alone=True)))
        finally:
            self.client.cancel(list(pending.futures), force=True)

    def _submit(self, kind: str, progress: _Progress, number: int, function: Callable, *arguments: Any) -> Future:
        return self._hand_out(_Task(kind, progress, number, function, arguments))

    def _hand_out(self, task: _Task) -> Future:
        key = task.key(self.settings.run)
        self._waiting[key] = task
        return self.client.submit(task.function, *task.arguments, key=key, pure=False, priority=_PRIORITY[task.kind])

    def _next(self, future: Future) -> Iterator[Future]:
        """Take what a task gave, and begin what can be done then."""
        task = self._waiting.pop(str(future.key))
        kind, progress, number = task.kind, task.progress, task.number
        result, error = _result(future)
        if error == DIED and not task.alone:
            self._suspects.append(task)
        elif kind == "extract":
            progress.results[number] = error if error is not None else result
            if len(progress.results) == len(progress.survey.tasks):  # type: ignore[union-attr]
                yield self._collect(progress)
        elif error is not None:
            self._fail(progress, error)
        elif kind == "collect":
            self.report(result, False)
        elif result.unchanged:
            self.report(self._states[progress.vm.name]["row"], True)
        else:
            progress.survey = result
            for number, pieces in enumerate(result.tasks):
                arguments = self.settings, progress.vm, result.names, result.inputs, pieces
                yield self._submit("extract", progress, number, extract, *arguments)
            if not result.tasks:
                yield self._collect(progress)

    def _collect(self, progress: _Progress) -> Future:
        return self._submit(
            "collect", progress, 0, collect, self.settings, progress.vm, progress.survey, progress.results
        )

    def _fail(self, progress: _Progress, error: str) -> None:
        """A VM of which nothing can be told: its row says why, and what an earlier run told of it is gone."""
        self.folder.forget(progress.vm)
        row = row_of(self.settings, progress.vm, "failed", [error], progress.survey)
        self.report(self.folder.keep(progress.vm, row, ()), False)


def _result(future: Future) -> tuple[Any, str | None]:
    """What a task gave, or why it gave nothing."""
    from distributed import KilledWorker

    if future.status == "finished":
        return future.result(), None
    error = future.exception() if future.status == "error" else None
    if isinstance(error, KilledWorker):
        return None, DIED
    return None, message_of(error) if isinstance(
        error, BaseException
    ) else f"the task was {future.status}: the cluster lost it"


@contextmanager
def fleet_progress(count: int, *, quiet: bool = False) -> Iterator[Callable[[Mapping[str, Any], bool], None]]:
    """A bar of VMs on a terminal, nothing elsewhere."""
    bar = None
    if tqdm is not None and not quiet:
        bar = tqdm(total=count, unit="VM", disable=None, desc="fleet", file=sys.stderr)

    def report(row: Mapping[str, Any], before: bool) -> None:
        if bar is not None:
            bar.set_postfix_str(row["vm"][-40:], refresh=False)
            bar.update()

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()
