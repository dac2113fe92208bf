"""Workers that are killed in the middle of their runs, and the worker that comes after them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun

from prefect_gcp.emulator import Emulator
from tests.python.test_worker_processes import FULL, deploy, pool, read, schedule, until, worker_of

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]

__all__ = ["pool"]

NEXT = "tests.python.impatient_worker"
# A worker that Prefect calls OFFLINE soon after its end.
SHORT_LIVED = {"PREFECT_WORKER_HEARTBEAT_SECONDS": "1"}
OBSERVES_OFTEN = {"PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_OBSERVER_INTERVAL_SECONDS": "1"}
UNREADABLE = {"rules": [{"fault": {"status": {"code": 503}}, "calls": ["executions.*"]}]}


@pytest.fixture
def emulator(monkeypatch) -> Iterator[Emulator]:
    with Emulator(ready_after=2, start_after=0.1, delete_after=0.1, record_calls=True) as running:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", running.host)
        yield running


def starts(emulator: Emulator) -> int:
    """How many executions were started."""
    # One without a response took effect, too.
    return sum(call["path"].endswith(":run") and call["status"] in (0, 200) for call in emulator.calls())


async def ended(flow_run: FlowRun) -> bool:
    return (await read(flow_run)).state.is_final()


@pytest.mark.parametrize(
    ("seconds", "faults", "is_there"),
    [
        (0, {}, "created; waiting for it to become ready"),
        (0, FULL, "Cloud Run accepts no more executions for now"),
        (
            30,
            {"rules": [{"fault": "reset", "calls": ["jobs.run"], "when": "after", "times": 1}]},
            "No response to the start request",
        ),
        (30, {}, "is running"),
        (0, UNREADABLE, "started execution"),
        (0, {"rules": [{"fault": {"status": {"code": 503}}, "calls": ["jobs.delete"]}]}, "Deleting completed"),
    ],
    ids=["created", "full-region", "lost-start", "running", "ended", "deleting"],
)
@pytest.mark.difference("observer")
async def test_a_worker_that_comes_after_one_that_was_killed_finishes_its_run(
    emulator, pool, tmp_path, seconds, faults, is_there
):
    emulator.set_faults(faults)
    flow_run = await schedule(await deploy(pool, seconds))
    with worker_of(pool, tmp_path, PREFECT_LOGGING_LEVEL="DEBUG", **SHORT_LIVED) as worker:
        await until(lambda: is_there in worker.log, worker)
        if faults is UNREADABLE:
            await until(lambda: ended(flow_run), worker)
        worker.process.kill()
    emulator.set_faults({})
    with worker_of(pool, tmp_path, NEXT, **OBSERVES_OFTEN) as worker:
        if seconds:
            # The container outlasts the start of this worker.
            await until(lambda: "watches Cloud Run Job" in worker.log, worker)
        await until(lambda: ended(flow_run), worker)
        await until(lambda: not emulator.jobs(), worker)
        assert (await read(flow_run)).state.is_completed(), (await read(flow_run)).state
        assert "Traceback" not in worker.log
    assert starts(emulator) == 1


async def test_three_workers_do_no_harm_to_each_others_runs(emulator, pool, tmp_path):
    faults = [
        {"fault": {"status": {"code": 503}}, "ratio": 0.1},
        {"fault": "reset", "ratio": 0.05, "when": "after"},
        {"fault": {"stale": 2}, "calls": ["executions.list", "jobs.list"], "ratio": 0.3},
    ]
    emulator.set_faults({"rules": faults})
    deployment = await deploy(pool)
    flow_runs = [await schedule(deployment) for _ in range(8)]
    settings = OBSERVES_OFTEN | {
        "PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_OBSERVER_REPLICATE_EVENTS": "true",
        "IMPATIENT_WORKER_SETTLE_SECONDS": "60",
    }
    with (
        worker_of(pool, tmp_path, NEXT, **settings) as one,
        worker_of(pool, tmp_path, NEXT, **settings) as two,
        worker_of(pool, tmp_path, NEXT, **settings) as three,
    ):
        for flow_run in flow_runs:
            await until(lambda key=flow_run: ended(key), one, 180)
        emulator.set_faults({})
        await until(lambda: not emulator.jobs(), one)
        logs = [worker.log for worker in (one, two, three)]
    states = [(await read(flow_run)).state for flow_run in flow_runs]
    assert [(state.name, state.message) for state in states if not state.is_completed()] == [], logs
    assert starts(emulator) == len(flow_runs)
    assert not [log for log in logs if "Traceback" in log]
    seen: Counter[tuple[str, str]] = Counter()

    async def all_events_came() -> bool:
        seen.clear()
        seen.update(await events(flow_runs))
        return len(seen) >= 2 * len(flow_runs)

    await until(all_events_came, one)
    # Each once, whoever has seen it.
    assert set(seen.values()) == {1}
    assert {event for event, _ in seen} == {
        "prefect.cloud-run.execution.started",
        "prefect.cloud-run.execution.succeeded",
    }


async def events(flow_runs: list[FlowRun]) -> list[tuple[str, str]]:
    """The names and resources of the events about executions of these flow runs."""
    found = []
    async with get_client() as client:
        for flow_run in flow_runs:
            resource = {"id": [f"prefect.flow-run.{flow_run.id}"]}
            wanted = {"filter": {"event": {"prefix": ["prefect.cloud-run."]}, "related": resource}, "limit": 50}
            answer = (await client.request("POST", "/events/filter", json=wanted)).json()
            found += [(event["event"], event["resource"]["prefect.resource.id"]) for event in answer["events"]]
    return found
