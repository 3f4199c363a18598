"""The cluster: one of worker processes on this machine, or one that runs already.

The local one listens on 127.0.0.1 alone. Its processes are started anew (spawned), on every system, and one that dies is
replaced.
"""

from __future__ import annotations

import logging
import signal
from contextlib import ExitStack, contextmanager
from threading import current_thread, main_thread
from typing import TYPE_CHECKING

import dask.config
from distributed import Client, LocalCluster
from distributed import TimeoutError as DaskTimeoutError

from dissect_sesparse.fleet.data import FleetError

if TYPE_CHECKING:
    from collections.abc import Iterator

ALLOWED_FAILURES = 1
"""Worker processes that may die while they have a task; with the next one Dask gives it up, and the driver does not."""
_WAIT = 60
"""Seconds."""


@contextmanager
def local_client(workers: int | None = None, *, dashboard: bool = False, processes: bool = True) -> Iterator[Client]:
    """Workers on this machine, each a process with one thread; by default one for each core.

    Args:
        workers: How many.
        dashboard: Whether Dask's dashboard is served, on a port of 127.0.0.1.
        processes: Whether workers are processes; else they are threads of this one.
    """
    options = {
        "distributed.scheduler.allowed-failures": ALLOWED_FAILURES,
        "distributed.worker.multiprocessing-method": "spawn",
        # For those that are replaced later
        "distributed.worker.preload": ["dissect_sesparse.fleet.no_interrupt"] if processes else [],
    }
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(options))
        with _not_interrupted():
            cluster = stack.enter_context(_local_cluster(workers, dashboard=dashboard, processes=processes))
        yield stack.enter_context(Client(cluster))


def _local_cluster(workers: int | None, *, dashboard: bool, processes: bool) -> LocalCluster:
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=processes,
        host="127.0.0.1" if processes else None,
        dashboard_address="127.0.0.1:8787" if dashboard else None,  # type: ignore[arg-type]
        # Without a dashboard there is a port for statistics all the same: any that is free
        scheduler_kwargs={} if dashboard else {"dashboard_address": "127.0.0.1:0"},
        silence_logs=logging.CRITICAL,  # a worker that dies is no news, see driver
    )


@contextmanager
def _not_interrupted() -> Iterator[None]:
    """Let nothing be interrupted by Ctrl-C, for some seconds: processes that start meanwhile never are, and print nothing."""
    if current_thread() is not main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def remote_client(address: str) -> Iterator[Client]:
    """The cluster with the scheduler at an address.

    Raises:
        FleetError: If there is none, or it has no workers.
    """
    advice = "start one with `dask scheduler`, and workers with `dask worker ADDRESS`"
    try:
        client = Client(address, timeout=_WAIT)
    except (OSError, ValueError, RuntimeError, DaskTimeoutError) as e:
        raise FleetError(f"no scheduler answers: {e}", field="--scheduler", value=address, advice=advice) from e
    with client:
        try:
            client.wait_for_workers(1, timeout=_WAIT)
        except (TimeoutError, DaskTimeoutError) as e:  # they are one from Python 3.11 on
            raise FleetError("it has no workers", field="--scheduler", value=address, advice=advice) from e
        yield client
