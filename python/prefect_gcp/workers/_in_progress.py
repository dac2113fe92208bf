"""A flow run from the call of `CloudRunWorker.run` to its end, and how it is let go when the worker stops."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from prefect_gcp.exceptions import CloudRunJobRemovedError
from prefect_gcp.workers._places import JobPlace, record_place
from prefect_gcp.workers._proposals import give_back, mark_cancelled, mark_crashed
from prefect_gcp.workers._stop import Stop, wait_through_cancels

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import anyio.abc
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.logging.loggers import PrefectLogAdapter

    from prefect_gcp import _core
    from prefect_gcp.workers._flow_runs import FlowRunChecks

# What became of the flow run, by the reason for which its run was given up.
_WHAT_BECAME = {
    "cancelled": "was cancelled",
    "deleted": "was deleted",
    "ended": "has ended",
    "rescheduled": "was scheduled again",
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
        stop: The time of the worker's stop.
        runs: The runs in progress, by the id of their flow run.
        recordings: Bounds how many places of jobs are written at the same time. Hundreds of runs that begin together
            must not hold up the reads before their starts.
    """

    name: str
    prefect: Callable[[], PrefectClient | None]
    checks: FlowRunChecks
    stop: Stop = field(default_factory=Stop)
    runs: dict[str, RunInProgress] = field(default_factory=dict)
    recordings: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(_RECORDINGS_AT_ONCE))

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
                await give_back(client, flow_run.id, self.name, logger)
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
        is_killed: Whether Prefect asked this worker to kill the job.
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
        self.is_killed = False
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
                # Prefect kills the jobs of cancelled flow runs. That is no error of the run.
                if self._started.done() or not self.is_killed:
                    raise
                self._reason = await self._worker.checks.check(self._flow_run.id)
                if self._reason is None:
                    raise
                return await self._not_started()
            finally:
                for task in self._tasks:
                    task.cancel()

    async def _follow(self, run: _core.Run, stop_checks: Callable[[], None]) -> None:
        """Logs the events of a run up to its end, and answers its questions."""
        async for event in run:
            if event.kind == "confirm_start":
                # The run may end while Prefect is asked.
                self._start_task(self._ask(run))
                continue
            self._logger.log(event.level, event.message)
            client = self._worker.prefect()
            if event.kind == "created" and client is not None and self.place is not None:
                self._start_task(
                    record_place(client, self._flow_run.id, self.place, self._logger, self._worker.recordings)
                )
            elif event.kind == "started":
                self._report_start(self._job)
                stop_checks()

    async def _ask(self, run: _core.Run) -> None:
        reason = await self._worker.checks.check(self._flow_run.id)
        if reason is None:
            run.confirm_start()
        else:
            self._give_up(reason)

    def _report_start(self, job: str | None) -> None:
        if not self._started.done():
            self._started.set_result(job)

    def _start_task(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(_nothing_of(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _not_started(self) -> int:
        """Finishes a run of which nothing was started. Returns its status code."""
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
        if is_crashed and client is not None:
            await mark_crashed(client, self._flow_run.id, message, self._logger)
