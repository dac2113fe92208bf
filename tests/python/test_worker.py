"""The worker against the emulator: how a run goes, and what is said and left when it does not."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import InfrastructureNotFound
from prefect.flows import flow
from pydantic import ValidationError

from prefect_gcp import exceptions
from prefect_gcp.emulator import Emulator
from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration
from prefect_gcp_cloud_run._default_project import DefaultProject
from tests.python.run_schema import validate_call

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("prefect_server")]

SETTING = "PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_"


@flow
def a_flow():
    """A flow run needs one."""


@pytest.fixture
def emulator(monkeypatch):
    with Emulator(
        ready_after=0.1,
        start_after=0.05,
        delete_after=0.05,
        projects=["my-project"],
        secrets={"s": "x"},
        record_calls=True,
    ) as running:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", running.host)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
        yield running


@pytest.fixture
async def worker(request, monkeypatch):
    """A worker that is started with the settings of the test's mark, since it reads them once."""
    for mark in request.node.iter_markers("settings"):
        for name, value in mark.kwargs.items():
            monkeypatch.setenv(f"{SETTING}{name}", value)
    # Its first pass comes at a random moment, and would watch what a run has left.
    monkeypatch.setenv("PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_OBSERVER_ENABLED", "false")
    async with CloudRunWorker(work_pool_name="worker-tests") as running:
        yield running


@pytest.fixture
async def flow_run() -> FlowRun:
    return await new_flow_run()


async def new_flow_run() -> FlowRun:
    async with get_client() as client:
        return await client.create_flow_run(a_flow)


async def prepared(flow_run: FlowRun, command: str = "true", **values) -> CloudRunWorkerJobConfiguration:
    configuration = await CloudRunWorkerJobConfiguration.from_template_and_values(
        CloudRunWorker.get_default_base_job_template(), {"command": command, **values}, client=SimpleNamespace()
    )
    configuration.prepare_for_flow_run(flow_run)
    return configuration


class Started:
    """Stands for anyio's task status."""

    def __init__(self) -> None:
        self.values: list[str] = []
        self.event = asyncio.Event()

    def started(self, value: str) -> None:
        self.values.append(value)
        self.event.set()


async def gone(emulator: Emulator) -> bool:
    """Whether every job is deleted within some seconds."""
    deadline = time.monotonic() + 5
    while emulator.jobs() and time.monotonic() < deadline:  # noqa: ASYNC110, the state of another program
        await asyncio.sleep(0.05)
    return not emulator.jobs()


async def test_a_run_succeeds_and_leaves_nothing(emulator, worker, flow_run, caplog):
    configuration, status = await prepared(flow_run, "echo hello"), Started()
    with caplog.at_level(logging.DEBUG, "prefect.flow_runs"):
        result = await worker.run(flow_run, configuration, status)
    job = configuration.job_name
    assert (result.identifier, result.status_code) == (job, 0)
    assert result
    assert status.values == [job]
    assert await gone(emulator)
    for line in (
        f"Creating Cloud Run Job {job}",
        f"Cloud Run Job '{job}' is not ready yet: Ready is Unknown",
        f"Submitting Cloud Run Job '{job}' for execution.",
        f"Cloud Run Job '{job}' started execution '{job}-",
        f"Job Run {job} completed successfully",
        f"Job Run logs can be found on GCP at: {emulator.url}/logs/my-project/us-central1/{job}-",
        f"Deleting completed Cloud Run Job '{job}'",
        f"Cloud Run Job '{job}' deleted",
        f"Cloud Run Job '{job}' was pending for ",
        "; no retries",
    ):
        assert line in caplog.text
    (log,) = emulator.log_dir.glob("*.log")
    assert "hello\n" in log.read_text()


@pytest.mark.difference("many-in-one-read")
@pytest.mark.slow
async def test_many_runs_are_watched_with_few_reads(worker, monkeypatch):
    with Emulator(ready_after=0.1, executor="simulated", duration=6) as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
        runs = [await new_flow_run() for _ in range(30)]
        configurations = [await prepared(run, credentials={"project": "p"}) for run in runs]
        results = await asyncio.gather(*(map(worker.run, runs, configurations)))
    assert {result.status_code for result in results} == {0}
    counts = emulator.counts()
    # Lists that cover all executions, after a quarter of their age, and no read of a single execution.
    assert counts["executions.list"] <= 30
    assert "executions.get" not in counts


@pytest.mark.difference("paced")
@pytest.mark.settings(QUOTA_PERIOD_SECONDS="1")
@pytest.mark.slow
async def test_rate_limited_runs_wait_and_report_it_once(worker, monkeypatch, caplog):
    quotas = {"writes": 10, "runs": 10, "minuteSeconds": 1}
    with Emulator(ready_after=0.1, executor="simulated", duration=0.1, faults={"quotas": quotas}) as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
        runs = [await new_flow_run() for _ in range(40)]
        configurations = [await prepared(run, credentials={"project": "p"}) for run in runs]
        results = await asyncio.gather(*(map(worker.run, runs, configurations)))
    assert {result.status_code for result in results} == {0}
    lines = [record for record in caplog.records if "Rate limited: the per-minute quota for" in record.getMessage()]
    # Once per run and quota.
    told = [(record.flow_run_id, record.getMessage()) for record in lines]
    assert told
    assert len(told) == len(set(told))
    assert "Retrying in" not in caplog.text


async def test_every_request_conforms_to_googles_schema(emulator, worker, flow_run):
    selector = {"secret": "s", "version": "1"}
    await worker.run(flow_run, await prepared(flow_run, cpu="1000m", memory="512Mi", prefect_api_key_secret=selector))
    configuration = await prepared(flow_run, "sleep 600", keep_job=True)
    task = asyncio.create_task(worker.run(flow_run, configuration, status := Started()))
    await status.event.wait()
    await worker.kill_infrastructure(configuration.job_name, configuration)
    await task
    calls = {
        validate_call(call["method"], call["path"], call["query"], call["body"])
        for call in emulator.calls()
        if call["path"].startswith("/apis/")
    }
    assert calls >= {
        f"run.namespaces.{name}" for name in ("jobs.create", "jobs.get", "jobs.run", "jobs.delete", "executions.list")
    }


@pytest.mark.parametrize(
    ("command", "words", "cause"),
    [
        ("sh -c 'exit 3'", "exit code: 3", "ExitCode 3"),
        ("sh -c 'kill -9 $$'", "did not complete successfully", "Signal 9"),
    ],
)
async def test_a_failed_run_says_why_and_leaves_nothing(emulator, worker, flow_run, caplog, command, words, cause):
    template_values = {"command": command}
    configuration = await prepared(flow_run, **template_values)
    _task_of(configuration)["maxRetries"] = 0
    with caplog.at_level(logging.INFO):
        result = await worker.run(flow_run, configuration)
    assert result.status_code == 1
    # The container's log follows.
    error, diagnosis, *_ = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert error.startswith(f"Job Run {configuration.job_name} did not complete successfully.")
    assert words in error
    assert diagnosis.startswith(f"Diagnosis: {cause}: ")
    assert await gone(emulator)


def _task_of(configuration):
    return configuration.job_body["spec"]["template"]["spec"]["template"]["spec"]


async def test_a_run_beyond_its_timeout_fails(emulator, worker, flow_run, caplog):
    configuration = await prepared(flow_run, "sleep 600")
    # Not by the job variable 'timeout', which also bounds the wait for readiness.
    _task_of(configuration).update(maxRetries=0, timeoutSeconds=1)
    result = await worker.run(flow_run, configuration)
    assert result.status_code == 1
    assert "The configured timeout was reached." in caplog.text


async def test_a_job_can_be_kept(emulator, worker, flow_run):
    configuration = await prepared(flow_run, keep_job=True)
    result = await worker.run(flow_run, configuration)
    assert result.status_code == 0
    assert [job["metadata"]["name"] for job in emulator.jobs()] == [configuration.job_name]


async def test_a_kill_ends_the_run_and_its_process(emulator, worker, flow_run, caplog, tmp_path):
    configuration, status = await prepared(flow_run, f"sh -c 'echo $$ > {tmp_path}/pid; exec sleep 600'"), Started()
    with caplog.at_level(logging.INFO):
        task = asyncio.create_task(worker.run(flow_run, configuration, status))
        await status.event.wait()
        await worker.kill_infrastructure(configuration.job_name, configuration, grace_seconds=1)
        result = await task
    assert result.status_code == -1
    assert any("was deleted" in record.getMessage() and record.levelno == logging.INFO for record in caplog.records)
    assert await gone(emulator)


@pytest.mark.difference("kill-spares-others")
async def test_a_kill_spares_another_flow_runs_job_of_the_same_name(emulator, worker, flow_run):
    await worker.run(flow_run, await prepared(flow_run, name="taken", keep_job=True))
    other = await new_flow_run()
    with pytest.raises(InfrastructureNotFound, match="'taken' not found in project 'my-project'") as caught:
        await worker.kill_infrastructure("taken", await prepared(other, name="taken"))
    assert "another flow run" in str(caught.value.__cause__)
    assert [job["metadata"]["name"] for job in emulator.jobs()] == ["taken"]


@pytest.mark.settings(POLL_INTERVAL_SECONDS="60")
async def test_a_kill_ends_its_run_before_the_next_poll(worker, flow_run, monkeypatch):
    with Emulator(ready_after=0.1, executor="simulated", duration=600) as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
        configuration, status = await prepared(flow_run), Started()
        task = asyncio.create_task(worker.run(flow_run, configuration, status))
        await status.event.wait()
        # By now the pauses between two reads are long.
        await asyncio.sleep(2)
        await worker.kill_infrastructure(configuration.job_name, configuration)
        result = await asyncio.wait_for(task, 1)
    assert result.status_code == -1


@pytest.mark.difference("kill-stops-start")
async def test_a_kill_before_the_start_stops_the_start(worker, flow_run, monkeypatch):
    with Emulator(ready_after=3, executor="simulated") as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
        configuration = await prepared(flow_run)
        task = asyncio.create_task(worker.run(flow_run, configuration))
        await asyncio.sleep(1)
        assert len(emulator.jobs()) == 1
        await worker.kill_infrastructure(configuration.job_name, configuration)
        with pytest.raises(
            exceptions.CloudRunJobRemovedError, match="because Prefect asked this worker to stop the flow run"
        ):
            await asyncio.wait_for(task, 1)
        assert await gone(emulator)
        assert emulator.executions() == []


@pytest.mark.settings(RETRY_INITIAL_DELAY_SECONDS="0.01")
async def test_a_kill_reports_the_calls_that_it_retries(emulator, worker, flow_run, caplog):
    configuration, status = await prepared(flow_run, "sleep 600"), Started()
    task = asyncio.create_task(worker.run(flow_run, configuration, status))
    await status.event.wait()
    fails = {"fault": {"status": {"code": 503}}, "calls": ["jobs.get", "jobs.delete"], "times": 3}
    emulator.set_faults({"rules": [fails]})
    caplog.clear()
    await worker.kill_infrastructure(configuration.job_name, configuration)
    assert (await task).status_code == -1
    lines = [record for record in caplog.records if "Retrying in" in record.getMessage()]
    assert len(lines) == 1, caplog.text
    assert "HTTP 503" in lines[0].getMessage()


async def test_a_kill_of_a_missing_job_raises_infrastructure_not_found(emulator, worker, flow_run):
    with pytest.raises(InfrastructureNotFound, match="'no-such-job' not found in project 'my-project'"):
        await worker.kill_infrastructure("no-such-job", await prepared(flow_run))


@pytest.mark.difference("errors")
@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"region": "mars-north1"}, exceptions.CloudRunRegionError, "Check the job variable 'region'"),
        ({"image": "registry.invalid/x"}, exceptions.CloudRunJobNotReadyError, "Image 'registry.invalid/x' not found."),
        ({"memory": "1000000Gi"}, exceptions.CloudRunInvalidRequestError, "Check the job variables"),
        ({"credentials": {"project": "their-project"}}, exceptions.CloudRunPermissionError, "run.jobs.create"),
    ],
)
async def test_an_invalid_value_gives_one_clear_error_and_leaves_nothing(
    emulator, worker, flow_run, values, error, words
):
    with pytest.raises(error) as caught:
        await worker.run(flow_run, await prepared(flow_run, **values))
    assert words in str(caught.value)
    assert caught.value.project in ("my-project", "their-project")
    assert caught.value.region
    assert await gone(emulator)


def status(code: int, **more) -> dict:
    return {"rules": [{"fault": {"status": {"code": code, **more}}, "calls": ["jobs.create"]}]}


ACT_AS = "Permission 'iam.serviceAccounts.actAs' denied on service account 'a@b'"


@pytest.mark.difference("errors")
@pytest.mark.parametrize(
    ("faults", "error", "words", "attributes"),
    [
        (status(403, message=ACT_AS), "Permission", "roles/iam.serviceAccountUser", "iam.serviceAccounts.actAs"),
        (status(403, message="No."), "Permission", "grant it roles/run.developer", "run.jobs.create"),
        (status(403, reason="SERVICE_DISABLED"), "ApiDisabled", "gcloud services enable run.googleapis.com", ""),
        (status(400, message="Bad name."), "InvalidRequest", "Bad name.", ""),
        (status(401), "Authentication", "GCP credentials block", ""),
        (status(404, body="html"), "Region", "no Cloud Run API answers for 'us-central1'", ""),
        (status(429, reason="RATE_LIMIT_EXCEEDED"), "Quota", "per-minute quota", ""),
        ({"quotas": {"jobs": 0}}, "Quota", "delete some with gcloud run jobs delete JOB --region us-central1", ""),
        pytest.param(status(503), "Unavailable", "is failing", "", marks=pytest.mark.slow),
    ],
)
# After the request's time-out, and some seconds more, a create that was answered 503 has surely not happened.
@pytest.mark.settings(
    RETRY_MAX_ATTEMPTS="2",
    RETRY_INITIAL_DELAY_SECONDS="0.01",
    REQUEST_TIMEOUT_SECONDS="1",
    QUOTA_WAIT_MAX_SECONDS="1",
)
async def test_each_cause_has_its_own_error_class_that_says_what_to_do(
    emulator, worker, flow_run, faults, error, words, attributes
):
    emulator.set_faults(faults)
    configuration = await prepared(flow_run)
    with pytest.raises(getattr(exceptions, f"CloudRun{error}Error")) as caught:
        await worker.run(flow_run, configuration)
    raised = caught.value
    assert words in str(raised)
    assert words in raised.hint or words in raised.api_message
    assert raised.api_message.rstrip(".") in str(raised)
    place = (raised.project, raised.region, raised.name, raised.job, raised.permission)
    assert place == ("my-project", "us-central1", configuration.job_name, configuration.job_name, attributes)
    assert raised.resource == ("a@b" if attributes == "iam.serviceAccounts.actAs" else "")
    assert raised.status == (429 if "quotas" in faults else faults["rules"][0]["fault"]["status"]["code"])
    for again in (pickle.loads(pickle.dumps(raised)), copy.copy(raised), copy.deepcopy(raised)):
        assert type(again) is type(raised)
        assert (str(again), again.__dict__) == (str(raised), raised.__dict__)


@pytest.mark.difference("errors")
async def test_an_error_is_chained_to_its_cause(flow_run, monkeypatch):
    monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setenv(f"{SETTING}RETRY_MAX_ATTEMPTS", "1")
    async with CloudRunWorker(work_pool_name="worker-tests") as worker:
        with pytest.raises(exceptions.CloudRunUnavailableError) as caught:
            await worker.run(flow_run, await prepared(flow_run))
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
        assert isinstance(error.__cause__, ConnectionError)
        assert str(error.__cause__) == error.api_message
        assert error.status is None


@pytest.mark.difference("full-region")
@pytest.mark.settings(QUOTA_WAIT_MAX_SECONDS="3")
async def test_the_wait_for_a_full_region_ends_after_quota_wait_max(emulator, worker, flow_run, caplog):
    emulator.set_faults({"quotas": {"runningExecutions": 0}})
    with pytest.raises(exceptions.CloudRunQuotaError, match="quota_wait_max_seconds"):
        await worker.run(flow_run, await prepared(flow_run))
    assert caplog.text.count("Cloud Run accepts no more executions for now; waiting for up to 3 s.") == 1
    assert await gone(emulator)


async def test_a_run_that_waits_for_a_full_region_can_be_cancelled(emulator, worker, flow_run, caplog):
    emulator.set_faults({"quotas": {"runningExecutions": 0}})
    task = asyncio.create_task(worker.run(flow_run, await prepared(flow_run)))
    deadline = time.perf_counter() + 20
    while "Cloud Run accepts no more executions for now" not in caplog.text:
        assert time.perf_counter() < deadline
        await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert await gone(emulator)


@pytest.mark.slow
async def test_the_event_loop_is_never_blocked(worker, monkeypatch, simulating_emulator):
    monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", simulating_emulator)
    gaps: list[float] = []

    async def beat() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    longest = []
    # Code that waits in the loop does so in every round, and for the pauses between reads; other load does not.
    runs = [await new_flow_run() for _ in range(15)]
    for _ in range(3):
        configurations = [await prepared(run, credentials={"project": "p"}) for run in runs]
        statuses = [Started() for _ in runs]
        gaps.clear()
        heart = asyncio.create_task(beat())
        tasks = [
            asyncio.create_task(worker.run(run, configuration, status))
            for run, configuration, status in zip(runs, configurations, statuses, strict=True)
        ]
        await asyncio.gather(*(status.event.wait() for status in statuses))
        await asyncio.gather(
            *(worker.kill_infrastructure(configuration.job_name, configuration) for configuration in configurations)
        )
        assert {(await task).status_code for task in tasks} == {-1}
        heart.cancel()
        assert len(gaps) > 20
        longest.append(max(gaps))
    assert min(longest) <= 0.2


async def test_an_invalid_region_is_rejected_before_any_call(emulator, worker, flow_run):
    with pytest.raises(ValueError, match=r"'evil\.example/' is not a region"):
        await worker.run(flow_run, await prepared(flow_run, region="evil.example/"))
    assert emulator.calls() == []


@pytest.mark.difference("early-check")
async def test_a_body_that_is_not_json_is_rejected_before_any_call(emulator, worker, flow_run):
    configuration = await prepared(flow_run)
    configuration.job_body["metadata"]["annotations"]["x"] = float("nan")
    with pytest.raises(ValueError, match=r"metadata\.annotations\.x is NaN"):
        await worker.run(flow_run, configuration)
    configuration.job_body["metadata"]["annotations"]["x"] = b"bytes"
    with pytest.raises(ValueError, match=r"metadata\.annotations\.x is of type 'bytes'"):
        await worker.run(flow_run, configuration)
    assert emulator.calls() == []


@pytest.mark.difference("name-taken")
async def test_somebody_elses_job_of_the_same_name_stays(emulator, worker, flow_run):
    await worker.run(flow_run, await prepared(flow_run, name="taken", keep_job=True))
    other = await new_flow_run()
    with pytest.raises(exceptions.CloudRunAlreadyExistsError, match="Another job with this name exists"):
        await worker.run(other, await prepared(other, name="taken"))
    assert [job["metadata"]["name"] for job in emulator.jobs()] == ["taken"]


@pytest.mark.difference("faults-pass")
async def test_an_unreachable_api_is_an_error_after_the_retry_budget(emulator, flow_run, monkeypatch, caplog):
    monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setenv(f"{SETTING}RETRY_MAX_ATTEMPTS", "2")
    monkeypatch.setenv(f"{SETTING}RETRY_INITIAL_DELAY_SECONDS", "0.01")
    async with CloudRunWorker(work_pool_name="worker-tests") as worker:
        with pytest.raises(exceptions.CloudRunUnavailableError, match="after 2 attempts"):
            await worker.run(flow_run, await prepared(flow_run))
    assert "Retrying in" in caplog.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POLL_INTERVAL_SECONDS", "often"),
        ("RETRY_MAX_ATTEMPTS", "0"),
        ("RETRY_MAX_ATTEMPTS", "1e10"),
        ("API_ENDPOINT", "http://run.example"),
        ("API_ENDPOINT", "run.example"),
    ],
)
async def test_an_invalid_setting_fails_before_the_worker_takes_a_flow_run(monkeypatch, name, value):
    monkeypatch.setenv(f"{SETTING}{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        async with CloudRunWorker(work_pool_name="worker-tests"):
            pass


async def test_a_setting_may_be_a_very_long_time(emulator, flow_run, monkeypatch):
    for name in ("RETRY_MAX", "RETRY_MAX_DELAY", "REQUEST_TIMEOUT", "POLL_INTERVAL", "QUOTA_WAIT_MAX", "QUOTA_PERIOD"):
        monkeypatch.setenv(f"{SETTING}{name}_SECONDS", "1e300")
    async with CloudRunWorker(work_pool_name="worker-tests") as worker:
        result = await worker.run(flow_run, await prepared(flow_run))
    assert result.status_code == 0


async def test_the_endpoint_is_checked_at_the_start_and_its_password_is_not_shown(monkeypatch):
    monkeypatch.setenv(f"{SETTING}API_ENDPOINT", "https://user:hush@run.example")
    with pytest.raises(ValidationError, match="is not an API endpoint") as caught:
        async with CloudRunWorker(work_pool_name="worker-tests"):
            pass
    assert "hush" not in str(caught.value)


async def test_without_a_project_the_error_says_where_to_set_one(worker, flow_run, monkeypatch):
    nowhere = DefaultProject()
    monkeypatch.setattr(nowhere, "_look_up", lambda _request: None)
    monkeypatch.setattr("prefect_gcp_cloud_run._default_project.default_project", nowhere)
    with pytest.raises(ValueError, match="GOOGLE_CLOUD_PROJECT"):
        await worker.run(flow_run, await prepared(flow_run))


@pytest.mark.settings(POLL_INTERVAL_SECONDS="1")
@pytest.mark.slow
async def test_a_cancelled_run_stops_at_once_and_its_execution_goes_on(emulator, worker, flow_run):
    task = asyncio.create_task(worker.run(flow_run, await prepared(flow_run, "sleep 600"), status := Started()))
    await status.event.wait()
    # The run reads its execution every second, and more often at first.
    await asyncio.sleep(1.5)
    task.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 1
    # A call that was already sent may still arrive.
    await asyncio.sleep(0.5)
    calls = len(emulator.calls())
    await asyncio.sleep(3)
    assert len(emulator.calls()) == calls, "it still watches"
    assert len(emulator.jobs()) == 1
    assert emulator.executions()[0]["status"]["runningCount"] == 1


@pytest.mark.difference("no-thread")
@pytest.mark.slow
async def test_waiting_runs_hold_no_threads(worker, monkeypatch, simulating_emulator):
    monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", simulating_emulator)
    # Enough threads for every run, if each held one.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(200))
    runs = await asyncio.gather(*(new_flow_run() for _ in range(50)))
    # With an explicit project, because the look-up of a project uses a thread for a moment.
    configurations = [await prepared(run, credentials={"project": "p"}) for run in runs]
    threads = _threads()
    statuses = [Started() for _ in runs]
    tasks = [
        asyncio.create_task(worker.run(run, configuration, status))
        for run, configuration, status in zip(runs, configurations, statuses, strict=True)
    ]
    await asyncio.gather(*(status.event.wait() for status in statuses))
    assert not any(task.done() for task in tasks)
    # The eight threads of the runtime, and those in which Prefect runs blocking code.
    assert _threads() <= threads + 12
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def simulating_emulator():
    """The address of an emulator in a process of its own, so that its threads don't count as the worker's."""
    command = [
        sys.executable,
        "-m",
        "prefect_gcp.emulator",
        "--port",
        "0",
        "--executor",
        "simulated",
        "--duration",
        "600",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip().rpartition("=")[2]
        finally:
            process.terminate()


def _threads() -> int:
    """Threads of this process, Rust's included where the system tells."""
    try:
        with Path("/proc/self/status").open() as status:
            return next(int(line.split()[1]) for line in status if line.startswith("Threads:"))
    except OSError:
        return threading.active_count()
