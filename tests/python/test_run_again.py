"""Flow runs that crashed at submission and run again, by Prefect's own automations: docs/diagnosis.md."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.flows import Flow
from pydantic import TypeAdapter

from prefect_gcp.emulator import Emulator
from prefect_gcp.workers.cloud_run import CloudRunWorker
from tests.python.eventually import until
from tests.python.light_flow import light_flow

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/diagnosis.md"
# The ids of the page's two deployments.
FIRST, SECOND = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
FULL = {"quotas": {"runningExecutions": 0}}
# The worker does not wait for room in the region.
NO_PATIENCE = "PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_QUOTA_WAIT_MAX_SECONDS"


@pytest.fixture
def emulator(monkeypatch):
    monkeypatch.setenv(NO_PATIENCE, "0")
    with Emulator(faults=FULL) as running:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", running.host)
        yield running


def automation_of(name: str, names: dict[str, str]) -> AutomationCore:
    """The automation of this name in the documents, with names of this test in the place of the page's."""
    (section,) = re.findall(r"\n## Run it again\n(.*?)\n## ", PAGE.read_text(), re.DOTALL)
    (text,) = [block for block in re.findall(r"```yaml\n(.*?)```", section, re.DOTALL) if f"name: {name}\n" in block]
    for ours, theirs in names.items():
        assert ours in text, ours
        text = text.replace(ours, theirs)
    return TypeAdapter(AutomationCore).validate_python(yaml.safe_load(text))


async def deploy(pool: str, name: str, **job_variables: str) -> str:
    source = await Flow.afrom_source(source=str(HERE), entrypoint="deployed_flows.py:write_task")
    variables = {"command": light_flow()} | job_variables
    deployed = await source.adeploy(
        name, work_pool_name=pool, job_variables=variables, print_next_steps=False, ignore_warnings=True
    )
    return str(deployed)


async def work(pool: str) -> None:
    """Takes what is scheduled by now, and sees it through."""
    await asyncio.wait_for(CloudRunWorker(work_pool_name=pool, prefetch_seconds=60).start(run_once=True), 120)


async def test_a_flow_run_that_crashed_for_lack_of_room_is_scheduled_again_by_an_automation(emulator, tmp_path):
    pool = f"again-{uuid4().hex[:8]}"
    async with CloudRunWorker(work_pool_name=pool):
        """Makes the pool."""
    deployment_id = await deploy(pool, pool)
    async with get_client() as client:
        automation_id = await client.create_automation(automation_of("run-again", {"my-pool": pool}))
        flow_run = await client.create_flow_run_from_deployment(deployment_id, parameters={"folder": str(tmp_path)})
        await work(pool)

        async def is_scheduled_again():
            return (await client.read_flow_run(flow_run.id)).state.is_scheduled()

        await until(is_scheduled_again)
        states = [state.name for state in await client.read_flow_run_states(flow_run.id)]
        assert "Crashed" in states
        assert states[-1] == "AwaitingRetry"
        emulator.set_faults({})
        await work(pool)
        states = [state.name for state in await client.read_flow_run_states(flow_run.id)]
        assert states[-1] == "Completed", states
        await client.delete_automation(automation_id)


async def test_a_crash_of_another_cause_is_left_alone(emulator, tmp_path):
    pool = f"again-{uuid4().hex[:8]}"
    async with CloudRunWorker(work_pool_name=pool):
        """Makes the pool."""
    emulator.set_faults({})
    # The flow's container ends at once.
    broken, full = await deploy(pool, "broken", command="sh -c 'exit 3'"), await deploy(pool, "full")
    async with get_client() as client:
        automation_id = await client.create_automation(automation_of("run-again", {"my-pool": pool}))
        other = await client.create_flow_run_from_deployment(broken, parameters={"folder": str(tmp_path)})
        await work(pool)
        assert (await client.read_flow_run(other.id)).state.message.startswith("ExitCode 3: ")
        emulator.set_faults(FULL)
        witness = await client.create_flow_run_from_deployment(full, parameters={"folder": str(tmp_path)})
        await work(pool)

        # When the automation has dealt with the later crash, it has dealt with the earlier one.
        async def is_scheduled_again():
            return (await client.read_flow_run(witness.id)).state.is_scheduled()

        await until(is_scheduled_again)
        assert (await client.read_flow_run(other.id)).state.is_crashed()
        await client.delete_automation(automation_id)


async def test_a_full_region_runs_another_deployment_with_the_same_parameters(emulator, tmp_path):
    pool = f"again-{uuid4().hex[:8]}"
    async with CloudRunWorker(work_pool_name=pool):
        """Makes the pool."""
    deployment_id = await deploy(pool, "usual", region="us-central1")
    elsewhere = await deploy(pool, "elsewhere", region="europe-west1")
    async with get_client() as client:
        names = {FIRST: deployment_id, SECOND: elsewhere, "my_parameter": "folder"}
        automation_id = await client.create_automation(automation_of("run-elsewhere", names))
        await client.create_flow_run_from_deployment(deployment_id, parameters={"folder": str(tmp_path)})
        await work(pool)

        async def runs_elsewhere():
            runs = await client.read_flow_runs(limit=200)
            return [run for run in runs if str(run.deployment_id) == elsewhere]

        (again,) = await until(runs_elsewhere)
        assert again.parameters == {"folder": str(tmp_path)}
        emulator.set_faults({})
        await work(pool)
        assert (await client.read_flow_run(again.id)).state.is_completed()
        await client.delete_automation(automation_id)
