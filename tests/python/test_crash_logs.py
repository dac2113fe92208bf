"""The output of containers that died before their flow run was Running, in the flow run's log."""

from __future__ import annotations

import asyncio
import logging
import time
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.flows import flow
from prefect.settings import (
    PREFECT_LOGGING_TO_API_BATCH_SIZE,
    PREFECT_LOGGING_TO_API_MAX_LOG_SIZE,
    temporary_settings,
)
from prefect.states import Pending, Running

from prefect_gcp.emulator import Emulator
from prefect_gcp.exceptions import CloudRunInvalidRequestError, CloudRunPermissionError
from prefect_gcp.settings import CloudRunWorkerSettings
from prefect_gcp.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration
from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run.workers import _crash_logs
from prefect_gcp_cloud_run.workers._crash_logs import cut, forward_crash_logs, never_ran

pytestmark = pytest.mark.anyio

HEADER = "The container ended before the flow run was Running. The last lines of its log, from execution 'e':"


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    monkeypatch.setattr(_crash_logs, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(_crash_logs, "SECOND_WAIT", 0.0)


@pytest.fixture
def emulator(monkeypatch):
    with Emulator(ready_after=0.1, start_after=0.05, delete_after=0.05) as running:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", running.host)
        yield running


def line(text: str, **facts) -> SimpleNamespace:
    return SimpleNamespace(**({"text": text, "time": 100.0, "container": None, "is_system": False} | facts))


class Logs:
    """Stands for a client: each read gives the next answer."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.reads: list[dict] = []

    async def read_logs(self, execution: str, **query):
        self.reads.append({"execution": execution, **query})
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def forward(client, **facts) -> int:
    facts = {"job": "j", "execution": "e", "tail_lines": 500} | facts
    return await forward_crash_logs(client, logging.getLogger("crash-logs"), **facts)


def errors(caplog) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == logging.ERROR]


@flow
def a_flow():
    """A flow run needs one."""


@pytest.mark.difference("crash-logs")
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("case", ["pending", "was running", "switched off"])
async def test_the_output_of_a_container_that_died_is_in_the_flow_runs_log(emulator, caplog, monkeypatch, case):
    prefix = "PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_OBSERVER_FORWARD_CRASHED_RUN_LOGS"
    monkeypatch.setenv(f"{prefix}_TAIL_LINES", "3")
    monkeypatch.setenv(prefix, "false" if case == "switched off" else "true")
    async with get_client() as client:
        flow_run = await client.create_flow_run(a_flow, state=Pending())
        if case == "was running":
            await client.set_flow_run_state(flow_run.id, Running())
    template = CloudRunWorker.get_default_base_job_template()
    template["job_configuration"]["job_body"]["spec"]["template"]["spec"]["template"]["spec"]["maxRetries"] = 0
    command = "sh -c 'for n in 1 2 3; do echo no module $n; done; exit 3'"
    configuration = await CloudRunWorkerJobConfiguration.from_template_and_values(
        template, {"command": command, "credentials": {"project": "p"}}, client=SimpleNamespace()
    )
    configuration.prepare_for_flow_run(flow_run)
    async with CloudRunWorker(work_pool_name="crash-logs-tests") as worker, get_client() as client:
        assert (await worker.run(flow_run, configuration)).status_code == 1
        assert (await client.read_flow_run(flow_run.id)).state.is_crashed()
    texts = errors(caplog)
    header = [text for text in texts if text.startswith("The container ended before the flow run was Running.")]
    assert len(header) == (1 if case == "pending" else 0)
    if header:
        *lines, end = texts[texts.index(header[0]) + 1 :]
        assert lines == ["no module 2", "no module 3"]
        assert "failed with exit code 3" in end


async def test_a_stop_writes_what_has_arrived(caplog, monkeypatch):
    monkeypatch.setattr(_crash_logs, "SECOND_WAIT", 600.0)
    client = Logs([line("early", time=50.0)])
    forwarding = asyncio.create_task(forward(client, ended_at=100.0))
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(client.reads) == 1
    forwarding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await forwarding
    assert errors(caplog) == [HEADER, "early"]


async def test_late_entries_are_waited_for_and_asked_for_twice_at_most(caplog):
    early, late = line("early", time=50.0), line("late", time=99.5)
    client = Logs([early], [early, late])
    assert await forward(client, started_at=40.0, ended_at=100.0) == 2
    assert errors(caplog) == [HEADER, "early", "late"]
    # Some entries are a moment older than Google's word that the execution began.
    assert [read["since"] for read in client.reads] == [-20.0, -20.0]
    assert client.reads[0] == {"execution": "e", "job": "j", "since": -20.0, "limit": 500}

    caplog.clear()
    assert await forward(Logs([], [])) == 0
    assert errors(caplog) == []


@pytest.mark.parametrize("first", [[line("late", time=99.5)], [line("exit(1)", time=99.0, is_system=True)]])
async def test_a_log_whose_end_has_come_is_not_asked_for_again(first):
    client = Logs(first)
    assert await forward(client, ended_at=100.0) == 1
    assert len(client.reads) == 1


async def test_the_end_of_an_earlier_attempt_is_not_the_end_of_the_log():
    attempt, late = line("exit(1)", time=50.0, is_system=True), line("exit(1)", time=99.5, is_system=True)
    client = Logs([attempt], [attempt, late])
    assert await forward(client, ended_at=100.0) == 2
    assert len(client.reads) == 2


async def test_a_second_read_that_fails_or_finds_nothing_takes_nothing_away(caplog):
    assert await forward(Logs([line("early", time=1.0)], []), ended_at=100.0) == 1
    assert await forward(Logs([line("early", time=1.0)], OSError("away")), ended_at=100.0) == 1
    assert errors(caplog) == 2 * [HEADER, "early"]


async def test_lines_of_other_containers_are_marked_with_their_name(caplog):
    lines = [line("a", container="main"), line("b", container="proxy"), line("c")]
    await forward(Logs(lines), container="main", ended_at=100.0)
    assert errors(caplog)[1:] == ["a", "[proxy] b", "c"]


async def test_a_permission_that_is_missing_is_one_debug_line(caplog):
    caplog.set_level(logging.DEBUG)
    refused = CloudRunPermissionError("no logging.logEntries.list", permission="logging.logEntries.list")
    client = Logs(refused)
    assert await forward(client) == 0
    assert len(client.reads) == 1
    records = [(record.levelno, record.message) for record in caplog.records if record.name == "crash-logs"]
    words = "The log of the container could not be read from Cloud Logging: no logging.logEntries.list"
    assert records == [(logging.DEBUG, words)]


async def test_a_long_line_is_cut_as_prefect_would_drop_it(caplog):
    size = 10_000
    with temporary_settings({PREFECT_LOGGING_TO_API_MAX_LOG_SIZE: size, PREFECT_LOGGING_TO_API_BATCH_SIZE: size}):
        await forward(Logs([line("x" * 20_000), line("100% of it: {}")]))
    _, cut_line, short = errors(caplog)
    assert 7_000 < len(cut_line) < size
    assert cut_line.endswith("x… (cut)")
    assert short == "100% of it: {}"


@pytest.mark.parametrize("character", ["x", '"', "\x00", "é", "🦀"])
def test_a_cut_line_fits_in_json(character):
    for length in (10, 17, 200):
        text = character * length
        result = cut(text, 100)
        sent = len(_crash_logs.json.dumps(result)) - 2
        assert sent <= 100
        assert result == text or (result.endswith("… (cut)") and sent > 100 - 12 - 1)


def test_a_flow_run_that_was_running_once_has_a_log_of_its_own():
    flow_run = FlowRun(id=uuid4(), flow_id=uuid4(), name="a")
    assert never_ran(flow_run)
    assert not never_ran(flow_run.model_copy(update={"run_count": 1}))


async def test_reads_of_logs_take_turns(emulator):
    client = a_client()
    began = time.monotonic()
    await asyncio.gather(*(client.read_logs("j-abcde", job="j", limit=1) for _ in range(3)))
    # An earlier test may have had the first turn just now, but the third is two intervals later in any case.
    assert time.monotonic() - began > 2
    assert emulator.counts()["entries.list"] == 3


async def test_names_are_checked_before_they_are_in_a_filter(emulator):
    with pytest.raises(ValueError, match="not a valid Cloud Run job name"):
        a_client().read_logs("e", job='j" OR "', limit=1)
    with pytest.raises(CloudRunInvalidRequestError):
        await a_client().read_logs('e" OR "', job="j", limit=1)
    assert "entries.list" not in emulator.counts()


async def test_a_project_whose_logs_may_not_be_read_is_a_permission_error(monkeypatch):
    with Emulator(projects=["other"]) as emulator:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", emulator.host)
        with pytest.raises(CloudRunPermissionError, match=r"roles/logging.viewer") as caught:
            await a_client("a-project").read_logs("j-abcde", job="j", limit=1)
    assert caught.value.permission == "logging.logEntries.list"


def a_client(project: str = "turns") -> _core.Client:
    return _core.Client(
        project=project, region="us-central1", credentials=_core.Credentials(), settings=CloudRunWorkerSettings()
    )
