"""The parts of the bench: the sessions of each, and what is measured without a session."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .dependencies import crates, packages
from .processes import environment, home
from .sessions import Load, pair, session

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = {"ours": "prefect-gcp-cloud-run", "upstream": "prefect-gcp"}
IMPORT = """
import time
import prefect.workers.base
began = time.perf_counter()
import prefect_gcp.workers.cloud_run
print(time.perf_counter() - began)
"""
# Cloud Run's quotas are per minute. The emulator's minute is this short, so that a session is.
MINUTE_SECONDS = 2.0
# How many executions run at a time in the full region, and how long each takes, in seconds.
ROOM = 20
STAY = 2.0
# Writes and starts per minute that two workers share, and how many seconds later the second one begins.
SHARED = 60
APART = 8.0


@dataclass(frozen=True)
class Plan:
    """How much each part measures.

    Attributes:
        rounds: Number of sessions in the submission part.
        at_once: Number of runs in each of them.
        ours: Load of the detection part for this worker.
        upstream: Load of the detection part for the upstream worker. It is shorter, because its 1,000 runs of ten
            minutes would take most of an hour.
        small: Smallest load of the scaling part.
        large: Largest load of the scaling part, for this worker only.
        quotas: For each session of the quota part, the number of runs, and the writes and starts allowed per minute.
        crowd: Number of runs at once in a region that has room for `ROOM` executions.
        refused: Number of runs at once when a tenth of all calls is refused by chance.
        pair: Runs of the first and of the second worker that share a quota.
        imports: Number of processes that import the worker.
    """

    rounds: int
    at_once: int
    ours: Load
    upstream: Load
    small: Load
    large: Load
    quotas: tuple[tuple[int, int], ...]
    crowd: int
    refused: int
    pair: tuple[int, int]
    imports: int


FULL = Plan(
    rounds=3,
    at_once=50,
    ours=Load(runs=1000, shortest=570, spread=60, watch=120),
    # It has 250 threads, so the last runs start only when the first ones have ended.
    upstream=Load(runs=1000, shortest=60, spread=60, watch=60),
    small=Load(runs=100, shortest=60, spread=60, watch=40),
    large=Load(runs=10_000, shortest=150, spread=60, regions=10, watch=60),
    quotas=((1000, 180), (1000, 30)),
    crowd=200,
    refused=200,
    pair=(600, 60),
    imports=9,
)
QUICK = Plan(
    rounds=1,
    at_once=10,
    ours=Load(runs=40, shortest=5, spread=2, watch=3),
    upstream=Load(runs=10, shortest=12, spread=1, watch=2),
    small=Load(runs=4, shortest=3, spread=1, watch=1),
    large=Load(runs=200, shortest=6, spread=2, regions=10, watch=3),
    quotas=((20, 40),),
    crowd=30,
    refused=20,
    pair=(60, 10),
    imports=2,
)


@dataclass(frozen=True)
class Bench:
    """Measures the parts.

    Attributes:
        plan: How much each part measures.
        upstream: Python of the upstream worker's environment, or None to measure this worker alone.
        say: Shows a line of progress.
    """

    plan: Plan
    upstream: str | None
    say: Callable[[str], None]

    def run(self, part: str) -> Any:
        """Measures a part: the method of that name."""
        return getattr(self, part)()

    def submission(self) -> dict[str, Any]:
        """Latency from `run()` to the start of the execution, for some runs at once, in several sessions."""
        load = Load(runs=self.plan.at_once, shortest=3)
        return {kind: [self._hold(kind, load) for _ in range(self.plan.rounds)] for kind in self._kinds}

    def detection(self) -> dict[str, Any]:
        """Latency from an execution's end to the return of `run()`, and the cost of watching, with 1,000 runs."""
        loads = {"ours": self.plan.ours, "upstream": self.plan.upstream}
        held = {kind: self._hold(kind, loads[kind]) for kind in self._kinds}
        # A session of its own, because recording calls costs the emulator memory and time.
        return held | {"recorded": self._hold("ours", Load(runs=5, shortest=3, record_calls=True))}

    def scaling(self) -> dict[str, Any]:
        """Memory, CPU and latency with fewer and with more runs. The upstream worker is not measured with more."""
        return {
            "small": {kind: self._hold(kind, self.plan.small) for kind in self._kinds},
            "large": {"ours": self._hold("ours", self.plan.large)},
        }

    def quotas(self) -> list[dict[str, Any]]:
        """More runs at once than the quotas of one minute allow."""
        return [
            {kind: self._hold(kind, under_quotas(runs, per_minute)) for kind in self._kinds}
            for runs, per_minute in self.plan.quotas
        ]

    def full_region(self) -> dict[str, Any]:
        """More runs at once than executions may run."""
        load = Load(runs=self.plan.crowd, shortest=STAY, faults={"quotas": {"runningExecutions": ROOM}})
        return {kind: self._hold(kind, load) for kind in self._kinds}

    def random_refusals(self) -> dict[str, Any]:
        """A tenth of all calls is refused, though there is no quota."""
        refusal = {"status": {"code": 429, "reason": "RATE_LIMIT_EXCEEDED"}}
        load = Load(runs=self.plan.refused, shortest=1, faults={"rules": [{"fault": refusal, "ratio": 0.1}], "seed": 1})
        return {kind: self._hold(kind, load) for kind in self._kinds}

    def two_workers(self) -> dict[str, Any]:
        """A second worker that begins beside the backlog of another one, on the same quota."""
        first, second = (under_quotas(runs, SHARED) for runs in self.plan.pair)
        self.say(f"two workers: {first.runs} runs, and {second.runs} runs {APART:.0f} s later")
        return {kind: pair(kind, self._python(kind), first, second, APART) for kind in self._kinds}

    def imports(self) -> dict[str, list[float]]:
        """Seconds to import the worker when Prefect's base class is loaded already, each in a new process."""
        return {kind: self._imports(self._python(kind)) for kind in self._kinds}

    def wheel(self) -> float:
        """Size of the newest wheel in `dist/`, in megabytes."""
        wheel = _newest_wheel()
        return wheel.stat().st_size / 2**20 if wheel else 0.0

    def dependencies(self) -> dict[str, Any]:
        """Number of Python packages beyond Prefect's own, and of crates in the newest wheel."""
        wheel = _newest_wheel()
        counts = {kind: packages(self._python(kind), DISTRIBUTIONS[kind]) for kind in self._kinds}
        return {"packages": counts, "crates": len(crates(wheel)) if wheel else 0}

    @property
    def _kinds(self) -> list[str]:
        return ["ours", "upstream"] if self.upstream else ["ours"]

    def _python(self, kind: str) -> str:
        return self.upstream if kind == "upstream" and self.upstream else sys.executable

    def _hold(self, kind: str, load: Load) -> dict[str, Any]:
        self.say(
            f"{kind}: {load.runs} runs at once, each of {load.shortest:.0f} to {load.shortest + load.spread:.0f} s"
        )
        return session(kind, self._python(kind), load)

    def _imports(self, python: str) -> list[float]:
        self.say(f"import by {python}")
        times = []
        with home() as place:
            # The first import may have to compile, so it does not count.
            for _ in range(1 + self.plan.imports):
                command = [python, "-c", IMPORT]
                output = subprocess.check_output(command, env=environment(place), cwd=place, timeout=120)  # noqa: S603
                times.append(float(output))
        return times[1:]


PARTS = (
    "submission",
    "detection",
    "scaling",
    "quotas",
    "full_region",
    "random_refusals",
    "two_workers",
    "imports",
    "wheel",
    "dependencies",
)


def _newest_wheel() -> Path | None:
    return max((ROOT / "dist").glob("*.whl"), key=lambda path: path.stat().st_mtime, default=None)


def under_quotas(runs: int, per_minute: int) -> Load:
    """A load in a region that allows this many writes, and this many starts, per minute."""
    quotas = {"writes": per_minute, "runs": per_minute, "minuteSeconds": MINUTE_SECONDS}
    return Load(runs=runs, shortest=1, faults={"quotas": quotas})


def least_seconds(runs: int, per_minute: int) -> float:
    """The shortest time that the quota allows. Each run makes two writes, and the last minute need not pass."""
    return (math.ceil(2 * runs / per_minute) - 1) * MINUTE_SECONDS
