"""What a worker does about the jobs of workers that are gone, through a real Prefect server."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import Abort
from prefect.flows import flow
from prefect.states import Cancelled, Completed, Pending, Running, Scheduled

from prefect_gcp.emulator import Emulator
from prefect_gcp.settings import CloudRunObserverSettings, CloudRunWorkerSettings
from prefect_gcp.workers.cloud_run import CloudRunWorker
from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run.workers import _lost_flow_runs, _observed_job, _observer
from prefect_gcp_cloud_run.workers._lost_flow_runs import LostFlowRun
from prefect_gcp_cloud_run.workers._observed_areas import ObservedAreas
from prefect_gcp_cloud_run.workers._observed_job import Caretaker
from prefect_gcp_cloud_run.workers._observed_look import Finding
from prefect_gcp_cloud_run.workers._observer import Observer
from tests.python.eventually import until
from tests.python.marked import MARK, leave, marked_job, note

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("prefect_server")]

PROJECT = "observed"
FULL = {"quotas": {"runningExecutions": 0}}


@flow
def a_flow():
    """A flow run needs one."""


@pytest.fixture
def emulator(monkeypatch) -> Iterator[Emulator]:
    with Emulator(
        ready_after=0.05, start_after=0.05, delete_after=0.05, executor="simulated", duration=0.2, projects=[PROJECT]
    ) as running:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", running.host)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
        yield running


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """No worker comes back in these tests, so nobody waits for it."""
    monkeypatch.setattr(_observed_job, "_SETTLE", 0.0)
    monkeypatch.setattr(_observer, "_FIRST_PASS_WITHIN", 0.0)
    monkeypatch.setattr(_observer, "_LEAST_PAUSE", 0.1)


@pytest.fixture
async def pool() -> str:
    name = f"observed-{uuid4().hex[:8]}"
    template = CloudRunWorker.get_default_base_job_template()
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=name, type="cloud-run", base_job_template=template))
    return name


class Setting:
    """A pool, jobs that another worker has left in it, and an observer."""

    def __init__(self, pool: str, emulator: Emulator) -> None:
        self.pool = pool
        self.emulator = emulator
        self.worker = f"lost-{uuid4().hex[:8]}"
        self.settings = CloudRunWorkerSettings()

    async def flow_run(self, state=None) -> FlowRun:
        """A flow run of the pool."""
        async with get_client() as client:
            flow_id = await client.create_flow(a_flow)
            flow_run = await client.request(
                "POST",
                "/flow_runs/",
                json={"flow_id": str(flow_id), "work_pool_name": self.pool, "state": {"type": "SCHEDULED"}},
            )
            flow_run_id = UUID(flow_run.json()["id"])
            if state is not None:
                await client.set_flow_run_state(flow_run_id, state, force=True)
            return await client.read_flow_run(flow_run_id)

    async def job(
        self,
        flow_run: FlowRun | UUID,
        *,
        started: bool = True,
        keep: bool = False,
        region: str = "us-central1",
        outcome: str = "success",
        duration: float = 0.2,
        give_up_in: float = 3600,
        mark_version: str = "1",
    ) -> str:
        """A job that a worker of another process has left; its execution, if it has one, goes on."""
        key = flow_run if isinstance(flow_run, UUID) else flow_run.id
        name = f"job-{uuid4().hex[:12]}"
        async with get_client() as client:
            pool_id = (await client.read_work_pool(self.pool)).id
        body = marked_job(
            name,
            pool_id=pool_id,
            flow_run_id=key,
            worker=self.worker,
            keep=keep,
            give_up_in=give_up_in,
            outcome=outcome,
            duration=duration,
            labels={MARK: mark_version},
        )
        await leave(self.emulator.url, PROJECT, region, body, started=started)
        if isinstance(flow_run, FlowRun):
            await note(key, PROJECT, region, name)
        return name

    @asynccontextmanager
    async def observer(self, **settings: object) -> AsyncIterator[Observer]:
        """An observer whose passes the test begins."""
        observer_settings = CloudRunObserverSettings(**settings)
        logger = logging.getLogger("prefect.observer-tests")
        async with get_client() as client:
            pool = await client.read_work_pool(self.pool)
            caretaker = Caretaker("the-observer", observer_settings, list, logger)
            areas = ObservedAreas(self.settings, observer_settings, logger)
            observer = Observer(lambda: client, lambda: pool, areas, caretaker, observer_settings, logger)
            try:
                yield observer
            finally:
                await observer.stop()

    async def one_pass(self, **settings: object) -> dict[str, Finding]:
        async with self.observer(**settings) as observer:
            return {finding.job.name: finding for finding in (await observer.one_pass()).findings}


@pytest.fixture
def setting(pool, emulator) -> Setting:
    return Setting(pool, emulator)


async def read(flow_run: FlowRun) -> FlowRun:
    async with get_client() as client:
        return await client.read_flow_run(flow_run.id)


async def state_of(flow_run: FlowRun):
    return (await read(flow_run)).state


def names(emulator: Emulator) -> list[str]:
    return [job["metadata"]["name"] for job in emulator.jobs()]


async def all_ended(emulator: Emulator) -> None:
    await until(lambda: all(it["status"].get("completionTime") for it in emulator.executions()))


async def test_an_ended_job_of_an_ended_flow_run_is_deleted(setting, emulator):
    flow_run = await setting.flow_run(Completed())
    job = await setting.job(flow_run)
    await all_ended(emulator)
    finding = (await setting.one_pass())[job]
    assert (finding.decision.kind, finding.done, finding.error) == ("delete", "deleted", None)
    await until(lambda: not emulator.jobs())
    assert (await state_of(flow_run)).is_completed()


async def test_a_kept_job_stays(setting, emulator):
    flow_run = await setting.flow_run(Completed())
    job = await setting.job(flow_run, keep=True)
    await all_ended(emulator)
    assert (await setting.one_pass())[job].done is None
    assert names(emulator) == [job]


@pytest.mark.parametrize(
    ("outcome", "state", "message"),
    [
        ("exit-code=3", Running(), "ExitCode 3: "),
        ("out-of-memory", Running(), "OutOfMemory: "),
        ("signal=9", Pending(), "Signal 9: "),
        ("success", Running(), "ExitCode 0: "),
        ("success", Pending(), "ExitCode 0: "),
    ],
)
async def test_a_flow_run_whose_container_died_unwatched_is_crashed(
    setting, emulator, outcome, state, message, monkeypatch
):
    # What succeeded may still report for a minute.
    real = _core.Circumstances
    monkeypatch.setattr(_core, "Circumstances", lambda **values: real(**values, silent_settle=0.0))
    flow_run = await setting.flow_run(state)
    job = await setting.job(flow_run, outcome=outcome)
    await all_ended(emulator)
    finding = (await setting.one_pass(forward_crashed_run_logs=False))[job]
    assert (finding.done, finding.error) == ("crashed", None), finding.decision.reason
    state = await state_of(flow_run)
    assert (state.is_crashed(), state.message.startswith(message)) == (True, True), state.message
    await until(lambda: not emulator.jobs())


async def test_an_execution_that_runs_is_watched_to_its_end(setting, emulator):
    flow_run = await setting.flow_run(Running())
    job = await setting.job(flow_run, outcome="exit-code=3", duration=8)
    async with setting.observer(forward_crashed_run_logs=False) as observer:
        (finding,) = (await observer.one_pass()).findings
        assert (finding.job.name, finding.done) == (job, "watched")
        (again,) = (await observer.one_pass()).findings
        assert (again.decision.kind, again.done) == ("watch", None)
        # Its end begins a pass, long before the next one is due.
        observer.start()
        await until(lambda: not emulator.jobs())
    assert (await state_of(flow_run)).message.startswith("ExitCode 3: ")


async def test_what_another_worker_watches_is_left_to_it(setting, emulator):
    flow_run = await setting.flow_run(Running())
    await setting.job(flow_run, duration=600)
    async with get_client() as client:
        await client.send_worker_heartbeat(setting.pool, setting.worker, heartbeat_interval_seconds=30)
    (finding,) = (await setting.one_pass()).values()
    assert (finding.decision.kind, finding.done) == ("watch", None)


async def test_a_job_that_its_worker_may_still_start_is_left_alone(setting, emulator):
    flow_run = await setting.flow_run(Pending())
    job = await setting.job(flow_run, started=False)
    assert (await setting.one_pass())[job].decision.kind == "nothing"
    assert names(emulator) == [job]


async def gone(setting: Setting, monkeypatch) -> None:
    """Makes Prefect call the lost worker OFFLINE, for long enough."""
    async with get_client() as client:
        await client.send_worker_heartbeat(setting.pool, setting.worker, heartbeat_interval_seconds=1)
    monkeypatch.setattr(_observer, "_GONE_AFTER", timedelta(seconds=1))

    async def is_offline() -> bool:
        async with get_client() as client:
            workers = await client.read_workers_for_work_pool(setting.pool)
            return all(worker.status.value == "OFFLINE" for worker in workers)

    await until(is_offline)


async def test_a_flow_run_that_a_lost_worker_has_not_started_is_given_back(setting, emulator, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    flow_run = await setting.flow_run(Pending())
    job = await setting.job(flow_run, started=False)
    await gone(setting, monkeypatch)
    finding = (await setting.one_pass())[job]
    assert (finding.decision.kind, finding.done, finding.error) == ("give_back", "given back", None)
    now = await read(flow_run)
    assert now.state.is_scheduled()
    assert now.infrastructure_pid is None
    assert now.labels["cloud-run.given-back"] == 1
    await until(lambda: not emulator.jobs())
    assert emulator.executions() == []
    assert f"Cloud Run Job {job!r} of worker {setting.worker!r} was deleted" in caplog.text


async def test_a_flow_run_whose_worker_has_given_up_long_ago_is_given_back(setting, emulator):
    flow_run = await setting.flow_run(Pending())
    job = await setting.job(flow_run, started=False, give_up_in=-5)
    finding = (await setting.one_pass())[job]
    assert (finding.decision.kind, finding.done) == ("give_back", "given back")
    assert (await state_of(flow_run)).is_scheduled()


async def test_a_flow_run_is_not_given_back_for_ever(setting, emulator, monkeypatch):
    flow_run = await setting.flow_run(Pending())
    async with get_client() as client:
        await client.update_flow_run_labels(flow_run.id, {"cloud-run.given-back": 3})
    job = await setting.job(flow_run, started=False)
    await gone(setting, monkeypatch)
    finding = (await setting.one_pass())[job]
    assert (finding.decision.kind, finding.done) == ("delete_then_crash", "crashed")
    assert (await state_of(flow_run)).message.startswith("StartFailed: ")
    await until(lambda: not emulator.jobs())


async def test_two_observers_give_a_flow_run_back_once(setting, emulator, monkeypatch):
    flow_run = await setting.flow_run(Pending())
    await setting.job(flow_run, started=False)
    await gone(setting, monkeypatch)
    async with setting.observer() as first, setting.observer() as second:
        found = await asyncio.gather(first.one_pass(), second.one_pass())
    done = [finding.done for result in found for finding in result.findings]
    assert "given back" in done
    assert not [finding.error for result in found for finding in result.findings if finding.error]
    assert (await state_of(flow_run)).is_scheduled()


async def test_a_stop_of_the_worker_does_not_interrupt_a_give_back(setting, emulator, monkeypatch):
    flow_run = await setting.flow_run(Pending())
    await setting.job(flow_run, started=False)
    await gone(setting, monkeypatch)
    slow = {"fault": {"delay": 1.5}, "calls": ["jobs.delete"], "when": "after"}
    emulator.set_faults({"rules": [slow]})
    async with setting.observer() as observer:
        observer.start()
        await until(lambda: emulator.counts().get("jobs.delete"))
    assert (await state_of(flow_run)).is_scheduled()


async def test_a_job_that_is_not_deleted_keeps_its_flow_run(setting, emulator, monkeypatch, caplog):
    flow_run = await setting.flow_run(Pending())
    job = await setting.job(flow_run, started=False)
    await gone(setting, monkeypatch)
    monkeypatch.setenv("PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_RETRY_MAX_SECONDS", "1")
    setting.settings = CloudRunWorkerSettings()
    emulator.set_faults({"rules": [{"fault": {"status": {"code": 403}}, "calls": ["jobs.delete"]}]})
    finding = (await setting.one_pass())[job]
    assert finding.error is not None
    assert (await state_of(flow_run)).is_pending()
    assert f"Cloud Run Job {job!r} of worker {setting.worker!r} could not be looked after" in caplog.text


async def test_the_execution_of_a_cancelled_flow_run_is_stopped(setting, emulator, monkeypatch):
    real = _core.Circumstances
    monkeypatch.setattr(_core, "Circumstances", lambda **values: real(**values, cancelled_grace=0.0))
    flow_run = await setting.flow_run(Cancelled())
    job = await setting.job(flow_run, duration=600)
    finding = (await setting.one_pass())[job]
    assert (finding.decision.kind, finding.done) == ("stop", "stopped")
    await until(lambda: not emulator.jobs())


@pytest.mark.parametrize("stop", [False, True])
async def test_the_execution_of_a_deleted_flow_run_ends_by_itself_unless_a_setting_says_stop(setting, emulator, stop):
    job = await setting.job(uuid4(), duration=3)
    async with setting.observer(stop_runs_of_deleted_flow_runs=stop) as observer:
        # A flow run that is not found once is not deleted.
        (first,) = (await observer.one_pass()).findings
        assert (first.job.name, first.decision.kind, first.done) == (job, "watch", "watched")
        # That this process watches it does not keep it from being stopped.
        (second,) = (await observer.one_pass()).findings
        assert (second.decision.kind, second.done) == (("stop", "stopped") if stop else ("watch", None))
        await all_ended(emulator)
        await until(lambda: not emulator.jobs() or not stop)


async def test_jobs_in_other_regions_are_found_by_their_flow_runs_and_by_settings(setting, emulator):
    unfinished = await setting.flow_run(Running())
    by_flow_run = await setting.job(unfinished, region="europe-west1", outcome="exit-code=3")
    ended = await setting.flow_run(Completed())
    by_setting = await setting.job(ended, region="asia-east1")
    await all_ended(emulator)
    assert set(await setting.one_pass(forward_crashed_run_logs=False)) == {by_flow_run}
    assert set(await setting.one_pass(regions="asia-east1")) == {by_setting}


async def test_a_list_that_fails_proves_nothing(setting, emulator, monkeypatch, caplog):
    # Its other job may be where the list failed.
    flow_run = await setting.flow_run(Pending())
    job = await setting.job(flow_run, started=False)
    async with get_client() as client:
        await client.request("PATCH", f"/flow_runs/{flow_run.id}", json={"infrastructure_pid": None})
    await gone(setting, monkeypatch)
    finding = (await setting.one_pass(projects="forbidden"))[job]
    assert (finding.decision.kind, finding.done) == ("nothing", None)
    assert (await state_of(flow_run)).is_pending()
    assert names(emulator) == [job]
    assert "The jobs in project 'forbidden', region 'us-central1' could not be listed" in caplog.text


async def lost(setting: Setting, **settings: object) -> dict[UUID, LostFlowRun]:
    async with setting.observer(**settings) as observer:
        return {it.flow_run.id: it for it in (await observer.one_pass()).lost}


async def note_worker(flow_run: FlowRun, name: str) -> None:
    """Notes which worker has taken a flow run, as Prefect does."""
    async with get_client() as client:
        await client.update_flow_run_labels(flow_run.id, {"prefect.worker.name": name})


async def delete(setting: Setting, job: str) -> None:
    url = f"{setting.emulator.url}/apis/run.googleapis.com/v1/namespaces/{PROJECT}/jobs/{job}"
    async with httpx.AsyncClient(trust_env=False) as http:
        (await http.delete(url)).raise_for_status()
    await until(lambda: not setting.emulator.jobs())


async def test_flow_runs_without_a_job_and_without_a_worker_are_found_again(setting, emulator, monkeypatch):
    monkeypatch.setattr(_lost_flow_runs, "_LOST_AFTER", 0.0)
    # Its worker died before it created a job.
    claimed = await setting.flow_run(Pending())
    await note_worker(claimed, setting.worker)
    # Its worker lives, and may wait for hours before it creates a job.
    waiting = await setting.flow_run(Pending())
    await note_worker(waiting, "another")
    # Somebody deleted its job.
    running = await setting.flow_run(Running())
    await delete(setting, await setting.job(running))
    # It was deleted when the flow run was to be given back, and Prefect was away then.
    half_given_back = await setting.flow_run(Pending())
    await note_worker(half_given_back, setting.worker)
    await delete(setting, await setting.job(half_given_back))
    async with get_client() as client:
        await client.request("PATCH", f"/flow_runs/{half_given_back.id}", json={"infrastructure_pid": None})
    assert set(await lost(setting)) == {running.id}
    await gone(setting, monkeypatch)
    found = await lost(setting)
    assert {key: it.done for key, it in found.items()} == {claimed.id: "given back", half_given_back.id: "given back"}
    assert (await state_of(claimed)).is_scheduled()
    assert (await state_of(half_given_back)).is_scheduled()
    assert (await state_of(waiting)).is_pending()
    state = await state_of(running)
    assert (state.is_crashed(), state.message) == (True, "Deleted: The job was deleted. Its job is gone.")
    assert await lost(setting) == {}


async def test_a_flow_run_without_a_job_is_not_given_back_for_ever(setting, emulator, monkeypatch):
    monkeypatch.setattr(_lost_flow_runs, "_LOST_AFTER", 0.0)
    flow_run = await setting.flow_run(Pending())
    await note_worker(flow_run, setting.worker)
    await gone(setting, monkeypatch)
    found = await lost(setting, give_back_max_tries=0)
    assert found[flow_run.id].done == "crashed"
    assert (await state_of(flow_run)).message.startswith("StartFailed: ")


async def test_a_job_without_a_mark_is_not_taken_for_a_job_that_is_gone(setting, emulator, monkeypatch):
    monkeypatch.setattr(_lost_flow_runs, "_LOST_AFTER", 0.0)
    flow_run = await setting.flow_run(Running())
    await setting.job(flow_run, mark_version="0", duration=600)
    assert (await lost(setting))[flow_run.id].done is None
    assert (await state_of(flow_run)).is_running()


async def test_a_flow_run_is_not_lost_soon_nor_by_a_list_that_fails(setting, emulator, monkeypatch):
    flow_run = await setting.flow_run(Running())
    await delete(setting, await setting.job(flow_run))
    assert await lost(setting) == {}
    monkeypatch.setattr(_lost_flow_runs, "_LOST_AFTER", 0.0)
    setting.settings = CloudRunWorkerSettings(retry_max_attempts=2, retry_initial_delay_seconds=0.1)
    emulator.set_faults({"rules": [{"fault": "incompleteList", "calls": ["jobs.list"]}]})
    assert await lost(setting) == {}


async def test_pause_and_abort_do_not_end_the_observer(setting, emulator, monkeypatch, caplog):
    flow_run = await setting.flow_run(Running())
    await setting.job(flow_run, outcome="exit-code=3")
    await all_ended(emulator)

    async def aborts(*_args, **_values):
        raise Abort("the server said so")

    with monkeypatch.context() as patched:
        patched.setattr(_observed_job, "report_crash", aborts)
        async with setting.observer(interval_seconds=1, forward_crashed_run_logs=False) as observer:
            observer.start()
            await until(lambda: "the server said so" in caplog.text)
            patched.undo()
            # The next pass does what this one could not.
            await until(lambda: not emulator.jobs())
    assert (await state_of(flow_run)).is_crashed()


async def test_a_dry_run_changes_nothing(setting, emulator):
    flow_run = await setting.flow_run(Completed())
    job = await setting.job(flow_run)
    await all_ended(emulator)
    async with setting.observer() as observer:
        (finding,) = (await observer.one_pass(dry_run=True)).findings
    assert (finding.decision.kind, finding.done) == ("delete", None)
    assert names(emulator) == [job]


async def test_a_pass_with_nothing_to_do_costs_one_list(setting, emulator):
    await setting.one_pass()
    assert emulator.counts() == {"jobs.list": 1}


@pytest.mark.difference("observer")
async def test_a_worker_begins_with_a_pass(pool, setting, emulator, monkeypatch):
    flow_run = await setting.flow_run(Completed())
    await setting.job(flow_run)
    await all_ended(emulator)
    async with CloudRunWorker(work_pool_name=pool) as worker:
        await worker.sync_with_backend()
        await until(lambda: not emulator.jobs())
    monkeypatch.setenv("PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_OBSERVER_ENABLED", "false")
    flow_run = await setting.flow_run(Scheduled())
    job = await setting.job(flow_run, started=False)
    async with CloudRunWorker(work_pool_name=pool) as worker:
        await worker.sync_with_backend()
        await asyncio.sleep(1.5)
    assert names(emulator) == [job]


@pytest.mark.slow
async def test_a_hundred_jobs_are_taken_over_within_two_passes(setting, emulator, monkeypatch):
    kinds = [("success", Completed()), ("exit-code=3", Running()), ("exit-code=3", Pending()), ("success", Cancelled())]
    flow_runs = [await setting.flow_run(state) for _, state in kinds * 25]
    jobs = [
        await setting.job(flow_run, outcome=outcome)
        for flow_run, (outcome, _) in zip(flow_runs, kinds * 25, strict=True)
    ]
    await all_ended(emulator)
    async with setting.observer(forward_crashed_run_logs=False) as observer:
        first = (await observer.one_pass()).findings
        second = (await observer.one_pass()).findings
    assert len(first) == len(jobs)
    assert not [finding.error for finding in [*first, *second] if finding.error]
    await until(lambda: not emulator.jobs())
    states = Counter([(await state_of(flow_run)).name for flow_run in flow_runs])
    assert states == {"Completed": 25, "Crashed": 50, "Cancelled": 25}
