"""The Rust core, as Python sees it."""

from collections.abc import Awaitable, Callable
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, final

from typing_extensions import Self

from prefect_gcp_cloud_run.exceptions import CloudRunError
from prefect_gcp_cloud_run.settings import CloudRunWorkerSettings

__all__ = [
    "TOKEN_SCOPE",
    "Access",
    "Circumstances",
    "Client",
    "Credentials",
    "Decision",
    "Diagnosis",
    "EmulatorServer",
    "ExecutionFacts",
    "FlowRunFacts",
    "JobMark",
    "LogLine",
    "MarkedJob",
    "Run",
    "RunEvent",
    "__version__",
    "added_labels",
    "base_job_body",
    "check_api_endpoint",
    "check_base_job_body",
    "check_job_body",
    "container_env",
    "decide",
    "default_credentials_file",
    "diagnose_start",
    "drain_deletions",
    "is_job_name",
    "job_name",
    "process_id",
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
class Access:
    """Whether the API can be reached, and which of the permissions that a worker needs its account has.

    Attributes:
        error: The exception that a list of the jobs would raise, or None if they can be listed.
        permissions: Each permission that a worker needs: its name, what it is for (as an infinitive without "to"), the
            smallest predefined role that has it, and whether the account has it; None: nobody knows.
        not_asked: Why the project could not be asked for its permissions, so that only reads show them; or None.
        is_project_api_disabled: Whether that is because the Cloud Resource Manager API is not enabled.
    """

    @property
    def error(self) -> CloudRunError | None: ...
    @property
    def permissions(self) -> list[tuple[str, str, str, bool | None]]: ...
    @property
    def not_asked(self) -> str | None: ...
    @property
    def is_project_api_disabled(self) -> bool: ...

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
        has_unique_name: bool = False,
        owner_label: tuple[str, str] | None = None,
        keep_job: bool,
        ready_timeout_seconds: float,
        log: Callable[[int, str], object],
        mark: JobMark | None = None,
    ) -> Run:
        """Starts a run: creates the job, waits until it is ready, starts one execution and watches it to its end.

        Before each start, the iteration yields an event of kind `confirm_start`, and the run waits for
        `Run.confirm_start` or `Run.give_up`. After its end, the job is deleted in the background.

        Args:
            body: The job.
            job: The job's name, as in the body.
            has_unique_name: Whether no other job can have this name, because it contains a random number. Then the job
                is not read again before its start or its deletion, if these had to wait.
            owner_label: Key and value of the label that tells this job from other jobs of the same name.
            keep_job: Whether to keep the job after it has completed.
            ready_timeout_seconds: Longest wait for the job to become ready, in seconds.
            log: Called with a level of Python's `logging` and a message, for each line about the deletion of the job.
                Called on another thread, also after the run has ended.
            mark: The mark that the job gets, in addition to what `body` says. None: the job gets none, and no observer
                touches it. If the body has no room for it, `log` gets a warning, and the job gets none.

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

    def check_access(self, *, service_account: str | None = None) -> Awaitable[Access]:
        """Lists one job, and finds out which permissions the account has. Changes nothing.

        Asks the project (`testIamPermissions` of the Cloud Resource Manager API). If that API does not answer, it sends
        reads, which show a part of the permissions.

        Args:
            service_account: E-mail address of the account that the jobs run as, if it is known.

        Returns:
            What was found. It never raises because of the API.
        """

    def diagnose(self, job: str, execution: str | None = None) -> Awaitable[Diagnosis]:
        """Finds out why a job could not be started, or why its execution failed.

        Reads what this takes: the execution and its tasks, or else the job. What can't be read within four seconds
        counts as unknown, so that this never raises because of the API. An execution that succeeded gets `ExitCode 0`.

        Args:
            job: The job's name.
            execution: The execution's name. None: the job's latest one, if it has any.

        Returns:
            The diagnosis. There is one for each answer of the API.

        Raises:
            ValueError: If the name is not a valid job name.
        """

    def read_logs(
        self, execution: str, *, job: str, since: float | None = None, limit: int
    ) -> Awaitable[list[LogLine]]:
        """Reads the last lines of an execution's log from Cloud Logging, oldest first.

        All reads of the process take turns: one every 1.1 seconds in each project. Entries arrive at Cloud Logging some
        seconds after they were written, so the last ones may be missing.

        Args:
            execution: The execution's name.
            job: The name of its job.
            since: Only entries from then on, in seconds since 1970. None: of the last day, or as Cloud Logging decides.
            limit: How many lines at most, counted from the end of the log.

        Raises:
            ValueError: If the job's name is not a valid job name.
            CloudRunPermissionError: When it is awaited: the account may not read logs.
            CloudRunError: When it is awaited: the log can't be read for another reason, or too many are to be read.
        """

    def list_marked_jobs(
        self, pool_id: str, *, log: Callable[[int, str], object] | None = None
    ) -> Awaitable[list[MarkedJob]]:
        """Lists the jobs of this project and region that carry the mark of a work pool, with one paged list.

        Jobs with a part of a mark, or with a mark that makes no sense, are left out.

        Args:
            pool_id: Id of the work pool.
            log: Called with a level of Python's `logging` and a message, for each job that is left out.

        Returns:
            All of them, newest first. The list is complete.

        Raises:
            ValueError: If the id is not a UUID.
            CloudRunUnavailableError: If the list is incomplete, so that nothing follows from what it lacks.
            CloudRunError: If a page can't be read.
        """

    def read_marked_job(self, job: MarkedJob) -> Awaitable[MarkedJob | None]:
        """Reads a job again, and its executions if its status alone does not tell how they stand.

        Args:
            job: The job, as it was listed.

        Returns:
            The job as it is now. None if it is gone, has lost its mark, or if its name belongs to another job.

        Raises:
            CloudRunError: If it can't be read.
        """

    def has_job(self, name: str) -> Awaitable[bool]:
        """Whether there is a job of this name, marked or not.

        Args:
            name: The job's name.

        Raises:
            ValueError: If the name is not a valid job name.
            CloudRunError: If it can't be read.
        """

    def read_execution(self, job: MarkedJob) -> Awaitable[ExecutionFacts | None]:
        """Reads the execution that a job's status is about.

        Args:
            job: The job, as it was listed or read.

        Returns:
            What is known of the execution, without its `outcome`, which the job's status tells. None if there is none.

        Raises:
            CloudRunError: If it can't be read.
        """

    def watch_marked_job(self, job: MarkedJob) -> Awaitable[None]:
        """Waits until the execution of a job has ended, or the job is gone. Shares the reads of this process's runs.

        Reads that fail end nothing. To stop waiting, cancel the task that waits. Returns at once if the job has no
        execution.

        Args:
            job: The job, as it was listed or read.

        Raises:
            CloudRunError: If the execution could not be read for `watch_retry_max_seconds`.
        """

    def delete_marked_job(self, job: MarkedJob) -> Awaitable[str]:
        """Deletes a job that has no active execution. Reads it right before, and compares uid, mark and executions.

        A kept job is deleted only if it never had an execution.

        Args:
            job: The job, as the decision saw it.

        Returns:
            "deleted": this call deleted it. "gone": it is gone, or being deleted, and somebody else may have done that.
            "changed": it is not to be deleted any more: an execution is active, was started since, or can't be judged;
            it has lost its mark; or this process runs it.

        Raises:
            CloudRunError: If it can't be read or deleted, or if it is unknown whether it was deleted.
        """

    def stop_marked_job(self, job: MarkedJob) -> Awaitable[bool]:
        """Stops a job's execution: deletes the job, or cancels its executions if the job is to be kept.

        Args:
            job: The job, as the decision saw it.

        Returns:
            Whether the job is gone or being deleted, or its executions are cancelled. False if it has lost its mark.

        Raises:
            CloudRunError: If it can't be read, deleted or cancelled, or if it is unknown whether it was.
        """

    def is_running(self, job: MarkedJob) -> bool:
        """Whether this process has a run of a job in progress, or deletes it after a run."""

def process_id() -> str:
    """The id of this process in the marks of jobs: a UUID, another one for each process, also after a fork."""

@final
class JobMark:
    """The mark that a worker's jobs carry, so that other workers can finish what it leaves.

    In addition, it gets the id of this process, whether the job is kept, and when its run gives up at the latest.

    Args:
        pool_id: Id of the work pool, a UUID.
        flow_run_id: Id of the flow run, a UUID.
        worker: Name of the worker.

    Raises:
        ValueError: If an id is not a UUID.
    """

    def __new__(cls, *, pool_id: str, flow_run_id: str, worker: str) -> Self: ...

@final
class MarkedJob:
    """A job with a mark, as a read showed it. All times are seconds since 1970."""

    @property
    def project(self) -> str:
        """Project id."""
    @property
    def region(self) -> str:
        """Region."""
    @property
    def name(self) -> str:
        """Name of the job."""
    @property
    def uid(self) -> str:
        """Unique id of the job: another job of its name has another one."""
    @property
    def pool_id(self) -> str:
        """Id of the work pool."""
    @property
    def flow_run_id(self) -> str:
        """Id of the flow run."""
    @property
    def process(self) -> str:
        """Id of the process that created the job."""
    @property
    def is_of_this_process(self) -> bool:
        """Whether this process created the job."""
    @property
    def worker(self) -> str:
        """Name of the worker that created the job. Other workers may have the same name."""
    @property
    def keep(self) -> bool:
        """Whether the job stays after its execution."""
    @property
    def give_up_at(self) -> float:
        """When its run has given up waiting for its start, at the latest."""
    @property
    def created_at(self) -> float:
        """When the job was created."""
    @property
    def execution(self) -> str | None:
        """Name of the execution that `status` is about."""
    @property
    def execution_uid(self) -> str | None:
        """Unique id of this execution. Known only if the executions were read."""
    @property
    def status(self) -> str:
        """How the job's executions stand.

        "none": there never was one. "active": one waits or runs. "succeeded", "failed", "cancelled": all have ended.
        "removed": there was one, and it was deleted. "unknown": the job's status does not tell; `read_marked_job` may.
        """
    @property
    def completed_at(self) -> float | None:
        """When the last of the executions ended. None unless `status` is "succeeded", "failed" or "cancelled"."""
    @property
    def is_being_deleted(self) -> bool:
        """Whether the job's deletion was requested."""
    @property
    def is_live(self) -> bool:
        """Whether the job runs its flow run, or may come to: not being deleted, and "none", "active" or "unknown"."""

@final
class FlowRunFacts:
    """What Prefect says about a flow run.

    Args:
        state_type: The type of its state, such as "RUNNING". A type that is not known here leads to no action.
        state_timestamp: When it came to this state, in seconds since 1970.
        infrastructure_pid: The name of its job, as Prefect has it.

    Raises:
        ValueError: If the time is not a finite number.
    """

    def __new__(cls, *, state_type: str, state_timestamp: float, infrastructure_pid: str | None) -> Self: ...

@final
class Circumstances:
    """What else a decision depends on. All durations are in seconds.

    Args:
        now: The time, in seconds since 1970.
        is_watched: Whether this process looks after the job: `Client.is_running`.
        creator_is_gone: Whether the job's worker is surely gone: OFFLINE for minutes. That a worker is ONLINE says
            nothing. Not needed for jobs of this process.
        other_live_job: Whether the flow run has another marked job that `is_live`, as far as is known now. A job that
            was deleted in the same pass counts no more.
        younger_live_job: Whether one of these was created after this job.
        is_complete: Whether all lists of jobs were read. If not, the flow run may have another job that is not known.
        times_not_found: In how many passes in a row Prefect answered 404 for the flow run, this one included.
        tries_left: Whether the flow run may be given back once more, instead of being marked as Crashed.
        stop_deleted: Whether executions of flow runs that were deleted in Prefect are stopped.
        cancelled_grace: How long the execution of a Cancelled flow run may go on.
        settle: How long after the end of its execution a job is left to its own worker.
        silent_settle: How long after a successful end a flow run that is not final counts as abandoned.

    Raises:
        ValueError: If a time or a duration is not a finite number, or a duration is negative.
    """

    def __new__(
        cls,
        *,
        now: float,
        is_watched: bool = False,
        creator_is_gone: bool = False,
        other_live_job: bool = False,
        younger_live_job: bool = False,
        is_complete: bool = True,
        times_not_found: int = 0,
        tries_left: bool = True,
        stop_deleted: bool = False,
        cancelled_grace: float = 60.0,
        settle: float = 120.0,
        silent_settle: float = 60.0,
    ) -> Self: ...

@final
class Decision:
    """What to do about a job."""

    @property
    def kind(self) -> str:
        """What to do.

        "nothing": leave it alone in this pass.
        "watch": wait for its execution's end, then decide again.
        "delete": delete the job.
        "stop": stop its execution, with `stop_marked_job`.
        "crash": propose Crashed for its flow run, then delete the job unless it is kept.
        "give_back": delete the job and then, if that succeeded, propose Scheduled for its flow run.
        "delete_then_crash": delete the job and then, if that succeeded, propose Crashed.
        """
    @property
    def reason(self) -> str:
        """Why, as a clause in plain words for logs and tables."""

def decide(job: MarkedJob, flow_run: FlowRunFacts | None, circumstances: Circumstances) -> Decision:
    """Decides what to do about a job. Reads nothing and changes nothing.

    Before a state is proposed or a job is deleted, read job and flow run again, and decide again.

    Args:
        job: The job.
        flow_run: Its flow run. None if Prefect says that it does not exist.
        circumstances: What else it depends on.
    """

def diagnose_start(words: str) -> Diagnosis:
    """Finds out why a job was not started, from a text that says so.

    Args:
        words: Google's message, or that of an exception.

    Returns:
        The diagnosis; `StartFailed` if the text names no other cause.
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

    @property
    def diagnosis(self) -> Diagnosis | None:
        """Why the run failed, or why its job could not be started. Only for the kind `diagnosed`."""

    @property
    def job_uid(self) -> str | None:
        """The uid of the job: with the kind `created`, if the response has it."""

    @property
    def execution(self) -> ExecutionFacts | None:
        """What is known of the execution: with the kinds `running`, `succeeded`, `failed` and `removed`."""

@final
class LogLine:
    """A line of a container's output, or of what Cloud Run says about it."""

    @property
    def time(self) -> float | None:
        """When it was written, in seconds since 1970, if Cloud Logging says it."""

    @property
    def severity(self) -> str:
        """Cloud Logging's severity, such as `DEFAULT` or `ERROR`."""

    @property
    def text(self) -> str:
        """The text, without a line break."""

    @property
    def container(self) -> str | None:
        """The name of the container that wrote it, if Cloud Logging says it."""

    @property
    def is_system(self) -> bool:
        """Whether Cloud Run wrote it, and not a container."""

@final
class ExecutionFacts:
    """What is known of an execution. Times are in seconds since 1970, as Google's API says them."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def uid(self) -> str | None:
        """Its uid, if a response has shown it."""

    @property
    def started_at(self) -> float | None:
        """When its tasks began, if that is known."""

    @property
    def completed_at(self) -> float | None:
        """When it ended, if that is known."""

    @property
    def outcome(self) -> str | None:
        """`succeeded`, `failed` or `cancelled`; None if it has not ended. `cancelled` means deleted, too."""

@final
class Diagnosis:
    """Why a job could not be started, or why its execution failed. docs/diagnosis.md has all categories.

    Can be compared, pickled and copied.

    Raises:
        ValueError: If there is no such category or level.
    """

    def __new__(
        cls,
        category: str,
        level: str,
        summary: str,
        detail: str,
        resolution: str,
        exit_code: int | None = None,
        signal: int | None = None,
    ) -> Self: ...
    def __getnewargs__(self) -> tuple[str, str, str, str, str, int | None, int | None]:
        """What `__new__` takes to make an equal one."""

    @property
    def category(self) -> str:
        """The cause's name, such as `OutOfMemory`."""

    @property
    def level(self) -> str:
        """`error` or `warning`."""

    @property
    def summary(self) -> str:
        """What happened, in a sentence."""

    @property
    def detail(self) -> str:
        """What Google says about it. May be empty."""

    @property
    def resolution(self) -> str:
        """What to do about it. May be empty."""

    @property
    def exit_code(self) -> int | None:
        """The container's exit code, if it is known."""

    @property
    def signal(self) -> int | None:
        """The signal that ended the container, if it is known."""

    @property
    def message(self) -> str:
        """All of it, for a state and for a log: `ExitCode 3: …`. Automations match its beginning."""

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
