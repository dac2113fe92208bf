"""Worker processes of Prefect's command line: cancels while runs wait, redeployments, restarts."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.flows import Flow

from prefect_gcp.emulator import Emulator
from prefect_gcp.workers.cloud_run import CloudRunWorker
from tests.python import eventually, forked
from tests.python.light_flow import light_flow

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]

HERE = Path(__file__).parent
FULL = {"quotas": {"runningExecutions": 0}}
WAITS = "Cloud Run accepts no more executions for now"


@pytest.fixture
def emulator(monkeypatch) -> Iterator[Emulator]:
    with Emulator(ready_after=0.1, start_after=0.1, delete_after=0.1) as running:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", running.host)
        yield running


@pytest.fixture
async def pool() -> str:
    name = f"processes-{uuid4().hex[:8]}"
    template = CloudRunWorker.get_default_base_job_template()
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=name, type="cloud-run", base_job_template=template))
    return name


async def deploy(pool: str, seconds: float = 0, **job_variables: object) -> UUID:
    """Makes a deployment whose flow runs take so many seconds."""
    source = await Flow.afrom_source(source=str(HERE), entrypoint="deployed_flows.py:succeed")
    variables = {"command": light_flow(seconds)} | job_variables
    return await source.adeploy(
        pool, work_pool_name=pool, job_variables=variables, print_next_steps=False, ignore_warnings=True
    )


async def schedule(deployment_id: UUID) -> FlowRun:
    async with get_client() as client:
        return await client.create_flow_run_from_deployment(deployment_id)


async def read(flow_run: FlowRun) -> FlowRun:
    async with get_client() as client:
        return await client.read_flow_run(flow_run.id)


async def state_of(flow_run: FlowRun) -> str:
    return (await read(flow_run)).state.name


class Process:
    """A worker that Prefect's command line runs."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()


@contextmanager
def worker_of(pool: str, tmp_path: Path, module: str = "prefect", **settings: str) -> Iterator[Process]:
    path = tmp_path / f"{uuid4().hex}.log"
    command = [sys.executable, "-m", module, "worker", "start", "--pool", pool, "--type", "cloud-run"]
    env = os.environ | {"PREFECT_WORKER_QUERY_SECONDS": "1", **settings}
    with path.open("w") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield Process(process, path)
    finally:
        process.kill()
        process.wait(30)


async def until(condition: Callable[[], object], worker: Process, seconds: float = 90) -> None:
    """Waits for something that other programs do."""
    await eventually.until(condition, seconds, pause=0.2, said=lambda: worker.log)


async def cancel(flow_run: FlowRun) -> None:
    done = await asyncio.to_thread(forked.run, "prefect", "flow-run", "cancel", str(flow_run.id))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("has_cancellation", ["false", "true"])
async def test_a_run_that_is_cancelled_while_the_region_is_full_never_starts(
    emulator, pool, tmp_path, has_cancellation
):
    emulator.set_faults(FULL)
    flow_run = await schedule(await deploy(pool))
    with worker_of(pool, tmp_path, PREFECT_WORKER_ENABLE_CANCELLATION=has_cancellation) as worker:
        await until(lambda: WAITS in worker.log, worker)
        await cancel(flow_run)
        emulator.set_faults({})
        await until(lambda: not emulator.jobs(), worker)
        await until(lambda: _is(flow_run, "Cancelled"), worker)
        # The worker notices on its own, or Prefect tells it to.
        await until(lambda: "is not started, because the flow run was cancelled" in worker.log, worker)
        assert emulator.executions() == []
        assert "Traceback" not in worker.log


async def _is(flow_run: FlowRun, name: str) -> bool:
    return await state_of(flow_run) == name


async def test_runs_that_a_stopped_worker_gave_back_are_run_by_the_next_one(emulator, pool, tmp_path):
    emulator.set_faults(FULL)
    deployment_id = await deploy(pool)
    flow_runs = [await schedule(deployment_id) for _ in range(4)]
    with worker_of(pool, tmp_path) as worker:
        await until(lambda: worker.log.count(WAITS) == len(flow_runs), worker)
        worker.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.process.wait, 40) is not None
        assert "Traceback" not in worker.log
    assert not emulator.jobs()
    assert {await state_of(flow_run) for flow_run in flow_runs} <= {"Scheduled", "Late"}
    emulator.set_faults({})
    with worker_of(pool, tmp_path) as worker:
        for flow_run in flow_runs:
            await until(lambda flow_run=flow_run: _is(flow_run, "Completed"), worker)
        await until(lambda: not emulator.jobs(), worker)
    # One container for each.
    assert worker.log.count("started execution") == len(flow_runs)


@pytest.mark.parametrize("what", ["moved", "deleted"])
async def test_a_kill_by_the_next_worker_finds_the_job_after_its_deployment_was(pool, tmp_path, monkeypatch, what):
    # The container does not start while the test lasts, so that Prefect's clean-up kills it.
    with Emulator(ready_after=0.1, start_after=600) as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
        deployment_id = await deploy(pool, region="us-east1")
        flow_run = await schedule(deployment_id)
        with worker_of(pool, tmp_path) as worker:
            await until(lambda: "started execution" in worker.log, worker)
            await until(lambda: _has_labels(flow_run), worker)
            # It has no chance to do anything about its job.
            worker.process.kill()
        assert len(emulator.jobs()) == 1
        if what == "moved":
            assert await deploy(pool, region="europe-west1") == deployment_id
        else:
            async with get_client() as client:
                await client.delete_deployment(deployment_id)
        with worker_of(pool, tmp_path) as worker:
            await until(lambda: "started!" in worker.log, worker)
            await cancel(flow_run)
            await until(lambda: not emulator.jobs(), worker)
            await until(lambda: _is(flow_run, "Cancelled"), worker)
            assert "Traceback" not in worker.log


async def _has_labels(flow_run: FlowRun) -> bool:
    return "cloud-run.job" in (await read(flow_run)).labels
