"""Flow runs whose worker is gone and that have no job: no list of jobs shows them, and nobody would ever end them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound, PrefectSignal

from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run.workers._crash import report_crash
from prefect_gcp_cloud_run.workers._observed_flow_run import count_give_back, given_back, line_of, logger_of, sentence
from prefect_gcp_cloud_run.workers._places import noted_place
from prefect_gcp_cloud_run.workers._proposals import give_back

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun

    from prefect_gcp_cloud_run.workers._observed_areas import Area

# How long a flow run must have been in its state before it may count as lost, in seconds. Its own worker learns within
# a minute or two that a job is gone.
_LOST_AFTER = 600.0
# Label in which Prefect notes the worker that has taken a flow run.
_WORKER_LABEL = "prefect.worker.name"


@dataclass(frozen=True)
class LostFlowRun:
    """A flow run that is lost.

    Attributes:
        flow_run: The flow run.
        reason: Why, as a clause.
        done: What was done, in a few words. None: nothing.
        error: Why it could not be done.
    """

    flow_run: FlowRun
    reason: str
    done: str | None = None
    error: Exception | None = None


def worker_of(flow_run: FlowRun) -> str | None:
    """Returns the name of the worker that has taken a flow run, as Prefect has noted it."""
    name = (flow_run.labels or {}).get(_WORKER_LABEL)
    return name if isinstance(name, str) else None


def why_lost(flow_run: FlowRun, jobs: Mapping[Area, set[str] | None], gone: set[str]) -> str | None:
    """Returns why a flow run seems to be lost; None if it does not.

    Args:
        flow_run: A flow run that is Pending, Running or Cancelling.
        jobs: The names of the marked jobs in each project and region; None where the list is not complete.
        gone: The names of workers that are surely gone.
    """
    state = flow_run.state
    if state is None or state.type not in (StateType.PENDING, StateType.RUNNING):
        return None
    if time.time() - state.timestamp.timestamp() < _LOST_AFTER:
        return None
    place, pid = noted_place(flow_run), flow_run.infrastructure_pid
    if pid is None:
        # Its worker may wait before it creates a job, for hours. A job of an earlier try does not matter.
        names = jobs.get((place.project, place.region)) if place is not None else set()
        has_no_job = names is not None and (place is None or place.job not in names)
        is_lost = state.type == StateType.PENDING and has_no_job and worker_of(flow_run) in gone
        return "its worker is gone, and it has no job" if is_lost else None
    if place is None or place.job != pid:
        return None
    names = jobs.get((place.project, place.region))
    return "its job is gone" if names is not None and pid not in names else None


async def find_again(
    lost: LostFlowRun,
    clients: Mapping[Area, _core.Client],
    prefect: PrefectClient,
    *,
    name: str,
    max_tries: int,
) -> LostFlowRun:
    """Gives a lost flow run back to its work pool if it was not started, else reports that it crashed. Raises nothing.

    Args:
        lost: The flow run.
        clients: A client for each project and region that was looked in.
        prefect: Client of the Prefect API.
        name: The name of the worker that observes.
        max_tries: How often a flow run may be given back.
    """
    try:
        return LostFlowRun(lost.flow_run, lost.reason, done=await _act(lost, clients, prefect, name, max_tries))
    except (Exception, PrefectSignal) as error:
        problem = error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
        logger_of(lost.flow_run, name).warning(
            f"The flow run seems to be lost: {lost.reason}. Nothing could be done about it: {problem}. The next pass "
            "tries again"
        )
        return LostFlowRun(lost.flow_run, lost.reason, error=problem)


async def _act(
    lost: LostFlowRun, clients: Mapping[Area, _core.Client], prefect: PrefectClient, name: str, max_tries: int
) -> str | None:
    place = noted_place(lost.flow_run)
    client = clients.get((place.project, place.region)) if place is not None else None
    # A job without a mark is in no list.
    if place is not None and (client is None or await client.has_job(place.job)):
        return None
    try:
        now = await prefect.read_flow_run(lost.flow_run.id)
    except ObjectNotFound:
        return None
    state, before = now.state, lost.flow_run.state
    if state is None or before is None or state.id != before.id:
        return None
    if now.infrastructure_pid != lost.flow_run.infrastructure_pid:
        return None
    logger = logger_of(now, name)
    tries = given_back(now)
    if state.type == StateType.PENDING and tries < max_tries:
        await count_give_back(prefect, now)
        is_scheduled = await give_back(
            prefect,
            now.id,
            message="The flow run's container was not started, and its worker was lost. Another worker can take it.",
            why=f"The flow run was lost: {lost.reason}",
            logger=logger,
            state_id=state.id,
        )
        return "given back" if is_scheduled else None
    words = lost.reason if state.type == StateType.RUNNING else f"{lost.reason}, after it was given back {tries} times"
    category, summary = ("Deleted", "The job was deleted.") if place is not None else ("StartFailed", "Not started.")
    diagnosis = _core.Diagnosis(category, "error", summary, sentence(words), "")
    job = place.job if place is not None else ""
    line = line_of(diagnosis)
    crashed = await report_crash(prefect, now.id, job, diagnosis, logger, line=line, state_id=state.id)
    return "crashed" if crashed is not None else None
