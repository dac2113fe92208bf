"""No secret appears in logs, exceptions, representations, labels, events or the emulator's pages.

Secrets are a service account key, access tokens, Prefect's API key and auth string, and values of environment
variables.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import urllib.request
from contextlib import nullcontext
from typing import Any

import pytest
from google.auth.exceptions import GoogleAuthError

from prefect_gcp.credentials import GcpCredentials
from prefect_gcp.emulator import Emulator
from prefect_gcp.settings import CloudRunWorkerSettings
from prefect_gcp.workers.cloud_run import CloudRunWorker
from prefect_gcp_cloud_run import _core, _google_auth
from tests.python import leaks
from tests.python.evil_google import EVIL, EVIL_TOKENS
from tests.python.watched import SETTING, a_flow_run, prepared, run

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    # In debug mode, asyncio logs more.
    return "asyncio", {"debug": True}


@pytest.fixture
def emulator(evil_google, monkeypatch):
    """An emulator behind the setting for the API endpoint, so that the worker sends tokens as it does to Google."""
    with Emulator(ready_after=0.1, start_after=0.05, delete_after=0.05, record_calls=True) as running:
        monkeypatch.setenv(f"{SETTING}API_ENDPOINT", running.url)
        yield running


class Started:
    """Takes the place of anyio's task status."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def started(self, _identifier: str) -> None:
        self.event.set()


def env_of(job: dict[str, Any]) -> dict[str, str]:
    container = job["spec"]["template"]["spec"]["template"]["spec"]["containers"][0]
    return {variable["name"]: variable.get("value") for variable in container["env"]}


def fetch(emulator: Emulator, path: str) -> str:
    with urllib.request.urlopen(f"{emulator.url}{path}", timeout=10) as answer:
        return answer.read().decode()


def watch_emulator(emulator: Emulator, watch: leaks.Watch) -> None:
    """Watches everything that an emulator shows, except the specs of jobs, which contain their environment."""
    for path in ("/", "/emulator/history", "/emulator/calls", "/emulator/counts", "/emulator/faults"):
        watch.hear(path, fetch(emulator, path))
    watch.see("calls", emulator.calls())
    watch.see("history", emulator.history())
    watch.see("the emulator", emulator)
    for resource in [*emulator.jobs(), *emulator.executions()]:
        place = resource["spec"].get("template", {})
        watch.see("metadata", [resource["metadata"], place.get("metadata"), resource["status"]])


async def test_a_run_that_succeeds_shows_no_secret(emulator, evil_google, watch, monkeypatch):
    emitted: list[Any] = []
    monkeypatch.setattr("prefect.workers.base.emit_event", lambda **event: emitted.append(event))
    flow_run = a_flow_run()
    configuration = await prepared(flow_run, key=evil_google.key, keep_job=True)
    worker = CloudRunWorker(work_pool_name="p")
    worker._emit_flow_run_submitted_event(configuration)
    result = await worker.run(flow_run, configuration)
    assert result.status_code == 0
    worker._emit_flow_run_executed_event(result, configuration, None)
    (job,) = emulator.jobs()
    expected = {**leaks.ENV, "PREFECT_API_KEY": leaks.API_KEY, "PREFECT_API_AUTH_STRING": leaks.AUTH_STRING}
    assert expected.items() <= env_of(job).items(), "The API returns the environment of a job, as Google's does"
    assert evil_google.assertions
    assert emitted
    watch.see("Prefect's events", emitted)
    watch.see("the result", result)
    watch.see("the worker", worker)
    watch.hear("the worker's status", worker.get_status())
    watch_emulator(emulator, watch)


@pytest.mark.parametrize(
    "values",
    [
        {"command": "sh -c 'exit 3'"},
        {"command": "no-such-program"},
        {"image": "registry.invalid/x"},
        {"memory": "1000000Gi"},
        {"env": {"A=B": leaks.PASSWORD}},
        {"env": {"LONG": leaks.PASSWORD * 2000}},
    ],
)
async def test_a_run_that_fails_shows_no_secret(emulator, evil_google, watch, values):
    await run(watch, "a run", key=evil_google.key, **values)
    watch_emulator(emulator, watch)


@pytest.mark.parametrize(
    "fault",
    ["reset", "hang", {"refuse": 0.5}, *({"status": {"code": code}} for code in (400, 401, 429, 503))],
)
@pytest.mark.slow
async def test_injected_faults_show_no_secret(emulator, evil_google, watch, fault):
    emulator.set_faults({"rules": [{"fault": fault, "calls": ["jobs.create"]}]})
    await run(watch, "a run", key=evil_google.key)
    # A listener that refused connections is back.
    await asyncio.sleep(1)
    watch_emulator(emulator, watch)


async def test_a_kill_and_the_run_that_it_ends_show_no_secret(emulator, evil_google, watch):
    flow_run, status, worker = a_flow_run(), Started(), CloudRunWorker(work_pool_name="p")
    configuration = await prepared(flow_run, key=evil_google.key, command="sleep 600")
    task = asyncio.create_task(worker.run(flow_run, configuration, status))
    await status.event.wait()
    await worker.kill_infrastructure(configuration.job_name, configuration)
    assert (await task).status_code == -1
    with pytest.raises(Exception, match="not found") as caught:
        await worker.kill_infrastructure("no-such-job", configuration)
    watch.catch("a kill of nothing", caught.value)
    watch_emulator(emulator, watch)


async def test_a_run_that_is_cancelled_shows_no_secret(emulator, evil_google, watch):
    task = asyncio.create_task(run(watch, "a run", status := Started(), key=evil_google.key, command="sleep 600"))
    await status.event.wait()
    watch.see("the task", task)
    task.cancel()
    assert isinstance(await task, asyncio.CancelledError)
    watch_emulator(emulator, watch)


@pytest.mark.parametrize("call", ["create", "get", "run", "list", "delete"])
@pytest.mark.slow
async def test_a_response_that_repeats_the_request_is_not_shown(evil_google, watch, monkeypatch, call):
    monkeypatch.setenv(f"{SETTING}API_ENDPOINT", evil_google.url)
    runs = [run(watch, f"{way} {call}", key=evil_google.key, project=f"{way}-{call}") for way in EVIL]
    ends = await asyncio.gather(*runs)
    assert evil_google.echoes > 10
    assert call == "delete" or sum(isinstance(end, Exception) for end in ends) > 10


@pytest.mark.parametrize("call", ["get", "delete"])
async def test_a_kill_does_not_show_a_response_that_repeats_the_request(evil_google, watch, monkeypatch, call):
    monkeypatch.setenv(f"{SETTING}API_ENDPOINT", evil_google.url)

    async def kill(way: str) -> None:
        configuration = await prepared(a_flow_run(), key=evil_google.key, project=f"{way}-{call}")
        try:
            await CloudRunWorker(work_pool_name="p").kill_infrastructure("j", configuration)
        except Exception as error:
            watch.catch(f"a kill, {way}", error)

    await asyncio.gather(*map(kill, EVIL))
    assert evil_google.echoes > 10


@pytest.mark.parametrize("call", ["create", "run"])
@pytest.mark.slow
async def test_events_show_no_secret(evil_google, watch, call):
    settings = CloudRunWorkerSettings(api_endpoint=evil_google.url)
    watch.see("the settings", CloudRunWorkerSettings())
    body = (await prepared(a_flow_run())).job_body

    async def events(way: str) -> None:
        credentials = _core.Credentials(service_account_info=json.dumps(evil_google.key))
        client = _core.Client(project=f"{way}-{call}", region="r", credentials=credentials, settings=settings)
        watch.see("a client", client)
        watch.see("credentials", credentials)
        run = client.run_job(
            body,
            job=body["metadata"]["name"],
            keep_job=False,
            ready_timeout_seconds=5,
            log=lambda _level, message: watch.see("a line about the deletion", message),
        )
        watch.see("a run", run)
        for thing in (client, credentials, run):
            with pytest.raises(TypeError):
                pickle.dumps(thing)

        async def listen() -> None:
            async for event in run:
                run.confirm_start()
                watch.see("an event", event)
                watch.see("an event's message", event.message)

        try:
            await asyncio.wait_for(listen(), 5)
        except Exception as error:
            watch.catch(way, error)

    await asyncio.gather(*map(events, EVIL))


async def test_a_token_response_that_repeats_the_request_is_not_shown(evil_google, watch, monkeypatch):
    monkeypatch.setenv(f"{SETTING}API_ENDPOINT", evil_google.url)
    keys = {way: evil_google.key | {"token_uri": f"{evil_google.url}/token/{way}"} for way in EVIL_TOKENS}
    keys["absent"] = evil_google.key | {"token_uri": "http://127.0.0.1:1/token"}
    # In this project, no call of the API is evil.
    ends = await asyncio.gather(*(run(watch, way, key=key, project="reset-never") for way, key in keys.items()))
    assert evil_google.assertions
    assert sum(isinstance(end, Exception) for end in ends) > 10


@pytest.mark.slow
async def test_a_block_without_token_shows_no_secret(evil_google, watch, monkeypatch):
    monkeypatch.setattr("prefect_gcp_cloud_run._google_auth._TIMEOUT_SECONDS", 1)

    async def ask(way: str, uri: str) -> None:
        block = GcpCredentials(service_account_info=evil_google.key | {"token_uri": uri})
        try:
            # The return value is the only place where the token may appear.
            await block.get_access_token()
        except Exception as error:
            watch.catch(f"a block, {way}", error)
        watch.see("the block", block)

    ways = {way: f"{evil_google.url}/token/{way}" for way in EVIL_TOKENS} | {"absent": "http://127.0.0.1:1/token"}
    await asyncio.gather(*(ask(way, uri) for way, uri in ways.items()))


@pytest.mark.parametrize("way", ["repeated", "repeated-parts", "repeated-page", "garbage", "wrong-type", "redirect"])
@pytest.mark.slow
async def test_credentials_of_the_environment_are_not_shown(evil_google, watch, monkeypatch, tmp_path, way):
    file = tmp_path / "adc.json"
    secrets = {"client_secret": leaks.CLIENT_SECRET, "refresh_token": leaks.REFRESH_TOKEN}
    file.write_text(json.dumps({"type": "authorized_user", "client_id": "c"} | secrets))
    # google-auth ignores the `token_uri` of such a file.
    uri = f"{evil_google.url}/token/{way}"
    monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", uri)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    results: list[Any] = []
    await asyncio.to_thread(_google_auth._fetch, None, None, _google_auth.SCOPE, lambda *result: results.append(result))
    assert evil_google.token_requests
    ((token, *texts),) = results
    assert token is None or way == "wrong-type"
    watch.hear("the callback's arguments", texts)
    with pytest.raises(GoogleAuthError) if token is None else nullcontext() as caught:
        await GcpCredentials().get_access_token()
    if caught:
        watch.catch("a block", caught.value)
