"""Looks after the jobs of a work pool that no worker watches any more, in passes.

One pass lists the jobs that carry the pool's mark in each project and region, reads their flow runs, and has the core
decide about each job (`_core.decide`). Any number of workers may do this at the same time: what they do is harmless if
another one does it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING
from uuid import UUID

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectNotFound, PrefectSignal

from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run.exceptions import CloudRunAuthenticationError, CloudRunPermissionError
from prefect_gcp_cloud_run.workers._lost_flow_runs import LostFlowRun, find_again, why_lost, worker_of
from prefect_gcp_cloud_run.workers._observed_areas import PAGE, Area, ObservedAreas, read_unfinished
from prefect_gcp_cloud_run.workers._observed_job import Caretaker
from prefect_gcp_cloud_run.workers._observed_look import Finding, Look

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun, WorkPool

    from prefect_gcp_cloud_run.settings import CloudRunObserverSettings

# The first pass comes within this time after the worker's start, in seconds: workers that start together take turns.
_FIRST_PASS_WITHIN = 15.0
# Pause between two looks whether the work pool is known, in seconds.
_POOL_PAUSE = 1.0
# Least pause between two passes, in seconds: executions that end together are looked at together.
_LEAST_PAUSE = 5.0
# What was done, for the sum.
_DONE = {
    "crashed": "flow runs reported as crashed",
    "deleted": "jobs deleted",
    "given back": "flow runs given back",
    "stopped": "executions stopped",
    "watched": "executions watched",
}
# A worker without a sign of life for so long is gone. Prefect calls it OFFLINE after a minute and a half.
_GONE_AFTER = timedelta(minutes=5)
# How many jobs are dealt with at the same time.
_JOBS_AT_ONCE = 10
# Flow runs that Prefect did not find are asked for again after this time in a single pass, in seconds.
_NOT_FOUND_PAUSE = 2.0


@dataclass(frozen=True)
class _Listed:
    """The marked jobs in one project and region, and the client that could list them."""

    client: _core.Client
    jobs: list[_core.MarkedJob]


@dataclass(frozen=True)
class PassResult:
    """What a pass has found and done.

    Attributes:
        findings: What was found of each job that this process does not look after.
        lost: The flow runs that have no job and no worker.
    """

    findings: list[Finding]
    lost: list[LostFlowRun]


class Observer:
    """The observer of one work pool.

    Args:
        prefect: Returns the client of the Prefect API; None if there is none now.
        pool: Returns the work pool; None if it is not known yet.
        areas: The projects and regions to look in.
        caretaker: Does what is decided about a job.
        settings: The observer's settings.
        logger: Gets the summary of each pass that did something, and problems.
        is_running: Returns whether this process runs the flow run with an id.
    """

    def __init__(
        self,
        prefect: Callable[[], PrefectClient | None],
        pool: Callable[[], WorkPool | None],
        areas: ObservedAreas,
        caretaker: Caretaker,
        settings: CloudRunObserverSettings,
        logger: logging.Logger | logging.LoggerAdapter[logging.Logger],
        *,
        is_running: Callable[[str], bool] = lambda _id: False,
    ) -> None:
        self._prefect = prefect
        self._pool = pool
        self._areas = areas
        self._caretaker = caretaker
        self._settings = settings
        self._logger = logger
        self._is_running = is_running
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        caretaker.on_end = self._wake.set
        # In how many passes in a row Prefect did not find a flow run.
        self._not_found: Counter[str] = Counter()

    def start(self) -> None:
        """Begins the passes, in the background."""
        if self._task is None and self._settings.enabled:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends the passes, and the watches that they have begun."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        await self._caretaker.stop()

    async def _run(self) -> None:
        interval = self._settings.interval_seconds
        # Prefect sets it, and tells nobody.
        while self._pool() is None:  # noqa: ASYNC110
            await asyncio.sleep(_POOL_PAUSE)
        await asyncio.sleep(random.uniform(0, min(_FIRST_PASS_WITHIN, interval)))  # noqa: S311, a spread, no secret
        while True:
            try:
                await self.one_pass()
            except (Exception, PrefectSignal) as error:
                self._areas.tell("pass", error, "The jobs of other workers could not be looked after")
            pause = interval * random.uniform(0.9, 1.1)  # noqa: S311, a spread, no secret
            await asyncio.sleep(min(_LEAST_PAUSE, pause))
            # An execution that was watched has ended.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(0.0, pause - _LEAST_PAUSE))
            self._wake.clear()

    async def one_pass(self, *, dry_run: bool = False, is_single: bool = False) -> PassResult:
        """Looks once, and does what is to be done.

        Args:
            dry_run: Whether only to say what would be done.
            is_single: Whether no other pass follows. Then flow runs that Prefect does not find are asked for twice.

        Returns:
            What was found, and what was done.

        Raises:
            Exception: If Prefect can't be asked.
        """
        prefect, pool = self._prefect(), self._pool()
        if prefect is None or pool is None:
            return PassResult([], [])
        unfinished = await read_unfinished(pool, prefect)
        areas = await self._areas.of(pool, prefect, unfinished)
        lists = await self._list_all(areas, pool)
        look, lost = await self._look(lists, unfinished, pool, prefect)
        if is_single and self._not_found:
            await asyncio.sleep(_NOT_FOUND_PAUSE)
            look.flow_runs = await self._read_flow_runs(look.jobs, prefect)
        room = asyncio.Semaphore(_JOBS_AT_ONCE)

        async def deal_with(client: _core.Client, job: _core.MarkedJob) -> Finding:
            async with room:
                return await self._caretaker.deal_with(client, job, look, self._not_found, prefect, dry_run=dry_run)

        findings = await asyncio.gather(*(deal_with(client, job) for client, job in look.jobs))
        if not dry_run:
            tries = self._settings.give_back_max_tries
            name = self._caretaker.name
            clients = {area: listed.client for area, listed in lists.items() if listed is not None}
            lost = [await find_again(it, clients, prefect, name=name, max_tries=tries) for it in lost]
        result = PassResult(findings, lost)
        # Who asks for a single pass sums it up.
        if not (dry_run or is_single):
            self._sum_up(result)
        return result

    def _sum_up(self, result: PassResult) -> None:
        found = [finding.done for finding in result.findings] + [lost.done for lost in result.lost]
        done = Counter(what for what in found if what)
        if done:
            parts = ", ".join(f"{count} {_DONE[what]}" for what, count in sorted(done.items()))
            self._logger.info(f"Looked after what other workers left: {parts}")

    async def _list_all(self, areas: dict[Area, list[_core.Client]], pool: WorkPool) -> dict[Area, _Listed | None]:
        lists = await asyncio.gather(*(self._list(area, clients, pool) for area, clients in areas.items()))
        return dict(zip(areas, lists, strict=True))

    async def _look(
        self, lists: dict[Area, _Listed | None], unfinished: list[FlowRun], pool: WorkPool, prefect: PrefectClient
    ) -> tuple[Look, list[LostFlowRun]]:
        found = [
            (listed.client, job)
            for listed in lists.values()
            if listed is not None
            for job in listed.jobs
            if not listed.client.is_running(job) and not job.is_being_deleted
        ]
        room = asyncio.Semaphore(_JOBS_AT_ONCE)
        known = await asyncio.gather(*(self._know(client, job, room) for client, job in found))
        jobs = [(client, job) for (client, _), job in zip(found, known, strict=True) if job is not None]
        all_listed = [job for listed in lists.values() if listed is not None for job in listed.jobs]
        look = Look(jobs, all_listed, {}, is_complete=None not in lists.values())
        look.flow_runs = await self._read_flow_runs(jobs, prefect)
        others = [flow_run for flow_run in unfinished if not self._is_running(str(flow_run.id))]
        named = {job.worker for _, job in jobs} | {worker_of(flow_run) for flow_run in others}
        await self._read_workers(look, named - {None}, pool, prefect)
        names = {
            area: {job.name for job in listed.jobs} if listed is not None else None for area, listed in lists.items()
        }
        reasons = ((flow_run, why_lost(flow_run, names, look.gone)) for flow_run in others)
        return look, [LostFlowRun(flow_run, reason) for flow_run, reason in reasons if reason is not None]

    async def _list(self, area: Area, clients: list[_core.Client], pool: WorkPool) -> _Listed | None:
        """Lists the jobs in an area. None if the list is not complete: nothing follows from what it lacks."""
        problem: Exception | None = None
        for client in clients:
            try:
                return _Listed(client, await client.list_marked_jobs(str(pool.id), log=self._logger.log))
            except Exception as error:
                # That of the first client says what is to be mended.
                problem = problem or error
                # Only for these it matters whose account it is.
                if not isinstance(error, (CloudRunPermissionError, CloudRunAuthenticationError)):
                    break
        if problem is not None:
            line = f"The jobs in project {area[0]!r}, region {area[1]!r} could not be listed"
            self._areas.tell(area, problem, line)
        return None

    async def _know(
        self, client: _core.Client, job: _core.MarkedJob, room: asyncio.Semaphore
    ) -> _core.MarkedJob | None:
        """Reads a job's executions, if its status in the list does not tell how they stand: if there are several.

        Returns:
            The job, as it is known then. None if it is gone.
        """
        if job.status != "unknown":
            return job
        try:
            async with room:
                return await client.read_marked_job(job)
        except Exception as error:
            self._areas.tell(
                (job.project, job.region, "executions"),
                error,
                f"The executions of Cloud Run Job {job.name!r} could not be read",
            )
            return job

    async def _read_flow_runs(
        self, jobs: list[tuple[_core.Client, _core.MarkedJob]], prefect: PrefectClient
    ) -> dict[str, FlowRun]:
        ids = sorted({job.flow_run_id for _, job in jobs})
        flow_runs: dict[str, FlowRun] = {}
        missing = ids
        while missing:
            page = [UUID(key) for key in missing[:PAGE]]
            wanted = FlowRunFilter(id=FlowRunFilterId(any_=page))
            # How many are returned is a setting of the server, and a request for more would be refused.
            found = await prefect.read_flow_runs(flow_run_filter=wanted)
            flow_runs.update({str(flow_run.id): flow_run for flow_run in found})
            rest = [key for key in missing[:PAGE] if key not in flow_runs]
            # None of them: these do not exist.
            missing = [*(rest if found else []), *missing[PAGE:]]
        for key in ids:
            if key in flow_runs:
                self._not_found.pop(key, None)
                continue
            # The list may be shorter than what was asked for. Only a 404 shows that a flow run does not exist.
            try:
                flow_runs[key] = await prefect.read_flow_run(UUID(key))
                self._not_found.pop(key, None)
            except ObjectNotFound:
                self._not_found[key] += 1
        for key in set(self._not_found) - set(ids):
            del self._not_found[key]
        return flow_runs

    async def _read_workers(self, look: Look, named: set[str | None], pool: WorkPool, prefect: PrefectClient) -> None:
        """Finds out which workers are surely gone. That one is ONLINE says little: names repeat."""
        offset = 0
        while named:
            workers = await prefect.read_workers_for_work_pool(pool.name, offset=offset)
            for worker in workers:
                if worker.name not in named:
                    continue
                if worker.status == WorkerStatus.ONLINE:
                    look.online.add(worker.name)
                elif (seen := worker.last_heartbeat_time) and datetime.now(timezone.utc) - seen > _GONE_AFTER:
                    look.gone.add(worker.name)
            offset += len(workers)
            if not workers:
                return
