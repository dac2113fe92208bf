"""What the observer knows of a flow run, and how it speaks to its log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect.logging.loggers import flow_run_logger

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.logging.loggers import PrefectLogAdapter

    from prefect_gcp_cloud_run import _core

# Label of a flow run: how often it was given back because its worker had gone.
_GIVEN_BACK_LABEL = "cloud-run.given-back"


def logger_of(flow_run: FlowRun, worker: str) -> PrefectLogAdapter:
    """Returns a flow run's logger, whose lines the console of the worker of this name shows too."""
    return flow_run_logger(flow_run).getChild("worker", extra={"worker_name": worker})


def given_back(flow_run: FlowRun | None) -> int:
    """Returns how often a flow run was given back."""
    value = (flow_run.labels or {}).get(_GIVEN_BACK_LABEL) if flow_run is not None else None
    return value if isinstance(value, int) else 0


async def count_give_back(prefect: PrefectClient, flow_run: FlowRun) -> None:
    """Counts that a flow run is given back. Call it first: without the count, it would be given back for ever."""
    await prefect.update_flow_run_labels(flow_run.id, {_GIVEN_BACK_LABEL: given_back(flow_run) + 1})


def line_of(diagnosis: _core.Diagnosis) -> str:
    """Returns the line about a diagnosis, for a log."""
    return f"Diagnosis: {diagnosis.message}"


def sentence(clause: str) -> str:
    """Returns a clause with a capital letter at its beginning."""
    return clause[:1].upper() + clause[1:]
