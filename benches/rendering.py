"""Measures rendering and preparing a job, and Prefect's own functions in the same run: `make bench-rendering`.

Each figure is the best of several rounds, in microseconds per job.
"""

from __future__ import annotations

import asyncio
import copy
import os
import sys
import timeit
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

# No server is needed: neither template has blocks or variables.
os.environ.setdefault("PREFECT_API_URL", "http://127.0.0.1:1/api")

from prefect.client.schemas.objects import FlowRun
from prefect.utilities.templating import apply_values
from prefect.workers.base import BaseJobConfiguration

from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration
from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run.workers._templates import render

ROUNDS = 7
LOOP = asyncio.new_event_loop()
FLOW_RUN = FlowRun(id=uuid4(), flow_id=uuid4(), name="funny-name", state=None)
VALUES: dict[str, Any] = {
    "name": "my-etl",
    "image": "europe-docker.pkg.dev/my-project/flows/my-flow:1",
    "region": "europe-west1",
    "cpu": "1000m",
    "memory": "2Gi",
    "timeout": 3600,
    "env": {f"VARIABLE_{n}": f"value {n}" for n in range(10)},
}


def microseconds(function: Callable[[], object]) -> float:
    """The time of one call, in microseconds."""
    timer = timeit.Timer(function)
    calls, _ = timer.autorange()
    return min(timer.repeat(ROUNDS, calls)) / calls * 1e6


class Base(BaseJobConfiguration):
    """A configuration with this worker's fields that Prefect renders."""

    model_config = CloudRunWorkerJobConfiguration.model_config | {"extra": "allow"}


def configure(configuration: type[BaseJobConfiguration], template: dict[str, Any]) -> Any:
    """Makes a configuration from the template, as a worker does."""
    client: Any = SimpleNamespace()
    return LOOP.run_until_complete(configuration.from_template_and_values(template, VALUES, client=client))


def job(configuration: type[BaseJobConfiguration], template: dict[str, Any]) -> Any:
    """Makes and prepares a configuration as a worker does."""
    made = configure(configuration, template)
    made.prepare_for_flow_run(FLOW_RUN)
    return made


def main() -> None:
    """Measures all and prints the table."""
    template = CloudRunWorker.get_default_base_job_template()
    large = copy.deepcopy(template)
    annotations = large["job_configuration"]["job_body"]["metadata"]["annotations"]
    annotations |= {f"example.com/key-{n}": f"{{{{ key_{n} }}}}" for n in range(250)}
    annotations |= {f"example.com/text-{n}": f"{{{{ key_{n} }}}} and {{{{ region }}}}" for n in range(250)}
    values = VALUES | {f"key_{n}": f"value {n}" for n in range(250)}

    rows = []
    for name, body, variables in [
        ("rendering, default template", template["job_configuration"], VALUES),
        ("rendering, 500 keys more", large["job_configuration"], values),
    ]:
        assert render(body, variables) == apply_values(body, variables)
        ours = microseconds(lambda body=body, variables=variables: render(body, variables))
        theirs = microseconds(lambda body=body, variables=variables: apply_values(body, variables))
        rows.append((name, ours, theirs))
    for name, make in [("from_template_and_values", configure), ("the same, and prepare_for_flow_run", job)]:
        ours = microseconds(lambda make=make: make(CloudRunWorkerJobConfiguration, template))
        theirs = microseconds(lambda make=make: make(Base, template))
        rows.append((name, ours, theirs))
    body = job(CloudRunWorkerJobConfiguration, template).job_body
    rows.append(("check of the finished body", microseconds(lambda: _core.check_job_body(body)), None))

    write = sys.stdout.write
    write("| | here, µs | Prefect's, µs | times faster |\n|---|---|---|---|\n")
    for name, ours, theirs in rows:
        compared = f"{theirs:.0f} | {theirs / ours:.1f}" if theirs else "none |"
        write(f"| {name} | {ours:.0f} | {compared} |\n")


if __name__ == "__main__":
    main()
