"""The command `sweep`: one pass over the jobs that workers left, by hand."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.flows import flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Pending, Running

from prefect_gcp.emulator import Emulator
from prefect_gcp.workers.cloud_run import CloudRunWorker
from prefect_gcp_cloud_run import _core, cli
from prefect_gcp_cloud_run.workers import _observed_areas, _observed_job, _proposals
from tests.python import forked
from tests.python.eventually import until
from tests.python.marked import MARK, leave, marked_job, note

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("prefect_server")]

PROJECT = "swept"


@flow
def a_flow():
    """A flow run needs one."""


@pytest.fixture
def emulator(monkeypatch) -> Iterator[Emulator]:
    with Emulator(
        ready_after=0.02,
        start_after=0.02,
        delete_after=0.02,
        executor="simulated",
        duration=0.1,
        projects=[PROJECT],
        record_calls=True,
    ) as running:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", running.host)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
        monkeypatch.setenv("PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_RETRY_MAX_SECONDS", "1")
        yield running


@pytest.fixture
def _at_once(monkeypatch):
    """No worker comes back in these tests, so nobody waits for it."""
    real = _core.Circumstances
    monkeypatch.setattr(_observed_job, "_SETTLE", 0.0)
    monkeypatch.setattr(_core, "Circumstances", lambda **values: real(**values, silent_settle=0.0))


@pytest.fixture
async def pool() -> str:
    name = f"swept-{uuid4().hex[:8]}"
    template = CloudRunWorker.get_default_base_job_template()
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=name, type="cloud-run", base_job_template=template))
    return name


async def new_flow_run(pool: str, state) -> FlowRun:
    async with get_client() as client:
        body = {"flow_id": str(await client.create_flow(a_flow)), "work_pool_name": pool}
        answer = await client.request("POST", "/flow_runs/", json=body | {"state": {"type": "SCHEDULED"}})
        flow_run_id = UUID(answer.json()["id"])
        await client.set_flow_run_state(flow_run_id, state, force=True)
        return await client.read_flow_run(flow_run_id)


async def left_job(
    emulator: Emulator,
    pool: str,
    flow_run: FlowRun | None,
    *,
    started: bool = True,
    keep: bool = False,
    region: str = "us-central1",
    outcome: str = "success",
    duration: float = 0.1,
    give_up_in: float = 3600,
    labels: dict[str, str | None] | None = None,
) -> str:
    """A job that a worker of another process has left. `labels` changes those of the mark; None leaves one out."""
    name = f"job-{uuid4().hex[:12]}"
    async with get_client() as client:
        pool_id = (await client.read_work_pool(pool)).id
    body = marked_job(
        name,
        pool_id=pool_id,
        flow_run_id=flow_run.id if flow_run else uuid4(),
        worker="lost-worker",
        keep=keep,
        give_up_in=give_up_in,
        outcome=outcome,
        duration=duration,
        labels=labels,
    )
    await leave(emulator.url, PROJECT, region, body, started=started)
    if started and duration < 60:
        await until(lambda: any("completionTime" in it["status"] for it in of_job(emulator, name)))
    if flow_run is not None:
        await note(flow_run.id, PROJECT, region, name)
    return name


def of_job(emulator: Emulator, name: str) -> list:
    return [it for it in emulator.executions() if it["metadata"]["labels"]["run.googleapis.com/job"] == name]


def names(emulator: Emulator) -> set[str]:
    return {job["metadata"]["name"] for job in emulator.jobs() if "deletionTimestamp" not in job["metadata"]}


async def state_of(flow_run: FlowRun):
    async with get_client() as client:
        return (await client.read_flow_run(flow_run.id)).state


async def log_of(flow_run: FlowRun) -> str:
    async with get_client() as client:
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run.id]))
        return "\n".join(line.message for line in await client.read_logs(wanted))


class Swept:
    """What came of a sweep."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def sum(self) -> str:
        """The last line."""
        return self.out.splitlines()[-1]

    def row(self, job: str) -> str:
        """The row of a job, with one space between words."""
        (row,) = (line for line in self.out.splitlines() if line.startswith(f"{job} "))
        return " ".join(row.split())


async def sweep(capsys, pool: str, *options: str) -> Swept:
    """Runs the command in this process, in a thread: it has an event loop of its own."""
    capsys.readouterr()
    status = await asyncio.to_thread(cli.main, ["sweep", "--pool", pool, *options])
    out, err = capsys.readouterr()
    return Swept(status, out, err)


async def sweep_process(*arguments: str, env: dict[str, str] | None = None) -> Swept:
    done = await asyncio.to_thread(forked.run, "prefect_gcp.cli", *arguments, env=env)
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return Swept(done.returncode, done.stdout, done.stderr)


@pytest.mark.difference("sweep")
async def test_a_sweep_does_what_is_to_be_done_and_shows_it(emulator, pool):
    """As a process, so that what it sends is sent before its end."""
    lost, ended, runs = [await new_flow_run(pool, state()) for state in (Pending, Completed, Running)]
    lost_job = await left_job(emulator, pool, lost, started=False, give_up_in=-5)
    ended_job = await left_job(emulator, pool, ended, started=False, give_up_in=-5)
    running_job = await left_job(emulator, pool, runs, duration=600)
    waiting_job = await left_job(emulator, pool, await new_flow_run(pool, Pending()), started=False)
    swept = await sweep_process("sweep", "--pool", pool)
    assert swept.status == 0, swept.out + swept.err
    place = f"{PROJECT} us-central1"
    why = "its worker has not started it in time"
    given_back = "job deleted, flow run Scheduled again"
    assert swept.row(lost_job) == f"{lost_job} {place} {lost.name} (Pending) never started give back {why} {given_back}"
    assert f"{ended.name} (Completed) never started delete {why} deleted" in swept.row(ended_job)
    assert f"{runs.name} (Running) running let it run its execution runs nothing" in swept.row(running_job)
    assert "leave alone its worker may still start it; worker lost-worker has given up by " in swept.row(waiting_job)
    assert swept.sum == (f"Work pool {pool!r}: 4 jobs to look after in 1 place: 1 deleted, 1 given back, 2 left alone")
    assert names(emulator) == {running_job, waiting_job}
    assert (await state_of(lost)).is_scheduled()
    assert (await state_of(runs)).is_running()
    assert f"Cloud Run Job {lost_job!r} of worker 'lost-worker' was deleted" in await log_of(lost)
    assert f"Cloud Run Job {ended_job!r} of worker 'lost-worker' was deleted" in await log_of(ended)


async def test_a_dry_run_changes_nothing(emulator, pool):
    lost, ended = [await new_flow_run(pool, state()) for state in (Pending, Completed)]
    jobs = [await left_job(emulator, pool, run, started=False, give_up_in=-5) for run in (lost, ended)]
    before = len(emulator.calls())
    swept = await sweep_process("sweep", "--pool", pool, "--dry-run")
    assert swept.status == 0, swept.err
    assert "Would be done" in swept.out
    assert swept.row(jobs[0]).endswith("job deleted, flow run Scheduled again")
    assert swept.row(jobs[1]).endswith("deleted")
    assert swept.sum.endswith("in 1 place: 1 to be deleted, 1 to be given back. Nothing was changed")
    assert {call["method"] for call in emulator.calls()[before:]} == {"GET"}
    assert names(emulator) == set(jobs)
    assert (await state_of(lost)).is_pending()
    assert await log_of(lost) == ""


@pytest.mark.usefixtures("_at_once")
async def test_containers_that_died_are_reported_and_kept_jobs_stay(emulator, pool, capsys):
    failed, kept, gone = [await new_flow_run(pool, Running()) for _ in range(2)] + [None]
    failed_job = await left_job(emulator, pool, failed, outcome="exit-code=3")
    kept_job = await left_job(emulator, pool, kept, outcome="exit-code=3", keep=True)
    # A single pass asks twice for a flow run that is not found.
    gone_job = await left_job(emulator, pool, gone)
    swept = await sweep(capsys, pool)
    assert swept.status == 0, swept.out + swept.err
    assert "s ago report the crash its execution failed flow run Crashed, job deleted" in swept.row(failed_job)
    assert swept.row(kept_job).endswith("flow run Crashed; the job is kept")
    assert "(not found) succeeded" in swept.row(gone_job)
    assert swept.sum.endswith("in 1 place: 2 crashed, 1 deleted")
    for flow_run in (failed, kept):
        assert (await state_of(flow_run)).message.startswith("ExitCode 3: ")
        assert "Diagnosis: " in await log_of(flow_run)
    assert names(emulator) == {kept_job}
    # There is nothing to do any more.
    again = await sweep(capsys, pool)
    assert again.status == 0
    assert again.sum == f"Work pool {pool!r}: 1 job to look after in 1 place: 1 left alone"
    assert "leave alone it is to be kept nothing" in again.row(kept_job)


@pytest.mark.usefixtures("_at_once")
async def test_a_job_with_several_executions_is_looked_at_closely(emulator, pool, capsys):
    flow_run = await new_flow_run(pool, Completed())
    job = await left_job(emulator, pool, flow_run)
    url = f"{emulator.url}/apis/run.googleapis.com/v1/namespaces/{PROJECT}/jobs/{job}:run"
    async with httpx.AsyncClient(trust_env=False, headers={"Host": "us-central1-run.googleapis.com"}) as http:
        (await http.post(url, json={})).raise_for_status()
    await until(lambda: sum("completionTime" in it["status"] for it in of_job(emulator, job)) == 2)
    # Its executions can't be read.
    emulator.set_faults({"rules": [{"fault": {"status": {"code": 403}}, "calls": ["executions.list"]}]})
    swept = await sweep(capsys, pool)
    assert swept.status == 1
    assert f"The executions of Cloud Run Job {job!r} could not be read: " in swept.err
    assert "unknown leave alone its status does not tell how its executions stand nothing" in swept.row(job)
    emulator.set_faults({})
    swept = await sweep(capsys, pool)
    assert swept.status == 0, swept.out + swept.err
    assert swept.sum.endswith(": 1 deleted")
    assert not names(emulator)


@pytest.mark.usefixtures("_at_once")
async def test_look_alikes_stay(emulator, pool, capsys):
    flow_run = await new_flow_run(pool, Completed())
    changes: list[dict[str, str | None]] = [
        {MARK: None},
        {MARK: "2"},
        {f"{MARK}-pool": str(uuid4())},
        {f"{MARK}-flow-run": None},
        dict.fromkeys((MARK, f"{MARK}-pool", f"{MARK}-flow-run")) | {"prefect-io-flow-run-id": str(flow_run.id)},
    ]
    jobs = [await left_job(emulator, pool, flow_run, labels=change) for change in changes]
    swept = await sweep(capsys, pool)
    assert (swept.status, swept.out) == (0, f"Work pool {pool!r}: 0 jobs to look after in 1 place\n")
    assert names(emulator) == set(jobs)


@pytest.mark.usefixtures("_at_once")
async def test_places_can_be_added(emulator, pool, capsys, monkeypatch):
    jobs = {}
    for region in ("europe-west1", "asia-east1", "us-east1"):
        jobs[region] = await left_job(emulator, pool, await new_flow_run(pool, Completed()), region=region)
    monkeypatch.setenv("PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_OBSERVER_REGIONS", "us-east1")
    swept = await sweep(capsys, pool, "--region", "europe-west1", "--region", "asia-east1", "--project", PROJECT)
    assert swept.status == 0, swept.err
    assert swept.sum.endswith("3 jobs to look after in 4 places: 3 deleted")
    assert not names(emulator)


async def test_the_places_of_the_command_do_without_that_of_the_pool(emulator, pool, capsys, monkeypatch):
    async def finds_none(*_args):
        raise ValueError("No Google Cloud project is configured")

    monkeypatch.setattr(_observed_areas, "client_and_project", finds_none)
    without = await sweep(capsys, pool)
    assert without.status == 1
    assert "There is no project and region to look in. Name them with --project and --region" in without.err
    assert without.sum.endswith("0 jobs to look after in 0 places. Not all could be looked at: 1 problem")
    assert (await sweep(capsys, pool, "--project", PROJECT)).status == 0


@pytest.mark.usefixtures("_at_once")
async def test_what_could_not_be_listed_is_said_and_the_rest_is_done(emulator, pool, capsys):
    job = await left_job(emulator, pool, await new_flow_run(pool, Completed()))
    swept = await sweep(capsys, pool, "--project", "forbidden")
    assert swept.status == 1
    assert "The jobs in project 'forbidden', region 'us-central1' could not be listed: " in swept.err
    assert swept.row(job).endswith(" deleted")
    assert swept.sum.endswith("in 2 places: 1 deleted. Not all could be looked at: 1 problem")
    assert not names(emulator)


@pytest.mark.usefixtures("_at_once")
async def test_what_could_not_be_done_is_said(emulator, pool, capsys):
    job = await left_job(emulator, pool, await new_flow_run(pool, Completed()))
    emulator.set_faults({"rules": [{"fault": {"status": {"code": 403}}, "calls": ["jobs.delete"]}]})
    swept = await sweep(capsys, pool)
    assert swept.status == 1
    assert " delete its execution and its flow run have ended failed: " in swept.row(job)
    assert swept.sum.endswith("in 1 place: 1 failed")
    assert names(emulator) == {job}


@pytest.mark.usefixtures("_at_once")
async def test_a_state_that_prefect_did_not_take_is_a_failure(emulator, pool, capsys, monkeypatch):
    async def fails(*_args, **_values):
        raise httpx.ConnectError("the server is away")

    monkeypatch.setattr(_proposals, "propose_state", fails)
    crashed = await left_job(emulator, pool, await new_flow_run(pool, Running()), outcome="exit-code=3")
    lost = await left_job(emulator, pool, await new_flow_run(pool, Pending()), started=False, give_up_in=-5)
    swept = await sweep(capsys, pool)
    assert swept.status == 1
    assert swept.row(crashed).endswith("failed: Prefect did not take the flow run's new state")
    assert swept.row(lost).endswith("failed: Prefect did not take the flow run's new state; the job is deleted")
    assert swept.sum.endswith(": 2 failed")
    # The crash can be reported by the next one.
    assert names(emulator) == {crashed}


async def test_names_can_not_control_the_terminal(emulator, pool, capsys):
    flow_run = await new_flow_run(pool, Completed())
    async with get_client() as client:
        await client.update_flow_run(flow_run.id, name="[red]\x1b[31mWörker\n\x07run[/red]")
    job = await left_job(emulator, pool, flow_run, started=False, give_up_in=-5)
    swept = await sweep(capsys, pool)
    assert "[red] [31mWörker run[/red] (Completed)" in swept.row(job)


async def test_wrong_usage_ends_with_2_and_says_what_is_wrong(emulator, pool, capsys, monkeypatch):
    typo = await sweep_process("sweep", "--pool", f"{pool}x")
    assert (typo.status, typo.out) == (2, "")
    assert typo.err == f"prefect-gcp-cloud-run sweep: There is no work pool '{pool}x'. Did you mean {pool!r}?\n"
    far = await sweep(capsys, "???")
    assert far.status == 2
    assert "There is no work pool '???'. 'prefect work-pool ls' lists the work pools" in far.err
    other = f"{pool}-process"
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=other, type="process"))
    swept = await sweep(capsys, other)
    assert swept.status == 2
    assert f"Work pool {other!r} is of type 'process'. Only the jobs of pools of type 'cloud-run'" in swept.err
    swept = await sweep(capsys, pool, "--region", "Not A Region")
    assert swept.status == 2
    assert "A place is invalid: regions: " in swept.err
    assert "'Not A Region' is not a name" in swept.err
    monkeypatch.setenv("PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_RETRY_MAX_ATTEMPTS", "none")
    swept = await sweep(capsys, pool)
    assert swept.status == 2
    assert "A setting is invalid: PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_RETRY_MAX_ATTEMPTS: " in swept.err
    assert not emulator.calls()
    for arguments in ([], ["sweep"], ["sweep", "--pool", pool, "--dry"], ["clean"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 2


@pytest.mark.parametrize("url", ["http://user:hun/ter2@h/api", "user:hunter2@h:4200/api", "http://user:hunter2/api"])
async def test_an_address_that_is_not_valid_is_not_shown(capsys, url):
    with temporary_settings({PREFECT_API_URL: url}):
        swept = await sweep(capsys, "any")
    assert swept.status == 1
    assert "The Prefect API at PREFECT_API_URL (not shown, since it is not a valid address) could not" in swept.err
    assert not any(part in swept.err + swept.out for part in ("hun", "ter2", "user"))


async def test_without_a_prefect_api_nothing_is_started(emulator, capsys):
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        swept = await sweep(capsys, "any")
    assert swept.status == 2
    assert "No Prefect API is configured. Set PREFECT_API_URL" in swept.err
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        with temporary_settings({PREFECT_API_URL: away}):
            swept = await sweep(capsys, "any")
    assert swept.status == 1
    assert f"The Prefect API at {away} could not be asked: ConnectError: " in swept.err
    assert not emulator.calls()


async def test_the_command_is_installed_and_explains_itself(capsys):
    for arguments in (["--help"], ["sweep", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 0
    assert _core.__version__ in capsys.readouterr().out
    assert os.access(Path(sys.executable).with_name("prefect-gcp-cloud-run"), os.X_OK)
