"""The Cloud Run worker runs each flow run as a Google Cloud Run job (Cloud Run Admin API v1).

```bash
prefect work-pool create my-pool --type cloud-run
prefect worker start --pool my-pool --type cloud-run
```
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import time
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID, uuid4

from prefect.client.utilities import inject_client
from prefect.exceptions import InfrastructureNotFound
from prefect.logging.loggers import PrefectLogAdapter, flow_run_logger, get_logger
from prefect.utilities.dockerutils import get_prefect_image_name
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult
from pydantic import ConfigDict, Field, PrivateAttr, field_validator
from typing_extensions import Self

from prefect_gcp import _core
from prefect_gcp._discreet import hide_input
from prefect_gcp.credentials import GcpCredentials
from prefect_gcp.exceptions import (
    CloudRunAuthenticationError,
    CloudRunError,
    CloudRunNotFoundError,
    CloudRunUnavailableError,
)
from prefect_gcp.models.cloud_run_v2 import SecretKeySelector
from prefect_gcp.settings import CloudRunWorkerSettings
from prefect_gcp.utilities import slugify_name
from prefect_gcp.workers._templates import get_base_job_body as _get_base_job_body  # noqa: F401 - people import it here
from prefect_gcp.workers._templates import get_default_job_body_template as _get_default_job_body_template
from prefect_gcp.workers._templates import render_configuration

if TYPE_CHECKING:
    from collections.abc import Iterable

    import anyio.abc
    from google.auth.exceptions import GoogleAuthError
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
    from prefect.client.schemas.responses import DeploymentResponse

_DEFAULT_REGION = "us-central1"
# The time that a job has to become ready if `timeout` is null, in seconds.
_DEFAULT_TIMEOUT = 600
# Path of the container that runs the flow, in the job body.
_CONTAINER = ("spec", "template", "spec", "template", "spec", "containers", 0)
# Prefect's label `prefect.io/flow-run-id`, in the form that Google accepts.
_FLOW_RUN_ID_LABEL = "prefect-io-flow-run-id"

# Fields that the configuration and the variables of the work pool share.
_Credentials = Annotated[
    GcpCredentials | None,
    Field(
        title="GCP Credentials",
        description="Credentials of the worker. Default: the application default credentials of its environment.",
    ),
]
_ApiKeySecret = Annotated[
    SecretKeySelector | None,
    Field(
        title="Prefect API Key Secret",
        description="Secret from which the container gets PREFECT_API_KEY, instead of plain text.",
    ),
]
_AuthStringSecret = Annotated[
    SecretKeySelector | None,
    Field(
        title="Prefect API Auth String Secret",
        description="Secret from which the container gets PREFECT_API_AUTH_STRING, instead of plain text.",
    ),
]
_KeepJob = Annotated[
    bool | None, Field(title="Keep Job After Completion", description="Whether to keep the job after it has completed.")
]
_Timeout = Annotated[
    int | None,
    Field(
        gt=0,
        le=3600,
        title="Job Timeout",
        description="Seconds that the job may take to become ready. Also the default timeout of each task attempt.",
    ),
]


class CloudRunWorkerJobConfiguration(BaseJobConfiguration):
    """Configuration of one flow run, made from the work pool's base job template and the job variables.

    Attributes:
        region: Region of the job.
        credentials: Credentials of the worker. Null means the application default credentials of its environment.
        prefect_api_key_secret: Secret from which the container gets `PREFECT_API_KEY`, instead of plain text.
        prefect_api_auth_string_secret: The same for `PREFECT_API_AUTH_STRING`.
        job_body: The job that is sent to the API.
        timeout: Seconds that the job may take to become ready. Also the default timeout of each attempt of its task.
        keep_job: Whether to keep the job after it has completed.

    Raises:
        pydantic.ValidationError: If a value has the wrong type, or the job body lacks a required attribute.
    """

    region: str = Field(default=_DEFAULT_REGION, description="Region of the Cloud Run job.")
    credentials: _Credentials = Field(default_factory=GcpCredentials)
    prefect_api_key_secret: _ApiKeySecret = None
    prefect_api_auth_string_secret: _AuthStringSecret = None
    job_body: dict[str, Any] = Field(json_schema_extra={"template": _get_default_job_body_template()})
    timeout: _Timeout = _DEFAULT_TIMEOUT
    keep_job: _KeepJob = False

    # Job variables may contain secrets, which must not show in errors.
    model_config = ConfigDict(hide_input_in_errors=True)
    _hide_input = hide_input()

    # The labels that a prepare added at each path, so that the next prepare can remove them.
    _injected_labels: dict[tuple[str, ...], dict[str, str]] = PrivateAttr(default_factory=dict)
    _logger: logging.Logger | PrefectLogAdapter = PrivateAttr(default_factory=lambda: get_logger(__name__))

    @field_validator("credentials")
    @classmethod
    def _null_means_the_environments(cls, credentials: GcpCredentials | None) -> GcpCredentials:
        return credentials or GcpCredentials()

    @field_validator("job_body")
    @classmethod
    def _contains_the_base_body(cls, job_body: dict[str, Any]) -> dict[str, Any]:
        if problem := _core.check_base_job_body(job_body):
            raise ValueError(problem)
        return job_body

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Leaves out the environment, and the job body that contains it."""
        return _without_env(super().__repr_args__())

    @property
    def project(self) -> str | None:
        """The project to run in, from `GcpCredentials.resolve_project`."""
        return (self.credentials or GcpCredentials()).resolve_project()

    @property
    def job_name(self) -> str:
        """The job's name. Available after `prepare_for_flow_run`."""
        return str(self.job_body["metadata"]["name"])

    @classmethod
    @inject_client
    async def from_template_and_values(
        cls,
        base_job_template: dict[str, Any],
        values: dict[str, Any],
        client: PrefectClient | None = None,
    ) -> Self:
        """Makes a configuration from a work pool's base job template and a flow run's job variables.

        Args:
            base_job_template: The work pool's base job template.
            values: The job variables.
            client: Client for Prefect's blocks and variables. Default: a client of the configured Prefect API.

        Returns:
            The configuration. Call `prepare_for_flow_run` before it is used.

        Raises:
            ValueError: If the template or the values can't be rendered.
            pydantic.ValidationError: If a rendered value has the wrong type.
        """
        return cls(**await render_configuration(base_job_template, values, cls._get_base_config_defaults, client))

    def prepare_for_flow_run(
        self,
        flow_run: FlowRun,
        deployment: DeploymentResponse | None = None,
        flow: Flow | None = None,
        work_pool: WorkPool | None = None,
        worker_name: str | None = None,
        worker_id: UUID | None = None,
    ) -> None:
        """Fills in the parts of the job body that depend on the flow run: environment, labels, command, image, name.

        Args:
            flow_run: The flow run.
            deployment: The flow run's deployment, if it has one.
            flow: The flow run's flow.
            work_pool: The work pool of the worker.
            worker_name: Name of the worker.
            worker_id: Id of the worker.

        Raises:
            ValueError: If the job body lacks the place for one of them, or the API would reject the finished body.
        """
        super().prepare_for_flow_run(flow_run, deployment, flow, work_pool, worker_name, worker_id)
        self._logger = _flow_run_logger(flow_run, worker_name, work_pool)
        self._populate_envs()
        self._populate_labels()
        self._warn_about_plaintext_credentials(flow_run, worker_name, work_pool)
        self._populate_or_format_command()
        self._format_args_if_present()
        self._populate_image_if_not_present()
        self._populate_name_if_not_present()
        self._check_job_body()

    def _populate_envs(self) -> None:
        container = self._container("env")
        own = container.get("env")
        # The template "{{ env }}" renders to a mapping, which contains nothing that `self.env` lacks.
        if own is None or isinstance(own, dict):
            own = []
        elif not isinstance(own, list):
            raise _lost_its_shape("env", (*_CONTAINER, "env"), "list")
        env = {name: value for name, value in self.env.items() if value is not None}
        secrets = [
            (name, selector.secret, selector.version)
            for name, selector in self._secret_variables().items()
            if selector is not None
        ]
        container["env"] = _core.container_env(own, env, secrets)

    def _populate_labels(self) -> None:
        template = self._part("labels", "spec", "template")
        if template.get("metadata") is None:
            template["metadata"] = {}
        for path in (("metadata",), ("spec", "template", "metadata")):
            metadata = self._part("labels", *path)
            if metadata.get("labels") is None:
                metadata["labels"] = {}
            labels = self._part("labels", *path, "labels")
            injected = self._injected_labels.get(path, {})
            for key in [key for key, value in labels.items() if key in injected and injected[key] == value]:
                del labels[key]
            self._injected_labels[path] = _core.added_labels(self.labels, labels)
            labels.update(self._injected_labels[path])

    def _warn_about_plaintext_credentials(
        self, flow_run: FlowRun, worker_name: str | None, work_pool: WorkPool | None
    ) -> None:
        fields = {
            "PREFECT_API_KEY": "prefect_api_key_secret",
            "PREFECT_API_AUTH_STRING": "prefect_api_auth_string_secret",
        }
        for name, selector in self._secret_variables().items():
            if name in self.env and selector is None:
                _flow_run_logger(flow_run, worker_name, work_pool).warning(
                    f"{name} is provided as a plaintext environment variable, which anyone who can read the job can "
                    f"see: consider providing it as a secret using '{fields[name]}' in your base job template"
                )

    def _populate_or_format_command(self) -> None:
        container = self._container("image")
        if container.get("command") is None:
            container["command"] = self._base_flow_run_command()
        _split(container, "command")

    def _format_args_if_present(self) -> None:
        _split(self._container("image"), "args")

    def _populate_image_if_not_present(self) -> None:
        container = self._container("image")
        if container.get("image") is None:
            container["image"] = f"docker.io/{get_prefect_image_name()}"

    def _populate_name_if_not_present(self) -> None:
        metadata = self._part("image", "metadata")
        name = metadata.get("name")
        if isinstance(name, str) and _core.is_job_name(name):
            return
        # A name without any letter or digit has no slug. Values of other types may be mappings with secrets, so they
        # are not shown.
        if isinstance(name, (str, int, float)) and (slug := slugify_name(str(name), 63)):
            metadata["name"] = _core.job_name(slug)
        else:
            metadata["name"] = _core.job_name(slugify_name(self.name or ""), unique=uuid4().hex)
        if name is not None:
            if isinstance(name, str):
                problem = f"{name!r} is not a valid Cloud Run job name"
            else:
                problem = f"The job name must be a string, got {type(name).__name__}"
            self._logger.warning(f"{problem}; using {metadata['name']!r} instead")

    def _check_job_body(self) -> None:
        for warning in _core.check_job_body(self.job_body):
            self._logger.warning(f"Cloud Run may reject the job body: {warning}")

    def _secret_variables(self) -> dict[str, SecretKeySelector | None]:
        return {
            "PREFECT_API_KEY": self.prefect_api_key_secret,
            "PREFECT_API_AUTH_STRING": self.prefect_api_auth_string_secret,
        }

    def _container(self, what: str) -> dict[str, Any]:
        """The container that runs the flow."""
        return self._part(what, *_CONTAINER)

    def _part(self, what: str, *path: str | int) -> dict[str, Any]:
        """Returns a mapping of the job body.

        Raises:
            ValueError: If it does not exist. The message says that `what` can't be verified. Alerts match the upstream
                worker's message, which says "image" except for the environment and the labels.
        """
        part: Any = self.job_body
        for depth, step in enumerate(path, start=1):
            try:
                part = part[step]
            except (IndexError, KeyError):
                part = None
            kind = list if path[depth : depth + 1] == (0,) else dict
            if not isinstance(part, kind):
                raise _lost_its_shape(what, path[:depth], "list" if kind is list else "mapping")
        found: dict[str, Any] = part
        return found


class CloudRunWorkerVariables(BaseVariables):
    """Job variables of the default base job template."""

    model_config = ConfigDict(hide_input_in_errors=True)
    _hide_input = hide_input()

    region: str = Field(default=_DEFAULT_REGION, description="Region of the Cloud Run job.", examples=[_DEFAULT_REGION])
    credentials: _Credentials = Field(default_factory=GcpCredentials)
    prefect_api_key_secret: _ApiKeySecret = None
    prefect_api_auth_string_secret: _AuthStringSecret = None
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
    keep_job: _KeepJob = False
    timeout: _Timeout = _DEFAULT_TIMEOUT

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Leaves out the environment."""
        return _without_env(super().__repr_args__())


class CloudRunWorkerResult(BaseWorkerResult):
    """How a flow run's job ended.

    Attributes:
        identifier: Name of the job.
        status_code: 0: the execution succeeded. 1: it failed. -1: the job or the execution was deleted while it ran.
    """


class CloudRunWorker(BaseWorker[CloudRunWorkerJobConfiguration, CloudRunWorkerVariables, CloudRunWorkerResult]):
    """Runs flow runs as Google Cloud Run jobs."""

    type: str = "cloud-run"
    job_configuration = CloudRunWorkerJobConfiguration
    job_configuration_variables = CloudRunWorkerVariables
    _description = "Execute flow runs within containers on Google Cloud Run. Requires a Google Cloud Platform account."
    _display_name = "Google Cloud Run"
    _documentation_url = "https://docs.prefect.io/integrations/prefect-gcp"
    _logo_url = "https://cdn.sanity.io/images/3ugk85nk/production/10424e311932e31c477ac2b9ef3d53cefbaad708-250x250.png"

    async def setup(self) -> None:
        """Prepares the worker to run.

        Raises:
            pydantic.ValidationError: If a setting is invalid, so that the worker fails before it takes a flow run.
        """
        _ = self._settings
        await super().setup()

    async def run(
        self,
        flow_run: FlowRun,
        configuration: CloudRunWorkerJobConfiguration,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> CloudRunWorkerResult:
        """Runs a flow run's job to its end, and deletes the job unless `keep_job` is set.

        If this is cancelled, the worker stops watching the job, and its execution goes on.

        Args:
            flow_run: The flow run. Its log gets the progress.
            configuration: The prepared configuration.
            task_status: Gets the job's name when the execution has started.

        Returns:
            The job's name and the status code of its execution.

        Raises:
            CloudRunError: If there are no credentials, or the job can't be started, or its execution can't be read.
            ValueError: If the project, the region or the job body is invalid.
        """
        logger = self.get_flow_run_logger(flow_run)
        job = configuration.job_name
        is_labelled = _labels(configuration).get(_FLOW_RUN_ID_LABEL) == str(flow_run.id)
        client = await self._cloud_run_client(configuration)
        with client.run_job(
            configuration.job_body,
            job=job,
            owner_label=(_FLOW_RUN_ID_LABEL, str(flow_run.id)) if is_labelled else None,
            keep_job=bool(configuration.keep_job),
            ready_timeout_seconds=configuration.timeout or _DEFAULT_TIMEOUT,
            log=logger.log,
        ) as run:
            async for event in run:
                if event.kind == "confirm_start":
                    run.confirm_start()
                    continue
                logger.log(event.level, event.message)
                if event.kind == "started" and task_status is not None:
                    task_status.started(job)
            if run.status_code is None:
                raise RuntimeError(f"The run of Cloud Run Job {job!r} ended without a result")
            return CloudRunWorkerResult(identifier=job, status_code=run.status_code)

    async def kill_infrastructure(
        self,
        infrastructure_pid: str,
        configuration: CloudRunWorkerJobConfiguration,
        grace_seconds: int = 30,
    ) -> None:
        """Deletes a flow run's job, which stops its execution.

        Args:
            infrastructure_pid: Name of the job.
            configuration: Configuration with the project, the region and the credentials.
            grace_seconds: Not used. Cloud Run gives a container ten seconds between SIGTERM and SIGKILL.

        Raises:
            InfrastructureNotFound: If there is no such job, or it belongs to another flow run.
            CloudRunError: If it can't be deleted.
        """
        client = await self._cloud_run_client(configuration)
        flow_run_id = _labels(configuration).get(_FLOW_RUN_ID_LABEL)
        owner_label = (_FLOW_RUN_ID_LABEL, flow_run_id) if flow_run_id else None
        if not _core.is_job_name(infrastructure_pid):
            raise InfrastructureNotFound(f"{infrastructure_pid!r} is not a valid Cloud Run job name")
        try:
            with client.kill_job(infrastructure_pid, owner_label=owner_label) as kill:
                async for event in kill:
                    self._logger.log(event.level, event.message)
        except CloudRunNotFoundError as error:
            raise InfrastructureNotFound(
                f"Cloud Run Job {infrastructure_pid!r} not found in project {error.project!r}, region {error.region!r}"
            ) from error

    @cached_property
    def _settings(self) -> CloudRunWorkerSettings:
        return CloudRunWorkerSettings()

    async def _cloud_run_client(self, configuration: CloudRunWorkerJobConfiguration) -> _core.Client:
        credentials = configuration.credentials or GcpCredentials()
        project = credentials.project or await self._find_project(configuration, credentials)
        if not project:
            raise ValueError(
                "No Google Cloud project is configured. Set 'project' on the work pool's GCP credentials block. If the "
                "block has no key, setting GOOGLE_CLOUD_PROJECT in the worker's environment works too"
            )
        return _core.Client(
            project=project,
            region=configuration.region,
            credentials=_core.Credentials(
                service_account_info=credentials._key_text(), service_account_file=credentials.service_account_file
            ),
            settings=self._settings,
        )

    async def _find_project(
        self, configuration: CloudRunWorkerJobConfiguration, credentials: GcpCredentials
    ) -> str | None:
        """Finds the configuration's project in files, by gcloud or by the metadata server."""
        settings = self._settings
        pause, ends = settings.retry_initial_delay_seconds, time.monotonic() + settings.retry_max_seconds
        while True:
            try:
                await credentials._prepare_project()
                return configuration.project
            except Exception as error:
                from google.auth.exceptions import GoogleAuthError

                if not isinstance(error, GoogleAuthError):
                    raise
                if not error.retryable or time.monotonic() + pause > ends:
                    raise _no_project(error, configuration.region) from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, settings.retry_max_delay_seconds)


def _no_project(error: GoogleAuthError, region: str) -> CloudRunError:
    kind = CloudRunUnavailableError if error.retryable else CloudRunAuthenticationError
    hint = "Set 'project' on the work pool's GCP credentials block, or give the worker application default credentials"
    message = f"The Google Cloud project to run in could not be found: {str(error).rstrip('.')}. {hint}."
    return kind(message, region=region, hint=hint)


def _without_env(fields: Iterable[tuple[str | None, Any]]) -> Iterable[tuple[str | None, Any]]:
    """Leaves out the fields of a model's representation that may contain secrets."""
    return [(name, value) for name, value in fields if name not in ("env", "job_body")]


def _labels(configuration: CloudRunWorkerJobConfiguration) -> dict[str, str]:
    return configuration.job_body["metadata"].get("labels") or {}


def _split(container: dict[str, Any], name: str) -> None:
    """Splits a command line into its words, as a shell does."""
    if isinstance(line := container.get(name), str):
        try:
            container[name] = shlex.split(line)
        except ValueError as error:
            raise ValueError(f"The container's {name} is not a valid shell command line: {error}") from error


def _lost_its_shape(what: str, path: tuple[str | int, ...], kind: str = "mapping") -> ValueError:
    pointer = "".join(f"/{step}" for step in path)
    return ValueError(f"Unable to verify {what} due to invalid job body template. There is no {kind} at {pointer}")


def _flow_run_logger(flow_run: FlowRun, worker_name: str | None, work_pool: WorkPool | None) -> PrefectLogAdapter:
    """Returns the logger with which a worker writes to a flow run's log."""
    extra = {
        "worker_name": worker_name,
        "work_pool_name": work_pool.name if work_pool else "<unknown>",
        "work_pool_id": str(work_pool.id) if work_pool else "unknown",
    }
    return flow_run_logger(flow_run).getChild("worker", extra=extra)
