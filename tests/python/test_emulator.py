"""The emulator in Python: the context manager and the program."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from prefect_gcp.emulator import Emulator
from prefect_gcp.emulator import main as emulator_program
from tests.python import forked

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(host: str, method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        f"http://{host}/apis/run.googleapis.com/v1/namespaces/demo/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with OPENER.open(request, timeout=10) as response:
        return json.load(response)


def run_script(host: str, script: str) -> str:
    """Create a job that runs a shell script, run it, and return the name of the execution."""
    container = {"image": "busybox", "command": ["sh", "-c", script]}
    body = {
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Job",
        "metadata": {"name": "script"},
        "spec": {"template": {"spec": {"template": {"spec": {"containers": [container], "maxRetries": 0}}}}},
    }
    call(host, "POST", "jobs", body)
    return call(host, "POST", "jobs/script:run", {})["metadata"]["name"]


def wait(done: Callable[[], Any]) -> Any:
    end = time.monotonic() + 20
    while not (result := done()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return result


def pids_in(file: Path) -> list[int]:
    wait(lambda: file.exists() and file.read_text().endswith("\n"))
    return [int(pid) for pid in file.read_text().split()]


def is_running(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def children_of(pid: int) -> list[int]:
    listing = subprocess.run(["ps", "-eo", "pid=,ppid=,comm="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listing.splitlines()]
    return [int(child) for child, parent, command in rows if int(parent) == pid and command != "ps"]


@contextmanager
def program(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the emulator as a process, and yield it with its address."""
    command = [sys.executable, "-m", "prefect_gcp.emulator", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "export CLOUD_RUN_EMULATOR_HOST=127.0.0.1:" in line
        yield process, line.rsplit("=", 1)[1].strip()
    finally:
        process.kill()
        process.communicate()


def test_the_context_manager_runs_an_emulator_and_has_its_history(tmp_path: Path) -> None:
    with Emulator(log_dir=tmp_path, ready_after=0, start_after=0, delete_after=0) as emulator:
        assert emulator.url == f"http://{emulator.host}"
        assert emulator.log_dir == tmp_path.resolve()
        name = run_script(emulator.host, "command -v python; echo done")
        wait(lambda: "succeededCount" in emulator.executions()[0]["status"])
        assert [job["metadata"]["name"] for job in emulator.jobs()] == ["script"]
        assert emulator.calls() == []
        log = (tmp_path / f"{name}.log").read_text()
        # Containers find the interpreter of this process first.
        assert log.splitlines()[:2] == [str(Path(sys.executable).parent / "python"), "done"]
    events = {event["type"] for event in emulator.history()[0]["events"]}
    assert events == {"created", "ready", "executionCreated", "executionStarted", "executionSucceeded"}
    with pytest.raises(OSError, match=r"refused"):
        call(emulator.host, "GET", "jobs")


def test_it_listens_on_loopback_by_default() -> None:
    with Emulator() as emulator:
        assert emulator.host.startswith("127.0.0.1:")
    with program() as (_process, host):
        assert host.startswith("127.0.0.1:")


def test_leaving_the_context_ends_all_processes(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    before = children_of(os.getpid())
    with Emulator(ready_after=0, start_after=0) as emulator:
        run_script(emulator.host, f"trap '' TERM; sleep 300 & echo $$ $! > {pids}; wait")
        started = pids_in(pids)
    assert not any(map(is_running, started))
    assert children_of(os.getpid()) == before


def test_simulated_executions_run_nothing(tmp_path: Path) -> None:
    with Emulator(executor="simulated", duration=0.01, outcome="failure", ready_after=0, start_after=0) as emulator:
        run_script(emulator.host, f"touch {tmp_path}/ran")
        wait(lambda: "failedCount" in emulator.executions()[0]["status"])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "setting", [{"ready_after": -1}, {"host": "example.com"}, {"executor": "simulated", "outcome": "x"}]
)
def test_an_invalid_setting_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"seconds|address|one of"), Emulator(**setting):
        pass


def test_an_emulator_is_started_once_and_not_used_before() -> None:
    emulator = Emulator()
    with pytest.raises(RuntimeError, match="not started"):
        _ = emulator.host
    with emulator:
        pass
    with pytest.raises(RuntimeError, match="only once"), emulator:
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_ends_with_status_0_and_without_orphans(number: signal.Signals, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with program("--ready-after", "0", "--start-after", "0", "--log-dir", str(tmp_path / "logs")) as (process, host):
        name = run_script(host, f"trap '' TERM; sleep 300 & echo $$ $! > {pids}; wait")
        started = [*pids_in(pids), *children_of(process.pid)]
        process.send_signal(number)
        assert process.wait(timeout=10) == 0
        assert not any(map(is_running, started))
        assert (tmp_path / "logs" / f"{name}.log").exists()
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_killed_program_leaves_no_process(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with program("--ready-after", "0", "--start-after", "0") as (process, host):
        run_script(host, f"sleep 300 & echo $$ $! > {pids}; wait")
        started = [*pids_in(pids), *children_of(process.pid)]
        process.kill()
        process.wait()
        wait(lambda: not any(map(is_running, started)))


def test_the_program_passes_its_options_to_the_emulator() -> None:
    options = ["--project", "demo", "--project", "more", "--executor", "simulated", "--secret", "a=b", "--record-calls"]
    with program(*options) as (_, host):
        run_script(host, "true")
        with OPENER.open(f"http://{host}/emulator/calls", timeout=10) as response:
            assert [recorded["status"] for recorded in json.load(response)] == [200, 200]
        with pytest.raises(OSError, match="403"):
            OPENER.open(f"http://{host}/apis/run.googleapis.com/v1/namespaces/other/jobs", timeout=10)


def test_a_port_in_use_gives_one_line_of_error_and_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = forked.run("prefect_gcp.emulator", "--port", port, timeout=30)
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert f"127.0.0.1:{port}" in result.stderr
    assert "(os error 98). Choose another --port" in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--port", "99999", "must be 0 to 65535, got 99999"),
        ("--port", "http", "must be 0 to 65535, got http"),
        ("--ready-after", "-1", "must be a number of seconds of at least 0, got -1"),
        ("--start-after", "soon", "must be a number of seconds of at least 0, got soon"),
        ("--duration", "nan", "must be a number of seconds of at least 0, got nan"),
    ],
)
def test_an_invalid_value_is_refused_with_the_name_of_its_option(option, value, words, capsys):
    with pytest.raises(SystemExit):
        emulator_program([option, value])
    assert f"argument {option}: {words}" in capsys.readouterr().err


def test_an_invalid_port_is_refused():
    with pytest.raises(ValueError, match="port must be 0 to 65535, got 99999"):
        Emulator(port=99999)


def test_faults_are_set_from_python():
    with Emulator(faults={"rules": [{"fault": {"status": {"code": 503}}, "times": 1}]}, record_calls=True) as emulator:
        with pytest.raises(urllib.error.HTTPError, match="503"):
            call(emulator.host, "GET", "jobs")
        assert call(emulator.host, "GET", "jobs")["items"] == []
        assert emulator.faults_met() == {"status 503": 1}
        assert [call.get("fault") for call in emulator.calls()] == ["status 503", None]
        emulator.set_faults({"rules": [{"fault": {"stale": 5}}]})
        assert emulator.faults_met() == {}
        with pytest.raises(ValueError, match=r"rules\[0\]: unknown call 'jobs.walk'; known calls are jobs.create, "):
            emulator.set_faults({"rules": [{"fault": "reset", "calls": ["jobs.walk"]}]})


@pytest.mark.parametrize("as_file", [True, False])
def test_the_program_accepts_faults_and_refuses_invalid_ones(tmp_path, as_file):
    def argument(faults: str) -> str:
        if not as_file:
            return faults
        (tmp_path / "faults.json").write_text(faults)
        return str(tmp_path / "faults.json")

    reset = argument('{"rules": [{"fault": "reset", "calls": ["jobs.list"]}]}')
    with program("--faults", reset) as (_, host), pytest.raises((ConnectionError, urllib.error.URLError)):
        call(host, "GET", "jobs")
    for wrong, words in (('{"rule": []}', "faults: unknown field `rule`"), ('{"rules": ', "could not read the faults")):
        refused = forked.run("prefect_gcp.emulator", "--port", "0", "--faults", argument(wrong))
        assert refused.returncode in (1, 2)
        assert words in refused.stderr
        assert "Traceback" not in refused.stderr
