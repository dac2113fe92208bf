"""What a flow run's state and log say when its infrastructure fails, as a real Prefect server has them in the end."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
from types import SimpleNamespace
from unittest.mock import AsyncMock
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.flows import flow
from prefect.states import (
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Paused,
    Pending,
    Running,
    Scheduled,
)

from prefect_gcp.emulator import Emulator
from prefect_gcp.exceptions import CloudRunError, CloudRunJobNotReadyError
from prefect_gcp.settings import CloudRunWorkerSettings
from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration
from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run.workers._crash import report_crash
from tests.python.test_prefect import deploy, read, records_of, run_all

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("prefect_server")]

JOB = "a-job"


@flow
def a_flow():
    """A flow run needs one."""


@pytest.fixture
def emulator(monkeypatch):
    with Emulator(
        ready_after=0.05,
        start_after=0.05,
        delete_after=0.05,
        executor="simulated",
        duration=0.1,
        projects=["my-project"],
    ) as running:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", running.host)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
        yield running


@pytest.fixture
async def worker(monkeypatch):
    monkeypatch.setenv("PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_POLL_INTERVAL_SECONDS", "1")
    async with CloudRunWorker(work_pool_name="diagnosis-tests") as running:
        yield running


async def pool_with_outcomes() -> str:
    """Makes a pool whose job variable 'outcome' says how the emulator's executions end."""
    template = copy.deepcopy(CloudRunWorker.get_default_base_job_template())
    template["variables"]["properties"]["outcome"] = {"type": "string", "default": "success"}
    execution = template["job_configuration"]["job_body"]["spec"]["template"]
    execution.setdefault("metadata", {}).setdefault("annotations", {})["cloud-run-emulator/outcome"] = "{{ outcome }}"
    execution["spec"]["template"]["spec"]["maxRetries"] = 0
    name = f"pool-{uuid4().hex[:8]}"
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=name, type="cloud-run", base_job_template=template))
    return name


async def new_flow_run(state=None) -> FlowRun:
    async with get_client() as client:
        return await client.create_flow_run(a_flow, state=state)


@pytest.mark.difference("cause-first")
@pytest.mark.slow
async def test_the_state_of_a_crashed_flow_run_begins_with_the_cause(emulator):
    cases = {
        "ExitCode 3: ": {"outcome": "exit-code=3"},
        "Signal 9: ": {"outcome": "signal=9"},
        "OutOfMemory: ": {"outcome": "out-of-memory"},
        "Timeout: ": {"outcome": "timeout"},
        "ImageNotFound: ": {"image": "registry.invalid/x"},
        "SecretMissing: ": {
            "prefect_api_key_secret": {"secret": "no-such-secret", "version": "latest"},
        },
        "StartFailed: ": {"region": "mars-north1"},
    }
    pool = await pool_with_outcomes()
    deployment = (await read(await deploy(pool, "succeed"))).deployment_id
    async with get_client() as client:
        flow_runs = {
            start: (await client.create_flow_run_from_deployment(deployment, job_variables=variables)).id
            for start, variables in cases.items()
        }
    await run_all(pool)
    for start, flow_run_id in flow_runs.items():
        state = (await read(flow_run_id)).state
        assert (state.name, state.message[: len(start)]) == ("Crashed", start), state.message
    log = await records_of(flow_runs["OutOfMemory: "], "Diagnosis: ")
    (line,) = [record for record in log if record.message.startswith("Diagnosis: ")]
    assert line.level == logging.ERROR
    assert line.message.startswith("Diagnosis: OutOfMemory: The container used more memory than its limit. Task ")
    assert "Increase the job variable 'memory'" in line.message
    assert not emulator.jobs()
    # One read for each execution that failed.
    assert emulator.counts()["tasks.list"] == 4


@pytest.mark.parametrize(
    ("rule", "start"),
    [
        ({"code": 403, "reason": "SERVICE_DISABLED"}, "ApiDisabled: "),
        (
            {"code": 403, "message": "Permission 'iam.serviceaccounts.actAs' denied on service account a@b"},
            "ServiceAccount: ",
        ),
        (
            {"code": 400, "message": "resources.limits.memory: Invalid value specified for memory."},
            "InvalidResources: ",
        ),
    ],
)
async def test_a_refused_create_still_raises_and_its_cause_is_told_first(emulator, worker, rule, start):
    emulator.set_faults({"rules": [{"fault": {"status": rule}, "calls": ["jobs.create"]}]})
    flow_run = await new_flow_run(Pending())
    with pytest.raises(CloudRunError):
        await worker.run(flow_run, await prepared(flow_run))
    state = (await read(flow_run.id)).state
    assert (state.name, state.message[: len(start)]) == ("Crashed", start), state.message


async def prepared(flow_run: FlowRun, **values) -> CloudRunWorkerJobConfiguration:
    configuration = await CloudRunWorkerJobConfiguration.from_template_and_values(
        CloudRunWorker.get_default_base_job_template(), {"command": "true", **values}, client=SimpleNamespace()
    )
    configuration.prepare_for_flow_run(flow_run)
    return configuration


async def test_an_error_before_the_first_call_is_raised_and_told(worker):
    flow_run = await new_flow_run(Pending())
    configuration = await prepared(flow_run, credentials={"project": "not/a/project"})
    with pytest.raises(ValueError, match="not/a/project") as raised:
        await worker.run(flow_run, configuration)
    state = (await read(flow_run.id)).state
    assert state.message == f"StartFailed: The container was not started. ValueError: {raised.value}".rstrip(".") + "."


async def test_a_job_that_is_not_ready_says_what_to_do(emulator, worker, caplog):
    flow_run = await new_flow_run(Pending())
    with pytest.raises(CloudRunJobNotReadyError, match="Check the job variable 'image'") as raised:
        await worker.run(flow_run, await prepared(flow_run, image="registry.invalid/x"))
    # Prefect logs the error. A second line would only repeat it.
    assert not [record for record in caplog.records if record.levelno == logging.ERROR]
    assert raised.value.hint in (await read(flow_run.id)).state.message


async def test_tasks_that_can_not_be_read_cost_only_some_seconds(emulator, worker):
    emulator.set_faults({"rules": [{"fault": "hang", "calls": ["tasks.list"]}]})
    flow_run = await new_flow_run(Pending())
    configuration = await prepared(flow_run)
    execution = configuration.job_body["spec"]["template"]
    execution.setdefault("metadata", {}).setdefault("annotations", {})["cloud-run-emulator/outcome"] = "exit-code=7"
    execution["spec"]["template"]["spec"]["maxRetries"] = 0
    result = await asyncio.wait_for(worker.run(flow_run, configuration), 20)
    assert result.status_code == 1
    assert (await read(flow_run.id)).state.message.startswith("ExitCode 7: ")


async def running(emulator, worker, flow_run: FlowRun) -> tuple[asyncio.Future, str]:
    """Runs a flow run in the background until its container runs. Returns the run and the job's name."""
    configuration = await prepared(flow_run)
    template = configuration.job_body["spec"]["template"]
    template.setdefault("metadata", {}).setdefault("annotations", {})["cloud-run-emulator/duration-seconds"] = "60"
    run = asyncio.ensure_future(worker.run(flow_run, configuration, SimpleNamespace(started=lambda value: None)))
    # The state of another program.
    while not any(execution["status"].get("runningCount") for execution in emulator.executions()):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return run, configuration.job_name


async def test_an_execution_that_somebody_cancels_is_told(emulator, worker):
    flow_run = await new_flow_run(Running())
    run, _job = await running(emulator, worker, flow_run)
    name = emulator.executions()[0]["metadata"]["name"]
    path = f"/apis/run.googleapis.com/v1/namespaces/my-project/executions/{name}:cancel"
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.post(emulator.url + path, json={})).status_code == 200
    assert (await asyncio.wait_for(run, 30)).status_code == 1
    state = (await read(flow_run.id)).state
    assert (state.name, state.message.split(" ")[0]) == ("Crashed", "Deleted:")


async def test_a_job_that_prefect_kills_has_no_cause(emulator, worker, caplog):
    flow_run = await new_flow_run(Running())
    run, job = await running(emulator, worker, flow_run)
    await worker.kill_infrastructure(job, await prepared(flow_run))
    assert (await asyncio.wait_for(run, 30)).status_code == -1
    # Prefect has the word.
    assert (await read(flow_run.id)).state.name == "Running"
    assert "Diagnosis" not in caplog.text


DIAGNOSIS = _core.Diagnosis("ExitCode", "error", "It ended.", "Boom.", "Look.", 3)


async def report(client, flow_run: FlowRun) -> FlowRun | None:
    logger = logging.getLogger("test.crash")
    return await report_crash(client, flow_run.id, JOB, DIAGNOSIS, logger, line="the line")


@pytest.mark.parametrize(
    ("state", "is_crashed", "is_logged"),
    [
        (Pending(), True, True),
        (Pending(name="Submitting"), True, True),
        (Running(), True, True),
        (Scheduled(), False, False),
        (AwaitingRetry(), False, False),
        (Paused(timeout_seconds=300), False, False),
        (Cancelling(), False, False),
        (Cancelled(), False, False),
        (Completed(), False, False),
        (Failed(), False, True),
        (Crashed(message="before"), False, True),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else None,
)
async def test_only_a_flow_run_that_needs_its_job_is_crashed(state, is_crashed, is_logged, caplog):
    flow_run = await new_flow_run()
    async with get_client() as client:
        await client.set_flow_run_state(flow_run.id, state, force=True)
        before = await client.read_flow_run(flow_run.id)
        told = await report(client, flow_run)
        after = await client.read_flow_run(flow_run.id)
    assert ("the line" in caplog.messages) is is_logged
    if is_crashed:
        # Whether its container has ever reported is what the caller may want to know.
        assert told.state.type == before.state.type
        assert (after.state.name, after.state.message) == ("Crashed", "ExitCode 3: It ended. Boom. Look.")
    else:
        assert told is None
        assert after.state.id == before.state.id


async def test_a_flow_run_that_runs_as_another_job_is_left_alone():
    flow_run = await new_flow_run(Running())
    async with get_client() as client:
        for pid, is_crashed in (("another-job", False), (JOB, True)):
            await client.update_flow_run(flow_run.id, infrastructure_pid=pid)
            assert (await report(client, flow_run) is not None) is is_crashed


async def test_a_flow_run_that_is_gone_or_can_not_be_read_is_left_alone(caplog):
    flow_run = await new_flow_run(Running())
    async with get_client() as client:
        await client.delete_flow_run(flow_run.id)
        assert await report(client, flow_run) is None
    assert "the line" not in caplog.messages
    broken = AsyncMock()
    broken.read_flow_run.side_effect = OSError("no network")
    assert await report(broken, flow_run) is None
    assert await report(None, flow_run) is None
    # Not knowing the flow run is no reason to keep the cause back.
    assert caplog.messages.count("the line") == 2


async def test_a_client_diagnoses_what_others_have_run(emulator):
    client = _core.Client(
        project="my-project",
        region="us-central1",
        credentials=_core.Credentials(),
        settings=CloudRunWorkerSettings(),
    )
    gone = await client.diagnose("no-such-job")
    assert (gone.category, gone.level, gone.exit_code, gone.signal) == ("Deleted", "warning", None, None)
    assert gone.message == f"Deleted: {gone.summary} {gone.resolution}"
    emulator.set_faults({"rules": [{"fault": {"status": {"code": 403}}}]})
    assert (await client.diagnose("a-job", "a-job-abcde")).category == "ExitCode"
    with pytest.raises(ValueError, match="not a valid Cloud Run job name"):
        client.diagnose("../other")


def test_a_diagnosis_is_a_value():
    assert pickle.loads(pickle.dumps(DIAGNOSIS)) == copy.copy(DIAGNOSIS) == DIAGNOSIS
    assert _core.Diagnosis("ExitCode", "error", "It ended.", "Boom.", "Look.", 4) != DIAGNOSIS
    assert repr(DIAGNOSIS) == 'Diagnosis("ExitCode 3: It ended. Boom. Look.")'
    assert _core.diagnose_start("Image 'x' not found.").category == "ImageNotFound"
    for category, level in (("Nothing", "error"), ("ExitCode", "loud")):
        with pytest.raises(ValueError, match="is no"):
            _core.Diagnosis(category, level, "", "", "")


@pytest.mark.parametrize("is_reported", [True, False])
async def test_prefects_report_of_a_crash_ends_no_flow_run_that_runs_again(emulator, worker, is_reported):
    """Prefect reports a crash after the run, without a look at the flow run."""
    flow_run = await new_flow_run(Running())
    configuration = await prepared(flow_run)
    annotations = configuration.job_body["spec"]["template"].setdefault("metadata", {}).setdefault("annotations", {})
    annotations.update({"cloud-run-emulator/outcome": "exit-code=3", "cloud-run-emulator/duration-seconds": "2"})
    run = asyncio.ensure_future(worker.run(flow_run, configuration))
    while not emulator.executions():  # noqa: ASYNC110 - another program's
        await asyncio.sleep(0.05)
    async with get_client() as client:
        if not is_reported:
            await client.set_flow_run_state(flow_run.id, AwaitingRetry(), force=True)
        assert (await run).status_code == 1
        if is_reported:
            assert (await client.read_flow_run(flow_run.id)).state.is_crashed()
            # An automation has scheduled it again, and another worker has taken it.
            await client.set_flow_run_state(flow_run.id, Running(), force=True)
            await client.update_flow_run(flow_run.id, infrastructure_pid="another")
        await worker._propose_crashed_state(flow_run, "Flow run infrastructure exited with non-zero status code 1.")
        state = (await client.read_flow_run(flow_run.id)).state
    assert state.name == ("Running" if is_reported else "AwaitingRetry")


async def test_prefects_report_of_other_crashes_is_made(worker):
    flow_run = await new_flow_run(Pending())
    await worker._propose_crashed_state(flow_run, "Failed to submit flow run.")
    assert (await read(flow_run.id)).state.message == "Failed to submit flow run."
