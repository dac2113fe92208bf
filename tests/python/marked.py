"""Jobs that a worker of another process has left, as the tests and the bench make them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import get_client

from tests.python.eventually import until

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


async def leave(url: str, project: str, region: str, body: dict[str, Any], *, started: bool) -> None:
    """Creates a job in an emulator and, if it is to be started, an execution of it.

    Args:
        url: URL of the emulator.
        project: Project of the job.
        region: Region of the job.
        body: The job.
        started: Whether it is to be started.
    """
    jobs = f"{url}/apis/run.googleapis.com/v1/namespaces/{project}/jobs"
    job = f"{jobs}/{body['metadata']['name']}"
    async with httpx.AsyncClient(trust_env=False, headers={"Host": f"{region}-run.googleapis.com"}) as http:

        async def is_ready() -> bool:
            conditions = (await http.get(job)).json()["status"].get("conditions", [])
            return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

        (await http.post(jobs, json=body)).raise_for_status()
        if started:
            await until(is_ready, 20)
            (await http.post(f"{job}:run", json={})).raise_for_status()


async def note(flow_run_id: UUID, project: str, region: str, job: str) -> None:
    """Writes on a flow run where its job is, as the worker that creates a job does."""
    async with get_client() as client:
        await client.update_flow_run(flow_run_id, infrastructure_pid=job)
        labels = {"cloud-run.project": project, "cloud-run.region": region, "cloud-run.job": job}
        await client.update_flow_run_labels(flow_run_id, labels)
