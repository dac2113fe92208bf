"""The GCP credentials block: whom flows and the worker authenticate as."""

from __future__ import annotations

import importlib
import json
import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.blocks.abstract import CredentialsBlock
from prefect.types import SecretDict
from prefect.utilities.asyncutils import run_sync_in_worker_thread, sync_compatible
from pydantic import ConfigDict, Field, field_validator, model_validator
from typing_extensions import Self

from prefect_gcp import _google_auth
from prefect_gcp._default_project import default_project
from prefect_gcp._discreet import hide_input

if TYPE_CHECKING:
    from google.auth.credentials import Credentials


class ClientType(str, Enum):
    """Google clients that the block can make."""

    CLOUD_STORAGE = "cloud_storage"
    BIGQUERY = "bigquery"
    SECRET_MANAGER = "secret_manager"  # noqa: S105, the name of a service
    AIPLATFORM = "job_service"


class GcpCredentials(CredentialsBlock):
    """Authenticates to Google Cloud.

    Without a key, the application default credentials of the place where it is used count. They are looked up when
    they are needed, so a block can be made, saved and loaded where there are none.

    Attributes:
        service_account_file: Path to a service account's key file.
        service_account_info: The content of such a file, as a mapping or as JSON text.
        project: Project id; by default the key's. See `resolve_project`.

    Raises:
        ValueError: When both a file and its content are given, the file does not exist, or the text is not JSON.

    Example:
        ```python
        from prefect_gcp import GcpCredentials

        GcpCredentials(service_account_file="~/key.json").save("my-credentials")
        ```
    """

    _logo_url = "https://cdn.sanity.io/images/3ugk85nk/production/10424e311932e31c477ac2b9ef3d53cefbaad708-250x250.png"  # type: ignore[assignment]
    _block_type_name = "GCP Credentials"
    _documentation_url = "https://docs.prefect.io/integrations/prefect-gcp"  # type: ignore[assignment]

    # A key that is refused must not show in the error.
    model_config = ConfigDict(hide_input_in_errors=True)
    _hide_input = hide_input()

    service_account_file: Path | None = Field(
        default=None, description="Path to the JSON key file of a service account."
    )
    service_account_info: SecretDict | None = Field(
        default=None, description="The content of a service account's JSON key file."
    )
    project: str | None = Field(default=None, description="The project to work in; by default the key's.")

    @field_validator("service_account_file")
    @classmethod
    def _file_exists(cls, file: Path | None) -> Path | None:
        if file is None:
            return None
        file = file.expanduser()
        # A device or a pipe could be read for ever.
        if not file.is_file():
            raise ValueError("The provided path to the service account is invalid")
        return file

    @field_validator("service_account_info", mode="before")
    @classmethod
    def _decode_info(cls, info: Any) -> Any:
        if not isinstance(info, (str, bytes)):
            return info
        return _parsed(info, "Unable to decode service_account_info")

    @model_validator(mode="after")
    def _choose_key(self) -> Self:
        if self.service_account_info and self.service_account_file:
            raise ValueError("Only one of service_account_info or service_account_file can be specified at once")
        if self.project is None:
            self.project = self._key_project()
        return self

    def __hash__(self) -> int:
        """Equal blocks have equal hashes, so that clients can be kept by block."""
        return hash((self.service_account_file, self._key_text(), self.project))

    def resolve_project(self) -> str | None:
        """The project to work in.

        `project`, and with it the key's. Else, with `CLOUD_RUN_EMULATOR_HOST`, `GOOGLE_CLOUD_PROJECT` or
        `emulator-project`. Else, without a key, that of the application default credentials: their quota project if
        they have one. May read files, run gcloud and ask the metadata server: call it off the event loop.

        Returns:
            The project id, or None when the credentials name none.

        Raises:
            google.auth.exceptions.DefaultCredentialsError: When there are no application default credentials.
        """
        if self.project is not None:
            return self.project
        if os.environ.get("CLOUD_RUN_EMULATOR_HOST"):
            return os.environ.get("GOOGLE_CLOUD_PROJECT") or "emulator-project"
        if self.service_account_file or self.service_account_info:
            return None
        return default_project.wait()

    async def _prepare_project(self) -> None:
        """Makes `resolve_project` answer at once, where it would have to look something up.

        Raises:
            google.auth.exceptions.GoogleAuthError: As `resolve_project`.
        """
        is_known = self.project is not None or self.service_account_file or self.service_account_info
        if not is_known and not os.environ.get("CLOUD_RUN_EMULATOR_HOST"):
            await default_project.find()

    def get_credentials_from_service_account(self) -> Credentials:
        """Credentials for Google's own libraries.

        Returns:
            A google-auth object: the key's, else the application default credentials.

        Raises:
            google.auth.exceptions.GoogleAuthError: When there are no default credentials.
            ValueError: When the key is malformed.
        """
        info = self.service_account_info.get_secret_value() if self.service_account_info else None
        return _google_auth.load(info, self.service_account_file, _google_auth.transport())

    @sync_compatible
    async def get_access_token(self) -> str:
        """An access token, to be awaited where there is an event loop.

        Returns:
            The token.

        Raises:
            google.auth.exceptions.GoogleAuthError: When none can be had.
        """
        return await run_sync_in_worker_thread(self._fetch_token)

    def get_client(self, client_type: str | ClientType, **get_client_kwargs: Any) -> Any:
        """A client of a Google service.

        Args:
            client_type: Which one.
            get_client_kwargs: Arguments of the method that makes it, such as `get_bigquery_client`.

        Returns:
            The client.

        Raises:
            ValueError: When there is no such client.
            ImportError: When the service's library is not installed.
        """
        return getattr(self, f"get_{ClientType(client_type).value}_client")(**get_client_kwargs)

    def get_cloud_storage_client(self, project: str | None = None) -> Any:
        """A `google.cloud.storage.Client`, in `project` or the block's own.

        Raises:
            ImportError: Without the extra `cloud-storage`.
        """
        storage = _import("google.cloud.storage", "cloud-storage")
        return storage.Client(
            credentials=self.get_credentials_from_service_account(), project=project or self.resolve_project()
        )

    def get_bigquery_client(self, project: str | None = None, location: str | None = None) -> Any:
        """A `google.cloud.bigquery.Client`, in `project` or the block's own.

        Raises:
            ImportError: Without the extra `bigquery`.
        """
        bigquery = _import("google.cloud.bigquery", "bigquery")
        return bigquery.Client(
            credentials=self.get_credentials_from_service_account(),
            project=project or self.resolve_project(),
            location=location,
        )

    def get_secret_manager_client(self) -> Any:
        """A `google.cloud.secretmanager.SecretManagerServiceClient`.

        Raises:
            ImportError: Without the extra `secret-manager`.
        """
        secretmanager = _import("google.cloud.secretmanager", "secret-manager")
        return secretmanager.SecretManagerServiceClient(credentials=self.get_credentials_from_service_account())

    def get_job_service_client(self, client_options: Any = None) -> Any:
        """A Vertex AI `JobServiceClient` with these client options.

        Raises:
            ImportError: Without the extra `aiplatform`.
        """
        return self._job_service_client("JobServiceClient", client_options)

    def get_job_service_async_client(self, client_options: Any = None) -> Any:
        """A Vertex AI `JobServiceAsyncClient` with these client options.

        Raises:
            ImportError: Without the extra `aiplatform`.
        """
        return self._job_service_client("JobServiceAsyncClient", client_options)

    def _job_service_client(self, name: str, client_options: Any) -> Any:
        gapic = _import("google.cloud.aiplatform.gapic", "aiplatform")
        return getattr(gapic, name)(
            credentials=self.get_credentials_from_service_account(), client_options=client_options
        )

    def _fetch_token(self) -> str:
        credentials = self.get_credentials_from_service_account()
        _google_auth.refresh(credentials, _google_auth.transport())
        return str(credentials.token)

    def _key_text(self) -> str | None:
        """The key as JSON text, if it was given by its content."""
        if not self.service_account_info:
            return None
        return json.dumps(self.service_account_info.get_secret_value(), sort_keys=True)

    def _key_project(self) -> str | None:
        """The project that the key belongs to."""
        if self.service_account_info:
            key = self.service_account_info.get_secret_value()
        elif self.service_account_file:
            try:
                text = _google_auth.read_key_file(self.service_account_file)
            except OSError:
                text = b""
            key = _parsed(text, f"{self.service_account_file} is not a readable JSON key file")
        else:
            return None
        project = key.get("project_id") if isinstance(key, dict) else None
        return project if isinstance(project, str) else None


def _parsed(key: str | bytes, complaint: str) -> Any:
    try:
        return json.loads(key)
    except ValueError:
        pass
    # Not while the parser's exception, which holds the key, is being handled.
    raise ValueError(complaint)


def _import(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module} is needed for this client: pip install 'prefect-gcp-cloud-run[{extra}]'"
        ) from error
