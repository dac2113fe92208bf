"""The parts of the bench: which sessions are held, and what else is measured."""

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
from .sessions import Load, session

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = {"ours": "prefect-gcp-cloud-run", "known": "prefect-gcp"}
IMPORT = """
import time
import prefect.workers.base
began = time.perf_counter()
import prefect_gcp.workers.cloud_run
print(time.perf_counter() - began)
"""
# Cloud Run's quotas are per minute; here a minute is as short as this.
MINUTE_SECONDS = 2.0


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: Sessions of the submission part.
        at_once: Runs in one of them.
        ours: The session of the detection part.
        known: The known worker's, which is shorter: its runs of ten minutes would take most of an hour.
        small: The smallest session of the scaling part.
        large: The largest one.
        quotas: Runs, and writes and starts per minute, of each session of the quota part.
        imports: How many processes import the worker.
    """

    rounds: int
    at_once: int
    ours: Load
    known: Load
    small: Load
    large: Load
    quotas: tuple[tuple[int, int], ...]
    imports: int


FULL = Plan(
    rounds=3,
    at_once=50,
    ours=Load(runs=1000, shortest=570, spread=60, watch=120),
    # It has 250 threads, so the last ones start when the first ones have ended, whatever they take.
    known=Load(runs=1000, shortest=60, spread=60, watch=60),
    small=Load(runs=100, shortest=60, spread=60, watch=40),
    large=Load(runs=10_000, shortest=150, spread=60, regions=10, watch=60),
    quotas=((1000, 180), (1000, 30)),
    imports=9,
)
QUICK = Plan(
    rounds=1,
    at_once=10,
    ours=Load(runs=40, shortest=5, spread=2, watch=3),
    known=Load(runs=10, shortest=12, spread=1, watch=2),
    small=Load(runs=4, shortest=3, spread=1, watch=1),
    large=Load(runs=200, shortest=6, spread=2, regions=10, watch=3),
    quotas=((20, 40),),
    imports=2,
)


@dataclass(frozen=True)
class Bench:
    """What is measured with which Python.

    Attributes:
        plan: How much is measured.
        known: The Python of the known worker's environment; none measures ours alone.
        say: Tells the person who waits what is going on.
    """

    plan: Plan
    known: str | None
    say: Callable[[str], None]

    def run(self, part: str) -> Any:
        """Measures one of the parts, which are this class's other methods."""
        return getattr(self, part)()

    def submission(self) -> dict[str, Any]:
        """Some runs at once, several times: from `run()` to the start."""
        load = Load(runs=self.plan.at_once, shortest=3)
        return {kind: [self._hold(kind, load) for _ in range(self.plan.rounds)] for kind in self._kinds}

    def detection(self) -> dict[str, Any]:
        """A thousand runs."""
        loads = {"ours": self.plan.ours, "known": self.plan.known}
        held = {kind: self._hold(kind, loads[kind]) for kind in self._kinds}
        # Apart, because it takes the emulator memory and time to remember calls.
        return held | {"recorded": self._hold("ours", Load(runs=5, shortest=3, record_calls=True))}

    def scaling(self) -> dict[str, Any]:
        """Fewer runs, and more; the known worker can't do more."""
        return {
            "small": {kind: self._hold(kind, self.plan.small) for kind in self._kinds},
            "large": {"ours": self._hold("ours", self.plan.large)},
        }

    def quotas(self) -> list[dict[str, Any]]:
        """More runs at once than a minute's quotas allow."""
        return [
            {kind: self._hold(kind, under_quotas(runs, per_minute)) for kind in self._kinds}
            for runs, per_minute in self.plan.quotas
        ]

    def imports(self) -> dict[str, list[float]]:
        """Seconds that importing the worker takes beyond Prefect's base of it, in a process each."""
        return {kind: self._imports(self._python(kind)) for kind in self._kinds}

    def wheel(self) -> float:
        """Megabytes of our newest wheel."""
        wheel = _newest_wheel()
        return wheel.stat().st_size / 2**20 if wheel else 0.0

    def dependencies(self) -> dict[str, Any]:
        """How many Python packages are installed beyond Prefect's own, and the crates of our newest wheel."""
        wheel = _newest_wheel()
        counts = {kind: packages(self._python(kind), DISTRIBUTIONS[kind]) for kind in self._kinds}
        return {"packages": counts, "crates": len(crates(wheel)) if wheel else 0}

    @property
    def _kinds(self) -> list[str]:
        return ["ours", "known"] if self.known else ["ours"]

    def _python(self, kind: str) -> str:
        return self.known if kind == "known" and self.known else sys.executable

    def _hold(self, kind: str, load: Load) -> dict[str, Any]:
        self.say(
            f"{kind}: {load.runs} runs at once, each of {load.shortest:.0f} to {load.shortest + load.spread:.0f} s"
        )
        return session(kind, self._python(kind), load)

    def _imports(self, python: str) -> list[float]:
        self.say(f"import by {python}")
        times = []
        with home() as place:
            # The first one may have to compile.
            for _ in range(1 + self.plan.imports):
                command = [python, "-c", IMPORT]
                output = subprocess.check_output(command, env=environment(place), cwd=place, timeout=120)  # noqa: S603
                times.append(float(output))
        return times[1:]


PARTS = ("submission", "detection", "scaling", "quotas", "imports", "wheel", "dependencies")


def _newest_wheel() -> Path | None:
    return max((ROOT / "dist").glob("*.whl"), key=lambda path: path.stat().st_mtime, default=None)


def under_quotas(runs: int, per_minute: int) -> Load:
    """So many runs in a region that takes so many writes, and as many starts, in a minute."""
    quotas = {"writes": per_minute, "runs": per_minute, "minuteSeconds": MINUTE_SECONDS}
    return Load(runs=runs, shortest=1, faults={"quotas": quotas})


def least_seconds(runs: int, per_minute: int) -> float:
    """The least time that the quota allows: each run has two writes, and the last minute need not pass."""
    return (math.ceil(2 * runs / per_minute) - 1) * MINUTE_SECONDS
