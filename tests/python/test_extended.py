"""The job variables that only this worker understands: what they make of a job, and how they are merged."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import InfrastructureNotFound
from prefect.flows import Flow, flow
from prefect.states import Cancelling
from prefect.workers.base import BaseJobConfiguration

from prefect_gcp.credentials import GcpCredentials
from prefect_gcp.emulator import Emulator
from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration
from prefect_gcp_cloud_run._extended_template import extend
from prefect_gcp_cloud_run.settings import CloudRunObserverSettings, CloudRunWorkerSettings
from prefect_gcp_cloud_run.workers._observed_areas import ObservedAreas
from prefect_gcp_cloud_run.workers._variables import variables_for_a_kill

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
DEFAULT = CloudRunWorker.get_default_base_job_template()
DB = {"secret": "db"}
LATEST = {"secretKeyRef": {"name": "db", "key": "latest"}}


@flow
def a_flow():
    """A flow run needs one."""


def extended(change=None) -> dict:
    template = extend(DEFAULT, DEFAULT).template
    if change is not None:
        change(template)
    return template


def flow_run(**fields) -> FlowRun:
    return FlowRun(**{"id": uuid4(), "flow_id": uuid4(), "name": "funny-name", "state": None} | fields)


async def configuration(values=None, template=None, cls=CloudRunWorkerJobConfiguration):
    made = await cls.from_template_and_values(
        copy.deepcopy(template or extended()), values or {}, client=SimpleNamespace()
    )
    made.prepare_for_flow_run(flow_run())
    return made


def task_of(job_body: dict) -> dict:
    return job_body["spec"]["template"]["spec"]["template"]["spec"]


def env_of(made, container: int = 0) -> dict:
    entries = task_of(made.job_body)["containers"][container]["env"]
    assert len({entry["name"] for entry in entries}) == len(entries)
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}


async def problem_of(values, template=None) -> str:
    with pytest.raises(ValueError, match=r"\w") as caught:
        await configuration(values, template)
    assert "very-private" not in f"{caught.value!r} {caught.value}"
    return str(caught.value)


# The template as a whole


async def test_without_a_new_variable_the_extended_template_makes_the_same_job_but_for_the_retries():
    usual, new = await configuration(template=DEFAULT), await configuration()
    usual_task, new_task = task_of(usual.job_body), task_of(new.job_body)
    assert new_task.pop("maxRetries") == 0
    # Each flow run has values of its own in the environment.
    for task in (usual_task, new_task):
        task["containers"][0]["env"] = sorted(entry["name"] for entry in task["containers"][0]["env"])
    assert new_task == usual_task
    assert new.timeout == usual.timeout == 600


async def test_prefect_and_so_upstreams_worker_ignores_the_new_keys():
    made = await BaseJobConfiguration.from_template_and_values(
        extended(), {"env_from_secrets": {"A": DB}, "main_container": "m"}, client=SimpleNamespace()
    )
    assert not hasattr(made, "env_from_secrets")


async def test_a_subclass_may_have_a_field_of_such_a_name():
    class Own(CloudRunWorkerJobConfiguration):
        main_container: str = "none"

    made = await configuration({"main_container": "theirs"}, cls=Own)
    assert made.main_container == "theirs"


async def test_a_prepare_may_be_repeated():
    made = await configuration({"env_from_secrets": {"A": DB}})
    before = copy.deepcopy(made.job_body)
    made.prepare_for_flow_run(flow_run())
    assert env_of(made)["A"] == LATEST
    assert task_of(made.job_body)["containers"][0]["env"][-1] == task_of(before)["containers"][0]["env"][-1]


# Environment variables from secrets


@pytest.mark.difference("env-from-secrets")
async def test_a_variable_comes_from_the_latest_version_of_a_secret_or_from_another_one():
    made = await configuration(
        {"env_from_secrets": {"A": DB, "B": {"secret": "db", "version": 3}, "C": {"secret": "db", "version": "prod"}}}
    )
    env = env_of(made)
    assert env["A"] == LATEST
    assert env["B"] == {"secretKeyRef": {"name": "db", "key": "3"}}
    assert env["C"] == {"secretKeyRef": {"name": "db", "key": "prod"}}


async def test_the_templates_the_pools_and_the_given_secrets_are_merged_by_name():
    def change(template):
        template["job_configuration"]["env_from_secrets"] = {"A": {"secret": "template"}, "B": {"secret": "template"}}
        template["variables"]["properties"]["env_from_secrets"]["default"] = {
            "B": {"secret": "pool", "version": "7"},
            "C": {"secret": "pool"},
            "D": {"secret": "pool"},
        }

    # `B` loses the version of another secret, too.
    given = {"env_from_secrets": {"B": {"secret": "run"}, "D": None}, "env_from_secrets.E": {"secret": "run"}}
    env = env_of(await configuration(given, extended(change)))
    names = {name: value["secretKeyRef"] for name, value in env.items() if isinstance(value, dict)}
    assert names == {
        "A": {"name": "template", "key": "latest"},
        "B": {"name": "run", "key": "latest"},
        "C": {"name": "pool", "key": "latest"},
        "E": {"name": "run", "key": "latest"},
    }


class Server:
    """A client of Prefect's API with a flow and a deployment."""

    def __init__(self, deployment=None) -> None:
        self.deployment = deployment
        self.reads = 0

    async def read_flow(self, _):
        return None

    async def read_deployment(self, _):
        self.reads += 1
        return self.deployment


def deployment(**job_variables):
    return SimpleNamespace(job_variables=job_variables, name="d", id=uuid4(), updated=None)


async def resolved(run_variables: dict, of_deployment, given=True):
    pool = SimpleNamespace(name="p", id=uuid4(), base_job_template=extended())
    server = Server(of_deployment)
    return await CloudRunWorkerJobConfiguration.resolve_for_flow_run(
        flow_run(job_variables=run_variables, deployment_id=of_deployment.id),
        client=server,
        work_pool=pool,
        worker_name="w",
        deployment=of_deployment if given else None,
    ), server


@pytest.mark.parametrize("given", [True, False])
async def test_the_secrets_of_a_deployment_and_its_flow_run_are_merged_by_name(given):
    of_deployment = deployment(
        **{"env_from_secrets": {"A": DB, "B": {"secret": "old", "version": "7"}, "C": DB}, "env_from_secrets.D": DB}
    )
    before = copy.deepcopy(of_deployment.job_variables)
    run = {"env_from_secrets": {"B": {"secret": "new"}, "C": None}, "env_from_secrets.E": DB}
    made, server = await resolved(run, of_deployment, given)
    env = env_of(made)
    assert env["A"] == env["D"] == env["E"] == LATEST
    assert env["B"] == {"secretKeyRef": {"name": "new", "key": "latest"}}
    assert "C" not in env
    assert of_deployment.job_variables == before
    assert server.reads == (0 if given else 1)


@pytest.mark.parametrize("run", [{}, {"env_from_secrets": None}])
async def test_a_flow_run_without_secrets_leaves_those_of_its_deployment(run):
    made, _ = await resolved(run, deployment(env_from_secrets={"A": DB}))
    assert env_of(made)["A"] == LATEST


async def test_a_secret_wins_over_plain_text_of_any_level(caplog):
    def change(template):
        container = task_of(template["job_configuration"]["job_body"])["containers"][0]
        container["env"] = [{"name": "A", "value": "plain"}, {"name": "OWN", "value": "1"}]
        template["job_configuration"]["env_from_secrets"] = {"B": DB, "PREFECT_API_AUTH_STRING": DB}

    given = {
        "env": {"B": "plain", "PREFECT_API_KEY": "plain", "PREFECT_API_AUTH_STRING": "plain"},
        "env_from_secrets": {"A": DB, "PREFECT_API_KEY": DB},
        "prefect_api_key_secret": {"secret": "key", "version": "1"},
    }
    with caplog.at_level(logging.WARNING):
        env = env_of(await configuration(given, extended(change)))
    assert env["A"] == env["B"] == env["PREFECT_API_AUTH_STRING"] == LATEST
    assert env["OWN"] == "1"
    assert env["PREFECT_API_KEY"] == {"secretKeyRef": {"name": "key", "key": "1"}}
    assert "plaintext" not in caplog.text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["very-private"], "env_from_secrets must be a mapping, got list. The form is"),
        ("very-private", "env_from_secrets must be a mapping, got str"),
        ({"A": "very-private"}, "'A' needs the name of a secret, and may have a version. The form is"),
        ({"A": {"secret": "db", "key": "very-private"}}, "'A' needs the name of a secret"),
        ({"A": {"version": "very-private"}}, "'A' needs the name of a secret"),
        ({"A": {"secret": "very-private!"}}, "'A' must be the name of a secret in the project of the job"),
        ({"A": {"secret": "projects/very-private/secrets/db"}}, "annotation run.googleapis.com/secrets"),
        ({"A": {"secret": 1}}, "'A' must be the name of a secret"),
        ({"A": {"secret": "db", "version": "very-private!"}}, "The version of 'A' must be a number, an alias"),
        ({"A": {"secret": "db", "version": True}}, "The version of 'A'"),
        ({"A": {"secret": "db", "version": ""}}, "The version of 'A'"),
        ({"A=very-private": DB}, "(not shown) can't be the name of an environment variable"),
        ({"": DB}, "can't be the name of an environment variable"),
    ],
)
async def test_what_is_no_secret_is_an_error_without_the_value(value, words):
    assert words in await problem_of({"env_from_secrets": value})
    if not isinstance(value, dict):
        with pytest.raises(ValueError, match="The job variable env_from_secrets must be a mapping"):
            await resolved({"env_from_secrets": value}, deployment(env_from_secrets={"A": DB}))


async def test_a_template_without_the_key_does_not_know_the_variable(caplog):
    with caplog.at_level(logging.WARNING):
        made = await configuration({"env_from_secrets": {"A": DB}}, DEFAULT)
    assert "A" not in env_of(made)
    assert "The job variable 'env_from_secrets' is unknown to the work pool and has no effect" in caplog.text


async def test_a_template_that_has_the_secrets_as_a_mapping_knows_the_variable(caplog):
    def change(template):
        del template["variables"]["properties"]["env_from_secrets"]
        template["job_configuration"]["env_from_secrets"] = {}

    with caplog.at_level(logging.WARNING):
        assert env_of(await configuration({"env_from_secrets": {"A": DB}}, extended(change)))["A"] == LATEST
    assert "unknown" not in caplog.text


# Timeouts, retries and names


async def test_the_time_of_a_task_may_be_long_and_the_patience_for_its_job_is_another_one():
    made = await configuration({"timeout": 604_800, "ready_timeout": 30, "max_retries": 2})
    assert made.timeout == 30
    assert task_of(made.job_body)["timeoutSeconds"] == 604_800
    assert task_of(made.job_body)["maxRetries"] == 2
    assert "that is 168 hours at most" in await problem_of({"timeout": 604_801})
    assert "timeout" in await problem_of({"ready_timeout": 3601})
    assert "maxRetries" in await problem_of({"max_retries": 11})


async def test_null_retries_are_cloud_runs_own():
    made = await configuration({"max_retries": None})
    assert "maxRetries" not in task_of(made.job_body)


async def test_a_name_is_the_beginning_of_a_unique_one():
    names = {(await configuration({"name": "My ETL"})).job_name for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith("my-etl-") and len(name) == len("my-etl-") + 32 for name in names)


# The main container


def two_containers(template):
    task = task_of(template["job_configuration"]["job_body"])
    (flows,) = task["containers"]
    task["containers"] = [{"name": "proxy", "image": "proxy:1", "args": ["--port", "1"]}, flows | {"name": "flow"}]


@pytest.mark.difference("main-container")
async def test_the_container_that_is_named_runs_the_flow():
    made = await configuration(
        {"main_container": "flow", "env": {"A": "1"}, "image": "mine:1", "env_from_secrets": {"B": DB}},
        extended(two_containers),
    )
    proxy, flows = task_of(made.job_body)["containers"]
    assert proxy == {"name": "proxy", "image": "proxy:1", "args": ["--port", "1"]}
    assert flows["image"] == "mine:1"
    assert flows["command"] == ["prefect", "flow-run", "execute"]
    assert env_of(made, 1)["A"] == "1"
    assert env_of(made, 1)["B"] == LATEST
    assert "PREFECT__FLOW_RUN_ID" in env_of(made, 1)
    assert made._container("image")["name"] == "flow"


async def test_without_a_name_it_is_the_first_container():
    made = await configuration({"main_container": None}, extended(two_containers))
    assert task_of(made.job_body)["containers"][0]["command"] == ["prefect", "flow-run", "execute"]


async def test_the_plain_text_of_the_named_container_is_warned_about(caplog):
    with caplog.at_level(logging.WARNING):
        await configuration({"main_container": "flow", "env": {"PREFECT_API_KEY": "k"}}, extended(two_containers))
    assert "PREFECT_API_KEY is provided as a plaintext environment variable" in caplog.text


async def test_an_unknown_container_is_an_error_with_the_names_that_there_are():
    message = await problem_of({"main_container": "flwo"}, extended(two_containers))
    assert message == "The job body has no container 'flwo', which main_container names. Its names: 'proxy', 'flow'"
    assert "Its names: none; set their 'name'" in await problem_of({"main_container": "flow"})
    assert "main_container" in await problem_of({"main_container": 1})
    assert "main_container" in await problem_of({"main_container": ""})


# The account of the credentials


@pytest.mark.difference("credentials-account")
async def test_a_flow_runs_as_the_account_of_the_key(tmp_path):
    key = {"type": "service_account", "project_id": "p", "client_email": "worker@p.iam.gserviceaccount.com"}
    file = tmp_path / "key.json"
    file.write_text(json.dumps(key))
    for credentials in ({"service_account_info": key}, {"service_account_file": str(file)}):
        values = {"credentials": credentials, "use_credentials_service_account": True}
        made = await configuration(values)
        assert task_of(made.job_body)["serviceAccountName"] == "worker@p.iam.gserviceaccount.com"
        made = await configuration(values | {"service_account_name": "own@p.iam.gserviceaccount.com"})
        assert task_of(made.job_body)["serviceAccountName"] == "own@p.iam.gserviceaccount.com"
        made = await configuration({"credentials": credentials})
        assert "serviceAccountName" not in task_of(made.job_body)


@pytest.mark.parametrize("key", [None, {"type": "authorized_user", "client_id": "very-private"}])
async def test_credentials_without_a_service_account_are_a_warning(key, caplog):
    values = {"credentials": {"service_account_info": key}, "use_credentials_service_account": True}
    with caplog.at_level(logging.WARNING):
        made = await configuration(values)
    assert "serviceAccountName" not in task_of(made.job_body)
    (record,) = [record for record in caplog.records if "use_credentials_service_account" in record.getMessage()]
    assert record.name == "prefect.flow_runs.worker"
    assert "has no effect: the credentials have no key of a service account" in record.getMessage()
    assert "very-private" not in caplog.text


async def test_only_true_and_false_say_whether_the_account_is_used():
    assert "use_credentials_service_account" in await problem_of({"use_credentials_service_account": "very-private"})


# Credentials blocks


def allows(*names):
    def change(template):
        template["job_configuration"]["credentials_blocks"] = list(names)

    return change


@pytest.mark.difference("credentials-block")
async def test_only_a_block_that_the_template_lists_can_be_chosen():
    template = extended(allows("team-a", "team-b"))
    assert await problem_of({"credentials_block": "team-c"}, template) == (
        "credentials_block 'team-c' is none of the credentials blocks that the work pool allows: team-a, team-b"
    )
    for wrong in ("team-a.service_account_info", "team-a }} {{ x", ["team-a"], {"very-private": 1}, 1, True):
        assert "is none of the credentials blocks" in await problem_of({"credentials_block": wrong}, template)
    assert "template allows no credentials_block: its job_configuration.credentials_blocks" in await problem_of(
        {"credentials_block": "team-a"}
    )


async def test_a_null_block_is_the_default_one_and_not_whatever_credentials_there_are():
    def change(template):
        allows("team-a")(template)
        template["variables"]["properties"]["credentials_block"]["default"] = "team-z"

    assert "credentials_block 'team-z' is none of" in await problem_of({"credentials_block": None}, extended(change))


async def test_the_values_of_secrets_are_not_rendered():
    wrong = {"A": {"secret": "{{ region }}"}}
    assert "The secret of 'A' must be the name of a secret" in await problem_of({"env_from_secrets": wrong})
    assert "'A' needs the name of a secret" in await problem_of({"env_from_secrets": {"A": "{{ nowhere }}"}})


async def test_a_kill_finds_the_job_with_the_block_of_the_deployment_whatever_else_is_wrong():
    variables = {"credentials": {"project": "team-a"}, "main_container": "gone"}
    run = flow_run(deployment_id=uuid4(), infrastructure_pid="job", state=Cancelling(), job_variables={"memory": "1Gi"})
    found = SimpleNamespace(
        id=run.deployment_id, name="d", job_variables=variables, flow_id=uuid4(), version=None, updated=None
    )

    async def read_deployment(_id):
        return found

    async def read_flow(flow_id):
        return SimpleNamespace(id=flow_id, name="f", labels={})

    client = SimpleNamespace(read_deployment=read_deployment, read_flow=read_flow)
    assert await variables_for_a_kill(run, client) == [
        variables | {"memory": "1Gi"},
        {"credentials": {"project": "team-a"}},
    ]
    pool = SimpleNamespace(base_job_template=extended(), name="p", id=uuid4())
    made = await CloudRunWorkerJobConfiguration.resolve_for_flow_run(
        run, client=client, work_pool=pool, worker_name="w", deployment=found
    )
    assert made.project == "team-a"


async def test_job_variables_can_not_add_to_the_list(caplog):
    values = {"credentials_block": "team-c", "credentials_blocks": ["team-c"]}
    assert "allows: team-a" in await problem_of(values, extended(allows("team-a")))
    for wrong in (["{{ credentials_blocks }}"], "{{ credentials_blocks }}", {"team-c": 1}, [1], ["a.b"]):

        def change(template, wrong=wrong):
            template["job_configuration"]["credentials_blocks"] = wrong

        assert "must be a list of names of credentials blocks" in await problem_of(values, extended(change))


# Through Prefect's server and the emulator


@pytest.fixture
def emulator(monkeypatch):
    with Emulator(
        ready_after=0.02,
        start_after=0.02,
        delete_after=0.02,
        executor="simulated",
        duration=0.1,
        projects=["pools", "team-a"],
        secrets={"db": "x", "old": "x", "pool": "x"},
    ) as running:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", running.host)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "pools")
        monkeypatch.setenv("PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_OBSERVER_ENABLED", "false")
        yield running


async def new_pool(template: dict) -> str:
    name = f"extended-{uuid4().hex[:8]}"
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=name, type="cloud-run", base_job_template=template))
    return name


async def new_flow_run(pool: str, deployment_variables: dict, run_variables: dict) -> FlowRun:
    source = await Flow.afrom_source(source=str(HERE), entrypoint="deployed_flows.py:succeed")
    deployment_id = await source.adeploy(
        f"of-{pool}",
        work_pool_name=pool,
        job_variables=deployment_variables,
        print_next_steps=False,
        ignore_warnings=True,
    )
    async with get_client() as client:
        return await client.create_flow_run_from_deployment(deployment_id, job_variables=run_variables)


async def run_all(pool: str) -> None:
    worker = CloudRunWorker(work_pool_name=pool, prefetch_seconds=60)
    await asyncio.wait_for(worker.start(run_once=True), 120)


@pytest.mark.usefixtures("prefect_server")
async def test_a_job_has_what_the_pool_the_deployment_and_the_flow_run_ask_for(emulator):
    block = f"team-{uuid4().hex[:8]}"
    await GcpCredentials(project="team-a").asave(block)

    def change(template):
        two_containers(template)
        allows(block)(template)
        template["variables"]["properties"]["env_from_secrets"]["default"] = {
            "POOLS": {"secret": "pool"},
            "SHARED": {"secret": "pool"},
        }

    pool = await new_pool(extended(change))
    of_deployment = {
        "keep_job": True,
        "name": "etl",
        "timeout": 7200,
        "max_retries": 1,
        "main_container": "flow",
        "credentials_block": block,
        "env_from_secrets": {"SHARED": {"secret": "old", "version": "7"}, "GONE": DB},
    }
    run = await new_flow_run(pool, of_deployment, {"env_from_secrets": {"SHARED": DB, "GONE": None}})
    await run_all(pool)
    (job,) = emulator.jobs()
    assert job["metadata"]["name"].startswith("etl-")
    task = task_of(job)
    assert (int(task["timeoutSeconds"]), task["maxRetries"]) == (7200, 1)
    proxy, flows = task["containers"]
    assert "env" not in proxy
    env = {entry["name"]: entry.get("valueFrom") for entry in flows["env"]}
    assert env["POOLS"] == {"secretKeyRef": {"name": "pool", "key": "latest"}}
    assert env["SHARED"] == LATEST
    assert "GONE" not in env
    # A kill by another worker, long after, finds the job with the same block.
    async with get_client() as client:
        read = await client.read_flow_run(run.id)
        assert read.labels["cloud-run.project"] == "team-a"
        configuration = await CloudRunWorkerJobConfiguration.resolve_for_flow_run(
            read,
            client=client,
            work_pool=await client.read_work_pool(pool),
            worker_name="another",
        )
    assert configuration.project == "team-a"
    async with CloudRunWorker(work_pool_name=pool) as worker:
        await worker.kill_infrastructure(job["metadata"]["name"], configuration)
        with pytest.raises(InfrastructureNotFound, match="project 'team-a'"):
            await worker.kill_infrastructure("etl-gone", configuration)


@pytest.mark.usefixtures("prefect_server")
async def test_the_emulator_runs_the_container_of_the_flow_beside_a_sidecar(monkeypatch):
    with Emulator(ready_after=0.02, start_after=0.02, projects=["pools"]) as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "pools")
        async with get_client() as client:
            run = await client.create_flow_run(a_flow)
        made = await configuration({"main_container": "flow", "command": "echo the flow"}, extended(two_containers))
        async with CloudRunWorker(work_pool_name="extended") as worker:
            result = await worker.run(run, made)
        assert result.status_code == 0
        (log,) = emulator.log_dir.glob("*.log")
        assert "the flow\n" in log.read_text()


@pytest.mark.usefixtures("prefect_server")
async def test_a_job_runs_as_the_account_of_the_key_in_a_block(emulator):
    block = f"key-{uuid4().hex[:8]}"
    key = {"type": "service_account", "project_id": "team-a", "client_email": "worker@team-a.iam.gserviceaccount.com"}
    await GcpCredentials(service_account_info=key).asave(block)
    pool = await new_pool(extended(allows(block)))
    await new_flow_run(
        pool, {"credentials_block": block, "use_credentials_service_account": True, "keep_job": True}, {}
    )
    await run_all(pool)
    (job,) = emulator.jobs()
    assert task_of(job)["serviceAccountName"] == "worker@team-a.iam.gserviceaccount.com"


@pytest.mark.usefixtures("prefect_server")
async def test_the_observer_looks_in_the_projects_of_the_blocks_that_may_be_chosen(emulator, caplog):
    block = f"team-{uuid4().hex[:8]}"
    await GcpCredentials(project="team-a").asave(block)
    pool = await new_pool(extended(allows(block, "not-saved")))
    areas = ObservedAreas(CloudRunWorkerSettings(), CloudRunObserverSettings(), logging.getLogger("areas"))
    async with get_client() as client:
        with caplog.at_level(logging.WARNING):
            found = await areas.of(await client.read_work_pool(pool), client, [])
    assert set(found) == {("pools", "us-central1"), ("team-a", "us-central1")}
    # The block's own client, and that of the pool.
    assert {project: len(clients) for (project, _), clients in found.items()} == {"pools": 1, "team-a": 2}
    assert f"The credentials block 'not-saved' of work pool {pool!r} can't be used to look for jobs" in caplog.text
