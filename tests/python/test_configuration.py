"""The job configuration: from the pool template to the finished job body."""

import copy
import datetime
import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import prefect
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from prefect.client.schemas.objects import FlowRun
from pydantic import ValidationError

from prefect_gcp.credentials import GcpCredentials
from prefect_gcp.workers import cloud_run
from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration
from prefect_gcp_cloud_run import _core

DATA = Path(__file__).parent / "data"
COLLECTION = Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json"

pytestmark = pytest.mark.anyio


def without_descriptions(value):
    if isinstance(value, dict):
        is_text = lambda key, item: key == "description" and isinstance(item, str)  # noqa: E731
        return {key: without_descriptions(item) for key, item in value.items() if not is_text(key, item)}
    return [without_descriptions(item) for item in value] if isinstance(value, list) else value


def flow_run(**fields) -> FlowRun:
    return FlowRun(**{"id": uuid4(), "flow_id": uuid4(), "name": "funny-name", "state": None} | fields)


async def configuration(values=None, template=None, prepare=True) -> CloudRunWorkerJobConfiguration:
    template = template or CloudRunWorker.get_default_base_job_template()
    made = await CloudRunWorkerJobConfiguration.from_template_and_values(
        copy.deepcopy(template), values or {}, client=SimpleNamespace()
    )
    if prepare:
        made.prepare_for_flow_run(flow_run())
    return made


def container(made: CloudRunWorkerJobConfiguration) -> dict:
    return made.job_body["spec"]["template"]["spec"]["template"]["spec"]["containers"][0]


def env(made: CloudRunWorkerJobConfiguration) -> dict:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(made)["env"]}


def test_the_pool_template_equals_the_upstream_one():
    expected = json.loads((DATA / "base_job_template.json").read_text())
    assert without_descriptions(CloudRunWorker.get_default_base_job_template()) == expected


def test_every_variable_is_described():
    properties = CloudRunWorker.get_default_base_job_template()["variables"]["properties"]
    assert all(variable.get("description") for variable in properties.values())


async def test_the_pool_template_inside_prefect_works():
    template = json.loads(COLLECTION.read_text())["prefect-gcp"]["cloud-run"]["default_base_job_configuration"]
    made = await configuration(template=template)
    assert made.region == "us-central1"
    assert container(made)["command"] == ["prefect", "flow-run", "execute"]


async def test_the_default_image_is_looked_up_once(monkeypatch):
    # Prefect runs git for it, which blocks the event loop for some milliseconds.
    await configuration()
    monkeypatch.setattr("subprocess.check_output", lambda *_: pytest.fail("the image is looked up again"))
    assert container(await configuration())["image"].startswith("docker.io/prefecthq/prefect:3")


async def test_the_default_template_makes_a_valid_job():
    made = await configuration()
    task = made.job_body["spec"]["template"]["spec"]["template"]["spec"]
    assert task["timeoutSeconds"] == 600
    assert container(made)["image"].startswith("docker.io/prefecthq/prefect:3")
    assert container(made)["command"] == ["prefect", "flow-run", "execute"]
    assert env(made)["PREFECT_API_URL"].startswith("http://127.0.0.1")
    assert re.fullmatch(r"funny-name-[0-9a-f]{32}", made.job_name)
    labels = made.job_body["metadata"]["labels"]
    assert labels["prefect-io-flow-run-name"] == "funny-name"
    assert made.job_body["spec"]["template"]["metadata"]["labels"] == labels


async def test_job_variables_are_put_into_the_job_body():
    made = await configuration(
        {
            "name": "my-etl",
            "region": "europe-west1",
            "image": "example/image:1",
            "cpu": "2000m",
            "memory": "1Gi",
            "command": "python -m 'my flow'",
            "service_account_name": "a@example.com",
            "vpc_connector_name": "c",
            "timeout": 60,
            "env": {"A": "1", "B": None},
            "labels": {"Team": "Data"},
        }
    )
    task = made.job_body["spec"]["template"]["spec"]["template"]["spec"]
    assert made.job_name == "my-etl"
    assert made.region == "europe-west1"
    assert container(made)["image"] == "example/image:1"
    assert container(made)["resources"]["limits"] == {"cpu": "2000m", "memory": "1Gi"}
    assert container(made)["command"] == ["python", "-m", "my flow"]
    assert (task["serviceAccountName"], task["timeoutSeconds"]) == ("a@example.com", 60)
    assert made.job_body["spec"]["template"]["metadata"]["annotations"] == {
        "run.googleapis.com/vpc-access-connector": "c"
    }
    assert env(made)["A"] == "1"
    assert "B" not in env(made)
    assert made.job_body["metadata"]["labels"]["team"] == "data"


@pytest.mark.difference("own-env-entries")
async def test_a_customised_template_works():
    template = CloudRunWorker.get_default_base_job_template()
    task = template["job_configuration"]["job_body"]["spec"]["template"]["spec"]["template"]["spec"]
    task["maxRetries"] = "{{ retries }}"
    task["containers"][0]["image"] = "fixed/image:2"
    task["containers"][0]["args"] = "--verbose 'a b'"
    task["containers"][0]["env"] = [{"name": "OWN", "value": "x"}, {"name": "PREFECT__FLOW_RUN_ID", "value": "old"}]
    template["variables"]["properties"]["retries"] = {"type": "integer", "default": 0}
    made = await configuration({"image": "ignored", "retries": 2}, template)
    assert made.job_body["spec"]["template"]["spec"]["template"]["spec"]["maxRetries"] == 2
    assert container(made)["image"] == "fixed/image:2"
    assert container(made)["args"] == ["--verbose", "a b"]
    assert env(made)["OWN"] == "x"
    assert env(made)["PREFECT__FLOW_RUN_ID"] != "old"


async def test_preparing_twice_gives_the_same_body_in_the_same_objects():
    made, run = await configuration({"labels": {"a": "b"}}, prepare=False), flow_run()
    body, labels = made.job_body, made.job_body["metadata"]
    made.prepare_for_flow_run(run)
    once = copy.deepcopy(made.job_body)
    made.prepare_for_flow_run(run)
    assert made.job_body == once
    assert made.job_body is body
    assert made.job_body["metadata"] is labels


async def test_a_second_prepare_replaces_the_labels_of_the_first():
    template = CloudRunWorker.get_default_base_job_template()
    template["job_configuration"]["job_body"]["metadata"]["labels"] = {"prefect-io-version": "Mine"}
    made = await configuration(template=template)
    second = flow_run(name="other")
    made.labels = {}
    made.prepare_for_flow_run(second)
    labels = made.job_body["metadata"]["labels"]
    assert labels["prefect-io-flow-run-id"] == str(second.id)
    assert labels["prefect-io-flow-run-name"] == "other"
    assert labels["prefect-io-version"] == "Mine"


async def test_a_secret_replaces_the_plaintext_api_key(caplog):
    selector = {"secret": "my-secret", "version": "latest"}
    with caplog.at_level(logging.WARNING):
        made = await configuration(
            {
                "env": {"PREFECT_API_KEY": "pnu_plain", "PREFECT_API_AUTH_STRING": "a:b"},
                "prefect_api_key_secret": selector,
                "prefect_api_auth_string_secret": selector,
            }
        )
    reference = {"secretKeyRef": {"name": "my-secret", "key": "latest"}}
    assert env(made)["PREFECT_API_KEY"] == env(made)["PREFECT_API_AUTH_STRING"] == reference
    assert "pnu_plain" not in json.dumps(made.job_body)
    assert "plaintext" not in caplog.text


@pytest.mark.difference("own-secrets")
@pytest.mark.parametrize("name", ["PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "DB_PASSWORD"])
async def test_a_secret_of_the_template_wins_over_plain_text_without_a_warning(name, caplog):
    template = CloudRunWorker.get_default_base_job_template()
    task = template["job_configuration"]["job_body"]["spec"]["template"]["spec"]["template"]["spec"]
    reference = {"secretKeyRef": {"name": "its-secret", "key": "{{ version }}"}}
    task["containers"][0]["env"] = [{"name": name, "valueFrom": reference}, {"name": "OTHER", "value": "old"}]
    with caplog.at_level(logging.WARNING):
        made = await configuration({"version": "7", "env": {name: "very-private", "OTHER": "new"}}, template)
        run = flow_run()
        made.prepare_for_flow_run(run)
    assert env(made)[name] == {"secretKeyRef": {"name": "its-secret", "key": "7"}}
    assert env(made)["OTHER"] == "new"
    assert [entry["name"] for entry in container(made)["env"]].count(name) == 1
    assert "very-private" not in json.dumps(made.job_body)
    assert "plaintext" not in caplog.text


async def test_a_configured_secret_wins_over_that_of_the_template():
    template = CloudRunWorker.get_default_base_job_template()
    task = template["job_configuration"]["job_body"]["spec"]["template"]["spec"]["template"]["spec"]
    reference = {"secretKeyRef": {"name": "its-secret", "key": "7"}}
    task["containers"][0]["env"] = [{"name": "PREFECT_API_KEY", "valueFrom": reference}]
    made = await configuration({"prefect_api_key_secret": {"secret": "configured", "version": "1"}}, template)
    assert env(made)["PREFECT_API_KEY"] == {"secretKeyRef": {"name": "configured", "key": "1"}}


async def test_plaintext_credentials_are_warned_about_once_each_and_not_shown(caplog):
    with caplog.at_level(logging.WARNING):
        await configuration({"env": {"PREFECT_API_KEY": "pnu_plain", "PREFECT_API_AUTH_STRING": "a:b"}})
    warnings = [record.getMessage() for record in caplog.records if "plaintext" in record.getMessage()]
    assert [text.split()[0] for text in warnings] == ["PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"]
    assert "consider providing it as a secret using 'prefect_api_key_secret' in your base job template" in warnings[0]
    assert "prefect_api_auth_string_secret" in warnings[1]
    assert "pnu_plain" not in caplog.text


@pytest.mark.difference("legal-names")
@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("Ünïcode & spaces", r"unicode-spaces-[0-9a-f]{32}"),
        ("123", r"run-123-[0-9a-f]{32}"),
        ("9" * 60, r"run-9{26}-[0-9a-f]{32}"),
        ("...", r"flow-run-[0-9a-f]{32}"),
        ("x" * 80, r"x{30}-[0-9a-f]{32}"),
        ("a" * 29 + "-bcd", r"a{29}-[0-9a-f]{32}"),
    ],
)
async def test_the_job_name_is_made_from_the_flow_runs_name(name, pattern):
    made = await configuration(prepare=False)
    made.prepare_for_flow_run(flow_run(name=name))
    assert re.fullmatch(pattern, made.job_name)
    assert _core.is_job_name(made.job_name)


@pytest.mark.difference("illegal-names")
async def test_an_illegal_name_from_a_job_variable_is_made_legal_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        made = await configuration({"name": "My_ETL " + "x" * 80})
    assert made.job_name == "my-etl-" + "x" * 56
    (record,) = [record for record in caplog.records if "is not a valid Cloud Run job name" in record.getMessage()]
    assert record.name == "prefect.flow_runs.worker"


async def test_a_name_that_utf8_cannot_encode_is_made_legal():
    made = await configuration(prepare=False)
    made.job_body["metadata"]["name"] = "my\ud800-etl"
    made.prepare_for_flow_run(flow_run())
    assert made.job_name == "my-etl"


@pytest.mark.parametrize("name", ["", "...", "-", 0])
async def test_a_name_without_legal_characters_is_replaced_by_a_unique_one(name):
    template = CloudRunWorker.get_default_base_job_template()
    template["job_configuration"]["job_body"]["metadata"]["name"] = name
    first, second = [(await configuration(template=template)).job_name for _ in range(2)]
    assert _core.is_job_name(first)
    assert (first == second) == (name == 0)


@pytest.mark.difference("null-is-absent")
@pytest.mark.parametrize("what", ["image", "command", "name"])
async def test_null_counts_as_absent(what):
    template = CloudRunWorker.get_default_base_job_template()
    body = template["job_configuration"]["job_body"]
    place = (
        body["metadata"] if what == "name" else body["spec"]["template"]["spec"]["template"]["spec"]["containers"][0]
    )
    place[what] = None
    made = await configuration(template=template)
    found = made.job_name if what == "name" else container(made)[what]
    assert found


VARIABLES_WITH_NULL = [
    "image",
    "cpu",
    "memory",
    "command",
    "name",
    "vpc_connector_name",
    "service_account_name",
    "timeout",
]
VARIABLES_WITH_NULL += ["credentials", "keep_job", "prefect_api_key_secret", "env", "labels"]


@pytest.mark.difference("null-is-absent")
@pytest.mark.parametrize("names", [*([name] for name in VARIABLES_WITH_NULL), VARIABLES_WITH_NULL])
async def test_a_null_job_variable_is_absent(names, caplog):
    template = CloudRunWorker.get_default_base_job_template()
    for variable in template["variables"]["properties"].values():
        variable.pop("default", None)
    with caplog.at_level(logging.WARNING):
        made, absent = await configuration(dict.fromkeys(names), template), await configuration({}, template)
    assert warnings_of(caplog) == []
    for body in (made.job_body, absent.job_body):
        for metadata in (body["metadata"], body["spec"]["template"]["metadata"]):
            del metadata["labels"]
        body["metadata"].pop("name")
        body["spec"]["template"]["metadata"].pop("annotations", None)
        del container(made)["env"][:]
        del container(absent)["env"][:]
        container(made).pop("resources", None)
        container(absent).pop("resources", None)
    assert made.job_body == absent.job_body


@pytest.mark.difference("null-is-absent")
async def test_a_mapping_that_nulls_have_emptied_goes_with_them():
    made = await configuration({"vpc_connector_name": None, "memory": None, "cpu": None})
    assert "resources" not in container(made)
    assert "annotations" not in made.job_body["spec"]["template"]["metadata"]


@pytest.mark.difference("null-is-absent")
async def test_nulls_go_from_everywhere_in_a_template_and_what_the_api_needs_stays():
    template = CloudRunWorker.get_default_base_job_template()
    task = template["job_configuration"]["job_body"]["spec"]["template"]["spec"]["template"]["spec"]
    task["nodeSelector"] = {"run.googleapis.com/accelerator": "{{ gpu }}"}
    task["volumes"] = [
        {"name": "scratch", "emptyDir": {"medium": "{{ medium }}", "sizeLimit": "{{ size }}"}},
        {"name": "{{ volume }}", "csi": {"driver": "{{ driver }}", "volumeAttributes": {"bucketName": "{{ bucket }}"}}},
    ]
    task["containers"][0] |= {
        "args": ["--fast", "{{ flag }}"],
        "env": [
            {"name": "A", "value": "{{ a }}"},
            {"name": "{{ b }}", "valueFrom": {"secretKeyRef": {"name": "{{ c }}"}}},
        ],
        "startupProbe": {"tcpSocket": {"port": "{{ port }}"}},
        "ports": "{{ ports }}",
    }
    names = ["gpu", "medium", "size", "volume", "driver", "bucket", "flag", "a", "b", "c", "port", "ports"]
    made = await configuration(dict.fromkeys(names), template, prepare=False)
    task = made.job_body["spec"]["template"]["spec"]["template"]["spec"]
    assert "nodeSelector" not in task
    assert task["volumes"] == [{"name": "scratch", "emptyDir": {}}]
    assert container(made)["args"] == ["--fast"]
    assert container(made)["env"] == [{"name": "A"}]
    assert container(made)["startupProbe"] == {"tcpSocket": {}}
    assert "ports" not in container(made)
    made.prepare_for_flow_run(flow_run())


async def test_nulls_are_removed_from_a_copy_and_what_has_none_stays_the_same_object():
    spec = cloud_run._get_base_job_body()["spec"]
    body = cloud_run._get_base_job_body() | {"spec": spec, "status": None}
    body["metadata"]["labels"] = {"a": None, "b": "c", "d": {}}
    made = CloudRunWorkerJobConfiguration(job_body=body)
    assert made.job_body["metadata"]["labels"] == {"b": "c", "d": {}}
    assert "status" not in made.job_body
    assert made.job_body["spec"] is spec
    assert body["metadata"]["labels"]["a"] is None


class Server:
    """A client of Prefect's API with a flow and no blocks."""

    async def read_flow(self, _):
        return None


async def resolved(run_variables, deployment_variables):
    pool = SimpleNamespace(name="p", id=uuid4(), base_job_template=CloudRunWorker.get_default_base_job_template())
    return await CloudRunWorkerJobConfiguration.resolve_for_flow_run(
        flow_run(job_variables=run_variables),
        client=Server(),
        work_pool=pool,
        worker_name="w",
        deployment=SimpleNamespace(job_variables=deployment_variables, name="d", id=uuid4(), updated=None),
    )


@pytest.mark.difference("null-is-absent")
async def test_a_null_env_of_a_flow_run_leaves_that_of_its_deployment():
    made = await resolved({"env": None, "cpu": None}, {"env": {"A": "1"}})
    assert env(made)["A"] == "1"


@pytest.mark.difference("env-form")
@pytest.mark.parametrize("wrong", [[{"name": "A", "value": "very-private"}], ["A=very-private"], "A=very-private", 1])
async def test_an_env_of_another_form_is_an_error_that_says_which_is_expected(wrong):
    template = CloudRunWorker.get_default_base_job_template()
    expected = r'env must be a mapping of names to values, such as {"NAME": "value"}, got (list|str|int)'
    for attempt in (configuration({"env": wrong}), resolved({"env": wrong}, {"env": {}}), resolved({}, {"env": wrong})):
        with pytest.raises(ValueError, match=expected) as caught:
            await attempt
        assert "very-private" not in str(caught.value)
    template["job_configuration"]["env"] = {"OWN": "1"}
    with pytest.raises(ValueError, match=expected):
        await configuration({"env": wrong}, template)


@pytest.mark.difference("other-pool-type")
async def test_the_template_of_another_pool_type_is_named():
    template = json.loads(COLLECTION.read_text())["prefect-gcp"]["cloud-run-v2"]["default_base_job_configuration"]
    with pytest.raises(ValidationError) as caught:
        await configuration({"image": "i"}, template)
    (error,) = caught.value.errors()
    assert "Job is missing required attributes at the following paths: /apiVersion, /kind, " in error["msg"]
    assert "This is the template of a cloud-run-v2 work pool" in error["msg"]
    assert "prefect work-pool get-default-base-job-template --type cloud-run" in error["msg"]


@pytest.mark.difference("unknown-variables")
async def test_an_unknown_job_variable_is_a_warning_with_the_nearest_name(caplog):
    template = CloudRunWorker.get_default_base_job_template()
    template["job_configuration"]["job_body"]["metadata"]["annotations"]["x"] = "a {{ team.name }}"
    unknown = {
        "memroy": "very-private",
        "Image": "very-private",
        "qqq": 1,
        "labls.team": "x",
        "very private!": 1,
        "env[A]": 1,
    }
    known = {"memory": "1Gi", "env.A": "1", "team": {"name": "t"}, "labels": {}, "keep_job": True}
    with caplog.at_level(logging.WARNING):
        await configuration(known | unknown, template)
    warnings = [record.getMessage() for record in caplog.records]
    begin, end = "The job variable ", " is unknown to the work pool and has no effect"
    assert sorted(warnings) == [
        f"{begin}'Image'{end}; did you mean 'image'?",
        f"{begin}'labls'{end}; did you mean 'labels'?",
        f"{begin}'memroy'{end}; did you mean 'memory'?",
        f"{begin}'qqq'{end}. The work pool's template decides which ones there are",
        f"{begin}(not shown){end}. The work pool's template decides which ones there are",
        f"{begin}(not shown){end}; did you mean 'env'?",
    ]
    assert {record.name for record in caplog.records} == {"prefect.flow_runs.worker"}


async def test_an_env_that_the_template_has_as_a_mapping_is_known_without_a_placeholder(caplog):
    template = CloudRunWorker.get_default_base_job_template()
    del template["variables"]["properties"]["env"]
    template["job_configuration"]["env"] = {"OWN": "1"}
    with caplog.at_level(logging.WARNING):
        made = await configuration({"env": {"A": "2"}}, template)
    assert (env(made)["OWN"], env(made)["A"]) == ("1", "2")
    assert "unknown" not in caplog.text


@pytest.mark.difference("null-credentials")
async def test_null_credentials_mean_those_of_the_environment():
    made = await configuration({"credentials": None})
    assert isinstance(made.credentials, GcpCredentials)


def _body(**changes):
    return cloud_run._get_base_job_body() | changes


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Job is missing required attributes at the following paths: /apiVersion, /kind, /metadata, /spec"),
        (_body(metadata={}), "Job is missing required attributes at the following paths: /metadata/annotations"),
        (_body(kind="Pod"), "Job has incompatible values for the following attributes: /kind must have value 'Job'"),
        (
            _body(spec=None),
            "Job has incompatible values for the following attributes: /spec must have value {'template'",
        ),
        (_body(kind=b"Job"), "Job has incompatible values for the following attributes: /kind must have value 'Job'"),
    ],
)
def test_a_body_without_the_base_body_is_rejected(body, message):
    with pytest.raises(ValidationError) as caught:
        CloudRunWorkerJobConfiguration(job_body=body)
    (error,) = caught.value.errors()
    assert error["loc"] == ("job_body",)
    assert message in error["msg"]


def test_the_base_body_contains_itself():
    assert _core.check_base_job_body(cloud_run._get_base_job_body()) is None


@pytest.mark.parametrize("timeout", [0, 3601, -1, "soon"])
def test_a_timeout_out_of_bounds_is_rejected(timeout):
    with pytest.raises(ValidationError, match="timeout"):
        CloudRunWorkerJobConfiguration(job_body=cloud_run._get_base_job_body(), timeout=timeout)


@pytest.mark.difference("hidden-input")
@pytest.mark.parametrize(
    "wrong",
    [
        {"env": [{"name": "A", "value": "very-private"}]},
        {"credentials": {"type": "service_account", "private_key": "very-private"}},
        {"credentials": {"very-private==": "very-private", "-----BEGIN very-private": 1, "projct": "very-private"}},
        {"job_body": {"kind": "Job", "env": "very-private"}},
        {"labels": {"team": ["very-private"]}},
        {"credentials": {"service_account_info": {"private_key": "very-private"}, "project": 1}},
        {"credentials": "very-private"},
    ],
)
def test_a_validation_error_does_not_show_the_input(wrong):
    with pytest.raises(ValidationError) as caught:
        CloudRunWorkerJobConfiguration(**{"job_body": cloud_run._get_base_job_body()} | wrong)
    assert "very-private" not in str(caught.value)
    assert "very-private" not in repr(caught.value)


STEPS = [
    "_populate_envs",
    "_populate_labels",
    "_populate_or_format_command",
    "_format_args_if_present",
    "_populate_image_if_not_present",
    "_populate_name_if_not_present",
]


@pytest.mark.difference("shape-errors")
@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_misses_its_part_of_the_body_is_an_error(step):
    made = await configuration()
    made.job_body.clear()
    what = {"_populate_envs": "env", "_populate_labels": "labels"}.get(step, "image")
    with pytest.raises(ValueError, match=rf"Unable to verify {what} due to invalid job body template\."):
        getattr(made, step)()


CONTAINERS = "/spec/template/spec/template/spec/containers"


@pytest.mark.difference("shape-errors")
@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        ("spec", None, "/spec"),
        ("spec.template.spec.template.spec.containers", [], f"{CONTAINERS}/0"),
        ("spec.template.spec.template.spec.containers", {"0": {}}, CONTAINERS),
        ("spec.template.spec.template.spec.containers", ["x"], f"{CONTAINERS}/0"),
        ("metadata.labels", ["a"], "/metadata/labels"),
        ("spec.template.metadata", "x", "/spec/template/metadata"),
        ("metadata", [], "/metadata"),
    ],
)
async def test_a_malformed_part_of_the_body_is_named_by_its_path(path, value, pointer):
    made = await configuration(prepare=False)
    place = made.job_body
    *above, last = path.split(".")
    for key in above:
        place = place[key]
    place[last] = value
    kind = "list" if pointer == CONTAINERS else "mapping"
    message = rf"Unable to verify \w+ due to invalid job body template\. There is no {kind} at {pointer}$"
    with pytest.raises(ValueError, match=message):
        made.prepare_for_flow_run(flow_run())


async def test_an_env_that_is_a_string_is_an_error():
    made = await configuration(prepare=False)
    container(made)["env"] = "A=b"
    with pytest.raises(ValueError, match=rf"Unable to verify env .* There is no list at {CONTAINERS}/0/env$"):
        made.prepare_for_flow_run(flow_run())


@pytest.mark.parametrize("name", ["command", "args"])
async def test_an_unterminated_quotation_in_a_command_line_is_an_error(name):
    made = await configuration(prepare=False)
    container(made)[name] = "python 'x"
    message = f"The container's {name} is not a valid shell command line: No closing quotation"
    with pytest.raises(ValueError, match=message):
        made.prepare_for_flow_run(flow_run())


def warnings_of(caplog) -> list[str]:
    begin = "Cloud Run may reject the job body: "
    records = [record for record in caplog.records if record.getMessage().startswith(begin)]
    assert {record.name for record in records} <= {"prefect.flow_runs.worker"}
    return [record.getMessage().removeprefix(begin) for record in records]


@pytest.mark.difference("early-check")
async def test_an_unknown_field_is_a_warning_with_the_most_similar_name(caplog):
    template = CloudRunWorker.get_default_base_job_template()
    task = template["job_configuration"]["job_body"]["spec"]["template"]["spec"]["template"]["spec"]
    task["timeoutSecond"] = 60
    task["containers"][0]["resource"] = {"limits": {}}
    task["somethingNew"] = {"a": [1]}
    with caplog.at_level(logging.WARNING):
        made = await configuration(template=template)
    assert container(made)["resource"] == {"limits": {}}
    place = "spec.template.spec.template.spec"
    unknown = "unknown field of the Cloud Run Admin API v1"
    assert sorted(warnings_of(caplog)) == [
        f"{place}.containers[0].resource: {unknown}; did you mean 'resources'?",
        f"{place}.somethingNew: {unknown}",
        f"{place}.timeoutSecond: {unknown}; did you mean 'timeoutSeconds'?",
    ]


@pytest.mark.difference("early-check")
async def test_a_wrong_type_is_an_error_with_the_expected_and_the_found_type(caplog):
    template = CloudRunWorker.get_default_base_job_template()
    task = template["job_configuration"]["job_body"]["spec"]["template"]["spec"]["template"]["spec"]
    task["maxRetries"] = "many"
    task["containers"].append({"image": ["very-private"]})
    template["job_configuration"]["job_body"]["metadata"]["labels"] = {"team": 7}
    with pytest.raises(ValueError, match="The job body is invalid: ") as caught:
        await configuration(template=template)
    place = "spec.template.spec.template.spec"
    assert str(caught.value).removeprefix("The job body is invalid: ").split("; ") == [
        "metadata.labels.team: expected a string, found a number",
        f"{place}.containers[1].image: expected a string, found a list",
        f"{place}.maxRetries: expected a 32-bit integer, found a string",
    ]
    assert "very-private" not in str(caught.value)


async def test_the_default_job_has_no_warnings(caplog):
    with caplog.at_level(logging.WARNING):
        await configuration({"cpu": "1000m", "memory": "512Mi", "vpc_connector_name": "c", "timeout": 60})
    assert warnings_of(caplog) == []


@pytest.mark.difference("early-check")
async def test_what_cloud_run_refuses_is_an_error_with_path_value_range_and_source():
    template = CloudRunWorker.get_default_base_job_template()
    body = template["job_configuration"]["job_body"]
    body["metadata"]["labels"] = {f"own{n}": "x" for n in range(70)}
    body["metadata"]["annotations"]["run.googleapis.com/vpc-access-connector"] = "c"
    execution = body["spec"]["template"]["spec"]
    execution["taskCount"] = 10_001
    task = execution["template"]["spec"]
    task |= {"timeoutSeconds": 604_801, "maxRetries": 11}
    task["containers"][0] |= {
        "args": ["a"] * 1001,
        "env": [
            {"name": ""},
            {"name": "A", "value": "very-private"},
            {"name": "A", "valueFrom": {"secretKeyRef": {"key": "latest"}}},
        ],
    }
    with pytest.raises(ValueError, match="The job body is invalid: ") as caught:
        await configuration({"memory": "2GB", "env": {"BIG": "very-private" * 3000}}, template)
    message = str(caught.value)
    place = "spec.template.spec.template.spec"
    first = f"{place}.containers[0]"
    for part in [
        "metadata.labels: 70 entries, but Cloud Run allows at most 64: remove some (see https://cloud.google.com/run/",
        'metadata.annotations["run.googleapis.com/vpc-access-connector"]: Cloud Run takes this annotation on Revision, '
        "Execution: move it to spec.template.metadata.annotations (see ",
        "spec.template.spec.taskCount: 10001 is outside the range that Cloud Run allows, 1 to 10000: ",
        f"{place}.timeoutSeconds: 604801 is outside the range that Cloud Run allows, 1 to 604800: ",
        f"{place}.maxRetries: 11 is outside the range that Cloud Run allows, 0 to 10 (see ",
        f"{first}.args: 1001 entries, but Cloud Run allows at most 1000: ",
        f"{first}.env[0].name: missing or empty, but required ",
        f"{first}.env[2].name: 'A' stands in [1] too, once with a secret: ",
        f"{first}.env[2].valueFrom.secretKeyRef.name: missing or empty, but required: ",
        "].value: 36000 bytes, but Cloud Run allows at most 32768: ",
        f"{first}.resources.limits.memory: '2GB' is not an amount of memory; write 2Gi (powers of 1024) or 2G ",
    ]:
        assert part in message, part
    assert "very-private" not in message


@pytest.mark.difference("early-check")
async def test_what_depends_on_hardware_or_is_ignored_is_a_warning(caplog):
    template = CloudRunWorker.get_default_base_job_template()
    first = template["job_configuration"]["job_body"]["spec"]["template"]["spec"]["template"]["spec"]["containers"][0]
    first["env"] = [{"name": "A", "value": "x"}, {"name": "A", "value": "y"}]
    with caplog.at_level(logging.WARNING):
        await configuration({"cpu": "1000m", "memory": "8Gi"}, template)
    place = "spec.template.spec.template.spec.containers[0]"
    size, doubled = warnings_of(caplog)
    begin = "8Gi is outside the range that Cloud Run allows with a CPU limit of 1000m, 512Mi to 4Gi"
    assert size.startswith(
        f"{place}.resources.limits.memory: {begin}: change the memory or the CPU limit (see https://"
    )
    assert doubled.startswith(f"{place}.env[1].name: 'A' stands in [0] too: the container gets only the last")


def circle():
    inside = []
    inside.append(inside)
    return inside


@pytest.mark.difference("early-check")
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"x", "is of type 'bytes', which JSON cannot represent"),
        (float("nan"), "is NaN, which JSON cannot represent"),
        (float("-inf"), "is -inf, which JSON cannot represent"),
        (
            datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
            "is of type 'datetime', which JSON cannot represent",
        ),
        (2**64, "is an integer that does not fit in 64 bits"),
        ("\ud800", "is a string that cannot be encoded as UTF-8"),
        ({1: "x"}, "has the key 1, but keys in JSON must be strings in UTF-8"),
        (circle(), "is nested deeper than 100 levels or contains itself"),
    ],
)
async def test_a_value_that_json_cannot_represent_is_an_error_with_its_path(value, message):
    made = await configuration(prepare=False)
    made.job_body["metadata"]["annotations"]["example.com/x"] = {"list": [0, value]}
    place = r"The job body at metadata\.annotations\[\"example\.com/x\"\]\.list\[1\]"
    with pytest.raises(ValueError, match=rf"^{place}.* {message}$"):
        made.prepare_for_flow_run(flow_run())


async def test_an_env_entry_that_is_not_a_mapping_is_an_error_with_its_path():
    made = await configuration(prepare=False)
    container(made)["env"] = ["A=b", {"name": "OWN", "value": 1}, circle()]
    with pytest.raises(ValueError, match=r"containers\[0\]\.env\[2\]\[0\].* contains itself"):
        made.prepare_for_flow_run(flow_run())
    del container(made)["env"][2]
    with pytest.raises(ValueError, match=r"env\[0\]: expected a mapping \(EnvVar\), found a string; .*env\[1\]\.value"):
        made.prepare_for_flow_run(flow_run())


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"env": {"A": "very-private\ud800"}}, "env: the value of A is"),
        ({"env": {"A\ud800": "x"}}, "env: the name A\ufffd+ is"),
        ({"labels": {"a": "x\udc00"}}, "labels: the value of a is"),
    ],
)
def test_text_that_is_no_unicode_is_an_error_that_names_it(values, problem):
    made = CloudRunWorkerJobConfiguration(job_body=cloud_run._get_base_job_body(), **values)
    with pytest.raises(ValueError, match=f"{problem} a string that cannot be encoded as UTF-8") as caught:
        made.prepare_for_flow_run(flow_run())
    assert "very-private" not in str(caught.value)


WORDS = st.text(alphabet="aZ0_-./ é²\u0130", max_size=80)
# A few labels, or more than a resource may have.
LABELS = st.one_of(
    st.dictionaries(WORDS, WORDS, max_size=4),
    st.builds(lambda count, word: {f"{word}{n}": word for n in range(count)}, st.integers(55, 80), WORDS),
)
# What an environment can hold.
VARIABLES = st.text(st.characters(exclude_characters="=\0", exclude_categories=("Cs",)), max_size=5)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    name=st.one_of(st.none(), WORDS, st.text()),
    run_name=st.one_of(WORDS, st.text()),
    prefects=LABELS,
    own=LABELS,
    env=st.dictionaries(VARIABLES.filter(bool), st.one_of(st.none(), VARIABLES), max_size=5),
    command=st.one_of(st.none(), st.text(alphabet="ab -\t", max_size=9), st.lists(st.text(max_size=3), max_size=3)),
)
@pytest.mark.slow
def test_any_names_labels_and_variables_give_a_valid_body(name, run_name, prefects, own, env, command):
    body = cloud_run._get_base_job_body()
    body["metadata"] |= {"name": name, "labels": dict(own)}
    body["spec"]["template"]["spec"]["template"]["spec"]["containers"] = [{"command": command, "env": [{"name": "A"}]}]
    try:
        made = CloudRunWorkerJobConfiguration(job_body=body, labels=prefects, env=env, name=run_name)
    except ValidationError:
        assume(False)
    run = flow_run(name="x")
    if len(own) > 64:
        with pytest.raises(ValueError, match=r"metadata\.labels: \d+ entries, but Cloud Run allows at most 64"):
            made.prepare_for_flow_run(run)
        return
    made.prepare_for_flow_run(run)
    once = copy.deepcopy(made.job_body)

    assert _core.is_job_name(made.job_name)
    if name is not None and _core.is_job_name(name):
        assert made.job_name == name
    template = made.job_body["spec"]["template"]
    for labels, owned in [(made.job_body["metadata"]["labels"], own), (template["metadata"]["labels"], {})]:
        assert labels.items() >= owned.items()
        injected = [item for item in labels.items() if item[0] not in owned]
        assert min(64, len(owned) + 1) <= len(labels) <= 64
        for key, value in injected:
            assert re.fullmatch("[a-z][a-z0-9_-]{0,62}", key, re.ASCII)
            assert re.fullmatch("[a-z0-9_-]{0,63}", value, re.ASCII)
    names = [entry["name"] for entry in container(made)["env"]]
    assert len(names) == len(set(names))
    assert {name for name, value in env.items() if value is not None} <= {*names}
    assert "A" in names
    assert all(isinstance(word, str) for word in container(made)["command"])

    for step in STEPS:
        getattr(made, step)()
        assert made.job_body == once
    made.prepare_for_flow_run(run)
    assert made.job_body == once


async def test_subclasses_can_override_the_steps_which_run_in_order():
    called = []

    def recorded(name):
        return lambda self, *args: called.append((name, len(args)))

    steps = [*STEPS[:2], "_warn_about_plaintext_credentials", *STEPS[2:]]
    subclass = type("Subclass", (CloudRunWorkerJobConfiguration,), {name: recorded(name) for name in steps})
    made = subclass(job_body=cloud_run._get_base_job_body())
    made.prepare_for_flow_run(flow_run())
    assert called == [(name, 3 if "warn" in name else 0) for name in steps]
