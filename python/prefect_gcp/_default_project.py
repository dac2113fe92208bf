"""The project of the application default credentials, looked up once per process."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from prefect.logging.loggers import get_logger

from prefect_gcp import _google_auth

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
