"""The command `doctor`: what it finds, what it says to do, and what it must not show."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.types import SecretDict
from pydantic import BaseModel, ValidationError

import _prefect_gcp_cloud_run_hook as hook
from prefect_gcp.credentials import GcpCredentials
from prefect_gcp.emulator import Emulator
from prefect_gcp.workers.cloud_run import CloudRunWorker
from prefect_gcp_cloud_run import (
    _core,
    _credentials_of,
    _doctor_google,
    _doctor_packages,
    _doctor_prefect,
    _prefect_api,
    cli,
)
from prefect_gcp_cloud_run._doctor import EXIT_PROBLEMS
from prefect_gcp_cloud_run._findings import Findings, first_line
from tests.python import leaks
from tests.python.fake_google import TARGET, USER, Google
from tests.python.watched import SETTING

pytestmark = pytest.mark.anyio

PROJECT = "examined"
ACCOUNT = "worker@key-project.iam.gserviceaccount.com"
OURS, UPSTREAM = "prefect-gcp-cloud-run", "prefect-gcp"


@pytest.fixture
def emulator(monkeypatch) -> Iterator[Emulator]:
    with Emulator(executor="simulated", projects=[PROJECT], record_calls=True) as running:
        monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", running.host)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
        yield running


@pytest.fixture
def _no_prefect() -> Iterator[None]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{listener.getsockname()[1]}/api"}):
            yield


async def examine(capfd: Any, *options: str) -> SimpleNamespace:
    """Runs the command. `problems` has each problem with what mends it."""
    capfd.readouterr()
    status = await asyncio.to_thread(cli.main, ["doctor", *options])
    out = capfd.readouterr().out
    problems = dict(re.findall(r"^  PROBLEM  (.*)\n           to mend: (.*)$", out, re.MULTILINE))
    assert status == (1 if problems else 0), out
    end = f"\n{len(problems)} problem{'s' if len(problems) > 1 else ''}.\n" if problems else "\nNo problems.\n"
    assert out.endswith(end), out
    return SimpleNamespace(status=status, out=out, problems=problems)


async def new_pool(**more: Any) -> str:
    name = f"examined-{uuid4().hex[:8]}"
    template = CloudRunWorker.get_default_base_job_template()
    for variable, value in more.pop("defaults", {}).items():
        template["variables"]["properties"][variable]["default"] = value
    async with get_client() as client:
        await client.create_work_pool(
            WorkPoolCreate(name=name, base_job_template=template, **({"type": "cloud-run"} | more))
        )
    return name


def only(found: SimpleNamespace, beginning: str) -> str:
    """What mends the only problem that begins like this."""
    (mend,) = [mend for text, mend in found.problems.items() if text.startswith(beginning)]
    return mend


@pytest.mark.usefixtures("prefect_server", "emulator")
async def test_where_all_is_well_there_is_no_problem(capfd):
    found = await examine(capfd, "--pool", await new_pool(defaults={"region": "europe-west1"}))
    assert found.status == 0, found.out
    for words in (
        f"{OURS} {_core.__version__}, in ",
        f"prefect {metadata.version('prefect')}",
        "prefect_gcp.workers.cloud_run is prefect-gcp-cloud-run's: ",
        f"The Prefect API at {PREFECT_API_URL.value()} answers; its version is ",
        " is of type 'cloud-run'",
        "Credentials: the emulator needs none",
        f"Project {PROJECT}, region europe-west1",
        "The Cloud Run API answers, and the jobs can be listed",
        "The account has run.jobs.create, run.jobs.run, ",
    ):
        assert words in found.out


@pytest.mark.usefixtures("prefect_server")
async def test_nothing_is_changed(capfd, emulator):
    pool = await new_pool()
    await examine(capfd, "--pool", pool)
    assert {call["method"] for call in emulator.calls()} == {"GET"}
    assert emulator.jobs() == []


@pytest.mark.usefixtures("prefect_server")
async def test_each_missing_permission_is_found_with_its_role(capfd, emulator):
    rules = [{"fault": {"status": {"code": 403}}, "calls": ["jobs.create", "tasks.list"]}]
    emulator.set_faults({"rules": rules})
    found = await examine(capfd)
    mend = only(found, f"The account lacks run.jobs.create, run.tasks.list on project {PROJECT}")
    assert mend.startswith(f"gcloud projects add-iam-policy-binding {PROJECT} --member=serviceAccount:")
    assert mend.endswith(" --role=roles/run.developer")
    assert "The account has run.jobs.run, run.jobs.get, run.jobs.list" in found.out


@pytest.mark.usefixtures("prefect_server", "emulator")
async def test_a_project_that_does_not_exist_is_found(capfd):
    found = await examine(capfd, "--project", "no-such-project")
    lacks = "The account lacks run.jobs.get, run.jobs.list, run.executions.list, run.executions.get, run.tasks.list"
    assert only(found, lacks)
    assert "on project no-such-project, or there is no such project" in found.out
    assert "Not checked: run.jobs.create, run.jobs.run, run.jobs.delete" in found.out
    assert "resourcemanager.projects.get" in found.out


@pytest.mark.usefixtures("prefect_server")
async def test_an_api_that_is_not_enabled_is_found(capfd, emulator):
    message = "Cloud Run Admin API has not been used in project 1 before or it is disabled."
    status = {"code": 403, "reason": "SERVICE_DISABLED", "message": message}
    emulator.set_faults({"rules": [{"fault": {"status": status}}]})
    found = await examine(capfd)
    assert only(found, "Could not list the jobs") == (
        f"Enable the API: gcloud services enable run.googleapis.com --project {PROJECT}"
    )
    assert message.rstrip(".") in found.out


@pytest.mark.usefixtures("prefect_server")
async def test_a_region_that_does_not_exist_is_found(capfd, emulator):
    emulator.set_faults({"rules": [{"fault": {"status": {"code": 404, "body": "html"}}}]})
    found = await examine(capfd, "--region", "mars-east1")
    assert "no Cloud Run API answers for 'mars-east1'" in only(found, "Could not list the jobs")
    assert only(await examine(capfd, "--region", "Not A Region"), "'Not A Region' is not a region")


@pytest.mark.usefixtures("prefect_server")
async def test_an_emulator_that_does_not_run_is_found(capfd, monkeypatch):
    monkeypatch.setenv("CLOUD_RUN_EMULATOR_HOST", "127.0.0.1:1")
    found = await examine(capfd)
    assert only(found, "Could not list the jobs").startswith("start the emulator")
    assert "gave up after" not in found.out


@pytest.mark.usefixtures("_no_prefect", "emulator")
async def test_without_a_prefect_server_the_rest_is_examined(capfd):
    found = await examine(capfd)
    assert only(found, "The Prefect API at http://127.0.0.1:").startswith("prefect config view")
    assert len(found.problems) == 1
    assert "The Cloud Run API answers" in found.out
    # What the pool's template says is not known, so nothing is said of other credentials.
    found = await examine(capfd, "--pool", "p")
    assert "Not checked: what a worker would use is not known" in found.out
    assert "The Cloud Run API answers" not in found.out


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize(("status", "mend"), [(401, "prefect cloud login, or"), (404, "prefect config view shows")])
async def test_a_server_that_refuses_is_found(capfd, status, mend):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"] or 0))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - the name is the library's

        def log_message(self, *_args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{server.server_port}/api"}):
            found = await examine(capfd)
        server.shutdown()
    where = f"The Prefect API at http://127.0.0.1:{server.server_port}/api"
    assert only(found, f"{where} answers HTTP {status}").startswith(mend)


@pytest.mark.usefixtures("emulator")
async def test_without_an_api_url_no_server_is_started(capfd):
    with temporary_settings(restore_defaults=[PREFECT_API_URL]):
        found = await examine(capfd)
    assert only(found, "No Prefect API is configured").startswith("prefect config set PREFECT_API_URL=")


@pytest.mark.usefixtures("prefect_server", "emulator")
async def test_a_work_pool_that_can_not_be_served_is_found(capfd):
    pool = await new_pool()
    assert f"Did you mean '{pool}'?" in (await examine(capfd, "-p", pool + "x")).out
    other = await new_pool(type="process")
    assert only(await examine(capfd, "--work-pool", other), f"Work pool '{other}' is of type 'process'")
    # No worker would use the credentials of the environment for them.
    for name in (pool + "x", other):
        assert "Not checked: what a worker would use is not known" in (await examine(capfd, "-p", name)).out


V2_BODY = {"template": {"template": {"containers": [{"image": "i"}]}}}


@pytest.mark.usefixtures("prefect_server", "emulator")
@pytest.mark.parametrize("body", [V2_BODY, None, "oops"])
async def test_a_template_with_which_every_run_fails_is_found(capfd, body):
    template = CloudRunWorker.get_default_base_job_template()
    del template["job_configuration"]["job_body"]
    if body is not None:
        template["job_configuration"]["job_body"] = body
    name = f"it's-{uuid4().hex[:8]}"
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=name, type="cloud-run", base_job_template=template))
    found = await examine(capfd, "--pool", name)
    ((text, mend),) = found.problems.items()
    assert text.startswith(f"The template of work pool {name!r} can't be used")
    # The cause, and not only how many mistakes there are.
    assert "job_body" in text
    assert "validation error" not in text
    assert mend.startswith(f"prefect work-pool inspect {shlex.quote(name)} ")


@pytest.mark.usefixtures("prefect_server")
async def test_a_block_takes_the_place_of_the_pools(capfd, google, monkeypatch):
    monkeypatch.setenv(f"{SETTING}API_ENDPOINT", google.url)
    name = f"examined-{uuid4().hex[:8]}"
    await GcpCredentials(service_account_info=google.key).save(name)  # type: ignore[misc]
    found = await examine(capfd, "--pool", await new_pool(), "--credentials", name)
    assert f"Credentials: service account key, in the block '{name}', of {ACCOUNT}" in found.out
    assert "Project key-project, region us-central1" in found.out
    assert only(await examine(capfd, "--credentials", "none-such"), "Block gcp-credentials/none-such can't be used")


@pytest.mark.usefixtures("_no_prefect")
@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"type": "authorized_user", **USER}, "a user's own credentials"),
        (
            {
                "type": "impersonated_service_account",
                "service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/"
                f"serviceAccounts/{TARGET}:generateAccessToken",
                "source_credentials": {"type": "authorized_user", **USER},
            },
            f"impersonation of a service account, application default credentials, in .*, of {re.escape(TARGET)}",
        ),
        ({"type": "of_a_new_kind", "client_email": leaks.TOKEN}, "credentials of an unknown type"),
    ],
)
async def test_the_kind_and_the_account_of_the_default_credentials_are_shown(
    capfd, tmp_path, monkeypatch, watch, facts, shown
):
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps(facts))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    # Nobody listens there, and no request for a token leaves this machine.
    monkeypatch.setenv(f"{SETTING}API_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    found = await examine(capfd, "--project", PROJECT)
    watch.hear("the findings", found.out)
    watch.hear("the problems", found.problems)
    assert re.search(f"Credentials: {shown}", found.out), found.out
    assert only(found, "Could not list the jobs")


@pytest.mark.usefixtures("_no_prefect")
async def test_without_credentials_it_is_said_how_to_get_some(capfd, monkeypatch, tmp_path):
    from prefect_gcp_cloud_run import _default_project

    monkeypatch.setattr(_default_project, "default_project", _default_project.DefaultProject())
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    # No gcloud.
    monkeypatch.setenv("PATH", str(tmp_path))
    found = await examine(capfd)
    assert "Credentials: none in files or from a metadata server; gcloud is not installed either" in found.out
    assert "gcloud auth application-default login" in only(found, "The project is not known")


@pytest.mark.usefixtures("prefect_server", "emulator")
async def test_settings_that_are_not_the_default_are_shown_and_misspelt_ones_found(capfd, monkeypatch):
    observer = SETTING.replace("WORKER", "OBSERVER")
    assert "all have their default values" in (await examine(capfd)).out or "SSL_CERT" in (await examine(capfd)).out
    monkeypatch.setenv(f"{SETTING}RETRY_MAX_SECONDS", "7")
    monkeypatch.setenv(f"{observer}REGIONS", "europe-west1")
    monkeypatch.setenv(f"{SETTING}POL_INTERVAL_SECONDS", leaks.PASSWORD)
    monkeypatch.setenv(f"{SETTING.replace('WORKER', 'V2_WORKER')}ANY", "upstream's own")
    found = await examine(capfd)
    assert f"{SETTING}RETRY_MAX_SECONDS = 7.0" in found.out
    assert f"{observer}REGIONS = ('europe-west1',)" in found.out
    mend = only(found, f"{SETTING}POL_INTERVAL_SECONDS is no setting, and is ignored; {SETTING}POLL_INTERVAL_SECONDS")
    assert mend == f"unset {SETTING}POL_INTERVAL_SECONDS"
    assert leaks.PASSWORD not in found.out
    assert len(found.problems) == 1


@pytest.mark.usefixtures("prefect_server", "emulator")
async def test_a_setting_that_can_not_be_used_is_found_and_no_call_is_sent(capfd, monkeypatch):
    monkeypatch.setenv(f"{SETTING}POLL_INTERVAL_SECONDS", "-1")
    found = await examine(capfd)
    assert only(found, f"{SETTING}POLL_INTERVAL_SECONDS can't be used: ") == f"unset {SETTING}POLL_INTERVAL_SECONDS"
    assert "no call is sent with settings that can't be used" in found.out


@pytest.mark.usefixtures("prefect_server", "emulator")
async def test_a_worker_of_another_distribution_is_found(capfd, monkeypatch):
    foreign = SimpleNamespace(__file__="/elsewhere/cloud_run.py")
    monkeypatch.setitem(sys.modules, _doctor_packages._WORKER, foreign)
    found = await examine(capfd)
    mend = only(found, f"{_doctor_packages._WORKER} is not {OURS}'s")
    assert mend.startswith(f"pip install --force-reinstall --no-deps {OURS}=={_core.__version__}")


@pytest.mark.usefixtures("prefect_server", "emulator")
async def test_a_hook_that_is_switched_off_and_a_broken_upstream_are_mended_where_they_are(capfd, monkeypatch):
    foreign = SimpleNamespace(__file__="/elsewhere/cloud_run.py")
    monkeypatch.setitem(sys.modules, _doctor_packages._WORKER, foreign)
    monkeypatch.setattr(hook.install(), "serves", False)
    off = await examine(capfd)
    assert only(off, f"{_doctor_packages._WORKER} is not {OURS}'s") == f"unset {hook.SWITCH}"
    # With None in its place, the module can't be imported.
    monkeypatch.setitem(sys.modules, _doctor_packages._WORKER, None)
    assert only(await examine(capfd), f"{_doctor_packages._WORKER} can't be imported") == f"unset {hook.SWITCH}"
    real = _doctor_packages._version
    monkeypatch.setattr(_doctor_packages, "_version", lambda name: {UPSTREAM: "0.6.22"}.get(name) or real(name))
    found = await examine(capfd)
    assert f"{UPSTREAM} 0.6.22" in found.out
    mend = only(found, f"{_doctor_packages._WORKER} can't be imported")
    assert mend.startswith(f"pip install --force-reinstall --no-deps {UPSTREAM}==0.6.22 && ")


@pytest.mark.usefixtures("prefect_server", "emulator")
async def test_a_requirement_that_is_not_met_is_found(capfd, monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda _name: ["prefect>=99,<100", "nobody-has-this; extra == 'e'"])
    found = await examine(capfd)
    assert only(found, "prefect ") == "pip install 'prefect<100,>=99'"
    assert len(found.problems) == 1


@pytest.mark.usefixtures("_no_prefect")
@pytest.mark.slow
async def test_the_findings_show_no_secret(capfd, watch, evil_google, monkeypatch, tmp_path):
    key = tmp_path / "key.json"
    key.write_text(json.dumps(evil_google.key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    # The process keeps the token. Tests that follow have other credentials in their environment.
    evil_google.lifetime = 1
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{leaks.PASSWORD}@127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(f"{SETTING}API_ENDPOINT", evil_google.url)
    url = f"http://user:{leaks.PASSWORD}@127.0.0.1:1/api"
    with temporary_settings({PREFECT_API_URL: url}):
        found = await examine(capfd)
    watch.hear("the findings", found.out)
    assert "PREFECT_API_KEY is set (not shown)" in found.out
    assert f"of {evil_google.key['client_email']}" in found.out
    monkeypatch.setenv(f"{SETTING}API_ENDPOINT", f"http://user:{leaks.ENDPOINT_PASSWORD}@127.0.0.1:1")
    watch.hear("the findings", (await examine(capfd)).out)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://user:hunter2@h:4200/api?a=hunter2", "http://h:4200/api"),
        ("https://h/api", "https://h/api"),
        ("http://user:hun/ter2@h/api", None),
        ("http://user:1/hunter2@h/api", None),
        ("http://user:1#hunter2@h/api", None),
        ("user:hunter2@h:4200/api", None),
        ("http://user:hunter2/api", None),
        ("http:///hunter2", None),
        ("http://[hunter2/api", None),
    ],
)
def test_an_address_is_shown_only_where_it_is_known_which_part_is_the_password(address, shown):
    assert _prefect_api.shown_address(address) == shown


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize("url", ["http://user:hun/ter2@h/api", "user:hunter2@h:4200/api", "http://user:hunter2/api"])
async def test_an_address_that_is_not_valid_is_not_shown(capfd, url):
    with temporary_settings({PREFECT_API_URL: url}):
        found = await examine(capfd)
    assert only(found, "The Prefect API at PREFECT_API_URL (not shown, since it is not a valid address) can't be asked")
    assert "hun" not in found.out
    assert "ter2" not in found.out


def test_an_error_in_one_line_has_its_causes_and_no_password():
    error = RuntimeError("no answer from http://user:hunter2@h/api")
    assert first_line(error) == "no answer from http://h/api"

    class Two(BaseModel):
        one: int
        two: dict[str, int]

    with pytest.raises(ValidationError) as caught:
        Two.model_validate({"one": leaks.PASSWORD, "two": {"a": leaks.PASSWORD}})
    assert re.fullmatch(
        r"one: Input should be a valid integer, .*; two\.a: Input should be .*", first_line(caught.value)
    )
    assert leaks.PASSWORD not in first_line(caught.value)


@pytest.mark.usefixtures("prefect_server", "emulator")
async def test_upstreams_class_of_credentials_is_examined_too(capfd, monkeypatch):
    class Upstreams(Block):
        """As upstream's: it looks for default credentials when it is made, and has none of our methods."""

        _block_type_slug = "stand-in-of-upstreams"
        service_account_file: Path | None = None
        service_account_info: SecretDict | None = None
        project: str | None = None

        def block_initialization(self) -> None:
            raise RuntimeError("there are no default credentials")

    for module in (_credentials_of, _doctor_prefect):
        monkeypatch.setattr(module, "GcpCredentials", Upstreams)
    found = await examine(capfd)
    assert found.problems == {}
    assert f"Project {PROJECT}, region " in found.out
    name = f"examined-{uuid4().hex[:8]}"
    await GcpCredentials(project=PROJECT).save(name)  # type: ignore[misc]
    found = await examine(capfd, "--credentials", name)
    assert found.problems == {}


def test_a_reader_that_has_seen_enough_ends_the_command(tmp_path):
    code = "import sys; from prefect_gcp_cloud_run import cli; sys.exit(cli.main(['doctor']))"
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path), "NO_GCE_CHECK": "true"}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        said = running.stderr.read()
    assert (running.returncode, said) == (141, "")


async def test_the_metadata_server_says_whose_credentials_they_are(google: Google, tmp_path):
    host = google.url.removeprefix("http://")
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "GCE_METADATA_HOST": host,
        "GCE_METADATA_IP": host,
        f"{SETTING}API_ENDPOINT": google.url,
        "PREFECT_HOME": str(tmp_path),
    }
    command = [sys.executable, "-m", "prefect_gcp.cli", "doctor"]
    done = await asyncio.to_thread(
        subprocess.run, command, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "Credentials: of this machine, from the metadata server" in done.stdout
    assert "No Prefect API is configured" in done.stdout
    assert done.stderr == ""


def test_what_hangs_does_not_keep_the_program():
    async def hang() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_doctor_google._in_thread(threading.Event().wait), 0.05)

    asyncio.run(hang())


def test_the_options_and_the_exit_codes_are_in_the_docs():
    text = (Path(__file__).parents[2] / "docs/doctor.md").read_text()
    (commands,) = (action for action in cli._parser()._actions if action.dest == "command")
    (options,) = (
        {option for action in parser._actions for option in action.option_strings}
        for name, parser in (commands.choices or {}).items()
        if name == "doctor"
    )
    documented = re.findall(r"`(--?[a-z][a-z-]*)`", "".join(re.findall(r"^\| (`-[^|]*) \|", text, re.MULTILINE)))
    assert set(documented) == options - {"-h", "--help"}
    assert re.findall(r"^\| (\d) \|", text, re.MULTILINE) == ["0", str(EXIT_PROBLEMS), "2"]


ACT_AS, LOGS = "iam.serviceAccounts.actAs", "logging.logEntries.list"
USER_ROLE, VIEWER = "roles/iam.serviceAccountUser", "roles/logging.viewer"


@pytest.mark.parametrize(
    ("permissions", "account", "reads_logs", "expected"),
    [
        (
            [(ACT_AS, "", USER_ROLE, False)],
            "jobs@p",
            True,
            {
                f"The account lacks {ACT_AS} on service account jobs@p": "gcloud iam service-accounts "
                f"add-iam-policy-binding jobs@p --member=user:a@b --role={USER_ROLE} --project={PROJECT}"
            },
        ),
        (
            [(LOGS, "", VIEWER, False)],
            None,
            True,
            {
                f"The account lacks {LOGS} on project {PROJECT}": f"gcloud projects add-iam-policy-binding {PROJECT} "
                f"--member=user:a@b --role={VIEWER}"
            },
        ),
        # Others write the template.
        (
            [(ACT_AS, "", USER_ROLE, False)],
            "a;b",
            True,
            {
                f"The account lacks {ACT_AS} on service account a;b": "gcloud iam service-accounts "
                f"add-iam-policy-binding 'a;b' --member=user:a@b --role={USER_ROLE} --project={PROJECT}"
            },
        ),
        # The settings say that no logs are read.
        ([(LOGS, "", VIEWER, False)], None, False, {}),
        # It may be granted on an account that the template does not name.
        ([(ACT_AS, "", USER_ROLE, None)], None, True, {}),
    ],
)
def test_a_missing_permission_is_mended_where_it_is_missing(capfd, permissions, account, reads_logs, expected):
    findings = Findings()
    access: Any = SimpleNamespace(error=None, permissions=permissions, not_asked=None, is_project_api_disabled=False)
    _doctor_google._show_access(findings, access, PROJECT, "user:a@b", account, reads_logs=reads_logs)
    out = capfd.readouterr().out
    assert dict(re.findall(r"PROBLEM  (.*)\n +to mend: (.*)", out)) == expected
    assert findings.problems == len(expected)
    assert (f"Not checked: {ACT_AS}" in out) == (permissions[0][3] is None)


@pytest.mark.parametrize("is_disabled", [True, False])
def test_an_api_is_to_be_enabled_only_if_it_is_not(capfd, is_disabled):
    why = "cloudresourcemanager.googleapis.com does not say it: HTTP 403: why"
    permissions = [(LOGS, "", VIEWER, None)]
    access: Any = SimpleNamespace(
        error=None, permissions=permissions, not_asked=why, is_project_api_disabled=is_disabled
    )
    _doctor_google._show_access(Findings(), access, PROJECT, "user:a@b", None, reads_logs=True)
    out = capfd.readouterr().out
    assert f"since {why}" in out
    assert ("gcloud services enable" in out) == is_disabled


def test_a_text_from_elsewhere_stays_one_line_without_control_characters(capfd):
    Findings().problem("a\x1b[2J\nPROBLEM  b\u202e" + "c" * 1000, "d\ne")
    out = capfd.readouterr().out
    assert out.startswith("  PROBLEM  a[2J PROBLEM bccc")
    assert out.endswith("c…\n           to mend: d e\n")
    assert len(out.splitlines()) == 2
