"""A flow run from the call of `CloudRunWorker.run` to its end, and how it is let go when the worker stops."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run.exceptions import CloudRunJobRemovedError
from prefect_gcp_cloud_run.workers._crash import report_crash
from prefect_gcp_cloud_run.workers._crash_logs import forward_crash_logs, never_ran
from prefect_gcp_cloud_run.workers._pending import PendingProposal
from prefect_gcp_cloud_run.workers._places import JobPlace, record_place
from prefect_gcp_cloud_run.workers._proposals import give_back, mark_cancelled, mark_crashed
from prefect_gcp_cloud_run.workers._stop import Stop, wait_through_cancels

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from uuid import UUID

    import anyio.abc
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.logging.loggers import PrefectLogAdapter

    from prefect_gcp_cloud_run.settings import CloudRunObserverSettings
    from prefect_gcp_cloud_run.workers._events import RunEvents
    from prefect_gcp_cloud_run.workers._flow_runs import FlowRunChecks

# What became of the flow run, by the reason for which its run was given up.
_WHAT_BECAME = {
    "cancelled": "was cancelled",
    "deleted": "was deleted",
    "ended": "has ended",
    "rescheduled": "was scheduled again",
    "unreadable": "can't be read from Prefect, and its job was deleted",
}
# The reason that is none of the flow run's.
_STOPPING = "stopping"
_RECORDINGS_AT_ONCE = 10
# The status code of a run whose container did not run to its end.
_NOT_STARTED = -1


@dataclass
class WorkerOfRuns:
    """What runs use of their worker.

    Attributes:
        name: The worker's name.
        prefect: Returns the worker's client of the Prefect API; None if the worker is not set up.
        checks: Reads the flow runs of runs that wait.
        observer_settings: Whether the logs of containers that crash are forwarded.
        stop: The time of the worker's stop.
        runs: The runs in progress, by the id of their flow run.
        background: What is done in the background.
        recordings: Bounds how many places of jobs are written at the same time. Hundreds of runs that begin together
            must not hold up the reads before their starts.
    """

    name: str
    prefect: Callable[[], PrefectClient | None]
    checks: FlowRunChecks
    observer_settings: CloudRunObserverSettings
    stop: Stop = field(default_factory=Stop)
    runs: dict[str, RunInProgress] = field(default_factory=dict)
    background: set[asyncio.Task[None]] = field(default_factory=set)
    recordings: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(_RECORDINGS_AT_ONCE))

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Does something that no run waits for. The worker's stop gives it some seconds."""
        task = asyncio.create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def stop_background(self, seconds: float) -> None:
        """Waits for what is done in the background, this many seconds at most, and then ends it."""
        with anyio.move_on_after(seconds):
            await asyncio.gather(*self.background, return_exceptions=True)

    def has_recorded(self, flow_run_id: UUID, job: str) -> bool:
        """Whether Prefect knows from this worker that a flow run's infrastructure is this job."""
        run = self.runs.get(str(flow_run_id))
        return run is not None and run.is_recorded and run.place is not None and run.place.job == job

    async def give_back(self, flow_run: FlowRun, logger: PrefectLogAdapter) -> str | None:
        """Gives a flow run back that was not started. Returns the reason if it is not wanted any more instead."""
        client = self.prefect()
        if client is None:
            return None
        async with self.stop.room:
            # The server would schedule a cancelled flow run again, too.
            try:
                reason = await self.checks.last_check(flow_run.id)
            except Exception as error:
                logger.warning(
                    f"Worker {self.name!r} stops. The flow run was not started, and is not given back to the work "
                    f"pool, because its state can't be read: {error!r}"
                )
                return None
            if reason is None:
                stopped = f"Worker {self.name!r} stopped before it started the flow run's container."
                await give_back(
                    client,
                    flow_run.id,
                    message=f"{stopped} Another worker can take it.",
                    why=f"Worker {self.name!r} stops",
                    logger=logger,
                )
        return reason

    async def finish(self, work: Awaitable[object], what: str, logger: PrefectLogAdapter) -> None:
        """Does what is left to do for a flow run when the worker stops, within the time of the stop.

        Args:
            work: What is left to do.
            what: What it is for, for the log.
            logger: The flow run's logger.
        """
        with self.stop.under_way():
            task = asyncio.ensure_future(_nothing_of(work))
            if not await wait_through_cancels(task, self.stop.time_left_for_runs()):
                logger.warning(
                    f"The worker stops, and had no time to finish {what}. Check the flow run's state, and whether its "
                    "job still exists: if an execution runs, it goes on"
                )
            elif (error := task.exception()) is not None:
                logger.warning(f"The worker stops, and could not finish {what}: {error}")


async def _nothing_of(work: Awaitable[object]) -> None:
    await work


class RunInProgress:
    """A flow run that a worker runs.

    Args:
        worker: What it uses of the worker.
        flow_run: The flow run.
        job: The name of its job.
        logger: The flow run's logger.
        task_status: Gets the job's name when the execution has started, and None if the flow run is not started.

    Attributes:
        place: Where the job is; None until that is known.
        client: The client for this place, with the run's own credentials.
        events: Emits events about the run; None until its place is known.
        container: Name of the container that runs the flow, if it has one.
        on_created: Called when the job exists.
        has_reported_crash: Whether Prefect was told that the flow run has crashed, and has accepted it.
        is_recorded: Whether the place was written on the flow run.
    """

    def __init__(
        self,
        worker: WorkerOfRuns,
        flow_run: FlowRun,
        job: str,
        logger: PrefectLogAdapter,
        task_status: anyio.abc.TaskStatus[Any] | None,
    ) -> None:
        self.place: JobPlace | None = None
        self.client: _core.Client | None = None
        self.events: RunEvents | None = None
        self.container: str | None = None
        self.has_reported_crash = False
        self.is_recorded = False
        self.on_created: Callable[[], None] = lambda: None
        self._worker = worker
        self._flow_run = flow_run
        self._job = job
        self._logger = logger
        self._task_status = task_status
        # Why the run was given up first.
        self._reason: str | None = None
        # What Prefect is told at the start: the job's name; None if there will be no start.
        self._started: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        # The run is either being prepared, or there.
        self._preparation: asyncio.Future[_core.Run] | None = None
        self._run: _core.Run | None = None
        self._pending = PendingProposal(worker.prefect, flow_run.id, job, worker.checks, worker.recordings, logger)
        # Why the run failed, with its line for the log.
        self._cause: tuple[_core.Diagnosis, str] | None = None
        # Tasks that end with the run.
        self._tasks: set[asyncio.Task[None]] = set()

    async def to_its_end(self, prepare: Callable[[], Awaitable[_core.Run]]) -> int:
        """Runs the flow run. If this is cancelled, the worker stops, and lets the run go.

        Args:
            prepare: Makes the client and the run.

        Returns:
            The status code, as of `CloudRunWorkerResult`.

        Raises:
            CloudRunError: If the job can't be started, or its execution is not watched any more.
        """
        # In a task of its own, which goes on when Prefect cancels the caller, and loses no event then.
        work = asyncio.create_task(self._work(prepare))
        key = str(self._flow_run.id)
        self._worker.runs[key] = self
        try:
            either: set[asyncio.Future[Any]] = {work, self._started}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._started.done() and self._task_status is not None:
                # anyio wants this from the task that it started.
                self._task_status.started(self._started.result())
            await asyncio.wait({work})
        except asyncio.CancelledError:
            self._give_up(_STOPPING)
            await self._worker.finish(self._report(work), f"Cloud Run Job {self._job!r}", self._logger)
            raise
        finally:
            if self._worker.runs.get(key) is self:
                del self._worker.runs[key]
        code = work.result()
        if code is None:
            raise RuntimeError(f"The run of Cloud Run Job {self._job!r} ended without a result")
        return code

    def _give_up(self, reason: str) -> None:
        self._reason = self._reason or reason
        if self._run is not None:
            self._run.give_up("ended" if reason == "rescheduled" else reason)
        elif self._preparation is not None:
            self._preparation.cancel()

    async def _work(self, prepare: Callable[[], Awaitable[_core.Run]]) -> int | None:
        """Runs the flow run. If it crashes, says so before Prefect does: the server takes the first word only."""
        try:
            code = await self._run_job(prepare)
        except Exception as error:
            if not self._started.done():
                await self._report_crash(error)
            raise
        await self._report_crash(None)
        return code

    async def _report_crash(self, error: Exception | None) -> None:
        line = ""
        if self._cause is not None:
            diagnosis, text = self._cause
            # Prefect logs an error itself, and its text has what to do.
            line = text if error is None else ""
        elif isinstance(error, CloudRunJobRemovedError):
            diagnosis = _core.Diagnosis("Deleted", "warning", "The job was deleted before its start.", str(error), "")
        elif error is not None:
            diagnosis = _core.diagnose_start(f"{type(error).__name__}: {error}")
        else:
            return
        if self.events is not None:
            self.events.diagnosis = diagnosis.category
        client = self._worker.prefect()
        crashed = await report_crash(client, self._flow_run.id, self._job, diagnosis, self._logger, line=line)
        # A worker that stops has no time for it.
        self.has_reported_crash = crashed is not None
        if crashed is not None and never_ran(crashed) and self._reason in (None, _STOPPING):
            # It takes its time, and the flow run has ended.
            self._worker.in_background(self._forward_logs())

    async def _forward_logs(self) -> None:
        """Writes the end of the container's log to the flow run's log, unless a setting says otherwise."""
        settings = self._worker.observer_settings
        facts = self.events.execution if self.events is not None else None
        if not settings.forward_crashed_run_logs or facts is None or self.client is None:
            return
        await forward_crash_logs(
            self.client,
            self._logger,
            job=self._job,
            execution=facts.name,
            tail_lines=settings.forward_crashed_run_logs_tail_lines,
            started_at=facts.started_at,
            ended_at=facts.completed_at,
            container=self.container,
        )

    async def _run_job(self, prepare: Callable[[], Awaitable[_core.Run]]) -> int | None:
        with self._worker.checks.waiting(self._flow_run.id, self._give_up) as stop_checks:
            try:
                self._preparation = asyncio.ensure_future(prepare())
                try:
                    run = await self._preparation
                except asyncio.CancelledError:
                    if self._reason is None:
                        raise
                    return await self._not_started()
                with run:
                    self._run = run
                    if self._reason is not None:
                        self._give_up(self._reason)
                    await self._follow(run, stop_checks)
                return await self._not_started() if run.outcome == "not_started" else run.status_code
            except CloudRunJobRemovedError:
                # Prefect kills the jobs of cancelled flow runs, and another worker's observer deletes the job of a flow
                # run that it gives back. That is no error of the run.
                if self._started.done():
                    raise
                try:
                    self._reason = await self._worker.checks.last_check(self._flow_run.id, self._job)
                except Exception as error:
                    self._logger.debug(f"The flow run could not be read after its job was deleted: {error!r}")
                    self._reason = "unreadable"
                if self._reason is None:
                    raise
                return await self._not_started()
            finally:
                await self._pending.settle()
                for task in self._tasks:
                    task.cancel()

    async def _follow(self, run: _core.Run, stop_checks: Callable[[], None]) -> None:
        """Logs the events of a run up to its end, and answers its questions."""
        async for event in run:
            if event.kind == "confirm_start":
                # The run may end while Prefect is asked.
                self._start_task(self._ask(run))
                continue
            if event.diagnosis is not None:
                self._cause = event.diagnosis, event.message
                continue
            self._logger.log(event.level, event.message)
            if self.events is not None:
                self.events.take(event)
            client = self._worker.prefect()
            if event.kind == "created":
                self.on_created()
            if event.kind == "created" and client is not None and self.place is not None:
                self._pending.begin(self._start_task(self._record(client, self.place)))
            elif event.kind == "started":
                self._report_start(self._job)
                stop_checks()

    async def _record(self, client: PrefectClient, place: JobPlace) -> None:
        room = self._worker.recordings
        self.is_recorded = await record_place(client, self._flow_run.id, place, self._logger, room)

    async def _ask(self, run: _core.Run) -> None:
        # It must not reach the server after the container.
        await self._pending.settle()
        reason = await self._worker.checks.check(self._flow_run.id)
        if reason is None:
            run.confirm_start()
        else:
            self._give_up(reason)

    def _report_start(self, job: str | None) -> None:
        if not self._started.done():
            self._started.set_result(job)

    def _start_task(self, work: Awaitable[None]) -> asyncio.Future[None]:
        task = asyncio.ensure_future(_nothing_of(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _not_started(self) -> int:
        """Finishes a run of which nothing was started. Returns its status code."""
        await self._pending.settle()
        for task in self._tasks:
            task.cancel()
        reason = self._reason
        if reason == _STOPPING:
            reason = await self._worker.give_back(self._flow_run, self._logger)
        if reason is not None:
            self._logger.info(
                f"Cloud Run Job {self._job!r} is not started, because the flow run {_WHAT_BECAME[reason]} while the "
                "job waited"
            )
        client = self._worker.prefect()
        if reason == "cancelled" and client is not None:
            await mark_cancelled(client, self._flow_run.id, self._logger)
        # Prefect then neither reports an error nor that the flow run was submitted.
        self._report_start(None)
        return _NOT_STARTED

    async def _report(self, work: Awaitable[int | None]) -> None:
        """Waits for the end of a run that is let go, and reports it as Prefect does for a run that it waits for."""
        try:
            code = await work
        except Exception as error:
            self._logger.error(f"Failed to run flow run {self._flow_run.name!r} before the worker's stop: {error}")
            message = f"Failed to submit flow run to infrastructure: {type(error).__name__}: {error}"
            is_crashed = not self._started.done()
        else:
            message = f"Flow run infrastructure exited with non-zero status code {code}."
            is_crashed = bool(code) and self._run is not None and self._run.outcome != "not_started"
        client = self._worker.prefect()
        if is_crashed and client is not None and not self.has_reported_crash:
            await mark_crashed(client, self._flow_run.id, message, self._logger)
