"""A worker that is stopped leaves executions running and gives back what was not started; it ends soon."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
from prefect.flows import Flow

from prefect_gcp.emulator import Emulator
from prefect_gcp.workers.cloud_run import CloudRunWorker

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("prefect_server")]

HERE = Path(__file__).parent


@pytest.fixture
def emulator(monkeypatch):
    with Emulator(ready_after=0.1, start_after=0.1, executor="simulated", duration=3600) as running:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", running.host)
        yield running


def running(emulator: Emulator) -> int:
    return sum("runningCount" in execution["status"] for execution in emulator.executions())


async def make_pool(name: str) -> None:
    template = CloudRunWorker.get_default_base_job_template()
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=name, type="cloud-run", base_job_template=template))


async def schedule(pool: str, runs: int) -> None:
    source = await Flow.afrom_source(source=str(HERE), entrypoint="deployed_flows.py:succeed")
    deployment_id = await source.adeploy(pool, work_pool_name=pool, print_next_steps=False, ignore_warnings=True)
    async with get_client() as client:
        for _ in range(runs):
            await client.create_flow_run_from_deployment(deployment_id)


def started(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("w") as output:
        words = [sys.executable, "-m", *command]
        return subprocess.Popen(words, cwd=HERE.parents[1], stdout=output, stderr=subprocess.STDOUT)


def stopped_with(number: signal.Signals, emulator: Emulator, runs: int, command: list[str], log: Path) -> float:
    """Sends a worker the signal when all its runs run, and returns how long it took to end, in seconds."""
    worker = started(command, log)
    try:
        deadline = time.monotonic() + 240
        while "started!" not in log.read_text() or running(emulator) < runs:
            assert worker.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        worker.send_signal(number)
        began = time.monotonic()
        worker.wait(60)
        return time.monotonic() - began
    finally:
        worker.kill()


@pytest.mark.slow
async def test_a_worker_of_prefects_command_ends_when_it_is_told(emulator, tmp_path):
    pool, log = "shutdown-few", tmp_path / "log"
    await make_pool(pool)
    await schedule(pool, 3)
    command = ["prefect", "worker", "start", "--pool", pool, "--type", "cloud-run"]
    took = await asyncio.to_thread(stopped_with, signal.SIGTERM, emulator, 3, command, log)
    assert "stopped!" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert took < 10
    assert running(emulator) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminate"])
@pytest.mark.slow
async def test_five_hundred_runs_delay_the_end_by_less_than_eight_seconds(emulator, tmp_path, monkeypatch, number):
    pool, log = f"shutdown-{number.name.lower()}", tmp_path / "log"
    await make_pool(pool)
    # At its end, Prefect sends what is left of the logs for as long as the server takes.
    monkeypatch.setenv("PREFECT_LOGGING_TO_API_ENABLED", "false")
    # What Prefect itself takes is what a worker takes that has nothing to let go of.
    command = ["tests.python.flooded_worker", pool]
    idle = await asyncio.to_thread(stopped_with, number, emulator, 0, [*command, "0"], log)
    took = await asyncio.to_thread(stopped_with, number, emulator, 500, [*command, "500"], log)
    assert "Worker stopped!" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert took < idle + 8
    assert running(emulator) == 500


@pytest.mark.slow
async def test_a_stop_in_the_middle_of_everything_loses_no_flow_run(emulator, tmp_path, monkeypatch):
    """Some runs wait for a full region, some run, and the jobs of some that have ended are not deleted yet."""
    waiting, ending, executing = 15, 10, 15
    pool, log = "shutdown-mixed", tmp_path / "log"
    await make_pool(pool)
    # The server is busy enough, and the test reads the worker's own output.
    monkeypatch.setenv("PREFECT_LOGGING_TO_API_ENABLED", "false")
    emulator.set_faults(
        {
            "quotas": {"runningExecutions": ending + executing},
            "rules": [{"fault": {"status": {"code": 503}}, "calls": ["jobs.delete"]}],
        }
    )
    await schedule(pool, waiting + ending + executing)
    command = ["prefect", "worker", "start", "--pool", pool, "--type", "cloud-run"]
    worker = started(command, log)
    try:
        deadline = time.monotonic() + 240
        while running(emulator) < ending + executing or log.read_text().count("accepts no more executions") < waiting:
            assert worker.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            await asyncio.sleep(0.5)
        ended = [execution["metadata"]["name"] for execution in emulator.executions()][:ending]
        emulator.set_faults({"quotas": {"runningExecutions": 0}})
        for name in ended:
            cancel(emulator, name)
        worker.send_signal(signal.SIGTERM)
        began = time.monotonic()
        await asyncio.to_thread(worker.wait, 60)
        took = time.monotonic() - began
    finally:
        worker.kill()
    text = log.read_text()
    assert took < 20, text
    assert "Traceback" not in text
    async with get_client() as client:
        # The server answers with 200 at most, and other tests have flow runs, too.
        wanted = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
        states = [run.state.type.value for run in await client.read_flow_runs(work_pool_filter=wanted)]
    assert len(states) == waiting + ending + executing
    # The ended ones failed; the running ones go on.
    assert states.count("SCHEDULED") == waiting, states
    assert running(emulator) == executing
    assert len(emulator.jobs()) == executing, text


@pytest.mark.slow
async def test_a_stop_of_five_hundred_runs_in_all_states_is_bounded_and_forgets_none(emulator, tmp_path, monkeypatch):
    waiting, ending, executing = 200, 100, 200
    pool, log = "shutdown-all", tmp_path / "log"
    await make_pool(pool)
    monkeypatch.setenv("PREFECT_LOGGING_TO_API_ENABLED", "false")
    command = ["tests.python.flooded_worker", pool]
    idle = await asyncio.to_thread(stopped_with, signal.SIGTERM, emulator, 0, [*command, "0"], log)
    emulator.set_faults({"quotas": {"runningExecutions": ending + executing}})
    worker = started([*command, str(waiting + ending + executing), "known"], log)
    try:
        deadline = time.monotonic() + 240
        while running(emulator) < ending + executing or log.read_text().count("accepts no more executions") < waiting:
            assert worker.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            await asyncio.sleep(0.5)
        emulator.set_faults({"quotas": {"runningExecutions": 0}})
        for execution in emulator.executions()[:ending]:
            await asyncio.to_thread(cancel, emulator, execution["metadata"]["name"], "p")
        worker.send_signal(signal.SIGTERM)
        began = time.monotonic()
        await asyncio.to_thread(worker.wait, 60)
        took = time.monotonic() - began
    finally:
        worker.kill()
    text = log.read_text()
    assert took < idle + 8 + 1
    assert "Traceback" not in text
    assert running(emulator) == executing
    # Each flow run that waited is given back, or a line says that it was not: how many depends on the server's speed.
    given_back = text.count("it is scheduled again for another worker")
    left = text.count("had no time to finish") + text.count("could not be given back")
    assert given_back + left >= waiting
    jobs_left = len(emulator.jobs()) - executing
    assert jobs_left <= text.count("may still exist. If it does, delete it") + text.count("still exists. Delete it")


def cancel(emulator: Emulator, execution: str, project: str = "emulator-project") -> None:
    """Cancels an execution, as a person with gcloud would."""
    path = f"apis/run.googleapis.com/v1/namespaces/{project}/executions/{execution}:cancel"
    request = urllib.request.Request(f"{emulator.url}/{path}", data=b"{}", method="POST")
    request.add_header("Content-Type", "application/json")
    urllib.request.urlopen(request, timeout=10).read()
