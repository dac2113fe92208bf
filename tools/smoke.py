"""Tries an installed wheel: import, version, command, emulator, and one job that the worker runs on the emulator.

python tools/smoke.py VERSION

It uses nothing of the clone, and talks to loopback only.
"""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

# Longest time for the run of a job that takes a second, in seconds.
_TIME = 60


def main(expected: str) -> int:
    """Tries it, and returns the exit code.

    Args:
        expected: The version that must be installed.
    """
    with tempfile.TemporaryDirectory() as home:
        # Prefect reads them when it is imported. Nobody listens at the address, and nothing is to be sent there.
        os.environ.update(
            PREFECT_HOME=home,
            PREFECT_API_URL="http://127.0.0.1:1/api",
            PREFECT_LOGGING_TO_API_ENABLED="false",
            PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_OBSERVER_REPLICATE_EVENTS="false",
            DO_NOT_TRACK="1",
        )
        return _try(expected)


def _try(expected: str) -> int:
    command = [str(Path(sys.executable).with_name("prefect-gcp-cloud-run")), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=_TIME, check=True).stdout  # noqa: S603
    found = {metadata.version("prefect-gcp-cloud-run"), said.split()[-1]}
    if found != {expected}:
        sys.stderr.write(f"smoke: the version is {found}, not {expected}\n")
        return 1
    from prefect_gcp.emulator import Emulator

    with Emulator(ready_after=0.05, start_after=0.05, delete_after=0.05) as emulator:
        os.environ["CLOUD_RUN_EMULATOR_HOST"] = emulator.host
        status = asyncio.run(asyncio.wait_for(_run_a_job(), _TIME))
        events = [event["type"] for event in emulator.history()[0]["events"]]
    if status != 0 or "executionSucceeded" not in events:
        sys.stderr.write(f"smoke: the job ended with status {status}: {events}\n")
        return 1
    prefect = metadata.version("prefect")
    sys.stdout.write(f"smoke: {expected} works with Python {platform.python_version()} and Prefect {prefect}\n")
    return 0


async def _run_a_job() -> int:
    from prefect.client.schemas.objects import FlowRun

    from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration

    template = CloudRunWorker.get_default_base_job_template()
    values = {"command": "true", "credentials": {"project": "smoke"}}
    nobody: Any = SimpleNamespace()
    configuration: Any = await CloudRunWorkerJobConfiguration.from_template_and_values(template, values, client=nobody)
    flow_run = FlowRun(id=uuid4(), flow_id=uuid4(), name="smoke")
    configuration.prepare_for_flow_run(flow_run)
    result = await CloudRunWorker(work_pool_name="smoke").run(flow_run, configuration)
    return result.status_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
