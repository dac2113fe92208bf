"""Every test runs in a Prefect home of its own, and talks to nothing but loopback."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.python.fake_google import Google

if TYPE_CHECKING:
    from tests.python.evil_google import EvilGoogle
    from tests.python.leaks import Watch


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# A shell ignores SIGINT for what runs in its background, and so would the workers that the tests start and stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Prefect reads these when it is imported, so they are set before anything imports it.
_HOME = tempfile.TemporaryDirectory(prefix="prefect-home-")
_PORT = _free_port()
for _name in list(os.environ):
    if _name.startswith(("PREFECT_", "GOOGLE_", "CLOUDSDK_", "CLOUD_RUN_", "GCLOUD_")) or _name.lower().endswith(
        "_proxy"
    ):
        del os.environ[_name]
os.environ.update(
    HOME=_HOME.name,
    PREFECT_HOME=_HOME.name,
    PREFECT_API_URL=f"http://127.0.0.1:{_PORT}/api",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    DO_NOT_TRACK="1",
    # After this many seconds, and not after five minutes, the server asks a worker to remove a cancelled run's job.
    PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_CANCELLING_TIMEOUT_SECONDS="2",
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _logs_for_nobody(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where no test needs Prefect's server, nothing is sent there, and nobody complains that it is missing."""
    if any("prefect_server" in item.fixturenames for item in request.session.items):
        yield
        return
    from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Signs the certificates of HTTPS on loopback."""
    return trustme.CA()


@pytest.fixture
def google(authority: trustme.CA) -> Iterator[Google]:
    """A stand-in for Google."""
    with Google(authority) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def in_its_place(google: Google, authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """An environment in which every HTTPS address is that Google's."""
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    return {"HTTPS_PROXY": google.url, "SSL_CERT_FILE": str(tmp_path / "authority.pem")}


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """The API URL of a real Prefect server on its embedded SQLite."""
    url = os.environ["PREFECT_API_URL"]
    log = Path(_HOME.name) / "server.log"
    with log.open("w") as output:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(_PORT)]
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).read()
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        yield url
        from prefect.logging.handlers import APILogHandler

        # What is still to be sent belongs to the server that is about to stop.
        APILogHandler().flush()
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def watch(monkeypatch, capfd) -> Iterator[Watch]:
    """Hears all loggers at the level DEBUG, whatever their own, and finds secrets at the end of the test."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, temporary_settings

    from tests.python import leaks
    from tests.python.watched import QUICK, SETTING

    watch = leaks.Watch(capfd)
    monkeypatch.setattr(logging.Logger, "isEnabledFor", lambda _logger, _level: True)
    monkeypatch.setattr(logging.Logger, "handle", lambda _logger, record: watch.record(record))
    # Where there are no credentials, nobody looks for them beyond this machine.
    for name in ("GCE_METADATA_HOST", "GCE_METADATA_IP"):
        monkeypatch.setenv(name, "127.0.0.1:1")
    for name, value in QUICK.items():
        monkeypatch.setenv(SETTING + name, value)
    with temporary_settings({PREFECT_API_KEY: leaks.API_KEY, PREFECT_API_AUTH_STRING: leaks.AUTH_STRING}):
        yield watch
    watch.check()


@pytest.fixture
def evil_google(watch) -> Iterator[EvilGoogle]:
    """A Google that repeats what it is sent, and whose key the watch knows."""
    from tests.python.evil_google import EvilGoogle

    with EvilGoogle() as server:
        for line in server.key["private_key"].splitlines()[1:-1]:
            watch.guard(line)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        for assertion in server.assertions:
            watch.guard(assertion.split(".")[-1])
        server.shutdown()
