"""Exceptions of the Cloud Run worker: one class for each cause."""

from __future__ import annotations

from typing import Any


class CloudRunError(Exception):
    """An API call failed, or a job could not be run. Base class of all exceptions of the worker.

    Attributes:
        project: Project id.
        region: Region, such as `us-central1`.
        job: Name of the job.
        name: Name of the job or execution in the API call; empty if there is none.
        status: HTTP status of the last response; None if there was none.
        api_message: Google's message, or that of the connection. It is part of the exception's message too.
        permission: The IAM permission that the worker's account lacks; empty for other causes.
        resource: The resource on which the permission is missing, from Google's message; empty for other causes.
        hint: What to do. It is part of the exception's message too.

    `__cause__` is the exception behind it, if there is one: a broken connection, or a failed call.
    """

    def __init__(
        self,
        message: str,
        *,
        project: str = "",
        region: str = "",
        name: str = "",
        status: int | None = None,
        api_message: str = "",
        job: str = "",
        permission: str = "",
        resource: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.project = project
        self.region = region
        self.name = name
        self.status = status
        self.api_message = api_message
        self.job = job
        self.permission = permission
        self.resource = resource
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Keeps the cause when the exception is pickled or copied. The base class would drop it."""
        return type(self), self.args, {**self.__dict__, "__cause__": self.__cause__}


class CloudRunNotFoundError(CloudRunError):
    """The job or execution does not exist."""


class CloudRunAlreadyExistsError(CloudRunError):
    """A job of this name already exists."""


class CloudRunPermissionError(CloudRunError):
    """The account lacks a permission, or the project does not exist. The API does not say which."""


class CloudRunApiDisabledError(CloudRunError):
    """The Cloud Run Admin API is not enabled in the project."""


class CloudRunInvalidRequestError(CloudRunError):
    """The API rejects the job's body or name."""


class CloudRunRegionError(CloudRunError):
    """There is no Cloud Run API at the region's address."""


class CloudRunQuotaError(CloudRunError):
    """A quota or a limit stayed used up for longer than the worker waits."""


class CloudRunAuthenticationError(CloudRunError):
    """There is no access token, or the API rejects it."""


class CloudRunUnavailableError(CloudRunError):
    """The API could not be reached, or kept failing until the retry budget was spent."""


class CloudRunJobNotReadyError(CloudRunError):
    """The job was created but can't run, for example because its image does not exist."""


class CloudRunJobRemovedError(CloudRunError):
    """The job was deleted before an execution started."""


class CloudRunStartUnknownError(CloudRunError):
    """It is unknown whether an execution started. The worker did not start the job again."""
