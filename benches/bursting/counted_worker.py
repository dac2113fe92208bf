"""`prefect worker start` in an environment of its own, with a count of its requests to Prefect.

    python counted_worker.py ours|upstream REPORT EMULATOR_URL PART,…|- POOL

The Python of the worker's environment runs it. On SIGUSR1 it writes the report: how often it asked what, and when a
poll brought flow runs first. The named parts of this worker are switched off.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

ID = re.compile(r"[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}")
NAME = re.compile(r"(?<=/name/)[^/]+")
seen: dict[str, Any] = {"first poll": None, "calls": Counter()}


def count_requests() -> None:
    """Counts every attempt of a request."""
    send = httpx.AsyncClient.send

    async def counted(client: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        response = await send(client, request, **options)
        path = NAME.sub("{name}", ID.sub("{id}", request.url.path))
        seen["calls"][f"{request.method} {path}"] += 1
        if path.endswith("/get_scheduled_flow_runs") and seen["first poll"] is None and len(response.content) > 2:
            seen["first poll"] = time.time()
        return response

    httpx.AsyncClient.send = counted  # type: ignore[assignment,method-assign]


def report_on_demand(report: Path) -> None:
    """Writes the report whenever the bench asks for it."""

    def write(_signal: int, _frame: object) -> None:
        new = report.with_suffix(".new")
        new.write_text(json.dumps(seen))
        new.rename(report)

    signal.signal(signal.SIGUSR1, write)


def switch_off(parts: list[str]) -> None:
    """Makes this worker do as Prefect does, in the named parts."""
    from prefect.workers.base import BaseJobConfiguration

    from prefect_gcp.workers import cloud_run

    if "environment" in parts:
        inherited = BaseJobConfiguration.__dict__["_base_environment"]
        cloud_run.CloudRunWorkerJobConfiguration._base_environment = inherited  # type: ignore[method-assign]
    if "sharing" in parts:
        cloud_run.SharingClient = lambda client, *_: client  # type: ignore[assignment,misc]
    if "order" in parts:
        os.environ["PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_SUBMISSIONS_AT_ONCE"] = "1000"


def main() -> None:
    """Runs Prefect's command line."""
    kind, report, url, off, pool = sys.argv[1:]
    count_requests()
    report_on_demand(Path(report))
    if kind == "upstream":
        from watching.runner import point_the_upstream_worker_at

        point_the_upstream_worker_at(url)
    elif off != "-":
        switch_off(off.split(","))
    sys.argv = ["prefect", "worker", "start", "--pool", pool, "--type", "cloud-run", "--name", "bench"]
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
