"""Fixtures that several files use. The tests share a temporary Prefect home and talk to nothing but loopback."""

from __future__ import annotations

import asyncio
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
# Prefect reads these variables when it is imported, so they are set before that.
_HOME = tempfile.TemporaryDirectory(prefix="prefect-home-")
_PORT = _free_port()
for _name in list(os.environ):
    if _name.startswith(
        ("PREFECT_", "GOOGLE_", "CLOUDSDK_", "CLOUD_RUN_", "GCLOUD_", "GCE_")
    ) or _name.lower().endswith("_proxy"):
        del os.environ[_name]
# With all root certificates, each client that a test or a worker makes would take 40 ms to read them.
_ROOTS = str(Path(_HOME.name) / "roots.pem")
trustme.CA().cert_pem.write_to_path(_ROOTS)
os.environ.update(
    HOME=_HOME.name,
    SSL_CERT_FILE=_ROOTS,
    PREFECT_API_SSL_CERT_FILE=_ROOTS,
    PREFECT_HOME=_HOME.name,
    PREFECT_API_URL=f"http://127.0.0.1:{_PORT}/api",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    DO_NOT_TRACK="1",
    # The libraries would look for a metadata server beyond this machine. google-auth reads these when it is imported.
    NO_GCE_CHECK="true",
    GCE_METADATA_HOST="127.0.0.1:1",
    GCE_METADATA_IP="127.0.0.1:1",
    # Most tests have no server that could take them. Those of events turn it on.
    PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_OBSERVER_REPLICATE_EVENTS="false",
    # Seconds after which the server asks a worker to remove the job of a cancelled run; five minutes by default.
    PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_CANCELLING_TIMEOUT_SECONDS="2",
    # How often the server looks for such flow runs, and for workers that are gone; 20 and 15 seconds by default.
    PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS="3",
    PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS="3",
)


def pytest_sessionfinish() -> None:
    """Ends the deletions that tests have left. At the interpreter's exit, their lines would find the logs closed."""
    if "prefect_gcp_cloud_run._core" not in sys.modules:
        return

    async def abandon() -> None:
        from prefect_gcp_cloud_run import _core

        await _core.drain_deletions(0, abandon=True)

    # Prefect's handlers of the console keep the streams of the tests in which they were made.
    logging.raiseExceptions = False
    asyncio.run(abandon())


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _logs_for_nobody(request: pytest.FixtureRequest) -> Iterator[None]:
    """Sends no logs to Prefect's server when no test of the session starts one: the attempts would be reported."""
    if any("prefect_server" in item.fixturenames for item in request.session.items):
        yield
        return
    from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority for HTTPS on loopback."""
    return trustme.CA()


@pytest.fixture
def google(authority: trustme.CA) -> Iterator[Google]:
    """A stand-in for Google's token endpoints and the Cloud Run API."""
    with Google(authority) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def in_its_place(google: Google, authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """Environment variables that send every HTTPS connection to the stand-in for Google."""
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    return {"HTTPS_PROXY": google.url, "SSL_CERT_FILE": str(tmp_path / "authority.pem")}


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """Starts a real Prefect server with SQLite, and returns the URL of its API."""
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

        # Queued log lines are sent while the server still runs.
        APILogHandler().flush()
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture
def watch(monkeypatch, capfd) -> Iterator[Watch]:
    """Collects the lines of all loggers, at DEBUG whatever their level, and looks for secrets when the test ends."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, temporary_settings

    from tests.python import leaks
    from tests.python.watched import QUICK, SETTING

    watch = leaks.Watch(capfd)
    monkeypatch.setattr(logging.Logger, "isEnabledFor", lambda _logger, _level: True)
    monkeypatch.setattr(logging.Logger, "handle", lambda _logger, record: watch.record(record))
    for name, value in QUICK.items():
        monkeypatch.setenv(SETTING + name, value)
    with temporary_settings({PREFECT_API_KEY: leaks.API_KEY, PREFECT_API_AUTH_STRING: leaks.AUTH_STRING}):
        yield watch
    watch.check()


@pytest.fixture
def evil_google(watch) -> Iterator[EvilGoogle]:
    """A stand-in for Google that echoes its requests. The watch guards its key and its assertions."""
    from tests.python.evil_google import EvilGoogle

    with EvilGoogle() as server:
        for line in server.key["private_key"].splitlines()[1:-1]:
            watch.guard(line)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        for assertion in server.assertions:
            watch.guard(assertion.split(".")[-1])
        server.shutdown()
