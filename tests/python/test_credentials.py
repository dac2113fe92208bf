"""The GCP credentials block."""

import json

import pytest
from pydantic import ValidationError

from prefect_gcp.credentials import GcpCredentials

KEY = {"type": "service_account", "project_id": "key-project", "private_key": "very-private"}


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(KEY))
    return path


@pytest.mark.difference("credentials-when-needed")
def test_a_block_can_be_made_where_there_are_no_credentials():
    credentials = GcpCredentials()
    assert (credentials.service_account_file, credentials.service_account_info, credentials.project) == (None,) * 3


@pytest.mark.parametrize("info", [KEY, json.dumps(KEY)])
def test_the_project_is_the_keys(info):
    credentials = GcpCredentials(service_account_info=info)
    assert credentials.project == "key-project"
    assert credentials.service_account_info.get_secret_value() == KEY


def test_the_project_of_a_key_file(key_file):
    assert GcpCredentials(service_account_file=str(key_file)).project == "key-project"
    assert GcpCredentials(service_account_file=key_file, project="mine").project == "mine"


def test_a_home_is_expanded(key_file, monkeypatch):
    monkeypatch.setenv("HOME", str(key_file.parent))
    assert GcpCredentials(service_account_file="~/key.json").service_account_file == key_file


def test_a_key_without_a_project_has_none():
    credentials = GcpCredentials(service_account_info={"type": "service_account"})
    assert credentials.resolve_project() is None


def test_the_emulator_needs_no_project(monkeypatch):
    monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", "127.0.0.1:1")
    assert GcpCredentials().resolve_project() == "emulator-project"
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "from-the-environment")
    assert GcpCredentials().resolve_project() == "from-the-environment"
    assert GcpCredentials(project="mine").resolve_project() == "mine"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"service_account_file": "/nowhere/key.json"}, "The provided path to the service account is invalid"),
        ({"service_account_info": "{very-private"}, "Unable to decode service_account_info"),
        ({"service_account_info": ["very-private"]}, "valid dictionary"),
        ({"service_account_info": KEY, "project": ["p"]}, "valid string"),
    ],
)
def test_a_bad_key_is_refused_without_showing_it(fields, message):
    with pytest.raises(ValidationError, match=message) as caught:
        GcpCredentials(**fields)
    assert "very-private" not in str(caught.value)
    assert "very-private" not in repr(caught.value)


def test_two_keys_are_one_too_many(key_file):
    with pytest.raises(
        ValidationError, match="Only one of service_account_info or service_account_file can be"
    ) as caught:
        GcpCredentials(service_account_info=KEY, service_account_file=key_file)
    assert "very-private" not in str(caught.value)


def test_a_key_file_that_is_no_json_is_refused(tmp_path):
    path = tmp_path / "key.json"
    path.write_text("very-private")
    with pytest.raises(ValidationError, match="not a readable JSON key file") as caught:
        GcpCredentials(service_account_file=path)
    assert "very-private" not in str(caught.value)


def test_a_key_does_not_show(key_file):
    assert "very-private" not in repr(GcpCredentials(service_account_info=KEY))


def test_equal_blocks_have_equal_hashes():
    first, second = (GcpCredentials(service_account_info=dict(KEY)) for _ in range(2))
    assert hash(first) == hash(second)
    assert hash(first) != hash(GcpCredentials(service_account_info=KEY, project="other"))
