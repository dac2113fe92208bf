"""What the observer does about one job: it watches, reports and deletes as the job's own worker would have done."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import UUID

import httpx
from prefect.exceptions import ObjectNotFound, PrefectSignal

from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run.workers._crash import report_crash
from prefect_gcp_cloud_run.workers._crash_logs import forward_crash_logs, never_ran
from prefect_gcp_cloud_run.workers._observed_events import tell_end
from prefect_gcp_cloud_run.workers._observed_flow_run import count_give_back, given_back, line_of, logger_of, sentence
from prefect_gcp_cloud_run.workers._observed_look import Finding, Look
from prefect_gcp_cloud_run.workers._observed_problems import Problems
from prefect_gcp_cloud_run.workers._proposals import give_back

if TYPE_CHECKING:
    import logging
    from collections import Counter
    from collections.abc import Callable, Coroutine
    from typing import Any

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.events.schemas.events import RelatedResource
    from prefect.logging.loggers import PrefectLogAdapter

    from prefect_gcp_cloud_run.settings import CloudRunObserverSettings

    Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

# How long after the end of its execution a job is left to its own worker, if that one may still be there. In seconds.
_SETTLE = 120.0
# Longest time for giving a flow run back, in seconds.
_GIVE_BACK_TIME = 5.0


class Caretaker:
    """Does what is decided about jobs.

    Args:
        name: The name of the worker that observes.
        settings: The observer's settings.
        related: Returns the work pool and the worker, as related resources of events.
        logger: Gets one line for each job that is watched or removed, unless the flow run's log gets it.
        may_watch: Whether executions that run are watched to their end.

    Attributes:
        on_end: Called when an execution that was watched has ended, and once more when its own worker has had its time.
    """

    def __init__(
        self,
        name: str,
        settings: CloudRunObserverSettings,
        related: Callable[[], list[RelatedResource]],
        logger: Logger,
        *,
        may_watch: bool = True,
    ) -> None:
        self.name = name
        self._settings = settings
        self._related = related
        self._logger = logger
        self.on_end: Callable[[], None] = lambda: None
        self._may_watch = may_watch
        self._watches: dict[str, asyncio.Task[None]] = {}
        # Logs that are being forwarded, one after the other: Cloud Logging allows few reads.
        self._forwarding: set[asyncio.Task[None]] = set()
        self._forwards = asyncio.Semaphore(1)
        self._uninterrupted: set[asyncio.Task[str | None]] = set()
        self._problems = Problems(logger)

    async def finish(self) -> None:
        """Waits until all logs are forwarded."""
        await asyncio.gather(*self._forwarding, return_exceptions=True)

    def _warn(self, job: _core.MarkedJob, problem: Exception) -> None:
        words = str(problem).rstrip(".")
        if isinstance(problem, httpx.TransportError):
            words = f"Prefect's API could not be reached: {words or type(problem).__name__}"
        self._problems.tell(
            (job.project, job.region),
            problem,
            f"Cloud Run Job {job.name!r} of worker {job.worker!r} could not be looked after: {words}. The next "
            "pass tries again",
        )

    def forward(self, client: _core.Client, job: _core.MarkedJob, execution: str, logger: PrefectLogAdapter) -> None:
        """Forwards the end of an execution's log to the log of its flow run, in the background."""

        async def forwarding() -> None:
            async with self._forwards:
                await forward_crash_logs(
                    client,
                    logger,
                    job=job.name,
                    execution=execution,
                    tail_lines=self._settings.forward_crashed_run_logs_tail_lines,
                    started_at=job.created_at,
                    ended_at=job.completed_at,
                )

        task = asyncio.create_task(forwarding())
        self._forwarding.add(task)
        task.add_done_callback(self._forwarding.discard)

    async def uninterrupted(self, work: Coroutine[Any, Any, str | None]) -> str | None:
        """Does something that goes on for some seconds if the worker stops meanwhile."""
        task = asyncio.create_task(work)
        self._uninterrupted.add(task)
        task.add_done_callback(self._uninterrupted.discard)
        return await asyncio.shield(task)

    async def stop(self) -> None:
        """Ends the watches, and the forwarding of logs. The executions go on."""
        if self._uninterrupted:
            await asyncio.wait(self._uninterrupted, timeout=_GIVE_BACK_TIME)
        tasks = [*self._watches.values(), *self._forwarding, *self._uninterrupted]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def deal_with(
        self,
        client: _core.Client,
        job: _core.MarkedJob,
        look: Look,
        not_found: Counter[str],
        prefect: PrefectClient,
        *,
        dry_run: bool,
    ) -> Finding:
        """Decides about a job, and does it. Raises nothing: failures are in the finding, and the next pass tries again.

        Args:
            client: The client for the job's project and region.
            job: The job.
            look: What the pass has seen.
            not_found: In how many passes in a row Prefect did not find a flow run, by its id.
            prefect: Client of the Prefect API.
            dry_run: Whether only to decide.
        """
        care = _Care(self, client, job, look, not_found, prefect)
        flow_run = look.flow_runs.get(job.flow_run_id)
        decision = care.decide(flow_run)
        if decision.kind == "nothing" and job.keep and job.worker not in look.online and not dry_run:
            # Nothing else is left to do about an execution whose job stays.
            await care.tell(flow_run)
        if dry_run or decision.kind == "nothing":
            return Finding(job, flow_run, decision)
        try:
            return Finding(job, flow_run, decision, done=await care.act(decision, flow_run))
        except (Exception, PrefectSignal) as error:
            problem = error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
            self._warn(job, problem)
            return Finding(job, flow_run, decision, error=problem)


class _Care:
    """The care for one job."""

    def __init__(
        self,
        caretaker: Caretaker,
        client: _core.Client,
        job: _core.MarkedJob,
        look: Look,
        not_found: Counter[str],
        prefect: PrefectClient,
    ) -> None:
        self._caretaker = caretaker
        self._settings = caretaker._settings
        self._client = client
        self._job = job
        self._look = look
        self._not_found = not_found
        self._prefect = prefect

    def decide(self, flow_run: FlowRun | None) -> _core.Decision:
        """Decides about the job as it was read last. Does no I/O."""
        job, look = self._job, self._look
        others = look.other_live_jobs(job)
        circumstances = _core.Circumstances(
            now=time.time(),
            is_watched=self._client.is_running(job),
            creator_is_gone=job.worker in look.gone,
            other_live_job=bool(others),
            younger_live_job=any((other.created_at, other.uid) > (job.created_at, job.uid) for other in others),
            is_complete=look.is_complete,
            times_not_found=self._not_found[job.flow_run_id],
            tries_left=given_back(flow_run) < self._settings.give_back_max_tries,
            stop_deleted=self._settings.stop_runs_of_deleted_flow_runs,
            settle=_SETTLE,
        )
        return _core.decide(job, _facts(flow_run), circumstances)

    async def act(self, decision: _core.Decision, flow_run: FlowRun | None) -> str | None:
        """Does what was decided. Returns what was done; None if nothing was to be done after all."""
        if decision.kind == "watch":
            return self._watch(flow_run)
        if decision.kind != "delete":
            # These change what a flow run or an execution does, so both are read again. A deletion reads the job.
            again = await self._read_again()
            if again is None:
                return None
            flow_run = again[0]
        # What was done about other jobs meanwhile counts, too.
        if self.decide(flow_run).kind != decision.kind:
            return None
        if decision.kind == "delete":
            await self.tell(flow_run)
            return await self._delete(decision.reason, self._logger(flow_run))
        if decision.kind == "stop":
            return await self._stop(decision.reason, self._logger(flow_run))
        if flow_run is None:
            return None
        logger = logger_of(flow_run, self._caretaker.name)
        if decision.kind == "crash":
            return await self._crash(decision.reason, flow_run, logger)
        if decision.kind == "give_back":
            return await self._give_back(decision.reason, flow_run, logger)
        if decision.kind == "delete_then_crash":
            return await self._delete_then_crash(decision.reason, flow_run, logger)
        return None

    async def _read_again(self) -> tuple[FlowRun | None] | None:
        """Reads the job and its flow run. None if the job is gone."""
        job = await self._client.read_marked_job(self._job)
        if job is None:
            return None
        self._job = job
        return (await self._read_flow_run(),)

    async def _read_flow_run(self) -> FlowRun | None:
        try:
            return await self._prefect.read_flow_run(UUID(self._job.flow_run_id))
        except ObjectNotFound:
            return None

    def _logger(self, flow_run: FlowRun | None) -> Logger:
        return self._caretaker._logger if flow_run is None else logger_of(flow_run, self._caretaker.name)

    def _watch(self, flow_run: FlowRun | None) -> str | None:
        """Watches an execution to its end, in the background, if its own worker does not seem to."""
        job, caretaker = self._job, self._caretaker
        own_worker_is_there = job.worker in self._look.online and job.worker != caretaker.name
        if not caretaker._may_watch or own_worker_is_there or job.uid in caretaker._watches:
            return None
        task = asyncio.create_task(self._to_its_end())
        caretaker._watches[job.uid] = task
        task.add_done_callback(lambda _: caretaker._watches.pop(job.uid, None))
        whose = f"worker {job.worker!r}" if job.worker != caretaker.name else "another process of this name"
        self._logger(flow_run).info(
            f"Worker {caretaker.name!r} watches Cloud Run Job {job.name!r}, which {whose} started"
        )
        return "watched"

    async def _to_its_end(self) -> None:
        try:
            await self._client.watch_marked_job(self._job)
        except (Exception, PrefectSignal) as error:
            self._caretaker._logger.warning(
                f"Cloud Run Job {self._job.name!r} of worker {self._job.worker!r} is not watched any more: {error!r}. "
                "The next pass looks at it again"
            )
            return
        # A pass sees what is true by then. Its own worker may be there after all, and comes first.
        self._caretaker.on_end()
        await asyncio.sleep(_SETTLE + 5.0)
        self._caretaker.on_end()

    async def _delete(self, reason: str, logger: Logger) -> str | None:
        job = self._job
        deleted = "changed" if job.keep else await self._client.delete_marked_job(job)
        if deleted == "changed":
            return None
        self._look.removed.add(job.uid)
        if deleted == "gone":
            # Another observer, or the job's own worker, has deleted it and told so.
            return None
        logger.info(f"Cloud Run Job {job.name!r} of worker {job.worker!r} was deleted: {reason}")
        return "deleted"

    async def tell(self, flow_run: FlowRun | None, diagnosis: str | None = None) -> None:
        """Emits the events of the execution's end. Raises nothing."""
        if self._settings.replicate_events and flow_run is not None:
            await tell_end(self._client, self._job, flow_run, self._caretaker._related(), diagnosis)

    async def _stop(self, reason: str, logger: Logger) -> str | None:
        if not await self._client.stop_marked_job(self._job):
            return None
        logger.info(f"The execution of Cloud Run Job {self._job.name!r} was stopped: {reason}")
        return "stopped"

    async def _crash(self, reason: str, flow_run: FlowRun, logger: PrefectLogAdapter) -> str | None:
        job = self._job
        diagnosis = await self._client.diagnose(job.name, job.execution)
        crashed = await self._report(flow_run, diagnosis, logger)
        if crashed is None:
            return None
        # Cloud Logging keeps the log of a job that is deleted.
        if self._settings.forward_crashed_run_logs and job.execution is not None and never_ran(crashed):
            self._caretaker.forward(self._client, job, job.execution, logger)
        await self.tell(flow_run, diagnosis.category)
        await self._delete(reason, logger)
        return "crashed"

    async def _report(self, flow_run: FlowRun, diagnosis: _core.Diagnosis, logger: PrefectLogAdapter) -> FlowRun | None:
        """Proposes that the flow run is Crashed, if it is still in the state that the decision is about."""
        return await report_crash(
            self._prefect,
            flow_run.id,
            self._job.name,
            diagnosis,
            logger,
            line=line_of(diagnosis),
            state_id=flow_run.state.id if flow_run.state is not None else None,
        )

    async def _give_back(self, reason: str, flow_run: FlowRun, logger: PrefectLogAdapter) -> str | None:
        # A stop of the worker does not come between the deletion and the proposal.
        return await self._caretaker.uninterrupted(self._delete_and_give_back(reason, flow_run, logger))

    async def _delete_and_give_back(self, reason: str, flow_run: FlowRun, logger: PrefectLogAdapter) -> str | None:
        deleted = await self._client.delete_marked_job(self._job)
        if deleted == "changed":
            return None
        self._look.removed.add(self._job.uid)
        if deleted == "gone":
            # Whoever deleted it gives the flow run back. If that one can't, a later pass finds the flow run.
            return "deleted"
        # Late, it would meet the flow run when another worker has it already.
        return await asyncio.wait_for(self._propose_scheduled(reason, flow_run, logger), _GIVE_BACK_TIME)

    async def _propose_scheduled(self, reason: str, flow_run: FlowRun, logger: PrefectLogAdapter) -> str:
        now = await self._read_flow_run()
        if now is None or now.state is None or flow_run.state is None or now.state.id != flow_run.state.id:
            return "deleted"
        await count_give_back(self._prefect, flow_run)
        worker, job = self._job.worker, self._job.name
        is_scheduled = await give_back(
            self._prefect,
            flow_run.id,
            message=f"Worker {worker!r} was lost before it started the flow run's container. "
            "Another worker can take it.",
            why=f"Cloud Run Job {job!r} of worker {worker!r} was deleted: {reason}",
            logger=logger,
            state_id=now.state.id,
        )
        return "given back" if is_scheduled else "deleted"

    async def _delete_then_crash(self, reason: str, flow_run: FlowRun, logger: PrefectLogAdapter) -> str | None:
        return await self._caretaker.uninterrupted(self._delete_and_crash(reason, flow_run, logger))

    async def _delete_and_crash(self, reason: str, flow_run: FlowRun, logger: PrefectLogAdapter) -> str | None:
        if await self._client.delete_marked_job(self._job) == "changed":
            return None
        self._look.removed.add(self._job.uid)
        logger.info(f"Cloud Run Job {self._job.name!r} of worker {self._job.worker!r} was deleted: {reason}")
        words = sentence(f"{reason}, and the flow run was given back {given_back(flow_run)} times before")
        diagnosis = _core.Diagnosis("StartFailed", "error", "The job was not started.", words, "")
        crashed = await self._report(flow_run, diagnosis, logger)
        return "crashed" if crashed else "deleted"


def _facts(flow_run: FlowRun | None) -> _core.FlowRunFacts | None:
    if flow_run is None:
        return None
    state = flow_run.state
    return _core.FlowRunFacts(
        state_type=state.type.value if state is not None else "",
        state_timestamp=state.timestamp.timestamp() if state is not None else 0.0,
        infrastructure_pid=flow_run.infrastructure_pid,
    )
