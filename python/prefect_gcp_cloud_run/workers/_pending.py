"""The state InfrastructurePending: the flow run's job exists, and its container is not there yet.

The server would also take this state after the flow run has ended, which would bring it back to life. So it is proposed
once, right after the job's creation, and no proposal is on its way any more when the job is started or the run ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from prefect.client.schemas.responses import SetStateStatus
from prefect.states import InfrastructurePending

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from uuid import UUID

    import anyio
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.responses import OrchestrationResult
    from prefect.logging.loggers import PrefectLogAdapter

    from prefect_gcp_cloud_run.workers._flow_runs import FlowRunChecks

# Longest time for the read of the flow run and the proposal together, in seconds.
LIMIT = 5.0
# The states after which nothing else can have happened to a flow run that a worker has taken.
_BEFORE = frozenset({"Pending", "Submitting"})


class PendingProposal:
    """The proposal of InfrastructurePending for one flow run.

    Args:
        client: Returns the worker's client of the Prefect API; None if the worker is not set up.
        flow_run_id: The flow run.
        job: The name of its job.
        checks: Learns that the state is the worker's own.
        room: Bounds how many proposals are made at the same time.
        logger: The flow run's logger. Gets failures, at debug.
    """

    def __init__(
        self,
        client: Callable[[], PrefectClient | None],
        flow_run_id: UUID,
        job: str,
        checks: FlowRunChecks,
        room: anyio.Semaphore,
        logger: logging.Logger | PrefectLogAdapter,
    ) -> None:
        self._client = client
        self._flow_run_id = flow_run_id
        self._job = job
        self._checks = checks
        self._room = room
        self._logger = logger
        self._task: asyncio.Task[None] | None = None
        self._is_sent = False
        self._is_settled = False

    def begin(self, after: asyncio.Future[None]) -> None:
        """Makes the proposal in the background: once, and not after `settle`.

        Args:
            after: Another request about the flow run, which goes first. The server would let one of the two wait for
                seconds if they came together.
        """
        if self._task is None and not self._is_settled:
            self._task = asyncio.create_task(self._make(after))

    async def settle(self) -> None:
        """Makes sure that the proposal has been answered or is not sent any more. Takes `LIMIT` at most."""
        self._is_settled = True
        task = self._task
        if task is None or task.done():
            return
        if not self._is_sent:
            task.cancel()
        await asyncio.wait({task})

    async def _make(self, after: asyncio.Future[None]) -> None:
        await asyncio.wait({after})
        client = self._client()
        if client is None:
            return
        async with self._room:
            try:
                await asyncio.wait_for(self._propose(client), LIMIT)
            except Exception as error:
                self._logger.debug(f"Prefect could not be told that Cloud Run Job {self._job!r} was created: {error!r}")

    async def _propose(self, client: PrefectClient) -> None:
        state = (await client.read_flow_run(self._flow_run_id)).state
        if state is None or not state.is_pending() or state.name not in _BEFORE or self._is_settled:
            return
        if self._checks.reason(self._flow_run_id, state) is not None:
            return
        message = f"Cloud Run Job {self._job!r} was created. Its container has not started yet."
        self._is_sent = True
        self._checks.expect_own_state(self._flow_run_id)
        state = InfrastructurePending(message=message)
        answer: OrchestrationResult[Any] = await client.set_flow_run_state(self._flow_run_id, state)
        if answer.status == SetStateStatus.ACCEPT and answer.state is not None:
            self._checks.own_state(self._flow_run_id, answer.state.id)
        else:
            self._checks.own_state(self._flow_run_id, None)
            self._logger.debug(f"Prefect did not take the state InfrastructurePending: {answer.details}")
