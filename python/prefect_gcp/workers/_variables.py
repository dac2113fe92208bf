"""The job variables of a Cloud Run work pool, and the fields that they share with the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from prefect.workers.base import BaseVariables
from pydantic import ConfigDict, Field

from prefect_gcp._discreet import hide_input
from prefect_gcp._mistakes import not_an_environment
from prefect_gcp.credentials import GcpCredentials
from prefect_gcp.models.cloud_run_v2 import SecretKeySelector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefect.client.schemas.objects import FlowRun

DEFAULT_REGION = "us-central1"
# The time that a job has to become ready if `timeout` is null, in seconds.
DEFAULT_TIMEOUT = 600

# Fields that the configuration and the variables of the work pool share.
CredentialsField = Annotated[
    GcpCredentials | None,
    Field(
        title="GCP Credentials",
        description="Credentials of the worker. Default: the application default credentials of its environment.",
    ),
]
ApiKeySecretField = Annotated[
    SecretKeySelector | None,
    Field(
        title="Prefect API Key Secret",
        description="Secret from which the container gets PREFECT_API_KEY, instead of plain text.",
    ),
]
AuthStringSecretField = Annotated[
    SecretKeySelector | None,
    Field(
        title="Prefect API Auth String Secret",
        description="Secret from which the container gets PREFECT_API_AUTH_STRING, instead of plain text.",
    ),
]
KeepJobField = Annotated[
    bool | None, Field(title="Keep Job After Completion", description="Whether to keep the job after it has completed.")
]
TimeoutField = Annotated[
    int | None,
    Field(
        gt=0,
        le=3600,
        title="Job Timeout",
        description="Seconds that the job may take to become ready. Also the default timeout of each task attempt.",
    ),
]


class CloudRunWorkerVariables(BaseVariables):
    """Job variables of the default base job template."""

    model_config = ConfigDict(hide_input_in_errors=True)
    _hide_input = hide_input()

    region: str = Field(default=DEFAULT_REGION, description="Region of the Cloud Run job.", examples=[DEFAULT_REGION])
    credentials: CredentialsField = Field(default_factory=GcpCredentials)
    prefect_api_key_secret: ApiKeySecretField = None
    prefect_api_auth_string_secret: AuthStringSecretField = None
    image: str | None = Field(
        default=None,
        title="Image Name",
        description="Image of the container. Default: Prefect's own image for the version of the worker.",
        examples=["docker.io/prefecthq/prefect:3-latest"],
    )
    cpu: str | None = Field(
        default=None,
        title="CPU",
        description="CPU of the container, in thousandths of a CPU: 1000m is one CPU.",
        examples=["1000m"],
        pattern=r"^(\d*000)m$",
    )
    memory: str | None = Field(
        default=None,
        title="Memory",
        description="Memory of the container, in G, Gi, M or Mi.",
        examples=["512Mi"],
        pattern=r"^\d+(?:G|Gi|M|Mi)$",
    )
    vpc_connector_name: str | None = Field(
        default=None, title="VPC Connector Name", description="Serverless VPC Access connector of the job."
    )
    service_account_name: str | None = Field(
        default=None,
        title="Service Account Name",
        description="Service account that the flow runs as. Default: the project's Compute Engine default account.",
        examples=["service-account@example.iam.gserviceaccount.com"],
    )
    keep_job: KeepJobField = False
    timeout: TimeoutField = DEFAULT_TIMEOUT

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Leaves out the environment."""
        return without_env(super().__repr_args__())


def without_env(fields: Iterable[tuple[str | None, Any]]) -> Iterable[tuple[str | None, Any]]:
    """Leaves out the fields of a model's representation that may contain secrets."""
    return [(name, value) for name, value in fields if name not in ("env", "job_body")]


def with_a_mapping_as_env(flow_run: FlowRun) -> FlowRun:
    """Returns the flow run with an `env` among its job variables that Prefect can merge into the deployment's.

    Raises:
        ValueError: If it is neither a mapping nor null, which counts as absent.
    """
    variables = flow_run.job_variables or {}
    env = variables.get("env", {})
    if env is None:
        others = {name: value for name, value in variables.items() if name != "env"}
        return flow_run.model_copy(update={"job_variables": others})
    if problem := not_an_environment(env):
        raise ValueError(f"The job variable {problem}")
    return flow_run
