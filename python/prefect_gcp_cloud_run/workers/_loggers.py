"""The logger with which a worker writes to a flow run's log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect.logging.loggers import PrefectLogAdapter, flow_run_logger

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, WorkPool


def worker_logger(flow_run: FlowRun, worker_name: str | None, work_pool: WorkPool | None) -> PrefectLogAdapter:
    """Returns the logger with which a worker writes to a flow run's log."""
    extra = {
        "worker_name": worker_name,
        "work_pool_name": work_pool.name if work_pool else "<unknown>",
        "work_pool_id": str(work_pool.id) if work_pool else "unknown",
    }
    return flow_run_logger(flow_run).getChild("worker", extra=extra)
