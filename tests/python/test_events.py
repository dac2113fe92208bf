"""Events about executions in a real Prefect server, what fires on them, and what they say."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.flows import flow

from prefect_gcp.emulator import Emulator
from prefect_gcp.exceptions import CloudRunJobNotReadyError
from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration
from prefect_gcp_cloud_run.workers import _events
from prefect_gcp_cloud_run.workers._events import (
    RunEvents,
    emit_execution_event,
    emit_job_not_ready,
    event_id_of,
    related_of_flow_run,
)
from prefect_gcp_cloud_run.workers._places import JobPlace
from tests.python.eventually import until

pytestmark = pytest.mark.anyio

PLACE = JobPlace("p", "us-central1", "a-job")
SWITCH = "PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_OBSERVER_REPLICATE_EVENTS"


@flow
def a_flow():
    """A flow run needs one."""


@pytest.fixture
def emulator(monkeypatch):
    monkeypatch.setenv(SWITCH, "true")
    with Emulator(ready_after=0.1, start_after=0.05, delete_after=0.05, executor="simulated", duration=0.5) as running:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", running.host)
        yield running


@pytest.fixture
def emitted(monkeypatch):
    """What is handed to Prefect, without a server."""
    calls = []

    def record(event, **facts):
        calls.append({"event": event, **facts})
        return SimpleNamespace(id=facts["id"], occurred=facts["occurred"])

    monkeypatch.setattr(_events, "emit_event", record)
    monkeypatch.setattr(_events, "_remembered", _events._Remembered())
    return calls


async def prepared(worker, flow_run: FlowRun, outcome="success", **values) -> CloudRunWorkerJobConfiguration:
    template = CloudRunWorker.get_default_base_job_template()
    annotations = {"cloud-run-emulator/outcome": outcome}
    task = template["job_configuration"]["job_body"]["spec"]["template"]
    task.setdefault("metadata", {}).setdefault("annotations", {}).update(annotations)
    task["spec"]["template"]["spec"]["maxRetries"] = 0
    values = {"command": "true", "credentials": {"project": "p"}, **values}
    configuration = await CloudRunWorkerJobConfiguration.from_template_and_values(
        template, values, client=SimpleNamespace()
    )
    async with get_client() as client:
        the_flow = await client.read_flow(flow_run.flow_id)
    configuration.prepare_for_flow_run(flow_run, flow=the_flow, work_pool=worker.work_pool, worker_name=worker.name)
    return configuration


async def events_of(resource: str, count: int) -> list[dict]:
    """The events about something, oldest first, once there are so many."""
    wanted = {"filter": {"resource": {"id": [resource]}, "order": "ASC"}, "limit": 50}
    deadline = time.monotonic() + 60
    while True:
        async with get_client() as client:
            answer = await client.request("POST", "/events/filter", json=wanted)
        events = answer.json()["events"]
        if len(events) >= count or time.monotonic() > deadline:
            assert len(events) == count, events
            return events
        await asyncio.sleep(0.2)


@pytest.mark.difference("events")
@pytest.mark.usefixtures("prefect_server")
async def test_an_automation_fires_on_an_execution_that_failed(emulator):
    name = f"events-{uuid4().hex[:8]}"
    trigger = EventTrigger(
        expect={"prefect.cloud-run.execution.failed"},
        match={"prefect.resource.id": "prefect.cloud-run.execution.*", "cloud-run.project": "p"},
        match_related={"prefect.resource.role": "work-pool", "prefect.resource.name": name},
        posture=Posture.Reactive,
        threshold=1,
    )
    # The action finds the flow run among the event's related resources.
    action = ChangeFlowRunState(state=StateType.FAILED, name="Seen")
    async with CloudRunWorker(work_pool_name=name) as worker, get_client() as client:
        await client.create_automation(AutomationCore(name=name, trigger=trigger, actions=[action]))
        flow_run = await client.create_flow_run(a_flow, tags=["a-tag"])
        configuration = await prepared(worker, flow_run, "failure", keep_job=True)
        assert (await worker.run(flow_run, configuration)).status_code == 1
        deadline = time.monotonic() + 60
        while (await client.read_flow_run(flow_run.id)).state.name != "Seen":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        (execution,) = emulator.executions()
        uid = execution["metadata"]["uid"]
        started, failed = await events_of(f"prefect.cloud-run.execution.{uid}", 2)
        pool = worker.work_pool

    assert started["event"] == "prefect.cloud-run.execution.started"
    assert failed["event"] == "prefect.cloud-run.execution.failed"
    assert failed["follows"] == started["id"]
    # Google says when.
    times = execution["status"]
    for event, happened in (started, times["startTime"]), (failed, times["completionTime"]):
        assert event["occurred"][:19] == happened[:19]
    assert failed["id"] == str(event_id_of(uid, "failed"))
    assert failed["resource"] == {
        "prefect.resource.id": f"prefect.cloud-run.execution.{uid}",
        "prefect.resource.name": execution["metadata"]["name"],
        "cloud-run.job": configuration.job_name,
        "cloud-run.region": configuration.region,
        "cloud-run.project": "p",
        "cloud-run.diagnosis": "ExitCode",
    }
    related = {resource["prefect.resource.role"]: resource["prefect.resource.id"] for resource in failed["related"]}
    assert related == {
        "flow-run": f"prefect.flow-run.{flow_run.id}",
        "flow": f"prefect.flow.{flow_run.flow_id}",
        "work-pool": f"prefect.work-pool.{pool.id}",
        "worker": f"prefect.worker.cloud-run.{worker.get_name_slug()}",
        "tag": "prefect.tag.a-tag",
    }


@pytest.mark.usefixtures("prefect_server")
async def test_a_job_that_cannot_become_ready_is_an_event(emulator):
    async with CloudRunWorker(work_pool_name=f"events-{uuid4().hex[:8]}") as worker, get_client() as client:
        flow_run = await client.create_flow_run(a_flow)
        configuration = await prepared(worker, flow_run, image="registry.invalid/x")
        with pytest.raises(CloudRunJobNotReadyError):
            await worker.run(flow_run, configuration)
        (life,) = emulator.history()
        (event,) = await events_of(f"prefect.cloud-run.job.{life['uid']}", 1)
    assert event["event"] == "prefect.cloud-run.job.not-ready"
    assert event["resource"]["prefect.resource.name"] == configuration.job_name
    roles = {resource["prefect.resource.role"] for resource in event["related"]}
    assert roles >= {"flow-run", "flow", "work-pool", "worker"}


@pytest.mark.parametrize(
    ("outcome", "kinds"),
    [("success", ["started", "succeeded"]), ("failure", ["started", "failed"]), ("cancel", ["started", "cancelled"])],
)
async def test_a_run_emits_its_start_and_its_end(emulator, emitted, outcome, kinds):
    worker, flow_run = CloudRunWorker(work_pool_name="p"), FlowRun(id=uuid4(), flow_id=uuid4(), name="a-flow-run")
    configuration = await bare(flow_run, outcome)
    task = asyncio.create_task(worker.run(flow_run, configuration))
    if outcome == "cancel":
        await until(lambda: emitted)
        await worker.kill_infrastructure(configuration.job_name, configuration)
    await asyncio.wait_for(task, 30)
    assert [call["event"].rpartition(".")[2] for call in emitted] == kinds
    assert [call["follows"] is not None for call in emitted] == [False, True]


async def test_a_switch_turns_events_off(emulator, emitted, monkeypatch):
    monkeypatch.setenv(SWITCH, "false")
    worker, flow_run = CloudRunWorker(work_pool_name="p"), FlowRun(id=uuid4(), flow_id=uuid4(), name="a-flow-run")
    await worker.run(flow_run, await bare(flow_run))
    assert emitted == []


async def bare(flow_run: FlowRun, outcome: str = "success") -> CloudRunWorkerJobConfiguration:
    """A configuration that needs no server."""
    template = CloudRunWorker.get_default_base_job_template()
    task = template["job_configuration"]["job_body"]["spec"]["template"]
    annotations = {"cloud-run-emulator/outcome": "success" if outcome == "cancel" else outcome}
    if outcome == "cancel":
        annotations["cloud-run-emulator/duration-seconds"] = "60"
    task.setdefault("metadata", {}).setdefault("annotations", {}).update(annotations)
    task["spec"]["template"]["spec"]["maxRetries"] = 0
    configuration = await CloudRunWorkerJobConfiguration.from_template_and_values(
        template, {"command": "true", "credentials": {"project": "p"}}, client=SimpleNamespace()
    )
    configuration.prepare_for_flow_run(flow_run)
    return configuration


def emit(kind="started", uid="u", occurred=None, **facts):
    return emit_execution_event(kind, uid=uid, name="e", place=PLACE, occurred=occurred, related=[], **facts)


def test_what_happened_long_ago_is_not_emitted(emitted):
    assert emit(occurred=time.time() - 601) is None
    assert emitted == []
    assert emit(occurred=time.time() - 590) is not None


def test_nothing_is_emitted_twice_and_ids_are_those_of_every_worker(emitted):
    assert emit() is not None
    assert emit() is None
    assert emit(uid="v") is not None
    assert [call["id"] for call in emitted] == [event_id_of("u", "started"), event_id_of("v", "started")]
    # They must not change with a release: two workers of different ones may emit the same event.
    assert str(event_id_of("u", "started")) == "1be144a0-3afd-5b23-952d-b2f3dccf1a00"


def test_an_event_follows_only_what_this_process_emitted_shortly_before(emitted):
    now = time.time()
    emit("failed", uid="alone", occurred=now)
    emit("started", uid="long", occurred=now - 400)
    emit("failed", uid="long", occurred=now)
    emit("started", uid="short", occurred=now - 200)
    emit("failed", uid="short", occurred=now)
    assert [call["follows"] and call["follows"].id for call in emitted] == [
        None,
        None,
        None,
        None,
        event_id_of("short", "started"),
    ]


def test_what_is_remembered_has_an_end(emitted, monkeypatch):
    monkeypatch.setattr(_events, "_REMEMBERED", 10)
    for number in range(50):
        emit(uid=str(number))
    assert len(_events._remembered._events) <= 11
    monkeypatch.setattr(_events, "_REMEMBERED_FOR", -1.0)
    assert emit(uid="49") is not None


def test_a_diagnosis_is_a_label(emitted):
    emit("failed", diagnosis="OutOfMemory")
    emit_job_not_ready(uid=None, place=PLACE, occurred=None, related=[], diagnosis="ImageNotFound")
    assert [call["resource"]["cloud-run.diagnosis"] for call in emitted] == ["OutOfMemory", "ImageNotFound"]
    assert emitted[1]["resource"]["prefect.resource.id"] == "prefect.cloud-run.job.p.us-central1.a-job"


def test_a_diagnosis_that_comes_after_the_end_is_on_the_event(emitted):
    events = RunEvents(PLACE, list, is_on=True)
    facts = SimpleNamespace(name="e", uid="u", started_at=time.time(), completed_at=time.time(), outcome="failed")
    events.take(SimpleNamespace(kind="failed", job_uid=None, execution=facts))
    events.diagnosis = "OutOfMemory"
    events.finish()
    events.finish()
    assert [call["resource"].get("cloud-run.diagnosis") for call in emitted] == [None, "OutOfMemory"]


def test_an_emission_that_fails_fails_nothing_else(monkeypatch):
    def fails(*_args, **_facts):
        raise RuntimeError("no event")

    monkeypatch.setattr(_events, "emit_event", fails)
    assert emit(uid="fails") is None
    assert emit(uid="odd", occurred=float("inf")) is None


def test_related_resources_that_cannot_be_found_are_left_out(emitted):
    def fails():
        raise RuntimeError("no related resources")

    events = RunEvents(PLACE, fails, is_on=True)
    facts = SimpleNamespace(name="e", uid="u", started_at=None, completed_at=None, outcome=None)
    events.take(SimpleNamespace(kind="running", job_uid=None, execution=facts))
    assert [call["related"] for call in emitted] == [[]]


def test_an_execution_whose_uid_comes_late_is_an_event_then(emitted):
    events = RunEvents(PLACE, list, is_on=True)
    facts = SimpleNamespace(name="e", uid=None, started_at=time.time(), completed_at=None, outcome=None)
    events.take(SimpleNamespace(kind="running", job_uid=None, execution=facts))
    assert emitted == []
    events.take(
        SimpleNamespace(
            kind="succeeded",
            job_uid=None,
            execution=SimpleNamespace(
                name="e", uid="u", started_at=time.time(), completed_at=time.time(), outcome="succeeded"
            ),
        )
    )
    assert [call["event"].rpartition(".")[2] for call in emitted] == ["started", "succeeded"]


def test_related_resources_come_from_a_flow_run_alone():
    flow_run = FlowRun(id=uuid4(), flow_id=uuid4(), name="a-flow-run", deployment_id=uuid4(), tags=["t"])
    related = [(resource.role, resource.id) for resource in related_of_flow_run(flow_run)]
    assert related == [
        ("flow-run", f"prefect.flow-run.{flow_run.id}"),
        ("deployment", f"prefect.deployment.{flow_run.deployment_id}"),
        ("flow", f"prefect.flow.{flow_run.flow_id}"),
        ("tag", "prefect.tag.t"),
    ]
