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
    "added_labels",
    "check_api_endpoint",
    "check_body_skeleton",
    "check_job_body",
    "container_env",
    "is_job_name",
    "job_name",
    "render_template",
    "sanitize_labels",
]

__version__: str

def check_api_endpoint(text: str) -> None:
    """Checks an address of the API, with `{region}` where the region belongs.

    Raises:
        ValueError: When it is none, or would show the access token to the network.
    """

def is_job_name(text: str) -> bool:
    """Whether the service takes `text` as a job's name: `[a-z]([-a-z0-9]*[a-z0-9])?`, 63 characters at most."""

def sanitize_labels(labels: dict[str, str]) -> dict[str, str]:
    """Labels made valid for Google: lower case, `-` for other characters than `[a-z0-9_-]`, cut at 63."""

def added_labels(prefect_labels: dict[str, str], existing_labels: dict[Any, Any]) -> dict[str, str]:
    """Prefect's labels, made valid, that have room beside the existing ones: 64 in all, of which existing ones win."""

def job_name(slug: str | None, unique: str | None = None) -> str:
    """A legal name of a job.

    Args:
        slug: Lower-case letters, digits and dashes; a word takes their place when there are none.
        unique: 32 hexadecimal digits, to make it differ from every other name.
    """

def container_env(own: list[Any], env: dict[str, str], secrets: list[tuple[str, str, str]]) -> list[Any]:
    """A container's `env`.

    Args:
        own: The template's entries; those that `env` or `secrets` name again are left out.
        env: Plain variables.
        secrets: Name of the variable, name of the secret, version of the secret.
    """

def check_body_skeleton(body: object) -> str | None:
    """What a job body lacks of the least that every body has, in a sentence; None when it has it all."""

def check_job_body(body: object) -> list[str]:
    """Checks a finished job body against the API's schema and documented limits.

    Returns:
        What the API may not take, a sentence each.

    Raises:
        ValueError: When JSON can't carry the body, or the API would refuse the type of something in it.
    """

def render_template(template: object, values: dict[str, Any], *, unset: object, exact_keys: bool) -> Any:
    """Renders the `{{ placeholder }}`s of a template, as `prefect.utilities.templating.apply_values` does.

    Args:
        template: Mappings, lists, texts, numbers, booleans and nulls.
        values: Values of any type for the placeholders.
        unset: The object that means that there is no value, in the template and in the values.
        exact_keys: Whether `a.1` is looked for at the key `"1"` before it is at the key 1, as since Prefect 3.9.

    Returns:
        New mappings and lists, with the values themselves in place of lone placeholders; `unset` for a template that is
        a placeholder without a value.

    Raises:
        ValueError: When the template holds something else, or is nested deeper than 500 levels.
    """

@final
class Client:
    """Calls to the Cloud Run Admin API v1 in one project and region.

    Connections and tokens are shared by all clients of the process, so a client is cheap.

    Raises:
        ValueError: When the project, the region, the endpoint or a number of seconds can't be used.
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
        quota_wait_max_seconds: float,
        quota_period_seconds: float,
    ) -> Self: ...
    def run_job(
        self,
        body: dict[str, Any],
        *,
        job: str,
        owner_label: tuple[str, str] | None = None,
        keep_job: bool,
        ready_timeout_seconds: float,
    ) -> Run:
        """Starts a run: creates the job, waits for it, executes it once, watches it, and removes it.

        Args:
            body: The job.
            job: Its name, as in the body.
            owner_label: Key and value of the label that tells this job from somebody else's of the same name.
            keep_job: Whether the job stays after its end.
            ready_timeout_seconds: Longest wait for the job to become ready.

        Raises:
            ValueError: When JSON can't carry the body, or the name is not one of a job.
        """

    def kill_job(self, job: str, *, owner_label: tuple[str, str] | None = None) -> Run:
        """Deletes a job, which stops its executions. One that is being deleted already counts as deleted.

        A run of the job in this process starts no execution meanwhile, and ends when the job is deleted.

        Args:
            job: Its name.
            owner_label: Key and value of a label; a job that carries another value of it stays.

        Returns:
            The kill in progress. Its iteration raises `CloudRunNotFoundError` when the job is not there or carries
            another value of the label, and another `CloudRunError` when a call failed for good.

        Raises:
            ValueError: When the name is not one of a job.
        """

@final
class Run:
    """A run, or a kill, in progress: an asynchronous iterator of its events, which ends with the run.

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
    """A running Cloud Run emulator. `prefect_gcp.emulator.Emulator` wraps it and has defaults.

    All times are in seconds. `address` is `IP:PORT`. `simulated` is a duration and an outcome, or None to run
    processes. `faults` is JSON.

    Raises:
        ValueError: A value is invalid.
        OSError: The emulator can't listen on the address or use the log directory.
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
        faults: str,
        record_calls: bool,
    ) -> EmulatorServer: ...
    @property
    def address(self) -> str:
        """The address that it listens on, `IP:PORT`."""
    @property
    def log_dir(self) -> Path:
        """Directory of the logs, one file `{execution}.log` for each execution."""
    def stop(self) -> None:
        """Stop the emulator. Blocks until all its processes have ended, without holding the GIL."""
    def set_faults(self, faults: str) -> None:
        """Replace the faults by these, in JSON. Raises ValueError when they are invalid."""
    def faults_met(self) -> dict[str, int]:
        """The number of calls that each fault hit since the faults were set."""
    def counts(self) -> dict[str, int]:
        """The number of calls of each method of the API."""
    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, oldest first, in the form of the API."""
    def executions(self) -> list[dict[str, Any]]:
        """All executions, oldest first, in the form of the API."""
    def history(self) -> list[dict[str, Any]]:
        """The history of all jobs, deleted ones included."""
    def calls(self) -> list[dict[str, Any]]:
        """The recorded calls, oldest first; empty unless `record_calls` is true."""
