"""Invalid keys, job variables, templates and settings do not appear in errors and logs.

Somebody may put a secret into any of them by mistake. Some values are meant to be shown: a region, the name of a job,
the names of variables.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from google.auth.exceptions import GoogleAuthError
from pydantic import BaseModel

from prefect_gcp.credentials import GcpCredentials
from prefect_gcp.settings import CloudRunWorkerSettings
from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration, CloudRunWorkerVariables
from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run._default_project import DefaultProject
from tests.python import leaks
from tests.python.watched import SETTING, a_flow_run, prepared, run

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    # In debug mode, asyncio logs more.
    return "asyncio", {"debug": True}


PEM = f"-----BEGIN PRIVATE KEY-----\n{leaks.BROKEN_KEY}\n-----END PRIVATE KEY-----\n"
BAD_PEMS = [
    leaks.BROKEN_KEY,
    PEM,
    PEM.replace("\n", " "),
    PEM.replace("\n", ""),
    PEM.replace("\n", "\\n"),
    PEM.replace("-----END PRIVATE KEY-----\n", ""),
    f"-----BEGIN PRIVATE KEY {leaks.BROKEN_KEY}",
    f"-----BEGIN PRIVATE KEY-----{leaks.BROKEN_KEY}",
    f"-----BEGIN {leaks.BROKEN_KEY}-----\nAAAA",
    PEM.replace("PRIVATE KEY", "RSA PRIVATE KEY"),
    PEM.replace("PRIVATE KEY", "CERTIFICATE"),
]
BAD_FIELDS = [
    {"private_key": [leaks.BROKEN_KEY]},
    {"private_key": {"pem": leaks.BROKEN_KEY}},
    {"private_key": None, "key": leaks.BROKEN_KEY},
    {"client_email": [leaks.BROKEN_KEY]},
    {"client_email": None},
    {"token_uri": leaks.BROKEN_KEY},
    {"token_uri": f"ftp://{leaks.BROKEN_KEY}@127.0.0.1:1/"},
    {"token_uri": f"https://user:{leaks.BROKEN_KEY}@127.0.0.1:1/"},
    {"token_uri": f"https://127.0.0.1:{leaks.BROKEN_KEY}/"},
    {"token_uri": {"uri": leaks.BROKEN_KEY}},
    {"type": "authorized_user", "refresh_token": leaks.REFRESH_TOKEN},
    {"type": [leaks.BROKEN_KEY]},
    {"project_id": [leaks.BROKEN_KEY], "private_key": PEM},
    {"universe_domain": "example.goog", "private_key": PEM},
    {"universe_domain": "example.goog", "private_key": leaks.BROKEN_KEY},
    {"universe_domain": [leaks.BROKEN_KEY], "private_key": PEM},
]


def malformed(key: dict[str, Any]) -> list[Any]:
    """Makes malformed keys, as people make them by mistake."""
    text = json.dumps(key | {"private_key": PEM})
    texts = [json.dumps(text), json.dumps([text]), text[:-1], text.replace('"', "'"), text + "}", f"key={text}", PEM]
    wrong: list[Any] = [*texts, *(text.encode() for text in texts), [leaks.BROKEN_KEY], leaks.BROKEN_KEY, {"a": {1, 2}}]
    return [*wrong, *(key | {"private_key": pem} for pem in BAD_PEMS), *(key | fields for fields in BAD_FIELDS)]


async def watch_block(watch: leaks.Watch, where: str, **fields: Any) -> None:
    """Makes a block, and uses it in every way."""
    try:
        block = GcpCredentials(**fields)
    except Exception as error:
        return watch.catch(f"the constructor of a block, {where}", error)
    watch.see(where, block)
    for use in (block.get_credentials_from_service_account, block.get_access_token, block.get_cloud_storage_client):
        try:
            await answer if hasattr(answer := use(), "__await__") else watch.see("credentials", answer)
        except Exception as error:
            watch.catch(f"{use.__name__}, {where}", error)
    return None


@pytest.mark.slow
async def test_a_malformed_key_is_not_shown(evil_google, watch, monkeypatch, tmp_path):
    monkeypatch.setenv(f"{SETTING}API_ENDPOINT", evil_google.url)
    for number, key in enumerate(malformed(evil_google.key)):
        where = f"key {number}"
        await watch_block(watch, where, service_account_info=key)
        await run(watch, f"a run, {where}", key=key, project="reset-never")
        file = tmp_path / f"key-{number}.json"
        file.write_bytes(key if isinstance(key, bytes) else (key if isinstance(key, str) else repr(key)).encode())
        if isinstance(key, dict) and "a" not in key:
            file.write_text(json.dumps(key))
        await watch_block(watch, f"a file, {where}", service_account_file=file)
        credentials = {"service_account_file": str(file), "project": "reset-never"}
        await run(watch, f"a run, a file, {where}", credentials=credentials)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        # The run must fail: the process would cache a token of these credentials for the tests that follow.
        assert isinstance(await run(watch, f"a run, the environment's, {where}", project="reset-never"), Exception)
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")


async def test_a_key_file_that_breaks_later_is_not_shown(evil_google, watch, monkeypatch, tmp_path):
    monkeypatch.setenv(f"{SETTING}API_ENDPOINT", evil_google.url)
    file = tmp_path / "key.json"
    for text in ("", leaks.BROKEN_KEY, json.dumps(leaks.BROKEN_KEY), json.dumps([leaks.BROKEN_KEY]), f'{{"a": "{PEM}"'):
        file.write_text(json.dumps(evil_google.key))
        block = GcpCredentials(service_account_file=file, project="reset-never")
        file.write_text(text)
        for use in (block.get_credentials_from_service_account, block.get_access_token):
            try:
                await answer if hasattr(answer := use(), "__await__") else pytest.fail("a broken key was accepted")
            except Exception as error:
                watch.catch(use.__name__, error)
        configuration = await prepared(a_flow_run())
        configuration.credentials = block
        with pytest.raises(Exception, match="key") as caught:
            await CloudRunWorker(work_pool_name="p").run(a_flow_run(), configuration)
        watch.catch("a run", caught.value)


def test_the_core_rejects_a_key_of_a_wrong_type_and_does_not_show_it(watch):
    settings = CloudRunWorkerSettings().model_dump()
    for key in ([leaks.BROKEN_KEY], {"private_key": leaks.BROKEN_KEY}, leaks.BROKEN_KEY.encode()):
        with pytest.raises(TypeError) as caught:
            _core.Credentials(service_account_info=key)
        watch.catch("credentials", caught.value)
    watch.see("the settings", settings)


def wrongs(secret: str) -> list[Any]:
    """Makes values of many types that are or contain a secret."""
    holders = [[secret], {"x": secret}, {secret}, secret.encode(), (secret, 1), {"x": [{"y": secret}]}]
    return [secret, *holders, SimpleNamespace(x=secret)]


@pytest.mark.parametrize("model", [CloudRunWorkerJobConfiguration, CloudRunWorkerVariables, GcpCredentials])
def test_a_field_of_a_wrong_type_is_not_shown(watch, model: type[BaseModel]):
    body = CloudRunWorker.get_default_base_job_template()["job_configuration"]["job_body"]
    for name in model.model_fields:
        for value in wrongs(leaks.PASSWORD):
            try:
                made = model(**{"job_body": body} | {name: value})
            except Exception as error:
                watch.catch(f"{name} as {type(value).__name__}", error)
            else:
                if name in ("env", "job_body"):
                    watch.see(f"{name} as {type(value).__name__}", made)


async def test_a_job_variable_of_a_wrong_type_is_not_shown(watch):
    template = CloudRunWorker.get_default_base_job_template()
    # Errors may show a name. pydantic accepts bytes as a string.
    for name in template["variables"]["properties"].keys() - {"name"}:
        for value in wrongs(leaks.PASSWORD)[1:]:
            try:
                await prepared(a_flow_run(), **{name: value})
            except Exception as error:
                watch.catch(f"{name} as {type(value).__name__}", error)
    both = {"env.A": leaks.PASSWORD, "env": leaks.PASSWORD}
    for values in (both, {"env.A": {leaks.PASSWORD}}, {"env": {"A": {"b": leaks.PASSWORD}}}):
        try:
            await CloudRunWorkerJobConfiguration.from_template_and_values(template, values, client=SimpleNamespace())
        except Exception as error:
            watch.catch(str(list(values)), error)


PLACES = [
    (),
    ("metadata",),
    ("metadata", "name"),
    ("metadata", "annotations"),
    ("metadata", "labels"),
    ("spec",),
    ("spec", "template"),
    ("spec", "template", "metadata"),
    ("spec", "template", "metadata", "labels"),
    ("spec", "template", "spec"),
    ("spec", "template", "spec", "template", "spec"),
    ("spec", "template", "spec", "template", "spec", "timeoutSeconds"),
    ("spec", "template", "spec", "template", "spec", "containers"),
    *(
        ("spec", "template", "spec", "template", "spec", "containers", 0, *rest)
        for rest in ((), ("env",), ("image",), ("command",), ("args",), ("resources",), ("ports",))
    ),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.slow
async def test_a_malformed_body_is_not_shown(evil_google, watch, monkeypatch, place):
    monkeypatch.setenv(f"{SETTING}API_ENDPOINT", evil_google.url)
    endless: list[Any] = [leaks.PASSWORD]
    endless.append(endless)
    beside = [{"value": leaks.PASSWORD, "x": odd} for odd in (float("nan"), b"x", {1}, object(), 2**70, "\ud800")]
    unbalanced = [] if place == ("metadata", "name") else [f"' {leaks.PASSWORD}"]

    async def put(value: Any) -> None:
        configuration = await prepared(a_flow_run(), key=evil_google.key)
        holder: Any = {"body": configuration.job_body}
        *above, last = "body", *place
        target = holder
        for step in above:
            target = target.setdefault(step, {}) if isinstance(target, dict) else target[step]
        target[last] = value
        configuration.job_body = holder["body"]
        where = f"{place} is {type(value).__name__}"
        try:
            configuration.prepare_for_flow_run(a_flow_run())
        except Exception as error:
            watch.catch(where, error)
        watch.see("the configuration", configuration)
        try:
            # Run it even if it is invalid: a subclass may prepare the body in its own way.
            await asyncio.wait_for(CloudRunWorker(work_pool_name="p").run(a_flow_run(), configuration), 4)
        except Exception as error:
            watch.catch(where, error)

    await asyncio.gather(*map(put, [*wrongs(leaks.PASSWORD)[1:], *beside, endless, *unbalanced]))
    watch.see("the settings", CloudRunWorkerSettings())


@pytest.mark.parametrize(
    "change",
    [
        {"job_configuration": [leaks.PASSWORD]},
        {"variables": leaks.PASSWORD},
        {"variables": {"properties": [leaks.PASSWORD]}},
        {"variables": {"properties": {"env": leaks.PASSWORD}}},
        {"variables": {"properties": {"env": {"default": leaks.PASSWORD}}}},
        {"job_configuration": {"env": {"A": leaks.PASSWORD, "B": {1}}, "job_body": {}}},
        {"job_configuration": {"env": {"A": f"{{{{ prefect.blocks.secret.{leaks.PASSWORD} }}}}"}}},
        {"job_configuration": {"env": "{{ env.x }} {{ env }}", "job_body": "{{ env }}"}},
        {"job_configuration": {"env": {"A": "{{ $HUSH }}", "B": SimpleNamespace(x=leaks.PASSWORD)}}},
    ],
)
async def test_a_template_that_cannot_be_rendered_is_not_shown(watch, monkeypatch, change):
    monkeypatch.setenv("HUSH", leaks.PASSWORD)
    template = CloudRunWorker.get_default_base_job_template() | change
    values = {"env": {"x": leaks.PASSWORD, "y": leaks.ODD_PASSWORD}}
    try:
        made = await CloudRunWorkerJobConfiguration.from_template_and_values(template, values, client=SimpleNamespace())
        watch.see("the configuration", made)
    except Exception as error:
        watch.catch("the rendering", error)


BAD_ENDPOINTS = [
    f"https://user:{leaks.ENDPOINT_PASSWORD}@run.example",
    f"https://{leaks.ENDPOINT_PASSWORD}@run.example",
    f"http://user:{leaks.ENDPOINT_PASSWORD}@10.0.0.1",
    f"https://user:{leaks.ENDPOINT_PASSWORD}@run.example:port",
    f"user:{leaks.ENDPOINT_PASSWORD}@run.example",
    f"//user:{leaks.ENDPOINT_PASSWORD}@run.example",
    f"https://run.example?key={leaks.ENDPOINT_PASSWORD}",
    f"https://run.example:port?key={leaks.ENDPOINT_PASSWORD}",
    f"https://run.example#{leaks.ENDPOINT_PASSWORD}",
]


@pytest.mark.parametrize("endpoint", BAD_ENDPOINTS)
async def test_the_password_of_an_endpoint_is_not_shown(watch, monkeypatch, endpoint):
    with pytest.raises(ValueError, match="is not an API endpoint") as caught:
        _core.check_api_endpoint(endpoint)
    watch.catch("the check", caught.value)
    monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", endpoint)
    await run(watch, "a run on an emulator")
    monkeypatch.delenv("CLOUD_RUN_EMULATOR_HOST")
    monkeypatch.setenv(f"{SETTING}API_ENDPOINT", endpoint)
    await run(watch, "a run")
    with pytest.raises(ValueError, match="endpoint") as caught:
        CloudRunWorkerSettings()
    watch.catch("the settings", caught.value)


async def test_invalid_values_of_settings_are_not_shown(watch, monkeypatch):
    for name in set(CloudRunWorkerSettings.model_fields) - {"api_endpoint"}:
        monkeypatch.setenv(SETTING + name.upper(), leaks.PASSWORD)
        with pytest.raises(ValueError, match=name) as caught:
            CloudRunWorkerSettings()
        watch.catch(name, caught.value)
        await run(watch, f"a run, {name}")
        monkeypatch.delenv(SETTING + name.upper())


@pytest.mark.parametrize("region", ["evil.example/", "", "r" * 64])
async def test_an_invalid_region_shows_no_secret(evil_google, watch, monkeypatch, region):
    monkeypatch.setenv(f"{SETTING}API_ENDPOINT", evil_google.url)
    assert isinstance(await run(watch, "a run", key=evil_google.key, region=region), ValueError)


async def test_the_password_of_a_proxy_is_not_shown(evil_google, watch, monkeypatch):
    key = evil_google.key | {"token_uri": "https://127.0.0.1:1/token"}
    for proxy in (f"http://user:{leaks.ENDPOINT_PASSWORD}@127.0.0.1:1", f"http://u:{leaks.ENDPOINT_PASSWORD}@h:port"):
        for name in ("https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy)
        await run(watch, proxy[-5:], key=key)
        await watch_block(watch, proxy[-5:], service_account_info=key)


def test_only_pickles_and_explicit_dumps_contain_the_key(evil_google, watch):
    # A pickle contains the key, because tasks in other processes need it. So does a dump that includes secrets, which
    # is how Prefect saves a block. Everything else masks the key.
    block = GcpCredentials(service_account_info=evil_google.key)
    assert pickle.loads(pickle.dumps(block)) == block
    assert copy.deepcopy(block).service_account_info.get_secret_value() == evil_google.key
    saved = block.model_dump_json(context={"include_secrets": True})
    assert evil_google.key["private_key"].splitlines()[1] in saved
    configuration = CloudRunWorkerJobConfiguration(
        job_body=CloudRunWorker.get_default_base_job_template()["job_configuration"]["job_body"], credentials=block
    )
    for model in (block, configuration, CloudRunWorkerVariables(credentials=block)):
        watch.see("a model", model)
        watch.see("a dump", model.model_dump())
        watch.hear("JSON", model.model_dump_json())
    # The dumps of a configuration contain the environment. Its representation does not.
    configuration.env = dict(leaks.ENV)
    assert leaks.PASSWORD in configuration.model_dump_json()
    variables = CloudRunWorkerVariables(env=leaks.ENV)
    watch.see("models", [configuration, variables])


@pytest.mark.parametrize("way", ["the key itself", "in base64", "a broken file"])
async def test_a_key_in_place_of_a_file_is_not_shown(evil_google, watch, monkeypatch, tmp_path, way):
    text = json.dumps({"type": "service_account", "private_key": leaks.BROKEN_KEY})
    (tmp_path / "broken.json").write_text(text[:-1])
    named = {"the key itself": text, "in base64": base64.b64encode(text.encode() * 30).decode()}
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", named.get(way, str(tmp_path / "broken.json")))
    monkeypatch.setattr("prefect_gcp_cloud_run._default_project.default_project", DefaultProject())
    await run(watch, way, project="reset-never")
    for use in (GcpCredentials().resolve_project, GcpCredentials().get_credentials_from_service_account):
        with pytest.raises(GoogleAuthError) as caught:
            use()
        watch.catch(way, caught.value)
        assert leaks.BROKEN_KEY[:20] not in json.dumps(vars(caught.value), default=str)
        assert "key itself" in str(caught.value) or "not a JSON file" in str(caught.value)
