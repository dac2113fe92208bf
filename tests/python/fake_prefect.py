"""Prefect's server as the soak needs it: the flow runs and their states, in memory, with some calls that fail."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import httpx
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import OrchestrationResult, SetStateStatus, StateAcceptDetails
from prefect.exceptions import ObjectNotFound
from prefect.states import Pending

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.schemas.filters import FlowRunFilter


class Prefect:
    """Stands for a worker's `PrefectClient`, with the methods that the worker calls for a flow run.

    Args:
        seed: Which calls fail.
        failing: Share of the reads and updates that fail, from 0 to 1. Proposals of states don't fail.
    """

    def __init__(self, seed: int, failing: float) -> None:
        self._flow_runs: dict[UUID, FlowRun] = {}
        self._chance = random.Random(f"prefect {seed}")
        self._failing = failing

    def submit(self, flow_run: FlowRun) -> None:
        """Adds a flow run that a worker has claimed, or claims one again."""
        flow_run.state = Pending()
        self._flow_runs[flow_run.id] = flow_run

    def cancel(self, flow_run_id: UUID, state: State) -> None:
        """Sets a flow run's state, as a person does."""
        self._flow_runs[flow_run_id].state = state

    async def read_flow_runs(self, *, flow_run_filter: FlowRunFilter) -> list[FlowRun]:
        self._may_fail()
        wanted = (flow_run_filter.id.any_ if flow_run_filter.id else None) or []
        return [self._flow_runs[key] for key in wanted if key in self._flow_runs]

    async def read_flow_run(self, flow_run_id: UUID) -> FlowRun:
        self._may_fail()
        if flow_run_id not in self._flow_runs:
            raise ObjectNotFound(http_exc=LookupError(str(flow_run_id)))
        return self._flow_runs[flow_run_id]

    async def update_flow_run(self, flow_run_id: UUID, infrastructure_pid: str) -> None:
        self._may_fail()
        self._flow_runs[flow_run_id].infrastructure_pid = infrastructure_pid

    async def update_flow_run_labels(self, flow_run_id: UUID, labels: dict[str, Any]) -> None:
        self._may_fail()
        self._flow_runs[flow_run_id].labels.update(labels)

    async def set_flow_run_state(
        self,
        flow_run_id: UUID,
        state: State,
        force: bool = False,
    ) -> OrchestrationResult[Any]:
        assert not force, "the worker forces no state"
        self._flow_runs[flow_run_id].state = state
        return OrchestrationResult(state=state, status=SetStateStatus.ACCEPT, details=StateAcceptDetails())

    async def request(self, method: str, _path: str, *, path_params: dict[str, UUID], json: dict[str, Any]) -> None:
        assert (method, json) == ("PATCH", {"infrastructure_pid": None})
        self._may_fail()
        self._flow_runs[path_params["id"]].infrastructure_pid = None

    def _may_fail(self) -> None:
        if self._chance.random() < self._failing:
            raise httpx.ConnectError("Prefect's server is away")
