"""Runs for the tests that no secret leaks. Their fixtures, `watch` and `evil_google`, are in conftest.py."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from prefect.client.schemas.objects import FlowRun

from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration
from tests.python import leaks

SETTING = "PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_"
# Settings with which a run that fails does so soon.
QUICK = {
    "POLL_INTERVAL_SECONDS": "0.2",
    "REQUEST_TIMEOUT_SECONDS": "1",
    "RETRY_MAX_ATTEMPTS": "2",
    "RETRY_MAX_SECONDS": "1",
    "RETRY_INITIAL_DELAY_SECONDS": "0.01",
    "QUOTA_WAIT_MAX_SECONDS": "1",
    "QUOTA_PERIOD_SECONDS": "0.5",
}


def a_flow_run() -> FlowRun:
    return FlowRun(id=uuid4(), flow_id=uuid4(), name="a-flow-run")


async def prepared(flow_run: FlowRun, key: Any = None, project: str = "p", **values) -> CloudRunWorkerJobConfiguration:
    template = CloudRunWorker.get_default_base_job_template()
    values = {
        "command": "true",
        "timeout": 5,
        "credentials": {"project": project, "service_account_info": key},
    } | values
    if isinstance(env := values.get("env", {}), dict):
        values["env"] = {**leaks.ENV, **env}
    client: Any = SimpleNamespace()
    configuration = await CloudRunWorkerJobConfiguration.from_template_and_values(template, values, client=client)
    configuration.prepare_for_flow_run(flow_run)
    return configuration


async def run(watch: leaks.Watch, where: str, status: Any = None, **values) -> Any:
    """Runs a flow run and returns its result; the watch checks the exception when it ends with one."""
    flow_run = a_flow_run()
    try:
        configuration = await prepared(flow_run, **values)
        # A run whose execution has started outlasts any fault, so the wait is limited.
        return await asyncio.wait_for(CloudRunWorker(work_pool_name="p").run(flow_run, configuration, status), 4)
    except BaseException as error:
        watch.catch(where, error)
        return error
