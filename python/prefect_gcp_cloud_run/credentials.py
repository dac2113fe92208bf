"""The GCP credentials block: how flows and the worker authenticate to Google Cloud.

Beside the upstream package this file is not loaded: the import hook makes the module's name mean upstream's module, so
that a process has one class `GcpCredentials`.
"""

from __future__ import annotations

import importlib
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.blocks.abstract import CredentialsBlock
from prefect.types import SecretDict
from prefect.utilities.asyncutils import run_sync_in_worker_thread, sync_compatible
from pydantic import ConfigDict, Field, field_validator, model_validator
from typing_extensions import Self

import _prefect_gcp_cloud_run_hook as hook
from prefect_gcp_cloud_run import _google_auth
from prefect_gcp_cloud_run._default_project import project_of
from prefect_gcp_cloud_run._discreet import hide_input
from prefect_gcp_cloud_run._key_source import decoded_info, existing_file, key_text, project_of_key
from prefect_gcp_cloud_run._mistakes import unknown_block_fields

if TYPE_CHECKING:
    from google.auth.credentials import Credentials


class ClientType(str, Enum):
    """The Google clients that `GcpCredentials.get_client` makes."""

    CLOUD_STORAGE = "cloud_storage"
    BIGQUERY = "bigquery"
    SECRET_MANAGER = "secret_manager"  # noqa: S105 - the name of a service
    AIPLATFORM = "job_service"


class GcpCredentials(CredentialsBlock):
    """Authenticates to Google Cloud.

    A block without a key stands for the application default credentials of the process that uses it. It looks them up
    when it needs them, so a block can be made, saved and loaded where there are none.

    Attributes:
        service_account_file: Path of a service account key file.
        service_account_info: The content of a service account key file, as a mapping or as JSON text.
        project: Id of the Google Cloud project. Defaults to the project of the key. See `resolve_project`.

    Raises:
        ValueError: Both a file and its content are given, the file does not exist, or the content is not JSON. Or a
            field is mistyped: it would be ignored, and other credentials used.

    Example:
        ```python
        from prefect_gcp_cloud_run import GcpCredentials

        GcpCredentials(service_account_file="~/key.json").save("my-credentials")
        ```
    """

    _logo_url = "https://cdn.sanity.io/images/3ugk85nk/production/10424e311932e31c477ac2b9ef3d53cefbaad708-250x250.png"  # type: ignore[assignment]
    _block_type_name = "GCP Credentials"
    _documentation_url = "https://docs.prefect.io/integrations/prefect-gcp"  # type: ignore[assignment]

    # Validation errors must not show the key.
    model_config = ConfigDict(hide_input_in_errors=True)
    _hide_input = hide_input()

    service_account_file: Path | None = Field(default=None, description="Path of a service account's JSON key file.")
    service_account_info: SecretDict | None = Field(
        default=None, description="The content of a service account's JSON key file."
    )
    project: str | None = Field(
        default=None, description="Id of the Google Cloud project. Defaults to the project of the key."
    )

    @model_validator(mode="before")
    @classmethod
    def _has_no_other_fields(cls, data: Any) -> Any:
        names = (name for known, field in cls.model_fields.items() for name in {known, field.alias or known})
        if isinstance(data, dict) and (problem := unknown_block_fields(data, names)):
            raise ValueError(problem)
        return data

    @field_validator("service_account_file")
    @classmethod
    def _file_exists(cls, file: Path | None) -> Path | None:
        return None if file is None else existing_file(file)

    @field_validator("service_account_info", mode="before")
    @classmethod
    def _decode_info(cls, info: Any) -> Any:
        return decoded_info(info)

    @model_validator(mode="after")
    def _choose_key(self) -> Self:
        if self.service_account_info and self.service_account_file:
            raise ValueError("Only one of service_account_info or service_account_file can be specified at once")
        if self.project is None:
            self.project = self._key_project()
        return self

    def __hash__(self) -> int:
        """Returns equal hashes for equal blocks, so that clients can be cached by block."""
        return hash((self.service_account_file, key_text(self.service_account_info), self.project))

    def resolve_project(self) -> str | None:
        """Finds the project to work in.

        The first of these that exists counts:

        1. `project`, which defaults to the project of the key.
        2. If `CLOUD_RUN_EMULATOR_HOST` is set: `GOOGLE_CLOUD_PROJECT`, or else `emulator-project`.
        3. If the block has no key: the quota project of the application default credentials, or else their project.

        The third may read files, run gcloud and call the metadata server, so it may block for up to 120 seconds. Do not
        call this on an event loop.

        Returns:
            The project id, or None if the credentials name no project.

        Raises:
            google.auth.exceptions.GoogleAuthError: The application default credentials do not exist or cannot be read.
        """
        return project_of(self)

    def get_credentials_from_service_account(self) -> Credentials:
        """Makes credentials for Google's client libraries.

        Returns:
            Credentials of google-auth: of the key, or else the application default credentials.

        Raises:
            google.auth.exceptions.GoogleAuthError: The application default credentials do not exist or cannot be read.
            OSError: The key file cannot be read.
            ValueError: The key is malformed.
        """
        info = self.service_account_info.get_secret_value() if self.service_account_info else None
        return _google_auth.load(info, self.service_account_file, _google_auth.transport())

    @sync_compatible
    async def get_access_token(self) -> str:
        """Gets an access token. Await the result in asynchronous code; in synchronous code, the call blocks.

        Returns:
            The token.

        Raises:
            google.auth.exceptions.GoogleAuthError: There are no credentials, or Google gives no token for them.
            OSError: The key file cannot be read.
            ValueError: The key is malformed.
        """
        return await run_sync_in_worker_thread(self._fetch_token)

    def get_client(self, client_type: str | ClientType, **get_client_kwargs: Any) -> Any:
        """Makes a client of a Google service.

        Args:
            client_type: A `ClientType`, or the value of one.
            get_client_kwargs: Arguments of the method for that type, such as `get_bigquery_client`.

        Returns:
            The client.

        Raises:
            ValueError: `client_type` is unknown.
            ImportError: The library of the service is not installed.
        """
        return getattr(self, f"get_{ClientType(client_type).value}_client")(**get_client_kwargs)

    def get_cloud_storage_client(self, project: str | None = None) -> Any:
        """Makes a Cloud Storage client.

        Args:
            project: Project id. Defaults to the result of `resolve_project`.

        Returns:
            A `google.cloud.storage.Client`.

        Raises:
            ImportError: The extra `cloud-storage` is not installed.
        """
        storage = _import("google.cloud.storage", "cloud-storage")
        return storage.Client(
            credentials=self.get_credentials_from_service_account(), project=project or self.resolve_project()
        )

    def get_bigquery_client(self, project: str | None = None, location: str | None = None) -> Any:
        """Makes a BigQuery client.

        Args:
            project: Project id. Defaults to the result of `resolve_project`.
            location: Default location of jobs, datasets and tables.

        Returns:
            A `google.cloud.bigquery.Client`.

        Raises:
            ImportError: The extra `bigquery` is not installed.
        """
        bigquery = _import("google.cloud.bigquery", "bigquery")
        return bigquery.Client(
            credentials=self.get_credentials_from_service_account(),
            project=project or self.resolve_project(),
            location=location,
        )

    def get_secret_manager_client(self) -> Any:
        """Makes a Secret Manager client.

        Returns:
            A `google.cloud.secretmanager.SecretManagerServiceClient`.

        Raises:
            ImportError: The extra `secret-manager` is not installed.
        """
        secretmanager = _import("google.cloud.secretmanager", "secret-manager")
        return secretmanager.SecretManagerServiceClient(credentials=self.get_credentials_from_service_account())

    def get_job_service_client(self, client_options: Any = None) -> Any:
        """Makes a Vertex AI client for jobs.

        Args:
            client_options: Options of the client, such as `{"api_endpoint": "us-central1-aiplatform.googleapis.com"}`.

        Returns:
            A `google.cloud.aiplatform.gapic.JobServiceClient`.

        Raises:
            ImportError: The extra `aiplatform` is not installed.
        """
        return self._job_service_client("JobServiceClient", client_options)

    def get_job_service_async_client(self, client_options: Any = None) -> Any:
        """Makes an asynchronous Vertex AI client for jobs.

        Args:
            client_options: Options of the client, such as `{"api_endpoint": "us-central1-aiplatform.googleapis.com"}`.

        Returns:
            A `google.cloud.aiplatform.gapic.JobServiceAsyncClient`.

        Raises:
            ImportError: The extra `aiplatform` is not installed.
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

    def _key_project(self) -> str | None:
        """The project of the key, or None if there is no key or it names no project."""
        info = self.service_account_info.get_secret_value() if self.service_account_info else None
        return project_of_key(info, self.service_account_file)


def _import(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This client needs {module}, which is not installed: pip install 'prefect-gcp-cloud-run[{extra}]'"
        ) from error


# Prefect's user interface shows this path, and pickles name it. It is the one that images without this package have.
if hook.install().serves:
    for _public in (ClientType, GcpCredentials):
        _public.__module__ = "prefect_gcp.credentials"
    # inspect looks for the module of a class there.
    sys.modules.setdefault("prefect_gcp.credentials", sys.modules[__name__])
