"""Hundreds of flow runs that are due at once: their order, and what they read in common."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from uuid import UUID, uuid4

import anyio
import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
from prefect.client.schemas.responses import OrchestrationResult, SetStateStatus, StateAcceptDetails
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import get_current_settings
from prefect.workers.base import BaseJobConfiguration, BaseWorker

from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration, CloudRunWorkerResult
from prefect_gcp_cloud_run.workers import _poll, _submission
from prefect_gcp_cloud_run.workers._poll import SHARED, Poll, SharingClient
from prefect_gcp_cloud_run.workers._submission import Submissions, release_place
from tests.python.eventually import until

pytestmark = pytest.mark.anyio
SETTING = "PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_SUBMISSIONS_AT_ONCE"


# The order


def due(seconds: float, queue: UUID | None = None) -> FlowRun:
    at = datetime.fromtimestamp(1_800_000_000 + seconds, timezone.utc)
    return FlowRun(id=uuid4(), flow_id=uuid4(), name="r", work_queue_id=queue, next_scheduled_start_time=at)


async def test_the_first_due_of_the_most_urgent_queue_gets_the_next_place():
    submissions, came = Submissions(1), []
    urgent, ordinary, unknown = uuid4(), uuid4(), uuid4()
    first = await submissions.turn(due(5))

    async def submit(number, flow_run):
        place = await submissions.turn(flow_run)
        came.append(number)
        place.release()

    waiting = [due(3, urgent), due(0, unknown), due(2, ordinary), due(4, urgent), due(1, ordinary), due(1, ordinary)]
    submissions.polled([waiting[2], waiting[0]])
    tasks = [asyncio.create_task(submit(number, flow_run)) for number, flow_run in enumerate(waiting)]
    await asyncio.sleep(0)
    assert came == []
    # A later poll tells which queue is urgent now. The queue of the last one is not the least urgent by its name.
    submissions.polled([waiting[0], waiting[3], waiting[2], waiting[4], waiting[5], waiting[1]])
    first.release()
    await asyncio.gather(*tasks)
    assert came == [0, 3, 4, 5, 2, 1]


async def test_a_place_is_free_again_after_its_holder_or_one_that_waits_is_cancelled():
    submissions = Submissions(2)
    places = [await submissions.turn(due(0)) for _ in range(2)]
    gone, told, next_one = (asyncio.create_task(submissions.turn(due(number))) for number in range(3))
    await asyncio.sleep(0)
    gone.cancel()
    places[0].release()
    # It gets the place and is cancelled before it can use it.
    told.cancel()
    await next_one
    # A place is released once, however often that is asked for.
    places[0].release()
    other = asyncio.create_task(submissions.turn(due(0)))
    await asyncio.sleep(0)
    assert not other.done()
    places[1].release()
    await other
    assert gone.cancelled()
    assert told.cancelled()


async def test_a_flow_run_that_a_later_poll_does_not_name_leaves_without_a_place():
    submissions = Submissions(1)
    holder = await submissions.turn(due(0))
    kept, taken = due(2), due(1)
    waiting = [asyncio.create_task(submissions.turn(flow_run)) for flow_run in (kept, taken)]
    await asyncio.sleep(0)
    submissions.polled([kept])
    assert await waiting[1] is None
    holder.release()
    assert (await waiting[0]).is_fresh


async def test_a_read_that_hangs_holds_up_no_other_flow_run(monkeypatch):
    monkeypatch.setattr(_poll, "PATIENCE", 0.01)
    answers = iter([asyncio.Event().wait(), asyncio.sleep(0, "answer")])
    poll = Poll()
    hanging = asyncio.create_task(poll.read("a", lambda: next(answers)))
    await asyncio.sleep(0)
    assert await asyncio.wait_for(poll.read("a", lambda: next(answers)), 10) == "answer"
    hanging.cancel()


async def test_a_submission_that_takes_long_holds_up_no_other(monkeypatch):
    monkeypatch.setattr(_submission, "LONGEST", 0.05)
    submissions = Submissions(1)
    await submissions.turn(due(0))
    place = await asyncio.wait_for(submissions.turn(due(0)), 10)
    place.release()


# What is read in common


async def test_an_answer_is_shared_within_a_poll_and_belongs_to_who_gets_it():
    asked = []

    async def ask():
        asked.append(1)
        await asyncio.sleep(0.01)
        return {"env": {}}

    poll = Poll()
    answers = await asyncio.gather(*(poll.read("a", ask) for _ in range(5)))
    assert len(asked) == 1
    # Prefect writes into what it has read.
    answers[0]["env"]["A"] = "1"
    answers[1]["env"]["B"] = "1"
    assert answers[2:] == [{"env": {}}] * 3
    assert await poll.read("a", ask) == {"env": {}}
    await poll.read("b", ask)
    await Poll().read("a", ask)
    assert len(asked) == 3


@pytest.mark.parametrize("error", [httpx.ConnectError("away"), asyncio.CancelledError()])
async def test_a_read_that_fails_fails_for_no_other_flow_run(error):
    outcomes = [error, "answer", "answer", "answer"]

    async def ask():
        outcome = outcomes.pop(0)
        await asyncio.sleep(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    poll = Poll()
    results = await asyncio.gather(*(poll.read("a", ask) for _ in range(3)), return_exceptions=True)
    assert type(results[0]) is type(error)
    assert results[1:] == ["answer", "answer"]
    assert await poll.read("a", ask) == "answer"


async def test_an_old_answer_is_asked_for_again(monkeypatch):
    monkeypatch.setattr(_poll, "MAX_AGE", 0.01)
    answers = iter(["old", "new"])

    async def ask():
        return next(answers)

    poll = Poll()
    assert await poll.read("a", ask) == "old"
    await until(lambda: not poll._answers)
    assert await poll.read("a", ask) == "new"


async def test_an_infrastructure_id_that_prefect_knows_is_not_sent_again():
    sent = []

    class Client:
        async def update_flow_run(self, flow_run_id, **changes):
            sent.append((flow_run_id, changes))

    known = uuid4()
    client = SharingClient(Client(), Poll(), lambda flow_run_id, job: (flow_run_id, job) == (known, "j"), list)
    await client.update_flow_run(flow_run_id=known, infrastructure_pid="j")
    assert sent == []
    for changes in ({"infrastructure_pid": "other"}, {"infrastructure_pid": "j", "name": "n"}):
        await client.update_flow_run(flow_run_id=known, **changes)
    await client.update_flow_run(flow_run_id=uuid4(), infrastructure_pid="j")
    assert len(sent) == 3


# What of Prefect's they rely on


def test_prefect_has_what_is_overridden_and_shared():
    assert {name for name in SHARED if not hasattr(PrefectClient, name)} == set()
    for name in ("client", "get_and_submit_flow_runs", "_submit_run", "_submit_scheduled_flow_runs"):
        assert hasattr(BaseWorker, name), name
    assert {"work_queue_id", "next_scheduled_start_time", "expected_start_time"} <= FlowRun.model_fields.keys()


def test_the_environment_of_the_settings_is_prefects(monkeypatch, tmp_path):
    from prefect.settings import PREFECT_API_KEY, PREFECT_LOGGING_LEVEL, temporary_settings

    ours, prefects = CloudRunWorkerJobConfiguration._base_environment, BaseJobConfiguration._base_environment
    assert ours() == prefects()
    with temporary_settings({PREFECT_API_KEY: "k1", PREFECT_LOGGING_LEVEL: "DEBUG"}):
        assert ours() == prefects()
        assert ours()["PREFECT_API_KEY"] == "k1"
        with temporary_settings({PREFECT_API_KEY: "k2"}):
            assert ours()["PREFECT_API_KEY"] == "k2"
        with temporary_settings(restore_defaults={PREFECT_API_KEY}):
            assert ours() == prefects()
            assert "PREFECT_API_KEY" not in ours()
        assert ours()["PREFECT_API_KEY"] == "k1"
    assert ours() == prefects()
    # Settings that are changed where they are.
    settings = get_current_settings()
    for value in ("https://one.example/api", "https://two.example/api"):
        monkeypatch.setattr(settings.api, "url", value)
        assert ours() == prefects()
        assert ours()["PREFECT_API_URL"] == value


@pytest.mark.parametrize("source", ["environment", ".env", "prefect.toml", "profile"])
def test_the_environment_of_the_settings_is_prefects_for_every_source(monkeypatch, tmp_path, source):
    from prefect.context import SettingsContext, use_profile
    from prefect.settings import Profile, Settings

    ours, prefects = CloudRunWorkerJobConfiguration._base_environment, BaseJobConfiguration._base_environment
    monkeypatch.chdir(tmp_path)
    for seconds in ("31", "32"):
        if source == "environment":
            monkeypatch.setenv("PREFECT_WORKER_HEARTBEAT_SECONDS", seconds)
        elif source == ".env":
            (tmp_path / ".env").write_text(f"PREFECT_WORKER_HEARTBEAT_SECONDS={seconds}\n")
        elif source == "prefect.toml":
            (tmp_path / "prefect.toml").write_text(f"[worker]\nheartbeat_seconds = {seconds}\n")
        values = {"PREFECT_WORKER_HEARTBEAT_SECONDS": seconds} if source == "profile" else {}
        if source == "profile":
            with use_profile(Profile(name="p", settings=values), override_environment_variables=True):
                assert ours() == prefects()
                assert float(ours()["PREFECT_WORKER_HEARTBEAT_SECONDS"]) == float(seconds)
        else:
            with SettingsContext(profile=Profile(name="p", settings={}), settings=Settings()):
                assert ours() == prefects()
                assert float(ours()["PREFECT_WORKER_HEARTBEAT_SECONDS"]) == float(seconds)


def test_the_environment_is_made_once_and_belongs_to_who_gets_it(monkeypatch):
    made = []
    make = BaseJobConfiguration.__dict__["_base_environment"].__func__

    def counted(cls):
        made.append(cls)
        return make(cls)

    monkeypatch.setattr(BaseJobConfiguration, "_base_environment", classmethod(counted))

    class Other(CloudRunWorkerJobConfiguration):
        """Prefect makes the environment of each class."""

    CloudRunWorkerJobConfiguration._base_environment()["OF_THE_FIRST"] = "1"
    assert "OF_THE_FIRST" not in CloudRunWorkerJobConfiguration._base_environment()
    assert made.count(CloudRunWorkerJobConfiguration) <= 1
    Other._base_environment()
    assert made[-1] is Other


class Server:
    """Stands for a worker's `PrefectClient`, with what Prefect's base asks for a flow run."""

    def __init__(self, flow_runs: list[FlowRun]) -> None:
        self.flow_runs = flow_runs
        self.asked: list[str] = []

    async def get_scheduled_flow_runs_for_work_pool(self, **_arguments):
        return [SimpleNamespace(flow_run=flow_run) for flow_run in self.flow_runs]

    async def read_deployment(self, deployment_id):
        self.asked.append("read_deployment")
        await asyncio.sleep(0)
        return SimpleNamespace(id=deployment_id, name="d", job_variables={"env": {}}, updated=None, tags=[])

    async def read_flow(self, flow_id):
        self.asked.append("read_flow")
        await asyncio.sleep(0)
        return Flow(id=flow_id, name="f")

    async def set_flow_run_state(self, flow_run_id, state, **_arguments):
        self.asked.append(state.name)
        return OrchestrationResult(state=state, status=SetStateStatus.ACCEPT, details=StateAcceptDetails())

    async def update_flow_run_labels(self, flow_run_id, labels):
        self.asked.append("labels")

    async def update_flow_run(self, flow_run_id, **changes):
        self.asked.append("update")


class Noting(CloudRunWorker):
    """Notes the order in which its runs begin."""

    type = "cloud-run-noting"

    def __init__(self, client: Server, **arguments) -> None:
        super().__init__(**arguments)
        self._client = client
        self._work_pool = WorkPool(
            name="p", type="cloud-run", base_job_template=CloudRunWorker.get_default_base_job_template()
        )
        self._has_successfully_synced = True
        self.begun: list[str] = []
        self.at_once = 0
        self._all_begun = asyncio.Event()
        self._between = 0

    def _emit_flow_run_submitted_event(self, configuration):
        return None

    async def _propose_pending_state(self, flow_run):
        self._between += 1
        self.at_once = max(self.at_once, self._between)
        return await super()._propose_pending_state(flow_run)

    async def run(self, flow_run, configuration, task_status=None):
        self._between -= 1
        self.begun.append(flow_run.name)
        release_place()
        task_status.started(configuration.job_name)
        # It goes on for as long as there are others.
        if len(self.begun) == len(self._client.flow_runs):
            self._all_begun.set()
        await self._all_begun.wait()
        return CloudRunWorkerResult(identifier=configuration.job_name, status_code=0)


@pytest.mark.parametrize("places", [1, 3])
async def test_prefects_base_submits_through_the_order_and_asks_once(monkeypatch, places):
    monkeypatch.setenv(SETTING, str(places))
    flow_id, deployment_id, now = uuid4(), uuid4(), datetime.now(timezone.utc)
    flow_runs = [
        FlowRun(
            id=uuid4(),
            flow_id=flow_id,
            deployment_id=deployment_id,
            name=f"run-{number}",
            job_variables={"env": {"NUMBER": str(number)}},
            next_scheduled_start_time=now + timedelta(seconds=number),
        )
        for number in range(6)
    ]
    server = Server([flow_runs[0], *reversed(flow_runs[1:])])
    worker = Noting(server, work_pool_name="p")
    async with anyio.create_task_group() as tasks:
        worker._runs_task_group = tasks
        submitted = await worker.get_and_submit_flow_runs()
        assert len(submitted) == len(flow_runs)
    assert worker.at_once == places
    if places == 1:
        assert worker.begun == [flow_run.name for flow_run in flow_runs]
    asked = Counter(server.asked)
    assert asked == {"read_deployment": 1, "read_flow": 1, "Pending": 6, "labels": 6, "Submitting": 6, "update": 6}
    # A flow run that does not come from a poll asks for itself.
    assert worker.client is server


@pytest.mark.difference("labels-can-wait")
async def test_a_flow_run_runs_although_prefect_does_not_take_its_labels(monkeypatch, caplog):
    request = httpx.Request("PATCH", "http://server/api/flow_runs/1/labels")

    async def is_overloaded(flow_run_id, labels):
        raise PrefectHTTPStatusError("503 Service Unavailable", request=request, response=httpx.Response(503))

    server = Server([FlowRun(id=uuid4(), flow_id=uuid4(), name="run")])
    monkeypatch.setattr(server, "update_flow_run_labels", is_overloaded)
    worker = Noting(server, work_pool_name="p")
    async with anyio.create_task_group() as tasks:
        worker._runs_task_group = tasks
        await worker.get_and_submit_flow_runs()
    assert worker.begun == ["run"]
    assert server.asked.count("Crashed") == 0
    assert f"{server.flow_runs[0].id} runs without its worker's labels" in caplog.text
