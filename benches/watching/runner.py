"""The worker under test, in a process of its own: `python runner.py ours|upstream SPEC`.

The Python of the worker's environment runs it. It reports events to the bench as lines of JSON and reads commands:

1. It runs one job as a warm-up and reports `idle`.
2. On `prepare` it makes the configurations of all runs and reports `prepared`.
3. On `go` it starts all runs at once. It reports `submitted` when each has an execution, and `done` with the times of
   all runs.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from prefect.client.schemas.objects import FlowRun

from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration

ID_LABEL = "prefect-io-flow-run-id"


class Run:
    """A flow run, and when it started and ended. Also the task status that `run()` reports the start to."""

    __slots__ = ("configuration", "duration", "ended", "flow_run", "outcome", "started_at", "tell")

    def __init__(self, flow_run: FlowRun, configuration: Any, duration: float) -> None:
        self.flow_run, self.configuration, self.duration = flow_run, configuration, duration
        self.started_at: float | None = None
        self.ended: float | None = None
        self.outcome: int | str | None = None
        self.tell: Callable[[], None] = lambda: None

    def started(self, _identifier: str) -> None:
        """Called by the worker when the execution exists."""
        self.started_at = time.time()
        self.tell()

    async def run(self, worker: CloudRunWorker) -> None:
        """Runs the flow run to its end."""
        try:
            self.outcome = (await worker.run(self.flow_run, self.configuration, self)).status_code
        except Exception as error:
            self.outcome = repr(error)
        self.ended = time.time()
        if self.started_at is None:
            self.tell()

    def result(self) -> dict[str, Any]:
        """What is reported to the bench."""
        return {
            "job": self.configuration.job_name,
            "duration": self.duration,
            "started": self.started_at,
            "ended": self.ended,
            "outcome": self.outcome,
        }


async def a_configuration(worker: CloudRunWorker) -> Any:
    """A prepared configuration, to copy for each run. Prefect takes 27 ms to make one from the template."""
    # The timeout is longer than every duration, or the emulator would end the executions.
    values = {"command": "true", "credentials": {"project": "bench"}, "timeout": 3600}
    template, client = worker.get_default_base_job_template(), SimpleNamespace()
    configuration = await CloudRunWorkerJobConfiguration.from_template_and_values(template, values, client=client)
    configuration.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="bench"))
    return configuration


def a_run(pattern: Any, name: str, region: str, duration: float) -> Run:
    """A run with its own flow run and configuration, as Prefect makes them."""
    flow_run = FlowRun(id=uuid4(), flow_id=uuid4(), name=name)
    configuration = pattern.model_copy(deep=True)
    configuration.region = region
    job = configuration.job_body
    execution = job["spec"]["template"]
    job["metadata"]["name"] = name
    for metadata in (job["metadata"], execution["metadata"]):
        metadata["labels"][ID_LABEL] = str(flow_run.id)
    execution["metadata"].setdefault("annotations", {})["cloud-run-emulator/duration-seconds"] = f"{duration:.3f}"
    return Run(flow_run, configuration, duration)


def the_runs(
    pattern: Any, runs: int, regions: list[str], shortest: float, spread: float, prefix: str = "run"
) -> list[Run]:
    """All runs: the regions take turns, the durations are spread evenly from the shortest on, in random order."""
    durations = [round(shortest + spread * number / runs, 3) for number in range(runs)]
    random.Random(1).shuffle(durations)  # noqa: S311, the same order each time
    return [
        a_run(pattern, f"{prefix}-{number:05}", regions[number % len(regions)], duration)
        for number, duration in enumerate(durations)
    ]


def say(event: str, **more: Any) -> None:
    """Reports an event to the bench."""
    sys.stdout.write(json.dumps({"event": event, **more}) + "\n")
    sys.stdout.flush()


def wait_for(word: str) -> None:
    """Waits for a command of the bench. No run is going, so blocking the event loop is fine."""
    if sys.stdin.readline().strip() != word:
        sys.exit(f"expected {word!r}")


def point_the_upstream_worker_at(url: str) -> None:
    """Gives the upstream worker the emulator's address and anonymous credentials. All else stays as it is."""
    import google.auth
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials
    from googleapiclient import discovery

    def get_client(_worker: Any, _configuration: Any) -> Any:
        options = ClientOptions(api_endpoint=url)
        credentials = AnonymousCredentials()
        return discovery.build(
            "run", "v1", client_options=options, credentials=credentials, static_discovery=True
        ).namespaces()

    google.auth.default = lambda *_args, **_kwargs: (AnonymousCredentials(), "bench")
    CloudRunWorker._get_client = get_client


async def bench(spec: dict[str, Any]) -> None:
    """Runs the warm-up and all runs of the specification, step by step with the bench."""
    worker = CloudRunWorker(work_pool_name="bench")
    pattern = await a_configuration(worker)
    first = a_run(pattern, f"warm-up-{os.getpid()}", spec["load"]["regions"][0], 0)
    await first.run(worker)
    if first.outcome != 0:
        sys.exit(f"The first run ended with {first.outcome}")
    del first
    gc.collect()
    say("idle")
    wait_for("prepare")
    runs = the_runs(pattern, **spec["load"])
    say("prepared")
    wait_for("go")

    pending = len(runs)

    def one_more() -> None:
        nonlocal pending
        pending -= 1
        if pending == 0:
            say("submitted", at=time.time())

    began = time.time()
    tasks = []
    for run in runs:
        run.tell = one_more
        tasks.append(asyncio.create_task(run.run(worker)))
    await asyncio.wait(tasks, timeout=spec["limit"])
    if pending:
        say("submitted", at=time.time())
    say("done", began=began, runs=[run.result() for run in runs])


def main() -> None:
    """Runs the worker of the kind that the command line names."""
    kind, spec = sys.argv[1], json.loads(sys.argv[2])
    if kind == "upstream":
        point_the_upstream_worker_at(spec["url"])
    asyncio.run(bench(spec))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    # When the limit was reached, the upstream worker's threads would keep the process alive.
    os._exit(0)
