"""Jobs that a worker of another process has left, as the tests and the bench make them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

# What the keys of a mark begin with.
MARK = "prefect-gcp-cloud-run"


def marked_job(
    name: str,
    *,
    pool_id: UUID,
    flow_run_id: UUID,
    worker: str,
    keep: bool = False,
    give_up_in: float = 3600,
    outcome: str = "success",
    duration: float = 0.1,
    labels: dict[str, str | None] | None = None,
) -> dict[str, Any]:
    """Returns the body of a job with a mark.

    Args:
        name: Name of the job.
        pool_id: Id of the work pool.
        flow_run_id: Id of the flow run.
        worker: Name of the worker that has left it.
        keep: Whether it is to be kept.
        give_up_in: In how many seconds its worker has given up.
        outcome: How the emulator's simulated executions end.
        duration: How many seconds these take.
        labels: Changes of the mark's labels. None leaves one out.
    """
    give_up_at = datetime.now(timezone.utc) + timedelta(seconds=give_up_in)
    marks = {MARK: "1", f"{MARK}-pool": str(pool_id), f"{MARK}-flow-run": str(flow_run_id)} | (labels or {})
    notes = {
        "process": str(uuid4()),
        "worker": worker,
        "keep": str(keep).lower(),
        "give-up-at": give_up_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    simulated = {"cloud-run-emulator/outcome": outcome, "cloud-run-emulator/duration-seconds": str(duration)}
    task = {"containers": [{"image": "i", "command": ["true"]}], "maxRetries": 0}
    return {
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": {key: value for key, value in marks.items() if value is not None},
            "annotations": {f"{MARK}/{key}": value for key, value in notes.items()},
        },
        "spec": {"template": {"metadata": {"annotations": simulated}, "spec": {"template": {"spec": task}}}},
    }
