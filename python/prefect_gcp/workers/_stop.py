"""An orderly stop of a worker: what was not started is given back, and what has ended is finished."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
from prefect.exceptions import Abort, ObjectNotFound, Pause
from prefect.logging.loggers import flow_run_logger
from prefect.states import Cancelled, Scheduled
from prefect.utilities.engine import propose_state

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import State
    from prefect.logging.loggers import PrefectLogAdapter

# How long a stop may take, in seconds. A Cloud Run service gets ten seconds between SIGTERM and SIGKILL.
GRACE = 8.0
# How many flow runs are given back at the same time.
_AT_ONCE = 20


class Stop:
    """The time that a worker's stop may take, which all its runs share."""

    def __init__(self) -> None:
        self._ends: float | None = None
        self._room: anyio.Semaphore | None = None
        # The flow runs whose runs were cancelled, and dealt with it themselves.
        self.let_go: set[UUID] = set()

    def time_left(self) -> float:
        """Returns the seconds that are left. The first call begins the stop."""
        if self._ends is None:
            self._ends = time.monotonic() + GRACE
        return max(0.0, self._ends - time.monotonic())

    @property
    def room(self) -> anyio.Semaphore:
        """Bounds how many flow runs are given back at the same time."""
        if self._room is None:
            self._room = anyio.Semaphore(_AT_ONCE)
        return self._room


async def give_back(
    client: PrefectClient, flow_run_id: UUID, worker: str, logger: logging.Logger | PrefectLogAdapter
) -> None:
    """Proposes that a flow run is Scheduled again, so that another worker takes it. Prefect's server decides.

    Args:
        client: Client of the Prefect API.
        flow_run_id: The flow run. No container of it was started.
        worker: Name of the worker that stops.
        logger: The flow run's logger.
    """
    message = f"Worker {worker!r} stopped before it started the flow run's container. Another worker can take it."
    state = await _propose(client, Scheduled(message=message), flow_run_id)
    if state is None or not state.is_scheduled():
        logger.info(
            f"Worker {worker!r} stops. The flow run was not started, and could not be given back to the work pool"
            + ("" if state is None else f": it is {state.name}")
        )
        return
    # The job is deleted. With its name, a cancel of the flow run would wait for a worker to kill it.
    await client.request("PATCH", "/flow_runs/{id}", path_params={"id": flow_run_id}, json={"infrastructure_pid": None})
    logger.info(f"Worker {worker!r} stops. The flow run was not started; it is scheduled again for another worker")


async def give_back_pending(client: PrefectClient, flow_run_ids: Iterable[UUID], worker: str) -> None:
    """Gives back the flow runs that are Pending: the worker had claimed them, and made no job for them yet.

    Args:
        client: Client of the Prefect API.
        flow_run_ids: The flow runs.
        worker: Name of the worker that stops.
    """
    for flow_run_id in flow_run_ids:
        flow_run = await client.read_flow_run(flow_run_id)
        if flow_run.state is not None and flow_run.state.is_pending():
            await give_back(client, flow_run_id, worker, flow_run_logger(flow_run))


async def mark_cancelled(client: PrefectClient, flow_run_id: UUID) -> None:
    """Proposes that a flow run that is being cancelled is Cancelled. Nothing of it runs."""
    await _propose(
        client, Cancelled(message="The flow run was cancelled before its container was started."), flow_run_id
    )


async def _propose(client: PrefectClient, state: State, flow_run_id: UUID) -> State | None:
    try:
        return await propose_state(client, state, flow_run_id=flow_run_id)
    except (Abort, Pause, ObjectNotFound):
        return None
