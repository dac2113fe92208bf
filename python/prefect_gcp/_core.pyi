"""The Rust core, as Python sees it."""

from collections.abc import Awaitable
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, final

from typing_extensions import Self

__all__ = [
    "Client",
    "EmulatorServer",
    "Run",
    "RunEvent",
    "__version__",
    "check_body_skeleton",
    "container_env",
    "is_job_name",
    "merge_labels",
    "sanitize_labels",
]

__version__: str

def is_job_name(text: str) -> bool:
    """Whether the service takes `text` as a job's name: `[a-z]([-a-z0-9]*[a-z0-9])?`, 63 characters at most."""

def sanitize_labels(labels: dict[str, str]) -> dict[str, str]:
    """Labels made valid for Google: lower case, `-` for other characters than `[a-z0-9_-]`, cut at 63."""

def merge_labels(prefect_labels: dict[str, str], existing_labels: dict[str, str]) -> dict[str, str]:
    """The existing labels unchanged, and Prefect's made valid as far as the limit of 64 leaves room."""

def container_env(own: list[Any], env: dict[str, str], secrets: list[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """A container's `env`.

    Args:
        own: The template's entries; those that `env` or `secrets` name again are left out.
        env: Plain variables.
        secrets: Name of the variable, name of the secret, version of the secret.

    Raises:
        ValueError: When `own` holds something that JSON can't carry.
    """

def check_body_skeleton(body: object) -> str | None:
    """What a job body lacks of the least that every body has, in a sentence; None when it has it all."""

@final
class Client:
    """Calls to the Cloud Run Admin API v1 in one project and region.

    Connections and tokens are shared by all clients of the process, so a client is cheap.

    Raises:
        ValueError: When the region, the endpoint or a number of seconds can't be used.
    """

    def __new__(
        cls,
        *,
        project: str,
        region: str,
        service_account_info: str | None = None,
        service_account_file: str | PathLike[str] | None = None,
        api_endpoint: str | None = None,
        emulator_host: str | None = None,
        poll_interval_seconds: float,
        request_timeout_seconds: float,
        retry_max_attempts: int,
        retry_max_seconds: float,
        retry_initial_delay_seconds: float,
        retry_max_delay_seconds: float,
    ) -> Self: ...
    def run_job(
        self,
        body: str,
        *,
        job: str,
        owner_label: tuple[str, str] | None = None,
        keep_job: bool,
        ready_timeout_seconds: float,
    ) -> Run:
        """Starts a run: creates the job, waits for it, executes it once, watches it, and removes it.

        Args:
            body: The job as JSON text.
            job: Its name, as in the body.
            owner_label: Key and value of the label that tells this job from somebody else's of the same name.
            keep_job: Whether the job stays after its end.
            ready_timeout_seconds: Longest wait for the job to become ready.

        Raises:
            ValueError: When the body is not JSON.
        """

    def delete_job(self, job: str, *, owner_label: tuple[str, str] | None = None) -> Awaitable[None]:
        """Deletes a job, which stops its executions. One that is being deleted already counts as deleted.

        Args:
            job: Its name.
            owner_label: Key and value of a label; a job that carries another value of it stays.

        Raises:
            CloudRunNotFoundError: When the job is not there, or carries another value of the label.
            CloudRunError: When a call failed for good.
        """

@final
class Run:
    """A run in progress: an asynchronous iterator of its events, which ends with the run.

    As a context manager it stops watching on exit. The execution, if there is one, goes on.

    Raises:
        CloudRunError: From the iteration, when the run could not be started or is watched no longer.
    """

    @property
    def status_code(self) -> int | None:
        """0 succeeded, 1 failed, -1 deleted while it ran; None before the end."""

    def close(self) -> None:
        """Stops watching."""

    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Awaitable[RunEvent]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@final
class RunEvent:
    """Something that happened to a run."""

    @property
    def kind(self) -> str:
        """What it was: `created`, `awaiting_ready`, `started`, `succeeded`, `retrying` and so on."""

    @property
    def level(self) -> int:
        """A level of `logging`."""

    @property
    def message(self) -> str:
        """The line for the flow run's log."""

@final
class EmulatorServer:
    """A running Cloud Run emulator. Use `prefect_gcp.emulator.Emulator`, which has defaults.

    All times are in seconds. `address` is `IP:PORT`, `simulated` a duration and an outcome, or None for processes.

    Raises:
        ValueError: A value is not what it should be.
        OSError: The address can't be listened on, or the log directory not be used.
    """

    def __new__(
        cls,
        *,
        address: str,
        path: str,
        projects: list[str],
        secrets: dict[str, str],
        ready_after: float,
        start_after: float,
        delete_after: float,
        kill_grace: float,
        log_dir: Path | None,
        simulated: tuple[float, str] | None,
        page_size: int,
        record_calls: bool,
    ) -> EmulatorServer: ...
    @property
    def address(self) -> str:
        """`IP:PORT` that it listens on."""
    @property
    def log_dir(self) -> Path:
        """Directory of the executions' logs."""
    def stop(self) -> None:
        """Stop it; returns when no process is left. Blocks, without holding the GIL."""
    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, oldest first, as the API shows them."""
    def executions(self) -> list[dict[str, Any]]:
        """All executions, oldest first, as the API shows them."""
    def history(self) -> list[dict[str, Any]]:
        """The lives of all jobs, also of deleted ones."""
    def calls(self) -> list[dict[str, Any]]:
        """The calls so far, if they are recorded."""
