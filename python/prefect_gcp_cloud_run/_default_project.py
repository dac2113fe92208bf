"""The project of a credentials block. That of the application default credentials is looked up once per process."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

from prefect.logging.loggers import get_logger

from prefect_gcp_cloud_run import _google_auth

if TYPE_CHECKING:
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request

    # The project, or why the lookup failed.
    LookupResult = tuple[str | None, GoogleAuthError | None]

# Seconds until a failed lookup is repeated. One lookup may take ten seconds.
_PAUSE_SECONDS = 10.0
_TRANSIENT_PAUSE_SECONDS = 1.0
# Maximum wait for a lookup, in seconds.
_MAX_WAIT_SECONDS = 120.0
# A lookup that takes longer than this is reported, in seconds.
_SLOW_SECONDS = 10.0

_logger = get_logger(__name__)


class DefaultProject:
    """Looks up the project of the application default credentials.

    All callers share one lookup, and a project that was found is kept for the life of the process. The lookup runs in
    a daemon thread of its own, because gcloud and the metadata server may hang: neither the event loop nor its worker
    threads wait for them.
    """

    def __init__(self) -> None:
        """Makes an instance that has not looked up anything yet."""
        self._lock = threading.Lock()
        self._future: Future[LookupResult] | None = None
        # Until this time of the monotonic clock, the result of a finished lookup counts.
        self._valid_until = 0.0

    def wait(self) -> str | None:
        """Returns the project. Blocks for up to 120 seconds.

        Returns:
            The project id, or None if the credentials name no project.

        Raises:
            google.auth.exceptions.GoogleAuthError: The lookup failed. `retryable` is true if it may succeed later.
        """
        try:
            return _project_or_raise(self._look_up_once().result(_MAX_WAIT_SECONDS))
        except concurrent.futures.TimeoutError:
            raise _late() from None

    async def find(self) -> str | None:
        """Returns the project, like `wait`, without blocking the event loop. A slow lookup is a line in the log.

        Returns:
            The project id, or None if the credentials name no project.

        Raises:
            google.auth.exceptions.GoogleAuthError: The lookup failed. `retryable` is true if it may succeed later.
        """
        future = asyncio.wrap_future(self._look_up_once())
        done, _ = await asyncio.wait({future}, timeout=_SLOW_SECONDS)
        if not done:
            _logger.warning(
                f"The Google Cloud project of the application default credentials is not known after "
                f"{_SLOW_SECONDS:.0f} s; waiting for up to {_MAX_WAIT_SECONDS:.0f} s. gcloud or the metadata server "
                "may hang. Setting 'project' on the work pool's GCP credentials block makes the lookup unnecessary"
            )
            done, _ = await asyncio.wait({future}, timeout=_MAX_WAIT_SECONDS - _SLOW_SECONDS)
        if not done:
            raise _late()
        return _project_or_raise(future.result())

    def _look_up_once(self) -> Future[LookupResult]:
        with self._lock:
            if self._future is None or (self._future.done() and time.monotonic() >= self._valid_until):
                self._future = Future()
                # A running future cannot be cancelled, so no caller can cancel it for the others.
                self._future.set_running_or_notify_cancel()
                threading.Thread(target=self._run, args=[self._future], name="cloud-run-project", daemon=True).start()
            return self._future

    def _run(self, future: Future[LookupResult]) -> None:
        from google.auth.exceptions import DefaultCredentialsError

        request = None
        try:
            request = _google_auth.transport()
            project = self._look_up(request)
        except Exception as error:
            failure = _google_auth.summarize(error, request, DefaultCredentialsError)
            pause = _TRANSIENT_PAUSE_SECONDS if failure.retryable else _PAUSE_SECONDS
            self._valid_until = time.monotonic() + pause
            future.set_result((None, failure))
        else:
            # A missing project may appear soon: the metadata server of a new machine does not know it at first.
            self._valid_until = float("inf") if project else time.monotonic() + _PAUSE_SECONDS
            future.set_result((project, None))

    @staticmethod
    def _look_up(request: Request) -> str | None:
        credentials, project = _google_auth.load_default_with_project(request)
        return getattr(credentials, "quota_project_id", None) or project


class CredentialsBlock(Protocol):
    """What a credentials block says, whether its class is this package's or upstream's."""

    project: str | None
    service_account_file: Any
    service_account_info: Any


def project_of(block: CredentialsBlock) -> str | None:
    """Finds the project that a credentials block means: see `GcpCredentials.resolve_project`. May block.

    Returns:
        The project id, or None if the credentials name no project.

    Raises:
        google.auth.exceptions.GoogleAuthError: The application default credentials do not exist or cannot be read.
    """
    if block.project is not None:
        return block.project
    if os.environ.get("CLOUD_RUN_EMULATOR_HOST"):
        return os.environ.get("GOOGLE_CLOUD_PROJECT") or "emulator-project"
    return None if _has_key(block) else default_project.wait()


async def prepare_project_of(block: CredentialsBlock) -> None:
    """Looks up the default project if `project_of` needs it, so that `project_of` does not block.

    Raises:
        google.auth.exceptions.GoogleAuthError: The application default credentials do not exist or cannot be read.
    """
    if block.project is None and not _has_key(block) and not os.environ.get("CLOUD_RUN_EMULATOR_HOST"):
        await default_project.find()


def _has_key(block: CredentialsBlock) -> bool:
    return bool(block.service_account_file or block.service_account_info)


def _late() -> GoogleAuthError:
    from google.auth.exceptions import DefaultCredentialsError

    message = f"no answer within {_MAX_WAIT_SECONDS:.0f} s: gcloud or the metadata server hangs"
    return DefaultCredentialsError(message, retryable=False)  # type: ignore[no-untyped-call]


def _project_or_raise(result: LookupResult) -> str | None:
    project, failure = result
    if failure is not None:
        # A new exception for each caller: one that is raised again and again accumulates all their tracebacks.
        raise type(failure)(*failure.args, retryable=failure.retryable)
    return project


default_project = DefaultProject()
