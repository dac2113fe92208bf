"""Tokens from gcp_auth, with a token endpoint and an API on loopback that check their requests."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap
import threading

import pytest

from prefect_gcp.credentials import GcpCredentials
from prefect_gcp.settings import CloudRunWorkerSettings
from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration, _get_base_job_body
from prefect_gcp_cloud_run import _core, exceptions
from tests.python.fake_google import SCOPE, Google
from tests.python.probe import probe

pytestmark = pytest.mark.anyio


def client(google: Google, **credentials) -> _core.Client:
    settings = CloudRunWorkerSettings(api_endpoint=google.url, retry_initial_delay_seconds=0.01)
    return _core.Client(project="p", region="us-east1", credentials=_core.Credentials(**credentials), settings=settings)


async def kill(client: _core.Client, job: str = "j") -> None:
    async for _event in client.kill_job(job):
        pass


async def delete(google: Google, **credentials) -> None:
    await kill(client(google, **credentials))


async def test_a_key_by_its_content_is_exchanged_for_a_token(google):
    await delete(google, service_account_info=json.dumps(google.key))
    (claims,) = google.claims
    assert claims["iss"] == google.key["client_email"]
    assert claims["aud"] == google.key["token_uri"]
    assert claims["scope"] == SCOPE
    assert google.authorizations == ["Bearer token-1"]


async def test_a_key_file(google, tmp_path):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(google.key))
    await delete(google, service_account_file=path)
    assert google.authorizations == ["Bearer token-1"]


async def test_the_key_file_of_the_environment(google, tmp_path, monkeypatch):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(google.key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    # The process keeps the token. Tests that follow have other credentials in their environment.
    google.lifetime = 1
    await delete(google)
    assert google.authorizations == ["Bearer token-1"]


async def test_all_clients_with_the_same_credentials_share_a_token(google):
    for _ in range(3):
        await delete(google, service_account_info=json.dumps(google.key))
    assert len(google.claims) == 1
    assert google.authorizations == ["Bearer token-1"] * 3


async def test_a_token_that_the_api_rejects_is_renewed_once(google):
    google.refused = {"Bearer token-1"}
    await delete(google, service_account_info=json.dumps(google.key))
    assert google.authorizations == ["Bearer token-1", "Bearer token-2"]


async def test_a_second_rejected_token_is_an_error_that_says_what_to_do(google):
    google.refused = {"Bearer token-1", "Bearer token-2"}
    with pytest.raises(exceptions.CloudRunAuthenticationError, match="GCP credentials block") as caught:
        await delete(google, service_account_info=json.dumps(google.key))
    assert caught.value.status == 401
    assert "token-" not in str(caught.value)


# gcp_auth sends five requests in each of the worker's attempts.
async def test_a_token_endpoint_that_fails_for_a_while_is_retried(google):
    google.outages = 7
    await delete(google, service_account_info=json.dumps(google.key))
    assert google.authorizations == ["Bearer token-1"]
    assert google.outages == 0


@pytest.mark.slow
async def test_credentials_that_have_worked_are_retried_for_the_whole_budget(google):
    await delete(google, service_account_info=json.dumps(google.key))
    google.refused = {"Bearer token-1"}
    google.outages = 22
    await delete(google, service_account_info=json.dumps(google.key))
    assert google.authorizations[-1] == "Bearer token-2"
    assert google.outages == 0


async def test_an_unreachable_token_endpoint_is_retried(google, caplog):
    key = google.key | {"token_uri": "http://127.0.0.1:1/token"}
    settings = CloudRunWorkerSettings(api_endpoint=google.url, retry_max_attempts=4, retry_initial_delay_seconds=0.01)
    credentials = _core.Credentials(service_account_info=json.dumps(key))
    one = _core.Client(project="p", region="r", credentials=credentials, settings=settings)
    with pytest.raises(exceptions.CloudRunAuthenticationError, match="after 4 attempts"):
        await kill(one)


async def test_a_key_file_that_was_replaced_is_read_again(google, tmp_path):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(google.key))
    google.refuses_keys = True
    with pytest.raises(exceptions.CloudRunAuthenticationError):
        await delete(google, service_account_file=path)
    google.refuses_keys = False
    path.write_text(json.dumps(google.key | {"client_email": "new@key-project.iam.gserviceaccount.com"}))
    await delete(google, service_account_file=path)
    assert google.claims[-1]["iss"] == "new@key-project.iam.gserviceaccount.com"


async def test_a_key_with_a_malformed_token_uri_is_an_authentication_error(google):
    key = google.key | {"token_uri": "not a URL"}
    with pytest.raises(exceptions.CloudRunAuthenticationError, match="token_uri"):
        await delete(google, service_account_info=json.dumps(key))


def test_no_token_is_sent_through_a_proxy_without_encryption(google, tmp_path):
    with Google() as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        env = {"HTTP_PROXY": proxy.url, "http_proxy": proxy.url, "ALL_PROXY": proxy.url}
        answer = probe(google.url, env, tmp_path, service_account_info=json.dumps(google.key))
        assert answer["error"] is None, answer
        proxy.shutdown()
    assert google.authorizations == ["Bearer token-1"]
    assert (proxy.authorizations, proxy.paths, proxy.claims) == ([], [], [])


@pytest.mark.slow
def test_a_process_that_exits_with_the_last_response_exits_cleanly(google):
    # Imports the core without Prefect, whose import takes a second: the fault shows only in some of many process exits.
    script = """
        import asyncio, importlib.util, json, sys, types
        path, settings = sys.argv[1], json.loads(sys.argv[2])
        spec = importlib.util.spec_from_file_location("prefect_gcp_cloud_run._core", path)
        core = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(core)

        async def kill(client, job):
            async for _event in client.kill_job(job):
                pass

        async def main():
            client = core.Client(
                project="p",
                region="r",
                credentials=core.Credentials(),
                settings=types.SimpleNamespace(**settings),
            )
            await asyncio.gather(*(kill(client, f"j{number}") for number in range(8)))

        asyncio.run(main())
    """
    settings = CloudRunWorkerSettings().model_dump() | {"emulator_host": google.url.removeprefix("http://")}
    command = [sys.executable, "-c", textwrap.dedent(script), _core.__file__, json.dumps(settings)]
    for _ in range(30):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")


async def test_a_rejected_key_is_an_error_that_does_not_show_it(google, caplog):
    google.refuses_keys = True
    with caplog.at_level(logging.DEBUG), pytest.raises(exceptions.CloudRunAuthenticationError) as caught:
        await delete(google, service_account_info=json.dumps(google.key))
    text = str(caught.value) + repr(caught.value) + caplog.text
    assert "PRIVATE KEY" not in text
    assert google.key["private_key"].splitlines()[1] not in text
    assert google.authorizations == []


async def test_the_endpoint_setting_and_the_credentials_block_are_used(google, monkeypatch):
    monkeypatch.setenv("PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_API_ENDPOINT", google.url + "/{region}")
    configuration = CloudRunWorkerJobConfiguration(
        job_body=_get_base_job_body(),
        region="europe-west1",
        credentials=GcpCredentials(service_account_info=google.key),
    )
    await CloudRunWorker(work_pool_name="p").kill_infrastructure("j", configuration)
    assert google.authorizations == ["Bearer token-1"]
    assert google.paths == ["/europe-west1/apis/run.googleapis.com/v1/namespaces/key-project/jobs/j"]


async def test_the_repr_of_a_client_shows_no_key(google):
    assert repr(client(google, service_account_info=json.dumps(google.key))) == "Client(project='p', region='us-east1')"
