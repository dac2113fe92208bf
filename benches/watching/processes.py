"""The processes of the bench: the emulator and the worker under test, with the worker's memory, threads and CPU."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from typing_extensions import Self

RUNNER = Path(__file__).with_name("runner.py")
# Longest start of a process. The upstream worker imports many files, which takes long when they are not cached.
START_SECONDS = 60.0
READS = ("jobs.get", "jobs.list", "executions.get", "executions.list")


def environment(home: str, minute_seconds: float = 60) -> dict[str, str]:
    """The environment of all processes: this one's, without the user's Prefect, Google and proxy settings.

    Args:
        home: Home directory, also of Prefect.
        minute_seconds: Length of a minute of the emulator's quotas, a setting of this worker.

    Returns:
        Variables and their values.
    """
    foreign = ("PREFECT_", "GOOGLE_", "CLOUDSDK_", "CLOUD_RUN_", "GCLOUD_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) and not name.lower().endswith("_proxy")
    }
    return kept | {
        "HOME": home,
        "PREFECT_HOME": home,
        "PREFECT_API_URL": "http://127.0.0.1:1/api",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_OBSERVER_REPLICATE_EVENTS": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_QUOTA_PERIOD_SECONDS": str(minute_seconds),
    }


class Child:
    """A process that ends with the context. Its lines of output can be read, and lines written to it."""

    def __init__(self, command: list[str], env: dict[str, str], home: str, log: str) -> None:
        self.log = Path(home, log)
        self._output = self.log.open("w")
        self._process = subprocess.Popen(  # noqa: S603, the command is the bench's own
            command, env=env, cwd=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._output, text=True
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._output.close()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def line(self, seconds: float) -> str:
        """The next line of output.

        Raises:
            RuntimeError: When the process ended, or wrote no line in time; with the end of its log.
        """
        try:
            if line := self._lines.get(timeout=seconds):
                return line
            problem = "ended"
        except queue.Empty:
            problem = f"wrote nothing for {seconds:.0f} s"
        self._output.flush()
        raise RuntimeError(f"the {self.log.stem} {problem}:\n{self.log.read_text()[-3000:]}")

    def send(self, word: str) -> None:
        """Writes a line to the process."""
        assert self._process.stdin
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()


class Emulator(Child):
    """An emulator that only simulates executions."""

    def __init__(self, home: str, record_calls: bool, ready_after: float) -> None:
        command = [sys.executable, "-m", "prefect_gcp.emulator", "--executor", "simulated", "--port", "0"]
        command += ["--ready-after", str(ready_after), "--start-after", "0.1"]
        command += ["--record-calls"] * record_calls
        super().__init__(command, environment(home), home, "emulator.log")
        self.host = self.line(START_SECONDS).rstrip().rpartition("=")[2]

    def get(self, what: str) -> Any:
        """Reads `/emulator/{what}`."""
        with urllib.request.urlopen(f"http://{self.host}/emulator/{what}", timeout=60) as answer:
            return json.load(answer)

    def set_faults(self, faults: dict[str, Any]) -> None:
        """Sets the faults from now on."""
        body = json.dumps(faults).encode()
        request = urllib.request.Request(f"http://{self.host}/emulator/faults", data=body, method="POST")
        request.add_header("content-type", "application/json")
        urllib.request.urlopen(request, timeout=60).close()  # noqa: S310

    def counts(self) -> Counter[str]:
        """Number of calls of each method; empty when the emulator does not count them."""
        try:
            return Counter(self.get("counts"))
        except urllib.error.HTTPError:
            return Counter()

    def lives(self) -> dict[str, dict[str, float]]:
        """For each job, when each event happened. Of deleted jobs only the last ones are kept."""
        from datetime import datetime

        return {
            life["job"]: {
                event["type"]: datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()
                for event in life["events"]
            }
            for life in self.get("history")["jobs"]
        }


class Worker(Child):
    """A worker under test. It is started and idle when the context opens.

    Args:
        kind: "ours" or "upstream".
        python: Python of its environment.
        host: Address of the emulator.
        home: Its home directory.
        spec: `load` (the number of `runs`, their `regions`, the `shortest` duration in seconds and the `spread` of the
            others), `limit` (seconds that all of it may take) and `minute` (seconds of a minute of the quotas).
    """

    def __init__(self, kind: str, python: str, host: str, home: str, spec: dict[str, Any]) -> None:
        env = environment(home, spec["minute"]) | {"CLOUD_RUN_EMULATOR_HOST": host}
        command = [python, str(RUNNER), kind, json.dumps(spec | {"url": f"http://{host}"})]
        super().__init__(command, env, home, f"{kind}-worker.log")
        self.expect("idle", START_SECONDS)

    def expect(self, event: str, seconds: float) -> dict[str, Any]:
        """Waits until the worker reports this event, and returns the report."""
        said: dict[str, Any] = json.loads(self.line(seconds))
        if said["event"] != event:
            raise RuntimeError(f"expected {event!r} from the {self.log.stem}, got {said['event']!r}")
        return said

    def megabytes(self) -> float:
        """Private memory, in megabytes."""
        return private_megabytes(self._process.pid)

    def threads(self) -> int:
        """Number of threads."""
        return len(list(Path(f"/proc/{self._process.pid}/task").iterdir()))

    def cpu_seconds(self) -> float:
        """CPU time used so far, in seconds."""
        return cpu_seconds(self._process.pid)


def private_megabytes(pid: int) -> float:
    """Private memory of a process, in megabytes. Reading it stops the process for a moment."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    fields = dict(line.split()[:2] for line in lines)
    return (int(fields["Private_Clean:"]) + int(fields["Private_Dirty:"])) / 1024


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watcher:
    """Samples a worker's memory and threads, and keeps the highest values."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._at, self._cpu = time.monotonic(), worker.cpu_seconds()
        self.megabytes, self.threads = 0.0, 0

    def sample(self, seconds: float) -> None:
        """Samples for this long, or until the worker has ended."""
        end = time.monotonic() + seconds
        while True:
            try:
                self.megabytes = max(self.megabytes, self._worker.megabytes())
                self.threads = max(self.threads, self._worker.threads())
            except (OSError, KeyError):
                return
            if (left := end - time.monotonic()) <= 0:
                return
            # Reading the memory's map stops the worker for a moment.
            time.sleep(min(5, left))

    @property
    def seconds(self) -> float:
        """Seconds since the first sample."""
        return time.monotonic() - self._at

    @property
    def cpu_percent(self) -> float:
        """Share of a core that the worker has used since then, in percent."""
        return (self._worker.cpu_seconds() - self._cpu) / self.seconds * 100


def home() -> tempfile.TemporaryDirectory[str]:
    """A directory for the processes of one session."""
    return tempfile.TemporaryDirectory(prefix="bench-")
