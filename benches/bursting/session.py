"""One burst: flow runs of one deployment that are due at once, a worker process, and the measurements of it."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx

from ..watching.processes import cpu_seconds, private_megabytes

if TYPE_CHECKING:
    from prefect_gcp.emulator import Emulator

COUNTED_WORKER = Path(__file__).with_name("counted_worker.py")
READY_AFTER = 0.2
START_SECONDS = 120.0
# What a worker still does for the last flow run after its start belongs to the burst.
SETTLE_SECONDS = 3.0
# These requests are not made for a flow run: polls, beats, logs in batches.
SHARED_PATHS = ("/api/work_pools/", "/api/logs/", "/api/admin/", "/api/csrf-token", "/api/health", "/api/events")
TEMPLATE = """
import json
from prefect_gcp.workers.cloud_run import CloudRunWorker
print(json.dumps(CloudRunWorker.get_default_base_job_template()))
"""


@dataclass(frozen=True)
class Contender:
    """A worker to measure.

    Attributes:
        name: How the table names it.
        kind: "ours" or "upstream".
        python: Python of its environment.
        off: The parts of this worker that are switched off, with commas; "-" for none.
        settings: Environment variables of its own.
    """

    name: str
    kind: str
    python: str
    off: str = "-"
    settings: tuple[tuple[str, str], ...] = ()


class Server:
    """A Prefect server that runs.

    Args:
        process: Its process.
        url: URL of its API.
    """

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, trust_env=False, timeout=60)
        self._process = process

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Sends a request, again while the database is locked, and returns the answer."""
        deadline = time.monotonic() + START_SECONDS
        while (answer := self.http.post(path, json=body)).status_code == httpx.codes.SERVICE_UNAVAILABLE:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        answer.raise_for_status()
        made: dict[str, Any] = answer.json()
        return made

    def cpu_seconds(self) -> float:
        """CPU time that the server has used, in seconds."""
        return sum(cpu_seconds(pid) for pid in descendants(self._process.pid))


@contextmanager
def prefect_server(python: str, env: dict[str, str], home: Path, port: int) -> Iterator[Server]:
    """Runs a Prefect server."""
    command = [python, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    log = home / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=env, cwd=home, stdout=output, stderr=output)  # noqa: S603
    server = Server(process, f"http://127.0.0.1:{port}/api")
    try:
        wait_for(lambda: _is_up(server), process, log)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def burst(
    contender: Contender, runs: int, server: Server, env: dict[str, str], home: Path, limit: float
) -> dict[str, Any]:
    """Lets a worker start flow runs that are due at once.

    Args:
        contender: The worker.
        runs: How many flow runs.
        server: The Prefect server.
        env: Environment of the worker.
        home: A directory for logs.
        limit: Longest time until the last start, in seconds.

    Returns:
        The measurements. Times are in seconds, from the answer to the poll that brought the first flow runs.
    """
    from prefect_gcp.emulator import Emulator

    name = f"burst-{uuid4().hex[:8]}"
    pool = _make_flow_runs(contender, runs, server, name)
    log, report = home / f"{name}.log", home / f"{name}.json"
    with Emulator(ready_after=READY_AFTER, start_after=0.1, executor="simulated", duration=3600) as emulator:
        env = env | dict(contender.settings) | {"CLOUD_RUN_EMULATOR_HOST": emulator.host}
        command = [
            contender.python,
            str(COUNTED_WORKER),
            contender.kind,
            str(report),
            emulator.url,
            contender.off,
            name,
        ]
        with log.open("w") as output:
            worker = subprocess.Popen(command, env=env, cwd=home, stdout=output, stderr=output)  # noqa: S603
        try:
            wait_for(lambda: "started!" in log.read_text(), worker, log)
            # Its first poll and beat belong to its start.
            time.sleep(SETTLE_SECONDS)
            before, cpu, server_cpu = _report(worker, report), cpu_seconds(worker.pid), server.cpu_seconds()
            memory = Memory(worker.pid)
            server.http.patch(f"/work_pools/{pool}", json={"is_paused": False}).raise_for_status()
            deadline = time.monotonic() + limit
            while emulator.counts().get("jobs.run", 0) < runs and time.monotonic() < deadline:
                if worker.poll() is not None:
                    raise RuntimeError(f"the worker ended:\n{log.read_text()[-3000:]}")
                time.sleep(0.2)
            time.sleep(SETTLE_SECONDS)
            after = _report(worker, report)
            cpu, server_cpu = cpu_seconds(worker.pid) - cpu, server.cpu_seconds() - server_cpu
            most = memory.stop()
        finally:
            worker.kill()
            worker.wait(30)
        starts = sorted(at - after["first poll"] for at in _starts(emulator))
    calls = Counter(after["calls"])
    calls.subtract(before["calls"])
    own = {call: count for call, count in calls.items() if count and not call.split(" ")[1].startswith(SHARED_PATHS)}
    return {
        "name": contender.name,
        "kind": contender.kind,
        "runs": runs,
        "started": len(starts),
        "first": starts[0] if starts else None,
        "median": statistics.median_low(starts) if starts else None,
        "last": starts[-1] if starts else None,
        "calls": own,
        "calls per run": sum(own.values()) / runs,
        "worker CPU": cpu,
        "server CPU": server_cpu,
        "MB": most,
        "log lines": log.read_text().count("\n"),
    }


class Memory:
    """Samples the private memory of a process until it is stopped."""

    def __init__(self, pid: int) -> None:
        self._pid, self._most, self._over = pid, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Returns the highest value, in megabytes."""
        self._over.set()
        self._thread.join()
        return self._most

    def _sample(self) -> None:
        while True:
            self._most = max(self._most, private_megabytes(self._pid))
            if self._over.wait(2):
                return


def descendants(pid: int) -> list[int]:
    """A process and all that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(below for child in children for below in descendants(int(child)))]


def wait_for(condition: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits until a process that starts is ready.

    Raises:
        RuntimeError: If it ends, or takes too long; with the end of its log.
    """
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{log.stem} did not start:\n{log.read_text()[-3000:]}")
        time.sleep(0.2)


def _is_up(server: Server) -> bool:
    try:
        return server.http.get("/health").is_success
    except httpx.TransportError:
        return False


def _make_flow_runs(contender: Contender, runs: int, server: Server, name: str) -> str:
    """Makes a work pool that is paused, a deployment, and its flow runs, which are due. Returns the pool's name."""
    template = json.loads(subprocess.check_output([contender.python, "-c", TEMPLATE], timeout=120))  # noqa: S603
    pool = {"name": name, "type": "cloud-run", "base_job_template": template, "is_paused": True}
    server.post("/work_pools/", pool)
    # Each flow run's template refers to a variable, as many people's do.
    server.post("/variables/", {"name": name.replace("-", "_"), "value": "a value"})
    flow_id = server.post("/flows/", {"name": "burst"})["id"]
    variables = {"env": {"FROM_A_VARIABLE": f"{{{{ prefect.variables.{name.replace('-', '_')} }}}}"}, "timeout": 3600}
    deployment = {"name": name, "flow_id": flow_id, "work_pool_name": name, "job_variables": variables}
    deployment_id = server.post("/deployments/", deployment)["id"]
    due = datetime.now(timezone.utc).isoformat()
    scheduled = {"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": due}}}
    with ThreadPoolExecutor(8) as threads:
        path = f"/deployments/{deployment_id}/create_flow_run"
        list(threads.map(lambda _: server.post(path, scheduled), range(runs)))
    return name


def _report(worker: subprocess.Popen[bytes], report: Path) -> dict[str, Any]:
    report.unlink(missing_ok=True)
    worker.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + 60
    while not report.exists():
        if time.monotonic() > deadline:
            raise RuntimeError("the worker does not report")
        time.sleep(0.05)
    seen: dict[str, Any] = json.loads(report.read_text())
    return seen


def _starts(emulator: Emulator) -> list[float]:
    """When each execution was asked for."""
    return [
        datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()
        for life in emulator.history()
        for event in life["events"]
        if event["type"] == "executionCreated"
    ]
