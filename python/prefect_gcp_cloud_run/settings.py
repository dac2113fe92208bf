"""Settings of the worker, read as Prefect reads its own: environment variables, `.env`, `prefect.toml`."""

import os
import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from prefect.settings.base import PrefectBaseSettings, build_settings_config
from pydantic import BeforeValidator, Field, ValidationError, field_validator
from pydantic_settings import SettingsConfigDict

from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run._discreet import hide_input
from prefect_gcp_cloud_run._mistakes import in_words, mistakes_of

# A name that is safe in a path and in a host name. The core checks it again, and more closely, before it is used.
_NAME = re.compile(r"[a-z0-9]([a-z0-9.:-]*[a-z0-9])?")

__all__ = ["CloudRunObserverSettings", "CloudRunWorkerSettings"]


def _names(value: Any) -> tuple[str, ...]:
    """Reads a list of names: a list, or a text with commas between the names."""
    if value is None:
        return ()
    # A project's number in an environment variable is read as JSON.
    parts = str(value).split(",") if isinstance(value, str | int) else [str(part) for part in value]
    names = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name: expected lower-case letters, digits and dashes")
    return names


if TYPE_CHECKING:
    _Names = tuple[str, ...]
else:
    # With `str`, pydantic-settings also takes an environment variable that is not JSON.
    _Names = Annotated[tuple[str, ...] | str, BeforeValidator(_names)]


class CloudRunWorkerSettings(PrefectBaseSettings):
    """Settings of the Cloud Run worker.

    Each is the environment variable `PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_…`, or a key in the table
    `[integrations.gcp.cloud_run.worker]` of `prefect.toml`.
    """

    model_config: ClassVar[SettingsConfigDict] = build_settings_config(
        ("integrations", "gcp", "cloud_run", "worker")
    ) | {
        # An endpoint may contain a password by mistake.
        "hide_input_in_errors": True
    }
    _hide_input = hide_input()

    api_endpoint: str = Field(
        default="https://{region}-run.googleapis.com",
        description=(
            "Address of the Cloud Run Admin API; {region} stands for the region. It receives the access token, so job "
            "variables can't set it, and plain HTTP is allowed for loopback addresses only."
        ),
    )
    poll_interval_seconds: float = Field(
        # With 2.1 s, a thousand executions of ten minutes need less than 1/40 of the reads of one read per run and 5 s.
        default=2.1,
        gt=0,
        description=(
            "Longest pause between two reads of a job or an execution, in seconds. The first pauses are shorter. One "
            "read covers up to 100 executions."
        ),
    )
    request_timeout_seconds: float = Field(
        default=30.0, gt=0, description="Timeout of one attempt of an API call, in seconds."
    )
    retry_max_attempts: int = Field(
        default=10, ge=1, le=1_000_000, description="Maximum number of attempts of one API call, including the first."
    )
    retry_max_seconds: float = Field(
        default=120.0, ge=0, description="Maximum time over which one API call is retried, in seconds."
    )
    retry_initial_delay_seconds: float = Field(
        default=0.5,
        gt=0,
        description="Upper bound of the first pause between two attempts, in seconds. It doubles with every attempt.",
    )
    retry_max_delay_seconds: float = Field(
        default=30.0, gt=0, description="Upper bound of all pauses between two attempts, in seconds."
    )
    watch_retry_max_seconds: float = Field(
        # The longest time-out of a task.
        default=604800.0,
        ge=0,
        description=(
            "Longest time that a run goes on watching while its execution can't be read, in seconds. Default: a week, "
            "as long as a task may run."
        ),
    )
    quota_wait_max_seconds: float = Field(
        default=21600.0,
        ge=0,
        description=(
            "Longest time that a run waits for a quota or a limit, in seconds, such as 1,000 running executions in a "
            "region. Default: six hours."
        ),
    )
    quota_period_seconds: float = Field(
        default=60.0,
        ge=0.1,
        description=(
            "Period over which Cloud Run's quotas count API calls, in seconds. Google counts per minute. Change it "
            "only for an emulator with a shorter period (`minuteSeconds`)."
        ),
    )

    submissions_at_once: int = Field(
        default=8,
        ge=1,
        le=1000,
        description=(
            "How many flow runs the worker claims and prepares at the same time, the first due first. A flow run "
            "counts until the worker begins to create its job."
        ),
    )

    @property
    def emulator_host(self) -> str | None:
        """`HOST:PORT` of a Cloud Run emulator, from `CLOUD_RUN_EMULATOR_HOST`. None means the API at `api_endpoint`."""
        return os.environ.get("CLOUD_RUN_EMULATOR_HOST") or None

    @field_validator("api_endpoint")
    @classmethod
    def _check_api_endpoint(cls, value: str) -> str:
        _core.check_api_endpoint(value)
        return value


class CloudRunObserverSettings(PrefectBaseSettings):
    """Settings of what the worker observes: jobs that other workers left behind, and what people see of executions.

    Each is the environment variable `PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_OBSERVER_…`, or a key in the table
    `[integrations.gcp.cloud_run.observer]` of `prefect.toml`.
    """

    model_config: ClassVar[SettingsConfigDict] = build_settings_config(("integrations", "gcp", "cloud_run", "observer"))

    enabled: bool = Field(
        default=True,
        description=(
            "Whether the worker looks after the jobs of its work pool that no worker watches any more: after those "
            "of workers that were killed, for example."
        ),
    )
    interval_seconds: float = Field(
        default=300.0,
        ge=1,
        le=86_400,
        description="Time between two passes over the jobs of the work pool, in seconds. It varies by a tenth.",
    )
    projects: _Names = Field(
        default=(),
        description=(
            "Projects to look for jobs in, as a list with commas or in JSON, beside those that the work pool and its "
            "flow runs name."
        ),
    )
    regions: _Names = Field(
        default=(),
        description=(
            "Regions to look for jobs in, as a list with commas or in JSON, beside those that the work pool and its "
            "flow runs name."
        ),
    )
    replicate_events: bool = Field(
        default=True,
        description="Whether executions that start and end, and jobs that can't become ready, are events in Prefect.",
    )
    forward_crashed_run_logs: bool = Field(
        default=True,
        description=(
            "Whether the end of the container's log goes to the log of a flow run that crashed before it was Running."
        ),
    )
    forward_crashed_run_logs_tail_lines: int = Field(
        default=500,
        ge=1,
        le=10_000,
        description="How many lines of the container's log that are, counted from its end.",
    )
    stop_runs_of_deleted_flow_runs: bool = Field(
        default=False,
        description=(
            "Whether the execution of a flow run that was deleted in Prefect is stopped. Otherwise it runs to its end."
        ),
    )
    give_back_max_tries: int = Field(
        default=3,
        ge=0,
        le=100,
        description=(
            "How often a flow run whose worker died before its container was started is given back to the work pool. "
            "After that it is Crashed."
        ),
    )


def mistakes_in_settings(error: ValidationError) -> list[tuple[str, str]]:
    """Lists which settings are invalid, and why, without their values.

    Args:
        error: The error of `CloudRunWorkerSettings` or `CloudRunObserverSettings`.

    Returns:
        The environment variable of each setting and what is wrong with it. A setting of `prefect.toml` is named by its
        environment variable, too.
    """
    table = "OBSERVER" if error.title == CloudRunObserverSettings.__name__ else "WORKER"
    prefix = f"PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_{table}_"
    return [(f"{prefix}{place.upper()}", what) for place, what in mistakes_of(error)]


def words_of_mistakes(error: ValidationError) -> str:
    """Says in one line what `mistakes_in_settings` lists."""
    return in_words(mistakes_in_settings(error))
