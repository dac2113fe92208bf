"""The state InfrastructurePending: proposed once, right after the job's creation, and never after the start."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace

import anyio
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.flows import flow
from prefect.states import Cancelled, Completed, Crashed, Pending, Running, Scheduled, Suspended

from prefect_gcp.emulator import Emulator
from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration
from prefect_gcp_cloud_run.workers import _flow_runs, _pending
from prefect_gcp_cloud_run.workers._flow_runs import INFRASTRUCTURE_PENDING, FlowRunChecks
from prefect_gcp_cloud_run.workers._pending import PendingProposal
from tests.python.eventually import until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("prefect_server")]


@flow
def a_flow():
    """A flow run needs one."""


@pytest.fixture
async def flow_run() -> FlowRun:
    async with get_client() as client:
        return await client.create_flow_run(a_flow, state=Pending())


@pytest.fixture
async def worker():
    async with CloudRunWorker(work_pool_name="pending-tests") as running:
        yield running


async def read(flow_run: FlowRun) -> FlowRun:
    async with get_client() as client:
        return await client.read_flow_run(flow_run.id)


async def prepared(flow_run: FlowRun) -> CloudRunWorkerJobConfiguration:
    configuration = await CloudRunWorkerJobConfiguration.from_template_and_values(
        CloudRunWorker.get_default_base_job_template(),
        {"command": "true", "credentials": {"project": "p"}},
        client=SimpleNamespace(),
    )
    configuration.prepare_for_flow_run(flow_run)
    return configuration


def is_in(flow_run: FlowRun, name: str):
    async def condition() -> bool:
        return (await read(flow_run)).state.name == name

    return condition


@pytest.fixture
async def waiting(worker, flow_run, monkeypatch):
    """A run whose job does not become ready while the test lasts."""
    with Emulator(ready_after=600, executor="simulated") as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
        task = asyncio.create_task(worker.run(flow_run, await prepared(flow_run)))
        await until(is_in(flow_run, INFRASTRUCTURE_PENDING))
        yield task
        task.cancel()
        await asyncio.wait({task})


@pytest.mark.difference("infrastructure-pending")
async def test_a_flow_run_whose_job_exists_says_so(waiting, flow_run):
    state = (await read(flow_run)).state
    assert state.type == StateType.PENDING
    assert "was created. Its container has not started yet." in state.message


async def test_it_is_not_taken_for_the_work_of_another_worker(waiting, worker, flow_run):
    for _ in range(2):
        assert await worker._runs.checks.check(flow_run.id) is None
    assert not waiting.done()


async def test_another_worker_is_still_noticed(waiting, worker, flow_run, monkeypatch):
    async with get_client() as client:
        await client.set_flow_run_state(flow_run.id, Pending(), force=True)
    assert await worker._runs.checks.check(flow_run.id) == "rescheduled"
    async with get_client() as client:
        # The other one has created its job, too.
        await client.set_flow_run_state(flow_run.id, Pending(name=INFRASTRUCTURE_PENDING), force=True)
    assert await worker._runs.checks.check(flow_run.id) == "rescheduled"


async def test_a_flow_run_in_this_state_is_given_back_when_the_worker_stops(waiting, flow_run):
    waiting.cancel()
    await asyncio.wait({waiting})
    assert (await read(flow_run)).state.type == StateType.SCHEDULED


async def test_a_run_whose_job_is_ready_at_once_is_started_all_the_same(worker, flow_run, monkeypatch):
    with Emulator(ready_after=0, start_after=0, executor="simulated", duration=0.1) as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
        result = await asyncio.wait_for(worker.run(flow_run, await prepared(flow_run)), 30)
    assert result.status_code == 0
    assert (await read(flow_run)).state.type == StateType.PENDING


@pytest.mark.parametrize(
    "state",
    [Completed(), Crashed(), Cancelled(), Running(), Scheduled(), Suspended(timeout_seconds=60)],
    ids=lambda state: state.name,
)
async def test_nothing_else_than_pending_is_touched(flow_run, state):
    async with get_client() as client:
        await client.set_flow_run_state(flow_run.id, state, force=True)
        before = (await client.read_flow_run(flow_run.id)).state.id
        await made(client, flow_run)
        assert (await client.read_flow_run(flow_run.id)).state.id == before


async def made(client, flow_run: FlowRun, logger=None) -> PendingProposal:
    checks = FlowRunChecks(lambda: client)
    proposal = PendingProposal(
        lambda: client, flow_run.id, "a-job", checks, anyio.Semaphore(1), logger or logging.getLogger("pending")
    )
    with checks.waiting(flow_run.id, lambda _reason: None):
        proposal.begin(done())
        await proposal._task
    return proposal


def done() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


async def test_a_flow_run_that_is_deleted_or_unreadable_is_a_debug_line(flow_run, caplog):
    caplog.set_level(logging.DEBUG)
    async with get_client() as client:
        await client.delete_flow_run(flow_run.id)
        await made(client, flow_run)
    records = [record for record in caplog.records if record.name == "pending"]
    assert [record.levelno for record in records] == [logging.DEBUG]
    assert "Prefect could not be told that Cloud Run Job 'a-job' was created" in records[0].message


async def test_a_server_that_is_slow_is_not_waited_for(flow_run, monkeypatch, caplog):
    monkeypatch.setattr(_pending, "LIMIT", 0.1)
    caplog.set_level(logging.DEBUG)
    client = SimpleNamespace(read_flow_run=lambda _id: asyncio.sleep(60))
    await asyncio.wait_for(made(client, flow_run), 10)
    assert "Prefect could not be told" in caplog.text


class SlowServer:
    """Stands for Prefect's client: the answer to a proposal comes when the test lets it."""

    def __init__(self) -> None:
        self.state = Pending()
        self.answer = asyncio.Event()
        self.proposed = asyncio.Event()

    async def read_flow_run(self, flow_run_id):
        return SimpleNamespace(id=flow_run_id, state=self.state)

    async def set_flow_run_state(self, _flow_run_id, state):
        self.state = state
        self.proposed.set()
        await self.answer.wait()
        return SimpleNamespace(status="ACCEPT", state=state, details=None)


async def test_the_start_waits_for_a_proposal_that_was_sent(flow_run):
    server = SlowServer()
    checks = FlowRunChecks(lambda: server)
    proposal = PendingProposal(
        lambda: server, flow_run.id, "a-job", checks, anyio.Semaphore(1), logging.getLogger("pending")
    )
    with checks.waiting(flow_run.id, lambda _reason: None):
        earlier = server.state
        proposal.begin(done())
        await server.proposed.wait()
        # A read that is faster than the answer sees the new state, and one that lags the old one. Both are ours.
        assert checks.reason(flow_run.id, server.state) is None
        assert checks.reason(flow_run.id, earlier) is None
        settled = asyncio.create_task(proposal.settle())
        await asyncio.sleep(0.05)
        assert not settled.done()
        server.answer.set()
        await asyncio.wait_for(settled, 5)
        assert checks.reason(flow_run.id, server.state) is None
        assert checks.reason(flow_run.id, Pending(name=INFRASTRUCTURE_PENDING)) == "rescheduled"


@pytest.mark.parametrize("is_begun", [True, False])
async def test_a_proposal_that_was_not_sent_is_not_sent_any_more(flow_run, is_begun):
    server = SlowServer()
    checks, room = FlowRunChecks(lambda: server), anyio.Semaphore(1)
    proposal = PendingProposal(lambda: server, flow_run.id, "a-job", checks, room, logging.getLogger("pending"))
    async with room:
        if is_begun:
            proposal.begin(done())
            await asyncio.sleep(0)
        await asyncio.wait_for(proposal.settle(), 5)
    proposal.begin(done())
    await asyncio.sleep(0.05)
    assert not server.proposed.is_set()


def test_the_name_is_prefects():
    from prefect.states import InfrastructurePending

    assert InfrastructurePending().name == _flow_runs.INFRASTRUCTURE_PENDING
