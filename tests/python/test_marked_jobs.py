"""The mark of a worker's jobs, and what the core does about jobs that other workers left."""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import time
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import google_auth_httplib2
import httplib2
import pytest
from google.auth.credentials import AnonymousCredentials
from googleapiclient.discovery import build
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.flows import flow

from prefect_gcp.emulator import Emulator
from prefect_gcp.exceptions import CloudRunPermissionError, CloudRunUnavailableError
from prefect_gcp.settings import CloudRunWorkerSettings
from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration
from prefect_gcp_cloud_run import _core
from tests.python.run_schema import validate_call

pytestmark = pytest.mark.anyio

POOL, ANOTHER_POOL = str(uuid4()), str(uuid4())
LABELS = ("prefect-gcp-cloud-run", "prefect-gcp-cloud-run-pool", "prefect-gcp-cloud-run-flow-run")
ANNOTATIONS = ("process", "worker", "keep", "give-up-at")


@flow
def a_flow():
    """A flow run needs one."""


@pytest.fixture
def emulator(monkeypatch):
    with Emulator(
        ready_after=0.01,
        start_after=0.01,
        delete_after=0.01,
        projects=["my-project"],
        record_calls=True,
    ) as running:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", running.host)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
        monkeypatch.setenv("PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_RETRY_MAX_SECONDS", "1")
        yield running


@pytest.fixture
def client(emulator) -> _core.Client:
    return client_in("us-central1")


def client_in(region: str) -> _core.Client:
    return _core.Client(
        project="my-project", region=region, credentials=_core.Credentials(), settings=CloudRunWorkerSettings()
    )


def body(name: str, command: str = "true") -> dict[str, Any]:
    container = {"image": "i", "command": ["sh", "-c", command]}
    return {
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"prefect-io-flow-run-id": str(UUID(int=1))}, "annotations": {"a": "b"}},
        "spec": {"template": {"spec": {"template": {"spec": {"maxRetries": 0, "containers": [container]}}}}},
    }


def a_mark(pool: str = POOL) -> _core.JobMark:
    return _core.JobMark(pool_id=pool, flow_run_id=str(uuid4()), worker="Wörker 1")


async def left(
    client: _core.Client, name: str, command: str | None = None, *, keep: bool = False, pool: str = POOL
) -> _core.MarkedJob:
    """A job that a run has left: without an execution if there is no command."""
    with client.run_job(
        body(name, command or "true"),
        job=name,
        keep_job=keep,
        ready_timeout_seconds=60,
        log=lambda *_: None,
        mark=a_mark(pool),
    ) as run:
        async for event in run:
            if event.kind == "confirm_start":
                if command is None:
                    break
                run.confirm_start()
            if event.kind == "started":
                break
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        (job,) = (job for job in await client.list_marked_jobs(pool) if job.name == name)
        # The run's task ends a moment after the run is closed.
        if job.status == ("none" if command is None else "active") and not client.is_running(job):
            return job
        await asyncio.sleep(0.02)
    raise AssertionError(job)


async def gone(emulator: Emulator, name: str) -> None:
    """Waits until there is no job of this name."""
    deadline = time.monotonic() + 20
    while any(job["metadata"]["name"] == name for job in emulator.jobs()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def google(emulator: Emulator) -> Any:
    http = google_auth_httplib2.AuthorizedHttp(AnonymousCredentials(), http=httplib2.Http(proxy_info=None))
    options = {"api_endpoint": emulator.url}
    return build("run", "v1", http=http, static_discovery=True, client_options=options).namespaces().jobs()


@pytest.mark.difference("mark")
async def test_a_workers_job_carries_its_mark_and_so_does_its_execution(emulator, client, prefect_server):
    async with get_client() as prefect:
        flow_run = await prefect.create_flow_run(a_flow)
    values = {"command": "true", "keep_job": True, "timeout": 600}
    configuration = await CloudRunWorkerJobConfiguration.from_template_and_values(
        CloudRunWorker.get_default_base_job_template(), values, client=SimpleNamespace()
    )
    configuration.prepare_for_flow_run(flow_run)
    before = copy.deepcopy(configuration.job_body)
    async with CloudRunWorker(work_pool_name="marked-jobs", name="Wörker 1") as worker:
        await worker.sync_with_backend()
        pool = str(worker._work_pool.id)
        began = time.time()
        assert (await worker.run(flow_run, configuration)).status_code == 0
    assert configuration.job_body == before
    (job,) = await client.list_marked_jobs(pool)
    assert (job.pool_id, job.flow_run_id, job.worker, job.keep) == (pool, str(flow_run.id), "Wörker 1", True)
    assert (job.project, job.region, job.name) == ("my-project", "us-central1", configuration.job_name)
    assert (job.process, job.is_of_this_process) == (_core.process_id(), True)
    assert (job.status, job.is_live, job.is_being_deleted) == ("succeeded", False, False)
    assert began - 2 < job.created_at <= job.completed_at < time.time() + 2
    # The longest waits for readiness and for a quota, and some time for calls that are repeated.
    assert 600 + 21600 < job.give_up_at - began < 600 + 21600 + 600
    (execution,) = emulator.executions()
    assert job.execution == execution["metadata"]["name"]
    (raw,) = emulator.jobs()
    assert {key for key in raw["metadata"]["labels"] if key in LABELS} == set(LABELS)
    assert {key: raw["metadata"]["labels"][key] for key in LABELS}.items() <= execution["metadata"]["labels"].items()
    (created,) = (call for call in emulator.calls() if call["path"].endswith("/jobs") and call["method"] == "POST")
    validate_call("POST", "/apis/run.googleapis.com/v1/namespaces/my-project/jobs", {}, created["body"])


async def test_a_worker_whose_pool_is_unknown_marks_nothing(emulator, prefect_server):
    flow_run = FlowRun(id=uuid4(), name="a-run", flow_id=uuid4())
    configuration = await CloudRunWorkerJobConfiguration.from_template_and_values(
        CloudRunWorker.get_default_base_job_template(), {"command": "true"}, client=SimpleNamespace()
    )
    configuration.prepare_for_flow_run(flow_run)
    worker = CloudRunWorker(work_pool_name="never-synced")
    assert (await worker.run(flow_run, configuration)).status_code == 0
    (created,) = (call for call in emulator.calls() if call["path"].endswith("/jobs") and call["method"] == "POST")
    assert created["body"]["metadata"] == configuration.job_body["metadata"]
    inherited = configuration.job_body["spec"]["template"]["metadata"]
    assert created["body"]["spec"]["template"]["metadata"] == inherited


async def test_googles_client_takes_and_returns_a_mark(emulator, client):
    job = await left(client, "ours")
    raw = google(emulator).get(name="namespaces/my-project/jobs/ours").execute()
    assert raw["metadata"]["annotations"]["prefect-gcp-cloud-run/worker"] == "Wörker 1"
    assert raw["metadata"]["annotations"]["a"] == "b"
    selector = f"prefect-gcp-cloud-run=1,prefect-gcp-cloud-run-pool={job.pool_id}"
    listed = google(emulator).list(parent="namespaces/my-project", labelSelector=selector).execute()
    assert [item["metadata"]["uid"] for item in listed["items"]] == [job.uid]
    raw["metadata"] = {key: raw["metadata"][key] for key in ("labels", "annotations")} | {"name": "copy"}
    raw["metadata"]["labels"] = {key: raw["metadata"]["labels"][key] for key in LABELS}
    raw.pop("status")
    assert google(emulator).create(parent="namespaces/my-project", body=raw).execute()["metadata"]["name"] == "copy"


async def test_a_body_without_room_runs_without_a_mark(emulator, client):
    full = body("full")
    full["metadata"]["labels"] = {f"k{number}": "v" for number in range(62)}
    lines: list[tuple[int, str]] = []
    with client.run_job(
        full,
        job="full",
        keep_job=True,
        ready_timeout_seconds=60,
        log=lambda *line: lines.append(line),
        mark=a_mark(),
    ) as run:
        async for event in run:
            if event.kind == "confirm_start":
                run.confirm_start()
    assert run.status_code == 0
    ((level, line),) = lines
    assert level == logging.WARNING
    assert line.startswith("Cloud Run Job 'full' has no room for the worker's mark")
    assert await client.list_marked_jobs(POOL) == []


async def test_look_alikes_are_never_listed_or_deleted(emulator, client):
    job = await left(client, "ours")
    await left(client, "anothers", pool=ANOTHER_POOL)
    raw = google(emulator).get(name="namespaces/my-project/jobs/ours").execute()
    whole = {key: raw["metadata"]["labels"][key] for key in LABELS}
    notes = raw["metadata"]["annotations"]
    halves = [({key: whole[key] for key in LABELS if key != label}, notes) for label in LABELS]
    halves += [(whole, notes | {f"prefect-gcp-cloud-run/{name}": "x"}) for name in ANNOTATIONS if name != "worker"]
    halves += [(whole, {k: v for k, v in notes.items() if not k.endswith(name)}) for name in ANNOTATIONS]
    halves.append((whole | {LABELS[0]: "2"}, notes))
    upstream = {"prefect-io-flow-run-id": job.flow_run_id, "prefect-io-work-pool-id": POOL}
    halves += [(upstream, {}), ({}, {}), ({}, notes)]
    for number, (labels, texts) in enumerate(halves):
        like = body(f"ours-{number}")
        like["metadata"].update(labels=labels, annotations=texts)
        google(emulator).create(parent="namespaces/my-project", body=like).execute()
    lines: list[tuple[int, str]] = []
    listed = await client.list_marked_jobs(POOL, log=lambda *line: lines.append(line))
    assert [found.name for found in listed] == ["ours"]
    # Those that the list shows are told about.
    assert {level for level, _ in lines} == {logging.DEBUG}
    assert all("carries a part of a worker's mark and is left alone" in line for _, line in lines)
    assert len(lines) == len(ANNOTATIONS) * 2
    # The job's name changes hands: to somebody else's job, and to one of the same flow run.
    assert await client.delete_marked_job(job) == "deleted"
    await gone(emulator, "ours")
    for labels, texts in (({}, {}), (whole, notes)):
        like = body("ours")
        like["metadata"].update(labels=labels, annotations=texts)
        google(emulator).create(parent="namespaces/my-project", body=like).execute()
        assert await client.read_marked_job(job) is None
        assert await client.delete_marked_job(job) == "gone"
        assert await client.stop_marked_job(job)
        assert any(found["metadata"]["name"] == "ours" for found in emulator.jobs())
        google(emulator).delete(name="namespaces/my-project/jobs/ours").execute()
        await gone(emulator, "ours")
    assert len(emulator.jobs()) == len(halves) + 1


async def test_a_list_that_is_incomplete_is_an_error(emulator, client):
    await left(client, "ours")
    emulator.set_faults({"rules": [{"fault": "incompleteList", "calls": ["jobs.list"]}]})
    with pytest.raises(CloudRunUnavailableError, match="Google could not reach a location"):
        await client.list_marked_jobs(POOL)
    emulator.set_faults({"rules": [{"fault": {"status": {"code": 403}}, "calls": ["jobs.list"]}]})
    with pytest.raises(CloudRunPermissionError):
        await client.list_marked_jobs(POOL)
    with pytest.raises(ValueError, match="is not a UUID"):
        await client.list_marked_jobs("prefect-gcp-cloud-run")


async def test_a_list_asks_for_no_environment_of_a_job(emulator, client):
    await left(client, "ours")
    call = next(call for call in emulator.calls() if call["path"].endswith("/jobs") and call["method"] == "GET")
    fields = dict(call["query"])["fields"]
    assert fields.startswith("kind,unreachable,metadata/continue,items(metadata(name,uid,labels,annotations,")
    assert "spec" not in fields


async def test_an_adopted_execution_is_watched_to_its_end(emulator, client):
    job = await left(client, "ours", "sleep 1; exit 3")
    watch = asyncio.ensure_future(client.watch_marked_job(job))
    await asyncio.sleep(0.1)
    assert await client.delete_marked_job(job) == "changed"
    await watch
    ended = await client.read_marked_job(job)
    assert ended is not None
    assert (ended.status, ended.execution) == ("failed", job.execution)
    assert await client.delete_marked_job(ended) == "deleted"
    await gone(emulator, "ours")
    assert await client.read_marked_job(ended) is None


async def test_a_kept_job_is_stopped_and_stays(emulator, client):
    kept, other = await left(client, "kept", "sleep 60", keep=True), await left(client, "other", "sleep 60")
    assert await client.stop_marked_job(kept)
    assert await client.stop_marked_job(other)
    ended = await client.read_marked_job(kept)
    while ended is not None and ended.status == "active":
        await asyncio.sleep(0.02)
        ended = await client.read_marked_job(kept)
    assert ended is not None
    assert ended.status == "cancelled"
    assert await client.delete_marked_job(ended) == "changed"
    assert "kept" in [job["metadata"]["name"] for job in emulator.jobs()]


async def test_a_job_is_for_clients_of_its_place(emulator, client):
    job = await left(client, "ours")
    elsewhere = client_in("europe-west1")
    for call in (
        elsewhere.read_marked_job,
        elsewhere.watch_marked_job,
        elsewhere.delete_marked_job,
        elsewhere.stop_marked_job,
    ):
        with pytest.raises(ValueError, match="is not in project 'my-project' and region 'europe-west1'"):
            call(job)


async def test_decisions_about_a_job_of_this_process(emulator, client):
    job = await left(client, "ours")
    pending = _core.FlowRunFacts(state_type="PENDING", state_timestamp=job.created_at, infrastructure_pid="ours")

    def decided(flow_run: _core.FlowRunFacts | None, **circumstances: Any) -> str:
        values = {"now": time.time() + 300} | circumstances
        decision = _core.decide(job, flow_run, _core.Circumstances(**values))
        assert decision.reason
        return decision.kind

    # Its run was dropped, so nobody starts it.
    assert decided(pending) == "give_back"
    assert decided(pending, is_watched=True) == "nothing"
    assert decided(pending, tries_left=False) == "delete_then_crash"
    assert decided(pending, now=time.time()) == "nothing"
    assert decided(None, times_not_found=1) == "nothing"
    assert decided(None, times_not_found=2) == "delete"
    odd = _core.FlowRunFacts(state_type="DREAMING", state_timestamp=0, infrastructure_pid=None)
    assert decided(odd) == "nothing"
    for odd_time in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="is not a finite number"):
            _core.Circumstances(now=odd_time)
        with pytest.raises(ValueError, match="is not a finite number"):
            _core.FlowRunFacts(state_type="PENDING", state_timestamp=odd_time, infrastructure_pid=None)
    with pytest.raises(ValueError, match="is negative"):
        _core.Circumstances(now=0, settle=-1)


def test_a_fork_has_another_process_id():
    own = UUID(_core.process_id())
    assert _core.process_id() == str(own)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, _core.process_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert UUID(os.read(read, 100).decode()) != own
    os.close(read)
    os.close(write)


def test_a_mark_is_for_ids():
    for ids in ({"pool_id": "p", "flow_run_id": POOL}, {"pool_id": POOL, "flow_run_id": POOL.upper() + "x"}):
        with pytest.raises(ValueError, match="is not a UUID"):
            _core.JobMark(**ids, worker="w")
