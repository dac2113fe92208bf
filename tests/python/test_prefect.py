"""Flow runs through a real Prefect server, its command line, and a worker that runs as users run it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import Log
from prefect.deployments.runner import DeploymentApplyError
from prefect.flows import Flow

from prefect_gcp.emulator import Emulator
from prefect_gcp.workers.cloud_run import CloudRunWorker
from tests.python import forked
from tests.python.eventually import until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("prefect_server")]

HERE = Path(__file__).parent
# One try for each task: what fails, fails at once.
NO_RETRIES = ("spec", "template", "spec", "template", "spec")


def prefect(*words: str, succeeds: bool = True) -> str:
    """Runs Prefect's command line as a user would, and returns what it printed."""
    done = forked.run("prefect", *words)
    assert (done.returncode == 0) is succeeds, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def emulator(monkeypatch):
    with Emulator() as running:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", running.host)
        yield running


@pytest.fixture
def pool(tmp_path):
    """Makes a pool with Prefect's command line, from the server's own template or from one that was changed."""

    def make(change=None) -> str:
        name = f"pool-{uuid4().hex[:8]}"
        words = ["work-pool", "create", name, "--type", "cloud-run"]
        if change:
            template = json.loads(prefect("work-pool", "get-default-base-job-template", "--type", "cloud-run"))
            change(template)
            path = tmp_path / "template.json"
            path.write_text(json.dumps(template))
            words += ["--base-job-template", str(path)]
        prefect(*words)
        return name

    return make


async def deploy(pool: str, flow: str, **job_variables) -> str:
    """Deploys a flow of deployed_flows.py and returns its flow run's id."""
    source = await Flow.afrom_source(source=str(HERE), entrypoint=f"deployed_flows.py:{flow}")
    name = f"{pool}-{flow}"
    deployment_id = await source.adeploy(
        name, work_pool_name=pool, job_variables=job_variables, print_next_steps=False, ignore_warnings=True
    )
    async with get_client() as client:
        return str((await client.create_flow_run_from_deployment(deployment_id)).id)


async def run_all(pool: str) -> None:
    """Starts a worker that takes what is scheduled, sees it through, and ends."""
    worker = CloudRunWorker(work_pool_name=pool, prefetch_seconds=60)
    await asyncio.wait_for(worker.start(run_once=True), 120)


async def read(flow_run_id: str):
    async with get_client() as client:
        return await client.read_flow_run(flow_run_id)


async def records_of(flow_run_id: str, until: str) -> list[Log]:
    """The flow run's log, once it holds a text: it is sent in batches."""
    log_filter = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id]))
    deadline = time.monotonic() + 20
    while True:
        async with get_client() as client:
            records = await client.read_logs(log_filter)
        if any(until in record.message for record in records) or time.monotonic() > deadline:
            return records
        await asyncio.sleep(0.2)


async def log_of(flow_run_id: str, until: str) -> str:
    return "\n".join(record.message for record in await records_of(flow_run_id, until))


def to_the_workers_own(template):
    """Makes the server's template, which is of an older form, the one that the worker has."""
    template.clear()
    template.update(CloudRunWorker.get_default_base_job_template())


FORMS = pytest.mark.parametrize(
    "form",
    [pytest.param(None, marks=pytest.mark.slow), to_the_workers_own],
    ids=["the server's", "the worker's"],
)


@FORMS
async def test_a_pool_of_either_template_runs_a_flow_to_completed(emulator, pool, form):
    name = pool(form)
    flow_run_id = await deploy(name, "succeed", memory="1Gi", env={"MY_VARIABLE": "x"})
    await run_all(name)
    run = await read(flow_run_id)
    assert run.state.name == "Completed"
    assert run.infrastructure_pid.startswith(run.name)
    await until(lambda: _no_jobs(emulator))
    assert "Job Run logs can be found on GCP at:" in await log_of(flow_run_id, "deleted")


@pytest.mark.slow
async def test_a_customised_template_runs_with_its_own_placeholder_and_fixed_value(emulator, pool):
    def change(template):
        task = _task(template)
        task["maxRetries"] = "{{ retries }}"
        task["containers"][0]["resources"]["limits"]["memory"] = "2Gi"
        template["variables"]["properties"]["retries"] = {"type": "integer", "title": "Retries"}

    name = pool(change)
    flow_run_id = await deploy(name, "succeed", retries=2, memory="512Mi", keep_job=True)
    await run_all(name)
    assert (await read(flow_run_id)).state.name == "Completed"
    (job,) = emulator.jobs()
    task = job["spec"]["template"]["spec"]["template"]["spec"]
    assert task["maxRetries"] == 2
    assert task["containers"][0]["resources"]["limits"]["memory"] == "2Gi"


def _task(template):
    task = template["job_configuration"]["job_body"]
    for key in NO_RETRIES:
        task = task[key]
    return task


@pytest.mark.slow
async def test_a_flow_that_fails_is_failed_and_one_that_is_killed_is_crashed(emulator, pool):
    def change(template):
        _task(template)["maxRetries"] = 0

    name = pool(change)
    failing, killed = await deploy(name, "fail"), await deploy(name, "exit_at_once")
    never_begun = await deploy(name, "succeed", command="sh -c 'exit 3'")
    await run_all(name)
    assert (await read(failing)).state.name == "Failed"
    assert (await read(killed)).state.name == "Crashed"
    crashed = (await read(never_begun)).state
    assert crashed.name == "Crashed"
    assert crashed.message.startswith("ExitCode 3: The container ended with exit code 3. ")
    assert "failed with exit code: 3" in await log_of(never_begun, "deleted")
    await until(lambda: _no_jobs(emulator))


@pytest.mark.parametrize(
    ("variables", "hint"),
    [
        ({"region": "mars-north1"}, "Check the job variable 'region': no Cloud Run API answers for 'mars-north1'"),
        ({"image": "registry.invalid/x"}, "Check the job variable 'image', and that the image was pushed"),
        (
            {"credentials": {"project": "no-such-project"}},
            "The worker's account lacks run.jobs.create on project 'no-such-project', or there is no such project",
        ),
    ],
    ids=["region", "image", "project"],
)
@pytest.mark.slow
async def test_a_wrong_value_crashes_the_run_with_one_clear_error(pool, monkeypatch, variables, hint):
    with Emulator(projects=["my-project"]) as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
        name = pool()
        flow_run_id = await deploy(name, "succeed", **variables)
        await run_all(name)
        state = (await read(flow_run_id)).state
        assert state.name == "Crashed"
        assert hint in state.message
        errors = [record for record in await records_of(flow_run_id, hint) if record.level >= logging.ERROR]
        assert [error.message.count(hint) > 0 for error in errors] == [True], errors
        await until(lambda: _no_jobs(emulator))


@FORMS
async def test_wrong_variables_are_refused_by_prefect(pool, form):
    name = pool(form)
    for variable, value in [("cpu", "1"), ("memory", "512"), ("timeout", 0), ("timeout", 3601)]:
        with pytest.raises(DeploymentApplyError, match=f"Validation failed for field '{variable}'"):
            await deploy(name, "succeed", **{variable: value})


@pytest.mark.difference("early-check")
@pytest.mark.slow
async def test_a_template_with_a_wrong_type_and_a_typo_says_both_in_the_flow_runs_log(emulator, pool):
    def change(template):
        _task(template)["timeoutSecond"] = 60

    name = pool(change)
    flow_run_id = await deploy(name, "succeed")
    await run_all(name)
    # The API refuses what the warning named, so that people find both.
    log = await log_of(flow_run_id, "Unknown name")
    assert "timeoutSecond: unknown field" in log
    assert "did you mean 'timeoutSeconds'?" in log
    assert (await read(flow_run_id)).state.name == "Crashed"

    def break_it(template):
        _task(template)["maxRetries"] = "many"

    name = pool(break_it)
    flow_run_id = await deploy(name, "succeed")
    await run_all(name)
    message = "spec.template.spec.template.spec.maxRetries: expected a 32-bit integer, found a string"
    assert message in await log_of(flow_run_id, message)
    assert (await read(flow_run_id)).state.name in {"Crashed", "Failed"}
    assert emulator.jobs() == []


@pytest.mark.slow
async def test_cancelling_a_pending_run_from_the_command_line_deletes_its_job(pool, monkeypatch):
    # Its containers are not started while the test lasts, so that the run stays pending.
    with Emulator(start_after=600) as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
        name = pool()
        flow_run_id = await deploy(name, "succeed")
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", name, "--type", "cloud-run"]
        env = os.environ | {"PREFECT_WORKER_QUERY_SECONDS": "1"}
        worker = await asyncio.create_subprocess_exec(
            *command, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            await until(lambda: _has_pid(flow_run_id))
            assert len(emulator.jobs()) == 1
            await asyncio.to_thread(prefect, "flow-run", "cancel", flow_run_id)
            await until(lambda: _is(flow_run_id, "Cancelled"))
            await until(lambda: _no_jobs(emulator))
        finally:
            worker.terminate()
            output, _ = await asyncio.wait_for(worker.communicate(), 60)
    assert re.search(r"Worker '.*' started!", output.decode())
    assert "Traceback" not in output.decode()


async def _has_pid(flow_run_id):
    return (await read(flow_run_id)).infrastructure_pid is not None


async def _is(flow_run_id, state):
    return (await read(flow_run_id)).state.name == state


async def _no_jobs(emulator):
    return emulator.jobs() == []
