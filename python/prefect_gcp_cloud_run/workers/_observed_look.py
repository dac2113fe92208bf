"""What a pass of the observer sees, and what it finds of each job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from prefect_gcp_cloud_run import _core


@dataclass
class Look:
    """What a pass has seen.

    Attributes:
        jobs: The marked jobs that this process does not look after, each with a client for its project and region.
        listed: All marked jobs, those of this process too.
        flow_runs: The flow runs of `jobs`, by id.
        is_complete: Whether the list of each project and region could be read.
        gone: The names of workers that are surely gone.
        online: The names of workers that Prefect calls ONLINE.
        removed: The uids of jobs that were deleted in this pass.
    """

    jobs: list[tuple[_core.Client, _core.MarkedJob]]
    listed: list[_core.MarkedJob]
    flow_runs: dict[str, FlowRun]
    is_complete: bool
    gone: set[str] = field(default_factory=set)
    online: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._by_flow_run: dict[str, list[_core.MarkedJob]] = {}
        for job in self.listed:
            self._by_flow_run.setdefault(job.flow_run_id, []).append(job)

    def other_live_jobs(self, job: _core.MarkedJob) -> list[_core.MarkedJob]:
        """Returns the other jobs of a job's flow run that run it, or may come to."""
        return [
            other
            for other in self._by_flow_run.get(job.flow_run_id, [])
            if other.uid != job.uid and other.uid not in self.removed and other.is_live
        ]


@dataclass(frozen=True)
class Finding:
    """What was found of a job.

    Attributes:
        job: The job.
        flow_run: Its flow run; None if Prefect does not have it.
        decision: What is to be done about it.
        done: What was done, in a few words. None: nothing.
        error: Why it could not be done.
    """

    job: _core.MarkedJob
    flow_run: FlowRun | None
    decision: _core.Decision
    done: str | None = None
    error: Exception | None = None
