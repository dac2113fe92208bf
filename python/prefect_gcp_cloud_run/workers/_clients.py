"""Clients of the Cloud Run Admin API for a configuration, and the project that it means."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from prefect_gcp_cloud_run import _core, _credentials_of
from prefect_gcp_cloud_run._default_project import prepare_project_of
from prefect_gcp_cloud_run._key_source import key_text
from prefect_gcp_cloud_run.exceptions import CloudRunAuthenticationError, CloudRunError, CloudRunUnavailableError

if TYPE_CHECKING:
    from google.auth.exceptions import GoogleAuthError

    from prefect_gcp_cloud_run.credentials import GcpCredentials
    from prefect_gcp_cloud_run.settings import CloudRunWorkerSettings
    from prefect_gcp_cloud_run.workers._configuration import CloudRunWorkerJobConfiguration


async def client_and_project(
    configuration: CloudRunWorkerJobConfiguration, settings: CloudRunWorkerSettings
) -> tuple[_core.Client, str]:
    """Makes a client for the configuration's project and region.

    Returns:
        The client, and the project.

    Raises:
        ValueError: If there is no project, or the place or the credentials can't be used.
        CloudRunError: If the project can't be found.
    """
    credentials = configuration.credentials or _credentials_of.environments()
    project = credentials.project or await _find_project(configuration, credentials, settings)
    if not project:
        raise ValueError(
            "No Google Cloud project is configured. Set 'project' on the work pool's GCP credentials block. If the "
            "block has no key, setting GOOGLE_CLOUD_PROJECT in the worker's environment works too"
        )
    return client_in(configuration, project, configuration.region, settings), project


def client_in(
    configuration: CloudRunWorkerJobConfiguration, project: str, region: str, settings: CloudRunWorkerSettings
) -> _core.Client:
    """Makes a client with the configuration's credentials for any project and region.

    Raises:
        ValueError: If the project, the region or the credentials can't be used.
    """
    credentials = configuration.credentials or _credentials_of.environments()
    return _core.Client(
        project=project,
        region=region,
        credentials=_core.Credentials(
            service_account_info=key_text(credentials.service_account_info),
            service_account_file=credentials.service_account_file,
        ),
        settings=settings,
    )


async def _find_project(
    configuration: CloudRunWorkerJobConfiguration, credentials: GcpCredentials, settings: CloudRunWorkerSettings
) -> str | None:
    """Finds the configuration's project in files, by gcloud or by the metadata server."""
    pause, ends = settings.retry_initial_delay_seconds, time.monotonic() + settings.retry_max_seconds
    while True:
        try:
            await prepare_project_of(credentials)
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
    hint = (
        "Set 'project' on the work pool's GCP credentials block, or give the worker application default credentials "
        "(on a machine of your own: gcloud auth application-default login)"
    )
    message = f"The Google Cloud project to run in could not be found: {str(error).rstrip('.')}. {hint}."
    return kind(message, region=region, hint=hint)
