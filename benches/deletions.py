"""Measures the memory of deletes that wait: `make bench-deletions`.

The emulator, a process of its own, answers every delete with 503. This process runs flow runs that succeed, so each of
them leaves a job to delete, and prints its memory (RSS) as their number grows.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

from .watching.processes import Emulator, environment

FAULTS: dict[str, Any] = {"rules": [{"fault": {"status": {"code": 503}}, "calls": ["jobs.delete"]}]}
AT_ONCE = 200
COUNTS = [200, 1000, 5000, 10000]


def main() -> int:
    """Prints the memory for each number of waiting deletes, and returns the exit status."""
    parser = argparse.ArgumentParser(description="The memory of deletes that wait.")
    parser.add_argument("counts", type=int, nargs="*", default=COUNTS, help="numbers of deletes, growing")
    counts = parser.parse_args().counts
    with tempfile.TemporaryDirectory() as home, Emulator(home, record_calls=False, ready_after=0.1) as emulator:
        emulator.set_faults(FAULTS)
        # Prefect reads its settings when it is imported.
        os.environ.update(environment(home), CLOUD_RUN_EMULATOR_HOST=emulator.host, PREFECT_LOGGING_LEVEL="CRITICAL")
        asyncio.run(_measure(counts))
    sys.stdout.flush()
    # An orderly exit would wait for the deletes, and name each job that is left.
    os._exit(0)


async def _measure(counts: list[int]) -> None:
    from prefect_gcp.workers.cloud_run import CloudRunWorker

    worker, room, done = CloudRunWorker(work_pool_name="bench"), asyncio.Semaphore(AT_ONCE), 0
    for count in counts:
        await asyncio.gather(*(_run(worker, room, number) for number in range(done, count)))
        done = count
        gc.collect()
        sys.stdout.write(f"{count:6} deletes wait: {_resident_kilobytes() / 1024:.1f} MiB\n")
        sys.stdout.flush()


async def _run(worker: Any, room: asyncio.Semaphore, number: int) -> None:
    from prefect.client.schemas.objects import FlowRun

    from prefect_gcp.workers.cloud_run import CloudRunWorkerJobConfiguration

    values = {"command": "true", "credentials": {"project": "p"}}
    client: Any = None
    async with room:
        flow_run = FlowRun(id=uuid4(), flow_id=uuid4(), name=f"bench-{number}")
        configuration = await CloudRunWorkerJobConfiguration.from_template_and_values(
            worker.get_default_base_job_template(), values, client=client
        )
        configuration.prepare_for_flow_run(flow_run)
        execution = configuration.job_body["spec"]["template"]
        execution["metadata"].setdefault("annotations", {})["cloud-run-emulator/duration-seconds"] = "0"
        result = await worker.run(flow_run, configuration)
        assert result.status_code == 0


def _resident_kilobytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    sys.exit(main())
