"""What Prefect is told when a flow run's infrastructure fails: the cause first, so that automations can match it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound

from prefect_gcp_cloud_run.workers._proposals import mark_crashed

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.logging.loggers import PrefectLogAdapter

    from prefect_gcp_cloud_run import _core

# The states in which a flow run needs its infrastructure. The server would also let one crash that is paused, or waits
# for its next try.
_NEEDS_INFRASTRUCTURE = frozenset({StateType.PENDING, StateType.RUNNING})
# The states whose flow runs expect the end of their infrastructure, so that it is no error for the log.
_EXPECTS_THE_END = frozenset(
    {StateType.CANCELLING, StateType.CANCELLED, StateType.COMPLETED, StateType.SCHEDULED, StateType.PAUSED}
)
# Longest time for the read and for the proposal, in seconds. Prefect's own report of the crash follows, and waits
# longer.
_TIME = 10


def needs_infrastructure(flow_run: FlowRun, job: str) -> bool:
    """Whether a flow run ends if this job ends: whether it is Pending or Running, and not in another job."""
    state = flow_run.state
    return state is not None and state.type in _NEEDS_INFRASTRUCTURE and flow_run.infrastructure_pid in (None, job)


async def report_crash(
    client: PrefectClient | None,
    flow_run_id: UUID,
    job: str,
    diagnosis: _core.Diagnosis,
    logger: PrefectLogAdapter,
    *,
    line: str,
    state_id: UUID | None = None,
) -> FlowRun | None:
    """Proposes that a flow run is Crashed, with the diagnosis as the state's message.

    A flow run that does not need this job is left alone: one that has ended, is being cancelled, waits for its next
    try, or runs as another job.

    Args:
        client: Client of the Prefect API. None: nothing is proposed.
        flow_run_id: The flow run.
        job: The name of its job.
        diagnosis: Why it failed.
        logger: The flow run's logger.
        line: What to log, at level error; may be empty. Left out if the flow run expects the end of its job.
        state_id: The state that was looked at. A flow run that has come to another one since is left alone.

    Returns:
        The flow run as it was just before, if it is Crashed now because of this.
    """
    flow_run = None
    is_deleted = False
    with anyio.move_on_after(_TIME):
        try:
            flow_run = await client.read_flow_run(flow_run_id) if client is not None else None
        except ObjectNotFound:
            is_deleted = True
        except Exception as error:
            logger.debug(f"The flow run could not be read before its crash is reported: {error!r}")
    state = flow_run.state if flow_run is not None else None
    state_type = state.type if state is not None else None
    if state_id is not None and (state is None or state.id != state_id):
        return None
    if line and not is_deleted and state_type not in _EXPECTS_THE_END:
        logger.log(logging.ERROR, line)
    if client is None or flow_run is None or not needs_infrastructure(flow_run, job):
        return None
    with anyio.move_on_after(_TIME):
        if await mark_crashed(client, flow_run_id, diagnosis.message, logger):
            return flow_run
    return None
