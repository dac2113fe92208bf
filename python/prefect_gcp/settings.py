"""Settings of the worker, read as Prefect reads its own: environment variables, `.env`, `prefect.toml`."""

import os
from typing import ClassVar

from prefect.settings.base import PrefectBaseSettings, build_settings_config
from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from prefect_gcp import _core
from prefect_gcp._discreet import hide_input


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

    @property
    def emulator_host(self) -> str | None:
        """`HOST:PORT` of a Cloud Run emulator, from `CLOUD_RUN_EMULATOR_HOST`. None means the API at `api_endpoint`."""
        return os.environ.get("CLOUD_RUN_EMULATOR_HOST") or None

    @field_validator("api_endpoint")
    @classmethod
    def _check_api_endpoint(cls, value: str) -> str:
        _core.check_api_endpoint(value)
        return value
