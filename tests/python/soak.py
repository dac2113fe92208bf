"""The soak: many flow runs through the worker, on an emulator that fails one call in ten in many ways.

    python -m tests.python.soak --runs 1000 --at-once 200 --seed 1

The exit status is 0 only if every run ends as its execution did, no job is executed twice and no job is left. Most
faults depend on the seed, the call and the job, not on the time: with the same seed, runs that make the same calls meet
the same faults. Some hit all calls about executions for some seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tests.python.fake_google import Google

if TYPE_CHECKING:
    from prefect_gcp.emulator import Emulator
    from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration
    from tests.python.fake_prefect import Prefect

SETTINGS = {
    # Short, so that hanging calls do not make the soak hang.
    "REQUEST_TIMEOUT_SECONDS": "2",
    "POLL_INTERVAL_SECONDS": "1",
    "QUOTA_PERIOD_SECONDS": "2",
    "RETRY_INITIAL_DELAY_SECONDS": "0.2",
    "RETRY_MAX_DELAY_SECONDS": "5",
}
# Percentage of the runs with each outcome. "long": it succeeds after so long that a second execution would show.
# "killed early": maybe before the start. "cancelled": the flow run is, maybe while its job waits; Prefect has it killed
# when it knows of a job. "stopped early": the worker stops. The flow run is given back, and it runs again unless its
# execution has started.
OUTCOMES = {
    "success": 40,
    "long": 20,
    "failure": 20,
    "killed": 5,
    "killed early": 5,
    "cancelled": 5,
    "stopped early": 5,
}
# Share of the calls of Prefect's API that fail.
PREFECT_FAILING = 0.02
# Time for the worker to find and cancel a second execution, which a start that was taken for lost created, in seconds.
SECOND_MAX = 12.0


def faults(seed: int, at_once: int) -> dict[str, Any]:
    """Faults for one call in ten, false news for some seconds, and quotas that are somewhat too small for the runs."""

    def rule(fault: Any, ratio: float, **more: Any) -> dict[str, Any]:
        return {"fault": fault, "ratio": ratio, **more}

    def status(code: int, **more: Any) -> dict[str, Any]:
        return {"status": {"code": code, **more}}

    def false_news(fault: Any, after: float, calls: list[str]) -> dict[str, Any]:
        return rule(fault, 1, calls=calls, after=after, every=30, **{"for": 3})

    reads = ["executions.list", "executions.get"]
    return {
        "seed": seed,
        "rules": [
            false_news(status(401), 4, reads),
            false_news(status(404), 10, ["executions.*"]),
            false_news(status(403, body="html"), 16, reads),
            false_news("emptyList", 22, ["executions.list", "jobs.list"]),
            # A start that takes effect when it was taken for lost.
            rule({"delay": 26}, 0.08, calls=["jobs.run"]),
            rule("reset", 0.015),
            rule("reset", 0.015, when="after"),
            rule("hang", 0.005),
            rule("hang", 0.005, when="after"),
            rule({"delay": 1.5}, 0.015, when="after"),
            rule({"stale": 3}, 0.02, calls=["reads"]),
            rule({"refuse": 0.5}, 0.001),
            rule(status(408, body="empty"), 0.005),
            rule(status(429), 0.01),
            rule(status(500), 0.005),
            rule(status(500), 0.005, when="after"),
            rule(status(502, body="html"), 0.005),
            rule(status(503, body="html"), 0.005, when="after"),
            rule(status(503, retryAfter=1), 0.005),
            rule(status(504, body="empty"), 0.005, when="after"),
            # False news about single executions, and a long pause that the server asks for.
            rule(status(401), 0.01, calls=reads),
            rule(status(403), 0.01, calls=reads),
            rule(status(403, body="html"), 0.01, calls=reads),
            rule(status(404), 0.01, calls=reads),
            rule({"stale": 5}, 0.05, calls=["executions.list"]),
            rule("incompleteList", 0.05, calls=["executions.list", "jobs.list"]),
            rule(status(503, retryAfter=3600), 0.001, calls=["reads"]),
        ],
        "quotas": {
            "minuteSeconds": 2,
            "writes": at_once,
            "runs": max(at_once // 4, 1),
            "jobs": at_once + 2,
            "runningExecutions": max(at_once // 4, 1),
        },
        "tokenSeconds": 10,
    }


@dataclass
class Result:
    """How a run ended: with a status code, or with an exception."""

    outcome: str
    job: str
    end: int | BaseException

    def is_crashed(self) -> bool:
        """Whether an exception ended the run although nobody had killed it; Prefect calls that a crash."""
        from prefect_gcp.exceptions import CloudRunJobRemovedError

        return isinstance(self.end, BaseException) and not isinstance(self.end, CloudRunJobRemovedError)

    def problem(self, executions: list[float]) -> str | None:
        """Says what is wrong with the run, given how long its job's executions lived; None when all is well."""
        from prefect_gcp.exceptions import CloudRunJobRemovedError

        expected = {"success": 0, "long": 0, "stopped early": 0, "failure": 1}.get(self.outcome, -1)
        may_not_start = self.outcome in ("killed early", "cancelled")
        stopped = may_not_start and isinstance(self.end, CloudRunJobRemovedError)
        if self.end != expected and not stopped:
            return f"{self.job} ({self.outcome}) ended with {self.end!r}"
        if is_twice(executions) or (not executions and not may_not_start):
            return f"{self.job} ({self.outcome}) was executed {len(executions)} times, for {executions} seconds"
        return None


def is_twice(executions: list[float]) -> bool:
    """Whether a job was executed twice, given how long its executions lived, the first one first.

    A start that is taken for lost may take effect after the one that was sent for it. The worker then cancels the
    younger execution.
    """
    return any(lived > SECOND_MAX for lived in executions[1:])


def lives(emulator: Emulator) -> dict[str, list[float]]:
    """Returns how long the executions of each job lived, in seconds, the first one first."""
    by_job: dict[str, list[float]] = {}
    for life in emulator.history():
        began: dict[str, datetime] = {}
        ended: dict[str, datetime] = {}
        for event in life["events"]:
            moment = datetime.fromisoformat(event["time"].replace("Z", "+00:00"))
            if event["type"] == "executionCreated":
                began[event["execution"]] = moment
            elif event["type"] in ("executionSucceeded", "executionFailed", "executionCancelled"):
                ended[event["execution"]] = moment
        now = datetime.now(timezone.utc)
        seconds = [(ended.get(name, now) - moment).total_seconds() for name, moment in began.items()]
        by_job.setdefault(life["job"], []).extend(seconds)
    return by_job


def expected_faults(seed: int, at_once: int) -> list[str]:
    """The names of the faults that every soak meets: those of many calls, and expired tokens."""
    names = ["expired token"]
    for rule in faults(seed, at_once)["rules"]:
        fault = rule["fault"]
        kind = fault if isinstance(fault, str) else next(iter(fault))
        words = {"emptyList": "empty list", "incompleteList": "incomplete list"}
        name = f"status {fault['status']['code']}" if kind == "status" else words.get(kind, kind)
        if rule["ratio"] >= 0.015:
            names.append(f"{name} after" if rule.get("when") == "after" else name)
    return names


class Started:
    """A task status that tells when the worker has reported the start."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def started(self, _identifier: str) -> None:
        self.event.set()


async def one_run(
    worker: CloudRunWorker, prefect: Prefect, emulator: Emulator, number: int, seed: int, key: dict[str, Any]
) -> Result:
    from prefect.client.schemas.objects import FlowRun
    from prefect.states import Cancelled

    from prefect_gcp.exceptions import CloudRunJobRemovedError
    from prefect_gcp.workers.cloud_run import CloudRunWorkerJobConfiguration

    chance = random.Random(f"{seed} {number}")
    (outcome,) = chance.choices(list(OUTCOMES), list(OUTCOMES.values()))
    flow_run = FlowRun(id=UUID(int=chance.getrandbits(128)), flow_id=UUID(int=1), name=f"soak-{number}")
    values = {
        "name": f"soak-{number:05}",
        "command": "true",
        "credentials": {"project": "soak", "service_account_info": key},
    }
    template = worker.get_default_base_job_template()
    client: Any = SimpleNamespace()
    configuration = await CloudRunWorkerJobConfiguration.from_template_and_values(template, values, client=client)
    configuration.prepare_for_flow_run(flow_run)
    prefect.submit(flow_run)
    duration = {"long": 25.0, "success": chance.uniform(0, 4), "failure": chance.uniform(0, 4)}.get(outcome, 600.0)
    duration = 2.0 if outcome == "stopped early" else duration
    execution = configuration.job_body["spec"]["template"]
    execution["metadata"].setdefault("annotations", {}).update(
        {
            "cloud-run-emulator/duration-seconds": f"{duration:.1f}",
            "cloud-run-emulator/outcome": "failure" if outcome == "failure" else "success",
        }
    )
    execution["spec"]["template"]["spec"]["maxRetries"] = 0
    status: Any = Started()
    task = asyncio.create_task(worker.run(flow_run, configuration, status))
    try:
        if outcome == "killed":
            await asyncio.wait({task, asyncio.create_task(status.event.wait())}, return_when="FIRST_COMPLETED")
            await asyncio.sleep(chance.uniform(0, 3))
            await kill(worker, configuration)
        elif outcome == "killed early":
            await asyncio.sleep(chance.uniform(0, 1))
            await kill(worker, configuration)
        elif outcome == "cancelled":
            await asyncio.sleep(chance.uniform(0, 3))
            prefect.cancel(flow_run.id, Cancelled())
            while not task.done() and flow_run.infrastructure_pid is None:  # noqa: ASYNC110, Prefect asks so too
                await asyncio.sleep(0.2)
            if not task.done():
                await kill(worker, configuration)
        elif outcome == "stopped early":
            await asyncio.sleep(chance.uniform(0, 3))
            task.cancel()
            await asyncio.wait({task})
            if task.cancelled() and flow_run.state is not None and flow_run.state.is_scheduled():
                if not await is_gone(emulator, configuration.job_name):
                    raise AssertionError(f"{configuration.job_name} is there, although its flow run was given back")
                # Another worker runs the flow run that was given back. Prefect gives each run's job a name of its own.
                configuration.job_body["metadata"]["name"] += "-again"
                prefect.submit(flow_run)
                task = asyncio.create_task(worker.run(flow_run, configuration, status))
            elif task.cancelled():
                # Its execution goes on, if there is one. Nobody watches it, and a person deletes its job.
                await kill(worker, configuration)
                left = CloudRunJobRemovedError("a person deleted the job that the worker had left")
                return Result("killed early", configuration.job_name, left)
        end: int | BaseException = (await task).status_code
    except Exception as error:
        end = error
    return Result(outcome, configuration.job_name, end)


async def is_gone(emulator: Emulator, job: str) -> bool:
    """Whether the janitor deletes a job within some seconds."""
    deadline = time.monotonic() + 15
    while any(other["metadata"]["name"] == job for other in emulator.jobs()):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.2)
    return True


async def kill(worker: CloudRunWorker, configuration: CloudRunWorkerJobConfiguration) -> None:
    from prefect.exceptions import InfrastructureNotFound

    # A run that has not sent its create gives it up, and there is no job then.
    with suppress(InfrastructureNotFound):
        await worker.kill_infrastructure(configuration.job_name, configuration)


async def soak(emulator: Emulator, runs: int, at_once: int, seed: int, key: dict[str, Any]) -> list[str]:
    """Runs all flow runs, prints a summary, and returns the problems."""
    from prefect_gcp.workers.cloud_run import CloudRunWorker
    from tests.python.fake_prefect import Prefect

    worker = CloudRunWorker(work_pool_name="soak")
    prefect: Any = Prefect(seed, PREFECT_FAILING)
    worker._client = prefect
    room = asyncio.Semaphore(at_once)

    async def run(number: int) -> Result:
        async with room:
            return await one_run(worker, prefect, emulator, number, seed, key)

    say = sys.stdout.write
    # Printed first, so that a soak that hangs can be repeated.
    say(f"{runs} runs, {at_once} at once; seed {seed}\n")
    sys.stdout.flush()
    began = time.monotonic()
    results = await asyncio.gather(*(run(number) for number in range(runs)))
    took = time.monotonic() - began
    deadline = time.monotonic() + 30
    while emulator.jobs() and time.monotonic() < deadline:  # noqa: ASYNC110, the state of another program
        await asyncio.sleep(0.1)
    left = [job["metadata"]["name"] for job in emulator.jobs()]
    executions = lives(emulator)
    problems = [problem for result in results if (problem := result.problem(executions.get(result.job, [])))]
    problems += [f"{job} was left" for job in left]

    met = emulator.faults_met()
    problems += [f"no call met the fault '{name}'" for name in expected_faults(seed, at_once) if name not in met]
    crashed = sum(result.is_crashed() for result in results)
    wrong = sum(result.problem(executions.get(result.job, [])) is not None for result in results)
    cancelled = sum(len(seconds) > 1 for seconds in executions.values())
    # Only a start that took effect late may create a second execution.
    if cancelled > met.get("delay", 0):
        problems.append(f"{cancelled} jobs were started twice, but only {met.get('delay', 0)} starts were late")

    say(f"took {took:.0f} s\n")
    say(f"outcomes: {dict(Counter(result.outcome for result in results))}\n")
    say(f"calls: {sum(emulator.counts().values())}, of which met a fault: {sum(met.values())}, {met}\n")
    say(f"late starts: {met.get('delay', 0)}; second executions that were cancelled: {cancelled}\n")
    twice = sum(is_twice(seconds) for seconds in executions.values())
    say(f"crashed by the API: {crashed}; executed twice: {twice}; jobs left: {len(left)}; wrong outcomes: {wrong}\n")
    return problems


def main() -> int:
    """Runs the soak that the command line asks for, and returns 0 if nothing went wrong."""
    parser = argparse.ArgumentParser(description="Many flow runs against a Cloud Run that fails one call in ten.")
    parser.add_argument("--runs", type=int, default=1000, help="flow runs (default: %(default)s, which is the most)")
    parser.add_argument("--at-once", type=int, default=200, help="flow runs at a time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="which faults meet which calls")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="soak-") as home, Google() as google:
        threading.Thread(target=google.serve_forever, daemon=True).start()
        # Prefect reads its settings when it is imported.
        for name in [name for name in os.environ if name.startswith(("PREFECT_", "GOOGLE_", "CLOUD_RUN_"))]:
            del os.environ[name]
        os.environ.update(
            HOME=home,
            PREFECT_HOME=home,
            PREFECT_LOGGING_TO_API_ENABLED="false",
            PREFECT_LOGGING_LEVEL="CRITICAL",
            PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_OBSERVER_REPLICATE_EVENTS="false",
        )
        from prefect_gcp.emulator import Emulator

        settings = {
            "ready_after": 0.2,
            "start_after": 0.1,
            "executor": "simulated",
            "faults": faults(options.seed, options.at_once),
        }
        with Emulator(**settings) as emulator:
            prefix = "PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_"
            os.environ.update({prefix + name: value for name, value in SETTINGS.items()})
            # Not CLOUD_RUN_EMULATOR_HOST, with which the worker sends no tokens.
            os.environ[f"{prefix}API_ENDPOINT"] = emulator.url
            problems = asyncio.run(soak(emulator, options.runs, options.at_once, options.seed, google.key))
        sys.stdout.write("".join(f"WRONG: {problem}\n" for problem in problems))
        google.shutdown()
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
