"""A worker with hundreds of runs in flight, started as `prefect worker start` does.

    python -m tests.python.flooded_worker POOL RUNS [known]

The worker starts its runs itself. A Prefect server on this machine would take a quarter of an hour to schedule them.
With `known`, the server knows their flow runs, and they are Pending there.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import os
import sys
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from prefect.client.schemas.objects import FlowRun
from prefect.flows import flow
from prefect.states import Pending
from prefect.utilities.processutils import setup_signal_handlers_worker

from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration
from prefect_gcp_cloud_run.workers._flow_runs import FlowRunChecks


@flow
def flooded() -> None:
    """Nothing runs it."""


class FloodedWorker(CloudRunWorker):
    """Runs flow runs that it makes itself, instead of those of its pool."""

    type = "cloud-run-flooded"

    async def setup(self) -> None:
        """Starts the runs, in the task group in which the base class starts scheduled ones."""
        await super().setup()
        is_known = "known" in sys.argv
        if not is_known:
            # The server would take these flow runs for deleted.
            self._runs.checks = FlowRunChecks(lambda: None)
        client: Any = SimpleNamespace()
        values = {"command": "true", "credentials": {"project": "p"}}
        configuration = await CloudRunWorkerJobConfiguration.from_template_and_values(
            self.get_default_base_job_template(), values, client=client
        )
        configuration.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="flooded"))
        names = [f"{sys.argv[1]}-{number}" for number in range(int(sys.argv[2]))]
        if is_known:
            flow_runs = [await self.client.create_flow_run(flooded, name=name, state=Pending()) for name in names]
        else:
            flow_runs = [FlowRun(id=uuid4(), flow_id=uuid4(), name=name) for name in names]
        for flow_run in flow_runs:
            own = configuration.model_copy(update={"job_body": copy.deepcopy(configuration.job_body)})
            own.job_body["metadata"]["name"] = flow_run.name
            self._runs_task_group.start_soon(self.run, flow_run, own)


async def main() -> None:
    """Starts and stops the worker as `prefect worker start` does."""
    # Its output goes to a file, which is read while it runs.
    say = functools.partial(print, flush=True)
    setup_signal_handlers_worker(os.getpid(), "the worker", say)
    worker = FloodedWorker(work_pool_name=sys.argv[1])
    try:
        await worker.start(printer=say)
    except asyncio.CancelledError:
        sys.stdout.write("Worker stopped!\n")


if __name__ == "__main__":
    asyncio.run(main())
