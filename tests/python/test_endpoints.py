"""Where the token goes, and where it does not: HTTPS, proxies, redirects, and names that would lead elsewhere."""

from __future__ import annotations

import json
import threading

import pytest
from prefect.exceptions import InfrastructureNotFound

from prefect_gcp.credentials import GcpCredentials
from prefect_gcp.settings import CloudRunWorkerSettings
from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration, _get_base_job_body
from prefect_gcp_cloud_run import _core
from tests.python.fake_google import Google
from tests.python.probe import probe

GOOGLE = "https://{region}-run.googleapis.com"
GOOGLES = {"token_uri": "https://oauth2.googleapis.com/token"}


def test_googles_endpoint_is_reached_through_a_proxy_and_trusted_by_the_environments_roots(
    google, tmp_path, in_its_place
):
    answer = probe(GOOGLE, in_its_place, tmp_path, service_account_info=json.dumps(google.key | GOOGLES))
    assert (answer["error"], google.problems) == (None, []), answer
    assert google.authorizations == ["Bearer token-1"]
    assert set(google.proxied) == {"oauth2.googleapis.com:443", "us-east1-run.googleapis.com:443"}


def test_a_certificate_of_nobody_is_not_trusted(google, authority, tmp_path, in_its_place):
    del in_its_place["SSL_CERT_FILE"]
    in_its_place["NO_PROXY"] = "localhost"
    with Google(authority) as api:
        url = api.serve_tls("localhost")
        threading.Thread(target=api.serve_forever, daemon=True).start()
        answer = probe(url, in_its_place, tmp_path, service_account_info=json.dumps(google.key))
        assert answer["error"] == "CloudRunUnavailableError"
        assert "certificate" in answer["text"]
        assert api.authorizations == []
        api.shutdown()


@pytest.mark.slow
def test_a_token_endpoint_of_nobody_is_not_trusted(google, authority, tmp_path):
    with Google(authority) as other:
        key = google.key | {"token_uri": f"{other.serve_tls('localhost')}/token"}
        threading.Thread(target=other.serve_forever, daemon=True).start()
        answer = probe(google.url, {}, tmp_path, service_account_info=json.dumps(key))
        assert (answer["error"], other.token_calls) == ("CloudRunAuthenticationError", [])
        authority.cert_pem.write_to_path(tmp_path / "authority.pem")
        roots = {"SSL_CERT_FILE": str(tmp_path / "authority.pem")}
        other.certificate, other.token_uri = google.certificate, key["token_uri"]
        answer = probe(google.url, roots, tmp_path, service_account_info=json.dumps(key))
        assert (answer["error"], answer["google_auth"], other.problems) == (None, False, []), answer
        other.shutdown()


def test_a_token_endpoint_of_nobody_is_not_trusted_by_google_auth_either(google, tmp_path, in_its_place):
    del in_its_place["SSL_CERT_FILE"]
    answer = probe(google.url, in_its_place, tmp_path, service_account_info=json.dumps(google.key | GOOGLES))
    assert (answer["error"], answer["google_auth"]) == ("CloudRunAuthenticationError", True)
    assert "CERTIFICATE_VERIFY_FAILED" in answer["text"]
    assert google.token_calls == []


@pytest.mark.difference("googles-keys")
@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:{port}/admin", "https://localhost:{port}/admin", "https://h.example/"]
)
def test_a_key_can_not_make_the_worker_call_something_else(google, tmp_path, in_its_place, address):
    key = google.key | {"token_uri": address.format(port=google.server_port)}
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key))
    for source in ({"service_account_info": json.dumps(key)}, {"service_account_file": str(path)}):
        answer = probe(GOOGLE, in_its_place, tmp_path, **source)
        assert answer["error"] == "CloudRunAuthenticationError"
        assert "token_uri is not Google's" in answer["text"]
    assert (google.token_calls, google.proxied, google.paths) == ([], [], [])


def test_no_proxy_where_the_environment_wants_none(google, authority, tmp_path, in_its_place):
    with Google(authority) as api:
        url = api.serve_tls("localhost")
        threading.Thread(target=api.serve_forever, daemon=True).start()
        env = in_its_place | {"NO_PROXY": "localhost"}
        key = google.key | {"token_uri": f"{url}/token"}
        api.certificate, api.token_uri = google.certificate, key["token_uri"]
        answer = probe(url, env, tmp_path, service_account_info=json.dumps(key))
        assert (answer["error"], api.problems) == (None, []), answer
        assert (api.authorizations, google.proxied) == (["Bearer token-1"], [])
        api.shutdown()


def test_the_api_can_not_send_the_token_elsewhere(google, tmp_path):
    with Google() as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        google.api_answer = (307, "", {"location": f"{other.url}/here"})
        answer = probe(google.url, {}, tmp_path, service_account_info=json.dumps(google.key))
        assert answer["error"] == "CloudRunUnavailableError"
        assert "HTTP 307" in answer["text"]
        assert (other.authorizations, other.paths) == ([], [])
        other.shutdown()


@pytest.fixture
def client(google):
    use = {"credentials": _core.Credentials(), "settings": CloudRunWorkerSettings(api_endpoint=google.url)}
    return lambda **names: _core.Client(**{"project": "p", "region": "r"} | names | use)


@pytest.mark.parametrize("region", ["evil.example/", "evil.example#", "x@evil.example", "", "..", "US-EAST1"])
def test_a_region_is_a_plain_name(client, region):
    with pytest.raises(ValueError, match="is not a region"):
        client(region=region)


@pytest.mark.parametrize("project", ["..", "a/../b", "p?x=1", "p#", "", "p/jobs", "P"])
def test_a_project_is_an_id(client, project):
    with pytest.raises(ValueError, match="is not a project id"):
        client(project=project)


@pytest.mark.parametrize("job", ["..", "a/b", "j?x", "J", "j:run", ""])
def test_a_job_has_a_legal_name(client, job):
    with pytest.raises(ValueError, match="is not a valid Cloud Run job name"):
        client().kill_job(job)
    with pytest.raises(ValueError, match="is not a valid Cloud Run job name"):
        client().run_job({}, job=job, keep_job=False, ready_timeout_seconds=1, log=print)


@pytest.mark.anyio
async def test_a_kill_with_an_invalid_job_name_raises_infrastructure_not_found(google, monkeypatch):
    monkeypatch.setenv("PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_API_ENDPOINT", google.url)
    configuration = CloudRunWorkerJobConfiguration(
        job_body=_get_base_job_body(), credentials=GcpCredentials(service_account_info=google.key)
    )
    with pytest.raises(InfrastructureNotFound, match=r"'\.\./x' is not a valid Cloud Run job name"):
        await CloudRunWorker(work_pool_name="p").kill_infrastructure("../x", configuration)
    assert google.paths == []


@pytest.mark.anyio
async def test_no_job_variable_is_an_endpoint(google, monkeypatch):
    monkeypatch.setenv("PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_API_ENDPOINT", google.url)
    template = CloudRunWorker.get_default_base_job_template()
    with Google() as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        variables = {
            "credentials": {"service_account_info": google.key, "api_endpoint": other.url, "token_uri": other.url},
            "api_endpoint": other.url,
            "env": {
                "PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_API_ENDPOINT": other.url,
                "CLOUD_RUN_EMULATOR_HOST": other.url,
                "HTTPS_PROXY": other.url,
            },
        }
        configuration = await CloudRunWorkerJobConfiguration.from_template_and_values(template, variables)
        await CloudRunWorker(work_pool_name="p").kill_infrastructure("j", configuration)
        assert google.authorizations == ["Bearer token-1"]
        assert (other.authorizations, other.paths, other.token_calls) == ([], [], [])
        other.shutdown()
