"""The Rust core, as Python sees it."""

from collections.abc import Awaitable
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, final

from typing_extensions import Self

from prefect_gcp.settings import CloudRunWorkerSettings

__all__ = [
    "Client",
    "Credentials",
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
class Credentials:
    """Credentials of a client. Without a key, the application default credentials of the environment.

    Args:
        service_account_info: A service account's key, as JSON text.
        service_account_file: Path of a service account's key file.
    """

    def __new__(
        cls,
        *,
        service_account_info: str | None = None,
        service_account_file: str | PathLike[str] | None = None,
    ) -> Self: ...

@final
class Client:
    """Calls to the Cloud Run Admin API v1 in one project and region.

    All clients of a process share connections, tokens and quotas, so creating a client is cheap.

    Args:
        project: Project id.
        region: Region, such as `us-central1`.
        credentials: Credentials of the worker.
        settings: The worker's settings. The client reads them once, at its creation.

    Raises:
        ValueError: If the project, the region, the endpoint or a number of seconds is invalid.
    """

    def __new__(
        cls,
        *,
        project: str,
        region: str,
        credentials: Credentials,
        settings: CloudRunWorkerSettings,
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
        """Starts a run: creates the job, waits until it is ready, starts one execution, watches it and deletes the job.

        Args:
            body: The job.
            job: The job's name, as in the body.
            owner_label: Key and value of the label that tells this job from other jobs of the same name.
            keep_job: Whether to keep the job after it has completed.
            ready_timeout_seconds: Longest wait for the job to become ready, in seconds.

        Raises:
            ValueError: If the body can't be written as JSON, or the name is not a valid job name.
        """

    def kill_job(self, job: str, *, owner_label: tuple[str, str] | None = None) -> Run:
        """Deletes a job, which stops its executions. A job that is already being deleted counts as deleted.

        A run of the job in this process starts no execution meanwhile, and ends when the job is deleted.

        Args:
            job: The job's name.
            owner_label: Key and value of a label. A job with another value of the label is not deleted.

        Returns:
            The kill in progress. Its iteration raises `CloudRunNotFoundError` if the job does not exist or has another
            value of the label, and another `CloudRunError` if a call failed for good.

        Raises:
            ValueError: If the name is not a valid job name.
        """

@final
class Run:
    """A run, or a kill, in progress: an asynchronous iterator of its events, which ends with the run.

    As a context manager it stops watching on exit. Its execution, if there is one, goes on.

    Raises:
        CloudRunError: From the iteration, if the run could not be started, or is no longer watched.
    """

    @property
    def status_code(self) -> int | None:
        """0: succeeded. 1: failed. -1: deleted while it ran. None before the end."""

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
        """The kind of event: `created`, `awaiting_ready`, `started`, `succeeded`, `retrying` and so on."""

    @property
    def level(self) -> int:
        """The log level, as in `logging`."""

    @property
    def message(self) -> str:
        """The log line for the flow run."""

@final
class EmulatorServer:
    """A running Cloud Run emulator. Use `prefect_gcp.emulator.Emulator`, which has defaults.

    All times are in seconds. `address` is `IP:PORT`, `simulated` a duration and an outcome, or None for processes,
    `faults` JSON.

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
        faults: str,
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
    def set_faults(self, faults: str) -> None:
        """Switch faults on, as JSON, in the place of those before. Raises ValueError when they can't be read."""
    def faults_met(self) -> dict[str, int]:
        """How often calls met each fault since these were switched on."""
    def counts(self) -> dict[str, int]:
        """How often each method of the API was called."""
    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, oldest first, as the API shows them."""
    def executions(self) -> list[dict[str, Any]]:
        """All executions, oldest first, as the API shows them."""
    def history(self) -> list[dict[str, Any]]:
        """The lives of all jobs, also of deleted ones."""
    def calls(self) -> list[dict[str, Any]]:
        """The calls so far, if they are recorded."""
