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
from contextlib import ExitStack, suppress
from functools import cache, cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar
from uuid import UUID, uuid4
from weakref import WeakSet

import anyio
from prefect.client.utilities import inject_client
from prefect.exceptions import InfrastructureNotFound, ObjectNotFound
from prefect.logging.loggers import PrefectLogAdapter, flow_run_logger, get_logger
from prefect.utilities.dockerutils import get_prefect_image_name
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult
from pydantic import ConfigDict, Field, PrivateAttr, field_validator
from typing_extensions import Self

from prefect_gcp import _core
from prefect_gcp._discreet import hide_input
from prefect_gcp._mistakes import not_an_environment, not_credentials, other_api, shown
from prefect_gcp.credentials import GcpCredentials
from prefect_gcp.exceptions import (
    CloudRunAuthenticationError,
    CloudRunError,
    CloudRunUnavailableError,
)
from prefect_gcp.models.cloud_run_v2 import SecretKeySelector
from prefect_gcp.settings import CloudRunWorkerSettings
from prefect_gcp.utilities import slugify_name
from prefect_gcp.workers._flow_runs import FlowRunChecks
from prefect_gcp.workers._in_progress import RunInProgress, WorkerOfRuns
from prefect_gcp.workers._kill import Search
from prefect_gcp.workers._nulls import without_nulls
from prefect_gcp.workers._places import JobPlace, recorded_place
from prefect_gcp.workers._stop import wait_through_cancels
from prefect_gcp.workers._templates import get_base_job_body as _get_base_job_body  # noqa: F401 - people import it here
from prefect_gcp.workers._templates import get_default_job_body_template as _get_default_job_body_template
from prefect_gcp.workers._templates import render_configuration, unknown_variables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    import anyio.abc
    from google.auth.exceptions import GoogleAuthError
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
    from prefect.client.schemas.responses import DeploymentResponse

_DEFAULT_REGION = "us-central1"
# The time that a job has to become ready if `timeout` is null, in seconds.
_DEFAULT_TIMEOUT = 600
# How many flow runs a worker makes Pending at the same time.
_CLAIMS_AT_ONCE = 20
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
    # The job variables that the work pool's template does not know, with the nearest name that it does.
    _unknown_variables: dict[str, str | None] = PrivateAttr(default_factory=dict)
    # The flow run that it was prepared for.
    _flow_run_id: str | None = PrivateAttr(default=None)

    @field_validator("env", mode="before")
    @classmethod
    def _env_is_a_mapping(cls, env: Any) -> Any:
        if env is None:
            return {}
        if problem := not_an_environment(env):
            raise ValueError(problem)
        return env

    @field_validator("labels", mode="before")
    @classmethod
    def _null_labels_are_absent(cls, labels: Any) -> Any:
        if isinstance(labels, dict):
            return {key: value for key, value in labels.items() if value is not None}
        return {} if labels is None else labels

    @field_validator("credentials", mode="before")
    @classmethod
    def _credentials_are_no_text(cls, credentials: Any) -> Any:
        if problem := not_credentials(credentials):
            raise ValueError(problem)
        return credentials

    @field_validator("credentials")
    @classmethod
    def _null_means_the_environments(cls, credentials: GcpCredentials | None) -> GcpCredentials:
        return credentials or GcpCredentials()

    @field_validator("job_body")
    @classmethod
    def _contains_the_base_body(cls, job_body: dict[str, Any]) -> dict[str, Any]:
        if problem := _core.check_base_job_body(job_body):
            other = other_api(job_body)
            raise ValueError(f"{problem}. {other}" if other else problem)
        return without_nulls(job_body)

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
        fields = await render_configuration(base_job_template, values, cls._get_base_config_defaults, client)
        made = cls(**fields)
        made._unknown_variables = unknown_variables(base_job_template, values)
        return made

    @classmethod
    async def resolve_for_flow_run(
        cls,
        flow_run: FlowRun,
        *,
        client: PrefectClient,
        work_pool: WorkPool,
        worker_name: str,
        worker_id: UUID | None = None,
        deployment: DeploymentResponse | None = None,
    ) -> Self:
        """Makes the configuration of an existing flow run, as Prefect does.

        A flow run that was cancelled or has ended, and whose job may exist, gets a configuration also if its deployment
        is gone or its job variables have become invalid: from the work pool's template, so that its job can be found.

        Args:
            flow_run: The flow run.
            client: Client of the Prefect API.
            work_pool: The work pool of the worker.
            worker_name: Name of the worker.
            worker_id: Id of the worker.
            deployment: The flow run's deployment, if it was read already.

        Returns:
            The prepared configuration.

        Raises:
            prefect.exceptions.ObjectNotFound: If the deployment or the flow does not exist.
            ValueError: If the template or the job variables can't be rendered.
        """
        try:
            return await super().resolve_for_flow_run(
                _with_a_mapping_as_env(flow_run),
                client=client,
                work_pool=work_pool,
                worker_name=worker_name,
                worker_id=worker_id,
                deployment=deployment,
            )
        except (ObjectNotFound, ValueError) as error:
            # Only what lasts: with a server that is away for a moment, Prefect tries again.
            state = flow_run.state
            is_over = state is not None and (state.is_cancelling() or state.is_final())
            if not is_over or not flow_run.infrastructure_pid:
                raise
            _flow_run_logger(flow_run, worker_name, work_pool).info(
                f"The configuration of this flow run can't be made any more ({type(error).__name__}); using the work "
                "pool's to find its Cloud Run Job"
            )
            with suppress(ObjectNotFound, ValueError):
                return await cls._for_a_kill(flow_run, flow_run.job_variables or {}, client, work_pool, worker_name)
            return await cls._for_a_kill(flow_run, {}, client, work_pool, worker_name)

    @classmethod
    async def _for_a_kill(
        cls, flow_run: FlowRun, values: dict[str, Any], client: PrefectClient, work_pool: WorkPool, worker_name: str
    ) -> Self:
        configuration: Self = await cls.from_template_and_values(work_pool.base_job_template, values, client=client)
        configuration.prepare_for_flow_run(flow_run, work_pool=work_pool, worker_name=worker_name)
        return configuration

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
        self._flow_run_id = str(flow_run.id)
        self._warn_about_unknown_variables()
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
        # An entry of the template that takes its value from a secret has replaced the plain text.
        own_secrets = [entry.get("name") for entry in self._env_entries() if entry.get("valueFrom")]
        for name, selector in self._secret_variables().items():
            if name in self.env and selector is None and name not in own_secrets:
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
            container["image"] = _default_image()

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

    def _warn_about_unknown_variables(self) -> None:
        for name, near in self._unknown_variables.items():
            hint = f"; did you mean {near!r}?" if near else ". The work pool's template decides which ones there are"
            self._logger.warning(f"The job variable {shown(name)} is unknown to the work pool and has no effect{hint}")

    def _check_job_body(self) -> None:
        for warning in _core.check_job_body(self.job_body):
            self._logger.warning(f"Cloud Run may reject the job body: {warning}")

    def _secret_variables(self) -> dict[str, SecretKeySelector | None]:
        return {
            "PREFECT_API_KEY": self.prefect_api_key_secret,
            "PREFECT_API_AUTH_STRING": self.prefect_api_auth_string_secret,
        }

    def _env_entries(self) -> list[dict[str, Any]]:
        """The entries of the environment of the container that runs the flow. Empty if there is no such container."""
        with suppress(ValueError):
            entries = self._container("env").get("env")
            return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        return []

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


# The workers of this process that are set up.
_set_up_workers: WeakSet[CloudRunWorker] = WeakSet()


class CloudRunWorker(BaseWorker[CloudRunWorkerJobConfiguration, CloudRunWorkerVariables, CloudRunWorkerResult]):
    """Runs flow runs as Google Cloud Run jobs."""

    type: str = "cloud-run"
    job_configuration = CloudRunWorkerJobConfiguration
    job_configuration_variables = CloudRunWorkerVariables
    _description = "Execute flow runs within containers on Google Cloud Run. Requires a Google Cloud Platform account."
    _display_name = "Google Cloud Run"
    _documentation_url = "https://docs.prefect.io/integrations/prefect-gcp"
    _logo_url = "https://cdn.sanity.io/images/3ugk85nk/production/10424e311932e31c477ac2b9ef3d53cefbaad708-250x250.png"

    # A kill mostly waits for responses, and one that waits long must not hold up those of other flow runs.
    cleanup_max_concurrency: ClassVar[int | None] = 20

    async def setup(self) -> None:
        """Prepares the worker to run.

        Raises:
            pydantic.ValidationError: If a setting is invalid, so that the worker fails before it takes a flow run.
        """
        _ = self._settings
        await super().setup()
        _set_up_workers.add(self)

    async def teardown(self, *exc_info: Any) -> None:
        """Stops the worker, and waits for the deletion of the jobs of runs that have ended.

        If an exception stops it, as Ctrl-C does, runs of which nothing was started are given back: their flow runs are
        Scheduled again, and their jobs deleted. Executions that run go on. All of this takes at most 8 seconds.

        Args:
            exc_info: The exception that stops the worker, as `__aexit__` gets it.
        """
        stop = self._runs.stop
        with ExitStack() as parts:
            if any(exc_info):
                parts.enter_context(stop.under_way())
            try:
                await super().teardown(*exc_info)
            finally:
                # Without an exception, Prefect has waited for all runs, for as long as they took.
                parts.enter_context(stop.under_way())
                deletions = asyncio.ensure_future(self._finish_deletions())
                await wait_through_cancels(deletions, stop.time_left() + 1)

    async def _finish_deletions(self) -> None:
        await self._runs.checks.stop()
        _set_up_workers.discard(self)
        # The deletions belong to the process, and another worker of it lets them go on.
        await _core.drain_deletions(self._runs.stop.time_left(), abandon=not _set_up_workers)

    async def _submit_run(self, flow_run: FlowRun) -> None:
        # If the worker stops after it has made a flow run Pending and before `run`, nobody else would take it.
        try:
            await super()._submit_run(flow_run)
        except asyncio.CancelledError:
            if flow_run.id in self._claimed:
                logger = self.get_flow_run_logger(flow_run)
                await self._runs.finish(self._runs.give_back(flow_run, logger), "its submission", logger)
            raise
        finally:
            self._claimed.discard(flow_run.id)

    async def _propose_pending_state(self, flow_run: FlowRun) -> bool:
        # Once it was sent, only the answer tells whether the flow run is this worker's or another's.
        async with self._claims:
            claim = asyncio.ensure_future(super()._propose_pending_state(flow_run))
            try:
                await asyncio.wait({claim})
            except asyncio.CancelledError:
                with self._runs.stop.under_way():
                    await wait_through_cancels(claim, self._runs.stop.time_left_for_runs())
                raise
            finally:
                if claim.done() and not claim.cancelled() and claim.exception() is None and claim.result():
                    self._claimed.add(flow_run.id)
            return claim.result()

    async def run(
        self,
        flow_run: FlowRun,
        configuration: CloudRunWorkerJobConfiguration,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> CloudRunWorkerResult:
        """Runs a flow run's job to its end. Then the job is deleted in the background, unless `keep_job` is set.

        A flow run that is cancelled, deleted or ended while its job waits for its start is not started. If this is
        cancelled, a flow run that was not started is given back to the work pool, and an execution that runs goes on.

        Args:
            flow_run: The flow run. Its log gets the progress.
            configuration: The prepared configuration.
            task_status: Gets the job's name when the execution has started. Gets None if the flow run is not started.

        Returns:
            The job's name and the status code of its execution.

        Raises:
            CloudRunError: If there are no credentials, or the job can't be started, or its execution can't be read.
            ValueError: If the project, the region or the job body is invalid.
        """
        self._claimed.discard(flow_run.id)
        logger = self.get_flow_run_logger(flow_run)
        job = configuration.job_name
        in_progress = RunInProgress(self._runs, flow_run, job, logger, task_status)

        async def prepare() -> _core.Run:
            client, project = await self._cloud_run_client(configuration)
            in_progress.client, in_progress.place = client, JobPlace(project, configuration.region, job)
            is_labelled = _labels(configuration).get(_FLOW_RUN_ID_LABEL) == str(flow_run.id)
            return client.run_job(
                configuration.job_body,
                job=job,
                owner_label=(_FLOW_RUN_ID_LABEL, str(flow_run.id)) if is_labelled else None,
                keep_job=bool(configuration.keep_job),
                ready_timeout_seconds=configuration.timeout or _DEFAULT_TIMEOUT,
                log=logger.log,
            )

        return CloudRunWorkerResult(identifier=job, status_code=await in_progress.to_its_end(prepare))

    async def kill_infrastructure(
        self,
        infrastructure_pid: str,
        configuration: CloudRunWorkerJobConfiguration,
        grace_seconds: int = 30,
    ) -> None:
        """Deletes a flow run's job, which stops its execution.

        The job is looked for where this worker runs it, then where the worker that created it has noted on the flow
        run, and then where the configuration says.

        Args:
            infrastructure_pid: Name of the job.
            configuration: Configuration with the project, the region and the credentials.
            grace_seconds: Not used. Cloud Run gives a container ten seconds between SIGTERM and SIGKILL.

        Raises:
            InfrastructureNotFound: If there is no such job, or it belongs to another flow run.
            CloudRunError: If it can't be deleted.
        """
        if not _core.is_job_name(infrastructure_pid):
            raise InfrastructureNotFound(f"{infrastructure_pid!r} is not a valid Cloud Run job name")
        label = _labels(configuration).get(_FLOW_RUN_ID_LABEL)
        # A template may replace the labels.
        flow_run_id = configuration._flow_run_id or label
        logger: Any = self._logger if configuration._flow_run_id is None else configuration._logger
        search = Search(infrastructure_pid, (_FLOW_RUN_ID_LABEL, label) if label else None, logger)
        async for place, client, is_recorded in self._places(infrastructure_pid, configuration, flow_run_id, search):
            if await search.finds(place, client, is_recorded=is_recorded):
                return
        raise search.nowhere()

    async def _places(
        self, job: str, configuration: CloudRunWorkerJobConfiguration, flow_run_id: str | None, search: Search
    ) -> AsyncIterator[tuple[JobPlace, _core.Client, bool]]:
        """The places where a flow run's job may be, the likeliest first, and whether the job was created there."""
        for running_id, running in list(self._runs.runs.items()):
            if running.place is not None and running.client is not None and running.place.job == job:
                if flow_run_id not in (None, running_id):
                    continue
                running.is_killed = True
                yield running.place, running.client, True
        try:
            noted = await self._noted_place(job, flow_run_id)
            if noted is not None:
                yield noted, self._client_for(configuration, noted.project, noted.region), True
        except ValueError as error:
            configuration._logger.warning(f"The flow run's labels name a place that can't be used for {job!r}: {error}")
        except Exception as error:
            search.failed(error)
        try:
            client, project = await self._cloud_run_client(configuration)
        except (CloudRunError, ValueError) as error:
            search.failed(error)
        else:
            yield JobPlace(project, configuration.region, job), client, False

    async def _noted_place(self, job: str, flow_run_id: str | None) -> JobPlace | None:
        """Reads where the worker that created a job has noted it to be."""
        if self._client is None or flow_run_id is None:
            return None
        try:
            return recorded_place(await self._client.read_flow_run(UUID(flow_run_id)), job)
        except ObjectNotFound:
            return None

    @cached_property
    def _runs(self) -> WorkerOfRuns:
        return WorkerOfRuns(self.name, lambda: self._client, FlowRunChecks(lambda: self._client))

    @cached_property
    def _claimed(self) -> set[UUID]:
        """The flow runs that this worker has made Pending, and that Prefect still prepares for `run`."""
        return set()

    @cached_property
    def _claims(self) -> anyio.Semaphore:
        """Bounds how many flow runs are claimed at the same time, since each that was sent is waited for at a stop."""
        return anyio.Semaphore(_CLAIMS_AT_ONCE)

    @cached_property
    def _settings(self) -> CloudRunWorkerSettings:
        return CloudRunWorkerSettings()

    async def _cloud_run_client(self, configuration: CloudRunWorkerJobConfiguration) -> tuple[_core.Client, str]:
        """Returns a client for the configuration's project and region, and the project."""
        credentials = configuration.credentials or GcpCredentials()
        project = credentials.project or await self._find_project(configuration, credentials)
        if not project:
            raise ValueError(
                "No Google Cloud project is configured. Set 'project' on the work pool's GCP credentials block. If the "
                "block has no key, setting GOOGLE_CLOUD_PROJECT in the worker's environment works too"
            )
        return self._client_for(configuration, project, configuration.region), project

    def _client_for(self, configuration: CloudRunWorkerJobConfiguration, project: str, region: str) -> _core.Client:
        credentials = configuration.credentials or GcpCredentials()
        return _core.Client(
            project=project,
            region=region,
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


@cache
def _default_image() -> str:
    """The image of this Prefect and Python version. Prefect runs git to find its name, so it is asked once."""
    return f"docker.io/{get_prefect_image_name()}"


def _with_a_mapping_as_env(flow_run: FlowRun) -> FlowRun:
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
