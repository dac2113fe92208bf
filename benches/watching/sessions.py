"""One session: some runs at once through one worker, and the measurements of it."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from .processes import READS, Emulator, Watcher, Worker, home

# How much longer than the longest execution a session may take.
PATIENCE_SECONDS = 420.0
REGIONS = (
    "us-central1",
    "us-east1",
    "us-east4",
    "us-west1",
    "europe-west1",
    "europe-west2",
    "europe-north1",
    "asia-east1",
    "asia-south1",
    "australia-southeast1",
)


@dataclass(frozen=True)
class Load:
    """The load of a session.

    Attributes:
        runs: Number of flow runs, all handed to the worker at once.
        shortest: Shortest duration of an execution, in seconds.
        spread: How much longer the longest execution is, in seconds.
        regions: Number of regions that the runs are spread over.
        watch: How long to measure the worker while all runs are going and none ends, in seconds at most.
        faults: Faults of the emulator.
        record_calls: Whether the emulator records calls.
        ready_after: Seconds until a job is ready.
    """

    runs: int
    shortest: float
    spread: float = 0.0
    regions: int = 1
    watch: float = 0.0
    faults: dict[str, Any] = field(default_factory=dict)
    record_calls: bool = False
    ready_after: float = 0.2


def session(kind: str, python: str, load: Load) -> dict[str, Any]:
    """Holds a session.

    Args:
        kind: "ours" or "upstream".
        python: Python of the worker's environment.
        load: The load.

    Returns:
        The measurements: numbers, texts and lists. Latencies are in seconds, sorted.
    """
    limit = load.shortest + load.spread + PATIENCE_SECONDS
    spec = {
        "load": {
            "runs": load.runs,
            "regions": list(REGIONS[: load.regions]),
            "shortest": load.shortest,
            "spread": load.spread,
        },
        "limit": limit,
        "minute": load.faults.get("quotas", {}).get("minuteSeconds", 60),
    }
    with (
        home() as place,
        Emulator(place, load.record_calls, load.ready_after) as emulator,
        Worker(kind, python, emulator.host, place, spec) as worker,
    ):
        seen: dict[str, Any] = {"kind": kind, "load": asdict(load), "idle MB": worker.megabytes()}
        seen["idle threads"] = worker.threads()
        worker.send("prepare")
        worker.expect("prepared", 120)
        emulator.set_faults(load.faults)
        before = emulator.counts()
        began, whole = time.monotonic(), Watcher(worker)
        threading.Thread(target=whole.sample, args=[limit], daemon=True).start()
        worker.send("go")
        submitted = worker.expect("submitted", limit + 30)["at"]
        seen["reads until submitted"] = emulator.counts() - before
        until_first_end = began + load.shortest - time.monotonic()
        if load.watch:
            seen |= _watch(worker, emulator, until_first_end, load.watch)
        early = emulator.lives() if load.runs > 900 else {}
        done = worker.expect("done", limit + 30)
        seen |= {"most MB": whole.megabytes, "most threads": whole.threads, "mean CPU %": whole.cpu_percent}
        seen |= _latencies(done, submitted, early, emulator.lives())
        seen["calls"] = emulator.counts() - before
        met = emulator.get("faults")["met"]
        seen["refused by a quota"] = met.get("quota", 0)
        seen["refused"] = sum(met.get(name, 0) for name in ("quota", "limit", "status 429"))
        if load.record_calls:
            seen["reads of executions"], seen["with fields"] = _reads_with_fields(emulator.get("calls"))
        return seen


def pair(kind: str, python: str, first: Load, second: Load, apart: float) -> dict[str, Any]:
    """Holds a session of two workers that don't know of each other, in one region.

    Args:
        kind: "ours" or "upstream".
        python: Python of the workers' environment.
        first: The load of the first worker. Its faults hold for both.
        second: The load of the second one.
        apart: How many seconds later the second one begins.

    Returns:
        The measurements of both, `first` and `second`, and the calls of both together.
    """
    limit = first.shortest + second.shortest + apart + PATIENCE_SECONDS
    minute = first.faults["quotas"]["minuteSeconds"]

    def spec(load: Load, prefix: str) -> dict[str, Any]:
        runs = {"runs": load.runs, "shortest": load.shortest, "spread": load.spread, "prefix": prefix}
        return {"load": runs | {"regions": [REGIONS[0]]}, "limit": limit, "minute": minute}

    with (
        home() as place,
        home() as other_place,
        Emulator(place, record_calls=False, ready_after=first.ready_after) as emulator,
        Worker(kind, python, emulator.host, place, spec(first, "first")) as one,
        Worker(kind, python, emulator.host, other_place, spec(second, "second")) as two,
    ):
        for worker in (one, two):
            worker.send("prepare")
            worker.expect("prepared", 120)
        emulator.set_faults(first.faults)
        before = emulator.counts()
        one.send("go")
        time.sleep(apart)
        two.send("go")
        seen: dict[str, Any] = {"kind": kind, "load": asdict(first), "second load": asdict(second)}
        for name, worker in (("second", two), ("first", one)):
            submitted = worker.expect("submitted", limit + 30)["at"]
            done = worker.expect("done", limit + 30)
            seen[name] = _latencies(done, submitted, {}, emulator.lives())
        seen["calls"] = emulator.counts() - before
        seen["refused"] = emulator.get("faults")["met"].get("quota", 0)
        return seen


def _watch(worker: Worker, emulator: Emulator, until_first_end: float, most: float) -> dict[str, Any]:
    """Memory, threads, CPU and reads of the worker while all runs are going and none ends."""
    # The work that the submission left behind is done first.
    settle = min(5.0, max(until_first_end / 4, 0))
    time.sleep(settle)
    before, watcher = emulator.counts(), Watcher(worker)
    watcher.sample(max(min(most, until_first_end - settle - 1), 0))
    calls = emulator.counts() - before
    return {
        "watched seconds": watcher.seconds,
        "MB": watcher.megabytes,
        "threads": watcher.threads,
        # The kernel counts in hundredths of a second, so a short time says nothing.
        "CPU %": watcher.cpu_percent if watcher.seconds >= 1 else None,
        "reads while watched": sum(calls[method] for method in READS) if before else None,
    }


def _latencies(
    done: dict[str, Any], submitted: float, early: dict[str, dict[str, float]], late: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """Turns the times of runs and executions into the latencies that a user sees."""
    runs, began = done["runs"], done["began"]
    starts = sorted(run["started"] for run in runs if run["started"])
    detections, computed = [], []
    for run in runs:
        events = early.get(run["job"], {}) | late.get(run["job"], {})
        end = events.get("executionSucceeded")
        if "executionStarted" in events:
            due = events["executionStarted"] + run["duration"]
            if end:
                computed.append(end - due)
            # The emulator forgets old jobs. Their end is computed; its timers are exact to some milliseconds.
            end = end or due
        if end and run["ended"] and run["outcome"] == 0:
            detections.append(run["ended"] - end)
    failed = [run for run in runs if run["outcome"] != 0]
    return {
        "submissions": [start - began for start in starts],
        "longest pause between two starts": max(
            (later - earlier for earlier, later in zip([began, *starts], starts, strict=False)), default=None
        ),
        "all submitted after": submitted - began,
        "detections": sorted(detections),
        "latest end after its time": max(computed, default=None),
        "took": max((run["ended"] for run in runs if run["ended"]), default=submitted) - began,
        "failed": len(failed),
        "unended": sum(run["ended"] is None for run in runs),
        "failures": sorted({str(run["outcome"])[:300] for run in failed})[:5],
    }


def _reads_with_fields(calls: list[dict[str, Any]]) -> tuple[int, int]:
    """Number of reads of executions, and how many of them asked for some fields only."""
    reads = [call for call in calls if call["method"] == "GET" and "/executions" in call["path"]]
    return len(reads), sum(any(name == "fields" for name, _ in call["query"]) for call in reads)
