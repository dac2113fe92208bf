"""The GCP credentials block."""

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.auth.exceptions import DefaultCredentialsError, TransportError
from pydantic import ValidationError

from prefect_gcp.credentials import GcpCredentials
from prefect_gcp.exceptions import CloudRunAuthenticationError, CloudRunUnavailableError
from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration, _get_base_job_body
from prefect_gcp_cloud_run import _default_project, _google_auth

KEY = {"type": "service_account", "project_id": "key-project", "private_key": "very-private"}
AUTHORIZED_USER = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(KEY))
    return path


@pytest.mark.difference("credentials-when-needed")
def test_a_block_can_be_made_where_there_are_no_credentials():
    block = GcpCredentials()
    assert (block.service_account_file, block.service_account_info, block.project) == (None,) * 3


@pytest.mark.parametrize("info", [KEY, json.dumps(KEY)])
def test_the_project_defaults_to_that_of_the_key(info):
    block = GcpCredentials(service_account_info=info)
    assert block.project == "key-project"
    assert block.service_account_info.get_secret_value() == KEY


def test_the_project_of_a_key_file(key_file):
    assert GcpCredentials(service_account_file=str(key_file)).project == "key-project"
    assert GcpCredentials(service_account_file=key_file, project="mine").project == "mine"


def test_a_tilde_in_the_path_is_expanded(key_file, monkeypatch):
    monkeypatch.setenv("HOME", str(key_file.parent))
    assert GcpCredentials(service_account_file="~/key.json").service_account_file == key_file


@pytest.mark.difference("no-other-fields")
@pytest.mark.parametrize("key", [KEY, AUTHORIZED_USER, KEY | {"project": "p"}])
def test_a_key_in_the_place_of_the_block_is_an_error_that_names_the_field(key):
    for make in (lambda: GcpCredentials(**key), lambda: configured(key)):
        with pytest.raises(ValidationError, match="Put the key into 'service_account_info'") as caught:
            make()
        assert "very-private" not in str(caught.value)


@pytest.mark.difference("no-other-fields")
def test_the_text_of_a_key_in_the_place_of_the_block_is_an_error_that_names_the_field():
    with pytest.raises(ValidationError, match=r'use {"service_account_info": "TEXT"}') as caught:
        configured(json.dumps(KEY))
    assert "very-private" not in str(caught.value)


@pytest.mark.difference("no-other-fields")
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("service_acount_info", "'service_acount_info'; did you mean 'service_account_info'\\?"),
        ("service_account_json", "'service_account_json'; did you mean 'service_account_info'\\?"),
        ("projct", "'projct'; did you mean 'project'\\?"),
        ("project_id", "'project_id'; did you mean 'project'\\?"),
    ],
)
def test_an_unknown_field_is_an_error_with_the_nearest_name(name, hint):
    for make in (lambda: GcpCredentials(**{name: KEY}), lambda: configured({name: KEY})):
        with pytest.raises(ValidationError, match=f"GCP credentials have no field {hint}") as caught:
            make()
        assert "very-private" not in str(caught.value)


def test_a_field_of_a_newer_version_is_ignored():
    assert GcpCredentials.model_validate({"project": "p", "universe": "u"}).project == "p"


def test_prefects_own_fields_and_those_of_a_subclass_are_known():
    class More(GcpCredentials):
        _block_type_name = "More credentials"
        quota: int = 0

    assert More(quota=1, project="p").quota == 1
    assert GcpCredentials.model_validate({"block_type_slug": "gcp-credentials", "project": "p"}).project == "p"
    assert GcpCredentials.model_validate(GcpCredentials(project="p").model_dump()).project == "p"


def configured(value) -> CloudRunWorkerJobConfiguration:
    return CloudRunWorkerJobConfiguration(job_body=_get_base_job_body(), credentials=value)


def test_a_key_without_a_project_has_none():
    block = GcpCredentials(service_account_info={"type": "service_account"})
    assert block.resolve_project() is None


def test_the_emulator_needs_no_project(monkeypatch):
    monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", "127.0.0.1:1")
    assert GcpCredentials().resolve_project() == "emulator-project"
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "from-the-environment")
    assert GcpCredentials().resolve_project() == "from-the-environment"
    assert GcpCredentials(project="mine").resolve_project() == "mine"


@pytest.fixture
def default_project(monkeypatch):
    """A default project that has not been looked up yet."""
    project = _default_project.DefaultProject()
    monkeypatch.setattr(_default_project, "default_project", project)
    return project


@pytest.mark.usefixtures("default_project")
def test_the_project_of_the_application_default_credentials(key_file, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    key_file.write_text(json.dumps({**AUTHORIZED_USER, "quota_project_id": "quota-project"}))
    assert GcpCredentials().resolve_project() == "quota-project"
    # The result is kept for the life of the process.
    key_file.unlink()
    assert GcpCredentials().resolve_project() == "quota-project"


def test_concurrent_lookups_of_the_default_project_are_shared_and_failures_are_cached(default_project, monkeypatch):
    lookups = []

    def look_up(_request):
        lookups.append(1)
        time.sleep(0.2)
        raise DefaultCredentialsError("there are none")

    monkeypatch.setattr(default_project, "_look_up", look_up)
    with ThreadPoolExecutor(20) as threads:
        answers = [threads.submit(GcpCredentials().resolve_project) for _ in range(20)]
    failures = [answer.exception() for answer in answers]
    assert [str(failure) for failure in failures] == ["there are none"] * 20
    assert len(lookups) == 1
    # A shared exception would accumulate the tracebacks of all callers.
    assert len({id(failure) for failure in failures}) == 20
    default_project._valid_until = 0.0
    with pytest.raises(DefaultCredentialsError):
        GcpCredentials().resolve_project()
    assert len(lookups) == 2


@pytest.mark.usefixtures("default_project")
def test_a_lookup_that_cannot_start_is_an_error(monkeypatch):
    monkeypatch.setattr(_google_auth, "transport", Path("/nowhere.pem").read_text)
    with pytest.raises(DefaultCredentialsError, match="No such file"):
        GcpCredentials().resolve_project()


def test_a_missing_default_project_is_looked_up_again(default_project, monkeypatch):
    answers = [None, "late-project"]
    monkeypatch.setattr(default_project, "_look_up", lambda _request: answers.pop(0))
    assert GcpCredentials().resolve_project() is None
    default_project._valid_until = 0.0
    assert GcpCredentials().resolve_project() == "late-project"
    assert GcpCredentials().resolve_project() == "late-project"


@pytest.fixture
def kill(monkeypatch):
    """Returns a function that kills a job with the credentials of the environment."""
    monkeypatch.delenv("CLOUD_RUN_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_RETRY_MAX_SECONDS", "5")
    configuration = CloudRunWorkerJobConfiguration(job_body=_get_base_job_body())
    return lambda: CloudRunWorker(work_pool_name="p").kill_infrastructure("j", configuration)


@pytest.mark.anyio
@pytest.mark.usefixtures("default_project")
async def test_without_project_and_credentials_the_error_says_what_to_do(kill):
    with pytest.raises(CloudRunAuthenticationError, match="Set 'project' on the work pool's GCP credentials") as caught:
        await kill()
    assert "credentials were not found" in str(caught.value)


@pytest.mark.anyio
@pytest.mark.slow
async def test_a_transient_failure_of_the_project_lookup_is_retried(default_project, kill, monkeypatch):
    answers = [TransportError("no answer"), TransportError("no answer"), None]

    def look_up(_request):
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    monkeypatch.setattr(default_project, "_look_up", look_up)
    with pytest.raises(ValueError, match="No Google Cloud project is configured"):
        await kill()
    assert answers == []
    answers += [TransportError("no answer")] * 10
    default_project._valid_until = 0.0
    with pytest.raises(CloudRunUnavailableError, match="no answer"):
        await kill()


def test_devices_pipes_directories_and_large_files_are_rejected_as_keys(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(ValidationError, match="The provided path to the service account is invalid"):
            GcpCredentials(service_account_file=path)
    (tmp_path / "large").write_bytes(b" " * (64 * 1024 + 1))
    with pytest.raises(ValidationError, match="not a readable JSON key file"):
        GcpCredentials(service_account_file=tmp_path / "large")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"service_account_file": "/nowhere/key.json"}, "The provided path to the service account is invalid"),
        ({"service_account_info": "{very-private"}, "Unable to decode service_account_info"),
        ({"service_account_info": ["very-private"]}, "valid dictionary"),
        ({"service_account_info": KEY, "project": ["p"]}, "valid string"),
    ],
)
def test_an_invalid_key_is_rejected_and_not_shown(fields, message):
    with pytest.raises(ValidationError, match=message) as caught:
        GcpCredentials(**fields)
    assert "very-private" not in str(caught.value)
    assert "very-private" not in repr(caught.value)


def test_a_file_and_its_content_are_rejected_together(key_file):
    with pytest.raises(
        ValidationError, match="Only one of service_account_info or service_account_file can be"
    ) as caught:
        GcpCredentials(service_account_info=KEY, service_account_file=key_file)
    assert "very-private" not in str(caught.value)


def test_a_key_file_that_is_not_json_is_rejected(tmp_path):
    path = tmp_path / "key.json"
    path.write_text("very-private")
    with pytest.raises(ValidationError, match="not a readable JSON key file") as caught:
        GcpCredentials(service_account_file=path)
    assert "very-private" not in str(caught.value)


def test_the_repr_does_not_show_the_key(key_file):
    assert "very-private" not in repr(GcpCredentials(service_account_info=KEY))


def test_equal_blocks_have_equal_hashes():
    first, second = (GcpCredentials(service_account_info=dict(KEY)) for _ in range(2))
    assert hash(first) == hash(second)
    assert hash(first) != hash(GcpCredentials(service_account_info=KEY, project="other"))


@pytest.mark.anyio
async def test_a_lookup_of_the_project_that_hangs_is_reported_and_has_an_end(monkeypatch, caplog):
    monkeypatch.setattr(_default_project, "_SLOW_SECONDS", 0.1)
    monkeypatch.setattr(_default_project, "_MAX_WAIT_SECONDS", 0.3)
    hangs = threading.Event()
    project = _default_project.DefaultProject()
    monkeypatch.setattr(project, "_look_up", lambda _request: hangs.wait(20) and None)
    for _ in range(3):
        with pytest.raises(DefaultCredentialsError, match="hangs"):
            await project.find()
    with pytest.raises(DefaultCredentialsError, match="hangs"):
        project.wait()
    assert threads_called("cloud-run-project") == 1
    hangs.set()
    assert "gcloud or the metadata server may hang" in caplog.text


def test_errors_show_addresses_of_googles_documentation_and_no_other_long_word():
    page = "https://cloud.google.com/docs/authentication/external/set-up-adc-and-what-else-there-is"
    token = "a1" * 50
    for word in (token, f"token={token}", f"https://x.example/{token}", f"https://cloud.google.com/?key={token}"):
        assert _google_auth._shorten(f"see {page} or '{word}' now") == f"see {page} or '…' now"


def test_each_identity_has_one_thread_however_often_google_auth_hangs(monkeypatch):
    hangs, tokens = threading.Event(), []

    def fetch(info, _file, _scope, on_token):
        hangs.wait(20)
        on_token(f"token of {info}", 1.0, None, "", "")

    monkeypatch.setattr(_google_auth, "_fetch", fetch)
    for info in ["one", "two", "one", "one", "two"]:
        _google_auth.fetch_in_background(info, None, "scope", lambda token, *_: tokens.append(token))
    assert threads_called("cloud-run-google-auth") == 2
    hangs.set()
    deadline = time.monotonic() + 10
    while len(tokens) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert sorted(tokens) == ["token of one"] * 3 + ["token of two"] * 2
    # A later caller starts anew.
    assert not _google_auth._fetching


def threads_called(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())
