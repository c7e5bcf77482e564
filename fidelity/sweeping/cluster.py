"""Dask: processes of this machine, or a scheduler that is already there; a bounded number of tasks in flight.

Dask moves tasks and results as pickles between processes that trust each other. What fidelity gives it is text
alone; a scheduler must all the same only be reachable by those who may run code on its workers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fidelity.errors import EnvironmentMissing

if TYPE_CHECKING:
    from distributed import Client

_IN_FLIGHT = 2  # tasks a worker: one that runs, and the next that waits beside it
REACHED = 20.0  # seconds until a scheduler must answer
_ARRIVAL = 120  # seconds until the first worker must be there

_HERE = "127.0.0.1:0"

_SHORT_LOGS = {"distributed.admin.log-length": 10, "distributed.admin.low-level-log-length": 10}
"""Dask's logs of 1000 and more events hold each task's arguments: 0.3 MiB a chunk, measured, for 240 chunks on end."""

Call = tuple[str, ...]


@dataclass(frozen=True)
class Workers:
    """Where chunks are judged: `count` processes here, or the workers of the scheduler at an address."""

    count: int = 1
    scheduler: str | None = None


@contextmanager
def connected(workers: Workers, scratch: Path) -> Iterator[Client]:
    """A client. Local workers have one thread each and leave nothing outside `scratch`.

    Raises EnvironmentMissing when the scheduler, or the first worker, cannot be reached.
    """
    import dask  # noqa: PLC0415 - an extra
    from distributed import Client, LocalCluster  # noqa: PLC0415

    if workers.scheduler is not None:
        try:
            client = Client(workers.scheduler, timeout=REACHED)
        except (OSError, TimeoutError, ValueError) as error:
            raise EnvironmentMissing(f"scheduler {workers.scheduler}: cannot be reached: {error}") from error
        with client:
            _await_worker(client)
            yield client
        return
    with (
        dask.config.set(_SHORT_LOGS),
        LocalCluster(
            n_workers=workers.count,
            threads_per_worker=1,
            processes=True,
            # without an address Dask's HTTP servers listen on every interface, the first on a fixed port
            dashboard_address=_HERE,
            worker_dashboard_address=_HERE,
            local_directory=str(scratch),
            memory_limit=0,  # a chunk is bounded by its size; Dask's own limit would stop workers on a small machine
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        _await_worker(client)
        yield client


def _await_worker(client: Client) -> None:
    try:
        client.wait_for_workers(1, timeout=_ARRIVAL)
    except TimeoutError as error:
        raise EnvironmentMissing(f"no Dask worker came within {_ARRIVAL} s") from error


def completed(client: Client, function: Callable[..., str], calls: Iterator[Call]) -> Iterator[str]:
    """The results of all calls, in the order in which they end. Only a few calls a worker are made ahead.

    A task whose worker died is given to another, up to three times. Raises EnvironmentMissing when that does not
    help or the scheduler is lost, and whatever a task itself raises.
    """
    from distributed import CancelledError, KilledWorker, as_completed  # noqa: PLC0415 - an extra
    from distributed.comm.core import CommClosedError  # noqa: PLC0415

    ahead = _IN_FLIGHT * max(1, sum(client.ncores().values()))
    pending = as_completed()
    try:
        for _, call in zip(range(ahead), calls, strict=False):
            pending.add(client.submit(function, *call, pure=False))
        for future in pending:
            result = str(future.result())
            future.release()
            call_next = next(calls, None)
            if call_next is not None:
                pending.add(client.submit(function, *call_next, pure=False))
            yield result
    except KilledWorker as error:
        raise EnvironmentMissing(
            "workers died over one chunk again and again (out of memory?); what is done is kept: run it again"
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise EnvironmentMissing("the Dask scheduler was lost; what is done is kept: run it again") from error
