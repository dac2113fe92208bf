"""One worker, ours or the known one, with many flow runs at once: measured from within, printed as JSON.

    CLOUD_RUN_EMULATOR_HOST=127.0.0.1:8080 python benches/one_worker.py --runs 1000

Both have the same import paths, so the Python that runs this decides which one it is. The flow runs go straight to
`CloudRunWorker.run`: a Prefect server on this machine would take a quarter of an hour to schedule them.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import os
import random
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from prefect.client.schemas.objects import FlowRun
from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration

REGIONS = (
    "us-central1 us-east1 us-east4 us-west1 us-west2 europe-west1 europe-west2 europe-west3 asia-east1 asia-northeast1"
).split()
EMULATOR = f"http://{os.environ['CLOUD_RUN_EMULATOR_HOST']}"


def point_at_emulator() -> None:
    """Points the known worker at the emulator, and gives it credentials; ours finds both in the environment."""
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from googleapiclient import discovery

    google.auth.default = lambda *_args, **_kwargs: (AnonymousCredentials(), "bench")

    def client(_worker: CloudRunWorker, _configuration: CloudRunWorkerJobConfiguration) -> Any:
        options = {"api_endpoint": EMULATOR}
        return discovery.build("run", "v1", client_options=options, credentials=AnonymousCredentials()).namespaces()

    CloudRunWorker._get_client = client


def memory() -> float:
    """What this process alone has in memory, in MB."""
    with Path("/proc/self/smaps_rollup").open() as rollup:
        return sum(int(line.split()[1]) for line in rollup if line.startswith("Private_")) / 1024


def threads() -> int:
    """How many threads this process has, Rust's included."""
    return len(list(Path("/proc/self/task").iterdir()))


def counts() -> dict[str, int]:
    """How often the emulator was called so far, by method."""
    with urllib.request.urlopen(f"{EMULATOR}/emulator/counts") as answer:
        return json.load(answer)


class Run:
    """A flow run, and the moments of its life by the wall clock; stands for anyio's task status as well."""

    def __init__(self, flow_run: FlowRun, configuration: CloudRunWorkerJobConfiguration) -> None:
        self.flow_run = flow_run
        self.configuration = configuration
        self.submitted = self.ended = 0.0
        self.is_started = asyncio.Event()
        self.started_at = 0.0
        self.result: int | str | None = None

    def started(self, _job: str) -> None:
        """Notes the moment."""
        self.started_at = time.time()
        self.is_started.set()

    async def go(self, worker: CloudRunWorker) -> None:
        """Runs it to its end."""
        self.submitted = time.time()
        try:
            self.result = (await worker.run(self.flow_run, self.configuration, self)).status_code  # type: ignore[arg-type]
        except Exception as error:
            self.result = repr(error)
        self.ended = time.time()
        self.is_started.set()

    def summary(self) -> dict[str, Any]:
        """What it has come to."""
        return {
            "job": self.configuration.job_name,
            "submitted": self.submitted,
            "started": self.started_at,
            "ended": self.ended,
            "result": self.result,
        }


async def prepare(number: int, regions: int, seconds: tuple[float, float], model: Any) -> Run:
    """A run of its own, with the copies of the configuration that Prefect would make of it."""
    configuration = model.model_copy(update={"job_body": copy.deepcopy(model.job_body), "env": dict(model.env)})
    flow_run = FlowRun(id=uuid4(), flow_id=uuid4(), name=f"bench-{number}")
    body = configuration.job_body
    body["metadata"]["name"] = f"bench-{number}-{flow_run.id.hex}"
    body["metadata"]["labels"]["prefect-io-flow-run-id"] = str(flow_run.id)
    configuration.region = REGIONS[number % regions]
    annotations = body["spec"]["template"].setdefault("metadata", {}).setdefault("annotations", {})
    annotations["cloud-run-emulator/duration-seconds"] = f"{random.Random(number).uniform(*seconds):.2f}"
    return Run(flow_run, configuration)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs them all and measures."""
    worker = CloudRunWorker(work_pool_name="bench")
    template = CloudRunWorker.get_default_base_job_template()
    client: Any = SimpleNamespace()
    model = await CloudRunWorkerJobConfiguration.from_template_and_values(template, {"command": "true"}, client=client)
    model.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="model"))
    # What is loaded with the first run belongs to the worker and not to its runs.
    await (await prepare(0, 1, (0.1, 0.1), model)).go(worker)

    idle = {"memory": memory(), "threads": threads()}
    seconds = (options.seconds[0], options.seconds[-1])
    runs = [await prepare(number, options.regions, seconds, model) for number in range(options.runs)]
    before = counts()
    tasks = [asyncio.create_task(run.go(worker)) for run in runs]
    await asyncio.gather(*(run.is_started.wait() for run in runs))
    result: dict[str, Any] = {"idle": idle}
    if options.window:
        # The young ones are looked at more often.
        await asyncio.sleep(options.settle)
        first, began, used = await asyncio.to_thread(counts), time.time(), time.process_time()
        await asyncio.sleep(options.window)
        took, used = time.time() - began, time.process_time() - used
        last = await asyncio.to_thread(counts)
        running = {"memory": memory(), "threads": threads(), "cpu": used / took, "waiting": sum(not t.done() for t in tasks)}
        calls = {name: last[name] - first.get(name, 0) for name in last}
        result |= {"running": running, "window": {"seconds": took, "calls": calls}}
    await asyncio.gather(*tasks)
    after = counts()
    result["calls"] = {name: after[name] - before.get(name, 0) for name in after}
    result["runs"] = [run.summary() for run in runs]
    return result


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description="One worker with many flow runs at once.")
    parser.add_argument("--runs", type=int, default=100, help="flow runs, all at once")
    parser.add_argument("--regions", type=int, default=1, help="regions that they are spread over, ten at most")
    parser.add_argument("--seconds", type=float, nargs="+", default=[5.0], help="how long executions take: from, to")
    parser.add_argument("--settle", type=float, default=10.0, help="seconds from the last start to the window")
    parser.add_argument("--window", type=float, default=0.0, help="seconds over which waiting is measured")
    options = parser.parse_args()
    if "known" in os.environ.get("BENCH_WORKER", ""):
        point_at_emulator()
    result = asyncio.run(measure(options))
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
