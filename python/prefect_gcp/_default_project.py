"""The project of the application default credentials."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from prefect_gcp import _google_auth

if TYPE_CHECKING:
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request

    # The project, or why it could not be looked up.
    Answer = tuple[str | None, GoogleAuthError | None]

# How long a look-up that failed is not repeated, in seconds: it may take ten.
_PAUSE = 10.0
_PAUSE_PASSING = 1.0
# Longest wait for a look-up, in seconds.
_LONGEST = 120.0


class DefaultProject:
    """Looks the project up once for all who wait, in a thread of its own, and remembers one that it found for ever.

    gcloud and the metadata server may hang: neither the event loop nor its threads wait for them here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._future: Future[Answer] | None = None
        self._ends = 0.0

    def wait(self) -> str | None:
        """The project, or None when the credentials name none; for who may wait.

        Raises:
            google.auth.exceptions.GoogleAuthError: When it can't be looked up; `retryable` when that may pass.
        """
        return _read(self._look_up_once().result(_LONGEST))

    async def find(self) -> str | None:
        """The same, for who may not."""
        return _read(await asyncio.wrap_future(self._look_up_once()))

    def _look_up_once(self) -> Future[Answer]:
        with self._lock:
            if self._future is None or (self._future.done() and time.monotonic() >= self._ends):
                self._future = Future()
                # Nobody cancels it for the others.
                self._future.set_running_or_notify_cancel()
                threading.Thread(target=self._run, args=[self._future], name="cloud-run-project", daemon=True).start()
            return self._future

    def _run(self, future: Future[Answer]) -> None:
        from google.auth.exceptions import DefaultCredentialsError

        request = None
        try:
            request = _google_auth.transport()
            project = self._look_up(request)
        except Exception as error:
            failure = _google_auth.told(error, request, DefaultCredentialsError)
            self._ends = time.monotonic() + (_PAUSE_PASSING if failure.retryable else _PAUSE)
            future.set_result((None, failure))
        else:
            # One that is not there may be there soon: the metadata server of a young machine does not know it yet.
            self._ends = float("inf") if project else time.monotonic() + _PAUSE
            future.set_result((project, None))

    @staticmethod
    def _look_up(request: Request) -> str | None:
        import google.auth

        _google_auth.checked_default_file()
        credentials, project = google.auth.default(scopes=[_google_auth.SCOPE], request=request)
        return getattr(credentials, "quota_project_id", None) or project


def _read(answer: Answer) -> str | None:
    project, failure = answer
    if failure is not None:
        # A new one for each: one that is raised again and again grows a traceback of all who did.
        raise type(failure)(*failure.args, retryable=failure.retryable)
    return project


default_project = DefaultProject()
