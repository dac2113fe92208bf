"""Events about executions whose own worker is gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prefect.logging.loggers import get_logger

from prefect_gcp_cloud_run.exceptions import CloudRunError
from prefect_gcp_cloud_run.workers._events import MAX_AGE, emit_execution_event, related_of_flow_run
from prefect_gcp_cloud_run.workers._places import JobPlace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.schemas.objects import FlowRun
    from prefect.events.schemas.events import RelatedResource

    from prefect_gcp_cloud_run import _core

# How an execution may have ended, as a job's status and the names of events have it.
_ENDS = frozenset({"succeeded", "failed", "cancelled"})

_logger = get_logger(__name__)


async def tell_end(
    client: _core.Client,
    job: _core.MarkedJob,
    flow_run: FlowRun,
    related: Sequence[RelatedResource],
    diagnosis: str | None = None,
) -> None:
    """Emits the events of an execution that has ended, if that is news. Raises nothing.

    Its own worker may have emitted them, too: their ids are the same.

    Args:
        client: The client for the job's project and region.
        job: The job.
        flow_run: Its flow run.
        related: The work pool and the worker that observes.
        diagnosis: The category of what went wrong, if that is known.
    """
    if job.status not in _ENDS or job.completed_at is None:
        return
    if time.time() - job.completed_at > MAX_AGE.total_seconds():
        return
    try:
        execution = await client.read_execution(job)
    except CloudRunError as error:
        _logger.debug(f"Execution {job.execution!r} could not be read for its events: {error}")
        return
    if execution is None or execution.uid is None:
        return
    for kind, occurred in (("started", execution.started_at), (job.status, job.completed_at)):
        if occurred is not None:
            emit_execution_event(
                kind,
                uid=execution.uid,
                name=execution.name,
                place=JobPlace(job.project, job.region, job.name),
                occurred=occurred,
                related=[*related_of_flow_run(flow_run), *related],
                diagnosis=diagnosis if kind == "failed" else None,
            )
