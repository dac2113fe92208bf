"""The Cloud Run worker: runs each flow run as a Google Cloud Run job (Cloud Run Admin API v1).

```bash
prefect work-pool create my-pool --type cloud-run
prefect worker start --pool my-pool --type cloud-run
```
"""

from __future__ import annotations

import asyncio
import logging
import os
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
# The least time that a job has to become ready when `timeout` is null.
_DEFAULT_TIMEOUT = 600
# Where the job body has the container that runs the flow.
_CONTAINER = ("spec", "template", "spec", "template", "spec", "containers", 0)
# Prefect's label `prefect.io/flow-run-id`, as Google takes it.
_FLOW_RUN_ID_LABEL = "prefect-io-flow-run-id"

# Fields that the configuration and the pool's variables share.
_Credentials = Annotated[
    GcpCredentials | None,
    Field(
        title="GCP Credentials",
        description="Whom the worker authenticates as; the environment's credentials when it is left out.",
    ),
]
_ApiKeySecret = Annotated[
    SecretKeySelector | None,
    Field(
        title="Prefect API Key Secret",
        description="A secret that the container reads PREFECT_API_KEY from, in place of plain text.",
    ),
]
_AuthStringSecret = Annotated[
    SecretKeySelector | None,
    Field(
        title="Prefect API Auth String Secret",
        description="A secret that the container reads PREFECT_API_AUTH_STRING from, in place of plain text.",
    ),
]
_KeepJob = Annotated[
    bool | None, Field(title="Keep Job After Completion", description="Whether the job stays after its end.")
]
_Timeout = Annotated[
    int | None,
    Field(
        gt=0,
        le=3600,
        title="Job Timeout",
        description="Seconds that the job may take to become ready, and by default each try of its task.",
    ),
]


class CloudRunWorkerJobConfiguration(BaseJobConfiguration):
    """What the worker needs to run one flow run: made from the pool's template and the job variables.

    Attributes:
        region: Region of the job.
        credentials: Whom the worker authenticates as; null means the environment's credentials.
        prefect_api_key_secret: Where the container gets `PREFECT_API_KEY` from, in place of plain text.
        prefect_api_auth_string_secret: The same for `PREFECT_API_AUTH_STRING`.
        job_body: The job, as the API takes it.
        timeout: Seconds that the job may take to become ready, and by default each try of its task.
        keep_job: Whether the job stays after its end.

    Raises:
        pydantic.ValidationError: When a value is of the wrong type, or the job body lacks what every job has.
    """

    region: str = Field(default=_DEFAULT_REGION, description="Region of the Cloud Run job.")
    credentials: _Credentials = Field(default_factory=GcpCredentials)
    prefect_api_key_secret: _ApiKeySecret = None
    prefect_api_auth_string_secret: _AuthStringSecret = None
    job_body: dict[str, Any] = Field(json_schema_extra={"template": _get_default_job_body_template()})
    timeout: _Timeout = _DEFAULT_TIMEOUT
    keep_job: _KeepJob = False

    # Job variables may hold secrets, which an error must not repeat.
    model_config = ConfigDict(hide_input_in_errors=True)
    _hide_input = hide_input()

    # Labels that a prepare put at each path, so that the next one can take them out again.
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
        """Without the environment, and the job that it is part of."""
        return _without_env(super().__repr_args__())

    @property
    def project(self) -> str | None:
        """The project to work in, as `GcpCredentials.resolve_project` finds it."""
        return (self.credentials or GcpCredentials()).resolve_project()

    @property
    def job_name(self) -> str:
        """The job's name, once the configuration is prepared."""
        return str(self.job_body["metadata"]["name"])

    @classmethod
    @inject_client
    async def from_template_and_values(
        cls,
        base_job_template: dict[str, Any],
        values: dict[str, Any],
        client: PrefectClient | None = None,
    ) -> Self:
        """Makes a configuration of a work pool's template and a flow run's job variables.

        Args:
            base_job_template: The pool's template.
            values: The job variables.
            client: Looks up blocks and variables of Prefect; by default a client of the settings' API.

        Returns:
            The configuration, which is still to be prepared for its flow run.

        Raises:
            ValueError: When the template or the values can't be rendered.
            pydantic.ValidationError: When a rendered value is of the wrong type.
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
        """Puts what depends on the flow run into the job body: environment, labels, command, image, name.

        Args:
            flow_run: The flow run.
            deployment: Its deployment, if it has one.
            flow: Its flow.
            work_pool: The worker's pool.
            worker_name: The worker's name.
            worker_id: The worker's id.

        Raises:
            ValueError: When the job body has no place for them, or the API could not take the finished body.
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
        # The template "{{ env }}" makes a mapping of it, which holds nothing that `self.env` has not.
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
                    f"{name} is provided as a plaintext environment variable, which everybody who may read the job can "
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
        # A name of which no letter or digit can stay would be the same for all such runs.
        # What is no text by mistake is no name, and may be a mapping with secrets.
        if isinstance(name, (str, int, float)) and (slug := slugify_name(str(name), 63)):
            metadata["name"] = _core.job_name(slug)
        else:
            metadata["name"] = _core.job_name(slugify_name(self.name or ""), unique=uuid4().hex)
        if name is not None:
            shown = repr(name) if isinstance(name, str) else f"What is of type {type(name).__name__!r}"
            self._logger.warning(
                f"{shown} is not a legal name of a Cloud Run job; the job is named {metadata['name']!r}"
            )

    def _check_job_body(self) -> None:
        for warning in _core.check_job_body(self.job_body):
            self._logger.warning(f"The job body may be refused by Cloud Run: {warning}")

    def _secret_variables(self) -> dict[str, SecretKeySelector | None]:
        return {
            "PREFECT_API_KEY": self.prefect_api_key_secret,
            "PREFECT_API_AUTH_STRING": self.prefect_api_auth_string_secret,
        }

    def _container(self, what: str) -> dict[str, Any]:
        """The container that runs the flow."""
        return self._part(what, *_CONTAINER)

    def _part(self, what: str, *path: str | int) -> dict[str, Any]:
        """A mapping of the job body.

        Raises:
            ValueError: When it is not there; `what` says what is missed in it. The known worker says "image" whatever
                it misses but environment and labels, and alerts match that.
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
    """Job variables of the default pool template."""

    model_config = ConfigDict(hide_input_in_errors=True)
    _hide_input = hide_input()

    region: str = Field(default=_DEFAULT_REGION, description="Region of the Cloud Run job.", examples=[_DEFAULT_REGION])
    credentials: _Credentials = Field(default_factory=GcpCredentials)
    prefect_api_key_secret: _ApiKeySecret = None
    prefect_api_auth_string_secret: _AuthStringSecret = None
    image: str | None = Field(
        default=None,
        title="Image Name",
        description="Image of the container; by default Prefect's own, of the worker's version.",
        examples=["docker.io/prefecthq/prefect:3-latest"],
    )
    cpu: str | None = Field(
        default=None,
        title="CPU",
        description="CPU of the container, in thousandths: 1000m is one.",
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
        description="Account that the flow runs as; by default the project's Compute Engine account.",
        examples=["service-account@example.iam.gserviceaccount.com"],
    )
    keep_job: _KeepJob = False
    timeout: _Timeout = _DEFAULT_TIMEOUT

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Without the environment."""
        return _without_env(super().__repr_args__())


class CloudRunWorkerResult(BaseWorkerResult):
    """How a flow run's job ended.

    Attributes:
        identifier: Name of the job.
        status_code: 0 succeeded; 1 the execution failed; -1 the job or execution was deleted while it ran.
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
            pydantic.ValidationError: When a setting can't be used: now, and not at the cost of a flow run.
        """
        _ = self._settings
        await super().setup()

    async def run(
        self,
        flow_run: FlowRun,
        configuration: CloudRunWorkerJobConfiguration,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> CloudRunWorkerResult:
        """Runs a flow run's job to its end, and removes the job unless it is to be kept.

        When this is cancelled, the worker lets go of the job: its execution goes on.

        Args:
            flow_run: The flow run, for its log.
            configuration: The prepared configuration.
            task_status: Told the job's name once there is an execution.

        Returns:
            The job's name, and how its execution ended.

        Raises:
            CloudRunError: When there are no credentials, the job can't be run, or the API refuses to tell of its
                execution.
            ValueError: When the project, the region or the job body can't be used.
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
        ) as run:
            async for event in run:
                logger.log(event.level, event.message)
                if event.kind == "started" and task_status is not None:
                    task_status.started(job)
            if run.status_code is None:
                raise RuntimeError(f"the run of Cloud Run Job {job!r} ended without a result")
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
            configuration: Tells the project, the region and the credentials.
            grace_seconds: Not used: Cloud Run gives a container ten seconds.

        Raises:
            InfrastructureNotFound: When the job is not there, or is another flow run's by now.
            CloudRunError: When it can't be deleted.
        """
        client = await self._cloud_run_client(configuration)
        flow_run_id = _labels(configuration).get(_FLOW_RUN_ID_LABEL)
        owner_label = (_FLOW_RUN_ID_LABEL, flow_run_id) if flow_run_id else None
        if not _core.is_job_name(infrastructure_pid):
            raise InfrastructureNotFound(f"{infrastructure_pid!r} is not a name of a Cloud Run Job, so there is none")
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
        settings = self._settings
        project = credentials.project or await self._find_project(configuration, credentials)
        if not project:
            raise ValueError(
                "There is no Google Cloud project to run the job in: set 'project' on the work pool's GCP credentials "
                "block or, where that has no key, GOOGLE_CLOUD_PROJECT in the worker's environment"
            )
        return _core.Client(
            project=project,
            region=configuration.region,
            service_account_info=credentials._key_text(),
            service_account_file=credentials.service_account_file,
            api_endpoint=settings.api_endpoint,
            emulator_host=os.environ.get("CLOUD_RUN_EMULATOR_HOST") or None,
            poll_interval_seconds=settings.poll_interval_seconds,
            request_timeout_seconds=settings.request_timeout_seconds,
            retry_max_attempts=settings.retry_max_attempts,
            retry_max_seconds=settings.retry_max_seconds,
            retry_initial_delay_seconds=settings.retry_initial_delay_seconds,
            retry_max_delay_seconds=settings.retry_max_delay_seconds,
            quota_wait_max_seconds=settings.quota_wait_max_seconds,
            quota_period_seconds=settings.quota_period_seconds,
        )

    async def _find_project(
        self, configuration: CloudRunWorkerJobConfiguration, credentials: GcpCredentials
    ) -> str | None:
        """The configuration's project, where files, gcloud or the metadata server have to tell it."""
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
    message = f"No Google Cloud project could be found to run the job in: {str(error).rstrip('.')}. {hint}."
    return kind(message, region=region, hint=hint)


def _without_env(fields: Iterable[tuple[str | None, Any]]) -> Iterable[tuple[str | None, Any]]:
    """Fields of a model, as its representation shows them: the environment may hold secrets."""
    return [(name, value) for name, value in fields if name not in ("env", "job_body")]


def _labels(configuration: CloudRunWorkerJobConfiguration) -> dict[str, str]:
    return configuration.job_body["metadata"].get("labels") or {}


def _split(container: dict[str, Any], name: str) -> None:
    """Makes a command line the list of its words, as a shell would."""
    if isinstance(line := container.get(name), str):
        try:
            container[name] = shlex.split(line)
        except ValueError as error:
            raise ValueError(f"The container's {name} can't be split into words: {error}") from error


def _lost_its_shape(what: str, path: tuple[str | int, ...], kind: str = "mapping") -> ValueError:
    pointer = "".join(f"/{step}" for step in path)
    return ValueError(f"Unable to verify {what} due to invalid job body template. There is no {kind} at {pointer}")


def _flow_run_logger(flow_run: FlowRun, worker_name: str | None, work_pool: WorkPool | None) -> PrefectLogAdapter:
    """The logger that a worker writes a flow run's lines to."""
    extra = {
        "worker_name": worker_name,
        "work_pool_name": work_pool.name if work_pool else "<unknown>",
        "work_pool_id": str(work_pool.id) if work_pool else "unknown",
    }
    return flow_run_logger(flow_run).getChild("worker", extra=extra)
