"""Settings of the worker, read as Prefect reads its own: environment variables, `.env`, `prefect.toml`."""

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
        # An endpoint may hold a password where none belongs.
        "hide_input_in_errors": True
    }
    _hide_input = hide_input()

    api_endpoint: str = Field(
        default="https://{region}-run.googleapis.com",
        description=(
            "Address of the API, with {region} where the region belongs. It receives the access token, so it is taken "
            "from the worker's own settings only, and plain HTTP is allowed to loopback addresses only."
        ),
    )
    poll_interval_seconds: float = Field(
        # With it, a thousand executions of ten minutes take less than a fortieth of one read per run and five seconds.
        default=2.1,
        gt=0,
        description=(
            "Longest pause between two looks at a job or an execution, in seconds; the first ones are shorter. One "
            "look is at a hundred executions."
        ),
    )
    request_timeout_seconds: float = Field(
        default=30.0, gt=0, description="Longest time that one attempt of a call may take, in seconds."
    )
    retry_max_attempts: int = Field(
        default=10, ge=1, le=1_000_000, description="Most attempts of one call, the first included."
    )
    retry_max_seconds: float = Field(
        default=120.0, ge=0, description="Longest time over which one call is attempted again, in seconds."
    )
    retry_initial_delay_seconds: float = Field(
        default=0.5,
        gt=0,
        description="Upper bound of the first pause between two attempts, in seconds; it doubles with every attempt.",
    )
    retry_max_delay_seconds: float = Field(
        default=30.0, gt=0, description="Upper bound of every pause between two attempts, in seconds."
    )
    quota_wait_max_seconds: float = Field(
        default=21600.0,
        ge=0,
        description=(
            "Longest time that a run waits, in seconds, while Cloud Run takes no calls of it because of a quota or a "
            "limit, such as 1 000 running executions in a region. Six hours by default."
        ),
    )
    quota_period_seconds: float = Field(
        default=60.0,
        ge=0.1,
        description=(
            "Period over which Cloud Run's quotas count calls, in seconds. A minute is right for Google; an emulator "
            "may have a shorter one (`minuteSeconds`)."
        ),
    )

    @field_validator("api_endpoint")
    @classmethod
    def _check_api_endpoint(cls, value: str) -> str:
        _core.check_api_endpoint(value)
        return value
