"""The Rust core, as Python sees it."""

from collections.abc import Awaitable, Callable
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, final

from typing_extensions import Self

from prefect_gcp.settings import CloudRunWorkerSettings

__all__ = [
    "TOKEN_SCOPE",
    "Client",
    "Credentials",
    "EmulatorServer",
    "Run",
    "RunEvent",
    "__version__",
    "added_labels",
    "base_job_body",
    "check_api_endpoint",
    "check_base_job_body",
    "check_job_body",
    "container_env",
    "default_credentials_file",
    "drain_deletions",
    "is_job_name",
    "job_name",
    "read_key_file",
    "render_template",
    "sanitize_labels",
]

__version__: str

TOKEN_SCOPE: str
"""The OAuth scope of every access token."""

def check_api_endpoint(text: str) -> None:
    """Checks an address of the API, in which `{region}` stands for the region.

    Raises:
        ValueError: If it is not a URL, or would send the access token over the network without encryption.
    """

def read_key_file(path: str | PathLike[str]) -> bytes:
    """Reads a file of credentials. Blocks.

    Args:
        path: Path of the file.

    Returns:
        The content, which is secret.

    Raises:
        OSError: The file cannot be read, is not a regular file, or is larger than 64 KiB; or the path seems to be a key
            itself. The text shows nothing of a key.
    """

def default_credentials_file() -> Path | None:
    """Finds the file of the application default credentials, by the rules of google-auth. Blocks.

    Returns:
        The path of `GOOGLE_APPLICATION_CREDENTIALS` or else of gcloud's file, or None if there is no file.

    Raises:
        OSError: The file is not there although `GOOGLE_APPLICATION_CREDENTIALS` names it, cannot be read, or is not a
            JSON file of credentials. The text shows nothing of its content.
    """

def is_job_name(text: str) -> bool:
    """Checks the name of a job.

    Args:
        text: Any text.

    Returns:
        Whether Cloud Run accepts it as a job's name: `[a-z]([-a-z0-9]*[a-z0-9])?`, at most 63 characters.
    """

def sanitize_labels(labels: dict[str, str]) -> dict[str, str]:
    """Makes labels valid for Google Cloud. See `prefect_gcp.utilities.sanitize_labels_for_gcp`.

    Args:
        labels: Prefect's labels.

    Returns:
        New labels.
    """

def added_labels(prefect_labels: dict[str, str], existing_labels: dict[Any, Any]) -> dict[str, str]:
    """Selects those of Prefect's labels, made valid, that may be added to existing ones.

    Args:
        prefect_labels: Prefect's labels.
        existing_labels: Labels that stay. Labels of Prefect's with the same key are left out.

    Returns:
        The labels to add: as many as fit into the 64 that a resource may have.
    """

def job_name(slug: str | None, unique: str | None = None) -> str:
    """Makes a legal name of a job.

    Args:
        slug: Lower-case letters, digits and dashes. None or an empty one becomes `flow-run`.
        unique: 32 hexadecimal digits to append, which make the name different from every other.

    Returns:
        The name, at most 63 characters long.
    """

def container_env(own: list[Any], env: dict[str, str], secrets: list[tuple[str, str, str]]) -> list[Any]:
    """Builds the `env` list of a container.

    Args:
        own: The template's entries. Those that `secrets` set are left out. Of those without `valueFrom`, so are those
            that `env` sets.
        env: Names and values of variables. Those that `secrets` or entries of `own` with `valueFrom` set are left out.
        secrets: Name of the variable, name of the secret, version of the secret.

    Returns:
        A new list: the template's entries, then `env`, then `secrets`.
    """

def base_job_body() -> dict[str, Any]:
    """Returns the base body: the minimal job body, which every job body must contain.

    Returns:
        A new `Job` of the API.
    """

def check_base_job_body(body: object) -> str | None:
    """Checks that a job body contains the base body.

    Args:
        body: The job body.

    Returns:
        A sentence that lists what is missing or has another value, or None if the body contains the base body.
    """

def check_job_body(body: object) -> list[str]:
    """Checks a finished job body against the schema and the documented limits of the API.

    Args:
        body: The job body.

    Returns:
        Warnings: why the API may reject the body or ignore a part of it, one sentence each.

    Raises:
        ValueError: JSON cannot represent the body, or a value in it has a type that the API rejects, or exceeds a limit
            beyond which Cloud Run refuses a job.
    """

def render_template(template: object, values: dict[str, Any], *, unset: object, exact_keys: bool) -> Any:
    """Renders the `{{ placeholder }}`s of a template, as `prefect.utilities.templating.apply_values` does.

    Args:
        template: Mappings, lists, strings, numbers, booleans and nulls.
        values: Values for the placeholders, of any type.
        unset: The object that stands for "no value", in the template and in the values.
        exact_keys: Whether `a.1` finds a mapping's key `"1"` before its key 1, as in Prefect 3.9 and later.

    Returns:
        New mappings and lists, with the values themselves in place of lone placeholders. `unset` if the template is a
        placeholder without a value.

    Raises:
        ValueError: The template contains a value of another type, or is nested deeper than 500 levels.
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
        log: Callable[[int, str], object],
    ) -> Run:
        """Starts a run: creates the job, waits until it is ready, starts one execution and watches it to its end.

        Before each start, the iteration yields an event of kind `confirm_start`, and the run waits for
        `Run.confirm_start` or `Run.give_up`. After its end, the job is deleted in the background.

        Args:
            body: The job.
            job: The job's name, as in the body.
            owner_label: Key and value of the label that tells this job from other jobs of the same name.
            keep_job: Whether to keep the job after it has completed.
            ready_timeout_seconds: Longest wait for the job to become ready, in seconds.
            log: Called with a level of Python's `logging` and a message, for each line about the deletion of the job.
                Called on another thread, also after the run has ended.

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

def drain_deletions(seconds: float, abandon: bool) -> Awaitable[None]:
    """Waits until the jobs of all runs of this process that have ended are deleted, with short pauses between calls.

    Args:
        seconds: Longest wait.
        abandon: Whether deletions that are left then are given up, with a log line for each. Otherwise they go on.

    Raises:
        ValueError: If `seconds` is negative or not a number.
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
        """0: succeeded. 1: failed. -1: deleted while it ran, or given up before its start.

        None before the end, and if the run was given up while its execution ran.
        """

    @property
    def outcome(self) -> str | None:
        """How the run ended: "succeeded", "failed", "removed", "not_started" or "left_running".

        "removed": the job or its execution was deleted while it ran. "not_started": given up before a start request
        can have taken effect. "left_running": given up while its execution ran, or may have; the job stays. None
        before the end, and if the iteration raised an exception.
        """

    def confirm_start(self) -> None:
        """Answers an event of kind `confirm_start`: the run starts its job."""

    def give_up(self, reason: str) -> None:
        """Tells the run that it is no longer wanted. Never blocks; may be called at any time, and again.

        If no start request can have taken effect, the run ends at once as "not_started", and its job is deleted.
        Otherwise only "stopping" ends it: after one more look at the execution, as that shows, or as "left_running".

        Args:
            reason: "cancelled", "ended" or "deleted": what became of the flow run. "stopping": the worker stops.

        Raises:
            ValueError: If the reason is another one.
        """

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
