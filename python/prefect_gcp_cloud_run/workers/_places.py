"""Where the job of a flow run is: written on the flow run when the job exists, so that any worker can find it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from prefect.exceptions import ObjectNotFound

if TYPE_CHECKING:
    import logging

    import anyio
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.logging.loggers import PrefectLogAdapter

# Labels of flow runs.
_PROJECT_LABEL = "cloud-run.project"
_REGION_LABEL = "cloud-run.region"
_JOB_LABEL = "cloud-run.job"
# First and longest pause between two attempts to write them, in seconds.
_FIRST_PAUSE = 1.0
_MAX_PAUSE = 60.0


@dataclass(frozen=True)
class JobPlace:
    """Where a job is.

    Attributes:
        project: Project id.
        region: Region.
        job: Name of the job.
    """

    project: str
    region: str
    job: str


async def record_place(
    client: PrefectClient,
    flow_run_id: UUID,
    place: JobPlace,
    logger: logging.Logger | PrefectLogAdapter,
    room: anyio.Semaphore,
) -> bool:
    """Writes the place of a job on its flow run: as `infrastructure_pid`, and as labels. Repeats it until it succeeds.

    Args:
        client: Client of the Prefect API.
        flow_run_id: The flow run.
        place: The place.
        logger: Gets a warning if the first attempt fails.
        room: Bounds how many places are written at the same time.

    Returns:
        Whether it was written. A flow run that was deleted has no place.
    """
    labels: dict[str, bool | int | float | str] = {
        _PROJECT_LABEL: place.project,
        _REGION_LABEL: place.region,
        _JOB_LABEL: place.job,
    }
    pause = _FIRST_PAUSE
    while True:
        try:
            async with room:
                await client.update_flow_run(flow_run_id, infrastructure_pid=place.job)
                await client.update_flow_run_labels(flow_run_id, labels)
        except Exception as error:
            if is_not_found(error):
                return False
            if pause == _FIRST_PAUSE:
                logger.warning(
                    f"The worker could not tell Prefect where Cloud Run Job {place.job!r} is: {error!r}. Until it "
                    "can, a cancelled flow run's job may not be found. The worker tries again"
                )
        else:
            return True
        await asyncio.sleep(pause)
        pause = min(2 * pause, _MAX_PAUSE)


def noted_place(flow_run: FlowRun) -> JobPlace | None:
    """Returns the place of a flow run's job, as a worker wrote it on the flow run; None if none did."""
    labels: dict[str, Any] = dict(flow_run.labels or {})
    place = [labels.get(key) for key in (_PROJECT_LABEL, _REGION_LABEL, _JOB_LABEL)]
    known = [part for part in place if isinstance(part, str)]
    return JobPlace(*known) if len(known) == len(place) else None


async def read_place(client: PrefectClient | None, flow_run_id: str | None, job: str) -> JobPlace | None:
    """Reads where the worker that created a job has noted it to be.

    Args:
        client: Client of the Prefect API, if there is one.
        flow_run_id: The job's flow run, if it is known.
        job: Name of the job.

    Returns:
        The place. None if the flow run does not exist, or names no place or that of another job.

    Raises:
        Exception: If Prefect can't be asked.
    """
    if client is None or flow_run_id is None:
        return None
    try:
        place = noted_place(await client.read_flow_run(UUID(flow_run_id)))
    except ObjectNotFound:
        return None
    return place if place is not None and place.job == job else None


def is_not_found(error: Exception) -> bool:
    """Whether an error of Prefect's client says that the flow run does not exist."""
    # Not all of the client's methods translate the response.
    return isinstance(error, ObjectNotFound) or (
        isinstance(error, httpx.HTTPStatusError) and error.response.status_code == httpx.codes.NOT_FOUND
    )
