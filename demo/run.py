"""Runs a Prefect flow on an emulated Cloud Run, from deployment to clean-up, with Prefect's own commands.

All files are in `.demo/` inside the clone, and all servers listen on loopback addresses. The demo stops them at its
end. With `--wait` it first waits until Enter is pressed, so that you can open the two web pages.

The exit status is 0 only if the flow run is Completed and its job was deleted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".demo"
BIN = Path(sys.executable).parent
# The same names as in flow.py. The demo does not import flow.py, because Prefect would read the environment too early.
POOL = "demo-pool"
DEPLOYMENT = "greet/demo"
# Maximum time for the start of a server, and for the flow run, in seconds.
START_TIMEOUT = 120
RUN_TIMEOUT = 300


class DemoError(Exception):
    """A step of the demo failed, and the demo can't go on."""


def main() -> int:
    """Run the demo and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wait", action="store_true", help="wait until Enter is pressed before stopping the servers")
    arguments = parser.parse_args()

    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir()
    # Exit normally on SIGTERM, for example from a CI timeout, so that all servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with contextlib.ExitStack() as stack:
            return demo(stack, arguments.wait)
    except DemoError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def demo(stack: contextlib.ExitStack, wait: bool) -> int:
    """Start the servers and the worker, run the flow, and print what happened."""
    prefect_url, emulator_url = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    env = environment(prefect_url, emulator_url)

    say("Starting a Prefect server and the Cloud Run emulator")
    port = prefect_url.rpartition(":")[2]
    words = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", port)
    stack.enter_context(service("server", env, *words, ready=f"{prefect_url}/api/health"))
    port = emulator_url.rpartition(":")[2]
    words = ("python", "-m", "prefect_gcp.emulator", "--port", port, "--log-dir", str(HOME / "logs"))
    stack.enter_context(service("emulator", env, *words, ready=f"{emulator_url}/emulator/history"))
    print(f"  Prefect:            {prefect_url}")
    print(f"  Emulated Cloud Run: {emulator_url}")

    say("Creating a work pool, a deployment and a worker")
    command(env, "prefect", "work-pool", "create", POOL, "--type", "cloud-run")
    command(env, "python", str(Path(__file__).with_name("flow.py")), show="python demo/flow.py")
    stack.enter_context(
        service("worker", env, "prefect", "worker", "start", "--pool", POOL, "--type", "cloud-run", "--name", "demo")
    )

    say("Running the deployment")
    command(env, "prefect", "deployment", "run", DEPLOYMENT, "--param", "name=Cloud Run")
    run = follow(prefect_url)
    life = job_life(emulator_url)

    say("The log of the flow run")
    print_log(prefect_url, run["id"])
    say("The history of its job in the emulated Cloud Run")
    print_life(life)

    completed = run["state"]["type"] == "COMPLETED"
    gone = life["events"][-1]["type"] == "deleted"
    say(f"The flow run is {run['state']['name']}, and its job is {'gone' if gone else 'still there'}")
    if run["state"].get("message") and not completed:
        print(f"  {run['state']['message']}")
    if wait:
        with contextlib.suppress(EOFError):
            input(f"  {prefect_url} and {emulator_url} keep running until you press Enter: ")
    print(f"  All logs are in {HOME.relative_to(ROOT)}/. `make demo ARGS=--wait` keeps both pages open.")
    return 0 if completed and gone else 1


def environment(prefect_url: str, emulator_url: str) -> dict[str, str]:
    """Return an environment without the user's own settings of Prefect and Google."""
    foreign = ("PREFECT_", "GOOGLE_", "CLOUD_RUN_", "CLOUDSDK_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return env | {
        "PATH": f"{BIN}{os.pathsep}{env.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": "127.0.0.1",
        "PREFECT_HOME": str(HOME / "prefect"),
        "PREFECT_API_URL": f"{prefect_url}/api",
        "PREFECT_UI_URL": prefect_url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "DO_NOT_TRACK": "1",
        "CLOUD_RUN_EMULATOR_HOST": emulator_url.removeprefix("http://"),
    }


@contextlib.contextmanager
def service(name: str, env: dict[str, str], *words: str, ready: str | None = None) -> Iterator[None]:
    """Run a program while the context is open, with its output in a file. Wait first until the URL `ready` answers."""
    with (HOME / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [str(BIN / words[0]), *words[1:]], env=env, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while ready and not answers(ready):
            if process.poll() is not None or time.monotonic() > deadline:
                raise DemoError(f"the {name} did not start: see {HOME.relative_to(ROOT)}/{name}.log")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def command(env: dict[str, str], *words: str, show: str | None = None) -> None:
    """Run a command to its end."""
    print(f"  $ {show or shlex.join(words)}")
    done = subprocess.run([str(BIN / words[0]), *words[1:]], env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DemoError(f"{words[0]} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")


def follow(prefect_url: str) -> dict[str, Any]:
    """Print each state of the only flow run, and return the flow run once its state is final."""
    deadline = time.monotonic() + RUN_TIMEOUT
    shown = None
    while time.monotonic() < deadline:
        runs = call(f"{prefect_url}/api/flow_runs/filter", {})
        run = runs[0] if runs else None
        if run and run["state"]["name"] != shown:
            shown = run["state"]["name"]
            print(f"  {clock(run['state']['timestamp'])}  {run['name']} is {shown}")
        if run and run["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            return dict(run)
        time.sleep(0.3)
    raise DemoError(f"the flow run did not end within {RUN_TIMEOUT} s: see {HOME.relative_to(ROOT)}/worker.log")


def job_life(emulator_url: str) -> dict[str, Any]:
    """Return the history of the only job, once it was deleted or after 30 seconds."""
    deadline = time.monotonic() + 30
    while True:
        jobs = call(f"{emulator_url}/emulator/history")["jobs"]
        if jobs and jobs[0]["events"][-1]["type"] == "deleted":
            return dict(jobs[0])
        if time.monotonic() > deadline:
            if not jobs:
                raise DemoError(f"the emulator saw no job: see {HOME.relative_to(ROOT)}/worker.log")
            return dict(jobs[0])
        time.sleep(0.3)


def print_log(prefect_url: str, flow_run_id: str) -> None:
    """Print the log of the flow run: the lines of the worker and of the flow."""
    query = {"logs": {"flow_run_id": {"any_": [flow_run_id]}}, "sort": "TIMESTAMP_ASC"}
    # The worker sends its log lines to the server with a delay.
    time.sleep(3)
    for line in call(f"{prefect_url}/api/logs/filter", query):
        print(f"  {clock(line['timestamp'])}  {line['name'].removeprefix('prefect.'):<17} {line['message']}")


def print_life(life: dict[str, Any]) -> None:
    """Print the history of a job."""
    print(f"  {life['job']} in {life['project']}, {life['region']}")
    for event in life["events"]:
        detail = "  ".join(event[key] for key in ("execution", "message") if key in event)
        print(f"  {clock(event['time'])}  {event['type']:<18} {detail}")


def call(url: str, body: Any = None) -> Any:
    """Send a GET, or a POST with a JSON body, and return the JSON of the response."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310, loopback only
    with opener.open(request, timeout=30) as response:
        return json.load(response)


# All URLs are loopback addresses, which no proxy can reach.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def answers(url: str) -> bool:
    """Return whether a GET succeeds."""
    try:
        call(url)
    except OSError:
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Return different ports that are free."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


def clock(timestamp: str) -> str:
    """Return the time of day of an RFC 3339 timestamp."""
    return timestamp[11:23]


def say(text: str) -> None:
    """Print the heading of a part of the demo."""
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
