"""What the command `sweep` prints: a table of jobs, what could not be done, and a line that sums up."""

from __future__ import annotations

import sys
import time
from collections import Counter
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from prefect_gcp_cloud_run.workers._lost_flow_runs import LostFlowRun
    from prefect_gcp_cloud_run.workers._observed_areas import Area
    from prefect_gcp_cloud_run.workers._observed_look import Finding
    from prefect_gcp_cloud_run.workers._observer import PassResult

# The decisions that leave a job as it is.
_LEAVES = {"nothing": "leave alone", "watch": "let it run"}
# The other decisions, and what comes of them for a job, and for one that is to be kept.
_CHANGES = {
    "delete": ("delete", "deleted", "deleted"),
    "stop": ("stop", "stopped and deleted", "stopped; the job is kept"),
    "crash": ("report the crash", "flow run Crashed, job deleted", "flow run Crashed; the job is kept"),
    "give_back": ("give back", "job deleted, flow run Scheduled again", "job deleted, flow run Scheduled again"),
    "delete_then_crash": ("report the crash", "job deleted, flow run Crashed", "job deleted, flow run Crashed"),
}
_STANDS = {"none": "never started", "active": "running", "removed": "deleted"}
# Wider than any table: without a terminal, such as in a log or in a pipe, a row is one line.
_NO_FOLDS = 10_000
_SECONDS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class Report:
    """What a sweep has found and done.

    Args:
        pool: Name of the work pool.
        searched: The projects and regions that were looked in.
        result: What was found and done.
        undone: The uids of the jobs whose flow run should have another state now and has not.
        problems: What could not be looked at, a line each.
        dry_run: Whether nothing was to be changed.
    """

    def __init__(
        self,
        pool: str,
        searched: Sequence[Area],
        result: PassResult,
        undone: Collection[str],
        problems: Sequence[str],
        *,
        dry_run: bool,
    ) -> None:
        self._pool = pool
        self._searched = searched
        self._lost = result.lost
        self._findings = sorted(
            result.findings, key=lambda found: (found.job.project, found.job.region, found.job.name)
        )
        self._undone = undone
        self._problems = problems
        self._dry_run = dry_run

    @property
    def is_fine(self) -> bool:
        """Whether everything could be looked at, and everything that was decided was done."""
        has_failed = any(map(self._has_failed, self._findings)) or any(lost.error is not None for lost in self._lost)
        return bool(self._searched) and not self._problems and not has_failed

    def show(self) -> None:
        """Prints it: the table and the sum to standard output, what could not be looked at to standard error."""
        width = None if sys.stdout.isatty() else _NO_FOLDS
        out = Console(file=sys.stdout, width=width, highlight=False, markup=False, soft_wrap=False)
        if self._findings or self._lost:
            out.print(self._table())
        for problem in self._problems:
            sys.stderr.write(f"{_printable(problem)}\n")
        if not self._searched:
            sys.stderr.write("There is no project and region to look in. Name them with --project and --region\n")
        sys.stdout.write(f"{_printable(self._sum())}\n")

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for heading in ("Job", "Project", "Region", "Flow run", "Executions", "Decision", "Reason"):
            table.add_column(heading, overflow="fold")
        table.add_column("Would be done" if self._dry_run else "Done", overflow="fold")
        for finding in self._findings:
            table.add_row(*(Text(_printable(cell)) for cell in self._row(finding)))
        for lost in self._lost:
            table.add_row(*(Text(_printable(cell)) for cell in self._row_of_lost(lost)))
        return table

    def _row_of_lost(self, lost: LostFlowRun) -> tuple[str, ...]:
        run = f"{lost.flow_run.name} ({lost.flow_run.state.name if lost.flow_run.state is not None else 'no state'})"
        done = f"failed: {lost.error}" if lost.error is not None else lost.done
        if self._dry_run:
            done = "flow run Scheduled again, or Crashed if it ran or was given back too often"
        decision = "give back or report the crash"
        return (
            "none",
            "",
            "",
            run,
            "no job",
            decision,
            lost.reason,
            done or "nothing: it has changed since it was listed",
        )

    def _row(self, finding: Finding) -> tuple[str, ...]:
        job, kind, flow_run = finding.job, finding.decision.kind, finding.flow_run
        if flow_run is None:
            run = f"{job.flow_run_id} (not found)"
        else:
            run = f"{flow_run.name} ({flow_run.state.name if flow_run.state is not None else 'no state'})"
        stands = _STANDS.get(job.status, job.status)
        if job.completed_at is not None:
            stands += f" {_ago(time.time() - job.completed_at)} ago"
        decision = _LEAVES.get(kind) or _CHANGES[kind][0]
        reason = finding.decision.reason
        if kind == "nothing" and job.status == "none" and job.give_up_at > time.time():
            until = datetime.fromtimestamp(job.give_up_at, timezone.utc)
            reason += f"; worker {job.worker} has given up by {until:%d %b %H:%M} UTC"
        return job.name, job.project, job.region, run, stands, decision, reason, self._done(finding)

    def _done(self, finding: Finding) -> str:
        kind, job = finding.decision.kind, finding.job
        if kind in _LEAVES:
            return "nothing"
        words = _CHANGES[kind][2 if job.keep else 1]
        if self._dry_run:
            return words
        if finding.error is not None:
            return f"failed: {str(finding.error) or type(finding.error).__name__}"
        if job.uid in self._undone:
            return "failed: Prefect did not take the flow run's new state" + (
                "; the job is deleted" if finding.done == "deleted" else ""
            )
        if finding.done is None:
            return "nothing: it has changed since it was listed"
        if finding.done == "deleted" and kind != "delete":
            return "job deleted; its flow run has another state already"
        return words

    def _has_failed(self, finding: Finding) -> bool:
        return finding.error is not None or finding.job.uid in self._undone

    def _sum(self) -> str:
        places = f"{len(self._searched)} place{'s' if len(self._searched) != 1 else ''}"
        count = len(self._findings)
        line = f"Work pool {self._pool!r}: {count} job{'s' if count != 1 else ''} to look after in {places}"
        kinds: Counter[str] = Counter()
        for finding in self._findings:
            kind = finding.decision.kind
            if self._has_failed(finding):
                kinds["failed"] += 1
            elif kind in _LEAVES or (not self._dry_run and finding.done is None):
                kinds["left alone"] += 1
            else:
                done = {"give_back": "given back", "stop": "stopped", "delete": "deleted"}.get(kind, "crashed")
                kinds[f"to be {done}" if self._dry_run else done] += 1
        for lost in self._lost:
            done = "failed" if lost.error is not None else lost.done or "left alone"
            kinds["to be given back or crashed" if self._dry_run else done] += 1
        if kinds:
            line += ": " + ", ".join(f"{number} {what}" for what, number in sorted(kinds.items()))
        if self._problems:
            line += (
                f". Not all could be looked at: {len(self._problems)} problem{'s' if len(self._problems) > 1 else ''}"
            )
        return f"{line}. Nothing was changed" if self._dry_run else line


def _ago(seconds: float) -> str:
    for unit, name in _SECONDS:
        if seconds >= unit:
            return f"{int(seconds // unit)} {name}"
    return "0 s"


def _printable(text: str) -> str:
    """The text without characters that would control the terminal: people choose the names of flow runs."""
    return "".join(character if character.isprintable() else " " for character in text)
