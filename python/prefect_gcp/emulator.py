"""A Cloud Run for one machine: the API for jobs and executions, without a Google account.

As a program, `python -m prefect_gcp.emulator --port 8080`; in tests, a context manager:

    with Emulator() as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)

Containers' commands run as processes of this machine, as the user who starts the emulator, with exactly the
container's environment plus `PATH` and the variables that Cloud Run sets. Whoever reaches the address can run commands:
it listens on loopback only, unless told otherwise.
"""

from __future__ import annotations

import argparse
import errno
import ipaddress
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from prefect_gcp._core import EmulatorServer

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from typing_extensions import NotRequired, Self

__all__ = ["Emulator", "Event", "JobLife", "RecordedCall"]

Outcome = Literal["success", "failure", "timeout"]


class Event(TypedDict):
    """Something that happened to a job: the time in RFC 3339, and what.

    Types: created, replaced, ready, notReady, executionCreated, executionStarted, taskRetried, executionSucceeded,
    executionFailed, executionCancelled, deletionRequested, deleted.
    """

    time: str
    type: str
    execution: NotRequired[str]
    message: NotRequired[str]


class JobLife(TypedDict):
    """The life of a job, deleted or not: its events, oldest first."""

    project: str
    region: str
    job: str
    uid: str
    events: list[Event]


class RecordedCall(TypedDict):
    """A call of the API, with its query parameters and its body, the status of its answer (0: none), and its fault.

    Values of environments are masked in the body.
    """

    method: str
    region: str | None
    path: str
    query: list[tuple[str, str]]
    body: Any
    status: int
    fault: NotRequired[str]


class Emulator:
    """A Cloud Run emulator that runs while the context is open; it can be opened once.

    Args:
        host: IP address to listen on, or "localhost".
        port: Port to listen on; 0 takes a free one.
        log_dir: Directory of the executions' logs; None makes a temporary one.
        projects: Projects that exist, by id or number; when none is given, every project does.
        ready_after: Seconds until a new job is ready.
        start_after: Seconds until the tasks of a new execution start.
        delete_after: Seconds that a deleted job stays readable after its last task ended.
        executor: "process" runs commands, "simulated" only lets time pass.
        duration: Seconds that a simulated try of a task takes.
        outcome: How a simulated try of a task ends.
        secrets: Secrets by name, for environment variables with a `secretKeyRef`.
        kill_grace: Seconds between SIGTERM and SIGKILL for what is cancelled, deleted or timed out.
        page_size: Most items in a page of a list.
        faults: What goes wrong: see `set_faults`.
        record_calls: Whether `calls()` remembers the calls, with all but values of environments.
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
        outcome: Outcome = "success",
        secrets: Mapping[str, str] | None = None,
        kill_grace: float = 10.0,
        page_size: int = 1000,
        faults: Mapping[str, Any] | None = None,
        record_calls: bool = False,
    ) -> None:
        ip = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        # The containers' `python` is the one that runs here, where Prefect is installed.
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
            OSError: The address can't be listened on, or the log directory not be used.
            RuntimeError: It was started before.
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
        """Stop the emulator and all that it runs. What it knows stays readable."""
        self._running().stop()

    @property
    def host(self) -> str:
        """`IP:PORT`, the value for `CLOUD_RUN_EMULATOR_HOST`."""
        return self._running().address

    @property
    def url(self) -> str:
        """Address of the API, and of the page that shows what happens."""
        return f"http://{self.host}"

    @property
    def log_dir(self) -> Path:
        """Directory of the executions' logs, one file `{execution}.log` each. A temporary one goes with this object."""
        return self._running().log_dir

    def set_faults(self, faults: Mapping[str, Any]) -> None:
        """Switch faults on, in the place of those before; an empty mapping switches all off.

        Args:
            faults: `rules`, the first of which that hits a call is its fault; `quotas`; `tokenSeconds`; `seed`. The
                README has them all. `{"rules": [{"fault": {"status": {"code": 503}}, "ratio": 0.1}]}`, say, answers
                one call in ten with 503.

        Raises:
            ValueError: When they are not of this form; the text says where.
        """
        self._running().set_faults(json.dumps(faults))

    def faults_met(self) -> dict[str, int]:
        """How often calls met what (`status 503`, `reset after`, `quota` …) since these faults were switched on."""
        return self._running().faults_met()

    def counts(self) -> dict[str, int]:
        """How often each method of the API was called since the start (`jobs.run`, `executions.list` …)."""
        return self._running().counts()

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs of all projects and regions, oldest first, as the API shows them."""
        return self._running().jobs()

    def executions(self) -> list[dict[str, Any]]:
        """All executions of all projects and regions, oldest first, as the API shows them."""
        return self._running().executions()

    def history(self) -> list[JobLife]:
        """The lives of all jobs, also of the last 10 000 deleted ones, in the order of their creation."""
        return self._running().history()  # type: ignore[return-value]

    def calls(self) -> list[RecordedCall]:
        """The last 10 000 calls, oldest first; none unless `record_calls` was given."""
        return self._running().calls()  # type: ignore[return-value]

    def _running(self) -> EmulatorServer:
        if self._server is None:
            raise RuntimeError("The emulator is not started: use it as a context manager.")
        return self._server


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the emulator until SIGINT or SIGTERM.

    Args:
        arguments: Command line without the program's name; None takes the process's own.

    Returns:
        The exit status: 0 after a signal, 1 when it could not be started.
    """
    options = _parser().parse_args(arguments)
    told_to_stop = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        told_to_stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    secrets = dict(options.__dict__.pop("secret"))
    projects = options.__dict__.pop("project")
    try:
        with Emulator(**vars(options), projects=projects, secrets=secrets) as emulator:
            message = f"Cloud Run emulator at {emulator.url}  use it: export CLOUD_RUN_EMULATOR_HOST={emulator.host}\n"
            sys.stdout.write(message)
            sys.stdout.flush()
            told_to_stop.wait()
    except (OSError, ValueError) as error:
        hint = " Another --port may be free; 0 takes one." if getattr(error, "errno", None) == errno.EADDRINUSE else ""
        reason = getattr(error, "strerror", None) or error
        sys.stderr.write(f"{reason}{hint}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prefect_gcp.emulator",
        description="A Cloud Run for one machine: runs the commands of Cloud Run jobs as local processes.",
    )
    add = parser.add_argument
    add("--port", type=int, default=8080, help="port to listen on; 0 takes a free one (default: %(default)s)")
    add(
        "--host",
        default="127.0.0.1",
        help="IP address to listen on (default: %(default)s); whoever reaches it runs commands as you",
    )
    add("--log-dir", type=Path, metavar="DIR", help="directory of the executions' logs (default: a temporary one)")
    add("--project", action="append", default=[], metavar="P", help="a project that exists; repeatable (default: all)")
    add(
        "--ready-after",
        type=float,
        default=0.4,
        metavar="S",
        help="seconds until a new job is ready (default: %(default)s)",
    )
    add("--start-after", type=float, default=0.2, metavar="S", help="seconds until tasks start (default: %(default)s)")
    add(
        "--executor",
        choices=["process", "simulated"],
        default="process",
        help="run commands (default), or only let time pass",
    )
    add(
        "--duration",
        type=float,
        default=1.0,
        metavar="S",
        help="seconds that a simulated try takes (default: %(default)s)",
    )
    add(
        "--outcome",
        choices=["success", "failure", "timeout"],
        default="success",
        help="how a simulated try ends (default: %(default)s)",
    )
    add(
        "--secret",
        type=_secret,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a secret for secretKeyRef; repeatable",
    )
    add(
        "--faults",
        type=_faults,
        metavar="JSON|FILE",
        help="what goes wrong, as JSON or a file of it (see the README); POST /emulator/faults changes it",
    )
    add("--record-calls", action="store_true", help="show all calls, with their bodies, at /emulator/calls")
    return parser


def _faults(text: str) -> Any:
    try:
        return json.loads(text if text.lstrip().startswith("{") else Path(text).read_text())
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"no faults can be read from it: {error}") from error


def _secret(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        # Not the text itself: it may be the secret.
        raise argparse.ArgumentTypeError("expected NAME=VALUE")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
