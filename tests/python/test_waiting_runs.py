"""Runs whose flow run changes while they wait, whose worker stops, or whose reads and deletes fail for a while."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from types import SimpleNamespace
from unittest.mock import AsyncMock
from uuid import uuid4

import anyio
import httpx
import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import InfrastructureNotFound, ObjectNotFound
from prefect.flows import flow
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Pending, Running, Scheduled

from prefect_gcp.emulator import Emulator
from prefect_gcp.exceptions import CloudRunJobRemovedError
from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration
from prefect_gcp_cloud_run.workers import _flow_runs
from prefect_gcp_cloud_run.workers._places import JobPlace, record_place
from prefect_gcp_cloud_run.workers._proposals import give_back
from tests.python.eventually import until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("prefect_server")]

FULL = {"quotas": {"runningExecutions": 0}}


@flow
def a_flow():
    """A flow run needs one."""


@pytest.fixture
def emulator(monkeypatch):
    with Emulator(ready_after=0.1, start_after=0.05, delete_after=0.05, executor="simulated", duration=1) as running:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", running.host)
        yield running


@pytest.fixture
async def worker():
    async with CloudRunWorker(work_pool_name="waiting-tests") as running:
        yield running


@pytest.fixture
async def flow_run() -> FlowRun:
    async with get_client() as client:
        return await client.create_flow_run(a_flow)


async def read(flow_run: FlowRun) -> FlowRun:
    async with get_client() as client:
        return await client.read_flow_run(flow_run.id)


async def prepared(flow_run: FlowRun, **values) -> CloudRunWorkerJobConfiguration:
    values = {"command": "true", "credentials": {"project": "p"}, **values}
    configuration = await CloudRunWorkerJobConfiguration.from_template_and_values(
        CloudRunWorker.get_default_base_job_template(), values, client=SimpleNamespace()
    )
    configuration.prepare_for_flow_run(flow_run)
    return configuration


class Started:
    """Stands for anyio's task status."""

    def __init__(self) -> None:
        self.values: list[str | None] = []

    def started(self, value: str | None) -> None:
        self.values.append(value)


async def waiting_run(worker, emulator, flow_run, caplog):
    """A run that waits for a full region, and its task status."""
    emulator.set_faults(FULL)
    caplog.set_level(logging.INFO)
    configuration, status = await prepared(flow_run), Started()
    task = asyncio.create_task(worker.run(flow_run, configuration, status))
    await until(lambda: "Cloud Run accepts no more executions for now" in caplog.text)
    return task, configuration, status


@pytest.mark.difference("cancel-while-waiting")
@pytest.mark.parametrize(
    ("state", "then", "words"),
    [
        (Cancelled(), StateType.CANCELLED, "was cancelled"),
        (Cancelling(), StateType.CANCELLED, "was cancelled"),
        (Completed(), StateType.COMPLETED, "has ended"),
        (Scheduled(), StateType.SCHEDULED, "was scheduled again"),
        # Another worker has taken it meanwhile.
        (Pending(), StateType.PENDING, "was scheduled again"),
        (None, None, "was deleted"),
    ],
    ids=["cancelled", "cancelling", "ended", "rescheduled", "taken", "deleted"],
)
async def test_a_flow_run_that_is_not_wanted_any_more_is_not_started(
    emulator, worker, flow_run, caplog, state, then, words
):
    task, configuration, status = await waiting_run(worker, emulator, flow_run, caplog)
    async with get_client() as client:
        if state is None:
            await client.delete_flow_run(flow_run.id)
        else:
            await client.set_flow_run_state(flow_run.id, state, force=True)
    emulator.set_faults({})
    result = await asyncio.wait_for(task, 30)
    assert (result.identifier, result.status_code) == (configuration.job_name, -1)
    assert status.values == [None]
    await until(lambda: not emulator.jobs())
    assert not emulator.executions()
    assert f"is not started, because the flow run {words} while the job waited" in caplog.text
    if then is not None:
        assert (await read(flow_run)).state.type == then


async def test_waiting_flow_runs_are_read_regularly(emulator, worker, flow_run, caplog, monkeypatch):
    monkeypatch.setattr(_flow_runs, "CHECK_INTERVAL", 0.5)
    # Nothing asks before a start: the job does not become ready.
    with Emulator(ready_after=600, executor="simulated") as slow:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", slow.host)
        task = asyncio.create_task(worker.run(flow_run, await prepared(flow_run)))
        await until(slow.jobs)
        async with get_client() as client:
            await client.set_flow_run_state(flow_run.id, Cancelled(), force=True)
        assert (await asyncio.wait_for(task, 10)).status_code == -1
        await until(lambda: not slow.jobs())


async def test_many_waiting_flow_runs_are_read_with_few_requests(worker):
    async with get_client() as client:
        flow_runs = [await client.create_flow_run(a_flow) for _ in range(8)]
    requests = []
    read_flow_runs = worker.client.read_flow_runs

    async def counted(**options):
        requests.append(options)
        return await read_flow_runs(**options)

    worker.client.read_flow_runs = counted
    reasons = await asyncio.gather(*(worker._runs.checks.check(flow_run.id) for flow_run in flow_runs))
    assert reasons == [None] * 8
    assert len(requests) <= 2
    # A server may be set to return fewer than the usual 200, and refuses a request for more.
    assert all("limit" not in options for options in requests)


async def test_flow_runs_that_cannot_be_read_are_told_now_and_then(worker, flow_run, caplog, monkeypatch):
    monkeypatch.setattr(_flow_runs, "_FAILURE_PAUSE", 0.0)

    async def fails(**_options):
        raise OSError("the server is away")

    worker.client.read_flow_runs = fails
    for _ in range(2):
        assert await worker._runs.checks.check(flow_run.id) is None
    assert caplog.text.count("The worker could not read from Prefect whether flow runs that wait were cancelled") == 1


@pytest.mark.parametrize("answers", [False, True], ids=["refuses connections", "hangs"])
async def test_a_prefect_api_that_is_away_ends_no_run(emulator, worker, flow_run, caplog, answers):
    task, _configuration, _status = await waiting_run(worker, emulator, flow_run, caplog)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if answers:
            listener.listen()
        async with PrefectClient(f"http://127.0.0.1:{listener.getsockname()[1]}/api") as away:
            alive, worker._client = worker._client, away
            emulator.set_faults({})
            assert (await asyncio.wait_for(task, 60)).status_code == 0
            # The next start does not wait for an answer again.
            began = time.monotonic()
            assert await worker._runs.checks.check(flow_run.id) is None
            assert time.monotonic() - began < 1
            worker._client = alive


async def test_the_place_of_the_job_is_on_the_flow_run_before_the_start(emulator, worker, flow_run, caplog):
    task, configuration, _status = await waiting_run(worker, emulator, flow_run, caplog)
    deadline = time.monotonic() + 10
    while "cloud-run.job" not in (found := await read(flow_run)).labels:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert found.infrastructure_pid == configuration.job_name
    labels = {key: value for key, value in found.labels.items() if key.startswith("cloud-run.")}
    assert labels == {
        "cloud-run.project": "p",
        "cloud-run.region": "us-central1",
        "cloud-run.job": configuration.job_name,
    }
    task.cancel()
    await asyncio.wait({task})


async def test_the_place_is_written_again_until_it_is_there(emulator, worker, flow_run, caplog, monkeypatch):
    monkeypatch.setattr("prefect_gcp_cloud_run.workers._places._FIRST_PAUSE", 0.1)
    update_flow_run = worker.client.update_flow_run
    attempts = 0

    async def fails_twice(*args, **options):
        nonlocal attempts
        attempts += 1
        if attempts <= 2:
            raise OSError("the server is away")
        await update_flow_run(*args, **options)

    worker.client.update_flow_run = fails_twice
    task, configuration, _status = await waiting_run(worker, emulator, flow_run, caplog)
    deadline = time.monotonic() + 10
    while (await read(flow_run)).infrastructure_pid != configuration.job_name:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert (
        caplog.text.count(f"The worker could not tell Prefect where Cloud Run Job '{configuration.job_name}' is") == 1
    )
    task.cancel()
    await asyncio.wait({task})


async def test_few_places_are_written_at_a_time(worker, flow_run):
    """The writes of hundreds of runs must not hold up the reads before their starts."""
    room, place = worker._runs.recordings, JobPlace("p", "us-central1", "a-job")

    limit, most, now = room.value, 0, 0

    async def counted(*_args, **_options):
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1

    client = SimpleNamespace(update_flow_run=counted, update_flow_run_labels=counted)
    logger = logging.getLogger("places")
    await asyncio.gather(*(record_place(client, flow_run.id, place, logger, room) for _ in range(3 * limit)))
    assert most == limit


async def test_no_place_is_written_on_a_deleted_flow_run(worker, flow_run, caplog):
    async with get_client() as client:
        await client.delete_flow_run(flow_run.id)
    place, logger = JobPlace("p", "us-central1", "a-job"), logging.getLogger("places")
    await asyncio.wait_for(record_place(worker.client, flow_run.id, place, logger, worker._runs.recordings), 10)
    assert "could not tell Prefect" not in caplog.text


@pytest.mark.difference("kill-finds")
async def test_a_kill_by_another_worker_finds_a_job_in_its_former_region(emulator, worker, flow_run, caplog):
    emulator.set_faults({})
    configuration = await prepared(flow_run)
    # It must not end by itself before it is killed.
    template = configuration.job_body["spec"]["template"].setdefault("metadata", {})
    template.setdefault("annotations", {})["cloud-run-emulator/duration-seconds"] = "60"
    job = configuration.job_name
    task = asyncio.create_task(worker.run(flow_run, configuration))
    deadline = time.monotonic() + 10
    while "cloud-run.job" not in (await read(flow_run)).labels:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    moved = await prepared(flow_run, region="europe-west1", credentials={"project": "another"})
    async with CloudRunWorker(work_pool_name="waiting-tests") as other:
        await other.kill_infrastructure(job, moved)
    await until(lambda: not emulator.jobs())
    # It may have been killed before its start, or while it ran.
    (end,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(end, CloudRunJobRemovedError) or end.status_code in (-1, 1)


async def test_the_process_that_runs_the_flow_run_knows_where_its_job_is(emulator, worker, flow_run, caplog):
    task, configuration, _status = await waiting_run(worker, emulator, flow_run, caplog)
    moved = await prepared(flow_run, credentials={"project": "another"})
    await worker.kill_infrastructure(configuration.job_name, moved)
    with pytest.raises(CloudRunJobRemovedError):
        await asyncio.wait_for(task, 5)
    await until(lambda: not emulator.jobs())


@pytest.mark.parametrize("is_readable", [True, False])
async def test_a_run_whose_job_an_observer_deleted_ends_no_flow_run_that_another_worker_runs(
    worker, emulator, flow_run, caplog, monkeypatch, is_readable
):
    task, configuration, status = await waiting_run(worker, emulator, flow_run, caplog)
    async with get_client() as client:
        await client.set_flow_run_state(flow_run.id, Running(), force=True)
        await client.update_flow_run(flow_run.id, infrastructure_pid="another-job")
    if not is_readable:
        monkeypatch.setattr(worker.client, "read_flow_run", AsyncMock(side_effect=httpx.ConnectError("away")))
    url = f"{emulator.url}/apis/run.googleapis.com/v1/namespaces/p/jobs/{configuration.job_name}"
    async with httpx.AsyncClient(trust_env=False) as http:
        (await http.delete(url)).raise_for_status()
    emulator.set_faults({})
    assert (await asyncio.wait_for(task, 90)).status_code == -1
    assert status.values == [None]
    assert (await read(flow_run)).state.is_running()
    assert emulator.executions() == []


async def test_a_kill_of_a_cancelled_flow_run_is_no_error_of_its_run(emulator, worker, flow_run, caplog):
    """This is what Prefect does with PREFECT_WORKER_ENABLE_CANCELLATION."""
    task, configuration, status = await waiting_run(worker, emulator, flow_run, caplog)
    async with get_client() as client:
        await client.set_flow_run_state(flow_run.id, Cancelling(), force=True)
    await worker.kill_infrastructure(configuration.job_name, configuration)
    assert (await asyncio.wait_for(task, 15)).status_code == -1
    assert status.values == [None]
    assert (await read(flow_run)).state.type == StateType.CANCELLED
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_kill_that_cannot_look_where_the_job_was_is_not_done(emulator, worker, flow_run, caplog):
    """Else Prefect would take the job for gone."""
    async with get_client() as client:
        labels = {"cloud-run.project": "p", "cloud-run.region": "us-east1", "cloud-run.job": "gone"}
        await client.update_flow_run_labels(flow_run.id, labels)

    async def fails(*_args):
        raise OSError("the server is away")

    read_flow_run, worker.client.read_flow_run = worker.client.read_flow_run, fails
    with pytest.raises(OSError, match="is away"):
        await worker.kill_infrastructure("gone", await prepared(flow_run))
    assert "Cloud Run Job 'gone' of this flow run could not be killed: the server is away" in caplog.text
    worker.client.read_flow_run = read_flow_run
    # Where the present configuration leads does not matter if the job was elsewhere.
    with pytest.raises(InfrastructureNotFound):
        await worker.kill_infrastructure("gone", await prepared(flow_run, region="evil.example/"))


async def test_a_kill_finds_the_flow_run_of_a_template_that_replaces_the_labels(emulator, worker, flow_run, caplog):
    task, configuration, _status = await waiting_run(worker, emulator, flow_run, caplog)
    moved = await prepared(flow_run, credentials={"project": "another"})
    moved.job_body["metadata"]["labels"] = {}
    await worker.kill_infrastructure(configuration.job_name, moved)
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], CloudRunJobRemovedError)
    await until(lambda: not emulator.jobs())


async def test_a_kill_that_finds_nothing_says_where_it_looked(emulator, worker, flow_run, caplog):
    async with get_client() as client:
        labels = {"cloud-run.project": "p", "cloud-run.region": "us-east1", "cloud-run.job": "gone"}
        await client.update_flow_run_labels(flow_run.id, labels)
    with pytest.raises(InfrastructureNotFound):
        await worker.kill_infrastructure("gone", await prepared(flow_run))
    (record,) = [record for record in caplog.records if "was not found in" in record.getMessage()]
    assert "project 'p', region 'us-east1' and project 'p', region 'us-central1'" in record.getMessage()
    assert record.flow_run_id == str(flow_run.id)


async def test_labels_that_name_no_place_do_no_harm(emulator, worker, flow_run, caplog):
    async with get_client() as client:
        labels = {"cloud-run.project": "../p", "cloud-run.region": "evil.example/", "cloud-run.job": "gone"}
        await client.update_flow_run_labels(flow_run.id, labels)
    with pytest.raises(InfrastructureNotFound):
        await worker.kill_infrastructure("gone", await prepared(flow_run))
    assert "The flow run's labels name a place that can't be used for 'gone'" in caplog.text


@pytest.mark.parametrize("variables", [{}, {"timeout": "never"}])
async def test_a_cancelled_flow_run_of_a_deleted_deployment_has_a_configuration(worker, variables):
    gone = FlowRun(
        flow_id=uuid4(), deployment_id=uuid4(), infrastructure_pid="a-job", state=Cancelled(), job_variables=variables
    )
    more = {"client": worker.client, "work_pool": worker.work_pool, "worker_name": worker.name}
    configuration = await CloudRunWorkerJobConfiguration.resolve_for_flow_run(gone, **more)
    assert configuration.job_body["metadata"]["labels"]["prefect-io-flow-run-id"] == str(gone.id)
    pending = gone.model_copy(update={"state": None})
    with pytest.raises(ObjectNotFound):
        await CloudRunWorkerJobConfiguration.resolve_for_flow_run(pending, **more)


@pytest.mark.difference("orderly-stop")
async def test_a_run_that_was_not_started_is_given_back_when_the_worker_stops(emulator, worker, flow_run, caplog):
    task, _configuration, _status = await waiting_run(worker, emulator, flow_run, caplog)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    given_back = await read(flow_run)
    assert given_back.state.type == StateType.SCHEDULED
    assert worker.name in given_back.state.message
    assert given_back.infrastructure_pid is None
    await until(lambda: not emulator.jobs())
    assert "it is scheduled again for another worker" in caplog.text


async def test_runs_that_prefect_cancels_twice_are_all_given_back(emulator, worker, caplog):
    """Prefect starts a run with a task group, which cancels a task that has not reported its start by itself too."""
    emulator.set_faults(FULL)
    caplog.set_level(logging.INFO)
    async with get_client() as client:
        flow_runs = [await client.create_flow_run(a_flow) for _ in range(6)]
    configurations = [await prepared(flow_run) for flow_run in flow_runs]
    tasks = [
        asyncio.create_task(worker.run(flow_run, configuration))
        for flow_run, configuration in zip(flow_runs, configurations, strict=True)
    ]
    await until(lambda: caplog.text.count("Cloud Run accepts no more executions for now") == len(tasks))
    for pause in (0, 0.01):
        for task in tasks:
            task.cancel()
        await asyncio.sleep(pause)
    await asyncio.wait_for(asyncio.wait(tasks), 15)
    assert all(task.cancelled() for task in tasks)
    assert {(await read(flow_run)).state.type for flow_run in flow_runs} == {StateType.SCHEDULED}
    await until(lambda: not emulator.jobs())


@pytest.mark.parametrize(
    ("state", "then"),
    [
        (Failed(), StateType.FAILED),
        (Crashed(), StateType.CRASHED),
        (Cancelling(), StateType.CANCELLED),
        (Cancelled(), StateType.CANCELLED),
    ],
    ids=["failed", "crashed", "cancelling", "cancelled"],
)
async def test_a_stop_schedules_no_flow_run_that_has_ended_or_is_being_cancelled(
    emulator, worker, flow_run, caplog, state, then
):
    """Prefect's server would schedule a deployment's failed flow run again, as if somebody had asked for it."""
    async with get_client() as client:
        deployment_id = await client.create_deployment(flow_run.flow_id, f"stop-{uuid4().hex}")
        flow_run = await client.create_flow_run_from_deployment(deployment_id, state=Pending())
    task, _configuration, _status = await waiting_run(worker, emulator, flow_run, caplog)
    async with get_client() as client:
        await client.set_flow_run_state(flow_run.id, state, force=True)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert (await read(flow_run)).state.type == then
    await until(lambda: not emulator.jobs())
    assert "it is scheduled again" not in caplog.text


async def test_a_stop_gives_back_a_run_whose_project_is_being_looked_up(worker, flow_run, monkeypatch):
    monkeypatch.setattr("prefect_gcp_cloud_run.workers._clients._find_project", hangs)
    task = asyncio.create_task(worker.run(flow_run, await prepared(flow_run, credentials={})))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert (await read(flow_run)).state.type == StateType.SCHEDULED


async def hangs(*_args, **_options):
    await asyncio.sleep(600)


@pytest.mark.parametrize("when", ["prepared", "claimed", "claimed by another worker"])
async def test_a_stop_gives_back_a_flow_run_that_prefect_was_preparing(worker, monkeypatch, when):
    set_state = worker.client.set_flow_run_state
    sent = asyncio.Event()

    async def answers_late(*args, **options):
        worker.client.set_flow_run_state = set_state
        answer = await set_state(*args, **options)
        sent.set()
        await asyncio.sleep(0.5)
        return answer

    async def prepares(*_args, **_options):
        sent.set()
        await hangs()

    async with get_client() as client:
        flow_run = await client.create_flow_run(a_flow, state=Scheduled())
        if when == "prepared":
            monkeypatch.setattr(worker.job_configuration, "resolve_for_flow_run", prepares)
        else:
            worker.client.set_flow_run_state = answers_late
        if when == "claimed by another worker":
            await client.set_flow_run_state(flow_run.id, Pending())
    async with anyio.create_task_group() as group:
        worker._runs_task_group, of_worker = group, worker._runs_task_group
        group.start_soon(worker._submit_run, flow_run)
        await asyncio.wait_for(sent.wait(), 10)
        group.cancel_scope.cancel()
    worker._runs_task_group = of_worker
    there = StateType.PENDING if when == "claimed by another worker" else StateType.SCHEDULED
    assert (await read(flow_run)).state.type == there
    assert not worker._claimed


async def test_one_cancelled_run_takes_no_time_from_a_later_stop(emulator, worker, flow_run, caplog, monkeypatch):
    monkeypatch.setattr("prefect_gcp_cloud_run.workers._stop.GRACE", 4.0)
    task, _configuration, _status = await waiting_run(worker, emulator, flow_run, caplog)
    task.cancel()
    await asyncio.wait({task})
    await asyncio.sleep(1)
    assert worker._runs.stop.time_left() == 4.0


async def test_a_stop_that_prefect_does_not_answer_ends_and_says_so(emulator, worker, flow_run, caplog, monkeypatch):
    monkeypatch.setattr("prefect_gcp_cloud_run.workers._stop.GRACE", 2.0)
    task, configuration, _status = await waiting_run(worker, emulator, flow_run, caplog)
    worker.client.set_flow_run_state = hangs
    task.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert time.monotonic() - began < 8
    assert f"The worker stops, and had no time to finish Cloud Run Job '{configuration.job_name}'" in caplog.text
    await until(lambda: not emulator.jobs())


async def test_a_run_that_fails_while_the_worker_stops_is_crashed(worker, flow_run, caplog, monkeypatch):
    with Emulator(ready_after=600, executor="simulated") as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
        configuration = await prepared(flow_run)
        task = asyncio.create_task(worker.run(flow_run, configuration))
        await until(emulator.jobs)
        in_progress = worker._runs.runs[str(flow_run.id)]
        # Its error comes at the same time as the stop.
        in_progress._run = SimpleNamespace(give_up=lambda _reason: None)
        await worker.kill_infrastructure(configuration.job_name, configuration)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
    state = (await read(flow_run)).state
    assert state.type == StateType.CRASHED
    assert state.message.startswith("Deleted: The job was deleted before its start.")


async def test_an_execution_that_runs_is_left_alone_when_the_worker_stops(worker, flow_run, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    with Emulator(ready_after=0.1, executor="simulated", duration=600) as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
        task = asyncio.create_task(worker.run(flow_run, await prepared(flow_run)))
        await until(lambda: "is running" in caplog.text)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
        assert len(emulator.jobs()) == 1
        assert "runningCount" in emulator.executions()[0]["status"]
        assert "The worker stops and no longer watches Cloud Run Job" in caplog.text


async def test_an_execution_that_has_ended_is_reported_when_the_worker_stops(worker, flow_run, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    with Emulator(ready_after=0.1, executor="simulated", duration=6, outcome="failure") as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
        configuration = await prepared(flow_run)
        configuration.job_body["spec"]["template"]["spec"]["template"]["spec"]["maxRetries"] = 0
        task = asyncio.create_task(worker.run(flow_run, configuration))
        await until(lambda: "is running" in caplog.text)
        # No read succeeds until the worker stops, and by then the execution has ended.
        emulator.set_faults({"rules": [{"fault": {"status": {"code": 503}}, "calls": ["reads"]}]})
        await until(lambda: "failedCount" in emulator.executions()[0]["status"])
        emulator.set_faults({})
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
        await until(lambda: not emulator.jobs())
    assert (await read(flow_run)).state.type == StateType.CRASHED


@pytest.mark.difference("result-first")
@pytest.mark.parametrize("state", [Cancelled(), Pending()], ids=["cancelled", "unreadable"])
async def test_a_stop_reads_each_flow_run_before_it_gives_it_back(
    emulator, worker, flow_run, caplog, monkeypatch, state
):
    task, _configuration, _status = await waiting_run(worker, emulator, flow_run, caplog)
    # Earlier reads have failed, so those before starts pause.
    worker._runs.checks._failed_until = time.monotonic() + 60
    async with get_client() as client:
        await client.set_flow_run_state(flow_run.id, state, force=True)
    if state.is_pending():
        monkeypatch.setattr(worker.client, "read_flow_run", AsyncMock(side_effect=OSError("the server is away")))
    task.cancel()
    await asyncio.wait({task}, timeout=20)
    assert (await read(flow_run)).state.type == state.type
    assert ("is not given back to the work pool, because its state can't be read" in caplog.text) == state.is_pending()


async def test_the_job_is_forgotten_before_another_worker_can_take_the_flow_run(worker, flow_run):
    calls, request = [], worker.client.request

    async def recorded(method, path, **options):
        calls.append((method, path))
        return await request(method, path, **options)

    worker.client.request = recorded
    await give_back(worker.client, flow_run.id, message="m", why="w", logger=logging.getLogger("stop"))
    assert calls == [("PATCH", "/flow_runs/{id}"), ("POST", "/flow_runs/{id}/set_state")]
    assert (await read(flow_run)).state.type == StateType.SCHEDULED


async def test_the_end_of_a_worker_ends_no_deletion_of_another_one(emulator, worker, flow_run, monkeypatch):
    monkeypatch.setattr("prefect_gcp_cloud_run.workers._stop.GRACE", 0.5)
    away = {"fault": {"status": {"code": 503}}, "calls": ["jobs.delete"]}
    emulator.set_faults({"rules": [away]})
    assert (await worker.run(flow_run, await prepared(flow_run))).status_code == 0
    async with CloudRunWorker(work_pool_name="waiting-tests"):
        pass
    emulator.set_faults({})
    await until(lambda: not emulator.jobs())


async def test_a_run_ends_before_its_job_is_deleted_and_the_deletion_goes_on(emulator, worker, flow_run, caplog):
    caplog.set_level(logging.INFO)
    emulator.set_faults({"rules": [{"fault": {"status": {"code": 403}}, "calls": ["jobs.delete"]}]})
    configuration = await prepared(flow_run)
    assert (await asyncio.wait_for(worker.run(flow_run, configuration), 15)).status_code == 0
    await until(lambda: f"Cloud Run Job '{configuration.job_name}' could not be deleted yet" in caplog.text)
    assert len(emulator.jobs()) == 1
    emulator.set_faults({})
    await until(lambda: not emulator.jobs())
    await until(lambda: f"Cloud Run Job '{configuration.job_name}' deleted" in caplog.text)


async def test_the_deletion_is_told_after_what_the_run_itself_told(emulator, worker, flow_run, caplog):
    caplog.set_level(logging.INFO)
    configurations = [await prepared(flow_run, name=f"told-{number}") for number in range(20)]
    await asyncio.gather(*(worker.run(flow_run, configuration) for configuration in configurations))
    await until(lambda: all(f"Cloud Run Job '{it.job_name}' deleted" in caplog.text for it in configurations))
    for it in configurations:
        deleting = caplog.text.index(f"Deleting completed Cloud Run Job '{it.job_name}'")
        assert deleting < caplog.text.index(f"Cloud Run Job '{it.job_name}' deleted")


async def test_a_worker_that_stops_says_what_it_could_not_delete(emulator, flow_run, caplog, monkeypatch):
    monkeypatch.setattr("prefect_gcp_cloud_run.workers._stop.GRACE", 1.0)
    emulator.set_faults({"rules": [{"fault": {"status": {"code": 503}}, "calls": ["jobs.delete"]}]})
    async with CloudRunWorker(work_pool_name="waiting-tests") as worker:
        configuration = await prepared(flow_run)
        await worker.run(flow_run, configuration)
    assert f"Cloud Run Job '{configuration.job_name}' may still exist. If it does, delete it: gcloud" in caplog.text


@pytest.mark.difference("only-news")
@pytest.mark.parametrize("code", [401, 403, 404])
async def test_some_seconds_of_refusals_end_no_watch(worker, flow_run, caplog, monkeypatch, code):
    caplog.set_level(logging.INFO)
    with Emulator(ready_after=0.1, executor="simulated", duration=6) as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
        task = asyncio.create_task(worker.run(flow_run, await prepared(flow_run)))
        await until(lambda: "is running" in caplog.text)
        refused = {"fault": {"status": {"code": code}}, "calls": ["executions.list", "executions.get"]}
        emulator.set_faults({"rules": [refused]})
        await asyncio.sleep(3)
        emulator.set_faults({})
        assert (await asyncio.wait_for(task, 40)).status_code == 0
        await until(lambda: not emulator.jobs())
