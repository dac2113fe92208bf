"""Two worker processes whose calls count against the same quota."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate

from prefect_gcp.emulator import Emulator
from prefect_gcp.workers.cloud_run import CloudRunWorker
from tests.python import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PERIOD = 4.0
QUOTA = 60


@pytest.fixture
def emulator(monkeypatch):
    with Emulator(ready_after=0.1, start_after=0.1, executor="simulated", duration=3600, record_calls=True) as running:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", running.host)
        running.set_faults({"quotas": {"writes": QUOTA, "minuteSeconds": PERIOD}})
        yield running


async def make_pool(name: str) -> None:
    template = CloudRunWorker.get_default_base_job_template()
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=name, type="cloud-run", base_job_template=template))


def worker(pool: str, runs: int, log: Path) -> subprocess.Popen[bytes]:
    with log.open("w") as output:
        command = [sys.executable, "-m", "tests.python.flooded_worker", pool, str(runs)]
        return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)


def created(emulator: Emulator, pool: str) -> int:
    return sum(job["metadata"]["name"].startswith(pool) for job in emulator.jobs())


async def test_a_worker_gets_its_share_beside_the_backlog_of_another_one(emulator, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_QUOTA_PERIOD_SECONDS", str(PERIOD))
    first, second = (f"{kind}-{uuid4().hex[:6]}" for kind in ("first", "second"))
    for pool in (first, second):
        await make_pool(pool)
    logs = tmp_path / "first.log", tmp_path / "second.log"
    one = worker(first, 1000, logs[0])
    two = None
    try:
        await until(lambda: created(emulator, first) > 2 * QUOTA, logs)
        before, calls_before = created(emulator, first), len(emulator.calls())
        two = worker(second, 40, logs[1])
        await until(lambda: created(emulator, second) > 0, logs)
        began = time.monotonic()
        await until(lambda: created(emulator, second) == 40, logs)
        took, others = time.monotonic() - began, created(emulator, first) - before
        creates = [
            call
            for call in emulator.calls()[calls_before:]
            if call["method"] == "POST" and call["path"].endswith("/jobs")
        ]
        refused = sum(call["status"] == 429 for call in creates)
        # Alone it would take two or three periods.
        assert took < 10 * PERIOD
        assert others > 20
        assert refused < 0.3 * len(creates)
    finally:
        for process in (one, two):
            if process is not None:
                process.kill()


async def until(condition, logs, seconds: float = 120) -> None:
    await eventually.until(
        condition, seconds, pause=0.2, said=lambda: [log.read_text()[-2000:] for log in logs if log.exists()]
    )
