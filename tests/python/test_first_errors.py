"""The errors of docs/errors.md: each block of the page is what a worker and a real server show in that case.

`make docs` writes the blocks anew.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.flows import Flow

from prefect_gcp.emulator import Emulator
from prefect_gcp.workers.cloud_run import CloudRunWorker
from prefect_gcp_cloud_run._default_project import DefaultProject

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/errors.md"
WRITES = "WRITE_DOCS"
POOL = "errors"
SETTINGS = "PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_"
FULL = "Quota exceeded for total allowable count of running executions per project per region."
MINUTE = (
    "Quota exceeded for quota metric 'Write requests' and limit 'Write requests per minute per region' of service "
    "'run.googleapis.com'"
)


@dataclass
class Case:
    """What is wrong, and how the flow run ends.

    Attributes:
        variables: Job variables of the deployment.
        refusal: What the API answers to `calls`: status, reason and message.
        calls: The calls that it answers so. None: all.
        times: How often.
        environment: Environment variables of the worker.
        task: What the template's task has beside the default one.
        has_google: False: nothing stands for Google, as on a machine on which nobody has logged in.
        goes_on: Whether the flow run runs all the same.
    """

    variables: dict[str, Any] = field(default_factory=dict)
    refusal: dict[str, Any] | None = None
    calls: str | None = "jobs.create"
    times: int | None = None
    environment: dict[str, str] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    has_google: bool = True
    goes_on: bool = False

    @property
    def faults(self) -> dict[str, Any]:
        if self.refusal is None:
            return {}
        rule: dict[str, Any] = {"fault": {"status": self.refusal}}
        if self.calls is not None:
            rule["calls"] = [self.calls]
        if self.times is not None:
            rule["times"] = self.times
        return {"rules": [rule]}


def denied(permission: str) -> dict[str, Any]:
    what = "namespaces/my-project/jobs/JOB"
    return {
        "code": 403,
        "message": f"Permission '{permission}' denied on resource '{what}' (or resource may not exist).",
    }


ACT_AS = (
    "Permission 'iam.serviceaccounts.actAs' denied on service account prefect-jobs@my-project.iam.gserviceaccount.com "
    "(or it may not exist)."
)
DISABLED = "Cloud Run Admin API has not been used in project my-project before or it is disabled."
NO_MODULE = "ModuleNotFoundError: No module named my_package"
CASES = {
    "credentials": Case(has_google=False),
    "credentials-typo": Case({"credentials": {"service_acount_file": "/secrets/key.json"}}),
    "credentials-raw": Case({"credentials": {"type": "service_account", "project_id": "my-project"}}),
    "api": Case(refusal={"code": 403, "reason": "SERVICE_DISABLED", "message": DISABLED}),
    "role": Case(refusal=denied("run.jobs.create")),
    "act-as": Case(refusal={"code": 403, "message": ACT_AS}),
    "region": Case({"region": "us-centrall1"}, refusal={"code": 404, "body": "html"}, calls=None),
    "image": Case({"image": "registry.invalid/my-project/my-flow:1"}),
    "full": Case(
        refusal={"code": 429, "message": FULL}, calls="jobs.run", environment={f"{SETTINGS}QUOTA_WAIT_MAX_SECONDS": "1"}
    ),
    "minute": Case(
        {"command": "true"},
        refusal={"code": 429, "reason": "RATE_LIMIT_EXCEEDED", "message": MINUTE},
        times=1,
        goes_on=True,
        environment={f"{SETTINGS}QUOTA_PERIOD_SECONDS": "1"},
    ),
    "variable-typo": Case({"memroy": "4Gi", "command": "true"}, goes_on=True),
    "template": Case(task={"maxRetries": 11}),
    "module": Case({"command": f"sh -c 'echo {NO_MODULE} >&2; exit 1'"}, task={"maxRetries": 0}),
}


@pytest.fixture(scope="module")
def deployment(prefect_server) -> UUID:
    """The deployment of a pool of this name, which is there once for all cases."""

    async def deploy() -> UUID:
        async with CloudRunWorker(work_pool_name=POOL):
            """Makes the pool."""
        source = await Flow.afrom_source(source=str(HERE), entrypoint="deployed_flows.py:write_task")
        return await source.adeploy("errors", work_pool_name=POOL, print_next_steps=False, ignore_warnings=True)

    return asyncio.run(deploy())


async def seen(case: Case, deployment: UUID, folder: Path, caplog: pytest.LogCaptureFixture) -> str:
    """Runs a flow run in a pool and environment of which one thing is wrong.

    Returns:
        The worker's warnings and errors in the flow run's log, and the state that the flow run ends in.
    """
    template = CloudRunWorker.get_default_base_job_template()
    template["job_configuration"]["job_body"]["spec"]["template"]["spec"]["template"]["spec"] |= case.task
    async with get_client() as client:
        await client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))
        flow_run = await client.create_flow_run_from_deployment(
            deployment, name="my-run", parameters={"folder": str(folder)}, job_variables=case.variables
        )
        caplog.clear()
        with caplog.at_level(logging.WARNING, "prefect.flow_runs"):
            worker = CloudRunWorker(work_pool_name=POOL, prefetch_seconds=60)
            await asyncio.wait_for(worker.start(run_once=True), 120)
        state = (await client.read_flow_run(flow_run.id)).state
    assert state.is_crashed() is not case.goes_on, state
    lines = [
        f"{record.levelname:<8}| {record.getMessage()}"
        for record in caplog.records
        # Prefect's own line about a failed submission is a traceback that ends with the state's message.
        if record.name.startswith("prefect.flow_runs") and not record.exc_info
    ]
    return plain("\n".join(lines if case.goes_on else [*lines, f"Crashed | {state.message}"]))


def plain(text: str) -> str:
    """A text without what differs from run to run."""
    text = re.sub(r"my-run-[0-9a-f]{32}-[a-z0-9]{5}", "my-run-…-abcde", text)
    text = re.sub(r"my-run-[0-9a-f]{32}", "my-run-…", text)
    text = re.sub(r"after \d+ attempts? in \d+\.\d+ s", "after 3 attempts in 1.0 s", text)
    # Pydantic adds the address of its own documentation, with its version.
    text = re.sub(r"\n +For further information visit \S+", "", text)
    return text.replace("emulator-project", "my-project")


def block_of(name: str) -> re.Pattern[str]:
    """Where the page has the block of a case."""
    return re.compile(rf"(<!-- made by make docs: {name} -->\n```text\n)(.*?)(\n```\n)", re.DOTALL)


@pytest.mark.parametrize("name", CASES)
async def test_the_page_shows_what_one_sees(name, deployment, tmp_path, monkeypatch, caplog):
    case = CASES[name]
    for variable, value in case.environment.items():
        monkeypatch.setenv(variable, value)
    if case.has_google:
        with Emulator(faults=case.faults) as emulator:
            monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
            text = await seen(case, deployment, tmp_path, caplog)
            if case.goes_on:
                (execution,) = emulator.executions()
                assert execution["status"]["succeededCount"] == 1
    else:
        monkeypatch.setattr("prefect_gcp_cloud_run._default_project.default_project", DefaultProject())
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        text = await seen(case, deployment, tmp_path, caplog)
    page = PAGE.read_text()
    found = block_of(name).search(page)
    assert found is not None, f"docs/errors.md needs a block for {name}"
    if WRITES in os.environ:
        assert "PYTEST_XDIST_WORKER" not in os.environ, "two processes would write the page"
        PAGE.write_text(block_of(name).sub(lambda match: match[1] + text + match[3], page))
    else:
        assert found[2] == text, "run make docs"


def test_each_block_of_the_page_has_a_case():
    assert re.findall(r"<!-- made by make docs: ([\w-]+) -->", PAGE.read_text()) == list(CASES)
