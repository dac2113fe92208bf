"""The worker under test, in a process of its own: `python runner.py ours|known SPEC`.

It is run by the Python of the worker's own environment, and talks with the bench in lines of JSON: it says `idle` once
it has run one job, prepares its configurations when told to, says `prepared`, starts all runs at once when told to,
says `submitted` once all have an execution, and `done` with the times of all of them.
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
    """A flow run, and when it started and ended. It stands for anyio's task status, too."""

    __slots__ = ("configuration", "duration", "ended", "flow_run", "outcome", "started_at", "tell")

    def __init__(self, flow_run: FlowRun, configuration: Any, duration: float) -> None:
        self.flow_run, self.configuration, self.duration = flow_run, configuration, duration
        self.started_at: float | None = None
        self.ended: float | None = None
        self.outcome: int | str | None = None
        self.tell: Callable[[], None] = lambda: None

    def started(self, _identifier: str) -> None:
        """The worker's word that there is an execution."""
        self.started_at = time.time()
        self.tell()

    async def run(self, worker: CloudRunWorker) -> None:
        """Runs it to its end."""
        try:
            self.outcome = (await worker.run(self.flow_run, self.configuration, self)).status_code
        except Exception as error:
            self.outcome = repr(error)
        self.ended = time.time()
        if self.started_at is None:
            self.tell()

    def result(self) -> dict[str, Any]:
        """What the bench wants to know of it."""
        return {
            "job": self.configuration.job_name,
            "duration": self.duration,
            "started": self.started_at,
            "ended": self.ended,
            "outcome": self.outcome,
        }


async def a_configuration(worker: CloudRunWorker) -> Any:
    """A prepared configuration, to be copied for each run: making one from the template takes Prefect 27 ms."""
    # A timeout beyond every duration, or the emulator would end the executions.
    values = {"command": "true", "credentials": {"project": "bench"}, "timeout": 3600}
    template, client = worker.get_default_base_job_template(), SimpleNamespace()
    configuration = await CloudRunWorkerJobConfiguration.from_template_and_values(template, values, client=client)
    configuration.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="bench"))
    return configuration


def a_run(pattern: Any, name: str, region: str, duration: float) -> Run:
    """A run with a flow run and a configuration of its own, as Prefect makes them."""
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


def the_runs(pattern: Any, runs: int, regions: list[str], shortest: float, spread: float) -> list[Run]:
    """All runs: the regions in turn, the durations spread evenly from the shortest on, in an order by chance."""
    durations = [round(shortest + spread * number / runs, 3) for number in range(runs)]
    random.Random(1).shuffle(durations)  # noqa: S311, the same order each time
    return [
        a_run(pattern, f"run-{number:05}", regions[number % len(regions)], duration)
        for number, duration in enumerate(durations)
    ]


def say(event: str, **more: Any) -> None:
    """Tells the bench something."""
    sys.stdout.write(json.dumps({"event": event, **more}) + "\n")
    sys.stdout.flush()


def wait_for(word: str) -> None:
    """Waits for the bench. Nothing runs meanwhile, so the event loop may stand still."""
    if sys.stdin.readline().strip() != word:
        sys.exit(f"expected {word!r}")


def point_the_known_worker_at(url: str) -> None:
    """Gives the known worker the emulator's address and no credentials, and leaves all else as it is."""
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
    """Does what the specification asks for, in step with the bench."""
    worker = CloudRunWorker(work_pool_name="bench")
    pattern = await a_configuration(worker)
    first = a_run(pattern, "warm-up", spec["load"]["regions"][0], 0)
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
    """Runs the worker that the command line names."""
    kind, spec = sys.argv[1], json.loads(sys.argv[2])
    if kind == "known":
        point_the_known_worker_at(spec["url"])
    asyncio.run(bench(spec))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    # The known worker's threads would hold the process up when the limit was reached.
    os._exit(0)
