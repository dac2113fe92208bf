"""Google's own client works with the emulator, and each response conforms to the API's discovery document."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import google_auth_httplib2
import httplib2
import jsonschema
import pytest
from google.auth.credentials import AnonymousCredentials
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from googleapiclient.http import HttpRequest

from prefect_gcp.emulator import Emulator
from tests.python.run_schema import validate, validate_answer, validate_call

PARENT = "namespaces/demo"


class Checked(HttpRequest):
    """A request whose successful response is checked against the discovery document."""

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Send the request, and check the response."""
        method, path = self.method, urlsplit(self.uri).path
        answer = super().execute(*args, **kwargs)
        validate_answer(method, path, answer)
        return answer


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(ready_after=0.05, start_after=0.02, delete_after=0.05, record_calls=True) as running:
        yield running


@pytest.fixture
def run(emulator: Emulator) -> Iterator[Any]:
    http = google_auth_httplib2.AuthorizedHttp(AnonymousCredentials(), http=httplib2.Http(proxy_info=None))
    with build(
        "run",
        "v1",
        http=http,
        static_discovery=True,
        client_options={"api_endpoint": emulator.url},
        requestBuilder=Checked,
    ) as service:
        yield service.namespaces()


def job(name: str, *command: str) -> dict[str, Any]:
    container = {"image": "busybox", "command": list(command), "env": [{"name": "A", "value": "b"}]}
    return {
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "demo", "labels": {"team": "data"}},
        "spec": {"template": {"spec": {"template": {"spec": {"containers": [container], "maxRetries": 1}}}}},
    }


def wait(read: Callable[[], Any], done: Callable[[Any], bool]) -> Any:
    end = time.monotonic() + 20
    while not done(resource := read()):
        assert time.monotonic() < end, resource
        time.sleep(0.02)
    return resource


def condition(resource: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(item for item in resource["status"]["conditions"] if item["type"] == kind)


def decided(kind: str) -> Callable[[Any], bool]:
    return lambda resource: condition(resource, kind)["status"] != "Unknown"


def create(run: Any, name: str, *command: str) -> dict[str, Any]:
    run.jobs().create(parent=PARENT, body=job(name, *command)).execute()
    return wait(run.jobs().get(name=f"{PARENT}/jobs/{name}").execute, decided("Ready"))


def start(run: Any, name: str) -> str:
    execution = run.jobs().run(name=f"{PARENT}/jobs/{name}", body={}).execute()
    return f"{PARENT}/executions/{execution['metadata']['name']}"


def status_of(request: Any) -> int:
    with pytest.raises(HttpError) as caught:
        request.execute()
    return caught.value.resp.status


def test_a_job_is_created_run_watched_and_deleted(run: Any, emulator: Emulator) -> None:
    assert condition(create(run, "daily", "true"), "Ready")["status"] == "True"
    execution = wait(run.executions().get(name=start(run, "daily")).execute, decided("Completed"))
    assert condition(execution, "Completed")["status"] == "True"
    assert execution["status"]["succeededCount"] == 1
    path = f"{PARENT}/jobs/daily"
    latest = run.jobs().get(name=path).execute()["status"]["latestCreatedExecution"]
    assert latest["completionStatus"] == "EXECUTION_SUCCEEDED"
    run.jobs().replaceJob(name=path, body=job("daily", "false")).execute()
    assert run.jobs().delete(name=path).execute()["status"] == "Success"
    wait(emulator.jobs, lambda jobs: not jobs)
    assert status_of(run.jobs().get(name=path)) == 404
    assert emulator.history()[0]["events"][-1]["type"] == "deleted"


def test_responses_after_a_failure_and_a_retry_are_valid(run: Any) -> None:
    create(run, "failing", "sh", "-c", "exit 4")
    execution = wait(run.executions().get(name=start(run, "failing")).execute, decided("Completed"))
    completed = condition(execution, "Completed")
    assert (completed["status"], completed["reason"]) == ("False", "NonZeroExitCode")
    assert (execution["status"]["failedCount"], execution["status"]["retriedCount"]) == (1, 1)


def test_overrides_are_applied(run: Any) -> None:
    create(run, "daily", "true")
    overrides = {"taskCount": 2, "timeoutSeconds": 5, "containerOverrides": [{"env": [{"name": "A", "value": "c"}]}]}
    execution = run.jobs().run(name=f"{PARENT}/jobs/daily", body={"overrides": overrides}).execute()
    assert execution["spec"]["taskCount"] == 2
    assert execution["spec"]["template"]["spec"]["timeoutSeconds"] == "5"


def test_a_running_execution_is_cancelled_once(run: Any) -> None:
    create(run, "slow", "sleep", "300")
    path = start(run, "slow")
    wait(run.executions().get(name=path).execute, lambda execution: "runningCount" in execution["status"])
    run.executions().cancel(name=path, body={}).execute()
    execution = wait(run.executions().get(name=path).execute, decided("Completed"))
    assert condition(execution, "Completed")["reason"] == "Cancelled"
    assert execution["status"]["cancelledCount"] == 1
    assert status_of(run.executions().cancel(name=path, body={})) == 400
    assert run.executions().delete(name=path).execute()["status"] == "Success"


def test_one_list_has_the_executions_of_many_jobs_in_pages(run: Any) -> None:
    for name in ("a", "b", "c"):
        create(run, name, "true")
        start(run, name)
    executions = run.executions()
    selector = "run.googleapis.com/job in (a,c)"
    request, found = executions.list(parent=PARENT, labelSelector=selector, limit=1), []
    while request is not None:
        page = request.execute()
        assert len(page["items"]) == 1
        found += [item["metadata"]["labels"]["run.googleapis.com/job"] for item in page["items"]]
        token = page["metadata"].get("continue")
        options = {"parent": PARENT, "labelSelector": selector, "limit": 1, "continue": token}
        request = executions.list(**options) if token else None
    assert found == ["c", "a"]
    assert [item["metadata"]["name"] for item in run.jobs().list(parent=PARENT).execute()["items"]] == ["c", "b", "a"]


def test_a_partial_response_has_only_the_selected_fields(run: Any) -> None:
    create(run, "daily", "true")
    start(run, "daily")
    page = run.executions().list(parent=PARENT, fields="items(metadata/name,status/conditions)").execute()
    assert page["items"][0]["metadata"].keys() == {"name"}
    assert page.keys() == {"items"}


@pytest.mark.parametrize(
    ("script", "key", "value"), [("exit 4", "exitCode", 4), ("kill -9 $$", "termSignal", 9), ("true", "status", {})]
)
def test_tasks_show_exit_codes_and_signals(run: Any, script: str, key: str, value: object) -> None:
    create(run, "failing", "sh", "-c", script)
    name = start(run, "failing")
    wait(run.executions().get(name=name).execute, decided("Completed"))
    selector = f"run.googleapis.com/execution={name.rpartition('/')[2]}"
    (task,) = run.tasks().list(parent=PARENT, labelSelector=selector).execute()["items"]
    assert task["status"]["lastAttemptResult"][key] == value
    assert task["status"]["index"] == 0
    assert condition(task, "Completed")["status"] == ("True" if script == "true" else "False")
    task_name = f"{PARENT}/tasks/{task['metadata']['name']}"
    assert run.tasks().get(name=task_name).execute() == task
    # A part of the answer, as the worker asks for it.
    part = run.tasks().list(parent=PARENT, labelSelector=selector, fields="items(status(lastAttemptResult))").execute()
    assert part == {"items": [{"status": {"lastAttemptResult": task["status"]["lastAttemptResult"]}}]}
    assert status_of(run.tasks().get(name=f"{PARENT}/tasks/nope")) == 404


def test_a_list_with_a_query_above_2048_characters_works(run: Any, emulator: Emulator) -> None:
    create(run, "daily", "true")
    start(run, "daily")
    names = ",".join(["daily", *(f"another-job-with-a-long-name-{index}" for index in range(100))])
    selector = f"run.googleapis.com/job in ({names})"
    assert len(run.executions().list(parent=PARENT, labelSelector=selector).execute()["items"]) == 1
    call = emulator.calls()[-1]
    assert call["method"] == "GET"
    assert ("labelSelector", selector) in [tuple(pair) for pair in call["query"]]


def test_the_client_understands_refusals(run: Any) -> None:
    create(run, "daily", "true")
    assert status_of(run.jobs().create(parent=PARENT, body=job("daily", "true"))) == 409
    assert status_of(run.jobs().create(parent=PARENT, body=job("Daily", "true"))) == 400
    assert status_of(run.jobs().run(name=f"{PARENT}/jobs/nope", body={})) == 404
    with pytest.raises(HttpError, match=r"Resource 'nope' of kind 'JOB' in region 'us-central1' in project 'demo'"):
        run.jobs().get(name=f"{PARENT}/jobs/nope").execute()


def test_the_validator_refuses_values_that_the_document_does_not_allow(run: Any) -> None:
    create(run, "daily", "true")
    sound = run.jobs().get(name=f"{PARENT}/jobs/daily").execute()
    task = ("spec", "template", "spec", "template", "spec")
    for path, value in [
        (("colour",), "red"),
        (("spec", "template", "spec", "tasks"), 1),
        ((*task, "timeoutSeconds"), 600),
        ((*task, "maxRetries"), "3"),
        ((*task, "containers"), {}),
        (("metadata", "labels", "team"), 1),
        (("metadata", "creationTimestamp"), "yesterday"),
        (("metadata", "generation"), None),
        (("status", "latestCreatedExecution"), {"completionStatus": "EXECUTION_LOST"}),
    ]:
        broken = copy.deepcopy(sound)
        inner = broken
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        with pytest.raises(jsonschema.ValidationError):
            validate("Job", broken)


def test_the_validator_knows_the_methods_of_the_api() -> None:
    base = f"/apis/run.googleapis.com/v1/{PARENT}"
    selector = [("labelSelector", "a=b"), ("limit", "5"), ("fields", "items")]
    assert validate_call("GET", f"{base}/executions", selector, None) == "run.namespaces.executions.list"
    assert validate_call("POST", f"{base}/jobs", {}, job("daily", "true")) == "run.namespaces.jobs.create"
    assert validate_call("POST", f"{base}/jobs/daily:run", {}, {}) == "run.namespaces.jobs.run"
    assert validate_call("DELETE", f"{base}/jobs/daily", {}, None) == "run.namespaces.jobs.delete"
    with pytest.raises(AssertionError, match="no query parameter colour"):
        validate_call("GET", f"{base}/jobs", {"colour": "red"}, None)
    with pytest.raises(AssertionError, match="takes no body"):
        validate_call("GET", f"{base}/jobs", {}, {})
    with pytest.raises(AssertionError, match="the API has no PATCH"):
        validate_call("PATCH", f"{base}/jobs/daily", {}, {})
    with pytest.raises(jsonschema.ValidationError):
        validate_call("POST", f"{base}/jobs", {}, {"metadata": {"nme": "daily"}})
