"""Counts the calls of the observer's passes: `make bench-observer`.

A Prefect server runs as a process of its own. The jobs are those of another worker that is ONLINE, and
their executions run, so that there is nothing to do for the observer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import logging
import os
import sys
import tempfile
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx

from tests.python.marked import marked_job

from .watching.processes import environment

if TYPE_CHECKING:
    from prefect_gcp.emulator import Emulator

COUNTS = [0, 100, 1000]
PASSES_PER_HOUR = 12
PROJECT, REGION, WORKER = "bench", "us-central1", "another-worker"


def main() -> int:
    """Prints the calls per hour for each number of marked jobs, and returns the exit status."""
    parser = argparse.ArgumentParser(description="The calls of the observer's passes.")
    parser.add_argument("counts", type=int, nargs="*", default=COUNTS, help="numbers of marked jobs, growing")
    counts = parser.parse_args().counts
    with tempfile.TemporaryDirectory() as home:
        # Prefect reads its settings when it is imported.
        os.environ.update(environment(home), PREFECT_LOGGING_LEVEL="CRITICAL")
        from prefect_gcp.emulator import Emulator

        with Emulator(ready_after=0, start_after=0, executor="simulated", duration=86_400) as emulator:
            os.environ.update(CLOUD_RUN_EMULATOR_HOST=emulator.host, GOOGLE_CLOUD_PROJECT=PROJECT)
            asyncio.run(_measure(emulator, counts))
    return 0


async def _measure(emulator: Emulator, counts: list[int]) -> None:
    from prefect.testing.utilities import prefect_test_harness

    with contextlib.redirect_stdout(io.StringIO()):
        harness = prefect_test_harness()
        harness.__enter__()
    try:
        await _passes(emulator, counts)
    finally:
        harness.__exit__(None, None, None)


async def _passes(emulator: Emulator, counts: list[int]) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    from prefect_gcp.settings import CloudRunObserverSettings, CloudRunWorkerSettings
    from prefect_gcp.workers.cloud_run import CloudRunWorker
    from prefect_gcp_cloud_run import _core
    from prefect_gcp_cloud_run.workers._observed_areas import ObservedAreas
    from prefect_gcp_cloud_run.workers._observed_job import Caretaker
    from prefect_gcp_cloud_run.workers._observer import Observer

    settings, logger = CloudRunObserverSettings(), logging.getLogger("bench")
    async with get_client() as client:
        template = CloudRunWorker.get_default_base_job_template()
        pool = await client.create_work_pool(WorkPoolCreate(name="bench", type="cloud-run", base_job_template=template))
        areas = ObservedAreas(CloudRunWorkerSettings(), settings, logger)
        google = _core.Client(
            project=PROJECT, region=REGION, credentials=_core.Credentials(), settings=CloudRunWorkerSettings()
        )
        areas.use(PROJECT, REGION, google)
        observer = Observer(
            lambda: client, lambda: pool, areas, Caretaker("bench", settings, list, logger), settings, logger
        )
        asked: Counter[str] = Counter()

        async def count(request: httpx.Request) -> None:
            asked[request.url.path] += 1

        sys.stdout.write(
            "| marked jobs | reads of Cloud Run per hour | requests to Prefect per hour |\n|---|---|---|\n"
        )
        made = 0
        for jobs in counts:
            await _make_jobs(emulator, client, pool.id, jobs - made)
            made = jobs
            await client.send_worker_heartbeat(pool.name, WORKER, heartbeat_interval_seconds=3600)
            before, asked_before = sum(emulator.counts().values()), asked.total()
            client._client.event_hooks["request"] = [count]
            await observer.one_pass()
            client._client.event_hooks["request"] = []
            reads = sum(emulator.counts().values()) - before
            requests = asked.total() - asked_before
            sys.stdout.write(f"| {jobs} | {reads * PASSES_PER_HOUR} | {requests * PASSES_PER_HOUR} |\n")
        await observer.stop()


async def _make_jobs(emulator: Emulator, client: Any, pool_id: UUID, count: int) -> None:
    """Makes jobs that run, as a worker of another process would have."""
    from prefect.flows import flow
    from prefect.states import Running

    @flow
    def observed() -> None:
        """Nothing runs it."""

    url = f"http://{emulator.host}/apis/run.googleapis.com/v1/namespaces/{PROJECT}/jobs"
    async with httpx.AsyncClient(trust_env=False, headers={"host": f"{REGION}-run.googleapis.com"}) as http:
        for _ in range(count):
            flow_run = await client.create_flow_run(observed, state=Running())
            name = f"job-{uuid4().hex}"
            body = marked_job(
                name,
                pool_id=pool_id,
                flow_run_id=flow_run.id,
                worker=WORKER,
                give_up_in=86_400,
                duration=86_400,
            )
            (await http.post(url, json=body)).raise_for_status()
            (await http.post(f"{url}/{name}:run", json={})).raise_for_status()


if __name__ == "__main__":
    sys.exit(main())
