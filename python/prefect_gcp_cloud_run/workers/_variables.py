"""The job variables of a Cloud Run work pool, and the fields that they share with the configuration."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

from prefect.exceptions import ObjectNotFound
from prefect.workers.base import BaseVariables
from pydantic import ConfigDict, Field, field_validator

from prefect_gcp_cloud_run._credentials_of import environments, from_value
from prefect_gcp_cloud_run._discreet import hide_input
from prefect_gcp_cloud_run._mistakes import not_an_environment
from prefect_gcp_cloud_run.credentials import GcpCredentials
from prefect_gcp_cloud_run.models.cloud_run_v2 import SecretKeySelector
from prefect_gcp_cloud_run.workers._extended import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun

DEFAULT_REGION = "us-central1"
# The time that a job has to become ready if `timeout` is null, in seconds.
DEFAULT_TIMEOUT = 600
# The longest `timeout` of the default template, in seconds.
LONGEST_TIMEOUT = 3600

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
        le=LONGEST_TIMEOUT,
        title="Job Timeout",
        description="Seconds that the job may take to become ready. Also the default timeout of each task attempt.",
    ),
]


def checked_credentials() -> Any:
    """Makes the validator of the field `credentials`, to be assigned to a name in the class body of a model.

    It is no part of `CredentialsField`, so that it also holds for a subclass that declares the field anew.
    """
    return field_validator("credentials", mode="before")(from_value)


class CloudRunWorkerVariables(BaseVariables):
    """Job variables of the default base job template."""

    model_config = ConfigDict(hide_input_in_errors=True)
    _hide_input = hide_input()
    _credentials_are_checked = checked_credentials()

    region: str = Field(default=DEFAULT_REGION, description="Region of the Cloud Run job.", examples=[DEFAULT_REGION])
    credentials: CredentialsField = Field(default_factory=environments)
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


async def variables_for_a_kill(flow_run: FlowRun, client: PrefectClient) -> list[dict[str, Any]]:
    """Returns the job variables with which a flow run's job may be found, the best first.

    Args:
        flow_run: The flow run, whose configuration can't be made with all of its job variables.
        client: Client of the Prefect API.

    Returns:
        All of them, with those of the deployment if it is still there. Then only those that say where the job is.
    """
    deployment = None
    if flow_run.deployment_id is not None:
        with suppress(ObjectNotFound):
            deployment = await client.read_deployment(flow_run.deployment_id)
    variables = (getattr(deployment, "job_variables", None) or {}) | (flow_run.job_variables or {})
    return [variables, {name: variables[name] for name in ("region", "credentials", BLOCK) if name in variables}]


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
