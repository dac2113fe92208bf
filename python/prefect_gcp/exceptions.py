"""What can go wrong with Cloud Run, one class for each cause."""

from __future__ import annotations

from typing import Any


class CloudRunError(Exception):
    """A call to the Cloud Run Admin API failed, or a job could not be run.

    Attributes:
        project: Project id.
        region: Region, such as `us-central1`.
        job: Name of the job.
        name: Name of the job or execution that the call was about; empty when there is none.
        status: HTTP status of the last answer, or None when there was none.
        api_message: Google's message, or the transport's; also part of the message.
        permission: The permission that the caller lacks; empty where that is not the cause.
        resource: What it is lacked on, as Google's message has it; empty where that is not the cause.
        hint: What to do about it; also part of the message.

    Its `__cause__` is what it comes from, where that is an exception: a connection that broke, a call that failed.
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
        """Pickles and copies with the cause, which the base class would drop."""
        return type(self), self.args, {**self.__dict__, "__cause__": self.__cause__}


class CloudRunNotFoundError(CloudRunError):
    """The job or execution is not there."""


class CloudRunAlreadyExistsError(CloudRunError):
    """Another job has the name."""


class CloudRunPermissionError(CloudRunError):
    """The account lacks a permission, or the project does not exist: the API does not tell which."""


class CloudRunApiDisabledError(CloudRunError):
    """The project has not enabled the Cloud Run Admin API."""


class CloudRunInvalidRequestError(CloudRunError):
    """The API refuses the job's body or name."""


class CloudRunRegionError(CloudRunError):
    """No Cloud Run API answers at the region's address."""


class CloudRunQuotaError(CloudRunError):
    """A quota or limit is reached, and stayed so for as long as it is waited for."""


class CloudRunAuthenticationError(CloudRunError):
    """There is no token, or the API refuses it."""


class CloudRunUnavailableError(CloudRunError):
    """The API could not be reached or kept failing for the whole retry budget."""


class CloudRunJobNotReadyError(CloudRunError):
    """The job was created and can't be run: its image is missing, say."""


class CloudRunJobRemovedError(CloudRunError):
    """Somebody deleted the job before it was executed."""


class CloudRunStartUnknownError(CloudRunError):
    """The job may or may not have been executed, and was not executed again."""
