"""The project of the application default credentials."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from prefect_gcp import _google_auth

if TYPE_CHECKING:
    from google.auth.transport.requests import Request

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
        self._future: Future[str | None] | None = None
        self._ends = 0.0

    def future(self) -> Future[str | None]:
        """The look-up under way, or its answer.

        Returns:
            The project, or None when the credentials name none. It raises google-auth's `GoogleAuthError`, which is
            `retryable` when the failure may pass.
        """
        with self._lock:
            if self._future is None or (self._future.done() and time.monotonic() >= self._ends):
                self._future = Future()
                # Nobody cancels it for the others.
                self._future.set_running_or_notify_cancel()
                threading.Thread(target=self._run, args=[self._future], name="cloud-run-project", daemon=True).start()
            return self._future

    def wait(self) -> str | None:
        """The same for who may wait."""
        return self.future().result(_LONGEST)

    def _run(self, future: Future[str | None]) -> None:
        from google.auth.exceptions import DefaultCredentialsError

        request = _google_auth.transport()
        try:
            project = self._look_up(request)
        except Exception as error:
            failure = _google_auth.told(error, request, DefaultCredentialsError)
            self._ends = time.monotonic() + (_PAUSE_PASSING if failure.retryable else _PAUSE)
            future.set_exception(failure)
        else:
            # One that is not there may be there soon: the metadata server of a young machine does not know it yet.
            self._ends = float("inf") if project else time.monotonic() + _PAUSE
            future.set_result(project)

    @staticmethod
    def _look_up(request: Request) -> str | None:
        import google.auth

        _google_auth.checked_default_file()
        credentials, project = google.auth.default(scopes=[_google_auth.SCOPE], request=request)
        return getattr(credentials, "quota_project_id", None) or project


default_project = DefaultProject()
