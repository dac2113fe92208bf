"""The recipes of docs/templates.md: each is a file, applies, and gives the job that it promises."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import jsonpatch
import jsonpointer
import prefect
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError
from prefect.flows import Flow, flow

from prefect_gcp.emulator import Emulator
from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration
from tests.python import cookbook
from tests.python.cookbook import FOLDER, PAGE, RECIPES, broken_promises, patch_of, patched

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
COLLECTION = Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json"
SECRETS = {"db-password": "x", "other-password": "x"}
# The page says with which others these do not go together.
APART = {"vpc-connector", "long-timeout", "from-v2"}


def workers_own() -> dict[str, Any]:
    return CloudRunWorker.get_default_base_job_template()


def servers() -> dict[str, Any]:
    """The template that Prefect's server gives to new pools, which is of an older form."""
    template: dict[str, Any] = json.loads(COLLECTION.read_text())["prefect-gcp"]["cloud-run"][
        "default_base_job_configuration"
    ]
    return template


FORMS = pytest.mark.parametrize("form", [workers_own, servers])
EACH = pytest.mark.parametrize("name", RECIPES)


def appends(name: str) -> bool:
    """Whether a recipe appends to lists."""
    return any(step["path"].endswith("/-") for step in patch_of(name))


async def job_of(template: dict[str, Any], **variables: Any) -> dict[str, Any]:
    """The job that the worker makes of a template."""
    made = await CloudRunWorkerJobConfiguration.from_template_and_values(
        copy.deepcopy(template), variables, client=SimpleNamespace()
    )
    made.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="run", state=None))
    return made.job_body


async def mistakes_of(template: dict[str, Any], promises: Any, caplog: Any, **variables: Any) -> list[str]:
    """What the worker refuses or warns about, and the promises that the job of a template does not keep."""
    caplog.clear()
    try:
        with caplog.at_level(logging.WARNING):
            job = await job_of(template, **variables)
    except ValueError as error:
        return [str(error)]
    return [record.getMessage() for record in caplog.records] + list(broken_promises(job, promises))


def test_each_recipe_of_the_page_has_a_file_and_each_file_is_a_recipe_of_the_page():
    sections = re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    # The file that a section is about is the first one that it names.
    named = [re.search(r"\(templates/([\w-]+)\.json\)", section) for section in sections]
    assert all(named), [section.partition("\n")[0] for section, name in zip(sections, named, strict=True) if not name]
    names = [name[1] for name in named if name]
    assert sorted(names) == sorted(path.stem for path in FOLDER.iterdir()) == sorted(RECIPES)
    for section, name in zip(sections, names, strict=True):
        assert section.count("--patch docs/templates/") == section.count(f"--patch docs/templates/{name}.json") == 1, (
            name
        )


def test_each_recipe_is_a_json_patch_of_the_template_that_only_adds_and_removes():
    for name in RECIPES:
        jsonpatch.JsonPatch(patch_of(name))
        for step in patch_of(name):
            assert step["op"] in {"add", "remove"}, name
            assert step["path"].startswith(("/job_configuration/", "/variables/properties/")), name


def test_the_excerpts_of_the_page_are_those_of_the_files():
    sections = re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    excerpts = 0
    for section in sections:
        name = re.search(r"\(templates/([\w-]+)\.json\)", section)
        assert name
        values = [step.get("value") for step in patch_of(name[1])]
        for excerpt in re.findall(r"```json\n(.*?)```", section, re.DOTALL):
            # Each line is a key with its value, as the file adds it.
            for key, value in json.loads(f"{{{excerpt}}}").items():
                excerpts += 1
                paths = [step["path"] for step in patch_of(name[1]) if step.get("value") == value]
                assert value in values, f"{name[1]}: {key}"
                last = key.replace("~", "~0").replace("/", "~1")
                assert any(path.endswith((f"/{last}", f"/{last}/-")) for path in paths), f"{name[1]}: {key}"
    assert excerpts > 15


def test_every_variable_that_a_recipe_adds_is_described_and_used_and_tried():
    for name, recipe in RECIPES.items():
        patch = patch_of(name)
        text = json.dumps([step for step in patch if not step["path"].startswith("/variables")])
        base = workers_own()["variables"]["properties"]
        for step in patch:
            found = re.fullmatch(r"/variables/properties/(\w+)", step["path"])
            if not found or step["op"] == "remove":
                continue
            assert step["value"]["title"], name
            assert step["value"]["description"].endswith("."), name
            assert f"{{{{ {found[1]} }}}}" in text or found[1] in base, f"{name}: {found[1]}"
            assert found[1] in recipe.variables, f"{name}: {found[1]}"


@FORMS
@EACH
async def test_each_recipe_makes_the_job_that_it_promises_of_either_template(form, name, caplog):
    recipe = RECIPES[name]
    template = patched(form(), name)
    assert await mistakes_of(template, recipe.defaults, caplog) == []
    assert await mistakes_of(template, recipe.job, caplog, **recipe.variables) == []


@FORMS
@EACH
async def test_each_recipe_changes_what_it_promises(form, name, caplog):
    before = await mistakes_of(form(), RECIPES[name].defaults, caplog)
    # The new variable has no effect until it is set.
    assert before or name == "new-variable"


@FORMS
@pytest.mark.parametrize("direction", [1, -1])
async def test_recipes_go_together_in_any_order(form, direction, caplog):
    names = [name for name in RECIPES if name not in APART][::direction]
    # Those that append to lists are asked below.
    promises = [RECIPES[name].defaults for name in names if not appends(name)]
    template = patched(form(), *names)
    assert await mistakes_of(template, {key: value for each in promises for key, value in each.items()}, caplog) == []
    task = jsonpointer.resolve_pointer(await job_of(template), cookbook.TASK)
    assert {volume["name"] for volume in task["volumes"]} == {"bucket", "nfs", "secret"}
    assert len(task["containers"][0]["volumeMounts"]) == 3
    assert "DB_PASSWORD" in {variable["name"] for variable in task["containers"][0]["env"]}


async def test_a_gpu_with_a_long_timeout_is_a_warning(caplog):
    mistakes = await mistakes_of(patched(workers_own(), "gpu", "long-timeout"), {}, caplog)
    assert any("86400 is outside the range" in mistake and "with a GPU" in mistake for mistake in mistakes), mistakes


@EACH
def test_a_recipe_can_be_applied_again(name):
    if appends(name) or any(step["op"] == "remove" for step in patch_of(name)):
        return
    once = patched(workers_own(), name)
    assert jsonpatch.apply_patch(once, patch_of(name)) == once


async def test_the_lists_of_a_template_are_kept():
    """People apply one recipe today and another one next month."""
    for form in (workers_own, servers):
        template = form()
        for name in ("gcs-volume", "secret-files", "secret-env"):
            template = patched(template, name)
        task = jsonpointer.resolve_pointer(await job_of(template), cookbook.TASK)
        assert [volume["name"] for volume in task["volumes"]] == ["bucket", "secret"]
        assert [mount["name"] for mount in task["containers"][0]["volumeMounts"]] == ["bucket", "secret"]


@pytest.mark.parametrize(
    ("name", "right", "wrong", "complaint"),
    [
        ("gpu", "/nodeSelector", "/nodeSelectors", "unknown field"),
        ("gpu", '"nvidia-l4"', '"nvidia-t4"', "promised"),
        ("cloud-sql", "/spec/template/metadata", "/metadata", "move it to spec.template.metadata.annotations"),
        ("binary-authorization", "job_body/metadata", "job_body/spec/template/metadata", "promised"),
        ("cmek", "/spec/template/metadata", "/metadata", "move it to spec.template.metadata.annotations"),
        ("second-generation", "execution-environment", "cpu-throttling", "only on Revision"),
        ("delayed-execution", "/spec/template/spec/delayExecution", "/spec/delayExecution", "unknown field"),
        ("retries", '"{{ max_retries }}"', '"{{ max_retrys }}"', "promised"),
        ("retries", '"{{ max_retries }}"', '"at most {{ max_retries }}"', "expected a 32-bit integer, found a string"),
        ("long-timeout", "86400", "864000", "864000 is outside the range"),
        ("secret-env", '"key"', '"version"', "secretKeyRef.key: missing or empty"),
        ("gcs-volume", '"mountPath"', '"path"', "mountPath: missing or empty"),
        (
            "nfs-volume",
            '"value": {"name": "nfs", "mountPath"',
            '"value": {"name": "files", "mountPath"',
            "no such volume",
        ),
        ("sidecar", '"image"', '"img"', "unknown field"),
        ("billing-labels", '"cost-center"', '"Cost-Center"', "lowercase"),
    ],
)
async def test_a_wrong_recipe_is_noticed(name, right, wrong, complaint, caplog):
    text = json.dumps(patch_of(name))
    assert right in text
    template = cookbook.patched_by(workers_own(), json.loads(text.replace(right, wrong)))
    mistakes = await mistakes_of(template, RECIPES[name].defaults, caplog)
    assert any(complaint in mistake for mistake in mistakes), mistakes


@flow
def a_flow():
    """A deployment needs one."""


@pytest.fixture(scope="module")
def emulator():
    with Emulator(
        ready_after=0, start_after=0, delete_after=0, executor="simulated", duration=0, secrets=SECRETS
    ) as running:
        yield running


@pytest.fixture(scope="module")
def pool() -> str:
    return f"cookbook-{uuid4().hex[:8]}"


async def update_pool(pool: str, *recipes: str) -> None:
    """Gives a pool the server's own template with some recipes, as a person does with Prefect's client."""
    async with get_client() as client:
        if pool not in {known.name for known in await client.read_work_pools()}:
            await client.create_work_pool(WorkPoolCreate(name=pool, type="cloud-run", base_job_template=servers()))
        await client.update_work_pool(pool, WorkPoolUpdate(base_job_template=patched(servers(), *recipes)))
        stored = (await client.read_work_pool(pool)).base_job_template
    assert stored == patched(servers(), *recipes)


async def run(pool: str, **variables: Any) -> str:
    """Runs a flow run with job variables, and returns its id."""
    async with get_client() as client:
        flow_id = await client.create_flow(a_flow)
        deployment = await client.create_deployment(flow_id, f"{pool}-{uuid4().hex[:8]}", work_pool_name=pool)
        flow_run = await client.create_flow_run_from_deployment(deployment, job_variables=variables)
    worker = CloudRunWorker(work_pool_name=pool, prefetch_seconds=60)
    await asyncio.wait_for(worker.start(run_once=True, printer=lambda _: None), 60)
    return str(flow_run.id)


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
@EACH
async def test_each_recipe_runs_on_a_pool_of_a_real_server_with_the_promised_job(
    name, emulator, pool, monkeypatch, caplog
):
    monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
    recipe = RECIPES[name]
    await update_pool(pool, name)
    with caplog.at_level(logging.WARNING):
        flow_run_id = await run(pool, keep_job=True, **recipe.variables)
    assert [record.getMessage() for record in caplog.records if "job body" in record.getMessage()] == []
    (job,) = [job for job in emulator.jobs() if job["metadata"]["labels"]["prefect-io-flow-run-id"] == flow_run_id]
    assert list(broken_promises(job, recipe.job or recipe.defaults)) == []
    assert job["status"]["latestCreatedExecution"]["completionStatus"] == "EXECUTION_SUCCEEDED"


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
async def test_the_bounds_of_a_recipes_variables_are_checked_by_prefect(pool):
    await update_pool(pool, "retries", "tasks", "billing-labels", "long-timeout")
    wrong = {"max_retries": 11, "task_count": 0, "cost_center": "A b", "timeout": 604801}
    async with get_client() as client:
        flow_id = await client.create_flow(a_flow)
        for variable, value in wrong.items():
            with pytest.raises(PrefectHTTPStatusError, match=f"Validation failed for field '{variable}'"):
                await client.create_deployment(
                    flow_id, f"wrong-{variable}", work_pool_name=pool, job_variables={variable: value}
                )


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    ("recipes", "runs_of_the_flow"), [((), ["0", "1"]), (("tasks",), ["0"])], ids=["as it is", "with the recipe"]
)
async def test_every_task_runs_the_flow_unless_the_recipe_says_which(recipes, runs_of_the_flow, tmp_path, monkeypatch):
    name = f"tasks-{uuid4().hex[:8]}"
    await update_pool(name, *recipes)
    if not recipes:
        template = servers()
        jsonpointer.set_pointer(template, f"/job_configuration/job_body{cookbook.EXECUTION}/spec/taskCount", 2)
        async with get_client() as client:
            await client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
    variables = (
        {"task_count": 2, "other_tasks_command": f"touch {tmp_path}/other-$CLOUD_RUN_TASK_INDEX"} if recipes else {}
    )
    source = await Flow.afrom_source(source=str(HERE), entrypoint="deployed_flows.py:write_task")
    deployment_id = await source.adeploy(
        name, work_pool_name=name, job_variables=variables, print_next_steps=False, ignore_warnings=True
    )
    with Emulator() as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
        async with get_client() as client:
            flow_run = await client.create_flow_run_from_deployment(deployment_id, parameters={"folder": str(tmp_path)})
            await asyncio.wait_for(CloudRunWorker(work_pool_name=name, prefetch_seconds=60).start(run_once=True), 120)
            state = (await client.read_flow_run(flow_run.id)).state
    assert sorted(path.name for path in tmp_path.glob("flow-*")) == [f"flow-{index}" for index in runs_of_the_flow]
    assert state.is_completed()
    if recipes:
        assert sorted(path.name for path in tmp_path.glob("other-*")) == ["other-1"]


def leaves(body: Any, path: str = "") -> Iterator[str]:
    """The paths of a job body, with `[]` for the items of a list."""
    if isinstance(body, dict) and body:
        for key, value in body.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(body, list) and body:
        for value in body:
            yield from leaves(value, f"{path}[]")
    else:
        yield path


def test_the_page_has_a_place_for_each_part_of_prefects_own_v2_template():
    template = json.loads(COLLECTION.read_text())["prefect-gcp"]["cloud-run-v2"]["default_base_job_configuration"]
    (section,) = re.findall(r"\n## From a cloud-run-v2 pool\n(.*?)\n### ", PAGE.read_text(), re.DOTALL)
    tables = [
        [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
        for table in section.split("| v2, job variable | here |")
    ]
    # What is below a place goes there with it.
    places = tuple(name for row in tables[0] for name in re.findall(r"`([\w.]+)`", row[0]))
    for path in leaves(template["job_configuration"]["job_body"]):
        assert f"{path}.".replace("[]", ".").startswith(tuple(f"{place}." for place in places)), path
    named = {name for row in tables[1] for name in re.findall(r"`(\w+)`", row[0])}
    assert template["variables"]["properties"].keys() <= named
    (same,) = [row[0] for row in tables[1] if row[1].startswith("the same name")]
    assert set(re.findall(r"`(\w+)`", same)) <= workers_own()["variables"]["properties"].keys()
