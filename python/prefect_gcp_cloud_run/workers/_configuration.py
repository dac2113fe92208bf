"""The configuration of a flow run: the rendered template, and what the worker fills in."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from prefect.client.utilities import inject_client
from prefect.exceptions import ObjectNotFound
from prefect.logging.loggers import PrefectLogAdapter, get_logger
from prefect.workers.base import BaseJobConfiguration
from pydantic import ConfigDict, Field, PrivateAttr, field_validator
from typing_extensions import Self

from prefect_gcp_cloud_run import _core, _credentials_of
from prefect_gcp_cloud_run._discreet import hide_input
from prefect_gcp_cloud_run._mistakes import not_an_environment, other_api, shown
from prefect_gcp_cloud_run.credentials import GcpCredentials
from prefect_gcp_cloud_run.models.cloud_run_v2 import SecretKeySelector
from prefect_gcp_cloud_run.workers._extended import Extended, extended_of
from prefect_gcp_cloud_run.workers._job_body import (
    TASK,
    default_image,
    fill_in_name,
    lost_its_shape,
    part_of,
    path_of_container,
    split_command_line,
)
from prefect_gcp_cloud_run.workers._loggers import worker_logger
from prefect_gcp_cloud_run.workers._nulls import without_nulls
from prefect_gcp_cloud_run.workers._settings_environment import settings_environment
from prefect_gcp_cloud_run.workers._templates import (
    _get_default_job_body_template,
    render_configuration,
    unknown_variables,
    with_secrets_of_both,
)
from prefect_gcp_cloud_run.workers._variables import (
    DEFAULT_REGION,
    DEFAULT_TIMEOUT,
    ApiKeySecretField,
    AuthStringSecretField,
    CredentialsField,
    KeepJobField,
    TimeoutField,
    checked_credentials,
    variables_for_a_kill,
    with_a_mapping_as_env,
    without_env,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
    from prefect.client.schemas.responses import DeploymentResponse

# Prefect's label `prefect.io/flow-run-id`, in the form that Google accepts.
FLOW_RUN_ID_LABEL = "prefect-io-flow-run-id"


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

    region: str = Field(default=DEFAULT_REGION, description="Region of the Cloud Run job.")
    credentials: CredentialsField = Field(default_factory=_credentials_of.environments)
    prefect_api_key_secret: ApiKeySecretField = None
    prefect_api_auth_string_secret: AuthStringSecretField = None
    job_body: dict[str, Any] = Field(json_schema_extra={"template": _get_default_job_body_template()})
    timeout: TimeoutField = DEFAULT_TIMEOUT
    keep_job: KeepJobField = False

    # Job variables may contain secrets, which must not show in errors.
    model_config = ConfigDict(hide_input_in_errors=True)
    _hide_input = hide_input()
    _credentials_are_checked = checked_credentials()

    # The labels that a prepare added at each path, so that the next prepare can remove them.
    _injected_labels: dict[tuple[str, ...], dict[str, str]] = PrivateAttr(default_factory=dict)
    _logger: logging.Logger | PrefectLogAdapter = PrivateAttr(default_factory=lambda: get_logger(__name__))
    # The job variables that the work pool's template does not know, with the nearest name that it does.
    _unknown_variables: dict[str, str | None] = PrivateAttr(default_factory=dict)
    # What the template asks for with keys that upstream's worker does not know.
    _extended: Extended = PrivateAttr(default_factory=Extended)
    # The flow run that it was prepared for.
    _flow_run_id: str | None = PrivateAttr(default=None)
    # The name that the worker made for the job, if the template has none.
    _unique_name: str | None = PrivateAttr(default=None)

    @classmethod
    def _base_environment(cls) -> dict[str, str]:
        # Prefect makes it anew for each flow run, which takes tens of milliseconds of the worker's event loop.
        return settings_environment(super()._base_environment, cls)

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

    @field_validator("credentials")
    @classmethod
    def _null_means_the_environments(cls, credentials: GcpCredentials | None) -> GcpCredentials:
        return credentials or _credentials_of.environments()

    @field_validator("job_body")
    @classmethod
    def _contains_the_base_body(cls, job_body: dict[str, Any]) -> dict[str, Any]:
        if problem := _core.check_base_job_body(job_body):
            other = other_api(job_body)
            raise ValueError(f"{problem}. {other}" if other else problem)
        return without_nulls(job_body)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Leaves out the environment, and the job body that contains it."""
        return without_env(super().__repr_args__())

    @property
    def project(self) -> str | None:
        """The project to run in, from `GcpCredentials.resolve_project`."""
        return _credentials_of.resolve_project(self.credentials or _credentials_of.environments())

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
        extended = extended_of(fields, cls.model_fields)
        made = cls(**fields)
        made._extended = extended
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
            merged, deployment = await with_secrets_of_both(with_a_mapping_as_env(flow_run), deployment, client)
            return await super().resolve_for_flow_run(
                merged,
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
            worker_logger(flow_run, worker_name, work_pool).info(
                f"The configuration of this flow run can't be made any more ({type(error).__name__}); using the work "
                "pool's to find its Cloud Run Job"
            )
            for values in await variables_for_a_kill(flow_run, client):
                with suppress(ObjectNotFound, ValueError):
                    return await cls._for_a_kill(flow_run, values, client, work_pool, worker_name)
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
        self._logger = worker_logger(flow_run, worker_name, work_pool)
        self._flow_run_id = str(flow_run.id)
        self._warn_about_unknown_variables()
        self._populate_envs()
        self._populate_labels()
        self._warn_about_plaintext_credentials(flow_run, worker_name, work_pool)
        self._populate_or_format_command()
        self._format_args_if_present()
        self._populate_image_if_not_present()
        self._populate_name_if_not_present()
        self._populate_service_account_if_not_present()
        self._check_job_body()

    def _populate_envs(self) -> None:
        container = self._container("env")
        own = container.get("env")
        # The template "{{ env }}" renders to a mapping, which contains nothing that `self.env` lacks.
        if own is None or isinstance(own, dict):
            own = []
        elif not isinstance(own, list):
            raise lost_its_shape("env", (*self._path_of_container(), "env"), "list")
        env = {name: value for name, value in self.env.items() if value is not None}
        secrets = [
            (name, selector.secret, selector.version)
            for name, selector in self._secret_variables().items()
            if selector is not None
        ]
        secrets += self._extended.secrets({name for name, *_ in secrets})
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
                worker_logger(flow_run, worker_name, work_pool).warning(
                    f"{name} is provided as a plaintext environment variable, which anyone who can read the job can "
                    f"see: consider providing it as a secret using '{fields[name]}' in your base job template"
                )

    def _populate_or_format_command(self) -> None:
        container = self._container("image")
        if container.get("command") is None:
            container["command"] = self._base_flow_run_command()
        split_command_line(container, "command")

    def _format_args_if_present(self) -> None:
        split_command_line(self._container("image"), "args")

    def _populate_image_if_not_present(self) -> None:
        container = self._container("image")
        if container.get("image") is None:
            container["image"] = default_image()

    def _populate_name_if_not_present(self) -> None:
        metadata = self._part("image", "metadata")
        unique, problem = fill_in_name(metadata, self.name or "")
        self._unique_name = unique or self._unique_name
        if problem is not None:
            self._logger.warning(f"{problem}; using {metadata['name']!r} instead")

    def _populate_service_account_if_not_present(self) -> None:
        task = self._part("image", *TASK)
        if not self._extended.use_credentials_service_account or task.get("serviceAccountName"):
            return
        if account := _credentials_of.service_account(self.credentials or _credentials_of.environments()):
            task["serviceAccountName"] = account
        else:
            self._logger.warning(
                "use_credentials_service_account has no effect: the credentials have no key of a service account"
            )

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
        return self._part(what, *self._path_of_container())

    def _path_of_container(self) -> tuple[str | int, ...]:
        return path_of_container(self.job_body, self._extended.main_container)

    def _part(self, what: str, *path: str | int) -> dict[str, Any]:
        """A mapping of the job body, as `part_of` finds it."""
        return part_of(self.job_body, what, *path)


def labels_of(configuration: CloudRunWorkerJobConfiguration) -> dict[str, str]:
    return configuration.job_body["metadata"].get("labels") or {}
