"""An emulator of Cloud Run jobs: the API for jobs and executions on this machine, without a Google account.

Run it as a program, `python -m prefect_gcp.emulator --port 8080`, or use it as a context manager in tests:

    with Emulator() as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)

The emulator runs the commands of containers as processes on this machine, as the user who started it. A process gets
the environment of its container, `PATH`, and the variables that Cloud Run sets, and nothing else.

Security: whoever can connect to the emulator's address can run commands. By default it listens on a loopback address.
"""

from __future__ import annotations

import argparse
import errno
import ipaddress
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from prefect_gcp_cloud_run._core import EmulatorServer

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from typing_extensions import NotRequired, Self

__all__ = ["Emulator", "Event", "JobLife", "RecordedCall"]

_MAX_PORT = 65535


class Event(TypedDict):
    """An event in the life of a job, with its time in RFC 3339.

    Values of `type`: created, replaced, ready, notReady, executionCreated, executionStarted, taskRetried,
    executionSucceeded, executionFailed, executionCancelled, deletionRequested, deleted.
    """

    time: str
    type: str
    execution: NotRequired[str]
    message: NotRequired[str]


class JobLife(TypedDict):
    """The history of a job, which may have been deleted: its events, oldest first."""

    project: str
    region: str
    job: str
    uid: str
    events: list[Event]


class RecordedCall(TypedDict):
    """A call of the API that the emulator received.

    `body` is the JSON body with masked values of environment variables. `status` is the HTTP status of the response, 0
    when none was sent. `fault` is the name of the injected fault, if any.
    """

    method: str
    region: str | None
    path: str
    query: list[tuple[str, str]]
    body: Any
    status: int
    fault: NotRequired[str]


class Emulator:
    """A Cloud Run emulator that runs while its context is open. Each object can be started only once.

    Args:
        host: IP address to listen on, or "localhost".
        port: Port to listen on; 0 takes a free one.
        log_dir: Directory of the logs, one file for each execution; None creates a temporary directory.
        projects: Projects that exist, by id or number. When it is empty, every project exists.
        ready_after: Seconds from the creation of a job until it is ready.
        start_after: Seconds from the creation of an execution until its tasks start.
        delete_after: Seconds that a deleted job stays readable after its last execution ended.
        executor: "process" runs the commands of containers, "simulated" runs nothing and only lets time pass.
        duration: Seconds that a simulated attempt of a task takes.
        outcome: How a simulated attempt of a task ends: "success", "failure", "timeout", "out-of-memory", "exit-code=N"
            or "signal=N".
        secrets: Secrets by name, for environment variables with a `secretKeyRef`.
        kill_grace: Seconds between SIGTERM and SIGKILL when a task is cancelled, deleted or timed out.
        page_size: Maximum number of items in a page of a list.
        faults: Faults to inject from the start; see `set_faults`.
        record_calls: Whether to record calls for `calls()`. Values of environment variables are masked.

    Raises:
        ValueError: `host` is not an IP address, or `port` is out of range.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        log_dir: str | os.PathLike[str] | None = None,
        projects: Sequence[str] = (),
        ready_after: float = 0.4,
        start_after: float = 0.2,
        delete_after: float = 0.2,
        executor: Literal["process", "simulated"] = "process",
        duration: float = 1.0,
        outcome: str = "success",
        secrets: Mapping[str, str] | None = None,
        kill_grace: float = 10.0,
        page_size: int = 1000,
        faults: Mapping[str, Any] | None = None,
        record_calls: bool = False,
    ) -> None:
        ip = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        if not 0 <= port <= _MAX_PORT:
            raise ValueError(f"port must be 0 to {_MAX_PORT}, got {port}")
        # Containers find this process's `python` first: Prefect is installed there.
        search = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
        self._settings: dict[str, Any] = {
            "address": f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}",
            "path": os.pathsep.join(search),
            "projects": list(projects),
            "secrets": dict(secrets or {}),
            "ready_after": ready_after,
            "start_after": start_after,
            "delete_after": delete_after,
            "kill_grace": kill_grace,
            "log_dir": None if log_dir is None else Path(log_dir),
            "simulated": (duration, outcome) if executor == "simulated" else None,
            "page_size": page_size,
            "faults": json.dumps(faults or {}),
            "record_calls": record_calls,
        }
        self._server: EmulatorServer | None = None

    def __enter__(self) -> Self:
        """Start the emulator.

        Raises:
            OSError: The emulator can't listen on the address or use the log directory.
            ValueError: A setting has an invalid value.
            RuntimeError: This object was started before.
        """
        if self._server is not None:
            raise RuntimeError("An emulator can be started only once.")
        self._server = EmulatorServer(**self._settings)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the emulator and end all its processes. Its jobs, executions and history stay readable."""
        self._running().stop()

    @property
    def host(self) -> str:
        """`IP:PORT`, the value for `CLOUD_RUN_EMULATOR_HOST`."""
        return self._running().address

    @property
    def url(self) -> str:
        """URL of the API, and of the page that shows jobs and executions."""
        return f"http://{self.host}"

    @property
    def log_dir(self) -> Path:
        """Directory of the logs, one file `{execution}.log` for each execution.

        A temporary directory is removed together with this object.
        """
        return self._running().log_dir

    def set_faults(self, faults: Mapping[str, Any]) -> None:
        """Replace the injected faults; an empty mapping removes all.

        Args:
            faults: A mapping with `rules`, `quotas`, `tokenSeconds` and `seed`, all optional; docs/emulator.md
                describes them. The first rule that hits a call decides its fault. For example,
                `{"rules": [{"fault": {"status": {"code": 503}}, "ratio": 0.1}]}` answers one call in ten with 503.

        Raises:
            ValueError: The faults are invalid. The message names the place and the problem.
        """
        self._running().set_faults(json.dumps(faults))

    def faults_met(self) -> dict[str, int]:
        """Return how many calls each fault hit since the faults were set, by name: `status 503`, `quota`."""
        return self._running().faults_met()

    def counts(self) -> dict[str, int]:
        """Return the number of calls of each method of the API since the start, by name: `jobs.run`."""
        return self._running().counts()

    def jobs(self) -> list[dict[str, Any]]:
        """Return the jobs of all projects and regions, oldest first, in the form of the API."""
        return self._running().jobs()

    def executions(self) -> list[dict[str, Any]]:
        """Return the executions of all projects and regions, oldest first, in the form of the API."""
        return self._running().executions()

    def history(self) -> list[JobLife]:
        """Return the history of all jobs and of the last 10,000 deleted ones, in the order of their creation."""
        return self._running().history()  # type: ignore[return-value]

    def calls(self) -> list[RecordedCall]:
        """Return the last 10,000 calls, oldest first; empty unless `record_calls` is true."""
        return self._running().calls()  # type: ignore[return-value]

    def _running(self) -> EmulatorServer:
        if self._server is None:
            raise RuntimeError("The emulator is not started; use it as a context manager.")
        return self._server


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the emulator until SIGINT or SIGTERM.

    Args:
        arguments: Command-line arguments without the program's name; None means those of this process.

    Returns:
        The exit status: 0 after a signal, 1 when the emulator could not be started.
    """
    options = _parser().parse_args(arguments)
    stop_requested = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stop_requested.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    secrets = dict(options.__dict__.pop("secret"))
    projects = options.__dict__.pop("project")
    try:
        with Emulator(**vars(options), projects=projects, secrets=secrets) as emulator:
            message = (
                f"Cloud Run emulator at {emulator.url}  To use it: export CLOUD_RUN_EMULATOR_HOST={emulator.host}\n"
            )
            sys.stdout.write(message)
            sys.stdout.flush()
            stop_requested.wait()
    except (OSError, ValueError) as error:
        hint = (
            ". Choose another --port; 0 takes a free one." if getattr(error, "errno", None) == errno.EADDRINUSE else ""
        )
        reason = getattr(error, "strerror", None) or error
        sys.stderr.write(f"{reason}{hint}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prefect_gcp.emulator",
        description="Emulates Cloud Run jobs on this machine: runs their commands as local processes.",
    )
    add = parser.add_argument
    add("--port", type=_port, default=8080, help="port to listen on; 0 takes a free one (default: %(default)s)")
    add(
        "--host",
        default="127.0.0.1",
        help="IP address to listen on (default: %(default)s); whoever can connect to it can run commands as you",
    )
    add("--log-dir", type=Path, metavar="DIR", help="directory of the logs (default: a temporary one)")
    add(
        "--project",
        action="append",
        default=[],
        metavar="P",
        help="a project that exists; repeatable (default: every project exists)",
    )
    add(
        "--ready-after",
        type=_seconds,
        default=0.4,
        metavar="S",
        help="seconds from a job's creation until it is ready (default: %(default)s)",
    )
    add(
        "--start-after",
        type=_seconds,
        default=0.2,
        metavar="S",
        help="seconds from an execution's creation until its tasks start (default: %(default)s)",
    )
    add(
        "--executor",
        choices=["process", "simulated"],
        default="process",
        help="run commands (default), or simulate them: run nothing and only let time pass",
    )
    add(
        "--duration",
        type=_seconds,
        default=1.0,
        metavar="S",
        help="seconds that a simulated attempt of a task takes (default: %(default)s)",
    )
    add(
        "--outcome",
        default="success",
        help="how a simulated attempt of a task ends: success (default), failure, timeout, out-of-memory, exit-code=N "
        "or signal=N",
    )
    add(
        "--secret",
        type=_secret,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a secret for environment variables with a secretKeyRef; repeatable",
    )
    add(
        "--faults",
        type=_faults,
        metavar="JSON|FILE",
        help="faults to inject, as JSON or a JSON file (see docs/emulator.md); POST /emulator/faults replaces them",
    )
    add("--record-calls", action="store_true", help="record calls with their bodies, and show them at /emulator/calls")
    return parser


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) <= _MAX_PORT):
        raise argparse.ArgumentTypeError(f"must be 0 to {_MAX_PORT}, got {text}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds of at least 0, got {text}")
    return seconds


def _faults(text: str) -> Any:
    try:
        return json.loads(text if text.lstrip().startswith("{") else Path(text).read_text())
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"could not read the faults: {error}") from error


def _secret(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        # The message does not repeat the text, which may be the secret.
        raise argparse.ArgumentTypeError("expected NAME=VALUE")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
