"""The command `template`: it prints templates, and extends those of work pools."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import re
import sys
from pathlib import Path
from uuid import uuid4

import httpx
import prefect
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration
from prefect_gcp_cloud_run import _commands, cli
from prefect_gcp_cloud_run._extended_template import extend

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
COLLECTION = Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json"
DEFAULT = CloudRunWorker.get_default_base_job_template()
EXTENDED = extend(DEFAULT, DEFAULT).template
OLDER = json.loads(COLLECTION.read_text())["prefect-gcp"]["cloud-run"]["default_base_job_configuration"]
ADDS_LABEL = [{"op": "add", "path": "/job_configuration/job_body/metadata/labels", "value": {"team": "data"}}]


def task_of(template: dict) -> dict:
    return template["job_configuration"]["job_body"]["spec"]["template"]["spec"]["template"]["spec"]


class Ran:
    """What came of a command."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def diff(self) -> list[str]:
        """The lines that are added or removed."""
        return [line for line in self.out.splitlines() if re.match(r"[-+](?![-+])", line)]


@pytest.fixture
def run(capsys):
    """Runs the command in this process, in a thread: it has an event loop of its own."""

    async def running(*arguments: str) -> Ran:
        capsys.readouterr()
        status = await asyncio.to_thread(cli.main, ["template", *arguments])
        return Ran(status, *capsys.readouterr())

    return running


@pytest.fixture
def patch(tmp_path):
    """Writes a file for `--patch`."""

    def written(content: object, name: str = "patch.json") -> str:
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return str(tmp_path / name)

    return written


class Terminal:
    """A terminal at which somebody answers."""

    def __init__(self, answer: str, before=None) -> None:
        self.answer, self.before = answer, before

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        if self.before is not None:
            self.before()
        return self.answer


async def new_pool(template: dict | None, kind: str = "cloud-run") -> str:
    name = f"template-{uuid4().hex[:8]}"
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template or {}))
    return name


async def template_of(pool: str) -> dict:
    async with get_client() as client:
        return (await client.read_work_pool(pool)).base_job_template


# What it prints


async def test_it_prints_the_default_the_extended_and_a_patched_template(run, patch):
    assert json.loads((await run()).out) == DEFAULT
    assert json.loads((await run("--extended")).out) == EXTENDED
    second = patch([{"op": "remove", "path": "/variables/properties/cpu"}], "second.json")
    done = await run("--extended", "--patch", patch(ADDS_LABEL), "--patch", second)
    expected = copy.deepcopy(EXTENDED)
    expected["job_configuration"]["job_body"]["metadata"]["labels"] = {"team": "data"}
    del expected["variables"]["properties"]["cpu"]
    assert (done.status, json.loads(done.out)) == (0, expected)


async def test_the_variables_in_the_docs_are_those_of_the_templates():
    text = (ROOT / "docs/job-variables.md").read_text()
    usual, more = (
        dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE))
        for section in re.findall(r"\n## Those of the \w+ template\n(.*?)(?=\n##)", text, re.DOTALL)
    )
    assert list(usual) == list(DEFAULT["variables"]["properties"])
    old, new = DEFAULT["variables"]["properties"], EXTENDED["variables"]["properties"]
    # `name` is wired in another way, and looks the same.
    assert set(more) == {name for name in new if new[name] != old.get(name)} | {"name"}
    for documented, properties in ((usual, old), (more, new)):
        for name, words in documented.items():
            default = properties[name].get("default")
            assert (default is None) == ("`" not in words), name
            assert (
                default is None
                or json.loads(words.strip("`") if default != "us-central1" else '"us-central1"') == default
            )


async def test_the_options_and_exit_codes_in_the_docs_are_those_of_the_code():
    (section,) = re.findall(r"\n## The command template\n(.*)", (ROOT / "docs/job-variables.md").read_text(), re.DOTALL)
    (commands,) = [action for action in cli._parser()._actions if action.dest == "command"]
    options = {option for action in commands.choices["template"]._actions for option in action.option_strings}
    assert set(re.findall(r"`(-[\w-]+)`", section)) == options - {"-h", "--help"}
    codes = re.findall(r"^\| (\d) \|", section, re.MULTILINE)
    assert codes == ["0", str(_commands.EXIT_NOT_DONE), str(_commands.EXIT_WRONG_USAGE)]


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        ("very-private", 2, "is not JSON"),
        ({"op": "add"}, 2, "is not a JSON patch (RFC 6902): a list of operations"),
        ([*ADDS_LABEL, "very-private"], 2, "operation 2 is none of RFC 6902"),
        ([{"op": "very-private", "path": "/a"}], 2, "operation 1 is none of RFC 6902"),
        ([{"op": "add", "path": "/a"}], 2, "operation 1 is none of RFC 6902"),
        ([{"op": "add", "path": "a", "value": 1}], 2, "operation 1 is none of RFC 6902"),
        ([{"op": "add", "path": "/a/b", "value": "very-private"}], 1, "the template, which has no place '/a/b'"),
        ([{"op": "remove", "path": "/variables/properties/a"}], 1, "no place '/variables/properties/a'"),
        (
            [{"op": "test", "path": "/job_configuration/region", "value": "very-private"}],
            1,
            "operation 1 expects another value at '/job_configuration/region' than the template has",
        ),
    ],
)
async def test_a_bad_patch_is_an_error_without_its_values(run, patch, content, status, words):
    done = await run("--patch", patch(content))
    assert (done.status, done.out) == (status, "")
    assert words in done.err
    assert done.err.startswith("prefect-gcp-cloud-run template: ")
    assert "very-private" not in done.err


async def test_a_patch_appends_to_a_list_that_the_template_lacks_and_keeps_one_that_it_has(run, patch):
    place = "/job_configuration/job_body/spec/template/spec/template/spec/volumes/-"
    appends = [{"op": "add", "path": place, "value": {"name": name, "emptyDir": {}}} for name in ("a", "b")]
    ran = await run("--patch", patch(appends))
    assert [volume["name"] for volume in task_of(json.loads(ran.out))["volumes"]] == ["a", "b"]
    ran = await run("--patch", patch([{**appends[0], "path": "/job_configuration/nowhere/volumes/-"}]))
    assert (ran.status, ran.out) == (1, "")


async def test_a_list_is_made_only_where_jobs_have_one(run, patch):
    path = "/job_configuration/job_body/spec/template/spec/template/spec/contaners/-"
    ran = await run("--patch", patch([{"op": "add", "path": path, "value": {}}]))
    assert (ran.status, ran.out) == (1, "")
    assert "does not fit the template" in ran.err


@pytest.mark.parametrize("value", ["NaN", '"\\ud800"'])
async def test_what_json_can_not_express_is_refused(run, patch, value):
    ran = await run("--patch", patch(f'[{{"op": "add", "path": "/variables/x", "value": {value}}}]'))
    assert (ran.status, ran.out) == (2, "")
    assert "is not JSON" in ran.err


async def test_a_patch_that_leaves_no_template_is_refused(run, patch):
    ran = await run("--patch", patch([{"op": "replace", "path": "", "value": []}]))
    assert (ran.status, ran.out) == (1, "")
    assert "leaves no mapping" in ran.err


async def test_a_patch_that_is_not_there_and_a_yes_to_nothing_are_errors(run, tmp_path):
    done = await run("--patch", str(tmp_path / "none.json"))
    assert (done.status, done.out) == (2, "")
    assert "none.json can't be read: No such file or directory" in done.err
    done = await run("--yes")
    assert (done.status, done.err) == (2, "prefect-gcp-cloud-run template: --yes goes with --upgrade\n")


# What is added, and what is left


def test_the_extended_template_lacks_nothing():
    again = extend(EXTENDED, DEFAULT)
    assert (again.template, again.effects, again.left) == (EXTENDED, [], [])


def test_what_the_owner_has_changed_stays_and_is_said():
    own = copy.deepcopy(DEFAULT)
    task_of(own)["maxRetries"] = 3
    task_of(own)["timeoutSeconds"] = 900
    own["job_configuration"]["job_body"]["metadata"]["name"] = "etl"
    own["variables"]["properties"]["main_container"] = {"type": "string", "default": "mine"}
    own["job_configuration"]["env_from_secrets"] = {"A": {"secret": "a"}}
    del own["variables"]["properties"]["credentials"], own["job_configuration"]["credentials"]
    made = extend(own, DEFAULT)
    assert (task_of(made.template)["maxRetries"], task_of(made.template)["timeoutSeconds"]) == (3, 900)
    assert made.template["job_configuration"]["timeout"] == "{{ timeout }}"
    assert made.template["job_configuration"]["job_body"]["metadata"]["name"] == "etl"
    assert made.template["job_configuration"]["env_from_secrets"] == {"A": {"secret": "a"}}
    assert "main_container" not in made.template["job_configuration"]
    properties = made.template["variables"]["properties"]
    assert properties["main_container"] == {"type": "string", "default": "mine"}
    assert not {"max_retries", "ready_timeout", "env_from_secrets", "credentials"} & properties.keys()
    assert "credentials" not in made.template["job_configuration"]
    assert made.effects == []
    assert [line.split(":")[0] for line in made.left] == ["main_container", "timeout", "max_retries", "name"]


@pytest.mark.parametrize("template", [DEFAULT, OLDER], ids=["the worker's", "the server's"])
def test_the_patience_of_the_owner_stays(template):
    own = copy.deepcopy(template)
    own["variables"]["properties"]["timeout"]["default"] = 1800
    made = extend(own, DEFAULT).template
    properties = made["variables"]["properties"]
    assert (properties["timeout"]["default"], properties["ready_timeout"]["default"]) == (1800, 1800)
    assert made["job_configuration"]["timeout"] == "{{ ready_timeout }}"
    assert task_of(made)["timeoutSeconds"] == "{{ timeout }}"
    assert '"maximum": 604800' in json.dumps(properties["timeout"])
    # A bound of the owner's own is left.
    own = json.loads(json.dumps(template).replace('"maximum": 3600', '"maximum": 900'))
    assert extend(own, DEFAULT).template["job_configuration"]["timeout"] == "{{ timeout }}"


@pytest.mark.parametrize("template", [{}, {"job_configuration": {}, "variables": {}}, DEFAULT["variables"]])
def test_what_is_no_template_of_a_cloud_run_pool_is_an_error(template):
    with pytest.raises(ValueError, match="The template has no mapping at "):
        extend(template, DEFAULT)


# Upgrades


@pytest.mark.difference("template")
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("template", [DEFAULT, OLDER], ids=["the worker's", "the server's"])
async def test_an_upgrade_shows_the_difference_and_is_done_after_a_yes(run, monkeypatch, template):
    pool = await new_pool(template)
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    done = await run("--upgrade", pool)
    assert done.status == 0, done.err
    for line in (
        '-    "timeout": "{{ timeout }}",',
        '+    "timeout": "{{ ready_timeout }}",',
        '+    "env_from_secrets": "{{ env_from_secrets }}",',
        '-        "name": "{{ name }}"',
    ):
        assert any(found.startswith(line.rstrip(",")) for found in done.diff), line
    assert done.out.count("\nChanges: ") == 3
    assert "Left as it is" not in done.out
    assert f"Change the template of work pool {pool!r}? Write yes: " in done.out
    assert done.out.endswith("is changed. Flow runs that are submitted from now on use it\n")
    made = await template_of(pool)
    assert made == extend(template, DEFAULT).template
    assert made["job_configuration"].keys() == EXTENDED["job_configuration"].keys()
    assert made["variables"]["properties"].keys() == EXTENDED["variables"]["properties"].keys()
    async with get_client() as client:
        values = {"env_from_secrets": {"A": {"secret": "a"}}, "prefect_api_key_secret": {"secret": "k", "version": "1"}}
        await CloudRunWorkerJobConfiguration.from_template_and_values(made, values, client=client)
    again = await run("--upgrade", pool)
    assert (again.status, again.out) == (0, f"The template of work pool {pool!r} lacks nothing\n")


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("answer", ["no\n", "y\n", "", "\n"])
async def test_any_other_answer_changes_nothing(run, monkeypatch, answer):
    pool = await new_pool(DEFAULT)
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    done = await run("--upgrade", pool)
    assert (done.status, done.err) == (1, "Nothing was changed\n")
    assert done.diff
    assert await template_of(pool) == DEFAULT


@pytest.mark.usefixtures("prefect_server")
async def test_without_a_terminal_it_takes_the_option_yes(run, monkeypatch):
    pool = await new_pool(DEFAULT)
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    done = await run("--upgrade", pool)
    assert done.status == 1
    assert done.err == "Nothing was changed: there is no terminal to ask at. With --yes, no question is asked\n"
    assert done.diff
    assert await template_of(pool) == DEFAULT
    done = await run("--upgrade", pool, "--yes")
    assert done.status == 0, done.err
    assert "Write yes" not in done.out
    assert await template_of(pool) == EXTENDED


@pytest.mark.usefixtures("prefect_server")
async def test_a_patch_changes_only_what_it_says_unless_the_rest_is_asked_for_too(run, patch):
    pool = await new_pool(DEFAULT)
    done = await run("--upgrade", pool, "--patch", patch(ADDS_LABEL), "--yes")
    assert done.status == 0, done.err
    expected = copy.deepcopy(DEFAULT)
    expected["job_configuration"]["job_body"]["metadata"]["labels"] = {"team": "data"}
    assert await template_of(pool) == expected
    assert not any(line.startswith("-") and not line.endswith(("}", '"')) for line in done.diff)
    done = await run("--upgrade", pool, "--extended", "--patch", patch(ADDS_LABEL), "--yes")
    assert done.status == 0, done.err
    assert "env_from_secrets" in (await template_of(pool))["job_configuration"]


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ({"op": "remove", "path": "/job_configuration/job_body/kind"}, "missing required attributes"),
        ({"op": "add", "path": "/job_configuration/job_body/spec/template/spec/taskCount", "value": 0}, "taskCount"),
        ({"op": "add", "path": "/job_configuration/main_container", "value": "flow"}, "has no container 'flow'"),
        ({"op": "add", "path": "/job_configuration/env", "value": ["very-private"]}, "env must be a mapping"),
    ],
)
async def test_a_template_that_a_worker_could_not_use_is_not_saved(run, patch, operation, words, caplog):
    pool = await new_pool(DEFAULT)
    done = await run("--upgrade", pool, "--patch", patch([operation]), "--yes")
    assert (done.status, done.out) == (1, "")
    assert "Nothing was changed: a worker could not use the template that would come of it: " in done.err
    assert words in done.err
    assert "very-private" not in done.err + caplog.text
    assert await template_of(pool) == DEFAULT


@pytest.mark.usefixtures("prefect_server")
async def test_a_template_with_which_something_was_missing_before_can_be_changed(run, patch):
    """Each deployment of the pool sets what the default values lack."""
    template = copy.deepcopy(DEFAULT)
    task_of(template)["containers"][0]["resources"]["limits"]["memory"] = "{{ memory }}Gi"
    pool = await new_pool(template)
    done = await run("--upgrade", pool, "--patch", patch(ADDS_LABEL), "--yes")
    assert (done.status, done.err) == (0, "")


@pytest.mark.usefixtures("prefect_server")
async def test_the_diff_shows_no_value_that_stays_and_what_a_worker_would_warn_about(run, patch):
    template = copy.deepcopy(DEFAULT)
    template["job_configuration"]["job_body"]["metadata"]["annotations"]["private"] = "very-private"
    pool = await new_pool(template)
    path = "/job_configuration/job_body/metadata/labls"
    done = await run(
        "--upgrade", pool, "--patch", patch([{"op": "add", "path": path, "value": {"team": "data"}}]), "--yes"
    )
    assert (done.status, done.err) == (0, "")
    assert '"private": …' in done.out
    assert "very-private" not in done.out
    assert any(line.endswith('"team": "data"') for line in done.diff)
    assert re.search("^Warning: .*labls", done.out, re.MULTILINE)


@pytest.mark.usefixtures("prefect_server")
async def test_a_template_that_the_server_refuses_is_not_saved(run, patch):
    pool = await new_pool(DEFAULT)
    unknown = [{"op": "add", "path": "/job_configuration/job_body/metadata/labels", "value": {"a": "{{ nowhere }}"}}]
    done = await run("--upgrade", pool, "--patch", patch(unknown), "--yes")
    assert done.status == 1
    assert "Nothing was changed: Prefect's server refused the template with status 4" in done.err
    assert await template_of(pool) == DEFAULT


@pytest.mark.usefixtures("prefect_server")
async def test_a_pool_that_somebody_else_has_changed_meanwhile_is_left(run, monkeypatch):
    pool = await new_pool(DEFAULT)
    theirs = copy.deepcopy(DEFAULT)
    theirs["job_configuration"]["region"] = "europe-west1"

    def change() -> None:
        async def update() -> None:
            async with get_client() as client:
                await client.update_work_pool(pool, WorkPoolUpdate(base_job_template=theirs))

        asyncio.run(update())

    monkeypatch.setattr(sys, "stdin", Terminal("yes\n", change))
    done = await run("--upgrade", pool)
    assert done.status == 1
    assert f"Nothing was changed: somebody else has changed work pool {pool!r} meanwhile. Try again" in done.err
    assert await template_of(pool) == theirs


@pytest.mark.usefixtures("prefect_server")
async def test_a_wrong_pool_is_named(run):
    pool = await new_pool(DEFAULT)
    done = await run("--upgrade", f"{pool}x")
    assert done.status == 2
    assert done.err == f"prefect-gcp-cloud-run template: There is no work pool '{pool}x'. Did you mean {pool!r}?\n"
    other = await new_pool(None, "process")
    done = await run("--upgrade", other)
    assert done.status == 2
    assert f"Work pool {other!r} is of type 'process'. Only pools of type 'cloud-run' can be changed" in done.err


async def test_without_a_prefect_api_nothing_is_done(run):
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        done = await run("--upgrade", "any")
    assert done.status == 2
    assert "No Prefect API is configured. Set PREFECT_API_URL" in done.err
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        done = await run("--upgrade", "any")
    assert done.status == 1
    assert "The Prefect API at http://127.0.0.1:1/api could not be asked: ConnectError" in done.err


@pytest.mark.usefixtures("prefect_server")
async def test_a_server_that_fails_is_not_said_to_have_refused(run, monkeypatch):
    pool = await new_pool(DEFAULT)

    async def fails(*_, **__):
        request = httpx.Request("PATCH", "http://user:hunter2@h/api")
        raise httpx.HTTPStatusError("no", request=request, response=httpx.Response(503, request=request))

    monkeypatch.setattr("prefect.client.orchestration.PrefectClient.update_work_pool", fails)
    done = await run("--upgrade", pool, "--yes")
    assert done.status == 1
    assert "could not be asked: " in done.err
    assert "refused" not in done.err
    assert "hunter2" not in done.err
