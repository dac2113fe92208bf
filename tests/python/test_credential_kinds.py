"""Every kind of credentials, from files and the environment, against endpoints on loopback that check as Google does.

Where a library uses a fixed host, an HTTPS proxy on loopback takes the place of that host.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from google.auth import jwt

from tests.python.fake_google import POOL, TARGET, USER, Google
from tests.python.probe import probe

AUTHORIZED_USER = {"type": "authorized_user", **USER}


def named(tmp_path: Path, credentials: dict[str, Any]) -> dict[str, str]:
    """Writes these credentials to a file, and returns an environment that names it."""
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(credentials))
    return {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}


def external(google: Google, source: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Makes a configuration of workload identity federation."""
    return {
        "type": "external_account",
        "audience": POOL,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{google.url}/v1/token",
        "credential_source": source,
        **more,
    }


def succeeds(google: Google, answer: dict[str, Any], token: str, *, by_google_auth: bool) -> None:
    assert (answer["error"], google.problems) == (None, []), answer
    assert google.authorizations == [f"Bearer {token}"]
    assert answer["google_auth"] is by_google_auth


# gcp_auth


@pytest.mark.parametrize("how", ["named", "well-known", "in gcloud's folder"])
def test_a_service_account_key_as_application_default_credentials(google, tmp_path, how):
    env = {}
    if how == "named":
        env = named(tmp_path, google.key)
    else:
        folder = tmp_path / ".config" / "gcloud" if how == "well-known" else tmp_path / "elsewhere"
        folder.mkdir(parents=True)
        (folder / "application_default_credentials.json").write_text(json.dumps(google.key))
        env = {} if how == "well-known" else {"CLOUDSDK_CONFIG": str(folder)}
    answer = probe(google.url, env, tmp_path)
    succeeds(google, answer, "token-1", by_google_auth=False)
    assert google.claims[0]["iss"] == google.key["client_email"]


def test_gcloud_is_used_if_there_are_no_other_credentials(google, tmp_path):
    gcloud = tmp_path / "bin" / "gcloud"
    gcloud.parent.mkdir()
    gcloud.write_text('#!/bin/sh\n[ "$*" = "auth print-access-token --quiet" ] && echo gcloud-token || exit 1\n')
    gcloud.chmod(0o755)
    answer = probe(google.url, {"PATH": f"{gcloud.parent}:/usr/bin:/bin"}, tmp_path)
    succeeds(google, answer, "gcloud-token", by_google_auth=True)


@pytest.mark.slow
def test_gcloud_is_not_used_if_the_metadata_server_fails(google, tmp_path):
    gcloud = tmp_path / "bin" / "gcloud"
    gcloud.parent.mkdir()
    gcloud.write_text("#!/bin/sh\necho gcloud-token\n")
    gcloud.chmod(0o755)
    google.token_answer = (503, {}, {})
    host = google.url.removeprefix("http://")
    env = {"NO_GCE_CHECK": "", "GCE_METADATA_HOST": host, "GCE_METADATA_IP": host}
    answer = probe(google.url, env | {"PATH": f"{gcloud.parent}:/usr/bin:/bin"}, tmp_path, attempts=1)
    assert (answer["error"], google.authorizations) == ("CloudRunAuthenticationError", [])


# google-auth


@pytest.mark.parametrize("how", ["named", "well-known"])
def test_credentials_of_a_user(google, tmp_path, in_its_place, how):
    env = named(tmp_path, AUTHORIZED_USER) if how == "named" else {"CLOUDSDK_CONFIG": str(tmp_path)}
    (tmp_path / "application_default_credentials.json").write_text(json.dumps(AUTHORIZED_USER))
    succeeds(google, probe(google.url, in_its_place | env, tmp_path), "user-1", by_google_auth=True)
    assert google.token_calls == ["oauth2.googleapis.com/token"]


@pytest.mark.parametrize("source", ["a user", "a key"])
def test_an_impersonated_service_account(google, tmp_path, in_its_place, source):
    address = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{TARGET}:generateAccessToken"
    credentials = {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": address,
        "source_credentials": AUTHORIZED_USER if source == "a user" else google.key,
    }
    answer = probe(google.url, in_its_place | named(tmp_path, credentials), tmp_path)
    by = "user-1" if source == "a user" else "token-1"
    succeeds(google, answer, f"{TARGET}-by-{by}", by_google_auth=True)
    assert google.token_calls[-1].startswith("iamcredentials.googleapis.com/")


def test_workload_identity_from_a_file(google, tmp_path):
    (tmp_path / "subject").write_text("from-the-file")
    credentials = external(google, {"file": str(tmp_path / "subject")})
    answer = probe(google.url, named(tmp_path, credentials), tmp_path)
    succeeds(google, answer, "pool-from-the-file-1", by_google_auth=True)
    # There is no other request: the worker does not look up the project here.
    assert google.token_calls == ["127.0.0.1/v1/token"]


def test_workload_identity_from_a_url(google, tmp_path):
    source = {
        "url": f"{google.url}/subject-token",
        "headers": {"x-machine": "m1"},
        "format": {"type": "json", "subject_token_field_name": "subject"},
    }
    answer = probe(google.url, named(tmp_path, external(google, source)), tmp_path)
    succeeds(google, answer, "pool-from-the-url-1", by_google_auth=True)


@pytest.mark.parametrize("is_allowed", [True, False])
def test_workload_identity_from_a_program(google, tmp_path, is_allowed):
    said = {
        "version": 1,
        "success": True,
        "token_type": "urn:ietf:params:oauth:token-type:jwt",
        "id_token": "from-the-program",
        "expiration_time": 4_000_000_000,
    }
    program = tmp_path / "program.py"
    program.write_text(f"print({json.dumps(json.dumps(said))})")
    source = {"executable": {"command": f"{sys.executable} {program}", "timeout_millis": 10_000}}
    env = named(tmp_path, external(google, source))
    if is_allowed:
        answer = probe(google.url, env | {"GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES": "1"}, tmp_path)
        succeeds(google, answer, "pool-from-the-program-1", by_google_auth=True)
    else:
        answer = probe(google.url, env, tmp_path)
        assert answer["error"] == "CloudRunAuthenticationError"
        assert "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES" in answer["text"]


def test_workload_identity_that_impersonates_a_service_account(google, tmp_path):
    (tmp_path / "subject").write_text("s")
    address = f"{google.url}/v1/projects/-/serviceAccounts/{TARGET}:generateAccessToken"
    credentials = external(google, {"file": str(tmp_path / "subject")}, service_account_impersonation_url=address)
    answer = probe(google.url, named(tmp_path, credentials), tmp_path)
    succeeds(google, answer, f"{TARGET}-by-pool-s-1", by_google_auth=True)


def test_a_user_of_a_workforce_pool(google, tmp_path):
    credentials = {
        "type": "external_account_authorized_user",
        "audience": "//iam.googleapis.com/locations/global/workforcePools/pool/providers/provider",
        "token_url": f"{google.url}/v1/oauthtoken",
        "token_info_url": f"{google.url}/v1/introspect",
        **USER,
    }
    answer = probe(google.url, named(tmp_path, credentials), tmp_path)
    succeeds(google, answer, "pool-user-1", by_google_auth=True)


@pytest.mark.parametrize("proxy", ["no proxy", "a proxy"])
def test_the_metadata_server(google, tmp_path, proxy):
    host = google.url.removeprefix("http://")
    # The token of the metadata server must not go through a proxy.
    env = {"HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"} if proxy == "a proxy" else {}
    env |= {"NO_GCE_CHECK": "", "GCE_METADATA_HOST": host, "GCE_METADATA_IP": host}
    answer = probe(google.url, env, tmp_path)
    succeeds(google, answer, "machine-1", by_google_auth=True)
    assert len(google.token_calls) == 1


@pytest.mark.parametrize("what", ["nothing", "a directory", "no home"])
def test_a_missing_default_file_means_the_metadata_server(google, tmp_path, what):
    home = tmp_path
    if what == "a directory":
        (tmp_path / ".config/gcloud/application_default_credentials.json").mkdir(parents=True)
    elif what == "no home":
        (tmp_path / "file").touch()
        home = tmp_path / "file"
    host = google.url.removeprefix("http://")
    env = {"HOME": str(home), "NO_GCE_CHECK": "", "GCE_METADATA_HOST": host, "GCE_METADATA_IP": host}
    succeeds(google, probe(google.url, env, tmp_path), "machine-1", by_google_auth=True)


def test_a_key_in_the_traditional_pem_format(google, tmp_path):
    private = serialization.load_pem_private_key(google.key["private_key"].encode(), None)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    key = google.key | {"private_key": pem.decode()}
    answer = probe(google.url, {}, tmp_path, service_account_info=json.dumps(key))
    succeeds(google, answer, "token-1", by_google_auth=True)


@pytest.mark.parametrize("how", ["in the file", "in the environment", "for a key"])
def test_the_quota_project_is_sent(google, tmp_path, in_its_place, how):
    credentials = AUTHORIZED_USER | {"quota_project_id": "quota-1"} if how == "in the file" else AUTHORIZED_USER
    env = in_its_place | named(tmp_path, google.key if how == "for a key" else credentials)
    if how != "in the file":
        env["GOOGLE_CLOUD_QUOTA_PROJECT"] = "quota-1"
    assert probe(google.url, env, tmp_path)["error"] is None
    assert google.quota_projects == ["quota-1"]


def test_a_short_lived_token_is_renewed(google, tmp_path):
    (tmp_path / "subject").write_text("s")
    google.lifetime = 2
    env = named(tmp_path, external(google, {"file": str(tmp_path / "subject")}))
    assert probe(google.url, env, tmp_path, calls=6, pause=0.5)["error"] is None
    assert 2 <= len(google.token_calls) <= 4


def test_gcloud_is_not_run_for_credentials_of_a_user(google, tmp_path, in_its_place):
    gcloud = tmp_path / "bin" / "gcloud"
    gcloud.parent.mkdir()
    gcloud.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
    gcloud.chmod(0o755)
    (tmp_path / "application_default_credentials.json").write_text(json.dumps(AUTHORIZED_USER))
    env = in_its_place | {"CLOUDSDK_CONFIG": str(tmp_path), "PATH": f"{gcloud.parent}:/usr/bin:/bin"}
    succeeds(google, probe(google.url, env, tmp_path), "user-1", by_google_auth=True)
    assert not (tmp_path / "was-run").exists()


def test_a_key_behind_a_proxy(google, tmp_path, in_its_place):
    google.token_uri = "https://oauth2.googleapis.com/token"
    key = google.key | {"token_uri": google.token_uri}
    answer = probe(google.url, in_its_place, tmp_path, service_account_info=json.dumps(key))
    succeeds(google, answer, "token-1", by_google_auth=True)
    assert google.proxied == ["oauth2.googleapis.com:443"]


def test_a_key_of_another_universe_signs_its_tokens_itself(google, tmp_path):
    key = google.key | {"universe_domain": "example.goog"}
    answer = probe(google.url, {}, tmp_path, service_account_info=json.dumps(key))
    assert (answer["error"], google.token_calls) == (None, []), answer
    (authorization,) = google.authorizations
    claims = jwt.decode(authorization.removeprefix("Bearer "), certs=google.certificate, verify=True)
    assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
    assert claims["iss"] == google.key["client_email"]


# Errors


def test_without_credentials_the_error_says_what_to_do(google, tmp_path):
    answer = probe(google.url, {"PATH": "/nowhere"}, tmp_path)
    assert answer["error"] == "CloudRunAuthenticationError"
    assert "default credentials were not found" in answer["text"]


def test_a_missing_file_is_an_error_that_names_it(google, tmp_path):
    env = {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "gone.json")}
    answer = probe(google.url, env, tmp_path)
    assert answer["error"] == "CloudRunAuthenticationError"
    assert "GOOGLE_APPLICATION_CREDENTIALS: the credentials file" in answer["text"]
    assert "gone.json' cannot be read: No such file" in answer["text"]


def test_revoked_access_of_a_user_is_one_error_and_not_retried(google, tmp_path, in_its_place):
    google.token_answer = (400, {"error": "invalid_grant", "error_description": "Token has been revoked."}, {})
    answer = probe(google.url, in_its_place | named(tmp_path, AUTHORIZED_USER), tmp_path, calls=5)
    assert answer["error"] == "CloudRunAuthenticationError"
    assert "https://oauth2.googleapis.com answered HTTP 400: invalid_grant: Token has been revoked." in answer["text"]
    assert google.token_calls == ["oauth2.googleapis.com/token"]


def test_a_rejected_key_is_tried_once_and_the_error_says_why(google, tmp_path):
    google.token_answer = (400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, {})
    answer = probe(google.url, {}, tmp_path, calls=20, at_once=True, service_account_info=json.dumps(google.key))
    assert answer["error"] == "CloudRunAuthenticationError"
    assert "invalid_grant: Invalid JWT Signature." in answer["text"]
    # gcp_auth sends five requests. Then google-auth sends one, because its error says why the key was rejected.
    assert len(google.token_calls) == 6


def test_a_failing_token_endpoint_is_retried(google, tmp_path):
    (tmp_path / "subject").write_text("s")
    google.outages = 2
    answer = probe(google.url, named(tmp_path, external(google, {"file": str(tmp_path / "subject")})), tmp_path)
    succeeds(google, answer, "pool-s-1", by_google_auth=True)


def test_a_configuration_with_a_program_is_accepted_from_the_environment_only(google, tmp_path):
    marker = tmp_path / "was-run"
    credentials = external(google, {"executable": {"command": f"/usr/bin/touch {marker}"}})
    env = {"GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES": "1"}
    path = tmp_path / "block.json"
    path.write_text(json.dumps(credentials))
    for source in ({"service_account_info": json.dumps(credentials)}, {"service_account_file": str(path)}):
        answer = probe(google.url, env, tmp_path, **source)
        assert answer["error"] == "CloudRunAuthenticationError"
        assert "only a service account's key can be given here" in answer["text"]
    assert not marker.exists()


@pytest.mark.slow
def test_redirects_of_token_endpoints_are_not_followed(google, tmp_path):
    (tmp_path / "subject").write_text("s")
    with Google() as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        google.token_answer = (307, "", {"location": f"{other.url}/v1/token"})
        env = named(tmp_path, external(google, {"file": str(tmp_path / "subject")}))
        answer = probe(google.url, env, tmp_path)
        assert answer["error"] == "CloudRunAuthenticationError"
        assert "answered HTTP 307" in answer["text"]
        answer = probe(google.url, {}, tmp_path, service_account_info=json.dumps(google.key))
        assert answer["error"] == "CloudRunAuthenticationError"
        assert (other.token_calls, other.claims) == ([], [])
        other.shutdown()


def test_a_process_can_exit_while_a_token_endpoint_does_not_respond(google, tmp_path):
    (tmp_path / "subject").write_text("s")
    google.silence = 15
    began = time.monotonic()
    for leave in (0.3, 0.6):
        env = named(tmp_path, external(google, {"file": str(tmp_path / "subject")}))
        answer = probe(google.url, env, tmp_path, leave=leave)
        assert (answer["error"], answer["stderr"]) == ("left", "")
    assert time.monotonic() - began < 14
