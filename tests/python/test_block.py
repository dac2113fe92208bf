"""The GCP credentials block in Prefect's server, and the Google clients that it makes."""

from __future__ import annotations

import json
import sys
from uuid import uuid4

import pytest
from google.cloud import bigquery, secretmanager, storage
from google.cloud.aiplatform import gapic
from google.oauth2 import service_account
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import BlockDocumentCreate, BlockSchemaCreate
from prefect.client.schemas.objects import BlockDocument

from prefect_gcp.credentials import ClientType, GcpCredentials
from prefect_gcp.workers.cloud_run import CloudRunWorkerJobConfiguration, CloudRunWorkerVariables
from tests.python import forked
from tests.python.fake_google import SCOPE, Google

pytestmark = pytest.mark.anyio


@pytest.fixture
def name() -> str:
    return f"block-{uuid4().hex[:8]}"


@pytest.fixture
def block(google: Google) -> GcpCredentials:
    return GcpCredentials(service_account_info=google.key, project="mine")


# In Prefect's server


@pytest.mark.usefixtures("prefect_server")
async def test_a_block_is_saved_and_loaded(block, google, name):
    await block.asave(name)
    for loaded in (await GcpCredentials.aload(name), await Block.aload(f"gcp-credentials/{name}")):
        assert type(loaded) is GcpCredentials
        assert loaded.service_account_info.get_secret_value() == google.key
        assert loaded.project == "mine"
        assert hash(loaded) == hash(block)


@pytest.mark.usefixtures("prefect_server")
async def test_prefects_api_shows_a_key_only_if_asked_for_secrets(block, google, name):
    await block.asave(name)
    async with get_client() as client:
        shown = await client.read_block_document_by_name(name, "gcp-credentials", include_secrets=False)
    assert shown.data["project"] == "mine"
    assert set(shown.data["service_account_info"]) == set(google.key)
    assert google.key["private_key"] not in json.dumps(shown.data)
    assert google.key["client_email"] not in json.dumps(shown.data)


@pytest.mark.usefixtures("prefect_server")
async def test_a_block_without_key_content_is_saved_unresolved(google, name, tmp_path):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(google.key))
    await GcpCredentials(service_account_file=path).asave(name)
    assert (await GcpCredentials.aload(name)).service_account_file == path
    await GcpCredentials().asave(f"{name}-adc")
    assert (await GcpCredentials.aload(f"{name}-adc")).project is None


@pytest.mark.usefixtures("prefect_server")
def test_prefects_command_line_registers_the_block():
    done = forked.run("prefect", "block", "register", "--module", "prefect_gcp.credentials")
    assert done.returncode == 0, done.stderr
    assert "GCP Credentials" in done.stdout


@pytest.mark.usefixtures("prefect_server")
async def test_the_type_is_registered_with_its_schema():
    await GcpCredentials.aregister_type_and_schema()
    async with get_client() as client:
        block_type = await client.read_block_type_by_slug("gcp-credentials")
        schema = await client.get_most_recent_block_schema_for_block_type(block_type.id)
    assert block_type.name == "GCP Credentials"
    assert list(schema.fields["properties"]) == ["service_account_file", "service_account_info", "project"]
    assert schema.fields["secret_fields"] == ["service_account_info.*"]


async def saved_by_the_upstream_package(name: str, data: dict) -> BlockDocument:
    """Saves a block document with the schema of the upstream package (prefect-gcp).

    The type and the fields are the same, but the descriptions and therefore the checksum differ.
    """
    await GcpCredentials.aregister_type_and_schema()
    fields = GcpCredentials.model_json_schema() | {"description": "Another description."}
    async with get_client() as client:
        block_type = await client.read_block_type_by_slug("gcp-credentials")
        schema = await client.create_block_schema(
            BlockSchemaCreate(fields=fields, block_type_id=block_type.id, capabilities=[], version="0.6.22")
        )
        assert schema.checksum != GcpCredentials._calculate_schema_checksum()
        return await client.create_block_document(
            BlockDocumentCreate(name=name, data=data, block_schema_id=schema.id, block_type_id=block_type.id),
            include_secrets=False,
        )


@pytest.mark.usefixtures("prefect_server")
async def test_a_block_saved_by_the_upstream_package_loads(google, name):
    await saved_by_the_upstream_package(name, {"service_account_info": google.key, "project": None})
    for loaded in (await GcpCredentials.aload(name), await Block.aload(f"gcp-credentials/{name}")):
        assert type(loaded) is GcpCredentials
        assert loaded.service_account_info.get_secret_value() == google.key
        assert loaded.project == "key-project"


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("reference", ["document", "text"])
async def test_job_variables_can_refer_to_a_saved_block(google, name, reference):
    document = await saved_by_the_upstream_package(name, {"service_account_info": google.key})
    template = {
        "job_configuration": {
            "credentials": "{{ credentials }}",
            "job_body": CloudRunWorkerJobConfiguration.model_json_schema()["properties"]["job_body"]["template"],
        },
        "variables": CloudRunWorkerVariables.model_json_schema(),
    }
    value = {"$ref": {"block_document_id": str(document.id)}}
    if reference == "text":
        value = f"{{{{ prefect.blocks.gcp-credentials.{name} }}}}"
    made = await CloudRunWorkerJobConfiguration.from_template_and_values(template, {"credentials": value})
    assert made.credentials.service_account_info.get_secret_value() == google.key
    assert made.project == "key-project"


# Tokens, credentials and clients


async def test_an_access_token_in_asynchronous_code(block, google):
    assert await block.get_access_token() == "token-1"
    assert (google.problems, google.claims[0]["scope"]) == ([], SCOPE)


def test_an_access_token_in_synchronous_code(block, google):
    assert block.get_access_token() == "token-1"


def test_google_credentials_of_the_key(block, google):
    credentials = block.get_credentials_from_service_account()
    assert isinstance(credentials, service_account.Credentials)
    assert credentials.service_account_email == google.key["client_email"]
    assert credentials.scopes == [SCOPE]


def test_google_credentials_of_a_file_and_of_the_environment(google, tmp_path, monkeypatch):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(google.key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    for block in (GcpCredentials(service_account_file=path), GcpCredentials()):
        credentials = block.get_credentials_from_service_account()
        assert credentials.service_account_email == google.key["client_email"]
        assert credentials.scopes == [SCOPE]


CLIENTS = {
    ClientType.CLOUD_STORAGE: (storage.Client, {"project": "other"}),
    ClientType.BIGQUERY: (bigquery.Client, {"project": "other", "location": "EU"}),
    ClientType.SECRET_MANAGER: (secretmanager.SecretManagerServiceClient, {}),
    ClientType.AIPLATFORM: (gapic.JobServiceClient, {"client_options": {"api_endpoint": "127.0.0.1:1"}}),
}


@pytest.mark.parametrize("kind", list(CLIENTS))
def test_a_client_of_each_service(block, google, kind):
    expected, kwargs = CLIENTS[kind]
    client = block.get_client(kind, **kwargs)
    assert type(client) is expected
    made = client._credentials if hasattr(client, "_credentials") else client.transport._credentials
    assert made.service_account_email == google.key["client_email"]
    if "project" in kwargs:
        assert client.project == "other"
        assert block.get_client(kind.value).project == "mine"
    if "location" in kwargs:
        assert client.location == "EU"
    if "client_options" in kwargs:
        assert client.api_endpoint == "127.0.0.1:1"


async def test_an_asynchronous_client_for_jobs(block):
    client = block.get_job_service_async_client(client_options={"api_endpoint": "127.0.0.1:1"})
    assert type(client) is gapic.JobServiceAsyncClient
    assert client.api_endpoint == "127.0.0.1:1"


MODULES = {
    "cloud_storage": ("google.cloud.storage", "cloud-storage"),
    "bigquery": ("google.cloud.bigquery", "bigquery"),
    "secret_manager": ("google.cloud.secretmanager", "secret-manager"),
    "job_service": ("google.cloud.aiplatform.gapic", "aiplatform"),
    "job_service_async": ("google.cloud.aiplatform.gapic", "aiplatform"),
}


@pytest.mark.parametrize("client", list(MODULES))
def test_a_missing_library_is_an_error_that_names_the_extra(block, monkeypatch, client):
    module, extra = MODULES[client]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install 'prefect-gcp-cloud-run\[{extra}\]'"):
        getattr(block, f"get_{client}_client")()


def test_an_unknown_client_is_rejected(block):
    with pytest.raises(ValueError, match="spanner"):
        block.get_client("spanner")
