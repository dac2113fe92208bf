"""Flow runs that are due at once, with a Prefect server: their order, what they read in common, and a stop."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import FlowRun
from prefect.flows import flow
from prefect.states import Cancelled, Failed, Scheduled

from prefect_gcp.emulator import Emulator
from prefect_gcp.workers.cloud_run import CloudRunWorker
from prefect_gcp_cloud_run.workers import _submission
from tests.python.eventually import until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("prefect_server")]
SETTING = "PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_SUBMISSIONS_AT_ONCE"
FULL = {"quotas": {"runningExecutions": 0}}


@flow
def burst() -> None:
    """Nothing runs it."""


class Deployed:
    """A deployment in a pool of its own, whose template refers to a variable."""

    def __init__(self, client: PrefectClient, pool: str, deployment_id: UUID, variable: str) -> None:
        self.client, self.pool, self.deployment_id, self.variable = client, pool, deployment_id, variable

    async def schedule(self, **changes) -> FlowRun:
        due = datetime.now(timezone.utc) + timedelta(seconds=changes.pop("in_seconds", 0))
        state = Scheduled(scheduled_time=due)
        return await self.client.create_flow_run_from_deployment(self.deployment_id, state=state, **changes)


@pytest.fixture
async def deployed():
    name = f"burst-{uuid4().hex[:8]}"
    variable = name.replace("-", "_")
    async with get_client() as client:
        template = CloudRunWorker.get_default_base_job_template()
        await client.create_work_pool(WorkPoolCreate(name=name, type="cloud-run", base_job_template=template))
        await client._client.post("/variables/", json={"name": variable, "value": "first"})
        deployment_id = await client.create_deployment(
            flow_id=await client.create_flow(burst),
            name=name,
            work_pool_name=name,
            job_variables={"env": {"VALUE": f"{{{{ prefect.variables.{variable} }}}}"}},
        )
        yield Deployed(client, name, deployment_id, variable)


@pytest.fixture
def emulator(monkeypatch):
    with Emulator(ready_after=0.1, start_after=0.1, executor="simulated", duration=1) as running:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", running.host)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
        yield running


class Watched(CloudRunWorker):
    """Notes what it does, and may be held up between a claim and the run."""

    type = "cloud-run-burst-test"

    def __init__(self, **arguments) -> None:
        super().__init__(**arguments)
        self.claimed: list[UUID] = []
        self.begun: list[tuple[UUID, dict]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.asked: Counter[str] = Counter()

    async def setup(self) -> None:
        await super().setup()
        await self.sync_with_backend()

        async def count(request: httpx.Request) -> None:
            self.asked[f"{request.method} {request.url.path.removeprefix('/api')}"] += 1

        self._client._client.event_hooks["request"].append(count)

    async def _propose_submitting_state(self, flow_run) -> None:
        self.claimed.append(flow_run.id)
        await self.go_on.wait()
        await super()._propose_submitting_state(flow_run)

    async def run(self, flow_run, configuration, task_status=None):
        self.begun.append((flow_run.id, dict(configuration.env)))
        return await super().run(flow_run, configuration, task_status)


@pytest.mark.difference("read-once")
async def test_a_poll_reads_once_what_its_flow_runs_have_in_common_and_the_next_poll_sees_changes(emulator, deployed):
    async with Watched(work_pool_name=deployed.pool) as worker:
        for value in ("first", "second"):
            first = [await deployed.schedule() for _ in range(5)]
            await worker.get_and_submit_flow_runs()
            await until(lambda: len(worker.begun) >= 5)
            assert {flow_run_id for flow_run_id, _ in worker.begun} == {flow_run.id for flow_run in first}
            assert {env["VALUE"] for _, env in worker.begun} == {value}
            assert worker.asked[f"GET /deployments/{deployed.deployment_id}"] == 1
            assert worker.asked[f"GET /flows/{first[0].flow_id}"] == 1
            assert worker.asked[f"GET /variables/name/{deployed.variable}"] == 1
            worker.begun.clear()
            worker.asked.clear()
            change = {"value": "second"}
            await deployed.client._client.patch(f"/variables/name/{deployed.variable}", json=change)


async def test_a_flow_runs_own_variables_do_not_reach_the_next_one(emulator, deployed):
    async with Watched(work_pool_name=deployed.pool) as worker:
        runs = [await deployed.schedule(job_variables={"env": {f"OF_{number}": "1"}}) for number in range(4)]
        await worker.get_and_submit_flow_runs()
        await until(lambda: len(worker.begun) == 4)
        for number, flow_run in enumerate(runs):
            env = dict(worker.begun)[flow_run.id]
            assert [name for name in env if name.startswith("OF_")] == [f"OF_{number}"]


async def test_the_infrastructure_id_is_sent_once(emulator, deployed):
    async with Watched(work_pool_name=deployed.pool) as worker:
        flow_run = await deployed.schedule()
        await worker.get_and_submit_flow_runs()
        await until(lambda: worker._runs.runs and next(iter(worker._runs.runs.values())).is_recorded)
    assert worker.asked[f"PATCH /flow_runs/{flow_run.id}"] == 1
    assert (await deployed.client.read_flow_run(flow_run.id)).infrastructure_pid is not None


@pytest.mark.difference("few-at-once")
@pytest.mark.parametrize("wait", ["full-region", "not-ready"])
async def test_the_first_due_is_submitted_first_and_a_wait_holds_no_place(deployed, monkeypatch, wait):
    monkeypatch.setenv(SETTING, "1")
    with Emulator(ready_after=600 if wait == "not-ready" else 0, executor="simulated", duration=1) as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
        if wait == "full-region":
            emulator.set_faults(FULL)
        with suppress(KeyboardInterrupt):
            async with Watched(work_pool_name=deployed.pool) as worker:
                worker.go_on.clear()
                due_first = [await deployed.schedule(in_seconds=-number) for number in range(3, 0, -1)]
                await worker.get_and_submit_flow_runs()
                await until(lambda: worker.claimed)
                # A flow run that is polled later, and due earlier, goes before those that wait.
                late = await deployed.schedule(in_seconds=-60)
                await worker.get_and_submit_flow_runs()
                await asyncio.sleep(0.1)
                assert worker.claimed == [due_first[0].id]
                states = [(await deployed.client.read_flow_run(run.id)).state.type.value for run in due_first]
                assert states == ["PENDING", "SCHEDULED", "SCHEDULED"]
                worker.go_on.set()
                # None of their jobs can be started.
                await until(lambda: len(emulator.jobs()) == 4)
                order = [due_first[0], late, *due_first[1:]]
                assert [flow_run_id for flow_run_id, _ in worker.begun] == [flow_run.id for flow_run in order]
                raise KeyboardInterrupt


async def test_a_stop_leaves_flow_runs_that_wait_scheduled_and_gives_back_the_claimed_one(
    emulator, deployed, monkeypatch
):
    monkeypatch.setenv(SETTING, "1")
    with suppress(KeyboardInterrupt):
        async with Watched(work_pool_name=deployed.pool) as worker:
            worker.go_on.clear()
            runs = [await deployed.schedule() for _ in range(3)]
            await worker.get_and_submit_flow_runs()
            await until(lambda: worker.claimed)
            raise KeyboardInterrupt
    assert len(worker.claimed) == 1
    for flow_run in runs:
        assert (await deployed.client.read_flow_run(flow_run.id)).state.is_scheduled()
    assert emulator.jobs() == []


async def test_an_error_or_a_cancel_gives_the_place_and_the_limits_slot_on(emulator, deployed, monkeypatch):
    monkeypatch.setenv(SETTING, "1")
    async with Watched(work_pool_name=deployed.pool, limit=3) as worker:
        worker.go_on.clear()
        broken = await deployed.schedule(in_seconds=-3, job_variables={"region": "../x"})
        cancelled, fine = await deployed.schedule(in_seconds=-2), await deployed.schedule(in_seconds=-1)
        beyond = await deployed.schedule()
        await worker.get_and_submit_flow_runs()
        await until(lambda: worker.claimed)
        await deployed.client.set_flow_run_state(cancelled.id, Cancelled())
        worker.go_on.set()
        await until(lambda: fine.id in dict(worker.begun))
        # The limit was reached in the first poll.
        assert beyond.id not in worker.claimed
        assert cancelled.id not in worker.claimed
        await until(lambda: worker.limiter.borrowed_tokens <= 1)
        await worker.get_and_submit_flow_runs()
        await until(lambda: beyond.id in dict(worker.begun))
    assert (await deployed.client.read_flow_run(broken.id)).state.is_crashed()
    assert (await deployed.client.read_flow_run(cancelled.id)).state.is_cancelled()


async def test_a_flow_run_that_changed_while_it_waited_is_not_submitted(emulator, deployed, monkeypatch):
    monkeypatch.setenv(SETTING, "1")
    monkeypatch.setattr(_submission, "FRESH", 0.0)
    async with Watched(work_pool_name=deployed.pool, limit=4) as worker:
        worker.go_on.clear()
        runs = [await deployed.schedule(in_seconds=-number) for number in range(4, 0, -1)]
        first, ended, rescheduled, fine = (flow_run.id for flow_run in runs)
        await worker.get_and_submit_flow_runs()
        await until(lambda: worker.claimed)
        # Another worker has run it meanwhile.
        await deployed.client.set_flow_run_state(ended, Failed(), force=True)
        tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
        await deployed.client.set_flow_run_state(rescheduled, Scheduled(scheduled_time=tomorrow), force=True)
        worker.go_on.set()
        await until(lambda: fine in dict(worker.begun))
        await until(lambda: not worker._submitting_flow_run_ids)
        assert worker.claimed == [first, fine]
        await until(lambda: worker.limiter.borrowed_tokens == 0)


async def test_flow_runs_that_a_poll_does_not_name_any_more_are_not_submitted(emulator, deployed, monkeypatch):
    monkeypatch.setenv(SETTING, "1")
    async with Watched(work_pool_name=deployed.pool, limit=3) as worker:
        worker.go_on.clear()
        runs = [(await deployed.schedule(in_seconds=-number)).id for number in range(3, 0, -1)]
        await worker.get_and_submit_flow_runs()
        await until(lambda: worker.claimed)
        # The limit counts the claimed one.
        await deployed.client.update_work_pool(deployed.pool, WorkPoolUpdate(concurrency_limit=1))
        await worker.get_and_submit_flow_runs()
        await until(lambda: worker._submitting_flow_run_ids == {runs[0]})
        worker.go_on.set()
        await until(lambda: runs[0] in dict(worker.begun))
        assert worker.claimed == runs[:1]
        await deployed.client.update_work_pool(deployed.pool, WorkPoolUpdate(concurrency_limit=10))
        await worker.get_and_submit_flow_runs()
        await until(lambda: set(dict(worker.begun)) == set(runs))


async def test_the_queues_that_prefect_names_first_come_first(emulator, deployed, monkeypatch):
    monkeypatch.setenv(SETTING, "1")
    urgent = await deployed.client.create_work_queue(name="urgent", work_pool_name=deployed.pool, priority=1)
    assert urgent.priority == 1
    async with Watched(work_pool_name=deployed.pool) as worker:
        ordinary = [await deployed.schedule(in_seconds=-60) for _ in range(2)]
        of_urgent = await deployed.schedule(work_queue_name="urgent")
        await worker.get_and_submit_flow_runs()
        await until(lambda: len(worker.begun) == 3)
        assert worker.begun[0][0] == of_urgent.id
        assert {flow_run_id for flow_run_id, _ in worker.begun[1:]} == {flow_run.id for flow_run in ordinary}
