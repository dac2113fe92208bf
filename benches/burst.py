"""Measures bursts of flow runs that become due at once: `python -m benches.burst`, or `make bench-burst`.

A Prefect server on PostgreSQL, an emulator that only simulates executions, and `prefect worker start` run on this
machine. This worker is compared with the upstream worker (prefect-gcp), and with itself without each of its parts.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .bursting.database import ABSENT, postgres, programs
from .bursting.session import Contender, burst, prefect_server
from .watching.processes import environment
from .watching.report import number

ROOT = Path(__file__).parents[1]
RUNS = [50, 100, 200, 1000]
# The parts are compared with these.
PARTS_WITH = 200
# The upstream worker has 250 threads, and each holds a flow run until its execution ends: 1,000 would never all start.
UPSTREAM_WITH = (50, 200)
LIMIT = 600.0
HEAD = (
    "| flow runs | worker | first start | median | last | requests per run | CPU, worker | CPU, server | memory |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints one table, and returns the exit status.

    Args:
        arguments: Command line without the program's name; None takes the process's own.
    """
    options = _parser().parse_args(arguments)
    if not options.sqlite and programs() is None:
        sys.stderr.write(f"{ABSENT}\n")
        return 1
    upstream = None if options.ours_only else str(options.upstream.absolute())
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
        env = environment(str(home)) | {"GOOGLE_CLOUD_PROJECT": "bench", "PREFECT_LOGGING_TO_API_ENABLED": "true"}
        database = {}
        if not options.sqlite:
            url = stack.enter_context(postgres(home, _free_port()))
            database = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url}
        server = stack.enter_context(prefect_server(sys.executable, env | database, home, _free_port()))
        env["PREFECT_API_URL"] = server.url
        results = []
        for runs in options.runs:
            for contender in contenders(runs, upstream, with_parts=options.parts, at_once=options.at_once):
                _say(f"{contender.name}: {runs} flow runs")
                results.append(burst(contender, runs, server, env, home, LIMIT))
                _say(row(results[-1]).strip())
    options.output.mkdir(exist_ok=True, parents=True)
    (options.output / "burst.json").write_text(json.dumps(results, indent=1))
    sys.stdout.write(HEAD + "".join(map(row, results)))
    sys.stdout.write(requests(results))
    return 0


def contenders(runs: int, upstream: str | None, *, with_parts: bool, at_once: Sequence[int] = ()) -> list[Contender]:
    """The workers that are measured with this many flow runs."""
    found = [Contender("here", "ours", sys.executable)]
    if upstream and runs in UPSTREAM_WITH:
        found.append(Contender("upstream worker", "upstream", upstream))
    setting = "PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_WORKER_SUBMISSIONS_AT_ONCE"
    if runs == PARTS_WITH and with_parts:
        off = {
            "environment": "here, Prefect's settings written out for each run",
            "order": "here, all submissions at once",
            "sharing": "here, each run reads for itself",
            "environment,order,sharing": "here, none of the three",
        }
        found += [Contender(name, "ours", sys.executable, parts) for parts, name in off.items()]
    found += [Contender(f"here, {n} at once", "ours", sys.executable, "-", ((setting, str(n)),)) for n in at_once]
    return found


def row(seen: dict[str, Any]) -> str:
    """A row of the table."""
    times = [number(seen[name], "s") for name in ("first", "median", "last")]
    missing = seen["runs"] - seen["started"]
    cells = [
        f"{seen['runs']:,}",
        seen["name"] + (f" ({missing} did not start in {LIMIT:.0f} s)" if missing else ""),
        *times,
        number(seen["calls per run"]),
        number(seen["worker CPU"], "s"),
        number(seen["server CPU"], "s"),
        number(seen["MB"], "MB"),
    ]
    return f"| {' | '.join(cells)} |\n"


def requests(results: list[dict[str, Any]]) -> str:
    """A table of the requests per flow run, for the runs that the parts are compared with."""
    measured = [seen["runs"] for seen in results]
    with_runs = PARTS_WITH if PARTS_WITH in measured else measured[0]
    compared = {seen["name"]: seen for seen in results if seen["runs"] == with_runs}
    names = [name for name in ("here", "here, none of the three", "upstream worker") if name in compared]
    if not names:
        return ""
    asked = sorted({call for name in names for call in compared[name]["calls"]})
    lines = [
        f"| `{call.replace('/api', '')}` | "
        + " | ".join(number(compared[name]["calls"].get(call, 0) / compared[name]["runs"]) for name in names)
        + " |\n"
        for call in asked
    ]
    return f"\n| request | {' | '.join(names)} |\n|---|{'---|' * len(names)}\n" + "".join(lines)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches.burst", description=(__doc__ or "").partition("\n\n")[0])
    add = parser.add_argument
    add("--runs", type=_numbers, default=RUNS, metavar="N,…", help="numbers of flow runs (default: 50,100,200,1000)")
    add("--sqlite", action="store_true", help="a server on SQLite: the small form, for 50 flow runs")
    add("--ours-only", action="store_true", help="measure only this worker")
    add("--no-parts", dest="parts", action="store_false", help="measure no worker with parts switched off")
    add("--at-once", type=_numbers, default=[], metavar="N,…", help="also measure other values of SUBMISSIONS_AT_ONCE")
    add("--upstream", type=Path, default=ROOT / ".venv-bench/bin/python", help="Python that has the upstream worker")
    add("--output", type=Path, default=ROOT / ".bench", help="directory of the raw results (default: .bench)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
