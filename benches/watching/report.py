"""Turns the results into one table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from .parts import APART, MINUTE_SECONDS, ROOM, SHARED, STAY, least_seconds
from .processes import READS

# The upstream worker reads each run's execution this often.
UPSTREAM_POLL_SECONDS = 5
TICK_SECONDS = 2
HEAD = "| what | goal | here | upstream worker (prefect-gcp) |\n|---|---|---|---|\n"
# Shown where nothing was or can be measured.
NOTHING = "-"
Row = tuple[str, str, str, str]
Seen = dict[str, Any]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that this many percent of them do not exceed; NaN without values."""
    ranked = sorted(values)
    return ranked[max(math.ceil(len(ranked) * percent / 100) - 1, 0)] if ranked else math.nan


def table(results: dict[str, Any]) -> str:
    """A Markdown table with the rows of all parts that have results."""
    rows = [row for part, make in ROWS.items() if part in results for row in make(results[part])]
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def number(value: float | None, unit: str = "") -> str:
    """The number with three digits, or a dash for None and NaN."""
    if value is None or math.isnan(value):
        return NOTHING
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:,.{min(digits, 2)}f}"
    return f"{text} {unit}".rstrip()


def _p50_p99(values: Sequence[float]) -> str:
    return f"{number(percentile(values, 50))} / {number(percentile(values, 99))} s"


def _both(part: dict[str, Any], show: Callable[[Any], str]) -> tuple[str, str]:
    return show(part["ours"]), show(part["upstream"]) if "upstream" in part else NOTHING


def _runs(seen: Seen) -> str:
    return f"{seen['load']['runs']:,}"


def _had_rest(seen: Seen) -> bool:
    """Whether all runs were going at once for a while. A worker that starts the last run late has no such time."""
    return seen.get("CPU %") is not None


def _over_idle(seen: Seen) -> str:
    if _had_rest(seen):
        return number(seen["MB"] - seen["idle MB"], "MB")
    return number(seen["most MB"] - seen["idle MB"], "MB at most")


def _threads(seen: Seen) -> str:
    return str(seen["threads"]) if _had_rest(seen) else f"{seen['most threads']} at most"


def _cpu(seen: Seen) -> str:
    if _had_rest(seen):
        return number(seen["CPU %"], "%")
    return number(seen["mean CPU %"], "% on average, never at rest")


def _submission(part: dict[str, list[Seen]]) -> list[Row]:
    at_once = part["ours"][0]["load"]["runs"]
    return [
        (
            f"`run()` → started, job ready after 0.2 s, {at_once} at once: p50 / p99",
            "p99 ≤ 1 s",
            *_both(part, lambda rounds: _p50_p99([second for seen in rounds for second in seen["submissions"]])),
        )
    ]


def _detection(part: dict[str, Seen]) -> list[Row]:
    ours, recorded = part["ours"], part["recorded"]
    runs, load, calls = _runs(ours), ours["load"], ours["calls"]
    seconds = load["shortest"] + load["spread"] / 2
    one_by_one = load["runs"] * seconds / UPSTREAM_POLL_SECONDS
    reads = sum(calls[method] for method in READS if method in calls)
    # Reads of jobs before the last run has started wait for readiness; they do not count as watching.
    reads -= sum(ours["reads until submitted"].get(method, 0) for method in ("jobs.get", "jobs.list"))
    asked, with_fields = recorded["reads of executions"], recorded["with fields"]
    fields = "all with `fields`" if asked and asked == with_fields else f"{with_fields} of {asked} with `fields`"
    duration = number(seconds / 60, "min") if seconds >= 60 else number(seconds, "s")

    def ends(seen: Seen) -> str:
        missing = seen["failed"]
        return _p50_p99(seen["detections"]) + (f" ({missing} of {_runs(seen)} failed)" if missing else "")

    return [
        (f"end → `run()` returns, {runs} running: p50 / p99", "≤ 1.2 / ≤ 2.5 s", *_both(part, ends)),
        (
            f"reads per tick of {TICK_SECONDS} s, {runs} running",
            "≤ 10, with `fields`",
            f"{_reads_per_tick(ours)}, {fields}",
            _reads_per_tick(part["upstream"]) if "upstream" in part else NOTHING,
        ),
        (
            f"reads for {runs} runs of {duration}, beside one per run and {UPSTREAM_POLL_SECONDS} s",
            "≤ 1/40",
            f"{reads:,} of {one_by_one:,.0f}: 1/{one_by_one / reads:.0f}" if calls else NOTHING,
            NOTHING,
        ),
        (f"memory over idle, {runs} running", "≤ 60 MB", *_both(part, _over_idle)),
        (f"threads, {runs} running", "≤ 12", *_both(part, _threads)),
        (
            f"CPU while {runs} run and nothing changes",
            "≤ 3 % of a core",
            *_both(part, _cpu),
        ),
    ]


def _reads_per_tick(seen: Seen) -> str:
    reads, seconds = seen["reads while watched"], seen["watched seconds"]
    return NOTHING if reads is None or seconds < 1 else number(reads / seconds * TICK_SECONDS)


def _scaling(part: dict[str, dict[str, Seen]]) -> list[Row]:
    seen = part["large"]["ours"]
    what = f"{_runs(seen)} over {seen['load']['regions']} regions"
    latency = f"{number(percentile(seen['submissions'], 99))} / {number(percentile(seen['submissions'], 100))} s"
    failed = f"; {seen['failed']} failed" if seen["failed"] else ""
    return [
        (f"{what}: `run()` → started, p99 / max", "never stalls", latency + failed, NOTHING),
        (
            f"{what}: all started after; longest pause between two starts",
            "never stalls",
            f"{number(seen['all submitted after'])}; {number(seen['longest pause between two starts'])} s",
            NOTHING,
        ),
        (f"{what}: end → `run()` returns, p50 / p99", "", _p50_p99(seen["detections"]), NOTHING),
        (f"{what}: memory over idle", "≤ 400 MB", _over_idle(seen), NOTHING),
    ]


def _quotas(part: list[dict[str, Seen]]) -> list[Row]:
    rows = []
    for kinds in part:
        load = kinds["ours"]["load"]
        per_minute = load["faults"]["quotas"]["writes"]
        what = (
            f"{load['runs']} at once, {per_minute} writes and {per_minute} starts a minute (of {MINUTE_SECONDS:.0f} s)"
        )
        least = least_seconds(load["runs"], per_minute)
        rows += [
            (f"{what}: failed runs; calls refused", "0; ≤ 5 %", *_both(kinds, _refused)),
            (
                f"{what}: took, of at least {number(least)} s",
                "",
                *_both(kinds, lambda seen: NOTHING if seen["failed"] else number(seen["took"], "s")),
            ),
        ]
    return rows


def _refused(seen: Seen) -> str:
    calls = sum(seen["calls"].values())
    share = number(seen["refused by a quota"] / calls * 100, "%") if calls else NOTHING
    return f"{seen['failed']}; {share}"


def _share(refused: int, calls: dict[str, int]) -> str:
    total = sum(calls.values())
    return number(refused / total * 100, "%") if total else NOTHING


def _full_region(part: dict[str, Seen]) -> list[Row]:
    runs = part["ours"]["load"]["runs"]
    what = f"{runs} at once, room for {ROOM} executions of {STAY:.0f} s"
    least = math.ceil(runs / ROOM) * STAY
    return [
        (
            f"{what}: failed runs; calls refused",
            "0",
            *_both(part, lambda seen: f"{seen['failed']}; {_share(seen['refused'], seen['calls'])}"),
        ),
        (
            f"{what}: took, of at least {number(least)} s",
            "",
            *_both(part, lambda seen: NOTHING if seen["failed"] else number(seen["took"], "s")),
        ),
    ]


def _random_refusals(part: dict[str, Seen]) -> list[Row]:
    runs = part["ours"]["load"]["runs"]

    def show(seen: Seen) -> str:
        failed = f"; {seen['failed']} failed" if seen["failed"] else ""
        return _p50_p99(seen["submissions"]) + failed

    return [(f"{runs} at once, a tenth of all calls refused by chance: p50 / p99", "p99 ≤ 15 s", *_both(part, show))]


def _two_workers(part: dict[str, Seen]) -> list[Row]:
    runs = part["ours"]["load"]["runs"]
    late = part["ours"]["second load"]["runs"]
    what = f"{SHARED} writes and {SHARED} starts a minute (of {MINUTE_SECONDS:.0f} s), {runs} runs"
    # Half of the quota is its fair share. Each run makes a create, a start and a delete; its start needs one write.
    fair = late / (SHARED / 2) * MINUTE_SECONDS

    def show(seen: Seen) -> str:
        failed = seen["first"]["failed"] + seen["second"]["failed"]
        last = number(max(seen["second"]["submissions"], default=None), "s")
        return f"{last}; {failed}; {_share(seen['refused'], seen['calls'])}"

    return [
        (
            f"{what}; a second worker begins {APART:.0f} s later with {late}: its last start (fair share: "
            f"{number(fair)} s); failed runs of both; calls refused",
            "0 failed",
            *_both(part, show),
        )
    ]


def _imports(part: dict[str, list[float]]) -> list[Row]:
    shown = _both(part, lambda times: number(statistics.median(times) * 1000, "ms"))
    return [("import of the worker, beyond Prefect's base of it", "≤ 60 ms", *shown)]


def _wheel(megabytes: float) -> list[Row]:
    return [("the wheel", "≤ 8 MB", number(megabytes or None, "MB"), NOTHING)]


def _dependencies(part: dict[str, Any]) -> list[Row]:
    packages = _both(part["packages"], str)
    return [
        ("Python packages beyond Prefect's own", "", *packages),
        ("crates in the wheel, for all platforms together", "", str(part["crates"]), NOTHING),
    ]


ROWS: dict[str, Callable[[Any], list[Row]]] = {
    "submission": _submission,
    "detection": _detection,
    "scaling": _scaling,
    "quotas": _quotas,
    "full_region": _full_region,
    "random_refusals": _random_refusals,
    "two_workers": _two_workers,
    "imports": _imports,
    "wheel": _wheel,
    "dependencies": _dependencies,
}
